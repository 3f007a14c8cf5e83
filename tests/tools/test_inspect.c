/* `lcl inspect` on a saved model, a checkpoint and a run: its JSON is read back, damage is an
 * error. */
#include "tests/support/command.h"

#include <jansson.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "model/model.h"

static struct lcl_model model;

static int make_model(void **state)
{
    (void)state;
    const struct lcl_model_config c = {.vision = {16, 8, 12, 20, 2, 3, LCL_GELU_QUICK, 1e-5},
                                       .text = {.C = 16,
                                                .F = 24,
                                                .n_layers = 1,
                                                .H = 4,
                                                .G = 4,
                                                .D = 4,
                                                .V = 40,
                                                .eps = 1e-6,
                                                .rope_theta = 10000,
                                                .max_positions = 128},
                                       .projector = LCL_PROJECTOR_LINEAR,
                                       .projector_bias = true,
                                       .select_layer = -2,
                                       .image_token = 38};
    if (lcl_model_create(&model, &c) != LCL_OK) return 1;
    if (lcl_model_reserve(&model, false, false, false) != LCL_OK) return 1;
    lcl_params_initialise(&model.params, 1);
    return 0;
}

static int free_model(void **state)
{
    (void)state;
    lcl_model_free(&model);
    return 0;
}

static json_t *inspect_json(const char *path)
{
    PRINTS("inspect %s --json", path);
    json_t *root = json_loads(output, 0, NULL);
    if (!root) fail_msg("no JSON: %s", output);
    return root;
}

static json_int_t count_of(const json_t *root, const char *part)
{
    return json_integer_value(json_object_get(json_object_get(root, "parameters"), part));
}

static const char *in_temp(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static void hf_folders(void **state)
{
    (void)state;
    const char *dir = in_temp("hf");
    ASSERT_OK(lcl_hf_save(dir, &model.params, &model.config, NULL));
    json_t *root = inspect_json(dir);
    assert_int_equal(count_of(root, "projector"), 16 * 12 + 16);
    assert_int_equal(json_array_size(json_object_get(root, "missing")), 0);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(root, "missing_files"), 0)),
        "tokenizer.json");
    json_decref(root);
    /* What is missing is listed. */
    const struct lcl_st_item item = {"lm_head.weight", LCL_F32,           LCL_F32, 2,
                                     {40, 16},         model.params.value};
    ASSERT_OK(lcl_st_write_folder(dir, &item, 1, 0));
    root = inspect_json(dir);
    assert_int_equal(json_array_size(json_object_get(root, "missing")), model.params.n_rows - 1);
    json_decref(root);
}

static void runs_and_checkpoints(void **state)
{
    (void)state;
    char dir[400], path[600];
    snprintf(dir, sizeof dir, "%s", in_temp("run"));
    for (int step = 1; step <= 2; step++)
        ASSERT_OK(lcl_checkpoint_save(dir, &(struct lcl_run_state){.step = step, .tokens = 77},
                                      &model.params, &model.config,
                                      &(struct lcl_checkpoint_options){.keep = 5}));
    json_t *root = inspect_json(dir);
    assert_string_equal(json_string_value(json_object_get(root, "last")), "checkpoint-2");
    assert_int_equal(json_array_size(json_object_get(root, "checkpoints")), 2);
    json_t *run = json_object_get(root, "run_state");
    assert_int_equal(json_integer_value(json_object_get(run, "step")), 2);
    assert_int_equal(json_integer_value(json_object_get(run, "tokens")), 77);
    assert_int_equal(json_array_size(json_object_get(root, "tensors")), model.params.n_rows);
    json_decref(root);
    /* Damage is an error, in words and in the exit status. */
    snprintf(path, sizeof path, "%s/checkpoint-2/state.h5", dir);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, -20, SEEK_END);
    int byte = fgetc(f);
    fseek(f, -20, SEEK_END);
    fputc(byte ^ 4, f);
    fclose(f);
    FAILS("is damaged", "inspect %s", path);
}

/* Types of values and moments, as the checkpoint keeps them. */
static void types_of_a_checkpoint(void **state)
{
    (void)state;
    struct lcl_params t = {.states = LCL_STATES_8BIT, .bf16 = true, .no_master = true};
    struct lcl_arena arena;
    char dir[400];
    int row;
    snprintf(dir, sizeof dir, "%s", in_temp("types"));
    ASSERT_OK(lcl_params_add(&t, "a.weight", 2, (int64_t[]){64, 64},
                             (struct lcl_param_spec){.init = LCL_INIT_ONES}, &row));
    lcl_arena_measure(&arena, "table");
    lcl_params_layout(&t, &arena, NULL, &arena);
    ASSERT_OK(lcl_arena_reserve(&arena, "table", arena.used_bytes));
    lcl_params_layout(&t, &arena, NULL, &arena);
    t.m_scale_B[3] = 1;
    ASSERT_OK(
        lcl_checkpoint_save(dir, &(struct lcl_run_state){.step = 1}, &t, &model.config,
                            &(struct lcl_checkpoint_options){.keep = 1, .with_optimizer = true}));
    json_t *root = inspect_json(dir), *tensor = json_array_get(json_object_get(root, "tensors"), 0);
    assert_string_equal(json_string_value(json_object_get(tensor, "dtype")), "BF16");
    assert_string_equal(json_string_value(json_object_get(tensor, "moments_dtype")),
                        "8-bit blockwise");
    json_decref(root);
    lcl_arena_free(&arena);
    lcl_params_free(&t);
}

static void unknown_things(void **state)
{
    (void)state;
    FAILS("there is no", "inspect %s", in_temp("nothing"));
    FAILS("no known kind", "inspect %s", "Makefile");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hf_folders),
        cmocka_unit_test(runs_and_checkpoints),
        cmocka_unit_test(types_of_a_checkpoint),
        cmocka_unit_test(unknown_things),
    };
    return cmocka_run_group_tests(tests, make_model, free_model);
}
