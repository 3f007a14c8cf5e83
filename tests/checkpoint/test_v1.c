/* The original LLaVA layout: decoder and projector in one folder, the vision tower in another that
 * config.json names, in safetensors or files of torch.save. */
#include "tests/support/support.h"

#include "checkpoint/hf.h"
#include "model/model.h"
#include "tests/support/torch_file.h"

static const struct lcl_model_config shapes = {
    .vision = {16, 8, 12, 20, 2, 3, LCL_GELU_QUICK, 1e-5},
    .text = {.C = 16,
             .F = 24,
             .n_layers = 2,
             .H = 4,
             .G = 2,
             .D = 4,
             .V = 40,
             .eps = 1e-6,
             .rope_theta = 10000,
             .rope_factor = 1,
             .rope_low_freq_factor = 1,
             .rope_high_freq_factor = 1,
             .max_positions = 128},
    .projector = LCL_PROJECTOR_LINEAR,
    .projector_bias = true,
    .select_layer = -2,
    .image_token = -1,
    .bos_token = 1,
    .eos_token = 2,
    .pad_token = -1};

static const char config[] =
    "{\"model_type\": \"llava\", \"hidden_size\": 16, \"intermediate_size\": 24, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"vocab_size\": 40, \"max_position_embeddings\": 128, \"mm_vision_tower\": \"%s\", "
    "\"mm_vision_select_layer\": -2, \"mm_use_im_start_end\": true}";
static const char tower_config[] =
    "{\"model_type\": \"clip\", \"text_config\": {\"hidden_size\": 8}, \"vision_config\": "
    "{\"hidden_size\": 12, \"intermediate_size\": 20, \"num_hidden_layers\": 2, "
    "\"num_attention_heads\": 3, \"image_size\": 16, \"patch_size\": 8}}";

/* Names as LLaVA v1 and CLIP have them. */
static void v1_name(const char *name, char out[200])
{
    static const char *const rules[][2] = {
        {"vision_tower.", "vision_model."},
        {"multi_modal_projector.linear_1.", "model.mm_projector."},
        {"language_model.model.", "model."},
        {"language_model.lm_head.", "lm_head."}};
    for (int i = 0; i < 4; i++) {
        size_t n = strlen(rules[i][0]);
        if (strncmp(name, rules[i][0], n) == 0) snprintf(out, 200, "%s%s", rules[i][1], name + n);
    }
}

static struct torch_item item_of(const struct lcl_params *t, const struct lcl_param *p,
                                 const char *name)
{
    struct torch_item item = {.name = name,
                              .storage = "FloatStorage",
                              .data = t->value + p->offset,
                              .storage_count = (int64_t)p->count,
                              .elem_bytes = 4,
                              .n_dims = p->n_dims};
    memcpy(item.shape, p->shape, sizeof item.shape);
    return item;
}

static void write_weights(const char *dir, const char *tower, const struct lcl_model *m)
{
    static char names[128][200];
    struct torch_item text[128], vision[128];
    float scale = 1;
    char path[500];
    int n_text = 0, n_vision = 0;
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *p = &m->params.rows[i];
        v1_name(p->name, names[i]);
        struct torch_item item = item_of(&m->params, p, names[i]);
        if (p->part == LCL_PART_VISION)
            vision[n_vision++] = item;
        else
            text[n_text++] = item;
    }
    vision[n_vision++] =
        (struct torch_item){"logit_scale", "FloatStorage", &scale, 1, 4, 0, 0, {0}};
    vision[n_vision++] = (struct torch_item){
        "text_model.final_layer_norm.bias", "FloatStorage", &scale, 1, 4, 0, 1, {1}};
    snprintf(path, sizeof path, "%s/pytorch_model.bin", dir);
    torch_write(path, text, n_text);
    snprintf(path, sizeof path, "%s/pytorch_model.bin", tower);
    torch_write(path, vision, n_vision);
}

static void make_folder(char dir[300], const char *name, const char *tower)
{
    char text[1000], below[400];
    snprintf(dir, 300, "%s/%s", temp_dir(), name);
    snprintf(below, sizeof below, "%s/clip", dir);
    ASSERT_OK(lcl_fs_mkdirs(below));
    snprintf(text, sizeof text, config, tower);
    ASSERT_OK(lcl_fs_write_text(dir, "config.json", text));
    ASSERT_OK(lcl_fs_write_text(below, "config.json", tower_config));
}

static void assert_same(const struct lcl_model *a, const struct lcl_model *b)
{
    assert_int_equal(a->params.n_rows, b->params.n_rows);
    for (int i = 0; i < a->params.n_rows; i++) {
        const struct lcl_param *p = &a->params.rows[i];
        assert_memory_equal(a->params.value + p->offset, b->params.value + p->offset, 4 * p->count);
    }
}

static void tower_in_a_folder(void **state)
{
    (void)state;
    struct lcl_model m = {0}, back = {0};
    struct lcl_model_config c;
    char dir[300], tower[400], text[1000], *a, *b;
    make_folder(dir, "v1", "clip");
    snprintf(tower, sizeof tower, "%s/clip", dir);
    ASSERT_OK(lcl_model_create(&m, &shapes));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    fill_normal(m.params.value, m.params.n_elements, 1, 5);
    write_weights(dir, tower, &m);
    for (int pass = 0; pass < 2; pass++) { /* below the folder, and by an absolute path */
        ASSERT_OK(lcl_hf_load_config(dir, &c));
        ASSERT_OK(lcl_model_config_to_json(&c, &a));
        ASSERT_OK(lcl_model_config_to_json(&shapes, &b));
        assert_string_equal(a, b);
        free(a);
        free(b);
        ASSERT_OK(lcl_model_create(&back, &c));
        ASSERT_OK(lcl_model_reserve(&back, false, false, false));
        ASSERT_OK(lcl_hf_load(dir, &back.params, LCL_ALL_PARTS, NULL));
        assert_same(&m, &back);
        lcl_model_free(&back);
        char *whole = realpath(tower, NULL);
        snprintf(text, sizeof text, config, whole);
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", text));
        free(whole);
    }
    /* A tower without its weights, and a name that is no folder. */
    snprintf(text, sizeof text, "%s/pytorch_model.bin", tower);
    assert_int_equal(remove(text), 0);
    ASSERT_FAILS(lcl_hf_load_config(dir, &c), LCL_NOT_FOUND, "clip holds neither");
    snprintf(text, sizeof text, config, "someone/clip-of-their-own");
    ASSERT_OK(lcl_fs_write_text(dir, "config.json", text));
    ASSERT_FAILS(lcl_hf_load_config(dir, &c), LCL_UNSUPPORTED, "clip-of-their-own");
    write_weights(dir, tower, &m); /* --vision-tower */
    lcl_hf_use_tower(tower);
    ASSERT_OK(lcl_hf_load_config(dir, &c));
    lcl_hf_use_tower(NULL);
    assert_int_equal(c.vision.C, 12);
    lcl_model_free(&m);
}

/* What is saved so has the original's names, and loads to the same values. */
static void saved_in_the_layout(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"model.mm_projector.bias", "model.mm_projector.2.bias"},
        {"model.layers.1.self_attn.q_proj.weight", "lm_head.weight"}};
    const struct lcl_hf_save_options o = {.dtype = LCL_F32, .llava_v1 = true};
    for (int mlp = 0; mlp < 2; mlp++) {
        struct lcl_model_config c = shapes, read;
        struct lcl_model m = {0}, back = {0};
        struct lcl_safetensors st;
        char dir[300], tower[400];
        snprintf(dir, sizeof dir, "%s/saved-%d", temp_dir(), mlp);
        snprintf(tower, sizeof tower, "%s/vision_tower", dir);
        if (mlp) c.projector = LCL_PROJECTOR_MLP2;
        ASSERT_OK(lcl_model_create(&m, &c));
        ASSERT_OK(lcl_model_reserve(&m, false, false, false));
        fill_normal(m.params.value, m.params.n_elements, 1, 6);
        ASSERT_OK(lcl_hf_save(dir, &m.params, &c, &o));
        ASSERT_OK(lcl_st_open(dir, &st));
        assert_non_null(lcl_st_find(&st, names[0][mlp]));
        assert_null(lcl_st_find(&st, names[0][!mlp]));
        for (int i = 0; i < 2; i++) assert_non_null(lcl_st_find(&st, names[1][i]));
        lcl_st_close(&st);
        ASSERT_OK(lcl_st_open(tower, &st));
        assert_non_null(lcl_st_find(&st, "vision_model.pre_layrnorm.weight"));
        lcl_st_close(&st);
        ASSERT_OK(lcl_hf_load_config(dir, &read));
        assert_int_equal(read.projector, c.projector);
        ASSERT_OK(lcl_model_create(&back, &read));
        ASSERT_OK(lcl_model_reserve(&back, false, false, false));
        ASSERT_OK(lcl_hf_load(dir, &back.params, LCL_ALL_PARTS, NULL));
        assert_same(&m, &back);
        c.projector = LCL_PROJECTOR_LINEAR2;
        ASSERT_FAILS(lcl_hf_save(dir, &m.params, &c, &o), LCL_UNSUPPORTED, "mlp2x_gelu");
        lcl_model_free(&m);
        lcl_model_free(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tower_in_a_folder),
                                       cmocka_unit_test(saved_in_the_layout)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
