/* Which of the ranks is a straggler. */
#include "tests/support/support.h"

#include "train/pace.h"

static struct lcl_pace_summary of(int n, const double *compute_s, const double *wait_s)
{
    struct lcl_pace pace[8];
    for (int r = 0; r < n; r++) pace[r] = (struct lcl_pace){compute_s[r], wait_s[r]};
    return lcl_pace_summarize(pace, n);
}

static void the_slowest_is_named(void **state)
{
    (void)state;
    struct lcl_pace_summary s =
        of(5, (double[]){10, 11, 9, 14, 10}, (double[]){4, 3, 5, 0.25, 4.5});
    assert_int_equal(s.slowest, 3);
    assert_true(s.slowest_s == 14 && s.median.compute_s == 10 && s.median.wait_s == 4);
    assert_true(s.is_straggler);
    s = of(4, (double[]){10, 12, 10.5, 11}, (double[]){2, 0, 1.5, 1});
    assert_int_equal(s.slowest, 1);
    assert_true(s.median.compute_s == 10.75 && s.median.wait_s == 1.25);
    assert_false(s.is_straggler);
}

static void short_steps_have_none(void **state)
{
    (void)state;
    assert_false(of(3, (double[]){0.01, 0.01, 0.1}, (double[]){0, 0, 0}).is_straggler);
    assert_true(of(3, (double[]){0.1, 0.1, 0.21}, (double[]){0, 0, 0}).is_straggler);
    assert_false(of(1, (double[]){5}, (double[]){0}).is_straggler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_slowest_is_named),
                                       cmocka_unit_test(short_steps_have_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
