/* Work outside of steps that ranks share: evaluations, features, class vectors. What is asked for
 * is cut in pieces by its size alone, piece i is made by rank i mod N, and all ranks then hold all
 * of it in its order: the same bytes for every N. A communicator NULL is a single rank. */
#ifndef LCL_TRAIN_SHARE_H
#define LCL_TRAIN_SHARE_H

#include "core/comm.h"

/* Whether piece i is this rank's. */
static inline bool lcl_share_is_mine(const struct lcl_comm *c, int64_t i)
{
    return i % lcl_comm_size(c) == lcl_comm_rank(c);
}

/* data holds n elements of `bytes` each, a piece `each` of them (the last one what is left), of
 * which this rank has filled in its own; returns with those of all ranks. Called by all ranks with
 * the same numbers. LCL_MEMORY, and errors of messages. */
LCL_CHECKED lcl_status lcl_share_gather(struct lcl_comm *c, const char *what, void *data,
                                        size_t bytes, int64_t each, int64_t n);
/* Once each rank has done its part, with what came of it: LCL_INTERRUPTED on all ranks, and
 * lcl_stop_signal set, where any says so. Other errors are handed on at once, without the other
 * ranks: their verb ends them. */
LCL_CHECKED lcl_status lcl_share_agree(struct lcl_comm *c, lcl_status mine);

#endif
