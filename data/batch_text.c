/* Texts as runs of a batch: plain tokens, prompts, conversations. */
#include "data/conversation.h"

#include <stdlib.h>
#include <string.h>

#include "data/batch_internal.h"

lcl_status lcl_batch_append_tokens(struct lcl_batch_builder *b, const int32_t *ids,
                                   const uint8_t *target, int64_t n)
{
    if (n < 1 || n > INT32_MAX)
        return LCL_FAIL(LCL_RANGE, "a sequence of %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0)
            return LCL_FAIL(LCL_RANGE, "token %lld of a sequence has id %d", (long long)i,
                            (int)ids[i]);
    return batch_append_run(b, &(struct batch_run){.ids = ids, .target = target, .n = n});
}

static int64_t count_marks(const struct lcl_batch_builder *b, const struct lcl_ids *ids)
{
    int64_t marks = 0;
    for (int64_t i = 0; i < ids->n; i++) marks += ids->v[i] == lcl_tokenizer_image(b->tokenizer);
    return marks;
}

lcl_status lcl_batch_append_prompt(struct lcl_batch_builder *b, const char *text,
                                   const int64_t *image, int64_t n_images, int64_t max_length)
{
    struct lcl_ids ids = {0};
    int64_t marks, T;
    char *spelled = lcl_template_spell(b->tokenizer, text, strlen(text));
    lcl_status status = spelled ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a prompt");
    if (status == LCL_OK) status = lcl_tokenizer_encode(b->tokenizer, spelled, true, &ids);
    if (status != LCL_OK) goto out;
    marks = count_marks(b, &ids);
    T = ids.n + marks * (b->tokens_per_image - 1);
    if (marks != n_images)
        status = LCL_FAIL_HINT(LCL_CONFIG, "write <image> where each picture stands",
                               "a prompt with %lld pictures has %lld times <image>",
                               (long long)n_images, (long long)marks);
    else if (ids.n == 0)
        status = LCL_FAIL(LCL_CONFIG, "the prompt is empty");
    else if (max_length > 0 && T > max_length)
        status = LCL_FAIL_HINT(LCL_RANGE, "raise model_max_length (0: no limit), or ask anew",
                               "a prompt is %lld tokens long, over model_max_length %lld",
                               (long long)T, (long long)max_length);
    else
        status = batch_append_run(
            b, &(struct batch_run){
                   .ids = ids.v, .n = ids.n, .image = image, .n_images = n_images, .asks = true});
out:
    lcl_ids_free(&ids);
    free(spelled);
    return status;
}

/* ---- conversations ---- */

struct lcl_conversation_rules lcl_conversation_rules_of(const struct lcl_config *c,
                                                        const struct lcl_tokenizer *t)
{
    return (struct lcl_conversation_rules){.chat = lcl_chat_for(c, t),
                                           .too_long = (enum lcl_too_long)c->data_too_long,
                                           .max_length = c->model_max_length,
                                           .system = c->chat_system};
}

/* A conversation as text with its answers' places, and as tokens with their targets. */
struct written {
    char *text;
    size_t *cut;            /* [2 * n_answers] */
    bool *learned, *recurs; /* [n_answers] */
    int64_t *at;            /* [2 * n_answers] the answers' places in ids */
    int n_answers;
    int32_t end; /* the token that the format ends a turn with, or -1 */
    struct lcl_ids ids;
    uint8_t *target; /* [ids.n] */
};

static void free_written(struct written *w)
{
    free(w->text);
    free(w->cut);
    free(w->learned);
    free(w->recurs);
    free(w->at);
    free(w->target);
    lcl_ids_free(&w->ids);
}

static lcl_status write_text(const struct lcl_conversation *c,
                             const struct lcl_conversation_rules *rules, struct written *w)
{
    bool alone = c->n_messages == 1 && c->messages[0].role == LCL_ROLE_ASSISTANT;
    bool has_system = c->n_messages > 0 && c->messages[0].role == LCL_ROLE_SYSTEM;
    int before = rules->system[0] && !has_system && !alone, n = c->n_messages + before;
    struct lcl_message *m = malloc(((size_t)n + 1) * sizeof *m);
    w->learned = calloc((size_t)n + 1, sizeof *w->learned);
    w->recurs = calloc((size_t)n + 1, sizeof *w->recurs);
    w->at = calloc(2 * ((size_t)n + 1), sizeof *w->at);
    if (!m || !w->learned || !w->recurs || !w->at) {
        free(m);
        return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    }
    m[0] = (struct lcl_message){LCL_ROLE_SYSTEM, rules->system};
    int answers = 0, learned = 0;
    for (int i = 0; i < c->n_messages; i++) {
        m[before + i] = c->messages[i];
        if (c->messages[i].role != LCL_ROLE_ASSISTANT) continue;
        learned += c->learned[i];
        w->recurs[answers] = c->recurs && c->recurs[i];
        w->learned[answers++] = c->learned[i];
    }
    lcl_status status = lcl_chat_answers(rules->chat, m, n, &w->text, &w->cut, &w->n_answers);
    free(m);
    if (status == LCL_OK && learned == 0)
        status = LCL_FAIL(LCL_CONFIG, "none of its answers is learned");
    return status;
}

/* Where what comes next stands: as it would in the whole text. */
static enum lcl_text_place place_of(const struct lcl_batch_builder *b, const struct written *w)
{
    int32_t last = w->ids.n ? w->ids.v[w->ids.n - 1] : -1;
    bool token = last == lcl_tokenizer_image(b->tokenizer) ||
                 last == lcl_tokenizer_eos(b->tokenizer) || last == w->end;
    return token ? LCL_TEXT_NEW : LCL_TEXT_CONTINUED;
}

/* Encodes text[begin, end); its tokens but for pictures are targets where it is learned. */
static lcl_status encode_piece(const struct lcl_batch_builder *b, struct written *w, size_t begin,
                               size_t end, bool answer, bool learned)
{
    enum lcl_text_place place = begin == 0 ? LCL_TEXT_START : place_of(b, w);
    int64_t from = w->ids.n;
    char *spelled = lcl_template_spell(b->tokenizer, w->text + begin, end - begin);
    if (!spelled) return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    lcl_status status;
    if (!answer && begin == 0)
        status = lcl_tokenizer_encode(b->tokenizer, spelled, true, &w->ids);
    else
        status = lcl_tokenizer_encode_at(b->tokenizer, spelled, strlen(spelled), place, &w->ids);
    free(spelled);
    if (status != LCL_OK || w->ids.n == from) return status;
    uint8_t *grown = realloc(w->target, (size_t)w->ids.n);
    if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    w->target = grown;
    for (int64_t i = from; i < w->ids.n; i++)
        w->target[i] = learned && w->ids.v[i] != lcl_tokenizer_image(b->tokenizer) ? LCL_TARGET
                                                                                   : LCL_NO_TARGET;
    return LCL_OK;
}

/* The label of an answer: what no other of the conversation, but those that say the same, begins or
 * ends with. None where all say the same. */
static void mark_label(struct written *w, int k)
{
    const int32_t *mine = w->ids.v + w->at[2 * k];
    const int64_t n = w->at[2 * k + 1] - w->at[2 * k];
    int64_t before = n, after = n;
    for (int j = 0; j < w->n_answers; j++) {
        const int32_t *other = w->ids.v + w->at[2 * j];
        const int64_t m = w->at[2 * j + 1] - w->at[2 * j];
        int64_t same = 0, tail = 0;
        while (same < n && same < m && mine[same] == other[same]) same++;
        if (same == n && same == m) continue;
        while (tail < n - same && tail < m - same && mine[n - 1 - tail] == other[m - 1 - tail])
            tail++;
        before = same < before ? same : before;
        after = tail < after ? tail : after;
    }
    uint8_t *target = w->target + w->at[2 * k];
    for (int64_t i = before; i < n - after; i++)
        if (target[i] == LCL_TARGET) target[i] = LCL_TARGET_LABEL;
}

static lcl_status encode_text(const struct lcl_batch_builder *b, enum lcl_chat chat,
                              struct written *w)
{
    const char *end_token = lcl_chat_end(chat);
    size_t at = 0;
    w->end = end_token ? lcl_tokenizer_id(b->tokenizer, end_token) : -1;
    for (int k = 0; k < w->n_answers; k++) {
        size_t begin = w->cut[2 * k], end = w->cut[2 * k + 1];
        if (k == 0 || begin > at) LCL_TRY(encode_piece(b, w, at, begin, false, false));
        w->at[2 * k] = w->ids.n;
        LCL_TRY(encode_piece(b, w, begin, end, true, w->learned[k]));
        w->at[2 * k + 1] = w->ids.n;
        at = end;
    }
    for (int k = 0; k < w->n_answers; k++)
        if (w->recurs[k]) mark_label(w, k);
    return LCL_OK;
}

/* Leaves out the last tokens that are no picture's until all fits: what lies beyond the limit,
 * where no picture does. */
static void shorten(struct written *w, int32_t mark, int64_t excess)
{
    int64_t kept = w->ids.n, to = w->ids.n;
    for (int64_t i = w->ids.n - 1; i >= 0; i--) { /* moved to the end, then back to the start */
        if (w->ids.v[i] != mark && excess > 0) {
            excess--;
            continue;
        }
        to--;
        w->ids.v[to] = w->ids.v[i];
        w->target[to] = w->target[i];
    }
    kept -= to;
    memmove(w->ids.v, w->ids.v + to, (size_t)kept * sizeof *w->ids.v);
    memmove(w->target, w->target + to, (size_t)kept);
    w->ids.n = kept;
}

static bool teaches(const struct written *w)
{
    for (int64_t i = 1; i < w->ids.n; i++)
        if (w->target[i] != LCL_NO_TARGET) return true;
    return false;
}

/* Checks the number of pictures and applies the rule for long ones. */
static lcl_status fit(const struct lcl_batch_builder *b, const struct lcl_conversation *c,
                      const struct lcl_conversation_rules *rules, struct written *w,
                      enum lcl_appended *what)
{
    int64_t marks = count_marks(b, &w->ids), limit = rules->max_length;
    int64_t pictures = marks * b->tokens_per_image, T = w->ids.n - marks + pictures;
    if (marks != c->n_images)
        return LCL_FAIL_HINT(LCL_CONFIG, "write <image> where each picture stands",
                             "%lld pictures, and %lld times <image>", (long long)c->n_images,
                             (long long)marks);
    *what = LCL_APPENDED;
    if (limit == 0 || T <= limit) return LCL_OK;
    *what = rules->too_long == LCL_LONG_DROP ? LCL_LEFT_OUT : LCL_APPENDED_SHORTER;
    if (*what == LCL_LEFT_OUT) return LCL_OK;
    if (rules->too_long == LCL_LONG_REFUSE)
        return LCL_FAIL_HINT(LCL_RANGE,
                             "raise model_max_length (0: no limit), or set data.too_long to drop "
                             "or shorten",
                             "a conversation of %lld tokens, over model_max_length %lld",
                             (long long)T, (long long)limit);
    if (pictures > limit)
        return LCL_FAIL_HINT(LCL_RANGE, "raise model_max_length, or set data.too_long: drop",
                             "its %lld pictures alone are %lld tokens, over model_max_length %lld",
                             (long long)marks, (long long)pictures, (long long)limit);
    shorten(w, lcl_tokenizer_image(b->tokenizer), T - limit);
    if (!teaches(w)) *what = LCL_LEFT_OUT;
    return LCL_OK;
}

lcl_status lcl_batch_append_conversation(struct lcl_batch_builder *b,
                                         const struct lcl_conversation *c,
                                         const struct lcl_conversation_rules *rules,
                                         enum lcl_appended *what)
{
    struct written w = {0};
    lcl_status status = write_text(c, rules, &w);
    if (status == LCL_OK) status = encode_text(b, rules->chat, &w);
    if (status == LCL_OK) status = fit(b, c, rules, &w, what);
    if (status != LCL_OK)
        status = lcl_fail_context(status, "%s", c->name);
    else if (*what != LCL_LEFT_OUT)
        status = batch_append_run(b, &(struct batch_run){.ids = w.ids.v,
                                                         .target = w.target,
                                                         .n = w.ids.n,
                                                         .image = c->image,
                                                         .view = c->view,
                                                         .n_images = c->n_images});
    free_written(&w);
    return status;
}

lcl_status lcl_conversation_text(const struct lcl_conversation *c,
                                 const struct lcl_conversation_rules *rules, char **text)
{
    struct written w = {0};
    size_t at = 0;
    *text = NULL;
    lcl_status status = write_text(c, rules, &w);
    char *to = status == LCL_OK ? malloc(strlen(w.text) + 4 * (size_t)w.n_answers + 1) : NULL;
    if (status == LCL_OK && !to) status = LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    if (status != LCL_OK) {
        free_written(&w);
        return lcl_fail_context(status, "%s", c->name);
    }
    *text = to;
    for (int k = 0; k < w.n_answers; k++) {
        size_t begin = w.cut[2 * k], end = w.cut[2 * k + 1];
        to = mempcpy(to, w.text + at, begin - at);
        if (w.learned[k]) to = stpcpy(to, "[[");
        to = mempcpy(to, w.text + begin, end - begin);
        if (w.learned[k]) to = stpcpy(to, "]]");
        at = end;
    }
    *to = '\0';
    free_written(&w);
    return LCL_OK;
}
