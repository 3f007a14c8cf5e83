/* The parameter table of a model: names as transformers 5 writes them, rows in the order of the
 * computation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "model/model.h"

struct builder {
    struct lcl_model *m;
    enum lcl_part part;
    bool unused;
    lcl_status status;
};

static int add(struct builder *b, struct lcl_param_spec spec, int n_dims, const int64_t *shape,
               const char *name)
{
    int index = -1;
    if (b->status != LCL_OK) return -1;
    spec.part = b->part;
    spec.unused = spec.unused || b->unused;
    b->status = lcl_params_add(&b->m->params, name, n_dims, shape, spec, &index);
    return index;
}

/* A table that ops read as f32. */
static int add_table(struct builder *b, const char *name, int64_t N, int64_t K, double std)
{
    return add(b,
               (struct lcl_param_spec){
                   .init = LCL_INIT_NORMAL, .init_std = (float)std, .decay = true, .f32 = true},
               2, (int64_t[]){N, K}, name);
}

static int add_matrix(struct builder *b, const char *prefix, const char *name, int64_t N, int64_t K,
                      double std, bool follows)
{
    char full[LCL_PARAM_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return add(
        b,
        (struct lcl_param_spec){
            .init = LCL_INIT_NORMAL, .init_std = (float)std, .decay = true, .follows = follows},
        2, (int64_t[]){N, K}, full);
}

static int add_vector(struct builder *b, const char *prefix, const char *name, int64_t N,
                      enum lcl_init init, bool follows)
{
    char full[LCL_PARAM_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return add(b, (struct lcl_param_spec){.init = init, .f32 = true, .follows = follows}, 1,
               (int64_t[]){N}, full);
}

/* Deviation of a weight with fan_in inputs; `residual` outputs are divided by sqrt(2 layers). */
static double weight_std(const struct lcl_model_config *c, int64_t fan_in, int64_t residual_layers)
{
    double std = c->fan_in_init ? 1 / sqrt((double)fan_in) : 0.02;
    return residual_layers && c->fan_in_init ? std / sqrt(2.0 * (double)residual_layers) : std;
}

static void vision_layer(struct builder *b, const char *prefix, const struct lcl_vision_config *v,
                         int64_t l, struct lcl_vision_layer_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    int64_t C = v->C, F = v->F, L = v->n_layers;
    double std = weight_std(c, C, 0), out_std = weight_std(c, C, L), down_std = weight_std(c, F, L);
    char p[64];
    snprintf(p, sizeof p, "%sencoder.layers.%lld.", prefix, (long long)l);
    r->ln1_w = add_vector(b, p, "layer_norm1.weight", C, LCL_INIT_ONES, false);
    r->ln1_b = add_vector(b, p, "layer_norm1.bias", C, LCL_INIT_ZEROS, false);
    r->qkv_w = add_matrix(b, p, "self_attn.q_proj.weight", C, C, std, false);
    add_matrix(b, p, "self_attn.k_proj.weight", C, C, std, true);
    add_matrix(b, p, "self_attn.v_proj.weight", C, C, std, true);
    r->qkv_b = add_vector(b, p, "self_attn.q_proj.bias", C, LCL_INIT_ZEROS, false);
    add_vector(b, p, "self_attn.k_proj.bias", C, LCL_INIT_ZEROS, true);
    add_vector(b, p, "self_attn.v_proj.bias", C, LCL_INIT_ZEROS, true);
    r->out_w = add_matrix(b, p, "self_attn.out_proj.weight", C, C, out_std, false);
    r->out_b = add_vector(b, p, "self_attn.out_proj.bias", C, LCL_INIT_ZEROS, false);
    r->ln2_w = add_vector(b, p, "layer_norm2.weight", C, LCL_INIT_ONES, false);
    r->ln2_b = add_vector(b, p, "layer_norm2.bias", C, LCL_INIT_ZEROS, false);
    r->fc1_w = add_matrix(b, p, "mlp.fc1.weight", F, C, std, false);
    r->fc1_b = add_vector(b, p, "mlp.fc1.bias", F, LCL_INIT_ZEROS, false);
    r->fc2_w = add_matrix(b, p, "mlp.fc2.weight", C, F, down_std, false);
    r->fc2_b = add_vector(b, p, "mlp.fc2.bias", C, LCL_INIT_ZEROS, false);
}

static void vision(struct builder *b, struct lcl_model_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    const struct lcl_vision_config *v = &c->vision;
    const char *p = "vision_tower.";
    int64_t K = 3 * v->patch_size * v->patch_size, used = lcl_vision_layers_used(c);
    b->part = LCL_PART_VISION;
    r->class_embed =
        add(b,
            (struct lcl_param_spec){
                .init = LCL_INIT_NORMAL, .init_std = (float)(1 / sqrt((double)v->C)), .f32 = true},
            1, (int64_t[]){v->C}, "vision_tower.embeddings.class_embedding");
    r->patch_w =
        add(b,
            (struct lcl_param_spec){
                .init = LCL_INIT_NORMAL, .init_std = (float)weight_std(c, K, 0), .decay = true},
            4, (int64_t[]){v->C, 3, v->patch_size, v->patch_size},
            "vision_tower.embeddings.patch_embedding.weight");
    r->position = add_table(b, "vision_tower.embeddings.position_embedding.weight",
                            lcl_vision_tokens(v), v->C, 0.02);
    r->pre_ln_w = add_vector(b, p, "pre_layrnorm.weight", v->C, LCL_INIT_ONES, false);
    r->pre_ln_b = add_vector(b, p, "pre_layrnorm.bias", v->C, LCL_INIT_ZEROS, false);
    for (int64_t l = 0; l < v->n_layers; l++) {
        b->unused = l >= used;
        vision_layer(b, p, v, l, &r->vision[l]);
    }
    b->unused = true; /* LLaVA reads hidden states from before the last norm */
    add_vector(b, p, "post_layernorm.weight", v->C, LCL_INIT_ONES, false);
    add_vector(b, p, "post_layernorm.bias", v->C, LCL_INIT_ZEROS, false);
    b->unused = false;
}

/* A linear layer [N, K] and its bias, "<prefix><name>.weight" and ".bias". */
static void add_linear(struct builder *b, const char *prefix, const char *name, int64_t N,
                       int64_t K, int *w, int *bias)
{
    char full[LCL_PARAM_NAME_BYTES];
    snprintf(full, sizeof full, "%s.weight", name);
    *w = add_matrix(b, prefix, full, N, K, weight_std(&b->m->config, K, 0), false);
    snprintf(full, sizeof full, "%s.bias", name);
    *bias = add_vector(b, prefix, full, N, LCL_INIT_ZEROS, false);
}

static void add_norm(struct builder *b, const char *prefix, const char *name, int64_t C, int *w,
                     int *bias)
{
    char full[LCL_PARAM_NAME_BYTES];
    snprintf(full, sizeof full, "%s.weight", name);
    *w = add_vector(b, prefix, full, C, LCL_INIT_ONES, false);
    snprintf(full, sizeof full, "%s.bias", name);
    *bias = add_vector(b, prefix, full, C, LCL_INIT_ZEROS, false);
}

static void qformer_layer(struct builder *b, int64_t l, struct lcl_qformer_layer_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    int64_t C = c->qformer.C, F = c->qformer.F, Cv = c->vision.C;
    double std = weight_std(c, C, 0), from_image = weight_std(c, Cv, 0);
    char p[64];
    snprintf(p, sizeof p, "qformer.encoder.layer.%lld.", (long long)l);
    r->qkv_w = add_matrix(b, p, "attention.attention.query.weight", C, C, std, false);
    add_matrix(b, p, "attention.attention.key.weight", C, C, std, true);
    add_matrix(b, p, "attention.attention.value.weight", C, C, std, true);
    r->qkv_b = add_vector(b, p, "attention.attention.query.bias", C, LCL_INIT_ZEROS, false);
    add_vector(b, p, "attention.attention.key.bias", C, LCL_INIT_ZEROS, true);
    add_vector(b, p, "attention.attention.value.bias", C, LCL_INIT_ZEROS, true);
    add_linear(b, p, "attention.output.dense", C, C, &r->out_w, &r->out_b);
    add_norm(b, p, "attention.output.LayerNorm", C, &r->ln1_w, &r->ln1_b);
    r->q_w = r->q_b = r->kv_w = r->kv_b = r->cross_w = r->cross_b = r->ln2_w = r->ln2_b = -1;
    if (l % c->qformer.cross_every == 0) {
        add_linear(b, p, "crossattention.attention.query", C, C, &r->q_w, &r->q_b);
        r->kv_w = add_matrix(b, p, "crossattention.attention.key.weight", C, Cv, from_image, false);
        add_matrix(b, p, "crossattention.attention.value.weight", C, Cv, from_image, true);
        r->kv_b = add_vector(b, p, "crossattention.attention.key.bias", C, LCL_INIT_ZEROS, false);
        add_vector(b, p, "crossattention.attention.value.bias", C, LCL_INIT_ZEROS, true);
        add_linear(b, p, "crossattention.output.dense", C, C, &r->cross_w, &r->cross_b);
        add_norm(b, p, "crossattention.output.LayerNorm", C, &r->ln2_w, &r->ln2_b);
    }
    add_linear(b, p, "intermediate_query.dense", F, C, &r->fc1_w, &r->fc1_b);
    add_linear(b, p, "output_query.dense", C, F, &r->fc2_w, &r->fc2_b);
    add_norm(b, p, "output_query.LayerNorm", C, &r->ln3_w, &r->ln3_b);
}

static void qformer(struct builder *b, struct lcl_model_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    r->query_tokens =
        add(b,
            (struct lcl_param_spec){
                .init = LCL_INIT_NORMAL, .init_std = 0.02f, .decay = true, .f32 = true},
            3, (int64_t[]){1, c->qformer.Q, c->qformer.C}, "query_tokens");
    add_norm(b, "qformer.", "layernorm", c->qformer.C, &r->query_norm_w, &r->query_norm_b);
    for (int64_t l = 0; l < c->qformer.n_layers; l++) qformer_layer(b, l, &r->qformer[l]);
    add_linear(b, "", "language_projection", c->text.C, c->qformer.C, &r->proj1_w, &r->proj1_b);
}

static void projector(struct builder *b, struct lcl_model_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    const char *p = "multi_modal_projector.";
    int64_t Cv = c->vision.C, C = c->text.C;
    b->part = LCL_PART_PROJECTOR;
    r->proj1_b = r->proj2_w = r->proj2_b = -1;
    r->std_mean = r->std_inv = -1;
    if (c->standardize) { /* constants of the tower's features, measured once; never trained */
        b->unused = true;
        r->std_mean = add_vector(b, "image_standardize.", "mean", Cv, LCL_INIT_ZEROS, false);
        r->std_inv = add_vector(b, "image_standardize.", "inv_std", Cv, LCL_INIT_ONES, false);
        b->unused = false;
    }
    if (c->projector == LCL_PROJECTOR_QFORMER) {
        qformer(b, r);
        return;
    }
    r->proj1_w = add_matrix(b, p, "linear_1.weight", C, Cv, weight_std(c, Cv, 0), false);
    if (c->projector_bias) r->proj1_b = add_vector(b, p, "linear_1.bias", C, LCL_INIT_ZEROS, false);
    if (c->projector == LCL_PROJECTOR_LINEAR) return;
    r->proj2_w = add_matrix(b, p, "linear_2.weight", C, C, weight_std(c, C, 0), false);
    if (c->projector_bias) r->proj2_b = add_vector(b, p, "linear_2.bias", C, LCL_INIT_ZEROS, false);
}

static void text_layer(struct builder *b, int64_t l, struct lcl_text_layer_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    const struct lcl_text_config *t = &c->text;
    int64_t C = t->C, F = t->F, L = t->n_layers, Cq = t->H * t->D, Ckv = t->G * t->D;
    double std = weight_std(c, C, 0);
    char p[64];
    snprintf(p, sizeof p, "language_model.model.layers.%lld.", (long long)l);
    r->norm1 = add_vector(b, p, "input_layernorm.weight", C, LCL_INIT_ONES, false);
    r->qkv_w = add_matrix(b, p, "self_attn.q_proj.weight", Cq, C, std, false);
    add_matrix(b, p, "self_attn.k_proj.weight", Ckv, C, std, true);
    add_matrix(b, p, "self_attn.v_proj.weight", Ckv, C, std, true);
    r->o_w = add_matrix(b, p, "self_attn.o_proj.weight", C, Cq, weight_std(c, Cq, L), false);
    r->norm2 = add_vector(b, p, "post_attention_layernorm.weight", C, LCL_INIT_ONES, false);
    r->gate_up_w = add_matrix(b, p, "mlp.gate_proj.weight", F, C, std, false);
    add_matrix(b, p, "mlp.up_proj.weight", F, C, std, true);
    r->down_w = add_matrix(b, p, "mlp.down_proj.weight", C, F, weight_std(c, F, L), false);
}

static void text(struct builder *b, struct lcl_model_rows *r)
{
    const struct lcl_model_config *c = &b->m->config;
    const struct lcl_text_config *t = &c->text;
    const char *p = "language_model.";
    b->part = LCL_PART_TEXT;
    r->embed = add_matrix(b, p, "model.embed_tokens.weight", t->V, t->C,
                          c->embed_std > 0 ? c->embed_std : 0.02, false);
    for (int64_t l = 0; l < t->n_layers; l++) text_layer(b, l, &r->text[l]);
    r->final_norm = add_vector(b, p, "model.norm.weight", t->C, LCL_INIT_ONES, false);
    r->head_w = t->tied ? r->embed
                        : add_matrix(b, p, "lm_head.weight", t->V, t->C,
                                     c->head_std > 0 ? c->head_std : 0.02, false);
    r->classifier = -1;
    if (c->n_classes > 0) {
        b->part = LCL_PART_HEAD;
        r->classifier = add_table(b, "classifier.weight", c->n_classes, c->vision.C,
                                  1 / sqrt((double)c->vision.C));
    }
}

void lcl_text_inv_freq(const struct lcl_text_config *t, float *inv_freq)
{
    for (int64_t i = 0; i < t->D / 2; i++) {
        double f = 1 / pow(t->rope_theta, 2.0 * (double)i / (double)t->D);
        if (t->rope_scaling == LCL_ROPE_LINEAR) f /= t->rope_factor;
        if (t->rope_scaling == LCL_ROPE_LLAMA3) {
            double wavelength = 2 * 3.141592653589793 / f,
                   original = (double)t->rope_original_positions;
            double smooth = (original / wavelength - t->rope_low_freq_factor) /
                            (t->rope_high_freq_factor - t->rope_low_freq_factor);
            if (wavelength > original / t->rope_low_freq_factor)
                f /= t->rope_factor;
            else if (wavelength >= original / t->rope_high_freq_factor)
                f = (1 - smooth) * f / t->rope_factor + smooth * f;
        }
        inv_freq[i] = (float)f;
    }
}

lcl_status lcl_model_add_blocks(struct lcl_model *m, const char *prefix,
                                const struct lcl_vision_config *v,
                                struct lcl_vision_layer_rows *rows)
{
    struct builder b = {.m = m, .part = LCL_PART_VISION};
    for (int64_t l = 0; l < v->n_layers; l++) vision_layer(&b, prefix, v, l, &rows[l]);
    return b.status;
}

lcl_status lcl_model_create(struct lcl_model *m, const struct lcl_model_config *config)
{
    *m = (struct lcl_model){.config = *config, .rope_scale = 1};
    LCL_TRY(lcl_model_config_check(config));
    lcl_params_init(&m->params);
    m->rows.vision = calloc((size_t)config->vision.n_layers, sizeof *m->rows.vision);
    m->rows.text = calloc((size_t)config->text.n_layers, sizeof *m->rows.text);
    bool queries = config->projector == LCL_PROJECTOR_QFORMER;
    if (queries)
        m->rows.qformer = calloc((size_t)config->qformer.n_layers, sizeof *m->rows.qformer);
    m->inv_freq = calloc((size_t)config->text.D / 2, sizeof *m->inv_freq);
    struct builder b = {.m = m};
    if (!m->rows.vision || !m->rows.text || !m->inv_freq || (queries && !m->rows.qformer)) {
        b.status = LCL_FAIL(LCL_MEMORY, "no memory for the model's table");
    } else {
        vision(&b, &m->rows);
        projector(&b, &m->rows);
        text(&b, &m->rows);
        lcl_text_inv_freq(&config->text, m->inv_freq);
        if (b.status == LCL_OK) b.status = lcl_lora_add(m);
    }
    if (b.status != LCL_OK) lcl_model_free(m);
    return b.status;
}

lcl_status lcl_model_reserve(struct lcl_model *m, bool bf16, bool with_grads, bool with_moments)
{
    struct lcl_arena values, grads, moments;
    m->bf16 = m->params.bf16 = bf16;
    lcl_arena_measure(&values, "parameters");
    lcl_arena_measure(&grads, "gradients");
    lcl_arena_measure(&moments, "optimizer states");
    lcl_params_layout(&m->params, &values, &grads, &moments);
    LCL_TRY(lcl_arena_reserve(&m->values, "parameters", values.used_bytes));
    if (with_grads) LCL_TRY(lcl_arena_reserve(&m->grads, "gradients", grads.used_bytes));
    if (with_moments)
        LCL_TRY(lcl_arena_reserve(&m->moments, "optimizer states", moments.used_bytes));
    lcl_params_layout(&m->params, &m->values, with_grads ? &m->grads : NULL,
                      with_moments ? &m->moments : NULL);
    return LCL_OK;
}

void lcl_model_free(struct lcl_model *m)
{
    lcl_arena_free(&m->values);
    lcl_arena_free(&m->grads);
    lcl_arena_free(&m->moments);
    lcl_params_free(&m->params);
    free(m->rows.vision);
    free(m->rows.text);
    free(m->rows.qformer);
    free(m->inv_freq);
    free(m->adapter);
    *m = (struct lcl_model){0};
}
