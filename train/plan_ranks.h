/* A stage on many ranks that are not here: memory a rank, bytes of each collective, what of them
 * the computation does not cover, time of a step; for each ZeRO stage. A model of the step's own
 * schedule (plan_schedule.h) and of data sheets, measured nowhere: lcl_plan_ranks_print() lists
 * what is assumed. */
#ifndef LCL_TRAIN_PLAN_RANKS_H
#define LCL_TRAIN_PLAN_RANKS_H

#include <jansson.h>

#include "train/plan_gpus.h"
#include "train/plan_schedule.h"

/* Between nodes. */
struct lcl_network {
    const char *name, *doc;
    double bytes; /* a second and direction, for each rank of a node of 8; 0: there is none */
};
/* LCL_CONFIG with the nearest name, or all, as the hint. */
LCL_CHECKED lcl_status lcl_network_named(const char *name, const struct lcl_network **out);

struct lcl_cluster {
    int64_t ranks;
    const struct lcl_gpu_kind *gpu; /* NULL: memory and bytes alone, no times */
    const struct lcl_network *network;
    double bucket_bytes; /* these two: of the stage's config */
    bool deterministic;
};
struct lcl_cluster lcl_cluster_of(const struct lcl_cluster *k, const struct lcl_config *c);
/* LCL_CONFIG: more ranks than a node has, and no network. */
LCL_CHECKED lcl_status lcl_cluster_check(const struct lcl_cluster *k);
/* What ops are counted at on such a GPU; NULL: nothing takes time. */
struct lcl_op_rates lcl_cluster_rates(const struct lcl_gpu_kind *gpu);

enum { LCL_ZERO_STAGES = 4 };

/* What a rank sends for one purpose in a step: bytes in the mean over ranks, messages' rounds. */
struct lcl_collective {
    double bytes, calls;
};

struct lcl_rank_plan {
    int zero;
    int64_t lanes, rank_lanes; /* of a step; of the busiest rank */
    /* bytes in memory of the rank that owns most */
    double parameters, gradients, moments, activations, buckets, others, total;
    struct lcl_collective reduce;       /* gradients to their owners */
    struct lcl_collective gather_grads; /* sums to all (zero 0) */
    struct lcl_collective gather;       /* values to all */
    /* seconds of a step; without a GPU 0 */
    double compute_s; /* lanes */
    double update_s;  /* norm and AdamW */
    double comm_s;    /* collectives, covered or not */
    double exposed_s; /* of which nothing covers */
    double step_s;
    double tokens_per_s;
    double efficiency; /* of ranks that exchange nothing and have the same number of lanes */
};
/* zero: 0..3. s: of the stage, on GPUs of k's kind; its shares become those of k's ranks. */
struct lcl_rank_plan lcl_plan_rank(const struct lcl_env *e, const struct lcl_config *c,
                                   const struct lcl_plan *p, struct lcl_schedule *s,
                                   const struct lcl_cluster *k, int zero);
/* All stages of one training stage, for people. */
void lcl_plan_ranks_print(const struct lcl_rank_plan *r, const struct lcl_cluster *k,
                          const struct lcl_config *c);
void lcl_plan_ranks_assumed(const struct lcl_cluster *k);
/* New; NULL without memory. */
json_t *lcl_plan_ranks_json(const struct lcl_rank_plan *r, const struct lcl_cluster *k,
                            const struct lcl_config *c);

/* Seconds of one collective in which each rank sends `bytes` but for its own part of them. */
double lcl_cluster_seconds(const struct lcl_cluster *k, double bytes);

#endif
