/* The tree of sums over lanes: its pieces cover the lanes, whoever holds them, and come to one node
 * whose order of additions no number of ranks changes. */
#include "tests/support/support.h"

#include "core/comm.h"
#include "core/sum_tree.h"

enum { MOST_LANES = 200 };
static const int64_t lane_counts[] = {1, 2, 3, 5, 8, 12, 24, 31, 32, 36, 48, 100, 128, 192, 200};
enum { COUNTS = sizeof lane_counts / sizeof *lane_counts };

/* A sum that remembers how it was made: ((a+b)+c) and (a+(b+c)) differ. */
static uint64_t join(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15ull + b;
    x ^= x >> 29;
    return x * 0xbf58476d1ce4e5b9ull + 1;
}

static void add(uint64_t *sum, int into, int from) { sum[into] = join(sum[into], sum[from]); }

/* All lanes by n holders, each as far as the tree lets it, their nodes then in order by one more.
 */
static uint64_t sum_by(int64_t lanes, int n)
{
    uint64_t sum[MOST_LANES], part[MOST_LANES];
    struct lcl_sum_tree all = {.lanes = lanes};
    int into, from, places = 0;
    int64_t next = 0;
    for (int r = 0; r < n; r++) {
        const int64_t end = lcl_lanes_begin(lanes, r + 1, n);
        struct lcl_sum_tree t = {.lanes = lanes};
        for (int64_t i = lcl_lanes_begin(lanes, r, n); i < end; i++) {
            part[t.n] = (uint64_t)i + 1;
            lcl_sum_tree_push(&t, i, 1, t.n);
            while (lcl_sum_tree_merges(&t, &into, &from)) add(part, into, from);
        }
        for (int k = 0; k < t.n; k++) {
            assert_int_equal(t.node[k].first, next); /* one after another, nothing left out */
            next += t.node[k].count;
            sum[places] = part[t.node[k].place];
            lcl_sum_tree_push(&all, t.node[k].first, t.node[k].count, places++);
            while (lcl_sum_tree_merges(&all, &into, &from)) add(sum, into, from);
        }
    }
    assert_int_equal(next, lanes);
    while (lcl_sum_tree_collapses(&all, &into, &from)) add(sum, into, from);
    assert_int_equal(all.n, 1);
    assert_int_equal(all.node[0].count, lanes);
    return sum[all.node[0].place];
}

static void any_number_of_holders(void **state)
{
    (void)state;
    for (int c = 0; c < COUNTS; c++) {
        const uint64_t alone = sum_by(lane_counts[c], 1);
        for (int n = 2; n <= lane_counts[c]; n++)
            if (sum_by(lane_counts[c], n) != alone)
                fail_msg("%lld lanes on %d ranks are summed in another order than on one",
                         (long long)lane_counts[c], n);
    }
}

/* A power of two of holders that divides the lanes: one node each. */
static void whole_nodes(void **state)
{
    (void)state;
    struct lcl_sum_node node[LCL_SUM_TREE_DEPTH];
    for (int c = 0; c < COUNTS; c++)
        for (int n = 1; lane_counts[c] % n == 0; n *= 2)
            for (int r = 0; r < n; r++)
                assert_int_equal(
                    lcl_sum_tree_nodes(lane_counts[c], lcl_lanes_begin(lane_counts[c], r, n),
                                       lcl_lanes_begin(lane_counts[c], r + 1, n), node, NULL),
                    1);
}

/* Buffers held on the way: the logarithm of the lanes, and those of one group. */
static void depth(void **state)
{
    (void)state;
    struct lcl_sum_node node[LCL_SUM_TREE_DEPTH];
    int most;
    (void)lcl_sum_tree_nodes(1, 0, 1, node, &most);
    assert_int_equal(most, 1);
    (void)lcl_sum_tree_nodes(128, 0, 128, node, &most);
    assert_int_equal(most, 8);
    (void)lcl_sum_tree_nodes((int64_t)1 << 20, 0, (int64_t)1 << 20, node, &most);
    assert_int_equal(most, 21);
    (void)lcl_sum_tree_nodes(24, 0, 24, node, &most);
    assert_in_range(most, 4, 5);
}

/* Shares of a row: whole units of 256, in order, all of it; half of two ranks' is a quarter of
 * four's. */
static void cuts(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 255, 256, 257, 4096, 16576, 1000003};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int64_t n = 1; n <= 64; n++) {
            assert_int_equal(lcl_comm_cut(counts[c], 0, n), 0);
            assert_int_equal(lcl_comm_cut(counts[c], n, n), counts[c]);
            for (int64_t r = 0; r < n; r++) {
                const int64_t cut = lcl_comm_cut(counts[c], r, n);
                assert_true(cut <= lcl_comm_cut(counts[c], r + 1, n));
                assert_true(cut % 256 == 0 || cut == counts[c]);
                assert_int_equal(cut, lcl_comm_cut(counts[c], 2 * r, 2 * n));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_holders),
                                       cmocka_unit_test(whole_nodes), cmocka_unit_test(depth),
                                       cmocka_unit_test(cuts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
