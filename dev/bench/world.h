/* What a case works on, made from constants: classes, pictures' features, a model. */
#ifndef LCL_DEV_BENCH_WORLD_H
#define LCL_DEV_BENCH_WORLD_H

#include "train/step.h"

enum { WORLD_CLASSES = 168, WORLD_TRAIN = 136, WORLD_IMAGES = 24, LARGE_VOCABULARY = 49152 };

struct world {
    struct lcl_run_config run;
    struct lcl_config config;
    struct lcl_env env;
    struct lcl_features features;
    int32_t *images;
};

/* Config (a stage of a file), threads, backend, a pack and a neighbor table in memory, a tokenizer;
 * overrides as lcl_config_load. */
LCL_CHECKED lcl_status world_open(struct world *w, const char *config, int64_t stage,
                                  const char *const *overrides, int n);
/* The model's table without arrays, for plans; vocabulary 0: the tokenizer's. */
LCL_CHECKED lcl_status world_shape(struct world *w, int64_t vocabulary, bool bf16);
/* The same and its arrays. Values are not set. */
LCL_CHECKED lcl_status world_model(struct world *w, int64_t vocabulary, bool bf16, bool training);
/* Random features of every picture. */
LCL_CHECKED lcl_status world_features(struct world *w);
void world_close(struct world *w);

/* All of a training step but the draw: one episode forth and back through tower (with
 * cache_features its features are given), projector and decoder, clipping, AdamW. Gradients are
 * reserved here. */
struct world_step {
    struct lcl_batch_builder *builder;
    const struct lcl_batch *batch;
    struct lcl_pass pass;
    struct lcl_optimizer optimizer;
    float *pixels; /* or features */
    int64_t n_pixels, done;
    double loss;
};
LCL_CHECKED lcl_status world_step_open(struct world *w, struct world_step *s);
LCL_CHECKED lcl_status world_step_run(struct world *w, struct world_step *s);
void world_step_close(struct world_step *s);

/* n normal values of a stream. */
void world_normals(float *x, int64_t n, uint64_t sample);
/* The model's table on disk: DIR/params.json and DIR/params.f32. */
LCL_CHECKED lcl_status world_write_params(const struct world *w, const char *dir);
LCL_CHECKED lcl_status world_read_params(struct world *w, const char *dir);
/* A batch on disk: int64 T, n_runs, n_images, n_slots, S, then its arrays. */
LCL_CHECKED lcl_status world_write_batch(const struct lcl_batch *b, const char *dir,
                                         const char *name);
LCL_CHECKED lcl_status world_write(const char *dir, const char *name, const void *data,
                                   size_t bytes);

#endif
