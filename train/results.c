#include "train/results.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/text.h"

#define MAX_FILE_BYTES ((size_t)16 << 20)

static struct lcl_result_cell empty_cell(int64_t shots)
{
    struct lcl_result_cell c = {.shots = shots};
#define X(name) c.name = (double)NAN;
    LCL_RESULTS_FIELDS(X)
#undef X
#define X(name) c.name[0] = c.name[1] = (double)NAN;
    LCL_RESULTS_INTERVALS(X)
#undef X
    return c;
}

static lcl_status copy_name(char *out, const char *name)
{
    if (strlen(name) >= LCL_RESULTS_NAME_BYTES || !name[0])
        return LCL_FAIL(LCL_RANGE, "name \"%.80s\" in the results, wanted 1..%d bytes", name,
                        LCL_RESULTS_NAME_BYTES - 1);
    snprintf(out, LCL_RESULTS_NAME_BYTES, "%s", name);
    return LCL_OK;
}

const struct lcl_result_row *lcl_results_find_row(const struct lcl_results *r, const char *name)
{
    for (int i = 0; i < r->n_rows; i++)
        if (strcmp(r->rows[i].name, name) == 0) return &r->rows[i];
    return NULL;
}

const struct lcl_result_cell *lcl_results_find(const struct lcl_results *r, const char *row,
                                               int64_t shots)
{
    const struct lcl_result_row *found = lcl_results_find_row(r, row);
    for (int i = 0; found && i < found->n; i++)
        if (found->cells[i].shots == shots) return &found->cells[i];
    return NULL;
}

lcl_status lcl_results_cell(struct lcl_results *r, const char *row, int64_t shots,
                            struct lcl_result_cell **out)
{
    int i = 0, k = 0;
    while (i < r->n_rows && strcmp(r->rows[i].name, row) != 0) i++;
    if (i == r->n_rows) {
        if (i == LCL_RESULTS_MAX_ROWS || strcmp(row, "seconds") == 0)
            return LCL_FAIL(LCL_RANGE, "no room for row \"%s\" in the results (at most %d rows)",
                            row, LCL_RESULTS_MAX_ROWS);
        LCL_TRY(copy_name(r->rows[i].name, row));
        r->rows[i].n = 0;
        r->n_rows++;
    }
    struct lcl_result_row *to = &r->rows[i];
    while (k < to->n && to->cells[k].shots < shots) k++;
    if (k == to->n || to->cells[k].shots != shots) {
        if (to->n == LCL_RESULTS_MAX_CELLS)
            return LCL_FAIL(LCL_RANGE, "row \"%s\" has more than %d shot counts", row,
                            LCL_RESULTS_MAX_CELLS);
        memmove(&to->cells[k + 1], &to->cells[k], (size_t)(to->n - k) * sizeof to->cells[0]);
        to->cells[k] = empty_cell(shots);
        to->n++;
    }
    *out = &to->cells[k];
    return LCL_OK;
}

lcl_status lcl_results_seconds(struct lcl_results *r, const char *stage, double seconds)
{
    int i = 0;
    while (i < r->n_seconds && strcmp(r->seconds[i].name, stage) != 0) i++;
    if (i == LCL_RESULTS_MAX_SECONDS)
        return LCL_FAIL(LCL_RANGE, "more than %d stages in the results", LCL_RESULTS_MAX_SECONDS);
    LCL_TRY(copy_name(r->seconds[i].name, stage));
    r->seconds[i].seconds = seconds;
    if (i == r->n_seconds) r->n_seconds++;
    return LCL_OK;
}

double lcl_result_value(const struct lcl_result_cell *c, enum lcl_result_measure measure,
                        double interval[2])
{
    bool greedy = measure == LCL_BY_GREEDY, only_likelihood = isnan(c->greedy);
    const double *from = greedy || only_likelihood ? c->ci95 : c->likelihood_ci95;
    bool other = greedy && only_likelihood; /* ci95 then belongs to the other measure */
    interval[0] = other ? (double)NAN : from[0];
    interval[1] = other ? (double)NAN : from[1];
    return greedy ? c->greedy : c->likelihood;
}

/* ---- writing ---- */

static void write_cell(struct lcl_text *t, const struct lcl_result_cell *c)
{
    const char *comma = "";
    lcl_text_printf(t, "    \"%lld\": {", (long long)c->shots);
#define X(name)                                         \
    if (!isnan(c->name)) {                              \
        lcl_text_printf(t, "%s\"%s\": ", comma, #name); \
        lcl_text_json_number(t, c->name);               \
        comma = ", ";                                   \
    }
    LCL_RESULTS_FIELDS(X)
#undef X
#define X(name)                                          \
    if (!isnan(c->name[0]) && !isnan(c->name[1])) {      \
        lcl_text_printf(t, "%s\"%s\": [", comma, #name); \
        lcl_text_json_number(t, c->name[0]);             \
        lcl_text_puts(t, ", ");                          \
        lcl_text_json_number(t, c->name[1]);             \
        lcl_text_puts(t, "]");                           \
        comma = ", ";                                    \
    }
    LCL_RESULTS_INTERVALS(X)
#undef X
    lcl_text_puts(t, "}");
}

void lcl_results_text(const struct lcl_results *r, struct lcl_text *t)
{
    lcl_text_puts(t, "{\n");
    for (int i = 0; i < r->n_rows; i++) {
        lcl_text_puts(t, "  ");
        lcl_text_json_string(t, r->rows[i].name);
        lcl_text_puts(t, ": {\n");
        for (int k = 0; k < r->rows[i].n; k++) {
            write_cell(t, &r->rows[i].cells[k]);
            lcl_text_puts(t, k + 1 < r->rows[i].n ? ",\n" : "\n");
        }
        lcl_text_puts(t, "  },\n");
    }
    lcl_text_puts(t, "  \"seconds\": {");
    for (int i = 0; i < r->n_seconds; i++) {
        lcl_text_puts(t, i ? ", " : "");
        lcl_text_json_string(t, r->seconds[i].name);
        lcl_text_puts(t, ": ");
        lcl_text_json_number(t, r->seconds[i].seconds);
    }
    lcl_text_puts(t, "}\n}");
}

lcl_status lcl_results_save(const struct lcl_results *r, const char *path)
{
    struct lcl_text t = {0};
    lcl_results_text(r, &t);
    lcl_text_puts(&t, "\n");
    lcl_status status = lcl_text_check(&t);
    if (status == LCL_OK) status = lcl_fs_write_atomic(path, t.data, t.size);
    lcl_text_free(&t);
    return status;
}

/* ---- reading ---- */

static lcl_status read_number(const json_t *object, const char *key, const char *where, double high,
                              double *out)
{
    const json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v)) return LCL_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= 0 && x <= high))
        return LCL_FAIL(LCL_FORMAT, "%s: \"%s\" is not a number in 0..%g", where, key, high);
    *out = x;
    return LCL_OK;
}

static lcl_status read_interval(const json_t *object, const char *key, const char *where,
                                double out[2])
{
    const json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v)) return LCL_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_array_get(v, i);
        if (json_array_size(v) != 2 || !json_is_number(x) ||
            !(json_number_value(x) >= 0 && json_number_value(x) <= 1))
            return LCL_FAIL(LCL_FORMAT, "%s: \"%s\" is not [low, high] within 0..1", where, key);
        out[i] = json_number_value(x);
    }
    return LCL_OK;
}

static bool is_count(const char *key)
{
    return strcmp(key, "episodes") == 0 || strcmp(key, "seeds") == 0 || strcmp(key, "cider") == 0;
}

static lcl_status read_cell(struct lcl_results *r, const char *path, const char *row,
                            const char *shots, const json_t *object)
{
    char where[LCL_RESULTS_NAME_BYTES * 2 + 600];
    snprintf(where, sizeof where, "%.500s: %.64s: %.32s", path, row, shots);
    char *end = NULL;
    errno = 0;
    long long n = strtoll(shots, &end, 10);
    if (errno || end == shots || *end || n < 0 || n > 1000000000 || !json_is_object(object))
        return LCL_FAIL(LCL_FORMAT, "%s: wanted a shot count with an object", where);
    struct lcl_result_cell *c = NULL;
    LCL_TRY(lcl_results_cell(r, row, n, &c));
#define X(name) LCL_TRY(read_number(object, #name, where, is_count(#name) ? 1e15 : 1, &c->name));
    LCL_RESULTS_FIELDS(X)
#undef X
#define X(name) LCL_TRY(read_interval(object, #name, where, c->name));
    LCL_RESULTS_INTERVALS(X)
#undef X
    return LCL_OK;
}

lcl_status lcl_results_read(const json_t *root, const char *path, struct lcl_results *out)
{
    memset(out, 0, sizeof *out);
    const char *name, *key;
    json_t *row, *value;
    if (!json_is_object(root)) return LCL_FAIL(LCL_FORMAT, "%s: no JSON object", path);
    json_object_foreach((json_t *)root, name, row)
    {
        if (!json_is_object(row))
            return LCL_FAIL(LCL_FORMAT, "%s: \"%.64s\" is no object", path, name);
        json_object_foreach(row, key, value)
        {
            if (strcmp(name, "seconds") != 0) {
                LCL_TRY(read_cell(out, path, name, key, value));
                continue;
            }
            double seconds = (double)NAN;
            LCL_TRY(read_number(row, key, path, 1e15, &seconds));
            LCL_TRY(lcl_results_seconds(out, key, seconds));
        }
    }
    return LCL_OK;
}

lcl_status lcl_results_load(const char *path, struct lcl_results *out)
{
    char *data = NULL;
    size_t size = 0;
    json_error_t error;
    memset(out, 0, sizeof *out);
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
    free(data);
    if (!root) return LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
    lcl_status status = lcl_results_read(root, path, out);
    json_decref(root);
    return status;
}
