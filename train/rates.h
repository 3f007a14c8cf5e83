/* Speed measured on this machine. */
#ifndef LCL_TRAIN_RATES_H
#define LCL_TRAIN_RATES_H

#include "core/ops_cost.h"

/* The shortest of repeated trials, at least three and as long as least_s in all: other work on the
 * machine only makes them longer. The first, which warms up, does not count. */
LCL_CHECKED lcl_status lcl_rates_shortest(struct lcl_exec *ex, lcl_status (*work)(void *),
                                          void *arg, double least_s, double *seconds);
/* What ops reach at most: a square product in f32 (and bf16) and a copy, each over all threads. */
LCL_CHECKED lcl_status lcl_rates_measure(struct lcl_exec *ex, bool bf16, struct lcl_limits *l);

#endif
