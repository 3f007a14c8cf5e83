/* Where the time of steps goes, by op and shape: a table of ops that times those of another.
 *
 * While a profile is open its table stands in exec's place; closed, nothing of it is left there. On
 * a GPU an op's time is the device's own, between two events of its stream; on the CPU that of the
 * call. Ops called in chunks (one lane a thread) run side by side: their seconds are divided by the
 * number of such threads, so that all ops together are at most the step's time on the wall. */
#ifndef LCL_TRAIN_PROFILE_H
#define LCL_TRAIN_PROFILE_H

#include "core/ops_cost.h"
#include "train/text.h"

struct lcl_profile;

/* ex is borrowed until the close. */
LCL_CHECKED lcl_status lcl_profile_open(struct lcl_profile **out, struct lcl_exec *ex);
void lcl_profile_close(struct lcl_profile *p); /* NULL is fine */

/* A step: waits for the device before and after it. What is not kept (warming up) leaves no trace.
 * model_flops: of the products that the model asks for, for MFU; 0: not known. */
LCL_CHECKED lcl_status lcl_profile_step_begin(struct lcl_profile *p, int64_t number);
LCL_CHECKED lcl_status lcl_profile_step_end(struct lcl_profile *p, bool keep, double model_flops,
                                            int64_t tokens);
/* A range of the calling thread, inside of a step; ranges nest. name is a literal, number follows
 * it where it is not negative. With p NULL, or outside of a step, nothing. */
void lcl_profile_begin(struct lcl_profile *p, const char *name, int64_t number);
void lcl_profile_end(struct lcl_profile *p);

/* What the device can do at most: by its maker, or measured here (about a second). */
LCL_CHECKED lcl_status lcl_profile_limits(struct lcl_exec *ex, bool bf16,
                                          struct lcl_limits *limits);

/* One op, direction, dtype and shape, over the steps kept. */
struct lcl_profile_row {
    enum lcl_op_half op;
    lcl_dtype dtype;
    int64_t dims[LCL_OP_DIMS];
    int64_t calls, rows, least_rows, most_rows; /* rows: their sum over the calls */
    double seconds, flops, bytes;               /* seconds: of the wall */
};
struct lcl_profile_sum {
    int64_t steps;
    double wall_s, ops_s, model_flops; /* sums over the steps */
    int64_t tokens;
    int threads;     /* that ran ops side by side; 1: none did */
    lcl_dtype dtype; /* of most products */
    size_t n;
    struct lcl_profile_row *row; /* [n], most seconds first */
};
LCL_CHECKED lcl_status lcl_profile_sum(const struct lcl_profile *p, struct lcl_profile_sum *out);
void lcl_profile_sum_free(struct lcl_profile_sum *s);

/* The table, 100 columns wide at most; most_rows > 0: the rest of the rows as one. */
void lcl_profile_table(const struct lcl_profile_sum *s, const struct lcl_limits *limits,
                       size_t most_rows, struct lcl_text *out);
/* DIR/trace.json (Chrome's trace events, for Perfetto), DIR/ops.txt, DIR/ops.json. Makes DIR. */
LCL_CHECKED lcl_status lcl_profile_write(const struct lcl_profile *p,
                                         const struct lcl_profile_sum *s,
                                         const struct lcl_limits *limits, const char *dir);

#endif
