/* What a later stage of a run or an evaluation would refuse, refused before the first step. */
#ifndef LCL_TRAIN_STAGE_CHECK_H
#define LCL_TRAIN_STAGE_CHECK_H

#include "train/env.h"

/* e: its pack and neighbors are open where a stage needs them. LCL_CONFIG and what samplers fail
 * with. */
LCL_CHECKED lcl_status lcl_stages_check(const struct lcl_env *e, const struct lcl_run_config *run);

#endif
