/* The first questions of a suite as lcl report shows them, with small copies of their pictures. */
#ifndef LCL_TOOLS_EVAL_SHOW_H
#define LCL_TOOLS_EVAL_SHOW_H

#include <stdio.h>

#include "data/episode.h"
#include "tools/eval_ask.h"
#include "train/answer.h"

struct show {
    const char *path; /* NULL: nothing is shown */
    FILE *f;
    const struct lcl_gallery *gallery; /* reads the pictures; set after show_open */
};
/* append: an evaluation that goes on keeps what it has shown. */
LCL_CHECKED lcl_status show_open(struct show *s, const char *path, bool append);
/* Whether query q of a unit is among the first questions of `units` units in all. */
bool show_wants(const struct show *s, int64_t units, int64_t unit, int64_t q);
/* Query q of a set's episode, whose picture -1 - i is number i of those that the set's support and
 * queries were given. text, logprob [e->n_ways] (of which the set's labels come first): its answer,
 * NULL where it was not asked. */
LCL_CHECKED lcl_status show_question(struct show *s, const struct ask_set *set,
                                     const struct lcl_episode *e, int64_t sample, int64_t shots,
                                     int64_t q, const char *text, const double *logprob);
LCL_CHECKED lcl_status show_close(struct show *s);

#endif
