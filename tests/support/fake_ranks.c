#include "tests/support/fake_ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/support.h"

enum { FILLINGS = 2, CHANNELS = 2 };

/* One message, as one of the two sides sees it. */
struct op {
    struct op *next;
    int from, to;
    bool receive, done;
    void *data;
    size_t bytes;
};
struct request {
    int n;
    struct op op[];
};
struct side {
    int rank, filling;
};

static struct {
    pthread_mutex_t lock;
    int size, opened, moved_by_second;
    struct op *waiting[FILLINGS][CHANNELS]; /* whose other side is not there yet, oldest first */
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

static lcl_status open_side(void **state, int *rank, int *size, int filling)
{
    struct side *s = malloc(sizeof *s);
    if (!s) return LCL_FAIL(LCL_MEMORY, "no memory for a rank");
    pthread_mutex_lock(&world.lock);
    *rank = filling == 0 ? world.opened++ : *rank;
    *size = world.size;
    pthread_mutex_unlock(&world.lock);
    *s = (struct side){*rank, filling};
    *state = s;
    return LCL_OK;
}

static lcl_status open_first(void **state, int *rank, int *size)
{
    return open_side(state, rank, size, 0);
}

static lcl_status open_second(void **state, int *rank, int *size)
{
    return open_side(state, rank, size, 1);
}

/* Meets the oldest that fits, or waits. */
static void post(struct op **waiting, struct op *op)
{
    struct op **at = waiting;
    for (; *at; at = &(*at)->next) {
        struct op *other = *at;
        if (other->from != op->from || other->to != op->to || other->receive == op->receive)
            continue;
        if (other->bytes != op->bytes) {
            fprintf(stderr, "rank %d sends %d another number of bytes than it expects: %zu, %zu\n",
                    op->from, op->to, op->bytes, other->bytes);
            abort();
        }
        if (op->bytes)
            memcpy(op->receive ? op->data : other->data, op->receive ? other->data : op->data,
                   op->bytes);
        *at = other->next;
        op->done = other->done = true;
        return;
    }
    op->next = NULL;
    *at = op;
}

static lcl_status begin(void *state, enum lcl_channel channel, const struct lcl_parcel *m, int n,
                        void **request)
{
    const struct side *s = state;
    struct request *r = malloc(sizeof *r + (size_t)n * sizeof *r->op);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for %d messages", n);
    r->n = n;
    pthread_mutex_lock(&world.lock);
    for (int i = 0; i < n; i++) {
        r->op[i] = (struct op){.from = m[i].receive ? m[i].peer : s->rank,
                               .to = m[i].receive ? s->rank : m[i].peer,
                               .receive = m[i].receive,
                               .data = m[i].data,
                               .bytes = m[i].bytes};
        post(&world.waiting[s->filling][channel], &r->op[i]);
        world.moved_by_second += s->filling;
    }
    pthread_mutex_unlock(&world.lock);
    *request = r;
    return LCL_OK;
}

static lcl_status test(void *state, void **request)
{
    struct request *r = *request;
    bool done = true;
    (void)state;
    pthread_mutex_lock(&world.lock);
    for (int i = 0; i < r->n; i++) done = done && r->op[i].done;
    pthread_mutex_unlock(&world.lock);
    if (!done) return LCL_OK;
    free(r);
    *request = NULL;
    return LCL_OK;
}

static void end(void *state)
{
    (void)state;
    _exit(EXIT_FAILURE);
}

static void close_side(void *state) { free(state); }

static const struct lcl_filling first = {.name = "fake ranks",
                                         .open = open_first,
                                         .begin = begin,
                                         .test = test,
                                         .abort = end,
                                         .close = close_side};
static const struct lcl_filling second = {.name = "second queues",
                                          .open = open_second,
                                          .begin = begin,
                                          .test = test,
                                          .abort = end,
                                          .close = close_side};

const struct lcl_filling *fake_second_filling(void) { return &second; }

int fake_second_count(void)
{
    pthread_mutex_lock(&world.lock);
    int n = world.moved_by_second;
    pthread_mutex_unlock(&world.lock);
    return n;
}

struct rank {
    pthread_t thread;
    struct lcl_comm comm;
    lcl_status (*run)(struct lcl_comm *c, void *ctx);
    void *ctx;
};

static void check(lcl_status status, const char *what, int rank)
{
    if (status == LCL_OK) return;
    fprintf(stderr, "%s, rank %d: %s (%s)\n", what, rank, lcl_error_message(), lcl_error_where());
    exit(EXIT_FAILURE);
}

static void *live(void *arg)
{
    struct rank *r = arg;
    check(lcl_comm_open(&r->comm, &first), "opening", -1);
    check(r->run(&r->comm, r->ctx), "running", r->comm.rank);
    lcl_comm_close(&r->comm);
    return NULL;
}

void fake_ranks(int n, lcl_status (*run)(struct lcl_comm *c, void *ctx), void *ctx)
{
    struct rank *ranks = calloc((size_t)n, sizeof *ranks);
    assert_non_null(ranks);
    assert_true(n <= FAKE_RANKS_MOST);
    if (n == 1) {
        ASSERT_OK(run(NULL, ctx));
        free(ranks);
        return;
    }
    world.size = n;
    world.opened = world.moved_by_second = 0;
    for (int r = 0; r < n; r++) {
        ranks[r].run = run;
        ranks[r].ctx = ctx;
        assert_int_equal(pthread_create(&ranks[r].thread, NULL, live, &ranks[r]), 0);
    }
    for (int r = 0; r < n; r++) assert_int_equal(pthread_join(ranks[r].thread, NULL), 0);
    for (int f = 0; f < FILLINGS; f++)
        for (int c = 0; c < CHANNELS; c++) assert_null(world.waiting[f][c]);
    free(ranks);
}
