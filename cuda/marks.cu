/* For profiles: moments in the stream's own time, ranges for NVIDIA's tools, and what the device
 * can do at most. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/kernel.cuh"

#if defined(__CUDACC__) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define RANGES 1
#endif

static lcl_status grow(struct lcl_cuda_device *d, int64_t n)
{
    if (n <= d->n_marks) return LCL_OK;
    int64_t grown = d->n_marks ? d->n_marks : 1024;
    while (grown < n) grown *= 2;
    void **marks = (void **)realloc(d->marks, (size_t)grown * sizeof *marks);
    if (!marks) return LCL_FAIL(LCL_MEMORY, "no memory for %lld marks", (long long)grown);
    d->marks = marks;
    for (; d->n_marks < grown; d->n_marks++) {
        cudaEvent_t e;
        LCL_CUDA_TRY(cudaEventCreate(&e));
        d->marks[d->n_marks] = e;
    }
    return LCL_OK;
}

lcl_status lcl_cuda_mark(struct lcl_exec *ex, int64_t i)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(grow(d, i + 1));
    LCL_CUDA_TRY(cudaEventRecord((cudaEvent_t)d->marks[i], (cudaStream_t)d->stream));
    return LCL_OK;
}

lcl_status lcl_cuda_marks_between(struct lcl_exec *ex, int64_t from, int64_t to, double *seconds)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    float ms = 0;
    LCL_CUDA_TRY(cudaEventElapsedTime(&ms, (cudaEvent_t)d->marks[from], (cudaEvent_t)d->marks[to]));
    *seconds = (double)ms / 1000;
    return LCL_OK;
}

void lcl_cuda_marks_free(struct lcl_cuda_device *d)
{
    for (int64_t i = 0; i < d->n_marks; i++) cudaEventDestroy((cudaEvent_t)d->marks[i]);
    free(d->marks);
}

void lcl_cuda_range_begin(const char *name)
{
#if RANGES
    nvtxRangePushA(name);
#else
    (void)name;
#endif
}

void lcl_cuda_range_end(void)
{
#if RANGES
    nvtxRangePop();
#endif
}

#if defined(__CUDACC__)

/* Dense products with f32 sums by NVIDIA's data sheets, in TFLOP/s. Boost clocks that properties
 * tell are above those of the sheets, so known devices go by their names; longer names first. */
static const struct sheet {
    const char *name;
    double bf16, f32;
} sheets[] = {
    {"H100 PCIe", 756, 51}, {"H100 NVL", 835, 60}, {"GH200", 989, 67}, {"H100", 989, 67},
    {"H200", 989, 67},      {"H800", 989, 67},     {"B200", 2250, 75}, {"A100", 312, 19.5},
    {"A800", 312, 19.5},    {"A30", 165, 10.3},    {"A40", 150, 37.4}, {"A10", 125, 31.2},
    {"L40S", 362, 91.6},    {"L40", 181, 90.5},    {"L4", 121, 30.3},
};

/* The same of others: operations a clock and multiprocessor, by architecture. GeForce cards have
 * half the bf16 rate of the others of their architecture. */
static const struct rate {
    int arch, bf16, f32;
} rates[] = {{80, 2048, 128},  {86, 1024, 256},  {89, 1024, 256}, {90, 4096, 256},
             {100, 8192, 256}, {103, 8192, 256}, {120, 1024, 256}};

static bool has_word(const char *text, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += n)
        if (at > text && at[-1] == ' ' && !isalnum((unsigned char)at[n])) return true;
    return false;
}

void lcl_cuda_limits(const struct lcl_exec *ex, struct lcl_limits *l)
{
    const struct lcl_cuda_device *d = (const struct lcl_cuda_device *)ex->device;
    int clock_khz = 0, memory_khz = 0, bus_bits = 0, units = 0, major = 0, minor = 0;
    memset(l, 0, sizeof *l);
    cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, d->number);
    cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, d->number);
    cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, d->number);
    cudaDeviceGetAttribute(&units, cudaDevAttrMultiProcessorCount, d->number);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, d->number);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, d->number);
    l->bytes = 2e3 * memory_khz * bus_bits / 8;
    for (const struct sheet &s : sheets)
        if (l->flops_bf16 == 0 && has_word(d->text, s.name)) {
            l->flops_bf16 = s.bf16 * 1e12;
            l->flops_f32 = s.f32 * 1e12;
            snprintf(l->source, sizeof l->source,
                     "products by the %s's data sheet, memory by clock and bus", s.name);
        }
    for (const struct rate &r : rates)
        if (l->flops_bf16 == 0 && r.arch == major * 10 + minor) {
            const int bf16_rate = r.bf16 / (has_word(d->text, "GeForce") ? 2 : 1);
            l->flops_bf16 = 1e3 * clock_khz * units * bf16_rate;
            l->flops_f32 = 1e3 * clock_khz * units * r.f32;
            snprintf(l->source, sizeof l->source,
                     "data sheet of sm_%d (%d bf16, %d f32 a clock and unit), %d units, %d MHz",
                     r.arch, bf16_rate, r.f32, units, clock_khz / 1000);
        }
}

#else

void lcl_cuda_limits(const struct lcl_exec *ex, struct lcl_limits *l)
{
    (void)ex;
    memset(l, 0, sizeof *l);
    snprintf(l->source, sizeof l->source, "none: an emulator's speed says nothing of a GPU's");
}

#endif
