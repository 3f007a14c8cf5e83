/* Tensor maps: what bulk copies (TMA) read. Host side; on a device the driver encodes them. */
#ifndef LCL_CUDA_TENSOR_MAP_CUH
#define LCL_CUDA_TENSOR_MAP_CUH

#include "cuda/kernel.cuh"

/* Boxes of box_rows rows (at most 256) by one head by `panel` columns (64, 32 or 16: as many bytes
 * as the swizzle spans) of bf16 elements [rows][heads][D], rows `stride` elements apart. Base, rows
 * and heads begin at multiples of 16 bytes. */
LCL_CHECKED lcl_status tensor_map_make(tensor_map *m, const void *base, int64_t D, int64_t heads,
                                       int64_t rows, int64_t stride, int panel, int box_rows);

#endif
