/* FLOPs and bytes of every op and direction against cases counted by hand. */
#include "tests/support/support.h"

#include "core/ops_cost.h"

static char here[64]; /* stands for any tensor: only whether it is there counts */
static bool seen[LCL_OP_HALVES];

static void check(enum lcl_op_half op, const void *args, double flops, double bytes)
{
    struct lcl_op_cost c;
    seen[op] = true;
    lcl_op_cost(op, args, &c);
    if (c.flops != flops || c.bytes != bytes)
        fail_msg("%s: %.0f operations, %.0f bytes; wanted %.0f and %.0f", lcl_op_name(op), c.flops,
                 c.bytes, flops, bytes);
}
#define CHECK(half, args_type, flops, bytes, ...) \
    check(LCL_OP_##half, &(struct lcl_##args_type##_args){__VA_ARGS__}, flops, bytes)

static void products(void **state)
{
    (void)state;
    /* 3 x 5 of 7: 105 multiplications and additions a product */
    CHECK(linear_fwd, linear, 210, 4 * (21 + 35 + 15), .M = 3, .N = 5, .K = 7);
    CHECK(linear_fwd, linear, 210, 2 * 21 + 2 * 35 + 2 * 2 * 15 + 4 * 5, .M = 3, .N = 5, .K = 7,
          .dtype = LCL_BF16, .weight_dtype = LCL_BF16, .bias_N = (float *)here,
          .accumulate_y = true);
    CHECK(linear_bwd, linear, 420, 4 * (15 + 35 + 21 + 21) + 8 * (35 + 5), .M = 3, .N = 5, .K = 7,
          .d_x_MK = here, .d_weight_NK = (float *)here, .d_bias_N = (float *)here);
    CHECK(linear_bwd, linear, 210, 4 * (15 + 35 + 2 * 21), .M = 3, .N = 5, .K = 7, .d_x_MK = here,
          .accumulate_d_x = true);
    CHECK(linear_bwd, linear, 210, 4 * (15 + 21) + 8 * 35, .M = 3, .N = 5, .K = 7,
          .d_weight_NK = (float *)here);
    /* 4 rows of width 6 against 10 words */
    CHECK(head_xent_fwd, head_xent, 480, 4 * (24 + 60) + 4 * 4 * 4, .T = 9, .C = 6, .V = 10, .S = 4,
          .target_S = (int32_t *)here, .logprob_S = (float *)here, .argmax_S = (int32_t *)here);
    CHECK(head_xent_fwd, head_xent, 480, 4 * (24 + 60) + 4 * 4 * 3 + 160, .T = 9, .C = 6, .V = 10,
          .S = 4, .target_S = (int32_t *)here, .weight_S = (float *)here,
          .logits_SV = (float *)here);
    CHECK(head_xent_bwd, head_xent, 3 * 480, 2 * (24 + 60 + 54) + 4 * 4 * 2 + 8 * 60, .T = 9,
          .C = 6, .V = 10, .S = 4, .dtype = LCL_BF16, .weight_dtype = LCL_BF16,
          .target_S = (int32_t *)here, .d_hidden_TC = here, .d_weight_VC = (float *)here);
    CHECK(head_xent_bwd, head_xent, 2 * 480, 4 * (24 + 60 + 54) + 4 * 4 * 2, .T = 9, .C = 6,
          .V = 10, .S = 4, .target_S = (int32_t *)here, .d_hidden_TC = here);
}

/* The pairs by the definition of core/ops.h, one by one. */
static double count_pairs(const struct lcl_attention_args *a)
{
    double pairs = 0;
    for (int64_t r = 0; r < a->n_runs; r++) {
        const struct lcl_attn_run *run = &a->runs[r];
        int own = run->own_end - run->own_begin, queries = run->q_end - run->q_begin;
        for (int i = 0; i < queries; i++) {
            pairs += run->prefix_end - run->prefix_begin;
            for (int j = 0; j < own; j++) pairs += !a->causal || j <= i + own - queries;
        }
    }
    return pairs;
}

static void attention(void **state)
{
    (void)state;
    /* Two packed sequences of 3 and 2: 6 + 3 pairs, or all 9 + 4. */
    const struct lcl_attn_run packed[] = {{0, 3, 0, 0, 0, 3, 0}, {3, 5, 3, 3, 3, 5, 1}};
    struct lcl_attention_args a = {
        .n_runs = 2, .H = 4, .G = 2, .D = 8, .causal = true, .runs = packed};
    assert_true(lcl_attention_pairs(&a) == 9 && count_pairs(&a) == 9);
    /* q, out: 5 rows of 32; k, v: of 16 */
    check(LCL_OP_attention_fwd, &a, 4 * 32 * 9, 4 * 5 * (2 * 32 + 2 * 16));
    a.lse_TH = (float *)here;
    check(LCL_OP_attention_fwd, &a, 4 * 32 * 9, 4 * 5 * (2 * 32 + 2 * 16) + 4 * 20);
    check(LCL_OP_attention_bwd, &a, 10 * 32 * 9, 4 * 5 * (4 * 32 + 4 * 16) + 4 * 20);
    a.causal = false;
    assert_true(lcl_attention_pairs(&a) == 13);
    /* A context of 4 rows that two branches of 2 and 1 share: 10 + (8 + 3) + (4 + 1) pairs, and its
     * rows are read once. */
    const struct lcl_attn_run shared[] = {
        {0, 4, 0, 0, 0, 4, 0}, {4, 6, 0, 4, 4, 6, 0}, {6, 7, 0, 4, 6, 7, 0}};
    a = (struct lcl_attention_args){
        .n_runs = 3, .H = 1, .G = 1, .D = 4, .dtype = LCL_BF16, .causal = true, .runs = shared};
    assert_true(lcl_attention_pairs(&a) == 26);
    check(LCL_OP_attention_fwd, &a, 4 * 4 * 26, 2 * 7 * 4 * 4);
    /* Decoding: one query, a prefix of 5 in the cache and 2 own keys, twice on the same prefix. */
    const struct lcl_attn_run decoding[] = {{0, 1, 0, 5, 5, 7, 0}, {1, 2, 0, 5, 7, 9, 0}};
    a.n_runs = 2;
    a.runs = decoding;
    assert_true(lcl_attention_pairs(&a) == 14);
    check(LCL_OP_attention_fwd, &a, 4 * 4 * 14, 2 * (2 * 2 * 4 + 2 * 9 * 4));
    /* Fewer keys than queries: the first queries see none. */
    const struct lcl_attn_run uneven[] = {{0, 5, 0, 0, 0, 3, 0}};
    a.n_runs = 1;
    a.runs = uneven;
    assert_true(lcl_attention_pairs(&a) == 6 && count_pairs(&a) == 6);
}

static void rows(void **state)
{
    (void)state;
    CHECK(layernorm_fwd, layernorm, 0, 4 * (2 * 15 + 2 * 5 + 2 * 3), .M = 3, .C = 5);
    CHECK(layernorm_fwd, layernorm, 0, 4 * (4 * 15 + 2 * 5 + 2 * 3), .M = 3, .C = 5,
          .add_MC = here);
    CHECK(layernorm_bwd, layernorm, 0, 4 * (4 * 15 + 5 + 2 * 3) + 8 * 10, .M = 3, .C = 5,
          .d_sum_MC = here, .d_weight_C = (float *)here, .d_bias_C = (float *)here);
    CHECK(rmsnorm_fwd, rmsnorm, 0, 2 * 2 * 15 + 4 * (5 + 3), .M = 3, .C = 5, .dtype = LCL_BF16);
    CHECK(rmsnorm_bwd, rmsnorm, 0, 4 * (3 * 15 + 5 + 3) + 8 * 5, .M = 3, .C = 5,
          .d_weight_C = (float *)here);
    CHECK(gelu_fwd, gelu, 0, 4 * 22, .count = 11);
    CHECK(gelu_bwd, gelu, 0, 2 * 33, .count = 11, .dtype = LCL_BF16);
    CHECK(dropout_fwd, dropout, 0, 4 * 22, .count = 11);
    CHECK(dropout_bwd, dropout, 0, 2 * 33, .count = 11, .dtype = LCL_BF16, .accumulate_d_x = true);
    CHECK(swiglu_fwd, swiglu, 0, 4 * 3 * 15, .M = 3, .F = 5);
    CHECK(swiglu_bwd, swiglu, 0, 4 * 5 * 15, .M = 3, .F = 5);
    CHECK(rotary_fwd, rotary, 0, 4 * (2 * 3 * 2 * 8 + 3 + 4), .T = 3, .n_heads = 2, .D = 8);
    CHECK(rotary_bwd, rotary, 0, 4 * (2 * 3 * 2 * 8 + 3 + 4), .T = 3, .n_heads = 2, .D = 8);
    CHECK(standardize_fwd, standardize, 0, 4 * (2 * 15 + 2 * 5), .M = 3, .C = 5);
    CHECK(standardize_bwd, standardize, 0, 4 * (2 * 15 + 5), .M = 3, .C = 5);
    CHECK(l2norm_fwd, l2norm, 0, 4 * (2 * 15 + 3), .M = 3, .C = 5);
    CHECK(l2norm_bwd, l2norm, 0, 4 * (3 * 15 + 3), .M = 3, .C = 5);
}

static void gathers(void **state)
{
    (void)state;
    CHECK(embed_fwd, embed, 0, 4 * 3 + 2 * 15 + 4 * 15, .T = 3, .C = 5, .V = 100, .dtype = LCL_BF16,
          .table_dtype = LCL_F32);
    CHECK(embed_bwd, embed, 0, 4 * 3 + 4 * 15 + 8 * 2 * 5, .T = 3, .C = 5, .V = 2);
    CHECK(splice_fwd, splice, 0, 4 * (2 * 15) + 8 * 3, .n = 3, .T = 9, .R = 4, .C = 5);
    CHECK(splice_bwd, splice, 0, 4 * (2 * 15 + 20) + 8 * 3, .n = 3, .T = 9, .R = 4, .C = 5);
    CHECK(vit_assemble_fwd, vit_assemble, 0, 4 * (2 * 4 * 5 + 2 * 5 * 5 + 5 + 25), .I = 2, .P = 4,
          .C = 5);
    CHECK(vit_assemble_bwd, vit_assemble, 0, 4 * (2 * 5 * 5 + 2 * 4 * 5) + 8 * (5 + 25), .I = 2,
          .P = 4, .C = 5, .d_class_C = (float *)here, .d_position_TC = (float *)here);
    CHECK(image_pool_fwd, image_pool, 0, 4 * 2 * (16 + 4) * 5, .I = 2, .T = 17, .C = 5,
          .first_token = 1, .kind = LCL_POOL_2X2);
    CHECK(image_pool_bwd, image_pool, 0, 4 * 2 * (17 + 1) * 5, .I = 2, .T = 17, .C = 5,
          .first_token = 1, .kind = LCL_POOL_MEAN);
    CHECK(patchify_fwd, patchify, 0, 2 * 3 * 64 * (4 + 2), .I = 2, .size = 9, .patch = 4,
          .dtype = LCL_BF16);
    CHECK(patchify_fwd, patchify, 0, 2 * 3 * 64 * (1 + 2), .I = 2, .size = 9, .patch = 4,
          .dtype = LCL_BF16, .byte_I3SS = (const uint8_t *)here);
    CHECK(sample_fwd, sample, 0, 3 * (4 * 8 + 12), .S = 3, .V = 8);
    CHECK(kv_store_fwd, kv_store, 0, 3 * (4 * 8 * 4 + 4), .T = 3, .width = 8);
}

static void elements(void **state)
{
    (void)state;
    CHECK(add_fwd, add, 0, 11 * (2 + 8), .count = 11, .x_dtype = LCL_BF16);
    CHECK(cast_fwd, cast, 0, 11 * (4 + 2), .count = 11, .y_dtype = LCL_BF16);
    CHECK(zero_fwd, zero, 0, 44, .bytes = 44);
    CHECK(replay_fwd, replay, 0, 0, .work = NULL);
    CHECK(upload_fwd, upload, 0, 11 * (4 + 2), .count = 11, .y_dtype = LCL_BF16);
    CHECK(download_fwd, download, 0, 11 * 8, .count = 11);
    struct lcl_segment segment[] = {{.count = 7, .value = (float *)here},
                                    {.count = 4, .value = (float *)here}};
    CHECK(adamw_fwd, adamw, 0, 11 * (3 * 8 + 4), .N = 2, .segment_N = segment);
    CHECK(sumsq_fwd, sumsq, 0, 44, .N = 2, .segment_N = segment);
    segment[1].value16 = (lcl_bf16 *)here;
    CHECK(adamw_fwd, adamw, 0, 11 * (3 * 8 + 4) + 4 * 2, .N = 2, .segment_N = segment);
    segment[1].value = NULL;
    segment[1].low16 = (uint16_t *)here;
    CHECK(adamw_fwd, adamw, 0, 11 * (3 * 8 + 4), .N = 2, .segment_N = segment);
    segment[1] = (struct lcl_segment){.count = 512, .value16 = segment[1].value16, .state = LCL_U8};
    CHECK(adamw_fwd, adamw, 0, 7 * (3 * 8 + 4) + 512 * (4 + 4 + 4) + 2 * 2 * 2 * 4, .N = 2,
          .segment_N = segment);
}

static void every_half_was_counted(void **state)
{
    (void)state;
    for (int op = 0; op < LCL_OP_HALVES; op++)
        if (!seen[op]) fail_msg("no case of %s", lcl_op_name((enum lcl_op_half)op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products), cmocka_unit_test(attention),
        cmocka_unit_test(rows),     cmocka_unit_test(gathers),
        cmocka_unit_test(elements), cmocka_unit_test(every_half_was_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
