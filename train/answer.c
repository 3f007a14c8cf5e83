#include "train/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/threads.h"
#include "train/answer_parts.h"

enum { GALLERY_BATCH = 16 };

void lcl_bad_pictures_free(struct lcl_bad_pictures *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        free(b->v[i].path);
        free(b->v[i].why);
    }
    free(b->v);
    *b = (struct lcl_bad_pictures){0};
}

static lcl_status add_bad(struct lcl_bad_pictures *b, const char *path, const char *why)
{
    struct lcl_bad_picture *v = realloc(b->v, ((size_t)b->n + 1) * sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for a list of bad pictures");
    b->v = v;
    v[b->n] = (struct lcl_bad_picture){lcl_strdupf("%s", path), lcl_strdupf("%s", why)};
    if (!v[b->n].path || !v[b->n].why) {
        free(v[b->n].path);
        free(v[b->n].why);
        return LCL_FAIL(LCL_MEMORY, "no memory for a list of bad pictures");
    }
    b->n++;
    return LCL_OK;
}

static size_t pixels_of(const struct lcl_gallery *g)
{
    return (size_t)g->env->preprocess.size * (size_t)g->env->preprocess.size * 3;
}

lcl_status lcl_gallery_open(struct lcl_gallery *g, struct lcl_env *e)
{
    *g = (struct lcl_gallery){.env = e,
                              .pass = {.exec = &e->exec, .model = &e->model},
                              .row = lcl_feature_rows(&e->model.config) * e->model.config.vision.C};
    g->pixels = malloc(GALLERY_BATCH * pixels_of(g) * sizeof *g->pixels);
    return g->pixels ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a batch of pictures");
}

void lcl_gallery_close(struct lcl_gallery *g)
{
    lcl_pass_free(&g->pass);
    free(g->rows);
    free(g->stamp);
    free(g->pixels);
    *g = (struct lcl_gallery){0};
}

struct read {
    struct lcl_gallery *g;
    const char *const *paths;
    struct lcl_error error[GALLERY_BATCH]; /* code LCL_OK: read */
};

lcl_status lcl_gallery_read(const struct lcl_gallery *g, const char *path,
                            const struct lcl_decode_options *o, struct lcl_image *image)
{
    const int64_t k = g->archived ? lcl_archived_files_number(g->archived, path) : -1;
    return k >= 0 ? lcl_archived_read(&g->archived->found, k, path, o, image)
                  : lcl_image_load(path, o, image);
}

/* A bad picture is remembered, so that its neighbors are still read. */
static lcl_status read_one(void *arg, int64_t i)
{
    struct read *r = arg;
    const struct lcl_preprocess *p = &r->g->env->preprocess;
    struct lcl_decode_options o = {.composite_alpha = true, .apply_exif = true};
    memcpy(o.background, p->background, sizeof o.background);
    struct lcl_image image = {0};
    lcl_status status = lcl_gallery_read(r->g, r->paths[i], &o, &image);
    if (status == LCL_OK)
        status = lcl_preprocess_image(&image, p, r->g->pixels + (size_t)i * pixels_of(r->g));
    lcl_image_free(&image);
    lcl_error_save(&r->error[i], status);
    return LCL_OK;
}

static lcl_status grow(struct lcl_gallery *g, int64_t n)
{
    if (g->n + n <= g->cap) return LCL_OK;
    int64_t cap = 2 * (g->n + n);
    float *rows = realloc(g->rows, (size_t)(cap * g->row) * sizeof *rows);
    if (rows) g->rows = rows;
    uint64_t *stamp = realloc(g->stamp, (size_t)cap * sizeof *stamp);
    if (stamp) g->stamp = stamp;
    if (!rows || !stamp)
        return LCL_FAIL_HINT(LCL_MEMORY, "use fewer pictures at once",
                             "no memory for the features of %lld pictures", (long long)cap);
    g->cap = cap;
    return LCL_OK;
}

/* Features of the first n pictures of g->pixels, added at the end. */
static lcl_status run_tower(struct lcl_gallery *g, int64_t n)
{
    struct lcl_pass *p = &g->pass;
    LCL_TRY(grow(g, n));
    LCL_TRY(lcl_model_vision_fwd(p, g->pixels, n));
    LCL_TRY(p->exec->ops->download_fwd(
        p->exec, &(struct lcl_download_args){.count = n * g->row,
                                             .x_dtype = lcl_model_dtype(p->model),
                                             .x = p->features,
                                             .y = g->rows + g->n * g->row}));
    for (int64_t i = 0; i < n; i++) g->stamp[g->n++] = ++g->stamps;
    return LCL_OK;
}

/* Reads up to GALLERY_BATCH files; the good ones' pixels are moved together. */
static lcl_status read_batch(struct read *r, int64_t n, int64_t *number,
                             struct lcl_bad_pictures *bad, int64_t *n_good)
{
    LCL_TRY(lcl_parallel(n, read_one, r));
    size_t per = pixels_of(r->g);
    *n_good = 0;
    for (int64_t i = 0; i < n; i++) {
        if (r->error[i].code != LCL_OK) {
            if (!bad) return lcl_error_restore(&r->error[i]);
            LCL_TRY(add_bad(bad, r->paths[i], r->error[i].message));
            if (number) number[i] = -1;
            continue;
        }
        if (*n_good != i)
            memcpy(r->g->pixels + (size_t)*n_good * per, r->g->pixels + (size_t)i * per,
                   per * sizeof(float));
        if (number) number[i] = r->g->n + *n_good;
        ++*n_good;
    }
    return LCL_OK;
}

static lcl_status read_all(struct lcl_gallery *g, const char *const *paths, int64_t n,
                           int64_t *number, struct lcl_bad_pictures *bad, bool keep)
{
    struct read *r = calloc(1, sizeof *r);
    lcl_status status = r ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to read pictures");
    for (int64_t begin = 0; begin < n && status == LCL_OK; begin += GALLERY_BATCH) {
        int64_t count = n - begin < GALLERY_BATCH ? n - begin : GALLERY_BATCH, good;
        r->g = g;
        r->paths = paths + begin;
        status = read_batch(r, count, number ? number + begin : NULL, bad, &good);
        if (status == LCL_OK && keep && good > 0) status = run_tower(g, good);
    }
    free(r);
    return status;
}

lcl_status lcl_gallery_add(struct lcl_gallery *g, const char *const *paths, int64_t n,
                           int64_t *number, struct lcl_bad_pictures *bad)
{
    return read_all(g, paths, n, number, bad, true);
}

lcl_status lcl_gallery_add_packed(struct lcl_gallery *g, struct lcl_pack *pack,
                                  const int64_t *image, int64_t n, int64_t *number)
{
    for (int64_t begin = 0; begin < n; begin += GALLERY_BATCH) {
        int64_t count = n - begin < GALLERY_BATCH ? n - begin : GALLERY_BATCH;
        LCL_TRY(lcl_pack_read_pixels(pack, image + begin, count, &g->env->preprocess, g->pixels));
        for (int64_t i = 0; i < count; i++) number[begin + i] = g->n + i;
        LCL_TRY(run_tower(g, count));
    }
    return LCL_OK;
}

lcl_status lcl_pictures_check(struct lcl_gallery *g, const char *const *paths, int64_t n,
                              struct lcl_bad_pictures *bad)
{
    return read_all(g, paths, n, NULL, bad, false);
}

lcl_status lcl_answerer_open(struct lcl_answerer *a, const struct lcl_gallery *g,
                             const struct lcl_config *c)
{
    struct lcl_env *e = g->env;
    *a = (struct lcl_answerer){.config = c, .gallery = g};
    lcl_generator_init(&a->generator, &e->exec, &e->model);
    return lcl_batch_builder_for(c, e->tokenizer, lcl_tokens_per_image(&e->model.config),
                                 &a->builder);
}

void lcl_answerer_close(struct lcl_answerer *a)
{
    lcl_batch_builder_free(a->builder);
    lcl_generator_free(&a->generator);
    free(a->features);
    *a = (struct lcl_answerer){0};
}

static lcl_status gather(struct lcl_answerer *a, const struct lcl_batch *b)
{
    size_t row = (size_t)a->gallery->row, want = (size_t)b->n_images * row;
    if (want > a->features_cap) {
        free(a->features);
        a->features = malloc(want * sizeof *a->features);
        a->features_cap = a->features ? want : 0;
        if (!a->features) return LCL_FAIL(LCL_MEMORY, "no memory for a question's pictures");
    }
    for (int64_t i = 0; i < b->n_images; i++)
        memcpy(a->features + (size_t)i * row,
               a->gallery->rows + (-1 - b->image_I[i]) * a->gallery->row,
               row * sizeof *a->features);
    return LCL_OK;
}

static lcl_status check_pictures(const struct lcl_answerer *a, const struct lcl_batch *b)
{
    for (int64_t i = 0; i < b->n_images; i++) {
        const int64_t picture = -1 - b->image_I[i];
        if (picture < 0 || picture >= a->gallery->n)
            return LCL_FAIL(LCL_INTERNAL, "picture %lld of a gallery of %lld", (long long)picture,
                            (long long)a->gallery->n);
    }
    return LCL_OK;
}

lcl_status lcl_answerer_pack(struct lcl_answerer *a, const struct lcl_episode *e, int begin, int n,
                             enum lcl_encode_mode mode)
{
    struct lcl_episode part = *e;
    part.queries = e->queries + begin;
    part.n_queries = n;
    lcl_batch_builder_reset(a->builder);
    return lcl_batch_append_episode(a->builder, &part, mode, LCL_SUPERVISE_LAST, NULL,
                                    a->config->model_max_length);
}

/* The stamps of the pictures that a context shows, one a time that it shows them: malloc'd. */
static lcl_status stamps_of(const struct lcl_answerer *a, const struct lcl_batch *context,
                            int64_t per_image, uint64_t **stamp, int64_t *n)
{
    *n = context->n_slots / per_image;
    *stamp = malloc(((size_t)*n + 1) * sizeof **stamp);
    if (!*stamp) return LCL_FAIL(LCL_MEMORY, "no memory for a context");
    for (int64_t k = 0; k < *n; k++) {
        const int64_t image = context->slot_row[k * per_image] / per_image;
        (*stamp)[k] = a->gallery->stamp[-1 - context->image_I[image]];
    }
    return LCL_OK;
}

lcl_status lcl_answerer_ask(struct lcl_answerer *a, int64_t more, struct lcl_asked *q)
{
    const int64_t per_image = lcl_tokens_per_image(&a->gallery->env->model.config);
    const struct lcl_batch *b = lcl_batch_builder_get(a->builder);
    uint64_t *stamp = NULL;
    int64_t n;
    *q = (struct lcl_asked){.batch = b};
    LCL_TRY(check_pictures(a, b));
    LCL_TRY(lcl_split_batch(b, per_image, &q->split));
    if (q->split.n > 0) {
        const struct lcl_batch *context = &q->split.context;
        lcl_status status = stamps_of(a, context, per_image, &stamp, &n);
        q->batch = &q->split.rest;
        q->after =
            status == LCL_OK ? lcl_contexts_find(&a->generator.contexts, context, stamp, n) : NULL;
        if (status == LCL_OK && !q->after) {
            status = gather(a, context);
            if (status == LCL_OK)
                status = lcl_generator_read(&a->generator, context,
                                            &(struct lcl_images){.features = a->features}, stamp, n,
                                            q->batch->T + more * q->batch->n_runs, &q->after);
        }
        free(stamp);
        LCL_TRY(status);
    }
    LCL_TRY(gather(a, q->batch));
    q->images = (struct lcl_images){.features = a->features};
    return LCL_OK;
}

int64_t lcl_asked_run(const struct lcl_asked *q, int64_t r)
{
    return q->after ? q->split.run[r] : r;
}

void lcl_asked_free(struct lcl_asked *q) { lcl_halves_free(&q->split); }

lcl_status lcl_answerer_score(struct lcl_answerer *a, double *sum)
{
    const struct lcl_batch *all = lcl_batch_builder_get(a->builder);
    struct lcl_asked q;
    for (int64_t r = 0; r < all->n_runs; r++) sum[r] = 0;
    lcl_status status = lcl_answerer_ask(a, 0, &q);
    if (status == LCL_OK) status = lcl_generator_score(&a->generator, q.batch, &q.images, q.after);
    for (int64_t r = 0, row = 0; status == LCL_OK && r < q.batch->n_runs; r++)
        for (; row < q.batch->S && q.batch->row_S[row] < q.batch->runs[r].q_end; row++)
            sum[lcl_asked_run(&q, r)] += (double)a->generator.pass.row_logprob[row];
    lcl_asked_free(&q);
    return status;
}

int lcl_answerer_slice(const struct lcl_answerer *a, int branches)
{
    int64_t branch = lcl_tokens_per_image(&a->gallery->env->model.config) + 32;
    int64_t n = LCL_TOKENS_AT_ONCE / (branch * branches);
    return (int)(n < 1 ? 1 : n > LCL_ANSWERS_AT_ONCE ? LCL_ANSWERS_AT_ONCE : n);
}

static lcl_status score_slice(struct lcl_answerer *a, const struct lcl_episode *e, int begin, int n,
                              double *logprob)
{
    LCL_TRY(lcl_answerer_pack(a, e, begin, n, LCL_ENCODE_CANDIDATES));
    const int64_t n_runs = lcl_batch_builder_get(a->builder)->n_runs;
    const struct lcl_branch *branch = lcl_batch_builder_branches(a->builder);
    double *sum = malloc((size_t)n_runs * sizeof *sum);
    lcl_status status =
        sum ? lcl_answerer_score(a, sum) : LCL_FAIL(LCL_MEMORY, "no memory for scores");
    for (int64_t r = 0; status == LCL_OK && r < n_runs; r++)
        if (branch[r].query >= 0)
            logprob[(begin + branch[r].query) * e->n_ways + branch[r].way] = sum[r];
    free(sum);
    return status;
}

lcl_status lcl_answer_likelihood(struct lcl_answerer *a, const struct lcl_episode *e,
                                 double *logprob)
{
    int step = lcl_answerer_slice(a, e->n_ways);
    for (int begin = 0; begin < e->n_queries; begin += step)
        LCL_TRY(score_slice(a, e, begin, e->n_queries - begin < step ? e->n_queries - begin : step,
                            logprob));
    return LCL_OK;
}

void lcl_answer_shares(const double *logprob, int n, double *share)
{
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) most = fmax(most, logprob[i]);
    for (int i = 0; i < n; i++) sum += share[i] = exp(logprob[i] - most);
    for (int i = 0; i < n; i++) share[i] /= sum;
}
