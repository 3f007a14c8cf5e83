/* Support sets of one's own picture files: labels, each with its pictures. */
#ifndef LCL_TRAIN_SUPPORT_H
#define LCL_TRAIN_SUPPORT_H

#include "data/episode.h"

enum { LCL_SUPPORT_MAX_CLASSES = 1024, LCL_SUPPORT_MAX_PICTURES = 100000 };

struct lcl_support_class {
    char label[LCL_LABEL_BYTES]; /* as the support answers show it */
    int64_t n;
    char **paths;   /* [n], owned */
    int64_t *image; /* [n] number of each in a gallery, -1: left out; the user's to set */
};
struct lcl_support {
    int n;
    struct lcl_support_class *classes;
};
void lcl_support_free(struct lcl_support *s);

/* Adds the class "LABEL=FILE[,FILE...]". A file whose name holds a comma is taken whole where it
 * exists. LCL_CONFIG when the form is wrong, the label is there already, is empty, too long or
 * holds a double quote (answers put labels between them); LCL_NOT_FOUND for a missing file. */
LCL_CHECKED lcl_status lcl_support_parse(struct lcl_support *s, const char *text);
/* Adds a picture, number `image` of a gallery, to the class `label`, which is made where it is not
 * there. LCL_CONFIG for a label that no answer can hold. */
LCL_CHECKED lcl_status lcl_support_add(struct lcl_support *s, const char *label, const char *path,
                                       int64_t image);
/* Adds a class without pictures: a label that is only compared. The same errors. */
LCL_CHECKED lcl_status lcl_support_name(struct lcl_support *s, const char *label);
/* The number of the class of that label, -1: there is none. */
int lcl_support_find(const struct lcl_support *s, const char *label);
/* Drops a class; false: there is none of that label. */
bool lcl_support_drop(struct lcl_support *s, const char *label);
/* Adds each sub-folder of `dir` as a class, its pictures in order of names; the label is the
 * folder's name as lcl pack spells it (spaces for underscores and dashes, lower case). Sub-folders
 * without a picture, two of one label, and fewer than two are errors. */
LCL_CHECKED lcl_status lcl_support_scan(struct lcl_support *s, const char *dir);
/* LCL_CONFIG unless there are 2..most classes. */
LCL_CHECKED lcl_status lcl_support_check(const struct lcl_support *s, int most);
/* Drops pictures whose image is -1. LCL_CONFIG naming a class that has none left. */
LCL_CHECKED lcl_status lcl_support_compact(struct lcl_support *s);

/* The episode of n_ways classes `way` with at most per_class pictures of each (by image), shown in
 * turns of one picture a class; with an rng the order of all is shuffled, as in training. Queries
 * are the images `query`, with way 0. lcl_episode_free. */
LCL_CHECKED lcl_status lcl_support_episode(const struct lcl_support *s, const int *way, int n_ways,
                                           int64_t per_class, struct lcl_rng *rng,
                                           const int64_t *query, int64_t n_queries,
                                           struct lcl_episode *e);

/* The pictures of a folder by name (.png, .jpg, .jpeg, .webp, .gif), malloc'd paths:
 * lcl_fs_list_free. LCL_NOT_FOUND when there is none. */
LCL_CHECKED lcl_status lcl_picture_files(const char *dir, char ***paths, size_t *n);

#endif
