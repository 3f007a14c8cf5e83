/* Weights in blocks: what codes and scales stand for, and rows of the parameter table kept so. */
#include <math.h>

#include "core/param.h"
#include "tests/support/support.h"

enum { N = 96 };

static void codes_stand_for_numbers(void **state)
{
    (void)state;
    const lcl_f16 half = 0x3800, minus = 0xbc00; /* 0.5, -1 */
    uint8_t q8[LCL_BLOCK], q4[LCL_BLOCK / 2];
    float x[LCL_BLOCK];
    for (int i = 0; i < LCL_BLOCK; i++) q8[i] = (uint8_t)(i * 8 + 4); /* 4 .. 124, -124 .. -4 */
    for (int i = 0; i < LCL_BLOCK / 2; i++) q4[i] = (uint8_t)(i | (15 - i) << 4);
    lcl_blocks_decode(LCL_Q8_0, q8, &half, LCL_BLOCK, x);
    for (int i = 0; i < LCL_BLOCK; i++)
        assert_true(x[i] == (float)(i * 8 + 4 - (i < 16 ? 0 : 256)) / 2);
    lcl_blocks_decode(LCL_Q4_0, q4, &minus, LCL_BLOCK, x);
    for (int i = 0; i < LCL_BLOCK / 2; i++)
        assert_true(x[i] == (float)(8 - i) && x[i + LCL_BLOCK / 2] == (float)(i - 7));
}

/* Nothing is off by more than half a step (of 4 bits: a whole one where it was cut), and what was
 * decoded encodes to the same. */
static void codes_are_near_and_stay(void **state)
{
    (void)state;
    for (int kind = 0; kind < 20; kind++) {
        const lcl_dtype type = kind % 2 ? LCL_Q4_0 : LCL_Q8_0;
        float x[N], back[N];
        uint8_t code[2][N] = {{0}};
        lcl_f16 scale[2][N / LCL_BLOCK];
        fill_normal(x, N, powf(10, (float)(kind - 10) / 4), (uint64_t)kind);
        for (int i = 0; i < LCL_BLOCK; i++) x[LCL_BLOCK + i] *= kind < 4 ? 0 : 100;
        lcl_blocks_encode(type, x, N, code[0], scale[0]);
        lcl_blocks_decode(type, code[0], scale[0], N, back);
        for (int i = 0; i < N; i++) {
            const float step = fabsf(lcl_f16_to_f32(scale[0][i / LCL_BLOCK]));
            const float most = type == LCL_Q8_0 ? 0.55f : 1.01f; /* the step was rounded, too */
            if (!(fabsf(back[i] - x[i]) <= most * step))
                fail_msg("kind %d, element %d: %a for %a", kind, i, (double)back[i], (double)x[i]);
        }
        lcl_blocks_encode(type, back, N, code[1], scale[1]);
        assert_memory_equal(code[0], code[1], N);
        assert_memory_equal(scale[0], scale[1], sizeof scale[0]);
    }
}

static void no_number_is_no_crash(void **state)
{
    (void)state;
    float x[LCL_BLOCK] = {NAN, 1, -1}, back[LCL_BLOCK];
    uint8_t code[LCL_BLOCK];
    lcl_f16 scale;
    for (int kind = 0; kind < 2; kind++) {
        const lcl_dtype type = kind ? LCL_Q4_0 : LCL_Q8_0;
        x[0] = NAN;
        lcl_blocks_encode(type, x, LCL_BLOCK, code, &scale);
        lcl_blocks_decode(type, code, &scale, LCL_BLOCK, back);
        assert_true(back[0] == 0 && back[1] > 0.8f && back[2] < -0.8f);
        x[0] = INFINITY;
        lcl_blocks_encode(type, x, LCL_BLOCK, code, &scale);
        lcl_blocks_decode(type, code, &scale, LCL_BLOCK, back);
        assert_true(isnan(back[1]));
    }
}

static void add(struct lcl_params *t, const char *name, int64_t rows, int64_t columns, bool follows)
{
    int index;
    struct lcl_param_spec spec = {.init = LCL_INIT_NORMAL, .init_std = 1, .follows = follows};
    ASSERT_OK(lcl_params_add(t, name, 2, (int64_t[]){rows, columns}, spec, &index));
}

/* Linear rows of whole blocks leave the flat arrays; the others lie as if those were not there. */
static void rows_in_blocks_lie_apart(void **state)
{
    (void)state;
    struct lcl_params t;
    struct lcl_arena values, grads, moments;
    lcl_params_init(&t);
    add(&t, "q", 3, 64, false);
    add(&t, "k", 5, 64, true);
    add(&t, "embed", 7, 64, false);
    add(&t, "odd", 4, 33, false);
    for (int i = 0; i < 4; i++) t.rows[i].linear = i != 2;
    t.blocks = LCL_Q4_0;
    lcl_arena_measure(&values, "values");
    lcl_arena_measure(&grads, "grads");
    lcl_arena_measure(&moments, "moments");
    lcl_params_layout(&t, &values, &grads, &moments);
    const struct lcl_param *q = &t.rows[0], *k = &t.rows[1], *embed = &t.rows[2], *odd = &t.rows[3];
    assert_true(q->in_blocks && k->in_blocks && !embed->in_blocks && !odd->in_blocks);
    assert_int_equal(t.n_coded, 8 * 64);
    assert_int_equal(t.n_elements, 512 + 4 * 33);
    assert_int_equal(lcl_param_value_bytes(&t, k), 5 * 64 / 32 * 18);
    assert_int_equal(lcl_param_moment_bytes(&t, k), 0);
    assert_int_equal(lcl_params_values_bytes(&t), 4 * (512 + 4 * 33) + 16 * 18);
    ASSERT_OK(lcl_arena_reserve(&values, "values", values.used_bytes));
    lcl_params_layout(&t, &values, NULL, NULL);
    lcl_params_initialise(&t, 3);
    assert_null(lcl_param_value(&t, k));
    assert_ptr_equal(lcl_param_code(&t, k), lcl_param_code(&t, q) + 3 * 32);
    assert_ptr_equal(lcl_param_scale(&t, k), lcl_param_scale(&t, q) + 3 * 2);
    lcl_params_set_trainable(&t, LCL_PART_VISION, true);
    assert_true(!lcl_param_moves(k) && lcl_param_moves(embed));
    float x[5 * 64], back[5 * 64];
    fill_normal(x, 5 * 64, 1, 4);
    uint64_t hash = lcl_params_hash(&t, LCL_PART_VISION);
    lcl_param_put(&t, k, 64, 256, x);
    assert_true(lcl_params_hash(&t, LCL_PART_VISION) != hash);
    lcl_param_get(&t, k, 64, 256, back);
    lcl_param_put(&t, k, 64, 256, back);
    lcl_param_get(&t, k, 64, 256, x);
    assert_memory_equal(x, back, 256 * sizeof *x);
    lcl_params_free(&t);
    lcl_arena_free(&values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_stand_for_numbers),
        cmocka_unit_test(codes_are_near_and_stay),
        cmocka_unit_test(no_number_is_no_crash),
        cmocka_unit_test(rows_in_blocks_lie_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
