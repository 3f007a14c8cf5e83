/* Messages between ranks' GPUs by ncclSend and ncclRecv. Compiled with LCL_NCCL where the CUDA
 * backend is linked, and nccl.h was found (make NCCL=0 leaves it out).
 *
 * The communicator is a non-blocking one: no call of NCCL holds the courier, which has signs of
 * life to give, so that a rank that never comes is named by its silence. Every call may therefore
 * return before it is done; the next one waits until ncclCommGetAsyncError() says so. */
#include "train/comm_nccl.h"

#if LCL_NCCL
#include <cuda_runtime.h>
#include <nccl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "cuda/cuda.h"

enum { EVENTS = 64 };

struct nccl {
    struct lcl_comm *c; /* MPI's part of it: the id goes around by it */
    int device, rank, size;
    ncclComm_t comm;
    cudaStream_t stream; /* of messages */
    int64_t *greeting;   /* [2] sent and received, in memory of arenas' kind */
    pthread_mutex_t lock;
    cudaStream_t ops;           /* of the device that is followed; NULL: none */
    cudaEvent_t unused[EVENTS]; /* events that nobody waits for */
    int n_unused;
};

struct request {
    enum { WAITING, LAUNCHED, RUNNING } at;
    cudaEvent_t done; /* once it runs */
    int n;
    struct lcl_parcel m[];
};

static const char hint_nccl[] =
    "set NCCL_DEBUG=INFO in the environment of all ranks (mpirun -x NCCL_DEBUG=INFO): NCCL then "
    "says which link, device or call it was; NCCL_SOCKET_IFNAME picks a network";

/* A call that goes on behind its return is no failure. */
static lcl_status check(const struct nccl *n, ncclResult_t code, const char *what)
{
    if (code == ncclSuccess || code == ncclInProgress) return LCL_OK;
    const char *last = ncclGetLastError(n->comm);
    return LCL_FAIL_HINT(LCL_IO, hint_nccl, "%s: %s%s%s", what, ncclGetErrorString(code),
                         last && *last ? ": " : "", last ? last : "");
}

static lcl_status check_cuda(cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return LCL_OK;
    return LCL_FAIL_HINT(LCL_INTERNAL, "LCL_CUDA_SYNC=1 in the environment finds the op at fault",
                         "%s: %s", what, cudaGetErrorString(code));
}

/* Whether NCCL is done with what it was asked for last; its own errors come up here. */
static lcl_status is_ready(const struct nccl *n, bool *ready)
{
    ncclResult_t state = ncclSuccess;
    *ready = false;
    LCL_TRY(check(n, ncclCommGetAsyncError(n->comm, &state), "ncclCommGetAsyncError"));
    LCL_TRY(check(n, state, "NCCL"));
    *ready = state == ncclSuccess;
    return LCL_OK;
}

/* ---- events ---- */

static lcl_status take_event(struct nccl *n, cudaEvent_t *e)
{
    *e = NULL;
    pthread_mutex_lock(&n->lock);
    if (n->n_unused > 0) *e = n->unused[--n->n_unused];
    pthread_mutex_unlock(&n->lock);
    if (*e) return LCL_OK;
    return check_cuda(cudaEventCreateWithFlags(e, cudaEventDisableTiming), "cudaEventCreate");
}

static void give_event(struct nccl *n, cudaEvent_t e)
{
    if (!e) return;
    pthread_mutex_lock(&n->lock);
    bool kept = n->n_unused < EVENTS;
    if (kept) n->unused[n->n_unused++] = e;
    pthread_mutex_unlock(&n->lock);
    if (!kept) cudaEventDestroy(e);
}

static lcl_status fence_nccl(void *state, void **mark)
{
    struct nccl *n = state;
    cudaEvent_t e;
    pthread_mutex_lock(&n->lock);
    cudaStream_t ops = n->ops;
    pthread_mutex_unlock(&n->lock);
    if (!ops) return LCL_OK;
    LCL_TRY(check_cuda(cudaSetDevice(n->device), "cudaSetDevice"));
    LCL_TRY(take_event(n, &e));
    lcl_status status = check_cuda(cudaEventRecord(e, ops), "cudaEventRecord");
    if (status == LCL_OK)
        *mark = e;
    else
        give_event(n, e);
    return status;
}

static lcl_status pass_nccl(void *state, void *mark)
{
    struct nccl *n = state;
    /* It stands for the moment of its last record, so it is free as soon as this returns. */
    cudaError_t code = cudaStreamWaitEvent(n->stream, mark, 0);
    give_event(n, mark);
    return check_cuda(code, "cudaStreamWaitEvent");
}

/* ---- messages ---- */

static lcl_status check_places(const struct nccl *n, const struct lcl_parcel *m, int count)
{
    for (int i = 0; i < count; i++) {
        struct cudaPointerAttributes a;
        LCL_TRY(check_cuda(cudaPointerGetAttributes(&a, m[i].data), "cudaPointerGetAttributes"));
        if (a.type == cudaMemoryTypeUnregistered)
            return LCL_FAIL(LCL_INTERNAL,
                            "a message of %zu bytes between ranks %d and %d lies in the host's "
                            "memory, which NCCL does not reach",
                            m[i].bytes, n->rank, m[i].peer);
    }
    return LCL_OK;
}

static lcl_status launch(struct nccl *n, const struct request *r)
{
    LCL_TRY(check(n, ncclGroupStart(), "ncclGroupStart"));
    lcl_status status = LCL_OK;
    for (int i = 0; i < r->n && status == LCL_OK; i++) {
        const struct lcl_parcel *m = &r->m[i];
        status = m->receive
                     ? check(n, ncclRecv(m->data, m->bytes, ncclUint8, m->peer, n->comm, n->stream),
                             "ncclRecv")
                     : check(n, ncclSend(m->data, m->bytes, ncclUint8, m->peer, n->comm, n->stream),
                             "ncclSend");
    }
    ncclResult_t ended = ncclGroupEnd(); /* in any case: a group is the thread's */
    return status == LCL_OK ? check(n, ended, "ncclGroupEnd") : status;
}

/* Goes on as far as it can without waiting. */
static lcl_status advance(struct nccl *n, struct request *r, bool *done)
{
    bool ready;
    *done = false;
    LCL_TRY(is_ready(n, &ready));
    if (r->at == WAITING && ready) {
        LCL_TRY(launch(n, r));
        r->at = LAUNCHED;
        LCL_TRY(is_ready(n, &ready));
    }
    if (r->at == LAUNCHED && ready) {
        LCL_TRY(take_event(n, &r->done));
        LCL_TRY(check_cuda(cudaEventRecord(r->done, n->stream), "cudaEventRecord"));
        r->at = RUNNING;
    }
    if (r->at != RUNNING) return LCL_OK;
    cudaError_t code = cudaEventQuery(r->done);
    *done = code == cudaSuccess;
    return code == cudaErrorNotReady ? LCL_OK : check_cuda(code, "cudaEventQuery");
}

static lcl_status test_nccl(void *state, void **request)
{
    struct nccl *n = state;
    struct request *r = *request;
    bool done;
    lcl_status status = advance(n, r, &done);
    if (status == LCL_OK && !done) return LCL_OK;
    give_event(n, r->done);
    free(r);
    *request = NULL;
    return status;
}

static lcl_status begin_nccl(void *state, enum lcl_channel channel, const struct lcl_parcel *m,
                             int n_messages, void **request)
{
    struct nccl *n = state;
    (void)channel; /* signs of life go by MPI */
    struct request *r = malloc(sizeof *r + (size_t)n_messages * sizeof *r->m);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for %d messages", n_messages);
    *r = (struct request){.at = WAITING};
    for (int i = 0; i < n_messages; i++)
        if (m[i].bytes) r->m[r->n++] = m[i]; /* both sides know that nothing comes */
    lcl_status status = check_places(n, r->m, r->n);
    if (status != LCL_OK || r->n == 0) {
        free(r);
        return status;
    }
    *request = r;
    return test_nccl(state, request);
}

/* ---- opening and closing ---- */

static void nap(void)
{
    const struct timespec ms = {0, 1000 * 1000};
    nanosleep(&ms, NULL);
}

static void free_nccl(struct nccl *n)
{
    if (n->stream) cudaStreamDestroy(n->stream);
    for (int i = 0; i < n->n_unused; i++) cudaEventDestroy(n->unused[i]);
    cudaFree(n->greeting);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* Rank 0's, by MPI. */
static lcl_status share_id(struct nccl *n, ncclUniqueId *id)
{
    struct lcl_parcel *m = calloc((size_t)n->size, sizeof *m);
    int count = 0;
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory for a list of messages");
    lcl_status status = LCL_OK;
    if (n->rank == 0) status = check(n, ncclGetUniqueId(id), "ncclGetUniqueId");
    for (int r = n->rank == 0 ? 1 : 0; r < (n->rank == 0 ? n->size : 1); r++)
        m[count++] = (struct lcl_parcel){r, n->rank != 0, id, sizeof *id};
    if (status == LCL_OK) status = lcl_comm_exchange(n->c, LCL_TRAFFIC_CONTROL, m, count);
    free(m);
    return status;
}

static lcl_status open_parts(struct nccl *n)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    int least = 0, greatest = 0;
    LCL_TRY(check_cuda(cudaSetDevice(n->device), "cudaSetDevice")); /* of the courier */
    /* Before ops: a message is short, and others wait for it. */
    LCL_TRY(check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                       "cudaDeviceGetStreamPriorityRange"));
    LCL_TRY(check_cuda(cudaStreamCreateWithPriority(&n->stream, cudaStreamNonBlocking, greatest),
                       "cudaStreamCreateWithPriority"));
    LCL_TRY(check_cuda(
        cudaMallocManaged((void **)&n->greeting, 2 * sizeof *n->greeting, cudaMemAttachGlobal),
        "cudaMallocManaged"));
    LCL_TRY(share_id(n, &id));
    config.blocking = 0;
    return check(n, ncclCommInitRankConfig(&n->comm, n->size, id, n->rank, &config),
                 "ncclCommInitRankConfig");
}

static lcl_status open_nccl(void **state, int *rank, int *size)
{
    struct nccl *n = *state;
    n->rank = *rank, n->size = *size;
    lcl_status status = open_parts(n);
    if (status != LCL_OK) free_nccl(n);
    return status;
}

static void abort_nccl(void *state)
{
    struct nccl *n = state;
    /* A dead network may hold it; the process is to end in any case. */
    signal(SIGALRM, SIG_DFL);
    alarm(10);
    ncclCommAbort(n->comm);
}

/* Waits for what NCCL was asked for last; false where that failed or takes too long. */
static bool settles(const struct nccl *n, double end_s)
{
    bool ready = false;
    while (!ready && lcl_time_s() < end_s) {
        if (is_ready(n, &ready) != LCL_OK) return false;
        if (!ready) nap();
    }
    return ready;
}

/* All ranks have said that nothing follows, so this does not wait for long. */
static void close_nccl(void *state)
{
    struct nccl *n = state;
    const double end_s = lcl_time_s() + 10;
    if (settles(n, end_s) && check(n, ncclCommFinalize(n->comm), "ncclCommFinalize") == LCL_OK &&
        settles(n, end_s))
        ncclCommDestroy(n->comm);
    else
        ncclCommAbort(n->comm);
    free_nccl(n);
}

static const struct lcl_filling filling = {.name = "NCCL",
                                           .open = open_nccl,
                                           .begin = begin_nccl,
                                           .test = test_nccl,
                                           .abort = abort_nccl,
                                           .close = close_nccl,
                                           .fence = fence_nccl,
                                           .pass = pass_nccl};

/* Each rank's number to the next one, so that links are made now. */
static lcl_status greet(struct lcl_comm *c, void *ctx)
{
    const struct nccl *n = ctx;
    const int next = (n->rank + 1) % n->size, before = (n->rank + n->size - 1) % n->size;
    const struct lcl_parcel m[] = {{before, true, &n->greeting[1], sizeof *n->greeting},
                                   {next, false, &n->greeting[0], sizeof *n->greeting}};
    n->greeting[0] = n->rank;
    n->greeting[1] = -1;
    LCL_TRY(lcl_comm_exchange(c, LCL_TRAFFIC_VALUES, m, 2));
    if (n->greeting[1] != before)
        return LCL_FAIL_HINT(LCL_IO, hint_nccl, "rank %d sent %lld through NCCL, not its number",
                             before, (long long)n->greeting[1]);
    return LCL_OK;
}

lcl_status lcl_nccl_add(struct lcl_comm *c, const struct lcl_exec *ex)
{
    struct nccl *n = calloc(1, sizeof *n);
    if (!n) return LCL_FAIL(LCL_MEMORY, "no memory for NCCL's state");
    n->c = c;
    n->device = lcl_cuda_number(ex);
    n->ops = lcl_cuda_stream(ex);
    pthread_mutex_init(&n->lock, NULL);
    LCL_TRY(lcl_comm_add_filling(c, &filling, n)); /* n is its own, or freed */
    struct lcl_comm_job job = {.run = greet, .ctx = n, .what = "a first message by NCCL"};
    lcl_comm_submit(c, &job);
    return lcl_comm_wait(c, &job);
}

void lcl_nccl_follow(struct lcl_comm *c, const struct lcl_exec *ex)
{
    if (!c || c->work != &filling) return;
    struct nccl *n = c->work_state;
    pthread_mutex_lock(&n->lock);
    n->ops = ex ? lcl_cuda_stream(ex) : NULL;
    pthread_mutex_unlock(&n->lock);
}

bool lcl_nccl_is_built(void) { return true; }

const char *lcl_nccl_describe(void)
{
    static char text[48];
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess) return "NCCL";
    snprintf(text, sizeof text, "NCCL %d.%d.%d", version / 10000, version / 100 % 100,
             version % 100);
    return text;
}
#else
bool lcl_nccl_is_built(void) { return false; }

const char *lcl_nccl_describe(void) { return "not built in"; }

lcl_status lcl_nccl_add(struct lcl_comm *c, const struct lcl_exec *ex)
{
    (void)c, (void)ex;
    return LCL_FAIL_HINT(LCL_UNSUPPORTED, "build where nvcc, nccl.h and an MPI are found",
                         "this lcl was built without NCCL");
}

void lcl_nccl_follow(struct lcl_comm *c, const struct lcl_exec *ex) { (void)c, (void)ex; }
#endif
