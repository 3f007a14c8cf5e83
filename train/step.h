/* One training step: the page that names every room in the order of the data.
 *
 *   data/ draws and packs the lanes -> model/ runs each forth and back -> lane gradients are summed
 * in one fixed tree (core/sum_tree.h), on this rank and over ranks (optim/zero.h) -> optim/
 * updates.
 */
#ifndef LCL_TRAIN_STEP_H
#define LCL_TRAIN_STEP_H

#include "optim/optimizer.h"
#include "optim/zero.h"
#include "train/lane.h"
#include "train/profile.h"

struct lcl_trainer {
    struct lcl_env *env;
    const struct lcl_config *config; /* of the stage */
    struct lcl_source source;
    int64_t first_lane, own_lanes; /* of this rank, in each round: [first, first + own) of lanes */
    int64_t n_lanes;               /* own_lanes * gradient_accumulation_steps: rounds of a lane
                                    * one after another */
    struct lcl_lane *lane;         /* [n_lanes] of the step at hand */
    struct lcl_lane *next; /* [n_lanes] of the one after it, drawn while a GPU works; NULL: not */
    int64_t next_step;     /* that `next` holds; -1: none */
    struct lcl_pass *pass; /* [lanes in parallel, else 1] */
    int n_passes;
    int64_t step;          /* of the stage, under way */
    bool parallel;         /* one lane a thread; else each op over all threads: the same bits */
    struct lcl_zero *zero; /* what ranks exchange; NULL: a single one */
    struct lcl_zero_sum sum;
    struct lcl_layer_watch watch; /* of the pass, for zero */
    struct lcl_arena grads;
    float **grad; /* [n_grads] buffers of the table's length */
    int n_grads;
    struct lcl_optimizer optimizer;
    struct lcl_profile *profile; /* NULL: none is made */
    double wait_s; /* that this rank waited for numbers of others, since lcl_trainer_open() */
};

struct lcl_step_result {
    double loss;   /* mean over supervised terms */
    double weight; /* their number */
    double grad_norm, lr;
    int64_t label_correct, label_total, tokens, samples; /* of all ranks */
    int stop_signal;          /* that any rank was sent before the step; 0: none */
    double compute_s, wait_s; /* of this rank: at work, and waiting for others */
};

/* Marks what trains in a stage: by its task and the freeze_* keys; places gradients. */
void lcl_step_set_trainable(struct lcl_params *p, const struct lcl_config *c);
/* Marks rows that no stage moves. Before lcl_params_place(). */
void lcl_step_mark_still(struct lcl_params *p, const struct lcl_config *stages, int n);
/* Passes and gradient buffers that a stage holds at once. */
struct lcl_step_layout {
    int64_t first_lane, own_lanes; /* of this rank */
    bool parallel;                 /* one lane a thread */
    int n_passes, n_grads;
};
struct lcl_step_layout lcl_step_layout(const struct lcl_env *e, const struct lcl_config *c);
/* A training pass before it is reserved, of what is marked trainable. */
struct lcl_pass lcl_step_pass(struct lcl_exec *exec, const struct lcl_model *m,
                              const struct lcl_config *c, float *grad);

/* Sets what trains by the config's freeze_* keys and reserves buffers. features/pictures as
 * lcl_source_open. */
LCL_CHECKED lcl_status lcl_trainer_open(struct lcl_trainer *t, struct lcl_env *e,
                                        const struct lcl_config *c, uint32_t epoch,
                                        struct lcl_features *features,
                                        struct lcl_pictures *pictures);
void lcl_trainer_close(struct lcl_trainer *t);
/* Values of all ranks' shares, until the next step: for evaluations and checkpoints. Called by all.
 */
LCL_CHECKED lcl_status lcl_trainer_whole(struct lcl_trainer *t);
/* Step `step` of n_steps of the stage; adam_step counts updates since the moments began (1-based).
 */
LCL_CHECKED lcl_status lcl_trainer_step(struct lcl_trainer *t, int64_t step, int64_t n_steps,
                                        int64_t adam_step, struct lcl_step_result *r);

#endif
