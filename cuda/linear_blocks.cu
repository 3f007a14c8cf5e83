/* linear with a weight in blocks (core/blocks.h): few rows of x meet the codes as they are read;
 * for many, panels of the weight are decoded to the type of x and multiplied by gemm.h.
 * Legend: M rows, N outputs, K inputs; a unit is the 4 bytes of codes that a lane reads at once. */
#include "cuda/gemm.h"
#include "cuda/kernel.cuh"
#include "cuda/linear_blocks.h"

enum {
    BLOCK = 256,
    UNITS = 4,       /* of a thread that decodes */
    DOT_BLOCK = 128, /* threads */
    FEW_ROWS = 8,    /* of x: up to so many without panels */
    PANEL_BYTES = 32 << 20,
    PANEL_STEP = 256 /* columns of the product */
};

/* Elements of a unit: q8_0 has 4 neighbours, q4_0 4 neighbours and the 4 that lie half a block on.
 */
template <bool Q8> constexpr int unit_size = Q8 ? 4 : 8;

/* The first elements of a unit within its row, and those half a block on. */
template <bool Q8> LCL_DEVICE int64_t unit_at(int64_t unit)
{
    return Q8 ? unit * 4 : unit / 4 * LCL_BLOCK + unit % 4 * 4;
}

/* As numbers of T: what the product multiplies. */
template <typename T> LCL_DEVICE float rounded(float x)
{
    T narrow;
    from_f32(x, &narrow);
    return to_f32(narrow);
}

template <typename T, bool Q8>
LCL_DEVICE void decode_unit(uint32_t codes, float step, float x[unit_size<Q8>])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (Q8) {
            x[i] = rounded<T>((float)(int8_t)(codes >> 8 * i) * step);
        } else {
            x[i] = rounded<T>((float)((int)(codes >> 8 * i & 15u) - 8) * step);
            x[i + 4] = rounded<T>((float)((int)(codes >> (8 * i + 4) & 15u) - 8) * step);
        }
    }
}

/* Rows of codes and scales from a panel's first element on. */
struct coded {
    const uint32_t *unit;
    const f16 *scale;
    int64_t units, blocks; /* a row of the weight */
};

/* panel[r, k] for the `units` first units of each row. */
template <typename T, bool Q8>
static __global__ void decode_kernel(coded w, int64_t units, int64_t depth, T *panel)
{
    const uint32_t *unit = w.unit + blockIdx.x * w.units;
    const f16 *scale = w.scale + blockIdx.x * w.blocks;
    T *row = panel + blockIdx.x * depth;
    uint32_t codes[UNITS];
    float x[unit_size<Q8>];
#pragma unroll
    for (int i = 0; i < UNITS; i++) {
        const int64_t u = ((int64_t)blockIdx.y * UNITS + i) * BLOCK + threadIdx.x;
        codes[i] = u < units ? unit[u] : 0;
    }
#pragma unroll
    for (int i = 0; i < UNITS; i++) {
        const int64_t u = ((int64_t)blockIdx.y * UNITS + i) * BLOCK + threadIdx.x;
        if (u >= units) return;
        const int64_t k = unit_at<Q8>(u);
        decode_unit<T, Q8>(codes[i], to_f32(scale[k / LCL_BLOCK]), x);
        store_elements<4>(row + k, x);
        if constexpr (!Q8) store_elements<4>(row + k + LCL_BLOCK / 2, x + 4);
    }
}

template <typename T, bool Q8>
LCL_DEVICE void load_unit(const T *x_K, int64_t unit, float x[unit_size<Q8>])
{
    const int64_t k = unit_at<Q8>(unit);
    load_elements<4>(x_K + k, x);
    if constexpr (!Q8) load_elements<4>(x_K + k + LCL_BLOCK / 2, x + 4);
}

struct dots_params {
    coded w;
    int64_t M, N, K;
    const void *x_MK;
    void *y_MN;
    const float *bias_N; /* or NULL */
    float scale;
    bool accumulate;
};

/* A warp makes OUT columns of y for all of its M <= ROWS rows; its lanes share each row of the
 * weight unit by unit, and sums go over the warp by a fixed tree. */
template <typename T, bool Q8, int ROWS, int OUT> static __global__ void dots_kernel(dots_params p)
{
    enum { SIZE = unit_size<Q8> };
    const int lane = threadIdx.x % WARP;
    const int64_t first = ((int64_t)blockIdx.x * (DOT_BLOCK / WARP) + threadIdx.x / WARP) * OUT;
    const T *x_MK = (const T *)p.x_MK;
    float sum[OUT][ROWS] = {};
    if (first >= p.N) return;
#pragma unroll(ROWS == 1 ? 4 : 1)
    for (int64_t u = lane; u < p.w.units; u += WARP) {
        float w[OUT][SIZE], x[SIZE];
#pragma unroll
        for (int o = 0; o < OUT; o++) {
            const int64_t n = first + o < p.N ? first + o : p.N - 1;
            const f16 step = p.w.scale[n * p.w.blocks + unit_at<Q8>(u) / LCL_BLOCK];
            decode_unit<T, Q8>(p.w.unit[n * p.w.units + u], to_f32(step), w[o]);
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            if (m >= p.M) break;
            load_unit<T, Q8>(x_MK + m * p.K, u, x);
#pragma unroll
            for (int o = 0; o < OUT; o++)
#pragma unroll
                for (int i = 0; i < SIZE; i++) sum[o][m] += x[i] * w[o][i];
        }
    }
#pragma unroll
    for (int m = 0; m < ROWS; m++)
#pragma unroll
        for (int o = 0; o < OUT; o++) {
            if (m >= p.M) break;
            float y = p.scale * warp_sum(sum[o][m]);
            if (lane != o || first + o >= p.N) continue;
            T *at = (T *)p.y_MN + m * p.N + first + o;
            if (p.bias_N) y += p.bias_N[first + o];
            if (p.accumulate) y += to_f32(*at);
            from_f32(y, at);
        }
}

/* --- launchers --- */

static float scale_of(const struct lcl_linear_args *a) { return a->scale == 0 ? 1 : a->scale; }

/* The weight from element k of a row on. */
static coded coded_at(const struct lcl_linear_args *a, int64_t row, int64_t k)
{
    const size_t at = (size_t)(row * a->K + k);
    coded w;
    w.unit =
        (const uint32_t *)((const uint8_t *)a->weight_NK + lcl_code_bytes(a->weight_dtype, at));
    w.scale = (const f16 *)a->weight_scale_NB + at / LCL_BLOCK;
    w.units = (int64_t)lcl_code_bytes(a->weight_dtype, (size_t)a->K) / 4;
    w.blocks = a->K / LCL_BLOCK;
    return w;
}

/* Rows [row, row + rows) and columns [k, k + depth) of the weight. */
struct panel {
    int64_t row, rows, k, depth;
    void *x;
};

template <typename T>
static lcl_status decode(struct lcl_cuda_device *d, const struct lcl_linear_args *a,
                         const struct panel *p)
{
    const coded w = coded_at(a, p->row, p->k);
    const int64_t units = (int64_t)lcl_code_bytes(a->weight_dtype, (size_t)p->depth) / 4;
    const dim3 grid = dims((unsigned)p->rows, blocks_for(units, BLOCK * UNITS));
    if (a->weight_dtype == LCL_Q8_0)
        return LCL_LAUNCH(d, (decode_kernel<T, true>), grid, dims(BLOCK), 0, w, units, p->depth,
                          (T *)p->x);
    return LCL_LAUNCH(d, (decode_kernel<T, false>), grid, dims(BLOCK), 0, w, units, p->depth,
                      (T *)p->x);
}

/* Columns of the product at a time, of `all`, each of `other` elements of the weight. */
static int64_t panel_columns(const struct lcl_linear_args *a, int64_t all, int64_t other)
{
    const int64_t bytes = (other > 0 ? other : 1) * (int64_t)lcl_dtype_bytes(a->dtype);
    int64_t columns = PANEL_BYTES / bytes / PANEL_STEP * PANEL_STEP;
    if (columns < PANEL_STEP) columns = PANEL_STEP;
    return columns < all ? columns : all;
}

static lcl_status reserve(struct lcl_cuda_device *d, const struct lcl_linear_args *a,
                          int64_t elements, struct panel *p)
{
    return lcl_cuda_scratch(d, LCL_CUDA_ROWS, (size_t)(elements + 1) * lcl_dtype_bytes(a->dtype),
                            &p->x);
}

/* Products that add a bias write whole rows: their weights, of a tower or a projector, are one
 * panel. */
static lcl_status by_panels(struct lcl_cuda_device *d, const struct lcl_linear_args *a)
{
    const int64_t columns = a->bias_N ? a->N : panel_columns(a, a->N, a->K);
    struct panel p = {0, 0, 0, a->K, NULL};
    LCL_TRY(reserve(d, a, columns * a->K, &p));
    for (; p.row < a->N; p.row += columns) {
        p.rows = a->N - p.row < columns ? a->N - p.row : columns;
        LCL_TRY(BY_DTYPE(a->dtype, decode, d, a, &p));
        struct lcl_cuda_gemm g = {};
        g.form = LCL_CUDA_NT;
        g.M = a->M, g.N = p.rows, g.K = a->K;
        g.a = a->x_MK, g.b = p.x;
        g.a_dtype = g.b_dtype = g.c_dtype = a->dtype;
        g.c = (unsigned char *)a->y_MN + (size_t)p.row * lcl_dtype_bytes(a->dtype);
        g.ldc = p.rows < a->N ? a->N : 0;
        g.accumulate = a->accumulate_y, g.alpha = scale_of(a), g.bias_N = a->bias_N;
        LCL_TRY(lcl_cuda_gemm_run(d, &g));
    }
    return LCL_OK;
}

lcl_status lcl_cuda_linear_blocks_bwd(struct lcl_cuda_device *d, const struct lcl_linear_args *a)
{
    const int64_t columns = panel_columns(a, a->K, a->N);
    struct panel p = {0, a->N, 0, 0, NULL};
    LCL_TRY(reserve(d, a, columns * a->N, &p));
    for (; p.k < a->K; p.k += columns) {
        p.depth = a->K - p.k < columns ? a->K - p.k : columns;
        LCL_TRY(BY_DTYPE(a->dtype, decode, d, a, &p));
        struct lcl_cuda_gemm g = {};
        g.form = LCL_CUDA_NN;
        g.M = a->M, g.N = p.depth, g.K = a->N;
        g.a = a->d_y_MN, g.b = p.x;
        g.a_dtype = g.b_dtype = g.c_dtype = a->dtype;
        g.c = (unsigned char *)a->d_x_MK + (size_t)p.k * lcl_dtype_bytes(a->dtype);
        g.ldc = p.depth < a->K ? a->K : 0;
        g.accumulate = a->accumulate_d_x, g.alpha = scale_of(a);
        LCL_TRY(lcl_cuda_gemm_run(d, &g));
    }
    return LCL_OK;
}

template <typename T, bool Q8>
static lcl_status launch_dots(struct lcl_cuda_device *d, const dots_params &p)
{
    const unsigned warps = DOT_BLOCK / WARP;
    if (p.M == 1)
        return LCL_LAUNCH(d, (dots_kernel<T, Q8, 1, 2>), dims(blocks_for(p.N, warps * 2)),
                          dims(DOT_BLOCK), 0, p);
    return LCL_LAUNCH(d, (dots_kernel<T, Q8, FEW_ROWS, 4>), dims(blocks_for(p.N, warps * 4)),
                      dims(DOT_BLOCK), 0, p);
}

template <typename T>
static lcl_status dots(struct lcl_cuda_device *d, const struct lcl_linear_args *a)
{
    const dots_params p = {coded_at(a, 0, 0), a->M,      a->N,        a->K,           a->x_MK,
                           a->y_MN,           a->bias_N, scale_of(a), a->accumulate_y};
    return a->weight_dtype == LCL_Q8_0 ? launch_dots<T, true>(d, p) : launch_dots<T, false>(d, p);
}

lcl_status lcl_cuda_linear_blocks_fwd(struct lcl_cuda_device *d, const struct lcl_linear_args *a)
{
    if (!a->M || !a->N) return LCL_OK;
    if (a->M > FEW_ROWS || !all_wide<float>(a->K, a->x_MK)) return by_panels(d, a);
    return BY_DTYPE(a->dtype, dots, d, a);
}
