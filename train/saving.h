/* Checkpoints of a run at work: begun after a step, in their place some steps later. */
#ifndef LCL_TRAIN_SAVING_H
#define LCL_TRAIN_SAVING_H

#include "checkpoint/ckpt.h"
#include "train/env.h"

struct lcl_saving {
    struct lcl_checkpoint_saver *saver;
    struct lcl_comm *comm;
    int64_t begun_step;  /* of the newest save; -1: none */
    int64_t saved_step;  /* of the newest checkpoint that is in its place; -1: none */
    int64_t good_step;   /* of the newest one whose parameters gave a finite loss; -1: none */
    int64_t proved_step; /* that such a loss was made from; -1: none */
    double told_s;       /* of lcl_checkpoint_stalled_s(), in metrics */
};

LCL_CHECKED lcl_status lcl_saving_open(struct lcl_saving *s);
/* The newest checkpoint is of this step: a run that goes on from it. */
void lcl_saving_resume(struct lcl_saving *s, int64_t step);
/* Ends the save before it and begins one on all ranks; makes it at once where save_async is false
 * or memory for a snapshot is missing (lcl_env.save_at_once). */
LCL_CHECKED lcl_status lcl_saving_begin(struct lcl_saving *s, const struct lcl_env *e,
                                        const struct lcl_config *c, const struct lcl_run_state *run,
                                        bool is_best);
/* Between two steps, on all ranks: what has been written gets its place. */
LCL_CHECKED lcl_status lcl_saving_poll(struct lcl_saving *s);
/* A step has been made, and its loss was finite: what was saved before it is good. */
void lcl_saving_proved(struct lcl_saving *s);
/* Waits for what is being written, on all ranks. */
LCL_CHECKED lcl_status lcl_saving_finish(struct lcl_saving *s);
/* The same after an error of the run, which is returned: a single rank's checkpoint is finished all
 * the same; ranks no longer meet. */
lcl_status lcl_saving_finish_after(struct lcl_saving *s, lcl_status status);
/* Seconds that training stood still for saves since it was asked last. */
double lcl_saving_stalled_s(struct lcl_saving *s);
void lcl_saving_close(struct lcl_saving *s);

#endif
