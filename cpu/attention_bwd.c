/* Attention backward (Dao et al. 2022, algorithm 4), deterministic for any number of threads.
 *
 * A task is one slice of one group of runs for one key/value head: its blocks of queries in order,
 * against all their keys. It writes d_q of its queries and sums d_k and d_v in buffers of its own.
 * Groups are cut in slices (of equal work, by shape alone) only where heads and groups are too few
 * to fill the threads; the slices' buffers are then added in order. Scores are recomputed from the
 * saved lse; attention_kernels.h explains the layout. */
#include "cpu/attention_kernels.h"

enum { TASKS_WANTED = 16, SLICES_MAX = 8, REDUCE_ROWS = 64 };

struct group {
    int64_t first_run, last_run, first_block, last_block, slices;
    int32_t row_begin, row_end; /* of its keys */
    int64_t first_task;
    int64_t
        grads_at; /* of its first slice's buffer of head 0, in floats; -1: the task's own scratch */
};

struct backward {
    const struct lcl_attention_args *a;
    struct attn_block *blocks;
    struct group *groups;
    double *block_end; /* arithmetic of a group's blocks up to the end of this one */
    float *grads;
    int64_t n_groups, n_blocks, n_tasks, grain, width; /* width: D rounded up to whole vectors */
    bool in_pairs;
};

/* What a task that multiplies in pairs keeps in the memory of the f32 below; sums stay there. */
struct pair_work {
    uint32_t *q_DL, *d_out_DL; /* panels of pairs along D */
    uint32_t *q_LD, *d_out_LD; /* row panels of pairs of lanes */
    float *scores_KL, *d_p_KL; /* [TILE_KEYS, PANEL]; then d_s in pairs of keys instead of d_p */
    lcl_bf16 *p_KL, *d_s_KL;   /* [TILE_KEYS, LANES] */
    lcl_bf16 *k_tile, *v_tile;
    uint32_t *k_pairs; /* of keys: [TILE_KEYS / 2, D] */
};

/* A task's working set, in its thread's scratch. L lanes, K keys of a tile. */
struct work {
    struct attn_lanes lanes;
    float lse_L[LANES],
        delta_L[LANES]; /* log2 units; sum over D of d_out * out, d_q's scale at the end */
    float *q_DL, *d_out_DL, *d_q_DL;    /* panels */
    float *q_LD, *d_out_LD;             /* row panels (below), padded to width */
    float *p_KL, *d_s_KL;               /* [TILE_KEYS, LANES] */
    float *k_tile, *v_tile, *d_k, *d_v; /* d_k, d_v: [rows of the group, width] */
    struct pair_work pairs;
};

static int64_t grads_floats(const struct backward *b, const struct group *g)
{
    return 2 * (g->row_end - g->row_begin + MK_ROWS) * b->width;
}

static struct work *work_new(const struct backward *b)
{
    int64_t D = b->a->D, head = attn_round((int64_t)sizeof(struct work), 64);
    int64_t sizes[] = {LANES * D,         LANES * D,        LANES * D,
                       LANES * b->width,  LANES * b->width, TILE_KEYS * LANES,
                       TILE_KEYS * LANES, TILE_KEYS * D,    TILE_KEYS * D};
    int64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) total += attn_round(sizes[i], 16);
    char *scratch = lcl_thread_scratch(ATTN_SCRATCH_TILES, (size_t)(head + total * 4));
    if (!scratch) return NULL;
    struct work *w = (struct work *)(void *)scratch;
    float *at = (float *)(void *)(scratch + head);
    float **parts[] = {&w->q_DL, &w->d_out_DL, &w->d_q_DL, &w->q_LD,  &w->d_out_LD,
                       &w->p_KL, &w->d_s_KL,   &w->k_tile, &w->v_tile};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *parts[i] = at;
        at += attn_round(sizes[i], 16);
    }
    w->pairs = (struct pair_work){
        .q_DL = (uint32_t *)(void *)w->q_DL,
        .d_out_DL = (uint32_t *)(void *)w->d_out_DL,
        .q_LD = (uint32_t *)(void *)w->q_LD,
        .d_out_LD = (uint32_t *)(void *)w->d_out_LD,
        .scores_KL = w->p_KL + TILE_KEYS * LANES / 2,
        .d_p_KL = w->d_s_KL + TILE_KEYS * LANES / 2,
        .p_KL = (lcl_bf16 *)(void *)w->p_KL,
        .d_s_KL = (lcl_bf16 *)(void *)w->d_s_KL,
        .k_tile = (lcl_bf16 *)(void *)w->k_tile,
        .v_tile = (lcl_bf16 *)(void *)w->v_tile,
        .k_pairs = (uint32_t *)(void *)(w->k_tile + TILE_KEYS * D / 2),
    };
    return w;
}

/* Row panels: rows of lanes cut in columns of at most MK_VECS vectors, [column][LANES][its
 * vectors]: what a product of lanes reads again and again lies without gaps in the first-level
 * cache. */
static int panel_vecs(int64_t width, int64_t col)
{
    return width - col < PANEL ? (int)((width - col) / VL) : MK_VECS;
}

static void load_rows(float *dst, int64_t width, const struct attn_lanes *l, const void *x,
                      lcl_dtype dtype, int64_t stride, int64_t D)
{
    float padded[128 + VL] = {0}, temp[128];
    for (int32_t i = 0; i < l->panels * PANEL; i++) {
        const float *row = padded;
        if (i < l->n)
            row = row_load(x, dtype, l->row[i] * stride + l->head[i] * D, D, temp);
        else
            memset(padded, 0, (size_t)D * sizeof(float));
        if (i < l->n && D < width) row = memcpy(padded, row, (size_t)D * sizeof(float));
        for (int64_t col = 0; col < width; col += PANEL) {
            int vecs = panel_vecs(width, col);
            float *at = dst + col * LANES + (int64_t)i * vecs * VL;
            for (int v = 0; v < vecs; v++) v_store(at + v * VL, v_load(row + col + v * VL));
        }
    }
}

/* Row panels in pairs: lanes 2i and 2i + 1 are row i, [column][LANES / 2][its vectors]. */
static void load_row_pairs(uint32_t *dst, int64_t width, const struct attn_lanes *l, const void *x,
                           int64_t stride, int64_t D)
{
    lcl_bf16 rows[2][128 + VL] = {{0}};
    for (int32_t i = 0; i < l->panels * PANEL; i += 2) {
        for (int32_t j = 0; j < 2; j++)
            if (i + j < l->n)
                memcpy(rows[j], (const lcl_bf16 *)x + l->row[i + j] * stride + l->head[i + j] * D,
                       (size_t)D * sizeof(lcl_bf16));
            else
                memset(rows[j], 0, (size_t)D * sizeof(lcl_bf16));
        for (int64_t col = 0; col < width; col += PANEL) {
            int64_t n = panel_vecs(width, col) * VL;
            pairs_of_rows(dst + col * (LANES / 2) + i / 2 * n, rows[0] + col, rows[1] + col, n);
        }
    }
}

/* d_rows [rows, width] += weights_KL of lanes [lane, end) times their row panels. */
static void add_rows(const struct backward *b, int64_t rows, const float *weights_KL, int32_t lane,
                     int32_t end, const float *panels, float *d_rows)
{
    for (int64_t col = 0, n; col < b->width; col += n) {
        int vecs = panel_vecs(b->width, col);
        n = vecs * VL;
        mk_rows(rows, vecs, end - lane, weights_KL + lane, LANES, panels + col * LANES + lane * n,
                n, d_rows + col, b->width, true);
    }
}

static PAIRS_FN void add_row_pairs(const struct backward *b, int64_t rows,
                                   const lcl_bf16 *weights_KL, int32_t lane, int32_t end,
                                   const uint32_t *panels, float *d_rows)
{
    for (int64_t col = 0, n; col < b->width; col += n) {
        int vecs = panel_vecs(b->width, col);
        n = vecs * VL;
        pairs_add(rows, vecs, (end - lane) / 2, weights_KL + lane, LANES,
                  panels + col * (LANES / 2) + lane / 2 * n, n, d_rows + col, b->width);
    }
}

/* The block's rows of q and d_out, in both layouts. */
static void load_operands(const struct backward *b, struct work *w)
{
    const struct lcl_attention_args *a = b->a;
    const struct attn_lanes *l = &w->lanes;
    if (PAIRS_BUILT && b->in_pairs) {
        attn_load_lane_pairs(w->pairs.q_DL, l, a->q, a->q_stride, a->D);
        attn_load_lane_pairs(w->pairs.d_out_DL, l, a->d_out, a->out_stride, a->D);
        load_row_pairs(w->pairs.q_LD, b->width, l, a->q, a->q_stride, a->D);
        load_row_pairs(w->pairs.d_out_LD, b->width, l, a->d_out, a->out_stride, a->D);
        return;
    }
    attn_load_lanes(w->q_DL, l, a->q, a->dtype, a->q_stride, a->D, a->scale * ATTN_LOG2E);
    attn_load_lanes(w->d_out_DL, l, a->d_out, a->dtype, a->out_stride, a->D, 1.0f);
    load_rows(w->q_LD, b->width, l, a->q, a->dtype, a->q_stride, a->D);
    load_rows(w->d_out_LD, b->width, l, a->d_out, a->dtype, a->out_stride, a->D);
}

static void load_block(const struct backward *b, struct work *w, const struct attn_block *block,
                       int64_t kv_head)
{
    const struct lcl_attention_args *a = b->a;
    struct attn_lanes *l = &w->lanes;
    float temp[2][128];
    attn_set_lanes(l, a, block, kv_head);
    load_operands(b, w);
    memset(w->d_q_DL, 0, (size_t)(l->panels * PANEL * a->D) * sizeof(float));
    for (int32_t i = 0; i < l->panels * PANEL; i++) {
        w->lse_L[i] = w->delta_L[i] = 0;
        if (i >= l->n) continue;
        int64_t at = l->row[i] * a->out_stride + l->head[i] * a->D;
        const float *out = row_load(a->out, a->dtype, at, a->D, temp[0]);
        const float *d_out = row_load(a->d_out, a->dtype, at, a->D, temp[1]);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < a->D; d++) sum += out[d] * d_out[d];
        w->delta_L[i] = sum;
        w->lse_L[i] = a->lse_TH[l->row[i] * a->H + l->head[i]] * ATTN_LOG2E;
    }
}

/* p and d_s of one panel for the first n of a tile's `rows` keys (zero after them), and their share
 * of d_q. */
static void panel_step(struct work *w, int64_t D, int panel, int32_t first_key, int32_t n,
                       int64_t rows, struct attn_tile k, struct attn_tile v)
{
    int vecs = attn_vecs(&w->lanes, panel);
    int64_t lane = (int64_t)panel * PANEL;
    float *p = w->p_KL + lane, *d_s = w->d_s_KL + lane;
    mk_rows(attn_round(n, MK_STEP), vecs, D, k.rows, k.stride, w->q_DL + lane * D, PANEL, p, LANES,
            false);
    mk_rows(attn_round(n, MK_STEP), vecs, D, v.rows, v.stride, w->d_out_DL + lane * D, PANEL, d_s,
            LANES, false);
    if (w->lanes.least[panel] < first_key + n - 1)
        attn_mask(p, LANES, n, vecs, w->lanes.limit + lane, first_key);
    for (int c = 0; c < vecs * VL; c += VL) {
        vf lse = v_load(w->lse_L + lane + c), delta = v_load(w->delta_L + lane + c);
        int64_t j = 0;
        for (; j < n; j++) {
            vf e = v_exp2(v_load(p + j * LANES + c) - lse);
            v_store(p + j * LANES + c, e);
            v_store(d_s + j * LANES + c, e * (v_load(d_s + j * LANES + c) - delta));
        }
        for (; j < rows; j++) {
            v_store(p + j * LANES + c, (vf){0});
            v_store(d_s + j * LANES + c, (vf){0});
        }
    }
    mk_cols(D, vecs, n, k.rows, k.stride, d_s, LANES, w->d_q_DL + lane * D, PANEL, true);
}

/* p and d_s of vector c of a panel's lanes, as rows and d_s in pairs of keys too: for the first n
 * of a tile's `rows` keys, zero after them. */
static inline PAIRS_FN void weights_in_pairs(struct work *w, int64_t lane, int c, int32_t n,
                                             int64_t rows)
{
    struct pair_work *p = &w->pairs;
    vf lse = v_load(w->lse_L + lane + c), delta = v_load(w->delta_L + lane + c);
    uint32_t *d_s_pairs = (uint32_t *)(void *)p->d_p_KL; /* in the place of rows that were read */
    for (int64_t j = 0; j < rows; j += 2) {
        vf e[2] = {{0}}, d_s[2] = {{0}};
#pragma GCC unroll 2
        for (int64_t i = 0; i < 2; i++) {
            if (j + i >= n) continue;
            int64_t at = (j + i) * PANEL + c;
            e[i] = v_exp2(v_load(p->scores_KL + at) - lse);
            d_s[i] = e[i] * (v_load(p->d_p_KL + at) - delta);
        }
        int64_t at = j * LANES + lane + c;
        vh2 d_s_rows = pairs_narrow(d_s[0], d_s[1]);
        pairs_store_rows(p->p_KL + at, p->p_KL + at + LANES, pairs_narrow(e[0], e[1]));
        pairs_store_rows(p->d_s_KL + at, p->d_s_KL + at + LANES, d_s_rows);
        pairs_store(d_s_pairs + j / 2 * PANEL + c, pairs_zip(d_s_rows));
    }
}

/* panel_step() in pairs: of D for scores and d_p, of keys for d_q. */
static PAIRS_FN void panel_step_pairs(struct work *w, const struct lcl_attention_args *a, int panel,
                                      int32_t first_key, int32_t n, int64_t rows)
{
    int vecs = attn_vecs(&w->lanes, panel);
    int64_t lane = (int64_t)panel * PANEL, D = a->D;
    struct pair_work *p = &w->pairs;
    pairs_set(attn_round(n, MK_STEP), vecs, D / 2, p->k_tile, D, p->q_DL + lane * D, PANEL,
              a->scale * ATTN_LOG2E, p->scores_KL, PANEL);
    pairs_set(attn_round(n, MK_STEP), vecs, D / 2, p->v_tile, D, p->d_out_DL + lane * D, PANEL,
              1.0f, p->d_p_KL, PANEL);
    if (w->lanes.least[panel] < first_key + n - 1)
        attn_mask(p->scores_KL, PANEL, n, vecs, w->lanes.limit + lane, first_key);
    for (int c = 0; c < vecs * VL; c += VL) weights_in_pairs(w, lane, c, n, rows);
    pairs_add_cols(D, vecs, (n + 1) / 2, p->k_pairs, D, (const uint32_t *)(const void *)p->d_p_KL,
                   PANEL, w->d_q_DL + lane * D, PANEL);
}

/* A block against a tile of n keys from `row` on, whose first is the range's `first`, of a group
 * that starts at row `base`. */
static void tile_step(const struct backward *b, struct work *w, int64_t kv_head, int32_t row,
                      int32_t first, int32_t n, int32_t base)
{
    const struct lcl_attention_args *a = b->a;
    const struct attn_lanes *l = &w->lanes;
    struct attn_tile k =
        attn_load_tile(a->k, a->dtype, row, n, a->kv_stride, kv_head, a->D, false, w->k_tile);
    struct attn_tile v =
        attn_load_tile(a->v, a->dtype, row, n, a->kv_stride, kv_head, a->D, false, w->v_tile);
    int64_t rows = attn_round(n, MK_STEP), at = (row - base) * b->width;
    /* lanes that see some of these keys end the block */
    int32_t lane = 0, lanes = (l->n + VL - 1) / VL * VL;
    for (int p = 0; p < l->panels; p++) {
        int32_t seen = attn_seen(l, p, first, n);
        if (seen > 0)
            panel_step(w, a->D, p, first, seen, rows, k, v);
        else
            lane = (p + 1) * PANEL;
    }
    add_rows(b, rows, w->p_KL, lane, lanes, w->d_out_LD, w->d_v + at);
    add_rows(b, rows, w->d_s_KL, lane, lanes, w->q_LD, w->d_k + at);
}

/* The same in pairs. */
static PAIRS_FN void tile_step_pairs(const struct backward *b, struct work *w, int64_t kv_head,
                                     int32_t row, int32_t first, int32_t n, int32_t base)
{
    const struct lcl_attention_args *a = b->a;
    const struct attn_lanes *l = &w->lanes;
    struct pair_work *pairs = &w->pairs;
    (void)attn_load_bf16(a->k, row, n, a->kv_stride, kv_head, a->D, false, pairs->k_tile);
    (void)attn_load_bf16(a->v, row, n, a->kv_stride, kv_head, a->D, false, pairs->v_tile);
    attn_load_pairs(pairs->k_pairs, a->k, row, n, a->kv_stride, kv_head, a->D);
    int64_t rows = attn_round(n, MK_STEP), at = (row - base) * b->width;
    int32_t lane = 0, lanes = (l->n + VL - 1) / VL * VL;
    for (int p = 0; p < l->panels; p++) {
        int32_t seen = attn_seen(l, p, first, n);
        if (seen > 0)
            panel_step_pairs(w, a, p, first, seen, rows);
        else
            lane = (p + 1) * PANEL;
    }
    add_row_pairs(b, rows, pairs->p_KL, lane, lanes, pairs->d_out_LD, w->d_v + at);
    add_row_pairs(b, rows, pairs->d_s_KL, lane, lanes, pairs->q_LD, w->d_k + at);
}

/* A block against keys [begin, end) of a group that starts at row `base`; the limits are set. */
static void key_range(const struct backward *b, struct work *w, int64_t kv_head, int32_t begin,
                      int32_t end, int32_t base)
{
    for (int32_t first = 0; first < end - begin && first <= w->lanes.most[w->lanes.panels - 1];
         first += TILE_KEYS) {
        int32_t left = end - begin - first, n = left < TILE_KEYS ? left : TILE_KEYS;
        if (PAIRS_BUILT && b->in_pairs)
            tile_step_pairs(b, w, kv_head, begin + first, first, n, base);
        else
            tile_step(b, w, kv_head, begin + first, first, n, base);
    }
}

static void store_d_q(const struct lcl_attention_args *a, struct work *w)
{
    for (int32_t i = 0; i < w->lanes.panels * PANEL; i++) w->delta_L[i] = a->scale;
    attn_store_lanes(w->d_q_DL, &w->lanes, a->d_q, a->dtype, a->q_stride, a->D, w->delta_L);
}

/* Key rows [begin, end) of d_k and d_v: the sum over slices of grads, in order. */
static void store_d_kv(const struct backward *b, const struct group *g, int64_t kv_head,
                       const float *grads, int32_t begin, int32_t end)
{
    const struct lcl_attention_args *a = b->a;
    int64_t floats = grads_floats(b, g);
    for (int which = 0; which < 2; which++) {
        void *d_x = which == 0 ? a->d_k : a->d_v;
        float scale = which == 0 ? a->scale : 1.0f, sum[128], temp[128];
        for (int32_t row = begin; d_x && row < end; row++) {
            const float *src = grads + which * (floats / 2) + (row - g->row_begin) * b->width;
            memcpy(sum, src, (size_t)a->D * sizeof(float));
            for (int64_t s = 1; s < g->slices; s++)
                for (int64_t d = 0; d < a->D; d++) sum[d] += src[s * floats + d];
            int64_t at = row * a->kv_stride + kv_head * a->D;
            float *dst = row_open(d_x, a->dtype, at, temp);
            for (int64_t d = 0; d < a->D; d++) dst[d] = sum[d] * scale;
            row_store(d_x, a->dtype, at, a->D, dst);
        }
    }
}

static const struct group *group_of_task(const struct backward *b, int64_t task)
{
    int64_t low = 0, high = b->n_groups - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (b->groups[middle].first_task <= task)
            low = middle;
        else
            high = middle - 1;
    }
    return &b->groups[low];
}

/* The first block of a slice: where the arithmetic before it reaches its share. */
static int64_t slice_begin(const struct backward *b, const struct group *g, int64_t slice)
{
    double share = b->block_end[g->last_block - 1] * (double)slice / (double)g->slices;
    int64_t i = g->first_block;
    while (slice > 0 && i < g->last_block && b->block_end[i] <= share) i++;
    return slice == g->slices ? g->last_block : i;
}

static lcl_status backward_task(const struct backward *b, int64_t task)
{
    const struct lcl_attention_args *a = b->a;
    const struct group *g = group_of_task(b, task);
    int64_t kv_head = (task - g->first_task) / g->slices,
            slice = (task - g->first_task) % g->slices;
    size_t floats = (size_t)grads_floats(b, g);
    struct work *w = work_new(b);
    float *grads = g->grads_at >= 0
                       ? b->grads + g->grads_at + (kv_head * g->slices + slice) * (int64_t)floats
                       : lcl_thread_scratch(ATTN_SCRATCH_GRADS, floats * sizeof(float));
    if (!w || !grads) return LCL_FAIL(LCL_MEMORY, "attention: no memory for a task's gradients");
    memset(grads, 0, floats * sizeof(float));
    w->d_k = grads;
    w->d_v = grads + floats / 2;
    int64_t end = slice_begin(b, g, slice + 1);
    for (int64_t i = slice_begin(b, g, slice); i < end; i++) {
        const struct attn_block *block = &b->blocks[i];
        const struct lcl_attn_run *run = &a->runs[block->first_run];
        load_block(b, w, block, kv_head);
        if (run->prefix_begin < run->prefix_end) {
            attn_set_limits(&w->lanes, a, -1);
            key_range(b, w, kv_head, run->prefix_begin, run->prefix_end, g->row_begin);
        }
        attn_set_limits(&w->lanes, a, block->first_run);
        key_range(b, w, kv_head, run->own_begin, run->own_end, g->row_begin);
        if (a->d_q) store_d_q(a, w);
    }
    if (g->grads_at < 0)
        for (int64_t r = g->first_run; r < g->last_run; r++)
            store_d_kv(b, g, kv_head, grads, a->runs[r].own_begin, a->runs[r].own_end);
    return LCL_OK;
}

static lcl_status backward_chunk(void *ctx, int64_t chunk)
{
    const struct backward *b = ctx;
    int64_t end = lcl_chunk_end(chunk, b->grain, b->n_tasks);
    for (int64_t task = chunk * b->grain; task < end; task++) LCL_TRY(backward_task(b, task));
    return LCL_OK;
}

/* Chunk: one (sliced group, key/value head, REDUCE_ROWS rows). */
static lcl_status reduce_chunk(void *ctx, int64_t chunk)
{
    const struct backward *b = ctx;
    for (int64_t i = 0; i < b->n_groups; i++) {
        const struct group *g = &b->groups[i];
        int64_t pieces = lcl_chunk_count(g->row_end - g->row_begin, REDUCE_ROWS);
        if (g->grads_at < 0) continue;
        if (chunk >= pieces * b->a->G) {
            chunk -= pieces * b->a->G;
            continue;
        }
        int64_t kv_head = chunk / pieces;
        int32_t begin = g->row_begin + (int32_t)(chunk % pieces * REDUCE_ROWS),
                end = begin + REDUCE_ROWS;
        const float *grads = b->grads + g->grads_at + kv_head * g->slices * grads_floats(b, g);
        for (int64_t r = g->first_run; r < g->last_run; r++) {
            const struct lcl_attn_run *run = &b->a->runs[r];
            store_d_kv(b, g, kv_head, grads, run->own_begin > begin ? run->own_begin : begin,
                       run->own_end < end ? run->own_end : end);
        }
        break;
    }
    return LCL_OK;
}

static void add_group(struct backward *b, int64_t first, int64_t last)
{
    const struct lcl_attention_args *a = b->a;
    struct group *g = &b->groups[b->n_groups++];
    *g = (struct group){first, last, b->n_blocks, 0, 1, INT32_MAX, 0, 0, -1};
    for (int64_t i = first; i < last; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        if (r->own_begin < g->row_begin) g->row_begin = r->own_begin;
        if (r->own_end > g->row_end) g->row_end = r->own_end;
    }
    g->last_block =
        g->first_block + LCL_CPU(attention_blocks)(a, first, last, false, b->blocks + b->n_blocks);
    b->n_blocks = g->last_block;
    double sum = 0;
    for (int64_t i = g->first_block; i < g->last_block; i++) {
        const struct attn_block *k = &b->blocks[i];
        const struct lcl_attn_run *r = &a->runs[k->first_run];
        int64_t own = a->causal ? k->lane_end * a->G / a->H : r->own_end - r->own_begin;
        sum +=
            (double)(k->lane_end - k->lane_begin) * (double)(r->prefix_end - r->prefix_begin + own);
        b->block_end[i] = sum;
    }
    if (g->first_block == g->last_block) b->n_groups--; /* no rows at all */
}

/* Finds the groups, cuts them in slices, lays out the slices' buffers. */
static lcl_status plan(struct backward *b)
{
    const struct lcl_attention_args *a = b->a;
    for (int64_t i = 0; i < a->n_runs;) {
        int64_t last = i + 1;
        while (last < a->n_runs && a->runs[last].group == a->runs[i].group) last++;
        add_group(b, i, last);
        i = last;
    }
    if (b->n_groups == 0) return LCL_OK;
    int64_t slices = (TASKS_WANTED + b->n_groups * a->G - 1) / (b->n_groups * a->G), at = 0;
    if (slices > SLICES_MAX) slices = SLICES_MAX;
    for (int64_t i = 0; i < b->n_groups; i++) {
        struct group *g = &b->groups[i];
        int64_t n = g->last_block - g->first_block;
        g->slices = slices < n ? slices : n;
        g->first_task = b->n_tasks;
        b->n_tasks += a->G * g->slices;
        if (g->slices == 1) continue;
        g->grads_at = at;
        at += a->G * g->slices * grads_floats(b, g);
    }
    b->grain = b->n_tasks > 256 ? b->n_tasks / 128 : 1;
    if (at > 0) b->grads = lcl_thread_scratch(ATTN_SCRATCH_SLICES, (size_t)at * sizeof(float));
    if (at > 0 && !b->grads)
        return LCL_FAIL(LCL_MEMORY, "attention: no memory for %lld gradients of slices",
                        (long long)at);
    return LCL_OK;
}

lcl_status LCL_CPU(attention_bwd)(struct lcl_exec *ex, const struct lcl_attention_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_attention_bwd(a));
    int64_t n = LCL_CPU(attention_blocks)(a, 0, a->n_runs, false, NULL);
    if (n == 0) return LCL_OK;
    struct backward b = {
        .a = a, .width = attn_round(a->D, VL), .in_pairs = LCL_CPU(attention_in_pairs)(a)};
    size_t groups = (size_t)a->n_runs * sizeof *b.groups, ends = (size_t)n * sizeof *b.block_end;
    char *lists =
        lcl_thread_scratch(ATTN_SCRATCH_BLOCKS, groups + ends + (size_t)n * sizeof *b.blocks);
    if (!lists) return LCL_FAIL(LCL_MEMORY, "attention: no memory for %lld blocks", (long long)n);
    b.groups = (struct group *)(void *)lists;
    b.block_end = (double *)(void *)(lists + groups);
    b.blocks = (struct attn_block *)(void *)(lists + groups + ends);
    LCL_TRY(plan(&b));
    LCL_TRY(lcl_parallel(lcl_chunk_count(b.n_tasks, b.grain), backward_chunk, &b));
    int64_t pieces = 0;
    for (int64_t i = 0; i < b.n_groups; i++)
        if (b.groups[i].grads_at >= 0)
            pieces +=
                a->G * lcl_chunk_count(b.groups[i].row_end - b.groups[i].row_begin, REDUCE_ROWS);
    return pieces ? lcl_parallel(pieces, reduce_chunk, &b) : LCL_OK;
}
