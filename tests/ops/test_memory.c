/* Zeroing, and what goes between the host's memory and the backend's. */
#include <math.h>

#include "tests/support/fd.h"

static const size_t sizes[] = {0, 1, 31, 33, 257, 70001};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static void test_zero(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = sizes[s];
        float *x = buf_of(dbl_normal(n + 2, 1, 1), n + 2, LCL_F32);
        float first = x[0], last = x[n + 1];
        struct lcl_zero_args a = {(int64_t)(n * sizeof *x), x + 1};
        ASSERT_OK(ex->ops->zero_fwd(ex, &a));
        ASSERT_OK(lcl_exec_sync(ex));
        for (size_t i = 0; i < n; i++) assert_true(x[i + 1] == 0 && !signbit(x[i + 1]));
        assert_true(x[0] == first && x[n + 1] == last);
        buf_end();
    }
    struct lcl_zero_args bad = {-1, NULL};
    ASSERT_FAILS(ex->ops->zero_fwd(ex, &bad), LCL_SHAPE, "zero: -1");
}

/* There and back: what arrives is x rounded to the tensor's dtype, and the host's copy may change
 * at once. */
static void test_there_and_back(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < N_SIZES; s++) {
            size_t n = sizes[s];
            double *x = dbl_normal(n, 1, 2);
            float *host = malloc((n + 1) * sizeof *host), *back = malloc((n + 1) * sizeof *back);
            assert_true(host && back);
            for (size_t i = 0; i < n; i++) host[i] = (float)x[i];
            void *y = buf_new(n, dtypes[t]);
            struct lcl_upload_args up = {(int64_t)n, dtypes[t], host, y};
            ASSERT_OK(ex->ops->upload_fwd(ex, &up));
            for (size_t i = 0; i < n; i++) host[i] = 0;
            struct lcl_download_args down = {(int64_t)n, dtypes[t], y, back};
            ASSERT_OK(ex->ops->download_fwd(ex, &down));
            for (size_t i = 0; i < n; i++) {
                float want = t ? (float)dbl_bf16(x[i]) : (float)x[i];
                if (back[i] != want)
                    fail_msg("element %zu of %zu is %g, wanted %g", i, n, (double)back[i],
                             (double)want);
            }
            free(host);
            free(back);
            buf_end();
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
