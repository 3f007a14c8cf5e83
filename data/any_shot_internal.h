/* What any-shot conversations draw from, shared by any_shot.c and any_shot_draw.c only. */
#ifndef LCL_DATA_ANY_SHOT_INTERNAL_H
#define LCL_DATA_ANY_SHOT_INTERNAL_H

#include "data/any_shot.h"

/* A class, or a value of an attribute. */
struct any_value {
    char label[LCL_LABEL_BYTES];
    const int32_t *images;
    int32_t n_images;
    int32_t class_id; /* -1: of an attribute's value, of several classes */
};
struct lcl_any_pool {
    int32_t n;
    struct any_value *value;
    int32_t *images;      /* of an attribute's values */
    int32_t *of_class_id; /* of the pool of classes: index of a class's value, or -1 */
};

/* A pack of rows; those of one instruction lie together. */
struct lcl_any_source {
    struct lcl_any_rows rows;
    int32_t *order;    /* [n_rows] by group */
    int32_t *group_of; /* [n_rows] */
    int64_t *begin;    /* [n_groups + 1] in order */
    int32_t n_groups;
};

/* Texts that a conversation owns. NULL when memory ran out. */
const char *any_keep(struct lcl_any_turns *t, char *text);
/* Rows of a pack by instruction. */
LCL_CHECKED lcl_status any_group_rows(struct lcl_any_source *s);
void any_free_source(struct lcl_any_source *s);

#endif
