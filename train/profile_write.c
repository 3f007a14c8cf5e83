/* What a profile says: the table, the same as JSON, the trace. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/device.h"
#include "train/profile_parts.h"
#include "train/rates.h"

lcl_status lcl_profile_limits(struct lcl_exec *ex, bool bf16, struct lcl_limits *limits)
{
    return lcl_device_limits(ex, limits) ? LCL_OK : lcl_rates_measure(ex, bf16, limits);
}

/* ---- the table ---- */

/* How products' rates are printed: as the device's limit is. */
struct unit {
    double flops;
    const char *name;
};

static struct unit unit_of(const struct lcl_limits *l)
{
    bool tera = fmax(l->flops_f32, l->flops_bf16) >= 2e12;
    return tera ? (struct unit){1e12, "TFLOP/s"} : (struct unit){1e9, "GFLOP/s"};
}

static double most_flops(const struct lcl_limits *l, lcl_dtype dtype)
{
    return dtype == LCL_BF16 ? l->flops_bf16 : l->flops_f32;
}

/* "~1843x3072x768 f32": rows (~: their mean), then what the model decides. */
static void shape_text(const struct lcl_profile_row *r, char *text, size_t size)
{
    int used = snprintf(text, size, "%s%.0f", r->least_rows < r->most_rows ? "~" : "",
                        (double)r->rows / (double)r->calls);
    for (int i = 0; i < LCL_OP_DIMS && r->dims[i] > 0; i++)
        used += snprintf(text + used, size - (size_t)used, "x%lld", (long long)r->dims[i]);
    snprintf(text + used, size - (size_t)used, " %s", lcl_dtype_name(r->dtype));
}

/* A rate and its share of the limit in columns of 8 and 5. */
static void put_rate(struct lcl_text *out, double amount, double seconds, double unit, double most)
{
    double rate = amount / fmax(seconds, 1e-12);
    if (amount == 0) {
        lcl_text_printf(out, " %8s %5s", "-", "-");
        return;
    }
    lcl_text_printf(out, rate / unit < 100 ? " %8.2f" : " %8.0f", rate / unit);
    if (most > 0)
        lcl_text_printf(out, " %3.0f %%", fmin(100 * rate / most, 999));
    else
        lcl_text_printf(out, " %5s", "-");
}

static void put_row(struct lcl_text *out, const struct lcl_profile_sum *s, const char *op,
                    const char *shape, const struct lcl_profile_row *r)
{
    lcl_text_printf(out, "%-16s %-26s %7.4g %9.3f %4.1f %%", op, shape,
                    (double)r->calls / (double)s->steps, 1e3 * r->seconds / (double)s->steps,
                    100 * r->seconds / s->wall_s);
}

static void put_head(struct lcl_text *out, const struct lcl_profile_sum *s,
                     const struct lcl_limits *l, struct unit unit)
{
    double seconds = s->wall_s / (double)s->steps, rate = s->model_flops / s->wall_s;
    lcl_text_printf(out, "%lld step%s of %.3f ms, %.0f tokens/s; ops take %.1f %% of the time",
                    (long long)s->steps, s->steps == 1 ? "" : "s", 1e3 * seconds,
                    (double)s->tokens / s->wall_s, 100 * s->ops_s / s->wall_s);
    if (s->threads > 1) lcl_text_printf(out, ", %d threads side by side", s->threads);
    if (s->model_flops > 0) {
        lcl_text_printf(out, "\nmodel: %.4g GFLOP a step: %.4g %s",
                        s->model_flops / (double)s->steps / 1e9, rate / unit.flops, unit.name);
        if (most_flops(l, s->dtype) > 0)
            lcl_text_printf(out, ", MFU %.1f %%", 100 * rate / most_flops(l, s->dtype));
    }
    lcl_text_puts(out, "\nlimits: ");
    if (l->flops_f32 > 0)
        lcl_text_printf(out, "%.4g %s f32, ", l->flops_f32 / unit.flops, unit.name);
    if (l->flops_bf16 > 0)
        lcl_text_printf(out, "%.4g %s bf16, ", l->flops_bf16 / unit.flops, unit.name);
    if (l->bytes > 0) lcl_text_printf(out, "%.4g GB/s;\n        ", l->bytes / 1e9);
    lcl_text_printf(out, "%s\n\n%-16s %-26s %7s %9s %6s %8s %5s %8s %5s\n", l->source, "op",
                    "shape", "n/step", "ms/step", "share", unit.name, "of", "GB/s", "of");
}

void lcl_profile_table(const struct lcl_profile_sum *s, const struct lcl_limits *limits,
                       size_t most_rows, struct lcl_text *out)
{
    struct unit unit = unit_of(limits);
    struct lcl_profile_row rest = {0};
    size_t shown = most_rows > 0 && s->n > most_rows ? most_rows : s->n;
    put_head(out, s, limits, unit);
    for (size_t i = 0; i < shown; i++) {
        const struct lcl_profile_row *r = &s->row[i];
        char shape[96];
        shape_text(r, shape, sizeof shape);
        put_row(out, s, lcl_op_name(r->op), shape, r);
        put_rate(out, r->flops, r->seconds, unit.flops, most_flops(limits, r->dtype));
        put_rate(out, r->bytes, r->seconds, 1e9, limits->bytes);
        lcl_text_puts(out, "\n");
    }
    for (size_t i = shown; i < s->n; i++) {
        rest.calls += s->row[i].calls;
        rest.seconds += s->row[i].seconds;
    }
    if (shown < s->n) {
        char text[48];
        snprintf(text, sizeof text, "%zu more rows", s->n - shown);
        put_row(out, s, "(others)", text, &rest);
        lcl_text_puts(out, "\n");
    }
    struct lcl_profile_row between = {.seconds = s->wall_s - s->ops_s};
    put_row(out, s, "(between ops)", "", &between);
    lcl_text_puts(out, "\n");
}

/* ---- files ---- */

static void put_number(struct lcl_text *out, const char *name, double value)
{
    lcl_text_printf(out, "\"%s\": ", name);
    lcl_text_json_number(out, value);
    lcl_text_puts(out, ", ");
}

static void put_op_json(struct lcl_text *out, const struct lcl_profile_sum *s,
                        const struct lcl_profile_row *r)
{
    const char *name = lcl_op_name(r->op), *way = strrchr(name, '_');
    lcl_text_printf(out, "{\"op\": \"%.*s\", \"direction\": \"%s\", \"dtype\": \"%s\", \"dims\": [",
                    (int)(way - name), name, way + 1, lcl_dtype_name(r->dtype));
    for (int i = 0; i < LCL_OP_DIMS && r->dims[i] > 0; i++)
        lcl_text_printf(out, "%s%lld", i ? ", " : "", (long long)r->dims[i]);
    lcl_text_puts(out, "], ");
    put_number(out, "rows", (double)r->rows / (double)r->calls);
    put_number(out, "calls", (double)r->calls);
    put_number(out, "seconds", r->seconds);
    put_number(out, "share", r->seconds / s->wall_s);
    put_number(out, "flops", r->flops);
    put_number(out, "bytes", r->bytes);
    put_number(out, "flops_per_s", r->flops / fmax(r->seconds, 1e-12));
    lcl_text_puts(out, "\"bytes_per_s\": ");
    lcl_text_json_number(out, r->bytes / fmax(r->seconds, 1e-12));
    lcl_text_puts(out, "}");
}

static void put_json(struct lcl_text *out, const struct lcl_profile_sum *s,
                     const struct lcl_limits *l)
{
    double most = most_flops(l, s->dtype);
    lcl_text_puts(out, "{");
    put_number(out, "steps", (double)s->steps);
    put_number(out, "wall_s", s->wall_s);
    put_number(out, "ops_s", s->ops_s);
    put_number(out, "threads", s->threads);
    put_number(out, "tokens", (double)s->tokens);
    put_number(out, "model_flops", s->model_flops);
    put_number(out, "mfu", most > 0 ? s->model_flops / s->wall_s / most : (double)NAN);
    lcl_text_puts(out, "\n\"limits\": {");
    put_number(out, "flops_f32", l->flops_f32);
    put_number(out, "flops_bf16", l->flops_bf16);
    put_number(out, "bytes_per_s", l->bytes);
    lcl_text_puts(out, "\"source\": ");
    lcl_text_json_string(out, l->source);
    lcl_text_puts(out, "},\n\"ops\": [");
    for (size_t i = 0; i < s->n; i++) {
        lcl_text_puts(out, i ? ",\n" : "\n");
        put_op_json(out, s, &s->row[i]);
    }
    lcl_text_puts(out, "]}\n");
}

enum { HOST = 1, DEVICE = 2 }; /* processes of the trace */

static int64_t nanoseconds(const struct lcl_profile *p, double at_s)
{
    return (int64_t)llround(1e9 * (at_s - p->step[0].begin_s));
}

/* One complete event ("X"); both ends are rounded alike, so that ranges stay inside of others. */
static void put_event(struct lcl_text *out, const struct lcl_profile *p, int process, int thread,
                      const char *name, int64_t number, double begin_s, double end_s)
{
    int64_t begin = nanoseconds(p, begin_s), end = nanoseconds(p, end_s);
    lcl_text_printf(out, ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"name\": \"%s", process,
                    thread, name);
    if (number >= 0) lcl_text_printf(out, " %lld", (long long)number);
    lcl_text_printf(out, "\", \"ts\": %lld.%03lld, \"dur\": %lld.%03lld", (long long)begin / 1000,
                    (long long)begin % 1000, (long long)(end - begin) / 1000,
                    (long long)(end - begin) % 1000);
}

static void put_op_event(struct lcl_text *out, const struct lcl_profile *p,
                         const struct lcl_profile_event *e, int thread)
{
    struct lcl_profile_row one = {.dtype = e->cost.dtype, .calls = 1, .rows = e->cost.rows};
    char shape[96];
    memcpy(one.dims, e->cost.dims, sizeof one.dims);
    shape_text(&one, shape, sizeof shape);
    for (int process = HOST; process <= (e->mark >= 0 ? DEVICE : HOST); process++) {
        bool host = process == HOST;
        put_event(out, p, process, host ? thread : 0, lcl_op_name(e->op), -1,
                  host ? e->begin_s : e->device_begin_s, host ? e->end_s : e->device_end_s);
        lcl_text_printf(out, ", \"args\": {\"shape\": \"%s\", \"flops\": %.0f, \"bytes\": %.0f}}",
                        shape, e->cost.flops, e->cost.bytes);
    }
}

static void put_trace(struct lcl_text *out, const struct lcl_profile *p)
{
    bool device = lcl_device_has_time(p->exec);
    lcl_text_puts(out, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n"
                       "{\"ph\": \"M\", \"pid\": 1, \"name\": \"process_name\", "
                       "\"args\": {\"name\": \"host\"}}");
    if (device)
        lcl_text_puts(out, ",\n{\"ph\": \"M\", \"pid\": 2, \"name\": \"process_name\", "
                           "\"args\": {\"name\": \"device\"}}");
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct lcl_profile_step *s = &p->step[i];
        put_event(out, p, HOST, 0, "step", s->number, s->begin_s, s->end_s);
        lcl_text_puts(out, "}");
        if (!device || s->device_end_s == 0) continue;
        put_event(out, p, DEVICE, 0, "step", s->number, s->begin_s, s->device_end_s);
        lcl_text_puts(out, "}");
    }
    for (int t = 0; t < p->n_threads; t++)
        for (size_t i = 0; i < p->thread[t].kept; i++) {
            const struct lcl_profile_event *e = &p->thread[t].v[i];
            if (!e->name) {
                put_op_event(out, p, e, t);
                continue;
            }
            put_event(out, p, HOST, t, e->name, e->number, e->begin_s, e->end_s);
            lcl_text_puts(out, "}");
        }
    lcl_text_puts(out, "\n]}\n");
}

static lcl_status write_text(const char *dir, const char *name, struct lcl_text *text)
{
    lcl_status status = lcl_text_check(text);
    char *path = lcl_strdupf("%s/%s", dir, name);
    if (status == LCL_OK && !path) status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK) status = lcl_fs_write_atomic(path, text->data, text->size);
    free(path);
    lcl_text_free(text);
    return status;
}

lcl_status lcl_profile_write(const struct lcl_profile *p, const struct lcl_profile_sum *s,
                             const struct lcl_limits *limits, const char *dir)
{
    struct lcl_text text = {0};
    LCL_TRY(lcl_fs_mkdirs(dir));
    put_trace(&text, p);
    LCL_TRY(write_text(dir, "trace.json", &text));
    put_json(&text, s, limits);
    LCL_TRY(write_text(dir, "ops.json", &text));
    lcl_profile_table(s, limits, 0, &text);
    return write_text(dir, "ops.txt", &text);
}
