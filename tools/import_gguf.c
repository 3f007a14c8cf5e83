/* lcl import gguf: a language model of architecture llama as an HF LlamaForCausalLM folder, or with
 * the tower and projector of its mmproj file as an HF LLaVA folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_config.h"
#include "model/model.h"
#include "tools/cli.h"
#include "tools/import.h"
#include "tools/import_parts.h"
#include "tools/out_folder.h"
#include "train/gguf_tokenizer.h"

enum { TOWER = 1u << LCL_PART_VISION | 1u << LCL_PART_PROJECTOR, TEXT = 1u << LCL_PART_TEXT };

struct request {
    const char *file, *mmproj, *out, *image_token;
    int dtype; /* index of the option's words */
    size_t shard_bytes;
    bool force;
};

/* What is read: the files, and what the decoder's says by itself. */
struct source {
    struct lcl_gguf text, vision;
    struct lcl_model_config decoder;
    struct lcl_tokenizer *tokenizer;
};

/* ---- the decoder alone ---- */

static lcl_status write_config(const struct lcl_assembly *a, const struct lcl_model_config *m,
                               lcl_dtype dtype, const char *dir)
{
    char *text = NULL;
    if (dtype == LCL_DTYPE_COUNT)
        dtype = lcl_assembly_dtype(a, "language_model.model.embed_tokens.weight");
    LCL_TRY(lcl_hf_text_config_write(m, dtype, &text));
    lcl_status status = lcl_fs_write_text(dir, "config.json", text);
    free(text);
    return status;
}

static lcl_status write_decoder(const struct request *r, const struct source *s,
                                const struct lcl_assembly *a, const char *stage)
{
    const struct lcl_assembly_write_options o = {.parts = TEXT,
                                                 .decoder_alone = true,
                                                 .dtype = import_dtypes[r->dtype],
                                                 .max_shard_bytes = r->shard_bytes};
    LCL_TRY(lcl_fs_remove_tree(stage));
    LCL_TRY(lcl_fs_mkdirs(stage));
    LCL_TRY(lcl_tokenizer_save(s->tokenizer, stage));
    LCL_TRY(lcl_assembly_write(a, r->file, stage, &o));
    return write_config(a, &s->decoder, o.dtype, stage);
}

/* ---- with its tower ---- */

/* Three numbers of the tower's metadata; left alone where the key is absent. */
static lcl_status read_three(const struct lcl_gguf *g, const char *key, double low, float *x)
{
    double *list;
    size_t n;
    bool good = true;
    LCL_TRY(lcl_gguf_get_numbers(g, key, &list, &n));
    if (!list) return LCL_OK;
    for (size_t i = 0; i < n && i < 3; i++) {
        good &= isfinite(list[i]) && list[i] >= low && list[i] <= 1e6;
        x[i] = (float)list[i];
    }
    free(list);
    if (n == 3 && good) return LCL_OK;
    return LCL_FAIL(LCL_FORMAT, "%s: %s is not three numbers within %g..1e6", g->path, key, low);
}

/* The norm that no feature passes: llama.cpp's files leave it out, transformers wants it. */
static bool is_unread_norm(const struct lcl_param *p)
{
    return strncmp(p->name, "vision_tower.post_layernorm.", 28) == 0;
}

static lcl_status write_llava(const struct request *r, const struct source *s,
                              const struct lcl_model_config *m, struct lcl_assembly *a,
                              const char *stage)
{
    struct lcl_hf_save_options settings = {0};
    const struct import_llava l = {.where = r->mmproj,
                                   .m = m,
                                   .tokenizer = s->tokenizer,
                                   .settings = &settings,
                                   .dtype = import_dtypes[r->dtype],
                                   .shard_bytes = r->shard_bytes};
    int n;
    LCL_TRY(read_three(&s->vision, "clip.vision.image_mean", -1e6, settings.image_mean));
    LCL_TRY(read_three(&s->vision, "clip.vision.image_std", 1e-6, settings.image_std));
    LCL_TRY(lcl_assembly_take_gguf(a, &s->vision, m, TOWER));
    LCL_TRY(lcl_assembly_draw(a, is_unread_norm, 0, &n));
    if (n > 0)
        printf("vision_tower.post_layernorm: not in the file, written as 1 and 0; no "
               "feature passes it\n");
    return import_write_llava(a, &l, stage);
}

/* ---- the verb ---- */

static lcl_status open_source(const struct request *r, struct source *s)
{
    LCL_TRY(lcl_gguf_open(r->file, &s->text));
    LCL_TRY(lcl_gguf_read_text(&s->text, &s->decoder));
    if (r->mmproj) LCL_TRY(lcl_gguf_open(r->mmproj, &s->vision));
    LCL_TRY(lcl_gguf_tokenizer_load(&s->text, s->decoder.text.V, r->image_token, &s->tokenizer));
    if (!r->image_token || lcl_tokenizer_id(s->tokenizer, r->image_token) >= 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_NOT_FOUND, "name one of its tokens that no text needs",
                         "--image-token: %s has no token \"%s\"", r->file, r->image_token);
}

static lcl_status write_model(const struct request *r, struct source *s, const char *stage)
{
    struct lcl_model_config m = s->decoder;
    struct lcl_assembly a = {0};
    struct lcl_model shape;
    lcl_status status;
    if (r->mmproj) {
        LCL_TRY(lcl_gguf_read_vision(&s->vision, &m));
        LCL_TRY(import_add_tokens(&s->tokenizer, &m));
    }
    LCL_TRY(lcl_model_create(&shape, &m));
    LCL_TRY_GOTO(lcl_assembly_begin(&a, &shape.params));
    LCL_TRY_GOTO(lcl_assembly_take_gguf(&a, &s->text, &s->decoder, TEXT));
    status = r->mmproj ? write_llava(r, s, &m, &a, stage) : write_decoder(r, s, &a, stage);
out:
    lcl_assembly_free(&a);
    lcl_model_free(&shape);
    return status;
}

static lcl_status convert(const struct request *r)
{
    struct source s = {0};
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(out_folder_check(r->out, r->force));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(open_source(r, &s));
    LCL_TRY_GOTO(write_model(r, &s, stage));
    LCL_TRY_GOTO(out_folder_publish(stage, r->out));
    printf("%s: %s, %zu tensors\n", r->out,
           r->mmproj ? "LlavaForConditionalGeneration" : "LlamaForCausalLM",
           s.text.n_tensors + s.vision.n_tensors);
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    lcl_tokenizer_free(s.tokenizer);
    lcl_gguf_close(&s.text);
    lcl_gguf_close(&s.vision);
    free(stage);
    return status;
}

lcl_status import_gguf(int argc, char **argv)
{
    struct request r = {0};
    const struct cli_option options[] = {
        {"--file", CLI_STR, &r.file, .value = "FILE", .required = true, .doc = "GGUF file to read"},
        {"--mmproj", CLI_STR, &r.mmproj, .value = "FILE",
         .doc = "GGUF file of its vision tower and projector"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        {"--dtype", CLI_CHOICE, &r.dtype, .words = IMPORT_DTYPE_WORDS,
         .doc = "type of the weights; as stored, quantised ones become f32"},
        CLI_SHARD_OPTION(&r.shard_bytes),
        {"--image-token", CLI_STR, &r.image_token, .value = "TOKEN",
         .doc = "token of the file that stands for pictures where it has a tower or is joined with "
                "one; default: <image>, added with --mmproj if there is none"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace the HF folder that DIR is"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--file FILE [--mmproj FILE] --out DIR [options]",
        .about = "Writes a language model of architecture llama as an HF LlamaForCausalLM folder: "
                 "config.json,\nsafetensors, tokenizer.json; with the mmproj file of its tower and "
                 "projector as an HF\nLLaVA folder. f32, f16, bf16, q8_0, q4_0 and q4_1 are read; "
                 "anything that is not known is an\nerror that names it.",
        .options = options,
        .notes =
            "Examples:\n  lcl import gguf --file SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2 "
            "--image-token '<empty_output>'\n"
            "  lcl train CONFIG --set init_from=smollm2 --set init_parts=text --set "
            "init_vision_from=RUN\n"
            "  lcl import gguf --file llava.gguf --mmproj mmproj.gguf --out llava"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : convert(&r);
}
