/* A tokenizer as the tables of a GGUF file, from the text of its tokenizer.json. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_gguf.h"
#include "data/tokenizer_internal.h"

/* ---- splitting ---- */

/* What a pre-tokenizer is made of, as far as llama.cpp's patterns go. */
struct splitting {
    const char *words;
    bool digits, byte_level, byte_words, space, other;
};

static void look_at(const json_t *o, struct splitting *s)
{
    const char *type = tok_string_of(o, "type");
    const json_t *list = json_object_get(o, "pretokenizers");
    const char *regex = tok_string_of(json_object_get(o, "pattern"), "Regex");
    for (size_t i = 0; i < json_array_size(list) && strcmp(type, "Sequence") == 0; i++)
        look_at(json_array_get(list, i), s);
    if (strcmp(type, "Sequence") == 0) return;
    bool isolated = strcmp(type, "Split") == 0 && *regex && !s->byte_level &&
                    strcmp(tok_string_of(o, "behavior"), "Isolated") == 0 &&
                    !json_is_true(json_object_get(o, "invert"));
    if (strcmp(type, "ByteLevel") == 0 && !s->byte_level) {
        s->byte_level = true;
        s->byte_words = !json_is_false(json_object_get(o, "use_regex"));
        s->space = !json_is_false(json_object_get(o, "add_prefix_space"));
    } else if ((isolated && strcmp(regex, "\\p{N}") == 0) ||
               (strcmp(type, "Digits") == 0 && !s->byte_level &&
                json_is_true(json_object_get(o, "individual_digits")))) {
        s->other |= s->digits || s->words;
        s->digits = true;
    } else if (isolated && !s->words) {
        s->words = regex;
    } else {
        s->other = true;
    }
}

static lcl_status name_splitting(const json_t *root, struct lcl_tokenizer_tables *out)
{
    struct splitting s = {0};
    const json_t *normalizer = json_object_get(root, "normalizer");
    look_at(json_object_get(root, "pre_tokenizer"), &s);
    const char *name =
        s.other || s.byte_words == (s.words != NULL) || (normalizer && !json_is_null(normalizer))
            ? NULL
            : tok_gguf_pattern(s.words, s.digits);
    if (!name)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "export with --to hf",
                             "llama.cpp has no name for the tokenizer's way of splitting");
    out->pre = strdup(name);
    out->add_space_prefix = s.space;
    return out->pre ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
}

static bool splits_bytes(const json_t *root)
{
    struct splitting s = {0};
    look_at(json_object_get(root, "pre_tokenizer"), &s);
    return s.byte_level;
}

/* Whether a text gets SentencePiece's space before it: a Prepend, or a Metaspace that does so. */
static bool prepends(const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer"), *one;
    const json_t *steps = json_object_get(normalizer, "normalizers");
    const json_t *meta = json_object_get(root, "pre_tokenizer");
    size_t i;
    if (strcmp(tok_string_of(normalizer, "type"), "Prepend") == 0) return true;
    json_array_foreach(steps, i, one)
    {
        if (strcmp(tok_string_of(one, "type"), "Prepend") == 0) return true;
    }
    return strcmp(tok_string_of(meta, "type"), "Metaspace") == 0 &&
           strcmp(tok_string_of(meta, "prepend_scheme"), "never") != 0 &&
           !json_is_false(json_object_get(meta, "add_prefix_space"));
}

/* ---- tokens ---- */

/* Strings behind their pointers in one block; false where memory ran out. */
static bool texts_begin(char ***list, size_t n, size_t bytes)
{
    *list = malloc((n + 1) * sizeof **list + bytes + 1);
    if (!*list) return false;
    (*list)[n] = NULL;
    (*list)[0] = (char *)(*list + n + 1);
    return true;
}

static char *texts_put(char **list, size_t i, char *at, const char *s, size_t n)
{
    list[i] = at;
    memcpy(at, s, n);
    at[n] = '\0';
    return at + n + 1;
}

static lcl_status fill_tokens(const struct lcl_tokenizer *t, size_t n,
                              struct lcl_tokenizer_tables *out)
{
    char *at, unused[32];
    size_t bytes = n * sizeof unused;
    for (int32_t i = 0; i < t->n_ids; i++) bytes += t->token[i].size + 1;
    if (!texts_begin(&out->token, n, bytes))
        return LCL_FAIL(LCL_MEMORY, "no memory for %zu tokens", n);
    out->type = malloc(n * sizeof *out->type);
    if (!out->type) return LCL_FAIL(LCL_MEMORY, "no memory for %zu tokens", n);
    at = out->token[0];
    for (size_t i = 0; i < n; i++) {
        bool there = i < (size_t)t->n_ids && t->token[i].present;
        snprintf(unused, sizeof unused, "[PAD%zu]", i);
        const char *s = there ? t->blob + t->token[i].at : unused;
        size_t size = there ? t->token[i].size : strlen(unused);
        if (memchr(s, 0, size))
            return LCL_FAIL(LCL_UNSUPPORTED,
                            "token %zu holds a NUL byte, which GGUF readers cut at", i);
        at = texts_put(out->token, i, at, s, size);
        out->type[i] = there ? 1 : 5;
    }
    out->n_tokens = n;
    return LCL_OK;
}

static void set_types(const struct lcl_tokenizer *t, bool bytes, struct lcl_tokenizer_tables *out)
{
    for (size_t i = 0; i < t->n_added; i++) out->type[t->added[i].id] = t->added[i].special ? 3 : 4;
    for (int b = 0; b < 256 && bytes; b++)
        if (t->byte_id[b] >= 0) out->type[t->byte_id[b]] = 6;
    if (bytes && t->unk >= 0) out->type[t->unk] = 2;
}

/* ---- merges ---- */

/* The two parts of a merge: ["a", "b"] or "a b". */
static void merge_parts(const json_t *v, const char *part[2], size_t size[2])
{
    const char *s = json_string_value(v), *space = s ? strchr(s, ' ') : NULL;
    for (size_t k = 0; k < 2 && !s; k++) {
        part[k] = json_string_value(json_array_get(v, k));
        size[k] = json_string_length(json_array_get(v, k));
    }
    if (!s) return;
    part[0] = s;
    size[0] = (size_t)(space - s);
    part[1] = space + 1;
    size[1] = strlen(space + 1);
}

static lcl_status fill_merges(const json_t *list, struct lcl_tokenizer_tables *out)
{
    size_t n = json_array_size(list), bytes = 0, size[2], i;
    const char *part[2];
    json_t *v;
    json_array_foreach(list, i, v)
    {
        merge_parts(v, part, size);
        bytes += size[0] + size[1] + 2;
    }
    if (!texts_begin(&out->merge, n, bytes))
        return LCL_FAIL(LCL_MEMORY, "no memory for %zu merges", n);
    char *at = out->merge[0];
    json_array_foreach(list, i, v)
    {
        merge_parts(v, part, size);
        out->merge[i] = at;
        memcpy(at, part[0], size[0]);
        at[size[0]] = ' ';
        memcpy(at + size[0] + 1, part[1], size[1] + 1);
        at += size[0] + size[1] + 2;
    }
    out->n_merges = n;
    return LCL_OK;
}

/* Merged pieces are numbered 0, -1, -2, ... in the order in which the merges first make them, as in
 * SentencePiece's models; single characters follow in the order of their ids. */
static lcl_status fill_scores(const struct lcl_tokenizer *t, const json_t *list,
                              struct lcl_tokenizer_tables *out)
{
    size_t n = out->n_tokens, size[2], i;
    const char *part[2];
    json_t *v;
    int64_t next = 0;
    out->score = calloc(n, sizeof *out->score);
    bool *ranked = calloc(n, sizeof *ranked);
    if (!out->score || !ranked) {
        free(ranked);
        return LCL_FAIL(LCL_MEMORY, "no memory for %zu scores", n);
    }
    json_array_foreach(list, i, v)
    {
        merge_parts(v, part, size);
        const struct tok_merge *m = tok_merges_find(t, tok_vocab_find(t, part[0], size[0]),
                                                    tok_vocab_find(t, part[1], size[1]));
        if (!m || ranked[m->id]) continue;
        ranked[m->id] = true;
        out->score[m->id] = (float)-next++;
    }
    for (size_t id = 0; id < n; id++)
        if (!ranked[id] && out->type[id] == 1) out->score[id] = (float)-next++;
    free(ranked);
    return LCL_OK;
}

/* ---- all of it ---- */

/* A special token that tokenizer_config.json names, by its text or as an object; -1 without one. */
static lcl_status fill_names(const struct lcl_tokenizer *t, bool bytes,
                             struct lcl_tokenizer_tables *out)
{
    json_error_t error;
    json_t *config = t->config_json ? tok_config(t->config_json, t->config_size, &error) : NULL;
    const char *template = tok_string_of(config, "chat_template");
    int32_t unk = tok_special_id(t, config, "unk_token", NULL, 0),
            pad = tok_special_id(t, config, "pad_token", NULL, 0);
    out->model = strdup(bytes ? "gpt2" : "llama");
    out->chat_template = *template ? strdup(template) : NULL;
    out->bos = t->bos;
    out->eos = t->eos;
    out->unk = unk >= 0 ? unk : t->unk;
    out->pad = pad >= 0 ? pad : lcl_tokenizer_id(t, "<pad>");
    out->add_bos = t->n_prefix > 0 && t->prefix[0] == t->bos;
    out->add_eos = t->n_suffix > 0 && t->suffix[t->n_suffix - 1] == t->eos;
    bool good = out->model && (out->chat_template || !*template);
    json_decref(config);
    return good ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
}

static lcl_status fill_tables(const struct lcl_tokenizer *t, const json_t *root, size_t n_tokens,
                              struct lcl_tokenizer_tables *out)
{
    bool bytes = splits_bytes(root);
    const char *type = tok_string_of(json_object_get(root, "model"), "type");
    const json_t *list = json_object_get(json_object_get(root, "model"), "merges");
    if (*type && strcmp(type, "BPE") != 0)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "export with --to hf",
                             "a tokenizer of type %s: BPE can be written to GGUF", type);
    if (!bytes && !t->byte_fallback)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "export with --to hf",
                             "the tokenizer is neither byte-level nor falls back to bytes: "
                             "llama.cpp has no such one");
    if ((size_t)t->n_ids > n_tokens)
        return LCL_FAIL(LCL_RANGE, "the tokenizer has %d ids, the embedding %zu rows", t->n_ids,
                        n_tokens);
    LCL_TRY(fill_names(t, bytes, out));
    LCL_TRY(fill_tokens(t, n_tokens, out));
    set_types(t, !bytes, out);
    if (bytes) {
        LCL_TRY(name_splitting(root, out));
        return fill_merges(list, out);
    }
    out->add_space_prefix = prepends(root);
    return fill_scores(t, list, out);
}

lcl_status lcl_tokenizer_to_tables(const struct lcl_tokenizer *t, size_t n_tokens,
                                   struct lcl_tokenizer_tables *tables)
{
    json_t *root = json_loadb(t->json, t->json_size, JSON_ALLOW_NUL, NULL);
    *tables = (struct lcl_tokenizer_tables){.bos = -1, .eos = -1, .unk = -1, .pad = -1};
    lcl_status status = root ? fill_tables(t, root, n_tokens, tables)
                             : LCL_FAIL(LCL_MEMORY, "no memory for a tokenizer");
    if (status != LCL_OK) lcl_tokenizer_tables_free(tables);
    json_decref(root);
    return status;
}
