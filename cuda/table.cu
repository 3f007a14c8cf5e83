#include "cuda/cuda.h"
#include "cuda/ops.cuh"

#define DIFF(op) lcl_cuda_##op##_fwd, lcl_cuda_##op##_bwd,
#define FWD(op) lcl_cuda_##op##_fwd,
static const struct lcl_ops table = {"cuda", LCL_OPS(DIFF, FWD)};

const struct lcl_ops *lcl_cuda_ops(void) { return &table; }
