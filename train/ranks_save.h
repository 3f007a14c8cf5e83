/* Checkpoints of runs whose ranks share the optimizer's states: made whole for the file, and cut
 * again from it, so that any number of ranks goes on with it. */
#ifndef LCL_TRAIN_RANKS_SAVE_H
#define LCL_TRAIN_RANKS_SAVE_H

#include "checkpoint/ckpt.h"
#include "core/comm.h"
#include "model/model.h"

/* lcl_checkpoint_save() by the first rank, of all ranks' shares; called by all. A single rank (comm
 * NULL) saves what it has. LCL_MEMORY where the first has no room for states of all elements. */
LCL_CHECKED lcl_status lcl_ranks_save(struct lcl_comm *comm, const char *output_dir,
                                      const struct lcl_run_state *s, struct lcl_model *model,
                                      const struct lcl_checkpoint_options *o);
/* lcl_checkpoint_load() by each rank, of its own share. */
LCL_CHECKED lcl_status lcl_ranks_load(const char *path, struct lcl_params *t,
                                      struct lcl_run_state_loaded *s);

#endif
