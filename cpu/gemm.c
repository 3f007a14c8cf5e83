/* Matrix multiplication: cuts a problem in tiles by its shape alone and picks who multiplies them.
 */
#include "cpu/gemm.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "cpu/gemm_library.h"
#include "cpu/rows.h"

enum {
    TILE_ROWS_STEP = 24, /* multiples of the register blocks */
#if defined(LCL_CPU_ISA_v4)
    TILE_COLS_STEP = 64,
#else
    TILE_COLS_STEP = 48,
#endif
    SMALL_PIECES = 16, /* pieces of a middling problem; a large one has up to LARGE_PIECES */
    LARGE_PIECES = 64,
};
enum { GEMV_MOST = 8 }; /* rows up to which copies of b do not pay */
static const double small_grain_flop = 4e6, large_grain_flop = 32e6; /* a piece's arithmetic */

enum kernel { BY_OWN, BY_LIBRARY_F32, BY_LIBRARY_BF16, BY_GEMV };

struct plan {
    struct lcl_gemm_call call;
    enum kernel kernel;
    int64_t rows, cols; /* of a tile */
    int64_t n_row_tiles, n_col_tiles;
};

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static lcl_status check_call(const struct lcl_gemm_call *c)
{
    LCL_TRY(lcl_check_dtype("gemm a", c->a_type));
    LCL_TRY(lcl_check_dtype("gemm b", c->b_type));
    LCL_TRY(lcl_check_dtype("gemm c", c->c_type));
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

/* LCL_GEMM=own or library in the environment forces who multiplies f32, for measuring: 1 own, 0
 * library, -1 by shape. */
static int forced_kernel(void)
{
    static _Atomic int choice = -2;
    int known = atomic_load_explicit(&choice, memory_order_relaxed);
    if (known != -2) return known;
    const char *forced = getenv("LCL_GEMM");
    known = !forced ? -1 : strcmp(forced, "own") == 0 ? 1 : strcmp(forced, "library") == 0 ? 0 : -1;
    atomic_store_explicit(&choice, known, memory_order_relaxed);
    return known;
}

/* Where the own f32 product is the faster (cpu/README.md has the numbers): on AVX2, where its
 * copies of a and b are used often enough, and everywhere beside OpenBLAS. */
static bool own_is_faster(const struct lcl_gemm_call *c)
{
#if defined(__AVX2__) && !defined(__AVX512F__) && defined(LCL_GEMM_ONEDNN)
    const int64_t least = 384;
    bool shares_sets = c->trans_a && c->lda >= 1024 && c->lda % 512 == 0; /* read by columns */
    return shares_sets || (c->M >= least && c->N >= least && c->K >= least);
#elif defined(__AVX2__) && !defined(__AVX512F__)
    (void)c;
    return true;
#else
    (void)c;
    return false;
#endif
}

static enum kernel choose_kernel(const struct lcl_gemm_call *c)
{
    if (c->M <= GEMV_MOST && !c->trans_a && c->trans_b && forced_kernel() < 0) return BY_GEMV;
    if (c->a_type == LCL_BF16 && c->b_type == LCL_BF16 && LCL_CPU(gemm_library_has_bf16)())
        return BY_LIBRARY_BF16;
    if (c->a_type != LCL_F32 || c->b_type != LCL_F32 || c->c_type != LCL_F32) return BY_OWN;
    int forced = forced_kernel();
    bool own = forced >= 0 ? forced : own_is_faster(c);
    return own ? BY_OWN : BY_LIBRARY_F32;
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
    p->n_row_tiles = ceil_div(M, p->rows);
    p->n_col_tiles = ceil_div(N, p->cols);
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
    if (p->kernel == BY_LIBRARY_BF16) {
        lcl_status status = LCL_CPU(gemm_library_native)(&t);
        return status == LCL_UNSUPPORTED ? LCL_CPU(gemm_own)(&t) : status;
    }
    LCL_TRY(LCL_CPU(gemm_library_f32)(&t));
    for (int64_t i = 0; t.bias && i < t.M; i++)
        for (int64_t j = 0; j < t.N; j++) ((float *)t.c)[i * t.ldc + j] += t.bias[j];
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
    p.kernel = choose_kernel(call);
    if (p.kernel == BY_GEMV) return LCL_CPU(gemv)(call);
    if (p.kernel == BY_OWN) return LCL_CPU(gemm_own)(call);
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
