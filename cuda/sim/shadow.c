/* The watch: what each two bytes of shared and registered memory saw last, and the calls that
 * -fsanitize=thread makes for every load and store of a kernel. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cuda/sim/block.h"

/* Two bytes: the smallest element that threads share. Accesses of one byte are not checked for
 * races, since neighbours would be told apart wrongly. */
enum { CELL_BYTES = 2, MAX_REGIONS = 8192 };

/* Of the accesses that a `struct last` stands for. LANES, WARPS, BLOCKS: besides the last one's
 * thread, others did so too, with no meeting of the warp, no barrier, or nothing at all between. */
enum { LANES = 1, WARPS = 2, BLOCKS = 4, ATOMIC = 8, OVER_PLAIN = 16, PENDING = 32, BULK = 64 };

/* Times are epochs: equal block epochs mean no barrier between, equal warp epochs no meeting of the
 * warp between. 0: never. time: when it was, for the clocks. BULK: a bulk copy wrote; or read;
 * thread is its mbarrier's number. */
struct last {
    uint32_t epoch, warp, time;
    uint16_t thread, flags;
};

struct cell {
    struct last write, read;
};

struct region {
    unsigned char *base;
    size_t bytes;
    struct cell *cells;     /* one for each CELL_BYTES */
    unsigned char *written; /* fresh memory: a bit for each CELL_BYTES; NULL: all has values */
};

static struct region regions[MAX_REGIONS]; /* by address */
static int n_regions;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* registering */
static struct cell *shared_cells;
/* Beside each cell of shared memory: when products of each warpgroup read it since it was written.
 */
typedef uint32_t product_times[LCL_SIM_MAX_WARPGROUPS];
static product_times *shared_products;
static uint32_t now;

uint32_t lcl_sim_tick(const struct lcl_sim_block *b) { return b->watched ? ++now : 0; }

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        perror("the emulator's shadow memory");
        abort();
    }
    return p;
}

static size_t cells_of(size_t bytes) { return (bytes + CELL_BYTES - 1) / CELL_BYTES + 1; }

void lcl_sim_register(void *base, size_t bytes, bool fresh)
{
    if (!base || !bytes) return;
    pthread_mutex_lock(&lock);
    if (n_regions == MAX_REGIONS) {
        fprintf(stderr, "the emulator knows %d regions of memory at most\n", MAX_REGIONS);
        abort();
    }
    int at = n_regions++;
    for (; at > 0 && regions[at - 1].base > (unsigned char *)base; at--)
        regions[at] = regions[at - 1];
    regions[at] = (struct region){base, bytes, map(cells_of(bytes) * sizeof(struct cell)),
                                  fresh ? map(cells_of(bytes) / 8 + 1) : NULL};
    pthread_mutex_unlock(&lock);
}

static struct region *find(const void *at)
{
    int low = 0, high = n_regions;
    while (low < high) { /* the last that begins at or before */
        int mid = (low + high) / 2;
        if (regions[mid].base <= (const unsigned char *)at)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low) return NULL;
    struct region *r = &regions[low - 1];
    return (const unsigned char *)at < r->base + r->bytes ? r : NULL;
}

void lcl_sim_forget(void *base)
{
    pthread_mutex_lock(&lock);
    struct region *r = find(base);
    if (r && r->base == base) {
        munmap(r->cells, cells_of(r->bytes) * sizeof(struct cell));
        if (r->written) munmap(r->written, cells_of(r->bytes) / 8 + 1);
        n_regions--;
        memmove(r, r + 1, (size_t)(regions + n_regions - r) * sizeof *r);
    }
    pthread_mutex_unlock(&lock);
}

static void mark_written(struct region *r, size_t begin, size_t bytes)
{
    size_t i = begin / CELL_BYTES, end = (begin + bytes + CELL_BYTES - 1) / CELL_BYTES;
    for (; i < end && i % 8; i++) r->written[i / 8] |= (unsigned char)(1u << i % 8);
    if (i < end) memset(r->written + i / 8, 0xFF, (end - i) / 8);
    for (i = i > end - end % 8 ? i : end - end % 8; i < end; i++)
        r->written[i / 8] |= (unsigned char)(1u << i % 8);
}

void lcl_sim_written(const void *base, size_t bytes)
{
    struct region *r = find(base);
    if (r && r->written && bytes)
        mark_written(r, (size_t)((const unsigned char *)base - r->base), bytes);
}

void lcl_sim_shadow_launch(struct lcl_sim_block *b)
{
    const size_t cells = cells_of(LCL_SIM_MAX_SHARED);
    const size_t bytes = cells * sizeof(struct cell), times = cells * sizeof(product_times);
    if (!shared_cells) {
        shared_cells = map(bytes);
        shared_products = map(times);
    }
    if (now > UINT32_MAX / 2) { /* the clock begins again, and all memory with it */
        now = 0;
        munmap(shared_cells, bytes);
        munmap(shared_products, times);
        shared_cells = map(bytes);
        shared_products = map(times);
        for (int i = 0; i < n_regions; i++) {
            size_t of_region = cells_of(regions[i].bytes) * sizeof(struct cell);
            munmap(regions[i].cells, of_region);
            regions[i].cells = map(of_region);
        }
    }
    b->launch_first = ++now;
}

void lcl_sim_shadow_pending(struct lcl_sim_block *b, const void *at, size_t bytes, bool pending)
{
    size_t begin = (size_t)((const unsigned char *)at - b->shared) / CELL_BYTES;
    unsigned self = b->self->index;
    for (size_t i = begin; i < begin + bytes / CELL_BYTES; i++)
        shared_cells[i].write = (struct last){b->epoch, b->warp_epoch[self / LCL_SIM_WARP], now,
                                              (uint16_t)self, pending ? PENDING : 0};
}

const char *lcl_sim_where(uintptr_t pc)
{
    static __thread char text[320];
    Dl_info info;
    snprintf(text, sizeof text, "%#lx", (unsigned long)pc);
    if (!dladdr((void *)pc, &info) || !info.dli_fname) return text;
    char command[512];
    /* The return address is past the call: one byte before it is in its line. */
    snprintf(command, sizeof command, "addr2line -e '%s' %#lx 2>/dev/null", info.dli_fname,
             (unsigned long)(pc - 1 - (uintptr_t)info.dli_fbase));
    FILE *f = popen(command, "r");
    if (!f) return text;
    char line[256];
    if (fgets(line, sizeof line, f) && line[0] != '?') {
        line[strcspn(line, "\n")] = 0;
        char *more = strstr(line, " (discriminator");
        if (more) *more = 0;
        snprintf(text, sizeof text, "%s", line);
    }
    pclose(f);
    return text;
}

/* --- one access --- */

struct access {
    struct lcl_sim_block *b;
    const unsigned char *at;
    size_t bytes;
    enum lcl_sim_access kind;
    uintptr_t pc;                    /* of the compiler's call, or 0 */
    const struct lcl_sim_site *site; /* of an intrinsic */
    bool shared;
};

static void blame(const struct access *a, const char *what, unsigned other)
{
    char place[512], who[64] = "";
    if (a->site)
        snprintf(place, sizeof place, "%s:%d (%s)", a->site->file, a->site->line, a->site->what);
    else
        snprintf(place, sizeof place, "%s", lcl_sim_where(a->pc));
    if (other != UINT32_MAX) snprintf(who, sizeof who, " by thread %u", other);
    char where[96] = "";
    if (a->shared)
        snprintf(where, sizeof where, "byte %td of shared memory", a->at - a->b->shared);
    else {
        const struct region *r = find(a->at);
        const unsigned char *stacks = a->b->stacks;
        if (a->at >= stacks && a->at < stacks + (size_t)LCL_SIM_MAX_THREADS * LCL_SIM_STACK_BYTES)
            snprintf(where, sizeof where, "the thread's own");
        else if (r)
            snprintf(where, sizeof where, "byte %td of %zu bytes of global memory", a->at - r->base,
                     r->bytes);
        else
            snprintf(where, sizeof where, "%p", (const void *)a->at);
    }
    lcl_sim_stop(a->b, place, "%s of %zu bytes, %s: %s%s",
                 a->kind == LCL_SIM_READ    ? "read"
                 : a->kind == LCL_SIM_WRITE ? "write"
                                            : "atomic",
                 a->bytes, where, what, who);
}

/* The first epoch that matters: shared memory belongs to the block, global memory to the launch. */
static uint32_t since(const struct access *a)
{
    return a->shared ? a->b->first : a->b->launch_first;
}

/* Whether a thread has waited for what tells it that `agent` was past that time (async.c). */
static bool knows(const struct lcl_sim_block *b, unsigned thread, unsigned agent, uint32_t time)
{
    return b->clocked && b->threads[thread].clock[agent] >= time;
}

/* How an access of `l` and this one are not ordered, or NULL. */
static const char *unordered(const struct access *a, const struct last *l)
{
    const struct lcl_sim_block *b = a->b;
    unsigned self = b->self->index, warp = self / LCL_SIM_WARP;
    bool same_warp = l->thread / LCL_SIM_WARP == warp;
    if (l->epoch < since(a)) return NULL;
    if (l->epoch < b->first || l->flags & BLOCKS) return "in another block";
    const unsigned agent = l->flags & BULK ? lcl_sim_agent_bulk(b, l->thread) : l->thread;
    if (!(l->flags & (LANES | WARPS)) && knows(b, self, agent, l->time)) return NULL;
    if ((l->epoch == b->epoch && (!same_warp || l->flags & WARPS)) ||
        (same_warp && l->warp == b->warp_epoch[warp] && (l->thread != self || l->flags & LANES)))
        return "without a barrier between";
    return NULL;
}

static void blame_race(const struct access *a, const char *did, const struct last *l,
                       const char *how)
{
    char what[96];
    snprintf(what, sizeof what, "a race: %s %s", did, how);
    blame(a, what, l->thread);
}

static void check_race(const struct access *a, const struct cell *c)
{
    const struct last *w = &c->write;
    if (w->flags & PENDING && w->epoch >= a->b->first)
        blame(a, "an asynchronous copy to it is under way, begun", w->thread);
    const bool bulk = w->flags & BULK && w->epoch >= a->b->first;
    if (bulk && !knows(a->b, a->b->self->index, lcl_sim_agent_bulk(a->b, w->thread), w->time))
        blame(a, "a bulk copy brought it, and no wait for its mbarrier tells so", UINT32_MAX);
    if (a->bytes == 1) return;
    const char *how = bulk ? NULL : unordered(a, w);
    bool both_atomic = a->kind == LCL_SIM_ATOMIC && w->flags & ATOMIC;
    /* a plain write before another block's atomics is as unordered as they are */
    if (how && (!both_atomic || (w->flags & OVER_PLAIN && w->epoch < a->b->first)))
        blame_race(a, "written", w, how);
    if (a->kind == LCL_SIM_READ) return;
    how = unordered(a, &c->read);
    if (how) blame_race(a, "read", &c->read, how);
}

/* Makes self's access the last; the earlier ones of the same kind still count. */
static void join(const struct access *a, struct last *l, unsigned flags)
{
    const struct lcl_sim_block *b = a->b;
    unsigned self = b->self->index, warp = self / LCL_SIM_WARP;
    bool same_warp = l->thread / LCL_SIM_WARP == warp;
    if (l->epoch >= since(a) && (l->epoch < b->first || l->flags & BLOCKS)) flags |= BLOCKS;
    if (l->epoch == b->epoch) flags |= same_warp ? l->flags & WARPS : (unsigned)WARPS;
    if (same_warp && l->warp == b->warp_epoch[warp])
        flags |= l->thread == self ? l->flags & LANES : (unsigned)LANES;
    *l = (struct last){b->epoch, b->warp_epoch[warp], now, (uint16_t)self, (uint16_t)flags};
}

static void note(const struct access *a, struct cell *c)
{
    const struct last never = {0};
    struct last *w = &c->write;
    if (a->kind == LCL_SIM_READ) {
        join(a, &c->read, 0);
    } else if (a->kind == LCL_SIM_WRITE) {
        *w = c->read = never;
        join(a, w, 0);
    } else {
        bool written = w->epoch >= since(a), plain = written && !(w->flags & ATOMIC);
        if (plain && w->epoch == a->b->epoch) return; /* other warps still have that to fear */
        unsigned flags = plain || (written && w->flags & OVER_PLAIN) ? OVER_PLAIN : 0;
        if (plain) *w = never;
        join(a, w, flags | ATOMIC);
    }
}

static void check_shared_end(const struct access *a, size_t begin)
{
    if (begin + a->bytes <= a->b->launch->shared_bytes) return;
    char what[96];
    snprintf(what, sizeof what, "past the block's %zu bytes", a->b->launch->shared_bytes);
    blame(a, what, UINT32_MAX);
}

/* No product that may be under way reads what this access writes. */
static void check_products(const struct access *a, product_times *times)
{
    const struct lcl_sim_block *b = a->b;
    for (unsigned g = 0; g * LCL_SIM_WARPGROUP < b->n_threads; g++) {
        const uint32_t time = (*times)[g];
        (*times)[g] = 0;
        if (time < b->first) continue;
        for (unsigned w = 4 * g; w < 4 * g + 4; w++)
            if (!knows(b, b->self->index, lcl_sim_agent_products(b, w), time))
                blame(a, "a product reads it, and nothing tells that it is done, with warp",
                      w * LCL_SIM_WARP);
    }
}

static void check_shared(const struct access *a, size_t begin)
{
    check_shared_end(a, begin);
    for (size_t i = begin / CELL_BYTES; i <= (begin + a->bytes - 1) / CELL_BYTES; i++) {
        struct cell *c = &shared_cells[i];
        if (a->kind != LCL_SIM_WRITE && c->write.epoch < a->b->first)
            blame(a, "no thread of the block wrote it", UINT32_MAX);
        check_race(a, c);
        if (a->kind != LCL_SIM_READ) check_products(a, &shared_products[i]);
        note(a, c);
    }
}

/* --- bulk copies and products: the asynchronous proxy --- */

/* What an ordinary access wrote must have been fenced for it. */
static void check_proxy(const struct access *a, const struct last *w, unsigned thread)
{
    if (w->epoch < a->b->first || w->flags & (BULK | PENDING)) return;
    if (!knows(a->b, thread, lcl_sim_agent_fenced(a->b, w->thread), w->time))
        blame(a, "written with no fence.proxy.async between, or no wait after it,", w->thread);
}

void lcl_sim_shadow_bulk_begin(struct lcl_sim_block *b, const void *at, size_t bytes,
                               const struct lcl_sim_site *site)
{
    struct access a = {b, at, bytes, LCL_SIM_WRITE, 0, site, true};
    const size_t begin = (size_t)(a.at - b->shared);
    check_shared_end(&a, begin);
    for (size_t i = begin / CELL_BYTES; i < (begin + bytes) / CELL_BYTES; i++) {
        struct cell *c = &shared_cells[i];
        check_race(&a, c);
        check_proxy(&a, &c->write, b->self->index);
        check_products(&a, &shared_products[i]);
        note(&a, c);
        c->write.flags = PENDING;
    }
}

void lcl_sim_shadow_bulk_end(struct lcl_sim_block *b, const void *at, size_t bytes,
                             unsigned mbarrier)
{
    const size_t begin = (size_t)((const unsigned char *)at - b->shared);
    for (size_t i = begin / CELL_BYTES; i < (begin + bytes) / CELL_BYTES; i++)
        shared_cells[i].write = (struct last){b->epoch, 0, now, (uint16_t)mbarrier, BULK};
}

void lcl_sim_shadow_bulk_read(struct lcl_sim_block *b, const void *at, size_t bytes,
                              unsigned mbarrier, const struct lcl_sim_site *site)
{
    struct access a = {b, at, bytes, LCL_SIM_READ, 0, site, false};
    struct region *r = find(at);
    if (!r) blame(&a, "memory that the device does not have", UINT32_MAX);
    const size_t begin = (size_t)(a.at - r->base);
    if (begin + bytes > r->bytes) blame(&a, "past its end", UINT32_MAX);
    for (size_t i = begin / CELL_BYTES; i < (begin + bytes) / CELL_BYTES; i++) {
        struct last *read = &r->cells[i].read;
        check_race(&a, &r->cells[i]);
        note(&a, &r->cells[i]);
        read->thread = (uint16_t)mbarrier; /* it is done when that one's phase has ended */
        read->flags |= BULK;
    }
}

void lcl_sim_shadow_product(struct lcl_sim_block *b, const void *at, uint32_t time,
                            const struct lcl_sim_site *site)
{
    struct access a = {b, at, 16, LCL_SIM_READ, 0, site, true};
    const unsigned group = b->self->index / LCL_SIM_WARPGROUP;
    const size_t begin = (size_t)(a.at - b->shared);
    static struct last good; /* a write that was found right, for the product of `good_time` */
    static uint32_t good_time;
    check_shared_end(&a, begin);
    for (size_t i = begin / CELL_BYTES; i < (begin + 16) / CELL_BYTES; i++) {
        const struct last *w = &shared_cells[i].write;
        shared_products[i][group] = time;
        if (good_time == time && memcmp(&good, w, sizeof good) == 0) continue;
        if (w->epoch < b->first) blame(&a, "no thread of the block wrote it", UINT32_MAX);
        if (w->flags & PENDING)
            blame(&a, "an asynchronous copy to it is under way, begun", w->thread);
        for (unsigned lane = 0; lane < LCL_SIM_WARPGROUP; lane += LCL_SIM_WARP) {
            const unsigned thread = group * LCL_SIM_WARPGROUP + lane;
            if (w->flags & BULK && !knows(b, thread, lcl_sim_agent_bulk(b, w->thread), w->time))
                blame(&a, "a bulk copy brought it, and no wait for its mbarrier tells so",
                      UINT32_MAX);
            check_proxy(&a, w, thread);
        }
        good = *w;
        good_time = time;
    }
}

static void check_global(const struct access *a, struct region *r)
{
    size_t begin = (size_t)(a->at - r->base);
    if (begin + a->bytes > r->bytes) blame(a, "past its end", UINT32_MAX);
    for (size_t i = begin / CELL_BYTES; i <= (begin + a->bytes - 1) / CELL_BYTES; i++) {
        if (r->written) {
            unsigned char bit = (unsigned char)(1u << i % 8);
            if (a->kind != LCL_SIM_WRITE && !(r->written[i / 8] & bit))
                blame(a, "nothing has written it", UINT32_MAX);
            r->written[i / 8] |= bit;
        }
        check_race(a, &r->cells[i]);
        note(a, &r->cells[i]);
    }
}

/* Constants of the program itself may be read. */
static bool in_program(const void *at)
{
    extern char __executable_start[], _end[];
    return (const char *)at >= __executable_start && (const char *)at < _end;
}

static void check(struct access *a)
{
    struct lcl_sim_block *b = a->b;
    const unsigned char *own = b->stacks + (size_t)b->self->index * LCL_SIM_STACK_BYTES;
    if (a->at >= own && a->at < own + LCL_SIM_STACK_BYTES) {
        const char *taken = NULL;
        if (b->self->n_products)
            taken = lcl_sim_product_at(b->self, a->at, a->bytes, a->kind != LCL_SIM_READ);
        if (taken) blame(a, taken, UINT32_MAX);
        return;
    }
    const unsigned char *params = b->launch->params;
    if (a->at >= params && a->at < params + b->launch->params_bytes && a->kind == LCL_SIM_READ)
        return;
    a->shared = a->at >= b->shared && a->at < b->shared + LCL_SIM_MAX_SHARED;
    if ((uintptr_t)a->at % a->bytes) blame(a, "not aligned", UINT32_MAX);
    if (a->shared) {
        check_shared(a, (size_t)(a->at - b->shared));
    } else {
        struct region *r = find(a->at);
        if (r)
            check_global(a, r);
        else if (a->kind != LCL_SIM_READ || !in_program(a->at))
            blame(a, "memory that the device does not have", UINT32_MAX);
        else
            return;
    }
    if (lcl_sim_counting())
        lcl_sim_count(b, (struct lcl_sim_trace){.pc = a->site ? (uintptr_t)a->site->line : a->pc,
                                                .file = a->site ? a->site->file : NULL,
                                                .at = (uintptr_t)a->at,
                                                .bytes = (uint32_t)a->bytes,
                                                .write = a->kind != LCL_SIM_READ,
                                                .shared = a->shared});
}

static void seen(const void *at, size_t bytes, enum lcl_sim_access kind, void *pc,
                 const struct lcl_sim_site *site)
{
    struct lcl_sim_block *b = lcl_sim_current();
    if (!b || !b->self || !b->watched) return;
    struct access a = {b, at, bytes, kind, (uintptr_t)pc, site, false};
    check(&a);
}

/* Structs, copied as a whole: the device copies their members, taken to be of four bytes. */
static void seen_parts(const unsigned char *at, size_t bytes, enum lcl_sim_access kind, void *pc,
                       const struct lcl_sim_site *site)
{
    for (size_t part; bytes; at += part, bytes -= part) {
        for (part = 4; part > bytes || (uintptr_t)at % part;) part /= 2;
        seen(at, part, kind, pc, site);
    }
}

void lcl_sim_touch(const void *at, size_t bytes, enum lcl_sim_access kind,
                   const struct lcl_sim_site *site)
{
    if (bytes & (bytes - 1))
        seen_parts(at, bytes, kind, NULL, site);
    else if (bytes)
        seen(at, bytes, kind, NULL, site);
}

/* --- the names that the compiler calls --- */

#define SEEN(name, bytes, kind) \
    void name(void *at);        \
    void name(void *at) { seen(at, bytes, kind, __builtin_return_address(0), NULL); }
SEEN(__tsan_read1, 1, LCL_SIM_READ)
SEEN(__tsan_read2, 2, LCL_SIM_READ)
SEEN(__tsan_read4, 4, LCL_SIM_READ)
SEEN(__tsan_read8, 8, LCL_SIM_READ)
SEEN(__tsan_read16, 16, LCL_SIM_READ)
SEEN(__tsan_write1, 1, LCL_SIM_WRITE)
SEEN(__tsan_write2, 2, LCL_SIM_WRITE)
SEEN(__tsan_write4, 4, LCL_SIM_WRITE)
SEEN(__tsan_write8, 8, LCL_SIM_WRITE)
SEEN(__tsan_write16, 16, LCL_SIM_WRITE)

#define SEEN_PARTS(name, bytes, kind) \
    void name(void *at);              \
    void name(void *at) { seen_parts(at, bytes, kind, __builtin_return_address(0), NULL); }
SEEN_PARTS(__tsan_unaligned_read2, 2, LCL_SIM_READ)
SEEN_PARTS(__tsan_unaligned_read4, 4, LCL_SIM_READ)
SEEN_PARTS(__tsan_unaligned_read8, 8, LCL_SIM_READ)
SEEN_PARTS(__tsan_unaligned_read16, 16, LCL_SIM_READ)
SEEN_PARTS(__tsan_unaligned_write2, 2, LCL_SIM_WRITE)
SEEN_PARTS(__tsan_unaligned_write4, 4, LCL_SIM_WRITE)
SEEN_PARTS(__tsan_unaligned_write8, 8, LCL_SIM_WRITE)
SEEN_PARTS(__tsan_unaligned_write16, 16, LCL_SIM_WRITE)

#define SEEN_RANGE(name, kind)                                          \
    void name(void *at, size_t bytes);                                  \
    void name(void *at, size_t bytes)                                   \
    {                                                                   \
        seen_parts(at, bytes, kind, __builtin_return_address(0), NULL); \
    }
SEEN_RANGE(__tsan_read_range, LCL_SIM_READ)
SEEN_RANGE(__tsan_write_range, LCL_SIM_WRITE)

#define UNSEEN(name)   \
    void name(void *); \
    void name(void *unused) { (void)unused; }
UNSEEN(__tsan_func_entry)
UNSEEN(__tsan_func_exit)
UNSEEN(__tsan_vptr_read)
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **unused, void *unused_too) { (void)unused, (void)unused_too; }

/* -fsanitize=bounds: an index outside of an array of fixed size, such as a thread's own. */
struct bounds {
    const char *file;
    uint32_t line, column;
};
void __ubsan_handle_out_of_bounds(const struct bounds *, size_t);
void __ubsan_handle_out_of_bounds(const struct bounds *at, size_t index)
{
    struct lcl_sim_block *b = lcl_sim_current();
    struct lcl_sim_site site = {"index", at->file, (int)at->line};
    if (b && b->self) lcl_sim_fail(&site, "index %td is outside of the array", (ptrdiff_t)index);
    fprintf(stderr, "%s:%u: index %td is outside of the array\n", at->file, at->line,
            (ptrdiff_t)index);
    abort();
}
