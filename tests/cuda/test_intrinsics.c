/* A golden vector for each function of cuda/intrinsics.cuh: what plain C gives, on the emulator and
 * (make test-gpu) on a GPU. */
#include <math.h>

#include "core/dtype.h"
#include "tests/cuda/intrinsics.h"
#include "tests/support/support.h"

/* Of the emulator; a GPU has its own. */
static const char *const schedules[] = {"forward", "reverse", "random:7"};
enum { N_SCHEDULES = sizeof schedules / sizeof schedules[0], GUARD = 64 };

/* Floats that the device knows: small whole numbers, the same every time. */
static float *known(void)
{
    static unsigned char *p;
    if (!p) p = test_backend_alloc(GUARD, INTRINSICS_FLOATS * sizeof(float));
    assert_non_null(p);
    float *g = (float *)(p + GUARD);
    for (int i = 0; i < INTRINSICS_FLOATS; i++) g[i] = (float)((i * 37 + 11) % 64 - 32);
    return g;
}

/* The kernel's first n results, bit for bit, under every schedule. */
static void assert_gives(const char *name, size_t n, const float *want)
{
    for (int i = 0; i < N_SCHEDULES; i++) {
        float *g = known();
        setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        ASSERT_OK(intrinsics_run(test_exec(), name, g));
        for (size_t k = 0; k < n; k++)
            if (memcmp(&g[INTRINSICS_OUT + k], &want[k], sizeof(float)) != 0)
                fail_msg("%s, %s: %zu is %g and should be %g", name, schedules[i], k,
                         (double)g[INTRINSICS_OUT + k], (double)want[k]);
    }
    unsetenv("LCL_SIM_SCHEDULE");
}

static float as_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void test_warps(void **state)
{
    (void)state;
    float want[14 * 32], sum = 0, most = -INFINITY;
    uint32_t votes = 0;
    const float *g = known();
    for (int l = 0; l < 32; l++) {
        want[l] = g[(l * 5 + 3) % 32];
        for (int i = 1; i <= 5; i++) {
            want[32 * i + l] = g[l ^ 1 << (i - 1)];
            want[32 * (i + 5) + l] = (float)((l ^ 1 << (i - 1)) * 3);
        }
        if (l % 3 == 0) votes |= 1u << l;
        sum += g[l];
        most = fmaxf(most, g[l]);
    }
    for (int l = 0; l < 32; l++) {
        want[32 * 11 + l] = as_float(votes);
        want[32 * 12 + l] = sum;
        want[32 * 13 + l] = most;
    }
    assert_gives("in_warps", 14 * 32, want);
}

/* To nearest even, by trying both neighbours: another way than the library's. */
static uint32_t rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t low = u >> 16, high = low + 1; /* towards 0, away from it */
    if (isinf(x) || u << 16 == 0) return low;
    const double largest = ldexp(1, 128); /* what infinity stands for */
    double below = as_float(low << 16), above = as_float(high << 16);
    if (isinf(above)) above = copysign(largest, above);
    double down = fabs((double)x - below), up = fabs(above - (double)x);
    return down < up || (down == up && low % 2 == 0) ? low : high;
}

static void test_numbers(void **state)
{
    (void)state;
    static const uint32_t special[] = {0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f808001,
                                       0x3f807fff, 0xbf808000, 0xbf818000, 0x7f7f7fff, 0x7f7f8000,
                                       0x7f7fffff, 0xff7f8000, 0x7f800000, 0xff800000, 0x00000001,
                                       0x00008000, 0x00018000, 0x807fffff, 0x00800000, 0x4b7fffff};
    enum { N_SPECIAL = sizeof special / sizeof special[0] };
    float *g = known();
    uint32_t bits = 12345;
    for (int i = 0; i < 512; i++) {
        bits = bits * 1664525u + 1013904223u;
        g[i] = as_float(i < N_SPECIAL ? special[i] : (bits & 0xbfffffffu) | 0x01000000u);
    }
    for (int i = 0; i < 256; i++) g[512 + i] = (float)(i - 128) * 0.37f;
    g[511] = NAN;
    float in[1024];
    memcpy(in, g, sizeof in);
    ASSERT_OK(intrinsics_run(test_exec(), "in_numbers", g));
    for (int i = 0; i < 255; i++) {
        uint32_t got;
        memcpy(&got, &g[1024 + i], sizeof got);
        assert_int_equal(got & 0xffff, rounded(in[2 * i]));
        assert_int_equal(got >> 16, rounded(in[2 * i + 1]));
        assert_true(g[1280 + i] == as_float(rounded(in[2 * i]) << 16));
    }
    uint32_t got;
    memcpy(&got, &g[1024 + 255], sizeof got);
    assert_true(isnan(as_float(got & 0xffff0000u)));
    for (int i = 0; i < 256; i++) {
        double x = in[512 + i];
        float square = (float)x * (float)x + 1;
        assert_true(fabs(g[1536 + i] / exp2(x) - 1) < 3e-7);
        assert_true(fabs(g[1792 + i] * sqrt((double)square) - 1) < 1e-7);
        if (x != 0) assert_true(fabs(g[2048 + i] * x - 1) < 2e-7);
        assert_true(g[2304 + i] == lcl_f16_to_f32(lcl_f32_to_f16((float)x)));
        if (i < 255) assert_true(g[2560 + i] == as_float(rounded(in[2 * i]) << 16));
    }
}

static void test_sixteens(void **state)
{
    (void)state;
    float want[384];
    const float *g = known();
    for (int t = 0; t < 32; t++)
        for (int i = 0; i < 4; i++) {
            want[4 * t + i] = g[4 * (t ^ 1) + i];
            want[128 + 4 * t + i] = t % 2 ? g[4 * (t ^ 1) + i] : 0;
            want[256 + 4 * t + i] = g[128 + 4 * (t ^ 1) + i];
        }
    assert_gives("in_sixteens", 384, want);
}

static void test_atomics(void **state)
{
    (void)state;
    unsigned long long first[2] = {5, 1003}, want[2] = {5 + 255 * 256 / 2, 1000};
    for (int i = 0; i < N_SCHEDULES; i++) {
        float *g = known();
        memcpy(g + INTRINSICS_OUT, first, sizeof first);
        setenv("LCL_SIM_SCHEDULE", schedules[i], 1);
        ASSERT_OK(intrinsics_run(test_exec(), "in_atomics", g));
        assert_memory_equal(g + INTRINSICS_OUT, want, sizeof want);
    }
    unsetenv("LCL_SIM_SCHEDULE");
}

static void test_matrices(void **state)
{
    (void)state;
    uint16_t x[4][8][8]; /* what known() holds */
    memcpy(x, known(), sizeof x);
    float want[2][4][32];
    for (int m = 0; m < 4; m++)
        for (int l = 0; l < 32; l++) {
            int row = l / 4, column = 2 * (l % 4);
            want[0][m][l] = as_float(x[m][row][column] | (uint32_t)x[m][row][column + 1] << 16);
            want[1][m][l] = as_float(x[m][column][row] | (uint32_t)x[m][column + 1][row] << 16);
        }
    assert_gives("in_matrices", 256, &want[0][0][0]);
}

/* d (16 x 8) + a (16 x K) b (K x 8) of what known() holds: whole numbers, so exact. */
static void product(int K, float want[128])
{
    const float *g = known();
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float sum = g[512 + m * 8 + n];
            for (int k = 0; k < K; k++) sum += g[m * K + k] * g[256 + k * 8 + n];
            want[m * 8 + n] = sum;
        }
}

static void test_products(void **state)
{
    (void)state;
    float want[128];
    product(16, want);
    assert_gives("mma_in_bf16", 128, want);
    product(8, want);
    assert_gives("mma_in_tf32", 128, want);
    /* bits past the tenth after the point are cut off, not rounded */
    float *g = known();
    for (int k = 0; k < 8; k++) g[3 * 8 + k] = g[256 + k * 8 + 2] = 0;
    g[3 * 8 + 5] = 1 + 3 * 0x1p-11f;
    g[256 + 5 * 8 + 2] = 2 + 0x1p-10f;
    g[512 + 3 * 8 + 2] = 0;
    ASSERT_OK(intrinsics_run(test_exec(), "mma_in_tf32", g));
    assert_true(g[1024 + 3 * 8 + 2] == (1 + 0x1p-10f) * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warps),    cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sixteens), cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_matrices), cmocka_unit_test(test_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
