/* Pillow's bicubic resampling of 8-bit images (Pillow, src/libImaging/Resample.c): a separable
 * filter whose support grows when shrinking, weights in 22-bit fixed point, horizontal pass first,
 * rounded to 8 bits between the passes. */
#include "data/image_resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image_formats.h"

enum { PRECISION_BITS = 32 - 8 - 2, BLOCK = 32, ROWS = 32 };

/* Vector code where the processor has it; the sums are integers, so every version gives the same
 * bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
#define LCL_VECTOR \
    __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), optimize("O3")))
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

/* ROWS rows side by side: the pixels of a column, one row's after another's, end to end. Taps that
 * lie along a row then lie as vertical_row takes them. */
static void rows_to_columns(const uint8_t *in, size_t stride, size_t width, size_t c, int n,
                            uint8_t *out)
{
    for (size_t r = 0; r < ROWS; r++) {
        const uint8_t *p =
            in + (r < (size_t)n ? r : (size_t)n - 1) * stride; /* the last one again */
        uint8_t *q = out + r * c;
        for (size_t x = 0; x < width; x++, p += c, q += ROWS * c)
            for (size_t k = 0; k < c; k++) q[k] = p[k];
    }
}

static void columns_to_rows(const uint8_t *in, size_t stride, size_t width, size_t c, int n,
                            uint8_t *out)
{
    for (size_t r = 0; r < (size_t)n; r++) {
        const uint8_t *p = in + r * c;
        uint8_t *q = out + r * stride;
        for (size_t x = 0; x < width; x++, q += c, p += ROWS * c)
            for (size_t k = 0; k < c; k++) q[k] = p[k];
    }
}

/* Rows of `from` through the taps, ROWS at a time; columns: [t->n + the row's width, ROWS, c]. */
static void horizontal_rows(const struct taps *t, const uint8_t *from, size_t in_stride, size_t c,
                            int n, uint8_t *columns, uint8_t *to)
{
    size_t block = ROWS * c, width = in_stride / c, out_stride = (size_t)t->n * c;
    uint8_t *made = columns + width * block;
    for (int y = 0; y < n; y += ROWS) {
        int rows = n - y < ROWS ? n - y : ROWS;
        const uint8_t *in = from + (size_t)y * in_stride;
        if (c == 3)
            rows_to_columns(in, in_stride, width, 3, rows, columns);
        else
            rows_to_columns(in, in_stride, width, 4, rows, columns);
        for (int i = 0; i < t->n; i++)
            vertical_row(columns + (size_t)t->from[i] * block, block,
                         t->weight + (size_t)i * (size_t)t->width, t->count[i],
                         made + (size_t)i * block, block);
        uint8_t *out = to + (size_t)y * out_stride;
        if (c == 3)
            columns_to_rows(made, out_stride, (size_t)t->n, 3, rows, out);
        else
            columns_to_rows(made, out_stride, (size_t)t->n, 4, rows, out);
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
    uint8_t *columns = malloc(((size_t)in->width + (size_t)w->width) * ROWS * c);
    lcl_status status = columns ? taps_make(&t, in->width, w->full_width, w->x, w->width)
                                : LCL_FAIL(LCL_MEMORY, "no memory to resize a picture");
    if (status == LCL_OK) {
        horizontal_rows(&t, from, in_stride, c, n, columns, out->pixels);
        taps_free(&t);
    } else {
        lcl_image_free(out);
    }
    free(columns);
    return status;
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
