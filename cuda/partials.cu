/* Sums of partial sums, by a fixed tree. Legend: G partial sums, C width. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

enum { SLICES = 8 }; /* of the partial sums: a warp each */

/* A block has the columns of one warp. Each of its warps adds a slice of the partial sums in their
 * order, and the first one the slices. */
static __global__ void __launch_bounds__(SLICES *WARP)
    add_partials_kernel(const float *partial_GC, int64_t G, int64_t C, float *out_C)
{
    SHARED_BYTES(shared);
    float *slices = (float *)shared, sum = 0;
    const int lane = threadIdx.x % WARP, slice = threadIdx.x / WARP;
    const int64_t c = (int64_t)blockIdx.x * WARP + lane, each = (G + SLICES - 1) / SLICES;
    const int64_t begin = slice * each, end = begin + each < G ? begin + each : G;
    if (c < C) {
        /* sixteen loads under way at once; sums stay in order */
#pragma unroll 16
        for (int64_t g = begin; g < end; g++) sum += partial_GC[g * C + c];
    }
    slices[threadIdx.x] = sum;
    sync_block();
    if (slice > 0 || c >= C) return;
    for (int i = 1; i < SLICES; i++) sum += slices[i * WARP + lane];
    out_C[c] += sum;
}

lcl_status lcl_cuda_add_partials(struct lcl_cuda_device *d, const float *partial_GC, int64_t G,
                                 int64_t C, float *out_C)
{
    return LCL_LAUNCH(d, add_partials_kernel, dims(blocks_for(C, WARP)), dims(SLICES * WARP),
                      SLICES * WARP * sizeof(float), partial_GC, G, C, out_C);
}
