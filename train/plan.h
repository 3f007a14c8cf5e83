/* What a stage takes before it runs: memory by arena from the layout code itself, work a step,
 * disk.
 *
 * The largest batch is known from a sample of the stage's own batches (drawn without opening a
 * picture), or bounded by the config where there is no pack: as many shots as it allows, labels of
 * the most letters. */
#ifndef LCL_TRAIN_PLAN_H
#define LCL_TRAIN_PLAN_H

#include "train/lane.h"

/* X(field, title, is_tensor): memory of a stage, in bytes. Tensors lie in the GPU's memory where
 * device: cuda; all else in the host's. */
#define LCL_PLAN_ARENAS(X)                              \
    X(parameters, "parameters", true)                   \
    X(gradients, "gradients", true)                     \
    X(moments, "AdamW moments", true)                   \
    X(activations, "activations", true)                 \
    X(evaluation, "evaluation, new neighbors", true)    \
    X(batches, "pictures of a step's batches", false)   \
    X(features, "cached features", false)               \
    X(pictures, "decoded pictures of the pack", false)  \
    X(snapshot, "snapshot of a checkpoint", false)      \
    X(program, "program, tokenizer and indices", false) \
    X(libraries, "libraries' kernels and scratch", false)

struct lcl_plan {
#define X(field, title, is_tensor) double field;
    LCL_PLAN_ARENAS(X)
#undef X
    double scratch;                         /* of a GPU's ops */
    double feature_tower, feature_pictures; /* while features are computed, before moments and
                                               activations are there; part of no sum */
    double total;                           /* of the host's memory, the most at once */
    double device;                          /* of the GPU's; 0: it computes on the CPU */
    int64_t n_parameters, n_trainable;
    int64_t drawn;                  /* batches drawn; 0: the config's bound */
    struct lcl_pass_limits largest; /* batch of a lane */
    double tokens, images, flops;   /* a step, in the mean */
    double model_flops;             /* of these, what is not computed once more */
    double pass_bytes;       /* activations written a step, in the mean: for the estimate of time */
    double refresh_flops;    /* of one table of data.refresh_neighbors, where pictures are known */
    double checkpoint, disk; /* bytes of a checkpoint; of all kept ones and the feature cache */
};

/* e: shaped or made model, and the pack where there is one; marks what trains in the stage. epoch:
 * the stage's number. batches: lanes to draw. */
LCL_CHECKED lcl_status lcl_plan_stage(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                                      int64_t batches, struct lcl_plan *p);
/* Hands batches that the stage draws to `look`, as lcl_plan_stage() draws them; of task: vision
 * NULL and a lane's number of pictures. */
LCL_CHECKED lcl_status
lcl_plan_look(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch, int64_t batches,
              lcl_status (*look)(void *ctx, const struct lcl_batch *b, int64_t images), void *ctx);
/* What libraries keep is so many bytes, as a trial of the stage has told; the total follows. */
void lcl_plan_set_libraries(struct lcl_plan *p, const struct lcl_config *c, double bytes);
/* The tower's features are computed once and kept: it runs in no step. */
bool lcl_plan_caches_features(const struct lcl_config *c);
/* Products of one step of the stage as the model asks for them, nothing that is computed twice, by
 * the batches that its n lanes hold: what MFU is made of. */
double lcl_plan_step_flops(struct lcl_env *e, const struct lcl_config *c,
                           const struct lcl_lane *lane, int64_t n);
/* LCL_MEMORY, naming the largest parts and the keys that make them smaller, when the plan is over
 * memory_limit_mib, or (where that is 0) over what the machine and its cgroup have free. resident:
 * bytes of this process that are part of the plan already. */
LCL_CHECKED lcl_status lcl_plan_fits(const struct lcl_plan *p, const struct lcl_config *c,
                                     double resident);
/* The same for a GPU's memory. unused: bytes; infinite where it is not known. resident: bytes there
 * that are part of the plan. */
LCL_CHECKED lcl_status lcl_plan_fits_device(const struct lcl_plan *p, const struct lcl_config *c,
                                            double unused, double resident);
/* Both, for a stage about to begin: milliseconds. Where memory suffices without the snapshot alone,
 * e->save_at_once is set, and said. */
LCL_CHECKED lcl_status lcl_plan_check(struct lcl_env *e, const struct lcl_config *c,
                                      uint32_t epoch);
/* The parameters alone, before any memory is reserved for them. */
LCL_CHECKED lcl_status lcl_plan_check_values(const struct lcl_env *e, const struct lcl_config *c);

/* Bytes that this process may still take: MemAvailable, or less where a cgroup says so. Infinite
 * where nothing is known. */
double lcl_plan_free_bytes(void);
double lcl_plan_resident_bytes(void);

/* Speed of this machine, measured in about 0.2 s: products of the stage's shapes in floating-point
 * operations a second, and bytes a second of an element-wise pass over memory. */
struct lcl_plan_rates {
    double flops, bytes;
};
LCL_CHECKED lcl_status lcl_plan_measure(struct lcl_env *e, const struct lcl_config *c,
                                        const struct lcl_plan *p, struct lcl_plan_rates *r);
/* Seconds a step: products at their rate, and each activation byte moved as often as forward and
 * backward do. */
double lcl_plan_step_seconds(const struct lcl_plan *p, const struct lcl_plan_rates *r);

#endif
