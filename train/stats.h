/* Intervals for accuracies: a bootstrap over classes, as episodes of one class are not independent.
 */
#ifndef LCL_TRAIN_STATS_H
#define LCL_TRAIN_STATS_H

#include "core/status.h"

enum { LCL_BOOTSTRAP_RESAMPLES = 2000 };

struct lcl_interval {
    double mean, low, high; /* low, high: 2.5 and 97.5 % percentiles */
};

/* Cluster bootstrap (Efron and Tibshirani 1993, ch. 8): classes are drawn with replacement, each
 * with all of its episodes; percentile interval of the mean of `correct`. correct_N: 0 or 1 an
 * episode; class_N: the class it is counted to (any numbers). Where all episodes are of one class
 * the episodes are drawn instead. A pure function of its arguments; streams (seed,
 * LCL_RNG_BOOTSTRAP, 0, resample). LCL_RANGE when n is 0 or a flag is neither 0 nor 1. */
LCL_CHECKED lcl_status lcl_stats_bootstrap(const uint8_t *correct_N, const int32_t *class_N,
                                           int64_t n, uint64_t seed, struct lcl_interval *out);
/* The same of points: sum_N of count_N > 0 that an item could have. */
LCL_CHECKED lcl_status lcl_stats_bootstrap_points(const double *sum_N, const double *count_N,
                                                  const int32_t *class_N, int64_t n, uint64_t seed,
                                                  struct lcl_interval *out);

/* The share of flags that are set, of those whose mask is `wanted` (mask NULL: of all); NaN of
 * none. */
double lcl_stats_share(const uint8_t *flag_N, const uint8_t *mask_N, uint8_t wanted, int64_t n);

#endif
