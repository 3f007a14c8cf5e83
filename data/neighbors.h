/* Class-neighbor tables: for each class the others of its split from most to least similar
 * (docs/strategies.md). */
#ifndef LCL_DATA_NEIGHBORS_H
#define LCL_DATA_NEIGHBORS_H

#include "data/pack.h"

struct lcl_neighbors {
    int32_t n_classes, width; /* width: longest row */
    int32_t *index; /* [n_classes, width] class numbers, most similar first; -1 past a row's end */
    float *similarity; /* [n_classes, width] cosine of mean features; NULL: not known */
    int32_t *image;    /* [n_classes, width] the picture that the table shows of each neighbor, a
                          number of the pack; NULL: it names none */
};

/* feature_NF: one row a picture of the pack. Rows are L2-normalised, averaged a class, normalised;
 * neighbors are other classes of the same split by cosine. */
LCL_CHECKED lcl_status lcl_neighbors_from_features(const struct lcl_pack *pack,
                                                   const float *feature_NF, int64_t F,
                                                   struct lcl_neighbors *out);
LCL_CHECKED lcl_status lcl_neighbors_save(const struct lcl_neighbors *t,
                                          const struct lcl_pack *pack, const char *path,
                                          const char *source, bool force);
/* Checks that the table belongs to the pack (class ids). */
LCL_CHECKED lcl_status lcl_neighbors_load(const char *path, const struct lcl_pack *pack,
                                          struct lcl_neighbors *out);
void lcl_neighbors_free(struct lcl_neighbors *t);

#endif
