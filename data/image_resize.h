/* The resampler behind lcl_image_resize_bicubic, cut to a window of its output. */
#ifndef LCL_DATA_IMAGE_RESIZE_H
#define LCL_DATA_IMAGE_RESIZE_H

#include "data/image.h"

/* Pixels [x, x + width) x [y, y + height) of `in` resized to full_width x full_height: nothing else
 * is computed. */
struct lcl_resize_window {
    int full_width, full_height;
    int x, y, width, height;
};
LCL_CHECKED lcl_status lcl_image_resize_window(const struct lcl_image *in,
                                               const struct lcl_resize_window *w,
                                               struct lcl_image *out);

#endif
