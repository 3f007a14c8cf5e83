/* Products of bf16 with the processor's dot products of pairs (AVX512_BF16): exact products, f32
 * sums, at twice the rate of f32.
 *
 * A pair is a 32-bit word of two bf16 that are neighbours along the summed dimension, the first in
 * the low half. c_RN (+)= a_RK b_KN is held in registers as in microkernel.h; b is packed in pairs
 * along K, and so is a, or it lies with K along its rows, which is the same. The instructions take
 * denormals for zero. */
#ifndef LCL_CPU_PAIRS_H
#define LCL_CPU_PAIRS_H

#include "core/dtype.h"
#include "cpu/microkernel.h"

typedef uint16_t vh2 __attribute__((vector_size(VL * 4))); /* two vectors as bf16 */
typedef uint32_t vu_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

#if defined(__AVX512BW__)
enum { PAIRS_BUILT = 1 };
#define PAIRS_FN __attribute__((target("avx512bf16")))
static inline bool pairs_supported(void) { return __builtin_cpu_supports("avx512bf16"); }

/* sum + low(a) * low(b) + high(a) * high(b) of each word. */
static inline PAIRS_FN vf pairs_dot(vf sum, vu a, vu b)
{
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

/* x, then y, each rounded to nearest even. */
static inline PAIRS_FN vh2 pairs_narrow(vf x, vf y)
{
    return (vh2)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x);
}

/* The pairs (x[i], y[i]). */
static inline vu pairs_zip(vh2 xy)
{
    const vh2 order = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (vu)_mm512_permutexvar_epi16((__m512i)order, (__m512i)xy);
}

static inline void pairs_store_rows(lcl_bf16 *x, lcl_bf16 *y, vh2 xy)
{
    _mm256_storeu_si256((__m256i_u *)x, _mm512_castsi512_si256((__m512i)xy));
    _mm256_storeu_si256((__m256i_u *)y, _mm512_extracti64x4_epi64((__m512i)xy, 1));
}
#else
/* Never run: so that the callers, which test PAIRS_BUILT, compile for every instruction set. */
enum { PAIRS_BUILT = 0 };
#define PAIRS_FN
static inline bool pairs_supported(void) { return false; }
static inline vf pairs_dot(vf sum, vu a, vu b)
{
    return sum + (vf)(a << 16) * (vf)(b << 16) + (vf)(a & 0xffff0000u) * (vf)(b & 0xffff0000u);
}
static inline vh2 pairs_narrow(vf x, vf y)
{
    vh2 xy;
    for (int i = 0; i < VL; i++) xy[i] = lcl_f32_to_bf16(x[i]), xy[VL + i] = lcl_f32_to_bf16(y[i]);
    return xy;
}
static inline vu pairs_zip(vh2 xy)
{
    vu words;
    for (int i = 0; i < VL; i++) words[i] = (uint32_t)xy[i] | (uint32_t)xy[VL + i] << 16;
    return words;
}
static inline void pairs_store_rows(lcl_bf16 *x, lcl_bf16 *y, vh2 xy)
{
    for (int i = 0; i < VL; i++) x[i] = xy[i], y[i] = xy[VL + i];
}
#endif

static inline vu pairs_load(const uint32_t *p) { return *(const vu_unaligned *)p; }
static inline void pairs_store(uint32_t *p, vu x) { *(vu_unaligned *)p = x; }

/* out[i] = the pair (low[i], high[i]). */
static inline void pairs_of_rows(uint32_t *restrict out, const lcl_bf16 *restrict low,
                                 const lcl_bf16 *restrict high, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = (uint32_t)low[i] | (uint32_t)high[i] << 16;
}

/* mk_block in pairs: depth counts pairs; strides of a are in bf16, one of them the constant 2; c
 * gets scale times the sums. */
static inline __attribute__((always_inline)) PAIRS_FN void
pairs_block(const int rows, const int vecs, int64_t depth, const lcl_bf16 *a, int64_t ars,
            int64_t aks, const uint32_t *b, int64_t ldb, float scale, float *c, int64_t ldc,
            bool accumulate)
{
    vf acc[2 * MK_ROWS][MK_VECS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(c + r * ldc, 1);
        __builtin_prefetch(c + r * ldc + vecs * VL - 1, 1);
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) acc[r][v] = (vf){0};
    }
    for (int64_t k = 0; k < depth; k++) {
        vu bv[MK_VECS];
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) bv[v] = pairs_load(b + k * ldb + v * VL);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            uint32_t word;
            memcpy(&word, a + r * ars + k * aks, sizeof word);
            vu av = word - (vu){0};
#pragma GCC unroll 3
            for (int v = 0; v < vecs; v++) acc[r][v] = pairs_dot(acc[r][v], av, bv[v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) {
            float *p = c + r * ldc + v * VL;
            v_store(p, accumulate ? v_load(p) + scale * acc[r][v] : scale * acc[r][v]);
        }
}

static inline __attribute__((always_inline)) PAIRS_FN void
pairs_rows_of(const int vecs, int64_t rows, int64_t depth, const lcl_bf16 *a, int64_t ars,
              int64_t aks, const uint32_t *b, int64_t ldb, float scale, float *c, int64_t ldc,
              bool accumulate)
{
    int64_t r = 0;
    for (; vecs == 1 && r + 2 * MK_ROWS <= rows; r += 2 * MK_ROWS)
        pairs_block(2 * MK_ROWS, 1, depth, a + r * ars, ars, aks, b, ldb, scale, c + r * ldc, ldc,
                    accumulate);
    for (; r + MK_ROWS <= rows; r += MK_ROWS)
        pairs_block(MK_ROWS, vecs, depth, a + r * ars, ars, aks, b, ldb, scale, c + r * ldc, ldc,
                    accumulate);
    for (; r < rows; r += MK_STEP)
        pairs_block(MK_STEP, vecs, depth, a + r * ars, ars, aks, b, ldb, scale, c + r * ldc, ldc,
                    accumulate);
}

/* rows is a multiple of MK_STEP, vecs 1 to MK_VECS. */
static inline __attribute__((always_inline)) PAIRS_FN void
pairs_product(int64_t rows, int vecs, int64_t depth, const lcl_bf16 *a, int64_t ars, int64_t aks,
              const uint32_t *b, int64_t ldb, float scale, float *c, int64_t ldc, bool accumulate)
{
    if (vecs == 3) pairs_rows_of(3, rows, depth, a, ars, aks, b, ldb, scale, c, ldc, accumulate);
    if (vecs == 2) pairs_rows_of(2, rows, depth, a, ars, aks, b, ldb, scale, c, ldc, accumulate);
    if (vecs == 1) pairs_rows_of(1, rows, depth, a, ars, aks, b, ldb, scale, c, ldc, accumulate);
}

/* c = scale * a b: a is stored [rows, lda] with 2 * depth elements a row, b [depth, ldb]. */
static inline PAIRS_FN void pairs_set(int64_t rows, int vecs, int64_t depth, const lcl_bf16 *a,
                                      int64_t lda, const uint32_t *b, int64_t ldb, float scale,
                                      float *c, int64_t ldc)
{
    pairs_product(rows, vecs, depth, a, lda, 2, b, ldb, scale, c, ldc, false);
}

/* c += a b of the same a. */
static inline PAIRS_FN void pairs_add(int64_t rows, int vecs, int64_t depth, const lcl_bf16 *a,
                                      int64_t lda, const uint32_t *b, int64_t ldb, float *c,
                                      int64_t ldc)
{
    pairs_product(rows, vecs, depth, a, lda, 2, b, ldb, 1.0f, c, ldc, true);
}

/* c += a b of an a that is stored [depth, lda] in pairs. */
static inline PAIRS_FN void pairs_add_cols(int64_t rows, int vecs, int64_t depth, const uint32_t *a,
                                           int64_t lda, const uint32_t *b, int64_t ldb, float *c,
                                           int64_t ldc)
{
    pairs_product(rows, vecs, depth, (const lcl_bf16 *)(const void *)a, 2, 2 * lda, b, ldb, 1.0f, c,
                  ldc, true);
}

#endif
