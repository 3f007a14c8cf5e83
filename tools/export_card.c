/* The model card of an export, and where the example beside it goes. */
#include "tools/export_card.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "tools/inspect_model.h"
#include "train/metrics.h"

static const struct {
    const char *library, *what, *use;
} kinds[] = {
    [EXPORT_HF] = {"transformers",
                   "A folder for transformers (`LlavaForConditionalGeneration`) and what reads its "
                   "folders.",
                   "`python example.py dax=a.png blicket=b.png question.png` shows it two labelled "
                   "pictures and asks\nabout a third."},
    [EXPORT_GGUF] = {"gguf",
                     "Files for llama.cpp: `model.gguf`, the decoder and its tokenizer, and "
                     "`mmproj.gguf`, the vision\ntower and projector.",
                     "`python example.py dax=a.png blicket=b.png question.png` (llama-cpp-python) "
                     "shows it two labelled\npictures and asks about a third; `llama-mtmd-cli -m "
                     "model.gguf --mmproj mmproj.gguf` loads them, too.\nBuilds of llama.cpp whose "
                     "graph of LLaVA towers has issue 25814 read the pictures wrongly."},
    [EXPORT_LLAVA_V1] = {"llava",
                         "The original LLaVA layout (`LlavaLlamaForCausalLM`), the vision tower in "
                         "a folder below.",
                         "The original LLaVA code and its descendants load it."},
    [EXPORT_PEFT] = {"peft", "A LoRA adapter for peft, without the model that it changes.",
                     "`python example.py dax=a.png blicket=b.png question.png` loads base and "
                     "adapter, shows two labelled\npictures and asks about a third. "
                     "`adapter_config.json` names the base: it must be an HF folder; where it\nis "
                     "a run, write it with `lcl export --to hf` and put that folder's name there."},
};
static const char text_alone[] =
    "A decoder for llama.cpp without a vision tower: `model.gguf`, its tokenizer in it.";

static void write_architecture(FILE *f, const struct lcl_model_config *m, bool text_only)
{
    json_t *out = json_object(), *value;
    const char *key;
    inspect_model_config(m, out);
    fputs("\n## Architecture\n| part | |\n|---|---|\n", f);
    json_object_foreach(json_object_get(out, "architecture"), key, value)
    {
        bool picture = strcmp(key, "vision") == 0 || strcmp(key, "image_features") == 0 ||
                       strcmp(key, "projector") == 0;
        if (!text_only || !picture)
            fprintf(f, "| %.*s | %s |\n", (int)strcspn(key, "_"), key, json_string_value(value));
    }
    json_decref(out);
}

/* Loss and accuracies of the run up to the step, from the metrics beside its checkpoints. */
static void write_record(FILE *f, const char *run, const char *checkpoint, int64_t step)
{
    struct lcl_metrics_table t = {0};
    char *own = lcl_strdupf("%s/metrics.jsonl", run);
    char *above = lcl_strdupf("%s/../metrics.jsonl", checkpoint);
    const char *path = own && lcl_fs_exists(own) ? own : above;
    if (!path || !lcl_fs_exists(path) || lcl_metrics_load(path, &t) != LCL_OK) t.n = 0;
    double loss = NAN;
    int64_t evaluated = -1;
    for (size_t i = 0; i < t.n && t.rows[i].step <= step; i++) {
        if (!isnan(t.rows[i].loss)) loss = t.rows[i].loss;
        if (strcmp(t.rows[i].kind, "eval") == 0) evaluated = t.rows[i].step;
    }
    if (!isnan(loss)) fprintf(f, "- training loss at the end: %.4g\n", loss);
    for (size_t i = 0; i < t.n && evaluated >= 0; i++)
        if (strcmp(t.rows[i].kind, "eval") == 0 && t.rows[i].step == evaluated)
            fprintf(f,
                    "- accuracy at step %lld, %g shots: %.3f greedy, %.3f by likelihood "
                    "(%g episodes)\n",
                    (long long)evaluated, t.rows[i].shots, t.rows[i].greedy, t.rows[i].likelihood,
                    t.rows[i].episodes);
    lcl_metrics_table_free(&t);
    free(own);
    free(above);
}

/* The keys that the run set: the head of its resolved config. */
static void write_recipe(FILE *f, const char *yaml)
{
    const char *end = strstr(yaml, "# as by default");
    size_t n = end ? (size_t)(end - yaml) : strlen(yaml);
    if (n > 0) fprintf(f, "\n```yaml\n%.*s```\n", (int)n, yaml);
}

static lcl_status write_training(FILE *f, const char *from, const struct lcl_config *c)
{
    char path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_run_state_loaded s;
    fputs("\n## How it was trained\n", f);
    if (!lcl_checkpoint_is_folder(from)) {
        fprintf(f, "Not by lcl: it was read from `%s`.\n", from);
        return LCL_OK;
    }
    LCL_TRY(lcl_checkpoint_find(from, path, sizeof path));
    LCL_TRY(lcl_checkpoint_load_state(path, &s));
    fprintf(f, "- run: `%s`, step %lld, %lld tokens seen, seed %llu\n", from,
            (long long)s.state.step, (long long)s.state.tokens, (unsigned long long)s.state.seed);
    if (c->init_from[0])
        fprintf(f, "- began with: `%s` (%s)\n", c->init_from, c->init_parts);
    else
        fputs("- began with: random weights\n", f);
    if (c->init_vision_from[0]) fprintf(f, "- its vision tower: `%s`\n", c->init_vision_from);
    if (lcl_config_source(c)[0]) fprintf(f, "- pictures: `%s`\n", lcl_config_source(c));
    write_record(f, from, path, s.state.step);
    fputs("- recipe, the keys that differ from lcl's defaults (docs/config.md):\n", f);
    write_recipe(f, s.config_yaml ? s.config_yaml : "");
    lcl_run_state_free(&s);
    return LCL_OK;
}

static lcl_status card_text(const struct export_request *r, const struct lcl_env *e,
                            const struct lcl_config *c, char **text)
{
    size_t size;
    char name[256];
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for a model card");
    snprintf(name, sizeof name, "%s", lcl_fs_basename(r->from));
    fprintf(f,
            "---\nlibrary_name: %s\ntags: [lcl, link-context-learning]\n---\n# %s\n%s\n"
            "Weights are %s%s. Written by `lcl export`, which read it back and compared its logits "
            "with the model's.\n",
            kinds[r->to].library, name, r->text_only ? text_alone : kinds[r->to].what,
            export_dtype_name(r),
            e->model.config.lora.rank > 0 && r->to != EXPORT_PEFT ? ", adapters merged into them"
                                                                  : "");
    write_architecture(f, &e->model.config, r->text_only);
    lcl_status status = write_training(f, r->from, c);
    if (!r->text_only) fprintf(f, "\n## Use\n%s\n", kinds[r->to].use);
    fputs("\n## Licence\nThat of the models and pictures named above, which lcl does not know: "
          "say it here before you share this.\n",
          f);
    if (fclose(f) != 0 && status == LCL_OK)
        status = LCL_FAIL(LCL_MEMORY, "no memory for a model card");
    return status;
}

lcl_status export_card_write(const struct export_request *r, const struct lcl_env *e,
                             const struct lcl_config *c, const char *dir)
{
    char *text;
    lcl_status status = card_text(r, e, c, &text);
    if (status == LCL_OK) status = lcl_fs_write_text(dir, "README.md", text);
    free(text);
    if (status != LCL_OK || r->to == EXPORT_LLAVA_V1 || r->text_only) return status;
    status = export_example(r, e, c, &text);
    if (status == LCL_OK) status = lcl_fs_write_text(dir, "example.py", text);
    free(text);
    return status;
}
