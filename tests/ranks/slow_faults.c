/* A job of four ranks of which one dies, hangs or fails, or whose launcher is killed or asked to
 * end: it ends within a minute, says where it stood, leaves no process, and goes on. */
#include <signal.h>
#include <unistd.h>

#include "tests/support/kills.h"
#include "tests/support/mpi_job.h"
#include "tests/support/support.h"

enum { LIMIT_S = 60, LONG = 100000 };

static const char config[] = "configs/tests/ranks.yaml";
static struct mpi_job job;

static const char *folder(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

/* Four ranks in the midst of a run with a checkpoint, found. */
static void start(const char *name, const char *more)
{
    char words[300];
    mpi_job_need_launcher();
    snprintf(words, sizeof words,
             "--set max_steps=%d --set zero=1 --set rank_timeout_s=5 --set save_steps=3 "
             "--set deterministic=true %s",
             LONG, more);
    mpi_job_start(&job, 4, config, folder(name), words);
    mpi_job_await_step(&job, 5);
    mpi_job_find_ranks(&job);
    assert_int_equal(job.n_ranks, 4);
}

static void assert_says(const char *text, int times)
{
    if (mpi_job_says(&job, text) != times)
        mpi_job_fail(&job, "\"%s\" is not said %d times", text, times);
}

/* Step, checkpoint and host stand in what a user reads. */
static void assert_says_where(void)
{
    char host[128];
    assert_int_equal(gethostname(host, sizeof host), 0);
    assert_true(mpi_job_says(&job, host) > 0);
    assert_says("of stage train, last good checkpoint: checkpoint-", 1);
}

static void killed_rank(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i += 3) {
        start(i ? "killed-3" : "killed-0", "");
        assert_int_equal(kill(job.rank[i], SIGKILL), 0);
        assert_int_not_equal(mpi_job_end(&job, LIMIT_S), 0);
        assert_says("signal 9", 1); /* mpirun's words, with the rank */
        if (i > 0) assert_says_where();
    }
}

static void stopped_rank(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i += 2) {
        start(i ? "stopped-2" : "stopped-0", "");
        assert_int_equal(kill(job.rank[i], SIGSTOP), 0);
        assert_int_not_equal(mpi_job_end(&job, LIMIT_S), 0);
        assert_says("has given no sign of life for", 1);
        assert_says_where();
    }
}

static void killed_launcher(void **state)
{
    (void)state;
    start("no-launcher", "");
    assert_int_equal(kill(job.launcher, SIGKILL), 0);
    assert_int_equal(mpi_job_end(&job, LIMIT_S), 128 + SIGKILL);
}

static void no_numbers(void **state)
{
    (void)state;
    mpi_job_need_launcher();
    mpi_job_start(&job, 4, config, folder("nan"),
                  "--set max_steps=300 --set learning_rate=10 --set weight_decay=0 "
                  "--set save_steps=4 --set zero=1");
    assert_int_equal(mpi_job_end(&job, LIMIT_S), 1);
    assert_says("error: ", 1);
    assert_says("hint: lower learning_rate", 1);
    assert_says("last good checkpoint: checkpoint-", 1);
}

/* A checkpoint of the step that all ended after, from which the next job goes on. */
static void asked_to_end(void **state)
{
    (void)state;
    static const int asked[] = {SIGUSR1, SIGTERM};
    char words[200], dir[300], said[80];
    for (int i = 0; i < 2; i++) {
        start(i ? "term" : "usr1", "--set save_total_limit=2");
        assert_int_equal(kill(job.launcher, asked[i]), 0);
        int rc = mpi_job_end(&job, LIMIT_S);
        if (asked[i] == SIGUSR1) assert_int_equal(rc, 0);
        const long long newest = mpi_job_newest(job.dir);
        snprintf(said, sizeof said, "stopped by signal %d after step %lld; saved", asked[i],
                 newest);
        assert_says(said, 1);
        assert_says_where();
        snprintf(dir, sizeof dir, "%s", job.dir);
        snprintf(words, sizeof words,
                 "--auto-resume --set max_steps=%lld --set zero=1 --set deterministic=true",
                 newest + 3);
        mpi_job_run(&job, 4, config, dir, words);
        snprintf(said, sizeof said, "step %lld, stage train", newest);
        assert_says(said, 1);
        assert_int_equal(mpi_job_newest(dir), newest + 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_rank), cmocka_unit_test(stopped_rank),
        cmocka_unit_test(killed_launcher), cmocka_unit_test(no_numbers),
        cmocka_unit_test(asked_to_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
