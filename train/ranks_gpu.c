#include "train/ranks_gpu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "train/comm_nccl.h"

int lcl_gpu_of_rank(int64_t device_number, int local_rank, int n_gpus)
{
    if (device_number >= 0) return (int)device_number;
    return n_gpus > 0 ? local_rank % n_gpus : 0;
}

bool lcl_gpu_is_shared(const char (*host)[LCL_HOST_BYTES], const char (*bus)[LCL_BUS_BYTES], int n,
                       int *first, int *second)
{
    for (*second = 1; *second < n; ++*second)
        for (*first = 0; *first < *second; ++*first)
            if (!strcmp(host[*first], host[*second]) && !strcmp(bus[*first], bus[*second]))
                return true;
    return false;
}

lcl_status lcl_gpu_claim(struct lcl_comm *comm, const char *bus, bool share, bool *shared)
{
    const int n = lcl_comm_size(comm);
    int first, second;
    *shared = false;
    if (!comm) return LCL_OK;
    char mine[LCL_BUS_BYTES] = "", (*all)[LCL_BUS_BYTES] = calloc((size_t)n, sizeof *all);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a list of GPUs");
    snprintf(mine, sizeof mine, "%s", bus);
    lcl_status status = lcl_comm_all_gather(comm, "ranks' GPUs", mine, sizeof mine, all);
    if (status == LCL_OK)
        *shared = lcl_gpu_is_shared((const char(*)[LCL_HOST_BYTES])comm->host,
                                    (const char(*)[LCL_BUS_BYTES])all, n, &first, &second);
    if (*shared && !share)
        status = LCL_FAIL_HINT(
            LCL_CONFIG,
            "start as many ranks on a host as it has GPUs (mpirun --map-by ppr:8:node) and leave "
            "device_number out; share_gpu: true lets ranks share one, which is slower than one "
            "rank with as many lanes",
            "ranks %d and %d, both on %s, have one GPU: %s", first, second, comm->host[first],
            lcl_printable(all[first]));
    free(all);
    return status;
}

/* ---- MPI's filling, from a GPU's memory: the host reaches it once ops are done ---- */

struct waiting {
    struct lcl_comm *c;
    pthread_mutex_t lock;
    struct lcl_exec *ex; /* NULL: none */
    pthread_t thread;    /* that calls its ops */
};

static lcl_status open_waiting(void **state, int *rank, int *size)
{
    (void)state, (void)rank, (void)size;
    return LCL_OK;
}

static lcl_status begin_waiting(void *state, enum lcl_channel channel, const struct lcl_parcel *m,
                                int n, void **request)
{
    struct waiting *w = state;
    return w->c->pulse->begin(w->c->pulse_state, channel, m, n, request);
}

static lcl_status test_waiting(void *state, void **request)
{
    struct waiting *w = state;
    return w->c->pulse->test(w->c->pulse_state, request);
}

static void abort_waiting(void *state) { (void)state; }

static void close_waiting(void *state)
{
    struct waiting *w = state;
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static lcl_status fence_waiting(void *state, void **mark)
{
    struct waiting *w = state;
    *mark = NULL;
    pthread_mutex_lock(&w->lock);
    bool ours = w->ex && pthread_equal(w->thread, pthread_self());
    lcl_status status = ours ? lcl_exec_sync(w->ex) : LCL_OK;
    pthread_mutex_unlock(&w->lock);
    return status;
}

static const struct lcl_filling by_mpi = {.name = "MPI, from the GPU's memory",
                                          .open = open_waiting,
                                          .begin = begin_waiting,
                                          .test = test_waiting,
                                          .abort = abort_waiting,
                                          .close = close_waiting,
                                          .fence = fence_waiting};

static lcl_status add_waiting(struct lcl_comm *comm, struct lcl_exec *ex)
{
    struct waiting *w = calloc(1, sizeof *w);
    if (!w) return LCL_FAIL(LCL_MEMORY, "no memory for messages between ranks");
    *w = (struct waiting){.c = comm, .ex = ex, .thread = pthread_self()};
    pthread_mutex_init(&w->lock, NULL);
    lcl_status status = lcl_comm_add_filling(comm, &by_mpi, w);
    if (status != LCL_OK) close_waiting(w);
    return status;
}

static void follow_waiting(struct lcl_comm *comm, struct lcl_exec *ex)
{
    struct waiting *w = comm->work_state;
    pthread_mutex_lock(&w->lock);
    w->ex = ex;
    w->thread = pthread_self();
    pthread_mutex_unlock(&w->lock);
}

/* ---- either ---- */

lcl_status lcl_gpu_attach(struct lcl_comm *comm, struct lcl_exec *ex, bool shared)
{
    if (!comm) return LCL_OK;
    if (comm->work == &by_mpi) {
        follow_waiting(comm, ex);
        return LCL_OK;
    }
    if (comm->work != comm->pulse) {
        lcl_nccl_follow(comm, ex);
        return LCL_OK;
    }
    if (lcl_nccl_is_built() && !shared) {
        LCL_TRY(lcl_nccl_add(comm, ex));
        lcl_log_info("gradients and values go by %s", lcl_nccl_describe());
        return LCL_OK;
    }
    lcl_log_info("gradients and values go by MPI, through the host's memory: %s",
                 shared ? "ranks share a GPU" : "this lcl was built without NCCL");
    return add_waiting(comm, ex);
}

void lcl_gpu_detach(struct lcl_comm *comm, const struct lcl_exec *ex)
{
    if (!comm || !ex->device) return;
    if (comm->work == &by_mpi)
        follow_waiting(comm, NULL);
    else
        lcl_nccl_follow(comm, NULL);
}
