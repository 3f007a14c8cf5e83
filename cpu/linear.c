/* y_MN = x_MK weight_NK^T + bias_N: GEMMs of cpu/gemm.c, and column sums for the bias.
 * M rows, N outputs, K inputs. */
#include "cpu/gemm.h"
#include "cpu/gemm_library.h"
#include "cpu/linear_blocks.h"
#include "cpu/rows.h"

enum { BIAS_COLS = 64, BIAS_ROWS = 256 };

static float scale_of(const struct lcl_linear_args *a) { return a->scale == 0 ? 1 : a->scale; }

static int64_t stride_of(const struct lcl_linear_args *a)
{
    return a->y_stride ? a->y_stride : a->N;
}

lcl_status LCL_CPU(linear_fwd)(struct lcl_exec *ex, const struct lcl_linear_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_linear(a));
    if (lcl_is_blocks(a->weight_dtype)) return LCL_CPU(linear_blocks_fwd)(a);
    struct lcl_gemm_call call = {0,
                                 1,
                                 a->M,
                                 a->N,
                                 a->K,
                                 scale_of(a),
                                 a->x_MK,
                                 a->dtype,
                                 a->K,
                                 a->weight_NK,
                                 a->weight_dtype,
                                 a->K,
                                 a->bias_N,
                                 a->accumulate_y ? 1.0f : 0.0f,
                                 a->y_MN,
                                 a->dtype,
                                 stride_of(a)};
    return LCL_CPU(gemm_bias)(&call);
}

/* d_bias[j] += the sum over rows, BIAS_ROWS at a time in f32, those in f64: one chunk owns a
 * column. */
static lcl_status bias_columns(void *ctx, int64_t chunk)
{
    const struct lcl_linear_args *a = ctx;
    int64_t begin = chunk * BIAS_COLS, end = lcl_chunk_end(chunk, BIAS_COLS, a->N), n = end - begin;
    double total[BIAS_COLS] = {0};
    for (int64_t block = 0; block < a->M; block += BIAS_ROWS) {
        int64_t last = block + BIAS_ROWS < a->M ? block + BIAS_ROWS : a->M;
        float sum[BIAS_COLS] = {0}, temp[BIAS_COLS];
        for (int64_t i = block; i < last; i++) {
            const float *row = row_load(a->d_y_MN, a->dtype, i * a->N + begin, n, temp);
            for (int64_t j = 0; j < n; j++) sum[j] += row[j];
        }
        for (int64_t j = 0; j < n; j++) total[j] += (double)sum[j];
    }
    for (int64_t j = 0; j < n; j++) a->d_bias_N[begin + j] += (float)total[j];
    return LCL_OK;
}

lcl_status LCL_CPU(linear_bwd)(struct lcl_exec *ex, const struct lcl_linear_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_linear(a));
    if (a->d_x_MK && lcl_is_blocks(a->weight_dtype))
        LCL_TRY(LCL_CPU(linear_blocks_bwd)(a));
    else if (a->d_x_MK)
        LCL_TRY(LCL_CPU(gemm)(0, 0, a->M, a->K, a->N, scale_of(a), a->d_y_MN, a->dtype,
                              stride_of(a), a->weight_NK, a->weight_dtype, a->K,
                              a->accumulate_d_x ? 1.0f : 0.0f, a->d_x_MK, a->dtype, a->K));
    if (a->d_weight_NK)
        LCL_TRY(LCL_CPU(gemm)(1, 0, a->N, a->K, a->M, scale_of(a), a->d_y_MN, a->dtype,
                              stride_of(a), a->x_MK, a->dtype, a->K, 1.0f, a->d_weight_NK, LCL_F32,
                              a->K));
    if (!a->d_bias_N) return LCL_OK;
    struct lcl_linear_args copy = *a;
    return lcl_parallel(lcl_chunk_count(a->N, BIAS_COLS), bias_columns, &copy);
}
