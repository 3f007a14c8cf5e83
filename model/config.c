#include "model/config.h"

#include <stdio.h>

static struct lcl_qformer_config qformer_from(const struct lcl_config *c)
{
    return (struct lcl_qformer_config){.Q = c->qformer_num_query_tokens,
                                       .C = c->qformer_hidden_size,
                                       .F = c->qformer_intermediate_size,
                                       .n_layers = c->qformer_num_hidden_layers,
                                       .H = c->qformer_num_attention_heads,
                                       .cross_every = c->qformer_cross_attention_frequency,
                                       .eps = c->qformer_layer_norm_eps};
}

void lcl_model_config_from(const struct lcl_config *c, int64_t vocab_size,
                           struct lcl_model_config *m)
{
    *m = (struct lcl_model_config){
        .vision = {.image_size = c->vision_image_size,
                   .patch_size = c->vision_patch_size,
                   .C = c->vision_hidden_size,
                   .F = c->vision_intermediate_size,
                   .n_layers = c->vision_num_hidden_layers,
                   .H = c->vision_num_attention_heads,
                   .act = c->vision_hidden_act == 1 ? LCL_GELU_QUICK : LCL_GELU_ERF,
                   .eps = c->vision_layer_norm_eps},
        .text = {.C = c->text_hidden_size,
                 .F = c->text_intermediate_size,
                 .n_layers = c->text_num_hidden_layers,
                 .H = c->text_num_attention_heads,
                 .V = vocab_size,
                 .eps = c->text_rms_norm_eps,
                 .rope_theta = c->text_rope_theta,
                 .max_positions = c->text_max_position_embeddings,
                 .tied = c->text_tie_word_embeddings},
        .projector = (enum lcl_projector_kind[]){LCL_PROJECTOR_LINEAR, LCL_PROJECTOR_MLP2,
                                                 LCL_PROJECTOR_QFORMER}[c->mm_projector_type],
        .projector_act = LCL_GELU_ERF,
        .projector_bias = true,
        .select_layer = c->mm_vision_select_layer,
        .keep_class = c->mm_vision_select_feature == 1,
        .pool = (enum lcl_image_pool_kind)c->mm_image_pool,
        .standardize = c->mm_standardize,
        .image_token = -1,
        .bos_token = -1,
        .eos_token = -1,
        .pad_token = -1,
        .fan_in_init = c->init_scheme == 1,
        .embed_std = c->text_embed_std,
        .head_std = c->text_head_std,
        .lora = {.rank = c->lora_rank, .alpha = c->lora_alpha}};
    snprintf(m->lora.targets, sizeof m->lora.targets, "%s", c->lora_targets);
    if (m->projector == LCL_PROJECTOR_QFORMER) m->qformer = qformer_from(c);
    m->text.G = c->text_num_key_value_heads ? c->text_num_key_value_heads : m->text.H;
    m->text.D = m->text.C / m->text.H;
}

void lcl_model_config_text_only(struct lcl_model_config *m)
{
    m->vision = (struct lcl_vision_config){.image_size = 4,
                                           .patch_size = 4,
                                           .C = 4,
                                           .F = 4,
                                           .n_layers = 1,
                                           .H = 1,
                                           .act = LCL_GELU_QUICK,
                                           .eps = 1e-5};
    m->projector = LCL_PROJECTOR_LINEAR;
    m->projector_bias = false;
    m->select_layer = -1;
    m->image_token = -1;
}

void lcl_model_config_vision_only(struct lcl_model_config *m, int64_t C)
{
    m->text = (struct lcl_text_config){.C = C,
                                       .F = 4,
                                       .n_layers = 1,
                                       .H = 1,
                                       .G = 1,
                                       .D = 4,
                                       .V = 4,
                                       .rope_theta = 10000,
                                       .max_positions = 1};
    m->projector = LCL_PROJECTOR_LINEAR;
    m->projector_bias = false;
    m->select_layer = -1;
    m->image_token = -1;
}

int64_t lcl_feature_rows(const struct lcl_model_config *m)
{
    return lcl_image_pool_tokens(m->pool, lcl_vision_tokens(&m->vision), m->keep_class ? 0 : 1);
}

int64_t lcl_tokens_per_image(const struct lcl_model_config *m)
{
    return m->projector == LCL_PROJECTOR_QFORMER ? m->qformer.Q : lcl_feature_rows(m);
}

static lcl_status check_heads(const char *what, int64_t C, int64_t H, int64_t D)
{
    if (D < 4 || D > 128 || D % 4 != 0)
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "choose heads so that each is 4..128 wide, a multiple of 4",
                             "%s: head width %lld (width %lld, %lld heads)", what, (long long)D,
                             (long long)C, (long long)H);
    return LCL_OK;
}

static lcl_status check_qformer(const struct lcl_qformer_config *q)
{
    if (q->Q < 1 || q->n_layers < 1 || q->cross_every < 1 || q->H < 1 || q->F < 1)
        return LCL_FAIL(LCL_CONFIG,
                        "qformer: %lld query tokens, %lld layers, %lld heads, feed-forward width "
                        "%lld, cross attention in every %lld-th layer; wanted 1 or more of each",
                        (long long)q->Q, (long long)q->n_layers, (long long)q->H, (long long)q->F,
                        (long long)q->cross_every);
    if (q->C % q->H != 0)
        return LCL_FAIL(LCL_CONFIG, "qformer: width %lld is not a multiple of %lld heads",
                        (long long)q->C, (long long)q->H);
    return check_heads("qformer", q->C, q->H, q->C / q->H);
}

lcl_status lcl_model_config_check(const struct lcl_model_config *m)
{
    const struct lcl_vision_config *v = &m->vision;
    const struct lcl_text_config *t = &m->text;
    if (v->patch_size > v->image_size)
        return LCL_FAIL(LCL_CONFIG, "vision.patch_size %lld is larger than vision.image_size %lld",
                        (long long)v->patch_size, (long long)v->image_size);
    if (v->C % v->H != 0)
        return LCL_FAIL(LCL_CONFIG, "vision: width %lld is not a multiple of %lld heads",
                        (long long)v->C, (long long)v->H);
    LCL_TRY(check_heads("vision", v->C, v->H, v->C / v->H));
    LCL_TRY(check_heads("text", t->C, t->H, t->D));
    if (t->G < 1 || t->H % t->G != 0)
        return LCL_FAIL(LCL_CONFIG,
                        "text: %lld query heads are not a multiple of %lld key/value heads",
                        (long long)t->H, (long long)t->G);
    if (m->projector == LCL_PROJECTOR_QFORMER) LCL_TRY(check_qformer(&m->qformer));
    int64_t used = lcl_vision_layers_used(m);
    if (used < 0 || used > v->n_layers)
        return LCL_FAIL_HINT(LCL_CONFIG, "-1 is the last layer's output, -2 that of the one before",
                             "mm_vision_select_layer %lld of a tower of %lld layers",
                             (long long)m->select_layer, (long long)v->n_layers);
    int64_t side = v->image_size / v->patch_size;
    if (m->pool == LCL_POOL_2X2 && (side % 2 != 0 || m->keep_class))
        return LCL_FAIL(
            LCL_CONFIG,
            "mm_image_pool: 2x2 needs an even patch grid without the class token, this one is "
            "%lld x %lld%s",
            (long long)side, (long long)side, m->keep_class ? " and keeps it" : "");
    return LCL_OK;
}
