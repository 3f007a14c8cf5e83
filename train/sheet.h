/* Neighbor contact sheet: each class beside its hardest neighbors, as one PNG picture. */
#ifndef LCL_TRAIN_SHEET_H
#define LCL_TRAIN_SHEET_H

#include "data/image.h"
#include "data/neighbors.h"

enum { LCL_SHEET_TILES = 6, LCL_SHEET_MAX_ROWS = 256 };

struct lcl_sheet_tile {
    struct lcl_image image; /* RGB; pixels NULL: no such neighbor, the tile stays empty */
    char name[LCL_CLASS_NAME_BYTES];
    double similarity; /* to the row's class; NaN: not shown */
};
struct lcl_sheet_row {
    struct lcl_sheet_tile
        tiles[LCL_SHEET_TILES]; /* [0] the class, then its neighbors, most similar first */
};

/* Lays n rows out in two columns (one, below four rows). out: RGB, lcl_image_free. */
LCL_CHECKED lcl_status lcl_sheet_draw(const struct lcl_sheet_row *rows, int n, const char *title,
                                      struct lcl_image *out);
/* Draws the first picture of at most max_classes classes (<= LCL_SHEET_MAX_ROWS; held-out ones
 * first) and of their five hardest neighbors, and writes a PNG. */
LCL_CHECKED lcl_status lcl_sheet_neighbors(struct lcl_pack *pack, const struct lcl_neighbors *table,
                                           int max_classes, const char *png_path);

#endif
