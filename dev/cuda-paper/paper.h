/* What paper.c and cases.c share. */
#ifndef LCL_DEV_CUDA_PAPER_H
#define LCL_DEV_CUDA_PAPER_H

#include "core/ops.h"

enum {
    PAPER_FWD = 1,
    PAPER_BWD = 2,
    PAPER_BF16_ONLY = 4,
    PAPER_DIMS = 6,
    PAPER_HOST_ROWS = 1 << 16
};

/* The least that an op must move and compute. */
struct paper_cost {
    double bytes, flops;
    bool tensor; /* the FLOPs are products on tensor cores */
    double work; /* what the counters grow with; 0: as bytes do */
};

struct paper_call {
    struct lcl_exec *ex; /* NULL: the cost alone is wanted */
    const int64_t *n;
    lcl_dtype dtype;
    bool backward;
};

struct paper_op {
    const char *name, *folder;
    lcl_status (*op)(const struct paper_call *, struct paper_cost *);
    int halves;
    const char *size; /* of `real`, for a person; NULL: counters alone */
    int64_t real[PAPER_DIMS], run[PAPER_DIMS];
};

/* Tensors, with numbers in [-1, 1). */
void *paper_give(size_t count, lcl_dtype dtype);
void *paper_tensor(const struct paper_call *c, int64_t count);
float *paper_floats(int64_t count);
/* Of the host: 0, step, 2 step, ... below limit, again from 0 there. */
int32_t *paper_indices(int64_t count, int64_t step, int64_t limit);
/* Of an element. */
double paper_bytes(const struct paper_call *c);

/* Ops: run at c->n where ex is there, and say the least that they take. */
lcl_status paper_attention(const struct paper_call *c, struct paper_cost *cost);
lcl_status paper_attention_wgmma(const struct paper_call *c, struct paper_cost *cost);
lcl_status paper_decode(const struct paper_call *c, struct paper_cost *cost);
lcl_status paper_sample(const struct paper_call *c, struct paper_cost *cost);

extern const struct paper_op paper_ops[];
extern const int paper_n_ops;

#endif
