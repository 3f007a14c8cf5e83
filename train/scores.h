/* How right an answer is, by the rules of the benchmarks: VQA, captions, boxes.
 *
 * Texts are UTF-8; letters outside ASCII are left as they are. */
#ifndef LCL_TRAIN_SCORES_H
#define LCL_TRAIN_SCORES_H

#include "core/status.h"

/* VQA accuracy (Antol et al. 2015, and the rules of its evaluation server): the mean over all ways
 * to leave one of the n answers out of min(answers among the rest that agree / 3, 1). Answers are
 * compared in lower case, without punctuation and articles, numbers in digits, contractions with
 * their apostrophe; where all people agree, as they stand. With one answer: 1 where it agrees.
 * score in 0..1; LCL_MEMORY. */
LCL_CHECKED lcl_status lcl_score_vqa(const char *prediction, const char *const *answers, int64_t n,
                                     double *score);

/* CIDEr-D (Vedantam et al. 2015, section 4 and its defended form with sigma 6), times 10 as the
 * COCO server gives it: similarity of n-grams of 1..4 words weighed by how few captioned pictures
 * have them. One call scores all pictures, as document frequencies are theirs. Words are
 * what stands between blanks and punctuation, in lower case (the server's tokenizer differs in
 * rare cases). references[i]: n_references[i] captions of picture i. scores: [n] out; *mean their
 * mean. LCL_RANGE where a picture has no reference; LCL_MEMORY. */
LCL_CHECKED lcl_status lcl_score_cider(const char *const *predictions,
                                       const char *const *const *references,
                                       const int64_t *n_references, int64_t n, double *scores,
                                       double *mean);

/* The boxes "[x1,y1,x2,y2]" of a text, joined by ';' within brackets or not, in order: at most
 * `max`, and how many there are. Numbers of another count or order of corners are no box. */
struct lcl_box {
    double x1, y1, x2, y2;
};
int64_t lcl_boxes_of(const char *text, struct lcl_box *boxes, int64_t max);
/* Intersection over union, 0..1. */
double lcl_box_iou(const struct lcl_box *a, const struct lcl_box *b);

#endif
