#include "tools/inspect_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/hf.h"
#include "checkpoint/peft.h"
#include "checkpoint/torch.h"
#include "core/fs.h"
#include "core/log.h"
#include "model/model.h"
#include "train/hf_folder.h"

static void set_text(json_t *out, const char *key, const char *fmt, ...) LCL_PRINTF(3, 4);
static void set_text(json_t *out, const char *key, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_object_set_new(out, key, json_string(text));
}

static void set_int(json_t *out, const char *key, int64_t value)
{
    json_object_set_new(out, key, json_integer((json_int_t)value));
}

/* Parameters by part, in the parts' order, then the sums. */
static json_t *part_counts(const int64_t *count, int64_t trainable)
{
    json_t *parts = json_object();
    int64_t total = 0;
    for (int i = 0; i < LCL_PART_COUNT; i++) {
        total += count[i];
        if (count[i] > 0) set_int(parts, lcl_part_name((enum lcl_part)i), count[i]);
    }
    set_int(parts, "total", total);
    if (trainable >= 0) set_int(parts, "trainable", trainable);
    return parts;
}

static void add_int(json_t *out, const char *key, int64_t more)
{
    set_int(out, key, json_integer_value(json_object_get(out, key)) + more);
}

static json_t *shape_json(int n_dims, const int64_t *shape)
{
    json_t *list = json_array();
    for (int d = 0; d < n_dims; d++)
        json_array_append_new(list, json_integer((json_int_t)shape[d]));
    return list;
}

/* ---- architecture ---- */

static const char *const gelus[] = {"gelu", "quick_gelu", "gelu_tanh"};

static void describe_projector(const struct lcl_model_config *m, json_t *a)
{
    const struct lcl_qformer_config *q = &m->qformer;
    if (m->projector == LCL_PROJECTOR_QFORMER)
        set_text(a, "projector",
                 "Q-Former, %lld query tokens, width %lld, %lld layers, %lld heads, feed-forward "
                 "%lld, cross attention every %lld layers",
                 (long long)q->Q, (long long)q->C, (long long)q->n_layers, (long long)q->H,
                 (long long)q->F, (long long)q->cross_every);
    else
        set_text(a, "projector", "%s%s",
                 m->projector == LCL_PROJECTOR_LINEAR    ? "linear"
                 : m->projector == LCL_PROJECTOR_LINEAR2 ? "two linear layers"
                                                         : "two layers, ",
                 m->projector == LCL_PROJECTOR_MLP2 ? gelus[m->projector_act] : "");
}

static void describe_vision(const struct lcl_vision_config *v, json_t *a)
{
    set_text(a, "vision",
             "CLIP ViT, %lld px, patch %lld, width %lld, %lld layers, %lld heads, feed-forward "
             "%lld, %s",
             (long long)v->image_size, (long long)v->patch_size, (long long)v->C,
             (long long)v->n_layers, (long long)v->H, (long long)v->F, gelus[v->act]);
}

static void describe_features(const struct lcl_model_config *m, json_t *a)
{
    static const char *const pools[] = {"", ", mean-pooled", ", 2x2-pooled"};
    set_text(a, "image_features", "hidden state %lld%s, %lld tokens a picture%s%s",
             (long long)m->select_layer, m->keep_class ? " with its class token" : "",
             (long long)lcl_tokens_per_image(m), pools[m->pool],
             m->standardize ? ", standardised" : "");
    describe_projector(m, a);
}

static void describe_text(const struct lcl_text_config *t, json_t *a)
{
    static const char *const ropes[] = {"", ", linear scaling", ", llama3 scaling"};
    set_text(a, "text",
             "LLaMA, width %lld, %lld layers, %lld heads of %lld, %lld key/value heads, "
             "feed-forward %lld, vocabulary %lld, %s head",
             (long long)t->C, (long long)t->n_layers, (long long)t->H, (long long)t->D,
             (long long)t->G, (long long)t->F, (long long)t->V, t->tied ? "tied" : "untied");
    set_text(a, "positions", "%lld, rotary theta %g%s", (long long)t->max_positions, t->rope_theta,
             ropes[t->rope_scaling]);
}

/* parts: those that there are (bits 1 << enum lcl_part). */
static void describe_parts(const struct lcl_model_config *m, unsigned parts, json_t *out)
{
    json_t *a = json_object();
    if (parts >> LCL_PART_VISION & 1u) describe_vision(&m->vision, a);
    if (parts >> LCL_PART_PROJECTOR & 1u) describe_features(m, a);
    if (parts >> LCL_PART_TEXT & 1u) describe_text(&m->text, a);
    if (parts >> LCL_PART_TEXT & 1u)
        set_text(a, "special_tokens", "image %d, bos %d, eos %d, pad %d (-1: none)", m->image_token,
                 m->bos_token, m->eos_token, m->pad_token);
    if (m->lora.rank > 0)
        set_text(a, "adapters", "LoRA of rank %lld, alpha %g, on %s", (long long)m->lora.rank,
                 m->lora.alpha, m->lora.targets);
    json_object_set_new(out, "architecture", a);
    char *text;
    if (lcl_model_config_to_json(m, &text) == LCL_OK) {
        json_object_set_new(out, "config", json_loads(text, 0, NULL));
        free(text);
    }
}

void inspect_model_config(const struct lcl_model_config *m, json_t *out)
{
    describe_parts(m, LCL_ALL_PARTS, out);
}

/* ---- safetensors ---- */

static void describe_tensors(const struct lcl_safetensors *st, json_t *out)
{
    json_t *dtypes = json_object(), *tensors = json_array();
    int64_t bytes = 0;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct lcl_st_tensor *t = &st->tensors[i];
        add_int(dtypes, t->stored, 1);
        bytes += (int64_t)t->bytes;
        json_array_append_new(tensors,
                              json_pack("{s:s, s:s, s:o}", "name", t->name, "dtype", t->stored,
                                        "shape", shape_json(t->n_dims, t->shape)));
    }
    set_int(out, "files", st->n_shards);
    set_int(out, "bytes", bytes);
    json_object_set_new(out, "dtypes", dtypes);
    json_object_set_new(out, "tensors", tensors);
}

/* mm_projector.bin: a projector by itself, and what it lacks. */
static void describe_lone_projector(const struct lcl_safetensors *st, json_t *out)
{
    static const char *const names[] = {
        "multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_1.bias",
        "multi_modal_projector.linear_2.weight", "multi_modal_projector.linear_2.bias"};
    const struct lcl_st_tensor *t[4];
    char name[LCL_PARAM_NAME_BYTES];
    for (size_t i = 0; i < st->n_tensors; i++)
        if (lcl_hf_table_name(st->tensors[i].name, name) != LCL_OK ||
            strncmp(name, "multi_modal_projector.", 22) != 0)
            return;
    for (int i = 0; i < 4; i++) t[i] = lcl_hf_find(st, names[i]);
    if (st->n_tensors == 0) return;
    json_t *missing = json_array();
    bool two = t[2] || t[3];
    if (!t[0]) json_array_append_new(missing, json_string(names[0]));
    if (two && !t[2]) json_array_append_new(missing, json_string(names[2]));
    if (two && !t[1] != !t[3]) json_array_append_new(missing, json_string(names[t[1] ? 3 : 1]));
    json_t *a = json_object();
    if (t[0] && t[0]->n_dims == 2)
        set_text(a, "projector", "%s, from width %lld to %lld%s", two ? "mlp2x_gelu" : "linear",
                 (long long)t[0]->shape[1], (long long)t[0]->shape[0], t[1] ? ", with biases" : "");
    json_object_set_new(out, "architecture", a);
    json_object_set_new(out, "missing", missing);
}

lcl_status inspect_safetensors(const char *path, json_t *out)
{
    struct lcl_safetensors st;
    LCL_TRY(lcl_st_open(path, &st));
    set_text(out, "kind", "%s",
             lcl_torch_is_file(&st.shards[0].map) ? "PyTorch file" : "safetensors");
    if (st.metadata) json_object_set_new(out, "metadata", json_loads(st.metadata, 0, NULL));
    describe_lone_projector(&st, out);
    describe_tensors(&st, out);
    lcl_st_close(&st);
    return LCL_OK;
}

/* ---- HF folders ---- */

static bool same_shape(const struct lcl_st_tensor *t, const struct lcl_param *p)
{
    bool same = t->n_dims == p->n_dims;
    for (int d = 0; same && d < p->n_dims; d++) same = t->shape[d] == p->shape[d];
    return same;
}

/* Parameters of each part as the config makes them, and what the files lack. */
static lcl_status compare_with_table(const struct lcl_safetensors *st,
                                     const struct lcl_model_config *config, unsigned parts,
                                     json_t *out)
{
    struct lcl_model m;
    LCL_TRY(lcl_model_create(&m, config));
    int64_t count[LCL_PART_COUNT] = {0};
    json_t *missing = json_array(), *misshapen = json_array();
    for (int i = 0; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        const struct lcl_st_tensor *t = lcl_hf_find(st, p->name);
        if (!(parts >> p->part & 1u)) continue;
        count[p->part] += (int64_t)p->count;
        if (!t)
            json_array_append_new(missing, json_string(p->name));
        else if (!same_shape(t, p))
            json_array_append_new(misshapen, json_string(t->name));
    }
    json_object_set_new(out, "parameters", part_counts(count, -1));
    json_object_set_new(out, "missing", missing);
    json_object_set_new(out, "misshapen", misshapen);
    lcl_model_free(&m);
    return LCL_OK;
}

/* Files beside the weights that a folder of these parts lacks. */
static json_t *missing_files(const char *dir, unsigned parts)
{
    static const struct {
        const char *name, *or_name;
        enum lcl_part of;
    } wanted[] = {{"tokenizer.json", "tokenizer.model", LCL_PART_TEXT},
                  {"generation_config.json", NULL, LCL_PART_TEXT},
                  {"preprocessor_config.json", NULL, LCL_PART_VISION}};
    json_t *absent = json_array();
    for (int i = 0; i < 3; i++) {
        const char *other = wanted[i].or_name ? wanted[i].or_name : wanted[i].name;
        char *path = lcl_strdupf("%s/%s", dir, wanted[i].name);
        char *instead = lcl_strdupf("%s/%s", dir, other);
        if (path && instead && parts >> wanted[i].of & 1u && !lcl_fs_exists(path) &&
            !lcl_fs_exists(instead))
            json_array_append_new(absent, json_string(wanted[i].name));
        free(path);
        free(instead);
    }
    return absent;
}

/* A norm's weights stand near 1; in what is added to a model's they stand near 0. */
static bool looks_like_delta(const struct lcl_safetensors *st)
{
    const struct lcl_st_tensor *norm = lcl_hf_find(st, "language_model.model.norm.weight");
    double sum = 0;
    if (!norm || norm->dtype > LCL_F64 || norm->count == 0) return false;
    for (size_t i = 0; i < norm->count; i++) {
        float x;
        if (lcl_st_read(norm, i, 1, LCL_F32, &x) != LCL_OK) return false;
        sum += fabs((double)x);
    }
    return sum / (double)norm->count < 0.1;
}

lcl_status inspect_hf_folder(const char *dir, json_t *out)
{
    struct lcl_safetensors st;
    struct lcl_model_config config;
    const unsigned parts = lcl_hf_parts(dir);
    LCL_TRY(lcl_hf_open(dir, &st));
    lcl_status status = lcl_hf_config_read(dir, &st, &config);
    set_text(out, "kind", "%s",
             parts == 1u << LCL_PART_TEXT     ? "HF LLaMA folder"
             : parts == 1u << LCL_PART_VISION ? "HF CLIP folder"
                                              : "HF LLaVA folder");
    if (looks_like_delta(&st))
        set_text(out, "note",
                 "norm weights near 0, as in a weight delta: lcl import delta adds "
                 "it to its base");
    if (status == LCL_OK && parts >> LCL_PART_TEXT & 1u) status = lcl_hf_image_token(dir, &config);
    if (status == LCL_OK) {
        describe_parts(&config, parts, out);
        status = compare_with_table(&st, &config, parts, out);
    }
    json_object_set_new(out, "missing_files", missing_files(dir, parts));
    if (status == LCL_OK) describe_tensors(&st, out);
    lcl_st_close(&st);
    return status;
}

/* ---- GGUF ---- */

/* One value, or what an array holds. */
static json_t *gguf_value(const struct lcl_gguf *g, const struct lcl_gguf_value *v)
{
    char *text = NULL, what[64];
    double x = 0;
    json_t *shown;
    if (v->kind == LCL_GGUF_STRING) {
        shown = lcl_gguf_get_text(g, v->key, &text) == LCL_OK ? json_string(text) : NULL;
        free(text);
        return shown ? shown : json_string("(no UTF-8 text)");
    }
    if (v->kind == LCL_GGUF_ARRAY) {
        snprintf(what, sizeof what, "%zu of %s", v->n, lcl_gguf_kind_name(v->element));
        return json_string(what);
    }
    (void)lcl_gguf_number(v, 0, &x);
    if (v->kind == LCL_GGUF_BOOL) return json_boolean(x != 0);
    if (v->kind == LCL_GGUF_F32 || v->kind == LCL_GGUF_F64)
        return isfinite(x) ? json_real(x) : json_null();
    return json_integer((json_int_t)x);
}

/* Each line of the list of misfits. */
static json_t *misfits(const struct lcl_misfits *fit)
{
    json_t *list = json_array();
    for (const char *s = fit->text; *s;) {
        size_t n = strcspn(s += strspn(s, "\n "), "\n");
        if (n > 0) json_array_append_new(list, json_stringn(s, n));
        s += n;
    }
    return list;
}

/* What an import or another program wants besides the weights. */
static json_t *missing_keys(const struct lcl_gguf *g)
{
    static const char *const wanted[] = {"tokenizer.ggml.model", "tokenizer.ggml.tokens",
                                         "tokenizer.ggml.eos_token_id", "tokenizer.chat_template"};
    json_t *list = json_array();
    for (int i = 0; i < 4; i++)
        if (!lcl_gguf_find(g, wanted[i])) json_array_append_new(list, json_string(wanted[i]));
    return list;
}

/* What the metadata describe, and which tensors lack or are too many; a model that cannot be
 * computed is shown with the reason. */
static lcl_status describe_gguf_model(const struct lcl_gguf *g, json_t *out)
{
    struct lcl_model_config c = {0};
    struct lcl_model m;
    struct lcl_misfits fit;
    char *architecture;
    LCL_TRY(lcl_gguf_get_text(g, "general.architecture", &architecture));
    bool clip = architecture && strcmp(architecture, "clip") == 0;
    set_text(out, "kind", "GGUF file, %s",
             clip           ? "vision tower and projector"
             : architecture ? architecture
                            : "of no architecture");
    free(architecture);
    json_t *a = json_object();
    json_object_set_new(out, "architecture", a);
    if (clip) lcl_gguf_least_text(g, &c);
    lcl_status status = clip ? lcl_gguf_read_vision(g, &c) : lcl_gguf_read_text(g, &c);
    if (status == LCL_OK) status = lcl_model_create(&m, &c);
    if (status != LCL_OK) {
        set_text(out, "cannot_be_computed", "%s", lcl_error_message());
        return LCL_OK;
    }
    if (clip) {
        describe_vision(&c.vision, a);
        describe_projector(&c, a);
    } else {
        describe_text(&c.text, a);
    }
    if (!clip) json_object_set_new(out, "missing_metadata", missing_keys(g));
    unsigned parts = clip ? 1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR : 1u << LCL_PART_TEXT;
    lcl_gguf_check_fit(g, &m.params, parts, &fit);
    json_object_set_new(out, "misfits", misfits(&fit));
    lcl_model_free(&m);
    return LCL_OK;
}

lcl_status inspect_gguf(const char *path, json_t *out)
{
    struct lcl_gguf g;
    LCL_TRY(lcl_gguf_open(path, &g));
    json_t *dtypes = json_object(), *metadata = json_object(), *tensors = json_array();
    int64_t bytes = 0, total = 0;
    lcl_status status = describe_gguf_model(&g, out);
    for (size_t i = 0; i < g.n_tensors; i++) {
        const struct lcl_gguf_tensor *t = &g.tensors[i];
        add_int(dtypes, t->type->name, 1);
        bytes += (int64_t)t->bytes;
        total += (int64_t)t->count;
        json_array_append_new(tensors,
                              json_pack("{s:s, s:s, s:o}", "name", t->name, "dtype", t->type->name,
                                        "shape", shape_json(t->n_dims, t->shape)));
    }
    for (size_t i = 0; i < g.n_values; i++)
        json_object_set_new(metadata, g.values[i].key, gguf_value(&g, &g.values[i]));
    set_int(out, "format_version", g.version);
    json_object_set_new(out, "parameters", json_pack("{s:I}", "total", (json_int_t)total));
    set_int(out, "bytes", bytes);
    json_object_set_new(out, "dtypes", dtypes);
    json_object_set_new(out, "metadata", metadata);
    json_object_set_new(out, "tensors", tensors);
    lcl_gguf_close(&g);
    return status;
}

/* ---- adapters ---- */

lcl_status inspect_peft_folder(const char *dir, json_t *out)
{
    struct lcl_lora_config lora;
    LCL_TRY(lcl_peft_load_config(dir, &lora));
    char *path = lcl_strdupf("%s/adapter_model.safetensors", dir);
    lcl_status status =
        path ? inspect_safetensors(path, out) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    set_text(out, "kind", "PEFT adapter");
    set_int(out, "rank", lora.rank);
    set_text(out, "alpha", "%g", lora.alpha);
    set_text(out, "targets", "%s", lora.targets);
    free(path);
    return status;
}

/* ---- checkpoints ---- */

static const char *stored_name(lcl_dtype dtype)
{
    return dtype == LCL_F32    ? "F32"
           : dtype == LCL_Q8_0 ? "Q8_0"
           : dtype == LCL_Q4_0 ? "Q4_0"
                               : "BF16";
}

static lcl_status describe_rows(const char *path, json_t *out)
{
    struct lcl_checkpoint_row *rows;
    int n;
    LCL_TRY(lcl_checkpoint_list(path, &rows, &n));
    int64_t counts[LCL_PART_COUNT] = {0}, trainable = 0;
    json_t *tensors = json_array();
    for (int i = 0; i < n; i++) {
        const struct lcl_checkpoint_row *r = &rows[i];
        int64_t count = 1;
        for (int d = 0; d < r->n_dims; d++) count *= r->shape[d];
        counts[r->part] += count;
        if (r->trainable) trainable += count;
        json_t *t = json_pack("{s:s, s:s, s:o, s:b, s:b}", "name", r->name, "dtype",
                              stored_name(r->dtype), "shape", shape_json(r->n_dims, r->shape),
                              "trainable", (int)r->trainable, "moments", (int)r->has_moments);
        if (r->has_moments)
            set_text(t, "moments_dtype", "%s",
                     r->moments == LCL_U8 ? "8-bit blockwise" : lcl_dtype_name(r->moments));
        json_array_append_new(tensors, t);
    }
    free(rows);
    json_object_set_new(out, "parameters", part_counts(counts, trainable));
    json_object_set_new(out, "tensors", tensors);
    return LCL_OK;
}

static lcl_status describe_state(const char *path, json_t *out)
{
    struct lcl_run_state_loaded s;
    LCL_TRY(lcl_checkpoint_load_state(path, &s));
    json_t *run = json_object();
    set_int(run, "step", s.state.step);
    set_int(run, "stage", s.state.stage);
    set_int(run, "stage_step", s.state.stage_step);
    set_int(run, "epoch", s.state.epoch);
    set_int(run, "sample", s.state.sample);
    set_int(run, "tokens", s.state.tokens);
    set_int(run, "seed", (int64_t)s.state.seed);
    json_object_set_new(run, "best_metric",
                        isfinite(s.state.best_metric) ? json_real(s.state.best_metric)
                                                      : json_null());
    json_object_set_new(run, "optimizer_states", json_boolean(s.has_optimizer));
    json_object_set_new(out, "run_state", run);
    json_object_set_new(out, "config_yaml", json_string(s.config_yaml));
    lcl_run_state_free(&s);
    return LCL_OK;
}

lcl_status inspect_checkpoint(const char *dir, json_t *out)
{
    char path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_model_config config;
    LCL_TRY(lcl_checkpoint_find(dir, path, sizeof path)); /* verifies every byte */
    LCL_TRY(lcl_checkpoint_load_config(path, &config));
    set_text(out, "kind", "checkpoint");
    set_text(out, "checkpoint", "%s", path);
    set_int(out, "format_version", LCL_CHECKPOINT_FORMAT_VERSION);
    set_text(out, "checksums", "good");
    inspect_model_config(&config, out);
    LCL_TRY(describe_state(path, out));
    return describe_rows(path, out);
}

static void set_link(const char *dir, const char *name, json_t *out)
{
    char target[256] = "";
    char *path = lcl_strdupf("%s/%s", dir, name);
    ssize_t n = path ? readlink(path, target, sizeof target - 1) : -1;
    if (n > 0) set_text(out, name, "%s", target);
    free(path);
}

static void list_checkpoints(const char *dir, json_t *out)
{
    char **names;
    size_t n;
    json_t *list = json_array();
    json_object_set_new(out, "checkpoints", list);
    if (lcl_fs_list(dir, &names, &n) != LCL_OK) return;
    for (size_t i = 0; i < n; i++) {
        char *path = lcl_strdupf("%s/%s", dir, names[i]), found[LCL_CHECKPOINT_PATH_BYTES];
        size_t len = strlen(names[i]);
        bool temporary = len > 4 && strcmp(names[i] + len - 4, ".tmp") == 0;
        if (path && strncmp(names[i], "checkpoint-", 11) == 0 && !temporary) {
            bool good = lcl_checkpoint_find(path, found, sizeof found) == LCL_OK;
            json_array_append_new(list, json_pack("{s:s, s:s}", "name", names[i], "state",
                                                  good ? "good" : lcl_error_message()));
        }
        free(path);
    }
    lcl_fs_list_free(names, n);
}

lcl_status inspect_run(const char *dir, json_t *out)
{
    LCL_TRY(inspect_checkpoint(dir, out));
    set_text(out, "kind", "run folder");
    list_checkpoints(dir, out);
    set_link(dir, "last", out);
    set_link(dir, "best", out);
    return LCL_OK;
}
