/* The arithmetic of sampling (lcl_sample_args), in whole numbers, so that every backend's sums and
 * choices are the same: keys that order logits, weights as multiples of 2^-40. The one rounding
 * sequence is that of fmaf, which rounds once everywhere. */
#ifndef LCL_CORE_SAMPLE_H
#define LCL_CORE_SAMPLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define LCL_SAMPLE_FN static __host__ __device__ __forceinline__
#else
#define LCL_SAMPLE_FN static inline
#endif

/* Weights are below 2^41: the sum over a vocabulary stays below 2^63. */
enum { LCL_SAMPLE_MOST_V = 1 << 22 };

/* Greater logits have greater keys, equal ones (0 and -0 too) the same; NaN has 0, the least. */
LCL_SAMPLE_FN uint32_t lcl_sample_key(float logit)
{
    uint32_t u;
    if (logit != logit) return 0;
    if (logit == 0.0f) return 0x80000000u;
    memcpy(&u, &logit, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* A logit that has this key; of key 0 NaN. */
LCL_SAMPLE_FN float lcl_sample_logit(uint32_t key)
{
    uint32_t u = key >> 31 ? key & 0x7fffffffu : ~key;
    float logit;
    memcpy(&logit, &u, sizeof logit);
    return logit;
}

/* 2^24 log2(e) / temperature: what makes a distance of logits a number of octaves. */
LCL_SAMPLE_FN float lcl_sample_scale(float temperature)
{
    return (float)(24204406.32312297 / (double)temperature);
}

/* exp((logit - most) / temperature) in multiples of 2^-40, rounded down; off by 2^-22 of it for
 * every four octaves that it is below 1. 0 where the two are no numbers apart. 2^-f is a Taylor
 * series about 1/2. */
LCL_SAMPLE_FN uint64_t lcl_sample_weight(float logit, float most, float scale)
{
    const float below = (most - logit) * scale;
    if (!(below < 41 * 16777216.0f)) return 0;
    const uint32_t octaves = (uint32_t)below; /* in multiples of 2^-24 */
    const float f = (float)(octaves & 0xffffffu) * 0x1p-24f - 0.5f;
    float p = -1.0785312e-5f;
    p = fmaf(p, f, 1.0891941e-4f);
    p = fmaf(p, f, -9.4282494e-4f);
    p = fmaf(p, f, 6.8010443e-3f);
    p = fmaf(p, f, -3.9247332e-2f);
    p = fmaf(p, f, 1.6986579e-1f);
    p = fmaf(p, f, -4.9012907e-1f);
    p = fmaf(p, f, 0.70710678f);
    return (uint64_t)(p * 0x1p40f) >> (octaves >> 24);
}

/* top_p as a number of 2^-32. */
LCL_SAMPLE_FN uint64_t lcl_sample_share(float top_p) { return (uint64_t)((double)top_p * 0x1p32); }

/* total * share / 2^32, rounded up; total < 2^63. */
LCL_SAMPLE_FN uint64_t lcl_sample_part(uint64_t total, uint64_t share)
{
    return (total >> 32) * share + (((total & 0xffffffffu) * share + 0xffffffffu) >> 32);
}

/* total * draw / 2^64, rounded down: a number below total, evenly, for an even 64-bit draw. */
LCL_SAMPLE_FN uint64_t lcl_sample_place(uint64_t total, uint64_t draw)
{
    const uint64_t th = total >> 32, tl = total & 0xffffffffu, dh = draw >> 32,
                   dl = draw & 0xffffffffu;
    const uint64_t middle = th * dl + ((tl * dl) >> 32), low = tl * dh + (middle & 0xffffffffu);
    return th * dh + (middle >> 32) + (low >> 32);
}

#endif
