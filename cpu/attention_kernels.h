/* What attention's forward and backward share: blocks of query lanes, tiles of keys, scores.
 *
 * A lane is one (query row, query head) pair; the query heads of one key/value head are adjacent
 * lanes, so that they share its tiles. Everything is computed transposed, keys down and lanes
 * across: scores_KL = K q^T with q^T packed once a block, softmax runs down vector lanes, and
 * out^T_DL += V^T p_KL reads V's rows as they lie. So no tile is ever transposed.
 *
 * bf16 tensors are widened and multiplied in f32, or where the processor can in pairs (pairs.h):
 * products of q, k, v and d_out are then exact, and p and d_s are rounded to bf16 before they are
 * multiplied; scores, the softmax and all sums stay in f32 either way. */
#ifndef LCL_CPU_ATTENTION_KERNELS_H
#define LCL_CPU_ATTENTION_KERNELS_H

#include <math.h>

#include "cpu/microkernel.h"
#include "cpu/pairs.h"
#include "cpu/rows.h"

enum {
    PANEL = MK_VECS * VL, /* lanes whose scores are computed together */
    LANES = 240,          /* lanes of a block: a multiple of every PANEL */
    PANELS = LANES / PANEL,
    TILE_KEYS = 64,
    ATTN_SCRATCH_TILES = 0,  /* thread scratch: tiles and lanes of a task */
    ATTN_SCRATCH_BLOCKS = 1, /* of the calling thread: the list of blocks */
    ATTN_SCRATCH_GRADS = 2,  /* of a task's thread: gradients of keys and values */
    ATTN_SCRATCH_SLICES = 3, /* of the calling thread: the same, of all slices */
};
#define ATTN_LOG2E 1.44269504088896341f
#define ATTN_LN2 0.69314718055994531f

/* Lanes [lane_begin, lane_end) of run first_run; or, with n_runs > 1, all lanes of several runs
 * with one prefix. */
struct attn_block {
    int32_t first_run, n_runs;
    int64_t lane_begin, lane_end;
};

struct attn_lanes {
    int32_t n, panels;
    int32_t row[LANES], head[LANES], run[LANES], index[LANES]; /* index: of the row in its run */
    /* Keys of the present range that a lane sees: those up to `limit` (-1: none). Beyond n: as lane
     * n - 1. */
    int32_t limit[LANES], least[PANELS], most[PANELS];
};

/* Rows of one tile as f32, or as the bf16 they are: the tensor's own rows, or their copy. */
struct attn_tile {
    const float *rows;
    int64_t stride;
};
struct attn_bf16_tile {
    const lcl_bf16 *rows;
    int64_t stride;
};

static inline int64_t attn_round(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

static inline int32_t attn_vecs(const struct attn_lanes *l, int panel)
{
    int32_t left = l->n - panel * PANEL;
    return left >= PANEL ? MK_VECS : (left + VL - 1) / VL;
}

static inline void attn_set_lanes(struct attn_lanes *l, const struct lcl_attention_args *a,
                                  const struct attn_block *b, int64_t kv_head)
{
    int32_t per = (int32_t)(a->H / a->G), first_head = (int32_t)(kv_head * per);
    l->n = 0;
    for (int32_t r = b->first_run; r < b->first_run + b->n_runs; r++) {
        const struct lcl_attn_run *run = &a->runs[r];
        int64_t begin = b->n_runs > 1 ? 0 : b->lane_begin;
        int64_t end = b->n_runs > 1 ? (run->q_end - run->q_begin) * (int64_t)per : b->lane_end;
        int32_t index = (int32_t)(begin / per), head = (int32_t)(begin % per);
        for (int64_t i = begin; i < end; i++, l->n++) {
            l->index[l->n] = index;
            l->row[l->n] = run->q_begin + index;
            l->head[l->n] = first_head + head;
            l->run[l->n] = r;
            if (++head == per) head = 0, index++;
        }
    }
    l->panels = (l->n + PANEL - 1) / PANEL;
}

/* Sets the limits for the prefix (run -1) or for the own keys of a run. */
static inline void attn_set_limits(struct attn_lanes *l, const struct lcl_attention_args *a,
                                   int32_t run)
{
    int32_t shift = 0;
    if (run >= 0) {
        const struct lcl_attn_run *r = &a->runs[run];
        shift = (r->own_end - r->own_begin) - (r->q_end - r->q_begin);
    }
    for (int32_t i = 0; i < l->panels * PANEL; i++) {
        int32_t j = i < l->n ? i : l->n - 1;
        l->limit[i] = run < 0            ? INT32_MAX
                      : l->run[j] != run ? -1
                      : a->causal        ? l->index[j] + shift
                                         : INT32_MAX;
    }
    for (int32_t p = 0; p < l->panels; p++) {
        l->least[p] = l->most[p] = l->limit[p * PANEL];
        for (int32_t i = p * PANEL; i < (p + 1) * PANEL; i++) {
            l->least[p] = l->limit[i] < l->least[p] ? l->limit[i] : l->least[p];
            l->most[p] = l->limit[i] > l->most[p] ? l->limit[i] : l->most[p];
        }
    }
}

/* How many of the n keys from first_key on a panel sees. */
static inline int32_t attn_seen(const struct attn_lanes *l, int panel, int32_t first_key, int32_t n)
{
    if (l->most[panel] < first_key) return 0;
    return l->most[panel] - first_key >= n ? n : l->most[panel] - first_key + 1;
}

/* n rows of D from `row` on, zero rows after them up to a multiple of MK_ROWS. f32 rows are used in
 * place where `in_place`. */
static inline struct attn_tile attn_load_tile(const void *x, lcl_dtype dtype, int64_t row,
                                              int64_t n, int64_t stride, int64_t head, int64_t D,
                                              bool in_place, float *copy)
{
    int64_t first = row * stride + head * D;
    if (in_place && dtype == LCL_F32 && n % MK_ROWS == 0)
        return (struct attn_tile){(const float *)x + first, stride};
    for (int64_t i = 0; i < n; i++) {
        if (dtype == LCL_F32)
            memcpy(copy + i * D, (const float *)x + first + i * stride, (size_t)D * sizeof(float));
        else
            row_widen(copy + i * D, (const lcl_bf16 *)x + first + i * stride, D);
    }
    int64_t padded = attn_round(n, MK_ROWS);
    memset(copy + n * D, 0, (size_t)((padded - n) * D) * sizeof(float));
    return (struct attn_tile){copy, D};
}

/* The same of bf16 rows as they are. */
static inline struct attn_bf16_tile attn_load_bf16(const void *x, int64_t row, int64_t n,
                                                   int64_t stride, int64_t head, int64_t D,
                                                   bool in_place, lcl_bf16 *copy)
{
    const lcl_bf16 *rows = (const lcl_bf16 *)x + row * stride + head * D;
    if (in_place && n % MK_ROWS == 0) return (struct attn_bf16_tile){rows, stride};
    int64_t padded = attn_round(n, MK_ROWS);
    for (int64_t i = 0; i < n; i++)
        memcpy(copy + i * D, rows + i * stride, (size_t)D * sizeof *copy);
    memset(copy + n * D, 0, (size_t)((padded - n) * D) * sizeof *copy);
    return (struct attn_bf16_tile){copy, D};
}

/* n bf16 rows as pairs of neighbouring rows, [n / 2 rounded up, D]; the last row's partner may be
 * zeros. */
static inline void attn_load_pairs(uint32_t *out, const void *x, int64_t row, int64_t n,
                                   int64_t stride, int64_t head, int64_t D)
{
    static const lcl_bf16 zeros[128];
    const lcl_bf16 *rows = (const lcl_bf16 *)x + row * stride + head * D;
    for (int64_t i = 0; i < n; i += 2, rows += 2 * stride)
        pairs_of_rows(out + i / 2 * D, rows, i + 1 < n ? rows + stride : zeros, D);
}

/* out^T panels [panel][D][PANEL] of the lanes' rows times scale; zero beyond the last lane. */
static inline void attn_load_lanes(float *out, const struct attn_lanes *l, const void *x,
                                   lcl_dtype dtype, int64_t stride, int64_t D, float scale)
{
    static const float zeros[128];
    float temp[4][128];
    for (int32_t i = 0; i < l->panels * PANEL; i += 4) { /* PANEL is a multiple of 4 */
        const float *rows[4];
        for (int32_t j = 0; j < 4; j++)
            rows[j] = i + j < l->n ? row_load(x, dtype, l->row[i + j] * stride + l->head[i + j] * D,
                                              D, temp[j])
                                   : zeros;
        float *dst = out + (int64_t)(i / PANEL) * D * PANEL + i % PANEL;
        for (int64_t d = 0; d < D; d += 4) {
            float *columns[4];
            for (int64_t j = 0; j < 4; j++) columns[j] = dst + (d + j) * PANEL;
            mk_transpose4(columns, rows, d, 0, v4_all(scale));
        }
    }
}

/* Panels of the lanes' bf16 rows in pairs along D, [panel][D / 2][PANEL]: a panel starts where that
 * of attn_load_lanes() does. */
static inline void attn_load_lane_pairs(uint32_t *out, const struct attn_lanes *l, const void *x,
                                        int64_t stride, int64_t D)
{
    uint32_t temp[4][64] = {{0}}; /* beyond D, up to a multiple of 4 words: zero */
    for (int32_t i = 0; i < l->panels * PANEL; i += 4) {
        for (int32_t j = 0; j < 4; j++)
            if (i + j < l->n)
                memcpy(temp[j], (const lcl_bf16 *)x + l->row[i + j] * stride + l->head[i + j] * D,
                       (size_t)D * sizeof(lcl_bf16));
            else
                memset(temp[j], 0, (size_t)D * sizeof(lcl_bf16));
        uint32_t *dst = out + (int64_t)(i / PANEL) * D * PANEL + i % PANEL;
        for (int64_t d = 0; d < D / 2; d += 4) {
            v4 words[4];
            float *columns[4];
            for (int64_t j = 0; j < 4; j++) {
                memcpy(&words[j], temp[j] + d, sizeof words[j]);
                columns[j] = (float *)(void *)(dst + (d + j) * PANEL);
            }
            mk_store_transposed4(columns, 0, words);
        }
    }
}

/* The reverse: the lanes' columns of panels, each times its lane's scale, as rows of x. */
static inline void attn_store_lanes(const float *panels, const struct attn_lanes *l, void *x,
                                    lcl_dtype dtype, int64_t stride, int64_t D,
                                    const float *scale_L)
{
    float temp[4][128];
    for (int32_t i = 0; i < l->n; i += 4) {
        float *rows[4];
        v4 scale;
        memcpy(&scale, scale_L + i, sizeof scale);
        for (int32_t j = 0; j < 4; j++)
            rows[j] = i + j < l->n
                          ? row_open(x, dtype, l->row[i + j] * stride + l->head[i + j] * D, temp[j])
                          : temp[j];
        const float *src = panels + (int64_t)(i / PANEL) * D * PANEL + i % PANEL;
        for (int64_t d = 0; d < D; d += 4) {
            const float *columns[4];
            for (int64_t j = 0; j < 4; j++) columns[j] = src + (d + j) * PANEL;
            mk_transpose4(rows, columns, 0, d, scale);
        }
        for (int32_t j = 0; j < 4 && i + j < l->n; j++)
            row_store(x, dtype, l->row[i + j] * stride + l->head[i + j] * D, D, rows[j]);
    }
}

/* Scores of keys that a lane does not see become minus infinity. */
static inline void attn_mask(float *scores, int64_t ld, int32_t n, int vecs, const int32_t *limit,
                             int32_t first_key)
{
    for (int v = 0; v < vecs; v++) {
        vi last;
        memcpy(&last, limit + v * VL, sizeof last);
        for (int32_t j = 0; j < n; j++) {
            float *s = scores + j * ld + v * VL;
            vi key = (first_key + j) - (vi){0};
            v_store(s, v_select(key > last, v_all(-INFINITY), v_load(s)));
        }
    }
}

/* Fails where shapes, ranges or strides cannot be; counts the blocks, at most LANES lanes each. */
/* Fills the list of blocks of runs [first, last) in order and returns their number; NULL blocks:
 * only counts. With `join` consecutive small runs of one prefix share a block. */
int64_t LCL_CPU(attention_blocks)(const struct lcl_attention_args *a, int64_t first, int64_t last,
                                  bool join, struct attn_block *blocks);

/* Whether these tensors are multiplied in pairs of bf16. */
bool LCL_CPU(attention_in_pairs)(const struct lcl_attention_args *a);

#endif
