/* Compiled with LCL_CUDA where the CUDA backend, or its emulator, is linked. */
#include "train/device.h"

#include <math.h>
#include <stdio.h>

#include "core/log.h"
#include "cpu/cpu.h"
#include "train/ranks.h"
#include "train/ranks_gpu.h"

#ifdef LCL_CUDA

#include "cuda/cuda.h"

_Static_assert((int)LCL_BUS_BYTES == (int)LCL_CUDA_BUS_BYTES, "names of GPUs");

/* Of this rank alone, and known to be. */
static lcl_status join_ranks(struct lcl_comm *ranks, struct lcl_exec *ex, bool share)
{
    char bus[LCL_CUDA_BUS_BYTES];
    bool shared;
    if (!ranks) return LCL_OK;
    LCL_TRY(lcl_cuda_bus_id(ex, bus));
    LCL_TRY(lcl_gpu_claim(ranks, bus, share, &shared));
    return lcl_gpu_attach(ranks, ex, shared);
}

static lcl_status open_cuda(struct lcl_exec *ex, const struct lcl_config *c)
{
    struct lcl_comm *ranks = lcl_ranks();
    int n_gpus;
    LCL_TRY(lcl_cuda_count(&n_gpus));
    LCL_TRY(lcl_cuda_open(
        ex, lcl_gpu_of_rank(c->device_number, ranks ? ranks->local_rank : 0, n_gpus)));
    lcl_status status = lcl_cuda_use_wgmma(ex, c->attention == LCL_ATTENTION_WGMMA);
    if (status == LCL_OK) status = join_ranks(ranks, ex, c->share_gpu);
    if (status != LCL_OK) lcl_cuda_close(ex);
    return status;
}

void lcl_device_close(struct lcl_exec *ex)
{
    lcl_gpu_detach(lcl_ranks(), ex);
    if (ex->device) lcl_cuda_close(ex);
    *ex = (struct lcl_exec){0};
}

void lcl_device_label(const struct lcl_exec *ex, char text[LCL_DEVICE_LABEL_BYTES])
{
    char bus[LCL_CUDA_BUS_BYTES], bytes[24];
    const double left = lcl_device_free_bytes(ex);
    snprintf(text, LCL_DEVICE_LABEL_BYTES, "%s", lcl_device_name(ex));
    if (!ex->device || lcl_cuda_bus_id(ex, bus) != LCL_OK) return;
    snprintf(text, LCL_DEVICE_LABEL_BYTES, "GPU %d, %s: %.64s%s%s", lcl_cuda_number(ex), bus,
             lcl_cuda_describe(ex), isfinite(left) ? ", free " : "",
             isfinite(left) ? lcl_format_bytes(left, bytes) : "");
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

void lcl_device_label(const struct lcl_exec *ex, char text[LCL_DEVICE_LABEL_BYTES])
{
    snprintf(text, LCL_DEVICE_LABEL_BYTES, "%s", lcl_device_name(ex));
}

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
