/* GFLOP/s of cpu/gemm.c on the shapes of training steps: `bench [threads [seconds a case]]`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static double best_seconds(const struct shape *s, lcl_dtype t, lcl_dtype c_type, void *a, void *b,
                           void *c, double budget)
{
    double best = 1e9, total = 0;
    for (int i = 0; i < 3 || total < budget; i++) {
        double start = now();
        if (LCL_CPU(gemm)(s->trans_a, s->trans_b, s->M, s->N, s->K, 1.0f, a, t,
                          s->trans_a ? s->M : s->K, b, t, s->trans_b ? s->K : s->N, 0.0f, c, c_type,
                          s->N) != LCL_OK) {
            fprintf(stderr, "%s\n", lcl_error_message());
            exit(1);
        }
        double d = now() - start;
        total += d;
        if (d < best) best = d;
    }
    return best;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double budget = argc > 2 ? atof(argv[2]) : 0.2;
    if (lcl_threads_start(threads) != LCL_OK) return 1;
    printf("%s, %d threads\n%-24s %-18s %8s %8s\n", LCL_CPU(gemm_library)(), threads, "",
           "M x N x K", "f32", "bf16");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        double flop = 2e-9 * (double)s->M * (double)s->N * (double)s->K;
        float *a = aligned_alloc(64, (size_t)(s->M * s->K * 4 + 63) / 64 * 64);
        float *b = aligned_alloc(64, (size_t)(s->N * s->K * 4 + 63) / 64 * 64);
        float *c = aligned_alloc(64, (size_t)(s->M * s->N * 4 + 63) / 64 * 64);
        if (!a || !b || !c) return 1;
        for (int64_t j = 0; j < s->M * s->K; j++) a[j] = (float)(j % 7) - 3;
        for (int64_t j = 0; j < s->N * s->K; j++) b[j] = (float)(j % 5) - 2;
        memset(c, 0, (size_t)(s->M * s->N * 4));
        double f32 = best_seconds(s, LCL_F32, LCL_F32, a, b, c, budget);
        for (int64_t j = 0; j < s->M * s->K; j++)
            ((lcl_bf16 *)a)[j] = lcl_f32_to_bf16((float)(j % 7) - 3);
        for (int64_t j = 0; j < s->N * s->K; j++)
            ((lcl_bf16 *)b)[j] = lcl_f32_to_bf16((float)(j % 5) - 2);
        double bf16 = best_seconds(s, LCL_BF16, s->trans_a ? LCL_F32 : LCL_BF16, a, b, c, budget);
        char size[32];
        snprintf(size, sizeof size, "%lldx%lldx%lld", (long long)s->M, (long long)s->N,
                 (long long)s->K);
        printf("%-24s %-18s %8.1f %8.1f\n", s->what, size, flop / f32, flop / bf16);
        free(a);
        free(b);
        free(c);
    }
    lcl_threads_stop();
    return 0;
}
