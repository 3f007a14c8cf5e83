/* The schedule of a step: what a lane does, in order, as the model's own code asks for it, with the
 * costs of core/ops_cost.h. Nothing is computed and no tensor is in memory: the step runs on ops
 * that only count.
 *
 * A unit is what is gathered and reduced together: a layer of the tower, of the Q-Former or of the
 * decoder, or the parameters between such layers (embeddings; last norm and head). A lane visits
 * one unit after another, forth and back; what reads no parameters belongs to the visit before. */
#ifndef LCL_TRAIN_PLAN_SCHEDULE_H
#define LCL_TRAIN_PLAN_SCHEDULE_H

#include "train/plan.h"

struct lcl_unit {
    char name[LCL_PARAM_NAME_BYTES];
    enum lcl_part part;
    int layer;          /* of its part; -1: none */
    double moved_bytes; /* values that steps change, as layers read them: f32, bf16 or both */
    double grad_bytes;  /* gradients, f32 */
    /* The most of each that one of `ranks` ranks owns, where rows are cut at multiples of 256. */
    double moved_share, grad_share;
};

struct lcl_visit {
    int unit;
    double seconds;
    bool last_gradient; /* no later visit of the lane adds to the unit's gradients */
};

/* What ops are counted at. */
struct lcl_op_rates {
    double bf16, f32; /* operations a second, by the dtype of the op; INFINITY: not known */
    double bytes;     /* a second, to and from memory */
};

struct lcl_schedule {
    struct lcl_unit *unit; /* [n_units], owned */
    int n_units;
    int *unit_of_row;        /* [n_rows] */
    struct lcl_visit *visit; /* [n_visits] of one lane, owned */
    size_t n_visits, visits_cap;
    double tokens;   /* of that lane: of those drawn the one nearest to their mean */
    double update_s; /* norm of the gradients and AdamW, of all that moves */
    double clear_s;  /* gradients set to 0 */
    double add_s;    /* gradients added to others */
};

/* Of the stage for which lcl_plan_stage() has made p. Free with lcl_schedule_free(), also after an
 * error. LCL_MEMORY. */
LCL_CHECKED lcl_status lcl_schedule_make(struct lcl_env *e, const struct lcl_config *c,
                                         uint32_t epoch, int64_t batches, const struct lcl_plan *p,
                                         const struct lcl_op_rates *rates, struct lcl_schedule *s);
/* The shares of units for so many ranks. */
void lcl_schedule_share(struct lcl_schedule *s, const struct lcl_params *t, int64_t ranks);
void lcl_schedule_free(struct lcl_schedule *s);
/* The most elements of `count` that one of n ranks owns. */
double lcl_largest_share(double count, int64_t n);

#endif
