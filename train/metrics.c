#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/log.h"
#include "train/text.h"
#include "train/tfevents.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)

struct lcl_metrics {
    int fd;
    char *path;
    struct lcl_tfevents *events;
    struct lcl_text line;
};

/* The object on one line, or NULL; *step is its step. */
static json_t *parse_line(const char *line, size_t length, int64_t *step)
{
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    json_t *value = json_object_get(object, "step");
    if (!json_is_integer(value)) {
        json_decref(object);
        return NULL;
    }
    *step = (int64_t)json_integer_value(value);
    return object;
}

static bool is_train_line(const json_t *object)
{
    const char *kind = json_string_value(json_object_get(object, "kind"));
    return kind && strcmp(kind, "train") == 0;
}

/* Rewrites `path` without the lines past `last_step`, those of last_step that are not of its
 * training where train_only, and without what cannot be read. */
static lcl_status keep_until(const char *path, int64_t last_step, bool train_only)
{
    lcl_status status = LCL_OK;
    struct lcl_text kept = {0};
    char *data = NULL;
    size_t size = 0, unreadable = 0;
    if (!lcl_fs_exists(path)) return LCL_OK;
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    for (const char *at = data, *end = data + size; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline) break; /* cut short by a kill: its step is not in a checkpoint */
        int64_t step = 0;
        json_t *object = parse_line(at, (size_t)(newline - at), &step);
        if (!object)
            unreadable++;
        else if (step < last_step || (step == last_step && (!train_only || is_train_line(object))))
            lcl_text_bytes(&kept, at, (size_t)(newline + 1 - at));
        json_decref(object);
        at = newline + 1;
    }
    LCL_TRY_GOTO(lcl_text_check(&kept));
    if (unreadable)
        lcl_log_warn("%s: %zu lines that could not be read were dropped", path, unreadable);
    if (kept.size != size)
        LCL_TRY_GOTO(lcl_fs_write_atomic(path, kept.data ? kept.data : "", kept.size));
out:
    lcl_text_free(&kept);
    free(data);
    return status;
}

static lcl_status write_all(int fd, const char *path, const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return LCL_FAIL(LCL_IO, "cannot write %s: %s", path, strerror(errno));
        done += (size_t)n;
    }
    return LCL_OK;
}

lcl_status lcl_metrics_open(const char *output_dir, int64_t resume_step, bool evaluation_due,
                            struct lcl_metrics **out)
{
    lcl_status status = LCL_OK;
    char *runs = NULL;
    *out = NULL;
    LCL_TRY(lcl_fs_mkdirs(output_dir));
    struct lcl_metrics *m = calloc(1, sizeof *m);
    if (!m) return LCL_FAIL(LCL_MEMORY, "out of memory for the metrics of %s", output_dir);
    m->fd = -1;
    m->path = lcl_strdupf("%s/metrics.jsonl", output_dir);
    runs = lcl_strdupf("%s/runs", output_dir);
    if (!m->path || !runs) {
        status = LCL_FAIL(LCL_MEMORY, "out of memory for the metrics of %s", output_dir);
        goto out;
    }
    if (resume_step < 0)
        LCL_TRY_GOTO(lcl_fs_write_atomic(m->path, "", 0));
    else
        LCL_TRY_GOTO(keep_until(m->path, resume_step, evaluation_due));
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (m->fd < 0) {
        status = LCL_FAIL(LCL_IO, "cannot open %s: %s", m->path, strerror(errno));
        goto out;
    }
    LCL_TRY_GOTO(lcl_tfevents_open(runs, resume_step < 0 ? 0 : resume_step + 1, &m->events));
    *out = m;
    m = NULL;
out:
    free(runs);
    lcl_metrics_close(m);
    return status;
}

/* KIND/NAME, or KIND/NAME_Nshot where the line is about a shot count. */
static lcl_status log_events(struct lcl_metrics *m, const char *kind, double now, int64_t step,
                             const struct lcl_metric *values, size_t n)
{
    char tags[LCL_METRICS_PER_LINE][LCL_METRIC_NAME_BYTES + 64];
    struct lcl_tfscalar scalars[LCL_METRICS_PER_LINE];
    size_t count = 0;
    const struct lcl_metric *shots = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(values[i].name, "shots") == 0) shots = &values[i];
    for (size_t i = 0; i < n; i++) {
        if (&values[i] == shots) continue;
        if (shots)
            snprintf(tags[count], sizeof tags[count], "%.40s/%.*s_%.0fshot", kind,
                     LCL_METRIC_NAME_BYTES, values[i].name, shots->value);
        else
            snprintf(tags[count], sizeof tags[count], "%.40s/%.*s", kind, LCL_METRIC_NAME_BYTES,
                     values[i].name);
        scalars[count] = (struct lcl_tfscalar){tags[count], values[i].value};
        count++;
    }
    return lcl_tfevents_scalars(m->events, now, step, scalars, count);
}

lcl_status lcl_metrics_log(struct lcl_metrics *m, const char *kind, const char *stage, int64_t step,
                           const struct lcl_metric *values, size_t n)
{
    if (!m) return LCL_OK;
    if (n > LCL_METRICS_PER_LINE)
        return LCL_FAIL(LCL_RANGE, "%zu metrics in one line, at most %d", n, LCL_METRICS_PER_LINE);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    double now = (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
    struct lcl_text *t = &m->line;
    lcl_text_clear(t);
    lcl_text_puts(t, "{\"kind\":");
    lcl_text_json_string(t, kind);
    lcl_text_puts(t, ",\"stage\":");
    lcl_text_json_string(t, stage);
    lcl_text_printf(t, ",\"step\":%lld,\"time\":%.6f", (long long)step, now);
    for (size_t i = 0; i < n; i++) {
        lcl_text_puts(t, ",");
        lcl_text_json_string(t, values[i].name);
        lcl_text_puts(t, ":");
        lcl_text_json_number(t, values[i].value);
    }
    lcl_text_puts(t, "}\n");
    LCL_TRY(lcl_text_check(t));
    LCL_TRY(write_all(m->fd, m->path, t->data, t->size));
    return log_events(m, kind, now, step, values, n);
}

lcl_status lcl_metrics_sync(struct lcl_metrics *m)
{
    if (!m) return LCL_OK;
    if (fsync(m->fd) != 0 && errno != EINVAL && errno != EROFS)
        return LCL_FAIL(LCL_IO, "cannot flush %s: %s", m->path, strerror(errno));
    return lcl_tfevents_sync(m->events);
}

void lcl_metrics_close(struct lcl_metrics *m)
{
    if (!m) return;
    if (m->fd >= 0) close(m->fd);
    lcl_tfevents_close(m->events);
    lcl_text_free(&m->line);
    free(m->path);
    free(m);
}

/* ---- reading ---- */

static void read_row(const json_t *object, int64_t step, struct lcl_metrics_row *row)
{
    memset(row, 0, sizeof *row);
    const char *kind = json_string_value(json_object_get(object, "kind"));
    const char *stage = json_string_value(json_object_get(object, "stage"));
    snprintf(row->kind, sizeof row->kind, "%s", kind ? kind : "");
    snprintf(row->stage, sizeof row->stage, "%s", stage ? stage : "");
    row->step = step;
#define X(name)                                                             \
    {                                                                       \
        const json_t *v = json_object_get(object, #name);                   \
        row->name = json_is_number(v) ? json_number_value(v) : (double)NAN; \
    }
    LCL_METRIC_COLUMNS(X)
#undef X
}

static lcl_status grow(struct lcl_metrics_table *t, size_t *cap)
{
    if (t->n < *cap) return LCL_OK;
    size_t wanted = *cap ? *cap * 2 : 256;
    struct lcl_metrics_row *rows = realloc(t->rows, wanted * sizeof *rows);
    if (!rows) return LCL_FAIL(LCL_MEMORY, "out of memory for %zu lines of metrics", wanted);
    t->rows = rows;
    *cap = wanted;
    return LCL_OK;
}

lcl_status lcl_metrics_load(const char *path, struct lcl_metrics_table *out)
{
    lcl_status status = LCL_OK;
    char *data = NULL;
    size_t size = 0, cap = 0, number = 1;
    *out = (struct lcl_metrics_table){0};
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    for (const char *at = data, *end = data + size; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline) break;
        int64_t step = 0;
        json_t *object = parse_line(at, (size_t)(newline - at), &step);
        if (!object) {
            status =
                LCL_FAIL(LCL_FORMAT, "%s:%zu: no JSON object with an integer step", path, number);
            goto out;
        }
        status = grow(out, &cap);
        if (status == LCL_OK) read_row(object, step, &out->rows[out->n++]);
        json_decref(object);
        if (status != LCL_OK) goto out;
        at = newline + 1;
    }
out:
    free(data);
    if (status != LCL_OK) lcl_metrics_table_free(out);
    return status;
}

void lcl_metrics_table_free(struct lcl_metrics_table *t)
{
    free(t->rows);
    *t = (struct lcl_metrics_table){0};
}
