#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

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

/* Rows [first, *end) that take one call: neighbours in the table with the same rate and decay. The
 * gaps between them are zeros in every array and stay zeros. */
static int same_group_end(const struct lcl_params *t, const struct lcl_config *c, int first)
{
    const struct lcl_param *p = &t->rows[first];
    int end = first + 1;
    while (end < t->n_rows && lcl_param_moves(&t->rows[end]) && t->rows[end].decay == p->decay &&
           lcl_lr_of_part(c, t->rows[end].part) == lcl_lr_of_part(c, p->part))
        end++;
    return end;
}

/* What sumsq says of one row. */
struct row_norm {
    double sum;
    int64_t bad;
};

static lcl_status row_norms(struct lcl_exec *ex, const struct lcl_params *t, struct row_norm *r)
{
    lcl_status status = LCL_OK;
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (!lcl_param_moves(p)) continue;
        status =
            ex->ops->sumsq_fwd(ex, &(struct lcl_sumsq_args){(int64_t)p->count, t->grad + p->offset,
                                                            &r[i].sum, &r[i].bad});
    }
    lcl_status waited = lcl_exec_sync(ex); /* in any case: results are on their way to r */
    return status != LCL_OK ? status : waited;
}

/* Norm over the rows that move, each row by the op's fixed tree, rows in table order. */
static lcl_status grad_norm(struct lcl_exec *ex, const struct lcl_params *t, double *norm)
{
    double total = 0;
    struct row_norm *r = calloc((size_t)t->n_rows, sizeof *r);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for %d norms", t->n_rows);
    lcl_status status = row_norms(ex, t, r);
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        total += r[i].sum;
        if (r[i].bad > 0)
            status = LCL_FAIL_HINT(LCL_NUMERIC,
                                   "lower learning_rate or max_grad_norm, or look for bad data",
                                   "the gradient of %s has %lld values that are NaN or infinite",
                                   t->rows[i].name, (long long)r[i].bad);
    }
    free(r);
    LCL_TRY(status);
    *norm = sqrt(total);
    return isfinite(*norm) ? LCL_OK : LCL_FAIL(LCL_NUMERIC, "the gradient norm overflows");
}

lcl_status lcl_optimizer_update(struct lcl_exec *ex, struct lcl_params *t,
                                const struct lcl_config *c, struct lcl_update *u)
{
    LCL_TRY(grad_norm(ex, t, &u->grad_norm));
    double factor = lcl_lr_factor(c, u->step, u->n_steps), clip = 1;
    if (c->max_grad_norm > 0) clip = fmin(1, c->max_grad_norm / (u->grad_norm + 1e-6));
    u->lr = factor * lcl_lr_of_part(c, LCL_PART_TEXT);
    for (int i = 0, end; i < t->n_rows; i = end) {
        const struct lcl_param *p = &t->rows[i];
        end = i + 1;
        if (!lcl_param_moves(p)) continue;
        end = same_group_end(t, c, i);
        const struct lcl_param *last = &t->rows[end - 1];
        LCL_TRY(ex->ops->adamw_fwd(
            ex, &(struct lcl_adamw_args){.count = (int64_t)(last->offset + last->count - p->offset),
                                         .step = u->adam_step,
                                         .lr = (float)(factor * lcl_lr_of_part(c, p->part)),
                                         .beta1 = (float)c->adam_beta1,
                                         .beta2 = (float)c->adam_beta2,
                                         .eps = (float)c->adam_epsilon,
                                         .weight_decay = p->decay ? (float)c->weight_decay : 0,
                                         .grad_scale = (float)clip,
                                         .value = t->value + p->offset,
                                         .grad = t->grad + p->offset,
                                         .m = t->m + p->offset,
                                         .v = t->v + p->offset,
                                         .value16 = t->value16 ? t->value16 + p->offset : NULL}));
    }
    t->version++;
    return LCL_OK;
}
