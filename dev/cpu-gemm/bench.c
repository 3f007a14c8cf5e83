/* GFLOP/s of cpu/gemm.c on the shapes of training steps, operands in cache and not: `bench [threads
 * [seconds a case]]`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "cpu/gemm.h"

#ifndef CLOCK
#define CLOCK CLOCK_MONOTONIC /* CLOCK_THREAD_CPUTIME_ID: one thread on a busy machine */
#endif
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct shape {
    const char *what;
    int trans_a, trans_b;
    int64_t M, N, K;
};

static const struct shape shapes[] = {
    {"llama qkv fwd", 0, 1, 1914, 960, 576},
    {"llama gate_up fwd", 0, 1, 1914, 3072, 576},
    {"llama down fwd", 0, 1, 1914, 576, 1536},
    {"llama gate_up d_x", 0, 0, 1914, 576, 3072},
    {"llama o d_weight", 1, 0, 576, 576, 1914},
    {"llama gate_up d_weight", 1, 0, 3072, 576, 1914},
    {"vit qkv fwd", 0, 1, 1773, 2304, 768},
    {"vit fc2 fwd", 0, 1, 1773, 768, 3072},
    {"head 512 rows", 0, 1, 512, 49152, 576},
    {"demo qkv fwd", 0, 1, 300, 288, 96},
    {"demo o fwd", 0, 1, 300, 96, 96},
    {"demo down d_weight", 1, 0, 96, 256, 300},
    {"demo vit fc1 fwd", 0, 1, 272, 384, 128},
    {"demo vit fc2 d_x", 0, 0, 272, 384, 128},
    {"demo vit fc1 d_weight", 1, 0, 384, 128, 272},
    {"small batch", 0, 1, 33, 64, 192},
};

/* Where the operands of one call lie: always the same place, or each time the next one of a ring
 * that no cache holds. */
enum { RING_BYTES = 256 << 20 };
struct ring {
    char *base;
    size_t at;
};

static bool ring_new(struct ring *r)
{
    r->base = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->base == MAP_FAILED) return false;
    madvise(r->base, RING_BYTES, MADV_HUGEPAGE);
    memset(r->base, 0, RING_BYTES);
    return true;
}

static void *ring_next(struct ring *r, int64_t elements, bool cold)
{
    size_t bytes = ((size_t)elements * 4 + 4095) / 4096 * 4096;
    if (!cold || r->at + 2 * bytes > RING_BYTES)
        r->at = 0;
    else
        r->at += bytes;
    return r->base + r->at;
}

static double mean_seconds(const struct shape *s, lcl_dtype t, struct ring ring[3], bool cold,
                           double budget)
{
    lcl_dtype c_type = s->trans_a ? LCL_F32 : t;
    double total = 0;
    int n = 0;
    for (; n < 3 || total < budget; n++) {
        void *a = ring_next(&ring[0], s->M * s->K, cold),
             *b = ring_next(&ring[1], s->N * s->K, cold),
             *c = ring_next(&ring[2], s->M * s->N, cold);
        double start = now();
        if (LCL_CPU(gemm)(s->trans_a, s->trans_b, s->M, s->N, s->K, 1.0f, a, t,
                          s->trans_a ? s->M : s->K, b, t, s->trans_b ? s->K : s->N, 0.0f, c, c_type,
                          s->N) != LCL_OK) {
            fprintf(stderr, "%s\n", lcl_error_message());
            exit(1);
        }
        total += now() - start;
    }
    return total / n;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double budget = argc > 2 ? atof(argv[2]) : 0.2;
    struct ring ring[3] = {0};
    if (lcl_threads_start(threads) != LCL_OK) return 1;
    for (int i = 0; i < 3; i++)
        if (!ring_new(&ring[i])) return 1;
    printf("%s, %d threads\n%-24s %-18s %8s %8s %10s %10s\n", LCL_CPU(gemm_library)(), threads, "",
           "M x N x K", "f32", "bf16", "f32 cold", "bf16 cold");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        double flop = 2e-9 * (double)s->M * (double)s->N * (double)s->K, rate[4];
        for (int j = 0; j < 4; j++)
            rate[j] = flop / mean_seconds(s, j % 2 ? LCL_BF16 : LCL_F32, ring, j >= 2, budget);
        char size[32];
        snprintf(size, sizeof size, "%lldx%lldx%lld", (long long)s->M, (long long)s->N,
                 (long long)s->K);
        printf("%-24s %-18s %8.1f %8.1f %10.1f %10.1f\n", s->what, size, rate[0], rate[1], rate[2],
               rate[3]);
    }
    lcl_threads_stop();
    return 0;
}
