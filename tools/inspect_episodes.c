/* Episodes as training draws them, for people and for checks of their distributions. */
#include "tools/inspect_episodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "data/episode.h"
#include "train/env.h"

/* Slots of a picture in the text: by the model that the run begins with, or by the config's shapes.
 */
static lcl_status tokens_per_image(const struct lcl_config *c, const struct lcl_tokenizer *t,
                                   int64_t *n)
{
    struct lcl_model_config m;
    bool joined = c->init_vision_from[0];
    const char *from = joined ? c->init_vision_from : c->init_from;
    bool vision = joined || strstr(c->init_parts, "all") || strstr(c->init_parts, "vision");
    lcl_model_config_from(c, lcl_tokenizer_vocab_size(t), &m);
    enum lcl_image_pool_kind pool = m.pool;
    if (from[0] && vision && lcl_checkpoint_is_folder(from)) {
        char path[LCL_CHECKPOINT_PATH_BYTES];
        LCL_TRY(lcl_checkpoint_find(from, path, sizeof path));
        LCL_TRY(lcl_checkpoint_load_config(path, &m));
    } else if (from[0] && vision && lcl_hf_is_folder(from)) {
        struct lcl_model_config folder;
        LCL_TRY(lcl_hf_load_config(from, &folder));
        if (lcl_hf_is_tower_folder(from))
            m.vision = folder.vision;
        else
            m = folder;
    }
    if (joined) m.pool = pool;
    *n = lcl_tokens_per_image(&m);
    return LCL_OK;
}

static lcl_status print_text(struct lcl_batch_builder *b, const struct lcl_sampler *s,
                             const struct lcl_episode *e)
{
    char *text;
    LCL_TRY(lcl_episode_text(b, e, &text));
    printf("episode %llu: %d shots,", (unsigned long long)e->sample, e->n_shots);
    for (int w = 0; w < e->n_ways; w++)
        printf(" %s = \"%s\"%s", s->pack->classes[e->class_id[w]].id, e->label[w],
               w + 1 < e->n_ways ? "," : "");
    if (e->neighbor_rank) printf(", neighbor rank %d", (int)e->neighbor_rank);
    printf("\n%s\n\n", text);
    free(text);
    return LCL_OK;
}

static lcl_status print_one(struct lcl_batch_builder *b, const struct lcl_sampler *s,
                            uint64_t sample, double progress, bool json)
{
    struct lcl_episode e;
    char *line = NULL;
    LCL_TRY(lcl_sampler_draw(s, 0, sample, progress, &e));
    lcl_status status = json ? lcl_episode_json(b, s, &e, &line) : print_text(b, s, &e);
    if (status == LCL_OK && json) puts(line);
    free(line);
    lcl_episode_free(&e);
    return status;
}

lcl_status inspect_episodes(const struct lcl_config *config, int64_t n, bool json)
{
    struct lcl_env env = {0};
    struct lcl_sampler sampler = {0};
    struct lcl_batch_builder *builder = NULL;
    int64_t slots = 0;
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_open_data(&env, config));
    LCL_TRY_GOTO(lcl_tokenizer_for_config(config, &env.tokenizer));
    LCL_TRY_GOTO(tokens_per_image(config, env.tokenizer, &slots));
    LCL_TRY_GOTO(lcl_batch_builder_for(config, env.tokenizer, slots, &builder));
    LCL_TRY_GOTO(lcl_sampler_init(&sampler, config, &env.pack,
                                  env.has_neighbors ? &env.neighbors : NULL, LCL_SPLIT_TRAIN));
    int64_t a_step =
        config->lanes * config->per_device_train_batch_size * config->gradient_accumulation_steps;
    double total = (double)a_step * (double)config->max_steps;
    for (int64_t i = 0; i < n; i++) {
        double progress = total > 1 ? (double)i / total : 0;
        LCL_TRY_GOTO(print_one(builder, &sampler, (uint64_t)i, progress < 1 ? progress : 1, json));
    }
    if (fflush(stdout) != 0) status = LCL_FAIL(LCL_IO, "cannot write to standard output");
out:
    lcl_sampler_free(&sampler);
    lcl_batch_builder_free(builder);
    lcl_env_close(&env);
    return status;
}
