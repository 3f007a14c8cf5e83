/* The op tests' backend: CUDA kernels in the emulator, which knows just the tests' buffers. */
#include "cuda/cuda.h"
#include "cuda/sim/sim.h"
#include "tests/support/support.h"

lcl_status test_backend_open(struct lcl_exec *ex)
{
    setenv("LCL_CUDA_SYNC", "1", 1);
    return lcl_cuda_open(ex, 0);
}

void *test_backend_alloc(size_t guard_bytes, size_t bytes)
{
    unsigned char *p = aligned_alloc(64, (2 * guard_bytes + bytes + 63) / 64 * 64);
    if (p) lcl_sim_register(p + guard_bytes, bytes, false);
    return p;
}

void test_backend_free(void *p, size_t guard_bytes)
{
    if (p) lcl_sim_forget((unsigned char *)p + guard_bytes);
    free(p);
}

bool test_backend_wgmma(bool on) { return lcl_cuda_use_wgmma(test_exec(), on) == LCL_OK; }
