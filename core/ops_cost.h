/* What a call of an op comes to: operations, bytes, shape. From the argument struct alone, so that
 * every backend's ops are counted alike.
 *
 * flops: those of matrix products (a multiplication and an addition each), as the maths asks for:
 * attention counts visible pairs of a query and a key only, its backward five products (the scores
 * again, as FlashAttention counts); head_xent's backward the logits again. Ops without products
 * have none: bytes bound them. bytes: each tensor read or written once, both where it is added to;
 * what caches or scratch move besides is not in them. */
#ifndef LCL_CORE_OPS_COST_H
#define LCL_CORE_OPS_COST_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every op and direction: LCL_OP_linear_fwd, LCL_OP_linear_bwd, ... */
#define DIFF(op) LCL_OP_##op##_fwd, LCL_OP_##op##_bwd,
#define FWD(op) LCL_OP_##op##_fwd,
enum lcl_op_half { LCL_OPS(DIFF, FWD) LCL_OP_HALVES };
#undef DIFF
#undef FWD

enum { LCL_OP_DIMS = 3 };

struct lcl_op_cost {
    double flops, bytes;
    lcl_dtype dtype;           /* of the activations, or of what is written */
    int64_t rows;              /* what a batch decides: tokens, rows, pictures, elements */
    int64_t dims[LCL_OP_DIMS]; /* what the model decides; 0 past the last */
};

/* "linear_fwd" */
const char *lcl_op_name(enum lcl_op_half op);
/* args: the op's struct. */
void lcl_op_cost(enum lcl_op_half op, const void *args, struct lcl_op_cost *cost);
/* Pairs of a query row and a key row that sees it, over all runs, for one head. */
double lcl_attention_pairs(const struct lcl_attention_args *a);

/* What a device can do at most, and who says so; 0: not known. */
struct lcl_limits {
    double flops_f32, flops_bf16; /* a second, of products */
    double bytes;                 /* a second, to and from memory */
    char source[200];
};

#ifdef __cplusplus
}
#endif
#endif
