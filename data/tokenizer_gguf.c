/* From and to the tables of GGUF files, through the text of tokenizer.json. */
#include "data/tokenizer_gguf.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

#define MARK "\xe2\x96\x81" /* U+2581, SentencePiece's space */

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

#define LLAMA3_WORDS(digits)                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Splitting patterns by llama.cpp's names; the first of a kind is the one written. */
static const struct pattern {
    const char *name;
    const char *words; /* NULL: GPT-2's, which ByteLevel brings along */
    bool digits;       /* each digit alone */
    bool whole_words;  /* words of the vocabulary are taken before merging */
} patterns[] = {
    {"gpt-2", NULL, false, false},
    {"smollm", NULL, true, false},
    {"command-r", NULL, true, false},
    {"starcoder", NULL, true, false},
    {"refact", NULL, true, false},
    {"llama-bpe", LLAMA3_WORDS("\\p{N}{1,3}"), false, true},
    {"llama3", LLAMA3_WORDS("\\p{N}{1,3}"), false, true},
    {"llama-v3", LLAMA3_WORDS("\\p{N}{1,3}"), false, true},
    {"qwen2", LLAMA3_WORDS("\\p{N}"), false, false},
};

const char *tok_gguf_pattern(const char *words, bool digits)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        const struct pattern *p = &patterns[i];
        bool same = words && p->words ? strcmp(words, p->words) == 0 : words == p->words;
        if (same && p->digits == digits) return p->name;
    }
    return NULL;
}

void lcl_tokenizer_tables_free(struct lcl_tokenizer_tables *t)
{
    free(t->model);
    free(t->pre);
    free(t->chat_template);
    free(t->token);
    free(t->score);
    free(t->type);
    free(t->merge);
    *t = (struct lcl_tokenizer_tables){.bos = -1, .eos = -1, .unk = -1, .pad = -1};
}

static int type_of(const struct lcl_tokenizer_tables *t, size_t id)
{
    return t->type ? t->type[id] : NORMAL;
}

/* ---- from tables: merges ---- */

/* A way of making a piece of two others. */
struct pair {
    float score;
    int32_t id, left;
    size_t left_size; /* bytes */
};

/* SentencePiece's order: the best piece first; of one piece the longest left part first. */
static int better_first(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->left_size < y->left_size) - (x->left_size > y->left_size);
}

struct pairs {
    struct pair *v;
    size_t n, cap;
};

static lcl_status add_pair(struct pairs *l, struct pair p)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 4096;
        struct pair *v = realloc(l->v, cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the merges of a tokenizer");
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = p;
    return LCL_OK;
}

/* A piece that merging may read and make. */
static bool merges(const struct lcl_tokenizer_tables *t, const json_t *v)
{
    int type = v ? type_of(t, (size_t)json_integer_value(v)) : UNUSED;
    return type == NORMAL || type == USER_DEFINED;
}

static lcl_status pairs_of(const struct lcl_tokenizer_tables *t, const json_t *vocab, int32_t id,
                           struct pairs *list)
{
    const char *s = t->token[id];
    size_t n = strlen(s);
    for (size_t at = 1; at < n; at++) {
        if (((unsigned char)s[at] & 0xc0u) == 0x80u) continue; /* within a character */
        const json_t *left = json_object_getn(vocab, s, at);
        const json_t *right = json_object_getn(vocab, s + at, n - at);
        if (!merges(t, left) || !merges(t, right)) continue;
        LCL_TRY(
            add_pair(list, (struct pair){t->score[id], id, (int32_t)json_integer_value(left), at}));
    }
    return LCL_OK;
}

/* Scores to merges: every pair of pieces that makes a piece, ordered by its score. */
static lcl_status merges_of_scores(const struct lcl_tokenizer_tables *t, const json_t *vocab,
                                   json_t *out)
{
    struct pairs list = {0};
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < t->n_tokens; i++)
        if (type_of(t, i) == NORMAL) LCL_TRY_GOTO(pairs_of(t, vocab, (int32_t)i, &list));
    if (list.n > 0) qsort(list.v, list.n, sizeof *list.v, better_first);
    for (size_t i = 0; i < list.n; i++) {
        const char *s = t->token[list.v[i].id];
        size_t n = list.v[i].left_size;
        json_array_append_new(out, json_pack("[s%,s]", s, n, s + n));
    }
out:
    free(list.v);
    return status;
}

/* ---- from tables: the document ---- */

static lcl_status check_tables(const struct lcl_tokenizer_tables *t)
{
    if (!t->model) return LCL_FAIL(LCL_FORMAT, "there is no tokenizer.ggml.model");
    bool gpt2 = strcmp(t->model, "gpt2") == 0;
    if (!gpt2 && strcmp(t->model, "llama") != 0)
        return LCL_FAIL(LCL_UNSUPPORTED,
                        "tokenizer.ggml.model is \"%.100s\"; gpt2 and llama can "
                        "be read",
                        t->model);
    if (t->n_tokens == 0) return LCL_FAIL(LCL_FORMAT, "there is no tokenizer.ggml.tokens");
    if (gpt2 && !t->merge) return LCL_FAIL(LCL_FORMAT, "there is no tokenizer.ggml.merges");
    if (!gpt2 && !t->score) return LCL_FAIL(LCL_FORMAT, "there is no tokenizer.ggml.scores");
    for (size_t i = 0; i < t->n_tokens && t->score; i++)
        if (!isfinite(t->score[i]))
            return LCL_FAIL(LCL_FORMAT, "the score of token %zu is not finite", i);
    for (size_t i = 0; i < t->n_tokens; i++)
        if (type_of(t, i) < NORMAL || type_of(t, i) > BYTE)
            return LCL_FAIL(LCL_UNSUPPORTED, "token %zu has the unknown type %d", i, type_of(t, i));
    const int32_t ids[] = {t->bos, t->eos, t->unk, t->pad};
    for (int i = 0; i < 4; i++)
        if (ids[i] < -1 || ids[i] >= (int64_t)t->n_tokens)
            return LCL_FAIL(LCL_FORMAT, "the special token id %d is outside 0..%zu", ids[i],
                            t->n_tokens - 1);
    return LCL_OK;
}

static lcl_status make_vocab(const struct lcl_tokenizer_tables *t, bool whole_words, json_t *vocab)
{
    for (size_t i = 0; i < t->n_tokens; i++) {
        int type = type_of(t, i);
        /* Where whole words are taken, a special token must not be one. */
        if (type == UNUSED || (whole_words && (type == CONTROL || type == USER_DEFINED))) continue;
        if (json_object_get(vocab, t->token[i]))
            return LCL_FAIL(LCL_FORMAT, "token %zu, \"%.100s\", is there twice", i, t->token[i]);
        if (json_object_set_new(vocab, t->token[i], json_integer((json_int_t)i)) != 0)
            return LCL_FAIL(LCL_FORMAT, "token %zu is no UTF-8 text", i);
    }
    return LCL_OK;
}

static lcl_status make_added(const struct lcl_tokenizer_tables *t, json_t *added)
{
    for (size_t i = 0; i < t->n_tokens; i++) {
        int type = type_of(t, i);
        if (type != CONTROL && type != UNKNOWN && type != USER_DEFINED) continue;
        json_t *row =
            tok_added_row((json_int_t)i, t->token[i], strlen(t->token[i]), type != USER_DEFINED);
        if (!row) return LCL_FAIL(LCL_FORMAT, "token %zu is no UTF-8 text", i);
        json_array_append_new(added, row);
    }
    return LCL_OK;
}

static json_t *template_item(const char *token)
{
    return json_pack("{s:{s:s,s:i}}", "SpecialToken", "id", token, "type_id", 0);
}

/* <s> before and </s> behind a text, as the file asks. */
static json_t *post_processor(const struct lcl_tokenizer_tables *t, bool add_bos, bool add_eos)
{
    add_bos = add_bos && t->bos >= 0;
    add_eos = add_eos && t->eos >= 0;
    if (!add_bos && !add_eos) return json_null();
    json_t *single = json_array(), *specials = json_object();
    const int32_t ids[2] = {t->bos, t->eos};
    for (int k = 0; k < 2; k++) {
        if (k == 1)
            json_array_append_new(single,
                                  json_pack("{s:{s:s,s:i}}", "Sequence", "id", "A", "type_id", 0));
        if (k ? !add_eos : !add_bos) continue;
        const char *token = t->token[ids[k]];
        json_array_append_new(single, template_item(token));
        json_object_set_new(
            specials, token,
            json_pack("{s:s,s:[i],s:[s]}", "id", token, "ids", ids[k], "tokens", token));
    }
    json_t *pair = json_deep_copy(single);
    json_array_append_new(pair, json_pack("{s:{s:s,s:i}}", "Sequence", "id", "B", "type_id", 1));
    return json_pack("{s:s,s:o,s:o,s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", specials);
}

static json_t *byte_level(bool space, bool regex)
{
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", (int)space,
                     "trim_offsets", 1, "use_regex", (int)regex);
}

static json_t *pre_tokenizer(const struct pattern *p, bool space)
{
    json_t *list = json_array();
    if (p->digits)
        json_array_append_new(list,
                              json_pack("{s:s,s:b}", "type", "Digits", "individual_digits", 1));
    if (p->words)
        json_array_append_new(list,
                              json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern",
                                        "Regex", p->words, "behavior", "Isolated", "invert", 0));
    json_array_append_new(list, byte_level(space, !p->words));
    return json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", list);
}

static lcl_status find_pattern(const struct lcl_tokenizer_tables *t, const struct pattern **found)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        if (strcmp(patterns[i].name, t->pre ? t->pre : "") != 0) continue;
        *found = &patterns[i];
        return LCL_OK;
    }
    return LCL_FAIL_HINT(LCL_UNSUPPORTED, "give the model's tokenizer.json instead",
                         "tokenizer.ggml.pre is \"%.100s\"; gpt-2, smollm, llama-bpe, qwen2 and "
                         "their other names can be read",
                         t->pre ? t->pre : "");
}

static lcl_status add_gpt2(const struct lcl_tokenizer_tables *t, json_t *root, json_t *model)
{
    const struct pattern *p = NULL;
    json_t *list = json_object_get(model, "merges");
    LCL_TRY(find_pattern(t, &p));
    LCL_TRY(make_vocab(t, p->whole_words, json_object_get(model, "vocab")));
    json_object_set_new(model, "ignore_merges", json_boolean(p->whole_words));
    for (size_t i = 0; i < t->n_merges; i++) {
        const char *s = t->merge[i], *space = *s ? strchr(s + 1, ' ') : NULL;
        json_t *pair = space ? json_pack("[s%,s]", s, (size_t)(space - s), space + 1) : NULL;
        if (!pair || json_array_append_new(list, pair) != 0)
            return LCL_FAIL(LCL_FORMAT, "merge %zu is not two tokens with a space between", i);
    }
    json_object_set_new(root, "pre_tokenizer", pre_tokenizer(p, t->add_space_prefix == 1));
    json_object_set_new(root, "decoder", byte_level(false, true));
    json_object_set_new(
        root, "post_processor",
        post_processor(t, t->add_bos == -1 ? p->whole_words : t->add_bos == 1, t->add_eos == 1));
    return LCL_OK;
}

static lcl_status add_sentencepiece(const struct lcl_tokenizer_tables *t, json_t *root,
                                    json_t *model)
{
    bool prefix = t->add_space_prefix != 0;
    json_t *steps = json_array();
    json_t *decoders =
        json_pack("[{s:s,s:{s:s},s:s},{s:s},{s:s}]", "type", "Replace", "pattern", "String", MARK,
                  "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (prefix) {
        json_array_append_new(steps, json_pack("{s:s,s:s}", "type", "Prepend", "prepend", MARK));
        json_array_append_new(decoders, json_pack("{s:s,s:s,s:i,s:i}", "type", "Strip", "content",
                                                  " ", "start", 1, "stop", 0));
    }
    json_array_append_new(steps, json_pack("{s:s,s:{s:s},s:s}", "type", "Replace", "pattern",
                                           "String", " ", "content", MARK));
    json_object_set_new(root, "normalizer",
                        json_pack("{s:s,s:o}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "decoder",
                        json_pack("{s:s,s:o}", "type", "Sequence", "decoders", decoders));
    json_object_set_new(root, "post_processor",
                        post_processor(t, t->add_bos != 0, t->add_eos == 1));
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(model, "fuse_unk", json_true());
    LCL_TRY(make_vocab(t, false, json_object_get(model, "vocab")));
    if (t->unk >= 0) json_object_set_new(model, "unk_token", json_string(t->token[t->unk]));
    return merges_of_scores(t, json_object_get(model, "vocab"), json_object_get(model, "merges"));
}

static json_t *config_of(const struct lcl_tokenizer_tables *t)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    const int32_t ids[] = {t->bos, t->eos, t->unk, t->pad};
    json_t *config = json_pack("{s:s,s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "clean_up_tokenization_spaces", 0);
    for (int i = 0; i < 4; i++)
        if (ids[i] >= 0) json_object_set_new(config, keys[i], json_string(t->token[ids[i]]));
    if (t->image_token) json_object_set_new(config, "image_token", json_string(t->image_token));
    if (t->chat_template)
        json_object_set_new(config, "chat_template", json_string(t->chat_template));
    return config;
}

lcl_status lcl_tokenizer_from_tables(const struct lcl_tokenizer_tables *t, const char *where,
                                     struct lcl_tokenizer **out)
{
    json_t *model =
        json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:{},s:[]}", "type", "BPE", "dropout",
                  "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                  "byte_fallback", 0, "ignore_merges", 0, "vocab", "merges");
    json_t *root = json_pack("{s:s,s:n,s:n,s:[],s:n,s:n,s:n,s:n,s:o}", "version", "1.0",
                             "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                             "post_processor", "decoder", "model", model);
    json_t *config = NULL;
    char *text = NULL, *config_text = NULL;
    lcl_status status = check_tables(t);
    *out = NULL;
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(make_added(t, json_object_get(root, "added_tokens")));
    LCL_TRY_GOTO(strcmp(t->model, "gpt2") == 0 ? add_gpt2(t, root, model)
                                               : add_sentencepiece(t, root, model));
    config = config_of(t);
    text = json_dumps(root, JSON_INDENT(1));
    config_text = json_dumps(config, JSON_INDENT(2));
    if (!text || !config_text) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
        goto out;
    }
    LCL_TRY_GOTO(
        tok_load_text("tokenizer", text, strlen(text), config_text, strlen(config_text), out));
    (*out)->config_json = config_text;
    (*out)->config_size = strlen(config_text);
    config_text = NULL;
out:
    json_decref(config);
    json_decref(root);
    free(text);
    free(config_text);
    return status == LCL_OK ? status : lcl_fail_context(status, "%s: its tokenizer", where);
}
