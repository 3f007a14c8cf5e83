/* `lcl train --profile N`: N steps of a run, after a few that warm up. */
#ifndef LCL_TRAIN_PROFILE_RUN_H
#define LCL_TRAIN_PROFILE_RUN_H

#include "train/step.h"

enum { LCL_PROFILE_WARM_UP = 3 }; /* steps before those that are kept */
#define LCL_PROFILE_DIR "profile" /* in output_dir */

struct lcl_profile_run {
    struct lcl_trainer *trainer;
    struct lcl_profile *profile; /* NULL: none, or done */
    int64_t wanted, seen;
    const char *output_dir;
};

/* LCL_RANGE where a stage that has `left` steps to go cannot give `steps` of them. */
LCL_CHECKED lcl_status lcl_profile_run_check(const char *stage, int64_t steps, int64_t left);
/* LCL_EXISTS where output_dir holds a profile, unless it may be written over. */
LCL_CHECKED lcl_status lcl_profile_run_refuse_old(const char *output_dir, bool force);
/* steps 0: nothing is profiled, and the calls below do nothing. output_dir is borrowed. */
LCL_CHECKED lcl_status lcl_profile_run_open(struct lcl_profile_run *r, struct lcl_trainer *t,
                                            int64_t steps, const char *output_dir);
/* Around every step; number: of the run, from 1. The last one kept writes and prints. */
LCL_CHECKED lcl_status lcl_profile_run_before(struct lcl_profile_run *r, int64_t number);
LCL_CHECKED lcl_status lcl_profile_run_after(struct lcl_profile_run *r, int64_t tokens);
/* Writes what there is where the steps ended before their number was full. */
LCL_CHECKED lcl_status lcl_profile_run_end(struct lcl_profile_run *r);
void lcl_profile_run_close(struct lcl_profile_run *r);

#endif
