/* Bootstrap over classes: right mean, sensible width, wider where episodes of a class agree, a pure
 * function. */
#include "tests/support/support.h"

#include <math.h>

#include "core/rng.h"
#include "train/stats.h"

enum { N = 2000 };
static uint8_t correct[N];
static int32_t class_of[N];

/* n_classes classes; an episode is right with probability p of its class. */
static void draw(int n_classes, double p_low, double p_high)
{
    struct lcl_rng rng = lcl_rng_stream(7, LCL_RNG_TEST, 0, (uint64_t)n_classes);
    for (int i = 0; i < N; i++) {
        class_of[i] = 1000 - 3 * (i % n_classes); /* any numbers, in no order */
        double p = (i % n_classes) % 2 ? p_low : p_high;
        correct[i] = lcl_rng_uniform(&rng) < p;
    }
}

static void the_interval_holds_the_mean(void **state)
{
    (void)state;
    struct lcl_interval a;
    draw(40, 0.8, 0.8);
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &a));
    double sum = 0;
    for (int i = 0; i < N; i++) sum += correct[i];
    assert_true(fabs(a.mean - sum / N) < 1e-12);
    assert_true(a.low < a.mean && a.mean < a.high);
    /* Classes alike: near the binomial interval of +-1.96 sqrt(p q / N) = 0.0175. */
    assert_true(a.high - a.low > 0.022 && a.high - a.low < 0.050);
}

static void unlike_classes_widen_it(void **state)
{
    (void)state;
    struct lcl_interval alike, unlike;
    draw(40, 0.8, 0.8);
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &alike));
    draw(40, 0.6, 1.0);
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &unlike));
    /* Between classes: standard deviation 0.2, so +-1.96 x 0.2 / sqrt(40) = 0.062 alone. */
    assert_true(unlike.high - unlike.low > 2.5 * (alike.high - alike.low));
    assert_true(unlike.high - unlike.low > 0.10 && unlike.high - unlike.low < 0.15);
}

static void it_is_a_function_of_its_seed(void **state)
{
    (void)state;
    struct lcl_interval a, b, c;
    draw(40, 0.6, 0.9);
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &a));
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &b));
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 2, &c));
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.low != c.low || a.high != c.high);
    assert_true(fabs(a.low - c.low) < 0.01 && fabs(a.high - c.high) < 0.01);
}

static void the_order_of_episodes_is_of_no_matter(void **state)
{
    (void)state;
    struct lcl_interval a, b;
    draw(20, 0.5, 0.9);
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &a));
    for (int i = 0; i < N / 2; i++) {
        uint8_t flag = correct[i];
        int32_t class_i = class_of[i];
        correct[i] = correct[N - 1 - i];
        class_of[i] = class_of[N - 1 - i];
        correct[N - 1 - i] = flag;
        class_of[N - 1 - i] = class_i;
    }
    ASSERT_OK(lcl_stats_bootstrap(correct, class_of, N, 1, &b));
    assert_memory_equal(&a, &b, sizeof a);
}

static void edge_cases(void **state)
{
    (void)state;
    struct lcl_interval a;
    const uint8_t flags[4] = {1, 0, 1, 1}, bad[1] = {2}, ones[3] = {1, 1, 1};
    const int32_t one_class[4] = {5, 5, 5, 5}, classes[3] = {1, 2, 3};
    ASSERT_OK(lcl_stats_bootstrap(flags, one_class, 4, 1, &a)); /* episodes are drawn instead */
    assert_true(a.mean == 0.75 && a.low < 0.75 && a.high == 1);
    ASSERT_OK(lcl_stats_bootstrap(ones, classes, 3, 1, &a));
    assert_true(a.low == 1 && a.high == 1);
    ASSERT_FAILS(lcl_stats_bootstrap(flags, one_class, 0, 1, &a), LCL_RANGE, "0 episodes");
    ASSERT_FAILS(lcl_stats_bootstrap(bad, one_class, 1, 1, &a), LCL_RANGE, "flag 2 of episode 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_holds_the_mean), cmocka_unit_test(unlike_classes_widen_it),
        cmocka_unit_test(it_is_a_function_of_its_seed),
        cmocka_unit_test(the_order_of_episodes_is_of_no_matter), cmocka_unit_test(edge_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
