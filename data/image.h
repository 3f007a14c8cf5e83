/* Pictures: decoding (PNG, JPEG, WebP, first GIF frame) and the CLIP preprocessing, bit for bit as
 * Pillow resizes. */
#ifndef LCL_DATA_IMAGE_H
#define LCL_DATA_IMAGE_H

#include "core/status.h"

struct lcl_image {
    int width, height;
    int channels;    /* 3: RGB, 4: RGBA (straight alpha) */
    uint8_t *pixels; /* [height, width, channels], malloc'd; lcl_image_free */
};
void lcl_image_free(struct lcl_image *image);

struct lcl_decode_options {
    bool keep_alpha;       /* give RGBA where the file has alpha */
    bool composite_alpha;  /* else: composite on background (true) or drop alpha (false: Pillow's
                              convert("RGB")) */
    uint8_t background[3]; /* R, G, B */
    bool apply_exif;       /* rotate as the EXIF orientation says */
    bool gray16_high_byte; /* 16-bit gray: take the high byte (true) or saturate at 255 as Pillow
                              does (false) */
};

enum { LCL_IMAGE_MAX_SIDE = 32768 }; /* pixels; larger files are refused */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define LCL_IMAGE_MAX_PIXELS                                            \
    ((int64_t)1 << 20) /* many small pictures instead of few large ones \
                        */
#else
#define LCL_IMAGE_MAX_PIXELS ((int64_t)1 << 28) /* 268 million */
#endif

/* Decodes a whole file in memory; `name` goes in messages. LCL_FORMAT for unknown, truncated or
 * damaged files. */
LCL_CHECKED lcl_status lcl_image_decode(const void *bytes, size_t size, const char *name,
                                        const struct lcl_decode_options *options,
                                        struct lcl_image *out);
LCL_CHECKED lcl_status lcl_image_load(const char *path, const struct lcl_decode_options *options,
                                      struct lcl_image *out);
/* PNG bytes of an image, malloc'd: for reports. */
LCL_CHECKED lcl_status lcl_image_encode_png(const struct lcl_image *image, uint8_t **bytes,
                                            size_t *size);

/* Pillow's Image.resize(..., BICUBIC), bit for bit (its fixed-point two-pass filter). */
LCL_CHECKED lcl_status lcl_image_resize_bicubic(const struct lcl_image *in, int width, int height,
                                                struct lcl_image *out);

enum lcl_resize_mode { LCL_RESIZE_CROP, LCL_RESIZE_PAD, LCL_RESIZE_STRETCH };
struct lcl_preprocess {
    int size;                  /* S: side of the model's input in pixels */
    int short_edge;            /* shortest edge before the centre crop to S, S or more; 0: S */
    enum lcl_resize_mode mode; /* crop: shortest edge to short_edge, centre crop; pad: first to a
                                  square on `background`; stretch: to a square whatever the sides */
    uint8_t background[3];
    float mean[3], std[3]; /* CLIP's by lcl_preprocess_defaults */
};
void lcl_preprocess_defaults(struct lcl_preprocess *p, int size);
/* What preprocessor_config.json of an HF folder says (else processor_config.json's
 * image_processor): transformers' CLIPImageProcessor and LlavaImageProcessor, their defaults filled
 * in. *found false: the folder holds neither, *p is left alone. LCL_UNSUPPORTED for what cannot be
 * computed, naming the key. */
LCL_CHECKED lcl_status lcl_preprocess_load(const char *dir, struct lcl_preprocess *p, bool *found);
/* out_3SS: channel planes, (value / 255 - mean) / std, f32. RGB in; RGBA is composited on
 * p->background. */
LCL_CHECKED lcl_status lcl_preprocess_image(const struct lcl_image *image,
                                            const struct lcl_preprocess *p, float *out_3SS);

#endif
