/* A kernel for each group of cuda/intrinsics.cuh, for their test on the emulator and on a GPU. */
#ifndef LCL_TESTS_CUDA_INTRINSICS_H
#define LCL_TESTS_CUDA_INTRINSICS_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Floats that `g` must have for every kernel here; results are from INTRINSICS_OUT on. */
enum { INTRINSICS_FLOATS = 4096, INTRINSICS_OUT = 1024 };

/* Runs the kernel of this name once on the backend's stream. */
LCL_CHECKED lcl_status intrinsics_run(struct lcl_exec *ex, const char *name, float *g);

#ifdef __cplusplus
}
#endif
#endif
