/* What train/answer*.c share; nothing else includes this. */
#ifndef LCL_TRAIN_ANSWER_PARTS_H
#define LCL_TRAIN_ANSWER_PARTS_H

#include "train/answer.h"

enum { LCL_ANSWERS_AT_ONCE = 64, LCL_TOKENS_AT_ONCE = 16384 };

/* The builder's batch of some queries of an episode. */
LCL_CHECKED lcl_status lcl_answerer_pack(struct lcl_answerer *a, const struct lcl_episode *e,
                                         int begin, int n, enum lcl_encode_mode mode);

/* What is to be computed of the builder's batch: its runs' common beginning has been, here or
 * before. */
struct lcl_asked {
    struct lcl_halves split;
    const struct lcl_batch *batch;   /* the branches, or all; its pictures are gathered */
    const struct lcl_context *after; /* NULL: all */
    struct lcl_images images;
};
/* more: tokens that each run may come to have besides. lcl_asked_free, whatever it returns. */
LCL_CHECKED lcl_status lcl_answerer_ask(struct lcl_answerer *a, int64_t more, struct lcl_asked *q);
/* The number in the builder's batch of run r of q->batch. */
int64_t lcl_asked_run(const struct lcl_asked *q, int64_t r);
void lcl_asked_free(struct lcl_asked *q);
/* sum [runs of the builder's batch]: log-probabilities of each run's supervised rows, 0 without. */
LCL_CHECKED lcl_status lcl_answerer_score(struct lcl_answerer *a, double *sum);
/* Queries that are asked at once: as many as keep a batch within some thousands of tokens. */
int lcl_answerer_slice(const struct lcl_answerer *a, int branches);

#endif
