/* Contexts that are read once: what several questions begin with, support sets above all, fills the
 * first rows of a generator's key/value cache, and the questions' batches go on from there. */
#ifndef LCL_TRAIN_CONTEXTS_H
#define LCL_TRAIN_CONTEXTS_H

#include "core/batch.h"
#include "core/status.h"

/* Tokens and pictures that a batch's runs begin with, and the cache rows of their keys and values.
 */
struct lcl_context {
    int64_t first, n; /* rows [first, first + n) */
    int32_t *id;      /* [n] */
    int64_t n_pictures;
    uint64_t *picture; /* [n_pictures], in order: whatever tells them from others */
};

struct lcl_contexts {
    struct lcl_context *v;
    int n;
    int64_t rows;        /* that they fill */
    int64_t most_rows;   /* that more than one may fill; 0: the last alone is kept */
    int64_t tokens_read; /* so far, each time that a context was computed */
};
/* Forgets them: the next batches read theirs anew. */
void lcl_contexts_clear(struct lcl_contexts *c);
void lcl_contexts_free(struct lcl_contexts *c);

/* A batch in two: what all of its runs begin with, and the rest. */
struct lcl_halves {
    int64_t n;                      /* tokens of the context; 0: there is none */
    struct lcl_batch context, rest; /* the latter's runs are the branches, without prefixes */
    int64_t *run;                   /* [rest.n_runs] their numbers in the batch */
};
/* The context is the run that is all others' prefix, else the tokens and pictures that all runs (of
 * which there are two or more) begin with, 16 at least, before the first supervised row of any.
 * With n 0 all else is empty. Slots lie in the order of tokens, per_image for a picture each time
 * that it is shown. lcl_halves_free. */
LCL_CHECKED lcl_status lcl_split_batch(const struct lcl_batch *b, int64_t per_image,
                                       struct lcl_halves *s);
void lcl_halves_free(struct lcl_halves *s);

/* The context with these tokens and pictures, or NULL. */
const struct lcl_context *lcl_contexts_find(const struct lcl_contexts *c,
                                            const struct lcl_batch *context,
                                            const uint64_t *picture, int64_t n_pictures);
/* Room for another, which the caller computes next: the rows after those kept, or, where most_rows
 * would be passed, in place of the last (or of all, where most_rows is 0). */
LCL_CHECKED lcl_status lcl_contexts_add(struct lcl_contexts *c, const struct lcl_batch *context,
                                        const uint64_t *picture, int64_t n_pictures,
                                        const struct lcl_context **out);
/* Takes the last one back: it could not be computed. */
void lcl_contexts_drop(struct lcl_contexts *c);

#endif
