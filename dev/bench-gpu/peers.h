/* What our kernels are measured beside: a plain copy, cuBLASLt's best algorithm, cuDNN's attention.
 * LCL_UNSUPPORTED, with the reason, where one is not there; in the emulator only the copy is. */
#ifndef LCL_DEV_BENCH_GPU_PEERS_H
#define LCL_DEV_BENCH_GPU_PEERS_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct peer; /* lcl's stream is used, so that marks around a run are in its order */

/* Copies `bytes` on the device. */
LCL_CHECKED lcl_status peer_copy(struct lcl_exec *ex, void *dst, const void *src, size_t bytes);

/* y_MN = x_MK weight_NK^T in the args' dtype, by the fastest of cuBLASLt's candidates, timed. */
LCL_CHECKED lcl_status peer_product_open(struct lcl_exec *ex, const struct lcl_linear_args *a,
                                         struct peer **out);
LCL_CHECKED lcl_status peer_product_run(struct peer *p, const struct lcl_linear_args *a);

/* bf16 attention of n_runs sequences of one length without a mask: forward with its statistics, or
 * backward. libcudnn.so.9 is opened when this is first called. */
LCL_CHECKED lcl_status peer_attention_open(struct lcl_exec *ex, const struct lcl_attention_args *a,
                                           bool backward, struct peer **out);
LCL_CHECKED lcl_status peer_attention_run(struct peer *p, const struct lcl_attention_args *a);
void peer_close(struct peer *p); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
