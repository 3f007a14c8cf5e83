/* Kernels one by one: their arguments, buffers that take turns, and what is measured beside them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "cuda/cuda.h"
#include "dev/bench-gpu/bench.h"
#include "dev/bench-gpu/peers.h"

enum { MOST_COPIES = 8, BLOCK = 1 << 16 };
static const size_t PAST_CACHES = (size_t)256 << 20; /* bytes of all sets of buffers */

enum beside { NOTHING, COPY, PRODUCT, ATTENTION };

struct kernel {
    const char *name;
    enum lcl_op_half op;
    int64_t n[5], dry[5]; /* sizes, in the order of the op's maker below */
    bool causal, gradient_of_weight, wgmma;
    enum beside beside;
};

/* linear: M, N, K. attention: tokens, H, G, D, sequences. norms, swiglu: rows, width. rotary: rows,
 * heads, D. gelu, adamw: elements. head_xent: rows, width, words. */
static const struct kernel kernels[] = {
    {"product, square", LCL_OP_linear_fwd, {8192, 8192, 8192}, {64, 64, 64}, .beside = PRODUCT},
    {"product, q k v", LCL_OP_linear_fwd, {4608, 12288, 4096}, {48, 96, 64}, .beside = PRODUCT},
    {"product, out", LCL_OP_linear_fwd, {4608, 4096, 4096}, {48, 64, 64}, .beside = PRODUCT},
    {"product, gate up", LCL_OP_linear_fwd, {4608, 22016, 4096}, {48, 96, 64}, .beside = PRODUCT},
    {"product, down", LCL_OP_linear_fwd, {4608, 4096, 11008}, {48, 64, 96}, .beside = PRODUCT},
    {"product, d_x of gate up",
     LCL_OP_linear_bwd,
     {4608, 22016, 4096},
     {48, 96, 64},
     .beside = NOTHING},
    {"product, d_w of gate up",
     LCL_OP_linear_bwd,
     {4608, 22016, 4096},
     {48, 96, 64},
     .gradient_of_weight = true},
    {"attention fwd, causal 8k, d128",
     LCL_OP_attention_fwd,
     {8192, 32, 32, 128, 1},
     {96, 2, 2, 128, 1},
     .causal = true,
     .beside = ATTENTION},
    {"attention fwd, the same, wgmma",
     LCL_OP_attention_fwd,
     {8192, 32, 32, 128, 1},
     {96, 2, 2, 128, 1},
     .causal = true,
     .wgmma = true,
     .beside = ATTENTION},
    {"attention bwd, causal 8k, d128",
     LCL_OP_attention_bwd,
     {8192, 32, 32, 128, 1},
     {96, 2, 2, 128, 1},
     .causal = true,
     .beside = ATTENTION},
    {"attention fwd, full 577, d64",
     LCL_OP_attention_fwd,
     {577, 16, 16, 64, 32},
     {33, 2, 2, 64, 2},
     .beside = ATTENTION},
    {"attention fwd, the same, wgmma",
     LCL_OP_attention_fwd,
     {577, 16, 16, 64, 32},
     {33, 2, 2, 64, 2},
     .wgmma = true,
     .beside = ATTENTION},
    {"attention bwd, full 577, d64",
     LCL_OP_attention_bwd,
     {577, 16, 16, 64, 32},
     {33, 2, 2, 64, 2},
     .beside = ATTENTION},
    {"RMSNorm fwd", LCL_OP_rmsnorm_fwd, {8192, 4096}, {33, 64}, .beside = COPY},
    {"RMSNorm bwd", LCL_OP_rmsnorm_bwd, {8192, 4096}, {33, 64}, .beside = COPY},
    {"LayerNorm fwd", LCL_OP_layernorm_fwd, {18464, 1024}, {33, 64}, .beside = COPY},
    {"LayerNorm bwd", LCL_OP_layernorm_bwd, {18464, 1024}, {33, 64}, .beside = COPY},
    {"rotary fwd", LCL_OP_rotary_fwd, {8192, 64, 128}, {33, 4, 32}, .beside = COPY},
    {"rotary bwd", LCL_OP_rotary_bwd, {8192, 64, 128}, {33, 4, 32}, .beside = COPY},
    {"SwiGLU fwd", LCL_OP_swiglu_fwd, {8192, 11008}, {33, 96}, .beside = COPY},
    {"SwiGLU bwd", LCL_OP_swiglu_bwd, {8192, 11008}, {33, 96}, .beside = COPY},
    {"quick GELU fwd", LCL_OP_gelu_fwd, {1 << 26}, {4096}, .beside = COPY},
    {"quick GELU bwd", LCL_OP_gelu_bwd, {1 << 26}, {4096}, .beside = COPY},
    {"AdamW", LCL_OP_adamw_fwd, {1 << 26}, {4096}, .beside = COPY},
    {"LM head, cross-entropy fwd",
     LCL_OP_head_xent_fwd,
     {4096, 4096, 32000},
     {17, 64, 96},
     .beside = PRODUCT},
    {"LM head, cross-entropy bwd",
     LCL_OP_head_xent_bwd,
     {4096, 4096, 32000},
     {17, 64, 96},
     .beside = NOTHING},
};
enum { N_KERNELS = sizeof kernels / sizeof *kernels };

struct call {
    enum lcl_op_half op;
    union {
#define DIFF(op) struct lcl_##op##_args op;
#define FWD(op) struct lcl_##op##_args op;
        LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    } args;
    struct lcl_linear_args product; /* what cuBLASLt does beside it */
};

static lcl_status call_op(struct lcl_exec *ex, struct call *c)
{
    switch (c->op) {
#define DIFF(op)                                   \
    case LCL_OP_##op##_fwd:                        \
        return ex->ops->op##_fwd(ex, &c->args.op); \
    case LCL_OP_##op##_bwd:                        \
        return ex->ops->op##_bwd(ex, &c->args.op);
#define FWD(op)             \
    case LCL_OP_##op##_fwd: \
        return ex->ops->op##_fwd(ex, &c->args.op);
        LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    case LCL_OP_HALVES:
        break;
    }
    return LCL_FAIL(LCL_INTERNAL, "no such op");
}

/* ---- arguments; tensors from arena a, index arrays of the host from h ---- */

static void *half(struct lcl_arena *a, int64_t count)
{
    return lcl_arena_alloc(a, (size_t)count, sizeof(lcl_bf16));
}
static float *single(struct lcl_arena *a, int64_t count)
{
    return LCL_ARENA_NEW(a, float, (size_t)count);
}

static void make_linear(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                        struct call *c)
{
    struct lcl_linear_args *out = &c->args.linear;
    *out = (struct lcl_linear_args){
        .M = n[0], .N = n[1], .K = n[2], .dtype = LCL_BF16, .weight_dtype = LCL_BF16};
    out->x_MK = half(a, n[0] * n[2]);
    out->weight_NK = half(a, n[1] * n[2]);
    if (k->op == LCL_OP_linear_fwd)
        out->y_MN = half(a, n[0] * n[1]);
    else
        out->d_y_MN = half(a, n[0] * n[1]);
    if (k->op == LCL_OP_linear_bwd && k->gradient_of_weight)
        out->d_weight_NK = single(a, n[1] * n[2]);
    else if (k->op == LCL_OP_linear_bwd)
        out->d_x_MK = half(a, n[0] * n[2]);
    c->product = *out;
}

static void make_attention(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                           struct lcl_arena *h, struct lcl_attention_args *out)
{
    int64_t rows = n[0] * n[4], q = n[1] * n[3], kv = n[2] * n[3], stride = q + 2 * kv;
    struct lcl_attn_run *runs = LCL_ARENA_NEW(h, struct lcl_attn_run, (size_t)n[4]);
    lcl_bf16 *qkv = half(a, rows * stride), *d_qkv;
    for (int32_t i = 0; h->base && i < (int32_t)n[4]; i++) {
        int32_t begin = i * (int32_t)n[0], end = begin + (int32_t)n[0];
        runs[i] = (struct lcl_attn_run){begin, end, begin, begin, begin, end, i};
    }
    *out = (struct lcl_attention_args){.n_runs = n[4],
                                       .H = n[1],
                                       .G = n[2],
                                       .D = n[3],
                                       .q_stride = stride,
                                       .kv_stride = stride,
                                       .out_stride = q,
                                       .dtype = LCL_BF16,
                                       .causal = k->causal,
                                       .scale = 1 / sqrtf((float)n[3]),
                                       .runs = runs,
                                       .out = half(a, rows * q),
                                       .lse_TH = single(a, rows * n[1])};
    if (qkv) {
        out->q = qkv;
        out->k = qkv + q;
        out->v = qkv + q + kv;
    }
    if (k->op == LCL_OP_attention_fwd) return;
    out->d_out = half(a, rows * q);
    d_qkv = half(a, rows * stride);
    if (!d_qkv) return;
    out->d_q = d_qkv;
    out->d_k = d_qkv + q;
    out->d_v = d_qkv + q + kv;
}

static void make_rmsnorm(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                         struct lcl_rmsnorm_args *out)
{
    int64_t all = n[0] * n[1];
    *out = (struct lcl_rmsnorm_args){.M = n[0],
                                     .C = n[1],
                                     .dtype = LCL_BF16,
                                     .eps = 1e-5f,
                                     .sum_MC = half(a, all),
                                     .weight_C = single(a, n[1]),
                                     .rstd_M = single(a, n[0])};
    if (k->op == LCL_OP_rmsnorm_fwd) {
        out->x_MC = half(a, all);
        out->add_MC = half(a, all);
        out->y_MC = half(a, all);
        return;
    }
    out->d_y_MC = half(a, all);
    out->d_sum_MC = half(a, all);
    out->d_x_MC = half(a, all);
    out->d_weight_C = single(a, n[1]);
}

static void make_layernorm(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                           struct lcl_layernorm_args *out)
{
    int64_t all = n[0] * n[1];
    *out = (struct lcl_layernorm_args){.M = n[0],
                                       .C = n[1],
                                       .dtype = LCL_BF16,
                                       .eps = 1e-5f,
                                       .sum_MC = half(a, all),
                                       .weight_C = single(a, n[1]),
                                       .bias_C = single(a, n[1]),
                                       .mean_M = single(a, n[0]),
                                       .rstd_M = single(a, n[0])};
    if (k->op == LCL_OP_layernorm_fwd) {
        out->x_MC = half(a, all);
        out->add_MC = half(a, all);
        out->y_MC = half(a, all);
        return;
    }
    out->d_y_MC = half(a, all);
    out->d_sum_MC = half(a, all);
    out->d_x_MC = half(a, all);
    out->d_weight_C = single(a, n[1]);
    out->d_bias_C = single(a, n[1]);
}

static void make_rotary(const int64_t *n, struct lcl_arena *a, struct lcl_arena *h,
                        struct lcl_rotary_args *out)
{
    int32_t *position = LCL_ARENA_NEW(h, int32_t, (size_t)n[0]);
    float *inv_freq = LCL_ARENA_NEW(h, float, (size_t)n[2] / 2);
    for (int32_t t = 0; h->base && t < (int32_t)n[0]; t++) position[t] = t;
    for (int64_t i = 0; h->base && i < n[2] / 2; i++)
        inv_freq[i] = (float)pow(10000, -2.0 * (double)i / (double)n[2]);
    *out = (struct lcl_rotary_args){.T = n[0],
                                    .n_heads = n[1],
                                    .D = n[2],
                                    .row_stride = n[1] * n[2],
                                    .dtype = LCL_BF16,
                                    .x = half(a, n[0] * n[1] * n[2]),
                                    .position_T = position,
                                    .inv_freq = inv_freq,
                                    .scale = 1};
}

static void make_adamw(const int64_t *n, struct lcl_arena *a, struct lcl_arena *h,
                       struct lcl_adamw_args *out)
{
    struct lcl_segment *segment = LCL_ARENA_NEW(h, struct lcl_segment, 1);
    struct lcl_segment all = {.count = n[0],
                              .grad = single(a, n[0]),
                              .value16 = half(a, n[0]),
                              .low16 = half(a, n[0]),
                              .m = single(a, n[0]),
                              .v = single(a, n[0]),
                              .lr = 1e-5};
    if (h->base) *segment = all;
    *out = (struct lcl_adamw_args){
        .N = 1, .segment_N = segment, .step = 10, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
}

static void make_elements(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                          struct call *c)
{
    int64_t all = n[0];
    if (k->op == LCL_OP_gelu_fwd || k->op == LCL_OP_gelu_bwd) {
        bool backward = k->op == LCL_OP_gelu_bwd;
        c->args.gelu = (struct lcl_gelu_args){.count = all,
                                              .dtype = LCL_BF16,
                                              .kind = LCL_GELU_QUICK,
                                              .x = half(a, all),
                                              .y = backward ? NULL : half(a, all),
                                              .d_y = backward ? half(a, all) : NULL,
                                              .d_x = backward ? half(a, all) : NULL};
    } else {
        bool backward = k->op == LCL_OP_swiglu_bwd;
        all = n[0] * n[1];
        c->args.swiglu =
            (struct lcl_swiglu_args){.M = n[0],
                                     .F = n[1],
                                     .dtype = LCL_BF16,
                                     .gate_up_M2F = half(a, 2 * all),
                                     .y_MF = backward ? NULL : half(a, all),
                                     .d_y_MF = backward ? half(a, all) : NULL,
                                     .d_gate_up_M2F = backward ? half(a, 2 * all) : NULL};
    }
}

static void make_head(const struct kernel *k, const int64_t *n, struct lcl_arena *a,
                      struct lcl_arena *h, struct call *c)
{
    struct lcl_head_xent_args *out = &c->args.head_xent;
    int32_t *row = LCL_ARENA_NEW(h, int32_t, (size_t)n[0]);
    int32_t *target = LCL_ARENA_NEW(h, int32_t, (size_t)n[0]);
    double *loss = LCL_ARENA_NEW(h, double, 1);
    for (int32_t i = 0; h->base && i < (int32_t)n[0]; i++) {
        row[i] = i;
        target[i] = i % (int32_t)n[2];
    }
    *out = (struct lcl_head_xent_args){.T = n[0],
                                       .C = n[1],
                                       .V = n[2],
                                       .S = n[0],
                                       .dtype = LCL_BF16,
                                       .weight_dtype = LCL_BF16,
                                       .logit_scale = 1,
                                       .hidden_TC = half(a, n[0] * n[1]),
                                       .weight_VC = half(a, n[2] * n[1]),
                                       .row_S = row,
                                       .target_S = target,
                                       .loss_sum = loss,
                                       .grad_scale = 1};
    if (k->op == LCL_OP_head_xent_fwd) { /* the logits alone */
        c->product = (struct lcl_linear_args){.M = n[0],
                                              .N = n[2],
                                              .K = n[1],
                                              .dtype = LCL_BF16,
                                              .weight_dtype = LCL_BF16,
                                              .x_MK = out->hidden_TC,
                                              .weight_NK = out->weight_VC,
                                              .y_MN = half(a, n[0] * n[2])};
        return;
    }
    out->d_hidden_TC = half(a, n[0] * n[1]);
    out->d_weight_VC = single(a, n[2] * n[1]);
}

static void make(const struct kernel *k, const int64_t *n, struct lcl_arena *a, struct lcl_arena *h,
                 struct call *c)
{
    c->op = k->op;
    if (k->op == LCL_OP_linear_fwd || k->op == LCL_OP_linear_bwd)
        make_linear(k, n, a, c);
    else if (k->op == LCL_OP_attention_fwd || k->op == LCL_OP_attention_bwd)
        make_attention(k, n, a, h, &c->args.attention);
    else if (k->op == LCL_OP_rmsnorm_fwd || k->op == LCL_OP_rmsnorm_bwd)
        make_rmsnorm(k, n, a, &c->args.rmsnorm);
    else if (k->op == LCL_OP_layernorm_fwd || k->op == LCL_OP_layernorm_bwd)
        make_layernorm(k, n, a, &c->args.layernorm);
    else if (k->op == LCL_OP_rotary_fwd || k->op == LCL_OP_rotary_bwd)
        make_rotary(n, a, h, &c->args.rotary);
    else if (k->op == LCL_OP_head_xent_fwd || k->op == LCL_OP_head_xent_bwd)
        make_head(k, n, a, h, c);
    else if (k->op == LCL_OP_adamw_fwd)
        make_adamw(n, a, h, &c->args.adamw);
    else
        make_elements(k, n, a, c);
}

/* ---- a set of buffers for each copy ---- */

struct set {
    struct bench *bench;
    const struct kernel *kernel;
    int copies;
    struct call call[MOST_COPIES];
    struct lcl_arena tensors, host;
    struct peer *peer;
    size_t copy_bytes; /* one way */
    unsigned char *copy_from;
};

/* Positive values around 1 in bf16 over the whole arena: read as f32 they are such values too. */
static lcl_status fill(struct lcl_exec *ex, struct lcl_arena *a)
{
    int64_t n = (int64_t)(a->size_bytes / sizeof(lcl_bf16)), done = BLOCK < n ? BLOCK : n;
    lcl_bf16 *x = (lcl_bf16 *)a->base;
    float *block = malloc(BLOCK * sizeof *block);
    if (!block) return LCL_FAIL(LCL_MEMORY, "no memory for random values");
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, 5);
    for (int i = 0; i < BLOCK; i++) block[i] = 0.1f + fabsf(lcl_rng_normal(&rng));
    lcl_status status =
        ex->ops->upload_fwd(ex, &(struct lcl_upload_args){done, LCL_BF16, block, x});
    while (status == LCL_OK && done < n) {
        int64_t more = n - done < done ? n - done : done;
        status =
            ex->ops->cast_fwd(ex, &(struct lcl_cast_args){more, LCL_BF16, LCL_BF16, x, x + done});
        done += more;
    }
    if (status == LCL_OK) status = lcl_exec_sync(ex);
    free(block);
    return status;
}

static void set_close(struct set *s)
{
    peer_close(s->peer);
    lcl_arena_free(&s->tensors);
    lcl_arena_free(&s->host);
}

static lcl_status set_open(struct bench *b, const struct kernel *k, struct set *s)
{
    struct lcl_arena tensors, host;
    const int64_t *n = b->dry ? k->dry : k->n;
    *s = (struct set){.bench = b, .kernel = k};
    lcl_arena_measure(&tensors, "a kernel's tensors");
    lcl_arena_measure(&host, "a kernel's indices");
    make(k, n, &tensors, &host, &s->call[0]);
    size_t one = tensors.used_bytes;
    s->copies = b->dry ? 2 : (int)(1 + PAST_CACHES / one);
    if (s->copies > MOST_COPIES) s->copies = MOST_COPIES;
    LCL_TRY(lcl_arena_reserve(&s->tensors, "a kernel's tensors", one * (size_t)s->copies));
    lcl_status status = lcl_arena_reserve_host(
        &s->host, "a kernel's indices", (host.used_bytes + LCL_ARENA_ALIGN) * (size_t)s->copies);
    for (int i = 0; i < s->copies && status == LCL_OK; i++)
        make(k, n, &s->tensors, &s->host, &s->call[i]);
    if (status == LCL_OK) status = fill(&b->exec, &s->tensors);
    if (status != LCL_OK) set_close(s);
    return status;
}

static lcl_status run_ours(void *ctx, int copy)
{
    struct set *s = ctx;
    return call_op(&s->bench->exec, &s->call[copy]);
}

static lcl_status run_peer(void *ctx, int copy)
{
    struct set *s = ctx;
    switch (s->kernel->beside) {
    case COPY:
        return peer_copy(&s->bench->exec, s->copy_from + (size_t)(2 * copy + 1) * s->copy_bytes,
                         s->copy_from + (size_t)(2 * copy) * s->copy_bytes, s->copy_bytes);
    case PRODUCT:
        return peer_product_run(s->peer, &s->call[copy].product);
    case ATTENTION:
        return peer_attention_run(s->peer, &s->call[copy].args.attention);
    case NOTHING:
        break;
    }
    return LCL_OK;
}

/* The backward reads what the forward left. */
static lcl_status prepare(struct set *s)
{
    for (int i = 0; i < s->copies && s->kernel->op == LCL_OP_attention_bwd; i++) {
        struct call forward = s->call[i];
        forward.op = LCL_OP_attention_fwd;
        LCL_TRY(call_op(&s->bench->exec, &forward));
    }
    return lcl_exec_sync(&s->bench->exec);
}

/* cuDNN has no mask here: where ours is causal, it does all pairs, and rates are compared. */
static lcl_status open_peer(struct set *s, struct row *r)
{
    struct bench *b = s->bench;
    const struct lcl_attention_args *a = &s->call[0].args.attention;
    r->peer_work = 1;
    switch (s->kernel->beside) {
    case COPY:
        snprintf(r->peer, sizeof r->peer, "device copy");
        s->copy_bytes = (size_t)(r->cost.bytes / 2) / 256 * 256;
        size_t whole = s->tensors.size_bytes / (2 * (size_t)s->copies) / 256 * 256;
        if (s->copy_bytes > whole) s->copy_bytes = whole;
        r->peer_work = 2 * (double)s->copy_bytes / r->cost.bytes;
        s->copy_from = s->tensors.base;
        return LCL_OK;
    case PRODUCT:
        snprintf(r->peer, sizeof r->peer, "cuBLASLt, best");
        return peer_product_open(&b->exec, &s->call[0].product, &s->peer);
    case ATTENTION:
        snprintf(r->peer, sizeof r->peer, "cuDNN%s", a->causal ? ", no mask" : "");
        r->peer_work = (double)a->n_runs * (double)(a->runs[0].q_end - a->runs[0].q_begin) *
                       (double)(a->runs[0].own_end - a->runs[0].own_begin) / lcl_attention_pairs(a);
        return peer_attention_open(&b->exec, a, s->kernel->op == LCL_OP_attention_bwd, &s->peer);
    case NOTHING:
        break;
    }
    return LCL_OK;
}

/* What is missing, of ours or a peer, is named in its place, and that is all. */
static lcl_status excuse(lcl_status status, struct row *r)
{
    if (status != LCL_UNSUPPORTED) return status;
    snprintf(r->note, sizeof r->note, "%s", lcl_error_message());
    return LCL_OK;
}

static lcl_status measure(struct bench *b, const struct kernel *k, struct row *r)
{
    struct set s;
    lcl_status status = lcl_cuda_use_wgmma(&b->exec, k->wgmma);
    if (status != LCL_OK) return excuse(status, r);
    LCL_TRY(set_open(b, k, &s));
    LCL_TRY_GOTO(prepare(&s));
    lcl_op_cost(k->op, &s.call[0].args, &r->cost);
    LCL_TRY_GOTO(bench_time(b, run_ours, &s, s.copies, &r->ms));
    if (k->beside == NOTHING) goto out;
    status = open_peer(&s, r);
    if (status == LCL_OK) status = bench_time(b, run_peer, &s, s.copies, &r->peer_ms);
    status = excuse(status, r);
out:
    set_close(&s);
    return status;
}

static void shape_text(const struct lcl_op_cost *c, char *text, size_t size)
{
    int used = snprintf(text, size, "%lld", (long long)c->rows);
    for (int i = 0; i < LCL_OP_DIMS && c->dims[i] > 0; i++)
        used += snprintf(text + used, size - (size_t)used, "x%lld", (long long)c->dims[i]);
}

void bench_kernels(struct bench *b)
{
    for (int i = 0; i < N_KERNELS && b->n_rows < ROWS_MAX; i++) {
        struct row *r = &b->row[b->n_rows++];
        *r = (struct row){0};
        snprintf(r->name, sizeof r->name, "%s", kernels[i].name);
        if (bench_time_is_up(b, lcl_time_s())) {
            snprintf(r->note, sizeof r->note, "not run: the time was up");
            continue;
        }
        lcl_status status = measure(b, &kernels[i], r);
        if (status != LCL_OK)
            snprintf(r->note, sizeof r->note, "failed: %.180s", lcl_error_message());
        b->failed = b->failed || (status != LCL_OK && status != LCL_MEMORY);
        shape_text(&r->cost, r->shape, sizeof r->shape);
        lcl_log_info("%-32s %-24s %9.3f ms%s%s", r->name, r->shape, r->ms, r->note[0] ? "  " : "",
                     r->note);
    }
}
