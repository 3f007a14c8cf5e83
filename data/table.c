/* Train tables as packs: classes and pictures numbered, neighbors resolved, flaws counted. */
#include "data/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fs.h"
#include "core/rng.h"
#include "data/archived.h"
#include "data/episode.h"
#include "data/md5.h"
#include "data/pack_internal.h"
#include "data/shards.h"
#include "data/table_rows.h"

static const size_t MAX_TABLE_ENTRIES = (size_t)1 << 32;

struct table {
    const struct lcl_table_options *o;
    struct table_rows rows;
    struct lcl_pack *pack;
    struct lcl_neighbors *neighbors;
    struct lcl_table_flaws *flaws;
    int32_t *by_id; /* [n_classes] class numbers in the order of their ids */
    /* Open addressing by path and class, and by path alone: picture numbers, or -1. */
    int32_t *of_class, *of_any;
    size_t n_slots; /* a power of two */
};

static const char *text_at(const struct table *t, uint64_t at) { return t->rows.text + at; }

/* ---- classes ---- */

struct id_order {
    const char *text;
    int32_t number;
};

static int by_text(const void *a, const void *b)
{
    const struct id_order *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static lcl_status sort_ids(struct table *t)
{
    size_t n = t->rows.n_rows;
    struct id_order *v = calloc(n, sizeof *v);
    t->by_id = calloc(n, sizeof *t->by_id);
    lcl_status status = LCL_OK;
    if (!v || !t->by_id) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the ids of %zu classes", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = (struct id_order){text_at(t, t->rows.row[i].id), (int32_t)i};
    qsort(v, n, sizeof *v, by_text);
    for (size_t i = 0; i < n; i++) {
        t->by_id[i] = v[i].number;
        if (i == 0 || strcmp(v[i].text, v[i - 1].text) != 0) continue;
        status = LCL_FAIL(LCL_FORMAT, "%s:%lld: \"class_id\" %s is that of line %lld", t->rows.path,
                          (long long)t->rows.row[v[i].number].line, v[i].text,
                          (long long)t->rows.row[v[i - 1].number].line);
        break;
    }
out:
    free(v);
    return status;
}

static int32_t find_class(const struct table *t, const char *id)
{
    size_t low = 0, high = t->rows.n_rows;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(text_at(t, t->rows.row[t->by_id[middle]].id), id);
        if (order == 0) return t->by_id[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static lcl_status make_classes(struct table *t)
{
    struct lcl_pack *p = t->pack;
    p->classes = calloc(t->rows.n_rows, sizeof *p->classes);
    if (!p->classes) return LCL_FAIL(LCL_MEMORY, "no memory for %zu classes", t->rows.n_rows);
    p->n_classes = (int32_t)t->rows.n_rows;
    for (int32_t i = 0; i < p->n_classes; i++) {
        struct lcl_class *c = &p->classes[i];
        snprintf(c->id, sizeof c->id, "%s", text_at(t, t->rows.row[i].id));
        snprintf(c->name, sizeof c->name, "%s", text_at(t, t->rows.row[i].name));
        c->split = LCL_SPLIT_TRAIN;
    }
    return sort_ids(t);
}

/* Names as labels are made of them, in order; those that several classes have are named. */
static lcl_status find_same_names(struct table *t)
{
    size_t n = t->rows.n_rows, used = 0;
    struct lcl_table_flaws *f = t->flaws;
    char(*label)[LCL_LABEL_BYTES] = calloc(n, sizeof *label);
    struct id_order *v = calloc(n, sizeof *v);
    if (!label || !v) {
        free(label);
        free(v);
        return LCL_FAIL(LCL_MEMORY, "no memory for the names of %zu classes", n);
    }
    for (size_t i = 0; i < n; i++) {
        lcl_label_of_name(t->pack->classes[i].name, label[i]);
        v[i] = (struct id_order){label[i], (int32_t)i};
    }
    qsort(v, n, sizeof *v, by_text);
    for (size_t i = 1; i < n; i++) {
        bool same = strcmp(v[i].text, v[i - 1].text) == 0;
        if (!same || (i > 1 && strcmp(v[i].text, v[i - 2].text) == 0)) continue;
        f->n_names++;
        if (used < sizeof f->names) {
            int k = snprintf(f->names + used, sizeof f->names - used, "%s%s", used ? ", " : "",
                             v[i].text);
            used += k > 0 ? (size_t)k : 0;
        }
    }
    free(label);
    free(v);
    return LCL_OK;
}

/* ---- pictures ---- */

static lcl_status reserve_pictures(struct table *t)
{
    size_t most = t->rows.n_samples + (t->o->neighbor_pictures ? t->rows.n_neighbors : 0);
    struct pack_impl *m = calloc(1, sizeof *m);
    t->pack->impl = m;
    if (most > INT32_MAX)
        return LCL_FAIL(LCL_RANGE, "%s names %zu pictures; at most 2^31 - 1", t->rows.path, most);
    for (t->n_slots = 16; t->n_slots < 2 * most;) t->n_slots *= 2;
    t->of_class = malloc(t->n_slots * sizeof *t->of_class);
    t->of_any = malloc(t->n_slots * sizeof *t->of_any);
    t->pack->image_class = calloc(most, sizeof(int32_t));
    if (m) {
        m->fd = -1;
        m->root = lcl_strdupf("%s", strcmp(t->o->images, "none") == 0 ? "" : t->o->images);
        m->name_at = calloc(most, sizeof *m->name_at);
        m->images = calloc(most, sizeof *m->images);
    }
    if (!m || !m->root || !m->name_at || !m->images || !t->of_class || !t->of_any ||
        !t->pack->image_class)
        return LCL_FAIL(LCL_MEMORY, "no memory for an index of %zu pictures", most);
    memset(t->of_class, -1, t->n_slots * sizeof *t->of_class);
    memset(t->of_any, -1, t->n_slots * sizeof *t->of_any);
    return LCL_OK;
}

/* The picture of this class (-1: of any) at this path, or -1 and the slot it would stand in. */
static int32_t find_picture(const struct table *t, const char *path, int32_t class, size_t *slot)
{
    const struct pack_impl *m = t->pack->impl;
    const int32_t *slots = class < 0 ? t->of_any : t->of_class;
    uint64_t hash = lcl_hash_string(path) + (uint64_t)(class + 1) * 0x9E3779B97F4A7C15u;
    for (*slot = (size_t)(hash >> 20); slots[ *slot &= t->n_slots - 1] >= 0; ++*slot) {
        int32_t i = slots[*slot];
        if ((class < 0 || t->pack->image_class[i] == class) &&
            strcmp(text_at(t, m->name_at[i]), path) == 0)
            return i;
    }
    return -1;
}

static int32_t add_picture(struct table *t, uint64_t path, int32_t class, size_t slot)
{
    struct pack_impl *m = t->pack->impl;
    int32_t i = (int32_t)t->pack->n_images++;
    m->name_at[i] = path;
    t->pack->image_class[i] = class;
    t->of_class[slot] = i;
    return i;
}

static bool is_validation(const char *path)
{
    return strncmp(path, "val/", 4) == 0 || strstr(path, "/val/") ||
           strncmp(lcl_fs_basename(path), "ILSVRC2012_val_", 15) == 0;
}

static void number_samples(struct table *t)
{
    struct pack_impl *m = t->pack->impl;
    for (int32_t c = 0; c < t->pack->n_classes; c++) {
        const struct table_row *row = &t->rows.row[c];
        struct lcl_class *k = &t->pack->classes[c];
        int32_t *list = m->images + t->pack->n_images;
        k->images = list;
        for (int32_t i = 0; i < row->n_samples; i++) {
            uint64_t path = t->rows.sample[row->sample + (size_t)i];
            size_t slot, first;
            if (find_picture(t, text_at(t, path), c, &slot) >= 0) {
                t->flaws->n_repeated++;
                continue;
            }
            int32_t picture = list[k->n_images++] = add_picture(t, path, c, slot);
            t->flaws->n_validation += is_validation(text_at(t, path));
            if (find_picture(t, text_at(t, path), -1, &first) >= 0)
                t->flaws->n_shared++;
            else
                t->of_any[first] = picture;
        }
    }
    t->flaws->n_samples = t->pack->n_images;
}

/* ---- neighbors ---- */

static lcl_status resolve_row(struct table *t, int32_t c, int32_t *last_row)
{
    const struct table_row *row = &t->rows.row[c];
    struct lcl_neighbors *out = t->neighbors;
    int32_t *index = out->index + (size_t)c * (size_t)out->width, n = 0;
    for (int32_t j = 0; j < row->n_neighbors; j++) {
        const struct table_neighbor *v = &t->rows.neighbor[row->neighbor + (size_t)j];
        int32_t other = find_class(t, text_at(t, v->id));
        size_t slot;
        if (other < 0) {
            t->flaws->n_unknown++;
            continue;
        }
        if (other == c || last_row[other] == c + 1)
            return LCL_FAIL(LCL_FORMAT, "%s:%lld: \"neighbors\" names class %s%s", t->rows.path,
                            (long long)row->line, text_at(t, v->id),
                            other == c ? " itself" : " twice");
        last_row[other] = c + 1;
        t->flaws->n_renamed +=
            strcmp(text_at(t, v->name), text_at(t, t->rows.row[other].name)) != 0;
        int32_t picture = find_picture(t, text_at(t, v->path), other, &slot);
        t->flaws->n_outside += picture < 0 || picture >= t->flaws->n_samples;
        if (picture < 0 && out->image) picture = add_picture(t, v->path, other, slot);
        if (out->image) out->image[(size_t)c * (size_t)out->width + (size_t)n] = picture;
        index[n++] = other;
    }
    return LCL_OK;
}

static lcl_status resolve_neighbors(struct table *t)
{
    struct lcl_neighbors *out = t->neighbors;
    size_t n = t->rows.n_rows;
    for (size_t c = 0; c < n; c++)
        if (t->rows.row[c].n_neighbors > out->width) out->width = t->rows.row[c].n_neighbors;
    size_t entries = n * (size_t)out->width;
    if (entries == 0) return LCL_OK;
    if (entries > MAX_TABLE_ENTRIES)
        return LCL_FAIL(LCL_RANGE, "%s: %zu classes of up to %d neighbors are over 2^32 entries",
                        t->rows.path, n, (int)out->width);
    out->n_classes = (int32_t)n;
    out->index = malloc(entries * sizeof *out->index);
    if (t->o->neighbor_pictures) out->image = malloc(entries * sizeof *out->image);
    int32_t *last_row = calloc(n, sizeof *last_row);
    lcl_status status = LCL_OK;
    if (!out->index || !last_row || (t->o->neighbor_pictures && !out->image)) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %zu neighbors", entries);
    } else {
        memset(out->index, -1, entries * sizeof *out->index);
        if (out->image) memset(out->image, -1, entries * sizeof *out->image);
    }
    for (int32_t c = 0; c < (int32_t)n && status == LCL_OK; c++)
        status = resolve_row(t, c, last_row);
    free(last_row);
    return status;
}

/* ---- content ---- */

/* Marks pictures that are no files of their own in the folder; sizes and times of those that are
 * stand for their contents. */
static lcl_status look_in_folder(const struct table *t, struct lcl_md5 *md5, bool *missing,
                                 int64_t *n_missing)
{
    const struct pack_impl *m = t->pack->impl;
    const bool folder = lcl_fs_is_dir(m->root);
    *n_missing = 0;
    for (int64_t i = 0; i < t->pack->n_images; i++) {
        struct stat s = {0};
        char *path = lcl_strdupf("%s/%s", m->root, text_at(t, m->name_at[i]));
        if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        missing[i] = !folder || stat(path, &s) != 0 || !S_ISREG(s.st_mode);
        free(path);
        *n_missing += missing[i];
        int64_t of_file[3] = {(int64_t)s.st_size, (int64_t)s.st_mtim.tv_sec,
                              (int64_t)s.st_mtim.tv_nsec};
        lcl_md5_update(md5, of_file, sizeof of_file);
    }
    return LCL_OK;
}

static int64_t line_of(const struct table *t, int64_t picture)
{
    return t->rows.row[t->pack->image_class[picture]].line;
}

/* Those of missing pictures that lie in the archives that data.images means; none where it means
 * none. */
static lcl_status look_in_archives(struct table *t, struct lcl_md5 *md5, bool *missing,
                                   int64_t *n_missing)
{
    struct pack_impl *m = t->pack->impl;
    int64_t n = t->pack->n_images, which;
    const char **paths = malloc((size_t)n * sizeof *paths);
    char *cache = lcl_strdupf("%s.archives", t->o->table);
    struct lcl_archived *a = calloc(1, sizeof *a);
    lcl_status status = paths && cache && a ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for paths");
    for (int64_t i = 0; i < n && status == LCL_OK; i++) paths[i] = text_at(t, m->name_at[i]);
    if (status == LCL_OK) {
        status = lcl_archived_find(m->root, paths, missing, n, cache, a, &which);
        if (status == LCL_OK)
            m->archived = a;
        else if (which >= 0)
            status =
                lcl_fail_context(status, "%s:%lld", t->rows.path, (long long)line_of(t, which));
        if (status == LCL_NOT_FOUND && lcl_fs_is_dir(m->root)) status = LCL_OK; /* no archives */
    }
    if (!m->archived) free(a);
    for (int64_t i = 0; i < n && m->archived; i++) {
        const struct lcl_archived_place *p = &a->place[i];
        if (!missing[i] || p->archive < 0) continue;
        missing[i] = false;
        --*n_missing;
        int64_t place[3] = {p->offset, p->size_bytes, a->mtime_ns[p->archive]};
        lcl_md5_update(md5, place, sizeof place);
    }
    free(paths);
    free(cache);
    return status;
}

static lcl_status fail_missing(const struct table *t, const bool *missing, int64_t n_missing)
{
    const struct pack_impl *m = t->pack->impl;
    char archives[64] = "";
    int64_t first = 0;
    while (!missing[first]) first++;
    if (m->archived)
        snprintf(archives, sizeof archives, " nor in archives (%d) there",
                 (int)m->archived->n_archives);
    return LCL_FAIL_HINT(LCL_NOT_FOUND,
                         "data.images is the folder that the table's paths begin in, or what "
                         "holds the archives of its pictures",
                         "%s:%lld: there is no picture %s/%s%s; of %lld pictures %lld are missing",
                         t->rows.path, (long long)line_of(t, first), m->root,
                         text_at(t, m->name_at[first]), archives, (long long)t->pack->n_images,
                         (long long)n_missing);
}

/* Where each picture is, into the content's hash; a missing one is an error. */
static lcl_status find_pictures(struct table *t, struct lcl_md5 *md5)
{
    const struct pack_impl *m = t->pack->impl;
    int64_t n_missing;
    if (m->root[0] == '\0') return LCL_OK;
    if (!lcl_shards_exist(m->root))
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "the folder that the table's paths begin in, archives, or none",
                             "data.images: there is no folder %s", m->root);
    bool *missing = malloc((size_t)t->pack->n_images + 1);
    if (!missing) return LCL_FAIL(LCL_MEMORY, "no memory to look for pictures");
    lcl_status status = look_in_folder(t, md5, missing, &n_missing);
    if (status == LCL_OK && n_missing) status = look_in_archives(t, md5, missing, &n_missing);
    if (status == LCL_OK && n_missing) status = fail_missing(t, missing, n_missing);
    free(missing);
    return status;
}

static lcl_status hash_content(struct table *t)
{
    const struct pack_impl *m = t->pack->impl;
    struct lcl_md5 md5;
    unsigned char digest[16];
    lcl_md5_begin(&md5);
    for (int32_t c = 0; c < t->pack->n_classes; c++) {
        const struct lcl_class *k = &t->pack->classes[c];
        lcl_md5_update(&md5, k->id, strlen(k->id) + 1);
        lcl_md5_update(&md5, k->name, strlen(k->name) + 1);
    }
    for (int64_t i = 0; i < t->pack->n_images; i++) {
        const char *name = text_at(t, m->name_at[i]);
        lcl_md5_update(&md5, name, strlen(name) + 1);
        lcl_md5_update(&md5, &t->pack->image_class[i], sizeof t->pack->image_class[i]);
    }
    LCL_TRY(find_pictures(t, &md5));
    lcl_md5_end(&md5, digest);
    memcpy(&t->pack->content_hash, digest, sizeof t->pack->content_hash);
    return LCL_OK;
}

/* ---- the whole ---- */

static lcl_status open_table(struct table *t)
{
    struct pack_impl *m;
    LCL_TRY(table_rows_read(t->o->table, &t->rows));
    LCL_TRY(make_classes(t));
    LCL_TRY(find_same_names(t));
    LCL_TRY(reserve_pictures(t));
    number_samples(t);
    LCL_TRY(resolve_neighbors(t));
    LCL_TRY(hash_content(t));
    m = t->pack->impl;
    m->names = t->rows.text; /* the pack's from here on */
    t->rows.text = NULL;
    return LCL_OK;
}

lcl_status lcl_pack_open_table(const struct lcl_table_options *o, struct lcl_pack *pack,
                               struct lcl_neighbors *neighbors, struct lcl_table_flaws *flaws)
{
    *pack = (struct lcl_pack){0};
    *neighbors = (struct lcl_neighbors){0};
    *flaws = (struct lcl_table_flaws){0};
    struct table t = {.o = o, .pack = pack, .neighbors = neighbors, .flaws = flaws};
    snprintf(pack->path, sizeof pack->path, "%s", o->table);
    lcl_status status = open_table(&t);
    table_rows_free(&t.rows);
    free(t.by_id);
    free(t.of_class);
    free(t.of_any);
    if (status != LCL_OK) {
        lcl_pack_close(pack);
        lcl_neighbors_free(neighbors);
    }
    return status;
}

char *lcl_table_flaws_text(const struct lcl_table_flaws *f)
{
    const struct {
        int64_t n;
        const char *what;
    } flaw[] = {{f->n_validation, "pictures are of ImageNet's validation set"},
                {f->n_repeated, "pictures stand twice in a row and count once"},
                {f->n_shared, "pictures stand in the rows of two classes"},
                {f->n_unknown, "neighbors have no row and are left out"},
                {f->n_renamed, "neighbors have another name than in their own row"}};
    char *text = lcl_strdupf("%s", "");
    for (size_t i = 0; i < sizeof flaw / sizeof *flaw && text; i++) {
        if (flaw[i].n == 0) continue;
        char *longer = lcl_strdupf("%s%s%lld %s", text, text[0] ? "; " : "", (long long)flaw[i].n,
                                   flaw[i].what);
        free(text);
        text = longer;
    }
    if (!text || f->n_names == 0) return text;
    char *longer = lcl_strdupf("%s%s%d names are those of several classes: %s", text,
                               text[0] ? "; " : "", (int)f->n_names, f->names);
    free(text);
    return longer;
}
