/* linear and the GEMM under it against double references; every way of multiplying that this
 * machine can run. */
#include <math.h>

#include "core/threads.h"
#include "tests/support/fd.h"

struct problem {
    int64_t M, N, K;
    double *x, *w, *bias, *d_y, *y; /* y: what accumulate_y adds to */
};

static struct problem problem_new(int64_t M, int64_t N, int64_t K, uint64_t sample)
{
    return (struct problem){M,
                            N,
                            K,
                            dbl_normal((size_t)(M * K), 1, sample),
                            dbl_normal((size_t)(N * K), 0.3, sample + 1),
                            dbl_normal((size_t)N, 1, sample + 2),
                            dbl_normal((size_t)(M * N), 1, sample + 3),
                            dbl_normal((size_t)(M * N), 1, sample + 4)};
}

static double *want_y(const struct problem *p, bool bias, bool accumulate)
{
    double *y = dbl_new((size_t)(p->M * p->N));
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < p->N; j++) {
            double s = (bias ? p->bias[j] : 0) + (accumulate ? p->y[i * p->N + j] : 0);
            for (int64_t k = 0; k < p->K; k++) s += p->x[i * p->K + k] * p->w[j * p->K + k];
            y[i * p->N + j] = s;
        }
    return y;
}

/* sum(d_y * y), for the finite differences */
static double loss(void *ctx)
{
    const struct problem *p = ctx;
    double sum = 0;
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < p->N; j++) {
            double s = p->bias[j];
            for (int64_t k = 0; k < p->K; k++) s += p->x[i * p->K + k] * p->w[j * p->K + k];
            sum += p->d_y[i * p->N + j] * s;
        }
    return sum;
}

static struct lcl_linear_args args_of(struct problem *p, lcl_dtype dtype, lcl_dtype weight_dtype)
{
    size_t M = (size_t)p->M, N = (size_t)p->N, K = (size_t)p->K;
    return (struct lcl_linear_args){.M = p->M,
                                    .N = p->N,
                                    .K = p->K,
                                    .dtype = dtype,
                                    .weight_dtype = weight_dtype,
                                    .x_MK = buf_of(p->x, M * K, dtype),
                                    .weight_NK = buf_of(p->w, N * K, weight_dtype),
                                    .bias_N = buf_of(p->bias, N, LCL_F32),
                                    .y_MN = buf_new(M * N, dtype),
                                    .d_y_MN = buf_of(p->d_y, M * N, dtype),
                                    .d_x_MK = buf_new(M * K, dtype),
                                    .d_weight_NK = buf_new(N * K, LCL_F32),
                                    .d_bias_N = buf_new(N, LCL_F32)};
}

static const int64_t sizes[][3] = {{1, 1, 1},     {31, 33, 20},    {33, 31, 257},  {257, 4, 31},
                                   {1, 257, 33},  {2, 33, 257},    {3, 31, 31},    {8, 257, 33},
                                   {100, 96, 96}, {197, 129, 300}, {520, 200, 144}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void test_forward(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < N_SIZES * 4; i++) {
        const int64_t *s = sizes[i / 4];
        bool accumulate = i & 1, bias = i & 2;
        struct problem p = problem_new(s[0], s[1], s[2], 7);
        struct lcl_linear_args a = args_of(&p, LCL_F32, LCL_F32);
        if (accumulate) a.y_MN = buf_of(p.y, (size_t)(p.M * p.N), LCL_F32);
        a.accumulate_y = accumulate;
        if (!bias) a.bias_N = NULL;
        ASSERT_OK(ex->ops->linear_fwd(ex, &a));
        check_close("y", a.y_MN, LCL_F32, want_y(&p, bias, accumulate), (size_t)(p.M * p.N), 2e-6);
        buf_end();
    }
}

/* Any mixture of dtypes is one rounding away from the exact product of the rounded inputs. */
static void test_forward_bf16(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < N_SIZES * 4; i++) {
        const int64_t *s = sizes[i / 4];
        lcl_dtype dtype = i & 1 ? LCL_BF16 : LCL_F32,
                  weight = dtype == LCL_F32 || i & 2 ? LCL_BF16 : LCL_F32;
        struct problem p = problem_new(s[0], s[1], s[2], 9);
        struct lcl_linear_args a = args_of(&p, dtype, weight);
        a.accumulate_y = i & 2;
        if (a.accumulate_y) a.y_MN = buf_of(p.y, (size_t)(p.M * p.N), dtype);
        ASSERT_OK(ex->ops->linear_fwd(ex, &a));
        check_close("y", a.y_MN, dtype, want_y(&p, true, a.accumulate_y), (size_t)(p.M * p.N),
                    4e-6);
        buf_end();
    }
}

static void test_backward_finite_differences(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < 6; i++) {
        static const int64_t small[3][3] = {{1, 31, 33}, {33, 20, 31}, {65, 7, 12}};
        lcl_dtype dtype = i < 3 ? LCL_F32 : LCL_BF16;
        struct problem p = problem_new(small[i % 3][0], small[i % 3][1], small[i % 3][2], 11);
        struct lcl_linear_args a = args_of(&p, dtype, dtype);
        size_t M = (size_t)p.M, N = (size_t)p.N, K = (size_t)p.K;
        double *base_x = dbl_normal(M * K, 1, 1), *base_w = dbl_normal(N * K, 1, 2),
               *base_b = dbl_normal(N, 1, 3);
        a.accumulate_d_x = i % 2;
        if (a.accumulate_d_x) a.d_x_MK = buf_of(base_x, M * K, dtype);
        a.d_weight_NK = buf_of(base_w, N * K, LCL_F32);
        a.d_bias_N = buf_of(base_b, N, LCL_F32);
        ASSERT_OK(ex->ops->linear_bwd(ex, &a));
        fd_check("d_x", loss, &p, p.x, M * K, a.d_x_MK, dtype, a.accumulate_d_x ? base_x : NULL,
                 dtype ? 1e-2 : 1e-5);
        fd_check("d_weight", loss, &p, p.w, N * K, a.d_weight_NK, LCL_F32, base_w, 1e-5);
        fd_check("d_bias", loss, &p, p.bias, N, a.d_bias_N, LCL_F32, base_b, 1e-5);
        buf_end();
    }
}

static void check_backward(struct problem *p, lcl_dtype dtype)
{
    struct lcl_exec *ex = test_exec();
    struct lcl_linear_args a = args_of(p, dtype, dtype);
    double *d_w = dbl_new((size_t)(p->N * p->K)), *d_b = dbl_new((size_t)p->N);
    a.d_weight_NK = buf_of(d_w, (size_t)(p->N * p->K), LCL_F32); /* zeros at first */
    a.d_bias_N = buf_of(d_b, (size_t)p->N, LCL_F32);
    ASSERT_OK(ex->ops->linear_bwd(ex, &a));
    double *d_x = dbl_new((size_t)(p->M * p->K));
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = 0; n < p->N; n++) {
            double d = p->d_y[m * p->N + n];
            d_b[n] += d;
            for (int64_t k = 0; k < p->K; k++) {
                d_x[m * p->K + k] += d * p->w[n * p->K + k];
                d_w[n * p->K + k] += d * p->x[m * p->K + k];
            }
        }
    check_close("d_x", a.d_x_MK, dtype, d_x, (size_t)(p->M * p->K), 4e-6);
    check_close("d_weight", a.d_weight_NK, LCL_F32, d_w, (size_t)(p->N * p->K), 4e-6);
    check_close("d_bias", a.d_bias_N, LCL_F32, d_b, (size_t)p->N, 4e-6);
}

/* Shapes that are cut in tiles, depth blocks and, for a row of 1024 outputs, multiplied by the
 * other product. */
static void test_backward_large(void **state)
{
    (void)state;
    static const int64_t large[][3] = {{300, 200, 97}, {530, 100, 33}, {70, 1024, 40}};
    for (int i = 0; i < 6; i++) {
        struct problem p = problem_new(large[i % 3][0], large[i % 3][1], large[i % 3][2], 13);
        check_backward(&p, i < 3 ? LCL_F32 : LCL_BF16);
        buf_end();
    }
}

/* Shapes that the own product cuts in passes of depth (M or K of 5000), of columns, and, for a bf16
 * y, in columns and rows of sums; the last one is its own in f32 too. */
static void test_passes(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    static const int64_t shape[][3] = {{9, 400, 5000}, {5000, 9, 400},  {9, 1500, 760},
                                       {6000, 776, 3}, {12000, 400, 2}, {390, 401, 385}};
    for (int i = 0; i < 6; i++) {
        lcl_dtype dtype = i < 5 ? LCL_BF16 : LCL_F32;
        struct problem p = problem_new(shape[i][0], shape[i][1], shape[i][2], 19);
        struct lcl_linear_args a = args_of(&p, dtype, dtype);
        ASSERT_OK(ex->ops->linear_fwd(ex, &a));
        check_close("y", a.y_MN, dtype, want_y(&p, true, false), (size_t)(p.M * p.N), 4e-6);
        check_backward(&p, dtype);
        buf_end();
    }
}

/* y and d_y as columns of rows of `stride`, the products scaled: a change of W by a product of two
 * narrow ones (model/lora.c). What lies beside the columns stays as it is. */
static void check_columns(int64_t M, int64_t N, int64_t K, int64_t stride, lcl_dtype dtype)
{
    struct lcl_exec *ex = test_exec();
    const int64_t first = 3 < stride - N ? 3 : 0;
    const double scale = 0.75;
    struct problem p = problem_new(M, N, K, 23);
    struct lcl_linear_args a = args_of(&p, dtype, dtype);
    double *rows = dbl_normal((size_t)(M * stride), 1, 29), *want = dbl_new((size_t)(M * stride));
    double *d_w = dbl_new((size_t)(N * K)), *d_x = dbl_new((size_t)(M * K));
    void *y = buf_of(rows, (size_t)(M * stride), dtype);
    memcpy(want, rows, (size_t)(M * stride) * sizeof *want);
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++)
            for (int64_t k = 0; k < K; k++) {
                double d = scale * rows[m * stride + first + n];
                want[m * stride + first + n] += scale * p.x[m * K + k] * p.w[n * K + k];
                d_x[m * K + k] += d * p.w[n * K + k];
                d_w[n * K + k] += d * p.x[m * K + k];
            }
    a.y_stride = stride;
    a.scale = (float)scale;
    a.bias_N = a.d_bias_N = NULL;
    a.d_weight_NK = buf_of(dbl_new((size_t)(N * K)), (size_t)(N * K), LCL_F32);
    a.y_MN = (char *)y + (size_t)first * lcl_dtype_bytes(dtype);
    a.d_y_MN = a.y_MN;
    a.accumulate_y = true;
    ASSERT_OK(ex->ops->linear_bwd(ex, &a)); /* of d_y, before y takes its place */
    ASSERT_OK(ex->ops->linear_fwd(ex, &a));
    check_close("y", y, dtype, want, (size_t)(M * stride), 4e-6);
    check_close("d_x", a.d_x_MK, dtype, d_x, (size_t)(M * K), 4e-6);
    check_close("d_weight", a.d_weight_NK, LCL_F32, d_w, (size_t)(N * K), 4e-6);
    a.bias_N = (const float *)a.x_MK;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "with a bias");
    a.y_stride = -1;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "columns of rows");
    buf_end();
}

static void test_columns_of_wider_rows(void **state)
{
    (void)state;
    static const int64_t shape[][4] = {
        {1, 1, 1, 2}, {31, 33, 4, 97}, {33, 31, 257, 40}, {257, 64, 8, 192}, {300, 128, 16, 400}};
    for (int i = 0; i < 10; i++) {
        const int64_t *s = shape[i / 2];
        check_columns(s[0], s[1], s[2], s[3], i % 2 ? LCL_BF16 : LCL_F32);
    }
}

struct inside {
    struct lcl_exec *ex;
    const struct lcl_linear_args *args;
};

static lcl_status run_inside(void *ctx, int64_t chunk)
{
    (void)chunk;
    struct inside *i = ctx;
    LCL_TRY(i->ex->ops->linear_fwd(i->ex, i->args));
    return i->ex->ops->linear_bwd(i->ex, i->args);
}

static void test_same_bits_for_any_threads(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < 4; i++) {
        lcl_dtype dtype = i & 1 ? LCL_BF16 : LCL_F32;
        struct problem p = problem_new(i & 2 ? 5 : 700, 388, 400, 17);
        struct lcl_linear_args a[3];
        for (int t = 0; t < 3; t++) {
            a[t] = args_of(&p, dtype, dtype);
            double *zero = dbl_new((size_t)(p.N * p.K));
            a[t].d_weight_NK = buf_of(zero, (size_t)(p.N * p.K), LCL_F32);
            a[t].d_bias_N = buf_of(zero, (size_t)p.N, LCL_F32);
            restart_threads(t + 1);
            struct inside in = {ex, &a[t]};
            if (t == 2) /* as a lane does: one thread, inside the pool */
                ASSERT_OK(lcl_parallel(1, run_inside, &in));
            else
                ASSERT_OK(run_inside(&in, 0));
        }
        for (int t = 1; t < 3; t++) {
            size_t bytes = lcl_dtype_bytes(dtype);
            assert_memory_equal(a[0].y_MN, a[t].y_MN, (size_t)(p.M * p.N) * bytes);
            assert_memory_equal(a[0].d_x_MK, a[t].d_x_MK, (size_t)(p.M * p.K) * bytes);
            assert_memory_equal(a[0].d_weight_NK, a[t].d_weight_NK, (size_t)(p.N * p.K) * 4);
            assert_memory_equal(a[0].d_bias_N, a[t].d_bias_N, (size_t)p.N * 4);
        }
        buf_end();
    }
    restart_threads(0);
}

static void test_empty_and_bad(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float *x = buf_of((double[8]){1, 2, 3, 4}, 8, LCL_F32),
          *w = buf_of((double[8]){1, 1, 1, 1}, 8, LCL_F32),
          *y = buf_of((double[4]){9, 9, 9, 9}, 4, LCL_F32),
          *bias = buf_of((double[2]){5, 6}, 2, LCL_F32), *d = buf_of((double[8]){0}, 8, LCL_F32);
    struct lcl_linear_args a = {.M = 0,
                                .N = 2,
                                .K = 2,
                                .x_MK = x,
                                .weight_NK = w,
                                .y_MN = y,
                                .d_y_MN = y,
                                .d_x_MK = d,
                                .d_weight_NK = d};
    ASSERT_OK(ex->ops->linear_fwd(ex, &a));
    ASSERT_OK(ex->ops->linear_bwd(ex, &a));
    assert_true(y[0] == 9 && d[0] == 0);
    a.M = 2;
    a.K = 0;
    a.bias_N = bias;
    ASSERT_OK(ex->ops->linear_fwd(ex, &a));
    assert_true(y[0] == 5 && y[1] == 6 && y[2] == 5 && y[3] == 6);
    a.K = -1;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "K -1");
    a.K = 2;
    a.dtype = LCL_F16;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "f16");
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_bf16),
        cmocka_unit_test(test_backward_finite_differences),
        cmocka_unit_test(test_backward_large),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_columns_of_wider_rows),
        cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_empty_and_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
