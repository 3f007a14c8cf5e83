/* What goes between host and device: index arrays and pictures in, results out. The host waits in
 * one function; all else is in the order of the stream. */
#include <stdlib.h>
#include <string.h>

#include "cuda/kernel.cuh"

enum { ALIGN = 256, LEAST_STAGED = 1 << 20, MOST_STAGED = 1 << 28 };

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

lcl_status lcl_cuda_wait(struct lcl_cuda_device *d)
{
    d->waits++;
    d->staged = 0; /* what lay there has gone its way */
    LCL_CUDA_TRY(cudaStreamSynchronize((cudaStream_t)d->stream));
    return LCL_OK;
}

/* --- in --- */

/* Room that a step needed once is there in the next: only first steps wait here. */
static lcl_status grow_staging(struct lcl_cuda_device *d, size_t wanted)
{
    size_t bytes = LEAST_STAGED;
    wanted += d->staged;
    while (bytes < wanted && bytes < MOST_STAGED) bytes *= 2;
    LCL_TRY(lcl_cuda_wait(d));
    if (bytes <= d->staging_bytes) return LCL_OK;
    void *p;
    if (cudaMallocHost(&p, bytes) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "no %zu bytes of pinned memory to copy from", bytes);
    LCL_CUDA_TRY(cudaFreeHost(d->staging));
    d->staging = (unsigned char *)p;
    d->staging_bytes = bytes;
    return LCL_OK;
}

lcl_status lcl_cuda_send(struct lcl_cuda_device *d, void *device, const void *host, size_t bytes)
{
    for (size_t done = 0, n; done < bytes; done += n) {
        if (d->staged + (bytes - done) > d->staging_bytes && d->staging_bytes < MOST_STAGED)
            LCL_TRY(grow_staging(d, bytes - done));
        if (d->staged == d->staging_bytes) LCL_TRY(lcl_cuda_wait(d));
        n = d->staging_bytes - d->staged;
        if (n > bytes - done) n = bytes - done;
        unsigned char *from = d->staging + d->staged;
        memcpy(from, (const unsigned char *)host + done, n);
        LCL_CUDA_TRY(cudaMemcpyAsync((unsigned char *)device + done, from, n,
                                     cudaMemcpyHostToDevice, (cudaStream_t)d->stream));
        d->staged += aligned(n);
    }
    return LCL_OK;
}

static size_t capacity_for(size_t bytes)
{
    size_t capacity = 4096;
    while (capacity < bytes) capacity *= 2;
    return capacity;
}

/* Where the array is, or one that may give way: without a wait where one of its size may. */
static struct lcl_cuda_upload *find_upload(struct lcl_cuda_device *d, const void *host,
                                           size_t bytes)
{
    struct lcl_cuda_upload *oldest = &d->upload[0], *same_size = NULL;
    const size_t capacity = capacity_for(bytes);
    for (int i = 0; i < LCL_CUDA_UPLOADS; i++) {
        struct lcl_cuda_upload *u = &d->upload[i];
        if (u->host == host && u->bytes == bytes) return u;
        if (u->used < oldest->used) oldest = u;
        if (u->capacity == capacity && (!same_size || u->used < same_size->used)) same_size = u;
    }
    return oldest->used && same_size ? same_size : oldest; /* an empty one first */
}

static lcl_status grow_upload(struct lcl_cuda_device *d, struct lcl_cuda_upload *u, size_t bytes)
{
    if (u->capacity >= bytes) return LCL_OK;
    if (u->device) LCL_TRY(lcl_cuda_wait(d));
    LCL_CUDA_TRY(cudaFree(u->device));
    free(u->copy);
    memset(u, 0, sizeof *u);
    const size_t capacity = capacity_for(bytes);
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
    LCL_TRY(lcl_cuda_record_upload(d, host, bytes, out));
    if (*out) return LCL_OK;
    struct lcl_cuda_upload *u = find_upload(d, host, bytes);
    u->used = ++d->uses;
    if (u->host != host || u->bytes != bytes || memcmp(u->copy, host, bytes) != 0) {
        LCL_TRY(grow_upload(d, u, bytes));
        u->used = d->uses;
        memcpy(u->copy, host, bytes);
        u->host = host;
        u->bytes = bytes;
        LCL_TRY(lcl_cuda_send(d, u->device, u->copy, bytes));
    }
    *out = u->device;
    return LCL_OK;
}

/* --- out: all results lie in one piece, and come by one copy --- */

static lcl_status deliver(struct lcl_cuda_device *d)
{
    cudaStream_t stream = (cudaStream_t)d->stream;
    const size_t used = d->results_used;
    const int n = d->n_results;
    d->n_results = 0; /* also where this fails: the host's places may be gone by the next time */
    d->results_used = 0;
    if (used)
        LCL_CUDA_TRY(
            cudaMemcpyAsync(d->results_host, d->results, used, cudaMemcpyDeviceToHost, stream));
    LCL_TRY(lcl_cuda_wait(d));
    for (int i = 0; i < n; i++) {
        const struct lcl_cuda_result *r = &d->result[i];
        memcpy(r->host, d->results_host + r->at, r->bytes);
    }
    if (used) LCL_CUDA_TRY(cudaMemsetAsync(d->results, 0, used, stream));
    return LCL_OK;
}

static lcl_status grow_results(struct lcl_cuda_device *d, size_t bytes)
{
    size_t grown = 1 << 16;
    while (grown < bytes) grown *= 2;
    LCL_CUDA_TRY(cudaFree(d->results));
    LCL_CUDA_TRY(cudaFreeHost(d->results_host));
    d->results = d->results_host = NULL;
    d->results_bytes = 0;
    void *device, *host;
    if (cudaMalloc(&device, grown) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "the GPU has no %zu bytes left for results", grown);
    d->results = (unsigned char *)device;
    if (cudaMallocHost(&host, grown) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "no %zu bytes of pinned memory for results", grown);
    d->results_host = (unsigned char *)host;
    d->results_bytes = grown;
    LCL_CUDA_TRY(cudaMemsetAsync(d->results, 0, grown, (cudaStream_t)d->stream));
    return LCL_OK;
}

lcl_status lcl_cuda_results_reserve(struct lcl_cuda_device *d, int n, size_t bytes)
{
    const size_t wanted = d->results_used + bytes + (size_t)n * ALIGN;
    const int count = d->n_results + n;
    if (d->capturing) return LCL_OK; /* they have places in the recording */
    if (count <= d->results_cap && wanted <= d->results_bytes) return LCL_OK;
    LCL_TRY(deliver(d));
    if (count > d->results_cap) {
        struct lcl_cuda_result *r =
            (struct lcl_cuda_result *)realloc(d->result, 2 * (size_t)count * sizeof *r);
        if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for a list of %d results", 2 * count);
        d->result = r;
        d->results_cap = 2 * count;
    }
    return wanted > d->results_bytes ? grow_results(d, wanted) : LCL_OK;
}

lcl_status lcl_cuda_result(struct lcl_cuda_device *d, void *host, size_t bytes, void **out)
{
    *out = NULL;
    if (!host || !bytes) return LCL_OK;
    LCL_TRY(lcl_cuda_record_result(d, host, bytes, out));
    if (*out) return LCL_OK;
    LCL_TRY(lcl_cuda_results_reserve(d, 1, bytes));
    struct lcl_cuda_result r = {host, d->results_used, bytes};
    *out = d->results + d->results_used;
    d->results_used += aligned(bytes);
    d->result[d->n_results++] = r;
    return LCL_OK;
}

lcl_status lcl_cuda_op_end(struct lcl_cuda_device *d)
{
    return d->synchronous ? deliver(d) : LCL_OK;
}

lcl_status lcl_cuda_sync(struct lcl_exec *ex) { return deliver(lcl_cuda_device_of(ex)); }

int64_t lcl_cuda_waits(const struct lcl_exec *ex)
{
    return ((const struct lcl_cuda_device *)ex->device)->waits;
}

void lcl_cuda_exchange_free(struct lcl_cuda_device *d)
{
    for (int i = 0; i < LCL_CUDA_UPLOADS; i++) {
        cudaFree(d->upload[i].device);
        free(d->upload[i].copy);
    }
    cudaFree(d->results);
    cudaFreeHost(d->results_host);
    cudaFreeHost(d->staging);
    free(d->result);
}
