#include "train/lane.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/pack_rows.h"

static lcl_status list_train_pictures(struct lcl_source *s)
{
    const struct lcl_env *e = s->env;
    s->order = malloc((size_t)e->pack.n_images * sizeof *s->order);
    if (!s->order) return LCL_FAIL(LCL_MEMORY, "no memory for a list of pictures");
    for (int64_t i = 0; i < e->pack.n_images; i++)
        if (e->class_label[e->pack.image_class[i]] >= 0) s->order[s->n_order++] = (int32_t)i;
    if (s->n_order == 0) return LCL_FAIL(LCL_CONFIG, "%s has no train pictures", e->pack.path);
    s->order_pass = -1;
    return LCL_OK;
}

static void close_draws(struct lcl_source *s)
{
    if (s->has_samplers) lcl_samplers_close(&s->samplers);
    if (s->has_any_shot) lcl_any_shot_close(&s->any_shot);
    s->has_samplers = s->has_any_shot = false;
}

static lcl_status open_draws(struct lcl_source *s)
{
    struct lcl_env *e = s->env;
    const struct lcl_neighbors *neighbors = lcl_env_training_neighbors(e);
    if (s->config->data_strategy == LCL_ANY_SHOT) {
        LCL_TRY(lcl_row_sources_any_shot(&e->sources, s->config, &e->pack, neighbors,
                                         LCL_SPLIT_TRAIN, 0, &s->any_shot));
        s->has_any_shot = true;
        return LCL_OK;
    }
    LCL_TRY(lcl_samplers_open(&s->samplers, s->config, &e->pack, neighbors, &e->sources, true));
    s->has_samplers = true;
    return LCL_OK;
}

lcl_status lcl_source_open(struct lcl_source *s, struct lcl_env *e, const struct lcl_config *c,
                           uint32_t epoch, struct lcl_features *features,
                           struct lcl_pictures *pictures)
{
    *s = (struct lcl_source){
        .env = e, .config = c, .epoch = epoch, .features = features, .pictures = pictures};
    s->dealt_step = -1;
    if (c->balance == LCL_BALANCE_TOKENS && c->task == LCL_TASK_LINK_CONTEXT) {
        s->dealt = calloc((size_t)lcl_step_samples(c), sizeof *s->dealt);
        if (!s->dealt) return LCL_FAIL(LCL_MEMORY, "no memory for the samples of a step");
    }
    if (c->task == LCL_TASK_VISION) return list_train_pictures(s);
    if (c->task == LCL_TASK_LANGUAGE)
        return lcl_language_create(c, e->tokenizer, e->model.config.text.V, &s->language);
    LCL_TRY(lcl_env_open_sources(e, c));
    s->rules = lcl_conversation_rules_of(c, e->tokenizer);
    if (e->sources.n > 0) {
        LCL_TRY(lcl_mixture_open(&s->mixture, c, &e->sources, epoch));
        s->has_mixture = true;
    }
    return open_draws(s);
}

lcl_status lcl_source_renew_draws(struct lcl_source *s)
{
    s->dealt_step = -1;
    close_draws(s);
    return open_draws(s);
}

void lcl_source_close(struct lcl_source *s)
{
    if (s->has_mixture) lcl_mixture_close(&s->mixture);
    close_draws(s);
    lcl_language_free(s->language);
    free(s->order);
    free(s->dealt);
    *s = (struct lcl_source){0};
}

lcl_status lcl_lane_create(struct lcl_lane *lane, const struct lcl_source *s)
{
    size_t n = (size_t)s->config->per_device_train_batch_size;
    *lane = (struct lcl_lane){0};
    if (s->config->task == LCL_TASK_VISION) {
        lane->picture = malloc(n * sizeof *lane->picture);
        lane->view = malloc(n * sizeof *lane->view);
        lane->label = malloc(n * sizeof *lane->label);
        if (!lane->picture || !lane->view || !lane->label)
            return LCL_FAIL(LCL_MEMORY, "no memory for a lane");
        return LCL_OK;
    }
    return lcl_batch_builder_for(s->config, s->env->tokenizer,
                                 lcl_tokens_per_image(&s->env->model.config), &lane->builder);
}

void lcl_lane_free(struct lcl_lane *lane)
{
    if (lane->builder) lcl_batch_builder_free(lane->builder);
    free(lane->picture);
    free(lane->view);
    free(lane->label);
    lcl_picture_buffer_free(&lane->pictures);
    free(lane->features);
    free(lane->argmax);
    *lane = (struct lcl_lane){0};
}

static lcl_status reserve_results(struct lcl_lane *lane, int64_t n)
{
    size_t wanted = (size_t)n + (size_t)n / 4 + 1;
    if (lane->argmax_cap >= (size_t)n) return LCL_OK;
    free(lane->argmax);
    lane->argmax = malloc(wanted * sizeof *lane->argmax);
    lane->argmax_cap = lane->argmax ? wanted : 0;
    return lane->argmax ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for %zu answers", wanted);
}

/* Picture number k of an endless stream of shuffled passes over the train pictures. */
static lcl_status nth_picture(struct lcl_source *s, int64_t k, int64_t *picture, int32_t *view)
{
    int64_t pass = k / s->n_order;
    if (pass != s->order_pass) { /* from sorted order each time: a function of the pass alone */
        const struct lcl_env *e = s->env;
        int64_t n = 0;
        for (int64_t i = 0; i < e->pack.n_images; i++)
            if (e->class_label[e->pack.image_class[i]] >= 0) s->order[n++] = (int32_t)i;
        struct lcl_rng rng =
            lcl_rng_stream((uint64_t)s->config->seed, LCL_RNG_SHUFFLE, s->epoch, (uint64_t)pass);
        lcl_rng_shuffle(&rng, s->order, s->n_order);
        s->order_pass = pass;
    }
    *picture = s->order[k % s->n_order];
    *view = (int32_t)pass + 1;
    return LCL_OK;
}

static lcl_status fill_vision(struct lcl_lane *lane, struct lcl_source *s, int64_t first)
{
    int64_t n = s->config->per_device_train_batch_size;
    for (int64_t i = 0; i < n; i++) {
        LCL_TRY(nth_picture(s, first + i, &lane->picture[i], &lane->view[i]));
        lane->label[i] = s->env->class_label[s->env->pack.image_class[lane->picture[i]]];
    }
    lane->n_pictures = n;
    lane->weight = (double)n;
    LCL_TRY(reserve_results(lane, n));
    lane->tokens = n * lcl_vision_tokens(&s->env->model.config.vision);
    return lcl_pictures_batch(s->pictures, lane->picture, lane->view, n, &lane->pictures,
                              &lane->images);
}

static lcl_status append_episode(struct lcl_lane *lane, const struct lcl_source *s, uint64_t sample,
                                 double progress)
{
    struct lcl_episode episode = {0};
    const struct lcl_mixture *mixture = s->has_mixture ? &s->mixture : NULL;
    LCL_TRY(lcl_sampler_draw(lcl_samplers_of(&s->samplers, mixture, sample), s->epoch, sample,
                             progress, &episode));
    lcl_status status = lcl_batch_append_episode(lane->builder, &episode, LCL_ENCODE_TRAIN,
                                                 (enum lcl_supervise)s->config->data_supervise,
                                                 NULL, s->config->model_max_length);
    lcl_episode_free(&episode);
    return status;
}

/* Turns that do not fit are left out from the last on, where data.too_long does not refuse. */
static lcl_status append_any_shot(struct lcl_lane *lane, struct lcl_source *s, uint64_t sample,
                                  double progress)
{
    struct lcl_any_turns turns;
    struct lcl_conversation_rules rules = s->rules;
    enum lcl_appended what = LCL_LEFT_OUT;
    lcl_status status;
    if (rules.too_long == LCL_LONG_SHORTEN) rules.too_long = LCL_LONG_DROP;
    LCL_TRY(lcl_any_shot_draw(&s->any_shot, s->epoch, sample, progress, &turns));
    int all = turns.n;
    for (;;) {
        LCL_TRY_GOTO(
            lcl_batch_append_conversation(lane->builder, &turns.conversation, &rules, &what));
        if (what != LCL_LEFT_OUT || turns.n < 2) break;
        lcl_any_turns_drop_last(&turns);
    }
    if (what == LCL_LEFT_OUT)
        status = LCL_FAIL_HINT(LCL_RANGE, "raise model_max_length (0: no limit)",
                               "sample %llu: a single turn is over model_max_length",
                               (unsigned long long)sample);
    s->n_shortened += turns.n < all;
out:
    lcl_any_turns_free(&turns);
    return status;
}

/* A row as a conversation; one that is left out gives its place to another of its pack. */
static lcl_status append_row(struct lcl_lane *lane, struct lcl_source *s, uint64_t sample,
                             int source, int64_t row)
{
    enum { MOST_ATTEMPTS = 100 };
    const struct lcl_row_source *from = &s->env->sources.source[source];
    enum lcl_appended what = LCL_LEFT_OUT;
    for (int attempt = 0; what == LCL_LEFT_OUT; attempt++) {
        struct lcl_conversation c;
        json_t *owner;
        if (attempt > MOST_ATTEMPTS)
            return LCL_FAIL_HINT(LCL_RANGE, "raise model_max_length",
                                 "%s: %d rows drawn one after another are too long",
                                 from->pack.path, MOST_ATTEMPTS);
        if (attempt) row = lcl_mixture_redraw(&s->mixture, sample, source, attempt);
        LCL_TRY(lcl_pack_conversation(&from->pack, row, from->first_picture, &c, &owner));
        lcl_status status = lcl_batch_append_conversation(lane->builder, &c, &s->rules, &what);
        lcl_pack_conversation_free(&c, owner);
        LCL_TRY(status);
        s->n_left_out += what == LCL_LEFT_OUT;
        s->n_shortened += what == LCL_APPENDED_SHORTER;
    }
    return LCL_OK;
}

static lcl_status append_sample(struct lcl_lane *lane, struct lcl_source *s, uint64_t sample,
                                double progress)
{
    int source = -1;
    int64_t row = 0;
    if (s->has_mixture) lcl_mixture_draw(&s->mixture, sample, &source, &row);
    if (source >= 0) return append_row(lane, s, sample, source, row);
    return s->has_any_shot ? append_any_shot(lane, s, sample, progress)
                           : append_episode(lane, s, sample, progress);
}

/* Once a stage: rotary positions that the model was not made for work, but it has not learned them.
 */
static void warn_of_positions(struct lcl_source *s, const struct lcl_batch *b)
{
    int64_t most = s->env->model.config.text.max_positions, last = -1;
    for (int64_t t = 0; t < b->T && !s->warned_of_positions; t++)
        if (b->position_T[t] > last) last = b->position_T[t];
    if (last < most) return;
    lcl_log_warn("an episode is %lld tokens long, the model was made for "
                 "max_position_embeddings %lld",
                 (long long)(last + 1), (long long)most);
    s->warned_of_positions = true;
}

/* Sample i of a lane of the step. */
static uint64_t sample_of(const struct lcl_source *s, int64_t step, int64_t index, int64_t i)
{
    const struct lcl_config *c = s->config;
    if (!s->dealt || s->dealt_step != step) return lcl_sample_number(c, step, index, i);
    return lcl_sample_number(c, step, 0, 0) +
           (uint64_t)s->dealt[index * c->per_device_train_batch_size + i];
}

lcl_status lcl_lane_count(struct lcl_lane *lane, struct lcl_source *s, int64_t step,
                          int64_t n_steps, int64_t index, int64_t *tokens)
{
    const double progress = n_steps > 0 ? (double)step / (double)n_steps : 0;
    const int64_t n_shortened = s->n_shortened, n_left_out = s->n_left_out;
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < s->config->per_device_train_batch_size && status == LCL_OK; i++) {
        lcl_batch_builder_reset(lane->builder);
        status = append_sample(lane, s, lcl_sample_number(s->config, step, index, i), progress);
        if (status == LCL_OK) tokens[i] = lcl_batch_builder_get(lane->builder)->T;
    }
    s->n_shortened = n_shortened; /* they are told of when the lane is filled */
    s->n_left_out = n_left_out;
    return status;
}

lcl_status lcl_lane_fill(struct lcl_lane *lane, struct lcl_source *s, int64_t step, int64_t n_steps,
                         int64_t index)
{
    const struct lcl_config *c = s->config;
    int64_t n = c->per_device_train_batch_size;
    int64_t first = (int64_t)lcl_sample_number(c, step, index, 0);
    lane->samples = n;
    lane->loss_sum = 0;
    lane->label_correct = lane->label_total = 0;
    if (c->task == LCL_TASK_VISION) return fill_vision(lane, s, first);
    double progress = n_steps > 0 ? (double)step / (double)n_steps : 0;
    lcl_batch_builder_reset(lane->builder);
    for (int64_t i = 0; i < n; i++) {
        uint64_t sample = sample_of(s, step, index, i);
        LCL_TRY(c->task == LCL_TASK_LANGUAGE
                    ? lcl_language_append(s->language, s->epoch, sample, lane->builder)
                    : append_sample(lane, s, sample, progress));
    }
    const struct lcl_batch *b = lane->batch = lcl_batch_builder_get(lane->builder);
    warn_of_positions(s, b);
    lane->tokens = b->T;
    lane->weight = 0;
    for (int64_t i = 0; i < b->S; i++) lane->weight += (double)b->weight_S[i];
    if (!(lane->weight > 0))
        return LCL_FAIL_HINT(LCL_SHAPE, "use more shots, or data.supervise: last or all",
                             "no supervised tokens in samples %lld..%lld",
                             (long long)sample_of(s, step, index, 0),
                             (long long)sample_of(s, step, index, n - 1));
    LCL_TRY(reserve_results(lane, b->S));
    if (s->features || b->n_images == 0) return LCL_OK;
    return lcl_pictures_batch(s->pictures, b->image_I, b->view_I, b->n_images, &lane->pictures,
                              &lane->images);
}

lcl_status lcl_lane_gather(struct lcl_lane *lane, const struct lcl_source *s)
{
    const struct lcl_batch *b = lane->batch;
    if (!s->features || !b) return LCL_OK;
    LCL_TRY(lcl_features_gather(s->features, b, &lane->features, &lane->features_cap));
    lane->images = (struct lcl_images){.features = lane->features};
    return LCL_OK;
}
