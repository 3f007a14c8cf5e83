/* The ranks' GPUs: which one each takes, that no two take the same, and what moves their data. */
#ifndef LCL_TRAIN_RANKS_GPU_H
#define LCL_TRAIN_RANKS_GPU_H

#include "core/comm.h"
#include "core/ops.h"

enum { LCL_BUS_BYTES = 32 };

/* The GPU of a rank: device_number where it is given (not below 0), else local_rank, the rank's
 * number on its host; modulo how many there are, for launchers that let each rank see its own
 * alone. */
int lcl_gpu_of_rank(int64_t device_number, int local_rank, int n_gpus);

/* bus: this rank's GPU (lcl_cuda_bus_id). Gathers all ranks'; *shared: two of them on one host have
 * the same, which is LCL_CONFIG, on all ranks, unless `share`. comm NULL: nothing is shared. */
LCL_CHECKED lcl_status lcl_gpu_claim(struct lcl_comm *comm, const char *bus, bool share,
                                     bool *shared);
/* The same of lists: the first two ranks of one host with one GPU. */
bool lcl_gpu_is_shared(const char (*host)[LCL_HOST_BYTES], const char (*bus)[LCL_BUS_BYTES], int n,
                       int *first, int *second);

/* How ranks' gradients and values leave ex, a GPU: by NCCL, where it is built in and no GPU is
 * shared (NCCL knows one rank a GPU); else by MPI, once the ops called before the job was submitted
 * are done: lcl_comm_submit() then waits for them. Called by all ranks on the thread that calls
 * ex's ops; once more for a device that is opened later. comm NULL: nothing. */
LCL_CHECKED lcl_status lcl_gpu_attach(struct lcl_comm *comm, struct lcl_exec *ex, bool shared);
/* Before ex is closed. Nothing where it is not attached. */
void lcl_gpu_detach(struct lcl_comm *comm, const struct lcl_exec *ex);

#endif
