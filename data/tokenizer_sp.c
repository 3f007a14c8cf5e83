/* SentencePiece's tokenizer.model, read as the tokenizer.json that says the same.
 *
 * The file is a protobuf message (sentencepiece_model.proto): pieces with score and type, the
 * trainer's settings (of which the kind of model matters) and the normalizer's. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fs.h"
#include "data/tokenizer_internal.h"

enum { MAX_PIECES = 1 << 21, MAX_PIECE_BYTES = 512 };
enum piece_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE = 2 };

#define BAD(...) LCL_FAIL(LCL_FORMAT, __VA_ARGS__)

/* ---- protobuf: tag, then a number or bytes ---- */

struct field {
    uint64_t number; /* of the field */
    int wire;        /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
    uint64_t value;  /* of the numbers */
    const unsigned char *bytes;
    size_t size;
};

static bool read_varint(const unsigned char **p, const unsigned char *end, uint64_t *x)
{
    *x = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        unsigned char b = *(*p)++;
        if (shift == 63 && b > 1) return false;
        *x |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return true;
    }
    return false;
}

static bool read_field(const unsigned char **p, const unsigned char *end, struct field *f)
{
    uint64_t tag;
    if (!read_varint(p, end, &tag)) return false;
    *f = (struct field){.number = tag >> 3, .wire = (int)(tag & 7)};
    if (f->wire == 0) return read_varint(p, end, &f->value);
    uint64_t size = f->wire == 1 ? 8 : 4;
    if (f->wire == 2 && !read_varint(p, end, &size)) return false;
    if ((f->wire != 1 && f->wire != 2 && f->wire != 5) || size > (uint64_t)(end - *p)) return false;
    f->bytes = *p;
    f->size = (size_t)size;
    *p += size;
    if (f->wire != 2) f->value = lcl_little_endian(f->bytes, f->size);
    return true;
}

/* ---- the model ---- */

struct piece {
    const char *text;
    size_t size;
    float score;
    enum piece_type type;
};
struct model {
    const char *path;
    struct piece *pieces;
    size_t n, cap;
    uint64_t kind;
    bool byte_fallback, dummy_prefix, remove_spaces, escape_spaces, space_after;
    bool has_charsmap;
    int64_t unk, bos, eos;
};

static lcl_status broken(const struct model *m)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "it is no SentencePiece model, or was cut short",
                         "%s: a field lies outside its message", m->path);
}

static lcl_status read_piece(struct model *m, const unsigned char *p, size_t size)
{
    const unsigned char *end = p + size;
    struct piece piece = {.type = NORMAL};
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f)) return broken(m);
        if (f.number == 1 && f.wire == 2) {
            piece.text = (const char *)f.bytes;
            piece.size = f.size;
        } else if (f.number == 2 && f.wire == 5) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&piece.score, &bits, sizeof bits);
        } else if (f.number == 3 && f.wire == 0) {
            if (f.value < NORMAL || f.value > BYTE)
                return BAD("%s: piece %zu has the unknown type %llu", m->path, m->n,
                           (unsigned long long)f.value);
            piece.type = (enum piece_type)f.value;
        }
    }
    if (piece.size == 0 || piece.size > MAX_PIECE_BYTES || !(piece.score == piece.score))
        return BAD("%s: piece %zu has %zu bytes, wanted 1 to %d, and a score", m->path, m->n,
                   piece.size, MAX_PIECE_BYTES);
    if (m->n == m->cap) {
        size_t cap = 2 * m->cap + 1024;
        struct piece *pieces = realloc(m->pieces, cap * sizeof *pieces);
        if (!pieces || cap > 2 * MAX_PIECES)
            return LCL_FAIL(LCL_MEMORY, "no memory for the pieces of %s", m->path);
        m->pieces = pieces;
        m->cap = cap;
    }
    m->pieces[m->n++] = piece;
    return LCL_OK;
}

static lcl_status read_trainer(struct model *m, const unsigned char *p, size_t size)
{
    const unsigned char *end = p + size;
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f)) return broken(m);
        if (f.wire != 0) continue;
        if (f.number == 3) m->kind = f.value;
        if (f.number == 24) m->space_after = f.value != 0;
        if (f.number == 35) m->byte_fallback = f.value != 0;
        if (f.number == 40) m->unk = (int64_t)f.value;
        if (f.number == 41) m->bos = (int64_t)f.value;
        if (f.number == 42) m->eos = (int64_t)f.value;
    }
    return LCL_OK;
}

static lcl_status read_normalizer(struct model *m, const unsigned char *p, size_t size)
{
    const unsigned char *end = p + size;
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f)) return broken(m);
        if (f.number == 2 && f.wire == 2) m->has_charsmap = f.size > 0;
        if (f.wire != 0) continue;
        if (f.number == 3) m->dummy_prefix = f.value != 0;
        if (f.number == 4) m->remove_spaces = f.value != 0;
        if (f.number == 5) m->escape_spaces = f.value != 0;
    }
    return LCL_OK;
}

static lcl_status check_model(const struct model *m)
{
    static const char hint[] = "a tokenizer.json of it (transformers writes one) may be readable";
    const char *what = m->has_charsmap     ? "normalises characters (nmt_nfkc or nfkc)"
                       : m->remove_spaces  ? "removes extra spaces"
                       : m->space_after    ? "marks the space after a word"
                       : !m->escape_spaces ? "keeps spaces as they are"
                                           : NULL;
    if (m->n == 0) return BAD("%s has no pieces", m->path);
    if (m->kind != UNIGRAM && m->kind != BPE)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "BPE (2) and unigram (1) models can be read",
                             "%s: model_type %llu", m->path, (unsigned long long)m->kind);
    if (what)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, hint, "%s: a model that %s cannot be computed",
                             m->path, what);
    for (size_t i = 0; i < m->n; i++)
        if (m->pieces[i].type == UNUSED)
            return LCL_FAIL_HINT(LCL_UNSUPPORTED, hint, "%s: piece %zu is of type unused", m->path,
                                 i);
    return LCL_OK;
}

static lcl_status read_model(struct model *m, const unsigned char *p, size_t size)
{
    const unsigned char *end = p + size;
    while (p < end) {
        struct field f;
        if (!read_field(&p, end, &f)) return broken(m);
        if (f.wire != 2 || f.number > 3) continue;
        LCL_TRY(f.number == 1   ? read_piece(m, f.bytes, f.size)
                : f.number == 2 ? read_trainer(m, f.bytes, f.size)
                                : read_normalizer(m, f.bytes, f.size));
    }
    return check_model(m);
}

/* ---- as tokenizer.json ---- */

/* What text can be made of: not control, unknown or byte pieces. */
static bool is_text(const struct piece *p) { return p->type == NORMAL || p->type == USER_DEFINED; }

static lcl_status vocab_json(const struct model *m, json_t *vocab)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct piece *p = &m->pieces[i];
        int n = (int)(p->size < 60 ? p->size : 60);
        if (json_object_getn(vocab, p->text, p->size))
            return BAD("%s: the piece \"%.*s\" is there twice", m->path, n, p->text);
        if (json_object_setn_new(vocab, p->text, p->size, json_integer((json_int_t)i)) != 0)
            return BAD("%s: piece %zu is not UTF-8", m->path, i);
    }
    return LCL_OK;
}

struct merge {
    uint32_t left, right, both;
    float score;
};

static int best_first(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->both != y->both) return x->both < y->both ? -1 : 1;
    return (x->left > y->left) - (x->left < y->left);
}

/* Every pair of pieces that makes a third one, the best first: SentencePiece's BPE merges whatever
 * is in its vocabulary, by score. */
static size_t find_merges(const struct model *m, const json_t *vocab, struct merge *merges)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct piece *p = &m->pieces[i];
        for (size_t k = 1; is_text(p) && k < p->size; k++) {
            if (((unsigned char)p->text[k] & 0xc0) == 0x80) continue;
            const json_t *a = json_object_getn(vocab, p->text, k);
            const json_t *b = json_object_getn(vocab, p->text + k, p->size - k);
            size_t left = a ? (size_t)json_integer_value(a) : 0;
            size_t right = b ? (size_t)json_integer_value(b) : 0;
            if (!a || !b || !is_text(&m->pieces[left]) || !is_text(&m->pieces[right])) continue;
            merges[n++] = (struct merge){(uint32_t)left, (uint32_t)right, (uint32_t)i, p->score};
        }
    }
    qsort(merges, n, sizeof *merges, best_first);
    return n;
}

static lcl_status merges_json(const struct model *m, const json_t *vocab, json_t *list)
{
    size_t most = 0;
    for (size_t i = 0; i < m->n; i++) most += m->pieces[i].size;
    struct merge *merges = malloc((most + 1) * sizeof *merges);
    if (!merges) return LCL_FAIL(LCL_MEMORY, "no memory for the merges of %s", m->path);
    size_t n = find_merges(m, vocab, merges);
    for (size_t i = 0; i < n; i++) {
        const struct piece *a = &m->pieces[merges[i].left], *b = &m->pieces[merges[i].right];
        json_array_append_new(list, json_pack("[s%, s%]", a->text, a->size, b->text, b->size));
    }
    free(merges);
    return LCL_OK;
}

static lcl_status model_json(const struct model *m, json_t *root)
{
    const char *unk = NULL;
    size_t unk_size = 0;
    for (size_t i = 0; i < m->n && !unk; i++) {
        if (m->pieces[i].type != UNKNOWN) continue;
        unk = m->pieces[i].text;
        unk_size = m->pieces[i].size;
    }
    json_t *model = json_pack("{s:s, s:b, s:b}", "type", m->kind == BPE ? "BPE" : "Unigram",
                              "byte_fallback", (int)m->byte_fallback, "fuse_unk", 1);
    json_t *vocab = json_object(), *merges = json_array(), *scores = json_array();
    json_object_set_new(root, "model", model);
    lcl_status status = vocab_json(m, vocab);
    if (status == LCL_OK && m->kind == BPE) status = merges_json(m, vocab, merges);
    for (size_t i = 0; status == LCL_OK && m->kind == UNIGRAM && i < m->n; i++)
        json_array_append_new(scores, json_pack("[s%, f]", m->pieces[i].text, m->pieces[i].size,
                                                (double)m->pieces[i].score));
    if (m->kind == BPE) {
        if (unk) json_object_set_new(model, "unk_token", json_stringn(unk, unk_size));
        json_object_set(model, "vocab", vocab);
        json_object_set(model, "merges", merges);
    } else {
        if (unk) json_object_set(model, "unk_id", json_object_getn(vocab, unk, unk_size));
        json_object_set(model, "vocab", scores);
    }
    json_decref(vocab);
    json_decref(merges);
    json_decref(scores);
    return status;
}

static bool is_listed(const json_t *list, json_int_t id)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_object_get(json_array_get(list, i), "id")) == id) return true;
    return false;
}

/* added_tokens.json ({"text": id}) and tokenizer_config.json's added_tokens_decoder. */
static void add_beside(const json_t *config, const json_t *added, json_t *list)
{
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, v)
    {
        json_int_t id = strtoll(key, NULL, 10);
        if (!json_is_string(json_object_get(v, "content")) || is_listed(list, id)) continue;
        json_t *token = json_copy(v);
        json_object_set_new(token, "id", json_integer(id));
        json_array_append_new(list, token);
    }
    json_object_foreach((json_t *)(uintptr_t)added, key, v)
    {
        if (json_is_integer(v) && !is_listed(list, json_integer_value(v)))
            json_array_append_new(list,
                                  tok_added_row(json_integer_value(v), key, strlen(key), false));
    }
}

/* The ids around a text: as transformers' LlamaTokenizer, <s> unless the config says no. */
static json_t *template_json(const struct model *m, const json_t *config)
{
    json_t *single = json_array(), *specials = json_object();
    const json_t *first = json_object_get(config, "add_bos_token");
    const json_t *last = json_object_get(config, "add_eos_token");
    bool wanted[2] = {!json_is_false(first), json_is_true(last)};
    int64_t ids[2] = {m->bos, m->eos};
    for (int i = 0; i < 2; i++) {
        if (i == 1) json_array_append_new(single, json_pack("{s:{s:s}}", "Sequence", "id", "A"));
        if (!wanted[i] || ids[i] < 0 || ids[i] >= (int64_t)m->n) continue;
        const struct piece *p = &m->pieces[ids[i]];
        json_t *token = json_stringn(p->text, p->size);
        json_array_append_new(single, json_pack("{s:{s:O}}", "SpecialToken", "id", token));
        json_object_setn_new(specials, p->text, p->size,
                             json_pack("{s:[I]}", "ids", (json_int_t)ids[i]));
        json_decref(token);
    }
    return json_pack("{s:s, s:o, s:o}", "type", "TemplateProcessing", "single", single,
                     "special_tokens", specials);
}

static lcl_status whole_json(const struct model *m, const json_t *config, const json_t *added,
                             json_t *root)
{
    static const char mark[] = "\xe2\x96\x81";
    json_t *steps = json_array(), *decoders = json_array(), *list = json_array();
    /* transformers' `legacy` false: a mark before the text alone, not before what follows a special
     * token. */
    bool first = m->dummy_prefix && json_is_false(json_object_get(config, "legacy"));
    if (m->dummy_prefix && !first)
        json_array_append_new(steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", mark));
    if (first)
        json_object_set_new(root, "pre_tokenizer",
                            json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement",
                                      mark, "prepend_scheme", "first", "split", 0));
    else
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                               "String", " ", "content", mark));
    json_array_append_new(decoders, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                              "String", mark, "content", " "));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "Fuse"));
    if (m->dummy_prefix)
        json_array_append_new(decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                                  "content", " ", "start", 1, "stop", 0));
    for (size_t i = 0; i < m->n; i++) {
        const struct piece *p = &m->pieces[i];
        if (p->type == CONTROL || p->type == UNKNOWN || p->type == USER_DEFINED)
            json_array_append_new(
                list, tok_added_row((json_int_t)i, p->text, p->size, p->type != USER_DEFINED));
    }
    add_beside(config, added, list);
    json_object_set_new(root, "version", json_string("1.0"));
    json_object_set_new(root, "added_tokens", list);
    json_object_set_new(root, "normalizer",
                        json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "post_processor", template_json(m, config));
    json_object_set_new(root, "decoder",
                        json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders));
    return model_json(m, root);
}

lcl_status tok_sp_json(const char *path, const char *data, size_t size, const char *config,
                       size_t config_size, const char *added, size_t added_size, char **text)
{
    struct model m = {.path = path,
                      .kind = UNIGRAM, /* the message's defaults */
                      .dummy_prefix = true,
                      .remove_spaces = true,
                      .escape_spaces = true,
                      .bos = 1,
                      .eos = 2};
    json_t *root = json_object(), *conf = NULL, *more = NULL;
    json_error_t error;
    lcl_status status;
    *text = NULL;
    LCL_TRY_GOTO(read_model(&m, (const unsigned char *)data, size));
    if (config) conf = tok_config(config, config_size, &error);
    if (added && !(more = json_loadb(added, added_size, 0, NULL))) {
        status = BAD("added_tokens.json beside %s is no JSON", path);
        goto out;
    }
    LCL_TRY_GOTO(whole_json(&m, conf, more, root));
    *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!*text) status = LCL_FAIL(LCL_MEMORY, "no memory for the tokenizer %s", path);
out:
    json_decref(root);
    json_decref(conf);
    json_decref(more);
    free(m.pieces);
    return status;
}
