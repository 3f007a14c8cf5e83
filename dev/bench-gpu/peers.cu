#include "dev/bench-gpu/peers.h"

#include "cuda/kernel.cuh"

lcl_status peer_copy(struct lcl_exec *ex, void *dst, const void *src, size_t bytes)
{
    LCL_CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice,
                                 (cudaStream_t)lcl_cuda_device_of(ex)->stream));
    return LCL_OK;
}

#if !defined(__CUDACC__)

lcl_status peer_product_open(struct lcl_exec *, const struct lcl_linear_args *, struct peer **)
{
    return LCL_FAIL(LCL_UNSUPPORTED, "the emulator has no cuBLASLt");
}

lcl_status peer_product_run(struct peer *, const struct lcl_linear_args *) { return LCL_OK; }

void peer_close(struct peer *) {}

#else

#include <cublasLt.h>
#include <stdlib.h>

#include "dev/bench-gpu/peer_types.cuh"

enum { CANDIDATES = 8, TRIALS = 5, WORKSPACE_BYTES = 64 << 20 };

#define LT_TRY(expr)                                                    \
    do {                                                                \
        cublasStatus_t status_ = (expr);                                \
        if (status_ != CUBLAS_STATUS_SUCCESS)                           \
            return LCL_FAIL(LCL_UNSUPPORTED, "cuBLASLt: %s: %s", #expr, \
                            cublasLtGetStatusName(status_));            \
    } while (0)

static lcl_status run_algo(struct peer *p, const struct lcl_linear_args *a,
                           const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1, zero = 0;
    LT_TRY(cublasLtMatmul(p->lt, p->op, &one, a->weight_NK, p->a, a->x_MK, p->b, &zero, a->y_MN,
                          p->c, a->y_MN, p->c, algo, p->workspace, WORKSPACE_BYTES, p->stream));
    return LCL_OK;
}

/* The shortest of some trials. */
static lcl_status time_algo(struct peer *p, const struct lcl_linear_args *a,
                            const cublasLtMatmulAlgo_t *algo, float *best_ms)
{
    cudaEvent_t begin, end;
    *best_ms = 1e30f;
    LCL_CUDA_TRY(cudaEventCreate(&begin));
    LCL_CUDA_TRY(cudaEventCreate(&end));
    lcl_status status = LCL_OK;
    for (int i = 0; i < TRIALS && status == LCL_OK; i++) {
        float ms = 0;
        cudaEventRecord(begin, p->stream);
        status = run_algo(p, a, algo);
        cudaEventRecord(end, p->stream);
        if (status == LCL_OK && cudaEventSynchronize(end) == cudaSuccess &&
            cudaEventElapsedTime(&ms, begin, end) == cudaSuccess && ms < *best_ms)
            *best_ms = ms;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return status;
}

/* Column-major: y' = weight x', so that its A is our weight, transposed. */
static lcl_status describe(struct peer *p, const struct lcl_linear_args *a)
{
    const cudaDataType_t type = a->dtype == LCL_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    LT_TRY(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                          sizeof transposed));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->a, type, a->K, a->N, a->K));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->b, type, a->K, a->M, a->K));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->c, type, a->N, a->M, a->N));
    return LCL_OK;
}

static lcl_status choose(struct peer *p, const struct lcl_linear_args *a)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    cublasLtMatmulPreference_t wish = NULL;
    const size_t most = WORKSPACE_BYTES;
    int n = 0;
    float best = 1e30f;
    LT_TRY(cublasLtMatmulPreferenceCreate(&wish));
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
                                         sizeof most);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(p->lt, p->op, p->a, p->b, p->c, p->c,
                                                           wish, CANDIDATES, found, &n);
    cublasLtMatmulPreferenceDestroy(wish);
    LT_TRY(status);
    for (int i = 0; i < n; i++) {
        float ms;
        if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
        if (time_algo(p, a, &found[i].algo, &ms) != LCL_OK || ms >= best) continue;
        best = ms;
        p->algo = found[i].algo;
    }
    if (best == 1e30f) return LCL_FAIL(LCL_UNSUPPORTED, "cuBLASLt: no algorithm for this product");
    return LCL_OK;
}

lcl_status peer_product_open(struct lcl_exec *ex, const struct lcl_linear_args *a,
                             struct peer **out)
{
    struct peer *p = (struct peer *)calloc(1, sizeof *p);
    *out = p;
    if (!p) return LCL_FAIL(LCL_MEMORY, "no memory for a peer");
    p->stream = (cudaStream_t)lcl_cuda_device_of(ex)->stream;
    if (cudaMalloc(&p->workspace, WORKSPACE_BYTES) != cudaSuccess)
        return LCL_FAIL(LCL_UNSUPPORTED, "no memory for cuBLASLt's workspace");
    LT_TRY(cublasLtCreate(&p->lt));
    LCL_TRY(describe(p, a));
    return choose(p, a);
}

lcl_status peer_product_run(struct peer *p, const struct lcl_linear_args *a)
{
    return run_algo(p, a, &p->algo);
}

void peer_close(struct peer *p)
{
    if (!p) return;
    cudaStreamSynchronize(p->stream);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->c) cublasLtMatrixLayoutDestroy(p->c);
    if (p->op) cublasLtMatmulDescDestroy(p->op);
    if (p->lt) cublasLtDestroy(p->lt);
    if (p->cudnn) peer_cudnn_close(p->cudnn);
    cudaFree(p->workspace);
    free(p);
}

#endif
