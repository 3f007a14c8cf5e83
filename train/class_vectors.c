#include "train/class_vectors.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "core/log.h"
#include "train/share.h"
#include "train/stop.h"

enum { BATCH = LCL_CLASS_VECTOR_PICTURES, TEXTS = 64, PIXEL_SIDE = 16 };

/* ---- streaming ---- */

static int64_t pictures_of(const struct lcl_class *class, const struct lcl_picture_features *f,
                           int64_t per_class)
{
    if (f->in_training && class->split != LCL_SPLIT_TRAIN) return 0;
    return per_class > 0 && per_class < class->n_images ? per_class : class->n_images;
}

/* The next pictures in order, at most BATCH: class and place in it are kept in *at. */
struct place {
    int32_t class;
    int64_t k;
};
static int64_t next_batch(const struct lcl_pack *pack, const struct lcl_picture_features *f,
                          int64_t per_class, struct place *at, int64_t *image)
{
    int64_t n = 0;
    while (n < BATCH && at->class < pack->n_classes) {
        const struct lcl_class *class = &pack->classes[at->class];
        int64_t m = pictures_of(class, f, per_class);
        if (at->k == m) {
            *at = (struct place){at->class + 1, 0};
            continue;
        }
        image[n++] = class->images[at->k++ * class->n_images / m];
    }
    return n;
}

/* A round: a batch of each rank, which lie one after another. */
struct round {
    int64_t *image; /* [size * BATCH] */
    float *row;     /* [size * BATCH, F] */
    float *pixels;  /* of this rank's batch */
    int64_t n;
};

static lcl_status run_own(struct lcl_env *e, const struct lcl_picture_features *f, struct round *r)
{
    int64_t begin = (int64_t)lcl_comm_rank(e->comm) * BATCH, n = r->n - begin;
    if (lcl_stop_asked)
        return LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d", (int)lcl_stop_asked);
    if (n <= 0) return LCL_OK;
    if (n > BATCH) n = BATCH;
    LCL_TRY(lcl_pack_read_pixels(&e->pack, r->image + begin, n, f->preprocess, r->pixels));
    return f->run(f->ctx, r->pixels, n, r->row + begin * f->F);
}

/* Sums are made by every rank alike, of all pictures in their order. */
static lcl_status run_round(struct lcl_env *e, const struct lcl_picture_features *f,
                            struct round *r, struct lcl_class_means *means)
{
    LCL_TRY(lcl_share_agree(e->comm, run_own(e, f, r)));
    LCL_TRY(lcl_share_gather(e->comm, "features of pictures", r->row, (size_t)f->F * sizeof *r->row,
                             BATCH, r->n));
    for (int64_t i = 0; i < r->n; i++)
        LCL_TRY(lcl_class_means_add(means, r->image[i], r->row + i * f->F));
    return LCL_OK;
}

lcl_status lcl_class_means_of(struct lcl_env *e, const struct lcl_picture_features *f,
                              int64_t per_class, float *mean_CF)
{
    struct lcl_class_means means;
    struct place at = {0};
    struct lcl_progress progress;
    const int64_t most = (int64_t)lcl_comm_size(e->comm) * BATCH, S = f->preprocess->size;
    int64_t done = 0, total = 0;
    for (int32_t c = 0; c < e->pack.n_classes; c++)
        total += pictures_of(&e->pack.classes[c], f, per_class);
    LCL_TRY(lcl_class_means_init(&means, &e->pack, f->F));
    struct round r = {.image = malloc((size_t)most * sizeof *r.image),
                      .row = malloc((size_t)(most * f->F) * sizeof *r.row),
                      .pixels = malloc((size_t)(BATCH * 3 * S * S) * sizeof *r.pixels)};
    lcl_status status = r.image && r.row && r.pixels
                            ? LCL_OK
                            : LCL_FAIL(LCL_MEMORY, "no memory for a batch of pictures");
    if (!f->in_training) lcl_progress_begin(&progress, "class vectors", "pictures", total);
    while (status == LCL_OK && done < total) {
        for (r.n = 0; r.n < most && done + r.n < total;)
            r.n += next_batch(&e->pack, f, per_class, &at, r.image + r.n);
        status = run_round(e, f, &r, &means);
        done += r.n;
        if (!f->in_training) lcl_progress_update(&progress, done, NULL);
    }
    if (!f->in_training) lcl_progress_end(&progress, NULL);
    if (status == LCL_OK) lcl_class_means_finish(&means, mean_CF);
    lcl_class_means_free(&means);
    free(r.image);
    free(r.row);
    free(r.pixels);
    return status;
}

void lcl_class_vectors_free(struct lcl_class_vectors *v)
{
    free(v->image_CF);
    free(v->text_CF);
    *v = (struct lcl_class_vectors){0};
}

static lcl_status reserve(const struct lcl_env *e, int64_t F, float **x)
{
    *x = malloc((size_t)e->pack.n_classes * (size_t)F * sizeof **x);
    return *x ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for class vectors");
}

static lcl_status image_vectors(struct lcl_env *e, const struct lcl_picture_features *f,
                                int64_t per_class, struct lcl_class_vectors *out)
{
    out->F = f->F;
    LCL_TRY(reserve(e, f->F, &out->image_CF));
    lcl_status status = lcl_class_means_of(e, f, per_class, out->image_CF);
    if (status != LCL_OK) lcl_class_vectors_free(out);
    return status;
}

/* ---- pixels, and a model's own tower ---- */

static lcl_status run_pixels(void *ctx, const float *pixels, int64_t n, float *out)
{
    const struct lcl_picture_features *f = ctx;
    memcpy(out, pixels, (size_t)(n * f->F) * sizeof *out);
    return LCL_OK;
}

lcl_status lcl_class_vectors_pixels(struct lcl_env *e, const struct lcl_config *c,
                                    int64_t per_class, struct lcl_class_vectors *out)
{
    struct lcl_preprocess p;
    struct lcl_picture_features f = {
        .run = run_pixels, .ctx = &f, .F = 3 * PIXEL_SIDE * PIXEL_SIDE, .preprocess = &p};
    *out = (struct lcl_class_vectors){0};
    lcl_preprocess_defaults(&p, PIXEL_SIDE);
    LCL_TRY(lcl_parse_background(c->data_background, p.background));
    for (int i = 0; i < 3; i++) p.mean[i] = p.std[i] = 0.5f;
    return image_vectors(e, &f, per_class, out);
}

struct tower {
    struct lcl_pass pass;
    int64_t rows, C;
    float *tokens; /* [BATCH, rows, C] */
};

static lcl_status run_tower(void *ctx, const float *pixels, int64_t n, float *out)
{
    struct tower *t = ctx;
    struct lcl_pass *p = &t->pass;
    int64_t row = t->rows * t->C;
    LCL_TRY(lcl_model_vision_fwd(p, pixels, n));
    LCL_TRY(p->exec->ops->download_fwd(
        p->exec, &(struct lcl_download_args){.count = n * row,
                                             .x_dtype = lcl_model_dtype(p->model),
                                             .x = p->features,
                                             .y = t->tokens}));
    memset(out, 0, (size_t)(n * t->C) * sizeof *out);
    for (int64_t k = 0; k < n * row; k++)
        out[k / row * t->C + k % t->C] += t->tokens[k] / (float)t->rows;
    return LCL_OK;
}

lcl_status lcl_class_vectors_model(struct lcl_env *e, int64_t per_class, bool in_training,
                                   struct lcl_class_vectors *out)
{
    struct tower t = {.pass = {.exec = &e->exec, .model = &e->model},
                      .rows = lcl_feature_rows(&e->model.config),
                      .C = e->model.config.vision.C};
    const struct lcl_picture_features f = {.run = run_tower,
                                           .ctx = &t,
                                           .F = t.C,
                                           .preprocess = &e->preprocess,
                                           .in_training = in_training};
    *out = (struct lcl_class_vectors){0};
    t.tokens = malloc((size_t)(BATCH * t.rows * t.C) * sizeof *t.tokens);
    lcl_status status = t.tokens ? image_vectors(e, &f, per_class, out)
                                 : LCL_FAIL(LCL_MEMORY, "no memory for features of a batch");
    lcl_pass_free(&t.pass);
    free(t.tokens);
    return status;
}

/* ---- CLIP ---- */

struct clip {
    struct lcl_clip model;
    struct lcl_clip_pass pass;
    struct lcl_tokenizer *tokenizer;
};

static lcl_status run_clip(void *ctx, const float *pixels, int64_t n, float *out)
{
    struct clip *c = ctx;
    return lcl_clip_images(&c->model, &c->pass, pixels, n, out);
}

static lcl_status clip_images(struct lcl_env *e, struct clip *c, const char *dir, int64_t per_class,
                              float *image_CF)
{
    struct lcl_preprocess p;
    const struct lcl_picture_features f = {
        .run = run_clip, .ctx = c, .F = c->model.config.P, .preprocess = &p};
    int size = (int)c->model.config.image.image_size;
    bool found;
    lcl_preprocess_defaults(&p, size);
    LCL_TRY(lcl_preprocess_load(dir, &p, &found));
    if (p.size != size)
        return LCL_FAIL(LCL_SHAPE,
                        "preprocessor_config.json of %s makes pictures of %d px, its tower takes "
                        "%d",
                        dir, p.size, size);
    return lcl_class_means_of(e, &f, per_class, image_CF);
}

/* Replaces the first {name}; malloc'd. */
static char *word_name(const char *text_template, const char *name)
{
    const char *at = strstr(text_template, "{name}");
    return at ? lcl_strdupf("%.*s%s%s", (int)(at - text_template), text_template, name, at + 6)
              : NULL;
}

/* The ids of one class's text behind *ids; longer ones lose what is before the last, the end of
 * text. */
static lcl_status add_text(const struct clip *c, const char *text, struct lcl_ids *ids,
                           int32_t *length)
{
    int64_t before = ids->n, most = c->model.config.positions;
    LCL_TRY(lcl_tokenizer_encode(c->tokenizer, text, true, ids));
    if (ids->n - before > most) {
        ids->v[before + most - 1] = ids->v[ids->n - 1];
        ids->n = before + most;
    }
    *length = (int32_t)(ids->n - before);
    return LCL_OK;
}

static lcl_status clip_texts(struct lcl_env *e, struct clip *c, const char *text_template,
                             float *text_CF)
{
    struct lcl_ids ids = {0};
    int32_t length[TEXTS];
    lcl_status status = LCL_OK;
    if (!strstr(text_template, "{name}"))
        return LCL_FAIL_HINT(LCL_CONFIG, "as \"a photo of a {name}\"",
                             "the text template \"%.100s\" has no {name}", text_template);
    for (int32_t begin = 0; begin < e->pack.n_classes && status == LCL_OK; begin += TEXTS) {
        int32_t n = e->pack.n_classes - begin < TEXTS ? e->pack.n_classes - begin : TEXTS;
        ids.n = 0;
        for (int32_t i = 0; i < n && status == LCL_OK; i++) {
            const struct lcl_class *class = &e->pack.classes[begin + i];
            char *text = word_name(text_template, class->name);
            status = text ? add_text(c, text, &ids, &length[i])
                          : LCL_FAIL(LCL_MEMORY, "no memory for a class's name");
            free(text);
            if (status != LCL_OK) status = lcl_fail_context(status, "class %s", class->id);
        }
        if (status == LCL_OK)
            status = lcl_clip_texts(&c->model, &c->pass, ids.v, length, n,
                                    text_CF + (int64_t)begin * c->model.config.P);
    }
    lcl_ids_free(&ids);
    return status;
}

lcl_status lcl_class_vectors_clip(struct lcl_env *e, const char *dir, bool bf16, bool image,
                                  bool text, int64_t per_class, const char *text_template,
                                  struct lcl_class_vectors *out)
{
    struct clip c = {.pass = {.exec = &e->exec}};
    lcl_status status;
    *out = (struct lcl_class_vectors){0};
    LCL_TRY(lcl_hf_clip_load(dir, bf16, &c.model));
    out->F = c.model.config.P;
    if (text) {
        LCL_TRY_GOTO(lcl_tokenizer_load_folder(dir, &c.tokenizer));
        LCL_TRY_GOTO(reserve(e, out->F, &out->text_CF));
        LCL_TRY_GOTO(clip_texts(e, &c, text_template, out->text_CF));
    }
    if (image) {
        LCL_TRY_GOTO(reserve(e, out->F, &out->image_CF));
        LCL_TRY_GOTO(clip_images(e, &c, dir, per_class, out->image_CF));
    }
    status = LCL_OK;
out:
    lcl_clip_pass_free(&c.pass);
    lcl_tokenizer_free(c.tokenizer);
    lcl_clip_free(&c.model);
    if (status != LCL_OK) lcl_class_vectors_free(out);
    return status;
}
