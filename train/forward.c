#include "train/forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A case in a file: its tensors are called PREFIXname. */
struct source {
    const struct lcl_safetensors *st;
    const char *path, *prefix;
};

static const struct lcl_st_tensor *find(const struct source *s, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", s->prefix, name);
    return lcl_st_find(s->st, full);
}

static lcl_status read_i64(const struct source *s, const char *name, int64_t B, int64_t L,
                           int64_t **out)
{
    const struct lcl_st_tensor *t = find(s, name);
    char shape[96];
    if (!t) return LCL_FAIL(LCL_NOT_FOUND, "%s has no tensor %s%s", s->path, s->prefix, name);
    if (t->dtype != LCL_I64 || t->n_dims != 2 || (B >= 0 && (t->shape[0] != B || t->shape[1] != L)))
        return LCL_FAIL(LCL_SHAPE, "%s: %s is %s %s, wanted I64 [sequences, length]", s->path,
                        t->name, t->stored,
                        lcl_st_shape_text(t->n_dims, t->shape, shape, sizeof shape));
    *out = malloc((t->count ? t->count : 1) * sizeof **out);
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory for %s of %s", name, s->path);
    return lcl_st_read(t, 0, t->count, LCL_I64, *out);
}

struct inputs {
    int64_t *ids, *mask, *labels;
};

static void free_inputs(struct inputs *in)
{
    free(in->ids);
    free(in->mask);
    free(in->labels);
}

/* Room for the packed arrays: at most B * L of everything. */
static lcl_status allocate(struct lcl_case *c)
{
    size_t n = (size_t)(c->B * c->L);
    struct lcl_batch *b = &c->batch;
    int32_t *words = calloc(7 * n + 1, sizeof *words);
    b->runs = calloc((size_t)c->B + 1, sizeof *b->runs);
    b->image_I = calloc((size_t)c->n_images + 1, sizeof *b->image_I);
    b->view_I = calloc((size_t)c->n_images + 1, sizeof *b->view_I);
    b->weight_S = malloc((n + 1) * sizeof *b->weight_S);
    b->is_label_S = calloc(n + 1, 1);
    c->owned = words;
    if (!words || !b->runs || !b->image_I || !b->view_I || !b->weight_S || !b->is_label_S)
        return LCL_FAIL(LCL_MEMORY, "no memory for a case of %lld tokens", (long long)n);
    b->id_T = words;
    b->position_T = words + n;
    b->slot = words + 2 * n;
    b->slot_row = words + 3 * n;
    b->row_S = words + 4 * n;
    b->target_S = words + 5 * n;
    c->padded_T = words + 6 * n;
    return LCL_OK;
}

static lcl_status pack(struct lcl_case *c, const struct inputs *in,
                       const struct lcl_model_config *m, const char *path)
{
    struct lcl_batch *b = &c->batch;
    int64_t per_image = lcl_tokens_per_image(m);
    for (int64_t s = 0; s < c->B; s++) {
        int64_t begin = b->T, length = 0;
        while (length < c->L && (!in->mask || in->mask[s * c->L + length])) length++;
        for (int64_t t = 0; t < length; t++) {
            int64_t at = s * c->L + t, id = in->ids[at];
            if (id < 0 || id >= m->text.V)
                return LCL_FAIL(LCL_RANGE,
                                "%s: token id %lld of sequence %lld, the vocabulary has %lld", path,
                                (long long)id, (long long)s, (long long)m->text.V);
            c->padded_T[b->T] = (int32_t)at;
            b->id_T[b->T] = (int32_t)id;
            b->position_T[b->T] = (int32_t)t;
            if (id == m->image_token) {
                b->slot[b->n_slots] = (int32_t)b->T;
                b->slot_row[b->n_slots] = (int32_t)b->n_slots;
                b->n_slots++;
            }
            if (in->labels && t + 1 < length && in->labels[at + 1] >= 0) {
                b->row_S[b->S] = (int32_t)b->T;
                b->target_S[b->S] = (int32_t)in->labels[at + 1];
                b->weight_S[b->S++] = 1;
            }
            b->T++;
        }
        b->runs[b->n_runs++] = (struct lcl_attn_run){.q_begin = (int32_t)begin,
                                                     .q_end = (int32_t)b->T,
                                                     .own_begin = (int32_t)begin,
                                                     .own_end = (int32_t)b->T,
                                                     .group = (int32_t)s};
    }
    if (b->n_slots != c->n_images * per_image)
        return LCL_FAIL(
            LCL_SHAPE,
            "%s: %lld image placeholders, but %lld pictures of %lld tokens each take %lld", path,
            (long long)b->n_slots, (long long)c->n_images, (long long)per_image,
            (long long)(c->n_images * per_image));
    b->n_images = c->n_images;
    return LCL_OK;
}

static lcl_status read_pixels(const struct source *s, const struct lcl_model_config *m,
                              struct lcl_case *c)
{
    const struct lcl_st_tensor *t = find(s, "pixel_values");
    char shape[96];
    int64_t S = m->vision.image_size;
    if (!t) return LCL_OK;
    if (t->n_dims != 4 || t->shape[1] != 3 || t->shape[2] != S || t->shape[3] != S)
        return LCL_FAIL(LCL_SHAPE, "%s: %s is %s, wanted [pictures, 3, %lld, %lld]", s->path,
                        t->name, lcl_st_shape_text(t->n_dims, t->shape, shape, sizeof shape),
                        (long long)S, (long long)S);
    c->n_images = t->shape[0];
    c->pixels = malloc((t->count ? t->count : 1) * sizeof *c->pixels);
    if (!c->pixels) return LCL_FAIL(LCL_MEMORY, "no memory for the pictures of %s", s->path);
    return lcl_st_read(t, 0, t->count, LCL_F32, c->pixels);
}

lcl_status lcl_case_read(const struct lcl_safetensors *st, const char *path, const char *prefix,
                         const struct lcl_model_config *m, struct lcl_case *c)
{
    const struct source s = {st, path, prefix};
    struct inputs in = {0};
    *c = (struct lcl_case){0};
    const struct lcl_st_tensor *ids = find(&s, "input_ids");
    lcl_status status = read_i64(&s, "input_ids", -1, -1, &in.ids);
    if (status == LCL_OK) {
        c->B = ids->shape[0];
        c->L = ids->shape[1];
        if (find(&s, "attention_mask"))
            status = read_i64(&s, "attention_mask", c->B, c->L, &in.mask);
    }
    if (status == LCL_OK && find(&s, "labels"))
        status = read_i64(&s, "labels", c->B, c->L, &in.labels);
    if (status == LCL_OK) status = read_pixels(&s, m, c);
    if (status == LCL_OK) status = allocate(c);
    if (status == LCL_OK) status = pack(c, &in, m, path);
    free_inputs(&in);
    if (status != LCL_OK) lcl_case_free(c);
    return status;
}

void lcl_case_free(struct lcl_case *c)
{
    free(c->owned);
    free(c->pixels);
    free(c->batch.runs);
    free(c->batch.image_I);
    free(c->batch.view_I);
    free(c->batch.weight_S);
    free(c->batch.is_label_S);
    *c = (struct lcl_case){0};
}

/* Logits of every attended token, in their padded places. */
static lcl_status all_logits(struct lcl_pass *p, const struct lcl_case *c, float *logits_BLV)
{
    const struct lcl_model *m = p->model;
    int64_t T = c->batch.T, V = m->config.text.V;
    lcl_dtype dtype = lcl_model_dtype(m);
    int32_t *row = malloc((size_t)T * sizeof *row);
    float *packed = malloc((size_t)(T * V) * sizeof *packed);
    lcl_status status = LCL_OK;
    if (!row || !packed) {
        status =
            LCL_FAIL(LCL_MEMORY, "no memory for %lld x %lld logits", (long long)T, (long long)V);
    } else {
        for (int64_t t = 0; t < T; t++) row[t] = (int32_t)t;
        status = p->exec->ops->head_xent_fwd(
            p->exec, &(struct lcl_head_xent_args){.T = T,
                                                  .C = m->config.text.C,
                                                  .V = V,
                                                  .S = T,
                                                  .dtype = dtype,
                                                  .weight_dtype = dtype,
                                                  .logit_scale = 1,
                                                  .hidden_TC = p->text.hidden,
                                                  .weight_VC = lcl_model_weight(m, m->rows.head_w),
                                                  .row_S = row,
                                                  .logits_SV = packed});
        if (status == LCL_OK) status = lcl_exec_sync(p->exec);
        for (int64_t t = 0; t < T && status == LCL_OK; t++)
            memcpy(logits_BLV + c->padded_T[t] * V, packed + t * V, (size_t)V * sizeof *packed);
    }
    free(row);
    free(packed);
    return status;
}

/* Tensors of the output, f32, owned. */
struct outputs {
    struct lcl_st_item *item;
    size_t n;
    float *logits, loss;
    char (*name)[LCL_PARAM_NAME_BYTES + 8];
};

static void add_item(struct outputs *o, const char *name, lcl_dtype source, const void *data,
                     int n_dims, const int64_t *shape)
{
    struct lcl_st_item *it = &o->item[o->n++];
    *it = (struct lcl_st_item){
        .name = name, .dtype = LCL_F32, .source = source, .n_dims = n_dims, .data = data};
    for (int d = 0; d < n_dims; d++) it->shape[d] = shape[d];
}

static void add_grads(struct outputs *o, const struct lcl_model *m,
                      const struct lcl_hf_names *names)
{
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *r = &m->params.rows[i];
        if (!r->used || (names && names->name[i][0] == '\0')) continue;
        snprintf(o->name[i], sizeof o->name[i], "grad.%s", names ? names->name[i] : r->name);
        add_item(o, o->name[i], LCL_F32, m->params.grad + r->grad_at, r->n_dims, r->shape);
    }
}

static lcl_status run(struct lcl_pass *p, const struct lcl_case *c, struct outputs *o)
{
    const struct lcl_model *m = p->model;
    struct lcl_images images = {.pixels = c->pixels};
    double loss_sum = 0;
    LCL_TRY(p->exec->ops->zero_fwd(
        p->exec,
        &(struct lcl_zero_args){(int64_t)(m->params.n_elements * sizeof(float)), p->grad}));
    LCL_TRY(lcl_model_loss(p, &c->batch, &images, &loss_sum, NULL));
    LCL_TRY(all_logits(p, c, o->logits));
    if (c->batch.S == 0) return LCL_OK;
    LCL_TRY(lcl_model_step(p, &c->batch, &images, 1.0f / (float)c->batch.S, &loss_sum, NULL));
    LCL_TRY(lcl_exec_sync(p->exec));
    o->loss = (float)(loss_sum / (double)c->batch.S);
    return LCL_OK;
}

lcl_status lcl_forward_case(struct lcl_exec *exec, struct lcl_model *m,
                            const struct lcl_hf_names *names, const struct lcl_case *c,
                            const char *out_path)
{
    struct outputs o = {0};
    struct lcl_pass p = {.exec = exec,
                         .model = m,
                         .grad = m->params.grad,
                         .train_vision = true,
                         .train_projector = true,
                         .train_text = true,
                         .all_rows = true};
    const struct lcl_model_config *k = &m->config;
    lcl_dtype dtype = lcl_model_dtype(m);
    lcl_status status = LCL_OK;
    o.item = calloc((size_t)m->params.n_rows + 4, sizeof *o.item);
    o.name = calloc((size_t)m->params.n_rows, sizeof *o.name);
    o.logits = calloc((size_t)(c->B * c->L * k->text.V), sizeof *o.logits);
    if (!o.item || !o.name || !o.logits) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the outputs");
        goto out;
    }
    LCL_TRY_GOTO(run(&p, c, &o));
    if (c->n_images > 0) {
        add_item(&o, "vision_hidden", dtype, p.vision.out, 3,
                 (int64_t[]){c->n_images, lcl_vision_tokens(&k->vision), k->vision.C});
        add_item(&o, "image_features", dtype, p.projector.out, 3,
                 (int64_t[]){c->n_images, lcl_tokens_per_image(k), k->text.C});
    }
    add_item(&o, "logits", LCL_F32, o.logits, 3, (int64_t[]){c->B, c->L, k->text.V});
    if (c->batch.S > 0) {
        add_item(&o, "loss", LCL_F32, &o.loss, 0, NULL);
        add_grads(&o, m, names);
    }
    status = lcl_st_write(out_path, o.item, o.n, NULL);
out:
    lcl_pass_free(&p);
    free(o.item);
    free(o.name);
    free(o.logits);
    return status;
}
