/* Kernels of one intrinsic each, or two, of sm_90a: golden vectors, on the emulator and on a GPU.
 */
#ifndef LCL_TESTS_CUDA_HOPPER_H
#define LCL_TESTS_CUDA_HOPPER_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { HOPPER_BOX_ROWS = 24, HOPPER_ROWS = 64, HOPPER_KEYS = 128, HOPPER_ROUNDS = 5 };

/* bf16 x[rows][heads][D], rows `stride` elements apart. */
struct hopper_tensor {
    const void *x;
    int64_t D, heads, rows, stride;
};

/* Shared memory after a bulk copy of HOPPER_BOX_ROWS rows of `panel` columns from element x of head
 * and row: to `out`. */
LCL_CHECKED lcl_status hopper_box(struct lcl_exec *ex, const struct hopper_tensor *t, int panel,
                                  int x, int head, int row, void *out);
/* scores [64][128] = q [64][DP] k [128][DP]^T, sums [64][DP] = scores as bf16 times v [128][DP], DP
 * being 16, 32, 64, 96 or 128. */
LCL_CHECKED lcl_status hopper_products(struct lcl_exec *ex, int DP, const void *q, const void *k,
                                       const void *v, float *scores, float *sums);
/* One warp brings HOPPER_ROUNDS boxes of 8 rows of 64 columns through a ring of two to another,
 * which adds up each column: sums [64]. t: 64 columns, one head. */
LCL_CHECKED lcl_status hopper_ring(struct lcl_exec *ex, const struct hopper_tensor *t, float *sums);

#ifdef __cplusplus
}
#endif
#endif
