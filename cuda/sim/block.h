/* Private to cuda/sim/: the block that runs, its threads, and what the watch keeps of them. */
#ifndef LCL_CUDA_SIM_BLOCK_H
#define LCL_CUDA_SIM_BLOCK_H

#include "cuda/sim/fiber.h"
#include "cuda/sim/sim.h"

enum {
    LCL_SIM_MAX_WARPS = LCL_SIM_MAX_THREADS / LCL_SIM_WARP,
    LCL_SIM_WARPGROUP = 128,
    LCL_SIM_MAX_WARPGROUPS = LCL_SIM_MAX_THREADS / LCL_SIM_WARPGROUP,
    LCL_SIM_MAX_MBARRIERS = 64, /* a block */
    LCL_SIM_MAX_PRODUCTS = 4,   /* accumulators of a thread under way */
    LCL_SIM_MAX_OPERANDS = 64   /* fragments in its registers that products under way read */
};

enum lcl_sim_state {
    LCL_SIM_READY,
    LCL_SIM_AT_BARRIER,
    LCL_SIM_AT_WARP,
    LCL_SIM_AT_WARPGROUP,
    LCL_SIM_AT_MBARRIER,
    LCL_SIM_DONE
};

/* A copy under way: cp.async. */
struct lcl_sim_copy {
    void *dst;
    unsigned char bytes[16];
    int width;
    int64_t group;
};

/* wgmma: registers that are sums under way, and what they will be; registers that are read. */
struct lcl_sim_product {
    float *d;
    int n;
    float sum[LCL_SIM_WARPGROUP];
    int64_t group;
    struct lcl_sim_site site; /* of the newest */
};
struct lcl_sim_operand {
    const void *at;
    int64_t group;
};

/* A box on its way to shared memory: cp.async.bulk. */
struct lcl_sim_bulk {
    unsigned char *bytes;
    size_t at, size; /* in shared memory; one row after another */
    unsigned row_bytes, mbarrier;
};

struct lcl_sim_mbarrier {
    size_t at; /* in shared memory */
    int32_t arrivals, pending;
    int64_t bytes; /* announced and not yet there */
    uint32_t phase;
    unsigned owner; /* the thread that made it */
    bool fenced;
    bool unseen;             /* a bulk copy is for it, and nobody has waited since */
    uint32_t *clock, *ended; /* what those who arrived know; what the last phase's end tells */
};

/* One access, kept until the lanes of its warp meet: for counting. */
struct lcl_sim_trace {
    uintptr_t pc, at;
    const char *file; /* of an intrinsic, whose line `pc` then is; NULL: pc is an address */
    uint32_t order, bytes;
    uint16_t lane;
    bool write, shared;
};

struct lcl_sim_thread {
    struct lcl_fiber fiber;
    enum lcl_sim_state state;
    unsigned index; /* in the block, x fastest */
    struct lcl_sim_dim idx;
    /* where it waits */
    const struct lcl_sim_site *site;
    unsigned mask;
    lcl_sim_warp_op op;
    void *args;
    /* asynchronous copies, oldest first */
    struct lcl_sim_copy *copies;
    int n_copies, cap_copies;
    int64_t open_group;
    /* products, with the group of the newest; whether a fence was there since the last wait */
    struct lcl_sim_product products[LCL_SIM_MAX_PRODUCTS];
    struct lcl_sim_operand operands[LCL_SIM_MAX_OPERANDS];
    int n_products, n_operands;
    int64_t open_products;
    uint32_t newest_product;                   /* its time */
    uint32_t group_time[LCL_SIM_MAX_PRODUCTS]; /* newest when group i, modulo that, was made */
    bool fenced;
    unsigned mbarrier; /* where it waits */
    uint32_t *clock;   /* async.c: until when it knows of others */
    /* accesses since the warp last met */
    struct lcl_sim_trace *traces;
    size_t n_traces, cap_traces;
};

struct lcl_sim_block {
    const struct lcl_sim_launch *launch;
    struct lcl_sim_dim idx;
    struct lcl_sim_thread *threads; /* [LCL_SIM_MAX_THREADS], kept from launch to launch */
    unsigned char *stacks;          /* [LCL_SIM_MAX_THREADS][LCL_SIM_STACK_BYTES] */
    unsigned char *shared;          /* [LCL_SIM_MAX_SHARED] */
    unsigned n_threads, n_done, n_at_barrier;
    struct lcl_sim_thread *self; /* who runs; NULL: the scheduler */
    struct lcl_fiber scheduler;
    bool watched, failed;
    char message[1024];
    /* Time, for the watch: a number that every barrier and every meeting of a warp advances. */
    uint32_t launch_first, first; /* of this launch, of this block */
    uint32_t epoch;               /* since the block's last barrier */
    uint32_t warp_epoch[LCL_SIM_MAX_WARPS];
    uint32_t waiting[LCL_SIM_MAX_WARPS], ended[LCL_SIM_MAX_WARPS]; /* lanes: at a meeting; done */
    unsigned at_warpgroup[LCL_SIM_MAX_WARPGROUPS];                 /* threads at a product */
    struct lcl_sim_mbarrier mbarriers[LCL_SIM_MAX_MBARRIERS];
    unsigned n_mbarriers;
    struct lcl_sim_bulk *bulks; /* under way, oldest first */
    unsigned n_bulks, cap_bulks;
    bool clocked; /* this block has mbarriers or proxy fences: clocks are kept */
    uint32_t *clocks;
};

/* The block that this thread of the system runs, or NULL. */
struct lcl_sim_block *lcl_sim_current(void);
/* Ends the launch from within a thread of it; does not return. */
void lcl_sim_stop(struct lcl_sim_block *b, const char *place, const char *fmt, ...)
    LCL_PRINTF(3, 4);

const char *lcl_sim_site_text(const struct lcl_sim_site *s); /* in a static buffer */
bool lcl_sim_in_shared(const struct lcl_sim_block *b, const void *at);
/* Lets others run until this one is ready again. */
void lcl_sim_yield(struct lcl_sim_block *b);

/* async.c. A clock tells, for each agent of the block, until when the one who has it knows what
 * that agent did. Agents: threads; threads as fenced for the asynchronous proxy; mbarriers' bulk
 * copies; warps' products. */
void lcl_sim_async_begin(struct lcl_sim_block *b); /* a block begins */
void lcl_sim_async_end(struct lcl_sim_block *b);   /* it ended well: nothing may be under way */
/* Brings a box that is under way, if there is one. newest: that, else the oldest. */
bool lcl_sim_async_deliver(struct lcl_sim_block *b, bool newest);
/* Threads [begin, end) have met in a way that orders memory. */
void lcl_sim_clocks_meet(struct lcl_sim_block *b, unsigned begin, unsigned end);
static inline unsigned lcl_sim_agent_fenced(const struct lcl_sim_block *b, unsigned thread)
{
    return b->n_threads + thread;
}
static inline unsigned lcl_sim_agent_bulk(const struct lcl_sim_block *b, unsigned mbarrier)
{
    return 2 * b->n_threads + mbarrier;
}
static inline unsigned lcl_sim_agent_products(const struct lcl_sim_block *b, unsigned warp)
{
    return 2 * b->n_threads + LCL_SIM_MAX_MBARRIERS + warp;
}
/* "; its mbarrier lacks 1 arrivals and 0 bytes", of a thread that waits at one, into a buffer. */
void lcl_sim_mbarrier_text(const struct lcl_sim_block *b, const struct lcl_sim_thread *t,
                           char *text, size_t bytes);
/* Where the swizzle of rows of 128, 64 or 32 bytes puts a byte of shared memory. */
static inline size_t lcl_sim_swizzled(size_t at, unsigned row_bytes)
{
    return at ^ ((at >> 7 & (row_bytes / 16 - 1)) << 4);
}

/* wgmma.c */
/* Registers of t at these bytes that a product under way has: words for it, or NULL. */
const char *lcl_sim_product_at(const struct lcl_sim_thread *t, const void *at, size_t bytes,
                               bool write);

/* shadow.c */
/* Advances the clock; 0 where b is not watched. */
uint32_t lcl_sim_tick(const struct lcl_sim_block *b);
/* Before a watched launch: clock and shared memory's shadow. */
void lcl_sim_shadow_launch(struct lcl_sim_block *b);
/* pending: a copy of self is under way to these bytes, and nobody may touch them; else it has
 * arrived, and self wrote them now. */
void lcl_sim_shadow_pending(struct lcl_sim_block *b, const void *at, size_t bytes, bool pending);
/* A bulk copy of self is under way to these bytes of shared memory; it has arrived, at mbarrier. */
void lcl_sim_shadow_bulk_begin(struct lcl_sim_block *b, const void *at, size_t bytes,
                               const struct lcl_sim_site *site);
void lcl_sim_shadow_bulk_end(struct lcl_sim_block *b, const void *at, size_t bytes,
                             unsigned mbarrier);
/* A bulk copy of self for that mbarrier reads global memory, which need have no values. */
void lcl_sim_shadow_bulk_read(struct lcl_sim_block *b, const void *at, size_t bytes,
                              unsigned mbarrier, const struct lcl_sim_site *site);
/* A product of self's warpgroup, begun at `time`, reads 16 bytes of shared memory. */
void lcl_sim_shadow_product(struct lcl_sim_block *b, const void *at, uint32_t time,
                            const struct lcl_sim_site *site);
/* "file:line" of a program address, in a static buffer of the calling thread. */
const char *lcl_sim_where(uintptr_t pc);

/* count.c */
bool lcl_sim_counting(void);
void lcl_sim_count_launch(const struct lcl_sim_launch *l);
void lcl_sim_count(struct lcl_sim_block *b, struct lcl_sim_trace access);
/* A row that a bulk copy reads. */
void lcl_sim_count_bulk(struct lcl_sim_block *b, const void *from, size_t bytes,
                        const struct lcl_sim_site *site);
/* The lanes of warp w meet: what they did since is grouped by instruction and counted. */
void lcl_sim_count_warp(struct lcl_sim_block *b, unsigned w);

#endif
