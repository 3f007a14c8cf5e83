/* linear with weights in blocks (core/blocks.h) against double references on the decoded weights:
 * few rows of x and many, panels of either side, both kinds of blocks. */
#include <math.h>

#include "tests/support/fd.h"

struct problem {
    int64_t M, N, K;
    lcl_dtype blocks;
    double *x, *w, *bias, *d_y, *y, *d_x; /* y, d_x: what is added to */
    uint8_t *code;
    lcl_f16 *scale;
};

/* Bytes between guards. */
static void *bytes_of(const void *x, size_t n)
{
    void *copy = buf_new((n + 1) / 2, LCL_BF16);
    memcpy(copy, x, n);
    return copy;
}

/* w becomes what the codes stand for where activations are of `dtype`. */
static struct problem problem_new(const int64_t size[3], lcl_dtype blocks, lcl_dtype dtype)
{
    struct problem p = {.M = size[0], .N = size[1], .K = size[2], .blocks = blocks};
    const size_t M = (size_t)p.M, N = (size_t)p.N, K = (size_t)p.K, n = N * K;
    p.x = dbl_normal(M * K, 1, 3);
    p.w = dbl_normal(n, 0.3, 4);
    p.bias = dbl_normal(N, 1, 5);
    p.d_y = dbl_normal(M * N, 1, 6);
    p.y = dbl_normal(M * N, 1, 7);
    p.d_x = dbl_normal(M * K, 1, 8);
    float *f = calloc(n + 1, sizeof *f);
    uint8_t *code = calloc(n + 1, 1);
    lcl_f16 *scale = calloc(n / LCL_BLOCK + 1, sizeof *scale);
    assert_true(f && code && scale);
    for (size_t i = 0; i < n; i++) f[i] = (float)p.w[i];
    if (n) f[n - 1] = 1000; /* a block of its own step */
    lcl_blocks_encode(blocks, f, n, code, scale);
    lcl_blocks_decode(blocks, code, scale, n, f);
    for (size_t i = 0; i < n; i++)
        p.w[i] = dtype == LCL_F32 ? (double)f[i] : dbl_bf16((double)f[i]);
    p.code = bytes_of(code, lcl_code_bytes(blocks, n));
    p.scale = bytes_of(scale, n / LCL_BLOCK * sizeof *scale);
    free(f);
    free(code);
    free(scale);
    return p;
}

static struct lcl_linear_args args_of(struct problem *p, lcl_dtype dtype, bool accumulate)
{
    const size_t M = (size_t)p->M, N = (size_t)p->N, K = (size_t)p->K;
    return (struct lcl_linear_args){
        .M = p->M,
        .N = p->N,
        .K = p->K,
        .scale = 0.75f,
        .dtype = dtype,
        .weight_dtype = p->blocks,
        .x_MK = buf_of(p->x, M * K, dtype),
        .weight_NK = p->code,
        .weight_scale_NB = p->scale,
        .bias_N = buf_of(p->bias, N, LCL_F32),
        .y_MN = accumulate ? buf_of(p->y, M * N, dtype) : buf_new(M * N, dtype),
        .accumulate_y = accumulate,
        .d_y_MN = buf_of(p->d_y, M * N, dtype),
        .d_x_MK = accumulate ? buf_of(p->d_x, M * K, dtype) : buf_new(M * K, dtype),
        .accumulate_d_x = accumulate};
}

static double y_at(const struct problem *p, int64_t m, int64_t n)
{
    double s = 0;
    for (int64_t k = 0; k < p->K; k++) s += p->x[m * p->K + k] * p->w[n * p->K + k];
    return 0.75 * s + p->bias[n];
}

static void check(const int64_t size[3], lcl_dtype blocks, lcl_dtype dtype, bool accumulate,
                  bool bias)
{
    struct lcl_exec *ex = test_exec();
    struct problem p = problem_new(size, blocks, dtype);
    struct lcl_linear_args a = args_of(&p, dtype, accumulate);
    if (!bias) {
        a.bias_N = NULL;
        memset(p.bias, 0, (size_t)p.N * sizeof *p.bias);
    }
    double *y = dbl_new((size_t)(p.M * p.N)), *d_x = dbl_new((size_t)(p.M * p.K));
    for (int64_t m = 0; m < p.M; m++)
        for (int64_t n = 0; n < p.N; n++) {
            const double d = 0.75 * p.d_y[m * p.N + n];
            y[m * p.N + n] = y_at(&p, m, n) + (accumulate ? p.y[m * p.N + n] : 0);
            for (int64_t k = 0; k < p.K; k++) d_x[m * p.K + k] += d * p.w[n * p.K + k];
        }
    for (int64_t i = 0; accumulate && i < p.M * p.K; i++) d_x[i] += p.d_x[i];
    ASSERT_OK(ex->ops->linear_fwd(ex, &a));
    ASSERT_OK(ex->ops->linear_bwd(ex, &a));
    check_close("y", a.y_MN, dtype, y, (size_t)(p.M * p.N), 4e-6);
    check_close("d_x", a.d_x_MK, dtype, d_x, (size_t)(p.M * p.K), 4e-6);
    buf_end();
}

static void test_both_halves(void **state)
{
    (void)state;
    static const int64_t size[][3] = {{1, 1, 32},    {1, 257, 96},  {3, 33, 256},  {8, 31, 1088},
                                      {9, 31, 32},   {31, 33, 64},  {33, 31, 288}, {257, 4, 32},
                                      {33, 257, 96}, {100, 96, 160}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int kind = 0; kind < 8; kind++)
            check(size[i], kind & 1 ? LCL_Q4_0 : LCL_Q8_0, kind & 2 ? LCL_BF16 : LCL_F32, kind & 4,
                  true);
}

/* Weights of several panels, forward (N cut) and backward (K cut). */
static void test_panels(void **state)
{
    (void)state;
    check((int64_t[]){11, 900, 4096}, LCL_Q4_0, LCL_F32, false, true);
    check((int64_t[]){9, 4100, 800}, LCL_Q8_0, LCL_BF16, true, true);
    check((int64_t[]){1, 32768, 288}, LCL_Q8_0, LCL_F32, false, true); /* panels of a GPU */
    check((int64_t[]){1, 288, 32768}, LCL_Q4_0, LCL_F32, false, false);
}

/* sum(d_y * y) */
static double loss(void *ctx)
{
    const struct problem *p = ctx;
    double sum = 0;
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = 0; n < p->N; n++) sum += p->d_y[m * p->N + n] * y_at(p, m, n);
    return sum;
}

static void test_finite_differences(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    static const int64_t size[][3] = {{1, 31, 64}, {33, 20, 32}, {65, 7, 96}};
    for (int i = 0; i < 12; i++) {
        lcl_dtype dtype = i % 2 ? LCL_BF16 : LCL_F32;
        struct problem p = problem_new(size[i / 4], i / 2 % 2 ? LCL_Q4_0 : LCL_Q8_0, dtype);
        struct lcl_linear_args a = args_of(&p, dtype, false);
        double *base = dbl_normal((size_t)p.N, 1, 9);
        a.d_bias_N = buf_of(base, (size_t)p.N, LCL_F32);
        ASSERT_OK(ex->ops->linear_bwd(ex, &a));
        fd_check("d_x", loss, &p, p.x, (size_t)(p.M * p.K), a.d_x_MK, dtype, NULL,
                 dtype ? 1e-2 : 1e-5);
        fd_check("d_bias", loss, &p, p.bias, (size_t)p.N, a.d_bias_N, LCL_F32, base, 1e-5);
        buf_end();
    }
}

static void test_empty_and_bad(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    struct problem p = problem_new((int64_t[]){2, 3, 32}, LCL_Q8_0, LCL_F32);
    struct lcl_linear_args a = args_of(&p, LCL_F32, true);
    a.M = 0;
    ASSERT_OK(ex->ops->linear_fwd(ex, &a));
    ASSERT_OK(ex->ops->linear_bwd(ex, &a));
    a.M = 2;
    a.K = 31;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "K 31");
    a.K = 32;
    a.d_weight_NK = (float *)a.d_x_MK;
    ASSERT_FAILS(ex->ops->linear_bwd(ex, &a), LCL_SHAPE, "is frozen");
    a.d_weight_NK = NULL;
    a.weight_NK = p.code + 1;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "wanted a multiple of 32, of 16");
    a.weight_NK = p.code;
    a.weight_scale_NB = NULL;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "and scales");
    a.weight_scale_NB = p.scale;
    a.bias_N = NULL;
    a.y_stride = 5;
    ASSERT_FAILS(ex->ops->linear_fwd(ex, &a), LCL_SHAPE, "columns of rows");
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_halves),
        cmocka_unit_test(test_panels),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_empty_and_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
