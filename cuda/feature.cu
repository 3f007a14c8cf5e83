/* Features standardised by column, and normalised by row. Every element is written by the thread
 * that read it, so results may lie over what they are made of.
 * Legend: M rows, C width. */
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

/* --- standardize --- */

enum { ROWS_A_BLOCK = 4 }; /* for which a lane's constants serve */

/* y = (x - mean) inv_std; mean NULL: 0, which is the backward. */
template <typename T, int V>
static __global__ void standardize_kernel(const T *x_MC, int64_t M, int64_t C, const float *mean_C,
                                          const float *inv_std_C, T *y_MC)
{
    const int64_t c = my_column<V>(), begin = (int64_t)blockIdx.x * ROWS_A_BLOCK;
    const int64_t end = begin + ROWS_A_BLOCK < M ? begin + ROWS_A_BLOCK : M;
    if (c >= C) return;
    float mean[V] = {}, inv_std[V];
    if (mean_C) load_elements<V>(mean_C + c, mean);
    load_elements<V>(inv_std_C + c, inv_std);
    for (int64_t m = begin; m < end; m++) {
        float x[V];
        load_elements<V>(x_MC + m * C + c, x);
        for (int i = 0; i < V; i++) x[i] = (x[i] - mean[i]) * inv_std[i];
        store_elements<V>(y_MC + m * C + c, x);
    }
}

template <typename T>
static lcl_status standardize(struct lcl_cuda_device *d, const struct lcl_standardize_args *a,
                              const void *x, const float *mean_C, void *y)
{
    return LAUNCH_ROWS(d, standardize_kernel, T, MIXED,
                       all_wide<float>(a->C, x, mean_C, a->inv_std_C, y),
                       blocks_for(a->M, ROWS_A_BLOCK), a->C, (const T *)x, a->M, a->C, mean_C,
                       a->inv_std_C, (T *)y);
}

lcl_status lcl_cuda_standardize_fwd(struct lcl_exec *ex, const struct lcl_standardize_args *a)
{
    LCL_TRY(lcl_check_rows("standardize", a->dtype, a->M, a->C));
    return BY_DTYPE(a->dtype, standardize, lcl_cuda_device_of(ex), a, a->x_MC, a->mean_C, a->y_MC);
}

lcl_status lcl_cuda_standardize_bwd(struct lcl_exec *ex, const struct lcl_standardize_args *a)
{
    LCL_TRY(lcl_check_rows("standardize", a->dtype, a->M, a->C));
    if (!a->d_x_MC) return LCL_OK;
    return BY_DTYPE(a->dtype, standardize, lcl_cuda_device_of(ex), a, a->d_y_MC, NULL, a->d_x_MC);
}

/* --- l2norm: a block a row --- */

template <typename T, int V>
static __global__ void l2norm_fwd_kernel(const T *x_MC, int64_t C, float eps, T *y_MC,
                                         float *norm_M)
{
    SHARED_BYTES(shared);
    const int64_t at = blockIdx.x * C, step = (int64_t)blockDim.x * V;
    float squares = 0, x[V];
    for (int64_t c = (int64_t)threadIdx.x * V; c < C; c += step) {
        load_elements<V>(x_MC + at + c, x);
        for (int i = 0; i < V; i++) squares += x[i] * x[i];
    }
    const float norm = sqrtf(block_sum(squares, (float *)shared));
    const float scale = 1.0f / (norm > eps ? norm : eps);
    if (threadIdx.x == 0 && norm_M) norm_M[blockIdx.x] = norm;
    for (int64_t c = (int64_t)threadIdx.x * V; c < C; c += step) {
        load_elements<V>(x_MC + at + c, x);
        for (int i = 0; i < V; i++) x[i] *= scale;
        store_elements<V>(y_MC + at + c, x);
    }
}

/* d_x = (d_y - u (u . d_y)) / |x|, u = x / |x|; below eps the norm is a constant: d_x = d_y / eps.
 */
template <typename T, int V>
static __global__ void l2norm_bwd_kernel(const T *x_MC, int64_t C, float eps, const float *norm_M,
                                         const T *d_y_MC, T *d_x_MC)
{
    SHARED_BYTES(shared);
    const int64_t at = blockIdx.x * C, step = (int64_t)blockDim.x * V;
    const float norm = norm_M[blockIdx.x], scale = 1.0f / (norm > eps ? norm : eps);
    float dot = 0, x[V], d_y[V];
    for (int64_t c = (int64_t)threadIdx.x * V; c < C; c += step) {
        load_elements<V>(x_MC + at + c, x);
        load_elements<V>(d_y_MC + at + c, d_y);
        for (int i = 0; i < V; i++) dot += x[i] * d_y[i];
    }
    dot = block_sum(dot, (float *)shared);
    const float along = norm > eps ? dot * scale * scale : 0;
    for (int64_t c = (int64_t)threadIdx.x * V; c < C; c += step) {
        load_elements<V>(x_MC + at + c, x);
        load_elements<V>(d_y_MC + at + c, d_y);
        for (int i = 0; i < V; i++) x[i] = (d_y[i] - x[i] * along) * scale;
        store_elements<V>(d_x_MC + at + c, x);
    }
}

enum { SLOT_BYTES = WARP * sizeof(float) }; /* of block_sum */

template <typename T>
static lcl_status l2norm_fwd(struct lcl_cuda_device *d, const struct lcl_l2norm_args *a)
{
    const T *x = (const T *)a->x_MC;
    T *y = (T *)a->y_MC;
    const dim3 grid = dims((unsigned)a->M);
    if (all_wide<T>(a->C, x, y))
        return LCL_LAUNCH(d, (l2norm_fwd_kernel<T, wide<T>()>), grid, row_block(a->C, wide<T>()),
                          SLOT_BYTES, x, a->C, a->eps, y, a->norm_M);
    return LCL_LAUNCH(d, (l2norm_fwd_kernel<T, 1>), grid, row_block(a->C, 1), SLOT_BYTES, x, a->C,
                      a->eps, y, a->norm_M);
}

template <typename T>
static lcl_status l2norm_bwd(struct lcl_cuda_device *d, const struct lcl_l2norm_args *a)
{
    const T *x = (const T *)a->x_MC, *d_y = (const T *)a->d_y_MC;
    T *d_x = (T *)a->d_x_MC;
    const dim3 grid = dims((unsigned)a->M);
    if (all_wide<T>(a->C, x, d_y, d_x))
        return LCL_LAUNCH(d, (l2norm_bwd_kernel<T, wide<T>()>), grid, row_block(a->C, wide<T>()),
                          SLOT_BYTES, x, a->C, a->eps, a->norm_M, d_y, d_x);
    return LCL_LAUNCH(d, (l2norm_bwd_kernel<T, 1>), grid, row_block(a->C, 1), SLOT_BYTES, x, a->C,
                      a->eps, a->norm_M, d_y, d_x);
}

lcl_status lcl_cuda_l2norm_fwd(struct lcl_exec *ex, const struct lcl_l2norm_args *a)
{
    LCL_TRY(lcl_check_rows("l2norm", a->dtype, a->M, a->C));
    return BY_DTYPE(a->dtype, l2norm_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_l2norm_bwd(struct lcl_exec *ex, const struct lcl_l2norm_args *a)
{
    LCL_TRY(lcl_check_rows("l2norm", a->dtype, a->M, a->C));
    if (!a->d_x_MC) return LCL_OK;
    return BY_DTYPE(a->dtype, l2norm_bwd, lcl_cuda_device_of(ex), a);
}
