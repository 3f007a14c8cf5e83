/* Speed of this machine at a stage's shapes, in a fraction of a second. */
#include <string.h>

#include "core/threads.h"
#include "train/plan.h"
#include "train/rates.h"
#include "train/step.h"

struct trial {
    struct lcl_exec *exec;
    struct lcl_linear_args args;
    bool in_chunks; /* one product a thread, as lanes run in parallel */
};

static lcl_status one_product(void *arg, int64_t i)
{
    struct trial *t = arg;
    struct lcl_linear_args a = t->args;
    size_t bytes = lcl_dtype_bytes(a.dtype);
    a.y_MN = (char *)a.y_MN + (size_t)i * (size_t)(a.M * a.N) * bytes;
    a.x_MK = (const char *)a.x_MK + (size_t)i * (size_t)(a.M * a.K) * bytes;
    return t->exec->ops->linear_fwd(t->exec, &a);
}

static lcl_status all_products(void *arg)
{
    struct trial *t = arg;
    return t->in_chunks ? lcl_parallel(lcl_threads_count(), one_product, t) : one_product(t, 0);
}

static lcl_status time_products(struct trial *t, double *flops_per_s)
{
    int64_t n = t->in_chunks ? lcl_threads_count() : 1;
    double seconds;
    LCL_TRY(lcl_rates_shortest(t->exec, all_products, t, 0.1, &seconds));
    *flops_per_s = 2.0 * (double)(t->args.M * t->args.N * t->args.K * n) / seconds;
    return LCL_OK;
}

/* Within one buffer that fits no cache. */
struct copy {
    struct lcl_exec *exec;
    float *buffer;
    size_t half;
};

static lcl_status copy_half(void *arg)
{
    struct copy *c = arg;
    if (c->exec->device)
        return c->exec->ops->cast_fwd(c->exec,
                                      &(struct lcl_cast_args){(int64_t)c->half, LCL_F32, LCL_F32,
                                                              c->buffer + c->half, c->buffer});
    memcpy(c->buffer, c->buffer + c->half, c->half * sizeof(float));
    return LCL_OK;
}

static lcl_status time_bytes(struct lcl_exec *ex, float *buffer, size_t size, double *bytes_per_s)
{
    struct copy c = {ex, buffer, size / 2 / sizeof(float)};
    double seconds;
    LCL_TRY(lcl_rates_shortest(ex, copy_half, &c, 0.05, &seconds));
    *bytes_per_s = (double)size / seconds;
    return LCL_OK;
}

lcl_status lcl_plan_measure(struct lcl_env *e, const struct lcl_config *c, const struct lcl_plan *p,
                            struct lcl_plan_rates *r)
{
    const struct lcl_model_config *m = &e->model.config;
    bool text = p->largest.with_text, parallel = lcl_step_layout(e, c).parallel;
    int64_t T = text ? p->largest.T : p->largest.images * lcl_vision_tokens(&m->vision);
    int64_t N = text ? 2 * m->text.F : m->vision.F, K = text ? m->text.C : m->vision.C;
    int64_t M = T > 1024 ? 1024 : T, copies = parallel ? lcl_threads_count() : 1;
    if (N > 4096) N = 4096;
    while (M > 64 && M * N * K > (int64_t)1 << 31) M /= 2;
    lcl_dtype dtype = lcl_model_dtype(&e->model);
    size_t bytes = lcl_dtype_bytes(dtype), moved = (size_t)64 << 20;
    struct lcl_arena arena;
    LCL_TRY(lcl_arena_reserve(&arena, "measuring the machine's speed",
                              (size_t)(copies * M * K + N * K + copies * M * N) * bytes + moved +
                                  4 * LCL_ARENA_ALIGN));
    struct trial t = {&e->exec,
                      {.M = M,
                       .N = N,
                       .K = K,
                       .dtype = dtype,
                       .weight_dtype = dtype,
                       .x_MK = lcl_arena_alloc(&arena, (size_t)(copies * M * K), bytes),
                       .weight_NK = lcl_arena_alloc(&arena, (size_t)(N * K), bytes),
                       .y_MN = lcl_arena_alloc(&arena, (size_t)(copies * M * N), bytes)},
                      parallel};
    float *buffer = lcl_arena_alloc(&arena, moved, 1);
    memset(buffer, 1, moved);
    lcl_status status = time_products(&t, &r->flops);
    if (status == LCL_OK) status = time_bytes(&e->exec, buffer, moved, &r->bytes);
    lcl_arena_free(&arena);
    return status;
}

double lcl_plan_step_seconds(const struct lcl_plan *p, const struct lcl_plan_rates *r)
{
    const double moves = 4; /* written and read by the forward, read and replaced by the backward */
    return p->flops / r->flops + moves * p->pass_bytes / r->bytes;
}
