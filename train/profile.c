#include "train/profile.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/threads.h"
#include "train/device.h"
#include "train/profile_parts.h"

enum { DEEPEST = sizeof((struct lcl_profile_thread *)0)->open / sizeof(size_t) };

/* ---- recording ---- */

/* A new event of the calling thread; SIZE_MAX where there is no step or no memory. */
static size_t add_event(struct lcl_profile *p, const struct lcl_profile_event *e)
{
    struct lcl_profile_thread *t = &p->thread[lcl_thread_index() % p->n_threads];
    if (!p->in_step || t->failed) return SIZE_MAX;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 1024;
        struct lcl_profile_event *v = realloc(t->v, cap * sizeof *v);
        t->failed = !v;
        if (!v) return SIZE_MAX;
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n] = *e;
    return t->n++;
}

static void mark(struct lcl_profile *p, int64_t i)
{
    if (p->status == LCL_OK) p->status = lcl_device_mark(p->exec, i);
}

static size_t op_begin(struct lcl_profile *p, enum lcl_op_half op, const void *args)
{
    struct lcl_profile_event e = {.op = op, .in_chunk = lcl_threads_in_chunk(), .mark = -1};
    if (!p->in_step) return SIZE_MAX;
    lcl_op_cost(op, args, &e.cost);
    lcl_device_range_begin(p->exec, lcl_op_name(op));
    if (lcl_device_has_time(p->exec)) {
        e.mark = p->marks;
        p->marks += 2;
        mark(p, e.mark);
    }
    e.begin_s = lcl_time_s();
    return add_event(p, &e);
}

static void op_end(struct lcl_profile *p, size_t i)
{
    if (i == SIZE_MAX) return;
    struct lcl_profile_event *e = &p->thread[lcl_thread_index() % p->n_threads].v[i];
    e->end_s = lcl_time_s();
    if (e->mark >= 0) mark(p, e->mark + 1);
    lcl_device_range_end(p->exec);
}

#define TIMED(op, way)                                                                 \
    static lcl_status op##_##way(struct lcl_exec *ex, const struct lcl_##op##_args *a) \
    {                                                                                  \
        struct lcl_profile *p = (struct lcl_profile *)(uintptr_t)ex->ops;              \
        size_t event = op_begin(p, LCL_OP_##op##_##way, a);                            \
        lcl_status status = p->real->op##_##way(ex, a);                                \
        op_end(p, event);                                                              \
        return status;                                                                 \
    }
#define DIFF(op) TIMED(op, fwd) TIMED(op, bwd)
#define FWD(op) TIMED(op, fwd)
LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD

void lcl_profile_begin(struct lcl_profile *p, const char *name, int64_t number)
{
    if (!p || !p->in_step) return;
    struct lcl_profile_thread *t = &p->thread[lcl_thread_index() % p->n_threads];
    struct lcl_profile_event e = {.name = name, .number = number, .mark = -1};
    lcl_device_range_begin(p->exec, name);
    e.begin_s = lcl_time_s();
    if (t->depth < DEEPEST) t->open[t->depth] = add_event(p, &e);
    t->depth++;
}

void lcl_profile_end(struct lcl_profile *p)
{
    if (!p || !p->in_step) return;
    struct lcl_profile_thread *t = &p->thread[lcl_thread_index() % p->n_threads];
    if (t->depth == 0) return;
    t->depth--;
    if (t->depth < DEEPEST && t->open[t->depth] != SIZE_MAX)
        t->v[t->open[t->depth]].end_s = lcl_time_s();
    lcl_device_range_end(p->exec);
}

/* ---- opening, steps ---- */

lcl_status lcl_profile_open(struct lcl_profile **out, struct lcl_exec *ex)
{
    struct lcl_profile *p = calloc(1, sizeof *p);
    *out = NULL;
    if (p) {
        p->n_threads = lcl_threads_count();
        p->thread = calloc((size_t)p->n_threads, sizeof *p->thread);
    }
    if (!p || !p->thread) {
        free(p);
        return LCL_FAIL(LCL_MEMORY, "no memory for a profile");
    }
    p->real = ex->ops;
    p->exec = ex;
    p->ops = (struct lcl_ops){.backend = ex->ops->backend,
#define DIFF(op) .op##_fwd = op##_fwd, .op##_bwd = op##_bwd,
#define FWD(op) .op##_fwd = op##_fwd,
                              LCL_OPS(DIFF, FWD)
#undef DIFF
#undef FWD
    };
    ex->ops = &p->ops;
    *out = p;
    return LCL_OK;
}

void lcl_profile_close(struct lcl_profile *p)
{
    if (!p) return;
    p->exec->ops = p->real;
    for (int t = 0; t < p->n_threads; t++) free(p->thread[t].v);
    free(p->thread);
    free(p->step);
    free(p);
}

static lcl_status wait_for_device(struct lcl_profile *p)
{
    struct lcl_download_args nothing = {0, LCL_F32, NULL, NULL};
    return p->real->download_fwd(p->exec, &nothing);
}

lcl_status lcl_profile_step_begin(struct lcl_profile *p, int64_t number)
{
    LCL_TRY(wait_for_device(p));
    for (int t = 0; t < p->n_threads; t++) p->thread[t].depth = 0;
    p->marks = 1; /* mark 0: the step's begin */
    p->status = lcl_device_mark(p->exec, 0);
    p->now = (struct lcl_profile_step){.number = number, .begin_s = lcl_time_s()};
    p->in_step = true;
    lcl_device_range_begin(p->exec, "step");
    return p->status;
}

/* The device's time of the step's ops, on the host's clock: mark 0 is the step's begin. */
static lcl_status read_marks(struct lcl_profile *p)
{
    if (!lcl_device_has_time(p->exec)) return LCL_OK;
    for (int t = 0; t < p->n_threads; t++)
        for (size_t i = p->thread[t].kept; i < p->thread[t].n; i++) {
            struct lcl_profile_event *e = &p->thread[t].v[i];
            double begin, end;
            if (e->mark < 0) continue;
            LCL_TRY(lcl_device_marks_between(p->exec, 0, e->mark, &begin));
            LCL_TRY(lcl_device_marks_between(p->exec, 0, e->mark + 1, &end));
            e->device_begin_s = p->now.begin_s + begin;
            e->device_end_s = p->now.begin_s + end;
            if (e->device_end_s > p->now.device_end_s) p->now.device_end_s = e->device_end_s;
        }
    return LCL_OK;
}

static lcl_status keep_step(struct lcl_profile *p)
{
    if (p->n_steps == p->steps_cap) {
        size_t cap = p->steps_cap ? 2 * p->steps_cap : 16;
        struct lcl_profile_step *v = realloc(p->step, cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for a profile of %zu steps", cap);
        p->step = v;
        p->steps_cap = cap;
    }
    LCL_TRY(read_marks(p));
    p->step[p->n_steps++] = p->now;
    for (int t = 0; t < p->n_threads; t++) p->thread[t].kept = p->thread[t].n;
    return LCL_OK;
}

lcl_status lcl_profile_step_end(struct lcl_profile *p, bool keep, double model_flops,
                                int64_t tokens)
{
    lcl_device_range_end(p->exec);
    LCL_TRY(wait_for_device(p));
    p->now.end_s = lcl_time_s();
    p->now.model_flops = model_flops;
    p->now.tokens = tokens;
    p->in_step = false;
    LCL_TRY(p->status);
    for (int t = 0; t < p->n_threads; t++)
        if (p->thread[t].failed) return LCL_FAIL(LCL_MEMORY, "no memory for a profile's events");
    if (keep) return keep_step(p);
    for (int t = 0; t < p->n_threads; t++) p->thread[t].n = p->thread[t].kept;
    return LCL_OK;
}

/* ---- sums ---- */

static struct lcl_profile_row *row_of(struct lcl_profile_sum *s, size_t *cap,
                                      const struct lcl_profile_event *e)
{
    for (size_t i = 0; i < s->n; i++) {
        struct lcl_profile_row *r = &s->row[i];
        if (r->op == e->op && r->dtype == e->cost.dtype &&
            memcmp(r->dims, e->cost.dims, sizeof r->dims) == 0)
            return r;
    }
    if (s->n == *cap) {
        *cap = *cap ? 2 * *cap : 64;
        struct lcl_profile_row *v = realloc(s->row, *cap * sizeof *v);
        if (!v) return NULL;
        s->row = v;
    }
    struct lcl_profile_row *r = &s->row[s->n++];
    *r = (struct lcl_profile_row){
        .op = e->op, .dtype = e->cost.dtype, .least_rows = e->cost.rows, .most_rows = e->cost.rows};
    memcpy(r->dims, e->cost.dims, sizeof r->dims);
    return r;
}

static int by_seconds(const void *a, const void *b)
{
    const struct lcl_profile_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

/* Threads that have called ops from chunks. */
static int side_by_side(const struct lcl_profile *p)
{
    int n = 0;
    for (int t = 0; t < p->n_threads; t++)
        for (size_t i = 0; i < p->thread[t].kept; i++)
            if (!p->thread[t].v[i].name && p->thread[t].v[i].in_chunk) {
                n++;
                break;
            }
    return n ? n : 1;
}

static lcl_status add_to_rows(const struct lcl_profile_event *e, size_t *cap,
                              struct lcl_profile_sum *s)
{
    struct lcl_profile_row *r = row_of(s, cap, e);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for a profile's table");
    double seconds = e->mark >= 0 ? e->device_end_s - e->device_begin_s : e->end_s - e->begin_s;
    r->seconds += seconds / (e->in_chunk ? s->threads : 1);
    r->calls++;
    r->rows += e->cost.rows;
    r->flops += e->cost.flops;
    r->bytes += e->cost.bytes;
    if (e->cost.rows < r->least_rows) r->least_rows = e->cost.rows;
    if (e->cost.rows > r->most_rows) r->most_rows = e->cost.rows;
    return LCL_OK;
}

lcl_status lcl_profile_sum(const struct lcl_profile *p, struct lcl_profile_sum *s)
{
    size_t cap = 0;
    *s = (struct lcl_profile_sum){.steps = (int64_t)p->n_steps, .threads = side_by_side(p)};
    for (size_t i = 0; i < p->n_steps; i++) {
        s->wall_s += p->step[i].end_s - p->step[i].begin_s;
        s->model_flops += p->step[i].model_flops;
        s->tokens += p->step[i].tokens;
    }
    for (int t = 0; t < p->n_threads; t++)
        for (size_t i = 0; i < p->thread[t].kept; i++) {
            if (p->thread[t].v[i].name) continue;
            lcl_status status = add_to_rows(&p->thread[t].v[i], &cap, s);
            if (status != LCL_OK) lcl_profile_sum_free(s);
            LCL_TRY(status);
        }
    double flops[2] = {0};
    for (size_t i = 0; i < s->n; i++) {
        s->ops_s += s->row[i].seconds;
        flops[s->row[i].dtype == LCL_BF16] += s->row[i].flops;
    }
    s->dtype = flops[1] > flops[0] ? LCL_BF16 : LCL_F32;
    if (s->n) qsort(s->row, s->n, sizeof *s->row, by_seconds);
    return LCL_OK;
}

void lcl_profile_sum_free(struct lcl_profile_sum *s)
{
    free(s->row);
    *s = (struct lcl_profile_sum){0};
}
