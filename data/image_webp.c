/* WebP by libwebp's still decoder; an animation's first frame is found in the RIFF chunks by hand.
 */
#include <string.h>

#include <webp/decode.h>

#include "data/image_formats.h"

static uint32_t le24(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

static uint32_t le32(const unsigned char *p) { return le24(p) | (uint32_t)p[3] << 24; }

/* The first chunk of this tag: its payload, or NULL. */
static const unsigned char *find_chunk(const struct lcl_image_file *f, const char tag[4], size_t *n)
{
    size_t at = 12;
    while (at + 8 <= f->size) {
        size_t size = le32(f->bytes + at + 4);
        if (size > f->size - at - 8) return NULL;
        if (memcmp(f->bytes + at, tag, 4) == 0) {
            *n = size;
            return f->bytes + at + 8;
        }
        at += 8 + size + (size & 1);
    }
    return NULL;
}

/* Decodes a VP8/VP8L stream (with its RIFF or ALPH part) into canvas at x, y. */
static lcl_status decode_into(struct lcl_image *canvas, const unsigned char *data, size_t size,
                              int x, int y, int w, int h, const char *name)
{
    int stride = canvas->width * canvas->channels;
    uint8_t *to = canvas->pixels + (size_t)y * (size_t)stride + (size_t)(x * canvas->channels);
    size_t room = (size_t)(h - 1) * (size_t)stride + (size_t)(w * canvas->channels);
    const uint8_t *got = canvas->channels == 4 ? WebPDecodeRGBAInto(data, size, to, room, stride)
                                               : WebPDecodeRGBInto(data, size, to, room, stride);
    return got ? LCL_OK : LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated WebP", name);
}

static lcl_status first_frame(const struct lcl_image_file *f, struct lcl_image *out)
{
    enum { FRAME_HEADER = 16, VP8X_ALPHA = 0x10 };
    size_t n = 0, vp8x_n = 0;
    const unsigned char *frame = find_chunk(f, "ANMF", &n);
    const unsigned char *vp8x = find_chunk(f, "VP8X", &vp8x_n);
    WebPBitstreamFeatures part;
    if (!frame || n <= FRAME_HEADER || !vp8x || vp8x_n < 10 ||
        WebPGetFeatures(frame + FRAME_HEADER, n - FRAME_HEADER, &part) != VP8_STATUS_OK)
        return LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated WebP animation", f->name);
    int64_t width = (int64_t)le24(vp8x + 4) + 1, height = (int64_t)le24(vp8x + 7) + 1;
    int64_t x = 2 * (int64_t)le24(frame), y = 2 * (int64_t)le24(frame + 3);
    if (x + part.width > width || y + part.height > height)
        return LCL_FAIL(LCL_FORMAT, "%s: WebP frame reaches out of its %lld x %lld canvas", f->name,
                        (long long)width, (long long)height);
    LCL_TRY(lcl_image_alloc(out, width, height, vp8x[0] & VP8X_ALPHA ? 4 : 3, f->name));
    return decode_into(out, frame + FRAME_HEADER, n - FRAME_HEADER, (int)x, (int)y, part.width,
                       part.height, f->name);
}

static lcl_status still(const struct lcl_image_file *f, const WebPBitstreamFeatures *whole,
                        struct lcl_image *out)
{
    LCL_TRY(lcl_image_alloc(out, whole->width, whole->height, whole->has_alpha ? 4 : 3, f->name));
    return decode_into(out, f->bytes, f->size, 0, 0, whole->width, whole->height, f->name);
}

lcl_status lcl_webp_decode(const struct lcl_image_file *f, struct lcl_image *out, int *orientation)
{
    WebPBitstreamFeatures whole;
    if ((uint64_t)le32(f->bytes + 4) + 8 > f->size ||
        WebPGetFeatures(f->bytes, f->size, &whole) != VP8_STATUS_OK)
        return LCL_FAIL(LCL_FORMAT, "%s: damaged or truncated WebP", f->name);
    size_t n = 0;
    const unsigned char *exif = find_chunk(f, "EXIF", &n);
    if (exif && n > 6 && memcmp(exif, "Exif\0\0", 6) == 0) {
        exif += 6;
        n -= 6;
    }
    if (exif) *orientation = lcl_exif_orientation(exif, n);
    lcl_status status = whole.has_animation ? first_frame(f, out) : still(f, &whole, out);
    if (status != LCL_OK) lcl_image_free(out);
    return status;
}
