/* The own product behind cpu/gemm_library.h: blocks of a and b are copied to f32 scratch in the
 * order in which the microkernel reads them (Goto & van de Geijn 2008), so bf16 costs no pass of
 * its own and any stride or transpose is as good as another. cpu/README.md says where it is used
 * instead of a library, and by how much it wins there. */
#include "cpu/gemm.h"
#include "cpu/gemm_library.h"
#include "cpu/microkernel.h"
#include "cpu/rows.h"

enum {
    DEPTH = 256, /* a panel of b, DEPTH x 3 vectors, stays in the first-level cache */
    AHEAD = 4,   /* rows that a copy asks for before it needs them */
    ROWS = 192,  /* a block of a, ROWS x DEPTH, stays in the second-level cache */
};

static int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Vectors of the next panel when `left` remain: 3, and never a single one where two pairs do. */
static int panel_vecs(int64_t left) { return left == 4 ? 2 : (int)min64(left, MK_VECS); }

static inline float load1(const void *x, bool bf16, int64_t i)
{
    return bf16 ? lcl_bf16_to_f32(((const lcl_bf16 *)x)[i]) : ((const float *)x)[i];
}

/* Asks for `rows` rows of n elements from `at` on: they are read next, too far apart for the
 * processor to guess. */
static inline void fetch(const void *x, bool bf16, int64_t at, int64_t ld, int64_t rows, int64_t n)
{
    const int64_t bytes = bf16 ? 2 : 4;
    for (int64_t i = 0; i < rows; i++)
        for (const char *p = (const char *)x + (at + i * ld) * bytes, *end = p + n * bytes; p < end;
             p += 64)
            __builtin_prefetch(p);
}

/* Panel of a stored [N, ld] matrix: dst[k][n] = x[n][k], k < depth, n < width (zero from `rows`
 * on). */
static inline __attribute__((always_inline)) void pack_transposed(float *dst, int64_t width,
                                                                  const void *x, const bool bf16,
                                                                  int64_t at, int64_t ld,
                                                                  int64_t rows, int64_t depth)
{
    int64_t n = 0;
#if defined(__SSE2__)
    for (; n + 4 <= rows; n += 4) {
        int64_t k = 0;
        if (n + 8 <= rows) fetch(x, bf16, at + (n + 4) * ld, ld, 4, depth);
        for (; k + 4 <= depth; k += 4) {
            __m128 v[4];
            for (int i = 0; i < 4; i++) {
                int64_t e = at + (n + i) * ld + k;
                if (bf16) {
                    __m128i half =
                        _mm_loadl_epi64((const __m128i *)(const void *)((const lcl_bf16 *)x + e));
                    v[i] = _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
                } else {
                    v[i] = _mm_loadu_ps((const float *)x + e);
                }
            }
            _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
            for (int i = 0; i < 4; i++) _mm_storeu_ps(dst + (k + i) * width + n, v[i]);
        }
        for (; k < depth; k++)
            for (int i = 0; i < 4; i++)
                dst[k * width + n + i] = load1(x, bf16, at + (n + i) * ld + k);
    }
#endif
    for (; n < width; n++)
        for (int64_t k = 0; k < depth; k++)
            dst[k * width + n] = n < rows ? load1(x, bf16, at + n * ld + k) : 0;
}

/* dst[0..width) = elements from `at` on, zero from n on. */
static inline void copy_row(float *dst, int64_t width, const void *x, lcl_dtype type, int64_t at,
                            int64_t n)
{
    if (type == LCL_F32)
        memcpy(dst, (const float *)x + at, (size_t)n * sizeof(float));
    else
        row_widen(dst, (const lcl_bf16 *)x + at, n);
    for (int64_t i = n; i < width; i++) dst[i] = 0;
}

/* Rows [k, k + depth) of op(b) as panels [panel][depth][its vectors]. */
static void pack_b(const struct lcl_gemm_call *t, int64_t k, int64_t depth, float *dst)
{
    int64_t vecs_left = (t->N + VL - 1) / VL, width;
    for (int64_t col = 0; vecs_left > 0;
         vecs_left -= width / VL, col += width, dst += depth * width) {
        width = panel_vecs(vecs_left) * VL;
        int64_t n = min64(width, t->N - col);
        if (!t->trans_b)
            for (int64_t i = 0; i < depth; i++) {
                if (i + AHEAD < depth)
                    fetch(t->b, t->b_type != LCL_F32, (k + i + AHEAD) * t->ldb + col, 0, 1, n);
                copy_row(dst + i * width, width, t->b, t->b_type, (k + i) * t->ldb + col, n);
            }
        else if (t->b_type == LCL_F32)
            pack_transposed(dst, width, t->b, false, col * t->ldb + k, t->ldb, n, depth);
        else
            pack_transposed(dst, width, t->b, true, col * t->ldb + k, t->ldb, n, depth);
    }
}

/* A block of op(a): [padded][depth], or [depth][padded] where a is stored transposed; zero beyond
 * `rows`. */
static void pack_a(const struct lcl_gemm_call *t, int64_t row, int64_t rows, int64_t padded,
                   int64_t k, int64_t depth, float *dst)
{
    if (t->trans_a) {
        for (int64_t i = 0; i < depth; i++) {
            if (i + AHEAD < depth)
                fetch(t->a, t->a_type != LCL_F32, (k + i + AHEAD) * t->lda + row, 0, 1, rows);
            copy_row(dst + i * padded, padded, t->a, t->a_type, (k + i) * t->lda + row, rows);
        }
        return;
    }
    for (int64_t i = 0; i < padded; i++)
        copy_row(dst + i * depth, depth, t->a, t->a_type, (row + i) * t->lda + k,
                 i < rows ? depth : 0);
}

struct block {
    const struct lcl_gemm_call *call;
    const float *a, *b;
    int64_t rows, padded, depth;
    float *c; /* its first row */
    int64_t ldc;
    bool whole; /* c has room for `padded` rows */
    bool accumulate;
};

static void multiply(const struct block *x, int64_t from, int64_t rows, int vecs, const float *b,
                     float *c, int64_t ldc, bool accumulate)
{
    if (x->call->trans_a)
        mk_cols(rows, vecs, x->depth, x->a + from, x->padded, b, vecs * VL, c, ldc, accumulate);
    else
        mk_rows(rows, vecs, x->depth, x->a + from * x->depth, x->depth, b, vecs * VL, c, ldc,
                accumulate);
}

static void multiply_block(const struct block *x)
{
    const float *b = x->b;
    int64_t full = x->whole ? x->padded : x->rows / MK_STEP * MK_STEP;
    int vecs;
    for (int64_t left = (x->call->N + VL - 1) / VL, col = 0; left > 0;
         left -= vecs, col += vecs * VL) {
        vecs = panel_vecs(left);
        if (full) multiply(x, 0, full, vecs, b, x->c + col, x->ldc, x->accumulate);
        if (full < x->rows) { /* the last one to three rows */
            float edge[MK_STEP * MK_VECS * VL];
            multiply(x, full, MK_STEP, vecs, b, edge, vecs * VL, false);
            for (int64_t r = full; r < x->rows; r++)
                for (int64_t j = 0; j < vecs * VL; j++) {
                    float *dst = x->c + r * x->ldc + col + j;
                    *dst = (x->accumulate ? *dst : 0) + edge[(r - full) * vecs * VL + j];
                }
        }
        b += x->depth * vecs * VL;
    }
}

/* c = alpha * acc + beta * c + bias. */
static void finish(const struct lcl_gemm_call *t, float *acc, int64_t ld)
{
    for (int64_t i = 0; i < t->M; i++) {
        float *row = acc + i * ld;
        float *c32 = (float *)t->c + i * t->ldc;
        lcl_bf16 *c16 = (lcl_bf16 *)t->c + i * t->ldc;
        if (t->alpha != 1.0f)
            for (int64_t j = 0; j < t->N; j++) row[j] *= t->alpha;
        if (t->bias)
            for (int64_t j = 0; j < t->N; j++) row[j] += t->bias[j];
        if (t->beta != 0 && t->c_type == LCL_F32)
            for (int64_t j = 0; j < t->N; j++) row[j] += t->beta * c32[j];
        if (t->beta != 0 && t->c_type != LCL_F32)
            for (int64_t j = 0; j < t->N; j++) row[j] += t->beta * lcl_bf16_to_f32(c16[j]);
        if (t->c_type == LCL_F32)
            memcpy(c32, row, (size_t)t->N * sizeof *row);
        else
            row_narrow(c16, row, t->N);
    }
}

lcl_status LCL_CPU(gemm_own)(const struct lcl_gemm_call *t)
{
    int64_t width = round_up(t->N, VL), depth_max = min64(t->K, DEPTH);
    bool direct = t->c_type == LCL_F32 && t->N == width && t->alpha == 1.0f &&
                  (t->beta == 0.0f || t->beta == 1.0f);
    int64_t a_floats = round_up(min64(round_up(t->M, MK_STEP), ROWS) * depth_max, 16);
    int64_t b_floats = round_up(width * depth_max, 16);
    int64_t c_floats = direct ? 0 : round_up(t->M, MK_STEP) * width;
    float *a = lcl_thread_scratch(LCL_GEMM_SCRATCH_FIRST,
                                  (size_t)(a_floats + b_floats + c_floats) * sizeof *a);
    if (!a)
        return LCL_FAIL(LCL_MEMORY, "gemm: no memory for a tile of %lld x %lld", (long long)t->M,
                        (long long)t->N);
    float *b = a + a_floats, *acc = b + b_floats;
    for (int64_t k = 0; k < t->K; k += DEPTH) {
        struct block x = {.call = t, .a = a, .b = b, .depth = min64(DEPTH, t->K - k)};
        pack_b(t, k, x.depth, b);
        for (int64_t row = 0; row < t->M; row += ROWS) {
            x.rows = min64(ROWS, t->M - row);
            x.padded = round_up(x.rows, MK_STEP);
            x.ldc = direct ? t->ldc : width;
            x.c = (direct ? (float *)t->c : acc) + row * x.ldc;
            x.whole = !direct;
            x.accumulate = k > 0 || (direct && t->beta != 0);
            pack_a(t, row, x.rows, x.padded, k, x.depth, a);
            multiply_block(&x);
        }
    }
    if (!direct) {
        finish(t, acc, width);
    } else if (t->bias) {
        for (int64_t i = 0; i < t->M; i++)
            for (int64_t j = 0; j < t->N; j++) ((float *)t->c)[i * t->ldc + j] += t->bias[j];
    }
    return LCL_OK;
}
