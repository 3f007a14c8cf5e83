/* A run killed at 20 random moments and resumed each time ends as one never stopped. */
#include "tests/support/support.h"

#include "tests/support/kills.h"

static void killed_20_times(void **state)
{
    (void)state;
    static struct kills k;
    kills_set_up(&k, "");
    kills_many(&k, 20, 2);
}

static void killed_20_times_in_bf16(void **state)
{
    (void)state;
    static struct kills k;
    kills_set_up(&k, "bf16: true\nthreads: 2\nlanes: 3\ngradient_accumulation_steps: 2\n"
                     "gradient_checkpointing: true\ndata.queries: 2\n");
    kills_many(&k, 20, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_20_times),
                                       cmocka_unit_test(killed_20_times_in_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
