#include "data/jigsaw.h"

#include <string.h>

#include "core/rng.h"
#include "core/threads.h"
#include "data/image_formats.h"
#include "data/pack_internal.h"

/* A view's bits: 30 says that it is one of these, 29 that it is a whole; 26 to 28 hold the grid,
 * the rest the tile or the shuffle. */
enum { PIECE = 1 << 30, WHOLE = 1 << 29, GRID_SHIFT = 26, GRID_MASK = 7 };

static const struct lcl_jigsaw_grid grids[LCL_JIGSAW_GRIDS] = {{2, 2}, {2, 3}, {3, 2}, {3, 3},
                                                               {3, 4}, {4, 3}, {4, 4}};

struct lcl_jigsaw_grid lcl_jigsaw_grid(int grid) { return grids[grid]; }

int32_t lcl_jigsaw_tile(int grid, int tile) { return PIECE | grid << GRID_SHIFT | tile; }

int32_t lcl_jigsaw_whole(int grid, uint32_t shuffle)
{
    return PIECE | WHOLE | grid << GRID_SHIFT | (int32_t)(shuffle % LCL_JIGSAW_SHUFFLES);
}

bool lcl_jigsaw_is_view(int32_t view) { return view >= PIECE; }

int lcl_jigsaw_grid_of(int32_t view) { return view >> GRID_SHIFT & GRID_MASK; }

int lcl_jigsaw_tile_of(int32_t view)
{
    return view & WHOLE ? -1 : view & (LCL_JIGSAW_SHUFFLES - 1);
}

void lcl_jigsaw_places(int32_t view, int place[LCL_JIGSAW_MOST_TILES])
{
    struct lcl_jigsaw_grid g = grids[lcl_jigsaw_grid_of(view)];
    int32_t order[LCL_JIGSAW_MOST_TILES];
    for (int i = 0; i < LCL_JIGSAW_MOST_TILES; i++) order[i] = i;
    struct lcl_rng rng =
        lcl_rng_stream(0, LCL_RNG_JIGSAW, 0, (uint64_t)(view & (LCL_JIGSAW_SHUFFLES - 1)));
    lcl_rng_shuffle(&rng, order, g.columns * g.rows);
    for (int i = 0; i < LCL_JIGSAW_MOST_TILES; i++) place[i] = order[i];
}

/* Tile `tile` of a grid of w x h pixels a tile: its rows go to a place of `out`. */
static void copy_tile(const struct lcl_image *in, struct lcl_jigsaw_grid g, int tile, int w, int h,
                      int place, struct lcl_image *out)
{
    size_t C = (size_t)in->channels, n = (size_t)w * C;
    size_t from_x = (size_t)(tile % g.columns * w), from_y = (size_t)(tile / g.columns * h);
    size_t to_x = (size_t)(place % g.columns * w), to_y = (size_t)(place / g.columns * h);
    for (size_t y = 0; y < (size_t)h; y++)
        memcpy(out->pixels + ((to_y + y) * (size_t)out->width + to_x) * C,
               in->pixels + ((from_y + y) * (size_t)in->width + from_x) * C, n);
}

lcl_status lcl_jigsaw_cut(const struct lcl_image *in, int32_t view, struct lcl_image *out)
{
    int grid = lcl_jigsaw_grid_of(view), tile = lcl_jigsaw_tile_of(view);
    if (!lcl_jigsaw_is_view(view) || grid >= LCL_JIGSAW_GRIDS ||
        tile >= grids[grid].columns * grids[grid].rows)
        return LCL_FAIL(LCL_RANGE, "%d is no view of a tile or of a jigsaw", (int)view);
    struct lcl_jigsaw_grid g = grids[grid];
    int w = in->width / g.columns, h = in->height / g.rows;
    int place[LCL_JIGSAW_MOST_TILES];
    if (w == 0 || h == 0)
        return LCL_FAIL_HINT(LCL_RANGE, "leave pictures of a few pixels out of the pack",
                             "%d x %d pixels cannot be cut in %d x %d tiles", in->width, in->height,
                             g.columns, g.rows);
    if (tile >= 0) {
        LCL_TRY(lcl_image_alloc(out, w, h, in->channels, "a tile"));
        copy_tile(in, g, tile, w, h, 0, out);
        return LCL_OK;
    }
    LCL_TRY(lcl_image_alloc(out, w * g.columns, h * g.rows, in->channels, "a jigsaw"));
    lcl_jigsaw_places(view, place);
    for (int i = 0; i < g.columns * g.rows; i++) copy_tile(in, g, i, w, h, place[i], out);
    return LCL_OK;
}

/* ---- of a pack ---- */

/* Of the first of a picture's views that stand side by side: all of them. */
static lcl_status read_views(void *ctx, int64_t i)
{
    const struct pack_pixels *j = ctx;
    struct lcl_image whole;
    lcl_status status = LCL_OK;
    if (i > 0 && j->images[i] == j->images[i - 1]) return LCL_OK;
    LCL_TRY(pack_picture(j, i, &whole));
    for (int64_t k = i; k < j->n && j->images[k] == j->images[i] && status == LCL_OK; k++) {
        struct lcl_image cut = {0};
        status = lcl_jigsaw_cut(&whole, j->views[k], &cut);
        if (status == LCL_OK) status = pack_put(j, k, &cut);
        lcl_image_free(&cut);
    }
    lcl_image_free(&whole);
    return pack_about(j, i, status);
}

lcl_status lcl_jigsaw_read_pixels(struct lcl_pack *pack, const int64_t *images,
                                  const int32_t *views, int64_t n, const struct lcl_preprocess *p,
                                  float *out_n3SS)
{
    struct pack_pixels j = {pack, images, views, n, p, out_n3SS};
    return lcl_parallel(n, read_views, &j);
}
