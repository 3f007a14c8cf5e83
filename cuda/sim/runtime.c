#include "cuda/sim/runtime.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

/* As the device's: 256-byte aligned, without a value until written. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    size_t rounded = (bytes + 255) / 256 * 256;
    *p = aligned_alloc(256, rounded ? rounded : 256);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, 0xFF, rounded); /* NaN in every dtype */
    lcl_sim_register(*p, bytes, true);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (p) lcl_sim_forget(p);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind, (void)stream;
    if (bytes) memcpy(dst, src, bytes);
    lcl_sim_written(dst, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    if (bytes) memset(p, byte, bytes);
    lcl_sim_written(p, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
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

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : "out of memory";
}
