/* bf16 attention of the CPU, by dot products of pairs where the processor has them and in f32. */
#include <math.h>
#include <stdlib.h>

#include "tests/support/attention.h"
#include "tests/support/fd.h"

static void use_f32(bool on)
{
    if (on)
        assert_int_equal(setenv("LCL_ATTENTION", "f32", 1), 0);
    else
        assert_int_equal(unsetenv("LCL_ATTENTION"), 0);
}

/* Odd numbers of keys and of lanes, rows at odd places, widths that are no multiple of a vector. */
static void test_either_way_as_good_as_plain(void **state)
{
    (void)state;
    static const int64_t widths[] = {4, 12, 20, 40, 64, 100, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int f32 = 0; f32 < 2; f32++) {
            struct attn_problem p = {.H = w % 2 ? 3 : 2,
                                     .G = w % 2 ? 1 : 2,
                                     .D = widths[w],
                                     .pad = w % 3 ? 5 : 0,
                                     .causal = w % 4 != 0};
            attn_add_sequences(&p, (int32_t[]){1, 31, 65}, 3);
            attn_add_episode(&p, 131, (int32_t[]){1, 33, 7}, 3);
            attn_fill(&p, 30 + w);
            for (int64_t i = 0; i < p.T * attn_row_width(&p); i++) p.qkv[i] = dbl_bf16(p.qkv[i]);
            struct attn_result want = attn_reference(&p, false, true),
                               plain = attn_reference(&p, true, true);
            use_f32(f32);
            struct attn_buffers b = attn_run(&p, LCL_BF16, true);
            use_f32(false);
            lcl_bf16 *d = b.d_qkv;
            for (int64_t i = 0; i < p.T * attn_row_width(&p); i++)
                if (i % attn_row_width(&p) >= attn_row_width(&p) - p.pad) d[i] = 0;
            check_bf16("out", b.out, plain.out, want.out, (size_t)(p.T * p.H * p.D));
            check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p.T * p.H), 1e-5);
            check_bf16("d_qkv", d, plain.d_qkv, want.d_qkv, (size_t)(p.T * attn_row_width(&p)));
            buf_end();
        }
}

/* The first key weighs 1 and all others about 0.502, which bf16 rounds by up to 0.4 % in the same
 * direction: a mean of equal values is that value still. */
static void test_weights_sum_to_one(void **state)
{
    (void)state;
    const double value = 2 - 0x1p-7; /* its neighbours in bf16 are the nearest, relatively */
    for (int step = 0; step <= 16; step++) {
        struct attn_problem p = {.H = 2, .G = 1, .D = 16, .causal = true};
        attn_add_sequences(&p, (int32_t[]){150}, 1);
        attn_fill(&p, 40);
        const int64_t width = attn_row_width(&p);
        for (int64_t i = 0; i < p.T * width; i++) {
            const int64_t column = i % width, k = column - 2 * p.D;
            if (k < 0)
                p.qkv[i] = 0.125;
            else if (k < p.D)
                p.qkv[i] = i >= width ? 0 : k < step ? 1.375 : 1.3828125;
            else
                p.qkv[i] = value;
        }
        struct attn_buffers b = attn_run(&p, LCL_BF16, false);
        double *out = buf_read(b.out, (size_t)(p.T * p.H * p.D), LCL_BF16);
        for (int64_t i = 0; i < p.T * p.H * p.D; i++) assert_true(out[i] == value);
        buf_end();
    }
}

static void test_same_bits_for_any_threads(void **state)
{
    (void)state;
    attn_check_threads(LCL_BF16);
}

/* A NaN in a query is in its row's answer, and an infinity in a value in those that see it. */
static void test_no_numbers_stay(void **state)
{
    (void)state;
    struct attn_problem p = {.H = 1, .G = 1, .D = 4, .causal = true};
    attn_add_sequences(&p, (int32_t[]){60, 9}, 2);
    attn_fill(&p, 41);
    struct attn_buffers b = attn_run(&p, LCL_BF16, false);
    lcl_bf16 *q = (lcl_bf16 *)(uintptr_t)b.args.q, *v = (lcl_bf16 *)(uintptr_t)b.args.v;
    const lcl_bf16 *out = b.out;
    q[50 * 12] = lcl_f32_to_bf16(NAN);
    v[59 * 12] = lcl_f32_to_bf16(INFINITY);
    ASSERT_OK(test_exec()->ops->attention_fwd(test_exec(), &b.args));
    for (int64_t d = 0; d < 4; d++) assert_true(isnan(lcl_bf16_to_f32(out[50 * 4 + d])));
    assert_false(isnan(lcl_bf16_to_f32(out[49 * 4 + 1])));
    assert_true(isinf(lcl_bf16_to_f32(out[59 * 4])));
    for (int64_t i = 60 * 4; i < 69 * 4; i++) assert_true(isfinite(lcl_bf16_to_f32(out[i])));
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_either_way_as_good_as_plain),
        cmocka_unit_test(test_weights_sum_to_one),
        cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_no_numbers_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
