/* What the GPU bench measures with, and what it notes down. */
#ifndef LCL_DEV_BENCH_GPU_BENCH_H
#define LCL_DEV_BENCH_GPU_BENCH_H

#include "core/arena.h"
#include "core/ops_cost.h"
#include "train/text.h"

enum { ROWS_MAX = 64, NAME_BYTES = 64, NOTE_BYTES = 200 };

/* A measured kernel, and what stands beside it. */
struct row {
    char name[NAME_BYTES], shape[NAME_BYTES];
    struct lcl_op_cost cost;
    double ms;
    char peer[NAME_BYTES]; /* "": none */
    double peer_ms;        /* 0: was not run: see note */
    double peer_work;      /* its FLOPs or bytes over ours, where it does another amount */
    char note[NOTE_BYTES];
};

struct bench {
    struct lcl_exec exec;
    struct lcl_limits limits;
    bool dry;    /* tiny shapes, few repetitions: it runs to its end, and its times say nothing */
    bool failed; /* something did: not only a peer that is missing */
    double deadline_s;
    int n_rows;
    struct row row[ROWS_MAX];
    struct lcl_text steps_md, steps_json; /* of whole steps */
};

/* One repetition; `copy` numbers the set of buffers to take. */
typedef lcl_status (*bench_run)(void *ctx, int copy);
/* The median of repetitions, in milliseconds of the device, after some to warm up. Sets of buffers
 * take turns, so that no input is still in the cache. */
LCL_CHECKED lcl_status bench_time(struct bench *b, bench_run run, void *ctx, int copies,
                                  double *ms);
static inline bool bench_time_is_up(const struct bench *b, double now_s)
{
    return now_s > b->deadline_s;
}

/* What fails is noted in its place, and the rest goes on: results of a GPU are not thrown away. */
/* kernels.c: every kernel that is measured alone. */
void bench_kernels(struct bench *b);
/* steps.c: whole training steps. */
void bench_steps(struct bench *b);

#endif
