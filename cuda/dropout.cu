/* Dropout by counted randomness: a lane makes the four elements of one Philox block, forth and back
 * alike. */
#include "core/rng.h"
#include "cuda/ops.cuh"
#include "cuda/philox.cuh"

enum { BLOCK = 256, MINE = 4 };

template <typename T> struct dropping {
    int64_t count;
    uint32_t key[2], epoch, stream[2];
    uint32_t dropped; /* words below it drop their element */
    float scale;
    bool accumulate;
    const T *in;
    T *out;
};

/* V elements at i. */
template <typename T, int V>
LCL_DEVICE void drop_at(const dropping<T> &d, int64_t i, const uint32_t word[V])
{
    float x[V], y[V];
    load_elements<V>(d.in + i, x);
#pragma unroll
    for (int j = 0; j < V; j++) y[j] = word[j] < d.dropped ? 0.0f : d.scale * x[j];
    if (d.accumulate) {
        load_elements<V>(d.out + i, x);
#pragma unroll
        for (int j = 0; j < V; j++) y[j] += x[j];
    }
    store_elements<V>(d.out + i, y);
}

template <typename T, bool IS_WIDE> static __global__ void dropout_kernel(dropping<T> d)
{
    const int64_t block = (int64_t)blockIdx.x * BLOCK + threadIdx.x, i = block * MINE;
    if (i >= d.count) return;
    uint32_t word[MINE] = {(uint32_t)block, d.epoch, d.stream[0], d.stream[1]};
    philox(d.key[0], d.key[1], word);
    if (IS_WIDE && i + MINE <= d.count) {
        drop_at<T, MINE>(d, i, word);
        return;
    }
#pragma unroll
    for (int j = 0; j < MINE; j++)
        if (i + j < d.count) drop_at<T, 1>(d, i + j, word + j);
}

template <typename T>
static lcl_status drop(struct lcl_cuda_device *device, const struct lcl_dropout_args *a,
                       const void *in, void *out, bool accumulate)
{
    const struct lcl_rng rng = lcl_rng_stream(a->seed, LCL_RNG_DROPOUT, a->epoch, a->stream);
    dropping<T> d = {};
    d.count = a->count;
    d.key[0] = rng.key[0], d.key[1] = rng.key[1];
    d.epoch = rng.counter[1], d.stream[0] = rng.counter[2], d.stream[1] = rng.counter[3];
    d.dropped = (uint32_t)(a->p * 4294967296.0);
    d.scale = (float)(1 / (1 - a->p));
    d.accumulate = accumulate;
    d.in = (const T *)in, d.out = (T *)out;
    const dim3 blocks = dims(blocks_for(a->count, BLOCK * MINE));
    if (all_wide<T>(0, in, out))
        return LCL_LAUNCH(device, (dropout_kernel<T, true>), blocks, dims(BLOCK), 0, d);
    return LCL_LAUNCH(device, (dropout_kernel<T, false>), blocks, dims(BLOCK), 0, d);
}

lcl_status lcl_cuda_dropout_fwd(struct lcl_exec *ex, const struct lcl_dropout_args *a)
{
    LCL_TRY(lcl_check_dropout(a));
    if (!a->count) return LCL_OK;
    return BY_DTYPE(a->dtype, drop, lcl_cuda_device_of(ex), a, a->x, a->y, false);
}

lcl_status lcl_cuda_dropout_bwd(struct lcl_exec *ex, const struct lcl_dropout_args *a)
{
    LCL_TRY(lcl_check_dropout(a));
    if (!a->count) return LCL_OK;
    return BY_DTYPE(a->dtype, drop, lcl_cuda_device_of(ex), a, a->d_y, a->d_x, a->accumulate_d_x);
}
