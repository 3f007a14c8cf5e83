/* The words of a template as token runs, once for each builder. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/batch_internal.h"
#include "data/policy.h"

char *lcl_template_spell(const struct lcl_tokenizer *t, const char *text, size_t n)
{
    static const char *const marks[] = {"<image>", "</s>", "<s>"};
    const char *spelled[3], *end = text + n;
    int32_t id[] = {lcl_tokenizer_image(t), lcl_tokenizer_eos(t), lcl_tokenizer_bos(t)};
    size_t most = 1;
    for (int i = 0; i < 3; i++) {
        spelled[i] = lcl_tokenizer_token(t, id[i]);
        if (!spelled[i]) spelled[i] = marks[i];
        size_t size = strlen(spelled[i]);
        most = size > most ? size : most;
    }
    char *out = malloc(n * most + 1), *to = out;
    while (out && text < end) {
        int mark = 0;
        while (mark < 3 && (strlen(marks[mark]) > (size_t)(end - text) ||
                            memcmp(text, marks[mark], strlen(marks[mark])) != 0))
            mark++;
        if (mark < 3) {
            to = stpcpy(to, spelled[mark]);
            text += strlen(marks[mark]);
        } else {
            *to++ = *text++;
        }
    }
    if (out) *to = 0;
    return out;
}

/* prefix and the first n bytes of text, in a place of PARTs of that name. */
static lcl_status compile(struct lcl_batch_builder *b, struct batch_part *p,
                          enum batch_part_name name, const char *prefix, const char *text, size_t n,
                          enum lcl_text_place place)
{
    struct lcl_ids ids = {0};
    lcl_status status;
    int32_t image = lcl_tokenizer_image(b->tokenizer);
    int n_images = 0;
    p->image_at = -1;
    char *whole = lcl_strdupf("%s%.*s", prefix, (int)n, text);
    if (whole) p->text = lcl_template_spell(b->tokenizer, whole, strlen(whole));
    free(whole);
    if (!p->text) return LCL_FAIL(LCL_MEMORY, "no memory for a template");
    if (name == PART_SYSTEM)
        LCL_TRY_GOTO(lcl_tokenizer_encode(b->tokenizer, p->text, true, &ids));
    else
        LCL_TRY_GOTO(lcl_tokenizer_encode_at(b->tokenizer, p->text, strlen(p->text), place, &ids));
    for (int64_t i = 0; i < ids.n; i++) {
        bool is_image = ids.v[i] == image;
        if (is_image && n_images++ == 0) p->image_at = p->ids.n;
        for (int64_t k = 0; k < (is_image ? b->tokens_per_image : 1); k++)
            LCL_TRY_GOTO(lcl_ids_push(&p->ids, ids.v[i]));
    }
    bool is_head = name >= PART_SUPPORT_FIRST && name <= PART_QUERY;
    if (n_images != (is_head ? 1 : 0) || (name != PART_SYSTEM && p->ids.n == 0))
        status = LCL_FAIL(
            LCL_FORMAT, "the tokenizer finds %d image tokens in \"%s\" of the template; wanted %d",
            n_images, p->text, is_head ? 1 : 0);
out:
    lcl_ids_free(&ids);
    return status;
}

static lcl_status compile_part(struct lcl_batch_builder *b, enum lcl_policy policy,
                               enum batch_part_name name, const char *text, size_t n,
                               enum lcl_text_place place)
{
    return compile(b, &b->part[policy][name], name, "", text, n, place);
}

/* A turn as it follows the system line, and as it follows an answer. */
static lcl_status compile_turn(struct lcl_batch_builder *b, const struct lcl_template *t,
                               enum batch_part_name first, const char *turn, size_t n,
                               struct batch_part p[2])
{
    enum lcl_text_place place = *t->system ? LCL_TEXT_CONTINUED : LCL_TEXT_START;
    LCL_TRY(compile(b, &p[0], first, t->first, turn, n, place));
    return compile(b, &p[1], first + 1, t->next, turn, n, LCL_TEXT_NEW);
}

/* An answer without {label} says nothing of its own: its tail has no text. */
static lcl_status compile_answer(struct lcl_batch_builder *b, enum lcl_policy policy,
                                 enum batch_part_name head, const char *answer)
{
    const char *label = strstr(answer, "{label}"), *tail = label ? label + strlen("{label}") : "";
    size_t n = label ? (size_t)(label - answer) : strlen(answer);
    LCL_TRY(compile_part(b, policy, head, answer, n, LCL_TEXT_CONTINUED));
    if (!label) return LCL_OK;
    return compile_part(b, policy, head + 1, tail, strlen(tail), LCL_TEXT_CONTINUED);
}

static lcl_status compile_questions(struct lcl_batch_builder *b, const struct lcl_template *t)
{
    b->question = calloc(2 * (size_t)t->n_questions + 1, sizeof *b->question);
    if (!b->question) return LCL_FAIL(LCL_MEMORY, "no memory for %d questions", t->n_questions);
    b->n_questions = t->n_questions;
    for (int i = 0; i < t->n_questions; i++)
        LCL_TRY(compile_turn(b, t, PART_QUERY_FIRST, t->questions[i], strlen(t->questions[i]),
                             &b->question[2 * i]));
    return LCL_OK;
}

static lcl_status compile_words(struct lcl_batch_builder *b, const struct lcl_template *t,
                                enum lcl_policy policy, const struct lcl_turns *w)
{
    size_t n_support = strlen(w->support) - strlen(w->shot_answer);
    struct batch_part *part = b->part[policy];
    LCL_TRY(compile_part(b, policy, PART_SYSTEM, t->system, strlen(t->system), LCL_TEXT_START));
    LCL_TRY(
        compile_turn(b, t, PART_SUPPORT_FIRST, w->support, n_support, &part[PART_SUPPORT_FIRST]));
    LCL_TRY(
        compile_turn(b, t, PART_QUERY_FIRST, w->query, strlen(w->query), &part[PART_QUERY_FIRST]));
    LCL_TRY(compile_answer(b, policy, PART_SHOT_HEAD, w->shot_answer));
    LCL_TRY(compile_answer(b, policy, PART_ANSWER_HEAD, w->answer));
    const struct lcl_ids *end = &part[PART_ANSWER_TAIL].ids;
    if (end->v[end->n - 1] != lcl_tokenizer_eos(b->tokenizer))
        return LCL_FAIL(LCL_FORMAT, "the tokenizer does not read its end token in a text");
    return LCL_OK;
}

lcl_status batch_compile(struct lcl_batch_builder *b, const struct lcl_template *t,
                         const struct lcl_config *config)
{
    const struct lcl_turns link = {t->support, t->query, t->shot_answer, t->answer};
    const struct lcl_turns *words[] = {&link, &t->ref, &t->jigsaw};
    for (int i = 0; i < LCL_POLICY_COUNT; i++) {
        enum lcl_policy policy = (enum lcl_policy)i;
        bool used = i == LCL_POLICY_LINK || (config && lcl_policy_is_drawn(config, policy));
        if (used && words[i]->support) LCL_TRY(compile_words(b, t, policy, words[i]));
        if (used) LCL_TRY(batch_check_words(b, policy));
    }
    return compile_questions(b, t);
}

lcl_status batch_check_words(const struct lcl_batch_builder *b, enum lcl_policy policy)
{
    static const char *const key[] = {"label", "ref", "jigsaw"};
    if (b->part[policy][PART_SYSTEM].text) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG,
                         "add its \"support\", \"query\", \"shot_answer\" and \"answer\" to the "
                         "file (docs/formats.md), or leave data.template out",
                         "the template has no words for %s episodes: \"%s\" is missing",
                         key[policy], key[policy]);
}

const struct batch_part *batch_query(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                                     bool first)
{
    if (e->question == 0 || b->n_questions == 0 || e->policy != LCL_POLICY_LINK)
        return &b->part[e->policy][first ? PART_QUERY_FIRST : PART_QUERY];
    return &b->question[2 * ((e->question - 1) % (uint32_t)b->n_questions) + !first];
}
