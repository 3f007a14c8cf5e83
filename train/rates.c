#include "train/rates.h"

#include <math.h>
#include <stdio.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/threads.h"

enum { SIDE = 1024 };                              /* of the product */
static const size_t COPY_BYTES = (size_t)64 << 20; /* past the caches of most machines */
static const double PRODUCT_S = 0.3, COPY_S = 0.2;

lcl_status lcl_rates_shortest(struct lcl_exec *ex, lcl_status (*work)(void *), void *arg,
                              double least_s, double *seconds)
{
    double begin = lcl_time_s(), now = begin, best = INFINITY;
    for (int i = 0; i < 3 || now - begin < least_s; i++) {
        double start = now;
        LCL_TRY(work(arg));
        LCL_TRY(lcl_exec_sync(ex));
        now = lcl_time_s();
        if (i > 0) best = fmin(best, now - start);
    }
    *seconds = fmax(best, 1e-9);
    return LCL_OK;
}

struct trial {
    struct lcl_exec *exec;
    struct lcl_linear_args product;
    struct lcl_cast_args copy;
};

static lcl_status one_product(void *arg)
{
    struct trial *t = arg;
    return t->exec->ops->linear_fwd(t->exec, &t->product);
}

static lcl_status one_copy(void *arg)
{
    struct trial *t = arg;
    return t->exec->ops->cast_fwd(t->exec, &t->copy);
}

static lcl_status measure(struct lcl_exec *ex, struct lcl_arena *a, bool bf16, struct lcl_limits *l)
{
    const size_t square = (size_t)SIDE * SIDE;
    float *x = LCL_ARENA_NEW(a, float, 2 * square + COPY_BYTES / 4), *y = x + square;
    struct trial t = {.exec = ex};
    double seconds;
    LCL_TRY(ex->ops->zero_fwd(
        ex, &(struct lcl_zero_args){(int64_t)(8 * square + COPY_BYTES), x})); /* pages are there */
    for (int dtype = LCL_F32; dtype <= (bf16 ? LCL_BF16 : LCL_F32); dtype++) {
        t.product = (struct lcl_linear_args){.M = SIDE,
                                             .N = SIDE,
                                             .K = SIDE,
                                             .dtype = (lcl_dtype)dtype,
                                             .weight_dtype = (lcl_dtype)dtype,
                                             .x_MK = x,
                                             .weight_NK = x,
                                             .y_MN = y};
        LCL_TRY(lcl_rates_shortest(ex, one_product, &t, PRODUCT_S, &seconds));
        *(dtype == LCL_F32 ? &l->flops_f32 : &l->flops_bf16) = 2.0 * SIDE * SIDE * SIDE / seconds;
    }
    const int64_t half = (int64_t)(COPY_BYTES / 2 / sizeof(float));
    t.copy = (struct lcl_cast_args){half, LCL_F32, LCL_F32, x, x + half};
    LCL_TRY(lcl_rates_shortest(ex, one_copy, &t, COPY_S, &seconds));
    l->bytes = (double)COPY_BYTES / seconds;
    return LCL_OK;
}

lcl_status lcl_rates_measure(struct lcl_exec *ex, bool bf16, struct lcl_limits *l)
{
    struct lcl_arena arena;
    *l = (struct lcl_limits){0};
    LCL_TRY(lcl_arena_reserve(&arena, "measuring the machine's speed",
                              8 * (size_t)SIDE * SIDE + COPY_BYTES + LCL_ARENA_ALIGN));
    lcl_status status = measure(ex, &arena, bf16, l);
    lcl_arena_free(&arena);
    snprintf(l->source, sizeof l->source,
             "measured here, %d thread%s: a product of %dx%dx%d, a copy of %zu MiB",
             lcl_threads_count(), lcl_threads_count() == 1 ? "" : "s", SIDE, SIDE, SIDE,
             COPY_BYTES >> 21);
    return status;
}
