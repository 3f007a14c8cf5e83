#include "cuda/sim/runtime.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

/* As the device's: 256-byte aligned, without a value until written. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    size_t rounded = (bytes + 255) / 256 * 256;
    if (lcl_sim_uncaptured() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    *p = aligned_alloc(256, rounded ? rounded : 256);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, 0xFF, rounded); /* NaN in every dtype */
    lcl_sim_register(*p, bytes, true);
    return cudaSuccess;
}

/* Pinned ranges, and copies from and to them that wait for the next call on the stream. */
enum { MOST_PINNED = 16, MOST_LATE = 64 };
static struct {
    unsigned char *base;
    size_t bytes;
} pinned[MOST_PINNED];
static struct {
    void *dst;
    const void *src;
    size_t bytes;
} late[MOST_LATE];
static int n_late;

static bool is_pinned(const void *p)
{
    const unsigned char *at = p;
    for (int i = 0; i < MOST_PINNED; i++)
        if (pinned[i].base && at >= pinned[i].base && at < pinned[i].base + pinned[i].bytes)
            return true;
    return false;
}

void lcl_sim_copies_arrive(void)
{
    for (int i = 0; i < n_late; i++) {
        memcpy(late[i].dst, late[i].src, late[i].bytes);
        lcl_sim_written(late[i].dst, late[i].bytes);
    }
    n_late = 0;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    int i = 0;
    if (lcl_sim_uncaptured() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    while (i < MOST_PINNED && pinned[i].base) i++;
    *p = i < MOST_PINNED ? malloc(bytes ? bytes : 1) : NULL;
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, 0xFF, bytes);
    pinned[i].base = *p;
    pinned[i].bytes = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    lcl_sim_copies_arrive();
    for (int i = 0; i < MOST_PINNED; i++)
        if (p && pinned[i].base == p) pinned[i].base = NULL;
    free(p);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (lcl_sim_uncaptured() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    lcl_sim_copies_arrive();
    if (p) lcl_sim_forget(p);
    free(p);
    return cudaSuccess;
}

struct copy {
    void *dst;
    const void *src;
    size_t bytes;
};

static lcl_status run_copy(void *params)
{
    const struct copy *c = params;
    if (c->bytes) memcpy(c->dst, c->src, c->bytes);
    lcl_sim_written(c->dst, c->bytes);
    return LCL_OK;
}

struct fill {
    void *p;
    int byte;
    size_t bytes;
};

static lcl_status run_fill(void *params)
{
    const struct fill *f = params;
    if (f->bytes) memset(f->p, f->byte, f->bytes);
    lcl_sim_written(f->p, f->bytes);
    return LCL_OK;
}

static cudaError_t capture(lcl_status (*run)(void *params), const void *params, size_t bytes)
{
    return lcl_sim_capture(run, params, bytes, NULL, 0) == LCL_OK ? cudaSuccess
                                                                  : cudaErrorMemoryAllocation;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    struct copy c = {dst, src, bytes};
    (void)stream;
    if (lcl_sim_capturing() && kind == cudaMemcpyDeviceToDevice)
        return capture(run_copy, &c, sizeof c);
    if (lcl_sim_uncaptured() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    if (n_late == MOST_LATE || !(is_pinned(src) || is_pinned(dst))) lcl_sim_copies_arrive();
    if (!bytes) return cudaSuccess;
    late[n_late].dst = dst;
    late[n_late].src = src;
    late[n_late++].bytes = bytes;
    if (!is_pinned(src) && !is_pinned(dst)) lcl_sim_copies_arrive();
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    struct fill f = {p, byte, bytes};
    (void)stream;
    if (lcl_sim_capturing()) return capture(run_fill, &f, sizeof f);
    lcl_sim_copies_arrive();
    return run_fill(&f) == LCL_OK ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    if (lcl_sim_uncaptured() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    lcl_sim_copies_arrive();
    return cudaSuccess;
}

struct lcl_sim_event {
    double at_s;
};

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = calloc(1, sizeof **e);
    return *e ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    (void)stream;
    e->at_s = lcl_time_s();
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(1000 * (to->at_s - from->at_s));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return cudaSuccess;
}
