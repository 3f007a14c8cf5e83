/* Attention of runs with one query row each, over a key/value cache (flash-decoding: Dao et al.
 * 2023, "Flash-Decoding for long-context inference"): keys are split over blocks, so that one query
 * over a long context fills a GPU, and a second kernel adds up the parts in their order. Memory
 * sets the time, so a block reads its keys once for all rows that see them: the query heads of one
 * key/value head, and those of all runs with the same prefix.
 *
 * The kernels read the runs themselves, and no grid depends on how long they are now: a recorded
 * call (lcl_replay_args) goes on with whatever the runs say when it is done again.
 *
 * Legend: attention.cuh; R = H / G. Rows are numbered run by run, R to a run, within one key/value
 * head; a block has up to 16, one row of a product's tiles. A slot is one part of a row's keys: the
 * prefix's first, then its own. */
#include "cuda/attention_fwd.cuh"

enum {
    ROWS = 16,
    STEP = 64, /* keys in a step: 16 a warp */
    STAGES = 2,
    WARPS = ATTENTION_BLOCK / WARP,
    LEAST_KEYS = 256,    /* a part */
    MOST_PARTS = 64,     /* a range of keys */
    ENOUGH_BLOCKS = 512, /* to fill a GPU: cut no finer */
    STAT = 2             /* a slot's maximum and sum */
};

struct decode_params {
    int64_t q_stride, kv_stride, out_stride;
    int H, R, D, n_runs;
    int parts;                   /* a range of keys is cut in at most */
    int prefix_parts, own_parts; /* that any run has, or will have */
    int prefix_tiles, own_tiles; /* of rows: in all; a run */
    float scale;
    const struct lcl_attn_run *runs;
    const void *q, *k, *v;
    void *out;
    float *lse_TH;
    float *part_out, *part_stat; /* [n_runs * H, slots, D], [n_runs * H, slots, STAT] */
};

/* Keys a part when n keys are cut. */
LCL_DEVICE int part_keys(int n, int parts)
{
    const int keys = ((n + parts - 1) / parts + STEP - 1) / STEP * STEP;
    return keys < LEAST_KEYS ? (int)LEAST_KEYS : keys;
}

LCL_DEVICE int part_count(int n, int parts)
{
    const int keys = part_keys(n, parts);
    return (n + keys - 1) / keys;
}

/* What a block works on: rows [row, row_end) and keys [key, key_end). */
struct decode_part {
    int row, row_end, key, key_end;
    int slot;
};

/* Where row `row` of a key/value head lies among the rows of all heads. */
LCL_DEVICE int64_t flat_row(const decode_params &p, int row, int kv_head)
{
    return (int64_t)(row / p.R) * p.H + kv_head * p.R + row % p.R;
}

template <typename T, int DP>
LCL_DEVICE void load_queries(T *to, const decode_params &p, const decode_part &w, bool aligned)
{
    typedef tile_shape<T, DP> shape;
    enum { E = shape::E };
    const int kv_head = (int)blockIdx.y;
    for (int i = threadIdx.x; i < ROWS * shape::CHUNKS; i += ATTENTION_BLOCK) {
        int at, column;
        chunk_at<T, DP>(i, &at, &column);
        const int row = w.row + at;
        const bool there = row < w.row_end && column < p.D;
        const T *from = (const T *)p.q;
        if (there)
            from += p.runs[row / p.R].q_begin * p.q_stride +
                    (int64_t)(kv_head * p.R + row % p.R) * p.D + column;
        T *into = to + at * shape::STRIDE + column;
        if (aligned) {
            copy_async16(into, from, there ? 16 : 0);
            continue;
        }
        for (int e = 0; e < E; e++) {
            T x = {};
            if (there && column + e < p.D) x = from[e];
            into[e] = x;
        }
    }
}

/* Shared memory: queries, then keys and values of STAGES steps, over which the warps' results come
 * to lie. */
template <typename T, int DP> struct decode_shared {
    enum {
        STRIDE = tile_shape<T, DP>::STRIDE,
        TILE = STEP * STRIDE,
        OUT_STRIDE = DP + 8, /* floats */
        STAGED = 2 * STAGES * TILE * (int)sizeof(T),
        MERGED = WARPS * ROWS * (OUT_STRIDE + STAT) * (int)sizeof(float),
        BYTES = ROWS * STRIDE * (int)sizeof(T) + (STAGED > MERGED ? STAGED : MERGED),
        BLOCKS = attention_blocks(BYTES)
    };
};

/* This warp's rows through shared memory: each has seen a quarter of the keys. */
template <typename T, int DP>
LCL_DEVICE void put_running(float *out, float *stat, const running &r, const float (*sums)[4],
                            float scale_log2)
{
    enum { STRIDE = decode_shared<T, DP>::OUT_STRIDE };
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = r.sum[half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int row = warp * ROWS + lane / 4 + 8 * half;
        const float both[STAT] = {r.max[half] * scale_log2, sum};
        if (lane % 4 == 0) store_elements<STAT>(stat + STAT * row, both);
#pragma unroll
        for (int n = 0; n < DP / 8; n++)
            store_elements<2>(out + row * STRIDE + 8 * n + 2 * (lane % 4), &sums[n][2 * half]);
    }
}

/* The four warps' results, added in their order, as one slot of the block's rows. */
template <typename T, int DP>
LCL_DEVICE void merge_warps(const float *out, const float *stat, const decode_params &p,
                            const decode_part &w)
{
    enum { STRIDE = decode_shared<T, DP>::OUT_STRIDE, V = 4, CHUNKS = DP / V };
    const int slots = p.prefix_parts + p.own_parts;
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += ATTENTION_BLOCK) {
        const int row = i / CHUNKS, column = i % CHUNKS * V;
        if (w.row + row >= w.row_end || column >= p.D) continue;
        float most = -INFINITY, sum = 0, all[V] = {};
        for (int j = 0; j < WARPS; j++) most = fmaxf(most, stat[STAT * (j * ROWS + row)]);
        const float base = most == -INFINITY ? 0 : most;
        for (int j = 0; j < WARPS; j++) {
            const float *s = stat + STAT * (j * ROWS + row), factor = fast_exp2(s[0] - base);
            float x[V];
            load_elements<V>(out + (j * ROWS + row) * STRIDE + column, x);
            for (int e = 0; e < V; e++) all[e] += factor * x[e];
            sum += factor * s[1];
        }
        const int64_t to = flat_row(p, w.row + row, (int)blockIdx.y) * slots + w.slot;
        store_elements<V>(p.part_out + to * p.D + column, all);
        if (column > 0) continue;
        const float both[STAT] = {most, sum};
        store_elements<STAT>(p.part_stat + STAT * to, both);
    }
}

template <typename T, int DP>
LCL_DEVICE void attend_part(T *shared, const decode_params &p, const decode_part &w, bool aligned)
{
    typedef decode_shared<T, DP> layout;
    enum { STRIDE = layout::STRIDE, TILE = layout::TILE, MINE = STEP / WARPS };
    T *q = shared, *keys = q + ROWS * STRIDE, *values = keys + STAGES * TILE;
    const int warp = threadIdx.x / WARP, kv_head = (int)blockIdx.y;
    const T *k = (const T *)p.k + kv_head * p.D, *v = (const T *)p.v + kv_head * p.D;
    const attention_segment all = {w.key, w.key_end, ATTENTION_ALL, 0, 0};
    const float scale_log2 = p.scale * ATTENTION_LOG2E;
    running r;
    running_begin(&r);
    float sums[DP / 8][4], keep[2];
    zero<DP>(sums);
    load_queries<T, DP>(q, p, w, aligned);
    int ahead = w.key;
    for (int key = w.key, stage = 0; key < w.key_end; key += STEP, stage ^= 1) {
        /* the step after this one is on its way while this one is worked on */
        for (; ahead <= key + STEP; ahead += STEP) {
            const int place = ahead == key ? stage : stage ^ 1;
            if (ahead < w.key_end) {
                load_rows<T, DP, STEP>(keys + place * TILE, k, p.kv_stride, ahead, w.key_end, p.D,
                                       aligned);
                load_rows<T, DP, STEP>(values + place * TILE, v, p.kv_stride, ahead, w.key_end, p.D,
                                       aligned);
            }
            copy_commit();
        }
        copy_wait<1>();
        sync_block();
        float s[MINE / 8][4];
        const int mine = stage * TILE + warp * MINE * STRIDE;
        scores<T, DP, MINE>(s, q, keys + mine);
        if (key + STEP > w.key_end) mask<MINE>(s, all, key + warp * MINE, 0);
        soften<MINE>(&r, s, scale_log2, keep);
        scale_rows<DP>(sums, keep);
        update<T, DP, MINE>(sums, s, values + mine);
        sync_block();
    }
    float *out = (float *)keys, *stat = out + WARPS * ROWS * layout::OUT_STRIDE;
    copy_wait<0>(); /* the last groups are empty */
    put_running<T, DP>(out, stat, r, sums, scale_log2);
    sync_block();
    merge_warps<T, DP>(out, stat, p, w);
    sync_block();
}

/* Blocks along x: tiles of rows over parts of their prefixes, then each run's over its own keys;
 * along y: key/value heads. */
template <typename T, int DP>
static __global__ void __launch_bounds__(ATTENTION_BLOCK, (decode_shared<T, DP>::BLOCKS))
    attention_decode_kernel(decode_params p, bool aligned)
{
    SHARED_BYTES(shared);
    const int prefix_blocks = p.prefix_tiles * p.prefix_parts, rows = p.n_runs * p.R;
    const bool own = (int)blockIdx.x >= prefix_blocks;
    const int parts = own ? p.own_parts : p.prefix_parts;
    const int x = (int)blockIdx.x - (own ? prefix_blocks : 0), tile = x / parts, part = x % parts;
    int first = tile * ROWS, end = rows;
    if (own) {
        first = tile / p.own_tiles * p.R + tile % p.own_tiles * ROWS;
        end = (tile / p.own_tiles + 1) * p.R;
    }
    const int last = first + ROWS < end ? first + ROWS : end;
    /* Rows with the same keys at a time; those of a run always are. */
    for (decode_part w = {first, first, 0, 0, 0}; w.row < last; w.row = w.row_end) {
        const struct lcl_attn_run run = p.runs[w.row / p.R];
        w.row_end = (w.row / p.R + 1) * p.R;
        for (; w.row_end < last; w.row_end += p.R) {
            const struct lcl_attn_run &other = p.runs[w.row_end / p.R];
            if (other.prefix_begin != run.prefix_begin || other.prefix_end != run.prefix_end) break;
        }
        if (w.row_end > last) w.row_end = last;
        const int begin = own ? run.own_begin : run.prefix_begin;
        const int all_end = own ? run.own_end : run.prefix_end;
        const int keys = part_keys(all_end - begin, p.parts);
        w.key = begin + part * keys;
        w.key_end = w.key + keys < all_end ? w.key + keys : all_end;
        w.slot = part + (own ? p.prefix_parts : 0);
        if (w.key < all_end) attend_part<T, DP>((T *)shared, p, w, aligned);
    }
}

/* A warp a row: its slots, added in their order. */
template <typename T> static __global__ void attention_combine_kernel(decode_params p)
{
    enum { COLUMNS = 128 / WARP };
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    if (row >= (int64_t)p.n_runs * p.H) return;
    const int lane = threadIdx.x % WARP, head = (int)(row % p.H);
    const struct lcl_attn_run run = p.runs[row / p.H];
    const int of_prefix = part_count(run.prefix_end - run.prefix_begin, p.parts);
    const int n = of_prefix + part_count(run.own_end - run.own_begin, p.parts);
    const int unused = p.prefix_parts - of_prefix; /* slots of the prefix */
    const int64_t first = row * (p.prefix_parts + p.own_parts);
    float most = -INFINITY, sum = 0, all[COLUMNS] = {};
    for (int i = lane; i < n; i += WARP)
        most = fmaxf(most, p.part_stat[STAT * (first + i + (i < of_prefix ? 0 : unused))]);
    most = warp_max(most);
    const float base = most == -INFINITY ? 0 : most;
#pragma unroll 4
    for (int i = 0; i < n; i++) {
        const int64_t slot = first + i + (i < of_prefix ? 0 : unused);
        const float factor = fast_exp2(p.part_stat[STAT * slot] - base);
        sum += factor * p.part_stat[STAT * slot + 1];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            if (lane + WARP * j < p.D) all[j] += factor * p.part_out[slot * p.D + lane + WARP * j];
    }
    if (p.lse_TH && lane == 0)
        p.lse_TH[(int64_t)run.q_begin * p.H + head] = most * ATTENTION_LN2 + logf(sum);
    T *out = (T *)p.out + run.q_begin * p.out_stride + (int64_t)head * p.D;
    const float factor = 1.0f / sum;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        if (lane + WARP * j < p.D) from_f32(all[j] * factor, out + lane + WARP * j);
}

/* Parts that n keys, or fewer, are cut in: at most. */
static int most_parts(int64_t n, int parts)
{
    const int64_t least = (n + LEAST_KEYS - 1) / LEAST_KEYS;
    return least < parts ? (int)least : parts;
}

static decode_params decode_params_of(const struct lcl_attention_args *a)
{
    decode_params p = {};
    int64_t prefix = 0, own = a->most_keys;
    for (int64_t i = 0; i < a->n_runs; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        if (r->prefix_end - r->prefix_begin > prefix) prefix = r->prefix_end - r->prefix_begin;
        if (r->own_end - r->own_begin > own) own = r->own_end - r->own_begin;
    }
    p.q_stride = a->q_stride, p.kv_stride = a->kv_stride, p.out_stride = a->out_stride;
    p.H = (int)a->H, p.R = (int)(a->H / a->G), p.D = (int)a->D, p.n_runs = (int)a->n_runs;
    p.prefix_tiles = (p.n_runs * p.R + ROWS - 1) / ROWS;
    p.own_tiles = (p.R + ROWS - 1) / ROWS;
    const int64_t blocks = (prefix ? p.prefix_tiles : p.n_runs * p.own_tiles) * a->G;
    const int64_t parts = ENOUGH_BLOCKS / blocks;
    p.parts = parts < 1 ? 1 : parts > MOST_PARTS ? (int)MOST_PARTS : (int)parts;
    p.prefix_parts = most_parts(prefix, p.parts);
    p.own_parts = most_parts(own, p.parts);
    p.scale = a->scale;
    p.q = a->q, p.k = a->k, p.v = a->v, p.out = a->out, p.lse_TH = a->lse_TH;
    return p;
}

template <typename T, int DP>
static lcl_status launch(struct lcl_cuda_device *d, const decode_params &p, int64_t G, bool aligned)
{
    const dim3 grid =
        dims((unsigned)(p.prefix_tiles * p.prefix_parts + p.n_runs * p.own_tiles * p.own_parts),
             (unsigned)G);
    return LCL_LAUNCH(d, (attention_decode_kernel<T, DP>), grid, dims(ATTENTION_BLOCK),
                      (decode_shared<T, DP>::BYTES), p, aligned);
}

template <typename T>
static lcl_status decode(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    if (!a->n_runs) return LCL_OK;
    const int64_t E = sizeof(T), rows = a->n_runs * a->H;
    const bool aligned =
        attention_aligned<T>(a->D, a->q_stride * E, a->kv_stride * E, a->q, a->k, a->v);
    decode_params p = decode_params_of(a);
    const int64_t slots = rows * (p.prefix_parts + p.own_parts);
    const void *runs;
    void *parts;
    LCL_TRY(lcl_cuda_upload(d, a->runs, (size_t)a->n_runs * sizeof *a->runs, &runs));
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_PARTIALS, (size_t)(slots * (a->D + STAT)) * sizeof(float),
                             &parts));
    p.runs = (const struct lcl_attn_run *)runs;
    p.part_out = (float *)parts;
    p.part_stat = p.part_out + slots * a->D;
    LCL_TRY(ATTENTION_BY_WIDTH(launch, T, a->D, d, p, a->G, aligned));
    return LCL_LAUNCH(d, attention_combine_kernel<T>, dims(blocks_for(rows, WARPS)),
                      dims(ATTENTION_BLOCK), 0, p);
}

lcl_status attention_decode(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    return BY_DTYPE(a->dtype, decode, d, a);
}
