/* What train/answer*.c share; nothing else includes this. */
#ifndef LCL_TRAIN_ANSWER_PARTS_H
#define LCL_TRAIN_ANSWER_PARTS_H

#include "train/answer.h"

enum { LCL_ANSWERS_AT_ONCE = 64, LCL_TOKENS_AT_ONCE = 16384 };

/* The batch of some queries of an episode, its features gathered. */
LCL_CHECKED lcl_status lcl_answerer_pack(struct lcl_answerer *a, const struct lcl_episode *e,
                                         int begin, int n, enum lcl_encode_mode mode,
                                         const struct lcl_batch **batch);
/* a->features: those of the pictures of the builder's batch. */
LCL_CHECKED lcl_status lcl_answerer_gather(struct lcl_answerer *a);
/* Queries that are asked at once: as many as keep a batch within some thousands of tokens. */
int lcl_answerer_slice(const struct lcl_answerer *a, int branches);

#endif
