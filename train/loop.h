/* A run: the stages of a config one after another, with metrics, checkpoints, evaluation, early
 * ends, signals and resume. */
#ifndef LCL_TRAIN_LOOP_H
#define LCL_TRAIN_LOOP_H

#include "train/step.h"

struct lcl_train_options {
    bool force;         /* the run that output_dir holds is removed once this one can begin */
    const char *resume; /* overrides resume_from_checkpoint: "" no, "auto", or a checkpoint; NULL:
                           the config's */
    int64_t profile;    /* steps to profile: train/profile_run.h; 0: none */
};

/* Trains; *interrupted tells that SIGINT or SIGTERM ended it after a save. LCL_EXISTS when
 * output_dir holds a run and neither resume nor force is given. LCL_NUMERIC names the step and the
 * last good checkpoint. */
LCL_CHECKED lcl_status lcl_train_run(const struct lcl_run_config *run,
                                     const struct lcl_train_options *options, bool *interrupted);

#endif
