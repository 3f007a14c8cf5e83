/* The backend that a config names. */
#ifndef LCL_TRAIN_DEVICE_H
#define LCL_TRAIN_DEVICE_H

#include "core/config.h"
#include "core/ops.h"

/* Fills ex. LCL_UNSUPPORTED where this program was built without the backend, or the machine has no
 * such device; says what to do about it. */
LCL_CHECKED lcl_status lcl_device_open(struct lcl_exec *ex, const struct lcl_config *c);
void lcl_device_close(struct lcl_exec *ex);
/* Bytes of the backend's own memory that are free; infinite where tensors lie in the host's. */
double lcl_device_free_bytes(const struct lcl_exec *ex);
/* "CUDA: NVIDIA ..., sm_90", "emulator" or "not built in": for `lcl --version`. */
const char *lcl_device_describe(void);

#endif
