/* Rotary embeddings against a double reference. Legend: T tokens, H heads, D head width. */
#include <math.h>

#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};

struct rotary {
    int64_t T, H, D, stride;
    double scale, *x, *dy;
    const float *inv_freq;
    const int32_t *position;
};

/* The angle is rounded to f32 first, as transformers does. */
static void reference(const struct rotary *r, const double *x, double *y)
{
    memcpy(y, x, (size_t)(r->T * r->stride) * sizeof *y);
    for (int64_t t = 0; t < r->T; t++)
        for (int64_t h = 0; h < r->H; h++)
            for (int64_t i = 0; i < r->D / 2; i++) {
                int64_t at = t * r->stride + h * r->D + i, half = r->D / 2;
                double angle = (double)((float)r->position[t] * r->inv_freq[i]);
                y[at] = (x[at] * cos(angle) - x[at + half] * sin(angle)) * r->scale;
                y[at + half] = (x[at + half] * cos(angle) + x[at] * sin(angle)) * r->scale;
            }
}

static double loss(void *ctx)
{
    const struct rotary *r = ctx;
    size_t n = (size_t)(r->T * r->stride);
    double *y = malloc(n * sizeof *y), sum = 0;
    reference(r, r->x, y);
    for (size_t i = 0; i < n; i++) sum += r->dy[i] * y[i];
    free(y);
    return sum;
}

static void check_case(int64_t T, int64_t H, int64_t D, int64_t gap, double scale, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    int64_t stride = H * D + gap;
    size_t n = (size_t)(T * stride);
    float *inv_freq = buf_new((size_t)D / 2, LCL_F32);
    for (int64_t i = 0; i < D / 2; i++) inv_freq[i] = (float)pow(10000, -2 * (double)i / (double)D);
    int32_t *position = buf_i32((int32_t[512]){0}, (size_t)T);
    for (int64_t i = 0; i < T; i++) position[i] = (int32_t)(i * 37 % 9001);
    struct rotary r = {
        T, H, D, stride, scale, dbl_normal(n, 1, 1), dbl_normal(n, 1, 2), inv_freq, position};
    struct lcl_rotary_args a = {.T = T,
                                .n_heads = H,
                                .D = D,
                                .row_stride = stride,
                                .dtype = t,
                                .x = buf_of(r.x, n, t),
                                .position_T = position,
                                .inv_freq = inv_freq,
                                .scale = (float)scale};
    double *y = dbl_new(n);
    ASSERT_OK(ex->ops->rotary_fwd(ex, &a));
    reference(&r, r.x, y); /* with the gap between rows as it was */
    check_close("y", a.x, t, y, n, 5e-7);

    a.x = buf_of(r.dy, n, t);
    ASSERT_OK(ex->ops->rotary_bwd(ex, &a));
    fd_check("d_x", loss, &r, r.x, n, a.x, t, NULL, 1e-6);
    buf_end();
}

static void test_rotation(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_case(1, 1, 2, 0, 1, dtypes[t]);
        check_case(31, 3, 8, 5, 1, dtypes[t]);
        check_case(33, 2, 64, 64, 1.25, dtypes[t]);
        check_case(257, 1, 66, 0, 1, dtypes[t]);
        check_case(3, 20, 128, 128, 1, dtypes[t]);
        check_case(2, 1, 128, 0, 1, dtypes[t]); /* more angles than a GPU's threads */
    }
}

static void test_bad_arguments(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    struct lcl_rotary_args a = {.T = 1, .n_heads = 2, .D = 7, .row_stride = 14, .scale = 1};
    ASSERT_FAILS(ex->ops->rotary_fwd(ex, &a), LCL_SHAPE, "must be even");
    a.D = 8;
    ASSERT_FAILS(ex->ops->rotary_bwd(ex, &a), LCL_SHAPE, "need 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
