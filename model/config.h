/* Shapes of a LLaVA-shaped model: CLIP ViT, projector, LLaMA decoder. */
#ifndef LCL_MODEL_CONFIG_H
#define LCL_MODEL_CONFIG_H

#include "core/config.h"
#include "core/ops.h"

struct lcl_vision_config {
    int64_t image_size, patch_size; /* pixels; the grid is floor(image_size / patch_size) squared */
    int64_t C, F, n_layers, H;      /* width, feed-forward width, layers, heads */
    enum lcl_gelu_kind act;
    double eps; /* layer_norm_eps */
};

enum lcl_rope_scaling { LCL_ROPE_DEFAULT, LCL_ROPE_LINEAR, LCL_ROPE_LLAMA3 };

struct lcl_text_config {
    int64_t C, F, n_layers, H, G, D, V; /* G key/value heads, D head width */
    double eps;                         /* rms_norm_eps */
    double rope_theta;
    enum lcl_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor; /* of linear and llama3 */
    int64_t rope_original_positions;                                 /* of llama3 */
    int64_t max_positions;
    bool tied; /* the head shares the embedding table */
};

/* LINEAR2: two layers with nothing between, as HF folders with projector_hidden_act "linear" have.
 */
enum lcl_projector_kind {
    LCL_PROJECTOR_LINEAR,
    LCL_PROJECTOR_MLP2,
    LCL_PROJECTOR_LINEAR2,
    LCL_PROJECTOR_QFORMER
};

struct lcl_qformer_config {
    int64_t Q, C, F, n_layers, H; /* query tokens an image, width, feed-forward width */
    int64_t cross_every;          /* layers 0, cross_every, ... attend to the features */
    double eps;                   /* layer_norm_eps */
};

/* Low-rank adapters of linear layers: model/lora.c. */
enum { LCL_LORA_TARGETS_BYTES = LCL_CONFIG_STR_BYTES };
struct lcl_lora_config {
    int64_t rank;                         /* 0: none */
    double alpha;                         /* what they add is scaled by alpha / rank */
    char targets[LCL_LORA_TARGETS_BYTES]; /* comma list of patterns over the modules' names */
};

struct lcl_model_config {
    struct lcl_vision_config vision;
    struct lcl_text_config text;
    enum lcl_projector_kind projector;
    enum lcl_gelu_kind projector_act; /* between the two layers of LCL_PROJECTOR_MLP2 */
    bool projector_bias;
    struct lcl_qformer_config qformer; /* of LCL_PROJECTOR_QFORMER; else zeros */
    int64_t select_layer; /* hidden state that gives the features: 0 the embeddings, n_layers the
                             last; negative: from the end, -1 the last */
    bool keep_class;      /* features include the class token (select strategy "full") */
    enum lcl_image_pool_kind pool;
    bool standardize; /* features pass (x - mean) * inv_std before the projector: rows
                         image_standardize.mean / .inv_std */
    int32_t image_token, bos_token, eos_token, pad_token; /* ids; -1 where there is none */
    int64_t n_classes; /* rows of the warm-up's cosine classifier; 0: none */
    bool fan_in_init;  /* N(0, 1/fan_in), residual outputs / sqrt(2 layers); else N(0, 0.02) */
    double embed_std, head_std; /* 0: 0.02 */
    struct lcl_lora_config lora;
};

/* From a run's config; the vocabulary and special tokens come from the tokenizer. */
void lcl_model_config_from(const struct lcl_config *c, int64_t vocab_size,
                           struct lcl_model_config *m);
/* LCL_CONFIG where shapes do not fit together (heads into widths, 2x2 pooling of an odd grid,
 * select layer out of range). */
LCL_CHECKED lcl_status lcl_model_config_check(const struct lcl_model_config *m);

/* A vision tower and projector of the least size, for what needs the decoder alone. */
void lcl_model_config_text_only(struct lcl_model_config *m);
/* A decoder of the least size and of width C, for what needs the tower alone. */
void lcl_model_config_vision_only(struct lcl_model_config *m, int64_t C);
/* Rotary frequencies of the D / 2 pairs of a head (Su et al. 2021), in radians a position; scaled
 * as transformers' rope types "linear" and "llama3" do. */
void lcl_text_inv_freq(const struct lcl_text_config *t, float *inv_freq);

static inline int64_t lcl_vision_patches(const struct lcl_vision_config *v)
{
    int64_t side = v->image_size / v->patch_size;
    return side * side;
}
static inline int64_t lcl_vision_tokens(const struct lcl_vision_config *v)
{
    return lcl_vision_patches(v) + 1;
}
/* Layers that run: those up to the selected hidden state. */
static inline int64_t lcl_vision_layers_used(const struct lcl_model_config *m)
{
    return m->select_layer >= 0 ? m->select_layer : m->vision.n_layers + 1 + m->select_layer;
}
/* Feature rows of one picture, pooled. */
int64_t lcl_feature_rows(const struct lcl_model_config *m);
/* What the projector makes of them: text slots of one picture. */
int64_t lcl_tokens_per_image(const struct lcl_model_config *m);

#endif
