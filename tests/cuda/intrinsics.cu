#include "tests/cuda/intrinsics.h"

#include <string.h>

#include "cuda/kernel.cuh"

#define KERNEL(name) static __global__ void name(float *g)

KERNEL(in_warps)
{
    const int lane = (int)threadIdx.x;
    float x = g[lane];
    g[1024 + lane] = shuffle(x, (lane * 5 + 3) % WARP);
    for (int m = 1, i = 1; m < WARP; m *= 2, i++) {
        g[1024 + WARP * i + lane] = shuffle_xor(x, m);
        g[1024 + WARP * (i + 5) + lane] = (float)shuffle_xor((uint32_t)lane * 3, m);
    }
    g[1024 + WARP * 11 + lane] = float_of(vote(lane % 3 == 0));
    g[1024 + WARP * 12 + lane] = warp_sum(x);
    g[1024 + WARP * 13 + lane] = warp_max(x);
}

/* g: pairs to pack, and what they are packed to; then powers, roots, reciprocals, half precision.
 */
KERNEL(in_numbers)
{
    const unsigned t = threadIdx.x;
    g[1024 + t] = float_of(pack_bf16(g[2 * t], g[2 * t + 1]));
    bf16 low = {(uint16_t)bits_of(g[1024 + t])};
    g[1280 + t] = to_f32(low);
    g[1536 + t] = fast_exp2(g[512 + t]);
    g[1792 + t] = rsqrt_f32(g[512 + t] * g[512 + t] + 1);
    g[2048 + t] = fast_reciprocal(g[512 + t]);
    f16 half;
    from_f32(g[512 + t], &half);
    g[2304 + t] = to_f32(half);
    bf16 rounded;
    from_f32(g[2 * t], &rounded);
    g[2560 + t] = to_f32(rounded);
}

/* 16 bytes a lane, turned round within the warp; then the same by cp.async, zeros in odd lanes. */
KERNEL(in_sixteens)
{
    SHARED_BYTES(shared);
    float *s = (float *)shared;
    const unsigned t = threadIdx.x;
    store16(g + 1024 + 4 * t, load16(g + 4 * (t ^ 1)));
    copy_async16(s + 4 * t, t % 2 ? NULL : g + 4 * t, t % 2 ? 0 : 16);
    copy_commit();
    copy_async16(s + 4 * (t + WARP), g + 128 + 4 * t, 16);
    copy_commit();
    copy_wait<1>();
    sync_warp();
    store16(g + 1152 + 4 * t, load16(s + 4 * (t ^ 1)));
    copy_wait<0>();
    sync_block();
    store16(g + 1280 + 4 * t, load16(s + 4 * ((t ^ 1) + WARP)));
}

/* Sums and minima of whole numbers, over blocks. */
KERNEL(in_atomics)
{
    unsigned long long *out = (unsigned long long *)(g + 1024), i = blockIdx.x * 64 + threadIdx.x;
    atomic_add(out, i);
    atomic_min(out + 1, 1000 + i * 7 % 256);
}

/* Four matrices of 8 x 8 from g, as they are and transposed. */
KERNEL(in_matrices)
{
    SHARED_BYTES(shared);
    uint16_t *s = (uint16_t *)shared;
    for (unsigned i = threadIdx.x; i < 256; i += WARP) s[i] = ((const uint16_t *)g)[i];
    sync_warp();
    uint32_t r[4];
    load_matrix_x4(r, s + 8 * threadIdx.x);
    for (int i = 0; i < 4; i++) g[1024 + WARP * i + threadIdx.x] = float_of(r[i]);
    load_matrix_x4_transposed(r, s + 8 * threadIdx.x);
    for (int i = 0; i < 4; i++) g[1152 + WARP * i + threadIdx.x] = float_of(r[i]);
}

LCL_DEVICE void store_product(float *c, const float d[4])
{
    const unsigned row = threadIdx.x / 4, column = 2 * (threadIdx.x % 4);
    for (unsigned i = 0; i < 4; i++) c[(row + 8 * (i / 2)) * 8 + column + i % 2] = d[i];
}

/* g: a (16 x 16), from 256 on b (16 x 8), from 512 on d (16 x 8), from 1024 on the product. */
KERNEL(mma_in_bf16)
{
    const unsigned row = threadIdx.x / 4, pair = threadIdx.x % 4;
    uint32_t a[4], b[2];
    float d[4];
    for (unsigned i = 0; i < 4; i++) {
        const float *p = g + (row + 8 * (i % 2)) * 16 + 2 * pair + 8 * (i / 2);
        a[i] = pack_bf16(p[0], p[1]);
        d[i] = g[512 + (row + 8 * (i / 2)) * 8 + 2 * pair + i % 2];
    }
    for (unsigned i = 0; i < 2; i++) {
        const float *p = g + 256 + (2 * pair + 8 * i) * 8 + row;
        b[i] = pack_bf16(p[0], p[8]);
    }
    mma_bf16(d, a, b);
    store_product(g + 1024, d);
}

/* g: a (16 x 8), from 256 on b (8 x 8), from 512 on d (16 x 8), from 1024 on the product. */
KERNEL(mma_in_tf32)
{
    const unsigned row = threadIdx.x / 4, pair = threadIdx.x % 4;
    uint32_t a[4], b[2];
    float d[4];
    for (unsigned i = 0; i < 4; i++) {
        a[i] = bits_of(g[(row + 8 * (i % 2)) * 8 + pair + 4 * (i / 2)]);
        d[i] = g[512 + (row + 8 * (i / 2)) * 8 + 2 * pair + i % 2];
    }
    for (unsigned i = 0; i < 2; i++) b[i] = bits_of(g[256 + (pair + 4 * i) * 8 + row]);
    mma_tf32(d, a, b);
    store_product(g + 1024, d);
}

/* kernel, blocks, threads, bytes of shared memory */
#define KERNELS(X)              \
    X(in_warps, 1, 32, 0)       \
    X(in_numbers, 1, 256, 0)    \
    X(in_sixteens, 1, 32, 1024) \
    X(in_atomics, 4, 64, 0)     \
    X(in_matrices, 1, 32, 512)  \
    X(mma_in_bf16, 1, 32, 0)    \
    X(mma_in_tf32, 1, 32, 0)

lcl_status intrinsics_run(struct lcl_exec *ex, const char *name, float *g)
{
#define RUN(kernel, blocks, threads, bytes) \
    if (strcmp(name, #kernel) == 0)         \
        return LCL_LAUNCH(lcl_cuda_device_of(ex), kernel, dims(blocks), dims(threads), bytes, g);
    KERNELS(RUN)
    return LCL_FAIL(LCL_INTERNAL, "no kernel is called %s", name);
}
