#include "train/step.h"

#include <math.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/threads.h"
#include "train/deal.h"
#include "train/refresh.h"
#include "train/stop.h"

static lcl_status clear(struct lcl_trainer *t, float *grad)
{
    struct lcl_exec *ex = &t->env->exec;
    const size_t bytes = t->env->model.params.n_grads * sizeof *grad;
    if (t->zero && t->config->zero >= 2 && lcl_arena_zero(&t->grads, grad, bytes)) return LCL_OK;
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

struct lcl_step_layout lcl_step_layout(const struct lcl_env *e, const struct lcl_config *c)
{
    const int n = lcl_comm_size(e->comm), r = lcl_comm_rank(e->comm);
    struct lcl_sum_node node[LCL_SUM_TREE_DEPTH];
    struct lcl_step_layout s = {.first_lane = lcl_lanes_begin(c->lanes, r, n)};
    int depth = 1;
    s.own_lanes = lcl_lanes_begin(c->lanes, r + 1, n) - s.first_lane;
    s.parallel = lcl_env_lanes_in_parallel(e, s.own_lanes) && (n == 1 || c->zero < 2);
    (void)lcl_sum_tree_nodes(c->lanes, s.first_lane, s.first_lane + s.own_lanes, node, &depth);
    s.n_passes = s.parallel ? (int)s.own_lanes : 1;
    s.n_grads = s.parallel ? (int)s.own_lanes : depth;
    if (n > 1 && lcl_zero_rounds((int)c->zero, c->deterministic, c->lanes, n) > 1)
        s.n_grads = 2; /* a lane's, and the share of the sum */
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
    t->first_lane = layout.first_lane;
    t->own_lanes = layout.own_lanes;
    t->n_lanes = layout.own_lanes * t->config->gradient_accumulation_steps;
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

static lcl_status enter_layer(void *ctx, enum lcl_part part, int64_t layer, bool back)
{
    return lcl_zero_enter(ctx, part, layer, back);
}

static lcl_status leave_layer(void *ctx, enum lcl_part part, int64_t layer, bool back)
{
    return lcl_zero_leave(ctx, part, layer, back);
}

static lcl_status open_zero(struct lcl_trainer *t)
{
    const struct lcl_config *c = t->config;
    const struct lcl_zero_options o = {.stage = (int)c->zero,
                                       .in_order = c->deterministic,
                                       .lanes = c->lanes,
                                       .bucket_bytes = c->bucket_mb << 20,
                                       .values = &t->env->model.values};
    struct lcl_zero *z = calloc(1, sizeof *z);
    if (!z) return LCL_FAIL(LCL_MEMORY, "no memory for what ranks exchange");
    lcl_status status = lcl_zero_open(z, t->env->comm, &t->env->exec, &t->env->model.params, &o);
    if (status != LCL_OK) {
        free(z);
        return status;
    }
    z->grads = &t->grads;
    t->zero = z;
    t->watch = (struct lcl_layer_watch){z, enter_layer, leave_layer};
    for (int i = 0; !t->parallel && i < t->n_passes; i++) t->pass[i].watch = &t->watch;
    return LCL_OK;
}

lcl_status lcl_trainer_open(struct lcl_trainer *t, struct lcl_env *e, const struct lcl_config *c,
                            uint32_t epoch, struct lcl_features *features,
                            struct lcl_pictures *pictures)
{
    *t = (struct lcl_trainer){.env = e, .config = c};
    lcl_step_set_trainable(&e->model.params, c);
    if (lcl_params_trainable_count(&e->model.params) == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "set one of the freeze_ keys to false",
                             "nothing trains: every part is frozen");
    lcl_status status = lcl_source_open(&t->source, e, c, epoch, features, pictures);
    if (status == LCL_OK) status = reserve(t);
    if (status == LCL_OK && e->comm) status = open_zero(t);
    if (status == LCL_OK)
        status = lcl_optimizer_open(&t->optimizer, &e->model.params, e->comm,
                                    c->deterministic ? LCL_OPTIMIZER_PIECES : 1);
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
    if (t->zero && lcl_zero_close(t->zero)) free(t->zero);
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

/* Forward and backward of one lane of one round, added to the gradient buffer; its results come
 * with the step's one wait. */
static lcl_status lane_work(struct lcl_trainer *t, struct lcl_lane *lane, struct lcl_pass *p,
                            float grad_scale)
{
    if (t->config->task == LCL_TASK_VISION)
        return lcl_model_classify_step(p, &lane->images, lane->label, lane->n_pictures,
                                       (float)t->config->classifier_scale, grad_scale,
                                       &lane->loss_sum, lane->argmax);
    LCL_TRY(lcl_lane_gather(lane, &t->source));
    return lcl_model_step(p, lane->batch, &lane->images, grad_scale, &lane->loss_sum, lane->argmax);
}

/* The number, among all lanes of a step, of this rank's lane k. */
static int64_t number_of(const struct lcl_trainer *t, int64_t k)
{
    const int64_t rounds = t->config->gradient_accumulation_steps;
    return k % rounds * t->config->lanes + t->first_lane + k / rounds;
}

/* A lane of this rank, its rounds one after another: their gradients add up in one buffer. */
static lcl_status run_lane(struct lcl_trainer *t, int64_t own, struct lcl_pass *p, float *grad,
                           float grad_scale)
{
    const int64_t rounds = t->config->gradient_accumulation_steps;
    const struct lcl_zero_sum *sum = t->zero ? t->zero->sum : NULL;
    lcl_status status = clear(t, grad);
    p->grad = grad;
    p->dropout.epoch = t->source.epoch;
    for (int64_t k = own * rounds; k < (own + 1) * rounds && status == LCL_OK; k++) {
        p->dropout.lane = (uint64_t)(t->step * t->config->lanes * rounds + number_of(t, k));
        if (t->zero && !t->parallel) /* gradients are whole after the last round */
            t->zero->sum = k == (own + 1) * rounds - 1 ? sum : NULL;
        lcl_profile_begin(t->profile, "lane", number_of(t, k));
        status = lane_work(t, &t->lane[k], p, grad_scale);
        lcl_profile_end(t->profile);
    }
    return status;
}

struct lanes_ctx {
    struct lcl_trainer *t;
    float grad_scale;
};

static lcl_status run_parallel_lane(void *arg, int64_t i)
{
    struct lanes_ctx *r = arg;
    return run_lane(r->t, i, &r->t->pass[i], r->t->grad[i], r->grad_scale);
}

/* Adds what the tree says, now, or leaves it to the exchange, which does so bucket by bucket. */
static lcl_status merge(struct lcl_trainer *t, int into, int from, struct lcl_zero_sum *later)
{
    if (!later) return add_grads(t, into, from);
    later->into[later->n_merges] = into;
    later->from[later->n_merges++] = from;
    return LCL_OK;
}

static lcl_status push_lane(struct lcl_trainer *t, struct lcl_sum_tree *tree, int64_t own,
                            int place, struct lcl_zero_sum *later)
{
    int into, from;
    lcl_sum_tree_push(tree, t->first_lane + own, 1, place);
    while (lcl_sum_tree_merges(tree, &into, &from)) LCL_TRY(merge(t, into, from, later));
    if (own < t->own_lanes - 1) return LCL_OK;
    while (!t->config->deterministic && lcl_sum_tree_collapses(tree, &into, &from))
        LCL_TRY(merge(t, into, from, later));
    return LCL_OK;
}

/* What the exchange is to send: this rank's nodes. */
static lcl_status expect_nodes(struct lcl_trainer *t, const struct lcl_sum_tree *tree)
{
    struct lcl_zero_sum *s = &t->sum;
    s->grad = t->grad;
    s->n_nodes = tree->n;
    for (int i = 0; i < tree->n; i++) s->node[i] = tree->node[i].place;
    s->sum = t->grad[tree->node[0].place];
    s->more = false;
    return lcl_zero_expect(t->zero, 0, s);
}

/* This rank's lanes, all at once or one after another; their gradients are summed as far as the
 * tree goes, in the place of its first node, and over the ranks. */
static lcl_status sum_by_tree(struct lcl_trainer *t, float grad_scale)
{
    struct lanes_ctx ctx = {t, grad_scale};
    struct lcl_sum_tree tree = {.lanes = t->config->lanes};
    t->sum.n_merges = 0;
    if (t->parallel) LCL_TRY(lcl_parallel(t->own_lanes, run_parallel_lane, &ctx));
    for (int64_t i = 0; i < t->own_lanes; i++) {
        const bool last = i == t->own_lanes - 1;
        const int place = t->parallel ? (int)i : tree.n;
        /* The last lane's layers are sent as they go back: so are the sums that it completes. */
        struct lcl_zero_sum *later = t->zero && (last || t->parallel) ? &t->sum : NULL;
        if (later) LCL_TRY(push_lane(t, &tree, i, place, later));
        if (later && last) LCL_TRY(expect_nodes(t, &tree));
        if (!t->parallel) LCL_TRY(run_lane(t, i, &t->pass[0], t->grad[place], grad_scale));
        if (!later) LCL_TRY(push_lane(t, &tree, i, place, NULL));
    }
    t->env->model.params.grad = t->grad[tree.node[0].place];
    return t->zero ? lcl_zero_reduce(t->zero) : LCL_OK;
}

/* Each lane is sent by itself, and every rank keeps its share of the sum alone. */
static lcl_status sum_by_rounds(struct lcl_trainer *t, float grad_scale)
{
    struct lcl_zero_sum *s = &t->sum;
    *s = (struct lcl_zero_sum){.grad = t->grad, .sum = t->grad[1]};
    LCL_TRY(clear(t, t->grad[1]));
    t->env->model.params.grad = t->grad[1];
    for (int i = 0; i < t->zero->rounds; i++) {
        s->n_nodes = i < t->own_lanes;
        s->more = i > 0;
        LCL_TRY(lcl_zero_expect(t->zero, i, s));
        if (i < t->own_lanes) LCL_TRY(run_lane(t, i, &t->pass[0], t->grad[0], grad_scale));
        LCL_TRY(lcl_zero_reduce(t->zero));
    }
    return LCL_OK;
}

/* ---- what ranks tell each other of a step ---- */

/* Seconds that pass here are seconds of waiting, for the slowest rank. */
static lcl_status all_gather(struct lcl_trainer *t, const char *what, const void *mine,
                             size_t bytes, void *all)
{
    const double begin = lcl_time_s();
    lcl_status status = lcl_comm_all_gather(t->env->comm, what, mine, bytes, all);
    t->wait_s += lcl_time_s() - begin;
    return status;
}

/* values[k] of this rank's lanes, to all[] of all lanes by their number. */
static lcl_status gather_lanes(struct lcl_trainer *t, const char *what, const double *values,
                               double *all)
{
    const int64_t rounds = t->config->gradient_accumulation_steps, L = t->config->lanes;
    const int n = lcl_comm_size(t->env->comm);
    size_t bytes_R[LCL_COMM_MOST];
    double *by_rank = malloc((size_t)(L * rounds) * sizeof *by_rank);
    if (!by_rank) return LCL_FAIL(LCL_MEMORY, "no memory for numbers of %lld lanes", (long long)L);
    for (int r = 0; r < n; r++)
        bytes_R[r] = (size_t)((lcl_lanes_begin(L, r + 1, n) - lcl_lanes_begin(L, r, n)) * rounds) *
                     sizeof *all;
    const double begin = lcl_time_s();
    lcl_status status = lcl_comm_all_gather_v(t->env->comm, what, values, bytes_R, by_rank);
    t->wait_s += lcl_time_s() - begin;
    for (int64_t i = 0; i < L * rounds; i++) all[i % rounds * L + i / rounds] = by_rank[i];
    free(by_rank);
    return status;
}

/* The sum over all lanes in their order, whoever has them. */
static lcl_status sum_lanes(struct lcl_trainer *t, const char *what,
                            double (*of)(const struct lcl_lane *), double *sum)
{
    const int64_t n = t->config->lanes * t->config->gradient_accumulation_steps;
    double *own = malloc((size_t)(t->n_lanes + n) * sizeof *own), *all = own + t->n_lanes;
    if (!own) return LCL_FAIL(LCL_MEMORY, "no memory for numbers of %lld lanes", (long long)n);
    for (int64_t k = 0; k < t->n_lanes; k++) own[k] = of(&t->lane[k]);
    lcl_status status = gather_lanes(t, what, own, all);
    *sum = 0;
    for (int64_t i = 0; i < n && status == LCL_OK; i++) *sum += all[i];
    free(own);
    return status;
}

static double weight_of(const struct lcl_lane *lane) { return lane->weight; }
static double loss_of(const struct lcl_lane *lane) { return lane->loss_sum; }

/* What the lanes' results come to. */
static lcl_status add_up(struct lcl_trainer *t, struct lcl_step_result *r)
{
    double loss_sum;
    int64_t own[4] = {0}, all[4 * LCL_COMM_MOST];
    for (int64_t k = 0; k < t->n_lanes; k++) {
        struct lcl_lane *lane = &t->lane[k];
        count_labels(lane);
        own[0] += lane->label_correct;
        own[1] += lane->label_total;
        own[2] += lane->tokens;
        own[3] += lane->samples;
    }
    LCL_TRY(all_gather(t, "counts of a step", own, sizeof own, all));
    LCL_TRY(sum_lanes(t, "losses", loss_of, &loss_sum));
    for (int k = 0; k < lcl_comm_size(t->env->comm); k++) {
        r->label_correct += all[4 * k];
        r->label_total += all[4 * k + 1];
        r->tokens += all[4 * k + 2];
        r->samples += all[4 * k + 3];
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
    for (int64_t k = 0; k < t->n_lanes && status == LCL_OK; k++)
        status = lcl_lane_fill(&lanes[k], &t->source, step, n_steps, number_of(t, k));
    lcl_profile_end(t->profile);
    return status;
}

/* Tokens of this rank's samples, by its lanes; -1 where they cannot be drawn, which fails once the
 * lane is filled. */
static void count_own(struct lcl_trainer *t, struct lcl_lane *lanes, int64_t step, int64_t n_steps,
                      int64_t *own)
{
    const int64_t each = t->config->per_device_train_batch_size;
    for (int64_t k = 0; k < t->n_lanes; k++)
        if (lcl_lane_count(&lanes[k], &t->source, step, n_steps, number_of(t, k), own + k * each) !=
            LCL_OK)
            own[k * each] = -1;
}

/* balance: tokens. Each rank counts its own lanes' samples by number; all deal alike. Where any
 * cannot be drawn, samples stay with the lanes of their numbers. */
static lcl_status deal(struct lcl_trainer *t, struct lcl_lane *lanes, int64_t step, int64_t n_steps)
{
    const struct lcl_config *c = t->config;
    const int64_t rounds = c->gradient_accumulation_steps, each = c->per_device_train_batch_size;
    const int64_t n = lcl_step_samples(c);
    const int size = lcl_comm_size(t->env->comm);
    size_t bytes_R[LCL_COMM_MOST];
    if (!t->source.dealt || t->source.dealt_step == step) return LCL_OK;
    int64_t *own = calloc((size_t)(3 * n), sizeof *own), *by_rank = own + n, *tokens = own + 2 * n;
    if (!own) return LCL_FAIL(LCL_MEMORY, "no memory for the samples of a step");
    count_own(t, lanes, step, n_steps, own);
    for (int r = 0; r < size; r++)
        bytes_R[r] =
            (size_t)((lcl_lanes_begin(c->lanes, r + 1, size) - lcl_lanes_begin(c->lanes, r, size)) *
                     rounds * each) *
            sizeof *own;
    const double begin = lcl_time_s();
    lcl_status status =
        lcl_comm_all_gather_v(t->env->comm, "tokens of samples", own, bytes_R, by_rank);
    t->wait_s += lcl_time_s() - begin;
    bool all = true;
    for (int64_t i = 0; i < n; i++) t->source.dealt[i] = i;
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = i / each, index = place % rounds * c->lanes + place / rounds;
        tokens[index * each + i % each] = by_rank[i];
        all = all && by_rank[i] >= 0;
    }
    if (status == LCL_OK && all) status = lcl_deal(tokens, c->lanes, rounds, each, t->source.dealt);
    t->source.dealt_step = step;
    free(own);
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
        LCL_TRY(deal(t, t->lane, step, n_steps));
        LCL_TRY(fill(t, t->lane, step, n_steps));
    }
    t->next_step = -1;
    return sum_lanes(t, "weights", weight_of, weight);
}

/* While a GPU works on this step. What fails is drawn again when its own step comes, which then
 * fails of it. A step before which the neighbor table is made anew is drawn from the new one. */
static lcl_status draw_ahead(struct lcl_trainer *t, int64_t step, int64_t n_steps)
{
    if (!t->next || step >= n_steps || lcl_refresh_is_due(t->config, step)) return LCL_OK;
    LCL_TRY(deal(t, t->next, step, n_steps));
    if (fill(t, t->next, step, n_steps) == LCL_OK) t->next_step = step;
    return LCL_OK;
}

/* Whether any rank was sent a signal: all of them end after the same step. */
static lcl_status agree_to_stop(struct lcl_trainer *t, int *stop_signal)
{
    int32_t mine = (int32_t)lcl_stop_asked, all[LCL_COMM_MOST];
    *stop_signal = 0;
    LCL_TRY(all_gather(t, "signals", &mine, sizeof mine, all));
    for (int r = 0; r < lcl_comm_size(t->env->comm); r++)
        if (all[r]) *stop_signal = all[r];
    return LCL_OK;
}

static lcl_status make_gradients(struct lcl_trainer *t, double weight)
{
    const float scale = (float)(1 / weight);
    lcl_profile_begin(t->profile, "forward and backward", -1);
    lcl_status status = t->zero ? lcl_zero_begin(t->zero) : LCL_OK;
    if (status == LCL_OK)
        status = t->zero && t->zero->rounds > 1 ? sum_by_rounds(t, scale) : sum_by_tree(t, scale);
    lcl_profile_end(t->profile);
    return status;
}

static lcl_status update(struct lcl_trainer *t, struct lcl_update *u)
{
    lcl_profile_begin(t->profile, "update", -1);
    lcl_status status = lcl_optimizer_update(&t->optimizer, &t->env->exec, t->config, u);
    lcl_profile_end(t->profile);
    return status;
}

static double waited_s(const struct lcl_trainer *t)
{
    return t->wait_s + (t->zero ? t->zero->wait_s : 0);
}

lcl_status lcl_trainer_step(struct lcl_trainer *t, int64_t step, int64_t n_steps, int64_t adam_step,
                            struct lcl_step_result *r)
{
    const double begin = lcl_time_s(), waited_before = waited_s(t);
    struct lcl_update u = {.step = step, .n_steps = n_steps, .adam_step = adam_step};
    *r = (struct lcl_step_result){0};
    t->step = step;
    LCL_TRY(draw(t, step, n_steps, &r->weight));
    LCL_TRY(agree_to_stop(t, &r->stop_signal));
    lcl_status status = make_gradients(t, r->weight);
    if (status == LCL_OK) status = update(t, &u);
    if (status == LCL_OK) status = draw_ahead(t, step + 1, n_steps);
    /* in any case: results are on their way to the lanes */
    lcl_status waited = lcl_exec_sync(&t->env->exec);
    LCL_TRY(status);
    LCL_TRY(waited);
    LCL_TRY(add_up(t, r));
    LCL_TRY(lcl_optimizer_finish(&t->optimizer, &t->env->model.params, &u));
    if (t->zero) LCL_TRY(lcl_zero_gather(t->zero));
    r->grad_norm = u.grad_norm;
    r->lr = u.lr;
    r->wait_s = waited_s(t) - waited_before;
    r->compute_s = lcl_time_s() - begin - r->wait_s;
    return LCL_OK;
}

lcl_status lcl_trainer_whole(struct lcl_trainer *t)
{
    return t->zero ? lcl_zero_whole(t->zero) : LCL_OK;
}
