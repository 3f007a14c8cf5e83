/* Which GPU a rank takes, and what moves its data, over ranks that are threads. */
#include "tests/support/support.h"

#include "cpu/cpu.h"
#include "tests/support/fake_ranks.h"
#include "train/comm_nccl.h"
#include "train/ranks_gpu.h"

static void a_rank_takes_the_gpu_of_its_number(void **state)
{
    (void)state;
    for (int r = 0; r < 8; r++) assert_int_equal(lcl_gpu_of_rank(-1, r, 8), r);
    /* Launchers that show each rank one GPU of its own. */
    for (int r = 0; r < 8; r++) assert_int_equal(lcl_gpu_of_rank(-1, r, 1), 0);
    assert_int_equal(lcl_gpu_of_rank(-1, 9, 8), 1);
    /* What a person asks for is so, even if there is no such GPU: opening it says so. */
    assert_int_equal(lcl_gpu_of_rank(5, 2, 4), 5);
    assert_int_equal(lcl_gpu_of_rank(0, 3, 4), 0);
}

static void two_ranks_of_a_host_are_told_from_two_hosts(void **state)
{
    const char host[4][LCL_HOST_BYTES] = {"a", "b", "a", "b"};
    const char apart[4][LCL_BUS_BYTES] = {"0000:1b:00.0", "0000:1b:00.0", "0000:1c:00.0",
                                          "0000:1c:00.0"};
    const char same[4][LCL_BUS_BYTES] = {"0000:1b:00.0", "0000:1b:00.0", "0000:1c:00.0",
                                         "0000:1b:00.0"};
    int first, second;
    (void)state;
    assert_false(lcl_gpu_is_shared(host, apart, 4, &first, &second));
    assert_false(lcl_gpu_is_shared(host, same, 3, &first, &second));
    assert_true(lcl_gpu_is_shared(host, same, 4, &first, &second));
    assert_int_equal(first, 1);
    assert_int_equal(second, 3);
    assert_false(lcl_gpu_is_shared(host, same, 1, &first, &second));
}

/* Where the GPU of a rank is. */
static const char *bus_of(int rank, int n_gpus)
{
    static const char *const bus[] = {"0000:1b:00.0", "0000:1c:00.0", "0000:1d:00.0"};
    return bus[rank % n_gpus];
}

static lcl_status claim(struct lcl_comm *c, void *ctx)
{
    struct lcl_error e = {.code = LCL_OK};
    bool shared = true;
    (void)ctx;
    LCL_TRY(lcl_gpu_claim(c, bus_of(c->rank, 3), false, &shared));
    FAKE_CHECK(!shared);
    LCL_TRY(lcl_gpu_claim(c, bus_of(c->rank, 2), true, &shared));
    FAKE_CHECK(shared);
    lcl_status status = lcl_gpu_claim(c, bus_of(c->rank, 2), false, &shared);
    lcl_error_save(&e, status);
    FAKE_CHECK(e.code == LCL_CONFIG);
    FAKE_CHECK(strstr(e.message, "ranks 0 and 2, both on "));
    FAKE_CHECK(strstr(e.message, "have one GPU: 0000:1b:00.0"));
    FAKE_CHECK(strstr(e.hint, "share_gpu: true") && strstr(e.hint, "ppr:8:node"));
    return LCL_OK;
}

static void a_shared_gpu_is_refused_by_all(void **state)
{
    bool shared = true;
    (void)state;
    fake_ranks(3, claim, NULL);
    ASSERT_OK(lcl_gpu_claim(NULL, "0000:1b:00.0", false, &shared));
    assert_false(shared);
}

struct ring {
    int64_t out, in;
};

static lcl_status pass_on(struct lcl_comm *c, void *ctx)
{
    struct ring *r = ctx;
    const struct lcl_parcel m[] = {{(c->rank + c->size - 1) % c->size, true, &r->in, sizeof r->in},
                                   {(c->rank + 1) % c->size, false, &r->out, sizeof r->out}};
    return lcl_comm_exchange(c, LCL_TRAFFIC_GRADIENTS, m, 2);
}

static lcl_status share(struct lcl_comm *c, void *ctx)
{
    struct lcl_exec ex = {0};
    const struct lcl_filling *first = c->work;
    (void)ctx;
    LCL_TRY(lcl_cpu_ops(&ex.ops));
    /* Twice: a run may open its device again. */
    for (int turn = 0; turn < 2; turn++) {
        struct ring r = {.out = c->rank + 10 * turn, .in = -1};
        struct lcl_comm_job job = {.run = pass_on, .ctx = &r, .what = "a ring"};
        LCL_TRY(lcl_gpu_attach(c, &ex, true));
        FAKE_CHECK(c->work != first && c->pulse == first);
        lcl_comm_submit(c, &job);
        LCL_TRY(lcl_comm_wait(c, &job));
        FAKE_CHECK(r.in == (c->rank + c->size - 1) % c->size + 10 * turn);
        lcl_gpu_detach(c, &ex);
    }
    FAKE_CHECK(c->sent_bytes[LCL_TRAFFIC_GRADIENTS] == 16);
    return LCL_OK;
}

static void ranks_on_one_gpu_send_through_the_host(void **state)
{
    (void)state;
    fake_ranks(2, share, NULL);
    fake_ranks(3, share, NULL);
}

static void without_nccl_it_is_said(void **state)
{
    struct lcl_exec ex = {0};
    (void)state;
    ASSERT_OK(lcl_gpu_attach(NULL, &ex, false));
    assert_false(lcl_nccl_is_built()); /* tests are not linked with it */
    ASSERT_FAILS(lcl_nccl_add(NULL, &ex), LCL_UNSUPPORTED, "built without NCCL");
    assert_string_equal(lcl_nccl_describe(), "not built in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_takes_the_gpu_of_its_number),
        cmocka_unit_test(two_ranks_of_a_host_are_told_from_two_hosts),
        cmocka_unit_test(a_shared_gpu_is_refused_by_all),
        cmocka_unit_test(ranks_on_one_gpu_send_through_the_host),
        cmocka_unit_test(without_nccl_it_is_said)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
