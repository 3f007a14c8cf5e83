/* OpenBLAS behind cpu/gemm_library.h: the fallback where oneDNN's headers are missing. It has no
 * bf16 product. */
#ifdef LCL_GEMM_OPENBLAS
#include <stdio.h>

#include "cpu/gemm.h"
#include "cpu/gemm_library.h"

#include <cblas.h> /* last: it defines the macro I */

lcl_status LCL_CPU(gemm_library_f32)(const struct lcl_gemm_call *call)
{
    static _Thread_local bool
        single; /* the pool owns the cores: the library must not start its own threads */
    if (!single) {
        openblas_set_num_threads(1);
        single = true;
    }
    cblas_sgemm(CblasRowMajor, call->trans_a ? CblasTrans : CblasNoTrans,
                call->trans_b ? CblasTrans : CblasNoTrans, (blasint)call->M, (blasint)call->N,
                (blasint)call->K, call->alpha, call->a, (blasint)call->lda, call->b,
                (blasint)call->ldb, call->beta, call->c, (blasint)call->ldc);
    return LCL_OK;
}

bool LCL_CPU(gemm_library_has_bf16)(void) { return false; }

lcl_status LCL_CPU(gemm_library_native)(const struct lcl_gemm_call *call)
{
    return LCL_FAIL(LCL_UNSUPPORTED, "OpenBLAS multiplies no bf16 (asked for %lld x %lld x %lld)",
                    (long long)call->M, (long long)call->N, (long long)call->K);
}

const char *LCL_CPU(gemm_library)(void)
{
    static _Thread_local char
        name[96]; /* of the calling thread, so that nobody writes while another reads */
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..." */
    char version[32] = "";
    (void)sscanf(config, "OpenBLAS %31s", version);
    snprintf(name, sizeof name, "OpenBLAS %s (%s)", version, openblas_get_corename());
    return name;
}
#endif
