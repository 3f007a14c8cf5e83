/* Runs on tiny.h's world: models that are made, lanes that are filled, evaluations. */
#ifndef LCL_TESTS_TINY_RUN_H
#define LCL_TESTS_TINY_RUN_H

#include "train/eval.h"
#include "train/lane.h"

/* Packs the two pictures a.png and b.png with a table of --format llava that names them; the path
 * (static, one for each of 4 calls). */
const char *tiny_rows_pack(const char *name, const char *table);

/* Backend, pack and a fresh model; lcl_env_close ends it. */
void tiny_env_open(struct lcl_env *e, const struct lcl_config *c);

/* What training draws from, epoch 0, and a lane of it; for environments of tiny_env_open. */
struct tiny_lane {
    struct lcl_features unread;
    struct lcl_source source;
    struct lcl_lane lane;
};
void tiny_lane_open(struct tiny_lane *l, struct lcl_env *e, const struct lcl_config *c);
void tiny_lane_close(struct tiny_lane *l);

/* A fresh model's answers, from cached features or by the tower as cache_features says;
 * lcl_eval_outcome_free lets go of them. */
struct lcl_eval_outcome tiny_evaluate(const struct lcl_config *c, const struct lcl_eval_request *q);

#endif
