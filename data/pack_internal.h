/* What lies behind an open pack. Internal to data/. */
#ifndef LCL_DATA_PACK_INTERNAL_H
#define LCL_DATA_PACK_INTERNAL_H

#include "data/pack.h"

struct pack_impl {
    int fd;           /* of a pack's file; -1: a table's */
    bool pixels;      /* stored decoded */
    int64_t at;       /* where the picture bytes begin in the file */
    uint64_t *offset; /* [n + 1] */
    int32_t *crc;     /* [n] bits of the checksums */
    int32_t *shape;   /* [n, 3] */
    char *names;      /* NUL-terminated, end to end */
    uint64_t *name_at;
    int32_t *images;      /* [n] picture numbers by class: what lcl_class.images points into */
    int64_t rows_at;      /* where the rows' texts begin in the file */
    uint64_t *row_offset; /* [rows + 1] */
    int32_t *row_crc;     /* [rows] bits of the checksums */
    char *root; /* of a table: the folder its names begin in, "" without pictures; else NULL */
    struct lcl_archived *archived; /* of a table: pictures that lie in archives; NULL: none does */
};

/* A call of lcl_pack_read_pixels, or of lcl_jigsaw_read_pixels, which has views. */
struct pack_pixels {
    struct lcl_pack *pack;
    const int64_t *images;
    const int32_t *views;
    int64_t n;
    const struct lcl_preprocess *p;
    float *out; /* [n, 3, S, S] */
};
/* Picture images[k] over p's background; the caller frees. */
LCL_CHECKED lcl_status pack_picture(const struct pack_pixels *j, int64_t k, struct lcl_image *out);
/* Puts it, or a view of it, in place k of out. */
LCL_CHECKED lcl_status pack_put(const struct pack_pixels *j, int64_t k,
                                const struct lcl_image *image);
/* Says of an error of either that it is about picture images[k]; LCL_OK stays. */
LCL_CHECKED lcl_status pack_about(const struct pack_pixels *j, int64_t k, lcl_status status);

#endif
