#include "train/words.h"

#include <stdlib.h>
#include <string.h>

void lcl_words_open(struct lcl_words *w, const struct lcl_tokenizer *t)
{
    *w = (struct lcl_words){.stream = {.tokenizer = t, .skip_special = true}};
}

void lcl_words_free(struct lcl_words *w)
{
    lcl_text_stream_free(&w->stream);
    lcl_text_free(&w->text);
}

/* Where the first stop string begins that ends behind byte `old`, or the text's size. */
static size_t find_stop(const struct lcl_text *t, const struct lcl_words_how *how, size_t old)
{
    size_t best = t->size;
    for (int i = 0; i < how->n_stop; i++) {
        size_t n = strlen(how->stop[i]), from = old >= n ? old - n + 1 : 0;
        const char *hit = from < t->size ? strstr(t->data + from, how->stop[i]) : NULL;
        if (hit && (size_t)(hit - t->data) < best) best = (size_t)(hit - t->data);
    }
    return best;
}

/* Bytes before the longest end of the text that a stop string may begin with. */
static size_t before_stop(const struct lcl_text *t, const struct lcl_words_how *how)
{
    size_t safe = t->size;
    for (int i = 0; i < how->n_stop; i++) {
        size_t n = strlen(how->stop[i]) - 1;
        for (n = n < t->size ? n : t->size; n > 0; n--)
            if (memcmp(t->data + t->size - n, how->stop[i], n) == 0) break;
        if (t->size - n < safe) safe = t->size - n;
    }
    return safe;
}

/* Adds a piece (taken); *end as in lcl_words_push. */
static lcl_status add(struct lcl_words *w, const struct lcl_words_how *how, int64_t answer,
                      char *piece, bool *end)
{
    struct lcl_text *t = &w->text;
    size_t old = t->size;
    lcl_text_puts(t, piece);
    free(piece);
    LCL_TRY(lcl_text_check(t));
    size_t stop = find_stop(t, how, old);
    if (stop < t->size) {
        *end = true;
        t->size = stop;
        t->data[stop] = '\0';
    }
    size_t safe = *end ? t->size : before_stop(t, how);
    if (how->say && (safe > w->said || *end)) {
        char kept = t->data[safe];
        t->data[safe] = '\0';
        how->say(how->say_ctx, answer, t->data + w->said, *end);
        t->data[safe] = kept;
    }
    w->said = safe;
    return LCL_OK;
}

lcl_status lcl_words_end(struct lcl_words *w, const struct lcl_words_how *how, int64_t answer)
{
    char *piece;
    bool end = true;
    LCL_TRY(lcl_text_stream_end(&w->stream, &piece));
    return add(w, how, answer, piece, &end);
}

lcl_status lcl_words_push(struct lcl_words *w, const struct lcl_words_how *how, int64_t answer,
                          int32_t id, bool *end)
{
    char *piece;
    bool stopped = false;
    if (id == how->end_token) {
        *end = true;
        return lcl_words_end(w, how, answer);
    }
    LCL_TRY(lcl_text_stream_push(&w->stream, id, &piece));
    LCL_TRY(add(w, how, answer, piece, &stopped));
    if (*end && !stopped) return lcl_words_end(w, how, answer);
    *end |= stopped;
    return LCL_OK;
}
