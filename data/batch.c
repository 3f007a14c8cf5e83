/* The batch builder: episodes become packed token runs with image slots and supervised rows. */
#include <stdlib.h>
#include <string.h>

#include "data/batch_internal.h"
#include "data/official.h"

static lcl_status create(const struct lcl_tokenizer *tokenizer, const struct lcl_template *t,
                         const struct lcl_config *config, int64_t tokens_per_image,
                         struct lcl_batch_builder **out)
{
    *out = NULL;
    if (!config && t == NULL)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl import templates makes one",
                             "data.layout: official has words only in a file, data.template");
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
    lcl_status status = batch_compile(b, t, config);
    if (status == LCL_OK && config && config->data_layout == LCL_LAYOUT_OFFICIAL)
        status = lcl_official_create(t, tokenizer, tokens_per_image, &b->official);
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
    lcl_official_free(b->official);
    for (int i = 0; i < 2; i++) {
        lcl_ids_free(&b->turn[i]);
        lcl_ids_free(&b->said[i]);
        free(b->target[i]);
    }
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

static int64_t more(int64_t used, int64_t need, int64_t cap)
{
    return used + need <= cap ? cap : 2 * (used + need) + 16;
}

lcl_status batch_reserve(struct lcl_batch_builder *b, struct batch_need n)
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

bool batch_learns_shot(enum lcl_supervise supervise, bool seen)
{
    return supervise == LCL_SUPERVISE_ALL || (supervise == LCL_SUPERVISE_REPEATS && seen);
}

static void put_context(struct lcl_batch_builder *b, const struct lcl_episode *e,
                        enum lcl_supervise supervise, const int32_t *labels, int32_t *position)
{
    bool seen[LCL_MAX_WAYS] = {false};
    const struct batch_part *part = b->part[e->policy];
    put_ids(b, part[PART_SYSTEM].ids.v, part[PART_SYSTEM].ids.n, position);
    for (int i = 0; i < e->n_shots; i++) {
        int label = shot_label(e, labels, i);
        /* what is said once alone comes in no second shot */
        bool counts = batch_learns_shot(supervise, !e->said && seen[label]);
        put_turn(b, &part[i ? PART_SUPPORT : PART_SUPPORT_FIRST], &e->shots[i], position);
        put_answer(b, &part[PART_SHOT_HEAD], label, counts ? 1 : 0, position);
        if (!e->said) seen[label] = true;
    }
}

lcl_status batch_check_length(const struct lcl_episode *e, int64_t n, int64_t max_length)
{
    if (max_length == 0 || n <= max_length) return LCL_OK;
    return LCL_FAIL_HINT(LCL_RANGE,
                         "raise model_max_length (0: no limit), or lower the shots or the tokens a "
                         "picture",
                         "sample %llu: an episode of %d shots is %lld tokens long, over "
                         "model_max_length %lld",
                         (unsigned long long)e->sample, e->n_shots, (long long)n,
                         (long long)max_length);
}

lcl_status lcl_batch_append_episode(struct lcl_batch_builder *b, const struct lcl_episode *e,
                                    enum lcl_encode_mode mode, enum lcl_supervise supervise,
                                    const int32_t *labels, int64_t max_length)
{
    int64_t context, branch;
    LCL_TRY(check_episode(b, e, mode, labels));
    if (b->official) return batch_append_official(b, e, mode, supervise, labels, max_length);
    LCL_TRY(encode_labels(b, e));
    measure(b, e, mode, labels, &context, &branch);
    LCL_TRY(batch_check_length(e, context + branch, max_length));
    bool candidates = mode == LCL_ENCODE_CANDIDATES, train = mode == LCL_ENCODE_TRAIN;
    int64_t n_branches = (int64_t)e->n_queries * (candidates ? e->n_ways : 1);
    int64_t tokens = context + n_branches * branch;
    LCL_TRY(batch_reserve(b, (struct batch_need){.T = tokens,
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

void batch_put_run(struct lcl_batch_builder *b, const struct batch_run *r, int32_t position,
                   int64_t prefix_begin, int64_t prefix_end, struct lcl_branch branch)
{
    struct lcl_batch *m = &b->batch;
    int64_t begin = m->T, picture = 0;
    int32_t mark = r->n_images ? lcl_tokenizer_image(b->tokenizer) : -1;
    for (int64_t i = 0; i < r->n; i++) {
        if (r->ids[i] == mark) {
            put_slots(b, r->image[picture], r->view ? r->view[picture] : 0, m->T);
            picture++;
        }
        if (i > 0 && r->target && r->target[i] != LCL_NO_TARGET) {
            m->row_S[m->S] = (int32_t)(m->T - 1);
            m->target_S[m->S] = r->ids[i];
            m->weight_S[m->S] = r->weight > 0 ? r->weight : 1;
            m->is_label_S[m->S++] = r->target[i] == LCL_TARGET_LABEL;
        }
        for (int64_t k = 0; k < (r->ids[i] == mark ? b->tokens_per_image : 1); k++)
            put_ids(b, &r->ids[i], 1, &position);
    }
    bool alone = prefix_begin == prefix_end;
    put_run(b, begin, alone ? begin : prefix_begin, alone ? begin : prefix_end, branch);
}

lcl_status batch_append_run(struct lcl_batch_builder *b, const struct batch_run *r)
{
    int64_t T = r->n + r->n_images * (b->tokens_per_image - 1);
    LCL_TRY(
        batch_reserve(b, (struct batch_need){.T = T, .runs = 1, .images = r->n_images, .S = T}));
    struct lcl_branch none = {-1, -1, -1};
    batch_put_run(b, r, 0, 0, 0, r->asks ? (struct lcl_branch){b->n_episodes++, 0, 0} : none);
    b->n_groups++;
    return LCL_OK;
}
