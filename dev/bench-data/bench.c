/* The sampler as training runs it: `bench CONFIG THREADS` draws episodes, decodes, pads, resizes
 * and normalises their pictures and tokenises their texts, a lane of them at a time.
 *
 * A worker: prints a JSON line when it is ready, then for each line "N" on its input makes N more
 * episodes and prints how long that took. Nothing is kept from one round to the next. */
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/threads.h"
#include "train/env.h"
#include "train/pictures.h"

enum { TOKENS_PER_IMAGE = 256, SIDE = 224 };

struct bench {
    struct lcl_env env;
    struct lcl_run_config run;
    const struct lcl_config *c;
    struct lcl_sampler sampler;
    struct lcl_batch_builder *builder;
    struct lcl_pictures pictures;
    struct lcl_picture_buffer buffer;
    uint64_t sample;
    int64_t tokens, n_pictures;
    double sum; /* of all pixels: they were made */
};

static lcl_status open_all(struct bench *b, const char *config, int threads)
{
    struct lcl_preprocess p;
    LCL_TRY(lcl_config_load(config, NULL, 0, &b->run));
    b->c = &b->run.stages[0];
    LCL_TRY(lcl_threads_start(threads));
    LCL_TRY(lcl_env_open_data(&b->env, b->c));
    LCL_TRY(lcl_tokenizer_for_config(b->c, &b->env.tokenizer));
    LCL_TRY(lcl_batch_builder_for(b->c, b->env.tokenizer, TOKENS_PER_IMAGE, &b->builder));
    LCL_TRY(lcl_sampler_init(&b->sampler, b->c, &b->env.pack,
                             b->env.has_neighbors ? &b->env.neighbors : NULL, LCL_SPLIT_TRAIN));
    lcl_preprocess_defaults(&p, SIDE);
    p.mode = LCL_RESIZE_PAD;
    LCL_TRY(lcl_parse_background(b->c->data_background, p.background));
    lcl_pictures_on_demand(&b->pictures, &b->env.pack, &p, b->c);
    return LCL_OK;
}

/* A lane: what lcl_lane_fill does for a link-context stage. */
static lcl_status fill(struct bench *b, int64_t n)
{
    struct lcl_images images = {0};
    lcl_batch_builder_reset(b->builder);
    for (int64_t i = 0; i < n; i++) {
        struct lcl_episode e = {0};
        LCL_TRY(lcl_sampler_draw(&b->sampler, 0, b->sample++, 0, &e));
        lcl_status status =
            lcl_batch_append_episode(b->builder, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0);
        lcl_episode_free(&e);
        LCL_TRY(status);
    }
    const struct lcl_batch *m = lcl_batch_builder_get(b->builder);
    LCL_TRY(
        lcl_pictures_batch(&b->pictures, m->image_I, m->view_I, m->n_images, &b->buffer, &images));
    for (int64_t i = 0; i < m->n_images; i++)
        b->sum += (double)images.pixels[i * 3 * SIDE * SIDE + SIDE * SIDE / 2];
    b->tokens += m->T;
    b->n_pictures += m->n_images;
    return LCL_OK;
}

static lcl_status serve(struct bench *b)
{
    char line[64];
    printf("{\"ready\": true}\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int64_t n = strtoll(line, NULL, 10), lane = b->c->per_device_train_batch_size;
        double begin = lcl_time_s();
        b->tokens = b->n_pictures = 0;
        for (int64_t done = 0; done < n; done += lane)
            LCL_TRY(fill(b, n - done < lane ? n - done : lane));
        printf("{\"seconds\": %.6f, \"tokens\": %lld, \"pictures\": %lld, \"sum\": %.3f}\n",
               lcl_time_s() - begin, (long long)b->tokens, (long long)b->n_pictures, b->sum);
        fflush(stdout);
    }
    return LCL_OK;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc != 3) {
        fprintf(stderr, "usage: bench CONFIG THREADS\n");
        return 2;
    }
    lcl_status status = open_all(&b, argv[1], atoi(argv[2]));
    if (status == LCL_OK) status = serve(&b);
    if (status != LCL_OK) fprintf(stderr, "error: %s\n", lcl_error_message());
    lcl_picture_buffer_free(&b.buffer);
    lcl_pictures_close(&b.pictures);
    lcl_batch_builder_free(b.builder);
    lcl_sampler_free(&b.sampler);
    lcl_env_close(&b.env);
    return status == LCL_OK ? 0 : 1;
}
