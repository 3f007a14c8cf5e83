/* A small bitmap font of our own, for text in PNG pictures: 5 pixels wide, 9 high with descenders.
 */
#ifndef LCL_TRAIN_FONT_H
#define LCL_TRAIN_FONT_H

#include "data/image.h"

enum { LCL_FONT_WIDTH = 5, LCL_FONT_ADVANCE = 6, LCL_FONT_HEIGHT = 9 };

/* Draws n bytes of `text` with its upper left corner at (x, y), each font pixel scale x scale wide,
 * in an RGB image; what lies outside is cut. Capitals are drawn as lower case, what the font lacks
 * as '?' (a UTF-8 character is one '?'). */
void lcl_font_draw(struct lcl_image *image, int x, int y, int scale, const uint8_t rgb[3],
                   const char *text, size_t n);

#endif
