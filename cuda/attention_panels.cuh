/* What attention's kernels on wgmma share: tiles of rows in shared memory as panels of columns,
 * each row of a panel one span of the swizzle; copies to them, products of them. bf16. Legend:
 * attention.cuh. */
#ifndef LCL_CUDA_ATTENTION_PANELS_CUH
#define LCL_CUDA_ATTENTION_PANELS_CUH

#include "cuda/attention.cuh"
#include "cuda/tensor_map.cuh"

enum {
    CONSUMERS = 2,      /* warpgroups that multiply; one more brings what they need */
    CONSUMER_ROWS = 64, /* of the tile */
    STAGES = 2,         /* steps in shared memory */
    WGMMA_BLOCK = (1 + CONSUMERS) * WARPGROUP,
    /* of a thread, within 65,536 for 128 producers and 256 consumers */
    PRODUCER_REGISTERS = 40,
    CONSUMER_REGISTERS = 232
};

template <int DP> struct panels {
    enum {
        COLUMNS = DP % 64 == 0   ? 64
                  : DP % 32 == 0 ? 32
                                 : 16,
        COUNT = DP / COLUMNS,
        ROW_BYTES = 2 * COLUMNS
    };
};

/* Parity of the phase in which a step's stage is filled. */
LCL_DEVICE int parity_of(unsigned step) { return (int)(step / STAGES % 2); }

/* Asks for ROWS rows from `row` on. By one lane; the caller announces the bytes. */
template <int DP, int ROWS>
LCL_DEVICE void load_panels(unsigned char *to, const tensor_map *map, int head, int row,
                            uint64_t *in)
{
    typedef panels<DP> shape;
#pragma unroll
    for (int i = 0; i < shape::COUNT; i++)
        bulk_load(to + i * ROWS * shape::ROW_BYTES, map, i * shape::COLUMNS, head, row, in);
}

/* Rows from `first` on become zeros, by one warp. */
template <int DP, int ROWS> LCL_DEVICE void clear_rows(unsigned char *tile, int first)
{
    typedef panels<DP> shape;
    enum { PIECES = shape::ROW_BYTES / 16 };
    const u32x4 zeros = {};
    for (int panel = 0; panel < shape::COUNT; panel++)
        for (int i = first * PIECES + (int)(threadIdx.x % WARP); i < ROWS * PIECES; i += WARP)
            store16(tile + panel * ROWS * shape::ROW_BYTES + 16 * i, zeros);
}

/* s = this warpgroup's 64 rows at a, times the N rows at b. */
template <int DP, int N>
LCL_DEVICE void multiply_rows(float (&s)[N / 8][4], const unsigned char *a, const unsigned char *b)
{
    typedef panels<DP> shape;
    enum { ROW_BYTES = shape::ROW_BYTES };
    const uint64_t left = wgmma_descriptor(a, 16, 8 * ROW_BYTES, ROW_BYTES);
    const uint64_t right = wgmma_descriptor(b, 16, 8 * ROW_BYTES, ROW_BYTES);
#pragma unroll
    for (int d = 0; d < DP; d += 16) {
        const int panel = d / shape::COLUMNS, within = d % shape::COLUMNS * 2;
        wgmma_rows(s, left + (panel * CONSUMER_ROWS * ROW_BYTES + within) / 16,
                   right + (panel * N * ROW_BYTES + within) / 16, d > 0);
    }
}

/* x += weights times the N rows at b. */
template <int DP, int N>
LCL_DEVICE void multiply_columns(float (&x)[DP / 8][4], const uint32_t (&weights)[N / 16][4],
                                 const unsigned char *b)
{
    enum { ROW_BYTES = panels<DP>::ROW_BYTES };
    const uint64_t right = wgmma_descriptor(b, N * ROW_BYTES, 8 * ROW_BYTES, ROW_BYTES);
#pragma unroll
    for (int i = 0; i < N / 16; i++) wgmma_columns(x, weights[i], right + i * ROW_BYTES);
}

/* s as the left operand of products. */
template <int R> LCL_DEVICE void pack(uint32_t (&weights)[R / 2][4], const float (&s)[R][4])
{
#pragma unroll
    for (int i = 0; i < R / 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            weights[i][j] =
                pack_bf16(s[2 * i + j / 2][2 * (j % 2)], s[2 * i + j / 2][2 * (j % 2) + 1]);
}

/* This warp is done with a stage. */
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

/* This warp's 16 rows from first_row on, those before end_row, of one head: lanes write 16 bytes,
 * four of them 64 bytes of a row. */
template <int R>
LCL_DEVICE void store_panels(bf16 *to, int64_t stride, int D, const float (&x)[R][4], int first_row,
                             int end_row)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < R; n += 4)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32x4 pairs = {};
#pragma unroll
            for (int i = 0; i < 4 && n + i < R; i++)
                pairs.v[i] = pack_bf16(x[n + i][2 * half], x[n + i][2 * half + 1]);
            trade(pairs.v);
            const int row = first_row + lane / 4 + 8 * half, column = 8 * (n + lane % 4);
            if (row < end_row && column < D) store16(to + row * stride + column, pairs);
        }
}

/* Boxes of one panel; d_out for the backward alone. */
struct attention_maps {
    tensor_map q, k, v, d_out;
};

template <int DP>
static lcl_status attention_maps_make(attention_maps *m, const struct lcl_attention_args *a,
                                      int query_rows, int key_rows, bool backward)
{
    enum { COLUMNS = panels<DP>::COLUMNS };
    int64_t q = 0, kv = 0; /* rows that runs have */
    for (int64_t i = 0; i < a->n_runs; i++) {
        const struct lcl_attn_run *r = &a->runs[i];
        if (r->q_end > q) q = r->q_end;
        if (r->own_end > kv) kv = r->own_end;
        if (r->prefix_end > kv) kv = r->prefix_end;
    }
    LCL_TRY(tensor_map_make(&m->q, a->q, a->D, a->H, q, a->q_stride, COLUMNS, query_rows));
    LCL_TRY(tensor_map_make(&m->k, a->k, a->D, a->G, kv, a->kv_stride, COLUMNS, key_rows));
    LCL_TRY(tensor_map_make(&m->v, a->v, a->D, a->G, kv, a->kv_stride, COLUMNS, key_rows));
    if (!backward) return LCL_OK;
    return tensor_map_make(&m->d_out, a->d_out, a->D, a->H, q, a->out_stride, COLUMNS, query_rows);
}

/* Calls f<DP>(...) for the head width. */
#define WGMMA_BY_WIDTH(f, D, ...)     \
    ((D) <= 16   ? f<16>(__VA_ARGS__) \
     : (D) <= 32 ? f<32>(__VA_ARGS__) \
     : (D) <= 64 ? f<64>(__VA_ARGS__) \
     : (D) <= 96 ? f<96>(__VA_ARGS__) \
                 : f<128>(__VA_ARGS__))

#endif
