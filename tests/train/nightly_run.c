/* A run killed at 100 random moments and resumed each time ends as one never stopped. */
#include "tests/support/support.h"

#include "tests/support/kills.h"

static void killed_100_times(void **state)
{
    (void)state;
    static struct kills k;
    kills_set_up(&k, "");
    kills_many(&k, 100, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_100_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
