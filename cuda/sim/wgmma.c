/* wgmma of the emulator: products of 128 threads, whose sums are in registers after a wait. */
#include <string.h>

#include "core/dtype.h"
#include "cuda/sim/block.h"
#include "cuda/sim/intrinsics.h"

enum { M = 64, K = 16, MOST_N = 256, OPERAND_BYTES = 16 };

static const uint32_t under_way = 0xffa5a5a5; /* no number */

struct wgmma {
    float *d;
    int r; /* columns / 8 */
    uint64_t a_in_shared, b;
    const uint32_t *a;
    bool columns, accumulate;
};

/* --- registers --- */

const char *lcl_sim_product_at(const struct lcl_sim_thread *t, const void *at, size_t bytes,
                               bool write)
{
    const char *begin = at, *end = begin + bytes;
    for (int i = 0; i < t->n_products; i++) {
        const struct lcl_sim_product *p = &t->products[i];
        if (end > (const char *)p->d && begin < (const char *)(p->d + p->n))
            return "registers that a product under way sums in";
    }
    for (int i = 0; i < t->n_operands && write; i++) {
        const char *a = t->operands[i].at;
        if (end > a && begin < a + OPERAND_BYTES) return "registers that a product under way reads";
    }
    return NULL;
}

/* The sums of thread t at d, which are not in registers any more. */
static struct lcl_sim_product *product_of(struct lcl_sim_thread *t, const struct wgmma *w,
                                          const struct lcl_sim_site *site)
{
    for (int i = 0; i < t->n_products; i++)
        if (t->products[i].d == w->d) return &t->products[i];
    if (t->n_products == LCL_SIM_MAX_PRODUCTS)
        lcl_sim_fail(site, "the emulator has %d sums under way a thread", LCL_SIM_MAX_PRODUCTS);
    struct lcl_sim_product *p = &t->products[t->n_products++];
    p->d = w->d;
    p->n = 4 * w->r;
    memcpy(p->sum, w->d, (size_t)p->n * sizeof *p->sum);
    for (int i = 0; i < p->n; i++) memcpy(&w->d[i], &under_way, sizeof under_way);
    return p;
}

static void note_operand(struct lcl_sim_thread *t, const uint32_t *a,
                         const struct lcl_sim_site *site)
{
    if (t->n_operands == LCL_SIM_MAX_OPERANDS)
        lcl_sim_fail(site, "the emulator has %d operands in registers under way",
                     LCL_SIM_MAX_OPERANDS);
    t->operands[t->n_operands++] = (struct lcl_sim_operand){a, t->open_products};
}

/* --- operands in shared memory --- */

struct descriptor {
    size_t start, leading, stride;
    unsigned row_bytes;
};

static struct descriptor decode(uint64_t d, const struct lcl_sim_site *site)
{
    static const unsigned rows[4] = {0, 128, 64, 32};
    struct descriptor out = {(d & 0x3fff) << 4, (d >> 16 & 0x3fff) << 4, (d >> 32 & 0x3fff) << 4,
                             rows[d >> 62]};
    if (!out.row_bytes || d >> 49 & 7)
        lcl_sim_fail(site, "descriptor %#llx: the emulator knows swizzled operands without offset",
                     (unsigned long long)d);
    return out;
}

/* The 8 elements from (row, 8 piece): rows along depth or along columns, whichever 16 bytes run. */
static void read_piece(struct lcl_sim_block *b, const struct descriptor *d, size_t row,
                       size_t piece, uint32_t time, float out[8], const struct lcl_sim_site *site)
{
    const size_t wide = d->row_bytes / 16;
    size_t at = d->start + row % 8 * d->row_bytes + row / 8 * d->stride + piece % wide * 16 +
                piece / wide * d->leading;
    at = lcl_sim_swizzled(at, d->row_bytes);
    if (b->watched) lcl_sim_shadow_product(b, b->shared + at, time, site);
    uint16_t x[8];
    if (at + sizeof x > b->launch->shared_bytes)
        lcl_sim_fail(site, "an operand past the block's %zu bytes of shared memory",
                     b->launch->shared_bytes);
    memcpy(x, b->shared + at, sizeof x);
    for (int i = 0; i < 8; i++) out[i] = lcl_bf16_to_f32(x[i]);
}

/* rows x 16 of depth, a row of shared memory at a time. */
static void read_rows(struct lcl_sim_block *b, uint64_t descriptor, int rows, float (*out)[K],
                      uint32_t time, const struct lcl_sim_site *site)
{
    const struct descriptor d = decode(descriptor, site);
    for (int r = 0; r < rows; r++)
        for (int piece = 0; piece < K / 8; piece++) {
            /* a step within a row is part of the start: no row holds more than its two pieces */
            read_piece(b, &d, (size_t)r, (size_t)piece, time, out[r] + 8 * piece, site);
        }
}

static void read_columns(struct lcl_sim_block *b, uint64_t descriptor, int n, float (*out)[K],
                         uint32_t time, const struct lcl_sim_site *site)
{
    const struct descriptor d = decode(descriptor, site);
    for (int k = 0; k < K; k++)
        for (int piece = 0; piece < n / 8; piece++) {
            float x[8];
            read_piece(b, &d, (size_t)k, (size_t)piece, time, x, site);
            for (int i = 0; i < 8; i++) out[8 * piece + i][k] = x[i];
        }
}

/* --- the product --- */

static float half_of(uint32_t pair, int which)
{
    return lcl_sim_float(which ? pair & 0xffff0000u : pair << 16);
}

/* This warpgroup's fragments of a, as of mma_bf16: 16 rows a warp. */
static void read_fragments(struct lcl_sim_thread *threads, float (*a)[K],
                           const struct lcl_sim_site *site)
{
    for (int t = 0; t < LCL_SIM_WARPGROUP; t++) {
        const struct wgmma *w = threads[t].args;
        const int l = t % LCL_SIM_WARP, row = t / LCL_SIM_WARP * 16 + l / 4;
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[row + 8 * (i % 2)][2 * (l % 4) + h + 8 * (i / 2)] = half_of(w->a[i], h);
        note_operand(&threads[t], w->a, site);
    }
}

static void add_sums(struct lcl_sim_thread *threads, const struct wgmma *w, float (*a)[K],
                     float (*b)[K], uint32_t time, const struct lcl_sim_site *site)
{
    for (int t = 0; t < LCL_SIM_WARPGROUP; t++) {
        struct lcl_sim_thread *thread = &threads[t];
        struct lcl_sim_product *p = product_of(thread, thread->args, site);
        const int l = t % LCL_SIM_WARP, first = t / LCL_SIM_WARP * 16 + l / 4;
        p->group = thread->open_products;
        p->site = *site;
        thread->newest_product = time;
        for (int i = 0; i < p->n; i++) {
            const float *row = a[first + 8 * (i / 2 % 2)],
                        *column = b[i / 4 * 8 + 2 * (l % 4) + i % 2];
            double sum = w->accumulate ? (double)p->sum[i] : 0;
            for (int k = 0; k < K; k++) sum += (double)row[k] * (double)column[k];
            p->sum[i] = (float)sum;
        }
    }
}

static void multiply(struct lcl_sim_block *b, struct lcl_sim_thread *threads,
                     const struct lcl_sim_site *site)
{
    static __thread float left[M][K], right[MOST_N][K];
    const struct wgmma *w = threads[0].args;
    for (int t = 1; t < LCL_SIM_WARPGROUP; t++) {
        const struct wgmma *x = threads[t].args;
        if (x->r != w->r || x->a_in_shared != w->a_in_shared || x->b != w->b || !x->a != !w->a ||
            x->columns != w->columns || x->accumulate != w->accumulate)
            lcl_sim_fail(site, "thread %d of the warpgroup wants another product than thread 0", t);
    }
    const uint32_t time = lcl_sim_tick(b);
    if (w->a)
        read_fragments(threads, left, site);
    else
        read_rows(b, w->a_in_shared, M, left, time, site);
    if (w->columns)
        read_columns(b, w->b, 8 * w->r, right, time, site);
    else
        read_rows(b, w->b, 8 * w->r, right, time, site);
    add_sums(threads, w, left, right, time, site);
}

void lcl_sim_wgmma(float *d, int r, uint64_t a_in_shared, const uint32_t *a, uint64_t b,
                   bool columns, bool accumulate, const struct lcl_sim_site *site)
{
    struct lcl_sim_block *block = lcl_sim_current();
    struct lcl_sim_thread *self = block->self;
    const unsigned group = self->index / LCL_SIM_WARPGROUP;
    struct lcl_sim_thread *threads = &block->threads[group * LCL_SIM_WARPGROUP];
    struct wgmma w = {d, r, a_in_shared, b, a, columns, accumulate};
    if ((group + 1) * LCL_SIM_WARPGROUP > block->n_threads)
        lcl_sim_fail(site, "a warpgroup has 128 threads; the block's %u leave the last fewer",
                     block->n_threads);
    if (!self->fenced)
        lcl_sim_fail(site, "a product, and no wgmma.fence since registers were the thread's own");
    self->site = site;
    self->args = &w;
    self->state = LCL_SIM_AT_WARPGROUP;
    if (++block->at_warpgroup[group] < LCL_SIM_WARPGROUP) {
        lcl_sim_yield(block);
        return;
    }
    for (int t = 0; t < LCL_SIM_WARPGROUP; t++)
        if (threads[t].site->line != site->line || strcmp(threads[t].site->file, site->file) != 0)
            lcl_sim_fail(site, "a product, while thread %d of the warpgroup is at %s", t,
                         lcl_sim_site_text(threads[t].site));
    multiply(block, threads, site);
    for (int t = 0; t < LCL_SIM_WARPGROUP; t++) threads[t].state = LCL_SIM_READY;
    block->at_warpgroup[group] = 0;
}

void lcl_sim_wgmma_fence(void) { lcl_sim_current()->self->fenced = true; }

void lcl_sim_wgmma_commit(void)
{
    struct lcl_sim_thread *self = lcl_sim_current()->self;
    self->group_time[self->open_products++ % LCL_SIM_MAX_PRODUCTS] = self->newest_product;
}

void lcl_sim_wgmma_wait(int groups_left)
{
    struct lcl_sim_block *b = lcl_sim_current();
    struct lcl_sim_thread *self = b->self;
    const int64_t done = self->open_products - groups_left; /* groups below it */
    int kept = 0;
    for (int i = 0; i < self->n_products; i++) {
        struct lcl_sim_product *p = &self->products[i];
        if (p->group >= done) {
            if (kept != i) self->products[kept] = *p;
            kept++;
            continue;
        }
        for (int k = 0; k < p->n; k++)
            if (memcmp(&p->d[k], &under_way, sizeof under_way) != 0)
                lcl_sim_fail(&p->site, "registers of this product were written before its wait");
        memcpy(p->d, p->sum, (size_t)p->n * sizeof *p->sum);
    }
    self->n_products = kept;
    kept = 0;
    for (int i = 0; i < self->n_operands; i++)
        if (self->operands[i].group >= done) self->operands[kept++] = self->operands[i];
    self->n_operands = kept;
    self->fenced = false;
    if (!b->clocked || done < 1) return;
    const uint32_t time = self->group_time[(done - 1) % LCL_SIM_MAX_PRODUCTS];
    uint32_t *known = &self->clock[lcl_sim_agent_products(b, self->index / LCL_SIM_WARP)];
    if (time > *known) *known = time;
}
