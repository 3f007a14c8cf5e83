/* BLIP-2's Q-Former (Li et al. 2023) as a projector, without text: learned query tokens attend to
 * one another and, in every cross_every-th layer, to an image's features; a linear layer brings
 * them to the decoder's width. Post-LayerNorm blocks, as transformers' Blip2QFormerModel; no
 * dropout. What it saves does not depend on gradient_checkpointing.
 *
 * Legend: I images, Q queries an image, N = I * Q rows, K feature rows an image, M = I * K, C
 * width, Cv width of the tower, F feed-forward width. */
#include <math.h>

#include "model/model.h"

static size_t elem(const struct lcl_pass *p) { return lcl_dtype_bytes(lcl_model_dtype(p->model)); }

static bool crosses(const struct lcl_qformer_config *q, int64_t layer)
{
    return layer % q->cross_every == 0;
}

/* ---- layout ---- */

static void *rows_of(struct lcl_pass *p, int64_t rows, int64_t width)
{
    return lcl_arena_alloc(&p->arena, (size_t)(rows * width), elem(p));
}

static struct lcl_postnorm_saves norm_layout(struct lcl_pass *p)
{
    int64_t N = p->qformer.N, C = p->model->config.qformer.C;
    return (struct lcl_postnorm_saves){.sum = rows_of(p, N, C),
                                       .y = rows_of(p, N, C),
                                       .mean = LCL_ARENA_NEW(&p->arena, float, (size_t)N),
                                       .rstd = LCL_ARENA_NEW(&p->arena, float, (size_t)N)};
}

static void layer_layout(struct lcl_pass *p, struct lcl_qformer_layer_saves *y, bool cross)
{
    const struct lcl_qformer_config *q = &p->model->config.qformer;
    int64_t N = p->qformer.N;
    y->qkv = rows_of(p, N, 3 * q->C);
    y->attn = rows_of(p, N, q->C);
    y->lse = LCL_ARENA_NEW(&p->arena, float, (size_t)(N * q->H));
    y->norm1 = norm_layout(p);
    if (cross) {
        y->q = rows_of(p, N, q->C);
        y->kv = rows_of(p, p->qformer.M, 2 * q->C);
        y->cross = rows_of(p, N, q->C);
        y->cross_lse = LCL_ARENA_NEW(&p->arena, float, (size_t)(N * q->H));
        y->norm2 = norm_layout(p);
    }
    y->fc1 = rows_of(p, N, q->F);
    y->norm3 = norm_layout(p);
}

void lcl_qformer_layout(struct lcl_pass *p, int64_t I, bool training)
{
    const struct lcl_qformer_config *q = &p->model->config.qformer;
    struct lcl_qformer_saves *s = &p->qformer;
    s->I = I;
    s->N = I * q->Q;
    s->M = I * lcl_feature_rows(&p->model->config);
    s->norm0 = norm_layout(p);
    for (int64_t l = 0; l < q->n_layers; l++) {
        if (l > 0) s->layer[l] = s->layer[0];
        if (l == 0 || training) layer_layout(p, &s->layer[l], crosses(q, l));
    }
    s->half = rows_of(p, s->N, q->C);
    s->act = rows_of(p, s->N, q->F);
    s->id = LCL_ARENA_NEW(&p->host, int32_t, (size_t)s->N);
    s->runs = LCL_ARENA_NEW(&p->host, struct lcl_attn_run, (size_t)I);
    s->cross_runs = LCL_ARENA_NEW(&p->host, struct lcl_attn_run, (size_t)I);
    if (!training) return;
    s->d_x = rows_of(p, s->N, q->C);
    s->d_half = rows_of(p, s->N, q->C);
    s->d_act = rows_of(p, s->N, q->F);
    s->d_qkv = rows_of(p, s->N, 3 * q->C);
    s->d_kv = rows_of(p, s->M, 2 * q->C);
    s->d_in = p->train_vision ? rows_of(p, s->M, p->model->config.vision.C) : NULL;
}

static void fill_indices(struct lcl_pass *p)
{
    struct lcl_qformer_saves *s = &p->qformer;
    int32_t Q = (int32_t)p->model->config.qformer.Q,
            K = (int32_t)lcl_feature_rows(&p->model->config);
    for (int32_t i = 0; i < (int32_t)s->I; i++) {
        s->runs[i] = (struct lcl_attn_run){.q_begin = i * Q,
                                           .q_end = (i + 1) * Q,
                                           .own_begin = i * Q,
                                           .own_end = (i + 1) * Q,
                                           .group = i};
        s->cross_runs[i] = s->runs[i];
        s->cross_runs[i].own_begin = i * K;
        s->cross_runs[i].own_end = (i + 1) * K;
    }
    for (int32_t n = 0; n < (int32_t)s->N; n++) s->id[n] = n % Q;
}

/* ---- what the layers are made of ---- */

/* y = norm(x + add); add may be NULL. */
static struct lcl_layernorm_args norm_args(const struct lcl_pass *p,
                                           const struct lcl_postnorm_saves *n, int w, int b)
{
    const struct lcl_model *m = p->model;
    return (struct lcl_layernorm_args){.M = p->qformer.N,
                                       .C = m->config.qformer.C,
                                       .dtype = lcl_model_dtype(m),
                                       .eps = (float)m->config.qformer.eps,
                                       .weight_C = lcl_model_vector(m, w),
                                       .bias_C = lcl_model_vector(m, b),
                                       .sum_MC = n->sum,
                                       .y_MC = n->y,
                                       .mean_M = n->mean,
                                       .rstd_M = n->rstd};
}

static lcl_status norm_fwd(struct lcl_pass *p, const struct lcl_postnorm_saves *n, int w, int b,
                           const void *x, const void *add)
{
    struct lcl_layernorm_args a = norm_args(p, n, w, b);
    a.x_MC = x;
    a.add_MC = add;
    return p->exec->ops->layernorm_fwd(p->exec, &a);
}

/* qformer.d_x: of y, becomes that of the sum. */
static lcl_status norm_bwd(struct lcl_pass *p, const struct lcl_postnorm_saves *n, int w, int b)
{
    struct lcl_layernorm_args a = norm_args(p, n, w, b);
    a.x_MC = n->sum;
    a.d_y_MC = a.d_x_MC = p->qformer.d_x;
    a.d_weight_C = lcl_pass_grad(p, w, p->train_projector);
    a.d_bias_C = lcl_pass_grad(p, b, p->train_projector);
    return p->exec->ops->layernorm_bwd(p->exec, &a);
}

/* qformer.d_x += what came back through the half beside the residual stream. */
static lcl_status add_half(struct lcl_pass *p)
{
    const struct lcl_qformer_saves *s = &p->qformer;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    return p->exec->ops->add_fwd(p->exec,
                                 &(struct lcl_add_args){s->N * p->model->config.qformer.C, dtype,
                                                        dtype, 1, s->d_half, s->d_x});
}

static struct lcl_attention_args attention_args(const struct lcl_pass *p,
                                                const struct lcl_qformer_layer_saves *y, bool cross)
{
    const struct lcl_qformer_config *q = &p->model->config.qformer;
    unsigned char *k = cross ? y->kv : (unsigned char *)y->qkv + (size_t)q->C * elem(p);
    return (struct lcl_attention_args){.n_runs = p->qformer.I,
                                       .H = q->H,
                                       .G = q->H,
                                       .D = q->C / q->H,
                                       .q_stride = cross ? q->C : 3 * q->C,
                                       .kv_stride = cross ? 2 * q->C : 3 * q->C,
                                       .out_stride = q->C,
                                       .dtype = lcl_model_dtype(p->model),
                                       .scale = 1 / sqrtf((float)(q->C / q->H)),
                                       .runs = cross ? p->qformer.cross_runs : p->qformer.runs,
                                       .q = cross ? y->q : y->qkv,
                                       .k = k,
                                       .v = k + (size_t)q->C * elem(p),
                                       .out = cross ? y->cross : y->attn,
                                       .lse_TH = cross ? y->cross_lse : y->lse};
}

static struct lcl_gelu_args gelu_args(const struct lcl_pass *p,
                                      const struct lcl_qformer_layer_saves *y)
{
    const struct lcl_qformer_saves *s = &p->qformer;
    return (struct lcl_gelu_args){.count = s->N * p->model->config.qformer.F,
                                  .dtype = lcl_model_dtype(p->model),
                                  .kind = LCL_GELU_ERF,
                                  .x = y->fc1,
                                  .y = s->act,
                                  .d_y = s->d_act,
                                  .d_x = s->d_act};
}

/* ---- forward ---- */

static lcl_status cross_fwd(struct lcl_pass *p, int64_t l)
{
    struct lcl_qformer_saves *s = &p->qformer;
    struct lcl_qformer_layer_saves *y = &s->layer[l];
    const struct lcl_qformer_layer_rows *r = &p->model->rows.qformer[l];
    int64_t C = p->model->config.qformer.C, Cv = p->model->config.vision.C;
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->q_w, r->q_b, s->N, C, C}, y->norm1.y,
                            y->q));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->kv_w, r->kv_b, s->M, 2 * C, Cv}, s->in,
                            y->kv));
    struct lcl_attention_args a = attention_args(p, y, true);
    LCL_TRY(p->exec->ops->attention_fwd(p->exec, &a));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->cross_w, r->cross_b, s->N, C, C},
                            y->cross, s->half));
    return norm_fwd(p, &y->norm2, r->ln2_w, r->ln2_b, y->norm1.y, s->half);
}

static lcl_status layer_fwd(struct lcl_pass *p, int64_t l, const void *x)
{
    const struct lcl_qformer_config *q = &p->model->config.qformer;
    struct lcl_qformer_saves *s = &p->qformer;
    struct lcl_qformer_layer_saves *y = &s->layer[l];
    const struct lcl_qformer_layer_rows *r = &p->model->rows.qformer[l];
    int64_t N = s->N, C = q->C, F = q->F;
    LCL_TRY(
        lcl_pass_linear(p, (struct lcl_layer_linear){r->qkv_w, r->qkv_b, N, 3 * C, C}, x, y->qkv));
    struct lcl_attention_args a = attention_args(p, y, false);
    LCL_TRY(p->exec->ops->attention_fwd(p->exec, &a));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->out_w, r->out_b, N, C, C}, y->attn,
                            s->half));
    LCL_TRY(norm_fwd(p, &y->norm1, r->ln1_w, r->ln1_b, x, s->half));
    if (crosses(q, l)) LCL_TRY(cross_fwd(p, l));
    const void *mid = crosses(q, l) ? y->norm2.y : y->norm1.y;
    LCL_TRY(
        lcl_pass_linear(p, (struct lcl_layer_linear){r->fc1_w, r->fc1_b, N, F, C}, mid, y->fc1));
    struct lcl_gelu_args gelu = gelu_args(p, y);
    LCL_TRY(p->exec->ops->gelu_fwd(p->exec, &gelu));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->fc2_w, r->fc2_b, N, C, F}, s->act,
                            s->half));
    return norm_fwd(p, &y->norm3, r->ln3_w, r->ln3_b, mid, s->half);
}

/* The query table's rows once an image, into norm0.sum. */
static struct lcl_embed_args query_args(struct lcl_pass *p)
{
    const struct lcl_model *m = p->model;
    const struct lcl_qformer_saves *s = &p->qformer;
    return (struct lcl_embed_args){.T = s->N,
                                   .C = m->config.qformer.C,
                                   .V = m->config.qformer.Q,
                                   .dtype = lcl_model_dtype(m),
                                   .table_dtype = LCL_F32,
                                   .id_T = s->id,
                                   .table_VC = lcl_model_vector(m, m->rows.query_tokens),
                                   .out_TC = s->norm0.sum,
                                   .d_out_TC = s->d_x,
                                   .d_table_VC =
                                       lcl_pass_grad(p, m->rows.query_tokens, p->train_projector)};
}

static struct lcl_layer_linear to_text(const struct lcl_pass *p)
{
    const struct lcl_model *m = p->model;
    return (struct lcl_layer_linear){m->rows.proj1_w, m->rows.proj1_b, p->qformer.N,
                                     m->config.text.C, m->config.qformer.C};
}

lcl_status lcl_qformer_fwd(struct lcl_pass *p, const void *features, void *out)
{
    struct lcl_qformer_saves *s = &p->qformer;
    const struct lcl_model_rows *r = &p->model->rows;
    s->in = features;
    fill_indices(p);
    struct lcl_embed_args queries = query_args(p);
    LCL_TRY(p->exec->ops->embed_fwd(p->exec, &queries));
    LCL_TRY(norm_fwd(p, &s->norm0, r->query_norm_w, r->query_norm_b, s->norm0.sum, NULL));
    const void *x = s->norm0.y;
    for (int64_t l = 0; l < p->model->config.qformer.n_layers; l++) {
        LCL_TRY(layer_fwd(p, l, x));
        x = s->layer[l].norm3.y;
    }
    return lcl_pass_linear(p, to_text(p), x, out);
}

/* ---- backward ---- */

/* d_features NULL: not wanted; `first`: nothing is in it yet. */
static lcl_status cross_bwd(struct lcl_pass *p, int64_t l, void *d_features, bool first)
{
    struct lcl_qformer_saves *s = &p->qformer;
    struct lcl_qformer_layer_saves *y = &s->layer[l];
    const struct lcl_qformer_layer_rows *r = &p->model->rows.qformer[l];
    int64_t C = p->model->config.qformer.C, Cv = p->model->config.vision.C;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    bool train = p->train_projector;
    LCL_TRY(norm_bwd(p, &y->norm2, r->ln2_w, r->ln2_b));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->cross_w, r->cross_b, s->N, C, C},
                                y->cross, s->d_x, s->d_half, train));
    struct lcl_attention_args a = attention_args(p, y, true);
    a.d_out = s->d_half;
    a.d_q = s->d_qkv;
    a.d_k = s->d_kv;
    a.d_v = (unsigned char *)s->d_kv + (size_t)C * elem(p);
    LCL_TRY(p->exec->ops->attention_bwd(p->exec, &a));
    void *d_in = !d_features ? NULL : first ? d_features : s->d_in;
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->kv_w, r->kv_b, s->M, 2 * C, Cv},
                                s->in, s->d_kv, d_in, train));
    if (d_in && !first)
        LCL_TRY(p->exec->ops->add_fwd(
            p->exec, &(struct lcl_add_args){s->M * Cv, dtype, dtype, 1, d_in, d_features}));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->q_w, r->q_b, s->N, C, C},
                                y->norm1.y, s->d_qkv, s->d_half, train));
    return add_half(p);
}

/* qformer.d_x: of the layer's output, becomes that of its input x. */
static lcl_status layer_bwd(struct lcl_pass *p, int64_t l, const void *x, void *d_features)
{
    const struct lcl_qformer_config *q = &p->model->config.qformer;
    struct lcl_qformer_saves *s = &p->qformer;
    struct lcl_qformer_layer_saves *y = &s->layer[l];
    const struct lcl_qformer_layer_rows *r = &p->model->rows.qformer[l];
    int64_t N = s->N, C = q->C, F = q->F;
    bool train = p->train_projector;
    struct lcl_gelu_args gelu = gelu_args(p, y);
    LCL_TRY(norm_bwd(p, &y->norm3, r->ln3_w, r->ln3_b));
    LCL_TRY(p->exec->ops->gelu_fwd(p->exec, &gelu));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->fc2_w, r->fc2_b, N, C, F}, s->act,
                                s->d_x, s->d_act, train));
    LCL_TRY(p->exec->ops->gelu_bwd(p->exec, &gelu));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->fc1_w, r->fc1_b, N, F, C},
                                crosses(q, l) ? y->norm2.y : y->norm1.y, s->d_act, s->d_half,
                                train));
    LCL_TRY(add_half(p));
    bool first = l + q->cross_every >= q->n_layers; /* of those that cross, from the end */
    if (crosses(q, l)) LCL_TRY(cross_bwd(p, l, d_features, first));
    LCL_TRY(norm_bwd(p, &y->norm1, r->ln1_w, r->ln1_b));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->out_w, r->out_b, N, C, C}, y->attn,
                                s->d_x, s->d_half, train));
    struct lcl_attention_args a = attention_args(p, y, false);
    unsigned char *d_qkv = s->d_qkv;
    a.d_out = s->d_half;
    a.d_q = d_qkv;
    a.d_k = d_qkv + (size_t)C * elem(p);
    a.d_v = d_qkv + (size_t)(2 * C) * elem(p);
    LCL_TRY(p->exec->ops->attention_bwd(p->exec, &a));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->qkv_w, r->qkv_b, N, 3 * C, C}, x,
                                d_qkv, s->d_half, train));
    return add_half(p);
}

lcl_status lcl_qformer_bwd(struct lcl_pass *p, const void *d_out, void *d_features)
{
    struct lcl_qformer_saves *s = &p->qformer;
    const struct lcl_model_rows *r = &p->model->rows;
    int64_t last = p->model->config.qformer.n_layers - 1;
    LCL_TRY(lcl_pass_linear_bwd(p, to_text(p), s->layer[last].norm3.y, d_out, s->d_x,
                                p->train_projector));
    for (int64_t l = last; l >= 0; l--)
        LCL_TRY(layer_bwd(p, l, l > 0 ? s->layer[l - 1].norm3.y : s->norm0.y, d_features));
    struct lcl_embed_args queries = query_args(p);
    if (!queries.d_table_VC) return LCL_OK;
    LCL_TRY(norm_bwd(p, &s->norm0, r->query_norm_w, r->query_norm_b));
    return p->exec->ops->embed_bwd(p->exec, &queries);
}
