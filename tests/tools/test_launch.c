/* Many ranks as a user prepares for them: plans of clusters that are not here. */
#include "tests/support/command.h"

#include <jansson.h>
#include <math.h>

#define PAPER "plan configs/paper/2-way.yaml "

static void plans_for_ranks_are_printed(void **state)
{
    (void)state;
    SUCCEEDS(PAPER "--ranks 8 --device h100");
    says("8 ranks on h100 (1 node, ib400), a model, not a result");
    says("lanes: 8, at most 1 a rank");
    says("efficiency");
    says("70 % of 450 GB/s within a node of 8");
    SUCCEEDS(PAPER "--ranks 64 --device h200 --network eth100");
    says("lanes: 8 are fewer than 64 ranks: planned for one a rank, as lanes: 64 has it");
    says("64 ranks on h200 (8 nodes, eth100)");
    SUCCEEDS(PAPER "--ranks 4");
    says("(--device KIND adds times)");
}

static void plans_for_ranks_are_read_by_programs(void **state)
{
    (void)state;
    PRINTS(PAPER "--ranks 4 --json");
    json_t *root = json_loads(output, 0, NULL);
    json_t *stage = json_array_get(json_object_get(root, "stages"), 0);
    json_t *ranks = json_object_get(stage, "ranks"), *zero = json_object_get(ranks, "zero");
    const double trainable = (double)json_integer_value(json_object_get(stage, "trainable"));
    const double sent = json_real_value(json_object_get(json_array_get(zero, 0), "sent_bytes"));
    assert_int_equal(json_integer_value(json_object_get(ranks, "lanes_per_rank")), 2);
    assert_int_equal(json_array_size(zero), 4);
    /* f32 sums, out and back, but for one's own; printed with nine digits */
    assert_true(fabs(sent / (8 * trainable * 3 / 4) - 1) < 1e-8);
    assert_null(json_object_get(json_array_get(zero, 1), "seconds_per_step"));
    json_decref(root);
}

static void plans_for_ranks_are_refused(void **state)
{
    (void)state;
    FAILS("no GPU is called \"h10\"", PAPER "--ranks 4 --device h10");
    FAILS("no network is called \"ib40\"", PAPER "--ranks 4 --device h100 --network ib40");
    FAILS("9 ranks are more than the 8 of a node",
          PAPER "--ranks 9 --device h100 --network nvlink");
    says("hint: name a network: --network ib400");
    FAILS("of a GPU's memory at least; free are 15 GiB",
          PAPER "--ranks 4 --device h100 --gpu-memory 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_for_ranks_are_printed),
        cmocka_unit_test(plans_for_ranks_are_read_by_programs),
        cmocka_unit_test(plans_for_ranks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
