/* The intrinsics of sm_90a against plain computations: in the emulator, and on a GPU that has them.
 * All numbers are small and whole, so that sums are exact. */
#include "core/dtype.h"
#include "tests/cuda/hopper.h"
#include "tests/support/support.h"

static const char *const schedules[] = {"forward", "reverse", "random:3"};

/* Runs `call` under each schedule of the emulator, without its watch, and so on a GPU. */
#define EVERY_WAY(call)                                     \
    for (int way_ = 0; way_ < 4; way_++) {                  \
        if (way_ < 3)                                       \
            setenv("LCL_SIM_SCHEDULE", schedules[way_], 1); \
        else                                                \
            setenv("LCL_SIM_CHECK", "0", 1);                \
        ASSERT_OK(call);                                    \
        unsetenv("LCL_SIM_SCHEDULE");                       \
        unsetenv("LCL_SIM_CHECK");                          \
    }

/* Whether this backend has a Hopper, so that the test has something to say. */
static bool hopper(void) { return test_backend_wgmma(true) && test_backend_wgmma(false); }

static void *buffer(size_t bytes)
{
    void *p = test_backend_alloc(0, bytes);
    assert_non_null(p);
    memset(p, 0xFF, bytes);
    return p;
}

static lcl_bf16 whole(int i, int range)
{
    return lcl_f32_to_bf16((float)((i * 37 + i / 11 + 5) % (2 * range + 1) - range));
}

/* What a box has at (row, column): zero where the tensor ends. */
static lcl_bf16 element(const struct hopper_tensor *t, int x, int head, int row)
{
    if (x < 0 || x >= t->D || head < 0 || head >= t->heads || row < 0 || row >= t->rows) return 0;
    return ((const lcl_bf16 *)t->x)[row * t->stride + head * t->D + x];
}

static void check_box(const struct hopper_tensor *t, int panel, int x, int head, int row,
                      lcl_bf16 *out)
{
    EVERY_WAY(hopper_box(test_exec(), t, panel, x, head, row, out));
    const int pieces = panel / 8; /* of 16 bytes, a row */
    for (int r = 0; r < HOPPER_BOX_ROWS; r++)
        for (int c = 0; c < panel; c++) {
            /* the piece's number, xor that of its group of 128 bytes among eight */
            const int moved = c / 8 ^ (r * pieces / 8) % pieces;
            const lcl_bf16 got = out[r * panel + moved * 8 + c % 8];
            if (got != element(t, x + c, head, row + r))
                fail_msg("panel %d at %d, %d, %d: row %d, column %d is %#x", panel, x, head, row, r,
                         c, got);
        }
}

static void test_boxes(void **state)
{
    (void)state;
    if (!hopper()) skip();
    struct hopper_tensor t = {.D = 72, .heads = 3, .rows = 40, .stride = 3 * 72 + 8};
    lcl_bf16 *x = buffer((size_t)(t.rows * t.stride) * 2), *out = buffer(HOPPER_BOX_ROWS * 128);
    for (int i = 0; i < t.rows * t.stride; i++) x[i] = (lcl_bf16)(i + 1);
    t.x = x;
    static const int at[][3] = {{0, 0, 0},  {0, 2, 5},   {64, 1, 3}, {8, 1, 30},
                                {0, 1, 40}, {-16, 0, 2}, {0, 1, -7}, {64, 2, 39}};
    for (int panel = 16; panel <= 64; panel *= 2)
        for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
            check_box(&t, panel, at[i][0], at[i][1], at[i][2], out);
    test_backend_free(x, 0);
    test_backend_free(out, 0);
}

static void check_products(int D, const lcl_bf16 *q, const lcl_bf16 *k, const lcl_bf16 *v,
                           const float *scores, const float *sums)
{
    for (int m = 0; m < HOPPER_ROWS; m++) {
        float s[HOPPER_KEYS];
        for (int n = 0; n < HOPPER_KEYS; n++) {
            s[n] = 0;
            for (int d = 0; d < D; d++)
                s[n] += lcl_bf16_to_f32(q[m * D + d]) * lcl_bf16_to_f32(k[n * D + d]);
            if (scores[m * HOPPER_KEYS + n] != s[n])
                fail_msg("width %d: score %d, %d is %g and should be %g", D, m, n,
                         (double)scores[m * HOPPER_KEYS + n], (double)s[n]);
        }
        for (int d = 0; d < D; d++) {
            float sum = 0;
            for (int n = 0; n < HOPPER_KEYS; n++) sum += s[n] * lcl_bf16_to_f32(v[n * D + d]);
            if (sums[m * D + d] != sum)
                fail_msg("width %d: sum %d, %d is %g and should be %g", D, m, d,
                         (double)sums[m * D + d], (double)sum);
        }
    }
}

static void test_products(void **state)
{
    (void)state;
    if (!hopper()) skip();
    static const int widths[] = {16, 32, 64, 96, 128};
    lcl_bf16 *q = buffer(HOPPER_ROWS * 128 * 2), *k = buffer(HOPPER_KEYS * 128 * 2),
             *v = buffer(HOPPER_KEYS * 128 * 2);
    float *scores = buffer(HOPPER_ROWS * HOPPER_KEYS * 4), *sums = buffer(HOPPER_ROWS * 128 * 4);
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        const int D = widths[w]; /* scores of at most 256: whole in bf16 */
        for (int i = 0; i < HOPPER_ROWS * D; i++) q[i] = whole(i, 1);
        for (int i = 0; i < HOPPER_KEYS * D; i++) k[i] = whole(3 * i + 1, 2);
        for (int i = 0; i < HOPPER_KEYS * D; i++) v[i] = whole(7 * i + 2, 9);
        EVERY_WAY(hopper_products(test_exec(), D, q, k, v, scores, sums));
        check_products(D, q, k, v, scores, sums);
    }
    void *const all[] = {q, k, v, scores, sums};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) test_backend_free(all[i], 0);
}

static void test_ring(void **state)
{
    (void)state;
    if (!hopper()) skip();
    /* the last box has rows past the end */
    struct hopper_tensor t = {.D = 64, .heads = 1, .rows = HOPPER_ROUNDS * 8 - 3, .stride = 64};
    lcl_bf16 *x = buffer((size_t)(t.rows * t.stride) * 2);
    float *sums = buffer(64 * sizeof *sums);
    for (int i = 0; i < t.rows * 64; i++) x[i] = whole(i, 20);
    t.x = x;
    EVERY_WAY(hopper_ring(test_exec(), &t, sums));
    for (int c = 0; c < 64; c++) {
        float want = 0;
        for (int r = 0; r < t.rows; r++) want += lcl_bf16_to_f32(x[r * 64 + c]);
        assert_true(sums[c] == want);
    }
    test_backend_free(x, 0);
    test_backend_free(sums, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
