/* cuDNN's fused attention by its backend API, opened when asked for. Its single operation for
 * attention came with cuDNN 9.13 and has no causal mask in the releases up to 9.20. */
#include "cuda/kernel.cuh"
#include "dev/bench-gpu/peers.h"

#if defined(__CUDACC__) && __has_include(<cudnn.h>)
#include <cudnn.h>
#define HAVE_CUDNN (CUDNN_VERSION >= 91300)
#endif

#if !HAVE_CUDNN

lcl_status peer_attention_open(struct lcl_exec *, const struct lcl_attention_args *, bool,
                               struct peer **)
{
#if defined(__CUDACC__)
    return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: built without the headers of 9.13 or newer");
#else
    return LCL_FAIL(LCL_UNSUPPORTED, "the emulator has no cuDNN");
#endif
}

lcl_status peer_attention_run(struct peer *, const struct lcl_attention_args *) { return LCL_OK; }

#if defined(__CUDACC__)
#include "dev/bench-gpu/peer_types.cuh"
void peer_cudnn_close(struct cudnn_plan *) {}
#endif

#else

#include <dlfcn.h>
#include <stdlib.h>

#include "dev/bench-gpu/peer_types.cuh"

enum { MOST_DESCRIPTORS = 32, CANDIDATES = 8 };
enum uid { Q = 1, K, V, O, STATS, SCALE, D_O, D_Q, D_K, D_V };

#define FUNCTIONS(X)                 \
    X(cudnnGetErrorString)           \
    X(cudnnCreate)                   \
    X(cudnnDestroy)                  \
    X(cudnnSetStream)                \
    X(cudnnBackendCreateDescriptor)  \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute)      \
    X(cudnnBackendGetAttribute)      \
    X(cudnnBackendFinalize)          \
    X(cudnnBackendExecute)

struct cudnn_plan {
    void *library;
#define X(f) decltype(&::f) f;
    FUNCTIONS(X)
#undef X
    cudnnHandle_t handle;
    int n;
    cudnnBackendDescriptor_t made[MOST_DESCRIPTORS], plan;
    bool backward;
    int64_t B, H, G, T, D, stride, out_stride;
    float scale;
    void *workspace;
};

#define DNN_TRY(c, expr)                                                \
    do {                                                                \
        cudnnStatus_t status_ = (expr);                                 \
        if (status_ != CUDNN_STATUS_SUCCESS)                            \
            return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: %.60s: %s", #expr, \
                            (c)->cudnnGetErrorString(status_));         \
    } while (0)

static lcl_status create(struct cudnn_plan *c, cudnnBackendDescriptorType_t type,
                         cudnnBackendDescriptor_t *out)
{
    if (c->n == MOST_DESCRIPTORS) return LCL_FAIL(LCL_INTERNAL, "cuDNN: too many descriptors");
    DNN_TRY(c, c->cudnnBackendCreateDescriptor(type, out));
    c->made[c->n++] = *out;
    return LCL_OK;
}

static lcl_status set(struct cudnn_plan *c, cudnnBackendDescriptor_t d,
                      cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                      const void *values)
{
    DNN_TRY(c, c->cudnnBackendSetAttribute(d, name, type, n, values));
    return LCL_OK;
}

static lcl_status tensor(struct cudnn_plan *c, enum uid uid, cudnnDataType_t type,
                         const int64_t dims[4], const int64_t strides[4],
                         cudnnBackendDescriptor_t *out)
{
    const int64_t id = uid, aligned = 16;
    const bool by_value = uid == SCALE;
    LCL_TRY(create(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id));
    LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
    LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &aligned));
    if (by_value)
        LCL_TRY(set(c, *out, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value));
    DNN_TRY(c, c->cudnnBackendFinalize(*out));
    return LCL_OK;
}

/* A tensor made and named to the operation. */
static lcl_status link(struct cudnn_plan *c, cudnnBackendDescriptor_t op,
                       cudnnBackendAttributeName_t name, enum uid uid)
{
    const bool keys = uid == K || uid == V || uid == D_K || uid == D_V;
    const bool packed = uid == O || uid == D_O;
    const int64_t row = packed ? c->out_stride : c->stride;
    int64_t dims[4] = {c->B, keys ? c->G : c->H, c->T, c->D};
    int64_t strides[4] = {c->T * row, c->D, row, 1};
    cudnnDataType_t type = CUDNN_DATA_BFLOAT16;
    cudnnBackendDescriptor_t t;
    if (uid == SCALE || uid == STATS) type = CUDNN_DATA_FLOAT;
    if (uid == SCALE)
        for (int i = 0; i < 4; i++) dims[i] = strides[i] = 1;
    if (uid == STATS) {
        dims[3] = strides[2] = strides[3] = 1;
        strides[0] = c->H * c->T;
        strides[1] = c->T;
    }
    LCL_TRY(tensor(c, uid, type, dims, strides, &t));
    return set(c, op, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t);
}

static lcl_status operation(struct cudnn_plan *c, cudnnBackendDescriptor_t *op)
{
    if (!c->backward) {
        LCL_TRY(create(c, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, op));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, Q));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, K));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, V));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, O));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, STATS));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, SCALE));
    } else {
#if CUDNN_VERSION >= 91900
        LCL_TRY(create(c, CUDNN_BACKEND_OPERATION_SDPA_BWD_DESCRIPTOR, op));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_QDESC, Q));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_KDESC, K));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_VDESC, V));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_ODESC, O));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_DODDESC, D_O));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_STATSDESC, STATS));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_SCALEDESC, SCALE));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_DQDESC, D_Q));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_DKDESC, D_K));
        LCL_TRY(link(c, *op, CUDNN_ATTR_OPERATION_SDPA_BWD_DVDESC, D_V));
#else
        return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: built with headers that have no backward");
#endif
    }
    DNN_TRY(c, c->cudnnBackendFinalize(*op));
    return LCL_OK;
}

/* The first engine of the heuristics that takes the graph. */
static lcl_status choose(struct cudnn_plan *c, cudnnBackendDescriptor_t graph)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    cudnnBackendDescriptor_t heuristics, engine[CANDIDATES];
    int64_t n = 0;
    LCL_TRY(create(c, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics));
    LCL_TRY(set(c, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                1, &graph));
    LCL_TRY(set(c, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    DNN_TRY(c, c->cudnnBackendFinalize(heuristics));
    for (int i = 0; i < CANDIDATES; i++)
        LCL_TRY(create(c, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &engine[i]));
    DNN_TRY(c, c->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                           CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &n, engine));
    for (int64_t i = 0; i < n; i++) {
        LCL_TRY(create(c, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &c->plan));
        LCL_TRY(
            set(c, c->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle));
        LCL_TRY(set(c, c->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine[i]));
        if (c->cudnnBackendFinalize(c->plan) == CUDNN_STATUS_SUCCESS) return LCL_OK;
    }
    return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: none of its %d engines takes this attention", (int)n);
}

static lcl_status load(struct cudnn_plan *c)
{
    c->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!c->library) return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN is not here: %.120s", dlerror());
#define X(f)                                      \
    c->f = (decltype(c->f))dlsym(c->library, #f); \
    if (!c->f) return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: no %s in libcudnn.so.9", #f);
    FUNCTIONS(X)
#undef X
    return LCL_OK;
}

static lcl_status build(struct cudnn_plan *c, cudaStream_t stream)
{
    cudnnBackendDescriptor_t op, graph;
    int64_t bytes = 0, n = 0;
    LCL_TRY(load(c));
    DNN_TRY(c, c->cudnnCreate(&c->handle));
    DNN_TRY(c, c->cudnnSetStream(c->handle, stream));
    LCL_TRY(operation(c, &op));
    LCL_TRY(create(c, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph));
    LCL_TRY(set(c, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &op));
    LCL_TRY(set(c, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle));
    DNN_TRY(c, c->cudnnBackendFinalize(graph));
    LCL_TRY(choose(c, graph));
    DNN_TRY(c, c->cudnnBackendGetAttribute(c->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                           CUDNN_TYPE_INT64, 1, &n, &bytes));
    if (bytes > 0 && cudaMalloc(&c->workspace, (size_t)bytes) != cudaSuccess)
        return LCL_FAIL(LCL_UNSUPPORTED, "cuDNN: no %lld bytes of workspace", (long long)bytes);
    return LCL_OK;
}

lcl_status peer_attention_open(struct lcl_exec *ex, const struct lcl_attention_args *a,
                               bool backward, struct peer **out)
{
    struct peer *p = (struct peer *)calloc(1, sizeof *p);
    struct cudnn_plan *c = (struct cudnn_plan *)calloc(1, sizeof *c);
    *out = p;
    if (p) p->cudnn = c;
    if (!p || !c) {
        if (!p) free(c);
        return LCL_FAIL(LCL_MEMORY, "no memory for a peer");
    }
    p->stream = (cudaStream_t)lcl_cuda_device_of(ex)->stream;
    c->backward = backward;
    c->B = a->n_runs;
    c->T = a->runs[0].q_end - a->runs[0].q_begin;
    c->H = a->H;
    c->G = a->G;
    c->D = a->D;
    c->stride = a->q_stride;
    c->out_stride = a->out_stride;
    c->scale = a->scale;
    return build(c, p->stream);
}

lcl_status peer_attention_run(struct peer *p, const struct lcl_attention_args *a)
{
    struct cudnn_plan *c = p->cudnn;
    const int64_t uids[] = {Q, K, V, O, STATS, SCALE, D_O, D_Q, D_K, D_V};
    void *at[] = {(void *)a->q, (void *)a->k,     (void *)a->v, a->out, a->lse_TH,
                  &c->scale,    (void *)a->d_out, a->d_q,       a->d_k, a->d_v};
    const int64_t n = c->backward ? 10 : 6;
    cudnnBackendDescriptor_t pack;
    DNN_TRY(c, c->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    lcl_status status = set(c, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids);
    if (status == LCL_OK)
        status = set(c, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, at);
    if (status == LCL_OK)
        status =
            set(c, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &c->workspace);
    cudnnStatus_t done = c->cudnnBackendFinalize(pack);
    if (status == LCL_OK && done == CUDNN_STATUS_SUCCESS)
        done = c->cudnnBackendExecute(c->handle, c->plan, pack);
    c->cudnnBackendDestroyDescriptor(pack);
    LCL_TRY(status);
    DNN_TRY(c, done);
    return LCL_OK;
}

void peer_cudnn_close(struct cudnn_plan *c)
{
    for (int i = c->n; i-- > 0;) c->cudnnBackendDestroyDescriptor(c->made[i]);
    if (c->handle) c->cudnnDestroy(c->handle);
    cudaFree(c->workspace);
    if (c->library) dlclose(c->library);
    free(c);
}

#endif
