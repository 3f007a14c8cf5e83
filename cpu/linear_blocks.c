/* linear with a weight in blocks: panels of it are decoded to the type of x and multiplied by the
 * GEMM while they are in cache; few rows of x meet each row of the weight as it is decoded.
 * M rows, N outputs, K inputs. */
#include "cpu/linear_blocks.h"

#include "cpu/gemm_library.h"
#include "cpu/rows.h"

enum {
    PANEL = 2 << 20,  /* elements: 8 MiB in f32 */
    PANEL_STEP = 192, /* columns of c, whole tiles of every GEMM */
    FEW_ROWS = 8,     /* up to so many by dot products */
    DOT_OUTPUTS = 16, /* of a task */
    LANES = 16,
};

static inline __attribute__((always_inline)) void decode_block(const bool q8, const uint8_t *code,
                                                               float step, float *x)
{
    enum { HALF = LCL_BLOCK / 2 };
    for (int i = 0; q8 && i < LCL_BLOCK; i++) x[i] = (float)(int8_t)code[i] * step;
    for (int i = 0; !q8 && i < HALF; i++) x[i] = (float)((code[i] & 15) - 8) * step;
    for (int i = 0; !q8 && i < HALF; i++) x[i + HALF] = (float)((code[i] >> 4) - 8) * step;
}

/* n elements of a row of the weight from k on, as f32 or rounded to bf16. */
static void decode(const struct lcl_linear_args *a, int64_t row, int64_t k, int64_t n, void *out)
{
    const int64_t first = (row * a->K + k) / LCL_BLOCK, blocks = n / LCL_BLOCK;
    const uint8_t *code = a->weight_NK;
    const lcl_f16 *scale = a->weight_scale_NB + first;
    float *f = out, x[LCL_BLOCK];
    lcl_bf16 *h = out;
    for (int64_t b = 0; b < blocks; b++) {
        float *to = a->dtype == LCL_F32 ? f + b * LCL_BLOCK : x;
        if (a->weight_dtype == LCL_Q8_0)
            decode_block(true, code + (first + b) * LCL_BLOCK, lcl_f16_to_f32(scale[b]), to);
        else
            decode_block(false, code + (first + b) * LCL_BLOCK / 2, lcl_f16_to_f32(scale[b]), to);
        if (a->dtype != LCL_F32) row_narrow(h + b * LCL_BLOCK, x, LCL_BLOCK);
    }
}

/* ---- by panels ---- */

/* Rows [row, row + rows) and columns [k, k + depth) of the weight, decoded without gaps. */
struct panel {
    const struct lcl_linear_args *a;
    int64_t row, rows, k, depth;
    void *x;
};

static lcl_status decode_row(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct panel *p = r->args;
    for (int64_t i = rows_begin(r, chunk); i < rows_end(r, chunk); i++)
        decode(p->a, p->row + i, p->k, p->depth, row_at(p->x, p->a->dtype, i * p->depth));
    return LCL_OK;
}

/* Columns of c at a time, of `all`, for panels of `other` by so many. */
static int64_t panel_columns(int64_t all, int64_t other)
{
    const int64_t most = PANEL / (other > 0 ? other : 1) / PANEL_STEP * PANEL_STEP;
    const int64_t columns = most > PANEL_STEP ? most : PANEL_STEP;
    return columns < all ? columns : all;
}

static lcl_status reserve(struct panel *p, int64_t elements)
{
    const size_t bytes = (size_t)elements * lcl_dtype_bytes(p->a->dtype);
    p->x = lcl_thread_scratch(ROW_SCRATCH_LOGITS, bytes + 1);
    return p->x ? LCL_OK
                : LCL_FAIL(LCL_MEMORY, "linear: no memory for %zu bytes of weights", bytes);
}

static float scale_of(const struct lcl_linear_args *a) { return a->scale == 0 ? 1 : a->scale; }

static lcl_status by_panels(const struct lcl_linear_args *a)
{
    const int64_t columns = panel_columns(a->N, a->K);
    struct panel p = {.a = a, .depth = a->K};
    LCL_TRY(reserve(&p, columns * a->K));
    for (; p.row < a->N; p.row += columns) {
        p.rows = a->N - p.row < columns ? a->N - p.row : columns;
        LCL_TRY(rows_over(decode_row, &p, p.rows, p.depth));
        struct lcl_gemm_call call = {.trans_b = 1,
                                     .M = a->M,
                                     .N = p.rows,
                                     .K = a->K,
                                     .alpha = scale_of(a),
                                     .a = a->x_MK,
                                     .a_type = a->dtype,
                                     .lda = a->K,
                                     .b = p.x,
                                     .b_type = a->dtype,
                                     .ldb = a->K,
                                     .bias = a->bias_N ? a->bias_N + p.row : NULL,
                                     .beta = a->accumulate_y ? 1.0f : 0.0f,
                                     .c = row_at(a->y_MN, a->dtype, p.row),
                                     .c_type = a->dtype,
                                     .ldc = a->N};
        LCL_TRY(LCL_CPU(gemm_bias)(&call));
    }
    return LCL_OK;
}

lcl_status LCL_CPU(linear_blocks_bwd)(const struct lcl_linear_args *a)
{
    const int64_t columns = panel_columns(a->K, a->N);
    struct panel p = {.a = a, .rows = a->N};
    LCL_TRY(reserve(&p, columns * a->N));
    for (; p.k < a->K; p.k += columns) {
        p.depth = a->K - p.k < columns ? a->K - p.k : columns;
        LCL_TRY(rows_over(decode_row, &p, p.rows, p.depth));
        struct lcl_gemm_call call = {.M = a->M,
                                     .N = p.depth,
                                     .K = a->N,
                                     .alpha = scale_of(a),
                                     .a = a->d_y_MN,
                                     .a_type = a->dtype,
                                     .lda = a->N,
                                     .b = p.x,
                                     .b_type = a->dtype,
                                     .ldb = p.depth,
                                     .beta = a->accumulate_d_x ? 1.0f : 0.0f,
                                     .c = row_at(a->d_x_MK, a->dtype, p.k),
                                     .c_type = a->dtype,
                                     .ldc = a->K};
        LCL_TRY(LCL_CPU(gemm_bias)(&call));
    }
    return LCL_OK;
}

/* ---- few rows ---- */

struct few {
    const struct lcl_linear_args *a;
    const float *x_MK;
};

static float dot(const float *x, const float *w, int64_t K)
{
    float lane[LANES] = {0};
    for (int64_t k = 0; k < K; k += LANES)
        for (int i = 0; i < LANES; i++) lane[i] += x[k + i] * w[k + i];
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) lane[i] += lane[i + n];
    return lane[0];
}

static lcl_status dots(void *ctx, int64_t chunk)
{
    const struct few *f = ctx;
    const struct lcl_linear_args *a = f->a;
    const bool bf16 = a->dtype != LCL_F32;
    float *w;
    LCL_TRY(row_scratch(bf16 ? 2 * a->K : a->K, &w));
    for (int64_t n = chunk * DOT_OUTPUTS; n < lcl_chunk_end(chunk, DOT_OUTPUTS, a->N); n++) {
        lcl_bf16 *narrow = (lcl_bf16 *)(void *)(w + a->K);
        decode(a, n, 0, a->K, bf16 ? (void *)narrow : w);
        if (bf16) row_widen(w, narrow, a->K);
        for (int64_t m = 0; m < a->M; m++) {
            float y = scale_of(a) * dot(f->x_MK + m * a->K, w, a->K);
            float *y32 = (float *)a->y_MN + m * a->N + n;
            lcl_bf16 *y16 = (lcl_bf16 *)a->y_MN + m * a->N + n;
            if (a->bias_N) y += a->bias_N[n];
            if (a->accumulate_y) y += bf16 ? lcl_bf16_to_f32(*y16) : *y32;
            if (bf16)
                *y16 = lcl_f32_to_bf16(y);
            else
                *y32 = y;
        }
    }
    return LCL_OK;
}

lcl_status LCL_CPU(linear_blocks_fwd)(const struct lcl_linear_args *a)
{
    if (a->M > FEW_ROWS) return by_panels(a);
    struct few f = {a, a->x_MK};
    if (a->dtype != LCL_F32) {
        float *wide = lcl_thread_scratch(ROW_SCRATCH_GATHER, (size_t)(a->M * a->K + 1) * 4);
        if (!wide) return LCL_FAIL(LCL_MEMORY, "linear: no memory for rows as f32");
        row_widen(wide, a->x_MK, a->M * a->K);
        f.x_MK = wide;
    }
    return lcl_parallel(lcl_chunk_count(a->N, DOT_OUTPUTS), dots, &f);
}
