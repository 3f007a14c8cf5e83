/* A small link-context stage on a pack in memory, for plans. */
#ifndef LCL_TESTS_SMALL_STAGE_H
#define LCL_TESTS_SMALL_STAGE_H

#include "tests/data/fake_pack.h"

#include "train/env.h"

static inline void small_stage_set(struct lcl_config *c, const char *key, const char *value)
{
    ASSERT_OK(lcl_config_set(c, key, value, "test"));
}

/* The backend is started; the model has no shape yet. small_stage_close() ends it. */
static inline void small_stage_open(struct fake *f, struct lcl_env *e)
{
    static const char *const keys[][2] = {{"vision.image_size", "16"},
                                          {"vision.patch_size", "8"},
                                          {"vision.hidden_size", "16"},
                                          {"vision.intermediate_size", "32"},
                                          {"vision.num_hidden_layers", "1"},
                                          {"vision.num_attention_heads", "2"},
                                          {"mm_vision_select_layer", "-1"},
                                          {"text.hidden_size", "32"},
                                          {"text.intermediate_size", "64"},
                                          {"text.num_hidden_layers", "3"},
                                          {"text.num_attention_heads", "2"},
                                          {"max_steps", "4"},
                                          {"lanes", "2"},
                                          {"per_device_train_batch_size", "2"},
                                          {"data.strategy", "2-way-random"},
                                          {"data.shots", "8"}};
    fake_make(f, 6, 4, 9);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        small_stage_set(&f->config, keys[i][0], keys[i][1]);
    *e = (struct lcl_env){.pack = f->pack, .neighbors = f->neighbors, .has_neighbors = true};
    ASSERT_OK(lcl_env_start(e, &f->config));
    e->has_pack = true;
}

static inline void small_stage_close(struct fake *f, struct lcl_env *e)
{
    e->has_pack = e->has_neighbors = false; /* they are the fake's */
    lcl_env_close(e);
    fake_free(f);
}

#endif
