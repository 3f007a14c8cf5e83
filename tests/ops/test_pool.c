/* Image tokens selected and pooled. Legend: I images, T tokens, N pooled tokens, C width. */
#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};

struct pool {
    int64_t I, T, C, first, side, N;
    enum lcl_image_pool_kind kind;
    double *x, *dy;
};

/* The mean over a rectangle [top, bottom) x [left, right) of the grid. */
static double area(const struct pool *p, int64_t i, int64_t top, int64_t bottom, int64_t left,
                   int64_t right, int64_t c)
{
    double sum = 0;
    for (int64_t y = top; y < bottom; y++)
        for (int64_t x = left; x < right; x++)
            sum += p->x[(i * p->T + p->first + y * p->side + x) * p->C + c];
    return sum / (double)((bottom - top) * (right - left));
}

static double pooled(const struct pool *p, int64_t i, int64_t k, int64_t c)
{
    int64_t side = p->side, half = side / 2, y = k / 2, x = k % 2;
    switch (p->kind) {
    case LCL_POOL_NONE:
        return p->x[(i * p->T + p->first + k) * p->C + c];
    case LCL_POOL_MEAN:
        return area(p, i, 0, side, 0, side, c);
    case LCL_POOL_2X2:
        return area(p, i, y * half, y * half + half, x * half, x * half + half, c);
    }
    return 0;
}

static double loss(void *ctx)
{
    const struct pool *p = ctx;
    double sum = 0;
    for (int64_t i = 0; i < p->I; i++)
        for (int64_t k = 0; k < p->N; k++)
            for (int64_t c = 0; c < p->C; c++)
                sum += p->dy[(i * p->N + k) * p->C + c] * pooled(p, i, k, c);
    return sum;
}

static void check_case(enum lcl_image_pool_kind kind, int64_t I, int64_t side, int64_t C,
                       int64_t first, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    int64_t T = side * side + first;
    int64_t N = kind == LCL_POOL_NONE ? side * side : kind == LCL_POOL_MEAN ? 1 : 4;
    assert_int_equal(lcl_image_pool_tokens(kind, T, first), N);
    size_t n = (size_t)(I * T * C), m = (size_t)(I * N * C);
    struct pool p = {I, T, C, first, side, N, kind, dbl_normal(n, 1, 1), dbl_normal(m, 1, 2)};
    struct lcl_image_pool_args a = {.I = I,
                                    .T = T,
                                    .C = C,
                                    .first_token = first,
                                    .dtype = t,
                                    .kind = kind,
                                    .x_ITC = buf_of(p.x, n, t),
                                    .y = buf_new(m, t),
                                    .d_y = buf_of(p.dy, m, t),
                                    .d_x_ITC = buf_new(n, t)};
    double *y = dbl_new(m);
    ASSERT_OK(ex->ops->image_pool_fwd(ex, &a));
    for (size_t i = 0; i < m; i++)
        y[i] = pooled(&p, (int64_t)i / C / N, (int64_t)i / C % N, (int64_t)i % C);
    check_close("y", a.y, t, y, m, 1e-6);
    ASSERT_OK(ex->ops->image_pool_bwd(ex, &a));
    fd_check("d_x", loss, &p, p.x, n, a.d_x_ITC, t, NULL, 1e-6); /* zeros where not selected */
    a.d_x_ITC = NULL;
    ASSERT_OK(ex->ops->image_pool_bwd(ex, &a));
    buf_end();
}

static void test_kinds(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int64_t first = 0; first < 2; first++) {
            check_case(LCL_POOL_NONE, 1, 1, 1, first, dtypes[t]);
            check_case(LCL_POOL_NONE, 3, 5, 33, first, dtypes[t]);
            check_case(LCL_POOL_MEAN, 3, 5, 33, first, dtypes[t]);
            check_case(LCL_POOL_MEAN, 31, 4, 64, first, dtypes[t]);
            check_case(LCL_POOL_MEAN, 2, 3, 2056, first, dtypes[t]);
            check_case(LCL_POOL_2X2, 1, 2, 1, first, dtypes[t]);
            check_case(LCL_POOL_2X2, 3, 16, 31, first, dtypes[t]);
            check_case(LCL_POOL_2X2, 2, 6, 257, first, dtypes[t]);
        }
}

static void test_grids_that_do_not_pool(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x = 0;
    struct lcl_image_pool_args a = {
        .I = 1, .T = 26, .C = 1, .first_token = 1, .kind = LCL_POOL_2X2, .x_ITC = &x, .y = &x};
    ASSERT_FAILS(ex->ops->image_pool_fwd(ex, &a), LCL_SHAPE, "25 tokens cannot be pooled");
    assert_non_null(strstr(lcl_error_hint(), "even side"));
    a.T = 12;
    ASSERT_FAILS(ex->ops->image_pool_bwd(ex, &a), LCL_SHAPE, "11 tokens");
    a.first_token = 12;
    ASSERT_FAILS(ex->ops->image_pool_fwd(ex, &a), LCL_SHAPE, "12 tokens from 12 on");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_grids_that_do_not_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
