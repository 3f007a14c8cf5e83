/* Answers in words: to the queries of an episode, and to prompts of one's own. */
#include <stdlib.h>
#include <string.h>

#include "train/answer_parts.h"

/* Answers that grow together: those of one batch. */
struct growing {
    struct lcl_words_how words_how;
    struct lcl_words *words;         /* [n_runs] */
    const struct lcl_branch *branch; /* [n_runs] of the builder's batch */
    const struct lcl_asked *asked;
    int64_t first; /* number of the batch's first answer */
    bool by_query; /* an answer's number is its branch's query; else its episode */
};

static int64_t answer_of(const struct growing *g, int64_t run)
{
    const struct lcl_branch *of = &g->branch[lcl_asked_run(g->asked, run)];
    return g->first + (g->by_query ? of->query : of->episode);
}

static lcl_status take_token(void *ctx, int64_t run, const struct lcl_ids *so_far, bool *end)
{
    struct growing *g = ctx;
    struct lcl_words *w = &g->words[run];
    bool is_new = so_far->n > w->n_tokens;
    w->n_tokens = so_far->n;
    if (!is_new) return lcl_words_end(w, &g->words_how, answer_of(g, run));
    return lcl_words_push(w, &g->words_how, answer_of(g, run), so_far->v[so_far->n - 1], end);
}

static lcl_status grow(struct lcl_answerer *a, const struct lcl_asked *q,
                       struct lcl_generate_how *generate, struct growing *g, char **text)
{
    const struct lcl_batch *b = q->batch;
    const size_t n = (size_t)b->n_runs;
    bool *is_branch = calloc(n, sizeof *is_branch);
    struct lcl_ids *ids = calloc(n, sizeof *ids);
    lcl_status status = LCL_OK;
    g->words = calloc(n, sizeof *g->words);
    g->asked = q;
    if (!is_branch || !ids || !g->words) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %zu answers", n);
        goto out;
    }
    for (int64_t r = 0; r < b->n_runs; r++) {
        is_branch[r] = g->branch[lcl_asked_run(q, r)].query >= 0;
        lcl_words_open(&g->words[r], a->gallery->env->tokenizer);
    }
    generate->after = q->after;
    LCL_TRY_GOTO(lcl_generate(&a->generator, b, &q->images, is_branch, generate, ids));
    for (int64_t r = 0; r < b->n_runs; r++) {
        if (!is_branch[r]) continue;
        text[answer_of(g, r)] = g->words[r].text.data;
        g->words[r].text = (struct lcl_text){0};
    }
out:
    for (size_t r = 0; ids && r < n; r++) lcl_ids_free(&ids[r]);
    for (size_t r = 0; g->words && r < n; r++) lcl_words_free(&g->words[r]);
    free(g->words);
    free(is_branch);
    free(ids);
    return status;
}

/* Continues the builder's batch; text[answer] as in lcl_answer. */
static lcl_status continue_batch(struct lcl_answerer *a, const struct lcl_answer_how *how,
                                 int64_t first, bool by_query, char **text)
{
    const struct lcl_tokenizer *tokenizer = a->gallery->env->tokenizer;
    struct growing g = {.words_how = {.stop = how->stop,
                                      .n_stop = how->n_stop,
                                      .end_token = how->end_token
                                                       ? lcl_tokenizer_id(tokenizer, how->end_token)
                                                       : -1,
                                      .say = how->say,
                                      .say_ctx = how->say_ctx},
                        .branch = lcl_batch_builder_branches(a->builder),
                        .first = first,
                        .by_query = by_query};
    struct lcl_generate_how generate = {
        .max_new = how->max_new > 0 ? how->max_new : a->config->eval_max_new_tokens,
        .sampling = how->sampling,
        .token = take_token,
        .token_ctx = &g};
    generate.sampling.first_sequence += (uint64_t)first;
    struct lcl_asked q;
    lcl_status status = lcl_answerer_ask(a, generate.max_new, &q);
    if (status == LCL_OK) status = grow(a, &q, &generate, &g, text);
    lcl_asked_free(&q);
    return status;
}

static void drop(char **text, int n, lcl_status status)
{
    for (int i = 0; i < n && status != LCL_OK; i++) {
        free(text[i]);
        text[i] = NULL;
    }
}

lcl_status lcl_answer(struct lcl_answerer *a, const struct lcl_episode *e,
                      const struct lcl_answer_how *how, char **text)
{
    int step = lcl_answerer_slice(a, 1), n = e->n_queries;
    lcl_status status = LCL_OK;
    for (int i = 0; i < n; i++) text[i] = NULL;
    for (int begin = 0; begin < n && status == LCL_OK; begin += step) {
        int count = n - begin < step ? n - begin : step;
        status = lcl_answerer_pack(a, e, begin, count, LCL_ENCODE_PROMPT);
        if (status == LCL_OK) status = continue_batch(a, how, begin, true, text);
    }
    drop(text, n, status);
    return status;
}

/* The next prompts, as many as keep the batch small. */
static lcl_status pack_prompts(struct lcl_answerer *a, const struct lcl_prompt *p, int n,
                               int *count)
{
    lcl_batch_builder_reset(a->builder);
    for (*count = 0; *count < n; ++*count) {
        int64_t T = lcl_batch_builder_get(a->builder)->T;
        if (*count == LCL_ANSWERS_AT_ONCE || T > LCL_TOKENS_AT_ONCE) break;
        LCL_TRY(lcl_batch_append_prompt(a->builder, p[*count].text, p[*count].image,
                                        p[*count].n_images, a->config->model_max_length));
    }
    return LCL_OK;
}

lcl_status lcl_answer_prompts(struct lcl_answerer *a, const struct lcl_prompt *p, int n,
                              const struct lcl_answer_how *how, char **text)
{
    lcl_status status = LCL_OK;
    for (int i = 0; i < n; i++) text[i] = NULL;
    for (int begin = 0, count; begin < n && status == LCL_OK; begin += count) {
        status = pack_prompts(a, p + begin, n - begin, &count);
        if (status == LCL_OK) status = continue_batch(a, how, begin, false, text);
    }
    drop(text, n, status);
    return status;
}

/* The next conversations, as many as keep the batch small. */
static lcl_status pack_conversations(struct lcl_answerer *a, const struct lcl_conversation *c,
                                     int n, int *count)
{
    struct lcl_conversation_rules rules =
        lcl_conversation_rules_of(a->config, a->gallery->env->tokenizer);
    enum lcl_appended what;
    rules.too_long = LCL_LONG_REFUSE; /* a shortened answer would be another */
    lcl_batch_builder_reset(a->builder);
    for (*count = 0; *count < n; ++*count) {
        int64_t T = lcl_batch_builder_get(a->builder)->T;
        if (*count == LCL_ANSWERS_AT_ONCE || T > LCL_TOKENS_AT_ONCE) break;
        LCL_TRY(lcl_batch_append_conversation(a->builder, &c[*count], &rules, &what));
    }
    return LCL_OK;
}

lcl_status lcl_answer_conversations(struct lcl_answerer *a, const struct lcl_conversation *c, int n,
                                    double *logprob)
{
    for (int begin = 0, count; begin < n; begin += count) {
        LCL_TRY(pack_conversations(a, c + begin, n - begin, &count));
        LCL_TRY(lcl_answerer_score(a, logprob + begin));
    }
    return LCL_OK;
}
