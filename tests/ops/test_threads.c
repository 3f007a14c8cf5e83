/* No bit of a result depends on the number of threads. Each op runs at a size that several chunks
 * share. */
#include "tests/support/fd.h"

enum { M = 700, C = 96, V = 5000, N = M * C, THREADS = 3 };

/* A run fills out (f32, all of it, accumulators from zero). */
struct run {
    const char *name;
    lcl_status (*body)(struct lcl_exec *ex, float *out);
    size_t n;
};

static float x[2 * N], dy[2 * N], weight[V * C];
static int32_t index_of[N];

static lcl_status run_layernorm(struct lcl_exec *ex, float *out)
{
    struct lcl_layernorm_args a = {.M = M,
                                   .C = C,
                                   .eps = 1e-5f,
                                   .x_MC = x,
                                   .sum_MC = x,
                                   .weight_C = weight,
                                   .bias_C = weight + C,
                                   .y_MC = out,
                                   .mean_M = out + N,
                                   .rstd_M = out + N + M,
                                   .d_y_MC = dy,
                                   .d_x_MC = out + N + 2 * M,
                                   .d_weight_C = out + 2 * N + 2 * M,
                                   .d_bias_C = out + 2 * N + 2 * M + C};
    LCL_TRY(ex->ops->layernorm_fwd(ex, &a));
    return ex->ops->layernorm_bwd(ex, &a);
}

static lcl_status run_rmsnorm(struct lcl_exec *ex, float *out)
{
    struct lcl_rmsnorm_args a = {.M = M,
                                 .C = C,
                                 .eps = 1e-5f,
                                 .x_MC = x,
                                 .sum_MC = x,
                                 .weight_C = weight,
                                 .y_MC = out,
                                 .rstd_M = out + N,
                                 .d_y_MC = dy,
                                 .d_x_MC = out + N + M,
                                 .d_weight_C = out + 2 * N + M};
    LCL_TRY(ex->ops->rmsnorm_fwd(ex, &a));
    return ex->ops->rmsnorm_bwd(ex, &a);
}

static lcl_status run_activations(struct lcl_exec *ex, float *out)
{
    struct lcl_gelu_args g = {.count = N, .x = x, .y = out, .d_y = dy, .d_x = out + N};
    struct lcl_swiglu_args s = {.M = M,
                                .F = C,
                                .gate_up_M2F = x,
                                .y_MF = out + 2 * N,
                                .d_y_MF = dy,
                                .d_gate_up_M2F = out + 3 * N};
    LCL_TRY(ex->ops->gelu_fwd(ex, &g));
    LCL_TRY(ex->ops->gelu_bwd(ex, &g));
    LCL_TRY(ex->ops->swiglu_fwd(ex, &s));
    return ex->ops->swiglu_bwd(ex, &s);
}

static lcl_status run_embed(struct lcl_exec *ex, float *out)
{
    struct lcl_embed_args a = {.T = M,
                               .C = C,
                               .V = 50,
                               .id_T = index_of,
                               .table_VC = weight,
                               .out_TC = out,
                               .d_out_TC = dy,
                               .d_table_VC = out + N};
    LCL_TRY(ex->ops->embed_fwd(ex, &a));
    return ex->ops->embed_bwd(ex, &a);
}

static lcl_status run_images(struct lcl_exec *ex, float *out)
{
    struct lcl_vit_assemble_args v = {.I = 7,
                                      .P = 99,
                                      .C = C,
                                      .patch_IPC = x,
                                      .class_C = weight,
                                      .position_TC = weight,
                                      .x_ITC = out,
                                      .d_x_ITC = dy,
                                      .d_patch_IPC = out + N,
                                      .d_class_C = out + 2 * N,
                                      .d_position_TC = out + 2 * N + C};
    LCL_TRY(ex->ops->vit_assemble_fwd(ex, &v));
    LCL_TRY(ex->ops->vit_assemble_bwd(ex, &v));
    struct lcl_image_pool_args p = {.I = 7,
                                    .T = 100,
                                    .C = C,
                                    .kind = LCL_POOL_2X2,
                                    .x_ITC = x,
                                    .y = out + 3 * N,
                                    .d_y = dy,
                                    .d_x_ITC = out + 4 * N};
    LCL_TRY(ex->ops->image_pool_fwd(ex, &p));
    return ex->ops->image_pool_bwd(ex, &p);
}

static lcl_status run_head(struct lcl_exec *ex, float *out)
{
    enum { S = 90 };
    int32_t row[S];
    double sum;
    for (int32_t s = 0; s < S; s++) row[s] = 3 * s;
    struct lcl_head_xent_args a = {.T = 300,
                                   .C = C,
                                   .V = V,
                                   .S = S,
                                   .logit_scale = 1,
                                   .hidden_TC = x,
                                   .weight_VC = weight,
                                   .row_S = row,
                                   .target_S = index_of,
                                   .loss_sum = &sum,
                                   .logprob_S = out,
                                   .grad_scale = 1,
                                   .d_hidden_TC = out + S,
                                   .d_weight_VC = out + S + 300 * C};
    LCL_TRY(ex->ops->head_xent_bwd(ex, &a));
    memcpy(out + S + 300 * C + V * C, &sum, sizeof sum);
    return LCL_OK;
}

static lcl_status run_optimizer(struct lcl_exec *ex, float *out)
{
    float *sums = out + 3 * N;
    const struct lcl_segment segment[] = {
        {.count = N, .grad = dy, .value = out, .m = out + N, .v = out + 2 * N, .lr = 0.1},
        {.count = V * C, .grad = weight, .value = sums, .m = sums + V * C, .v = sums + 2 * V * C}};
    struct lcl_grad_norm norm;
    struct lcl_sumsq_args q = {.N = 2, .segment_N = segment, .max_norm = 1, .norm = &norm};
    struct lcl_adamw_args a = {.N = 2,
                               .segment_N = segment,
                               .step = 1,
                               .beta1 = 0.9,
                               .beta2 = 0.99,
                               .eps = 1e-8,
                               .norm = &norm};
    LCL_TRY(ex->ops->sumsq_fwd(ex, &q));
    memcpy(sums + 3 * V * C, &norm.sum, sizeof norm.sum);
    return ex->ops->adamw_fwd(ex, &a);
}

static const struct run runs[] = {
    {"layernorm", run_layernorm, 2 * N + 2 * M + 2 * C},
    {"rmsnorm", run_rmsnorm, 2 * N + M + C},
    {"activations", run_activations, 5 * N},
    {"embed", run_embed, N + 50 * C},
    {"images", run_images, 5 * N},
    {"head_xent", run_head, 90 + 300 * C + V *C + 2},
    {"optimizer", run_optimizer, 3 * N + 3 * V *C + 2},
};

static void test_bits_on_any_thread_count(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    fill_normal(x, 2 * N, 1, 1);
    fill_normal(dy, 2 * N, 1, 2);
    fill_normal(weight, V * C, 1, 3);
    for (int32_t i = 0; i < N; i++) index_of[i] = i * 7 % 50;
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++) {
        size_t bytes = runs[r].n * sizeof(float);
        float *one = calloc(1, bytes), *many = malloc(bytes);
        assert_true(one && many);
        restart_threads(1);
        ASSERT_OK(runs[r].body(ex, one));
        for (int n = 2; n <= THREADS; n++) {
            restart_threads(n);
            memset(many, 0, bytes);
            ASSERT_OK(runs[r].body(ex, many));
            if (memcmp(one, many, bytes) != 0)
                fail_msg("%s: %d threads give other bits than one", runs[r].name, n);
        }
        free(one);
        free(many);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits_on_any_thread_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
