/* A run killed at 100 random moments, while checkpoints are written behind it or not, and resumed
 * each time ends as one never stopped. */
#include "tests/support/support.h"

#include "tests/support/kills.h"

static void killed_100_times(void **state)
{
    (void)state;
    static struct kills k;
    kills_set_up(&k, "");
    kills_many(&k, 100, 3);
}

/* The same where training waits while a checkpoint is written. */
static void killed_40_times_without_snapshots(void **state)
{
    (void)state;
    static struct kills k;
    kills_set_up(&k, "save_async: false\n");
    kills_many(&k, 40, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_100_times),
                                       cmocka_unit_test(killed_40_times_without_snapshots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
