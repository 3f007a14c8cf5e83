/* Tokenizers in HF tokenizer.json form: byte-level and SentencePiece-style BPE, added tokens, decoding. */
#ifndef LCL_DATA_TOKENIZER_H
#define LCL_DATA_TOKENIZER_H

#include "core/status.h"

struct lcl_tokenizer; /* immutable once loaded: may be shared between threads */

LCL_CHECKED lcl_status lcl_tokenizer_load(const char *tokenizer_json, struct lcl_tokenizer **out);
void lcl_tokenizer_free(struct lcl_tokenizer *t);
/* Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json in a folder. */
LCL_CHECKED lcl_status lcl_tokenizer_save(const struct lcl_tokenizer *t, const char *dir);
/* Makes a small BPE from `texts`: each distinct word of a text that occurs in `whole_words` becomes one token, letters stay
 * single elsewhere; merges up to vocab_size. Specials <unk> <s> </s> <image> <pad> come first. */
LCL_CHECKED lcl_status lcl_tokenizer_train(const char *const *texts, size_t n_texts,
                                           int64_t vocab_size, struct lcl_tokenizer **out);

int32_t lcl_tokenizer_vocab_size(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_id(const struct lcl_tokenizer *t, const char *token); /* -1 when unknown */
int32_t lcl_tokenizer_bos(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_eos(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_image(const struct lcl_tokenizer *t);

/* Appends the ids of `text` (added tokens inside it recognised, no <s> unless the post-processor adds it and add_special). */
struct lcl_ids {
    int32_t *v; /* malloc'd, grows */
    int64_t n, cap;
};
LCL_CHECKED lcl_status lcl_tokenizer_encode(const struct lcl_tokenizer *t, const char *text,
                                            bool add_special, struct lcl_ids *out);
LCL_CHECKED lcl_status lcl_ids_push(struct lcl_ids *ids, int32_t id);
void lcl_ids_free(struct lcl_ids *ids);
/* The text of n ids, malloc'd. */
LCL_CHECKED lcl_status lcl_tokenizer_decode(const struct lcl_tokenizer *t, const int32_t *ids,
                                            int64_t n, bool skip_special, char **text);

#endif
