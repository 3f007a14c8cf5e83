/* What HDF5 holds: packs, and checkpoints with their manifest. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "checkpoint/ckpt_manifest.h"
#include "core/fs.h"
#include "data/pack.h"
#include "model/model.h"
#include "tests/support/tiny.h"

static lcl_status read_pack(const char *path, const struct fuzz_file *f)
{
    struct lcl_pack pack;
    struct lcl_image image;
    struct lcl_decode_options o = {0};
    const char *name;
    (void)f;
    LCL_TRY(lcl_pack_open(path, &pack));
    lcl_status status = lcl_pack_verify(&pack);
    if (status == LCL_OK) status = lcl_pack_image_name(&pack, 0, &name);
    if (status == LCL_OK) status = lcl_pack_read_image(&pack, 0, &o, &image);
    if (status == LCL_OK) lcl_image_free(&image);
    lcl_pack_close(&pack);
    return status;
}

static size_t pack_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_whole(tiny_pack());
    return 1;
}

/* The model that the checkpoint is of; made once. */
static struct lcl_model model;

/* A checkpoint's folder: build/fuzz/NAME, with both files. */
static void write_checkpoint(void)
{
    struct lcl_config c;
    struct lcl_model_config config;
    char dir[160];
    test_exec();
    tiny_config(&c, "");
    lcl_model_config_from(&c, 300, &config);
    ASSERT_OK(lcl_model_create(&model, &config));
    ASSERT_OK(lcl_model_reserve(&model, false, false, false));
    snprintf(dir, sizeof dir, "%s/run", fuzz_dir());
    ASSERT_OK(lcl_fs_remove_tree(dir));
    const int32_t neighbors[] = {1, 2, 0, 2, 0, 1};
    ASSERT_OK(lcl_checkpoint_save(dir,
                                  &(struct lcl_run_state){.step = 1,
                                                          .best_metric = NAN,
                                                          .config_yaml = "seed: 1\n",
                                                          .neighbors = neighbors,
                                                          .neighbor_classes = 3,
                                                          .neighbor_width = 2},
                                  &model.params, &model.config,
                                  &(struct lcl_checkpoint_options){.keep = 1}));
}

static size_t manifest_seeds(struct fuzz_file *seeds)
{
    write_checkpoint();
    lcl_model_free(&model);
    seeds[0] = fuzz_whole(fuzz_path("run/checkpoint-1/manifest.json"));
    return 1;
}

/* As it is, and sealed by a checksum of its own, which leads further in. */
static lcl_status read_manifest(const char *path, const struct fuzz_file *f)
{
    static const char form[] = ",\n \"crc32c\": \"%08x\"\n}\n";
    char found[LCL_CHECKPOINT_PATH_BYTES], tail[40];
    lcl_status as_is = lcl_checkpoint_find(fuzz_path("run"), found, sizeof found);
    size_t n = (size_t)snprintf(tail, sizeof tail, form, 0u);
    if (f->size < n) return as_is;
    struct fuzz_file sealed = {malloc(f->size), f->size};
    assert_non_null(sealed.bytes);
    memcpy(sealed.bytes, f->bytes, f->size);
    snprintf(tail, sizeof tail, form, lcl_crc32c(0, f->bytes, f->size - n));
    memcpy(sealed.bytes + f->size - n, tail, n);
    fuzz_write(path, &sealed);
    free(sealed.bytes);
    if (lcl_checkpoint_find(fuzz_path("run/checkpoint-1"), found, sizeof found) != LCL_OK &&
        lcl_error_message()[0] == '\0')
        fail_msg("an error without a message");
    return as_is;
}

static size_t state_seeds(struct fuzz_file *seeds)
{
    write_checkpoint();
    seeds[0] = fuzz_whole(fuzz_path("run/checkpoint-1/state.h5"));
    return 1;
}

/* Past the manifest, whose checksum of the whole file would hide all. */
static lcl_status read_state(const char *path, const struct fuzz_file *f)
{
    struct lcl_model_config m;
    struct lcl_run_state_loaded s;
    struct lcl_checkpoint_row *rows = NULL;
    int n;
    char dir[200];
    (void)f;
    snprintf(dir, sizeof dir, "%.*s", (int)(lcl_fs_basename(path) - path), path);
    LCL_TRY(lcl_checkpoint_load_config(dir, &m));
    LCL_TRY(lcl_checkpoint_list(dir, &rows, &n));
    free(rows);
    LCL_TRY(lcl_checkpoint_load(dir, &model.params, false, &s));
    lcl_run_state_free(&s);
    return LCL_OK;
}

static const char *const manifest_words[] = {
    "\"magic\"", "lcl-checkpoint",      "\"version\"",  "\"files\"",  "state.h5",
    "\"bytes\"", "\"crc32c\"",          "\"datasets\"", "\"offset\"", "\"serial\"",
    "-1",        "9223372036854775807", "null",         "{}",         NULL};
static const char *const h5_words[] = {"\211HDF\r\n\032\n",
                                       "OHDR",
                                       "OCHK",
                                       "FRHP",
                                       "FHDB",
                                       "BTHD",
                                       "SNOD",
                                       "TREE",
                                       "HEAP",
                                       "GCOL",
                                       "FSHD",
                                       "EADB",
                                       "\xff\xff\xff\xff",
                                       NULL};

const struct fuzz_target fuzz_pack = {
    .name = "pack", .file = "pack.h5", .seeds = pack_seeds, .read = read_pack, .words = h5_words};
const struct fuzz_target fuzz_manifest = {.name = "manifest",
                                          .file = "run/checkpoint-1/manifest.json",
                                          .seeds = manifest_seeds,
                                          .read = read_manifest,
                                          .words = manifest_words};
const struct fuzz_target fuzz_state = {.name = "state",
                                       .file = "run/checkpoint-1/state.h5",
                                       .seeds = state_seeds,
                                       .read = read_state,
                                       .words = h5_words};
