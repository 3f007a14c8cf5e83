#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/gguf_model.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/hf_export.h"

/* Tensors of one file under construction. */
struct output {
    struct lcl_gguf_item *items;
    char (*names)[LCL_PARAM_NAME_BYTES];
    size_t n;
};

static void output_free(struct output *o)
{
    free(o->items);
    free(o->names);
}

/* `more`: room for tensors that are made besides. */
static lcl_status output_make(struct output *o, size_t n, size_t more)
{
    o->n = 0;
    o->items = calloc(n + more, sizeof *o->items);
    o->names = calloc(n + more, sizeof *o->names);
    return o->items && o->names ? LCL_OK
                                : LCL_FAIL(LCL_MEMORY, "no memory for a list of %zu tensors", n);
}

/* llama.cpp computes with vectors in f32, and looks positions and classes up in f32. */
static bool stays_f32(const struct lcl_st_item *from, const char *name)
{
    return from->n_dims == 1 || strncmp(name, "v.position_embd", 15) == 0 ||
           strncmp(name, "v.class_embd", 12) == 0;
}

/* Its convolutions read f16 and f32. */
static enum lcl_gguf_type type_of(const struct lcl_st_item *from, const char *name,
                                  enum lcl_gguf_type wanted)
{
    if (stays_f32(from, name)) return LCL_GGUF_TYPE_F32;
    if (from->n_dims > 2 && wanted == LCL_GGUF_TYPE_BF16) return LCL_GGUF_TYPE_F32;
    return lcl_gguf_type_for(wanted, from->n_dims, from->shape);
}

static bool is_text(const struct lcl_st_item *item)
{
    return strncmp(item->name, "language_model.", 15) == 0;
}

static lcl_status add_items(struct output *o, const struct lcl_hf_export *e, bool text,
                            enum lcl_gguf_type type)
{
    for (size_t i = 0; i < e->n; i++) {
        const struct lcl_st_item *from = &e->items[i];
        char *name = o->names[o->n];
        if (is_text(from) != text) continue;
        if (!lcl_gguf_file_name(from->name, name))
            return LCL_FAIL(LCL_UNSUPPORTED, "%s has no name in GGUF", from->name);
        if (strncmp(name, "v.post_ln", 9) == 0) continue; /* llama.cpp would apply it */
        struct lcl_gguf_item *item = &o->items[o->n++];
        *item = (struct lcl_gguf_item){.name = name,
                                       .type = type_of(from, name, type),
                                       .n_dims = from->n_dims,
                                       .source = from->source,
                                       .data = from->data,
                                       .rotary_heads =
                                           text ? lcl_gguf_rotary_heads(name, &e->config.text) : 0};
        memcpy(item->shape, from->shape, sizeof item->shape);
    }
    return LCL_OK;
}

/* general.file_type as llama.cpp numbers them. */
static void put_type(struct lcl_gguf_meta *meta, const struct lcl_gguf_save_options *o)
{
    uint32_t number = o->type == LCL_GGUF_TYPE_F32    ? 0
                      : o->type == LCL_GGUF_TYPE_F16  ? 1
                      : o->type == LCL_GGUF_TYPE_Q8_0 ? 7
                                                      : 32;
    lcl_gguf_put_u32(meta, "general.file_type", number);
    if (o->type == LCL_GGUF_TYPE_Q8_0) lcl_gguf_put_u32(meta, "general.quantization_version", 2);
    if (o->name) lcl_gguf_put_text(meta, "general.name", o->name);
}

/* What llama3 scaling divides each frequency by: llama.cpp reads it as a tensor. */
static lcl_status add_rope_factors(struct output *o, const struct lcl_text_config *t,
                                   float **factors)
{
    if (t->rope_scaling != LCL_ROPE_LLAMA3) return LCL_OK;
    *factors = lcl_gguf_rope_factors(t);
    if (!*factors) return LCL_FAIL(LCL_MEMORY, "no memory for rotary factors");
    o->items[o->n++] = (struct lcl_gguf_item){.name = "rope_freqs.weight",
                                              .type = LCL_GGUF_TYPE_F32,
                                              .n_dims = 1,
                                              .shape = {t->D / 2},
                                              .source = LCL_F32,
                                              .data = *factors};
    return LCL_OK;
}

lcl_status lcl_gguf_save_text(const char *path, const struct lcl_params *t,
                              const struct lcl_model_config *m, struct lcl_gguf_meta *meta,
                              const struct lcl_gguf_save_options *options)
{
    struct lcl_hf_export e = {0};
    struct output o = {0};
    float *factors = NULL;
    lcl_status status;
    LCL_TRY_GOTO(lcl_hf_export_collect(t, m, LCL_F32, false, &e));
    LCL_TRY_GOTO(output_make(&o, e.n, 1));
    LCL_TRY_GOTO(add_items(&o, &e, true, options->type));
    LCL_TRY_GOTO(add_rope_factors(&o, &m->text, &factors));
    lcl_gguf_put_text_config(meta, m);
    put_type(meta, options);
    status = lcl_gguf_write(path, meta, o.items, o.n);
out:
    free(factors);
    output_free(&o);
    lcl_hf_export_free(&e);
    return status;
}

static lcl_status check_vision(const struct lcl_model_config *m)
{
    static const char hint[] = "export with --to hf, or without the tower: --text-only";
    LCL_TRY(lcl_refuse_qformer(m, "llama.cpp's graph of LLaVA"));
    if (m->pool != LCL_POOL_NONE)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, hint,
                             "mm_image_pool: llama.cpp's graph feeds every patch to the decoder");
    if (m->keep_class)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, hint,
                             "select feature \"full\": llama.cpp's graph drops the class token");
    if (m->projector != LCL_PROJECTOR_MLP2 || m->projector_act == LCL_GELU_QUICK)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, hint,
                             "the projector: llama.cpp's \"mlp\" is two layers with a GELU "
                             "between");
    return LCL_OK;
}

/* llama.cpp adds biases without asking whether they are there. */
static lcl_status add_biases(struct output *o, const struct lcl_model_config *m, float **zeros)
{
    if (m->projector_bias || m->standardize) return LCL_OK;
    *zeros = calloc((size_t)m->text.C, sizeof **zeros);
    if (!*zeros) return LCL_FAIL(LCL_MEMORY, "no memory for the projector's biases");
    for (int i = 0; i < 2; i++)
        o->items[o->n++] = (struct lcl_gguf_item){.name = i ? "mm.2.bias" : "mm.0.bias",
                                                  .type = LCL_GGUF_TYPE_F32,
                                                  .n_dims = 1,
                                                  .shape = {m->text.C},
                                                  .source = LCL_F32,
                                                  .data = *zeros};
    return LCL_OK;
}

lcl_status lcl_gguf_save_vision(const char *path, const struct lcl_params *t,
                                const struct lcl_model_config *m,
                                const struct lcl_gguf_save_options *options)
{
    struct lcl_hf_export e = {0};
    struct lcl_gguf_meta meta = {0};
    struct output o = {0};
    float *zeros = NULL;
    lcl_status status;
    LCL_TRY(check_vision(m));
    LCL_TRY_GOTO(lcl_hf_export_collect(t, m, LCL_F32, false, &e));
    LCL_TRY_GOTO(output_make(&o, e.n, 2));
    LCL_TRY_GOTO(add_items(&o, &e, false, options->type));
    LCL_TRY_GOTO(add_biases(&o, m, &zeros));
    lcl_gguf_put_vision_config(&meta, m);
    put_type(&meta, options);
    lcl_gguf_put_f32s(&meta, "clip.vision.image_mean", options->image_mean, 3);
    lcl_gguf_put_f32s(&meta, "clip.vision.image_std", options->image_std, 3);
    status = lcl_gguf_write(path, &meta, o.items, o.n);
out:
    free(zeros);
    lcl_gguf_meta_free(&meta);
    output_free(&o);
    lcl_hf_export_free(&e);
    return status;
}
