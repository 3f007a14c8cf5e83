/* The thread pool. Work is cut in chunks whose number depends on the problem alone, never on the
 * thread count, so that no sum depends on how many threads ran it. Called from inside a chunk,
 * everything runs inline. */
#ifndef LCL_CORE_THREADS_H
#define LCL_CORE_THREADS_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Starts n - 1 workers (n = 0: as many threads as processors we may run on, or LCL_THREADS). May be
 * called again. */
LCL_CHECKED lcl_status lcl_threads_start(int n);
void lcl_threads_stop(void);
/* What n = 0 stands for where LCL_THREADS says nothing; 0: lcl_threads_processors(). */
void lcl_threads_share(int n);
int lcl_threads_processors(void); /* that this process may run on */
int lcl_threads_count(void);      /* at least 1 */
int lcl_thread_index(void);       /* 0 .. count-1 inside a chunk; 0 outside */
bool lcl_threads_in_chunk(void);

/* Calls body(ctx, chunk) for chunk = 0 .. n_chunks-1 over the threads; the first error by chunk
 * number is returned, with its message. Serial when called from inside a chunk. */
typedef lcl_status (*lcl_chunk_fn)(void *ctx, int64_t chunk);
LCL_CHECKED lcl_status lcl_parallel(int64_t n_chunks, lcl_chunk_fn body, void *ctx);

/* Rows [begin, end) of chunk `chunk` when n rows are cut in pieces of `grain`. */
static inline int64_t lcl_chunk_count(int64_t n, int64_t grain) { return (n + grain - 1) / grain; }
static inline int64_t lcl_chunk_begin(int64_t chunk, int64_t grain) { return chunk * grain; }
static inline int64_t lcl_chunk_end(int64_t chunk, int64_t grain, int64_t n)
{
    int64_t end = (chunk + 1) * grain;
    return end < n ? end : n;
}

/* Scratch of the calling thread, 64-byte aligned, valid until the op that asked returns; slots do
 * not overlap. Grows on demand (so only in first steps); NULL when memory ran out. slot in [0,
 * LCL_SCRATCH_SLOTS). */
enum { LCL_SCRATCH_SLOTS = 10 };
void *lcl_thread_scratch(int slot, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
