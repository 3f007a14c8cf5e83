/* Tables of two-way questions: ISEKAI's rows, the official ImageNet-100 test table, and ISEKAI rows
 * made from folders. */
#ifndef LCL_TOOLS_EVAL_TRIALS_H
#define LCL_TOOLS_EVAL_TRIALS_H

#include <jansson.h>

#include "data/episode.h"

struct trial {
    const char *query;         /* path in the image folder, of `rows` */
    const json_t *pictures[2]; /* lists of such paths: of the positive and of the negative class */
    char label[2][LCL_LABEL_BYTES];
    int target;    /* which of the labels is the query's */
    int set;       /* trials of one number, one after another, share classes and pictures */
    int32_t group; /* of the same two labels, for intervals */
};
struct trials {
    json_t *rows;
    int64_t n, cap;
    struct trial *v;
};
/* Lines {image_name, positive_list, negative_list, positive_promt, negative_promt, label_name}. */
LCL_CHECKED lcl_status trials_isekai(const char *table, struct trials *t);
/* Lines {class_name, context_samples, test_samples}: classes 2i and 2i + 1 are asked against each
 * other, every test sample once; the positive class is the first of a pair. */
LCL_CHECKED lcl_status trials_imagenet(const char *table, struct trials *t);
void trials_free(struct trials *t);

/* An ISEKAI table (JSON lines, malloc'd) of a folder of groups: DIR/GROUP/pos*, neg*, infer* are
 * its pictures, the queries those of infer. labels.txt of a group has the positive and the negative
 * label on two lines; else they are its name and "other". */
LCL_CHECKED lcl_status trials_of_groups(const char *dir, char **lines);

#endif
