/* The words of an answer while its tokens come: settled text goes out at once, and stop strings end
 * the answer and are left out of it. */
#ifndef LCL_TRAIN_WORDS_H
#define LCL_TRAIN_WORDS_H

#include "data/tokenizer.h"
#include "train/text.h"

/* Receives an answer's next piece; end: its last, which may be "". */
typedef void (*lcl_say_fn)(void *ctx, int64_t answer, const char *text, bool end);

struct lcl_words_how {
    const char *const *stop; /* [n_stop], none empty */
    int n_stop;
    int32_t end_token; /* ends an answer as the tokenizer's end token does; -1: none */
    lcl_say_fn say;    /* or NULL */
    void *say_ctx;
};

struct lcl_words {
    struct lcl_text_stream stream;
    struct lcl_text text;
    size_t said;      /* bytes of it */
    int64_t n_tokens; /* the user's, to tell a token from an end */
};
void lcl_words_open(struct lcl_words *w, const struct lcl_tokenizer *t);
void lcl_words_free(struct lcl_words *w);
/* Takes the token that is last of n ids. *end: nothing follows it; set where a stop string is
 * complete. `answer` is for how->say. */
LCL_CHECKED lcl_status lcl_words_push(struct lcl_words *w, const struct lcl_words_how *how,
                                      int64_t answer, int32_t id, bool *end);
/* There are no more tokens. */
LCL_CHECKED lcl_status lcl_words_end(struct lcl_words *w, const struct lcl_words_how *how,
                                     int64_t answer);

#endif
