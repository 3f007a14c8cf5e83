#include "train/plan_schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/ops_cost.h"
#include "optim/optimizer.h"
#include "train/step.h"

/* ---- memory that nobody touches ---- */

/* Addresses for tensors: what is only read takes no memory. */
static void *reserve_nothing(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}
static void release_nothing(void *base, size_t bytes) { munmap(base, bytes); }
static const struct lcl_memory nothing = {reserve_nothing, release_nothing, NULL};

static lcl_status reserve(struct lcl_arena *a, const char *name, size_t bytes)
{
    *a = (struct lcl_arena){.name = name, .size_bytes = bytes, .memory = &nothing};
    if (bytes > 0) a->base = reserve_nothing(bytes);
    if (bytes == 0 || a->base) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no room for the addresses of %s: %zu bytes", name, bytes);
}

static bool lies_in(const struct lcl_arena *a, const void *p)
{
    return a->base && (uintptr_t)p - (uintptr_t)a->base < a->size_bytes;
}

/* ---- units ---- */

/* Letters of a row's name up to its layer's number and the dot behind it; 0: of no layer. */
static size_t layer_prefix(const char *name)
{
    static const char *const words[] = {".layers.", ".layer."};
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(name, words[i]);
        const char *dot = at ? strchr(at + strlen(words[i]), '.') : NULL;
        if (dot) return (size_t)(dot - name);
    }
    return 0;
}

static void open_unit(struct lcl_schedule *s, const struct lcl_param *p, size_t prefix)
{
    struct lcl_unit *u = &s->unit[s->n_units++];
    *u = (struct lcl_unit){.part = p->part, .layer = p->layer};
    snprintf(u->name, sizeof u->name, "%.*s", prefix ? (int)prefix : (int)sizeof u->name - 1,
             p->name);
}

/* Layers by their names; rows of one part that follow each other outside of layers together;
 * adapters with what they adapt. */
static void find_units(const struct lcl_model *m, struct lcl_schedule *s)
{
    for (int i = 0; i < m->n_base; i++) {
        const struct lcl_param *p = &m->params.rows[i], *before = i ? p - 1 : NULL;
        const size_t prefix = layer_prefix(p->name);
        const bool same = before && before->part == p->part &&
                          layer_prefix(before->name) == prefix &&
                          strncmp(before->name, p->name, prefix) == 0;
        if (!same) open_unit(s, p, prefix);
        s->unit_of_row[i] = s->n_units - 1;
        if (!m->adapter || m->adapter[i] < 0) continue;
        s->unit_of_row[m->adapter[i]] = s->unit_of_row[m->adapter[i] + 1] = s->n_units - 1;
    }
}

/* Bytes of a row's values on their way: of each kind that ops read. The halves that none reads stay
 * with their owner. */
static double wire_bytes(const struct lcl_params *t, const struct lcl_param *p)
{
    const double n = (double)p->count;
    return (t->bf16 ? n * sizeof(lcl_bf16) : 0) + (!t->bf16 || p->f32 ? n * sizeof(float) : 0);
}

static void weigh_units(const struct lcl_params *t, struct lcl_schedule *s)
{
    for (int i = 0; i < t->n_rows; i++) {
        struct lcl_unit *u = &s->unit[s->unit_of_row[i]];
        const struct lcl_param *p = &t->rows[i];
        if (!lcl_param_moves(p)) continue;
        u->moved_bytes += wire_bytes(t, p);
        u->grad_bytes += (double)p->count * sizeof(float);
    }
}

double lcl_largest_share(double count, int64_t n)
{
    const double units = ceil(count / LCL_PARAM_ALIGN);
    return fmin(count, ceil(units / (double)n) * LCL_PARAM_ALIGN);
}

void lcl_schedule_share(struct lcl_schedule *s, const struct lcl_params *t, int64_t ranks)
{
    for (int i = 0; i < s->n_units; i++) s->unit[i].moved_share = s->unit[i].grad_share = 0;
    for (int i = 0; i < t->n_rows; i++) {
        struct lcl_unit *u = &s->unit[s->unit_of_row[i]];
        const struct lcl_param *p = &t->rows[i];
        const double share = lcl_largest_share((double)p->count, ranks);
        if (!lcl_param_moves(p)) continue;
        u->moved_share += wire_bytes(t, p) * share / (double)p->count;
        u->grad_share += share * sizeof(float);
    }
}

/* ---- ops that count ---- */

struct tracer {
    struct lcl_ops ops; /* first: exec's table leads here */
    struct lcl_exec exec;
    struct lcl_model model; /* the env's, but at addresses of its own */
    struct lcl_arena values, grads, moments;
    struct lcl_schedule *s;
    struct lcl_op_rates rates;
    const struct lcl_env *env;
    const struct lcl_config *config;
    double mean_tokens;
    double early_s; /* of a lane's ops before any that reads parameters */
    double apart_s; /* of ops outside of lanes */
    bool in_lane;
};

static bool is_value(const struct lcl_params *t, const struct lcl_param *p, const void *x)
{
    return x == (const void *)lcl_param_value16(t, p) || x == (const void *)lcl_param_value(t, p) ||
           x == (const void *)lcl_param_code(t, p);
}

/* The row whose values, or gradients, begin there; -1: none's. */
static int row_at(const struct tracer *t, const void *x, bool gradient)
{
    const struct lcl_params *p = &t->model.params;
    for (int i = 0; i < p->n_rows; i++) {
        const struct lcl_param *row = &p->rows[i];
        if (gradient ? lcl_param_moves(row) && x == (const void *)(p->grad + row->grad_at)
                     : is_value(p, row, x))
            return i;
    }
    return -1;
}

static lcl_status begin_visit(struct lcl_schedule *s, int unit)
{
    if (s->n_visits == s->visits_cap) {
        const size_t cap = s->visits_cap ? 2 * s->visits_cap : 256;
        struct lcl_visit *v = realloc(s->visit, cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the schedule of a step");
        s->visit = v;
        s->visits_cap = cap;
    }
    s->visit[s->n_visits++] = (struct lcl_visit){.unit = unit};
    return LCL_OK;
}

/* The unit of the parameters that an op's arguments point to, read or added to; -1: of none. What
 * points into the arenas is a tensor of the table: there is nothing else in them. */
static int unit_of(const struct tracer *t, const void *args, size_t size, bool gradient)
{
    const struct lcl_arena *arena = gradient ? &t->grads : &t->values;
    for (size_t at = 0; at + sizeof(void *) <= size; at += sizeof(void *)) {
        const void *x;
        memcpy(&x, (const char *)args + at, sizeof x);
        const int row = lies_in(arena, x) ? row_at(t, x, gradient) : -1;
        if (row >= 0) return t->s->unit_of_row[row];
    }
    return -1;
}

static void add_gradient(struct lcl_schedule *s, int unit)
{
    for (size_t i = 0; i < s->n_visits; i++)
        if (s->visit[i].unit == unit) s->visit[i].last_gradient = false;
    s->visit[s->n_visits - 1].last_gradient = true;
}

static lcl_status note(struct tracer *t, enum lcl_op_half op, const void *args, size_t size)
{
    struct lcl_schedule *s = t->s;
    struct lcl_op_cost cost;
    lcl_op_cost(op, args, &cost);
    const double rate = cost.dtype == LCL_BF16 ? t->rates.bf16 : t->rates.f32;
    const double seconds = fmax(cost.flops / rate, cost.bytes / t->rates.bytes);
    if (!t->in_lane) {
        t->apart_s += seconds;
        return LCL_OK;
    }
    const int written = unit_of(t, args, size, true), read = unit_of(t, args, size, false);
    const int unit = written >= 0 ? written : read;
    if (unit < 0 && s->n_visits == 0) {
        t->early_s += seconds;
        return LCL_OK;
    }
    if (s->n_visits == 0 || (unit >= 0 && unit != s->visit[s->n_visits - 1].unit))
        LCL_TRY(begin_visit(s, unit));
    s->visit[s->n_visits - 1].seconds += seconds + t->early_s;
    t->early_s = 0;
    if (written >= 0) add_gradient(s, written);
    return LCL_OK;
}

#define COUNTED(op, way)                                                               \
    static lcl_status op##_##way(struct lcl_exec *ex, const struct lcl_##op##_args *a) \
    {                                                                                  \
        struct tracer *t = (struct tracer *)(uintptr_t)ex->ops;                        \
        return note(t, LCL_OP_##op##_##way, a, sizeof *a);                             \
    }
#define DIFF(op) COUNTED(op, fwd) COUNTED(op, bwd)
#define FWD(op) COUNTED(op, fwd)
LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD

/* ---- a step without tensors ---- */

static lcl_status lay_out(struct tracer *t)
{
    struct lcl_params *p = &t->model.params;
    lcl_arena_measure(&t->values, "parameters");
    lcl_arena_measure(&t->grads, "gradients");
    lcl_arena_measure(&t->moments, "AdamW moments");
    lcl_params_layout(p, &t->values, &t->grads, &t->moments);
    LCL_TRY(reserve(&t->values, "parameters", t->values.used_bytes));
    LCL_TRY(reserve(&t->grads, "gradients", t->grads.used_bytes));
    LCL_TRY(reserve(&t->moments, "AdamW moments", t->moments.used_bytes));
    lcl_params_layout(p, &t->values, &t->grads, &t->moments);
    lcl_params_place_grads(p); /* as the stage has them */
    return LCL_OK;
}

/* One lane's forward and backward, of a batch or of so many pictures. */
static lcl_status run_lane(struct tracer *t, struct lcl_pass *p, const struct lcl_batch *b,
                           const struct lcl_pass_limits *limits)
{
    static const uint8_t picture[64];
    static const float feature[64];
    const bool cached = lcl_plan_caches_features(t->config);
    const struct lcl_images images = {.bytes = cached ? NULL : picture,
                                      .features = cached ? feature : NULL};
    double loss = 0;
    struct lcl_arena measured = {0};
    LCL_TRY(reserve(&measured, "activations", lcl_pass_bytes(p, limits)));
    p->arena = measured;
    if (b) return lcl_model_step(p, b, &images, 1, &loss, NULL);
    return lcl_model_classify_step(p, &images, NULL, limits->images, 1, 1, &loss, NULL);
}

static lcl_status trace_lane(void *ctx, const struct lcl_batch *b, int64_t images)
{
    struct tracer *t = ctx;
    struct lcl_schedule *s = t->s;
    const double tokens = b ? (double)b->T : (double)images;
    if (s->n_visits > 0 && fabs(tokens - t->mean_tokens) >= fabs(s->tokens - t->mean_tokens))
        return LCL_OK;
    struct lcl_pass_limits limits = {.images = images, .S = images, .with_vision = true};
    if (b) limits = (struct lcl_pass_limits){.T = b->T, .images = b->n_images, .S = b->S};
    limits.with_text = b != NULL;
    limits.with_vision = t->config->task != LCL_TASK_LANGUAGE &&
                         !lcl_plan_caches_features(t->config) && limits.images > 0;
    struct lcl_pass pass = lcl_step_pass(&t->exec, &t->model, t->config, t->model.params.grad);
    s->tokens = tokens;
    s->n_visits = 0;
    t->in_lane = true;
    lcl_status status = run_lane(t, &pass, b, &limits);
    t->in_lane = false;
    lcl_pass_free(&pass);
    return status;
}

static lcl_status trace_update(struct tracer *t)
{
    struct lcl_optimizer o = {0};
    struct lcl_update u = {.n_steps = 1, .adam_step = 1};
    struct lcl_params *p = &t->model.params;
    t->apart_s = 0;
    LCL_TRY(lcl_optimizer_open(&o, p, NULL, 1));
    lcl_status status = lcl_optimizer_update(&o, &t->exec, t->config, &u);
    lcl_optimizer_close(&o);
    t->s->update_s = t->apart_s;
    LCL_TRY(status);
    t->apart_s = 0;
    LCL_TRY(t->ops.zero_fwd(
        &t->exec, &(struct lcl_zero_args){(int64_t)(p->n_grads * sizeof(float)), p->grad}));
    t->s->clear_s = t->apart_s;
    t->apart_s = 0;
    const struct lcl_add_args add = {
        .count = (int64_t)p->n_grads, .x_dtype = LCL_F32, .y_dtype = LCL_F32};
    LCL_TRY(t->ops.add_fwd(&t->exec, &add));
    t->s->add_s = t->apart_s;
    return LCL_OK;
}

static lcl_status allocate(struct lcl_schedule *s, int n_rows)
{
    s->unit = calloc((size_t)n_rows, sizeof *s->unit);
    s->unit_of_row = calloc((size_t)n_rows, sizeof *s->unit_of_row);
    if (s->unit && s->unit_of_row) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for the schedule of a step");
}

lcl_status lcl_schedule_make(struct lcl_env *e, const struct lcl_config *c, uint32_t epoch,
                             int64_t batches, const struct lcl_plan *p,
                             const struct lcl_op_rates *rates, struct lcl_schedule *s)
{
    lcl_status status = LCL_OK;
    struct tracer t = {.ops = {.backend = "schedule",
#define DIFF(op) .op##_fwd = op##_fwd, .op##_bwd = op##_bwd,
#define FWD(op) .op##_fwd = op##_fwd,
                               LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
                       },
                       .model = e->model,
                       .s = s,
                       .rates = *rates,
                       .env = e,
                       .config = c,
                       .mean_tokens =
                           p->tokens / (double)(c->lanes * c->gradient_accumulation_steps)};
    t.exec.ops = &t.ops;
    *s = (struct lcl_schedule){0};
    lcl_step_set_trainable(&t.model.params, c);
    LCL_TRY(allocate(s, t.model.params.n_rows));
    LCL_TRY_GOTO(lay_out(&t));
    find_units(&t.model, s);
    weigh_units(&t.model.params, s);
    LCL_TRY_GOTO(lcl_plan_look(e, c, epoch, batches, trace_lane, &t));
    LCL_TRY_GOTO(trace_update(&t));
out:
    lcl_arena_free(&t.values);
    lcl_arena_free(&t.grads);
    lcl_arena_free(&t.moments);
    return status;
}

void lcl_schedule_free(struct lcl_schedule *s)
{
    free(s->unit);
    free(s->unit_of_row);
    free(s->visit);
    *s = (struct lcl_schedule){0};
}
