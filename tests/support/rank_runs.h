/* What runs of several ranks must have in common with runs of one, for any list of ranks. */
#ifndef LCL_TESTS_RANK_RUNS_H
#define LCL_TESTS_RANK_RUNS_H

/* Each number of ranks (0 ends the list) with each stage of zero: configs/tests/ranks.yaml gives
 * losses within 1e-5 of one rank's, bytes sent are those of optim/zero.h; deterministic: the same
 * bits. (Of two ranks, only that.) */
void rank_runs_train_the_same(const int *ranks);

#endif
