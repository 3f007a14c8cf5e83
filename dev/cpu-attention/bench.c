/* Seconds and GFLOP/s of cpu/attention.c beside the peak of its own microkernel: `bench [threads
 * [seconds a case]]`. Causal arithmetic counts the scores below the diagonal only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/isa.h"
#include "cpu/microkernel.h"

#ifndef CLOCK
#define CLOCK CLOCK_MONOTONIC /* CLOCK_THREAD_CPUTIME_ID: one thread on a busy machine */
#endif
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of one core when nothing but registers is used: independent multiply-adds. */
static double peak(void)
{
    double best = 0;
    for (int i = 0; i < 5; i++) {
        vf acc[12];
        for (int j = 0; j < 12; j++) acc[j] = v_all((float)j);
        vf x = v_all(0.999f), y = v_all(1e-3f);
        __asm__ volatile("" : "+x"(x), "+x"(y));
        double start = now();
        for (int k = 0; k < 10000000; k++)
#pragma GCC unroll 12
            for (int j = 0; j < 12; j++) acc[j] = acc[j] * x + y;
        double g = 10000000.0 * 12 * 2 * VL / (now() - start) * 1e-9;
        vf sum = {0};
        for (int j = 0; j < 12; j++) sum += acc[j];
        volatile float sink = sum[0];
        (void)sink;
        if (g > best) best = g;
    }
    return best;
}

struct shape {
    const char *what;
    int64_t runs, T, H, G, D;
    bool causal;
};

static const struct shape shapes[] = {
    {"llama 135M episode", 1, 1914, 9, 3, 64, true},
    {"long, 9 heads", 1, 2048, 9, 9, 64, true},
    {"long, full", 1, 2048, 4, 4, 64, false},
    {"vit-b/16, 9 images", 9, 197, 12, 12, 64, false},
    {"llama 7B heads", 1, 2048, 4, 4, 128, true},
    {"demo decoder", 4, 300, 2, 2, 48, true},
    {"demo vit", 64, 17, 4, 4, 32, false},
};

static double best_seconds(lcl_status (*op)(struct lcl_exec *, const struct lcl_attention_args *),
                           const struct lcl_attention_args *a, double budget)
{
    double best = 1e9, total = 0;
    for (int i = 0; i < 3 || total < budget; i++) {
        double start = now();
        if (op(NULL, a) != LCL_OK) {
            fprintf(stderr, "%s\n", lcl_error_message());
            exit(1);
        }
        double d = now() - start;
        total += d;
        if (d < best) best = d;
    }
    return best;
}

static void bench(const struct shape *s, lcl_dtype dtype, double budget)
{
    int64_t rows = s->runs * s->T, row = (s->H + 2 * s->G) * s->D;
    size_t bytes = lcl_dtype_bytes(dtype);
    char *qkv = calloc((size_t)(rows * row), bytes), *d_qkv = calloc((size_t)(rows * row), bytes);
    char *out = calloc((size_t)(rows * s->H * s->D), bytes),
         *d_out = calloc((size_t)(rows * s->H * s->D), bytes);
    float *lse = calloc((size_t)(rows * s->H), sizeof *lse);
    struct lcl_attn_run *runs = calloc((size_t)s->runs, sizeof *runs);
    if (!qkv || !d_qkv || !out || !d_out || !lse || !runs) exit(1);
    uint32_t state = 1;
    for (int64_t i = 0; i < rows * row; i++) {
        state = state * 1664525u + 1013904223u;
        float x = (float)(state >> 8) / (1 << 22) - 2.0f;
        if (dtype == LCL_F32)
            ((float *)(void *)qkv)[i] = x;
        else
            ((lcl_bf16 *)(void *)qkv)[i] = lcl_f32_to_bf16(x);
        if (i < rows * s->H * s->D)
            memcpy(d_out + (size_t)i * bytes, qkv + (size_t)i * bytes, bytes);
    }
    for (int32_t i = 0; i < s->runs; i++) {
        int32_t b = i * (int32_t)s->T, e = b + (int32_t)s->T;
        runs[i] = (struct lcl_attn_run){b, e, b, b, b, e, i};
    }
    size_t k = (size_t)(s->H * s->D) * bytes, v = k + (size_t)(s->G * s->D) * bytes;
    struct lcl_attention_args a = {
        s->runs, s->H, s->G,    s->D,    row, row, s->H * s->D, dtype, s->causal, 0.125f,
        runs,    qkv,  qkv + k, qkv + v, out, lse, d_out,       d_qkv, d_qkv + k, d_qkv + v};
    double fwd = best_seconds(LCL_CPU(attention_fwd), &a, budget);
    double bwd = best_seconds(LCL_CPU(attention_bwd), &a, budget);
    double pairs = s->causal ? (double)s->T * (double)(s->T + 1) / 2 : (double)s->T * (double)s->T;
    double flop = 1e-9 * pairs * 4 * (double)(s->runs * s->H * s->D);
    printf("%-20s %-4s fwd %8.3f ms %6.1f GFLOP/s   bwd %8.3f ms %6.1f GFLOP/s\n", s->what,
           dtype == LCL_F32 ? "f32" : "bf16", fwd * 1e3, flop / fwd, bwd * 1e3, 2.5 * flop / bwd);
    free(qkv), free(d_qkv), free(out), free(d_out), free(lse), free(runs);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double budget = argc > 2 ? atof(argv[2]) : 0.3;
    if (lcl_threads_start(threads) != LCL_OK) return 1;
    printf("%d threads, peak %.1f GFLOP/s a core\n", threads, peak());
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bench(&shapes[i], LCL_F32, budget);
        bench(&shapes[i], LCL_BF16, budget);
    }
    lcl_threads_stop();
    return 0;
}
