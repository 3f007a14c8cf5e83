#include "train/classify.h"

#include <stdlib.h>
#include <string.h>

#include "core/threads.h"

lcl_status lcl_classifier_open(struct lcl_classifier *c, const struct lcl_gallery *g,
                               const struct lcl_support *support, const struct lcl_config *config,
                               enum lcl_classify_method method, int64_t shots, bool made_up)
{
    *c = (struct lcl_classifier){
        .support = support, .config = config, .method = method, .shots = shots, .made_up = made_up};
    LCL_TRY(lcl_support_check(support,
                              method == LCL_CLASSIFY_ALL ? LCL_MAX_WAYS : LCL_SUPPORT_MAX_CLASSES));
    int n = lcl_env_lanes_in_parallel(g->env, 8) ? lcl_threads_count() : 1;
    c->answerers = calloc((size_t)n, sizeof *c->answerers);
    if (!c->answerers) return LCL_FAIL(LCL_MEMORY, "no memory to classify");
    lcl_status status = LCL_OK;
    for (; c->n_answerers < n && status == LCL_OK; c->n_answerers++)
        status = lcl_answerer_open(&c->answerers[c->n_answerers], g, config);
    if (status != LCL_OK) lcl_classifier_close(c);
    return status;
}

void lcl_classifier_close(struct lcl_classifier *c)
{
    for (int i = 0; i < c->n_answerers; i++) lcl_answerer_close(&c->answerers[i]);
    free(c->answerers);
    *c = (struct lcl_classifier){0};
}

int64_t lcl_classifier_questions(const struct lcl_classifier *c)
{
    int64_t n = c->support->n;
    return c->method == LCL_CLASSIFY_ALL ? 1 : n * (n - 1) / 2;
}

struct ask {
    struct lcl_classifier *c;
    const int64_t *image;
    int64_t n;
    int (*pair)[2];
    double *share; /* [pairs, n]: of the pair's first class */
};

static struct lcl_answerer *answerer(struct lcl_classifier *c)
{
    return &c->answerers[c->n_answerers > 1 ? lcl_thread_index() : 0];
}

static bool is_taken(const struct lcl_episode *e, int way)
{
    for (int w = 0; w < way; w++)
        if (strcmp(e->label[w], e->label[way]) == 0) return true;
    return false;
}

static void make_up_labels(const struct lcl_config *c, struct lcl_rng *rng, struct lcl_episode *e)
{
    int64_t most = c->data_label_max_letters;
    if (most < 2 && e->n_ways > 13) most = 2; /* the letters alone would run out */
    for (int w = 0; w < e->n_ways; w++) {
        do {
            lcl_draw_label(rng, (int)c->data_label_min_letters, (int)most, e->label[w]);
        } while (is_taken(e, w));
    }
}

/* Shares of the classes `way` for every picture: out [n, n_ways]. */
static lcl_status ask(struct lcl_classifier *c, const int *way, int n_ways, uint64_t question,
                      const int64_t *image, int64_t n, double *out)
{
    struct lcl_episode *e = malloc(sizeof *e);
    if (!e) return LCL_FAIL(LCL_MEMORY, "no memory for a question");
    int64_t per_class = c->shots / n_ways > 0 ? c->shots / n_ways : 1;
    for (int w = 0; w < n_ways; w++) /* equal shares, as in training */
        if (c->support->classes[way[w]].n < per_class) per_class = c->support->classes[way[w]].n;
    struct lcl_rng rng = lcl_rng_stream((uint64_t)c->config->eval_seed, LCL_RNG_EVAL, 1, question);
    lcl_status status = lcl_support_episode(c->support, way, n_ways, per_class, &rng, image, n, e);
    if (status == LCL_OK) {
        if (c->made_up) make_up_labels(c->config, &rng, e);
        status = lcl_answer_likelihood(answerer(c), e, out);
        for (int64_t i = 0; i < n && status == LCL_OK; i++)
            lcl_answer_shares(out + i * n_ways, n_ways, out + i * n_ways);
        lcl_episode_free(e);
    }
    free(e);
    return status;
}

static lcl_status ask_pair(void *arg, int64_t p)
{
    struct ask *a = arg;
    double *share = malloc((size_t)(2 * a->n) * sizeof *share);
    if (!share) return LCL_FAIL(LCL_MEMORY, "no memory for %lld scores", (long long)a->n);
    lcl_status status = ask(a->c, a->pair[p], 2, (uint64_t)p, a->image, a->n, share);
    for (int64_t i = 0; i < a->n; i++) a->share[p * a->n + i] = share[2 * i];
    free(share);
    return status;
}

static lcl_status ask_pairs(struct lcl_classifier *c, const int64_t *image, int64_t n,
                            double *score_NC)
{
    int C = c->support->n;
    int64_t pairs = lcl_classifier_questions(c), p = 0;
    struct ask a = {.c = c, .image = image, .n = n};
    a.pair = malloc((size_t)pairs * sizeof *a.pair);
    a.share = malloc((size_t)(pairs * n) * sizeof *a.share);
    lcl_status status = LCL_OK;
    if (!a.pair || !a.share) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %lld pairs of classes", (long long)pairs);
        goto out;
    }
    for (int i = 0; i < C; i++)
        for (int j = i + 1; j < C; j++, p++) {
            a.pair[p][0] = i;
            a.pair[p][1] = j;
        }
    if (c->n_answerers > 1)
        LCL_TRY_GOTO(lcl_parallel(pairs, ask_pair, &a));
    else
        for (p = 0; p < pairs; p++) LCL_TRY_GOTO(ask_pair(&a, p));
    for (int64_t i = 0; i < n * C; i++) score_NC[i] = 0;
    for (p = 0; p < pairs; p++)
        for (int64_t i = 0; i < n; i++) {
            double share = a.share[p * n + i];
            score_NC[i * C + a.pair[p][0]] += share / (C - 1);
            score_NC[i * C + a.pair[p][1]] += (1 - share) / (C - 1);
        }
out:
    free(a.pair);
    free(a.share);
    return status;
}

lcl_status lcl_classifier_score(struct lcl_classifier *c, const int64_t *image, int64_t n,
                                double *score_NC)
{
    if (c->method == LCL_CLASSIFY_PAIRS) return ask_pairs(c, image, n, score_NC);
    int way[LCL_MAX_WAYS];
    for (int i = 0; i < c->support->n; i++) way[i] = i;
    return ask(c, way, c->support->n, 0, image, n, score_NC);
}
