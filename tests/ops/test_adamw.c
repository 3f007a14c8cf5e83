/* The optimizer's ops: AdamW, sums of squares, additions, conversions. */
#include <float.h>
#include <math.h>

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
    float *values, *grads, *ms, *vs;
    lcl_bf16 *narrow;
    struct lcl_segment segment[N];
};

static void table_make(struct table *t)
{
    t->n = 0;
    for (int s = 0; s < N; s++) {
        t->at[s] = t->n;
        t->n += (sizes[s] + LCL_SEGMENT_ALIGN - 1) / LCL_SEGMENT_ALIGN * LCL_SEGMENT_ALIGN;
    }
    t->value = dbl_normal(t->n, 1, 1);
    t->m = dbl_new(t->n);
    t->v = dbl_new(t->n);
    t->values = buf_of(t->value, t->n, LCL_F32);
    t->grads = buf_of(t->m, t->n, LCL_F32);
    t->ms = buf_of(t->m, t->n, LCL_F32);
    t->vs = buf_of(t->v, t->n, LCL_F32);
    t->narrow = buf_new(t->n, LCL_BF16);
    for (int s = 0; s < N; s++)
        t->segment[s] = (struct lcl_segment){.count = (int64_t)sizes[s],
                                             .grad = t->grads + t->at[s],
                                             .value = t->values + t->at[s],
                                             .m = t->ms + t->at[s],
                                             .v = t->vs + t->at[s],
                                             .value16 = s % 2 ? t->narrow + t->at[s] : NULL,
                                             .lr = 1e-3 * (s + 1),
                                             .weight_decay = s % 2 ? 0.1 : 0};
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
        table_make(&t);
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
    table_make(&t);
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
    table_make(&t);
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

static void check_add(size_t n, lcl_dtype x_type, lcl_dtype y_type, double scale)
{
    struct lcl_exec *ex = test_exec();
    double *x = dbl_normal(n, 1, 1), *y = dbl_normal(n, 1, 2);
    struct lcl_add_args a = {.count = (int64_t)n,
                             .x_dtype = x_type,
                             .y_dtype = y_type,
                             .scale = (float)scale,
                             .x = buf_of(x, n, x_type),
                             .y = buf_of(y, n, y_type)};
    ASSERT_OK(ex->ops->add_fwd(ex, &a));
    for (size_t i = 0; i < n; i++) y[i] += scale * x[i];
    check_close("y", a.y, y_type, y, n, 2e-7);
    buf_end();
}

static void test_add(void **state)
{
    (void)state;
    for (int c = 0; c < 5; c++)
        for (int t = 0; t < 4; t++)
            check_add(counts[c], dtypes[t & 1], dtypes[t >> 1], t == 1 ? 1 : -0.375);
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
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw), cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_sumsq), cmocka_unit_test(test_non_finite_changes_nothing),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_cast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
