#include "data/archived.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/md5.h"
#include "data/shards.h"
#include "data/tar.h"

enum { MAX_DEPTH = 2 }; /* archives in each other */
static const int64_t MAX_PICTURE_BYTES = (int64_t)1 << 30;
static const uint64_t MAX_INDEX_BYTES = (uint64_t)1 << 34;

struct search {
    struct lcl_archived *a;
    const char *const *paths;
    int64_t *slot; /* open addressing by file name without its ending: first path of it, or -1 */
    int64_t *next; /* [n] the next path of that name, or -1 */
    bool *twice;   /* [n] found in two places that are equally good */
    size_t n_slots;
    struct lcl_archived_place *other; /* [n] the second place */
    int32_t archive;
    const char *stem[MAX_DEPTH]; /* names of the archives around a member, innermost first */
    int n_stems;
    struct lcl_progress progress;
    int64_t members;
};

/* ---- names ---- */

/* Length without a picture's ending. */
static size_t bare_length(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && lcl_source_is_picture(path) ? (size_t)(dot - path) : strlen(path);
}

/* Where the last folder or file of name[0, n) begins. */
static size_t last_part(const char *name, size_t n)
{
    while (n && name[n - 1] != '/') n--;
    return n;
}

/* Takes the last part of both names off; false where they differ. */
static bool same_part(const char *a, size_t *a_n, const char *b, size_t *b_n)
{
    size_t x = last_part(a, *a_n), y = last_part(b, *b_n);
    if (*a_n - x != *b_n - y || memcmp(a + x, b + y, *a_n - x) != 0) return false;
    *a_n = x ? x - 1 : 0;
    *b_n = y ? y - 1 : 0;
    return true;
}

/* Parts that path and member have alike from the end on; 0 where neither is the other's end. */
static int32_t parts_alike(const struct search *s, const char *path, const char *member)
{
    size_t p = bare_length(path), m = bare_length(member);
    int32_t alike = 0;
    while (p && m) {
        if (!same_part(path, &p, member, &m)) return 0;
        alike++;
    }
    for (int k = 0; k < s->n_stems && p && !m; k++) {
        size_t stem = strlen(s->stem[k]);
        if (!same_part(path, &p, s->stem[k], &stem)) break;
        alike++;
    }
    return alike;
}

/* The slot of the file name that name[begin, end) is, whose first path is at *slot or -1. */
static size_t slot_of(const struct search *s, const char *name, size_t begin, size_t end)
{
    uint64_t hash = ((uint64_t)lcl_crc32c(0, name + begin, end - begin) << 32) |
                    lcl_crc32c(7, name + begin, end - begin);
    size_t at = (size_t)(hash * 0x9E3779B97F4A7C15u >> 20);
    for (;; at++) {
        at &= s->n_slots - 1;
        if (s->slot[at] < 0) return at;
        const char *other = s->paths[s->slot[at]];
        size_t other_end = bare_length(other), other_begin = last_part(other, other_end);
        if (other_end - other_begin == end - begin &&
            memcmp(other + other_begin, name + begin, end - begin) == 0)
            return at;
    }
}

static void file_paths(struct search *s, const bool *wanted)
{
    memset(s->slot, -1, s->n_slots * sizeof *s->slot);
    for (int64_t i = s->a->n; i-- > 0;) {
        size_t end = bare_length(s->paths[i]), begin = last_part(s->paths[i], end);
        if (wanted && !wanted[i]) continue;
        size_t at = slot_of(s, s->paths[i], begin, end);
        s->next[i] = s->slot[at];
        s->slot[at] = i;
    }
}

/* ---- archives ---- */

static void take_picture(struct search *s, const struct lcl_tar_member *m)
{
    size_t end = bare_length(m->name), begin = last_part(m->name, end);
    for (int64_t i = s->slot[slot_of(s, m->name, begin, end)]; i >= 0; i = s->next[i]) {
        struct lcl_archived_place *best = &s->a->place[i];
        const struct lcl_archived_place here = {s->archive, parts_alike(s, s->paths[i], m->name),
                                                m->offset, m->size_bytes};
        if (here.folders == 0 || here.folders < best->folders) continue;
        s->twice[i] = here.folders == best->folders;
        *(s->twice[i] ? &s->other[i] : best) = here;
    }
}

static bool is_archive(const struct lcl_tar_member *m)
{
    const char *dot = strrchr(m->name, '.');
    return dot && strcasecmp(dot, ".tar") == 0;
}

/* "n02119789" of "train/n02119789.tar"; malloc'd. */
static char *stem_of(const char *path)
{
    const char *file = lcl_fs_basename(path), *dot = strrchr(file, '.');
    return lcl_strdupf("%.*s", dot ? (int)(dot - file) : (int)strlen(file), file);
}

static lcl_status search_archive(struct search *s, struct lcl_tar *t);

static lcl_status search_within(struct search *s, const struct lcl_tar *outer,
                                const struct lcl_tar_member *m)
{
    struct lcl_tar *t = malloc(sizeof *t);
    char *stem = stem_of(m->name);
    lcl_status status = t && stem ? lcl_tar_open_within(outer, m, t)
                                  : LCL_FAIL(LCL_MEMORY, "no memory for an archive");
    if (status == LCL_OK) {
        s->stem[1] = s->stem[0];
        s->stem[0] = stem;
        s->n_stems = 2;
        status = search_archive(s, t);
        s->stem[0] = s->stem[1];
        s->n_stems = 1;
        lcl_tar_close(t);
    }
    free(stem);
    free(t);
    return status;
}

static lcl_status search_archive(struct search *s, struct lcl_tar *t)
{
    struct lcl_tar_member m;
    for (;;) {
        LCL_TRY(lcl_tar_next(t, &m));
        if (!m.name) return LCL_OK;
        if (++s->members % 4096 == 0) lcl_progress_update(&s->progress, s->members, NULL);
        if (!m.regular) continue;
        if (lcl_source_is_picture(m.name)) take_picture(s, &m);
        if (s->n_stems < MAX_DEPTH && is_archive(&m)) LCL_TRY(search_within(s, t, &m));
    }
}

static lcl_status search_file(struct search *s, int32_t archive)
{
    const char *path = s->a->archives[archive];
    struct lcl_tar *t = malloc(sizeof *t);
    char *stem = stem_of(path);
    lcl_status status =
        t && stem ? lcl_tar_open(path, t) : LCL_FAIL(LCL_MEMORY, "no memory for an archive");
    s->archive = archive;
    s->stem[0] = stem;
    s->n_stems = 1;
    if (status == LCL_OK) {
        status = search_archive(s, t);
        lcl_tar_close(t);
    }
    free(stem);
    free(t);
    return status;
}

/* ---- one picture, one place ---- */

static lcl_status fail_two(const struct search *s, int64_t i, const struct lcl_archived_place *b)
{
    const struct lcl_archived_place *a = &s->a->place[i];
    return LCL_FAIL_HINT(LCL_FORMAT, "name the archives that are meant, or move the others away",
                         "picture %s is in %s at byte %" PRId64 " and in %s at byte %" PRId64,
                         s->paths[i], s->a->archives[a->archive], a->offset,
                         s->a->archives[b->archive], b->offset);
}

struct by_place {
    struct lcl_archived_place place;
    int64_t picture;
};

static int compare_places(const void *a, const void *b)
{
    const struct by_place *x = a, *y = b;
    if (x->place.archive != y->place.archive) return x->place.archive < y->place.archive ? -1 : 1;
    if (x->place.offset != y->place.offset) return x->place.offset < y->place.offset ? -1 : 1;
    return (x->picture > y->picture) - (x->picture < y->picture);
}

/* No picture in two places, and no place for two paths. */
static lcl_status check_places(const struct search *s, int64_t *which)
{
    const struct lcl_archived *a = s->a;
    int64_t n = 0;
    lcl_status status = LCL_OK;
    for (*which = 0; *which < a->n; ++*which)
        if (s->twice[*which]) return fail_two(s, *which, &s->other[*which]);
    struct by_place *v = malloc((size_t)a->n * sizeof *v + 1);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory to compare %" PRId64 " pictures", a->n);
    for (int64_t i = 0; i < a->n; i++)
        if (a->place[i].archive >= 0) v[n++] = (struct by_place){a->place[i], i};
    qsort(v, (size_t)n, sizeof *v, compare_places);
    for (int64_t i = 1; i < n && status == LCL_OK; i++) {
        const struct by_place *x = &v[i - 1], *y = &v[i];
        if (x->place.archive != y->place.archive || x->place.offset != y->place.offset ||
            strcmp(s->paths[x->picture], s->paths[y->picture]) == 0)
            continue;
        *which = y->picture;
        status = LCL_FAIL_HINT(LCL_FORMAT,
                               "the folders of the table's paths and those in the "
                               "archives do not tell them apart",
                               "pictures %s and %s would both be the one at byte %" PRId64 " of %s",
                               s->paths[x->picture], s->paths[y->picture], x->place.offset,
                               a->archives[x->place.archive]);
    }
    free(v);
    return status;
}

static lcl_status search(struct lcl_archived *a, const char *const *paths, const bool *wanted,
                         int64_t *which)
{
    struct search s = {.a = a, .paths = paths, .n_slots = 16};
    size_t n = (size_t)a->n;
    while (s.n_slots < 2 * n) s.n_slots *= 2;
    lcl_status status = LCL_OK;
    s.slot = malloc(s.n_slots * sizeof *s.slot);
    s.next = malloc((n + 1) * sizeof *s.next);
    s.twice = calloc(n + 1, sizeof *s.twice);
    s.other = calloc(n + 1, sizeof *s.other);
    if (s.slot && s.next && s.twice && s.other)
        file_paths(&s, wanted);
    else
        status = LCL_FAIL(LCL_MEMORY, "no memory to look for %zu pictures", n);
    lcl_progress_begin(&s.progress, "looking through archives", "members", 0);
    for (int32_t i = 0; i < a->n_archives && status == LCL_OK; i++) status = search_file(&s, i);
    lcl_progress_end(&s.progress, NULL);
    if (status == LCL_OK) status = check_places(&s, which);
    free(s.slot);
    free(s.next);
    free(s.twice);
    free(s.other);
    return status;
}

/* ---- what was found, kept ---- */

static lcl_status list_archives(struct lcl_archived *a, const char *images, struct lcl_md5 *md5)
{
    struct lcl_listing l = {0};
    lcl_status status = lcl_shards_list(&l, images);
    if (status != LCL_OK) {
        lcl_listing_free(&l);
        return status;
    }
    a->archives = l.archives; /* taken over */
    a->n_archives = l.n_archives;
    l.archives = NULL;
    l.n_archives = 0;
    lcl_listing_free(&l);
    a->mtime_ns = calloc((size_t)a->n_archives, sizeof *a->mtime_ns);
    if (!a->mtime_ns) return LCL_FAIL(LCL_MEMORY, "no memory for a list of archives");
    for (int32_t i = 0; i < a->n_archives; i++) {
        struct stat st;
        if (stat(a->archives[i], &st) != 0)
            return LCL_FAIL_HINT(LCL_NOT_FOUND,
                                 "a folder, an archive or DIR/shard-{0000..0009}.tar",
                                 "there is no archive %s", a->archives[i]);
        a->mtime_ns[i] = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        int64_t file[2] = {(int64_t)st.st_size, a->mtime_ns[i]};
        lcl_md5_update(md5, a->archives[i], strlen(a->archives[i]) + 1);
        lcl_md5_update(md5, file, sizeof file);
    }
    return LCL_OK;
}

static lcl_status save_index(const struct lcl_archived *a, const char *path)
{
    struct lcl_h5 f = {0};
    uint64_t dims[2] = {(uint64_t)a->n, 4};
    int64_t *rows = malloc((size_t)a->n * 4 * sizeof *rows + 1);
    char *beside = lcl_strdupf("%s.tmp.%ld", path, (long)getpid()); /* runs may share it */
    lcl_status status =
        rows && beside ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for an index of pictures");
    for (int64_t i = 0; status == LCL_OK && i < a->n; i++) {
        const struct lcl_archived_place *p = &a->place[i];
        memcpy(rows + 4 * i, (const int64_t[]){p->archive, p->folders, p->offset, p->size_bytes},
               4 * sizeof *rows);
    }
    if (status == LCL_OK) status = lcl_h5_create(beside, &f);
    if (status == LCL_OK) status = lcl_h5_write(&f, "/places", LCL_H5_I64, 2, dims, rows);
    if (status == LCL_OK) status = lcl_h5_close(&f);
    if (status == LCL_OK) status = lcl_fs_commit(beside, path);
    if (status != LCL_OK) {
        struct lcl_error error;
        lcl_error_save(&error, status);
        lcl_h5_discard(&f);
        if (beside) remove(beside);
        status = lcl_error_restore(&error);
    }
    free(rows);
    free(beside);
    return status;
}

/* Bounds of what a file says; whether a picture is there its decoding tells. */
static lcl_status load_index(struct lcl_archived *a, const char *path)
{
    struct lcl_h5 f;
    uint64_t n = 0;
    void *data = NULL;
    LCL_TRY(lcl_h5_open(path, false, &f));
    lcl_status status = lcl_h5_read_alloc(&f, "/places", LCL_H5_I64, MAX_INDEX_BYTES, &data, &n);
    if (status == LCL_OK && n != 4 * (uint64_t)a->n)
        status = LCL_FAIL(LCL_FORMAT, "%s is the index of other pictures", path);
    lcl_h5_discard(&f);
    for (int64_t i = 0; i < a->n && status == LCL_OK; i++) {
        const int64_t *row = (const int64_t *)data + 4 * i;
        bool good = row[0] >= -1 && row[0] < a->n_archives && row[1] >= 0 && row[1] < 4096 &&
                    row[2] >= 0 && row[2] <= INT64_MAX / 2 && row[3] >= 0 &&
                    row[3] <= INT64_MAX / 2;
        if (!good) status = LCL_FAIL(LCL_FORMAT, "%s: entry %" PRId64 " is damaged", path, i);
        if (good)
            a->place[i] =
                (struct lcl_archived_place){(int32_t)row[0], (int32_t)row[1], row[2], row[3]};
    }
    free(data);
    return status;
}

static void forget_places(struct lcl_archived *a)
{
    for (int64_t i = 0; i < a->n; i++) a->place[i] = (struct lcl_archived_place){.archive = -1};
}

static lcl_status find(struct lcl_archived *a, const char *const *paths, const bool *wanted,
                       const char *file, int64_t *which)
{
    if (file && lcl_fs_exists(file)) {
        if (load_index(a, file) == LCL_OK) return LCL_OK;
        lcl_log_warn("%s; the archives are looked through again", lcl_error_message());
        forget_places(a);
    }
    LCL_TRY(search(a, paths, wanted, which));
    if (file && save_index(a, file) != LCL_OK)
        lcl_log_warn("where pictures lie is not kept: %s", lcl_error_message());
    return LCL_OK;
}

lcl_status lcl_archived_find(const char *images, const char *const *paths, const bool *wanted,
                             int64_t n, const char *cache, struct lcl_archived *out, int64_t *which)
{
    struct lcl_md5 md5;
    unsigned char digest[16];
    uint64_t key;
    char *file = NULL;
    lcl_status status = LCL_OK;
    *out = (struct lcl_archived){.n = n};
    *which = -1;
    lcl_md5_begin(&md5);
    out->place = malloc((size_t)n * sizeof *out->place + 1);
    if (!out->place) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for places of %" PRId64 " pictures", n);
        goto out;
    }
    forget_places(out);
    LCL_TRY_GOTO(list_archives(out, images, &md5));
    for (int64_t i = 0; i < n; i++) {
        bool asked = !wanted || wanted[i];
        lcl_md5_update(&md5, paths[i], strlen(paths[i]) + 1);
        lcl_md5_update(&md5, &asked, sizeof asked);
    }
    lcl_md5_end(&md5, digest);
    memcpy(&key, digest, sizeof key);
    if (cache && lcl_fs_mkdirs(cache) != LCL_OK)
        lcl_log_warn("where pictures lie is not kept: %s", lcl_error_message());
    else if (cache)
        file = lcl_strdupf("%s/places-%016" PRIx64 ".h5", cache, key);
    status = find(out, paths, wanted, file, which);
out:
    free(file);
    if (status != LCL_OK) lcl_archived_free(out);
    return status;
}

void lcl_archived_free(struct lcl_archived *a)
{
    for (int32_t i = 0; i < a->n_archives; i++) free(a->archives[i]);
    free(a->archives);
    free(a->mtime_ns);
    free(a->place);
    *a = (struct lcl_archived){0};
}

/* ---- reading ---- */

lcl_status lcl_archived_read(const struct lcl_archived *a, int64_t i, const char *name,
                             const struct lcl_decode_options *options, struct lcl_image *out)
{
    const struct lcl_archived_place *p = &a->place[i];
    const char *path = a->archives[p->archive];
    char *bytes = NULL;
    *out = (struct lcl_image){0};
    if (p->size_bytes > MAX_PICTURE_BYTES)
        return LCL_FAIL(LCL_RANGE,
                        "%s: %s, at byte %" PRId64 ", has %" PRId64
                        " bytes; a picture has at most 2^30",
                        path, name, p->offset, p->size_bytes);
    LCL_TRY(lcl_tar_read_at(path, p->offset, p->size_bytes, &bytes));
    lcl_status status = lcl_image_decode(bytes, (size_t)p->size_bytes, name, options, out);
    free(bytes);
    return status == LCL_OK ? LCL_OK
                            : lcl_fail_context(status, "%s: at byte %" PRId64, path, p->offset);
}

/* ---- files, or members ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The paths once each, in order, whole; *names: where each begins behind the folder. */
static lcl_status whole_paths(struct lcl_archived_files *f, const char *images,
                              const char *const *paths, int64_t n, const char ***names, int64_t *m)
{
    const size_t before = strlen(images) + 1;
    *m = 0;
    f->path = calloc((size_t)n + 1, sizeof *f->path);
    *names = calloc((size_t)n + 1, sizeof **names);
    if (!f->path || !*names) return LCL_FAIL(LCL_MEMORY, "no memory for paths");
    memcpy(*names, paths, (size_t)n * sizeof *paths);
    qsort(*names, (size_t)n, sizeof **names, by_text);
    for (int64_t i = 0; i < n; i++) {
        if (*m && strcmp((*names)[i], f->path[*m - 1] + before) == 0) continue;
        f->path[*m] = lcl_strdupf("%s/%s", images, (*names)[i]);
        if (!f->path[*m]) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        (*names)[*m] = f->path[*m] + before;
        ++*m;
    }
    return LCL_OK;
}

static void free_paths(struct lcl_archived_files *f)
{
    for (int64_t i = 0; f->path && f->path[i]; i++) free(f->path[i]);
    free(f->path);
    f->path = NULL;
}

lcl_status lcl_archived_files_open(struct lcl_archived_files *f, const char *images,
                                   const char *const *paths, int64_t n, const char *cache)
{
    int64_t m, which, n_missing = 0;
    const char **names = NULL;
    lcl_status status;
    *f = (struct lcl_archived_files){0};
    bool *missing = calloc((size_t)n + 1, sizeof *missing);
    LCL_TRY_GOTO(missing ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to look for pictures"));
    LCL_TRY_GOTO(whole_paths(f, images, paths, n, &names, &m));
    for (int64_t i = 0; i < m; i++) n_missing += missing[i] = !lcl_fs_exists(f->path[i]);
    if (n_missing && lcl_shards_exist(images)) {
        status = lcl_archived_find(images, names, missing, m, cache, &f->found, &which);
        if (status == LCL_NOT_FOUND && lcl_fs_is_dir(images)) status = LCL_OK; /* no archives */
    }
    for (int64_t i = 0; i < f->found.n && status == LCL_OK; i++)
        if (missing[i] && f->found.place[i].archive < 0)
            status = LCL_FAIL_HINT(LCL_NOT_FOUND, "the folder that the paths begin in, or archives",
                                   "there is no picture %s, nor in archives (%d) there", f->path[i],
                                   (int)f->found.n_archives);
out:
    free(names);
    free(missing);
    if (status != LCL_OK || f->found.n == 0) free_paths(f);
    if (status != LCL_OK) lcl_archived_free(&f->found);
    return status;
}

int64_t lcl_archived_files_number(const struct lcl_archived_files *f, const char *path)
{
    char **at =
        f->found.n ? bsearch(&path, f->path, (size_t)f->found.n, sizeof path, by_text) : NULL;
    return at && f->found.place[at - f->path].archive >= 0 ? at - f->path : -1;
}

void lcl_archived_files_close(struct lcl_archived_files *f)
{
    lcl_archived_free(&f->found);
    free_paths(f);
}
