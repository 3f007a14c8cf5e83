#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf.h"
#include "checkpoint/hf_export.h"
#include "core/log.h"

void lcl_hf_export_free(struct lcl_hf_export *e)
{
    for (int i = 0; i < e->n_made; i++) free(e->made[i]);
    free(e->items);
    free(e->names);
    *e = (struct lcl_hf_export){0};
}

static struct lcl_st_item *find_item(struct lcl_hf_export *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->items[i].name, name) == 0) return &e->items[i];
    return NULL;
}

/* A tensor of zeros that replaces or adds `name`; NULL when memory ran out. */
static float *make_item(struct lcl_hf_export *e, const char *name, lcl_dtype dtype, int64_t N,
                        int64_t K)
{
    float *data = calloc((size_t)(N * (K ? K : 1)), sizeof *data);
    if (!data) return NULL;
    e->made[e->n_made++] = data;
    struct lcl_st_item *item = find_item(e, name);
    if (!item) item = &e->items[e->n++];
    *item = (struct lcl_st_item){.name = name,
                                 .dtype = dtype,
                                 .source = LCL_F32,
                                 .n_dims = K ? 2 : 1,
                                 .shape = {N, K},
                                 .data = data};
    return data;
}

static const float *row_value(const struct lcl_params *t, const char *name)
{
    const struct lcl_param *p = lcl_params_find((struct lcl_params *)(uintptr_t)t, name);
    return p ? lcl_param_value(t, p) : NULL;
}

/* W ((x - mean) * inv_std) + b = W' x + b' with W' = W diag(inv_std), b' = b - W' mean. */
static lcl_status fold_standardisation(struct lcl_hf_export *e, const struct lcl_params *t,
                                       lcl_dtype dtype)
{
    static const char w_name[] = "multi_modal_projector.linear_1.weight";
    static const char b_name[] = "multi_modal_projector.linear_1.bias";
    const float *mean = row_value(t, "image_standardize.mean");
    const float *inv_std = row_value(t, "image_standardize.inv_std");
    if (!mean || !inv_std) return LCL_OK;
    int64_t N = e->config.text.C, K = e->config.vision.C;
    const float *w = row_value(t, w_name), *b = row_value(t, b_name);
    float *w_new = make_item(e, w_name, dtype, N, K), *b_new = make_item(e, b_name, dtype, N, 0);
    if (!w || !w_new || !b_new) return LCL_FAIL(LCL_MEMORY, "no memory to fold the projector");
    for (int64_t n = 0; n < N; n++) {
        double sum = b ? (double)b[n] : 0;
        for (int64_t k = 0; k < K; k++) {
            double x = (double)w[n * K + k] * (double)inv_std[k];
            w_new[n * K + k] = (float)x;
            sum -= x * (double)mean[k];
        }
        b_new[n] = (float)sum;
    }
    return LCL_OK;
}

/* HF's projector always has two layers, both or neither with a bias. */
static lcl_status complete_projector(struct lcl_hf_export *e, lcl_dtype dtype)
{
    static const char w_name[] = "multi_modal_projector.linear_2.weight";
    static const char b_name[] = "multi_modal_projector.linear_2.bias";
    int64_t C = e->config.text.C;
    if (!find_item(e, w_name)) {
        float *eye = make_item(e, w_name, dtype, C, C);
        if (!eye) return LCL_FAIL(LCL_MEMORY, "no memory for %s", w_name);
        for (int64_t i = 0; i < C; i++) eye[i * C + i] = 1;
    }
    e->config.projector_bias = find_item(e, "multi_modal_projector.linear_1.bias") != NULL;
    if (e->config.projector_bias && !find_item(e, b_name) && !make_item(e, b_name, dtype, C, 0))
        return LCL_FAIL(LCL_MEMORY, "no memory for %s", b_name);
    return LCL_OK;
}

lcl_status lcl_hf_export_collect(const struct lcl_params *t, const struct lcl_model_config *m,
                                 lcl_dtype dtype, bool v1, struct lcl_hf_export *e)
{
    *e = (struct lcl_hf_export){.config = *m};
    e->items = calloc((size_t)t->n_rows + LCL_HF_EXPORT_MADE, sizeof *e->items);
    if (!e->items) return LCL_FAIL(LCL_MEMORY, "no memory for a list of %d tensors", t->n_rows);
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (lcl_hf_is_own_row(p)) continue;
        if (!lcl_param_value(t, p))
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, "load it with bf16: false",
                                 "%s has no float32 values to export", p->name);
        struct lcl_st_item *item = &e->items[e->n++];
        *item = (struct lcl_st_item){.name = p->name,
                                     .dtype = dtype,
                                     .source = LCL_F32,
                                     .n_dims = p->n_dims,
                                     .data = lcl_param_value(t, p)};
        memcpy(item->shape, p->shape, sizeof p->shape);
    }
    if (m->projector == LCL_PROJECTOR_QFORMER) return LCL_OK; /* for the decoder alone */
    LCL_TRY(fold_standardisation(e, t, dtype));
    /* The original LLaVA has a linear projector; HF's is two layers always. */
    return v1 && e->config.projector == LCL_PROJECTOR_LINEAR ? LCL_OK
                                                             : complete_projector(e, dtype);
}

/* ---- the original LLaVA layout ---- */

static void v1_name(const char *name, bool linear, char out[LCL_PARAM_NAME_BYTES])
{
    const struct {
        const char *from, *to;
    } rules[] = {{"vision_tower.", "vision_model."},
                 {"multi_modal_projector.linear_1.",
                  linear ? "model.mm_projector." : "model.mm_projector.0."},
                 {"multi_modal_projector.linear_2.", "model.mm_projector.2."},
                 {"language_model.model.", "model."},
                 {"language_model.", ""}};
    for (int i = 0; i < 5; i++) {
        size_t n = strlen(rules[i].from);
        if (strncmp(name, rules[i].from, n) != 0) continue;
        snprintf(out, LCL_PARAM_NAME_BYTES, "%s%.*s", rules[i].to, LCL_PARAM_NAME_BYTES - 32,
                 name + n);
        return;
    }
}

/* Items by their v1 names, those of the tower behind; returns how many stand before. */
static lcl_status split_v1(struct lcl_hf_export *e, size_t *n_text)
{
    struct lcl_st_item *sorted = calloc(e->n + 1, sizeof *sorted);
    e->names = calloc(e->n + 1, sizeof *e->names);
    if (!sorted || !e->names) {
        free(sorted);
        return LCL_FAIL(LCL_MEMORY, "no memory for %zu names", e->n);
    }
    size_t n = 0;
    for (int tower = 0; tower < 2; tower++) {
        for (size_t i = 0; i < e->n; i++) {
            bool vision = strncmp(e->items[i].name, "vision_tower.", 13) == 0;
            if (vision != (tower == 1)) continue;
            v1_name(e->items[i].name, e->config.projector == LCL_PROJECTOR_LINEAR, e->names[n]);
            sorted[n] = e->items[i];
            sorted[n].name = e->names[n];
            n++;
        }
        if (tower == 0) *n_text = n;
    }
    free(e->items);
    e->items = sorted;
    return LCL_OK;
}

/* ---- the small files ---- */

static lcl_status write_json(const char *dir, const char *file, json_t *root)
{
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(root);
    lcl_status status = lcl_fs_write_text(dir, file, text);
    free(text);
    return status;
}

static lcl_status write_generation(const char *dir, const struct lcl_model_config *m)
{
    json_t *root = json_pack("{s:b}", "_from_model_config", 1);
    if (m->bos_token >= 0) json_object_set_new(root, "bos_token_id", json_integer(m->bos_token));
    if (m->eos_token >= 0) json_object_set_new(root, "eos_token_id", json_integer(m->eos_token));
    if (m->pad_token >= 0) json_object_set_new(root, "pad_token_id", json_integer(m->pad_token));
    return write_json(dir, "generation_config.json", root);
}

/* CLIP's constants as they are always written; others to the digits that a float has. */
static json_t *three(const float *x, const double *clip)
{
    json_t *list = json_array();
    for (int i = 0; i < 3; i++) {
        bool same = x[i] == (float)clip[i];
        json_array_append_new(list, json_real(same ? clip[i] : round((double)x[i] * 1e8) / 1e8));
    }
    return list;
}

static lcl_status write_preprocessor(const char *dir, const struct lcl_model_config *m,
                                     const struct lcl_hf_save_options *o)
{
    static const double clip_mean[3] = {0.48145466, 0.4578275, 0.40821073};
    static const double clip_std[3] = {0.26862954, 0.26130258, 0.27577711};
    float mean[3], std[3];
    for (int i = 0; i < 3; i++) {
        bool clip = o->image_std[0] == 0;
        mean[i] = clip ? (float)clip_mean[i] : o->image_mean[i];
        std[i] = clip ? (float)clip_std[i] : o->image_std[i];
    }
    json_int_t side = (json_int_t)m->vision.image_size;
    json_t *root = json_pack(
        "{s:s, s:{s:I, s:I}, s:{s:I}, s:b, s:b, s:b, s:b, s:b, s:i, s:f, s:o, s:o}",
        "image_processor_type", o->pad_to_square ? "LlavaImageProcessor" : "CLIPImageProcessor",
        "crop_size", "height", side, "width", side, "size", "shortest_edge", side, "do_center_crop",
        1, "do_convert_rgb", 1, "do_normalize", 1, "do_rescale", 1, "do_resize", 1, "resample", 3,
        "rescale_factor", 1 / 255.0, "image_mean", three(mean, clip_mean), "image_std",
        three(std, clip_std));
    if (o->pad_to_square) json_object_set_new(root, "do_pad", json_true());
    for (int i = 0; o->pad_to_square && i < 3; i++) {
        int wanted = (int)(mean[i] * 255.0f);
        if (o->background[i] == wanted) continue;
        lcl_log_warn("%s: transformers pads pictures with the mean colour, the model was trained "
                     "with %d,%d,%d",
                     dir, o->background[0], o->background[1], o->background[2]);
        break;
    }
    return write_json(dir, "preprocessor_config.json", root);
}

static lcl_status save_v1(const char *dir, struct lcl_hf_export *e,
                          const struct lcl_hf_save_options *o, size_t shard_bytes)
{
    char *text = NULL, *tower_text = NULL, *tower = lcl_strdupf("%s/vision_tower", dir);
    size_t n_text = 0;
    lcl_status status = tower ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(lcl_hf_config_write_v1(&e->config, o->dtype, "vision_tower", &text, &tower_text));
    LCL_TRY_GOTO(split_v1(e, &n_text));
    LCL_TRY_GOTO(lcl_fs_mkdirs(tower));
    LCL_TRY_GOTO(lcl_st_write_folder(dir, e->items, n_text, shard_bytes));
    LCL_TRY_GOTO(lcl_st_write_folder(tower, e->items + n_text, e->n - n_text, shard_bytes));
    LCL_TRY_GOTO(write_generation(dir, &e->config));
    LCL_TRY_GOTO(write_preprocessor(dir, &e->config, o));
    LCL_TRY_GOTO(write_preprocessor(tower, &e->config, o));
    LCL_TRY_GOTO(lcl_fs_write_text(tower, "config.json", tower_text));
    status = lcl_fs_write_text(dir, "config.json", text);
out:
    free(text);
    free(tower_text);
    free(tower);
    return status;
}

static lcl_status write_config(const char *dir, const struct lcl_model_config *m, lcl_dtype dtype)
{
    char *text = NULL;
    lcl_status status = lcl_hf_config_write(m, dtype, &text);
    if (status == LCL_OK) status = lcl_fs_write_text(dir, "config.json", text);
    free(text);
    return status;
}

lcl_status lcl_hf_save_settings(const char *dir, const struct lcl_model_config *m,
                                const struct lcl_hf_save_options *o)
{
    LCL_TRY(write_generation(dir, m));
    LCL_TRY(write_preprocessor(dir, m, o));
    return write_config(dir, m, o->dtype);
}

lcl_status lcl_hf_save(const char *dir, const struct lcl_params *t,
                       const struct lcl_model_config *m, const struct lcl_hf_save_options *options)
{
    const struct lcl_hf_save_options o =
        options ? *options : (struct lcl_hf_save_options){.dtype = LCL_F32};
    if (o.dtype != LCL_F32 && o.dtype != LCL_BF16 && o.dtype != LCL_F16)
        return LCL_FAIL(LCL_UNSUPPORTED, "weights are exported as f32, bf16 or f16, not %s",
                        lcl_dtype_name(o.dtype));
    struct lcl_hf_export e = {0};
    lcl_status status;
    char *probe = NULL;
    LCL_TRY_GOTO(lcl_hf_config_write(m, o.dtype, &probe)); /* refuses before anything is written */
    LCL_TRY_GOTO(lcl_hf_export_collect(t, m, o.dtype, o.llava_v1, &e));
    LCL_TRY_GOTO(lcl_fs_mkdirs(dir));
    size_t shard_bytes = o.max_shard_bytes ? o.max_shard_bytes : LCL_ST_SHARD_BYTES;
    if (o.llava_v1) {
        status = save_v1(dir, &e, &o, shard_bytes);
        goto out;
    }
    LCL_TRY_GOTO(lcl_st_write_folder(dir, e.items, e.n, shard_bytes));
    status = lcl_hf_save_settings(dir, &e.config, &o);
out:
    free(probe);
    lcl_hf_export_free(&e);
    return status;
}
