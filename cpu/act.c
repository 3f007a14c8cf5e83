/* Activations: the GELU forms and SwiGLU, block by block. Legend: M rows, F feed-forward width. */
#include "cpu/rows.h"
#include "cpu/simd.h"

enum { BLOCK = 512 }; /* elements that bf16 data are widened at a time, on the stack */

static const float inv_sqrt_2pi = 0.398942280f;
static const float tanh_scale =
    1.59576912f; /* 2 sqrt(2 / pi): tanh form = x sigmoid(scale (x + c x^3)) */
static const float tanh_cubic = 0.044715f;

static void gelu_block(enum lcl_gelu_kind kind, const float *x, float *y, int64_t n)
{
    switch (kind) {
    case LCL_GELU_ERF:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float bell;
            y[i] = x[i] * simd_normal_cdf(x[i], &bell);
        }
        return;
    case LCL_GELU_QUICK:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * simd_sigmoid(1.702f * x[i]);
        return;
    case LCL_GELU_TANH:
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * simd_sigmoid(tanh_scale * x[i] * (1.0f + tanh_cubic * x[i] * x[i]));
        return;
    }
}

static void gelu_bwd_block(enum lcl_gelu_kind kind, const float *x, const float *dy, float *dx,
                           int64_t n)
{
    switch (kind) {
    case LCL_GELU_ERF:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float bell, cdf = simd_normal_cdf(x[i], &bell);
            dx[i] = dy[i] * (cdf + x[i] * bell * inv_sqrt_2pi);
        }
        return;
    case LCL_GELU_QUICK:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float s = simd_sigmoid(1.702f * x[i]);
            dx[i] = dy[i] * (s + 1.702f * x[i] * s * (1.0f - s));
        }
        return;
    case LCL_GELU_TANH:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float x2 = x[i] * x[i];
            float s = simd_sigmoid(tanh_scale * x[i] * (1.0f + tanh_cubic * x2));
            float slope = tanh_scale * (1.0f + 3.0f * tanh_cubic * x2);
            dx[i] = dy[i] * (s + x[i] * s * (1.0f - s) * slope);
        }
        return;
    }
}

static lcl_status gelu_fwd_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_gelu_args *a = r->args;
    float x_temp[BLOCK], y_temp[BLOCK];
    int64_t end = rows_end(r, chunk);
    for (int64_t i = rows_begin(r, chunk); i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        float *y = row_open(a->y, a->dtype, i, y_temp);
        gelu_block(a->kind, row_load(a->x, a->dtype, i, n, x_temp), y, n);
        row_store(a->y, a->dtype, i, n, y);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(gelu_fwd)(struct lcl_exec *ex, const struct lcl_gelu_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_gelu(a));
    return rows_over(gelu_fwd_chunk, a, a->count, 1);
}

static lcl_status gelu_bwd_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_gelu_args *a = r->args;
    float x_temp[BLOCK], dy_temp[BLOCK], dx_temp[BLOCK];
    int64_t end = rows_end(r, chunk);
    for (int64_t i = rows_begin(r, chunk); i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        float *dx = row_open(a->d_x, a->dtype, i, dx_temp);
        gelu_bwd_block(a->kind, row_load(a->x, a->dtype, i, n, x_temp),
                       row_load(a->d_y, a->dtype, i, n, dy_temp), dx, n);
        row_store(a->d_x, a->dtype, i, n, dx);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(gelu_bwd)(struct lcl_exec *ex, const struct lcl_gelu_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_gelu(a));
    return a->d_x ? rows_over(gelu_bwd_chunk, a, a->count, 1) : LCL_OK;
}

static lcl_status swiglu_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_swiglu_args *a = r->args;
    float g_temp[BLOCK], u_temp[BLOCK], y_temp[BLOCK];
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        for (int64_t f = 0; f < a->F; f += BLOCK) {
            int64_t n = a->F - f < BLOCK ? a->F - f : BLOCK, at = m * 2 * a->F + f;
            const float *g = row_load(a->gate_up_M2F, a->dtype, at, n, g_temp);
            const float *u = row_load(a->gate_up_M2F, a->dtype, at + a->F, n, u_temp);
            float *y = row_open(a->y_MF, a->dtype, m * a->F + f, y_temp);
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = g[i] * simd_sigmoid(g[i]) * u[i];
            row_store(a->y_MF, a->dtype, m * a->F + f, n, y);
        }
    }
    return LCL_OK;
}

lcl_status LCL_CPU(swiglu_fwd)(struct lcl_exec *ex, const struct lcl_swiglu_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_swiglu(a));
    return rows_over(swiglu_fwd_rows, a, a->M, 2 * a->F);
}

static lcl_status swiglu_bwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_swiglu_args *a = r->args;
    float g_temp[BLOCK], u_temp[BLOCK], dy_temp[BLOCK], dg_temp[BLOCK], du_temp[BLOCK];
    for (int64_t m = rows_begin(r, chunk); m < rows_end(r, chunk); m++) {
        for (int64_t f = 0; f < a->F; f += BLOCK) {
            int64_t n = a->F - f < BLOCK ? a->F - f : BLOCK, at = m * 2 * a->F + f;
            const float *g = row_load(a->gate_up_M2F, a->dtype, at, n, g_temp);
            const float *u = row_load(a->gate_up_M2F, a->dtype, at + a->F, n, u_temp);
            const float *dy = row_load(a->d_y_MF, a->dtype, m * a->F + f, n, dy_temp);
            float *dg = row_open(a->d_gate_up_M2F, a->dtype, at, dg_temp);
            float *du = row_open(a->d_gate_up_M2F, a->dtype, at + a->F, du_temp);
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                float s = simd_sigmoid(g[i]), gs = g[i] * s;
                float d_gate = dy[i] * u[i] * (s + gs * (1.0f - s));
                du[i] = dy[i] * gs;
                dg[i] = d_gate;
            }
            row_store(a->d_gate_up_M2F, a->dtype, at, n, dg);
            row_store(a->d_gate_up_M2F, a->dtype, at + a->F, n, du);
        }
    }
    return LCL_OK;
}

lcl_status LCL_CPU(swiglu_bwd)(struct lcl_exec *ex, const struct lcl_swiglu_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_swiglu(a));
    return a->d_gate_up_M2F ? rows_over(swiglu_bwd_rows, a, a->M, 2 * a->F) : LCL_OK;
}
