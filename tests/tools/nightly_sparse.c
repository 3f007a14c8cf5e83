/* A folder of LLaVA-7B's shapes whose weights are one hole in a file: `lcl inspect` and the loader
 * need the file's own size and little more. */
#include "tests/support/support.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "model/model.h"

static const size_t GIB = (size_t)1 << 30;

/* LLaVA-1.5-7B's, with as many of its 32 layers as the memory of this machine holds twice over. */
static struct lcl_model_config shapes(int64_t layers)
{
    return (struct lcl_model_config){.vision = {336, 14, 1024, 4096, 24, 16, LCL_GELU_QUICK, 1e-5},
                                     .text = {.C = 4096,
                                              .F = 11008,
                                              .n_layers = layers,
                                              .H = 32,
                                              .G = 32,
                                              .D = 128,
                                              .V = 32064,
                                              .eps = 1e-5,
                                              .rope_theta = 10000,
                                              .max_positions = 4096},
                                     .projector = LCL_PROJECTOR_MLP2,
                                     .projector_bias = true,
                                     .select_layer = -2,
                                     .image_token = 32000,
                                     .bos_token = 1,
                                     .eos_token = 2,
                                     .pad_token = 32001};
}

static size_t line_of(const char *file, const char *form)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen(file, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, form, &kib) == 1) break;
    if (f) fclose(f);
    return kib * 1024;
}

/* The table alone; bf16 values without masters. */
static void make_table(struct lcl_model *m, int64_t layers)
{
    struct lcl_model_config config = shapes(layers);
    ASSERT_OK(lcl_model_create(m, &config));
    m->bf16 = m->params.bf16 = m->params.no_master = true;
    lcl_params_place(&m->params);
}

/* config.json, and model.safetensors of f16 zeros that take no room; gives the file's size. */
static size_t write_folder(const char *dir, const struct lcl_model *m)
{
    char path[400], *config, *header = NULL;
    size_t header_size = 0, at = 0;
    ASSERT_OK(lcl_hf_config_write(&m->config, LCL_F16, &config));
    snprintf(path, sizeof path, "%s/config.json", dir);
    ASSERT_OK(lcl_fs_write_atomic(path, config, strlen(config)));
    free(config);
    FILE *f = open_memstream(&header, &header_size);
    assert_non_null(f);
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *p = &m->params.rows[i];
        char shape[100];
        fprintf(f, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                i ? "," : "{", p->name, lcl_st_shape_text(p->n_dims, p->shape, shape, sizeof shape),
                at, at + 2 * p->count);
        at += 2 * p->count;
    }
    fputc('}', f);
    fclose(f);
    uint64_t length = header_size;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&length, 8, 1, f), 1);
    assert_int_equal(fwrite(header, 1, header_size, f), header_size);
    assert_int_equal(fclose(f), 0);
    free(header);
    assert_int_equal(truncate(path, (off_t)(8 + length + at)), 0);
    return 8 + length + at;
}

/* Layers for which the values fit into memory with 5 GiB to spare. */
static int64_t layers_here(void)
{
    size_t memory = line_of("/proc/meminfo", "MemAvailable: %zu kB");
    for (int64_t layers = 32; layers > 1; layers--) {
        struct lcl_model m;
        make_table(&m, layers);
        size_t bytes = 2 * m.params.n_elements;
        lcl_model_free(&m);
        if (bytes + 5 * GIB < memory) return layers;
    }
    return 1;
}

static void inspecting_needs_little(void **state)
{
    (void)state;
    const char *bin = getenv("LCL_BIN"), *dir = temp_dir();
    struct lcl_model m;
    struct rusage used;
    int status;
    make_table(&m, 32);
    size_t size = write_folder(dir, &m);
    lcl_model_free(&m);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(9);
        execl(bin ? bin : "build/lcl", "lcl", "inspect", dir, (char *)NULL);
        _exit(9);
    }
    assert_int_equal(wait4(child, &status, 0, &used), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    print_message("lcl inspect of %.1f GiB: %ld MiB at most\n", (double)size / (double)GIB,
                  used.ru_maxrss / 1024);
    assert_true((size_t)used.ru_maxrss * 1024 < GIB);
}

static void loading_needs_its_own_size_and_a_gibibyte(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct lcl_model m;
    int64_t layers = layers_here();
    make_table(&m, layers);
    size_t size = write_folder(dir, &m);
    ASSERT_OK(lcl_model_reserve(&m, true, false, false));
    ASSERT_OK(lcl_hf_load(dir, &m.params, LCL_ALL_PARTS, NULL));
    size_t peak = line_of("/proc/self/status", "VmHWM: %zu kB");
    print_message("loading %.1f GiB (%d of 32 layers): %.1f GiB at most\n",
                  (double)size / (double)GIB, (int)layers, (double)peak / (double)GIB);
    assert_true(peak < size + GIB);
    lcl_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(inspecting_needs_little),
                                       cmocka_unit_test(loading_needs_its_own_size_and_a_gibibyte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
