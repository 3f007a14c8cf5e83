/* Work done again as a CUDA graph: one launch in place of hundreds. The first time the work just
 * runs, and what it sends and gives back is noted; the second time the same calls are captured,
 * with uploads and results at places of the recording's own; from then on the arrays as they are
 * now go up in one copy before the graph. */
#include <stdlib.h>
#include <string.h>

#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

enum { PLACES = 64, ALIGN = 256 };

/* An array of the host and where its copy lies. */
struct place {
    void *host;
    size_t bytes, at;
};

struct places {
    struct place v[PLACES];
    int n;
    size_t bytes;
};

struct lcl_cuda_recording {
    struct lcl_recording base;
    bool noted;
    struct places uploads, results;
    unsigned char *arrays; /* the uploads end to end, of the host */
    unsigned char *upload_memory, *result_memory;
    cudaGraphExec_t graph;
    uint64_t scratch_grown; /* when captured: memory that grows moves */
};

static const struct place *find_place(const struct places *p, const void *host, size_t bytes)
{
    for (int i = 0; i < p->n; i++)
        if (p->v[i].host == host && p->v[i].bytes == bytes) return &p->v[i];
    return NULL;
}

/* Notes an array, or, while capturing, finds its place in `memory`. */
static lcl_status record(struct lcl_cuda_device *d, struct places *p, unsigned char *memory,
                         const void *host, size_t bytes, void **out)
{
    const struct place *known = find_place(p, host, bytes);
    if (d->capturing) {
        if (!known)
            return LCL_FAIL(LCL_INTERNAL,
                            "replay: the work asks for %zu bytes that it did not ask for before",
                            bytes);
        *out = memory + known->at;
        return LCL_OK;
    }
    if (known) return LCL_OK;
    if (p->n == PLACES)
        return LCL_FAIL(LCL_UNSUPPORTED, "replay: more than %d arrays in one recording", PLACES);
    const struct place added = {(void *)host, bytes, p->bytes};
    p->v[p->n++] = added;
    p->bytes += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return LCL_OK;
}

lcl_status lcl_cuda_record_upload(struct lcl_cuda_device *d, const void *host, size_t bytes,
                                  const void **out)
{
    void *at = NULL;
    struct lcl_cuda_recording *r = d->recording;
    if (r) LCL_TRY(record(d, &r->uploads, r->upload_memory, host, bytes, &at));
    *out = at;
    return LCL_OK;
}

lcl_status lcl_cuda_record_result(struct lcl_cuda_device *d, void *host, size_t bytes, void **out)
{
    struct lcl_cuda_recording *r = d->recording;
    if (r) LCL_TRY(record(d, &r->results, r->result_memory, host, bytes, out));
    if (*out) LCL_CUDA_TRY(cudaMemsetAsync(*out, 0, bytes, (cudaStream_t)d->stream));
    return LCL_OK;
}

lcl_status lcl_cuda_unrecorded(const struct lcl_cuda_device *d, const char *op)
{
    if (!d->recording) return LCL_OK;
    return LCL_FAIL(LCL_UNSUPPORTED, "replay: %s cannot be recorded", op);
}

static void release(struct lcl_recording *base)
{
    struct lcl_cuda_recording *r = (struct lcl_cuda_recording *)base;
    cudaFree(r->upload_memory); /* waits for what is under way */
    cudaFree(r->result_memory);
    if (r->graph) cudaGraphExecDestroy(r->graph);
    free(r->arrays);
    free(r);
}

static lcl_status run(struct lcl_cuda_device *d, struct lcl_cuda_recording *r,
                      const struct lcl_replay_args *a)
{
    d->recording = r;
    const lcl_status status = a->work(a->ctx);
    d->recording = NULL;
    return status;
}

static lcl_status note(struct lcl_cuda_device *d, struct lcl_cuda_recording *r,
                       const struct lcl_replay_args *a)
{
    r->uploads.n = r->results.n = 0;
    r->uploads.bytes = r->results.bytes = 0;
    LCL_TRY(run(d, r, a));
    r->noted = true;
    return LCL_OK;
}

static lcl_status reserve(struct lcl_cuda_recording *r)
{
    void *p;
    if (r->upload_memory) return LCL_OK;
    const size_t up = r->uploads.bytes + ALIGN, down = r->results.bytes + ALIGN;
    r->arrays = (unsigned char *)calloc(1, up);
    if (!r->arrays) return LCL_FAIL(LCL_MEMORY, "replay: no memory for %zu bytes of indices", up);
    if (cudaMalloc(&p, down) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "replay: the GPU has no %zu bytes left for results", down);
    r->result_memory = (unsigned char *)p;
    if (cudaMalloc(&p, up) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "replay: the GPU has no %zu bytes left for indices", up);
    r->upload_memory = (unsigned char *)p;
    return LCL_OK;
}

/* The work's calls as a graph; nothing runs. */
static lcl_status capture(struct lcl_cuda_device *d, struct lcl_cuda_recording *r,
                          const struct lcl_replay_args *a)
{
    const cudaStream_t stream = (cudaStream_t)d->stream;
    const bool synchronous = d->synchronous;
    cudaGraph_t graph = NULL;
    LCL_TRY(reserve(r));
    if (r->graph) LCL_CUDA_TRY(cudaGraphExecDestroy(r->graph));
    r->graph = NULL;
    LCL_CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    d->capturing = true;
    d->synchronous = false; /* nothing to wait for */
    const lcl_status status = run(d, r, a);
    d->synchronous = synchronous;
    d->capturing = false;
    const cudaError_t e = cudaStreamEndCapture(stream, &graph);
    if (status != LCL_OK) {
        if (graph) cudaGraphDestroy(graph);
        return status;
    }
    if (e != cudaSuccess)
        return LCL_FAIL_HINT(LCL_INTERNAL, "LCL_CUDA_GRAPH=0 in the environment goes without",
                             "replay: cudaStreamEndCapture: %s", cudaGetErrorString(e));
    const cudaError_t made = cudaGraphInstantiate(&r->graph, graph, 0);
    cudaGraphDestroy(graph);
    LCL_CUDA_TRY(made);
    r->scratch_grown = d->scratch_grown;
    return LCL_OK;
}

static lcl_status play(struct lcl_cuda_device *d, struct lcl_cuda_recording *r)
{
    const cudaStream_t stream = (cudaStream_t)d->stream;
    for (int i = 0; i < r->uploads.n; i++)
        memcpy(r->arrays + r->uploads.v[i].at, r->uploads.v[i].host, r->uploads.v[i].bytes);
    LCL_TRY(lcl_cuda_send(d, r->upload_memory, r->arrays, r->uploads.bytes));
    LCL_TRY(lcl_cuda_results_reserve(d, r->results.n, r->results.bytes));
    LCL_CUDA_TRY(cudaGraphLaunch(r->graph, stream));
    for (int i = 0; i < r->results.n; i++) {
        const struct place *p = &r->results.v[i];
        void *to;
        LCL_TRY(lcl_cuda_result(d, p->host, p->bytes, &to));
        LCL_CUDA_TRY(cudaMemcpyAsync(to, r->result_memory + p->at, p->bytes,
                                     cudaMemcpyDeviceToDevice, stream));
    }
    return lcl_cuda_op_end(d);
}

lcl_status lcl_cuda_replay_fwd(struct lcl_exec *ex, const struct lcl_replay_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    struct lcl_cuda_recording *r = (struct lcl_cuda_recording *)*a->recording;
    LCL_TRY(lcl_cuda_unrecorded(d, "replay"));
    if (!d->graphs) return a->work(a->ctx);
    if (!r) {
        r = (struct lcl_cuda_recording *)calloc(1, sizeof *r);
        if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for a recording");
        r->base.release = release;
        *a->recording = &r->base;
    }
    if (!r->noted) return note(d, r, a);
    if (!r->graph || r->scratch_grown != d->scratch_grown) LCL_TRY(capture(d, r, a));
    return play(d, r);
}
