/* Class vectors for neighbor tables: means of picture features that are never all in memory, and
 * features of names. */
#ifndef LCL_TRAIN_CLASS_VECTORS_H
#define LCL_TRAIN_CLASS_VECTORS_H

#include "train/env.h"

/* Features of n preprocessed pictures: out [n, F]. */
struct lcl_picture_features {
    lcl_status (*run)(void *ctx, const float *pixels, int64_t n, float *out_NF);
    void *ctx;
    int64_t F;
    const struct lcl_preprocess *preprocess;
    bool in_training; /* of a run under way: of train classes alone (the vectors of others are
                         zeros), and without a line of progress */
};
/* Of e->comm's ranks each reads a share of the pictures; all have all means. LCL_INTERRUPTED on all
 * where one was asked to stop. The mean of each class over at most per_class of its pictures (0:
 * all), evenly spread over them: mean_CF [classes of e->pack, F], L2-normalised, the caller's. */
LCL_CHECKED lcl_status lcl_class_means_of(struct lcl_env *e, const struct lcl_picture_features *f,
                                          int64_t per_class, float *mean_CF);

struct lcl_class_vectors {
    int64_t F;
    float *image_CF, *text_CF; /* malloc'd, L2-normalised; NULL: not asked for */
};
void lcl_class_vectors_free(struct lcl_class_vectors *v);
/* By a CLIPModel folder; e->pack is open. text_template: "{name}" stands for a class's name.
 * Pictures are prepared as its preprocessor_config.json says. A name that makes more tokens than
 * CLIP has positions keeps its first, as CLIPTokenizer's truncation. */
LCL_CHECKED lcl_status lcl_class_vectors_clip(struct lcl_env *e, const char *dir, bool bf16,
                                              bool image, bool text, int64_t per_class,
                                              const char *text_template,
                                              struct lcl_class_vectors *out);
/* By pictures at 16 x 16, centred on mid grey; by the mean token of e->model's tower (in_training:
 * as above). */
LCL_CHECKED lcl_status lcl_class_vectors_pixels(struct lcl_env *e, const struct lcl_config *c,
                                                int64_t per_class, struct lcl_class_vectors *out);
LCL_CHECKED lcl_status lcl_class_vectors_model(struct lcl_env *e, int64_t per_class,
                                               bool in_training, struct lcl_class_vectors *out);
/* Pictures that the tower takes at once for them: what memory it needs. */
enum { LCL_CLASS_VECTOR_PICTURES = 32 };

#endif
