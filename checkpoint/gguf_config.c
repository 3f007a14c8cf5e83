/* Model configs out of GGUF metadata, and into it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/gguf_model.h"

/* Keys of one prefix being read; the first failure stays. */
struct reader {
    const struct lcl_gguf *g;
    const char *prefix; /* "llama." */
    lcl_status status;
};

static const char *full_key(const struct reader *r, const char *key, char full[128])
{
    snprintf(full, 128, "%s%s", r->prefix, key);
    return full;
}

static bool has(const struct reader *r, const char *key)
{
    char full[128];
    return lcl_gguf_find(r->g, full_key(r, key, full)) != NULL;
}

/* fallback below low: the key must be there. */
static int64_t whole(struct reader *r, const char *key, int64_t fallback, int64_t low, int64_t high)
{
    char full[128];
    int64_t x = fallback;
    full_key(r, key, full);
    if (r->status == LCL_OK && fallback < low && !has(r, key))
        r->status = LCL_FAIL(LCL_FORMAT, "%s has no %s", r->g->path, full);
    if (r->status == LCL_OK) r->status = lcl_gguf_get_int(r->g, full, low, high, &x);
    return r->status == LCL_OK ? x : low;
}

static double number(struct reader *r, const char *key, double fallback, double low, double high)
{
    char full[128];
    double x = fallback;
    full_key(r, key, full);
    if (r->status == LCL_OK && fallback < low && !has(r, key))
        r->status = LCL_FAIL(LCL_FORMAT, "%s has no %s", r->g->path, full);
    if (r->status == LCL_OK) r->status = lcl_gguf_get_real(r->g, full, low, high, &x);
    return r->status == LCL_OK ? x : low;
}

/* A text key must be one of `known`, a list that ends with NULL; its index, or -1 where absent. */
static int word(struct reader *r, const char *key, const char *const *known)
{
    char full[128], *text = NULL, list[200] = "";
    int found = -1;
    if (r->status != LCL_OK) return -1;
    r->status = lcl_gguf_get_text(r->g, full_key(r, key, full), &text);
    for (int i = 0; text && known[i]; i++) {
        if (strcmp(text, known[i]) == 0) found = i;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", known[i]);
    }
    if (r->status == LCL_OK && text && found < 0)
        r->status = LCL_FAIL(LCL_UNSUPPORTED, "%s: %s is \"%.100s\"; known: %s", r->g->path, full,
                             text, list);
    free(text);
    return found;
}

static void must_be(struct reader *r, const char *architecture)
{
    const char *const known[] = {architecture, NULL};
    struct reader plain = {r->g, "", r->status};
    if (word(&plain, "general.architecture", known) < 0 && plain.status == LCL_OK)
        plain.status = LCL_FAIL(LCL_FORMAT, "%s has no general.architecture", r->g->path);
    r->status = plain.status;
}

/* The shape of the matrix that gives a size which no key has to give. */
static int64_t rows_of(struct reader *r, const char *name)
{
    const struct lcl_gguf_tensor *t = lcl_gguf_tensor(r->g, name);
    if (t && t->n_dims == 2) return t->shape[0];
    if (r->status == LCL_OK)
        r->status = LCL_FAIL(LCL_FORMAT, "%s has no matrix %s", r->g->path, name);
    return 1;
}

/* Floats of the file are f32: 1e-5 came from the decimal number that is nearest. */
static double decimal(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    return (float)atof(text) == (float)x ? atof(text) : x;
}

/* ---- rotary positions ---- */

float *lcl_gguf_rope_factors(const struct lcl_text_config *t)
{
    size_t n = (size_t)t->D / 2;
    struct lcl_text_config plain = *t;
    float *factors = calloc(2 * n + 1, sizeof *factors);
    plain.rope_scaling = LCL_ROPE_DEFAULT;
    if (!factors) return NULL;
    lcl_text_inv_freq(&plain, factors);
    lcl_text_inv_freq(t, factors + n);
    for (size_t i = 0; i < n; i++) factors[i] /= factors[n + i];
    return factors;
}

static bool explains(const struct lcl_text_config *t, const float *stored)
{
    float *factors = lcl_gguf_rope_factors(t);
    bool same = factors != NULL;
    for (int64_t i = 0; same && i < t->D / 2; i++)
        same = fabsf(factors[i] - stored[i]) <= 1e-4f * fabsf(stored[i]);
    free(factors);
    return same;
}

/* Keys of our own where the file is ours; else Llama 3's numbers and the greatest factor. */
static void read_llama3(struct reader *r, struct lcl_text_config *t,
                        const struct lcl_gguf_tensor *freqs)
{
    struct reader own = {r->g, "lcl.rope.", r->status};
    float *stored = malloc(((size_t)t->D / 2 + 1) * sizeof *stored), most = 1;
    if (!stored) own.status = LCL_FAIL(LCL_MEMORY, "no memory for rotary factors");
    if (own.status == LCL_OK && (freqs->n_dims != 1 || freqs->shape[0] != t->D / 2))
        own.status = LCL_FAIL(LCL_SHAPE, "%s: %s has %zu factors, wanted %lld", r->g->path,
                              freqs->name, freqs->count, (long long)t->D / 2);
    if (own.status == LCL_OK) own.status = lcl_gguf_read_rows(freqs, 0, 1, stored);
    for (int64_t i = 0; own.status == LCL_OK && i < t->D / 2; i++) most = fmaxf(most, stored[i]);
    t->rope_scaling = LCL_ROPE_LLAMA3;
    t->rope_factor = number(&own, "factor", decimal((double)most), 1e-6, 1e6);
    t->rope_low_freq_factor = number(&own, "low_freq_factor", 1, 1e-6, 1e6);
    t->rope_high_freq_factor = number(&own, "high_freq_factor", 4, 1e-6, 1e6);
    t->rope_original_positions = whole(&own, "original_context_length", 8192, 1, 100000000);
    if (own.status == LCL_OK && !explains(t, stored))
        own.status = LCL_FAIL(LCL_UNSUPPORTED,
                              "%s: the factors of %s are not those of llama3 scaling (factor %g, "
                              "low 1, high 4, 8192 positions)",
                              r->g->path, freqs->name, t->rope_factor);
    r->status = own.status;
    free(stored);
}

static void read_rope(struct reader *r, struct lcl_text_config *t)
{
    static const char *const types[] = {"none", "linear", NULL};
    const struct lcl_gguf_tensor *freqs = lcl_gguf_tensor(r->g, "rope_freqs.weight");
    t->rope_theta = decimal(number(r, "rope.freq_base", 10000, 1, 1e12));
    t->rope_factor = t->rope_low_freq_factor = t->rope_high_freq_factor = 1;
    int64_t rotated = whole(r, "rope.dimension_count", t->D, 1, 4096);
    if (r->status == LCL_OK && rotated != t->D)
        r->status = LCL_FAIL(LCL_UNSUPPORTED,
                             "%s: %srope.dimension_count is %lld of heads of %lld: all are rotated",
                             r->g->path, r->prefix, (long long)rotated, (long long)t->D);
    int type = word(r, "rope.scaling.type", types);
    double factor = number(r, "rope.scaling.factor", 0, 0, 1e6);
    if (type < 0 && factor == 0) factor = number(r, "rope.scale_linear", 0, 0, 1e6); /* old files */
    if (type != 0 && factor != 0 && factor != 1) {
        t->rope_scaling = LCL_ROPE_LINEAR;
        t->rope_factor = decimal(factor);
    }
    if (r->status == LCL_OK && freqs) read_llama3(r, t, freqs);
}

/* ---- the decoder ---- */

static int32_t token_id(struct reader *r, const char *key, int64_t V)
{
    return (int32_t)whole(r, key, -1, -1, V - 1);
}

static void read_text(struct reader *r, struct lcl_text_config *t)
{
    t->C = whole(r, "embedding_length", 0, 4, 65536);
    t->F = whole(r, "feed_forward_length", 0, 4, 262144);
    t->n_layers = whole(r, "block_count", 0, 1, 512);
    t->H = whole(r, "attention.head_count", 0, 1, 512);
    t->G = whole(r, "attention.head_count_kv", t->H, 1, 512);
    t->D = whole(r, "attention.key_length", t->C / t->H, 1, 4096);
    t->V = rows_of(r, "token_embd.weight");
    t->eps = decimal(number(r, "attention.layer_norm_rms_epsilon", -1, 0, 1));
    t->max_positions = whole(r, "context_length", 0, 1, 100000000);
    t->tied = lcl_gguf_tensor(r->g, "output.weight") == NULL;
    int64_t value = whole(r, "attention.value_length", t->D, 1, 4096);
    int64_t experts = whole(r, "expert_count", 0, 0, 1 << 20);
    if (r->status == LCL_OK && value != t->D)
        r->status = LCL_FAIL(LCL_UNSUPPORTED, "%s: attention.value_length %lld is not key_length",
                             r->g->path, (long long)value);
    if (r->status == LCL_OK && experts > 0)
        r->status = LCL_FAIL(LCL_UNSUPPORTED, "%s: a mixture of %lld experts", r->g->path,
                             (long long)experts);
    int64_t window = whole(r, "attention.sliding_window", 0, 0, UINT32_MAX);
    if (r->status == LCL_OK && window > 0 && window < t->max_positions)
        r->status = LCL_FAIL(LCL_UNSUPPORTED, "%s: a sliding window of %lld positions", r->g->path,
                             (long long)window);
    read_rope(r, t);
}

lcl_status lcl_gguf_read_text(const struct lcl_gguf *g, struct lcl_model_config *m)
{
    struct reader r = {g, "llama.", LCL_OK}, ids = {g, "tokenizer.ggml.", LCL_OK};
    *m = (struct lcl_model_config){.pool = LCL_POOL_NONE};
    lcl_model_config_text_only(m);
    must_be(&r, "llama");
    read_text(&r, &m->text);
    LCL_TRY(r.status);
    m->bos_token = token_id(&ids, "bos_token_id", m->text.V);
    m->eos_token = token_id(&ids, "eos_token_id", m->text.V);
    m->pad_token = token_id(&ids, "padding_token_id", m->text.V);
    LCL_TRY(ids.status);
    lcl_status status = lcl_model_config_check(m);
    return status == LCL_OK ? status : lcl_fail_context(status, "%s", g->path);
}

static void put_rope(struct lcl_gguf_meta *meta, const struct lcl_text_config *t)
{
    lcl_gguf_put_u32(meta, "llama.rope.dimension_count", (uint32_t)t->D);
    lcl_gguf_put_f32(meta, "llama.rope.freq_base", (float)t->rope_theta);
    if (t->rope_scaling == LCL_ROPE_LINEAR) {
        lcl_gguf_put_text(meta, "llama.rope.scaling.type", "linear");
        lcl_gguf_put_f32(meta, "llama.rope.scaling.factor", (float)t->rope_factor);
    } else if (t->rope_scaling == LCL_ROPE_LLAMA3) {
        lcl_gguf_put_f32(meta, "lcl.rope.factor", (float)t->rope_factor);
        lcl_gguf_put_f32(meta, "lcl.rope.low_freq_factor", (float)t->rope_low_freq_factor);
        lcl_gguf_put_f32(meta, "lcl.rope.high_freq_factor", (float)t->rope_high_freq_factor);
        lcl_gguf_put_u32(meta, "lcl.rope.original_context_length",
                         (uint32_t)t->rope_original_positions);
    }
}

void lcl_gguf_put_text_config(struct lcl_gguf_meta *meta, const struct lcl_model_config *m)
{
    const struct lcl_text_config *t = &m->text;
    lcl_gguf_put_text(meta, "general.architecture", "llama");
    lcl_gguf_put_text(meta, "general.type", "model");
    lcl_gguf_put_u32(meta, "llama.vocab_size", (uint32_t)t->V);
    lcl_gguf_put_u32(meta, "llama.context_length", (uint32_t)t->max_positions);
    lcl_gguf_put_u32(meta, "llama.embedding_length", (uint32_t)t->C);
    lcl_gguf_put_u32(meta, "llama.block_count", (uint32_t)t->n_layers);
    lcl_gguf_put_u32(meta, "llama.feed_forward_length", (uint32_t)t->F);
    lcl_gguf_put_u32(meta, "llama.attention.head_count", (uint32_t)t->H);
    lcl_gguf_put_u32(meta, "llama.attention.head_count_kv", (uint32_t)t->G);
    lcl_gguf_put_u32(meta, "llama.attention.key_length", (uint32_t)t->D);
    lcl_gguf_put_u32(meta, "llama.attention.value_length", (uint32_t)t->D);
    lcl_gguf_put_f32(meta, "llama.attention.layer_norm_rms_epsilon", (float)t->eps);
    put_rope(meta, t);
}

/* ---- tower and projector ---- */

/* The width is that of the projector's output. */
void lcl_gguf_least_text(const struct lcl_gguf *g, struct lcl_model_config *m)
{
    const struct lcl_gguf_tensor *last = lcl_gguf_tensor(g, "mm.2.weight");
    int64_t C = last && last->n_dims == 2 ? last->shape[0] : 4;
    lcl_model_config_vision_only(m, C);
}

static bool is_true(struct reader *r, const char *key) { return whole(r, key, 0, 0, 1) == 1; }

lcl_status lcl_gguf_read_vision(const struct lcl_gguf *g, struct lcl_model_config *m)
{
    static const char *const projectors[] = {"mlp", NULL};
    struct reader clip = {g, "clip.", LCL_OK};
    must_be(&clip, "clip");
    word(&clip, "projector_type", projectors);
    bool gelu = is_true(&clip, "use_gelu"), silu = is_true(&clip, "use_silu");
    struct reader r = {g, "clip.vision.", clip.status};
    struct lcl_vision_config *v = &m->vision;
    v->image_size = whole(&r, "image_size", 0, 1, 4096);
    v->patch_size = whole(&r, "patch_size", 0, 1, 4096);
    v->C = whole(&r, "embedding_length", 0, 4, 65536);
    v->F = whole(&r, "feed_forward_length", 0, 4, 262144);
    v->n_layers = whole(&r, "block_count", 0, 1, 512);
    v->H = whole(&r, "attention.head_count", 0, 1, 512);
    v->eps = decimal(number(&r, "attention.layer_norm_epsilon", -1, 0, 1));
    v->act = gelu ? LCL_GELU_TANH : LCL_GELU_QUICK;
    m->select_layer = v->n_layers - 1;
    const struct lcl_gguf_value *layers = lcl_gguf_find(g, "clip.vision.feature_layer");
    double layer = 0;
    if (r.status == LCL_OK && layers) {
        if (layers->kind != LCL_GGUF_ARRAY || layers->n != 1 ||
            !lcl_gguf_number(layers, 0, &layer) || !(layer >= 0 && layer <= 512))
            r.status =
                LCL_FAIL(LCL_UNSUPPORTED, "%s: %s is not an array of one layer within 0..512",
                         g->path, layers->key);
        m->select_layer = (int64_t)layer;
    }
    if (r.status == LCL_OK && silu)
        r.status = LCL_FAIL(LCL_UNSUPPORTED, "%s: clip.use_silu: GELUs can be computed", g->path);
    m->keep_class = false;
    m->projector = LCL_PROJECTOR_MLP2;
    m->projector_act = LCL_GELU_ERF;
    m->projector_bias = lcl_gguf_tensor(g, "mm.0.bias") != NULL;
    LCL_TRY(r.status);
    lcl_status status = lcl_model_config_check(m);
    return status == LCL_OK ? status : lcl_fail_context(status, "%s", g->path);
}

void lcl_gguf_put_vision_config(struct lcl_gguf_meta *meta, const struct lcl_model_config *m)
{
    const struct lcl_vision_config *v = &m->vision;
    int32_t used = (int32_t)lcl_vision_layers_used(m);
    lcl_gguf_put_text(meta, "general.architecture", "clip");
    lcl_gguf_put_text(meta, "general.type", "mmproj");
    lcl_gguf_put_bool(meta, "clip.has_vision_encoder", true);
    lcl_gguf_put_bool(meta, "clip.has_llava_projector", true);
    lcl_gguf_put_text(meta, "clip.projector_type", "mlp");
    lcl_gguf_put_bool(meta, "clip.use_gelu", v->act != LCL_GELU_QUICK);
    lcl_gguf_put_u32(meta, "clip.vision.image_size", (uint32_t)v->image_size);
    lcl_gguf_put_u32(meta, "clip.vision.patch_size", (uint32_t)v->patch_size);
    lcl_gguf_put_u32(meta, "clip.vision.embedding_length", (uint32_t)v->C);
    lcl_gguf_put_u32(meta, "clip.vision.feed_forward_length", (uint32_t)v->F);
    lcl_gguf_put_u32(meta, "clip.vision.projection_dim", (uint32_t)m->text.C);
    lcl_gguf_put_u32(meta, "clip.vision.block_count", (uint32_t)v->n_layers);
    lcl_gguf_put_u32(meta, "clip.vision.attention.head_count", (uint32_t)v->H);
    lcl_gguf_put_f32(meta, "clip.vision.attention.layer_norm_epsilon", (float)v->eps);
    /* llama.cpp takes the layer before the last where no key says which. */
    if (used != v->n_layers - 1) lcl_gguf_put_i32s(meta, "clip.vision.feature_layer", &used, 1);
}
