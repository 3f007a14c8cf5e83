/* The optimizer over a parameter table, on the backend: what the ops of test_adamw.c make together.
 */
#include <math.h>

#include "optim/optimizer.h"
#include "tests/support/fd.h"

/* A table of a few small rows whose arrays are the backend's. */
struct table {
    struct lcl_params params;
    struct lcl_arena values, grads, moments;
};

enum kept { F32, HALVES, BF16 };

static void table_open(struct table *t, enum lcl_states states, enum kept kept)
{
    static const char *const names[] = {"a.weight", "a.bias", "b.weight", "frozen", "b.bias"};
    static const int64_t shapes[][2] = {{17, 257}, {31, 1}, {33, 33}, {100, 1}, {1, 1}};
    *t = (struct table){0};
    test_exec(); /* arenas lie in its memory */
    lcl_params_init(&t->params);
    t->params.states = states;
    t->params.bf16 = kept != F32;
    t->params.no_master = kept == BF16;
    for (int i = 0; i < 5; i++) {
        int row;
        struct lcl_param_spec spec = {.part = i == 3 ? LCL_PART_VISION : LCL_PART_TEXT,
                                      .init = LCL_INIT_NORMAL,
                                      .init_std = 1,
                                      .decay = shapes[i][1] > 1,
                                      .f32 = shapes[i][1] == 1};
        ASSERT_OK(lcl_params_add(&t->params, names[i], 2, shapes[i], spec, &row));
    }
    for (int reserved = 0; reserved < 2; reserved++) {
        if (!reserved) {
            lcl_arena_measure(&t->values, "values");
            lcl_arena_measure(&t->grads, "grads");
            lcl_arena_measure(&t->moments, "moments");
        } else {
            ASSERT_OK(lcl_arena_reserve(&t->values, "values", t->values.used_bytes));
            ASSERT_OK(lcl_arena_reserve(&t->grads, "grads", t->grads.used_bytes));
            ASSERT_OK(lcl_arena_reserve(&t->moments, "moments", t->moments.used_bytes));
        }
        lcl_params_layout(&t->params, &t->values, &t->grads, &t->moments);
    }
    lcl_params_initialise(&t->params, 1);
    lcl_params_set_trainable(&t->params, LCL_PART_VISION, false);
}

static void table_close(struct table *t)
{
    lcl_arena_free(&t->values);
    lcl_arena_free(&t->grads);
    lcl_arena_free(&t->moments);
    lcl_params_free(&t->params);
}

static lcl_status update(struct table *t, struct lcl_optimizer *o, const struct lcl_config *c,
                         struct lcl_update *u)
{
    LCL_TRY(lcl_optimizer_update(o, test_exec(), c, u));
    LCL_TRY(lcl_exec_sync(test_exec()));
    return lcl_optimizer_finish(o, &t->params, u);
}

/* One bad element is an error that names its row, and nothing has changed, here or there. */
static void test_non_finite(void **state)
{
    (void)state;
    struct table t;
    struct lcl_optimizer o;
    struct lcl_config c;
    struct lcl_update u = {.n_steps = 10, .adam_step = 1};
    lcl_config_defaults(&c);
    c.warmup_ratio = 0;
    table_open(&t, LCL_STATES_F32, F32);
    ASSERT_OK(lcl_optimizer_open(&o, &t.params, NULL, 1));
    size_t n = t.params.n_elements, bytes = n * sizeof(float), size = t.params.state_bytes;
    unsigned char *before = malloc(bytes + 2 * size), *m = before + bytes, *v = m + size;
    assert_non_null(before);
    for (size_t i = 0; i < n; i++) t.params.grad[i] = 0.01f * (float)(i % 7);
    ASSERT_OK(update(&t, &o, &c, &u));
    double sum = 0;
    for (int i = 0; i < t.params.n_rows; i++)
        for (size_t k = 0; k < t.params.rows[i].count && i != 3; k++) {
            double g = (double)t.params.grad[t.params.rows[i].offset + k];
            sum += g * g;
        }
    assert_true(fabs(u.grad_norm - sqrt(sum)) <= 1e-9 * sqrt(sum));
    memcpy(before, t.params.value, bytes);
    memcpy(m, t.params.m, size);
    memcpy(v, t.params.v, size);
    t.params.grad[t.params.rows[3].offset] = NAN; /* of a frozen row: nobody looks */
    t.params.grad[t.params.rows[2].offset + 77] = INFINITY;
    u.adam_step = 2;
    ASSERT_FAILS(update(&t, &o, &c, &u), LCL_NUMERIC,
                 "the gradient of b.weight has 1 values that are NaN or infinite");
    assert_memory_equal(before, t.params.value, bytes);
    assert_memory_equal(m, t.params.m, size);
    assert_memory_equal(v, t.params.v, size);
    t.params.grad[t.params.rows[2].offset + 77] = 0;
    ASSERT_OK(update(&t, &o, &c, &u));
    assert_memory_not_equal(before, t.params.value, bytes);
    free(before);
    lcl_optimizer_close(&o);
    table_close(&t);
}

/* A quadratic of many curvatures: half the sum of c (x - target)^2 over all elements that move, and
 * its gradient. */
static double quadratic(struct table *t)
{
    double loss = 0;
    for (int i = 0; i < t->params.n_rows; i++) {
        const struct lcl_param *p = &t->params.rows[i];
        float value[17 * 257];
        if (!lcl_param_moves(p)) continue;
        lcl_param_get(&t->params, p, 0, p->count, value);
        for (size_t k = 0; k < p->count; k++) {
            double c = 0.1 + 3.0 * (double)(k * 7 % 31) / 31;
            double target = 1.5 + (double)(k * 11 % 17) / 17;
            double x = (double)value[k] - target;
            t->params.grad[p->offset + k] = (float)(c * x);
            loss += 0.5 * c * x * x;
        }
    }
    return loss;
}

static void start_at_one(struct table *t)
{
    for (int i = 0; i < t->params.n_rows; i++) t->params.rows[i].init = LCL_INIT_ONES;
    lcl_params_initialise(&t->params, 1);
}

/* The loss after some steps, as a part of what it was. to_nearest: values are rounded to bf16 after
 * each, as a table without masters and without chance would. */
static double descend(enum lcl_states states, enum kept kept, bool to_nearest, double lr, int steps)
{
    struct table t;
    struct lcl_optimizer o;
    struct lcl_config c;
    lcl_config_defaults(&c);
    c.warmup_ratio = 0;
    c.learning_rate = lr;
    c.max_grad_norm = 0;
    table_open(&t, states, kept);
    start_at_one(&t);
    ASSERT_OK(lcl_optimizer_open(&o, &t.params, NULL, 1));
    double first = quadratic(&t);
    for (int step = 0; step < steps; step++) {
        struct lcl_update u = {.step = step, .n_steps = steps, .adam_step = step + 1};
        quadratic(&t);
        ASSERT_OK(update(&t, &o, &c, &u));
        for (size_t k = 0; to_nearest && k < t.params.n_values; k++)
            t.params.value[k] = lcl_bf16_to_f32(lcl_f32_to_bf16(t.params.value[k]));
    }
    double last = quadratic(&t);
    lcl_optimizer_close(&o);
    table_close(&t);
    return last / first;
}

/* Moments in fewer bits, and values in bf16 alone, descend as f32 does; values in halves are f32.
 */
static void test_every_kind_converges(void **state)
{
    (void)state;
    enum { STEPS = 60 };
    double f32 = descend(LCL_STATES_F32, F32, false, 0.05, STEPS);
    double bf16 = descend(LCL_STATES_BF16, F32, false, 0.05, STEPS);
    double codes = descend(LCL_STATES_8BIT, F32, false, 0.05, STEPS);
    double alone = descend(LCL_STATES_F32, BF16, false, 0.05, STEPS);
    double least = descend(LCL_STATES_8BIT, BF16, false, 0.05, STEPS);
    print_message("of the loss are left: f32 %.2g, bf16 moments %.2g, 8-bit %.2g, bf16 values "
                  "%.2g, both %.2g\n",
                  f32, bf16, codes, alone, least);
    assert_true(f32 < 0.01);
    assert_true(descend(LCL_STATES_F32, HALVES, false, 0.05, STEPS) == f32);
    assert_true(descend(LCL_STATES_BF16, HALVES, false, 0.05, STEPS) == bf16);
    assert_true(descend(LCL_STATES_8BIT, HALVES, false, 0.05, STEPS) == codes);
    assert_true(bf16 < 1.2 * f32 && codes < 1.2 * f32);
    /* bf16 numbers near the targets are 1/128 apart: their own error is 1e-5 of the loss */
    assert_true(alone < 1.2 * f32 + 1e-4 && least < 1.2 * f32 + 1e-4);
}

/* Steps below half the distance of bf16 numbers are lost to nearest; by chance they add up. */
static void test_small_steps_add_up(void **state)
{
    (void)state;
    enum { STEPS = 60 };
    double f32 = descend(LCL_STATES_F32, F32, false, 2e-3, STEPS);
    double nearest = descend(LCL_STATES_F32, F32, true, 2e-3, STEPS);
    double chance = descend(LCL_STATES_F32, BF16, false, 2e-3, STEPS);
    print_message("of the loss are left: f32 %.3f, to nearest %.3f, by chance %.3f\n", f32, nearest,
                  chance);
    assert_true(f32 < 0.95);
    assert_true(nearest > 0.999);
    assert_true(fabs(chance - f32) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_non_finite),
        cmocka_unit_test(test_every_kind_converges),
        cmocka_unit_test(test_small_steps_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
