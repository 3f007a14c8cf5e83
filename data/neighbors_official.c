#include "data/neighbors_official.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/rng.h"
#include "data/official_table.h"

/* ---- which class a row is ---- */

enum { AMBIGUOUS = -2, MOST_PATHS = 1 << 21 };

/* Numbers by the 64-bit hashes of texts, which stay out of memory: 12 bytes a slot, at most half of
 * the slots taken. */
struct numbers {
    uint64_t *hash; /* 0: a free slot */
    int32_t *value;
    size_t mask, n;
};

/* Class numbers by id, by the last part of the id, by name; and by the file's class_id. A key that
 * several classes share leads to AMBIGUOUS. */
struct keys {
    json_t *id, *folder, *name;
    struct numbers row;
};

static void numbers_free(struct numbers *m)
{
    free(m->hash);
    free(m->value);
    *m = (struct numbers){0};
}

static size_t slot_of(const struct numbers *m, uint64_t hash)
{
    size_t k = hash & m->mask;
    while (m->hash[k] && m->hash[k] != hash) k = (k + 1) & m->mask;
    return k;
}

static bool numbers_grow(struct numbers *m)
{
    size_t size = m->hash ? 2 * (m->mask + 1) : 1024;
    struct numbers to = {calloc(size, sizeof *to.hash), malloc(size * sizeof *to.value), size - 1,
                         m->n};
    if (!to.hash || !to.value) {
        numbers_free(&to);
        return false;
    }
    for (size_t i = 0; m->hash && i <= m->mask; i++) {
        if (!m->hash[i]) continue;
        size_t k = slot_of(&to, m->hash[i]);
        to.hash[k] = m->hash[i];
        to.value[k] = m->value[i];
    }
    numbers_free(m);
    *m = to;
    return true;
}

/* The number of a text; *had says whether it was there, else it is put there with `value`. */
static lcl_status number_of(struct numbers *m, const char *text, int32_t value, bool *had,
                            int32_t *number)
{
    uint64_t hash = lcl_hash_string(text);
    if ((!m->hash || 2 * m->n > m->mask) && !numbers_grow(m))
        return LCL_FAIL(LCL_MEMORY, "no memory for the rows and paths of a table");
    size_t k = slot_of(m, hash ? hash : 1);
    *had = m->hash[k] != 0;
    if (!*had) {
        m->hash[k] = hash ? hash : 1;
        m->value[k] = value;
        m->n++;
    }
    *number = m->value[k];
    return LCL_OK;
}

/* -1: not there. */
static int32_t find_number(const struct numbers *m, const char *text)
{
    uint64_t hash = lcl_hash_string(text);
    if (!m->hash) return -1;
    size_t k = slot_of(m, hash ? hash : 1);
    return m->hash[k] ? m->value[k] : -1;
}

static lcl_status put(json_t *map, const char *key, int32_t c)
{
    const json_t *had = json_object_get(map, key);
    if (had && json_integer_value(had) != c) c = AMBIGUOUS;
    if (json_object_set_new(map, key, json_integer(c)) == 0) return LCL_OK;
    return LCL_FAIL(LCL_MEMORY, "no memory for the classes' names");
}

static int32_t get(const json_t *map, const char *key)
{
    const json_t *v = json_object_get(map, key);
    return v ? (int32_t)json_integer_value(v) : -1;
}

static void keys_free(struct keys *k)
{
    json_decref(k->id);
    json_decref(k->folder);
    json_decref(k->name);
    numbers_free(&k->row);
}

static lcl_status keys_of(const struct lcl_pack *pack, struct keys *k)
{
    *k = (struct keys){.id = json_object(), .folder = json_object(), .name = json_object()};
    for (int32_t c = 0; c < pack->n_classes; c++) {
        const struct lcl_class *class = &pack->classes[c];
        LCL_TRY(put(k->id, class->id, c));
        LCL_TRY(put(k->folder, lcl_fs_basename(class->id), c));
        LCL_TRY(put(k->name, class->name, c));
    }
    return LCL_OK;
}

/* The class of "train/n02119789/x.JPEG" by its folder; -1. */
static int32_t by_folder(const struct keys *k, const char *path)
{
    const char *file = lcl_fs_basename(path), *at = file - 1;
    char folder[LCL_CLASS_NAME_BYTES];
    if (file == path) return -1;
    while (at > path && at[-1] != '/') at--;
    if ((size_t)(file - 1 - at) >= sizeof folder) return -1;
    memcpy(folder, at, (size_t)(file - 1 - at));
    folder[file - 1 - at] = '\0';
    int32_t c = get(k->folder, folder);
    return c == AMBIGUOUS ? -1 : c;
}

static int32_t find_class(const struct keys *k, const char *id, const char *name,
                          const char *const *paths, size_t n)
{
    int32_t c = get(k->id, id);
    for (size_t i = 0; i < n && c < 0; i++) c = by_folder(k, paths[i]);
    return c >= 0 ? c : get(k->name, name);
}

/* ---- import ---- */

struct import {
    const struct lcl_pack *pack;
    const char *path;
    struct keys keys;
    int64_t *line_of;     /* [n_classes] 0: no row */
    struct numbers paths; /* the line of each that was seen first, of at most MOST_PATHS */
    struct lcl_neighbors *t;
    struct lcl_official_report *report;
};

static lcl_status count_paths(struct import *m, const struct lcl_official_row *row)
{
    for (size_t i = 0; i < row->samples.n; i++) {
        const char *path = row->samples.v[i];
        bool had;
        int32_t line = (int32_t)row->line;
        m->report->val_paths += strncmp(path, "val/", 4) == 0;
        if (m->paths.n == MOST_PATHS) {
            m->report->paths_not_compared++;
            continue;
        }
        LCL_TRY(number_of(&m->paths, path, line, &had, &line));
        m->report->shared_paths += had && line != (int32_t)row->line;
    }
    return LCL_OK;
}

static lcl_status find_row(struct import *m, const struct lcl_official_row *row)
{
    struct lcl_official_report *r = m->report;
    int32_t c = find_class(&m->keys, row->id, row->name, row->samples.v, row->samples.n);
    r->rows++;
    LCL_TRY(count_paths(m, row));
    bool had;
    int32_t number;
    LCL_TRY(number_of(&m->keys.row, row->id, c < 0 ? AMBIGUOUS : c, &had, &number));
    if (had)
        return LCL_FAIL(LCL_FORMAT, "%s:%lld: class_id \"%s\" is that of a row before", m->path,
                        (long long)row->line, row->id);
    if (c == AMBIGUOUS)
        return LCL_FAIL_HINT(LCL_FORMAT, "give the pack's classes the file's ids or folders",
                             "%s:%lld: several classes of %s are called \"%s\"", m->path,
                             (long long)row->line, m->pack->path, row->name);
    if (c < 0) {
        r->unknown_rows++;
        return LCL_OK;
    }
    if (m->line_of[c])
        return LCL_FAIL_HINT(LCL_FORMAT, "a class_id, folder or name fits both rows",
                             "%s:%lld: class \"%s\" (class_id %s) is class %s of the pack, which "
                             "line %lld is already",
                             m->path, (long long)row->line, row->name, row->id,
                             m->pack->classes[c].id, (long long)m->line_of[c]);
    m->line_of[c] = row->line;
    if ((int32_t)row->n_neighbors > m->t->width) m->t->width = (int32_t)row->n_neighbors;
    return LCL_OK;
}

static void add_neighbor(struct import *m, int32_t c, const struct lcl_official_neighbor *v,
                         int32_t *n)
{
    int32_t *row = m->t->index + (size_t)c * (size_t)m->t->width;
    struct lcl_official_report *r = m->report;
    int32_t o = find_number(&m->keys.row, v->id);
    if (o == -1) o = find_class(&m->keys, v->id, v->name, (const char *const[]){v->sample}, 1);
    if (o < 0) {
        r->unknown_neighbors++;
        return;
    }
    bool there = o == c;
    for (int32_t k = 0; k < *n; k++) there |= row[k] == o;
    if (there) {
        r->repeated++;
    } else if (m->pack->classes[o].split != m->pack->classes[c].split) {
        r->other_split++;
    } else {
        row[(*n)++] = o;
        r->neighbors++;
    }
}

static lcl_status fill_row(struct import *m, const struct lcl_official_row *row)
{
    int32_t c = find_number(&m->keys.row, row->id), n = 0;
    if (c < 0) return LCL_OK;
    for (size_t k = 0; k < row->n_neighbors; k++) add_neighbor(m, c, &row->neighbors[k], &n);
    return LCL_OK;
}

static lcl_status each_row(struct import *m,
                           lcl_status (*visit)(struct import *, const struct lcl_official_row *))
{
    struct lcl_official_table file;
    const struct lcl_official_row *row = NULL;
    LCL_TRY(lcl_official_open(m->path, &file));
    lcl_status status;
    do {
        status = lcl_official_next(&file, &row);
        if (status == LCL_OK && row) status = visit(m, row);
    } while (status == LCL_OK && row);
    lcl_official_close(&file);
    return status;
}

static lcl_status import_rows(struct import *m)
{
    struct lcl_neighbors *t = m->t;
    LCL_TRY(keys_of(m->pack, &m->keys));
    LCL_TRY(each_row(m, find_row));
    if (m->report->rows == m->report->unknown_rows)
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "the pack's classes need the file's class_id as id, the folder of its "
                             "samples, or its class_name as name",
                             "%s: none of its %lld classes is in %s", m->path,
                             (long long)m->report->rows, m->pack->path);
    size_t cells = (size_t)t->n_classes * (size_t)t->width;
    t->index = malloc(cells * sizeof *t->index);
    t->similarity = calloc(cells, sizeof *t->similarity);
    if (!t->index || !t->similarity)
        return LCL_FAIL(LCL_MEMORY, "no memory for the neighbors of %d classes", t->n_classes);
    for (size_t i = 0; i < cells; i++) t->index[i] = -1;
    for (int32_t c = t->n_classes - 1; c >= 0; c--) {
        if (m->line_of[c]) continue;
        m->report->missing++;
        snprintf(m->report->first_missing, sizeof m->report->first_missing, "%s",
                 m->pack->classes[c].id);
    }
    return each_row(m, fill_row);
}

lcl_status lcl_neighbors_import(const struct lcl_pack *pack, const char *path,
                                struct lcl_neighbors *out, struct lcl_official_report *report)
{
    *out = (struct lcl_neighbors){.n_classes = pack->n_classes, .width = 1};
    *report = (struct lcl_official_report){0};
    struct import m = {.pack = pack,
                       .path = path,
                       .line_of = calloc((size_t)pack->n_classes + 1, sizeof *m.line_of),
                       .t = out,
                       .report = report};
    lcl_status status =
        m.line_of ? import_rows(&m) : LCL_FAIL(LCL_MEMORY, "no memory for %s", path);
    keys_free(&m.keys);
    numbers_free(&m.paths);
    free(m.line_of);
    if (status != LCL_OK) lcl_neighbors_free(out);
    return status;
}

/* ---- export ---- */

static lcl_status append_name(struct lcl_pack *pack, int64_t image, json_t *list)
{
    const char *name;
    LCL_TRY(lcl_pack_image_name(pack, image, &name));
    if (json_array_append_new(list, json_string(name)) == 0) return LCL_OK;
    return LCL_FAIL(LCL_FORMAT, "%s: the name of picture %lld is not UTF-8", pack->path,
                    (long long)image);
}

static lcl_status fill_object(struct lcl_pack *pack, const struct lcl_neighbors *t, int32_t c,
                              int64_t samples, uint64_t seed, json_t *paths, json_t *neighbors)
{
    const struct lcl_class *class = &pack->classes[c];
    struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_NEIGHBORS, 1, (uint64_t)(uint32_t)c);
    int64_t m = samples > 0 && samples < class->n_images ? samples : class->n_images;
    for (int64_t k = 0; k < m; k++)
        LCL_TRY(append_name(pack, class->images[k * class->n_images / m], paths));
    for (int32_t k = 0; k < t->width; k++) {
        int32_t o = t->index[(size_t)c * (size_t)t->width + (size_t)k];
        if (o < 0) break;
        const struct lcl_class *other = &pack->classes[o];
        json_t *three = json_pack("[s, s]", other->id, other->name);
        if (json_array_append_new(neighbors, three) != 0)
            return LCL_FAIL(LCL_FORMAT, "%s: the name of class %s is not UTF-8", pack->path,
                            other->id);
        LCL_TRY(append_name(pack, other->images[lcl_rng_below(&rng, (uint32_t)other->n_images)],
                            three));
    }
    return LCL_OK;
}

static lcl_status write_row(struct lcl_pack *pack, const struct lcl_neighbors *t, int32_t c,
                            int64_t samples, uint64_t seed, FILE *f)
{
    const struct lcl_class *class = &pack->classes[c];
    json_t *paths = json_array(), *neighbors = json_array();
    json_t *row = json_pack("{s:s, s:s, s:O, s:O}", "class_id", class->id, "class_name",
                            class->name, "samples", paths, "neighbors", neighbors);
    lcl_status status =
        row ? fill_object(pack, t, c, samples, seed, paths, neighbors)
            : LCL_FAIL(LCL_FORMAT, "%s: the name of class %s is not UTF-8", pack->path, class->id);
    if (status == LCL_OK) {
        (void)json_dumpf(row, f, 0);
        (void)fputc('\n', f);
    }
    json_decref(row);
    json_decref(paths);
    json_decref(neighbors);
    return status;
}

lcl_status lcl_neighbors_export(struct lcl_pack *pack, const struct lcl_neighbors *t,
                                int64_t samples, uint64_t seed, const char *path)
{
    char *beside = lcl_strdupf("%s.writing", path);
    FILE *f = beside ? fopen(beside, "wb") : NULL;
    lcl_status status = LCL_OK;
    if (!beside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (!f) {
        status = lcl_fs_fail_write(path);
        free(beside);
        return status;
    }
    for (int32_t c = 0; c < pack->n_classes && status == LCL_OK; c++)
        if (pack->classes[c].split == LCL_SPLIT_TRAIN && pack->classes[c].n_images > 0)
            status = write_row(pack, t, c, samples, seed, f);
    bool bad = ferror(f) != 0;
    bad |= fclose(f) != 0;
    if (status == LCL_OK && bad) status = lcl_fs_fail_write(path);
    if (status == LCL_OK) status = lcl_fs_commit(beside, path);
    if (status != LCL_OK) (void)remove(beside);
    free(beside);
    return status;
}
