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

static const struct lcl_param *row_at(const struct lcl_zero *z, int i)
{
    return &z->params->rows[z->row[i]];
}

static bool same_layer(const struct lcl_param *p, const struct lcl_param *q)
{
    return p->layer == q->layer && (p->part == q->part || p->layer < 0);
}

/* A row's share of rank r: its elements [*first, *first + n). */
static int64_t share(const struct lcl_zero *z, const struct lcl_param *p, int r, int64_t *first)
{
    const int64_t count = (int64_t)p->count;
    *first = lcl_comm_cut(count, r, z->comm->size);
    return lcl_comm_cut(count, r + 1, z->comm->size) - *first;
}

static void put_in(const struct lcl_zero *z, struct lcl_bucket *b, int i)
{
    int64_t first;
    if (b->n++ == 0) b->first = i;
    b->elements += (int64_t)row_at(z, i)->count;
    b->own_elements += share(z, row_at(z, i), z->comm->rank, &first);
}

static void fill_buckets(struct lcl_zero *z)
{
    for (int i = 0; i < z->n_rows; i++) {
        const struct lcl_param *p = row_at(z, i);
        struct lcl_bucket *b = z->n_buckets ? &z->bucket[z->n_buckets - 1] : NULL;
        bool begins = i == 0 || !same_layer(row_at(z, i - 1), p);
        bool alone = begins && (p->layer < 0 || (i > 0 && row_at(z, i - 1)->part != p->part));
        if (!b || alone || (begins && b->elements * (int64_t)sizeof(float) >= z->o.bucket_bytes))
            b = &z->bucket[z->n_buckets++];
        put_in(z, b, i);
        if (p->part == LCL_PART_TEXT && p->layer >= 0) put_in(z, &z->layer[p->layer], i);
    }
}

int lcl_zero_rounds(int stage, bool in_order, int64_t lanes, int n_ranks)
{
    return stage >= 2 && !in_order ? (int)((lanes + n_ranks - 1) / n_ranks) : 1;
}

/* The sums that each rank sends in a round. */
static void list_nodes(struct lcl_zero *z, int round)
{
    for (int r = 0; r < z->comm->size; r++) {
        int64_t first = lcl_lanes_begin(z->o.lanes, r, z->comm->size);
        int64_t end = lcl_lanes_begin(z->o.lanes, r + 1, z->comm->size);
        if (z->o.in_order) {
            z->n_nodes[r] = lcl_sum_tree_nodes(z->o.lanes, first, end, z->node[r], NULL);
            continue;
        }
        if (z->rounds > 1) first += round, end = first < end ? first + 1 : first;
        z->n_nodes[r] = first < end;
        z->node[r][0] = (struct lcl_sum_node){.first = first, .count = end - first};
    }
}

static int all_nodes(const struct lcl_zero *z)
{
    int n = 0;
    for (int r = 0; r < z->comm->size; r++) n += z->n_nodes[r];
    return n;
}

static int most_nodes(const struct lcl_zero *z)
{
    int most = 0;
    for (int r = 0; r < z->comm->size; r++)
        if (z->n_nodes[r] > most) most = z->n_nodes[r];
    return most;
}

static lcl_status open_slots(struct lcl_zero *z)
{
    int64_t own = 0;
    int rows = 0;
    for (int i = 0; i < z->n_buckets; i++) {
        if (z->bucket[i].own_elements > own) own = z->bucket[i].own_elements;
        if (z->bucket[i].n > rows) rows = z->bucket[i].n;
    }
    const size_t floats = (size_t)own * (size_t)all_nodes(z);
    const size_t bytes = floats * sizeof(float) + LCL_ARENA_ALIGN;
    LCL_TRY(lcl_arena_reserve(&z->arrivals, "gradients of other ranks", LCL_ZERO_SLOTS * bytes));
    for (int i = 0; i < 2 * LCL_ZERO_SLOTS; i++) {
        bool reduces = i < LCL_ZERO_SLOTS;
        struct lcl_zero_slot *s = reduces ? &z->reducing[i] : &z->gathering[i - LCL_ZERO_SLOTS];
        /* of a row: sums from all and to all, or two arrays of values to and from all */
        int sums = all_nodes(z) + most_nodes(z) * z->comm->size, values = 4 * z->comm->size;
        *s = (struct lcl_zero_slot){.zero = z, .what = -1};
        s->parcel = calloc((size_t)(rows * (sums > values ? sums : values)) + 1, sizeof *s->parcel);
        if (!s->parcel) return LCL_FAIL(LCL_MEMORY, "no memory for a list of parcels");
        if (reduces) s->arrived = LCL_ARENA_NEW(&z->arrivals, float, floats);
    }
    return LCL_OK;
}

/* The table's rows that move, and room for what is said of them. */
static lcl_status list_rows(struct lcl_zero *z)
{
    const size_t n = (size_t)z->params->n_rows + 1, size = (size_t)z->comm->size;
    for (int i = 0; i < z->params->n_rows; i++)
        if (z->params->rows[i].part == LCL_PART_TEXT && z->params->rows[i].layer >= z->n_layers)
            z->n_layers = z->params->rows[i].layer + 1;
    z->row = calloc(n, sizeof *z->row);
    z->bucket = calloc(n, sizeof *z->bucket);
    z->layer = calloc((size_t)z->n_layers + 1, sizeof *z->layer);
    z->is_here = calloc((size_t)z->n_layers + 1, sizeof *z->is_here);
    z->n_nodes = calloc(size, sizeof *z->n_nodes);
    z->node = calloc(size, sizeof *z->node);
    if (!z->row || !z->bucket || !z->layer || !z->is_here || !z->n_nodes || !z->node)
        return LCL_FAIL(LCL_MEMORY, "no memory for a list of %d rows", z->params->n_rows);
    for (int i = 0; i < z->params->n_rows; i++)
        if (lcl_param_moves(&z->params->rows[i])) z->row[z->n_rows++] = i;
    for (int i = 0; i <= z->n_layers; i++) z->is_here[i] = true;
    sort_rows(z);
    fill_buckets(z);
    list_nodes(z, 0);
    return open_slots(z);
}

lcl_status lcl_zero_open(struct lcl_zero *z, struct lcl_comm *comm, struct lcl_exec *exec,
                         struct lcl_params *params, const struct lcl_zero_options *o)
{
    *z = (struct lcl_zero){.comm = comm, .exec = exec, .params = params, .o = *o};
    z->rounds = lcl_zero_rounds(o->stage, o->in_order, o->lanes, comm->size);
    if (o->lanes < comm->size)
        return LCL_FAIL_HINT(LCL_CONFIG, "raise lanes to a multiple of the ranks, or start fewer",
                             "lanes: %lld are fewer than %d ranks", (long long)o->lanes,
                             comm->size);
    if (o->stage == 3 && o->lanes % comm->size)
        return LCL_FAIL_HINT(LCL_CONFIG, "make lanes a multiple of the ranks, or set zero: 2",
                             "zero: 3 needs as many lanes on each rank; lanes: %lld on %d ranks",
                             (long long)o->lanes, comm->size);
    lcl_status status = list_rows(z);
    if (status != LCL_OK) (void)lcl_zero_close(z);
    return status;
}

/* After an error the courier may be at work on a slot yet: the job is about to end, and what it
 * reads stays. */
static bool is_at_work(const struct lcl_zero *z)
{
    for (int i = 0; i < LCL_ZERO_SLOTS; i++)
        if ((z->reducing[i].what >= 0 && z->reducing[i].parcel) ||
            (z->gathering[i].what >= 0 && z->gathering[i].parcel))
            return true;
    return false;
}

bool lcl_zero_close(struct lcl_zero *z)
{
    if (is_at_work(z)) return false;
    for (int i = 0; i < LCL_ZERO_SLOTS; i++) {
        free(z->reducing[i].parcel);
        free(z->gathering[i].parcel);
    }
    free(z->row);
    free(z->bucket);
    free(z->layer);
    free(z->is_here);
    free(z->n_nodes);
    free(z->node);
    lcl_arena_free(&z->arrivals);
    *z = (struct lcl_zero){0};
    return true;
}

int64_t lcl_zero_bytes(const struct lcl_zero *z) { return (int64_t)z->arrivals.size_bytes; }

/* ---- parcels ---- */

static lcl_status exchange(struct lcl_comm *c, void *ctx)
{
    struct lcl_zero_slot *s = ctx;
    return lcl_comm_exchange(c, s->traffic, s->parcel, s->n_parcels);
}

static lcl_status send(struct lcl_zero *z, struct lcl_zero_slot *s, enum lcl_traffic traffic,
                       const char *what)
{
    s->traffic = traffic;
    s->job = (struct lcl_comm_job){.run = exchange, .ctx = s, .what = what};
    if (!lcl_comm_waits_for_ops(z->comm)) LCL_TRY(lcl_exec_sync(z->exec));
    lcl_comm_submit(z->comm, &s->job);
    return LCL_OK;
}

static lcl_status await(struct lcl_zero *z, struct lcl_zero_slot *s)
{
    double begin = lcl_time_s();
    lcl_status status = lcl_comm_wait(z->comm, &s->job);
    z->wait_s += lcl_time_s() - begin;
    return status;
}

static void add_parcel(struct lcl_zero_slot *s, int peer, bool receive, void *data, int64_t bytes)
{
    if (bytes == 0) return;
    s->parcel[s->n_parcels++] = (struct lcl_parcel){peer, receive, data, (size_t)bytes};
}

/* Everybody's share of an array's row, to all. */
static void list_shares(struct lcl_zero_slot *s, const struct lcl_param *p, void *row, size_t bytes)
{
    struct lcl_zero *z = s->zero;
    const int me = z->comm->rank;
    int64_t own, own_count = share(z, p, me, &own);
    for (int r = 0; r < z->comm->size; r++) {
        int64_t first, count = share(z, p, r, &first);
        if (r == me) continue;
        add_parcel(s, r, true, (char *)row + (size_t)first * bytes, count * (int64_t)bytes);
        add_parcel(s, r, false, (char *)row + (size_t)own * bytes, own_count * (int64_t)bytes);
    }
}

/* Gives back the pages of a row's array that hold nothing of this rank's share; of all of it. */
static void shed(const struct lcl_zero *z, const struct lcl_arena *arena, const struct lcl_param *p,
                 void *row, size_t bytes, bool all)
{
    int64_t first, count = all ? 0 : share(z, p, z->comm->rank, &first);
    if (!arena || !row) return;
    if (count == 0) first = 0;
    char *at = row;
    lcl_arena_give_back(arena, at, (size_t)first * bytes);
    lcl_arena_give_back(arena, at + (size_t)(first + count) * bytes,
                        (p->count - (size_t)(first + count)) * bytes);
}

/* ---- gradients ---- */

/* Where node k of all ranks' nodes arrives. */
static float *arrival(const struct lcl_zero_slot *s, int k)
{
    return s->arrived + (int64_t)k * s->zero->bucket[s->what].own_elements;
}

static void list_gradients(struct lcl_zero_slot *s, const struct lcl_bucket *b)
{
    struct lcl_zero *z = s->zero;
    const int me = z->comm->rank;
    for (int r = 0, k = 0; r < z->comm->size; r++)
        for (int i = 0; i < z->n_nodes[r]; i++, k++) {
            float *to = arrival(s, k);
            for (int j = b->first; r != me && j < b->first + b->n; j++) {
                int64_t first, count = share(z, row_at(z, j), me, &first);
                add_parcel(s, r, true, to, count * (int64_t)sizeof(float));
                to += count;
            }
        }
    for (int r = 0; r < z->comm->size; r++)
        for (int i = 0; r != me && i < z->n_nodes[me]; i++)
            for (int j = b->first; j < b->first + b->n; j++) {
                const struct lcl_param *p = row_at(z, j);
                int64_t first, count = share(z, p, r, &first);
                add_parcel(s, r, false, z->sum->grad[z->sum->node[i]] + p->grad_at + first,
                           count * (int64_t)sizeof(float));
            }
}

static lcl_status copy_or_add(struct lcl_zero *z, const float *x, float *y, int64_t count, bool add)
{
    struct lcl_exec *ex = z->exec;
    if (count == 0) return LCL_OK;
    if (add) return ex->ops->add_fwd(ex, &(struct lcl_add_args){count, LCL_F32, LCL_F32, 1, x, y});
    return ex->ops->cast_fwd(ex, &(struct lcl_cast_args){count, LCL_F32, LCL_F32, x, y});
}

/* This rank's share of the bucket's rows: out of a buffer to a place of arrivals, or back. */
static lcl_status take_own(struct lcl_zero *z, const struct lcl_bucket *b, const float *grad,
                           float *at)
{
    for (int j = b->first; j < b->first + b->n; j++) {
        int64_t first, count = share(z, row_at(z, j), z->comm->rank, &first);
        LCL_TRY(copy_or_add(z, grad + row_at(z, j)->grad_at + first, at, count, false));
        at += count;
    }
    return LCL_OK;
}

static lcl_status put_own(struct lcl_zero *z, const struct lcl_bucket *b, const float *at,
                          float *grad, bool add)
{
    for (int j = b->first; j < b->first + b->n; j++) {
        int64_t first, count = share(z, row_at(z, j), z->comm->rank, &first);
        LCL_TRY(copy_or_add(z, at, grad + row_at(z, j)->grad_at + first, count, add));
        at += count;
    }
    return LCL_OK;
}

/* Adds up what arrived, and this rank's own, in the order of the lanes. */
static lcl_status add_up(struct lcl_zero_slot *s)
{
    struct lcl_zero *z = s->zero;
    const struct lcl_bucket *b = &z->bucket[s->what];
    struct lcl_sum_tree tree = {.lanes = z->o.lanes};
    int into, from;
    for (int r = 0, k = 0; r < z->comm->size; r++)
        for (int i = 0; i < z->n_nodes[r]; i++, k++) {
            const struct lcl_sum_node *node = &z->node[r][i];
            if (r == z->comm->rank)
                LCL_TRY(take_own(z, b, z->sum->grad[z->sum->node[i]], arrival(s, k)));
            lcl_sum_tree_push(&tree, node->first, node->count, k);
            while (lcl_sum_tree_merges(&tree, &into, &from))
                LCL_TRY(copy_or_add(z, arrival(s, from), arrival(s, into), b->own_elements, true));
        }
    while (lcl_sum_tree_collapses(&tree, &into, &from))
        LCL_TRY(copy_or_add(z, arrival(s, from), arrival(s, into), b->own_elements, true));
    return put_own(z, b, arrival(s, tree.node[0].place), z->sum->sum, z->sum->more);
}

/* Buffers that this rank's sums were made in. */
static void shed_bucket(struct lcl_zero *z, const struct lcl_bucket *b)
{
    const struct lcl_zero_sum *sum = z->sum;
    for (int i = 0; i < sum->n_merges + sum->n_nodes; i++) {
        float *grad = sum->grad[i < sum->n_merges ? sum->from[i] : sum->node[i - sum->n_merges]];
        for (int j = b->first; j < b->first + b->n; j++)
            shed(z, z->grads, row_at(z, j), grad + row_at(z, j)->grad_at, sizeof(float),
                 grad != sum->sum);
    }
}

static bool sheds_gradients(const struct lcl_zero *z)
{
    return z->o.stage >= 2 && z->grads && z->grads->base && z->grads->memory->give_back;
}

static lcl_status finish_bucket(struct lcl_zero_slot *s)
{
    struct lcl_zero *z = s->zero;
    if (s->what < 0) return LCL_OK;
    LCL_TRY(await(z, s));
    LCL_TRY(add_up(s));
    if (sheds_gradients(z)) {
        LCL_TRY(lcl_exec_sync(z->exec));
        shed_bucket(z, &z->bucket[s->what]);
    }
    s->what = -1;
    return LCL_OK;
}

/* Sums of the bucket's rows on this rank that had to wait for its last lane. */
static lcl_status merge_bucket(struct lcl_zero *z, const struct lcl_bucket *b)
{
    const struct lcl_zero_sum *s = z->sum;
    for (int i = 0; i < s->n_merges; i++)
        for (int j = b->first; j < b->first + b->n; j++) {
            const struct lcl_param *p = row_at(z, j);
            LCL_TRY(copy_or_add(z, s->grad[s->from[i]] + p->grad_at,
                                s->grad[s->into[i]] + p->grad_at, (int64_t)p->count, true));
        }
    return LCL_OK;
}

static lcl_status send_bucket(struct lcl_zero *z)
{
    const int number = z->next_bucket++;
    struct lcl_bucket *b = &z->bucket[number];
    struct lcl_zero_slot *s = &z->reducing[number % LCL_ZERO_SLOTS];
    LCL_TRY(finish_bucket(s));
    LCL_TRY(merge_bucket(z, b));
    s->what = number;
    s->n_parcels = 0;
    list_gradients(s, b);
    return send(z, s, LCL_TRAFFIC_GRADIENTS, "gradients");
}

lcl_status lcl_zero_expect(struct lcl_zero *z, int round, const struct lcl_zero_sum *sum)
{
    z->sum = sum;
    z->next_bucket = 0;
    for (int i = 0; i < z->n_buckets; i++) z->bucket[i].n_ready = 0;
    list_nodes(z, round);
    return LCL_OK;
}

static void mark_ready(struct lcl_zero *z, enum lcl_part part, int64_t layer)
{
    for (int i = 0; i < z->n_buckets; i++)
        for (int j = z->bucket[i].first; j < z->bucket[i].first + z->bucket[i].n; j++)
            z->bucket[i].n_ready += row_at(z, j)->part == part && row_at(z, j)->layer == layer;
}

lcl_status lcl_zero_reduce(struct lcl_zero *z)
{
    while (z->next_bucket < z->n_buckets) LCL_TRY(send_bucket(z));
    for (int i = 0; i < LCL_ZERO_SLOTS; i++)
        LCL_TRY(finish_bucket(&z->reducing[(z->next_bucket + i) % LCL_ZERO_SLOTS]));
    for (int i = 0; i < z->n_buckets && z->o.stage == 0; i++) {
        struct lcl_zero_slot *s = &z->gathering[0];
        const struct lcl_bucket *b = &z->bucket[i];
        s->n_parcels = 0;
        for (int j = b->first; j < b->first + b->n; j++)
            list_shares(s, row_at(z, j), z->sum->sum + row_at(z, j)->grad_at, sizeof(float));
        LCL_TRY(send(z, s, LCL_TRAFFIC_GRADIENTS, "sums of gradients"));
        LCL_TRY(await(z, s));
    }
    z->sum = NULL;
    return LCL_OK;
}

/* ---- values ---- */

static lcl_status ask_for_values(struct lcl_zero *z, struct lcl_zero_slot *s,
                                 const struct lcl_bucket *b)
{
    s->n_parcels = 0;
    for (int j = b->first; j < b->first + b->n; j++) {
        const struct lcl_param *p = row_at(z, j);
        float *value = lcl_param_value(z->params, p);
        lcl_bf16 *value16 = lcl_param_value16(z->params, p);
        if (value) list_shares(s, p, value, sizeof *value);
        if (value16) list_shares(s, p, value16, sizeof *value16);
    }
    return send(z, s, LCL_TRAFFIC_VALUES, "values");
}

static bool sheds_values(const struct lcl_zero *z)
{
    return z->o.stage == 3 && z->o.values && z->o.values->memory && z->o.values->memory->give_back;
}

/* Rows of no layer, and of parts that have no layers here. */
static bool is_outside(const struct lcl_param *p)
{
    return p->part != LCL_PART_TEXT || p->layer < 0;
}

static lcl_status gather_rows(struct lcl_zero *z, bool (*of)(const struct lcl_param *))
{
    for (int i = 0; i < z->n_buckets; i++) {
        struct lcl_zero_slot *s = &z->gathering[i % LCL_ZERO_SLOTS];
        if (of && !of(row_at(z, z->bucket[i].first))) continue;
        if (s->what >= 0) LCL_TRY(await(z, s));
        LCL_TRY(ask_for_values(z, s, &z->bucket[i]));
        s->what = i;
    }
    for (int i = 0; i < LCL_ZERO_SLOTS; i++) {
        if (z->gathering[i].what >= 0) LCL_TRY(await(z, &z->gathering[i]));
        z->gathering[i].what = -1;
    }
    return LCL_OK;
}

static void shed_values(struct lcl_zero *z, const struct lcl_bucket *b)
{
    for (int j = b->first; j < b->first + b->n; j++) {
        const struct lcl_param *p = row_at(z, j);
        shed(z, z->o.values, p, lcl_param_value(z->params, p), sizeof(float), false);
        shed(z, z->o.values, p, lcl_param_value16(z->params, p), sizeof(lcl_bf16), false);
    }
}

lcl_status lcl_zero_gather(struct lcl_zero *z)
{
    if (z->o.stage == 0) return LCL_OK;
    if (!sheds_values(z)) return gather_rows(z, NULL);
    z->is_here[z->n_layers] = false;
    for (int i = 0; i < z->n_layers; i++) {
        shed_values(z, &z->layer[i]);
        z->is_here[i] = z->layer[i].n == 0;
    }
    return LCL_OK;
}

lcl_status lcl_zero_begin(struct lcl_zero *z)
{
    if (!sheds_values(z)) return LCL_OK;
    if (!z->is_here[z->n_layers]) LCL_TRY(gather_rows(z, is_outside));
    z->is_here[z->n_layers] = true;
    for (int i = 0; i < z->n_layers; i++) {
        if (z->is_here[i]) shed_values(z, &z->layer[i]);
        z->is_here[i] = z->layer[i].n == 0;
    }
    return LCL_OK;
}

lcl_status lcl_zero_whole(struct lcl_zero *z)
{
    bool all = true;
    for (int i = 0; i <= z->n_layers; i++) all &= z->is_here[i];
    if (all) return LCL_OK;
    LCL_TRY(gather_rows(z, NULL));
    for (int i = 0; i <= z->n_layers; i++) z->is_here[i] = true;
    return LCL_OK;
}

static lcl_status ask_for_layer(struct lcl_zero *z, int64_t layer)
{
    if (layer < 0 || layer >= z->n_layers || z->is_here[layer]) return LCL_OK;
    struct lcl_zero_slot *s = &z->gathering[layer % LCL_ZERO_SLOTS];
    if (s->what == (int)layer) return LCL_OK;
    if (s->what >= 0) LCL_TRY(await(z, s));
    s->what = (int)layer;
    return ask_for_values(z, s, &z->layer[layer]);
}

lcl_status lcl_zero_enter(struct lcl_zero *z, enum lcl_part part, int64_t layer, bool back)
{
    if (!sheds_values(z) || part != LCL_PART_TEXT) return LCL_OK;
    struct lcl_zero_slot *s = &z->gathering[layer % LCL_ZERO_SLOTS];
    LCL_TRY(ask_for_layer(z, layer));
    if (s->what == (int)layer) {
        LCL_TRY(await(z, s));
        s->what = -1;
    }
    z->is_here[layer] = true;
    return ask_for_layer(z, back ? layer - 1 : layer + 1);
}

lcl_status lcl_zero_leave(struct lcl_zero *z, enum lcl_part part, int64_t layer, bool back)
{
    /* The last layer is the first to go back. */
    bool stays = !back && layer == z->n_layers - 1;
    if (sheds_values(z) && part == LCL_PART_TEXT && !stays && z->layer[layer].n > 0) {
        LCL_TRY(lcl_exec_sync(z->exec));
        shed_values(z, &z->layer[layer]);
        z->is_here[layer] = false;
    }
    if (!back || !z->sum) return LCL_OK;
    mark_ready(z, part, layer);
    while (z->next_bucket < z->n_buckets &&
           z->bucket[z->next_bucket].n_ready == z->bucket[z->next_bucket].n)
        LCL_TRY(send_bucket(z));
    return LCL_OK;
}
