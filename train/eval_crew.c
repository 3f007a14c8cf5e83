#include "train/eval_crew.h"

#include <stdlib.h>
#include <string.h>

#include "train/share.h"
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
    *w = (struct lcl_eval_crew){.comm = e->comm, .cached = cached};
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

struct own_items {
    const struct lcl_eval_crew *crew;
    lcl_chunk_fn work;
    void *ctx;
};

static lcl_status work_on_own(void *arg, int64_t i)
{
    const struct own_items *own = arg;
    const struct lcl_comm *c = own->crew->comm;
    return own->work(own->ctx, i * lcl_comm_size(c) + lcl_comm_rank(c));
}

lcl_status lcl_eval_crew_run(const struct lcl_eval_crew *w, int64_t n_items, lcl_chunk_fn work,
                             void *ctx)
{
    struct own_items own = {w, work, ctx};
    const int size = lcl_comm_size(w->comm);
    const int64_t n = (n_items - lcl_comm_rank(w->comm) + size - 1) / size;
    lcl_status status = LCL_OK;
    if (w->n > 1) status = lcl_parallel(n, work_on_own, &own);
    for (int64_t i = 0; i < n && w->n == 1 && status == LCL_OK; i++) status = work_on_own(&own, i);
    return lcl_share_agree(w->comm, status);
}

lcl_status lcl_eval_crew_mine(const struct lcl_eval_crew *w, struct lcl_eval_worker **mine)
{
    if (lcl_stop_asked)
        return LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d", (int)lcl_stop_asked);
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

/* ---- views between ranks ---- */

/* As it is in memory, followed by what it points to: its support, and its answer with the zero
 * byte. They have no pictures of their own. */
static size_t view_bytes(const struct lcl_episode_view *v)
{
    return sizeof *v + (size_t)v->n_support * sizeof *v->support +
           (v->answer ? strlen(v->answer) + 1 : 0);
}

static void put_view(const struct lcl_episode_view *v, unsigned char *to)
{
    size_t support = (size_t)v->n_support * sizeof *v->support;
    memcpy(to, v, sizeof *v);
    memcpy(to + sizeof *v, v->support, support);
    if (v->answer) memcpy(to + sizeof *v + support, v->answer, strlen(v->answer) + 1);
}

static lcl_status get_view(const unsigned char *from, struct lcl_episode_view *v)
{
    memcpy(v, from, sizeof *v);
    size_t support = (size_t)v->n_support * sizeof *v->support;
    const bool answered = v->answer != NULL;
    v->support = malloc(support + 1);
    v->answer = answered ? strdup((const char *)from + sizeof *v + support) : NULL;
    if (!v->support || (answered && !v->answer))
        return LCL_FAIL(LCL_MEMORY, "no memory for an episode");
    memcpy(v->support, from + sizeof *v, support);
    return LCL_OK;
}

lcl_status lcl_eval_gather_views(struct lcl_comm *comm, int64_t each, struct lcl_eval_outcome *o)
{
    if (lcl_comm_size(comm) == 1) return LCL_OK;
    lcl_status status = LCL_OK;
    unsigned char *bytes = NULL;
    for (int64_t i = 0; i < o->n_views && status == LCL_OK; i++) {
        const int root = (int)(i / each % comm->size);
        int64_t n = comm->rank == root ? (int64_t)view_bytes(&o->views[i]) : 0;
        LCL_TRY(lcl_comm_broadcast(comm, "the size of an episode", root, &n, sizeof n));
        bytes = malloc((size_t)n);
        status = bytes ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for an episode");
        if (status == LCL_OK && comm->rank == root) put_view(&o->views[i], bytes);
        if (status == LCL_OK)
            status = lcl_comm_broadcast(comm, "an evaluated episode", root, bytes, (size_t)n);
        if (status == LCL_OK && comm->rank != root) status = get_view(bytes, &o->views[i]);
        free(bytes);
    }
    return status;
}
