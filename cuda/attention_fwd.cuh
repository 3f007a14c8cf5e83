/* What the forward kernels of attention share: a running maximum and sum over the tiles of keys
 * (Dao et al. 2022, "FlashAttention", algorithm 1). Legend: attention.cuh. */
#ifndef LCL_CUDA_ATTENTION_FWD_CUH
#define LCL_CUDA_ATTENTION_FWD_CUH

#include "cuda/attention.cuh"

/* What one lane keeps of its two rows, l / 4 and l / 4 + 8 of the warp's. */
struct running {
    float max[2], sum[2];
};

LCL_DEVICE void running_begin(running *r)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        r->max[half] = -INFINITY;
        r->sum[half] = 0;
    }
}

/* Scores outside of the segment, or past the diagonal, become -infinity. */
template <int N>
LCL_DEVICE void mask(float (*s)[4], const attention_segment &g, int first_key, int first_row)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = first_key + 8 * n + 2 * (lane % 4) + i % 2;
            const int row = first_row + lane / 4 + 8 * (i / 2);
            if (key >= g.end || key > row + g.limit) s[n][i] = -INFINITY;
        }
}

/* The scores of one step become weights to the new maximum; what was summed before counts `keep`
 * of itself. */
template <int N> LCL_DEVICE void soften(running *r, float (*s)[4], float scale_log2, float keep[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = r->max[half];
#pragma unroll
        for (int n = 0; n < N / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        top = fmaxf(top, shuffle_xor(top, 1));
        top = fmaxf(top, shuffle_xor(top, 2));
        const float base = top == -INFINITY ? 0 : top * scale_log2;
        keep[half] = fast_exp2(r->max[half] * scale_log2 - base);
        r->max[half] = top;
        r->sum[half] *= keep[half];
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[n][i] = fast_exp2(s[n][i] * scale_log2 - base);
                r->sum[half] += s[n][i];
            }
    }
}

/* Rows of out, each times its factor. */
template <int DP> LCL_DEVICE void scale_rows(float (*out)[4], const float factor[2])
{
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) out[n][i] *= factor[i / 2];
}

/* Divides by the sums, which the four lanes of a row hold in parts, and writes lse. */
template <int DP>
LCL_DEVICE void running_end(const running &r, float (*out)[4], const attention_params &p,
                            int first_row, int end_row, int head)
{
    const int lane = threadIdx.x % WARP;
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = r.sum[half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int row = first_row + lane / 4 + 8 * half;
        if (p.lse_TH && lane % 4 == 0 && row < end_row)
            p.lse_TH[row * p.H + head] = r.max[half] * p.scale + logf(sum);
        factor[half] = 1.0f / sum;
    }
    scale_rows<DP>(out, factor);
}

#endif
