/* Activations: the GELU forms and SwiGLU. A lane makes V neighbouring elements and has read all
 * that they need before it writes, so outputs may lie over inputs.
 * Legend: M rows, F feed-forward width. */
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

enum { BLOCK = 256 };

static constexpr float inv_sqrt_2pi = 0.398942280f;
/* 2 sqrt(2 / pi): tanh form = x sigmoid(scale (x + c x^3)) */
static constexpr float tanh_scale = 1.59576912f;
static constexpr float tanh_cubic = 0.044715f;

LCL_DEVICE float sigmoid(float x) { return fast_reciprocal(1.0f + expf(-x)); }

/* The normal distribution function Phi(x), and exp(-x^2 / 2) in *bell. By Phi(-|x|) = exp(-x^2 / 2)
 * erfcx(|x| / sqrt 2) / 2; the polynomial for erfcx is that of cpu/simd.h. */
LCL_DEVICE float normal_cdf(float x, float *bell)
{
    float z = fminf(fabsf(x) * 0.707106781f, 9.5f);
    float t = fast_reciprocal(1.0f + 0.4f * z);
    float p = -0.03432290098f;
    p = p * t + 0.2234391024f;
    p = p * t - 0.5579407408f;
    p = p * t + 0.6253234122f;
    p = p * t - 0.3482692044f;
    p = p * t + 0.305856496f;
    p = p * t + 0.1181873126f;
    p = p * t + 0.2173390949f;
    p = p * t + 0.2246660854f;
    p = p * t + 0.2257213437f;
    *bell = expf(-0.5f * x * x);
    float tail = 0.5f * p * t * *bell;
    return x < 0.0f ? tail : 1.0f - tail;
}

template <int V> LCL_DEVICE void gelu(enum lcl_gelu_kind kind, const float x[V], float y[V])
{
    switch (kind) {
    case LCL_GELU_ERF:
#pragma unroll
        for (int i = 0; i < V; i++) {
            float bell;
            y[i] = x[i] * normal_cdf(x[i], &bell);
        }
        return;
    case LCL_GELU_QUICK:
#pragma unroll
        for (int i = 0; i < V; i++) y[i] = x[i] * sigmoid(1.702f * x[i]);
        return;
    case LCL_GELU_TANH:
#pragma unroll
        for (int i = 0; i < V; i++)
            y[i] = x[i] * sigmoid(tanh_scale * x[i] * (1.0f + tanh_cubic * x[i] * x[i]));
        return;
    }
}

/* d: d_y, then d_x. */
template <int V>
LCL_DEVICE void gelu_gradient(enum lcl_gelu_kind kind, const float x[V], float d[V])
{
    switch (kind) {
    case LCL_GELU_ERF:
#pragma unroll
        for (int i = 0; i < V; i++) {
            float bell, cdf = normal_cdf(x[i], &bell);
            d[i] *= cdf + x[i] * bell * inv_sqrt_2pi;
        }
        return;
    case LCL_GELU_QUICK:
#pragma unroll
        for (int i = 0; i < V; i++) {
            float s = sigmoid(1.702f * x[i]);
            d[i] *= s + 1.702f * x[i] * s * (1.0f - s);
        }
        return;
    case LCL_GELU_TANH:
#pragma unroll
        for (int i = 0; i < V; i++) {
            float x2 = x[i] * x[i];
            float s = sigmoid(tanh_scale * x[i] * (1.0f + tanh_cubic * x2));
            float slope = tanh_scale * (1.0f + 3.0f * tanh_cubic * x2);
            d[i] *= s + x[i] * s * (1.0f - s) * slope;
        }
        return;
    }
}

template <typename T> struct gelu_row {
    int64_t count;
    enum lcl_gelu_kind kind;
    const T *x;
    T *y;
    const T *d_y;
    T *d_x;
};

template <typename T, int V> LCL_DEVICE void gelu_fwd_at(const gelu_row<T> &g, int64_t i)
{
    float x[V], y[V];
    load_elements<V>(g.x + i, x);
    gelu<V>(g.kind, x, y);
    store_elements<V>(g.y + i, y);
}

template <typename T, int V> LCL_DEVICE void gelu_bwd_at(const gelu_row<T> &g, int64_t i)
{
    float x[V], d[V];
    load_elements<V>(g.x + i, x);
    load_elements<V>(g.d_y + i, d);
    gelu_gradient<V>(g.kind, x, d);
    store_elements<V>(g.d_x + i, d);
}

template <typename T, int V> static __global__ void gelu_fwd_kernel(gelu_row<T> g)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= g.count)
        gelu_fwd_at<T, V>(g, i);
    else
#pragma unroll 1
        for (; i < g.count; i++) gelu_fwd_at<T, 1>(g, i);
}

template <typename T, int V> static __global__ void gelu_bwd_kernel(gelu_row<T> g)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= g.count)
        gelu_bwd_at<T, V>(g, i);
    else
#pragma unroll 1
        for (; i < g.count; i++) gelu_bwd_at<T, 1>(g, i);
}

template <typename T> static gelu_row<T> of_gelu(const struct lcl_gelu_args *a)
{
    gelu_row<T> g = {};
    g.count = a->count, g.kind = a->kind;
    g.x = (const T *)a->x, g.y = (T *)a->y;
    g.d_y = (const T *)a->d_y, g.d_x = (T *)a->d_x;
    return g;
}

template <typename T>
static lcl_status gelu_fwd(struct lcl_cuda_device *d, const struct lcl_gelu_args *a)
{
    constexpr int V = wide<T>();
    if (all_wide<T>(0, a->x, a->y))
        return LCL_LAUNCH(d, (gelu_fwd_kernel<T, V>), dims(blocks_for(a->count, BLOCK * V)),
                          dims(BLOCK), 0, of_gelu<T>(a));
    return LCL_LAUNCH(d, (gelu_fwd_kernel<T, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK), 0,
                      of_gelu<T>(a));
}

template <typename T>
static lcl_status gelu_bwd(struct lcl_cuda_device *d, const struct lcl_gelu_args *a)
{
    constexpr int V = wide<T>();
    if (all_wide<T>(0, a->x, a->d_y, a->d_x))
        return LCL_LAUNCH(d, (gelu_bwd_kernel<T, V>), dims(blocks_for(a->count, BLOCK * V)),
                          dims(BLOCK), 0, of_gelu<T>(a));
    return LCL_LAUNCH(d, (gelu_bwd_kernel<T, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK), 0,
                      of_gelu<T>(a));
}

lcl_status lcl_cuda_gelu_fwd(struct lcl_exec *ex, const struct lcl_gelu_args *a)
{
    LCL_TRY(lcl_check_gelu(a));
    return BY_DTYPE(a->dtype, gelu_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_gelu_bwd(struct lcl_exec *ex, const struct lcl_gelu_args *a)
{
    LCL_TRY(lcl_check_gelu(a));
    if (!a->d_x) return LCL_OK;
    return BY_DTYPE(a->dtype, gelu_bwd, lcl_cuda_device_of(ex), a);
}

/* --- swiglu --- */

template <typename T> struct swiglu_rows {
    int64_t F;
    const T *gate_up_M2F;
    T *y_MF;
    const T *d_y_MF;
    T *d_gate_up_M2F;
};

template <typename T, int V> static __global__ void swiglu_fwd_kernel(swiglu_rows<T> r)
{
    const int64_t m = blockIdx.x, f = my_column<V>();
    if (f >= r.F) return;
    float gate[V], up[V];
    load_elements<V>(r.gate_up_M2F + m * 2 * r.F + f, gate);
    load_elements<V>(r.gate_up_M2F + m * 2 * r.F + r.F + f, up);
#pragma unroll
    for (int i = 0; i < V; i++) up[i] *= gate[i] * sigmoid(gate[i]);
    store_elements<V>(r.y_MF + m * r.F + f, up);
}

template <typename T, int V> static __global__ void swiglu_bwd_kernel(swiglu_rows<T> r)
{
    const int64_t m = blockIdx.x, f = my_column<V>();
    if (f >= r.F) return;
    float gate[V], up[V], d_y[V];
    load_elements<V>(r.gate_up_M2F + m * 2 * r.F + f, gate);
    load_elements<V>(r.gate_up_M2F + m * 2 * r.F + r.F + f, up);
    load_elements<V>(r.d_y_MF + m * r.F + f, d_y);
#pragma unroll
    for (int i = 0; i < V; i++) {
        float s = sigmoid(gate[i]), silu = gate[i] * s;
        gate[i] = d_y[i] * up[i] * (s + silu * (1.0f - s));
        up[i] = d_y[i] * silu;
    }
    store_elements<V>(r.d_gate_up_M2F + m * 2 * r.F + f, gate);
    store_elements<V>(r.d_gate_up_M2F + m * 2 * r.F + r.F + f, up);
}

template <typename T> static swiglu_rows<T> of_swiglu(const struct lcl_swiglu_args *a)
{
    swiglu_rows<T> r = {};
    r.F = a->F, r.gate_up_M2F = (const T *)a->gate_up_M2F, r.y_MF = (T *)a->y_MF;
    r.d_y_MF = (const T *)a->d_y_MF, r.d_gate_up_M2F = (T *)a->d_gate_up_M2F;
    return r;
}

template <typename T>
static lcl_status swiglu_fwd(struct lcl_cuda_device *d, const struct lcl_swiglu_args *a)
{
    return LAUNCH_ROWS(d, swiglu_fwd_kernel, T, wide<T>(),
                       all_wide<T>(a->F, a->gate_up_M2F, a->y_MF), a->M, a->F, of_swiglu<T>(a));
}

template <typename T>
static lcl_status swiglu_bwd(struct lcl_cuda_device *d, const struct lcl_swiglu_args *a)
{
    const bool wide_rows = all_wide<T>(a->F, a->gate_up_M2F, a->d_y_MF, a->d_gate_up_M2F);
    return LAUNCH_ROWS(d, swiglu_bwd_kernel, T, wide<T>(), wide_rows, a->M, a->F, of_swiglu<T>(a));
}

lcl_status lcl_cuda_swiglu_fwd(struct lcl_exec *ex, const struct lcl_swiglu_args *a)
{
    LCL_TRY(lcl_check_swiglu(a));
    return BY_DTYPE(a->dtype, swiglu_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_swiglu_bwd(struct lcl_exec *ex, const struct lcl_swiglu_args *a)
{
    LCL_TRY(lcl_check_swiglu(a));
    if (!a->d_gate_up_M2F) return LCL_OK;
    return BY_DTYPE(a->dtype, swiglu_bwd, lcl_cuda_device_of(ex), a);
}
