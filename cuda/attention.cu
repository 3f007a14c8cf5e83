/* Attention forward on mma.sync, and the tables of who sees whom. Legend: attention.cuh. */
#include "cuda/attention_fwd.cuh"

#include <stdlib.h>

#include "core/threads.h"
#include "cuda/attention_wgmma.cuh"
#include "cuda/ops.cuh"

/* --- tables, on the host --- */

enum { TABLES_SCRATCH = 6 }; /* of the thread's slots, and the three after it */

struct builder {
    int32_t rows; /* a tile */
    attention_tile *tiles;
    attention_segment *segments;
    int64_t n_tiles, n_segments;
    int32_t work; /* of the tile that is being made */
};

static void add_segment(struct builder *b, int32_t begin, int32_t end, int32_t limit,
                        int32_t own_begin, int32_t own_end)
{
    if (begin >= end || own_begin >= own_end) return;
    if (b->segments) {
        attention_segment s = {begin, end, limit, own_begin, own_end};
        b->segments[b->n_segments] = s;
    }
    b->n_segments++;
    b->work += end - begin;
}

static int32_t clamp(int64_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : (int32_t)x;
}

/* Key k of the run's own and query q meet when k <= q + limit. */
static int32_t own_limit(const struct lcl_attention_args *a, const struct lcl_attn_run *r)
{
    if (!a->causal) return ATTENTION_ALL;
    return r->own_end - r->q_end;
}

static void add_query_tile(struct builder *b, const struct lcl_attention_args *a,
                           const struct lcl_attn_run *r, int32_t first, int32_t last)
{
    add_segment(b, r->prefix_begin, r->prefix_end, ATTENTION_ALL, first, last);
    const int32_t limit = own_limit(a, r);
    add_segment(b, r->own_begin, clamp((int64_t)last + limit, r->own_begin, r->own_end), limit,
                first, last);
}

static void add_key_tile(struct builder *b, const struct lcl_attention_args *a, int64_t run,
                         int32_t first, int32_t last)
{
    const struct lcl_attn_run *r = &a->runs[run];
    const int32_t limit = own_limit(a, r);
    add_segment(b, clamp((int64_t)first - limit, r->q_begin, r->q_end), r->q_end, limit, first,
                last);
    for (int64_t i = run; i < a->n_runs && a->runs[i].group == r->group; i++) {
        const struct lcl_attn_run *other = &a->runs[i];
        const int32_t begin = other->prefix_begin > first ? other->prefix_begin : first;
        const int32_t end = other->prefix_end < last ? other->prefix_end : last;
        add_segment(b, other->q_begin, other->q_end, ATTENTION_ALL, begin, end);
    }
}

static void add_tiles(struct builder *b, const struct lcl_attention_args *a, bool by_key)
{
    for (int64_t i = 0; i < a->n_runs; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        const int32_t begin = by_key ? r->own_begin : r->q_begin;
        const int32_t end = by_key ? r->own_end : r->q_end;
        for (int32_t first = begin; first < end; first += b->rows) {
            const int32_t last = end - first > b->rows ? first + b->rows : end;
            const int64_t before = b->n_segments;
            b->work = 0;
            if (by_key)
                add_key_tile(b, a, i, first, last);
            else
                add_query_tile(b, a, r, first, last);
            if (b->tiles) {
                attention_tile t = {first, last, (int32_t)before, (int32_t)b->n_segments, b->work};
                b->tiles[b->n_tiles] = t;
            }
            b->n_tiles++;
        }
    }
}

static int by_work(const void *x, const void *y)
{
    const attention_tile *a = (const attention_tile *)x, *b = (const attention_tile *)y;
    if (a->work != b->work) return a->work > b->work ? -1 : 1;
    return (a->row_begin > b->row_begin) - (a->row_begin < b->row_begin);
}

lcl_status attention_tables_make(struct lcl_cuda_device *d, const struct lcl_attention_args *a,
                                 bool by_key, int rows, struct attention_tables *out)
{
    struct builder b = {};
    b.rows = rows;
    add_tiles(&b, a, by_key);
    const size_t tile_bytes = (size_t)b.n_tiles * sizeof *b.tiles;
    const size_t bytes = tile_bytes + (size_t)b.n_segments * sizeof *b.segments;
    *out = attention_tables();
    if (!b.n_tiles) return LCL_OK;
    LCL_TRY(lcl_cuda_unrecorded(d, "attention of runs of several rows"));
    /* Each kind has its place, so that none's copy on the device goes stale. */
    const int kind = (by_key ? 1 : 0) + (rows == ATTENTION_ROWS ? 0 : 2);
    char *memory = (char *)lcl_thread_scratch(TABLES_SCRATCH + kind, bytes);
    if (!memory) return LCL_FAIL(LCL_MEMORY, "attention: no memory for %zu bytes of tables", bytes);
    b.tiles = (attention_tile *)memory;
    b.segments = (attention_segment *)(memory + tile_bytes);
    b.n_tiles = b.n_segments = 0;
    add_tiles(&b, a, by_key);
    qsort(b.tiles, (size_t)b.n_tiles, sizeof *b.tiles, by_work);
    const void *device;
    LCL_TRY(lcl_cuda_upload(d, memory, bytes, &device));
    out->tiles = (const attention_tile *)device;
    out->segments = (const attention_segment *)((const char *)device + tile_bytes);
    out->n_tiles = b.n_tiles;
    return LCL_OK;
}

/* --- forward --- */

/* Keys in a step, how many steps are in shared memory at once, and how often 16 rows a warp has:
 * each key and value that a warp reads from shared memory serves all its rows, and with 16 the
 * banks would take three times as long as the products (dev/cuda-attention). More keys do not fit
 * the registers of wide heads. */
template <typename T, int DP> struct forward_shape {
    enum {
        N = sizeof(T) == 2 && DP <= 64 ? 64 : 32,
        STAGES = 2,
        M = sizeof(T) == 2 ? 2 : 1,
        ROWS = M * ATTENTION_ROWS,
        BYTES = (ROWS + 2 * STAGES * N) * tile_shape<T, DP>::STRIDE * (int)sizeof(T),
        BLOCKS = attention_blocks(BYTES)
    };
};

template <typename T, int DP>
static __global__ void __launch_bounds__(ATTENTION_BLOCK, (forward_shape<T, DP>::BLOCKS))
    attention_fwd_kernel(attention_params p, bool aligned)
{
    typedef forward_shape<T, DP> shape;
    enum { STRIDE = tile_shape<T, DP>::STRIDE, N = shape::N, TILE = N * STRIDE, M = shape::M };
    SHARED_BYTES(shared);
    T *q = (T *)shared, *keys = q + shape::ROWS * STRIDE, *values = keys + shape::STAGES * TILE;
    const attention_tile t = p.tiles[blockIdx.x];
    const int head = (int)blockIdx.y, kv_head = head / (int)(p.H / p.G), warp = threadIdx.x / WARP;
    const int D = (int)p.D, first_row = t.row_begin + 16 * M * warp;
    const T *k = (const T *)p.k + kv_head * p.D, *v = (const T *)p.v + kv_head * p.D;
    attention_walk w = walk_begin(p.segments, t, 1), ahead = w;
    load_rows<T, DP, shape::ROWS>(q, (const T *)p.q + head * p.D, p.q_stride, t.row_begin,
                                  t.row_end, D, aligned);
    running r[M];
    float out[M][DP / 8][4];
#pragma unroll
    for (int m = 0; m < M; m++) running_begin(&r[m]), zero<DP>(out[m]);
    for (int stage = 0, step = 0; w.head < 1; stage ^= 1, step++) {
        /* the step after this one is on its way while this one is worked on */
        for (int i = step == 0 ? 0 : 1; i < 2; i++) {
            if (ahead.head < 1) {
                const attention_segment &g = p.segments[ahead.segment];
                const int place = i ? stage ^ 1 : stage;
                load_rows<T, DP, N>(keys + place * TILE, k, p.kv_stride, g.begin + ahead.at, g.end,
                                    D, aligned);
                load_rows<T, DP, N>(values + place * TILE, v, p.kv_stride, g.begin + ahead.at,
                                    g.end, D, aligned);
                ahead = walk_next(p.segments, t, ahead, N, 1);
            }
            copy_commit();
        }
        copy_wait<1>();
        sync_block();
        const attention_segment g = p.segments[w.segment];
        const int first_key = g.begin + w.at;
        if (first_row < t.row_end) { /* else this warp has no rows */
            float s[M][N / 8][4], keep[2];
            scores<T, DP, N, M>(s, q + 16 * M * warp * STRIDE, keys + stage * TILE);
            const bool all_seen =
                first_key + N <= g.end && first_key + N <= first_row + g.limit + 1;
#pragma unroll
            for (int m = 0; m < M; m++) {
                if (!all_seen) mask<N>(s[m], g, first_key, first_row + 16 * m);
                soften<N>(&r[m], s[m], p.scale * ATTENTION_LOG2E, keep);
                scale_rows<DP>(out[m], keep);
            }
            update<T, DP, N, M>(out, s, values + stage * TILE);
        }
        sync_block();
        w = walk_next(p.segments, t, w, N, 1);
    }
    copy_wait<0>();
    sync_block(); /* no step at all: the queries' copies of other threads are done */
#pragma unroll
    for (int m = 0; m < M; m++) {
        const int row = first_row + 16 * m;
        running_end<DP>(r[m], out[m], p, row, t.row_end, head);
        store_rows<T, DP>((T *)p.out + head * p.D, p.out_stride, row, t.row_begin, t.row_end, D,
                          aligned, q + (16 * M * warp + 16 * m) * STRIDE, out[m]);
    }
}

template <typename T, int DP>
static lcl_status launch(struct lcl_cuda_device *d, const attention_params &p, int64_t n_tiles,
                         bool aligned)
{
    return LCL_LAUNCH(d, (attention_fwd_kernel<T, DP>), dims((unsigned)n_tiles, (unsigned)p.H),
                      dims(ATTENTION_BLOCK), ((forward_shape<T, DP>::BYTES)), p, aligned);
}

template <typename T> constexpr int forward_rows() { return forward_shape<T, 16>::ROWS; }

template <typename T>
static lcl_status forward(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    const int64_t E = sizeof(T);
    const bool aligned = attention_aligned<T>(a->D, a->q_stride * E, a->kv_stride * E,
                                              a->out_stride * E, a->q, a->k, a->v, a->out);
    if (d->wgmma && aligned && a->dtype == LCL_BF16) return attention_wgmma_fwd(d, a);
    struct attention_tables tables;
    LCL_TRY(attention_tables_make(d, a, false, forward_rows<T>(), &tables));
    if (!tables.n_tiles) return LCL_OK;
    const attention_params p = attention_params_of(a, tables);
    return ATTENTION_BY_WIDTH(launch, T, a->D, d, p, tables.n_tiles, aligned);
}

lcl_status lcl_cuda_attention_fwd(struct lcl_exec *ex, const struct lcl_attention_args *a)
{
    LCL_TRY(lcl_check_attention(a));
    if (attention_decodes(a)) return attention_decode(lcl_cuda_device_of(ex), a);
    return BY_DTYPE(a->dtype, forward, lcl_cuda_device_of(ex), a);
}
