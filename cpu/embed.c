/* Token embeddings, and image features spliced into their slots. Legend: T tokens, C width, V
 * vocabulary, R source rows. */
#include "cpu/rows.h"

/* One row between types: a copy where they are the same. */
static void copy_row(void *dst, lcl_dtype dst_type, int64_t dst_at, const void *src,
                     lcl_dtype src_type, int64_t src_at, int64_t C)
{
    if (dst_type == src_type)
        memcpy(row_at(dst, dst_type, dst_at), row_at_const(src, src_type, src_at),
               (size_t)C * lcl_dtype_bytes(dst_type));
    else if (dst_type == LCL_F32)
        row_widen((float *)dst + dst_at, (const lcl_bf16 *)src + src_at, C);
    else
        row_narrow((lcl_bf16 *)dst + dst_at, (const float *)src + src_at, C);
}

static lcl_status embed_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_embed_args *a = r->args;
    for (int64_t t = rows_begin(r, chunk); t < rows_end(r, chunk); t++)
        copy_row(a->out_TC, a->dtype, t * a->C, a->table_VC, a->table_dtype, a->id_T[t] * a->C,
                 a->C);
    return LCL_OK;
}

lcl_status LCL_CPU(embed_fwd)(struct lcl_exec *ex, const struct lcl_embed_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_embed(a));
    return rows_over(embed_fwd_rows, a, a->T, a->C);
}

/* A chunk owns columns of the table for every token, so equal ids never meet and add up in token
 * order. */
static lcl_status embed_bwd_columns(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_embed_args *a = r->args;
    int64_t c0 = rows_begin(r, chunk), n = rows_end(r, chunk) - c0;
    float *temp;
    LCL_TRY(row_scratch(n, &temp));
    for (int64_t t = 0; t < a->T; t++) {
        const float *d_out = row_load(a->d_out_TC, a->dtype, t * a->C + c0, n, temp);
        float *d_table = a->d_table_VC + a->id_T[t] * a->C + c0;
#pragma omp simd
        for (int64_t c = 0; c < n; c++) d_table[c] += d_out[c];
    }
    return LCL_OK;
}

lcl_status LCL_CPU(embed_bwd)(struct lcl_exec *ex, const struct lcl_embed_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_embed(a));
    if (!a->d_table_VC || a->T == 0) return LCL_OK;
    struct rows r = {.args = a, .n = a->C, .grain = (rows_grain(a->T) + 63) / 64 * 64};
    return rows_run(embed_bwd_columns, &r);
}

static lcl_status splice_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_splice_args *a = r->args;
    for (int64_t i = rows_begin(r, chunk); i < rows_end(r, chunk); i++)
        copy_row(a->dst_TC, a->dtype, a->slot[i] * a->C, a->src_RC, a->dtype, a->src_row[i] * a->C,
                 a->C);
    return LCL_OK;
}

lcl_status LCL_CPU(splice_fwd)(struct lcl_exec *ex, const struct lcl_splice_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_splice(a));
    return rows_over(splice_fwd_rows, a, a->n, a->C);
}

struct splice_bwd {
    const struct lcl_splice_args *a;
    const int32_t *start,
        *slot; /* slots of source row r, in slot order: slot[start[r] .. start[r + 1]) */
};

static lcl_status splice_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct splice_bwd *b = r->args;
    const struct lcl_splice_args *a = b->a;
    int64_t C = a->C;
    float *temp;
    LCL_TRY(row_scratch(2 * C, &temp));
    for (int64_t row = rows_begin(r, chunk); row < rows_end(r, chunk); row++) {
        float *d_src = row_open(a->d_src_RC, a->dtype, row * C, temp);
        memset(d_src, 0, (size_t)C * sizeof(float));
        for (int32_t i = b->start[row]; i < b->start[row + 1]; i++) {
            const float *d_dst = row_load(a->d_dst_TC, a->dtype, b->slot[i] * C, C, temp + C);
#pragma omp simd
            for (int64_t c = 0; c < C; c++) d_src[c] += d_dst[c];
        }
        row_store(a->d_src_RC, a->dtype, row * C, C, d_src);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(splice_bwd)(struct lcl_exec *ex, const struct lcl_splice_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_splice(a));
    if (a->d_src_RC) {
        size_t bytes = (size_t)(a->R + 1 + a->n) * sizeof(int32_t);
        int32_t *start = lcl_thread_scratch(ROW_SCRATCH_INDEX, bytes);
        if (!start)
            return LCL_FAIL(LCL_MEMORY, "splice: no memory for %lld slots", (long long)a->n);
        int32_t *slot = start + a->R + 1;
        memset(start, 0, (size_t)(a->R + 1) * sizeof *start);
        for (int64_t i = 0; i < a->n; i++) start[a->src_row[i] + 1]++;
        for (int64_t row = 0; row < a->R; row++) start[row + 1] += start[row];
        for (int64_t i = 0; i < a->n; i++) slot[start[a->src_row[i]]++] = a->slot[i];
        for (int64_t row = a->R; row > 0; row--) start[row] = start[row - 1]; /* ends to begins */
        start[0] = 0;
        struct splice_bwd b = {a, start, slot};
        LCL_TRY(rows_over(splice_bwd_rows, &b, a->R, a->C));
    }
    size_t row_bytes = (size_t)a->C * lcl_dtype_bytes(a->dtype);
    for (int64_t i = 0; i < a->n; i++)
        memset(row_at(a->d_dst_TC, a->dtype, a->slot[i] * a->C), 0, row_bytes);
    return LCL_OK;
}
