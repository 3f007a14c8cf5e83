/* Tokenizers in HF tokenizer.json form: byte-level and SentencePiece-style BPE, added tokens,
 * decoding. */
#ifndef LCL_DATA_TOKENIZER_H
#define LCL_DATA_TOKENIZER_H

#include <stdbool.h>

#include "core/status.h"

struct lcl_tokenizer; /* immutable once loaded: may be shared between threads */

/* tokenizer_json: or a SentencePiece model (tokenizer.model: BPE or unigram), which is read, and
 * saved, as the tokenizer.json that transformers makes of it. */
LCL_CHECKED lcl_status lcl_tokenizer_load(const char *tokenizer_json, struct lcl_tokenizer **out);
/* The tokenizer of an HF folder, a run, or a checkpoint (in the run folder above it); a tokenizer
 * file itself is taken too. LCL_NOT_FOUND where there is none. */
LCL_CHECKED lcl_status lcl_tokenizer_load_folder(const char *from, struct lcl_tokenizer **out);
void lcl_tokenizer_free(struct lcl_tokenizer *t);
/* Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json in a folder. */
LCL_CHECKED lcl_status lcl_tokenizer_save(const struct lcl_tokenizer *t, const char *dir);
struct lcl_special_token {
    const char *text, *key; /* "<image>", and what tokenizer_config.json calls it: "image_token" */
};
/* The same tokenizer with special tokens: those that its vocabulary lacks get the ids behind it. A
 * key that names another token already stays. */
LCL_CHECKED lcl_status lcl_tokenizer_with_tokens(const struct lcl_tokenizer *t,
                                                 const struct lcl_special_token *tokens, int n,
                                                 struct lcl_tokenizer **out);
/* From now on a token that t has stands for a picture (lcl_tokenizer_image). */
void lcl_tokenizer_set_image(struct lcl_tokenizer *t, const char *token);
/* Makes a small byte-level BPE (GPT-2's splitting) whose words are those of `texts`: each becomes
 * one token, most frequent first while vocab_size lasts, but for lower-case words that follow no
 * space, so that the letters of labels (which follow a quote) stay single. Specials <unk> <s> </s>
 * <image> <pad> come first, then all 256 bytes: any text round-trips. LCL_RANGE when vocab_size is
 * below 261. */
LCL_CHECKED lcl_status lcl_tokenizer_train(const char *const *texts, size_t n_texts,
                                           int64_t vocab_size, struct lcl_tokenizer **out);

int32_t lcl_tokenizer_vocab_size(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_id(const struct lcl_tokenizer *t, const char *token); /* -1 when unknown */
/* The token as the vocabulary spells it, or NULL; owned by the tokenizer. */
const char *lcl_tokenizer_token(const struct lcl_tokenizer *t, int32_t id);
int32_t lcl_tokenizer_bos(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_eos(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_unk(const struct lcl_tokenizer *t);
int32_t lcl_tokenizer_image(const struct lcl_tokenizer *t);

/* Appends the ids of `text` (added tokens inside it recognised, no <s> unless the post-processor
 * adds it and add_special). */
struct lcl_ids {
    int32_t *v; /* malloc'd, grows */
    int64_t n, cap;
};
LCL_CHECKED lcl_status lcl_tokenizer_encode(const struct lcl_tokenizer *t, const char *text,
                                            bool add_special, struct lcl_ids *out);
/* As above for a text with NUL bytes. LCL_FORMAT where it is not UTF-8. */
LCL_CHECKED lcl_status lcl_tokenizer_encode_bytes(const struct lcl_tokenizer *t, const char *text,
                                                  size_t size, bool add_special,
                                                  struct lcl_ids *out);
/* Where a text stands in what is encoded piece by piece: it decides on the space mark that some
 * tokenizers put before. */
enum lcl_text_place {
    LCL_TEXT_START,     /* begins the sequence */
    LCL_TEXT_NEW,       /* follows a special token */
    LCL_TEXT_CONTINUED, /* goes on in the middle of a sentence */
    LCL_TEXT_PLAIN      /* the same, and added tokens in it are only text: labels */
};
LCL_CHECKED lcl_status lcl_tokenizer_encode_at(const struct lcl_tokenizer *t, const char *text,
                                               size_t size, enum lcl_text_place place,
                                               struct lcl_ids *out);
/* As transformers 4.29's slow LlamaTokenizer, which the official LCL code runs: text between added
 * tokens is a sentence of its own, with the space mark before it whatever `legacy` says; white
 * space beside an added token is dropped on both sides, but for <unk>, <s> and </s>; the ids put
 * around a text stand around it where add_special. marked: of lcl_tokenizer_marks_start. LCL_FORMAT
 * where it is not UTF-8. */
LCL_CHECKED lcl_status lcl_tokenizer_encode_slow(const struct lcl_tokenizer *t, bool marked,
                                                 const char *text, size_t size, bool add_special,
                                                 struct lcl_ids *out);
/* Whether a space mark stands before a text that begins a sequence. */
LCL_CHECKED lcl_status lcl_tokenizer_marks_start(const struct lcl_tokenizer *t, bool *marks);
LCL_CHECKED lcl_status lcl_ids_push(struct lcl_ids *ids, int32_t id);
void lcl_ids_free(struct lcl_ids *ids);
/* Bytes of the white space at s (Unicode's White_Space; Python's str.strip takes the separators
 * 0x1c to 0x1f too), or 0; where the white space that ends at `end` begins, not before `first`. */
int lcl_space_bytes(const char *s, size_t n, bool python);
size_t lcl_before_space(const char *s, size_t first, size_t end, bool python);
/* The text of n ids, malloc'd. */
LCL_CHECKED lcl_status lcl_tokenizer_decode(const struct lcl_tokenizer *t, const int32_t *ids,
                                            int64_t n, bool skip_special, char **text);
/* The same with its size (the text may hold NUL bytes). Ids without a token give nothing. */
LCL_CHECKED lcl_status lcl_tokenizer_decode_bytes(const struct lcl_tokenizer *t, const int32_t *ids,
                                                  int64_t n, bool skip_special, char **text,
                                                  size_t *size);

/* Text of tokens that come one by one: each push gives what is new and can no longer change, so
 * that no character is shown before all its bytes are there; the pieces and the end make what
 * lcl_tokenizer_decode gives. A push decodes the last few tokens alone. Set tokenizer and
 * skip_special, the rest zero. */
struct lcl_text_stream {
    const struct lcl_tokenizer *tokenizer;
    bool skip_special;
    struct lcl_ids ids;       /* the last tokens: n_context whose text was given, then others */
    int64_t n_context, retry; /* retry: no decoding below this many ids */
    size_t given;             /* bytes of their text */
};
/* *text: malloc'd, "" where nothing is settled. */
LCL_CHECKED lcl_status lcl_text_stream_push(struct lcl_text_stream *s, int32_t id, char **text);
/* What was held back. */
LCL_CHECKED lcl_status lcl_text_stream_end(struct lcl_text_stream *s, char **text);
void lcl_text_stream_free(struct lcl_text_stream *s);

#endif
