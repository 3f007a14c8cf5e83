/* Features standardised by column and normalised by row. Legend: M rows, C width. */
#include <math.h>

#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
static const int64_t sizes[][2] = {{1, 1}, {1, 31}, {31, 33}, {33, 257}, {257, 64}, {5, 2056}};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

struct feature {
    int64_t M, C;
    double *x, *dy, *mean, *inv_std, eps;
};

static double standardized(const struct feature *f, int64_t i)
{
    return (f->x[i] - f->mean[i % f->C]) * f->inv_std[i % f->C];
}

static double standardize_loss(void *ctx)
{
    const struct feature *f = ctx;
    double sum = 0;
    for (int64_t i = 0; i < f->M * f->C; i++) sum += f->dy[i] * standardized(f, i);
    return sum;
}

static void check_standardize(int64_t M, int64_t C, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(M * C), width = (size_t)C;
    struct feature f = {M,
                        C,
                        dbl_normal(n, 2, 1),
                        dbl_normal(n, 1, 2),
                        dbl_normal(width, 1, 3),
                        dbl_normal(width, 1, 4),
                        0};
    struct lcl_standardize_args a = {.M = M,
                                     .C = C,
                                     .dtype = t,
                                     .mean_C = buf_of(f.mean, width, LCL_F32),
                                     .inv_std_C = buf_of(f.inv_std, width, LCL_F32),
                                     .x_MC = buf_of(f.x, n, t),
                                     .y_MC = buf_new(n, t),
                                     .d_y_MC = buf_of(f.dy, n, t),
                                     .d_x_MC = buf_new(n, t)};
    double *y = dbl_new(n);
    ASSERT_OK(ex->ops->standardize_fwd(ex, &a));
    for (size_t i = 0; i < n; i++) y[i] = standardized(&f, (int64_t)i);
    check_close("y", a.y_MC, t, y, n, 3e-7);
    ASSERT_OK(ex->ops->standardize_bwd(ex, &a));
    fd_check("d_x", standardize_loss, &f, f.x, n, a.d_x_MC, t, NULL, 1e-6);
    struct lcl_standardize_args over = a; /* y over x */
    over.y_MC = (void *)(uintptr_t)a.x_MC;
    over.d_x_MC = NULL;
    ASSERT_OK(ex->ops->standardize_fwd(ex, &over));
    assert_memory_equal(over.y_MC, a.y_MC, n * lcl_dtype_bytes(t));
    ASSERT_OK(ex->ops->standardize_bwd(ex, &over));
    buf_end();
}

static void test_standardize(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < N_SIZES; s++) check_standardize(sizes[s][0], sizes[s][1], dtypes[t]);
}

static void l2norm(const struct feature *f, double *y, double *norm)
{
    for (int64_t m = 0; m < f->M; m++) {
        const double *x = f->x + m * f->C;
        double square = 0;
        for (int64_t c = 0; c < f->C; c++) square += x[c] * x[c];
        if (norm) norm[m] = sqrt(square);
        for (int64_t c = 0; c < f->C; c++) y[m * f->C + c] = x[c] / fmax(sqrt(square), f->eps);
    }
}

static double l2norm_loss(void *ctx)
{
    const struct feature *f = ctx;
    size_t n = (size_t)(f->M * f->C);
    double *y = malloc(n * sizeof *y), sum = 0;
    l2norm(f, y, NULL);
    for (size_t i = 0; i < n; i++) sum += f->dy[i] * y[i];
    free(y);
    return sum;
}

/* std far below eps: the norm is clamped. */
static void check_l2norm(int64_t M, int64_t C, double std, double eps, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(M * C);
    struct feature f = {M,    C,    dbl_normal(n, std, 1), dbl_normal(n, 1, 2),
                        NULL, NULL, (double)(float)eps};
    struct lcl_l2norm_args a = {.M = M,
                                .C = C,
                                .dtype = t,
                                .eps = (float)eps,
                                .x_MC = buf_of(f.x, n, t),
                                .y_MC = buf_new(n, t),
                                .norm_M = buf_new((size_t)M, LCL_F32),
                                .d_y_MC = buf_of(f.dy, n, t),
                                .d_x_MC = buf_new(n, t)};
    double *y = dbl_new(n), *norm = dbl_new((size_t)M);
    ASSERT_OK(ex->ops->l2norm_fwd(ex, &a));
    l2norm(&f, y, norm);
    check_close("y", a.y_MC, t, y, n, 5e-7);
    check_close("norm", a.norm_M, LCL_F32, norm, (size_t)M, 5e-7);
    ASSERT_OK(ex->ops->l2norm_bwd(ex, &a));
    fd_check("d_x", l2norm_loss, &f, f.x, n, a.d_x_MC, t, NULL, 1e-6);
    a.d_x_MC = NULL;
    ASSERT_OK(ex->ops->l2norm_bwd(ex, &a));
    buf_end();
}

static void test_l2norm(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        for (int s = 1; s < N_SIZES; s++)
            check_l2norm(sizes[s][0], sizes[s][1], 1, 1e-12, dtypes[t]);
        check_l2norm(3, 33, 0.01, 10, dtypes[t]);
    }
}

static void test_zero_row(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float *y = buf_new(2, LCL_F32), *norm = buf_new(1, LCL_F32);
    struct lcl_l2norm_args a = {.M = 1,
                                .C = 2,
                                .eps = 1e-12f,
                                .x_MC = buf_of((double[2]){0, 0}, 2, LCL_F32),
                                .y_MC = y,
                                .norm_M = norm};
    ASSERT_OK(ex->ops->l2norm_fwd(ex, &a));
    assert_true(y[0] == 0 && y[1] == 0 && norm[0] == 0);
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standardize),
        cmocka_unit_test(test_l2norm),
        cmocka_unit_test(test_zero_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
