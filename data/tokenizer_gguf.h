/* Tokenizers as GGUF files hold them: flat lists of tokens, scores or merges, and a few names.
 *
 * Of llama.cpp's tokenizers "gpt2" (byte-level BPE) is known with the splitting patterns gpt-2,
 * smollm, llama-bpe and qwen2 and their other names, and "llama" (SentencePiece's BPE, whose scores
 * say which pair is merged first). */
#ifndef LCL_DATA_TOKENIZER_GGUF_H
#define LCL_DATA_TOKENIZER_GGUF_H

#include "data/tokenizer.h"

/* Each list is one malloc'd block. */
struct lcl_tokenizer_tables {
    char *model, *pre, *chat_template; /* pre, chat_template: NULL where there is none */
    char **token;
    float *score;  /* of "llama", or NULL */
    int32_t *type; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; or NULL */
    size_t n_tokens;
    char **merge; /* of "gpt2": "left right" */
    size_t n_merges;
    int32_t bos, eos, unk, pad;             /* -1: none */
    const char *image_token;                /* one of them; NULL: none is named */
    int add_bos, add_eos, add_space_prefix; /* 0 or 1; -1: as is usual for the model */
};
void lcl_tokenizer_tables_free(struct lcl_tokenizer_tables *t);

/* LCL_UNSUPPORTED naming a model, splitting pattern or token type that is not known; LCL_FORMAT for
 * tables that do not fit together. where: the file, for messages. */
LCL_CHECKED lcl_status lcl_tokenizer_from_tables(const struct lcl_tokenizer_tables *tables,
                                                 const char *where, struct lcl_tokenizer **out);
/* n_tokens: rows of the embedding; ids without a token become unused ones. LCL_UNSUPPORTED for a
 * splitting that llama.cpp has no name for; LCL_RANGE where the tokenizer has more ids. */
LCL_CHECKED lcl_status lcl_tokenizer_to_tables(const struct lcl_tokenizer *t, size_t n_tokens,
                                               struct lcl_tokenizer_tables *tables);

#endif
