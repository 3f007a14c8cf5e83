#include "train/pace.h"

#include <stdlib.h>

#include "core/log.h"

static int by_compute(const void *a, const void *b)
{
    double x = ((const struct lcl_pace *)a)->compute_s, y = ((const struct lcl_pace *)b)->compute_s;
    return (x > y) - (x < y);
}

static int by_wait(const void *a, const void *b)
{
    double x = ((const struct lcl_pace *)a)->wait_s, y = ((const struct lcl_pace *)b)->wait_s;
    return (x > y) - (x < y);
}

struct lcl_pace_summary lcl_pace_summarize(struct lcl_pace *pace_R, int n)
{
    struct lcl_pace_summary s = {0};
    const int low = (n - 1) / 2, high = n / 2;
    for (int r = 1; r < n; r++)
        if (pace_R[r].compute_s > pace_R[s.slowest].compute_s) s.slowest = r;
    s.slowest_s = pace_R[s.slowest].compute_s;
    qsort(pace_R, (size_t)n, sizeof *pace_R, by_wait);
    s.median.wait_s = (pace_R[low].wait_s + pace_R[high].wait_s) / 2;
    qsort(pace_R, (size_t)n, sizeof *pace_R, by_compute);
    s.median.compute_s = (pace_R[low].compute_s + pace_R[high].compute_s) / 2;
    s.is_straggler =
        s.slowest_s > 1.2 * s.median.compute_s && s.slowest_s - s.median.compute_s > 0.1;
    return s;
}

lcl_status lcl_pace_gather(struct lcl_comm *c, const struct lcl_pace *mine,
                           struct lcl_pace_summary *s)
{
    struct lcl_pace all[LCL_COMM_MOST];
    LCL_TRY(lcl_comm_all_gather(c, "seconds of ranks", mine, sizeof *mine, all));
    *s = lcl_pace_summarize(all, lcl_comm_size(c));
    return LCL_OK;
}

void lcl_pace_tell(const struct lcl_comm *c, const struct lcl_pace_summary *s)
{
    if (lcl_comm_size(c) == 1 || !s->is_straggler) return;
    lcl_log_info(
        "rank %d (%s) computes %.0f %% longer than the median of the ranks: %.2f s against "
        "%.2f s since the last line of metrics",
        s->slowest, c->host[s->slowest], 100 * (s->slowest_s / s->median.compute_s - 1),
        s->slowest_s, s->median.compute_s);
}
