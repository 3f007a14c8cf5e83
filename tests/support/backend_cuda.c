/* The op tests' backend: CUDA on a real GPU, buffers in its managed memory. Every launch is waited
 * for (LCL_CUDA_SYNC), so that the host may read between ops. */
#include "core/arena.h"
#include "cuda/cuda.h"
#include "tests/support/support.h"

lcl_status test_backend_open(struct lcl_exec *ex)
{
    setenv("LCL_CUDA_SYNC", "1", 1);
    lcl_status status = lcl_cuda_open(ex, 0);
    if (status == LCL_OK) print_message("on %s\n", lcl_cuda_describe(ex));
    return status;
}

/* The arena that a buffer is, kept in front of it. */
enum { HEAD_BYTES = 128 };

void *test_backend_alloc(size_t guard_bytes, size_t bytes)
{
    struct lcl_arena a;
    test_exec(); /* whose memory it is */
    if (lcl_arena_reserve(&a, "a test's buffer", HEAD_BYTES + 2 * guard_bytes + bytes) != LCL_OK)
        return NULL;
    memcpy(a.base, &a, sizeof a);
    return a.base + HEAD_BYTES;
}

void test_backend_free(void *p, size_t guard_bytes)
{
    struct lcl_arena a;
    (void)guard_bytes;
    if (!p) return;
    memcpy(&a, (unsigned char *)p - HEAD_BYTES, sizeof a);
    lcl_arena_free(&a);
}

bool test_backend_wgmma(bool on) { return lcl_cuda_use_wgmma(test_exec(), on) == LCL_OK; }
