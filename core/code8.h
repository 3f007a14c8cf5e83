/* Optimizer states in 8 bits: blocks of 256 elements, each with its greatest magnitude as a scale,
 * and a dynamic code for what is left, in [-1, 1] (first moments) or [0, 1] (second moments).
 * Dettmers, Lewis, Shleifer & Zettlemoyer, "8-bit Optimizers via Block-wise Quantization" (ICLR
 * 2022), section 2; the code's values are those of bitsandbytes' create_dynamic_map. */
#ifndef LCL_CORE_CODE8_H
#define LCL_CORE_CODE8_H

#include <string.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__CUDACC__) /* kernels and the host make the same bytes */
#define LCL_CODE8_INLINE static __host__ __device__ inline
#else
#define LCL_CODE8_INLINE static inline
#endif

enum {
    LCL_CODE8_BLOCK = 256, /* elements that share a scale */
    LCL_CODE8_ZERO = 127,  /* the signed code of 0; magnitude k is 127 + k, or 127 - k */
    LCL_CODE8_FIRST = (127 - 23) << 7,
    LCL_CODE8_GUESSES = (23 << 7) + 1
};

/* Magnitudes rise with k: 0 .. 128 of the signed code (128, which is 1, has no negative), 0 .. 255
 * of the unsigned one, whose bytes they are. */
struct lcl_code8 {
    float value[256];  /* of each byte */
    float middle[256]; /* of each k: half way to the next one; infinite for the last */
    uint8_t guess[LCL_CODE8_GUESSES]; /* k of the least float whose upper 16 bits are FIRST + i; no
                                         two middles have the same upper bits */
};
struct lcl_code8_pair {
    struct lcl_code8 m, v;
};
const struct lcl_code8_pair *lcl_code8(void);

static inline int64_t lcl_code8_blocks(int64_t count)
{
    return (count + LCL_CODE8_BLOCK - 1) / LCL_CODE8_BLOCK;
}

/* k of the magnitude nearest to |x|, which is divided by its block's scale. */
LCL_CODE8_INLINE int lcl_code8_nearest(const struct lcl_code8 *c, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int at = (int)(bits >> 16 & 0x7fff) - LCL_CODE8_FIRST;
    at = at < 0 ? 0 : at;
    at = at < LCL_CODE8_GUESSES ? at : LCL_CODE8_GUESSES - 1;
    int k = c->guess[at];
    return k + ((x < 0 ? -x : x) > c->middle[k]);
}

/* Bytes of first moments, and of second ones: of these what is above 0 stays so, since an update
 * divides by their root. scale 0: all are 0. */
LCL_CODE8_INLINE uint8_t lcl_code8_m(const struct lcl_code8 *c, float m, float scale)
{
    uint32_t bits; /* of the sign, without a branch: it is as good as random */
    memcpy(&bits, &m, sizeof bits);
    int negative = (int)(bits >> 31), k = lcl_code8_nearest(c, scale > 0 ? m / scale : 0);
    k -= negative & (k > LCL_CODE8_ZERO);
    return (uint8_t)(LCL_CODE8_ZERO + (k ^ -negative) + negative);
}
LCL_CODE8_INLINE uint8_t lcl_code8_v(const struct lcl_code8 *c, float v, float scale)
{
    int k = lcl_code8_nearest(c, scale > 0 ? v / scale : 0);
    return (uint8_t)(k + ((k == 0) & (v > 0)));
}

/* n elements; scale_B: one a block. */
void lcl_code8_decode(const struct lcl_code8 *c, const uint8_t *code, const float *scale_B,
                      int64_t n, float *x);
void lcl_code8_encode(bool second, const float *x, int64_t n, uint8_t *code, float *scale_B);

#ifdef __cplusplus
}
#endif
#endif
