/* lcl import gguf: a language model of architecture llama as an HF LlamaForCausalLM folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf_model.h"
#include "checkpoint/hf_config.h"
#include "model/model.h"
#include "tools/import.h"
#include "tools/out_folder.h"
#include "train/gguf_tokenizer.h"

struct request {
    const char *file, *out, *image_token;
    int dtype; /* index of the option's words */
    bool force;
};

static const lcl_dtype dtypes[] = {LCL_DTYPE_COUNT, LCL_F32, LCL_BF16, LCL_F16};

/* One tensor on its way. */
struct source {
    const struct lcl_gguf_tensor *tensor;
    size_t rotary_heads;
    struct lcl_st_reader reader;
    char name[LCL_PARAM_NAME_BYTES];
};

static lcl_status read_piece(const void *from, size_t first, size_t n, float *x)
{
    const struct source *s = from;
    return lcl_gguf_read(s->tensor, s->rotary_heads, first, n, x);
}

/* LlamaForCausalLM's name of a row: without what a LLaVA folder puts before it. */
static const char *decoder_name(const char *row) { return row + strlen("language_model."); }

static lcl_status write_weights(const struct lcl_gguf *g, const struct lcl_text_config *t,
                                lcl_dtype dtype, const char *dir)
{
    struct source *sources = calloc(g->n_tensors + 1, sizeof *sources);
    struct lcl_st_item *items = calloc(g->n_tensors + 1, sizeof *items);
    lcl_status status = LCL_OK;
    size_t n = 0;
    if (!sources || !items) status = LCL_FAIL(LCL_MEMORY, "no memory for a list of tensors");
    for (size_t i = 0; i < g->n_tensors && status == LCL_OK; i++) {
        const struct lcl_gguf_tensor *tensor = &g->tensors[i];
        struct source *s = &sources[n];
        if (!lcl_gguf_table_name(tensor->name, s->name)) continue; /* rope_freqs.weight: checked */
        s->tensor = tensor;
        s->rotary_heads = lcl_gguf_rotary_heads(tensor->name, t);
        s->reader = (struct lcl_st_reader){read_piece, s};
        struct lcl_st_item *item = &items[n++];
        *item =
            (struct lcl_st_item){.name = decoder_name(s->name),
                                 .dtype = dtype < LCL_DTYPE_COUNT ? dtype : lcl_gguf_dtype(tensor),
                                 .source = LCL_DTYPE_COUNT,
                                 .n_dims = tensor->n_dims,
                                 .data = &s->reader};
        memcpy(item->shape, tensor->shape, sizeof tensor->shape);
    }
    if (status == LCL_OK) status = lcl_st_write_folder(dir, items, n, 5000000000u);
    free(items);
    free(sources);
    return status;
}

/* The type that config.json names: that of the embedding. */
static lcl_status write_config(const struct lcl_gguf *g, const struct lcl_model_config *m,
                               lcl_dtype dtype, const char *dir)
{
    char *text = NULL;
    if (dtype == LCL_DTYPE_COUNT) dtype = lcl_gguf_dtype(lcl_gguf_tensor(g, "token_embd.weight"));
    LCL_TRY(lcl_hf_text_config_write(m, dtype, &text));
    lcl_status status = lcl_fs_write_text(dir, "config.json", text);
    free(text);
    return status;
}

static lcl_status write_tokenizer(const struct lcl_gguf *g, const struct lcl_model_config *m,
                                  const char *image_token, const char *dir)
{
    struct lcl_tokenizer *t;
    LCL_TRY(lcl_gguf_tokenizer_load(g, m->text.V, image_token, &t));
    lcl_status status = LCL_OK;
    if (image_token && lcl_tokenizer_id(t, image_token) < 0)
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "name one of its tokens that no text needs",
                               "--image-token: %s has no token \"%s\"", g->path, image_token);
    if (status == LCL_OK) status = lcl_tokenizer_save(t, dir);
    lcl_tokenizer_free(t);
    return status;
}

/* Every tensor must have its place and its shape. */
static lcl_status check_tensors(const struct lcl_gguf *g, const struct lcl_model_config *m)
{
    struct lcl_model model;
    LCL_TRY(lcl_model_create(&model, m));
    lcl_status status = lcl_gguf_require_fit(g, &model.params, 1u << LCL_PART_TEXT);
    lcl_model_free(&model);
    return status;
}

static lcl_status convert(const struct request *r)
{
    struct lcl_gguf g = {0};
    struct lcl_model_config m;
    char *stage = NULL;
    lcl_dtype dtype = dtypes[r->dtype];
    lcl_status status;
    LCL_TRY_GOTO(out_folder_check(r->out, r->force));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(lcl_gguf_open(r->file, &g));
    LCL_TRY_GOTO(lcl_gguf_read_text(&g, &m));
    LCL_TRY_GOTO(check_tensors(&g, &m));
    LCL_TRY_GOTO(lcl_fs_remove_tree(stage));
    LCL_TRY_GOTO(lcl_fs_mkdirs(stage));
    LCL_TRY_GOTO(write_tokenizer(&g, &m, r->image_token, stage));
    LCL_TRY_GOTO(write_weights(&g, &m.text, dtype, stage));
    LCL_TRY_GOTO(write_config(&g, &m, dtype, stage));
    LCL_TRY_GOTO(out_folder_publish(stage, r->out));
    printf("%s: LlamaForCausalLM, %zu tensors\n", r->out, g.n_tensors);
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    lcl_gguf_close(&g);
    free(stage);
    return status;
}

lcl_status import_gguf(int argc, char **argv)
{
    struct request r = {0};
    const struct cli_option options[] = {
        {"--file", CLI_STR, &r.file, .value = "FILE", .required = true, .doc = "GGUF file to read"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        {"--dtype", CLI_CHOICE, &r.dtype, .words = "as-stored|f32|bf16|f16",
         .doc = "type of the weights; as stored, quantised ones become f32"},
        {"--image-token", CLI_STR, &r.image_token, .value = "TOKEN",
         .doc = "token of the file that stands for pictures where it is joined with a tower; "
                "default: <image>, if there is one"},
        {"--force", CLI_FLAG, &r.force, .doc = "replace the HF folder that DIR is"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--file FILE --out DIR [options]",
        .about = "Writes a language model of architecture llama as an HF LlamaForCausalLM folder: "
                 "config.json,\nsafetensors, tokenizer.json. f32, f16, bf16, q8_0, q4_0 and q4_1 "
                 "are read; anything that\nis not known is an error that names it.",
        .options = options,
        .notes = "Example:\n  lcl import gguf --file SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2 "
                 "--image-token '<empty_output>'\n"
                 "  lcl train CONFIG --set init_from=smollm2 --set init_parts=text --set "
                 "init_vision_from=RUN"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : convert(&r);
}
