/* Elementary functions as branch-free f32 arithmetic, so that the compiler vectorises the loops
 * that call them without fast-math. The polynomials are own Chebyshev fits; tests/ops/test_act.c
 * measures the errors stated here. */
#ifndef LCL_CPU_SIMD_H
#define LCL_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float simd_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t simd_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^x within 2 units in the last place; 0 below -87.3 (no denormals), infinity above 88.7, NaN for
 * NaN. */
static inline float simd_exp(float x)
{
    float y = x < -87.5f ? -87.5f : x;
    y = y > 89.0f ? 89.0f : y;
    /* n = round(y / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits. */
    float shifted = y * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    uint32_t k = simd_bits(shifted) - simd_bits(12582912.0f);
    float r = y - n * 0.693145752f; /* ln 2 in two parts: the first has 15 bits, n * it is exact */
    r = r - n * 1.42860677e-6f;
    float p = 1.39261775e-3f;
    p = p * r + 8.36317418e-3f;
    p = p * r + 4.166655465e-2f;
    p = p * r + 1.666657702e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r;
    p = p + 1.0f;
    /* 2^k in two factors, since k = 128 has no float. */
    uint32_t half = (uint32_t)((int32_t)k >> 1);
    p = p * simd_from_bits((half + 127u) << 23) * simd_from_bits((k - half + 127u) << 23);
    return x < -87.336f ? 0.0f : p;
}

/* 1 / (1 + e^-x) within 3 units in the last place. */
static inline float simd_sigmoid(float x) { return 1.0f / (1.0f + simd_exp(-x)); }

/* The normal distribution function Phi(x) with a relative error below 1e-6 for x > -5 (absolute
 * 1e-7 everywhere), and exp(-x^2 / 2) in *bell. By Phi(-|x|) = exp(-x^2 / 2) erfcx(|x| / sqrt 2) /
 * 2, erfcx as a polynomial in t = 1 / (1 + 0.4 z). */
static inline float simd_normal_cdf(float x, float *bell)
{
    float z = fabsf(x) * 0.707106781f;
    z = z > 9.5f ? 9.5f : z;
    float t = 1.0f / (1.0f + 0.4f * z);
    float p = -0.03432290098f;
    p = p * t + 0.2234391024f;
    p = p * t - 0.5579407408f;
    p = p * t + 0.6253234122f;
    p = p * t - 0.3482692044f;
    p = p * t + 0.305856496f;
    p = p * t + 0.1181873126f;
    p = p * t + 0.2173390949f;
    p = p * t + 0.2246660854f;
    p = p * t + 0.2257213437f;
    float e = simd_exp(-0.5f * x * x);
    float tail = 0.5f * p * t * e;
    *bell = e;
    return x < 0.0f ? tail : 1.0f - tail;
}

/* sin and cos of an f32 angle of any size a position can have (|a| < 2^30), within 1e-7: reduced in
 * f64. */
static inline void simd_sincos(float a, float *sine, float *cosine)
{
    double shifted = (double)a * 0.63661977236758134 + 6755399441055744.0; /* 1.5 * 2^52 */
    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    float r = (float)((double)a - (shifted - 6755399441055744.0) * 1.5707963267948966);
    float q = r * r;
    float s = -1.95878897e-4f;
    s = s * q + 8.332748265e-3f;
    s = s * q - 1.666666466e-1f;
    s = s * q * r + r;
    float c = 2.446378672e-5f;
    c = c * q - 1.388758914e-3f;
    c = c * q + 4.166665064e-2f;
    c = c * q - 4.999999997e-1f;
    c = c * q + 1.0f;
    uint32_t k = (uint32_t)quadrant;
    float ss = k & 1 ? c : s, cc = k & 1 ? s : c;
    *sine = k & 2 ? -ss : ss;
    *cosine = (k + 1) & 2 ? -cc : cc;
}

#endif
