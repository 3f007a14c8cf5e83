#include "core/dtype.h"

size_t lcl_dtype_bytes(lcl_dtype t)
{
    static const size_t bytes[LCL_DTYPE_COUNT] = {4, 2, 2, 8, 8, 4, 1};
    return t < LCL_DTYPE_COUNT ? bytes[t] : 0;
}

const char *lcl_dtype_name(lcl_dtype t)
{
    static const char *const names[LCL_DTYPE_COUNT] = {"f32", "bf16", "f16",  "f64", "i64",
                                                       "i32", "u8",   "q8_0", "q4_0"};
    return t < LCL_DTYPE_COUNT ? names[t] : "unknown";
}

lcl_f16 lcl_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (lcl_f16)(sign | 0x7e00u);
    if (magnitude >= 0x47800000u) return (lcl_f16)(sign | 0x7c00u); /* >= 65536 and infinity */
    if (magnitude < 0x38800000u) { /* below the smallest normal: round multiples of 2^-24 */
        float scaled;
        memcpy(&scaled, &magnitude, sizeof scaled);
        float shifted = scaled + 0.5f; /* the sum's last place is 2^-24: rounds to nearest even */
        uint32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        return (lcl_f16)(sign | (bits - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return (lcl_f16)(sign | ((rounded - 0x38000000u) >> 13));
}

static double load(const void *src, lcl_dtype t, size_t i)
{
    switch (t) {
    case LCL_F32:
        return (double)((const float *)src)[i];
    case LCL_BF16:
        return (double)lcl_bf16_to_f32(((const lcl_bf16 *)src)[i]);
    case LCL_F16:
        return (double)lcl_f16_to_f32(((const lcl_f16 *)src)[i]);
    default:
        return ((const double *)src)[i];
    }
}

static void store(void *dst, lcl_dtype t, size_t i, double value)
{
    switch (t) {
    case LCL_F32:
        ((float *)dst)[i] = (float)value;
        break;
    case LCL_BF16:
        ((lcl_bf16 *)dst)[i] = lcl_f32_to_bf16((float)value);
        break;
    case LCL_F16:
        ((lcl_f16 *)dst)[i] = lcl_f32_to_f16((float)value);
        break;
    default:
        ((double *)dst)[i] = value;
        break;
    }
}

lcl_status lcl_convert(void *dst, lcl_dtype dst_type, const void *src, lcl_dtype src_type, size_t n)
{
    if (dst_type > LCL_F64 || src_type > LCL_F64)
        return LCL_FAIL(LCL_UNSUPPORTED, "no conversion from %s to %s", lcl_dtype_name(src_type),
                        lcl_dtype_name(dst_type));
    if (dst_type == src_type) {
        memcpy(dst, src, n * lcl_dtype_bytes(src_type));
    } else if (src_type == LCL_BF16 && dst_type == LCL_F32) {
        for (size_t i = 0; i < n; i++)
            ((float *)dst)[i] = lcl_bf16_to_f32(((const lcl_bf16 *)src)[i]);
    } else if (src_type == LCL_F32 && dst_type == LCL_BF16) {
        for (size_t i = 0; i < n; i++)
            ((lcl_bf16 *)dst)[i] = lcl_f32_to_bf16(((const float *)src)[i]);
    } else {
        for (size_t i = 0; i < n; i++) store(dst, dst_type, i, load(src, src_type, i));
    }
    return LCL_OK;
}
