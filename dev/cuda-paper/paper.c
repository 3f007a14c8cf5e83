/* The ops of cases.c, one at a time, for the emulator's counters; tools/cuda-paper.sh makes the
 * tables of dev/cuda-* from it.
 *   paper --list    the cases: name, folder, size, bytes, FLOPs, peak FLOP/s, bytes at the run's
 *                   size, what to multiply the run's counters with for the size
 *   paper NAME      runs one */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/threads.h"
#include "cuda/cuda.h"
#include "cuda/sim/sim.h"
#include "dev/cuda-paper/paper.h"

/* --- memory --- */

void *paper_give(size_t count, lcl_dtype dtype)
{
    const size_t bytes = (count ? count : 1) * lcl_dtype_bytes(dtype);
    void *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    uint32_t x = 12345;
    if (!p) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(1);
    }
    for (size_t i = 0; i < count; i++) {
        x = x * 1664525u + 1013904223u;
        const float value = (float)(x >> 8) * 0x1p-23f - 1.0f;
        if (dtype == LCL_F32)
            ((float *)p)[i] = value;
        else
            ((lcl_bf16 *)p)[i] = lcl_f32_to_bf16(value);
    }
    lcl_sim_register(p, bytes, false);
    return p;
}

void *paper_tensor(const struct paper_call *c, int64_t count)
{
    return paper_give((size_t)count, c->dtype);
}
float *paper_floats(int64_t count) { return paper_give((size_t)count, LCL_F32); }

/* Of the host: 0, step, 2 step, ... below limit, again from 0 there. */
int32_t *paper_indices(int64_t count, int64_t step, int64_t limit)
{
    static int32_t pool[4][PAPER_HOST_ROWS];
    static int used;
    int32_t *x = pool[used++ % 4];
    for (int64_t i = 0; i < count && i < PAPER_HOST_ROWS; i++) x[i] = (int32_t)(i * step % limit);
    return x;
}

double paper_bytes(const struct paper_call *c) { return (double)lcl_dtype_bytes(c->dtype); }

/* --- the cases --- */

/* FLOP/s of an H100 SXM: vector units in f32; tensor cores in bf16, and in f32 by three tf32
 * products. */
static const double vector = 67e12, tensor_bf16 = 989e12, tensor_f32 = 494e12 / 3;

static void name_of(char out[64], const struct paper_op *o, bool backward, lcl_dtype dtype)
{
    const char *width = strchr(o->name, ' ');
    const int stem = width ? (int)(width - o->name) : (int)strlen(o->name);
    snprintf(out, 64, "%.*s_%s%s %s", stem, o->name, backward ? "bwd" : "fwd", width ? width : "",
             lcl_dtype_name(dtype));
}

static void list(const struct paper_op *o, const char *name, struct paper_call c)
{
    struct paper_cost real = {0}, run = {0};
    c.n = o->run;
    if (o->op(&c, &run) != LCL_OK) return;
    c.n = o->real;
    if (o->size && o->op(&c, &real) != LCL_OK) return;
    const double peak = !real.tensor ? vector : c.dtype == LCL_BF16 ? tensor_bf16 : tensor_f32;
    const double grow = run.work > 0 ? real.work / run.work : real.bytes / run.bytes;
    printf("%s\t%s\t%s\t%.17g\t%.17g\t%.17g\t%.17g\t%.17g\n", name, o->folder,
           o->size ? o->size : "-", real.bytes, real.flops, peak, run.bytes, grow);
}

static int run(const struct paper_op *o, const char *name, struct paper_call c)
{
    struct lcl_exec ex = {0};
    struct paper_cost unused = {0};
    c.ex = &ex;
    c.n = o->run;
    if (lcl_threads_start(1) == LCL_OK && lcl_cuda_open(&ex, 0) == LCL_OK &&
        o->op(&c, &unused) == LCL_OK && lcl_exec_sync(&ex) == LCL_OK)
        return 0;
    fprintf(stderr, "%s: %s\n", name, lcl_error_message());
    return 1;
}

int main(int argc, char **argv)
{
    const bool all = argc == 2 && strcmp(argv[1], "--list") == 0;
    for (int i = 0; argc == 2 && i < paper_n_ops; i++)
        for (int k = 0; k < 4; k++) {
            const bool backward = k / 2;
            const struct paper_call c = {.dtype = k % 2 ? LCL_F32 : LCL_BF16, .backward = backward};
            char name[64];
            if (!(paper_ops[i].halves & (backward ? PAPER_BWD : PAPER_FWD))) continue;
            if (paper_ops[i].halves & PAPER_BF16_ONLY && c.dtype != LCL_BF16) continue;
            name_of(name, &paper_ops[i], backward, c.dtype);
            if (all)
                list(&paper_ops[i], name, c);
            else if (strcmp(argv[1], name) == 0)
                return run(&paper_ops[i], name, c);
        }
    if (all) return 0;
    fprintf(stderr, "usage: paper --list | NAME\n");
    return 2;
}
