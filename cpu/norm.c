/* Layer norm and RMS norm with the residual addition fused in front. Legend: M rows, C width. */
#include "cpu/rows.h"

/* The row that is normalised, as f32: sum = x + add rounded to dtype, so that forward and backward
 * see the same. */
static const float *residual_row(const void *x, const void *add, void *sum, lcl_dtype dtype,
                                 int64_t at, int64_t C, float *temp)
{
    const float *x_C = row_load(x, dtype, at, C, temp);
    if (!add) return x_C;
    float *sum_C = row_open(sum, dtype, at, temp);
    const float *add_C = row_load(add, dtype, at, C, temp + C);
#pragma omp simd
    for (int64_t c = 0; c < C; c++) sum_C[c] = x_C[c] + add_C[c];
    row_store(sum, dtype, at, C, sum_C);
    return row_load(sum, dtype, at, C, temp);
}

static lcl_status layernorm_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_layernorm_args *a = r->args;
    int64_t C = a->C;
    float *temp;
    LCL_TRY(row_scratch(3 * C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *x_C = residual_row(a->x_MC, a->add_MC, a->sum_MC, a->dtype, m * C, C, temp);
        float mean = (float)(row_sum(x_C, C) / (double)C);
        double variance = row_sum_squares(x_C, mean, C) / (double)C;
        float rstd = (float)(1.0 / sqrt(variance + (double)a->eps));
        float *y_C = row_open(a->y_MC, a->dtype, m * C, temp + 2 * C);
        const float *w_C = a->weight_C, *b_C = a->bias_C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) y_C[c] = (x_C[c] - mean) * rstd * w_C[c] + b_C[c];
        row_store(a->y_MC, a->dtype, m * C, C, y_C);
        if (a->mean_M) a->mean_M[m] = mean;
        if (a->rstd_M) a->rstd_M[m] = rstd;
    }
    return LCL_OK;
}

lcl_status LCL_CPU(layernorm_fwd)(struct lcl_exec *ex, const struct lcl_layernorm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_norm("layernorm", a->dtype, a->M, a->C, a->add_MC && !a->sum_MC));
    return rows_over(layernorm_fwd_rows, a, a->M, a->C);
}

/* d_x = rstd (g - mean(g) - xhat mean(g xhat)) + d_sum, g = d_y weight. xhat and g are left in x_C
 * and g_C. */
static void layernorm_bwd_row(const struct lcl_layernorm_args *a, int64_t m, float *temp,
                              float *d_w, float *d_b)
{
    int64_t C = a->C;
    float mean = a->mean_M[m], rstd = a->rstd_M[m];
    const float *x_C = row_load(a->sum_MC, a->dtype, m * C, C, temp);
    const float *dy_C = row_load(a->d_y_MC, a->dtype, m * C, C, temp + C);
    const float *w_C = a->weight_C;
    float *hat_C = temp + 2 * C, *g_C = temp + 3 * C;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        hat_C[c] = (x_C[c] - mean) * rstd;
        g_C[c] = dy_C[c] * w_C[c];
    }
    if (d_w) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) d_w[c] += dy_C[c] * hat_C[c];
    }
    if (d_b) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) d_b[c] += dy_C[c];
    }
    if (!a->d_x_MC) return;
    float mean_g = (float)(row_sum(g_C, C) / (double)C);
    float mean_gx = (float)(row_dot(g_C, hat_C, C) / (double)C);
    float *dx_C = row_open(a->d_x_MC, a->dtype, m * C, temp);
    if (a->d_sum_MC) {
        const float *ds_C = row_load(a->d_sum_MC, a->dtype, m * C, C, temp + C);
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            dx_C[c] = (g_C[c] - mean_g - hat_C[c] * mean_gx) * rstd + ds_C[c];
    } else {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) dx_C[c] = (g_C[c] - mean_g - hat_C[c] * mean_gx) * rstd;
    }
    row_store(a->d_x_MC, a->dtype, m * C, C, dx_C);
}

static lcl_status layernorm_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_layernorm_args *a = r->args;
    float *temp, *partial = NULL;
    LCL_TRY(row_scratch(4 * a->C, &temp));
    if (r->partial) partial = r->partial + chunk * r->partial_width;
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++)
        layernorm_bwd_row(a, m, temp, a->d_weight_C ? partial : NULL,
                          a->d_bias_C ? partial + a->C : NULL);
    return LCL_OK;
}

lcl_status LCL_CPU(layernorm_bwd)(struct lcl_exec *ex, const struct lcl_layernorm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_norm("layernorm", a->dtype, a->M, a->C, false));
    struct rows r;
    int64_t sums = a->d_weight_C || a->d_bias_C ? 2 * a->C : 0;
    LCL_TRY(LCL_CPU(rows_partial)(layernorm_bwd_rows, a, a->M, a->C, sums, &r));
    LCL_CPU(rows_reduce)(&r, 0, a->C, a->d_weight_C);
    LCL_CPU(rows_reduce)(&r, a->C, a->C, a->d_bias_C);
    return LCL_OK;
}

static lcl_status rmsnorm_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_rmsnorm_args *a = r->args;
    int64_t C = a->C;
    float *temp;
    LCL_TRY(row_scratch(3 * C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *x_C = residual_row(a->x_MC, a->add_MC, a->sum_MC, a->dtype, m * C, C, temp);
        double square = row_sum_squares(x_C, 0, C) / (double)C;
        float rstd = (float)(1.0 / sqrt(square + (double)a->eps));
        float *y_C = row_open(a->y_MC, a->dtype, m * C, temp + 2 * C);
        const float *w_C = a->weight_C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) y_C[c] = x_C[c] * rstd * w_C[c];
        row_store(a->y_MC, a->dtype, m * C, C, y_C);
        if (a->rstd_M) a->rstd_M[m] = rstd;
    }
    return LCL_OK;
}

lcl_status LCL_CPU(rmsnorm_fwd)(struct lcl_exec *ex, const struct lcl_rmsnorm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_norm("rmsnorm", a->dtype, a->M, a->C, a->add_MC && !a->sum_MC));
    return rows_over(rmsnorm_fwd_rows, a, a->M, a->C);
}

/* d_x = rstd (g - xhat mean(g xhat)) + d_sum, g = d_y weight, xhat = x rstd. */
static void rmsnorm_bwd_row(const struct lcl_rmsnorm_args *a, int64_t m, float *temp, float *d_w)
{
    int64_t C = a->C;
    float rstd = a->rstd_M[m];
    const float *x_C = row_load(a->sum_MC, a->dtype, m * C, C, temp);
    const float *dy_C = row_load(a->d_y_MC, a->dtype, m * C, C, temp + C);
    const float *w_C = a->weight_C;
    float *hat_C = temp + 2 * C, *g_C = temp + 3 * C;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        hat_C[c] = x_C[c] * rstd;
        g_C[c] = dy_C[c] * w_C[c];
    }
    if (d_w) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) d_w[c] += dy_C[c] * hat_C[c];
    }
    if (!a->d_x_MC) return;
    float mean_gx = (float)(row_dot(g_C, hat_C, C) / (double)C);
    float *dx_C = row_open(a->d_x_MC, a->dtype, m * C, temp);
    if (a->d_sum_MC) {
        const float *ds_C = row_load(a->d_sum_MC, a->dtype, m * C, C, temp + C);
#pragma omp simd
        for (int64_t c = 0; c < C; c++) dx_C[c] = (g_C[c] - hat_C[c] * mean_gx) * rstd + ds_C[c];
    } else {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) dx_C[c] = (g_C[c] - hat_C[c] * mean_gx) * rstd;
    }
    row_store(a->d_x_MC, a->dtype, m * C, C, dx_C);
}

static lcl_status rmsnorm_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_rmsnorm_args *a = r->args;
    float *temp;
    LCL_TRY(row_scratch(4 * a->C, &temp));
    float *d_w = r->partial ? r->partial + chunk * r->partial_width : NULL;
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++)
        rmsnorm_bwd_row(a, m, temp, d_w);
    return LCL_OK;
}

lcl_status LCL_CPU(rmsnorm_bwd)(struct lcl_exec *ex, const struct lcl_rmsnorm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_norm("rmsnorm", a->dtype, a->M, a->C, false));
    struct rows r;
    LCL_TRY(LCL_CPU(rows_partial)(rmsnorm_bwd_rows, a, a->M, a->C, a->d_weight_C ? a->C : 0, &r));
    LCL_CPU(rows_reduce)(&r, 0, a->C, a->d_weight_C);
    return LCL_OK;
}
