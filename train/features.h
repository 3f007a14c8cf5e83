/* Features of a frozen tower, computed once: an HDF5 cache keyed by the pictures' content, the
 * tower's weights, the preprocessing and the augmentation. */
#ifndef LCL_TRAIN_FEATURES_H
#define LCL_TRAIN_FEATURES_H

#include "train/env.h"
#include "train/pictures.h"

struct lcl_features {
    int64_t n_images, views, row; /* row: tokens_per_image * Cv floats of one picture */
    float *data; /* [n_images * views, row]; view v of picture i is at i * views + v */
    struct lcl_features *next; /* of the next pack, whose pictures are numbered on; or NULL */
};

/* Of data.pack, and of the packs of data.sources that are open, a cache each beside its pack, plain
 * views alone. Loads the cache that fits from `dir` (NULL: no cache on disk), or computes it with
 * progress and writes it there (a folder that cannot be written to is a warning). views: those of
 * data.augment_views. The model's values are not changed. Of e->comm's
 * ranks, which all call it, each computes a share of the pictures; the first one writes the cache,
 * which the others read the next time: LCL_INTERRUPTED on all where one was asked to stop. */
LCL_CHECKED lcl_status lcl_features_open(struct lcl_features *f, struct lcl_env *e,
                                         const struct lcl_config *c, int64_t views,
                                         const char *dir);
void lcl_features_close(struct lcl_features *f);
static inline const float *lcl_features_row(const struct lcl_features *f, int64_t image,
                                            int32_t view)
{
    for (; image >= f->n_images && f->next; f = f->next) image -= f->n_images;
    return f->data + (image * f->views + view) * f->row;
}
/* Copies the rows of a batch's pictures, in its order, to *buffer (grown by lcl_floats_reserve). */
LCL_CHECKED lcl_status lcl_features_gather(const struct lcl_features *f, const struct lcl_batch *b,
                                           float **buffer, size_t *cap);
/* Mean and 1 / deviation of each column over the pictures of train classes: image_standardize.* of
 * the model. */
LCL_CHECKED lcl_status lcl_features_standardize(const struct lcl_features *f, struct lcl_env *e);

#endif
