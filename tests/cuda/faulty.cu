/* Kernels with one fault each, and right uses of the same means. All take `g`, FAULTY_FLOATS floats
 * of global memory. Long: forty small kernels. */
#include "tests/cuda/faulty.h"

#include <string.h>

#include "cuda/kernel.cuh"

#define KERNEL(name) static __global__ void name([[maybe_unused]] float *g)
#define SHARED_FLOATS(name)        \
    SHARED_BYTES(name##_as_bytes); \
    float *name = (float *)name##_as_bytes

/* --- where --- */

KERNEL(shared_past_end)
{
    SHARED_FLOATS(s);
    s[threadIdx.x + 1] = 1; /* fault: shared_past_end */
    g[threadIdx.x] = s[threadIdx.x + 1];
}

KERNEL(shared_before_begin)
{
    SHARED_FLOATS(s);
    s[(int)threadIdx.x - 1] = 1; /* fault: shared_before_begin */
}

KERNEL(global_past_end) { g[FAULTY_FLOATS + threadIdx.x] = 1; /* fault: global_past_end */ }

KERNEL(global_before_begin) { g[-1] = 1; /* fault: global_before_begin */ }

KERNEL(global_over_end)
{
    u32x4 r = load16(g + FAULTY_FLOATS - 4); /* fault: global_over_end */
    store16(g, r);
}

KERNEL(no_such_memory) { g[threadIdx.x] += 1; /* fault: no_such_memory */ }

KERNEL(misaligned_16)
{
    u32x4 r = load16(g + 1); /* fault: misaligned_16 */
    store16(g, r);
}

KERNEL(misaligned_4)
{
    float *p = (float *)((unsigned char *)g + 2);
    *p = 1; /* fault: misaligned_4 */
}

KERNEL(own_array_past_end)
{
    float x[4] = {g[0], g[1], g[2], g[3]};
    x[threadIdx.x % 5] += 1; /* fault: own_array_past_end */
    for (int i = 0; i < 4; i++) g[1024 + 4 * threadIdx.x + i] = x[i];
}

struct three {
    float x, y, z;
};
struct two {
    float x, y;
};

/* Aligned to 4 bytes is all that these need. */
KERNEL(structs_in_parts)
{
    if (threadIdx.x) return;
    three a = *(const three *)(g + 1);
    two b = *(const two *)(g + 5);
    *(three *)(g + 17) = a;
    *(two *)(g + 21) = b;
}

static __device__ const float primes[4] = {2, 3, 5, 7};
KERNEL(program_constants) { g[threadIdx.x] = primes[threadIdx.x % 4]; }

/* --- values --- */

KERNEL(shared_unwritten)
{
    SHARED_FLOATS(s);
    if (threadIdx.x != 7) s[threadIdx.x] = 1;
    sync_block();
    g[threadIdx.x] = s[threadIdx.x]; /* fault: shared_unwritten */
}

KERNEL(shared_of_last_block)
{
    SHARED_FLOATS(s);
    if (blockIdx.x == 1) s[threadIdx.x] = 1;
    sync_block();
    g[blockIdx.x * WARP + threadIdx.x] = s[threadIdx.x]; /* fault: shared_of_last_block */
}

KERNEL(fresh_unwritten)
{
    g[threadIdx.x] = g[FAULTY_FLOATS / 2 + threadIdx.x]; /* fault: fresh_unwritten */
}

KERNEL(fresh_atomic) { atomic_add((unsigned long long *)g, 1); /* fault: fresh_atomic */ }

KERNEL(fresh_written)
{
    g[threadIdx.x] = (float)threadIdx.x;
    sync_block();
    g[WARP + threadIdx.x] = g[threadIdx.x ^ 1];
}

/* --- races in shared memory --- */

LCL_DEVICE void begin_exchange(float *s)
{
    s[threadIdx.x] = 0;
    sync_block();
}

KERNEL(race_of_warps)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = 1; /* fault: race_of_warps */
    g[threadIdx.x] = s[threadIdx.x ^ WARP];
}

KERNEL(race_of_warps_that_met)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = 1; /* fault: race_of_warps_that_met */
    sync_warp();
    g[threadIdx.x] = s[threadIdx.x ^ WARP]; /* fault: race_of_warps_that_met */
}

KERNEL(race_of_lanes)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = 1; /* fault: race_of_lanes */
    g[threadIdx.x] = s[threadIdx.x ^ 1];
}

KERNEL(barrier_between)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = (float)threadIdx.x;
    sync_block();
    g[threadIdx.x] = s[threadIdx.x ^ WARP];
}

KERNEL(sync_warp_between)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = (float)threadIdx.x;
    sync_warp();
    g[threadIdx.x] = s[threadIdx.x ^ 1];
    sync_warp();
    s[threadIdx.x ^ 1] = 1;
}

KERNEL(shuffle_between)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    s[threadIdx.x] = (float)threadIdx.x;
    g[2 * WARP + threadIdx.x] = shuffle((float)threadIdx.x, 0);
    g[threadIdx.x] = s[threadIdx.x ^ 1]; /* fault: shuffle_between */
}

KERNEL(neighbours_of_two_bytes)
{
    SHARED_BYTES(shared);
    bf16 *s = (bf16 *)shared;
    from_f32((float)threadIdx.x, &s[threadIdx.x]);
    g[threadIdx.x] = to_f32(s[threadIdx.x]);
    from_f32(1, (bf16 *)(g + 256) + threadIdx.x);
}

KERNEL(read_then_written)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    g[threadIdx.x] = s[0];          /* fault: read_then_written */
    if (threadIdx.x == 5) s[0] = 1; /* fault: read_then_written */
}

/* All read; the writer's own warp has met since. */
KERNEL(read_by_warps_then_written)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    g[threadIdx.x] = s[0]; /* fault: read_by_warps_then_written */
    sync_warp();
    if (threadIdx.x == 2 * WARP - 1) s[0] = 1; /* fault: read_by_warps_then_written */
}

KERNEL(read_by_lanes_then_written)
{
    SHARED_FLOATS(s);
    begin_exchange(s);
    g[threadIdx.x] = s[0];
    sync_warp();
    if (threadIdx.x == 5) s[0] = 1;
    sync_warp();
    g[WARP + threadIdx.x] = s[0];
}

/* --- races in global memory --- */

KERNEL(blocks_write) { g[threadIdx.x] = 1; /* fault: blocks_write */ }

KERNEL(blocks_read_and_write)
{
    g[1024 + blockIdx.x * WARP + threadIdx.x] = g[threadIdx.x]; /* fault: blocks_read_and_write */
    if (blockIdx.x == 1) g[threadIdx.x] = 1;                    /* fault: blocks_read_and_write */
}

KERNEL(warps_write) { g[threadIdx.x % WARP] = 1; /* fault: warps_write */ }

KERNEL(blocks_read) { g[1024 + blockIdx.x * blockDim.x + threadIdx.x] = g[threadIdx.x] + g[0]; }

/* --- atomics --- */

KERNEL(atomics)
{
    SHARED_BYTES(shared);
    unsigned long long *s = (unsigned long long *)shared, *out = (unsigned long long *)g;
    if (threadIdx.x == 0) *s = 0;
    sync_block();
    atomic_add(s, threadIdx.x);
    atomic_add(out, blockIdx.x * blockDim.x + threadIdx.x);
    atomic_min(out + 1, 1000 + (blockIdx.x * blockDim.x + threadIdx.x) * 7 % 256);
    sync_block();
    if (threadIdx.x == 0) out[2 + blockIdx.x] = *s;
}

KERNEL(atomic_then_read)
{
    SHARED_BYTES(shared);
    unsigned long long *s = (unsigned long long *)shared;
    if (threadIdx.x == 0) *s = 0;
    sync_block();
    atomic_add(s, 1);                                    /* fault: atomic_then_read */
    if (threadIdx.x == blockDim.x - 1) g[0] = (float)*s; /* fault: atomic_then_read */
}

KERNEL(written_then_atomic)
{
    SHARED_BYTES(shared);
    unsigned long long *s = (unsigned long long *)shared;
    if (threadIdx.x == 0) *s = 0; /* fault: written_then_atomic */
    atomic_add(s, 1);             /* fault: written_then_atomic */
}

KERNEL(block_written_then_atomic)
{
    unsigned long long *out = (unsigned long long *)g;
    if (blockIdx.x == 0 && threadIdx.x == 0) *out = 0; /* fault: block_written_then_atomic */
    sync_block();
    atomic_add(out, 1); /* fault: block_written_then_atomic */
}

KERNEL(block_atomic_then_read)
{
    unsigned long long *out = (unsigned long long *)g;
    atomic_add(out, 1); /* fault: block_atomic_then_read */
    sync_block();
    if (threadIdx.x == 0) g[16 + blockIdx.x] = (float)*out; /* fault: block_atomic_then_read */
}

KERNEL(read_then_atomic)
{
    unsigned long long *out = (unsigned long long *)g;
    if (threadIdx.x == 0) g[64] = (float)*out; /* fault: read_then_atomic */
    atomic_add(out, 1);                        /* fault: read_then_atomic */
}

/* --- barriers and warps --- */

KERNEL(two_barriers)
{
    if (threadIdx.x < WARP)
        sync_block(); /* fault: two_barriers */
    else
        sync_block(); /* fault: two_barriers */
    g[threadIdx.x] = 1;
}

KERNEL(barrier_after_return)
{
    if (threadIdx.x == 5) return;
    sync_block(); /* fault: barrier_after_return */
    g[threadIdx.x] = 1;
}

KERNEL(barrier_and_warp)
{
    if (threadIdx.x % 2)
        sync_block(); /* fault: barrier_and_warp */
    else
        sync_warp(); /* fault: barrier_and_warp */
    g[threadIdx.x] = 1;
}

KERNEL(lane_has_ended)
{
    if (threadIdx.x == 3) return;
    sync_warp(); /* fault: lane_has_ended */
    g[threadIdx.x] = 1;
}

KERNEL(part_of_a_warp)
{
    sync_warp(); /* fault: part_of_a_warp */
    g[threadIdx.x] = 1;
}

KERNEL(two_warp_ops)
{
    if (threadIdx.x < WARP / 2)
        sync_warp(); /* fault: two_warp_ops */
    else
        g[threadIdx.x] = (float)vote(true); /* fault: two_warp_ops */
}

KERNEL(one_warp_op_twice)
{
    if (threadIdx.x < WARP / 2)
        g[threadIdx.x] = shuffle(1, 0); /* fault: one_warp_op_twice */
    else
        g[threadIdx.x] = shuffle(2, 1); /* fault: one_warp_op_twice */
}

/* --- asynchronous copies: 16 bytes a thread --- */

KERNEL(copy_without_wait)
{
    SHARED_FLOATS(s);
    copy_async16(s + 4 * threadIdx.x, g + 4 * threadIdx.x, 16);
    copy_commit();
    g[1024 + threadIdx.x] = s[4 * threadIdx.x]; /* fault: copy_without_wait */
}

KERNEL(copy_without_commit)
{
    SHARED_FLOATS(s);
    copy_async16(s + 4 * threadIdx.x, g + 4 * threadIdx.x, 16);
    copy_wait<0>();
    g[1024 + threadIdx.x] = s[4 * threadIdx.x]; /* fault: copy_without_commit */
}

KERNEL(copy_of_newest_group)
{
    SHARED_FLOATS(s);
    float *mine = s + 4 * threadIdx.x;
    for (int i = 0; i < 2; i++) {
        copy_async16(mine + 4 * WARP * i, g + 4 * threadIdx.x, 16);
        copy_commit();
    }
    copy_wait<1>();
    g[1024 + threadIdx.x] = mine[0] + mine[4 * WARP]; /* fault: copy_of_newest_group */
}

KERNEL(copy_without_barrier)
{
    SHARED_FLOATS(s);
    copy_async16(s + 4 * threadIdx.x, g + 4 * threadIdx.x, 16);
    copy_commit();
    sync_block();
    copy_wait<0>();
    if (threadIdx.x)
        g[1024 + threadIdx.x] = s[4 * threadIdx.x - 4]; /* fault: copy_without_barrier */
}

KERNEL(copy_left)
{
    SHARED_FLOATS(s);
    copy_async16(s + 4 * threadIdx.x, g + 4 * threadIdx.x, 16);
    copy_commit();
}

KERNEL(copy_into_global)
{
    copy_async16(g + 1024, g, 16); /* fault: copy_into_global */
    copy_commit();
    copy_wait<0>();
}

KERNEL(copy_misaligned)
{
    SHARED_FLOATS(s);
    copy_async16(s + 4 * threadIdx.x, g + 1 + 4 * threadIdx.x, 16); /* fault: copy_misaligned */
    copy_commit();
    copy_wait<0>();
}

/* Two stages in turn; the last of four is zeros, and its source is nowhere. */
KERNEL(copy_right)
{
    SHARED_FLOATS(s);
    for (int i = 0; i < 5; i++) {
        if (i < 4)
            copy_async16(s + (i % 2 * WARP + threadIdx.x) * 4,
                         i < 3 ? g + (i * WARP + threadIdx.x) * 4 : NULL, i < 3 ? 16 : 0);
        copy_commit();
        if (!i) continue;
        copy_wait<1>();
        sync_block();
        u32x4 r = load16(s + ((i - 1) % 2 * WARP + (threadIdx.x ^ 1)) * 4);
        store16(g + 1024 + ((i - 1) * WARP + (threadIdx.x ^ 1)) * 4, r);
        sync_block();
    }
}

/* --- schedules and stacks --- */

KERNEL(sums)
{
    SHARED_FLOATS(slots);
    float sum = block_sum(g[blockIdx.x * blockDim.x + threadIdx.x], slots);
    g[2048 + blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

static __device__ __attribute__((noinline)) float deep(volatile float *above, int depth)
{
    volatile float here[256];
    for (int i = 0; i < 256; i++) here[i] = (float)i + above[i];
    if (depth == 0) {
        sync_block();
        return shuffle_xor(here[255], 1);
    }
    float sum = deep(here, depth - 1);
    return sum + here[255];
}

/* Each level needs somewhat more than 1 KiB. */
KERNEL(deep_stacks)
{
    volatile float here[256];
    for (int i = 0; i < 256; i++) here[i] = (float)threadIdx.x;
    g[threadIdx.x] = deep(here, 30);
}

KERNEL(deeper_stacks)
{
    volatile float here[256];
    for (int i = 0; i < 256; i++) here[i] = (float)threadIdx.x;
    g[threadIdx.x] = deep(here, threadIdx.x == 9 ? 70 : 0);
}

/* --- counting --- */

KERNEL(counted)
{
    SHARED_FLOATS(s);
    const unsigned t = threadIdx.x;
    float x = g[t];         /* count: in a row */
    x += g[8 * t];          /* count: a sector each */
    s[t] = x;               /* count: a bank each */
    s[WARP * t + WARP] = x; /* count: one bank */
    sync_block();
    u32x4 r = load16(s + t / 8 * 4); /* count: of one word */
    for (unsigned i = 0; i < t % 2 + 1; i++)
        g[1024 + WARP * i + t] = float_of(r.v[i]); /* count: some lanes twice */
}

/* --- what the tests call --- */

/* kernel, blocks, threads, floats of shared memory */
#define KERNELS(X)                           \
    X(shared_past_end, 1, 32, 32)            \
    X(shared_before_begin, 1, 32, 32)        \
    X(global_past_end, 1, 32, 0)             \
    X(global_before_begin, 1, 32, 0)         \
    X(global_over_end, 1, 32, 0)             \
    X(no_such_memory, 1, 32, 0)              \
    X(misaligned_16, 1, 32, 0)               \
    X(misaligned_4, 1, 32, 0)                \
    X(own_array_past_end, 1, 32, 0)          \
    X(structs_in_parts, 1, 32, 0)            \
    X(program_constants, 1, 32, 0)           \
    X(shared_unwritten, 1, 32, 32)           \
    X(shared_of_last_block, 3, 32, 32)       \
    X(fresh_unwritten, 1, 32, 0)             \
    X(fresh_atomic, 1, 32, 0)                \
    X(fresh_written, 1, 32, 0)               \
    X(race_of_warps, 1, 64, 64)              \
    X(race_of_warps_that_met, 1, 64, 64)     \
    X(race_of_lanes, 1, 64, 64)              \
    X(barrier_between, 1, 64, 64)            \
    X(sync_warp_between, 1, 64, 64)          \
    X(shuffle_between, 1, 64, 64)            \
    X(neighbours_of_two_bytes, 1, 64, 64)    \
    X(read_then_written, 1, 32, 32)          \
    X(read_by_warps_then_written, 1, 64, 64) \
    X(read_by_lanes_then_written, 1, 32, 32) \
    X(blocks_write, 2, 32, 0)                \
    X(blocks_read_and_write, 3, 32, 0)       \
    X(warps_write, 1, 64, 0)                 \
    X(blocks_read, 4, 64, 0)                 \
    X(atomics, 4, 64, 2)                     \
    X(atomic_then_read, 1, 32, 2)            \
    X(written_then_atomic, 1, 64, 2)         \
    X(block_written_then_atomic, 2, 32, 0)   \
    X(block_atomic_then_read, 2, 32, 0)      \
    X(read_then_atomic, 1, 64, 0)            \
    X(two_barriers, 1, 64, 0)                \
    X(barrier_after_return, 1, 64, 0)        \
    X(barrier_and_warp, 1, 64, 0)            \
    X(lane_has_ended, 1, 32, 0)              \
    X(part_of_a_warp, 1, 48, 0)              \
    X(two_warp_ops, 1, 32, 0)                \
    X(one_warp_op_twice, 1, 32, 0)           \
    X(copy_without_wait, 1, 32, 128)         \
    X(copy_without_commit, 1, 32, 128)       \
    X(copy_of_newest_group, 1, 32, 256)      \
    X(copy_without_barrier, 1, 32, 128)      \
    X(copy_left, 1, 32, 128)                 \
    X(copy_into_global, 1, 32, 128)          \
    X(copy_misaligned, 1, 32, 128)           \
    X(copy_right, 1, 32, 256)                \
    X(sums, 4, 256, 32)                      \
    X(deep_stacks, 1, 1024, 0)               \
    X(deeper_stacks, 1, 32, 0)               \
    X(counted, 1, 32, 1056)

lcl_status faulty_run(const char *name, float *global)
{
    struct lcl_cuda_device d = {};
#define RUN(kernel, blocks, threads, floats)                                                 \
    if (strcmp(name, #kernel) == 0)                                                          \
        return LCL_LAUNCH(&d, kernel, dims(blocks), dims(threads), (floats) * sizeof(float), \
                          global);
    KERNELS(RUN)
    return LCL_FAIL(LCL_INTERNAL, "no kernel is called %s", name);
}

static __global__ void nothing_kernel(int unused) { (void)unused; }

lcl_status faulty_launch(const unsigned grid[3], const unsigned block[3], size_t shared_bytes)
{
    struct lcl_cuda_device d = {};
    return LCL_LAUNCH(&d, nothing_kernel, dims(grid[0], grid[1], grid[2]),
                      dims(block[0], block[1], block[2]), shared_bytes, 0);
}
