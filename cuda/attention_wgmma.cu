/* Attention forward on Hopper: wgmma and TMA, sm_90a alone (the Makefile compiles this file for no
 * other architecture). Legend: attention.cuh.
 *
 * A block has a tile of 128 queries and three warpgroups. One warp of the first brings keys and
 * values by bulk copies to a ring of stages; each of the other two has 64 queries. A consumer's
 * product of queries and the next keys, and that of its weights and the values before, run while it
 * makes weights of scores (Shah et al. 2024, "FlashAttention-3", algorithm 2).
 *
 * A bulk copy brings whole boxes: rows past a segment's end are other sequences' or nobody's. Their
 * scores are masked; their values, whose weights are 0, are overwritten with zeros, since they may
 * be no numbers. */
#include "cuda/attention_wgmma.cuh"

#include "cuda/attention_fwd.cuh"
#include "cuda/attention_panels.cuh"

enum { KEYS = 128 }; /* in a step */

template <int DP> struct wgmma_layout {
    enum {
        QUERY_BYTES = CONSUMER_ROWS * DP * 2, /* of a consumer */
        KEY_BYTES = KEYS * DP * 2,
        BARRIERS = 2 + 4 * STAGES,
        BYTES = CONSUMERS * QUERY_BYTES + 2 * STAGES * KEY_BYTES + BARRIERS * 8
    };
    unsigned char *queries, *keys, *values;
    /* One for all queries; then one a stage: filled, and free again; one for values that are not
     * yet ready. */
    uint64_t *queries_in, *keys_in, *keys_free, *values_in, *values_free, *part_in;
};

template <int DP> LCL_DEVICE wgmma_layout<DP> layout_of(unsigned char *shared)
{
    typedef wgmma_layout<DP> layout;
    layout m;
    m.queries = shared;
    m.keys = m.queries + CONSUMERS * layout::QUERY_BYTES;
    m.values = m.keys + STAGES * layout::KEY_BYTES;
    m.queries_in = (uint64_t *)(m.values + STAGES * layout::KEY_BYTES);
    m.part_in = m.queries_in + 1;
    m.keys_in = m.part_in + 1;
    m.keys_free = m.keys_in + STAGES;
    m.values_in = m.keys_free + STAGES;
    m.values_free = m.values_in + STAGES;
    return m;
}

/* By one thread; consumers: warpgroups with rows. */
template <int DP> LCL_DEVICE void barriers_begin(const wgmma_layout<DP> &m, int consumers)
{
    mbarrier_init(m.queries_in, 1);
    mbarrier_init(m.part_in, 1);
    for (int i = 0; i < STAGES; i++) {
        mbarrier_init(m.keys_in + i, 1);
        mbarrier_init(m.values_in + i, 1);
        mbarrier_init(m.keys_free + i, consumers * (WARPGROUP / WARP));
        mbarrier_init(m.values_free + i, consumers * (WARPGROUP / WARP));
    }
    mbarrier_init_fence();
}

/* --- the producer: one warp --- */

/* Values of which some rows are past the segment's end: they become zeros before consumers see
 * them. parts: how often this was done before. */
template <int DP>
LCL_DEVICE void load_part(const wgmma_layout<DP> &m, unsigned char *to, const tensor_map *map,
                          int head, int row, int end, uint64_t *in, int parts)
{
    typedef wgmma_layout<DP> layout;
    const int lane = threadIdx.x % WARP;
    if (lane == 0) {
        mbarrier_arrive_expect(m.part_in, layout::KEY_BYTES);
        load_panels<DP, KEYS>(to, map, head, row, m.part_in);
    }
    mbarrier_wait(m.part_in, parts % 2);
    clear_rows<DP, KEYS>(to, end - row);
    async_proxy_fence();
    sync_warp();
    if (lane == 0) mbarrier_arrive(in);
}

template <int DP>
LCL_DEVICE void produce(const wgmma_layout<DP> &m, const attention_params &p,
                        const attention_tile &t, const tensor_map *q, const tensor_map *k,
                        const tensor_map *v, int consumers)
{
    typedef wgmma_layout<DP> layout;
    const int head = (int)blockIdx.y, kv_head = head / (int)(p.H / p.G), lane = threadIdx.x % WARP;
    if (lane == 0) {
        mbarrier_arrive_expect(m.queries_in, consumers * layout::QUERY_BYTES);
        for (int i = 0; i < consumers; i++)
            load_panels<DP, CONSUMER_ROWS>(m.queries + i * layout::QUERY_BYTES, q, head,
                                           t.row_begin + i * CONSUMER_ROWS, m.queries_in);
    }
    int parts = 0;
    unsigned step = 0;
    for (attention_walk w = walk_begin(p.segments, t, 1); w.head < 1;
         w = walk_next(p.segments, t, w, KEYS, 1), step++) {
        const unsigned stage = step % STAGES;
        const int row = p.segments[w.segment].begin + w.at;
        const int end = p.segments[w.segment].end, free = parity_of(step) ^ 1;
        unsigned char *keys = m.keys + stage * layout::KEY_BYTES;
        unsigned char *values = m.values + stage * layout::KEY_BYTES;
        mbarrier_wait(m.keys_free + stage, free);
        if (lane == 0) {
            mbarrier_arrive_expect(m.keys_in + stage, layout::KEY_BYTES);
            load_panels<DP, KEYS>(keys, k, kv_head, row, m.keys_in + stage);
        }
        mbarrier_wait(m.values_free + stage, free);
        if (row + KEYS > end) {
            load_part<DP>(m, values, v, kv_head, row, end, m.values_in + stage, parts++);
        } else if (lane == 0) {
            mbarrier_arrive_expect(m.values_in + stage, layout::KEY_BYTES);
            load_panels<DP, KEYS>(values, v, kv_head, row, m.values_in + stage);
        }
    }
}

/* --- a consumer: one warpgroup --- */

/* Scores become weights, for what was summed before to count keep of itself. */
LCL_DEVICE void weigh(running *r, float (&s)[KEYS / 8][4], const attention_params &p,
                      const attention_walk &w, int first_row, float keep[2])
{
    const attention_segment g = p.segments[w.segment];
    const int first_key = g.begin + w.at;
    if (first_key + KEYS > g.end || first_key + KEYS - 1 > first_row + g.limit)
        mask<KEYS>(s, g, first_key, first_row);
    soften<KEYS>(r, s, p.scale * ATTENTION_LOG2E, keep);
}

template <int DP>
LCL_DEVICE void consume(const wgmma_layout<DP> &m, const attention_params &p,
                        const attention_tile &t, int consumer)
{
    typedef wgmma_layout<DP> layout;
    const int warp = threadIdx.x % WARPGROUP / WARP;
    const int head = (int)blockIdx.y,
              first_row = t.row_begin + consumer * CONSUMER_ROWS + 16 * warp;
    const unsigned char *queries = m.queries + consumer * layout::QUERY_BYTES;
    float s[KEYS / 8][4], out[DP / 8][4], keep[2];
    uint32_t weights[KEYS / 16][4];
    running r;
    running_begin(&r);
    zero<DP>(out);
    attention_walk w = walk_begin(p.segments, t, 1);
    mbarrier_wait(m.queries_in, 0);
    mbarrier_wait(m.keys_in, 0);
    wgmma_fence(s);
    multiply_rows<DP, KEYS>(s, queries, m.keys);
    wgmma_commit();
    wgmma_wait<0>(s);
    release(m.keys_free);
    weigh(&r, s, p, w, first_row, keep);
    pack(weights, s);
    unsigned step = 1;
    for (w = walk_next(p.segments, t, w, KEYS, 1); w.head < 1;
         w = walk_next(p.segments, t, w, KEYS, 1), step++) {
        const unsigned stage = step % STAGES, before = (step - 1) % STAGES;
        mbarrier_wait(m.keys_in + stage, parity_of(step));
        wgmma_fence(s);
        multiply_rows<DP, KEYS>(s, queries, m.keys + stage * layout::KEY_BYTES);
        wgmma_commit();
        mbarrier_wait(m.values_in + before, parity_of(step - 1));
        wgmma_fence(out, weights);
        multiply_columns<DP, KEYS>(out, weights, m.values + before * layout::KEY_BYTES);
        wgmma_commit();
        wgmma_wait<1>(s);
        release(m.keys_free + stage);
        weigh(&r, s, p, w, first_row, keep);
        wgmma_wait<0>(out, weights);
        release(m.values_free + before);
        scale_rows<DP>(out, keep);
        pack(weights, s);
    }
    const unsigned last = (step - 1) % STAGES;
    mbarrier_wait(m.values_in + last, parity_of(step - 1));
    wgmma_fence(out, weights);
    multiply_columns<DP, KEYS>(out, weights, m.values + last * layout::KEY_BYTES);
    wgmma_commit();
    wgmma_wait<0>(out);
    running_end<DP>(r, out, p, first_row, t.row_end, head);
    store_panels((bf16 *)p.out + head * p.D, p.out_stride, (int)p.D, out, first_row, t.row_end);
}

template <int DP>
static __global__ void __launch_bounds__(WGMMA_BLOCK, 1)
    attention_fwd_wgmma_kernel(attention_params p, const __grid_constant__ tensor_map q,
                               const __grid_constant__ tensor_map k,
                               const __grid_constant__ tensor_map v)
{
    SHARED_BYTES(shared);
    const wgmma_layout<DP> m = layout_of<DP>(shared);
    const attention_tile t = p.tiles[blockIdx.x];
    const int consumers = t.row_end - t.row_begin > CONSUMER_ROWS ? 2 : 1;
    if (threadIdx.x == 0) barriers_begin<DP>(m, consumers);
    sync_block();
    const int group = threadIdx.x / WARPGROUP;
    if (group == 0) {
        registers_lower<PRODUCER_REGISTERS>();
        if (threadIdx.x < WARP) produce<DP>(m, p, t, &q, &k, &v, consumers);
    } else {
        registers_raise<CONSUMER_REGISTERS>();
        if (group <= consumers) consume<DP>(m, p, t, group - 1);
    }
}

/* --- launching --- */

template <int DP>
static lcl_status launch(struct lcl_cuda_device *d, const struct lcl_attention_args *a,
                         const attention_params &p, int64_t n_tiles)
{
    attention_maps m;
    LCL_TRY(attention_maps_make<DP>(&m, a, CONSUMER_ROWS, KEYS, false));
    return LCL_LAUNCH(d, (attention_fwd_wgmma_kernel<DP>), dims((unsigned)n_tiles, (unsigned)a->H),
                      dims(WGMMA_BLOCK), wgmma_layout<DP>::BYTES, p, m.q, m.k, m.v);
}

lcl_status attention_wgmma_fwd(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    struct attention_tables tables;
    LCL_TRY(attention_tables_make(d, a, false, CONSUMERS * CONSUMER_ROWS, &tables));
    if (!tables.n_tiles) return LCL_OK;
    const attention_params p = attention_params_of(a, tables);
    return WGMMA_BY_WIDTH(launch, a->D, d, a, p, tables.n_tiles);
}
