/* The CUDA backend: every op on one NVIDIA GPU, or on the emulator (cuda/sim/), whichever the
 * program is linked with. */
#ifndef LCL_CUDA_CUDA_H
#define LCL_CUDA_CUDA_H

#include "core/ops_cost.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many GPUs this process sees; 1 in the emulator. LCL_UNSUPPORTED as lcl_cuda_open() has it. */
LCL_CHECKED lcl_status lcl_cuda_count(int *n);
/* Opens device number `device` (0: the first) and fills ex. LCL_UNSUPPORTED where there is no
 * driver or no such device, with what to do about it. */
LCL_CHECKED lcl_status lcl_cuda_open(struct lcl_exec *ex, int device);
/* Attention in bf16 runs on wgmma (on: true), or on mma.sync as at first. LCL_UNSUPPORTED
 * on a GPU that is not of compute capability 9.0. */
LCL_CHECKED lcl_status lcl_cuda_use_wgmma(struct lcl_exec *ex, bool on);
/* Waits for what is under way and frees all that ops have reserved. */
void lcl_cuda_close(struct lcl_exec *ex);
/* Waits until all ops so far are done and their results are in the host's memory. */
LCL_CHECKED lcl_status lcl_cuda_sync(struct lcl_exec *ex);
/* How often the host waited for the device so far; a training step does so once. */
int64_t lcl_cuda_waits(const struct lcl_exec *ex);
/* Bytes of the device that are free now. */
double lcl_cuda_free_bytes(const struct lcl_exec *ex);
/* Bytes that ops have reserved for themselves: scratch, copies of index arrays, results. */
size_t lcl_cuda_scratch_bytes(const struct lcl_exec *ex);
enum { LCL_CUDA_BUS_BYTES = 32 };
/* "0000:1b:00.0", which names a GPU within its host; an emulator is its process's own:
 * "emulator of process 17". */
LCL_CHECKED lcl_status lcl_cuda_bus_id(const struct lcl_exec *ex, char id[LCL_CUDA_BUS_BYTES]);
int lcl_cuda_number(const struct lcl_exec *ex);
/* cudaStream_t: ops run on it, one after another. NULL in the emulator. */
void *lcl_cuda_stream(const struct lcl_exec *ex);
/* "NVIDIA H100 80GB HBM3, sm_90, driver 13.0" or "emulator". */
const char *lcl_cuda_describe(const struct lcl_exec *ex);

/* What this was built for: "CUDA 13.0 for sm_80, sm_90a", or "emulator". */
const char *lcl_cuda_built(void);

/* For profiles (marks.cu). Mark i: the moment when the device has done all ops so far; seconds
 * between two marks, once both are past (after a sync). Marks are numbered by the caller from 0;
 * setting one again moves it. */
LCL_CHECKED lcl_status lcl_cuda_mark(struct lcl_exec *ex, int64_t i);
LCL_CHECKED lcl_status lcl_cuda_marks_between(struct lcl_exec *ex, int64_t from, int64_t to,
                                              double *seconds);
/* NVTX ranges of the calling thread, which nest; nothing in the emulator. */
void lcl_cuda_range_begin(const char *name);
void lcl_cuda_range_end(void);
/* Zeros, and why, where nothing is known. */
void lcl_cuda_limits(const struct lcl_exec *ex, struct lcl_limits *limits);

/* The table; lcl_cuda_open() puts it into ex. */
const struct lcl_ops *lcl_cuda_ops(void);

#ifdef __cplusplus
}
#endif
#endif
