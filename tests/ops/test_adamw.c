/* The optimizer's ops: AdamW, sums of squares, additions, conversions. */
#include <float.h>
#include <math.h>

#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
static const size_t counts[] = {1, 31, 33, 257, 40000};

/* Loshchilov & Hutter's algorithm 2 in double, as torch.optim.AdamW writes it. */
static void reference(const struct lcl_adamw_args *a, double *p, const double *g, double *m,
                      double *v, size_t n)
{
    double t = (double)a->step;
    for (size_t i = 0; i < n; i++) {
        double grad = g[i] * (double)a->grad_scale;
        p[i] *= 1 - a->lr * a->weight_decay;
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * grad;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * grad * grad;
        double m_hat = m[i] / (1 - pow(a->beta1, t)), v_hat = v[i] / (1 - pow(a->beta2, t));
        p[i] -= a->lr * m_hat / (sqrt(v_hat) + a->eps);
    }
}

static void check_adamw(size_t n, double decay, bool narrow)
{
    struct lcl_exec *ex = test_exec();
    double *p = dbl_normal(n, 1, 1), *m = dbl_new(n), *v = dbl_new(n);
    struct lcl_adamw_args a = {.count = (int64_t)n,
                               .lr = 1e-3,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-8,
                               .weight_decay = decay,
                               .grad_scale = 0.5f,
                               .value = buf_of(p, n, LCL_F32),
                               .m = buf_of(m, n, LCL_F32),
                               .v = buf_of(v, n, LCL_F32)};
    if (narrow) a.value16 = buf_new(n, LCL_BF16);
    for (a.step = 1; a.step <= 5; a.step++) {
        double *g = dbl_normal(n, 0.1, 100 + (uint64_t)a.step);
        g[0] = 0; /* v may be zero */
        a.grad = buf_of(g, n, LCL_F32);
        ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
        reference(&a, p, g, m, v, n);
    }
    check_close("m", a.m, LCL_F32, m, n, 1e-6);
    check_close("v", a.v, LCL_F32, v, n, 1e-6);
    check_close("value", a.value, LCL_F32, p, n, 3e-7);
    for (size_t i = 0; narrow && i < n; i++)
        assert_int_equal(a.value16[i], lcl_f32_to_bf16(a.value[i]));
    buf_end();
}

static void test_adamw(void **state)
{
    (void)state;
    for (int c = 0; c < 5; c++) {
        check_adamw(counts[c], 0, false);
        check_adamw(counts[c], 0.1, true);
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
    struct lcl_adamw_args a = {.count = 3,
                               .step = 1,
                               .lr = 0.25,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-12,
                               .grad_scale = 1,
                               .value = value,
                               .grad = grad,
                               .m = m,
                               .v = v};
    ASSERT_OK(ex->ops->adamw_fwd(ex, &a));
    assert_float_equal(value[0], 0.75f, 1e-6f);
    assert_float_equal(value[1], 1.25f, 1e-6f);
    assert_float_equal(value[2], 0.75f, 1e-6f);
    a.step = 0;
    ASSERT_FAILS(ex->ops->adamw_fwd(ex, &a), LCL_SHAPE, "steps count from 1");
    buf_end();
}

static void test_sumsq(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    static const size_t sizes[] = {0, 1, 31, 33, 257, 65536, 65537, 500001};
    for (int s = 0; s < 8; s++) {
        size_t n = sizes[s];
        double *x = dbl_normal(n, 1, 1), want = 0, got = -1;
        int64_t bad = -1;
        float *buf = buf_of(x, n, LCL_F32);
        struct lcl_sumsq_args a = {.count = (int64_t)n, .x = buf, .sum = &got, .non_finite = &bad};
        for (size_t i = 0; i < n; i++) want += x[i] * x[i];
        ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
        assert_true(fabs(got - want) <= 1e-12 * want);
        assert_int_equal(bad, 0);
        if (n > 30) {
            buf[0] = NAN;
            buf[n / 2] = INFINITY;
            buf[n - 1] = -INFINITY;
            ASSERT_OK(ex->ops->sumsq_fwd(ex, &a));
            assert_int_equal(bad, 3);
        }
        buf_end();
    }
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
        cmocka_unit_test(test_sumsq), cmocka_unit_test(test_add),
        cmocka_unit_test(test_cast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
