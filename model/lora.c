/* Low-rank adapters (Hu et al. 2021): a linear layer of weight W [N, K] becomes W + alpha / r B A
 * with A [r, K] and B [N, r], two rows of the parameter table behind the model's own.
 *
 * Legend: M rows, N outputs, K inputs, r rank. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/rng.h"
#include "core/threads.h"
#include "model/model.h"

/* ---- rows of the table ---- */

/* A linear layer of its own: neither a convolution nor a table, nor one that the loss reads. */
static bool is_linear(const struct lcl_model *m, int row)
{
    const struct lcl_param *p = &m->params.rows[row];
    return p->n_dims == 2 && !p->f32 && row != m->rows.embed && row != m->rows.head_w;
}

/* "[8-15]" before a number of that range: moves both over it. */
static bool takes_number(const char **pattern, const char **s)
{
    unsigned low, high;
    int used = 0;
    char *end;
    if (**pattern != '[' || !isdigit((unsigned char)**s) ||
        sscanf(*pattern, "[%5u-%5u]%n", &low, &high, &used) != 2 || used == 0)
        return false;
    unsigned long x = strtoul(*s, &end, 10);
    if (x < low || x > high) return false;
    *pattern += used;
    *s = end;
    return true;
}

/* * stands for any letters, ? for one, [a-b] for a number; the time is at most the product of the
 * lengths. */
static bool fits(const char *pattern, const char *s)
{
    const char *after_star = NULL, *from = NULL;
    while (*s) {
        if (*pattern == '*') {
            after_star = ++pattern;
            from = s;
        } else if (*pattern == *s || *pattern == '?') {
            pattern++;
            s++;
        } else if (takes_number(&pattern, &s)) {
            continue;
        } else if (after_star) {
            pattern = after_star;
            s = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == '\0';
}

/* A pattern names a module whole, or its end from a dot on. */
static bool matches(const char *pattern, const char *module)
{
    for (const char *end = module; end; end = strchr(end, '.')) {
        if (*end == '.') end++;
        if (fits(pattern, end)) return true;
    }
    return false;
}

static lcl_status add_adapter(struct lcl_model *m, int row, const char *module)
{
    const struct lcl_param base = m->params.rows[row];
    const int64_t N = base.shape[0], K = base.shape[1], r = m->config.lora.rank;
    char name[LCL_PARAM_NAME_BYTES + 16];
    int index;
    /* as PEFT: Kaiming-uniform with a = sqrt(5) */
    struct lcl_param_spec spec = {.part = base.part,
                                  .init = LCL_INIT_UNIFORM,
                                  .init_std = 1 / sqrtf((float)K),
                                  .decay = true,
                                  .unused = !base.used,
                                  .f32 = true,
                                  .adapter = true};
    snprintf(name, sizeof name, "%s.lora_A.weight", module);
    LCL_TRY(lcl_params_add(&m->params, name, 2, (int64_t[]){r, K}, spec, &m->adapter[row]));
    spec.init = LCL_INIT_ZEROS;
    snprintf(name, sizeof name, "%s.lora_B.weight", module);
    return lcl_params_add(&m->params, name, 2, (int64_t[]){N, r}, spec, &index);
}

/* Adapters of the layers that one pattern names and that have none yet. */
static lcl_status add_matching(struct lcl_model *m, const char *pattern, int *n)
{
    char module[LCL_PARAM_NAME_BYTES];
    for (int row = 0; row < m->n_base; row++) {
        if (!m->params.rows[row].linear) continue;
        snprintf(module, sizeof module, "%s", m->params.rows[row].name);
        module[strlen(module) - strlen(".weight")] = '\0';
        if (!matches(pattern, module)) continue;
        ++*n;
        if (m->adapter[row] < 0) LCL_TRY(add_adapter(m, row, module));
    }
    return LCL_OK;
}

lcl_status lcl_lora_add(struct lcl_model *m)
{
    char targets[LCL_LORA_TARGETS_BYTES], *rest = NULL;
    m->n_base = m->params.n_rows;
    for (int row = 0; row < m->n_base; row++) m->params.rows[row].linear = is_linear(m, row);
    if (m->config.lora.rank == 0) return LCL_OK;
    m->adapter = malloc((size_t)m->n_base * sizeof *m->adapter);
    if (!m->adapter) return LCL_FAIL(LCL_MEMORY, "no memory for the model's adapters");
    for (int row = 0; row < m->n_base; row++) m->adapter[row] = -1;
    snprintf(targets, sizeof targets, "%s", m->config.lora.targets);
    for (char *p = strtok_r(targets, ", ", &rest); p; p = strtok_r(NULL, ", ", &rest)) {
        int n = 0;
        LCL_TRY(add_matching(m, p, &n));
        if (n == 0)
            return LCL_FAIL_HINT(LCL_CONFIG,
                                 "a module's name or its end, with * for any letters: q_proj, "
                                 "language_model.*.mlp.down_proj, linear_1; [8-15] for numbers",
                                 "lora.targets: no linear layer is named \"%s\"", p);
    }
    if (m->params.n_rows > m->n_base) return LCL_OK;
    return LCL_FAIL(LCL_CONFIG, "lora.rank is %lld, but lora.targets names no layer",
                    (long long)m->config.lora.rank);
}

static float scale_of(const struct lcl_model *m)
{
    return (float)(m->config.lora.alpha / (double)m->config.lora.rank);
}

struct merging {
    int64_t r, K;
    double scale;
    const float *A, *B;
    float *W;
};

static lcl_status merge_row(void *ctx, int64_t n)
{
    enum { SOME = 256 };
    const struct merging *c = ctx;
    for (int64_t begin = 0; begin < c->K; begin += SOME) {
        const int64_t some = lcl_chunk_end(begin / SOME, SOME, c->K) - begin;
        float *W = c->W + n * c->K + begin;
        double sum[SOME] = {0};
        for (int64_t i = 0; i < c->r; i++) {
            const double b = c->scale * (double)c->B[n * c->r + i];
            for (int64_t k = 0; k < some; k++) sum[k] += b * (double)c->A[i * c->K + begin + k];
        }
        for (int64_t k = 0; k < some; k++) W[k] = (float)((double)W[k] + sum[k]);
    }
    return LCL_OK;
}

lcl_status lcl_lora_merge(struct lcl_model *m)
{
    const int64_t r = m->config.lora.rank;
    for (int row = 0; m->adapter && row < m->n_base; row++) {
        const struct lcl_param *base = &m->params.rows[row];
        if (m->adapter[row] < 0) continue;
        const float *A = lcl_model_vector(m, m->adapter[row]);
        float *B = lcl_param_value(&m->params, &m->params.rows[m->adapter[row] + 1]);
        float *W = lcl_param_value(&m->params, base);
        const int64_t N = base->shape[0], K = base->shape[1];
        if (!W) return LCL_FAIL(LCL_UNSUPPORTED, "adapters merge into float32 weights only");
        struct merging c = {r, K, (double)scale_of(m), A, B, W};
        LCL_TRY(lcl_parallel(N, merge_row, &c));
        memset(B, 0, (size_t)(N * r) * sizeof *B);
    }
    lcl_params_changed(&m->params);
    return LCL_OK;
}

/* ---- forward and backward ---- */

static bool drops(const struct lcl_pass *p) { return p->grad && p->dropout.p > 0; }

void lcl_lora_layout(struct lcl_pass *p, const int64_t rows_of_part[LCL_PART_COUNT])
{
    const struct lcl_model *m = p->model;
    const size_t e = lcl_dtype_bytes(lcl_model_dtype(m));
    int64_t narrow = 0, wide = 0;
    for (int row = 0; m->adapter && row < m->n_base; row++) {
        const struct lcl_param *base = &m->params.rows[row];
        int64_t M = rows_of_part[base->part];
        if (m->adapter[row] < 0 || !base->used) continue;
        if (M > narrow) narrow = M;
        if (M * base->shape[1] > wide) wide = M * base->shape[1];
    }
    if (!m->adapter) return;
    p->lora_u = lcl_arena_alloc(&p->arena, (size_t)(narrow * m->config.lora.rank), e);
    if (p->grad)
        p->lora_d_u = lcl_arena_alloc(&p->arena, (size_t)(narrow * m->config.lora.rank), e);
    if (drops(p)) p->lora_x = lcl_arena_alloc(&p->arena, (size_t)wide, e);
}

/* u = x A^T, and columns of y += scale u B^T. */
struct adapter {
    int row; /* of A; B is the next */
    struct lcl_linear_args down, up;
};

/* The adapter of the weight in `row`, one of those that are l's; false: none. */
static bool find_adapter(const struct lcl_pass *p, struct lcl_layer_linear l, int row,
                         struct adapter *a)
{
    const struct lcl_model *m = p->model;
    const lcl_dtype dtype = lcl_model_dtype(m);
    if (m->adapter[row] < 0) return false;
    a->row = m->adapter[row];
    a->down = (struct lcl_linear_args){.M = l.M,
                                       .N = m->config.lora.rank,
                                       .K = l.K,
                                       .dtype = dtype,
                                       .weight_dtype = dtype,
                                       .weight_NK = lcl_model_weight(m, a->row),
                                       .y_MN = p->lora_u,
                                       .d_y_MN = p->lora_d_u,
                                       .accumulate_d_x = true};
    a->up = (struct lcl_linear_args){.M = l.M,
                                     .N = m->params.rows[row].shape[0],
                                     .K = m->config.lora.rank,
                                     .y_stride = l.N,
                                     .scale = scale_of(m),
                                     .dtype = dtype,
                                     .weight_dtype = dtype,
                                     .x_MK = p->lora_u,
                                     .weight_NK = lcl_model_weight(m, a->row + 1),
                                     .accumulate_y = true,
                                     .d_x_MK = p->lora_d_u};
    return true;
}

/* Of the adapter's input; forward and backward make the same mask. */
static struct lcl_dropout_args dropout_args(const struct lcl_pass *p, struct lcl_layer_linear l,
                                            int row)
{
    const char *name = p->model->params.rows[row].name;
    return (struct lcl_dropout_args){.count = l.M * l.K,
                                     .dtype = lcl_model_dtype(p->model),
                                     .p = p->dropout.p,
                                     .seed = p->dropout.seed,
                                     .stream = lcl_hash_string(name) +
                                               p->dropout.lane * 0x9E3779B97F4A7C15u,
                                     .epoch = p->dropout.epoch};
}

/* The adapter's input: x, or in a training pass some of it, in p->lora_x. */
static lcl_status choose_input(struct lcl_pass *p, struct lcl_layer_linear l, struct adapter *a,
                               const void *x)
{
    struct lcl_dropout_args d = dropout_args(p, l, a->row);
    a->down.x_MK = drops(p) ? p->lora_x : x;
    if (!drops(p)) return LCL_OK;
    d.x = x;
    d.y = p->lora_x;
    return p->exec->ops->dropout_fwd(p->exec, &d);
}

/* d_x and the gradient of A; where inputs are dropped, d_x by way of p->lora_x. */
static lcl_status down_bwd(struct lcl_pass *p, struct lcl_layer_linear l, struct adapter *a,
                           void *d_x)
{
    const struct lcl_ops *ops = p->exec->ops;
    struct lcl_dropout_args d = dropout_args(p, l, a->row);
    if (!drops(p)) a->down.d_x_MK = d_x;
    LCL_TRY(ops->linear_bwd(p->exec, &a->down));
    if (!drops(p) || !d_x) return LCL_OK;
    a->down.d_weight_NK = NULL;
    a->down.d_x_MK = p->lora_x;
    a->down.accumulate_d_x = false;
    LCL_TRY(ops->linear_bwd(p->exec, &a->down));
    d.d_y = p->lora_x;
    d.d_x = d_x;
    d.accumulate_d_x = true;
    return ops->dropout_bwd(p->exec, &d);
}

static size_t column_bytes(const struct lcl_pass *p, int64_t column)
{
    return (size_t)column * lcl_dtype_bytes(lcl_model_dtype(p->model));
}

lcl_status lcl_lora_fwd(struct lcl_pass *p, struct lcl_layer_linear l, const void *x, void *y)
{
    const struct lcl_param *rows = p->model->params.rows;
    struct adapter a;
    if (!p->model->adapter) return LCL_OK;
    for (int64_t column = 0, row = l.w; column < l.N; column += rows[row++].shape[0]) {
        if (!find_adapter(p, l, (int)row, &a)) continue;
        LCL_TRY(choose_input(p, l, &a, x));
        a.up.y_MN = (char *)y + column_bytes(p, column);
        LCL_TRY(p->exec->ops->linear_fwd(p->exec, &a.down));
        LCL_TRY(p->exec->ops->linear_fwd(p->exec, &a.up));
    }
    return LCL_OK;
}

lcl_status lcl_lora_bwd(struct lcl_pass *p, struct lcl_layer_linear l, const void *x,
                        const void *d_y, void *d_x, bool train)
{
    const struct lcl_param *rows = p->model->params.rows;
    struct adapter a;
    if (!p->model->adapter) return LCL_OK;
    for (int64_t column = 0, row = l.w; column < l.N; column += rows[row++].shape[0]) {
        if (!find_adapter(p, l, (int)row, &a)) continue;
        LCL_TRY(choose_input(p, l, &a, x));
        a.down.d_weight_NK = lcl_pass_grad(p, a.row, train);
        a.up.d_y_MN = (const char *)d_y + column_bytes(p, column);
        a.up.d_weight_NK = lcl_pass_grad(p, a.row + 1, train);
        LCL_TRY(p->exec->ops->linear_fwd(p->exec, &a.down)); /* u again: it is small */
        LCL_TRY(p->exec->ops->linear_bwd(p->exec, &a.up));
        LCL_TRY(down_bwd(p, l, &a, d_x));
    }
    return LCL_OK;
}
