/* The own product behind cpu/gemm_library.h (Goto & van de Geijn 2008): op(b) is copied once, as
 * f32 and in the order in which the microkernel reads it, for all tasks to share; each task copies
 * its rows of op(a). So bf16 costs no pass of its own, any stride or transpose is as good as
 * another, and c has the same bits however it is cut. cpu/README.md says where it is used instead
 * of a library, and by how much it wins there. */
#include "cpu/gemm.h"
#include "cpu/gemm_library.h"
#include "cpu/microkernel.h"
#include "cpu/rows.h"

enum {
    DEPTH = 256,             /* of a block: b's panel of 3 vectors stays in the first-level cache */
    ROWS = 96,               /* of a task: a's block stays in the second-level cache */
    PANELS = 32,             /* of a task, at most */
    PANELS_LEAST = 16,       /* of a task where a task's rows have several */
    PASS_FLOATS = 1 << 20,   /* of the copy of b, which stays in the third-level cache */
    PASS_DEPTH = 16 * DEPTH, /* at most */
    PASS_DEPTH_LEAST = 3 * DEPTH,
    PACK_PANELS = 4,  /* of a piece of the copying of b stored transposed */
    PACK_DEPTH = 64,  /* of a piece of the copying of b stored as it is read */
    AHEAD = 4,        /* rows that a copy asks for before it needs them */
    SMALL_TASKS = 16, /* of a middling problem; a large one has up to LARGE_TASKS */
    LARGE_TASKS = 64,
    SUM_FLOATS = 1 << 22, /* of sums on their way to a c that cannot hold them */
    SUM_COLS_LEAST = 768,
    FINISH_ROWS = 32,
    SCRATCH_A = LCL_GEMM_SCRATCH_FIRST,
    SCRATCH_B,
    SCRATCH_SUM,
};
#define SMALL_TASK_FLOP 4e6 /* a task's arithmetic */
#define LARGE_TASK_FLOP 32e6

static int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* The size, a multiple of step, of the fewest equal parts of n that are at most `most` each. */
static int64_t even_part(int64_t n, int64_t most, int64_t step)
{
    int64_t parts = (n + most - 1) / most;
    return round_up((n + parts - 1) / parts, step);
}

static inline float load1(const void *x, bool bf16, int64_t i)
{
    return bf16 ? lcl_bf16_to_f32(((const lcl_bf16 *)x)[i]) : ((const float *)x)[i];
}

/* Asks for `rows` rows of n elements from `at` on: they are read next, too far apart for the
 * processor to guess. */
static inline void fetch(const void *x, bool bf16, int64_t at, int64_t ld, int64_t rows, int64_t n)
{
    const int64_t bytes = bf16 ? 2 : 4;
    for (int64_t i = 0; i < rows; i++)
        for (const char *p = (const char *)x + (at + i * ld) * bytes, *end = p + n * bytes; p < end;
             p += 64)
            __builtin_prefetch(p);
}

/* Panel of a stored [N, ld] matrix: dst[k][n] = x[n][k], k < depth, n < width (zero from `rows`
 * on). */
static inline __attribute__((always_inline)) void pack_transposed(float *dst, int64_t width,
                                                                  const void *x, const bool bf16,
                                                                  int64_t at, int64_t ld,
                                                                  int64_t rows, int64_t depth)
{
    int64_t n = 0;
#if defined(__SSE2__)
    for (; n + 4 <= rows; n += 4) {
        int64_t k = 0;
        if (n + 8 <= rows) fetch(x, bf16, at + (n + 4) * ld, ld, 4, depth);
        for (; k + 4 <= depth; k += 4) {
            __m128 v[4];
            for (int i = 0; i < 4; i++) {
                int64_t e = at + (n + i) * ld + k;
                if (bf16) {
                    __m128i half =
                        _mm_loadl_epi64((const __m128i *)(const void *)((const lcl_bf16 *)x + e));
                    v[i] = _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
                } else {
                    v[i] = _mm_loadu_ps((const float *)x + e);
                }
            }
            _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
            for (int i = 0; i < 4; i++) _mm_storeu_ps(dst + (k + i) * width + n, v[i]);
        }
        for (; k < depth; k++)
            for (int i = 0; i < 4; i++)
                dst[k * width + n + i] = load1(x, bf16, at + (n + i) * ld + k);
    }
#endif
    for (; n < width; n++)
        for (int64_t k = 0; k < depth; k++)
            dst[k * width + n] = n < rows ? load1(x, bf16, at + n * ld + k) : 0;
}

/* dst[0..width) = elements from `at` on, zero from n on. */
static inline void copy_row(float *dst, int64_t width, const void *x, lcl_dtype type, int64_t at,
                            int64_t n)
{
    if (type == LCL_F32)
        memcpy(dst, (const float *)x + at, (size_t)n * sizeof(float));
    else
        row_widen(dst, (const lcl_bf16 *)x + at, n);
    for (int64_t i = n; i < width; i++) dst[i] = 0;
}

/* One pass: columns [col, col + cols) of c, summed over [k, k + depth). */
struct pass {
    const struct lcl_gemm_call *call;
    int64_t k, depth, block; /* block: depth of one of its parts */
    int64_t col, cols, vecs, panels;
    int64_t task_rows, task_panels, n_row_tasks, n_col_tasks, n_pack_tasks;
    float *b; /* blocks of panels of [depth of the block][vectors of the panel] */
};

struct panel {
    int64_t col; /* of the pass */
    int vecs;
};

/* Panels have 3 vectors; the last two share 4, so that none is a single one where two can be had.
 */
static struct panel panel_at(const struct pass *p, int64_t i)
{
    int64_t begin = i * MK_VECS, end = min64(begin + MK_VECS, p->vecs);
    if (p->vecs % MK_VECS == 1 && p->panels > 1) {
        begin -= i == p->panels - 1;
        end -= i == p->panels - 2;
    }
    return (struct panel){begin * VL, (int)(end - begin)};
}

static int64_t block_depth(const struct pass *p, int64_t k)
{
    return min64(p->block, p->depth - k);
}

/* Where the copy of a panel's block that begins at depth k of the pass lies. */
static float *packed_b(const struct pass *p, struct panel panel, int64_t k)
{
    return p->b + k * p->vecs * VL + panel.col * block_depth(p, k);
}

/* A panel of b stored transposed is rows of it, over the whole depth. */
static void pack_panels(const struct pass *p, int64_t first)
{
    const struct lcl_gemm_call *t = p->call;
    for (int64_t i = first; i < min64(first + PACK_PANELS, p->panels); i++) {
        struct panel panel = panel_at(p, i);
        int64_t width = panel.vecs * VL, col = p->col + panel.col, n = min64(width, t->N - col);
        for (int64_t k = 0; k < p->depth; k += p->block) {
            float *dst = packed_b(p, panel, k);
            int64_t at = col * t->ldb + p->k + k;
            if (t->b_type == LCL_F32)
                pack_transposed(dst, width, t->b, false, at, t->ldb, n, block_depth(p, k));
            else
                pack_transposed(dst, width, t->b, true, at, t->ldb, n, block_depth(p, k));
        }
    }
}

static lcl_status pack_b(void *ctx, int64_t chunk)
{
    const struct pass *p = ctx;
    const struct lcl_gemm_call *t = p->call;
    if (t->trans_b) {
        pack_panels(p, chunk * PACK_PANELS);
        return LCL_OK;
    }
    for (int64_t d = chunk * PACK_DEPTH; d < min64((chunk + 1) * PACK_DEPTH, p->depth); d++) {
        int64_t k = d / p->block * p->block, at = (p->k + d) * t->ldb + p->col;
        for (int64_t i = 0; i < p->panels; i++) {
            struct panel panel = panel_at(p, i);
            int64_t width = panel.vecs * VL;
            copy_row(packed_b(p, panel, k) + (d - k) * width, width, t->b, t->b_type,
                     at + panel.col, min64(width, p->cols - panel.col));
        }
    }
    return LCL_OK;
}

/* MK_ROWS elements from `at` on, of which n exist. */
static inline __attribute__((always_inline)) void copy_group(float *dst, const void *x,
                                                             const bool bf16, int64_t at, int64_t n)
{
    if (n >= MK_ROWS) n = MK_ROWS;
    if (n == MK_ROWS && !bf16)
        memcpy(dst, (const float *)x + at, MK_ROWS * sizeof(float));
    else
        for (int64_t i = 0; i < MK_ROWS; i++) dst[i] = i < n ? load1(x, bf16, at + i) : 0;
}

/* a stored transposed as groups of MK_ROWS rows, [depth][MK_ROWS] each; AHEAD of the depth at a
 * time, which fill whole lines of a group. */
static inline __attribute__((always_inline)) void pack_groups(float *dst, const void *x,
                                                              const bool bf16, int64_t at,
                                                              int64_t ld, int64_t rows,
                                                              int64_t depth)
{
    for (int64_t d = 0; d < depth; d += AHEAD) {
        int64_t end = min64(d + AHEAD, depth);
        fetch(x, bf16, at + end * ld, ld, min64(AHEAD, depth - end), rows);
        for (int64_t i = 0; i < rows; i += MK_ROWS)
            for (int64_t e = d; e < end; e++)
                copy_group(dst + i * depth + e * MK_ROWS, x, bf16, at + e * ld + i, rows - i);
    }
}

/* Rows of op(a), zero beyond `rows`, block by block: [padded][depth of the block], or groups where
 * a is stored transposed. */
static void pack_a(const struct pass *p, int64_t row, int64_t rows, int64_t padded, float *dst)
{
    const struct lcl_gemm_call *t = p->call;
    for (int64_t k = 0; t->trans_a && k < p->depth; k += p->block) {
        int64_t at = (p->k + k) * t->lda + row, depth = block_depth(p, k);
        if (t->a_type == LCL_F32)
            pack_groups(dst + k * padded, t->a, false, at, t->lda, rows, depth);
        else
            pack_groups(dst + k * padded, t->a, true, at, t->lda, rows, depth);
    }
    for (int64_t i = 0; !t->trans_a && i < padded; i++)
        for (int64_t k = 0; k < p->depth; k += p->block) {
            int64_t depth = block_depth(p, k);
            copy_row(dst + k * padded + i * depth, depth, t->a, t->a_type,
                     (row + i) * t->lda + p->k + k, i < rows ? depth : 0);
        }
}

/* What a task multiplies: its rows of a block of a with panels of b. */
struct tile {
    const float *a;
    int64_t rows, padded, depth;
    bool trans_a, accumulate;
    float *c;
    int64_t ldc;
};

static inline __attribute__((always_inline)) void tile_vecs(const struct tile *t, const int vecs,
                                                            int64_t from, int64_t end,
                                                            const float *b, float *c, int64_t ldc,
                                                            bool accumulate)
{
    for (int64_t r = from; r < end; r += MK_ROWS) {
        const float *a = t->a + r * t->depth;
        float *at = c + (r - from) * ldc;
        if (t->trans_a)
            mk_block(MK_ROWS, vecs, t->depth, a, 1, MK_ROWS, b, vecs * VL, at, ldc, accumulate);
        else
            mk_block(MK_ROWS, vecs, t->depth, a, t->depth, 1, b, vecs * VL, at, ldc, accumulate);
    }
}

static void tile_rows(const struct tile *t, int vecs, int64_t from, int64_t end, const float *b,
                      float *c, int64_t ldc, bool accumulate)
{
    if (vecs == 3)
        tile_vecs(t, 3, from, end, b, c, ldc, accumulate);
    else if (vecs == 2)
        tile_vecs(t, 2, from, end, b, c, ldc, accumulate);
    else
        tile_vecs(t, 1, from, end, b, c, ldc, accumulate);
}

/* c (+)= a b for one panel; `cols` of its columns exist in c. */
static void tile_panel(const struct tile *t, struct panel panel, int64_t cols, const float *b,
                       float *c)
{
    int64_t width = panel.vecs * VL;
    int64_t whole = cols < width ? 0 : t->rows / MK_ROWS * MK_ROWS;
    tile_rows(t, panel.vecs, 0, whole, b, c, t->ldc, t->accumulate);
    for (int64_t r = whole; r < t->rows; r += MK_ROWS) { /* by way of a block that has room */
        float edge[MK_ROWS * MK_VECS * VL];
        tile_rows(t, panel.vecs, r, r + MK_ROWS, b, edge, width, false);
        for (int64_t i = r; i < min64(r + MK_ROWS, t->rows); i++)
            for (int64_t j = 0; j < min64(cols, width); j++) {
                float *dst = c + i * t->ldc + j;
                *dst = (t->accumulate ? *dst : 0) + edge[(i - r) * width + j];
            }
    }
}

static void add_bias(const struct lcl_gemm_call *t, int64_t row, int64_t rows, int64_t col,
                     int64_t cols)
{
    for (int64_t i = row; i < row + rows; i++) {
        float *c = (float *)t->c + i * t->ldc + col;
        for (int64_t j = 0; j < cols; j++) c[j] += t->bias[col + j];
    }
}

static lcl_status multiply(void *ctx, int64_t chunk)
{
    const struct pass *p = ctx;
    const struct lcl_gemm_call *call = p->call;
    int64_t row = chunk / p->n_col_tasks * p->task_rows;
    int64_t first = chunk % p->n_col_tasks * p->task_panels;
    int64_t last = min64(first + p->task_panels, p->panels) - 1;
    int64_t begin = panel_at(p, first).col,
            end = panel_at(p, last).col + panel_at(p, last).vecs * VL;
    int64_t cols = min64(end, p->cols) - begin;
    struct tile t = {.rows = min64(p->task_rows, call->M - row), .trans_a = call->trans_a};
    t.padded = round_up(t.rows, MK_ROWS);
    float *a = lcl_thread_scratch(SCRATCH_A, (size_t)(t.padded * p->depth) * sizeof *a);
    if (!a)
        return LCL_FAIL(LCL_MEMORY, "gemm: no memory for %lld rows of %lld", (long long)t.rows,
                        (long long)p->depth);
    pack_a(p, row, t.rows, t.padded, a);
    t.c = (float *)call->c + row * call->ldc + p->col;
    t.ldc = call->ldc;
    for (int64_t k = 0; k < p->depth; k += p->block) {
        t.a = a + k * t.padded;
        t.depth = block_depth(p, k);
        t.accumulate = p->k + k > 0 || call->beta != 0;
        for (int64_t i = first; i <= last; i++) {
            struct panel panel = panel_at(p, i);
            tile_panel(&t, panel, p->cols - panel.col, packed_b(p, panel, k), t.c + panel.col);
        }
    }
    if (call->bias && p->k + p->depth == call->K) add_bias(call, row, t.rows, p->col + begin, cols);
    return LCL_OK;
}

/* Cuts a pass in tasks by its shape alone: in rows first, as each task of the same rows copies them
 * anew. */
static void cut(struct pass *p)
{
    int64_t M = p->call->M;
    double flop = 2.0 * (double)M * (double)p->cols * (double)p->depth;
    double pieces = flop / SMALL_TASK_FLOP;
    if (pieces > SMALL_TASKS) pieces = flop / LARGE_TASK_FLOP;
    if (pieces < SMALL_TASKS && flop >= SMALL_TASKS * SMALL_TASK_FLOP) pieces = SMALL_TASKS;
    int64_t wanted = pieces < 1 ? 1 : pieces > LARGE_TASKS ? LARGE_TASKS : (int64_t)pieces;
    int64_t rows = round_up((M + wanted - 1) / wanted, MK_ROWS);
    p->task_rows = rows < ROWS / 2 ? ROWS / 2 : min64(rows, ROWS);
    p->n_row_tasks = (M + p->task_rows - 1) / p->task_rows;
    int64_t columns = min64(wanted / p->n_row_tasks, p->panels / PANELS_LEAST);
    if (columns < 1) columns = 1;
    p->task_panels = min64((p->panels + columns - 1) / columns, PANELS);
    p->n_col_tasks = (p->panels + p->task_panels - 1) / p->task_panels;
    p->n_pack_tasks = p->call->trans_b ? lcl_chunk_count(p->panels, PACK_PANELS)
                                       : lcl_chunk_count(p->depth, PACK_DEPTH);
}

static lcl_status run_pass(struct pass *p)
{
    p->block = even_part(p->depth, DEPTH, 4);
    p->vecs = (p->cols + VL - 1) / VL;
    p->panels = (p->vecs + MK_VECS - 1) / MK_VECS;
    cut(p);
    int64_t tasks = p->n_row_tasks * p->n_col_tasks;
    for (int64_t i = 0; tasks == 1 && i < p->n_pack_tasks; i++) LCL_TRY(pack_b(p, i));
    if (tasks == 1) return multiply(p, 0);
    LCL_TRY(lcl_parallel(p->n_pack_tasks, pack_b, p));
    return lcl_parallel(tasks, multiply, p);
}

/* f32 c, alpha 1, beta 0 or 1: sums are kept in c from pass to pass. */
static lcl_status multiply_f32(const struct lcl_gemm_call *t)
{
    int64_t step = MK_VECS * VL, width = round_up(t->N, step), deep = PASS_FLOATS / width;
    deep = deep < PASS_DEPTH_LEAST ? PASS_DEPTH_LEAST : min64(deep, PASS_DEPTH);
    int64_t depth = even_part(t->K, deep, 4), most = PASS_FLOATS / depth;
    int64_t cols = even_part(width, most < step ? step : most, step);
    float *b = lcl_thread_scratch(SCRATCH_B, (size_t)(cols * depth) * sizeof *b);
    if (!b)
        return LCL_FAIL(LCL_MEMORY, "gemm: no memory for a copy of %lld x %lld", (long long)depth,
                        (long long)cols);
    for (int64_t col = 0; col < t->N; col += cols)
        for (int64_t k = 0; k < t->K; k += depth) {
            struct pass p = {.call = t, .b = b, .k = k, .col = col};
            p.depth = min64(depth, t->K - k);
            p.cols = min64(cols, t->N - col);
            LCL_TRY(run_pass(&p));
        }
    return LCL_OK;
}

struct finish {
    const struct lcl_gemm_call *call; /* of the rows of sum_MN */
    float *sum_MN;
};

/* c = alpha * sum + beta * c + bias, FINISH_ROWS rows of it. */
static lcl_status finish(void *ctx, int64_t chunk)
{
    const struct finish *f = ctx;
    const struct lcl_gemm_call *t = f->call;
    for (int64_t i = chunk * FINISH_ROWS; i < lcl_chunk_end(chunk, FINISH_ROWS, t->M); i++) {
        float *sum = f->sum_MN + i * t->N;
        float *c32 = (float *)t->c + i * t->ldc;
        lcl_bf16 *c16 = (lcl_bf16 *)t->c + i * t->ldc;
        if (t->alpha != 1.0f)
            for (int64_t j = 0; j < t->N; j++) sum[j] *= t->alpha;
        if (t->bias)
            for (int64_t j = 0; j < t->N; j++) sum[j] += t->bias[j];
        if (t->beta != 0 && t->c_type == LCL_F32)
            for (int64_t j = 0; j < t->N; j++) sum[j] += t->beta * c32[j];
        if (t->beta != 0 && t->c_type != LCL_F32)
            for (int64_t j = 0; j < t->N; j++) sum[j] += t->beta * lcl_bf16_to_f32(c16[j]);
        if (t->c_type == LCL_F32)
            memcpy(c32, sum, (size_t)t->N * sizeof *sum);
        else
            row_narrow(c16, sum, t->N);
    }
    return LCL_OK;
}

/* rows x cols of c from (row, col) on. */
static lcl_status by_way_of_sum(const struct lcl_gemm_call *t, int64_t row, int64_t rows,
                                int64_t col, int64_t cols, float *sum)
{
    struct lcl_gemm_call part = *t, into_sum;
    part.M = rows, part.N = cols;
    part.a = row_at_const(t->a, t->a_type, t->trans_a ? row : row * t->lda);
    part.b = row_at_const(t->b, t->b_type, t->trans_b ? col * t->ldb : col);
    part.c = row_at(t->c, t->c_type, row * t->ldc + col);
    if (t->bias) part.bias = t->bias + col;
    into_sum = part;
    into_sum.c = sum, into_sum.c_type = LCL_F32, into_sum.ldc = cols;
    into_sum.alpha = 1.0f, into_sum.beta = 0, into_sum.bias = NULL;
    LCL_TRY(multiply_f32(&into_sum));
    struct finish f = {&part, sum};
    int64_t chunks = lcl_chunk_count(rows, FINISH_ROWS);
    return chunks == 1 ? finish(&f, 0) : lcl_parallel(chunks, finish, &f);
}

lcl_status LCL_CPU(gemm_own)(const struct lcl_gemm_call *t)
{
    if (t->c_type == LCL_F32 && t->alpha == 1.0f && (t->beta == 0.0f || t->beta == 1.0f))
        return multiply_f32(t);
    int64_t cols = SUM_FLOATS / t->M, rows;
    cols = even_part(t->N, cols < SUM_COLS_LEAST ? SUM_COLS_LEAST : cols, MK_VECS * VL);
    rows = even_part(t->M, SUM_FLOATS / cols < ROWS ? ROWS : SUM_FLOATS / cols, MK_ROWS);
    float *sum = lcl_thread_scratch(SCRATCH_SUM, (size_t)(rows * cols) * sizeof *sum);
    if (!sum)
        return LCL_FAIL(LCL_MEMORY, "gemm: no memory for sums of %lld x %lld", (long long)rows,
                        (long long)cols);
    for (int64_t col = 0; col < t->N; col += cols)
        for (int64_t row = 0; row < t->M; row += rows)
            LCL_TRY(
                by_way_of_sum(t, row, min64(rows, t->M - row), col, min64(cols, t->N - col), sum));
    return LCL_OK;
}
