/* Encoding as the slow LLaMA tokenizer of transformers 4.29 does it. */
#include <string.h>

#include "data/tokenizer.h"
#include "data/tokenizer_internal.h"

/* The leftmost, then longest added token from `from` on. */
static const struct tok_added *find(const struct lcl_tokenizer *t, const char *s, size_t n,
                                    size_t from, size_t *at)
{
    for (*at = from; *at < n; ++*at)
        for (size_t k = 0; k < t->n_added; k++) {
            const struct tok_added *a = &t->added[k];
            if (a->size > 0 && a->size <= n - *at && memcmp(a->content, s + *at, a->size) == 0)
                return a;
        }
    return NULL;
}

/* Told by what it does, since tokenizer.json has several ways of saying it. */
lcl_status lcl_tokenizer_marks_start(const struct lcl_tokenizer *t, bool *marks)
{
    struct lcl_ids a = {0}, b = {0};
    lcl_status status;
    LCL_TRY_GOTO(lcl_tokenizer_encode_at(t, "a", 1, LCL_TEXT_START, &a));
    LCL_TRY_GOTO(lcl_tokenizer_encode_at(t, " a", 2, LCL_TEXT_PLAIN, &b));
    *marks = a.n == b.n && memcmp(a.v, b.v, (size_t)a.n * sizeof *a.v) == 0;
out:
    lcl_ids_free(&a);
    lcl_ids_free(&b);
    return status;
}

static lcl_status encode_sentence(const struct lcl_tokenizer *t, struct tok_pieces *work,
                                  const char *s, size_t n, bool marked, struct lcl_ids *out)
{
    if (n == 0) return LCL_OK;
    tok_pieces_clear(work);
    if (marked) LCL_TRY(tok_pieces_text(work, " ", 1));
    LCL_TRY(tok_pieces_text(work, s, n));
    return lcl_tokenizer_encode_at(t, work->text, work->size, LCL_TEXT_PLAIN, out);
}

static lcl_status encode_text(const struct lcl_tokenizer *t, bool marked, const char *s, size_t n,
                              struct lcl_ids *out)
{
    struct tok_pieces work = {0};
    bool strips = false; /* the added token before does */
    lcl_status status;
    for (size_t done = 0, at;;) {
        const struct tok_added *a = find(t, s, n, done, &at);
        bool plain = a && (a->id == t->unk || a->id == t->bos || a->id == t->eos);
        size_t begin = done;
        for (int k = 1; strips && k > 0; begin += (size_t)k)
            k = lcl_space_bytes(s + begin, at - begin, true);
        size_t end = a && !plain ? lcl_before_space(s, begin, at, true) : at;
        LCL_TRY_GOTO(encode_sentence(t, &work, s + begin, end - begin, marked, out));
        if (!a) break;
        LCL_TRY_GOTO(lcl_ids_push(out, a->id));
        done = at + a->size;
        strips = !plain;
    }
out:
    tok_pieces_free(&work);
    return status;
}

lcl_status lcl_tokenizer_encode_slow(const struct lcl_tokenizer *t, bool marked, const char *text,
                                     size_t size, bool add_special, struct lcl_ids *out)
{
    int64_t mark = out->n;
    lcl_status status = LCL_OK;
    for (int i = 0; i < t->n_prefix && add_special && status == LCL_OK; i++)
        status = lcl_ids_push(out, t->prefix[i]);
    if (status == LCL_OK) status = encode_text(t, marked, text, size, out);
    for (int i = 0; i < t->n_suffix && add_special && status == LCL_OK; i++)
        status = lcl_ids_push(out, t->suffix[i]);
    if (status != LCL_OK) out->n = mark;
    return status;
}
