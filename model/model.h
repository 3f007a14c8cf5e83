/* The model: CLIP ViT -> projector -> LLaMA decoder, joined as LLaVA joins them. Layers are
 * explicit: each forward names what it saves, each backward consumes it.
 *
 * Legend: I images, P patches, T tokens (of an image, or of the packed text), C width, F
 * feed-forward width, R feature rows of all images, S supervised rows. */
#ifndef LCL_MODEL_MODEL_H
#define LCL_MODEL_MODEL_H

#include "core/batch.h"
#include "core/param.h"
#include "model/config.h"

/* Row numbers in the parameter table; -1 where a tensor does not exist. */
struct lcl_vision_layer_rows {
    int ln1_w, ln1_b, qkv_w, qkv_b, out_w, out_b, ln2_w, ln2_b, fc1_w, fc1_b, fc2_w, fc2_b;
};
struct lcl_text_layer_rows {
    int norm1, qkv_w, o_w, norm2, gate_up_w, down_w;
};
struct lcl_qformer_layer_rows { /* q, kv, cross and ln2: -1 where a layer does not cross */
    int qkv_w, qkv_b, out_w, out_b, ln1_w, ln1_b;
    int q_w, q_b, kv_w, kv_b, cross_w, cross_b, ln2_w, ln2_b;
    int fc1_w, fc1_b, fc2_w, fc2_b, ln3_w, ln3_b;
};
struct lcl_model_rows {
    int class_embed, patch_w, position, pre_ln_w, pre_ln_b;
    struct lcl_vision_layer_rows *vision; /* [vision.n_layers] */
    int std_mean, std_inv;
    int query_tokens, query_norm_w, query_norm_b;
    struct lcl_qformer_layer_rows *qformer; /* [qformer.n_layers]; NULL: another projector */
    int proj1_w, proj1_b, proj2_w, proj2_b; /* of a Q-Former: proj1 is what comes after it */
    int embed;
    struct lcl_text_layer_rows *text; /* [text.n_layers] */
    int final_norm, head_w;           /* head_w == embed when tied */
    int classifier;
};

struct lcl_model {
    struct lcl_model_config config;
    struct lcl_params params;
    struct lcl_model_rows rows;
    int n_base;       /* rows but those of adapters */
    int *adapter;     /* [n_base] row of its A, B being the next; -1: none; NULL: none at all */
    float *inv_freq;  /* [D/2] */
    float rope_scale; /* attention factor of the rope scaling: 1 */
    bool bf16;        /* activations and GEMM weights in bf16 */
    struct lcl_arena values, grads, moments;
};

/* Makes the table (no arrays yet). */
LCL_CHECKED lcl_status lcl_model_create(struct lcl_model *m, const struct lcl_model_config *config);
/* Rows of a tower's blocks, of the vision part, behind those that there are:
 * "PREFIXencoder.layers.N.*". */
LCL_CHECKED lcl_status lcl_model_add_blocks(struct lcl_model *m, const char *prefix,
                                            const struct lcl_vision_config *v,
                                            struct lcl_vision_layer_rows *rows);
/* Reserves values, and gradients + moments when training; frozen parts need none, but offsets stay
 * the same. */
LCL_CHECKED lcl_status lcl_model_reserve(struct lcl_model *m, bool bf16, bool with_grads,
                                         bool with_moments);
void lcl_model_free(struct lcl_model *m);

static inline lcl_dtype lcl_model_dtype(const struct lcl_model *m)
{
    return m->bf16 ? LCL_BF16 : LCL_F32;
}
/* A weight as GEMMs read it (codes, bf16 copy or f32) and its type, and a vector or table in f32.
 */
static inline const void *lcl_model_weight(const struct lcl_model *m, int row)
{
    const struct lcl_param *p = &m->params.rows[row];
    if (p->in_blocks) return lcl_param_code(&m->params, p);
    return m->bf16 ? (const void *)lcl_param_value16(&m->params, p)
                   : (const void *)lcl_param_value(&m->params, p);
}
static inline lcl_dtype lcl_model_weight_dtype(const struct lcl_model *m, int row)
{
    return m->params.rows[row].in_blocks ? m->params.blocks : lcl_model_dtype(m);
}
static inline const float *lcl_model_vector(const struct lcl_model *m, int row)
{
    return row < 0 ? NULL : lcl_param_value(&m->params, &m->params.rows[row]);
}

/* ---- what a forward saves ---- */

struct lcl_vision_layer_saves {
    void *x, *mid; /* [I*T, C] residual stream before each half */
    float *mean1, *rstd1, *mean2, *rstd2;
    void *qkv, *attn; /* [I*T, 3C], [I*T, C] */
    float *lse;       /* [I*T, H] */
    void *fc1;        /* [I*T, F] before the activation */
};
struct lcl_vision_saves {
    const struct lcl_vision_config *config; /* of the blocks */
    const struct lcl_vision_layer_rows *rows;
    int64_t I, M; /* images (of a text tower: texts), and rows of all, I*T */
    bool causal;
    void *patches, *patch_out; /* [I*P, 3*patch^2], [I*P, C] */
    void *x0;                  /* [I*T, C] before the first norm */
    float *mean0, *rstd0;
    struct lcl_vision_layer_saves *layer; /* [layers used] */
    void *out;                            /* [I*T, C] the selected hidden state */
    void *norm, *half, *act;              /* temporaries: [I*T, C], [I*T, C], [I*T, F] */
    void *d_x, *d_norm, *d_act, *d_qkv;   /* backward temporaries */
    struct lcl_attn_run *runs;
};

struct lcl_text_layer_saves {
    void *x, *mid; /* [T, C] */
    float *rstd1, *rstd2;
    void *qkv;     /* [T, (H + 2G) D] after rotary */
    void *attn;    /* [T, H D] */
    float *lse;    /* [T, H] */
    void *gate_up; /* [T, 2F] */
};
struct lcl_text_saves {
    int64_t T;
    int64_t R; /* rows whose hidden state is wanted: past attention the last layer has no others */
    const int32_t *row_R; /* their tokens, of the batch; where R = T all rows in their order */
    int32_t *index_R;     /* 0, 1 .. R-1 */
    struct lcl_text_layer_saves *layer;
    void *last_x, *last_attn; /* [R, C], [R, H D] what the last layer goes on with, where R < T */
    void *sum, *hidden;       /* [R, C] residual stream at the end; normed */
    float *rstd;
    void *norm, *half, *act;            /* temporaries: [T, C], [T, C], [T, F] */
    void *d_x, *d_norm, *d_act, *d_qkv; /* backward temporaries */
    void *d_last_x, *d_last_attn;       /* [R, C], [R, H D] */
};

struct lcl_projector_saves {
    int64_t M;       /* rows of features */
    int64_t R;       /* and of out: as many, but of a Q-Former */
    void *in;        /* [M, Cv] standardised features (or the features themselves) */
    void *mid, *act; /* [R, C] of the first layer, before and after the activation */
    void *out;       /* [R, C] */
    void *d_out, *d_mid;
};

struct lcl_postnorm_saves {
    void *sum, *y; /* [N, C] y = norm(sum) */
    float *mean, *rstd;
};
struct lcl_qformer_layer_saves {
    void *qkv, *attn; /* [N, 3C], [N, C] among the queries */
    float *lse;       /* [N, H] */
    struct lcl_postnorm_saves norm1;
    void *q, *kv, *cross; /* [N, C], [M, 2C], [N, C] to the features */
    float *cross_lse;
    struct lcl_postnorm_saves norm2;
    void *fc1; /* [N, F] before the activation */
    struct lcl_postnorm_saves norm3;
};
struct lcl_qformer_saves {
    int64_t I, N, M; /* images; query rows and feature rows of all */
    const void *in;  /* [M, Cv] the projector's */
    struct lcl_postnorm_saves norm0;
    struct lcl_qformer_layer_saves *layer; /* [qformer.n_layers] */
    void *half, *act;                      /* temporaries: [N, C], [N, F] */
    void *d_x, *d_half, *d_act;            /* backward temporaries: [N, C] twice, [N, F] */
    void *d_qkv, *d_kv, *d_in;             /* [N, 3C], [M, 2C], [M, Cv] */
    int32_t *id;                           /* [N] which query a row is */
    struct lcl_attn_run *runs, *cross_runs;
};

/* The warm-up's classifier: normalised features [n, Cv] and weights [n_classes, Cv]. */
struct lcl_classify_saves {
    void *normed, *d_normed;
    float *norm, *weight, *d_weight, *weight_norm;
    int32_t *row;
};

/* Of adapters' inputs in a training pass: masks are a function of this and the layer's name. */
struct lcl_dropout {
    double p;            /* 0: none */
    uint64_t seed, lane; /* lane: number of the lane since the stage began */
    uint32_t epoch;      /* the stage's number */
};

/* One lane: the arena and buffers of one packed batch on its way forth and back. */
/* Who is told of a training pass's way through its layers; any may be NULL. Layers of the decoder
 * are entered and left going forth and going back, those of the tower are left going back. */
struct lcl_layer_watch {
    void *ctx;
    lcl_status (*enter)(void *ctx, enum lcl_part part, int64_t layer, bool back);
    lcl_status (*leave)(void *ctx, enum lcl_part part, int64_t layer, bool back);
};

struct lcl_pass {
    struct lcl_exec *exec;
    const struct lcl_layer_watch *watch; /* NULL: nobody */
    const struct lcl_model *model;
    float *grad; /* [n_elements] of the table, accumulated; NULL: inference */
    enum lcl_checkpointing checkpointing;
    bool train_vision, train_projector, train_text;
    bool all_rows;          /* hidden states of all tokens, not of the supervised ones alone */
    struct lcl_arena arena; /* tensors */
    struct lcl_arena host;  /* index arrays, and results for a person */
    struct lcl_vision_saves vision;
    struct lcl_projector_saves projector;
    struct lcl_qformer_saves qformer;
    struct lcl_text_saves text;
    struct lcl_classify_saves classify;
    void *features;          /* [projector.M, Cv] pooled features of the batch's images */
    void *d_features;        /* their gradient, when the vision tower trains */
    void *d_hidden;          /* [R, C] of text.R */
    void *lora_u, *lora_d_u; /* [rows, rank] between the two halves of an adapter */
    void *lora_x;            /* [rows, K] its input, some of it dropped, and its gradient */
    struct lcl_dropout dropout;
    float *row_logprob; /* [S], as row_argmax: of lcl_model_loss */
    int32_t *row_argmax;
};

/* The largest batch that a pass will see. */
struct lcl_pass_limits {
    int64_t T, images, S;
    bool with_vision; /* runs the tower (not cached features) */
    bool with_text;
};
/* Bytes of the arena for these limits. */
size_t lcl_pass_bytes(const struct lcl_pass *proto, const struct lcl_pass_limits *limits);
/* Reserves the arena; proto's fields exec .. train_text are set by the caller before. */
LCL_CHECKED lcl_status lcl_pass_reserve(struct lcl_pass *p, const struct lcl_pass_limits *limits);
void lcl_pass_free(struct lcl_pass *p);
/* Lays the buffers out for one batch (all sizes exact); the arena must have been reserved for as
 * much. */
void lcl_pass_layout(struct lcl_pass *p, const struct lcl_pass_limits *limits);
/* Reserves (where the batch is larger than any before) and lays out. */
LCL_CHECKED lcl_status lcl_pass_layout_batch(struct lcl_pass *p, const struct lcl_batch *b,
                                             bool with_vision);

/* ---- forward and backward of the whole ---- */

/* What a batch's pictures come as: pixels [n, 3, S, S] f32, the same as bytes that are still to be
 * normalised (a quarter of the memory to read or to send), or features [n * feature rows, Cv]
 * f32 (after pooling, before standardisation) from a cache. Exactly one is given where the batch
 * has images. */
struct lcl_images {
    const float *pixels;
    const uint8_t *bytes;
    float mean[3], std[3]; /* of bytes */
    const float *features;
};
static inline bool lcl_images_need_tower(const struct lcl_images *images)
{
    return images && (images->pixels || images->bytes);
}

/* Runs the tower on n pictures: p->features = pooled features. */
LCL_CHECKED lcl_status lcl_model_vision_fwd(struct lcl_pass *p, const float *pixels, int64_t n);
/* Forward to the loss on the batch's supervised rows. loss_sum: sum of weight * -log p. logits_SV
 * may be NULL. */
LCL_CHECKED lcl_status lcl_model_loss(struct lcl_pass *p, const struct lcl_batch *b,
                                      const struct lcl_images *images, double *loss_sum,
                                      float *logits_SV);
/* The same where keys and values join a cache: runs, cache and cache_row as lcl_text_fwd. */
struct lcl_kv_cache;
LCL_CHECKED lcl_status lcl_model_loss_cached(struct lcl_pass *p, const struct lcl_batch *b,
                                             const struct lcl_images *images,
                                             const struct lcl_attn_run *runs,
                                             struct lcl_kv_cache *cache, const int32_t *cache_row,
                                             double *loss_sum);
/* Forward and backward: gradients of grad_scale * loss_sum are added to p->grad. loss_sum and
 * argmax_S (NULL: not wanted) have their values after lcl_exec_sync(); until then they are the
 * caller's to keep. */
LCL_CHECKED lcl_status lcl_model_step(struct lcl_pass *p, const struct lcl_batch *b,
                                      const struct lcl_images *images, float grad_scale,
                                      double *loss_sum, int32_t *argmax_S);
/* The vision warm-up: cosine classifier on the mean of the selected features; label [n] class
 * numbers. Forward and backward; results as of lcl_model_step. */
LCL_CHECKED lcl_status lcl_model_classify_step(struct lcl_pass *p, const struct lcl_images *images,
                                               const int32_t *label, int64_t n, float logit_scale,
                                               float grad_scale, double *loss_sum,
                                               int32_t *argmax_n);

/* ---- parts (model/vision.c, projector.c, qformer.c, text.c) ---- */
void lcl_vision_layout(struct lcl_pass *p, int64_t I, bool training);
LCL_CHECKED lcl_status lcl_vision_fwd(struct lcl_pass *p, const struct lcl_images *images);
LCL_CHECKED lcl_status lcl_vision_bwd(struct lcl_pass *p,
                                      void *d_out); /* d_out [I*T, C] is overwritten */
/* A tower's blocks alone: vision.config, .rows, .I, .M, .causal and .out are set before the layout,
 * .runs before the forward, which goes from layer[0].x to .out. */
void lcl_tower_blocks_layout(struct lcl_pass *p, int64_t n_layers, bool training);
LCL_CHECKED lcl_status lcl_tower_blocks_fwd(struct lcl_pass *p, int64_t n_layers);
void lcl_projector_layout(struct lcl_pass *p, int64_t I, bool training);
LCL_CHECKED lcl_status lcl_projector_fwd(struct lcl_pass *p, const void *features);
LCL_CHECKED lcl_status lcl_projector_bwd(struct lcl_pass *p,
                                         void *d_features); /* NULL: not wanted */
/* The projector's part between standardisation and the decoder: features [M, Cv], out [N, text.C].
 */
void lcl_qformer_layout(struct lcl_pass *p, int64_t I, bool training);
LCL_CHECKED lcl_status lcl_qformer_fwd(struct lcl_pass *p, const void *features, void *out);
LCL_CHECKED lcl_status lcl_qformer_bwd(struct lcl_pass *p, const void *d_out,
                                       void *d_features); /* NULL: not wanted */
void lcl_text_layout(struct lcl_pass *p, int64_t T, int64_t R, bool training);

/* Key/value cache for generation: rows of all layers; the caller says which row a token takes. */
struct lcl_kv_cache {
    int64_t rows;
    int64_t run_rows; /* that one run may come to fill: for steps that are recorded */
    void **k, **v;    /* [n_layers] of [rows, G * D] in the model's dtype */
    struct lcl_arena arena;
};
LCL_CHECKED lcl_status lcl_kv_cache_reserve(struct lcl_kv_cache *c, const struct lcl_model *m,
                                            int64_t rows);
/* More rows; the first `keep` of the old cache are copied. After an error it is as it was, or,
 * where keep is 0, empty. */
LCL_CHECKED lcl_status lcl_kv_cache_grow(struct lcl_kv_cache *c, struct lcl_exec *exec,
                                         const struct lcl_model *m, int64_t rows, int64_t keep);
void lcl_kv_cache_free(struct lcl_kv_cache *c);
/* Decoder layers on p->text.layer[0].x (embedded tokens) to p->text.hidden: of the tokens row_R,
 * distinct and as many as the batch laid out has supervised rows, or of all tokens where
 * p->text.R = p->text.T. With a cache, keys and values go to cache rows cache_row[T] and the runs'
 * key ranges are cache rows. */
LCL_CHECKED lcl_status lcl_text_fwd(struct lcl_pass *p, const int32_t *position_T,
                                    const int32_t *row_R, int64_t n_runs,
                                    const struct lcl_attn_run *runs, struct lcl_kv_cache *cache,
                                    const int32_t *cache_row);
/* d_hidden [R, C] (overwritten) to d_embedded: left in p->text.d_x. row_R of the forward must still
 * be there. */
LCL_CHECKED lcl_status lcl_text_bwd(struct lcl_pass *p, const int32_t *position_T, int64_t n_runs,
                                    const struct lcl_attn_run *runs, const void *d_hidden);
/* Embeds the batch's ids and splices the projected pictures in. */
LCL_CHECKED lcl_status lcl_model_embed(struct lcl_pass *p, const struct lcl_batch *b,
                                       const struct lcl_images *images);

LCL_CHECKED static inline lcl_status lcl_pass_enter(struct lcl_pass *p, enum lcl_part part,
                                                    int64_t layer, bool back)
{
    const struct lcl_layer_watch *w = p->watch;
    return w && w->enter ? w->enter(w->ctx, part, layer, back) : LCL_OK;
}
LCL_CHECKED static inline lcl_status lcl_pass_leave(struct lcl_pass *p, enum lcl_part part,
                                                    int64_t layer, bool back)
{
    const struct lcl_layer_watch *w = p->watch;
    return w && w->leave ? w->leave(w->ctx, part, layer, back) : LCL_OK;
}

/* A helper for all parts: one linear layer by table rows. */
struct lcl_layer_linear {
    int w, b;
    int64_t M, N, K;
};
LCL_CHECKED lcl_status lcl_pass_linear(struct lcl_pass *p, struct lcl_layer_linear l, const void *x,
                                       void *y);
/* d_x NULL: not wanted. */
LCL_CHECKED lcl_status lcl_pass_linear_bwd(struct lcl_pass *p, struct lcl_layer_linear l,
                                           const void *x, const void *d_y, void *d_x, bool train);
/* Whether its backward reads x: weights or adapters of its train. Where they do not, x need not be
 * made anew. */
bool lcl_pass_linear_reads_x(struct lcl_pass *p, struct lcl_layer_linear l, bool train);
/* NULL where the row does not move. */
static inline float *lcl_pass_grad(struct lcl_pass *p, int row, bool train)
{
    if (row < 0 || !train || !p->grad || !lcl_param_moves(&p->model->params.rows[row])) return NULL;
    return p->grad + p->model->params.rows[row].grad_at;
}

/* ---- adapters (model/lora.c) ---- */
/* Rows for those that config.lora asks for, behind all others. LCL_CONFIG where a pattern names
 * nothing. */
LCL_CHECKED lcl_status lcl_lora_add(struct lcl_model *m);
/* W + alpha / r B A in W's place, and zeros in B's: the same model. */
LCL_CHECKED lcl_status lcl_lora_merge(struct lcl_model *m);
/* Buffers for layers of as many rows, by part. */
void lcl_lora_layout(struct lcl_pass *p, const int64_t rows_of_part[LCL_PART_COUNT]);
/* What l's adapters add to its y; to d_x (NULL: not wanted) and their gradients. */
LCL_CHECKED lcl_status lcl_lora_fwd(struct lcl_pass *p, struct lcl_layer_linear l, const void *x,
                                    void *y);
LCL_CHECKED lcl_status lcl_lora_bwd(struct lcl_pass *p, struct lcl_layer_linear l, const void *x,
                                    const void *d_y, void *d_x, bool train);

#endif
