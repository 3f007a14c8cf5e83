/* Products in the emulator: cpu/'s, in f32, rounded once. */
#include "cuda/gemm.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cuda/sim/runtime.h"

lcl_status lcl_cuda_gemm_open(struct lcl_cuda_device *d)
{
    (void)d;
    return LCL_OK;
}

void lcl_cuda_gemm_close(struct lcl_cuda_device *d) { (void)d; }

/* x_RC, its rows ld apart. */
static lcl_status widen(const void *x, lcl_dtype dtype, int64_t R, int64_t C, int64_t ld,
                        float **out)
{
    *out = malloc((size_t)(R * C + 1) * sizeof **out);
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory for the emulator's product");
    for (int64_t r = 0; r < R; r++)
        LCL_TRY(lcl_convert(*out + r * C, LCL_F32,
                            (const char *)x + (size_t)(r * ld) * lcl_dtype_bytes(dtype), dtype,
                            (size_t)C));
    return LCL_OK;
}

/* c = a b by the half of cpu/'s linear that has this form. */
static lcl_status product(const struct lcl_cuda_gemm *g, const float *a, const float *b, float *c)
{
    struct lcl_exec cpu = {0};
    LCL_TRY(lcl_cpu_ops(&cpu.ops));
    struct lcl_linear_args l = {.dtype = LCL_F32, .weight_dtype = LCL_F32};
    switch (g->form) {
    case LCL_CUDA_NT:
        l.M = g->M, l.N = g->N, l.K = g->K;
        l.x_MK = a, l.weight_NK = b, l.y_MN = c;
        return cpu.ops->linear_fwd(&cpu, &l);
    case LCL_CUDA_NN:
        l.M = g->M, l.N = g->K, l.K = g->N;
        l.d_y_MN = a, l.weight_NK = b, l.d_x_MK = c;
        return cpu.ops->linear_bwd(&cpu, &l);
    case LCL_CUDA_TN:
        memset(c, 0, (size_t)(g->M * g->N) * sizeof *c);
        l.M = g->K, l.N = g->M, l.K = g->N;
        l.d_y_MN = a, l.x_MK = b, l.d_weight_NK = c;
        return cpu.ops->linear_bwd(&cpu, &l);
    }
    return LCL_FAIL(LCL_INTERNAL, "a product of no form");
}

static void finish(const struct lcl_cuda_gemm *g, const float *c)
{
    const int64_t ldc = g->ldc ? g->ldc : g->N;
    const size_t bytes = lcl_dtype_bytes(g->c_dtype);
    for (int64_t m = 0; m < g->M; m++) {
        for (int64_t n = 0; n < g->N; n++) {
            int64_t i = m * ldc + n;
            float x = g->alpha * c[m * g->N + n] + (g->bias_N ? g->bias_N[n] : 0);
            if (g->c_dtype == LCL_F32)
                ((float *)g->c)[i] = x + (g->accumulate ? ((float *)g->c)[i] : 0);
            else
                ((lcl_bf16 *)g->c)[i] = lcl_f32_to_bf16(
                    x + (g->accumulate ? lcl_bf16_to_f32(((lcl_bf16 *)g->c)[i]) : 0));
        }
        lcl_sim_written((char *)g->c + (size_t)(m * ldc) * bytes, (size_t)g->N * bytes);
    }
}

static lcl_status run(void *params)
{
    const struct lcl_cuda_gemm *g = params;
    lcl_sim_copies_arrive();
    float *a = NULL, *b = NULL, *c = NULL;
    lcl_status status = LCL_OK;
    if (!g->M || !g->N) return LCL_OK;
    const int64_t rows = g->form == LCL_CUDA_TN ? g->K : g->M;
    const int64_t columns = g->form == LCL_CUDA_TN ? g->M : g->K;
    LCL_TRY_GOTO(widen(g->a, g->a_dtype, rows, columns, g->lda ? g->lda : columns, &a));
    LCL_TRY_GOTO(widen(g->b, g->b_dtype, 1, g->K * g->N, g->K * g->N, &b));
    c = malloc((size_t)(g->M * g->N) * sizeof *c);
    if (!c) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the emulator's product");
        goto out;
    }
    LCL_TRY_GOTO(product(g, a, b, c));
    finish(g, c);
out:
    free(a);
    free(b);
    free(c);
    return status;
}

lcl_status lcl_cuda_gemm_run(struct lcl_cuda_device *d, const struct lcl_cuda_gemm *g)
{
    struct lcl_cuda_gemm copy = *g;
    (void)d;
    return lcl_sim_capturing() ? lcl_sim_capture(run, g, sizeof *g, NULL, 0) : run(&copy);
}
