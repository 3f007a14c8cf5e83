/* 100 SIGKILLs of a random rank, or of the launcher, at random moments, half of them while a
 * checkpoint is written: the newest checkpoint always loads, and the run ends as one never killed.
 * And the runs of slow_ranks with 3 and 8 ranks. */
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/rng.h"
#include "tests/support/kills.h"
#include "tests/support/mpi_job.h"
#include "tests/support/rank_runs.h"
#include "tests/support/support.h"

enum { KILLS = 100, LIMIT_S = 60, STEPS_A_KILL = 6 };

static const char config[] = "configs/tests/ranks.yaml";
static struct mpi_job job;

static void sleep_ms(uint32_t ms)
{
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Whether a checkpoint is being written. */
static bool is_saving(const char *dir)
{
    DIR *d = opendir(dir);
    bool saving = false;
    if (!d) return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        saving |= strncmp(e->d_name, "checkpoint-", 11) == 0 && strstr(e->d_name, ".tmp");
    closedir(d);
    return saving;
}

/* Kills one process of the job once it has done step `from` and a moment more, or in the next save
 * from then on; returns the newest checkpoint that was there before. */
static int64_t kill_one(struct lcl_rng *rng, int64_t from, bool in_save)
{
    mpi_job_await_step(&job, from);
    mpi_job_find_ranks(&job);
    sleep_ms(lcl_rng_below(rng, 400));
    for (double begin = lcl_time_s(); in_save && !is_saving(job.dir) && lcl_time_s() - begin < 2;)
        continue;
    const int64_t newest = mpi_job_newest(job.dir);
    const int victim = (int)lcl_rng_below(rng, (uint32_t)job.n_ranks + 1);
    kill(victim == job.n_ranks ? job.launcher : job.rank[victim], SIGKILL);
    return newest;
}

static void start(const char *dir, int ranks, int64_t max_steps)
{
    char words[300];
    snprintf(words, sizeof words,
             "--auto-resume --set max_steps=%lld --set lr_scheduler_type=constant --set "
             "warmup_ratio=0 --set zero=%d "
             "--set save_steps=2 --set deterministic=true --set rank_timeout_s=10",
             (long long)max_steps, ranks % MPI_JOB_STAGES);
    mpi_job_start(&job, ranks, config, dir, words);
}

static void killed_100_times(void **state)
{
    (void)state;
    struct lcl_rng rng = lcl_rng_stream(5, LCL_RNG_TEST, 0, 0);
    char dir[300], straight[300], said[80];
    int in_saves = 0, resumed = 0;
    int64_t at = 0;
    mpi_job_need_launcher();
    snprintf(dir, sizeof dir, "%s/killed", temp_dir());
    for (int i = 0; i < KILLS; i++) {
        start(dir, 2 + i % 3, 1000000);
        const int64_t before = kill_one(&rng, i % 4 ? at + 3 : at + 1, i % 2 == 1);
        in_saves += is_saving(dir);
        (void)mpi_job_end(&job, LIMIT_S);
        /* The job had begun from the newest that the one before left, if it came so far, and its
         * launcher lived to say so. A line of the next step may be the last job's: a kill at the
         * start. */
        if (at > 0 && mpi_job_says(&job, "resumed from") > 0) {
            resumed++;
            snprintf(said, sizeof said, "/checkpoint-%lld: step %lld,", (long long)at,
                     (long long)at);
            if (mpi_job_says(&job, said) != 1)
                mpi_job_fail(&job, "kill %d: it did not go on from step %lld", i, (long long)at);
        }
        at = mpi_job_newest(dir);
        if (at < before)
            fail_msg("kill %d: checkpoint-%lld is lost, %lld is left", i, (long long)before,
                     (long long)at);
        if (at < 0) at = 0;
    }
    assert_true(in_saves > KILLS / 10);
    assert_true(resumed > KILLS / 4);
    start(dir, 4, at + STEPS_A_KILL);
    if (mpi_job_end(&job, LIMIT_S) != 0) mpi_job_fail(&job, "the last run");
    snprintf(straight, sizeof straight, "%s/straight", temp_dir());
    start(straight, 4, at + STEPS_A_KILL);
    if (mpi_job_end(&job, 600) != 0) mpi_job_fail(&job, "the straight run");
    kills_assert_same_state(straight, dir);
}

static void train_the_same_on_3_and_8(void **state)
{
    (void)state;
    static const int ranks[] = {3, 8, 0};
    rank_runs_train_the_same(ranks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(train_the_same_on_3_and_8),
                                       cmocka_unit_test(killed_100_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
