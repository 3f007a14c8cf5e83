/* mbarriers and bulk copies of the emulator, and the clocks by which the watch knows what they
 * order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/status.h"
#include "cuda/sim/block.h"
#include "cuda/sim/intrinsics.h"

/* --- clocks --- */

static unsigned n_agents(const struct lcl_sim_block *b)
{
    return 2 * b->n_threads + LCL_SIM_MAX_MBARRIERS + LCL_SIM_MAX_WARPS;
}

static void join(uint32_t *to, const uint32_t *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) to[i] = from[i] > to[i] ? from[i] : to[i];
}

/* The block's first mbarrier or proxy fence: from here on clocks are kept. */
static void clocks_begin(struct lcl_sim_block *b)
{
    if (b->clocked || !b->watched) return;
    enum { MOST = LCL_SIM_MAX_THREADS + 2 * LCL_SIM_MAX_MBARRIERS };
    if (!b->clocks) {
        size_t most = 2 * LCL_SIM_MAX_THREADS + LCL_SIM_MAX_MBARRIERS + LCL_SIM_MAX_WARPS;
        void *p = mmap(NULL, MOST * most * sizeof *b->clocks, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            perror("the emulator's clocks");
            abort();
        }
        b->clocks = p;
    }
    const unsigned n = n_agents(b);
    memset(b->clocks, 0, (b->n_threads + 2 * LCL_SIM_MAX_MBARRIERS) * (size_t)n * sizeof(uint32_t));
    for (unsigned i = 0; i < b->n_threads; i++) b->threads[i].clock = b->clocks + i * (size_t)n;
    uint32_t *rest = b->clocks + b->n_threads * (size_t)n;
    for (unsigned i = 0; i < LCL_SIM_MAX_MBARRIERS; i++) {
        b->mbarriers[i].clock = rest + 2 * i * (size_t)n;
        b->mbarriers[i].ended = rest + (2 * i + 1) * (size_t)n;
    }
    b->clocked = true;
}

void lcl_sim_clocks_meet(struct lcl_sim_block *b, unsigned begin, unsigned end)
{
    if (!b->clocked) return;
    const unsigned n = n_agents(b);
    const uint32_t until = lcl_sim_tick(b) - 1;
    uint32_t *all = b->threads[begin].clock;
    for (unsigned i = begin; i < end; i++) {
        b->threads[i].clock[i] = until;
        join(all, b->threads[i].clock, n);
    }
    for (unsigned i = begin + 1; i < end; i++) memcpy(b->threads[i].clock, all, n * sizeof *all);
}

void lcl_sim_proxy_fence(void)
{
    struct lcl_sim_block *b = lcl_sim_current();
    unsigned self = b->self->index;
    clocks_begin(b);
    if (b->clocked) b->self->clock[lcl_sim_agent_fenced(b, self)] = lcl_sim_tick(b) - 1;
}

/* --- mbarriers --- */

uint32_t lcl_sim_shared_address(const void *p)
{
    return (uint32_t)((const unsigned char *)p - lcl_sim_current()->shared);
}

static struct lcl_sim_mbarrier *find(const struct lcl_sim_block *b, const void *at)
{
    for (unsigned i = 0; i < b->n_mbarriers; i++)
        if (b->shared + b->mbarriers[i].at == (const unsigned char *)at)
            return (struct lcl_sim_mbarrier *)&b->mbarriers[i];
    return NULL;
}

static struct lcl_sim_mbarrier *use(const void *at, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    lcl_sim_touch(at, 8, LCL_SIM_ATOMIC, site);
    struct lcl_sim_mbarrier *m = find(b, at);
    if (!m) lcl_sim_fail(site, "no mbarrier was made there");
    return m;
}

void lcl_sim_mbarrier_init(uint64_t *at, int arrivals, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    if (!lcl_sim_in_shared(b, at) || arrivals < 1 || arrivals >= 1 << 20)
        lcl_sim_fail(site, "an mbarrier for %d arrivals at %p: 1 to 2^20 - 1, in shared memory",
                     arrivals, (void *)at);
    lcl_sim_touch(at, 8, LCL_SIM_WRITE, site);
    clocks_begin(b);
    struct lcl_sim_mbarrier *m = find(b, at);
    if (!m && b->n_mbarriers == LCL_SIM_MAX_MBARRIERS)
        lcl_sim_fail(site, "the emulator has %d mbarriers a block", LCL_SIM_MAX_MBARRIERS);
    if (!m) m = &b->mbarriers[b->n_mbarriers++];
    m->at = lcl_sim_shared_address(at);
    m->arrivals = m->pending = arrivals;
    m->bytes = 0;
    m->phase = 0;
    m->owner = b->self->index;
    m->fenced = m->unseen = false;
}

void lcl_sim_mbarrier_init_fence(void)
{
    struct lcl_sim_block *b = lcl_sim_current();
    for (unsigned i = 0; i < b->n_mbarriers; i++)
        if (b->mbarriers[i].owner == b->self->index) b->mbarriers[i].fenced = true;
}

/* Ends the phase where all is there that it waits for. */
static void settle(struct lcl_sim_block *b, struct lcl_sim_mbarrier *m)
{
    if (m->pending || m->bytes) return;
    const unsigned slot = (unsigned)(m - b->mbarriers);
    if (b->clocked) {
        memcpy(m->ended, m->clock, n_agents(b) * sizeof *m->ended);
        m->ended[lcl_sim_agent_bulk(b, slot)] = lcl_sim_tick(b) - 1;
    }
    m->pending = m->arrivals;
    m->phase++;
    for (unsigned i = 0; i < b->n_threads; i++)
        if (b->threads[i].state == LCL_SIM_AT_MBARRIER && b->threads[i].mbarrier == slot)
            b->threads[i].state = LCL_SIM_READY;
}

void lcl_sim_mbarrier_arrive(uint64_t *at, int bytes, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    struct lcl_sim_thread *self = b->self;
    struct lcl_sim_mbarrier *m = use(at, site);
    if (bytes < 0 || bytes >= 1 << 20)
        lcl_sim_fail(site, "an mbarrier counts to 2^20 - 1 bytes, not %d", bytes);
    if (!m->pending)
        lcl_sim_fail(site, "an arrival more than the %d of the mbarrier's phase", m->arrivals);
    if (b->clocked) {
        self->clock[self->index] = lcl_sim_tick(b) - 1;
        join(m->clock, self->clock, n_agents(b));
    }
    m->bytes += bytes;
    m->pending--;
    settle(b, m);
}

void lcl_sim_mbarrier_wait(uint64_t *at, int parity, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    struct lcl_sim_mbarrier *m = use(at, site);
    if (parity != 0 && parity != 1) lcl_sim_fail(site, "parity %d is neither 0 nor 1", parity);
    while ((m->phase & 1) == (unsigned)parity) {
        b->self->state = LCL_SIM_AT_MBARRIER;
        b->self->mbarrier = (unsigned)(m - b->mbarriers);
        b->self->site = site;
        lcl_sim_yield(b);
    }
    m->unseen = false;
    if (b->clocked) join(b->self->clock, m->ended, n_agents(b));
}

void lcl_sim_mbarrier_text(const struct lcl_sim_block *b, const struct lcl_sim_thread *t,
                           char *text, size_t bytes)
{
    text[0] = 0;
    if (t->state != LCL_SIM_AT_MBARRIER) return;
    const struct lcl_sim_mbarrier *m = &b->mbarriers[t->mbarrier];
    snprintf(text, bytes, "; its mbarrier lacks %d arrivals and %lld bytes", m->pending,
             (long long)m->bytes);
}

/* --- bulk copies --- */

lcl_status lcl_sim_tensor_map_check(const struct lcl_sim_tensor_map *m)
{
    bool good = (uintptr_t)m->base % 16 == 0;
    for (int i = 0; i < 3; i++)
        good =
            good && m->size[i] > 0 && m->size[i] <= UINT32_MAX && m->box[i] > 0 && m->box[i] <= 256;
    for (int i = 0; i < 2; i++)
        good = good && m->stride_bytes[i] % 16 == 0 && m->stride_bytes[i] < (int64_t)1 << 40;
    good = good && (m->box[0] == 64 || m->box[0] == 32 || m->box[0] == 16);
    if (good) return LCL_OK;
    return LCL_FAIL(LCL_INTERNAL,
                    "no driver makes a tensor map of %p, %lld x %lld x %lld, strides %lld, %lld "
                    "bytes, in boxes of %d x %d x %d",
                    m->base, (long long)m->size[2], (long long)m->size[1], (long long)m->size[0],
                    (long long)m->stride_bytes[1], (long long)m->stride_bytes[0], m->box[2],
                    m->box[1], m->box[0]);
}

/* One row of a box: what of it the tensor has. */
static void read_row(struct lcl_sim_block *b, const struct lcl_sim_tensor_map *m, int64_t x,
                     int64_t y, int64_t z, unsigned char *to, unsigned mbarrier,
                     const struct lcl_sim_site *site)
{
    const int64_t begin = x < 0 ? -x : 0,
                  end = x + m->box[0] > m->size[0] ? m->size[0] - x : m->box[0];
    if (y < 0 || z < 0 || y >= m->size[1] || z >= m->size[2] || begin >= end) return;
    const unsigned char *from = (const unsigned char *)m->base + y * m->stride_bytes[0] +
                                z * m->stride_bytes[1] + 2 * (x + begin);
    const size_t bytes = (size_t)(end - begin) * 2;
    if (b->watched) lcl_sim_shadow_bulk_read(b, from, bytes, mbarrier, site);
    if (lcl_sim_counting()) lcl_sim_count_bulk(b, from, bytes, site);
    memcpy(to + 2 * begin, from, bytes);
}

static struct lcl_sim_bulk *add_bulk(struct lcl_sim_block *b)
{
    if (b->n_bulks == b->cap_bulks) {
        unsigned cap = b->cap_bulks ? 2 * b->cap_bulks : 16;
        struct lcl_sim_bulk *grown = realloc(b->bulks, cap * sizeof *grown);
        if (!grown) return NULL;
        b->bulks = grown;
        b->cap_bulks = cap;
    }
    return &b->bulks[b->n_bulks];
}

void lcl_sim_bulk_load(void *shared, const struct lcl_sim_tensor_map *map, const int at[3],
                       uint64_t *mbarrier, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    struct lcl_sim_mbarrier *m = find(b, mbarrier);
    if (!m || !m->fenced)
        lcl_sim_fail(site, "a bulk copy for %s",
                     m ? "an mbarrier whose making no fence has shown it" : "no mbarrier");
    if (!lcl_sim_in_shared(b, shared) || lcl_sim_shared_address(shared) % 128)
        lcl_sim_fail(site, "a bulk copy to %p: it goes to shared memory, at 128 bytes", shared);
    const size_t row_bytes = (size_t)map->box[0] * 2,
                 size = row_bytes * (size_t)map->box[1] * (size_t)map->box[2];
    struct lcl_sim_bulk *bulk = add_bulk(b);
    unsigned char *bytes = bulk ? calloc(size, 1) : NULL;
    if (!bytes) lcl_sim_fail(site, "no memory for the emulator");
    if (b->watched) lcl_sim_shadow_bulk_begin(b, shared, size, site);
    for (int z = 0; z < map->box[2]; z++)
        for (int y = 0; y < map->box[1]; y++)
            read_row(b, map, at[0], at[1] + y, at[2] + z,
                     bytes + (size_t)(z * map->box[1] + y) * row_bytes,
                     (unsigned)(m - b->mbarriers), site);
    memset(shared, 0xFF, size); /* what it was is gone, and what it will be is not there */
    *bulk = (struct lcl_sim_bulk){bytes, lcl_sim_shared_address(shared), size, (unsigned)row_bytes,
                                  (unsigned)(m - b->mbarriers)};
    b->n_bulks++;
    m->unseen = true;
}

bool lcl_sim_async_deliver(struct lcl_sim_block *b, bool newest)
{
    if (!b->n_bulks) return false;
    const unsigned i = newest ? b->n_bulks - 1 : 0;
    const struct lcl_sim_bulk bulk = b->bulks[i];
    b->n_bulks--;
    memmove(b->bulks + i, b->bulks + i + 1, (b->n_bulks - i) * sizeof *b->bulks);
    for (size_t k = 0; k < bulk.size; k += 16)
        memcpy(b->shared + lcl_sim_swizzled(bulk.at + k, bulk.row_bytes), bulk.bytes + k, 16);
    free(bulk.bytes);
    struct lcl_sim_mbarrier *m = &b->mbarriers[bulk.mbarrier];
    if (b->watched) lcl_sim_shadow_bulk_end(b, b->shared + bulk.at, bulk.size, bulk.mbarrier);
    m->bytes -= (int64_t)bulk.size;
    if (!m->pending && m->bytes < 0)
        lcl_sim_stop(b, NULL,
                     "block (%u, %u, %u): a bulk copy of %zu bytes brings an mbarrier %lld bytes "
                     "more than were announced",
                     b->idx.x, b->idx.y, b->idx.z, bulk.size, (long long)-m->bytes);
    settle(b, m);
    return true;
}

void lcl_sim_async_begin(struct lcl_sim_block *b)
{
    for (unsigned i = 0; i < b->n_bulks; i++) free(b->bulks[i].bytes); /* of a launch that failed */
    b->n_bulks = b->n_mbarriers = 0;
    b->clocked = false;
    memset(b->at_warpgroup, 0, sizeof b->at_warpgroup);
}

void lcl_sim_async_end(struct lcl_sim_block *b)
{
    bool unseen = b->n_bulks > 0;
    for (unsigned i = 0; i < b->n_mbarriers; i++) unseen |= b->mbarriers[i].unseen;
    if (unseen)
        lcl_sim_stop(b, NULL, "block (%u, %u, %u) ended before a wait for its bulk copies",
                     b->idx.x, b->idx.y, b->idx.z);
}
