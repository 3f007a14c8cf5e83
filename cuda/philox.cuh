/* Philox4x32-10 on the device: lcl_philox() of core/rng.h. */
#ifndef LCL_CUDA_PHILOX_CUH
#define LCL_CUDA_PHILOX_CUH

#include "cuda/kernel.cuh"

/* c: the counter, then the block. */
LCL_DEVICE void philox(uint32_t k0, uint32_t k1, uint32_t c[4])
{
#pragma unroll
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
    }
}

#endif
