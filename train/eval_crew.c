#include "train/eval_crew.h"

#include <stdlib.h>

#include "train/stop.h"

static lcl_status open_workers(struct lcl_eval_crew *w, struct lcl_env *e,
                               const struct lcl_config *c)
{
    const int n = w->cached && lcl_env_lanes_in_parallel(e, 8) ? lcl_threads_count() : 1;
    w->worker = calloc((size_t)n, sizeof *w->worker);
    if (!w->worker) return LCL_FAIL(LCL_MEMORY, "no memory for an evaluation");
    w->n = n;
    for (int i = 0; i < n; i++) {
        struct lcl_eval_worker *one = &w->worker[i];
        one->pass = (struct lcl_pass){.exec = &e->exec, .model = &e->model};
        lcl_generator_init(&one->generator, &e->exec, &e->model);
        LCL_TRY(lcl_batch_builder_for(c, e->tokenizer, lcl_tokens_per_image(&e->model.config),
                                      &one->builder));
    }
    return LCL_OK;
}

lcl_status lcl_eval_crew_open(struct lcl_eval_crew *w, struct lcl_env *e,
                              const struct lcl_config *c, const struct lcl_features *cached)
{
    *w = (struct lcl_eval_crew){.cached = cached};
    LCL_TRY(open_workers(w, e, c));
    return cached ? LCL_OK : lcl_pictures_open(&w->pictures, &e->pack, &e->preprocess, c);
}

void lcl_eval_crew_close(struct lcl_eval_crew *w)
{
    for (int i = 0; i < w->n; i++) {
        struct lcl_eval_worker *one = &w->worker[i];
        if (one->builder) lcl_batch_builder_free(one->builder);
        lcl_pass_free(&one->pass);
        lcl_generator_free(&one->generator);
        lcl_picture_buffer_free(&one->pictures);
        free(one->features);
    }
    free(w->worker);
    lcl_pictures_close(&w->pictures);
    *w = (struct lcl_eval_crew){0};
}

lcl_status lcl_eval_crew_run(const struct lcl_eval_crew *w, int64_t n_items, lcl_chunk_fn work,
                             void *ctx)
{
    if (w->n > 1) return lcl_parallel(n_items, work, ctx);
    for (int64_t i = 0; i < n_items; i++) LCL_TRY(work(ctx, i));
    return LCL_OK;
}

lcl_status lcl_eval_crew_mine(const struct lcl_eval_crew *w, struct lcl_eval_worker **mine)
{
    if (lcl_stop_signal)
        return LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d", (int)lcl_stop_signal);
    *mine = &w->worker[w->n > 1 ? lcl_thread_index() : 0];
    return LCL_OK;
}

lcl_status lcl_eval_crew_fetch(struct lcl_eval_crew *w, struct lcl_eval_worker *mine,
                               const struct lcl_batch *b, struct lcl_images *images)
{
    *images = (struct lcl_images){0};
    if (!w->cached)
        return lcl_pictures_batch(&w->pictures, b->image_I, b->view_I, b->n_images, &mine->pictures,
                                  images);
    LCL_TRY(lcl_features_gather(w->cached, b, &mine->features, &mine->features_cap));
    images->features = mine->features;
    return LCL_OK;
}

lcl_status lcl_eval_open_views(const struct lcl_eval_request *q, struct lcl_eval_outcome *o)
{
    o->views = calloc((size_t)(q->n_views ? q->n_views : 1), sizeof *o->views);
    if (!o->views)
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld episodes", (long long)q->n_views);
    o->n_views = q->n_views < q->episodes ? q->n_views : q->episodes;
    return LCL_OK;
}
