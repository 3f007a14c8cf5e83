/* How episodes are worded, and the tokenizer that goes with the words. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/official.h"
#include "data/policy.h"

enum { SMALL_VOCABULARY = 512 };

#define SAID "there is \"{label}\" in the image."
#define ANSWER " " SAID "</s>"

#define PLAIN_REF "what is this image called? <image>"
#define PLAIN_WHICH "which images are of the same kind? <image>"
#define PLAIN_TILE "which piece is this? <image>"
#define PLAIN_WHERE "where in the image is each piece? <image>"
#define PLAIN_QUERY "USER: what is in the image? <image> ASSISTANT:"

/* The words of the layouts that follow a public chat format (data/chat.c). */
#define SYSTEM                                                                                  \
    "Each example shows a picture and says what is in it. Find what links the pictures to the " \
    "names, and use it to answer the final question."
#define EXAMPLE(question) "Example: <image>\n" question
#define FINAL(question) "Final question: <image>\n" question
#define SHOT EXAMPLE("What is in this picture?")
#define QUESTION FINAL("What is in this picture?")

/* Of reference names and of jigsaws: what a shot and a query ask, and what is said. */
#define REF_ASKS "What is this picture called?"
#define REF_SAID "it is called \"{label}\"."
#define REF_QUESTION "Which pictures of the examples show the same kind of thing as this one?"
#define REF_FOUND "they are \"{label}\"."
#define TILE_ASKS "Which piece of the puzzle is this?"
#define TILE_SAID "it is piece \"{label}\"."
#define PLACES_QUESTION "In which column and row of this picture is each piece?"
#define PLACES_SAID "they are at \"{label}\"."

/* The words of a format `turn` whose answers stand between `before` and `after`. */
#define REF_WORDS(turn, asks, question, before, after)                         \
    {                                                                          \
        .support = turn(asks) before REF_SAID after, .query = turn(question),  \
        .shot_answer = before REF_SAID after, .answer = before REF_FOUND after \
    }
#define JIGSAW_WORDS(turn, asks, question, before, after)                         \
    {                                                                             \
        .support = turn(asks) before TILE_SAID after, .query = turn(question),    \
        .shot_answer = before TILE_SAID after, .answer = before PLACES_SAID after \
    }
#define POLICY_WORDS(turn, before, after)                                          \
    .ref = REF_WORDS(turn, EXAMPLE(REF_ASKS), FINAL(REF_QUESTION), before, after), \
    .jigsaw = JIGSAW_WORDS(turn, EXAMPLE(TILE_ASKS), FINAL(PLACES_QUESTION), before, after)

/* Vicuna v1.1's roles and separators: a system line, "USER: ... ASSISTANT: ...</s>". */
#define VICUNA(words) "USER: " words " ASSISTANT:"

#define LLAMA_2_SYSTEM "[INST] <<SYS>>\n" SYSTEM "\n<</SYS>>"
#define LLAMA_2_ANSWER " " SAID " </s>"
#define LLAMA_2(words) words " [/INST]"
#define LLAMA_2_NEXT "<s>[INST] "

#define L3(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA_3_SYSTEM L3("system") SYSTEM "<|eot_id|>"
#define LLAMA_3(words) L3("user") words "<|eot_id|>" L3("assistant")

#define CHATML_SYSTEM "<|im_start|>system\n" SYSTEM "<|im_end|>\n"
#define CHATML(words) "<|im_start|>user\n" words "<|im_end|>\n<|im_start|>assistant\n"

/* A few tokens a turn, for a language model that learns the link itself on a small machine. */
#define TERSE_QUERY "<image> is"
#define TERSE_ANSWER " \"{label}\".</s>"
#define TERSE_WORDS(asks)                                                                \
    {                                                                                    \
        .support = TERSE_QUERY TERSE_ANSWER, .query = asks, .shot_answer = TERSE_ANSWER, \
        .answer = TERSE_ANSWER                                                           \
    }

static const struct lcl_template templates[] = {
    [LCL_LAYOUT_PLAIN] = {.system = "",
                          .first = "",
                          .next = "",
                          .support = PLAIN_QUERY ANSWER,
                          .query = PLAIN_QUERY,
                          .shot_answer = ANSWER,
                          .answer = ANSWER,
                          .ref = REF_WORDS(VICUNA, PLAIN_REF, PLAIN_WHICH, " ", "</s>"),
                          .jigsaw = JIGSAW_WORDS(VICUNA, PLAIN_TILE, PLAIN_WHERE, " ", "</s>")},
    [LCL_LAYOUT_VICUNA] = {.system = SYSTEM,
                           .first = " ",
                           .next = "",
                           .support = VICUNA(SHOT) ANSWER,
                           .query = VICUNA(QUESTION),
                           .shot_answer = ANSWER,
                           .answer = ANSWER,
                           POLICY_WORDS(VICUNA, " ", "</s>")},
    [LCL_LAYOUT_TERSE] = {.system = "",
                          .first = "",
                          .next = "",
                          .support = TERSE_QUERY TERSE_ANSWER,
                          .query = TERSE_QUERY,
                          .shot_answer = TERSE_ANSWER,
                          .answer = TERSE_ANSWER,
                          .ref = TERSE_WORDS("<image> like"),
                          .jigsaw = TERSE_WORDS("<image> at")},
    [LCL_LAYOUT_LLAMA_2] = {.system = LLAMA_2_SYSTEM,
                            .first = "\n\n",
                            .next = LLAMA_2_NEXT,
                            .support = LLAMA_2(SHOT) LLAMA_2_ANSWER,
                            .query = LLAMA_2(QUESTION),
                            .shot_answer = LLAMA_2_ANSWER,
                            .answer = LLAMA_2_ANSWER,
                            POLICY_WORDS(LLAMA_2, " ", " </s>")},
    [LCL_LAYOUT_LLAMA_3] = {.system = LLAMA_3_SYSTEM,
                            .first = "",
                            .next = "",
                            .support = LLAMA_3(SHOT) SAID "</s>",
                            .query = LLAMA_3(QUESTION),
                            .shot_answer = SAID "</s>",
                            .answer = SAID "</s>",
                            POLICY_WORDS(LLAMA_3, "", "</s>")},
    [LCL_LAYOUT_CHATML] = {.system = CHATML_SYSTEM,
                           .first = "",
                           .next = "\n",
                           .support = CHATML(SHOT) SAID "</s>",
                           .query = CHATML(QUESTION),
                           .shot_answer = SAID "</s>",
                           .answer = SAID "</s>",
                           POLICY_WORDS(CHATML, "", "</s>")},
};

/* The turns as they follow the system line, an answer, and an answer once more. */
#define TEXTS(system, first, next, shot, query, answer)               \
    {                                                                 \
        system first shot answer, next shot answer, next query answer \
    }
static const char *const plain_texts[] = {PLAIN_QUERY ANSWER};
static const char *const terse_texts[] = {TERSE_QUERY TERSE_ANSWER};
static const char *const vicuna_texts[] =
    TEXTS(SYSTEM, " ", "", VICUNA(SHOT), VICUNA(QUESTION), ANSWER);
static const char *const llama_2_texts[] =
    TEXTS(LLAMA_2_SYSTEM, "\n\n", LLAMA_2_NEXT, LLAMA_2(SHOT), LLAMA_2(QUESTION), LLAMA_2_ANSWER);
static const char *const llama_3_texts[] =
    TEXTS(LLAMA_3_SYSTEM, "", "", LLAMA_3(SHOT), LLAMA_3(QUESTION), SAID "</s>");
static const char *const chatml_texts[] =
    TEXTS(CHATML_SYSTEM, "", "\n", CHATML(SHOT), CHATML(QUESTION), SAID "</s>");

static const struct {
    const char *const *texts;
    size_t n;
} words[] = {[LCL_LAYOUT_PLAIN] = {plain_texts, sizeof plain_texts / sizeof *plain_texts},
             [LCL_LAYOUT_VICUNA] = {vicuna_texts, sizeof vicuna_texts / sizeof *vicuna_texts},
             [LCL_LAYOUT_TERSE] = {terse_texts, sizeof terse_texts / sizeof *terse_texts},
             [LCL_LAYOUT_LLAMA_2] = {llama_2_texts, sizeof llama_2_texts / sizeof *llama_2_texts},
             [LCL_LAYOUT_LLAMA_3] = {llama_3_texts, sizeof llama_3_texts / sizeof *llama_3_texts},
             [LCL_LAYOUT_CHATML] = {chatml_texts, sizeof chatml_texts / sizeof *chatml_texts}};

const struct lcl_template *lcl_template_get(enum lcl_layout layout)
{
    return layout == LCL_LAYOUT_OFFICIAL ? NULL : &templates[layout];
}

size_t lcl_template_texts(enum lcl_layout layout, const char *const **texts)
{
    *texts = words[layout].texts;
    return words[layout].n;
}

lcl_status lcl_template_for(const struct lcl_config *config, struct lcl_template *t)
{
    if (config->data_template[0]) return lcl_template_load(config->data_template, t);
    if (config->data_layout == LCL_LAYOUT_OFFICIAL)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl import templates --from CLONE makes the file",
                             "data.layout: official has its words in a file, data.template");
    *t = *lcl_template_get((enum lcl_layout)config->data_layout);
    return LCL_OK;
}

/* A small one that knows the words of the layout, and of the policies that are drawn. */
static lcl_status train_tokenizer(const struct lcl_config *config, struct lcl_tokenizer **out)
{
    enum { MOST = 16 };
    const struct lcl_template *t = lcl_template_get((enum lcl_layout)config->data_layout);
    if (!t)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl import templates --from CLONE makes the file",
                             "data.layout: official has its words in a file, data.template");
    const struct lcl_turns *of_policy[] = {&t->ref, &t->jigsaw};
    const char *const *own, *texts[MOST];
    size_t n = lcl_template_texts((enum lcl_layout)config->data_layout, &own);
    for (size_t i = 0; i < n; i++) texts[i] = own[i];
    for (int i = 0; i < 2; i++) {
        if (!lcl_policy_is_drawn(config, i ? LCL_POLICY_JIGSAW : LCL_POLICY_REF)) continue;
        texts[n++] = of_policy[i]->support;
        texts[n++] = of_policy[i]->query;
        texts[n++] = of_policy[i]->answer;
    }
    return lcl_tokenizer_train(texts, n, SMALL_VOCABULARY, out);
}

/* The slow tokenizer is that of tokenizer.model, which goes before a tokenizer.json beside it. */
lcl_status lcl_tokenizer_load_slow(const char *dir, struct lcl_tokenizer **out)
{
    char *path = lcl_strdupf("%s/tokenizer.model", dir);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status =
        lcl_fs_exists(path) ? lcl_tokenizer_load(path, out) : lcl_tokenizer_load_folder(dir, out);
    free(path);
    return status;
}

static lcl_status find_tokenizer(const struct lcl_config *config, struct lcl_tokenizer **out)
{
    bool text = strstr(config->init_parts, "all") || strstr(config->init_parts, "text");
    if (config->tokenizer[0]) return lcl_tokenizer_load(config->tokenizer, out);
    bool official = config->data_layout == LCL_LAYOUT_OFFICIAL;
    if (config->init_from[0] && text)
        return official ? lcl_tokenizer_load_slow(config->init_from, out)
                        : lcl_tokenizer_load_folder(config->init_from, out);
    if (config->data_template[0]) {
        struct lcl_template t;
        LCL_TRY(lcl_template_load(config->data_template, &t));
        const char *texts[] = {t.system, t.support, t.query, t.answer};
        lcl_status status = lcl_tokenizer_train(texts, 4, SMALL_VOCABULARY, out);
        lcl_template_free(&t);
        return status;
    }
    return train_tokenizer(config, out);
}

lcl_status lcl_tokenizer_for_config(const struct lcl_config *config, struct lcl_tokenizer **out)
{
    struct lcl_tokenizer *found;
    if (config->data_layout != LCL_LAYOUT_OFFICIAL) return find_tokenizer(config, out);
    *out = NULL;
    LCL_TRY(find_tokenizer(config, &found));
    lcl_status status = lcl_official_tokenizer(found, out);
    lcl_tokenizer_free(found);
    return status;
}
