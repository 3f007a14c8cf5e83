/* Folders that hold a part of a model: CLIP's towers; and what a part that is taken lacks or has
 * too much. */
#include "tests/support/hf_folder.h"

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
        ASSERT_OK(lcl_fs_write_text(dir, "config.json", cases[k].config));
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
