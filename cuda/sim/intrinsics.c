#include "cuda/sim/intrinsics.h"

#include <string.h>

#include "core/dtype.h"

uint32_t lcl_sim_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

float lcl_sim_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint32_t lcl_sim_pack_bf16(float low, float high)
{
    return (uint32_t)lcl_f32_to_bf16(low) | (uint32_t)lcl_f32_to_bf16(high) << 16;
}

void lcl_sim_load16(uint32_t out[4], const void *p, const struct lcl_sim_site *site)
{
    lcl_sim_touch(p, 16, LCL_SIM_READ, site);
    memcpy(out, p, 16);
}

void lcl_sim_store16(void *p, const uint32_t x[4], const struct lcl_sim_site *site)
{
    lcl_sim_touch(p, 16, LCL_SIM_WRITE, site);
    memcpy(p, x, 16);
}

void lcl_sim_atomic_add(unsigned long long *p, unsigned long long x,
                        const struct lcl_sim_site *site)
{
    lcl_sim_touch(p, sizeof *p, LCL_SIM_ATOMIC, site);
    __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}

void lcl_sim_atomic_min(unsigned long long *p, unsigned long long x,
                        const struct lcl_sim_site *site)
{
    lcl_sim_touch(p, sizeof *p, LCL_SIM_ATOMIC, site);
    unsigned long long old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (x < old &&
           !__atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* --- warp operations: the arguments of the lanes lie on their stacks --- */

enum { ALL = -1 };

struct shuffle {
    uint32_t x, out;
    unsigned from;
};

static void do_shuffle(void *const args[LCL_SIM_WARP], unsigned mask)
{
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) {
        struct shuffle *s = args[l];
        if (mask >> l & 1) s->out = ((struct shuffle *)args[s->from])->x;
    }
}

uint32_t lcl_sim_shuffle(uint32_t x, unsigned from, const struct lcl_sim_site *site)
{
    struct shuffle s = {x, 0, from};
    lcl_sim_warp(site, (unsigned)ALL, do_shuffle, &s);
    return s.out;
}

struct vote {
    bool x;
    uint32_t out;
};

static void do_vote(void *const args[LCL_SIM_WARP], unsigned mask)
{
    uint32_t votes = 0;
    for (unsigned l = 0; l < LCL_SIM_WARP; l++)
        if (mask >> l & 1 && ((struct vote *)args[l])->x) votes |= 1u << l;
    for (unsigned l = 0; l < LCL_SIM_WARP; l++)
        if (mask >> l & 1) ((struct vote *)args[l])->out = votes;
}

uint32_t lcl_sim_vote(bool x, const struct lcl_sim_site *site)
{
    struct vote v = {x, 0};
    lcl_sim_warp(site, (unsigned)ALL, do_vote, &v);
    return v.out;
}

struct matrix {
    const uint16_t *row;
    uint32_t *out;
};

static void do_load_matrix(void *const args[LCL_SIM_WARP], unsigned mask)
{
    (void)mask;
    for (unsigned l = 0; l < LCL_SIM_WARP; l++)
        for (unsigned m = 0; m < 4; m++) {
            const struct matrix *row = args[m * 8 + l / 4];
            memcpy(((struct matrix *)args[l])->out + m, row->row + 2 * (l % 4), 4);
        }
}

static void do_load_transposed(void *const args[LCL_SIM_WARP], unsigned mask)
{
    (void)mask;
    for (unsigned l = 0; l < LCL_SIM_WARP; l++)
        for (unsigned m = 0; m < 4; m++) {
            const struct matrix *low = args[m * 8 + 2 * (l % 4)],
                                *high = args[m * 8 + 2 * (l % 4) + 1];
            ((struct matrix *)args[l])->out[m] =
                (uint32_t)low->row[l / 4] | (uint32_t)high->row[l / 4] << 16;
        }
}

void lcl_sim_load_matrix(uint32_t r[4], const void *row, bool transposed,
                         const struct lcl_sim_site *site)
{
    lcl_sim_touch(row, 16, LCL_SIM_READ, site);
    struct matrix m = {row, r};
    lcl_sim_warp(site, (unsigned)ALL, transposed ? do_load_transposed : do_load_matrix, &m);
}

struct mma {
    float *d;
    const uint32_t *a, *b;
};

static float half_of(uint32_t pair, unsigned which)
{
    return lcl_sim_float(which ? pair & 0xffff0000u : pair << 16);
}

/* d (16 x 8) += a (16 x depth) b (depth x 8), from and to the lanes' fragments. */
static void add_product(void *const args[LCL_SIM_WARP], const float *a, const float *b,
                        unsigned depth)
{
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) {
        float *d = ((struct mma *)args[l])->d;
        for (unsigned i = 0; i < 4; i++) {
            unsigned row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
            double sum = 0; /* the device adds exact products with more bits than f32 has */
            for (unsigned k = 0; k < depth; k++)
                sum += (double)a[row * depth + k] * (double)b[k * 8 + column];
            d[i] = (float)((double)d[i] + sum);
        }
    }
}

static void do_mma_bf16(void *const args[LCL_SIM_WARP], unsigned mask)
{
    (void)mask;
    float a[16 * 16], b[16 * 8];
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) {
        const struct mma *m = args[l];
        for (unsigned h = 0; h < 2; h++) {
            unsigned column = 2 * (l % 4) + h;
            for (unsigned i = 0; i < 4; i++)
                a[(l / 4 + 8 * (i % 2)) * 16 + column + 8 * (i / 2)] = half_of(m->a[i], h);
            for (unsigned i = 0; i < 2; i++) b[(column + 8 * i) * 8 + l / 4] = half_of(m->b[i], h);
        }
    }
    add_product(args, a, b, 16);
}

static void do_mma_tf32(void *const args[LCL_SIM_WARP], unsigned mask)
{
    (void)mask;
    const uint32_t kept = 0xffffe000u;
    float a[16 * 8], b[8 * 8];
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) {
        const struct mma *m = args[l];
        for (unsigned i = 0; i < 4; i++)
            a[(l / 4 + 8 * (i % 2)) * 8 + l % 4 + 4 * (i / 2)] = lcl_sim_float(m->a[i] & kept);
        for (unsigned i = 0; i < 2; i++)
            b[(l % 4 + 4 * i) * 8 + l / 4] = lcl_sim_float(m->b[i] & kept);
    }
    add_product(args, a, b, 8);
}

void lcl_sim_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2],
                      const struct lcl_sim_site *site)
{
    struct mma m = {d, a, b};
    lcl_sim_warp(site, (unsigned)ALL, do_mma_bf16, &m);
}

void lcl_sim_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2],
                      const struct lcl_sim_site *site)
{
    struct mma m = {d, a, b};
    lcl_sim_warp(site, (unsigned)ALL, do_mma_tf32, &m);
}
