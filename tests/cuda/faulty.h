/* Small kernels for the emulator's tests: each has one fault, or shows a right use. */
#ifndef LCL_TESTS_CUDA_FAULTY_H
#define LCL_TESTS_CUDA_FAULTY_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Floats that `global` must have for every kernel here. */
enum { FAULTY_FLOATS = 4096 };

/* Runs the kernel of this name once. In the source, a comment
 * `fault: NAME` stands in the line that is wrong. */
LCL_CHECKED lcl_status faulty_run(const char *name, float *global);
/* The same for faulty_async.cu. */
LCL_CHECKED lcl_status faulty_async_run(const char *name, float *global);
/* A kernel that does nothing, launched in this shape. */
LCL_CHECKED lcl_status faulty_launch(const unsigned grid[3], const unsigned block[3],
                                     size_t shared_bytes);

#ifdef __cplusplus
}
#endif
#endif
