/* The optimizer's elementwise work: AdamW, norm of the gradients, additions and conversions. A lane
 * takes 4 elements: f32 in 16 bytes and bf16 in 8, so that lanes leave no gaps in either.
 * Legend: V elements of a lane (4, or 1 where pointers are not aligned), N segments, G tiles of all
 * segments. */
#include "core/code8.h"
#include "core/rng.h"
#include "core/threads.h"
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"
#include "cuda/philox.cuh"

enum { BLOCK = 256, LANE = 4 };

template <int V> LCL_DEVICE void load_lane(const float *p, float x[V]) { load_elements<V>(p, x); }
template <int V> LCL_DEVICE void store_lane(float *p, const float x[V]) { store_elements<V>(p, x); }

template <int V> LCL_DEVICE void load_lane(const bf16 *p, float x[V])
{
    if constexpr (V == 1) {
        x[0] = to_f32(p[0]);
    } else {
        const uint64_t r = *(const uint64_t *)p;
        const uint32_t low = (uint32_t)r, high = (uint32_t)(r >> 32);
        x[0] = float_of(low << 16), x[1] = float_of(low & 0xffff0000u);
        x[2] = float_of(high << 16), x[3] = float_of(high & 0xffff0000u);
    }
}

template <int V> LCL_DEVICE void store_lane(bf16 *p, const float x[V])
{
    if constexpr (V == 1)
        from_f32(x[0], p);
    else
        *(uint64_t *)p = pack_bf16(x[0], x[1]) | (uint64_t)pack_bf16(x[2], x[3]) << 32;
}

template <int V> LCL_DEVICE void load_lane(const f16 *p, float x[V])
{
    for (int i = 0; i < V; i++) x[i] = to_f32(p[i]);
}

template <int V> LCL_DEVICE void store_lane(f16 *p, const float x[V])
{
    for (int i = 0; i < V; i++) from_f32(x[i], p + i);
}

/* p may be read and written by lanes of 4. */
template <typename T> static inline bool aligned(const T *p)
{
    return (uintptr_t)p % (LANE * sizeof(T)) == 0;
}

/* --- segments in tiles: one launch over all --- */

enum { SEGMENT_SCRATCH = 3 }; /* of the thread's slots: two of them, one an op */

struct tiles {
    const struct lcl_segment *segment_N;
    const int64_t *first_N1;
    int64_t N;
};

/* The list and its tiles on the device; returns the tiles' number in *G. */
static lcl_status tiles_make(struct lcl_cuda_device *d, const struct lcl_segment *segment_N,
                             int64_t N, int64_t tile, int slot, struct tiles *t, unsigned *G)
{
    const size_t bytes = (size_t)(N + 1) * sizeof(int64_t);
    LCL_TRY(lcl_cuda_unrecorded(d, "an op over segments"));
    int64_t *first_N1 = (int64_t *)lcl_thread_scratch(slot, bytes);
    if (!first_N1) return LCL_FAIL(LCL_MEMORY, "no memory for %lld segments", (long long)N);
    *G = (unsigned)lcl_segment_tiles(segment_N, N, tile, first_N1);
    const void *segments, *first;
    LCL_TRY(lcl_cuda_upload(d, segment_N, (size_t)N * sizeof *segment_N, &segments));
    LCL_TRY(lcl_cuda_upload(d, first_N1, bytes, &first));
    t->segment_N = (const struct lcl_segment *)segments;
    t->first_N1 = (const int64_t *)first;
    t->N = N;
    return LCL_OK;
}

/* The number of this block's segment, and where in it the tile begins. */
LCL_DEVICE int64_t my_segment(const tiles &t, int64_t tile, int64_t *begin)
{
    int64_t low = 0, high = t.N; /* first_N1[low] <= blockIdx.x < first_N1[high] */
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (t.first_N1[middle] <= blockIdx.x)
            low = middle;
        else
            high = middle;
    }
    *begin = (blockIdx.x - t.first_N1[low]) * tile;
    return low;
}

/* The first n of 4 elements; the others are 0, and stay as they are in memory. */
template <typename T> LCL_DEVICE void load_some(const T *p, int n, float x[LANE])
{
    if (n >= LANE) {
        load_lane<LANE>(p, x);
    } else {
#pragma unroll
        for (int i = 0; i < LANE; i++) x[i] = i < n ? to_f32(p[i]) : 0.0f;
    }
}

template <typename T> LCL_DEVICE void store_some(T *p, int n, const float x[LANE])
{
    if (n >= LANE) {
        store_lane<LANE>(p, x);
    } else {
#pragma unroll
        for (int i = 0; i < LANE; i++)
            if (i < n) from_f32(x[i], p + i);
    }
}

/* --- adamw: a warp has 256 elements, the lane l those at 4 l and 128 + 4 l --- */

/* torch.optim.AdamW's order of operations, its constants made in f64 and rounded once. */
struct adamw {
    tiles t;
    const struct lcl_grad_norm *norm;
    const struct lcl_code8_pair *code; /* where some states are u8 */
    double correction1;
    float one_minus_beta1, beta2, one_minus_beta2, correction2_sqrt, eps;
    uint32_t key[2], step; /* of rounding */
};

enum {
    GROUP = LCL_SEGMENT_ALIGN,             /* elements of a warp at once; a block of 8-bit states */
    ADAMW_TILE = 4 * BLOCK / WARP * GROUP, /* long: the search for its segment costs little */
    MINE = GROUP / WARP
};

/* Four random words of 16-bit numbers: lcl_philox() on the lane's block of the stream. */
LCL_DEVICE void random_words(const adamw &k, uint64_t stream, int64_t group, uint32_t c[4])
{
    c[0] = (uint32_t)group * WARP + threadIdx.x % WARP;
    c[1] = k.step;
    c[2] = (uint32_t)stream, c[3] = (uint32_t)(stream >> 32);
    philox(k.key[0], k.key[1], c);
}

/* To bf16 numbers (as f32), up or down by chance. */
LCL_DEVICE void round_stochastically(const adamw &k, uint64_t stream, int64_t group, float x[MINE])
{
    uint32_t word[4];
    random_words(k, stream, group, word);
#pragma unroll
    for (int i = 0; i < MINE; i++) {
        const uint32_t u = bits_of(x[i]), random = word[i / 2] >> 16 * (i % 2) & 0xffffu;
        if ((u & 0x7f800000u) != 0x7f800000u) x[i] = float_of((u + random) & 0xffff0000u);
    }
}

/* How many of the lane's 4 elements at `at` the segment has. */
LCL_DEVICE int some_of(int64_t count, int64_t at)
{
    const int64_t left = count - at;
    return left >= LANE ? (int)LANE : left > 0 ? (int)left : 0;
}

template <typename T>
LCL_DEVICE void load_mine(const T *p, int64_t count, int64_t at, float x[MINE])
{
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP)
        load_some(p + at, some_of(count, at), x + g);
}

template <typename T>
LCL_DEVICE void store_mine(T *p, int64_t count, int64_t at, const float x[MINE])
{
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP)
        store_some(p + at, some_of(count, at), x + g);
}

/* f32 values in two halves, as lcl_f32_join() and lcl_f32_split() do it. */
LCL_DEVICE float join_halves(uint32_t high, uint32_t low)
{
    return float_of((high << 16 | low) - ((low & 0x8000u) << 1));
}

/* Four numbers of 8 or 16 bits in one word. */
template <typename W, typename T> LCL_DEVICE W load_word(const T *p, int n)
{
    if (n >= LANE) return *(const W *)p;
    W word = 0;
    for (int i = 0; i < n; i++) word |= (W)p[i] << 8 * sizeof(T) * i;
    return word;
}

template <typename W, typename T> LCL_DEVICE void store_word(T *p, int n, W word)
{
    if (n >= LANE)
        *(W *)p = word;
    else
        for (int i = 0; i < n; i++) p[i] = (T)(word >> 8 * sizeof(T) * i);
}

LCL_DEVICE void load_halves(const uint16_t *high, const uint16_t *low, int64_t count, int64_t at,
                            float x[MINE])
{
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP) {
        const int n = some_of(count, at);
        const uint64_t h = load_word<uint64_t>(high + at, n), l = load_word<uint64_t>(low + at, n);
#pragma unroll
        for (int i = 0; i < LANE; i++)
            x[g + i] =
                join_halves((uint32_t)(h >> 16 * i) & 0xffffu, (uint32_t)(l >> 16 * i) & 0xffffu);
    }
}

LCL_DEVICE void store_halves(uint16_t *high, uint16_t *low, int64_t count, int64_t at,
                             const float x[MINE])
{
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP) {
        const int n = some_of(count, at);
        uint64_t h = 0, l = 0;
#pragma unroll
        for (int i = 0; i < LANE; i++) {
            uint32_t u = bits_of(x[g + i]);
            if ((u & 0x7fffffffu) > 0x7f800000u) u = (u & 0x80000000u) | 0x7fc00000u;
            h |= (uint64_t)((u + 0x8000u) >> 16) << 16 * i;
            l |= (uint64_t)(u & 0xffffu) << 16 * i;
        }
        store_word(high + at, n, h);
        store_word(low + at, n, l);
    }
}

LCL_DEVICE void load_coded(const struct lcl_code8 *c, const uint8_t *p, const float *scale_B,
                           int64_t count, int64_t at, float x[MINE])
{
    const float scale = scale_B[at / GROUP];
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP) {
        const int n = some_of(count, at);
        const uint32_t codes = load_word<uint32_t>(p + at, n);
#pragma unroll
        for (int i = 0; i < LANE; i++) /* what is past the end counts as 0 */
            x[g + i] = i < n ? c->value[codes >> 8 * i & 0xffu] * scale : 0.0f;
    }
}

/* Past the end x is 0. */
template <bool second>
LCL_DEVICE void store_coded(const struct lcl_code8 *c, uint8_t *p, float *scale_B, int64_t count,
                            int64_t at, const float x[MINE])
{
    float scale = 0;
#pragma unroll
    for (int i = 0; i < MINE; i++) scale = fmaxf(scale, fabsf(x[i]));
    scale = warp_max(scale);
    sync_warp(); /* all lanes have read the old one */
    if (threadIdx.x % WARP == 0) scale_B[at / GROUP] = scale;
#pragma unroll
    for (int g = 0; g < MINE; g += LANE, at += LANE * WARP) {
        uint32_t codes = 0;
#pragma unroll
        for (int i = 0; i < LANE; i++) {
            const uint32_t code =
                second ? lcl_code8_v(c, x[g + i], scale) : lcl_code8_m(c, x[g + i], scale);
            codes |= code << 8 * i;
        }
        store_word(p + at, some_of(count, at), codes);
    }
}

LCL_DEVICE void load_states(const struct lcl_segment &s, const struct lcl_code8_pair *code,
                            int64_t at, float m[MINE], float v[MINE])
{
    if (s.state == LCL_F32) {
        load_mine((const float *)s.m, s.count, at, m);
        load_mine((const float *)s.v, s.count, at, v);
    } else if (s.state == LCL_BF16) {
        load_mine((const bf16 *)s.m, s.count, at, m);
        load_mine((const bf16 *)s.v, s.count, at, v);
    } else {
        load_coded(&code->m, (const uint8_t *)s.m, s.m_scale_B, s.count, at, m);
        load_coded(&code->v, (const uint8_t *)s.v, s.v_scale_B, s.count, at, v);
    }
}

LCL_DEVICE void store_states(const adamw &k, const struct lcl_segment &s,
                             const struct lcl_code8_pair *code, int64_t at, float m[MINE],
                             float v[MINE])
{
    if (s.state == LCL_F32) {
        store_mine((float *)s.m, s.count, at, m);
        store_mine((float *)s.v, s.count, at, v);
    } else if (s.state == LCL_BF16) {
        store_mine((bf16 *)s.m, s.count, at, m);
        round_stochastically(k, ~s.stream, (s.first + at) / GROUP, v);
        store_mine((bf16 *)s.v, s.count, at, v);
    } else {
        store_coded<false>(&code->m, (uint8_t *)s.m, s.m_scale_B, s.count, at, m);
        store_coded<true>(&code->v, (uint8_t *)s.v, s.v_scale_B, s.count, at, v);
    }
}

/* This lane's part of the group around `at`. */
LCL_DEVICE void adamw_group(const adamw &k, const struct lcl_segment &s,
                            const struct lcl_code8_pair *code, int64_t at, float clip, float keep,
                            float step_size)
{
    float value[MINE], g[MINE], m[MINE], v[MINE];
    load_mine(s.grad, s.count, at, g);
    load_states(s, code, at, m, v);
    if (s.value)
        load_mine((const float *)s.value, s.count, at, value);
    else if (s.low16)
        load_halves(s.value16, s.low16, s.count, at, value);
    else
        load_mine((const bf16 *)s.value16, s.count, at, value);
#pragma unroll
    for (int i = 0; i < MINE; i++) {
        g[i] *= clip;
        m[i] += k.one_minus_beta1 * (g[i] - m[i]);
        v[i] = v[i] * k.beta2 + k.one_minus_beta2 * g[i] * g[i];
        const float denominator = sqrtf(v[i]) / k.correction2_sqrt + k.eps;
        value[i] = value[i] * keep - step_size * m[i] / denominator;
    }
    if (s.value)
        store_mine(s.value, s.count, at, value);
    else if (s.low16)
        store_halves(s.value16, s.low16, s.count, at, value);
    else
        round_stochastically(k, s.stream, (s.first + at) / GROUP, value);
    if (s.value16 && !s.low16) store_mine((bf16 *)s.value16, s.count, at, value);
    store_states(k, s, code, at, m, v);
}

static __global__ void adamw_fwd_kernel(adamw k)
{
    SHARED_BYTES(shared);
    float clip = 1;
    if (k.norm) {
        if (k.norm->non_finite) return;
        clip = k.norm->clip;
    }
    int64_t begin;
    const struct lcl_segment &s = k.t.segment_N[my_segment(k.t, ADAMW_TILE, &begin)];
    struct lcl_code8_pair *code = (struct lcl_code8_pair *)shared;
    if (s.state == LCL_U8) {
        for (unsigned i = threadIdx.x; i < sizeof *code / 4; i += BLOCK)
            ((uint32_t *)code)[i] = ((const uint32_t *)k.code)[i];
        sync_block();
    }
    const float keep = (float)(1.0 - s.lr * s.weight_decay);
    const float step_size = (float)(s.lr / k.correction1);
    const int64_t end = begin + ADAMW_TILE < s.count ? begin + ADAMW_TILE : s.count;
    begin += threadIdx.x / WARP * GROUP;
#pragma unroll 1
    for (; begin < end; begin += BLOCK / WARP * GROUP)
        adamw_group(k, s, code, begin + threadIdx.x % WARP * LANE, clip, keep, step_size);
}

static bool any_coded(const struct lcl_adamw_args *a)
{
    for (int64_t i = 0; i < a->N; i++)
        if (a->segment_N[i].state == LCL_U8) return true;
    return false;
}

lcl_status lcl_cuda_adamw_fwd(struct lcl_exec *ex, const struct lcl_adamw_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_adamw(a));
    adamw k = {};
    unsigned G = 0;
    size_t shared = 0;
    LCL_TRY(tiles_make(d, a->segment_N, a->N, ADAMW_TILE, SEGMENT_SCRATCH, &k.t, &G));
    if (any_coded(a)) {
        const void *code;
        shared = sizeof *k.code;
        LCL_TRY(lcl_cuda_upload(d, lcl_code8(), shared, &code));
        k.code = (const struct lcl_code8_pair *)code;
    }
    const struct lcl_rng r = lcl_rng_stream(a->seed, LCL_RNG_ROUNDING, (uint32_t)a->step, 0);
    k.key[0] = r.key[0], k.key[1] = r.key[1], k.step = r.counter[1];
    k.norm = a->norm;
    k.correction1 = 1.0 - pow(a->beta1, (double)a->step);
    k.one_minus_beta1 = (float)(1.0 - a->beta1);
    k.beta2 = (float)a->beta2;
    k.one_minus_beta2 = (float)(1.0 - a->beta2);
    k.correction2_sqrt = (float)sqrt(1.0 - pow(a->beta2, (double)a->step));
    k.eps = (float)a->eps;
    return LCL_LAUNCH(d, adamw_fwd_kernel, dims(G), dims(BLOCK), shared, k);
}

/* --- sumsq: a sum for each tile, those of a segment, the segments'; each in a fixed order --- */

enum { SUM_TILE = 16 * BLOCK * LANE };

struct square_sum {
    double sum;
    int64_t non_finite;
};

/* The sum over the block, in thread 0. tree: shared, BLOCK of them. */
LCL_DEVICE square_sum tree_sum(square_sum x, square_sum *tree)
{
    const unsigned t = threadIdx.x;
    tree[t] = x;
    for (unsigned width = BLOCK / 2; width > 0; width /= 2) {
        sync_block();
        if (t < width) {
            x.sum += tree[t + width].sum;
            x.non_finite += tree[t + width].non_finite;
            tree[t] = x;
        }
    }
    return x;
}

static __global__ void sumsq_fwd_kernel(tiles t, square_sum *partial_G)
{
    SHARED_BYTES(shared);
    int64_t begin;
    const struct lcl_segment *s = &t.segment_N[my_segment(t, SUM_TILE, &begin)];
    const float *x = s->grad;
    const int64_t count = s->count, end = begin + SUM_TILE < count ? begin + SUM_TILE : count;
    square_sum sum = {};
#pragma unroll 4
    for (int64_t at = begin + (int64_t)threadIdx.x * LANE; at < end; at += BLOCK * LANE) {
        float four[LANE];
        load_some(x + at, end - at < LANE ? (int)(end - at) : (int)LANE, four);
#pragma unroll
        for (int i = 0; i < LANE; i++) {
            sum.sum += (double)four[i] * (double)four[i];
            sum.non_finite += (bits_of(four[i]) & 0x7f800000u) == 0x7f800000u;
        }
    }
    sum = tree_sum(sum, (square_sum *)shared);
    if (threadIdx.x == 0) partial_G[blockIdx.x] = sum;
}

/* A block a segment. */
static __global__ void sumsq_segments_kernel(tiles t, const square_sum *partial_G,
                                             square_sum *all_N, double *sum_N,
                                             int64_t *non_finite_N)
{
    SHARED_BYTES(shared);
    square_sum sum = {};
    for (int64_t g = t.first_N1[blockIdx.x] + threadIdx.x; g < t.first_N1[blockIdx.x + 1];
         g += BLOCK) {
        sum.sum += partial_G[g].sum;
        sum.non_finite += partial_G[g].non_finite;
    }
    sum = tree_sum(sum, (square_sum *)shared);
    if (threadIdx.x != 0) return;
    all_N[blockIdx.x] = sum;
    if (sum_N) sum_N[blockIdx.x] = sum.sum;
    if (non_finite_N) non_finite_N[blockIdx.x] = sum.non_finite;
}

static __global__ void sumsq_norm_kernel(const square_sum *all_N, int64_t N, double max_norm,
                                         struct lcl_grad_norm *norm)
{
    struct lcl_grad_norm all = {};
#pragma unroll 8
    for (int64_t s = 0; s < N; s++) {
        all.sum += all_N[s].sum;
        all.non_finite += all_N[s].non_finite;
    }
    const double clip = max_norm / (sqrt(all.sum) + 1e-6);
    all.clip = max_norm > 0 && clip < 1 ? (float)clip : 1;
    *norm = all;
}

lcl_status lcl_cuda_sumsq_fwd(struct lcl_exec *ex, const struct lcl_sumsq_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_segments("sumsq", a->N, a->segment_N));
    tiles t = {};
    unsigned G = 0;
    void *partial, *sum, *non_finite;
    const size_t shared = BLOCK * sizeof(square_sum), N = (size_t)a->N;
    LCL_TRY(tiles_make(d, a->segment_N, a->N, SUM_TILE, SEGMENT_SCRATCH + 1, &t, &G));
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_PARTIALS, (G + N + 1) * sizeof(square_sum), &partial));
    LCL_TRY(lcl_cuda_results_reserve(d, 2, N * (sizeof *a->sum_N + sizeof *a->non_finite_N)));
    LCL_TRY(lcl_cuda_result(d, a->sum_N, N * sizeof *a->sum_N, &sum));
    LCL_TRY(lcl_cuda_result(d, a->non_finite_N, N * sizeof *a->non_finite_N, &non_finite));
    square_sum *partial_G = (square_sum *)partial, *all_N = partial_G + G;
    LCL_TRY(LCL_LAUNCH(d, sumsq_fwd_kernel, dims(G), dims(BLOCK), shared, t, partial_G));
    LCL_TRY(LCL_LAUNCH(d, sumsq_segments_kernel, dims((unsigned)N), dims(BLOCK), shared, t,
                       (const square_sum *)partial_G, all_N, (double *)sum, (int64_t *)non_finite));
    if (a->norm)
        LCL_TRY(LCL_LAUNCH(d, sumsq_norm_kernel, dims(1), dims(1), 0, (const square_sum *)all_N,
                           a->N, a->max_norm, a->norm));
    return lcl_cuda_op_end(d);
}

/* --- add --- */

template <typename X, typename Y, int V> LCL_DEVICE void add_at(const X *x, Y *y, float scale)
{
    float xs[V], ys[V];
    load_lane<V>(x, xs);
    load_lane<V>(y, ys);
#pragma unroll
    for (int i = 0; i < V; i++) ys[i] += scale * xs[i];
    store_lane<V>(y, ys);
}

template <typename X, typename Y, int V>
static __global__ void add_fwd_kernel(int64_t count, const X *x, Y *y, float scale)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= count)
        add_at<X, Y, V>(x + i, y + i, scale);
    else
#pragma unroll 1
        for (; i < count; i++) add_at<X, Y, 1>(x + i, y + i, scale);
}

template <typename Y, typename X>
static lcl_status add(struct lcl_cuda_device *d, const struct lcl_add_args *a, const X *x)
{
    Y *y = (Y *)a->y;
    if (aligned(x) && aligned(y))
        return LCL_LAUNCH(d, (add_fwd_kernel<X, Y, LANE>), dims(blocks_for(a->count, BLOCK * LANE)),
                          dims(BLOCK), 0, a->count, x, y, a->scale);
    return LCL_LAUNCH(d, (add_fwd_kernel<X, Y, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK),
                      0, a->count, x, y, a->scale);
}

template <typename X>
static lcl_status add_from(struct lcl_cuda_device *d, const struct lcl_add_args *a)
{
    return BY_DTYPE(a->y_dtype, add, d, a, (const X *)a->x);
}

lcl_status lcl_cuda_add_fwd(struct lcl_exec *ex, const struct lcl_add_args *a)
{
    LCL_TRY(lcl_check_dtype("add", a->x_dtype));
    LCL_TRY(lcl_check_dtype("add", a->y_dtype));
    LCL_TRY(lcl_check_count("add", a->count));
    return BY_DTYPE(a->x_dtype, add_from, lcl_cuda_device_of(ex), a);
}

/* --- cast --- */

template <typename X, typename Y, int V> LCL_DEVICE void cast_at(const X *x, Y *y)
{
    float xs[V];
    load_lane<V>(x, xs);
    store_lane<V>(y, xs);
}

template <typename X, typename Y, int V>
static __global__ void cast_fwd_kernel(int64_t count, const X *x, Y *y)
{
    int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * V;
    if (i + V <= count)
        cast_at<X, Y, V>(x + i, y + i);
    else
#pragma unroll 1
        for (; i < count; i++) cast_at<X, Y, 1>(x + i, y + i);
}

template <typename X, typename Y>
static lcl_status cast(struct lcl_cuda_device *d, const struct lcl_cast_args *a)
{
    const X *x = (const X *)a->x;
    Y *y = (Y *)a->y;
    if (aligned(x) && aligned(y))
        return LCL_LAUNCH(d, (cast_fwd_kernel<X, Y, LANE>),
                          dims(blocks_for(a->count, BLOCK * LANE)), dims(BLOCK), 0, a->count, x, y);
    return LCL_LAUNCH(d, (cast_fwd_kernel<X, Y, 1>), dims(blocks_for(a->count, BLOCK)), dims(BLOCK),
                      0, a->count, x, y);
}

lcl_status lcl_cuda_cast_fwd(struct lcl_exec *ex, const struct lcl_cast_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    const lcl_dtype x = a->x_dtype, y = a->y_dtype;
    LCL_TRY(lcl_check_count("cast", a->count));
    if (x == y) {
        if (a->count && a->x != a->y)
            LCL_CUDA_TRY(cudaMemcpyAsync(a->y, a->x, (size_t)a->count * lcl_dtype_bytes(x),
                                         cudaMemcpyDeviceToDevice, (cudaStream_t)d->stream));
        return LCL_OK;
    }
    if (x == LCL_F32 && y == LCL_BF16) return cast<float, bf16>(d, a);
    if (x == LCL_BF16 && y == LCL_F32) return cast<bf16, float>(d, a);
    if (x == LCL_F32 && y == LCL_F16) return cast<float, f16>(d, a);
    if (x == LCL_F16 && y == LCL_F32) return cast<f16, float>(d, a);
    return LCL_FAIL(LCL_UNSUPPORTED, "no conversion from %s to %s in this backend",
                    lcl_dtype_name(x), lcl_dtype_name(y));
}
