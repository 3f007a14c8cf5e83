#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "checkpoint/hf_config.h"

static const char *activation_name(enum lcl_gelu_kind kind)
{
    static const char *const names[] = {[LCL_GELU_ERF] = "gelu",
                                        [LCL_GELU_QUICK] = "quick_gelu",
                                        [LCL_GELU_TANH] = "gelu_pytorch_tanh"};
    return names[kind];
}

static const char *dtype_name(lcl_dtype dtype)
{
    return dtype == LCL_BF16 ? "bfloat16" : dtype == LCL_F16 ? "float16" : "float32";
}

static void set_id(json_t *object, const char *key, int32_t id)
{
    if (id >= 0) json_object_set_new(object, key, json_integer(id));
}

/* The rope keys of transformers 5 and, beside them, of 4. */
static void write_rope(json_t *text, const struct lcl_text_config *t)
{
    json_t *rope = json_pack("{s:f}", "rope_theta", t->rope_theta);
    const char *type = t->rope_scaling == LCL_ROPE_LINEAR   ? "linear"
                       : t->rope_scaling == LCL_ROPE_LLAMA3 ? "llama3"
                                                            : "default";
    json_object_set_new(rope, "rope_type", json_string(type));
    if (t->rope_scaling != LCL_ROPE_DEFAULT)
        json_object_set_new(rope, "factor", json_real(t->rope_factor));
    if (t->rope_scaling == LCL_ROPE_LLAMA3) {
        json_object_set_new(rope, "low_freq_factor", json_real(t->rope_low_freq_factor));
        json_object_set_new(rope, "high_freq_factor", json_real(t->rope_high_freq_factor));
        json_object_set_new(rope, "original_max_position_embeddings",
                            json_integer(t->rope_original_positions));
    }
    json_object_set_new(text, "rope_theta", json_real(t->rope_theta));
    if (t->rope_scaling != LCL_ROPE_DEFAULT) {
        json_t *old = json_copy(rope);
        json_object_del(old, "rope_theta");
        json_object_set_new(text, "rope_scaling", old);
    }
    json_object_set_new(text, "rope_parameters", rope);
}

static json_t *text_section(const struct lcl_model_config *m)
{
    const struct lcl_text_config *t = &m->text;
    json_t *s = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:b, s:b}",
                          "model_type", "llama", "hidden_act", "silu", "hidden_size",
                          (json_int_t)t->C, "intermediate_size", (json_int_t)t->F,
                          "num_hidden_layers", (json_int_t)t->n_layers, "num_attention_heads",
                          (json_int_t)t->H, "num_key_value_heads", (json_int_t)t->G, "head_dim",
                          (json_int_t)t->D, "vocab_size", (json_int_t)t->V, "rms_norm_eps", t->eps,
                          "max_position_embeddings", (json_int_t)t->max_positions,
                          "tie_word_embeddings", (int)t->tied, "attention_bias", 0, "mlp_bias", 0);
    write_rope(s, t);
    set_id(s, "bos_token_id", m->bos_token);
    set_id(s, "eos_token_id", m->eos_token);
    set_id(s, "pad_token_id", m->pad_token);
    return s;
}

static json_t *vision_section(const struct lcl_vision_config *v)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:I, s:I, s:f, s:I}", "model_type",
                     "clip_vision_model", "hidden_act", activation_name(v->act), "hidden_size",
                     (json_int_t)v->C, "intermediate_size", (json_int_t)v->F, "num_hidden_layers",
                     (json_int_t)v->n_layers, "num_attention_heads", (json_int_t)v->H,
                     "num_channels", 3, "image_size", (json_int_t)v->image_size, "patch_size",
                     (json_int_t)v->patch_size, "layer_norm_eps", v->eps, "projection_dim",
                     (json_int_t)v->C);
}

lcl_status lcl_refuse_qformer(const struct lcl_model_config *m, const char *form)
{
    if (m->projector != LCL_PROJECTOR_QFORMER) return LCL_OK;
    return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                         "lcl's own checkpoint is the form of such a model; a text-only export "
                         "writes its decoder",
                         "a model with mm_projector_type: qformer: %s has no Q-Former", form);
}

lcl_status lcl_hf_config_write(const struct lcl_model_config *m, lcl_dtype dtype, char **text)
{
    *text = NULL;
    if (m->pool != LCL_POOL_NONE)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "train with mm_image_pool: none to export the model",
                             "a model with mm_image_pool: %s has no HF form: "
                             "LlavaForConditionalGeneration feeds every patch to the decoder",
                             m->pool == LCL_POOL_MEAN ? "mean" : "2x2");
    LCL_TRY(lcl_refuse_qformer(m, "LlavaForConditionalGeneration"));
    bool linear = m->projector != LCL_PROJECTOR_MLP2;
    json_t *root = json_pack(
        "{s:[s], s:s, s:s, s:s, s:I, s:s, s:b, s:I, s:s, s:b, s:o, s:o}", "architectures",
        "LlavaForConditionalGeneration", "model_type", "llava", "dtype", dtype_name(dtype),
        "torch_dtype", dtype_name(dtype), "image_seq_length", (json_int_t)lcl_tokens_per_image(m),
        "projector_hidden_act", linear ? "linear" : activation_name(m->projector_act),
        "multimodal_projector_bias", (int)m->projector_bias, "vision_feature_layer",
        (json_int_t)m->select_layer, "vision_feature_select_strategy",
        m->keep_class ? "full" : "default", "tie_word_embeddings", (int)m->text.tied, "text_config",
        text_section(m), "vision_config", vision_section(&m->vision));
    set_id(root, "image_token_index", m->image_token);
    set_id(root, "bos_token_id", m->bos_token);
    set_id(root, "eos_token_id", m->eos_token);
    set_id(root, "pad_token_id", m->pad_token);
    *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(root);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for config.json");
}

lcl_status lcl_hf_text_config_write(const struct lcl_model_config *m, lcl_dtype dtype, char **text)
{
    json_t *root = text_section(m);
    json_object_set_new(root, "architectures", json_pack("[s]", "LlamaForCausalLM"));
    json_object_set_new(root, "dtype", json_string(dtype_name(dtype)));
    json_object_set_new(root, "torch_dtype", json_string(dtype_name(dtype)));
    *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(root);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for config.json");
}

lcl_status lcl_hf_config_write_v1(const struct lcl_model_config *m, lcl_dtype dtype,
                                  const char *tower, char **text, char **tower_text)
{
    bool linear = m->projector == LCL_PROJECTOR_LINEAR;
    *text = *tower_text = NULL;
    LCL_TRY(lcl_refuse_qformer(m, "the original LLaVA"));
    if (m->pool != LCL_POOL_NONE || m->projector == LCL_PROJECTOR_LINEAR2 ||
        (!linear && m->projector_act != LCL_GELU_ERF))
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "export with --to hf, where the model has a form",
                             "the original LLaVA has linear projectors and two layers with gelu "
                             "(mlp2x_gelu), and no pooling");
    json_t *root = text_section(m);
    json_t *more =
        json_pack("{s:s, s:[s], s:s, s:s, s:s, s:I, s:s, s:I, s:b, s:b}", "model_type", "llava",
                  "architectures", "LlavaLlamaForCausalLM", "torch_dtype", dtype_name(dtype),
                  "mm_vision_tower", tower, "mm_projector_type", linear ? "linear" : "mlp2x_gelu",
                  "mm_vision_select_layer", (json_int_t)m->select_layer, "mm_vision_select_feature",
                  m->keep_class ? "cls_patch" : "patch", "mm_hidden_size", (json_int_t)m->vision.C,
                  "use_mm_proj", 1, "mm_use_im_start_end", 0);
    json_object_update(root, more);
    json_decref(more);
    set_id(root, "image_token_index", m->image_token);
    json_t *clip = json_pack("{s:s, s:[s], s:I, s:o}", "model_type", "clip", "architectures",
                             "CLIPModel", "projection_dim", (json_int_t)m->vision.C,
                             "vision_config", vision_section(&m->vision));
    *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    *tower_text = json_dumps(clip, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(root);
    json_decref(clip);
    return *text && *tower_text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for config.json");
}

/* ---- all of the config, for checkpoints: one list makes both directions ---- */

/* I(field, low, high), F(field), B(field) */
#define MODEL_CONFIG_FIELDS(I, F, B)                          \
    I(vision.image_size, 1, 4096)                             \
    I(vision.patch_size, 1, 4096)                             \
    I(vision.C, 4, 65536)                                     \
    I(vision.F, 4, 262144)                                    \
    I(vision.n_layers, 1, 512)                                \
    I(vision.H, 1, 512)                                       \
    I(vision.act, LCL_GELU_ERF, LCL_GELU_TANH)                \
    F(vision.eps)                                             \
    I(text.C, 4, 65536)                                       \
    I(text.F, 4, 262144)                                      \
    I(text.n_layers, 1, 512)                                  \
    I(text.H, 1, 512)                                         \
    I(text.G, 1, 512)                                         \
    I(text.D, 1, 4096)                                        \
    I(text.V, 1, 1 << 24)                                     \
    F(text.eps)                                               \
    F(text.rope_theta)                                        \
    I(text.rope_scaling, LCL_ROPE_DEFAULT, LCL_ROPE_LLAMA3)   \
    F(text.rope_factor)                                       \
    F(text.rope_low_freq_factor)                              \
    F(text.rope_high_freq_factor)                             \
    I(text.rope_original_positions, 0, 100000000)             \
    I(text.max_positions, 1, 100000000)                       \
    B(text.tied)                                              \
    I(projector, LCL_PROJECTOR_LINEAR, LCL_PROJECTOR_QFORMER) \
    I(projector_act, LCL_GELU_ERF, LCL_GELU_TANH)             \
    B(projector_bias)                                         \
    I(select_layer, -512, 512)                                \
    B(keep_class)                                             \
    I(pool, LCL_POOL_NONE, LCL_POOL_2X2)                      \
    B(standardize)                                            \
    I(image_token, -1, INT32_MAX)                             \
    I(bos_token, -1, INT32_MAX)                               \
    I(eos_token, -1, INT32_MAX)                               \
    I(pad_token, -1, INT32_MAX)                               \
    I(n_classes, 0, 1 << 24)                                  \
    B(fan_in_init)                                            \
    F(embed_std)                                              \
    F(head_std)

/* Of models that have one. */
#define QFORMER_FIELDS(I, F)       \
    I(qformer.Q, 1, 4096)          \
    I(qformer.C, 4, 65536)         \
    I(qformer.F, 4, 262144)        \
    I(qformer.n_layers, 1, 512)    \
    I(qformer.H, 1, 512)           \
    I(qformer.cross_every, 1, 512) \
    F(qformer.eps)

lcl_status lcl_model_config_to_json(const struct lcl_model_config *m, char **text)
{
    json_t *root = json_object();
#define I(field, low, high) json_object_set_new(root, #field, json_integer((json_int_t)m->field));
#define F(field) json_object_set_new(root, #field, json_real(m->field));
#define B(field) json_object_set_new(root, #field, json_boolean(m->field));
    MODEL_CONFIG_FIELDS(I, F, B)
    if (m->projector == LCL_PROJECTOR_QFORMER) {
        QFORMER_FIELDS(I, F)
    }
#undef I
#undef F
#undef B
    if (m->lora.rank > 0)
        json_object_set_new(root, "lora",
                            json_pack("{s:I, s:f, s:s}", "rank", (json_int_t)m->lora.rank, "alpha",
                                      m->lora.alpha, "targets", m->lora.targets));
    *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(root);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for the model config");
}

static lcl_status read_int(const json_t *root, const char *where, const char *key, json_int_t low,
                           json_int_t high, json_int_t *out)
{
    const json_t *v = json_object_get(root, key);
    if (!json_is_integer(v))
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %s", where, key, v ? "no whole number" : "missing");
    *out = json_integer_value(v);
    if (*out < low || *out > high)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %lld, wanted %lld..%lld", where, key,
                        (long long)*out, (long long)low, (long long)high);
    return LCL_OK;
}

static lcl_status read_real(const json_t *root, const char *where, const char *key, double *out)
{
    const json_t *v = json_object_get(root, key);
    if (!json_is_number(v) || !isfinite(json_number_value(v)) || json_number_value(v) < 0)
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %s", where, key,
                        v ? "no number of 0 or more" : "missing");
    *out = json_number_value(v);
    return LCL_OK;
}

static lcl_status read_bool(const json_t *root, const char *where, const char *key, bool *out)
{
    const json_t *v = json_object_get(root, key);
    if (!json_is_boolean(v))
        return LCL_FAIL(LCL_FORMAT, "%s: %s is %s", where, key,
                        v ? "neither true nor false" : "missing");
    *out = json_is_true(v);
    return LCL_OK;
}

/* Absent where there are no adapters. */
static lcl_status read_lora(const json_t *root, const char *where, struct lcl_lora_config *lora)
{
    const json_t *object = json_object_get(root, "lora");
    const char *targets = json_string_value(json_object_get(object, "targets"));
    json_int_t rank;
    if (!object) return LCL_OK;
    LCL_TRY(read_int(object, where, "rank", 1, 4096, &rank));
    LCL_TRY(read_real(object, where, "alpha", &lora->alpha));
    if (!targets || strlen(targets) >= sizeof lora->targets)
        return LCL_FAIL(LCL_FORMAT, "%s: lora.targets is %s", where,
                        targets ? "too long" : "missing or no string");
    lora->rank = rank;
    snprintf(lora->targets, sizeof lora->targets, "%s", targets);
    return LCL_OK;
}

static lcl_status read_fields(const json_t *root, const char *where, struct lcl_model_config *m)
{
    json_int_t x;
#define I(field, low, high)                                \
    LCL_TRY(read_int(root, where, #field, low, high, &x)); \
    m->field = (__typeof__(m->field))x;
#define F(field) LCL_TRY(read_real(root, where, #field, &m->field));
#define B(field) LCL_TRY(read_bool(root, where, #field, &m->field));
    MODEL_CONFIG_FIELDS(I, F, B)
    if (m->projector == LCL_PROJECTOR_QFORMER) {
        QFORMER_FIELDS(I, F)
    }
#undef I
#undef F
#undef B
    LCL_TRY(read_lora(root, where, &m->lora));
    return lcl_model_config_check(m);
}

lcl_status lcl_model_config_from_json(const char *text, const char *where,
                                      struct lcl_model_config *m)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root) return LCL_FAIL(LCL_FORMAT, "%s: model config: %s", where, error.text);
    *m = (struct lcl_model_config){0};
    lcl_status status = read_fields(root, where, m);
    json_decref(root);
    return status;
}
