#include "train/plan_ranks.h"

#include <math.h>
#include <string.h>

#include "core/sum_tree.h"
#include "train/step.h"

/* NVIDIA ConnectX-6, -7 and -8 (200, 400 and 800 Gbit/s), one adapter a GPU as in DGX A100, H100
 * and B200; Ethernet: one adapter a node that its ranks share, or one a GPU (RoCE). */
static const struct lcl_network networks[] = {
    {"ib200", "InfiniBand HDR, 200 Gbit/s a GPU", 25e9},
    {"ib400", "InfiniBand NDR, 400 Gbit/s a GPU", 50e9},
    {"ib800", "InfiniBand XDR, 800 Gbit/s a GPU", 100e9},
    {"roce400", "Ethernet, 400 Gbit/s a GPU", 50e9},
    {"eth100", "Ethernet, 100 Gbit/s a node", 12.5e9 / LCL_GPUS_A_NODE},
    {"eth25", "Ethernet, 25 Gbit/s a node", 3.125e9 / LCL_GPUS_A_NODE},
    {"nvlink", "no network: one node", 0}};
enum { N_NETWORKS = sizeof networks / sizeof *networks };

/* Assumed. */
#define LINK_SHARE 0.7     /* of a link's rate */
#define COLLECTIVE_S 20e-6 /* to begin one */

lcl_status lcl_network_named(const char *name, const struct lcl_network **out)
{
    const char *names[N_NETWORKS];
    for (int i = 0; i < N_NETWORKS; i++) {
        names[i] = networks[i].name;
        *out = &networks[i];
        if (strcmp(name, names[i]) == 0) return LCL_OK;
    }
    const char *near = lcl_nearest_word(name, names, N_NETWORKS);
    return LCL_FAIL_HINT(LCL_CONFIG,
                         near ? near : "ib200, ib400, ib800, roce400, eth100, eth25, nvlink",
                         "no network is called \"%.80s\" here", name);
}

lcl_status lcl_cluster_check(const struct lcl_cluster *k)
{
    if (k->network->bytes > 0 || k->ranks <= LCL_GPUS_A_NODE) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG, "name a network: --network ib400",
                         "%lld ranks are more than the %d of a node, and %s connects no nodes",
                         (long long)k->ranks, LCL_GPUS_A_NODE, k->network->name);
}

struct lcl_cluster lcl_cluster_of(const struct lcl_cluster *k, const struct lcl_config *c)
{
    struct lcl_cluster own = *k;
    own.bucket_bytes = (double)(c->bucket_mb << 20);
    own.deterministic = c->deterministic;
    return own;
}

struct lcl_op_rates lcl_cluster_rates(const struct lcl_gpu_kind *gpu)
{
    if (!gpu) return (struct lcl_op_rates){INFINITY, INFINITY, INFINITY};
    return (struct lcl_op_rates){.bf16 = lcl_gpu_rate(gpu, true),
                                 .f32 = lcl_gpu_rate(gpu, false),
                                 .bytes = lcl_gpu_memory_rate(gpu)};
}

/* Each part goes straight to the rank that wants it, over both kinds of links at once; the rank
 * with the fewest others in its node takes longest. */
double lcl_cluster_seconds(const struct lcl_cluster *k, double bytes)
{
    const double n = (double)k->ranks;
    const int64_t some = k->ranks % LCL_GPUS_A_NODE;
    double near = k->ranks < LCL_GPUS_A_NODE ? n : LCL_GPUS_A_NODE;
    if (k->ranks == 1 || !k->gpu) return 0;
    if (k->ranks > LCL_GPUS_A_NODE && some > 0) near = (double)some;
    const double inside = bytes * (near - 1) / n / (LINK_SHARE * k->gpu->link_bytes);
    const double outside = n > near ? bytes * (n - near) / n / (LINK_SHARE * k->network->bytes) : 0;
    return fmax(inside, outside);
}

/* ---- memory ---- */

/* Passes and buffers of the busiest rank; where gradients leave with each lane, lanes run one after
 * another. */
static struct lcl_step_layout rank_layout(const struct lcl_env *e, const struct lcl_config *c,
                                          const struct lcl_cluster *k, int zero)
{
    struct lcl_env env = *e;
    struct lcl_config own = *c;
    own.lanes = (c->lanes + k->ranks - 1) / k->ranks;
    env.one_at_a_time |= k->ranks > 1 && zero >= 2;
    return lcl_step_layout(&env, &own);
}

/* Each lane's gradients leave, and of their sums a rank keeps its own alone. */
static bool keeps_own_gradients(const struct lcl_cluster *k, int zero)
{
    return k->ranks > 1 && zero >= 2 && !k->deterministic;
}

/* With zero 3: values of other ranks that come for each pass and go again. Those of no layer come
 * once a step. */
static bool is_shed(const struct lcl_unit *u)
{
    return u->part == LCL_PART_TEXT && u->layer >= 0 && u->moved_bytes > 0;
}

static void count_parameters(const struct lcl_plan *p, const struct lcl_schedule *s,
                             const struct lcl_cluster *k, struct lcl_rank_plan *r)
{
    double whole = 0, share = 0, largest = 0;
    r->parameters = p->parameters;
    if (k->ranks == 1 || r->zero < 3) return;
    for (int i = 0; i < s->n_units; i++) {
        if (!is_shed(&s->unit[i])) continue;
        whole += s->unit[i].moved_bytes;
        share += s->unit[i].moved_share;
        largest = fmax(largest, s->unit[i].moved_bytes);
    }
    r->parameters += share - whole + 2 * largest; /* the layer at work, and the next */
}

/* Of rows in no layer a gradient is whole when the pass ends. */
static void count_gradients(const struct lcl_env *e, const struct lcl_config *c,
                            const struct lcl_plan *p, const struct lcl_schedule *s,
                            const struct lcl_cluster *k, struct lcl_rank_plan *r)
{
    const double one = p->gradients / lcl_step_layout(e, c).n_grads;
    double kept = 0, largest = 0;
    for (int i = 0; i < s->n_units; i++) {
        const bool layer = s->unit[i].layer >= 0;
        kept += layer ? s->unit[i].grad_share : s->unit[i].grad_bytes;
        if (layer) largest = fmax(largest, s->unit[i].grad_bytes);
    }
    if (keeps_own_gradients(k, r->zero)) /* the layer at work, and what is on its way */
        r->gradients = fmin(one, kept + largest + fmax(largest, k->bucket_bytes));
    else
        r->gradients = one * rank_layout(e, c, k, r->zero).n_grads;
}

static void count_memory(const struct lcl_env *e, const struct lcl_config *c,
                         const struct lcl_plan *p, const struct lcl_schedule *s,
                         const struct lcl_cluster *k, struct lcl_rank_plan *r)
{
    const struct lcl_params *t = &e->model.params;
    const double passes = rank_layout(e, c, k, r->zero).n_passes;
    count_parameters(p, s, k, r);
    count_gradients(e, c, p, s, k, r);
    r->moments = p->moments;
    if (r->zero > 0) {
        double whole = 0, share = 0;
        for (int i = 0; i < t->n_rows; i++) {
            const double bytes = (double)lcl_param_moment_bytes(t, &t->rows[i]);
            whole += bytes;
            share += bytes * lcl_largest_share((double)t->rows[i].count, k->ranks) /
                     (double)t->rows[i].count;
        }
        if (whole > 0) r->moments *= share / whole;
    }
    r->activations = p->activations * passes / lcl_step_layout(e, c).n_passes;
    r->others = p->evaluation + p->scratch;
    r->total = r->parameters + r->gradients + r->moments + r->activations + r->buckets + r->others;
}

/* ---- a step ---- */

/* A rank's two streams, in seconds since the step began: ops, and collectives one after another. */
struct streams {
    const struct lcl_cluster *k;
    const struct lcl_schedule *s;
    struct lcl_rank_plan *r;
    double ops_s, comm_s;
    double there_s;
    double bucket_bytes; /* gradients of layers that are done, and have not left yet */
    double share;        /* of gradients that a rank clears and adds up */
    double nodes;        /* sums that a rank sends in place of one, in the mean */
    int held;            /* unit whose shed values are here; -1: none */
    int asked;           /* the one on its way, there at there_s */
};

/* One collective of so many bytes, that may begin at `from_s`; its end. */
static double send(struct streams *t, struct lcl_collective *c, double bytes, double from_s)
{
    const struct lcl_cluster *k = t->k;
    const double n = (double)k->ranks;
    if (k->ranks == 1 || bytes == 0) return from_s;
    const double seconds = lcl_cluster_seconds(k, bytes) + (k->gpu ? COLLECTIVE_S : 0);
    c->bytes += bytes * (n - 1) / n;
    c->calls++;
    t->r->comm_s += seconds;
    t->comm_s = fmax(t->comm_s, from_s) + seconds;
    return t->comm_s;
}

/* Gradients, or values that move, of what lies in no layer. */
static double outside(const struct lcl_schedule *s, bool values)
{
    double bytes = 0;
    for (int i = 0; i < s->n_units; i++)
        if (s->unit[i].layer < 0) bytes += values ? s->unit[i].moved_bytes : s->unit[i].grad_bytes;
    return bytes;
}

static void send_gradients(struct streams *t, double bytes)
{
    send(t, &t->r->reduce, t->nodes * bytes, t->ops_s);
    if (t->k->ranks > 1) t->r->buckets = fmax(t->r->buckets, LCL_ZERO_SLOTS * t->nodes * bytes);
}

/* Layers leave once they fill a bucket, what lies in no layer after the last visit. */
static void reduce(struct streams *t, size_t i)
{
    const struct lcl_schedule *s = t->s;
    const struct lcl_unit *u = &s->unit[s->visit[i].unit];
    const bool last = i + 1 == s->n_visits;
    if (s->visit[i].last_gradient && u->layer >= 0) t->bucket_bytes += u->grad_bytes;
    if (t->bucket_bytes >= t->k->bucket_bytes || last) {
        send_gradients(t, t->bucket_bytes);
        t->bucket_bytes = 0;
    }
    if (last) send_gradients(t, outside(s, false));
}

/* Values of a layer come while the one before it works, the first of a pass when it is there. */
static void enter(struct streams *t, size_t i)
{
    const struct lcl_schedule *s = t->s;
    const int unit = s->visit[i].unit;
    if (t->r->zero < 3 || t->k->ranks == 1 || !is_shed(&s->unit[unit])) return;
    if (unit != t->held && unit != t->asked)
        t->there_s = send(t, &t->r->gather, s->unit[unit].moved_bytes, t->ops_s);
    if (unit != t->held) t->ops_s = fmax(t->ops_s, t->there_s);
    t->held = unit;
    t->asked = -1;
    for (size_t j = i + 1; j < s->n_visits; j++) {
        if (!is_shed(&s->unit[s->visit[j].unit])) continue;
        if (s->visit[j].unit == unit) return; /* it stays */
        t->asked = s->visit[j].unit;
        t->there_s = send(t, &t->r->gather, s->unit[t->asked].moved_bytes, t->ops_s);
        return;
    }
}

/* Forward and backward of a batch. */
static void run_batch(struct streams *t, bool reduces)
{
    const struct lcl_schedule *s = t->s;
    t->held = t->asked = -1;
    for (size_t i = 0; i < s->n_visits; i++) {
        enter(t, i);
        t->ops_s += s->visit[i].seconds;
        if (reduces) reduce(t, i);
    }
}

/* What gradients or values come to in buckets, one after another from a moment on; the end. */
static double send_buckets(struct streams *t, struct lcl_collective *c, bool values, double from_s)
{
    const struct lcl_schedule *s = t->s;
    double grads = 0, bytes = 0;
    for (size_t i = 0; i < s->n_visits; i++) {
        const struct lcl_unit *u = &s->unit[s->visit[i].unit];
        if (s->visit[i].last_gradient && u->layer >= 0) {
            grads += u->grad_bytes;
            bytes += values ? u->moved_bytes : u->grad_bytes;
        }
        if (grads < t->k->bucket_bytes && i + 1 < s->n_visits) continue;
        from_s = send(t, c, bytes, from_s);
        grads = bytes = 0;
    }
    return send(t, c, outside(s, values), from_s);
}

static double batch_seconds(const struct lcl_schedule *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n_visits; i++) sum += s->visit[i].seconds;
    return sum;
}

/* n lanes of so many rounds without ranks. */
static double lanes_seconds(const struct streams *t, double n, double rounds)
{
    const struct lcl_schedule *s = t->s;
    return n * (rounds * batch_seconds(s) + t->share * s->clear_s) +
           fmax(0, n - 1) * t->share * s->add_s;
}

/* Ranks whose lanes are no node of the tree of sums send several, where its order counts. */
static double nodes_of_ranks(const struct lcl_cluster *k, int64_t lanes)
{
    struct lcl_sum_node node[LCL_SUM_TREE_DEPTH];
    const int n = (int)k->ranks;
    double nodes = 0;
    if (!k->deterministic) return 1;
    for (int r = 0; r < n; r++)
        nodes += lcl_sum_tree_nodes(lanes, lcl_lanes_begin(lanes, r, n),
                                    lcl_lanes_begin(lanes, r + 1, n), node, NULL);
    return nodes / n;
}

/* Values that move and are not shed. */
static double not_shed(const struct lcl_schedule *s)
{
    double bytes = 0;
    for (int i = 0; i < s->n_units; i++)
        if (!is_shed(&s->unit[i])) bytes += s->unit[i].moved_bytes;
    return bytes;
}

static void count_step(const struct lcl_schedule *s, int64_t rounds, const struct lcl_cluster *k,
                       struct lcl_rank_plan *r)
{
    const bool own = keeps_own_gradients(k, r->zero);
    const double n = (double)k->ranks;
    struct streams t = {
        .k = k, .s = s, .r = r, .share = own ? 1 / n : 1, .nodes = nodes_of_ranks(k, r->lanes)};
    if (r->zero == 3) t.ops_s = send(&t, &r->gather, not_shed(s), 0);
    for (int64_t lane = 0; lane < r->rank_lanes; lane++) {
        const bool last = lane == r->rank_lanes - 1;
        t.ops_s += t.share * s->clear_s;
        for (int64_t round = 0; round < rounds; round++)
            run_batch(&t, round == rounds - 1 && (own || last));
        if (lane > 0) t.ops_s += t.share * s->add_s;
    }
    r->compute_s = lanes_seconds(&t, (double)r->rank_lanes, (double)rounds);
    r->update_s = s->update_s / (r->zero > 0 ? n : 1);
    double end_s = fmax(t.ops_s, t.comm_s);
    if (r->zero == 0) end_s = send_buckets(&t, &r->gather_grads, false, end_s);
    if (k->ranks > 1 && k->gpu) end_s += COLLECTIVE_S; /* norms of all ranks */
    end_s += r->update_s;
    if (r->zero == 1 || r->zero == 2) end_s = send_buckets(&t, &r->gather, true, end_s);
    r->step_s = end_s;
    r->exposed_s = fmax(0, r->step_s - r->compute_s - r->update_s);
    if (r->step_s == 0) return;
    const double even_s = lanes_seconds(&t, (double)r->lanes / n, (double)rounds) + r->update_s;
    r->tokens_per_s = (double)(r->lanes * rounds) * s->tokens / r->step_s;
    r->efficiency = even_s / r->step_s;
}

struct lcl_rank_plan lcl_plan_rank(const struct lcl_env *e, const struct lcl_config *c,
                                   const struct lcl_plan *p, struct lcl_schedule *s,
                                   const struct lcl_cluster *k, int zero)
{
    struct lcl_rank_plan r = {.zero = zero, .lanes = c->lanes > k->ranks ? c->lanes : k->ranks};
    r.rank_lanes = (r.lanes + k->ranks - 1) / k->ranks;
    lcl_schedule_share(s, &e->model.params, k->ranks);
    count_step(s, c->gradient_accumulation_steps, k, &r);
    count_memory(e, c, p, s, k, &r);
    return r;
}
