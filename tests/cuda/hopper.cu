#include "tests/cuda/hopper.h"

#include "cuda/tensor_map.cuh"

/* --- boxes --- */

static __global__ void box_kernel(const __grid_constant__ tensor_map map, int x, int head, int row,
                                  int bytes, uint32_t *out)
{
    SHARED_BYTES(shared);
    uint64_t *in = (uint64_t *)(shared + bytes);
    if (threadIdx.x == 0) {
        mbarrier_init(in, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(in, bytes);
        bulk_load(shared, &map, x, head, row, in);
    }
    sync_block();
    mbarrier_wait(in, 0);
    for (int i = threadIdx.x; i < bytes / 4; i += WARP) out[i] = ((const uint32_t *)shared)[i];
}

lcl_status hopper_box(struct lcl_exec *ex, const struct hopper_tensor *t, int panel, int x,
                      int head, int row, void *out)
{
    tensor_map map;
    const int bytes = HOPPER_BOX_ROWS * panel * (int)sizeof(bf16);
    LCL_TRY(
        tensor_map_make(&map, t->x, t->D, t->heads, t->rows, t->stride, panel, HOPPER_BOX_ROWS));
    return LCL_LAUNCH(lcl_cuda_device_of(ex), box_kernel, dims(1), dims(WARP), (size_t)bytes + 8,
                      map, x, head, row, bytes, (uint32_t *)out);
}

/* --- products --- */

template <int DP>
static __global__ void __launch_bounds__(WARPGROUP)
    products_kernel(const __grid_constant__ tensor_map q, const __grid_constant__ tensor_map k,
                    const __grid_constant__ tensor_map v, float *scores, float *sums)
{
    enum {
        PANEL = DP % 64 == 0   ? 64
                : DP % 32 == 0 ? 32
                               : 16,
        ROW_BYTES = 2 * PANEL,
        Q_PANEL = HOPPER_ROWS * ROW_BYTES,
        K_PANEL = HOPPER_KEYS * ROW_BYTES
    };
    SHARED_BYTES(shared);
    unsigned char *keys = shared + HOPPER_ROWS * DP * 2, *values = keys + HOPPER_KEYS * DP * 2;
    uint64_t *in = (uint64_t *)(values + HOPPER_KEYS * DP * 2);
    if (threadIdx.x == 0) {
        mbarrier_init(in, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(in, (HOPPER_ROWS + 2 * HOPPER_KEYS) * DP * 2);
        for (int i = 0; i < DP / PANEL; i++) {
            bulk_load(shared + i * Q_PANEL, &q, i * PANEL, 0, 0, in);
            bulk_load(keys + i * K_PANEL, &k, i * PANEL, 0, 0, in);
            bulk_load(values + i * K_PANEL, &v, i * PANEL, 0, 0, in);
        }
    }
    sync_block();
    mbarrier_wait(in, 0);
    float s[HOPPER_KEYS / 8][4], out[DP / 8][4];
    uint32_t weights[HOPPER_KEYS / 16][4];
    const uint64_t a = wgmma_descriptor(shared, 16, 8 * ROW_BYTES, ROW_BYTES);
    const uint64_t b = wgmma_descriptor(keys, 16, 8 * ROW_BYTES, ROW_BYTES);
    const uint64_t c = wgmma_descriptor(values, K_PANEL, 8 * ROW_BYTES, ROW_BYTES);
    wgmma_fence(s);
#pragma unroll
    for (int d = 0; d < DP; d += 16)
        wgmma_rows(s, a + (d / PANEL * Q_PANEL + d % PANEL * 2) / 16,
                   b + (d / PANEL * K_PANEL + d % PANEL * 2) / 16, d > 0);
    wgmma_commit();
    wgmma_wait<0>(s);
    for (int n = 0; n < DP / 8; n++)
        for (int i = 0; i < 4; i++) out[n][i] = 0;
    for (int i = 0; i < HOPPER_KEYS / 16; i++)
        for (int j = 0; j < 4; j++)
            weights[i][j] =
                pack_bf16(s[2 * i + j / 2][2 * (j % 2)], s[2 * i + j / 2][2 * (j % 2) + 1]);
    wgmma_fence(out, weights);
#pragma unroll
    for (int i = 0; i < HOPPER_KEYS / 16; i++) wgmma_columns(out, weights[i], c + i * ROW_BYTES);
    wgmma_commit();
    wgmma_wait<0>(out, weights);
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane / 4;
    for (int i = 0; i < 4; i++) {
        for (int n = 0; n < HOPPER_KEYS / 8; n++)
            scores[(row + 8 * (i / 2)) * HOPPER_KEYS + 8 * n + 2 * (lane % 4) + i % 2] = s[n][i];
        for (int n = 0; n < DP / 8; n++)
            sums[(row + 8 * (i / 2)) * DP + 8 * n + 2 * (lane % 4) + i % 2] = out[n][i];
    }
}

template <int DP>
static lcl_status products(struct lcl_exec *ex, const void *q, const void *k, const void *v,
                           float *scores, float *sums)
{
    tensor_map maps[3];
    const void *const from[3] = {q, k, v};
    const int panel = DP % 64 == 0 ? 64 : DP % 32 == 0 ? 32 : 16;
    for (int i = 0; i < 3; i++) {
        const int rows = i ? HOPPER_KEYS : HOPPER_ROWS;
        LCL_TRY(tensor_map_make(&maps[i], from[i], DP, 1, rows, DP, panel, rows));
    }
    return LCL_LAUNCH(lcl_cuda_device_of(ex), products_kernel<DP>, dims(1), dims(WARPGROUP),
                      (size_t)(HOPPER_ROWS + 2 * HOPPER_KEYS) * DP * 2 + 8, maps[0], maps[1],
                      maps[2], scores, sums);
}

lcl_status hopper_products(struct lcl_exec *ex, int DP, const void *q, const void *k, const void *v,
                           float *scores, float *sums)
{
    return DP == 16   ? products<16>(ex, q, k, v, scores, sums)
           : DP == 32 ? products<32>(ex, q, k, v, scores, sums)
           : DP == 64 ? products<64>(ex, q, k, v, scores, sums)
           : DP == 96 ? products<96>(ex, q, k, v, scores, sums)
                      : products<128>(ex, q, k, v, scores, sums);
}

/* --- a ring --- */

enum { STAGES = 2, STAGE_ROWS = 8, STAGE_BYTES = STAGE_ROWS * 128 };

static __global__ void ring_kernel(const __grid_constant__ tensor_map map, float *sums)
{
    SHARED_BYTES(shared);
    uint64_t *in = (uint64_t *)(shared + STAGES * STAGE_BYTES), *is_free = in + STAGES;
    if (threadIdx.x < STAGES) {
        mbarrier_init(in + threadIdx.x, 1);
        mbarrier_init(is_free + threadIdx.x, WARP);
        mbarrier_init_fence();
    }
    sync_block();
    const int lane = threadIdx.x % WARP;
    float sum[2] = {0, 0};
    for (int round = 0; round < HOPPER_ROUNDS; round++) {
        const int stage = round % STAGES, parity = round / STAGES % 2;
        if (threadIdx.x < WARP) {
            mbarrier_wait(is_free + stage, parity ^ 1);
            if (lane) continue;
            mbarrier_arrive_expect(in + stage, STAGE_BYTES);
            bulk_load(shared + stage * STAGE_BYTES, &map, 0, 0, round * STAGE_ROWS, in + stage);
            continue;
        }
        mbarrier_wait(in + stage, parity);
        for (int row = 0; row < STAGE_ROWS; row++) {
            const int piece = lane / 4 ^ row; /* two elements a lane, where the swizzle has them */
            const uint32_t pair = *(const uint32_t *)(shared + stage * STAGE_BYTES + row * 128 +
                                                      piece * 16 + lane % 4 * 4);
            sum[0] += float_of(pair << 16);
            sum[1] += float_of(pair & 0xffff0000u);
        }
        mbarrier_arrive(is_free + stage);
    }
    if (threadIdx.x >= WARP)
        for (int i = 0; i < 2; i++) sums[2 * lane + i] = sum[i];
}

lcl_status hopper_ring(struct lcl_exec *ex, const struct hopper_tensor *t, float *sums)
{
    tensor_map map;
    LCL_TRY(tensor_map_make(&map, t->x, t->D, t->heads, t->rows, t->stride, 64, STAGE_ROWS));
    return LCL_LAUNCH(lcl_cuda_device_of(ex), ring_kernel, dims(1), dims(2 * WARP),
                      STAGES * STAGE_BYTES + 2 * STAGES * 8, map, sums);
}
