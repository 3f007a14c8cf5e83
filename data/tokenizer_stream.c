/* Text while tokens still come: what can no longer change.
 *
 * Only a window is decoded at each push: the tokens of the last text that was given, for what a
 * decoder says at the start of a text, and those behind them. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

enum { LONGEST_CHARACTER = 8 }; /* tokens, amply: a character has four bytes at most */

static bool is_byte(const struct lcl_tokenizer *t, int32_t id)
{
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] == id) return true;
    return false;
}

/* Whether tokens add their text to that of the ones before, whatever came earlier. */
static bool adds_up(const struct tok_steps *decode)
{
    bool joined = false;
    for (int i = 0; i < decode->n; i++) {
        const struct tok_step *s = &decode->v[i];
        if (joined && (s->kind != TOK_TRIM || s->stop > 0)) return false;
        joined |= s->kind == TOK_FUSE || s->kind == TOK_FROM_BYTE_CHARS;
    }
    return true;
}

/* Bytes without the U+FFFD at the end: byte-level tokens may end inside a character. */
static size_t settled_bytes(const char *text, size_t n)
{
    return n >= 3 && memcmp(text + n - 3, "\xef\xbf\xbd", 3) == 0 ? n - 3 : n;
}

/* The text just given becomes the context of what follows, unless it alone has no text. */
static lcl_status move_window(struct lcl_text_stream *s)
{
    char *alone;
    size_t size;
    int64_t n = s->ids.n - s->n_context;
    LCL_TRY(lcl_tokenizer_decode_bytes(s->tokenizer, s->ids.v + s->n_context, n, s->skip_special,
                                       &alone, &size));
    free(alone);
    if (size == 0) return LCL_OK;
    memmove(s->ids.v, s->ids.v + s->n_context, (size_t)n * sizeof *s->ids.v);
    s->ids.n = s->n_context = n;
    s->given = size;
    return LCL_OK;
}

/* What the window says beyond what was given. */
static lcl_status rest(struct lcl_text_stream *s, bool end, char **text)
{
    char *whole;
    size_t size, settled;
    LCL_TRY(lcl_tokenizer_decode_bytes(s->tokenizer, s->ids.v, s->ids.n, s->skip_special, &whole,
                                       &size));
    settled = end ? size : settled_bytes(whole, size);
    bool is_clean = settled == size;
    if (settled < s->given) settled = s->given;
    memmove(whole, whole + s->given, settled - s->given);
    whole[settled - s->given] = '\0';
    s->given = settled;
    *text = whole;
    /* Bytes of no character are tried again when there are twice as many. */
    bool garbage = !is_clean && s->ids.n - s->n_context > LONGEST_CHARACTER;
    s->retry = garbage ? 2 * s->ids.n : 0;
    lcl_status status =
        is_clean && !end && adds_up(&s->tokenizer->decode) ? move_window(s) : LCL_OK;
    if (status != LCL_OK) {
        free(whole);
        *text = NULL;
    }
    return status;
}

lcl_status lcl_text_stream_push(struct lcl_text_stream *s, int32_t id, char **text)
{
    const struct lcl_tokenizer *t = s->tokenizer;
    bool is_text = id >= 0 && id < t->n_ids && t->token[id].present &&
                   !(s->skip_special && t->token[id].special);
    if (is_text) LCL_TRY(lcl_ids_push(&s->ids, id));
    /* A run of byte tokens is text, or not, as a whole. */
    if (is_text && !is_byte(t, id) && s->ids.n >= s->retry) return rest(s, false, text);
    *text = calloc(1, 1);
    return *text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a text");
}

lcl_status lcl_text_stream_end(struct lcl_text_stream *s, char **text)
{
    return rest(s, true, text);
}

void lcl_text_stream_free(struct lcl_text_stream *s)
{
    lcl_ids_free(&s->ids);
    s->given = 0;
    s->n_context = s->retry = 0;
}
