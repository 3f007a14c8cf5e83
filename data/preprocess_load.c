/* preprocessor_config.json of HF folders: what transformers' image processors would do. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/json.h"
#include "data/image.h"

enum { MAX_CONFIG_BYTES = 16 << 20, MAX_EDGE = 4096, BICUBIC = 3, CLIP_SIZE = 224 };

static const json_t *get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static lcl_status bad(const char *path, const char *key, const json_t *v, const char *wanted)
{
    char *dump = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    lcl_status status =
        LCL_FAIL(LCL_FORMAT, "%s: %s is %.200s, wanted %s", path, key, dump ? dump : "?", wanted);
    free(dump);
    return status;
}

static lcl_status read_flag(const char *path, const json_t *root, const char *key, bool *flag)
{
    const json_t *v = get(root, key);
    if (v && !json_is_boolean(v)) return bad(path, key, v, "true or false");
    if (v) *flag = json_is_true(v);
    return LCL_OK;
}

/* An edge: a number, {"shortest_edge": n}, or {"height": n, "width": n} of equal sides. */
static lcl_status read_edge(const char *path, const json_t *root, const char *key, int *edge,
                            bool *both)
{
    const json_t *v = get(root, key);
    if (!v) return LCL_OK;
    const json_t *shortest = get(v, "shortest_edge"), *height = get(v, "height");
    const json_t *n = json_is_object(v) ? (shortest ? shortest : height) : v;
    if (!json_is_integer(n) || json_integer_value(n) < 1 || json_integer_value(n) > MAX_EDGE ||
        (n == height && !json_equal((json_t *)(uintptr_t)n, json_object_get(v, "width"))))
        return bad(path, key, v, "one side of 1..4096 pixels");
    *edge = (int)json_integer_value(n);
    *both = n == height;
    return LCL_OK;
}

/* Three numbers, or one for all channels. */
static lcl_status read_three(const char *path, const json_t *root, const char *key, double low,
                             double x[3])
{
    const json_t *v = get(root, key);
    if (!v) return LCL_OK;
    for (size_t i = 0; i < 3; i++) {
        const json_t *n = json_is_array(v) && json_array_size(v) == 3 ? json_array_get(v, i) : v;
        x[i] = json_number_value(n);
        if (!json_is_number(n) || x[i] < low || x[i] > 1e3)
            return bad(path, key, v, "three numbers");
    }
    return LCL_OK;
}

static lcl_status unsupported(const char *path, const char *key, const char *known)
{
    return LCL_FAIL_HINT(LCL_UNSUPPORTED, "prepare the pictures with transformers",
                         "%s: %s: only %s can be computed", path, key, known);
}

/* Sizes: CLIPImageProcessor's steps are resize, centre crop. */
static lcl_status read_sizes(const char *path, const json_t *root, struct lcl_preprocess *p)
{
    int edge = CLIP_SIZE, side = CLIP_SIZE;
    bool square = false, pad = false, resize = true, crop = true, crop_square;
    LCL_TRY(read_flag(path, root, "do_resize", &resize));
    LCL_TRY(read_flag(path, root, "do_center_crop", &crop));
    LCL_TRY(read_flag(path, root, "do_pad", &pad));
    LCL_TRY(read_edge(path, root, "size", &edge, &square));
    LCL_TRY(read_edge(path, root, "crop_size", &side, &crop_square));
    if (!resize) return unsupported(path, "do_resize false", "resized pictures");
    if (!crop && !square && !pad)
        return unsupported(path, "do_center_crop false with size.shortest_edge", "square pictures");
    if (!crop) side = edge;
    if (side > edge) return unsupported(path, "crop_size above size", "a crop within the picture");
    p->size = side;
    p->short_edge = edge;
    p->mode = square ? LCL_RESIZE_STRETCH : LCL_RESIZE_CROP;
    if (!pad) return LCL_OK;
    if (square) return unsupported(path, "do_pad with size.height", "size.shortest_edge");
    p->mode = LCL_RESIZE_PAD;
    return LCL_OK;
}

/* (v * factor - mean) / std over v / 255. */
static lcl_status read_values(const char *path, const json_t *root, struct lcl_preprocess *p)
{
    struct lcl_preprocess clip;
    double mean[3], std[3], factor = 1 / 255.0;
    bool normalise = true, rescale = true;
    lcl_preprocess_defaults(&clip, CLIP_SIZE);
    for (int i = 0; i < 3; i++) {
        mean[i] = (double)clip.mean[i];
        std[i] = (double)clip.std[i];
    }
    LCL_TRY(read_flag(path, root, "do_normalize", &normalise));
    LCL_TRY(read_flag(path, root, "do_rescale", &rescale));
    LCL_TRY(read_three(path, root, "image_mean", -1e3, mean));
    LCL_TRY(read_three(path, root, "image_std", 1e-6, std));
    const json_t *v = get(root, "rescale_factor"), *resample = get(root, "resample");
    if (v && !(json_number_value(v) > 0 && json_number_value(v) <= 1e3))
        return bad(path, "rescale_factor", v, "a number above 0");
    if (v) factor = json_number_value(v);
    if (!rescale) factor = 1;
    if (resample && json_integer_value(resample) != BICUBIC)
        return unsupported(path, "resample", "3 (bicubic)");
    for (int i = 0; i < 3; i++) {
        double colour = mean[i] * 255;
        p->background[i] = (uint8_t)(colour < 0 ? 0 : colour > 255 ? 255 : colour);
        p->mean[i] = normalise ? (float)(mean[i] / (255 * factor)) : 0;
        p->std[i] = (float)((normalise ? std[i] : 1) / (255 * factor));
    }
    return LCL_OK;
}

static lcl_status read_root(const char *path, const json_t *root, struct lcl_preprocess *p)
{
    static const char *const known[] = {"CLIPImageProcessor", "CLIPFeatureExtractor",
                                        "LlavaImageProcessor"};
    const json_t *type = get(root, "image_processor_type");
    if (!type) type = get(root, "feature_extractor_type");
    bool fits = !type;
    for (int i = 0; i < 3 && json_is_string(type); i++)
        fits |= strncmp(json_string_value(type), known[i], strlen(known[i])) == 0;
    if (!fits)
        return bad(path, "image_processor_type", type, "CLIPImageProcessor or LlavaImageProcessor");
    LCL_TRY(read_sizes(path, root, p));
    return read_values(path, root, p);
}

lcl_status lcl_preprocess_load(const char *dir, struct lcl_preprocess *p, bool *found)
{
    static const char *const files[] = {"preprocessor_config.json", "processor_config.json"};
    *found = false;
    for (int i = 0; i < 2 && !*found; i++) {
        char *path = lcl_strdupf("%s/%s", dir, files[i]);
        lcl_status status = path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        json_t *root = NULL;
        if (!path || !lcl_fs_exists(path)) goto out;
        LCL_TRY_GOTO(lcl_json_load(path, MAX_CONFIG_BYTES, &root));
        /* transformers 5 keeps all parts of a processor in one file. */
        const json_t *own = i == 0 ? root : get(root, "image_processor");
        *found = own != NULL;
        if (own) status = read_root(path, own, p);
    out:
        json_decref(root);
        free(path);
        if (status != LCL_OK) return status;
    }
    return LCL_OK;
}
