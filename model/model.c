/* The join: pictures -> tower -> pool -> projector -> slots of the text -> decoder -> loss on the
 * supervised rows, and back. */
#include "model/model.h"

static lcl_status pool(struct lcl_pass *p, int64_t n, enum lcl_image_pool_kind kind, bool backward)
{
    const struct lcl_model_config *c = &p->model->config;
    struct lcl_image_pool_args a = {.I = n,
                                    .T = lcl_vision_tokens(&c->vision),
                                    .C = c->vision.C,
                                    .first_token = c->keep_class ? 0 : 1,
                                    .dtype = lcl_model_dtype(p->model),
                                    .kind = kind,
                                    .x_ITC = p->vision.out,
                                    .y = p->features,
                                    .d_y = p->d_features,
                                    .d_x_ITC = p->vision.d_x};
    return backward ? p->exec->ops->image_pool_bwd(p->exec, &a)
                    : p->exec->ops->image_pool_fwd(p->exec, &a);
}

lcl_status lcl_model_vision_fwd(struct lcl_pass *p, const float *pixels, int64_t n)
{
    LCL_TRY(lcl_pass_reserve(p, &(struct lcl_pass_limits){.images = n, .with_vision = true}));
    lcl_pass_layout(p, &(struct lcl_pass_limits){.images = n, .with_vision = true});
    LCL_TRY(lcl_vision_fwd(p, &(struct lcl_images){.pixels = pixels}));
    return pool(p, n, p->model->config.pool, false);
}

static lcl_status image_features(struct lcl_pass *p, const struct lcl_batch *b,
                                 const struct lcl_images *images)
{
    const struct lcl_model_config *c = &p->model->config;
    if (b->n_images == 0) return LCL_OK;
    if (lcl_images_need_tower(images)) {
        LCL_TRY(lcl_vision_fwd(p, images));
        LCL_TRY(pool(p, b->n_images, c->pool, false));
    } else {
        LCL_TRY(p->exec->ops->upload_fwd(
            p->exec,
            &(struct lcl_upload_args){.count = b->n_images * lcl_feature_rows(c) * c->vision.C,
                                      .y_dtype = lcl_model_dtype(p->model),
                                      .x = images->features,
                                      .y = p->features}));
    }
    return lcl_projector_fwd(p, p->features);
}

static struct lcl_splice_args splice_args(struct lcl_pass *p, const struct lcl_batch *b)
{
    return (struct lcl_splice_args){.n = b->n_slots,
                                    .T = b->T,
                                    .R = p->projector.R,
                                    .C = p->model->config.text.C,
                                    .dtype = lcl_model_dtype(p->model),
                                    .slot = b->slot,
                                    .src_row = b->slot_row,
                                    .src_RC = p->projector.out,
                                    .dst_TC = p->text.layer[0].x,
                                    .d_dst_TC = p->text.d_x,
                                    .d_src_RC = p->projector.d_out};
}

static struct lcl_embed_args embed_args(struct lcl_pass *p, const struct lcl_batch *b)
{
    const struct lcl_text_config *t = &p->model->config.text;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    return (struct lcl_embed_args){.T = b->T,
                                   .C = t->C,
                                   .V = t->V,
                                   .dtype = dtype,
                                   .table_dtype = dtype,
                                   .id_T = b->id_T,
                                   .table_VC = lcl_model_weight(p->model, p->model->rows.embed),
                                   .out_TC = p->text.layer[0].x,
                                   .d_out_TC = p->text.d_x,
                                   .d_table_VC =
                                       lcl_pass_grad(p, p->model->rows.embed, p->train_text)};
}

lcl_status lcl_model_embed(struct lcl_pass *p, const struct lcl_batch *b,
                           const struct lcl_images *images)
{
    LCL_TRY(image_features(p, b, images));
    struct lcl_embed_args e = embed_args(p, b);
    LCL_TRY(p->exec->ops->embed_fwd(p->exec, &e));
    if (b->n_slots == 0) return LCL_OK;
    struct lcl_splice_args s = splice_args(p, b);
    return p->exec->ops->splice_fwd(p->exec, &s);
}

lcl_status lcl_pass_layout_batch(struct lcl_pass *p, const struct lcl_batch *b, bool with_vision)
{
    struct lcl_pass_limits l = {
        .T = b->T, .images = b->n_images, .S = b->S, .with_vision = with_vision, .with_text = true};
    if (b->n_images > 0 && b->n_slots % b->n_images != 0 && b->n_slots < b->n_images)
        return LCL_FAIL(LCL_SHAPE, "batch of %lld pictures has %lld slots", (long long)b->n_images,
                        (long long)b->n_slots);
    LCL_TRY(lcl_pass_reserve(p, &l));
    lcl_pass_layout(p, &l);
    return LCL_OK;
}

static struct lcl_head_xent_args head_args(struct lcl_pass *p, const struct lcl_batch *b)
{
    const struct lcl_text_config *t = &p->model->config.text;
    lcl_dtype dtype = lcl_model_dtype(p->model);
    return (struct lcl_head_xent_args){.T = p->text.R,
                                       .C = t->C,
                                       .V = t->V,
                                       .S = b->S,
                                       .dtype = dtype,
                                       .weight_dtype = dtype,
                                       .logit_scale = 1,
                                       .hidden_TC = p->text.hidden,
                                       .weight_VC =
                                           lcl_model_weight(p->model, p->model->rows.head_w),
                                       .row_S = p->text.R < b->T ? p->text.index_R : b->row_S,
                                       .target_S = b->target_S,
                                       .weight_S = b->weight_S};
}

static lcl_status forward(struct lcl_pass *p, const struct lcl_batch *b,
                          const struct lcl_images *images, const struct lcl_attn_run *runs,
                          struct lcl_kv_cache *cache, const int32_t *cache_row)
{
    LCL_TRY(lcl_pass_layout_batch(p, b, lcl_images_need_tower(images) && b->n_images > 0));
    LCL_TRY(lcl_model_embed(p, b, images));
    return lcl_text_fwd(p, b->position_T, b->row_S, b->n_runs, runs, cache, cache_row);
}

static lcl_status loss(struct lcl_pass *p, const struct lcl_batch *b, double *loss_sum,
                       float *logits_SV)
{
    struct lcl_head_xent_args h = head_args(p, b);
    h.loss_sum = loss_sum;
    h.logprob_S = p->row_logprob;
    h.argmax_S = p->row_argmax;
    h.logits_SV = logits_SV;
    LCL_TRY(p->exec->ops->head_xent_fwd(p->exec, &h));
    return lcl_exec_sync(p->exec);
}

lcl_status lcl_model_loss(struct lcl_pass *p, const struct lcl_batch *b,
                          const struct lcl_images *images, double *loss_sum, float *logits_SV)
{
    LCL_TRY(forward(p, b, images, b->runs, NULL, NULL));
    return loss(p, b, loss_sum, logits_SV);
}

lcl_status lcl_model_loss_cached(struct lcl_pass *p, const struct lcl_batch *b,
                                 const struct lcl_images *images, const struct lcl_attn_run *runs,
                                 struct lcl_kv_cache *cache, const int32_t *cache_row,
                                 double *loss_sum)
{
    LCL_TRY(forward(p, b, images, runs, cache, cache_row));
    return loss(p, b, loss_sum, NULL);
}

lcl_status lcl_model_step(struct lcl_pass *p, const struct lcl_batch *b,
                          const struct lcl_images *images, float grad_scale, double *loss_sum,
                          int32_t *argmax_S)
{
    LCL_TRY(forward(p, b, images, b->runs, NULL, NULL));
    struct lcl_head_xent_args h = head_args(p, b);
    h.loss_sum = loss_sum;
    h.argmax_S = argmax_S;
    h.grad_scale = grad_scale;
    h.d_hidden_TC = p->d_hidden;
    h.d_weight_VC = lcl_pass_grad(p, p->model->rows.head_w, p->train_text);
    LCL_TRY(p->exec->ops->head_xent_bwd(p->exec, &h));
    LCL_TRY(lcl_text_bwd(p, b->position_T, b->n_runs, b->runs, p->d_hidden));
    if (b->n_slots > 0) {
        struct lcl_splice_args s = splice_args(p, b);
        LCL_TRY(
            p->exec->ops->splice_bwd(p->exec, &s)); /* also zeroes the slots' rows for the table */
    }
    struct lcl_embed_args e = embed_args(p, b);
    if (e.d_table_VC) LCL_TRY(p->exec->ops->embed_bwd(p->exec, &e));
    bool vision = p->train_vision && lcl_images_need_tower(images);
    if (b->n_images == 0 || (!p->train_projector && !vision)) return LCL_OK;
    LCL_TRY(lcl_projector_bwd(p, vision ? p->d_features : NULL));
    if (!vision) return LCL_OK;
    LCL_TRY(pool(p, b->n_images, p->model->config.pool, true));
    return lcl_vision_bwd(p, p->vision.d_x);
}

static lcl_status classifier_logits(struct lcl_pass *p, int64_t n, struct lcl_l2norm_args *feature,
                                    struct lcl_l2norm_args *weight)
{
    const struct lcl_model *m = p->model;
    *feature = (struct lcl_l2norm_args){.M = n,
                                        .C = m->config.vision.C,
                                        .dtype = lcl_model_dtype(m),
                                        .eps = 1e-6f,
                                        .x_MC = p->features,
                                        .y_MC = p->classify.normed,
                                        .norm_M = p->classify.norm,
                                        .d_y_MC = p->classify.d_normed,
                                        .d_x_MC = p->d_features};
    *weight = (struct lcl_l2norm_args){.M = m->config.n_classes,
                                       .C = m->config.vision.C,
                                       .dtype = LCL_F32,
                                       .eps = 1e-6f,
                                       .x_MC = lcl_model_vector(m, m->rows.classifier),
                                       .y_MC = p->classify.weight,
                                       .norm_M = p->classify.weight_norm,
                                       .d_y_MC = p->classify.d_weight,
                                       .d_x_MC = p->classify.d_weight};
    LCL_TRY(p->exec->ops->l2norm_fwd(p->exec, feature));
    return p->exec->ops->l2norm_fwd(p->exec, weight);
}

lcl_status lcl_model_classify_step(struct lcl_pass *p, const struct lcl_images *images,
                                   const int32_t *label, int64_t n, float logit_scale,
                                   float grad_scale, double *loss_sum, int32_t *argmax_n)
{
    const struct lcl_model *m = p->model;
    const struct lcl_ops *ops = p->exec->ops;
    struct lcl_l2norm_args feature, weight;
    struct lcl_pass_limits l = {.images = n, .S = n, .with_vision = true};
    LCL_TRY(lcl_pass_reserve(p, &l));
    lcl_pass_layout(p, &l);
    LCL_TRY(lcl_vision_fwd(p, images));
    LCL_TRY(pool(p, n, LCL_POOL_MEAN, false));
    LCL_TRY(classifier_logits(p, n, &feature, &weight));
    for (int64_t i = 0; i < n; i++) p->classify.row[i] = (int32_t)i;
    float *d_classifier = lcl_pass_grad(p, m->rows.classifier, true);
    size_t weight_count = (size_t)(m->config.n_classes * m->config.vision.C);
    struct lcl_head_xent_args h = {.T = n,
                                   .C = m->config.vision.C,
                                   .V = m->config.n_classes,
                                   .S = n,
                                   .dtype = lcl_model_dtype(m),
                                   .weight_dtype = LCL_F32,
                                   .logit_scale = logit_scale,
                                   .hidden_TC = p->classify.normed,
                                   .weight_VC = p->classify.weight,
                                   .row_S = p->classify.row,
                                   .target_S = label,
                                   .loss_sum = loss_sum,
                                   .argmax_S = argmax_n,
                                   .grad_scale = grad_scale,
                                   .d_hidden_TC = p->classify.d_normed,
                                   .d_weight_VC = p->classify.d_weight};
    LCL_TRY(ops->zero_fwd(p->exec, &(struct lcl_zero_args){(int64_t)(weight_count * sizeof(float)),
                                                           p->classify.d_weight}));
    LCL_TRY(ops->head_xent_bwd(p->exec, &h));
    LCL_TRY(ops->l2norm_bwd(p->exec, &weight));
    LCL_TRY(ops->add_fwd(p->exec, &(struct lcl_add_args){.count = (int64_t)weight_count,
                                                         .x_dtype = LCL_F32,
                                                         .y_dtype = LCL_F32,
                                                         .scale = 1,
                                                         .x = p->classify.d_weight,
                                                         .y = d_classifier}));
    LCL_TRY(ops->l2norm_bwd(p->exec, &feature));
    LCL_TRY(pool(p, n, LCL_POOL_MEAN, true));
    return lcl_vision_bwd(p, p->vision.d_x);
}
