#include "core/blocks.h"

#include <math.h>

static void encode_q8(const float *x, uint8_t *code, lcl_f16 *scale)
{
    float most = 0;
    for (int i = 0; i < LCL_BLOCK; i++) most = fmaxf(most, fabsf(x[i]));
    const float step = most / 127, inverse = step > 0 ? 1 / step : 0;
    *scale = lcl_f32_to_f16(step);
    for (int i = 0; i < LCL_BLOCK; i++) {
        float q = roundf(x[i] * inverse); /* at most 127 and a rounding; NaN becomes 0 */
        code[i] = (uint8_t)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q == q ? q : 0);
    }
}

/* The element farthest from 0 gets code 0, which is -8 steps, so a step has its opposite sign. */
static void encode_q4(const float *x, uint8_t *code, lcl_f16 *scale)
{
    float farthest = 0;
    for (int i = 0; i < LCL_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(farthest)) farthest = x[i];
    const float step = farthest / -8, inverse = step != 0 ? 1 / step : 0;
    uint8_t q[LCL_BLOCK];
    *scale = lcl_f32_to_f16(step);
    for (int i = 0; i < LCL_BLOCK; i++) {
        float up = floorf(x[i] * inverse + 8.5f);
        q[i] = (uint8_t)(up > 15 ? 15 : up >= 0 ? up : up < 0 ? 0 : 8);
    }
    for (int i = 0; i < LCL_BLOCK / 2; i++) code[i] = (uint8_t)(q[i] | q[i + LCL_BLOCK / 2] << 4);
}

void lcl_blocks_encode(lcl_dtype t, const float *x, size_t n, uint8_t *code, lcl_f16 *scale)
{
    const size_t bytes = lcl_code_bytes(t, LCL_BLOCK);
    for (size_t b = 0; b < n / LCL_BLOCK; b++)
        (t == LCL_Q8_0 ? encode_q8 : encode_q4)(x + b * LCL_BLOCK, code + b * bytes, scale + b);
}

void lcl_blocks_decode(lcl_dtype t, const uint8_t *code, const lcl_f16 *scale, size_t n, float *x)
{
    enum { HALF = LCL_BLOCK / 2 };
    for (size_t b = 0; b < n / LCL_BLOCK; b++, x += LCL_BLOCK) {
        const float step = lcl_f16_to_f32(scale[b]);
        const uint8_t *c = code + b * lcl_code_bytes(t, LCL_BLOCK);
        for (int i = 0; t == LCL_Q8_0 && i < LCL_BLOCK; i++) x[i] = (float)(int8_t)c[i] * step;
        for (int i = 0; t == LCL_Q4_0 && i < HALF; i++) {
            x[i] = (float)((c[i] & 15) - 8) * step;
            x[i + HALF] = (float)((c[i] >> 4) - 8) * step;
        }
    }
}
