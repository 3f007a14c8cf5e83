/* Collecting the rows of a train table. */
#include "data/table_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/official_table.h"

enum { MAX_ROWS = 1 << 22 };

void table_rows_free(struct table_rows *t)
{
    free(t->text);
    free(t->row);
    free(t->sample);
    free(t->neighbor);
    *t = (struct table_rows){0};
}

/* Room for `more` beside the n that there are; list: address of a malloc'd list. */
static lcl_status grow(void *list, size_t n, size_t more, size_t *cap, size_t size)
{
    void *v;
    if (n + more <= *cap) return LCL_OK;
    size_t want = 2 * (n + more) + 64;
    memcpy(&v, list, sizeof v);
    if (!(v = realloc(v, want * size)))
        return LCL_FAIL(LCL_MEMORY, "no memory for the rows of a table");
    memcpy(list, &v, sizeof v);
    *cap = want;
    return LCL_OK;
}

static lcl_status keep_text(struct table_rows *t, const char *s, uint64_t *at)
{
    size_t n = strlen(s) + 1;
    LCL_TRY(grow(&t->text, t->n_text, n, &t->cap_text, 1));
    memcpy(t->text + t->n_text, s, n);
    *at = t->n_text;
    t->n_text += n;
    return LCL_OK;
}

/* Paths stay within data.images. */
static bool is_inside(const char *s)
{
    if (s[0] == '/') return false;
    for (; s; s = strchr(s, '/')) {
        s += s[0] == '/';
        if (strncmp(s, "..", 2) == 0 && (s[2] == '/' || s[2] == '\0')) return false;
    }
    return true;
}

static lcl_status keep_path(struct table_rows *t, int64_t line, const char *key, const char *path,
                            uint64_t *at)
{
    if (is_inside(path)) return keep_text(t, path, at);
    return LCL_FAIL_HINT(LCL_FORMAT, "paths are relative to data.images, without ..",
                         "%s:%lld: \"%s\" has the path \"%.200s\", which leads elsewhere", t->path,
                         (long long)line, key, path);
}

static lcl_status keep_row(struct table_rows *t, const struct lcl_official_row *from)
{
    struct table_row row = {.line = from->line,
                            .sample = t->n_samples,
                            .neighbor = t->n_neighbors,
                            .n_samples = (int32_t)from->samples.n,
                            .n_neighbors = (int32_t)from->n_neighbors};
    if (from->samples.n == 0)
        return LCL_FAIL_HINT(LCL_FORMAT, "data.table is a train table: classes with samples",
                             "%s:%lld: \"samples\" is missing or empty", t->path,
                             (long long)from->line);
    if (t->n_rows == MAX_ROWS) return LCL_FAIL(LCL_RANGE, "%s has over %d rows", t->path, MAX_ROWS);
    LCL_TRY(keep_text(t, from->id, &row.id));
    LCL_TRY(keep_text(t, from->name, &row.name));
    LCL_TRY(grow(&t->sample, t->n_samples, from->samples.n, &t->cap_samples, sizeof *t->sample));
    for (size_t i = 0; i < from->samples.n; i++)
        LCL_TRY(
            keep_path(t, from->line, "samples", from->samples.v[i], &t->sample[t->n_samples++]));
    LCL_TRY(grow(&t->neighbor, t->n_neighbors, from->n_neighbors, &t->cap_neighbors,
                 sizeof *t->neighbor));
    for (size_t i = 0; i < from->n_neighbors; i++) {
        struct table_neighbor *k = &t->neighbor[t->n_neighbors++];
        LCL_TRY(keep_text(t, from->neighbors[i].id, &k->id));
        LCL_TRY(keep_text(t, from->neighbors[i].name, &k->name));
        LCL_TRY(keep_path(t, from->line, "neighbors", from->neighbors[i].sample, &k->path));
    }
    LCL_TRY(grow(&t->row, t->n_rows, 1, &t->cap_rows, sizeof *t->row));
    t->row[t->n_rows++] = row;
    return LCL_OK;
}

lcl_status table_rows_read(const char *path, struct table_rows *t)
{
    struct lcl_official_table file;
    const struct lcl_official_row *row = NULL;
    lcl_status status;
    *t = (struct table_rows){0};
    snprintf(t->path, sizeof t->path, "%s", path);
    LCL_TRY_GOTO(lcl_official_open(path, &file));
    do {
        LCL_TRY_GOTO(lcl_official_next(&file, &row));
        if (row) LCL_TRY_GOTO(keep_row(t, row));
    } while (row);
    if (t->n_rows == 0)
        status =
            LCL_FAIL_HINT(LCL_FORMAT, "a table is one JSON object a line", "%s has no rows", path);
out:
    lcl_official_close(&file);
    return status;
}
