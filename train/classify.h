/* Pictures sorted into the classes of a support set, by the likelihood of the labels.
 *
 * Pairs: the model, trained to choose between two labels, is asked about every pair of classes (a
 * support set of the two, all pictures as its queries). A pair's likelihoods become a share for
 * each of its two classes; the score of a class is the mean of its shares over its pairs (a round
 * robin): 1 is preferred to every other class, 0.5 is chance. With two classes it is the share.
 * All: one support set with every class, at most LCL_MAX_WAYS; the scores are the labels' shares.
 *
 * A question calls its classes by their names, or by made-up labels drawn for that question, as
 * training does: then only the pictures tell them apart.
 */
#ifndef LCL_TRAIN_CLASSIFY_H
#define LCL_TRAIN_CLASSIFY_H

#include "train/answer.h"

enum lcl_classify_method { LCL_CLASSIFY_PAIRS, LCL_CLASSIFY_ALL };

struct lcl_classifier {
    const struct lcl_support *support;
    const struct lcl_config *config;
    enum lcl_classify_method method;
    int64_t shots; /* support pictures of a question in all */
    bool made_up;  /* labels are drawn for each question; else the classes' names */
    int n_answerers;
    struct lcl_answerer *answerers; /* one a thread where models are small, else one */
};
/* support's images are numbers of the gallery. */
LCL_CHECKED lcl_status lcl_classifier_open(struct lcl_classifier *c, const struct lcl_gallery *g,
                                           const struct lcl_support *support,
                                           const struct lcl_config *config,
                                           enum lcl_classify_method method, int64_t shots,
                                           bool made_up);
void lcl_classifier_close(struct lcl_classifier *c);
/* Questions asked about a batch of pictures. */
int64_t lcl_classifier_questions(const struct lcl_classifier *c);
/* score_NC [n, classes] of the gallery's pictures image[n]. Equal for any number of threads. */
LCL_CHECKED lcl_status lcl_classifier_score(struct lcl_classifier *c, const int64_t *image,
                                            int64_t n, double *score_NC);

#endif
