/* Attention on Hopper's tensor cores and bulk copies (sm_90a), bf16. */
#ifndef LCL_CUDA_ATTENTION_WGMMA_CUH
#define LCL_CUDA_ATTENTION_WGMMA_CUH

#include "cuda/attention.cuh"

/* Forward; a's rows of heads begin at multiples of 16 bytes. */
LCL_CHECKED lcl_status attention_wgmma_fwd(struct lcl_cuda_device *d,
                                           const struct lcl_attention_args *a);
/* Backward likewise; of p it takes lse_HT and delta_HT. */
LCL_CHECKED lcl_status attention_wgmma_bwd(struct lcl_cuda_device *d,
                                           const struct lcl_attention_args *a, attention_params p);

#endif
