/* Class-neighbor tables: for each class the others of its split from most to least similar
 * (docs/strategies.md). */
#ifndef LCL_DATA_NEIGHBORS_H
#define LCL_DATA_NEIGHBORS_H

#include "data/pack.h"

enum { LCL_NEIGHBORS_MAX = 4096 }; /* of a class */

struct lcl_neighbors {
    int32_t n_classes, width; /* width: longest row */
    int32_t *index; /* [n_classes, width] class numbers, most similar first; -1 past a row's end */
    float *similarity; /* [n_classes, width] cosine of mean features; NULL: not known */
    int32_t *image;    /* [n_classes, width] the picture that the table shows of each neighbor, a
                          number of the pack; NULL: it names none */
};

/* Class vectors [n_classes, F] from features of pictures that come one by one: each L2-normalised,
 * averaged a class, normalised. A class without pictures has a vector of zeros. */
struct lcl_class_means {
    const struct lcl_pack *pack;
    int64_t F;
    double *sum_CF;
};
LCL_CHECKED lcl_status lcl_class_means_init(struct lcl_class_means *m, const struct lcl_pack *pack,
                                            int64_t F);
/* LCL_NUMERIC naming the picture where it is not finite. */
LCL_CHECKED lcl_status lcl_class_means_add(struct lcl_class_means *m, int64_t image,
                                           const float *feature_F);
void lcl_class_means_finish(const struct lcl_class_means *m, float *mean_CF);
void lcl_class_means_free(struct lcl_class_means *m);

/* Of L2-normalised vectors i of pictures and t of names: i.i', t.t', or the official
 * 0.5 t.t' + 0.8 (i.t' + t.i') + 0.5 i.i'. */
enum lcl_neighbors_by { LCL_BY_IMAGE, LCL_BY_TEXT, LCL_BY_OFFICIAL };
/* Of the list of all others by falling similarity: its first `num`, or one drawn of each of `num`
 * equal intervals (the paper), by a stream of the seed and the class. */
enum lcl_neighbors_cut { LCL_CUT_RANK, LCL_CUT_INTERVALS };
struct lcl_neighbors_options {
    enum lcl_neighbors_by by;
    enum lcl_neighbors_cut cut;
    int32_t num; /* 0: as many as there are */
    uint64_t seed;
};
/* Neighbors among the other classes of the same split. image_CF, text_CF: NULL where `by` needs
 * none. */
LCL_CHECKED lcl_status lcl_neighbors_from_classes(const struct lcl_pack *pack,
                                                  const float *image_CF, const float *text_CF,
                                                  int64_t F,
                                                  const struct lcl_neighbors_options *options,
                                                  struct lcl_neighbors *out);
/* By image, all others: feature_NF has one row a picture of the pack. */
LCL_CHECKED lcl_status lcl_neighbors_from_features(const struct lcl_pack *pack,
                                                   const float *feature_NF, int64_t F,
                                                   struct lcl_neighbors *out);
LCL_CHECKED lcl_status lcl_neighbors_save(const struct lcl_neighbors *t,
                                          const struct lcl_pack *pack, const char *path,
                                          const char *source, bool force);
/* Checks that the table belongs to the pack (class ids). */
LCL_CHECKED lcl_status lcl_neighbors_load(const char *path, const struct lcl_pack *pack,
                                          struct lcl_neighbors *out);
/* A table that was kept apart: index [n_classes, width] is copied, its entries are checked as those
 * of a file, which errors call `from`. It knows no similarities. */
LCL_CHECKED lcl_status lcl_neighbors_from_index(const int32_t *index, int64_t n_classes,
                                                int64_t width, const struct lcl_pack *pack,
                                                const char *from, struct lcl_neighbors *out);
/* Of the train classes' first `hardest` neighbors in `now`: the share that was not among the first
 * `hardest` in `before`. Both are of the pack. */
double lcl_neighbors_new_share(const struct lcl_pack *pack, const struct lcl_neighbors *before,
                               const struct lcl_neighbors *now, int32_t hardest);
void lcl_neighbors_free(struct lcl_neighbors *t);

#endif
