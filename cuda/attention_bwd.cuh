/* What the backward kernels of attention share. Legend: attention.cuh. */
#ifndef LCL_CUDA_ATTENTION_BWD_CUH
#define LCL_CUDA_ATTENTION_BWD_CUH

#include "cuda/attention.cuh"

/* s: scores of 16 queries and N keys, becomes d_s. lse and delta of this lane's two queries. */
template <int N>
LCL_DEVICE void query_gradients(float (*s)[4], const float (*d_p)[4], const float lse[2],
                                const float delta[2], const attention_segment &g, int first_row,
                                int end_row, int first_key, float scale)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = first_key + 8 * n + 2 * (lane % 4) + i % 2;
            const int row = first_row + lane / 4 + 8 * (i / 2);
            const bool seen = key < g.end && key <= row + g.limit && row < end_row;
            const float weight =
                seen ? fast_exp2(s[n][i] * (scale * ATTENTION_LOG2E) - lse[i / 2]) : 0;
            s[n][i] = weight * (d_p[n][i] - delta[i / 2]) * scale;
        }
}

#endif
