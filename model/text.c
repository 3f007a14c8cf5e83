/* The LLaMA decoder (Touvron et al. 2023): pre-norm blocks with rotary positions, grouped heads and
 * SwiGLU. Legend: T packed tokens, C width, F feed-forward width, H query heads, G key/value heads,
 * D head width, Q = (H + 2 G) D width of a packed query-key-value row. */
#include <math.h>
#include <stdlib.h>

#include "model/model.h"

static size_t elem(const struct lcl_pass *p) { return lcl_dtype_bytes(lcl_model_dtype(p->model)); }

static int64_t qkv_width(const struct lcl_text_config *t) { return (t->H + 2 * t->G) * t->D; }

static void attention_layout(struct lcl_pass *p, struct lcl_text_layer_saves *s, int64_t T)
{
    const struct lcl_text_config *t = &p->model->config.text;
    struct lcl_arena *a = &p->arena;
    s->x = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
    s->rstd1 = LCL_ARENA_NEW(a, float, (size_t)T);
    s->qkv = lcl_arena_alloc(a, (size_t)(T * qkv_width(t)), elem(p));
    s->attn = lcl_arena_alloc(a, (size_t)(T * t->H * t->D), elem(p));
    s->lse = LCL_ARENA_NEW(a, float, (size_t)(T * t->H));
}

static void mlp_layout(struct lcl_pass *p, struct lcl_text_layer_saves *s, int64_t T)
{
    const struct lcl_text_config *t = &p->model->config.text;
    struct lcl_arena *a = &p->arena;
    s->mid = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
    s->rstd2 = LCL_ARENA_NEW(a, float, (size_t)T);
    s->gate_up = lcl_arena_alloc(a, (size_t)(T * 2 * t->F), elem(p));
}

void lcl_text_layout(struct lcl_pass *p, int64_t T, int64_t R, bool training)
{
    const struct lcl_text_config *t = &p->model->config.text;
    struct lcl_text_saves *s = &p->text;
    struct lcl_arena *a = &p->arena;
    int64_t wide = t->C > t->H * t->D ? t->C : t->H * t->D;
    s->T = T;
    s->R = R;
    for (int64_t l = 0; l < t->n_layers; l++) {
        struct lcl_text_layer_saves *y = &s->layer[l];
        *y = s->layer[0];
        if (l == 0 || (training && p->checkpointing != LCL_CHECKPOINT_LAYERS))
            attention_layout(p, y, T);
        else if (training)
            y->x = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
        if (l == 0 || (training && p->checkpointing == LCL_CHECKPOINT_NONE))
            mlp_layout(p, y, l > 0 && l == t->n_layers - 1 ? R : T);
    }
    s->index_R = LCL_ARENA_NEW(&p->host, int32_t, (size_t)R);
    s->last_x = lcl_arena_alloc(a, (size_t)(R * t->C), elem(p));
    s->last_attn = lcl_arena_alloc(a, (size_t)(R * t->H * t->D), elem(p));
    s->sum = lcl_arena_alloc(a, (size_t)(R * t->C), elem(p));
    s->hidden = lcl_arena_alloc(a, (size_t)(R * t->C), elem(p));
    s->rstd = LCL_ARENA_NEW(a, float, (size_t)R);
    s->norm = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
    s->half = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
    s->act = lcl_arena_alloc(a, (size_t)(T * t->F), elem(p));
    if (!training) return;
    s->d_x = lcl_arena_alloc(a, (size_t)(T * t->C), elem(p));
    s->d_norm = lcl_arena_alloc(a, (size_t)(T * wide), elem(p));
    s->d_act = lcl_arena_alloc(a, (size_t)(T * t->F), elem(p));
    s->d_qkv = lcl_arena_alloc(a, (size_t)(T * qkv_width(t)), elem(p));
    s->d_last_x = lcl_arena_alloc(a, (size_t)(R * t->C), elem(p));
    s->d_last_attn = lcl_arena_alloc(a, (size_t)(R * t->H * t->D), elem(p));
}

/* Whether a layer goes on with the wanted rows alone once attention has read all. */
static bool narrows(const struct lcl_pass *p, int64_t l)
{
    return l == p->model->config.text.n_layers - 1 && p->text.R < p->text.T;
}

static int64_t rows_after_attention(const struct lcl_pass *p, int64_t l)
{
    return narrows(p, l) ? p->text.R : p->text.T;
}

/* The wanted rows of `all` [T, width] as `some` [R, width]; backward: d_all of d_some, zeros in
 * other rows. */
static struct lcl_splice_args narrow_args(const struct lcl_pass *p, int64_t width)
{
    const struct lcl_text_saves *s = &p->text;
    return (struct lcl_splice_args){.n = s->R,
                                    .T = s->R,
                                    .R = s->T,
                                    .C = width,
                                    .dtype = lcl_model_dtype(p->model),
                                    .slot = s->index_R,
                                    .src_row = s->row_R};
}

static lcl_status narrow(struct lcl_pass *p, int64_t width, const void *all, void *some)
{
    struct lcl_splice_args a = narrow_args(p, width);
    a.src_RC = all;
    a.dst_TC = some;
    return p->exec->ops->splice_fwd(p->exec, &a);
}

static lcl_status narrow_bwd(struct lcl_pass *p, int64_t width, void *d_some, void *d_all)
{
    struct lcl_splice_args a = narrow_args(p, width);
    a.d_dst_TC = d_some;
    a.d_src_RC = d_all;
    return p->exec->ops->splice_bwd(p->exec, &a);
}

static struct lcl_rmsnorm_args norm_args(const struct lcl_pass *p, int weight, int64_t rows)
{
    const struct lcl_text_config *t = &p->model->config.text;
    return (struct lcl_rmsnorm_args){.M = rows,
                                     .C = t->C,
                                     .dtype = lcl_model_dtype(p->model),
                                     .eps = (float)t->eps,
                                     .weight_C = lcl_model_vector(p->model, weight)};
}

static struct lcl_rotary_args rotary_args(const struct lcl_pass *p, void *x,
                                          const int32_t *position_T)
{
    const struct lcl_text_config *t = &p->model->config.text;
    return (struct lcl_rotary_args){.T = p->text.T,
                                    .n_heads = t->H + t->G,
                                    .D = t->D,
                                    .row_stride = qkv_width(t),
                                    .dtype = lcl_model_dtype(p->model),
                                    .x = x,
                                    .position_T = position_T,
                                    .inv_freq = p->model->inv_freq,
                                    .scale = p->model->rope_scale};
}

static struct lcl_attention_args attention_args(const struct lcl_pass *p,
                                                const struct lcl_text_layer_saves *s,
                                                int64_t n_runs, const struct lcl_attn_run *runs)
{
    const struct lcl_text_config *t = &p->model->config.text;
    unsigned char *qkv = s->qkv;
    return (struct lcl_attention_args){.n_runs = n_runs,
                                       .H = t->H,
                                       .G = t->G,
                                       .D = t->D,
                                       .q_stride = qkv_width(t),
                                       .kv_stride = qkv_width(t),
                                       .out_stride = t->H * t->D,
                                       .dtype = lcl_model_dtype(p->model),
                                       .causal = true,
                                       .scale = 1 / sqrtf((float)t->D),
                                       .runs = runs,
                                       .q = qkv,
                                       .k = qkv + (size_t)(t->H * t->D) * elem(p),
                                       .v = qkv + (size_t)((t->H + t->G) * t->D) * elem(p),
                                       .out = s->attn,
                                       .lse_TH = s->lse};
}

struct text_ctx {
    const int32_t *position_T;
    int64_t n_runs;
    const struct lcl_attn_run *runs;
    struct lcl_kv_cache *cache;
    const int32_t *cache_row;
};

static lcl_status attend(struct lcl_pass *p, int64_t l, const struct text_ctx *c)
{
    const struct lcl_text_config *t = &p->model->config.text;
    struct lcl_text_layer_saves *y = &p->text.layer[l];
    struct lcl_attention_args att = attention_args(p, y, c->n_runs, c->runs);
    if (c->cache) {
        LCL_TRY(p->exec->ops->kv_store_fwd(p->exec,
                                           &(struct lcl_kv_store_args){.T = p->text.T,
                                                                       .width = t->G * t->D,
                                                                       .src_stride = qkv_width(t),
                                                                       .dtype = att.dtype,
                                                                       .row_T = c->cache_row,
                                                                       .rows = c->cache->rows,
                                                                       .k = att.k,
                                                                       .v = att.v,
                                                                       .k_cache = c->cache->k[l],
                                                                       .v_cache = c->cache->v[l]}));
        att.k = c->cache->k[l];
        att.v = c->cache->v[l];
        att.kv_stride = t->G * t->D;
        att.lse_TH = NULL;
        att.most_keys = c->cache->run_rows;
    }
    return p->exec->ops->attention_fwd(p->exec, &att);
}

/* From attention's output to the feed-forward block's gate. */
static lcl_status gate_fwd(struct lcl_pass *p, int64_t l)
{
    struct lcl_text_saves *s = &p->text;
    struct lcl_text_layer_saves *y = &s->layer[l];
    const struct lcl_text_layer_rows *r = &p->model->rows.text[l];
    const struct lcl_text_config *t = &p->model->config.text;
    int64_t rows = rows_after_attention(p, l), wide = t->H * t->D;
    const void *x = y->x, *attn = y->attn;
    if (narrows(p, l)) {
        LCL_TRY(narrow(p, t->C, x, s->last_x));
        LCL_TRY(narrow(p, wide, attn, s->last_attn));
        x = s->last_x;
        attn = s->last_attn;
    }
    LCL_TRY(
        lcl_pass_linear(p, (struct lcl_layer_linear){r->o_w, -1, rows, t->C, wide}, attn, s->half));
    struct lcl_rmsnorm_args n2 = norm_args(p, r->norm2, rows);
    n2.x_MC = x;
    n2.add_MC = s->half;
    n2.sum_MC = y->mid;
    n2.y_MC = s->norm;
    n2.rstd_M = y->rstd2;
    LCL_TRY(p->exec->ops->rmsnorm_fwd(p->exec, &n2));
    return lcl_pass_linear(p, (struct lcl_layer_linear){r->gate_up_w, -1, rows, 2 * t->F, t->C},
                           s->norm, y->gate_up);
}

static lcl_status layer_fwd(struct lcl_pass *p, int64_t l, const void *x, const void *add,
                            const struct text_ctx *c)
{
    struct lcl_text_saves *s = &p->text;
    struct lcl_text_layer_saves *y = &s->layer[l];
    const struct lcl_text_layer_rows *r = &p->model->rows.text[l];
    const struct lcl_text_config *t = &p->model->config.text;
    const struct lcl_ops *ops = p->exec->ops;
    int64_t rows = rows_after_attention(p, l);
    struct lcl_rmsnorm_args n1 = norm_args(p, r->norm1, s->T);
    n1.x_MC = x;
    n1.add_MC = add;
    n1.sum_MC = y->x;
    n1.y_MC = s->norm;
    n1.rstd_M = y->rstd1;
    LCL_TRY(ops->rmsnorm_fwd(p->exec, &n1));
    LCL_TRY(lcl_pass_linear(p, (struct lcl_layer_linear){r->qkv_w, -1, s->T, qkv_width(t), t->C},
                            s->norm, y->qkv));
    struct lcl_rotary_args rot = rotary_args(p, y->qkv, c->position_T);
    LCL_TRY(ops->rotary_fwd(p->exec, &rot));
    LCL_TRY(attend(p, l, c));
    LCL_TRY(gate_fwd(p, l));
    LCL_TRY(ops->swiglu_fwd(
        p->exec,
        &(struct lcl_swiglu_args){
            .M = rows, .F = t->F, .dtype = n1.dtype, .gate_up_M2F = y->gate_up, .y_MF = s->act}));
    return lcl_pass_linear(p, (struct lcl_layer_linear){r->down_w, -1, rows, t->C, t->F}, s->act,
                           s->half);
}

lcl_status lcl_text_fwd(struct lcl_pass *p, const int32_t *position_T, const int32_t *row_R,
                        int64_t n_runs, const struct lcl_attn_run *runs, struct lcl_kv_cache *cache,
                        const int32_t *cache_row)
{
    struct lcl_text_saves *s = &p->text;
    const struct lcl_text_config *t = &p->model->config.text;
    struct text_ctx c = {position_T, n_runs, runs, cache, cache_row};
    s->row_R = row_R;
    for (int64_t i = 0; i < s->R; i++) s->index_R[i] = (int32_t)i;
    for (int64_t l = 0; l < t->n_layers; l++) {
        LCL_TRY(lcl_pass_enter(p, LCL_PART_TEXT, l, false));
        LCL_TRY(l == 0 ? layer_fwd(p, 0, s->layer[0].x, NULL, &c)
                       : layer_fwd(p, l, s->layer[l - 1].mid, s->half, &c));
        LCL_TRY(lcl_pass_leave(p, LCL_PART_TEXT, l, false));
    }
    struct lcl_rmsnorm_args n = norm_args(p, p->model->rows.final_norm, s->R);
    n.x_MC = s->layer[t->n_layers - 1].mid;
    n.add_MC = s->half;
    n.sum_MC = s->sum;
    n.y_MC = s->hidden;
    n.rstd_M = s->rstd;
    return p->exec->ops->rmsnorm_fwd(p->exec, &n);
}

static lcl_status mlp_bwd(struct lcl_pass *p, int64_t l, void *d_x)
{
    struct lcl_text_saves *s = &p->text;
    struct lcl_text_layer_saves *y = &s->layer[l];
    const struct lcl_text_layer_rows *r = &p->model->rows.text[l];
    const struct lcl_text_config *t = &p->model->config.text;
    const struct lcl_ops *ops = p->exec->ops;
    int64_t rows = rows_after_attention(p, l);
    struct lcl_swiglu_args glu = {.M = rows,
                                  .F = t->F,
                                  .dtype = lcl_model_dtype(p->model),
                                  .gate_up_M2F = y->gate_up,
                                  .y_MF = s->act,
                                  .d_y_MF = s->d_act,
                                  .d_gate_up_M2F = y->gate_up};
    struct lcl_layer_linear down = {r->down_w, -1, rows, t->C, t->F},
                            gate_up = {r->gate_up_w, -1, rows, 2 * t->F, t->C};
    if (lcl_pass_linear_reads_x(p, down, p->train_text)) LCL_TRY(ops->swiglu_fwd(p->exec, &glu));
    LCL_TRY(lcl_pass_linear_bwd(p, down, s->act, d_x, s->d_act, p->train_text));
    LCL_TRY(ops->swiglu_bwd(p->exec, &glu));
    struct lcl_rmsnorm_args n = norm_args(p, r->norm2, rows);
    n.x_MC = n.sum_MC = y->mid;
    n.y_MC = s->norm;
    n.rstd_M = y->rstd2;
    if (lcl_pass_linear_reads_x(p, gate_up, p->train_text)) LCL_TRY(ops->rmsnorm_fwd(p->exec, &n));
    LCL_TRY(lcl_pass_linear_bwd(p, gate_up, s->norm, y->gate_up, s->d_norm, p->train_text));
    n.d_y_MC = s->d_norm;
    n.d_sum_MC = n.d_x_MC = d_x;
    n.d_weight_C = lcl_pass_grad(p, r->norm2, p->train_text);
    return ops->rmsnorm_bwd(p->exec, &n);
}

/* d_x and, in d_norm, the gradient of attention's output, of all rows; d_some: that of the rows
 * after attention, d_x itself where they are all. */
static lcl_status out_bwd(struct lcl_pass *p, int64_t l, void *d_some)
{
    struct lcl_text_saves *s = &p->text;
    const struct lcl_text_config *t = &p->model->config.text;
    bool some = narrows(p, l);
    int64_t wide = t->H * t->D;
    struct lcl_layer_linear o = {p->model->rows.text[l].o_w, -1, rows_after_attention(p, l), t->C,
                                 wide};
    LCL_TRY(lcl_pass_linear_bwd(p, o, some ? s->last_attn : s->layer[l].attn, d_some,
                                some ? s->d_last_attn : s->d_norm, p->train_text));
    if (!some) return LCL_OK;
    LCL_TRY(narrow_bwd(p, wide, s->d_last_attn, s->d_norm));
    return narrow_bwd(p, t->C, d_some, s->d_x);
}

static lcl_status attention_bwd(struct lcl_pass *p, int64_t l, void *d_x, const struct text_ctx *c)
{
    struct lcl_text_saves *s = &p->text;
    struct lcl_text_layer_saves *y = &s->layer[l];
    const struct lcl_text_layer_rows *r = &p->model->rows.text[l];
    const struct lcl_text_config *t = &p->model->config.text;
    const struct lcl_ops *ops = p->exec->ops;
    struct lcl_attention_args att = attention_args(p, y, c->n_runs, c->runs);
    unsigned char *d_qkv = s->d_qkv;
    att.d_out = s->d_norm;
    att.d_q = d_qkv;
    att.d_k = d_qkv + (size_t)(t->H * t->D) * elem(p);
    att.d_v = d_qkv + (size_t)((t->H + t->G) * t->D) * elem(p);
    LCL_TRY(ops->attention_bwd(p->exec, &att));
    struct lcl_rotary_args rot = rotary_args(p, d_qkv, c->position_T);
    LCL_TRY(ops->rotary_bwd(p->exec, &rot));
    struct lcl_rmsnorm_args n = norm_args(p, r->norm1, s->T);
    n.x_MC = n.sum_MC = y->x;
    n.y_MC = s->norm;
    n.rstd_M = y->rstd1;
    struct lcl_layer_linear qkv = {r->qkv_w, -1, s->T, qkv_width(t), t->C};
    if (lcl_pass_linear_reads_x(p, qkv, p->train_text)) LCL_TRY(ops->rmsnorm_fwd(p->exec, &n));
    LCL_TRY(lcl_pass_linear_bwd(p, qkv, s->norm, d_qkv, s->d_norm, p->train_text));
    n.d_y_MC = s->d_norm;
    n.d_sum_MC = n.d_x_MC = d_x;
    n.d_weight_C = lcl_pass_grad(p, r->norm1, p->train_text);
    return ops->rmsnorm_bwd(p->exec, &n);
}

lcl_status lcl_text_bwd(struct lcl_pass *p, const int32_t *position_T, int64_t n_runs,
                        const struct lcl_attn_run *runs, const void *d_hidden)
{
    struct lcl_text_saves *s = &p->text;
    const struct lcl_text_config *t = &p->model->config.text;
    struct text_ctx c = {position_T, n_runs, runs, NULL, NULL};
    void *d_last = narrows(p, t->n_layers - 1) ? s->d_last_x : s->d_x;
    struct lcl_rmsnorm_args n = norm_args(p, p->model->rows.final_norm, s->R);
    n.sum_MC = s->sum;
    n.rstd_M = s->rstd;
    n.d_y_MC = d_hidden;
    n.d_x_MC = d_last;
    n.d_weight_C = lcl_pass_grad(p, p->model->rows.final_norm, p->train_text);
    LCL_TRY(p->exec->ops->rmsnorm_bwd(p->exec, &n));
    for (int64_t l = t->n_layers; l-- > 0;) {
        LCL_TRY(lcl_pass_enter(p, LCL_PART_TEXT, l, true));
        if (p->checkpointing == LCL_CHECKPOINT_LAYERS)
            LCL_TRY(layer_fwd(p, l, s->layer[l].x, NULL, &c));
        if (p->checkpointing == LCL_CHECKPOINT_MLP) LCL_TRY(gate_fwd(p, l));
        void *d_some = l == t->n_layers - 1 ? d_last : s->d_x;
        LCL_TRY(mlp_bwd(p, l, d_some));
        LCL_TRY(out_bwd(p, l, d_some));
        LCL_TRY(attention_bwd(p, l, s->d_x, &c));
        LCL_TRY(lcl_pass_leave(p, LCL_PART_TEXT, l, true));
    }
    return LCL_OK;
}

lcl_status lcl_kv_cache_reserve(struct lcl_kv_cache *c, const struct lcl_model *m, int64_t rows)
{
    const struct lcl_text_config *t = &m->config.text;
    size_t row_bytes = (size_t)(t->G * t->D) * lcl_dtype_bytes(lcl_model_dtype(m));
    *c = (struct lcl_kv_cache){.rows = rows};
    struct lcl_arena measure;
    lcl_arena_measure(&measure, "key/value cache");
    for (int pass = 0; pass < 2; pass++) {
        struct lcl_arena *a = pass ? &c->arena : &measure;
        if (pass) LCL_TRY(lcl_arena_reserve(a, "key/value cache", measure.used_bytes));
        c->k = LCL_ARENA_NEW(a, void *, (size_t)t->n_layers);
        c->v = LCL_ARENA_NEW(a, void *, (size_t)t->n_layers);
        for (int64_t l = 0; l < t->n_layers; l++) {
            void *k = lcl_arena_alloc(a, (size_t)rows, row_bytes);
            void *v = lcl_arena_alloc(a, (size_t)rows, row_bytes);
            if (pass) {
                c->k[l] = k;
                c->v[l] = v;
            }
        }
    }
    return LCL_OK;
}

lcl_status lcl_kv_cache_grow(struct lcl_kv_cache *c, struct lcl_exec *exec,
                             const struct lcl_model *m, int64_t rows, int64_t keep)
{
    const struct lcl_text_config *t = &m->config.text;
    struct lcl_kv_cache more;
    if (keep == 0) {
        lcl_kv_cache_free(c);
        return lcl_kv_cache_reserve(c, m, rows);
    }
    LCL_TRY(lcl_kv_cache_reserve(&more, m, rows));
    int32_t *row_T = malloc((size_t)keep * sizeof *row_T);
    lcl_status status = row_T ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a cache's rows");
    for (int64_t i = 0; i < keep && row_T; i++) row_T[i] = (int32_t)i;
    struct lcl_kv_store_args a = {.T = keep,
                                  .width = t->G * t->D,
                                  .src_stride = t->G * t->D,
                                  .rows = rows,
                                  .dtype = lcl_model_dtype(m),
                                  .row_T = row_T};
    for (int64_t l = 0; l < t->n_layers && status == LCL_OK; l++) {
        a.k = c->k[l];
        a.v = c->v[l];
        a.k_cache = more.k[l];
        a.v_cache = more.v[l];
        status = exec->ops->kv_store_fwd(exec, &a);
    }
    if (status == LCL_OK) status = lcl_exec_sync(exec);
    free(row_T);
    lcl_kv_cache_free(status == LCL_OK ? c : &more);
    if (status == LCL_OK) *c = more;
    return status;
}

void lcl_kv_cache_free(struct lcl_kv_cache *c)
{
    lcl_arena_free(&c->arena);
    *c = (struct lcl_kv_cache){0};
}
