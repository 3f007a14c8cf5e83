/* The backend that a config names. */
#ifndef LCL_TRAIN_DEVICE_H
#define LCL_TRAIN_DEVICE_H

#include "core/config.h"
#include "core/ops_cost.h"

/* Fills ex. LCL_UNSUPPORTED where this program was built without the backend, or the machine has no
 * such device; says what to do about it. Of ranks (train/ranks.h) all call it: each has a GPU of
 * its own by its number on its host, unless device_number and share_gpu say otherwise, and their
 * gradients and values go from there (train/ranks_gpu.h). */
LCL_CHECKED lcl_status lcl_device_open(struct lcl_exec *ex, const struct lcl_config *c);
void lcl_device_close(struct lcl_exec *ex);
/* Bytes of the backend's own memory that are free; infinite where tensors lie in the host's. */
double lcl_device_free_bytes(const struct lcl_exec *ex);

/* For profiles: moments in the device's own time, which runs behind the host's (cuda/cuda.h). Where
 * ops are done when they return there is no such time: lcl_device_has_time() is false, marks and
 * ranges do nothing. */
bool lcl_device_has_time(const struct lcl_exec *ex);
LCL_CHECKED lcl_status lcl_device_mark(struct lcl_exec *ex, int64_t i);
LCL_CHECKED lcl_status lcl_device_marks_between(struct lcl_exec *ex, int64_t from, int64_t to,
                                                double *seconds);
void lcl_device_range_begin(const struct lcl_exec *ex, const char *name);
void lcl_device_range_end(const struct lcl_exec *ex);
/* What the device can do at most, by its maker; false where it has to be measured. */
bool lcl_device_limits(const struct lcl_exec *ex, struct lcl_limits *limits);

/* "NVIDIA H100 80GB HBM3, sm_90, driver ...", "emulator" or "CPU". */
const char *lcl_device_name(const struct lcl_exec *ex);
enum { LCL_DEVICE_LABEL_BYTES = 160 };
/* With its number, its place on the bus and its free memory: for a table of ranks. */
void lcl_device_label(const struct lcl_exec *ex, char text[LCL_DEVICE_LABEL_BYTES]);
/* "CUDA 13.0 for sm_90a", "emulator" or "not built in": for `lcl --version`. */
const char *lcl_device_describe(void);

#endif
