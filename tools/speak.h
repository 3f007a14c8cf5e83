/* What lcl generate and lcl chat share: how answers are drawn, and words printed as they come. */
#ifndef LCL_TOOLS_SPEAK_H
#define LCL_TOOLS_SPEAK_H

#include "tools/cli.h"
#include "train/answer.h"

struct speak_options {
    double temperature, top_p; /* top_p: begin with 1 */
    int64_t top_k, seed, max_new;
    struct cli_list stop;
};
/* clang-format off */
#define SPEAK_OPTIONS(s, max_new_doc) \
    {"--max-new", CLI_INT, &(s)->max_new, .low = 0, .high = 1e6, .doc = max_new_doc}, \
    {"--stop", CLI_LIST, &(s)->stop, .value = "TEXT", .doc = "end an answer before this text"}, \
    {"--temperature", CLI_FLOAT, &(s)->temperature, .low = 0, .high = 1e6, \
     .doc = "draw tokens by their likelihood, sharpened below 1, flattened above; 0: take the " \
            "likeliest"}, \
    {"--top-k", CLI_INT, &(s)->top_k, .low = 0, .high = 1e9, \
     .doc = "draw from the likeliest N tokens; 0: from all"}, \
    {"--top-p", CLI_FLOAT, &(s)->top_p, .low = 0, .high = 1, \
     .doc = "draw from the fewest tokens that have this share together; 1: from all"}, \
    {"--seed", CLI_INT, &(s)->seed, .low = 0, .high = 9e15, \
     .doc = "of the draws: the same seed gives the same answers"}
/* clang-format on */

/* *how points into *s. */
LCL_CHECKED lcl_status speak_how(const struct speak_options *s, struct lcl_answer_how *how);

/* Prints answers in their order while they come in any: one as it grows, later ones once it has
 * ended. Blanks before an answer are left out. */
struct speaker {
    void (*begin)(void *ctx, int64_t answer); /* prints what stands before an answer */
    void (*end)(void *ctx, int64_t answer);   /* and behind it */
    void *ctx;
    int64_t n, now; /* now: the answer being printed */
    bool begun, *ended;
    struct lcl_text *held; /* [n] words that wait; lcl_text_clear'ed once printed */
};
LCL_CHECKED lcl_status speaker_open(struct speaker *s, int64_t n);
void speaker_close(struct speaker *s);
/* A lcl_say_fn; ctx is the struct speaker. */
void speaker_say(void *ctx, int64_t answer, const char *text, bool end);

#endif
