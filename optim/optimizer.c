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

lcl_status lcl_optimizer_open(struct lcl_optimizer *o, const struct lcl_params *t)
{
    *o = (struct lcl_optimizer){.params = t};
    size_t n = (size_t)t->n_rows + 1;
    o->segment = calloc(n, sizeof *o->segment);
    o->row = calloc(n, sizeof *o->row);
    o->sum = calloc(n, sizeof *o->sum);
    o->non_finite = calloc(n, sizeof *o->non_finite);
    lcl_status status = LCL_OK;
    if (!o->segment || !o->row || !o->sum || !o->non_finite)
        status = LCL_FAIL(LCL_MEMORY, "no memory for the optimizer's list of %d rows", t->n_rows);
    if (status == LCL_OK)
        status = lcl_arena_reserve(&o->arena, "norm of the gradients", LCL_ARENA_ALIGN);
    if (status == LCL_OK) o->norm = LCL_ARENA_NEW(&o->arena, struct lcl_grad_norm, 1);
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++)
        if (lcl_param_moves(&t->rows[i])) o->row[o->n++] = i;
    if (status != LCL_OK) lcl_optimizer_close(o);
    return status;
}

void lcl_optimizer_close(struct lcl_optimizer *o)
{
    free(o->segment);
    free(o->row);
    free(o->sum);
    free(o->non_finite);
    lcl_arena_free(&o->arena);
    *o = (struct lcl_optimizer){0};
}

/* To f32 and back. A call, since gcc 12 at -O2 drops two such conversions where it makes them as
 * one of a vector. */
__attribute__((noinline)) static double rounded(double x) { return (float)x; }

static void fill_segments(struct lcl_optimizer *o, const struct lcl_config *c, double factor)
{
    const struct lcl_params *t = o->params;
    for (int64_t i = 0; i < o->n; i++) {
        const struct lcl_param *p = &t->rows[o->row[i]];
        struct lcl_moment m = lcl_param_moment(t, p, false), v = lcl_param_moment(t, p, true);
        o->segment[i] =
            (struct lcl_segment){.count = (int64_t)p->count,
                                 .grad = t->grad + p->grad_at,
                                 .value = lcl_param_value(t, p),
                                 .value16 = lcl_param_value16(t, p),
                                 .low16 = lcl_param_low16(t, p),
                                 .m = m.x,
                                 .v = v.x,
                                 .state = m.dtype,
                                 .m_scale_B = m.scale_B,
                                 .v_scale_B = v.scale_B,
                                 .stream = lcl_hash_string(p->name),
                                 .lr = rounded(factor * lcl_lr_of_part(c, p->part)),
                                 .weight_decay = p->decay ? rounded(c->weight_decay) : 0};
    }
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
    return ex->ops->adamw_fwd(ex, &(struct lcl_adamw_args){.N = o->n,
                                                           .segment_N = o->segment,
                                                           .step = u->adam_step,
                                                           .beta1 = rounded(c->adam_beta1),
                                                           .beta2 = rounded(c->adam_beta2),
                                                           .eps = rounded(c->adam_epsilon),
                                                           .seed = (uint64_t)c->seed,
                                                           .norm = o->norm});
}

lcl_status lcl_optimizer_finish(const struct lcl_optimizer *o, struct lcl_params *t,
                                struct lcl_update *u)
{
    double total = 0;
    for (int64_t i = 0; i < o->n; i++) {
        total += o->sum[i];
        if (o->non_finite[i] > 0)
            return LCL_FAIL_HINT(LCL_NUMERIC,
                                 "lower learning_rate or max_grad_norm, or look for bad data",
                                 "the gradient of %s has %lld values that are NaN or infinite",
                                 t->rows[o->row[i]].name, (long long)o->non_finite[i]);
    }
    u->grad_norm = sqrt(total);
    t->version++;
    return LCL_OK;
}
