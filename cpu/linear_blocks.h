/* The halves of linear whose weight is in blocks (core/blocks.h); checked arguments. */
#ifndef LCL_CPU_LINEAR_BLOCKS_H
#define LCL_CPU_LINEAR_BLOCKS_H

#include "cpu/isa.h"

LCL_CHECKED lcl_status LCL_CPU(linear_blocks_fwd)(const struct lcl_linear_args *a);
/* d_x_MK alone. */
LCL_CHECKED lcl_status LCL_CPU(linear_blocks_bwd)(const struct lcl_linear_args *a);

#endif
