/* Lanes: the packed batches of a step. What a lane holds is a function of (config, stage, step,
 * lane) alone, so any number of threads or ranks trains on the same data. */
#ifndef LCL_TRAIN_LANE_H
#define LCL_TRAIN_LANE_H

#include "data/conversation.h"
#include "data/language.h"
#include "train/env.h"
#include "train/features.h"
#include "train/pictures.h"

/* What a stage draws its samples from. */
struct lcl_source {
    struct lcl_env *env;
    const struct lcl_config *config;
    uint32_t epoch;               /* keys the streams: the stage's number */
    struct lcl_samplers samplers; /* link-context */
    bool has_samplers;
    struct lcl_any_shot any_shot; /* link-context with data.strategy: any-shot */
    bool has_any_shot;
    struct lcl_mixture mixture; /* link-context with data.sources */
    bool has_mixture;
    struct lcl_conversation_rules rules;
    int64_t n_shortened, n_left_out; /* rows and any-shot conversations, since it was opened */
    struct lcl_language *language;   /* language */
    struct lcl_features *features;   /* of the frozen tower; NULL: the tower runs in the step */
    struct lcl_pictures *pictures;   /* where pixels are read */
    int32_t *order; /* vision: pictures of train classes, shuffled anew each pass */
    int64_t n_order, order_pass;
    bool warned_of_positions;
    int64_t *dealt; /* balance: [lcl_step_samples] of step dealt_step, by train/deal.h; or NULL */
    int64_t dealt_step; /* -1: samples go by their numbers */
};

struct lcl_lane {
    struct lcl_batch_builder *builder;
    const struct lcl_batch *batch; /* link-context and language */
    int64_t n_pictures;            /* vision */
    int64_t *picture;
    int32_t *view, *label;
    struct lcl_picture_buffer pictures; /* when the tower runs */
    float *features;                    /* gathered rows [n, row], when they are cached */
    size_t features_cap;
    struct lcl_images images; /* in either */
    double weight;            /* sum of the loss terms' weights */
    int64_t tokens, samples;
    /* results of the step, there after lcl_exec_sync() */
    double loss_sum;
    int32_t *argmax; /* of each supervised row, or picture */
    size_t argmax_cap;
    int64_t label_correct, label_total;
};

LCL_CHECKED lcl_status lcl_source_open(struct lcl_source *s, struct lcl_env *e,
                                       const struct lcl_config *c, uint32_t epoch,
                                       struct lcl_features *features,
                                       struct lcl_pictures *pictures);
/* After the table of lcl_env_training_neighbors has changed: samples are drawn from it from now on.
 * link-context alone; no lane may be filled meanwhile. */
LCL_CHECKED lcl_status lcl_source_renew_draws(struct lcl_source *s);
void lcl_source_close(struct lcl_source *s);
LCL_CHECKED lcl_status lcl_lane_create(struct lcl_lane *lane, const struct lcl_source *s);
void lcl_lane_free(struct lcl_lane *lane);
/* Draws and packs lane number `index` (of lanes * gradient_accumulation_steps) of step `step` of
 * n_steps. LCL_SHAPE, naming the sample, when nothing in the lane is supervised. */
LCL_CHECKED lcl_status lcl_lane_fill(struct lcl_lane *lane, struct lcl_source *s, int64_t step,
                                     int64_t n_steps, int64_t index);
/* Tokens of each sample that the lane has by number, [per_device_train_batch_size]; no picture is
 * read. Of link-context; what the lane holds is lost. */
LCL_CHECKED lcl_status lcl_lane_count(struct lcl_lane *lane, struct lcl_source *s, int64_t step,
                                      int64_t n_steps, int64_t index, int64_t *tokens);
/* Copies the cached feature rows of the lane's pictures (may run in a chunk). */
LCL_CHECKED lcl_status lcl_lane_gather(struct lcl_lane *lane, const struct lcl_source *s);

#endif
