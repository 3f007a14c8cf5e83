/* Samples dealt to lanes by their tokens: each once, and no rank has much more than another. */
#include "tests/support/support.h"

#include "core/rng.h"
#include "core/sum_tree.h"
#include "train/deal.h"

enum { MOST = 24 * 4 * 8 };

/* The most tokens that one of n_ranks has in one round, over their mean. */
static double worst(const int64_t *tokens, const int64_t *dealt, int64_t lanes, int64_t rounds,
                    int64_t each, int n_ranks)
{
    double all = 0, most = 0;
    for (int64_t i = 0; i < lanes * rounds * each; i++) all += (double)tokens[i];
    for (int r = 0; r < n_ranks; r++) {
        double sum = 0;
        for (int64_t k = 0; k < rounds; k++)
            for (int64_t lane = lcl_lanes_begin(lanes, r, n_ranks);
                 lane < lcl_lanes_begin(lanes, r + 1, n_ranks); lane++)
                for (int64_t i = 0; i < each; i++)
                    sum += (double)tokens[dealt[(k * lanes + lane) * each + i]];
        most = sum > most ? sum : most;
    }
    return most / (all / n_ranks);
}

static void lanes_and_ranks_have_as_many(void **state)
{
    (void)state;
    int64_t tokens[MOST], dealt[MOST], in_order[MOST];
    for (int64_t each = 1; each <= 8; each *= 2) {
        const int64_t lanes = 24, rounds = each == 2 ? 4 : 1, n = lanes * rounds * each;
        struct lcl_rng rng = lcl_rng_stream(3, LCL_RNG_EVAL, 0, (uint64_t)each);
        int seen[MOST] = {0};
        for (int64_t i = 0; i < n; i++) {
            tokens[i] = 40 + lcl_rng_below(&rng, 400);
            in_order[i] = i;
        }
        ASSERT_OK(lcl_deal(tokens, lanes, rounds, each, dealt));
        for (int64_t i = 0; i < n; i++) {
            seen[dealt[i]]++;
            assert_true(i % each == 0 || dealt[i] > dealt[i - 1]);
        }
        for (int64_t i = 0; i < n; i++) assert_int_equal(seen[i], 1);
        for (int ranks = 2; ranks <= 8; ranks *= 2) {
            double before = worst(tokens, in_order, lanes, rounds, each, ranks);
            double after = worst(tokens, dealt, lanes, rounds, each, ranks);
            if (!(after < 1.06 && after < before))
                fail_msg("%d ranks, %d samples a lane: %.3f of the mean, %.3f before", ranks,
                         (int)each, after, before);
        }
        if (each == 8) assert_true(worst(tokens, dealt, lanes, rounds, each, 24) < 1.1);
    }
}

static void equal_ones_and_single_lanes(void **state)
{
    (void)state;
    const int64_t tokens[] = {5, 5, 5, 5}, longest[] = {9, 1, 2, 8};
    int64_t dealt[4];
    ASSERT_OK(lcl_deal(longest, 1, 1, 4, dealt));
    for (int i = 0; i < 4; i++) assert_int_equal(dealt[i], i);
    ASSERT_OK(lcl_deal(longest, 2, 1, 2, dealt)); /* 9 + 1 and 8 + 2 */
    assert_memory_equal(dealt, ((int64_t[]){0, 1, 2, 3}), sizeof dealt);
    ASSERT_OK(lcl_deal(tokens, 4, 1, 1, dealt));
    int64_t sum = dealt[0] + dealt[1] + dealt[2] + dealt[3];
    assert_int_equal(sum, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lanes_and_ranks_have_as_many),
                                       cmocka_unit_test(equal_ones_and_single_lanes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
