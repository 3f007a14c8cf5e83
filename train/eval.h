/* Evaluation on classes held out of training: greedy answers and likelihoods, with intervals over
 * classes. */
#ifndef LCL_TRAIN_EVAL_H
#define LCL_TRAIN_EVAL_H

#include "train/env.h"
#include "train/episode_view.h"
#include "train/features.h"
#include "train/stats.h"

struct lcl_eval_request {
    int64_t shots, episodes;
    int64_t queries;       /* a support set; 0: 1 */
    bool negative_made_up; /* both labels made up; else the negative has its own name */
    bool shuffled_labels;  /* the support's labels are permuted over its pictures */
    bool greedy, likelihood;
    int64_t n_views; /* episodes kept for people to look at */
};

struct lcl_eval_outcome {
    struct lcl_interval greedy, likelihood; /* 95 % by bootstrap over classes */
    double official;                        /* share right by the official substring rule */
    double positive, negative;              /* greedy on queries of either class */
    double unparsed;                        /* greedy answers without a quoted string */
    int64_t n_queries;
    struct lcl_episode_view *views; /* [n_views], owned */
    int64_t n_views;
};
void lcl_eval_outcome_free(struct lcl_eval_outcome *o);

/* features NULL: the tower reads the pictures. Episodes are those of (eval.seed, shots, episode) on
 * the classes of eval.split; with data.strategy: any-shot, conversations of eval.task. */
LCL_CHECKED lcl_status lcl_eval_run(struct lcl_env *e, const struct lcl_config *c,
                                    struct lcl_features *features, const struct lcl_eval_request *q,
                                    struct lcl_eval_outcome *o);
/* Any-shot conversations: greedy, the answer word for word; likelihood, of the answers that the
 * conversation's classes or values have in its format (none of task rows, whose packs are those of
 * data.sources that are open). Of the request, shuffled_labels permutes the shots' answers. */
LCL_CHECKED lcl_status lcl_eval_any_shot(struct lcl_env *e, const struct lcl_config *c,
                                         struct lcl_features *features,
                                         const struct lcl_eval_request *q,
                                         struct lcl_eval_outcome *o);
/* Nearest prototype on the tower's features: the class whose mean support feature has the higher
 * cosine. Same episodes. */
LCL_CHECKED lcl_status lcl_eval_prototype(struct lcl_env *e, const struct lcl_config *c,
                                          const struct lcl_features *features,
                                          const struct lcl_eval_request *q,
                                          struct lcl_interval *out);

#endif
