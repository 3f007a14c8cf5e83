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

static void table_open(struct table *t)
{
    static const char *const names[] = {"a.weight", "a.bias", "b.weight", "frozen", "b.bias"};
    static const int64_t shapes[][2] = {{33, 257}, {31, 1}, {64, 64}, {100, 1}, {1, 1}};
    *t = (struct table){0};
    test_exec(); /* arenas lie in its memory */
    lcl_params_init(&t->params);
    for (int i = 0; i < 5; i++) {
        int row;
        struct lcl_param_spec spec = {.part = i == 3 ? LCL_PART_VISION : LCL_PART_TEXT,
                                      .init = LCL_INIT_NORMAL,
                                      .init_std = 1,
                                      .decay = shapes[i][1] > 1};
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
        lcl_params_layout(&t->params, &t->values, &t->grads, &t->moments, false);
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
    table_open(&t);
    ASSERT_OK(lcl_optimizer_open(&o, &t.params));
    size_t n = t.params.n_elements, bytes = n * sizeof(float);
    float *before = malloc(3 * bytes);
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
    memcpy(before + n, t.params.m, bytes);
    memcpy(before + 2 * n, t.params.v, bytes);
    t.params.grad[t.params.rows[3].offset] = NAN; /* of a frozen row: nobody looks */
    t.params.grad[t.params.rows[2].offset + 77] = INFINITY;
    u.adam_step = 2;
    ASSERT_FAILS(update(&t, &o, &c, &u), LCL_NUMERIC,
                 "the gradient of b.weight has 1 values that are NaN or infinite");
    assert_memory_equal(before, t.params.value, bytes);
    assert_memory_equal(before + n, t.params.m, bytes);
    assert_memory_equal(before + 2 * n, t.params.v, bytes);
    t.params.grad[t.params.rows[2].offset + 77] = 0;
    ASSERT_OK(update(&t, &o, &c, &u));
    assert_memory_not_equal(before, t.params.value, bytes);
    free(before);
    lcl_optimizer_close(&o);
    table_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_non_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
