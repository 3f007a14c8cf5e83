/* What every test needs: cmocka's headers in their order, golden files, seeded noise, a temporary
 * folder. */
#ifndef LCL_TESTS_SUPPORT_H
#define LCL_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/ops.h"

/* Fails the test with the library's own message unless the call succeeded. */
#define ASSERT_OK(expr)                                                             \
    do {                                                                            \
        if ((expr) != LCL_OK)                                                       \
            fail_msg("%s: %s (%s)", #expr, lcl_error_message(), lcl_error_where()); \
    } while (0)
/* The call must fail with this code and a message that contains `text`. */
#define ASSERT_FAILS(expr, code, text)                                                      \
    do {                                                                                    \
        lcl_status s_ = (expr);                                                             \
        if (s_ != (code) || strstr(lcl_error_message(), (text)) == NULL)                    \
            fail_msg("%s: status %d, message \"%s\"; wanted %d and \"%s\"", #expr, (int)s_, \
                     s_ == LCL_OK ? "" : lcl_error_message(), (int)(code), (text));         \
    } while (0)

/* Path of a file of ../shared (LCL_SHARED overrides the folder), in a static buffer; skips the test
 * where it is absent. */
const char *shared_path(const char *relative);
bool shared_has(const char *relative);
/* A fresh folder under build/tmp, removed at exit. */
const char *temp_dir(void);
/* Fills x with N(0, std) from the test stream `sample`. */
void fill_normal(float *x, size_t n, float std, uint64_t sample);
/* The exec of the backend that the program is linked with; threads are started. */
struct lcl_exec *test_exec(void);
/* Attention in bf16 on wgmma, or as at first; false where the backend has no such choice. */
bool test_backend_wgmma(bool on);

/* Of the backend: backend_cpu.c (LCL_CPU_ISA picks the instruction set) or backend_cuda.c. */
lcl_status test_backend_open(struct lcl_exec *ex);
/* Memory that host and ops reach, 64-byte aligned; ops may touch `bytes` from `guard_bytes` on. */
void *test_backend_alloc(size_t guard_bytes, size_t bytes);
void test_backend_free(void *p, size_t guard_bytes);

#endif
