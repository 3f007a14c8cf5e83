/* Matrix multiplication: cuts a problem in tiles by its shape, converts what the library cannot
 * take, adds the bias.
 *
 * Where the library has no fast bf16, blocks of a bf16 operand are widened to f32 scratch just
 * before their product: each element then serves a tile's width of multiplications, so widening
 * costs 3 to 8 % and the scratch stays below 3 MiB. */
#include "cpu/gemm.h"

#include "cpu/gemm_library.h"
#include "cpu/rows.h"

enum {
    TILE_ROWS_STEP = 24, /* multiples of the libraries' register blocks */
#if defined(LCL_CPU_ISA_v4)
    TILE_COLS_STEP = 64,
#else
    TILE_COLS_STEP = 48,
#endif
    DEPTH_BLOCK = 384,    /* of widened operands */
    TILE_SIDE_MAX = 1024, /* of tiles with widened operands */
    SMALL_PIECES = 16,    /* pieces of a middling problem; a large one has up to LARGE_PIECES */
    LARGE_PIECES = 64,
    OPERANDS_SLOT = LCL_GEMM_SCRATCH_FIRST,
};
static const double small_grain_flop = 4e6, large_grain_flop = 32e6; /* a piece's arithmetic */

struct plan {
    struct lcl_gemm_call call;
    bool native, plain; /* plain: all f32 */
    int64_t rows, cols; /* of a tile */
    int64_t n_row_tiles, n_col_tiles;
};

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static lcl_status check_call(const struct lcl_gemm_call *c)
{
    LCL_TRY(LCL_CPU(check_dtype)("gemm a", c->a_type));
    LCL_TRY(LCL_CPU(check_dtype)("gemm b", c->b_type));
    LCL_TRY(LCL_CPU(check_dtype)("gemm c", c->c_type));
    if (c->M < 0 || c->N < 0 || c->K < 0)
        return LCL_FAIL(LCL_SHAPE, "gemm: negative size in %lld x %lld x %lld", (long long)c->M,
                        (long long)c->N, (long long)c->K);
    int64_t a_row = c->trans_a ? c->M : c->K, b_row = c->trans_b ? c->K : c->N;
    if (c->lda < a_row || c->ldb < b_row || c->ldc < c->N)
        return LCL_FAIL(LCL_SHAPE,
                        "gemm: strides %lld, %lld, %lld, wanted at least %lld, %lld, %lld",
                        (long long)c->lda, (long long)c->ldb, (long long)c->ldc, (long long)a_row,
                        (long long)b_row, (long long)c->N);
    return LCL_OK;
}

/* Chooses the grid of tiles: enough pieces for the pool, and of those grids the one that reads a
 * and b least often. */
static void choose_tiles(struct plan *p)
{
    int64_t M = p->call.M, N = p->call.N;
    double flop = 2.0 * (double)M * (double)N * (double)p->call.K;
    double pieces = flop / small_grain_flop;
    if (pieces > SMALL_PIECES) pieces = flop / large_grain_flop;
    if (pieces < SMALL_PIECES && flop >= small_grain_flop * SMALL_PIECES) pieces = SMALL_PIECES;
    if (pieces > LARGE_PIECES) pieces = LARGE_PIECES;
    int64_t wanted = pieces < 1 ? 1 : (int64_t)pieces;
    int64_t row_max = ceil_div(M, TILE_ROWS_STEP), col_max = ceil_div(N, TILE_COLS_STEP);
    int64_t best_lack = INT64_MAX, best_cost = INT64_MAX, best_rows = 1, best_cols = 1;
    for (int64_t r = 1; r <= min64(wanted, row_max); r++) {
        int64_t c = min64(ceil_div(wanted, r), col_max);
        int64_t lack = wanted > r * c ? wanted - r * c : 0, cost = c * M + r * N;
        if (lack > best_lack || (lack == best_lack && cost >= best_cost)) continue;
        best_lack = lack, best_cost = cost, best_rows = r, best_cols = c;
    }
    p->rows = round_up(ceil_div(M, best_rows), TILE_ROWS_STEP);
    p->cols = round_up(ceil_div(N, best_cols), TILE_COLS_STEP);
    if (!p->native && !p->plain) {
        p->rows = min64(p->rows, TILE_SIDE_MAX);
        p->cols = min64(p->cols, TILE_SIDE_MAX);
    }
    p->n_row_tiles = ceil_div(M, p->rows);
    p->n_col_tiles = ceil_div(N, p->cols);
}

/* The rows x cols block of a stored matrix that begins at `element`, as f32: itself, or widened
 * into scratch. */
static const float *widen_block(const void *x, lcl_dtype type, int64_t element, int64_t rows,
                                int64_t cols, int64_t *ld, float *scratch)
{
    if (type == LCL_F32) return (const float *)x + element;
    const lcl_bf16 *src = (const lcl_bf16 *)x + element;
    for (int64_t i = 0; i < rows; i++) row_widen(scratch + i * cols, src + i * *ld, cols);
    *ld = cols;
    return scratch;
}

static void finish_tile(const struct lcl_gemm_call *t, const float *acc, int64_t ld_acc, float *row)
{
    for (int64_t i = 0; i < t->M; i++) {
        const float *src = acc + i * ld_acc;
        if (t->c_type == LCL_F32) {
            float *dst = (float *)t->c + i * t->ldc;
            for (int64_t j = 0; t->bias && j < t->N; j++) dst[j] += t->bias[j];
            continue;
        }
        for (int64_t j = 0; t->bias && j < t->N; j++) row[j] = src[j] + t->bias[j];
        row_narrow((lcl_bf16 *)t->c + i * t->ldc, t->bias ? row : src, t->N);
    }
}

/* One tile with at least one bf16 matrix, by f32 products of widened blocks. */
static lcl_status widened_tile(const struct lcl_gemm_call *t)
{
    int64_t depth = min64(t->K, DEPTH_BLOCK), M = t->M, N = t->N;
    size_t floats = (size_t)(round_up(M * depth, 16) + round_up(N * depth, 16) +
                             round_up(M * N, 16) + round_up(N, 16));
    float *a_scratch = lcl_thread_scratch(OPERANDS_SLOT, floats * sizeof(float));
    if (!a_scratch)
        return LCL_FAIL(LCL_MEMORY, "gemm: no memory for %zu floats of scratch", floats);
    float *b_scratch = a_scratch + round_up(M * depth, 16);
    float *c_scratch = b_scratch + round_up(N * depth, 16), *row = c_scratch + round_up(M * N, 16);
    struct lcl_gemm_call f = *t;
    f.bias = NULL;
    f.a_type = f.b_type = f.c_type = LCL_F32;
    if (t->c_type != LCL_F32) {
        f.c = c_scratch;
        f.ldc = N;
        for (int64_t i = 0; t->beta != 0 && i < M; i++)
            row_widen(c_scratch + i * N, (const lcl_bf16 *)t->c + i * t->ldc, N);
    }
    for (int64_t k = 0; k < t->K; k += depth) {
        f.K = min64(depth, t->K - k);
        f.lda = t->lda;
        f.ldb = t->ldb;
        f.a = widen_block(t->a, t->a_type, t->trans_a ? k * t->lda : k, t->trans_a ? f.K : M,
                          t->trans_a ? M : f.K, &f.lda, a_scratch);
        f.b = widen_block(t->b, t->b_type, t->trans_b ? k : k * t->ldb, t->trans_b ? N : f.K,
                          t->trans_b ? f.K : N, &f.ldb, b_scratch);
        LCL_TRY(LCL_CPU(gemm_library_f32)(&f));
        f.beta = 1.0f;
    }
    finish_tile(t, f.c, f.ldc, row);
    return LCL_OK;
}

static lcl_status run_tile(void *ctx, int64_t chunk)
{
    const struct plan *p = ctx;
    const struct lcl_gemm_call *call = &p->call;
    struct lcl_gemm_call t = *call;
    int64_t row = chunk % p->n_row_tiles * p->rows, col = chunk / p->n_row_tiles * p->cols;
    t.M = min64(p->rows, call->M - row);
    t.N = min64(p->cols, call->N - col);
    t.a = row_at_const(call->a, call->a_type, call->trans_a ? row : row * call->lda);
    t.b = row_at_const(call->b, call->b_type, call->trans_b ? col * call->ldb : col);
    t.c = row_at(call->c, call->c_type, row * call->ldc + col);
    if (call->bias) t.bias = call->bias + col;
    if (p->native) return LCL_CPU(gemm_library_native)(&t);
    if (!p->plain) return widened_tile(&t);
    LCL_TRY(LCL_CPU(gemm_library_f32)(&t));
    if (t.bias) finish_tile(&t, t.c, t.ldc, NULL);
    return LCL_OK;
}

/* K = 0: c = beta * c + bias. */
static void scale_only(const struct lcl_gemm_call *c)
{
    for (int64_t i = 0; i < c->M; i++)
        for (int64_t j = 0; j < c->N; j++) {
            int64_t e = i * c->ldc + j;
            float *f = (float *)c->c + e;
            lcl_bf16 *h = (lcl_bf16 *)c->c + e;
            float old = c->beta == 0 ? 0 : c->c_type == LCL_F32 ? *f : lcl_bf16_to_f32(*h);
            float v = c->beta * old + (c->bias ? c->bias[j] : 0);
            if (c->c_type == LCL_F32)
                *f = v;
            else
                *h = lcl_f32_to_bf16(v);
        }
}

lcl_status LCL_CPU(gemm_bias)(const struct lcl_gemm_call *call)
{
    LCL_TRY(check_call(call));
    if (call->M == 0 || call->N == 0) return LCL_OK;
    if (call->K == 0) {
        scale_only(call);
        return LCL_OK;
    }
    struct plan p = {.call = *call};
    p.native =
        call->a_type == LCL_BF16 && call->b_type == LCL_BF16 && LCL_CPU(gemm_library_has_bf16)();
    p.plain = call->a_type == LCL_F32 && call->b_type == LCL_F32 && call->c_type == LCL_F32;
    choose_tiles(&p);
    int64_t tiles = p.n_row_tiles * p.n_col_tiles;
    return tiles == 1 ? run_tile(&p, 0) : lcl_parallel(tiles, run_tile, &p);
}

lcl_status LCL_CPU(gemm)(int trans_a, int trans_b, int64_t M, int64_t N, int64_t K, float alpha,
                         const void *a, lcl_dtype a_type, int64_t lda, const void *b,
                         lcl_dtype b_type, int64_t ldb, float beta, void *c, lcl_dtype c_type,
                         int64_t ldc)
{
    struct lcl_gemm_call call = {trans_a, trans_b, M,   N,    K,    alpha, a,      a_type, lda,
                                 b,       b_type,  ldb, NULL, beta, c,     c_type, ldc};
    return LCL_CPU(gemm_bias)(&call);
}
