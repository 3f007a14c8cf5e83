/* Reading tokenizer.json. The file may be hostile: every type, id and reference is checked. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

enum { MAX_STEPS = 64, MAX_ADDED = 1 << 16, MAX_TOKEN_BYTES = 1 << 16, MAX_WORD_END_BYTES = 60 };

#define BAD(...) LCL_FAIL(LCL_FORMAT, __VA_ARGS__)

const char *tok_string_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is_set(const json_t *v) { return v && !json_is_null(v); }

/* A flag that may be absent; anything but a truth value is an error. */
static lcl_status flag_of(const json_t *o, const char *key, bool absent, bool *out)
{
    const json_t *v = json_object_get(o, key);
    *out = is_set(v) ? json_is_true(v) : absent;
    return !is_set(v) || json_is_boolean(v) ? LCL_OK : BAD("%s is not true or false", key);
}

/* `pattern`: {"String": s} or {"Regex": s}. */
static lcl_status set_pattern(struct tok_step *step, const json_t *o)
{
    const json_t *p = json_object_get(o, "pattern");
    const json_t *s = json_object_get(p, "String"), *r = json_object_get(p, "Regex");
    if (json_is_string(s) && json_string_length(s) > 0)
        return tok_step_set(&step->pattern, &step->pattern_size, json_string_value(s),
                            json_string_length(s));
    if (json_is_string(r)) return tok_step_regex(step, json_string_value(r), json_string_length(r));
    return BAD("a pattern is neither {\"String\": text} nor {\"Regex\": text}");
}

static lcl_status set_content(struct tok_step *step, const json_t *o, const char *key)
{
    const json_t *s = json_object_get(o, key);
    if (!json_is_string(s)) return BAD("%s is not a text", key);
    return tok_step_set(&step->content, &step->content_size, json_string_value(s),
                        json_string_length(s));
}

typedef lcl_status (*parse_fn)(struct lcl_tokenizer *t, const json_t *o, const char *type);

/* A component, or a Sequence of them (not nested more than a few deep). */
static lcl_status parse_list(struct lcl_tokenizer *t, const json_t *o, const char *list,
                             const char *what, parse_fn parse, int depth)
{
    if (!is_set(o)) return LCL_OK;
    const char *type = tok_string_of(o, "type");
    if (strcmp(type, "Sequence") != 0) {
        if (!*type) return BAD("the %s has no type", what);
        return parse(t, o, type);
    }
    const json_t *items = json_object_get(o, list);
    if (!json_is_array(items) || json_array_size(items) > MAX_STEPS || depth > 4)
        return BAD("the %s's Sequence has no list \"%s\" of at most %d, or is nested too deep",
                   what, list, MAX_STEPS);
    for (size_t i = 0; i < json_array_size(items); i++)
        LCL_TRY(parse_list(t, json_array_get(items, i), list, what, parse, depth + 1));
    return LCL_OK;
}

static lcl_status unsupported(const char *what, const char *type)
{
    return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                         "byte-level and SentencePiece-style BPE tokenizers can be read",
                         "%s \"%s\" is not supported", what, type);
}

static lcl_status parse_normalizer(struct lcl_tokenizer *t, const json_t *o, const char *type)
{
    static const struct {
        const char *type;
        enum tok_step_kind kind;
    } known[] = {{"Prepend", TOK_PREPEND},
                 {"Replace", TOK_REPLACE},
                 {"Lowercase", TOK_LOWER},
                 {"NFC", TOK_NFC}};
    struct tok_step *step;
    int i = 0;
    while (i < 4 && strcmp(type, known[i].type) != 0) i++;
    if (i == 4) return unsupported("normalizer", type);
    LCL_TRY(tok_steps_push(&t->normalize, &step));
    step->kind = known[i].kind;
    if (step->kind == TOK_PREPEND) return set_content(step, o, "prepend");
    if (step->kind != TOK_REPLACE) return LCL_OK;
    LCL_TRY(set_pattern(step, o));
    return set_content(step, o, "content");
}

static lcl_status metaspace_scheme(const json_t *o, enum tok_prepend *scheme, bool *never)
{
    const char *s = tok_string_of(o, "prepend_scheme");
    bool legacy;
    LCL_TRY(flag_of(o, "add_prefix_space", true, &legacy));
    *never = *s ? strcmp(s, "never") == 0 : !legacy;
    *scheme = strcmp(s, "first") == 0 ? TOK_PREPEND_FIRST : TOK_PREPEND_MISSING;
    if (*s && !*never && strcmp(s, "first") != 0 && strcmp(s, "always") != 0)
        return BAD("prepend_scheme is \"%s\", not always, first or never", s);
    return LCL_OK;
}

static lcl_status parse_metaspace(struct lcl_tokenizer *t, const json_t *o)
{
    struct tok_step *step;
    enum tok_prepend scheme;
    bool never, split;
    LCL_TRY(metaspace_scheme(o, &scheme, &never));
    LCL_TRY(flag_of(o, "split", true, &split));
    LCL_TRY(tok_steps_push(&t->split, &step));
    step->kind = TOK_REPLACE;
    LCL_TRY(tok_step_set(&step->pattern, &step->pattern_size, " ", 1));
    LCL_TRY(set_content(step, o, "replacement"));
    if (!never) {
        LCL_TRY(tok_steps_push(&t->split, &step));
        step->kind = TOK_PREPEND;
        step->prepend = scheme;
        LCL_TRY(set_content(step, o, "replacement"));
    }
    if (!split) return LCL_OK;
    LCL_TRY(tok_steps_push(&t->split, &step));
    step->kind = TOK_SPLIT;
    step->behavior = TOK_WITH_NEXT;
    const char *mark = tok_string_of(o, "replacement");
    if (!*mark) return BAD("Metaspace has an empty replacement");
    return tok_step_set(&step->pattern, &step->pattern_size, mark, strlen(mark));
}

static lcl_status parse_byte_level(struct lcl_tokenizer *t, const json_t *o)
{
    static const char words[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    struct tok_step *step;
    bool space, regex;
    LCL_TRY(flag_of(o, "add_prefix_space", true, &space));
    LCL_TRY(flag_of(o, "use_regex", true, &regex));
    if (space) {
        LCL_TRY(tok_steps_push(&t->split, &step));
        step->kind = TOK_PREPEND;
        step->prepend = TOK_PREPEND_MISSING;
        LCL_TRY(tok_step_set(&step->content, &step->content_size, " ", 1));
    }
    if (regex) {
        LCL_TRY(tok_steps_push(&t->split, &step));
        step->kind = TOK_SPLIT;
        LCL_TRY(tok_step_regex(step, words, sizeof words - 1));
    }
    LCL_TRY(tok_steps_push(&t->split, &step));
    step->kind = TOK_BYTE_CHARS;
    return LCL_OK;
}

static lcl_status parse_split(struct lcl_tokenizer *t, const json_t *o)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = tok_string_of(o, "behavior");
    struct tok_step *step;
    LCL_TRY(tok_steps_push(&t->split, &step));
    step->kind = TOK_SPLIT;
    LCL_TRY(flag_of(o, "invert", false, &step->invert));
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        step->behavior = (enum tok_behavior)i;
        return set_pattern(step, o);
    }
    return BAD("Split's behavior is \"%s\"", name);
}

static lcl_status parse_pre_tokenizer(struct lcl_tokenizer *t, const json_t *o, const char *type)
{
    if (strcmp(type, "ByteLevel") == 0) return parse_byte_level(t, o);
    if (strcmp(type, "Metaspace") == 0) return parse_metaspace(t, o);
    if (strcmp(type, "Split") == 0) return parse_split(t, o);
    if (strcmp(type, "Digits") != 0) return unsupported("pre-tokenizer", type);
    struct tok_step *step;
    bool individual;
    LCL_TRY(flag_of(o, "individual_digits", false, &individual));
    LCL_TRY(tok_steps_push(&t->split, &step));
    step->kind = TOK_SPLIT;
    step->behavior = individual ? TOK_ISOLATED : TOK_CONTIGUOUS;
    return tok_step_regex(step, "\\p{N}", 5);
}

static lcl_status parse_strip(struct tok_step *step, const json_t *o)
{
    json_int_t start = json_integer_value(json_object_get(o, "start"));
    json_int_t stop = json_integer_value(json_object_get(o, "stop"));
    if (start < 0 || start > 1000 || stop < 0 || stop > 1000)
        return BAD("Strip's start %lld or stop %lld is outside 0..1000", (long long)start,
                   (long long)stop);
    step->kind = TOK_TRIM;
    step->start = (int)start;
    step->stop = (int)stop;
    LCL_TRY(set_content(step, o, "content"));
    return step->content_size > 0 ? LCL_OK : BAD("Strip has an empty content");
}

static lcl_status parse_decoder(struct lcl_tokenizer *t, const json_t *o, const char *type)
{
    struct tok_step *step;
    LCL_TRY(tok_steps_push(&t->decode, &step));
    if (strcmp(type, "Replace") == 0) {
        step->kind = TOK_REPLACE;
        LCL_TRY(set_pattern(step, o));
        return set_content(step, o, "content");
    }
    if (strcmp(type, "Metaspace") == 0) {
        bool never;
        enum tok_prepend scheme;
        step->kind = TOK_FROM_METASPACE;
        LCL_TRY(metaspace_scheme(o, &scheme, &never));
        step->prepend = never ? TOK_PREPEND_PLAIN : scheme;
        const char *mark = tok_string_of(o, "replacement");
        if (!*mark) return BAD("Metaspace has an empty replacement");
        return tok_step_set(&step->pattern, &step->pattern_size, mark, strlen(mark));
    }
    if (strcmp(type, "Strip") == 0) return parse_strip(step, o);
    if (strcmp(type, "ByteFallback") == 0)
        step->kind = TOK_FROM_BYTES;
    else if (strcmp(type, "Fuse") == 0)
        step->kind = TOK_FUSE;
    else if (strcmp(type, "ByteLevel") == 0)
        step->kind = TOK_FROM_BYTE_CHARS;
    else
        return unsupported("decoder", type);
    return LCL_OK;
}

static lcl_status push_id(int32_t **ids, int *n, int32_t id)
{
    int32_t *v = realloc(*ids, (size_t)(*n + 1) * sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the post-processor");
    v[(*n)++] = id;
    *ids = v;
    return LCL_OK;
}

/* RobertaProcessing: "cls" before a text and "sep" behind it, each [token, id]. */
static lcl_status parse_roberta(struct lcl_tokenizer *t, const json_t *o)
{
    static const char *const keys[2] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const json_t *id = json_array_get(json_object_get(o, keys[i]), 1);
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v >= t->n_ids)
            return BAD("RobertaProcessing's \"%s\" is not [token, id] of %d tokens", keys[i],
                       (int)t->n_ids);
        LCL_TRY(i ? push_id(&t->suffix, &t->n_suffix, (int32_t)v)
                  : push_id(&t->prefix, &t->n_prefix, (int32_t)v));
    }
    return LCL_OK;
}

static lcl_status parse_post_processor(struct lcl_tokenizer *t, const json_t *o, const char *type)
{
    if (strcmp(type, "ByteLevel") == 0) return LCL_OK; /* moves offsets only */
    if (strcmp(type, "RobertaProcessing") == 0) return parse_roberta(t, o);
    if (strcmp(type, "TemplateProcessing") != 0) return unsupported("post-processor", type);
    const json_t *single = json_object_get(o, "single");
    const json_t *specials = json_object_get(o, "special_tokens");
    if (!json_is_array(single) || json_array_size(single) > MAX_STEPS)
        return BAD("the template's \"single\" is not a list of at most %d", MAX_STEPS);
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence")) {
            after = true;
            continue;
        }
        const char *name = tok_string_of(json_object_get(item, "SpecialToken"), "id");
        const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
        if (!json_is_array(ids) || json_array_size(ids) == 0 || json_array_size(ids) > MAX_STEPS)
            return BAD("the template's special token \"%.100s\" has no ids", name);
        for (size_t k = 0; k < json_array_size(ids); k++) {
            json_int_t id = json_integer_value(json_array_get(ids, k));
            if (!json_is_integer(json_array_get(ids, k)) || id < 0 || id >= t->n_ids)
                return BAD("the template's special token \"%.100s\" has id %lld of %d tokens", name,
                           (long long)id, (int)t->n_ids);
            LCL_TRY(after ? push_id(&t->suffix, &t->n_suffix, (int32_t)id)
                          : push_id(&t->prefix, &t->n_prefix, (int32_t)id));
        }
    }
    return LCL_OK;
}

static lcl_status check_id(const json_t *v, const char *token, size_t n_tokens, int32_t *n_ids)
{
    json_int_t id = json_integer_value(v);
    /* Ids may have holes, but a table must not be sized by one huge number. */
    json_int_t limit = 8 * (json_int_t)n_tokens + 65536;
    if (!json_is_integer(v) || id < 0 || id >= limit || id > INT32_MAX / 4)
        return BAD("the token \"%.100s\" has no id in 0..%lld", token, (long long)limit - 1);
    if ((int32_t)id >= *n_ids) *n_ids = (int32_t)id + 1;
    return LCL_OK;
}

static lcl_status load_vocab(struct lcl_tokenizer *t, json_t *vocab, const json_t *added)
{
    const char *key;
    json_t *v;
    size_t n_key, i, n_tokens = json_object_size(vocab) + json_array_size(added);
    int32_t n_ids = 0;
    if (json_array_size(added) > MAX_ADDED) return BAD("more than %d added tokens", MAX_ADDED);
    json_object_foreach(vocab, key, v) LCL_TRY(check_id(v, key, n_tokens, &n_ids));
    json_array_foreach(added, i, v)
        LCL_TRY(check_id(json_object_get(v, "id"), tok_string_of(v, "content"), n_tokens, &n_ids));
    LCL_TRY(tok_vocab_init(t, n_ids));
    json_object_keylen_foreach(vocab, key, n_key, v)
    {
        if (n_key > MAX_TOKEN_BYTES) return BAD("a token of %zu bytes is too long", n_key);
        LCL_TRY(tok_vocab_set(t, (int32_t)json_integer_value(v), key, n_key));
    }
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b & 0xffu);
        t->byte_id[b] = tok_vocab_find(t, name, 6);
    }
    return LCL_OK;
}

static int longer_first(const void *a, const void *b)
{
    const struct tok_added *x = a, *y = b;
    return x->size != y->size ? (x->size < y->size) - (x->size > y->size) : x->id - y->id;
}

/* What an added token looks like in the text that it is searched in. */
static lcl_status normalize_added(struct lcl_tokenizer *t, struct tok_added *a)
{
    struct tok_pieces p = {0}, q = {0};
    lcl_status status;
    LCL_TRY_GOTO(tok_pieces_add(&p, a->content, a->size, true));
    LCL_TRY_GOTO(tok_steps_run(&t->normalize, false, &p, &q));
    LCL_TRY_GOTO(tok_step_set(&a->content, &a->size, p.text, p.size));
    if (a->size == 0) status = BAD("an added token is empty once normalised");
out:
    tok_pieces_free(&p);
    tok_pieces_free(&q);
    return status;
}

/* \w of the regex crate: alphabetic characters, marks, digits, joining punctuation. */
static const char word_pattern[] =
    "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]";

static lcl_status link_added(struct lcl_tokenizer *t)
{
    struct tok_step step = {0};
    for (size_t i = 0; i < t->n_added; i++) {
        const struct tok_added *a = &t->added[i];
        if (a->normalized) t->token[a->id].shown = a;
        if (!a->single_word || t->word) continue;
        LCL_TRY(tok_step_regex(&step, word_pattern, sizeof word_pattern - 1));
        t->word = step.regex;
    }
    return LCL_OK;
}

static lcl_status load_added(struct lcl_tokenizer *t, const json_t *list)
{
    size_t i;
    json_t *v;
    t->added = calloc(json_array_size(list) + 1, sizeof *t->added);
    if (!t->added) return LCL_FAIL(LCL_MEMORY, "no memory for the added tokens");
    json_array_foreach(list, i, v)
    {
        struct tok_added *a = &t->added[t->n_added];
        const json_t *content = json_object_get(v, "content");
        size_t n = json_string_length(content);
        if (!json_is_string(content) || n == 0 || n > MAX_TOKEN_BYTES)
            return BAD("added token %zu has no content of 1..%d bytes", i, MAX_TOKEN_BYTES);
        a->id = (int32_t)json_integer_value(json_object_get(v, "id"));
        LCL_TRY(flag_of(v, "single_word", false, &a->single_word));
        LCL_TRY(flag_of(v, "lstrip", false, &a->lstrip));
        LCL_TRY(flag_of(v, "rstrip", false, &a->rstrip));
        LCL_TRY(flag_of(v, "special", false, &a->special));
        LCL_TRY(flag_of(v, "normalized", !a->special, &a->normalized));
        LCL_TRY(tok_vocab_set(t, a->id, json_string_value(content), n));
        t->token[a->id].special = a->special;
        t->n_added++;
        LCL_TRY(tok_step_set(&a->content, &a->size, json_string_value(content), n));
        if (a->normalized) LCL_TRY(normalize_added(t, a));
    }
    qsort(t->added, t->n_added, sizeof *t->added, longer_first);
    return link_added(t);
}

/* A merge is "left right" or ["left", "right"]. */
static bool merge_parts(const json_t *v, const char *part[2], size_t size[2])
{
    if (json_is_array(v) && json_array_size(v) == 2) {
        for (size_t k = 0; k < 2; k++) {
            part[k] = json_string_value(json_array_get(v, k));
            size[k] = json_string_length(json_array_get(v, k));
            if (!part[k]) return false;
        }
        return true;
    }
    const char *s = json_string_value(v);
    const char *space = s ? strchr(s, ' ') : NULL;
    if (!space || strchr(space + 1, ' ')) return false;
    part[0] = s;
    size[0] = (size_t)(space - s);
    part[1] = space + 1;
    size[1] = strlen(space + 1);
    return true;
}

static lcl_status load_merges(struct lcl_tokenizer *t, const json_t *list)
{
    size_t i;
    json_t *v;
    if (!json_is_array(list)) return BAD("model.merges is not a list");
    LCL_TRY(tok_merges_init(t, json_array_size(list)));
    json_array_foreach(list, i, v)
    {
        const char *part[2];
        size_t size[2];
        char joined[2 * MAX_TOKEN_BYTES];
        if (!merge_parts(v, part, size)) return BAD("merge %zu is not a pair of tokens", i);
        if (size[0] > MAX_TOKEN_BYTES || size[1] > MAX_TOKEN_BYTES)
            return BAD("merge %zu is longer than %d bytes", i, MAX_TOKEN_BYTES);
        memcpy(joined, part[0], size[0]);
        memcpy(joined + size[0], part[1], size[1]);
        int32_t left = tok_vocab_find(t, part[0], size[0]);
        int32_t right = tok_vocab_find(t, part[1], size[1]);
        int32_t both = tok_vocab_find(t, joined, size[0] + size[1]);
        if (left < 0 || right < 0 || both < 0)
            return BAD(
                "merge %zu (\"%.*s\" and \"%.*s\") names a token that is not in the vocabulary", i,
                (int)(size[0] < 60 ? size[0] : 60), part[0], (int)(size[1] < 60 ? size[1] : 60),
                part[1]);
        (void)tok_merges_add(t, left, right, (int32_t)i, both);
    }
    return LCL_OK;
}

/* [[piece, score], ...]: ids are places in the list. */
static lcl_status load_unigram(struct lcl_tokenizer *t, const json_t *model, const json_t *list,
                               const json_t *added)
{
    json_t *map = json_object();
    lcl_status status = LCL_OK;
    for (size_t i = 0; status == LCL_OK && i < json_array_size(list); i++) {
        const json_t *piece = json_array_get(json_array_get(list, i), 0);
        if (!json_is_string(piece) ||
            json_object_getn(map, json_string_value(piece), json_string_length(piece)))
            status = BAD("model.vocab[%zu] is no piece of its own", i);
        else
            json_object_setn_new(map, json_string_value(piece), json_string_length(piece),
                                 json_integer((json_int_t)i));
    }
    if (status == LCL_OK) status = load_vocab(t, map, added);
    json_decref(map);
    LCL_TRY(status);
    LCL_TRY(tok_unigram_load(t, model));
    return load_added(t, added);
}

static lcl_status load_model(struct lcl_tokenizer *t, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    const char *type = tok_string_of(model, "type");
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(model)) return BAD("there is no \"model\"");
    bool unigram = strcmp(type, "Unigram") == 0;
    if (*type && !unigram && strcmp(type, "BPE") != 0) return unsupported("model", type);
    if (unigram ? !json_is_array(vocab) : !json_is_object(vocab) || json_object_size(vocab) == 0)
        return BAD("model.vocab is not a %s", unigram ? "list of pieces" : "map of tokens to ids");
    if (is_set(added) && !json_is_array(added)) return BAD("added_tokens is not a list");
    if (*tok_string_of(model, "continuing_subword_prefix"))
        return unsupported("model with", "continuing_subword_prefix");
    LCL_TRY(tok_word_end_load(t, model, unigram));
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return unsupported("model with", "dropout");
    LCL_TRY(flag_of(model, "byte_fallback", false, &t->byte_fallback));
    LCL_TRY(flag_of(model, "fuse_unk", false, &t->fuse_unk));
    LCL_TRY(flag_of(model, "ignore_merges", false, &t->ignore_merges));
    LCL_TRY(parse_list(t, json_object_get(root, "normalizer"), "normalizers", "normalizer",
                       parse_normalizer, 0));
    if (unigram) return load_unigram(t, model, vocab, added);
    LCL_TRY(load_vocab(t, vocab, added));
    LCL_TRY(load_merges(t, json_object_get(model, "merges")));
    t->unk = -1;
    if (is_set(json_object_get(model, "unk_token"))) {
        const char *unk = tok_string_of(model, "unk_token");
        t->unk = tok_vocab_find(t, unk, strlen(unk));
        if (t->unk < 0) return BAD("unk_token \"%.100s\" is not in the vocabulary", unk);
    }
    return load_added(t, added);
}

int32_t tok_special_id(const struct lcl_tokenizer *t, const json_t *config, const char *key,
                       const char *const *names, int n)
{
    const json_t *v = json_object_get(config, key);
    const char *s = json_is_object(v) ? tok_string_of(v, "content") : tok_string_of(config, key);
    if (*s && lcl_tokenizer_id(t, s) >= 0) return lcl_tokenizer_id(t, s);
    for (int i = 0; i < n; i++)
        if (lcl_tokenizer_id(t, names[i]) >= 0) return lcl_tokenizer_id(t, names[i]);
    return -1;
}

static void find_specials(struct lcl_tokenizer *t, const json_t *config)
{
    static const char *const bos[] = {"<s>", "<|begin_of_text|>", "<|im_start|>", "<|startoftext|>",
                                      "<|endoftext|>"};
    static const char *const eos[] = {"</s>", "<|eot_id|>", "<|end_of_text|>", "<|im_end|>",
                                      "<|endoftext|>"};
    static const char *const image[] = {"<image>"};
    t->bos = tok_special_id(t, config, "bos_token", bos, 5);
    t->eos = tok_special_id(t, config, "eos_token", eos, 5);
    t->image = tok_special_id(t, config, "image_token", image, 1);
}

static lcl_status build(struct lcl_tokenizer *t, const json_t *root, const json_t *config)
{
    if (!json_is_object(root)) return BAD("it is not a JSON object");
    LCL_TRY(load_model(t, root));
    LCL_TRY(parse_list(t, json_object_get(root, "pre_tokenizer"), "pretokenizers", "pre-tokenizer",
                       parse_pre_tokenizer, 0));
    LCL_TRY(parse_list(t, json_object_get(root, "post_processor"), "processors", "post-processor",
                       parse_post_processor, 0));
    t->joined_by_space = !is_set(json_object_get(root, "decoder"));
    LCL_TRY(
        parse_list(t, json_object_get(root, "decoder"), "decoders", "decoder", parse_decoder, 0));
    LCL_TRY(tok_word_end_decode(t));
    find_specials(t, config);
    return LCL_OK;
}

json_t *tok_config(const char *text, size_t size, json_error_t *error)
{
    json_t *root = json_loadb(text, size, JSON_ALLOW_NUL, error);
    if (root || json_error_code(error) != json_error_numeric_overflow) return root;
    return json_loadb(text, size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, error);
}

lcl_status tok_load_text(const char *name, const char *json, size_t size, const char *config,
                         size_t config_size, struct lcl_tokenizer **out)
{
    json_error_t error;
    struct lcl_tokenizer *t = calloc(1, sizeof *t);
    json_t *root = NULL, *conf = NULL;
    lcl_status status;
    if (!t) return LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
    root = json_loadb(json, size, JSON_ALLOW_NUL, &error);
    if (!root) {
        status = BAD("%s:%d: %s", name, error.line, error.text);
        goto out;
    }
    /* Only names of special tokens are wanted from tokenizer_config.json, so a bad one is an error
     * all the same. */
    if (config && !(conf = tok_config(config, config_size, &error))) {
        status = BAD("tokenizer_config.json beside %s, line %d: %s", name, error.line, error.text);
        goto out;
    }
    status = build(t, root, conf);
    if (status != LCL_OK) {
        status = lcl_fail_context(status, "%s", name);
        goto out;
    }
    status = tok_step_set(&t->json, &t->json_size, json, size);
out:
    json_decref(root);
    json_decref(conf);
    if (status != LCL_OK)
        lcl_tokenizer_free(t);
    else
        *out = t;
    return status;
}
