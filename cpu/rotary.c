/* Rotary embeddings, rotate-half convention. Legend: T tokens, D head width. */
#include "cpu/rows.h"
#include "cpu/simd.h"

enum { MAX_D = LCL_ROTARY_MAX_D };

/* x0, x1: the halves of one head. */
static void rotate(float *restrict x0, float *restrict x1, const float *restrict c,
                   const float *restrict s, int64_t half)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = x0[i], b = x1[i];
        x0[i] = a * c[i] - b * s[i];
        x1[i] = b * c[i] + a * s[i];
    }
}

/* sign is +1 for the rotation, -1 for its inverse (which is also its transpose). */
static void rotary_row(const struct lcl_rotary_args *a, int64_t t, float sign)
{
    int64_t half = a->D / 2;
    float c[MAX_D / 2], s[MAX_D / 2], temp[MAX_D];
    float position = (float)a->position_T[t];
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float sine, cosine;
        simd_sincos(position * a->inv_freq[i], &sine, &cosine);
        c[i] = cosine * a->scale;
        s[i] = sine * a->scale * sign;
    }
    for (int64_t h = 0; h < a->n_heads; h++) {
        int64_t at = t * a->row_stride + h * a->D;
        if (a->dtype == LCL_F32) {
            float *x = (float *)a->x + at;
            rotate(x, x + half, c, s, half);
        } else {
            row_widen(temp, (lcl_bf16 *)a->x + at, a->D);
            rotate(temp, temp + half, c, s, half);
            row_narrow((lcl_bf16 *)a->x + at, temp, a->D);
        }
    }
}

static lcl_status rotary_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    for (int64_t t = rows_begin(r, chunk); t < rows_end(r, chunk); t++)
        rotary_row(r->args, t, 1.0f);
    return LCL_OK;
}

lcl_status LCL_CPU(rotary_fwd)(struct lcl_exec *ex, const struct lcl_rotary_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rotary(a));
    return rows_over(rotary_fwd_rows, a, a->T, a->n_heads * a->D);
}

static lcl_status rotary_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    for (int64_t t = rows_begin(r, chunk); t < rows_end(r, chunk); t++)
        rotary_row(r->args, t, -1.0f);
    return LCL_OK;
}

lcl_status LCL_CPU(rotary_bwd)(struct lcl_exec *ex, const struct lcl_rotary_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_rotary(a));
    return rows_over(rotary_bwd_rows, a, a->T, a->n_heads * a->D);
}
