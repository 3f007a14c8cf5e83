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

static lcl_status widen(const void *x, lcl_dtype dtype, int64_t n, float **out)
{
    *out = malloc((size_t)(n ? n : 1) * sizeof **out);
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory for the emulator's product");
    return lcl_convert(*out, LCL_F32, x, dtype, (size_t)n);
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
    for (int64_t m = 0; m < g->M; m++)
        for (int64_t n = 0; n < g->N; n++) {
            int64_t i = m * g->N + n;
            float x = g->alpha * c[i] + (g->bias_N ? g->bias_N[n] : 0);
            if (g->c_dtype == LCL_F32)
                ((float *)g->c)[i] = x + (g->accumulate ? ((float *)g->c)[i] : 0);
            else
                ((lcl_bf16 *)g->c)[i] = lcl_f32_to_bf16(
                    x + (g->accumulate ? lcl_bf16_to_f32(((lcl_bf16 *)g->c)[i]) : 0));
        }
    lcl_sim_written(g->c, (size_t)(g->M * g->N) * lcl_dtype_bytes(g->c_dtype));
}

static lcl_status run(void *params)
{
    const struct lcl_cuda_gemm *g = params;
    lcl_sim_copies_arrive();
    float *a = NULL, *b = NULL, *c = NULL;
    lcl_status status = LCL_OK;
    if (!g->M || !g->N) return LCL_OK;
    LCL_TRY_GOTO(widen(g->a, g->a_dtype, g->M * g->K, &a));
    LCL_TRY_GOTO(widen(g->b, g->b_dtype, g->K * g->N, &b));
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
