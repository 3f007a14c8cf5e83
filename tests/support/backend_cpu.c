/* The op tests' backend: the CPU. */
#include "cpu/cpu.h"
#include "tests/support/support.h"

lcl_status test_backend_open(struct lcl_exec *ex) { return lcl_cpu_ops(&ex->ops); }

void *test_backend_alloc(size_t guard_bytes, size_t bytes)
{
    return aligned_alloc(64, (2 * guard_bytes + bytes + 63) / 64 * 64);
}

void test_backend_free(void *p, size_t guard_bytes)
{
    (void)guard_bytes;
    free(p);
}

bool test_backend_wgmma(bool on) { return !on; }
