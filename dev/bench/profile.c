#include "dev/bench/profile.h"

#include <stdlib.h>

#include "core/log.h"
#include "core/threads.h"

enum { MOST_THREADS = 256 };
#define DIFF(op) OP_##op##_fwd, OP_##op##_bwd,
#define FWD(op) OP_##op##_fwd,
enum { LCL_OPS(DIFF, FWD) OP_COUNT };
#undef DIFF
#undef FWD

static const char *const name[] = {
#define DIFF(op) #op "_fwd", #op "_bwd",
#define FWD(op) #op "_fwd",
    LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
};

static const struct lcl_ops *real;
static struct {
    double seconds[OP_COUNT];
    long calls[OP_COUNT];
} used[MOST_THREADS];

static void count(int op, double seconds)
{
    int t = lcl_thread_index() % MOST_THREADS;
    used[t].seconds[op] += seconds;
    used[t].calls[op]++;
}

#define TIMED(op, way)                                                                 \
    static lcl_status op##_##way(struct lcl_exec *ex, const struct lcl_##op##_args *a) \
    {                                                                                  \
        double begin = lcl_time_s();                                                   \
        lcl_status status = real->op##_##way(ex, a);                                   \
        count(OP_##op##_##way, lcl_time_s() - begin);                                  \
        return status;                                                                 \
    }
#define DIFF(op) TIMED(op, fwd) TIMED(op, bwd)
#define FWD(op) TIMED(op, fwd)
LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD

const struct lcl_ops *profile_wrap(const struct lcl_ops *ops)
{
    static struct lcl_ops timed;
    real = ops;
    timed = (struct lcl_ops){.backend = ops->backend,
#define DIFF(op) .op##_fwd = op##_fwd, .op##_bwd = op##_bwd,
#define FWD(op) .op##_fwd = op##_fwd,
                             LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    };
    return &timed;
}

void profile_print(FILE *out, double total_s)
{
    double sum = 0;
    for (int op = 0; op < OP_COUNT; op++) {
        double seconds = 0;
        long calls = 0;
        for (int t = 0; t < MOST_THREADS; t++) {
            seconds += used[t].seconds[op];
            calls += used[t].calls[op];
        }
        sum += seconds;
        if (calls)
            fprintf(out, "%-18s %8ld calls %9.3f s %5.1f %%\n", name[op], calls, seconds,
                    100 * seconds / total_s);
    }
    fprintf(out, "%-18s %24.3f s of %.3f s\n", "all ops", sum, total_s);
}
