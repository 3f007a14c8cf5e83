/* Which rank the others wait for. */
#ifndef LCL_TRAIN_PACE_H
#define LCL_TRAIN_PACE_H

#include "core/comm.h"

/* Seconds of a rank in the steps of an interval: at work, and waiting for other ranks. */
struct lcl_pace {
    double compute_s, wait_s;
};

/* Of all ranks: their medians, and the rank that computed longest. */
struct lcl_pace_summary {
    struct lcl_pace median;
    int slowest;
    double slowest_s;
    bool is_straggler; /* over 20 %, and over a tenth of a second, above the median */
};
/* pace_R [n], n >= 1; it is sorted. */
struct lcl_pace_summary lcl_pace_summarize(struct lcl_pace *pace_R, int n);
/* The same of what all ranks hand in; called by all. */
LCL_CHECKED lcl_status lcl_pace_gather(struct lcl_comm *c, const struct lcl_pace *mine,
                                       struct lcl_pace_summary *s);
/* Names a straggler, its host and its seconds in the log; else silent. */
void lcl_pace_tell(const struct lcl_comm *c, const struct lcl_pace_summary *s);

#endif
