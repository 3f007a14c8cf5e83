/* The optimizer's elementwise work: AdamW, norm of the gradients, additions and conversions.
 * Legend: N segments. */
#include "core/code8.h"
#include "core/rng.h"
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
    const struct lcl_code8_pair *code;
    double correction1;
    float clip, one_minus_beta1, beta2, one_minus_beta2, correction2_sqrt, eps;
    uint64_t seed;
    int64_t step;
};

static void update(const struct adamw *k, const struct lcl_segment *s, int64_t n,
                   const float *restrict grad, float *restrict value, float *restrict m,
                   float *restrict v)
{
    const float clip = k->clip, one_minus_beta1 = k->one_minus_beta1, beta2 = k->beta2;
    const float one_minus_beta2 = k->one_minus_beta2, eps = k->eps;
    const float correction2_sqrt = k->correction2_sqrt;
    const float keep = (float)(1.0 - s->lr * s->weight_decay);
    const float step_size = (float)(s->lr / k->correction1);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip;
        float m_i = m[i] + one_minus_beta1 * (g - m[i]);
        float v_i = v[i] * beta2 + one_minus_beta2 * g * g;
        float denominator = sqrtf(v_i) / correction2_sqrt + eps;
        m[i] = m_i;
        v[i] = v_i;
        value[i] = value[i] * keep - step_size * m_i / denominator;
    }
}

enum { GROUP = LCL_SEGMENT_ALIGN, PHILOX_BLOCKS = GROUP / 8 };

/* The random bits of the group of elements that begins at element `first` of its row: PHILOX_BLOCKS
 * blocks side by side, as lcl_philox() makes one. */
static void random_bits(const struct adamw *k, uint64_t stream, int64_t first, uint32_t bits[GROUP])
{
    struct lcl_rng r = lcl_rng_stream(k->seed, LCL_RNG_ROUNDING, (uint32_t)k->step, stream);
    uint32_t c[4][PHILOX_BLOCKS], k0 = r.key[0], k1 = r.key[1];
    for (uint32_t l = 0; l < PHILOX_BLOCKS; l++) {
        c[0][l] = (uint32_t)(first / GROUP) * PHILOX_BLOCKS + l;
        for (int i = 1; i < 4; i++) c[i][l] = r.counter[i];
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
#pragma omp simd
        for (int l = 0; l < PHILOX_BLOCKS; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c[0][l], p1 = (uint64_t)0xCD9E8D57u * c[2][l];
            c[0][l] = (uint32_t)(p1 >> 32) ^ c[1][l] ^ k0;
            c[2][l] = (uint32_t)(p0 >> 32) ^ c[3][l] ^ k1;
            c[1][l] = (uint32_t)p1;
            c[3][l] = (uint32_t)p0;
        }
    }
    for (int l = 0; l < PHILOX_BLOCKS; l++)
        for (int half = 0; half < 8; half++)
            bits[half / 4 * 128 + 4 * l + half % 4] = c[half / 2][l] >> 16 * (half % 2) & 0xffffu;
}

static void narrow_stochastically(lcl_bf16 *restrict dst, const float *restrict src,
                                  const uint32_t *restrict bits, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = simd_bits(src[i]);
        uint32_t quiet = (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : u; /* NaN stays NaN */
        dst[i] = (lcl_bf16)(((u & 0x7f800000u) == 0x7f800000u ? quiet : u + bits[i]) >> 16);
    }
}

static void join(float *restrict x, const lcl_bf16 *restrict high, const uint16_t *restrict low,
                 int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = lcl_f32_of_halves(high[i], low[i]);
}

static void split(const float *restrict x, int64_t n, lcl_bf16 *restrict high,
                  uint16_t *restrict low)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = lcl_f32_halved_bits(x[i]);
        high[i] = (lcl_bf16)((u + 0x8000u) >> 16);
        low[i] = (uint16_t)u;
    }
}

static float greatest(const float *x, int64_t n)
{
    float most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static void decode(const struct lcl_code8 *c, const uint8_t *restrict code, float scale, int64_t n,
                   float *restrict x)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = c->value[code[i]] * scale;
}

/* As lcl_code8_m() and lcl_code8_v(), a step at a time for all elements: only the guess is no
 * vector's work. */
static void encode(const struct lcl_code8 *c, bool second, const float *restrict x, float scale,
                   int64_t n, uint8_t *restrict code)
{
    float part[GROUP];
    int32_t k[GROUP];
    if (!(scale > 0)) {
        memset(code, second ? 0 : LCL_CODE8_ZERO, (size_t)n);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        part[i] = fabsf(x[i]) / scale;
        int32_t at = (int32_t)(simd_bits(part[i]) >> 16) - LCL_CODE8_FIRST;
        at = at < 0 ? 0 : at;
        k[i] = at < LCL_CODE8_GUESSES ? at : LCL_CODE8_GUESSES - 1;
    }
    for (int64_t i = 0; i < n; i++) k[i] = c->guess[k[i]];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) k[i] += part[i] > c->middle[k[i]];
    if (second)
        for (int64_t i = 0; i < n; i++) code[i] = (uint8_t)(k[i] + ((k[i] == 0) & (x[i] > 0)));
    else
        for (int64_t i = 0; i < n; i++) {
            int32_t negative = (int32_t)(simd_bits(x[i]) >> 31);
            int32_t magnitude = k[i] - (negative & (k[i] > LCL_CODE8_ZERO));
            code[i] = (uint8_t)(LCL_CODE8_ZERO + (magnitude ^ -negative) + negative);
        }
}

/* A group of at most GROUP elements whose states or values are not f32. */
static void adamw_group(const struct adamw *k, const struct lcl_segment *s, int64_t at, int64_t n)
{
    float value_f32[GROUP], m_f32[GROUP], v_f32[GROUP];
    float *value = value_f32, *m = m_f32, *v = v_f32;
    uint32_t bits[GROUP];
    lcl_bf16 *m16 = (lcl_bf16 *)s->m + at, *v16 = (lcl_bf16 *)s->v + at;
    uint8_t *m8 = (uint8_t *)s->m + at, *v8 = (uint8_t *)s->v + at;
    if (s->value)
        value = s->value + at;
    else if (s->low16)
        join(value, s->value16 + at, s->low16 + at, n);
    else
        row_widen(value, s->value16 + at, n);
    if (s->state == LCL_F32) {
        m = (float *)s->m + at;
        v = (float *)s->v + at;
    } else if (s->state == LCL_BF16) {
        row_widen(m, m16, n);
        row_widen(v, v16, n);
    } else {
        decode(&k->code->m, m8, s->m_scale_B[at / GROUP], n, m);
        decode(&k->code->v, v8, s->v_scale_B[at / GROUP], n, v);
    }
    update(k, s, n, s->grad + at, value, m, v);
    if (s->state == LCL_BF16) {
        row_narrow(m16, m, n);
        random_bits(k, ~s->stream, s->first + at, bits);
        narrow_stochastically(v16, v, bits, n);
    } else if (s->state == LCL_U8) {
        float m_scale = greatest(m, n), v_scale = greatest(v, n);
        s->m_scale_B[at / GROUP] = m_scale;
        s->v_scale_B[at / GROUP] = v_scale;
        encode(&k->code->m, false, m, m_scale, n, m8);
        encode(&k->code->v, true, v, v_scale, n, v8);
    }
    if (s->value) return;
    if (s->low16) {
        split(value, n, s->value16 + at, s->low16 + at);
        return;
    }
    random_bits(k, s->stream, s->first + at, bits);
    narrow_stochastically(s->value16 + at, value, bits, n);
}

static lcl_status adamw_tile(void *ctx, int64_t tile)
{
    const struct tiles *t = ctx;
    const struct adamw *k = t->args;
    int64_t begin, end;
    const struct lcl_segment *s = tile_at(t, tile, &begin, &end);
    if (s->value && s->state == LCL_F32)
        update(k, s, end - begin, s->grad + begin, s->value + begin, (float *)s->m + begin,
               (float *)s->v + begin);
    else
        for (int64_t at = begin; at < end; at += GROUP)
            adamw_group(k, s, at, end - at < GROUP ? end - at : GROUP);
    if (s->value && s->value16) row_narrow(s->value16 + begin, s->value + begin, end - begin);
    return LCL_OK;
}

lcl_status LCL_CPU(adamw_fwd)(struct lcl_exec *ex, const struct lcl_adamw_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_adamw(a));
    if (a->norm && a->norm->non_finite) return LCL_OK;
    struct adamw k = {
        .code = lcl_code8(),
        .correction1 = 1.0 - pow(a->beta1, (double)a->step),
        .clip = a->norm ? a->norm->clip : 1,
        .one_minus_beta1 = (float)(1.0 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1.0 - a->beta2),
        .correction2_sqrt = (float)sqrt(1.0 - pow(a->beta2, (double)a->step)),
        .eps = (float)a->eps,
        .seed = a->seed,
        .step = a->step,
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
