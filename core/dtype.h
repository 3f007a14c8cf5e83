/* Element types and their conversions. bf16 and f16 round to nearest even. */
#ifndef LCL_CORE_DTYPE_H
#define LCL_CORE_DTYPE_H

#include <string.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef uint16_t lcl_bf16;
typedef uint16_t lcl_f16;

typedef enum lcl_dtype {
    LCL_F32,
    LCL_BF16,
    LCL_F16,
    LCL_F64,
    LCL_I64,
    LCL_I32,
    LCL_U8,
    LCL_Q8_0, /* blocks of 32: core/blocks.h */
    LCL_Q4_0,
    LCL_DTYPE_COUNT
} lcl_dtype;

size_t lcl_dtype_bytes(lcl_dtype t);     /* of an element; 0 of types in blocks */
const char *lcl_dtype_name(lcl_dtype t); /* "f32", "bf16", ... */

static inline float lcl_bf16_to_f32(lcl_bf16 h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline lcl_bf16 lcl_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (lcl_bf16)((u >> 16) | 0x40u); /* NaN stays NaN */
    return (lcl_bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* f32 numbers in two halves that lose nothing: high, the nearest bf16 (ties away from 0), and low,
 * the number's own lower 16 bits; zeros for 0. Where low's first bit is set, high was rounded up,
 * that is, by 1 of the bits' upper half. NaN becomes the quiet one of its sign: others would round
 * to no NaN. */
static inline float lcl_f32_of_halves(lcl_bf16 high, uint16_t low)
{
    uint32_t u = ((uint32_t)high << 16 | low) - ((low & 0x8000u) << 1);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t lcl_f32_halved_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (u & 0x7fffffffu) > 0x7f800000u ? (u & 0x80000000u) | 0x7fc00000u : u;
}

static inline void lcl_f32_join(float *x, const lcl_bf16 *high, const uint16_t *low, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = lcl_f32_of_halves(high[i], low[i]);
}

static inline void lcl_f32_split(const float *x, size_t n, lcl_bf16 *high, uint16_t *low)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u = lcl_f32_halved_bits(x[i]);
        high[i] = (lcl_bf16)((u + 0x8000u) >> 16);
        low[i] = (uint16_t)u;
    }
}

static inline float lcl_f16_to_f32(lcl_f16 h)
{
    uint32_t u = (uint32_t)(h & 0x7fffu) << 13;
    float f;
    memcpy(&f, &u, sizeof f);
    f *= 0x1p112f; /* the exponents' biases, 127 and 15; of subnormals, too */
    memcpy(&u, &f, sizeof u);
    if ((h & 0x7c00u) == 0x7c00u) u |= 0x7f800000u; /* infinity and NaN */
    u |= (uint32_t)(h & 0x8000u) << 16;
    memcpy(&f, &u, sizeof f);
    return f;
}

lcl_f16 lcl_f32_to_f16(float f);

/* Converts n elements between any two floating types (f32, bf16, f16, f64). */
LCL_CHECKED lcl_status lcl_convert(void *dst, lcl_dtype dst_type, const void *src,
                                   lcl_dtype src_type, size_t n);

#ifdef __cplusplus
}
#endif
#endif
