/* A run that was stopped goes on as if it had not been. */
#include "tests/support/support.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "core/log.h"
#include "tests/support/kills.h"
#include "tests/support/tiny.h"
#include "train/loop.h"
#include "train/metrics.h"

static struct kills k;

/* Stops a run by SIGTERM at this part of its system calls; earlier where it had done all but end,
 * for how many calls come at its end depends on the build. */
static void stop(struct kills *r, const char *dir, double moment)
{
    int rc = 128 + SIGTERM;
    for (; rc == 128 + SIGTERM && moment > 0.2; moment -= 0.1) {
        ASSERT_OK(lcl_fs_remove_tree(dir));
        rc = kills_run(r, dir, (long)(moment * (double)r->n_calls), SIGTERM, NULL);
    }
    assert_int_equal(rc, 0);
}

static void says(const char *text)
{
    if (!strstr(k.output, text)) fail_msg("it said:\n%s\nwanted: %s", k.output, text);
}

static void goes_through_its_stages(void **state)
{
    (void)state;
    struct lcl_metrics_table t;
    char path[340];
    int lines[3] = {0};
    kills_set_up(&k, "");
    snprintf(path, sizeof path, "%s/metrics.jsonl", k.straight);
    ASSERT_OK(lcl_metrics_load(path, &t));
    for (size_t i = 0; i < t.n; i++) {
        lines[0] += strcmp(t.rows[i].kind, "train") == 0;
        lines[1] += strcmp(t.rows[i].kind, "eval") == 0;
        lines[2] += strcmp(t.rows[i].kind, "stage") == 0;
        assert_true(i == 0 || t.rows[i].step >= t.rows[i - 1].step);
    }
    assert_int_equal(lines[0], 5 + 8); /* 20 steps by 4, 40 by 5 */
    assert_int_equal(lines[1], 3);     /* after 15 and 30, and at the early end after 40 */
    assert_int_equal(lines[2], 2);
    assert_int_equal(t.rows[t.n - 1].step, 60);
    assert_string_equal(t.rows[t.n - 1].kind, "stage");
    lcl_metrics_table_free(&t);
    snprintf(path, sizeof path, "%s/checkpoint-60/state.h5", k.straight);
    assert_true(lcl_fs_exists(path));
    snprintf(path, sizeof path, "%s/best/state.h5", k.straight);
    assert_true(lcl_fs_exists(path));
}

static void vision_warm_up_learns_the_classes(void **state)
{
    (void)state;
    struct lcl_metrics_table t;
    struct lcl_run_config *run = malloc(sizeof *run);
    struct lcl_train_options o = {0};
    bool interrupted = true;
    char set[340], path[340];
    snprintf(set, sizeof set, "output_dir=%s/learn", temp_dir());
    const char *const sets[] = {set,
                                "task=vision",
                                "max_steps=120",
                                "classifier.scale=8",
                                "per_device_train_batch_size=8",
                                "logging_steps=20"};
    assert_non_null(run);
    ASSERT_OK(lcl_config_load(tiny_file("learn.yaml", tiny_yaml()), sets, 6, run));
    lcl_log_set_level(LCL_LOG_QUIET);
    ASSERT_OK(lcl_train_run(run, &o, &interrupted));
    lcl_log_set_level(LCL_LOG_INFO);
    assert_false(interrupted);
    free(run);
    snprintf(path, sizeof path, "%s/learn/metrics.jsonl", temp_dir());
    ASSERT_OK(lcl_metrics_load(path, &t));
    assert_int_equal(t.n, 7);
    assert_true(t.rows[0].label_accuracy < 0.5); /* chance is 1/6 */
    assert_true(t.rows[5].label_accuracy > 0.75);
    lcl_metrics_table_free(&t);
}

static void resuming_a_finished_run_changes_nothing(void **state)
{
    (void)state;
    char copy[700], dir[300];
    snprintf(dir, sizeof dir, "%s/finished", temp_dir());
    snprintf(copy, sizeof copy, "cp -a %s %s", k.straight, dir);
    assert_int_equal(system(copy), 0);
    assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 0);
    says("is complete");
    kills_assert_same(&k, dir);
}

static void added_steps_are_trained(void **state)
{
    (void)state;
    struct lcl_run_config *run = malloc(sizeof *run);
    struct lcl_train_options o = {0};
    bool interrupted;
    char set[340], path[340];
    snprintf(set, sizeof set, "output_dir=%s/added", temp_dir());
    const char *const sets[] = {set, "task=language", "max_steps=4", "max_steps=6"};
    assert_non_null(run);
    lcl_log_set_level(LCL_LOG_QUIET);
    for (int n = 3; n <= 4; n++) { /* 4 steps, then 6 */
        ASSERT_OK(lcl_config_load(tiny_file("added.yaml", tiny_yaml()), sets, n, run));
        ASSERT_OK(lcl_train_run(run, &o, &interrupted));
        o.resume = "auto";
        snprintf(path, sizeof path, "%s/added/checkpoint-%d/state.h5", temp_dir(), 2 * n - 2);
        assert_true(lcl_fs_exists(path));
    }
    lcl_log_set_level(LCL_LOG_INFO);
    free(run);
}

static void killed_runs_go_on(void **state)
{
    (void)state;
    kills_many(&k, 4, 1);
}

static void assert_kept_as(const char *dir, lcl_dtype value, lcl_dtype moments)
{
    char path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_checkpoint_row *rows;
    int n, n_value = 0, n_moments = 0;
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
    for (int i = 0; i < n; i++) {
        n_value += rows[i].dtype == value;
        n_moments += rows[i].has_moments && rows[i].moments == moments;
    }
    assert_true(n_value > 0 && n_moments > 0);
    free(rows);
}

/* Each way to keep moments and values goes on bit for bit; some rows are large enough for it. */
static void every_precision_goes_on(void **state)
{
    (void)state;
    static const char *const keys[] = {"optim: adamw_8bit\n", "optim: adamw_bf16\nbf16: true\n",
                                       "optim: adamw_8bit\nbf16: true\nmaster_weights: none\n"};
    static struct kills e;
    for (int i = 0; i < 3; i++) {
        char yaml[300], dir[300];
        snprintf(yaml, sizeof yaml, "%stext.intermediate_size: 160\n", keys[i]);
        kills_set_up(&e, yaml);
        snprintf(dir, sizeof dir, "%s/precision-%d", temp_dir(), i);
        stop(&e, dir, 0.7);
        assert_non_null(strstr(e.output, "stopped by signal 15"));
        assert_int_equal(kills_run(&e, dir, -1, 0, NULL), 0);
        assert_null(strstr(e.output, "converted"));
        kills_assert_same(&e, dir);
        assert_kept_as(dir, i == 2 ? LCL_BF16 : LCL_F32, i == 1 ? LCL_BF16 : LCL_U8);
    }
}

/* Query tokens and all move with the projector and go on bit for bit; the loss falls. */
static void a_qformer_goes_on(void **state)
{
    (void)state;
    static struct kills e;
    struct lcl_metrics_table t;
    char dir[300], path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_checkpoint_row *rows;
    int n, moving = 0;
    kills_set_up(&e, "mm_projector_type: qformer\nfreeze_vision_tower: false\n");
    snprintf(dir, sizeof dir, "%s/queries", temp_dir());
    stop(&e, dir, 0.7);
    assert_non_null(strstr(e.output, "stopped by signal 15"));
    assert_int_equal(kills_run(&e, dir, -1, 0, NULL), 0);
    kills_assert_same(&e, dir);
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
    for (int i = 0; i < n; i++) {
        bool of_queries = strncmp(rows[i].name, "qformer.", 8) == 0 ||
                          strcmp(rows[i].name, "query_tokens") == 0 ||
                          strncmp(rows[i].name, "language_projection.", 20) == 0;
        if (!of_queries) continue;
        assert_true(rows[i].part == LCL_PART_PROJECTOR && rows[i].trainable);
        moving += rows[i].has_moments;
    }
    assert_int_equal(moving, 1 + 2 + 3 * 16 + 2 * 10 + 2); /* layers 0 and 2 cross */
    free(rows);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    ASSERT_OK(lcl_metrics_load(path, &t));
    double first = 0, last = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (strcmp(t.rows[i].kind, "train") != 0 || t.rows[i].step <= 20) continue;
        if (first == 0) first = t.rows[i].loss;
        last = t.rows[i].loss;
    }
    if (!(last < 0.9 * first)) fail_msg("the loss went from %g to %g", first, last);
    lcl_metrics_table_free(&t);
}

/* Adapters begin after the warm-up, which makes the base; they move alone, and go on bit for bit.
 */
static void adapters_go_on(void **state)
{
    (void)state;
    static struct kills e;
    char dir[300], path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_checkpoint_row *rows;
    struct lcl_model_config config;
    int n, n_adapters = 0;
    kills_set_up(
        &e,
        "lora: {rank: 3, alpha: 6, dropout: 0.2, targets: 'q_proj,mlp.*'}\nfreeze_vision_tower: "
        "false\n");
    snprintf(dir, sizeof dir, "%s/adapters", temp_dir());
    stop(&e, dir, 0.7);
    assert_non_null(strstr(e.output, "stopped by signal 15"));
    assert_int_equal(kills_run(&e, dir, -1, 0, NULL), 0);
    kills_assert_same(&e, dir);
    ASSERT_OK(lcl_checkpoint_find(dir, path, sizeof path));
    ASSERT_OK(lcl_checkpoint_load_config(path, &config));
    assert_int_equal(config.lora.rank, 3);
    assert_true(config.lora.alpha == 6);
    assert_string_equal(config.lora.targets, "q_proj,mlp.*");
    ASSERT_OK(lcl_checkpoint_list(path, &rows, &n));
    for (int i = 0; i < n; i++) {
        bool adapter = strstr(rows[i].name, ".lora_") != NULL;
        if (rows[i].trainable) assert_true(adapter && rows[i].has_moments);
        n_adapters += adapter;
    }
    assert_int_equal(n_adapters,
                     2 * (2 * 4 + 2 * 3)); /* text: q, gate, up, down; vision: q, fc1, fc2 */
    free(rows);
}

static void stages_share_a_precision(void **state)
{
    (void)state;
    bool interrupted;
    char yaml[4096];
    struct lcl_run_config *run = malloc(sizeof *run);
    assert_non_null(run);
    snprintf(
        yaml, sizeof yaml,
        "%soutput_dir: %s/shared\nstages:\n  - {name: one}\n  - {name: two, optim: adamw_8bit}\n",
        tiny_yaml(), temp_dir());
    ASSERT_OK(lcl_config_load(tiny_file("shared.yaml", yaml), NULL, 0, run));
    ASSERT_FAILS(lcl_train_run(run, &(struct lcl_train_options){0}, &interrupted), LCL_CONFIG,
                 "stage two has optim, master_weights, zero or lora.* of its own");
    snprintf(yaml, sizeof yaml,
             "%soutput_dir: %s/shared\nstages:\n  - {name: one}\n  - {name: two, lora.rank: 2}\n",
             tiny_yaml(), temp_dir());
    ASSERT_OK(lcl_config_load(tiny_file("shared.yaml", yaml), NULL, 0, run));
    ASSERT_FAILS(lcl_train_run(run, &(struct lcl_train_options){0}, &interrupted), LCL_CONFIG,
                 "stage two has optim, master_weights, zero or lora.* of its own");
    free(run);
}

static void sigterm_saves_and_exits_clean(void **state)
{
    (void)state;
    const double moments[] = {0.4, 0.9};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        char dir[300], finished[340];
        snprintf(dir, sizeof dir, "%s/stopped-%zu", temp_dir(), i);
        stop(&k, dir, moments[i]);
        says("stopped by signal 15 after step ");
        says("--resume");
        snprintf(finished, sizeof finished, "%s/finished", dir);
        assert_false(lcl_fs_exists(finished));
        assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 0);
        says("resumed from ");
        assert_true(lcl_fs_exists(finished));
        kills_assert_same(&k, dir);
    }
}

/* Where in a run its evaluations lie depends on the build: looked for from the end. */
static void a_stopped_evaluation_is_made_anew(void **state)
{
    (void)state;
    static struct kills e;
    char dir[300];
    bool met = false;
    kills_set_up(&e, "cache_features: false\neval_episodes: 40\n");
    for (int i = 0; i < 16 && !met; i++) {
        snprintf(dir, sizeof dir, "%s/evaluation-%d", temp_dir(), i);
        long at = (long)((0.97 - 0.03 * i) * (double)e.n_calls);
        int rc = kills_run(&e, dir, at, SIGTERM, NULL);
        if (rc == 128 + SIGTERM) continue; /* all was done: nothing to save any more */
        assert_int_equal(rc, 0);
        met = strstr(e.output, "the evaluation after step ") != NULL;
    }
    assert_true(met);
    assert_int_equal(kills_run(&e, dir, -1, 0, NULL), 0);
    kills_assert_same(&e, dir);
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_END), 0);
    int byte = fgetc(f);
    assert_true(byte != EOF);
    assert_int_equal(fseek(f, at, SEEK_END), 0);
    assert_true(fputc(byte ^ 0x10, f) != EOF);
    assert_int_equal(fclose(f), 0);
}

static void damaged_newest_falls_back(void **state)
{
    (void)state;
    char dir[300], path[340];
    snprintf(dir, sizeof dir, "%s/damaged", temp_dir());
    stop(&k, dir, 0.8);
    snprintf(path, sizeof path, "%s/last/state.h5", dir);
    flip_byte(path, -3000);
    assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 0);
    says("warning: ");
    says("is passed over: ");
    says("going on from ");
    kills_assert_same(&k, dir);
}

static void nothing_whole_is_an_error(void **state)
{
    (void)state;
    char dir[300], path[600];
    struct dirent *entry;
    snprintf(dir, sizeof dir, "%s/damaged", temp_dir());
    DIR *d = opendir(dir);
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        if (strncmp(entry->d_name, "checkpoint-", 11) != 0) continue;
        snprintf(path, sizeof path, "%s/%s/state.h5", dir, entry->d_name);
        flip_byte(path, -2500);
    }
    closedir(d);
    assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 1);
    says("error: none of the ");
    says("is whole");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_through_its_stages),
        cmocka_unit_test(vision_warm_up_learns_the_classes),
        cmocka_unit_test(resuming_a_finished_run_changes_nothing),
        cmocka_unit_test(added_steps_are_trained),
        cmocka_unit_test(killed_runs_go_on),
        cmocka_unit_test(every_precision_goes_on),
        cmocka_unit_test(a_qformer_goes_on),
        cmocka_unit_test(adapters_go_on),
        cmocka_unit_test(stages_share_a_precision),
        cmocka_unit_test(sigterm_saves_and_exits_clean),
        cmocka_unit_test(a_stopped_evaluation_is_made_anew),
        cmocka_unit_test(damaged_newest_falls_back),
        cmocka_unit_test(nothing_whole_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
