/* Preprocessed pictures of a pack by number, with augmented views; kept in memory as bytes where
 * they fit. */
#ifndef LCL_TRAIN_PICTURES_H
#define LCL_TRAIN_PICTURES_H

#include "core/config.h"
#include "data/pack.h"
#include "model/model.h"

struct lcl_augment {
    uint64_t seed;
    int64_t shift; /* pixels, each way */
    double jitter; /* of brightness and contrast */
};

struct lcl_pictures {
    struct lcl_pack *pack;
    struct lcl_preprocess preprocess;
    struct lcl_augment augment;
    uint8_t *bytes; /* [n_images, 3, S, S] after resizing; NULL: read from the pack each time */
    float value[3][256];       /* normalised value of a byte, by channel */
    struct lcl_pictures *next; /* of the next pack, whose pictures are numbered on; or NULL */
};

/* Reads all pictures into memory where they take at most 1 GiB: of several ranks, which all call
 * it, each decodes a share of them. */
LCL_CHECKED lcl_status lcl_pictures_open(struct lcl_pictures *p, struct lcl_pack *pack,
                                         const struct lcl_preprocess *preprocess,
                                         const struct lcl_config *c);
/* The same without reading any: for a few pictures. */
void lcl_pictures_on_demand(struct lcl_pictures *p, struct lcl_pack *pack,
                            const struct lcl_preprocess *preprocess, const struct lcl_config *c);
/* Opens another pack's behind those that are open. By all ranks, too. */
LCL_CHECKED lcl_status lcl_pictures_add(struct lcl_pictures *p, struct lcl_pack *pack,
                                        const struct lcl_config *c);
void lcl_pictures_close(struct lcl_pictures *p);
/* out [n, 3, S, S]; view[i] 0: as it is; a tile or a jigsaw of it (data/jigsaw.h), decoded anew and
 * cut before it is prepared; else augmented (flip, shift, jitter) by the stream (seed,
 * LCL_RNG_AUGMENT, view, image). Not to be called from a chunk of the pool. */
LCL_CHECKED lcl_status lcl_pictures_read(struct lcl_pictures *p, const int64_t *image,
                                         const int32_t *view, int64_t n, float *out);

/* Pictures of a batch, read for the model; all zero: none yet. */
struct lcl_picture_buffer {
    float *pixels;
    uint8_t *bytes;
    size_t pixels_cap, bytes_cap;
};
/* Reads them as lcl_pictures_read does, or as bytes where they are kept so and no view is
 * augmented: images' pixels or bytes, in the buffer's memory until the next call. */
LCL_CHECKED lcl_status lcl_pictures_batch(struct lcl_pictures *p, const int64_t *image,
                                          const int32_t *view, int64_t n,
                                          struct lcl_picture_buffer *buffer,
                                          struct lcl_images *images);
void lcl_picture_buffer_free(struct lcl_picture_buffer *buffer);

/* Makes a malloc'd buffer hold at least `want` floats, with room to grow; its content is not kept.
 */
LCL_CHECKED lcl_status lcl_floats_reserve(float **buffer, size_t *cap, size_t want);

#endif
