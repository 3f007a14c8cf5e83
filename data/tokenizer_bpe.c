/* Vocabulary, merges and the merge loop of byte-pair encoding. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

static uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

static uint64_t hash_pair(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 31);
}

static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

lcl_status tok_vocab_init(struct lcl_tokenizer *t, int32_t n_ids)
{
    size_t size = table_size((size_t)n_ids);
    t->token = calloc((size_t)n_ids + 1, sizeof *t->token);
    t->by_text = malloc(size * sizeof *t->by_text);
    if (!t->token || !t->by_text)
        return LCL_FAIL(LCL_MEMORY, "no memory for a vocabulary of %d tokens", (int)n_ids);
    memset(t->by_text, -1, size * sizeof *t->by_text);
    t->by_text_mask = size - 1;
    t->n_ids = n_ids;
    return LCL_OK;
}

int32_t tok_vocab_find(const struct lcl_tokenizer *t, const char *s, size_t n)
{
    for (size_t i = hash_bytes(s, n) & t->by_text_mask;; i = (i + 1) & t->by_text_mask) {
        int32_t id = t->by_text[i];
        if (id < 0) return -1;
        if (t->token[id].size == n && memcmp(t->blob + t->token[id].at, s, n) == 0) return id;
    }
}

lcl_status tok_vocab_set(struct lcl_tokenizer *t, int32_t id, const char *s, size_t n)
{
    if (id < 0 || id >= t->n_ids)
        return LCL_FAIL(LCL_RANGE, "token id %d is outside 0..%d", (int)id, (int)t->n_ids - 1);
    struct tok_token *token = &t->token[id];
    if (token->present) {
        if (token->size == n && memcmp(t->blob + token->at, s, n) == 0) return LCL_OK;
        return LCL_FAIL(LCL_FORMAT, "token id %d is given to two tokens", (int)id);
    }
    if (tok_vocab_find(t, s, n) >= 0)
        return LCL_FAIL(LCL_FORMAT, "the token \"%.*s\" has two ids", (int)(n < 64 ? n : 64), s);
    if (t->blob_size + n + 1 > t->blob_cap) {
        size_t cap = 2 * (t->blob_size + n) + 4096;
        char *blob = realloc(t->blob, cap);
        if (!blob) return LCL_FAIL(LCL_MEMORY, "no memory for the vocabulary");
        t->blob = blob;
        t->blob_cap = cap;
    }
    memcpy(t->blob + t->blob_size, s, n);
    *token = (struct tok_token){.at = t->blob_size, .size = (uint32_t)n, .present = true};
    t->blob_size += n;
    t->blob[t->blob_size++] = 0;
    size_t i = hash_bytes(s, n) & t->by_text_mask;
    while (t->by_text[i] >= 0) i = (i + 1) & t->by_text_mask;
    t->by_text[i] = id;
    return LCL_OK;
}

lcl_status tok_merges_init(struct lcl_tokenizer *t, size_t n)
{
    size_t size = table_size(n);
    t->merges = malloc(size * sizeof *t->merges);
    if (!t->merges) return LCL_FAIL(LCL_MEMORY, "no memory for %zu merges", n);
    for (size_t i = 0; i < size; i++) t->merges[i].left = -1;
    t->merge_mask = size - 1;
    t->n_merges = 0;
    return LCL_OK;
}

const struct tok_merge *tok_merges_find(const struct lcl_tokenizer *t, int32_t left, int32_t right)
{
    for (size_t i = hash_pair(left, right) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        const struct tok_merge *m = &t->merges[i];
        if (m->left < 0) return NULL;
        if (m->left == left && m->right == right) return m;
    }
}

bool tok_merges_add(struct lcl_tokenizer *t, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    if (tok_merges_find(t, left, right)) return false;
    size_t i = hash_pair(left, right) & t->merge_mask;
    while (t->merges[i].left >= 0) i = (i + 1) & t->merge_mask;
    t->merges[i] = (struct tok_merge){.left = left, .right = right, .rank = rank, .id = id};
    t->n_merges++;
    return true;
}

/* The word as a linked list of symbols, and a heap of the merges that might be done. */
struct symbol {
    int32_t id; /* -1: swallowed by the one before */
    int32_t prev, next;
};
struct candidate {
    int32_t rank, at, id;
};
struct word {
    struct symbol *symbol;
    struct candidate *heap;
    int32_t n, n_heap;
};

static bool before(struct candidate a, struct candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct word *w, struct candidate c)
{
    int32_t i = w->n_heap++;
    for (; i > 0 && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static struct candidate heap_pop(struct word *w)
{
    struct candidate top = w->heap[0], last = w->heap[--w->n_heap];
    int32_t i = 0;
    for (;;) {
        int32_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && before(w->heap[child + 1], w->heap[child])) child++;
        if (!before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void consider(const struct lcl_tokenizer *t, struct word *w, int32_t at)
{
    if (at < 0 || w->symbol[at].next < 0) return;
    const struct tok_merge *m =
        tok_merges_find(t, w->symbol[at].id, w->symbol[w->symbol[at].next].id);
    if (m) heap_push(w, (struct candidate){.rank = m->rank, .at = at, .id = m->id});
}

static void merge_all(const struct lcl_tokenizer *t, struct word *w)
{
    for (int32_t i = 0; i < w->n; i++) consider(t, w, i);
    while (w->n_heap > 0) {
        struct candidate c = heap_pop(w);
        struct symbol *s = &w->symbol[c.at];
        if (s->id < 0 || s->next < 0) continue;
        const struct tok_merge *m = tok_merges_find(t, s->id, w->symbol[s->next].id);
        if (!m || m->id != c.id) continue; /* an older candidate: the symbols changed since */
        struct symbol *right = &w->symbol[s->next];
        s->id = c.id;
        s->next = right->next;
        right->id = -1;
        if (s->next >= 0) w->symbol[s->next].prev = c.at;
        consider(t, w, s->prev);
        consider(t, w, c.at);
    }
}

static void word_add(struct word *w, int32_t id)
{
    w->symbol[w->n] = (struct symbol){.id = id, .prev = w->n - 1, .next = w->n + 1};
    w->n++;
}

static bool add_bytes(const struct lcl_tokenizer *t, struct word *w, const char *s, int n)
{
    for (int i = 0; i < n; i++)
        if (t->byte_id[(uint8_t)s[i]] < 0) return false;
    for (int i = 0; i < n; i++) word_add(w, t->byte_id[(uint8_t)s[i]]);
    return true;
}

/* The token of the character s[i, i + size) of a word; the last one's ends in the tokenizer's mark.
 */
static int32_t first_symbol(const struct lcl_tokenizer *t, const char *s, size_t n, size_t i,
                            size_t size)
{
    char marked[4 + TOK_WORD_END_BYTES];
    if (!t->word_end || i + size < n) return tok_vocab_find(t, s + i, size);
    memcpy(marked, s + i, size);
    memcpy(marked + size, t->word_end, t->word_end_size);
    return tok_vocab_find(t, marked, size + t->word_end_size);
}

/* The characters of the word as first symbols: own token, else byte tokens, else <unk>. */
static lcl_status word_begin(const struct lcl_tokenizer *t, struct word *w, const char *s, size_t n)
{
    int unknown = 0; /* <unk> symbols that wait to be written (1 when fused) */
    for (size_t i = 0; i < n;) {
        uint32_t code;
        int size = tok_utf8(s + i, n - i, &code);
        if (size == 0) return LCL_FAIL(LCL_FORMAT, "text is not UTF-8 at byte %zu", i);
        int32_t id = first_symbol(t, s, n, i, (size_t)size);
        if (id >= 0) {
            if (unknown) word_add(w, t->unk);
            unknown = 0;
            word_add(w, id);
        } else if (!(t->byte_fallback && add_bytes(t, w, s + i, size))) {
            if (t->unk < 0)
                return LCL_FAIL_HINT(LCL_FORMAT, "use a tokenizer with byte tokens or an unk_token",
                                     "the tokenizer has no token for U+%04X", code);
            if (unknown && !t->fuse_unk) word_add(w, t->unk);
            unknown = 1;
        }
        i += (size_t)size;
    }
    if (unknown) word_add(w, t->unk);
    return LCL_OK;
}

lcl_status tok_bpe(const struct lcl_tokenizer *t, const char *s, size_t n, struct lcl_ids *out)
{
    if (n == 0) return LCL_OK;
    if (t->ignore_merges) {
        int32_t id = tok_vocab_find(t, s, n);
        if (id >= 0) return lcl_ids_push(out, id);
    }
    if (n > INT32_MAX / 8) return LCL_FAIL(LCL_RANGE, "a text of %zu bytes is too long", n);
    /* Most words are short: no malloc for those. Each merge adds at most two candidates. */
    struct symbol small_symbol[64];
    struct candidate small_heap[3 * 64];
    struct word w = {.symbol = small_symbol, .heap = small_heap};
    lcl_status status = LCL_OK;
    if (n > 64) {
        w.symbol = malloc(n * sizeof *w.symbol);
        w.heap = malloc(3 * n * sizeof *w.heap);
        if (!w.symbol || !w.heap) {
            status = LCL_FAIL(LCL_MEMORY, "no memory to tokenize %zu bytes", n);
            goto out;
        }
    }
    LCL_TRY_GOTO(word_begin(t, &w, s, n));
    if (w.n > 0) {
        w.symbol[w.n - 1].next = -1;
        merge_all(t, &w);
        for (int32_t i = 0; i >= 0; i = w.symbol[i].next)
            LCL_TRY_GOTO(lcl_ids_push(out, w.symbol[i].id));
    }
out:
    if (n > 64) {
        free(w.symbol);
        free(w.heap);
    }
    return status;
}
