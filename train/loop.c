/* Long: the order in which a run does things is in one place. */
#include "train/loop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"
#include "core/log.h"
#include "train/device.h"
#include "train/eval.h"
#include "train/metrics.h"
#include "train/output.h"
#include "train/pace.h"
#include "train/plan.h"
#include "train/profile_run.h"
#include "train/ranks.h"
#include "train/refresh.h"
#include "train/saving.h"
#include "train/stage_check.h"
#include "train/stop.h"
#include "train/summary.h"

/* Sums since the last line of metrics: they are part of a checkpoint, so that early ends fall on
 * the same step after a resume. */
struct interval {
    double loss, weight;
    int64_t label_correct, label_total;
    int64_t tokens, samples, steps; /* of rates: not part of a checkpoint */
    double start_s;
    struct lcl_pace pace; /* of this rank's steps */
};

struct loop {
    struct lcl_run_config
        *run; /* a copy: num_train_epochs becomes max_steps once the pack is known */
    struct lcl_env env;
    struct lcl_trainer *trainer; /* of the stage that runs; NULL: none */
    struct lcl_features features;
    struct lcl_pictures pictures;
    bool has_features, has_pictures;
    struct lcl_augment augment; /* what features and pictures were opened with */
    struct lcl_metrics *metrics;
    struct lcl_profile_run profile;
    int64_t profile_steps; /* of the first stage that runs; 0: none, or begun */
    int lock;              /* held on output_dir; -1: not yet */
    char *yaml;
    int64_t stage, stage_step, step, adam_step, tokens;
    double best;          /* metric of the best checkpoint; NAN: none */
    double last_accuracy; /* of the last evaluation in training; NAN: none */
    struct lcl_saving saving;
    int64_t refreshed_step; /* after which the neighbor table was made anew; -1: never */
    struct interval interval;
    double stage_start_s;
    bool stage_done, ended_early;
    bool evaluation_due; /* a signal stopped the evaluation after this step */
};

static const struct lcl_config *config_of(const struct loop *l)
{
    return &l->run->stages[l->stage];
}

static const char *stage_name(const struct loop *l)
{
    const char *name = config_of(l)->stage_name;
    return name[0] ? name : "train";
}

static bool is_first_rank(const struct loop *l) { return lcl_comm_rank(l->env.comm) == 0; }

static char *features_dir(const struct lcl_config *c)
{
    return lcl_strdupf("%s.features", lcl_config_source(c));
}

static lcl_status resolve_yaml(struct loop *l)
{
    size_t size;
    FILE *f = open_memstream(&l->yaml, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for the resolved config");
    lcl_status status = lcl_config_write_yaml(l->run, f);
    if (fclose(f) != 0 && status == LCL_OK)
        status = LCL_FAIL(LCL_MEMORY, "no memory for the config");
    return status;
}

/* ---- checkpoints ---- */

enum { EVALUATION_DUE = 4 }; /* a bit of stage_done in the file; below it 1: done, 2: early */

static lcl_status save(struct loop *l, bool is_best)
{
    if (l->saving.begun_step == l->step) return LCL_OK;
    char *extra = lcl_strdupf(
        "{\"adam_step\": %lld, \"loss\": \"%a\", \"weight\": \"%a\", \"label_correct\": %lld, "
        "\"label_total\": %lld, \"stage_done\": %d, \"refreshed_step\": %lld}",
        (long long)l->adam_step, l->interval.loss, l->interval.weight,
        (long long)l->interval.label_correct, (long long)l->interval.label_total,
        l->stage_done + l->ended_early + (l->evaluation_due ? EVALUATION_DUE : 0),
        (long long)l->refreshed_step);
    if (!extra) return LCL_FAIL(LCL_MEMORY, "no memory for a checkpoint's state");
    struct lcl_run_state s = {.step = l->step,
                              .stage = l->stage,
                              .stage_step = l->stage_step,
                              .epoch = l->stage,
                              .sample = l->stage_step * lcl_step_samples(config_of(l)),
                              .tokens = l->tokens,
                              .seed = (uint64_t)config_of(l)->seed,
                              .best_metric = l->best,
                              .config_yaml = l->yaml,
                              .extra_json = extra,
                              .neighbors = l->env.refreshed.index,
                              .neighbor_classes = l->env.refreshed.n_classes,
                              .neighbor_width = l->env.refreshed.width};
    lcl_status status = lcl_metrics_sync(l->metrics);
    if (status == LCL_OK) status = lcl_saving_begin(&l->saving, &l->env, config_of(l), &s, is_best);
    free(extra);
    return status;
}

static lcl_status restore(struct loop *l, const char *from)
{
    char path[LCL_CHECKPOINT_PATH_BYTES];
    struct lcl_run_state_loaded s;
    const struct lcl_checkpoint_share share = {.comm = l->env.comm};
    LCL_TRY(lcl_checkpoint_find_shared(share.comm, from, path, sizeof path));
    LCL_TRY(lcl_checkpoint_load_shared(path, &l->env.model.params, true, &share, &s));
    long long adam = 0, correct = 0, total = 0, refreshed = -1;
    int done = 0;
    bool read = sscanf(s.state.extra_json,
                       "{\"adam_step\": %lld, \"loss\": \"%la\", \"weight\": \"%la\", "
                       "\"label_correct\": %lld, "
                       "\"label_total\": %lld, \"stage_done\": %d, \"refreshed_step\": %lld}",
                       &adam, &l->interval.loss, &l->interval.weight, &correct, &total, &done,
                       &refreshed) >= 6; /* older checkpoints lack the last */
    bool fits = s.state.stage < l->run->n_stages && s.state.stage >= 0;
    l->step = s.state.step;
    lcl_saving_resume(&l->saving, l->step);
    l->stage = fits ? s.state.stage : 0;
    l->stage_step = s.state.stage_step;
    l->tokens = s.state.tokens;
    l->best = s.state.best_metric;
    l->adam_step = adam;
    l->refreshed_step = refreshed;
    l->interval.label_correct = correct;
    l->interval.label_total = total;
    l->evaluation_due = done & EVALUATION_DUE;
    done &= ~EVALUATION_DUE;
    l->ended_early = done == 2;
    /* Steps may have been added to a stage that had run all of its own. */
    l->stage_done = l->ended_early || (done == 1 && l->stage_step >= config_of(l)->max_steps);
    bool same = strcmp(s.state.config_yaml, l->yaml) == 0;
    lcl_status status = lcl_refresh_restore(&l->env, &s.state, path);
    lcl_run_state_free(&s);
    LCL_TRY(status);
    if (!read || !fits)
        return LCL_FAIL_HINT(LCL_FORMAT, "use --force to begin anew",
                             "%s was not written by this config", path);
    if (!same) lcl_log_warn("the config has changed since %s was written", path);
    lcl_params_changed(&l->env.model.params);
    lcl_log_info("resumed from %s: step %lld, stage %s", path, (long long)l->step, stage_name(l));
    return LCL_OK;
}

/* ---- a stage's data ---- */

static void close_pictures(struct loop *l)
{
    if (l->has_features) lcl_features_close(&l->features);
    if (l->has_pictures) lcl_pictures_close(&l->pictures);
    l->has_features = l->has_pictures = false;
}

static bool standardize_is_fresh(const struct lcl_model *m)
{
    const struct lcl_param *inv = &m->params.rows[m->rows.std_inv];
    const float *value = lcl_param_value(&m->params, inv);
    for (size_t i = 0; i < inv->count; i++)
        if (value[i] != 1.0f) return false;
    return true;
}

static lcl_status open_features(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    if (l->has_features && l->features.views == c->data_augment_views) return LCL_OK;
    close_pictures(l);
    char *dir = features_dir(c);
    if (!dir) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_features_open(&l->features, &l->env, c, c->data_augment_views, dir);
    free(dir);
    l->has_features = status == LCL_OK;
    return status;
}

/* The constants of mm_standardize: measured once, before the projector first trains. */
static lcl_status standardize(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    struct lcl_features measured;
    if (c->task != LCL_TASK_LINK_CONTEXT || !l->env.model.config.standardize ||
        !standardize_is_fresh(&l->env.model))
        return LCL_OK;
    if (l->has_features) return lcl_features_standardize(&l->features, &l->env);
    LCL_TRY(lcl_features_open(&measured, &l->env, c, c->data_augment_views, NULL));
    lcl_status status = lcl_features_standardize(&measured, &l->env);
    lcl_features_close(&measured);
    return status;
}

/* Pictures or cached features of the stage; kept from one stage to the next where the same serve.
 */
static lcl_status open_pictures(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    struct lcl_augment augment = {(uint64_t)c->seed, c->classifier_shift, c->classifier_jitter};
    if (c->task == LCL_TASK_LANGUAGE) return LCL_OK;
    if (strcmp(l->env.sources.text, c->data_sources) != 0) {
        close_pictures(l);
        LCL_TRY(lcl_env_open_sources(&l->env, c));
    }
    if (augment.seed != l->augment.seed || augment.shift != l->augment.shift ||
        augment.jitter != l->augment.jitter)
        close_pictures(l);
    l->augment = augment;
    if (lcl_plan_caches_features(c)) {
        LCL_TRY(open_features(l));
    } else if (!l->has_pictures) {
        close_pictures(l);
        LCL_TRY(lcl_pictures_open(&l->pictures, &l->env.pack, &l->env.preprocess, c));
        l->has_pictures = true;
        for (int i = 0; i < l->env.sources.n; i++)
            if (l->env.sources.source[i].pack.n_images > 0)
                LCL_TRY(lcl_pictures_add(&l->pictures, &l->env.sources.source[i].pack, c));
    }
    return standardize(l);
}

/* ---- evaluation and metrics in training ---- */

static lcl_status evaluate(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    enum { MOST = sizeof c->eval_shots.v / sizeof *c->eval_shots.v };
    double sum = 0, greedy[MOST], likelihood[MOST];
    int n = c->eval_shots.n;
    LCL_TRY(lcl_trainer_whole(l->trainer));
    for (int i = 0; i < n; i++) {
        struct lcl_eval_request q = {.shots = c->eval_shots.v[i],
                                     .episodes = c->eval_episodes,
                                     .greedy = true,
                                     .likelihood = true};
        struct lcl_eval_outcome o;
        LCL_TRY(lcl_eval_run(&l->env, c, l->has_features ? &l->features : NULL, &q, &o));
        greedy[i] = o.greedy.mean;
        likelihood[i] = o.likelihood.mean;
        lcl_eval_outcome_free(&o);
    }
    for (int i = 0; i < n; i++) { /* once it is whole: one that was stopped leaves no lines */
        struct lcl_metric values[] = {{"shots", (double)c->eval_shots.v[i]},
                                      {"greedy", greedy[i]},
                                      {"likelihood", likelihood[i]},
                                      {"episodes", (double)c->eval_episodes}};
        LCL_TRY(lcl_metrics_log(l->metrics, "eval", stage_name(l), l->step, values, 4));
        sum += likelihood[i];
    }
    l->last_accuracy = sum / n;
    return LCL_OK;
}

/* Logs the interval and tells whether the stage may end early. */
static lcl_status log_interval(struct loop *l, const struct lcl_step_result *r)
{
    const struct lcl_config *c = config_of(l);
    struct interval *v = &l->interval;
    double now = lcl_time_s(), elapsed = fmax(now - v->start_s, 1e-9);
    double loss = v->loss / v->weight;
    double accuracy = v->label_total ? (double)v->label_correct / (double)v->label_total : NAN;
    double left = (double)(c->max_steps - l->stage_step) * elapsed / (double)v->steps;
    struct lcl_pace_summary pace;
    LCL_TRY(lcl_pace_gather(l->env.comm, &v->pace, &pace));
    lcl_pace_tell(l->env.comm, &pace);
    struct lcl_metric values[] = {{"loss", loss},
                                  {"label_accuracy", accuracy},
                                  {"lr", r->lr},
                                  {"grad_norm", r->grad_norm},
                                  {"tokens_per_s", (double)v->tokens / elapsed},
                                  {"samples_per_s", (double)v->samples / elapsed},
                                  {"memory_bytes", lcl_plan_resident_bytes()},
                                  {"eta_s", left},
                                  {"save_s", lcl_saving_stalled_s(&l->saving)},
                                  {"seconds", now - l->stage_start_s},
                                  {"compute_s", pace.median.compute_s},
                                  {"wait_s", pace.median.wait_s},
                                  {"slowest_s", pace.slowest_s},
                                  {"slowest_rank", pace.slowest}};
    const size_t n = sizeof values / sizeof *values, of_ranks = 4;
    LCL_TRY(lcl_ranks_log(l->env.comm, v->steps, l->metrics, stage_name(l), l->step, values,
                          l->env.comm ? n : n - of_ranks));
    bool early = (c->stop_at_loss > 0 && loss < c->stop_at_loss) ||
                 (c->stop_at_accuracy > 0 && accuracy > c->stop_at_accuracy);
    l->ended_early = early && l->stage_step >= c->min_steps && l->stage_step < c->max_steps;
    l->stage_done = l->stage_done || l->ended_early;
    *v = (struct interval){.start_s = now};
    return LCL_OK;
}

/* ---- the loop ---- */

/* The newest checkpoint whose parameters gave a finite loss; one saved just before the loss broke
 * holds the parameters that broke it. */
static void name_good_checkpoint(const struct loop *l, char *text, size_t n)
{
    const int64_t good = l->saving.good_step, saved = l->saving.saved_step;
    char *path = lcl_strdupf("%s/checkpoint-%lld", config_of(l)->output_dir, (long long)good);
    bool there = good >= 0 && path && lcl_fs_exists(path);
    int used =
        there ? snprintf(text, n, "checkpoint-%lld", (long long)good) : snprintf(text, n, "none");
    free(path);
    if (saved == l->step && saved != good && used > 0 && (size_t)used < n)
        snprintf(text + used, n - (size_t)used,
                 " (checkpoint-%lld holds the parameters that failed)", (long long)saved);
}

static void note_step(const struct loop *l)
{
    char good[160];
    if (!l->env.comm) return;
    name_good_checkpoint(l, good, sizeof good);
    lcl_comm_note(l->env.comm, "step %lld of stage %s, last good checkpoint: %s",
                  (long long)(l->step + 1), stage_name(l), good);
}

static lcl_status one_step(struct loop *l, struct lcl_trainer *t, struct lcl_step_result *r)
{
    note_step(l);
    LCL_TRY(lcl_profile_run_before(&l->profile, l->step + 1));
    lcl_status status =
        lcl_trainer_step(t, l->stage_step, config_of(l)->max_steps, l->adam_step + 1, r);
    if (status == LCL_OK) status = lcl_profile_run_after(&l->profile, r->tokens);
    if (r->stop_signal) lcl_stop_signal = r->stop_signal;
    if (status == LCL_NUMERIC && !l->env.comm) { /* ranks have it in their note */
        char good[160];
        status = lcl_saving_finish_after(&l->saving, status);
        name_good_checkpoint(l, good, sizeof good);
        return lcl_fail_context(status, "step %lld of stage %s, last good checkpoint: %s",
                                (long long)(l->step + 1), stage_name(l), good);
    }
    LCL_TRY(status);
    lcl_saving_proved(&l->saving);
    l->stage_step++;
    l->step++;
    l->adam_step++;
    l->tokens += r->tokens;
    l->interval.loss += r->loss * r->weight;
    l->interval.weight += r->weight;
    l->interval.label_correct += r->label_correct;
    l->interval.label_total += r->label_total;
    l->interval.tokens += r->tokens;
    l->interval.samples += r->samples;
    l->interval.steps++;
    l->interval.pace.compute_s += r->compute_s;
    l->interval.pace.wait_s += r->wait_s;
    return LCL_OK;
}

static lcl_status log_stage(struct loop *l)
{
    struct lcl_metric values[] = {{"steps", (double)l->stage_step},
                                  {"seconds", lcl_time_s() - l->stage_start_s}};
    return lcl_metrics_log(l->metrics, "stage", stage_name(l), l->step, values, 2);
}

/* After a step's metrics: evaluation, checkpoint. The order matters for resume: lines of a step are
 * written before its checkpoint. An evaluation that a signal stops is made anew after a resume. */
static lcl_status finish_step(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    bool was_due = l->evaluation_due;
    l->evaluation_due = false;
    if (c->eval_steps > 0 && c->task == LCL_TASK_LINK_CONTEXT &&
        (l->stage_step % c->eval_steps == 0 || l->stage_done)) {
        lcl_status status = evaluate(l);
        l->evaluation_due = status == LCL_INTERRUPTED;
        if (l->evaluation_due) {
            lcl_log_info("the evaluation after step %lld was stopped: a resumed run makes it anew",
                         (long long)l->step);
            return save(l, false);
        }
        LCL_TRY(status);
    }
    if (l->stage_done) LCL_TRY(log_stage(l));
    bool due = c->save_steps > 0 && l->stage_step % c->save_steps == 0;
    if (!due && !l->stage_done && !lcl_stop_signal && !was_due) return LCL_OK;
    bool best = isfinite(l->last_accuracy) && !(l->last_accuracy <= l->best);
    if (best) l->best = l->last_accuracy;
    if (was_due) l->saving.begun_step = -1; /* its checkpoint says that the evaluation is due */
    return save(l, best);
}

static lcl_status after_step(struct loop *l, const struct lcl_step_result *r)
{
    const struct lcl_config *c = config_of(l);
    bool last = l->stage_step >= c->max_steps;
    if (l->stage_step % c->logging_steps == 0 || last) LCL_TRY(log_interval(l, r));
    l->stage_done = l->stage_done || last;
    return finish_step(l);
}

static void progress_note(const struct loop *l, const struct lcl_step_result *r, char *note,
                          size_t n)
{
    double accuracy =
        r->label_total ? 100.0 * (double)r->label_correct / (double)r->label_total : NAN;
    double rate = (double)l->interval.tokens / fmax(lcl_time_s() - l->interval.start_s, 1e-9);
    int used = snprintf(note, n, "loss %.3f", r->loss);
    if (r->label_total && used > 0)
        used += snprintf(note + used, n - (size_t)used, "  label accuracy %.0f %%", accuracy);
    if (l->interval.tokens > 0 && used > 0)
        snprintf(note + used, n - (size_t)used, "  %.1fk tokens/s", rate / 1000);
}

/* Before the step that first draws from the new table, whose number its line of metrics has: a run
 * resumed from the checkpoint of the step before makes table and line again. */
static lcl_status refresh(struct loop *l, struct lcl_trainer *t)
{
    struct lcl_refresh r;
    if (!lcl_refresh_is_due(config_of(l), l->stage_step) || l->refreshed_step == l->step)
        return LCL_OK;
    LCL_TRY(lcl_trainer_whole(t));
    lcl_status status = lcl_refresh_neighbors(&l->env, config_of(l), &r);
    if (status == LCL_INTERRUPTED) return save(l, false);
    LCL_TRY(status);
    l->refreshed_step = l->step;
    LCL_TRY(lcl_source_renew_draws(&t->source));
    struct lcl_metric values[] = {{"new_share", r.new_share}, {"seconds", r.seconds}};
    lcl_log_info(
        "neighbors from step %lld on: %.0f %% of the %d hardest of a class are new; %.1f s",
        (long long)(l->step + 1), 100 * r.new_share, LCL_REFRESH_HARDEST, r.seconds);
    return lcl_metrics_log(l->metrics, "neighbors", stage_name(l), l->step + 1, values, 2);
}

static lcl_status run_stage(struct loop *l)
{
    const struct lcl_config *c = config_of(l);
    struct lcl_trainer trainer = {0};
    struct lcl_step_result r = {0};
    struct lcl_progress progress;
    char note[128] = "";
    LCL_TRY(open_pictures(l));
    LCL_TRY(lcl_trainer_open(&trainer, &l->env, c, (uint32_t)l->stage,
                             l->has_features ? &l->features : NULL,
                             l->has_pictures ? &l->pictures : NULL));
    l->trainer = &trainer;
    lcl_summary_print_trainable(&l->env.model);
    lcl_status status =
        lcl_profile_run_open(&l->profile, &trainer, l->profile_steps, l->run->stages[0].output_dir);
    l->profile_steps = 0;
    l->stage_start_s = l->interval.start_s = lcl_time_s();
    lcl_progress_begin(&progress, stage_name(l), "steps", c->max_steps);
    progress.base = l->stage_step;
    if (status == LCL_OK && l->evaluation_due) status = finish_step(l);
    while (status == LCL_OK && !l->stage_done && l->stage_step < c->max_steps && !lcl_stop_signal) {
        status = lcl_saving_poll(&l->saving);
        if (status == LCL_OK) status = refresh(l, &trainer);
        if (status != LCL_OK || lcl_stop_signal) break;
        status = one_step(l, &trainer, &r);
        if (status == LCL_OK) progress_note(l, &r, note, sizeof note);
        if (status == LCL_OK) status = after_step(l, &r);
        lcl_progress_update(&progress, l->stage_step, note);
    }
    lcl_progress_end(&progress, note);
    if (status == LCL_OK) status = lcl_profile_run_end(&l->profile);
    lcl_profile_run_close(&l->profile);
    if (status == LCL_OK) status = lcl_trainer_whole(&trainer);
    lcl_trainer_close(&trainer);
    l->trainer = NULL;
    if (status == LCL_OK && c->stop_at_accuracy > 0 && l->stage_step >= c->max_steps &&
        !l->ended_early)
        lcl_log_warn("stage %s took all of its %lld steps and did not reach stop_at_accuracy %g",
                     stage_name(l), (long long)c->max_steps, c->stop_at_accuracy);
    return status;
}

static bool same_parts_train(const struct lcl_config *a, const struct lcl_config *b)
{
    return a->task == b->task && a->freeze_vision_tower == b->freeze_vision_tower &&
           a->freeze_projector == b->freeze_projector && a->freeze_text == b->freeze_text;
}

/* AdamW starts anew where other parameters begin to move: its bias correction counts their steps.
 */
static void forget_moments(struct loop *l)
{
    lcl_params_forget_moments(&l->env.model.params);
    l->adam_step = 0;
}

static lcl_status run_stages(struct loop *l)
{
    if (l->stage_done && !l->evaluation_due && l->stage + 1 == l->run->n_stages)
        lcl_log_info("%s is complete: raise max_steps to train on", config_of(l)->output_dir);
    for (;;) {
        if (!l->stage_done || l->evaluation_due) LCL_TRY(run_stage(l));
        if (lcl_stop_signal || l->stage + 1 >= l->run->n_stages) return LCL_OK;
        if (!same_parts_train(config_of(l), config_of(l) + 1)) forget_moments(l);
        l->stage++;
        l->stage_step = 0;
        l->stage_done = l->ended_early = false;
        l->interval = (struct interval){0};
    }
}

/* ---- beginning and end ---- */

static lcl_status prepare_output(struct loop *l, const struct lcl_train_options *o, bool resuming)
{
    const struct lcl_config *c = &l->run->stages[0];
    if (lcl_comm_rank(lcl_ranks()) != 0) return LCL_OK;
    if (c->output_dir[0] == '\0')
        return LCL_FAIL_HINT(LCL_CONFIG, "set output_dir: to a new folder",
                             "output_dir is not set");
    if (lcl_output_holds_run(c->output_dir) && !resuming && !o->force)
        return LCL_FAIL_HINT(LCL_EXISTS, "--resume goes on with it, --force begins anew",
                             "%s holds a run already", c->output_dir);
    if (o->profile > 0) LCL_TRY(lcl_profile_run_refuse_old(c->output_dir, o->force));
    return lcl_output_open(c->output_dir, &l->lock);
}

static bool run_has_task(const struct lcl_run_config *run, int task)
{
    for (int i = 0; i < run->n_stages; i++)
        if (run->stages[i].task == task) return true;
    return false;
}

static lcl_status open_all(struct loop *l, const char *resume)
{
    const struct lcl_config *c = &l->run->stages[0];
    bool resuming = resume[0] != '\0';
    if (run_has_task(l->run, LCL_TASK_VISION) || run_has_task(l->run, LCL_TASK_LINK_CONTEXT))
        LCL_TRY(lcl_env_open_data(&l->env, c));
    lcl_env_count_epochs(&l->env, l->run);
    LCL_TRY(lcl_stages_check(&l->env, l->run));
    LCL_TRY(lcl_env_make_model(&l->env, c, run_has_task(l->run, LCL_TASK_VISION)));
    LCL_TRY(lcl_refresh_check(&l->env, l->run));
    for (int i = 0; i < l->run->n_stages; i++)
        LCL_TRY(lcl_plan_check(&l->env, &l->run->stages[i], (uint32_t)i));
    LCL_TRY(resolve_yaml(l));
    const char *from = strcmp(resume, "auto") == 0 ? c->output_dir : resume;
    if (resuming && strcmp(resume, "auto") == 0 && !lcl_checkpoint_is_folder(from)) {
        lcl_log_info("%s has no checkpoint yet: training begins anew", c->output_dir);
        resuming = false;
    }
    if (resuming) LCL_TRY(restore(l, from));
    LCL_TRY(lcl_comm_barrier(l->env.comm, "the beginning of the run"));
    LCL_TRY(lcl_profile_run_check(stage_name(l), l->profile_steps,
                                  l->stage_done ? 0 : config_of(l)->max_steps - l->stage_step));
    if (!is_first_rank(l)) return LCL_OK;
    if (!resuming) LCL_TRY(lcl_output_empty(c->output_dir));
    LCL_TRY(lcl_output_set_finished(c->output_dir, false));
    LCL_TRY(lcl_fs_write_text(c->output_dir, "config.yaml", l->yaml));
    LCL_TRY(lcl_tokenizer_save(l->env.tokenizer, c->output_dir));
    return lcl_metrics_open(c->output_dir, resuming ? l->step : -1, l->evaluation_due, &l->metrics);
}

lcl_status lcl_train_run(const struct lcl_run_config *run, const struct lcl_train_options *options,
                         bool *interrupted)
{
    const struct lcl_config *c = &run->stages[0];
    const char *resume = options->resume ? options->resume : c->resume_from_checkpoint;
    struct loop *l = calloc(1, sizeof *l);
    if (l) l->run = malloc(sizeof *l->run);
    if (!l || !l->run) {
        free(l);
        return LCL_FAIL(LCL_MEMORY, "no memory for a run");
    }
    *l->run = *run;
    l->env = (struct lcl_env){.stages = l->run->stages, .n_stages = l->run->n_stages};
    l->lock = -1;
    l->profile_steps = options->profile;
    l->best = l->last_accuracy = NAN, l->refreshed_step = -1;
    lcl_ranks_configure(c);
    if (lcl_comm_rank(lcl_ranks()) != 0) l->profile_steps = 0;
    struct lcl_stop_handlers before;
    lcl_stop_begin(&before, lcl_ranks() != NULL);
    lcl_status status = lcl_saving_open(&l->saving);
    if (status == LCL_OK) status = prepare_output(l, options, resume[0] != '\0');
    if (status == LCL_OK) status = lcl_env_start(&l->env, c);
    if (status == LCL_OK) status = lcl_ranks_print(l->env.comm, lcl_device_name(&l->env.exec));
    if (status == LCL_OK) status = open_all(l, resume);
    if (status == LCL_OK) status = run_stages(l);
    if (status == LCL_INTERRUPTED) status = LCL_OK;
    status = status == LCL_OK ? lcl_saving_finish(&l->saving)
                              : lcl_saving_finish_after(&l->saving, status);
    if (status == LCL_OK && !lcl_stop_signal && is_first_rank(l)) /* stopped runs lack the file */
        status = lcl_output_set_finished(c->output_dir, true);
    *interrupted = lcl_stop_signal != 0 && status == LCL_OK;
    if (*interrupted)
        lcl_log_info("stopped by signal %d after step %lld; %s. --resume goes on.",
                     (int)lcl_stop_signal, (long long)l->step,
                     l->saving.saved_step == l->step ? "saved" : "nothing to save");
    lcl_saving_close(&l->saving);
    lcl_metrics_close(l->metrics);
    if (l->lock >= 0) close(l->lock);
    close_pictures(l);
    lcl_env_close(&l->env);
    free(l->yaml);
    free(l->run);
    free(l);
    lcl_stop_end(&before);
    return status;
}
