/* The optimizer's ops: AdamW, sums of squares, additions, conversions. Long: every kind of values
 * with every kind of states, over one table of segments. */
#include <float.h>
#include <math.h>

#include "core/code8.h"
#include "core/rng.h"
#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
static const size_t counts[] = {1, 31, 33, 257, 40000};

/* Segments of every odd size and of several tiles, end to end as rows of a table lie: each begins
 * on a multiple of LCL_SEGMENT_ALIGN elements. */
enum { N = 7 };
static const size_t sizes[N] = {1, 31, 33, 257, 40000, 0, 70001};

struct table {
    size_t at[N], n;
    double *value, *m, *v; /* of the reference; zeros in the gaps */
    float *values, *grads, *m_scale, *v_scale;
    void *ms, *vs;
    lcl_bf16 *narrow;
    struct lcl_segment segment[N];
};

/* Zeros: f32, bf16 or bytes. */
static void *states_new(size_t n, lcl_dtype dtype)
{
    size_t bytes = n * lcl_dtype_bytes(dtype);
    return memset(buf_new((bytes + 3) / sizeof(float), LCL_F32), 0, bytes);
}

/* master: values are f32, and every other segment has a bf16 copy; otherwise they are bf16 alone.
 */
static void table_make(struct table *t, lcl_dtype state, bool master)
{
    t->n = 0;
    for (int s = 0; s < N; s++) {
        t->at[s] = t->n;
        t->n += (sizes[s] + LCL_SEGMENT_ALIGN - 1) / LCL_SEGMENT_ALIGN * LCL_SEGMENT_ALIGN;
    }
    t->value = dbl_normal(t->n, 1, 1);
    t->m = dbl_new(t->n);
    t->v = dbl_new(t->n);
    t->values = master ? buf_of(t->value, t->n, LCL_F32) : NULL;
    t->narrow = master ? buf_new(t->n, LCL_BF16) : buf_of(t->value, t->n, LCL_BF16);
    t->grads = buf_of(t->m, t->n, LCL_F32);
    t->ms = states_new(t->n, state);
    t->vs = states_new(t->n, state);
    t->m_scale = states_new(t->n / LCL_CODE8_BLOCK, LCL_F32);
    t->v_scale = states_new(t->n / LCL_CODE8_BLOCK, LCL_F32);
    for (int s = 0; s < N; s++) {
        size_t at = t->at[s], bytes = at * lcl_dtype_bytes(state);
        t->segment[s] = (struct lcl_segment){.count = (int64_t)sizes[s],
                                             .grad = t->grads + at,
                                             .value = master ? t->values + at : NULL,
                                             .value16 = !master || s % 2 ? t->narrow + at : NULL,
                                             .m = (char *)t->ms + bytes,
                                             .v = (char *)t->vs + bytes,
                                             .state = state,
                                             .m_scale_B = t->m_scale + at / LCL_CODE8_BLOCK,
                                             .v_scale_B = t->v_scale + at / LCL_CODE8_BLOCK,
                                             .lr = 1e-3 * (s + 1),
                                             .weight_decay = s % 2 ? 0.1 : 0,
                                             .stream = 1000 + (uint64_t)s,
                                             .first = s == 4 ? 512 : 0};
    }
}

/* New gradients, the reference's and the table's. */
static double *table_grads(struct table *t, uint64_t sample)
{
    double *g = dbl_normal(t->n, 0.1, sample);
    g[0] = 0; /* v may be zero */
    for (size_t i = 0; i < t->n; i++) {
        t->grads[i] = (float)g[i];
        g[i] = (double)t->grads[i];
    }
    return g;
}

/* Loshchilov & Hutter's algorithm 2 in double, as torch.optim.AdamW writes it. */
static void reference(const struct lcl_adamw_args *a, struct table *t, const double *g, double clip)
{
    double step = (double)a->step;
    for (int s = 0; s < N; s++)
        for (size_t i = t->at[s]; i < t->at[s] + sizes[s]; i++) {
            double grad = g[i] * clip, *m = &t->m[i], *v = &t->v[i];
            t->value[i] *= 1 - t->segment[s].lr * t->segment[s].weight_decay;
            *m = a->beta1 * *m + (1 - a->beta1) * grad;
            *v = a->beta2 * *v + (1 - a->beta2) * grad * grad;
            double m_hat = *m / (1 - pow(a->beta1, step)), v_hat = *v / (1 - pow(a->beta2, step));
            t->value[i] -= t->segment[s].lr * m_hat / (sqrt(v_hat) + a->eps);
        }
}

static struct lcl_adamw_args args_of(const struct table *t, const struct lcl_grad_norm *norm)
{
    return (struct lcl_adamw_args){.N = N,
                                   .seed = 12345678901,
                                   .segment_N = t->segment,
                                   .step = 1,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .norm = norm};
}

/* One f64 and more: a norm is a tensor. */
static struct lcl_grad_norm *norm_new(void)
{
    return (struct lcl_grad_norm *)dbl_new((sizeof(struct lcl_grad_norm) + 7) / 8);
}

static void test_adamw(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int clipped = 0; clipped < 2; clipped++) {
        struct table t;
        table_make(&t, LCL_F32, true);
        struct lcl_grad_norm *norm = clipped ? norm_new() : NULL;
        struct lcl_adamw_args a = args_of(&t, norm);
        for (; a.step <= 5; a.step++) {
            double *g = table_grads(&t, 100 + (uint64_t)a.step), clip = clipped ? 0.5 : 1;
            if (clipped) norm->clip = 0.5f;
            ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
            reference(&a, &t, g, clip);
        }
        check_close("m", t.ms, LCL_F32, t.m, t.n, 1e-6);
        check_close("v", t.vs, LCL_F32, t.v, t.n, 1e-6);
        check_close("value", t.values, LCL_F32, t.value, t.n, 1e-6);
        for (int s = 0; s < N; s++) /* copies of what was asked for, and nothing between */
            for (size_t i = t.at[s]; i < (s + 1 < N ? t.at[s + 1] : t.n); i++) {
                bool copied = s % 2 && i < t.at[s] + sizes[s];
                lcl_bf16 nan = lcl_f32_to_bf16(NAN);
                assert_int_equal(t.narrow[i], copied ? lcl_f32_to_bf16(t.values[i]) : nan);
            }
        buf_end();
    }
}

/* The first step moves every element by lr against its gradient's sign, whatever the gradient's
 * size. */
static void test_first_step(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float *value = buf_of((double[]){1, 1, 1}, 3, LCL_F32);
    float *grad = buf_of((double[]){1e-3, -5, 1e4}, 3, LCL_F32);
    float *m = buf_of((double[]){0, 0, 0}, 3, LCL_F32),
          *v = buf_of((double[]){0, 0, 0}, 3, LCL_F32);
    struct lcl_segment s = {.count = 3, .grad = grad, .value = value, .m = m, .v = v, .lr = 0.25};
    struct lcl_adamw_args a = {
        .N = 1, .segment_N = &s, .step = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-12};
    ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    assert_float_equal(value[0], 0.75f, 1e-6f);
    assert_float_equal(value[1], 1.25f, 1e-6f);
    assert_float_equal(value[2], 0.75f, 1e-6f);
    a.step = 0;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &a), LCL_SHAPE, "steps count from 1");
    a.step = 1;
    s.m++;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &a), LCL_SHAPE, "does not begin on 4 elements");
    buf_end();
}

static void test_sumsq(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    struct table t;
    table_make(&t, LCL_F32, true);
    double *x = table_grads(&t, 7), want[N] = {0}, sum[N], total = 0;
    int64_t bad[N];
    struct lcl_grad_norm *norm = norm_new();
    struct lcl_sumsq_args a = {.N = N,
                               .segment_N = t.segment,
                               .sum_N = sum,
                               .non_finite_N = bad,
                               .max_norm = 2,
                               .norm = norm};
    for (int s = 0; s < N; s++) {
        for (size_t i = t.at[s]; i < t.at[s] + sizes[s]; i++) want[s] += x[i] * x[i];
        total += want[s];
    }
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
    for (int s = 0; s < N; s++) {
        assert_true(fabs(sum[s] - want[s]) <= 1e-12 * want[s]);
        assert_int_equal(bad[s], 0);
    }
    assert_true(fabs(norm->sum - total) <= 1e-12 * total);
    assert_int_equal(norm->non_finite, 0);
    assert_float_equal(norm->clip, (float)(2 / (sqrt(total) + 1e-6)), 1e-7f);
    a.max_norm = 0; /* no clip; and nothing else is asked for */
    a.sum_N = NULL;
    a.non_finite_N = NULL;
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
    assert_true(norm->clip == 1);
    a.max_norm = 1e3; /* above the norm */
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
    assert_true(norm->clip == 1);
    a.non_finite_N = bad;
    t.grads[t.at[1]] = NAN;
    t.grads[t.at[6] + sizes[6] / 2] = INFINITY;
    t.grads[t.at[6] + sizes[6] - 1] = -INFINITY;
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
    for (int s = 0; s < N; s++) assert_int_equal(bad[s], s == 1 ? 1 : s == 6 ? 2 : 0);
    assert_int_equal(norm->non_finite, 3);
    buf_end();
}

/* A gradient that is not finite, anywhere, leaves every value and moment as it was. */
static void test_non_finite_changes_nothing(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    struct table t;
    table_make(&t, LCL_F32, true);
    struct lcl_grad_norm *norm = norm_new();
    struct lcl_adamw_args a = args_of(&t, norm);
    struct lcl_sumsq_args q = {.N = N, .segment_N = t.segment, .max_norm = 1, .norm = norm};
    table_grads(&t, 9);
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &q));
    ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    double *value = buf_read(t.values, t.n, LCL_F32), *m = buf_read(t.ms, t.n, LCL_F32);
    double *v = buf_read(t.vs, t.n, LCL_F32);
    assert_true(m[t.at[4]] != 0);
    t.grads[t.at[3] + 256] = NAN;
    a.step = 2;
    ASSERT_OK(ex->ops->sumsq_fwd(ex, &q));
    ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    check_close("value", t.values, LCL_F32, value, t.n, 0);
    check_close("m", t.ms, LCL_F32, m, t.n, 0);
    check_close("v", t.vs, LCL_F32, v, t.n, 0);
    buf_end();
}

/* The random bits of element i of a row, as core/ops.h says. */
static uint32_t random_bits(uint64_t seed, uint64_t stream, int64_t step, size_t i)
{
    struct lcl_rng r = lcl_rng_stream(seed, LCL_RNG_ROUNDING, (uint32_t)step, stream);
    uint32_t out[4], half = (uint32_t)(i / 128 % 2 * 4 + i % 4);
    r.counter[0] = (uint32_t)(i / 256 * 32 + i % 128 / 4);
    lcl_philox(r.counter, r.key, out);
    return out[half / 2] >> 16 * (half % 2) & 0xffff;
}

/* bf16 of x by those bits. */
static lcl_bf16 rounded(double x, uint32_t bits)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (lcl_bf16)((u + bits) >> 16);
}

/* Elements whose bf16 is not the expected one: few, since a last bit of f32 may differ, and then by
 * one. */
static void check_rounding(const char *what, const struct table *t, const double *want,
                           const lcl_bf16 *got, const struct lcl_adamw_args *a, bool second)
{
    size_t n_other = 0, n = 0;
    for (int s = 0; s < N; s++)
        for (size_t i = 0; i < sizes[s]; i++, n++) {
            const struct lcl_segment *g = &t->segment[s];
            uint64_t stream = second ? ~g->stream : g->stream;
            uint32_t bits = random_bits(a->seed, stream, a->step, (size_t)g->first + i);
            int apart = (int)got[t->at[s] + i] - (int)rounded(want[t->at[s] + i], bits);
            n_other += apart != 0;
            if (abs(apart) > 1) fail_msg("%s %zu of segment %d is %d bits off", what, i, s, apart);
        }
    assert_true(n_other <= n / 1000);
}

/* Codes of one block, whose true values are x: each byte's value is the nearest that the code has;
 * second moments above 0 do not become 0. */
static void check_codes(const double *x, const uint8_t *code, float scale, size_t n, bool second)
{
    const struct lcl_code8 *c = second ? &lcl_code8()->v : &lcl_code8()->m;
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    assert_true(fabs((double)scale - most) <= 1e-6 * most + 1e-8);
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY, got = fabs((double)(c->value[code[i]] * scale) - x[i]);
        for (int b = 0; b < 256; b++) best = fmin(best, fabs((double)(c->value[b] * scale) - x[i]));
        bool raised = second && x[i] > 0 && code[i] == 1 && x[i] < (double)(c->value[1] * scale);
        if (!raised && got > best + 2e-7 * most + 2e-8)
            fail_msg("element %zu, %g of %g: code %d is %g off, the best %g", i, x[i], most,
                     code[i], got, best);
        if (second && x[i] > 0) assert_true(code[i] > 0);
    }
}

/* The states before a step as the reference's. */
static void read_states(struct table *t, lcl_dtype state)
{
    for (int s = 0; s < N; s++) {
        const struct lcl_segment *g = &t->segment[s];
        for (size_t i = 0; i < sizes[s]; i++) {
            size_t at = t->at[s] + i;
            if (state == LCL_U8) {
                const struct lcl_code8_pair *c = lcl_code8();
                size_t b = i / LCL_CODE8_BLOCK;
                t->m[at] = (double)(c->m.value[((uint8_t *)g->m)[i]] * g->m_scale_B[b]);
                t->v[at] = (double)(c->v.value[((uint8_t *)g->v)[i]] * g->v_scale_B[b]);
            } else if (state == LCL_BF16) {
                t->m[at] = (double)lcl_bf16_to_f32(((lcl_bf16 *)g->m)[i]);
                t->v[at] = (double)lcl_bf16_to_f32(((lcl_bf16 *)g->v)[i]);
            }
            if (!g->value) t->value[at] = (double)lcl_bf16_to_f32(g->value16[i]);
        }
    }
}

/* Each step by itself against the reference from the same states: sums, and how they are kept. */
static void check_kind(lcl_dtype state, bool master)
{
    struct lcl_exec *ex = test_exec();
    struct table t;
    table_make(&t, state, master);
    struct lcl_adamw_args a = args_of(&t, NULL);
    for (; a.step <= 4; a.step++) {
        double *g = table_grads(&t, 200 + (uint64_t)a.step);
        read_states(&t, state);
        ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
        reference(&a, &t, g, 1);
        if (master)
            check_close("value", t.values, LCL_F32, t.value, t.n, 1e-6);
        else
            check_rounding("value", &t, t.value, t.narrow, &a, false);
        if (state == LCL_BF16) {
            check_close("m", t.ms, LCL_BF16, t.m, t.n, 1e-6);
            check_rounding("v", &t, t.v, t.vs, &a, true);
        }
        for (int s = 0; s < N && state == LCL_U8; s++)
            for (size_t i = 0; i < sizes[s]; i += LCL_CODE8_BLOCK) {
                size_t n = sizes[s] - i < LCL_CODE8_BLOCK ? sizes[s] - i : LCL_CODE8_BLOCK;
                size_t at = t.at[s] + i, b = at / LCL_CODE8_BLOCK;
                check_codes(t.m + at, (uint8_t *)t.ms + at, t.m_scale[b], n, false);
                check_codes(t.v + at, (uint8_t *)t.vs + at, t.v_scale[b], n, true);
            }
    }
    buf_end();
}

static void test_bf16_states(void **state)
{
    (void)state;
    check_kind(LCL_BF16, true);
}

static void test_8_bit_states(void **state)
{
    (void)state;
    check_kind(LCL_U8, true);
}

static void test_bf16_values(void **state)
{
    (void)state;
    check_kind(LCL_F32, false);
    check_kind(LCL_BF16, false);
    check_kind(LCL_U8, false);
}

/* The segments of a table whose values are f32 in halves. */
static void table_split(struct table *t, uint16_t **low)
{
    *low = buf_new(t->n, LCL_BF16);
    for (int s = 0; s < N; s++) {
        struct lcl_segment *g = &t->segment[s];
        g->value16 = t->narrow + t->at[s];
        g->low16 = *low + t->at[s];
        lcl_f32_split(g->value, sizes[s], g->value16, g->low16);
        g->value = NULL;
    }
}

/* Values in halves move as f32 ones do, bit for bit, and nothing is written between segments. */
static void check_halves(lcl_dtype state)
{
    struct lcl_exec *ex = test_exec();
    struct table whole, halves;
    uint16_t *low;
    table_make(&whole, state, true);
    table_make(&halves, state, true);
    memset(halves.narrow, 0xff, halves.n * sizeof *halves.narrow);
    table_split(&halves, &low);
    struct lcl_adamw_args a = args_of(&whole, NULL), b = args_of(&halves, NULL);
    for (; a.step <= 4; a.step++, b.step++) {
        table_grads(&whole, 300 + (uint64_t)a.step);
        table_grads(&halves, 300 + (uint64_t)a.step);
        ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
        ASSERT_OK(ex->ops->adamw_fwd(ex, &b));
    }
    for (int s = 0; s < N; s++)
        for (size_t i = whole.at[s]; i < (s + 1 < N ? whole.at[s + 1] : whole.n); i++) {
            float x = lcl_f32_of_halves(halves.narrow[i], low[i]);
            lcl_bf16 high;
            uint16_t rest;
            if (i >= whole.at[s] + sizes[s]) { /* as made: ones, and buf_new()'s NaN */
                assert_int_equal(halves.narrow[i], 0xffff);
                assert_int_equal(low[i], lcl_f32_to_bf16(NAN));
                continue;
            }
            assert_memory_equal(&x, &whole.values[i], sizeof x);
            lcl_f32_split(&x, 1, &high, &rest);
            assert_int_equal(halves.narrow[i], high);
        }
    assert_memory_equal(halves.ms, whole.ms, whole.n * lcl_dtype_bytes(state));
    assert_memory_equal(halves.vs, whole.vs, whole.n * lcl_dtype_bytes(state));
    b.step = 1;
    halves.segment[3].value = halves.values;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &b), LCL_SHAPE, "segment 3 are f32 and in halves");
    halves.segment[3].value = NULL;
    halves.segment[3].value16 = NULL;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &b), LCL_SHAPE, "segment 3 are lower halves alone");
    halves.segment[3].value16 = halves.narrow + halves.at[3];
    halves.segment[3].low16++;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &b), LCL_SHAPE, "does not begin on 4 elements");
    buf_end();
}

static void test_values_in_halves(void **state)
{
    (void)state;
    check_halves(LCL_F32);
    check_halves(LCL_BF16);
    check_halves(LCL_U8);
}

/* What ops leave of values that are no numbers: NaN in both, whatever its bits were. */
static void test_nan_in_halves(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    double zeros[3] = {0};
    float *grad = buf_of(zeros, 3, LCL_F32);
    lcl_bf16 *high = buf_of((double[]){NAN, INFINITY, -0.0}, 3, LCL_BF16);
    uint16_t *low = buf_of(zeros, 3, LCL_BF16);
    struct lcl_segment s = {.count = 3,
                            .grad = grad,
                            .value16 = high,
                            .low16 = low,
                            .m = buf_of(zeros, 3, LCL_F32),
                            .v = buf_of(zeros, 3, LCL_F32),
                            .lr = 0.25};
    struct lcl_adamw_args a = {
        .N = 1, .segment_N = &s, .step = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-12};
    ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    assert_int_equal(high[0] & 0x7fff, 0x7fc0);
    assert_int_equal(high[1], 0x7f80);
    assert_int_equal(high[2], 0x8000);
    for (int i = 0; i < 3; i++) assert_int_equal(low[i], 0);
    buf_end();
}

/* A row cut in two at a multiple of 256 elements gets the same bits as in one piece. */
static void test_parts_of_a_row(void **state)
{
    (void)state;
    enum { COUNT = 5000, CUT = 1024 };
    struct lcl_exec *ex = test_exec();
    double *x = dbl_normal(COUNT, 1, 3), *g = dbl_normal(COUNT, 1, 4);
    float *grad = buf_of(g, COUNT, LCL_F32);
    lcl_bf16 *value[2];
    uint8_t *v[2];
    for (int cut = 0; cut < 2; cut++) {
        size_t B = (size_t)lcl_code8_blocks(COUNT);
        float *m_scale = states_new(B, LCL_F32), *v_scale = states_new(B, LCL_F32);
        uint8_t *m = states_new(COUNT, LCL_U8);
        v[cut] = states_new(COUNT, LCL_U8);
        value[cut] = buf_of(x, COUNT, LCL_BF16);
        struct lcl_segment s[2] = {{.count = COUNT,
                                    .grad = grad,
                                    .value16 = value[cut],
                                    .m = m,
                                    .v = v[cut],
                                    .state = LCL_U8,
                                    .m_scale_B = m_scale,
                                    .v_scale_B = v_scale,
                                    .lr = 0.01,
                                    .stream = 5}};
        s[1] = (struct lcl_segment){.count = COUNT - CUT,
                                    .grad = grad + CUT,
                                    .value16 = value[cut] + CUT,
                                    .m = m + CUT,
                                    .v = v[cut] + CUT,
                                    .state = LCL_U8,
                                    .m_scale_B = m_scale + CUT / LCL_CODE8_BLOCK,
                                    .v_scale_B = v_scale + CUT / LCL_CODE8_BLOCK,
                                    .lr = 0.01,
                                    .stream = 5,
                                    .first = CUT};
        if (cut) s[0].count = CUT;
        struct lcl_adamw_args a = {
            .N = 1 + cut, .segment_N = s, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .seed = 7};
        for (a.step = 1; a.step < 4; a.step++) ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    }
    assert_memory_equal(value[0], value[1], COUNT * sizeof(lcl_bf16));
    assert_memory_equal(v[0], v[1], COUNT);
    buf_end();
}

/* Steps of a tenth of a bit: to nearest, nothing would ever move; by chance, the mean moves as far
 * as it should, up or down. */
static void test_rounding_is_unbiased(void **state)
{
    (void)state;
    enum { COUNT = 4096, STEPS = 50 };
    struct lcl_exec *ex = test_exec();
    double *x = dbl_new(COUNT), *g = dbl_new(COUNT), sum[2] = {0, 0};
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = 1.5;
        g[i] = i % 2 ? 1 : -1;
    }
    const double lr = 0.1 / 128; /* bf16 numbers near 1.5 are 1/128 apart */
    struct lcl_segment s = {.count = COUNT,
                            .grad = buf_of(g, COUNT, LCL_F32),
                            .value16 = buf_of(x, COUNT, LCL_BF16),
                            .m = states_new(COUNT, LCL_F32),
                            .v = states_new(COUNT, LCL_F32),
                            .lr = lr,
                            .stream = 1};
    struct lcl_adamw_args a = {
        .N = 1, .segment_N = &s, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-12, .seed = 1};
    for (a.step = 1; a.step <= STEPS; a.step++) ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    for (size_t i = 0; i < COUNT; i++) sum[i % 2] += (double)lcl_bf16_to_f32(s.value16[i]) - 1.5;
    /* Each step's variance is at most (1/128)^2 / 4: six deviations of the mean. */
    double bound = 6 * sqrt(STEPS / 4.0 / (COUNT / 2)) / 128;
    assert_true(fabs(sum[0] / (COUNT / 2) - STEPS * lr) < bound);
    assert_true(fabs(sum[1] / (COUNT / 2) + STEPS * lr) < bound);
    assert_true(bound < STEPS * lr / 4);
    buf_end();
}

/* From element `at` on: not every tensor begins where wide loads may. */
static void check_add(size_t n, size_t at, lcl_dtype x_type, lcl_dtype y_type, double scale)
{
    struct lcl_exec *ex = test_exec();
    double *x = dbl_normal(n + at, 1, 1), *y = dbl_normal(n + at, 1, 2);
    char *all_x = buf_of(x, n + at, x_type), *all_y = buf_of(y, n + at, y_type);
    struct lcl_add_args a = {.count = (int64_t)n,
                             .x_dtype = x_type,
                             .y_dtype = y_type,
                             .scale = (float)scale,
                             .x = all_x + at * lcl_dtype_bytes(x_type),
                             .y = all_y + at * lcl_dtype_bytes(y_type)};
    ASSERT_OK(ex->ops->add_fwd(ex, &a));
    for (size_t i = at; i < n + at; i++) y[i] += scale * x[i];
    check_close("y", all_y, y_type, y, n + at, 2e-7);
    buf_end();
}

static void test_add(void **state)
{
    (void)state;
    for (int c = 0; c < 5; c++)
        for (int t = 0; t < 4; t++)
            check_add(counts[c], c % 3, dtypes[t & 1], dtypes[t >> 1], t == 1 ? 1 : -0.375);
    struct lcl_exec *ex = test_exec();
    struct lcl_add_args a = {.count = 1, .y_dtype = LCL_I32};
    ASSERT_FAILS(ex->ops->add_fwd(ex, &a), LCL_SHAPE, "wanted f32 or bf16");
}

static void check_cast(size_t n, lcl_dtype x_type, lcl_dtype y_type)
{
    struct lcl_exec *ex = test_exec();
    double *x = dbl_normal(n, 1, 1);
    struct lcl_cast_args a = {.count = (int64_t)n,
                              .x_dtype = x_type,
                              .y_dtype = y_type,
                              .x = buf_of(x, n, x_type),
                              .y = buf_new(n, y_type)};
    ASSERT_OK(ex->ops->cast_fwd(ex, &a));
    for (size_t i = 0; i < n; i++) x[i] = y_type == LCL_BF16 ? dbl_bf16(x[i]) : x[i];
    check_close("y", a.y, y_type, x, n, 0);
    buf_end();
}

static void test_cast(void **state)
{
    (void)state;
    for (int c = 0; c < 5; c++)
        for (int t = 0; t < 4; t++) check_cast(counts[c], dtypes[t & 1], dtypes[t >> 1]);
    struct lcl_exec *ex = test_exec();
    float *x =
        buf_of((double[]){NAN, INFINITY, -INFINITY, -0.0, FLT_MAX, 1.0 + 1.0 / 256}, 6, LCL_F32);
    lcl_bf16 *y = buf_new(6, LCL_BF16);
    struct lcl_cast_args a = {.count = 6, .x_dtype = LCL_F32, .y_dtype = LCL_BF16, .x = x, .y = y};
    ASSERT_OK(ex->ops->cast_fwd(ex, &a));
    assert_true(isnan(lcl_bf16_to_f32(y[0])));
    assert_int_equal(y[1], 0x7f80);
    assert_int_equal(y[2], 0xff80);
    assert_int_equal(y[3], 0x8000);
    assert_int_equal(y[4], 0x7f80);
    assert_int_equal(y[5], 0x3f80);       /* a tie goes to even */
    lcl_f16 *half = buf_new(6, LCL_BF16); /* also 2 bytes an element */
    a.y_dtype = LCL_F16;
    a.y = half;
    ASSERT_OK(ex->ops->cast_fwd(ex, &a));
    assert_true(lcl_f16_to_f32(half[5]) == x[5]);
    a.y_dtype = LCL_I32;
    ASSERT_FAILS(ex->ops->cast_fwd(ex, &a), LCL_UNSUPPORTED, "i32");
    a.x_dtype = LCL_F16;
    ASSERT_FAILS(ex->ops->cast_fwd(ex, &a), LCL_UNSUPPORTED, "i32");
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_sumsq),
        cmocka_unit_test(test_non_finite_changes_nothing),
        cmocka_unit_test(test_bf16_states),
        cmocka_unit_test(test_8_bit_states),
        cmocka_unit_test(test_bf16_values),
        cmocka_unit_test(test_values_in_halves),
        cmocka_unit_test(test_nan_in_halves),
        cmocka_unit_test(test_parts_of_a_row),
        cmocka_unit_test(test_rounding_is_unbiased),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_cast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
