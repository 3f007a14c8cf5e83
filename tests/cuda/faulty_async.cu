/* Faulty uses of what sm_90a brings: mbarriers, bulk copies, products of warpgroups. `map`: g as
 * 128 rows of 64 bf16, in boxes of 8 rows, 1,024 bytes. */
#include <string.h>

#include "cuda/tensor_map.cuh"
#include "tests/cuda/faulty.h"

#define KERNEL(name)                                       \
    static __global__ void name([[maybe_unused]] float *g, \
                                [[maybe_unused]] const __grid_constant__ tensor_map map)

enum { BOX_BYTES = 1024, OPERAND_BYTES = 8 * BOX_BYTES, TILE_BYTES = 2 * OPERAND_BYTES };

/* Shared memory: a tile of 128 rows of 64 bf16, then mbarriers. */
LCL_DEVICE uint64_t *barriers(unsigned char *shared) { return (uint64_t *)(shared + TILE_BYTES); }

LCL_DEVICE void begin(unsigned char *shared, int arrivals)
{
    if (threadIdx.x == 0) {
        for (int i = 0; i < 4; i++) mbarrier_init(barriers(shared) + i, arrivals);
        mbarrier_init_fence();
    }
    sync_block();
}

#define BITS_AT(shared, i) (((const float *)shared)[i])

/* --- bulk copies --- */

KERNEL(bulk_without_wait)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    g[0] = BITS_AT(shared, 0); /* fault: bulk_without_wait */
    mbarrier_wait(barriers(shared), 0);
}

/* Thread 0 waits, and tells nobody. */
KERNEL(bulk_waited_for_by_another)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
        bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    }
    sync_block();
    if (threadIdx.x == 0) mbarrier_wait(barriers(shared), 0);
    if (threadIdx.x == WARP) g[0] = BITS_AT(shared, 0); /* fault: bulk_waited_for_by_another */
}

KERNEL(bulk_waited_for_in_another_phase)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    mbarrier_wait(barriers(shared), 1);
    g[0] = BITS_AT(shared, 0); /* fault: bulk_waited_for_in_another_phase */
}

KERNEL(bulk_of_a_phase_that_never_comes)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    mbarrier_wait(barriers(shared), 0);
    mbarrier_wait(barriers(shared), 1); /* fault: bulk_of_a_phase_that_never_comes */
}

KERNEL(bulk_expects_more)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES + 16);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    mbarrier_wait(barriers(shared), 0); /* fault: bulk_expects_more */
}

KERNEL(bulk_expects_less)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES - 16);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared));
    mbarrier_wait(barriers(shared), 0);
}

KERNEL(bulk_for_an_unfenced_mbarrier)
{
    SHARED_BYTES(shared);
    uint64_t *in = barriers(shared);
    if (threadIdx.x) return;
    mbarrier_init(in, 1);
    mbarrier_arrive_expect(in, BOX_BYTES);
    bulk_load(shared, &map, 0, 0, 0, in); /* fault: bulk_for_an_unfenced_mbarrier */
    mbarrier_wait(in, 0);
}

KERNEL(bulk_for_no_mbarrier)
{
    SHARED_BYTES(shared);
    if (threadIdx.x == 0)
        bulk_load(shared, &map, 0, 0, 0, barriers(shared)); /* fault: bulk_for_no_mbarrier */
}

KERNEL(bulk_misaligned)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    bulk_load(shared + 64, &map, 0, 0, 0, barriers(shared)); /* fault: bulk_misaligned */
}

KERNEL(bulk_past_shared_end)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x) return;
    bulk_load(shared + 2 * TILE_BYTES - 512, &map, 0, 0, 0, /* fault: bulk_past_shared_end */
              barriers(shared));
}

KERNEL(bulk_left)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x == 0) bulk_load(shared, &map, 0, 0, 0, barriers(shared));
}

KERNEL(bulk_over_unfenced_writes)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    ((float *)shared)[threadIdx.x] = 0;
    sync_block();
    if (threadIdx.x) return;
    mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
    bulk_load(shared, &map, 0, 0, 0, barriers(shared)); /* fault: bulk_over_unfenced_writes */
    mbarrier_wait(barriers(shared), 0);
}

/* --- mbarriers --- */

KERNEL(arrival_too_many)
{
    SHARED_BYTES(shared);
    begin(shared, 2);
    if (threadIdx.x < 3) mbarrier_arrive(barriers(shared)); /* two end the phase, one more begins */
    sync_block();
    if (threadIdx.x == 0) mbarrier_wait(barriers(shared), 1); /* fault: arrival_too_many */
}

KERNEL(mbarrier_used_at_once)
{
    SHARED_BYTES(shared);
    if (threadIdx.x == 0) mbarrier_init(barriers(shared), 1);   /* fault: mbarrier_used_at_once */
    if (threadIdx.x == WARP) mbarrier_arrive(barriers(shared)); /* fault: mbarrier_used_at_once */
}

/* The writer's lanes have not met before the one of them that arrives. */
KERNEL(arrival_for_others)
{
    SHARED_BYTES(shared);
    begin(shared, 1);
    if (threadIdx.x < WARP) {
        ((float *)shared)[threadIdx.x] = 1;
        if (threadIdx.x == 0) mbarrier_arrive(barriers(shared));
    } else {
        mbarrier_wait(barriers(shared), 0);
        const int i = threadIdx.x - WARP;
        g[i] = BITS_AT(shared, i); /* fault: arrival_for_others */
    }
}

/* --- products --- */

/* The tile, brought by bulk copies; then the descriptor of its first 64 rows. */
LCL_DEVICE uint64_t bring(unsigned char *shared, const tensor_map *map)
{
    begin(shared, 1);
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barriers(shared), TILE_BYTES);
        for (int i = 0; i < 16; i++)
            bulk_load(shared + i * BOX_BYTES, map, 0, 0, 8 * i, barriers(shared));
    }
    mbarrier_wait(barriers(shared), 0);
    return wgmma_descriptor(shared, 16, BOX_BYTES, 128);
}

/* A product's sums, and its tile. */
#define TILE(d, a)        \
    SHARED_BYTES(shared); \
    float d[16][4];       \
    const uint64_t a = bring(shared, &map)

KERNEL(product_right)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    wgmma_wait<0>(d);
    g[threadIdx.x] = d[3][1];
}

KERNEL(product_without_fence)
{
    TILE(d, a);
    wgmma_rows(d, a, a, false); /* fault: product_without_fence */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_after_wait_without_fence)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    wgmma_wait<0>(d);
    d[0][0] += 1;
    wgmma_rows(d, a, a, true); /* fault: product_after_wait_without_fence */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_without_wait)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    g[threadIdx.x] = d[3][1]; /* fault: product_without_wait */
    wgmma_wait<0>(d);
}

KERNEL(product_without_commit)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_wait<0>(d);
    g[threadIdx.x] = d[3][1]; /* fault: product_without_commit */
}

KERNEL(product_of_newest_group)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    wgmma_wait<1>(d);
    g[threadIdx.x] = d[3][1]; /* fault: product_of_newest_group */
    wgmma_wait<0>(d);
}

KERNEL(product_left)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false); /* fault: product_left */
    wgmma_commit();
}

KERNEL(product_with_changed_operand)
{
    TILE(d, a);
    uint32_t x[1][4] = {};
    for (int n = 0; n < 16; n++)
        for (int i = 0; i < 4; i++) d[n][i] = 0;
    wgmma_fence(d, x);
    wgmma_columns(d, x[0], a);
    wgmma_commit();
    x[0][1] = threadIdx.x; /* fault: product_with_changed_operand */
    wgmma_wait<0>(d, x);
    g[threadIdx.x] = d[0][0] + (float)x[0][1];
}

KERNEL(product_of_three_warps)
{
    TILE(d, a);
    if (threadIdx.x < WARP) return;
    wgmma_fence(d);
    wgmma_rows(d, a, a, false); /* fault: product_of_three_warps */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_of_two_minds)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a + (threadIdx.x == 99), false); /* fault: product_of_two_minds */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_of_unwritten)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a + (TILE_BYTES + 64 * 8) / 16, false); /* fault: product_of_unwritten */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_before_its_operands)
{
    SHARED_BYTES(shared);
    float d[16][4];
    begin(shared, 1);
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barriers(shared), TILE_BYTES);
        for (int i = 0; i < 16; i++)
            bulk_load(shared + i * BOX_BYTES, &map, 0, 0, 8 * i, barriers(shared));
    }
    sync_block();
    const uint64_t a = wgmma_descriptor(shared, 16, BOX_BYTES, 128);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false); /* fault: product_before_its_operands */
    wgmma_commit();
    wgmma_wait<0>(d);
    mbarrier_wait(barriers(shared), 0);
}

LCL_DEVICE void write_tile(unsigned char *shared)
{
    for (int i = threadIdx.x; i < TILE_BYTES / 4; i += WARPGROUP) ((uint32_t *)shared)[i] = 0;
}

KERNEL(product_without_proxy_fence)
{
    SHARED_BYTES(shared);
    float d[16][4];
    begin(shared, 1);
    write_tile(shared);
    sync_block();
    async_proxy_fence(); /* too late, and of the readers alone */
    const uint64_t a = wgmma_descriptor(shared, 16, BOX_BYTES, 128);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false); /* fault: product_without_proxy_fence */
    wgmma_commit();
    wgmma_wait<0>(d);
}

KERNEL(product_with_proxy_fence)
{
    SHARED_BYTES(shared);
    float d[16][4];
    begin(shared, 1);
    write_tile(shared);
    async_proxy_fence();
    sync_block();
    const uint64_t a = wgmma_descriptor(shared, 16, BOX_BYTES, 128);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    wgmma_wait<0>(d);
    g[threadIdx.x] = d[3][1];
}

/* The first warp asks for the next tile while others may not be done with this one. */
KERNEL(bulk_over_a_product)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    wgmma_wait<0>(d);
    if (threadIdx.x == 3 * WARP) mbarrier_arrive(barriers(shared) + 1);
    if (threadIdx.x == 0) {
        mbarrier_wait(barriers(shared) + 1, 0);
        mbarrier_arrive_expect(barriers(shared), BOX_BYTES);
        bulk_load(shared, &map, 0, 0, 0, barriers(shared)); /* fault: bulk_over_a_product */
        mbarrier_wait(barriers(shared), 1);
    }
}

KERNEL(write_under_a_product)
{
    TILE(d, a);
    wgmma_fence(d);
    wgmma_rows(d, a, a, false);
    wgmma_commit();
    ((float *)shared)[threadIdx.x] = 1; /* fault: write_under_a_product */
    wgmma_wait<0>(d);
}

/* --- running them --- */

/* kernel, threads */
#define KERNELS(X)                           \
    X(bulk_without_wait, 64)                 \
    X(bulk_waited_for_by_another, 64)        \
    X(bulk_waited_for_in_another_phase, 32)  \
    X(bulk_of_a_phase_that_never_comes, 32)  \
    X(bulk_expects_more, 32)                 \
    X(bulk_expects_less, 32)                 \
    X(bulk_for_an_unfenced_mbarrier, 32)     \
    X(bulk_for_no_mbarrier, 32)              \
    X(bulk_misaligned, 32)                   \
    X(bulk_past_shared_end, 32)              \
    X(bulk_left, 32)                         \
    X(bulk_over_unfenced_writes, 32)         \
    X(arrival_too_many, 32)                  \
    X(mbarrier_used_at_once, 64)             \
    X(arrival_for_others, 64)                \
    X(product_right, 128)                    \
    X(product_without_fence, 128)            \
    X(product_after_wait_without_fence, 128) \
    X(product_without_wait, 128)             \
    X(product_without_commit, 128)           \
    X(product_of_newest_group, 128)          \
    X(product_left, 128)                     \
    X(product_with_changed_operand, 128)     \
    X(product_of_three_warps, 128)           \
    X(product_of_two_minds, 128)             \
    X(product_of_unwritten, 128)             \
    X(product_before_its_operands, 128)      \
    X(product_without_proxy_fence, 128)      \
    X(product_with_proxy_fence, 128)         \
    X(bulk_over_a_product, 128)              \
    X(write_under_a_product, 128)

lcl_status faulty_async_run(const char *name, float *global)
{
    struct lcl_cuda_device d = {};
    tensor_map map;
    LCL_TRY(tensor_map_make(&map, global, 64, 1, FAULTY_FLOATS * 2 / 64, 64, 64, 8));
    /* past the tile and the mbarriers: what nobody writes */
    const size_t bytes = 2 * TILE_BYTES;
#define RUN(kernel, threads)        \
    if (strcmp(name, #kernel) == 0) \
        return LCL_LAUNCH(&d, kernel, dims(1), dims(threads), bytes, global, map);
    KERNELS(RUN)
    return LCL_FAIL(LCL_INTERNAL, "no kernel is called %s", name);
}
