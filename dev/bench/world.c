#include "dev/bench/world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/rng.h"
#include "core/threads.h"
#include "optim/optimizer.h"

static const char *const folk[] = {"elvish",  "orcish",  "dwarvish", "drake",   "undead",
                                   "saurian", "merfolk", "naga",     "ogre",    "troll",
                                   "human",   "desert",  "wose",     "dunefolk"};
static const char *const trade[] = {"fighter", "archer",  "mage",   "scout",    "rider", "captain",
                                    "shaman",  "warrior", "hunter", "sentinel", "rogue", "guard"};

static lcl_status make_pack(struct world *w)
{
    struct lcl_pack *p = &w->env.pack;
    struct lcl_neighbors *t = &w->env.neighbors;
    int32_t n = WORLD_CLASSES;
    *t = (struct lcl_neighbors){.n_classes = n, .width = WORLD_TRAIN - 1};
    p->n_classes = n;
    p->n_images = (int64_t)n * WORLD_IMAGES;
    p->classes = calloc((size_t)n, sizeof *p->classes);
    p->image_class = calloc((size_t)p->n_images, sizeof *p->image_class);
    w->images = calloc((size_t)p->n_images, sizeof *w->images);
    t->index = malloc((size_t)n * (size_t)t->width * sizeof *t->index);
    if (!p->classes || !p->image_class || !w->images || !t->index)
        return LCL_FAIL(LCL_MEMORY, "no memory for a pack");
    for (int32_t i = 0; i < n * WORLD_IMAGES; i++) {
        w->images[i] = i;
        p->image_class[i] = i / WORLD_IMAGES;
    }
    for (int32_t c = 0; c < n; c++) {
        struct lcl_class *k = &p->classes[c];
        snprintf(k->name, sizeof k->name, "%s %s", folk[c % 14], trade[c / 14]);
        snprintf(k->id, sizeof k->id, "%s/%s", folk[c % 14], trade[c / 14]);
        k->split = c < WORLD_TRAIN ? LCL_SPLIT_TRAIN : LCL_SPLIT_TEST;
        k->n_images = WORLD_IMAGES;
        k->images = w->images + (ptrdiff_t)c * WORLD_IMAGES;
        int32_t first = c < WORLD_TRAIN ? 0 : WORLD_TRAIN,
                count = c < WORLD_TRAIN ? WORLD_TRAIN : n - WORLD_TRAIN;
        int32_t *row = t->index + (ptrdiff_t)c * t->width;
        for (int32_t j = 0; j < t->width; j++)
            row[j] = j < count - 1 ? first + (c - first + 1 + j) % count : -1;
    }
    return LCL_OK;
}

lcl_status world_open(struct world *w, const char *config, int64_t stage,
                      const char *const *overrides, int n)
{
    LCL_TRY(lcl_config_load(config, overrides, n, &w->run));
    if (stage >= w->run.n_stages)
        return LCL_FAIL(LCL_CONFIG, "%s has %d stages", config, w->run.n_stages);
    w->config = w->run.stages[stage];
    LCL_TRY(lcl_env_start(&w->env, &w->config));
    LCL_TRY(make_pack(w));
    w->env.has_neighbors = true;
    return lcl_tokenizer_for_config(&w->config, &w->env.tokenizer);
}

lcl_status world_shape(struct world *w, int64_t vocabulary, bool bf16)
{
    struct lcl_env *e = &w->env;
    struct lcl_model_config m;
    if (vocabulary == 0) vocabulary = lcl_tokenizer_vocab_size(e->tokenizer);
    w->config.bf16 = bf16;
    lcl_model_config_from(&w->config, vocabulary, &m);
    m.image_token = lcl_tokenizer_image(e->tokenizer);
    m.bos_token = m.eos_token = m.pad_token = -1; /* greedy answers run to their full length */
    LCL_TRY(lcl_model_create(&e->model, &m));
    e->has_model = true;
    e->model.bf16 = e->model.params.bf16 = bf16;
    e->model.params.states = (enum lcl_states)w->config.optim;
    e->model.params.no_master = bf16 && w->config.master_weights == LCL_MASTER_NONE;
    return LCL_OK;
}

lcl_status world_model(struct world *w, int64_t vocabulary, bool bf16, bool training)
{
    LCL_TRY(world_shape(w, vocabulary, bf16));
    return lcl_model_reserve(&w->env.model, bf16, false, training);
}

void world_normals(float *x, int64_t n, uint64_t sample)
{
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = lcl_rng_normal(&rng);
}

lcl_status world_features(struct world *w)
{
    struct lcl_features *f = &w->features;
    *f = (struct lcl_features){.n_images = w->env.pack.n_images,
                               .views = w->config.data_augment_views,
                               .row = lcl_feature_rows(&w->env.model.config) *
                                      w->env.model.config.vision.C};
    int64_t n = f->n_images * f->views * f->row;
    f->data = malloc((size_t)n * sizeof *f->data);
    if (!f->data) return LCL_FAIL(LCL_MEMORY, "no memory for features");
    world_normals(f->data, n < 1 << 20 ? n : 1 << 20, 7);
    for (int64_t i = 1 << 20; i < n; i++) f->data[i] = f->data[i - (1 << 20) + 1];
    return LCL_OK;
}

static lcl_status draw_episode(struct world *w, struct world_step *s)
{
    struct lcl_sampler sampler;
    struct lcl_episode e;
    LCL_TRY(
        lcl_sampler_init(&sampler, &w->config, &w->env.pack, &w->env.neighbors, LCL_SPLIT_TRAIN));
    lcl_status status = lcl_sampler_draw(&sampler, 0, 0, 0, &e);
    if (status == LCL_OK) {
        status = lcl_batch_append_episode(s->builder, &e, LCL_ENCODE_TRAIN,
                                          (enum lcl_supervise)w->config.data_supervise, NULL, 0);
        lcl_episode_free(&e);
    }
    lcl_sampler_free(&sampler);
    return status;
}

lcl_status world_step_open(struct world *w, struct world_step *s)
{
    struct lcl_model *m = &w->env.model;
    struct lcl_arena measure;
    *s = (struct world_step){0};
    LCL_TRY(lcl_batch_builder_create(w->env.tokenizer, (enum lcl_layout)w->config.data_layout,
                                     lcl_tokens_per_image(&m->config), &s->builder));
    lcl_step_set_trainable(&m->params, &w->config);
    lcl_arena_measure(&measure, "gradients");
    LCL_ARENA_NEW(&measure, float, m->params.n_grads);
    LCL_TRY(lcl_arena_reserve(&m->grads, "gradients", measure.used_bytes));
    m->params.grad = LCL_ARENA_NEW(&m->grads, float, m->params.n_grads);
    s->pass = lcl_step_pass(&w->env.exec, m, &w->config, m->params.grad);
    LCL_TRY(lcl_optimizer_open(&s->optimizer, &m->params, NULL, 1));
    LCL_TRY(draw_episode(w, s));
    s->batch = lcl_batch_builder_get(s->builder);
    int64_t side = m->config.vision.image_size;
    s->n_pixels = s->batch->n_images * (w->config.cache_features
                                            ? lcl_tokens_per_image(&m->config) * m->config.vision.C
                                            : 3 * side * side);
    s->pixels = malloc((size_t)s->n_pixels * sizeof(float));
    if (!s->pixels) return LCL_FAIL(LCL_MEMORY, "no memory for pictures");
    world_normals(s->pixels, s->n_pixels, 11);
    return LCL_OK;
}

lcl_status world_step_run(struct world *w, struct world_step *s)
{
    struct lcl_exec *ex = &w->env.exec;
    struct lcl_params *t = &w->env.model.params;
    double sum, weight = 0;
    LCL_TRY(ex->ops->zero_fwd(
        ex, &(struct lcl_zero_args){(int64_t)(t->n_grads * sizeof(float)), t->grad}));
    for (int64_t i = 0; i < s->batch->S; i++) weight += (double)s->batch->weight_S[i];
    struct lcl_images images = {0};
    *(w->config.cache_features ? &images.features : &images.pixels) = s->pixels;
    LCL_TRY(lcl_model_step(&s->pass, s->batch, &images, (float)(1 / weight), &sum, NULL));
    struct lcl_update u = {.step = s->done, .n_steps = 1000, .adam_step = s->done + 1};
    s->done++;
    LCL_TRY(lcl_optimizer_update(&s->optimizer, ex, &w->config, &u));
    LCL_TRY(lcl_exec_sync(ex));
    LCL_TRY(lcl_optimizer_finish(&s->optimizer, t, &u));
    s->loss = sum / weight;
    return LCL_OK;
}

void world_step_close(struct world_step *s)
{
    if (s->builder) lcl_batch_builder_free(s->builder);
    lcl_pass_free(&s->pass);
    lcl_optimizer_close(&s->optimizer);
    free(s->pixels);
    *s = (struct world_step){0};
}

void world_close(struct world *w)
{
    free(w->features.data);
    free(w->images);
    free(w->env.pack.classes);
    free(w->env.pack.image_class);
    w->env.has_pack = false;
    lcl_env_close(&w->env);
}

lcl_status world_write(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f) return LCL_FAIL(LCL_IO, "cannot write %s", path);
    bool good = fwrite(data, 1, bytes, f) == bytes;
    if (fclose(f) != 0 || !good) return LCL_FAIL(LCL_IO, "cannot write %s", path);
    return LCL_OK;
}

lcl_status world_write_params(const struct world *w, const char *dir)
{
    const struct lcl_params *t = &w->env.model.params;
    size_t size;
    char *text = NULL;
    FILE *f = open_memstream(&text, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for a table");
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        fprintf(f, "%s\n{\"name\": \"%s\", \"offset\": %zu, \"shape\": [", i ? "," : "[", p->name,
                p->offset);
        for (int d = 0; d < p->n_dims; d++)
            fprintf(f, "%s%lld", d ? ", " : "", (long long)p->shape[d]);
        fputs("]}", f);
    }
    fputs("]\n", f);
    if (fclose(f) != 0) return LCL_FAIL(LCL_MEMORY, "no memory for a table");
    lcl_status status = world_write(dir, "params.json", text, size);
    free(text);
    LCL_TRY(status);
    return world_write(dir, "params.f32", t->value, t->n_elements * sizeof(float));
}

enum { READ_COUNT = 1 << 22 }; /* elements */
struct reading {
    int file;
    struct lcl_params *t;
    const struct lcl_param *p;
};

/* Values of a row, whose place in the file is its `offset`. */
static lcl_status read_chunk(void *arg, int64_t chunk)
{
    struct reading *r = arg;
    float x[16384];
    size_t at = (size_t)chunk * READ_COUNT, end = at + READ_COUNT;
    if (end > r->p->count) end = r->p->count;
    for (size_t n; at < end; at += n) {
        n = end - at < sizeof x / sizeof *x ? end - at : sizeof x / sizeof *x;
        const off_t from = (off_t)((r->p->offset + at) * sizeof *x);
        if (pread(r->file, x, n * sizeof *x, from) != (ssize_t)(n * sizeof *x))
            return LCL_FAIL(LCL_IO, "params.f32 is too short: dump it anew");
        lcl_param_put(r->t, r->p, at, n, x);
    }
    return LCL_OK;
}

lcl_status world_read_params(struct world *w, const char *dir)
{
    struct lcl_params *t = &w->env.model.params;
    char path[1024];
    snprintf(path, sizeof path, "%s/params.f32", dir);
    struct reading r = {.file = open(path, O_RDONLY), .t = t};
    lcl_status status = LCL_OK;
    if (r.file < 0) return LCL_FAIL(LCL_NOT_FOUND, "there is no %s", path);
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        r.p = &t->rows[i];
        status = lcl_parallel(lcl_chunk_count((int64_t)r.p->count, READ_COUNT), read_chunk, &r);
    }
    close(r.file);
    if (status == LCL_OK) lcl_params_changed(t);
    return status;
}

lcl_status world_write_batch(const struct lcl_batch *b, const char *dir, const char *name)
{
    size_t size;
    char *data = NULL;
    FILE *f = open_memstream(&data, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for a batch");
    int64_t head[] = {b->T, b->n_runs, b->n_images, b->n_slots, b->S};
    fwrite(head, sizeof head, 1, f);
    fwrite(b->id_T, 4, (size_t)b->T, f);
    fwrite(b->position_T, 4, (size_t)b->T, f);
    fwrite(b->runs, sizeof *b->runs, (size_t)b->n_runs, f);
    fwrite(b->image_I, 8, (size_t)b->n_images, f);
    fwrite(b->view_I, 4, (size_t)b->n_images, f);
    fwrite(b->slot, 4, (size_t)b->n_slots, f);
    fwrite(b->slot_row, 4, (size_t)b->n_slots, f);
    fwrite(b->row_S, 4, (size_t)b->S, f);
    fwrite(b->target_S, 4, (size_t)b->S, f);
    fwrite(b->weight_S, 4, (size_t)b->S, f);
    if (fclose(f) != 0) return LCL_FAIL(LCL_MEMORY, "no memory for a batch");
    lcl_status status = world_write(dir, name, data, size);
    free(data);
    return status;
}
