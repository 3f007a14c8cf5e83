/* Dropout against its own definition by the host's Philox: which elements stay, what becomes of
 * them, and the gradient through the same mask. */
#include <math.h>

#include "core/rng.h"
#include "tests/support/fd.h"

static const size_t counts[] = {1, 31, 33, 257, 40001};
enum { N_COUNTS = sizeof counts / sizeof *counts };

/* 1 / (1 - p) where element i stays, else 0: one number of the stream each, in their order. */
static double *mask_of(const struct lcl_dropout_args *a)
{
    double *mask = dbl_new((size_t)a->count);
    struct lcl_rng rng = lcl_rng_stream(a->seed, LCL_RNG_DROPOUT, a->epoch, a->stream);
    for (int64_t i = 0; i < a->count; i++)
        mask[i] = (double)lcl_rng_u32(&rng) < floor(a->p * 4294967296.0) ? 0 : 1 / (1 - a->p);
    return mask;
}

static struct lcl_dropout_args args_of(size_t n, lcl_dtype dtype, double p)
{
    return (struct lcl_dropout_args){.count = (int64_t)n,
                                     .dtype = dtype,
                                     .p = p,
                                     .seed = 7,
                                     .epoch = 2,
                                     .stream = 0x123456789abcdefu + n};
}

static void test_forward_and_backward(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < N_COUNTS * 12; i++) {
        const size_t n = counts[i / 12];
        const lcl_dtype dtype = i % 2 ? LCL_BF16 : LCL_F32;
        const double p = (double[]){0, 0.1, 0.75}[i / 2 % 3];
        struct lcl_dropout_args a = args_of(n, dtype, p);
        double *mask = mask_of(&a), *x = dbl_normal(n, 1, 1), *d_y = dbl_normal(n, 1, 2);
        double *base = dbl_normal(n, 1, 3), *y = dbl_new(n), *d_x = dbl_new(n);
        a.accumulate_d_x = i / 6 % 2;
        a.x = buf_of(x, n, dtype);
        a.d_y = buf_of(d_y, n, dtype);
        a.y = buf_new(n, dtype);
        a.d_x = a.accumulate_d_x ? buf_of(base, n, dtype) : buf_new(n, dtype);
        for (size_t k = 0; k < n; k++) {
            y[k] = mask[k] * x[k];
            d_x[k] = mask[k] * d_y[k] + (a.accumulate_d_x ? base[k] : 0);
        }
        ASSERT_OK(ex->ops->dropout_fwd(ex, &a));
        ASSERT_OK(ex->ops->dropout_bwd(ex, &a));
        check_close("y", a.y, dtype, y, n, 2e-6);
        check_close("d_x", a.d_x, dtype, d_x, n, 2e-6);
        buf_end();
    }
}

struct dropped {
    size_t n;
    double *x, *d_y, *mask;
};

static double loss(void *ctx)
{
    const struct dropped *d = ctx;
    double sum = 0;
    for (size_t i = 0; i < d->n; i++) sum += d->d_y[i] * d->mask[i] * d->x[i];
    return sum;
}

static void test_finite_differences(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int i = 0; i < 4; i++) {
        const lcl_dtype dtype = i % 2 ? LCL_BF16 : LCL_F32;
        const size_t n = i < 2 ? 33 : 257;
        struct lcl_dropout_args a = args_of(n, dtype, 0.4);
        struct dropped d = {n, dbl_normal(n, 1, 4), dbl_normal(n, 1, 5), mask_of(&a)};
        a.x = buf_of(d.x, n, dtype);
        a.d_y = buf_of(d.d_y, n, dtype);
        a.d_x = buf_new(n, dtype);
        ASSERT_OK(ex->ops->dropout_bwd(ex, &a));
        fd_check("d_x", loss, &d, d.x, n, a.d_x, dtype, NULL, 1e-5);
        buf_end();
    }
}

/* Tensors that begin anywhere; in place. */
static void test_unaligned_and_in_place(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (size_t shift = 1; shift < 4; shift++) {
        struct lcl_dropout_args a = args_of(1000 - shift, LCL_F32, 0.5);
        double *x = dbl_normal(1000, 1, 6), *mask = mask_of(&a);
        float *buf = buf_of(x, 1000, LCL_F32);
        a.x = a.y = buf + shift;
        ASSERT_OK(ex->ops->dropout_fwd(ex, &a));
        for (size_t k = shift; k < 1000; k++) x[k] *= mask[k - shift];
        check_close("y", buf, LCL_F32, x, 1000, 2e-6);
        buf_end();
    }
}

static void test_bad(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    struct lcl_dropout_args a = args_of(0, LCL_F32, 0.5);
    ASSERT_OK(ex->ops->dropout_fwd(ex, &a));
    ASSERT_OK(ex->ops->dropout_bwd(ex, &a));
    a.p = 1;
    ASSERT_FAILS(ex->ops->dropout_fwd(ex, &a), LCL_SHAPE, "p of 1");
    a.p = NAN;
    ASSERT_FAILS(ex->ops->dropout_bwd(ex, &a), LCL_SHAPE, "p of");
    a = args_of(1, LCL_F32, 0.5);
    a.count = -1;
    ASSERT_FAILS(ex->ops->dropout_fwd(ex, &a), LCL_SHAPE, "-1 elements");
    a = args_of(1, LCL_F16, 0.5);
    ASSERT_FAILS(ex->ops->dropout_fwd(ex, &a), LCL_SHAPE, "f16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_backward),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_unaligned_and_in_place),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
