/* Features standardised by column, and normalised by row. Legend: M rows, C width. */
#include "cpu/rows.h"

static lcl_status standardize_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_standardize_args *a = r->args;
    const float *mean_C = a->mean_C, *inv_std_C = a->inv_std_C;
    float *temp;
    LCL_TRY(row_scratch(a->C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *x = row_load(a->x_MC, a->dtype, m * a->C, a->C, temp);
        float *y = row_open(a->y_MC, a->dtype, m * a->C, temp);
#pragma omp simd
        for (int64_t c = 0; c < a->C; c++) y[c] = (x[c] - mean_C[c]) * inv_std_C[c];
        row_store(a->y_MC, a->dtype, m * a->C, a->C, y);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(standardize_fwd)(struct lcl_exec *ex, const struct lcl_standardize_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rows("standardize", a->dtype, a->M, a->C));
    return rows_over(standardize_fwd_rows, a, a->M, a->C);
}

static lcl_status standardize_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_standardize_args *a = r->args;
    const float *inv_std_C = a->inv_std_C;
    float *temp;
    LCL_TRY(row_scratch(a->C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *d_y = row_load(a->d_y_MC, a->dtype, m * a->C, a->C, temp);
        float *d_x = row_open(a->d_x_MC, a->dtype, m * a->C, temp);
#pragma omp simd
        for (int64_t c = 0; c < a->C; c++) d_x[c] = d_y[c] * inv_std_C[c];
        row_store(a->d_x_MC, a->dtype, m * a->C, a->C, d_x);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(standardize_bwd)(struct lcl_exec *ex, const struct lcl_standardize_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rows("standardize", a->dtype, a->M, a->C));
    return a->d_x_MC ? rows_over(standardize_bwd_rows, a, a->M, a->C) : LCL_OK;
}

static lcl_status l2norm_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_l2norm_args *a = r->args;
    float *temp;
    LCL_TRY(row_scratch(a->C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *x = row_load(a->x_MC, a->dtype, m * a->C, a->C, temp);
        float norm = (float)sqrt(row_sum_squares(x, 0, a->C));
        float scale = 1.0f / (norm > a->eps ? norm : a->eps);
        float *y = row_open(a->y_MC, a->dtype, m * a->C, temp);
#pragma omp simd
        for (int64_t c = 0; c < a->C; c++) y[c] = x[c] * scale;
        row_store(a->y_MC, a->dtype, m * a->C, a->C, y);
        if (a->norm_M) a->norm_M[m] = norm;
    }
    return LCL_OK;
}

lcl_status LCL_CPU(l2norm_fwd)(struct lcl_exec *ex, const struct lcl_l2norm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rows("l2norm", a->dtype, a->M, a->C));
    return rows_over(l2norm_fwd_rows, a, a->M, a->C);
}

/* d_x = (d_y - u (u . d_y)) / |x|, u = x / |x|; below eps the norm is a constant: d_x = d_y / eps.
 */
static lcl_status l2norm_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_l2norm_args *a = r->args;
    float *temp;
    LCL_TRY(row_scratch(2 * a->C, &temp));
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        const float *x = row_load(a->x_MC, a->dtype, m * a->C, a->C, temp);
        const float *d_y = row_load(a->d_y_MC, a->dtype, m * a->C, a->C, temp + a->C);
        float *d_x = row_open(a->d_x_MC, a->dtype, m * a->C, temp);
        bool constant = !(a->norm_M[m] > a->eps);
        float scale = 1.0f / (constant ? a->eps : a->norm_M[m]);
        double along = constant ? 0 : row_dot(x, d_y, a->C) * (double)scale * (double)scale;
        float k = (float)along;
#pragma omp simd
        for (int64_t c = 0; c < a->C; c++) d_x[c] = (d_y[c] - x[c] * k) * scale;
        row_store(a->d_x_MC, a->dtype, m * a->C, a->C, d_x);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(l2norm_bwd)(struct lcl_exec *ex, const struct lcl_l2norm_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rows("l2norm", a->dtype, a->M, a->C));
    return a->d_x_MC ? rows_over(l2norm_bwd_rows, a, a->M, a->C) : LCL_OK;
}
