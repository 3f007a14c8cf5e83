/* lcl export: a run, checkpoint or HF folder as an HF LLaVA folder, or as GGUF files.
 *
 * What is written is made beside its place, read back and compared with the model before it is
 * moved there. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "data/chat.h"
#include "tools/export_card.h"
#include "tools/export_peft.h"
#include "tools/out_folder.h"

enum { SMALL_FILE_BYTES = 16 << 20 };

/* By --dtype; the last is of GGUF alone. */
static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16, LCL_F16, LCL_DTYPE_COUNT};

/* What the model itself loses when its parameters are rounded to the exported type: the measure
 * for what the exported folder may differ by. */
static lcl_status round_hf(struct lcl_params *t, const struct export_request *r)
{
    uint16_t half[1024];
    lcl_dtype dtype = dtypes[r->dtype];
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

lcl_status export_add_chat_template(const char *dir, const struct lcl_config *c,
                                    const struct lcl_tokenizer *t)
{
    lcl_status status = LCL_OK;
    char *text = NULL, *made = NULL, *path = lcl_strdupf("%s/tokenizer_config.json", dir);
    const char *image = lcl_tokenizer_token(t, lcl_tokenizer_image(t));
    char *words = NULL;
    json_t *root = NULL;
    size_t size;
    if (!path) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        goto out;
    }
    LCL_TRY_GOTO(lcl_chat_jinja(lcl_chat_for(c, t), image ? image : "<image>", &words));
    LCL_TRY_GOTO(lcl_fs_read(path, SMALL_FILE_BYTES, &text, &size));
    root = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(root)) {
        status = LCL_FAIL(LCL_FORMAT, "%s is not a JSON object", path);
        goto out;
    }
    if (c->chat_template != LCL_CHAT_AUTO || !json_object_get(root, "chat_template")) {
        json_object_set_new(root, "chat_template", json_string(words));
        made = json_dumps(root, JSON_INDENT(2));
        LCL_TRY_GOTO(lcl_fs_write_text(dir, "tokenizer_config.json", made));
    }
    const char *template = json_string_value(json_object_get(root, "chat_template"));
    if (template) status = lcl_fs_write_text(dir, "chat_template.jinja", template);
out:
    json_decref(root);
    free(words);
    free(made);
    free(text);
    free(path);
    return status;
}

lcl_status export_carry_over(const char *from, const char *dir, const char *name, bool *found)
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

lcl_status export_write_processor(const char *dir, const struct lcl_tokenizer *t,
                                  const struct lcl_model_config *m)
{
    const char *image = lcl_tokenizer_token(t, m->image_token);
    json_t *root =
        json_pack("{s:s, s:I, s:s, s:i, s:s}", "processor_class", "LlavaProcessor", "patch_size",
                  (json_int_t)m->vision.patch_size, "vision_feature_select_strategy",
                  m->keep_class ? "full" : "default", "num_additional_image_tokens", 1,
                  "image_token", image ? image : "<image>");
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    lcl_status status = lcl_fs_write_text(dir, "processor_config.json", text);
    free(text);
    return status;
}

/* c->init_from is where a tuned model came from: it may hold a chat template of its own. */
static lcl_status write_hf(const struct export_request *r, const struct lcl_env *e,
                           const struct lcl_config *c, const char *dir)
{
    struct lcl_hf_save_options o = {.dtype = dtypes[r->dtype],
                                    .pad_to_square = e->preprocess.mode == LCL_RESIZE_PAD,
                                    .max_shard_bytes = r->shard_bytes,
                                    .llava_v1 = r->to == EXPORT_LLAVA_V1};
    bool is_hf = !lcl_checkpoint_is_folder(r->from), jinja = false;
    const char *origin = is_hf ? r->from : c->init_from;
    memcpy(o.background, e->preprocess.background, sizeof o.background);
    LCL_TRY(lcl_hf_save(dir, &e->model.params, &e->model.config, &o));
    LCL_TRY(lcl_tokenizer_save(e->tokenizer, dir));
    if (r->to == EXPORT_HF) LCL_TRY(export_write_processor(dir, e->tokenizer, &e->model.config));
    if (is_hf) LCL_TRY(export_carry_over(r->from, dir, "preprocessor_config.json", NULL));
    if (c->chat_template == LCL_CHAT_AUTO)
        LCL_TRY(export_carry_over(origin, dir, "chat_template.jinja", &jinja));
    return jinja ? LCL_OK : export_add_chat_template(dir, c, e->tokenizer);
}

static lcl_status read_back_hf(const struct export_request *r, const struct lcl_config *c,
                               const char *stage, const struct lcl_model_config *own,
                               struct lcl_env *e)
{
    struct lcl_config folder = *c;
    (void)r;
    (void)own;
    folder.tokenizer[0] = '\0';    /* the folder's own */
    folder.lora_adapter[0] = '\0'; /* merged */
    return lcl_env_load_model(e, stage, &folder);
}

/* ---- the verb ---- */

/* load: the model to export, for one that is text alone. round: makes the table's values those that
 * the export holds. read_back: fills e->model from the stage; `own` is the exported model's. */
static const struct format {
    lcl_status (*write)(const struct export_request *, const struct lcl_env *,
                        const struct lcl_config *, const char *stage);
    lcl_status (*round)(struct lcl_params *, const struct export_request *);
    lcl_status (*read_back)(const struct export_request *, const struct lcl_config *,
                            const char *stage, const struct lcl_model_config *own,
                            struct lcl_env *);
    const char *made;
} formats[] = {/* of all kinds but adapters */
               {write_hf, round_hf, read_back_hf, "LlavaForConditionalGeneration"},
               {export_gguf_write, export_gguf_round, export_gguf_read_back, "GGUF"},
               {write_hf, round_hf, read_back_hf, "LLaVA v1 (LlavaLlamaForCausalLM)"}};

/* Loads, takes the probe's logits, and writes. The model is closed before the export is read back,
 * so that one model at a time is in memory. */
static lcl_status write_and_probe(struct export_request *r, const struct lcl_config *c,
                                  const char *stage, struct probe *own, struct probe *rounded,
                                  struct lcl_model_config *model)
{
    const struct format *f = &formats[r->to];
    struct lcl_env e = {0};
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(r->is_text ? export_load_text(r->from, c, &e)
                            : lcl_env_load_model(&e, r->from, c));
    *model = e.model.config;
    LCL_TRY_GOTO(lcl_fs_remove_tree(stage));
    LCL_TRY_GOTO(probe_make(own, model, !r->text_only));
    LCL_TRY_GOTO(probe_make(rounded, model, !r->text_only));
    LCL_TRY_GOTO(probe_run(own, &e)); /* with adapters as they are */
    LCL_TRY_GOTO(lcl_lora_merge(&e.model));
    LCL_TRY_GOTO(f->write(r, &e, c, stage));
    LCL_TRY_GOTO(export_card_write(r, &e, c, stage));
    LCL_TRY_GOTO(f->round(&e.model.params, r));
    LCL_TRY_GOTO(probe_run(rounded, &e));
out:
    lcl_env_close(&e);
    return status;
}

static lcl_status probe_back(const struct export_request *r, const struct lcl_config *c,
                             const char *stage, const struct lcl_model_config *own, struct probe *p)
{
    struct lcl_env e = {0};
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_start(&e, c));
    LCL_TRY_GOTO(formats[r->to].read_back(r, c, stage, own, &e));
    LCL_TRY_GOTO(probe_make(p, &e.model.config, !r->text_only));
    status = probe_run(p, &e);
out:
    lcl_env_close(&e);
    return status;
}

static lcl_status check_request(struct export_request *r)
{
    bool gguf = r->to == EXPORT_GGUF;
    r->is_text = lcl_hf_is_text_folder(r->from);
    if (!gguf && r->is_text)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "it is an HF folder as it is; --to gguf converts it",
                             "%s is a language model without a vision tower", r->from);
    r->text_only = r->text_only || r->is_text;
    return out_folder_check(r->out, r->force);
}

static lcl_status export_model(struct export_request *r)
{
    struct probe own = {0}, rounded = {0}, written = {0};
    struct lcl_model_config model;
    struct lcl_config c;
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(check_request(r));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(lcl_env_run_config(r->from, r->sets.v, r->sets.n, &c));
    c.bf16 = false;
    c.lora_base = LCL_BASE_PLAIN; /* of what the blocks stand for */
    LCL_TRY_GOTO(write_and_probe(r, &c, stage, &own, &rounded, &model));
    LCL_TRY_GOTO(probe_back(r, &c, stage, &model, &written));
    LCL_TRY_GOTO(probe_check(r->out, dtypes[r->dtype] == LCL_F16, &own, &rounded, &written));
    LCL_TRY_GOTO(out_folder_publish(stage, r->out));
    printf("%s: %s, %s\n", r->out, formats[r->to].made, export_dtype_name(r));
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    probe_free(&own);
    probe_free(&rounded);
    probe_free(&written);
    free(stage);
    return status;
}

static lcl_status export_adapters(const struct export_request *r)
{
    struct lcl_config c;
    LCL_TRY(lcl_env_run_config(r->from, r->sets.v, r->sets.n, &c));
    c.bf16 = false;
    c.lora_base = LCL_BASE_PLAIN; /* of what the blocks stand for */
    return export_peft(r, dtypes[r->dtype], &c);
}

static lcl_status run(int argc, char **argv)
{
    struct export_request r = {0};
    const char *tower = NULL;
    const struct cli_option options[] = {
        {"--to", CLI_CHOICE, &r.to, .words = "hf|gguf|llava-v1|peft",
         .doc = "format of the export; llava-v1: the original LLaVA's names, the tower in a folder "
                "below"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        {"--dtype", CLI_CHOICE, &r.dtype, .words = "f32|bf16|f16|q8_0",
         .doc = "type of the weights"},
        CLI_SHARD_OPTION(&r.shard_bytes),
        {"--text-only", CLI_FLAG, &r.text_only, .doc = "of GGUF: the decoder without its tower"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace the export that DIR holds"},
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&r.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "RUN --to hf|gguf|llava-v1|peft --out DIR [options]",
        .about = "Writes a run, a checkpoint or an HF LLaVA folder as an HF folder: config, "
                 "safetensors,\ntokenizer, chat template and preprocessing, as transformers' "
                 "LlavaForConditionalGeneration\nreads them; or as model.gguf (decoder and "
                 "tokenizer) and mmproj.gguf (tower and projector)\nfor llama.cpp. Reads it back "
                 "and compares logits before it is moved into place. "
                 "Adapters are merged\ninto it; --to peft writes them alone, as peft reads them.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "Models that pool a picture's patches (mm_image_pool) have neither form.\n"
                 "An HF LlamaForCausalLM folder can be written as GGUF.\n"
                 "Examples:\n  lcl export runs/birds --to hf --out birds-hf --dtype bf16\n"
                 "  lcl export runs/birds --to gguf --out birds-gguf --dtype q8_0"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    lcl_hf_use_tower(tower);
    if (r.to != EXPORT_GGUF && (r.text_only || dtypes[r.dtype] == LCL_DTYPE_COUNT))
        return LCL_FAIL(LCL_CONFIG, "--text-only and --dtype q8_0 go with --to gguf");
    if (r.shard_bytes && r.to != EXPORT_HF && r.to != EXPORT_LLAVA_V1)
        return LCL_FAIL(LCL_CONFIG, "--shard-size goes with --to hf and llava-v1");
    r.from = args.v[0];
    return r.to == EXPORT_PEFT ? export_adapters(&r) : export_model(&r);
}

const struct cli_verb verb_export = {"export", "write a model as an HF folder or GGUF files", 60,
                                     run};
