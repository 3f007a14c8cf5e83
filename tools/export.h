/* What the files of `lcl export` share. */
#ifndef LCL_TOOLS_EXPORT_H
#define LCL_TOOLS_EXPORT_H

#include "tools/cli.h"
#include "tools/export_probe.h"

enum export_to { EXPORT_HF, EXPORT_GGUF, EXPORT_LLAVA_V1, EXPORT_PEFT };

struct export_request {
    const char *from, *out;
    int to, dtype;      /* indices of the options' words: enum export_to, export_dtype_name */
    size_t shard_bytes; /* 0: as usual */
    bool force, text_only;
    bool is_text; /* `from` is an HF LlamaForCausalLM folder */
    struct cli_list sets;
};
const char *export_dtype_name(const struct export_request *r);

/* ---- files of an HF folder beside its weights, of imports too ---- */

/* The template of DIR/tokenizer_config.json, where programs that read the tokenizer alone look for
 * it, and in chat_template.jinja, where processors do; that of chat.template where there is none,
 * or where that names one. */
LCL_CHECKED lcl_status export_add_chat_template(const char *dir, const struct lcl_config *c,
                                                const struct lcl_tokenizer *t);
/* Copies FROM/name where it is there; *found may be NULL. */
LCL_CHECKED lcl_status export_carry_over(const char *from, const char *dir, const char *name,
                                         bool *found);
/* Where LlavaProcessor finds how many placeholders a picture takes. */
LCL_CHECKED lcl_status export_write_processor(const char *dir, const struct lcl_tokenizer *t,
                                              const struct lcl_model_config *m);

/* ---- of lcl export ---- */

/* Tokenizer and decoder of an HF LlamaForCausalLM folder; the tower is the least there can be. */
LCL_CHECKED lcl_status export_load_text(const char *dir, const struct lcl_config *c,
                                        struct lcl_env *e);

/* Writes DIR/model.gguf and, unless r->text_only, DIR/mmproj.gguf. */
LCL_CHECKED lcl_status export_gguf_write(const struct export_request *r, const struct lcl_env *e,
                                         const struct lcl_config *c, const char *dir);
/* Rounds the table's values to what the files hold. */
LCL_CHECKED lcl_status export_gguf_round(struct lcl_params *t, const struct export_request *r);
/* Fills e->model from the files alone, but for what they have no word for: the image token and
 * which of the GELUs it is. Warns where the file's tokenizer differs from e's. */
LCL_CHECKED lcl_status export_gguf_read_back(const struct export_request *r,
                                             const struct lcl_config *c, const char *dir,
                                             const struct lcl_model_config *own, struct lcl_env *e);

#endif
