/* The decoders behind lcl_image_decode: each gives RGB, or RGBA where the file has alpha, as
 * stored. */
#ifndef LCL_DATA_IMAGE_FORMATS_H
#define LCL_DATA_IMAGE_FORMATS_H

#include "data/image.h"

struct lcl_image_file {
    const unsigned char *bytes;
    size_t size;
    const char *name;
    bool gray16_high_byte;
};

/* orientation: 1..8 as EXIF counts, 1 where the file says nothing. On failure `out` holds nothing.
 */
LCL_CHECKED lcl_status lcl_png_decode(const struct lcl_image_file *f, struct lcl_image *out,
                                      int *orientation);
LCL_CHECKED lcl_status lcl_jpeg_decode(const struct lcl_image_file *f, struct lcl_image *out,
                                       int *orientation);
LCL_CHECKED lcl_status lcl_webp_decode(const struct lcl_image_file *f, struct lcl_image *out,
                                       int *orientation);
LCL_CHECKED lcl_status lcl_gif_decode(const struct lcl_image_file *f, struct lcl_image *out);

/* Refuses what is empty or over the limits: LCL_FORMAT, LCL_RANGE. */
LCL_CHECKED lcl_status lcl_image_check_size(int64_t width, int64_t height, const char *name);
/* Checks the size against the limits, then allocates. LCL_FORMAT, LCL_RANGE, LCL_MEMORY. */
LCL_CHECKED lcl_status lcl_image_alloc(struct lcl_image *out, int64_t width, int64_t height,
                                       int channels, const char *name);
/* Orientation tag of a TIFF block ("II*\0..." or "MM\0*..."), 1 where there is none. */
int lcl_exif_orientation(const unsigned char *tiff, size_t size);

/* Straight-alpha RGBA on an opaque colour, as Pillow's alpha_composite rounds; gives RGB. */
void lcl_image_flatten(struct lcl_image *image, const uint8_t background[3]);

/* What the options say about alpha: kept, composited or dropped. */
void lcl_image_apply_alpha(struct lcl_image *image, const struct lcl_decode_options *options);

/* Pillow's a * b / 255, rounded. */
static inline unsigned lcl_muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

#endif
