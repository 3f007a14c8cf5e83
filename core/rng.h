/* Counter-based randomness (Philox4x32-10, Salmon et al., SC 2011): a function of its key, not a
 * state.
 *
 * A stream is named by (seed, purpose, epoch, sample); the same name gives the same numbers on any
 * number of ranks, threads, and after a resume. */
#ifndef LCL_CORE_RNG_H
#define LCL_CORE_RNG_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum lcl_rng_purpose { /* never renumber: a run's data depend on it */
                       LCL_RNG_INIT = 1,
                       LCL_RNG_EPISODE = 2,
                       LCL_RNG_SHUFFLE = 3,
                       LCL_RNG_AUGMENT = 4,
                       LCL_RNG_DROPOUT = 5,
                       LCL_RNG_ROUNDING = 6,
                       LCL_RNG_EVAL = 7,
                       LCL_RNG_BOOTSTRAP = 8,
                       LCL_RNG_LANGUAGE = 9,
                       LCL_RNG_SAMPLING = 10,
                       LCL_RNG_TEST = 11,
                       LCL_RNG_QUESTION = 12,
                       LCL_RNG_FALSE_LABEL = 13,
                       LCL_RNG_ZERO_SHOT = 14,
                       LCL_RNG_NEIGHBORS = 15,
                       LCL_RNG_MIXTURE = 20,
                       LCL_RNG_POLICY = 21,
                       LCL_RNG_JIGSAW = 22,
                       LCL_RNG_ANY_SHOT = 24
};

struct lcl_rng {
    uint32_t key[2];
    uint32_t counter[4]; /* [0] block index; [1] epoch; [2..3] sample */
    uint32_t block[4];
    int used; /* words of `block` already handed out */
};

/* out[4] = Philox4x32-10(counter[4], key[2]). */
void lcl_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

struct lcl_rng lcl_rng_stream(uint64_t seed, enum lcl_rng_purpose purpose, uint32_t epoch,
                              uint64_t sample);
uint32_t lcl_rng_u32(struct lcl_rng *r);
double lcl_rng_uniform(struct lcl_rng *r);             /* in [0, 1), 53 bits */
uint32_t lcl_rng_below(struct lcl_rng *r, uint32_t n); /* unbiased in [0, n); n > 0 */
float lcl_rng_normal(struct lcl_rng *r);               /* N(0, 1) by Box-Muller */
/* In-place Fisher-Yates of n int32. */
void lcl_rng_shuffle(struct lcl_rng *r, int32_t *items, int64_t n);
/* Stable 64-bit hash of a string (FNV-1a, then mixed): sample keys from names. */
uint64_t lcl_hash_string(const char *s);

#ifdef __cplusplus
}
#endif

#endif
