/* Every op at shapes of real models: run where there is a device, and the least that it takes. */
#include "dev/cuda-paper/paper.h"

enum { FWD = PAPER_FWD, BWD = PAPER_BWD };

/* --- the ops: run at c->n where ex is there, and say the least that it takes --- */

/* rows, width; the residual is added in front */
static lcl_status layernorm(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], C = c->n[1], all = M * C;
    cost->bytes = 4 * (double)all * paper_bytes(c) + 8 * (double)(M + C * (c->backward ? 3 : 1));
    cost->flops = (double)all * (c->backward ? 14 : 9);
    if (!c->ex) return LCL_OK;
    const struct lcl_layernorm_args a = {.M = M,
                                         .C = C,
                                         .dtype = c->dtype,
                                         .eps = 1e-5f,
                                         .x_MC = paper_tensor(c, all),
                                         .add_MC = paper_tensor(c, all),
                                         .sum_MC = paper_tensor(c, all),
                                         .weight_C = paper_floats(C),
                                         .bias_C = paper_floats(C),
                                         .y_MC = paper_tensor(c, all),
                                         .mean_M = paper_floats(M),
                                         .rstd_M = paper_floats(M),
                                         .d_y_MC = paper_tensor(c, all),
                                         .d_sum_MC = paper_tensor(c, all),
                                         .d_x_MC = paper_tensor(c, all),
                                         .d_weight_C = paper_floats(C),
                                         .d_bias_C = paper_floats(C)};
    return c->backward ? c->ex->ops->layernorm_bwd(c->ex, &a)
                       : c->ex->ops->layernorm_fwd(c->ex, &a);
}

static lcl_status rmsnorm(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], C = c->n[1], all = M * C;
    cost->bytes = 4 * (double)all * paper_bytes(c) + 4 * (double)(M + C * (c->backward ? 3 : 1));
    cost->flops = (double)all * (c->backward ? 11 : 6);
    if (!c->ex) return LCL_OK;
    const struct lcl_rmsnorm_args a = {.M = M,
                                       .C = C,
                                       .dtype = c->dtype,
                                       .eps = 1e-5f,
                                       .x_MC = paper_tensor(c, all),
                                       .add_MC = paper_tensor(c, all),
                                       .sum_MC = paper_tensor(c, all),
                                       .weight_C = paper_floats(C),
                                       .y_MC = paper_tensor(c, all),
                                       .rstd_M = paper_floats(M),
                                       .d_y_MC = paper_tensor(c, all),
                                       .d_sum_MC = paper_tensor(c, all),
                                       .d_x_MC = paper_tensor(c, all),
                                       .d_weight_C = paper_floats(C)};
    return c->backward ? c->ex->ops->rmsnorm_bwd(c->ex, &a) : c->ex->ops->rmsnorm_fwd(c->ex, &a);
}

/* rows, width; the erf form */
static lcl_status gelu(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t all = c->n[0] * c->n[1];
    cost->bytes = (double)all * paper_bytes(c) * (c->backward ? 3 : 2);
    cost->flops = (double)all * (c->backward ? 35 : 30);
    if (!c->ex) return LCL_OK;
    const struct lcl_gelu_args a = {.count = all,
                                    .dtype = c->dtype,
                                    .kind = LCL_GELU_ERF,
                                    .x = paper_tensor(c, all),
                                    .y = paper_tensor(c, all),
                                    .d_y = paper_tensor(c, all),
                                    .d_x = paper_tensor(c, all)};
    return c->backward ? c->ex->ops->gelu_bwd(c->ex, &a) : c->ex->ops->gelu_fwd(c->ex, &a);
}

static lcl_status swiglu(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], F = c->n[1];
    cost->bytes = (double)(M * F) * paper_bytes(c) * (c->backward ? 5 : 3);
    cost->flops = (double)(M * F) * (c->backward ? 15 : 8);
    if (!c->ex) return LCL_OK;
    const struct lcl_swiglu_args a = {.M = M,
                                      .F = F,
                                      .dtype = c->dtype,
                                      .gate_up_M2F = paper_tensor(c, M * 2 * F),
                                      .y_MF = paper_tensor(c, M * F),
                                      .d_y_MF = paper_tensor(c, M * F),
                                      .d_gate_up_M2F = paper_tensor(c, M * 2 * F)};
    return c->backward ? c->ex->ops->swiglu_bwd(c->ex, &a) : c->ex->ops->swiglu_fwd(c->ex, &a);
}

/* rows, width; the backward is added to what is there */
static lcl_status dropout(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t all = c->n[0] * c->n[1];
    cost->bytes = (double)all * paper_bytes(c) * (c->backward ? 3 : 2);
    cost->flops = 30 * (double)all; /* ten rounds of Philox for four elements */
    if (!c->ex) return LCL_OK;
    const struct lcl_dropout_args a = {.count = all,
                                       .dtype = c->dtype,
                                       .p = 0.1,
                                       .x = paper_tensor(c, all),
                                       .y = paper_tensor(c, all),
                                       .d_y = paper_tensor(c, all),
                                       .d_x = paper_tensor(c, all),
                                       .accumulate_d_x = true};
    return c->backward ? c->ex->ops->dropout_bwd(c->ex, &a) : c->ex->ops->dropout_fwd(c->ex, &a);
}

/* tokens, heads, head width */
static lcl_status rotary(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t T = c->n[0], all = T * c->n[1] * c->n[2];
    cost->bytes = 2 * (double)all * paper_bytes(c) + 4 * (double)T;
    cost->flops = 3 * (double)all;
    if (!c->ex) return LCL_OK;
    float inv_freq[128] = {1.0f, 0.5f, 0.25f};
    const struct lcl_rotary_args a = {.T = T,
                                      .n_heads = c->n[1],
                                      .D = c->n[2],
                                      .row_stride = c->n[1] * c->n[2],
                                      .dtype = c->dtype,
                                      .x = paper_tensor(c, all),
                                      .position_T = paper_indices(T, 1, T),
                                      .inv_freq = inv_freq,
                                      .scale = 1};
    return c->ex->ops->rotary_fwd(c->ex, &a);
}

/* tokens, width, vocabulary; half of the tokens are of ids that come twice */
static lcl_status embed(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t T = c->n[0], C = c->n[1], V = c->n[2];
    const double row = (double)C * (c->backward ? paper_bytes(c) : 2 * paper_bytes(c)),
                 table_row = (double)C * 4;
    cost->bytes = (double)T * (c->backward ? row + 1.5 * table_row : row);
    cost->flops = c->backward ? (double)(T * C) : 0;
    if (!c->ex) return LCL_OK;
    int32_t *id = paper_indices(T, 1, V);
    for (int64_t i = 0; i < T / 4; i++) id[T - 1 - i] = id[i];
    const struct lcl_embed_args a = {.T = T,
                                     .C = C,
                                     .V = V,
                                     .dtype = c->dtype,
                                     .table_dtype = c->dtype,
                                     .id_T = id,
                                     .table_VC = paper_tensor(c, V * C),
                                     .out_TC = paper_tensor(c, T * C),
                                     .d_out_TC = paper_tensor(c, T * C),
                                     .d_table_VC = paper_floats(V * C)};
    return c->backward ? c->ex->ops->embed_bwd(c->ex, &a) : c->ex->ops->embed_fwd(c->ex, &a);
}

/* slots, width */
static lcl_status splice(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t R = c->n[0], C = c->n[1], T = 2 * R;
    cost->bytes = (double)(R * C) * paper_bytes(c) * (c->backward ? 3 : 2);
    if (!c->ex) return LCL_OK;
    const struct lcl_splice_args a = {.n = R,
                                      .T = T,
                                      .R = R,
                                      .C = C,
                                      .dtype = c->dtype,
                                      .slot = paper_indices(R, 2, T),
                                      .src_row = paper_indices(R, 1, R),
                                      .src_RC = paper_tensor(c, R * C),
                                      .dst_TC = paper_tensor(c, T * C),
                                      .d_dst_TC = paper_tensor(c, T * C),
                                      .d_src_RC = paper_tensor(c, R * C)};
    return c->backward ? c->ex->ops->splice_bwd(c->ex, &a) : c->ex->ops->splice_fwd(c->ex, &a);
}

/* pictures, side, patch */
static lcl_status patchify(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t all = c->n[0] * 3 * c->n[1] * c->n[1];
    cost->bytes = (double)all * (4 + paper_bytes(c));
    if (!c->ex) return LCL_OK;
    const struct lcl_patchify_args a = {.I = c->n[0],
                                        .size = c->n[1],
                                        .patch = c->n[2],
                                        .dtype = c->dtype,
                                        .pixel_I3SS = paper_floats(all),
                                        .row_IPK = paper_tensor(c, all)};
    return c->ex->ops->patchify_fwd(c->ex, &a);
}

static lcl_status patchify_bytes(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t all = c->n[0] * 3 * c->n[1] * c->n[1];
    cost->bytes = (double)all * (1 + paper_bytes(c));
    if (!c->ex) return LCL_OK;
    const struct lcl_patchify_args a = {.I = c->n[0],
                                        .size = c->n[1],
                                        .patch = c->n[2],
                                        .dtype = c->dtype,
                                        .byte_I3SS = (const uint8_t *)paper_floats(all),
                                        .std = {1, 1, 1},
                                        .row_IPK = paper_tensor(c, all)};
    return c->ex->ops->patchify_fwd(c->ex, &a);
}

/* pictures, patches, width */
static lcl_status vit_assemble(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t I = c->n[0], P = c->n[1], C = c->n[2], all = I * (P + 1) * C;
    cost->bytes =
        2 * (double)all * paper_bytes(c) + 4 * (double)((P + 1) * C) * (c->backward ? 2 : 1);
    cost->flops = (double)all;
    if (!c->ex) return LCL_OK;
    const struct lcl_vit_assemble_args a = {.I = I,
                                            .P = P,
                                            .C = C,
                                            .dtype = c->dtype,
                                            .patch_IPC = paper_tensor(c, I * P * C),
                                            .class_C = paper_floats(C),
                                            .position_TC = paper_floats((P + 1) * C),
                                            .x_ITC = paper_tensor(c, all),
                                            .d_x_ITC = paper_tensor(c, all),
                                            .d_patch_IPC = paper_tensor(c, I * P * C),
                                            .d_class_C = paper_floats(C),
                                            .d_position_TC = paper_floats((P + 1) * C)};
    return c->backward ? c->ex->ops->vit_assemble_bwd(c->ex, &a)
                       : c->ex->ops->vit_assemble_fwd(c->ex, &a);
}

/* pictures, tokens, width, kind */
static lcl_status image_pool(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t I = c->n[0], T = c->n[1], C = c->n[2];
    const enum lcl_image_pool_kind kind = (enum lcl_image_pool_kind)c->n[3];
    const int64_t in = I * T * C, out = I * lcl_image_pool_tokens(kind, T, 1) * C;
    cost->bytes = (double)(in + out) * paper_bytes(c);
    cost->flops = (double)in;
    if (!c->ex) return LCL_OK;
    const struct lcl_image_pool_args a = {.I = I,
                                          .T = T,
                                          .C = C,
                                          .first_token = 1,
                                          .dtype = c->dtype,
                                          .kind = kind,
                                          .x_ITC = paper_tensor(c, in),
                                          .y = paper_tensor(c, out),
                                          .d_y = paper_tensor(c, out),
                                          .d_x_ITC = paper_tensor(c, in)};
    return c->backward ? c->ex->ops->image_pool_bwd(c->ex, &a)
                       : c->ex->ops->image_pool_fwd(c->ex, &a);
}

/* rows, width */
static lcl_status standardize(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], C = c->n[1];
    cost->bytes = 2 * (double)(M * C) * paper_bytes(c) + 8 * (double)C;
    cost->flops = 2 * (double)(M * C);
    if (!c->ex) return LCL_OK;
    const struct lcl_standardize_args a = {.M = M,
                                           .C = C,
                                           .dtype = c->dtype,
                                           .mean_C = paper_floats(C),
                                           .inv_std_C = paper_floats(C),
                                           .x_MC = paper_tensor(c, M * C),
                                           .y_MC = paper_tensor(c, M * C)};
    return c->ex->ops->standardize_fwd(c->ex, &a);
}

static lcl_status l2norm(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], C = c->n[1], all = M * C;
    cost->bytes = (double)all * paper_bytes(c) * (c->backward ? 3 : 2) + 4 * (double)M;
    cost->flops = (double)all * (c->backward ? 5 : 3);
    if (!c->ex) return LCL_OK;
    const struct lcl_l2norm_args a = {.M = M,
                                      .C = C,
                                      .dtype = c->dtype,
                                      .eps = 1e-6f,
                                      .x_MC = paper_tensor(c, all),
                                      .y_MC = paper_tensor(c, all),
                                      .norm_M = paper_floats(M),
                                      .d_y_MC = paper_tensor(c, all),
                                      .d_x_MC = paper_tensor(c, all)};
    return c->backward ? c->ex->ops->l2norm_bwd(c->ex, &a) : c->ex->ops->l2norm_fwd(c->ex, &a);
}

/* tokens, width of keys */
static lcl_status kv_store(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t T = c->n[0], width = c->n[1], stride = 3 * width;
    cost->bytes = 4 * (double)(T * width) * paper_bytes(c);
    if (!c->ex) return LCL_OK;
    unsigned char *qkv = paper_tensor(c, T * stride);
    const size_t row = (size_t)width * lcl_dtype_bytes(c->dtype);
    const struct lcl_kv_store_args a = {.T = T,
                                        .width = width,
                                        .src_stride = stride,
                                        .rows = 2 * T,
                                        .dtype = c->dtype,
                                        .row_T = paper_indices(T, 2, 2 * T),
                                        .k = qkv + row,
                                        .v = qkv + 2 * row,
                                        .k_cache = paper_tensor(c, 2 * T * width),
                                        .v_cache = paper_tensor(c, 2 * T * width)};
    return c->ex->ops->kv_store_fwd(c->ex, &a);
}

/* supervised rows, width, vocabulary */
static lcl_status head_xent(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t S = c->n[0], C = c->n[1], V = c->n[2];
    const double weights = (double)(V * C), hidden = (double)(S * C) * paper_bytes(c);
    cost->bytes = weights * paper_bytes(c) + hidden;
    if (c->backward) cost->bytes += weights * 8 + hidden;
    cost->flops = 2 * (double)S * weights * (c->backward ? 3 : 1);
    cost->tensor = true;
    cost->work = (double)(S * V);
    if (!c->ex) return LCL_OK;
    static double loss;
    static float logprob[PAPER_HOST_ROWS];
    const struct lcl_head_xent_args a = {.T = S,
                                         .C = C,
                                         .V = V,
                                         .S = S,
                                         .dtype = c->dtype,
                                         .weight_dtype = c->dtype,
                                         .logit_scale = 1,
                                         .hidden_TC = paper_tensor(c, S * C),
                                         .weight_VC = paper_tensor(c, V * C),
                                         .row_S = paper_indices(S, 1, S),
                                         .target_S = paper_indices(S, 7, V),
                                         .loss_sum = &loss,
                                         .logprob_S = logprob,
                                         .grad_scale = 1,
                                         .d_hidden_TC = paper_tensor(c, S * C),
                                         .d_weight_VC = paper_floats(V * C)};
    return c->backward ? c->ex->ops->head_xent_bwd(c->ex, &a)
                       : c->ex->ops->head_xent_fwd(c->ex, &a);
}

/* rows, outputs, inputs; with a bias */
static lcl_status linear(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], N = c->n[1], K = c->n[2];
    const double x = (double)(M * K) * paper_bytes(c), y = (double)(M * N) * paper_bytes(c),
                 w = (double)(N * K);
    cost->bytes = c->backward ? 2 * x + y + w * (paper_bytes(c) + 8) : x + y + w * paper_bytes(c);
    cost->flops = 2 * (double)M * w * (c->backward ? 2 : 1);
    cost->tensor = true;
    cost->work = (double)(M * N);
    if (!c->ex) return LCL_OK;
    const struct lcl_linear_args a = {.M = M,
                                      .N = N,
                                      .K = K,
                                      .dtype = c->dtype,
                                      .weight_dtype = c->dtype,
                                      .x_MK = paper_tensor(c, M * K),
                                      .weight_NK = paper_tensor(c, N * K),
                                      .bias_N = paper_floats(N),
                                      .y_MN = paper_tensor(c, M * N),
                                      .d_y_MN = paper_tensor(c, M * N),
                                      .d_x_MK = paper_tensor(c, M * K),
                                      .d_weight_NK = paper_floats(N * K),
                                      .d_bias_N = paper_floats(N)};
    return c->backward ? c->ex->ops->linear_bwd(c->ex, &a) : c->ex->ops->linear_fwd(c->ex, &a);
}

/* rows, outputs, inputs, bits of a weight: in blocks */
static lcl_status linear_blocks(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t M = c->n[0], N = c->n[1], K = c->n[2];
    const lcl_dtype blocks = c->n[3] == 8 ? LCL_Q8_0 : LCL_Q4_0;
    const size_t codes = lcl_code_bytes(blocks, (size_t)(N * K));
    cost->bytes = (double)(M * (N + K)) * paper_bytes(c) + (double)codes +
                  (double)(N * K / LCL_BLOCK) * sizeof(lcl_f16);
    cost->flops = 2 * (double)M * (double)(N * K);
    cost->tensor = M > 8;
    cost->work = (double)(N * K);
    if (!c->ex) return LCL_OK;
    const struct lcl_linear_args a = {.M = M,
                                      .N = N,
                                      .K = K,
                                      .dtype = c->dtype,
                                      .weight_dtype = blocks,
                                      .x_MK = paper_tensor(c, M * K),
                                      .weight_NK = paper_give(codes / sizeof(float), LCL_F32),
                                      .weight_scale_NB =
                                          paper_give((size_t)(N * K / LCL_BLOCK), LCL_BF16),
                                      .y_MN = paper_tensor(c, M * N),
                                      .d_y_MN = paper_tensor(c, M * N),
                                      .d_x_MK = paper_tensor(c, M * K)};
    return c->backward ? c->ex->ops->linear_bwd(c->ex, &a) : c->ex->ops->linear_fwd(c->ex, &a);
}

/* parameters; f32, and where c is bf16 in two halves */
static lcl_status adamw(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t count = c->n[0];
    const bool halves = c->dtype == LCL_BF16;
    cost->bytes = (double)count * 28;
    cost->flops = 14 * (double)count;
    if (!c->ex) return LCL_OK;
    const struct lcl_segment all = {.count = count,
                                    .grad = paper_floats(count),
                                    .value = halves ? NULL : paper_floats(count),
                                    .m = paper_floats(count),
                                    .v = paper_floats(count),
                                    .value16 = halves ? paper_give((size_t)count, LCL_BF16) : NULL,
                                    .low16 = halves ? paper_give((size_t)count, LCL_BF16) : NULL,
                                    .lr = 1e-3};
    const struct lcl_adamw_args a = {
        .N = 1, .segment_N = &all, .step = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    return c->ex->ops->adamw_fwd(c->ex, &a);
}

/* elements */
static lcl_status sumsq(const struct paper_call *c, struct paper_cost *cost)
{
    cost->bytes = 4 * (double)c->n[0];
    cost->flops = 2 * (double)c->n[0];
    if (!c->ex) return LCL_OK;
    static double sum;
    const struct lcl_segment all = {.count = c->n[0], .grad = paper_floats(c->n[0])};
    const struct lcl_sumsq_args a = {.N = 1, .segment_N = &all, .sum_N = &sum};
    return c->ex->ops->sumsq_fwd(c->ex, &a);
}

static lcl_status add(const struct paper_call *c, struct paper_cost *cost)
{
    cost->bytes = 3 * (double)c->n[0] * paper_bytes(c);
    cost->flops = 2 * (double)c->n[0];
    if (!c->ex) return LCL_OK;
    const struct lcl_add_args a = {
        c->n[0], c->dtype, c->dtype, 1, paper_tensor(c, c->n[0]), paper_tensor(c, c->n[0])};
    return c->ex->ops->add_fwd(c->ex, &a);
}

/* f32 to bf16, and bf16 to f32 */
static lcl_status cast(const struct paper_call *c, struct paper_cost *cost)
{
    const lcl_dtype to = c->dtype == LCL_F32 ? LCL_BF16 : LCL_F32;
    cost->bytes = 6 * (double)c->n[0];
    if (!c->ex) return LCL_OK;
    const struct lcl_cast_args a = {c->n[0], c->dtype, to, paper_tensor(c, c->n[0]),
                                    paper_give((size_t)c->n[0], to)};
    return c->ex->ops->cast_fwd(c->ex, &a);
}

/* --- the cases --- */

const struct paper_op paper_ops[] = {
    {"attention d128",
     "attention",
     paper_attention,
     FWD | BWD,
     "8,192 tokens, 32 heads of 128, causal",
     {1, 8192, 32, 32, 128, 1},
     {1, 256, 8, 4, 128, 1}},
    {"attention d64",
     "attention",
     paper_attention,
     FWD | BWD,
     "16 x 577 tokens, 16 heads of 64, full",
     {16, 577, 16, 16, 64, 0},
     {1, 192, 8, 8, 64, 0}},
    {"attention d96", "attention", paper_attention, FWD | BWD, NULL, {0}, {1, 128, 8, 4, 96, 0}},
    {"attention d32", "attention", paper_attention, FWD | BWD, NULL, {0}, {1, 192, 8, 4, 32, 1}},
    {"attention d16", "attention", paper_attention, FWD | BWD, NULL, {0}, {1, 192, 8, 4, 16, 1}},
    {"attention-wgmma d128",
     "attention-wgmma",
     paper_attention_wgmma,
     FWD | BWD | PAPER_BF16_ONLY,
     "8,192 tokens, 32 heads of 128, causal",
     {1, 8192, 32, 32, 128, 1},
     {1, 256, 4, 2, 128, 1}},
    {"attention-wgmma d64",
     "attention-wgmma",
     paper_attention_wgmma,
     FWD | BWD | PAPER_BF16_ONLY,
     "16 x 577 tokens, 16 heads of 64, full",
     {16, 577, 16, 16, 64, 0},
     {1, 256, 4, 4, 64, 0}},
    {"attention-decode d128",
     "attention-decode",
     paper_decode,
     FWD,
     "a query after 8,192 tokens, 32 heads of 128, 8 of keys",
     {1, 8192, 0, 32, 8, 128},
     {1, 2048, 0, 8, 2, 128}},
    {"attention-decode d128 shared",
     "attention-decode",
     paper_decode,
     FWD,
     "16 queries, 64 own tokens each, after 4,096 shared ones",
     {16, 64, 4096, 32, 8, 128},
     {16, 64, 1024, 8, 2, 128}},
    {"attention-decode d64",
     "attention-decode",
     paper_decode,
     FWD,
     "a query after 2,048 tokens, 9 heads of 64, 3 of keys",
     {1, 2048, 0, 9, 3, 64},
     {1, 2048, 0, 9, 3, 64}},
    {"attention-decode d96",
     "attention-decode",
     paper_decode,
     FWD,
     NULL,
     {0},
     {2, 512, 0, 4, 2, 96}},
    {"attention-decode d32",
     "attention-decode",
     paper_decode,
     FWD,
     NULL,
     {0},
     {2, 512, 0, 4, 2, 32}},
    {"attention-decode d16",
     "attention-decode",
     paper_decode,
     FWD,
     NULL,
     {0},
     {2, 512, 0, 4, 2, 16}},
    {"sample",
     "sample",
     paper_sample,
     FWD,
     "64 rows of 32,000 words, top-p",
     {64, 32000},
     {2, 32000}},
    {"layernorm",
     "norm",
     layernorm,
     FWD | BWD,
     "16 x 577 rows of 1,024",
     {16 * 577, 1024},
     {16, 1024}},
    {"rmsnorm", "norm", rmsnorm, FWD | BWD, "8,192 rows of 4,096", {8192, 4096}, {8, 4096}},
    {"gelu", "act", gelu, FWD | BWD, "16 x 577 rows of 4,096", {16 * 577, 4096}, {8, 4096}},
    {"swiglu", "act", swiglu, FWD | BWD, "8,192 rows of 11,008", {8192, 11008}, {2, 11008}},
    {"dropout", "act", dropout, FWD | BWD, "8,192 rows of 4,096", {8192, 4096}, {8, 4096}},
    {"rotary",
     "rotary",
     rotary,
     FWD,
     "8,192 tokens, 64 heads of 128",
     {8192, 64, 128},
     {4, 64, 128}},
    {"embed",
     "embed",
     embed,
     FWD | BWD,
     "8,192 tokens of 4,096",
     {8192, 4096, 32000},
     {16, 4096, 64}},
    {"splice", "embed", splice, FWD | BWD, "4,096 slots of 4,096", {4096, 4096}, {8, 4096}},
    {"patchify",
     "vit",
     patchify,
     FWD,
     "16 pictures of 224, patches of 14",
     {16, 224, 14},
     {1, 224, 14}},
    {"patchify 16",
     "vit",
     patchify,
     FWD,
     "16 pictures of 224, patches of 16",
     {16, 224, 16},
     {1, 224, 16}},
    {"patchify bytes",
     "vit",
     patchify_bytes,
     FWD,
     "16 pictures of 224, patches of 14, in bytes",
     {16, 224, 14},
     {1, 224, 14}},
    {"patchify bytes 16",
     "vit",
     patchify_bytes,
     FWD,
     "16 pictures of 224, patches of 16, in bytes",
     {16, 224, 16},
     {1, 224, 16}},
    {"vit_assemble",
     "vit",
     vit_assemble,
     FWD | BWD,
     "16 x 576 patches of 1,024",
     {16, 576, 1024},
     {4, 16, 1024}},
    {"image_pool mean",
     "vit",
     image_pool,
     FWD | BWD,
     "16 x 577 tokens of 1,024",
     {16, 577, 1024, LCL_POOL_MEAN},
     {2, 65, 1024, LCL_POOL_MEAN}},
    {"image_pool 2x2",
     "vit",
     image_pool,
     FWD | BWD,
     "16 x 577 tokens of 1,024",
     {16, 577, 1024, LCL_POOL_2X2},
     {2, 65, 1024, LCL_POOL_2X2}},
    {"standardize", "vit", standardize, FWD, "4,096 rows of 1,024", {4096, 1024}, {64, 1024}},
    {"l2norm", "vit", l2norm, FWD | BWD, "4,096 rows of 1,024", {4096, 1024}, {16, 1024}},
    {"kv_store", "kv-store", kv_store, FWD, "8,192 tokens, keys of 4,096", {8192, 4096}, {4, 4096}},
    {"head_xent",
     "head-xent",
     head_xent,
     FWD | BWD,
     "2,048 rows of 4,096, 32,000 words",
     {2048, 4096, 32000},
     {4, 64, 32000}},
    {"linear",
     "linear",
     linear,
     FWD | BWD,
     "8,192 x 4,096 by 4,096, with a bias",
     {8192, 4096, 4096},
     {128, 512, 16}},
    {"linear q8_0",
     "linear",
     linear_blocks,
     FWD | BWD,
     "8,192 x 4,096 by 4,096",
     {8192, 4096, 4096, 8},
     {32, 256, 4096, 8}},
    {"linear q4_0",
     "linear",
     linear_blocks,
     FWD | BWD,
     "8,192 x 4,096 by 4,096",
     {8192, 4096, 4096, 4},
     {32, 256, 4096, 4}},
    {"linear q8_0, 1 row",
     "linear",
     linear_blocks,
     FWD,
     "1 x 4,096 by 4,096",
     {1, 4096, 4096, 8},
     {1, 64, 4096, 8}},
    {"linear q4_0, 1 row",
     "linear",
     linear_blocks,
     FWD,
     "1 x 4,096 by 4,096",
     {1, 4096, 4096, 4},
     {1, 64, 4096, 4}},
    {"linear q8_0, 8 rows",
     "linear",
     linear_blocks,
     FWD,
     "8 x 4,096 by 4,096",
     {8, 4096, 4096, 8},
     {8, 64, 4096, 8}},
    {"linear q4_0, 8 rows",
     "linear",
     linear_blocks,
     FWD,
     "8 x 4,096 by 4,096",
     {8, 4096, 4096, 4},
     {8, 64, 4096, 4}},
    {"adamw", "adamw", adamw, FWD, "10^9 parameters", {1000000000}, {65536}},
    {"sumsq", "adamw", sumsq, FWD, "10^9 elements", {1000000000}, {131072}},
    {"add", "adamw", add, FWD, "8,192 x 4,096", {8192 * 4096}, {32768}},
    {"cast", "adamw", cast, FWD, "10^9 elements", {1000000000}, {32768}},
};
const int paper_n_ops = (int)(sizeof paper_ops / sizeof paper_ops[0]);
