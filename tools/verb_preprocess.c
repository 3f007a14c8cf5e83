/* lcl preprocess: pictures as a model is given them. */
#include <stdlib.h>

#include "checkpoint/hf.h"
#include "core/log.h"
#include "data/image.h"
#include "tools/cli.h"

enum { ALPHA_WHITE, ALPHA_DROP };

struct request {
    const char *model, *out;
    struct cli_list images;
    int alpha;
    bool as_stored;
};

/* CLIP's preprocessing at the model's size where the folder does not say (LLaVA v1). */
static lcl_status settings(const char *dir, struct lcl_preprocess *p)
{
    struct lcl_model_config m;
    bool found;
    LCL_TRY(lcl_preprocess_load(dir, p, &found));
    if (found) return LCL_OK;
    LCL_TRY(lcl_hf_load_config(dir, &m));
    lcl_preprocess_defaults(p, (int)m.vision.image_size);
    lcl_log_info("%s has no preprocessor_config.json: as CLIP, %d px", dir, p->size);
    return LCL_OK;
}

static lcl_status preprocess(const struct request *r)
{
    const struct lcl_decode_options o = {.composite_alpha = r->alpha == ALPHA_WHITE,
                                         .background = {255, 255, 255},
                                         .apply_exif = !r->as_stored};
    struct lcl_preprocess p = {0};
    LCL_TRY(settings(r->model, &p));
    size_t plane = 3 * (size_t)p.size * (size_t)p.size;
    float *pixels = malloc((size_t)r->images.n * plane * sizeof *pixels);
    if (!pixels) return LCL_FAIL(LCL_MEMORY, "no memory for %d pictures", r->images.n);
    const struct lcl_st_item item = {.name = "pixel_values",
                                     .dtype = LCL_F32,
                                     .source = LCL_F32,
                                     .n_dims = 4,
                                     .shape = {r->images.n, 3, p.size, p.size},
                                     .data = pixels};
    lcl_status status = LCL_OK;
    for (int i = 0; i < r->images.n; i++) {
        struct lcl_image image;
        LCL_TRY_GOTO(lcl_image_load(r->images.v[i], &o, &image));
        status = lcl_preprocess_image(&image, &p, pixels + (size_t)i * plane);
        lcl_image_free(&image);
        if (status != LCL_OK) {
            status = lcl_fail_context(status, "%s", r->images.v[i]);
            goto out;
        }
    }
    status = lcl_st_write(r->out, &item, 1, NULL);
out:
    free(pixels);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {0};
    const struct cli_option options[] = {
        {"--model", CLI_STR, &r.model, .value = "DIR", .required = true, .doc = "HF LLaVA folder"},
        {"--image", CLI_LIST, &r.images, .value = "FILE", .required = true,
         .doc = "picture; may be given many times"},
        {"--out", CLI_STR, &r.out, .value = "FILE", .required = true,
         .doc = "safetensors to write"},
        {"--alpha", CLI_CHOICE, &r.alpha, .words = "white|drop",
         .doc = "transparent pixels on white, or their colours as they are"},
        {"--as-stored", CLI_FLAG, &r.as_stored, .doc = "leave EXIF's orientation alone"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model DIR --image FILE --out FILE",
        .about =
            "Decodes, resizes and normalises pictures as the folder's preprocessor_config.json "
            "asks, and\nwrites pixel_values [pictures, 3, side, side].",
        .options = options};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : preprocess(&r);
}

const struct cli_verb verb_preprocess = {"preprocess", "pictures as a model is given them", 92,
                                         run};
