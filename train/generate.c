#include "train/generate.h"

#include <stdlib.h>
#include <string.h>

void lcl_generator_init(struct lcl_generator *g, struct lcl_exec *exec,
                        const struct lcl_model *model)
{
    *g = (struct lcl_generator){.pass = {.exec = exec, .model = model}};
}

void lcl_generator_free(struct lcl_generator *g)
{
    lcl_pass_free(&g->pass);
    lcl_kv_cache_free(&g->cache);
    free(g->base);
    free(g->length);
    free(g->cache_row);
    free(g->last_row);
    free(g->argmax);
    free(g->id);
    free(g->position);
    free(g->map);
    free(g->slot_of);
    free(g->runs);
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
        RENEW(g->last_row, n);
        RENEW(g->argmax, n);
        RENEW(g->id, n);
        RENEW(g->position, n);
        RENEW(g->map, n);
        RENEW(g->slot_of, n);
        RENEW(g->runs, n);
    }
    if (b->T > g->cap_tokens) {
        g->cap_tokens = b->T + b->T / 4;
        RENEW(g->cache_row, g->cap_tokens);
    }
    if (cache_rows > g->cache.rows) {
        lcl_kv_cache_free(&g->cache);
        LCL_TRY(lcl_kv_cache_reserve(&g->cache, g->pass.model, cache_rows + cache_rows / 4));
    }
    return LCL_OK;
}

/* Each run gets consecutive cache rows, branches with room for max_new more. Prefixes are whole
 * runs, so they map to ranges. */
static lcl_status place_runs(struct lcl_generator *g, const struct lcl_batch *b,
                             const bool *is_branch, int64_t max_new)
{
    int64_t rows = b->T;
    for (int64_t r = 0; r < b->n_runs; r++) rows += is_branch[r] ? max_new : 0;
    LCL_TRY(reserve(g, b, rows));
    int64_t next = 0;
    for (int64_t r = 0; r < b->n_runs; r++) {
        const struct lcl_attn_run *run = &b->runs[r];
        g->base[r] = next;
        g->length[r] = run->q_end - run->q_begin;
        for (int32_t t = run->q_begin; t < run->q_end; t++)
            g->cache_row[t] = (int32_t)(next + t - run->q_begin);
        next += g->length[r] + (is_branch[r] ? max_new : 0);
    }
    for (int64_t r = 0; r < b->n_runs; r++) {
        struct lcl_attn_run run = b->runs[r];
        int32_t prefix = run.prefix_end - run.prefix_begin;
        run.own_begin = (int32_t)g->base[r];
        run.own_end = (int32_t)(g->base[r] + g->length[r]);
        run.prefix_begin = prefix > 0 ? g->cache_row[run.prefix_begin] : 0;
        run.prefix_end = run.prefix_begin + prefix;
        g->runs[r] = run;
    }
    return LCL_OK;
}

/* Token with the highest logit after each of the n tokens last_row[], whose hidden states are there
 * in that order. */
static lcl_status pick(struct lcl_generator *g, int64_t n)
{
    struct lcl_pass *p = &g->pass;
    const struct lcl_model *m = p->model;
    lcl_dtype dtype = lcl_model_dtype(m);
    LCL_TRY(p->exec->ops->head_xent_fwd(
        p->exec,
        &(struct lcl_head_xent_args){.T = p->text.R,
                                     .C = m->config.text.C,
                                     .V = m->config.text.V,
                                     .S = n,
                                     .dtype = dtype,
                                     .weight_dtype = dtype,
                                     .logit_scale = 1,
                                     .hidden_TC = p->text.hidden,
                                     .weight_VC = lcl_model_weight(m, m->rows.head_w),
                                     .row_S = p->text.R < p->text.T ? p->text.index_R : g->last_row,
                                     .argmax_S = g->argmax}));
    return lcl_exec_sync(p->exec);
}

static lcl_status decode_step(struct lcl_generator *g, int64_t n, const struct lcl_attn_run *runs)
{
    struct lcl_batch b = {.T = n,
                          .id_T = g->id,
                          .position_T = g->position,
                          .n_runs = n,
                          .runs = (void *)(uintptr_t)runs,
                          .S = n,
                          .row_S = g->last_row};
    LCL_TRY(lcl_pass_layout_batch(&g->pass, &b, false));
    LCL_TRY(lcl_model_embed(&g->pass, &b, NULL));
    for (int64_t i = 0; i < n; i++) g->last_row[i] = (int32_t)i;
    LCL_TRY(lcl_text_fwd(&g->pass, g->position, b.row_S, n, runs, &g->cache, g->slot_of));
    return pick(g, n);
}

/* Takes the picked tokens of the n active branches (map[i]: run); keeps those that go on. */
static lcl_status accept(struct lcl_generator *g, int64_t *n, lcl_stop_fn stop, void *stop_ctx,
                         struct lcl_ids *out)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < *n; i++) {
        int32_t r = g->map[i], id = g->argmax[i];
        if (id == g->pass.model->config.eos_token) continue;
        LCL_TRY(lcl_ids_push(&out[r], id));
        if (stop && stop(stop_ctx, &out[r])) continue;
        g->map[kept] = r;
        g->id[kept] = id;
        kept++;
    }
    *n = kept;
    return LCL_OK;
}

lcl_status lcl_generate_greedy(struct lcl_generator *g, const struct lcl_batch *b,
                               const struct lcl_images *images, const bool *is_branch,
                               int64_t max_new, lcl_stop_fn stop, void *stop_ctx,
                               struct lcl_ids *out)
{
    struct lcl_pass *p = &g->pass;
    LCL_TRY(place_runs(g, b, is_branch, max_new));
    int64_t n = 0;
    for (int64_t r = 0; r < b->n_runs; r++) {
        if (!is_branch[r]) continue;
        g->last_row[n] = b->runs[r].q_end - 1;
        g->map[n++] = (int32_t)r;
    }
    struct lcl_batch wanted = *b; /* the branches' last tokens alone */
    wanted.S = n;
    wanted.row_S = g->last_row;
    LCL_TRY(lcl_pass_layout_batch(p, &wanted, images && images->pixels && b->n_images > 0));
    LCL_TRY(lcl_model_embed(p, b, images));
    LCL_TRY(
        lcl_text_fwd(p, b->position_T, wanted.row_S, b->n_runs, g->runs, &g->cache, g->cache_row));
    LCL_TRY(pick(g, n));
    struct lcl_attn_run *decode = malloc((size_t)(n ? n : 1) * sizeof *decode);
    if (!decode) return LCL_FAIL(LCL_MEMORY, "no memory for %lld answers", (long long)n);
    lcl_status status = accept(g, &n, stop, stop_ctx, out);
    for (int64_t made = 1; made < max_new && n > 0 && status == LCL_OK; made++) {
        for (int64_t i = 0; i < n; i++) {
            int32_t r = g->map[i];
            decode[i] = g->runs[r];
            decode[i].q_begin = (int32_t)i;
            decode[i].q_end = (int32_t)(i + 1);
            decode[i].own_end = (int32_t)(g->base[r] + g->length[r] + made);
            g->slot_of[i] = decode[i].own_end - 1;
            g->position[i] = b->position_T[b->runs[r].q_end - 1] + (int32_t)made;
        }
        status = decode_step(g, n, decode);
        if (status == LCL_OK) status = accept(g, &n, stop, stop_ctx, out);
    }
    free(decode);
    return status;
}
