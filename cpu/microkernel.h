/* Register-blocked products on vectors of the instruction set: one source for SSE, AVX2 and
 * AVX-512.
 *
 * c_RN (+)= a_RK b_KN with c held in registers: MR rows x 3 vectors, whose elements of a are
 * broadcast. b is read by vectors, so nothing is ever transposed when the caller lays its lanes
 * along N. */
#ifndef LCL_CPU_MICROKERNEL_H
#define LCL_CPU_MICROKERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { VL = 16, MK_ROWS = 8 };
#elif defined(__AVX__)
enum { VL = 8, MK_ROWS = 4 };
#else
enum { VL = 4, MK_ROWS = 4 };
#endif
enum {
    MK_VECS = 3,
    MK_STEP = 4
}; /* rows come in multiples of MK_STEP; MK_ROWS x MK_VECS accumulators fill the registers */

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

static inline vf v_load(const float *p) { return *(const vf_unaligned *)p; }
static inline void v_store(float *p, vf x) { *(vf_unaligned *)p = x; }
static inline vf v_all(float x) { return x - (vf){0}; }
/* mask (all ones or zeros a lane) ? a : b */
static inline vf v_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
/* The greater; b where either is NaN. */
static inline vf v_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return v_select(a > b, a, b);
#endif
}

/* 2^x for x <= 0 within 2 units in the last place; 0 below -126, NaN for NaN. The polynomial is an
 * own minimax fit on
 * [-1/2, 1/2] with a relative error of 1e-7. */
static inline vf v_exp2(vf x)
{
    vf shifted = x + 12582912.0f; /* 1.5 * 2^23: leaves round(x) in the low bits */
    vf f = x - (shifted - 12582912.0f);
    vf p = f * 1.32647206e-3f + 9.6715136e-3f;
    p = p * f + 5.55073377e-2f;
    p = p * f + 2.40222421e-1f;
    p = p * f + 6.93146978e-1f;
    p = p * f + 1.0f;
    vu r = (vu)p + ((vu)shifted << 23); /* wraps where the result is 0 anyway */
    return (vf)(r & ~(vu)(x < -126.0f));
}

typedef float v4 __attribute__((vector_size(16)));
typedef float v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t v4i __attribute__((vector_size(16)));

static inline v4 v4_all(float x) { return x - (v4){0}; }

/* dst[j][dst_at + i] = r[i][j], i, j < 4. */
static inline void mk_store_transposed4(float *const dst[4], int64_t dst_at, const v4 r[4])
{
    v4 a = __builtin_shuffle(r[0], r[1], (v4i){0, 4, 1, 5}),
       b = __builtin_shuffle(r[2], r[3], (v4i){0, 4, 1, 5});
    v4 c = __builtin_shuffle(r[0], r[1], (v4i){2, 6, 3, 7}),
       d = __builtin_shuffle(r[2], r[3], (v4i){2, 6, 3, 7});
    *(v4_unaligned *)(dst[0] + dst_at) = __builtin_shuffle(a, b, (v4i){0, 1, 4, 5});
    *(v4_unaligned *)(dst[1] + dst_at) = __builtin_shuffle(a, b, (v4i){2, 3, 6, 7});
    *(v4_unaligned *)(dst[2] + dst_at) = __builtin_shuffle(c, d, (v4i){0, 1, 4, 5});
    *(v4_unaligned *)(dst[3] + dst_at) = __builtin_shuffle(c, d, (v4i){2, 3, 6, 7});
}

/* dst[j][dst_at + i] = src[i][src_at + j] * scale, i, j < 4; scale runs with j where src are
 * columns of lanes, and is one number otherwise. */
static inline void mk_transpose4(float *const dst[4], const float *const src[4], int64_t src_at,
                                 int64_t dst_at, v4 scale)
{
    v4 r[4];
    for (int i = 0; i < 4; i++) r[i] = *(const v4_unaligned *)(src[i] + src_at) * scale;
    mk_store_transposed4(dst, dst_at, r);
}

/* c[r][j] (+)= sum over k of a[r * ars + k * aks] * b[k * ldb + j], r < rows, j < vecs * VL. rows
 * and vecs are constants where this is inlined; one of ars and aks is the constant 1. A single
 * vector takes twice the rows, to hide the adds' latency. */
static inline __attribute__((always_inline)) void
mk_block(const int rows, const int vecs, int64_t depth, const float *a, int64_t ars, int64_t aks,
         const float *b, int64_t ldb, float *c, int64_t ldc, bool accumulate)
{
    vf acc[2 * MK_ROWS][MK_VECS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) { /* c may lie in memory: fetched while the sum runs */
        __builtin_prefetch(c + r * ldc, 1);
        __builtin_prefetch(c + r * ldc + vecs * VL - 1, 1);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) acc[r][v] = (vf){0};
    for (int64_t k = 0; k < depth; k++) {
        vf bv[MK_VECS];
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) bv[v] = v_load(b + k * ldb + v * VL);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf av = v_all(a[r * ars + k * aks]);
#pragma GCC unroll 3
            for (int v = 0; v < vecs; v++) acc[r][v] += av * bv[v];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vecs; v++) {
            float *p = c + r * ldc + v * VL;
            v_store(p, accumulate ? v_load(p) + acc[r][v] : acc[r][v]);
        }
}

#define MK_VARIANT(name, row_stride, depth_stride)                                                 \
    static inline __attribute__((always_inline)) void name##_vecs(                                 \
        const int vecs, int64_t rows, int64_t depth, const float *a, int64_t lda, const float *b,  \
        int64_t ldb, float *c, int64_t ldc, bool accumulate)                                       \
    {                                                                                              \
        int64_t r = 0;                                                                             \
        for (; vecs == 1 && r + 2 * MK_ROWS <= rows; r += 2 * MK_ROWS)                             \
            mk_block(2 * MK_ROWS, 1, depth, a + r * (row_stride), (row_stride), (depth_stride), b, \
                     ldb, c + r * ldc, ldc, accumulate);                                           \
        for (; r + MK_ROWS <= rows; r += MK_ROWS)                                                  \
            mk_block(MK_ROWS, vecs, depth, a + r * (row_stride), (row_stride), (depth_stride), b,  \
                     ldb, c + r * ldc, ldc, accumulate);                                           \
        for (; r < rows; r += MK_STEP)                                                             \
            mk_block(MK_STEP, vecs, depth, a + r * (row_stride), (row_stride), (depth_stride), b,  \
                     ldb, c + r * ldc, ldc, accumulate);                                           \
    }                                                                                              \
    static inline void name(int64_t rows, int vecs, int64_t depth, const float *a, int64_t lda,    \
                            const float *b, int64_t ldb, float *c, int64_t ldc, bool accumulate)   \
    {                                                                                              \
        for (; vecs >= MK_VECS; vecs -= MK_VECS, b += MK_VECS * VL, c += MK_VECS * VL)             \
            name##_vecs(MK_VECS, rows, depth, a, lda, b, ldb, c, ldc, accumulate);                 \
        if (vecs == 2) name##_vecs(2, rows, depth, a, lda, b, ldb, c, ldc, accumulate);            \
        if (vecs == 1) name##_vecs(1, rows, depth, a, lda, b, ldb, c, ldc, accumulate);            \
    }

/* rows is a multiple of MK_STEP, vecs any count. mk_rows: a is stored [rows, lda]; mk_cols: a is
 * stored [depth, lda]. */
MK_VARIANT(mk_rows, lda, 1)
MK_VARIANT(mk_cols, 1, lda)
#undef MK_VARIANT

#endif
