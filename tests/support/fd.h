/* Checks of one op: buffers with guard bytes, comparison with a double reference, finite
 * differences in double.
 *
 * A test computes its reference in double. Inputs come from buf_of(), which rounds the doubles to
 * the dtype in place, so that the reference and the op see the same numbers; outputs come from
 * buf_new(), filled with NaN, so that an element that is not written shows. buf_end() checks the
 * bytes around every buffer and frees them all. */
#ifndef LCL_TESTS_FD_H
#define LCL_TESTS_FD_H

#include "tests/support/support.h"

/* n doubles, zero, owned by the registry until buf_end(). */
double *dbl_new(size_t n);
/* n doubles from N(0, std), test stream `sample`. */
double *dbl_normal(size_t n, double std, uint64_t sample);

/* n elements (f32, bf16, f64) between guard bytes, every element NaN; aligned to 64 bytes. */
void *buf_new(size_t n, lcl_dtype dtype);
/* The same, holding x rounded to dtype; x is rounded in place. */
void *buf_of(double *x, size_t n, lcl_dtype dtype);
int32_t *buf_i32(const int32_t *x, size_t n);
/* Elements as doubles, owned by the registry. */
double *buf_read(const void *buf, size_t n, lcl_dtype dtype);
/* Fails the test where a byte beside a buffer has changed. */
void buf_check(void);
/* buf_check(), then frees every buffer. */
void buf_end(void);

/* |got - want| <= tol * max(|want|, 1e-30) over the array (f32: pass about 1e-6 times the root of
 * the sum's length). For bf16 each element may also be off by twice what rounding `want` to bf16
 * costs it. */
void check_close(const char *what, const void *got, lcl_dtype dtype, const double *want, size_t n,
                 double tol);
/* For ops that round on the way: the greatest and the root-mean-square error of bf16 `got` are at
 * most twice those of `plain`, a plain bf16 computation (every intermediate rounded by dbl_bf16) of
 * the same `want`. */
void check_bf16(const char *what, const void *got, const double *plain, const double *want,
                size_t n);
double dbl_bf16(double x); /* rounded to bf16 */

/* The scalar whose gradient is checked: usually sum(d_y * y(x)), read from arrays that ctx points
 * to. */
typedef double (*fd_loss)(void *ctx);
/* got[n] - base[n] (base NULL: zeros) against fourth-order central differences of loss over x[n]:
 * single coordinates (all, or 48 spread ones) and four random directions through all of them. x is
 * left as it was. An element passes within tol * max(|gradient|) (plus 2^-8 of itself where dtype
 * is bf16). */
void fd_check(const char *what, fd_loss loss, void *ctx, double *x, size_t n, const void *got,
              lcl_dtype dtype, const double *base, double tol);

/* Stops the thread pool and starts it with n threads. */
void restart_threads(int n);

#endif
