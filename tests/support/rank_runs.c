#include "tests/support/rank_runs.h"

#include <math.h>

#include "tests/support/mpi_job.h"
#include "tests/support/support.h"

static const char config[] = "configs/tests/ranks.yaml";
/* What trains there: elements in all, of a layer; layers, lanes. */
enum { ELEMENTS = 209728, LAYER = 43136, LAYERS = 4, LANES = 24 };

static void assert_near(const char *what, double got, double wanted, bool or_more)
{
    if (or_more ? got < wanted : fabs(got - wanted) > 0.01 * wanted)
        fail_msg("%s: %.0f bytes were sent, wanted %.0f", what, got, wanted);
}

/* Sums over ranks: optim/zero.h's formulas times N. In order, ranks that hold no whole nodes of the
 * tree of sums send more than one sum each. In stage 3 a layer's values come before its forward and
 * before its backward, but for the last one's, which are there. Changed values may come with the
 * step after. */
static void assert_traffic(const struct mpi_losses *l, int ranks, int stage, bool in_order)
{
    const double others = (double)(ranks - 1) * sizeof(float), lanes = (double)LANES / ranks;
    const bool whole_nodes = (ranks & (ranks - 1)) == 0;
    const double sums = stage == 0 ? 2 : stage >= 2 && !in_order ? lanes : 1;
    const double passes = lanes * (2 * LAYERS - 1) * LAYER;
    const double values = stage == 0  ? 0
                          : stage < 3 ? ELEMENTS
                                      : ELEMENTS - LAYERS * LAYER + passes;
    char what[80];
    for (int64_t i = 2; i <= l->n; i++) {
        snprintf(what, sizeof what, "%d ranks, zero: %d, step %lld", ranks, stage, (long long)i);
        assert_near(what, l->gradients[i], others * sums * ELEMENTS, in_order && !whole_nodes);
        assert_near(what, l->values[i], others * values, false);
    }
}

static void compare(const struct mpi_losses *one, int ranks, int stage, bool in_order)
{
    char dir[300], words[120];
    static struct mpi_job j;
    static struct mpi_losses got;
    snprintf(dir, sizeof dir, "%s/%d-%d-%d", temp_dir(), ranks, stage, in_order);
    snprintf(words, sizeof words, "--set zero=%d --set deterministic=%s --set save_steps=0", stage,
             in_order ? "true" : "false");
    mpi_job_run(&j, ranks, config, dir, words);
    mpi_losses_read(&got, dir);
    mpi_losses_assert_same(one, &got, 1, in_order ? 0 : 1e-5);
    if (ranks > 1) assert_traffic(&got, ranks, stage, in_order);
}

void rank_runs_train_the_same(const int *ranks)
{
    char dir[300];
    static struct mpi_job j;
    static struct mpi_losses one;
    mpi_job_need_launcher();
    for (int in_order = 0; in_order < 2; in_order++) {
        snprintf(dir, sizeof dir, "%s/alone-%d", temp_dir(), in_order);
        mpi_job_run(&j, 0, config, dir, in_order ? "--set deterministic=true" : "");
        mpi_losses_read(&one, dir);
        assert_int_equal(one.n, 10);
        for (const int *n = ranks; *n; n++)
            for (int stage = 0; stage < (*n == 1 ? 1 : MPI_JOB_STAGES); stage++)
                if (in_order || *n != 2) compare(&one, *n, stage, in_order == 1);
    }
}
