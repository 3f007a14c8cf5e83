#include "tests/support/fd.h"

enum { T = 5, ROWS = 9 };

static void check_rows(int width, lcl_dtype dtype)
{
    struct lcl_exec *ex = test_exec();
    const int stride = 3 * width, second = 2 * width;
    const size_t n = (size_t)(T * stride), cached = (size_t)(ROWS * width);
    double *src = dbl_new(n), *want_k = dbl_new(cached), *want_v = dbl_new(cached);
    int32_t *row = buf_i32((int32_t[T]){7, 0, 3, 8, 2}, T);
    for (size_t i = 0; i < n; i++) src[i] = (double)(i % 251); /* exact in bf16 */
    for (size_t i = 0; i < cached; i++) want_k[i] = want_v[i] = -1;
    unsigned char *x = buf_of(src, n, dtype);
    struct lcl_kv_store_args a = {.T = T,
                                  .width = width,
                                  .src_stride = stride,
                                  .rows = ROWS,
                                  .dtype = dtype,
                                  .row_T = row,
                                  .k = x,
                                  .v = x + (size_t)second * lcl_dtype_bytes(dtype),
                                  .k_cache = buf_of(want_k, cached, dtype),
                                  .v_cache = buf_of(want_v, cached, dtype)};
    ASSERT_OK(ex->ops->kv_store_fwd(ex, &a));
    for (int t = 0; t < T; t++)
        for (int i = 0; i < width; i++) {
            want_k[row[t] * width + i] = src[t * stride + i];
            want_v[row[t] * width + i] = src[t * stride + second + i];
        }
    check_close("keys", a.k_cache, dtype, want_k, cached, 0);
    check_close("values", a.v_cache, dtype, want_v, cached, 0);
    row[4] = ROWS;
    ASSERT_FAILS(ex->ops->kv_store_fwd(ex, &a), LCL_RANGE, "cache row 9");
    buf_end();
}

/* Rows land where they are sent, packed from strided rows; others keep what they had; a row outside
 * is an error. */
static void rows_land(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const lcl_dtype dtype = t ? LCL_BF16 : LCL_F32;
        check_rows(1, dtype);
        check_rows(6, dtype);
        check_rows(8, dtype);
        check_rows(2056, dtype);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_land)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
