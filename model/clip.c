#include "model/clip.h"

#include <stdlib.h>

/* ---- the table ---- */

static lcl_status add_row(struct lcl_clip *m, const char *name, bool norm, int64_t N, int64_t K,
                          int *row)
{
    struct lcl_param_spec spec = {

        .part = LCL_PART_VISION, .init = LCL_INIT_NORMAL, .init_std = 0.02f, .f32 = norm};
    if (norm) spec.init = LCL_INIT_ONES;
    return lcl_params_add(&m->model.params, name, K ? 2 : 1, (int64_t[]){N, K}, spec, row);
}

static lcl_status make_table(struct lcl_clip *m)
{
    const struct lcl_clip_config *c = &m->config;
    struct lcl_params *t = &m->model.params;
    int64_t C = c->text.C;
    m->post_w = (int)(lcl_params_find(t, "vision_tower.post_layernorm.weight") - t->rows);
    m->post_b = (int)(lcl_params_find(t, "vision_tower.post_layernorm.bias") - t->rows);
    LCL_TRY(add_row(m, "visual_projection.weight", false, c->P, c->image.C, &m->visual_projection));
    LCL_TRY(add_row(m, "text_model.embeddings.token_embedding.weight", false, c->V, C, &m->embed));
    LCL_TRY(add_row(m, "text_model.embeddings.position_embedding.weight", false, c->positions, C,
                    &m->position));
    LCL_TRY(lcl_model_add_blocks(&m->model, "text_model.", &c->text, m->text));
    LCL_TRY(add_row(m, "text_model.final_layer_norm.weight", true, C, 0, &m->final_w));
    LCL_TRY(add_row(m, "text_model.final_layer_norm.bias", true, C, 0, &m->final_b));
    return add_row(m, "text_projection.weight", false, c->P, C, &m->text_projection);
}

lcl_status lcl_clip_create(struct lcl_clip *m, const struct lcl_clip_config *config)
{
    struct lcl_model_config tower = {.vision = config->text};
    *m = (struct lcl_clip){.config = *config};
    lcl_model_config_vision_only(&tower, 4);
    lcl_status status = lcl_model_config_check(&tower);
    if (status != LCL_OK) return lcl_fail_context(status, "text tower");
    tower.vision = config->image;
    LCL_TRY(lcl_model_create(&m->model, &tower));
    m->text = calloc((size_t)config->text.n_layers, sizeof *m->text);
    status = m->text ? make_table(m) : LCL_FAIL(LCL_MEMORY, "no memory for CLIP's table");
    if (status != LCL_OK) lcl_clip_free(m);
    return status;
}

void lcl_clip_free(struct lcl_clip *m)
{
    lcl_model_free(&m->model);
    free(m->text);
    *m = (struct lcl_clip){0};
}

/* ---- passes ---- */

static size_t elem(const struct lcl_clip_pass *p)
{
    return lcl_dtype_bytes(lcl_model_dtype(p->pass.model));
}

/* n pictures, or texts of so many tokens in all. */
struct batch {
    int64_t n, tokens; /* tokens 0: pictures */
};

static void layout(const struct lcl_clip *m, struct lcl_clip_pass *p, struct batch b)
{
    struct lcl_arena *a = &p->pass.arena, *host = &p->pass.host;
    struct lcl_vision_saves *s = &p->pass.vision;
    const struct lcl_vision_config *v = b.tokens ? &m->config.text : &m->config.image;
    int64_t M = b.tokens ? b.tokens : b.n * lcl_vision_tokens(v);
    size_t N = (size_t)b.n, P = (size_t)m->config.P, C = (size_t)v->C;
    a->used_bytes = host->used_bytes = 0;
    s->out = lcl_arena_alloc(a, (size_t)M * C, elem(p));
    if (b.tokens) {
        s->config = v;
        s->rows = m->text;
        s->I = b.n;
        s->M = M;
        s->causal = true;
        lcl_tower_blocks_layout(&p->pass, v->n_layers, false);
    } else {
        lcl_vision_layout(&p->pass, b.n, false);
    }
    p->N = b.n;
    p->pooled = lcl_arena_alloc(a, N * C, elem(p));
    p->normed = lcl_arena_alloc(a, N * C, elem(p));
    p->projected = lcl_arena_alloc(a, N * P, elem(p));
    p->unit = lcl_arena_alloc(a, N * P, elem(p));
    p->mean = LCL_ARENA_NEW(a, float, N);
    p->rstd = LCL_ARENA_NEW(a, float, N);
    p->norm = LCL_ARENA_NEW(a, float, N);
    p->slot = LCL_ARENA_NEW(host, int32_t, N);
    p->row = LCL_ARENA_NEW(host, int32_t, N);
    p->position = LCL_ARENA_NEW(host, int32_t, (size_t)b.tokens);
}

static lcl_status prepare(const struct lcl_clip *m, struct lcl_clip_pass *p, struct batch b)
{
    struct lcl_arena *a = &p->pass.arena, *host = &p->pass.host;
    int64_t image = m->config.image.n_layers, text = m->config.text.n_layers;
    p->pass.exec = p->exec;
    p->pass.model = &m->model;
    if (!p->pass.vision.layer)
        p->pass.vision.layer =
            calloc((size_t)(image > text ? image : text), sizeof *p->pass.vision.layer);
    if (!p->pass.vision.layer) return LCL_FAIL(LCL_MEMORY, "no memory for CLIP's layers");
    struct lcl_clip_pass measure = *p;
    lcl_arena_measure(&measure.pass.arena, "activations");
    lcl_arena_measure(&measure.pass.host, "indices");
    layout(m, &measure, b);
    if (!a->base || a->size_bytes < measure.pass.arena.peak_bytes) {
        lcl_arena_free(a);
        LCL_TRY(lcl_arena_reserve(a, "activations", measure.pass.arena.peak_bytes));
    }
    if (!host->base || host->size_bytes < measure.pass.host.peak_bytes) {
        lcl_arena_free(host);
        LCL_TRY(lcl_arena_reserve_host(host, "indices", measure.pass.host.peak_bytes));
    }
    layout(m, p, b);
    return LCL_OK;
}

void lcl_clip_pass_free(struct lcl_clip_pass *p) { lcl_pass_free(&p->pass); }

/* Rows p->row of the tower's last hidden state, normed, in the common space, of length 1. */
static lcl_status project(struct lcl_clip_pass *p, int norm_w, int norm_b, int weight, int64_t P,
                          float *out_NP)
{
    struct lcl_pass *q = &p->pass;
    const struct lcl_vision_config *v = q->vision.config;
    const struct lcl_ops *ops = q->exec->ops;
    lcl_dtype dtype = lcl_model_dtype(q->model);
    for (int64_t i = 0; i < p->N; i++) p->slot[i] = (int32_t)i;
    LCL_TRY(ops->splice_fwd(q->exec, &(struct lcl_splice_args){.n = p->N,
                                                               .T = p->N,
                                                               .R = q->vision.M,
                                                               .C = v->C,
                                                               .dtype = dtype,
                                                               .slot = p->slot,
                                                               .src_row = p->row,
                                                               .src_RC = q->vision.out,
                                                               .dst_TC = p->pooled}));
    LCL_TRY(ops->layernorm_fwd(
        q->exec, &(struct lcl_layernorm_args){.M = p->N,
                                              .C = v->C,
                                              .dtype = dtype,
                                              .eps = (float)v->eps,
                                              .x_MC = p->pooled,
                                              .sum_MC = p->pooled,
                                              .weight_C = lcl_model_vector(q->model, norm_w),
                                              .bias_C = lcl_model_vector(q->model, norm_b),
                                              .y_MC = p->normed,
                                              .mean_M = p->mean,
                                              .rstd_M = p->rstd}));
    LCL_TRY(lcl_pass_linear(q, (struct lcl_layer_linear){weight, -1, p->N, P, v->C}, p->normed,
                            p->projected));
    LCL_TRY(ops->l2norm_fwd(q->exec, &(struct lcl_l2norm_args){.M = p->N,
                                                               .C = P,
                                                               .dtype = dtype,
                                                               .eps = 1e-12f,
                                                               .x_MC = p->projected,
                                                               .y_MC = p->unit,
                                                               .norm_M = p->norm}));
    return ops->download_fwd(q->exec,
                             &(struct lcl_download_args){
                                 .count = p->N * P, .x_dtype = dtype, .x = p->unit, .y = out_NP});
}

lcl_status lcl_clip_images(const struct lcl_clip *m, struct lcl_clip_pass *p, const float *pixels,
                           int64_t n, float *out_NP)
{
    LCL_TRY(prepare(m, p, (struct batch){.n = n}));
    LCL_TRY(lcl_vision_fwd(&p->pass, &(struct lcl_images){.pixels = pixels}));
    for (int64_t i = 0; i < n; i++) p->row[i] = (int32_t)(i * lcl_vision_tokens(&m->config.image));
    return project(p, m->post_w, m->post_b, m->visual_projection, m->config.P, out_NP);
}

/* Where the text's end-of-text token is, from `begin`; -1: nowhere. */
static int64_t find_end(const struct lcl_clip_config *c, const int32_t *id, int64_t length)
{
    int64_t greatest = 0;
    for (int64_t t = 0; t < length; t++) {
        if (c->eos != 2 && id[t] == c->eos) return t;
        if (id[t] > id[greatest]) greatest = t;
    }
    return c->eos == 2 ? greatest : -1;
}

static lcl_status check_texts(const struct lcl_clip_config *c, const int32_t *id,
                              const int32_t *length, int64_t n, int64_t *tokens)
{
    *tokens = 0;
    for (int64_t i = 0; i < n; i++) {
        if (length[i] < 1 || length[i] > c->positions)
            return LCL_FAIL(LCL_RANGE, "text %lld has %d tokens, CLIP takes 1..%lld", (long long)i,
                            length[i], (long long)c->positions);
        if (find_end(c, id + *tokens, length[i]) < 0)
            return LCL_FAIL_HINT(LCL_RANGE, "the tokenizer puts it behind a text",
                                 "text %lld has no end-of-text token %d", (long long)i, c->eos);
        *tokens += length[i];
    }
    return LCL_OK;
}

static lcl_status embed(const struct lcl_clip *m, struct lcl_clip_pass *p, const int32_t *id)
{
    struct lcl_vision_saves *s = &p->pass.vision;
    lcl_dtype dtype = lcl_model_dtype(&m->model);
    struct lcl_embed_args e = {.T = s->M,
                               .C = s->config->C,
                               .V = m->config.V,
                               .dtype = dtype,
                               .table_dtype = dtype,
                               .id_T = id,
                               .table_VC = lcl_model_weight(&m->model, m->embed),
                               .out_TC = s->layer[0].x};
    LCL_TRY(p->exec->ops->embed_fwd(p->exec, &e));
    e.V = m->config.positions;
    e.id_T = p->position;
    e.table_VC = lcl_model_weight(&m->model, m->position);
    e.out_TC = s->half;
    LCL_TRY(p->exec->ops->embed_fwd(p->exec, &e));
    return p->exec->ops->add_fwd(
        p->exec, &(struct lcl_add_args){s->M * e.C, dtype, dtype, 1, s->half, s->layer[0].x});
}

lcl_status lcl_clip_texts(const struct lcl_clip *m, struct lcl_clip_pass *p, const int32_t *id,
                          const int32_t *length, int64_t n, float *out_NP)
{
    int64_t tokens = 0, at = 0;
    LCL_TRY(check_texts(&m->config, id, length, n, &tokens));
    if (n == 0) return LCL_OK;
    LCL_TRY(prepare(m, p, (struct batch){n, tokens}));
    for (int64_t i = 0; i < n; at += length[i++]) {
        p->pass.vision.runs[i] = (struct lcl_attn_run){.q_begin = (int32_t)at,
                                                       .q_end = (int32_t)at + length[i],
                                                       .own_begin = (int32_t)at,
                                                       .own_end = (int32_t)at + length[i],
                                                       .group = (int32_t)i};
        p->row[i] = (int32_t)(at + find_end(&m->config, id + at, length[i]));
        for (int32_t t = 0; t < length[i]; t++) p->position[at + t] = t;
    }
    LCL_TRY(embed(m, p, id));
    LCL_TRY(lcl_tower_blocks_fwd(&p->pass, m->config.text.n_layers));
    return project(p, m->final_w, m->final_b, m->text_projection, m->config.P, out_NP);
}
