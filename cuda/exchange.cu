/* What goes between host and device: index arrays in, results out. */
#include <stdlib.h>
#include <string.h>

#include "cuda/kernel.cuh"

enum { RESULT_ALIGN = 256 };

static struct lcl_cuda_upload *find_upload(struct lcl_cuda_device *d, const void *host,
                                           size_t bytes)
{
    struct lcl_cuda_upload *oldest = &d->upload[0];
    for (int i = 0; i < LCL_CUDA_UPLOADS; i++) {
        struct lcl_cuda_upload *u = &d->upload[i];
        if (u->host == host && u->bytes == bytes) return u;
        if (u->used < oldest->used) oldest = u;
    }
    return oldest;
}

static lcl_status grow_upload(struct lcl_cuda_device *d, struct lcl_cuda_upload *u, size_t bytes)
{
    if (u->capacity >= bytes) return LCL_OK;
    LCL_CUDA_TRY(cudaStreamSynchronize((cudaStream_t)d->stream));
    LCL_CUDA_TRY(cudaFree(u->device));
    free(u->copy);
    memset(u, 0, sizeof *u);
    size_t capacity = 4096;
    while (capacity < bytes) capacity *= 2;
    u->copy = malloc(capacity);
    if (!u->copy) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of indices", bytes);
    if (cudaMalloc(&u->device, capacity) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "the GPU has no %zu bytes left for indices", bytes);
    u->capacity = capacity;
    return LCL_OK;
}

lcl_status lcl_cuda_upload(struct lcl_cuda_device *d, const void *host, size_t bytes,
                           const void **out)
{
    *out = NULL;
    if (!host || !bytes) return LCL_OK;
    struct lcl_cuda_upload *u = find_upload(d, host, bytes);
    u->used = ++d->uses;
    if (u->host != host || u->bytes != bytes || memcmp(u->copy, host, bytes) != 0) {
        LCL_TRY(grow_upload(d, u, bytes));
        u->used = d->uses;
        memcpy(u->copy, host, bytes);
        u->host = host;
        u->bytes = bytes;
        /* Pageable memory: the call returns once the bytes are staged. */
        LCL_CUDA_TRY(cudaMemcpyAsync(u->device, u->copy, bytes, cudaMemcpyHostToDevice,
                                     (cudaStream_t)d->stream));
    }
    *out = u->device;
    return LCL_OK;
}

static lcl_status deliver(struct lcl_cuda_device *d)
{
    cudaStream_t stream = (cudaStream_t)d->stream;
    for (int i = 0; i < d->n_results; i++) {
        const struct lcl_cuda_result *r = &d->result[i];
        LCL_CUDA_TRY(cudaMemcpyAsync(r->host, r->device, r->bytes, cudaMemcpyDeviceToHost, stream));
    }
    LCL_CUDA_TRY(cudaStreamSynchronize(stream));
    d->n_results = 0;
    d->results_used = 0;
    return LCL_OK;
}

lcl_status lcl_cuda_results_reserve(struct lcl_cuda_device *d, int n, size_t bytes)
{
    const size_t all = bytes + (size_t)n * RESULT_ALIGN;
    if (d->n_results + n <= LCL_CUDA_RESULTS && d->results_used + all <= d->results_bytes)
        return LCL_OK;
    LCL_TRY(deliver(d));
    if (all <= d->results_bytes) return LCL_OK;
    LCL_CUDA_TRY(cudaFree(d->results));
    d->results = NULL;
    d->results_bytes = 0;
    size_t grown = 1 << 16;
    while (grown < all) grown *= 2;
    if (cudaMalloc(&d->results, grown) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "the GPU has no %zu bytes left for results", grown);
    d->results_bytes = grown;
    return LCL_OK;
}

lcl_status lcl_cuda_result(struct lcl_cuda_device *d, void *host, size_t bytes, void **out)
{
    *out = NULL;
    if (!host || !bytes) return LCL_OK;
    LCL_TRY(lcl_cuda_results_reserve(d, 1, bytes));
    const size_t rounded = (bytes + RESULT_ALIGN - 1) / RESULT_ALIGN * RESULT_ALIGN;
    *out = (unsigned char *)d->results + d->results_used;
    d->results_used += rounded;
    struct lcl_cuda_result r = {host, *out, bytes};
    d->result[d->n_results++] = r;
    LCL_CUDA_TRY(cudaMemsetAsync(*out, 0, bytes, (cudaStream_t)d->stream));
    return LCL_OK;
}

lcl_status lcl_cuda_op_end(struct lcl_cuda_device *d)
{
    return d->synchronous ? deliver(d) : LCL_OK;
}

lcl_status lcl_cuda_sync(struct lcl_exec *ex) { return deliver(lcl_cuda_device_of(ex)); }

void lcl_cuda_exchange_free(struct lcl_cuda_device *d)
{
    for (int i = 0; i < LCL_CUDA_UPLOADS; i++) {
        cudaFree(d->upload[i].device);
        free(d->upload[i].copy);
    }
    cudaFree(d->results);
}
