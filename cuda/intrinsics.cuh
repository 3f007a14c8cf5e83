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

/* --- Hopper (sm_90a): barriers in shared memory, bulk copies, products of warpgroups --- */

enum { WARPGROUP = 128 };

/* A box of a tensor, to be copied to shared memory; made by tensor_map_make() (tensor_map.cuh). */
struct alignas(64) tensor_map {
    uint64_t opaque[16];
};

/* What of shared memory the machine's descriptors call an address. */
LCL_DEVICE uint32_t shared_address(const void *p)
{
#if defined(__CUDACC__)
    return (uint32_t)__cvta_generic_to_shared(p);
#else
    return lcl_sim_shared_address(p);
#endif
}

/* mbarrier, 8 bytes of shared memory: its phase ends when `arrivals` arrivals are there and all
 * bytes that were announced. Then the next begins. */
LCL_DEVICE void mbarrier_init(uint64_t *b, int arrivals SITE)
{
#if defined(__CUDACC__)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals)
                 : "memory");
#else
    lcl_sim_mbarrier_init(b, arrivals, &site);
#endif
}

/* Bulk copies see the barriers that this thread has made. Others: after a barrier of the block. */
LCL_DEVICE void mbarrier_init_fence()
{
#if defined(__CUDACC__)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    lcl_sim_mbarrier_init_fence();
#endif
}

LCL_DEVICE void mbarrier_arrive(uint64_t *b SITE)
{
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
#else
    lcl_sim_mbarrier_arrive(b, 0, &site);
#endif
}

/* Arrives, and announces bytes that bulk copies will bring in this phase. */
LCL_DEVICE void mbarrier_arrive_expect(uint64_t *b, int bytes SITE)
{
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)),
                 "r"(bytes)
                 : "memory");
#else
    lcl_sim_mbarrier_arrive(b, bytes, &site);
#endif
}

/* Until the phase of this parity (0 for the first, 1 for the second, and so on) has ended. On a
 * fresh barrier parity 1 is past. */
LCL_DEVICE void mbarrier_wait(uint64_t *b, int parity SITE)
{
#if defined(__CUDACC__)
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra ended;\n"
                 "bra again;\n"
                 "ended:\n"
                 "}" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
#else
    lcl_sim_mbarrier_wait(b, parity, &site);
#endif
}

/* TMA: the map's box from element x of row `row` of head `head` on, to shared memory (swizzled, as
 * the map says; zeros where the tensor ends); its bytes count for the barrier's phase. */
LCL_DEVICE void bulk_load(void *shared, const tensor_map *map, int x, int head, int row,
                          uint64_t *b SITE)
{
#if defined(__CUDACC__)
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(shared)),
                 "l"(map), "r"(x), "r"(head), "r"(row), "r"(shared_address(b))
                 : "memory");
#else
    const int at[3] = {x, head, row};
    lcl_sim_bulk_load(shared, (const struct lcl_sim_tensor_map *)map, at, b, &site);
#endif
}

/* What this thread wrote to shared memory so far is seen by bulk copies and products of
 * warpgroups, which do not go the way of ordinary accesses. */
LCL_DEVICE void async_proxy_fence()
{
#if defined(__CUDACC__)
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
    lcl_sim_proxy_fence();
#endif
}

/* The warps of this warpgroup give registers back, or take more, to have N each. */
template <int N> LCL_DEVICE void registers_lower()
{
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes 24 to 256 in steps of 8");
#if defined(__CUDACC__)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N> LCL_DEVICE void registers_raise()
{
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes 24 to 256 in steps of 8");
#if defined(__CUDACC__)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

/* Operand of a product in shared memory, in rows of row_bytes (128, 64 or 32; 16-byte pieces
 * swizzled over 8 rows as bulk copies lay them), groups of 8 rows stride_bytes apart. Rows along
 * the depth: columns past a row's end stand leading_bytes further. Else a row holds depth, and what
 * is multiplied begins at `tile`. 16 bytes are 1 of the descriptor: add to move on. */
LCL_DEVICE uint64_t wgmma_descriptor(const void *tile, int leading_bytes, int stride_bytes,
                                     int row_bytes)
{
    const uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
    return (uint64_t)((shared_address(tile) & 0x3ffff) >> 4) |
           (uint64_t)(leading_bytes >> 4) << 16 | (uint64_t)(stride_bytes >> 4) << 32 |
           swizzle << 62;
}

#if defined(__CUDACC__)
/* Their value is made before this point, or used after it. */
template <int R> LCL_DEVICE void hold(float (&d)[R][4])
{
#pragma unroll
    for (int i = 0; i < R; i++)
        asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
}
template <int R> LCL_DEVICE void hold(uint32_t (&a)[R][4])
{
#pragma unroll
    for (int i = 0; i < R; i++)
        asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}
#endif

/* Before products that use registers (named here) which other instructions have touched. */
template <typename... R> LCL_DEVICE void wgmma_fence(R &...registers)
{
#if defined(__CUDACC__)
    (hold(registers), ...);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    ((void)registers, ...);
    lcl_sim_wgmma_fence();
#endif
}

/* The products so far that are in no group are one. */
LCL_DEVICE void wgmma_commit()
{
#if defined(__CUDACC__)
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    lcl_sim_wgmma_commit();
#endif
}

/* All but the newest N groups are done, and with them the registers named. */
template <int N, typename... R> LCL_DEVICE void wgmma_wait(R &...registers)
{
#if defined(__CUDACC__)
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
    (hold(registers), ...);
#else
    ((void)registers, ...);
    lcl_sim_wgmma_wait(N);
#endif
}

#if defined(__CUDACC__)
#define D_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define D_16 D_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define D_32                                                            \
    D_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27" \
         ", %28, %29, %30, %31"
#define D_48                                                            \
    D_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43" \
         ", %44, %45, %46, %47"
#define D_64                                                            \
    D_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59" \
         ", %60, %61, %62, %63"
#define OUT_4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define OUT_8(i) OUT_4(i), OUT_4(i + 1)
#define OUT_16(i) OUT_8(i), OUT_8(i + 2)
#define OUT_32(i) OUT_16(i), OUT_16(i + 4)
#define OUT_48(i) OUT_32(i), OUT_16(i + 8)
#define OUT_64(i) OUT_32(i), OUT_32(i + 8)
/* n: columns, r: registers of d, then the text of the operands after d by their numbers */
#define WGMMA(n, r, operands, transposed, add, ...)                                 \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add ", 0;\n"               \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" D_##r \
                 "}, " operands ", add, 1, 1, " transposed ";\n}"                   \
                 : OUT_##r(0)                                                       \
                 : __VA_ARGS__, "r"((int)accumulate))
#endif

/* d (64 x 8 R, this warpgroup's; each warp has 16 rows, in the layout of mma_bf16) = a b^T in bf16,
 * or += it; 16 columns of a and b, whose rows hold depth in shared memory. Done after a wait. */
template <int R>
LCL_DEVICE void wgmma_rows(float (&d)[R][4], uint64_t a, uint64_t b, bool accumulate SITE)
{
#if defined(__CUDACC__)
    static_assert(R == 8 || R == 16, "8 R columns");
    if constexpr (R == 8) WGMMA(64, 32, "%32, %33", "0, 0", "%34", "l"(a), "l"(b));
    if constexpr (R == 16) WGMMA(128, 64, "%64, %65", "0, 0", "%66", "l"(a), "l"(b));
#else
    lcl_sim_wgmma(&d[0][0], R, a, NULL, b, false, accumulate, &site);
#endif
}

/* d += a b: 16 columns of a from registers (as of mma_bf16), 16 rows of b, which hold d's columns.
 */
template <int R>
LCL_DEVICE void wgmma_columns(float (&d)[R][4], const uint32_t (&a)[4], uint64_t b SITE)
{
#if defined(__CUDACC__)
    const bool accumulate = true;
#define A_4 "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
    static_assert(R == 2 || R == 4 || R == 8 || R == 12 || R == 16, "8 R columns");
    if constexpr (R == 2) WGMMA(16, 8, "{%8, %9, %10, %11}, %12", "1", "%13", A_4);
    if constexpr (R == 4) WGMMA(32, 16, "{%16, %17, %18, %19}, %20", "1", "%21", A_4);
    if constexpr (R == 8) WGMMA(64, 32, "{%32, %33, %34, %35}, %36", "1", "%37", A_4);
    if constexpr (R == 12) WGMMA(96, 48, "{%48, %49, %50, %51}, %52", "1", "%53", A_4);
    if constexpr (R == 16) WGMMA(128, 64, "{%64, %65, %66, %67}, %68", "1", "%69", A_4);
#undef A_4
#else
    lcl_sim_wgmma(&d[0][0], R, 0, a, b, true, true, &site);
#endif
}

#endif
