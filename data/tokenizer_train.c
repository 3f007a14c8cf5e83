/* Making a small tokenizer from the words of a few texts. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

enum { N_SPECIALS = 5, N_BASE = N_SPECIALS + 256 };
static const char *const specials[N_SPECIALS] = {"<unk>", "<s>", "</s>", "<image>", "<pad>"};

struct word_count {
    char *word; /* in byte characters */
    int64_t count;
    size_t order; /* of first appearance */
};
struct word_list {
    struct word_count *v;
    size_t n;
};

static lcl_status count_word(struct word_list *l, const char *s, size_t n)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strlen(l->v[i].word) != n || memcmp(l->v[i].word, s, n) != 0) continue;
        l->v[i].count++;
        return LCL_OK;
    }
    struct word_count *v = realloc(l->v, (l->n + 1) * sizeof *v);
    char *word = v ? strndup(s, n) : NULL;
    if (v) l->v = v;
    if (!word) return LCL_FAIL(LCL_MEMORY, "no memory for the words of a tokenizer");
    l->v[l->n] = (struct word_count){.word = word, .count = 1, .order = l->n};
    l->n++;
    return LCL_OK;
}

static int frequent_first(const void *a, const void *b)
{
    const struct word_count *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return (x->order > y->order) - (x->order < y->order);
}

/* A merge of two letters inside a label would hide its spelling, so words that could stand right
 * after a quote stay letters. */
static bool wants_token(const char *s, size_t n) { return n > 1 && !(s[0] >= 'a' && s[0] <= 'z'); }

/* Words of the text as the tokenizer splits it; special tokens and {placeholders} are cut out. */
static lcl_status count_words(const struct lcl_tokenizer *t, const char *text, struct word_list *l)
{
    struct tok_pieces p = {0}, q = {0};
    lcl_status status = LCL_OK;
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, "<{");
        tok_pieces_clear(&p);
        LCL_TRY_GOTO(tok_pieces_add(&p, s, n, true));
        LCL_TRY_GOTO(tok_steps_run(&t->split, false, &p, &q));
        for (size_t i = 0; i < p.n; i++)
            if (wants_token(p.text + p.v[i].at, p.v[i].size))
                LCL_TRY_GOTO(count_word(l, p.text + p.v[i].at, p.v[i].size));
        s += n;
        if (*s) s += strcspn(s, ">}");
        if (*s) s++;
    }
out:
    tok_pieces_free(&p);
    tok_pieces_free(&q);
    return status;
}

/* Adds the merges that make `word` one token. They come last, so words made before stay whole. */
static lcl_status add_word(struct lcl_tokenizer *t, const char *word, int64_t vocab_size,
                           int32_t *n_ids, json_t *merges)
{
    for (;;) {
        struct lcl_ids ids = {0};
        lcl_status status = tok_bpe(t, word, strlen(word), &ids);
        int32_t left = ids.n > 1 ? ids.v[0] : -1, right = ids.n > 1 ? ids.v[1] : -1;
        int64_t missing = ids.n - 1;
        lcl_ids_free(&ids);
        LCL_TRY(status);
        if (missing <= 0) return LCL_OK;
        /* Half a word would serve nobody. */
        if (*n_ids + missing > vocab_size || (int64_t)t->n_merges >= 2 * vocab_size) return LCL_OK;
        const char *a = lcl_tokenizer_token(t, left), *b = lcl_tokenizer_token(t, right);
        size_t na = t->token[left].size, nb = t->token[right].size;
        struct tok_pieces joined = {0};
        status = tok_pieces_text(&joined, a, na);
        if (status == LCL_OK) status = tok_pieces_text(&joined, b, nb);
        int32_t id = -1;
        if (status == LCL_OK) {
            id = tok_vocab_find(t, joined.text, joined.size);
            if (id < 0) {
                id = (*n_ids)++;
                status = tok_vocab_set(t, id, joined.text, joined.size);
            }
        }
        tok_pieces_free(&joined);
        LCL_TRY(status);
        a = lcl_tokenizer_token(t, left); /* the blob may have moved */
        b = lcl_tokenizer_token(t, right);
        if (json_array_append_new(merges, json_pack("[s%,s%]", a, na, b, nb)) != 0)
            return LCL_FAIL(LCL_MEMORY, "no memory for the merges of a tokenizer");
        (void)tok_merges_add(t, left, right, (int32_t)t->n_merges, id);
    }
}

static json_t *special_entry(int id)
{
    return json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", specials[id],
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

/* tokenizer.json around a vocabulary (stolen) and merges (stolen). */
static json_t *document(json_t *vocab, json_t *merges)
{
    json_t *added = json_array();
    for (int i = 0; i < N_SPECIALS; i++) json_array_append_new(added, special_entry(i));
    return json_pack(
        "{s:s,s:n,s:n,s:o,s:n,s:{s:s,s:b,s:b,s:b},"
        "s:{s:s,s:[{s:{s:s,s:i}},{s:{s:s,s:i}}],s:[{s:{s:s,s:i}},{s:{s:s,s:i}},{s:{s:s,s:i}}],"
        "s:{s:{s:s,s:[i],s:[s]}}},s:{s:s,s:b,s:b,s:b},"
        "s:{s:s,s:n,s:s,s:n,s:n,s:b,s:b,s:b,s:o,s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
        1, "post_processor", "type", "TemplateProcessing", "single", "SpecialToken", "id", "<s>",
        "type_id", 0, "Sequence", "id", "A", "type_id", 0, "pair", "SpecialToken", "id", "<s>",
        "type_id", 0, "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B", "type_id", 1,
        "special_tokens", "<s>", "id", "<s>", "ids", 1, "tokens", "<s>", "decoder", "type",
        "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "model", "type",
        "BPE", "dropout", "unk_token", "<unk>", "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
}

static json_t *vocab_of(const struct lcl_tokenizer *t, int32_t n_ids)
{
    json_t *vocab = json_object();
    for (int32_t i = 0; i < n_ids; i++)
        json_object_set_new(vocab, lcl_tokenizer_token(t, i), json_integer(i));
    return vocab;
}

/* Specials and the 256 bytes, with GPT-2's splitting and no merges yet. */
static lcl_status base_tokenizer(struct lcl_tokenizer **out)
{
    json_t *vocab = json_object();
    for (int i = 0; i < N_SPECIALS; i++) json_object_set_new(vocab, specials[i], json_integer(i));
    for (int b = 0; b < 256; b++) {
        char c[5] = {0};
        tok_utf8_put(tok_byte_char((uint8_t)b), c);
        json_object_set_new(vocab, c, json_integer(N_SPECIALS + b));
    }
    json_t *root = document(vocab, json_array());
    char *text = json_dumps(root, JSON_COMPACT);
    lcl_status status = text ? tok_load_text("tokenizer", text, strlen(text), NULL, 0, out)
                             : LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
    json_decref(root);
    free(text);
    return status;
}

lcl_status lcl_tokenizer_train(const char *const *texts, size_t n_texts, int64_t vocab_size,
                               struct lcl_tokenizer **out)
{
    struct lcl_tokenizer *base = NULL, *grown = NULL;
    struct word_list words = {0};
    json_t *merges = json_array(), *root = NULL;
    char *text = NULL;
    int32_t n_ids = N_BASE;
    lcl_status status;
    *out = NULL;
    if (vocab_size < N_BASE || vocab_size > 65536) {
        status = LCL_FAIL(LCL_RANGE, "a vocabulary of %lld tokens; wanted %d..65536",
                          (long long)vocab_size, N_BASE);
        goto out;
    }
    LCL_TRY_GOTO(base_tokenizer(&base));
    for (size_t i = 0; i < n_texts; i++) LCL_TRY_GOTO(count_words(base, texts[i], &words));
    if (words.n) qsort(words.v, words.n, sizeof *words.v, frequent_first);

    /* The same tables with room for what is added. */
    grown = calloc(1, sizeof *grown);
    if (!grown) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
        goto out;
    }
    LCL_TRY_GOTO(tok_vocab_init(grown, (int32_t)vocab_size));
    LCL_TRY_GOTO(tok_merges_init(grown, (size_t)vocab_size * 2));
    grown->unk = 0;
    for (int32_t i = 0; i < N_BASE; i++)
        LCL_TRY_GOTO(tok_vocab_set(grown, i, base->blob + base->token[i].at, base->token[i].size));
    for (size_t i = 0; i < words.n; i++)
        LCL_TRY_GOTO(add_word(grown, words.v[i].word, vocab_size, &n_ids, merges));

    root = document(vocab_of(grown, n_ids), merges);
    merges = NULL;
    text = json_dumps(root, JSON_INDENT(1));
    if (!text) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
        goto out;
    }
    status = tok_load_text("tokenizer", text, strlen(text), NULL, 0, out);
out:
    for (size_t i = 0; i < words.n; i++) free(words.v[i].word);
    free(words.v);
    free(text);
    json_decref(merges);
    json_decref(root);
    lcl_tokenizer_free(base);
    lcl_tokenizer_free(grown);
    return status;
}
