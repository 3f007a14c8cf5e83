/* The optimizer's elementwise work: AdamW, norm of the gradients, additions and conversions. */
#include "cpu/rows.h"
#include "cpu/simd.h"

enum { SUM_GRAIN = 65536, BLOCK = 512 };

/* torch.optim.AdamW's order of operations, its constants made in f64 and rounded once. */
struct adamw {
    const struct lcl_adamw_args *a;
    float keep, one_minus_beta1, beta2, one_minus_beta2, correction2_sqrt, eps, step_size;
};

static lcl_status adamw_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct adamw *k = r->args;
    const struct lcl_adamw_args *a = k->a;
    float *restrict value = a->value, *restrict m = a->m, *restrict v = a->v;
    const float *restrict grad = a->grad;
    const float grad_scale = a->grad_scale, keep = k->keep, one_minus_beta1 = k->one_minus_beta1;
    const float beta2 = k->beta2, one_minus_beta2 = k->one_minus_beta2, eps = k->eps;
    const float correction2_sqrt = k->correction2_sqrt, step_size = k->step_size;
    int64_t begin = rows_begin(r, chunk), end = rows_end(r, chunk);
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float g = grad[i] * grad_scale;
        float m_i = m[i] + one_minus_beta1 * (g - m[i]);
        float v_i = v[i] * beta2 + one_minus_beta2 * g * g;
        float denominator = sqrtf(v_i) / correction2_sqrt + eps;
        m[i] = m_i;
        v[i] = v_i;
        value[i] = value[i] * keep - step_size * m_i / denominator;
    }
    if (a->value16) row_narrow(a->value16 + begin, value + begin, end - begin);
    return LCL_OK;
}

lcl_status LCL_CPU(adamw_fwd)(struct lcl_exec *ex, const struct lcl_adamw_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_adamw(a));
    double correction1 = 1.0 - pow(a->beta1, (double)a->step);
    double correction2 = 1.0 - pow(a->beta2, (double)a->step);
    struct adamw k = {
        .a = a,
        .keep = (float)(1.0 - a->lr * a->weight_decay),
        .one_minus_beta1 = (float)(1.0 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1.0 - a->beta2),
        .correction2_sqrt = (float)sqrt(correction2),
        .eps = (float)a->eps,
        .step_size = (float)(a->lr / correction1),
    };
    return rows_over(adamw_chunk, &k, a->count, 1);
}

struct sumsq {
    const float *x;
    double *sum; /* by chunk, as are the counts */
    int64_t *non_finite;
};

static lcl_status sumsq_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct sumsq *s = r->args;
    const float *x = s->x;
    double total = 0;
    int64_t bad = 0, end = rows_end(r, chunk);
    for (int64_t b = rows_begin(r, chunk); b < end; b += BLOCK) {
        int64_t stop = end - b < BLOCK ? end : b + BLOCK;
        double sum = 0;
        uint32_t n = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = b; i < stop; i++) sum += (double)x[i] * (double)x[i];
#pragma omp simd reduction(+ : n)
        for (int64_t i = b; i < stop; i++) n += (simd_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
        total += sum;
        bad += n;
    }
    s->sum[chunk] = total;
    s->non_finite[chunk] = bad;
    return LCL_OK;
}

lcl_status LCL_CPU(sumsq_fwd)(struct lcl_exec *ex, const struct lcl_sumsq_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_count("sumsq", a->count));
    int64_t n = lcl_chunk_count(a->count, SUM_GRAIN), bad = 0;
    double *sum = lcl_thread_scratch(ROW_SCRATCH_PARTIAL, (size_t)(n + 1) * 16);
    if (!sum) return LCL_FAIL(LCL_MEMORY, "sumsq: no memory for %lld sums", (long long)n);
    struct sumsq s = {a->x, sum, (int64_t *)(sum + n + 1)};
    struct rows r = {.args = &s, .n = a->count, .grain = SUM_GRAIN};
    LCL_TRY(rows_run(sumsq_chunk, &r));
    for (int64_t i = 0; i < n; i++) bad += s.non_finite[i];
    for (int64_t width = 1; width < n; width *= 2) /* neighbours in pairs, then pairs of pairs */
        for (int64_t i = 0; i + width < n; i += 2 * width) sum[i] += sum[i + width];
    if (a->sum) *a->sum = n > 0 ? sum[0] : 0;
    if (a->non_finite) *a->non_finite = bad;
    return LCL_OK;
}

static lcl_status add_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_add_args *a = r->args;
    float x_temp[BLOCK], y_temp[BLOCK], scale = a->scale;
    int64_t end = rows_end(r, chunk);
    for (int64_t i = rows_begin(r, chunk); i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        const float *x = row_load(a->x, a->x_dtype, i, n, x_temp);
        const float *old = row_load(a->y, a->y_dtype, i, n, y_temp);
        float *y = row_open(a->y, a->y_dtype, i, y_temp);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = old[j] + scale * x[j];
        row_store(a->y, a->y_dtype, i, n, y);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(add_fwd)(struct lcl_exec *ex, const struct lcl_add_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_dtype("add", a->x_dtype));
    LCL_TRY(lcl_check_dtype("add", a->y_dtype));
    LCL_TRY(lcl_check_count("add", a->count));
    return rows_over(add_chunk, a, a->count, 1);
}

static lcl_status cast_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_cast_args *a = r->args;
    int64_t at = rows_begin(r, chunk), n = rows_end(r, chunk) - at;
    size_t x_bytes = lcl_dtype_bytes(a->x_dtype), y_bytes = lcl_dtype_bytes(a->y_dtype);
    const char *x = (const char *)a->x + (size_t)at * x_bytes;
    char *y = (char *)a->y + (size_t)at * y_bytes;
    if (a->x_dtype == a->y_dtype)
        memmove(y, x, (size_t)n * x_bytes);
    else if (a->x_dtype == LCL_F32 && a->y_dtype == LCL_BF16)
        row_narrow((lcl_bf16 *)a->y + at, (const float *)a->x + at, n);
    else if (a->x_dtype == LCL_BF16 && a->y_dtype == LCL_F32)
        row_widen((float *)a->y + at, (const lcl_bf16 *)a->x + at, n);
    else
        return lcl_convert(y, a->y_dtype, x, a->x_dtype, (size_t)n);
    return LCL_OK;
}

lcl_status LCL_CPU(cast_fwd)(struct lcl_exec *ex, const struct lcl_cast_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_count("cast", a->count));
    return rows_over(cast_chunk, a, a->count, 1);
}
