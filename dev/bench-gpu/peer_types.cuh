/* Private to peers.cu and peer_cudnn.cu. */
#ifndef LCL_DEV_BENCH_GPU_PEER_TYPES_CUH
#define LCL_DEV_BENCH_GPU_PEER_TYPES_CUH

#include <cublasLt.h>

#include "dev/bench-gpu/peers.h"

struct cudnn_plan;

struct peer {
    cudaStream_t stream;
    void *workspace;
    /* a product */
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    /* attention */
    struct cudnn_plan *cudnn;
};

void peer_cudnn_close(struct cudnn_plan *plan);

#endif
