/* Episodes in the official layout as runs: turns of official.h, in which each picture's patches
 * stand for it. */
#include <stdlib.h>

#include "data/batch_internal.h"

enum { CONTEXT, BRANCH };

/* Draws the patches of the turn from `begin` on together; each turn has one whole picture. */
static lcl_status collapse(struct lcl_batch_builder *b, int part, int64_t begin,
                           const struct lcl_episode *e, int64_t label_at[2])
{
    struct lcl_ids *ids = &b->turn[part], *said = &b->said[part];
    int32_t patch = lcl_tokenizer_image(b->tokenizer);
    int64_t to = begin, patches = 0, label[2] = {label_at[0], label_at[1]};
    for (int64_t i = begin; i < ids->n; i++) {
        for (int k = 0; k < 2; k++)
            if (label[k] == i) label_at[k] = to;
        if (ids->v[i] == patch && patches++ > 0) continue;
        ids->v[to] = ids->v[i];
        said->v[to++] = said->v[i];
    }
    if (label[1] >= ids->n) label_at[1] = to;
    ids->n = said->n = to;
    if (patches == b->tokens_per_image) return LCL_OK;
    return LCL_FAIL(
        LCL_FORMAT, "sample %llu: a turn of the official layout has %lld image tokens, wanted %lld",
        (unsigned long long)e->sample, (long long)patches, (long long)b->tokens_per_image);
}

static const char *shot_text(const struct lcl_episode *e, const int32_t *labels, int i)
{
    return e->said ? e->said[i] : e->label[labels ? labels[i] : lcl_episode_shown(e, i)];
}

/* Support turns; those that supervise does not name are said for nothing. */
static lcl_status put_context(struct lcl_batch_builder *b, const struct lcl_episode *e,
                              enum lcl_supervise supervise, const int32_t *labels)
{
    bool seen[LCL_MAX_WAYS] = {false};
    struct lcl_ids *ids = &b->turn[CONTEXT], *said = &b->said[CONTEXT];
    for (int i = 0; i < e->n_shots; i++) {
        int64_t begin = ids->n, none[2] = {-1, -1};
        int way = labels ? labels[i] : lcl_episode_shown(e, i);
        LCL_TRY(lcl_official_support(b->official, e->policy, shot_text(e, labels, i), i == 0, true,
                                     ids, said));
        LCL_TRY(collapse(b, CONTEXT, begin, e, none));
        bool again = !e->said && seen[way];
        bool counts =
            supervise == LCL_SUPERVISE_ALL || (supervise == LCL_SUPERVISE_REPEATS && again);
        for (int64_t k = begin; k < said->n && !counts; k++) said->v[k] = LCL_OFFICIAL_IGNORED;
        seen[way] = true;
    }
    return LCL_OK;
}

/* Targets of a part from `begin` on. */
static lcl_status mark_targets(struct lcl_batch_builder *b, int part, int64_t begin,
                               const int64_t label_at[2])
{
    const struct lcl_ids *said = &b->said[part];
    if (said->n > b->cap_target[part]) {
        uint8_t *v = realloc(b->target[part], (size_t)(2 * said->n));
        if (!v)
            return LCL_FAIL(LCL_MEMORY, "no memory for the targets of %lld tokens",
                            (long long)said->n);
        b->target[part] = v;
        b->cap_target[part] = 2 * said->n;
    }
    for (int64_t i = begin; i < said->n; i++) {
        bool label = i >= label_at[0] && i < label_at[1];
        b->target[part][i] = said->v[i] == LCL_OFFICIAL_IGNORED ? LCL_NO_TARGET
                             : label                            ? LCL_TARGET_LABEL
                                                                : LCL_TARGET;
    }
    return LCL_OK;
}

/* A query's turn, behind those of the branches before it. label: its answer, or NULL. */
static lcl_status put_branch(struct lcl_batch_builder *b, const struct lcl_episode *e,
                             const char *label)
{
    int64_t begin = b->turn[BRANCH].n, label_at[2] = {-1, -1};
    struct lcl_ids said = {0}; /* what was said before is forgotten by an official query */
    lcl_status status = lcl_official_query(b->official, e->policy, e->question, label,
                                           &b->turn[BRANCH], &said, label_at);
    for (int64_t i = 0; i < said.n && status == LCL_OK; i++)
        status = lcl_ids_push(&b->said[BRANCH], said.v[i]);
    lcl_ids_free(&said);
    LCL_TRY(status);
    if (b->said[BRANCH].n != b->turn[BRANCH].n)
        return LCL_FAIL(LCL_FORMAT, "sample %llu: a turn has fewer labels than tokens",
                        (unsigned long long)e->sample);
    LCL_TRY(collapse(b, BRANCH, begin, e, label_at));
    return mark_targets(b, BRANCH, begin, label_at);
}

/* An episode's parts, ready to be written. */
struct parts {
    int64_t *image; /* [n_shots + 1]: of the context, then the query's */
    int32_t *view;
    int64_t *at; /* [n_branches + 1]: where each branch begins in its part */
    int n_branches;
};

/* Query and way of branch k; the way of an episode with `said` is of no use. */
static struct lcl_branch branch_of(const struct lcl_batch_builder *b, const struct lcl_episode *e,
                                   bool candidates, int k)
{
    int q = candidates ? k / e->n_ways : k;
    return (struct lcl_branch){b->n_episodes, q, candidates ? k % e->n_ways : e->queries[q].way};
}

static lcl_status encode(struct lcl_batch_builder *b, const struct lcl_episode *e,
                         enum lcl_encode_mode mode, enum lcl_supervise supervise,
                         const int32_t *labels, struct parts *p)
{
    const int64_t none[2] = {-1, -1};
    for (int part = 0; part < 2; part++) b->turn[part].n = b->said[part].n = 0;
    LCL_TRY(put_context(b, e, supervise, labels));
    LCL_TRY(mark_targets(b, CONTEXT, 0, none));
    for (int k = 0; k < p->n_branches; k++) {
        struct lcl_branch of = branch_of(b, e, mode == LCL_ENCODE_CANDIDATES, k);
        const char *label = e->said ? e->said[e->n_shots + of.query] : e->label[of.way];
        p->at[k] = b->turn[BRANCH].n;
        LCL_TRY(put_branch(b, e, mode == LCL_ENCODE_PROMPT ? NULL : label));
    }
    p->at[p->n_branches] = b->turn[BRANCH].n;
    for (int i = 0; i < e->n_shots; i++) {
        p->image[i] = e->shots[i].image;
        p->view[i] = e->shots[i].view;
    }
    return LCL_OK;
}

/* One query in training: its turn goes on from the context in one run. */
static lcl_status join(struct lcl_batch_builder *b)
{
    int64_t n = b->turn[CONTEXT].n;
    const int64_t none[2] = {-1, -1};
    for (int64_t i = 0; i < b->turn[BRANCH].n; i++) {
        LCL_TRY(lcl_ids_push(&b->turn[CONTEXT], b->turn[BRANCH].v[i]));
        LCL_TRY(lcl_ids_push(&b->said[CONTEXT], b->said[BRANCH].v[i]));
    }
    LCL_TRY(mark_targets(b, CONTEXT, n, none));
    for (int64_t i = 0; i < b->turn[BRANCH].n; i++)
        b->target[CONTEXT][n + i] = b->target[BRANCH][i];
    return LCL_OK;
}

static void write_runs(struct lcl_batch_builder *b, const struct lcl_episode *e,
                       const struct parts *p, bool single, bool candidates, float weight)
{
    int64_t begin = b->batch.T;
    struct batch_run run = {.ids = b->turn[CONTEXT].v,
                            .target = b->target[CONTEXT],
                            .n = b->turn[CONTEXT].n,
                            .image = p->image,
                            .view = p->view,
                            .n_images = e->n_shots + single,
                            .weight = weight};
    p->image[e->n_shots] = e->queries[0].image;
    p->view[e->n_shots] = e->queries[0].view;
    struct lcl_branch none = {-1, -1, -1};
    if (run.n > 0) batch_put_run(b, &run, 0, 0, 0, single ? branch_of(b, e, candidates, 0) : none);
    int64_t end = b->batch.T;
    for (int k = 0; k < p->n_branches && !single; k++) {
        struct lcl_branch of = branch_of(b, e, candidates, k);
        const struct lcl_shot *query = &e->queries[of.query];
        run = (struct batch_run){.ids = b->turn[BRANCH].v + p->at[k],
                                 .target = b->target[BRANCH] + p->at[k],
                                 .n = p->at[k + 1] - p->at[k],
                                 .image = &query->image,
                                 .view = &query->view,
                                 .n_images = 1,
                                 .weight = weight};
        batch_put_run(b, &run, (int32_t)(end - begin), begin, end, of);
    }
    b->n_episodes++;
    b->n_groups++;
}

/* Lengths with all image tokens, and room for them. */
static lcl_status reserve(struct lcl_batch_builder *b, const struct lcl_episode *e,
                          const struct parts *p, int64_t max_length)
{
    int64_t more = b->tokens_per_image - 1, longest = 0;
    int64_t context = b->turn[CONTEXT].n + e->n_shots * more;
    int64_t branches = b->turn[BRANCH].n + p->n_branches * more;
    for (int k = 0; k < p->n_branches; k++)
        if (p->at[k + 1] - p->at[k] > longest) longest = p->at[k + 1] - p->at[k];
    LCL_TRY(batch_check_length(e, context + longest + more, max_length));
    return batch_reserve(b, (struct batch_need){.T = context + branches,
                                                .runs = p->n_branches + 1,
                                                .images = e->n_shots + p->n_branches,
                                                .S = context + branches});
}

lcl_status batch_append_official(struct lcl_batch_builder *b, const struct lcl_episode *e,
                                 enum lcl_encode_mode mode, enum lcl_supervise supervise,
                                 const int32_t *labels, int64_t max_length)
{
    bool train = mode == LCL_ENCODE_TRAIN, candidates = mode == LCL_ENCODE_CANDIDATES;
    bool single = train && e->n_queries == 1;
    struct parts p = {.n_branches = e->n_queries * (candidates ? e->n_ways : 1)};
    size_t n_shown = (size_t)e->n_shots + 1;
    lcl_status status = LCL_OK;
    if (!train) supervise = LCL_SUPERVISE_LAST;
    p.image = malloc(n_shown * sizeof *p.image);
    p.view = malloc(n_shown * sizeof *p.view);
    p.at = malloc(((size_t)p.n_branches + 1) * sizeof *p.at);
    if (!p.image || !p.view || !p.at) status = LCL_FAIL(LCL_MEMORY, "no memory for an episode");
    LCL_TRY_GOTO(status);
    LCL_TRY_GOTO(encode(b, e, mode, supervise, labels, &p));
    LCL_TRY_GOTO(reserve(b, e, &p, max_length));
    if (single) LCL_TRY_GOTO(join(b));
    float weight = train && supervise == LCL_SUPERVISE_LAST ? 1.0f / (float)e->n_queries : 1.0f;
    write_runs(b, e, &p, single, candidates, weight);
out:
    free(p.image);
    free(p.view);
    free(p.at);
    return status;
}
