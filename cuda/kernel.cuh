/* What every .cu file stands on: launching, elements of two dtypes, sums over a warp and a block.
 * Legend: T element type (float, bf16), V elements that one lane loads at once. */
#ifndef LCL_CUDA_KERNEL_CUH
#define LCL_CUDA_KERNEL_CUH

#include "core/ops_check.h"
#include "cuda/cuda.h"
#include "cuda/device.h"
#include "cuda/intrinsics.cuh"

/* Dynamic shared memory of the block, as bytes. */
#if defined(__CUDACC__)
#define SHARED_BYTES(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#define SHARED_BYTES(name) unsigned char *name = (unsigned char *)lcl_sim_shared()
#endif

/* --- launching --- */

#define LCL_CUDA_TRY(expr)                                                                       \
    do {                                                                                         \
        cudaError_t lcl_cuda_error_ = (expr);                                                    \
        if (lcl_cuda_error_ != cudaSuccess)                                                      \
            return LCL_FAIL(LCL_INTERNAL, "%s: %s", #expr, cudaGetErrorString(lcl_cuda_error_)); \
    } while (0)

/* kernel<<<grid, block, shared_bytes, the device's stream>>>(args...), checked. Nothing runs where
 * the grid is empty. A kernel with template arguments stands in parentheses. */
#define LCL_LAUNCH(device, kernel, grid, block, shared_bytes, ...) \
    lcl_launch(#kernel, kernel, device, grid, block, shared_bytes, __VA_ARGS__)

template <typename... P, typename... A>
static lcl_status lcl_launch(const char *name, void (*kernel)(P...), struct lcl_cuda_device *d,
                             dim3 grid, dim3 block, size_t shared_bytes, A... args)
{
    if (!grid.x || !grid.y || !grid.z) return LCL_OK;
#if defined(__CUDACC__)
    if (shared_bytes > 48 * 1024)
        LCL_CUDA_TRY(cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes));
    kernel<<<grid, block, shared_bytes, (cudaStream_t)d->stream>>>(static_cast<P>(args)...);
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess && d->synchronous) e = cudaStreamSynchronize((cudaStream_t)d->stream);
    if (e != cudaSuccess)
        return LCL_FAIL(LCL_INTERNAL, "%s: %s (grid %u x %u x %u, block %u, %zu bytes shared)",
                        name, cudaGetErrorString(e), grid.x, grid.y, grid.z, block.x, shared_bytes);
    return LCL_OK;
#else
    (void)d;
    auto call = [=]() { kernel(static_cast<P>(args)...); };
    struct lcl_sim_launch l = {name,
                               grid,
                               block,
                               shared_bytes,
                               [](void *c) { (*static_cast<decltype(call) *>(c))(); },
                               &call,
                               sizeof call,
                               (uintptr_t)kernel};
    return lcl_sim_run(&l);
#endif
}

static inline unsigned blocks_for(int64_t n, int64_t a_block)
{
    return (unsigned)((n + a_block - 1) / a_block);
}
static inline dim3 dims(unsigned x, unsigned y = 1, unsigned z = 1)
{
    dim3 d = {x, y, z};
    return d;
}

/* Calls f<float>(...) or f<bf16>(...) by dtype. */
#define BY_DTYPE(dtype, f, ...)                 \
    ((dtype) == LCL_F32 ? f<float>(__VA_ARGS__) \
     : (dtype) == LCL_BF16                      \
         ? f<bf16>(__VA_ARGS__)                 \
         : LCL_FAIL(LCL_UNSUPPORTED, "%s: dtype %s; f32 and bf16", #f, lcl_dtype_name(dtype)))

/* Elements of T in 16 bytes. */
template <typename T> constexpr int wide() { return 16 / (int)sizeof(T); }
/* Elements of a lane where bf16 and f32 are read side by side: 8 bytes and 16, so that the lanes of
 * a warp leave no gaps in either. Where f32 may be (all_wide<float>), bf16 may. */
enum { MIXED = 4 };
/* All the pointers are 16-byte aligned (NULL is), and rows of n elements keep them so. */
template <typename T> static inline bool all_wide(int64_t n) { return n % wide<T>() == 0; }
template <typename T, typename... P>
static inline bool all_wide(int64_t n, const void *p, P... more)
{
    return (uintptr_t)p % 16 == 0 && all_wide<T>(n, more...);
}

/* --- elements --- */

template <int V> LCL_DEVICE void load_elements(const float *p, float x[V] SITE)
{
    if constexpr (V == 1) {
        x[0] = p[0];
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 4) {
            u32x4 r = load16(p + i AT_SITE);
#pragma unroll
            for (int j = 0; j < 4; j++) x[i + j] = float_of(r.v[j]);
        }
    }
}

template <int V> LCL_DEVICE void load_elements(const bf16 *p, float x[V] SITE)
{
    if constexpr (V == 1) {
        x[0] = to_f32(p[0]);
    } else if constexpr (V == 4) {
        const uint64_t r = *(const uint64_t *)p;
        const uint32_t low = (uint32_t)r, high = (uint32_t)(r >> 32);
        x[0] = float_of(low << 16), x[1] = float_of(low & 0xffff0000u);
        x[2] = float_of(high << 16), x[3] = float_of(high & 0xffff0000u);
    } else {
        static_assert(V % 8 == 0, "bf16 rows are read 4 or 8 at a time");
#pragma unroll
        for (int i = 0; i < V; i += 8) {
            u32x4 r = load16(p + i AT_SITE);
#pragma unroll
            for (int j = 0; j < 8; j++)
                x[i + j] = float_of(j % 2 ? r.v[j / 2] & 0xffff0000u : r.v[j / 2] << 16);
        }
    }
}

template <int V> LCL_DEVICE void store_elements(float *p, const float x[V] SITE)
{
    if constexpr (V == 1) {
        p[0] = x[0];
    } else if constexpr (V == 2) {
        *(uint64_t *)p = bits_of(x[0]) | (uint64_t)bits_of(x[1]) << 32;
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 4) {
            u32x4 r = {{bits_of(x[i]), bits_of(x[i + 1]), bits_of(x[i + 2]), bits_of(x[i + 3])}};
            store16(p + i, r AT_SITE);
        }
    }
}

template <int V> LCL_DEVICE void store_elements(bf16 *p, const float x[V] SITE)
{
    if constexpr (V == 1) {
        from_f32(x[0], p);
    } else if constexpr (V == 4) {
        *(uint64_t *)p = pack_bf16(x[0], x[1]) | (uint64_t)pack_bf16(x[2], x[3]) << 32;
    } else {
        static_assert(V % 8 == 0, "bf16 rows are written 4 or 8 at a time");
#pragma unroll
        for (int i = 0; i < V; i += 8) {
            u32x4 r = {{pack_bf16(x[i], x[i + 1]), pack_bf16(x[i + 2], x[i + 3]),
                        pack_bf16(x[i + 4], x[i + 5]), pack_bf16(x[i + 6], x[i + 7])}};
            store16(p + i, r AT_SITE);
        }
    }
}

/* --- sums --- */

/* The sum over the warp, in every lane, by a fixed tree. */
LCL_DEVICE float warp_sum(float x)
{
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2) x += shuffle_xor(x, m);
    return x;
}

LCL_DEVICE float warp_max(float x)
{
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2) x = fmaxf(x, shuffle_xor(x, m));
    return x;
}

/* The sum over the block's threads, in every thread, in a fixed order. `slots`: shared, 32 floats,
 * free to be written when all threads come here; free again at the next barrier after it. */
LCL_DEVICE float block_sum(float x, float *slots)
{
    unsigned warps = (blockDim.x + WARP - 1) / WARP;
    x = warp_sum(x);
    if (warps == 1) return x;
    if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = x;
    sync_block();
    float sum = 0;
    for (unsigned w = 0; w < warps; w++) sum += slots[w];
    return sum;
}

#endif
