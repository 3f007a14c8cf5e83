/* Neighbor tables made anew while a stage trains (data.refresh_neighbors): class vectors of the
 * model's own tower as it is by then. A table is a function of the config, the pictures and the
 * parameters of its step; checkpoints hold the one that is drawn from. */
#ifndef LCL_TRAIN_REFRESH_H
#define LCL_TRAIN_REFRESH_H

#include "checkpoint/ckpt.h"
#include "train/env.h"

enum { LCL_REFRESH_HARDEST = 5 }; /* of each class: what tables are compared by */

struct lcl_refresh {
    double new_share; /* of the train classes' hardest neighbors: those that were not among them */
    double seconds;
};

/* Whether step `stage_step` of a stage, counted from 0, begins with a new table: every
 * data.refresh_neighbors steps, but never the first. */
bool lcl_refresh_is_due(const struct lcl_config *c, int64_t stage_step);
/* LCL_CONFIG for a stage that asks for new tables and has a frozen tower or draws from none; the
 * model is there, and its rows are marked anew. */
LCL_CHECKED lcl_status lcl_refresh_check(struct lcl_env *e, const struct lcl_run_config *run);
/* Tables that are made in so many steps of a stage. */
double lcl_refresh_count(const struct lcl_config *c, double steps);
/* The tower's pass and pictures while one is made; 0 in a stage that makes none. */
double lcl_refresh_bytes(struct lcl_env *e, const struct lcl_config *c);
/* Pictures that one table is made of. */
int64_t lcl_refresh_pictures(const struct lcl_pack *pack, const struct lcl_config *c);
/* The table of the model as it is into e->refreshed, from which lcl_env_training_neighbors gives
 * it. LCL_INTERRUPTED at a signal; whatever fails leaves the table before it. */
LCL_CHECKED lcl_status lcl_refresh_neighbors(struct lcl_env *e, const struct lcl_config *c,
                                             struct lcl_refresh *r);
/* The table that a checkpoint holds, if it does; path: what errors call it. */
LCL_CHECKED lcl_status lcl_refresh_restore(struct lcl_env *e, const struct lcl_run_state *s,
                                           const char *path);

#endif
