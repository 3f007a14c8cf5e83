/* A pass: buffers of one packed batch, sized for the largest one, laid out anew for each. */
#include <stdlib.h>

#include "model/model.h"

lcl_status lcl_pass_linear(struct lcl_pass *p, struct lcl_layer_linear l, const void *x, void *y)
{
    lcl_dtype dtype = lcl_model_dtype(p->model);
    LCL_TRY(p->exec->ops->linear_fwd(
        p->exec, &(struct lcl_linear_args){.M = l.M,
                                           .N = l.N,
                                           .K = l.K,
                                           .dtype = dtype,
                                           .weight_dtype = lcl_model_weight_dtype(p->model, l.w),
                                           .x_MK = x,
                                           .weight_NK = lcl_model_weight(p->model, l.w),
                                           .weight_scale_NB = lcl_param_scale(
                                               &p->model->params, &p->model->params.rows[l.w]),
                                           .bias_N = lcl_model_vector(p->model, l.b),
                                           .y_MN = y}));
    return lcl_lora_fwd(p, l, x, y);
}

bool lcl_pass_linear_reads_x(struct lcl_pass *p, struct lcl_layer_linear l, bool train)
{
    const struct lcl_model *m = p->model;
    for (int64_t column = 0, row = l.w; column < l.N; column += m->params.rows[row++].shape[0])
        if (lcl_pass_grad(p, (int)row, train) || (m->adapter && m->adapter[row] >= 0)) return true;
    return false;
}

lcl_status lcl_pass_linear_bwd(struct lcl_pass *p, struct lcl_layer_linear l, const void *x,
                               const void *d_y, void *d_x, bool train)
{
    lcl_dtype dtype = lcl_model_dtype(p->model);
    LCL_TRY(p->exec->ops->linear_bwd(
        p->exec, &(struct lcl_linear_args){.M = l.M,
                                           .N = l.N,
                                           .K = l.K,
                                           .dtype = dtype,
                                           .weight_dtype = lcl_model_weight_dtype(p->model, l.w),
                                           .x_MK = x,
                                           .weight_NK = lcl_model_weight(p->model, l.w),
                                           .weight_scale_NB = lcl_param_scale(
                                               &p->model->params, &p->model->params.rows[l.w]),
                                           .d_y_MN = d_y,
                                           .d_x_MK = d_x,
                                           .d_weight_NK = lcl_pass_grad(p, l.w, train),
                                           .d_bias_N = lcl_pass_grad(p, l.b, train)}));
    return lcl_lora_bwd(p, l, x, d_y, d_x, train);
}

/* Layer structs live outside the arena: laying out on a measuring arena writes to them. */
static lcl_status make_layers(struct lcl_pass *p)
{
    const struct lcl_model_config *c = &p->model->config;
    if (p->vision.layer) return LCL_OK;
    p->qformer.layer =
        calloc((size_t)(c->qformer.n_layers ? c->qformer.n_layers : 1), sizeof *p->qformer.layer);
    p->vision.layer = calloc((size_t)c->vision.n_layers, sizeof *p->vision.layer);
    p->text.layer = calloc((size_t)c->text.n_layers, sizeof *p->text.layer);
    if (!p->vision.layer || !p->text.layer || !p->qformer.layer)
        return LCL_FAIL(LCL_MEMORY, "no memory for layer tables");
    return LCL_OK;
}

void lcl_pass_layout(struct lcl_pass *p, const struct lcl_pass_limits *l)
{
    const struct lcl_model_config *c = &p->model->config;
    size_t e = lcl_dtype_bytes(lcl_model_dtype(p->model));
    bool training = p->grad != NULL;
    int64_t R = l->images * lcl_tokens_per_image(c), M = l->images * lcl_feature_rows(c);
    int64_t feature_rows =
        M > l->images ? M : l->images; /* the classifier pools to one row a picture */
    p->arena.used_bytes = p->host.used_bytes = 0;
    lcl_lora_layout(
        p, (int64_t[LCL_PART_COUNT]){
               [LCL_PART_VISION] = l->with_vision ? l->images * lcl_vision_tokens(&c->vision) : 0,
               [LCL_PART_PROJECTOR] = R > M ? R : M,
               [LCL_PART_TEXT] = l->T});
    p->features = lcl_arena_alloc(&p->arena, (size_t)(feature_rows * c->vision.C), e);
    p->d_features = training && p->train_vision
                        ? lcl_arena_alloc(&p->arena, (size_t)(feature_rows * c->vision.C), e)
                        : NULL;
    if (l->with_vision) {
        /* A frozen tower's buffers are free once its output is there: the rest lies over them. */
        size_t rows = (size_t)(l->images * lcl_vision_tokens(&c->vision));
        p->vision.out = lcl_arena_alloc(&p->arena, rows * (size_t)c->vision.C, e);
        size_t mark = lcl_arena_mark(&p->arena);
        lcl_vision_layout(p, l->images, training && p->train_vision);
        if (!training || !p->train_vision) lcl_arena_release(&p->arena, mark);
    }
    p->row_logprob = LCL_ARENA_NEW(&p->host, float, (size_t)l->S);
    p->row_argmax = LCL_ARENA_NEW(&p->host, int32_t, (size_t)l->S);
    if (!l->with_text) {
        p->classify = (struct lcl_classify_saves){
            .normed = lcl_arena_alloc(&p->arena, (size_t)(l->images * c->vision.C), e),
            .d_normed = lcl_arena_alloc(&p->arena, (size_t)(l->images * c->vision.C), e),
            .norm = LCL_ARENA_NEW(&p->arena, float, (size_t)l->images),
            .weight = LCL_ARENA_NEW(&p->arena, float, (size_t)(c->n_classes * c->vision.C)),
            .d_weight = LCL_ARENA_NEW(&p->arena, float, (size_t)(c->n_classes * c->vision.C)),
            .weight_norm = LCL_ARENA_NEW(&p->arena, float, (size_t)c->n_classes),
            .row = LCL_ARENA_NEW(&p->host, int32_t, (size_t)l->images)};
        return;
    }
    lcl_projector_layout(p, l->images, training);
    int64_t rows = p->all_rows || l->S > l->T ? l->T : l->S;
    lcl_text_layout(p, l->T, rows, training);
    p->d_hidden = training ? lcl_arena_alloc(&p->arena, (size_t)(rows * c->text.C), e) : NULL;
}

/* Lays out on measuring arenas: bytes of tensors, and of the host's arrays. */
static size_t measure(const struct lcl_pass *proto, const struct lcl_pass_limits *limits,
                      size_t *host_bytes)
{
    struct lcl_pass p = *proto;
    p.vision.layer = NULL;
    p.qformer.layer = NULL;
    p.text.layer = NULL;
    lcl_arena_measure(&p.arena, "activations");
    lcl_arena_measure(&p.host, "indices");
    size_t bytes = SIZE_MAX;
    if (make_layers(&p) == LCL_OK) {
        lcl_pass_layout(&p, limits);
        bytes = p.arena.peak_bytes;
        *host_bytes = p.host.peak_bytes;
    }
    free(p.vision.layer);
    free(p.qformer.layer);
    free(p.text.layer);
    return bytes;
}

size_t lcl_pass_bytes(const struct lcl_pass *proto, const struct lcl_pass_limits *limits)
{
    size_t host_bytes = 0, bytes = measure(proto, limits, &host_bytes);
    return bytes == SIZE_MAX ? bytes : bytes + host_bytes;
}

lcl_status lcl_pass_reserve(struct lcl_pass *p, const struct lcl_pass_limits *limits)
{
    LCL_TRY(make_layers(p));
    size_t host_bytes = 0, bytes = measure(p, limits, &host_bytes);
    if (!p->arena.base || p->arena.size_bytes < bytes) {
        lcl_arena_free(&p->arena);
        LCL_TRY(lcl_arena_reserve(&p->arena, "activations", bytes));
    }
    if (p->host.base && p->host.size_bytes >= host_bytes) return LCL_OK;
    lcl_arena_free(&p->host);
    return lcl_arena_reserve_host(&p->host, "indices", host_bytes);
}

void lcl_pass_free(struct lcl_pass *p)
{
    lcl_arena_free(&p->arena);
    lcl_arena_free(&p->host);
    free(p->vision.layer);
    free(p->qformer.layer);
    free(p->text.layer);
    p->vision.layer = NULL;
    p->qformer.layer = NULL;
    p->text.layer = NULL;
}
