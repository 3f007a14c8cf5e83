/* What kernels see instead of the CUDA headers when the host's compiler compiles them. C++. */
#ifndef LCL_CUDA_SIM_HOST_H
#define LCL_CUDA_SIM_HOST_H

#include "cuda/sim/intrinsics.h"
#include "cuda/sim/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx lcl_sim_thread_idx()
#define blockIdx lcl_sim_block_idx()
#define blockDim lcl_sim_block_dim()
#define gridDim lcl_sim_grid_dim()

typedef lcl_sim_dim dim3;

/* As a default argument: where the call stands. */
#define LCL_SIM_HERE                                             \
    {                                                            \
        __builtin_FUNCTION(), __builtin_FILE(), __builtin_LINE() \
    }

#endif
