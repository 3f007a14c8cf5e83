#include "train/features.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "core/threads.h"
#include "train/share.h"
#include "train/stop.h"

enum { LANES = 8, LANE_IMAGES = 16, BATCH = LANES * LANE_IMAGES };

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    return h * 0x9E3779B97F4A7C15u +
           (((uint64_t)lcl_crc32c(0, data, n) << 32) | lcl_crc32c(7, data, n));
}

static uint64_t cache_key(const struct lcl_env *e, const struct lcl_pack *pack,
                          const struct lcl_config *c, int64_t views)
{
    const struct lcl_model_config *m = &e->model.config;
    uint64_t h = lcl_params_hash(&e->model.params, LCL_PART_VISION);
    int64_t numbers[] = {m->select_layer,    m->keep_class,      m->pool, views,
                         e->preprocess.size, e->preprocess.mode, c->bf16};
    h = mix(h, numbers, sizeof numbers);
    if (m->lora.rank > 0) h = mix(h, &m->lora.alpha, sizeof m->lora.alpha);
    h = mix(h, &pack->content_hash, sizeof pack->content_hash);
    h = mix(h, e->preprocess.background, 3);
    h = mix(h, e->preprocess.mean, sizeof e->preprocess.mean);
    h = mix(h, e->preprocess.std, sizeof e->preprocess.std);
    if (e->preprocess.short_edge > e->preprocess.size)
        h = mix(h, &e->preprocess.short_edge, sizeof e->preprocess.short_edge);
    if (views > 1) {
        double augment[] = {(double)c->seed, (double)c->classifier_shift, c->classifier_jitter};
        h = mix(h, augment, sizeof augment);
    }
    return h;
}

struct lane_ctx {
    struct lcl_pass *pass; /* [LANES] */
    const float *pixels;
    int64_t n, lane_images, image_floats, row;
    float *out;
};

static lcl_status run_lane(void *arg, int64_t lane)
{
    struct lane_ctx *c = arg;
    struct lcl_pass *p = &c->pass[lane];
    int64_t begin = lane * c->lane_images, n = c->n - begin;
    if (n > c->lane_images) n = c->lane_images;
    LCL_TRY(lcl_model_vision_fwd(p, c->pixels + begin * c->image_floats, n));
    return p->exec->ops->download_fwd(
        p->exec, &(struct lcl_download_args){.count = n * c->row,
                                             .x_dtype = lcl_model_dtype(p->model),
                                             .x = p->features,
                                             .y = c->out + begin * c->row});
}

/* What one rank computes features with. */
struct worker {
    struct lcl_pictures pictures;
    struct lcl_pass pass[LANES];
    float *pixels;
    bool lanes;
};

/* n pictures and views from number `begin` on. */
static lcl_status compute_batch(struct lcl_features *f, struct lcl_env *e, struct worker *w,
                                int64_t begin, int64_t n)
{
    int64_t image[BATCH], S = e->preprocess.size;
    int32_t view[BATCH];
    if (lcl_stop_asked)
        return LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d", (int)lcl_stop_asked);
    for (int64_t i = 0; i < n; i++) {
        image[i] = (begin + i) / f->views;
        view[i] = (int32_t)((begin + i) % f->views);
    }
    LCL_TRY(lcl_pictures_read(&w->pictures, image, view, n, w->pixels));
    struct lane_ctx ctx = {
        w->pass, w->pixels, n, LANE_IMAGES, 3 * S * S, f->row, f->data + begin * f->row};
    return w->lanes ? lcl_parallel(lcl_chunk_count(n, LANE_IMAGES), run_lane, &ctx)
                    : run_lane(&ctx, 0);
}

/* In rounds of a batch of each rank, after which all have it. */
static lcl_status compute_all(struct lcl_features *f, struct lcl_env *e, struct worker *w)
{
    const int64_t total = f->n_images * f->views, step = w->lanes ? BATCH : LANE_IMAGES;
    const int64_t round = step * lcl_comm_size(e->comm), own = step * lcl_comm_rank(e->comm);
    struct lcl_progress progress;
    lcl_status status = LCL_OK;
    lcl_progress_begin(&progress, "image features", "pictures", total);
    for (int64_t at = 0; at < total && status == LCL_OK; at += round) {
        int64_t begin = at + own, left = total - at < round ? total - at : round;
        int64_t n = total - begin < step ? total - begin : step;
        if (n > 0) status = compute_batch(f, e, w, begin, n);
        status = lcl_share_agree(e->comm, status);
        if (status == LCL_OK)
            status = lcl_share_gather(e->comm, "image features", f->data + at * f->row,
                                      (size_t)f->row * sizeof *f->data, step, left);
        lcl_progress_update(&progress, at + left, NULL);
    }
    lcl_progress_end(&progress, NULL);
    return status;
}

static lcl_status compute(struct lcl_features *f, struct lcl_env *e, struct lcl_pack *pack,
                          const struct lcl_config *c)
{
    struct worker w = {.lanes = lcl_env_lanes_in_parallel(e, LANES)};
    int64_t S = e->preprocess.size;
    for (int i = 0; i < LANES; i++)
        w.pass[i] = (struct lcl_pass){.exec = &e->exec, .model = &e->model};
    w.pixels = malloc((size_t)(BATCH * 3 * S * S) * sizeof *w.pixels);
    lcl_status status =
        w.pixels ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a batch of pictures");
    if (status == LCL_OK) status = lcl_pictures_open(&w.pictures, pack, &e->preprocess, c);
    if (status == LCL_OK) status = compute_all(f, e, &w);
    for (int i = 0; i < LANES; i++) lcl_pass_free(&w.pass[i]);
    lcl_pictures_close(&w.pictures);
    free(w.pixels);
    return status;
}

static lcl_status save(const struct lcl_features *f, uint64_t key, const char *path)
{
    struct lcl_h5 h5 = {0};
    char *temporary = lcl_strdupf("%s.tmp.%ld", path, (long)getpid()); /* runs may share a cache */
    if (!temporary) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    uint64_t dims[2] = {(uint64_t)(f->n_images * f->views), (uint64_t)f->row};
    lcl_status status = lcl_h5_create(temporary, &h5);
    if (status == LCL_OK) status = lcl_h5_write(&h5, "/features", LCL_H5_F32, 2, dims, f->data);
    if (status == LCL_OK) status = lcl_h5_set_u64(&h5, "/", "key", key);
    if (status == LCL_OK) status = lcl_h5_close(&h5);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, path);
    if (status != LCL_OK) {
        lcl_h5_discard(&h5);
        remove(temporary);
    }
    free(temporary);
    return status;
}

static lcl_status load(struct lcl_features *f, uint64_t key, const char *path)
{
    struct lcl_h5 h5 = {0};
    uint64_t stored = 0;
    LCL_TRY(lcl_h5_open(path, false, &h5));
    lcl_status status = lcl_h5_get_u64(&h5, "/", "key", &stored);
    if (status == LCL_OK && stored != key)
        status = LCL_FAIL(LCL_CORRUPT, "%s is the cache of other features", path);
    if (status == LCL_OK)
        status = lcl_h5_read(&h5, "/features", LCL_H5_F32,
                             (uint64_t)(f->n_images * f->views * f->row), f->data);
    lcl_h5_discard(&h5);
    return status;
}

/* Only where every rank can read it; a file that is not there, or of other features, is none. */
static lcl_status load_on_all(struct lcl_features *f, const struct lcl_env *e, uint64_t key,
                              const char *path, bool *loaded)
{
    unsigned char mine = 0, all[LCL_COMM_MOST];
    if (path && lcl_fs_exists(path)) {
        mine = load(f, key, path) == LCL_OK;
        if (!mine) lcl_log_warn("%s; features are computed again", lcl_error_message());
    }
    LCL_TRY(lcl_comm_all_gather(e->comm, "whether features are there", &mine, 1, all));
    *loaded = true;
    for (int r = 0; r < lcl_comm_size(e->comm); r++) *loaded = *loaded && all[r];
    return LCL_OK;
}

static lcl_status open_one(struct lcl_features *f, struct lcl_env *e, struct lcl_pack *pack,
                           const struct lcl_config *c, int64_t views, const char *dir)
{
    *f =
        (struct lcl_features){.n_images = pack->n_images,
                              .views = views,
                              .row = lcl_feature_rows(&e->model.config) * e->model.config.vision.C};
    uint64_t key = cache_key(e, pack, c, views);
    char *path = NULL;
    bool loaded;
    lcl_status status = LCL_OK;
    f->data = malloc((size_t)(f->n_images * views * f->row) * sizeof *f->data);
    if (!f->data) {
        char text[24];
        return LCL_FAIL_HINT(
            LCL_MEMORY, "set cache_features: false, so that the tower runs in each step",
            "no memory for image features: %s",
            lcl_format_bytes((double)(f->n_images * views * f->row) * sizeof(float), text));
    }
    if (dir && lcl_fs_mkdirs(dir) != LCL_OK) {
        lcl_log_warn("image features are not kept: %s", lcl_error_message());
        dir = NULL;
    }
    if (dir) {
        path = lcl_strdupf("%s/features-%016llx.h5", dir, (unsigned long long)key);
        if (!path) {
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
            goto out;
        }
    }
    LCL_TRY_GOTO(load_on_all(f, e, key, path, &loaded));
    if (loaded) goto out;
    LCL_TRY_GOTO(compute(f, e, pack, c));
    if (path && lcl_comm_rank(e->comm) == 0 && save(f, key, path) != LCL_OK)
        lcl_log_warn("image features are not kept: %s", lcl_error_message());
out:
    free(path);
    if (status != LCL_OK) lcl_features_close(f);
    return status;
}

lcl_status lcl_features_open(struct lcl_features *f, struct lcl_env *e, const struct lcl_config *c,
                             int64_t views, const char *dir)
{
    struct lcl_features *last = f;
    lcl_status status = open_one(f, e, &e->pack, c, views, dir);
    for (int i = 0; i < e->sources.n && status == LCL_OK; i++) {
        struct lcl_pack *pack = &e->sources.source[i].pack;
        if (pack->n_images == 0) continue;
        char *beside = lcl_strdupf("%s.features", pack->path);
        last->next = calloc(1, sizeof *last->next);
        if (beside && last->next)
            status = open_one(last->next, e, pack, c, 1, dir ? beside : NULL);
        else
            status = LCL_FAIL(LCL_MEMORY, "no memory for image features");
        free(beside);
        last = last->next ? last->next : last;
    }
    if (status != LCL_OK) lcl_features_close(f);
    return status;
}

void lcl_features_close(struct lcl_features *f)
{
    if (f->next) lcl_features_close(f->next);
    free(f->next);
    free(f->data);
    *f = (struct lcl_features){0};
}

lcl_status lcl_features_standardize(const struct lcl_features *f, struct lcl_env *e)
{
    struct lcl_model *m = &e->model;
    int64_t C = m->config.vision.C, count = 0;
    double *sum = calloc((size_t)(2 * C), sizeof *sum);
    if (!sum) return LCL_FAIL(LCL_MEMORY, "no memory for feature statistics");
    for (int64_t i = 0; i < f->n_images; i++) {
        if (e->class_label[e->pack.image_class[i]] < 0) continue;
        const float *x = lcl_features_row(f, i, 0);
        for (int64_t k = 0; k < f->views * f->row; k++) {
            sum[k % C] += (double)x[k];
            sum[C + k % C] += (double)x[k] * (double)x[k];
        }
        count += f->views * f->row / C;
    }
    float *mean = lcl_param_value(&m->params, &m->params.rows[m->rows.std_mean]);
    float *inv = lcl_param_value(&m->params, &m->params.rows[m->rows.std_inv]);
    for (int64_t k = 0; k < C && count > 0; k++) {
        double mu = sum[k] / (double)count;
        mean[k] = (float)mu;
        inv[k] = (float)(1 / sqrt(fmax(sum[C + k] / (double)count - mu * mu, 1e-10)));
    }
    free(sum);
    lcl_params_changed(&m->params);
    return LCL_OK;
}

lcl_status lcl_features_gather(const struct lcl_features *f, const struct lcl_batch *b,
                               float **buffer, size_t *cap)
{
    size_t row = (size_t)f->row;
    LCL_TRY(lcl_floats_reserve(buffer, cap, (size_t)b->n_images * row));
    for (int64_t i = 0; i < b->n_images; i++)
        memcpy(*buffer + (size_t)i * row, lcl_features_row(f, b->image_I[i], b->view_I[i]),
               row * sizeof **buffer);
    return LCL_OK;
}
