/* Layer norm and RMS norm against a double reference. Legend: M rows, C width. */
#include <math.h>

#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
static const int64_t sizes[][2] = {{1, 1},    {1, 31},   {31, 33},  {33, 257}, {257, 64},
                                   {3, 1030}, {515, 34}, {515, 36}, {3, 1032}, {1, 16384}};
enum { N_DTYPES = 2, N_SIZES = sizeof sizes / sizeof sizes[0] };
static const double eps = 1e-5;

struct norm {
    bool rms;
    int64_t M, C;
    double *x, *w, *b, *dy, *ds;
};

static void reference(const struct norm *n, double *y)
{
    for (int64_t m = 0; m < n->M; m++) {
        const double *x = n->x + m * n->C;
        double mean = 0, square = 0;
        for (int64_t c = 0; c < n->C; c++) mean += n->rms ? 0 : x[c] / (double)n->C;
        for (int64_t c = 0; c < n->C; c++) square += (x[c] - mean) * (x[c] - mean) / (double)n->C;
        for (int64_t c = 0; c < n->C; c++)
            y[m * n->C + c] = (x[c] - mean) / sqrt(square + eps) * n->w[c] + (n->rms ? 0 : n->b[c]);
    }
}

static double loss(void *ctx)
{
    const struct norm *n = ctx;
    size_t count = (size_t)(n->M * n->C);
    double *y = malloc(count * sizeof *y), sum = 0;
    reference(n, y);
    for (size_t i = 0; i < count; i++) sum += n->dy[i] * y[i] + (n->ds ? n->ds[i] * n->x[i] : 0);
    free(y);
    return sum;
}

/* One op's calls through one set of buffers. */
struct buffers {
    void *x, *add, *sum, *y, *dy, *ds, *dx;
    float *w, *b, *mean, *rstd, *dw, *db;
};

static lcl_status call(const struct norm *n, lcl_dtype t, const struct buffers *b, bool backward)
{
    struct lcl_exec *ex = test_exec();
    if (n->rms) {
        struct lcl_rmsnorm_args a = {.M = n->M,
                                     .C = n->C,
                                     .dtype = t,
                                     .eps = (float)eps,
                                     .x_MC = b->x,
                                     .add_MC = b->add,
                                     .sum_MC = b->sum,
                                     .weight_C = b->w,
                                     .y_MC = b->y,
                                     .rstd_M = b->rstd,
                                     .d_y_MC = b->dy,
                                     .d_sum_MC = b->ds,
                                     .d_x_MC = b->dx,
                                     .d_weight_C = b->dw};
        return backward ? ex->ops->rmsnorm_bwd(ex, &a) : ex->ops->rmsnorm_fwd(ex, &a);
    }
    struct lcl_layernorm_args a = {.M = n->M,
                                   .C = n->C,
                                   .dtype = t,
                                   .eps = (float)eps,
                                   .x_MC = b->x,
                                   .add_MC = b->add,
                                   .sum_MC = b->sum,
                                   .weight_C = b->w,
                                   .bias_C = b->b,
                                   .y_MC = b->y,
                                   .mean_M = b->mean,
                                   .rstd_M = b->rstd,
                                   .d_y_MC = b->dy,
                                   .d_sum_MC = b->ds,
                                   .d_x_MC = b->dx,
                                   .d_weight_C = b->dw,
                                   .d_bias_C = b->db};
    return backward ? ex->ops->layernorm_bwd(ex, &a) : ex->ops->layernorm_fwd(ex, &a);
}

static void check_case(bool rms, int64_t M, int64_t C, lcl_dtype t)
{
    size_t n = (size_t)(M * C), width = (size_t)C;
    double *x = dbl_normal(n, 1.5, 1), *add = dbl_normal(n, 1, 2);
    for (size_t i = 0; i < n; i++) x[i] += 0.75; /* a mean that matters */
    struct norm k = {.rms = rms,
                     .M = M,
                     .C = C,
                     .w = dbl_normal(width, 1, 3),
                     .b = dbl_normal(width, 1, 4),
                     .dy = dbl_normal(n, 1, 5),
                     .ds = dbl_normal(n, 1, 6)};
    double *dw0 = dbl_normal(width, 1, 7), *db0 = dbl_normal(width, 1, 8);
    struct buffers b = {.x = buf_of(x, n, t),
                        .add = buf_of(add, n, t),
                        .sum = buf_new(n, t),
                        .y = buf_new(n, t),
                        .dy = buf_of(k.dy, n, t),
                        .ds = buf_of(k.ds, n, t),
                        .dx = buf_new(n, t),
                        .w = buf_of(k.w, width, LCL_F32),
                        .b = buf_of(k.b, width, LCL_F32),
                        .mean = buf_new((size_t)M, LCL_F32),
                        .rstd = buf_new((size_t)M, LCL_F32),
                        .dw = buf_of(dw0, width, LCL_F32),
                        .db = buf_of(db0, width, LCL_F32)};
    ASSERT_OK(call(&k, t, &b, false));
    double *sum = dbl_new(n), *y = dbl_new(n);
    for (size_t i = 0; i < n; i++) sum[i] = x[i] + add[i];
    check_close("sum", b.sum, t, sum, n, 1e-7);
    k.x = buf_read(b.sum, n, t); /* what the norm and its backward see */
    reference(&k, y);
    check_close("y", b.y, t, y, n, 3e-6);

    ASSERT_OK(call(&k, t, &b, true));
    fd_check("d_x", loss, &k, k.x, n, b.dx, t, NULL, 3e-6);
    fd_check("d_weight", loss, &k, k.w, width, b.dw, LCL_F32, dw0, 3e-6);
    if (!rms) fd_check("d_bias", loss, &k, k.b, width, b.db, LCL_F32, db0, 3e-6);
    buf_end();
}

static void test_layernorm(void **state)
{
    (void)state;
    for (int t = 0; t < N_DTYPES; t++)
        for (int s = 0; s < N_SIZES; s++) check_case(false, sizes[s][0], sizes[s][1], dtypes[t]);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    for (int t = 0; t < N_DTYPES; t++)
        for (int s = 0; s < N_SIZES; s++) check_case(true, sizes[s][0], sizes[s][1], dtypes[t]);
}

/* No addition: the norm of x itself, and no residual gradient. */
static void check_plain(bool rms, lcl_dtype t)
{
    enum { M = 5, C = 33 };
    size_t n = M * C;
    double *x = dbl_normal(n, 1, 1), *y = dbl_new(n);
    struct norm k = {.rms = rms,
                     .M = M,
                     .C = C,
                     .x = x,
                     .w = dbl_normal(C, 1, 3),
                     .b = dbl_normal(C, 1, 4),
                     .dy = dbl_normal(n, 1, 5)};
    struct buffers b = {.x = buf_of(x, n, t),
                        .y = buf_new(n, t),
                        .dy = buf_of(k.dy, n, t),
                        .dx = buf_new(n, t),
                        .w = buf_of(k.w, C, LCL_F32),
                        .b = buf_of(k.b, C, LCL_F32),
                        .mean = buf_new(M, LCL_F32),
                        .rstd = buf_new(M, LCL_F32)};
    ASSERT_OK(call(&k, t, &b, false));
    reference(&k, y);
    check_close("y without addition", b.y, t, y, n, 3e-6);
    b.sum = b.x;
    ASSERT_OK(call(&k, t, &b, true));
    fd_check("d_x without residual", loss, &k, x, n, b.dx, t, NULL, 3e-6);
    b.mean = b.rstd = NULL; /* inference keeps no statistics */
    b.y = buf_new(n, t);
    ASSERT_OK(call(&k, t, &b, false));
    check_close("y without statistics", b.y, t, y, n, 3e-6);
    buf_end();
}

static void test_no_addition(void **state)
{
    (void)state;
    for (int t = 0; t < N_DTYPES; t++) {
        check_plain(false, dtypes[t]);
        check_plain(true, dtypes[t]);
    }
}

/* sum over x or over add, d_x over d_sum or over d_y: the same bits as with separate buffers. */
static void check_aliases(bool rms, lcl_dtype t, bool first)
{
    enum { M = 7, C = 65 };
    size_t n = M * C, bytes = n * lcl_dtype_bytes(t);
    double *x = dbl_normal(n, 1, 1), *add = dbl_normal(n, 1, 2);
    struct norm k = {.rms = rms,
                     .M = M,
                     .C = C,
                     .w = dbl_normal(C, 1, 3),
                     .b = dbl_normal(C, 1, 4),
                     .dy = dbl_normal(n, 1, 5),
                     .ds = dbl_normal(n, 1, 6)};
    struct buffers b = {.x = buf_of(x, n, t),
                        .add = buf_of(add, n, t),
                        .sum = buf_new(n, t),
                        .y = buf_new(n, t),
                        .dy = buf_of(k.dy, n, t),
                        .ds = buf_of(k.ds, n, t),
                        .dx = buf_new(n, t),
                        .w = buf_of(k.w, C, LCL_F32),
                        .b = buf_of(k.b, C, LCL_F32),
                        .mean = buf_new(M, LCL_F32),
                        .rstd = buf_new(M, LCL_F32)};
    ASSERT_OK(call(&k, t, &b, false));
    ASSERT_OK(call(&k, t, &b, true));
    struct buffers c = b;
    c.sum = first ? b.x : b.add;
    c.dx = first ? b.ds : b.dy;
    c.y = buf_new(n, t);
    ASSERT_OK(call(&k, t, &c, false));
    ASSERT_OK(call(&k, t, &c, true));
    assert_memory_equal(c.sum, b.sum, bytes);
    assert_memory_equal(c.y, b.y, bytes);
    assert_memory_equal(c.dx, b.dx, bytes);
    buf_end();
}

static void test_aliases(void **state)
{
    (void)state;
    for (int t = 0; t < N_DTYPES; t++)
        for (int which = 0; which < 4; which++) check_aliases(which & 1, dtypes[t], which & 2);
}

static void test_only_wanted_gradients(void **state)
{
    (void)state;
    enum { M = 3, C = 31 };
    struct norm k = {.M = M,
                     .C = C,
                     .x = dbl_normal(M * C, 1, 1),
                     .w = dbl_normal(C, 1, 3),
                     .b = dbl_normal(C, 1, 4),
                     .dy = dbl_normal(M * C, 1, 5)};
    double *zeros = dbl_new(C);
    struct buffers b = {.x = buf_of(k.x, M * C, LCL_F32),
                        .y = buf_new(M * C, LCL_F32),
                        .dy = buf_of(k.dy, M * C, LCL_F32),
                        .w = buf_of(k.w, C, LCL_F32),
                        .b = buf_of(k.b, C, LCL_F32),
                        .mean = buf_new(M, LCL_F32),
                        .rstd = buf_new(M, LCL_F32),
                        .db = buf_of(zeros, C, LCL_F32)};
    b.sum = b.x;
    ASSERT_OK(call(&k, LCL_F32, &b, false));
    ASSERT_OK(call(&k, LCL_F32, &b, true));
    fd_check("d_bias alone", loss, &k, k.b, C, b.db, LCL_F32, NULL, 3e-6);
    b.db = NULL;
    b.dw = buf_of(zeros, C, LCL_F32);
    ASSERT_OK(call(&k, LCL_F32, &b, true));
    fd_check("d_weight alone", loss, &k, k.w, C, b.dw, LCL_F32, NULL, 3e-6);
    buf_end();
}

static void test_bad_arguments(void **state)
{
    (void)state;
    float one[4] = {1, 1, 1, 1};
    struct norm k = {.M = 1, .C = 4};
    struct buffers b = {.x = one, .add = one, .y = one, .w = one, .b = one};
    ASSERT_FAILS(call(&k, LCL_F32, &b, false), LCL_SHAPE, "no buffer for the sum");
    ASSERT_FAILS(call(&k, LCL_U8, &b, false), LCL_SHAPE, "wanted f32 or bf16");
    k.C = 0;
    ASSERT_FAILS(call(&k, LCL_F32, &b, false), LCL_SHAPE, "width 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_no_addition),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_only_wanted_gradients),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
