#include "core/rng.h"

#include <math.h>

void lcl_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct lcl_rng lcl_rng_stream(uint64_t seed, enum lcl_rng_purpose purpose, uint32_t epoch,
                              uint64_t sample)
{
    struct lcl_rng r = {.used = 4};
    /* The purpose is mixed into the key's high word; seeds are 32-bit in configs, so streams do not
     * collide. */
    r.key[0] = (uint32_t)seed;
    r.key[1] = (uint32_t)(seed >> 32) ^ ((uint32_t)purpose * 0x9E3779B9u);
    r.counter[1] = epoch;
    r.counter[2] = (uint32_t)sample;
    r.counter[3] = (uint32_t)(sample >> 32);
    return r;
}

uint32_t lcl_rng_u32(struct lcl_rng *r)
{
    if (r->used == 4) {
        lcl_philox(r->counter, r->key, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

double lcl_rng_uniform(struct lcl_rng *r)
{
    uint32_t high = lcl_rng_u32(r) >> 5, low = lcl_rng_u32(r) >> 6;
    return ((double)high * 67108864.0 + (double)low) / 9007199254740992.0;
}

uint32_t lcl_rng_below(struct lcl_rng *r, uint32_t n)
{
    uint64_t product = (uint64_t)lcl_rng_u32(r) * n; /* Lemire 2019 */
    if ((uint32_t)product < n) {
        uint32_t threshold = (0u - n) % n;
        while ((uint32_t)product < threshold) product = (uint64_t)lcl_rng_u32(r) * n;
    }
    return (uint32_t)(product >> 32);
}

float lcl_rng_normal(struct lcl_rng *r)
{
    double radius = sqrt(-2.0 * log(1.0 - lcl_rng_uniform(r)));
    return (float)(radius * cos(6.283185307179586 * lcl_rng_uniform(r)));
}

void lcl_rng_shuffle(struct lcl_rng *r, int32_t *items, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = lcl_rng_below(r, (uint32_t)(i + 1));
        int32_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

uint64_t lcl_hash_string(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}
