/* What the files of the tokenizer share; nothing outside data/tokenizer*.c includes this.
 *
 * A tokenizer.json is turned into one list of text steps (normalizer, then pre-tokenizer), a BPE
 * model, ids put around a text, and one list of decode steps. */
#ifndef LCL_DATA_TOKENIZER_INTERNAL_H
#define LCL_DATA_TOKENIZER_INTERNAL_H

#include <jansson.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "data/tokenizer.h"

/* Strings under work, in one buffer. */
struct tok_piece {
    size_t at, size;
    bool first; /* begins at the start of the encoded text */
};
struct tok_pieces {
    char *text;
    size_t size, cap;
    struct tok_piece *v;
    size_t n, cap_v;
    size_t most; /* bytes of text; 0: no limit */
};
lcl_status tok_pieces_text(struct tok_pieces *p, const char *s, size_t n);
lcl_status tok_pieces_end(struct tok_pieces *p, size_t begin, bool first); /* [begin, size) */
lcl_status tok_pieces_add(struct tok_pieces *p, const char *s, size_t n, bool first);
void tok_pieces_clear(struct tok_pieces *p);
void tok_pieces_free(struct tok_pieces *p);

enum tok_step_kind {
    TOK_PREPEND,    /* `content` before a text that is not empty */
    TOK_REPLACE,    /* pattern -> content */
    TOK_SPLIT,      /* at the pattern, as `behavior` says */
    TOK_BYTE_CHARS, /* every byte becomes GPT-2's printable character for it */
    TOK_LOWER,      /* each character in lower case */
    TOK_NFC,        /* checks that the text has normal form C */
    TOK_TRIM,       /* decode: up to start / stop times `content` off the ends */
    TOK_FROM_BYTES, /* decode: <0xNN> tokens to text */
    TOK_FUSE,       /* decode: all in one */
    TOK_FROM_BYTE_CHARS,
    TOK_FROM_METASPACE
};
enum tok_prepend { TOK_PREPEND_PLAIN, TOK_PREPEND_MISSING, TOK_PREPEND_FIRST };
enum tok_behavior { TOK_ISOLATED, TOK_REMOVED, TOK_CONTIGUOUS, TOK_WITH_PREVIOUS, TOK_WITH_NEXT };

struct tok_step {
    enum tok_step_kind kind;
    enum tok_prepend prepend;
    enum tok_behavior behavior;
    bool invert;
    pcre2_code *regex; /* or NULL: `pattern` is a plain string */
    char *pattern, *content;
    size_t pattern_size, content_size;
    int start, stop;
};
struct tok_steps {
    struct tok_step *v;
    int n;
};
lcl_status tok_steps_push(struct tok_steps *s, struct tok_step **step);
void tok_steps_free(struct tok_steps *s);
lcl_status tok_step_set(char **field, size_t *size, const char *s, size_t n);
lcl_status tok_step_regex(struct tok_step *step, const char *pattern, size_t n);
/* Runs the steps over *p (with `other` as the second buffer; the result is in *p). `continued`: no
 * step prepends. */
lcl_status tok_steps_run(const struct tok_steps *s, bool continued, struct tok_pieces *p,
                         struct tok_pieces *other);

struct tok_token {
    size_t at; /* in blob */
    uint32_t size;
    bool present, special;
    bool piece;                    /* of a unigram model */
    const struct tok_added *shown; /* decoded as its content: an added token that is normalised */
};
struct tok_added {
    int32_t id;
    char *content; /* as matched: normalised where `normalized` */
    size_t size;
    bool single_word, lstrip, rstrip, normalized, special;
};
struct tok_merge {
    int32_t left, right; /* left < 0: empty slot */
    int32_t rank, id;
};

struct lcl_tokenizer {
    char *blob;
    size_t blob_size, blob_cap;
    struct tok_token *token; /* [n_ids] */
    int32_t n_ids;
    int32_t *by_text; /* open addressing: id or -1 */
    size_t by_text_mask;
    struct tok_merge *merges;
    size_t merge_mask, n_merges;
    struct tok_added *added; /* longest first */
    size_t n_added;
    pcre2_code *word; /* a character of a word, for single_word; NULL: no token asks */
    struct tok_steps normalize, split, decode;
    int32_t *prefix, *suffix; /* ids put around a text */
    int n_prefix, n_suffix;
    double *score; /* [n_ids] of a unigram model; NULL: BPE */
    double unknown_score;
    size_t longest_piece; /* bytes */
    char *word_end;       /* end_of_word_suffix of a word's last character; NULL: none */
    size_t word_end_size;
    int32_t unk, bos, eos, image;
    int32_t byte_id[256]; /* <0xNN> or -1 */
    bool byte_fallback, fuse_unk, ignore_merges, joined_by_space;
    char *json, *config_json, *specials_json; /* as loaded, for saving; the last two may be NULL */
    size_t json_size, config_size, specials_size;
};

/* tokenizer_bpe.c */
lcl_status tok_vocab_init(struct lcl_tokenizer *t, int32_t n_ids);
lcl_status tok_vocab_set(struct lcl_tokenizer *t, int32_t id, const char *s, size_t n);
int32_t tok_vocab_find(const struct lcl_tokenizer *t, const char *s, size_t n);
lcl_status tok_merges_init(struct lcl_tokenizer *t, size_t n);
/* false: the pair is there already (the first rank wins). */
bool tok_merges_add(struct lcl_tokenizer *t, int32_t left, int32_t right, int32_t rank, int32_t id);
const struct tok_merge *tok_merges_find(const struct lcl_tokenizer *t, int32_t left, int32_t right);
lcl_status tok_bpe(const struct lcl_tokenizer *t, const char *s, size_t n, struct lcl_ids *out);

/* tokenizer_unigram.c; the vocabulary is there already. */
lcl_status tok_unigram_load(struct lcl_tokenizer *t, const json_t *model);
lcl_status tok_unigram(const struct lcl_tokenizer *t, const char *s, size_t n, struct lcl_ids *out);

/* tokenizer_load.c */
const char *tok_string_of(const json_t *o, const char *key); /* "" where it is none */
/* A special token by tokenizer_config.json's key, else the first of `names` that there is; or -1.
 */
int32_t tok_special_id(const struct lcl_tokenizer *t, const json_t *config, const char *key,
                       const char *const *names, int n);
/* tokenizer_config.json, whose model_max_length may be 10^30: no limit, as transformers says it. */
json_t *tok_config(const char *text, size_t size, json_error_t *error);
lcl_status tok_load_text(const char *name, const char *json, size_t size, const char *config,
                         size_t config_size, struct lcl_tokenizer **out);

/* tokenizer_add.c: a row of tokenizer.json's added_tokens; NULL where the text is no UTF-8. */
json_t *tok_added_row(json_int_t id, const char *text, size_t size, bool special);

/* tokenizer_gguf.c: llama.cpp's name for a way of splitting (words NULL: GPT-2's), or NULL. */
const char *tok_gguf_pattern(const char *words, bool digits);

/* tokenizer_sp.c: the tokenizer.json (malloc'd) that says what a SentencePiece model does; config
 * and added: tokenizer_config.json and added_tokens.json beside it, or NULL. */
lcl_status tok_sp_json(const char *path, const char *data, size_t size, const char *config,
                       size_t config_size, const char *added, size_t added_size, char **text);

/* Bytes of the UTF-8 character at s (1..4), or 0 where it is malformed. *code may be NULL. */
int tok_utf8(const char *s, size_t n, uint32_t *code);
size_t tok_utf8_put(uint32_t code, char out[4]);
uint32_t tok_byte_char(uint8_t byte);

/* tokenizer_unicode.c: the lower case of a character but U+0130, whose is two; and whether normal
 * form C may change a text at c (*mark: false at the text's start, then kept by the caller). */
uint32_t tok_lower(uint32_t c);
bool tok_nfc_may_change(uint32_t c, bool *mark);

/* tokenizer_clip.c: model.end_of_word_suffix, and the decoding of it. */
enum { TOK_WORD_END_BYTES = 60 };
lcl_status tok_word_end_load(struct lcl_tokenizer *t, const json_t *model, bool unigram);
lcl_status tok_word_end_decode(struct lcl_tokenizer *t);
/* The tokenizer.json (malloc'd) that says what CLIP's vocab.json and merges.txt
 * do. */
lcl_status tok_clip_json(const char *vocab, size_t vocab_size, const char *merges,
                         size_t merges_size, char **text);

#endif
