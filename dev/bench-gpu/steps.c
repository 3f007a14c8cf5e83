/* Whole training steps: LLaVA-7B's widths with as many layers as the device holds, and the demo. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "dev/bench-gpu/bench.h"
#include "dev/bench/world.h"
#include "train/device.h"
#include "train/plan.h"
#include "train/profile.h"

enum { WARM_UP = 2, STEPS = 3, TABLE_ROWS = 16, LLAVA_VOCABULARY = 32000, VALUES = 1 << 16 };

static const char *const demo_sets[] = {"device=cuda", "init_from=", "data.pack=", NULL};
/* A dry run's shapes. */
static const char *const tiny_text[] = {"text.hidden_size=32",
                                        "text.intermediate_size=48",
                                        "text.num_attention_heads=2",
                                        "data.shots=4",
                                        "lanes=1",
                                        "per_device_train_batch_size=1",
                                        NULL};
static const char *const tiny_vision[] = {
    "vision.image_size=28",       "vision.hidden_size=32",        "vision.intermediate_size=48",
    "vision.num_hidden_layers=2", "vision.num_attention_heads=2", NULL};

static int add_sets(const char *const *more, const char **sets, int n)
{
    while (*more) sets[n++] = *more++;
    return n;
}

/* ---- values: drawn once, copied on the device ---- */

static lcl_status fill_row(struct lcl_exec *ex, const float *block, lcl_dtype dtype, void *row,
                           int64_t count)
{
    int64_t done = VALUES < count ? VALUES : count;
    LCL_TRY(ex->ops->upload_fwd(ex, &(struct lcl_upload_args){done, dtype, block, row}));
    while (done < count) {
        int64_t more = count - done < done ? count - done : done;
        void *behind = (char *)row + (size_t)done * lcl_dtype_bytes(dtype);
        LCL_TRY(ex->ops->cast_fwd(ex, &(struct lcl_cast_args){more, dtype, dtype, row, behind}));
        done += more;
    }
    return LCL_OK;
}

/* Values of the table's deviations, bf16 numbers where they have a bf16 half; the host would draw
 * seven billion for minutes. */
static lcl_status fill_values(struct lcl_exec *ex, struct lcl_params *t)
{
    float *block = malloc(VALUES * sizeof *block);
    if (!block) return LCL_FAIL(LCL_MEMORY, "no memory for random values");
    lcl_status status = LCL_OK;
    for (int i = 0; i < t->n_rows && status == LCL_OK; i++) {
        const struct lcl_param *p = &t->rows[i];
        struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 0, (uint64_t)i);
        if (p->init == LCL_INIT_ZEROS) continue;
        int64_t n = p->count < VALUES ? (int64_t)p->count : VALUES;
        for (int64_t k = 0; k < n; k++)
            block[k] = p->init == LCL_INIT_ONES ? 1 : p->init_std * lcl_rng_normal(&rng);
        if (lcl_param_value(t, p))
            status = fill_row(ex, block, LCL_F32, lcl_param_value(t, p), (int64_t)p->count);
        if (status == LCL_OK && t->value16)
            status = fill_row(ex, block, LCL_BF16, lcl_param_value16(t, p), (int64_t)p->count);
    }
    if (status == LCL_OK) status = lcl_exec_sync(ex);
    t->version++;
    free(block);
    return status;
}

/* ---- measuring ---- */

typedef lcl_status (*step_fn)(void *ctx, int64_t *tokens, double *flops);

struct measured {
    struct lcl_profile_sum sum;
    int n;
    double seconds[STEPS];
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Steps by the wall without a profile, then with one. */
static lcl_status measure(struct bench *b, struct lcl_exec *ex, step_fn step, void *ctx,
                          struct measured *m)
{
    struct lcl_profile *p = NULL;
    int64_t tokens;
    double flops;
    lcl_status status = LCL_OK;
    *m = (struct measured){0};
    for (int i = 0; i < (b->dry ? 0 : WARM_UP); i++) LCL_TRY(step(ctx, &tokens, &flops));
    for (int i = 0; i < (b->dry ? 1 : STEPS); i++) {
        double begin = lcl_time_s();
        if (i > 0 && bench_time_is_up(b, begin)) break;
        LCL_TRY(step(ctx, &tokens, &flops));
        m->seconds[m->n++] = lcl_time_s() - begin;
    }
    qsort(m->seconds, (size_t)m->n, sizeof *m->seconds, by_value);
    LCL_TRY(lcl_profile_open(&p, ex));
    for (int i = 0; i < 2 && status == LCL_OK; i++) { /* the first makes the events */
        status = lcl_profile_step_begin(p, i + 1);
        if (status == LCL_OK) status = step(ctx, &tokens, &flops);
        if (status == LCL_OK) status = lcl_profile_step_end(p, i == 1, flops, tokens);
    }
    if (status == LCL_OK) status = lcl_profile_sum(p, &m->sum);
    lcl_profile_close(p);
    return status;
}

static lcl_status note(struct bench *b, const char *name, const struct measured *m)
{
    double s = m->seconds[m->n / 2], flops = m->sum.model_flops;
    double most = m->sum.dtype == LCL_BF16 ? b->limits.flops_bf16 : b->limits.flops_f32;
    lcl_log_info("%s: %.2f ms a step", name, 1e3 * s);
    lcl_text_printf(&b->steps_md,
                    "\n### %s\n\n%.2f ms a step (median of %d), %lld tokens: %.0f tokens/s; "
                    "%.2f TFLOP that the model asks for: %.1f TFLOP/s",
                    name, 1e3 * s, m->n, (long long)m->sum.tokens, (double)m->sum.tokens / s,
                    flops / 1e12, flops / s / 1e12);
    if (most > 0) lcl_text_printf(&b->steps_md, ", **MFU %.1f %%**", 100 * flops / s / most);
    lcl_text_puts(&b->steps_md, "\n\n```\n");
    lcl_profile_table(&m->sum, &b->limits, TABLE_ROWS, &b->steps_md);
    lcl_text_puts(&b->steps_md, "```\n");
    if (b->steps_json.size) lcl_text_puts(&b->steps_json, ",\n");
    lcl_text_puts(&b->steps_json, "{\"name\": ");
    lcl_text_json_string(&b->steps_json, name);
    lcl_text_printf(&b->steps_json, ", \"seconds\": %.6g, \"tokens\": %lld, \"flops\": %.6g, ", s,
                    (long long)m->sum.tokens, flops);
    lcl_text_puts(&b->steps_json, "\"mfu\": ");
    lcl_text_json_number(&b->steps_json, most > 0 ? flops / s / most : (double)NAN);
    lcl_text_puts(&b->steps_json, "}");
    return lcl_text_check(&b->steps_md);
}

static void skip(struct bench *b, const char *name, const char *why)
{
    lcl_log_info("%s: not run: %s", name, why);
    lcl_text_printf(&b->steps_md, "\n### %s\n\nNot run: %s\n", name, why);
}

/* ---- LLaVA-7B's widths ---- */

struct llava {
    struct world w;
    struct world_step step;
};

static lcl_status llava_step(void *ctx, int64_t *tokens, double *flops)
{
    struct llava *l = ctx;
    struct lcl_lane lane = {.batch = l->step.batch};
    LCL_TRY(world_step_run(&l->w, &l->step));
    *tokens = l->step.batch->T;
    *flops = lcl_plan_step_flops(&l->w.env, &l->w.config, &lane, 1);
    return LCL_OK;
}

/* LCL_MEMORY where that many layers do not fit. */
static lcl_status open_llava(struct bench *b, struct llava *l, int layers)
{
    const char *sets[24] = {"device=cuda"};
    char layers_set[48];
    int n = 1;
    snprintf(layers_set, sizeof layers_set, "text.num_hidden_layers=%d", layers);
    sets[n++] = layers_set;
    if (b->dry) n = add_sets(tiny_vision, sets, add_sets(tiny_text, sets, n));
    LCL_TRY(world_open(&l->w, "dev/bench-gpu/llava.yaml", 0, sets, n));
    LCL_TRY(world_shape(&l->w, b->dry ? 0 : LLAVA_VOCABULARY, true));
    lcl_step_set_trainable(&l->w.env.model.params, &l->w.config);
    LCL_TRY(lcl_plan_check(&l->w.env, &l->w.config, 0));
    LCL_TRY(lcl_model_reserve(&l->w.env.model, true, false, true));
    LCL_TRY(fill_values(&l->w.env.exec, &l->w.env.model.params));
    return world_step_open(&l->w, &l->step);
}

static void close_llava(struct llava *l)
{
    world_step_close(&l->step);
    world_close(&l->w);
    *l = (struct llava){0};
}

static lcl_status run_llava(struct bench *b)
{
    static const int layers[] = {32, 24, 16, 12, 8, 4, 2};
    struct llava *l = calloc(1, sizeof *l);
    struct measured m = {0};
    char name[96];
    lcl_status status = LCL_MEMORY;
    if (!l) return LCL_FAIL(LCL_MEMORY, "no memory for a world");
    for (int i = b->dry ? 6 : 0; i < 7 && status == LCL_MEMORY; i++) {
        snprintf(name, sizeof name,
                 "LLaVA-7B's widths, %d of 32 layers, 16 shots, 224 pixels, bf16%s", layers[i],
                 b->dry ? " (dry run: tiny)" : "");
        status = open_llava(b, l, layers[i]);
        if (status == LCL_OK) status = measure(b, &l->w.env.exec, llava_step, l, &m);
        close_llava(l);
    }
    free(l);
    if (status == LCL_MEMORY) {
        skip(b, name, lcl_error_message());
        return LCL_OK;
    }
    if (status == LCL_OK) status = note(b, name, &m);
    lcl_profile_sum_free(&m.sum);
    return status;
}

/* ---- the demo's link-context stage ---- */

struct demo {
    struct world w;
    struct lcl_trainer trainer;
    int64_t done;
};

static lcl_status demo_step(void *ctx, int64_t *tokens, double *flops)
{
    struct demo *d = ctx;
    struct lcl_step_result r;
    d->done++;
    LCL_TRY(lcl_trainer_step(&d->trainer, d->done, 1000, d->done, &r));
    *tokens = r.tokens;
    *flops = lcl_plan_step_flops(&d->w.env, &d->w.config, d->trainer.lane, d->trainer.n_lanes);
    return LCL_OK;
}

static lcl_status open_demo(struct bench *b, struct demo *d)
{
    const char *sets[16];
    int n = add_sets(demo_sets, sets, 0);
    if (b->dry) n = add_sets(tiny_text, sets, n);
    LCL_TRY(world_open(&d->w, "configs/demo/3-link-context.yaml", 2, sets, n));
    LCL_TRY(world_model(&d->w, 0, false, true));
    lcl_params_initialise(&d->w.env.model.params, 1);
    LCL_TRY(world_features(&d->w));
    return lcl_trainer_open(&d->trainer, &d->w.env, &d->w.config, 3, &d->w.features, NULL);
}

static lcl_status run_demo(struct bench *b)
{
    struct demo *d = calloc(1, sizeof *d);
    struct measured m = {0};
    if (!d) return LCL_FAIL(LCL_MEMORY, "no memory for a world");
    lcl_status status = open_demo(b, d);
    if (status == LCL_OK) status = measure(b, &d->w.env.exec, demo_step, d, &m);
    if (status == LCL_OK) status = note(b, "The demo's link-context stage, f32", &m);
    if (d->trainer.env) lcl_trainer_close(&d->trainer);
    world_close(&d->w);
    lcl_profile_sum_free(&m.sum);
    free(d);
    return status;
}

void bench_steps(struct bench *b)
{
    static const struct {
        const char *name;
        lcl_status (*run)(struct bench *);
    } steps[] = {{"The demo's link-context stage", run_demo}, {"LLaVA-7B's widths", run_llava}};
    for (int i = 0; i < 2; i++) {
        if (bench_time_is_up(b, lcl_time_s())) {
            skip(b, steps[i].name, "the time was up");
        } else if (steps[i].run(b) != LCL_OK) {
            skip(b, steps[i].name, lcl_error_message());
            b->failed = true;
        }
    }
}
