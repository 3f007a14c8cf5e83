/* What kernels ask of the machine, each with two bodies: PTX or a builtin for nvcc, and a call into
 * the emulator (cuda/sim/) for the host's compiler. No other file has inline assembly.
 *
 * In the emulator every function also takes where it was called, for messages (SITE); helpers that
 * stand between hand it on (AT_SITE). Fragment layouts are those of the PTX manual: lane = 4 * row
 * + column pair. */
#ifndef LCL_CUDA_INTRINSICS_CUH
#define LCL_CUDA_INTRINSICS_CUH

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define LCL_DEVICE static __device__ __forceinline__
#define SITE
#define AT_SITE
#else
#include "core/dtype.h"
#include "cuda/sim/host.h"
#define LCL_DEVICE static inline __attribute__((always_inline, unused))
#define SITE , lcl_sim_site site = LCL_SIM_HERE
#define AT_SITE , site
#endif

/* bf16 as kernels see it; the same two bytes as lcl_bf16. */
struct bf16 {
    uint16_t bits;
};

/* Half precision, for casts alone. */
struct f16 {
    uint16_t bits;
};

/* 16 bytes: one load or store of a lane. */
struct alignas(16) u32x4 {
    uint32_t v[4];
};

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* --- bits --- */

LCL_DEVICE uint32_t bits_of(float x)
{
#if defined(__CUDACC__)
    return __float_as_uint(x);
#else
    return lcl_sim_bits(x);
#endif
}

LCL_DEVICE float float_of(uint32_t u)
{
#if defined(__CUDACC__)
    return __uint_as_float(u);
#else
    return lcl_sim_float(u);
#endif
}

LCL_DEVICE float to_f32(float x) { return x; }
LCL_DEVICE float to_f32(bf16 x) { return float_of((uint32_t)x.bits << 16); }

/* Two floats as bf16, rounded to nearest even: low in the low half. */
LCL_DEVICE uint32_t pack_bf16(float low, float high)
{
#if defined(__CUDACC__)
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return lcl_sim_pack_bf16(low, high);
#endif
}

LCL_DEVICE void from_f32(float x, float *out) { *out = x; }
LCL_DEVICE void from_f32(float x, bf16 *out)
{
    bf16 r = {(uint16_t)pack_bf16(x, 0.0f)};
    *out = r;
}

LCL_DEVICE float to_f32(f16 x)
{
#if defined(__CUDACC__)
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
    return r;
#else
    return lcl_f16_to_f32(x.bits);
#endif
}

LCL_DEVICE void from_f32(float x, f16 *out)
{
#if defined(__CUDACC__)
    f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
#else
    f16 r = {lcl_f32_to_f16(x)};
#endif
    *out = r;
}

/* 2^x: within 2 units in the last place. */
LCL_DEVICE float fast_exp2(float x)
{
#if defined(__CUDACC__)
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#else
    return exp2f(x);
#endif
}

/* 1 / x: within 1 unit in the last place; 0 for x above 2^126. */
LCL_DEVICE float fast_reciprocal(float x)
{
#if defined(__CUDACC__)
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#else
    return 1.0f / x;
#endif
}

LCL_DEVICE float rsqrt_f32(float x)
{
#if defined(__CUDACC__)
    return __frsqrt_rn(x);
#else
    return (float)(1.0 / sqrt((double)x));
#endif
}

/* --- memory --- */

LCL_DEVICE u32x4 load16(const void *p SITE)
{
#if defined(__CUDACC__)
    uint4 r = *(const uint4 *)p;
    return {{r.x, r.y, r.z, r.w}};
#else
    u32x4 r;
    lcl_sim_load16(r.v, p, &site);
    return r;
#endif
}

LCL_DEVICE void store16(void *p, u32x4 x SITE)
{
#if defined(__CUDACC__)
    *(uint4 *)p = make_uint4(x.v[0], x.v[1], x.v[2], x.v[3]);
#else
    lcl_sim_store16(p, x.v, &site);
#endif
}

/* cp.async: 16 bytes of global memory to shared, past the registers; `bytes` of them (0 or 16), the
 * rest zeros. They are there after a wait on their group, and a barrier for other threads. */
LCL_DEVICE void copy_async16(void *shared, const void *global, int bytes SITE)
{
#if defined(__CUDACC__)
    uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
#else
    lcl_sim_copy_async(shared, global, (size_t)bytes, 16, &site);
#endif
}

/* The same with 4 bytes. */
LCL_DEVICE void copy_async4(void *shared, const void *global, int bytes SITE)
{
#if defined(__CUDACC__)
    uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
#else
    lcl_sim_copy_async(shared, global, (size_t)bytes, 4, &site);
#endif
}

LCL_DEVICE void copy_commit()
{
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    lcl_sim_copy_commit();
#endif
}

/* All but the newest N groups have arrived. */
template <int N> LCL_DEVICE void copy_wait()
{
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    lcl_sim_copy_wait(N);
#endif
}

LCL_DEVICE void atomic_add(unsigned long long *p, unsigned long long x SITE)
{
#if defined(__CUDACC__)
    atomicAdd(p, x);
#else
    lcl_sim_atomic_add(p, x, &site);
#endif
}

/* Keeps the smaller. */
LCL_DEVICE void atomic_min(unsigned long long *p, unsigned long long x SITE)
{
#if defined(__CUDACC__)
    atomicMin(p, x);
#else
    lcl_sim_atomic_min(p, x, &site);
#endif
}

/* --- threads --- */

#if defined(__CUDACC__)
#define sync_block() __syncthreads()
#else
LCL_DEVICE void sync_block(lcl_sim_site site = LCL_SIM_HERE) { lcl_sim_barrier(&site); }
#endif

#if defined(__CUDACC__)
#define sync_warp() __syncwarp()
#else
LCL_DEVICE void sync_warp(lcl_sim_site site = LCL_SIM_HERE)
{
    lcl_sim_warp(&site, ALL_LANES, NULL, NULL);
}
#endif

/* x of lane (this lane xor m). All lanes take part, here and below. */
LCL_DEVICE uint32_t shuffle_xor(uint32_t x, int m SITE)
{
#if defined(__CUDACC__)
    return __shfl_xor_sync(ALL_LANES, x, m);
#else
    return lcl_sim_shuffle(x, (lcl_sim_lane() ^ (unsigned)m), &site);
#endif
}

LCL_DEVICE float shuffle_xor(float x, int m SITE)
{
#if defined(__CUDACC__)
    return __shfl_xor_sync(ALL_LANES, x, m);
#else
    return lcl_sim_float(lcl_sim_shuffle(lcl_sim_bits(x), (lcl_sim_lane() ^ (unsigned)m), &site));
#endif
}

/* x of lane `from`. */
LCL_DEVICE float shuffle(float x, int from SITE)
{
#if defined(__CUDACC__)
    return __shfl_sync(ALL_LANES, x, from);
#else
    return lcl_sim_float(lcl_sim_shuffle(lcl_sim_bits(x), (unsigned)from % WARP, &site));
#endif
}

/* The lanes whose x is not 0. */
LCL_DEVICE uint32_t vote(bool x SITE)
{
#if defined(__CUDACC__)
    return __ballot_sync(ALL_LANES, x);
#else
    return lcl_sim_vote(x, &site);
#endif
}

/* --- tensor cores --- */

/* Four 8 x 8 matrices of 16-bit elements from shared memory: lane l gives the address of row l % 8
 * of matrix l / 8 (16 bytes, 16-byte aligned) and gets in r[i] elements (row l / 4, columns 2 (l %
 * 4) and + 1) of matrix i; transposed: of its transpose. */
LCL_DEVICE void load_matrix_x4(uint32_t r[4], const void *row SITE)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    lcl_sim_load_matrix(r, row, false, &site);
#endif
}

LCL_DEVICE void load_matrix_x4_transposed(uint32_t r[4], const void *row SITE)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    lcl_sim_load_matrix(r, row, true, &site);
#endif
}

/* d += a b, 16 x 8 x 16 in bf16 with f32 sums. Lane l, with row = l / 4 and pair = l % 4:
 * a[0] (row, 2 pair), a[1] (row + 8, 2 pair), a[2] (row, 2 pair + 8), a[3] (row + 8, 2 pair + 8);
 * b[0] (2 pair, row), b[1] (2 pair + 8, row); d[0], d[1] (row, 2 pair), d[2], d[3] (row + 8, 2
 * pair); each with its right neighbour (b: the one below). */
LCL_DEVICE void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2] SITE)
{
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    lcl_sim_mma_bf16(d, a, b, &site);
#endif
}

/* d += a b, 16 x 8 x 8 in tf32 (f32 with 10 bits after the point; further bits are cut off) with
 * f32 sums. Lane l: a[0] (row, pair), a[1] (row + 8, pair), a[2] (row, pair + 4), a[3] (row + 8,
 * pair + 4); b[0] (pair, row), b[1] (pair + 4, row); d as of mma_bf16. */
LCL_DEVICE void mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2] SITE)
{
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    lcl_sim_mma_tf32(d, a, b, &site);
#endif
}

#endif
