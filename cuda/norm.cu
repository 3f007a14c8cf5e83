/* Layer norm and RMS norm, residual addition fused in front. One block a row; the row stays in
 * shared memory as f32 between the passes over it. Column sums of the backward: a partial sum for
 * each chunk of rows, then their sum in order.
 * Legend: M rows, C width, G chunks of rows. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

template <typename T> struct norm_rows {
    int64_t M, C;
    float eps;
    const T *x, *add;
    T *sum;
    const float *weight, *bias;
    T *y;
    float *mean, *rstd;
    const T *d_y, *d_sum;
    T *d_x;
    float *partial; /* [2][G][C]: of d_weight, of d_bias */
    int64_t rows_a_chunk, G;
};

template <typename T, int V, bool RMS> static __global__ void norm_fwd_kernel(norm_rows<T> n)
{
    SHARED_BYTES(shared);
    float *slots = (float *)shared, *row = slots + 2 * WARP;
    const int64_t m = blockIdx.x, step = (int64_t)blockDim.x * V;
    float total = 0;
    for (int64_t c = (int64_t)threadIdx.x * V; c < n.C; c += step) {
        float x[V];
        load_elements<V>(n.x + m * n.C + c, x);
        if (n.add) {
            float add[V];
            load_elements<V>(n.add + m * n.C + c, add);
            for (int i = 0; i < V; i++) x[i] += add[i];
            store_elements<V>(n.sum + m * n.C + c, x);
            if (sizeof(T) == 2) /* the norm is of what was stored */
                for (int i = 0; i < V; i++) {
                    T r;
                    from_f32(x[i], &r);
                    x[i] = to_f32(r);
                }
        }
        for (int i = 0; i < V; i++) total += RMS ? x[i] * x[i] : x[i];
        store_elements<V>(row + c, x);
    }
    total = block_sum(total, slots);
    float mean = 0;
    if (!RMS) {
        mean = total / (float)n.C;
        total = 0;
        for (int64_t c = (int64_t)threadIdx.x * V; c < n.C; c += step) {
            float x[V];
            load_elements<V>(row + c, x);
            for (int i = 0; i < V; i++) total += (x[i] - mean) * (x[i] - mean);
        }
        total = block_sum(total, slots + WARP);
    }
    const float rstd = rsqrt_f32(total / (float)n.C + n.eps);
    if (threadIdx.x == 0) {
        if (!RMS && n.mean) n.mean[m] = mean;
        if (n.rstd) n.rstd[m] = rstd;
    }
    for (int64_t c = (int64_t)threadIdx.x * V; c < n.C; c += step) {
        float x[V], w[V], b[V];
        load_elements<V>(row + c, x);
        load_elements<V>(n.weight + c, w);
        if (!RMS) load_elements<V>(n.bias + c, b);
        for (int i = 0; i < V; i++) x[i] = (x[i] - mean) * rstd * w[i] + (RMS ? 0 : b[i]);
        store_elements<V>(n.y + m * n.C + c, x);
    }
}

/* d_x = rstd (g - mean(g) - xhat mean(g xhat)) + d_sum, g = d_y weight; RMS lacks mean(g). */
template <typename T, int V, bool RMS> static __global__ void norm_bwd_kernel(norm_rows<T> n)
{
    SHARED_BYTES(shared);
    float *slots = (float *)shared, *d_weight = slots + 4 * WARP, *d_bias = d_weight + n.C;
    const int64_t step = (int64_t)blockDim.x * V, first = (int64_t)threadIdx.x * V;
    const int64_t begin = blockIdx.x * n.rows_a_chunk;
    const int64_t end = begin + n.rows_a_chunk < n.M ? begin + n.rows_a_chunk : n.M;
    const float zeros[V] = {};
    for (int64_t c = first; c < n.C; c += step) {
        store_elements<V>(d_weight + c, zeros);
        if (!RMS) store_elements<V>(d_bias + c, zeros);
    }
    for (int64_t m = begin; m < end; m++) {
        const float mean = RMS ? 0 : n.mean[m], rstd = n.rstd[m];
        float with_x = 0, alone = 0;
        for (int64_t c = first; c < n.C; c += step) {
            float x[V], d_y[V], w[V], sum[V];
            load_elements<V>(n.sum + m * n.C + c, x);
            load_elements<V>(n.d_y + m * n.C + c, d_y);
            load_elements<V>(n.weight + c, w);
            for (int i = 0; i < V; i++) {
                x[i] = (x[i] - mean) * rstd;
                with_x += d_y[i] * w[i] * x[i];
                alone += d_y[i] * w[i];
            }
            load_elements<V>(d_weight + c, sum);
            for (int i = 0; i < V; i++) sum[i] += d_y[i] * x[i];
            store_elements<V>(d_weight + c, sum);
            if (RMS) continue;
            load_elements<V>(d_bias + c, sum);
            for (int i = 0; i < V; i++) sum[i] += d_y[i];
            store_elements<V>(d_bias + c, sum);
        }
        /* two pairs of slots in turn: a row's sums are read while the next row's are made */
        float *mine = slots + (m % 2) * 2 * WARP;
        if (!n.d_x) continue;
        with_x = block_sum(with_x, mine) / (float)n.C;
        if (!RMS) alone = block_sum(alone, mine + WARP) / (float)n.C;
        for (int64_t c = first; c < n.C; c += step) {
            float x[V], d_y[V], w[V], residual[V];
            load_elements<V>(n.sum + m * n.C + c, x);
            load_elements<V>(n.d_y + m * n.C + c, d_y);
            load_elements<V>(n.weight + c, w);
            if (n.d_sum) load_elements<V>(n.d_sum + m * n.C + c, residual);
            for (int i = 0; i < V; i++) {
                float xhat = (x[i] - mean) * rstd;
                x[i] = rstd * (d_y[i] * w[i] - (RMS ? 0 : alone) - xhat * with_x);
                if (n.d_sum) x[i] += residual[i];
            }
            store_elements<V>(n.d_x + m * n.C + c, x);
        }
    }
    for (int64_t c = first; c < n.C; c += step) {
        float sum[V];
        load_elements<V>(d_weight + c, sum);
        store_elements<V>(n.partial + blockIdx.x * n.C + c, sum);
        if (RMS) continue;
        load_elements<V>(d_bias + c, sum);
        store_elements<V>(n.partial + (n.G + blockIdx.x) * n.C + c, sum);
    }
}

enum { MAX_CHUNKS = 512, MAX_BLOCK = 256, MAX_WIDTH = 16384 };

static lcl_status check(const char *op, lcl_dtype dtype, int64_t M, int64_t C, bool sum_missing)
{
    LCL_TRY(lcl_check_norm(op, dtype, M, C, sum_missing));
    if (C > MAX_WIDTH)
        return LCL_FAIL(LCL_SHAPE, "%s: width %lld; this backend takes up to %d", op, (long long)C,
                        MAX_WIDTH);
    return LCL_OK;
}

static unsigned threads_for(int64_t C, int V)
{
    unsigned threads = (blocks_for(C, V) + WARP - 1) / WARP * WARP;
    return threads < MAX_BLOCK ? threads : (unsigned)MAX_BLOCK;
}

template <typename T, bool RMS> static lcl_status forward(struct lcl_cuda_device *d, norm_rows<T> n)
{
    const size_t shared = (size_t)(2 * WARP + n.C) * sizeof(float);
    if (all_wide<float>(n.C, n.x, n.add, n.sum, n.y, n.weight, n.bias))
        return LCL_LAUNCH(d, (norm_fwd_kernel<T, MIXED, RMS>), dims((unsigned)n.M),
                          dims(threads_for(n.C, MIXED)), shared, n);
    return LCL_LAUNCH(d, (norm_fwd_kernel<T, 1, RMS>), dims((unsigned)n.M),
                      dims(threads_for(n.C, 1)), shared, n);
}

template <typename T, bool RMS>
static lcl_status backward(struct lcl_cuda_device *d, norm_rows<T> n, float *d_weight,
                           float *d_bias)
{
    n.rows_a_chunk = (n.M + MAX_CHUNKS - 1) / MAX_CHUNKS;
    if (!n.M) return LCL_OK;
    n.G = (n.M + n.rows_a_chunk - 1) / n.rows_a_chunk;
    void *partial;
    LCL_TRY(
        lcl_cuda_scratch(d, LCL_CUDA_PARTIALS, (size_t)(2 * n.G * n.C) * sizeof(float), &partial));
    n.partial = (float *)partial;
    const size_t shared = (size_t)(4 * WARP + (RMS ? 1 : 2) * n.C) * sizeof(float);
    if (all_wide<float>(n.C, n.sum, n.d_y, n.d_sum, n.d_x, n.weight))
        LCL_TRY(LCL_LAUNCH(d, (norm_bwd_kernel<T, MIXED, RMS>), dims((unsigned)n.G),
                           dims(threads_for(n.C, MIXED)), shared, n));
    else
        LCL_TRY(LCL_LAUNCH(d, (norm_bwd_kernel<T, 1, RMS>), dims((unsigned)n.G),
                           dims(threads_for(n.C, 1)), shared, n));
    if (d_weight) LCL_TRY(lcl_cuda_add_partials(d, n.partial, n.G, n.C, d_weight));
    if (d_bias) LCL_TRY(lcl_cuda_add_partials(d, n.partial + n.G * n.C, n.G, n.C, d_bias));
    return LCL_OK;
}

template <typename T> static norm_rows<T> of_layernorm(const struct lcl_layernorm_args *a)
{
    norm_rows<T> n = {};
    n.M = a->M, n.C = a->C, n.eps = a->eps;
    n.x = (const T *)a->x_MC, n.add = (const T *)a->add_MC, n.sum = (T *)a->sum_MC;
    n.weight = a->weight_C, n.bias = a->bias_C, n.y = (T *)a->y_MC;
    n.mean = a->mean_M, n.rstd = a->rstd_M;
    n.d_y = (const T *)a->d_y_MC, n.d_sum = (const T *)a->d_sum_MC, n.d_x = (T *)a->d_x_MC;
    return n;
}

template <typename T> static norm_rows<T> of_rmsnorm(const struct lcl_rmsnorm_args *a)
{
    norm_rows<T> n = {};
    n.M = a->M, n.C = a->C, n.eps = a->eps;
    n.x = (const T *)a->x_MC, n.add = (const T *)a->add_MC, n.sum = (T *)a->sum_MC;
    n.weight = a->weight_C, n.y = (T *)a->y_MC, n.rstd = a->rstd_M;
    n.d_y = (const T *)a->d_y_MC, n.d_sum = (const T *)a->d_sum_MC, n.d_x = (T *)a->d_x_MC;
    return n;
}

template <typename T>
static lcl_status layernorm_fwd(struct lcl_cuda_device *d, const struct lcl_layernorm_args *a)
{
    return forward<T, false>(d, of_layernorm<T>(a));
}
template <typename T>
static lcl_status layernorm_bwd(struct lcl_cuda_device *d, const struct lcl_layernorm_args *a)
{
    return backward<T, false>(d, of_layernorm<T>(a), a->d_weight_C, a->d_bias_C);
}
template <typename T>
static lcl_status rmsnorm_fwd(struct lcl_cuda_device *d, const struct lcl_rmsnorm_args *a)
{
    return forward<T, true>(d, of_rmsnorm<T>(a));
}
template <typename T>
static lcl_status rmsnorm_bwd(struct lcl_cuda_device *d, const struct lcl_rmsnorm_args *a)
{
    return backward<T, true>(d, of_rmsnorm<T>(a), a->d_weight_C, NULL);
}

lcl_status lcl_cuda_layernorm_fwd(struct lcl_exec *ex, const struct lcl_layernorm_args *a)
{
    LCL_TRY(check("layernorm", a->dtype, a->M, a->C, a->add_MC && !a->sum_MC));
    return BY_DTYPE(a->dtype, layernorm_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_layernorm_bwd(struct lcl_exec *ex, const struct lcl_layernorm_args *a)
{
    LCL_TRY(check("layernorm", a->dtype, a->M, a->C, false));
    return BY_DTYPE(a->dtype, layernorm_bwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_rmsnorm_fwd(struct lcl_exec *ex, const struct lcl_rmsnorm_args *a)
{
    LCL_TRY(check("rmsnorm", a->dtype, a->M, a->C, a->add_MC && !a->sum_MC));
    return BY_DTYPE(a->dtype, rmsnorm_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_rmsnorm_bwd(struct lcl_exec *ex, const struct lcl_rmsnorm_args *a)
{
    LCL_TRY(check("rmsnorm", a->dtype, a->M, a->C, false));
    return BY_DTYPE(a->dtype, rmsnorm_bwd, lcl_cuda_device_of(ex), a);
}
