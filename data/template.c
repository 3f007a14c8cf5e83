/* How episodes are worded, and the tokenizer that goes with the words. */
#include <string.h>

#include "data/episode.h"

enum { SMALL_VOCABULARY = 512 };

#define ANSWER " there is \"{label}\" in the image.</s>"

#define PLAIN_QUERY "USER: what is in the image? <image> ASSISTANT:"

/* Vicuna v1.1's roles and separators: a system line, "USER: ... ASSISTANT: ...</s>". */
#define VICUNA_SYSTEM                                                                           \
    "Each example shows a picture and says what is in it. Find what links the pictures to the " \
    "names, and use it to answer the final question."
#define VICUNA_SUPPORT "USER: Example: <image>\nWhat is in this picture? ASSISTANT:"
#define VICUNA_QUERY "USER: Final question: <image>\nWhat is in this picture? ASSISTANT:"

/* A few tokens a turn, for a language model that learns the link itself on a small machine. */
#define TERSE_QUERY "<image> is"
#define TERSE_ANSWER " \"{label}\".</s>"

static const struct lcl_template templates[] = {
    [LCL_LAYOUT_PLAIN] = {.system = "",
                          .support = PLAIN_QUERY ANSWER,
                          .query = PLAIN_QUERY,
                          .answer = ANSWER},
    [LCL_LAYOUT_VICUNA] = {.system = VICUNA_SYSTEM,
                           .support = VICUNA_SUPPORT ANSWER,
                           .query = VICUNA_QUERY,
                           .answer = ANSWER},
    [LCL_LAYOUT_TERSE] = {.system = "",
                          .support = TERSE_QUERY TERSE_ANSWER,
                          .query = TERSE_QUERY,
                          .answer = TERSE_ANSWER},
};

/* The first turn follows the system line and a space, the others a special token. */
static const char *const plain_texts[] = {PLAIN_QUERY ANSWER};
static const char *const vicuna_texts[] = {VICUNA_SYSTEM " " VICUNA_SUPPORT ANSWER,
                                           VICUNA_SUPPORT ANSWER, VICUNA_QUERY ANSWER};
static const char *const terse_texts[] = {TERSE_QUERY TERSE_ANSWER};

static const struct {
    const char *const *texts;
    size_t n;
} words[] = {[LCL_LAYOUT_PLAIN] = {plain_texts, sizeof plain_texts / sizeof *plain_texts},
             [LCL_LAYOUT_VICUNA] = {vicuna_texts, sizeof vicuna_texts / sizeof *vicuna_texts},
             [LCL_LAYOUT_TERSE] = {terse_texts, sizeof terse_texts / sizeof *terse_texts}};

const struct lcl_template *lcl_template_get(enum lcl_layout layout) { return &templates[layout]; }

size_t lcl_template_texts(enum lcl_layout layout, const char *const **texts)
{
    *texts = words[layout].texts;
    return words[layout].n;
}

lcl_status lcl_tokenizer_for_config(const struct lcl_config *config, struct lcl_tokenizer **out)
{
    bool text = strstr(config->init_parts, "all") || strstr(config->init_parts, "text");
    if (config->tokenizer[0]) return lcl_tokenizer_load(config->tokenizer, out);
    if (config->init_from[0] && text) return lcl_tokenizer_load_folder(config->init_from, out);
    const char *const *texts;
    size_t n = lcl_template_texts((enum lcl_layout)config->data_layout, &texts);
    return lcl_tokenizer_train(texts, n, SMALL_VOCABULARY, out);
}
