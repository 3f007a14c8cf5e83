/* AdamW over the parameter table, global-norm clip, and learning-rate schedules. */
#ifndef LCL_OPTIM_OPTIMIZER_H
#define LCL_OPTIM_OPTIMIZER_H

#include "core/comm.h"
#include "core/config.h"
#include "core/ops.h"
#include "core/param.h"

/* Factor on the peak rates at step (0-based) of n_steps: linear warm-up from 0 (step / warmup),
 * then the schedule's shape down to min_lr_ratio. The cosine is 0.5 (1 + cos(pi (step - warmup) /
 * (n_steps - warmup))), as transformers'. */
double lcl_lr_factor(const struct lcl_config *c, int64_t step, int64_t n_steps);
/* Peak rate of a part: its own where the config gives one. */
double lcl_lr_of_part(const struct lcl_config *c, enum lcl_part part);

struct lcl_update {
    int64_t step;    /* 0-based step of the stage: of the schedule */
    int64_t n_steps; /* of the stage */
    int64_t
        adam_step; /* 1-based count of updates since the moments began: of the bias corrections */
    double grad_norm; /* out, of lcl_optimizer_finish: before the clip */
    double lr;        /* out: the text's rate of this step */
};

/* The rows that move, as the backend gets them. */
struct lcl_optimizer {
    const struct lcl_params *params;
    struct lcl_comm *comm; /* NULL: a single rank */
    bool shares;           /* ranks update their own elements of each row */
    int pieces;            /* that rows are cut in, for the norm */
    int bad_row;           /* the first with a gradient that is not finite, on any rank; -1: none */
    int64_t n;
    struct lcl_segment *segment; /* [n], as are the others: rows, or parts of them */
    int *row;
    int64_t *first; /* element of its row that a segment begins with */
    double *sum;    /* of squares of the gradient */
    int64_t *non_finite;
    struct lcl_arena arena;
    struct lcl_grad_norm *norm; /* the backend's */
};
/* For the rows that are trainable and used now. Ranks that share the table (share_ranks) update
 * their own elements. `pieces`: rows are cut in as many for the norm, so that its rounding does not
 * depend on the number of ranks (that divides them); 1: they are not. */
enum { LCL_OPTIMIZER_PIECES = 192 };
LCL_CHECKED lcl_status lcl_optimizer_open(struct lcl_optimizer *o, const struct lcl_params *t,
                                          struct lcl_comm *comm, int pieces);
void lcl_optimizer_close(struct lcl_optimizer *o);
/* One update of all these rows from the table's grad, without waiting for it. The clip multiplies
 * gradients by min(1, max_norm / (norm + 1e-6)). Where a gradient is not finite the table stays as
 * it is. */
LCL_CHECKED lcl_status lcl_optimizer_update(struct lcl_optimizer *o, struct lcl_exec *ex,
                                            const struct lcl_config *c, struct lcl_update *u);
/* After lcl_exec_sync: the norm; LCL_NUMERIC, naming a parameter, when a gradient was not finite.
 */
LCL_CHECKED lcl_status lcl_optimizer_finish(const struct lcl_optimizer *o, struct lcl_params *t,
                                            struct lcl_update *u);

#endif
