/* The halves of linear whose weight is in blocks (core/blocks.h); checked arguments. */
#ifndef LCL_CUDA_LINEAR_BLOCKS_H
#define LCL_CUDA_LINEAR_BLOCKS_H

#include "cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

LCL_CHECKED lcl_status lcl_cuda_linear_blocks_fwd(struct lcl_cuda_device *d,
                                                  const struct lcl_linear_args *a);
/* d_x_MK alone. */
LCL_CHECKED lcl_status lcl_cuda_linear_blocks_bwd(struct lcl_cuda_device *d,
                                                  const struct lcl_linear_args *a);

#ifdef __cplusplus
}
#endif
#endif
