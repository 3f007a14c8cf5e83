#include "train/stats.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

struct cluster {
    int32_t id;
    double correct, count;
};

static int by_id(const void *a, const void *b)
{
    int32_t x = ((const struct cluster *)a)->id, y = ((const struct cluster *)b)->id;
    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Joins episodes of one class in place; returns the number of clusters. One class only: left as
 * single episodes. */
static int64_t merge(struct cluster *c, int64_t n)
{
    qsort(c, (size_t)n, sizeof *c, by_id);
    if (c[0].id == c[n - 1].id) return n;
    int64_t m = 0;
    for (int64_t i = 1; i < n; i++) {
        if (c[i].id == c[m].id) {
            c[m].correct += c[i].correct;
            c[m].count += c[i].count;
        } else {
            c[++m] = c[i];
        }
    }
    return m + 1;
}

/* Linear interpolation between order statistics of sorted x. */
static double percentile(const double *x, int n, double share)
{
    double at = share * (n - 1);
    int i = (int)floor(at);
    return i + 1 < n ? x[i] + (at - i) * (x[i + 1] - x[i]) : x[n - 1];
}

/* Takes clusters of single episodes. */
static lcl_status bootstrap(struct cluster *clusters, int64_t n, uint64_t seed,
                            struct lcl_interval *out)
{
    static const int R = LCL_BOOTSTRAP_RESAMPLES;
    double *means = calloc((size_t)R, sizeof *means), right = 0, all = 0;
    if (!means) return LCL_FAIL(LCL_MEMORY, "no memory for a bootstrap of %lld", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        right += clusters[i].correct;
        all += clusters[i].count;
    }
    int64_t C = merge(clusters, n);
    for (int r = 0; r < R; r++) {
        struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_BOOTSTRAP, 0, (uint64_t)r);
        double correct = 0, count = 0;
        for (int64_t k = 0; k < C; k++) {
            const struct cluster *c = &clusters[lcl_rng_below(&rng, (uint32_t)C)];
            correct += c->correct;
            count += c->count;
        }
        means[r] = correct / count;
    }
    qsort(means, (size_t)R, sizeof *means, by_value);
    *out = (struct lcl_interval){right / all, percentile(means, R, 0.025),
                                 percentile(means, R, 0.975)};
    free(means);
    return LCL_OK;
}

static lcl_status make_clusters(int64_t n, struct cluster **clusters)
{
    *clusters = NULL;
    if (n < 1 || n > INT32_MAX)
        return LCL_FAIL(LCL_RANGE, "bootstrap of %lld episodes, wanted 1..%d", (long long)n,
                        INT32_MAX);
    *clusters = calloc((size_t)n, sizeof **clusters);
    return *clusters ? LCL_OK
                     : LCL_FAIL(LCL_MEMORY, "out of memory for a bootstrap of %lld episodes",
                                (long long)n);
}

lcl_status lcl_stats_bootstrap(const uint8_t *correct_N, const int32_t *class_N, int64_t n,
                               uint64_t seed, struct lcl_interval *out)
{
    struct cluster *clusters;
    lcl_status status;
    LCL_TRY(make_clusters(n, &clusters));
    for (int64_t i = 0; i < n; i++) {
        if (correct_N[i] > 1) {
            status = LCL_FAIL(LCL_RANGE, "flag %d of episode %lld is neither 0 nor 1", correct_N[i],
                              (long long)i);
            goto out;
        }
        clusters[i] = (struct cluster){class_N[i], correct_N[i], 1};
    }
    status = bootstrap(clusters, n, seed, out);
out:
    free(clusters);
    return status;
}

lcl_status lcl_stats_bootstrap_points(const double *sum_N, const double *count_N,
                                      const int32_t *class_N, int64_t n, uint64_t seed,
                                      struct lcl_interval *out)
{
    struct cluster *clusters;
    LCL_TRY(make_clusters(n, &clusters));
    for (int64_t i = 0; i < n; i++)
        clusters[i] = (struct cluster){class_N[i], sum_N[i], count_N[i]};
    lcl_status status = bootstrap(clusters, n, seed, out);
    free(clusters);
    return status;
}

double lcl_stats_share(const uint8_t *flag_N, const uint8_t *mask_N, uint8_t wanted, int64_t n)
{
    int64_t hit = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (mask_N && mask_N[i] != wanted) continue;
        total++;
        hit += flag_N[i];
    }
    return total ? (double)hit / (double)total : NAN;
}
