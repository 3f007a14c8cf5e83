/* NCCL's filling of core/comm.h: gradients and values between GPUs. MPI's opens it, and keeps the
 * rest. */
#ifndef LCL_TRAIN_COMM_NCCL_H
#define LCL_TRAIN_COMM_NCCL_H

#include "core/comm.h"
#include "core/ops.h"

/* Whether this program was built with it: nvcc, nccl.h and an MPI were found. */
bool lcl_nccl_is_built(void);
/* "NCCL 2.28.9", or "not built in": for `lcl --version`. */
const char *lcl_nccl_describe(void);

/* From now on c's gradients and values, which lie in memory that ex's GPU reaches (arenas, while it
 * is open), go by NCCL; messages wait for the ops that were called before their job was submitted.
 * Called by all ranks, each with a GPU of its own, on the thread that calls ex's ops; c's second
 * filling until it is closed. A first message goes around all ranks, so what does not connect
 * fails here. LCL_IO with NCCL's words. */
LCL_CHECKED lcl_status lcl_nccl_add(struct lcl_comm *c, const struct lcl_exec *ex);
/* Messages wait for this device's ops from now on; NULL: for none, before it is closed. The GPU is
 * the one that c was opened with. Nothing where c has no NCCL. */
void lcl_nccl_follow(struct lcl_comm *c, const struct lcl_exec *ex);

#endif
