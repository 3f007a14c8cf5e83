/* One rank that sends to itself by NCCL: over the stub, and on a GPU over the real library. */
#include "tests/support/support.h"

#include "core/arena.h"
#include "core/comm.h"
#include "tests/nccl/alone.h"
#include "train/comm_nccl.h"

/* Lengths in elements; 24 MiB take longer to upload than to ask for. */
static const int64_t counts[] = {1, 31, 257, 65536, (int64_t)6 << 20};
enum { N_COUNTS = sizeof counts / sizeof *counts, GUARD = 16, ROUNDS = 3 };

static lcl_status open_single(void **state, int *rank, int *size)
{
    *state = NULL;
    *rank = 0, *size = 1;
    return LCL_OK;
}

static lcl_status begin_none(void *state, enum lcl_channel channel, const struct lcl_parcel *m,
                             int n, void **request)
{
    (void)state, (void)channel, (void)m, (void)request;
    return n ? LCL_FAIL(LCL_INTERNAL, "a single rank sends to nobody") : LCL_OK;
}

static lcl_status test_none(void *state, void **request)
{
    (void)state, (void)request;
    return LCL_OK;
}

static void end_none(void *state) { (void)state; }

static const struct lcl_filling single = {.name = "a single rank",
                                          .open = open_single,
                                          .begin = begin_none,
                                          .test = test_none,
                                          .abort = end_none,
                                          .close = end_none};

struct places {
    float *out[N_COUNTS], *in[N_COUNTS];
};

/* All lengths at once, receives in the order of their sends. */
static lcl_status send_all(struct lcl_comm *c, void *ctx)
{
    const struct places *p = ctx;
    struct lcl_parcel m[2 * N_COUNTS];
    for (int i = 0; i < N_COUNTS; i++) {
        const size_t bytes = (size_t)counts[i] * sizeof(float);
        m[2 * i] = (struct lcl_parcel){0, false, p->out[i], bytes};
        m[2 * i + 1] = (struct lcl_parcel){0, true, p->in[i], bytes};
    }
    return lcl_comm_exchange(c, LCL_TRAFFIC_GRADIENTS, m, 2 * N_COUNTS);
}

static float value(int round, int which, int64_t k)
{
    return (float)(round * 100 + which * 10) + (float)(k % 97) / 128;
}

static void go_round(struct lcl_comm *c, struct lcl_exec *ex, struct places *p, float *host,
                     int round)
{
    struct lcl_comm_job job = {.run = send_all, .ctx = p, .what = "all lengths"};
    for (int i = 0; i < N_COUNTS; i++) {
        for (int64_t k = 0; k < counts[i]; k++) host[k] = value(round, i, k);
        ASSERT_OK(alone_upload(ex, host, p->out[i], counts[i]));
    }
    lcl_comm_submit(c, &job);
    ASSERT_OK(lcl_comm_wait(c, &job));
    for (int i = 0; i < N_COUNTS; i++) {
        int64_t wrong = 0;
        for (int64_t k = 0; k < counts[i]; k++) wrong += p->in[i][k] != value(round, i, k);
        assert_int_equal(wrong, 0);
        for (int k = 0; k < GUARD; k++) assert_true(p->in[i][counts[i] + k] == -1);
    }
}

static void what_was_uploaded_arrives(void **state)
{
    struct lcl_comm c;
    struct lcl_exec ex = {0};
    struct lcl_arena a;
    struct places p;
    size_t elements = 0;
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) elements += 2 * (size_t)counts[i] + 2 * GUARD + 64;
    float *host = malloc((size_t)counts[N_COUNTS - 1] * sizeof *host);
    assert_non_null(host);
    ASSERT_OK(alone_open(&ex));
    ASSERT_OK(lcl_arena_reserve(&a, "messages", elements * sizeof(float)));
    for (int i = 0; i < N_COUNTS; i++) {
        p.out[i] = LCL_ARENA_NEW(&a, float, (size_t)counts[i] + GUARD);
        p.in[i] = LCL_ARENA_NEW(&a, float, (size_t)counts[i] + GUARD);
        for (int64_t k = 0; k < counts[i] + GUARD; k++) p.in[i][k] = -1;
    }
    ASSERT_OK(lcl_comm_open(&c, &single));
    ASSERT_OK(lcl_nccl_add(&c, &ex));
    print_message("%s\n", lcl_nccl_describe());
    for (int round = 0; round < ROUNDS; round++) go_round(&c, &ex, &p, host, round);
    lcl_nccl_follow(&c, NULL);
    lcl_comm_close(&c);
    lcl_arena_free(&a);
    alone_close(&ex);
    free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_uploaded_arrives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
