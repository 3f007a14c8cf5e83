#include "tests/support/fd.h"

/* Rows land where they are sent, packed from strided rows; others keep what they had; a row outside
 * is an error. */
static void rows_land(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    enum { T = 5, WIDTH = 6, STRIDE = 20, ROWS = 9 };
    float *src = buf_new(T * STRIDE, LCL_F32);
    float *k = buf_new(ROWS * WIDTH, LCL_F32), *v = buf_new(ROWS * WIDTH, LCL_F32);
    int32_t row[T] = {7, 0, 3, 8, 2};
    for (int i = 0; i < T * STRIDE; i++) src[i] = (float)i;
    for (int i = 0; i < ROWS * WIDTH; i++) k[i] = v[i] = -1;
    struct lcl_kv_store_args a = {.T = T,
                                  .width = WIDTH,
                                  .src_stride = STRIDE,
                                  .rows = ROWS,
                                  .dtype = LCL_F32,
                                  .row_T = row,
                                  .k = src + 2,
                                  .v = src + 10,
                                  .k_cache = k,
                                  .v_cache = v};
    ASSERT_OK(ex->ops->kv_store_fwd(ex, &a));
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++) {
            float want_k = -1, want_v = -1;
            for (int t = 0; t < T; t++)
                if (row[t] == r) {
                    want_k = (float)(t * STRIDE + 2 + i);
                    want_v = (float)(t * STRIDE + 10 + i);
                }
            assert_true(k[r * WIDTH + i] == want_k && v[r * WIDTH + i] == want_v);
        }
    row[4] = ROWS;
    ASSERT_FAILS(ex->ops->kv_store_fwd(ex, &a), LCL_RANGE, "cache row 9");
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_land)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
