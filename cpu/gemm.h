/* Matrix multiplication for the ops of this room: one contract over oneDNN or OpenBLAS (chosen at
 * build time) and, where it wins, an own kernel for small problems; cpu/README.md has the numbers
 * behind the choice. */
#ifndef LCL_CPU_GEMM_H
#define LCL_CPU_GEMM_H

#include "cpu/isa.h"

/* Row-major c_MN = alpha * op(a)_MK op(b)_KN + beta * c. op(x) is x, or its transpose where trans_x
 * is 1: a is stored [M, lda] (trans_a = 0) or [K, lda] (1), b [K, ldb] (0) or [N, ldb] (1). lda,
 * ldb, ldc are in elements and at least the stored row's length. beta = 0 overwrites c, whatever it
 * holds. Each of a, b, c is f32 or bf16; sums are f32, and a bf16 c is rounded once. c overlaps
 * neither a nor b.
 *
 * Outside a pool chunk the problem is cut in pieces that depend on M, N, K and the types alone and
 * run over the pool; inside a chunk it runs on the calling thread. Either way the bits of c do not
 * depend on the thread count, and are the same inside and outside a chunk. M, N or K may be 0 (K =
 * 0: c = beta * c).
 *
 * It uses thread scratch slots LCL_GEMM_SCRATCH_FIRST.. of every thread it runs on; a caller that
 * holds scratch across the call keeps to lower slots. Errors: LCL_SHAPE (negative sizes, short
 * strides, a type that is neither f32 nor bf16), LCL_MEMORY, LCL_INTERNAL (the library failed). */
enum { LCL_GEMM_SCRATCH_FIRST = 5 };
LCL_CHECKED lcl_status LCL_CPU(gemm)(int trans_a, int trans_b, int64_t M, int64_t N, int64_t K,
                                     float alpha, const void *a, lcl_dtype a_type, int64_t lda,
                                     const void *b, lcl_dtype b_type, int64_t ldb, float beta,
                                     void *c, lcl_dtype c_type, int64_t ldc);

/* "oneDNN 2.6.3" or "OpenBLAS 0.3.21": for lcl_cpu_describe(). */
const char *LCL_CPU(gemm_library)(void);

#endif
