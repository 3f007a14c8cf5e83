/* The projector: image features to the decoder's width; one linear layer, two with a GELU between
 * (LLaVA-1.5), or a Q-Former (qformer.c). Legend: M feature rows, R rows of the result, Cv width of
 * the tower, C width of the decoder. */
#include "model/model.h"

static size_t elem(const struct lcl_pass *p) { return lcl_dtype_bytes(lcl_model_dtype(p->model)); }

void lcl_projector_layout(struct lcl_pass *p, int64_t I, bool training)
{
    const struct lcl_model_config *c = &p->model->config;
    struct lcl_projector_saves *s = &p->projector;
    s->M = I * lcl_feature_rows(c);
    s->R = I * lcl_tokens_per_image(c);
    size_t in = (size_t)(s->M * c->vision.C), out = (size_t)(s->R * c->text.C);
    bool gelu = c->projector == LCL_PROJECTOR_MLP2,
         two = gelu || c->projector == LCL_PROJECTOR_LINEAR2;
    s->in = c->standardize ? lcl_arena_alloc(&p->arena, in, elem(p)) : NULL;
    s->mid = two ? lcl_arena_alloc(&p->arena, out, elem(p)) : NULL;
    s->act = gelu ? lcl_arena_alloc(&p->arena, out, elem(p)) : s->mid;
    s->out = lcl_arena_alloc(&p->arena, out, elem(p));
    if (c->projector == LCL_PROJECTOR_QFORMER) lcl_qformer_layout(p, I, training);
    if (!training) return;
    s->d_out = lcl_arena_alloc(&p->arena, out, elem(p));
    s->d_mid = two ? lcl_arena_alloc(&p->arena, out, elem(p)) : NULL;
}

lcl_status lcl_projector_fwd(struct lcl_pass *p, const void *features)
{
    const struct lcl_model *m = p->model;
    const struct lcl_model_config *c = &m->config;
    struct lcl_projector_saves *s = &p->projector;
    struct lcl_layer_linear first = {m->rows.proj1_w, m->rows.proj1_b, s->R, c->text.C,
                                     c->vision.C};
    if (c->standardize) {
        LCL_TRY(p->exec->ops->standardize_fwd(
            p->exec,
            &(struct lcl_standardize_args){.M = s->M,
                                           .C = c->vision.C,
                                           .dtype = lcl_model_dtype(m),
                                           .mean_C = lcl_model_vector(m, m->rows.std_mean),
                                           .inv_std_C = lcl_model_vector(m, m->rows.std_inv),
                                           .x_MC = features,
                                           .y_MC = s->in}));
    } else {
        s->in = (void *)(uintptr_t)features;
    }
    if (c->projector == LCL_PROJECTOR_QFORMER) return lcl_qformer_fwd(p, s->in, s->out);
    if (c->projector == LCL_PROJECTOR_LINEAR) return lcl_pass_linear(p, first, s->in, s->out);
    LCL_TRY(lcl_pass_linear(p, first, s->in, s->mid));
    if (c->projector == LCL_PROJECTOR_MLP2)
        LCL_TRY(p->exec->ops->gelu_fwd(p->exec, &(struct lcl_gelu_args){.count = s->R * c->text.C,
                                                                        .dtype = lcl_model_dtype(m),
                                                                        .kind = c->projector_act,
                                                                        .x = s->mid,
                                                                        .y = s->act}));
    struct lcl_layer_linear second = {m->rows.proj2_w, m->rows.proj2_b, s->R, c->text.C, c->text.C};
    return lcl_pass_linear(p, second, s->act, s->out);
}

static lcl_status layers_bwd(struct lcl_pass *p, void *d_features)
{
    const struct lcl_model *m = p->model;
    const struct lcl_model_config *c = &m->config;
    struct lcl_projector_saves *s = &p->projector;
    struct lcl_layer_linear first = {m->rows.proj1_w, m->rows.proj1_b, s->R, c->text.C,
                                     c->vision.C};
    void *d_first = s->d_out;
    if (c->projector != LCL_PROJECTOR_LINEAR) {
        struct lcl_layer_linear second = {m->rows.proj2_w, m->rows.proj2_b, s->R, c->text.C,
                                          c->text.C};
        LCL_TRY(lcl_pass_linear_bwd(p, second, s->act, s->d_out, s->d_mid, p->train_projector));
        if (c->projector == LCL_PROJECTOR_MLP2)
            LCL_TRY(
                p->exec->ops->gelu_bwd(p->exec, &(struct lcl_gelu_args){.count = s->R * c->text.C,
                                                                        .dtype = lcl_model_dtype(m),
                                                                        .kind = c->projector_act,
                                                                        .x = s->mid,
                                                                        .d_y = s->d_mid,
                                                                        .d_x = s->d_mid}));
        d_first = s->d_mid;
    }
    return lcl_pass_linear_bwd(p, first, s->in, d_first, d_features, p->train_projector);
}

lcl_status lcl_projector_bwd(struct lcl_pass *p, void *d_features)
{
    const struct lcl_model *m = p->model;
    const struct lcl_model_config *c = &m->config;
    struct lcl_projector_saves *s = &p->projector;
    LCL_TRY(c->projector == LCL_PROJECTOR_QFORMER ? lcl_qformer_bwd(p, s->d_out, d_features)
                                                  : layers_bwd(p, d_features));
    if (!d_features || !c->standardize) return LCL_OK;
    return p->exec->ops->standardize_bwd(
        p->exec, &(struct lcl_standardize_args){.M = s->M,
                                                .C = c->vision.C,
                                                .dtype = lcl_model_dtype(m),
                                                .mean_C = lcl_model_vector(m, m->rows.std_mean),
                                                .inv_std_C = lcl_model_vector(m, m->rows.std_inv),
                                                .d_y_MC = d_features,
                                                .d_x_MC = d_features});
}
