/* What attention's kernels share: the tables of who sees whom, tiles in shared memory, products of
 * tiles on the tensor cores.
 * Legend: T element type, D head width, DP the same padded to 16, 32, 64, 96 or 128, H query heads,
 * G key/value heads.
 *
 * A block has four warps and a tile of 64 rows, 16 a warp (128 and 32 in the forward of bf16); it
 * walks the rows of the other side in tiles of N. Products come in two shapes. scores: 16 x N = A
 * (rows of shared memory) times B^T (rows of shared memory). update: 16 x DP += the scores as they
 * lie in registers times B (rows of shared memory). bf16 multiplies bf16; f32 multiplies tf32 three
 * times, high and low parts (2^-21 of the product is lost), so both dtypes are one source. Rows are
 * padded by 16 bytes, which puts 8 rows of 16 bytes into different banks. */
#ifndef LCL_CUDA_ATTENTION_CUH
#define LCL_CUDA_ATTENTION_CUH

#include "cuda/kernel.cuh"

enum { ATTENTION_ROWS = 64, ATTENTION_BLOCK = 128, ATTENTION_ALL = 1 << 30 };
#define ATTENTION_LOG2E 1.4426950408889634f
#define ATTENTION_LN2 0.6931471805599453f

/* Rows of the other side that a tile works through. Key k and query q meet when k <= q + limit. */
struct attention_segment {
    int32_t begin, end;
    int32_t limit;
    int32_t own_begin, own_end; /* the tile's rows that take part */
};

struct attention_tile {
    int32_t row_begin, row_end;
    int32_t segment_begin, segment_end;
    int32_t work; /* rows of its segments */
};

struct attention_params {
    int64_t q_stride, kv_stride, out_stride, H, G, D;
    float scale;
    const attention_tile *tiles;
    const attention_segment *segments;
    const void *q, *k, *v;
    void *out;
    float *lse_TH;
    const void *d_out;
    void *d_q, *d_k, *d_v;
    int64_t T; /* backward: rows of the next two, which have a row a head, as walks read them */
    float *lse_HT, *delta_HT; /* lse for powers of 2; sums of d_out * out */
};

/* The tables, on the device, largest tiles (of at most `rows` rows) first. by_key: tiles of keys
 * and their queries, for the backward's d_k and d_v; else tiles of queries and their keys. */
struct attention_tables {
    const attention_tile *tiles;
    const attention_segment *segments;
    int64_t n_tiles;
};
LCL_CHECKED lcl_status attention_tables_make(struct lcl_cuda_device *d,
                                             const struct lcl_attention_args *a, bool by_key,
                                             int rows, struct attention_tables *out);

/* Every run has one query row: decoding over a cache (attention_decode.cu). */
static inline bool attention_decodes(const struct lcl_attention_args *a)
{
    for (int64_t i = 0; i < a->n_runs; i++)
        if (a->runs[i].q_end - a->runs[i].q_begin != 1) return false;
    return true;
}
LCL_CHECKED lcl_status attention_decode(struct lcl_cuda_device *d,
                                        const struct lcl_attention_args *a);

/* --- fragments --- */

template <typename T> struct fragment;

template <> struct fragment<bf16> {
    enum { K = 16, E = 8 }; /* depth of one product; elements in 16 bytes */
    struct a {
        uint32_t v[4];
    };
    struct b {
        uint32_t v[2];
    };
};

template <> struct fragment<float> {
    enum { K = 8, E = 4 };
    struct a {
        uint32_t high[4], low[4];
    };
    struct b {
        uint32_t high[2], low[2];
    };
};

/* x as a tf32 number, rounded, and what is left of it. */
LCL_DEVICE void split(float x, uint32_t *high, uint32_t *low)
{
    *high = (bits_of(x) + 0x1000u) & 0xffffe000u;
    *low = (bits_of(x - float_of(*high)) + 0x1000u) & 0xffffe000u;
}

LCL_DEVICE void set_a(fragment<bf16>::a *f, const uint32_t r[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) f->v[i] = r[i];
}

LCL_DEVICE void set_a(fragment<float>::a *f, const uint32_t r[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) split(float_of(r[i]), &f->high[i], &f->low[i]);
}

LCL_DEVICE void set_b(fragment<bf16>::b *f, uint32_t r0, uint32_t r1)
{
    f->v[0] = r0, f->v[1] = r1;
}
LCL_DEVICE void set_b(fragment<float>::b *f, uint32_t r0, uint32_t r1)
{
    split(float_of(r0), &f->high[0], &f->low[0]);
    split(float_of(r1), &f->high[1], &f->low[1]);
}

LCL_DEVICE void multiply(float d[4], const fragment<bf16>::a &a, const fragment<bf16>::b &b)
{
    mma_bf16(d, a.v, b.v);
}

LCL_DEVICE void multiply(float d[4], const fragment<float>::a &a, const fragment<float>::b &b)
{
    mma_tf32(d, a.low, b.high);
    mma_tf32(d, a.high, b.low);
    mma_tf32(d, a.high, b.high);
}

/* Rows 0..15 and K columns from `at`, row by row. */
template <typename T, int STRIDE> LCL_DEVICE void load_a(typename fragment<T>::a *f, const T *at)
{
    const int lane = threadIdx.x % WARP;
    uint32_t r[4];
    load_matrix_x4(r, at + (lane % 16) * STRIDE + fragment<T>::E * (lane / 16));
    set_a(f, r);
}

/* B^T of rows 0..15 (two fragments of 8) and K columns from `at`. */
template <typename T, int STRIDE>
LCL_DEVICE void load_b_rows(typename fragment<T>::b f[2], const T *at)
{
    const int lane = threadIdx.x % WARP;
    uint32_t r[4];
    load_matrix_x4(r, at + (lane % 8 + 8 * (lane / 16)) * STRIDE + fragment<T>::E * (lane / 8 % 2));
    set_b(&f[0], r[0], r[1]);
    set_b(&f[1], r[2], r[3]);
}

/* B of K rows and columns 0..15 (two fragments of 8) from `at`. */
template <int STRIDE> LCL_DEVICE void load_b_columns(fragment<bf16>::b f[2], const bf16 *at)
{
    const int lane = threadIdx.x % WARP;
    uint32_t r[4];
    load_matrix_x4_transposed(r, at + (lane % 16) * STRIDE + 8 * (lane / 16));
    set_b(&f[0], r[0], r[1]);
    set_b(&f[1], r[2], r[3]);
}

/* The same in f32: row 2 pair + i of B stands at depth pair + 4 i, as scores_a puts the scores. */
template <int STRIDE> LCL_DEVICE void load_b_columns(fragment<float>::b f[2], const float *at)
{
    const int lane = threadIdx.x % WARP;
    const float *from = at + 2 * (lane % 4) * STRIDE + lane / 4;
    set_b(&f[0], bits_of(from[0]), bits_of(from[STRIDE]));
    set_b(&f[1], bits_of(from[8]), bits_of(from[STRIDE + 8]));
}

/* Columns of the scores as the left operand: K of them from s[0] on. */
LCL_DEVICE void scores_a(fragment<bf16>::a *f, const float (*s)[4])
{
    const uint32_t r[4] = {pack_bf16(s[0][0], s[0][1]), pack_bf16(s[0][2], s[0][3]),
                           pack_bf16(s[1][0], s[1][1]), pack_bf16(s[1][2], s[1][3])};
    set_a(f, r);
}

LCL_DEVICE void scores_a(fragment<float>::a *f, const float (*s)[4])
{
    const uint32_t r[4] = {bits_of(s[0][0]), bits_of(s[0][2]), bits_of(s[0][1]), bits_of(s[0][3])};
    set_a(f, r);
}

/* --- tiles in shared memory --- */

template <typename T, int DP> struct tile_shape {
    enum {
        E = 16 / (int)sizeof(T),
        STRIDE = DP + E, /* elements */
        CHUNKS = DP / E
    };
};

/* Blocks of a kernel that lie on one multiprocessor at once, two at most, where each has `bytes`
 * of shared memory: said to the compiler, which else gives up registers for more of them. */
constexpr int attention_blocks(int bytes)
{
    const int has = 227 * 1024 / bytes;
    return has < 1 ? 1 : has > 2 ? 2 : has;
}

/* Row and first column of the i-th 16 bytes of some rows (a multiple of 8). Eight lanes meet no
 * bank twice: along a row that is a multiple of 128 bytes, else down eight rows, whose strides are
 * odd. */
template <typename T, int DP> LCL_DEVICE void chunk_at(int i, int *row, int *column)
{
    typedef tile_shape<T, DP> shape;
    if (shape::CHUNKS % 8 == 0) {
        *row = i / shape::CHUNKS;
        *column = i % shape::CHUNKS * shape::E;
    } else {
        *row = i / (8 * shape::CHUNKS) * 8 + i % 8;
        *column = i / 8 % shape::CHUNKS * shape::E;
    }
}

/* Rows [first, first + N) of one head to shared memory; zeros past `end` and past D. Fast copies
 * are asynchronous: the caller commits and waits. */
template <typename T, int DP, int N>
LCL_DEVICE void load_rows(T *to, const T *from, int64_t stride, int first, int end, int D,
                          bool aligned)
{
    typedef tile_shape<T, DP> shape;
    if (aligned) {
        for (int i = threadIdx.x; i < N * shape::CHUNKS; i += ATTENTION_BLOCK) {
            int row, column;
            chunk_at<T, DP>(i, &row, &column);
            const bool there = first + row < end && column < D;
            copy_async16(to + row * shape::STRIDE + column,
                         there ? from + (first + row) * stride + column : from, there ? 16 : 0);
        }
        return;
    }
    for (int i = threadIdx.x; i < N * DP; i += ATTENTION_BLOCK) {
        const int row = i / DP, column = i % DP;
        T x = {};
        if (first + row < end && column < D) x = from[(first + row) * stride + column];
        to[row * shape::STRIDE + column] = x;
    }
}

/* Two neighbours of a row in the layout of products. In f32 lanes 2 and 3 of a row begin with the
 * second: banks 4 row + 2 pair would meet. */
LCL_DEVICE void store_pair(bf16 *to, float x0, float x1) { *(uint32_t *)to = pack_bf16(x0, x1); }

LCL_DEVICE void store_pair(float *to, float x0, float x1)
{
    const int first = threadIdx.x / 2 % 2;
    to[first] = first ? x1 : x0;
    to[1 - first] = first ? x0 : x1;
}

/* This warp's 16 rows of x, in the layout of products, through its rows of shared memory to rows
 * [first, first + 16) of one head, those within [begin, end). */
template <typename T, int DP>
LCL_DEVICE void store_rows(T *to, int64_t stride, int first, int begin, int end, int D,
                           bool aligned, T *through, const float (*x)[4])
{
    typedef tile_shape<T, DP> shape;
    const int lane = threadIdx.x % WARP;
    sync_warp();
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            store_pair(through + (lane / 4 + 4 * i) * shape::STRIDE + 8 * n + 2 * (lane % 4),
                       x[n][i], x[n][i + 1]);
    sync_warp();
    if (aligned) {
        for (int i = lane; i < 16 * shape::CHUNKS; i += WARP) {
            int row, column;
            chunk_at<T, DP>(i, &row, &column);
            if (first + row < begin || first + row >= end || column >= D) continue;
            store16(to + (first + row) * stride + column,
                    load16(through + row * shape::STRIDE + column));
        }
        return;
    }
    for (int i = lane; i < 16 * DP; i += WARP) {
        const int row = i / DP, column = i % DP;
        if (first + row < begin || first + row >= end || column >= D) continue;
        to[(first + row) * stride + column] = through[row * shape::STRIDE + column];
    }
}

/* Nothing yet, of 16 x DP. */
template <int DP> LCL_DEVICE void zero(float (*x)[4])
{
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) x[n][i] = 0;
}

/* s = this warp's M times 16 rows from a, times the N rows from b, which are read once for all M.
 */
template <typename T, int DP, int N, int M>
LCL_DEVICE void scores(float (*s)[N / 8][4], const T *a, const T *b)
{
    enum { STRIDE = tile_shape<T, DP>::STRIDE, K = fragment<T>::K };
#pragma unroll
    for (int m = 0; m < M; m++) zero<N>(s[m]);
#pragma unroll
    for (int k = 0; k < DP; k += K) {
        typename fragment<T>::a fa[M];
#pragma unroll
        for (int m = 0; m < M; m++) load_a<T, STRIDE>(&fa[m], a + 16 * m * STRIDE + k);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            typename fragment<T>::b fb[2];
            load_b_rows<T, STRIDE>(fb, b + n * STRIDE + k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply(s[m][n / 8], fa[m], fb[0]);
                multiply(s[m][n / 8 + 1], fa[m], fb[1]);
            }
        }
    }
}

template <typename T, int DP, int N> LCL_DEVICE void scores(float (*s)[4], const T *a, const T *b)
{
    scores<T, DP, N, 1>((float(*)[N / 8][4]) s, a, b);
}

/* x += s (M times 16 x N, and so is x) times the N rows from b. */
template <typename T, int DP, int N, int M>
LCL_DEVICE void update(float (*x)[DP / 8][4], const float (*s)[N / 8][4], const T *b)
{
    enum { STRIDE = tile_shape<T, DP>::STRIDE, K = fragment<T>::K };
#pragma unroll
    for (int k = 0; k < N; k += K) {
        typename fragment<T>::a fa[M];
#pragma unroll
        for (int m = 0; m < M; m++) scores_a(&fa[m], s[m] + k / 8);
#pragma unroll
        for (int n = 0; n < DP; n += 16) {
            typename fragment<T>::b fb[2];
            load_b_columns<STRIDE>(fb, b + k * STRIDE + n);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply(x[m][n / 8], fa[m], fb[0]);
                multiply(x[m][n / 8 + 1], fa[m], fb[1]);
            }
        }
    }
}

template <typename T, int DP, int N>
LCL_DEVICE void update(float (*x)[4], const float (*s)[4], const T *b)
{
    update<T, DP, N, 1>((float(*)[DP / 8][4]) x, (const float(*)[N / 8][4]) s, b);
}

/* --- walks --- */

/* A walk over the tiles of N rows of a tile's segments, `heads` times over. */
struct attention_walk {
    int segment, at, head;
};

/* The first step from `segment` on that has rows; head == heads: there is none. */
LCL_DEVICE attention_walk walk_settle(const attention_segment *segments, const attention_tile &t,
                                      attention_walk w, int heads)
{
    while (w.head < heads) {
        if (w.segment == t.segment_end) {
            w.segment = t.segment_begin;
            w.at = 0;
            w.head++;
            continue;
        }
        if (segments[w.segment].begin + w.at < segments[w.segment].end) break;
        w.segment++;
        w.at = 0;
    }
    return w;
}

LCL_DEVICE attention_walk walk_begin(const attention_segment *segments, const attention_tile &t,
                                     int heads)
{
    attention_walk w = {t.segment_begin, 0, 0};
    return walk_settle(segments, t, w, t.segment_begin < t.segment_end ? heads : 0);
}

LCL_DEVICE attention_walk walk_next(const attention_segment *segments, const attention_tile &t,
                                    attention_walk w, int N, int heads)
{
    w.at += N;
    return walk_settle(segments, t, w, heads);
}

/* Calls f<T, DP>(...) for the dtype and head width. */
#define ATTENTION_BY_WIDTH(f, T, D, ...) \
    ((D) <= 16   ? f<T, 16>(__VA_ARGS__) \
     : (D) <= 32 ? f<T, 32>(__VA_ARGS__) \
     : (D) <= 64 ? f<T, 64>(__VA_ARGS__) \
     : (D) <= 96 ? f<T, 96>(__VA_ARGS__) \
                 : f<T, 128>(__VA_ARGS__))

/* Rows of every head begin at 16 bytes. */
template <typename T, typename... P>
static inline bool attention_aligned(int64_t D, P... strides_and_pointers)
{
    const uint64_t all[] = {(uint64_t)strides_and_pointers...};
    bool aligned = D % wide<T>() == 0;
    for (uint64_t x : all) aligned = aligned && x % 16 == 0;
    return aligned;
}

static inline attention_params attention_params_of(const struct lcl_attention_args *a,
                                                   const struct attention_tables &t)
{
    attention_params p = {};
    p.q_stride = a->q_stride, p.kv_stride = a->kv_stride, p.out_stride = a->out_stride;
    p.H = a->H, p.G = a->G, p.D = a->D, p.scale = a->scale;
    p.tiles = t.tiles, p.segments = t.segments;
    p.q = a->q, p.k = a->k, p.v = a->v, p.out = a->out, p.lse_TH = a->lse_TH;
    p.d_out = a->d_out, p.d_q = a->d_q, p.d_k = a->d_k, p.d_v = a->d_v;
    return p;
}

#endif
