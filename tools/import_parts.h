/* What imports that put a LLaVA together share: tokens added to a decoder's vocabulary, the files
 * beside the weights, the check of what was written. */
#ifndef LCL_TOOLS_IMPORT_PARTS_H
#define LCL_TOOLS_IMPORT_PARTS_H

#include "checkpoint/assembly.h"
#include "checkpoint/hf.h"
#include "data/tokenizer.h"

/* By the option's words "as-stored|f32|bf16|f16". */
extern const lcl_dtype import_dtypes[];
#define IMPORT_DTYPE_WORDS "as-stored|f32|bf16|f16"

/* Adds <image> and <pad> to a tokenizer without an image token, and sets m's special tokens and,
 * where the ids go beyond it, its vocabulary. *t is replaced. */
LCL_CHECKED lcl_status import_add_tokens(struct lcl_tokenizer **t, struct lcl_model_config *m);

struct import_llava {
    const char *where; /* names the model in messages */
    const struct lcl_model_config *m;
    const struct lcl_tokenizer *tokenizer;
    const struct lcl_hf_save_options *settings;
    lcl_dtype dtype; /* LCL_DTYPE_COUNT: as stored */
    size_t shard_bytes;
    const char *pictures; /* the folder whose preprocessor_config.json is taken; NULL: settings */
    const char *text;     /* the folder whose chat template is taken; NULL: the tokenizer's */
};
/* Writes an HF LLaVA folder and reads it back: each tensor must have its place. */
LCL_CHECKED lcl_status import_write_llava(const struct lcl_assembly *a,
                                          const struct import_llava *l, const char *dir);

#endif
