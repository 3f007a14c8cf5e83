#include "train/plan_trial.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "core/log.h"
#include "data/policy.h"
#include "train/step.h"

enum { LEAST_STEPS = 2, MOST_STEPS = 40 };
static const double TRIAL_S = 3.0, MOST_FLOPS = 4e10, MOST_BYTES = 1 << 30;

/* Pictures and features of every pack of the stage: zeros. */
struct made_up {
    struct lcl_pictures pictures;
    struct lcl_features features;
    bool with_features, with_pictures;
};

static double processor_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * ((double)u.ru_utime.tv_usec + (double)u.ru_stime.tv_usec);
}

static lcl_status make_features(const struct lcl_env *e, const struct lcl_config *c,
                                struct lcl_features *last)
{
    const int64_t row = lcl_feature_rows(&e->model.config) * e->model.config.vision.C;
    for (int i = -1; i < e->sources.n; i++) {
        const struct lcl_pack *pack = i < 0 ? &e->pack : &e->sources.source[i].pack;
        if (i >= 0 && pack->n_images == 0) continue;
        if (i >= 0) {
            last->next = calloc(1, sizeof *last->next);
            if (!last->next) return LCL_FAIL(LCL_MEMORY, "no memory for features to try");
            last = last->next;
        }
        last->n_images = pack->n_images;
        last->views = i < 0 ? c->data_augment_views : 1;
        last->row = row;
        last->data = calloc((size_t)(last->n_images * last->views * row) + 1, sizeof *last->data);
        if (!last->data) return LCL_FAIL(LCL_MEMORY, "no memory for features to try");
    }
    return LCL_OK;
}

static lcl_status make_pictures(struct lcl_env *e, const struct lcl_config *c,
                                struct lcl_pictures *last)
{
    const int64_t S = e->preprocess.size;
    for (int i = -1; i < e->sources.n; i++) {
        struct lcl_pack *pack = i < 0 ? &e->pack : &e->sources.source[i].pack;
        if (i >= 0 && pack->n_images == 0) continue;
        if (i >= 0) {
            last->next = calloc(1, sizeof *last->next);
            if (!last->next) return LCL_FAIL(LCL_MEMORY, "no memory for pictures to try");
            last = last->next;
        }
        lcl_pictures_on_demand(last, pack, &e->preprocess, c);
        last->bytes = calloc((size_t)(pack->n_images * 3 * S * S) + 1, 1);
        if (!last->bytes) return LCL_FAIL(LCL_MEMORY, "no memory for pictures to try");
    }
    return LCL_OK;
}

static lcl_status make_up(struct lcl_env *e, const struct lcl_config *c, struct made_up *m)
{
    if (c->task == LCL_TASK_LANGUAGE) return LCL_OK;
    LCL_TRY(lcl_env_open_sources(e, c));
    m->with_features = lcl_plan_caches_features(c);
    m->with_pictures = !m->with_features;
    return m->with_features ? make_features(e, c, &m->features) : make_pictures(e, c, &m->pictures);
}

static void forget(struct made_up *m)
{
    if (m->with_features) lcl_features_close(&m->features);
    if (m->with_pictures) lcl_pictures_close(&m->pictures);
}

/* Nothing that a plan should not take or open. */
static bool can_be_tried(const struct lcl_env *e, const struct lcl_config *c,
                         const struct lcl_plan *p)
{
    const bool pictures = c->task != LCL_TASK_LANGUAGE;
    if (e->exec.device || c->device != LCL_DEVICE_CPU || e->model.values.base) return false;
    if (pictures && !e->has_pack) return false;
    if (c->memory_limit_mib > 0 && p->total > (double)c->memory_limit_mib * (1 << 20)) return false;
    if (c->task == LCL_TASK_LINK_CONTEXT && lcl_policy_is_drawn(c, LCL_POLICY_JIGSAW)) return false;
    if (pictures && !lcl_plan_caches_features(c) && p->pictures == 0) return false;
    return p->flops <= MOST_FLOPS && p->total <= fmin(MOST_BYTES, lcl_plan_free_bytes() / 2);
}

/* Twice the same step; *cpu_s of the second time. */
static lcl_status one_step(struct lcl_trainer *t, int64_t step, int64_t number, double *cpu_s)
{
    const int64_t n = t->config->max_steps;
    struct lcl_step_result r;
    LCL_TRY(lcl_trainer_step(t, step, n, 2 * number + 1, &r));
    double begin = processor_s();
    LCL_TRY(lcl_trainer_step(t, step, n, 2 * number + 2, &r));
    *cpu_s = processor_s() - begin;
    return LCL_OK;
}

/* Steps at multiples of the golden section: spread over the stage however many there are. */
static lcl_status time_steps(struct lcl_env *e, const struct lcl_config *c,
                             const struct lcl_plan *p, struct lcl_trainer *trainer,
                             struct lcl_plan_trial *t)
{
    const double begin = processor_s(), golden = 0.6180339887498949;
    double cpu_s = 0, flops = 0;
    for (int i = 0; i < MOST_STEPS && (i < LEAST_STEPS || processor_s() - begin < TRIAL_S); i++) {
        const double at = golden * i;
        double one;
        LCL_TRY(one_step(trainer, (int64_t)((at - floor(at)) * (double)c->max_steps), i, &one));
        flops += lcl_plan_step_flops(e, c, trainer->lane, trainer->n_lanes);
        cpu_s += one;
        t->steps++;
    }
    t->cpu_s = cpu_s / t->steps;
    const double mean = flops / t->steps;
    if (mean > 0 && p->model_flops > 0) t->cpu_s *= p->model_flops / mean;
    return LCL_OK;
}

/* The model's arenas; its table stays, without memory for it. */
static void release(struct lcl_model *m)
{
    struct lcl_arena values, moments;
    lcl_arena_free(&m->values);
    lcl_arena_free(&m->moments);
    lcl_arena_measure(&values, "parameters");
    lcl_arena_measure(&moments, "optimizer states");
    lcl_params_layout(&m->params, &values, NULL, &moments);
}

lcl_status lcl_plan_try(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                        const struct lcl_plan *p, struct lcl_plan_trial *t)
{
    struct lcl_config still = *c; /* no step moves a value: they may be anything */
    struct lcl_trainer trainer = {0};
    struct made_up m = {0};
    lcl_status status;
    const enum lcl_log_level level = lcl_log_get_level();
    *t = (struct lcl_plan_trial){0};
    if (!can_be_tried(e, c, p)) return LCL_OK;
    lcl_log_set_level(LCL_LOG_QUIET); /* what the stage warns of is said once */
    still.learning_rate = still.mm_projector_lr = still.vision_tower_lr = 0;
    LCL_TRY_GOTO(make_up(e, c, &m));
    LCL_TRY_GOTO(lcl_model_reserve(&e->model, c->bf16, false, true));
    lcl_params_initialise(&e->model.params, (uint64_t)c->seed);
    lcl_params_changed(&e->model.params);
    LCL_TRY_GOTO(lcl_trainer_open(&trainer, e, &still, epoch, m.with_features ? &m.features : NULL,
                                  m.with_pictures ? &m.pictures : NULL));
    status = time_steps(e, &still, p, &trainer, t);
    lcl_trainer_close(&trainer);
out:
    release(&e->model);
    forget(&m);
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
    lcl_log_set_level(level);
    if (t->steps > 0) t->libraries = fmax(0, lcl_plan_resident_bytes() - e->program_bytes);
    return status;
}
