/* The emulator's side of cuda/intrinsics.cuh. These functions are compiled without the watch and
 * report what they touch themselves. */
#ifndef LCL_CUDA_SIM_INTRINSICS_H
#define LCL_CUDA_SIM_INTRINSICS_H

#include "cuda/sim/sim.h"

#ifdef __cplusplus
extern "C" {
#endif

uint32_t lcl_sim_bits(float x);
float lcl_sim_float(uint32_t u);
uint32_t lcl_sim_pack_bf16(float low, float high);

void lcl_sim_load16(uint32_t out[4], const void *p, const struct lcl_sim_site *site);
void lcl_sim_store16(void *p, const uint32_t x[4], const struct lcl_sim_site *site);
void lcl_sim_atomic_add(unsigned long long *p, unsigned long long x,
                        const struct lcl_sim_site *site);
void lcl_sim_atomic_min(unsigned long long *p, unsigned long long x,
                        const struct lcl_sim_site *site);

uint32_t lcl_sim_shuffle(uint32_t x, unsigned from, const struct lcl_sim_site *site);
uint32_t lcl_sim_vote(bool x, const struct lcl_sim_site *site);
void lcl_sim_load_matrix(uint32_t r[4], const void *row, bool transposed,
                         const struct lcl_sim_site *site);
void lcl_sim_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2],
                      const struct lcl_sim_site *site);
void lcl_sim_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2],
                      const struct lcl_sim_site *site);

#ifdef __cplusplus
}
#endif
#endif
