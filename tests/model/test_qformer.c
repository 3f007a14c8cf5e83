/* The Q-Former against a plain double reference: what it makes of features, and the gradients of
 * every tensor and of the features by finite differences of that reference. Legend:
 * model/qformer.c. */
#include <math.h>

#include "model/model.h"
#include "tests/support/fd.h"

enum { IMAGES = 2 };

static void tiny_model(struct lcl_model_config *c, bool keep_class)
{
    struct lcl_config config;
    lcl_config_defaults(&config);
    config.vision_image_size = 16;
    config.vision_patch_size = 8;
    config.vision_hidden_size = 20;
    config.vision_intermediate_size = 33;
    config.vision_num_hidden_layers = config.text_num_hidden_layers = 1;
    config.vision_num_attention_heads = 1;
    config.text_hidden_size = 28;
    config.text_intermediate_size = 31;
    config.text_num_attention_heads = 1;
    config.mm_projector_type = 2;
    config.mm_standardize = true;
    config.mm_vision_select_feature = keep_class;
    config.qformer_num_query_tokens = 3;
    config.qformer_hidden_size = 24;
    config.qformer_intermediate_size = 33;
    config.qformer_num_hidden_layers = 4;
    config.qformer_num_attention_heads = 2;
    config.qformer_cross_attention_frequency = 3;
    lcl_model_config_from(&config, 40, c);
}

/* ---- the reference ---- */

struct reference {
    const struct lcl_model *m;
    int64_t N, M;
    double *value;                   /* of every element of the table */
    double *features, *d_out;        /* [M, Cv], [N, text.C] */
    double *x, *y, *mid, *q, *k, *v; /* [N or M, the widest] */
};

static const double *weight(const struct reference *r, int row)
{
    return r->value + r->m->params.rows[row].offset;
}

static void linear(const struct reference *r, int64_t rows, int w, int b, const double *x,
                   double *y)
{
    const int64_t N = r->m->params.rows[w].shape[0], K = r->m->params.rows[w].shape[1];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t n = 0; n < N; n++) {
            double sum = weight(r, b)[n];
            for (int64_t k = 0; k < K; k++) sum += x[i * K + k] * weight(r, w)[n * K + k];
            y[i * N + n] = sum;
        }
}

/* x = norm(x + add) */
static void norm(const struct reference *r, int w, int b, const double *add, double *x)
{
    const int64_t C = r->m->config.qformer.C;
    for (int64_t n = 0; n < r->N; n++, x += C) {
        double mean = 0, var = 0;
        for (int64_t c = 0; c < C; c++) {
            if (add) x[c] += add[n * C + c];
            mean += x[c] / (double)C;
        }
        for (int64_t c = 0; c < C; c++) var += (x[c] - mean) * (x[c] - mean) / (double)C;
        for (int64_t c = 0; c < C; c++)
            x[c] = (x[c] - mean) / sqrt(var + r->m->config.qformer.eps) * weight(r, w)[c] +
                   weight(r, b)[c];
    }
}

/* Each image's queries over its own `keys` rows of r->k and r->v; into r->mid. */
static void attend(const struct reference *r, int64_t keys)
{
    const struct lcl_qformer_config *f = &r->m->config.qformer;
    const int64_t C = f->C, D = C / f->H;
    double p[64];
    for (int64_t n = 0; n < r->N; n++)
        for (int64_t h = 0; h < f->H; h++) {
            const int64_t first = n / f->Q * keys;
            double sum = 0;
            for (int64_t j = 0; j < keys; j++) {
                double s = 0;
                for (int64_t d = h * D; d < (h + 1) * D; d++)
                    s += r->q[n * C + d] * r->k[(first + j) * C + d];
                p[j] = exp(s / sqrt((double)D));
                sum += p[j];
            }
            for (int64_t d = h * D; d < (h + 1) * D; d++) {
                double o = 0;
                for (int64_t j = 0; j < keys; j++) o += p[j] / sum * r->v[(first + j) * C + d];
                r->mid[n * C + d] = o;
            }
        }
}

static void layer(const struct reference *r, const struct lcl_qformer_layer_rows *l,
                  const double *in)
{
    const struct lcl_qformer_config *f = &r->m->config.qformer;
    linear(r, r->N, l->qkv_w, l->qkv_b, r->x, r->q);
    linear(r, r->N, l->qkv_w + 1, l->qkv_b + 1, r->x, r->k);
    linear(r, r->N, l->qkv_w + 2, l->qkv_b + 2, r->x, r->v);
    attend(r, f->Q);
    linear(r, r->N, l->out_w, l->out_b, r->mid, r->y);
    norm(r, l->ln1_w, l->ln1_b, r->y, r->x);
    if (l->q_w >= 0) {
        linear(r, r->N, l->q_w, l->q_b, r->x, r->q);
        linear(r, r->M, l->kv_w, l->kv_b, in, r->k);
        linear(r, r->M, l->kv_w + 1, l->kv_b + 1, in, r->v);
        attend(r, r->M / IMAGES);
        linear(r, r->N, l->cross_w, l->cross_b, r->mid, r->y);
        norm(r, l->ln2_w, l->ln2_b, r->y, r->x);
    }
    linear(r, r->N, l->fc1_w, l->fc1_b, r->x, r->mid);
    for (int64_t i = 0; i < r->N * f->F; i++) r->mid[i] *= 0.5 * (1 + erf(r->mid[i] / sqrt(2.0)));
    linear(r, r->N, l->fc2_w, l->fc2_b, r->mid, r->y);
    norm(r, l->ln3_w, l->ln3_b, r->y, r->x);
}

/* What goes to the decoder, in r->y. */
static void forward(const struct reference *r)
{
    const struct lcl_model_rows *rows = &r->m->rows;
    const int64_t Cv = r->m->config.vision.C,
                  per_image = r->m->config.qformer.Q * r->m->config.qformer.C;
    double *in = malloc((size_t)(r->M * Cv) * sizeof *in);
    assert_non_null(in);
    for (int64_t i = 0; i < r->M * Cv; i++)
        in[i] =
            (r->features[i] - weight(r, rows->std_mean)[i % Cv]) * weight(r, rows->std_inv)[i % Cv];
    for (int64_t i = 0; i < IMAGES; i++)
        memcpy(r->x + i * per_image, weight(r, rows->query_tokens),
               (size_t)per_image * sizeof *r->x);
    norm(r, rows->query_norm_w, rows->query_norm_b, NULL, r->x);
    for (int64_t l = 0; l < r->m->config.qformer.n_layers; l++) layer(r, &rows->qformer[l], in);
    linear(r, r->N, rows->proj1_w, rows->proj1_b, r->x, r->y);
    free(in);
}

static double loss(void *ctx)
{
    const struct reference *r = ctx;
    double sum = 0;
    forward(r);
    for (int64_t i = 0; i < r->N * r->m->config.text.C; i++) sum += r->y[i] * r->d_out[i];
    return sum;
}

/* ---- the model ---- */

static void open_model(struct lcl_model *m, struct lcl_pass *p, bool keep_class, bool train)
{
    const struct lcl_pass_limits limits = {.T = 8, .images = IMAGES, .S = 1, .with_text = true};
    struct lcl_model_config c;
    struct lcl_exec *ex = test_exec();
    tiny_model(&c, keep_class);
    ASSERT_OK(lcl_model_create(m, &c));
    ASSERT_OK(lcl_model_reserve(m, false, true, false));
    for (int i = 0; i < m->params.n_rows; i++) { /* biases and gains that matter */
        const struct lcl_param *row = &m->params.rows[i];
        double *x = dbl_normal(row->count, 0.4, 100 + (uint64_t)i);
        bool gain = row->init == LCL_INIT_ONES;
        for (size_t k = 0; k < row->count; k++)
            lcl_param_value(&m->params, row)[k] = (float)(x[k] + gain);
    }
    lcl_params_changed(&m->params);
    memset(m->params.grad, 0, m->params.n_elements * sizeof(float));
    *p = (struct lcl_pass){.exec = ex,
                           .model = m,
                           .grad = train ? m->params.grad : NULL,
                           .train_vision = train,
                           .train_projector = train};
    ASSERT_OK(lcl_pass_reserve(p, &limits));
    lcl_pass_layout(p, &limits);
}

static void open_reference(struct reference *r, const struct lcl_model *m)
{
    const struct lcl_model_config *c = &m->config;
    *r = (struct reference){.m = m, .N = IMAGES * c->qformer.Q, .M = IMAGES * lcl_feature_rows(c)};
    size_t rows = (size_t)(r->N > r->M ? r->N : r->M);
    double **parts[] = {&r->x, &r->y, &r->mid, &r->q, &r->k, &r->v};
    for (size_t i = 0; i < 6; i++) *parts[i] = dbl_new(rows * 64);
    r->value = dbl_new(m->params.n_elements);
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *row = &m->params.rows[i];
        for (size_t k = 0; k < row->count; k++)
            r->value[row->offset + k] = (double)lcl_param_value(&m->params, row)[k];
    }
    r->features = dbl_normal((size_t)(r->M * c->vision.C), 1, 1);
    r->d_out = dbl_normal((size_t)(r->N * c->text.C), 1, 2);
}

static void check(bool keep_class)
{
    struct lcl_model m;
    struct lcl_pass p;
    struct reference r;
    open_model(&m, &p, keep_class, true);
    open_reference(&r, &m);
    const size_t n_in = (size_t)(r.M * m.config.vision.C), n_out = (size_t)(r.N * m.config.text.C);
    void *features = buf_of(r.features, n_in, LCL_F32), *d_features = buf_new(n_in, LCL_F32);
    memcpy(p.projector.d_out, buf_of(r.d_out, n_out, LCL_F32), n_out * sizeof(float));
    ASSERT_OK(lcl_projector_fwd(&p, features));
    ASSERT_OK(lcl_projector_bwd(&p, d_features));
    forward(&r);
    check_close("out", p.projector.out, LCL_F32, r.y, n_out, 1e-5);
    fd_check("d_features", loss, &r, r.features, n_in, d_features, LCL_F32, NULL, 5e-4);
    int checked = 0;
    for (int i = 0; i < m.params.n_rows; i++) {
        const struct lcl_param *row = &m.params.rows[i];
        if (row->part != LCL_PART_PROJECTOR || !row->used) continue;
        if (strstr(row->name, "key.bias")) continue; /* moves all scores alike: no gradient */
        fd_check(row->name, loss, &r, r.value + row->offset, row->count,
                 m.params.grad + row->offset, LCL_F32, NULL, 5e-4);
        checked++;
    }
    assert_int_equal(checked, 1 + 2 + 4 * 15 + 2 * 9 + 2); /* layers 0 and 3 cross */
    lcl_pass_free(&p);
    lcl_model_free(&m);
    buf_end();
}

static void test_gradients(void **state)
{
    (void)state;
    check(false);
    check(true);
}

/* Inference keeps one layer's buffers: the same numbers. */
static void test_inference_equals_training(void **state)
{
    (void)state;
    struct lcl_model m[2];
    struct lcl_pass p[2];
    struct reference r;
    for (int i = 0; i < 2; i++) open_model(&m[i], &p[i], false, i == 1);
    open_reference(&r, &m[0]);
    void *features = buf_of(r.features, (size_t)(r.M * m[0].config.vision.C), LCL_F32);
    for (int i = 0; i < 2; i++) ASSERT_OK(lcl_projector_fwd(&p[i], features));
    assert_true(p[0].arena.peak_bytes < p[1].arena.peak_bytes);
    assert_memory_equal(p[0].projector.out, p[1].projector.out,
                        (size_t)(r.N * m[0].config.text.C) * sizeof(float));
    for (int i = 0; i < 2; i++) {
        lcl_pass_free(&p[i]);
        lcl_model_free(&m[i]);
    }
    buf_end();
}

/* Names and shapes are those of transformers' Blip2QFormerModel. */
static void test_table(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t N, K;
    } want[] = {{"qformer.layernorm.weight", 24, 0},
                {"qformer.encoder.layer.0.attention.attention.value.weight", 24, 24},
                {"qformer.encoder.layer.0.attention.output.LayerNorm.bias", 24, 0},
                {"qformer.encoder.layer.3.crossattention.attention.query.weight", 24, 24},
                {"qformer.encoder.layer.3.crossattention.attention.key.weight", 24, 20},
                {"qformer.encoder.layer.3.crossattention.output.dense.weight", 24, 24},
                {"qformer.encoder.layer.2.intermediate_query.dense.weight", 33, 24},
                {"qformer.encoder.layer.2.output_query.dense.weight", 24, 33},
                {"qformer.encoder.layer.2.output_query.LayerNorm.weight", 24, 0},
                {"language_projection.weight", 28, 24}};
    struct lcl_model_config c;
    struct lcl_model m;
    tiny_model(&c, false);
    ASSERT_OK(lcl_model_create(&m, &c));
    assert_int_equal(lcl_tokens_per_image(&c), 3);
    assert_int_equal(lcl_feature_rows(&c), 4);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct lcl_param *p = lcl_params_find(&m.params, want[i].name);
        if (!p) fail_msg("no %s", want[i].name);
        assert_int_equal(p->shape[0], want[i].N);
        assert_int_equal(p->n_dims > 1 ? p->shape[1] : 0, want[i].K);
        assert_int_equal(p->part, LCL_PART_PROJECTOR);
    }
    for (int l = 0; l < 4; l++) {
        char name[100];
        snprintf(name, sizeof name, "qformer.encoder.layer.%d.crossattention.output.dense.bias", l);
        assert_true((lcl_params_find(&m.params, name) != NULL) == (l % 3 == 0));
    }
    lcl_model_free(&m);
    c.qformer.H = 5;
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "qformer: width 24 is not a multiple of 5");
    c.qformer.H = 12;
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "qformer: head width 2");
    c.qformer.Q = 0;
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "qformer: 0 query tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_inference_equals_training),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
