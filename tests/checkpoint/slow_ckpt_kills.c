/* Ranks killed 100 times at random moments, while steps are made and while checkpoints are written
 * behind them: what is left always loads, and no checkpoint that was done is lost. */
#include "tests/support/support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rng.h"
#include "tests/support/ckpt_ranks.h"
#include "tests/support/fake_ranks.h"

struct killed {
    struct ckpt_task task;
    int said; /* a pipe: a byte for each turn between two steps, 'd' where a checkpoint was done */
};

/* Steps without end, a checkpoint begun at every fifth. */
static lcl_status train(struct lcl_comm *c, void *ctx)
{
    const struct killed *k = ctx;
    struct ckpt_task task = k->task;
    struct lcl_checkpoint_saver *s;
    bool was = false;
    LCL_TRY(lcl_checkpoint_saver_open(&s));
    for (int turn = 0;; turn++) {
        LCL_TRY(lcl_checkpoint_poll(s));
        const char word = was && !lcl_checkpoint_is_saving(s) ? 'd' : '.';
        was = lcl_checkpoint_is_saving(s);
        if (lcl_comm_rank(c) == 0 && write(k->said, &word, 1) != 1) _exit(1);
        if (turn % 5 || was) continue;
        task.step++;
        LCL_TRY(ckpt_begin(s, c, &task));
        was = true;
    }
}

static void kill_once(const struct killed *k, int size, int after, int round)
{
    char word, path[512];
    int pipes[2], done = 0;
    struct ckpt_task newest = k->task;
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct killed mine = *k;
        close(pipes[0]);
        mine.said = pipes[1];
        mine.task.step = 1000 * round;
        fake_ranks(size, train, &mine);
        _exit(1);
    }
    close(pipes[1]);
    for (int i = 0; i < after; i++) {
        if (read(pipes[0], &word, 1) != 1) fail_msg("the ranks ended by themselves");
        done += word == 'd';
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(pipes[0]);
    ASSERT_OK(lcl_checkpoint_find(newest.dir, path, sizeof path));
    newest.step = atoi(strrchr(path, '-') + 1);
    /* No more is lost than what came after the last one that was done. */
    if (done > 0 && newest.step < 1000 * round + done)
        fail_msg("round %d: %d were done, the newest is %s", round, done, path);
    fake_ranks(1 + round % 3, ckpt_load, &newest);
}

static void killed_at_any_moment(void **state)
{
    (void)state;
    const int n = 100;
    struct lcl_rng rng = lcl_rng_stream(5, LCL_RNG_TEST, 0, 0);
    char dir[400];
    struct ckpt_table t;
    snprintf(dir, sizeof dir, "%s/killed", temp_dir());
    ASSERT_OK(ckpt_table_make(&t, 4));
    ckpt_table_fill(&t, 700);
    struct killed k = {.task = {.dir = dir, .kind = 4, .async = true, .table = &t}};
    fake_ranks(1, ckpt_save, &k.task);
    for (int i = 1; i <= n; i++)
        kill_once(&k, 1 + (int)lcl_rng_below(&rng, 4), 1 + (int)lcl_rng_below(&rng, 60), i);
    ckpt_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_at_any_moment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
