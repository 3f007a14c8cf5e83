/* When an answer counts as right. */
#ifndef LCL_TRAIN_MATCH_H
#define LCL_TRAIN_MATCH_H

#include "data/episode.h"

/* The first string between double quotes; false when there is none. out of LCL_LABEL_BYTES. */
bool lcl_first_quoted(const char *text, char *out);
/* The first string between double quotes is the target, letter for letter. */
bool lcl_strict_match(const char *prediction, const char *target);
/* The official code's rule. The target (an answer, or its label alone) is what is left of it after
 * "ASSISTANT:" and up to "</s>" without the words of an answer, quotes and full stops, in lower
 * case; it must occur in the prediction as it stands, and with all its occurrences deleted the
 * other label in lower case must not. So "fox" is right for "kit fox", "st bernard" never is. */
LCL_CHECKED lcl_status lcl_official_match(const char *prediction, const char *target,
                                          const char *other, bool *right);

struct lcl_judgement {
    bool strict, official, unparsed; /* unparsed: it has no quoted string */
};
/* By both rules: label[target] is right; official where it is so against each other of n >= 2
 * labels. */
LCL_CHECKED lcl_status lcl_judge(const char *prediction, const char (*label)[LCL_LABEL_BYTES],
                                 int n, int target, struct lcl_judgement *out);

#endif
