/* Sums of partial sums, in their order. Legend: G partial sums, C width. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

static __global__ void add_partials_kernel(const float *partial_GC, int64_t G, int64_t C,
                                           float *out_C)
{
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = 0;
    /* sixteen loads under way at once; sums stay in order */
#pragma unroll 16
    for (int64_t g = 0; g < G; g++) sum += partial_GC[g * C + c];
    out_C[c] += sum;
}

lcl_status lcl_cuda_add_partials(struct lcl_cuda_device *d, const float *partial_GC, int64_t G,
                                 int64_t C, float *out_C)
{
    enum { BLOCK = 64 };
    return LCL_LAUNCH(d, add_partials_kernel, dims(blocks_for(C, BLOCK)), dims(BLOCK), 0,
                      partial_GC, G, C, out_C);
}
