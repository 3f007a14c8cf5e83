/* Encoding and decoding. */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/tokenizer_internal.h"

lcl_status lcl_ids_push(struct lcl_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        int64_t cap = 2 * ids->cap + 32;
        int32_t *v = realloc(ids->v, (size_t)cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %lld token ids", (long long)cap);
        ids->v = v;
        ids->cap = cap;
    }
    ids->v[ids->n++] = id;
    return LCL_OK;
}

void lcl_ids_free(struct lcl_ids *ids)
{
    free(ids->v);
    *ids = (struct lcl_ids){0};
}

void lcl_tokenizer_free(struct lcl_tokenizer *t)
{
    if (!t) return;
    free(t->blob);
    free(t->token);
    free(t->by_text);
    free(t->merges);
    free(t->score);
    free(t->word_end);
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].content);
    free(t->added);
    pcre2_code_free(t->word);
    tok_steps_free(&t->normalize);
    tok_steps_free(&t->split);
    tok_steps_free(&t->decode);
    free(t->prefix);
    free(t->suffix);
    free(t->json);
    free(t->config_json);
    free(t->specials_json);
    free(t);
}

int32_t lcl_tokenizer_vocab_size(const struct lcl_tokenizer *t) { return t->n_ids; }
int32_t lcl_tokenizer_bos(const struct lcl_tokenizer *t) { return t->bos; }
int32_t lcl_tokenizer_eos(const struct lcl_tokenizer *t) { return t->eos; }
int32_t lcl_tokenizer_unk(const struct lcl_tokenizer *t) { return t->unk; }
int32_t lcl_tokenizer_image(const struct lcl_tokenizer *t) { return t->image; }

int32_t lcl_tokenizer_id(const struct lcl_tokenizer *t, const char *token)
{
    return tok_vocab_find(t, token, strlen(token));
}

const char *lcl_tokenizer_token(const struct lcl_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_ids && t->token[id].present ? t->blob + t->token[id].at : NULL;
}

/* What the phases of an encoding share. */
struct encoder {
    const struct lcl_tokenizer *t;
    bool continued;
    struct tok_pieces a, b; /* normalised text */
    struct tok_pieces c, d; /* pieces of it */
    struct lcl_ids *out;
};

static bool is_word(const struct lcl_tokenizer *t, const char *s, size_t n)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int rc = data ? pcre2_match(t->word, (PCRE2_SPTR)s, n, 0, PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK,
                                data, NULL)
                  : -1;
    pcre2_match_data_free(data);
    return rc >= 0;
}

static bool stands_alone(const struct lcl_tokenizer *t, const char *s, size_t n, size_t begin,
                         size_t end)
{
    size_t back = begin;
    while (back > 0 && back + 4 > begin && ((uint8_t)s[--back] & 0xc0) == 0x80) {
    }
    return !(begin > 0 && is_word(t, s + back, begin - back)) &&
           !(end < n && is_word(t, s + end, n - end));
}

int lcl_space_bytes(const char *s, size_t n, bool python)
{
    uint32_t c;
    int size = tok_utf8(s, n, &c);
    bool space =
        size > 0 && (c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
                     (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
                     c == 0x205f || c == 0x3000 || (python && c >= 0x1c && c <= 0x1f));
    return space ? size : 0;
}

size_t lcl_before_space(const char *s, size_t first, size_t end, bool python)
{
    for (;;) {
        size_t at = end;
        while (at > first && end - at < 4 && ((uint8_t)s[--at] & 0xc0) == 0x80) {
        }
        if (at == end || lcl_space_bytes(s + at, end - at, python) != (int)(end - at)) return end;
        end = at;
    }
}

/* The leftmost, then longest added token of the phase in s[from, n); NULL when there is none. */
static const struct tok_added *find_added(const struct lcl_tokenizer *t, bool normalized,
                                          const char *s, size_t n, size_t from, size_t *at)
{
    for (size_t i = from; i < n; i++) {
        for (size_t k = 0; k < t->n_added; k++) {
            const struct tok_added *a = &t->added[k];
            if (a->normalized != normalized || a->content[0] != s[i] || a->size > n - i ||
                memcmp(a->content, s + i, a->size) != 0)
                continue;
            if (a->single_word && !stands_alone(t, s, n, i, i + a->size)) continue;
            *at = i;
            return a;
        }
    }
    return NULL;
}

/* Text without added tokens: pre-tokenised, then each word through BPE. */
static lcl_status encode_words(struct encoder *e, const char *s, size_t n, bool first)
{
    if (n == 0) return LCL_OK;
    tok_pieces_clear(&e->c);
    LCL_TRY(tok_pieces_add(&e->c, s, n, first));
    LCL_TRY(tok_steps_run(&e->t->split, e->continued, &e->c, &e->d));
    for (size_t i = 0; i < e->c.n; i++)
        LCL_TRY((e->t->score ? tok_unigram : tok_bpe)(e->t, e->c.text + e->c.v[i].at,
                                                      e->c.v[i].size, e->out));
    return LCL_OK;
}

static lcl_status encode_gap(struct encoder *e, bool normalized, const char *s, size_t n,
                             bool first);

/* Cuts the text at the added tokens of a phase. */
static lcl_status encode_added(struct encoder *e, bool normalized, const char *s, size_t n,
                               bool first)
{
    size_t done = 0, at = 0;
    for (;;) {
        const struct tok_added *a = find_added(e->t, normalized, s, n, done, &at);
        size_t end = a ? at : n;
        if (a && a->lstrip) end = lcl_before_space(s, done, end, false);
        LCL_TRY(encode_gap(e, normalized, s + done, end - done, first && done == 0));
        if (!a) return LCL_OK;
        LCL_TRY(lcl_ids_push(e->out, a->id));
        e->continued = false; /* what follows an added token is a new sentence */
        done = at + a->size;
        for (int k = 1; a->rstrip && k > 0; done += (size_t)k)
            k = lcl_space_bytes(s + done, n - done, false);
    }
}

static lcl_status encode_gap(struct encoder *e, bool normalized, const char *s, size_t n,
                             bool first)
{
    if (n == 0) return LCL_OK;
    if (normalized) return encode_words(e, s, n, first);
    tok_pieces_clear(&e->a);
    LCL_TRY(tok_pieces_add(&e->a, s, n, first));
    LCL_TRY(tok_steps_run(&e->t->normalize, e->continued, &e->a, &e->b));
    /* Normalizers neither split nor join, so there is one piece. */
    return encode_added(e, true, e->a.text + e->a.v[0].at, e->a.v[0].size, first);
}

lcl_status lcl_tokenizer_encode_at(const struct lcl_tokenizer *t, const char *text, size_t size,
                                   enum lcl_text_place place, struct lcl_ids *out)
{
    for (size_t i = 0; i < size;) {
        int step = tok_utf8(text + i, size - i, NULL);
        if (step == 0) return LCL_FAIL(LCL_FORMAT, "text is not UTF-8 at byte %zu", i);
        i += (size_t)step;
    }
    int64_t mark = out->n;
    struct encoder e = {
        .t = t, .continued = place == LCL_TEXT_CONTINUED || place == LCL_TEXT_PLAIN, .out = out};
    lcl_status status;
    if (place == LCL_TEXT_PLAIN) {
        status = tok_pieces_add(&e.a, text, size, false);
        if (status == LCL_OK) status = tok_steps_run(&t->normalize, true, &e.a, &e.b);
        if (status == LCL_OK) status = encode_words(&e, e.a.text, e.a.v[0].size, false);
    } else {
        status = encode_added(&e, false, text, size, place == LCL_TEXT_START);
    }
    tok_pieces_free(&e.a);
    tok_pieces_free(&e.b);
    tok_pieces_free(&e.c);
    tok_pieces_free(&e.d);
    if (status != LCL_OK) out->n = mark;
    return status;
}

lcl_status lcl_tokenizer_encode(const struct lcl_tokenizer *t, const char *text, bool add_special,
                                struct lcl_ids *out)
{
    return lcl_tokenizer_encode_bytes(t, text, strlen(text), add_special, out);
}

lcl_status lcl_tokenizer_encode_bytes(const struct lcl_tokenizer *t, const char *text, size_t size,
                                      bool add_special, struct lcl_ids *out)
{
    if (add_special)
        for (int i = 0; i < t->n_prefix; i++) LCL_TRY(lcl_ids_push(out, t->prefix[i]));
    LCL_TRY(lcl_tokenizer_encode_at(t, text, size, LCL_TEXT_START, out));
    if (add_special)
        for (int i = 0; i < t->n_suffix; i++) LCL_TRY(lcl_ids_push(out, t->suffix[i]));
    return LCL_OK;
}

lcl_status lcl_tokenizer_decode_bytes(const struct lcl_tokenizer *t, const int32_t *ids, int64_t n,
                                      bool skip_special, char **text, size_t *size)
{
    struct tok_pieces a = {0}, b = {0};
    lcl_status status;
    LCL_TRY_GOTO(tok_pieces_text(&a, "", 0));
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n_ids || !t->token[ids[i]].present) continue;
        const struct tok_token *k = &t->token[ids[i]];
        if (skip_special && k->special) continue;
        if (t->joined_by_space && a.n > 0) LCL_TRY_GOTO(tok_pieces_add(&a, " ", 1, false));
        LCL_TRY_GOTO(k->shown ? tok_pieces_add(&a, k->shown->content, k->shown->size, false)
                              : tok_pieces_add(&a, t->blob + k->at, k->size, false));
    }
    LCL_TRY_GOTO(tok_steps_run(&t->decode, false, &a, &b));
    *text = a.text; /* pieces lie end to end */
    if (size) *size = a.size;
    a.text = NULL;
out:
    tok_pieces_free(&a);
    tok_pieces_free(&b);
    return status;
}

lcl_status lcl_tokenizer_decode(const struct lcl_tokenizer *t, const int32_t *ids, int64_t n,
                                bool skip_special, char **text)
{
    return lcl_tokenizer_decode_bytes(t, ids, n, skip_special, text, NULL);
}

static lcl_status save_one(const char *dir, const char *name, const char *text, size_t size)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory to save %s", name);
    lcl_status status = lcl_fs_write_atomic(path, text, size);
    free(path);
    return status;
}

/* A special token's text with quotes and backslashes escaped for JSON, in buf. */
static const char *quoted(const struct lcl_tokenizer *t, int32_t id, char *buf, size_t cap)
{
    const char *s = lcl_tokenizer_token(t, id);
    size_t n = 0;
    if (!s) return "null";
    buf[n++] = '"';
    for (; *s && n + 4 < cap; s++) {
        if (*s == '"' || *s == '\\') buf[n++] = '\\';
        buf[n++] = *s;
    }
    buf[n++] = '"';
    buf[n] = 0;
    return buf;
}

lcl_status lcl_tokenizer_save(const struct lcl_tokenizer *t, const char *dir)
{
    LCL_TRY(lcl_fs_mkdirs(dir));
    LCL_TRY(save_one(dir, "tokenizer.json", t->json, t->json_size));
    char bos[256], eos[256], pad[256], unk[256], image[256];
    const char *b = quoted(t, t->bos, bos, sizeof bos), *e = quoted(t, t->eos, eos, sizeof eos);
    const char *p = quoted(t, lcl_tokenizer_id(t, "<pad>"), pad, sizeof pad);
    const char *u = quoted(t, t->unk, unk, sizeof unk);
    const char *i = quoted(t, t->image, image, sizeof image);
    char *config = t->config_json
                       ? NULL
                       : lcl_strdupf("{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                                     "  \"clean_up_tokenization_spaces\": false,\n"
                                     "  \"padding_side\": \"right\",\n  \"bos_token\": %s,\n"
                                     "  \"eos_token\": %s,\n  \"pad_token\": %s,\n"
                                     "  \"unk_token\": %s,\n  \"image_token\": %s\n}\n",
                                     b, e, p, u, i);
    char *specials = t->specials_json
                         ? NULL
                         : lcl_strdupf("{\n  \"bos_token\": %s,\n  \"eos_token\": %s,\n"
                                       "  \"pad_token\": %s,\n  \"unk_token\": %s\n}\n",
                                       b, e, p, u);
    lcl_status status = LCL_OK;
    if ((!config && !t->config_json) || (!specials && !t->specials_json)) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to save the tokenizer");
        goto out;
    }
    LCL_TRY_GOTO(config ? save_one(dir, "tokenizer_config.json", config, strlen(config))
                        : save_one(dir, "tokenizer_config.json", t->config_json, t->config_size));
    LCL_TRY_GOTO(
        specials ? save_one(dir, "special_tokens_map.json", specials, strlen(specials))
                 : save_one(dir, "special_tokens_map.json", t->specials_json, t->specials_size));
out:
    free(config);
    free(specials);
    return status;
}
