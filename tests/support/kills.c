#include "tests/support/kills.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/rng.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/metrics.h"

static const char stages[] =
    "mm_standardize: true\n"
    "stages:\n"
    "  - {name: warm, task: vision, max_steps: 20, save_steps: 6, logging_steps: 4}\n"
    "  - {name: link, max_steps: 90, save_steps: 7, logging_steps: 5, eval_steps: 15,\n"
    "     data.augment_views: 2, data.supervise: repeats, stop_at_loss: 100, min_steps: 38}\n";

/* The child: stops at its exec, then at each system call. */
static void become_lcl(const char *config, const char *output_dir, const char *log)
{
    char set[340];
    const char *bin = getenv("LCL_BIN");
    bin = bin ? bin : "build/lcl";
    snprintf(set, sizeof set, "output_dir=%s", output_dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
    /* A traced process cannot be searched for leaks. */
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(125);
    execl(bin, bin, "train", config, "--resume", "--set", set, (char *)NULL);
    _exit(127);
}

/* Follows the child to its end; returns the wait status. */
static int trace(pid_t child, long at, int signal_at, long *n_calls)
{
    int status;
    long calls = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSTOPPED(status))
        ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    while (WIFSTOPPED(status)) {
        int pass_on = WSTOPSIG(status);
        if (pass_on == (SIGTRAP | 0x80)) {
            if (calls++ == at) kill(child, signal_at);
            pass_on = 0;
        } else if (pass_on == SIGTRAP) { /* the exec itself */
            pass_on = 0;
        }
        /* Where it is gone already (killed just now), the wait tells so. */
        if (ptrace(PTRACE_SYSCALL, child, NULL, pass_on) != 0 && errno != ESRCH)
            fail_msg("cannot go on tracing: %s", strerror(errno));
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    if (n_calls) *n_calls = calls;
    return status;
}

int kills_run(struct kills *k, const char *output_dir, long at, int signal_at, long *n_calls)
{
    char log[300], *text;
    size_t size;
    snprintf(log, sizeof log, "%s/train.log", temp_dir());
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) become_lcl(k->config, output_dir, log);
    int status = trace(child, at, signal_at, n_calls);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 125) {
        print_message("skipped: processes may not be traced here\n");
        skip();
    }
    ASSERT_OK(lcl_fs_read(log, 1 << 24, &text, &size));
    snprintf(k->output, sizeof k->output, "%s", text);
    free(text);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void forget_features(void)
{
    char path[340];
    snprintf(path, sizeof path, "%s.features", tiny_pack());
    ASSERT_OK(lcl_fs_remove_tree(path));
}

void kills_set_up(struct kills *k, const char *keys)
{
    static int n;
    char yaml[4096], name[32];
    (void)tiny_file("base.yaml", tiny_yaml());
    snprintf(yaml, sizeof yaml, "base: base.yaml\n%s%s", keys, stages);
    snprintf(name, sizeof name, "run-%d.yaml", n);
    snprintf(k->config, sizeof k->config, "%s", tiny_file(name, yaml));
    snprintf(k->straight, sizeof k->straight, "%s/straight-%d", temp_dir(), n++);
    int rc = kills_run(k, k->straight, -1, 0, &k->n_calls);
    if (rc != 0) fail_msg("exit status %d:\n%s", rc, k->output);
}

static void assert_same_dataset(const struct lcl_h5 *a, const struct lcl_h5 *b, const char *name)
{
    void *x = NULL, *y = NULL;
    uint64_t n = 0, m = 0;
    struct lcl_h5_set set;
    ASSERT_OK(lcl_h5_set_open(a, name, &set));
    ASSERT_OK(lcl_h5_read_alloc(a, name, set.type, 1 << 26, &x, &n));
    ASSERT_OK(lcl_h5_read_alloc(b, name, set.type, 1 << 26, &y, &m));
    lcl_h5_set_close(&set);
    assert_int_equal(n, m);
    if (memcmp(x, y, n * lcl_h5_type_bytes(set.type)) != 0)
        fail_msg("%s and %s differ in %s", a->path, b->path, name);
    free(x);
    free(y);
}

void kills_assert_same_state(const char *one, const char *other)
{
    char path[2][340], **names[2];
    const char *dirs[2] = {one, other};
    size_t n[2];
    int compared = 0;
    struct lcl_h5 f[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/last/state.h5", dirs[i]);
        ASSERT_OK(lcl_h5_open(path[i], false, &f[i]));
        ASSERT_OK(lcl_h5_list_datasets(&f[i], &names[i], &n[i]));
    }
    assert_int_equal(n[0], n[1]);
    for (size_t i = 0; i < n[0]; i++) {
        assert_string_equal(names[0][i], names[1][i]);
        if (strncmp(names[0][i], "/params/", 8) != 0 && strncmp(names[0][i], "/adam/", 6) != 0 &&
            strcmp(names[0][i], "/run/neighbors") != 0)
            continue;
        assert_same_dataset(&f[0], &f[1], names[0][i]);
        compared++;
    }
    assert_true(compared > 40);
    for (int i = 0; i < 2; i++) {
        lcl_fs_list_free(names[i], n[i]);
        lcl_h5_discard(&f[i]);
    }
}

static bool same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static void assert_same_metrics(const char *one, const char *other)
{
    struct lcl_metrics_table t[2];
    const char *dirs[2] = {one, other};
    for (int i = 0; i < 2; i++) {
        char path[340];
        snprintf(path, sizeof path, "%s/metrics.jsonl", dirs[i]);
        ASSERT_OK(lcl_metrics_load(path, &t[i]));
    }
    for (size_t i = 0; i < t[0].n && i < t[1].n; i++) {
        const struct lcl_metrics_row *a = &t[0].rows[i], *b = &t[1].rows[i];
        bool same = strcmp(a->kind, b->kind) == 0 && strcmp(a->stage, b->stage) == 0 &&
                    a->step == b->step && same_number(a->loss, b->loss) &&
                    same_number(a->label_accuracy, b->label_accuracy) &&
                    same_number(a->grad_norm, b->grad_norm) && same_number(a->lr, b->lr) &&
                    same_number(a->greedy, b->greedy) && same_number(a->shots, b->shots) &&
                    same_number(a->likelihood, b->likelihood) &&
                    same_number(a->new_share, b->new_share) && same_number(a->steps, b->steps);
        if (!same)
            fail_msg("%s, line %zu: %s of step %lld, not %s of step %lld (or other numbers)", other,
                     i + 1, b->kind, (long long)b->step, a->kind, (long long)a->step);
    }
    if (t[0].n != t[1].n) fail_msg("%s has %zu lines of metrics, not %zu", other, t[1].n, t[0].n);
    lcl_metrics_table_free(&t[0]);
    lcl_metrics_table_free(&t[1]);
}

void kills_assert_same(const struct kills *k, const char *output_dir)
{
    kills_assert_same_state(k->straight, output_dir);
    assert_same_metrics(k->straight, output_dir);
}

/* Ended before it was done: killed, or asked to end (before it listens, that kills, too). */
static bool was_stopped(const struct kills *k, int rc)
{
    return rc == 128 + SIGKILL || rc == 128 + SIGTERM ||
           (rc == 0 && strstr(k->output, "stopped by signal"));
}

void kills_many(struct kills *k, int n, uint64_t seed)
{
    struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_TEST, 0, 0);
    int kills = 0, stops = 0;
    for (int run = 0; kills < n; run++) {
        char dir[300];
        bool stopped = true;
        int rc = 0;
        snprintf(dir, sizeof dir, "%s/killed-%d", temp_dir(), run);
        forget_features();
        while (stopped) {
            /* Up to a half of the straight run at a time: it gets on between kills. */
            long at = kills < n ? (long)lcl_rng_below(&rng, (uint32_t)(k->n_calls / 2)) : -1;
            rc = kills_run(k, dir, at, stops % 5 == 4 ? SIGTERM : SIGKILL, NULL);
            stopped = was_stopped(k, rc);
            stops += stopped;
            kills += rc == 128 + SIGKILL;
        }
        if (rc != 0)
            fail_msg("after %d stops (seed %llu): exit status %d:\n%s", stops,
                     (unsigned long long)seed, rc, k->output);
        kills_assert_same(k, dir);
        ASSERT_OK(lcl_fs_remove_tree(dir));
    }
}
