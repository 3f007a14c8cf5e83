/* Compiled with LCL_CUDA where the CUDA backend, or its emulator, is linked. */
#include "train/device.h"

#include <math.h>

#include "cpu/cpu.h"

#ifdef LCL_CUDA

#include "cuda/cuda.h"

static lcl_status open_cuda(struct lcl_exec *ex, const struct lcl_config *c)
{
    LCL_TRY(lcl_cuda_open(ex, (int)c->device_number));
    lcl_status status = lcl_cuda_use_wgmma(ex, c->attention == LCL_ATTENTION_WGMMA);
    if (status != LCL_OK) lcl_cuda_close(ex);
    return status;
}

void lcl_device_close(struct lcl_exec *ex)
{
    if (ex->device) lcl_cuda_close(ex);
    *ex = (struct lcl_exec){0};
}

double lcl_device_free_bytes(const struct lcl_exec *ex)
{
    return ex->device ? lcl_cuda_free_bytes(ex) : (double)INFINITY;
}

bool lcl_device_has_time(const struct lcl_exec *ex) { return ex->device != NULL; }

lcl_status lcl_device_mark(struct lcl_exec *ex, int64_t i)
{
    return ex->device ? lcl_cuda_mark(ex, i) : LCL_OK;
}

lcl_status lcl_device_marks_between(struct lcl_exec *ex, int64_t from, int64_t to, double *seconds)
{
    *seconds = 0;
    return ex->device ? lcl_cuda_marks_between(ex, from, to, seconds) : LCL_OK;
}

void lcl_device_range_begin(const struct lcl_exec *ex, const char *name)
{
    if (ex->device) lcl_cuda_range_begin(name);
}

void lcl_device_range_end(const struct lcl_exec *ex)
{
    if (ex->device) lcl_cuda_range_end();
}

bool lcl_device_limits(const struct lcl_exec *ex, struct lcl_limits *limits)
{
    if (ex->device) lcl_cuda_limits(ex, limits);
    return ex->device != NULL;
}

const char *lcl_device_name(const struct lcl_exec *ex)
{
    return ex->device ? lcl_cuda_describe(ex) : "CPU";
}

const char *lcl_device_describe(void) { return lcl_cuda_built(); }

#else

static lcl_status open_cuda(struct lcl_exec *ex, const struct lcl_config *c)
{
    (void)ex, (void)c;
    return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                         "run with device: cpu, or build where nvcc is (make setup-cuda)",
                         "this lcl was built without CUDA");
}

void lcl_device_close(struct lcl_exec *ex) { *ex = (struct lcl_exec){0}; }

double lcl_device_free_bytes(const struct lcl_exec *ex)
{
    (void)ex;
    return (double)INFINITY;
}

bool lcl_device_has_time(const struct lcl_exec *ex)
{
    (void)ex;
    return false;
}

lcl_status lcl_device_mark(struct lcl_exec *ex, int64_t i)
{
    (void)ex, (void)i;
    return LCL_OK;
}

lcl_status lcl_device_marks_between(struct lcl_exec *ex, int64_t from, int64_t to, double *seconds)
{
    (void)ex, (void)from, (void)to;
    *seconds = 0;
    return LCL_OK;
}

void lcl_device_range_begin(const struct lcl_exec *ex, const char *name) { (void)ex, (void)name; }

void lcl_device_range_end(const struct lcl_exec *ex) { (void)ex; }

bool lcl_device_limits(const struct lcl_exec *ex, struct lcl_limits *limits)
{
    (void)ex, (void)limits;
    return false;
}

const char *lcl_device_name(const struct lcl_exec *ex)
{
    (void)ex;
    return "CPU";
}

const char *lcl_device_describe(void) { return "not built in"; }

#endif

lcl_status lcl_device_open(struct lcl_exec *ex, const struct lcl_config *c)
{
    if (c->device == LCL_DEVICE_CUDA) return open_cuda(ex, c);
    return lcl_cpu_ops(&ex->ops);
}
