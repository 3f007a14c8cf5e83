/* Arguments that every backend refuses, with the same words: LCL_SHAPE, or LCL_RANGE for an index
 * outside of its table. */
#ifndef LCL_CORE_OPS_CHECK_H
#define LCL_CORE_OPS_CHECK_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LCL_ROTARY_MAX_D = 1024
}; /* head widths are at most 128 in attention;
     rotation alone goes further */

LCL_CHECKED lcl_status lcl_check_dtype(const char *op, lcl_dtype dtype);
LCL_CHECKED lcl_status lcl_check_count(const char *op, int64_t count);
LCL_CHECKED lcl_status lcl_check_gelu(const struct lcl_gelu_args *a);
LCL_CHECKED lcl_status lcl_check_dropout(const struct lcl_dropout_args *a);
LCL_CHECKED lcl_status lcl_check_swiglu(const struct lcl_swiglu_args *a);
LCL_CHECKED lcl_status lcl_check_norm(const char *op, lcl_dtype dtype, int64_t M, int64_t C,
                                      bool sum_missing);
LCL_CHECKED lcl_status lcl_check_rotary(const struct lcl_rotary_args *a);
LCL_CHECKED lcl_status lcl_check_attention(const struct lcl_attention_args *a);
LCL_CHECKED lcl_status lcl_check_attention_bwd(const struct lcl_attention_args *a);
LCL_CHECKED lcl_status lcl_check_embed(const struct lcl_embed_args *a);
LCL_CHECKED lcl_status lcl_check_splice(const struct lcl_splice_args *a);
LCL_CHECKED lcl_status lcl_check_rows(const char *op, lcl_dtype dtype, int64_t M, int64_t C);
LCL_CHECKED lcl_status lcl_check_head_xent(const struct lcl_head_xent_args *a, bool backward);
LCL_CHECKED lcl_status lcl_check_image_pool(const struct lcl_image_pool_args *a);
LCL_CHECKED lcl_status lcl_check_vit_assemble(const struct lcl_vit_assemble_args *a);
LCL_CHECKED lcl_status lcl_check_linear(const struct lcl_linear_args *a);
LCL_CHECKED lcl_status lcl_check_patchify(const struct lcl_patchify_args *a);
LCL_CHECKED lcl_status lcl_check_segments(const char *op, int64_t N,
                                          const struct lcl_segment *segment_N);
LCL_CHECKED lcl_status lcl_check_adamw(const struct lcl_adamw_args *a);
LCL_CHECKED lcl_status lcl_check_kv_store(const struct lcl_kv_store_args *a);
/* How tokens are drawn, by itself: before there are logits. */
LCL_CHECKED lcl_status lcl_check_sampling(float temperature, int64_t top_k, float top_p);
LCL_CHECKED lcl_status lcl_check_sample(const struct lcl_sample_args *a);

#ifdef __cplusplus
}
#endif
#endif
