/* PEFT adapter folders: written and read back, one written by peft itself, and every way in which
 * one is not what this library computes. */
#include "checkpoint/peft.h"

#include <math.h>
#include <sys/stat.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "model/model.h"
#include "tests/support/support.h"

static void make_model(struct lcl_model *m, int64_t rank, double alpha, const char *targets,
                       bool standardize)
{
    struct lcl_config config;
    struct lcl_model_config c;
    lcl_config_defaults(&config);
    config.vision_image_size = 16;
    config.vision_patch_size = 8;
    config.vision_hidden_size = 16;
    config.vision_intermediate_size = 32;
    config.vision_num_hidden_layers = config.text_num_hidden_layers = 2;
    config.vision_num_attention_heads = config.text_num_attention_heads = 2;
    config.text_hidden_size = 24;
    config.text_intermediate_size = 32;
    config.mm_standardize = standardize;
    lcl_model_config_from(&config, 40, &c);
    c.lora = (struct lcl_lora_config){.rank = rank, .alpha = alpha};
    snprintf(c.lora.targets, sizeof c.lora.targets, "%s", targets);
    test_exec();
    ASSERT_OK(lcl_model_create(m, &c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    lcl_params_initialise(&m->params, 3);
    for (int i = m->n_base; i < m->params.n_rows; i++)
        fill_normal(lcl_param_value(&m->params, &m->params.rows[i]), m->params.rows[i].count, 1,
                    (uint64_t)i);
}

static const char *folder(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
}

static void round_trip(void **state)
{
    (void)state;
    static const char *const targets[] = {"language_model.*.q_proj,language_model.*.v_proj", "*",
                                          "linear_2,fc1"};
    for (int i = 0; i < 3; i++) {
        struct lcl_model m, other;
        struct lcl_lora_config read;
        const char *dir = folder("round");
        make_model(&m, 3, i == 1 ? 4.5 : 8, targets[i], false);
        ASSERT_OK(lcl_peft_save(dir, &m.params, &m.config,
                                &(struct lcl_peft_save_options){.dtype = LCL_F32, .base = "b"}));
        assert_true(lcl_peft_is_folder(dir));
        ASSERT_OK(lcl_peft_load_config(dir, &read));
        assert_int_equal(read.rank, 3);
        assert_true(read.alpha == m.config.lora.alpha);
        make_model(&other, 3, read.alpha, read.targets, false);
        assert_int_equal(other.params.n_rows, m.params.n_rows);
        lcl_params_initialise(&other.params, 4);
        ASSERT_OK(lcl_peft_load(dir, &other.params));
        for (int k = m.n_base; k < m.params.n_rows; k++) {
            const struct lcl_param *p = &m.params.rows[k];
            struct lcl_param *q = lcl_params_find(&other.params, p->name);
            assert_non_null(q);
            assert_memory_equal(lcl_param_value(&m.params, p), lcl_param_value(&other.params, q),
                                p->count * sizeof(float));
        }
        lcl_model_free(&m);
        lcl_model_free(&other);
    }
}

/* Only the second layer, then only the first, which the config must say is picked. */
static void some_layers_alone(void **state)
{
    (void)state;
    static const char picked[] =
        "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"layers_to_transform\": [0]}";
    for (int layer = 1; layer >= 0; layer--) {
        struct lcl_model m, other;
        struct lcl_lora_config read;
        char targets[64], wanted[128];
        const char *dir = folder(layer ? "second" : "first");
        snprintf(targets, sizeof targets, "language_model.*.[%d-%d].*.q_proj,linear_1", layer,
                 layer);
        snprintf(wanted, sizeof wanted,
                 "language_model.*.[%d-%d].*.q_proj,multi_modal_projector.linear_1", layer, layer);
        make_model(&m, 3, 6, targets, false);
        assert_int_equal(m.params.n_rows - m.n_base, 4);
        ASSERT_OK(lcl_peft_save(dir, &m.params, &m.config,
                                &(struct lcl_peft_save_options){.dtype = LCL_F32}));
        if (layer == 0) write_file(dir, "adapter_config.json", picked);
        ASSERT_OK(lcl_peft_load_config(dir, &read));
        assert_string_equal(read.targets, wanted);
        make_model(&other, 3, 6, read.targets, false);
        assert_int_equal(other.params.n_rows, m.params.n_rows);
        lcl_params_initialise(&other.params, 4);
        ASSERT_OK(lcl_peft_load(dir, &other.params));
        for (int k = m.n_base; k < m.params.n_rows; k++) {
            const struct lcl_param *p = &m.params.rows[k];
            assert_memory_equal(
                lcl_param_value(&m.params, p),
                lcl_param_value(&other.params, lcl_params_find(&other.params, p->name)),
                p->count * sizeof(float));
        }
        lcl_model_free(&m);
        lcl_model_free(&other);
    }
}

/* Written by peft for the reference model: what it trained begins with. */
static void one_of_peft(void **state)
{
    (void)state;
    struct lcl_lora_config lora;
    struct lcl_model_config config;
    struct lcl_model m;
    struct lcl_safetensors st;
    const char *dir = shared_path("golden/llava-tiny/lora-init");
    ASSERT_OK(lcl_peft_load_config(dir, &lora));
    assert_int_equal(lora.rank, 4);
    assert_true(lora.alpha == 8);
    assert_string_equal(lora.targets, "language_model.*.q_proj,language_model.*.v_proj");
    ASSERT_OK(lcl_hf_load_config(shared_path("golden/llava-tiny"), &config));
    config.lora = lora;
    ASSERT_OK(lcl_model_create(&m, &config));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    ASSERT_OK(lcl_peft_load(shared_path("golden/llava-tiny/lora-init"), &m.params));
    ASSERT_OK(lcl_st_open(shared_path("golden/llava-tiny/case.safetensors"), &st));
    for (int i = m.n_base; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        char name[256];
        float want[256];
        snprintf(name, sizeof name, "lora.init.%.*s", (int)(strlen(p->name) - strlen(".weight")),
                 p->name);
        const struct lcl_st_tensor *t = lcl_st_find(&st, name);
        assert_non_null(t);
        assert_int_equal(t->count, 256);
        ASSERT_OK(lcl_st_read(t, 0, 256, LCL_F32, want));
        assert_memory_equal(want, lcl_param_value(&m.params, p), sizeof want);
    }
    lcl_st_close(&st);
    lcl_model_free(&m);
}

/* Of the scale alpha / sqrt(r). */
static void rank_stabilised(void **state)
{
    (void)state;
    struct lcl_model m;
    struct lcl_lora_config read;
    const char *dir = folder("rs");
    make_model(&m, 4, 6, "q_proj", false);
    ASSERT_OK(lcl_peft_save(dir, &m.params, &m.config, &(struct lcl_peft_save_options){0}));
    write_file(dir, "adapter_config.json",
               "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6, \"use_rslora\": true}");
    ASSERT_OK(lcl_peft_load_config(dir, &read));
    assert_true(read.alpha == 12);
    lcl_model_free(&m);
}

static void what_is_not_plain_lora_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"[1]", "is no JSON object"},
        {"{\"r\": 4", "adapter_config.json:1: "},
        {"{\"r\": 4, \"lora_alpha\": 8}", "peft_type is missing"},
        {"{\"peft_type\": \"IA3\", \"r\": 4, \"lora_alpha\": 8}", "peft_type is \"IA3\""},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 8}", "r is not"},
        {"{\"peft_type\": \"LORA\", \"r\": 4.5, \"lora_alpha\": 8}", "r is not"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 0}", "lora_alpha is not"},
        {"{\"peft_type\": \"LORA\", \"r\": 4}", "lora_alpha is not"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"bias\": \"all\"}", "bias is"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"use_dora\": true}", "use_dora"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"rank_pattern\": {\"q\": 2}}",
         "rank_pattern is"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"modules_to_save\": [\"x\"]}",
         "modules_to_save is"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"init_lora_weights\": "
         "\"pissa_niter_4\"}",
         "init_lora_weights is"},
    };
    struct lcl_lora_config read;
    char dir[400];
    snprintf(dir, sizeof dir, "%s", folder("refused"));
    ASSERT_OK(lcl_fs_mkdirs(dir));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(dir, "adapter_config.json", bad[i][0]);
        lcl_status status = lcl_peft_load_config(dir, &read);
        if (status == LCL_OK || !strstr(lcl_error_message(), bad[i][1]))
            fail_msg("%s: \"%s\", wanted \"%s\"", bad[i][0],
                     status == LCL_OK ? "" : lcl_error_message(), bad[i][1]);
    }
}

static void tensors_that_do_not_fit_are_listed(void **state)
{
    (void)state;
    struct lcl_model m, other;
    char dir[400];
    snprintf(dir, sizeof dir, "%s", folder("misfit"));
    make_model(&m, 3, 6, "language_model.*.q_proj", false);
    ASSERT_OK(lcl_peft_save(dir, &m.params, &m.config, &(struct lcl_peft_save_options){0}));
    make_model(&other, 3, 6, "language_model.*.k_proj", false);
    float *values = other.params.value, first = values[other.params.rows[other.n_base].offset];
    ASSERT_FAILS(lcl_peft_load(dir, &other.params), LCL_SHAPE,
                 "missing: language_model.model.layers.0.self_attn.k_proj.lora_A.weight");
    ASSERT_FAILS(lcl_peft_load(dir, &other.params), LCL_SHAPE,
                 "left over: base_model.model.model.language_model.layers.1.self_attn.q_proj");
    assert_true(values[other.params.rows[other.n_base].offset] == first);
    lcl_model_free(&other);
    make_model(&other, 2, 6, "language_model.*.q_proj", false);
    ASSERT_FAILS(lcl_peft_load(dir, &other.params), LCL_SHAPE, "misshapen");
    lcl_model_free(&other);
    lcl_model_free(&m);
    make_model(&m, 0, 6, "", false);
    ASSERT_FAILS(
        lcl_peft_save(dir, &m.params, &m.config, &(struct lcl_peft_save_options){.dtype = LCL_F32}),
        LCL_UNSUPPORTED, "no adapters");
    lcl_model_free(&m);
    make_model(&m, 2, 6, "linear_1", true);
    ASSERT_FAILS(
        lcl_peft_save(dir, &m.params, &m.config, &(struct lcl_peft_save_options){.dtype = LCL_F32}),
        LCL_UNSUPPORTED, "standardised");
    lcl_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(some_layers_alone),
        cmocka_unit_test(one_of_peft),
        cmocka_unit_test(rank_stabilised),
        cmocka_unit_test(what_is_not_plain_lora_is_refused),
        cmocka_unit_test(tensors_that_do_not_fit_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
