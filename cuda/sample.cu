/* Tokens drawn from logits, by core/sample.h's whole numbers: a block a row. Thresholds are found
 * without sorting, by cutting the range of keys in four, pass by pass; sums are exact, so their
 * order is free. Legend: S rows, V vocabulary. */
#include "core/sample.h"

#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

enum { BLOCK = 1024 /* threads at most */, IDS = 4 /* a thread, at least */, CUTS = 3 };

struct sample_params {
    int64_t V, top_k;
    bool greedy;
    float scale;    /* lcl_sample_scale */
    uint64_t share; /* lcl_sample_share */
    const float *logits_SV;
    const uint64_t *draw_S;
    int32_t *token_S;
};

/* A row, and what stays of it: the keys above `least`, and those that equal it up to the id `end`.
 */
struct sample_row {
    const float *logit_V;
    int V;
    float most, scale;
    uint32_t least;
    int end;
};

/* Shared memory. */
struct sample_shared {
    uint64_t sum[CUTS][BLOCK / WARP];
    int found;
};

LCL_DEVICE uint64_t shuffle_xor64(uint64_t x, int m)
{
    const uint32_t low = shuffle_xor((uint32_t)x, m), high = shuffle_xor((uint32_t)(x >> 32), m);
    return (uint64_t)high << 32 | low;
}

LCL_DEVICE uint64_t warp_total(uint64_t x)
{
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2) x += shuffle_xor64(x, m);
    return x;
}

/* The sums over the block's threads, in every thread. */
LCL_DEVICE void block_total(uint64_t x[CUTS], sample_shared *shared)
{
    sync_block(); /* the slots are free */
#pragma unroll
    for (int i = 0; i < CUTS; i++) {
        const uint64_t sum = warp_total(x[i]);
        if (threadIdx.x % WARP == 0) shared->sum[i][threadIdx.x / WARP] = sum;
    }
    sync_block();
#pragma unroll
    for (int i = 0; i < CUTS; i++) {
        const unsigned lane = threadIdx.x % WARP;
        x[i] = warp_total(lane * WARP < blockDim.x ? shared->sum[i][lane] : 0);
    }
}

/* Of the tokens with keys of key[i] and above: how many, or what they weigh. */
template <bool COUNT>
LCL_DEVICE void measure(const sample_row &r, const uint64_t key[CUTS], uint64_t sum[CUTS],
                        sample_shared *shared)
{
    for (int i = 0; i < CUTS; i++) sum[i] = 0;
    for (int v = threadIdx.x; v < r.V; v += blockDim.x) {
        const float logit = r.logit_V[v];
        const uint32_t k = lcl_sample_key(logit);
        const uint64_t x = COUNT ? 1 : lcl_sample_weight(logit, r.most, r.scale);
#pragma unroll
        for (int i = 0; i < CUTS; i++) sum[i] += k >= key[i] ? x : 0;
    }
    block_total(sum, shared);
}

template <bool COUNT>
LCL_DEVICE uint64_t measure_one(const sample_row &r, uint64_t key, sample_shared *shared)
{
    const uint64_t keys[CUTS] = {key, key, key};
    uint64_t sum[CUTS];
    measure<COUNT>(r, keys, sum, shared);
    return sum[0];
}

/* The greatest key from `low` on whose measure is `need` or more, as low's is. */
template <bool COUNT>
LCL_DEVICE uint32_t threshold(const sample_row &r, uint32_t low, uint64_t need,
                              sample_shared *shared)
{
    uint32_t high = lcl_sample_key(r.most);
    while (low < high) {
        const uint32_t span = high - low;
        uint64_t key[CUTS], sum[CUTS];
        for (int i = 0; i < CUTS; i++)
            key[i] = low + 1 + (uint32_t)((uint64_t)(span - 1) * (i + 1) / (CUTS + 1));
        measure<COUNT>(r, key, sum, shared);
        uint32_t below = high; /* the range goes on from the last cut that suffices to the next */
        for (int i = CUTS - 1; i >= 0; i--) {
            if (sum[i] >= need) {
                low = (uint32_t)key[i];
                break;
            }
            below = (uint32_t)key[i] - 1;
        }
        high = below;
    }
    return low;
}

/* What a token adds: its weight if it stays, or 1 if it has the least key that does. */
template <bool TIES> LCL_DEVICE uint64_t added(const sample_row &r, int v)
{
    if (v >= r.V) return 0;
    const float logit = r.logit_V[v];
    const uint32_t key = lcl_sample_key(logit);
    if (TIES) return key == r.least;
    if (key < r.least || (key == r.least && v >= r.end)) return 0;
    return lcl_sample_weight(logit, r.most, r.scale);
}

/* The first id at which the sum of what tokens add, by id, exceeds `place`. */
template <bool TIES>
LCL_DEVICE int first_past(const sample_row &r, uint64_t place, sample_shared *shared)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int threads = (int)blockDim.x, mine = (r.V + threads - 1) / threads * WARP; /* ids */
    uint64_t sum = 0;
    for (int i = lane; i < mine; i += WARP) sum += added<TIES>(r, warp * mine + i);
    sum = warp_total(sum);
    sync_block();
    if (lane == 0) shared->sum[0][warp] = sum;
    sync_block();
    uint64_t before = 0;
    for (int w = 0; w < warp; w++) before += shared->sum[0][w];
    if (before <= place && place < before + sum) { /* one warp */
        for (int i = lane;; i += WARP) {
            const uint64_t here = added<TIES>(r, warp * mine + i), all = warp_total(here);
            if (before + all <= place) {
                before += all;
                continue;
            }
            shared->sum[1][lane] = here;
            sync_warp();
            int l = 0;
            for (; before + shared->sum[1][l] <= place; l++) before += shared->sum[1][l];
            if (lane == 0) shared->found = warp * mine + i + l;
            break;
        }
    }
    sync_block();
    return shared->found;
}

/* The greatest key, in every thread, and the first id that has it. */
LCL_DEVICE uint32_t greatest(const sample_row &r, int *first, sample_shared *shared)
{
    uint64_t best = 0; /* key, then ids from the last to the first */
    for (int v = threadIdx.x; v < r.V; v += blockDim.x) {
        const uint64_t x = (uint64_t)lcl_sample_key(r.logit_V[v]) << 32 | (uint32_t)(INT32_MAX - v);
        if (x > best) best = x;
    }
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2) {
        const uint64_t other = shuffle_xor64(best, m);
        if (other > best) best = other;
    }
    if (threadIdx.x % WARP == 0) shared->sum[0][threadIdx.x / WARP] = best;
    sync_block();
    for (unsigned w = 0; w * WARP < blockDim.x; w++)
        if (shared->sum[0][w] > best) best = shared->sum[0][w];
    *first = INT32_MAX - (int)(uint32_t)best;
    return (uint32_t)(best >> 32);
}

/* Sets what stays of the row; returns its weight. */
LCL_DEVICE uint64_t keep(const sample_params &p, sample_row *r, sample_shared *shared)
{
    uint64_t total = measure_one<false>(*r, 0, shared), ties = 0; /* 0: all */
    if (p.top_k > 0 && p.top_k < r->V) {
        r->least = threshold<true>(*r, 0, (uint64_t)p.top_k, shared);
        ties = (uint64_t)p.top_k - measure_one<true>(*r, (uint64_t)r->least + 1, shared);
        total = measure_one<false>(*r, (uint64_t)r->least + 1, shared) +
                ties * lcl_sample_weight(lcl_sample_logit(r->least), r->most, r->scale);
    }
    if (p.share >> 32 == 0 && total > 0) {
        const uint64_t need = lcl_sample_part(total, p.share);
        r->least = threshold<false>(*r, r->least, need, shared);
        const uint64_t above = measure_one<false>(*r, (uint64_t)r->least + 1, shared);
        const uint64_t each = lcl_sample_weight(lcl_sample_logit(r->least), r->most, r->scale);
        ties = (need - above + each - 1) / each;
        total = above + ties * each;
    }
    if (ties > 0) r->end = first_past<true>(*r, ties - 1, shared) + 1;
    return total;
}

static __global__ void __launch_bounds__(BLOCK, 1) sample_fwd_kernel(sample_params p)
{
    SHARED_BYTES(bytes);
    sample_shared *shared = (sample_shared *)bytes;
    sample_row r = {p.logits_SV + (int64_t)blockIdx.x * p.V, (int)p.V, 0, p.scale, 0, (int)p.V};
    int token;
    greatest(r, &token, shared);
    if (!p.greedy) {
        r.most = r.logit_V[token];
        const uint64_t total = keep(p, &r, shared);
        if (total > 0)
            token = first_past<false>(r, lcl_sample_place(total, p.draw_S[blockIdx.x]), shared);
    }
    if (threadIdx.x == 0) p.token_S[blockIdx.x] = token;
}

lcl_status lcl_cuda_sample_fwd(struct lcl_exec *ex, const struct lcl_sample_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_sample(a));
    const void *draws = NULL;
    void *tokens;
    sample_params p = {};
    p.V = a->V, p.top_k = a->top_k;
    p.greedy = a->temperature == 0;
    p.logits_SV = a->logits_SV;
    if (!p.greedy) {
        p.scale = lcl_sample_scale(a->temperature);
        p.share = lcl_sample_share(a->top_p);
        LCL_TRY(lcl_cuda_upload(d, a->draw_S, (size_t)a->S * sizeof *a->draw_S, &draws));
    }
    LCL_TRY(lcl_cuda_result(d, a->token_S, (size_t)a->S * sizeof *a->token_S, &tokens));
    p.draw_S = (const uint64_t *)draws;
    p.token_S = (int32_t *)tokens;
    const unsigned threads = blocks_for(a->V, IDS * WARP) * WARP;
    LCL_TRY(LCL_LAUNCH(d, sample_fwd_kernel, dims((unsigned)a->S),
                       dims(threads < BLOCK ? threads : (unsigned)BLOCK), sizeof(sample_shared),
                       p));
    return lcl_cuda_op_end(d);
}
