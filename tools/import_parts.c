#include "tools/import_parts.h"

#include <stdlib.h>

#include "core/log.h"
#include "tools/export.h"

const lcl_dtype import_dtypes[] = {LCL_DTYPE_COUNT, LCL_F32, LCL_BF16, LCL_F16};

lcl_status import_add_tokens(struct lcl_tokenizer **t, struct lcl_model_config *m)
{
    static const struct lcl_special_token tokens[] = {{"<image>", "image_token"},
                                                      {"<pad>", "pad_token"}};
    struct lcl_tokenizer *more;
    if (lcl_tokenizer_image(*t) < 0) {
        LCL_TRY(lcl_tokenizer_with_tokens(*t, tokens, 2, &more));
        lcl_tokenizer_free(*t);
        *t = more;
    }
    m->image_token = lcl_tokenizer_image(*t);
    m->bos_token = lcl_tokenizer_bos(*t);
    m->eos_token = lcl_tokenizer_eos(*t);
    m->pad_token = lcl_tokenizer_id(*t, "<pad>");
    if (lcl_tokenizer_vocab_size(*t) > m->text.V) {
        lcl_log_info("vocabulary: %lld tokens; %lld rows are added, the mean of the others",
                     (long long)lcl_tokenizer_vocab_size(*t),
                     (long long)(lcl_tokenizer_vocab_size(*t) - m->text.V));
        m->text.V = lcl_tokenizer_vocab_size(*t);
    }
    return LCL_OK;
}

/* Every tensor that the folder's config asks for, and none besides. */
static lcl_status read_back(const char *dir)
{
    struct lcl_safetensors st;
    struct lcl_model_config m;
    struct lcl_model model;
    const struct lcl_st_tensor **of_row = NULL;
    LCL_TRY(lcl_hf_open(dir, &st));
    lcl_status status = lcl_hf_config_read(dir, &st, &m);
    if (status == LCL_OK) status = lcl_model_create(&model, &m);
    if (status == LCL_OK) {
        status = lcl_hf_match(dir, &st, &m, &model.params, LCL_ALL_PARTS, &of_row);
        lcl_model_free(&model);
    }
    free(of_row);
    lcl_st_close(&st);
    return status;
}

lcl_status import_write_llava(const struct lcl_assembly *a, const struct import_llava *l,
                              const char *dir)
{
    const struct lcl_assembly_write_options o = {
        .parts = LCL_ALL_PARTS, .dtype = l->dtype, .max_shard_bytes = l->shard_bytes};
    struct lcl_hf_save_options settings = *l->settings;
    struct lcl_config config;
    bool jinja = false;
    lcl_config_defaults(&config);
    settings.dtype = l->dtype < LCL_DTYPE_COUNT
                         ? l->dtype
                         : lcl_assembly_dtype(a, "language_model.model.embed_tokens.weight");
    LCL_TRY(lcl_fs_remove_tree(dir));
    LCL_TRY(lcl_fs_mkdirs(dir));
    LCL_TRY(lcl_assembly_write(a, l->where, dir, &o));
    LCL_TRY(lcl_hf_save_settings(dir, l->m, &settings));
    LCL_TRY(lcl_tokenizer_save(l->tokenizer, dir));
    LCL_TRY(export_write_processor(dir, l->tokenizer, l->m));
    if (l->pictures) LCL_TRY(export_carry_over(l->pictures, dir, "preprocessor_config.json", NULL));
    if (l->text) LCL_TRY(export_carry_over(l->text, dir, "chat_template.jinja", &jinja));
    if (!jinja) LCL_TRY(export_add_chat_template(dir, &config, l->tokenizer));
    return read_back(dir);
}
