/* Private to cuda/sim/: the block that runs, its threads, and what the watch keeps of them. */
#ifndef LCL_CUDA_SIM_BLOCK_H
#define LCL_CUDA_SIM_BLOCK_H

#include "cuda/sim/fiber.h"
#include "cuda/sim/sim.h"

enum { LCL_SIM_MAX_WARPS = LCL_SIM_MAX_THREADS / LCL_SIM_WARP };

enum lcl_sim_state { LCL_SIM_READY, LCL_SIM_AT_BARRIER, LCL_SIM_AT_WARP, LCL_SIM_DONE };

/* A copy under way: cp.async. */
struct lcl_sim_copy {
    void *dst;
    unsigned char bytes[16];
    int width;
    int64_t group;
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
};

/* The block that this thread of the system runs, or NULL. */
struct lcl_sim_block *lcl_sim_current(void);
/* Ends the launch from within a thread of it; does not return. */
void lcl_sim_stop(struct lcl_sim_block *b, const char *place, const char *fmt, ...)
    LCL_PRINTF(3, 4);

/* shadow.c */
/* Advances the clock; 0 where b is not watched. */
uint32_t lcl_sim_tick(const struct lcl_sim_block *b);
/* Before a watched launch: clock and shared memory's shadow. */
void lcl_sim_shadow_launch(struct lcl_sim_block *b);
/* pending: a copy of self is under way to these bytes, and nobody may touch them; else it has
 * arrived, and self wrote them now. */
void lcl_sim_shadow_pending(struct lcl_sim_block *b, const void *at, size_t bytes, bool pending);
/* "file:line" of a program address, in a static buffer of the calling thread. */
const char *lcl_sim_where(uintptr_t pc);

/* count.c */
bool lcl_sim_counting(void);
void lcl_sim_count_launch(const struct lcl_sim_launch *l);
void lcl_sim_count(struct lcl_sim_block *b, struct lcl_sim_trace access);
/* The lanes of warp w meet: what they did since is grouped by instruction and counted. */
void lcl_sim_count_warp(struct lcl_sim_block *b, unsigned w);

#endif
