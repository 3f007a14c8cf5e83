#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "data/image_formats.h"

struct png_job {
    const struct lcl_image_file *f;
    size_t at;
    char error[200];
    png_structp png;
    png_infop info, end;
    struct lcl_image image; /* as libpng gives it: gray(+alpha) 16 in `wide`, else RGB(A) 8 */
    png_bytep *rows;
    uint8_t *wide;
    lcl_status status;
};

static void on_error(png_structp png, png_const_charp message)
{
    struct png_job *j = png_get_error_ptr(png);
    strncpy(j->error, message, sizeof j->error - 1);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct png_job *j = png_get_io_ptr(png);
    if (n > j->f->size - j->at) png_error(png, "file ends too early");
    memcpy(to, j->f->bytes + j->at, n);
    j->at += n;
}

/* Asks libpng for 8-bit RGB(A); 16-bit gray stays 16-bit, since it saturates instead of keeping its
 * high byte. */
static bool set_transforms(struct png_job *j)
{
    int type = png_get_color_type(j->png, j->info), depth = png_get_bit_depth(j->png, j->info);
    bool gray16 = depth == 16 && type == PNG_COLOR_TYPE_GRAY && !j->f->gray16_high_byte;
    png_set_expand(j->png);
    if (depth == 16 && !gray16) png_set_strip_16(j->png);
    if (!(type & PNG_COLOR_MASK_COLOR) && !gray16) png_set_gray_to_rgb(j->png);
    png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    return gray16;
}

static void saturate_gray16(struct png_job *j, int wide_channels)
{
    size_t n = (size_t)j->image.width * (size_t)j->image.height, out_c = (size_t)j->image.channels;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = j->wide + 2 * i * (size_t)wide_channels;
        uint8_t *to = j->image.pixels + i * out_c, v = from[0] ? 255 : from[1];
        to[0] = to[1] = to[2] = v;
        if (out_c == 4) to[3] = from[2];
    }
}

/* Everything between setjmp and the end; libpng's errors leave by longjmp. */
static void read_png(struct png_job *j)
{
    png_read_info(j->png, j->info);
    png_uint_32 w = png_get_image_width(j->png, j->info), h = png_get_image_height(j->png, j->info);
    bool gray16 = set_transforms(j);
    int c = png_get_channels(j->png, j->info);
    int out_channels = gray16 ? (c == 2 ? 4 : 3) : c;
    j->status = lcl_image_alloc(&j->image, w, h, out_channels, j->f->name);
    if (j->status != LCL_OK) return;
    size_t stride = (size_t)w * (size_t)c * (gray16 ? 2 : 1);
    if (gray16) j->wide = malloc(stride * h);
    j->rows = malloc(h * sizeof *j->rows);
    if (!j->rows || (gray16 && !j->wide)) {
        j->status = LCL_FAIL(LCL_MEMORY, "%s: no memory for its rows", j->f->name);
        return;
    }
    if (png_get_rowbytes(j->png, j->info) != stride || (!gray16 && c != 3 && c != 4))
        png_error(j->png, "unexpected row size");
    uint8_t *base = gray16 ? j->wide : j->image.pixels;
    for (png_uint_32 y = 0; y < h; y++) j->rows[y] = base + y * stride;
    png_read_image(j->png, j->rows);
    png_read_end(j->png, j->end);
    if (gray16) saturate_gray16(j, c);
}

static int exif_of(struct png_job *j)
{
    int orientation = 1;
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(j->png, j->info, &n, &exif) || png_get_eXIf_1(j->png, j->end, &n, &exif))
        orientation = lcl_exif_orientation(exif, n);
#endif
    return orientation;
}

/* The size by hand, since libpng's words for one over its limits are "Invalid IHDR data". */
static lcl_status check_header(const struct lcl_image_file *f)
{
    const unsigned char *b = f->bytes;
    if (f->size < 24 || memcmp(b + 12, "IHDR", 4) != 0)
        return LCL_OK; /* libpng says what is wrong */
    return lcl_image_check_size(png_get_uint_32(b + 16), png_get_uint_32(b + 20), f->name);
}

lcl_status lcl_png_decode(const struct lcl_image_file *f, struct lcl_image *out, int *orientation)
{
    LCL_TRY(check_header(f));
    struct png_job *j = calloc(1, sizeof *j); /* on the heap: longjmp must not lose it */
    if (!j) return LCL_FAIL(LCL_MEMORY, "%s: no memory for a PNG reader", f->name);
    j->f = f;
    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    j->end = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info || !j->end) {
        j->status = LCL_FAIL(LCL_MEMORY, "%s: no memory for a PNG reader", f->name);
    } else if (setjmp(png_jmpbuf(j->png)) == 0) {
        png_set_read_fn(j->png, j, on_read);
        png_set_user_limits(j->png, LCL_IMAGE_MAX_SIDE, LCL_IMAGE_MAX_SIDE);
        read_png(j);
        if (j->status == LCL_OK) *orientation = exif_of(j);
    } else {
        j->status = LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated PNG: %s", f->name, j->error);
    }
    lcl_status status = j->status;
    if (status == LCL_OK)
        *out = j->image;
    else
        lcl_image_free(&j->image);
    if (j->png) png_destroy_read_struct(&j->png, &j->info, &j->end);
    free(j->rows);
    free(j->wide);
    free(j);
    return status;
}

/* ---- encoding ---- */

struct png_sink {
    uint8_t *bytes;
    size_t size, cap;
    png_structp png;
    png_infop info;
};

static void on_sink_error(png_structp png, png_const_charp message)
{
    (void)message;
    png_longjmp(png, 1);
}

static void on_write(png_structp png, png_bytep from, size_t n)
{
    struct png_sink *s = png_get_io_ptr(png);
    if (s->size + n > s->cap) {
        size_t cap = 2 * (s->size + n) + 4096;
        uint8_t *grown = realloc(s->bytes, cap);
        if (!grown) png_error(png, "out of memory");
        s->bytes = grown;
        s->cap = cap;
    }
    memcpy(s->bytes + s->size, from, n);
    s->size += n;
}

static void on_flush(png_structp png) { (void)png; }

lcl_status lcl_image_encode_png(const struct lcl_image *image, uint8_t **bytes, size_t *size)
{
    lcl_status status = LCL_FAIL(LCL_MEMORY, "no memory to write a PNG of %d x %d pixels",
                                 image->width, image->height);
    struct png_sink *s = calloc(1, sizeof *s);
    *bytes = NULL;
    *size = 0;
    if (!s) return status;
    s->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_sink_error, on_warning);
    s->info = s->png ? png_create_info_struct(s->png) : NULL;
    if (s->info && setjmp(png_jmpbuf(s->png)) == 0) {
        png_set_write_fn(s->png, s, on_write, on_flush);
        png_set_IHDR(s->png, s->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                     image->channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB,
                     PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
        png_write_info(s->png, s->info);
        size_t stride = (size_t)image->width * (size_t)image->channels;
        for (int y = 0; y < image->height; y++)
            png_write_row(s->png, image->pixels + (size_t)y * stride);
        png_write_end(s->png, s->info);
        *bytes = s->bytes;
        *size = s->size;
        s->bytes = NULL;
        status = LCL_OK;
    }
    if (s->png) png_destroy_write_struct(&s->png, &s->info);
    free(s->bytes);
    free(s);
    return status;
}
