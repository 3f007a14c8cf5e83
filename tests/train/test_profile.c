/* Profiles: what they count, what they write, and that a run is the same with one. */
#include "tests/support/support.h"

#include <jansson.h>
#include <math.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/threads.h"
#include "tests/support/tiny.h"
#include "tests/support/trace.h"
#include "train/loop.h"
#include "train/plan.h"
#include "train/profile_run.h"

enum { STEPS = 7, KEPT = 3 }; /* 3 to warm up, 3 kept, one more */

/* One step of the tiny world by ops, and by the plan. */
static void count_step(const char *words, double *by_ops, double *by_plan, double *again)
{
    struct lcl_config c;
    struct lcl_env e = {0};
    struct lcl_pictures pictures;
    struct lcl_features features;
    struct lcl_trainer t;
    struct lcl_profile *p;
    struct lcl_profile_sum sum;
    struct lcl_step_result r;
    tiny_config(&c, words);
    bool cached = lcl_plan_caches_features(&c);
    ASSERT_OK(lcl_env_start(&e, &c));
    ASSERT_OK(lcl_env_open_data(&e, &c));
    ASSERT_OK(lcl_env_make_model(&e, &c, c.task == LCL_TASK_VISION));
    ASSERT_OK(lcl_pictures_open(&pictures, &e.pack, &e.preprocess, &c));
    if (cached) ASSERT_OK(lcl_features_open(&features, &e, &c, c.data_augment_views, NULL));
    ASSERT_OK(lcl_trainer_open(&t, &e, &c, 0, cached ? &features : NULL, &pictures));
    const struct lcl_ops *before = e.exec.ops;
    ASSERT_OK(lcl_profile_open(&p, &e.exec));
    t.profile = p;
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(lcl_profile_step_begin(p, i + 1));
        ASSERT_OK(lcl_trainer_step(&t, i, 10, i + 1, &r));
        ASSERT_OK(lcl_profile_step_end(p, i == 1, 1, r.tokens)); /* the first is not kept */
    }
    ASSERT_OK(lcl_profile_sum(p, &sum));
    assert_int_equal(sum.steps, 1);
    assert_int_equal(sum.tokens, r.tokens);
    *by_ops = *again = 0;
    for (size_t i = 0; i < sum.n; i++) /* attention's backward counts the scores again */
        *by_ops += sum.row[i].flops * (sum.row[i].op == LCL_OP_attention_bwd ? 0.8 : 1);
    *by_plan = lcl_plan_step_flops(&e, &c, t.lane, t.n_lanes);
    struct lcl_plan plan;
    ASSERT_OK(lcl_plan_stage(&e, &c, 0, 2, &plan));
    *again = plan.flops;
    lcl_profile_sum_free(&sum);
    lcl_profile_close(p);
    assert_ptr_equal(e.exec.ops, before);
    lcl_trainer_close(&t);
    if (cached) lcl_features_close(&features);
    lcl_pictures_close(&pictures);
    lcl_env_close(&e);
}

/* The plan's count, made from shapes, is that of the ops that ran. */
static void the_plan_counts_what_runs(void **state)
{
    (void)state;
    static const char *const words[] = {
        "freeze_vision_tower=false mm_image_pool=2x2",
        "freeze_vision_tower=false mm_image_pool=none mm_projector_type=linear",
        "freeze_vision_tower=true cache_features=false mm_vision_select_layer=-1",
        "freeze_vision_tower=true cache_features=true",
        "freeze_text=true freeze_vision_tower=false freeze_projector=true",
        "freeze_text=true gradient_accumulation_steps=2",
        "text.num_key_value_heads=1 text.num_hidden_layers=1 data.queries=2",
        "task=vision per_device_train_batch_size=3",
        "task=language",
        "mm_projector_type=qformer freeze_vision_tower=false",
        "mm_projector_type=qformer freeze_vision_tower=true freeze_text=true mm_image_pool=none",
        "mm_projector_type=qformer lora.rank=2 "
        "lora.targets=crossattention.*.key,crossattention.*.value"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        double ops, plan, all;
        count_step(words[i], &ops, &plan, &all);
        if (fabs(ops - plan) > 1e-9 * ops) fail_msg("%s: ops %.0f, plan %.0f", words[i], ops, plan);
    }
}

/* What checkpointing computes again is work, but none that the model asks for. */
static void work_done_again_is_apart(void **state)
{
    (void)state;
    static const char *const words[] = {"freeze_vision_tower=false gradient_checkpointing=mlp",
                                        "freeze_vision_tower=false gradient_checkpointing=true"};
    double plain, plan, all;
    count_step("freeze_vision_tower=false", &plain, &plan, &all);
    for (size_t i = 0; i < 2; i++) {
        double ops, again, planned;
        count_step(words[i], &ops, &again, &planned);
        assert_true(again == plan && ops > plain && planned > all);
        /* by the plan's mean of the batches it drew, scaled to this step's */
        double ratio = (ops - plain) / plain / ((planned - all) / all);
        assert_true(ratio > 0.9 && ratio < 1.1);
    }
}

static json_t *read_json(const char *dir, const char *name)
{
    char path[400];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    json_t *j = json_load_file(path, 0, &error);
    if (!j) fail_msg("%s: %s", path, error.text);
    return j;
}

static double number(json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

static void check_sums(const char *dir, int threads)
{
    json_t *j = read_json(dir, "ops.json"), *op;
    size_t i;
    double seconds = 0, share = 0, last = INFINITY;
    assert_true(number(j, "steps") == KEPT);
    /* of lanes one a thread; a busy machine may give both to one */
    assert_true(number(j, "threads") >= 1 && number(j, "threads") <= threads);
    assert_true(number(j, "model_flops") > 0 && number(j, "mfu") > 0);
    json_array_foreach(json_object_get(j, "ops"), i, op)
    {
        seconds += number(op, "seconds");
        share += number(op, "share");
        assert_true(number(op, "seconds") <= last && number(op, "calls") >= 1);
        last = number(op, "seconds");
    }
    assert_true(i > 10);
    assert_true(seconds > 0 && seconds <= number(j, "wall_s"));
    assert_true(share > 0 && share <= 1 + 1e-9);
    assert_true(fabs(seconds - number(j, "ops_s")) < 1e-6 * seconds);
    json_t *limits = json_object_get(j, "limits");
    assert_true(number(limits, "flops_f32") > 1e8 && number(limits, "bytes_per_s") > 1e8);
    assert_non_null(strstr(json_string_value(json_object_get(limits, "source")), "measured here"));
    json_decref(j);
}

static void check_table(const char *dir)
{
    char path[400], *text;
    size_t size;
    int lines = 0;
    snprintf(path, sizeof path, "%s/ops.txt", dir);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &text, &size));
    assert_non_null(strstr(text, "linear_bwd"));
    assert_non_null(strstr(text, "MFU "));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        if (strlen(line) > 100) fail_msg("%zu columns: %s", strlen(line), line);
    assert_true(lines > 15);
    free(text);
}

static void a_profiled_run_is_the_same(void **state)
{
    (void)state;
    static const char *const words[] = {"threads=1 freeze_vision_tower=false",
                                        "threads=2 cache_features=true"};
    for (int i = 0; i < 2; i++) {
        double plain[STEPS], profiled[STEPS];
        char dir[340];
        trace_train(words[i], 0, plain, STEPS);
        snprintf(dir, sizeof dir, "%s/profile", trace_train(words[i], KEPT, profiled, STEPS));
        assert_memory_equal(plain, profiled, sizeof plain);
        trace_check(dir, LCL_PROFILE_WARM_UP + 1, KEPT, false);
        check_sums(dir, 1 + i); /* two lanes, one a thread */
        check_table(dir);
    }
}

static lcl_status run_again(const char *dir, int profile, bool resume, bool force, int max_steps)
{
    struct lcl_run_config *run = calloc(1, sizeof *run);
    struct lcl_train_options o = {
        .profile = profile, .force = force, .resume = resume ? "auto" : NULL};
    bool interrupted;
    char words[500];
    assert_non_null(run);
    run->n_stages = 1;
    snprintf(words, sizeof words, "output_dir=%s max_steps=%d", dir, max_steps);
    tiny_config(&run->stages[0], words);
    lcl_status status = lcl_train_run(run, &o, &interrupted);
    free(run);
    return status;
}

static void nothing_is_written_over(void **state)
{
    (void)state;
    char dir[300], profile[340];
    double losses[STEPS];
    lcl_log_set_level(LCL_LOG_QUIET);
    snprintf(dir, sizeof dir, "%s", trace_train("", KEPT, losses, STEPS));
    snprintf(profile, sizeof profile, "%s/profile", dir);
    ASSERT_FAILS(run_again(dir, 1, true, false, STEPS + 4), LCL_EXISTS, "holds a profile already");
    assert_non_null(strstr(lcl_error_hint(), "--force"));
    trace_check(profile, LCL_PROFILE_WARM_UP + 1, KEPT, false);
    ASSERT_FAILS(run_again(dir, 2, true, true, STEPS + 4), LCL_RANGE,
                 "takes 5 steps, 3 of them to warm up; stage train has 4 to go");
    ASSERT_OK(run_again(dir, 1, true, true, STEPS + 4));
    trace_check(profile, STEPS + LCL_PROFILE_WARM_UP + 1, 1, false);
    ASSERT_OK(run_again(dir, 0, false, true, STEPS)); /* a new run has no old profile */
    assert_false(lcl_fs_exists(profile));
    lcl_log_set_level(LCL_LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_counts_what_runs),
        cmocka_unit_test(work_done_again_is_apart),
        cmocka_unit_test(a_profiled_run_is_the_same),
        cmocka_unit_test(nothing_is_written_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
