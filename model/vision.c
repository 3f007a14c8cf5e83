/* CLIP's vision transformer (Radford et al. 2021) up to the selected hidden state: pre-LN blocks,
 * class token, learned positions. Its text tower's blocks are the same, but causal (model/clip.c).
 * Legend: I images, P patches, T = P + 1 tokens, M = I * T rows, C width, F feed-forward width, H
 * heads. */
#include <math.h>

#include "model/model.h"

static size_t elem(const struct lcl_pass *p) { return lcl_dtype_bytes(lcl_model_dtype(p->model)); }

static void attention_layout(struct lcl_pass *p, struct lcl_vision_layer_saves *s, int64_t M)
{
    const struct lcl_vision_config *v = p->vision.config;
    struct lcl_arena *a = &p->arena;
    s->x = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->mean1 = LCL_ARENA_NEW(a, float, (size_t)M);
    s->rstd1 = LCL_ARENA_NEW(a, float, (size_t)M);
    s->qkv = lcl_arena_alloc(a, (size_t)(M * 3 * v->C), elem(p));
    s->attn = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->lse = LCL_ARENA_NEW(a, float, (size_t)(M * v->H));
}

static void mlp_layout(struct lcl_pass *p, struct lcl_vision_layer_saves *s, int64_t M)
{
    const struct lcl_vision_config *v = p->vision.config;
    struct lcl_arena *a = &p->arena;
    s->mid = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->mean2 = LCL_ARENA_NEW(a, float, (size_t)M);
    s->rstd2 = LCL_ARENA_NEW(a, float, (size_t)M);
    s->fc1 = lcl_arena_alloc(a, (size_t)(M * v->F), elem(p));
}

void lcl_tower_blocks_layout(struct lcl_pass *p, int64_t n_layers, bool training)
{
    struct lcl_vision_saves *s = &p->vision;
    const struct lcl_vision_config *v = s->config;
    struct lcl_arena *a = &p->arena;
    int64_t M = s->M;
    for (int64_t l = 0; l < n_layers; l++) {
        struct lcl_vision_layer_saves *y = &s->layer[l];
        *y = s->layer[0];
        if (l == 0 || (training && p->checkpointing != LCL_CHECKPOINT_LAYERS))
            attention_layout(p, y, M);
        else if (training)
            y->x = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
        if (l == 0 || (training && p->checkpointing == LCL_CHECKPOINT_NONE)) mlp_layout(p, y, M);
    }
    s->norm = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->half = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->act = lcl_arena_alloc(a, (size_t)(M * v->F), elem(p));
    s->runs = LCL_ARENA_NEW(&p->host, struct lcl_attn_run, (size_t)s->I);
    if (!training) return;
    s->d_x = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->d_norm = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->d_act = lcl_arena_alloc(a, (size_t)(M * v->F), elem(p));
    s->d_qkv = lcl_arena_alloc(a, (size_t)(M * 3 * v->C), elem(p));
}

void lcl_vision_layout(struct lcl_pass *p, int64_t I, bool training)
{
    const struct lcl_vision_config *v = &p->model->config.vision;
    struct lcl_vision_saves *s = &p->vision;
    struct lcl_arena *a = &p->arena;
    int64_t P = lcl_vision_patches(v), M = I * (P + 1), K = 3 * v->patch_size * v->patch_size;
    s->config = v;
    s->rows = p->model->rows.vision;
    s->I = I;
    s->M = M;
    s->causal = false;
    s->patches = lcl_arena_alloc(a, (size_t)(I * P * K), elem(p));
    s->patch_out = lcl_arena_alloc(a, (size_t)(I * P * v->C), elem(p));
    s->x0 = lcl_arena_alloc(a, (size_t)(M * v->C), elem(p));
    s->mean0 = LCL_ARENA_NEW(a, float, (size_t)M);
    s->rstd0 = LCL_ARENA_NEW(a, float, (size_t)M);
    lcl_tower_blocks_layout(p, lcl_vision_layers_used(&p->model->config), training);
}

static struct lcl_layernorm_args norm_args(const struct lcl_pass *p, int w, int b)
{
    const struct lcl_vision_config *v = p->vision.config;
    return (struct lcl_layernorm_args){.M = p->vision.M,
                                       .C = v->C,
                                       .dtype = lcl_model_dtype(p->model),
                                       .eps = (float)v->eps,
                                       .weight_C = lcl_model_vector(p->model, w),
                                       .bias_C = lcl_model_vector(p->model, b)};
}

static struct lcl_attention_args attention_args(const struct lcl_pass *p,
                                                const struct lcl_vision_layer_saves *s)
{
    const struct lcl_vision_config *v = p->vision.config;
    unsigned char *qkv = s->qkv;
    return (struct lcl_attention_args){.n_runs = p->vision.I,
                                       .H = v->H,
                                       .G = v->H,
                                       .D = v->C / v->H,
                                       .q_stride = 3 * v->C,
                                       .kv_stride = 3 * v->C,
                                       .out_stride = v->C,
                                       .dtype = lcl_model_dtype(p->model),
                                       .causal = p->vision.causal,
                                       .scale = 1 / sqrtf((float)(v->C / v->H)),
                                       .runs = p->vision.runs,
                                       .q = qkv,
                                       .k = qkv + (size_t)v->C * elem(p),
                                       .v = qkv + (size_t)(2 * v->C) * elem(p),
                                       .out = s->attn,
                                       .lse_TH = s->lse};
}

/* From attention's output to the feed-forward block's first layer. */
static lcl_status fc1_fwd(struct lcl_pass *p, int64_t l)
{
    struct lcl_vision_saves *s = &p->vision;
    struct lcl_vision_layer_saves *y = &s->layer[l];
    const struct lcl_vision_layer_rows *r = &p->vision.rows[l];
    const struct lcl_vision_config *v = p->vision.config;
    int64_t M = s->M;
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->out_w, r->out_b, M, v->C, v->C},
                            y->attn, s->half));
    struct lcl_layernorm_args n2 = norm_args(p, r->ln2_w, r->ln2_b);
    n2.x_MC = y->x;
    n2.add_MC = s->half;
    n2.sum_MC = y->mid;
    n2.y_MC = s->norm;
    n2.mean_M = y->mean2;
    n2.rstd_M = y->rstd2;
    LCL_TRY(p->exec->ops->layernorm_fwd(p->exec, &n2));
    return lcl_pass_linear(p, (struct lcl_layer_linear){r->fc1_w, r->fc1_b, M, v->F, v->C}, s->norm,
                           y->fc1);
}

/* The block on s->x = x (+ add); leaves the stream's second half in vision.half (to be added to
 * s->mid). */
static lcl_status layer_fwd(struct lcl_pass *p, int64_t l, const void *x, const void *add)
{
    struct lcl_vision_saves *s = &p->vision;
    struct lcl_vision_layer_saves *y = &s->layer[l];
    const struct lcl_vision_layer_rows *r = &p->vision.rows[l];
    const struct lcl_vision_config *v = p->vision.config;
    const struct lcl_ops *ops = p->exec->ops;
    int64_t M = s->M;
    struct lcl_layernorm_args n1 = norm_args(p, r->ln1_w, r->ln1_b);
    n1.x_MC = x;
    n1.add_MC = add;
    n1.sum_MC = y->x;
    n1.y_MC = s->norm;
    n1.mean_M = y->mean1;
    n1.rstd_M = y->rstd1;
    LCL_TRY(ops->layernorm_fwd(p->exec, &n1));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->qkv_w, r->qkv_b, M, 3 * v->C, v->C},
                            s->norm, y->qkv));
    struct lcl_attention_args att = attention_args(p, y);
    LCL_TRY(ops->attention_fwd(p->exec, &att));
    LCL_TRY(fc1_fwd(p, l));
    LCL_TRY(ops->gelu_fwd(
        p->exec,
        &(struct lcl_gelu_args){
            .count = M * v->F, .dtype = n1.dtype, .kind = v->act, .x = y->fc1, .y = s->act}));
    return lcl_pass_linear(p, (struct lcl_layer_linear){r->fc2_w, r->fc2_b, M, v->C, v->F}, s->act,
                           s->half);
}

static lcl_status embed_fwd(struct lcl_pass *p, const struct lcl_images *images, void *x)
{
    struct lcl_vision_saves *s = &p->vision;
    const struct lcl_model_rows *r = &p->model->rows;
    const struct lcl_vision_config *v = &p->model->config.vision;
    int64_t P = lcl_vision_patches(v), K = 3 * v->patch_size * v->patch_size;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    struct lcl_patchify_args patchify = {.I = s->I,
                                         .size = v->image_size,
                                         .patch = v->patch_size,
                                         .dtype = dtype,
                                         .pixel_I3SS = images->pixels,
                                         .byte_I3SS = images->bytes,
                                         .row_IPK = s->patches};
    memcpy(patchify.mean, images->mean, sizeof patchify.mean);
    memcpy(patchify.std, images->std, sizeof patchify.std);
    LCL_TRY(p->exec->ops->patchify_fwd(p->exec, &patchify));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->patch_w, -1, s->I * P, v->C, K},
                            s->patches, s->patch_out));
    LCL_TRY(p->exec->ops->vit_assemble_fwd(
        p->exec,
        &(struct lcl_vit_assemble_args){.I = s->I,
                                        .P = P,
                                        .C = v->C,
                                        .dtype = dtype,
                                        .patch_IPC = s->patch_out,
                                        .class_C = lcl_model_vector(p->model, r->class_embed),
                                        .position_TC = lcl_model_vector(p->model, r->position),
                                        .x_ITC = s->x0}));
    struct lcl_layernorm_args n0 = norm_args(p, r->pre_ln_w, r->pre_ln_b);
    n0.x_MC = s->x0;
    n0.sum_MC = s->x0;
    n0.y_MC = x;
    n0.mean_M = s->mean0;
    n0.rstd_M = s->rstd0;
    return p->exec->ops->layernorm_fwd(p->exec, &n0);
}

lcl_status lcl_tower_blocks_fwd(struct lcl_pass *p, int64_t n_layers)
{
    struct lcl_vision_saves *s = &p->vision;
    int64_t count = s->M * s->config->C;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    LCL_TRY(layer_fwd(p, 0, s->layer[0].x, NULL));
    for (int64_t l = 1; l < n_layers; l++) LCL_TRY(layer_fwd(p, l, s->layer[l - 1].mid, s->half));
    LCL_TRY(p->exec->ops->cast_fwd(
        p->exec, &(struct lcl_cast_args){count, dtype, dtype, s->layer[n_layers - 1].mid, s->out}));
    return p->exec->ops->add_fwd(p->exec,
                                 &(struct lcl_add_args){count, dtype, dtype, 1, s->half, s->out});
}

lcl_status lcl_vision_fwd(struct lcl_pass *p, const struct lcl_images *images)
{
    struct lcl_vision_saves *s = &p->vision;
    const struct lcl_vision_config *v = &p->model->config.vision;
    int64_t T = lcl_vision_tokens(v), used = lcl_vision_layers_used(&p->model->config);
    for (int64_t i = 0; i < s->I; i++)
        s->runs[i] = (struct lcl_attn_run){.q_begin = (int32_t)(i * T),
                                           .q_end = (int32_t)((i + 1) * T),
                                           .own_begin = (int32_t)(i * T),
                                           .own_end = (int32_t)((i + 1) * T),
                                           .group = (int32_t)i};
    if (used == 0) return embed_fwd(p, images, s->out);
    LCL_TRY(embed_fwd(p, images, s->layer[0].x));
    return lcl_tower_blocks_fwd(p, used);
}

/* d_x: gradient of the stream after the block; becomes that of the stream before it. */
static lcl_status layer_bwd(struct lcl_pass *p, int64_t l, void *d_x)
{
    struct lcl_vision_saves *s = &p->vision;
    struct lcl_vision_layer_saves *y = &s->layer[l];
    const struct lcl_vision_layer_rows *r = &s->rows[l];
    const struct lcl_vision_config *v = s->config;
    const struct lcl_ops *ops = p->exec->ops;
    int64_t M = s->M;
    bool train = p->train_vision;
    if (p->checkpointing == LCL_CHECKPOINT_LAYERS) LCL_TRY(layer_fwd(p, l, y->x, NULL));
    if (p->checkpointing == LCL_CHECKPOINT_MLP) LCL_TRY(fc1_fwd(p, l));

    struct lcl_gelu_args gelu = {.count = M * v->F,
                                 .dtype = lcl_model_dtype(p->model),
                                 .kind = v->act,
                                 .x = y->fc1,
                                 .y = s->act,
                                 .d_y = s->d_act,
                                 .d_x = s->d_act};
    LCL_TRY(ops->gelu_fwd(p->exec, &gelu));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->fc2_w, r->fc2_b, M, v->C, v->F},
                                s->act, d_x, s->d_act, train));
    LCL_TRY(ops->gelu_bwd(p->exec, &gelu));
    struct lcl_layernorm_args n2 = norm_args(p, r->ln2_w, r->ln2_b);
    n2.x_MC = n2.sum_MC = y->mid;
    n2.y_MC = s->norm;
    n2.mean_M = y->mean2;
    n2.rstd_M = y->rstd2;
    LCL_TRY(ops->layernorm_fwd(p->exec, &n2));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->fc1_w, r->fc1_b, M, v->F, v->C},
                                s->norm, s->d_act, s->d_norm, train));
    n2.d_y_MC = s->d_norm;
    n2.d_sum_MC = n2.d_x_MC = d_x;
    n2.d_weight_C = lcl_pass_grad(p, r->ln2_w, train);
    n2.d_bias_C = lcl_pass_grad(p, r->ln2_b, train);
    LCL_TRY(ops->layernorm_bwd(p->exec, &n2));

    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->out_w, r->out_b, M, v->C, v->C},
                                y->attn, d_x, s->d_norm, train));
    struct lcl_attention_args att = attention_args(p, y);
    unsigned char *d_qkv = s->d_qkv;
    att.d_out = s->d_norm;
    att.d_q = d_qkv;
    att.d_k = d_qkv + (size_t)v->C * elem(p);
    att.d_v = d_qkv + (size_t)(2 * v->C) * elem(p);
    LCL_TRY(ops->attention_bwd(p->exec, &att));
    struct lcl_layernorm_args n1 = norm_args(p, r->ln1_w, r->ln1_b);
    n1.x_MC = n1.sum_MC = y->x;
    n1.y_MC = s->norm;
    n1.mean_M = y->mean1;
    n1.rstd_M = y->rstd1;
    LCL_TRY(ops->layernorm_fwd(p->exec, &n1));
    LCL_TRY(lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->qkv_w, r->qkv_b, M, 3 * v->C, v->C},
                                s->norm, d_qkv, s->d_norm, train));
    n1.d_y_MC = s->d_norm;
    n1.d_sum_MC = n1.d_x_MC = d_x;
    n1.d_weight_C = lcl_pass_grad(p, r->ln1_w, train);
    n1.d_bias_C = lcl_pass_grad(p, r->ln1_b, train);
    return ops->layernorm_bwd(p->exec, &n1);
}

lcl_status lcl_vision_bwd(struct lcl_pass *p, void *d_out)
{
    struct lcl_vision_saves *s = &p->vision;
    const struct lcl_model_rows *r = &p->model->rows;
    const struct lcl_vision_config *v = &p->model->config.vision;
    int64_t P = lcl_vision_patches(v), K = 3 * v->patch_size * v->patch_size;
    bool train = p->train_vision;
    for (int64_t l = lcl_vision_layers_used(&p->model->config); l-- > 0;) {
        LCL_TRY(layer_bwd(p, l, d_out));
        LCL_TRY(lcl_pass_leave(p, LCL_PART_VISION, l, true));
    }
    struct lcl_layernorm_args n0 = norm_args(p, r->pre_ln_w, r->pre_ln_b);
    n0.sum_MC = s->x0;
    n0.mean_M = s->mean0;
    n0.rstd_M = s->rstd0;
    n0.d_y_MC = d_out;
    n0.d_x_MC = d_out;
    n0.d_weight_C = lcl_pass_grad(p, r->pre_ln_w, train);
    n0.d_bias_C = lcl_pass_grad(p, r->pre_ln_b, train);
    LCL_TRY(p->exec->ops->layernorm_bwd(p->exec, &n0));
    LCL_TRY(p->exec->ops->vit_assemble_bwd(
        p->exec,
        &(struct lcl_vit_assemble_args){.I = s->I,
                                        .P = P,
                                        .C = v->C,
                                        .dtype = lcl_model_dtype(p->model),
                                        .d_x_ITC = d_out,
                                        .d_patch_IPC = s->patch_out,
                                        .d_class_C = lcl_pass_grad(p, r->class_embed, train),
                                        .d_position_TC = lcl_pass_grad(p, r->position, train)}));
    return lcl_pass_linear_bwd(p, (struct lcl_layer_linear){r->patch_w, -1, s->I * P, v->C, K},
                               s->patches, s->patch_out, NULL, train);
}
