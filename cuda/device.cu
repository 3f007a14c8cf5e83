/* Opening a device, its scratch memory, and waiting for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/arena.h"
#include "cuda/gemm.h"
#include "cuda/kernel.cuh"

#if defined(__CUDACC__)

lcl_status lcl_cuda_count(int *n)
{
    *n = 0;
    cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaErrorInsufficientDriver || e == cudaErrorStubLibrary)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                             "install NVIDIA's driver, or a newer one, or run with --device cpu",
                             "no driver for CUDA %d.%d is there: %s", CUDART_VERSION / 1000,
                             CUDART_VERSION % 1000 / 10, cudaGetErrorString(e));
    if (e == cudaErrorNoDevice || (e == cudaSuccess && *n == 0))
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "run with --device cpu", "this machine has no GPU");
    LCL_CUDA_TRY(e);
    return LCL_OK;
}

static lcl_status open_stream(struct lcl_cuda_device *d)
{
    int n = 0;
    LCL_TRY(lcl_cuda_count(&n));
    if (d->number < 0 || d->number >= n)
        return LCL_FAIL(LCL_UNSUPPORTED, "there is no GPU %d; this machine has %d (0 to %d)",
                        d->number, n, n - 1);
    LCL_CUDA_TRY(cudaSetDevice(d->number));
    cudaDeviceProp p;
    LCL_CUDA_TRY(cudaGetDeviceProperties(&p, d->number));
    if (p.major < 8)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "run with --device cpu",
                             "%s is sm_%d%d; kernels are built for sm_80 and newer", p.name,
                             p.major, p.minor);
    int driver = 0;
    LCL_CUDA_TRY(cudaDriverGetVersion(&driver));
    snprintf(d->text, sizeof d->text, "%.200s, sm_%d%d, driver for CUDA %d.%d", p.name, p.major,
             p.minor, driver / 1000, driver % 1000 / 10);
    cudaStream_t stream;
    LCL_CUDA_TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    d->stream = stream;
    d->hopper = p.major == 9 && p.minor == 0;
    return LCL_OK;
}

/* Tensors of arenas: managed memory, whose pages stay on the GPU but for what the host reads and
 * writes between steps (a fresh model's values, checkpoints). Zeros, as fresh pages of the host. */
static void *tensors_reserve(size_t bytes)
{
    void *p = NULL;
    if (cudaMallocManaged(&p, bytes, cudaMemAttachGlobal) != cudaSuccess) {
        cudaGetLastError(); /* is told by the caller */
        return NULL;
    }
    if (cudaMemset(p, 0, bytes) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess) return p;
    cudaFree(p);
    return NULL;
}

static void tensors_release(void *p, size_t bytes)
{
    (void)bytes;
    cudaFree(p);
}

double lcl_cuda_free_bytes(const struct lcl_exec *ex)
{
    size_t unused = 0, all = 0;
    (void)ex;
    return cudaMemGetInfo(&unused, &all) == cudaSuccess ? (double)unused : (double)INFINITY;
}

lcl_status lcl_cuda_bus_id(const struct lcl_exec *ex, char id[LCL_CUDA_BUS_BYTES])
{
    LCL_CUDA_TRY(cudaDeviceGetPCIBusId(id, LCL_CUDA_BUS_BYTES, lcl_cuda_number(ex)));
    return LCL_OK;
}

const char *lcl_cuda_built(void)
{
    static char text[96];
    snprintf(text, sizeof text, "CUDA %d.%d for %s", CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, LCL_CUDA_ARCHES);
    return text;
}

static void close_stream(struct lcl_cuda_device *d)
{
    if (!d->stream) return;
    cudaStreamSynchronize((cudaStream_t)d->stream);
    cudaStreamDestroy((cudaStream_t)d->stream);
}

#else

lcl_status lcl_cuda_count(int *n)
{
    *n = 1;
    return LCL_OK;
}

static lcl_status open_stream(struct lcl_cuda_device *d)
{
    if (d->number != 0)
        return LCL_FAIL(LCL_UNSUPPORTED, "there is no GPU %d; the emulator is one, 0", d->number);
    snprintf(d->text, sizeof d->text, "emulator");
    d->hopper = true;
    return LCL_OK;
}

static void *tensors_reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    lcl_sim_register(p, bytes, false); /* the host writes to it unseen */
    return p;
}

static void tensors_release(void *p, size_t bytes)
{
    lcl_sim_forget(p);
    munmap(p, bytes);
}

/* LCL_SIM_MEMORY=BYTES in the environment makes a small device. */
double lcl_cuda_free_bytes(const struct lcl_exec *ex)
{
    const char *bytes = getenv("LCL_SIM_MEMORY");
    (void)ex;
    return bytes && *bytes ? atof(bytes) : (double)INFINITY;
}

lcl_status lcl_cuda_bus_id(const struct lcl_exec *ex, char id[LCL_CUDA_BUS_BYTES])
{
    (void)ex;
    snprintf(id, LCL_CUDA_BUS_BYTES, "emulator of process %ld", (long)getpid());
    return LCL_OK;
}

const char *lcl_cuda_built(void) { return "emulator"; }

static void close_stream(struct lcl_cuda_device *d) { (void)d; }

#endif

static void device_free(struct lcl_cuda_device *d)
{
    if (!d) return;
    lcl_cuda_gemm_close(d);
    close_stream(d);
    for (int i = 0; i < LCL_CUDA_SLOTS; i++) cudaFree(d->scratch[i]);
    lcl_cuda_exchange_free(d);
    lcl_cuda_marks_free(d);
    free(d);
}

lcl_status lcl_cuda_open(struct lcl_exec *ex, int device)
{
    struct lcl_cuda_device *d = (struct lcl_cuda_device *)calloc(1, sizeof *d);
    if (!d) return LCL_FAIL(LCL_MEMORY, "no memory to open a device");
    const char *sync = getenv("LCL_CUDA_SYNC");
    d->synchronous = sync && strcmp(sync, "1") == 0;
    const char *graph = getenv("LCL_CUDA_GRAPH");
    d->graphs = !graph || strcmp(graph, "0") != 0;
    d->number = device;
    lcl_status status = open_stream(d);
    if (status == LCL_OK) status = lcl_cuda_gemm_open(d);
    if (status != LCL_OK) {
        device_free(d);
        return status;
    }
    static const struct lcl_memory tensors = {tensors_reserve, tensors_release, nullptr};
    lcl_arena_memory(&tensors);
    ex->ops = lcl_cuda_ops();
    ex->device = d;
    ex->records = d->graphs;
    return LCL_OK;
}

lcl_status lcl_cuda_use_wgmma(struct lcl_exec *ex, bool on)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    if (on && !d->hopper)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "set attention: mma",
                             "attention: wgmma needs a GPU of compute capability 9.0; this is %s",
                             d->text);
    d->wgmma = on;
    return LCL_OK;
}

void lcl_cuda_close(struct lcl_exec *ex)
{
    lcl_arena_memory(NULL);
    device_free(lcl_cuda_device_of(ex));
    ex->device = NULL;
    ex->ops = NULL;
    ex->records = false;
}

const char *lcl_cuda_describe(const struct lcl_exec *ex)
{
    return ((const struct lcl_cuda_device *)ex->device)->text;
}

int lcl_cuda_number(const struct lcl_exec *ex)
{
    return ((const struct lcl_cuda_device *)ex->device)->number;
}

void *lcl_cuda_stream(const struct lcl_exec *ex)
{
    return ((const struct lcl_cuda_device *)ex->device)->stream;
}

size_t lcl_cuda_scratch_bytes(const struct lcl_exec *ex)
{
    const struct lcl_cuda_device *d = (const struct lcl_cuda_device *)ex->device;
    size_t bytes = d->results_bytes;
    for (int i = 0; i < LCL_CUDA_SLOTS; i++) bytes += d->scratch_bytes[i];
    for (int i = 0; i < LCL_CUDA_UPLOADS; i++) bytes += d->upload[i].capacity;
    return bytes;
}

lcl_status lcl_cuda_scratch(struct lcl_cuda_device *d, enum lcl_cuda_slot slot, size_t bytes,
                            void **out)
{
    if (d->scratch_bytes[slot] < bytes) {
        LCL_TRY(lcl_cuda_wait(d));
        LCL_CUDA_TRY(cudaFree(d->scratch[slot]));
        d->scratch[slot] = NULL;
        d->scratch_bytes[slot] = 0;
        if (cudaMalloc(&d->scratch[slot], bytes) != cudaSuccess)
            return LCL_FAIL_HINT(LCL_MEMORY,
                                 "lower per_device_train_batch_size, or set gradient_checkpointing",
                                 "the GPU has no %zu bytes of scratch left", bytes);
        d->scratch_bytes[slot] = bytes;
        d->scratch_grown++;
    }
    *out = d->scratch[slot];
    return LCL_OK;
}
