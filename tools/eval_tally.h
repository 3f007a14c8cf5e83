/* From the lines of an evaluation's answers to its numbers. A line of a suite of support sets:
 *
 *   {"row": "folders", "seed": 1, "set": 3, "shots": 4, "image": "fox/7.png", "class": "fox",
 *    "labels": ["dax", "wug"], "classes": ["fox", "wolf"], "target": "dax",
 *    "prediction": "there is \"dax\" in the image.", "strict": true, "official": true,
 *    "likelihood": true, "logprob": [-0.2, -7.1]}
 *
 * "classes", what the labels stand for, is left out where they are the labels; "candidates": labels
 * besides the question's, whose likelihoods follow theirs; without "prediction" nothing was
 * generated, without "logprob" nothing compared. */
#ifndef LCL_TOOLS_EVAL_TALLY_H
#define LCL_TOOLS_EVAL_TALLY_H

#include <jansson.h>

#include "train/results.h"

/* Names by number, each once. */
struct tally_names {
    int32_t n, cap;
    char **v;
    uint64_t *hash;
};

struct tally_answer {
    int32_t cell, seed;
    int32_t group;           /* what intervals draw: the class, or the pair of labels */
    int32_t class_index;     /* of the query */
    int32_t said, likeliest; /* names of classes; -1: none of them */
    uint8_t strict, official, likelihood, unparsed, first; /* first: the target is labels[0] */
    bool has_prediction, has_logprob;
};

struct tally_cell {
    char row[LCL_RESULTS_NAME_BYTES];
    int64_t shots;
};

struct tally {
    bool by_labels; /* intervals draw pairs of labels (ISEKAI), not classes */
    struct tally_names names;
    int n_cells;
    struct tally_cell cell[LCL_RESULTS_MAX_CELLS];
    int64_t n, cap;
    struct tally_answer *v;
};
void tally_free(struct tally *t);
/* A record_fn; ctx: a tally. LCL_FORMAT names the key. */
LCL_CHECKED lcl_status tally_line(void *ctx, const json_t *line);
/* Prints the accuracies of each cell with 95 % intervals (bootstrap by `seed` over groups), and
 * puts them into results (may be NULL). */
LCL_CHECKED lcl_status tally_report(const struct tally *t, uint64_t seed,
                                    struct lcl_results *results);
/* CSV: row, shots, class, queries and shares right, a line a class. */
LCL_CHECKED lcl_status tally_write_classes(const struct tally *t, const char *path);
/* CSV: row, shots, class, answer and how often it was said and was the likeliest; an answer that
 * names none of the question's classes is an empty field. Pairs that never came are left out. */
LCL_CHECKED lcl_status tally_write_confusion(const struct tally *t, const char *path);

#endif
