/* Products of few rows with a matrix that is read once, as decoding has them: c_MN = x_MK w_NK^T.
 * Each element is a sum of its own over K, in one order for every M, N and thread. */
#include "cpu/gemm.h"
#include "cpu/gemm_library.h"
#include "cpu/microkernel.h"
#include "cpu/rows.h"

enum {
    X_ROWS = 3, /* of x at once: 12 sums, a vector of w and three of x fill 16 registers */
    W_ROWS = 4, /* of w at once: streams that the processor follows */
    CHUNK_FLOATS = 32768, /* of w: a few chunks a thread where w is small */
    SCRATCH_X = LCL_GEMM_SCRATCH_FIRST,
};

typedef uint16_t half_unaligned __attribute__((vector_size(VL * 2), aligned(2), may_alias));

struct gemv {
    const struct lcl_gemm_call *call;
    const float *x_MK;
    int64_t ldx, rows; /* rows of w a chunk */
};

static inline vf load_w(const void *w, const bool bf16, int64_t i)
{
    if (!bf16) return v_load((const float *)w + i);
    half_unaligned h = *(const half_unaligned *)((const lcl_bf16 *)w + i);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

static inline float load_w1(const void *w, const bool bf16, int64_t i)
{
    return bf16 ? lcl_bf16_to_f32(((const lcl_bf16 *)w)[i]) : ((const float *)w)[i];
}

/* Halves until one is left. */
static inline float add_lanes(vf x)
{
    float lane[VL];
    v_store(lane, x);
    for (int n = VL / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) lane[i] += lane[i + n];
    return lane[0];
}

/* sum[m][n] = x[m] . w[n] of xs rows of x and ws of w; the rows of w that follow are asked for
 * meanwhile. */
static inline __attribute__((always_inline)) void dots(const int xs, const int ws, const bool bf16,
                                                       int64_t K, const float *x, int64_t ldx,
                                                       const void *w, int64_t at, int64_t ldw,
                                                       float sum[X_ROWS][W_ROWS])
{
    vf acc[X_ROWS][W_ROWS];
    int64_t k = 0;
#pragma GCC unroll 3
    for (int m = 0; m < xs; m++)
#pragma GCC unroll 4
        for (int n = 0; n < ws; n++) acc[m][n] = (vf){0};
    for (; k + VL <= K; k += VL) {
        vf v[X_ROWS];
#pragma GCC unroll 3
        for (int m = 0; m < xs; m++) v[m] = v_load(x + m * ldx + k);
#pragma GCC unroll 4
        for (int n = 0; n < ws; n++) {
            int64_t e = at + n * ldw + k;
            vf u = load_w(w, bf16, e);
            __builtin_prefetch((const char *)w + (e + ws * ldw) * (bf16 ? 2 : 4));
#pragma GCC unroll 3
            for (int m = 0; m < xs; m++) acc[m][n] += v[m] * u;
        }
    }
    for (int m = 0; m < xs; m++)
        for (int n = 0; n < ws; n++) {
            sum[m][n] = add_lanes(acc[m][n]);
            for (int64_t i = k; i < K; i++)
                sum[m][n] += x[m * ldx + i] * load_w1(w, bf16, at + n * ldw + i);
        }
}

static void store(const struct lcl_gemm_call *t, int64_t row, int64_t col, float sum)
{
    float *c32 = (float *)t->c + row * t->ldc + col;
    lcl_bf16 *c16 = (lcl_bf16 *)t->c + row * t->ldc + col;
    const bool narrow = t->c_type == LCL_BF16;
    float y = t->alpha * sum + (t->bias ? t->bias[col] : 0);
    if (t->beta != 0) y += t->beta * (narrow ? lcl_bf16_to_f32(*c16) : *c32);
    if (narrow)
        *c16 = lcl_f32_to_bf16(y);
    else
        *c32 = y;
}

/* All rows of x with ws rows of w from `col` on. */
static inline __attribute__((always_inline)) void some_columns(const struct gemv *g, const int ws,
                                                               const bool bf16, int64_t col)
{
    const struct lcl_gemm_call *t = g->call;
    const int64_t at = col * t->ldb;
    for (int64_t row = 0; row < t->M; row += X_ROWS) {
        const float *x = g->x_MK + row * g->ldx;
        const int64_t xs = t->M - row < X_ROWS ? t->M - row : X_ROWS;
        float sum[X_ROWS][W_ROWS];
        if (xs == 3)
            dots(3, ws, bf16, t->K, x, g->ldx, t->b, at, t->ldb, sum);
        else if (xs == 2)
            dots(2, ws, bf16, t->K, x, g->ldx, t->b, at, t->ldb, sum);
        else
            dots(1, ws, bf16, t->K, x, g->ldx, t->b, at, t->ldb, sum);
        for (int64_t m = 0; m < xs; m++)
            for (int n = 0; n < ws; n++) store(t, row + m, col + n, sum[m][n]);
    }
}

static inline __attribute__((always_inline)) void columns(const struct gemv *g, const bool bf16,
                                                          int64_t begin, int64_t end)
{
    for (; begin + W_ROWS <= end; begin += W_ROWS) some_columns(g, W_ROWS, bf16, begin);
    for (; begin < end; begin++) some_columns(g, 1, bf16, begin);
}

static lcl_status multiply(void *ctx, int64_t chunk)
{
    const struct gemv *g = ctx;
    const int64_t begin = chunk * g->rows, end = lcl_chunk_end(chunk, g->rows, g->call->N);
    if (g->call->b_type == LCL_BF16)
        columns(g, true, begin, end);
    else
        columns(g, false, begin, end);
    return LCL_OK;
}

lcl_status LCL_CPU(gemv)(const struct lcl_gemm_call *t)
{
    struct gemv g = {t, t->a, t->lda, CHUNK_FLOATS / t->K / W_ROWS * W_ROWS};
    if (g.rows < W_ROWS) g.rows = W_ROWS;
    if (t->a_type == LCL_BF16) {
        float *x = lcl_thread_scratch(SCRATCH_X, (size_t)(t->M * t->K) * sizeof *x);
        if (!x) return LCL_FAIL(LCL_MEMORY, "gemm: no memory for %lld rows", (long long)t->M);
        for (int64_t m = 0; m < t->M; m++)
            row_widen(x + m * t->K, (const lcl_bf16 *)t->a + m * t->lda, t->K);
        g.x_MK = x;
        g.ldx = t->K;
    }
    return lcl_parallel(lcl_chunk_count(t->N, g.rows), multiply, &g);
}
