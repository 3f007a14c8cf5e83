#include "data/image.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <webp/encode.h>

#include <jpeglib.h> /* after stdio.h */

#include "core/fs.h"
#include "tests/support/support.h"

/* ---- the golden file: a safetensors file read in a few lines ---- */

struct golden {
    char *bytes;
    size_t size;
    json_t *header;
};

static void golden_open(struct golden *g)
{
    ASSERT_OK(lcl_fs_read(shared_path("golden/images/expected.safetensors"), 1 << 26, &g->bytes,
                          &g->size));
    uint64_t n;
    memcpy(&n, g->bytes, 8);
    assert_true(n < g->size - 8);
    g->header = json_loadb(g->bytes + 8, (size_t)n, 0, NULL);
    assert_non_null(g->header);
}

static void golden_close(struct golden *g)
{
    json_decref(g->header);
    free(g->bytes);
}

static const void *golden_tensor(const struct golden *g, const char *name, int64_t shape[3])
{
    json_t *t = json_object_get(g->header, name);
    if (!t) return NULL;
    uint64_t n;
    memcpy(&n, g->bytes, 8);
    for (size_t i = 0; i < 3; i++)
        shape[i] = json_integer_value(json_array_get(json_object_get(t, "shape"), i));
    json_int_t at = json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 0));
    return g->bytes + 8 + n + at;
}

static struct lcl_decode_options variant_options(const char *variant)
{
    struct lcl_decode_options o = {0};
    if (strcmp(variant, "white") == 0) {
        o.composite_alpha = true;
        memset(o.background, 255, 3);
    } else if (strcmp(variant, "exif") == 0) {
        o.apply_exif = true;
    } else if (strcmp(variant, "high8") == 0) {
        o.gray16_high_byte = true;
    } else {
        assert_string_equal(variant, "rgb");
    }
    return o;
}

static void check_floats(const struct golden *g, const struct lcl_image *image, const char *stem,
                         enum lcl_resize_mode mode, int size)
{
    char name[200];
    int64_t shape[3];
    snprintf(name, sizeof name, "%s.%s.%d", stem, mode == LCL_RESIZE_PAD ? "pad" : "clip", size);
    const float *want = golden_tensor(g, name, shape);
    assert_non_null(want);
    assert_int_equal(shape[1], size);
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, size);
    p.mode = mode;
    size_t n = 3 * (size_t)size * (size_t)size;
    float *got = malloc(n * sizeof *got);
    ASSERT_OK(lcl_preprocess_image(image, &p, got));
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f))
            fail_msg("%s[%zu]: %.7f, wanted %.7f", name, i, (double)got[i], (double)want[i]);
    free(got);
}

/* Checks one FILE.VARIANT; false where the golden file has no such variant. */
static bool check_variant(const struct golden *g, const char *file, const char *variant)
{
    static const int sizes[] = {32, 56};
    char stem[120], name[200], relative[200];
    int64_t shape[3];
    snprintf(stem, sizeof stem, "%s.%s", file, variant);
    snprintf(name, sizeof name, "%s.decoded", stem);
    const uint8_t *want = golden_tensor(g, name, shape);
    if (!want) return false;
    struct lcl_decode_options o = variant_options(variant);
    struct lcl_image image;
    snprintf(relative, sizeof relative, "golden/images/%s", file);
    ASSERT_OK(lcl_image_load(shared_path(relative), &o, &image));
    assert_int_equal(image.height, shape[0]);
    assert_int_equal(image.width, shape[1]);
    assert_int_equal(image.channels, 3);
    size_t n = (size_t)(shape[0] * shape[1] * 3);
    for (size_t i = 0; i < n; i++)
        if (image.pixels[i] != want[i])
            fail_msg("%s: byte %zu is %d, wanted %d", name, i, image.pixels[i], want[i]);
    for (size_t s = 0; s < 2; s++) {
        check_floats(g, &image, stem, LCL_RESIZE_CROP, sizes[s]);
        check_floats(g, &image, stem, LCL_RESIZE_PAD, sizes[s]);
    }
    lcl_image_free(&image);
    return true;
}

static void test_golden(void **state)
{
    (void)state;
    static const char *const files[] = {"rgb.png",
                                        "rgba.png",
                                        "gray.png",
                                        "gray16.png",
                                        "palette.png",
                                        "jpeg420.jpg",
                                        "cmyk.jpg",
                                        "wide.png",
                                        "tall.png",
                                        "tiny.png",
                                        "interlaced_like.gif",
                                        "large.png",
                                        "exif6.jpg",
                                        "progressive444.jpg"};
    static const char *const variants[] = {"rgb", "white", "exif", "high8"};
    struct golden g;
    golden_open(&g);
    size_t checked = 0, decoded = 0;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++)
        for (size_t v = 0; v < 4; v++) checked += check_variant(&g, files[f], variants[v]);
    const char *key;
    json_t *value;
    json_object_foreach(g.header, key, value) decoded += strstr(key, ".decoded") != NULL;
    assert_int_equal(checked, decoded); /* none left out */
    golden_close(&g);
}

/* ---- pictures made here, so that every format is tested without ../shared ---- */

enum { W = 37, H = 29 };

static struct lcl_image noise(int channels)
{
    struct lcl_image image = {W, H, channels, malloc((size_t)(W * H * channels))};
    uint32_t s = 12345;
    for (size_t i = 0; i < (size_t)(W * H * channels); i++) {
        s = s * 1664525u + 1013904223u;
        image.pixels[i] = (uint8_t)(s >> 24);
    }
    return image;
}

struct file {
    uint8_t *bytes;
    size_t size;
};

static struct file png_file(int channels)
{
    struct lcl_image image = noise(channels);
    struct file f;
    ASSERT_OK(lcl_image_encode_png(&image, &f.bytes, &f.size));
    lcl_image_free(&image);
    return f;
}

static struct file jpeg_file(void)
{
    struct lcl_image image = noise(3);
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &size);
    c.image_width = W;
    c.image_height = H;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = image.pixels + (size_t)c.next_scanline * W * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    lcl_image_free(&image);
    return (struct file){bytes, size};
}

static struct file webp_file(const struct lcl_image *image)
{
    struct file f = {0};
    f.size = image->channels == 4
                 ? WebPEncodeLosslessRGBA(image->pixels, image->width, image->height,
                                          4 * image->width, &f.bytes)
                 : WebPEncodeLosslessRGB(image->pixels, image->width, image->height,
                                         3 * image->width, &f.bytes);
    assert_true(f.size > 20);
    return f;
}

/* A GIF of a 4 x 3 canvas whose frame has 2 x 2 pixels at (1, 1), of colours 5, 6, 7, 9. Its codes
 * are one byte wide. */
static struct file gif_file(bool transparent9, bool interlaced)
{
    uint8_t *b = calloc(1, 600), *p = b;
    static const uint8_t head[] = {'G', 'I', 'F', '8', '9', 'a', 4, 0, 3, 0, 0xf6, 0, 0};
    memcpy(p, head, sizeof head);
    p += sizeof head;
    for (uint8_t i = 0; i < 128; i++, p += 3) memset(p, i, 3); /* gray i */
    static const uint8_t control[] = {0x21, 0xf9, 4, 1, 0, 0, 9, 0};
    if (transparent9) {
        memcpy(p, control, sizeof control);
        p += sizeof control;
    }
    const uint8_t frame[] = {',', 1, 0,    1, 0, 2, 0, 2,    0, interlaced ? 0x40 : 0,
                             7,   6, 0x80, 5, 6, 7, 9, 0x81, 0, ';'};
    memcpy(p, frame, sizeof frame);
    p += sizeof frame;
    return (struct file){b, (size_t)(p - b)};
}

static const struct lcl_decode_options plain = {0}, with_alpha = {.keep_alpha = true};

static void test_png_round_trip(void **state)
{
    (void)state;
    for (int channels = 3; channels <= 4; channels++) {
        struct lcl_image want = noise(channels), got;
        struct file f = png_file(channels);
        ASSERT_OK(lcl_image_decode(f.bytes, f.size, "x.png", &with_alpha, &got));
        assert_int_equal(got.channels, channels);
        assert_memory_equal(got.pixels, want.pixels, (size_t)(W * H * channels));
        lcl_image_free(&got);
        lcl_image_free(&want);
        free(f.bytes);
    }
}

/* RIFF around chunks: what a still or an animation with EXIF consists of. */
static size_t put_chunk(uint8_t *to, const char *tag, const uint8_t *data, size_t n)
{
    memcpy(to, tag, 4);
    for (int i = 0; i < 4; i++) to[4 + i] = (uint8_t)(n >> (8 * i));
    if (n) memcpy(to + 8, data, n);
    if (n & 1) to[8 + n] = 0;
    return 8 + n + (n & 1);
}

static struct file webp_container(const struct lcl_image *image, int orientation, bool animated)
{
    struct file still = webp_file(image), f = {calloc(1, still.size + 200), 12};
    uint8_t vp8x[10] = {(uint8_t)(animated ? 0x12 : 0x08)};
    vp8x[4] = (uint8_t)(image->width - 1 + (animated ? 4 : 0));
    vp8x[7] = (uint8_t)(image->height - 1 + (animated ? 2 : 0));
    f.size += put_chunk(f.bytes + f.size, "VP8X", vp8x, sizeof vp8x);
    if (animated) {
        uint8_t anim[6] = {0}, *frame = calloc(1, still.size + 16);
        frame[0] = 2; /* x = 4 */
        frame[3] = 1; /* y = 2 */
        frame[6] = (uint8_t)(image->width - 1);
        frame[9] = (uint8_t)(image->height - 1);
        memcpy(frame + 16, still.bytes + 12, still.size - 12);
        f.size += put_chunk(f.bytes + f.size, "ANIM", anim, sizeof anim);
        f.size += put_chunk(f.bytes + f.size, "ANMF", frame, still.size - 12 + 16);
        free(frame);
    } else {
        uint8_t exif[] = {'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
                          0,   1,   0,   0, 0, 0, 0, 0, 0, 0, 0,    0, 0};
        exif[18] = (uint8_t)orientation;
        memcpy(f.bytes + f.size, still.bytes + 12, still.size - 12);
        f.size += still.size - 12;
        f.size += put_chunk(f.bytes + f.size, "EXIF", exif, sizeof exif);
    }
    put_chunk(f.bytes, "RIFF", NULL, 0);
    for (int i = 0; i < 4; i++) f.bytes[4 + i] = (uint8_t)((f.size - 8) >> (8 * i));
    memcpy(f.bytes + 8, "WEBP", 4);
    WebPFree(still.bytes);
    return f;
}

static void test_exif_turns(void **state)
{
    (void)state;
    /* A picture of 3 x 2 with values 0..5; rows of each upright form, by the EXIF definition. */
    static const uint8_t upright[8][6] = {
        {0, 1, 2, 3, 4, 5}, {2, 1, 0, 5, 4, 3}, {5, 4, 3, 2, 1, 0}, {3, 4, 5, 0, 1, 2},
        {0, 3, 1, 4, 2, 5}, {3, 0, 4, 1, 5, 2}, {5, 2, 4, 1, 3, 0}, {2, 5, 1, 4, 0, 3}};
    uint8_t pixels[18];
    for (int i = 0; i < 18; i++) pixels[i] = (uint8_t)(i / 3);
    const struct lcl_image image = {3, 2, 3, pixels};
    const struct lcl_decode_options turn = {.apply_exif = true};
    for (int o = 1; o <= 8; o++) {
        struct file f = webp_container(&image, o, false);
        struct lcl_image got;
        ASSERT_OK(lcl_image_decode(f.bytes, f.size, "x.webp", &turn, &got));
        assert_int_equal(got.width, o >= 5 ? 2 : 3);
        for (int i = 0; i < 6; i++) assert_int_equal(got.pixels[3 * i], upright[o - 1][i]);
        lcl_image_free(&got);
        ASSERT_OK(lcl_image_decode(f.bytes, f.size, "x.webp", &plain, &got));
        assert_int_equal(got.width, 3);
        lcl_image_free(&got);
        free(f.bytes);
    }
}

static void test_webp_animation(void **state)
{
    (void)state;
    struct lcl_image image = noise(4), got;
    for (int i = 0; i < W * H; i++) image.pixels[4 * i + 3] = 255;
    struct file f = webp_container(&image, 1, true);
    ASSERT_OK(lcl_image_decode(f.bytes, f.size, "x.webp", &with_alpha, &got));
    assert_int_equal(got.width, W + 4);
    assert_int_equal(got.height, H + 2);
    assert_int_equal(got.pixels[3], 0); /* outside the frame: transparent */
    for (int y = 0; y < H; y++)
        assert_memory_equal(got.pixels + 4 * ((y + 2) * (W + 4) + 4), image.pixels + 4 * y * W,
                            4 * W);
    lcl_image_free(&got);
    free(f.bytes);
    lcl_image_free(&image);
}

static void test_gif_frame(void **state)
{
    (void)state;
    for (int transparent = 0; transparent < 2; transparent++) {
        uint8_t outside = transparent ? 9 : 0;
        const uint8_t want[12] = {outside, outside, outside, outside, outside, 5,
                                  6,       outside, outside, 7,       9,       outside};
        struct file f = gif_file(transparent, transparent);
        struct lcl_image got;
        ASSERT_OK(lcl_image_decode(f.bytes, f.size, "x.gif", &with_alpha, &got));
        assert_int_equal(got.width, 4);
        assert_int_equal(got.height, 3);
        assert_int_equal(got.channels, transparent ? 4 : 3);
        for (int i = 0; i < 12; i++) {
            assert_int_equal(got.pixels[i * got.channels], want[i]);
            if (transparent) assert_int_equal(got.pixels[4 * i + 3], want[i] == 9 ? 0 : 255);
        }
        lcl_image_free(&got);
        free(f.bytes);
    }
}

/* ---- bad files ---- */

static void check_truncations(struct file f, const char *name, size_t whole)
{
    struct lcl_image image;
    for (size_t n = 1; n < whole; n += n < 64 ? 1 : 7) {
        uint8_t *part = malloc(n); /* so that reading past it is found */
        memcpy(part, f.bytes, n);
        ASSERT_FAILS(lcl_image_decode(part, n, name, &plain, &image), LCL_FORMAT, name);
        assert_null(image.pixels);
        free(part);
    }
    ASSERT_OK(lcl_image_decode(f.bytes, f.size, name, &plain, &image));
    lcl_image_free(&image);
}

static void test_truncated(void **state)
{
    (void)state;
    struct lcl_image image;
    struct file f = png_file(3);
    check_truncations(f, "x.png", f.size);
    ASSERT_FAILS(lcl_image_decode(f.bytes, f.size / 2, "x.png", &plain, &image), LCL_FORMAT,
                 "x.png: damaged or truncated PNG");
    free(f.bytes);
    f = jpeg_file();
    check_truncations(f, "x.jpg", f.size);
    ASSERT_FAILS(lcl_image_decode(f.bytes, f.size / 2, "x.jpg", &plain, &image), LCL_FORMAT,
                 "x.jpg: damaged or truncated JPEG");
    free(f.bytes);
    image = noise(3);
    f = webp_file(&image);
    check_truncations(f, "x.webp", f.size);
    WebPFree(f.bytes);
    lcl_image_free(&image);
    f = gif_file(true, false);
    check_truncations(f, "x.gif", f.size - 3); /* the frame is whole before its end mark */
    free(f.bytes);
}

/* Any byte may be anything: the answer is a picture or an error, and neither a crash nor a hang. */
static void test_flipped(void **state)
{
    (void)state;
    struct lcl_image image = noise(4);
    struct file files[] = {png_file(4), jpeg_file(), webp_container(&image, 6, true),
                           gif_file(true, true)};
    lcl_image_free(&image);
    for (size_t k = 0; k < 4; k++) {
        size_t refused = 0;
        for (size_t i = 0; i < files[k].size; i += i < 300 ? 1 : 5) {
            files[k].bytes[i] ^= 0x55;
            if (lcl_image_decode(files[k].bytes, files[k].size, "x", &with_alpha, &image) ==
                LCL_OK) {
                assert_true(image.width > 0 && image.pixels);
                lcl_image_free(&image);
            } else {
                assert_non_null(strstr(lcl_error_message(), "x: "));
                refused++;
            }
            files[k].bytes[i] ^= 0x55;
        }
        assert_true(refused > 8);
        free(files[k].bytes);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct lcl_image image;
    struct file f = gif_file(false, false);
    memset(f.bytes + 6, 0xff, 4); /* canvas of 65535 x 65535 */
    ASSERT_FAILS(lcl_image_decode(f.bytes, f.size, "x.gif", &plain, &image), LCL_RANGE,
                 "65535 x 65535 pixels, at most 32768 a side");
    free(f.bytes);
    f = png_file(3);
    memset(f.bytes + 17, 0xff, 1); /* width of 16 million */
    ASSERT_FAILS(lcl_image_decode(f.bytes, f.size, "x.png", &plain, &image), LCL_RANGE,
                 "x.png: image of 16711717 x 29 pixels");
    free(f.bytes);
    ASSERT_FAILS(lcl_image_decode("", 0, "x", &plain, &image), LCL_FORMAT, "empty file");
    ASSERT_FAILS(lcl_image_decode("hello", 5, "x", &plain, &image), LCL_FORMAT,
                 "not a picture of a known format");
    ASSERT_FAILS(lcl_image_load("no/such.png", &plain, &image), LCL_NOT_FOUND, "no/such.png");
}

/* ---- resizing and preprocessing ---- */

/* Bicubic in double precision, straight from its definition; two roundings to 8 bits apart from it
 * at most. */
static double reference(const struct lcl_image *in, int width, int height, int x, int y, int k)
{
    double sx = (double)in->width / width, sy = (double)in->height / height, sum = 0, total = 0;
    double wx = sx > 1 ? sx : 1, wy = sy > 1 ? sy : 1;
    for (int v = 0; v < in->height; v++)
        for (int u = 0; u < in->width; u++) {
            double d[2] = {fabs((u + 0.5 - (x + 0.5) * sx) / wx),
                           fabs((v + 0.5 - (y + 0.5) * sy) / wy)};
            double w = 1;
            for (int i = 0; i < 2; i++)
                w *= d[i] < 1   ? 1.5 * d[i] * d[i] * d[i] - 2.5 * d[i] * d[i] + 1
                     : d[i] < 2 ? -0.5 * d[i] * d[i] * d[i] + 2.5 * d[i] * d[i] - 4 * d[i] + 2
                                : 0;
            sum += w * in->pixels[(v * in->width + u) * in->channels + k];
            total += w;
        }
    return sum / total < 0 ? 0 : sum / total > 255 ? 255 : sum / total;
}

static void test_resize(void **state)
{
    (void)state;
    static const int sizes[][2] = {{W, H}, {10, 7}, {74, 58}, {1, 1}, {W, 11}, {90, H}};
    struct lcl_image in = noise(3), out;
    /* Smooth, so that clipping between the passes is no matter. */
    for (int i = 0; i < W * H * 3; i++)
        in.pixels[i] = (uint8_t)(80 + i / 3 % W * 2 + i / 3 / W + i % 3 * 9);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int w = sizes[s][0], h = sizes[s][1];
        ASSERT_OK(lcl_image_resize_bicubic(&in, w, h, &out));
        for (int y = 0; y < h; y += 3)
            for (int x = 0; x < w; x += 3)
                for (int k = 0; k < 3; k++)
                    assert_true(fabs(out.pixels[(y * w + x) * 3 + k] -
                                     reference(&in, w, h, x, y, k)) <= 1.01);
        if (w == W && h == H) assert_memory_equal(out.pixels, in.pixels, W * H * 3);
        lcl_image_free(&out);
    }
    ASSERT_FAILS(lcl_image_resize_bicubic(&in, 0, 5, &out), LCL_RANGE, "resize to 0 x 5");
    lcl_image_free(&in);
}

static void assert_near(float got, int want) { assert_true(fabs((double)got - want) < 1e-3); }

static void test_preprocess(void **state)
{
    (void)state;
    /* Columns of value 10 x: a 5 x 2 picture, cropped to 2 x 2, begins at column (5 - 2) / 2 = 1.
     */
    uint8_t pixels[5 * 2 * 3];
    for (int i = 0; i < 30; i++) pixels[i] = (uint8_t)(i / 3 % 5 * 10);
    struct lcl_image image = {5, 2, 3, pixels};
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, 2);
    for (int k = 0; k < 3; k++) {
        p.mean[k] = 0;
        p.std[k] = 1.0f / 255;
        p.background[k] = (uint8_t)(200 + k);
    }
    float out[3 * 5 * 5];
    ASSERT_OK(lcl_preprocess_image(&image, &p, out));
    for (int i = 0; i < 12; i++) assert_near(out[i], i % 2 ? 20 : 10);
    /* Padded to 5 x 5: rows (5 - 2) / 2 = 1 and 2 hold it. */
    p.mode = LCL_RESIZE_PAD;
    p.size = 5;
    ASSERT_OK(lcl_preprocess_image(&image, &p, out));
    for (int k = 0; k < 3; k++)
        for (int y = 0; y < 5; y++)
            for (int x = 0; x < 5; x++)
                assert_near(out[(k * 5 + y) * 5 + x], y == 1 || y == 2 ? 10 * x : 200 + k);
    /* Transparent pixels show the background. */
    uint8_t clear[4] = {9, 9, 9, 0};
    struct lcl_image one = {1, 1, 4, clear};
    p.size = 1;
    ASSERT_OK(lcl_preprocess_image(&one, &p, out));
    for (int k = 0; k < 3; k++) assert_near(out[k], 200 + k);
    p.size = 0;
    ASSERT_FAILS(lcl_preprocess_image(&one, &p, out), LCL_RANGE, "image size 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_png_round_trip),
        cmocka_unit_test(test_exif_turns), cmocka_unit_test(test_webp_animation),
        cmocka_unit_test(test_gif_frame),  cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_resize),     cmocka_unit_test(test_preprocess)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
