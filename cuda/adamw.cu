/* The optimizer's elementwise work: AdamW, norm of the gradients, additions and conversions. A lane
 * takes 4 elements: f32 in 16 bytes and bf16 in 8, so that lanes leave no gaps in either.
 * Legend: V elements of a lane (4, or 1 where pointers are not aligned), G chunks. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

enum { BLOCK = 256, LANE = 4 };

template <int V> LCL_DEVICE void load_lane(const float *p, float x[V]) { load_elements<V>(p, x); }
template <int V> LCL_DEVICE void store_lane(float *p, const float x[V]) { store_elements<V>(p, x); }

template <int V> LCL_DEVICE void load_lane(const bf16 *p, float x[V])
{
    if constexpr (V == 1) {
        x[0] = to_f32(p[0]);
    } else {
        const uint64_t r = *(const uint64_t *)p;
        const uint32_t low = (uint32_t)r, high = (uint32_t)(r >> 32);
        x[0] = float_of(low << 16), x[1] = float_of(low & 0xffff0000u);
        x[2] = float_of(high << 16), x[3] = float_of(high & 0xffff0000u);
    }
}

template <int V> LCL_DEVICE void store_lane(bf16 *p, const float x[V])
{
    if constexpr (V == 1)
        from_f32(x[0], p);
    else
        *(uint64_t *)p = pack_bf16(x[0], x[1]) | (uint64_t)pack_bf16(x[2], x[3]) << 32;
}

template <int V> LCL_DEVICE void load_lane(const f16 *p, float x[V])
{
    for (int i = 0; i < V; i++) x[i] = to_f32(p[i]);
}

template <int V> LCL_DEVICE void store_lane(f16 *p, const float x[V])
{
    for (int i = 0; i < V; i++) from_f32(x[i], p + i);
}

/* p may be read and written by lanes of 4. */
template <typename T> static inline bool aligned(const T *p)
{
    return (uintptr_t)p % (LANE * sizeof(T)) == 0;
}

/* --- adamw --- */

/* torch.optim.AdamW's order of operations, its constants made in f64 and rounded once. */
struct adamw {
    int64_t count;
    float *value;
    const float *grad;
    float *m, *v;
    bf16 *value16;
    float grad_scale, keep, one_minus_beta1, beta2, one_minus_beta2, correction2_sqrt, eps,
        step_size;
};

template <int V> LCL_DEVICE void adamw_at(const adamw &k, int64_t at)
{
    float value[V], g[V], m[V], v[V];
    load_lane<V>(k.grad + at, g);
    load_lane<V>(k.m + at, m);
    load_lane<V>(k.v + at, v);
    load_lane<V>(k.value + at, value);
#pragma unroll
    for (int i = 0; i < V; i++) {
        g[i] *= k.grad_scale;
        m[i] += k.one_minus_beta1 * (g[i] - m[i]);
        v[i] = v[i] * k.beta2 + k.one_minus_beta2 * g[i] * g[i];
        float denominator = sqrtf(v[i]) / k.correction2_sqrt + k.eps;
        value[i] = value[i] * k.keep - k.step_size * m[i] / denominator;
    }
    store_lane<V>(k.m + at, m);
    store_lane<V>(k.v + at, v);
    store_lane<V>(k.value + at, value);
    if (k.value16) store_lane<V>(k.value16 + at, value);
}

template <int V> static __global__ void adamw_fwd_kernel(adamw k)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= k.count)
        adamw_at<V>(k, i);
    else
#pragma unroll 1
        for (; i < k.count; i++) adamw_at<1>(k, i);
}

lcl_status lcl_cuda_adamw_fwd(struct lcl_exec *ex, const struct lcl_adamw_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_adamw(a));
    const double correction1 = 1.0 - pow(a->beta1, (double)a->step);
    const double correction2 = 1.0 - pow(a->beta2, (double)a->step);
    adamw k = {};
    k.count = a->count;
    k.value = a->value, k.grad = a->grad, k.m = a->m, k.v = a->v;
    k.value16 = (bf16 *)a->value16;
    k.grad_scale = a->grad_scale;
    k.keep = (float)(1.0 - a->lr * a->weight_decay);
    k.one_minus_beta1 = (float)(1.0 - a->beta1);
    k.beta2 = (float)a->beta2;
    k.one_minus_beta2 = (float)(1.0 - a->beta2);
    k.correction2_sqrt = (float)sqrt(correction2);
    k.eps = (float)a->eps;
    k.step_size = (float)(a->lr / correction1);
    if (aligned(k.value) && aligned(k.grad) && aligned(k.m) && aligned(k.v) && aligned(k.value16))
        return LCL_LAUNCH(d, adamw_fwd_kernel<LANE>, dims(blocks_for(k.count, BLOCK * LANE)),
                          dims(BLOCK), 0, k);
    return LCL_LAUNCH(d, adamw_fwd_kernel<1>, dims(blocks_for(k.count, BLOCK)), dims(BLOCK), 0, k);
}

/* --- sumsq: a sum for each chunk, then one block adds them; each by a fixed tree --- */

enum { MAX_CHUNKS = 1024, MIN_CHUNK = 16 * BLOCK };

/* The sum over the block, in thread 0. tree: shared, BLOCK doubles. */
LCL_DEVICE double tree_sum(double x, double *tree)
{
    const unsigned t = threadIdx.x;
    tree[t] = x;
    for (unsigned width = BLOCK / 2; width > 0; width /= 2) {
        sync_block();
        if (t < width) tree[t] = x += tree[t + width];
    }
    return x;
}

LCL_DEVICE void add_square(float x, double *sum, unsigned long long *non_finite)
{
    *sum += (double)x * (double)x;
    *non_finite += (bits_of(x) & 0x7f800000u) == 0x7f800000u;
}

/* A lane takes 4 neighbours whatever V is: the sum's order does not depend on alignment. */
template <int V>
static __global__ void sumsq_fwd_kernel(const float *x, int64_t count, int64_t chunk,
                                        double *partial_G, unsigned long long *non_finite)
{
    SHARED_BYTES(shared);
    const int64_t begin = blockIdx.x * chunk;
    const int64_t end = begin + chunk < count ? begin + chunk : count;
    double sum = 0;
    unsigned long long bad = 0;
    int64_t i = begin + (int64_t)threadIdx.x * LANE;
#pragma unroll 4
    for (; i + LANE <= end; i += BLOCK * LANE) {
        float four[LANE];
#pragma unroll
        for (int j = 0; j < LANE; j += V) load_lane<V>(x + i + j, four + j);
#pragma unroll
        for (int j = 0; j < LANE; j++) add_square(four[j], &sum, &bad);
    }
#pragma unroll 1
    for (; i < end; i++) add_square(x[i], &sum, &bad);
    sum = tree_sum(sum, (double *)shared);
    if (threadIdx.x == 0) partial_G[blockIdx.x] = sum;
    if (non_finite && bad) atomic_add(non_finite, bad);
}

static __global__ void sumsq_total_kernel(const double *partial_G, int64_t G, double *out)
{
    SHARED_BYTES(shared);
    double sum = 0;
    for (int64_t g = threadIdx.x; g < G; g += BLOCK) sum += partial_G[g];
    sum = tree_sum(sum, (double *)shared);
    if (threadIdx.x == 0) *out = sum;
}

lcl_status lcl_cuda_sumsq_fwd(struct lcl_exec *ex, const struct lcl_sumsq_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_count("sumsq", a->count));
    const size_t shared = BLOCK * sizeof(double);
    const int64_t each = (a->count + MAX_CHUNKS - 1) / MAX_CHUNKS;
    const int64_t chunk = (each + MIN_CHUNK - 1) / MIN_CHUNK * MIN_CHUNK;
    const int64_t G = a->count ? (a->count + chunk - 1) / chunk : 0;
    void *partial, *sum, *non_finite;
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_PARTIALS, (size_t)G * sizeof(double), &partial));
    LCL_TRY(lcl_cuda_results_reserve(d, 2, sizeof *a->sum + sizeof *a->non_finite));
    LCL_TRY(lcl_cuda_result(d, a->sum, sizeof *a->sum, &sum));
    LCL_TRY(lcl_cuda_result(d, a->non_finite, sizeof *a->non_finite, &non_finite));
    if (aligned(a->x))
        LCL_TRY(LCL_LAUNCH(d, sumsq_fwd_kernel<LANE>, dims((unsigned)G), dims(BLOCK), shared, a->x,
                           a->count, chunk, (double *)partial, (unsigned long long *)non_finite));
    else
        LCL_TRY(LCL_LAUNCH(d, sumsq_fwd_kernel<1>, dims((unsigned)G), dims(BLOCK), shared, a->x,
                           a->count, chunk, (double *)partial, (unsigned long long *)non_finite));
    if (sum && G)
        LCL_TRY(LCL_LAUNCH(d, sumsq_total_kernel, dims(1), dims(BLOCK), shared,
                           (const double *)partial, G, (double *)sum));
    return lcl_cuda_op_end(d);
}

/* --- add --- */

template <typename X, typename Y, int V> LCL_DEVICE void add_at(const X *x, Y *y, float scale)
{
    float xs[V], ys[V];
    load_lane<V>(x, xs);
    load_lane<V>(y, ys);
#pragma unroll
    for (int i = 0; i < V; i++) ys[i] += scale * xs[i];
    store_lane<V>(y, ys);
}

template <typename X, typename Y, int V>
static __global__ void add_fwd_kernel(int64_t count, const X *x, Y *y, float scale)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= count)
        add_at<X, Y, V>(x + i, y + i, scale);
    else
#pragma unroll 1
        for (; i < count; i++) add_at<X, Y, 1>(x + i, y + i, scale);
}

template <typename Y, typename X>
static lcl_status add(struct lcl_cuda_device *d, const struct lcl_add_args *a, const X *x)
{
    Y *y = (Y *)a->y;
    if (aligned(x) && aligned(y))
        return LCL_LAUNCH(d, (add_fwd_kernel<X, Y, LANE>), dims(blocks_for(a->count, BLOCK * LANE)),
                          dims(BLOCK), 0, a->count, x, y, a->scale);
    return LCL_LAUNCH(d, (add_fwd_kernel<X, Y, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK),
                      0, a->count, x, y, a->scale);
}

template <typename X>
static lcl_status add_from(struct lcl_cuda_device *d, const struct lcl_add_args *a)
{
    return BY_DTYPE(a->y_dtype, add, d, a, (const X *)a->x);
}

lcl_status lcl_cuda_add_fwd(struct lcl_exec *ex, const struct lcl_add_args *a)
{
    LCL_TRY(lcl_check_dtype("add", a->x_dtype));
    LCL_TRY(lcl_check_dtype("add", a->y_dtype));
    LCL_TRY(lcl_check_count("add", a->count));
    return BY_DTYPE(a->x_dtype, add_from, lcl_cuda_device_of(ex), a);
}

/* --- cast --- */

template <typename X, typename Y, int V> LCL_DEVICE void cast_at(const X *x, Y *y)
{
    float xs[V];
    load_lane<V>(x, xs);
    store_lane<V>(y, xs);
}

template <typename X, typename Y, int V>
static __global__ void cast_fwd_kernel(int64_t count, const X *x, Y *y)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= count)
        cast_at<X, Y, V>(x + i, y + i);
    else
#pragma unroll 1
        for (; i < count; i++) cast_at<X, Y, 1>(x + i, y + i);
}

template <typename X, typename Y>
static lcl_status cast(struct lcl_cuda_device *d, const struct lcl_cast_args *a)
{
    const X *x = (const X *)a->x;
    Y *y = (Y *)a->y;
    if (aligned(x) && aligned(y))
        return LCL_LAUNCH(d, (cast_fwd_kernel<X, Y, LANE>),
                          dims(blocks_for(a->count, BLOCK * LANE)), dims(BLOCK), 0, a->count, x, y);
    return LCL_LAUNCH(d, (cast_fwd_kernel<X, Y, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK),
                      0, a->count, x, y);
}

lcl_status lcl_cuda_cast_fwd(struct lcl_exec *ex, const struct lcl_cast_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    const lcl_dtype x = a->x_dtype, y = a->y_dtype;
    LCL_TRY(lcl_check_count("cast", a->count));
    if (x == y) {
        if (a->count && a->x != a->y)
            LCL_CUDA_TRY(cudaMemcpyAsync(a->y, a->x, (size_t)a->count * lcl_dtype_bytes(x),
                                         cudaMemcpyDeviceToDevice, (cudaStream_t)d->stream));
        return LCL_OK;
    }
    if (x == LCL_F32 && y == LCL_BF16) return cast<float, bf16>(d, a);
    if (x == LCL_BF16 && y == LCL_F32) return cast<bf16, float>(d, a);
    if (x == LCL_F32 && y == LCL_F16) return cast<float, f16>(d, a);
    if (x == LCL_F16 && y == LCL_F32) return cast<f16, float>(d, a);
    return LCL_FAIL(LCL_UNSUPPORTED, "no conversion from %s to %s in this backend",
                    lcl_dtype_name(x), lcl_dtype_name(y));
}
