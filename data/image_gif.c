/* First frame of a GIF, with the pixels outside it as Pillow paints them. */
#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

#include "data/image_formats.h"

struct gif_job {
    const struct lcl_image_file *f;
    size_t at;
    GifFileType *gif;
    int transparent; /* index, or -1 */
    uint8_t *line;
};

static int on_read(GifFileType *gif, GifByteType *to, int n)
{
    struct gif_job *j = gif->UserData;
    size_t left = j->f->size - j->at, take = (size_t)n < left ? (size_t)n : left;
    memcpy(to, j->f->bytes + j->at, take);
    j->at += take;
    return (int)take;
}

static lcl_status damaged(const struct gif_job *j, int code)
{
    const char *why = GifErrorString(code);
    return LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated GIF%s%s", j->f->name, why ? ": " : "",
                    why ? why : "");
}

static lcl_status read_extension(struct gif_job *j)
{
    int code;
    GifByteType *block;
    if (DGifGetExtension(j->gif, &code, &block) == GIF_ERROR) return damaged(j, j->gif->Error);
    while (block) {
        if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4)
            j->transparent = block[1] & 1 ? block[4] : -1;
        if (DGifGetExtensionNext(j->gif, &block) == GIF_ERROR) return damaged(j, j->gif->Error);
    }
    return LCL_OK;
}

static void paint(const struct gif_job *j, const ColorMapObject *map, const uint8_t *index, int n,
                  uint8_t *to, int channels)
{
    for (int x = 0; x < n; x++, to += channels) {
        int i = index[x];
        if (!map) {
            to[0] = to[1] = to[2] = (uint8_t)i;
        } else if (i < map->ColorCount) {
            to[0] = map->Colors[i].Red;
            to[1] = map->Colors[i].Green;
            to[2] = map->Colors[i].Blue;
        } else {
            to[0] = to[1] = to[2] = 0;
        }
        if (channels == 4) to[3] = i == j->transparent ? 0 : 255;
    }
}

/* Row of the frame that is stored as the i-th. */
static int interlaced_row(int i, int height)
{
    static const int first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    for (int pass = 0; pass < 4; pass++) {
        int rows = height > first[pass] ? (height - first[pass] + step[pass] - 1) / step[pass] : 0;
        if (i < rows) return first[pass] + i * step[pass];
        i -= rows;
    }
    return height - 1;
}

static lcl_status read_frame(struct gif_job *j, struct lcl_image *out)
{
    GifFileType *g = j->gif;
    if (DGifGetImageDesc(g) == GIF_ERROR) return damaged(j, g->Error);
    int64_t left = g->Image.Left, top = g->Image.Top, w = g->Image.Width, h = g->Image.Height;
    if (left < 0 || top < 0 || w < 1 || h < 1) return damaged(j, D_GIF_ERR_NO_IMAG_DSCR);
    /* A frame that reaches out of the canvas makes it larger. */
    int64_t width = left + w > g->SWidth ? left + w : g->SWidth;
    int64_t height = top + h > g->SHeight ? top + h : g->SHeight;
    int channels = j->transparent >= 0 ? 4 : 3;
    LCL_TRY(lcl_image_alloc(out, width, height, channels, j->f->name));
    const ColorMapObject *map = g->Image.ColorMap ? g->Image.ColorMap : g->SColorMap;
    j->line = malloc((size_t)(w > width ? w : width));
    if (!j->line) return LCL_FAIL(LCL_MEMORY, "%s: no memory for a row", j->f->name);
    bool covered = left == 0 && top == 0 && w == width && h == height;
    if (!covered) memset(j->line, j->transparent >= 0 ? j->transparent : 0, (size_t)width);
    for (int64_t y = 0; y < height && !covered; y++)
        paint(j, map, j->line, (int)width, out->pixels + (size_t)(y * width * channels), channels);
    for (int64_t i = 0; i < h; i++) {
        if (DGifGetLine(g, j->line, (int)w) == GIF_ERROR) return damaged(j, g->Error);
        int64_t y = top + (g->Image.Interlace ? interlaced_row((int)i, (int)h) : i);
        paint(j, map, j->line, (int)w, out->pixels + (size_t)((y * width + left) * channels),
              channels);
    }
    return LCL_OK;
}

static lcl_status read_gif(struct gif_job *j, struct lcl_image *out)
{
    for (;;) {
        GifRecordType type;
        if (DGifGetRecordType(j->gif, &type) == GIF_ERROR) return damaged(j, j->gif->Error);
        if (type == IMAGE_DESC_RECORD_TYPE) return read_frame(j, out);
        if (type == TERMINATE_RECORD_TYPE)
            return LCL_FAIL(LCL_FORMAT, "%s: GIF without a frame", j->f->name);
        if (type == EXTENSION_RECORD_TYPE) LCL_TRY(read_extension(j));
    }
}

lcl_status lcl_gif_decode(const struct lcl_image_file *f, struct lcl_image *out)
{
    struct gif_job j = {.f = f, .transparent = -1};
    int code = 0;
    j.gif = DGifOpen(&j, on_read, &code);
    if (!j.gif) return damaged(&j, code);
    lcl_status status = read_gif(&j, out);
    if (status != LCL_OK) lcl_image_free(out);
    DGifCloseFile(j.gif, &code);
    free(j.line);
    return status;
}
