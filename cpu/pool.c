/* Image tokens selected and pooled. Legend: I images, T tokens an image, C width, N =
 * lcl_image_pool_tokens(). */
#include "cpu/rows.h"

/* Side of the patch grid (its tokens are a square). */
static int64_t grid_side(const struct lcl_image_pool_args *a)
{
    int64_t side = 1;
    while (side * side < a->T - a->first_token) side++;
    return side;
}

/* Output token of selected token k. */
static int64_t target_of(const struct lcl_image_pool_args *a, int64_t side, int64_t k)
{
    switch (a->kind) {
    case LCL_POOL_NONE:
        return k;
    case LCL_POOL_MEAN:
        return 0;
    case LCL_POOL_2X2:
        return k / side / (side / 2) * 2 + k % side / (side / 2);
    }
    return 0;
}

/* Selected tokens that one output token is the mean of. */
static int64_t members(const struct lcl_image_pool_args *a)
{
    return (a->T - a->first_token) / lcl_image_pool_tokens(a->kind, a->T, a->first_token);
}

static lcl_status image_pool_fwd_images(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_image_pool_args *a = r->args;
    int64_t C = a->C, N = lcl_image_pool_tokens(a->kind, a->T, a->first_token);
    int64_t side = grid_side(a);
    float share = 1.0f / (float)members(a), *temp;
    LCL_TRY(row_scratch((N + 1) * C, &temp));
    float *x_temp = temp + N * C;
    for (int64_t image = rows_begin(r, chunk); image < rows_end(r, chunk); image++) {
        memset(temp, 0, (size_t)(N * C) * sizeof *temp);
        for (int64_t k = 0; k < a->T - a->first_token; k++) {
            int64_t at = (image * a->T + a->first_token + k) * C;
            const float *x = row_load(a->x_ITC, a->dtype, at, C, x_temp);
            float *sum = temp + target_of(a, side, k) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) sum[c] += x[c];
        }
        float *y = row_open(a->y, a->dtype, image * N * C, temp);
#pragma omp simd
        for (int64_t i = 0; i < N * C; i++) y[i] = temp[i] * share;
        row_store(a->y, a->dtype, image * N * C, N * C, y);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(image_pool_fwd)(struct lcl_exec *ex, const struct lcl_image_pool_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_image_pool(a));
    return rows_over(image_pool_fwd_images, a, a->I, a->T * a->C);
}

static lcl_status image_pool_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_image_pool_args *a = r->args;
    int64_t C = a->C, N = lcl_image_pool_tokens(a->kind, a->T, a->first_token);
    int64_t side = grid_side(a);
    float share = 1.0f / (float)members(a), *temp;
    LCL_TRY(row_scratch(C, &temp));
    for (int64_t row = rows_begin(r, chunk); row < rows_end(r, chunk); row++) {
        int64_t image = row / a->T, k = row % a->T - a->first_token;
        float *d_x = row_open(a->d_x_ITC, a->dtype, row * C, temp);
        if (k < 0) {
            memset(d_x, 0, (size_t)C * sizeof *d_x);
        } else {
            int64_t at = (image * N + target_of(a, side, k)) * C;
            const float *d_y = row_load(a->d_y, a->dtype, at, C, temp);
#pragma omp simd
            for (int64_t c = 0; c < C; c++) d_x[c] = d_y[c] * share;
        }
        row_store(a->d_x_ITC, a->dtype, row * C, C, d_x);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(image_pool_bwd)(struct lcl_exec *ex, const struct lcl_image_pool_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_image_pool(a));
    return a->d_x_ITC ? rows_over(image_pool_bwd_rows, a, a->I * a->T, a->C) : LCL_OK;
}
