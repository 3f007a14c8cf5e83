/* One way in for all formats: sniffing, orientation, alpha. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/image_formats.h"

static const size_t MAX_FILE_BYTES = (size_t)1 << 30;

void lcl_image_free(struct lcl_image *image)
{
    free(image->pixels);
    *image = (struct lcl_image){0};
}

lcl_status lcl_image_check_size(int64_t width, int64_t height, const char *name)
{
    if (width < 1 || height < 1)
        return LCL_FAIL(LCL_FORMAT, "%s: image of %lld x %lld pixels", name, (long long)width,
                        (long long)height);
    if (width > LCL_IMAGE_MAX_SIDE || height > LCL_IMAGE_MAX_SIDE ||
        width * height > LCL_IMAGE_MAX_PIXELS)
        return LCL_FAIL(LCL_RANGE,
                        "%s: image of %lld x %lld pixels, at most %d a side and %lld in all", name,
                        (long long)width, (long long)height, LCL_IMAGE_MAX_SIDE,
                        (long long)LCL_IMAGE_MAX_PIXELS);
    return LCL_OK;
}

lcl_status lcl_image_alloc(struct lcl_image *out, int64_t width, int64_t height, int channels,
                           const char *name)
{
    *out = (struct lcl_image){0};
    LCL_TRY(lcl_image_check_size(width, height, name));
    out->pixels = calloc((size_t)(width * height), (size_t)channels);
    if (!out->pixels)
        return LCL_FAIL(LCL_MEMORY, "%s: no memory for %lld x %lld pixels", name, (long long)width,
                        (long long)height);
    out->width = (int)width;
    out->height = (int)height;
    out->channels = channels;
    return LCL_OK;
}

static unsigned tiff_u16(const unsigned char *p, bool big)
{
    return big ? (unsigned)(p[0] << 8 | p[1]) : (unsigned)(p[1] << 8 | p[0]);
}

static uint32_t tiff_u32(const unsigned char *p, bool big)
{
    return big ? (uint32_t)tiff_u16(p, big) << 16 | tiff_u16(p + 2, big)
               : (uint32_t)tiff_u16(p + 2, big) << 16 | tiff_u16(p, big);
}

int lcl_exif_orientation(const unsigned char *tiff, size_t size)
{
    enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };
    if (size < 8) return 1;
    bool big = tiff[0] == 'M';
    if (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0) return 1;
    size_t at = tiff_u32(tiff + 4, big);
    if (at > size - 2) return 1;
    unsigned entries = tiff_u16(tiff + at, big);
    at += 2;
    for (unsigned i = 0; i < entries && at + ENTRY_BYTES <= size; i++, at += ENTRY_BYTES) {
        if (tiff_u16(tiff + at, big) != TAG_ORIENTATION) continue;
        if (tiff_u16(tiff + at + 2, big) != TYPE_SHORT) return 1;
        unsigned v = tiff_u16(tiff + at + 8, big);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}

/* Where pixel (x, y) of a picture of w x h goes when it is turned upright. */
static size_t upright_index(int orientation, int x, int y, int w, int h)
{
    int64_t X = x, Y = y, W = w, H = h;
    switch (orientation) {
    case 2:
        return (size_t)(Y * W + (W - 1 - X));
    case 3:
        return (size_t)((H - 1 - Y) * W + (W - 1 - X));
    case 4:
        return (size_t)((H - 1 - Y) * W + X);
    case 5:
        return (size_t)(X * H + Y);
    case 6:
        return (size_t)(X * H + (H - 1 - Y));
    case 7:
        return (size_t)((W - 1 - X) * H + (H - 1 - Y));
    case 8:
        return (size_t)((W - 1 - X) * H + Y);
    default:
        return (size_t)(Y * W + X);
    }
}

static lcl_status turn_upright(struct lcl_image *image, int orientation, const char *name)
{
    if (orientation == 1) return LCL_OK;
    bool swapped = orientation >= 5;
    int w = image->width, h = image->height;
    size_t c = (size_t)image->channels;
    struct lcl_image turned;
    LCL_TRY(lcl_image_alloc(&turned, swapped ? h : w, swapped ? w : h, image->channels, name));
    const uint8_t *from = image->pixels;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, from += c)
            memcpy(turned.pixels + c * upright_index(orientation, x, y, w, h), from, c);
    lcl_image_free(image);
    *image = turned;
    return LCL_OK;
}

void lcl_image_flatten(struct lcl_image *image, const uint8_t background[3])
{
    enum { BITS = 7 }; /* extra bits of Pillow's AlphaComposite.c */
    size_t n = (size_t)image->width * (size_t)image->height;
    const uint8_t *from = image->pixels;
    uint8_t *to = image->pixels;
    for (size_t i = 0; i < n; i++, from += 4, to += 3) {
        uint32_t a = from[3], front = a << BITS, back = (255 - a) << BITS;
        for (int k = 0; k < 3; k++) {
            uint32_t t = from[k] * front + background[k] * back + (0x80u << BITS);
            to[k] = (uint8_t)((((t >> 8) + t) >> 8) >> BITS);
        }
    }
    image->channels = 3;
}

static void drop_alpha(struct lcl_image *image)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    const uint8_t *from = image->pixels;
    uint8_t *to = image->pixels;
    for (size_t i = 0; i < n; i++, from += 4, to += 3) memmove(to, from, 3);
    image->channels = 3;
}

void lcl_image_apply_alpha(struct lcl_image *image, const struct lcl_decode_options *options)
{
    if (image->channels == 3 || options->keep_alpha) return;
    if (options->composite_alpha)
        lcl_image_flatten(image, options->background);
    else
        drop_alpha(image);
}

static lcl_status decode_by_magic(const struct lcl_image_file *f, struct lcl_image *out,
                                  int *orientation)
{
    const unsigned char *b = f->bytes;
    if (f->size >= 8 && memcmp(b, "\211PNG\r\n\032\n", 8) == 0)
        return lcl_png_decode(f, out, orientation);
    if (f->size >= 3 && memcmp(b, "\377\330\377", 3) == 0)
        return lcl_jpeg_decode(f, out, orientation);
    if (f->size >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0)
        return lcl_webp_decode(f, out, orientation);
    if (f->size >= 6 && (memcmp(b, "GIF87a", 6) == 0 || memcmp(b, "GIF89a", 6) == 0))
        return lcl_gif_decode(f, out);
    if (f->size == 0) return LCL_FAIL(LCL_FORMAT, "%s: empty file", f->name);
    return LCL_FAIL_HINT(LCL_FORMAT, "PNG, JPEG, WebP and GIF are read",
                         "%s: not a picture of a known format (%zu bytes)", f->name, f->size);
}

lcl_status lcl_image_decode(const void *bytes, size_t size, const char *name,
                            const struct lcl_decode_options *options, struct lcl_image *out)
{
    struct lcl_image_file f = {bytes, size, name, options->gray16_high_byte};
    int orientation = 1;
    *out = (struct lcl_image){0};
    LCL_TRY(decode_by_magic(&f, out, &orientation));
    if (options->apply_exif) {
        lcl_status status = turn_upright(out, orientation, name);
        if (status != LCL_OK) {
            lcl_image_free(out);
            return status;
        }
    }
    lcl_image_apply_alpha(out, options);
    return LCL_OK;
}

lcl_status lcl_image_load(const char *path, const struct lcl_decode_options *options,
                          struct lcl_image *out)
{
    char *bytes = NULL;
    size_t size = 0;
    *out = (struct lcl_image){0};
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &bytes, &size));
    lcl_status status = lcl_image_decode(bytes, size, path, options, out);
    free(bytes);
    return status;
}
