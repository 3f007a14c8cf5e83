/* CLIP's preprocessing: shortest edge and centre crop, or padding to a square; then normalisation.
 */
#include <string.h>

#include "data/image_formats.h"
#include "data/image_resize.h"

void lcl_preprocess_defaults(struct lcl_preprocess *p, int size)
{
    /* Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
     * 2021. */
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    *p = (struct lcl_preprocess){.size = size, .mode = LCL_RESIZE_CROP};
    for (int k = 0; k < 3; k++) {
        p->mean[k] = mean[k];
        p->std[k] = std[k];
        p->background[k] = (uint8_t)(mean[k] * 255.0f);
    }
}

static lcl_status copy_image(const struct lcl_image *in, struct lcl_image *out)
{
    LCL_TRY(lcl_image_alloc(out, in->width, in->height, in->channels, "image"));
    memcpy(out->pixels, in->pixels, (size_t)in->width * (size_t)in->height * (size_t)in->channels);
    return LCL_OK;
}

/* RGB in the middle of a square of the longer side; the offset is floored. */
static lcl_status pad_to_square(const struct lcl_image *in, const uint8_t background[3],
                                struct lcl_image *out)
{
    int side = in->width > in->height ? in->width : in->height;
    LCL_TRY(lcl_image_alloc(out, side, side, 3, "padded image"));
    size_t n = (size_t)side, stride = 3 * (size_t)in->width;
    for (size_t i = 0; i < n; i++) memcpy(out->pixels + 3 * i, background, 3);
    for (size_t i = 1; i < n; i++) memcpy(out->pixels + 3 * n * i, out->pixels, 3 * n);
    size_t x = (size_t)(side - in->width) / 2, y = (size_t)(side - in->height) / 2;
    for (size_t row = 0; row < (size_t)in->height; row++)
        memcpy(out->pixels + 3 * ((y + row) * (size_t)side + x), in->pixels + row * stride, stride);
    return LCL_OK;
}

/* Shortest edge to short_edge, the longer one truncated as transformers does (or, stretched, to the
 * same); S x S in the middle. */
static lcl_status crop(const struct lcl_image *rgb, const struct lcl_preprocess *p,
                       struct lcl_image *out)
{
    int64_t w = rgb->width, h = rgb->height;
    int64_t shorter = w < h ? w : h, longer = w < h ? h : w;
    int S = p->size, edge = p->short_edge ? p->short_edge : S;
    double scaled = (double)((int64_t)edge * longer) / (double)shorter;
    if (p->mode == LCL_RESIZE_STRETCH) scaled = edge;
    if (scaled > LCL_IMAGE_MAX_SIDE)
        return LCL_FAIL(LCL_RANGE, "a picture of %lld x %lld pixels is too thin to crop at size %d",
                        (long long)w, (long long)h, S);
    int other = (int)scaled;
    struct lcl_resize_window win = {.full_width = w <= h ? edge : other,
                                    .full_height = w <= h ? other : edge,
                                    .width = S,
                                    .height = S};
    win.x = (win.full_width - S) / 2;
    win.y = (win.full_height - S) / 2;
    return lcl_image_resize_window(rgb, &win, out);
}

static void normalise(const struct lcl_image *rgb, const struct lcl_preprocess *p, float *out_3SS)
{
    float table[3][256];
    for (int k = 0; k < 3; k++)
        for (int v = 0; v < 256; v++)
            table[k][v] = (float)((v / 255.0 - (double)p->mean[k]) / (double)p->std[k]);
    size_t n = (size_t)rgb->width * (size_t)rgb->height;
    float *red = out_3SS, *green = red + n, *blue = green + n;
    const uint8_t *p_rgb = rgb->pixels;
    for (size_t i = 0; i < n; i++, p_rgb += 3) {
        red[i] = table[0][p_rgb[0]];
        green[i] = table[1][p_rgb[1]];
        blue[i] = table[2][p_rgb[2]];
    }
}

lcl_status lcl_preprocess_image(const struct lcl_image *image, const struct lcl_preprocess *p,
                                float *out_3SS)
{
    struct lcl_image flat = {0}, square = {0}, fitted = {0};
    const struct lcl_image *rgb = image;
    lcl_status status;
    if (p->size < 1 || p->size > 4096)
        return LCL_FAIL(LCL_RANGE, "image size %d, wanted 1 to 4096", p->size);
    if (p->short_edge && (p->short_edge < p->size || p->short_edge > 4096))
        return LCL_FAIL(LCL_RANGE, "shortest edge %d, wanted %d to 4096", p->short_edge, p->size);
    if (image->channels == 4) {
        LCL_TRY_GOTO(copy_image(image, &flat));
        lcl_image_flatten(&flat, p->background);
        rgb = &flat;
    }
    if (p->mode == LCL_RESIZE_PAD && rgb->width != rgb->height) {
        LCL_TRY_GOTO(pad_to_square(rgb, p->background, &square));
        rgb = &square;
    }
    LCL_TRY_GOTO(crop(rgb, p, &fitted));
    normalise(&fitted, p, out_3SS);
out:
    lcl_image_free(&flat);
    lcl_image_free(&square);
    lcl_image_free(&fitted);
    return status;
}
