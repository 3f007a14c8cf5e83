/* What profile.c records and profile_write.c writes. */
#ifndef LCL_TRAIN_PROFILE_PARTS_H
#define LCL_TRAIN_PROFILE_PARTS_H

#include "train/profile.h"

/* An op's call, or a range. Seconds are lcl_time_s(). */
struct lcl_profile_event {
    const char *name; /* of a range; NULL: an op */
    int64_t number;   /* of a range; negative: none */
    enum lcl_op_half op;
    bool in_chunk;
    struct lcl_op_cost cost;
    double begin_s, end_s;
    int64_t mark; /* first of its two marks; -1: none */
    double device_begin_s, device_end_s;
};

struct lcl_profile_step {
    int64_t number;
    double begin_s, end_s, model_flops;
    double device_end_s; /* of its last op; 0: no such time */
    int64_t tokens;
};

struct lcl_profile_thread {
    struct lcl_profile_event *v;
    size_t n, cap, kept;
    size_t open[16]; /* ranges that have not ended */
    int depth;       /* of ranges; those past the array are not recorded */
    bool failed;     /* no memory */
};

struct lcl_profile {
    struct lcl_ops ops; /* first: exec's table leads here */
    const struct lcl_ops *real;
    struct lcl_exec *exec;
    int n_threads;
    struct lcl_profile_thread *thread;
    struct lcl_profile_step *step;
    size_t n_steps, steps_cap;
    bool in_step;
    int64_t marks; /* set in this step */
    struct lcl_profile_step now;
    lcl_status status; /* of the first mark that failed */
};

#endif
