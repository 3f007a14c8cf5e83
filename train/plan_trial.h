/* A stage tried before it runs: a few of its steps, on values and pictures that are made up and
 * thrown away, tell the time of a step and what libraries keep on this machine. */
#ifndef LCL_TRAIN_PLAN_TRIAL_H
#define LCL_TRAIN_PLAN_TRIAL_H

#include "train/plan.h"

struct lcl_plan_trial {
    int steps;        /* timed; 0: the stage was not tried */
    double cpu_s;     /* processor time of a mean step, all threads; scaled to p->flops */
    double libraries; /* bytes resident afterwards that were not before the first model */
};

/* Up to 40 steps spread over the stage, for 3 s of processor time, each made twice and timed the
 * second time: what a shape needs once (a kernel of oneDNN's) is there by then, as in all but the
 * first steps of a run. Not tried (steps 0): on a GPU, without a pack where the stage needs one,
 * where pictures would have to be opened (more than are kept in memory, jigsaws), and where memory
 * or work are over what a plan should take (1 GiB, 40 GFLOP a step). Nothing is written. e's model
 * is shaped, and is so again afterwards. Errors of the step. */
LCL_CHECKED lcl_status lcl_plan_try(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                                    const struct lcl_plan *p, struct lcl_plan_trial *t);

#endif
