/* The ranks of a run: which launcher started this process, if any, and the communicator of its job.
 * `lcl` started alone never touches MPI. */
#ifndef LCL_TRAIN_RANKS_H
#define LCL_TRAIN_RANKS_H

#include "core/comm.h"
#include "core/config.h"
#include "train/metrics.h"

enum lcl_launcher {
    LCL_LAUNCHER_NONE,
    LCL_LAUNCHER_OPEN_MPI,
    LCL_LAUNCHER_PMI,
    LCL_LAUNCHER_SLURM
};

/* What a launcher's environment says of this process. */
struct lcl_launch {
    enum lcl_launcher launcher;
    int rank, size;             /* of the job */
    int local_rank, local_size; /* on this host; -1: the launcher does not say */
};
/* Open MPI (OMPI_COMM_WORLD_*), MPICH and Intel MPI (PMI_*), a step of srun with several tasks
 * (SLURM_*). `get` is getenv, or stands for it. LCL_CONFIG where the numbers make no sense. */
LCL_CHECKED lcl_status lcl_launch_detect(const char *(*get)(const char *name),
                                         struct lcl_launch *l);
LCL_CHECKED lcl_status lcl_launch_detect_here(struct lcl_launch *l); /* by getenv */
const char *lcl_launcher_name(enum lcl_launcher l);

/* NULL where this program was built without one. */
const struct lcl_filling *lcl_filling_mpi(void);
/* "Open MPI v4.1.4", or "not built in": for `lcl --version`. */
const char *lcl_mpi_describe(void);

/* Opens the communicator of the launcher's job; *comm is NULL where there is none, or a single
 * rank. Other ranks than the first print warnings alone. Owned by the caller. */
LCL_CHECKED lcl_status lcl_ranks_open(struct lcl_comm **comm);
/* Waits for all ranks. */
void lcl_ranks_close(struct lcl_comm *comm);
/* For this process, between lcl_ranks_open() and _close(); NULL: none. */
struct lcl_comm *lcl_ranks(void);

/* Takes over the run's timeouts. */
void lcl_ranks_configure(const struct lcl_config *c);

/* Threads of this rank where the config leaves the number to us: the host's processors, shared by
 * the ranks on it, at least 1. */
int lcl_ranks_threads(const struct lcl_comm *comm);
/* Rank 0 prints a table: host, rank, device, memory, NUMA node. Called by all. */
LCL_CHECKED lcl_status lcl_ranks_print(struct lcl_comm *comm, const char *device);

/* lcl_metrics_log() of a "train" line about `steps` steps, by all ranks together: with what all of
 * them sent, a step, since the last such line. comm NULL: without. */
LCL_CHECKED lcl_status lcl_ranks_log(struct lcl_comm *comm, int64_t steps, struct lcl_metrics *m,
                                     const char *stage, int64_t step,
                                     const struct lcl_metric *values, size_t n);

#endif
