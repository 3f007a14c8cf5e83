/* Attention backward on Hopper: wgmma and TMA, sm_90a alone. The two walks of attention_bwd.cu,
 * each block with a tile of 128 rows, 64 a consumer; one warp brings the other side's rows, 64 a
 * step. Rows past a segment's end become zeros in shared memory, as in the forward. Legend:
 * attention.cuh. */
#include "cuda/attention_bwd.cuh"
#include "cuda/attention_panels.cuh"
#include "cuda/attention_wgmma.cuh"

enum { STEP = 64 }; /* rows */

/* Two matrices of the tile's rows, two of a step's: q and d_out, k and v, or the other way round.
 */
template <int DP> struct backward_layout {
    enum {
        BYTES_64 = 64 * DP * 2, /* rows of a consumer, or of a step, of one matrix */
        BARRIERS = 2 + 2 * STAGES,
        BYTES = (2 * CONSUMERS + 2 * STAGES) * BYTES_64 + BARRIERS * 8
    };
    unsigned char *own, *step; /* [CONSUMERS][2], [STAGES][2] of BYTES_64 */
    uint64_t *own_in, *part_in, *step_in, *is_free;
};

template <int DP> LCL_DEVICE backward_layout<DP> layout_of(unsigned char *shared)
{
    typedef backward_layout<DP> layout;
    layout m;
    m.own = shared;
    m.step = m.own + 2 * CONSUMERS * layout::BYTES_64;
    m.own_in = (uint64_t *)(m.step + 2 * STAGES * layout::BYTES_64);
    m.part_in = m.own_in + 1;
    m.step_in = m.part_in + 1;
    m.is_free = m.step_in + STAGES;
    return m;
}

/* By one thread; consumers: warpgroups with rows. */
template <int DP> LCL_DEVICE void barriers_begin(const backward_layout<DP> &m, int consumers)
{
    mbarrier_init(m.own_in, 1);
    mbarrier_init(m.part_in, 1);
    for (int i = 0; i < STAGES; i++) {
        mbarrier_init(m.step_in + i, 1);
        mbarrier_init(m.is_free + i, consumers * (WARPGROUP / WARP));
    }
    mbarrier_init_fence();
}

/* --- the producer: one warp --- */

struct pair_of_maps {
    const tensor_map *x, *y;
    int head;
};

/* 64 rows of both, one lane; the caller announces them. */
template <int DP>
LCL_DEVICE void load_both(unsigned char *to, const pair_of_maps &from, int row, uint64_t *in)
{
    load_panels<DP, 64>(to, from.x, from.head, row, in);
    load_panels<DP, 64>(to + backward_layout<DP>::BYTES_64, from.y, from.head, row, in);
}

/* heads: of the other side, for each of which the walk is done. */
template <int DP>
LCL_DEVICE void produce(const backward_layout<DP> &m, const attention_params &p,
                        const attention_tile &t, const pair_of_maps &own, pair_of_maps other,
                        int heads, int consumers)
{
    typedef backward_layout<DP> layout;
    const int lane = threadIdx.x % WARP, first_head = other.head;
    if (lane == 0) {
        mbarrier_arrive_expect(m.own_in, 2 * consumers * layout::BYTES_64);
        for (int i = 0; i < consumers; i++)
            load_both<DP>(m.own + 2 * i * layout::BYTES_64, own, t.row_begin + i * CONSUMER_ROWS,
                          m.own_in);
    }
    int parts = 0;
    unsigned step = 0;
    for (attention_walk w = walk_begin(p.segments, t, heads); w.head < heads;
         w = walk_next(p.segments, t, w, STEP, heads), step++) {
        const int row = p.segments[w.segment].begin + w.at, end = p.segments[w.segment].end;
        const bool whole = row + STEP <= end;
        unsigned char *to = m.step + 2 * (step % STAGES) * layout::BYTES_64;
        uint64_t *in = whole ? m.step_in + step % STAGES : m.part_in;
        other.head = first_head + w.head;
        mbarrier_wait(m.is_free + step % STAGES, parity_of(step) ^ 1);
        if (lane == 0) {
            mbarrier_arrive_expect(in, 2 * layout::BYTES_64);
            load_both<DP>(to, other, row, in);
        }
        if (whole) continue;
        mbarrier_wait(m.part_in, parts++ % 2);
        clear_rows<DP, STEP>(to, end - row);
        clear_rows<DP, STEP>(to + layout::BYTES_64, end - row);
        async_proxy_fence();
        sync_warp();
        if (lane == 0) mbarrier_arrive(m.step_in + step % STAGES);
    }
}

/* --- d_q: rows are queries, columns keys --- */

template <int DP>
LCL_DEVICE void consume_keys(const backward_layout<DP> &m, const attention_params &p,
                             const attention_tile &t, int consumer)
{
    typedef backward_layout<DP> layout;
    const int warp = threadIdx.x % WARPGROUP / WARP, lane = threadIdx.x % WARP;
    const int head = (int)blockIdx.y,
              first_row = t.row_begin + consumer * CONSUMER_ROWS + 16 * warp;
    const unsigned char *q = m.own + 2 * consumer * layout::BYTES_64, *d_out = q + layout::BYTES_64;
    float s[STEP / 8][4], d_p[STEP / 8][4], d_q[DP / 8][4], lse[2], delta[2];
    uint32_t d_s[STEP / 16][4];
    for (int half = 0; half < 2; half++) {
        const int row = first_row + lane / 4 + 8 * half;
        lse[half] = row < t.row_end ? p.lse_HT[head * p.T + row] : 0;
        delta[half] = row < t.row_end ? p.delta_HT[head * p.T + row] : 0;
    }
    zero<DP>(d_q);
    mbarrier_wait(m.own_in, 0);
    unsigned step = 0;
    for (attention_walk w = walk_begin(p.segments, t, 1); w.head < 1;
         w = walk_next(p.segments, t, w, STEP, 1), step++) {
        const unsigned char *k = m.step + 2 * (step % STAGES) * layout::BYTES_64;
        const attention_segment g = p.segments[w.segment];
        mbarrier_wait(m.step_in + step % STAGES, parity_of(step));
        wgmma_fence(s, d_p);
        multiply_rows<DP, STEP>(s, q, k);
        multiply_rows<DP, STEP>(d_p, d_out, k + layout::BYTES_64);
        wgmma_commit();
        wgmma_wait<0>(s, d_p);
        query_gradients<STEP>(s, d_p, lse, delta, g, first_row, t.row_end, g.begin + w.at, p.scale);
        pack(d_s, s);
        wgmma_fence(d_q, d_s);
        multiply_columns<DP, STEP>(d_q, d_s, k);
        wgmma_commit();
        wgmma_wait<0>(d_q, d_s);
        release(m.is_free + step % STAGES);
    }
    store_panels((bf16 *)p.d_q + head * p.D, p.q_stride, (int)p.D, d_q, first_row, t.row_end);
}

/* --- d_k, d_v: rows are keys, columns the queries of all heads that share them --- */

/* Of a step's 64 queries each lane has two, i and i + 32: those of this lane's columns. */
LCL_DEVICE float of_column(const float x[2], int n, int i)
{
    const int lane = threadIdx.x % WARP;
    return shuffle(x[n / 4], (8 * n + 2 * (lane % 4) + i) % WARP);
}

/* s: scores of 16 keys and the step's queries, becomes their weights. */
LCL_DEVICE void key_weights(float (&s)[STEP / 8][4], const float lse[2], const attention_segment &g,
                            int first_row, int first_query, float scale)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int query = first_query + 8 * n + 2 * (lane % 4) + i % 2;
            const int key = first_row + lane / 4 + 8 * (i / 2);
            const bool seen =
                query < g.end && key <= query + g.limit && key >= g.own_begin && key < g.own_end;
            const float base = of_column(lse, n, i % 2);
            s[n][i] = seen ? fast_exp2(s[n][i] * (scale * ATTENTION_LOG2E) - base) : 0;
        }
}

/* Weights become gradients of scores. */
LCL_DEVICE void key_gradients(float (&s)[STEP / 8][4], const float (&d_p)[STEP / 8][4],
                              const float delta[2], float scale)
{
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] *= (d_p[n][i] - of_column(delta, n, i % 2)) * scale;
}

template <int DP>
LCL_DEVICE void consume_queries(const backward_layout<DP> &m, const attention_params &p,
                                const attention_tile &t, int consumer)
{
    typedef backward_layout<DP> layout;
    const int warp = threadIdx.x % WARPGROUP / WARP, lane = threadIdx.x % WARP;
    const int kv_head = (int)blockIdx.y, heads = (int)(p.H / p.G);
    const int first_row = t.row_begin + consumer * CONSUMER_ROWS + 16 * warp;
    const unsigned char *k = m.own + 2 * consumer * layout::BYTES_64, *v = k + layout::BYTES_64;
    float s[STEP / 8][4], d_p[STEP / 8][4], d_k[DP / 8][4], d_v[DP / 8][4], lse[2], delta[2];
    uint32_t weights[STEP / 16][4];
    zero<DP>(d_k);
    zero<DP>(d_v);
    mbarrier_wait(m.own_in, 0);
    unsigned step = 0;
    for (attention_walk w = walk_begin(p.segments, t, heads); w.head < heads;
         w = walk_next(p.segments, t, w, STEP, heads), step++) {
        const unsigned char *q = m.step + 2 * (step % STAGES) * layout::BYTES_64;
        const attention_segment g = p.segments[w.segment];
        const int first_query = g.begin + w.at;
        mbarrier_wait(m.step_in + step % STAGES, parity_of(step));
        wgmma_fence(s);
        multiply_rows<DP, STEP>(s, k, q);
        wgmma_commit();
        for (int i = 0; i < 2; i++) {
            const int row = first_query + lane + i * WARP;
            const int64_t at = (kv_head * heads + w.head) * p.T + row;
            lse[i] = row < g.end ? p.lse_HT[at] : 0;
            delta[i] = row < g.end ? p.delta_HT[at] : 0;
        }
        wgmma_wait<0>(s);
        key_weights(s, lse, g, first_row, first_query, p.scale);
        pack(weights, s);
        wgmma_fence(d_p, d_v, weights);
        multiply_rows<DP, STEP>(d_p, v, q + layout::BYTES_64);
        multiply_columns<DP, STEP>(d_v, weights, q + layout::BYTES_64);
        wgmma_commit();
        wgmma_wait<0>(d_p, d_v, weights);
        key_gradients(s, d_p, delta, p.scale);
        pack(weights, s);
        wgmma_fence(d_k, weights);
        multiply_columns<DP, STEP>(d_k, weights, q);
        wgmma_commit();
        wgmma_wait<0>(d_k, weights);
        release(m.is_free + step % STAGES);
    }
    bf16 *to_k = (bf16 *)p.d_k + kv_head * p.D, *to_v = (bf16 *)p.d_v + kv_head * p.D;
    store_panels(to_k, p.kv_stride, (int)p.D, d_k, first_row, t.row_end);
    store_panels(to_v, p.kv_stride, (int)p.D, d_v, first_row, t.row_end);
}

/* --- kernels --- */

template <int DP, bool BY_KEY>
static __global__ void __launch_bounds__(WGMMA_BLOCK, 1)
    attention_bwd_wgmma_kernel(attention_params p, const __grid_constant__ attention_maps maps)
{
    SHARED_BYTES(shared);
    const backward_layout<DP> m = layout_of<DP>(shared);
    const attention_tile t = p.tiles[blockIdx.x];
    const int consumers = t.row_end - t.row_begin > CONSUMER_ROWS ? 2 : 1;
    if (threadIdx.x == 0) barriers_begin<DP>(m, consumers);
    sync_block();
    const int group = threadIdx.x / WARPGROUP, heads = (int)(p.H / p.G), head = (int)blockIdx.y;
    if (group == 0) {
        registers_lower<PRODUCER_REGISTERS>();
        const pair_of_maps queries = {&maps.q, &maps.d_out, BY_KEY ? head * heads : head};
        const pair_of_maps keys = {&maps.k, &maps.v, BY_KEY ? head : head / heads};
        if (threadIdx.x < WARP)
            produce<DP>(m, p, t, BY_KEY ? keys : queries, BY_KEY ? queries : keys,
                        BY_KEY ? heads : 1, consumers);
    } else {
        registers_raise<CONSUMER_REGISTERS>();
        if (group > consumers) return;
        if constexpr (BY_KEY)
            consume_queries<DP>(m, p, t, group - 1);
        else
            consume_keys<DP>(m, p, t, group - 1);
    }
}

/* --- launching --- */

template <int DP>
static lcl_status launch(struct lcl_cuda_device *d, const struct lcl_attention_args *a,
                         attention_params p)
{
    enum { ROWS = CONSUMERS * CONSUMER_ROWS, BYTES = backward_layout<DP>::BYTES };
    struct attention_tables by_query, by_key;
    attention_maps maps;
    LCL_TRY(attention_tables_make(d, a, false, ROWS, &by_query));
    LCL_TRY(attention_tables_make(d, a, true, ROWS, &by_key));
    LCL_TRY(attention_maps_make<DP>(&maps, a, CONSUMER_ROWS, STEP, true));
    p.tiles = by_query.tiles, p.segments = by_query.segments;
    if (a->d_q)
        LCL_TRY(LCL_LAUNCH(d, (attention_bwd_wgmma_kernel<DP, false>),
                           dims((unsigned)by_query.n_tiles, (unsigned)p.H), dims(WGMMA_BLOCK),
                           BYTES, p, maps));
    p.tiles = by_key.tiles, p.segments = by_key.segments;
    return LCL_LAUNCH(d, (attention_bwd_wgmma_kernel<DP, true>),
                      dims((unsigned)by_key.n_tiles, (unsigned)p.G), dims(WGMMA_BLOCK), BYTES, p,
                      maps);
}

lcl_status attention_wgmma_bwd(struct lcl_cuda_device *d, const struct lcl_attention_args *a,
                               attention_params p)
{
    return WGMMA_BY_WIDTH(launch, a->D, d, a, p);
}
