/* Attention backward without atomics, so that its sums have one order: one kernel walks queries for
 * each tile of keys (d_k, d_v), another walks keys for each tile of queries (d_q); both recompute
 * the weights from lse. Seven products instead of five (Dao et al. 2022 add d_q atomically).
 *   delta = sum over d of d_out * out      d_p = d_out v^T
 *   d_s = p (d_p - delta) scale            d_v = p^T d_out, d_k = d_s^T q, d_q = d_s k
 * Legend: attention.cuh. */
#include "cuda/attention_bwd.cuh"
#include "cuda/attention_wgmma.cuh"
#include "cuda/ops.cuh"

/* --- delta --- */

enum { DELTA_HEADS = 8, DELTA_LANES = 8 };

/* A block has a tile of queries and eight heads, eight lanes a row of a head. What it finds goes
 * through shared memory, so that it is read and written in whole sectors: lse_TH's rows are eight
 * heads, delta_HT's the tile's queries. */
template <typename T, int V>
static __global__ void __launch_bounds__(ATTENTION_BLOCK) attention_delta_kernel(attention_params p)
{
    enum { STRIDE = ATTENTION_ROWS + 4 }; /* eight heads of four rows in 32 banks */
    SHARED_BYTES(shared);
    float *deltas = (float *)shared, *lses = deltas + DELTA_HEADS * STRIDE;
    const attention_tile t = p.tiles[blockIdx.x];
    const int lane = threadIdx.x % DELTA_LANES, rows = t.row_end - t.row_begin;
    const int first_head = (int)blockIdx.y * DELTA_HEADS, left = (int)p.H - first_head;
    const int heads = left < DELTA_HEADS ? left : (int)DELTA_HEADS;
    for (int i = threadIdx.x / DELTA_LANES; i < rows * DELTA_HEADS;
         i += ATTENTION_BLOCK / DELTA_LANES) {
        const int row = i / DELTA_HEADS, head = i % DELTA_HEADS;
        const int64_t at = (t.row_begin + row) * p.out_stride + (first_head + head) * p.D;
        float sum = 0, out[V], d_out[V];
        for (int c = lane * V; head < heads && c < (int)p.D; c += DELTA_LANES * V) {
            load_elements<V>((const T *)p.out + at + c, out);
            load_elements<V>((const T *)p.d_out + at + c, d_out);
            for (int j = 0; j < V; j++) sum += out[j] * d_out[j];
        }
#pragma unroll
        for (int m = DELTA_LANES / 2; m > 0; m /= 2) sum += shuffle_xor(sum, m);
        if (lane == 0) deltas[head * STRIDE + row] = sum;
    }
    for (int i = threadIdx.x; i < rows * DELTA_HEADS; i += ATTENTION_BLOCK) {
        const int row = i / DELTA_HEADS, head = i % DELTA_HEADS;
        if (head < heads)
            lses[head * STRIDE + row] =
                p.lse_TH[(t.row_begin + row) * p.H + first_head + head] * ATTENTION_LOG2E;
    }
    sync_block();
    for (int i = threadIdx.x; i < heads * ATTENTION_ROWS; i += ATTENTION_BLOCK) {
        const int row = i % ATTENTION_ROWS, head = i / ATTENTION_ROWS;
        if (row >= rows) continue;
        const int64_t to = (first_head + head) * p.T + t.row_begin + row;
        p.delta_HT[to] = deltas[head * STRIDE + row];
        p.lse_HT[to] = lses[head * STRIDE + row];
    }
}

static constexpr size_t delta_bytes = 2 * DELTA_HEADS * (ATTENTION_ROWS + 4) * sizeof(float);

/* --- shared by the two walks --- */

/* Rows of the other side in a step; how many steps are in shared memory at once. */
template <typename T, int DP> struct backward_shape {
    enum { N = sizeof(T) == 2 ? (DP > 64 ? 32 : 64) : 16, STAGES = sizeof(T) == 2 ? 2 : 1 };
};

/* Pointers into shared memory: the tile's own two matrices, then the steps'. */
template <typename T, int DP> struct backward_shared {
    enum {
        STRIDE = tile_shape<T, DP>::STRIDE,
        TILE = backward_shape<T, DP>::N * STRIDE,
        STAGES = backward_shape<T, DP>::STAGES
    };
    T *own[2], *step[2];
    float *sums; /* [STAGES][2][N]: lse and delta of a step's queries */
};

template <typename T, int DP> LCL_DEVICE backward_shared<T, DP> shared_of(unsigned char *shared)
{
    typedef backward_shared<T, DP> layout;
    layout m;
    m.own[0] = (T *)shared;
    m.own[1] = m.own[0] + ATTENTION_ROWS * layout::STRIDE;
    m.step[0] = m.own[1] + ATTENTION_ROWS * layout::STRIDE;
    m.step[1] = m.step[0] + layout::STAGES * layout::TILE;
    m.sums = (float *)(m.step[1] + layout::STAGES * layout::TILE);
    return m;
}

/* Two matrices of rows, one head of each. */
template <typename T> struct pair_of_rows {
    const T *x, *y;
    int64_t x_stride, y_stride;
};

template <typename T, int DP, int N>
LCL_DEVICE void load_pair(T *x, T *y, const pair_of_rows<T> &from, int first, int end, int D,
                          bool aligned)
{
    load_rows<T, DP, N>(x, from.x, from.x_stride, first, end, D, aligned);
    load_rows<T, DP, N>(y, from.y, from.y_stride, first, end, D, aligned);
}

/* --- d_q: rows are queries, columns keys --- */

template <typename T, int DP>
static __global__ void __launch_bounds__(ATTENTION_BLOCK, 2)
    attention_bwd_q_kernel(attention_params p, bool aligned)
{
    typedef backward_shared<T, DP> layout;
    enum { N = backward_shape<T, DP>::N, STAGES = layout::STAGES, STRIDE = layout::STRIDE };
    SHARED_BYTES(shared);
    const layout m = shared_of<T, DP>(shared);
    const attention_tile t = p.tiles[blockIdx.x];
    const int head = (int)blockIdx.y, kv_head = head / (int)(p.H / p.G), warp = threadIdx.x / WARP;
    const int D = (int)p.D, lane = threadIdx.x % WARP, first_row = t.row_begin + 16 * warp;
    const pair_of_rows<T> own = {(const T *)p.q + head * p.D, (const T *)p.d_out + head * p.D,
                                 p.q_stride, p.out_stride};
    const pair_of_rows<T> other = {(const T *)p.k + kv_head * p.D, (const T *)p.v + kv_head * p.D,
                                   p.kv_stride, p.kv_stride};
    float lse[2], delta[2], d_q[DP / 8][4];
    for (int half = 0; half < 2; half++) {
        const int row = first_row + lane / 4 + 8 * half;
        lse[half] = row < t.row_end ? p.lse_HT[head * p.T + row] : 0;
        delta[half] = row < t.row_end ? p.delta_HT[head * p.T + row] : 0;
    }
    load_pair<T, DP, ATTENTION_ROWS>(m.own[0], m.own[1], own, t.row_begin, t.row_end, D, aligned);
    zero<DP>(d_q);
    attention_walk w = walk_begin(p.segments, t, 1), ahead = w;
    for (int step = 0; w.head < 1; step++) {
        for (int i = step == 0 ? 0 : STAGES - 1; i < STAGES; i++) {
            if (ahead.head < 1) {
                const attention_segment &g = p.segments[ahead.segment];
                const int place = (step + i) % STAGES * layout::TILE;
                load_pair<T, DP, N>(m.step[0] + place, m.step[1] + place, other, g.begin + ahead.at,
                                    g.end, D, aligned);
                ahead = walk_next(p.segments, t, ahead, N, 1);
            }
            copy_commit();
        }
        copy_wait<STAGES - 1>();
        sync_block();
        const attention_segment g = p.segments[w.segment];
        const int at = step % STAGES * layout::TILE, rows = 16 * warp * STRIDE;
        if (first_row < t.row_end) { /* else this warp has no rows */
            float s[N / 8][4], d_p[N / 8][4];
            scores<T, DP, N>(s, m.own[0] + rows, m.step[0] + at);
            scores<T, DP, N>(d_p, m.own[1] + rows, m.step[1] + at);
            query_gradients<N>(s, d_p, lse, delta, g, first_row, t.row_end, g.begin + w.at,
                               p.scale);
            update<T, DP, N>(d_q, s, m.step[0] + at);
        }
        sync_block();
        w = walk_next(p.segments, t, w, N, 1);
    }
    copy_wait<0>();
    sync_block();
    store_rows<T, DP>((T *)p.d_q + head * p.D, p.q_stride, first_row, t.row_begin, t.row_end, D,
                      aligned, m.own[0] + 16 * warp * STRIDE, d_q);
}

/* --- d_k, d_v: rows are keys, columns the queries of all heads that share them --- */

/* s: scores of 16 keys and N queries, becomes their weights. */
template <int N>
LCL_DEVICE void key_weights(float (*s)[4], const float *lse, const attention_segment &g,
                            int first_row, int first_query, float scale)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int column = 8 * n + 2 * (lane % 4) + i % 2, query = first_query + column;
            const int key = first_row + lane / 4 + 8 * (i / 2);
            const bool seen =
                query < g.end && key <= query + g.limit && key >= g.own_begin && key < g.own_end;
            s[n][i] = seen ? fast_exp2(s[n][i] * (scale * ATTENTION_LOG2E) - lse[column]) : 0;
        }
}

/* The next step's queries and d_out, with their lse and delta. */
template <typename T, int DP>
LCL_DEVICE void load_queries(const backward_shared<T, DP> &m, int place, const attention_params &p,
                             const attention_segment &g, int at, int head, bool aligned)
{
    enum { N = backward_shape<T, DP>::N, TILE = backward_shared<T, DP>::TILE };
    const pair_of_rows<T> from = {(const T *)p.q + head * p.D, (const T *)p.d_out + head * p.D,
                                  p.q_stride, p.out_stride};
    load_pair<T, DP, N>(m.step[0] + place * TILE, m.step[1] + place * TILE, from, g.begin + at,
                        g.end, (int)p.D, aligned);
    if (threadIdx.x < N) {
        const int row = g.begin + at + (int)threadIdx.x;
        float *sums = m.sums + 2 * N * place + threadIdx.x;
        const int64_t from_HT = row < g.end ? head * p.T + row : 0;
        copy_async4(sums, p.lse_HT + from_HT, row < g.end ? 4 : 0);
        copy_async4(sums + N, p.delta_HT + from_HT, row < g.end ? 4 : 0);
    }
}

template <typename T, int DP>
static __global__ void __launch_bounds__(ATTENTION_BLOCK, 2)
    attention_bwd_kv_kernel(attention_params p, bool aligned)
{
    typedef backward_shared<T, DP> layout;
    enum { N = backward_shape<T, DP>::N, STAGES = layout::STAGES, STRIDE = layout::STRIDE };
    SHARED_BYTES(shared);
    const layout m = shared_of<T, DP>(shared);
    const attention_tile t = p.tiles[blockIdx.x];
    const int kv_head = (int)blockIdx.y, heads = (int)(p.H / p.G), warp = threadIdx.x / WARP;
    const int D = (int)p.D, lane = threadIdx.x % WARP, first_row = t.row_begin + 16 * warp;
    const pair_of_rows<T> own = {(const T *)p.k + kv_head * p.D, (const T *)p.v + kv_head * p.D,
                                 p.kv_stride, p.kv_stride};
    load_pair<T, DP, ATTENTION_ROWS>(m.own[0], m.own[1], own, t.row_begin, t.row_end, D, aligned);
    float d_k[DP / 8][4], d_v[DP / 8][4];
    zero<DP>(d_k);
    zero<DP>(d_v);
    attention_walk w = walk_begin(p.segments, t, heads), ahead = w;
    for (int step = 0; w.head < heads; step++) {
        for (int i = step == 0 ? 0 : STAGES - 1; i < STAGES; i++) {
            if (ahead.head < heads) {
                load_queries<T, DP>(m, (step + i) % STAGES, p, p.segments[ahead.segment], ahead.at,
                                    kv_head * heads + ahead.head, aligned);
                ahead = walk_next(p.segments, t, ahead, N, heads);
            }
            copy_commit();
        }
        copy_wait<STAGES - 1>();
        sync_block();
        const attention_segment g = p.segments[w.segment];
        const int at = step % STAGES * layout::TILE, rows = 16 * warp * STRIDE;
        const float *lse = m.sums + 2 * N * (step % STAGES), *delta = lse + N;
        if (first_row < t.row_end) {
            float s[N / 8][4], d_p[N / 8][4];
            scores<T, DP, N>(s, m.own[0] + rows, m.step[0] + at);
            key_weights<N>(s, lse, g, first_row, g.begin + w.at, p.scale);
            update<T, DP, N>(d_v, s, m.step[1] + at);
            scores<T, DP, N>(d_p, m.own[1] + rows, m.step[1] + at);
#pragma unroll
            for (int n = 0; n < N / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    s[n][i] *= (d_p[n][i] - delta[8 * n + 2 * (lane % 4) + i % 2]) * p.scale;
            update<T, DP, N>(d_k, s, m.step[0] + at);
        }
        sync_block();
        w = walk_next(p.segments, t, w, N, heads);
    }
    copy_wait<0>();
    sync_block();
    store_rows<T, DP>((T *)p.d_k + kv_head * p.D, p.kv_stride, first_row, t.row_begin, t.row_end, D,
                      aligned, m.own[0] + 16 * warp * STRIDE, d_k);
    store_rows<T, DP>((T *)p.d_v + kv_head * p.D, p.kv_stride, first_row, t.row_begin, t.row_end, D,
                      aligned, m.own[1] + 16 * warp * STRIDE, d_v);
}

/* --- launching --- */

template <typename T, int DP> static size_t backward_bytes()
{
    typedef backward_shape<T, DP> shape;
    const size_t rows = 2 * ATTENTION_ROWS + 2 * shape::STAGES * shape::N;
    return rows * tile_shape<T, DP>::STRIDE * sizeof(T) +
           (size_t)shape::STAGES * 2 * shape::N * sizeof(float);
}

template <typename T, int DP>
static lcl_status launch_q(struct lcl_cuda_device *d, const attention_params &p, int64_t n_tiles,
                           bool aligned)
{
    return LCL_LAUNCH(d, (attention_bwd_q_kernel<T, DP>), dims((unsigned)n_tiles, (unsigned)p.H),
                      dims(ATTENTION_BLOCK), (backward_bytes<T, DP>()), p, aligned);
}

template <typename T, int DP>
static lcl_status launch_kv(struct lcl_cuda_device *d, const attention_params &p, int64_t n_tiles,
                            bool aligned)
{
    return LCL_LAUNCH(d, (attention_bwd_kv_kernel<T, DP>), dims((unsigned)n_tiles, (unsigned)p.G),
                      dims(ATTENTION_BLOCK), (backward_bytes<T, DP>()), p, aligned);
}

template <typename T>
static lcl_status backward(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    struct attention_tables by_query, by_key;
    LCL_TRY(attention_tables_make(d, a, false, ATTENTION_ROWS, &by_query));
    LCL_TRY(attention_tables_make(d, a, true, ATTENTION_ROWS, &by_key));
    if (!by_query.n_tiles) return LCL_OK;
    int64_t rows = 0;
    for (int64_t i = 0; i < a->n_runs; i++)
        if (a->runs[i].q_end > rows) rows = a->runs[i].q_end;
    void *sums;
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_ROWS, (size_t)(2 * rows * a->H) * sizeof(float), &sums));
    const int64_t E = sizeof(T);
    const bool aligned =
        attention_aligned<T>(a->D, a->q_stride * E, a->kv_stride * E, a->out_stride * E, a->q, a->k,
                             a->v, a->d_out, a->d_q, a->d_k, a->d_v);
    attention_params p = attention_params_of(a, by_query);
    p.T = rows, p.lse_HT = (float *)sums, p.delta_HT = p.lse_HT + rows * a->H;
    const bool wide_rows = attention_aligned<T>(a->D, a->out_stride * E, a->out, a->d_out);
    const dim3 grid = dims((unsigned)by_query.n_tiles, blocks_for(p.H, DELTA_HEADS));
    LCL_TRY(wide_rows ? LCL_LAUNCH(d, (attention_delta_kernel<T, wide<T>()>), grid,
                                   dims(ATTENTION_BLOCK), delta_bytes, p)
                      : LCL_LAUNCH(d, (attention_delta_kernel<T, 1>), grid, dims(ATTENTION_BLOCK),
                                   delta_bytes, p));
    if (d->wgmma && aligned && a->dtype == LCL_BF16) return attention_wgmma_bwd(d, a, p);
    if (a->d_q) LCL_TRY(ATTENTION_BY_WIDTH(launch_q, T, a->D, d, p, by_query.n_tiles, aligned));
    p.tiles = by_key.tiles, p.segments = by_key.segments;
    return ATTENTION_BY_WIDTH(launch_kv, T, a->D, d, p, by_key.n_tiles, aligned);
}

lcl_status lcl_cuda_attention_bwd(struct lcl_exec *ex, const struct lcl_attention_args *a)
{
    LCL_TRY(lcl_check_attention_bwd(a));
    return BY_DTYPE(a->dtype, backward, lcl_cuda_device_of(ex), a);
}
