/* NCCL's filling over a stub of NCCL and CUDA (stub.h), with ranks that are threads. */
#include "tests/support/support.h"

#include "core/comm.h"
#include "core/rng.h"
#include "tests/nccl/stub.h"
#include "tests/support/fake_ranks.h"
#include "train/comm_nccl.h"

enum { JOBS = 24, STEPS = 3, MOST_BYTES = 96 };

/* ---- jobs of random messages ---- */

static uint32_t draw(int job, int step, int from, int to, uint32_t n)
{
    const uint32_t counter[4] = {(uint32_t)job, (uint32_t)step, (uint32_t)from, (uint32_t)to};
    uint32_t out[4];
    lcl_philox(counter, (const uint32_t[2]){7, 7}, out);
    return out[0] % n;
}

/* Bytes of a message; many have none. */
static size_t bytes_of(int job, int step, int from, int to)
{
    if (from == to || draw(job, step, from, to, 3) == 0) return 0;
    return 1 + draw(job, step, to + 32, from, MOST_BYTES);
}

static int value_of(int job, int from) { return 1 + (7 * job + 31 * from) % 250; }

/* A rank's part: what it sends is one block, of one value; what it receives has a place for each
 * rank and step. */
struct part {
    int job;
    unsigned char *out, *in;
};

static lcl_status exchange(struct lcl_comm *c, void *ctx)
{
    const struct part *p = ctx;
    const int me = c->rank, size = c->size;
    for (int step = 0; step < STEPS; step++) {
        struct lcl_parcel m[2 * FAKE_RANKS_MOST];
        int n = 0;
        for (int i = 0; i < size; i++) {
            /* Ranks begin with different peers. */
            const int r = (int)(((uint32_t)i + draw(p->job, step, me, 63, 16)) % (uint32_t)size);
            if (r == me) continue;
            unsigned char *in = p->in + (step * size + r) * MOST_BYTES;
            m[n++] = (struct lcl_parcel){r, true, in, bytes_of(p->job, step, r, me)};
            m[n++] = (struct lcl_parcel){r, false, p->out, bytes_of(p->job, step, me, r)};
        }
        LCL_TRY(
            lcl_comm_exchange(c, p->job % 2 ? LCL_TRAFFIC_GRADIENTS : LCL_TRAFFIC_VALUES, m, n));
    }
    return LCL_OK;
}

static lcl_status check_part(const struct part *p, int me, int size)
{
    for (int step = 0; step < STEPS; step++)
        for (int r = 0; r < size; r++) {
            const size_t bytes = bytes_of(p->job, step, r, me);
            const unsigned char *in = p->in + (step * size + r) * MOST_BYTES;
            for (size_t k = 0; k < MOST_BYTES; k++)
                FAKE_CHECK(in[k] == (k < bytes ? value_of(p->job, r) : 0));
        }
    return LCL_OK;
}

/* All jobs under way at once, each behind the op that makes its block. */
static lcl_status run_jobs(struct lcl_comm *c, struct lcl_exec *ex)
{
    struct part part[JOBS];
    struct lcl_comm_job job[JOBS];
    const size_t in_bytes = (size_t)(STEPS * c->size) * MOST_BYTES;
    for (int j = 0; j < JOBS; j++) {
        void *out, *in;
        FAKE_CHECK(cudaMallocManaged(&out, MOST_BYTES, cudaMemAttachGlobal) == cudaSuccess);
        FAKE_CHECK(cudaMallocManaged(&in, in_bytes, cudaMemAttachGlobal) == cudaSuccess);
        part[j] = (struct part){j, out, in};
        job[j] = (struct lcl_comm_job){.run = exchange, .ctx = &part[j], .what = "a job"};
        stub_op_fill(ex, out, value_of(j, c->rank), MOST_BYTES);
        if (c->work == c->pulse || !c->work->fence) stub_op_finish(ex);
        lcl_comm_submit(c, &job[j]);
        if (j % 5 == 4) LCL_TRY(lcl_comm_barrier(c, "control in between"));
    }
    for (int j = 0; j < JOBS; j++) {
        LCL_TRY(lcl_comm_wait(c, &job[j]));
        LCL_TRY(check_part(&part[j], c->rank, c->size));
        cudaFree(part[j].out);
        cudaFree(part[j].in);
    }
    return LCL_OK;
}

/* ---- the messages that another filling is given ---- */

static struct stub_log given[FAKE_RANKS_MOST];

static lcl_status open_recorder(void **state, int *rank, int *size)
{
    (void)state, (void)rank, (void)size;
    return LCL_OK;
}

static lcl_status begin_recorder(void *state, enum lcl_channel channel, const struct lcl_parcel *m,
                                 int n, void **request)
{
    struct lcl_comm *c = state;
    struct stub_log *l = &given[c->rank];
    bool any = false;
    for (int i = 0; i < n; i++) {
        if (!m[i].bytes) continue; /* NCCL is not bothered with those */
        l->m[l->n++] = (struct stub_message){m[i].peer, m[i].receive, m[i].bytes, l->groups};
        any = true;
    }
    l->groups += any;
    return c->pulse->begin(c->pulse_state, channel, m, n, request);
}

static lcl_status test_recorder(void *state, void **request)
{
    struct lcl_comm *c = state;
    return c->pulse->test(c->pulse_state, request);
}

static void end_recorder(void *state) { (void)state; }

static const struct lcl_filling recorder = {.name = "recorder",
                                            .open = open_recorder,
                                            .begin = begin_recorder,
                                            .test = test_recorder,
                                            .abort = end_recorder,
                                            .close = end_recorder};

static lcl_status run_recorded(struct lcl_comm *c, void *ctx)
{
    struct lcl_exec ex;
    (void)ctx;
    stub_device_open(&ex, c->rank);
    LCL_TRY(lcl_comm_add_filling(c, &recorder, c));
    LCL_TRY(run_jobs(c, &ex));
    stub_device_close(&ex);
    return LCL_OK;
}

static lcl_status run_nccl(struct lcl_comm *c, void *ctx)
{
    struct lcl_exec ex;
    (void)ctx;
    stub_device_open(&ex, c->rank);
    LCL_TRY(lcl_nccl_add(c, &ex));
    LCL_TRY(run_jobs(c, &ex));
    lcl_nccl_follow(c, NULL);
    stub_device_close(&ex);
    return LCL_OK;
}

static void the_messages_are_those_of_other_fillings(void **state)
{
    static const int sizes[] = {2, 3, 5, 8};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int size = sizes[i];
        stub_reset();
        memset(given, 0, sizeof given);
        fake_ranks(size, run_recorded, NULL);
        fake_ranks(size, run_nccl, NULL);
        assert_string_equal(stub_fault(), "");
        for (int r = 0; r < size; r++) {
            struct stub_log *l = stub_log_of(r), *g = &given[r];
            /* The first group is the greeting: a message from before, one to the next. */
            assert_int_equal(l->m[0].peer, (r + size - 1) % size);
            assert_int_equal(l->m[1].peer, (r + 1) % size);
            assert_int_equal(l->n, g->n + 2);
            assert_int_equal(l->groups, g->groups + 1);
            assert_true(g->n > JOBS);
            for (int k = 0; k < g->n; k++) {
                const struct stub_message *m = &l->m[k + 2], *want = &g->m[k];
                assert_int_equal(m->peer, want->peer);
                assert_int_equal(m->receive, want->receive);
                assert_int_equal(m->bytes, want->bytes);
                assert_int_equal(m->group, want->group + 1);
            }
        }
        assert_int_equal(stub_count("ncclGroupStart"), stub_count("ncclGroupEnd"));
        assert_int_equal(stub_count("ncclCommInitRankConfig"), size);
        assert_int_equal(stub_count("ncclCommDestroy"), size);
        assert_int_equal(stub_count("ncclCommAbort"), 0);
        assert_int_equal(stub_left(), 0);
    }
}

/* ---- fences ---- */

static lcl_status run_unfenced(struct lcl_comm *c, void *ctx)
{
    struct lcl_exec ex;
    struct lcl_error e = {0};
    stub_device_open(&ex, c->rank);
    LCL_TRY(lcl_nccl_add(c, &ex));
    lcl_nccl_follow(c, NULL);
    void *out, *in;
    FAKE_CHECK(cudaMallocManaged(&out, MOST_BYTES, cudaMemAttachGlobal) == cudaSuccess);
    FAKE_CHECK(cudaMallocManaged(&in, (size_t)(STEPS * c->size) * MOST_BYTES,
                                 cudaMemAttachGlobal) == cudaSuccess);
    struct part p = {1, out, in};
    struct lcl_comm_job job = {.run = exchange, .ctx = &p, .what = "a job"};
    stub_op_fill(&ex, out, value_of(1, c->rank), MOST_BYTES);
    lcl_comm_submit(c, &job);
    LCL_TRY(lcl_comm_wait(c, &job));
    lcl_status status = check_part(&p, c->rank, c->size);
    if (status != LCL_OK) lcl_error_save(&e, status);
    ((bool *)ctx)[c->rank] = status != LCL_OK;
    stub_op_finish(&ex);
    cudaFree(out);
    cudaFree(in);
    stub_device_close(&ex);
    return LCL_OK;
}

/* So the check above sees a fence that is missing. */
static void without_a_fence_old_bytes_arrive(void **state)
{
    bool old[2] = {false, false};
    (void)state;
    stub_reset();
    fake_ranks(2, run_unfenced, old);
    assert_true(old[0] || old[1]);
    assert_int_equal(stub_left(), 0);
}

/* ---- one rank, of which calls fail ---- */

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

static const struct lcl_filling single = {.name = "a single rank",
                                          .open = open_single,
                                          .begin = begin_none,
                                          .test = test_none,
                                          .abort = end_recorder,
                                          .close = end_recorder};

static void single_open(struct lcl_comm *c, struct lcl_exec *ex)
{
    ASSERT_OK(lcl_comm_open(c, &single));
    stub_device_open(ex, 0);
}

static void single_close(struct lcl_comm *c, struct lcl_exec *ex)
{
    stub_fail(NULL, 0);
    lcl_nccl_follow(c, NULL);
    stub_device_close(ex);
    lcl_comm_close(c);
    assert_string_equal(stub_fault(), "");
    assert_int_equal(stub_left(), 0);
}

static void what_fails_is_named(void **state)
{
    static const char *const calls[] = {"cudaSetDevice",
                                        "cudaDeviceGetStreamPriorityRange",
                                        "cudaStreamCreateWithPriority",
                                        "cudaMallocManaged",
                                        "ncclGetUniqueId",
                                        "ncclCommInitRankConfig",
                                        "cudaEventCreate",
                                        "cudaEventRecord",
                                        "cudaStreamWaitEvent",
                                        "cudaPointerGetAttributes",
                                        "ncclCommGetAsyncError",
                                        "ncclGroupStart",
                                        "ncclSend",
                                        "ncclRecv",
                                        "ncclGroupEnd",
                                        "cudaEventQuery"};
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct lcl_comm c;
        struct lcl_exec ex;
        const bool nccl = calls[i][0] == 'n';
        stub_reset();
        single_open(&c, &ex);
        stub_fail(calls[i], 0);
        ASSERT_FAILS(lcl_nccl_add(&c, &ex), nccl ? LCL_IO : LCL_INTERNAL, calls[i]);
        assert_non_null(strstr(lcl_error_message(), nccl ? "a cable was pulled" : "a fault of"));
        assert_non_null(strstr(lcl_error_hint(), nccl ? "NCCL_DEBUG=INFO" : "LCL_CUDA_SYNC=1"));
        single_close(&c, &ex);
    }
}

struct to_itself {
    void *data;
    size_t bytes;
};

static lcl_status send_to_itself(struct lcl_comm *c, void *ctx)
{
    const struct to_itself *t = ctx;
    const struct lcl_parcel m[] = {{0, false, t->data, t->bytes},
                                   {0, true, (char *)t->data + t->bytes, t->bytes}};
    return lcl_comm_exchange(c, LCL_TRAFFIC_GRADIENTS, m, 2);
}

static lcl_status send(struct lcl_comm *c, void *data, size_t bytes)
{
    struct to_itself t = {data, bytes};
    struct lcl_comm_job job = {.run = send_to_itself, .ctx = &t, .what = "gradients of layer 3"};
    lcl_comm_submit(c, &job);
    return lcl_comm_wait(c, &job);
}

static void a_broken_link_is_named(void **state)
{
    struct lcl_comm c;
    struct lcl_exec ex;
    void *data;
    (void)state;
    stub_reset();
    single_open(&c, &ex);
    ASSERT_OK(lcl_nccl_add(&c, &ex));
    assert_int_equal(cudaMallocManaged(&data, 64, cudaMemAttachGlobal), cudaSuccess);
    ASSERT_OK(send(&c, data, 32));
    stub_break_links();
    ASSERT_FAILS(send(&c, data, 32), LCL_IO,
                 "gradients of layer 3: NCCL: remote process exited: NET/Stub : a cable");
    cudaFree(data);
    single_close(&c, &ex);
    /* What is broken is not waited for. */
    assert_int_equal(stub_count("ncclCommAbort"), 1);
    assert_int_equal(stub_count("ncclCommDestroy"), 0);
}

static void memory_of_the_host_is_refused(void **state)
{
    struct lcl_comm c;
    struct lcl_exec ex;
    char data[64];
    (void)state;
    stub_reset();
    single_open(&c, &ex);
    ASSERT_OK(lcl_nccl_add(&c, &ex));
    ASSERT_FAILS(send(&c, data, 32), LCL_INTERNAL,
                 "a message of 32 bytes between ranks 0 and 0 lies in the host's memory");
    single_close(&c, &ex);
    assert_int_equal(stub_count("ncclCommDestroy"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_messages_are_those_of_other_fillings),
        cmocka_unit_test(without_a_fence_old_bytes_arrive), cmocka_unit_test(what_fails_is_named),
        cmocka_unit_test(a_broken_link_is_named), cmocka_unit_test(memory_of_the_host_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
