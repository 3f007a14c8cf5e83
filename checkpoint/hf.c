#include "checkpoint/hf.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

bool lcl_hf_is_folder(const char *dir)
{
    char *path = lcl_strdupf("%s/config.json", dir);
    bool there = path && lcl_fs_is_dir(dir) && lcl_fs_exists(path);
    free(path);
    return there;
}

lcl_status lcl_hf_load_config(const char *dir, struct lcl_model_config *m)
{
    struct lcl_safetensors st;
    LCL_TRY(lcl_st_open(dir, &st));
    lcl_status status = lcl_hf_config_read(dir, &st, m);
    lcl_st_close(&st);
    return status;
}

/* ---- matching tensors to rows ---- */

/* A list of complaints for one message, cut short when it grows long. */
struct complaints {
    int n;
    size_t used;
    char text[1500];
};

static void complain(struct complaints *c, const char *fmt, ...) LCL_PRINTF(2, 3);
static void complain(struct complaints *c, const char *fmt, ...)
{
    char line[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    c->n++;
    size_t need = strlen(line) + 3;
    if (c->used + need >= sizeof c->text) return;
    c->used += (size_t)snprintf(c->text + c->used, sizeof c->text - c->used, "\n  %s", line);
}

struct matching {
    const char *dir;
    struct lcl_safetensors st;
    struct lcl_model_config config;
    const struct lcl_st_tensor **of_row; /* [n_rows] */
    const struct lcl_st_tensor *second_w,
        *second_b; /* of a linear projector: an affine map after it */
    struct complaints bad;
};

static bool is_buffer(const char *name)
{
    static const char *const ends[] = {".position_ids", ".rotary_emb.inv_freq"};
    size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}

/* Rows that no HF folder holds. */
static bool is_own_row(const struct lcl_param *p)
{
    return p->part == LCL_PART_HEAD || strncmp(p->name, "image_standardize.", 18) == 0;
}

static lcl_status match_tensor(struct matching *m, struct lcl_params *t, unsigned parts,
                               const struct lcl_st_tensor *tensor)
{
    char name[LCL_PARAM_NAME_BYTES];
    LCL_TRY(lcl_hf_table_name(tensor->name, name));
    const struct lcl_param *p = lcl_params_find(t, name);
    if (p) {
        const struct lcl_st_tensor **slot = &m->of_row[p - t->rows];
        if (*slot) complain(&m->bad, "both %s and %s are %s", (*slot)->name, tensor->name, name);
        *slot = tensor;
        return LCL_OK;
    }
    bool linear = m->config.projector == LCL_PROJECTOR_LINEAR;
    if (linear && strcmp(name, "multi_modal_projector.linear_2.weight") == 0)
        m->second_w = tensor;
    else if (linear && strcmp(name, "multi_modal_projector.linear_2.bias") == 0)
        m->second_b = tensor;
    else if (m->config.text.tied && strcmp(name, "language_model.lm_head.weight") == 0)
        return LCL_OK; /* equal to the embedding: lcl_hf_config_read looked */
    else if (parts == LCL_ALL_PARTS && !is_buffer(tensor->name))
        complain(&m->bad, "left over: %.200s", tensor->name);
    return LCL_OK;
}

static void check_row(struct matching *m, const struct lcl_param *p,
                      const struct lcl_st_tensor *tensor)
{
    if (!tensor) {
        complain(&m->bad, "missing: %s", p->name);
        return;
    }
    bool same = tensor->n_dims == p->n_dims;
    for (int d = 0; same && d < p->n_dims; d++) same = tensor->shape[d] == p->shape[d];
    if (!same) {
        char has[128], wants[128];
        complain(&m->bad, "misshapen: %.200s is %s, wanted %s", tensor->name,
                 lcl_st_shape_text(tensor->n_dims, tensor->shape, has, sizeof has),
                 lcl_st_shape_text(p->n_dims, p->shape, wants, sizeof wants));
    } else if (tensor->dtype > LCL_F64) {
        complain(&m->bad, "not floating: %.200s is of type %s", tensor->name, tensor->stored);
    }
}

static void check_second(struct matching *m)
{
    int64_t C = m->config.text.C;
    const struct lcl_st_tensor *w = m->second_w, *b = m->second_b;
    if (w && (w->n_dims != 2 || w->shape[0] != C || w->shape[1] != C || w->dtype > LCL_F64))
        complain(&m->bad, "misshapen: %.200s", w->name);
    if (b && (!w || b->n_dims != 1 || b->shape[0] != C || b->dtype > LCL_F64))
        complain(&m->bad, "misshapen: %.200s", b->name);
}

static lcl_status match_all(struct matching *m, struct lcl_params *t, unsigned parts)
{
    LCL_TRY(lcl_st_open(m->dir, &m->st));
    LCL_TRY(lcl_hf_config_read(m->dir, &m->st, &m->config));
    m->of_row = calloc((size_t)t->n_rows + 1, sizeof *m->of_row);
    if (!m->of_row) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", m->dir);
    for (size_t i = 0; i < m->st.n_tensors; i++)
        LCL_TRY(match_tensor(m, t, parts, &m->st.tensors[i]));
    for (int i = 0; i < t->n_rows; i++)
        if (parts >> t->rows[i].part & 1u && !is_own_row(&t->rows[i]))
            check_row(m, &t->rows[i], m->of_row[i]);
    check_second(m);
    if (m->bad.n == 0) return LCL_OK;
    return LCL_FAIL_HINT(
        LCL_SHAPE, "the weights and config.json, or the model that is asked for, differ",
        "%s does not fit the model; %d tensor%s:%s%s", m->dir, m->bad.n, m->bad.n == 1 ? "" : "s",
        m->bad.text, m->bad.n > 0 && m->bad.used + 403 > sizeof m->bad.text ? "\n  ..." : "");
}

/* ---- filling ---- */

/* y = W2 (W1 x + b1) + b2 as one layer, in double: exact where W2 is the identity that lcl_hf_save
 * writes behind a linear projector. */
static lcl_status merge_second(const struct matching *m, struct lcl_params *t)
{
    struct lcl_param *w1 = lcl_params_find(t, "multi_modal_projector.linear_1.weight");
    struct lcl_param *b1 = lcl_params_find(t, "multi_modal_projector.linear_1.bias");
    size_t N = (size_t)w1->shape[0], K = (size_t)w1->shape[1];
    double *w2 = malloc((N * N + N + N * K + N + 1) * sizeof *w2);
    if (!w2) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", m->dir);
    double *b2 = w2 + N * N, *w = b2 + N, *b = w + N * K;
    float *v1 = t->value + w1->offset, *c1 = b1 ? t->value + b1->offset : NULL;
    lcl_status status = LCL_OK;
    memset(b2, 0, (N + N * K + N) * sizeof *w2);
    LCL_TRY_GOTO(lcl_st_read(m->second_w, 0, N * N, LCL_F64, w2));
    if (m->second_b) LCL_TRY_GOTO(lcl_st_read(m->second_b, 0, N, LCL_F64, b2));
    bool identity = true;
    for (size_t i = 0; i < N; i++) {
        b[i] = b2[i];
        identity = identity && b2[i] == 0;
        for (size_t j = 0; j < N; j++) {
            identity = identity && w2[i * N + j] == (i == j ? 1 : 0);
            if (w2[i * N + j] == 0) continue;
            if (c1) b[i] += w2[i * N + j] * (double)c1[j];
            for (size_t k = 0; k < K; k++) w[i * K + k] += w2[i * N + j] * (double)v1[j * K + k];
        }
    }
    if (identity) goto out;
    lcl_log_warn("%s: the projector's two linear layers are merged into one", m->dir);
    for (size_t i = 0; i < N * K; i++) v1[i] = (float)w[i];
    for (size_t i = 0; c1 && i < N; i++) c1[i] = (float)b[i];
out:
    free(w2);
    return status;
}

static lcl_status fill(const struct matching *m, struct lcl_params *t, unsigned parts)
{
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        if (!(parts >> p->part & 1u)) continue;
        float *value = t->value + p->offset;
        if (m->of_row[i]) {
            LCL_TRY(lcl_st_read(m->of_row[i], 0, p->count, LCL_F32, value));
        } else if (strncmp(p->name, "image_standardize.", 18) == 0) {
            float constant = strcmp(p->name, "image_standardize.mean") == 0 ? 0.0f : 1.0f;
            for (size_t k = 0; k < p->count; k++) value[k] = constant;
        }
    }
    if (m->second_w && parts >> LCL_PART_PROJECTOR & 1u) LCL_TRY(merge_second(m, t));
    lcl_params_changed(t);
    return LCL_OK;
}

static lcl_status keep_names(const struct matching *m, const struct lcl_params *t,
                             struct lcl_hf_names *names)
{
    names->name = calloc((size_t)t->n_rows + 1, sizeof *names->name);
    if (!names->name) return LCL_FAIL(LCL_MEMORY, "no memory for %d names", t->n_rows);
    names->n_rows = t->n_rows;
    for (int i = 0; i < t->n_rows; i++)
        if (m->of_row[i])
            snprintf(names->name[i], sizeof names->name[i], "%.*s", LCL_PARAM_NAME_BYTES - 1,
                     m->of_row[i]->name);
    return LCL_OK;
}

lcl_status lcl_hf_load(const char *dir, struct lcl_params *t, unsigned parts,
                       struct lcl_hf_names *names)
{
    struct matching *m = calloc(1, sizeof *m);
    if (names) *names = (struct lcl_hf_names){0};
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory to load %s", dir);
    m->dir = dir;
    lcl_status status = match_all(m, t, parts);
    if (status == LCL_OK && names) status = keep_names(m, t, names);
    if (status == LCL_OK) status = fill(m, t, parts);
    if (status != LCL_OK && names) lcl_hf_names_free(names);
    lcl_st_close(&m->st);
    free(m->of_row);
    free(m);
    return status;
}
