#include "core/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum { MAX_THREADS = 256, SPINS = 2000 };

struct scratch {
    void *slot[LCL_SCRATCH_SLOTS];
    size_t bytes[LCL_SCRATCH_SLOTS];
};

static struct {
    int count; /* threads that compute, the caller's among them */
    pthread_t worker[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic uint64_t generation; /* one more for each lcl_parallel that workers join */
    bool quit;
    lcl_chunk_fn body;
    void *ctx;
    int64_t n_chunks;
    _Atomic int64_t next;
    _Atomic int busy; /* workers that have not finished this generation */
    pthread_mutex_t error_lock;
    int64_t error_chunk; /* lowest failing chunk; n_chunks when none */
    struct lcl_error error;
} pool = {.count = 1,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER,
          .error_lock = PTHREAD_MUTEX_INITIALIZER};

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static _Thread_local int thread_index;
static _Thread_local bool in_chunk;
static _Thread_local struct scratch scratch;

int lcl_threads_count(void) { return pool.count; }
int lcl_thread_index(void) { return thread_index; }
bool lcl_threads_in_chunk(void) { return in_chunk; }

void *lcl_thread_scratch(int slot, size_t bytes)
{
    if (scratch.bytes[slot] < bytes) {
        free(scratch.slot[slot]);
        size_t rounded = (bytes + bytes / 4 + 4095) / 4096 * 4096;
        scratch.slot[slot] = aligned_alloc(4096, rounded);
        scratch.bytes[slot] = scratch.slot[slot] ? rounded : 0;
    }
    return scratch.slot[slot];
}

static void scratch_free(void)
{
    for (int i = 0; i < LCL_SCRATCH_SLOTS; i++) free(scratch.slot[i]);
    memset(&scratch, 0, sizeof scratch);
}

static void run_chunks(void)
{
    in_chunk = true;
    for (;;) {
        int64_t chunk = atomic_fetch_add(&pool.next, 1);
        if (chunk >= pool.n_chunks) break;
        lcl_status s = pool.body(pool.ctx, chunk);
        if (s == LCL_OK) continue;
        pthread_mutex_lock(&pool.error_lock);
        if (chunk < pool.error_chunk) {
            pool.error_chunk = chunk;
            lcl_error_save(&pool.error, s);
        }
        pthread_mutex_unlock(&pool.error_lock);
    }
    in_chunk = false;
}

static void *worker_main(void *arg)
{
    thread_index = (int)(intptr_t)arg;
    uint64_t seen = 0;
    for (;;) {
        /* Ops follow one another within microseconds: spin a little before sleeping. */
        for (int i = 0; i < SPINS && atomic_load(&pool.generation) == seen; i++) cpu_relax();
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.generation) == seen && !pool.quit)
            pthread_cond_wait(&pool.wake, &pool.lock);
        bool quit = pool.quit;
        seen = atomic_load(&pool.generation);
        pthread_mutex_unlock(&pool.lock);
        if (quit) break;
        run_chunks();
        if (atomic_fetch_sub(&pool.busy, 1) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    scratch_free();
    return NULL;
}

int lcl_threads_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set);
}

static int share; /* 0: all */

void lcl_threads_share(int n) { share = n; }

static int processors(void)
{
    const char *text = getenv("LCL_THREADS");
    if (text && atoi(text) > 0) return atoi(text);
    return share > 0 ? share : lcl_threads_processors();
}

/* A worker allocates from its own heap, which glibc hands back to the kernel at each free that
 * leaves 128 KiB at its top: a picture is a megabyte or two in a few buffers, and faulting their
 * pages in anew took up to a third of the processor time of reading it. Tensors are not malloc's.
 */
static void keep_freed_pages(void)
{
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
#endif
}

lcl_status lcl_threads_start(int n)
{
    lcl_threads_stop();
    keep_freed_pages();
    if (n <= 0) n = processors();
    if (n > MAX_THREADS) n = MAX_THREADS;
    pool.quit = false;
    for (int i = 1; i < n; i++) {
        if (pthread_create(&pool.worker[i], NULL, worker_main, (void *)(intptr_t)i) != 0) {
            lcl_threads_stop();
            return LCL_FAIL_HINT(LCL_MEMORY, "set threads: to a smaller number",
                                 "cannot start thread %d of %d", i + 1, n);
        }
        pool.count = i + 1;
    }
    return LCL_OK;
}

void lcl_threads_stop(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.quit = true;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 1; i < pool.count; i++) pthread_join(pool.worker[i], NULL);
    pool.count = 1;
    atomic_store(&pool.generation, 0);
    scratch_free();
}

static lcl_status run_inline(int64_t n_chunks, lcl_chunk_fn body, void *ctx)
{
    bool outer = in_chunk;
    in_chunk = true;
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < n_chunks && status == LCL_OK; i++) status = body(ctx, i);
    in_chunk = outer;
    return status;
}

lcl_status lcl_parallel(int64_t n_chunks, lcl_chunk_fn body, void *ctx)
{
    if (in_chunk || pool.count == 1 || n_chunks <= 1) return run_inline(n_chunks, body, ctx);
    pool.body = body;
    pool.ctx = ctx;
    pool.n_chunks = n_chunks;
    pool.error_chunk = n_chunks;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.busy, pool.count - 1);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    run_chunks();
    for (int i = 0; i < SPINS && atomic_load(&pool.busy) > 0; i++) cpu_relax();
    if (atomic_load(&pool.busy) > 0) {
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.busy) > 0) pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    if (pool.error_chunk < n_chunks) return lcl_error_restore(&pool.error);
    return LCL_OK;
}
