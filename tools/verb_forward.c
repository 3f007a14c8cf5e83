/* lcl forward: a reference case through a model. */
#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/threads.h"
#include "cpu/cpu.h"
#include "tools/cli.h"
#include "train/forward.h"
#include "train/hf_folder.h"

static lcl_status forward(const char *model_dir, const char *case_path, const char *out, bool bf16)
{
    struct lcl_model_config config;
    struct lcl_model model = {0};
    struct lcl_hf_names names = {0};
    struct lcl_safetensors st = {0};
    struct lcl_case c = {0};
    struct lcl_exec exec = {0};
    bool own = lcl_checkpoint_is_folder(model_dir);
    char path[LCL_CHECKPOINT_PATH_BYTES];
    lcl_status status = LCL_OK;
    bool text_alone = lcl_hf_is_text_folder(model_dir);
    const unsigned parts = text_alone ? 1u << LCL_PART_TEXT : LCL_ALL_PARTS;
    LCL_TRY(lcl_threads_start(0));
    LCL_TRY(lcl_cpu_ops(&exec.ops));
    if (own) LCL_TRY(lcl_checkpoint_find(model_dir, path, sizeof path));
    LCL_TRY(own ? lcl_checkpoint_load_config(path, &config)
                : lcl_hf_folder_config(model_dir, &config));
    LCL_TRY(lcl_model_create(&model, &config));
    LCL_TRY_GOTO(lcl_model_reserve(&model, bf16, true, false));
    LCL_TRY_GOTO(own ? lcl_checkpoint_load(path, &model.params, false, NULL)
                     : lcl_hf_load(model_dir, &model.params, parts, &names));
    lcl_params_changed(&model.params);
    LCL_TRY_GOTO(lcl_st_open(case_path, &st));
    LCL_TRY_GOTO(lcl_case_read(&st, case_path, "", &config, &c));
    LCL_TRY_GOTO(lcl_forward_case(&exec, &model, own ? NULL : &names, &c, out));
out:
    lcl_case_free(&c);
    lcl_st_close(&st);
    lcl_hf_names_free(&names);
    lcl_model_free(&model);
    return status;
}

static lcl_status forward_clip(const char *model_dir, const char *case_path, const char *out,
                               bool bf16)
{
    struct lcl_exec exec = {0};
    struct lcl_clip clip;
    LCL_TRY(lcl_threads_start(0));
    LCL_TRY(lcl_cpu_ops(&exec.ops));
    LCL_TRY(lcl_hf_clip_load(model_dir, bf16, &clip));
    lcl_status status = lcl_forward_clip(&exec, &clip, case_path, out);
    lcl_clip_free(&clip);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *tower = NULL, *model = NULL, *case_path = NULL, *out = NULL;
    bool bf16 = false;
    const struct cli_option options[] = {
        {"--model", CLI_STR, &model, .value = "DIR", .required = true,
         .doc = "HF LLaVA folder, run folder or checkpoint; LlamaForCausalLM for text alone; "
                "CLIPModel: image_embeds and text_embeds"},
        {"--case", CLI_STR, &case_path, .value = "FILE", .required = true,
         .doc = "safetensors with input_ids, attention_mask, labels, pixel_values"},
        {"--out", CLI_STR, &out, .value = "FILE", .required = true, .doc = "safetensors to write"},
        {"--bf16", CLI_FLAG, &bf16, .doc = "compute in bfloat16"},
        CLI_TOWER_OPTION(&tower),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model DIR --case FILE --out FILE",
        .about =
            "Runs a batch forward and backward and writes vision_hidden, image_features, logits, "
            "loss\n"
            "and the gradient of every parameter (grad.NAME) for comparison with another program.",
        .options = options};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    lcl_hf_use_tower(tower);
    if (args.help) return LCL_OK;
    return lcl_hf_is_tower_folder(model) ? forward_clip(model, case_path, out, bf16)
                                         : forward(model, case_path, out, bf16);
}

const struct cli_verb verb_forward = {
    "forward", "run a reference case and write logits and gradients", 90, run};
