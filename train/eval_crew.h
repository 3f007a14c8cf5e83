/* The threads of an evaluation: each with a model's pass and buffers of its own, and where its
 * pictures come from. Items are shared by the ranks (train/share.h). Used by evaluations of
 * episodes and of any-shot conversations. */
#ifndef LCL_TRAIN_EVAL_CREW_H
#define LCL_TRAIN_EVAL_CREW_H

#include "core/threads.h"
#include "train/eval.h"
#include "train/generate.h"

/* What one thread works with. */
struct lcl_eval_worker {
    struct lcl_batch_builder *builder;
    struct lcl_pass pass;
    struct lcl_generator generator;
    struct lcl_picture_buffer pictures;
    float *features;
    size_t features_cap;
};

struct lcl_eval_crew {
    struct lcl_comm *comm;             /* the environment's */
    const struct lcl_features *cached; /* NULL: pictures are read */
    struct lcl_pictures pictures;
    struct lcl_eval_worker *worker; /* [n], owned */
    int n;
};

/* One worker, or as many as there are threads where features are cached and lanes go side by side;
 * pictures of the environment's pack are opened where they are not. Environment, config and
 * features outlive the crew; lcl_eval_crew_close() also after an error. LCL_MEMORY, and errors of
 * the pack. */
LCL_CHECKED lcl_status lcl_eval_crew_open(struct lcl_eval_crew *w, struct lcl_env *e,
                                          const struct lcl_config *c,
                                          const struct lcl_features *cached);
void lcl_eval_crew_close(struct lcl_eval_crew *w);
/* work(ctx, item) for each of this rank's items of n_items, by the workers side by side where there
 * are several. LCL_INTERRUPTED on all ranks where one was asked to stop. */
LCL_CHECKED lcl_status lcl_eval_crew_run(const struct lcl_eval_crew *w, int64_t n_items,
                                         lcl_chunk_fn work, void *ctx);
/* The worker of the calling thread; LCL_INTERRUPTED once the program is asked to stop. */
LCL_CHECKED lcl_status lcl_eval_crew_mine(const struct lcl_eval_crew *w,
                                          struct lcl_eval_worker **mine);
/* The batch's pictures: cached rows gathered, or pixels read; they stay until the next. */
LCL_CHECKED lcl_status lcl_eval_crew_fetch(struct lcl_eval_crew *w, struct lcl_eval_worker *mine,
                                           const struct lcl_batch *b, struct lcl_images *images);
/* Room for the episodes that people look at: q->n_views of q->episodes. */
LCL_CHECKED lcl_status lcl_eval_open_views(const struct lcl_eval_request *q,
                                           struct lcl_eval_outcome *o);
/* To all ranks, the views that each has made of its own items of `each` episodes. */
LCL_CHECKED lcl_status lcl_eval_gather_views(struct lcl_comm *comm, int64_t each,
                                             struct lcl_eval_outcome *o);

#endif
