/* Work over rows: chunks that depend on shapes alone, bf16 rows as f32 copies, sums over rows in a
 * fixed order. */
#ifndef LCL_CPU_ROWS_H
#define LCL_CPU_ROWS_H

#include <math.h>

#include "core/dtype.h"
#include "cpu/isa.h"

/* Thread scratch of this room; gemm.h owns the slots from LCL_GEMM_SCRATCH_FIRST on. */
enum {
    ROW_SCRATCH_TEMP = 0,    /* f32 copies of rows, of the thread that runs a chunk */
    ROW_SCRATCH_PARTIAL = 1, /* partial sums, of the thread that runs the op */
    ROW_SCRATCH_INDEX = 2,   /* sorted indices */
    ROW_SCRATCH_LOGITS = 3,  /* head_xent, sample; linear's panels */
    ROW_SCRATCH_GATHER = 4   /* head_xent, linear */
};

enum { ROW_CHUNK_ELEMENTS = 16384, ROW_MAX_PARTIALS = 64 };

/* What a chunk body receives. */
struct rows {
    const void *args;
    int64_t n, grain;
    float *partial; /* [chunks, partial_width], zero at first; NULL when not wanted */
    int64_t partial_width;
};

static inline int64_t rows_begin(const struct rows *r, int64_t chunk) { return chunk * r->grain; }
static inline int64_t rows_end(const struct rows *r, int64_t chunk)
{
    return lcl_chunk_end(chunk, r->grain, r->n);
}

static inline int64_t rows_grain(int64_t width)
{
    return width >= ROW_CHUNK_ELEMENTS ? 1
                                       : (ROW_CHUNK_ELEMENTS + width - 1) / (width > 0 ? width : 1);
}

/* A single chunk runs without waking the pool. */
static inline lcl_status rows_run(lcl_chunk_fn body, struct rows *r)
{
    if (r->n <= r->grain) return r->n > 0 ? body(r, 0) : LCL_OK;
    return lcl_parallel(lcl_chunk_count(r->n, r->grain), body, r);
}

/* body over n rows of `width` elements each. */
static inline lcl_status rows_over(lcl_chunk_fn body, const void *args, int64_t n, int64_t width)
{
    struct rows r = {.args = args, .n = n, .grain = rows_grain(width)};
    return rows_run(body, &r);
}

/* The same with partial sums of partial_width floats a chunk (at most ROW_MAX_PARTIALS chunks),
 * which *r holds afterwards for rows_reduce(). */
LCL_CHECKED lcl_status LCL_CPU(rows_partial)(lcl_chunk_fn body, const void *args, int64_t n,
                                             int64_t width, int64_t partial_width, struct rows *r);
/* into[i] += the sum over chunks, in their order, of partial[chunk][offset + i]; NULL into:
 * nothing. */
void LCL_CPU(rows_reduce)(const struct rows *r, int64_t offset, int64_t count, float *into);

/* count floats of the running thread for copies of rows. */
LCL_CHECKED static inline lcl_status row_scratch(int64_t count, float **temp)
{
    *temp = lcl_thread_scratch(ROW_SCRATCH_TEMP, (size_t)count * sizeof(float));
    if (*temp) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for %lld floats of scratch", (long long)count);
}

static inline void *row_at(void *base, lcl_dtype dtype, int64_t element)
{
    return (char *)base + element * (dtype == LCL_F32 ? 4 : 2);
}

static inline const void *row_at_const(const void *base, lcl_dtype dtype, int64_t element)
{
    return (const char *)base + element * (dtype == LCL_F32 ? 4 : 2);
}

static inline void row_widen(float *restrict dst, const lcl_bf16 *restrict src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = lcl_bf16_to_f32(src[i]);
}

static inline void row_narrow(lcl_bf16 *restrict dst, const float *restrict src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &src[i], sizeof u);
        uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
        uint32_t kept =
            (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : rounded; /* NaN stays NaN */
        dst[i] = (lcl_bf16)(kept >> 16);
    }
}

/* Elements [element, element + n) as f32: the row itself, or its copy in temp. */
static inline const float *row_load(const void *base, lcl_dtype dtype, int64_t element, int64_t n,
                                    float *temp)
{
    if (dtype == LCL_F32) return (const float *)base + element;
    row_widen(temp, (const lcl_bf16 *)base + element, n);
    return temp;
}

/* Where to write an f32 row: the row itself, or temp, which row_store() then rounds into place. */
static inline float *row_open(void *base, lcl_dtype dtype, int64_t element, float *temp)
{
    return dtype == LCL_F32 ? (float *)base + element : temp;
}

static inline void row_store(void *base, lcl_dtype dtype, int64_t element, int64_t n,
                             const float *temp)
{
    if (dtype != LCL_F32) row_narrow((lcl_bf16 *)base + element, temp, n);
}

/* Sums in f32 vectors, blocks of them in f64: a row's statistics are as good as its elements. */
enum { ROW_SUM_BLOCK = 512 };

static inline double row_sum(const float *x, int64_t n)
{
    double total = 0;
    for (int64_t b = 0; b < n; b += ROW_SUM_BLOCK) {
        int64_t end = b + ROW_SUM_BLOCK < n ? b + ROW_SUM_BLOCK : n;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = b; i < end; i++) s += x[i];
        total += (double)s;
    }
    return total;
}

/* Sum of (x - shift)^2. */
static inline double row_sum_squares(const float *x, float shift, int64_t n)
{
    double total = 0;
    for (int64_t b = 0; b < n; b += ROW_SUM_BLOCK) {
        int64_t end = b + ROW_SUM_BLOCK < n ? b + ROW_SUM_BLOCK : n;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = b; i < end; i++) s += (x[i] - shift) * (x[i] - shift);
        total += (double)s;
    }
    return total;
}

static inline double row_dot(const float *x, const float *y, int64_t n)
{
    double total = 0;
    for (int64_t b = 0; b < n; b += ROW_SUM_BLOCK) {
        int64_t end = b + ROW_SUM_BLOCK < n ? b + ROW_SUM_BLOCK : n;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = b; i < end; i++) s += x[i] * y[i];
        total += (double)s;
    }
    return total;
}

/* Greatest element, NaN ignored; -infinity for none. */
static inline float row_max(const float *x, int64_t n)
{
    enum { LANES = 32 };
    float lane[LANES], m = -INFINITY;
    int64_t whole = n / LANES * LANES;
    for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; l < LANES; l++) m = lane[l] > m ? lane[l] : m;
    for (int64_t i = whole; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

#endif
