/* The 8-bit code of the optimizer's states, and where the parameter table keeps what. */
#include "tests/support/support.h"

#include <math.h>

#include "core/code8.h"
#include "core/param.h"
#include "core/rng.h"

/* Numbers of Dettmers et al.'s code: seven decades, each with twice the values of the one below. */
static void the_8_bit_code_is_the_published_one(void **state)
{
    (void)state;
    const struct lcl_code8 *m = &lcl_code8()->m, *v = &lcl_code8()->v;
    assert_true(m->value[127] == 0 && m->value[255] == 1 && v->value[0] == 0 && v->value[255] == 1);
    assert_float_equal(m->value[128], 0.55e-6f, 1e-12f);
    assert_float_equal(m->value[129], 3.25e-6f, 1e-12f);
    assert_float_equal(m->value[0], -(1 - 0.9f / 128), 1e-6f);
    assert_float_equal(v->value[1], 0.325e-6f, 1e-12f);
    assert_float_equal(v->value[2], 0.775e-6f, 1e-12f);
    assert_float_equal(v->value[254], 1 - 0.9f / 256, 1e-6f);
    for (int i = 1; i < 256; i++) {
        assert_true(m->value[i] > m->value[i - 1]);
        assert_true(v->value[i] > v->value[i - 1]);
    }
}

static int nearest_of_all(const struct lcl_code8 *c, float x)
{
    int best = 0;
    for (int b = 1; b < 256; b++)
        if (fabs((double)c->value[b] - (double)x) < fabs((double)c->value[best] - (double)x))
            best = b;
    return best;
}

/* Every value, every half way between two and its neighbours, and many others. */
static void codes_are_the_nearest(void **state)
{
    (void)state;
    const struct lcl_code8_pair *c = lcl_code8();
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, 8);
    for (int i = 0; i < 20000; i++) {
        float x = i < 256   ? c->v.value[i]
                  : i < 511 ? (c->v.value[i - 256] + c->v.value[i - 255]) / 2
                            : (float)pow(10, -8 * lcl_rng_uniform(&rng));
        for (int k = 0; k < 3; k++) {
            float at = k == 0 ? x : nextafterf(x, k == 1 ? 0 : 1);
            int got = lcl_code8_v(&c->v, at, 1), want = nearest_of_all(&c->v, at);
            float off = fabsf(c->v.value[got] - at), best = fabsf(c->v.value[want] - at);
            if (got != want && off > best + 3e-7f * at && !(want == 0 && got == 1))
                fail_msg("%.9g becomes %d, wanted %d", (double)at, got, want);
            for (int sign = -1; sign <= 1; sign += 2) {
                got = lcl_code8_m(&c->m, (float)sign * at, 1);
                want = nearest_of_all(&c->m, (float)sign * at);
                off = fabsf(c->m.value[got] - (float)sign * at);
                best = fabsf(c->m.value[want] - (float)sign * at);
                if (got != want && off > best + 3e-7f * at)
                    fail_msg("%.9g becomes %d, wanted %d", (double)((float)sign * at), got, want);
            }
        }
    }
    float zeros[300] = {0}, back[300], scale[2];
    uint8_t code[300];
    zeros[299] = -1e-30f; /* alone in its block: it is the scale */
    lcl_code8_encode(false, zeros, 300, code, scale);
    lcl_code8_decode(&c->m, code, scale, 300, back);
    assert_true(back[0] == 0 && scale[0] == 0 && scale[1] == 1e-30f);
    assert_float_equal(back[299] * 1e30f, -1, 0.01f);
}

/* Without masters only rows that ops read as f32 have f32 values; small rows keep f32 moments. */
static void rows_are_kept_as_asked(void **state)
{
    (void)state;
    struct lcl_params t;
    struct lcl_arena values, moments;
    int index;
    const int64_t sizes[] = {5000, 40, 30, 4096};
    lcl_params_init(&t);
    t.states = LCL_STATES_8BIT;
    t.bf16 = t.no_master = true;
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "row%d", i);
        struct lcl_param_spec spec = {
            .init = LCL_INIT_NORMAL, .init_std = 1, .f32 = i == 1 || i == 2, .follows = i == 2};
        ASSERT_OK(lcl_params_add(&t, name, 1, &sizes[i], spec, &index));
    }
    lcl_arena_measure(&values, "values");
    lcl_arena_measure(&moments, "moments");
    lcl_params_layout(&t, &values, NULL, &moments);
    assert_int_equal(t.n_values, 70); /* the two f32 rows, one after the other */
    assert_int_equal(t.n_scales, 20 + 16);
    assert_int_equal(lcl_param_moment_bytes(&t, &t.rows[0]), 2 * (5000 + 20 * 4));
    assert_int_equal(lcl_param_moment_bytes(&t, &t.rows[1]), 2 * 40 * 4);
    assert_int_equal(lcl_param_value_bytes(&t, &t.rows[0]), 10000);
    assert_true(moments.used_bytes < 2 * (5000 + 4096 + 36 * 4 + 280) + 1024);
    ASSERT_OK(lcl_arena_reserve(&values, "values", values.used_bytes));
    lcl_params_layout(&t, &values, NULL, NULL);
    lcl_params_initialise(&t, 3);
    assert_null(lcl_param_value(&t, &t.rows[0]));
    assert_ptr_equal(lcl_param_value(&t, &t.rows[2]), lcl_param_value(&t, &t.rows[1]) + 40);
    uint64_t hash = lcl_params_hash(&t, LCL_PART_VISION);
    lcl_param_value16(&t, &t.rows[3])[7] ^= 1;
    assert_true(lcl_params_hash(&t, LCL_PART_VISION) != hash);
    lcl_params_free(&t);
    lcl_arena_free(&values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_8_bit_code_is_the_published_one),
        cmocka_unit_test(codes_are_the_nearest),
        cmocka_unit_test(rows_are_kept_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
