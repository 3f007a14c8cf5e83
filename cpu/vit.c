/* The vision tower's entry: pictures cut in patches, and the token matrix assembled.
 * Legend: I images, P patches, T = P + 1 tokens, C width, K = 3 * patch * patch, S side of the
 * picture. */
#include "cpu/rows.h"

struct patchify {
    const struct lcl_patchify_args *a;
    float of_byte[3][256];
};

static lcl_status patchify_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct patchify *patchify = r->args;
    const struct lcl_patchify_args *a = patchify->a;
    float *line_of_bytes;
    LCL_TRY(row_scratch(a->patch, &line_of_bytes));
    int64_t S = a->size, p = a->patch, side = S / p, P = side * side, K = 3 * p * p;
    for (int64_t row = rows_begin(r, chunk); row < rows_end(r, chunk); row++) {
        int64_t image = row / P, top = row % P / side * p, left = row % side * p;
        for (int64_t k = 0; k < 3 * p; k++) { /* channel and line of the patch */
            int64_t plane = image * 3 + k / p, line = top + k % p;
            int64_t at = (plane * S + line) * S + left;
            const float *src = line_of_bytes, *of_byte = patchify->of_byte[k / p];
            if (!a->byte_I3SS) src = a->pixel_I3SS + at;
            for (int64_t x = 0; a->byte_I3SS && x < p; x++)
                line_of_bytes[x] = of_byte[a->byte_I3SS[at + x]];
            if (a->dtype == LCL_F32)
                memcpy((float *)a->row_IPK + row * K + k * p, src, (size_t)p * sizeof *src);
            else
                row_narrow((lcl_bf16 *)a->row_IPK + row * K + k * p, src, p);
        }
    }
    return LCL_OK;
}

lcl_status LCL_CPU(patchify_fwd)(struct lcl_exec *ex, const struct lcl_patchify_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_patchify(a));
    int64_t side = a->size / a->patch;
    struct patchify p = {.a = a};
    for (int c = 0; a->byte_I3SS && c < 3; c++)
        for (int v = 0; v < 256; v++)
            p.of_byte[c][v] = (float)((v / 255.0 - (double)a->mean[c]) / (double)a->std[c]);
    return rows_over(patchify_rows, &p, a->I * side * side, 3 * a->patch * a->patch);
}

static lcl_status vit_assemble_fwd_rows(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_vit_assemble_args *a = r->args;
    int64_t C = a->C, T = a->P + 1;
    float *temp;
    LCL_TRY(row_scratch(C, &temp));
    for (int64_t row = rows_begin(r, chunk); row < rows_end(r, chunk); row++) {
        int64_t image = row / T, t = row % T;
        const float *src = a->class_C, *position = a->position_TC + t * C;
        if (t > 0) src = row_load(a->patch_IPC, a->dtype, (image * a->P + t - 1) * C, C, temp);
        float *x = row_open(a->x_ITC, a->dtype, row * C, temp);
#pragma omp simd
        for (int64_t c = 0; c < C; c++) x[c] = src[c] + position[c];
        row_store(a->x_ITC, a->dtype, row * C, C, x);
    }
    return LCL_OK;
}

lcl_status LCL_CPU(vit_assemble_fwd)(struct lcl_exec *ex, const struct lcl_vit_assemble_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_vit_assemble(a));
    return rows_over(vit_assemble_fwd_rows, a, a->I * (a->P + 1), a->C);
}

/* A chunk owns token positions of every image, so the sums over images need no partials. */
static lcl_status vit_assemble_bwd_positions(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_vit_assemble_args *a = r->args;
    int64_t C = a->C, T = a->P + 1;
    size_t row_bytes = (size_t)C * lcl_dtype_bytes(a->dtype);
    float *temp;
    LCL_TRY(row_scratch(C, &temp));
    for (int64_t t = rows_begin(r, chunk); t < rows_end(r, chunk); t++) {
        float *d_position = a->d_position_TC ? a->d_position_TC + t * C : NULL;
        float *d_class = t == 0 ? a->d_class_C : NULL;
        for (int64_t image = 0; image < a->I; image++) {
            int64_t at = (image * T + t) * C;
            if (t > 0 && a->d_patch_IPC)
                memcpy(row_at(a->d_patch_IPC, a->dtype, (image * a->P + t - 1) * C),
                       row_at_const(a->d_x_ITC, a->dtype, at), row_bytes);
            if (!d_position && !d_class) continue;
            const float *d_x = row_load(a->d_x_ITC, a->dtype, at, C, temp);
            for (int64_t c = 0; d_position && c < C; c++) d_position[c] += d_x[c];
            for (int64_t c = 0; d_class && c < C; c++) d_class[c] += d_x[c];
        }
    }
    return LCL_OK;
}

lcl_status LCL_CPU(vit_assemble_bwd)(struct lcl_exec *ex, const struct lcl_vit_assemble_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_vit_assemble(a));
    if (a->I == 0) return LCL_OK;
    return rows_over(vit_assemble_bwd_positions, a, a->P + 1, a->I * a->C);
}
