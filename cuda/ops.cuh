/* The launchers of all ops, and the kernels that several of them share. */
#ifndef LCL_CUDA_OPS_CUH
#define LCL_CUDA_OPS_CUH

#include "cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DIFF(op)                                                                                   \
    LCL_CHECKED lcl_status lcl_cuda_##op##_fwd(struct lcl_exec *, const struct lcl_##op##_args *); \
    LCL_CHECKED lcl_status lcl_cuda_##op##_bwd(struct lcl_exec *, const struct lcl_##op##_args *);
#define FWD(op) \
    LCL_CHECKED lcl_status lcl_cuda_##op##_fwd(struct lcl_exec *, const struct lcl_##op##_args *);
LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD

/* out_C += the sum over g of partial_GC, by a tree that G alone decides. */
LCL_CHECKED lcl_status lcl_cuda_add_partials(struct lcl_cuda_device *d, const float *partial_GC,
                                             int64_t G, int64_t C, float *out_C);

#ifdef __cplusplus
}
#endif
#endif
