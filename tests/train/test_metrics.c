/* metrics.jsonl: what is logged is read back, a resume leaves no line past its step, damage is
 * named. */
#include "tests/support/support.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "core/fs.h"
#include "train/metrics.h"

static char *path_in(const char *dir, const char *name)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    assert_non_null(path);
    return path;
}

/* A fresh run folder. */
static char *run_dir(void)
{
    static int n;
    char *dir = lcl_strdupf("%s/run%d", temp_dir(), n++);
    assert_non_null(dir);
    return dir;
}

static void log_steps(struct lcl_metrics *m, int64_t from, int64_t to)
{
    for (int64_t step = from; step <= to; step++) {
        const struct lcl_metric values[] = {{"loss", 1.0 / (double)step}, {"lr", 0.003}};
        ASSERT_OK(lcl_metrics_log(m, "train", "2-way", step, values, 2));
    }
}

static struct lcl_metrics_table load(const char *dir)
{
    struct lcl_metrics_table t;
    char *path = path_in(dir, "metrics.jsonl");
    ASSERT_OK(lcl_metrics_load(path, &t));
    free(path);
    return t;
}

static void write_lines(const char *dir, const char *text)
{
    char *path = path_in(dir, "metrics.jsonl");
    ASSERT_OK(lcl_fs_mkdirs(dir));
    ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
    free(path);
}

static void logged_lines_are_read_back(void **state)
{
    (void)state;
    char *dir = run_dir();
    struct lcl_metrics *m;
    ASSERT_OK(lcl_metrics_open(dir, -1, false, &m));
    const struct lcl_metric train[] = {
        {"loss", 1.25}, {"label_accuracy", (double)NAN}, {"memory_bytes", 3e11}, {"extra", 5}};
    const struct lcl_metric eval[] = {{"shots", 16}, {"greedy", 0.9375}};
    ASSERT_OK(lcl_metrics_log(m, "train", "say \"hi\"\n", 10, train, 4));
    ASSERT_OK(lcl_metrics_log(m, "eval", "2-way", 10, eval, 2));
    struct lcl_metrics_table t = load(dir); /* readable while the run goes on */
    lcl_metrics_close(m);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.rows[0].kind, "train");
    assert_string_equal(t.rows[0].stage, "say \"hi\"\n");
    assert_int_equal(t.rows[0].step, 10);
    assert_true(t.rows[0].loss == 1.25);
    assert_true(t.rows[0].memory_bytes == 3e11);
    assert_true(isnan(t.rows[0].label_accuracy)); /* written as null */
    assert_true(t.rows[0].time > 1e9);
    assert_true(t.rows[1].shots == 16);
    assert_true(t.rows[1].greedy == 0.9375);
    lcl_metrics_table_free(&t);
    free(dir);
}

static void resume_drops_lines_past_its_step(void **state)
{
    (void)state;
    char *dir = run_dir();
    struct lcl_metrics *m;
    ASSERT_OK(lcl_metrics_open(dir, -1, false, &m));
    log_steps(m, 1, 9);
    lcl_metrics_close(m);
    ASSERT_OK(lcl_metrics_open(dir, 5, false, &m));
    log_steps(m, 6, 8);
    lcl_metrics_close(m);
    struct lcl_metrics_table t = load(dir);
    assert_int_equal(t.n, 8);
    for (size_t i = 0; i < t.n; i++) assert_int_equal(t.rows[i].step, (int64_t)i + 1);
    lcl_metrics_table_free(&t);
    free(dir);
}

static void a_due_evaluation_comes_anew(void **state)
{
    (void)state;
    char *dir = run_dir();
    write_lines(dir, "{\"kind\":\"eval\",\"stage\":\"a\",\"step\":1}\n"
                     "{\"kind\":\"train\",\"stage\":\"a\",\"step\":2}\n"
                     "{\"kind\":\"eval\",\"stage\":\"a\",\"step\":2}\n"
                     "{\"kind\":\"stage\",\"stage\":\"a\",\"step\":2}\n");
    for (int due = 0; due <= 1; due++) {
        struct lcl_metrics *m;
        ASSERT_OK(lcl_metrics_open(dir, 2, due, &m));
        lcl_metrics_close(m);
        struct lcl_metrics_table t = load(dir);
        assert_int_equal(t.n, due ? 2 : 4);
        assert_string_equal(t.rows[0].kind, "eval");
        assert_string_equal(t.rows[1].kind, "train");
        lcl_metrics_table_free(&t);
    }
    free(dir);
}

static void resume_drops_a_line_cut_short(void **state)
{
    (void)state;
    char *dir = run_dir();
    write_lines(dir, "{\"kind\":\"train\",\"stage\":\"a\",\"step\":1}\n{\"kind\":\"tra");
    struct lcl_metrics *m;
    ASSERT_OK(lcl_metrics_open(dir, 1, false, &m));
    log_steps(m, 2, 2);
    lcl_metrics_close(m);
    struct lcl_metrics_table t = load(dir);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.rows[1].step, 2);
    lcl_metrics_table_free(&t);
    free(dir);
}

static void a_new_run_empties_an_old_file(void **state)
{
    (void)state;
    char *dir = run_dir();
    struct lcl_metrics *m;
    ASSERT_OK(lcl_metrics_open(dir, -1, false, &m));
    log_steps(m, 1, 3);
    lcl_metrics_close(m);
    ASSERT_OK(lcl_metrics_open(dir, -1, false, &m));
    lcl_metrics_close(m);
    struct lcl_metrics_table t = load(dir);
    assert_int_equal(t.n, 0);
    lcl_metrics_table_free(&t);
    free(dir);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    char *dir = run_dir(), *path = path_in(dir, "metrics.jsonl");
    struct lcl_metrics_table t;
    write_lines(dir, "{\"step\":1}\n{\"step\":\"two\"}\n");
    ASSERT_FAILS(lcl_metrics_load(path, &t), LCL_FORMAT, "metrics.jsonl:2:");
    write_lines(dir, "{\"step\":1}\nnot json\n");
    ASSERT_FAILS(lcl_metrics_load(path, &t), LCL_FORMAT, "metrics.jsonl:2:");
    write_lines(dir, "{\"step\":1}\n{\"step\":2}\n{\"st"); /* a run that is still going on */
    ASSERT_OK(lcl_metrics_load(path, &t));
    assert_int_equal(t.n, 2);
    lcl_metrics_table_free(&t);
    free(path);
    free(dir);
}

/* A limit on file sizes stands in for a full disk: both make write() fail. */
static void a_failed_write_is_an_error(void **state)
{
    (void)state;
    char *dir = run_dir();
    struct lcl_metrics *m;
    struct rlimit before, small;
    lcl_status status = LCL_OK;
    ASSERT_OK(lcl_metrics_open(dir, -1, false, &m));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int64_t step = 1; step < 100 && status == LCL_OK; step++) {
        const struct lcl_metric loss = {"loss", 0.5};
        status = lcl_metrics_log(m, "train", "2-way", step, &loss, 1);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, LCL_IO);
    assert_non_null(strstr(lcl_error_message(), dir));
    lcl_metrics_close(m);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logged_lines_are_read_back),
                                       cmocka_unit_test(resume_drops_lines_past_its_step),
                                       cmocka_unit_test(a_due_evaluation_comes_anew),
                                       cmocka_unit_test(resume_drops_a_line_cut_short),
                                       cmocka_unit_test(a_new_run_empties_an_old_file),
                                       cmocka_unit_test(bad_lines_are_named),
                                       cmocka_unit_test(a_failed_write_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
