/* Low-rank adapters: which layers patterns name, a linear layer with adapters against double
 * references and finite differences, merging. */
#include <math.h>

#include "core/rng.h"
#include "model/model.h"
#include "tests/support/fd.h"

static void tiny_model(struct lcl_model_config *c, int64_t rank, const char *targets)
{
    struct lcl_config config;
    lcl_config_defaults(&config);
    config.vision_image_size = 16;
    config.vision_patch_size = 8;
    config.vision_hidden_size = 16;
    config.vision_intermediate_size = 33;
    config.vision_num_hidden_layers = config.text_num_hidden_layers = 2;
    config.vision_num_attention_heads = 2;
    config.text_hidden_size = 24;
    config.text_intermediate_size = 31;
    config.text_num_attention_heads = 3;
    config.text_num_key_value_heads = 1;
    lcl_model_config_from(&config, 40, c);
    c->lora = (struct lcl_lora_config){.rank = rank, .alpha = 6};
    snprintf(c->lora.targets, sizeof c->lora.targets, "%s", targets);
}

static int count_adapters(const char *targets, enum lcl_part part)
{
    struct lcl_model_config c;
    struct lcl_model m;
    int n = 0;
    tiny_model(&c, 2, targets);
    ASSERT_OK(lcl_model_create(&m, &c));
    for (int i = m.n_base; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        assert_true(p->adapter && p->f32 && p->decay);
        n += p->part == part && strstr(p->name, ".lora_A.weight");
    }
    lcl_model_free(&m);
    return n;
}

static void test_targets(void **state)
{
    (void)state;
    struct lcl_model_config c;
    struct lcl_model m;
    assert_int_equal(count_adapters("language_model.*.q_proj", LCL_PART_TEXT), 2);
    assert_int_equal(count_adapters("language_model.*.q_proj", LCL_PART_VISION), 0);
    assert_int_equal(count_adapters("q_proj", LCL_PART_VISION), 2);
    assert_int_equal(count_adapters("q_proj, self_attn.?_proj", LCL_PART_TEXT), 8);
    assert_int_equal(count_adapters("linear_?", LCL_PART_PROJECTOR), 2);
    assert_int_equal(count_adapters("layers.1.mlp.*", LCL_PART_TEXT), 3);
    assert_int_equal(count_adapters("*", LCL_PART_VISION), 12);
    assert_int_equal(count_adapters("*", LCL_PART_TEXT), 14); /* no table, no head */
    assert_int_equal(count_adapters("language_model.*.[1-7].*", LCL_PART_TEXT), 7);
    assert_int_equal(count_adapters("language_model.*.[0-1].*.q_proj", LCL_PART_TEXT), 2);
    tiny_model(&c, 2, "q_proj,proj");
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "\"proj\"");
    tiny_model(&c, 2, "lm_head");
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "\"lm_head\"");
    tiny_model(&c, 2, " ,");
    ASSERT_FAILS(lcl_model_create(&m, &c), LCL_CONFIG, "names no layer");
}

/* A as PEFT begins it, B zero: the model is the base at first. */
static void test_initialisation(void **state)
{
    (void)state;
    struct lcl_model_config c;
    struct lcl_model m;
    test_exec();
    tiny_model(&c, 31, "q_proj,down_proj");
    ASSERT_OK(lcl_model_create(&m, &c));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    lcl_params_initialise(&m.params, 1);
    for (int i = m.n_base; i < m.params.n_rows; i++) {
        const struct lcl_param *p = &m.params.rows[i];
        const float *x = lcl_param_value(&m.params, p);
        bool is_A = strstr(p->name, ".lora_A.") != NULL;
        double bound = 1 / sqrt((double)p->shape[1]), most = 0, sum = 0;
        for (size_t k = 0; k < p->count; k++) {
            most = fmax(most, fabs((double)x[k]));
            sum += (double)x[k];
        }
        assert_true(is_A ? most <= bound * (1 + 1e-6) && most > 0.95 * bound : most == 0);
        assert_true(fabs(sum) < 5 * bound * sqrt((double)p->count / 3));
    }
    lcl_model_free(&m);
}

/* The packed query-key-value layer of one decoder layer, adapters on q and v. */
struct packed {
    int64_t M, K, N, Nq, Nv, column_v, r;
    double scale;
    double *x, *w, *d_y, *A_q, *B_q, *A_v, *B_v;
    double *mask_q, *mask_v; /* what dropout multiplies x by */
};

static void add_low_rank(const struct packed *p, const double *mask, const double *A,
                         const double *B, int64_t N, int64_t column, double *y)
{
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t i = 0; i < p->r; i++) {
            double u = 0;
            for (int64_t k = 0; k < p->K; k++)
                u += mask[m * p->K + k] * p->x[m * p->K + k] * A[i * p->K + k];
            for (int64_t n = 0; n < N; n++)
                y[m * p->N + column + n] += p->scale * B[n * p->r + i] * u;
        }
}

static void packed_fwd(const struct packed *p, double *y)
{
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = 0; n < p->N; n++) {
            y[m * p->N + n] = 0;
            for (int64_t k = 0; k < p->K; k++)
                y[m * p->N + n] += p->x[m * p->K + k] * p->w[n * p->K + k];
        }
    add_low_rank(p, p->mask_q, p->A_q, p->B_q, p->Nq, 0, y);
    add_low_rank(p, p->mask_v, p->A_v, p->B_v, p->Nv, p->column_v, y);
}

static double packed_loss(void *ctx)
{
    const struct packed *p = ctx;
    double *y = calloc((size_t)(p->M * p->N), sizeof *y), sum = 0;
    packed_fwd(p, y);
    for (int64_t i = 0; i < p->M * p->N; i++) sum += y[i] * p->d_y[i];
    free(y);
    return sum;
}

/* Writes values of a row; x is rounded as the row is read. */
static void set_row(struct lcl_model *m, int row, double *x)
{
    const struct lcl_param *p = &m->params.rows[row];
    void *rounded = buf_of(x, p->count, lcl_model_dtype(m));
    float *values = buf_new(p->count, LCL_F32);
    ASSERT_OK(lcl_convert(values, LCL_F32, rounded, lcl_model_dtype(m), p->count));
    lcl_param_put(&m->params, p, 0, p->count, values);
}

static double *random_row(struct lcl_model *m, int row, double std, uint64_t sample)
{
    double *x = dbl_normal(m->params.rows[row].count, std, sample);
    set_row(m, row, x);
    return x;
}

static const struct lcl_dropout dropout = {.p = 0.4, .seed = 5, .lane = 3, .epoch = 1};

/* All ones without dropout. */
static double *mask_of(const struct lcl_model *m, int row, int64_t n, double p)
{
    double *mask = dbl_new((size_t)n);
    struct lcl_rng rng = lcl_rng_stream(dropout.seed, LCL_RNG_DROPOUT, dropout.epoch,
                                        lcl_hash_string(m->params.rows[row].name) +
                                            dropout.lane * 0x9E3779B97F4A7C15u);
    for (int64_t i = 0; i < n; i++)
        mask[i] = (double)lcl_rng_u32(&rng) < floor(p * 4294967296.0) ? 0 : 1 / (1 - p);
    return mask;
}

static void random_packed(struct lcl_model *m, struct packed *p, int64_t M, double drop)
{
    const int q = m->rows.text[1].qkv_w, v = q + 2;
    const struct lcl_param *rows = m->params.rows;
    *p = (struct packed){.M = M,
                         .K = rows[q].shape[1],
                         .Nq = rows[q].shape[0],
                         .Nv = rows[v].shape[0],
                         .column_v = rows[q].shape[0] + rows[q + 1].shape[0],
                         .r = m->config.lora.rank,
                         .scale = m->config.lora.alpha / (double)m->config.lora.rank};
    p->N = p->column_v + p->Nv;
    p->w = dbl_normal((size_t)(p->N * p->K), 0.3, 5);
    set_row(m, q, p->w);
    set_row(m, q + 1, p->w + p->Nq * p->K);
    set_row(m, v, p->w + p->column_v * p->K);
    p->A_q = random_row(m, m->adapter[q], 0.3, 6);
    p->B_q = random_row(m, m->adapter[q] + 1, 0.3, 7);
    p->A_v = random_row(m, m->adapter[v], 0.3, 8);
    p->B_v = random_row(m, m->adapter[v] + 1, 0.3, 9);
    lcl_params_changed(&m->params);
    p->mask_q = mask_of(m, m->adapter[q], M * p->K, drop);
    p->mask_v = mask_of(m, m->adapter[v], M * p->K, drop);
    p->x = dbl_normal((size_t)(M * p->K), 1, 10);
    p->d_y = dbl_normal((size_t)(M * p->N), 1, 11);
}

static void open_pass(struct lcl_pass *p, struct lcl_model *m, int64_t M, double drop)
{
    const struct lcl_pass_limits limits = {.T = M, .S = 1, .with_text = true};
    *p = (struct lcl_pass){
        .exec = test_exec(), .model = m, .grad = m->params.grad, .train_text = true};
    p->dropout = dropout;
    p->dropout.p = drop;
    memset(m->params.grad, 0, m->params.n_elements * sizeof(float));
    ASSERT_OK(lcl_pass_reserve(p, &limits));
    lcl_pass_layout(p, &limits);
}

static void check_packed(int64_t M, int64_t rank, double drop, bool bf16)
{
    struct lcl_model_config c;
    struct lcl_model m;
    struct lcl_pass p;
    struct packed r;
    const lcl_dtype dtype = bf16 ? LCL_BF16 : LCL_F32;
    tiny_model(&c, rank, "language_model.*.q_proj,language_model.*.v_proj");
    ASSERT_OK(lcl_model_create(&m, &c));
    ASSERT_OK(lcl_model_reserve(&m, bf16, true, false));
    lcl_params_set_adapting(&m.params, true);
    random_packed(&m, &r, M, drop);
    open_pass(&p, &m, M, drop);
    const int q = m.rows.text[1].qkv_w, A_q = m.adapter[q], A_v = m.adapter[q + 2];
    const struct lcl_layer_linear l = {q, -1, M, r.N, r.K};
    const size_t n_x = (size_t)(M * r.K), n_y = (size_t)(M * r.N);
    void *x = buf_of(r.x, n_x, dtype), *d_y = buf_of(r.d_y, n_y, dtype);
    void *y = buf_new(n_y, dtype), *d_x = buf_new(n_x, dtype);
    double *want = dbl_new(n_y);
    ASSERT_OK(lcl_pass_linear(&p, l, x, y));
    ASSERT_OK(lcl_pass_linear_bwd(&p, l, x, d_y, d_x, true));
    packed_fwd(&r, want);
    /* at one row and rank 1 all gradients share one product, whose terms may cancel */
    const double tol = bf16 ? 2e-2 : 3e-6, fd_tol = bf16 ? 2e-2 : 4e-5;
    double worst = 0, most = 0, *got = buf_read(y, n_y, dtype);
    for (size_t i = 0; i < n_y; i++) {
        worst = fmax(worst, fabs(got[i] - want[i]));
        most = fmax(most, fabs(want[i]));
    }
    assert_true(worst <= tol * most);
    fd_check("d_x", packed_loss, &r, r.x, n_x, d_x, dtype, NULL, fd_tol);
    fd_check("d_A of q", packed_loss, &r, r.A_q, (size_t)(rank * r.K), lcl_pass_grad(&p, A_q, true),
             LCL_F32, NULL, fd_tol);
    fd_check("d_B of q", packed_loss, &r, r.B_q, (size_t)(r.Nq * rank),
             lcl_pass_grad(&p, A_q + 1, true), LCL_F32, NULL, fd_tol);
    fd_check("d_A of v", packed_loss, &r, r.A_v, (size_t)(rank * r.K), lcl_pass_grad(&p, A_v, true),
             LCL_F32, NULL, fd_tol);
    fd_check("d_B of v", packed_loss, &r, r.B_v, (size_t)(r.Nv * rank),
             lcl_pass_grad(&p, A_v + 1, true), LCL_F32, NULL, fd_tol);
    for (int i = 0; i < m.n_base; i++) assert_null(lcl_pass_grad(&p, i, true));
    buf_end();
    lcl_pass_free(&p);
    lcl_model_free(&m);
}

static void test_linear_with_adapters(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const double drop = i * dropout.p;
        check_packed(1, 1, drop, false);
        check_packed(33, 4, drop, false);
        check_packed(31, 33, drop, false);
        check_packed(257, 8, drop, false);
        check_packed(33, 4, drop, true);
    }
}

static void test_merge(void **state)
{
    (void)state;
    struct lcl_model_config c;
    struct lcl_model m;
    struct packed r;
    test_exec();
    tiny_model(&c, 3, "q_proj,v_proj");
    ASSERT_OK(lcl_model_create(&m, &c));
    ASSERT_OK(lcl_model_reserve(&m, false, true, false));
    lcl_params_initialise(&m.params, 1);
    random_packed(&m, &r, 5, 0);
    double *want = dbl_new((size_t)(r.M * r.N)), *got = dbl_new((size_t)(r.M * r.N));
    packed_fwd(&r, want);
    ASSERT_OK(lcl_lora_merge(&m));
    const int q = m.rows.text[1].qkv_w;
    const float *w = lcl_model_vector(&m, q), *B = lcl_model_vector(&m, m.adapter[q] + 1);
    for (int64_t i = 0; i < r.N * r.K; i++) r.w[i] = (double)w[i];
    for (int64_t i = 0; i < r.Nq * r.r; i++) assert_true(B[i] == 0);
    memset(r.B_q, 0, (size_t)(r.Nq * r.r) * sizeof *r.B_q);
    memset(r.B_v, 0, (size_t)(r.Nv * r.r) * sizeof *r.B_v);
    packed_fwd(&r, got);
    for (int64_t i = 0; i < r.M * r.N; i++) assert_float_equal(got[i], want[i], 1e-5);
    buf_end();
    lcl_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_initialisation),
        cmocka_unit_test(test_linear_with_adapters),
        cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
