/* lcl export: a run, checkpoint or HF folder as an HF LLaVA folder.
 *
 * The folder is made beside its place, read back and compared with the model before it is moved
 * there. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "tools/export_peft.h"
#include "train/env.h"

enum { PROBE_WORDS = 16, SMALL_FILE_BYTES = 16 << 20 };
enum { TO_HF, TO_PEFT, TO_LLAVA_V1 };

struct request {
    const char *from, *out;
    int to, dtype; /* indices of the option's words */
    bool force;
    struct cli_list sets;
};

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16, LCL_F16};

/* ---- the probe: logits of one picture between random words ---- */

struct probe {
    int64_t T, V;
    float *pixels, *logits; /* [3, S, S], [PROBE_WORDS, V] of the words after the picture */
    int32_t *words;         /* [7 T] */
};

static void probe_free(struct probe *p)
{
    free(p->pixels);
    free(p->logits);
    free(p->words);
    *p = (struct probe){0};
}

static lcl_status probe_make(struct probe *p, const struct lcl_model_config *m)
{
    int64_t side = m->vision.image_size, pixels = 3 * side * side;
    if (m->image_token < 0 || m->image_token >= m->text.V)
        return LCL_FAIL(LCL_UNSUPPORTED,
                        "the model has no image token in its vocabulary of %lld tokens (id %d)",
                        (long long)m->text.V, m->image_token);
    p->T = PROBE_WORDS + lcl_tokens_per_image(m) + PROBE_WORDS;
    p->V = m->text.V;
    p->pixels = malloc((size_t)pixels * sizeof *p->pixels);
    p->logits = malloc((size_t)(PROBE_WORDS * p->V) * sizeof *p->logits);
    p->words = malloc((size_t)(4 * p->T) * sizeof *p->words);
    if (!p->pixels || !p->logits || !p->words)
        return LCL_FAIL(LCL_MEMORY, "no memory for a probe of %lld tokens", (long long)p->T);
    struct lcl_rng rng = lcl_rng_stream(0, LCL_RNG_SAMPLING, 0, 0);
    for (int64_t i = 0; i < pixels; i++) p->pixels[i] = lcl_rng_normal(&rng);
    for (int64_t t = 0; t < p->T; t++) {
        bool picture = t >= PROBE_WORDS && t < p->T - PROBE_WORDS;
        do {
            p->words[t] = picture ? m->image_token : (int32_t)lcl_rng_below(&rng, (uint32_t)p->V);
        } while (!picture && p->words[t] == m->image_token);
    }
    return LCL_OK;
}

/* Fills p->logits. */
static lcl_status probe_run(struct probe *p, struct lcl_env *e)
{
    struct lcl_pass pass = {.exec = &e->exec, .model = &e->model};
    struct lcl_attn_run run = {.q_end = (int32_t)p->T, .own_end = (int32_t)p->T};
    int32_t *position = p->words + p->T, *slot = position + p->T, *slot_row = slot + p->T;
    int32_t row[PROBE_WORDS], target[PROBE_WORDS] = {0}, view = 0;
    float weight[PROBE_WORDS];
    uint8_t is_label[PROBE_WORDS] = {0};
    int64_t image = 0;
    struct lcl_batch b = {.T = p->T,
                          .id_T = p->words,
                          .position_T = position,
                          .n_runs = 1,
                          .runs = &run,
                          .n_images = 1,
                          .image_I = &image,
                          .view_I = &view,
                          .n_slots = p->T - 2 * PROBE_WORDS,
                          .slot = slot,
                          .slot_row = slot_row,
                          .S = PROBE_WORDS,
                          .row_S = row,
                          .target_S = target,
                          .weight_S = weight,
                          .is_label_S = is_label};
    for (int32_t t = 0; t < p->T; t++) position[t] = t;
    for (int32_t i = 0; i < b.n_slots; i++) {
        slot[i] = PROBE_WORDS + i;
        slot_row[i] = i;
    }
    for (int i = 0; i < PROBE_WORDS; i++) {
        row[i] = (int32_t)p->T - PROBE_WORDS + i;
        weight[i] = 1;
    }
    double loss;
    lcl_status status =
        lcl_model_loss(&pass, &b, &(struct lcl_images){.pixels = p->pixels}, &loss, p->logits);
    lcl_pass_free(&pass);
    return status;
}

struct difference {
    double rms, most, size; /* of a - b; greatest; rms of a */
};

static struct difference compare(const float *a, const float *b, int64_t n)
{
    struct difference d = {0};
    for (int64_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]);
        d.rms += x * x / (double)n;
        d.size += (double)a[i] * (double)a[i] / (double)n;
        if (!(x <= d.most)) d.most = x; /* NaN stays */
    }
    d.rms = sqrt(d.rms);
    d.size = sqrt(d.size);
    return d;
}

/* What the model itself loses when its parameters are rounded to the exported type: the measure
 * for what the exported folder may differ by. */
static lcl_status round_parameters(struct lcl_params *t, lcl_dtype dtype)
{
    uint16_t half[1024];
    if (dtype == LCL_F32) return LCL_OK;
    for (int i = 0; i < t->n_rows; i++) {
        float *v = lcl_param_value(t, &t->rows[i]);
        for (size_t at = 0, n; at < t->rows[i].count; at += n) {
            n = t->rows[i].count - at < 1024 ? t->rows[i].count - at : 1024;
            LCL_TRY(lcl_convert(half, dtype, v + at, LCL_F32, n));
            LCL_TRY(lcl_convert(v + at, LCL_F32, half, dtype, n));
        }
    }
    lcl_params_changed(t);
    return LCL_OK;
}

/* ---- the folder ---- */

/* Chat templates that apply_chat_template of transformers (and those who read its folders) fills:
 * as episodes are worded, with a picture wherever a part of type "image" stands. */
static char *chat_template(const char *image)
{
    if (strpbrk(image, "'\\")) return NULL;
    return lcl_strdupf(
        "{%% macro words(content) %%}{%% if content is string %%}{{ content }}{%% else %%}"
        "{%% for part in content %%}{{ '%s' if part['type'] == 'image' else part['text'] }}"
        "{%% endfor %%}{%% endif %%}{%% endmacro %%}"
        "{%% for message in messages %%}"
        "{%% if message['role'] == 'system' %%}{{ words(message['content']) + ' ' }}"
        "{%% elif message['role'] == 'user' %%}{{ 'USER: ' + words(message['content']) + ' ' }}"
        "{%% else %%}{{ 'ASSISTANT: ' + words(message['content']) + eos_token }}{%% endif %%}"
        "{%% endfor %%}{%% if add_generation_prompt %%}{{ 'ASSISTANT:' }}{%% endif %%}",
        image);
}

static lcl_status write_text(const char *dir, const char *name, const char *text)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    lcl_status status = path && text ? lcl_fs_write_atomic(path, text, strlen(text))
                                     : LCL_FAIL(LCL_MEMORY, "no memory for %s", name);
    free(path);
    return status;
}

/* The template of DIR/tokenizer_config.json, where programs that read the tokenizer alone look for
 * it, and in chat_template.jinja, where processors do; ours where there is none. */
static lcl_status add_chat_template(const char *dir, const struct lcl_tokenizer *t)
{
    lcl_status status = LCL_OK;
    char *text = NULL, *made = NULL, *path = lcl_strdupf("%s/tokenizer_config.json", dir);
    const char *image = lcl_tokenizer_token(t, lcl_tokenizer_image(t));
    char *words = chat_template(image ? image : "<image>");
    json_t *root = NULL;
    size_t size;
    if (!path) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        goto out;
    }
    LCL_TRY_GOTO(lcl_fs_read(path, SMALL_FILE_BYTES, &text, &size));
    root = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(root)) {
        status = LCL_FAIL(LCL_FORMAT, "%s is not a JSON object", path);
        goto out;
    }
    if (words && !json_object_get(root, "chat_template")) {
        json_object_set_new(root, "chat_template", json_string(words));
        made = json_dumps(root, JSON_INDENT(2));
        LCL_TRY_GOTO(write_text(dir, "tokenizer_config.json", made));
    }
    const char *template = json_string_value(json_object_get(root, "chat_template"));
    if (template) status = write_text(dir, "chat_template.jinja", template);
out:
    json_decref(root);
    free(words);
    free(made);
    free(text);
    free(path);
    return status;
}

/* Copies FROM/name where it is there; *found may be NULL. */
static lcl_status carry_over(const char *from, const char *dir, const char *name, bool *found)
{
    char *source = lcl_strdupf("%s/%s", from, name), *path = lcl_strdupf("%s/%s", dir, name);
    char *text = NULL;
    size_t size;
    lcl_status status = source && path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    bool there = status == LCL_OK && from[0] && lcl_fs_exists(source);
    if (there) status = lcl_fs_read(source, SMALL_FILE_BYTES, &text, &size);
    if (there && status == LCL_OK) status = lcl_fs_write_atomic(path, text, size);
    if (found) *found = there;
    free(source);
    free(path);
    free(text);
    return status;
}

/* Where LlavaProcessor finds how many placeholders a picture takes. */
static lcl_status write_processor(const char *dir, const struct lcl_env *e)
{
    const struct lcl_model_config *m = &e->model.config;
    const char *image = lcl_tokenizer_token(e->tokenizer, m->image_token);
    json_t *root =
        json_pack("{s:s, s:I, s:s, s:i, s:s}", "processor_class", "LlavaProcessor", "patch_size",
                  (json_int_t)m->vision.patch_size, "vision_feature_select_strategy",
                  m->keep_class ? "full" : "default", "num_additional_image_tokens", 1,
                  "image_token", image ? image : "<image>");
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    lcl_status status = write_text(dir, "processor_config.json", text);
    free(text);
    return status;
}

/* c->init_from is where a tuned model came from: it may hold a chat template of its own. */
static lcl_status write_folder(const struct request *r, const struct lcl_env *e,
                               const struct lcl_config *c, const char *dir)
{
    struct lcl_hf_save_options o = {.dtype = dtypes[r->dtype],
                                    .pad_to_square = e->preprocess.mode == LCL_RESIZE_PAD,
                                    .llava_v1 = r->to == TO_LLAVA_V1};
    bool is_hf = !lcl_checkpoint_is_folder(r->from), jinja = false;
    const char *origin = is_hf ? r->from : c->init_from;
    memcpy(o.background, e->preprocess.background, sizeof o.background);
    LCL_TRY(lcl_hf_save(dir, &e->model.params, &e->model.config, &o));
    LCL_TRY(lcl_tokenizer_save(e->tokenizer, dir));
    if (r->to == TO_HF) LCL_TRY(write_processor(dir, e));
    if (is_hf) LCL_TRY(carry_over(r->from, dir, "preprocessor_config.json", NULL));
    LCL_TRY(carry_over(origin, dir, "chat_template.jinja", &jinja));
    return jinja ? LCL_OK : add_chat_template(dir, e->tokenizer);
}

/* Nothing is overwritten by chance: DIR is new or empty, or an HF folder under --force. */
static lcl_status check_target(const struct request *r)
{
    char **names;
    size_t n;
    if (!lcl_fs_exists(r->out)) return LCL_OK;
    LCL_TRY(lcl_fs_list(r->out, &names, &n));
    lcl_fs_list_free(names, n);
    if (n == 0) return LCL_OK;
    if (!r->force)
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder, or give --force",
                             "%s holds files already", r->out);
    if (!lcl_hf_is_folder(r->out))
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder",
                             "%s holds files, and no HF folder that could be replaced", r->out);
    if (lcl_checkpoint_is_folder(r->out))
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder",
                             "%s holds a run, which an export would be mixed with", r->out);
    return LCL_OK;
}

static bool is_weights(const char *name)
{
    size_t n = strlen(name);
    return strncmp(name, "model", 5) == 0 &&
           ((n > 12 && strcmp(name + n - 12, ".safetensors") == 0) ||
            strcmp(name, "model.safetensors.index.json") == 0);
}

/* Removes weights of an earlier export that this one does not hold. */
static lcl_status remove_weights(const char *dir, char **kept, size_t n_kept)
{
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        bool keep = !is_weights(names[i]);
        for (size_t k = 0; k < n_kept; k++) keep |= strcmp(names[i], kept[k]) == 0;
        char *path = keep ? NULL : lcl_strdupf("%s/%s", dir, names[i]);
        if (path) status = lcl_fs_remove_tree(path);
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

static lcl_status publish(const char *stage, const char *out)
{
    if (!lcl_fs_exists(out)) return lcl_fs_commit(stage, out);
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(stage, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char *from = lcl_strdupf("%s/%s", stage, names[i]);
        char *to = lcl_strdupf("%s/%s", out, names[i]);
        if (to && lcl_fs_is_dir(to)) status = lcl_fs_remove_tree(to);
        if (status == LCL_OK)
            status =
                from && to ? lcl_fs_commit(from, to) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(from);
        free(to);
    }
    if (status == LCL_OK) status = remove_weights(out, names, n);
    lcl_fs_list_free(names, n);
    return status == LCL_OK ? lcl_fs_remove_tree(stage) : status;
}

/* ---- the verb ---- */

/* own: the model's logits; rounded: those of the model with its parameters rounded as the export's
 * are. The export may lose at most twice as much as plain rounding does, and the noise of f32. */
static lcl_status check_export(const struct request *r, const struct probe *own,
                               const struct probe *rounded, const struct probe *written)
{
    int64_t n = PROBE_WORDS * own->V;
    struct difference plain = compare(own->logits, rounded->logits, n);
    struct difference export = compare(own->logits, written->logits, n);
    double allowed = 2 * plain.rms + 1e-5 * export.size;
    if (!isfinite(export.rms) && dtypes[r->dtype] == LCL_F16)
        return LCL_FAIL_HINT(LCL_NUMERIC, "export with --dtype bf16 or f32",
                             "the model does not fit f16: its logits are not finite");
    if (!(export.rms <= allowed))
        return LCL_FAIL(LCL_CORRUPT,
                        "what was written to %s does not compute what the model does: logits "
                        "differ by %.3g (root mean square, of %.3g), allowed are %.3g",
                        r->out, export.rms, export.size, allowed);
    lcl_log_info("self-check: logits of the folder read back differ by at most %.3g (root mean "
                 "square %.3g, of %.3g)",
                 export.most, export.rms, export.size);
    return LCL_OK;
}

/* Loads, takes the probe's logits, and writes. The model is closed before the folder is read back,
 * so that one model at a time is in memory. */
static lcl_status write_and_probe(const struct request *r, const struct lcl_config *c,
                                  const char *stage, struct probe *own, struct probe *rounded)
{
    struct lcl_env e = {0};
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->from, c));
    LCL_TRY_GOTO(lcl_fs_remove_tree(stage));
    LCL_TRY_GOTO(probe_make(own, &e.model.config));
    LCL_TRY_GOTO(probe_make(rounded, &e.model.config));
    LCL_TRY_GOTO(probe_run(own, &e)); /* with adapters as they are */
    LCL_TRY_GOTO(lcl_lora_merge(&e.model));
    LCL_TRY_GOTO(write_folder(r, &e, c, stage));
    LCL_TRY_GOTO(round_parameters(&e.model.params, dtypes[r->dtype]));
    LCL_TRY_GOTO(probe_run(rounded, &e));
out:
    lcl_env_close(&e);
    return status;
}

static lcl_status read_back(const struct lcl_config *c, const char *stage, struct probe *p)
{
    struct lcl_env e = {0};
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, stage, c));
    LCL_TRY_GOTO(probe_make(p, &e.model.config));
    status = probe_run(p, &e);
out:
    lcl_env_close(&e);
    return status;
}

/* Removes what a failed export left, and keeps the error. */
static void discard(const char *stage, lcl_status status)
{
    struct lcl_error error;
    lcl_error_save(&error, status);
    lcl_status ignored = lcl_fs_remove_tree(stage);
    ignored = lcl_error_restore(&error);
    (void)ignored;
}

static lcl_status export_hf(const struct request *r)
{
    struct probe own = {0}, rounded = {0}, written = {0};
    struct lcl_config c;
    int n = (int)strlen(r->out);
    while (n > 1 && r->out[n - 1] == '/') n--;
    char *stage = lcl_strdupf("%.*s.lcl-export", n, r->out);
    lcl_status status;
    if (!stage) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(check_target(r));
    LCL_TRY_GOTO(lcl_env_run_config(r->from, r->sets.v, r->sets.n, &c));
    c.bf16 = false;
    LCL_TRY_GOTO(write_and_probe(r, &c, stage, &own, &rounded));
    c.tokenizer[0] = '\0';    /* the folder's own */
    c.lora_adapter[0] = '\0'; /* merged */
    LCL_TRY_GOTO(read_back(&c, stage, &written));
    LCL_TRY_GOTO(check_export(r, &own, &rounded, &written));
    LCL_TRY_GOTO(publish(stage, r->out));
    printf("%s: %s, %s\n", r->out,
           r->to == TO_HF ? "LlavaForConditionalGeneration" : "LLaVA v1 (LlavaLlamaForCausalLM)",
           lcl_dtype_name(dtypes[r->dtype]));
out:
    if (status != LCL_OK) discard(stage, status);
    probe_free(&own);
    probe_free(&rounded);
    probe_free(&written);
    free(stage);
    return status;
}

static lcl_status export_adapters(const struct request *r)
{
    struct lcl_config c;
    LCL_TRY(lcl_env_run_config(r->from, r->sets.v, r->sets.n, &c));
    c.bf16 = false;
    return export_peft(r->from, r->out, dtypes[r->dtype], r->force, &c);
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {0};
    const char *tower = NULL;
    const struct cli_option options[] = {
        {"--to", CLI_CHOICE, &r.to, .words = "hf|peft|llava-v1",
         .doc = "format of the export; llava-v1: the original LLaVA's names, the tower in a folder "
                "below"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        {"--dtype", CLI_CHOICE, &r.dtype, .words = "f32|bf16|f16", .doc = "type of the weights"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace the export that DIR holds"},
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&r.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "RUN --to hf|peft|llava-v1 --out DIR [options]",
        .about = "Writes a run, a checkpoint or an HF LLaVA folder as an HF folder: config, "
                 "safetensors,\ntokenizer, chat template and preprocessing, as transformers' "
                 "LlavaForConditionalGeneration\nreads them. Reads it back and compares logits "
                 "before it is moved into place. "
                 "Adapters are merged into it; --to peft writes them alone, as peft\nreads them.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "Models that pool a picture's patches (mm_image_pool) have no HF form.\n"
                 "Example:\n  lcl export runs/birds --to hf --out birds-hf --dtype bf16"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    lcl_hf_use_tower(tower);
    r.from = args.v[0];
    return r.to == TO_PEFT ? export_adapters(&r) : export_hf(&r);
}

const struct cli_verb verb_export = {"export", "write a model as an HF folder", 60, run};
