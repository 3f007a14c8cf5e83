/* PNG, JPEG, WebP and GIF through the one way in. */
#include "tests/fuzz/fuzz.h"

#include <jpeglib.h>
#include <webp/encode.h>

#include "data/image.h"
#include "tests/support/tiny.h"

enum { SIDE = 24 };

static void draw(uint8_t *rgb)
{
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(i * 37 ^ i >> 5);
}

static struct fuzz_file png_file(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/seed.png", temp_dir());
    tiny_write_picture(path, 1, 2);
    return fuzz_whole(path);
}

static struct fuzz_file jpeg_file(void)
{
    uint8_t rgb[SIDE * SIDE * 3];
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    draw(rgb);
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &size);
    c.image_width = c.image_height = SIDE;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < SIDE) {
        JSAMPROW row = rgb + c.next_scanline * SIDE * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return (struct fuzz_file){bytes, size};
}

static struct fuzz_file webp_file(bool lossy)
{
    uint8_t rgb[SIDE * SIDE * 3], *bytes = NULL;
    draw(rgb);
    size_t size = lossy ? WebPEncodeRGB(rgb, SIDE, SIDE, SIDE * 3, 60, &bytes)
                        : WebPEncodeLosslessRGB(rgb, SIDE, SIDE, SIDE * 3, &bytes);
    struct fuzz_file f = {malloc(size), size};
    assert_true(size > 0 && f.bytes);
    memcpy(f.bytes, bytes, size);
    WebPFree(bytes);
    return f;
}

/* Two by two gray pixels as plain codes between a clear and an end. */
static struct fuzz_file gif_file(void)
{
    static const uint8_t head[] = {'G', 'I', 'F', '8', '9', 'a', 4, 0, 3, 0, 0xf6, 0, 0};
    static const uint8_t frame[] = {',', 1, 0,    1, 0, 2, 0, 2,    0, 0x40,
                                    7,   6, 0x80, 5, 6, 7, 9, 0x81, 0, ';'};
    struct fuzz_file f = {malloc(600), 0};
    assert_non_null(f.bytes);
    memcpy(f.bytes, head, sizeof head);
    for (size_t i = 0; i < 128; i++) memset(f.bytes + sizeof head + 3 * i, (int)i, 3);
    f.size = sizeof head + 3 * 128;
    memcpy(f.bytes + f.size, frame, sizeof frame);
    f.size += sizeof frame;
    return f;
}

static lcl_status read_picture(const char *path, const struct fuzz_file *f)
{
    struct lcl_decode_options o = {.keep_alpha = f->size % 2, .apply_exif = true};
    struct lcl_image image;
    (void)path;
    LCL_TRY(lcl_image_decode(f->bytes, f->size, "case", &o, &image));
    lcl_image_free(&image);
    return LCL_OK;
}

/* PNG's checksum (its specification, annex D), bit by bit. */
static uint32_t png_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* Makes the checksums of a PNG's chunks right. */
static void mend_png(uint8_t *bytes, size_t size)
{
    for (size_t at = 8; size >= 12 && at <= size - 12;) {
        uint32_t n = (uint32_t)bytes[at] << 24 | (uint32_t)bytes[at + 1] << 16 |
                     (uint32_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (n > size - 12 - at) return;
        uint32_t crc = png_crc(bytes + at + 4, n + 4);
        for (int i = 0; i < 4; i++) bytes[at + 8 + n + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
}

/* As it is, and with checksums that hold, which lead further in. */
static lcl_status read_png(const char *path, const struct fuzz_file *f)
{
    struct fuzz_file mended = {malloc(f->size + 1), f->size};
    assert_non_null(mended.bytes);
    if (f->size > 0) memcpy(mended.bytes, f->bytes, f->size);
    mend_png(mended.bytes, mended.size);
    lcl_status good = read_picture(path, &mended), as_is = read_picture(path, f);
    free(mended.bytes);
    return as_is == LCL_OK ? good : as_is;
}

static size_t png_seeds(struct fuzz_file *seeds)
{
    seeds[0] = png_file();
    return 1;
}
static size_t jpeg_seeds(struct fuzz_file *seeds)
{
    seeds[0] = jpeg_file();
    return 1;
}
static size_t webp_seeds(struct fuzz_file *seeds)
{
    seeds[0] = webp_file(false);
    seeds[1] = webp_file(true);
    return 2;
}
static size_t gif_seeds(struct fuzz_file *seeds)
{
    seeds[0] = gif_file();
    return 1;
}

static const char *const png_words[] = {"IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "iCCP",
                                        "eXIf", "bKGD", "sBIT", "acTL", "zTXt", NULL};
static const char *const jpeg_words[] = {"\xff\xc0", "\xff\xc2", "\xff\xc4", "\xff\xda", "\xff\xdb",
                                         "\xff\xdd", "\xff\xd8", "\xff\xd9", "\xff\xe1", "\xff\xee",
                                         "Adobe",    "Exif",     "II*",      "MM",       NULL};
static const char *const webp_words[] = {"RIFF", "WEBP", "VP8 ", "VP8L", "VP8X", "ALPH",
                                         "ANIM", "ANMF", "EXIF", "ICCP", NULL};
static const char *const gif_words[] = {"GIF87a", "GIF89a", "!\xf9\x04",   "!\xff\x0b", "!\xfe",
                                        ",",      ";",      "NETSCAPE2.0", NULL};

const struct fuzz_target fuzz_png = {
    .name = "png", .file = "", .seeds = png_seeds, .read = read_png, .words = png_words};
const struct fuzz_target fuzz_jpeg = {
    .name = "jpeg", .file = "", .seeds = jpeg_seeds, .read = read_picture, .words = jpeg_words};
const struct fuzz_target fuzz_webp = {
    .name = "webp", .file = "", .seeds = webp_seeds, .read = read_picture, .words = webp_words};
const struct fuzz_target fuzz_gif = {
    .name = "gif", .file = "", .seeds = gif_seeds, .read = read_picture, .words = gif_words};
