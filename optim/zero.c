#include "optim/zero.h"

#include <stdlib.h>

#include "core/log.h"

/* ---- the plan ---- */

static int by_layer(const struct lcl_params *t, int a, int b)
{
    const struct lcl_param *p = &t->rows[a], *q = &t->rows[b];
    /* The decoder's last layer is the first whose gradients are whole; what lies in no layer is
     * last, since gradients come to it from both ends. */
    if ((p->layer < 0) != (q->layer < 0)) return p->layer < 0 ? 1 : -1;
    if (p->part != q->part) return p->part > q->part ? -1 : 1;
    if (p->layer != q->layer) return p->layer > q->layer ? -1 : 1;
    return a - b;
}

static void sort_rows(struct lcl_zero *z)
{
    for (int i = 1; i < z->n_rows; i++) /* few, and nearly in order */
        for (int k = i; k > 0 && by_layer(z->params, z->row[k - 1], z->row[k]) > 0; k--) {
            int other = z->row[k];
            z->row[k] = z->row[k - 1];
            z->row[k - 1] = other;
        }
}

static bool same_layer(const struct lcl_params *t, int a, int b)
{
    return t->rows[a].part == t->rows[b].part && t->rows[a].layer == t->rows[b].layer;
}

static int64_t own_of(const struct lcl_zero *z, const struct lcl_param *p)
{
    const int n = z->comm->size, r = z->comm->rank;
    return lcl_comm_cut((int64_t)p->count, r + 1, n) - lcl_comm_cut((int64_t)p->count, r, n);
}

static void fill_buckets(struct lcl_zero *z, int64_t bucket_bytes)
{
    struct lcl_bucket *b = NULL;
    for (int i = 0; i < z->n_rows; i++) {
        const struct lcl_param *p = &z->params->rows[z->row[i]];
        bool begins = i == 0 || !same_layer(z->params, z->row[i - 1], z->row[i]);
        if (!b || (begins && b->elements * (int64_t)sizeof(float) >= bucket_bytes)) {
            b = &z->bucket[z->n_buckets++];
            *b = (struct lcl_bucket){.first = i};
        }
        b->n++;
        b->elements += (int64_t)p->count;
        b->own_elements += own_of(z, p);
    }
}

static void list_nodes(struct lcl_zero *z)
{
    for (int r = 0; r < z->comm->size; r++) {
        int64_t first = lcl_lanes_begin(z->lanes, r, z->comm->size);
        int64_t end = lcl_lanes_begin(z->lanes, r + 1, z->comm->size);
        z->n_nodes[r] = lcl_sum_tree_nodes(z->lanes, first, end, z->node[r], NULL);
        if (!z->in_order) {
            z->n_nodes[r] = 1;
            z->node[r][0] = (struct lcl_sum_node){.first = first, .count = end - first};
        }
        z->all_nodes += z->n_nodes[r];
        if (z->n_nodes[r] > z->most_nodes) z->most_nodes = z->n_nodes[r];
    }
}

/* The table's rows that move, and room for what is said of them. */
static lcl_status list_rows(struct lcl_zero *z, int64_t bucket_bytes)
{
    const size_t n = (size_t)z->params->n_rows + 1, size = (size_t)z->comm->size;
    z->row = calloc(n, sizeof *z->row);
    z->bucket = calloc(n, sizeof *z->bucket);
    z->n_nodes = calloc(size, sizeof *z->n_nodes);
    z->node = calloc(size, sizeof *z->node);
    if (!z->row || !z->bucket || !z->n_nodes || !z->node)
        return LCL_FAIL(LCL_MEMORY, "no memory for a list of %d rows", z->params->n_rows);
    for (int i = 0; i < z->params->n_rows; i++)
        if (lcl_param_moves(&z->params->rows[i])) z->row[z->n_rows++] = i;
    sort_rows(z);
    fill_buckets(z, bucket_bytes);
    list_nodes(z);
    return LCL_OK;
}

lcl_status lcl_zero_open(struct lcl_zero *z, struct lcl_comm *comm, struct lcl_exec *exec,
                         struct lcl_params *params, int stage, bool in_order, int64_t lanes,
                         int64_t bucket_bytes)
{
    *z = (struct lcl_zero){.comm = comm,
                           .exec = exec,
                           .params = params,
                           .stage = stage,
                           .in_order = in_order,
                           .lanes = lanes};
    if (lanes < comm->size)
        return LCL_FAIL_HINT(LCL_CONFIG, "raise lanes to a multiple of the ranks, or start fewer",
                             "lanes: %lld are fewer than %d ranks", (long long)lanes, comm->size);
    lcl_status status = list_rows(z, bucket_bytes);
    int64_t most = 0, rows = 0;
    for (int i = 0; i < z->n_buckets; i++) {
        if (z->bucket[i].own_elements > most) most = z->bucket[i].own_elements;
        if (z->bucket[i].n > rows) rows = z->bucket[i].n;
    }
    if (status == LCL_OK) {
        const size_t bytes = (size_t)(most * z->all_nodes) * sizeof(float);
        z->cap_messages = (int)rows * comm->size * (z->most_nodes + 2) * 2 + 4;
        z->message = calloc((size_t)z->cap_messages, sizeof *z->message);
        if (!z->message) status = LCL_FAIL(LCL_MEMORY, "no memory for a list of messages");
        if (status == LCL_OK && bytes)
            status = lcl_arena_reserve(&z->arena, "gradients of other ranks", bytes);
        z->arrived = (float *)(void *)z->arena.base;
    }
    if (status != LCL_OK) lcl_zero_close(z);
    return status;
}

void lcl_zero_close(struct lcl_zero *z)
{
    free(z->row);
    free(z->bucket);
    free(z->n_nodes);
    free(z->node);
    free(z->message);
    lcl_arena_free(&z->arena);
    *z = (struct lcl_zero){0};
}

/* ---- messages ---- */

struct sending {
    struct lcl_zero *z;
    int n; /* messages */
    enum lcl_traffic traffic;
};

static lcl_status exchange(struct lcl_comm *c, void *ctx)
{
    struct sending *s = ctx;
    return lcl_comm_exchange(c, s->traffic, s->z->message, s->n);
}

static lcl_status send_and_wait(struct lcl_zero *z, int n, enum lcl_traffic traffic,
                                const char *what)
{
    struct sending s = {z, n, traffic};
    struct lcl_comm_job job = {.run = exchange, .ctx = &s, .what = what};
    double begin = lcl_time_s();
    LCL_TRY(lcl_exec_sync(z->exec)); /* what is sent is there */
    lcl_comm_submit(z->comm, &job);
    lcl_status status = lcl_comm_wait(z->comm, &job);
    z->wait_s += lcl_time_s() - begin;
    return status;
}

/* A row's share of rank r: its elements [*first, *first + n). */
static int64_t share(const struct lcl_zero *z, const struct lcl_param *p, int r, int64_t *first)
{
    const int64_t count = (int64_t)p->count;
    *first = lcl_comm_cut(count, r, z->comm->size);
    return lcl_comm_cut(count, r + 1, z->comm->size) - *first;
}

static void add_message(struct lcl_zero *z, int *n, int peer, bool receive, void *data,
                        int64_t bytes)
{
    if (bytes == 0) return;
    z->message[(*n)++] = (struct lcl_parcel){peer, receive, data, (size_t)bytes};
}

/* ---- gradients ---- */

/* Where node k of all ranks' nodes arrives. */
static float *arrival(const struct lcl_zero *z, const struct lcl_bucket *b, int k)
{
    return z->arrived + (int64_t)k * b->own_elements;
}

static int list_gradients(struct lcl_zero *z, const struct lcl_bucket *b, float *const *grad)
{
    const int me = z->comm->rank;
    int n = 0;
    for (int r = 0, k = 0; r < z->comm->size; r++)
        for (int i = 0; i < z->n_nodes[r]; i++, k++) {
            float *to = arrival(z, b, k);
            for (int j = b->first; r != me && j < b->first + b->n; j++) {
                int64_t first, count = share(z, &z->params->rows[z->row[j]], me, &first);
                add_message(z, &n, r, true, to, count * (int64_t)sizeof(float));
                to += count;
            }
        }
    for (int r = 0; r < z->comm->size; r++)
        for (int i = 0; r != me && i < z->n_nodes[me]; i++)
            for (int j = b->first; j < b->first + b->n; j++) {
                const struct lcl_param *p = &z->params->rows[z->row[j]];
                int64_t first, count = share(z, p, r, &first);
                add_message(z, &n, r, false, grad[i] + p->grad_at + first,
                            count * (int64_t)sizeof(float));
            }
    return n;
}

static lcl_status copy_or_add(struct lcl_zero *z, const float *x, float *y, int64_t count, bool add)
{
    struct lcl_exec *ex = z->exec;
    if (count == 0) return LCL_OK;
    if (add) return ex->ops->add_fwd(ex, &(struct lcl_add_args){count, LCL_F32, LCL_F32, 1, x, y});
    return ex->ops->cast_fwd(ex, &(struct lcl_cast_args){count, LCL_F32, LCL_F32, x, y});
}

/* This rank's share of the bucket's rows, between a buffer of gradients and a place for arrivals.
 */
static lcl_status move_own(struct lcl_zero *z, const struct lcl_bucket *b, float *grad, float *at,
                           bool out)
{
    for (int j = b->first; j < b->first + b->n; j++) {
        const struct lcl_param *p = &z->params->rows[z->row[j]];
        int64_t first, count = share(z, p, z->comm->rank, &first);
        float *row = grad + p->grad_at + first;
        LCL_TRY(copy_or_add(z, out ? row : at, out ? at : row, count, false));
        at += count;
    }
    return LCL_OK;
}

/* Adds up what arrived, and this rank's own, in the order of the lanes; the sum to `sum`. */
static lcl_status add_up(struct lcl_zero *z, const struct lcl_bucket *b, float *const *grad,
                         float *sum)
{
    struct lcl_sum_tree tree = {.lanes = z->lanes};
    int into, from;
    for (int r = 0, k = 0; r < z->comm->size; r++)
        for (int i = 0; i < z->n_nodes[r]; i++, k++) {
            const struct lcl_sum_node *node = &z->node[r][i];
            if (r == z->comm->rank) LCL_TRY(move_own(z, b, grad[i], arrival(z, b, k), true));
            lcl_sum_tree_push(&tree, node->first, node->count, k);
            while (lcl_sum_tree_merges(&tree, &into, &from))
                LCL_TRY(copy_or_add(z, arrival(z, b, from), arrival(z, b, into), b->own_elements,
                                    true));
        }
    while (lcl_sum_tree_collapses(&tree, &into, &from))
        LCL_TRY(copy_or_add(z, arrival(z, b, from), arrival(z, b, into), b->own_elements, true));
    return move_own(z, b, sum, arrival(z, b, tree.node[0].place), false);
}

/* Everybody's share of an array's rows, to all. */
static void list_shares(struct lcl_zero *z, const struct lcl_param *p, void *row, size_t bytes,
                        int *n)
{
    const int me = z->comm->rank;
    int64_t own, own_count = share(z, p, me, &own);
    for (int r = 0; r < z->comm->size; r++) {
        int64_t first, count = share(z, p, r, &first);
        if (r == me) continue;
        add_message(z, n, r, true, (char *)row + (size_t)first * bytes, count * (int64_t)bytes);
        add_message(z, n, r, false, (char *)row + (size_t)own * bytes, own_count * (int64_t)bytes);
    }
}

lcl_status lcl_zero_reduce(struct lcl_zero *z, float *const *grad, float *sum)
{
    for (int i = 0; i < z->n_buckets; i++) {
        const struct lcl_bucket *b = &z->bucket[i];
        LCL_TRY(send_and_wait(z, list_gradients(z, b, grad), LCL_TRAFFIC_GRADIENTS, "gradients"));
        LCL_TRY(add_up(z, b, grad, sum));
        if (z->stage > 0) continue;
        int n = 0;
        for (int j = b->first; j < b->first + b->n; j++) {
            const struct lcl_param *p = &z->params->rows[z->row[j]];
            list_shares(z, p, sum + p->grad_at, sizeof(float), &n);
        }
        LCL_TRY(send_and_wait(z, n, LCL_TRAFFIC_GRADIENTS, "sums of gradients"));
    }
    return LCL_OK;
}

lcl_status lcl_zero_gather(struct lcl_zero *z)
{
    if (z->stage == 0) return LCL_OK;
    for (int i = 0; i < z->n_buckets; i++) {
        const struct lcl_bucket *b = &z->bucket[i];
        int n = 0;
        for (int j = b->first; j < b->first + b->n; j++) {
            const struct lcl_param *p = &z->params->rows[z->row[j]];
            float *value = lcl_param_value(z->params, p);
            lcl_bf16 *value16 = lcl_param_value16(z->params, p);
            if (value) list_shares(z, p, value, sizeof *value, &n);
            if (value16) list_shares(z, p, value16, sizeof *value16, &n);
        }
        LCL_TRY(send_and_wait(z, n, LCL_TRAFFIC_VALUES, "values"));
    }
    return LCL_OK;
}
