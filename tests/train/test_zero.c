/* What ranks exchange of a step (optim/zero.h): every stage, on 2 to 5 ranks, with numbers whose
 * sums are exact. */
#include "tests/support/support.h"

#include "optim/zero.h"

#include "core/threads.h"
#include "tests/support/fake_ranks.h"

enum { LAYERS = 4, LANES = 12, ROWS = LAYERS * 2 + 3, MOST_GRADS = LANES };

struct task {
    int stage;
    bool in_order, bf16;
    int64_t bucket_bytes;
};

struct world {
    struct lcl_params params;
    struct lcl_arena values, grads;
    float *grad[MOST_GRADS];
    struct lcl_exec exec;
    struct lcl_zero zero;
    struct lcl_zero_sum sum;
};

/* Two rows a layer, and three of no layer, one of which does not move. */
static lcl_status make_table(struct world *w, const struct task *task, const struct lcl_comm *c)
{
    lcl_params_init(&w->params);
    w->params.bf16 = task->bf16;
    for (int i = 0; i < ROWS; i++) {
        char name[64];
        int index;
        const int64_t shape[] = {i % 2 ? 3 : 70, 401 + 16 * i};
        const struct lcl_param_spec spec = {
            .part = i == ROWS - 1 ? LCL_PART_PROJECTOR : LCL_PART_TEXT, .f32 = i % 2};
        if (i < 2 * LAYERS)
            snprintf(name, sizeof name, "model.layers.%d.row%d", i / 2, i % 2);
        else
            snprintf(name, sizeof name, "row%d", i);
        LCL_TRY(lcl_params_add(&w->params, name, 2, shape, spec, &index));
    }
    w->params.rows[2 * LAYERS + 1].trainable = false;
    if (task->stage > 0) {
        w->params.share_rank = c->rank;
        w->params.share_ranks = c->size;
    }
    lcl_arena_measure(&w->values, "values");
    lcl_params_layout(&w->params, &w->values, NULL, NULL);
    LCL_TRY(lcl_arena_reserve(&w->values, "values", w->values.used_bytes));
    lcl_params_layout(&w->params, &w->values, NULL, NULL);
    lcl_params_place_grads(&w->params);
    const size_t n = w->params.n_grads;
    LCL_TRY(lcl_arena_reserve(&w->grads, "gradients",
                              MOST_GRADS * (n * sizeof(float) + LCL_ARENA_ALIGN)));
    for (int i = 0; i < MOST_GRADS; i++) w->grad[i] = LCL_ARENA_NEW(&w->grads, float, n);
    return test_backend_open(&w->exec);
}

/* Whole numbers: sums of them are exact in any order. */
static float gradient(int row, size_t i, int64_t lane)
{
    return (float)((row * 31 + (int)(i % 97) + (int)lane * 7) % 64 - 20);
}

static void fill_lane(struct world *w, float *grad, int64_t lane)
{
    for (int r = 0; r < ROWS; r++) {
        const struct lcl_param *p = &w->params.rows[r];
        for (size_t i = 0; lcl_param_moves(p) && i < p->count; i++)
            grad[p->grad_at + i] = gradient(r, i, lane);
    }
}

/* Forth through the layers, and back, as a pass that asks for values goes. */
static lcl_status walk(struct world *w)
{
    for (int l = 0; l < LAYERS; l++) {
        LCL_TRY(lcl_zero_enter(&w->zero, LCL_PART_TEXT, l, false));
        LCL_TRY(lcl_zero_leave(&w->zero, LCL_PART_TEXT, l, false));
    }
    for (int l = LAYERS; l-- > 0;) {
        LCL_TRY(lcl_zero_enter(&w->zero, LCL_PART_TEXT, l, true));
        LCL_TRY(lcl_zero_leave(&w->zero, LCL_PART_TEXT, l, true));
    }
    return LCL_OK;
}

static lcl_status reduce_at_once(struct world *w, int64_t first, int64_t end)
{
    struct lcl_sum_tree tree = {.lanes = LANES};
    struct lcl_zero_sum *s = &w->sum;
    *s = (struct lcl_zero_sum){.grad = w->grad};
    for (int64_t lane = first; lane < end; lane++) {
        int into, from;
        fill_lane(w, w->grad[lane - first], lane);
        lcl_sum_tree_push(&tree, lane, 1, (int)(lane - first));
        while (lcl_sum_tree_merges(&tree, &into, &from) ||
               (lane == end - 1 && !w->zero.o.in_order &&
                lcl_sum_tree_collapses(&tree, &into, &from))) {
            s->into[s->n_merges] = into;
            s->from[s->n_merges++] = from;
        }
    }
    s->n_nodes = tree.n;
    for (int i = 0; i < tree.n; i++) s->node[i] = tree.node[i].place;
    s->sum = w->grad[s->node[0]];
    LCL_TRY(lcl_zero_expect(&w->zero, 0, s));
    LCL_TRY(walk(w));
    return lcl_zero_reduce(&w->zero);
}

static lcl_status reduce_by_lane(struct world *w, int64_t first, int64_t end)
{
    w->sum = (struct lcl_zero_sum){.grad = w->grad, .sum = w->grad[1]};
    for (int i = 0; i < w->zero.rounds; i++) {
        w->sum.n_nodes = first + i < end;
        w->sum.more = i > 0;
        LCL_TRY(lcl_zero_expect(&w->zero, i, &w->sum));
        if (first + i < end) {
            fill_lane(w, w->grad[0], first + i);
            LCL_TRY(walk(w));
        }
        LCL_TRY(lcl_zero_reduce(&w->zero));
    }
    return LCL_OK;
}

static lcl_status check_sums(struct world *w, const struct task *task, const struct lcl_comm *c)
{
    for (int r = 0; r < ROWS; r++) {
        const struct lcl_param *p = &w->params.rows[r];
        size_t first = (size_t)lcl_comm_cut((int64_t)p->count, c->rank, c->size);
        size_t end = (size_t)lcl_comm_cut((int64_t)p->count, c->rank + 1, c->size);
        if (task->stage == 0) first = 0, end = p->count;
        for (size_t i = first; lcl_param_moves(p) && i < end; i++) {
            float wanted = 0;
            for (int lane = 0; lane < LANES; lane++) wanted += gradient(r, i, lane);
            FAKE_CHECK(w->sum.sum[p->grad_at + i] == wanted);
        }
    }
    return LCL_OK;
}

static float value(int row, size_t i) { return (float)(row * 1000 + (int)(i % 101)); }

/* What layers read of a value. */
static lcl_bf16 narrow(const struct lcl_params *t, const struct lcl_param *p, float x)
{
    lcl_bf16 high;
    uint16_t low;
    if (!lcl_param_is_split(t, p)) return lcl_f32_to_bf16(x);
    lcl_f32_split(&x, 1, &high, &low);
    return high;
}

/* Each rank changes its share; all have it afterwards. */
static lcl_status check_values(struct world *w, const struct task *task, const struct lcl_comm *c)
{
    for (int r = 0; r < ROWS; r++) {
        const struct lcl_param *p = &w->params.rows[r];
        size_t first = (size_t)lcl_comm_cut((int64_t)p->count, c->rank, c->size);
        size_t end = (size_t)lcl_comm_cut((int64_t)p->count, c->rank + 1, c->size);
        if (task->stage == 0) first = 0, end = p->count;
        for (size_t i = first; lcl_param_moves(p) && i < end; i++) {
            float x = value(r, i);
            lcl_bf16 *x16 = lcl_param_value16(&w->params, p);
            lcl_param_put(&w->params, p, i, 1, &x);
            if (x16 && p->f32) x16[i] = lcl_f32_to_bf16(x);
        }
    }
    LCL_TRY(lcl_zero_gather(&w->zero));
    LCL_TRY(lcl_zero_whole(&w->zero));
    for (int r = 0; r < ROWS; r++) {
        const struct lcl_param *p = &w->params.rows[r];
        const lcl_bf16 *x16 = lcl_param_value16(&w->params, p);
        const float *x = lcl_param_value(&w->params, p);
        for (size_t i = 0; lcl_param_moves(p) && i < p->count; i++) {
            if (x) FAKE_CHECK(x[i] == value(r, i));
            if (x16) FAKE_CHECK(x16[i] == narrow(&w->params, p, value(r, i)));
        }
    }
    return LCL_OK;
}

/* Of all ranks: (N-1) P 4 bytes of gradients for each sum that a rank sends; twice in stage 0. */
static lcl_status check_traffic(struct world *w, const struct task *task, struct lcl_comm *c)
{
    uint64_t mine = c->sent_bytes[LCL_TRAFFIC_GRADIENTS];
    uint64_t all[FAKE_RANKS_MOST], gradients = 0, nodes = 0;
    LCL_TRY(lcl_comm_all_gather(c, "bytes", &mine, sizeof mine, all));
    for (int r = 0; r < c->size; r++) {
        struct lcl_sum_node node[LCL_SUM_TREE_DEPTH];
        int64_t first = lcl_lanes_begin(LANES, r, c->size);
        int64_t end = lcl_lanes_begin(LANES, r + 1, c->size);
        gradients += all[r];
        nodes += task->in_order    ? (uint64_t)lcl_sum_tree_nodes(LANES, first, end, node, NULL)
                 : task->stage < 2 ? 1
                                   : (uint64_t)(end - first);
    }
    /* A rank sends all but its own share of each of its sums; shares differ by 256 elements a row.
     */
    const uint64_t P = lcl_params_trainable_count(&w->params), N = (uint64_t)c->size;
    double wanted = 4.0 * (double)P * (double)nodes * (double)(N - 1) / (double)N;
    if (task->stage == 0) wanted += 4.0 * (double)P * (double)(N - 1);
    FAKE_CHECK((double)gradients > 0.99 * wanted && (double)gradients < 1.01 * wanted);
    return LCL_OK;
}

static lcl_status run_rank(struct lcl_comm *c, void *ctx)
{
    const struct task *task = ctx;
    static _Thread_local struct world world;
    struct world *w = &world;
    *w = (struct world){0};
    LCL_TRY(make_table(w, task, c));
    const struct lcl_zero_options o = {.stage = task->stage,
                                       .in_order = task->in_order,
                                       .lanes = LANES,
                                       .bucket_bytes = task->bucket_bytes,
                                       .values = &w->values};
    LCL_TRY(lcl_zero_open(&w->zero, c, &w->exec, &w->params, &o));
    w->zero.grads = &w->grads;
    const int64_t first = lcl_lanes_begin(LANES, c->rank, c->size);
    const int64_t end = lcl_lanes_begin(LANES, c->rank + 1, c->size);
    LCL_TRY(lcl_zero_begin(&w->zero));
    LCL_TRY(w->zero.rounds > 1 ? reduce_by_lane(w, first, end) : reduce_at_once(w, first, end));
    LCL_TRY(check_sums(w, task, c));
    LCL_TRY(check_traffic(w, task, c));
    LCL_TRY(check_values(w, task, c));
    FAKE_CHECK(lcl_zero_close(&w->zero));
    lcl_params_free(&w->params);
    lcl_arena_free(&w->values);
    lcl_arena_free(&w->grads);
    return LCL_OK;
}

static void every_stage_sums_and_hands_out(void **state)
{
    (void)state;
    ASSERT_OK(lcl_threads_start(1));
    for (int n = 2; n <= 5; n++)
        for (int stage = 0; stage < 4; stage++)
            for (int k = 0; k < 4; k++) {
                struct task task = {stage, k % 2, k / 2, k % 2 ? 0 : 200000};
                if (stage == 3 && LANES % n) continue;
                fake_ranks(n, run_rank, &task);
            }
    lcl_threads_stop();
}

static lcl_status refuses(struct lcl_comm *c, void *ctx)
{
    struct world w = {0};
    struct lcl_zero_options o = {.lanes = c->size - 1, .bucket_bytes = 1};
    (void)ctx;
    LCL_TRY(make_table(&w, &(struct task){0}, c));
    FAKE_CHECK(lcl_zero_open(&w.zero, c, &w.exec, &w.params, &o) == LCL_CONFIG);
    FAKE_CHECK(strstr(lcl_error_message(), "lanes: 3 are fewer than 4 ranks"));
    o = (struct lcl_zero_options){.stage = 3, .lanes = c->size + 1, .bucket_bytes = 1};
    FAKE_CHECK(lcl_zero_open(&w.zero, c, &w.exec, &w.params, &o) == LCL_CONFIG);
    FAKE_CHECK(strstr(lcl_error_message(), "zero: 3 needs as many lanes on each rank"));
    lcl_params_free(&w.params);
    lcl_arena_free(&w.values);
    lcl_arena_free(&w.grads);
    return LCL_OK;
}

static void too_few_lanes_are_refused(void **state)
{
    (void)state;
    fake_ranks(4, refuses, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_stage_sums_and_hands_out),
                                       cmocka_unit_test(too_few_lanes_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
