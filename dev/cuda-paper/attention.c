/* Attention's cases, and what follows it when tokens are made. */
#include "cuda/cuda.h"
#include "dev/cuda-paper/paper.h"

/* sequences, tokens of each, query heads, key/value heads, head width, causal */
lcl_status paper_attention(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t *n = c->n, T = n[0] * n[1], H = n[2], G = n[3], D = n[4];
    const double q = (double)(T * H * D) * paper_bytes(c),
                 kv = (double)(T * G * D) * paper_bytes(c);
    const double pairs = (double)(T * n[1] * H) * (n[5] ? 0.5 : 1);
    cost->bytes = (c->backward ? 4 * q + 4 * kv : 2 * q + 2 * kv) + (double)(T * H) * 4;
    cost->flops = pairs * 2 * (double)D * (c->backward ? 5 : 2);
    cost->tensor = true;
    /* in the kernels' tiles, diagonals whole */
    const double rows = !c->backward && c->dtype == LCL_BF16 ? 128 : 64;
    const double tiled = (double)((n[1] + 63) / 64 * 64);
    cost->work = (double)(n[0] * H) * tiled * (n[5] ? (tiled + rows) / 2 : tiled);
    if (!c->ex) return LCL_OK;
    struct lcl_attn_run runs[16] = {{0}};
    for (int i = 0; i < n[0]; i++) {
        const int32_t begin = (int32_t)(i * n[1]), end = begin + (int32_t)n[1];
        runs[i] = (struct lcl_attn_run){begin, end, 0, 0, begin, end, i};
    }
    const struct lcl_attention_args a = {.n_runs = n[0],
                                         .H = H,
                                         .G = G,
                                         .D = D,
                                         .q_stride = H * D,
                                         .kv_stride = G * D,
                                         .out_stride = H * D,
                                         .dtype = c->dtype,
                                         .causal = n[5],
                                         .scale = 0.1f,
                                         .runs = runs,
                                         .q = paper_tensor(c, T * H * D),
                                         .k = paper_tensor(c, T * G * D),
                                         .v = paper_tensor(c, T * G * D),
                                         .out = paper_tensor(c, T * H * D),
                                         .lse_TH = paper_floats(T * H),
                                         .d_out = paper_tensor(c, T * H * D),
                                         .d_q = paper_tensor(c, T * H * D),
                                         .d_k = paper_tensor(c, T * G * D),
                                         .d_v = paper_tensor(c, T * G * D)};
    return c->backward ? c->ex->ops->attention_bwd(c->ex, &a)
                       : c->ex->ops->attention_fwd(c->ex, &a);
}

/* On wgmma, for which a block has 128 rows forward and backward. */
lcl_status paper_attention_wgmma(const struct paper_call *c, struct paper_cost *cost)
{
    if (c->ex) LCL_TRY(lcl_cuda_use_wgmma(c->ex, true));
    return paper_attention(c, cost);
}

/* queries, own keys of each, keys that they share, query heads, key/value heads, head width */
lcl_status paper_decode(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t *n = c->n, S = n[0], own = n[1], shared = n[2], H = n[3], G = n[4], D = n[5];
    const int64_t keys = shared + S * own;
    cost->bytes = 2 * (double)(S * H * D + keys * G * D) * paper_bytes(c);
    cost->flops = 4 * (double)(S * (shared + own) * H * D);
    cost->tensor = true;
    cost->work = cost->bytes;
    if (!c->ex) return LCL_OK;
    struct lcl_attn_run runs[64] = {{0}};
    for (int i = 0; i < S; i++) {
        const int32_t begin = (int32_t)(shared + i * own);
        runs[i] =
            (struct lcl_attn_run){i, i + 1, 0, (int32_t)shared, begin, begin + (int32_t)own, 0};
    }
    const struct lcl_attention_args a = {.n_runs = S,
                                         .H = H,
                                         .G = G,
                                         .D = D,
                                         .q_stride = H * D,
                                         .kv_stride = G * D,
                                         .out_stride = H * D,
                                         .dtype = c->dtype,
                                         .scale = 0.1f,
                                         .runs = runs,
                                         .q = paper_tensor(c, S * H * D),
                                         .k = paper_tensor(c, keys * G * D),
                                         .v = paper_tensor(c, keys * G * D),
                                         .out = paper_tensor(c, S * H * D)};
    return c->ex->ops->attention_fwd(c->ex, &a);
}

/* rows, vocabulary; logits are f32 in any case */
lcl_status paper_sample(const struct paper_call *c, struct paper_cost *cost)
{
    const int64_t S = c->n[0], V = c->n[1];
    cost->bytes = 4 * (double)(S * V);
    cost->flops = 4 * (double)(S * V); /* the greatest, and a weight each */
    if (!c->ex) return LCL_OK;
    static uint64_t draw[64];
    static int32_t token[64];
    for (int i = 0; i < S; i++) draw[i] = (uint64_t)i << 58;
    const struct lcl_sample_args a = {.S = S,
                                      .V = V,
                                      .temperature = 1,
                                      .top_p = 0.9f,
                                      .logits_SV = paper_floats(S * V),
                                      .draw_S = draw,
                                      .token_S = token};
    return c->ex->ops->sample_fwd(c->ex, &a);
}
