/* Folders that hold a part of a model: CLIP's towers; and what a part that is taken lacks or has
 * too much. */
#include "tests/support/support.h"

#include "checkpoint/hf.h"
#include "model/model.h"

static struct lcl_model_config small_config(void)
{
    return (struct lcl_model_config){.vision = {16, 8, 12, 20, 2, 3, LCL_GELU_QUICK, 1e-5},
                                     .text = {.C = 16,
                                              .F = 24,
                                              .n_layers = 2,
                                              .H = 4,
                                              .G = 2,
                                              .D = 4,
                                              .V = 40,
                                              .eps = 1e-6,
                                              .rope_theta = 500000,
                                              .rope_factor = 1,
                                              .rope_low_freq_factor = 1,
                                              .rope_high_freq_factor = 1,
                                              .max_positions = 128},
                                     .projector = LCL_PROJECTOR_MLP2,
                                     .projector_bias = true,
                                     .select_layer = -2,
                                     .image_token = 38,
                                     .bos_token = 1,
                                     .eos_token = 2,
                                     .pad_token = 39};
}

static void make_model(struct lcl_model *m, const struct lcl_model_config *c, uint64_t seed)
{
    ASSERT_OK(lcl_model_create(m, c));
    ASSERT_OK(lcl_model_reserve(m, false, false, false));
    fill_normal(m->params.value, m->params.n_elements, 1, seed);
}

static const char *fresh_dir(const char *name)
{
    static char path[2][300];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", temp_dir(), name);
    ASSERT_OK(lcl_fs_mkdirs(path[turn]));
    return path[turn];
}

static void write_text(const char *dir, const char *file, const char *text)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
}

static void rename_tensors(const char *from_dir, const char *to_dir, const char *const (*rules)[2])
{
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(from_dir, &st));
    struct lcl_st_item *items = calloc(st.n_tensors, sizeof *items);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct lcl_st_tensor *t = &st.tensors[i];
        const char *const(*r)[2] = rules;
        while ((*r)[0] && strncmp(t->name, (*r)[0], strlen((*r)[0])) != 0) r++;
        const char *head = (*r)[0] ? (*r)[1] : "",
                   *tail = t->name + ((*r)[0] ? strlen((*r)[0]) : 0);
        items[i] = (struct lcl_st_item){.name = lcl_strdupf("%s%s", head, tail),
                                        .dtype = t->dtype,
                                        .source = t->dtype,
                                        .n_dims = t->n_dims,
                                        .data = t->data};
        memcpy(items[i].shape, t->shape, sizeof t->shape);
    }
    char path[500];
    snprintf(path, sizeof path, "%s/model.safetensors", to_dir);
    ASSERT_OK(lcl_st_write(path, items, st.n_tensors, NULL));
    for (size_t i = 0; i < st.n_tensors; i++) free((char *)(uintptr_t)items[i].name);
    free(items);
    lcl_st_close(&st);
}

/* CLIPModel's folder, with its text half; CLIPVisionModel's as transformers 4 and 5 write it. */
static void towers_by_themselves(void **state)
{
    (void)state;
    static const char *const clip[][2] = {{"vision_tower.", "vision_model."},
                                          {"language_model.", "text_model."},
                                          {"multi_modal_projector.", "visual_projection."},
                                          {0}};
    static const char *const bare[][2] = {{"vision_tower.", ""},
                                          {"language_model.", "text_model."},
                                          {"multi_modal_projector.", "visual_projection."},
                                          {0}};
#define SIZES                                                                         \
    "\"image_size\":16,\"patch_size\":8,\"hidden_size\":12,\"intermediate_size\":20," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":3"
    const struct {
        const char *name, *config;
        const char *const (*rules)[2];
    } cases[] = {{"clip", "{\"model_type\":\"clip\",\"vision_config\":{" SIZES "}}", clip},
                 {"clip4", "{\"model_type\":\"clip_vision_model\"," SIZES "}", clip},
                 {"clip5", "{\"model_type\":\"clip_vision_model\"," SIZES "}", bare}};
#undef SIZES
    const struct lcl_model_config c = small_config();
    const unsigned vision = 1u << LCL_PART_VISION;
    struct lcl_model a, b;
    struct lcl_model_config back;
    char whole[300];
    snprintf(whole, sizeof whole, "%s", fresh_dir("whole"));
    make_model(&a, &c, 4);
    ASSERT_OK(lcl_hf_save(whole, &a.params, &c, NULL));
    for (int k = 0; k < 3; k++) {
        const char *dir = fresh_dir(cases[k].name);
        write_text(dir, "config.json", cases[k].config);
        rename_tensors(whole, dir, cases[k].rules);
        assert_true(lcl_hf_is_tower_folder(dir));
        assert_int_equal(lcl_hf_parts(dir), vision);
        ASSERT_OK(lcl_hf_load_config(dir, &back));
        assert_int_equal(back.vision.act, LCL_GELU_QUICK);
        back.text = c.text;
        make_model(&b, &back, 5);
        ASSERT_OK(lcl_hf_load(dir, &b.params, vision, NULL));
        for (int i = 0; i < b.params.n_rows; i++) {
            const struct lcl_param *p = &b.params.rows[i], *q = lcl_params_find(&a.params, p->name);
            if (p->part == LCL_PART_VISION)
                assert_memory_equal(lcl_param_value(&b.params, p), lcl_param_value(&a.params, q),
                                    4 * p->count);
        }
        ASSERT_FAILS(lcl_hf_load(dir, &b.params, LCL_ALL_PARTS, NULL), LCL_SHAPE,
                     "does not fit the model");
        lcl_model_free(&b);
    }
    lcl_model_free(&a);
}

/* What a part that is taken has beyond the model is no less wrong than what it lacks. */
static void left_over_of_a_part(void **state)
{
    (void)state;
    struct lcl_model_config c = small_config();
    struct lcl_model a, b;
    const char *dir = fresh_dir("longer");
    c.text.n_layers = 3;
    make_model(&a, &c, 4);
    ASSERT_OK(lcl_hf_save(dir, &a.params, &c, NULL));
    c.text.n_layers = 2;
    make_model(&b, &c, 5);
    ASSERT_FAILS(lcl_hf_load(dir, &b.params, 1u << LCL_PART_TEXT, NULL), LCL_SHAPE,
                 "left over: language_model.model.layers.2.input_layernorm.weight");
    ASSERT_OK(lcl_hf_load(dir, &b.params, 1u << LCL_PART_VISION, NULL));
    lcl_model_free(&a);
    lcl_model_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(towers_by_themselves),
        cmocka_unit_test(left_over_of_a_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
