/* The emulator of a CUDA device: runs kernels compiled by the host compiler, a fiber for each
 * thread of a block, one block after another, and watches every access to memory.
 *
 * What it finds is an error of the launch, with the kernel, block, thread and line: barriers and
 * warp collectives that not all threads reach, reads and writes outside of shared memory or of
 * anything registered, or outside of a thread's own arrays, reads of shared memory that nobody
 * wrote, results of asynchronous copies that are read before their wait, and races: two threads at
 * the same bytes, one of them writing, with no barrier between (of the block, or of the warp, or an
 * mbarrier's), in shared and global memory, within a block and between blocks. Of sm_90a: mbarriers
 * whose phase never ends, or gets more bytes than were announced; operands of products (wgmma) that
 * are overwritten before somebody knows that the product is done, or were written without a proxy
 * fence; their registers touched before a wait. Bulk copies arrive as late as may be, but what they
 * overwrite is gone at once.
 *
 * How it sees accesses: kernels are compiled with -fsanitize=thread,bounds, and shadow.c stands in
 * for the sanitizers' libraries, so every load and store of the same source that nvcc compiles is a
 * call.
 *
 * In the environment: LCL_SIM_SCHEDULE=forward|reverse|random[:SEED] orders threads and blocks;
 * LCL_SIM_CHECK=0 runs without the watch, blocks over all threads of the pool;
 * LCL_SIM_COUNT=FILE writes, for each kernel, memory sectors and bank conflicts there at exit. */
#ifndef LCL_CUDA_SIM_SIM_H
#define LCL_CUDA_SIM_SIM_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LCL_SIM_WARP = 32,
    LCL_SIM_MAX_THREADS = 1024,      /* a block */
    LCL_SIM_MAX_SHARED = 227 * 1024, /* bytes a block may ask for, as on sm_90 */
    LCL_SIM_STACK_BYTES = 64 * 1024  /* a thread */
};

struct lcl_sim_dim {
    unsigned x, y, z;
};

struct lcl_sim_launch {
    const char *kernel; /* name, for messages */
    struct lcl_sim_dim grid, block;
    size_t shared_bytes;
    void (*call)(void *params); /* one thread's run of the kernel */
    void *params;               /* readable by the kernel */
    size_t params_bytes;
    uintptr_t entry; /* the kernel's address, by which counters find its full name */
};

/* Runs all blocks, or is captured. LCL_INTERNAL with what the watch found, LCL_SHAPE for a launch
 * that no device takes. */
LCL_CHECKED lcl_status lcl_sim_run(const struct lcl_sim_launch *launch);

/* While this thread's stream captures (cuda/sim/graph.c): keeps `run` and a copy of its parameters,
 * head and tail one after the other, for each launch of the graph. */
bool lcl_sim_capturing(void);
LCL_CHECKED lcl_status lcl_sim_capture(lcl_status (*run)(void *params), const void *head,
                                       size_t head_bytes, const void *tail, size_t tail_bytes);

/* Memory that kernels may touch. `fresh` memory has no value until something writes it. */
void lcl_sim_register(void *base, size_t bytes, bool fresh);
void lcl_sim_forget(void *base);
/* The host, or a copy, gave these bytes values. */
void lcl_sim_written(const void *base, size_t bytes);

/* --- for kernels --- */
struct lcl_sim_dim lcl_sim_thread_idx(void);
struct lcl_sim_dim lcl_sim_block_idx(void);
struct lcl_sim_dim lcl_sim_block_dim(void);
struct lcl_sim_dim lcl_sim_grid_dim(void);
unsigned lcl_sim_lane(void);
void *lcl_sim_shared(void); /* the block's dynamic shared memory, 1,024-byte aligned */

/* Where in the source, for messages. */
struct lcl_sim_site {
    const char *what, *file;
    int line;
};
void lcl_sim_barrier(const struct lcl_sim_site *site);

/* All lanes of `mask` meet; the last to arrive runs op on the arguments of all (NULL outside of the
 * mask), and each goes on. Their op and mask must be the same. */
typedef void (*lcl_sim_warp_op)(void *const args[LCL_SIM_WARP], unsigned mask);
void lcl_sim_warp(const struct lcl_sim_site *site, unsigned mask, lcl_sim_warp_op op, void *args);

enum lcl_sim_access { LCL_SIM_READ, LCL_SIM_WRITE, LCL_SIM_ATOMIC };
/* An access that the compiler's calls do not show: what an intrinsic reads or writes, as one
 * instruction of this thread. */
void lcl_sim_touch(const void *at, size_t bytes, enum lcl_sim_access kind,
                   const struct lcl_sim_site *site);

/* cp.async: reads now; the bytes arrive in shared memory at the wait. `bytes` of src, then zeros up
 * to `width`. */
void lcl_sim_copy_async(void *dst, const void *src, size_t bytes, size_t width,
                        const struct lcl_sim_site *site);
void lcl_sim_copy_commit(void);
void lcl_sim_copy_wait(int groups_left); /* all but the newest groups_left have arrived */

/* Ends the launch with a message: for what an intrinsic finds wrong. */
void lcl_sim_fail(const struct lcl_sim_site *site, const char *fmt, ...) LCL_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
