/* Reading the official class tables. A line may be hostile: types, sizes and counts are checked. */
#include "data/official_table.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/pack.h"

static const char form[] =
    "a row is {\"class_id\", \"class_name\", \"samples\": [path...], \"neighbors\": [[class_id, "
    "class_name, sample path]...]}";

static lcl_status bad(const struct lcl_official_table *t, const char *key, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT, form, "%s:%lld: \"%s\" %s", t->path, (long long)t->row.line,
                         key, what);
}

lcl_status lcl_official_open(const char *path, struct lcl_official_table *t)
{
    struct stat s;
    *t = (struct lcl_official_table){0};
    if (strlen(path) >= sizeof t->path)
        return LCL_FAIL(LCL_RANGE, "the path %.100s... is over %zu bytes", path,
                        sizeof t->path - 1);
    memcpy(t->path, path, strlen(path) + 1);
    if (stat(path, &s) != 0)
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path", "%s: %s", path,
                             strerror(errno));
    if (!S_ISREG(s.st_mode)) return LCL_FAIL(LCL_IO, "%s is no file", path);
    t->file = fopen(path, "rb");
    return t->file ? LCL_OK : LCL_FAIL(LCL_IO, "cannot read %s: %s", path, strerror(errno));
}

void lcl_official_close(struct lcl_official_table *t)
{
    if (t->file) fclose(t->file);
    json_decref(t->object);
    free(t->text);
    free(t->row.samples.v);
    free(t->row.context_samples.v);
    free(t->row.test_samples.v);
    free(t->row.neighbors);
    *t = (struct lcl_official_table){0};
}

/* One line without its end; *more false past the last. */
static lcl_status read_line(struct lcl_official_table *t, size_t *size, bool *more)
{
    size_t n = 0;
    int c = 0;
    while ((c = getc_unlocked(t->file)) != EOF && c != '\n') {
        if (n == t->cap) {
            size_t cap = 2 * t->cap + 4096;
            char *text = n < LCL_OFFICIAL_LINE_BYTES ? realloc(t->text, cap) : NULL;
            if (n >= LCL_OFFICIAL_LINE_BYTES)
                return LCL_FAIL_HINT(LCL_RANGE, form, "%s:%lld: a line of over %d bytes", t->path,
                                     (long long)t->row.line + 1, LCL_OFFICIAL_LINE_BYTES);
            if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a line of %s", t->path);
            t->text = text;
            t->cap = cap;
        }
        t->text[n++] = (char)c;
    }
    if (ferror(t->file)) return LCL_FAIL(LCL_IO, "cannot read %s: %s", t->path, strerror(errno));
    *size = n;
    *more = c != EOF || n > 0;
    t->row.line += *more;
    return LCL_OK;
}

static lcl_status get_text(const struct lcl_official_table *t, const json_t *v, const char *key,
                           size_t most, const char **out)
{
    size_t n = json_string_length(v);
    *out = json_string_value(v);
    if (!*out || n == 0) return bad(t, key, "is missing, empty, or holds what is no text");
    if (n >= most) return bad(t, key, "holds a text that is too long");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)(*out)[i] < ' ') return bad(t, key, "holds a control character");
    return LCL_OK;
}

static lcl_status get_paths(const struct lcl_official_table *t, const char *key,
                            struct lcl_official_paths *p)
{
    const json_t *list = json_object_get(t->object, key);
    size_t n = json_array_size(list);
    p->n = 0;
    if (!list) return LCL_OK;
    if (!json_is_array(list)) return bad(t, key, "is no list of paths");
    if (n > p->cap) {
        const char **v = realloc(p->v, n * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %zu paths", n);
        p->v = v;
        p->cap = n;
    }
    for (; p->n < n; p->n++)
        LCL_TRY(get_text(t, json_array_get(list, p->n), key, LCL_OFFICIAL_TEXT_BYTES, &p->v[p->n]));
    return LCL_OK;
}

static lcl_status get_neighbors(struct lcl_official_table *t)
{
    const json_t *list = json_object_get(t->object, "neighbors");
    struct lcl_official_row *row = &t->row;
    size_t n = json_array_size(list);
    row->n_neighbors = 0;
    if (!list) return LCL_OK;
    if (!json_is_array(list) || n > LCL_OFFICIAL_NEIGHBORS)
        return bad(t, "neighbors", "is no list, or one of over 4096");
    if (n > row->cap_neighbors) {
        struct lcl_official_neighbor *v = realloc(row->neighbors, n * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %zu neighbors", n);
        row->neighbors = v;
        row->cap_neighbors = n;
    }
    for (; row->n_neighbors < n; row->n_neighbors++) {
        const json_t *v = json_array_get(list, row->n_neighbors);
        struct lcl_official_neighbor *o = &row->neighbors[row->n_neighbors];
        if (json_array_size(v) != 3) return bad(t, "neighbors", "holds what is no list of three");
        LCL_TRY(get_text(t, json_array_get(v, 0), "neighbors", LCL_CLASS_NAME_BYTES, &o->id));
        LCL_TRY(get_text(t, json_array_get(v, 1), "neighbors", LCL_CLASS_NAME_BYTES, &o->name));
        LCL_TRY(
            get_text(t, json_array_get(v, 2), "neighbors", LCL_OFFICIAL_TEXT_BYTES, &o->sample));
    }
    return LCL_OK;
}

static lcl_status read_row(struct lcl_official_table *t, size_t size)
{
    json_error_t error;
    struct lcl_official_row *row = &t->row;
    json_decref(t->object);
    t->object = json_loadb(t->text, size, JSON_REJECT_DUPLICATES, &error);
    if (!t->object)
        return LCL_FAIL_HINT(LCL_FORMAT, form, "%s:%lld: %s", t->path, (long long)row->line,
                             error.text);
    if (!json_is_object(t->object))
        return LCL_FAIL_HINT(LCL_FORMAT, form, "%s:%lld: no JSON object", t->path,
                             (long long)row->line);
    LCL_TRY(get_text(t, json_object_get(t->object, "class_id"), "class_id", LCL_CLASS_NAME_BYTES,
                     &row->id));
    LCL_TRY(get_text(t, json_object_get(t->object, "class_name"), "class_name",
                     LCL_CLASS_NAME_BYTES, &row->name));
    LCL_TRY(get_paths(t, "samples", &row->samples));
    LCL_TRY(get_paths(t, "context_samples", &row->context_samples));
    LCL_TRY(get_paths(t, "test_samples", &row->test_samples));
    if (row->samples.n + row->context_samples.n + row->test_samples.n == 0)
        return bad(t, "samples", "is missing or empty, and so are the lists of a test file");
    return get_neighbors(t);
}

lcl_status lcl_official_next(struct lcl_official_table *t, const struct lcl_official_row **row)
{
    size_t size = 0, blank = 0;
    bool more = true;
    *row = NULL;
    do {
        LCL_TRY(read_line(t, &size, &more));
        for (blank = 0; blank < size && memchr(" \t\r", t->text[blank], 3);) blank++;
    } while (more && blank == size);
    if (!more) return LCL_OK;
    LCL_TRY(read_row(t, size));
    *row = &t->row;
    return LCL_OK;
}
