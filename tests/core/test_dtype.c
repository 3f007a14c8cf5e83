/* Element types: rounding, f32 in halves, conversions. */
#include <math.h>

#include "core/dtype.h"
#include "tests/support/support.h"

static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void check_halves(uint32_t u, uint32_t wanted)
{
    const float x = bits_float(u);
    float back;
    lcl_bf16 high;
    uint16_t low;
    uint32_t got;
    lcl_f32_split(&x, 1, &high, &low);
    lcl_f32_join(&back, &high, &low, 1);
    memcpy(&got, &back, sizeof got);
    if (got != wanted) fail_msg("%08x comes back from its halves as %08x", u, got);
    const bool tie = (u & 0xffffu) == 0x8000u && !isnan(x);
    const lcl_bf16 nearest = tie ? (lcl_bf16)((u >> 16) + 1) : lcl_f32_to_bf16(x);
    if (isnan(x) ? !isnan(lcl_bf16_to_f32(high)) : high != nearest)
        fail_msg("the bf16 half of %08x is %04x", u, high);
}

/* Every sign, exponent and upper bits of the mantissa, with what lies at and beside a tie. */
static void f32_in_two_halves_loses_nothing(void **state)
{
    (void)state;
    static const uint32_t lows[] = {0,      1,      2,      0x1234, 0x7ffe, 0x7fff,
                                    0x8000, 0x8001, 0x8002, 0xabcd, 0xfffe, 0xffff};
    for (uint32_t h = 0; h < 0x10000; h++)
        for (size_t i = 0; i < sizeof lows / sizeof *lows; i++) {
            const uint32_t u = h << 16 | lows[i];
            const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
            check_halves(u, nan ? (u & 0x80000000u) | 0x7fc00000u : u);
        }
    for (uint32_t low = 0; low < 0x10000; low++) {
        check_halves(0x3f800000u | low, 0x3f800000u | low);
        check_halves(0x80000000u | low, 0x80000000u | low); /* -0 and small ones */
    }
    float zero = 1; /* cleared memory is 0 */
    lcl_f32_join(&zero, &(lcl_bf16){0}, &(uint16_t){0}, 1);
    assert_true(zero == 0 && !signbit(zero));
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(lcl_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(lcl_f32_to_bf16(bits_float(0x3f808000)), 0x3f80); /* a tie goes to even */
    assert_int_equal(lcl_f32_to_bf16(bits_float(0x3f818000)), 0x3f82);
    assert_int_equal(lcl_f32_to_bf16(bits_float(0x3f808001)), 0x3f81);
    assert_int_equal(lcl_f32_to_bf16(-0.0f), 0x8000);
    assert_int_equal(lcl_f32_to_bf16(3.4028235e38f), 0x7f80);
    assert_int_equal(lcl_f32_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(lcl_bf16_to_f32(lcl_f32_to_bf16(bits_float(0x7f800001)))));
    assert_true(isnan(lcl_bf16_to_f32(lcl_f32_to_bf16(bits_float(0xffffffff)))));
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = lcl_bf16_to_f32((lcl_bf16)h);
        if (!isnan(f)) assert_int_equal(lcl_f32_to_bf16(f), h);
    }
}

static void f16_is_exact_both_ways(void **state)
{
    (void)state;
    assert_true(lcl_f16_to_f32(0x3c00) == 1.0f);
    assert_true(lcl_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(lcl_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(lcl_f16_to_f32(0x8001) == -0x1p-24f);
    assert_true(isinf(lcl_f16_to_f32(0xfc00)) && lcl_f16_to_f32(0xfc00) < 0);
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = lcl_f16_to_f32((lcl_f16)h);
        if (!isnan(f)) assert_int_equal(lcl_f32_to_f16(f), h);
    }
    assert_true(isnan(lcl_f16_to_f32(lcl_f32_to_f16(NAN))));
    assert_int_equal(lcl_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(lcl_f32_to_f16(65520.0f),
                     0x7c00); /* the tie above the largest goes to infinity */
    assert_int_equal(lcl_f32_to_f16(1e9f), 0x7c00);
    assert_int_equal(lcl_f32_to_f16(0x1p-25f), 0);   /* a tie with zero: even */
    assert_int_equal(lcl_f32_to_f16(0x1.8p-24f), 2); /* a tie of 1 and 2: even */
    assert_int_equal(lcl_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(lcl_f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(lcl_f32_to_f16(1.0f + 0x3p-11f), 0x3c02);
}

static void converts_between_all_floating_types(void **state)
{
    (void)state;
    static const lcl_dtype types[] = {LCL_F32, LCL_BF16, LCL_F16, LCL_F64};
    const double x[3] = {1.5, -0.25, 96}; /* exact in all of them */
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 4; b++) {
            double first[3], second[3], back[3];
            ASSERT_OK(lcl_convert(first, types[a], x, LCL_F64, 3));
            ASSERT_OK(lcl_convert(second, types[b], first, types[a], 3));
            ASSERT_OK(lcl_convert(back, LCL_F64, second, types[b], 3));
            assert_memory_equal(back, x, sizeof x);
        }
    }
    int64_t i = 1;
    double d;
    ASSERT_FAILS(lcl_convert(&d, LCL_F64, &i, LCL_I64, 1), LCL_UNSUPPORTED, "from i64 to f64");
    assert_int_equal(lcl_dtype_bytes(LCL_U8), 1);
    assert_int_equal(lcl_dtype_bytes(LCL_I64), 8);
    assert_string_equal(lcl_dtype_name(LCL_BF16), "bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_in_two_halves_loses_nothing),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f16_is_exact_both_ways),
        cmocka_unit_test(converts_between_all_floating_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
