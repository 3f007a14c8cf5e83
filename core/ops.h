/* The op table: what a backend computes. Model code calls ex->ops->NAME_fwd(ex, &args) and never
 * asks which backend.
 *
 * One argument struct serves an op's forward and backward. Unless a comment says otherwise
 *  - matrices are row-major and contiguous; `dtype` (f32 or bf16) is that of activations and their
 * gradients;
 *  - parameters' gradients (d_weight, d_bias, d_table, ...) are f32 and ACCUMULATED; activations'
 * gradients are WRITTEN;
 *  - sums accumulate in f32 (statistics of long sums in f64) in an order that depends on shapes
 * alone;
 *  - a NULL gradient pointer means that it is not wanted;
 *  - tensors are memory of the backend; index arrays (int32_t: ids, slots, rows, positions,
 * targets), attention's runs, inv_freq, pixels and head_xent's weight_S are the host's in every
 * backend,
 * and so are segments and results that a person reads (loss_sum, logprob_S, argmax_S, logits_SV,
 * sum_N, non_finite_N);
 *  - ops allocate nothing but thread scratch and return LCL_SHAPE / LCL_NUMERIC / LCL_MEMORY on
 * failure.
 *
 * Legend: T tokens, M rows, C width, N outputs, K inputs, H query heads, G key/value heads, D head
 * width, V vocabulary, I images, P patches, S supervised rows, F feed-forward width, N (of the
 * optimizer) segments. A tensor's suffix names its dimensions. */
#ifndef LCL_CORE_OPS_H
#define LCL_CORE_OPS_H

#include "core/blocks.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lcl_exec;

/* The list: every op is DIFF (forward and backward) or FWD (forward only). tests/ops/test_table.c
 * fails while any lacks an implementation or a test. */
#define LCL_OPS(DIFF, FWD) \
    DIFF(linear)           \
    DIFF(layernorm)        \
    DIFF(rmsnorm)          \
    DIFF(gelu)             \
    DIFF(swiglu)           \
    DIFF(dropout)          \
    DIFF(rotary)           \
    DIFF(attention)        \
    DIFF(embed)            \
    DIFF(splice)           \
    DIFF(vit_assemble)     \
    DIFF(image_pool)       \
    DIFF(standardize)      \
    DIFF(l2norm)           \
    DIFF(head_xent)        \
    FWD(patchify)          \
    FWD(kv_store)          \
    FWD(sample)            \
    FWD(add)               \
    FWD(cast)              \
    FWD(zero)              \
    FWD(upload)            \
    FWD(download)          \
    FWD(adamw)             \
    FWD(sumsq)             \
    FWD(replay)

/* y_MN = scale x_MK weight_NK^T + bias_N, added to y when accumulate_y.
 * Backward: d_x_MK (added to when accumulate_d_x), d_weight_NK += scale d_y^T x, d_bias_N += column
 * sums of d_y. y and d_y may be columns of wider rows: then without a bias, and of weight_dtype.
 *
 * A frozen weight may be in blocks (core/blocks.h): weight_NK are its codes, from a multiple of 16
 * bytes on, rows of K elements, a multiple of LCL_BLOCK. An element counts as the number of
 * `dtype` that is nearest to code * scale. Such a weight has no gradient. */
struct lcl_linear_args {
    int64_t M, N, K;
    int64_t y_stride;       /* elements a row of y and d_y; 0: N */
    float scale;            /* 0: 1 */
    lcl_dtype dtype;        /* x, y, d_x, d_y */
    lcl_dtype weight_dtype; /* f32, bf16, q8_0 or q4_0 */
    const void *x_MK, *weight_NK;
    const lcl_f16 *weight_scale_NB; /* of blocks: B = K / LCL_BLOCK */
    const float *bias_N;            /* or NULL */
    void *y_MN;
    bool accumulate_y;
    const void *d_y_MN;
    void *d_x_MK;
    bool accumulate_d_x;
    float *d_weight_NK, *d_bias_N;
};

/* Residual fused in front: sum = x + add (sum == x where add is NULL; sum may alias x or add), y =
 * norm(sum) * weight + bias. Backward: d_x_MC = gradient through the norm + d_sum_MC (the gradient
 * that reaches sum along the residual path; NULL for none); d_x may alias d_sum or d_y. It reads
 * sum_MC, mean_M and rstd_M as saved by the forward. */
struct lcl_layernorm_args {
    int64_t M, C;
    lcl_dtype dtype;
    float eps;
    const void *x_MC, *add_MC;
    void *sum_MC; /* written when add_MC is given; read by the backward (pass x_MC's buffer where
                     there was no add) */
    const float *weight_C, *bias_C;
    void *y_MC;
    float *mean_M, *rstd_M;
    const void *d_y_MC, *d_sum_MC;
    void *d_x_MC;
    float *d_weight_C, *d_bias_C;
};

/* As layernorm, without mean and bias: y = sum * rstd * weight, rstd = 1 / sqrt(mean(sum^2) + eps).
 */
struct lcl_rmsnorm_args {
    int64_t M, C;
    lcl_dtype dtype;
    float eps;
    const void *x_MC, *add_MC;
    void *sum_MC;
    const float *weight_C;
    void *y_MC;
    float *rstd_M;
    const void *d_y_MC, *d_sum_MC;
    void *d_x_MC;
    float *d_weight_C;
};

/* gelu: x Phi(x) by erf; quick_gelu: x sigmoid(1.702 x); gelu_tanh: the tanh form. y may alias x;
 * d_x may alias d_y. */
enum lcl_gelu_kind { LCL_GELU_ERF, LCL_GELU_QUICK, LCL_GELU_TANH };
struct lcl_gelu_args {
    int64_t count;
    lcl_dtype dtype;
    enum lcl_gelu_kind kind;
    const void *x;
    void *y;
    const void *d_y;
    void *d_x;
};

/* gate_up rows hold F gate values, then F up values: y = silu(gate) * up. d_gate_up may alias
 * gate_up. */
struct lcl_swiglu_args {
    int64_t M, F;
    lcl_dtype dtype;
    const void *gate_up_M2F;
    void *y_MF;
    const void *d_y_MF;
    void *d_gate_up_M2F;
};

/* y = x / (1 - p) where an element stays, else 0; y may alias x. Element i is dropped where number
 * i of the stream (seed, LCL_RNG_DROPOUT, epoch, stream) of core/rng.h is below p 2^32, so the mask
 * is the same in every backend and need not be kept. Backward: d_x from d_y by the same mask, added
 * to when accumulate_d_x. 0 <= p < 1; at most 2^34 elements. */
struct lcl_dropout_args {
    int64_t count;
    lcl_dtype dtype;
    double p;
    uint64_t seed, stream;
    uint32_t epoch;
    const void *x;
    void *y;
    const void *d_y;
    void *d_x;
    bool accumulate_d_x;
};

/* In place on the first n_heads heads of every row (queries, then keys): the rotate-half convention
 * of transformers: pairs (i, i + D/2), angle = position * inv_freq[i], result scaled by `scale` (1
 * but for some rope scalings). Backward: the inverse rotation in place of x (which then holds
 * gradients). */
struct lcl_rotary_args {
    int64_t T, n_heads, D, row_stride; /* row_stride in elements */
    lcl_dtype dtype;
    void *x;
    const int32_t *position_T;
    const float *inv_freq; /* [D/2] */
    float scale;
};

/* One run of queries. Query row i (0-based in the run) sees every key of [prefix_begin, prefix_end)
 * and, of its own keys [own_begin, own_end): all (full), or those j <= i + (own_end - own_begin) -
 * (q_end - q_begin) (causal). Ranges are rows of q, and rows of k and v. This one description
 * covers packed training sequences (no prefix), shared-prefix episodes (branches whose prefix is
 * the context's rows), prefill over a cache, and decoding (one query row). Runs that share a prefix
 * have the same `group` and lie one after another, the prefix's own run first. */
struct lcl_attn_run {
    int32_t q_begin, q_end;
    int32_t prefix_begin, prefix_end; /* empty: equal */
    int32_t own_begin, own_end;
    int32_t group;
};

/* softmax(scale q k^T) v with grouped heads: query head h reads key/value head h / (H / G). D
 * is 4..128, a multiple of 4. q, k, v and their gradients are strided rows (elements), so they may
 * be parts of one packed qkv matrix. Backward WRITES d_q, d_k, d_v rows that some run names as its
 * q or own rows, of which no two runs share one; it needs q rows == own rows in every run, but
 * where a run is neither causal nor has a prefix: that may have other keys than queries (cross
 * attention), if it has queries. */
struct lcl_attention_args {
    int64_t n_runs, H, G, D;
    int64_t q_stride, kv_stride; /* elements a row, also of d_q and d_k / d_v */
    int64_t out_stride;          /* elements a row of out and d_out; lse_TH rows are H apart */
    lcl_dtype dtype;
    bool causal;
    float scale;
    const struct lcl_attn_run *runs;
    const void *q, *k, *v;
    void *out;
    float *lse_TH; /* natural-log sum of exp of scaled scores a query row and head; kept for the
                      backward; NULL: not kept */
    const void *d_out;
    void *d_q, *d_k, *d_v;
    int64_t most_keys; /* own keys that a run may come to have when the call is done again from a
                          recording (lcl_replay_args); 0: as many as now */
};

/* out_TC[t] = table_VC[id[t]]; backward: d_table[id[t]] += d_out[t], in token order for each id.
 * Ids are checked (LCL_RANGE). */
struct lcl_embed_args {
    int64_t T, C, V;
    lcl_dtype dtype, table_dtype;
    const int32_t *id_T;
    const void *table_VC;
    void *out_TC;
    const void *d_out_TC;
    float *d_table_VC;
};

/* Image features into their slots: dst_TC[slot[i]] = src_RC[src_row[i]], i < n. One source row may
 * fill several slots. Backward: d_src[r] = sum over its slots of d_dst, in slot order (0 where it
 * has none); those rows of d_dst become 0. */
struct lcl_splice_args {
    int64_t n, T, R, C;
    lcl_dtype dtype;
    const int32_t *slot, *src_row;
    const void *src_RC;
    void *dst_TC;
    void *d_dst_TC;
    void *d_src_RC;
};

/* x_ITC, T = P + 1: the class embedding, then the patches, each plus its position embedding.
 * Backward: d_patch_IPC written; d_class_C, d_position_TC accumulated over images. */
struct lcl_vit_assemble_args {
    int64_t I, P, C;
    lcl_dtype dtype;
    const void *patch_IPC;
    const float *class_C, *position_TC;
    void *x_ITC;
    const void *d_x_ITC;
    void *d_patch_IPC;
    float *d_class_C, *d_position_TC;
};

/* Selects the tokens from first_token on (1 drops the class token) and pools them:
 * none: as they are; mean: one token; 2x2: means of the four quarters of the square patch grid,
 * rows first (needs an even grid side). Backward writes all of d_x_ITC, zeros where not selected.
 * n_out tokens an image: lcl_image_pool_tokens(). */
enum lcl_image_pool_kind { LCL_POOL_NONE, LCL_POOL_MEAN, LCL_POOL_2X2 };
struct lcl_image_pool_args {
    int64_t I, T, C, first_token;
    lcl_dtype dtype;
    enum lcl_image_pool_kind kind;
    const void *x_ITC;
    void *y;
    const void *d_y;
    void *d_x_ITC;
};
int64_t lcl_image_pool_tokens(enum lcl_image_pool_kind kind, int64_t T, int64_t first_token);

/* y = (x - mean) * inv_std by column: features standardised with constants measured once. y may
 * alias x. */
struct lcl_standardize_args {
    int64_t M, C;
    lcl_dtype dtype;
    const float *mean_C, *inv_std_C;
    const void *x_MC;
    void *y_MC;
    const void *d_y_MC;
    void *d_x_MC;
};

/* y = x / max(|x|, eps) by row; norm_M is saved for the backward. */
struct lcl_l2norm_args {
    int64_t M, C;
    lcl_dtype dtype;
    float eps;
    const void *x_MC;
    void *y_MC;
    float *norm_M;
    const void *d_y_MC;
    void *d_x_MC;
};

/* LM head and cross-entropy on the supervised rows only, in chunks, so that no T x V matrix exists.
 * logits = logit_scale * hidden[row[s]] weight_VC^T; loss_sum = sum over s of -weight_S[s] * log
 * softmax(logits)[target[s]]. Forward fills what is asked for: logprob_S (of the target), argmax_S
 * (first of equal ones), loss_sum, logits_SV or kept_SV. With target_S NULL only argmax_S and
 * logits_SV may be asked for. Backward recomputes the logits: it fills the same outputs as the
 * forward in the same pass, WRITES d_hidden_TC (zeros in other rows) and accumulates d_weight_VC,
 * both for the gradient of grad_scale * loss_sum. Rows of row_S are distinct. */
struct lcl_head_xent_args {
    int64_t T, C, V, S;
    lcl_dtype dtype, weight_dtype;
    float logit_scale;
    const void *hidden_TC, *weight_VC;
    const int32_t *row_S, *target_S;
    const float *weight_S; /* NULL: all ones */
    double *loss_sum;
    float *logprob_S;
    int32_t *argmax_S;
    float *logits_SV; /* small cases only: lcl forward, tests */
    float *kept_SV;   /* a tensor instead: logits that an op goes on with */
    float grad_scale;
    void *d_hidden_TC;
    float *d_weight_VC;
};

/* Pictures (of the host; channel planes) to rows of 3 * patch * patch values in the order of a
 * [C, 3, patch, patch] convolution kernel, for the (size / patch)^2 whole patches of each: values
 * as they are, or bytes normalised, (byte / 255 - mean) / std of the channel in double, rounded
 * once. */
struct lcl_patchify_args {
    int64_t I, size, patch;
    lcl_dtype dtype; /* of the rows */
    const float *pixel_I3SS;
    const uint8_t *byte_I3SS; /* in place of pixel_I3SS */
    float mean[3], std[3];    /* of bytes */
    void *row_IPK;
};

/* New keys and values into their cache rows: k_cache[row_T[t]] = k[t], likewise v. k and v rows are
 * src_stride apart; cache rows are width wide and contiguous. Rows outside 0 .. rows-1 are
 * LCL_RANGE. */
struct lcl_kv_store_args {
    int64_t T, width, src_stride, rows;
    lcl_dtype dtype;
    const int32_t *row_T;
    const void *k, *v;
    void *k_cache, *v_cache;
};

/* One token of each row of logits. temperature 0: the first of the greatest. Else tokens are ranked
 * by logit, equal ones by id, the lower first; of them stay the first top_k (0: all), and of these
 * the fewest whose share of the weights exp(logit / temperature) is top_p or more (1: all). The
 * draw, 64 even bits, picks one that stays, by its weight: the first id at which the weights, added
 * by id, exceed draw / 2^64 of their sum. Weights are whole multiples of 2^-40 of the greatest, so
 * the same logits and draws give the same tokens on every backend (core/sample.h). NaN ranks last;
 * where no weight is a number, the first of the greatest. */
struct lcl_sample_args {
    int64_t S, V;
    float temperature, top_p;
    int64_t top_k;
    const float *logits_SV;
    const uint64_t *draw_S; /* of the host; not read at temperature 0 */
    int32_t *token_S;       /* of the host */
};

/* y += scale * x. */
struct lcl_add_args {
    int64_t count;
    lcl_dtype x_dtype, y_dtype;
    float scale;
    const void *x;
    void *y;
};

struct lcl_cast_args {
    int64_t count;
    lcl_dtype x_dtype, y_dtype;
    const void *x;
    void *y;
};

struct lcl_zero_args {
    int64_t bytes;
    void *x;
};

/* y, a tensor, = x, f32 of the host; x may change as soon as the call returns. */
struct lcl_upload_args {
    int64_t count;
    lcl_dtype y_dtype;
    const float *x;
    void *y;
};

/* y, f32 of the host, = x, a tensor. Waits for all that was asked for before, so that results for a
 * person are there too; with a count of 0 it only waits. */
struct lcl_download_args {
    int64_t count;
    lcl_dtype x_dtype;
    const void *x;
    float *y;
};

/* A row of the parameter table, or a part of one that begins on a multiple of LCL_SEGMENT_ALIGN
 * elements of it: the optimizer's ops take a list of them, the host's. Tensors begin on multiples
 * of 4 elements. */
enum { LCL_SEGMENT_ALIGN = 256 };
struct lcl_segment {
    int64_t count;
    const float *grad;
    float *value;      /* NULL: there is value16, alone or with low16 */
    lcl_bf16 *value16; /* receives the bf16 copy; or NULL */
    uint16_t *low16;   /* value16 and it are f32 values in two halves (core/dtype.h); or NULL */
    void *m, *v;
    lcl_dtype state;              /* of m and v: f32, bf16, or u8 (core/code8.h) */
    float *m_scale_B, *v_scale_B; /* of u8: one for each 256 elements */
    double lr, weight_decay;
    uint64_t stream; /* names the row: for rounding */
    int64_t first;   /* the segment's first element in its row, a multiple of LCL_SEGMENT_ALIGN */
};

/* A norm where the backend has it, so that an update need not wait for the host. */
struct lcl_grad_norm {
    double sum; /* of squares, over all segments */
    int64_t non_finite;
    float clip; /* min(1, max_norm / (sqrt(sum) + 1e-6)): what gradients are multiplied by */
};

/* Of every segment's grad: sum_N = sum of squares in f64 by a fixed tree; non_finite_N = how many
 * elements are NaN or infinite; *norm, a tensor, from the sums in their order. Any may be NULL. */
struct lcl_sumsq_args {
    int64_t N;
    const struct lcl_segment *segment_N;
    double *sum_N;
    int64_t *non_finite_N;
    double max_norm; /* 0: no clip */
    struct lcl_grad_norm *norm;
};

/* AdamW (Loshchilov & Hutter 2019, decoupled decay) over all segments: g = grad * norm->clip; m, v
 * as in torch.optim.AdamW; value -= lr * (decay * value + m_hat / (sqrt(v_hat) + eps)). step counts
 * from 1. With a norm that counts non-finite elements nothing changes. norm NULL: no clip. The
 * constants are f64, as in torch: 1 - 0.999f is off by 1e-5 of itself.
 *
 * What a step changes by less than bf16 can tell is rounded stochastically there (values without an
 * f32 master, second moments; first moments go to nearest): 16 random bits are added below the cut.
 * Element i of a row has 16-bit number (i / 128 % 2) * 4 + i % 4, low halves first, of Philox block
 * i / 256 * 32 + i % 128 / 4 of the stream (seed, LCL_RNG_ROUNDING, step, stream; second moments:
 * ~stream), so the bits are the same in every backend and however rows are cut. */
struct lcl_adamw_args {
    int64_t N;
    const struct lcl_segment *segment_N;
    int64_t step;
    double beta1, beta2, eps;
    uint64_t seed; /* of rounding */
    const struct lcl_grad_norm *norm;
};

/* A backend's record of some work; it begins with this. NULL: none yet. */
struct lcl_recording {
    void (*release)(struct lcl_recording *);
};
static inline void lcl_recording_free(struct lcl_recording **r)
{
    if (*r) (*r)->release(*r);
    *r = NULL;
}

/* Work that is done again and again: work(ctx) calls ops of this exec. A backend may keep in
 * *recording what it asked for, and do that again instead of calling it: then what index arrays
 * hold is read anew, where they lay, and results arrive where they did, at the next sync. So in
 * all calls with one recording tensors and arrays stay in place, shapes and attention's prefixes
 * stay as they are (its own keys grow up to most_keys), and work does nothing else on the host that
 * matters and does not wait. What arrays hold is not checked again. LCL_UNSUPPORTED where work
 * calls an op that cannot be recorded: one that makes tables on the host, moves tensors, or waits.
 */
struct lcl_replay_args {
    struct lcl_recording **recording;
    lcl_status (*work)(void *ctx);
    void *ctx;
};

struct lcl_ops {
    const char *backend; /* "cpu", ... */
#define DIFF(op)                                                                           \
    LCL_CHECKED lcl_status (*op##_fwd)(struct lcl_exec *, const struct lcl_##op##_args *); \
    LCL_CHECKED lcl_status (*op##_bwd)(struct lcl_exec *, const struct lcl_##op##_args *);
#define FWD(op) \
    LCL_CHECKED lcl_status (*op##_fwd)(struct lcl_exec *, const struct lcl_##op##_args *);
    LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
};

/* Where ops run. */
struct lcl_exec {
    const struct lcl_ops *ops;
    void *device; /* backend's own; NULL on the CPU */
    bool records; /* replay_fwd does: work that keeps its shape is cheaper than less work */
};

/* Segments are cut in tiles, one after another: first_N1[s] = tiles before segment s (N + 1 of
 * them). Returns their number. */
int64_t lcl_segment_tiles(const struct lcl_segment *segment_N, int64_t N, int64_t tile,
                          int64_t *first_N1);

/* Waits for all ops so far; their results are there afterwards. */
LCL_CHECKED static inline lcl_status lcl_exec_sync(struct lcl_exec *ex)
{
    struct lcl_download_args a = {0, LCL_F32, NULL, NULL};
    return ex->ops->download_fwd(ex, &a);
}

#ifdef __cplusplus
}
#endif
#endif
