#include "train/generate.h"

#include <stdlib.h>
#include <string.h>

#include "core/ops_check.h"
#include "core/rng.h"

void lcl_generator_init(struct lcl_generator *g, struct lcl_exec *exec,
                        const struct lcl_model *model)
{
    *g = (struct lcl_generator){.pass = {.exec = exec, .model = model}};
}

void lcl_generator_free(struct lcl_generator *g)
{
    lcl_recording_free(&g->step);
    lcl_pass_free(&g->pass);
    lcl_kv_cache_free(&g->cache);
    lcl_contexts_free(&g->contexts);
    lcl_arena_free(&g->logits);
    free(g->base);
    free(g->length);
    free(g->cache_row);
    free(g->runs);
    free(g->run_of);
    free(g->id);
    free(g->position);
    free(g->slot);
    free(g->last_row);
    free(g->picked);
    free(g->sequence);
    free(g->draw);
    free(g->decode);
    *g = (struct lcl_generator){0};
}

/* A buffer of n elements in place of the old one, whose content is not kept. */
#define RENEW(field, n)                                                                     \
    do {                                                                                    \
        free(field);                                                                        \
        (field) = malloc((size_t)(n) * sizeof *(field));                                    \
        if (!(field))                                                                       \
            return LCL_FAIL(LCL_MEMORY, "no memory to generate %lld rows", (long long)(n)); \
    } while (0)

static lcl_status reserve(struct lcl_generator *g, const struct lcl_batch *b, int64_t cache_rows)
{
    if (b->n_runs > g->cap_runs) {
        int64_t n = g->cap_runs = b->n_runs + b->n_runs / 4;
        RENEW(g->base, n);
        RENEW(g->length, n);
        RENEW(g->runs, n);
        RENEW(g->run_of, n);
        RENEW(g->id, n);
        RENEW(g->position, n);
        RENEW(g->slot, n);
        RENEW(g->last_row, n);
        RENEW(g->picked, n);
        RENEW(g->sequence, n);
        RENEW(g->draw, n);
        RENEW(g->decode, n);
    }
    if (b->T > g->cap_tokens) {
        g->cap_tokens = b->T + b->T / 4;
        RENEW(g->cache_row, g->cap_tokens);
    }
    if (cache_rows <= g->cache.rows) return LCL_OK;
    return lcl_kv_cache_grow(&g->cache, g->pass.exec, g->pass.model, cache_rows + cache_rows / 4,
                             g->contexts.rows);
}

/* Each run gets consecutive cache rows behind the contexts', branches with room for max_new more.
 * Prefixes are whole runs, so they map to ranges; or they are the context that all go on from. */
static lcl_status place_runs(struct lcl_generator *g, const struct lcl_batch *b,
                             const bool *is_branch, int64_t max_new,
                             const struct lcl_context *after)
{
    int64_t next = g->contexts.rows, rows = next + b->T;
    for (int64_t r = 0; r < b->n_runs; r++) rows += is_branch && is_branch[r] ? max_new : 0;
    LCL_TRY(reserve(g, b, rows));
    g->cache.run_rows = 0;
    for (int64_t r = 0; r < b->n_runs; r++) {
        const struct lcl_attn_run *run = &b->runs[r];
        g->base[r] = next;
        g->length[r] = run->q_end - run->q_begin;
        const int64_t room = is_branch && is_branch[r] ? max_new : 0;
        if (room && g->length[r] + room > g->cache.run_rows)
            g->cache.run_rows = g->length[r] + room;
        for (int32_t t = run->q_begin; t < run->q_end; t++)
            g->cache_row[t] = (int32_t)(next + t - run->q_begin);
        next += g->length[r] + room;
    }
    for (int64_t r = 0; r < b->n_runs; r++) {
        struct lcl_attn_run run = b->runs[r];
        int32_t prefix = run.prefix_end - run.prefix_begin;
        run.own_begin = (int32_t)g->base[r];
        run.own_end = (int32_t)(g->base[r] + g->length[r]);
        run.prefix_begin = prefix > 0 ? g->cache_row[run.prefix_begin] : 0;
        if (after) {
            run.prefix_begin = (int32_t)after->first;
            prefix = (int32_t)after->n;
        }
        run.prefix_end = run.prefix_begin + prefix;
        g->runs[r] = run;
    }
    return LCL_OK;
}

/* A token for each lane, from the hidden states of their last tokens, which are there in that
 * order; at the next sync. */
static lcl_status pick(struct lcl_generator *g)
{
    struct lcl_pass *p = &g->pass;
    const struct lcl_model *m = p->model;
    const struct lcl_sampling *how = &g->sampling;
    lcl_dtype dtype = lcl_model_dtype(m);
    struct lcl_head_xent_args h = {
        .T = p->text.R,
        .C = m->config.text.C,
        .V = m->config.text.V,
        .S = g->n_lanes,
        .dtype = dtype,
        .weight_dtype = dtype,
        .logit_scale = 1,
        .hidden_TC = p->text.hidden,
        .weight_VC = lcl_model_weight(m, m->rows.head_w),
        .row_S = p->text.R < p->text.T ? p->text.index_R : g->last_row,
    };
    if (how->temperature > 0)
        h.kept_SV = (float *)(void *)g->logits.base;
    else
        h.argmax_S = g->picked;
    LCL_TRY(p->exec->ops->head_xent_fwd(p->exec, &h));
    if (how->temperature == 0) return LCL_OK;
    return p->exec->ops->sample_fwd(p->exec,
                                    &(struct lcl_sample_args){.S = h.S,
                                                              .V = h.V,
                                                              .temperature = how->temperature,
                                                              .top_p = how->top_p,
                                                              .top_k = how->top_k,
                                                              .logits_SV = h.kept_SV,
                                                              .draw_S = g->draw,
                                                              .token_S = g->picked});
}

/* Lane i's draw for the token after the one at `position`. */
static void draw(struct lcl_generator *g, int64_t i, int32_t position)
{
    struct lcl_rng r =
        lcl_rng_stream(g->sampling.seed, LCL_RNG_SAMPLING, (uint32_t)position, g->sequence[i]);
    uint64_t high = lcl_rng_u32(&r);
    g->draw[i] = high << 32 | lcl_rng_u32(&r);
}

/* The lanes' last tokens as a batch: one row each. */
static struct lcl_batch step_batch(struct lcl_generator *g)
{
    return (struct lcl_batch){.T = g->n_lanes,
                              .id_T = g->id,
                              .position_T = g->position,
                              .n_runs = g->n_lanes,
                              .runs = g->decode,
                              .S = g->n_lanes,
                              .row_S = g->last_row};
}

/* One token more for every lane: what is recorded. */
static lcl_status step(void *generator)
{
    struct lcl_generator *g = generator;
    struct lcl_batch b = step_batch(g);
    LCL_TRY(lcl_model_embed(&g->pass, &b, NULL));
    LCL_TRY(lcl_text_fwd(&g->pass, g->position, b.row_S, b.T, g->decode, &g->cache, g->slot));
    return pick(g);
}

/* Takes the picked tokens, the number `made` of each answer, from 0 on; lanes whose answer ends are
 * marked. Returns how many go on in *live. */
static lcl_status accept(struct lcl_generator *g, const struct lcl_generate_how *how, int64_t made,
                         struct lcl_ids *out, int64_t *live)
{
    *live = 0;
    for (int64_t i = 0; i < g->n_lanes; i++) {
        int32_t r = g->run_of[i], id = g->picked[i];
        if (r < 0) continue;
        g->run_of[i] = -1;
        bool end_token = id == g->pass.model->config.eos_token;
        bool end = end_token || made + 1 == how->max_new;
        if (!end_token) LCL_TRY(lcl_ids_push(&out[r], id));
        if (how->token) LCL_TRY(how->token(how->token_ctx, r, &out[r], &end));
        if (end) continue;
        g->run_of[i] = r;
        g->id[i] = id;
        ++*live;
    }
    return LCL_OK;
}

/* Drops the lanes that have ended; steps begin anew. */
static lcl_status compact(struct lcl_generator *g)
{
    int64_t n = 0;
    for (int64_t i = 0; i < g->n_lanes; i++) {
        if (g->run_of[i] < 0) continue;
        g->run_of[n] = g->run_of[i];
        g->sequence[n] = g->sequence[i];
        g->id[n++] = g->id[i];
    }
    g->n_lanes = n;
    for (int64_t i = 0; i < n; i++) g->last_row[i] = (int32_t)i;
    lcl_recording_free(&g->step);
    struct lcl_batch b = step_batch(g);
    return lcl_pass_layout_batch(&g->pass, &b, false);
}

/* Every lane sees the token it was given: its number `made`, from 1 on. Ended lanes do their last
 * token again. */
static void advance(struct lcl_generator *g, const struct lcl_batch *b, int64_t made)
{
    for (int64_t i = 0; i < g->n_lanes; i++) {
        int32_t r = g->run_of[i];
        if (r < 0) continue;
        g->decode[i] = g->runs[r];
        g->decode[i].q_begin = (int32_t)i;
        g->decode[i].q_end = (int32_t)(i + 1);
        g->decode[i].own_end = (int32_t)(g->base[r] + g->length[r] + made);
        g->slot[i] = g->decode[i].own_end - 1;
        g->position[i] = b->position_T[b->runs[r].q_end - 1] + (int32_t)made;
        draw(g, i, g->position[i]);
    }
}

/* The prompts' forward, and the first token of each answer. */
static lcl_status prefill(struct lcl_generator *g, const struct lcl_batch *b,
                          const struct lcl_images *images, const bool *is_branch)
{
    struct lcl_pass *p = &g->pass;
    g->n_lanes = 0;
    for (int64_t r = 0; r < b->n_runs; r++) {
        if (!is_branch[r]) continue;
        int64_t i = g->n_lanes++;
        g->last_row[i] = b->runs[r].q_end - 1;
        g->run_of[i] = (int32_t)r;
        g->sequence[i] = g->sampling.first_sequence + (uint64_t)i;
        draw(g, i, b->position_T[g->last_row[i]]);
    }
    size_t logits_bytes = (size_t)(g->n_lanes * p->model->config.text.V) * sizeof(float);
    if (g->sampling.temperature > 0 && g->logits.size_bytes < logits_bytes) {
        lcl_arena_free(&g->logits);
        LCL_TRY(lcl_arena_reserve(&g->logits, "logits", logits_bytes));
    }
    struct lcl_batch wanted = *b; /* the branches' last tokens alone */
    wanted.S = g->n_lanes;
    wanted.row_S = g->last_row;
    LCL_TRY(lcl_pass_layout_batch(p, &wanted, lcl_images_need_tower(images) && b->n_images > 0));
    LCL_TRY(lcl_model_embed(p, b, images));
    LCL_TRY(
        lcl_text_fwd(p, b->position_T, wanted.row_S, b->n_runs, g->runs, &g->cache, g->cache_row));
    LCL_TRY(pick(g));
    return lcl_exec_sync(p->exec);
}

lcl_status lcl_generate(struct lcl_generator *g, const struct lcl_batch *b,
                        const struct lcl_images *images, const bool *is_branch,
                        const struct lcl_generate_how *how, struct lcl_ids *out)
{
    struct lcl_exec *ex = g->pass.exec;
    int64_t live;
    g->sampling = how->sampling;
    LCL_TRY(lcl_check_sampling(g->sampling.temperature, g->sampling.top_k, g->sampling.top_p));
    LCL_TRY(place_runs(g, b, is_branch, how->max_new, how->after));
    LCL_TRY(prefill(g, b, images, is_branch));
    LCL_TRY(accept(g, how, 0, out, &live));
    for (int64_t made = 1; made < how->max_new && live > 0; made++) {
        /* A recorded step goes on as it is until half of it is for nothing. */
        if (made == 1 || live < (ex->records ? g->n_lanes / 2 + 1 : g->n_lanes))
            LCL_TRY(compact(g));
        advance(g, b, made);
        LCL_TRY(ex->ops->replay_fwd(ex, &(struct lcl_replay_args){&g->step, step, g}));
        LCL_TRY(lcl_exec_sync(ex));
        LCL_TRY(accept(g, how, made, out, &live));
    }
    lcl_recording_free(&g->step);
    return LCL_OK;
}

lcl_status lcl_generator_score(struct lcl_generator *g, const struct lcl_batch *b,
                               const struct lcl_images *images, const struct lcl_context *after)
{
    double loss;
    LCL_TRY(place_runs(g, b, NULL, 0, after));
    return lcl_model_loss_cached(&g->pass, b, images, g->runs, &g->cache, g->cache_row, &loss);
}

lcl_status lcl_generator_read(struct lcl_generator *g, const struct lcl_batch *context,
                              const struct lcl_images *images, const uint64_t *picture,
                              int64_t n_pictures, int64_t more, const struct lcl_context **out)
{
    struct lcl_pass *p = &g->pass;
    LCL_TRY(lcl_contexts_add(&g->contexts, context, picture, n_pictures, out));
    const int64_t first = (*out)->first, n = (*out)->n;
    lcl_status status;
    g->contexts.rows = first; /* not there yet: nothing of it is to be kept */
    LCL_TRY_GOTO(reserve(g, context, first + n + more));
    for (int64_t t = 0; t < n; t++) g->cache_row[t] = (int32_t)(first + t);
    struct lcl_attn_run run = context->runs[0];
    run.own_begin = (int32_t)first;
    run.own_end = (int32_t)(first + n);
    LCL_TRY_GOTO(
        lcl_pass_layout_batch(p, context, lcl_images_need_tower(images) && context->n_images > 0));
    LCL_TRY_GOTO(lcl_model_embed(p, context, images));
    LCL_TRY_GOTO(
        lcl_text_fwd(p, context->position_T, context->row_S, 1, &run, &g->cache, g->cache_row));
    LCL_TRY_GOTO(lcl_exec_sync(p->exec));
    g->contexts.rows = first + n;
    g->contexts.tokens_read += n;
    return LCL_OK;
out:
    lcl_contexts_drop(&g->contexts);
    *out = NULL;
    return status;
}
