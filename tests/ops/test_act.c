/* GELU forms and SwiGLU against a double reference, and the elementary functions behind them. */
#include <math.h>

#include "cpu/simd.h"
#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
static const size_t counts[] = {1, 31, 33, 257, 40000};
static const enum lcl_gelu_kind kinds[] = {LCL_GELU_ERF, LCL_GELU_QUICK, LCL_GELU_TANH};

static void test_elementary_functions(void **state)
{
    (void)state;
    for (double x = -100; x < 100; x += 0.00917) {
        double want = exp((double)(float)x), got = (double)simd_exp((float)x);
        if (x > -87.3 && x < 88.7 && fabs(got / want - 1) > 2.4e-7)
            fail_msg("exp(%g) is %.9g, wanted %.9g", x, got, want);
        if (x < -87.4) assert_true(got == 0);
        if (x > 88.8) assert_true(isinf(got));
        double s = 1 / (1 + exp(-(double)(float)x)), sg = (double)simd_sigmoid((float)x);
        if (fabs(sg - s) > 2.4e-7 * s + 1e-37) fail_msg("sigmoid(%g) is %.9g, not %.9g", x, sg, s);
    }
    for (double x = -12; x < 12; x += 0.00137) {
        float bell;
        double z = (double)(float)x, want = 0.5 * erfc(-z / sqrt(2));
        double got = (double)simd_normal_cdf((float)x, &bell);
        if (fabs(got - want) > 2e-7 || (x > -5 && fabs(got / want - 1) > 1e-6))
            fail_msg("Phi(%g) is %.9g, wanted %.9g", x, got, want);
        if (fabs((double)bell - exp(-z * z / 2)) > 3e-7)
            fail_msg("bell(%g) is %g", x, (double)bell);
    }
    for (double x = -3; x < 200000; x = x < 30 ? x + 0.0031 : x * 1.0003) {
        float s, c;
        simd_sincos((float)x, &s, &c);
        double a = (double)(float)x;
        if (fabs((double)s - sin(a)) > 1.2e-7 || fabs((double)c - cos(a)) > 1.2e-7)
            fail_msg("sin, cos of %.9g are %.9g, %.9g, wanted %.9g, %.9g", a, (double)s, (double)c,
                     sin(a), cos(a));
    }
    float s, c;
    simd_sincos(0.0f, &s, &c);
    assert_true(s == 0.0f && c == 1.0f);
    assert_true(isnan(simd_exp(NAN)) && isnan(simd_sigmoid(NAN)));
    assert_true(simd_exp(0.0f) == 1.0f && simd_exp(-INFINITY) == 0.0f);
}

struct gelu {
    enum lcl_gelu_kind kind;
    size_t n;
    double *x, *dy;
};

static double gelu_of(enum lcl_gelu_kind kind, double x)
{
    switch (kind) {
    case LCL_GELU_ERF:
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    case LCL_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case LCL_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    }
    return 0;
}

static double gelu_loss(void *ctx)
{
    const struct gelu *g = ctx;
    double sum = 0;
    for (size_t i = 0; i < g->n; i++) sum += g->dy[i] * gelu_of(g->kind, g->x[i]);
    return sum;
}

static void check_gelu(enum lcl_gelu_kind kind, size_t n, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    struct gelu g = {kind, n, dbl_normal(n, 3, 1), dbl_normal(n, 1, 2)};
    struct lcl_gelu_args a = {.count = (int64_t)n,
                              .dtype = t,
                              .kind = kind,
                              .x = buf_of(g.x, n, t),
                              .y = buf_new(n, t),
                              .d_y = buf_of(g.dy, n, t),
                              .d_x = buf_new(n, t)};
    double *y = dbl_new(n);
    ASSERT_OK(ex->ops->gelu_fwd(ex, &a));
    for (size_t i = 0; i < n; i++) y[i] = gelu_of(kind, g.x[i]);
    check_close("y", a.y, t, y, n, 3e-7);
    ASSERT_OK(ex->ops->gelu_bwd(ex, &a));
    fd_check("d_x", gelu_loss, &g, g.x, n, a.d_x, t, NULL, 1e-6);

    size_t bytes = n * lcl_dtype_bytes(t);
    struct lcl_gelu_args over = a; /* d_x over d_y, then y over x */
    over.d_x = (void *)(uintptr_t)a.d_y;
    ASSERT_OK(ex->ops->gelu_bwd(ex, &over));
    assert_memory_equal(over.d_x, a.d_x, bytes);
    over.y = (void *)(uintptr_t)a.x;
    ASSERT_OK(ex->ops->gelu_fwd(ex, &over));
    assert_memory_equal(over.y, a.y, bytes);
    buf_end();
}

static void test_gelu(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int t = 0; t < 2; t++)
            for (int c = 0; c < 5; c++) check_gelu(kinds[k], counts[c], dtypes[t]);
}

static void test_gelu_arguments(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x = 1, y;
    struct lcl_gelu_args a = {.count = 1, .kind = (enum lcl_gelu_kind)9, .x = &x, .y = &y};
    ASSERT_FAILS(ex->ops->gelu_fwd(ex, &a), LCL_SHAPE, "no kind 9");
    a.kind = LCL_GELU_ERF;
    a.d_y = &x;
    ASSERT_OK(ex->ops->gelu_bwd(ex, &a)); /* d_x not wanted */
    a.count = -1;
    ASSERT_FAILS(ex->ops->gelu_fwd(ex, &a), LCL_SHAPE, "-1 elements");
}

struct swiglu {
    int64_t M, F;
    double *x, *dy;
};

static double swiglu_of(const struct swiglu *s, int64_t m, int64_t f)
{
    double g = s->x[m * 2 * s->F + f], u = s->x[m * 2 * s->F + s->F + f];
    return g / (1 + exp(-g)) * u;
}

static double swiglu_loss(void *ctx)
{
    const struct swiglu *s = ctx;
    double sum = 0;
    for (int64_t m = 0; m < s->M; m++)
        for (int64_t f = 0; f < s->F; f++) sum += s->dy[m * s->F + f] * swiglu_of(s, m, f);
    return sum;
}

static void check_swiglu(int64_t M, int64_t F, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(M * F);
    struct swiglu s = {M, F, dbl_normal(2 * n, 2, 1), dbl_normal(n, 1, 2)};
    struct lcl_swiglu_args a = {.M = M,
                                .F = F,
                                .dtype = t,
                                .gate_up_M2F = buf_of(s.x, 2 * n, t),
                                .y_MF = buf_new(n, t),
                                .d_y_MF = buf_of(s.dy, n, t),
                                .d_gate_up_M2F = buf_new(2 * n, t)};
    double *y = dbl_new(n);
    ASSERT_OK(ex->ops->swiglu_fwd(ex, &a));
    for (int64_t m = 0; m < M; m++)
        for (int64_t f = 0; f < F; f++) y[m * F + f] = swiglu_of(&s, m, f);
    check_close("y", a.y_MF, t, y, n, 1e-6);
    ASSERT_OK(ex->ops->swiglu_bwd(ex, &a));
    fd_check("d_gate_up", swiglu_loss, &s, s.x, 2 * n, a.d_gate_up_M2F, t, NULL, 1e-6);

    struct lcl_swiglu_args over = a;
    over.d_gate_up_M2F = (void *)(uintptr_t)a.gate_up_M2F;
    ASSERT_OK(ex->ops->swiglu_bwd(ex, &over));
    assert_memory_equal(over.d_gate_up_M2F, a.d_gate_up_M2F, 2 * n * lcl_dtype_bytes(t));
    over.d_gate_up_M2F = NULL;
    ASSERT_OK(ex->ops->swiglu_bwd(ex, &over));
    buf_end();
}

static void test_swiglu(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_swiglu(1, 1, dtypes[t]);
        check_swiglu(31, 33, dtypes[t]);
        check_swiglu(33, 257, dtypes[t]);
        check_swiglu(3, 1030, dtypes[t]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementary_functions),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_gelu_arguments),
        cmocka_unit_test(test_swiglu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
