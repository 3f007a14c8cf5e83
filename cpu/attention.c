/* Attention forward, tile by tile with a running maximum and sum (Dao et al. 2022,
 * "FlashAttention", algorithm 1). H query heads, G key/value heads, D head width, L lanes;
 * attention_kernels.h explains the layout. */
#include <stdlib.h>

#include "cpu/attention_kernels.h"

/* LCL_ATTENTION=f32 in the environment: never, for measuring. Asked at every call, so that a test
 * can have both; a call costs many times as much. */
bool LCL_CPU(attention_in_pairs)(const struct lcl_attention_args *a)
{
    if (!PAIRS_BUILT || a->dtype != LCL_BF16 || !pairs_supported()) return false;
    const char *forced = getenv("LCL_ATTENTION");
    return !forced || strcmp(forced, "f32") != 0;
}

static int64_t run_lanes(const struct lcl_attention_args *a, int64_t run)
{
    return (int64_t)(a->runs[run].q_end - a->runs[run].q_begin) * (a->H / a->G);
}

/* How many runs from `first` on share its prefix and fit one block. */
static int32_t joined_runs(const struct lcl_attention_args *a, int64_t first, int64_t last)
{
    const struct lcl_attn_run *r = &a->runs[first];
    int64_t lanes = run_lanes(a, first);
    int32_t n = 1;
    if (r->prefix_begin == r->prefix_end || lanes > LANES) return 1;
    for (int64_t i = first + 1; i < last; i++, n++) {
        lanes += run_lanes(a, i);
        if (lanes > LANES || a->runs[i].prefix_begin != r->prefix_begin ||
            a->runs[i].prefix_end != r->prefix_end)
            break;
    }
    return n;
}

int64_t LCL_CPU(attention_blocks)(const struct lcl_attention_args *a, int64_t first, int64_t last,
                                  bool join, struct attn_block *blocks)
{
    int64_t n = 0;
    for (int64_t i = first; i < last;) {
        int64_t lanes = run_lanes(a, i);
        int32_t runs = join ? joined_runs(a, i, last) : 1;
        if (runs > 1) {
            if (blocks) blocks[n] = (struct attn_block){(int32_t)i, runs, 0, 0};
            n++;
        } else {
            int64_t pieces = (lanes + LANES - 1) / LANES, size = LANES; /* of equal size */
            if (pieces > 0) size = attn_round((lanes + pieces - 1) / pieces, PANEL);
            for (int64_t l = 0; l < lanes; l += size, n++)
                if (blocks)
                    blocks[n] =
                        (struct attn_block){(int32_t)i, 1, l, lanes - l < size ? lanes : l + size};
        }
        i += runs;
    }
    return n;
}

struct forward {
    const struct lcl_attention_args *a;
    const struct attn_block *blocks;
    int64_t n_tasks, grain;
    bool in_pairs;
};

/* A task's working set, in its thread's scratch. */
struct work {
    struct attn_lanes lanes;
    float max_L[LANES], sum_L[LANES]; /* of scores in units of log2, and of 2^(score - max) */
    float share_L[LANES]; /* the sum of the weights as out's product has them: sum_L, or rounded */
    float *q_DL, *out_DL; /* panels */
    float *scores, *k_tile, *v_tile;
    bool in_place, in_pairs;
};

/* The greatest of m and n scores down a vector of lanes. */
static inline vf greatest(const float *s, int32_t n, vf m)
{
    vf m2 = m;
    int32_t j = 0;
    for (; j + 2 <= n; j += 2) {
        m = v_max(v_load(s + j * PANEL), m);
        m2 = v_max(v_load(s + (j + 1) * PANEL), m2);
    }
    if (j < n) m = v_max(v_load(s + j * PANEL), m);
    return v_max(m, m2);
}

/* Lane vector `lane` has seen more keys: their maximum m instead of `old`, their weights' sums. */
static inline void raise_max(struct work *w, int64_t D, int64_t lane, vf old, vf m, vf sum,
                             vf share)
{
    vf shrink = v_exp2(old - m);
    v_store(w->sum_L + lane, v_load(w->sum_L + lane) * shrink + sum);
    v_store(w->share_L + lane, v_load(w->share_L + lane) * shrink + share);
    if (memcmp(&old, &m, sizeof m) == 0) return;
    v_store(w->max_L + lane, m);
    float *out = w->out_DL + lane / PANEL * D * PANEL + lane % PANEL;
    for (int64_t d = 0; d < D; d++) v_store(out + d * PANEL, v_load(out + d * PANEL) * shrink);
}

/* One panel against the first n keys of a tile. */
static void panel_step(struct work *w, int64_t D, int panel, int32_t first_key, int32_t n,
                       struct attn_tile k, struct attn_tile v)
{
    int vecs = attn_vecs(&w->lanes, panel);
    int64_t lane = (int64_t)panel * PANEL;
    float *s = w->scores;
    mk_rows(attn_round(n, MK_STEP), vecs, D, k.rows, k.stride, w->q_DL + lane * D, PANEL, s, PANEL,
            false);
    if (w->lanes.least[panel] < first_key + n - 1)
        attn_mask(s, PANEL, n, vecs, w->lanes.limit + lane, first_key);
    for (int c = 0; c < vecs * VL; c += VL) {
        vf old = v_load(w->max_L + lane + c), m = greatest(s + c, n, old), sum = {0};
        for (int32_t j = 0; j < n; j++) {
            vf p = v_exp2(v_load(s + j * PANEL + c) - m);
            v_store(s + j * PANEL + c, p);
            sum += p;
        }
        raise_max(w, D, lane + c, old, m, sum, sum);
    }
    mk_cols(D, vecs, n, v.rows, v.stride, s, PANEL, w->out_DL + lane * D, PANEL, true);
}

/* The same in pairs: of D for the scores, of keys for out; where n is odd the last key's partner
 * weighs nothing. out is divided by the sum of p as they were rounded, for the many equal p of a
 * flat softmax are all rounded the same way. */
static PAIRS_FN void panel_step_pairs(struct work *w, const struct lcl_attention_args *a, int panel,
                                      int32_t first_key, int32_t n, struct attn_bf16_tile k)
{
    int vecs = attn_vecs(&w->lanes, panel);
    int64_t lane = (int64_t)panel * PANEL, D = a->D;
    float *s = w->scores;
    const vu ones = 0x3f803f80u - (vu){0};
    uint32_t *p_KL = (uint32_t *)(void *)s; /* takes the place of scores that were read */
    pairs_set(attn_round(n, MK_STEP), vecs, D / 2, k.rows, k.stride,
              (const uint32_t *)(const void *)(w->q_DL + lane * D), PANEL, a->scale * ATTN_LOG2E, s,
              PANEL);
    if (w->lanes.least[panel] < first_key + n - 1)
        attn_mask(s, PANEL, n, vecs, w->lanes.limit + lane, first_key);
    for (int c = 0; c < vecs * VL; c += VL) {
        vf old = v_load(w->max_L + lane + c), m = greatest(s + c, n, old), sum = {0}, sum2 = {0},
           share = {0};
        for (int32_t j = 0; j < n; j += 2) {
            vf p = v_exp2(v_load(s + j * PANEL + c) - m), p2 = {0};
            if (j + 1 < n) p2 = v_exp2(v_load(s + (j + 1) * PANEL + c) - m);
            sum += p;
            sum2 += p2;
            vu rounded = pairs_zip(pairs_narrow(p, p2));
            share = pairs_dot(share, rounded, ones);
            pairs_store(p_KL + j / 2 * PANEL + c, rounded);
        }
        raise_max(w, D, lane + c, old, m, sum + sum2, share);
    }
    pairs_add_cols(D, vecs, (n + 1) / 2, (const uint32_t *)(const void *)w->v_tile, D, p_KL, PANEL,
                   w->out_DL + lane * D, PANEL);
}

/* Every panel against the n keys of one tile, from `row` on. */
static void tile_step(const struct lcl_attention_args *a, struct work *w, int64_t kv_head,
                      int64_t row, int32_t first, int32_t n)
{
    struct attn_tile k = {0}, v = {0};
    struct attn_bf16_tile narrow = {0};
    if (PAIRS_BUILT && w->in_pairs) {
        narrow = attn_load_bf16(a->k, row, n, a->kv_stride, kv_head, a->D, w->in_place,
                                (lcl_bf16 *)(void *)w->k_tile);
        attn_load_pairs((uint32_t *)(void *)w->v_tile, a->v, row, n, a->kv_stride, kv_head, a->D);
    } else {
        k = attn_load_tile(a->k, a->dtype, row, n, a->kv_stride, kv_head, a->D, w->in_place,
                           w->k_tile);
        v = attn_load_tile(a->v, a->dtype, row, n, a->kv_stride, kv_head, a->D, w->in_place,
                           w->v_tile);
    }
    for (int p = 0; p < w->lanes.panels; p++) {
        int32_t seen = attn_seen(&w->lanes, p, first, n);
        if (seen <= 0) continue;
        if (PAIRS_BUILT && w->in_pairs)
            panel_step_pairs(w, a, p, first, seen, narrow);
        else
            panel_step(w, a->D, p, first, seen, k, v);
    }
}

/* Every panel against keys [begin, end), whose limits are set. */
static void key_range(const struct lcl_attention_args *a, struct work *w, int64_t kv_head,
                      int32_t begin, int32_t end)
{
    int32_t most = -1;
    for (int p = 0; p < w->lanes.panels; p++)
        most = w->lanes.most[p] > most ? w->lanes.most[p] : most;
    for (int32_t first = 0; first < end - begin && first <= most; first += TILE_KEYS) {
        int32_t left = end - begin - first;
        tile_step(a, w, kv_head, begin + first, first, left < TILE_KEYS ? left : TILE_KEYS);
    }
}

static void store_out(const struct lcl_attention_args *a, struct work *w)
{
    const struct attn_lanes *l = &w->lanes;
    for (int32_t i = 0; i < l->n; i++) {
        if (a->lse_TH)
            a->lse_TH[l->row[i] * a->H + l->head[i]] =
                (w->max_L[i] + log2f(w->sum_L[i])) * ATTN_LN2;
        w->share_L[i] = 1.0f / w->share_L[i];
    }
    attn_store_lanes(w->out_DL, l, a->out, a->dtype, a->out_stride, a->D, w->share_L);
}

static lcl_status forward_task(const struct forward *f, int64_t task)
{
    const struct lcl_attention_args *a = f->a;
    const struct attn_block *block = &f->blocks[task / a->G];
    int64_t kv_head = task % a->G, D = a->D;
    int64_t head_bytes = attn_round((int64_t)sizeof(struct work), 64);
    int64_t floats = 2 * PANELS * D * PANEL + TILE_KEYS * PANEL + 2 * TILE_KEYS * D;
    char *scratch = lcl_thread_scratch(ATTN_SCRATCH_TILES, (size_t)(head_bytes + floats * 4));
    if (!scratch) return LCL_FAIL(LCL_MEMORY, "attention: no memory for a task's tiles");
    struct work *w = (struct work *)(void *)scratch;
    w->q_DL = (float *)(void *)(scratch + head_bytes);
    w->out_DL = w->q_DL + PANELS * D * PANEL;
    w->scores = w->out_DL + PANELS * D * PANEL;
    w->k_tile = w->scores + TILE_KEYS * PANEL;
    w->v_tile = w->k_tile + TILE_KEYS * D;
    attn_set_lanes(&w->lanes, a, block, kv_head);
    w->in_place = w->lanes.panels == 1;
    w->in_pairs = f->in_pairs;
    if (f->in_pairs)
        attn_load_lane_pairs((uint32_t *)(void *)w->q_DL, &w->lanes, a->q, a->q_stride, D);
    else
        attn_load_lanes(w->q_DL, &w->lanes, a->q, a->dtype, a->q_stride, D, a->scale * ATTN_LOG2E);
    memset(w->out_DL, 0, (size_t)(w->lanes.panels * D * PANEL) * sizeof(float));
    for (int32_t i = 0; i < w->lanes.panels * PANEL; i++)
        w->max_L[i] = -1e30f, w->sum_L[i] = w->share_L[i] = 0;
    const struct lcl_attn_run *run = &a->runs[block->first_run];
    if (run->prefix_begin < run->prefix_end) {
        attn_set_limits(&w->lanes, a, -1);
        key_range(a, w, kv_head, run->prefix_begin, run->prefix_end);
    }
    for (int32_t r = 0; r < block->n_runs; r++) {
        run = &a->runs[block->first_run + r];
        attn_set_limits(&w->lanes, a, block->first_run + r);
        key_range(a, w, kv_head, run->own_begin, run->own_end);
    }
    store_out(a, w);
    return LCL_OK;
}

/* Late blocks of a causal run see the most keys: they go first, so that threads finish together. */
static lcl_status forward_chunk(void *ctx, int64_t chunk)
{
    const struct forward *f = ctx;
    int64_t end = f->n_tasks - chunk * f->grain, begin = end > f->grain ? end - f->grain : 0;
    for (int64_t task = end - 1; task >= begin; task--) LCL_TRY(forward_task(f, task));
    return LCL_OK;
}

lcl_status LCL_CPU(attention_fwd)(struct lcl_exec *ex, const struct lcl_attention_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_attention(a));
    int64_t n = LCL_CPU(attention_blocks)(a, 0, a->n_runs, true, NULL);
    if (n == 0) return LCL_OK;
    struct attn_block *blocks = lcl_thread_scratch(ATTN_SCRATCH_BLOCKS, (size_t)n * sizeof *blocks);
    if (!blocks) return LCL_FAIL(LCL_MEMORY, "attention: no memory for %lld blocks", (long long)n);
    LCL_CPU(attention_blocks)(a, 0, a->n_runs, true, blocks);
    struct forward f = {a, blocks, n * a->G, 1, LCL_CPU(attention_in_pairs)(a)};
    f.grain = f.n_tasks > 256 ? f.n_tasks / 128 : 1;
    return lcl_parallel(lcl_chunk_count(f.n_tasks, f.grain), forward_chunk, &f);
}
