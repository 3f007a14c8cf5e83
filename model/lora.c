/* Low-rank adapters (Hu et al. 2021): a linear layer of weight W [N, K] becomes W + alpha / r B A
 * with A [r, K] and B [N, r], two rows of the parameter table behind the model's own.
 *
 * Legend: M rows, N outputs, K inputs, r rank. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "model/model.h"

/* ---- rows of the table ---- */

/* A linear layer of its own: neither a convolution nor a table, nor one that the loss reads. */
static bool is_linear(const struct lcl_model *m, int row)
{
    const struct lcl_param *p = &m->params.rows[row];
    return p->n_dims == 2 && !p->f32 && row != m->rows.embed && row != m->rows.head_w;
}

/* * stands for any letters, ? for one; the time is at most the product of the lengths. */
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
        if (!is_linear(m, row)) continue;
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
                                 "language_model.*.mlp.down_proj, linear_1",
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
        const double scale = (double)scale_of(m);
        if (!W) return LCL_FAIL(LCL_UNSUPPORTED, "adapters merge into float32 weights only");
        for (int64_t n = 0; n < N; n++)
            for (int64_t k = 0; k < K; k++) {
                double sum = 0;
                for (int64_t i = 0; i < r; i++) sum += (double)B[n * r + i] * (double)A[i * K + k];
                W[n * K + k] = (float)((double)W[n * K + k] + scale * sum);
            }
        memset(B, 0, (size_t)(N * r) * sizeof *B);
    }
    lcl_params_changed(&m->params);
    return LCL_OK;
}

/* ---- forward and backward ---- */

void lcl_lora_layout(struct lcl_pass *p, int64_t M)
{
    const struct lcl_model *m = p->model;
    const size_t e = lcl_dtype_bytes(lcl_model_dtype(m));
    if (!m->adapter) return;
    p->lora_u = lcl_arena_alloc(&p->arena, (size_t)(M * m->config.lora.rank), e);
    if (p->grad) p->lora_d_u = lcl_arena_alloc(&p->arena, (size_t)(M * m->config.lora.rank), e);
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
        a.down.x_MK = x;
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
        a.down.x_MK = x;
        a.down.d_x_MK = d_x;
        a.down.d_weight_NK = lcl_pass_grad(p, a.row, train);
        a.up.d_y_MN = (const char *)d_y + column_bytes(p, column);
        a.up.d_weight_NK = lcl_pass_grad(p, a.row + 1, train);
        LCL_TRY(p->exec->ops->linear_fwd(p->exec, &a.down)); /* u again: it is small */
        LCL_TRY(p->exec->ops->linear_bwd(p->exec, &a.up));
        LCL_TRY(p->exec->ops->linear_bwd(p->exec, &a.down));
    }
    return LCL_OK;
}
