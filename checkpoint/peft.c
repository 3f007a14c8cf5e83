#include "checkpoint/peft.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf.h"
#include "checkpoint/misfits.h"
#include "core/json.h"

enum { CONFIG_BYTES = 1 << 20, PEFT_NAME_BYTES = LCL_PARAM_NAME_BYTES + 32 };
enum { MOST_LAYERS = 512, MOST_KINDS = 64 };
static const char wrapper[] = "base_model.model.";

bool lcl_peft_is_folder(const char *dir)
{
    char *path = lcl_strdupf("%s/adapter_config.json", dir);
    bool there = path && lcl_fs_exists(path) && !lcl_hf_is_folder(dir);
    free(path);
    return there;
}

/* ---- names ---- */

/* language_model.model.layers.0.self_attn.q_proj.lora_A.weight, say. */
static lcl_status table_name(const char *on_disk, char name[LCL_PARAM_NAME_BYTES])
{
    const size_t n = strlen(wrapper);
    return lcl_hf_table_name(strncmp(on_disk, wrapper, n) == 0 ? on_disk + n : on_disk, name);
}

/* As modules are called in memory: model.language_model.layers.0.self_attn.q_proj. */
static void memory_name(const char *row, char name[PEFT_NAME_BYTES])
{
    static const char text[] = "language_model.model.";
    const bool is_text = strncmp(row, text, strlen(text)) == 0;
    snprintf(name, PEFT_NAME_BYTES, "model.%s%s", is_text ? "language_model." : "",
             is_text ? row + strlen(text) : row);
}

/* Length of the module's name in that of its tensor; 0 where it is no adapter's. */
static size_t module_length(const char *name)
{
    static const char *const ends[] = {".lora_A.weight", ".lora_B.weight"};
    const size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        const size_t m = strlen(ends[i]);
        if (n > m && strcmp(name + n - m, ends[i]) == 0) return n - m;
    }
    return 0;
}

static lcl_status open_weights(const char *dir, struct lcl_safetensors *st)
{
    char *path = lcl_strdupf("%s/adapter_model.safetensors", dir);
    lcl_status status = path ? lcl_st_open(path, st) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    free(path);
    return status;
}

/* ---- adapter_config.json ---- */

static bool says_nothing(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0);
}

static lcl_status refuse(const char *path, const char *key, const json_t *v, const char *wanted)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY);
    lcl_status status =
        LCL_FAIL_HINT(LCL_UNSUPPORTED, "plain LoRA adapters are read; merge others with peft",
                      "%s: %s is %.80s, wanted %s", path, key, text ? text : "missing", wanted);
    free(text);
    return status;
}

/* Whatever makes an adapter another thing than W + alpha / r B A, of one r and alpha. */
static lcl_status check_plain(const char *path, const json_t *root)
{
    static const char *const unset[] = {"fan_in_fan_out",
                                        "use_dora",
                                        "use_qalora",
                                        "use_bdlora",
                                        "lora_bias",
                                        "modules_to_save",
                                        "rank_pattern",
                                        "alpha_pattern",
                                        "layer_replication",
                                        "target_parameters",
                                        "trainable_token_indices",
                                        "alora_invocation_tokens",
                                        "arrow_config",
                                        "kasa_config",
                                        "velora_config",
                                        "monteclora_config"};
    static const char *const moves_base[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const json_t *type = json_object_get(root, "peft_type"), *bias = json_object_get(root, "bias");
    const char *init = json_string_value(json_object_get(root, "init_lora_weights"));
    if (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0)
        return refuse(path, "peft_type", type, "\"LORA\"");
    if (bias && (!json_is_string(bias) || strcmp(json_string_value(bias), "none") != 0))
        return refuse(path, "bias", bias, "\"none\"");
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++) {
        const json_t *v = json_object_get(root, unset[i]);
        if (!says_nothing(v)) return refuse(path, unset[i], v, "none");
    }
    for (size_t i = 0; init && i < sizeof moves_base / sizeof *moves_base; i++)
        if (strncmp(init, moves_base[i], strlen(moves_base[i])) == 0)
            return refuse(path, "init_lora_weights", json_object_get(root, "init_lora_weights"),
                          "one that leaves the base as it is");
    return LCL_OK;
}

static lcl_status read_scale(const char *path, const json_t *root, struct lcl_lora_config *lora)
{
    const json_t *r = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha");
    if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > 4096)
        return LCL_FAIL(LCL_FORMAT, "%s: r is not a whole number of 1..4096", path);
    if (!json_is_number(alpha) || !isfinite(json_number_value(alpha)) ||
        json_number_value(alpha) <= 0)
        return LCL_FAIL(LCL_FORMAT, "%s: lora_alpha is not a number above 0", path);
    lora->rank = json_integer_value(r);
    lora->alpha = json_number_value(alpha);
    if (json_is_true(json_object_get(root, "use_rslora"))) lora->alpha *= sqrt((double)lora->rank);
    return LCL_OK;
}

/* ---- targets ---- */

/* language_model.*.q_proj, or a module that stands in no layer. */
static void pattern_of(const char *name, size_t n, char pattern[LCL_PARAM_NAME_BYTES])
{
    const char *first = strchr(name, '.'), *last = name + n - 1;
    while (last > name && *last != '.') last--;
    if (first && last > first)
        snprintf(pattern, LCL_PARAM_NAME_BYTES, "%.*s.*%.*s", (int)(first - name), name,
                 (int)(name + n - last), last);
    else
        snprintf(pattern, LCL_PARAM_NAME_BYTES, "%.*s", (int)n, name);
}

/* Modules of one pattern, and in which layers they are. */
struct kind {
    char pattern[LCL_PARAM_NAME_BYTES];
    bool numbered;
    int most; /* the last layer that has one */
    bool layer[MOST_LAYERS];
};

/* The number among a module's name: its layer; -1 where there is none, MOST_LAYERS where it is
 * beyond. */
static int layer_of(const char *name, size_t n)
{
    for (const char *s = name; s && s < name + n; s = strchr(s, '.')) {
        if (*s == '.') s++;
        size_t digits = strspn(s, "0123456789");
        if (digits == 0 || s[digits] != '.') continue;
        long x = strtol(s, NULL, 10);
        return x < MOST_LAYERS ? (int)x : MOST_LAYERS;
    }
    return -1;
}

static lcl_status collect_kinds(const char *dir, const struct lcl_safetensors *st,
                                struct kind *kinds, int *n_kinds)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        char name[LCL_PARAM_NAME_BYTES], pattern[LCL_PARAM_NAME_BYTES];
        LCL_TRY(table_name(st->tensors[i].name, name));
        size_t n = module_length(name);
        if (n == 0 || strpbrk(name, "*?[\\, ")) continue; /* lcl_peft_load lists it */
        int layer = layer_of(name, n), k = 0;
        pattern_of(name, n, pattern);
        while (k < *n_kinds && strcmp(kinds[k].pattern, pattern) != 0) k++;
        if (k == MOST_KINDS || layer == MOST_LAYERS)
            return LCL_FAIL(LCL_UNSUPPORTED,
                            "%s adapts more than %d kinds of layers, or a layer beyond number %d",
                            dir, MOST_KINDS, MOST_LAYERS - 1);
        if (k == *n_kinds) ++*n_kinds;
        memcpy(kinds[k].pattern, pattern, sizeof pattern);
        if (layer < 0) continue;
        kinds[k].numbered = true;
        kinds[k].layer[layer] = true;
        if (layer > kinds[k].most) kinds[k].most = layer;
    }
    return LCL_OK;
}

static lcl_status add_target(const char *dir, struct lcl_lora_config *lora, const char *pattern)
{
    size_t used = strlen(lora->targets);
    if (used + strlen(pattern) + 2 > sizeof lora->targets)
        return LCL_FAIL(LCL_UNSUPPORTED, "%s adapts more kinds of layers than %zu bytes name", dir,
                        sizeof lora->targets);
    snprintf(lora->targets + used, sizeof lora->targets - used, "%s%s", used ? "," : "", pattern);
    return LCL_OK;
}

/* Every layer's where those there are begin with 0 and leave none out, unless the config picks
 * some: language_model.*.q_proj; else a pattern a run of layers: language_model.*.[8-15].*.q_proj.
 */
static lcl_status name_kind(const char *dir, const struct kind *k, bool picked,
                            struct lcl_lora_config *lora)
{
    const char *star = strchr(k->pattern, '*');
    bool whole = !picked;
    for (int l = 0; l <= k->most; l++) whole &= k->layer[l];
    if (!k->numbered || whole || !star) return add_target(dir, lora, k->pattern);
    for (int l = 0, end; l <= k->most; l = end + 1) {
        char pattern[LCL_PARAM_NAME_BYTES + 32];
        for (end = l; end + 1 <= k->most && k->layer[l] && k->layer[end + 1];) end++;
        if (!k->layer[l]) continue;
        snprintf(pattern, sizeof pattern, "%.*s*.[%d-%d].%s", (int)(star - k->pattern), k->pattern,
                 l, end, star);
        LCL_TRY(add_target(dir, lora, pattern));
    }
    return LCL_OK;
}

/* picked: the config names layers, so that even the first ones may not be all there are. */
static lcl_status read_targets(const char *dir, bool picked, struct lcl_lora_config *lora)
{
    struct lcl_safetensors st;
    int n = 0;
    LCL_TRY(open_weights(dir, &st));
    lcl_status status = LCL_OK;
    struct kind *kinds = calloc(MOST_KINDS + 1, sizeof *kinds);
    lora->targets[0] = '\0';
    if (!kinds) status = LCL_FAIL(LCL_MEMORY, "no memory to read %s", dir);
    if (status == LCL_OK) status = collect_kinds(dir, &st, kinds, &n);
    for (int k = 0; k < n && status == LCL_OK; k++)
        status = name_kind(dir, &kinds[k], picked, lora);
    if (status == LCL_OK && n == 0)
        status = LCL_FAIL(LCL_FORMAT, "%s/adapter_model.safetensors holds no lora_A.weight", dir);
    free(kinds);
    lcl_st_close(&st);
    return status;
}

lcl_status lcl_peft_load_config(const char *dir, struct lcl_lora_config *lora)
{
    json_t *root = NULL;
    char *path = lcl_strdupf("%s/adapter_config.json", dir);
    lcl_status status;
    *lora = (struct lcl_lora_config){0};
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(lcl_json_load(path, CONFIG_BYTES, &root));
    LCL_TRY_GOTO(check_plain(path, root));
    LCL_TRY_GOTO(read_scale(path, root, lora));
    status = read_targets(dir, !says_nothing(json_object_get(root, "layers_to_transform")), lora);
out:
    json_decref(root);
    free(path);
    return status;
}

/* ---- values ---- */

static bool fits(const struct lcl_st_tensor *t, const struct lcl_param *p)
{
    return t->dtype <= LCL_F64 && t->n_dims == 2 && t->shape[0] == p->shape[0] &&
           t->shape[1] == p->shape[1];
}

/* of_row[i]: the tensor of row i. */
static lcl_status match(const struct lcl_safetensors *st, struct lcl_params *t,
                        const struct lcl_st_tensor **of_row, struct lcl_misfits *bad)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        char name[LCL_PARAM_NAME_BYTES];
        LCL_TRY(table_name(st->tensors[i].name, name));
        const struct lcl_param *p = lcl_params_find(t, name);
        if (!p || !p->adapter)
            lcl_misfits_add(bad, "left over: %.200s", st->tensors[i].name);
        else if (of_row[p - t->rows])
            lcl_misfits_add(bad, "twice: %.200s", st->tensors[i].name);
        else if (!fits(&st->tensors[i], p))
            lcl_misfits_add(bad, "misshapen or not floating: %.200s", st->tensors[i].name);
        if (p) of_row[p - t->rows] = &st->tensors[i];
    }
    for (int i = 0; i < t->n_rows; i++) /* layers that nothing reads may have none */
        if (t->rows[i].adapter && t->rows[i].used && !of_row[i])
            lcl_misfits_add(bad, "missing: %s", t->rows[i].name);
    return LCL_OK;
}

lcl_status lcl_peft_load(const char *dir, struct lcl_params *t)
{
    struct lcl_safetensors st;
    struct lcl_misfits bad = {0};
    LCL_TRY(open_weights(dir, &st));
    lcl_status status = LCL_OK;
    const struct lcl_st_tensor **of_row = calloc((size_t)t->n_rows + 1, sizeof *of_row);
    if (!of_row) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to load %s", dir);
        goto out;
    }
    LCL_TRY_GOTO(match(&st, t, of_row, &bad));
    LCL_TRY_GOTO(lcl_misfits_refuse(&bad, dir, "the adapters are for another model"));
    for (int i = 0; i < t->n_rows; i++)
        if (of_row[i])
            LCL_TRY_GOTO(lcl_st_read(of_row[i], 0, t->rows[i].count, LCL_F32,
                                     lcl_param_value(t, &t->rows[i])));
    lcl_params_changed(t);
out:
    free(of_row);
    lcl_st_close(&st);
    return status;
}

/* ---- saving ---- */

static lcl_status write_config(const char *dir, const struct lcl_params *t,
                               const struct lcl_model_config *m, const char *base)
{
    const double alpha = m->lora.alpha;
    json_t *targets = json_array();
    for (int i = 0; i < t->n_rows; i++) {
        char name[PEFT_NAME_BYTES];
        if (!t->rows[i].adapter || !strstr(t->rows[i].name, ".lora_A.")) continue;
        memory_name(t->rows[i].name, name);
        json_array_append_new(targets, json_stringn(name, module_length(name)));
    }
    json_t *root =
        json_pack("{s:s, s:I, s:o, s:f, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:n, s:n, s:{}, s:{}}",
                  "peft_type", "LORA", "r", (json_int_t)m->lora.rank, "lora_alpha",
                  alpha == floor(alpha) ? json_integer((json_int_t)alpha) : json_real(alpha),
                  "lora_dropout", 0.0, "target_modules", targets, "bias", "none", "fan_in_fan_out",
                  0, "inference_mode", 1, "init_lora_weights", 1, "use_rslora", 0, "use_dora", 0,
                  "modules_to_save", "task_type", "rank_pattern", "alpha_pattern");
    json_object_set_new(root, "base_model_name_or_path",
                        base && base[0] ? json_string(base) : json_null());
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    lcl_status status = lcl_fs_write_text(dir, "adapter_config.json", text);
    free(text);
    return status;
}

static lcl_status write_weights(const char *dir, const struct lcl_params *t, lcl_dtype dtype)
{
    size_t n = 0;
    struct lcl_st_item *items = calloc((size_t)t->n_rows + 1, sizeof *items);
    char(*names)[PEFT_NAME_BYTES + sizeof wrapper] = calloc((size_t)t->n_rows + 1, sizeof *names);
    char *path = lcl_strdupf("%s/adapter_model.safetensors", dir);
    lcl_status status =
        items && names && path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a list of tensors");
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        const struct lcl_param *p = &t->rows[i];
        char name[PEFT_NAME_BYTES];
        if (!p->adapter) continue;
        memory_name(p->name, name);
        snprintf(names[n], sizeof names[n], "%s%s", wrapper, name);
        items[n] = (struct lcl_st_item){.name = names[n],
                                        .dtype = dtype,
                                        .source = LCL_F32,
                                        .n_dims = 2,
                                        .shape = {p->shape[0], p->shape[1]},
                                        .data = lcl_param_value(t, p)};
        n++;
    }
    if (status == LCL_OK) status = lcl_st_write(path, items, n, NULL);
    free(items);
    free(names);
    free(path);
    return status;
}

lcl_status lcl_peft_save(const char *dir, const struct lcl_params *t,
                         const struct lcl_model_config *m,
                         const struct lcl_peft_save_options *options)
{
    if (m->lora.rank == 0)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "lora.rank trains some; --to hf writes whole models",
                             "the model has no adapters");
    for (int i = 0; m->standardize && i < t->n_rows; i++)
        if (t->rows[i].adapter && strstr(t->rows[i].name, "linear_1.lora_A."))
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, "--to hf merges it",
                                 "the adapter of linear_1 stands behind standardised features "
                                 "(mm_standardize), which PEFT folders have no place for");
    LCL_TRY(lcl_fs_mkdirs(dir));
    LCL_TRY(write_weights(dir, t, options->dtype));
    return write_config(dir, t, m, options->base);
}
