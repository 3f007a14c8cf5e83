/* A case of texts and pictures through CLIP: features as safetensors. */
#include <stdlib.h>

#include "train/forward.h"

static lcl_status shape_fails(const char *path, const struct lcl_st_tensor *t, const char *wanted)
{
    char shape[96];
    return LCL_FAIL(LCL_SHAPE, "%s: %s is %s %s, wanted %s", path, t->name, t->stored,
                    lcl_st_shape_text(t->n_dims, t->shape, shape, sizeof shape), wanted);
}

static lcl_status read_ids(const struct lcl_clip *m, const char *path,
                           const struct lcl_st_tensor *t, int32_t *id, int32_t *length)
{
    int64_t L = t->shape[1];
    for (size_t i = 0; i < t->count; i++) {
        int64_t x;
        LCL_TRY(lcl_st_read(t, i, 1, LCL_I64, &x));
        if (x < 0 || x >= m->config.V)
            return LCL_FAIL(LCL_RANGE, "%s: token id %lld, the vocabulary has %lld", path,
                            (long long)x, (long long)m->config.V);
        id[i] = (int32_t)x;
        length[i / (size_t)L] = (int32_t)L;
    }
    return LCL_OK;
}

static lcl_status run_texts(const struct lcl_clip *m, struct lcl_clip_pass *p, const char *path,
                            const struct lcl_st_tensor *t, float *out)
{
    int32_t *id = malloc((t->count + 1) * sizeof *id);
    int32_t *length = malloc(((size_t)t->shape[0] + 1) * sizeof *length);
    lcl_status status = LCL_OK;
    if (!id || !length) status = LCL_FAIL(LCL_MEMORY, "no memory for the texts of %s", path);
    if (status == LCL_OK) status = read_ids(m, path, t, id, length);
    if (status == LCL_OK) status = lcl_clip_texts(m, p, id, length, t->shape[0], out);
    free(id);
    free(length);
    return status;
}

static lcl_status run_pictures(const struct lcl_clip *m, struct lcl_clip_pass *p, const char *path,
                               const struct lcl_st_tensor *t, float *out)
{
    float *pixels = malloc((t->count + 1) * sizeof *pixels);
    if (!pixels) return LCL_FAIL(LCL_MEMORY, "no memory for the pictures of %s", path);
    lcl_status status = lcl_st_read(t, 0, t->count, LCL_F32, pixels);
    if (status == LCL_OK) status = lcl_clip_images(m, p, pixels, t->shape[0], out);
    free(pixels);
    return status;
}

/* The case's tensor of this name, checked, and room for its features. */
static lcl_status take(const struct lcl_clip *m, const struct lcl_safetensors *st, const char *path,
                       bool texts, const struct lcl_st_tensor **t, float **out)
{
    int64_t S = m->config.image.image_size;
    *t = lcl_st_find(st, texts ? "input_ids" : "pixel_values");
    if (!*t) return LCL_OK;
    const int64_t *shape = (*t)->shape;
    if (texts && ((*t)->dtype != LCL_I64 || (*t)->n_dims != 2 || shape[0] < 1 || shape[1] < 1 ||
                  shape[1] > m->config.positions))
        return shape_fails(path, *t, "I64 [texts, at most as many tokens as CLIP has positions]");
    if (!texts &&
        ((*t)->n_dims != 4 || shape[0] < 1 || shape[1] != 3 || shape[2] != S || shape[3] != S))
        return shape_fails(path, *t, "[pictures, 3, side, side] of the tower's side");
    *out = malloc((size_t)(shape[0] * m->config.P) * sizeof **out);
    return *out ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for features");
}

lcl_status lcl_forward_clip(struct lcl_exec *exec, const struct lcl_clip *m, const char *case_path,
                            const char *out_path)
{
    static const char *const names[2] = {"image_embeds", "text_embeds"};
    struct lcl_safetensors st;
    struct lcl_clip_pass pass = {.exec = exec};
    struct lcl_st_item item[2];
    float *out[2] = {NULL, NULL};
    size_t n = 0;
    lcl_status status;
    LCL_TRY(lcl_st_open(case_path, &st));
    for (int texts = 0; texts < 2; texts++) {
        const struct lcl_st_tensor *t;
        LCL_TRY_GOTO(take(m, &st, case_path, texts, &t, &out[texts]));
        if (!t) continue;
        LCL_TRY_GOTO(texts ? run_texts(m, &pass, case_path, t, out[texts])
                           : run_pictures(m, &pass, case_path, t, out[texts]));
        item[n++] = (struct lcl_st_item){.name = names[texts],
                                         .dtype = LCL_F32,
                                         .source = LCL_F32,
                                         .n_dims = 2,
                                         .shape = {t->shape[0], m->config.P},
                                         .data = out[texts]};
    }
    status = n ? lcl_st_write(out_path, item, n, NULL)
               : LCL_FAIL(LCL_NOT_FOUND, "%s has neither input_ids nor pixel_values", case_path);
out:
    lcl_clip_pass_free(&pass);
    lcl_st_close(&st);
    free(out[0]);
    free(out[1]);
    return status;
}
