#include "train/step.h"

#include <math.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/threads.h"
#include "train/refresh.h"

static lcl_status clear(struct lcl_trainer *t, float *grad)
{
    struct lcl_exec *ex = &t->env->exec;
    const size_t bytes = t->env->model.params.n_grads * sizeof *grad;
    return ex->ops->zero_fwd(ex, &(struct lcl_zero_args){(int64_t)bytes, grad});
}

static lcl_status add_grads(struct lcl_trainer *t, int into, int from)
{
    struct lcl_exec *ex = &t->env->exec;
    return ex->ops->add_fwd(ex,
                            &(struct lcl_add_args){.count = (int64_t)t->env->model.params.n_grads,
                                                   .x_dtype = LCL_F32,
                                                   .y_dtype = LCL_F32,
                                                   .scale = 1,
                                                   .x = t->grad[from],
                                                   .y = t->grad[into]});
}

void lcl_step_set_trainable(struct lcl_params *p, const struct lcl_config *c)
{
    bool vision = c->task == LCL_TASK_VISION, language = c->task == LCL_TASK_LANGUAGE;
    lcl_params_set_trainable(p, LCL_PART_VISION, vision || (!language && !c->freeze_vision_tower));
    lcl_params_set_trainable(p, LCL_PART_PROJECTOR, !vision && !language && !c->freeze_projector);
    lcl_params_set_trainable(p, LCL_PART_TEXT, !vision && !c->freeze_text);
    lcl_params_set_trainable(p, LCL_PART_HEAD, vision);
    lcl_params_set_adapting(p, !vision && !language); /* these two make a base */
    lcl_params_place_grads(p);
}

void lcl_step_mark_still(struct lcl_params *p, const struct lcl_config *stages, int n)
{
    for (int i = 0; i < p->n_rows; i++) p->rows[i].still = true;
    for (int s = 0; s < n; s++) {
        lcl_step_set_trainable(p, &stages[s]);
        for (int i = 0; i < p->n_rows; i++) p->rows[i].still &= !lcl_param_moves(&p->rows[i]);
    }
}

static bool part_trains(const struct lcl_params *t, enum lcl_part part)
{
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i].part == part && lcl_param_moves(&t->rows[i])) return true;
    return false;
}

/* Several rounds of several lanes need a buffer for their sum; rounds of a single lane add up in
 * its own. */
static bool sums_rounds(const struct lcl_config *c)
{
    return c->gradient_accumulation_steps > 1 && c->lanes > 1;
}

struct lcl_step_layout lcl_step_layout(const struct lcl_env *e, const struct lcl_config *c)
{
    int64_t L = c->lanes;
    int levels = 1;
    while ((int64_t)1 << (levels - 1) < L) levels++;
    struct lcl_step_layout s = {.parallel = lcl_env_lanes_in_parallel(e, L)};
    s.n_passes = s.parallel ? (int)L : 1;
    s.n_grads = (s.parallel ? (int)L : levels) + sums_rounds(c);
    return s;
}

struct lcl_pass lcl_step_pass(struct lcl_exec *exec, const struct lcl_model *m,
                              const struct lcl_config *c, float *grad)
{
    return (struct lcl_pass){.exec = exec,
                             .model = m,
                             .grad = grad,
                             .checkpointing = (enum lcl_checkpointing)c->gradient_checkpointing,
                             .dropout = {.p = c->lora_dropout, .seed = (uint64_t)c->seed},
                             .train_vision = part_trains(&m->params, LCL_PART_VISION),
                             .train_projector = part_trains(&m->params, LCL_PART_PROJECTOR),
                             .train_text = part_trains(&m->params, LCL_PART_TEXT)};
}

static lcl_status create_lanes(struct lcl_trainer *t, struct lcl_lane **lanes)
{
    *lanes = calloc((size_t)t->n_lanes, sizeof **lanes);
    if (!*lanes) return LCL_FAIL(LCL_MEMORY, "no memory for lanes");
    for (int64_t i = 0; i < t->n_lanes; i++) LCL_TRY(lcl_lane_create(&(*lanes)[i], &t->source));
    return LCL_OK;
}

static void free_lanes(struct lcl_trainer *t, struct lcl_lane *lanes)
{
    for (int64_t i = 0; lanes && i < t->n_lanes; i++) lcl_lane_free(&lanes[i]);
    free(lanes);
}

static lcl_status reserve(struct lcl_trainer *t)
{
    struct lcl_params *params = &t->env->model.params;
    struct lcl_step_layout layout = lcl_step_layout(t->env, t->config);
    t->parallel = layout.parallel;
    t->n_passes = layout.n_passes;
    t->n_grads = layout.n_grads;
    t->next_step = -1;
    LCL_TRY(create_lanes(t, &t->lane));
    if (t->env->exec.device) LCL_TRY(create_lanes(t, &t->next));
    t->pass = calloc((size_t)t->n_passes, sizeof *t->pass);
    t->grad = calloc((size_t)t->n_grads, sizeof *t->grad);
    if (!t->pass || !t->grad) return LCL_FAIL(LCL_MEMORY, "no memory for lanes");
    struct lcl_arena measure;
    lcl_arena_measure(&measure, "gradients");
    for (int i = 0; i < t->n_grads; i++) LCL_ARENA_NEW(&measure, float, params->n_grads);
    LCL_TRY(lcl_arena_reserve(&t->grads, "gradients", measure.used_bytes));
    for (int i = 0; i < t->n_grads; i++)
        t->grad[i] = LCL_ARENA_NEW(&t->grads, float, params->n_grads);
    for (int i = 0; i < t->n_passes; i++)
        t->pass[i] = lcl_step_pass(&t->env->exec, &t->env->model, t->config, t->grad[0]);
    return LCL_OK;
}

lcl_status lcl_trainer_open(struct lcl_trainer *t, struct lcl_env *e, const struct lcl_config *c,
                            uint32_t epoch, struct lcl_features *features,
                            struct lcl_pictures *pictures)
{
    *t = (struct lcl_trainer){
        .env = e, .config = c, .n_lanes = c->lanes * c->gradient_accumulation_steps};
    lcl_step_set_trainable(&e->model.params, c);
    if (lcl_params_trainable_count(&e->model.params) == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "set one of the freeze_ keys to false",
                             "nothing trains: every part is frozen");
    lcl_status status = lcl_source_open(&t->source, e, c, epoch, features, pictures);
    if (status == LCL_OK) status = reserve(t);
    if (status == LCL_OK) status = lcl_optimizer_open(&t->optimizer, &e->model.params);
    if (status != LCL_OK) lcl_trainer_close(t);
    return status;
}

void lcl_trainer_close(struct lcl_trainer *t)
{
    free_lanes(t, t->lane);
    free_lanes(t, t->next);
    for (int i = 0; t->pass && i < t->n_passes; i++) lcl_pass_free(&t->pass[i]);
    free(t->pass);
    free(t->grad);
    lcl_arena_free(&t->grads);
    lcl_optimizer_close(&t->optimizer);
    if (t->source.n_shortened + t->source.n_left_out > 0)
        lcl_log_info("data.too_long: %lld rows were shortened, %lld left out",
                     (long long)t->source.n_shortened, (long long)t->source.n_left_out);
    lcl_source_close(&t->source);
    *t = (struct lcl_trainer){0};
}

static void count_labels(struct lcl_lane *lane)
{
    const struct lcl_batch *b = lane->batch;
    if (!b) {
        lane->label_total = lane->n_pictures;
        for (int64_t i = 0; i < lane->n_pictures; i++)
            lane->label_correct += lane->argmax[i] == lane->label[i];
        return;
    }
    for (int64_t i = 0; i < b->S; i++) {
        if (!b->is_label_S[i]) continue;
        lane->label_total++;
        lane->label_correct += lane->argmax[i] == b->target_S[i];
    }
}

/* Forward and backward of one lane into the gradient buffer; its results come with the step's one
 * wait. */
static lcl_status lane_work(struct lcl_trainer *t, struct lcl_lane *lane, struct lcl_pass *p,
                            float *grad, float grad_scale)
{
    p->grad = grad;
    if (lane == t->lane || t->config->lanes > 1) LCL_TRY(clear(t, grad));
    if (t->config->task == LCL_TASK_VISION)
        return lcl_model_classify_step(p, &lane->images, lane->label, lane->n_pictures,
                                       (float)t->config->classifier_scale, grad_scale,
                                       &lane->loss_sum, lane->argmax);
    LCL_TRY(lcl_lane_gather(lane, &t->source));
    return lcl_model_step(p, lane->batch, &lane->images, grad_scale, &lane->loss_sum, lane->argmax);
}

static lcl_status run_lane(struct lcl_trainer *t, int64_t i, struct lcl_pass *p, float *grad,
                           float grad_scale)
{
    p->dropout.epoch = t->source.epoch;
    p->dropout.lane = (uint64_t)(t->step * t->n_lanes + i);
    lcl_profile_begin(t->profile, "lane", i);
    lcl_status status = lane_work(t, &t->lane[i], p, grad, grad_scale);
    lcl_profile_end(t->profile);
    return status;
}

struct round_ctx {
    struct lcl_trainer *t;
    int64_t first;
    float grad_scale;
};

static lcl_status run_parallel_lane(void *arg, int64_t i)
{
    struct round_ctx *r = arg;
    return run_lane(r->t, r->first + i, &r->t->pass[i], r->t->grad[i], r->grad_scale);
}

/* A round of lanes; their gradients are summed in grad[0] by the tree ((0 1) (2 3)) ((4 5) ...),
 * however they run. */
static lcl_status run_round(struct lcl_trainer *t, int64_t round, float grad_scale)
{
    int64_t L = t->config->lanes;
    struct round_ctx ctx = {t, round * L, grad_scale};
    if (t->parallel) {
        LCL_TRY(lcl_parallel(L, run_parallel_lane, &ctx));
        for (int64_t stride = 1; stride < L; stride *= 2)
            for (int64_t i = 0; i + stride < L; i += 2 * stride)
                LCL_TRY(add_grads(t, (int)i, (int)(i + stride)));
        return LCL_OK;
    }
    int depth = 0; /* a stack of sums, as a binary counter holds them */
    for (int64_t i = 0; i < L; i++) {
        LCL_TRY(run_lane(t, ctx.first + i, &t->pass[0], t->grad[depth], grad_scale));
        depth++;
        for (int64_t bits = i; bits & 1; bits >>= 1, depth--)
            LCL_TRY(add_grads(t, depth - 2, depth - 1));
    }
    for (; depth > 1; depth--) LCL_TRY(add_grads(t, depth - 2, depth - 1));
    return LCL_OK;
}

/* What the lanes' results come to. */
static lcl_status add_up(struct lcl_trainer *t, struct lcl_step_result *r)
{
    double loss_sum = 0;
    for (int64_t i = 0; i < t->n_lanes; i++) {
        struct lcl_lane *lane = &t->lane[i];
        count_labels(lane);
        loss_sum += lane->loss_sum;
        r->label_correct += lane->label_correct;
        r->label_total += lane->label_total;
        r->tokens += lane->tokens;
        r->samples += lane->samples;
    }
    r->loss = loss_sum / r->weight;
    if (isfinite(r->loss)) return LCL_OK;
    return LCL_FAIL_HINT(LCL_NUMERIC, "lower learning_rate or max_grad_norm, or look for bad data",
                         "the loss is not finite (%g)", r->loss);
}

static lcl_status fill(struct lcl_trainer *t, struct lcl_lane *lanes, int64_t step, int64_t n_steps)
{
    lcl_status status = LCL_OK;
    lcl_profile_begin(t->profile, "draw", -1);
    for (int64_t i = 0; i < t->n_lanes && status == LCL_OK; i++)
        status = lcl_lane_fill(&lanes[i], &t->source, step, n_steps, i);
    lcl_profile_end(t->profile);
    return status;
}

/* The step's lanes, unless they were drawn ahead. */
static lcl_status draw(struct lcl_trainer *t, int64_t step, int64_t n_steps, double *weight)
{
    if (t->next && t->next_step == step) {
        struct lcl_lane *drawn = t->next;
        t->next = t->lane;
        t->lane = drawn;
    } else {
        LCL_TRY(fill(t, t->lane, step, n_steps));
    }
    t->next_step = -1;
    *weight = 0;
    for (int64_t i = 0; i < t->n_lanes; i++) *weight += t->lane[i].weight;
    return LCL_OK;
}

/* While a GPU works on this step. What fails is drawn again when its own step comes, which then
 * fails of it. A step before which the neighbor table is made anew is drawn from the new one. */
static void draw_ahead(struct lcl_trainer *t, int64_t step, int64_t n_steps)
{
    if (lcl_refresh_is_due(t->config, step)) return;
    if (t->next && step < n_steps && fill(t, t->next, step, n_steps) == LCL_OK) t->next_step = step;
}

static lcl_status run_rounds(struct lcl_trainer *t, double weight)
{
    const int64_t rounds = t->config->gradient_accumulation_steps;
    const int sum = sums_rounds(t->config) ? t->n_grads - 1 : 0; /* the buffer */
    lcl_profile_begin(t->profile, "forward and backward", -1);
    for (int64_t round = 0; round < rounds; round++) {
        LCL_TRY(run_round(t, round, (float)(1 / weight)));
        if (sum == 0) continue;
        if (round == 0) LCL_TRY(clear(t, t->grad[sum]));
        LCL_TRY(add_grads(t, sum, 0));
    }
    t->env->model.params.grad = t->grad[sum];
    lcl_profile_end(t->profile);
    return LCL_OK;
}

static lcl_status update(struct lcl_trainer *t, struct lcl_update *u)
{
    lcl_profile_begin(t->profile, "update", -1);
    lcl_status status = lcl_optimizer_update(&t->optimizer, &t->env->exec, t->config, u);
    lcl_profile_end(t->profile);
    return status;
}

lcl_status lcl_trainer_step(struct lcl_trainer *t, int64_t step, int64_t n_steps, int64_t adam_step,
                            struct lcl_step_result *r)
{
    struct lcl_update u = {.step = step, .n_steps = n_steps, .adam_step = adam_step};
    *r = (struct lcl_step_result){0};
    t->step = step;
    LCL_TRY(draw(t, step, n_steps, &r->weight));
    lcl_status status = run_rounds(t, r->weight);
    if (status == LCL_OK) status = update(t, &u);
    if (status == LCL_OK) draw_ahead(t, step + 1, n_steps);
    /* in any case: results are on their way to the lanes */
    lcl_status waited = lcl_exec_sync(&t->env->exec);
    LCL_TRY(status);
    LCL_TRY(waited);
    LCL_TRY(add_up(t, r));
    LCL_TRY(lcl_optimizer_finish(&t->optimizer, &t->env->model.params, &u));
    r->grad_norm = u.grad_norm;
    r->lr = u.lr;
    return LCL_OK;
}
