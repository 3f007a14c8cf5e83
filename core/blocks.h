/* Weights in blocks of 32 elements with one f16 scale, the values of GGUF's types of those names:
 *  - q8_0: element = code * scale, codes are signed bytes;
 *  - q4_0: element = (code - 8) * scale; byte i of a block has the 4-bit codes of element i (low)
 *    and of element i + 16 (high).
 * Codes and scales lie in two arrays, so that codes are read 16 bytes at a time. */
#ifndef LCL_CORE_BLOCKS_H
#define LCL_CORE_BLOCKS_H

#include "core/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LCL_BLOCK = 32 };

static inline bool lcl_is_blocks(lcl_dtype t) { return t == LCL_Q8_0 || t == LCL_Q4_0; }
/* Bytes of the codes of n elements, whole blocks. */
static inline size_t lcl_code_bytes(lcl_dtype t, size_t n) { return t == LCL_Q8_0 ? n : n / 2; }

/* n elements, whole blocks. Encoding what was decoded gives the same codes and scales where these
 * are of lcl_blocks_encode. NaN becomes 0; a block with an infinity decodes to NaN. */
void lcl_blocks_encode(lcl_dtype t, const float *x, size_t n, uint8_t *code, lcl_f16 *scale);
void lcl_blocks_decode(lcl_dtype t, const uint8_t *code, const lcl_f16 *scale, size_t n, float *x);

#ifdef __cplusplus
}
#endif
#endif
