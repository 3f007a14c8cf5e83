/* The optimizer's elementwise work: AdamW, norm of the gradients, additions and conversions.
 * Legend: N segments. */
#include "cpu/rows.h"
#include "cpu/simd.h"

enum { SUM_TILE = 65536, ADAMW_TILE = ROW_CHUNK_ELEMENTS, BLOCK = 512 };

/* --- segments in tiles: one call over all --- */

struct tiles {
    const void *args;
    const struct lcl_segment *segment_N;
    int64_t N, tile, *first_N1;
};

static lcl_status tiles_run(lcl_chunk_fn body, struct tiles *t)
{
    size_t bytes = (size_t)(t->N + 1) * sizeof *t->first_N1;
    t->first_N1 = lcl_thread_scratch(ROW_SCRATCH_INDEX, bytes);
    if (!t->first_N1) return LCL_FAIL(LCL_MEMORY, "no memory for %lld segments", (long long)t->N);
    int64_t n = lcl_segment_tiles(t->segment_N, t->N, t->tile, t->first_N1);
    if (n == 1) return body(t, 0);
    return lcl_parallel(n, body, t);
}

/* The segment of a tile, and the tile's elements [*begin, *end) in it. */
static const struct lcl_segment *tile_at(const struct tiles *t, int64_t tile, int64_t *begin,
                                         int64_t *end)
{
    int64_t low = 0, high = t->N; /* first_N1[low] <= tile < first_N1[high] */
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (t->first_N1[middle] <= tile)
            low = middle;
        else
            high = middle;
    }
    tile -= t->first_N1[low];
    *begin = tile * t->tile;
    *end = lcl_chunk_end(tile, t->tile, t->segment_N[low].count);
    return &t->segment_N[low];
}

/* --- adamw --- */

/* torch.optim.AdamW's order of operations, its constants made in f64 and rounded once. */
struct adamw {
    double correction1;
    float clip, one_minus_beta1, beta2, one_minus_beta2, correction2_sqrt, eps;
};

static lcl_status adamw_tile(void *ctx, int64_t tile)
{
    const struct tiles *t = ctx;
    const struct adamw *k = t->args;
    int64_t begin, end;
    const struct lcl_segment *s = tile_at(t, tile, &begin, &end);
    float *restrict value = s->value, *restrict m = s->m, *restrict v = s->v;
    const float *restrict grad = s->grad;
    const float clip = k->clip, one_minus_beta1 = k->one_minus_beta1, beta2 = k->beta2;
    const float one_minus_beta2 = k->one_minus_beta2, eps = k->eps;
    const float correction2_sqrt = k->correction2_sqrt;
    const float keep = (float)(1.0 - s->lr * s->weight_decay);
    const float step_size = (float)(s->lr / k->correction1);
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float g = grad[i] * clip;
        float m_i = m[i] + one_minus_beta1 * (g - m[i]);
        float v_i = v[i] * beta2 + one_minus_beta2 * g * g;
        float denominator = sqrtf(v_i) / correction2_sqrt + eps;
        m[i] = m_i;
        v[i] = v_i;
        value[i] = value[i] * keep - step_size * m_i / denominator;
    }
    if (s->value16) row_narrow(s->value16 + begin, value + begin, end - begin);
    return LCL_OK;
}

lcl_status LCL_CPU(adamw_fwd)(struct lcl_exec *ex, const struct lcl_adamw_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_adamw(a));
    if (a->norm && a->norm->non_finite) return LCL_OK;
    struct adamw k = {
        .correction1 = 1.0 - pow(a->beta1, (double)a->step),
        .clip = a->norm ? a->norm->clip : 1,
        .one_minus_beta1 = (float)(1.0 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1.0 - a->beta2),
        .correction2_sqrt = (float)sqrt(1.0 - pow(a->beta2, (double)a->step)),
        .eps = (float)a->eps,
    };
    struct tiles t = {.args = &k, .segment_N = a->segment_N, .N = a->N, .tile = ADAMW_TILE};
    return tiles_run(adamw_tile, &t);
}

/* --- sumsq --- */

struct sumsq {
    double *sum; /* by tile, as are the counts */
    int64_t *non_finite;
};

static lcl_status sumsq_tile(void *ctx, int64_t tile)
{
    const struct tiles *t = ctx;
    const struct sumsq *q = t->args;
    int64_t begin, end, bad = 0;
    const float *x = tile_at(t, tile, &begin, &end)->grad;
    double total = 0;
    for (int64_t b = begin; b < end; b += BLOCK) {
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
    q->sum[tile] = total;
    q->non_finite[tile] = bad;
    return LCL_OK;
}

/* Neighbours in pairs, then pairs of pairs. */
static double tree_sum(double *sum, int64_t n)
{
    for (int64_t width = 1; width < n; width *= 2)
        for (int64_t i = 0; i + width < n; i += 2 * width) sum[i] += sum[i + width];
    return n > 0 ? sum[0] : 0;
}

lcl_status LCL_CPU(sumsq_fwd)(struct lcl_exec *ex, const struct lcl_sumsq_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_segments("sumsq", a->N, a->segment_N));
    int64_t n = 0;
    for (int64_t s = 0; s < a->N; s++) n += lcl_chunk_count(a->segment_N[s].count, SUM_TILE);
    struct sumsq q = {.sum = lcl_thread_scratch(ROW_SCRATCH_PARTIAL, (size_t)(n + 1) * 16)};
    if (!q.sum) return LCL_FAIL(LCL_MEMORY, "sumsq: no memory for %lld sums", (long long)n);
    q.non_finite = (int64_t *)(q.sum + n + 1);
    struct tiles t = {.args = &q, .segment_N = a->segment_N, .N = a->N, .tile = SUM_TILE};
    LCL_TRY(tiles_run(sumsq_tile, &t));
    struct lcl_grad_norm all = {.clip = 1};
    for (int64_t s = 0; s < a->N; s++) {
        int64_t first = t.first_N1[s], end = t.first_N1[s + 1], bad = 0;
        double sum = tree_sum(q.sum + first, end - first);
        for (int64_t i = first; i < end; i++) bad += q.non_finite[i];
        if (a->sum_N) a->sum_N[s] = sum;
        if (a->non_finite_N) a->non_finite_N[s] = bad;
        all.sum += sum;
        all.non_finite += bad;
    }
    if (a->max_norm > 0) all.clip = (float)fmin(1, a->max_norm / (sqrt(all.sum) + 1e-6));
    if (a->norm) *a->norm = all;
    return LCL_OK;
}

/* --- add, cast --- */

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
