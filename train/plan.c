#include "train/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/comm.h"
#include "core/threads.h"
#include "data/jigsaw.h"
#include "data/policy.h"
#include "train/refresh.h"
#include "train/step.h"

enum { EVAL_EPISODES = 16, FEATURE_LANES = 8, FEATURE_IMAGES = 16, MOST_LANES = 64 };

/* What libraries keep, where no trial of the stage has told: the demo's stages have 13 to 35 MiB.
 */
static const double untried_libraries = 32 << 20;

/* What the batches of a stage come to. */
struct sample {
    int64_t n;
    double tokens, images, supervised, pairs; /* sums; pairs: of a query and a key row */
    struct lcl_pass_limits most;
    bool whole; /* all of the stage's batches, not some of them */
    struct lcl_pass_limits most_of_lane[MOST_LANES];
    lcl_status (*look)(void *ctx, const struct lcl_batch *b, int64_t images); /* or NULL */
    void *ctx;
};

static void raise_limits(struct lcl_pass_limits *most, const struct lcl_batch *b)
{
    if (b->T > most->T) most->T = b->T;
    if (b->n_images > most->images) most->images = b->n_images;
    if (b->S > most->S) most->S = b->S;
}

static lcl_status look_at(const struct sample *s, const struct lcl_batch *b, int64_t images)
{
    return s->look ? s->look(s->ctx, b, images) : LCL_OK;
}

static void count_batch(struct sample *s, const struct lcl_batch *b)
{
    s->n++;
    s->tokens += (double)b->T;
    s->images += (double)b->n_images;
    s->supervised += (double)b->S;
    for (int64_t r = 0; r < b->n_runs; r++) {
        double own = b->runs[r].q_end - b->runs[r].q_begin;
        double prefix = b->runs[r].prefix_end - b->runs[r].prefix_begin;
        s->pairs += own * (own + 1) / 2 + own * prefix;
    }
    raise_limits(&s->most, b);
}

/* Lanes of steps spread over the stage, or all that it has where these are no more. */
static lcl_status draw_batches(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                               int64_t batches, struct sample *s)
{
    struct lcl_features unread = {0}; /* features: lanes open no picture */
    struct lcl_source source = {0};
    struct lcl_lane lane = {0};
    int64_t lanes = c->lanes * c->gradient_accumulation_steps;
    lcl_status status;
    LCL_TRY_GOTO(lcl_source_open(&source, e, c, epoch, &unread, NULL));
    LCL_TRY_GOTO(lcl_lane_create(&lane, &source));
    s->whole = c->max_steps > 0 && batches / lanes >= c->max_steps;
    if (s->whole) batches = c->max_steps * lanes;
    for (int64_t i = 0; i < batches; i++) {
        int64_t step = batches > 1 ? (c->max_steps - 1) * i / (batches - 1) : 0;
        if (s->whole) step = i / lanes;
        if (step < 0) step = 0;
        LCL_TRY_GOTO(lcl_lane_fill(&lane, &source, step, c->max_steps, i % lanes));
        count_batch(s, lane.batch);
        LCL_TRY_GOTO(look_at(s, lane.batch, lane.batch->n_images));
        raise_limits(&s->most_of_lane[i % lanes % c->lanes % MOST_LANES], lane.batch);
    }
out:
    lcl_lane_free(&lane);
    lcl_source_close(&source);
    return status;
}

/* The longest episode that the config allows: for plans without a pack. */
static void longest_episode(const struct lcl_config *c, int64_t shots, int64_t ways,
                            int64_t queries, struct lcl_episode *e)
{
    e->n_ways = (int)ways;
    e->n_shots = (int)shots;
    e->n_queries = (int)queries;
    for (int w = 0; w < ways; w++) {
        int64_t n = c->data_label_max_letters;
        memset(e->label[w], 'q', (size_t)n);
        for (int64_t k = 0, v = w; k < n && v > 0; k++, v /= 26)
            e->label[w][k] = (char)('a' + v % 26);
        e->label[w][n] = '\0';
    }
    for (int64_t i = 0; i < shots; i++)
        e->shots[i] = (struct lcl_shot){.way = (int32_t)(i % ways), .image = i};
    for (int64_t i = 0; i < queries; i++) e->queries[i] = (struct lcl_shot){.image = shots + i};
}

static lcl_status bound_batch(struct lcl_env *e, const struct lcl_config *c, enum lcl_policy policy,
                              int64_t shots, int64_t ways, int64_t queries, int64_t episodes,
                              enum lcl_encode_mode mode, struct sample *s)
{
    struct lcl_batch_builder *builder = NULL;
    struct lcl_episode *episode = calloc(1, sizeof *episode);
    enum lcl_supervise supervise = c->data_strategy == LCL_ANY_SHOT
                                       ? LCL_SUPERVISE_ALL
                                       : (enum lcl_supervise)c->data_supervise;
    lcl_status status = LCL_OK;
    if (episode) {
        episode->shots = malloc(((size_t)shots + 1) * sizeof *episode->shots);
        episode->queries = malloc(((size_t)queries + 1) * sizeof *episode->queries);
    }
    if (!episode || !episode->shots || !episode->queries) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for an episode of %lld shots", (long long)shots);
        goto out;
    }
    LCL_TRY_GOTO(
        lcl_batch_builder_for(c, e->tokenizer, lcl_tokens_per_image(&e->model.config), &builder));
    longest_episode(c, shots, ways, queries, episode);
    LCL_TRY_GOTO(lcl_policy_say_most(c, policy, episode));
    for (int64_t i = 0; i < episodes; i++) {
        LCL_TRY_GOTO(
            lcl_batch_append_episode(builder, episode, mode, supervise, NULL, c->model_max_length));
        for (int64_t k = 0; k < shots; k++) episode->shots[k].image += shots + queries;
        for (int64_t k = 0; k < queries; k++) episode->queries[k].image += shots + queries;
    }
    const struct lcl_batch *batch = lcl_batch_builder_get(builder);
    count_batch(s, batch);
    status = look_at(s, batch, batch->n_images);
out:
    lcl_batch_builder_free(builder);
    if (episode) lcl_episode_free(episode);
    free(episode);
    return status;
}

static lcl_status sample_stage(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                               int64_t batches, struct lcl_plan *p, struct sample *s)
{
    int64_t n = c->per_device_train_batch_size;
    if (c->task == LCL_TASK_VISION) {
        s->n = 1;
        s->images = (double)n;
        s->tokens = (double)(n * lcl_vision_tokens(&e->model.config.vision));
        s->most.images = n;
        return look_at(s, NULL, n);
    }
    if (c->task == LCL_TASK_LANGUAGE || e->has_pack) {
        LCL_TRY(draw_batches(e, c, epoch, batches, s));
        p->drawn = s->n;
        return LCL_OK;
    }
    bool any_shot = c->data_strategy == LCL_ANY_SHOT;
    int64_t ways = any_shot || c->data_strategy == LCL_NWAY ? c->data_ways : 2;
    int64_t shots = any_shot ? c->data_turns - 1 : lcl_config_most_shots(c);
    int64_t queries = any_shot ? 1 : c->data_queries;
    enum lcl_policy policy = LCL_POLICY_LINK;
    if (c->data_strategy == LCL_REF || c->data_strategy == LCL_REF_OR_WEIGHT)
        policy = LCL_POLICY_REF; /* the longer of the two */
    if (c->data_strategy == LCL_JIGSAW) {
        policy = LCL_POLICY_JIGSAW;
        shots = LCL_JIGSAW_MOST_TILES;
        ways = 1;
    }
    return bound_batch(e, c, policy, shots, ways, queries, n, LCL_ENCODE_TRAIN, s);
}

lcl_status lcl_plan_look(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                         int64_t batches,
                         lcl_status (*look)(void *ctx, const struct lcl_batch *b, int64_t images),
                         void *ctx)
{
    struct sample s = {.look = look, .ctx = ctx};
    struct lcl_plan p;
    return sample_stage(e, c, epoch, batches, &p, &s);
}

bool lcl_plan_caches_features(const struct lcl_config *c)
{
    return c->task == LCL_TASK_LINK_CONTEXT && c->freeze_vision_tower && c->cache_features &&
           !lcl_policy_is_drawn(c, LCL_POLICY_JIGSAW); /* its pictures are too many to keep */
}

static void set_with(const struct lcl_config *c, struct lcl_pass_limits *l)
{
    l->with_vision = c->task != LCL_TASK_LANGUAGE && !lcl_plan_caches_features(c);
    l->with_text = c->task != LCL_TASK_VISION;
}

/* One worker's batch of EVAL_EPISODES, its likelihoods and its answers over a key/value cache. */
static lcl_status plan_evaluation(struct lcl_env *e, const struct lcl_config *c, struct lcl_plan *p)
{
    const struct lcl_text_config *t = &e->model.config.text;
    bool cached = lcl_plan_caches_features(c);
    int64_t shots = 0,
            episodes = c->eval_episodes < EVAL_EPISODES ? c->eval_episodes : EVAL_EPISODES;
    if (c->eval_steps == 0 || c->task != LCL_TASK_LINK_CONTEXT) return LCL_OK;
    for (int i = 0; i < c->eval_shots.n; i++)
        if (c->eval_shots.v[i] > shots) shots = c->eval_shots.v[i];
    struct sample scored = {0}, asked = {0};
    if (c->data_strategy == LCL_ANY_SHOT) /* a conversation of its own for each candidate */
        LCL_TRY(bound_batch(e, c, LCL_POLICY_LINK, shots, c->data_ways, 1, episodes * c->data_ways,
                            LCL_ENCODE_TRAIN, &scored));
    else
        LCL_TRY(bound_batch(e, c, LCL_POLICY_LINK, shots, 2, 1, episodes, LCL_ENCODE_CANDIDATES,
                            &scored));
    LCL_TRY(bound_batch(e, c, LCL_POLICY_LINK, shots, 2, 1, episodes, LCL_ENCODE_PROMPT, &asked));
    struct lcl_pass proto = {.exec = &e->exec, .model = &e->model};
    scored.most.with_vision = asked.most.with_vision = !cached;
    scored.most.with_text = asked.most.with_text = true;
    double rows = 1.25 * (double)(asked.most.T + episodes * c->eval_max_new_tokens);
    double cache = rows * (double)(2 * t->n_layers * t->G * t->D) *
                   (double)lcl_dtype_bytes(lcl_model_dtype(&e->model));
    double worker = (double)lcl_pass_bytes(&proto, &scored.most) +
                    (double)lcl_pass_bytes(&proto, &asked.most) + cache;
    bool lanes = cached && lcl_env_lanes_in_parallel(e, 8);
    p->evaluation = worker * (lanes ? lcl_threads_count() : 1);
    return LCL_OK;
}

static void plan_pictures(struct lcl_env *e, const struct lcl_config *c, struct lcl_plan *p)
{
    double S = (double)e->preprocess.size, n = e->has_pack ? (double)e->pack.n_images : 0;
    double rows = 0; /* pictures of data.sources */
    for (int i = 0; i < e->sources.n; i++) rows += (double)e->sources.source[i].pack.n_images;
    double row = (double)(lcl_feature_rows(&e->model.config) * e->model.config.vision.C);
    double bytes = (n + rows) * 3 * S * S,
           lanes = (double)(c->lanes * c->gradient_accumulation_steps);
    double kept = bytes <= (double)(1 << 30) ? bytes : 0;
    if (c->task == LCL_TASK_LANGUAGE) return;
    if (c->device != LCL_DEVICE_CPU) lanes *= 2; /* a step's, and the next one's */
    if (!lcl_plan_caches_features(c)) {
        p->pictures = kept;
        p->batches = lanes * (double)p->largest.images * 3 * S * S * sizeof(float);
        return;
    }
    struct lcl_pass proto = {.exec = &e->exec, .model = &e->model};
    struct lcl_pass_limits limits = {.images = FEATURE_IMAGES, .with_vision = true};
    int passes = lcl_env_lanes_in_parallel(e, FEATURE_LANES) ? FEATURE_LANES : 1;
    p->features = (n * (double)c->data_augment_views + rows) * row * sizeof(float);
    p->batches = lanes * (double)p->largest.images * row * sizeof(float);
    p->feature_tower = passes * (double)lcl_pass_bytes(&proto, &limits);
    p->feature_pictures = kept + passes * FEATURE_IMAGES * 3 * S * S * sizeof(float);
}

/* The room, in floats, for what a product decodes of a weight in blocks at a time: a panel, or a
 * whole matrix of tower and projector. */
static double decoded_floats(const struct lcl_model *m)
{
    double most = 32 << 20;
    for (int i = 0; i < m->n_base; i++) {
        const struct lcl_param *p = &m->params.rows[i];
        const double wide = (double)p->count * (double)lcl_dtype_bytes(lcl_model_dtype(m));
        if (p->in_blocks && p->part != LCL_PART_TEXT) most = fmax(most, 3 * wide); /* q, k, v */
    }
    return most / sizeof(float);
}

/* What ops of a GPU reserve in first steps: rows gathered or brought to f32, a chunk of logits,
 * cuBLASLt's workspace and f32 sums of products, partial sums; and index arrays. */
static double device_scratch(const struct lcl_env *e, const struct lcl_plan *p)
{
    const double logits = 256 << 20; /* bytes of a chunk */
    const double chunk = 64 << 20;   /* of cuBLASLt's workspace and a product's f32 sums */
    const double small = 1 << 20;    /* the least size of each array */
    const struct lcl_text_config *t = &e->model.config.text;
    const struct lcl_pass_limits *most = &p->largest;
    double S = (double)e->preprocess.size, tokens = (double)most->T, C = (double)t->C;
    double pixels = (double)most->images * 3 * S * S;
    double features = (double)(most->images * lcl_feature_rows(&e->model.config)) *
                      (double)e->model.config.vision.C;
    double head = 2 * fmin((double)most->S, logits / 4 / (double)t->V + 1) * C;
    double rows = fmax(fmax(pixels, features), fmax(head, 2 * tokens * (double)t->H));
    if (lcl_is_blocks(e->model.params.blocks)) rows = fmax(rows, decoded_floats(&e->model));
    return sizeof(float) * (rows + 256 * fmax(C, (double)t->F)) + 64 * tokens + logits + 2 * chunk +
           small;
}

/* The most at once: in steps, or before them while features are computed. */
static void sum_up(const struct lcl_config *c, struct lcl_plan *p)
{
    double tensors = 0, others = 0;
#define X(field, title, is_tensor) *(is_tensor ? &tensors : &others) += p->field;
    LCL_PLAN_ARENAS(X)
#undef X
    double tower = p->parameters + p->feature_tower,
           pictures = p->features + p->feature_pictures + p->program + p->libraries;
    if (c->device == LCL_DEVICE_CPU) {
        p->total = fmax(tensors + others, tower + pictures);
        return;
    }
    p->device = fmax(tensors, tower) + p->scratch;
    p->total = fmax(others, pictures);
}

/* A rank keeps its own elements. */
static double snapshot_bytes(const struct lcl_env *e, const struct lcl_plan *p)
{
    const double ranks = lcl_comm_size(e->comm);
    const bool shared = e->model.params.share_ranks > 1; /* its moments are its own already */
    return (p->checkpoint - p->moments) / ranks + p->moments / (shared ? 1 : ranks);
}

void lcl_plan_set_libraries(struct lcl_plan *p, const struct lcl_config *c, double bytes)
{
    p->libraries = bytes;
    sum_up(c, p);
}

/* Bytes of moments that are touched. Memory comes in huge pages where an arena has room for them: a
 * row that moves takes its neighbours along. */
static double touched_moments(const struct lcl_params *params)
{
    const double huge = 2 << 20;
    double at = 0, exact = 0, touched = 0, end = 0;
    for (int i = 0; i < params->n_rows; i++) {
        const double bytes = (double)lcl_param_moment_bytes(params, &params->rows[i]);
        const double from = fmax(end, floor(at / huge) * huge),
                     to = ceil((at + bytes) / huge) * huge;
        at += bytes;
        if (!lcl_param_moves(&params->rows[i])) continue;
        exact += bytes;
        touched += fmax(0, to - from);
        end = fmax(end, to);
    }
    return at < 2 * huge ? exact : fmin(touched, at);
}

/* Of all passes: each has room for the largest batch that it has had. */
static double plan_activations(const struct lcl_pass *proto, const struct lcl_config *c,
                               const struct sample *s, const struct lcl_plan *p, int n_passes)
{
    double sum = 0;
    if (!s->whole || n_passes != c->lanes || n_passes > MOST_LANES)
        return (double)lcl_pass_bytes(proto, &p->largest) * n_passes;
    for (int i = 0; i < n_passes; i++) {
        struct lcl_pass_limits own = s->most_of_lane[i];
        own.with_vision = p->largest.with_vision;
        own.with_text = p->largest.with_text;
        sum += (double)lcl_pass_bytes(proto, &own);
    }
    return sum;
}

static lcl_status plan_memory(struct lcl_env *e, const struct lcl_config *c, const struct sample *s,
                              struct lcl_plan *p)
{
    static float some_grad; /* a training pass has a gradient; nothing is written to it */
    const struct lcl_params *params = &e->model.params;
    struct lcl_step_layout layout = lcl_step_layout(e, c);
    struct lcl_pass proto = lcl_step_pass(&e->exec, &e->model, c, &some_grad);
    p->n_trainable = (int64_t)lcl_params_trainable_count(params);
    for (int i = 0; i < params->n_rows; i++) p->n_parameters += (int64_t)params->rows[i].count;
    p->parameters = (double)lcl_params_values_bytes(params);
    const bool whole = c->device != LCL_DEVICE_CPU; /* a GPU's arenas are cleared, and so taken */
    double all = 0;                                 /* rows that move in another stage, too */
    for (int i = 0; i < params->n_rows; i++) {
        double moments = (double)lcl_param_moment_bytes(params, &params->rows[i]);
        p->checkpoint += (double)lcl_param_value_bytes(params, &params->rows[i]);
        if (lcl_param_moves(&params->rows[i])) p->moments += moments;
        all += moments;
    }
    p->checkpoint += p->moments;
    if (c->save_async) p->snapshot = snapshot_bytes(e, p);
    p->moments = whole ? all : touched_moments(params);
    p->gradients = (double)params->n_grads * sizeof(float) * layout.n_grads;
    set_with(c, &p->largest);
    p->activations = plan_activations(&proto, c, s, p, layout.n_passes);
    plan_pictures(e, c, p);
    p->program = e->program_bytes;
    LCL_TRY(plan_evaluation(e, c, p));
    p->evaluation = fmax(p->evaluation, lcl_refresh_bytes(e, c)); /* not at once */
    if (whole) p->scratch = device_scratch(e, p);
    lcl_plan_set_libraries(p, c, whole ? 0 : untried_libraries);
    p->disk = p->checkpoint * (double)(c->save_total_limit + 2) + p->features;
    return LCL_OK;
}

/* Floating-point operations of products, 2 M N K each: what the model asks for, and what is
 * computed once more so that less has to be kept. */
struct work {
    double model, again;
};

/* Of a part: whether its backward runs, and whether weights of the base have gradients. */
struct training {
    bool trains, base;
};

static struct training training_of(const struct lcl_model *m, enum lcl_part part)
{
    struct training t = {0};
    for (int i = 0; i < m->params.n_rows; i++) {
        const struct lcl_param *p = &m->params.rows[i];
        t.trains |= p->part == part && lcl_param_moves(p);
        t.base |= p->part == part && lcl_param_moves(p) && !p->adapter;
    }
    return t;
}

/* Keys and values of a Q-Former's cross attention. */
static bool reads_features(const struct lcl_model *m, int row)
{
    for (int64_t l = 0; m->rows.qformer && l < m->config.qformer.n_layers; l++) {
        int key = m->rows.qformer[l].kv_w;
        if (key >= 0 && (row == key || row == key + 1)) return true;
    }
    return false;
}

/* A part's adapters on `rows` rows each, or on feature_rows where they read features: forward, and
 * both gradients where they train. */
static double adapter_work(const struct lcl_model *m, enum lcl_part part, double rows,
                           double feature_rows)
{
    double products = 0;
    for (int i = 0; m->adapter && i < m->n_base; i++) {
        const struct lcl_param *A = &m->params.rows[m->adapter[i] < 0 ? 0 : m->adapter[i]];
        if (m->adapter[i] < 0 || A->part != part || !A->used) continue;
        products +=
            (double)(A[0].count + A[1].count) * (reads_features(m, i) ? feature_rows : rows);
    }
    return 2 * products * (training_of(m, part).trains ? 3 : 1);
}

/* The tower on I pictures. */
static struct work tower_work(const struct lcl_model_config *m, const struct lcl_config *c,
                              double I, struct training part)
{
    const struct lcl_vision_config *v = &m->vision;
    double T = I * (double)lcl_vision_tokens(v), C = (double)v->C, F = (double)v->F;
    double used = (double)lcl_vision_layers_used(m), vt = (double)lcl_vision_tokens(v);
    double patches =
        2 * I * (double)(lcl_vision_patches(v) * 3 * v->patch_size * v->patch_size) * C;
    double layers = used * (2 * T * C * (4 * C + 2 * F) + 4 * T * vt * C);
    struct work w = {.model = patches + layers};
    if (!part.trains) return w;
    w.model += layers + part.base * (patches + layers); /* pixels have no gradient */
    if (c->gradient_checkpointing == LCL_CHECKPOINT_LAYERS) w.again = layers;
    if (c->gradient_checkpointing == LCL_CHECKPOINT_MLP) w.again = used * 2 * T * C * (C + F);
    return w;
}

/* On I pictures: queries are N rows, of features there are M. */
static double qformer_work(const struct lcl_model_config *m, double I, struct training part,
                           bool tower_trains)
{
    const struct lcl_qformer_config *q = &m->qformer;
    double N = I * (double)q->Q, K = (double)lcl_feature_rows(m), M = I * K, C = (double)q->C;
    double layers = (double)q->n_layers, crossing = ceil(layers / (double)q->cross_every);
    double products =
        2 * N * C * (layers * (4 * C + 2 * (double)q->F) + crossing * 2 * C + (double)m->text.C);
    double attention = 4 * N * C * (layers * (double)q->Q + crossing * K);
    double from_features = crossing * 2 * M * (double)m->vision.C * 2 * C;
    bool backward = part.trains || tower_trains;
    return products * (1 + part.base + backward) + attention * (1 + 2 * backward) +
           from_features * (1 + part.base + tower_trains);
}

static double projector_work(const struct lcl_model_config *m, double rows, struct training part,
                             bool tower_trains)
{
    double C = (double)m->text.C, first = 2 * rows * (double)m->vision.C * C;
    double second = m->projector == LCL_PROJECTOR_LINEAR ? 0 : 2 * rows * C * C;
    return first * (1 + part.base + tower_trains) +
           second * (1 + part.base + (part.trains || tower_trains));
}

/* The decoder and its head: the last layer past its attention, and the head, see S rows only. */
static struct work text_work(const struct lcl_text_config *t, const struct lcl_config *c, double T,
                             double S, double pairs, bool base_trains)
{
    double C = (double)t->C, wide = (double)(t->H * t->D), qkv = (double)((t->H + 2 * t->G) * t->D);
    double all = (double)t->n_layers, rows = T * (all - 1) + fmin(S, T), F = (double)t->F;
    double products = 2 * C * (all * T * qkv + rows * (wide + 3 * F)) + 2 * S * C * (double)t->V;
    double attention = all * 4 * wide * pairs;
    struct work w = {.model = products * (2 + base_trains) + attention * 3};
    if (c->gradient_checkpointing == LCL_CHECKPOINT_LAYERS)
        w.again = products - 2 * S * C * (double)t->V + attention;
    if (c->gradient_checkpointing == LCL_CHECKPOINT_MLP) w.again = 2 * C * rows * (wide + 2 * F);
    return w;
}

/* Of a step with batches as those of s, in the mean; with as many as a step has: of that step. */
static struct work step_work(struct lcl_env *e, const struct lcl_config *c, const struct sample *s,
                             const struct lcl_pass_limits *with)
{
    const struct lcl_model_config *m = &e->model.config;
    const struct training vision = training_of(&e->model, LCL_PART_VISION);
    const struct training projector = training_of(&e->model, LCL_PART_PROJECTOR);
    const struct training text = training_of(&e->model, LCL_PART_TEXT);
    double steps = (double)s->n / (double)(c->lanes * c->gradient_accumulation_steps);
    double I = s->images / steps, rows = I * (double)lcl_tokens_per_image(m),
           features = I * (double)lcl_feature_rows(m);
    double patches = I * (double)lcl_vision_tokens(&m->vision), T = s->tokens / steps;
    struct work w = {0};
    if (with->with_vision) {
        w = tower_work(m, c, I, vision);
        w.model += adapter_work(&e->model, LCL_PART_VISION, patches, 0);
    }
    if (!with->with_text) {
        w.model += 6 * I * (double)m->vision.C * (double)m->n_classes;
        return w;
    }
    struct work decoder =
        text_work(&m->text, c, T, s->supervised / steps, s->pairs / steps, text.base);
    w.model += decoder.model +
               (m->projector == LCL_PROJECTOR_QFORMER
                    ? qformer_work(m, I, projector, vision.trains)
                    : projector_work(m, rows, projector, vision.trains)) +
               adapter_work(&e->model, LCL_PART_PROJECTOR, rows, features) +
               adapter_work(&e->model, LCL_PART_TEXT, T, 0);
    w.again += decoder.again;
    return w;
}

/* Forwards of the tower for one new neighbor table. */
static double refresh_work(const struct lcl_env *e, const struct lcl_config *c)
{
    if (!e->has_pack || lcl_refresh_count(c, (double)c->max_steps) == 0) return 0;
    const struct lcl_model_config *m = &e->model.config;
    double I = (double)lcl_refresh_pictures(&e->pack, c);
    double rows = I * (double)lcl_vision_tokens(&m->vision);
    double adapters = adapter_work(&e->model, LCL_PART_VISION, rows, 0) / 3; /* they train */
    return tower_work(m, c, I, (struct training){0}).model + adapters;
}

static void plan_work(struct lcl_env *e, const struct lcl_config *c, const struct sample *s,
                      struct lcl_plan *p)
{
    static float some_grad;
    struct lcl_pass pass = lcl_step_pass(&e->exec, &e->model, c, &some_grad);
    double lanes = (double)(c->lanes * c->gradient_accumulation_steps), n = (double)s->n;
    struct work w = step_work(e, c, s, &p->largest);
    p->tokens = s->tokens / n * lanes;
    p->images = s->images / n * lanes;
    p->flops = w.model + w.again;
    p->model_flops = w.model;
    struct lcl_pass_limits mean = p->largest;
    mean.T = (int64_t)(s->tokens / n);
    mean.images = (int64_t)(s->images / n);
    mean.S = (int64_t)(s->supervised / n);
    p->pass_bytes = (double)lcl_pass_bytes(&pass, &mean) * lanes;
    p->refresh_flops = refresh_work(e, c);
}

double lcl_plan_step_flops(struct lcl_env *e, const struct lcl_config *c,
                           const struct lcl_lane *lane, int64_t n)
{
    struct sample s = {0};
    struct lcl_pass_limits with = {0};
    set_with(c, &with);
    for (int64_t i = 0; i < n; i++)
        if (c->task == LCL_TASK_VISION) {
            s.n++;
            s.images += (double)lane[i].n_pictures;
        } else {
            count_batch(&s, lane[i].batch);
        }
    return step_work(e, c, &s, &with).model;
}

lcl_status lcl_plan_stage(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                          int64_t batches, struct lcl_plan *p)
{
    struct sample s = {0};
    *p = (struct lcl_plan){0};
    lcl_step_set_trainable(&e->model.params, c);
    LCL_TRY(sample_stage(e, c, epoch, batches, p, &s));
    p->largest = s.most;
    LCL_TRY(plan_memory(e, c, &s, p));
    plan_work(e, c, &s, p);
    return LCL_OK;
}
