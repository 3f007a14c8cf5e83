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

/* --- sm_90a: async.c, wgmma.c --- */
uint32_t lcl_sim_shared_address(const void *p);
void lcl_sim_mbarrier_init(uint64_t *b, int arrivals, const struct lcl_sim_site *site);
void lcl_sim_mbarrier_init_fence(void);
/* Announces bytes, and arrives. */
void lcl_sim_mbarrier_arrive(uint64_t *b, int bytes, const struct lcl_sim_site *site);
void lcl_sim_mbarrier_wait(uint64_t *b, int parity, const struct lcl_sim_site *site);
void lcl_sim_proxy_fence(void);

/* A tensor of bf16 elements and a box of it. */
struct lcl_sim_tensor_map {
    const void *base;
    int64_t size[3];         /* elements; the first dimension's lie side by side */
    int64_t stride_bytes[2]; /* of the second and third */
    int box[3];              /* box[0] spans the swizzle: 64, 32 or 16 */
};
/* LCL_INTERNAL where a driver would not encode it. */
LCL_CHECKED lcl_status lcl_sim_tensor_map_check(const struct lcl_sim_tensor_map *m);
void lcl_sim_bulk_load(void *shared, const struct lcl_sim_tensor_map *map, const int at[3],
                       uint64_t *b, const struct lcl_sim_site *site);

void lcl_sim_wgmma_fence(void);
void lcl_sim_wgmma_commit(void);
void lcl_sim_wgmma_wait(int groups_left);
/* d (64 x 8 r) += a b, or = where not accumulate. a: of shared memory by its descriptor, or of
 * registers (not NULL). columns: rows of b in shared memory hold d's columns, else depth. */
void lcl_sim_wgmma(float *d, int r, uint64_t a_in_shared, const uint32_t *a, uint64_t b,
                   bool columns, bool accumulate, const struct lcl_sim_site *site);

#ifdef __cplusplus
}
#endif
#endif
