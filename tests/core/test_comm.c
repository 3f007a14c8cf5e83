/* The communicator over ranks that are threads: collectives, jobs, agreement, failures. */
#include "tests/support/support.h"

#include "core/comm.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fs.h"
#include "tests/support/fake_ranks.h"

static const int sizes[] = {1, 2, 3, 5, 8};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void on_every_size(lcl_status (*run)(struct lcl_comm *c, void *ctx))
{
    for (int i = 0; i < N_SIZES; i++) fake_ranks(sizes[i], run, NULL);
}

static lcl_status gather_everything(struct lcl_comm *c, void *ctx)
{
    const int rank = lcl_comm_rank(c), size = lcl_comm_size(c);
    int32_t mine[3] = {rank, 10 * rank, -rank}, all[3 * FAKE_RANKS_MOST];
    unsigned char text[FAKE_RANKS_MOST], texts[FAKE_RANKS_MOST * FAKE_RANKS_MOST];
    size_t bytes_R[FAKE_RANKS_MOST], at = 0;
    (void)ctx;
    LCL_TRY(lcl_comm_all_gather(c, "numbers", mine, sizeof mine, all));
    for (int r = 0; r < size; r++)
        FAKE_CHECK(all[3 * r] == r && all[3 * r + 1] == 10 * r && all[3 * r + 2] == -r);
    /* Rank r has r bytes: the first has none. */
    for (int r = 0; r < size; r++) bytes_R[r] = (size_t)r;
    if (size == 1) bytes_R[0] = 1;
    memset(text, 'a' + rank, sizeof text);
    LCL_TRY(lcl_comm_all_gather_v(c, "texts", text, bytes_R, texts));
    for (int r = 0; r < size; r++)
        for (size_t k = 0; k < bytes_R[r]; k++) FAKE_CHECK(texts[at++] == 'a' + r);
    LCL_TRY(lcl_comm_barrier(c, "a meeting"));
    for (int root = 0; root < size; root++) {
        int64_t word[2] = {rank, rank};
        LCL_TRY(lcl_comm_broadcast(c, "a word", root, word, sizeof word));
        FAKE_CHECK(word[0] == root && word[1] == root);
    }
    return LCL_OK;
}

static void collectives(void **state)
{
    (void)state;
    on_every_size(gather_everything);
}

static lcl_status know_hosts(struct lcl_comm *c, void *ctx)
{
    (void)ctx;
    FAKE_CHECK(c->local_size == c->size && c->local_rank == c->rank);
    for (int r = 0; r < c->size; r++) FAKE_CHECK(strcmp(c->host[r], c->host[0]) == 0);
    return LCL_OK;
}

static void hosts(void **state)
{
    (void)state;
    fake_ranks(4, know_hosts, NULL);
}

/* ---- jobs ---- */

enum { JOBS = 40, WORDS = 1 << 15 };
struct turn {
    struct lcl_comm_job job;
    int number, *clock; /* jobs that this rank has run */
    uint32_t *out, *in;
};

/* To the next rank, from the one before. */
static lcl_status pass_on(struct lcl_comm *c, void *ctx)
{
    struct turn *t = ctx;
    const size_t bytes = (size_t)t->number * sizeof(uint32_t);
    const int next = (c->rank + 1) % c->size, before = (c->rank + c->size - 1) % c->size;
    const struct lcl_parcel m[] = {{next, false, t->out, bytes}, {before, true, t->in, bytes}};
    FAKE_CHECK(*t->clock == t->number);
    ++*t->clock;
    return lcl_comm_exchange(c, LCL_TRAFFIC_STATES, m, 2);
}

static lcl_status run_turns(struct lcl_comm *c, struct turn *turn, uint32_t *words)
{
    int clock = 0;
    for (int i = 0; i < JOBS; i++) {
        turn[i] = (struct turn){.number = i, .clock = &clock, .out = words, .in = words + WORDS};
        turn[i].in += (size_t)i * JOBS;
        turn[i].job = (struct lcl_comm_job){.run = pass_on, .ctx = &turn[i], .what = "a turn"};
        lcl_comm_submit(c, &turn[i].job);
    }
    LCL_TRY(lcl_comm_wait(c, &turn[JOBS - 1].job));
    const uint32_t before = (uint32_t)((c->rank + c->size - 1) % c->size);
    for (int i = 0; i < JOBS; i++) {
        FAKE_CHECK(lcl_comm_is_done(c, &turn[i].job)); /* in the order they were handed over */
        LCL_TRY(lcl_comm_wait(c, &turn[i].job));
        for (int k = 0; k < i; k++) FAKE_CHECK(turn[i].in[k] == before * 1000 + (uint32_t)k);
    }
    FAKE_CHECK(c->sent_bytes[LCL_TRAFFIC_STATES] == sizeof(uint32_t) * JOBS * (JOBS - 1) / 2);
    FAKE_CHECK(c->sent_bytes[LCL_TRAFFIC_VALUES] == 0);
    return LCL_OK;
}

static lcl_status take_turns(struct lcl_comm *c, void *ctx)
{
    struct turn turn[JOBS];
    uint32_t *words = calloc(2 * WORDS, sizeof *words);
    (void)ctx;
    if (!words) return LCL_FAIL(LCL_MEMORY, "no memory for words");
    for (int k = 0; k < WORDS; k++) words[k] = (uint32_t)(c->rank * 1000 + k);
    lcl_status status = run_turns(c, turn, words);
    free(words);
    return status;
}

static void jobs_in_order(void **state)
{
    (void)state;
    for (int i = 1; i < N_SIZES; i++) fake_ranks(sizes[i], take_turns, NULL);
}

static lcl_status refuse(struct lcl_comm *c, void *ctx)
{
    (void)c, (void)ctx;
    return LCL_FAIL_HINT(LCL_RANGE, "take another", "number 7 is odd");
}

static lcl_status hear_of_it(struct lcl_comm *c, void *ctx)
{
    struct lcl_comm_job job = {.run = refuse, .what = "counting"};
    (void)ctx;
    lcl_comm_submit(c, &job);
    FAKE_CHECK(lcl_comm_wait(c, &job) == LCL_RANGE);
    FAKE_CHECK(strcmp(lcl_error_message(), "counting: number 7 is odd") == 0);
    FAKE_CHECK(strcmp(lcl_error_hint(), "take another") == 0);
    return lcl_comm_barrier(c, "all is well after it");
}

static void errors_of_jobs(void **state)
{
    (void)state;
    fake_ranks(2, hear_of_it, NULL);
}

static lcl_status send_both_kinds(struct lcl_comm *c, void *ctx)
{
    enum lcl_traffic *kind = ctx;
    int32_t out = c->rank, in = -1;
    const struct lcl_parcel m[] = {{1 - c->rank, false, &out, sizeof out},
                                   {1 - c->rank, true, &in, sizeof in}};
    LCL_TRY(lcl_comm_exchange(c, *kind, m, 2));
    FAKE_CHECK(in == 1 - c->rank);
    return LCL_OK;
}

static lcl_status use_second(struct lcl_comm *c, void *ctx)
{
    int sent = 0;
    (void)ctx;
    LCL_TRY(lcl_comm_add_filling(c, fake_second_filling(), NULL));
    for (int k = 0; k < LCL_TRAFFIC_COUNT; k++) {
        enum lcl_traffic kind = (enum lcl_traffic)k;
        struct lcl_comm_job job = {.run = send_both_kinds, .ctx = &kind, .what = "a word"};
        lcl_comm_submit(c, &job);
        LCL_TRY(lcl_comm_wait(c, &job));
        LCL_TRY(lcl_comm_barrier(c, "both have"));
        bool bulk = kind == LCL_TRAFFIC_GRADIENTS || kind == LCL_TRAFFIC_VALUES;
        sent += bulk ? 4 : 0; /* two messages of each rank */
        FAKE_CHECK(fake_second_count() == sent);
        LCL_TRY(lcl_comm_barrier(c, "both have looked"));
    }
    return LCL_OK;
}

static void a_second_filling_moves_what_is_large(void **state)
{
    (void)state;
    fake_ranks(2, use_second, NULL);
}

/* ---- agreement ---- */

static lcl_status agree_on(struct lcl_comm *c, void *ctx)
{
    const int rank = lcl_comm_rank(c), last = lcl_comm_size(c) - 1;
    (void)ctx;
    LCL_TRY(lcl_comm_agree(c, "nothing", LCL_OK));
    for (int first = 0; first <= last; first++) {
        /* All from `first` on fail, each in its own words. */
        lcl_status mine = rank < first
                              ? LCL_OK
                              : LCL_FAIL_HINT(LCL_SHAPE, "look there", "rank %d has no room", rank);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "rank %d has no room", first);
        FAKE_CHECK(lcl_comm_agree(c, "room", mine) == LCL_SHAPE);
        FAKE_CHECK(strcmp(lcl_error_message(), wanted) == 0);
        FAKE_CHECK(strcmp(lcl_error_hint(), "look there") == 0);
    }
    return LCL_OK;
}

static void agreement(void **state)
{
    (void)state;
    on_every_size(agree_on);
}

/* ---- who owns what ---- */

static void cuts(void **state)
{
    static const int64_t counts[] = {0, 1, 255, 256, 257, 5000, 1 << 20, 123456789};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int64_t size = 1; size <= 9; size++) {
            int64_t n = counts[i], most = 0, least = INT64_MAX;
            assert_int_equal(lcl_comm_cut(n, 0, size), 0);
            assert_int_equal(lcl_comm_cut(n, size, size), n);
            for (int64_t r = 0; r < size; r++) {
                int64_t at = lcl_comm_cut(n, r, size), own = lcl_comm_cut(n, r + 1, size) - at;
                assert_true(own >= 0 && (at % 256 == 0 || at == n));
                most = own > most ? own : most;
                least = own < least ? own : least;
                /* Twice as many ranks cut there too. */
                assert_int_equal(at, lcl_comm_cut(n, 2 * r, 2 * size));
            }
            assert_true(most - least <= 2 * 256);
        }
}

/* ---- failures: in a process of their own, which they end ---- */

static lcl_status fail_on_last(struct lcl_comm *c, void *ctx)
{
    (void)ctx;
    lcl_comm_note(c, "step %d, last good checkpoint: checkpoint-%d", 12, 10);
    LCL_TRY(lcl_comm_barrier(c, "all have noted it"));
    if (c->rank == c->size - 1) {
        lcl_status status = LCL_FAIL_HINT(LCL_NUMERIC, "lower learning_rate", "loss is nan");
        if (status != LCL_OK) lcl_comm_fail(c);
    }
    return lcl_comm_barrier(c, "one never comes");
}

static lcl_status stand_still(struct lcl_comm *c, void *ctx)
{
    (void)ctx;
    while (c->rank >= 0) pause();
    return LCL_OK;
}

static lcl_status stop_on_last(struct lcl_comm *c, void *ctx)
{
    struct lcl_comm_job job = {.run = stand_still, .what = "standing still"};
    (void)ctx;
    lcl_comm_note(c, "step %d", 3);
    LCL_TRY(lcl_comm_barrier(c, "all are there"));
    c->pulse_timeout_s = c->rank == 0 ? 1.5 : 60;
    if (c->rank == c->size - 1) {
        lcl_comm_submit(c, &job);
        return lcl_comm_wait(c, &job);
    }
    return lcl_comm_barrier(c, "one never comes");
}

/* What the process said, malloc'd; its exit status must be 1. */
static char *last_words(lcl_status (*run)(struct lcl_comm *c, void *ctx))
{
    char path[300], *text;
    size_t size;
    int status;
    snprintf(path, sizeof path, "%s/said", temp_dir());
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd < 0 || dup2(fd, 2) < 0) _exit(3);
        fake_ranks(3, run, NULL);
        _exit(4);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &text, &size));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
        fail_msg("wait status %x:\n%s", (unsigned)status, text);
    return text;
}

static void a_failure_is_told_once(void **state)
{
    char *text = last_words(fail_on_last), host[64] = "", wanted[300];
    (void)state;
    gethostname(host, sizeof host - 1);
    snprintf(wanted, sizeof wanted,
             "error: rank 2 (%s): loss is nan; step 12, last good checkpoint: checkpoint-10\n"
             "hint: lower learning_rate\n",
             host);
    assert_string_equal(text, wanted);
    free(text);
}

static void a_rank_that_stands_still_is_named(void **state)
{
    char *text = last_words(stop_on_last);
    (void)state;
    if (strncmp(text, "error: rank 2 (", 15) != 0 || !strstr(text, "no sign of life") ||
        !strstr(text, "; step 3\n"))
        fail_msg("it said: %s", text);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives),
        cmocka_unit_test(hosts),
        cmocka_unit_test(jobs_in_order),
        cmocka_unit_test(errors_of_jobs),
        cmocka_unit_test(a_second_filling_moves_what_is_large),
        cmocka_unit_test(agreement),
        cmocka_unit_test(cuts),
        cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(a_rank_that_stands_still_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
