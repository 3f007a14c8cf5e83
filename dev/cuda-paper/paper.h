/* What paper.c and cases.c share. */
#ifndef LCL_DEV_CUDA_PAPER_H
#define LCL_DEV_CUDA_PAPER_H

#include "core/ops.h"

enum { PAPER_FWD = 1, PAPER_BWD = 2, PAPER_DIMS = 6 };

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

extern const struct paper_op paper_ops[];
extern const int paper_n_ops;

#endif
