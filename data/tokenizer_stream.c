/* Text while tokens still come: what can no longer change. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_internal.h"

static bool is_byte(const struct lcl_tokenizer *t, int32_t id)
{
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] == id) return true;
    return false;
}

/* Ids whose text is settled: a run of byte tokens is text, or not, as a whole. */
static int64_t settled_ids(const struct lcl_text_stream *s)
{
    int64_t n = s->ids.n;
    while (n > 0 && is_byte(s->tokenizer, s->ids.v[n - 1])) n--;
    return n;
}

/* Bytes without the U+FFFD at the end: byte-level tokens may end inside a character. */
static size_t settled_bytes(const char *text, size_t n)
{
    while (n >= 3 && memcmp(text + n - 3, "\xef\xbf\xbd", 3) == 0) n -= 3;
    return n;
}

/* What the first n_ids ids say beyond what was given. */
static lcl_status rest(struct lcl_text_stream *s, int64_t n_ids, bool end, char **text)
{
    char *whole;
    size_t size;
    LCL_TRY(
        lcl_tokenizer_decode_bytes(s->tokenizer, s->ids.v, n_ids, s->skip_special, &whole, &size));
    if (!end) size = settled_bytes(whole, size);
    if (size < s->given) size = s->given;
    memmove(whole, whole + s->given, size - s->given);
    whole[size - s->given] = '\0';
    s->given = size;
    *text = whole;
    return LCL_OK;
}

lcl_status lcl_text_stream_push(struct lcl_text_stream *s, int32_t id, char **text)
{
    LCL_TRY(lcl_ids_push(&s->ids, id));
    return rest(s, settled_ids(s), false, text);
}

lcl_status lcl_text_stream_end(struct lcl_text_stream *s, char **text)
{
    return rest(s, s->ids.n, true, text);
}

void lcl_text_stream_free(struct lcl_text_stream *s)
{
    lcl_ids_free(&s->ids);
    s->given = 0;
}
