/* Matrix products of the CUDA backend: cuBLASLt on a device (gemm_cublaslt.cu), cpu/'s products in
 * the emulator (sim/gemm.c). */
#ifndef LCL_CUDA_GEMM_H
#define LCL_CUDA_GEMM_H

#include "cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c_MN = alpha a b (+ c) (+ bias_N in every row); row-major. Named for what is transposed, a first:
 * NT: a_MK, b_NK; NN: a_MK, b_KN; TN: a_KM, b_KN. Stored rows lie without gaps, unless a or c says
 * how many elements they are apart: then all dtypes of operands are the same, K is above 0 and
 * there is no bias. */
enum lcl_cuda_form { LCL_CUDA_NT, LCL_CUDA_NN, LCL_CUDA_TN };
struct lcl_cuda_gemm {
    enum lcl_cuda_form form;
    int64_t M, N, K;
    int64_t lda, ldc;                    /* 0: no gaps */
    lcl_dtype a_dtype, b_dtype, c_dtype; /* f32 or bf16; sums are f32 */
    const void *a, *b;
    void *c;
    bool accumulate;
    float alpha;
    const float *bias_N; /* or NULL */
};

LCL_CHECKED lcl_status lcl_cuda_gemm_open(struct lcl_cuda_device *d);
void lcl_cuda_gemm_close(struct lcl_cuda_device *d);
LCL_CHECKED lcl_status lcl_cuda_gemm_run(struct lcl_cuda_device *d, const struct lcl_cuda_gemm *g);

#ifdef __cplusplus
}
#endif
#endif
