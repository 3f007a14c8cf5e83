#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

double lcl_lr_factor(const struct lcl_config *c, int64_t step, int64_t n_steps)
{
    int64_t warmup =
        c->warmup_steps > 0 ? c->warmup_steps : (int64_t)ceil(c->warmup_ratio * (double)n_steps);
    if (step < warmup) return (double)step / (double)warmup;
    double rest = n_steps > warmup ? (double)(n_steps - warmup) : 1;
    double at = fmin(1, (double)(step - warmup) / rest), shape = 1;
    switch ((enum lcl_scheduler)c->lr_scheduler_type) {
    case LCL_LR_COSINE:
        shape = 0.5 * (1 + cos(3.141592653589793 * at));
        break;
    case LCL_LR_LINEAR:
        shape = 1 - at;
        break;
    case LCL_LR_CONSTANT:
        return 1;
    case LCL_LR_WSD: {
        double done = n_steps > 0 ? (double)step / (double)n_steps : 0;
        shape = done < c->lr_decay_start ? 1 : (1 - done) / (1 - c->lr_decay_start);
        break;
    }
    }
    return c->min_lr_ratio + (1 - c->min_lr_ratio) * shape;
}

double lcl_lr_of_part(const struct lcl_config *c, enum lcl_part part)
{
    if (part == LCL_PART_PROJECTOR && c->mm_projector_lr > 0) return c->mm_projector_lr;
    if (part == LCL_PART_VISION && c->vision_tower_lr > 0) return c->vision_tower_lr;
    return c->learning_rate;
}

/* ---- rows in segments ---- */

/* A row's part [*first, *end) of piece k of `pieces`, as far as it is rank r's of n; false where it
 * is empty. */
static bool part_of(const struct lcl_param *p, int k, int pieces, int r, int n, int64_t *first,
                    int64_t *end)
{
    const int64_t count = (int64_t)p->count;
    const int64_t own = lcl_comm_cut(count, r, n), own_end = lcl_comm_cut(count, r + 1, n);
    *first = lcl_comm_cut(count, k, pieces);
    *end = lcl_comm_cut(count, k + 1, pieces);
    if (*first < own) *first = own;
    if (*end > own_end) *end = own_end;
    return *first < *end;
}

/* Segments of rank r of n; listed where o has room for them. */
static int64_t cut(struct lcl_optimizer *o, int r, int n, bool list)
{
    const struct lcl_params *t = o->params;
    int64_t segments = 0, first, end;
    for (int i = 0; i < t->n_rows; i++)
        for (int k = 0; lcl_param_moves(&t->rows[i]) && k < o->pieces; k++) {
            if (!part_of(&t->rows[i], k, o->pieces, r, n, &first, &end)) continue;
            if (list) {
                o->row[segments] = i;
                o->first[segments] = first;
                o->segment[segments].count = end - first;
            }
            segments++;
        }
    return segments;
}

static int ranks_of(const struct lcl_optimizer *o)
{
    return o->shares ? o->params->share_ranks : 1;
}

static lcl_status reserve(struct lcl_optimizer *o)
{
    const int n_ranks = ranks_of(o), rank = o->shares ? o->params->share_rank : 0;
    const size_t n = (size_t)cut(o, rank, n_ranks, false) + 1;
    o->segment = calloc(n, sizeof *o->segment);
    o->row = calloc(n, sizeof *o->row);
    o->first = calloc(n, sizeof *o->first);
    o->sum = calloc(n, sizeof *o->sum);
    o->non_finite = calloc(n, sizeof *o->non_finite);
    if (!o->segment || !o->row || !o->first || !o->sum || !o->non_finite)
        return LCL_FAIL(LCL_MEMORY, "no memory for the optimizer's list of %zu segments", n);
    o->n = cut(o, rank, n_ranks, true);
    LCL_TRY(lcl_arena_reserve(&o->arena, "norm of the gradients", LCL_ARENA_ALIGN));
    o->norm = LCL_ARENA_NEW(&o->arena, struct lcl_grad_norm, 1);
    return LCL_OK;
}

lcl_status lcl_optimizer_open(struct lcl_optimizer *o, const struct lcl_params *t,
                              struct lcl_comm *comm, int pieces)
{
    *o = (struct lcl_optimizer){.params = t, .comm = comm, .pieces = pieces};
    o->shares = t->share_ranks > 1;
    lcl_status status = reserve(o);
    if (status != LCL_OK) lcl_optimizer_close(o);
    return status;
}

void lcl_optimizer_close(struct lcl_optimizer *o)
{
    free(o->segment);
    free(o->row);
    free(o->first);
    free(o->sum);
    free(o->non_finite);
    lcl_arena_free(&o->arena);
    *o = (struct lcl_optimizer){0};
}

/* To f32 and back. A call, since gcc 12 at -O2 drops two such conversions where it makes them as
 * one of a vector. */
__attribute__((noinline)) static double rounded(double x) { return (float)x; }

static void *elements(void *x, lcl_dtype dtype, int64_t n)
{
    return (char *)x + (size_t)n * lcl_dtype_bytes(dtype);
}

static void fill_segments(struct lcl_optimizer *o, const struct lcl_config *c, double factor)
{
    const struct lcl_params *t = o->params;
    for (int64_t i = 0; i < o->n; i++) {
        const struct lcl_param *p = &t->rows[o->row[i]];
        const int64_t first = o->first[i], own = first - (int64_t)p->own_first;
        struct lcl_moment m = lcl_param_moment(t, p, false), v = lcl_param_moment(t, p, true);
        float *value = lcl_param_value(t, p);
        lcl_bf16 *value16 = lcl_param_value16(t, p);
        uint16_t *low16 = lcl_param_low16(t, p);
        o->segment[i] =
            (struct lcl_segment){.count = o->segment[i].count,
                                 .grad = t->grad + p->grad_at + first,
                                 .value = value ? value + first : NULL,
                                 .value16 = value16 ? value16 + first : NULL,
                                 .low16 = low16 ? low16 + first : NULL,
                                 .m = elements(m.x, m.dtype, own),
                                 .v = elements(v.x, v.dtype, own),
                                 .state = m.dtype,
                                 .m_scale_B = m.scale_B + own / LCL_SEGMENT_ALIGN,
                                 .v_scale_B = v.scale_B + own / LCL_SEGMENT_ALIGN,
                                 .first = first,
                                 .stream = lcl_hash_string(p->name),
                                 .lr = rounded(factor * lcl_lr_of_part(c, p->part)),
                                 .weight_decay = p->decay ? rounded(c->weight_decay) : 0};
    }
}

/* ---- the norm over ranks ---- */

struct part_sum {
    double sum;
    int64_t non_finite;
};

/* Sums of all ranks' segments in the order of the table, as one rank has them. */
static void add_sums(struct lcl_optimizer *o, const struct part_sum *all, const int64_t *first_R,
                     struct lcl_grad_norm *norm)
{
    const struct lcl_params *t = o->params;
    const int n = ranks_of(o);
    int64_t at[LCL_COMM_MOST], first, end;
    for (int r = 0; r < n; r++) at[r] = first_R[r];
    for (int i = 0; i < t->n_rows; i++)
        for (int r = 0; lcl_param_moves(&t->rows[i]) && r < n; r++)
            for (int k = 0; k < o->pieces; k++) {
                if (!part_of(&t->rows[i], k, o->pieces, r, n, &first, &end)) continue;
                const struct part_sum *s = &all[at[r]++];
                norm->sum += s->sum;
                norm->non_finite += s->non_finite;
                if (s->non_finite && o->bad_row < 0) o->bad_row = i;
            }
}

/* The norm of what all ranks have, in the place of that of this rank's. */
static lcl_status join_norm(struct lcl_optimizer *o, struct lcl_exec *ex, double max_norm)
{
    const int n = ranks_of(o);
    int64_t first_R[LCL_COMM_MOST], total = 0;
    size_t bytes_R[LCL_COMM_MOST];
    for (int r = 0; r < n; r++) {
        int64_t segments = cut(o, r, n, false);
        first_R[r] = total;
        bytes_R[r] = (size_t)segments * sizeof(struct part_sum);
        total += segments;
    }
    LCL_TRY(lcl_exec_sync(ex));
    struct part_sum *all = calloc((size_t)(total + o->n + 1), sizeof *all), *mine = all + total;
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for the norm's %lld parts", (long long)total);
    for (int64_t i = 0; i < o->n; i++) mine[i] = (struct part_sum){o->sum[i], o->non_finite[i]};
    lcl_status status = lcl_comm_all_gather_v(o->comm, "norm of the gradients", mine, bytes_R, all);
    struct lcl_grad_norm norm = {.clip = 1};
    if (status == LCL_OK) add_sums(o, all, first_R, &norm);
    if (max_norm > 0) norm.clip = (float)fmin(1, max_norm / (sqrt(norm.sum) + 1e-6));
    if (status == LCL_OK) *o->norm = norm;
    free(all);
    return status;
}

lcl_status lcl_optimizer_update(struct lcl_optimizer *o, struct lcl_exec *ex,
                                const struct lcl_config *c, struct lcl_update *u)
{
    double factor = lcl_lr_factor(c, u->step, u->n_steps);
    u->lr = factor * lcl_lr_of_part(c, LCL_PART_TEXT);
    fill_segments(o, c, factor);
    LCL_TRY(ex->ops->sumsq_fwd(ex, &(struct lcl_sumsq_args){.N = o->n,
                                                            .segment_N = o->segment,
                                                            .sum_N = o->sum,
                                                            .non_finite_N = o->non_finite,
                                                            .max_norm = c->max_grad_norm,
                                                            .norm = o->norm}));
    o->bad_row = -1;
    if (o->shares) LCL_TRY(join_norm(o, ex, c->max_grad_norm));
    return ex->ops->adamw_fwd(ex, &(struct lcl_adamw_args){.N = o->n,
                                                           .segment_N = o->segment,
                                                           .step = u->adam_step,
                                                           .beta1 = rounded(c->adam_beta1),
                                                           .beta2 = rounded(c->adam_beta2),
                                                           .eps = rounded(c->adam_epsilon),
                                                           .seed = (uint64_t)c->seed,
                                                           .norm = o->norm});
}

static lcl_status refuse(const struct lcl_params *t, int row, int64_t n)
{
    return LCL_FAIL_HINT(LCL_NUMERIC, "lower learning_rate or max_grad_norm, or look for bad data",
                         "the gradient of %s has %lld values that are NaN or infinite",
                         t->rows[row].name, (long long)n);
}

lcl_status lcl_optimizer_finish(const struct lcl_optimizer *o, struct lcl_params *t,
                                struct lcl_update *u)
{
    double total = 0;
    if (o->shares) {
        if (o->norm->non_finite) return refuse(t, o->bad_row, o->norm->non_finite);
        total = o->norm->sum;
    }
    for (int64_t i = 0; i < o->n && !o->shares; i++) {
        total += o->sum[i];
        if (o->non_finite[i] > 0) return refuse(t, o->row[i], o->non_finite[i]);
    }
    u->grad_norm = sqrt(total);
    t->version++;
    return LCL_OK;
}
