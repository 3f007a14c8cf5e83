/* lcl import delta: base + delta, as Vicuna, LLaVA v0 and Shikra are published. */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/delta.h"
#include "checkpoint/hf.h"
#include "core/log.h"
#include "model/model.h"
#include "tools/cli.h"
#include "tools/export.h"
#include "tools/import.h"
#include "tools/out_folder.h"

struct request {
    const char *base, *delta, *out;
    size_t shard_bytes;
    bool force;
};

/* All but the weights comes from the delta. */
static lcl_status copy_files(const char *delta, const char *dir)
{
    static const char *const files[] = {
        "generation_config.json", "preprocessor_config.json", "processor_config.json",
        "tokenizer_config.json",  "special_tokens_map.json",  "added_tokens.json",
        "chat_template.jinja",    "tokenizer.json",           "tokenizer.model"};
    bool config, found, tokenizer = false;
    LCL_TRY(export_carry_over(delta, dir, "config.json", &config));
    if (!config)
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "give the folder that the delta was published as",
                             "%s has no config.json", delta);
    for (int i = 0; i < 9; i++) {
        LCL_TRY(export_carry_over(delta, dir, files[i], &found));
        tokenizer |= found && i >= 7;
    }
    if (!tokenizer)
        lcl_log_warn("%s has neither tokenizer.json nor tokenizer.model: copy the tokenizer of its "
                     "vocabulary there",
                     delta);
    return LCL_OK;
}

/* The decoder must be what config.json says. A model that cannot be computed here is whole all the
 * same. */
static lcl_status read_back(const char *dir)
{
    struct lcl_safetensors st;
    struct lcl_model_config m;
    struct lcl_model model;
    const struct lcl_st_tensor **of_row = NULL;
    LCL_TRY(lcl_st_open(dir, &st));
    lcl_status status = lcl_hf_config_read(dir, &st, &m);
    if (status != LCL_OK) {
        lcl_log_warn("lcl cannot compute it: %s", lcl_error_message());
        status = LCL_OK;
    } else if ((status = lcl_model_create(&model, &m)) == LCL_OK) {
        status = lcl_hf_match(dir, &st, &m, &model.params, 1u << LCL_PART_TEXT, &of_row);
        lcl_model_free(&model);
    }
    free(of_row);
    lcl_st_close(&st);
    return status;
}

static lcl_status apply(const struct request *r)
{
    struct lcl_delta_counts n;
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(out_folder_check(r->out, r->force));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(lcl_fs_remove_tree(stage));
    LCL_TRY_GOTO(lcl_fs_mkdirs(stage));
    LCL_TRY_GOTO(copy_files(r->delta, stage));
    LCL_TRY_GOTO(lcl_delta_apply(r->base, r->delta, stage, r->shard_bytes, &n));
    LCL_TRY_GOTO(read_back(stage));
    LCL_TRY_GOTO(out_folder_publish(stage, r->out));
    printf("%s: %zu tensors of base + delta (%zu with rows of the delta's own), %zu of the delta "
           "alone\n",
           r->out, n.added, n.extended, n.own);
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    free(stage);
    return status;
}

lcl_status import_delta(int argc, char **argv)
{
    struct request r = {0};
    const struct cli_option options[] = {
        {"--base", CLI_STR, &r.base, .value = "DIR", .required = true,
         .doc = "HF folder of the model that the delta is added to"},
        {"--delta", CLI_STR, &r.delta, .value = "DIR", .required = true,
         .doc = "folder of the delta, with its config.json and tokenizer"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        CLI_SHARD_OPTION(&r.shard_bytes),
        {"--force", CLI_FLAG, &r.force, .doc = "replace the HF folder that DIR is"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--base DIR --delta DIR --out DIR [options]",
        .about =
            "Adds a weight delta to its base, as Vicuna v0 and v1.1, LLaVA v0 and Shikra are "
            "published:\neach sum in f32, rounded to the delta's type. Rows of an extended "
            "vocabulary and the\nprojector are the delta's. A tensor that is missing in either "
            "or misshapen is an error\nthat lists all such.",
        .options = options,
        .notes = "Example:\n  lcl import delta --base llama-7b --delta shikra-7b-delta-v1 --out "
                 "shikra-7b"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : apply(&r);
}
