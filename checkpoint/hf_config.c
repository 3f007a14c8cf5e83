#include "checkpoint/hf_config.h"

#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf.h"
#include "core/json.h"
#include "core/log.h"

/* One JSON object being read; the first failure stays. */
struct reader {
    const char *path, *section; /* section: "" or "text_config." */
    const json_t *object;
    lcl_status *status;
};

static const json_t *get(const struct reader *r, const char *key)
{
    const json_t *v = json_object_get(r->object, key);
    return json_is_null(v) ? NULL : v;
}

static void fail_value(const struct reader *r, const char *key, const char *wanted)
{
    if (*r->status != LCL_OK) return;
    char *dump = json_dumps(get(r, key), JSON_COMPACT | JSON_ENCODE_ANY);
    *r->status = LCL_FAIL(LCL_FORMAT, "%s: %s%s is %.200s, wanted %s", r->path, r->section, key,
                          dump ? dump : "?", wanted);
    free(dump);
}

static int64_t whole(const struct reader *r, const char *key, int64_t fallback, int64_t low,
                     int64_t high)
{
    const json_t *v = get(r, key);
    if (!v) return fallback;
    int64_t x = json_is_integer(v) ? json_integer_value(v) : low - 1;
    if (x >= low && x <= high) return x;
    char wanted[96];
    snprintf(wanted, sizeof wanted, "a whole number within %lld..%lld", (long long)low,
             (long long)high);
    fail_value(r, key, wanted);
    return low;
}

static double number(const struct reader *r, const char *key, double fallback, double low,
                     double high)
{
    const json_t *v = get(r, key);
    if (!v) return fallback;
    double x = json_is_number(v) ? json_number_value(v) : low - 1;
    if (x >= low && x <= high) return x;
    char wanted[96];
    snprintf(wanted, sizeof wanted, "a number within %g..%g", low, high);
    fail_value(r, key, wanted);
    return high;
}

static bool flag(const struct reader *r, const char *key, bool fallback)
{
    const json_t *v = get(r, key);
    if (v && !json_is_boolean(v)) fail_value(r, key, "true or false");
    return v ? json_is_true(v) : fallback;
}

static const char *word(const struct reader *r, const char *key, const char *fallback)
{
    const json_t *v = get(r, key);
    if (v && !json_is_string(v)) fail_value(r, key, "a string");
    return json_is_string(v) ? json_string_value(v) : fallback;
}

static struct reader inside(const struct reader *r, const char *key, const char *section)
{
    const json_t *v = get(r, key);
    if (v && !json_is_object(v)) fail_value(r, key, "an object");
    return (struct reader){r->path, section, v, r->status};
}

static void refuse(const struct reader *r, const char *key, const char *value, const char *known)
{
    if (*r->status == LCL_OK)
        *r->status = LCL_FAIL(LCL_UNSUPPORTED, "%s: %s%s \"%.100s\": only %s can be computed",
                              r->path, r->section, key, value, known);
}

static void must_be_false(const struct reader *r, const char *key)
{
    if (flag(r, key, false)) refuse(r, key, "true", "false");
}

static void must_be_type(const struct reader *r, const char *key, const char *wanted)
{
    const char *type = word(r, key, wanted);
    if (strcmp(type, wanted) != 0) refuse(r, key, type, wanted);
}

static enum lcl_gelu_kind activation(const struct reader *r, const char *key, const char *fallback)
{
    const char *act = word(r, key, fallback);
    if (strcmp(act, "gelu") == 0) return LCL_GELU_ERF;
    if (strcmp(act, "quick_gelu") == 0) return LCL_GELU_QUICK;
    if (strcmp(act, "gelu_pytorch_tanh") == 0 || strcmp(act, "gelu_new") == 0) return LCL_GELU_TANH;
    refuse(r, key, act, "gelu, quick_gelu, gelu_pytorch_tanh and gelu_new");
    return LCL_GELU_ERF;
}

/* A size that may also be written as a pair of equal ones. */
static int64_t square_side(const struct reader *r, const char *key, int64_t fallback)
{
    const json_t *v = get(r, key);
    if (!json_is_array(v)) return whole(r, key, fallback, 1, 4096);
    const json_t *a = json_array_get(v, 0), *b = json_array_get(v, 1);
    if (json_array_size(v) != 2 || !json_is_integer(a) || !json_equal(a, b) ||
        json_integer_value(a) < 1 || json_integer_value(a) > 4096) {
        fail_value(r, key, "one side within 1..4096, or two equal ones");
        return 1;
    }
    return json_integer_value(a);
}

/* CLIPVisionConfig's defaults; LlavaConfig's, a CLIP ViT-L/14 at 336 px, where there is no section.
 */
static void read_vision(const struct reader *r, struct lcl_vision_config *v)
{
    bool none = !r->object;
    must_be_type(r, "model_type", "clip_vision_model");
    if (whole(r, "num_channels", 3, 1, 1024) != 3) fail_value(r, "num_channels", "3");
    v->image_size = square_side(r, "image_size", none ? 336 : 224);
    v->patch_size = square_side(r, "patch_size", none ? 14 : 32);
    v->C = whole(r, "hidden_size", none ? 1024 : 768, 4, 65536);
    v->F = whole(r, "intermediate_size", none ? 4096 : 3072, 4, 262144);
    v->n_layers = whole(r, "num_hidden_layers", none ? 24 : 12, 1, 512);
    v->H = whole(r, "num_attention_heads", none ? 16 : 12, 1, 512);
    v->act = activation(r, "hidden_act", "quick_gelu");
    v->eps = number(r, "layer_norm_eps", 1e-5, 0, 1);
}

/* rope_parameters (transformers 5), or rope_theta and rope_scaling (4). */
static void read_rope(const struct reader *r, struct lcl_text_config *t)
{
    struct reader p = inside(r, "rope_parameters", "text_config.rope_parameters.");
    if (!p.object) p = inside(r, "rope_scaling", "text_config.rope_scaling.");
    t->rope_theta = number(r, "rope_theta", 10000, 1, 1e12);
    t->rope_theta = number(&p, "rope_theta", t->rope_theta, 1, 1e12);
    t->rope_scaling = LCL_ROPE_DEFAULT;
    t->rope_factor = t->rope_low_freq_factor = t->rope_high_freq_factor = 1;
    if (number(&p, "partial_rotary_factor", 1, 0, 1) < 1)
        refuse(&p, "partial_rotary_factor", "below 1", "1");
    const char *key = get(&p, "rope_type") ? "rope_type" : "type";
    const char *type = word(&p, key, "default");
    if (strcmp(type, "default") == 0) return;
    t->rope_factor = number(&p, "factor", 0, 1e-6, 1e6);
    if (!get(&p, "factor")) fail_value(&p, "factor", "a number");
    if (strcmp(type, "linear") == 0) {
        t->rope_scaling = LCL_ROPE_LINEAR;
    } else if (strcmp(type, "llama3") == 0) {
        t->rope_scaling = LCL_ROPE_LLAMA3;
        t->rope_low_freq_factor = number(&p, "low_freq_factor", 1, 1e-6, 1e6);
        t->rope_high_freq_factor = number(&p, "high_freq_factor", 4, 1e-6, 1e6);
        t->rope_original_positions =
            whole(&p, "original_max_position_embeddings", t->max_positions, 1, 100000000);
        if (t->rope_high_freq_factor <= t->rope_low_freq_factor)
            fail_value(&p, "high_freq_factor", "a number above low_freq_factor");
    } else {
        refuse(&p, key, type, "default, linear and llama3");
    }
}

/* LlamaConfig's defaults. */
static void read_text(const struct reader *r, struct lcl_text_config *t)
{
    must_be_false(r, "attention_bias");
    must_be_false(r, "mlp_bias");
    must_be_type(r, "hidden_act", "silu");
    t->C = whole(r, "hidden_size", 4096, 4, 65536);
    t->F = whole(r, "intermediate_size", 11008, 4, 262144);
    t->n_layers = whole(r, "num_hidden_layers", 32, 1, 512);
    t->H = whole(r, "num_attention_heads", 32, 1, 512);
    t->G = whole(r, "num_key_value_heads", t->H, 1, 512);
    t->D = whole(r, "head_dim", t->C / t->H, 1, 4096);
    t->V = whole(r, "vocab_size", 32000, 1, 1 << 24);
    t->eps = number(r, "rms_norm_eps", 1e-6, 0, 1);
    t->max_positions = whole(r, "max_position_embeddings", 2048, 1, 100000000);
    read_rope(r, t);
}

/* An id, or the first of a list of them. */
static void read_id(const struct reader *r, const char *key, int32_t *id)
{
    const json_t *v = get(r, key);
    if (json_is_array(v)) v = json_array_get(v, 0);
    if (!v) return;
    if (!json_is_integer(v) || json_integer_value(v) < -1 || json_integer_value(v) > INT32_MAX)
        fail_value(r, key, "a token id");
    else
        *id = (int32_t)json_integer_value(v);
}

static void read_special_tokens(const struct reader *r, struct lcl_model_config *m)
{
    read_id(r, "bos_token_id", &m->bos_token);
    read_id(r, "eos_token_id", &m->eos_token);
    read_id(r, "pad_token_id", &m->pad_token);
}

/* vision_feature_layer: a number, or a list of one. */
static int64_t select_layer(const struct reader *r)
{
    const json_t *v = get(r, "vision_feature_layer");
    if (!json_is_array(v)) return whole(r, "vision_feature_layer", -2, -512, 512);
    if (json_array_size(v) != 1)
        refuse(r, "vision_feature_layer", "of several layers", "a single layer");
    return json_integer_value(json_array_get(v, 0));
}

static bool keeps_class(const struct reader *r, const char *key, const char *drop, const char *keep)
{
    const char *strategy = word(r, key, drop);
    bool full = strcmp(strategy, keep) == 0;
    char known[64];
    snprintf(known, sizeof known, "%s and %s", drop, keep);
    if (!full && strcmp(strategy, drop) != 0) refuse(r, key, strategy, known);
    return full;
}

/* What lcl_hf_save writes behind a linear projector. */
static bool is_identity(const struct lcl_safetensors *st, const struct lcl_st_tensor *w)
{
    const struct lcl_st_tensor *b = lcl_hf_find(st, "multi_modal_projector.linear_2.bias");
    float x[512];
    if (w->n_dims != 2 || w->shape[0] != w->shape[1]) return false;
    for (size_t i = 0; i < w->count; i += 512) {
        size_t n = w->count - i < 512 ? w->count - i : 512;
        if (lcl_st_read(w, i, n, LCL_F32, x) != LCL_OK) return false;
        for (size_t k = 0; k < n; k++)
            if (x[k] != ((i + k) % ((size_t)w->shape[0] + 1) == 0 ? 1 : 0)) return false;
    }
    for (size_t i = 0; b && i < b->count; i++)
        if (lcl_st_read(b, i, 1, LCL_F32, x) != LCL_OK || x[0] != 0) return false;
    return true;
}

static enum lcl_projector_kind projector_kind(const struct reader *r,
                                              const struct lcl_safetensors *st)
{
    bool plain = strcmp(word(r, "projector_hidden_act", "gelu"), "linear") == 0;
    const char *type = word(r, "mm_projector_type", "mlp2x_gelu");
    if (strcmp(type, "mlp2x_gelu") != 0 && strcmp(type, "linear") != 0)
        refuse(r, "mm_projector_type", type, "linear and mlp2x_gelu");
    if (!st)
        return plain || strcmp(type, "linear") == 0 ? LCL_PROJECTOR_LINEAR : LCL_PROJECTOR_MLP2;
    const struct lcl_st_tensor *second = lcl_hf_find(st, "multi_modal_projector.linear_2.weight");
    if (!second || (plain && is_identity(st, second))) return LCL_PROJECTOR_LINEAR;
    return plain ? LCL_PROJECTOR_LINEAR2 : LCL_PROJECTOR_MLP2;
}

static void read_projector(const struct reader *r, const struct lcl_safetensors *st,
                           struct lcl_model_config *m)
{
    m->projector = projector_kind(r, st);
    m->projector_act = LCL_GELU_ERF;
    if (m->projector == LCL_PROJECTOR_MLP2)
        m->projector_act = activation(r, "projector_hidden_act", "gelu");
    bool has_bias = !st || lcl_hf_find(st, "multi_modal_projector.linear_1.bias") != NULL;
    m->projector_bias = flag(r, "multimodal_projector_bias", has_bias);
}

/* ---- the original LLaVA layout: the decoder's keys at the top, the tower by name ---- */

static const struct tower {
    const char *name;
    struct lcl_vision_config config;
} towers[] = {
    {"clip-vit-large-patch14-336", {336, 14, 1024, 4096, 24, 16, LCL_GELU_QUICK, 1e-5}},
    {"clip-vit-large-patch14", {224, 14, 1024, 4096, 24, 16, LCL_GELU_QUICK, 1e-5}},
    {"clip-vit-base-patch16", {224, 16, 768, 3072, 12, 12, LCL_GELU_QUICK, 1e-5}},
    {"clip-vit-base-patch32", {224, 32, 768, 3072, 12, 12, LCL_GELU_QUICK, 1e-5}},
};

static const char *tower_in_use; /* lcl_hf_use_tower */

void lcl_hf_use_tower(const char *dir) { tower_in_use = dir; }

/* The folder that mm_vision_tower names, malloc'd; NULL where there is none of that name. */
static char *tower_folder(const char *dir, const char *name)
{
    if (tower_in_use) return lcl_strdupf("%s", tower_in_use);
    for (int i = name[0] == '/'; name[0] && i < 2; i++) {
        char *folder = i ? lcl_strdupf("%s", name) : lcl_strdupf("%s/%s", dir, name);
        char *config = folder ? lcl_strdupf("%s/config.json", folder) : NULL;
        bool there = config && lcl_fs_exists(config);
        free(config);
        if (there) return folder;
        free(folder);
    }
    return NULL;
}

lcl_status lcl_hf_tower_folder(const char *dir, char **tower)
{
    json_t *root = NULL;
    char *path = lcl_strdupf("%s/config.json", dir);
    lcl_status status = LCL_OK;
    *tower = NULL;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (lcl_fs_exists(path)) status = lcl_json_load(path, LCL_HF_CONFIG_BYTES, &root);
    const char *name = json_string_value(json_object_get(root, "mm_vision_tower"));
    bool v1 =
        name || (json_object_get(root, "hidden_size") && !json_object_get(root, "text_config"));
    if (v1 && (name || tower_in_use)) *tower = tower_folder(dir, name ? name : "");
    json_decref(root);
    free(path);
    return status;
}

/* The tower's own config.json where mm_vision_tower is a folder. */
static bool read_tower_folder(const struct reader *r, const char *dir, const char *name,
                              struct lcl_vision_config *v)
{
    json_t *root = NULL;
    char *folder = tower_folder(dir, name);
    char *path = folder ? lcl_strdupf("%s/config.json", folder) : NULL;
    bool there = path != NULL;
    if (there) *r->status = lcl_json_load(path, LCL_HF_CONFIG_BYTES, &root);
    if (root) {
        const json_t *section = json_object_get(root, "vision_config");
        const struct reader tower = {path, "", section ? section : root, r->status};
        read_vision(&tower, v);
    }
    json_decref(root);
    free(folder);
    free(path);
    return there;
}

static void read_named_tower(const struct reader *r, const char *dir, struct lcl_vision_config *v)
{
    const char *name = word(r, "mm_vision_tower", "");
    if ((*name || tower_in_use) && read_tower_folder(r, dir, name, v)) return;
    const char *base = lcl_fs_basename(name);
    for (size_t i = 0; i < sizeof towers / sizeof towers[0]; i++) {
        if (strcmp(base, towers[i].name) != 0) continue;
        *v = towers[i].config;
        return;
    }
    if (*r->status == LCL_OK)
        *r->status = LCL_FAIL_HINT(
            LCL_UNSUPPORTED,
            "give --vision-tower DIR, or add a vision_config section (CLIPVisionConfig's keys) to "
            "config.json",
            "%s: mm_vision_tower \"%.200s\" is neither a folder here nor a CLIP model known by "
            "name",
            r->path, name);
}

static void read_v1(const struct reader *root, const char *dir, struct lcl_model_config *m)
{
    const struct reader vision = inside(root, "vision_config", "vision_config.");
    if (vision.object)
        read_vision(&vision, &m->vision);
    else
        read_named_tower(root, dir, &m->vision);
    read_text(root, &m->text);
    m->text.tied = flag(root, "tie_word_embeddings", false);
    m->select_layer = whole(root, "mm_vision_select_layer", -2, -512, 512);
    m->keep_class = keeps_class(root, "mm_vision_select_feature", "patch", "cls_patch");
    m->image_token = -1;
}

/* LlamaForCausalLM: a decoder that a run may join with a tower (init_parts: text). */
static void read_decoder(const struct reader *root, struct lcl_model_config *m)
{
    lcl_model_config_text_only(m);
    read_text(root, &m->text);
    m->text.tied = flag(root, "tie_word_embeddings", false);
}

/* CLIPModel and CLIPVisionModel: a tower that a run may take (init_parts: vision). */
static void read_clip(const struct reader *root, struct lcl_model_config *m)
{
    const struct reader section = inside(root, "vision_config", "vision_config.");
    lcl_model_config_vision_only(m, 4);
    if (section.object)
        read_vision(&section, &m->vision);
    else if (strcmp(word(root, "model_type", ""), "clip") != 0)
        read_vision(root, &m->vision);
    else
        fail_value(root, "vision_config", "an object with the tower's sizes");
}

/* CLIPTextConfig's defaults. */
static void read_clip_text(const struct reader *r, struct lcl_clip_config *c)
{
    must_be_type(r, "model_type", "clip_text_model");
    c->text = (struct lcl_vision_config){.image_size = 1, .patch_size = 1};
    c->text.C = whole(r, "hidden_size", 512, 4, 65536);
    c->text.F = whole(r, "intermediate_size", 2048, 4, 262144);
    c->text.n_layers = whole(r, "num_hidden_layers", 12, 1, 512);
    c->text.H = whole(r, "num_attention_heads", 8, 1, 512);
    c->text.act = activation(r, "hidden_act", "quick_gelu");
    c->text.eps = number(r, "layer_norm_eps", 1e-5, 0, 1);
    c->V = whole(r, "vocab_size", 49408, 1, 1 << 24);
    c->positions = whole(r, "max_position_embeddings", 77, 2, 65536);
    c->eos = 49407;
    read_id(r, "eos_token_id", &c->eos);
}

lcl_status lcl_hf_clip_config(const char *dir, struct lcl_clip_config *c)
{
    json_t *object = NULL;
    lcl_status status = LCL_OK;
    char *path = lcl_strdupf("%s/config.json", dir);
    *c = (struct lcl_clip_config){0};
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(lcl_json_load(path, LCL_HF_CONFIG_BYTES, &object));
    const struct reader root = {path, "", object, &status};
    const struct reader vision = inside(&root, "vision_config", "vision_config.");
    const struct reader text = inside(&root, "text_config", "text_config.");
    const char *type = word(&root, "model_type", "");
    if (strcmp(type, "clip") != 0) refuse(&root, "model_type", type, "clip");
    if (!vision.object) fail_value(&root, "vision_config", "an object with the tower's sizes");
    read_vision(&vision, &c->image);
    read_clip_text(&text, c);
    c->P = whole(&root, "projection_dim", 512, 1, 65536);
out:
    json_decref(object);
    free(path);
    return status;
}

/* ---- the HF layout ---- */

static void read_hf(const struct reader *root, struct lcl_model_config *m)
{
    const struct reader vision = inside(root, "vision_config", "vision_config.");
    const struct reader text = inside(root, "text_config", "text_config.");
    read_vision(&vision, &m->vision);
    must_be_type(&text, "model_type", "llama");
    read_text(&text, &m->text);
    m->text.tied =
        flag(root, "tie_word_embeddings", false) || flag(&text, "tie_word_embeddings", false);
    m->select_layer = select_layer(root);
    m->keep_class = keeps_class(root, "vision_feature_select_strategy", "default", "full");
    m->image_token = 32000;
    read_special_tokens(&text, m);
}

/* As transformers: a head that is stored and differs from the embedding is not tied. */
static void check_tie(const struct lcl_safetensors *st, const char *path, bool *tied)
{
    if (!st || !*tied) return;
    const struct lcl_st_tensor *head = lcl_hf_find(st, "language_model.lm_head.weight");
    const struct lcl_st_tensor *embed = lcl_hf_find(st, "language_model.model.embed_tokens.weight");
    if (!head || !embed ||
        (head->bytes == embed->bytes && head->dtype == embed->dtype &&
         memcmp(head->data, embed->data, head->bytes) == 0))
        return;
    lcl_log_warn("%s says tie_word_embeddings, but %s differs from the embedding: not tied", path,
                 head->name);
    *tied = false;
}

static lcl_status read_generation(const char *dir, struct lcl_model_config *m)
{
    json_t *root = NULL;
    char *path = lcl_strdupf("%s/generation_config.json", dir);
    lcl_status status = LCL_OK;
    if (path && lcl_fs_exists(path)) status = lcl_json_load(path, LCL_HF_CONFIG_BYTES, &root);
    if (root) {
        const struct reader r = {path, "", root, &status};
        read_special_tokens(&r, m);
    }
    json_decref(root);
    free(path);
    return status;
}

/* Of transformers, of LLaVA's own code, and of Shikra's, which LCL is built on. */
static bool is_llava(const char *type)
{
    static const char *const types[] = {"llava", "llava_llama", "shikra"};
    for (int i = 0; i < 3; i++)
        if (strcmp(type, types[i]) == 0) return true;
    return false;
}

lcl_status lcl_hf_config_read(const char *dir, const struct lcl_safetensors *st,
                              struct lcl_model_config *m)
{
    json_t *object = NULL;
    lcl_status status = LCL_OK;
    char *path = lcl_strdupf("%s/config.json", dir);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    *m = (struct lcl_model_config){
        .pool = LCL_POOL_NONE, .bos_token = 1, .eos_token = 2, .pad_token = -1};
    LCL_TRY_GOTO(lcl_json_load(path, LCL_HF_CONFIG_BYTES, &object));
    const struct reader root = {path, "", object, &status};
    const char *type = word(&root, "model_type", "llava");
    bool decoder = strcmp(type, "llama") == 0;
    bool tower = strcmp(type, "clip") == 0 || strcmp(type, "clip_vision_model") == 0;
    if (!decoder && !tower && !is_llava(type))
        refuse(&root, "model_type", type, "llava, shikra, llama and clip");
    bool v1 = !get(&root, "text_config") && get(&root, "hidden_size");
    if (decoder)
        read_decoder(&root, m);
    else if (tower)
        read_clip(&root, m);
    else if (v1)
        read_v1(&root, dir, m);
    else
        read_hf(&root, m);
    if (!decoder && !tower) read_projector(&root, st, m);
    read_id(&root, "image_token_id", &m->image_token);
    read_id(&root, "image_token_index", &m->image_token);
    read_special_tokens(&root, m);
    if (status == LCL_OK) status = read_generation(dir, m);
    if (status != LCL_OK) goto out;
    check_tie(st, path, &m->text.tied);
    status = lcl_model_config_check(m);
    if (status != LCL_OK) status = lcl_fail_context(status, "%s", path);
out:
    json_decref(object);
    free(path);
    return status;
}
