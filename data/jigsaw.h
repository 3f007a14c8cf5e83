/* Tiles of a picture, and the wholes that its shuffled tiles make, as views of it: numbers that say
 * what is cut, so that a tile is named wherever a picture and its view are. */
#ifndef LCL_DATA_JIGSAW_H
#define LCL_DATA_JIGSAW_H

#include "data/pack.h"

enum { LCL_JIGSAW_GRIDS = 7, LCL_JIGSAW_MOST_TILES = 16, LCL_JIGSAW_SHUFFLES = 1 << 26 };

/* Columns and rows of grid 0..LCL_JIGSAW_GRIDS-1: 2x2, 2x3, 3x2, 3x3, 3x4, 4x3, 4x4. */
struct lcl_jigsaw_grid {
    int columns, rows;
};
struct lcl_jigsaw_grid lcl_jigsaw_grid(int grid);

/* The view that shows tile row * columns + column of a grid alone. */
int32_t lcl_jigsaw_tile(int grid, int tile);
/* The view that shows all tiles of a grid, each in a place of shuffle's (0..LCL_JIGSAW_SHUFFLES-1).
 */
int32_t lcl_jigsaw_whole(int grid, uint32_t shuffle);
/* False for views of augmentation. */
bool lcl_jigsaw_is_view(int32_t view);
int lcl_jigsaw_grid_of(int32_t view);
/* Of a tile's view: its number; -1 of a whole's. */
int lcl_jigsaw_tile_of(int32_t view);
/* Of a whole's view: place[i] = row * columns + column of where tile i stands, a permutation that
 * its shuffle names. */
void lcl_jigsaw_places(int32_t view, int place[LCL_JIGSAW_MOST_TILES]);

/* What a view shows of a picture of any channels. Tiles are floor(width / columns) x
 * floor(height / rows) pixels; what is left over at the right and the bottom is of none. LCL_RANGE
 * where a picture has fewer pixels than tiles. */
LCL_CHECKED lcl_status lcl_jigsaw_cut(const struct lcl_image *in, int32_t view,
                                      struct lcl_image *out);
/* lcl_pack_read_pixels of such views: out [n, 3, S, S]. A picture is decoded once for all views of
 * it that stand side by side. */
LCL_CHECKED lcl_status lcl_jigsaw_read_pixels(struct lcl_pack *pack, const int64_t *images,
                                              const int32_t *views, int64_t n,
                                              const struct lcl_preprocess *p, float *out_n3SS);

#endif
