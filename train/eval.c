#include "train/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/eval_crew.h"
#include "train/match.h"
#include "train/share.h"

enum { ITEM_EPISODES = 16 };

void lcl_eval_outcome_free(struct lcl_eval_outcome *o)
{
    for (int64_t i = 0; o->views && i < o->n_views; i++) lcl_episode_view_free(&o->views[i]);
    free(o->views);
    *o = (struct lcl_eval_outcome){0};
}

struct eval {
    struct lcl_env *env;
    const struct lcl_config *config;
    const struct lcl_eval_request *q;
    struct lcl_sampler sampler;
    struct lcl_eval_crew crew;
    int64_t queries;
    /* by query: episode * queries + k */
    uint8_t *greedy, *likelihood, *official, *unparsed, *is_positive;
    int32_t *class_N;
    struct lcl_eval_outcome *o;
};

struct item {
    int64_t first;
    int n;
    struct lcl_episode episode[ITEM_EPISODES];
    int32_t *labels[ITEM_EPISODES]; /* permuted ways of the shots, or NULL */
};

static lcl_status draw_item(struct eval *v, int64_t index, struct item *item)
{
    *item = (struct item){.first = index * ITEM_EPISODES};
    for (int64_t i = item->first; i < v->q->episodes && item->n < ITEM_EPISODES; i++) {
        struct lcl_episode *e = &item->episode[item->n];
        LCL_TRY(lcl_sampler_draw_eval(&v->sampler, v->q->shots, (uint64_t)i, v->q->negative_made_up,
                                      e));
        item->n++;
        if (!v->q->shuffled_labels) continue;
        int32_t *labels = malloc((size_t)e->n_shots * sizeof *labels);
        if (!labels) return LCL_FAIL(LCL_MEMORY, "no memory for %d labels", e->n_shots);
        for (int s = 0; s < e->n_shots; s++) labels[s] = e->shots[s].way;
        struct lcl_rng rng = lcl_rng_stream((uint64_t)v->config->eval_seed, LCL_RNG_SHUFFLE,
                                            (uint32_t)v->q->shots, (uint64_t)i);
        lcl_rng_shuffle(&rng, labels, e->n_shots);
        item->labels[item->n - 1] = labels;
    }
    return LCL_OK;
}

static void free_item(struct item *item)
{
    for (int i = 0; i < item->n; i++) {
        lcl_episode_free(&item->episode[i]);
        free(item->labels[i]);
    }
}

static lcl_status pack_item(struct eval *v, struct lcl_eval_worker *w, const struct item *item,
                            enum lcl_encode_mode mode, const struct lcl_batch **b)
{
    lcl_batch_builder_reset(w->builder);
    for (int i = 0; i < item->n; i++)
        LCL_TRY(lcl_batch_append_episode(w->builder, &item->episode[i], mode, LCL_SUPERVISE_LAST,
                                         item->labels[i], v->config->model_max_length));
    *b = lcl_batch_builder_get(w->builder);
    return LCL_OK;
}

/* Sum of log-probabilities of each run's supervised rows. Rows lie in run order. */
static double run_logprob(const struct lcl_batch *b, const float *logprob, int64_t run,
                          int64_t *row)
{
    double sum = 0;
    while (*row < b->S && b->row_S[*row] < b->runs[run].q_end) sum += (double)logprob[(*row)++];
    return sum;
}

static lcl_status score_likelihood(struct eval *v, struct lcl_eval_worker *w,
                                   const struct item *item, double (*score)[2])
{
    const struct lcl_batch *b;
    struct lcl_images images;
    double loss;
    LCL_TRY(pack_item(v, w, item, LCL_ENCODE_CANDIDATES, &b));
    LCL_TRY(lcl_eval_crew_fetch(&v->crew, w, b, &images));
    LCL_TRY(lcl_model_loss(&w->pass, b, &images, &loss, NULL));
    const struct lcl_branch *branch = lcl_batch_builder_branches(w->builder);
    int64_t row = 0;
    for (int64_t r = 0; r < b->n_runs; r++) {
        double sum = run_logprob(b, w->pass.row_logprob, r, &row);
        if (branch[r].episode < 0 || branch[r].query < 0) continue;
        score[branch[r].episode * v->queries + branch[r].query][branch[r].way] = sum;
    }
    for (int i = 0; i < item->n; i++)
        for (int64_t k = 0; k < v->queries; k++) {
            const double *s = score[i * v->queries + k];
            int way = item->episode[i].queries[k].way;
            v->likelihood[(item->first + i) * v->queries + k] = s[way] > s[1 - way];
        }
    return LCL_OK;
}

static lcl_status judge(struct eval *v, const struct item *item, struct lcl_branch branch,
                        const char *text)
{
    const struct lcl_episode *e = &item->episode[branch.episode];
    int64_t at = (item->first + branch.episode) * v->queries + branch.query;
    struct lcl_judgement said;
    LCL_TRY(lcl_judge(text, e->label, 2, e->queries[branch.query].way, &said));
    v->unparsed[at] = said.unparsed;
    v->greedy[at] = said.strict;
    v->official[at] = said.official;
    return LCL_OK;
}

static lcl_status fill_picture(struct eval *v, const struct lcl_episode *e,
                               const struct lcl_shot *s, struct lcl_view_picture *p)
{
    *p = (struct lcl_view_picture){.image = s->image};
    snprintf(p->class_name, sizeof p->class_name, "%s",
             v->env->pack.classes[e->class_id[s->way]].name);
    return LCL_OK;
}

/* The first query of an episode as people look at it; text NULL: likelihoods alone. */
static lcl_status keep_view(struct eval *v, const struct item *item, int i, const char *text,
                            const double score[2])
{
    const struct lcl_episode *e = &item->episode[i];
    int64_t at = item->first + i;
    if (at >= v->o->n_views) return LCL_OK;
    struct lcl_episode_view *view = &v->o->views[at];
    int way = e->queries[0].way;
    view->sample = at;
    view->shots = v->q->shots;
    snprintf(view->pack, sizeof view->pack, "%s", v->env->pack.path);
    view->support = calloc((size_t)e->n_shots, sizeof *view->support);
    view->answer = text ? strdup(text) : NULL;
    if (!view->support || (text && !view->answer))
        return LCL_FAIL(LCL_MEMORY, "no memory for an episode");
    view->n_support = e->n_shots;
    for (int s = 0; s < e->n_shots; s++) {
        int shown = item->labels[i] ? item->labels[i][s] : lcl_episode_shown(e, s);
        LCL_TRY(fill_picture(v, e, &e->shots[s], &view->support[s]));
        snprintf(view->support[s].label, sizeof view->support[s].label, "%s", e->label[shown]);
    }
    LCL_TRY(fill_picture(v, e, &e->queries[0], &view->query));
    snprintf(view->expected, sizeof view->expected, "%s", e->label[way]);
    snprintf(view->other, sizeof view->other, "%s", e->label[1 - way]);
    bool quoted = text && lcl_first_quoted(text, view->said);
    view->correct =
        text ? quoted && strcmp(view->said, e->label[way]) == 0 : score[way] > score[1 - way];
    view->logprob[0] = v->q->likelihood ? score[way] : NAN;
    view->logprob[1] = v->q->likelihood ? score[1 - way] : NAN;
    return LCL_OK;
}

static lcl_status answer_greedily(struct eval *v, struct lcl_eval_worker *w,
                                  const struct item *item, double (*score)[2])
{
    const struct lcl_batch *b;
    struct lcl_images images;
    LCL_TRY(pack_item(v, w, item, LCL_ENCODE_PROMPT, &b));
    LCL_TRY(lcl_eval_crew_fetch(&v->crew, w, b, &images));
    const struct lcl_branch *branch = lcl_batch_builder_branches(w->builder);
    const struct lcl_generate_how how = {.max_new = v->config->eval_max_new_tokens};
    bool *is_branch = malloc((size_t)b->n_runs * sizeof *is_branch);
    struct lcl_ids *answer = calloc((size_t)b->n_runs, sizeof *answer);
    lcl_status status = LCL_OK;
    if (!is_branch || !answer) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld answers", (long long)b->n_runs);
        goto out;
    }
    for (int64_t r = 0; r < b->n_runs; r++) is_branch[r] = branch[r].query >= 0;
    status = lcl_generate(&w->generator, b, &images, is_branch, &how, answer);
    for (int64_t r = 0; r < b->n_runs; r++) {
        char *text = NULL;
        if (status == LCL_OK && is_branch[r]) {
            status = lcl_tokenizer_decode(v->env->tokenizer, answer[r].v, answer[r].n, true, &text);
            if (status == LCL_OK) status = judge(v, item, branch[r], text);
            if (status == LCL_OK && branch[r].query == 0)
                status = keep_view(v, item, branch[r].episode, text,
                                   score[branch[r].episode * v->queries]);
        }
        free(text);
        lcl_ids_free(&answer[r]);
    }
out:
    free(is_branch);
    free(answer);
    return status;
}

static lcl_status run_item(void *arg, int64_t index)
{
    struct eval *v = arg;
    struct lcl_eval_worker *w;
    struct item item;
    LCL_TRY(lcl_eval_crew_mine(&v->crew, &w));
    double(*score)[2] = calloc((size_t)(ITEM_EPISODES * v->queries), sizeof *score);
    if (!score) return LCL_FAIL(LCL_MEMORY, "no memory for scores");
    lcl_status status = draw_item(v, index, &item);
    for (int i = 0; i < item.n && status == LCL_OK; i++)
        for (int64_t k = 0; k < v->queries; k++) {
            int64_t at = (item.first + i) * v->queries + k;
            v->class_N[at] = item.episode[i].class_id[0];
            v->is_positive[at] = item.episode[i].queries[k].way == 0;
        }
    if (status == LCL_OK && v->q->likelihood) status = score_likelihood(v, w, &item, score);
    if (status == LCL_OK && v->q->greedy) status = answer_greedily(v, w, &item, score);
    for (int i = 0; i < item.n && status == LCL_OK && !v->q->greedy; i++)
        status = keep_view(v, &item, i, NULL, score[i * v->queries]);
    free_item(&item);
    free(score);
    return status;
}

/* What the ranks have found of their items. */
static lcl_status gather(struct eval *v, int64_t n)
{
    struct lcl_comm *c = v->env->comm;
    const int64_t each = ITEM_EPISODES * v->queries;
    uint8_t *const flags[] = {v->greedy, v->likelihood, v->official, v->unparsed, v->is_positive};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        LCL_TRY(lcl_share_gather(c, "answers", flags[i], 1, each, n));
    LCL_TRY(lcl_share_gather(c, "classes asked for", v->class_N, sizeof *v->class_N, each, n));
    return lcl_eval_gather_views(c, ITEM_EPISODES, v->o);
}

static lcl_status conclude(struct eval *v, int64_t n)
{
    struct lcl_eval_outcome *o = v->o;
    uint64_t seed = (uint64_t)v->config->eval_seed;
    o->n_queries = n;
    if (v->q->likelihood)
        LCL_TRY(lcl_stats_bootstrap(v->likelihood, v->class_N, n, seed, &o->likelihood));
    if (!v->q->greedy) return LCL_OK;
    o->official = lcl_stats_share(v->official, NULL, 0, n);
    o->unparsed = lcl_stats_share(v->unparsed, NULL, 0, n);
    o->positive = lcl_stats_share(v->greedy, v->is_positive, 1, n);
    o->negative = lcl_stats_share(v->greedy, v->is_positive, 0, n);
    return lcl_stats_bootstrap(v->greedy, v->class_N, n, seed, &o->greedy);
}

static lcl_status allocate(struct eval *v, uint8_t **flags, int64_t n)
{
    *flags = calloc((size_t)(5 * n), 1);
    v->class_N = calloc((size_t)n, sizeof *v->class_N);
    if (!*flags || !v->class_N)
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld queries", (long long)n);
    v->greedy = *flags;
    v->likelihood = *flags + n;
    v->official = *flags + 2 * n;
    v->unparsed = *flags + 3 * n;
    v->is_positive = *flags + 4 * n;
    return lcl_eval_open_views(v->q, v->o);
}

lcl_status lcl_eval_run(struct lcl_env *e, const struct lcl_config *c,
                        struct lcl_features *features, const struct lcl_eval_request *q,
                        struct lcl_eval_outcome *o)
{
    struct lcl_config config = *c;
    struct eval v = {.env = e, .config = &config, .q = q, .o = o};
    uint8_t *flags = NULL;
    lcl_status status;
    if (c->data_strategy == LCL_ANY_SHOT) return lcl_eval_any_shot(e, c, features, q, o);
    *o = (struct lcl_eval_outcome){.greedy = {NAN, NAN, NAN}, .likelihood = {NAN, NAN, NAN}};
    v.queries = q->queries > 0 ? q->queries : 1;
    config.eval_queries = v.queries;
    int64_t n = q->episodes * v.queries;
    LCL_TRY(lcl_sampler_init_capped(&v.sampler, &config, &e->pack,
                                    e->has_neighbors ? &e->neighbors : NULL,
                                    (enum lcl_split)c->eval_split));
    LCL_TRY_GOTO(allocate(&v, &flags, n));
    LCL_TRY_GOTO(lcl_eval_crew_open(&v.crew, e, &config, features));
    LCL_TRY_GOTO(
        lcl_eval_crew_run(&v.crew, lcl_chunk_count(q->episodes, ITEM_EPISODES), run_item, &v));
    LCL_TRY_GOTO(gather(&v, n));
    LCL_TRY_GOTO(conclude(&v, n));
out:
    lcl_eval_crew_close(&v.crew);
    lcl_sampler_free(&v.sampler);
    free(flags);
    free(v.class_N);
    if (status != LCL_OK) lcl_eval_outcome_free(o);
    return status;
}

/* Cosine of the query with the mean of each class's support features (means over a picture's
 * tokens). */
static int nearest(const struct lcl_features *f, const struct lcl_episode *e, int64_t C,
                   double *sum)
{
    double best = -INFINITY;
    int choice = 0;
    const float *query = lcl_features_row(f, e->queries[0].image, 0);
    for (int way = 0; way < 2; way++) {
        double dot = 0, norm = 0;
        memset(sum, 0, (size_t)C * sizeof *sum);
        for (int s = 0; s < e->n_shots; s++) {
            if (e->shots[s].way != way) continue;
            const float *x = lcl_features_row(f, e->shots[s].image, 0);
            double length = 0;
            for (int64_t k = 0; k < f->row; k++) length += (double)x[k] * (double)x[k];
            for (int64_t k = 0; k < f->row; k++) sum[k % C] += (double)x[k] / sqrt(length);
        }
        for (int64_t k = 0; k < C; k++) norm += sum[k] * sum[k];
        for (int64_t k = 0; k < f->row; k++) dot += sum[k % C] * (double)query[k];
        double cosine = norm > 0 ? dot / sqrt(norm) : 0;
        if (cosine > best) {
            best = cosine;
            choice = way;
        }
    }
    return choice;
}

lcl_status lcl_eval_prototype(struct lcl_env *e, const struct lcl_config *c,
                              const struct lcl_features *features, const struct lcl_eval_request *q,
                              struct lcl_interval *out)
{
    struct lcl_config config = *c;
    struct lcl_sampler sampler;
    int64_t C = e->model.config.vision.C;
    config.eval_queries = 1;
    uint8_t *correct = calloc((size_t)q->episodes, 1);
    int32_t *class_N = calloc((size_t)q->episodes, sizeof *class_N);
    double *sum = calloc((size_t)C, sizeof *sum);
    lcl_status status = LCL_OK;
    bool drawn = false;
    if (!correct || !class_N || !sum) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld episodes", (long long)q->episodes);
        goto out;
    }
    LCL_TRY_GOTO(lcl_sampler_init_capped(&sampler, &config, &e->pack,
                                         e->has_neighbors ? &e->neighbors : NULL,
                                         (enum lcl_split)c->eval_split));
    drawn = true;
    for (int64_t i = 0; i < q->episodes; i++) {
        struct lcl_episode episode;
        LCL_TRY_GOTO(lcl_sampler_draw_eval(&sampler, q->shots, (uint64_t)i, false, &episode));
        correct[i] = nearest(features, &episode, C, sum) == episode.queries[0].way;
        class_N[i] = episode.class_id[0];
        lcl_episode_free(&episode);
    }
    status = lcl_stats_bootstrap(correct, class_N, q->episodes, (uint64_t)c->eval_seed, out);
out:
    if (drawn) lcl_sampler_free(&sampler);
    free(correct);
    free(class_N);
    free(sum);
    return status;
}
