/* What a GEMM library gives to cpu/gemm.c: one single-threaded multiplication. gemm_onednn.c or
 * gemm_openblas.c fills it. */
#ifndef LCL_CPU_GEMM_LIBRARY_H
#define LCL_CPU_GEMM_LIBRARY_H

#include "cpu/isa.h"

/* c_MN = alpha * op(a) op(b) + bias_N + beta * c; fields as in cpu/gemm.h. M, N, K > 0. */
struct lcl_gemm_call {
    int trans_a, trans_b;
    int64_t M, N, K;
    float alpha;
    const void *a;
    lcl_dtype a_type;
    int64_t lda;
    const void *b;
    lcl_dtype b_type;
    int64_t ldb;
    const float *bias; /* or NULL; not read by gemm_library_f32 */
    float beta;
    void *c;
    lcl_dtype c_type;
    int64_t ldc;
};

/* All three matrices f32, no bias. */
LCL_CHECKED lcl_status LCL_CPU(gemm_library_f32)(const struct lcl_gemm_call *call);
/* Whether the library multiplies bf16 at full speed on this processor: then gemm_library_native may
 * be given any call whose a and b are both bf16. It depends on the machine alone. LCL_UNSUPPORTED:
 * not this one, and c is as it was. */
bool LCL_CPU(gemm_library_has_bf16)(void);
LCL_CHECKED lcl_status LCL_CPU(gemm_library_native)(const struct lcl_gemm_call *call);

/* Any types, any strides, over the pool; uses three GEMM scratch slots. */
LCL_CHECKED lcl_status LCL_CPU(gemm_own)(const struct lcl_gemm_call *call);

/* A few rows of a (not transposed) with b transposed, of any types: b is read once, where it lies;
 * uses one GEMM scratch slot. */
LCL_CHECKED lcl_status LCL_CPU(gemv)(const struct lcl_gemm_call *call);

/* The GEMM of cpu/gemm.h with a bias row (or NULL) added before c is rounded: the epilogue of
 * cpu/linear.c. */
LCL_CHECKED lcl_status LCL_CPU(gemm_bias)(const struct lcl_gemm_call *call);

#endif
