/* Blocks, threads, barriers, warps and asynchronous copies of the emulator. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/threads.h"
#include "cuda/sim/block.h"
#include "cuda/sim/runtime.h"

static __thread struct lcl_sim_block *current;
static pthread_mutex_t one_watched = PTHREAD_MUTEX_INITIALIZER;

struct lcl_sim_block *lcl_sim_current(void) { return current; }

/* --- what a kernel asks for --- */

struct lcl_sim_dim lcl_sim_thread_idx(void) { return current->self->idx; }
struct lcl_sim_dim lcl_sim_block_idx(void) { return current->idx; }
struct lcl_sim_dim lcl_sim_block_dim(void) { return current->launch->block; }
struct lcl_sim_dim lcl_sim_grid_dim(void) { return current->launch->grid; }
unsigned lcl_sim_lane(void) { return current->self->index % LCL_SIM_WARP; }
void *lcl_sim_shared(void) { return current->shared; }

/* --- ends --- */

void lcl_sim_yield(struct lcl_sim_block *b)
{
    struct lcl_sim_thread *self = b->self;
    lcl_fiber_switch(&self->fiber, &b->scheduler);
}

static void stop(struct lcl_sim_block *b, const char *place, const char *fmt, va_list list)
{
    size_t used = 0;
    if (b->self)
        used = (size_t)snprintf(b->message, sizeof b->message,
                                "block (%u, %u, %u), thread %u: ", b->idx.x, b->idx.y, b->idx.z,
                                b->self->index);
    used += (size_t)vsnprintf(b->message + used, sizeof b->message - used, fmt, list);
    if (place && used < sizeof b->message)
        snprintf(b->message + used, sizeof b->message - used, ", at %s", place);
    b->failed = true;
    if (b->self) lcl_sim_yield(b); /* and is never asked back */
}

void lcl_sim_stop(struct lcl_sim_block *b, const char *place, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    stop(b, place, fmt, list);
    va_end(list);
}

const char *lcl_sim_site_text(const struct lcl_sim_site *s)
{
    static __thread char text[256];
    snprintf(text, sizeof text, "%s:%d (%s)", s->file, s->line, s->what);
    return text;
}

void lcl_sim_fail(const struct lcl_sim_site *site, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    stop(current, lcl_sim_site_text(site), fmt, list);
    va_end(list);
}

static bool same_site(const struct lcl_sim_site *a, const struct lcl_sim_site *b)
{
    return a->line == b->line && (a->file == b->file || strcmp(a->file, b->file) == 0);
}

/* --- barriers and warps --- */

static void release_barrier(struct lcl_sim_block *b)
{
    b->n_at_barrier = 0;
    b->epoch = lcl_sim_tick(b);
    lcl_sim_clocks_meet(b, 0, b->n_threads);
    for (unsigned w = 0; w * LCL_SIM_WARP < b->n_threads; w++) {
        if (b->watched && lcl_sim_counting()) lcl_sim_count_warp(b, w);
        b->warp_epoch[w] = lcl_sim_tick(b);
    }
    for (unsigned i = 0; i < b->n_threads; i++) b->threads[i].state = LCL_SIM_READY;
}

void lcl_sim_barrier(const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = current;
    struct lcl_sim_thread *self = b->self;
    self->site = site;
    self->state = LCL_SIM_AT_BARRIER;
    for (unsigned i = 0; i < b->n_threads && b->n_at_barrier; i++) {
        const struct lcl_sim_thread *t = &b->threads[i];
        if (t->state != LCL_SIM_AT_BARRIER || t == self) continue;
        if (!same_site(t->site, site))
            lcl_sim_fail(site, "a barrier, while thread %u waits at another, line %d", t->index,
                         t->site->line);
        break; /* those that wait agree already */
    }
    if (b->n_done)
        lcl_sim_fail(site, "a barrier that %u threads of the block have left for good", b->n_done);
    if (++b->n_at_barrier == b->n_threads)
        release_barrier(b);
    else
        lcl_sim_yield(b);
}

/* All lanes of self's mask are there: do they want the same? */
static void check_meeting(const struct lcl_sim_thread *self, const struct lcl_sim_thread *lanes)
{
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) {
        const struct lcl_sim_thread *t = &lanes[l];
        if (!(self->mask >> l & 1)) continue;
        if (t->op == self->op && t->mask == self->mask &&
            (!t->op || same_site(t->site, self->site)))
            continue;
        char other[256];
        snprintf(other, sizeof other, "%s", lcl_sim_site_text(t->site));
        lcl_sim_fail(self->site, "mask %08x, while lane %u of it is at %s with mask %08x",
                     self->mask, l, other, t->mask);
    }
}

void lcl_sim_warp(const struct lcl_sim_site *site, unsigned mask, lcl_sim_warp_op op, void *args)
{
    struct lcl_sim_block *b = current;
    struct lcl_sim_thread *self = b->self;
    unsigned warp = self->index / LCL_SIM_WARP, lane = self->index % LCL_SIM_WARP;
    struct lcl_sim_thread *lanes = &b->threads[warp * LCL_SIM_WARP];
    unsigned exist = b->n_threads - warp * LCL_SIM_WARP;
    if (exist < LCL_SIM_WARP && mask >> exist)
        lcl_sim_fail(site, "mask %08x names lanes beyond the block's %u threads", mask,
                     b->n_threads);
    if (!(mask >> lane & 1)) lcl_sim_fail(site, "mask %08x lacks the calling lane %u", mask, lane);
    self->site = site;
    self->mask = mask;
    self->op = op;
    self->args = args;
    self->state = LCL_SIM_AT_WARP;
    b->waiting[warp] |= 1u << lane;
    if (mask & b->ended[warp])
        lcl_sim_fail(site, "waits for lane %d, which has ended",
                     __builtin_ctz(mask & b->ended[warp]));
    if ((b->waiting[warp] & mask) != mask) {
        lcl_sim_yield(b);
        return;
    }
    check_meeting(self, lanes);
    void *all[LCL_SIM_WARP];
    for (unsigned l = 0; l < LCL_SIM_WARP; l++) all[l] = mask >> l & 1 ? lanes[l].args : NULL;
    if (op) op(all, mask);
    for (unsigned l = 0; l < LCL_SIM_WARP; l++)
        if (mask >> l & 1) lanes[l].state = LCL_SIM_READY;
    b->waiting[warp] &= ~mask;
    const unsigned there = exist < LCL_SIM_WARP ? (1u << exist) - 1 : UINT32_MAX;
    if (mask == (there & ~b->ended[warp])) { /* all that live have met */
        if (b->watched && lcl_sim_counting()) lcl_sim_count_warp(b, warp);
        /* A shuffle, a vote or a product hands over registers, and orders no memory. */
        if (!op) {
            b->warp_epoch[warp] = lcl_sim_tick(b);
            lcl_sim_clocks_meet(b, warp * LCL_SIM_WARP,
                                warp * LCL_SIM_WARP +
                                    (exist < LCL_SIM_WARP ? exist : LCL_SIM_WARP));
        }
    }
}

/* --- asynchronous copies --- */

bool lcl_sim_in_shared(const struct lcl_sim_block *b, const void *at)
{
    return (const unsigned char *)at >= b->shared &&
           (const unsigned char *)at < b->shared + LCL_SIM_MAX_SHARED;
}

void lcl_sim_copy_async(void *dst, const void *src, size_t bytes, size_t width,
                        const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = current;
    struct lcl_sim_thread *self = b->self;
    if ((width != 4 && width != 8 && width != 16) || bytes > width || (uintptr_t)dst % width ||
        (bytes && (uintptr_t)src % width))
        lcl_sim_fail(site,
                     "cp.async of %zu bytes, %zu from memory, %p to %p: widths are 4, 8, 16 "
                     "and both ends aligned to it",
                     width, bytes, src, dst);
    if (!lcl_sim_in_shared(b, dst) || (bytes && lcl_sim_in_shared(b, src)))
        lcl_sim_fail(site, "cp.async from %p to %p: it goes from global to shared memory", src,
                     dst);
    if (self->n_copies == self->cap_copies) {
        int cap = self->cap_copies ? 2 * self->cap_copies : 16;
        struct lcl_sim_copy *grown = realloc(self->copies, (size_t)cap * sizeof *grown);
        if (!grown) lcl_sim_fail(site, "no memory for the emulator");
        self->copies = grown;
        self->cap_copies = cap;
    }
    if (bytes) lcl_sim_touch(src, bytes, LCL_SIM_READ, site);
    lcl_sim_touch(dst, width, LCL_SIM_WRITE, site);
    struct lcl_sim_copy *c = &self->copies[self->n_copies++];
    *c = (struct lcl_sim_copy){.dst = dst, .width = (int)width, .group = self->open_group};
    if (bytes) memcpy(c->bytes, src, bytes);
    if (b->watched) lcl_sim_shadow_pending(b, dst, width, true);
}

void lcl_sim_copy_commit(void) { current->self->open_group++; }

void lcl_sim_copy_wait(int groups_left)
{
    struct lcl_sim_block *b = current;
    struct lcl_sim_thread *self = b->self;
    int64_t arrive = self->open_group - groups_left; /* groups below it */
    int kept = 0;
    for (int i = 0; i < self->n_copies; i++) {
        struct lcl_sim_copy *c = &self->copies[i];
        if (c->group >= arrive) {
            self->copies[kept++] = *c;
            continue;
        }
        memcpy(c->dst, c->bytes, (size_t)c->width);
        if (b->watched) lcl_sim_shadow_pending(b, c->dst, (size_t)c->width, false);
    }
    self->n_copies = kept;
}

/* --- the scheduler --- */

enum order { FORWARD, REVERSE, RANDOM };
struct schedule {
    enum order order;
    uint64_t seed;
};

/* A bad word is refused by lcl_sim_run. */
static bool schedule_read(struct schedule *s)
{
    const char *text = getenv("LCL_SIM_SCHEDULE");
    *s = (struct schedule){FORWARD, 1};
    if (!text || !*text || strcmp(text, "forward") == 0) return true;
    if (strcmp(text, "reverse") == 0) {
        s->order = REVERSE;
        return true;
    }
    if (strncmp(text, "random", 6) != 0 || (text[6] && text[6] != ':')) return false;
    s->order = RANDOM;
    if (!text[6]) return true;
    char *end;
    s->seed = strtoull(text + 7, &end, 10) * 2 + 1;
    return end > text + 7 && !*end;
}

static unsigned pick(struct schedule *s, unsigned n)
{
    s->seed = s->seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((s->seed >> 33) % n);
}

static unsigned common_divisor(unsigned a, unsigned b)
{
    while (b) {
        unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The i-th of blocks begin to end - 1 to run. */
static unsigned block_at(const struct schedule *s, unsigned begin, unsigned end, unsigned i)
{
    unsigned n = end - begin;
    if (s->order == FORWARD) return begin + i;
    if (s->order == REVERSE) return end - 1 - i;
    struct schedule fresh = *s;
    unsigned first = pick(&fresh, n), step = pick(&fresh, n);
    while (common_divisor(n, step) != 1) step++; /* so that every block has its turn */
    return begin + (unsigned)((first + (uint64_t)step * i) % n);
}

static struct lcl_sim_thread *next_ready(struct lcl_sim_block *b, struct schedule *s, unsigned last)
{
    unsigned n = b->n_threads, from = s->order == RANDOM ? pick(s, n) : last;
    for (unsigned i = 1; i <= n; i++) {
        unsigned at = s->order == REVERSE ? (from + n - i) % n : (from + i) % n;
        if (b->threads[at].state == LCL_SIM_READY) return &b->threads[at];
    }
    return NULL;
}

static void thread_entry(void *arg)
{
    struct lcl_sim_block *b = arg;
    b->launch->call(b->launch->params);
    struct lcl_sim_thread *self = b->self;
    if (self->n_copies) {
        static const struct lcl_sim_site site = {"the kernel's end", "cp.async", 0};
        lcl_sim_fail(&site, "the thread ended with %d asynchronous copies under way",
                     self->n_copies);
    }
    if (self->n_products)
        lcl_sim_fail(&self->products[0].site, "the thread ended before a wait for its product");
    self->state = LCL_SIM_DONE;
    b->ended[self->index / LCL_SIM_WARP] |= 1u << self->index % LCL_SIM_WARP;
    b->n_done++;
    lcl_sim_yield(b);
}

static void say_stuck(struct lcl_sim_block *b)
{
    b->self = NULL;
    for (unsigned i = 0; i < b->n_threads; i++) {
        const struct lcl_sim_thread *t = &b->threads[i];
        if (t->state == LCL_SIM_DONE) continue;
        char lacks[96];
        lcl_sim_mbarrier_text(b, t, lacks, sizeof lacks);
        lcl_sim_stop(b, lcl_sim_site_text(t->site),
                     "block (%u, %u, %u) is stuck: %u of %u threads ended, %u at a barrier; "
                     "thread %u waits%s",
                     b->idx.x, b->idx.y, b->idx.z, b->n_done, b->n_threads, b->n_at_barrier, i,
                     lacks);
        return;
    }
}

/* The last word of a thread's stack: overwritten, the stack went into its neighbour's. */
static uint64_t *stack_end(struct lcl_sim_block *b, unsigned i)
{
    return (uint64_t *)(b->stacks + (size_t)i * LCL_SIM_STACK_BYTES);
}

static const uint64_t stack_mark = 0x6c636c2d73746163;

static void thread_reset(struct lcl_sim_block *b, unsigned i)
{
    struct lcl_sim_thread *t = &b->threads[i];
    struct lcl_sim_dim d = b->launch->block;
    t->state = LCL_SIM_READY;
    t->index = i;
    t->idx = (struct lcl_sim_dim){i % d.x, i / d.x % d.y, i / d.x / d.y};
    t->n_copies = 0;
    t->open_group = 0;
    t->n_products = t->n_operands = 0;
    t->open_products = 0;
    t->newest_product = 0;
    t->fenced = false;
    t->n_traces = 0;
    *stack_end(b, i) = stack_mark;
    lcl_fiber_prepare(&t->fiber, stack_end(b, i), LCL_SIM_STACK_BYTES, thread_entry, b);
}

static void run_block(struct lcl_sim_block *b, struct schedule *s, unsigned number)
{
    struct lcl_sim_dim g = b->launch->grid;
    b->idx = (struct lcl_sim_dim){number % g.x, number / g.x % g.y, number / g.x / g.y};
    b->n_done = b->n_at_barrier = 0;
    memset(b->waiting, 0, sizeof b->waiting);
    memset(b->ended, 0, sizeof b->ended);
    lcl_sim_async_begin(b);
    b->first = b->epoch = lcl_sim_tick(b);
    for (unsigned i = 0; i < b->n_threads; i++) thread_reset(b, i);
    for (unsigned w = 0; w * LCL_SIM_WARP < b->n_threads; w++) b->warp_epoch[w] = lcl_sim_tick(b);
    /* NaN in every dtype: what is read before it is written shows in the result. */
    memset(b->shared, 0xFF, b->launch->shared_bytes);
    current = b;
    unsigned last = s->order == REVERSE ? 0 : b->n_threads - 1;
    while (b->n_done < b->n_threads && !b->failed) {
        /* Bulk copies arrive as late as may be, or at random. */
        struct lcl_sim_thread *t = next_ready(b, s, last);
        if (!t || (s->order == RANDOM && pick(s, 16) == 0)) {
            if (lcl_sim_async_deliver(b, s->order == REVERSE) || t) continue;
            say_stuck(b);
            break;
        }
        b->self = t;
        last = t->index;
        lcl_fiber_switch(&b->scheduler, &t->fiber);
        b->self = NULL;
        if (*stack_end(b, last) != stack_mark)
            lcl_sim_stop(b, NULL, "thread %u needs more than the %d bytes of stack it has", last,
                         LCL_SIM_STACK_BYTES);
    }
    if (!b->failed) lcl_sim_async_end(b);
    if (b->watched && lcl_sim_counting() && !b->failed)
        for (unsigned w = 0; w * LCL_SIM_WARP < b->n_threads; w++) lcl_sim_count_warp(b, w);
    current = NULL;
}

/* --- launches --- */

/* One for each thread of the system that runs blocks, kept until the process ends. */
static struct lcl_sim_block *own_block(void)
{
    static __thread struct lcl_sim_block *own;
    if (own) return own;
    enum { MAP = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };
    size_t stacks = (size_t)LCL_SIM_MAX_THREADS * LCL_SIM_STACK_BYTES;
    struct lcl_sim_block *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->threads = calloc(LCL_SIM_MAX_THREADS, sizeof *b->threads);
    b->stacks = mmap(NULL, stacks, PROT_READ | PROT_WRITE, MAP, -1, 0);
    b->shared = mmap(NULL, LCL_SIM_MAX_SHARED, PROT_READ | PROT_WRITE, MAP, -1, 0);
    if (!b->threads || b->stacks == MAP_FAILED || b->shared == MAP_FAILED) return NULL;
    return own = b;
}

static lcl_status check_launch(const struct lcl_sim_launch *l)
{
    uint64_t threads = (uint64_t)l->block.x * l->block.y * l->block.z;
    uint64_t columns = (uint64_t)l->grid.x * l->grid.y;
    if (!threads || threads > LCL_SIM_MAX_THREADS || l->block.z > 64 || !columns || !l->grid.z ||
        l->grid.x > INT32_MAX || l->grid.y > 65535 || l->grid.z > 65535)
        return LCL_FAIL(LCL_SHAPE, "%s: no device takes grid (%u, %u, %u), block (%u, %u, %u)",
                        l->kernel, l->grid.x, l->grid.y, l->grid.z, l->block.x, l->block.y,
                        l->block.z);
    if (columns * l->grid.z > UINT32_MAX)
        return LCL_FAIL(LCL_SHAPE, "%s: more blocks than the emulator counts", l->kernel);
    if (l->shared_bytes > LCL_SIM_MAX_SHARED)
        return LCL_FAIL(LCL_SHAPE, "%s: %zu bytes of shared memory; a block has at most %d",
                        l->kernel, l->shared_bytes, LCL_SIM_MAX_SHARED);
    return LCL_OK;
}

struct run {
    const struct lcl_sim_launch *launch;
    struct schedule schedule;
    unsigned n_blocks;
    bool watched;
};

static lcl_status run_range(const struct run *r, unsigned begin, unsigned end)
{
    struct lcl_sim_block *b = own_block();
    if (!b) return LCL_FAIL(LCL_MEMORY, "%s: no memory for the emulator", r->launch->kernel);
    struct schedule s = r->schedule;
    b->launch = r->launch;
    b->n_threads = r->launch->block.x * r->launch->block.y * r->launch->block.z;
    b->watched = r->watched;
    b->failed = false;
    if (r->watched) lcl_sim_shadow_launch(b);
    for (unsigned i = begin; i < end && !b->failed; i++)
        run_block(b, &s, block_at(&r->schedule, begin, end, i - begin));
    if (b->failed) return LCL_FAIL(LCL_INTERNAL, "%s: %s", r->launch->kernel, b->message);
    return LCL_OK;
}

enum { BLOCKS_A_CHUNK = 16 };

static lcl_status run_chunk(void *ctx, int64_t chunk)
{
    const struct run *r = ctx;
    unsigned begin = (unsigned)chunk * BLOCKS_A_CHUNK, end = begin + BLOCKS_A_CHUNK;
    return run_range(r, begin, end < r->n_blocks ? end : r->n_blocks);
}

/* A captured launch, its parameters behind it. */
static lcl_status run_captured(void *params)
{
    struct lcl_sim_launch *l = params;
    l->params = l + 1;
    return lcl_sim_run(l);
}

lcl_status lcl_sim_run(const struct lcl_sim_launch *l)
{
    if (lcl_sim_capturing())
        return lcl_sim_capture(run_captured, l, sizeof *l, l->params, l->params_bytes);
    struct run r = {.launch = l, .n_blocks = l->grid.x * l->grid.y * l->grid.z};
    const char *check = getenv("LCL_SIM_CHECK");
    r.watched = !check || strcmp(check, "0") != 0;
    LCL_TRY(check_launch(l));
    lcl_sim_copies_arrive();
    if (!schedule_read(&r.schedule))
        return LCL_FAIL(LCL_CONFIG, "LCL_SIM_SCHEDULE=%s is not forward, reverse or random[:SEED]",
                        getenv("LCL_SIM_SCHEDULE"));
    if (!r.watched) return lcl_parallel(lcl_chunk_count(r.n_blocks, BLOCKS_A_CHUNK), run_chunk, &r);
    pthread_mutex_lock(&one_watched);
    if (lcl_sim_counting()) lcl_sim_count_launch(l);
    lcl_status status = run_range(&r, 0, r.n_blocks);
    pthread_mutex_unlock(&one_watched);
    return status;
}
