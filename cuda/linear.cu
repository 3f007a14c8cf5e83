/* y_MN = x_MK weight_NK^T + bias_N: products of gemm.h; column sums for the bias.
 * Legend: M rows, N outputs, K inputs, G chunks of rows. */
#include "cuda/gemm.h"
#include "cuda/kernel.cuh"
#include "cuda/linear_blocks.h"
#include "cuda/ops.cuh"

enum { BLOCK = 128, MAX_CHUNKS = 128, MIN_ROWS = 32 };

template <typename T, int V>
static __global__ void column_sums_kernel(const T *d_y_MN, int64_t M, int64_t N,
                                          int64_t rows_a_chunk, float *partial_GN)
{
    const int64_t n = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    const int64_t begin = blockIdx.y * rows_a_chunk;
    const int64_t end = begin + rows_a_chunk < M ? begin + rows_a_chunk : M;
    if (n >= N) return;
    float sum[V] = {}, x[V];
#pragma unroll 8
    for (int64_t m = begin; m < end; m++) {
        load_elements<V>(d_y_MN + m * N + n, x);
        for (int i = 0; i < V; i++) sum[i] += x[i];
    }
    store_elements<V>(partial_GN + blockIdx.y * N + n, sum);
}

template <typename T>
static lcl_status column_sums(struct lcl_cuda_device *d, const struct lcl_linear_args *a)
{
    int64_t rows = (a->M + MAX_CHUNKS - 1) / MAX_CHUNKS;
    if (rows < MIN_ROWS) rows = MIN_ROWS;
    const int64_t G = (a->M + rows - 1) / rows;
    void *partial;
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_PARTIALS, (size_t)(G * a->N) * sizeof(float), &partial));
    if (all_wide<float>(a->N, a->d_y_MN))
        LCL_TRY(LCL_LAUNCH(d, (column_sums_kernel<T, MIXED>),
                           dims(blocks_for(a->N, BLOCK * MIXED), (unsigned)G), dims(BLOCK), 0,
                           (const T *)a->d_y_MN, a->M, a->N, rows, (float *)partial));
    else
        LCL_TRY(LCL_LAUNCH(d, (column_sums_kernel<T, 1>),
                           dims(blocks_for(a->N, BLOCK), (unsigned)G), dims(BLOCK), 0,
                           (const T *)a->d_y_MN, a->M, a->N, rows, (float *)partial));
    return lcl_cuda_add_partials(d, (const float *)partial, G, a->N, a->d_bias_N);
}

static float scale_of(const struct lcl_linear_args *a) { return a->scale == 0 ? 1 : a->scale; }

lcl_status lcl_cuda_linear_fwd(struct lcl_exec *ex, const struct lcl_linear_args *a)
{
    LCL_TRY(lcl_check_linear(a));
    if (lcl_is_blocks(a->weight_dtype))
        return lcl_cuda_linear_blocks_fwd(lcl_cuda_device_of(ex), a);
    struct lcl_cuda_gemm g = {};
    g.form = LCL_CUDA_NT;
    g.M = a->M, g.N = a->N, g.K = a->K;
    g.a = a->x_MK, g.a_dtype = a->dtype;
    g.b = a->weight_NK, g.b_dtype = a->weight_dtype;
    g.c = a->y_MN, g.c_dtype = a->dtype, g.ldc = a->y_stride;
    g.accumulate = a->accumulate_y, g.alpha = scale_of(a), g.bias_N = a->bias_N;
    return lcl_cuda_gemm_run(lcl_cuda_device_of(ex), &g);
}

lcl_status lcl_cuda_linear_bwd(struct lcl_exec *ex, const struct lcl_linear_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_linear(a));
    if (a->d_x_MK && lcl_is_blocks(a->weight_dtype)) {
        LCL_TRY(lcl_cuda_linear_blocks_bwd(d, a));
    } else if (a->d_x_MK) {
        struct lcl_cuda_gemm g = {};
        g.form = LCL_CUDA_NN;
        g.M = a->M, g.N = a->K, g.K = a->N;
        g.a = a->d_y_MN, g.a_dtype = a->dtype, g.lda = a->y_stride;
        g.b = a->weight_NK, g.b_dtype = a->weight_dtype;
        g.c = a->d_x_MK, g.c_dtype = a->dtype;
        g.accumulate = a->accumulate_d_x, g.alpha = scale_of(a);
        LCL_TRY(lcl_cuda_gemm_run(d, &g));
    }
    if (a->d_weight_NK) {
        struct lcl_cuda_gemm g = {};
        g.form = LCL_CUDA_TN;
        g.M = a->N, g.N = a->K, g.K = a->M;
        g.a = a->d_y_MN, g.a_dtype = a->dtype, g.lda = a->y_stride;
        g.b = a->x_MK, g.b_dtype = a->dtype;
        g.c = a->d_weight_NK, g.c_dtype = LCL_F32;
        g.accumulate = true, g.alpha = scale_of(a);
        LCL_TRY(lcl_cuda_gemm_run(d, &g));
    }
    if (!a->d_bias_N || !a->M) return LCL_OK;
    return BY_DTYPE(a->dtype, column_sums, d, a);
}
