#include "tests/nccl/stub.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"

enum { SLOW = 3, KINDS = 64, BLOCKS = 1024 };

struct message {
    struct message *next;
    int from, to;
    bool receive, done;
    void *data;
    size_t bytes;
};
struct group {
    int n;
    bool posted;
    struct message m[64];
};
struct item {
    struct item *next;
    enum { OP, RECORD, WAIT, GROUP } kind;
    struct moment *moment;
    struct group *group;
    void *y, *x; /* of OP: y = x, or a value where there is none */
    int value;
    size_t bytes;
};
struct CUstream_st {
    struct item *first, *last;
};
/* An event's record: the event may be recorded again while a stream still waits for this one. */
struct moment {
    struct CUstream_st *stream;
    bool reached;
    int asked, holders;
};
struct CUevent_st {
    struct moment *last;
};
struct ncclComm {
    int rank, size;
    uint32_t world;
    pthread_t thread;
    int busy; /* questions until what was asked for last is done */
    bool finalized;
    struct group *launching; /* on its way to the stream */
    struct CUstream_st *stream;
};

static struct stub {
    pthread_mutex_t lock;
    uint32_t worlds, present; /* ids made; ranks that are there, of the last */
    struct message *waiting;
    struct stub_log log[STUB_RANKS];
    char fault[256];
    int left;
    const char *call[KINDS]; /* names that were called, and how often */
    int count[KINDS];
    const char *fails;
    int fails_from;
    bool broken;
    struct {
        char *at;
        size_t bytes;
    } block[BLOCKS];
} w = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    int device, depth;
    struct group *group;
    struct ncclComm *comm;
    struct CUstream_st *stream;
} self = {.device = -1};

static void fault(const char *fmt, ...) LCL_PRINTF(1, 2);
static void fault(const char *fmt, ...)
{
    va_list args;
    if (w.fault[0]) return;
    va_start(args, fmt);
    vsnprintf(w.fault, sizeof w.fault, fmt, args);
    va_end(args);
}

/* Locks; true where the call is to fail. */
static bool enter(const char *call)
{
    int i = 0;
    pthread_mutex_lock(&w.lock);
    while (w.call[i] && strcmp(w.call[i], call) != 0) i++;
    w.call[i] = call;
    return w.count[i]++ >= w.fails_from && w.fails && !strcmp(w.fails, call);
}

static cudaError_t leave(cudaError_t code)
{
    pthread_mutex_unlock(&w.lock);
    return code;
}

static ncclResult_t leave_nccl(ncclResult_t code)
{
    pthread_mutex_unlock(&w.lock);
    return code;
}

/* ---- streams ---- */

static void *made(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p) abort();
    w.left++;
    return p;
}

static void gone(void *p)
{
    free(p);
    w.left--;
}

static void let_go(struct moment *m)
{
    if (m && --m->holders == 0) gone(m);
}

static struct item *push(struct CUstream_st *s, int kind)
{
    struct item *item = made(sizeof *item);
    item->kind = kind;
    if (s->last)
        s->last->next = item;
    else
        s->first = item;
    s->last = item;
    return item;
}

static void pop(struct CUstream_st *s)
{
    struct item *item = s->first;
    s->first = item->next;
    if (!s->first) s->last = NULL;
    let_go(item->moment);
    if (item->x) gone(item->x);
    gone(item);
}

/* Meets the oldest that fits, or waits for one. */
static void post(struct message *m)
{
    struct message **at = &w.waiting;
    for (; *at; at = &(*at)->next) {
        struct message *o = *at;
        if (o->from != m->from || o->to != m->to || o->receive == m->receive) continue;
        if (o->bytes != m->bytes)
            fault("rank %d sends rank %d other bytes than it expects: %zu, %zu", m->from, m->to,
                  o->bytes, m->bytes);
        else
            memcpy(m->receive ? m->data : o->data, m->receive ? o->data : m->data, m->bytes);
        *at = o->next;
        m->done = o->done = true;
        return;
    }
    m->next = NULL;
    *at = m;
}

static bool group_is_done(struct group *g)
{
    bool done = true;
    for (int i = 0; i < g->n && !g->posted; i++) post(&g->m[i]);
    g->posted = true;
    for (int i = 0; i < g->n; i++) done = done && g->m[i].done;
    return done;
}

/* Runs what it can, up to the moment that is waited for (NULL: all). */
static void progress(struct CUstream_st *s, const struct moment *until)
{
    while (s->first && !(until && until->reached)) {
        struct item *i = s->first;
        if (i->kind == OP && i->x) memcpy(i->y, i->x, i->bytes);
        if (i->kind == OP && !i->x) memset(i->y, i->value, i->bytes);
        if (i->kind == RECORD) i->moment->reached = true;
        if (i->kind == WAIT && !i->moment->reached) {
            if (i->moment->asked++ < SLOW) return;
            progress(i->moment->stream, i->moment);
        }
        if (i->kind == GROUP) {
            if (!group_is_done(i->group)) return;
            gone(i->group);
        }
        pop(s);
    }
}

static void drop_stream(struct CUstream_st *s)
{
    while (s->first) {
        if (s->first->kind == GROUP) gone(s->first->group);
        pop(s);
    }
    gone(s);
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "a fault of the device";
}

cudaError_t cudaSetDevice(int device)
{
    if (enter("cudaSetDevice")) return leave(cudaErrorUnknown);
    self.device = device;
    return leave(cudaSuccess);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    if (enter("cudaDeviceGetStreamPriorityRange")) return leave(cudaErrorUnknown);
    *least = 0, *greatest = -5;
    return leave(cudaSuccess);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority)
{
    if (enter("cudaStreamCreateWithPriority")) return leave(cudaErrorUnknown);
    if (flags != cudaStreamNonBlocking || priority != -5) fault("a stream of another kind");
    if (self.device < 0) fault("a stream without a device");
    *stream = made(sizeof **stream);
    return leave(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    enter("cudaStreamDestroy");
    drop_stream(stream);
    return leave(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    (void)flags;
    if (enter("cudaStreamWaitEvent")) return leave(cudaErrorUnknown);
    if (event->last) {
        push(stream, WAIT)->moment = event->last;
        event->last->holders++;
    }
    return leave(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    if (enter("cudaEventCreate")) return leave(cudaErrorUnknown);
    if (self.device < 0 || flags != cudaEventDisableTiming) fault("an event without a device");
    *event = made(sizeof **event);
    return leave(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (enter("cudaEventRecord")) return leave(cudaErrorUnknown);
    let_go(event->last);
    event->last = made(sizeof *event->last);
    *event->last = (struct moment){.stream = stream, .holders = 2};
    push(stream, RECORD)->moment = event->last;
    return leave(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (enter("cudaEventQuery")) return leave(cudaErrorUnknown);
    if (!event->last) return leave(cudaSuccess);
    if (!event->last->reached) progress(event->last->stream, event->last);
    return leave(event->last->reached ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    enter("cudaEventDestroy");
    let_go(event->last);
    gone(event);
    return leave(cudaSuccess);
}

cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned int flags)
{
    int i = 0;
    (void)flags;
    if (enter("cudaMallocManaged")) return leave(cudaErrorUnknown);
    while (i < BLOCKS && w.block[i].at) i++;
    if (i == BLOCKS) abort();
    w.block[i].at = *p = made(bytes ? bytes : 1);
    w.block[i].bytes = bytes;
    return leave(cudaSuccess);
}

cudaError_t cudaFree(void *p)
{
    enter("cudaFree");
    for (int i = 0; i < BLOCKS; i++)
        if (p && w.block[i].at == p) {
            w.block[i].at = NULL;
            gone(p);
        }
    return leave(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    if (enter("cudaPointerGetAttributes")) return leave(cudaErrorUnknown);
    *a = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered};
    for (int i = 0; i < BLOCKS; i++)
        if (w.block[i].at && (const char *)p >= w.block[i].at &&
            (const char *)p < w.block[i].at + w.block[i].bytes)
            a->type = cudaMemoryTypeManaged;
    return leave(cudaSuccess);
}

/* ---- NCCL ---- */

static void check_use(const struct ncclComm *c, const char *call)
{
    if (!pthread_equal(c->thread, pthread_self())) fault("%s by another thread", call);
    if (c->busy > 0) fault("%s before the last call was done", call);
    if (c->finalized) fault("%s after ncclCommFinalize", call);
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclRemoteError ? "remote process exited" : "unhandled system error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "NET/Stub : a cable was pulled";
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = 22809;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    if (enter("ncclGetUniqueId")) return leave_nccl(ncclSystemError);
    memset(id, 0, sizeof *id);
    w.worlds++;
    w.present = 0;
    memcpy(id->internal, &w.worlds, sizeof w.worlds);
    return leave_nccl(ncclSuccess);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    if (enter("ncclCommInitRankConfig")) return leave_nccl(ncclSystemError);
    struct ncclComm *c = made(sizeof *c);
    memcpy(&c->world, id.internal, sizeof c->world);
    if (c->world != w.worlds) fault("rank %d has another id", rank);
    if (self.device < 0) fault("a communicator without a device");
    if (config->blocking != 0) fault("a blocking communicator");
    c->rank = rank, c->size = size;
    c->thread = pthread_self();
    c->busy = SLOW;
    w.present++;
    *comm = c;
    return leave_nccl(ncclInProgress);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *error)
{
    *error = ncclSuccess;
    if (enter("ncclCommGetAsyncError")) return leave_nccl(ncclSystemError);
    if (!pthread_equal(c->thread, pthread_self())) fault("a question by another thread");
    bool all = w.present == (uint32_t)c->size;
    if (c->busy > 0 && all) c->busy--;
    if (c->busy == 0 && c->launching) {
        push(c->stream, GROUP)->group = c->launching;
        c->launching = NULL;
    }
    if (c->busy > 0) *error = ncclInProgress;
    if (w.broken) *error = ncclRemoteError;
    return leave_nccl(ncclSuccess);
}

static ncclResult_t drop_comm(ncclComm_t c)
{
    if (!pthread_equal(c->thread, pthread_self())) fault("an end by another thread");
    if (c->launching) gone(c->launching);
    gone(c);
    return leave_nccl(ncclSuccess);
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    if (enter("ncclCommFinalize")) return leave_nccl(ncclSystemError);
    check_use(c, "ncclCommFinalize");
    c->finalized = true;
    c->busy = SLOW;
    return leave_nccl(ncclInProgress);
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    enter("ncclCommDestroy");
    if (c->busy > 0 || !c->finalized) fault("ncclCommDestroy before all was finalized");
    return drop_comm(c);
}

ncclResult_t ncclCommAbort(ncclComm_t c)
{
    enter("ncclCommAbort");
    return drop_comm(c);
}

ncclResult_t ncclGroupStart(void)
{
    if (enter("ncclGroupStart")) return leave_nccl(ncclInternalError);
    if (self.depth++ > 0) fault("a group within a group");
    self.group = made(sizeof *self.group);
    self.comm = NULL;
    return leave_nccl(ncclSuccess);
}

ncclResult_t ncclGroupEnd(void)
{
    bool fails = enter("ncclGroupEnd");
    if (--self.depth != 0) fault("the end of a group that had not begun");
    if (self.comm && !fails) {
        self.comm->launching = self.group;
        self.comm->stream = self.stream;
        self.comm->busy = SLOW;
        w.log[self.comm->rank].groups++;
    } else if (self.group) {
        gone(self.group);
    }
    self.group = NULL;
    return leave_nccl(fails ? ncclInternalError : ncclInProgress);
}

static ncclResult_t add(const char *call, bool receive, void *data, size_t count, int peer,
                        ncclComm_t c, cudaStream_t stream)
{
    if (enter(call)) return leave_nccl(ncclSystemError);
    check_use(c, call);
    if (self.depth != 1) {
        fault("%s outside of a group", call);
        return leave_nccl(ncclSuccess);
    }
    struct group *g = self.group;
    struct stub_log *l = &w.log[c->rank];
    if (g->n == sizeof g->m / sizeof *g->m || l->n == STUB_CALLS) abort();
    self.comm = c;
    self.stream = stream;
    g->m[g->n++] = (struct message){.from = receive ? peer : c->rank,
                                    .to = receive ? c->rank : peer,
                                    .receive = receive,
                                    .data = data,
                                    .bytes = count};
    l->m[l->n++] = (struct stub_message){peer, receive, count, l->groups};
    return leave_nccl(ncclSuccess);
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    (void)type;
    return add("ncclSend", false, (void *)data, count, peer, comm, stream);
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    (void)type;
    return add("ncclRecv", true, data, count, peer, comm, stream);
}

/* ---- for tests ---- */

void stub_reset(void)
{
    pthread_mutex_lock(&w.lock);
    w.waiting = NULL;
    w.fault[0] = '\0';
    w.fails = NULL;
    w.broken = false;
    w.fails_from = 0;
    memset(w.log, 0, sizeof w.log);
    memset(w.call, 0, sizeof w.call);
    memset(w.count, 0, sizeof w.count);
    pthread_mutex_unlock(&w.lock);
}

struct stub_log *stub_log_of(int rank) { return &w.log[rank]; }
const char *stub_fault(void) { return w.fault; }
int stub_left(void) { return w.left; }

int stub_count(const char *call)
{
    for (int i = 0; i < KINDS && w.call[i]; i++)
        if (!strcmp(w.call[i], call)) return w.count[i];
    return 0;
}

void stub_fail(const char *call, int nth)
{
    pthread_mutex_lock(&w.lock);
    w.fails = call;
    w.fails_from = nth;
    pthread_mutex_unlock(&w.lock);
}

void stub_break_links(void)
{
    pthread_mutex_lock(&w.lock);
    w.broken = true;
    pthread_mutex_unlock(&w.lock);
}

struct device {
    int number;
    struct CUstream_st *ops;
};

void stub_device_open(struct lcl_exec *ex, int number)
{
    pthread_mutex_lock(&w.lock);
    struct device *d = made(sizeof *d);
    *d = (struct device){number, made(sizeof *d->ops)};
    pthread_mutex_unlock(&w.lock);
    *ex = (struct lcl_exec){.device = d};
}

void stub_device_close(struct lcl_exec *ex)
{
    struct device *d = ex->device;
    stub_op_finish(ex);
    pthread_mutex_lock(&w.lock);
    drop_stream(d->ops);
    gone(d);
    pthread_mutex_unlock(&w.lock);
}

void stub_op_fill(struct lcl_exec *ex, void *y, int value, size_t bytes)
{
    const struct device *d = ex->device;
    pthread_mutex_lock(&w.lock);
    struct item *i = push(d->ops, OP);
    i->y = y;
    i->value = value;
    i->bytes = bytes;
    pthread_mutex_unlock(&w.lock);
}

void stub_op_finish(struct lcl_exec *ex)
{
    const struct device *d = ex->device;
    pthread_mutex_lock(&w.lock);
    progress(d->ops, NULL);
    pthread_mutex_unlock(&w.lock);
}

void stub_op_copy(struct lcl_exec *ex, void *y, const void *x, size_t bytes)
{
    const struct device *d = ex->device;
    pthread_mutex_lock(&w.lock);
    struct item *i = push(d->ops, OP);
    i->y = y;
    i->bytes = bytes;
    i->x = made(bytes);
    memcpy(i->x, x, bytes);
    pthread_mutex_unlock(&w.lock);
}

int lcl_cuda_number(const struct lcl_exec *ex)
{
    return ((const struct device *)ex->device)->number;
}

void *lcl_cuda_stream(const struct lcl_exec *ex)
{
    return ((const struct device *)ex->device)->ops;
}
