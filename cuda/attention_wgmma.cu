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
#include "cuda/tensor_map.cuh"

enum {
    CONSUMERS = 2, /* warpgroups */
    QUERIES = 64,  /* of a consumer */
    KEYS = 128,    /* in a step */
    STAGES = 2,    /* steps in shared memory */
    THREADS = (1 + CONSUMERS) * WARPGROUP
};

/* Shared memory. Matrices lie in panels of columns, each row of a panel in one span of the swizzle.
 */
template <int DP> struct wgmma_layout {
    enum {
        PANEL = DP % 64 == 0   ? 64
                : DP % 32 == 0 ? 32
                               : 16, /* columns */
        PANELS = DP / PANEL,
        ROW_BYTES = 2 * PANEL,
        QUERY_PANEL = QUERIES * ROW_BYTES, /* bytes */
        KEY_PANEL = KEYS * ROW_BYTES,
        QUERY_BYTES = PANELS * QUERY_PANEL,
        KEY_BYTES = PANELS * KEY_PANEL,
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

/* Parity of the phase in which step's stage is filled. */
LCL_DEVICE int parity_of(unsigned step) { return (int)(step / STAGES % 2); }

/* --- the producer: one warp --- */

/* Announces and asks for all panels of `rows` rows from `row` on. By one lane. */
template <int DP, int ROWS>
LCL_DEVICE void load_panels(unsigned char *to, const tensor_map *map, int head, int row,
                            uint64_t *in)
{
    typedef wgmma_layout<DP> layout;
#pragma unroll
    for (int i = 0; i < layout::PANELS; i++)
        bulk_load(to + i * ROWS * layout::ROW_BYTES, map, i * layout::PANEL, head, row, in);
}

/* Values of which some rows are past the segment's end: they become zeros before consumers see
 * them. parts: how often this was done before. */
template <int DP>
LCL_DEVICE void load_part(const wgmma_layout<DP> &m, unsigned char *to, const tensor_map *map,
                          int head, int row, int end, uint64_t *in, int parts)
{
    typedef wgmma_layout<DP> layout;
    enum { PIECES = layout::ROW_BYTES / 16 };
    const int lane = threadIdx.x % WARP, rows = end - row;
    if (lane == 0) {
        mbarrier_arrive_expect(m.part_in, layout::KEY_BYTES);
        load_panels<DP, KEYS>(to, map, head, row, m.part_in);
    }
    mbarrier_wait(m.part_in, parts % 2);
    const u32x4 zeros = {};
    for (int panel = 0; panel < layout::PANELS; panel++)
        for (int i = rows * PIECES + lane; i < KEYS * PIECES; i += WARP)
            store16(to + panel * layout::KEY_PANEL + 16 * i, zeros);
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
            load_panels<DP, QUERIES>(m.queries + i * layout::QUERY_BYTES, q, head,
                                     t.row_begin + i * QUERIES, m.queries_in);
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

/* s = queries times keys of a stage. */
template <int DP>
LCL_DEVICE void multiply_keys(float (&s)[KEYS / 8][4], const unsigned char *queries,
                              const unsigned char *keys)
{
    typedef wgmma_layout<DP> layout;
    enum { ROW_BYTES = layout::ROW_BYTES };
    const uint64_t a = wgmma_descriptor(queries, 16, 8 * ROW_BYTES, ROW_BYTES);
    const uint64_t b = wgmma_descriptor(keys, 16, 8 * ROW_BYTES, ROW_BYTES);
#pragma unroll
    for (int d = 0; d < DP; d += 16) {
        const int panel = d / layout::PANEL, within = d % layout::PANEL * 2;
        wgmma_rows(s, a + (panel * layout::QUERY_PANEL + within) / 16,
                   b + (panel * layout::KEY_PANEL + within) / 16, d > 0);
    }
}

/* out += weights times values of a stage. */
template <int DP>
LCL_DEVICE void multiply_values(float (&out)[DP / 8][4], const uint32_t (&weights)[KEYS / 16][4],
                                const unsigned char *values)
{
    typedef wgmma_layout<DP> layout;
    enum { ROW_BYTES = layout::ROW_BYTES };
    const uint64_t b = wgmma_descriptor(values, layout::KEY_PANEL, 8 * ROW_BYTES, ROW_BYTES);
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) wgmma_columns(out, weights[i], b + i * 16 * ROW_BYTES / 16);
}

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

LCL_DEVICE void pack(uint32_t (&weights)[KEYS / 16][4], const float (&s)[KEYS / 8][4])
{
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            weights[i][j] =
                pack_bf16(s[2 * i + j / 2][2 * (j % 2)], s[2 * i + j / 2][2 * (j % 2) + 1]);
}

LCL_DEVICE void release(uint64_t *is_free)
{
    if (threadIdx.x % WARP == 0) mbarrier_arrive(is_free);
}

/* x[i] of the four lanes of a row, pair j of block i in lane j, changes hands: lane i has block i,
 * its pair j in x[j]. */
LCL_DEVICE void trade(uint32_t x[4])
{
#pragma unroll
    for (int m = 1; m < 4; m *= 2)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & m) continue;
            const bool high = threadIdx.x & m;
            const uint32_t got = shuffle_xor(high ? x[i] : x[i | m], m);
            x[i] = high ? got : x[i];
            x[i | m] = high ? x[i | m] : got;
        }
}

/* This warp's 16 rows from first_row on, those before end_row: lanes write 16 bytes, four of them
 * 64 bytes of a row. */
template <int DP>
LCL_DEVICE void store_out(const attention_params &p, const float (&out)[DP / 8][4], int head,
                          int first_row, int end_row)
{
    const int lane = threadIdx.x % WARP;
    bf16 *to = (bf16 *)p.out + head * p.D;
#pragma unroll
    for (int n = 0; n < DP / 8; n += 4)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32x4 x = {};
#pragma unroll
            for (int i = 0; i < 4 && n + i < DP / 8; i++)
                x.v[i] = pack_bf16(out[n + i][2 * half], out[n + i][2 * half + 1]);
            trade(x.v);
            const int row = first_row + lane / 4 + 8 * half, column = 8 * (n + lane % 4);
            if (row < end_row && column < (int)p.D) store16(to + row * p.out_stride + column, x);
        }
}

template <int DP>
LCL_DEVICE void consume(const wgmma_layout<DP> &m, const attention_params &p,
                        const attention_tile &t, int consumer)
{
    typedef wgmma_layout<DP> layout;
    const int warp = threadIdx.x % WARPGROUP / WARP;
    const int head = (int)blockIdx.y, first_row = t.row_begin + consumer * QUERIES + 16 * warp;
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
    multiply_keys<DP>(s, queries, m.keys);
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
        multiply_keys<DP>(s, queries, m.keys + stage * layout::KEY_BYTES);
        wgmma_commit();
        mbarrier_wait(m.values_in + before, parity_of(step - 1));
        wgmma_fence(out, weights);
        multiply_values<DP>(out, weights, m.values + before * layout::KEY_BYTES);
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
    multiply_values<DP>(out, weights, m.values + last * layout::KEY_BYTES);
    wgmma_commit();
    wgmma_wait<0>(out);
    running_end<DP>(r, out, p, first_row, t.row_end, head);
    store_out<DP>(p, out, head, first_row, t.row_end);
}

/* Registers of a thread, within 65,536 for 128 producers and 256 consumers. */
enum { PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232 };

template <int DP>
static __global__ void __launch_bounds__(THREADS, 1)
    attention_fwd_wgmma_kernel(attention_params p, const __grid_constant__ tensor_map q,
                               const __grid_constant__ tensor_map k,
                               const __grid_constant__ tensor_map v)
{
    SHARED_BYTES(shared);
    const wgmma_layout<DP> m = layout_of<DP>(shared);
    const attention_tile t = p.tiles[blockIdx.x];
    const int consumers = t.row_end - t.row_begin > QUERIES ? 2 : 1;
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
    typedef wgmma_layout<DP> layout;
    int64_t q_rows = 0, kv_rows = 0;
    for (int64_t i = 0; i < a->n_runs; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        if (r->q_end > q_rows) q_rows = r->q_end;
        if (r->own_end > kv_rows) kv_rows = r->own_end;
        if (r->prefix_end > kv_rows) kv_rows = r->prefix_end;
    }
    tensor_map q, k, v;
    LCL_TRY(tensor_map_make(&q, a->q, a->D, a->H, q_rows, a->q_stride, layout::PANEL, QUERIES));
    LCL_TRY(tensor_map_make(&k, a->k, a->D, a->G, kv_rows, a->kv_stride, layout::PANEL, KEYS));
    LCL_TRY(tensor_map_make(&v, a->v, a->D, a->G, kv_rows, a->kv_stride, layout::PANEL, KEYS));
    return LCL_LAUNCH(d, (attention_fwd_wgmma_kernel<DP>), dims((unsigned)n_tiles, (unsigned)a->H),
                      dims(THREADS), layout::BYTES, p, q, k, v);
}

lcl_status attention_wgmma_fwd(struct lcl_cuda_device *d, const struct lcl_attention_args *a)
{
    struct attention_tables tables;
    LCL_TRY(attention_tables_make(d, a, false, CONSUMERS * QUERIES, &tables));
    if (!tables.n_tiles) return LCL_OK;
    const attention_params p = attention_params_of(a, tables);
    return a->D <= 16   ? launch<16>(d, a, p, tables.n_tiles)
           : a->D <= 32 ? launch<32>(d, a, p, tables.n_tiles)
           : a->D <= 64 ? launch<64>(d, a, p, tables.n_tiles)
           : a->D <= 96 ? launch<96>(d, a, p, tables.n_tiles)
                        : launch<128>(d, a, p, tables.n_tiles);
}
