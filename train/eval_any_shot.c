/* Evaluation of any-shot conversations: the last turn's answer, greedily and by likelihood among
 * the answers that the conversation knows. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/eval_crew.h"
#include "train/share.h"

enum { ITEM_CONVERSATIONS = 16 };

struct any_eval {
    struct lcl_env *env;
    const struct lcl_config *config;
    const struct lcl_eval_request *q;
    struct lcl_eval_outcome *o;
    struct lcl_any_shot any;
    struct lcl_conversation_rules rules;
    struct lcl_eval_crew crew;
    uint8_t *greedy, *likelihood; /* [episodes] */
    int32_t *class_N;
};

struct item {
    int64_t first;
    int n;
    struct lcl_any_turns turns[ITEM_CONVERSATIONS];
    double score[ITEM_CONVERSATIONS][LCL_MAX_WAYS];
};

static lcl_status draw_item(struct any_eval *v, int64_t index, struct item *item)
{
    item->first = index * ITEM_CONVERSATIONS;
    for (int64_t i = item->first; i < v->q->episodes && item->n < ITEM_CONVERSATIONS; i++) {
        struct lcl_any_turns *t = &item->turns[item->n];
        LCL_TRY(lcl_any_shot_draw_eval(&v->any, v->q->shots, (uint64_t)i, t));
        item->n++;
        int32_t class_id = t->turn[t->n - 1].class_id;
        v->class_N[i] = class_id >= 0 ? class_id : (int32_t)i;
        if (v->q->shuffled_labels) {
            struct lcl_rng rng = lcl_rng_stream((uint64_t)v->config->eval_seed, LCL_RNG_SHUFFLE,
                                                (uint32_t)v->q->shots, (uint64_t)i);
            lcl_any_turns_shuffle_answers(t, &rng);
        }
    }
    return LCL_OK;
}

/* A conversation whose last answer alone is learned, with each candidate in its place. */
static lcl_status append_candidates(struct any_eval *v, struct lcl_eval_worker *w,
                                    struct lcl_any_turns *t)
{
    struct lcl_conversation *c = &t->conversation;
    const char *own = c->messages[c->n_messages - 1].text;
    lcl_status status = LCL_OK;
    for (int i = 0; i < c->n_messages - 1; i++) c->learned[i] = false;
    for (int k = 0; k < t->n_candidates && status == LCL_OK; k++) {
        enum lcl_appended what;
        c->messages[c->n_messages - 1].text = t->candidate[k];
        status = lcl_batch_append_conversation(w->builder, c, &v->rules, &what);
    }
    c->messages[c->n_messages - 1].text = own;
    return status;
}

static lcl_status score_likelihood(struct any_eval *v, struct lcl_eval_worker *w, struct item *item)
{
    struct lcl_images images;
    double loss;
    int64_t row = 0, run = 0;
    if (item->turns[0].n_candidates == 0) return LCL_OK;
    lcl_batch_builder_reset(w->builder);
    for (int i = 0; i < item->n; i++) LCL_TRY(append_candidates(v, w, &item->turns[i]));
    const struct lcl_batch *b = lcl_batch_builder_get(w->builder);
    LCL_TRY(lcl_eval_crew_fetch(&v->crew, w, b, &images));
    LCL_TRY(lcl_model_loss(&w->pass, b, &images, &loss, NULL));
    for (int i = 0; i < item->n; i++) {
        const struct lcl_any_turns *t = &item->turns[i];
        int best = 0;
        for (int k = 0; k < t->n_candidates; k++, run++) {
            double *sum = &item->score[i][k];
            while (row < b->S && b->row_S[row] < b->runs[run].q_end)
                *sum += (double)w->pass.row_logprob[row++];
            if (*sum > item->score[i][best]) best = k;
        }
        v->likelihood[item->first + i] = best == t->turn[t->n - 1].way;
    }
    return LCL_OK;
}

/* The conversation up to where its last answer begins. */
static lcl_status append_prompt(struct any_eval *v, struct lcl_eval_worker *w,
                                const struct lcl_any_turns *t)
{
    const struct lcl_conversation *c = &t->conversation;
    int system = v->rules.system[0] != '\0', n = c->n_messages - 1;
    struct lcl_message *m = malloc(((size_t)n + 1) * sizeof *m);
    char *text = NULL;
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory for a prompt");
    m[0] = (struct lcl_message){LCL_ROLE_SYSTEM, v->rules.system};
    memcpy(m + system, c->messages, (size_t)n * sizeof *m);
    lcl_status status = lcl_chat_text(v->rules.chat, m, n + system, &text);
    if (status == LCL_OK)
        status =
            lcl_batch_append_prompt(w->builder, text, c->image, c->n_images, v->rules.max_length);
    free(text);
    free(m);
    return status;
}

/* The same words, but for blanks around them. */
static bool is_said(const char *text, const char *wanted)
{
    size_t n = strlen(text), m = strlen(wanted);
    while (n && isspace((unsigned char)*text)) text++, n--;
    while (n && isspace((unsigned char)text[n - 1])) n--;
    while (m && isspace((unsigned char)*wanted)) wanted++, m--;
    while (m && isspace((unsigned char)wanted[m - 1])) m--;
    return n == m && memcmp(text, wanted, n) == 0;
}

static void fill_picture(const struct any_eval *v, const struct lcl_turn *turn,
                         struct lcl_view_picture *p)
{
    *p = (struct lcl_view_picture){.image = turn->image};
    if (turn->class_id >= 0)
        snprintf(p->class_name, sizeof p->class_name, "%s",
                 v->env->pack.classes[turn->class_id].name);
}

/* As people look at it; text NULL: likelihoods alone. */
static lcl_status keep_view(struct any_eval *v, const struct item *item, int i, const char *text)
{
    const struct lcl_any_turns *t = &item->turns[i];
    const struct lcl_turn *asked = &t->turn[t->n - 1];
    int64_t at = item->first + i;
    if (at >= v->o->n_views) return LCL_OK;
    struct lcl_episode_view *view = &v->o->views[at];
    view->sample = at;
    view->shots = v->q->shots;
    snprintf(view->pack, sizeof view->pack, "%s", v->env->pack.path);
    view->support = calloc((size_t)t->n, sizeof *view->support);
    view->answer = text ? strdup(text) : NULL;
    if (!view->support || (text && !view->answer))
        return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    view->n_support = t->n - 1;
    int message = 0, other = asked->way == 0 ? 1 : 0;
    for (int s = 0; s < t->n; s++) {
        message += t->turn[s].n_messages;
        fill_picture(v, &t->turn[s], s + 1 < t->n ? &view->support[s] : &view->query);
        if (s + 1 < t->n)
            snprintf(view->support[s].label, sizeof view->support[s].label, "%s",
                     t->conversation.messages[message - 1].text);
    }
    snprintf(view->expected, sizeof view->expected, "%s",
             t->conversation.messages[message - 1].text);
    if (other < t->n_candidates)
        snprintf(view->other, sizeof view->other, "%s", t->candidate[other]);
    if (text) snprintf(view->said, sizeof view->said, "%s", text);
    bool score = v->q->likelihood && t->n_candidates > 0;
    view->correct = text ? v->greedy[at] : v->likelihood[at];
    view->logprob[0] = score ? item->score[i][asked->way] : NAN;
    view->logprob[1] = score && other < t->n_candidates ? item->score[i][other] : NAN;
    return LCL_OK;
}

static lcl_status answer_greedily(struct any_eval *v, struct lcl_eval_worker *w,
                                  const struct item *item)
{
    struct lcl_images images;
    bool is_branch[ITEM_CONVERSATIONS];
    struct lcl_ids answer[ITEM_CONVERSATIONS] = {{0}};
    lcl_batch_builder_reset(w->builder);
    for (int i = 0; i < item->n; i++) {
        LCL_TRY(append_prompt(v, w, &item->turns[i]));
        is_branch[i] = true;
    }
    const struct lcl_batch *b = lcl_batch_builder_get(w->builder);
    const struct lcl_generate_how how = {.max_new = v->config->eval_max_new_tokens};
    LCL_TRY(lcl_eval_crew_fetch(&v->crew, w, b, &images));
    lcl_status status = lcl_generate(&w->generator, b, &images, is_branch, &how, answer);
    for (int i = 0; i < item->n; i++) {
        const struct lcl_conversation *c = &item->turns[i].conversation;
        char *text = NULL;
        if (status == LCL_OK)
            status = lcl_tokenizer_decode(v->env->tokenizer, answer[i].v, answer[i].n, true, &text);
        if (status == LCL_OK) {
            v->greedy[item->first + i] = is_said(text, c->messages[c->n_messages - 1].text);
            status = keep_view(v, item, i, text);
        }
        free(text);
        lcl_ids_free(&answer[i]);
    }
    return status;
}

static lcl_status run_item(void *arg, int64_t index)
{
    struct any_eval *v = arg;
    struct lcl_eval_worker *w;
    LCL_TRY(lcl_eval_crew_mine(&v->crew, &w));
    struct item *item = calloc(1, sizeof *item);
    if (!item) return LCL_FAIL(LCL_MEMORY, "no memory for an evaluation");
    lcl_status status = draw_item(v, index, item);
    if (status == LCL_OK && v->q->likelihood) status = score_likelihood(v, w, item);
    if (status == LCL_OK && v->q->greedy) status = answer_greedily(v, w, item);
    for (int i = 0; i < item->n && status == LCL_OK && !v->q->greedy; i++)
        status = keep_view(v, item, i, NULL);
    for (int i = 0; i < item->n; i++) lcl_any_turns_free(&item->turns[i]);
    free(item);
    return status;
}

static lcl_status allocate(struct any_eval *v)
{
    size_t n = (size_t)v->q->episodes;
    v->greedy = calloc(n, 1);
    v->likelihood = calloc(n, 1);
    v->class_N = calloc(n, sizeof *v->class_N);
    if (!v->greedy || !v->likelihood || !v->class_N)
        return LCL_FAIL(LCL_MEMORY, "no memory for %zu queries", n);
    return lcl_eval_open_views(v->q, v->o);
}

/* What the ranks have found of their items. */
static lcl_status gather(struct any_eval *v)
{
    struct lcl_comm *c = v->env->comm;
    const int64_t each = ITEM_CONVERSATIONS, n = v->q->episodes;
    LCL_TRY(lcl_share_gather(c, "answers", v->greedy, 1, each, n));
    LCL_TRY(lcl_share_gather(c, "answers", v->likelihood, 1, each, n));
    LCL_TRY(lcl_share_gather(c, "classes asked for", v->class_N, sizeof *v->class_N, each, n));
    return lcl_eval_gather_views(c, each, v->o);
}

lcl_status lcl_eval_any_shot(struct lcl_env *e, const struct lcl_config *c,
                             struct lcl_features *features, const struct lcl_eval_request *q,
                             struct lcl_eval_outcome *o)
{
    struct any_eval v = {.env = e, .config = c, .q = q, .o = o};
    uint64_t seed = (uint64_t)c->eval_seed;
    int64_t n = q->episodes;
    lcl_status status;
    *o = (struct lcl_eval_outcome){.greedy = {NAN, NAN, NAN},
                                   .likelihood = {NAN, NAN, NAN},
                                   .official = NAN,
                                   .positive = NAN,
                                   .negative = NAN,
                                   .unparsed = NAN,
                                   .n_queries = n};
    v.rules = lcl_conversation_rules_of(c, e->tokenizer);
    v.rules.too_long = LCL_LONG_REFUSE;
    LCL_TRY(lcl_row_sources_any_shot(&e->sources, c, &e->pack,
                                     e->has_neighbors ? &e->neighbors : NULL,
                                     (enum lcl_split)c->eval_split, 1U << c->eval_task, &v.any));
    LCL_TRY_GOTO(allocate(&v));
    LCL_TRY_GOTO(lcl_eval_crew_open(&v.crew, e, c, features));
    for (int i = 0; i < e->sources.n && !features; i++)
        if (!e->sources.source[i].episodes)
            LCL_TRY_GOTO(lcl_pictures_add(&v.crew.pictures, &e->sources.source[i].pack, c));
    LCL_TRY_GOTO(lcl_eval_crew_run(&v.crew, lcl_chunk_count(n, ITEM_CONVERSATIONS), run_item, &v));
    LCL_TRY_GOTO(gather(&v));
    if (q->likelihood && c->eval_task != LCL_TURN_ROWS)
        LCL_TRY_GOTO(lcl_stats_bootstrap(v.likelihood, v.class_N, n, seed, &o->likelihood));
    if (q->greedy) status = lcl_stats_bootstrap(v.greedy, v.class_N, n, seed, &o->greedy);
out:
    lcl_eval_crew_close(&v.crew);
    lcl_any_shot_close(&v.any);
    free(v.greedy);
    free(v.likelihood);
    free(v.class_N);
    if (status != LCL_OK) lcl_eval_outcome_free(o);
    return status;
}
