#include "tests/support/trace.h"

#include <jansson.h>
#include <math.h>

#include "core/log.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/loop.h"
#include "train/metrics.h"

struct range {
    int process, thread;
    double begin, end; /* microseconds, whole nanoseconds */
    const char *name;
};

static const double rounding = 0.0005; /* of a sum of two decimal numbers; times are to 0.001 */

/* By thread, then by time; the longer of two that begin together is around the other. */
static int outer_first(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->process != y->process) return x->process - y->process;
    if (x->thread != y->thread) return x->thread - y->thread;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end);
}

static size_t read_ranges(json_t *events, struct range *v, size_t most)
{
    size_t n = 0, i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0) continue;
        assert_true(n < most);
        double begin = json_number_value(json_object_get(e, "ts"));
        v[n++] = (struct range){(int)json_integer_value(json_object_get(e, "pid")),
                                (int)json_integer_value(json_object_get(e, "tid")), begin,
                                begin + json_number_value(json_object_get(e, "dur")),
                                json_string_value(json_object_get(e, "name"))};
        assert_true(v[n - 1].end >= begin);
    }
    qsort(v, n, sizeof *v, outer_first);
    return n;
}

static void check_nesting(const struct range *v, size_t n)
{
    const struct range *open[64];
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (v[i].thread != v[i - 1].thread || v[i].process != v[i - 1].process))
            depth = 0;
        while (depth > 0 && open[depth - 1]->end <= v[i].begin + rounding) depth--;
        if (depth > 0 && v[i].end > open[depth - 1]->end + rounding)
            fail_msg("%s (%.3f to %.3f) overlaps %s (%.3f to %.3f)", v[i].name, v[i].begin,
                     v[i].end, open[depth - 1]->name, open[depth - 1]->begin, open[depth - 1]->end);
        assert_true(depth < 64);
        open[depth++] = &v[i];
    }
}

/* An op's name ends in its direction. */
static bool is_op(const char *name)
{
    const char *end = strrchr(name, '_');
    return end && (strcmp(end, "_fwd") == 0 || strcmp(end, "_bwd") == 0);
}

void trace_check(const char *dir, int first, int n, bool device)
{
    enum { MOST = 200000 };
    char path[400], name[32];
    json_error_t error;
    snprintf(path, sizeof path, "%s/trace.json", dir);
    json_t *trace = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!trace) fail_msg("%s:%d: %s", path, error.line, error.text);
    struct range *v = malloc(MOST * sizeof *v);
    assert_non_null(v);
    size_t count = read_ranges(json_object_get(trace, "traceEvents"), v, MOST);
    int steps[3] = {0}, ops[3] = {0}, inside[3] = {0};
    check_nesting(v, count);
    for (size_t i = 0; i < count; i++) {
        int process = v[i].process;
        assert_true(process == 1 || process == 2);
        if (strncmp(v[i].name, "step ", 5) == 0) {
            snprintf(name, sizeof name, "step %d", first + steps[process]++);
            assert_string_equal(v[i].name, name);
        }
        if (!is_op(v[i].name)) continue;
        ops[process]++;
        for (size_t k = 0; k < count; k++)
            inside[process] += v[k].process == process && strncmp(v[k].name, "step ", 5) == 0 &&
                               v[i].begin >= v[k].begin - rounding &&
                               v[i].end <= v[k].end + rounding;
    }
    for (int process = 1; process <= 1 + device; process++) {
        assert_int_equal(steps[process], n);
        assert_true(ops[process] > 20 * n);
        assert_int_equal(inside[process], ops[process]);
    }
    assert_int_equal(ops[2], device ? ops[1] : 0);
    free(v);
    json_decref(trace);
}

const char *trace_train(const char *words, int profile, double *losses, int n)
{
    static char dir[300];
    static int number;
    struct lcl_metrics_table t;
    struct lcl_run_config *run = calloc(1, sizeof *run);
    struct lcl_train_options o = {.profile = profile};
    char all[1024], path[340];
    bool interrupted = true;
    snprintf(dir, sizeof dir, "%s/traced-%d", temp_dir(), number++);
    snprintf(all, sizeof all, "output_dir=%s logging_steps=1 max_steps=%d %s", dir, n, words);
    assert_non_null(run);
    run->n_stages = 1;
    tiny_config(&run->stages[0], all);
    enum lcl_log_level level = lcl_log_get_level();
    lcl_log_set_level(LCL_LOG_QUIET);
    ASSERT_OK(lcl_train_run(run, &o, &interrupted));
    lcl_log_set_level(level);
    assert_false(interrupted);
    free(run);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    ASSERT_OK(lcl_metrics_load(path, &t));
    int rows = 0;
    for (size_t i = 0; i < t.n; i++)
        if (strcmp(t.rows[i].kind, "train") == 0 && rows < n) losses[rows++] = t.rows[i].loss;
    assert_int_equal(rows, n);
    lcl_metrics_table_free(&t);
    return dir;
}
