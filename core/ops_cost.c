#include "core/ops_cost.h"

#include "core/code8.h"

static const double F32 = 4, INDEX = 4, ADDED_TO = 8; /* bytes an element; f32 read and written */

static double size(lcl_dtype dtype) { return (double)lcl_dtype_bytes(dtype); }

static void shape(struct lcl_op_cost *c, lcl_dtype dtype, int64_t rows, int64_t a, int64_t b,
                  int64_t d)
{
    *c = (struct lcl_op_cost){.dtype = dtype, .rows = rows, .dims = {a, b, d}};
}

static void cost_linear(const struct lcl_linear_args *a, bool backward, struct lcl_op_cost *c)
{
    double M = (double)a->M, N = (double)a->N, K = (double)a->K, e = size(a->dtype);
    double x = M * K * e, y = M * N * e, weight = N * K * size(a->weight_dtype);
    if (lcl_is_blocks(a->weight_dtype))
        weight = (double)lcl_code_bytes(a->weight_dtype, (size_t)(a->N * a->K)) +
                 N * K / LCL_BLOCK * sizeof(lcl_f16);
    shape(c, a->dtype, a->M, a->N, a->K, 0);
    if (!backward) {
        c->flops = 2 * M * N * K;
        c->bytes = x + weight + y * (1 + a->accumulate_y) + (a->bias_N ? N * F32 : 0);
        return;
    }
    c->flops = 2 * M * N * K * ((a->d_x_MK != NULL) + (a->d_weight_NK != NULL));
    c->bytes = y + (a->d_bias_N ? N * ADDED_TO : 0);
    if (a->d_x_MK) c->bytes += weight + x * (1 + a->accumulate_d_x);
    if (a->d_weight_NK) c->bytes += x + N * K * ADDED_TO;
}

static double norm_bytes(double rows_moved, int64_t M, int64_t C, lcl_dtype dtype)
{
    return rows_moved * (double)M * (double)C * size(dtype);
}

static void cost_layernorm(const struct lcl_layernorm_args *a, bool backward, struct lcl_op_cost *c)
{
    double M = (double)a->M, C = (double)a->C;
    shape(c, a->dtype, a->M, a->C, 0, 0);
    c->bytes = 2 * M * F32; /* mean, rstd */
    if (backward)
        c->bytes += norm_bytes(3 + (a->d_sum_MC != NULL), a->M, a->C, a->dtype) + C * F32 +
                    C * ADDED_TO * ((a->d_weight_C != NULL) + (a->d_bias_C != NULL));
    else
        c->bytes += norm_bytes(a->add_MC ? 4 : 2, a->M, a->C, a->dtype) + 2 * C * F32;
}

static void cost_rmsnorm(const struct lcl_rmsnorm_args *a, bool backward, struct lcl_op_cost *c)
{
    double M = (double)a->M, C = (double)a->C;
    shape(c, a->dtype, a->M, a->C, 0, 0);
    c->bytes = M * F32 + C * F32; /* rstd, weight */
    if (backward)
        c->bytes += norm_bytes(3 + (a->d_sum_MC != NULL), a->M, a->C, a->dtype) +
                    (a->d_weight_C ? C * ADDED_TO : 0);
    else
        c->bytes += norm_bytes(a->add_MC ? 4 : 2, a->M, a->C, a->dtype);
}

static void cost_gelu(const struct lcl_gelu_args *a, bool backward, struct lcl_op_cost *c)
{
    shape(c, a->dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * size(a->dtype) * (backward ? 3 : 2);
}

static void cost_dropout(const struct lcl_dropout_args *a, bool backward, struct lcl_op_cost *c)
{
    shape(c, a->dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * size(a->dtype) * (2 + (backward && a->accumulate_d_x));
}

static void cost_swiglu(const struct lcl_swiglu_args *a, bool backward, struct lcl_op_cost *c)
{
    shape(c, a->dtype, a->M, a->F, 0, 0);
    c->bytes = (double)a->M * (double)a->F * size(a->dtype) * (backward ? 5 : 3);
}

static void cost_rotary(const struct lcl_rotary_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->dtype, a->T, a->n_heads, a->D, 0);
    c->bytes = 2 * (double)a->T * (double)(a->n_heads * a->D) * size(a->dtype) +
               (double)a->T * INDEX + (double)(a->D / 2) * F32;
}

double lcl_attention_pairs(const struct lcl_attention_args *a)
{
    double pairs = 0;
    for (int64_t r = 0; r < a->n_runs; r++) {
        const struct lcl_attn_run *run = &a->runs[r];
        double queries = run->q_end - run->q_begin, own = run->own_end - run->own_begin;
        double prefix = run->prefix_end - run->prefix_begin;
        double seen = queries * own; /* the last query sees all own keys, each before one less */
        if (a->causal)
            seen = own < queries ? own * (own + 1) / 2
                                 : queries * (own - queries) + queries * (queries + 1) / 2;
        pairs += queries * prefix + seen;
    }
    return pairs;
}

/* Rows of k that runs name, a shared prefix once; it is often the own rows of its group's first. */
static double key_rows(const struct lcl_attention_args *a)
{
    double rows = 0;
    const struct lcl_attn_run *first = NULL;
    for (int64_t r = 0; r < a->n_runs; r++) {
        const struct lcl_attn_run *run = &a->runs[r];
        bool opens = !first || run->group != first->group;
        bool counted =
            !opens &&
            ((run->prefix_begin >= first->own_begin && run->prefix_end <= first->own_end) ||
             (run->prefix_begin == first->prefix_begin && run->prefix_end == first->prefix_end));
        if (opens) first = run;
        rows += run->own_end - run->own_begin;
        if (!counted) rows += run->prefix_end - run->prefix_begin;
    }
    return rows;
}

static void cost_attention(const struct lcl_attention_args *a, bool backward, struct lcl_op_cost *c)
{
    int64_t T = 0;
    for (int64_t r = 0; r < a->n_runs; r++) T += a->runs[r].q_end - a->runs[r].q_begin;
    shape(c, a->dtype, T, a->H, a->G, a->D);
    double q = (double)T * (double)(a->H * a->D) * size(a->dtype);
    double k = key_rows(a) * (double)(a->G * a->D) * size(a->dtype);
    c->flops = (backward ? 10 : 4) * (double)(a->H * a->D) * lcl_attention_pairs(a);
    c->bytes = (q + k) * (backward ? 4 : 2); /* q, out, k, v; and their gradients */
    if (a->lse_TH) c->bytes += (double)(T * a->H) * F32;
}

static void cost_embed(const struct lcl_embed_args *a, bool backward, struct lcl_op_cost *c)
{
    double T = (double)a->T, C = (double)a->C;
    shape(c, a->dtype, a->T, a->C, 0, 0);
    c->bytes = T * INDEX + T * C * size(a->dtype);
    c->bytes += backward ? (double)(a->T < a->V ? a->T : a->V) * C * ADDED_TO
                         : T * C * size(a->table_dtype);
}

static void cost_splice(const struct lcl_splice_args *a, bool backward, struct lcl_op_cost *c)
{
    double row = (double)a->C * size(a->dtype);
    shape(c, a->dtype, a->n, a->C, 0, 0);
    c->bytes = (double)a->n * (2 * row + 2 * INDEX) + (backward ? (double)a->R * row : 0);
}

static void cost_vit_assemble(const struct lcl_vit_assemble_args *a, bool backward,
                              struct lcl_op_cost *c)
{
    double P = (double)a->P, C = (double)a->C;
    shape(c, a->dtype, a->I, a->P, a->C, 0);
    c->bytes = (double)a->I * (2 * P + 1) * C * size(a->dtype);
    if (!backward)
        c->bytes += (P + 2) * C * F32;
    else
        c->bytes +=
            (a->d_class_C ? C * ADDED_TO : 0) + (a->d_position_TC ? (P + 1) * C * ADDED_TO : 0);
}

static void cost_image_pool(const struct lcl_image_pool_args *a, bool backward,
                            struct lcl_op_cost *c)
{
    int64_t out = lcl_image_pool_tokens(a->kind, a->T, a->first_token);
    shape(c, a->dtype, a->I, a->T, a->C, 0);
    c->bytes = (double)a->I * (double)(out + (backward ? a->T : a->T - a->first_token)) *
               (double)a->C * size(a->dtype);
}

static void cost_standardize(const struct lcl_standardize_args *a, bool backward,
                             struct lcl_op_cost *c)
{
    shape(c, a->dtype, a->M, a->C, 0, 0);
    c->bytes = norm_bytes(2, a->M, a->C, a->dtype) + (double)a->C * F32 * (backward ? 1 : 2);
}

static void cost_l2norm(const struct lcl_l2norm_args *a, bool backward, struct lcl_op_cost *c)
{
    shape(c, a->dtype, a->M, a->C, 0, 0);
    c->bytes = norm_bytes(backward ? 3 : 2, a->M, a->C, a->dtype) + (double)a->M * F32;
}

static void cost_head_xent(const struct lcl_head_xent_args *a, bool backward, struct lcl_op_cost *c)
{
    double S = (double)a->S, C = (double)a->C, V = (double)a->V, e = size(a->dtype);
    int for_each = (a->target_S != NULL) + (a->weight_S != NULL) + (a->logprob_S != NULL) +
                   (a->argmax_S != NULL) + 1;
    bool d_hidden = backward && a->d_hidden_TC, d_weight = backward && a->d_weight_VC;
    shape(c, a->dtype, a->S, a->V, a->C, 0);
    c->flops = 2 * S * C * V * (1 + d_hidden + d_weight);
    c->bytes = S * C * e + V * C * size(a->weight_dtype) + S * F32 * for_each;
    if (a->logits_SV) c->bytes += S * V * F32;
    if (d_hidden) c->bytes += (double)a->T * C * e;
    if (d_weight) c->bytes += V * C * ADDED_TO;
}

static void cost_patchify(const struct lcl_patchify_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    double side = (double)(a->size / a->patch * a->patch);
    shape(c, a->dtype, a->I, a->size, a->patch, 0);
    c->bytes = (double)a->I * 3 * side * side * ((a->byte_I3SS ? 1 : F32) + size(a->dtype));
}

static void cost_kv_store(const struct lcl_kv_store_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->dtype, a->T, a->width, 0, 0);
    c->bytes = (double)a->T * (4 * (double)a->width * size(a->dtype) + INDEX);
}

static void cost_add(const struct lcl_add_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->y_dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * (size(a->x_dtype) + 2 * size(a->y_dtype));
}

static void cost_cast(const struct lcl_cast_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->y_dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * (size(a->x_dtype) + size(a->y_dtype));
}

static void cost_zero(const struct lcl_zero_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, LCL_F32, a->bytes / 4, 0, 0, 0);
    c->bytes = (double)a->bytes;
}

static void cost_upload(const struct lcl_upload_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->y_dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * (F32 + size(a->y_dtype));
}

static void cost_download(const struct lcl_download_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, a->x_dtype, a->count, 0, 0, 0);
    c->bytes = (double)a->count * (F32 + size(a->x_dtype));
}

static int64_t elements(int64_t N, const struct lcl_segment *segment_N)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < N; i++) sum += segment_N[i].count;
    return sum;
}

static void cost_adamw(const struct lcl_adamw_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    const int64_t count = elements(a->N, a->segment_N);
    shape(c, LCL_F32, count, 0, 0, 0);
    c->bytes = 0;
    for (int64_t i = 0; i < a->N; i++) {
        const struct lcl_segment *s = &a->segment_N[i];
        double value = s->value ? ADDED_TO + (s->value16 ? size(LCL_BF16) : 0)
                                : (s->low16 ? 4 : 2) * size(LCL_BF16);
        double moment = 2 * size(s->state) + (s->state == LCL_U8 ? 2.0 * F32 / LCL_CODE8_BLOCK : 0);
        c->bytes += (double)s->count * (F32 + value + 2 * moment);
    }
}

static void cost_sumsq(const struct lcl_sumsq_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, LCL_F32, elements(a->N, a->segment_N), 0, 0, 0);
    c->bytes = (double)c->rows * F32;
}

static void cost_sample(const struct lcl_sample_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)backward;
    shape(c, LCL_F32, a->S, a->V, 0, 0);
    c->bytes = (double)a->S * ((double)a->V * F32 + 12);
}

/* What the work asks for is counted where it is called. */
static void cost_replay(const struct lcl_replay_args *a, bool backward, struct lcl_op_cost *c)
{
    (void)a, (void)backward;
    *c = (struct lcl_op_cost){0};
}

void lcl_op_cost(enum lcl_op_half op, const void *args, struct lcl_op_cost *c)
{
    switch (op) {
#define DIFF(op)                   \
    case LCL_OP_##op##_fwd:        \
        cost_##op(args, false, c); \
        return;                    \
    case LCL_OP_##op##_bwd:        \
        cost_##op(args, true, c);  \
        return;
#define FWD(op)                    \
    case LCL_OP_##op##_fwd:        \
        cost_##op(args, false, c); \
        return;
        LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    case LCL_OP_HALVES:
        break;
    }
    *c = (struct lcl_op_cost){0};
}

const char *lcl_op_name(enum lcl_op_half op)
{
    static const char *const name[] = {
#define DIFF(op) #op "_fwd", #op "_bwd",
#define FWD(op) #op "_fwd",
        LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    };
    return op < LCL_OP_HALVES ? name[op] : "";
}
