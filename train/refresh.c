#include "train/refresh.h"

#include <math.h>
#include <string.h>

#include "core/log.h"
#include "train/class_vectors.h"
#include "train/share.h"
#include "train/step.h"
#include "train/stop.h"

bool lcl_refresh_is_due(const struct lcl_config *c, int64_t stage_step)
{
    int64_t every = c->data_refresh_neighbors;
    return c->task == LCL_TASK_LINK_CONTEXT && every > 0 && stage_step > 0 &&
           stage_step % every == 0;
}

/* Whether a stage's samples ask for neighbors: negatives, or the classes of a fine conversation. */
static bool draws_neighbors(const struct lcl_config *c)
{
    if (c->data_strategy == LCL_ANY_SHOT) return strstr(c->data_tasks, "fine") != NULL;
    bool episodes = c->data_strategy != LCL_JIGSAW || c->data_sources[0];
    return episodes && c->data_hard_fraction > 0;
}

static lcl_status check_stage(struct lcl_env *e, const struct lcl_config *c)
{
    const struct lcl_params *p = &e->model.params;
    bool moves = false;
    if (c->task != LCL_TASK_LINK_CONTEXT || c->data_refresh_neighbors == 0) return LCL_OK;
    lcl_step_set_trainable(&e->model.params, c);
    for (int i = 0; i < p->n_rows; i++)
        moves |= p->rows[i].part == LCL_PART_VISION && lcl_param_moves(&p->rows[i]);
    if (!moves)
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "set it to 0 and make the tower's table once, lcl neighbors --model; "
                             "or let the tower train, freeze_vision_tower: false",
                             "data.refresh_neighbors is %lld, but the tower is frozen: its "
                             "features, and so the table, would stay as they are",
                             (long long)c->data_refresh_neighbors);
    if (draws_neighbors(c)) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG, "set it to 0",
                         "data.refresh_neighbors is %lld, but the stage draws from no neighbor "
                         "table (data.hard_fraction, data.tasks, data.strategy)",
                         (long long)c->data_refresh_neighbors);
}

lcl_status lcl_refresh_check(struct lcl_env *e, const struct lcl_run_config *run)
{
    for (int i = 0; i < run->n_stages; i++) {
        lcl_status status = check_stage(e, &run->stages[i]);
        if (status != LCL_OK && run->n_stages > 1)
            return lcl_fail_context(status, "stage %s", run->stages[i].stage_name);
        LCL_TRY(status);
    }
    return LCL_OK;
}

double lcl_refresh_count(const struct lcl_config *c, double steps)
{
    bool asked = c->task == LCL_TASK_LINK_CONTEXT && c->data_refresh_neighbors > 0 && steps > 1;
    return asked ? floor((steps - 1) / (double)c->data_refresh_neighbors) : 0;
}

double lcl_refresh_bytes(struct lcl_env *e, const struct lcl_config *c)
{
    const int64_t S = e->preprocess.size, n = LCL_CLASS_VECTOR_PICTURES;
    struct lcl_pass proto = {.exec = &e->exec, .model = &e->model};
    struct lcl_pass_limits limits = {.images = n, .with_vision = true};
    if (lcl_refresh_count(c, (double)c->max_steps) == 0) return 0;
    return (double)lcl_pass_bytes(&proto, &limits) + (double)(n * 3 * S * S) * sizeof(float);
}

int64_t lcl_refresh_pictures(const struct lcl_pack *pack, const struct lcl_config *c)
{
    int64_t n = 0;
    for (int32_t i = 0; i < pack->n_classes; i++) {
        const struct lcl_class *class = &pack->classes[i];
        bool some = c->data_refresh_images > 0 && c->data_refresh_images < class->n_images;
        if (class->split == LCL_SPLIT_TRAIN) n += some ? c->data_refresh_images : class->n_images;
    }
    return n;
}

lcl_status lcl_refresh_neighbors(struct lcl_env *e, const struct lcl_config *c,
                                 struct lcl_refresh *r)
{
    const struct lcl_neighbors_options options = {.by = LCL_BY_IMAGE,
                                                  .cut =
                                                      (enum lcl_neighbors_cut)c->data_refresh_cut,
                                                  .num = (int32_t)c->data_num_neighbors,
                                                  .seed = (uint64_t)c->seed};
    const struct lcl_neighbors *before = lcl_env_training_neighbors(e);
    struct lcl_class_vectors v;
    struct lcl_neighbors table;
    double start = lcl_time_s();
    *r = (struct lcl_refresh){0};
    LCL_TRY(lcl_class_vectors_model(e, c->data_refresh_images, true, &v));
    lcl_status status =
        lcl_neighbors_from_classes(&e->pack, v.image_CF, NULL, v.F, &options, &table);
    lcl_class_vectors_free(&v);
    LCL_TRY(status);
    status =
        lcl_share_agree(e->comm, lcl_stop_asked ? LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d",
                                                           (int)lcl_stop_asked)
                                                : LCL_OK);
    if (status != LCL_OK) {
        lcl_neighbors_free(&table);
        return status;
    }
    if (before)
        r->new_share = lcl_neighbors_new_share(&e->pack, before, &table, LCL_REFRESH_HARDEST);
    lcl_neighbors_free(&e->refreshed);
    e->refreshed = table;
    r->seconds = lcl_time_s() - start;
    return LCL_OK;
}

lcl_status lcl_refresh_restore(struct lcl_env *e, const struct lcl_run_state *s, const char *path)
{
    lcl_neighbors_free(&e->refreshed);
    if (!s->neighbors || !e->has_pack) return LCL_OK;
    return lcl_neighbors_from_index(s->neighbors, s->neighbor_classes, s->neighbor_width, &e->pack,
                                    path, &e->refreshed);
}
