/* The batch builder: episodes become packed token runs with image slots and supervised rows. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/batch_internal.h"
#include "data/policy.h"

/* ---- the template, once for each builder ---- */

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

/* config NULL: the words of labels alone. */
static lcl_status compile_all(struct lcl_batch_builder *b, const struct lcl_template *t,
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

static lcl_status create(const struct lcl_tokenizer *tokenizer, const struct lcl_template *t,
                         const struct lcl_config *config, int64_t tokens_per_image,
                         struct lcl_batch_builder **out)
{
    *out = NULL;
    if (lcl_tokenizer_image(tokenizer) < 0 || lcl_tokenizer_eos(tokenizer) < 0)
        return LCL_FAIL_HINT(LCL_FORMAT,
                             "add them to added_tokens of tokenizer.json, or name them in "
                             "tokenizer_config.json (image_token, eos_token)",
                             "the tokenizer has no %s token",
                             lcl_tokenizer_image(tokenizer) < 0 ? "<image>" : "end");
    if (tokens_per_image < 1 || tokens_per_image > 1 << 24)
        return LCL_FAIL(LCL_RANGE, "%lld tokens an image; wanted 1..16777216",
                        (long long)tokens_per_image);
    struct lcl_batch_builder *b = calloc(1, sizeof *b);
    if (!b) return LCL_FAIL(LCL_MEMORY, "no memory for a batch builder");
    b->tokenizer = tokenizer;
    b->tokens_per_image = tokens_per_image;
    lcl_status status = compile_all(b, t, config);
    if (status == LCL_OK)
        *out = b;
    else
        lcl_batch_builder_free(b);
    return status;
}

lcl_status lcl_batch_builder_create(const struct lcl_tokenizer *tokenizer, enum lcl_layout layout,
                                    int64_t tokens_per_image, struct lcl_batch_builder **out)
{
    return create(tokenizer, lcl_template_get(layout), NULL, tokens_per_image, out);
}

lcl_status lcl_batch_builder_for(const struct lcl_config *config,
                                 const struct lcl_tokenizer *tokenizer, int64_t tokens_per_image,
                                 struct lcl_batch_builder **out)
{
    struct lcl_template t;
    *out = NULL;
    LCL_TRY(lcl_template_for(config, &t));
    lcl_status status = create(tokenizer, &t, config, tokens_per_image, out);
    lcl_template_free(&t);
    return status;
}

static void free_parts(struct batch_part *p, int n)
{
    for (int i = 0; i < n; i++) {
        free(p[i].text);
        lcl_ids_free(&p[i].ids);
    }
}

void lcl_batch_builder_free(struct lcl_batch_builder *b)
{
    if (!b) return;
    for (int i = 0; i < LCL_POLICY_COUNT; i++) free_parts(b->part[i], PART_COUNT);
    free_parts(b->question, 2 * b->n_questions);
    free(b->question);
    lcl_ids_free(&b->label);
    free(b->label_at);
    free(b->batch.id_T);
    free(b->batch.position_T);
    free(b->batch.runs);
    free(b->batch.image_I);
    free(b->batch.view_I);
    free(b->batch.slot);
    free(b->batch.slot_row);
    free(b->batch.row_S);
    free(b->batch.target_S);
    free(b->batch.weight_S);
    free(b->batch.is_label_S);
    free(b->branches);
    free(b->image_slot);
    free(b);
}

void lcl_batch_builder_reset(struct lcl_batch_builder *b)
{
    struct lcl_batch *m = &b->batch;
    m->T = m->n_runs = m->n_images = m->n_slots = m->S = 0;
    b->n_episodes = b->n_groups = 0;
    if (b->image_slot) memset(b->image_slot, -1, (b->image_mask + 1) * sizeof *b->image_slot);
}

const struct lcl_batch *lcl_batch_builder_get(struct lcl_batch_builder *b) { return &b->batch; }
const struct lcl_branch *lcl_batch_builder_branches(struct lcl_batch_builder *b)
{
    return b->branches;
}

/* ---- room ---- */

static bool grow(void *field, int64_t cap, size_t elem_bytes)
{
    void **p = field;
    void *v = realloc(*p, (size_t)cap * elem_bytes);
    if (v) *p = v;
    return v != NULL;
}

static uint64_t image_hash(int64_t image, int32_t view)
{
    uint64_t h = ((uint64_t)image * 67 + (uint32_t)view) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
}

static bool rehash(struct lcl_batch_builder *b, int64_t n_images)
{
    size_t size = 64;
    while (size < 2 * (size_t)n_images) size *= 2;
    if (b->image_slot && size <= b->image_mask + 1) return true;
    if (!grow(&b->image_slot, (int64_t)size, sizeof *b->image_slot)) return false;
    memset(b->image_slot, -1, size * sizeof *b->image_slot);
    b->image_mask = size - 1;
    for (int32_t i = 0; i < b->batch.n_images; i++) {
        size_t k = image_hash(b->batch.image_I[i], b->batch.view_I[i]) & b->image_mask;
        while (b->image_slot[k] >= 0) k = (k + 1) & b->image_mask;
        b->image_slot[k] = i;
    }
    return true;
}

/* What an append is going to add at most. */
struct need {
    int64_t T, runs, images, S;
};

static int64_t more(int64_t used, int64_t need, int64_t cap)
{
    return used + need <= cap ? cap : 2 * (used + need) + 16;
}

/* All room an append needs, so that nothing after this can fail and leave half an episode. */
static lcl_status reserve(struct lcl_batch_builder *b, struct need n)
{
    struct lcl_batch *m = &b->batch;
    int64_t T = more(m->T, n.T, b->cap_T), runs = more(m->n_runs, n.runs, b->cap_runs);
    int64_t I = more(m->n_images, n.images, b->cap_images), S = more(m->S, n.S, b->cap_S);
    int64_t slots = more(m->n_slots, n.images * b->tokens_per_image, b->cap_slots);
    if (m->T + n.T > INT32_MAX || (m->n_images + n.images) > INT32_MAX / b->tokens_per_image)
        return LCL_FAIL_HINT(LCL_RANGE, "make the batch smaller",
                             "a batch of %lld tokens is too long", (long long)(m->T + n.T));
    bool ok =
        (T == b->cap_T ||
         (grow(&m->id_T, T, sizeof *m->id_T) && grow(&m->position_T, T, sizeof *m->position_T))) &&
        (runs == b->cap_runs || (grow(&m->runs, runs, sizeof *m->runs) &&
                                 grow(&b->branches, runs, sizeof *b->branches))) &&
        (I == b->cap_images ||
         (grow(&m->image_I, I, sizeof *m->image_I) && grow(&m->view_I, I, sizeof *m->view_I))) &&
        (slots == b->cap_slots || (grow(&m->slot, slots, sizeof *m->slot) &&
                                   grow(&m->slot_row, slots, sizeof *m->slot_row))) &&
        (S == b->cap_S ||
         (grow(&m->row_S, S, sizeof *m->row_S) && grow(&m->target_S, S, sizeof *m->target_S) &&
          grow(&m->weight_S, S, sizeof *m->weight_S) &&
          grow(&m->is_label_S, S, sizeof *m->is_label_S))) &&
        rehash(b, m->n_images + n.images);
    if (!ok)
        return LCL_FAIL_HINT(LCL_MEMORY, "make the batch smaller",
                             "no memory for a batch of %lld tokens", (long long)(m->T + n.T));
    b->cap_T = T;
    b->cap_runs = runs;
    b->cap_images = I;
    b->cap_slots = slots;
    b->cap_S = S;
    return LCL_OK;
}

/* ---- writing (room is there) ---- */

static int32_t image_index(struct lcl_batch_builder *b, int64_t image, int32_t view)
{
    struct lcl_batch *m = &b->batch;
    size_t k = image_hash(image, view) & b->image_mask;
    for (; b->image_slot[k] >= 0; k = (k + 1) & b->image_mask) {
        int32_t i = b->image_slot[k];
        if (m->image_I[i] == image && m->view_I[i] == view) return i;
    }
    int32_t i = (int32_t)m->n_images++;
    b->image_slot[k] = i;
    m->image_I[i] = image;
    m->view_I[i] = view;
    return i;
}

static void put_ids(struct lcl_batch_builder *b, const int32_t *ids, int64_t n, int32_t *position)
{
    struct lcl_batch *m = &b->batch;
    for (int64_t i = 0; i < n; i++) {
        m->id_T[m->T] = ids[i];
        m->position_T[m->T++] = (*position)++;
    }
}

/* A picture's rows go to the tokens from `at` on. */
static void put_slots(struct lcl_batch_builder *b, int64_t image, int32_t view, int64_t at)
{
    struct lcl_batch *m = &b->batch;
    int32_t index = image_index(b, image, view);
    for (int64_t k = 0; k < b->tokens_per_image; k++) {
        m->slot[m->n_slots] = (int32_t)(at + k);
        m->slot_row[m->n_slots++] = (int32_t)(index * b->tokens_per_image + k);
    }
}

static void put_turn(struct lcl_batch_builder *b, const struct batch_part *p,
                     const struct lcl_shot *shot, int32_t *position)
{
    put_slots(b, shot->image, shot->view, b->batch.T + p->image_at);
    put_ids(b, p->ids.v, p->ids.n, position);
}

static int64_t label_tokens(const struct lcl_batch_builder *b, int label)
{
    return b->label_at[label + 1] - b->label_at[label];
}

/* The answer that says `label`, a number in b->label_at, of a shot or a query by `head`; weight 0:
 * not supervised. Its first token is predicted from the row before. */
static void put_answer(struct lcl_batch_builder *b, const struct batch_part *head, int label,
                       float weight, int32_t *position)
{
    struct lcl_batch *m = &b->batch;
    int64_t begin = m->T;
    put_ids(b, head[0].ids.v, head[0].ids.n, position);
    int64_t first = m->T;
    if (head[1].text) put_ids(b, b->label.v + b->label_at[label], label_tokens(b, label), position);
    int64_t tail = m->T;
    put_ids(b, head[1].ids.v, head[1].ids.n, position);
    if (weight == 0) return;
    for (int64_t t = begin; t < m->T; t++) {
        m->row_S[m->S] = (int32_t)(t - 1);
        m->target_S[m->S] = m->id_T[t];
        m->weight_S[m->S] = weight;
        m->is_label_S[m->S++] = t >= first && t < tail;
    }
}

static void put_run(struct lcl_batch_builder *b, int64_t begin, int64_t prefix_begin,
                    int64_t prefix_end, struct lcl_branch branch)
{
    struct lcl_batch *m = &b->batch;
    m->runs[m->n_runs] = (struct lcl_attn_run){.q_begin = (int32_t)begin,
                                               .q_end = (int32_t)m->T,
                                               .prefix_begin = (int32_t)prefix_begin,
                                               .prefix_end = (int32_t)prefix_end,
                                               .own_begin = (int32_t)begin,
                                               .own_end = (int32_t)m->T,
                                               .group = b->n_groups};
    b->branches[m->n_runs++] = branch;
}

/* ---- episodes ---- */

static lcl_status check_episode(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                                enum lcl_encode_mode mode, const int32_t *labels)
{
    LCL_TRY(batch_check_words(b, e->policy));
    if (e->said && (labels || mode == LCL_ENCODE_CANDIDATES))
        return LCL_FAIL(LCL_UNSUPPORTED, "sample %llu: its answers are no labels of classes",
                        (unsigned long long)e->sample);
    bool ok = e->n_ways >= 1 && e->n_ways <= LCL_MAX_WAYS && e->n_shots >= 0 && e->n_queries >= 1;
    for (int i = 0; ok && i < e->n_shots; i++)
        ok = e->shots[i].way >= 0 && e->shots[i].way < e->n_ways && e->shots[i].view >= 0 &&
             e->shots[i].wrong >= 0 && e->shots[i].wrong < e->n_ways &&
             (!labels || (labels[i] >= 0 && labels[i] < e->n_ways));
    for (int i = 0; ok && i < e->n_queries; i++)
        ok = e->queries[i].way >= 0 && e->queries[i].way < e->n_ways && e->queries[i].view >= 0;
    if (ok) return LCL_OK;
    return LCL_FAIL(LCL_RANGE,
                    "sample %llu: an episode of %d ways, %d shots, %d queries has a way or "
                    "view out of range, or nothing to ask",
                    (unsigned long long)e->sample, e->n_ways, e->n_shots, e->n_queries);
}

/* Ids of every label, each encoded alone: the same wherever it stands, right after the quote. */
static lcl_status encode_labels(struct lcl_batch_builder *b, const struct lcl_episode *e)
{
    int n = e->said ? e->n_shots + e->n_queries : e->n_ways;
    if (n >= b->cap_labels) {
        if (!grow(&b->label_at, 2 * (int64_t)n + 1, sizeof *b->label_at))
            return LCL_FAIL(LCL_MEMORY, "no memory for %d labels", n);
        b->cap_labels = 2 * (int64_t)n + 1;
    }
    b->label.n = 0;
    for (int i = 0; i < n; i++) {
        const char *label = e->said ? e->said[i] : e->label[i];
        b->label_at[i] = b->label.n;
        lcl_status status =
            lcl_tokenizer_encode_at(b->tokenizer, label, strlen(label), LCL_TEXT_PLAIN, &b->label);
        if (status != LCL_OK)
            return lcl_fail_context(status, "sample %llu: label \"%s\"",
                                    (unsigned long long)e->sample, label);
        if (b->label.n == b->label_at[i])
            return LCL_FAIL(LCL_FORMAT, "sample %llu: label %d is empty",
                            (unsigned long long)e->sample, i);
    }
    b->label_at[n] = b->label.n;
    return LCL_OK;
}

/* Numbers in b->label_at: what a shot shows, and what a query is answered with. */
static int shot_label(const struct lcl_episode *e, const int32_t *labels, int i)
{
    return e->said ? i : labels ? labels[i] : lcl_episode_shown(e, i);
}

static int query_label(const struct lcl_episode *e, int q)
{
    return e->said ? e->n_shots + q : e->queries[q].way;
}

/* Lengths before anything is written: the context's, and the most a query branch can have. */
static void measure(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                    enum lcl_encode_mode mode, const int32_t *labels, int64_t *context,
                    int64_t *branch)
{
    const struct batch_part *part = b->part[e->policy];
    int64_t fixed = part[PART_ANSWER_HEAD].ids.n + part[PART_ANSWER_TAIL].ids.n;
    int64_t shot = part[PART_SHOT_HEAD].ids.n + part[PART_SHOT_TAIL].ids.n;
    *context = part[PART_SYSTEM].ids.n;
    for (int i = 0; i < e->n_shots; i++) {
        *context += part[i ? PART_SUPPORT : PART_SUPPORT_FIRST].ids.n + shot;
        if (part[PART_SHOT_TAIL].text) *context += label_tokens(b, shot_label(e, labels, i));
    }
    int64_t longest = 0;
    int first = e->said ? e->n_shots : 0, end = first + (e->said ? e->n_queries : e->n_ways);
    for (int i = first; i < end; i++)
        if (label_tokens(b, i) > longest) longest = label_tokens(b, i);
    if (mode == LCL_ENCODE_TRAIN && e->n_queries == 1) longest = label_tokens(b, query_label(e, 0));
    *branch = batch_query(b, e, e->n_shots == 0)->ids.n +
              (mode == LCL_ENCODE_PROMPT ? 0 : fixed + longest);
}

static void put_context(struct lcl_batch_builder *b, const struct lcl_episode *e,
                        enum lcl_supervise supervise, const int32_t *labels, int32_t *position)
{
    bool seen[LCL_MAX_WAYS] = {false};
    const struct batch_part *part = b->part[e->policy];
    put_ids(b, part[PART_SYSTEM].ids.v, part[PART_SYSTEM].ids.n, position);
    for (int i = 0; i < e->n_shots; i++) {
        int label = shot_label(e, labels, i);
        bool again = !e->said && seen[label]; /* what is said once alone comes in no second shot */
        bool counts =
            supervise == LCL_SUPERVISE_ALL || (supervise == LCL_SUPERVISE_REPEATS && again);
        put_turn(b, &part[i ? PART_SUPPORT : PART_SUPPORT_FIRST], &e->shots[i], position);
        put_answer(b, &part[PART_SHOT_HEAD], label, counts ? 1 : 0, position);
        if (!e->said) seen[label] = true;
    }
}

lcl_status lcl_batch_append_episode(struct lcl_batch_builder *b, const struct lcl_episode *e,
                                    enum lcl_encode_mode mode, enum lcl_supervise supervise,
                                    const int32_t *labels, int64_t max_length)
{
    int64_t context, branch;
    LCL_TRY(check_episode(b, e, mode, labels));
    LCL_TRY(encode_labels(b, e));
    measure(b, e, mode, labels, &context, &branch);
    if (max_length > 0 && context + branch > max_length)
        return LCL_FAIL_HINT(LCL_RANGE,
                             "raise model_max_length (0: no limit), or lower the shots or the "
                             "tokens a picture",
                             "sample %llu: an episode of %d shots is %lld tokens long, over "
                             "model_max_length %lld",
                             (unsigned long long)e->sample, e->n_shots,
                             (long long)(context + branch), (long long)max_length);
    bool candidates = mode == LCL_ENCODE_CANDIDATES, train = mode == LCL_ENCODE_TRAIN;
    int64_t n_branches = (int64_t)e->n_queries * (candidates ? e->n_ways : 1);
    int64_t tokens = context + n_branches * branch;
    LCL_TRY(reserve(b, (struct need){.T = tokens,
                                     .runs = n_branches + 1,
                                     .images = e->n_shots + n_branches,
                                     .S = tokens}));
    if (!train) supervise = LCL_SUPERVISE_LAST;
    bool single = train && e->n_queries == 1;
    float weight = train && supervise == LCL_SUPERVISE_LAST ? 1.0f / (float)e->n_queries : 1.0f;
    int64_t begin = b->batch.T, end;
    int32_t position = 0;
    put_context(b, e, supervise, labels, &position);
    end = b->batch.T;
    if (!single && end > begin) put_run(b, begin, begin, begin, (struct lcl_branch){-1, -1, -1});
    for (int q = 0; q < e->n_queries; q++) {
        for (int w = 0; w < (candidates ? e->n_ways : 1); w++) {
            int way = candidates ? w : e->queries[q].way;
            int label = candidates ? w : query_label(e, q);
            int32_t at = position; /* every branch goes on from the context */
            int64_t own = b->batch.T;
            put_turn(b, batch_query(b, e, e->n_shots == 0), &e->queries[q], &at);
            if (mode != LCL_ENCODE_PROMPT)
                put_answer(b, &b->part[e->policy][PART_ANSWER_HEAD], label, weight, &at);
            struct lcl_branch name = {b->n_episodes, q, way};
            if (single)
                put_run(b, begin, begin, begin, name);
            else
                put_run(b, own, begin, end, name);
        }
    }
    b->n_episodes++;
    b->n_groups++;
    return LCL_OK;
}

lcl_status batch_append_run(struct lcl_batch_builder *b, const struct batch_run *r)
{
    struct lcl_batch *m = &b->batch;
    int64_t begin = m->T, T = r->n + r->n_images * (b->tokens_per_image - 1), picture = 0;
    int32_t mark = r->n_images ? lcl_tokenizer_image(b->tokenizer) : -1, position = 0;
    LCL_TRY(reserve(b, (struct need){.T = T, .runs = 1, .images = r->n_images, .S = T}));
    for (int64_t i = 0; i < r->n; i++) {
        if (r->ids[i] == mark) {
            put_slots(b, r->image[picture], r->view ? r->view[picture] : 0, m->T);
            picture++;
        }
        if (i > 0 && r->target && r->target[i] != LCL_NO_TARGET) {
            m->row_S[m->S] = (int32_t)(m->T - 1);
            m->target_S[m->S] = r->ids[i];
            m->weight_S[m->S] = 1;
            m->is_label_S[m->S++] = r->target[i] == LCL_TARGET_LABEL;
        }
        for (int64_t k = 0; k < (r->ids[i] == mark ? b->tokens_per_image : 1); k++)
            put_ids(b, &r->ids[i], 1, &position);
    }
    struct lcl_branch none = {-1, -1, -1};
    put_run(b, begin, begin, begin, r->asks ? (struct lcl_branch){b->n_episodes++, 0, 0} : none);
    b->n_groups++;
    return LCL_OK;
}
