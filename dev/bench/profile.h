/* Seconds by op: a table of ops that times those of another. */
#ifndef LCL_DEV_BENCH_PROFILE_H
#define LCL_DEV_BENCH_PROFILE_H

#include <stdio.h>

#include "core/ops.h"

/* The timing table; ops called inside a chunk count the thread that called. */
const struct lcl_ops *profile_wrap(const struct lcl_ops *ops);
void profile_print(FILE *out, double total_s);

#endif
