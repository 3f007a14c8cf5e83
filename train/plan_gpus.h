/* A stage on 1 to many GPUs that are not here: a projection from its work and their data sheets. */
#ifndef LCL_TRAIN_PLAN_GPUS_H
#define LCL_TRAIN_PLAN_GPUS_H

#include "train/plan.h"

/* Dense rates of NVIDIA's data sheets. */
struct lcl_gpu_kind {
    const char *name;
    double memory_gib;
    double bf16, f32;     /* operations a second, bf16 with f32 sums; f32 outside tensor cores */
    double link_bytes;    /* a second and direction, between the GPUs of a node */
    double network_bytes; /* a second and direction and GPU, between nodes */
    double memory_bytes;  /* a second, to and from its memory */
};
enum { LCL_GPUS_A_NODE = 8 };
/* The kind of this name. LCL_CONFIG with the nearest one, or all, as the hint. */
LCL_CHECKED lcl_status lcl_gpu_kind(const char *name, const struct lcl_gpu_kind **out);
/* The shares of the data sheet's rates that are assumed: operations a second of products in bf16 or
 * f32, bytes a second of memory. */
double lcl_gpu_rate(const struct lcl_gpu_kind *k, bool bf16);
double lcl_gpu_memory_rate(const struct lcl_gpu_kind *k);

/* What is assumed, for people: lines that end with \n. */
extern const char lcl_projection_assumptions[];

struct lcl_projection {
    int64_t gpus;
    int64_t lanes; /* packed batches a step: those of the config, or one a GPU */
    double steps;  /* of the stage: fewer where a step has more lanes, the same samples in all */
    double compute_s, sums_s; /* a step: products; sums of gradients over the GPUs */
    double step_s;            /* with the part of sums_s that the backward does not cover */
    double tokens_per_s;
    double stage_s;
};
struct lcl_projection lcl_plan_project(const struct lcl_plan *p, const struct lcl_config *c,
                                       const struct lcl_gpu_kind *kind, int64_t gpus);

#endif
