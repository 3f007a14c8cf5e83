/* lcl import join: a CLIP folder and a LLaMA folder as one LLaVA, with a fresh projector. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "tools/cli.h"
#include "tools/import.h"
#include "tools/import_parts.h"
#include "tools/out_folder.h"

enum { VISION = 1u << LCL_PART_VISION, PROJECTOR = 1u << LCL_PART_PROJECTOR };
enum { TEXT = 1u << LCL_PART_TEXT };

struct request {
    const char *vision, *text, *out, *projector_file;
    int projector, dtype; /* indices of the options' words */
    int64_t seed, select_layer;
    size_t shard_bytes;
    bool force;
};

/* An HF folder, open. */
struct folder {
    const char *dir;
    struct lcl_safetensors st;
    struct lcl_model_config m;
};

static lcl_status open_folder(struct folder *f, const char *dir)
{
    f->dir = dir;
    LCL_TRY(lcl_hf_open(dir, &f->st));
    return lcl_hf_config_read(dir, &f->st, &f->m);
}

/* The tower of one, the decoder of the other, and LLaVA's projector between. */
static struct lcl_model_config joined_config(const struct request *r, const struct folder *vision,
                                             const struct folder *text)
{
    struct lcl_model_config m = text->m;
    m.vision = vision->m.vision;
    m.select_layer = r->select_layer;
    m.keep_class = false;
    m.projector = r->projector == 0 ? LCL_PROJECTOR_MLP2 : LCL_PROJECTOR_LINEAR;
    m.projector_act = LCL_GELU_ERF;
    m.projector_bias = true;
    return m;
}

static bool is_projector(const struct lcl_param *p) { return p->part == LCL_PART_PROJECTOR; }

static lcl_status take_projector(struct lcl_assembly *a, const struct request *r,
                                 struct lcl_safetensors *st)
{
    int n;
    if (r->projector_file) {
        LCL_TRY(lcl_st_open(r->projector_file, st));
        return lcl_assembly_take_projector(a, r->projector_file, st);
    }
    LCL_TRY(lcl_assembly_draw(a, is_projector, (uint64_t)r->seed, &n));
    printf("projector: %d tensors drawn fresh from seed %lld; train them before use\n", n,
           (long long)r->seed);
    return LCL_OK;
}

static lcl_status write_joined(const struct request *r, const struct folder *vision,
                               const struct folder *text, const struct lcl_model_config *m,
                               const struct lcl_tokenizer *tokenizer, const char *stage)
{
    const struct import_llava l = {.where = r->out,
                                   .m = m,
                                   .tokenizer = tokenizer,
                                   .settings = &(struct lcl_hf_save_options){0},
                                   .dtype = import_dtypes[r->dtype],
                                   .shard_bytes = r->shard_bytes,
                                   .pictures = r->vision,
                                   .text = r->text};
    struct lcl_safetensors projector = {0};
    struct lcl_assembly a = {0};
    struct lcl_model shape;
    lcl_status status;
    LCL_TRY(lcl_model_create(&shape, m));
    LCL_TRY_GOTO(lcl_assembly_begin(&a, &shape.params));
    LCL_TRY_GOTO(lcl_assembly_take_hf(&a, vision->dir, &vision->st, &vision->m, VISION));
    LCL_TRY_GOTO(lcl_assembly_take_hf(&a, text->dir, &text->st, &text->m, TEXT));
    LCL_TRY_GOTO(take_projector(&a, r, &projector));
    status = import_write_llava(&a, &l, stage);
out:
    lcl_assembly_free(&a);
    lcl_st_close(&projector);
    lcl_model_free(&shape);
    return status;
}

static lcl_status check_kinds(const struct request *r)
{
    if (lcl_hf_is_text_folder(r->vision))
        return LCL_FAIL_HINT(LCL_CONFIG, "--vision takes a CLIPModel, CLIPVisionModel or LLaVA",
                             "--vision: %s is a language model without a vision tower", r->vision);
    if (lcl_hf_is_tower_folder(r->text))
        return LCL_FAIL_HINT(LCL_CONFIG, "--text takes a LlamaForCausalLM or a LLaVA",
                             "--text: %s is a vision tower without a language model", r->text);
    return out_folder_check(r->out, r->force);
}

static lcl_status join(const struct request *r)
{
    struct folder vision = {0}, text = {0};
    struct lcl_tokenizer *tokenizer = NULL;
    char *stage = NULL;
    lcl_status status;
    LCL_TRY_GOTO(check_kinds(r));
    LCL_TRY_GOTO(out_folder_stage(r->out, &stage));
    LCL_TRY_GOTO(open_folder(&vision, r->vision));
    LCL_TRY_GOTO(open_folder(&text, r->text));
    LCL_TRY_GOTO(lcl_tokenizer_load_folder(r->text, &tokenizer));
    struct lcl_model_config m = joined_config(r, &vision, &text);
    LCL_TRY_GOTO(import_add_tokens(&tokenizer, &m));
    LCL_TRY_GOTO(write_joined(r, &vision, &text, &m, tokenizer, stage));
    LCL_TRY_GOTO(out_folder_publish(stage, r->out));
    printf("%s: LlavaForConditionalGeneration, %lld tokens a picture, image token %d\n", r->out,
           (long long)lcl_tokens_per_image(&m), m.image_token);
out:
    if (status != LCL_OK && stage) out_folder_discard(stage, status);
    lcl_tokenizer_free(tokenizer);
    lcl_st_close(&vision.st);
    lcl_st_close(&text.st);
    free(stage);
    return status;
}

lcl_status import_join(int argc, char **argv)
{
    struct request r = {.select_layer = -2};
    const struct cli_option options[] = {
        {"--vision", CLI_STR, &r.vision, .value = "DIR", .required = true,
         .doc = "HF folder of a CLIPModel or CLIPVisionModel, or a LLaVA whose tower is taken"},
        {"--text", CLI_STR, &r.text, .value = "DIR", .required = true,
         .doc = "HF folder of a LlamaForCausalLM with its tokenizer"},
        {"--out", CLI_STR, &r.out, .value = "DIR", .required = true, .doc = "folder to make"},
        {"--projector", CLI_CHOICE, &r.projector, .words = "mlp2x_gelu|linear",
         .doc = "kind of projector"},
        {"--init-projector", CLI_STR, &r.projector_file, .value = "FILE",
         .doc = "its values: mm_projector.bin or safetensors; else they are drawn"},
        {"--seed", CLI_INT, &r.seed, .low = 0, .high = 9e15, .doc = "of a projector that is drawn"},
        {"--select-layer", CLI_INT, &r.select_layer, .low = -512, .high = 512,
         .doc = "hidden states that are the image features, as mm_vision_select_layer"},
        {"--dtype", CLI_CHOICE, &r.dtype, .words = IMPORT_DTYPE_WORDS,
         .doc = "type of the weights"},
        CLI_SHARD_OPTION(&r.shard_bytes),
        {"--force", CLI_FLAG, &r.force, .doc = "replace the HF folder that DIR is"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--vision DIR --text DIR --out DIR [options]",
        .about = "Joins a vision tower and a language model to an HF LLaVA folder, as LLaVA's "
                 "training begins.\nTokens <image> and <pad> are added to a tokenizer without an "
                 "image token; their embeddings are\nthe mean of the others. A tensor that either "
                 "folder lacks is an error:\nonly the projector is drawn, unless a file brings it.",
        .options = options,
        .notes = "Example:\n  lcl import join --vision clip-vit-large-patch14 --text vicuna-7b "
                 "--out llava-fresh\n  lcl train CONFIG --set init_from=llava-fresh"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : join(&r);
}
