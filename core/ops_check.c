/* What every backend refuses. */
#include "core/ops_check.h"

#include "core/sample.h"

lcl_status lcl_check_dtype(const char *op, lcl_dtype dtype)
{
    if (dtype == LCL_F32 || dtype == LCL_BF16) return LCL_OK;
    return LCL_FAIL(LCL_SHAPE, "%s: elements are %s, wanted f32 or bf16", op,
                    lcl_dtype_name(dtype));
}

lcl_status lcl_check_count(const char *op, int64_t count)
{
    if (count < 0) return LCL_FAIL(LCL_SHAPE, "%s: %lld elements", op, (long long)count);
    return LCL_OK;
}

static lcl_status check_indices(const char *op, const char *what, const int32_t *index, int64_t n,
                                int64_t limit)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= limit)
            return LCL_FAIL(LCL_RANGE, "%s: %s %lld is %d, outside 0..%lld", op, what, (long long)i,
                            (int)index[i], (long long)(limit - 1));
    return LCL_OK;
}

lcl_status lcl_check_gelu(const struct lcl_gelu_args *a)
{
    LCL_TRY(lcl_check_dtype("gelu", a->dtype));
    if (a->count < 0) return LCL_FAIL(LCL_SHAPE, "gelu: %lld elements", (long long)a->count);
    if (a->kind != LCL_GELU_ERF && a->kind != LCL_GELU_QUICK && a->kind != LCL_GELU_TANH)
        return LCL_FAIL(LCL_SHAPE, "gelu: no kind %d", (int)a->kind);
    return LCL_OK;
}

lcl_status lcl_check_dropout(const struct lcl_dropout_args *a)
{
    LCL_TRY(lcl_check_dtype("dropout", a->dtype));
    if (a->count < 0 || a->count > (int64_t)1 << 34)
        return LCL_FAIL(LCL_SHAPE, "dropout: %lld elements", (long long)a->count);
    if (!(a->p >= 0 && a->p < 1)) return LCL_FAIL(LCL_SHAPE, "dropout: a p of %g", a->p);
    return LCL_OK;
}

lcl_status lcl_check_swiglu(const struct lcl_swiglu_args *a)
{
    LCL_TRY(lcl_check_dtype("swiglu", a->dtype));
    if (a->M < 0 || a->F <= 0)
        return LCL_FAIL(LCL_SHAPE, "swiglu: %lld rows of width %lld", (long long)a->M,
                        (long long)a->F);
    return LCL_OK;
}

lcl_status lcl_check_norm(const char *op, lcl_dtype dtype, int64_t M, int64_t C, bool sum_missing)
{
    LCL_TRY(lcl_check_dtype(op, dtype));
    if (M < 0 || C <= 0)
        return LCL_FAIL(LCL_SHAPE, "%s: %lld rows of width %lld", op, (long long)M, (long long)C);
    if (sum_missing) return LCL_FAIL(LCL_SHAPE, "%s: x + add has no buffer for the sum", op);
    return LCL_OK;
}

lcl_status lcl_check_rotary(const struct lcl_rotary_args *a)
{
    LCL_TRY(lcl_check_dtype("rotary", a->dtype));
    if (a->T < 0 || a->n_heads < 0 || a->D <= 0 || a->D % 2 || a->D > LCL_ROTARY_MAX_D)
        return LCL_FAIL(LCL_SHAPE,
                        "rotary: %lld rows of %lld heads of width %lld; the width must be even and "
                        "at most %d",
                        (long long)a->T, (long long)a->n_heads, (long long)a->D,
                        (int)LCL_ROTARY_MAX_D);
    if (a->row_stride < a->n_heads * a->D)
        return LCL_FAIL(LCL_SHAPE, "rotary: rows are %lld apart, but %lld heads of %lld need %lld",
                        (long long)a->row_stride, (long long)a->n_heads, (long long)a->D,
                        (long long)(a->n_heads * a->D));
    return LCL_OK;
}

lcl_status lcl_check_attention(const struct lcl_attention_args *a)
{
    LCL_TRY(lcl_check_dtype("attention", a->dtype));
    if (a->D < 4 || a->D > 128 || a->D % 4 != 0)
        return LCL_FAIL_HINT(LCL_SHAPE, "choose hidden_size / num_attention_heads accordingly",
                             "attention: head width %lld, wanted a multiple of 4 in 4..128",
                             (long long)a->D);
    if (a->G < 1 || a->H < 1 || a->H % a->G != 0)
        return LCL_FAIL(LCL_SHAPE, "attention: %lld query heads over %lld key/value heads",
                        (long long)a->H, (long long)a->G);
    if (a->q_stride < a->H * a->D || a->kv_stride < a->G * a->D || a->out_stride < a->H * a->D)
        return LCL_FAIL(
            LCL_SHAPE, "attention: strides %lld, %lld, %lld, wanted at least %lld, %lld, %lld",
            (long long)a->q_stride, (long long)a->kv_stride, (long long)a->out_stride,
            (long long)(a->H * a->D), (long long)(a->G * a->D), (long long)(a->H * a->D));
    for (int64_t i = 0; i < a->n_runs; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        bool ordered = r->q_begin >= 0 && r->q_begin <= r->q_end && r->prefix_begin >= 0 &&
                       r->prefix_begin <= r->prefix_end && r->own_begin >= 0 &&
                       r->own_begin <= r->own_end;
        if (!ordered)
            return LCL_FAIL(LCL_SHAPE, "attention: run %lld has a range that is not one",
                            (long long)i);
        int32_t own = r->own_end - r->own_begin, q = r->q_end - r->q_begin;
        bool sees = r->prefix_begin < r->prefix_end || (a->causal ? own >= q : own > 0);
        if (q > 0 && !sees)
            return LCL_FAIL(LCL_SHAPE, "attention: a query of run %lld sees no key", (long long)i);
    }
    return LCL_OK;
}

/* Rows of the group of run `first`, whose runs lie one after another; returns the run after them.
 */
static int64_t group_rows(const struct lcl_attention_args *a, int64_t first, int32_t *begin,
                          int32_t *end)
{
    int64_t i = first;
    *begin = INT32_MAX;
    *end = 0;
    for (; i < a->n_runs && a->runs[i].group == a->runs[first].group; i++) {
        if (a->runs[i].own_begin < *begin) *begin = a->runs[i].own_begin;
        if (a->runs[i].own_end > *end) *end = a->runs[i].own_end;
    }
    return i;
}

lcl_status lcl_check_attention_bwd(const struct lcl_attention_args *a)
{
    LCL_TRY(lcl_check_attention(a));
    if (!a->lse_TH || !a->out)
        return LCL_FAIL(LCL_SHAPE, "attention backward: needs out and lse of the forward");
    for (int64_t i = 0, last; i < a->n_runs; i = last) {
        int32_t begin, end;
        last = group_rows(a, i, &begin, &end);
        for (int64_t k = i; k < last; k++) {
            const struct lcl_attn_run *r = &a->runs[k];
            bool cross = !a->causal && r->prefix_begin == r->prefix_end &&
                         (r->q_begin < r->q_end || r->own_begin == r->own_end);
            if (!cross && (r->q_begin != r->own_begin || r->q_end != r->own_end))
                return LCL_FAIL(LCL_SHAPE,
                                "attention backward: run %lld has queries %d..%d but keys %d..%d",
                                (long long)k, r->q_begin, r->q_end, r->own_begin, r->own_end);
            if (r->prefix_begin < r->prefix_end && (r->prefix_begin < begin || r->prefix_end > end))
                return LCL_FAIL(LCL_SHAPE,
                                "attention backward: run %lld has a prefix outside its group",
                                (long long)k);
        }
    }
    return LCL_OK;
}

lcl_status lcl_check_embed(const struct lcl_embed_args *a)
{
    LCL_TRY(lcl_check_dtype("embed", a->dtype));
    LCL_TRY(lcl_check_dtype("embed", a->table_dtype));
    if (a->T < 0 || a->C <= 0 || a->V <= 0)
        return LCL_FAIL(LCL_SHAPE, "embed: %lld tokens, width %lld, vocabulary %lld",
                        (long long)a->T, (long long)a->C, (long long)a->V);
    return check_indices("embed", "id of token", a->id_T, a->T, a->V);
}

lcl_status lcl_check_splice(const struct lcl_splice_args *a)
{
    LCL_TRY(lcl_check_dtype("splice", a->dtype));
    if (a->n < 0 || a->T < 0 || a->R < 0 || a->C <= 0)
        return LCL_FAIL(LCL_SHAPE, "splice: %lld slots in %lld tokens from %lld rows of width %lld",
                        (long long)a->n, (long long)a->T, (long long)a->R, (long long)a->C);
    LCL_TRY(check_indices("splice", "slot", a->slot, a->n, a->T));
    return check_indices("splice", "source row of slot", a->src_row, a->n, a->R);
}

lcl_status lcl_check_rows(const char *op, lcl_dtype dtype, int64_t M, int64_t C)
{
    LCL_TRY(lcl_check_dtype(op, dtype));
    if (M < 0 || C <= 0)
        return LCL_FAIL(LCL_SHAPE, "%s: %lld rows of width %lld", op, (long long)M, (long long)C);
    return LCL_OK;
}

lcl_status lcl_check_head_xent(const struct lcl_head_xent_args *a, bool backward)
{
    LCL_TRY(lcl_check_dtype("head_xent", a->dtype));
    LCL_TRY(lcl_check_dtype("head_xent", a->weight_dtype));
    if (a->T < 0 || a->C <= 0 || a->V <= 0 || a->S < 0)
        return LCL_FAIL(LCL_SHAPE, "head_xent: %lld tokens, width %lld, vocabulary %lld, %lld rows",
                        (long long)a->T, (long long)a->C, (long long)a->V, (long long)a->S);
    if (!a->target_S && (backward || a->loss_sum || a->logprob_S))
        return LCL_FAIL(LCL_SHAPE, "head_xent: a loss needs targets");
    if (a->kept_SV && (backward || a->logits_SV))
        return LCL_FAIL(LCL_SHAPE, "head_xent: logits are kept by the forward, in one place");
    for (int64_t s = 0; s < a->S; s++) {
        if (a->row_S[s] < 0 || a->row_S[s] >= a->T)
            return LCL_FAIL(LCL_RANGE, "head_xent: row %lld is %d, outside 0..%lld", (long long)s,
                            (int)a->row_S[s], (long long)(a->T - 1));
        if (a->target_S && (a->target_S[s] < 0 || a->target_S[s] >= a->V))
            return LCL_FAIL(LCL_RANGE, "head_xent: target %lld is %d, outside 0..%lld",
                            (long long)s, (int)a->target_S[s], (long long)(a->V - 1));
    }
    return LCL_OK;
}

lcl_status lcl_check_image_pool(const struct lcl_image_pool_args *a)
{
    LCL_TRY(lcl_check_dtype("image_pool", a->dtype));
    if (a->I < 0 || a->C <= 0 || a->T <= 0 || a->first_token < 0 || a->first_token >= a->T)
        return LCL_FAIL(
            LCL_SHAPE, "image_pool: %lld images of %lld tokens from %lld on, width %lld",
            (long long)a->I, (long long)a->T, (long long)a->first_token, (long long)a->C);
    if (lcl_image_pool_tokens(a->kind, a->T, a->first_token) <= 0)
        return LCL_FAIL_HINT(LCL_SHAPE, "2x2 wants a square patch grid with an even side",
                             "image_pool: %lld tokens cannot be pooled as kind %d",
                             (long long)(a->T - a->first_token), (int)a->kind);
    return LCL_OK;
}

lcl_status lcl_check_vit_assemble(const struct lcl_vit_assemble_args *a)
{
    LCL_TRY(lcl_check_dtype("vit_assemble", a->dtype));
    if (a->I < 0 || a->P < 0 || a->C <= 0)
        return LCL_FAIL(LCL_SHAPE, "vit_assemble: %lld images of %lld patches of width %lld",
                        (long long)a->I, (long long)a->P, (long long)a->C);
    return LCL_OK;
}

static lcl_status check_blocks(const struct lcl_linear_args *a)
{
    const char *name = lcl_dtype_name(a->weight_dtype);
    if (a->d_weight_NK) return LCL_FAIL(LCL_SHAPE, "linear: a weight in %s blocks is frozen", name);
    if (a->K % LCL_BLOCK || (uintptr_t)a->weight_NK % 16 || !a->weight_scale_NB)
        return LCL_FAIL(LCL_SHAPE,
                        "linear: a weight in %s blocks has K %lld, codes at %p, scales at %p; "
                        "wanted a multiple of %d, of 16, and scales",
                        name, (long long)a->K, a->weight_NK, (const void *)a->weight_scale_NB,
                        LCL_BLOCK);
    return LCL_OK;
}

lcl_status lcl_check_linear(const struct lcl_linear_args *a)
{
    LCL_TRY(lcl_check_dtype("linear", a->dtype));
    if (!lcl_is_blocks(a->weight_dtype)) LCL_TRY(lcl_check_dtype("linear weight", a->weight_dtype));
    if (a->M < 0 || a->N < 0 || a->K < 0)
        return LCL_FAIL(LCL_SHAPE, "linear: negative size in M %lld, N %lld, K %lld",
                        (long long)a->M, (long long)a->N, (long long)a->K);
    if (lcl_is_blocks(a->weight_dtype)) LCL_TRY(check_blocks(a));
    if (a->y_stride == 0 || a->y_stride == a->N) return LCL_OK;
    if (a->y_stride < a->N || !a->K || a->dtype != a->weight_dtype || a->bias_N || a->d_bias_N)
        return LCL_FAIL(LCL_SHAPE, "linear: columns of rows of %lld; N %lld, K %lld, %s by %s%s",
                        (long long)a->y_stride, (long long)a->N, (long long)a->K,
                        lcl_dtype_name(a->dtype), lcl_dtype_name(a->weight_dtype),
                        a->bias_N || a->d_bias_N ? ", with a bias" : "");
    return LCL_OK;
}

lcl_status lcl_check_patchify(const struct lcl_patchify_args *a)
{
    LCL_TRY(lcl_check_dtype("patchify", a->dtype));
    if (a->I < 0 || a->patch <= 0 || a->size < a->patch)
        return LCL_FAIL(LCL_SHAPE, "patchify: pictures of side %lld hold no patch of %lld",
                        (long long)a->size, (long long)a->patch);
    if (a->byte_I3SS && a->pixel_I3SS)
        return LCL_FAIL(LCL_SHAPE, "patchify: pictures both as values and as bytes");
    for (int c = 0; a->byte_I3SS && c < 3; c++)
        if (!(a->std[c] > 0))
            return LCL_FAIL(LCL_RANGE, "patchify: bytes with a standard deviation of %g",
                            (double)a->std[c]);
    return LCL_OK;
}

/* A tensor begins on 4 of its elements; NULL does. */
static bool on_four(const void *tensor, lcl_dtype dtype)
{
    return (uintptr_t)tensor % (4 * lcl_dtype_bytes(dtype)) == 0;
}

lcl_status lcl_check_segments(const char *op, int64_t N, const struct lcl_segment *segment_N)
{
    if (N < 0) return LCL_FAIL(LCL_SHAPE, "%s: %lld segments", op, (long long)N);
    for (int64_t i = 0; i < N; i++) {
        const struct lcl_segment *s = &segment_N[i];
        LCL_TRY(lcl_check_count(op, s->count));
        if (s->state != LCL_F32 && s->state != LCL_BF16 && s->state != LCL_U8)
            return LCL_FAIL(LCL_SHAPE, "%s: states of segment %lld are %s", op, (long long)i,
                            lcl_dtype_name(s->state));
        if (!on_four(s->grad, LCL_F32) || !on_four(s->value, LCL_F32) ||
            !on_four(s->value16, LCL_BF16) || !on_four(s->low16, LCL_BF16) ||
            !on_four(s->m, s->state) || !on_four(s->v, s->state))
            return LCL_FAIL(LCL_SHAPE, "%s: segment %lld does not begin on 4 elements", op,
                            (long long)i);
        if (s->low16 && (s->value || !s->value16))
            return LCL_FAIL(LCL_SHAPE, "%s: values of segment %lld are %s", op, (long long)i,
                            s->value ? "f32 and in halves" : "lower halves alone");
        if (s->first < 0 || s->first % LCL_SEGMENT_ALIGN)
            return LCL_FAIL(LCL_SHAPE, "%s: segment %lld begins at element %lld of its row", op,
                            (long long)i, (long long)s->first);
    }
    return LCL_OK;
}

lcl_status lcl_check_adamw(const struct lcl_adamw_args *a)
{
    if (a->step < 1)
        return LCL_FAIL(LCL_SHAPE, "adamw: step %lld; steps count from 1", (long long)a->step);
    return lcl_check_segments("adamw", a->N, a->segment_N);
}

lcl_status lcl_check_kv_store(const struct lcl_kv_store_args *a)
{
    for (int64_t t = 0; t < a->T; t++)
        if (a->row_T[t] < 0 || a->row_T[t] >= a->rows)
            return LCL_FAIL(LCL_RANGE, "cache row %d of token %lld, the cache has %lld",
                            (int)a->row_T[t], (long long)t, (long long)a->rows);
    return LCL_OK;
}

lcl_status lcl_check_sampling(float temperature, int64_t top_k, float top_p)
{
    if (!(temperature >= 0) || temperature > 1e6f)
        return LCL_FAIL(LCL_RANGE, "temperature %g, wanted 0 (the likeliest token) to 1e6",
                        (double)temperature);
    if (temperature == 0) return LCL_OK;
    if (top_k < 0)
        return LCL_FAIL(LCL_RANGE, "top_k %lld, wanted 0 (all) or more", (long long)top_k);
    if (!(top_p > 0) || top_p > 1)
        return LCL_FAIL(LCL_RANGE, "top_p %g, wanted above 0, up to 1 (all)", (double)top_p);
    return LCL_OK;
}

lcl_status lcl_check_sample(const struct lcl_sample_args *a)
{
    if (a->S < 0 || a->V < 1 || a->V > LCL_SAMPLE_MOST_V)
        return LCL_FAIL(LCL_SHAPE, "sample: %lld rows of %lld logits, wanted 1 to %d",
                        (long long)a->S, (long long)a->V, (int)LCL_SAMPLE_MOST_V);
    LCL_TRY(lcl_check_sampling(a->temperature, a->top_k, a->top_p));
    if (a->temperature > 0 && a->S > 0 && !a->draw_S)
        return LCL_FAIL(LCL_SHAPE, "sample: no draws");
    return LCL_OK;
}
