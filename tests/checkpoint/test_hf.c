/* HF LLaVA folders: every naming loads to the same parameters, what is saved loads again, and what
 * cannot be computed is refused by name. */
#include "tests/support/hf_folder.h"

#include <math.h>

static void assert_same_values(const struct lcl_model *a, const struct lcl_model *b)
{
    assert_int_equal(a->params.n_rows, b->params.n_rows);
    for (int i = 0; i < a->params.n_rows; i++) {
        const struct lcl_param *p = &a->params.rows[i];
        assert_string_equal(p->name, b->params.rows[i].name);
        if (memcmp(a->params.value + p->offset, b->params.value + p->offset, 4 * p->count) != 0)
            fail_msg("%s differs", p->name);
    }
}

static void assert_same_config(const struct lcl_model_config *a, const struct lcl_model_config *b)
{
    char *x, *y;
    ASSERT_OK(lcl_model_config_to_json(a, &x));
    ASSERT_OK(lcl_model_config_to_json(b, &y));
    assert_string_equal(x, y);
    free(x);
    free(y);
}

static void golden_folder_loads(void **state)
{
    (void)state;
    char dir[1000];
    snprintf(dir, sizeof dir, "%s", shared_path("golden/llava-tiny/config.json"));
    dir[strlen(dir) - strlen("/config.json")] = '\0';
    struct lcl_model_config c;
    ASSERT_OK(lcl_hf_load_config(dir, &c));
    const struct lcl_model_config wanted = {.vision = {32, 8, 48, 96, 3, 4, LCL_GELU_QUICK, 1e-5},
                                            .text = {.C = 64,
                                                     .F = 176,
                                                     .n_layers = 3,
                                                     .H = 4,
                                                     .G = 4,
                                                     .D = 16,
                                                     .V = 512,
                                                     .eps = 1e-5,
                                                     .rope_theta = 10000,
                                                     .rope_factor = 1,
                                                     .rope_low_freq_factor = 1,
                                                     .rope_high_freq_factor = 1,
                                                     .max_positions = 512},
                                            .projector = LCL_PROJECTOR_MLP2,
                                            .projector_bias = true,
                                            .select_layer = -2,
                                            .image_token = 508,
                                            .bos_token = 1,
                                            .eos_token = 2,
                                            .pad_token = 509};
    assert_same_config(&c, &wanted);
    struct lcl_model m;
    struct lcl_hf_names names;
    make_model(&m, &c, 1);
    ASSERT_OK(lcl_hf_load(dir, &m.params, LCL_ALL_PARTS, &names));
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(dir, &st));
    assert_int_equal(st.n_tensors, m.params.n_rows);
    for (int i = 0; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        const struct lcl_st_tensor *t = lcl_st_find(&st, names.name[i]);
        assert_non_null(t);
        assert_int_equal(t->bytes, 4 * p->count);
        assert_memory_equal(m.params.value + p->offset, t->data, t->bytes);
    }
    lcl_st_close(&st);
    lcl_hf_names_free(&names);
    lcl_model_free(&m);
}

static void saved_folder_loads_again(void **state)
{
    (void)state;
    static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16, LCL_F16};
    const struct lcl_model_config c = small_config();
    struct lcl_model a, b;
    struct lcl_model_config back;
    make_model(&a, &c, 2);
    for (int k = 0; k < 3; k++) {
        const char *dir = fresh_dir("saved");
        const struct lcl_hf_save_options o = {.dtype = dtypes[k], .max_shard_bytes = k ? 3000 : 0};
        ASSERT_OK(lcl_hf_save(dir, &a.params, &c, &o));
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_same_config(&c, &back);
        make_model(&b, &back, 3);
        ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
        for (int i = 0; i < a.params.n_rows; i++) {
            const struct lcl_param *p = &a.params.rows[i];
            for (size_t j = p->offset; j < p->offset + p->count; j++) {
                float x = a.params.value[j];
                if (k == 1) x = lcl_bf16_to_f32(lcl_f32_to_bf16(x));
                if (k == 2) x = lcl_f16_to_f32(lcl_f32_to_f16(x));
                assert_true(x == b.params.value[j]);
            }
        }
        lcl_model_free(&b);
    }
    lcl_model_free(&a);
}

static const char small_old_config[] =
    "{\"model_type\":\"llava\",\"image_token_index\":38,\"pad_token_id\":39,"
    "\"projector_hidden_act\":\"gelu\",\"torch_dtype\":\"float32\","
    "\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":16,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"vocab_size\":40,\"rope_theta\":500000.0,\"rope_scaling\":null,"
    "\"max_position_embeddings\":128},"
    "\"vision_config\":{\"model_type\":\"clip_vision_model\",\"image_size\":16,\"patch_size\":8,"
    "\"hidden_size\":12,\"intermediate_size\":20,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":3}}";

static const char small_v1_config[] =
    "{\"model_type\":\"llava_llama\",\"hidden_size\":16,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"vocab_size\":40,\"rope_theta\":500000.0,\"max_position_embeddings\":128,"
    "\"pad_token_id\":39,\"image_token_index\":38,\"mm_vision_tower\":\"tower\","
    "\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,"
    "\"mm_vision_select_feature\":\"patch\"}";

static void every_naming_is_the_same_model(void **state)
{
    (void)state;
    static const char *const hub[][2] = {{"vision_tower.", "vision_tower.vision_model."}, {0}};
    static const char *const memory[][2] = {
        {"language_model.lm_head.", "lm_head."},
        {"language_model.model.", "model.language_model."},
        {"vision_tower.", "model.vision_tower."},
        {"multi_modal_projector.", "model.multi_modal_projector."},
        {0}};
    static const char *const v1[][2] = {
        {"language_model.lm_head.", "lm_head."},
        {"language_model.model.", "model."},
        {"vision_tower.", "model.vision_tower.vision_tower.vision_model."},
        {"multi_modal_projector.linear_1.", "model.mm_projector.0."},
        {"multi_modal_projector.linear_2.", "model.mm_projector.2."},
        {0}};
    const struct {
        const char *name, *config, *row0;
        const char *const (*rules)[2];
    } cases[] = {
        {"hub", small_old_config, "vision_tower.vision_model.embeddings.class_embedding", hub},
        {"memory", small_old_config, "model.vision_tower.embeddings.class_embedding", memory},
        {"v1", small_v1_config,
         "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding", v1},
        {"v1 names", small_old_config,
         "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding", v1}};
    const struct lcl_model_config c = small_config();
    struct lcl_model a, b;
    struct lcl_model_config back;
    struct lcl_hf_names names;
    char plain[300];
    snprintf(plain, sizeof plain, "%s", fresh_dir("plain"));
    make_model(&a, &c, 4);
    ASSERT_OK(lcl_hf_save(plain, &a.params, &c, NULL));
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const char *dir = fresh_dir(cases[k].name);
        char tower[400];
        snprintf(tower, sizeof tower, "%s/tower", dir);
        ASSERT_OK(lcl_fs_mkdirs(tower));
        ASSERT_OK(lcl_fs_write_text(
            tower, "config.json",
            "{\"vision_config\":{\"image_size\":16,\"patch_size\":8,\"hidden_size\":12,"
            "\"intermediate_size\":20,\"num_hidden_layers\":2,\"num_attention_heads\":3}}"));
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", cases[k].config));
        rename_tensors(plain, dir, cases[k].rules);
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_same_config(&c, &back);
        make_model(&b, &back, 5);
        ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, &names));
        assert_same_values(&a, &b);
        assert_string_equal(names.name[0], cases[k].row0);
        lcl_hf_names_free(&names);
        lcl_model_free(&b);
    }
    lcl_model_free(&a);
}

/* The config.json of hub LLaVA-1.5, which leaves most of LLaMA's keys out. */
static void hub_defaults_are_filled(void **state)
{
    (void)state;
    const char *dir = fresh_dir("defaults");
    struct lcl_model_config c;
    ASSERT_OK(lcl_fs_write_text(
        dir, "config.json",
        "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"ignore_index\":-100,"
        "\"image_token_index\":32000,\"model_type\":\"llava\",\"pad_token_id\":32001,"
        "\"projector_hidden_act\":\"gelu\",\"text_config\":{\"_name_or_path\":\"lmsys/x\","
        "\"architectures\":[\"LlamaForCausalLM\"],\"max_position_embeddings\":4096,"
        "\"model_type\":\"llama\",\"rms_norm_eps\":1e-05,\"torch_dtype\":\"float16\","
        "\"vocab_size\":32064},\"torch_dtype\":\"float16\",\"vision_config\":{"
        "\"hidden_size\":1024,\"image_size\":336,\"intermediate_size\":4096,"
        "\"model_type\":\"clip_vision_model\",\"num_attention_heads\":16,"
        "\"num_hidden_layers\":24,\"patch_size\":14,\"projection_dim\":768,\"vocab_size\":32000},"
        "\"vision_feature_layer\":-2,\"vision_feature_select_strategy\":\"default\","
        "\"vocab_size\":32064}"));
    ASSERT_OK(lcl_hf_config_read(dir, NULL, &c));
    const struct lcl_model_config wanted = {
        .vision = {336, 14, 1024, 4096, 24, 16, LCL_GELU_QUICK, 1e-5},
        .text = {.C = 4096,
                 .F = 11008,
                 .n_layers = 32,
                 .H = 32,
                 .G = 32,
                 .D = 128,
                 .V = 32064,
                 .eps = 1e-5,
                 .rope_theta = 10000,
                 .rope_factor = 1,
                 .rope_low_freq_factor = 1,
                 .rope_high_freq_factor = 1,
                 .max_positions = 4096},
        .projector = LCL_PROJECTOR_MLP2,
        .projector_bias = true,
        .select_layer = -2,
        .image_token = 32000,
        .bos_token = 1,
        .eos_token = 2,
        .pad_token = 32001};
    assert_same_config(&c, &wanted);
    ASSERT_OK(lcl_fs_write_text(dir, "config.json", "{\"model_type\":\"llava\"}"));
    ASSERT_OK(lcl_hf_config_read(dir, NULL, &c));
    assert_true(c.vision.image_size == 336 && c.text.eps == 1e-6 && c.text.V == 32000);
    ASSERT_OK(
        lcl_fs_write_text(dir, "config.json", "{\"model_type\":\"llava\",\"vision_config\":{}}"));
    ASSERT_OK(lcl_hf_config_read(dir, NULL, &c));
    assert_true(c.vision.image_size == 224 && c.vision.patch_size == 32 && c.vision.C == 768);
}

static void rope_keys_old_and_new(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "{\"text_config\":{\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\","
        "\"factor\":8,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192}}}",
        "{\"text_config\":{\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"llama3\","
        "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192}}}",
        "{\"text_config\":{\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\","
        "\"factor\":2.5}}}"};
    const char *dir = fresh_dir("rope");
    struct lcl_model_config c, back;
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", configs[i]));
        ASSERT_OK(lcl_hf_config_read(dir, NULL, &c));
        assert_true(c.text.rope_theta == 5e5);
        assert_int_equal(c.text.rope_scaling, i < 2 ? LCL_ROPE_LLAMA3 : LCL_ROPE_LINEAR);
        assert_true(c.text.rope_factor == (i < 2 ? 8 : 2.5));
        assert_int_equal(c.text.rope_original_positions, i < 2 ? 8192 : 0);
        char *text;
        ASSERT_OK(lcl_hf_config_write(&c, LCL_F32, &text));
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", text));
        free(text);
        ASSERT_OK(lcl_hf_config_read(dir, NULL, &back));
        assert_same_config(&c, &back);
    }
}

static void what_cannot_be_computed_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        lcl_status code;
        const char *text;
    } cases[] = {
        {"{\"model_type\":\"llava_next\"}", LCL_UNSUPPORTED, "llava_next"},
        {"{\"vision_config\":{\"model_type\":\"siglip_vision_model\"}}", LCL_UNSUPPORTED, "siglip"},
        {"{\"text_config\":{\"model_type\":\"mistral\"}}", LCL_UNSUPPORTED, "mistral"},
        {"{\"text_config\":{\"attention_bias\":true}}", LCL_UNSUPPORTED, "attention_bias"},
        {"{\"text_config\":{\"hidden_act\":\"gelu\"}}", LCL_UNSUPPORTED, "silu"},
        {"{\"vision_config\":{\"hidden_act\":\"relu\"}}", LCL_UNSUPPORTED, "relu"},
        {"{\"text_config\":{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}}}",
         LCL_UNSUPPORTED, "yarn"},
        {"{\"text_config\":{\"rope_scaling\":{\"type\":\"linear\"}}}", LCL_FORMAT, "factor"},
        {"{\"vision_feature_layer\":[-2,-5]}", LCL_UNSUPPORTED, "several layers"},
        {"{\"vision_feature_select_strategy\":\"cls\"}", LCL_UNSUPPORTED, "default and full"},
        {"{\"vision_config\":{\"num_hidden_layers\":-3}}", LCL_FORMAT, "num_hidden_layers is -3"},
        {"{\"text_config\":{\"hidden_size\":\"big\"}}", LCL_FORMAT, "hidden_size is \"big\""},
        {"{\"text_config\":{\"num_attention_heads\":99999999999}}", LCL_FORMAT, "99999999999"},
        {"{\"text_config\":7}", LCL_FORMAT, "text_config is 7"},
        {"{\"hidden_size\":64,\"mm_vision_tower\":\"google/x\"}", LCL_UNSUPPORTED, "google/x"},
        {"{\"model_type\":\"clip\"}", LCL_FORMAT, "vision_config"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"relu\"}}", LCL_UNSUPPORTED,
         "relu"},
        {"{\"model_type\":\"clip_vision_model\",\"patch_size\":0}", LCL_FORMAT, "patch_size is 0"},
        {"{\"vision_feature_layer\":-99}", LCL_CONFIG, "config.json"},
        {"[1]", LCL_FORMAT, "no JSON object"},
        {"{", LCL_FORMAT, "config.json:1"}};
    const char *dir = fresh_dir("refused");
    struct lcl_model_config c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", cases[i].config));
        ASSERT_FAILS(lcl_hf_config_read(dir, NULL, &c), cases[i].code, cases[i].text);
    }
    struct lcl_model_config pooled = small_config();
    pooled.pool = LCL_POOL_MEAN;
    struct lcl_model m;
    make_model(&m, &pooled, 6);
    ASSERT_FAILS(lcl_hf_save(dir, &m.params, &pooled, NULL), LCL_UNSUPPORTED,
                 "mm_image_pool: mean has no HF form");
    lcl_model_free(&m);
}

static void wrong_tensors_are_listed(void **state)
{
    (void)state;
    static const char *const rules[][2] = {
        {"language_model.model.norm.", "language_model.model.nrom."}, {0}};
    struct lcl_model_config c = small_config();
    struct lcl_model a, b;
    char plain[300];
    snprintf(plain, sizeof plain, "%s", fresh_dir("plain2"));
    make_model(&a, &c, 7);
    ASSERT_OK(lcl_hf_save(plain, &a.params, &c, NULL));
    const char *dir = fresh_dir("wrong");
    ASSERT_OK(lcl_fs_write_text(dir, "config.json", small_old_config));
    rename_tensors(plain, dir, rules);
    c.text.V = 41;
    make_model(&b, &c, 8);
    float before = b.params.value[0];
    ASSERT_FAILS(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL), LCL_SHAPE,
                 "missing: language_model.model.norm.weight");
    assert_non_null(strstr(lcl_error_message(), "left over: language_model.model.nrom.weight"));
    assert_non_null(
        strstr(lcl_error_message(), "language_model.lm_head.weight is [40, 16], wanted [41, 16]"));
    assert_non_null(strstr(lcl_error_message(), "; 4 tensors"));
    assert_true(b.params.value[0] == before);
    /* The vision tower alone is whole. */
    ASSERT_OK(lcl_hf_load(dir, &b.params, 1u << LCL_PART_VISION, NULL));
    assert_true(b.params.value[0] == a.params.value[0]);
    const struct lcl_param *embed =
        lcl_params_find(&b.params, "language_model.model.embed_tokens.weight");
    assert_true(b.params.value[embed->offset] != a.params.value[embed->offset]);
    lcl_model_free(&a);
    lcl_model_free(&b);
}

static void tied_heads(void **state)
{
    (void)state;
    struct lcl_model_config c = small_config(), back;
    struct lcl_model a, b;
    c.text.tied = true;
    make_model(&a, &c, 9);
    const char *dir = fresh_dir("tied");
    ASSERT_OK(lcl_hf_save(dir, &a.params, &c, NULL));
    ASSERT_OK(lcl_hf_load_config(dir, &back));
    assert_true(back.text.tied);
    make_model(&b, &back, 10);
    ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
    assert_same_values(&a, &b);
    /* A head stored beside an equal embedding stays tied; one that differs does not. */
    const struct lcl_param *e =
        lcl_params_find(&a.params, "language_model.model.embed_tokens.weight");
    float *value = a.params.value + e->offset, other[40 * 16];
    fill_normal(other, 40 * 16, 1, 11);
    for (int k = 0; k < 2; k++) {
        struct lcl_st_item items[] = {
            {"language_model.model.embed_tokens.weight", LCL_F32, LCL_F32, 2, {40, 16}, value},
            {"lm_head.weight", LCL_F32, LCL_F32, 2, {40, 16}, k ? other : value}};
        ASSERT_OK(lcl_st_write_folder(dir, items, 2, 0));
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_int_equal(back.text.tied, k == 0);
    }
    lcl_model_free(&a);
    lcl_model_free(&b);
}

/* The first projector layer on one feature vector, in double. */
static void project(const struct lcl_model *m, const double *x, bool standardize, double *y)
{
    struct lcl_params *t = (struct lcl_params *)(uintptr_t)&m->params;
    const struct lcl_param *w = lcl_params_find(t, "multi_modal_projector.linear_1.weight");
    const struct lcl_param *b = lcl_params_find(t, "multi_modal_projector.linear_1.bias");
    const struct lcl_param *mean = lcl_params_find(t, "image_standardize.mean");
    const struct lcl_param *inv = lcl_params_find(t, "image_standardize.inv_std");
    for (int64_t n = 0; n < w->shape[0]; n++) {
        y[n] = b ? (double)t->value[b->offset + (size_t)n] : 0;
        for (int64_t k = 0; k < w->shape[1]; k++) {
            double z = x[k];
            if (standardize)
                z = (z - (double)t->value[mean->offset + (size_t)k]) *
                    (double)t->value[inv->offset + (size_t)k];
            y[n] += (double)t->value[w->offset + (size_t)(n * w->shape[1] + k)] * z;
        }
    }
}

static void standardisation_folds_into_the_projector(void **state)
{
    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        struct lcl_model_config c = small_config(), back;
        struct lcl_model a, b;
        c.standardize = true;
        c.projector_bias = bias;
        c.n_classes = 5;
        make_model(&a, &c, 12);
        const char *dir = fresh_dir("standardize");
        ASSERT_OK(lcl_hf_save(dir, &a.params, &c, NULL));
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_false(back.standardize);
        assert_true(back.projector_bias);
        make_model(&b, &back, 13);
        ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
        double x[12], y[16], z[16];
        for (int k = 0; k < 12; k++) x[k] = sin(3.0 * k + 1);
        project(&a, x, true, y);
        project(&b, x, false, z);
        for (int n = 0; n < 16; n++) assert_true(fabs(y[n] - z[n]) < 1e-5);
        lcl_model_free(&a);
        lcl_model_free(&b);
    }
}

static void linear_projectors(void **state)
{
    (void)state;
    struct lcl_model_config c = small_config(), back;
    struct lcl_model a, b;
    c.projector = LCL_PROJECTOR_LINEAR;
    make_model(&a, &c, 14);
    char dir[300];
    snprintf(dir, sizeof dir, "%s", fresh_dir("linear"));
    ASSERT_OK(lcl_hf_save(dir, &a.params, &c, NULL));
    ASSERT_OK(lcl_hf_load_config(dir, &back));
    assert_int_equal(back.projector, LCL_PROJECTOR_LINEAR);
    make_model(&b, &back, 15);
    ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
    assert_same_values(&a, &b); /* the identity behind it changes no bit */
    lcl_model_free(&b);
    /* Folders with one layer only, under each of its names. */
    static const char *const names[] = {"multi_modal_projector.linear_1.", "multi_modal_projector.",
                                        "model.mm_projector.", "mm_projector.0."};
    for (int k = 0; k < 4; k++) {
        struct lcl_st_item items[64];
        size_t n = 0;
        char w[64], bias[64];
        snprintf(w, sizeof w, "%sweight", names[k]);
        snprintf(bias, sizeof bias, "%sbias", names[k]);
        for (int i = 0; i < a.params.n_rows; i++) {
            const struct lcl_param *p = &a.params.rows[i];
            const char *name = strstr(p->name, "linear_1.weight") ? w
                               : strstr(p->name, "linear_1.bias") ? bias
                                                                  : p->name;
            items[n] = (struct lcl_st_item){name,      LCL_F32, LCL_F32,
                                            p->n_dims, {0},     a.params.value + p->offset};
            memcpy(items[n++].shape, p->shape, sizeof p->shape);
        }
        ASSERT_OK(lcl_st_write_folder(dir, items, n, 0));
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", small_old_config));
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_int_equal(back.projector, LCL_PROJECTOR_LINEAR);
        make_model(&b, &back, 16);
        ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
        assert_same_values(&a, &b);
        lcl_model_free(&b);
    }
    lcl_model_free(&a);
}

/* Two layers with nothing between stay two, so that each has its gradient. */
static void two_linear_layers_stay_two(void **state)
{
    (void)state;
    struct lcl_model_config c = small_config(), back;
    struct lcl_model a, b;
    c.projector = LCL_PROJECTOR_LINEAR2;
    make_model(&a, &c, 17);
    const char *dir = fresh_dir("two");
    ASSERT_OK(lcl_hf_save(dir, &a.params, &c, NULL));
    ASSERT_OK(lcl_hf_load_config(dir, &back));
    assert_same_config(&c, &back);
    make_model(&b, &back, 18);
    ASSERT_OK(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL));
    assert_same_values(&a, &b);
    lcl_model_free(&a);
    lcl_model_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_folder_loads),
        cmocka_unit_test(saved_folder_loads_again),
        cmocka_unit_test(every_naming_is_the_same_model),
        cmocka_unit_test(hub_defaults_are_filled),
        cmocka_unit_test(rope_keys_old_and_new),
        cmocka_unit_test(what_cannot_be_computed_is_refused),
        cmocka_unit_test(wrong_tensors_are_listed),
        cmocka_unit_test(tied_heads),
        cmocka_unit_test(standardisation_folds_into_the_projector),
        cmocka_unit_test(linear_projectors),
        cmocka_unit_test(two_linear_layers_stay_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
