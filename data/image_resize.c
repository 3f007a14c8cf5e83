/* Pillow's bicubic resampling of 8-bit images (Pillow, src/libImaging/Resample.c): a separable
 * filter whose support grows when shrinking, weights in 22-bit fixed point, horizontal pass first,
 * rounded to 8 bits between the passes. */
#include "data/image_resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image_formats.h"

enum { PRECISION_BITS = 32 - 8 - 2, BLOCK = 64 };

/* Vector code where the processor has it; the sums are integers, so every version gives the same
 * bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
#define LCL_VECTOR __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define LCL_VECTOR
#endif

/* Weights of output positions [first, first + n) along one axis. */
struct taps {
    int n, width;      /* width: most taps of a position */
    int *from, *count; /* [n] */
    int32_t *weight;   /* [n, width] */
};

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void taps_free(struct taps *t)
{
    free(t->from);
    free(t->count);
    free(t->weight);
}

static void taps_of(struct taps *t, int i, double centre, double support, double shrink, int in,
                    double *w)
{
    int lo = (int)(centre - support + 0.5), hi = (int)(centre + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > in) hi = in;
    double sum = 0, inverse = 1.0 / shrink;
    for (int k = 0; k < hi - lo; k++) {
        w[k] = bicubic((k + lo - centre + 0.5) * inverse);
        sum += w[k];
    }
    t->from[i] = lo;
    t->count[i] = hi - lo;
    int32_t *out = t->weight + (size_t)i * (size_t)t->width;
    for (int k = 0; k < hi - lo; k++) {
        double v = (sum != 0.0 ? w[k] / sum : w[k]) * (1 << PRECISION_BITS);
        out[k] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}

static lcl_status taps_make(struct taps *t, int in, int full_out, int first, int n)
{
    double scale = (double)in / full_out, shrink = scale < 1.0 ? 1.0 : scale;
    double support = 2.0 * shrink;
    *t = (struct taps){.n = n, .width = (int)ceil(support) * 2 + 1};
    t->from = calloc((size_t)n, sizeof *t->from);
    t->count = calloc((size_t)n, sizeof *t->count);
    t->weight = calloc((size_t)n * (size_t)t->width, sizeof *t->weight);
    double *w = calloc((size_t)t->width, sizeof *w);
    if (!t->from || !t->count || !t->weight || !w) {
        free(w);
        taps_free(t);
        return LCL_FAIL(LCL_MEMORY, "no memory to resize %d to %d pixels", in, full_out);
    }
    for (int i = 0; i < n; i++) taps_of(t, i, (first + i + 0.5) * scale, support, shrink, in, w);
    free(w);
    return LCL_OK;
}

static inline uint8_t clip8(int32_t v)
{
    v >>= PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void horizontal_row(const struct taps *t, const uint8_t *in, int c, uint8_t *out)
{
    const int32_t half = 1 << (PRECISION_BITS - 1);
    for (int i = 0; i < t->n; i++, out += c) {
        const int32_t *w = t->weight + (size_t)i * (size_t)t->width;
        const uint8_t *p = in + (size_t)t->from[i] * (size_t)c;
        int32_t r = half, g = half, b = half, a = half;
        for (int k = 0; k < t->count[i]; k++, p += c) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
            if (c == 4) a += p[3] * w[k];
        }
        out[0] = clip8(r);
        out[1] = clip8(g);
        out[2] = clip8(b);
        if (c == 4) out[3] = clip8(a);
    }
}

/* One output row from `count` rows of `stride` bytes. */
LCL_VECTOR static void vertical_row(const uint8_t *restrict rows, size_t stride,
                                    const int32_t *restrict w, int count, uint8_t *restrict out,
                                    size_t row_bytes)
{
    const int32_t half = 1 << (PRECISION_BITS - 1);
    size_t x = 0;
    for (; x + BLOCK <= row_bytes; x += BLOCK) {
        int32_t sum[BLOCK];
        for (int j = 0; j < BLOCK; j++) sum[j] = half;
        for (int k = 0; k < count; k++) {
            const uint8_t *p = rows + (size_t)k * stride + x;
            for (int j = 0; j < BLOCK; j++) sum[j] += p[j] * w[k];
        }
        for (int j = 0; j < BLOCK; j++) out[x + (size_t)j] = clip8(sum[j]);
    }
    for (; x < row_bytes; x++) {
        int32_t sum = half;
        for (int k = 0; k < count; k++) sum += rows[(size_t)k * stride + x] * w[k];
        out[x] = clip8(sum);
    }
}

/* Columns [w->x, +w->width) of rows [first, first + n) of `in`. */
static lcl_status horizontal_pass(const struct lcl_image *in, const struct lcl_resize_window *w,
                                  int first, int n, struct lcl_image *out)
{
    size_t c = (size_t)in->channels, in_stride = (size_t)in->width * c;
    LCL_TRY(lcl_image_alloc(out, w->width, n, in->channels, "resize"));
    const uint8_t *from = in->pixels + (size_t)first * in_stride;
    size_t out_stride = (size_t)w->width * c;
    if (w->full_width == in->width) {
        for (int y = 0; y < n; y++)
            memcpy(out->pixels + (size_t)y * out_stride,
                   from + (size_t)y * in_stride + (size_t)w->x * c, out_stride);
        return LCL_OK;
    }
    struct taps t;
    lcl_status status = taps_make(&t, in->width, w->full_width, w->x, w->width);
    if (status != LCL_OK) {
        lcl_image_free(out);
        return status;
    }
    for (int y = 0; y < n; y++) {
        const uint8_t *row = from + (size_t)y * in_stride;
        uint8_t *to = out->pixels + (size_t)y * out_stride;
        if (c == 3)
            horizontal_row(&t, row, 3, to);
        else
            horizontal_row(&t, row, 4, to);
    }
    taps_free(&t);
    return LCL_OK;
}

static lcl_status resample(const struct lcl_image *in, const struct lcl_resize_window *w,
                           struct lcl_image *out)
{
    if (w->full_height == in->height) return horizontal_pass(in, w, w->y, w->height, out);
    struct taps t;
    struct lcl_image wide = {0};
    lcl_status status;
    LCL_TRY(taps_make(&t, in->height, w->full_height, w->y, w->height));
    int first = t.from[0], last = t.from[t.n - 1] + t.count[t.n - 1];
    LCL_TRY_GOTO(horizontal_pass(in, w, first, last - first, &wide));
    LCL_TRY_GOTO(lcl_image_alloc(out, w->width, w->height, in->channels, "resize"));
    size_t stride = (size_t)w->width * (size_t)in->channels;
    for (int y = 0; y < t.n; y++)
        vertical_row(wide.pixels + (size_t)(t.from[y] - first) * stride, stride,
                     t.weight + (size_t)y * (size_t)t.width, t.count[y],
                     out->pixels + (size_t)y * stride, stride);
out:
    lcl_image_free(&wide);
    taps_free(&t);
    return status;
}

/* Pillow resizes RGBA with colours multiplied by alpha. */
static lcl_status premultiplied(const struct lcl_image *in, struct lcl_image *out)
{
    LCL_TRY(lcl_image_alloc(out, in->width, in->height, 4, "resize"));
    size_t n = (size_t)in->width * (size_t)in->height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = in->pixels + 4 * i;
        uint8_t *q = out->pixels + 4 * i;
        for (int k = 0; k < 3; k++) q[k] = (uint8_t)lcl_muldiv255(p[k], p[3]);
        q[3] = p[3];
    }
    return LCL_OK;
}

static void divide_by_alpha(struct lcl_image *image)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < n; i++) {
        uint8_t *p = image->pixels + 4 * i;
        if (p[3] == 0 || p[3] == 255) continue;
        for (int k = 0; k < 3; k++) {
            int v = 255 * p[k] / p[3];
            p[k] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
}

lcl_status lcl_image_resize_window(const struct lcl_image *in, const struct lcl_resize_window *w,
                                   struct lcl_image *out)
{
    *out = (struct lcl_image){0};
    if (w->full_width < 1 || w->full_height < 1 || w->full_width > LCL_IMAGE_MAX_SIDE ||
        w->full_height > LCL_IMAGE_MAX_SIDE || w->x < 0 || w->y < 0 || w->width < 1 ||
        w->height < 1 || w->width > w->full_width - w->x || w->height > w->full_height - w->y)
        return LCL_FAIL(LCL_RANGE, "resize to %d x %d pixels, at most %d a side", w->full_width,
                        w->full_height, LCL_IMAGE_MAX_SIDE);
    if (in->channels == 3) return resample(in, w, out);
    if (w->full_width == in->width && w->full_height == in->height) return resample(in, w, out);
    struct lcl_image soft;
    LCL_TRY(premultiplied(in, &soft));
    lcl_status status = resample(&soft, w, out);
    lcl_image_free(&soft);
    if (status == LCL_OK) divide_by_alpha(out);
    return status;
}

lcl_status lcl_image_resize_bicubic(const struct lcl_image *in, int width, int height,
                                    struct lcl_image *out)
{
    struct lcl_resize_window w = {width, height, 0, 0, width, height};
    return lcl_image_resize_window(in, &w, out);
}
