/* The device of test_alone.c: the stub's (alone_stub.c), or a GPU (alone_gpu.c). */
#ifndef LCL_TESTS_NCCL_ALONE_H
#define LCL_TESTS_NCCL_ALONE_H

#include "core/ops.h"

LCL_CHECKED lcl_status alone_open(struct lcl_exec *ex);
void alone_close(struct lcl_exec *ex);
/* y [n] = x of the host, in the device's own time. */
LCL_CHECKED lcl_status alone_upload(struct lcl_exec *ex, const float *x, float *y, int64_t n);

#endif
