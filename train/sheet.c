#include "train/sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/font.h"

/* Pixels. A tile is a square picture with two lines of name and one of similarity below. */
enum {
    SIDE = 144,
    GAP = 12,
    MARGIN = 24,
    SCALE = 2,
    LINE = (LCL_FONT_HEIGHT + 2) * SCALE,
    ROW_HEIGHT = SIDE + 6 + 3 * LINE + 14,
    FRAME = 4,
    FIRST_GAP = 24, /* sets the class apart from its neighbors */
    BLOCK_WIDTH = LCL_SHEET_TILES * SIDE + (LCL_SHEET_TILES - 2) * GAP + FIRST_GAP,
    BLOCK_GAP = 56,
    HEAD = 3 * LINE,
    LINE_CHARS = SIDE / (LCL_FONT_ADVANCE * SCALE)
};

static const uint8_t paper[3] = {250, 250, 248}, ink[3] = {28, 32, 38}, faint[3] = {92, 98, 108},
                     accent[3] = {0, 100, 168}, mat[3] = {128, 128, 128};

static void fill_rect(struct lcl_image *out, int x0, int y0, int width, int height,
                      const uint8_t rgb[3])
{
    for (int y = y0; y < y0 + height; y++)
        for (int x = x0; x < x0 + width; x++)
            memcpy(out->pixels + ((size_t)y * (size_t)out->width + (size_t)x) * 3, rgb, 3);
}

/* Small pictures grow by a whole factor (sprites stay crisp), large ones shrink to fit. */
static lcl_status draw_picture(struct lcl_image *out, int x0, int y0, const struct lcl_image *in)
{
    struct lcl_image fit = {0};
    int longest = in->width > in->height ? in->width : in->height;
    int times = SIDE / longest;
    const struct lcl_image *from = in;
    if (times < 1) {
        int width = in->width * SIDE / longest, height = in->height * SIDE / longest;
        LCL_TRY(lcl_image_resize_bicubic(in, width > 0 ? width : 1, height > 0 ? height : 1, &fit));
        from = &fit;
        times = 1;
    }
    int width = from->width * times, height = from->height * times;
    x0 += (SIDE - width) / 2;
    y0 += (SIDE - height) / 2;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t at = (size_t)(y / times) * (size_t)from->width + (size_t)(x / times);
            fill_rect(out, x0 + x, y0 + y, 1, 1, from->pixels + at * 3);
        }
    lcl_image_free(&fit);
    return LCL_OK;
}

/* Bytes of `text` that fit in one line: to the last blank that does, or cut. */
static size_t line_bytes(const char *text)
{
    size_t n = strlen(text);
    if (n <= LINE_CHARS) return n;
    for (size_t i = LINE_CHARS; i > 0; i--)
        if (text[i] == ' ') return i;
    return LINE_CHARS;
}

static void draw_name(struct lcl_image *out, int x, int y, const uint8_t rgb[3], const char *name,
                      double similarity)
{
    for (int line = 0; line < 2 && *name; line++) {
        size_t n = line_bytes(name);
        lcl_font_draw(out, x, y, SCALE, rgb, name, n);
        name += n;
        while (*name == ' ') name++;
        y += LINE;
    }
    if (isnan(similarity)) return;
    char text[16];
    int n = snprintf(text, sizeof text, "%.3f", similarity);
    lcl_font_draw(out, x, y, SCALE, faint, text, n > 0 && n < 16 ? (size_t)n : 0);
}

static lcl_status draw_row(struct lcl_image *out, int x, int y, const struct lcl_sheet_row *row)
{
    for (int i = 0; i < LCL_SHEET_TILES; i++) {
        const struct lcl_sheet_tile *tile = &row->tiles[i];
        if (tile->image.pixels) {
            if (tile->image.channels != 3 || tile->image.width < 1 || tile->image.height < 1)
                return LCL_FAIL(LCL_SHAPE, "sheet picture of \"%s\" is %dx%d with %d channels",
                                tile->name, tile->image.width, tile->image.height,
                                tile->image.channels);
            if (i == 0)
                fill_rect(out, x - FRAME, y - FRAME, SIDE + 2 * FRAME, SIDE + 2 * FRAME, accent);
            fill_rect(out, x, y, SIDE, SIDE, mat);
            LCL_TRY(draw_picture(out, x, y, &tile->image));
            draw_name(out, x, y + SIDE + 6 + FRAME, i ? ink : accent, tile->name, tile->similarity);
        }
        x += SIDE + (i ? GAP : FIRST_GAP);
    }
    return LCL_OK;
}

lcl_status lcl_sheet_draw(const struct lcl_sheet_row *rows, int n, const char *title,
                          struct lcl_image *out)
{
    if (n < 1 || n > LCL_SHEET_MAX_ROWS)
        return LCL_FAIL(LCL_RANGE, "%d rows in a contact sheet, wanted 1..%d", n,
                        LCL_SHEET_MAX_ROWS);
    int blocks = n < 4 ? 1 : 2, per_block = (n + blocks - 1) / blocks;
    *out = (struct lcl_image){.width = 2 * MARGIN + blocks * BLOCK_WIDTH + (blocks - 1) * BLOCK_GAP,
                              .height = MARGIN + HEAD + per_block * ROW_HEIGHT + MARGIN / 2,
                              .channels = 3};
    out->pixels = malloc((size_t)out->width * (size_t)out->height * 3);
    if (!out->pixels) return LCL_FAIL(LCL_MEMORY, "out of memory for a sheet of %d rows", n);
    fill_rect(out, 0, 0, out->width, out->height, paper);
    lcl_font_draw(out, MARGIN, MARGIN, SCALE, ink, title, strlen(title));
    for (int i = 0; i < n; i++) {
        int x = MARGIN + i / per_block * (BLOCK_WIDTH + BLOCK_GAP);
        int y = MARGIN + HEAD + i % per_block * ROW_HEIGHT;
        lcl_status status = draw_row(out, x, y, &rows[i]);
        if (status != LCL_OK) {
            lcl_image_free(out);
            return status;
        }
    }
    return LCL_OK;
}

static lcl_status read_tile(struct lcl_pack *pack, int32_t c, double similarity,
                            struct lcl_sheet_tile *tile)
{
    const struct lcl_decode_options options = {
        .composite_alpha = true, .background = {128, 128, 128}, .apply_exif = true};
    const struct lcl_class *from = &pack->classes[c];
    snprintf(tile->name, sizeof tile->name, "%s", from->name);
    tile->similarity = similarity;
    if (from->n_images < 1) return LCL_OK;
    return lcl_pack_read_image(pack, from->images[0], &options, &tile->image);
}

/* Numbers of at most `max` classes, held-out ones first, evenly spread over a split that is too
 * large. */
static int choose(const struct lcl_pack *pack, int max, int32_t *chosen)
{
    int n = 0;
    for (int split = LCL_SPLIT_TEST; split >= LCL_SPLIT_TRAIN && n < max; split--) {
        int64_t of_split = 0, room = max - n, seen = 0;
        for (int32_t c = 0; c < pack->n_classes; c++)
            of_split += (int)pack->classes[c].split == split;
        for (int32_t c = 0; c < pack->n_classes; c++) {
            if ((int)pack->classes[c].split != split) continue;
            bool take = of_split <= room || seen * room / of_split != (seen + 1) * room / of_split;
            if (take) chosen[n++] = c;
            seen++;
        }
    }
    return n;
}

static lcl_status read_rows(struct lcl_pack *pack, const struct lcl_neighbors *table,
                            const int32_t *chosen, int n, struct lcl_sheet_row *rows)
{
    for (int r = 0; r < n; r++) {
        LCL_TRY(read_tile(pack, chosen[r], (double)NAN, &rows[r].tiles[0]));
        for (int k = 0; k + 1 < LCL_SHEET_TILES && k < table->width; k++) {
            size_t at = (size_t)chosen[r] * (size_t)table->width + (size_t)k;
            if (table->index[at] < 0 || table->index[at] >= pack->n_classes) break;
            LCL_TRY(read_tile(pack, table->index[at], (double)table->similarity[at],
                              &rows[r].tiles[k + 1]));
        }
    }
    return LCL_OK;
}

lcl_status lcl_sheet_neighbors(struct lcl_pack *pack, const struct lcl_neighbors *table,
                               int max_classes, const char *png_path)
{
    lcl_status status = LCL_OK;
    struct lcl_image sheet = {0};
    uint8_t *png = NULL;
    size_t png_size = 0;
    int32_t chosen[LCL_SHEET_MAX_ROWS];
    char title[128];
    if (table->n_classes != pack->n_classes)
        return LCL_FAIL(LCL_SHAPE, "neighbor table of %d classes for a pack of %d",
                        (int)table->n_classes, (int)pack->n_classes);
    int max = max_classes < LCL_SHEET_MAX_ROWS ? max_classes : LCL_SHEET_MAX_ROWS;
    int n = choose(pack, max, chosen);
    struct lcl_sheet_row *rows = calloc((size_t)n + 1, sizeof *rows);
    if (!rows) return LCL_FAIL(LCL_MEMORY, "out of memory for a sheet of %d rows", n);
    snprintf(title, sizeof title, "each class (framed) beside its hardest neighbors: %d of %d", n,
             (int)pack->n_classes);
    LCL_TRY_GOTO(read_rows(pack, table, chosen, n, rows));
    LCL_TRY_GOTO(lcl_sheet_draw(rows, n, title, &sheet));
    LCL_TRY_GOTO(lcl_image_encode_png(&sheet, &png, &png_size));
    LCL_TRY_GOTO(lcl_fs_write_atomic(png_path, png, png_size));
out:
    for (int r = 0; r < n; r++)
        for (int k = 0; k < LCL_SHEET_TILES; k++) lcl_image_free(&rows[r].tiles[k].image);
    free(rows);
    free(png);
    lcl_image_free(&sheet);
    return status;
}
