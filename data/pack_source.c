/* The table of sources, the listing they fill, and the plain one: a folder of class folders. */
#include "data/pack_source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/fs.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/md5.h"

static const struct {
    const char *name;
    lcl_status (*list)(const struct lcl_pack_options *o, struct lcl_listing *out);
    bool archives; /* reads archives, and else a folder */
} sources[] = {{"imagefolder", lcl_source_imagefolder, false},
               {"wesnoth", lcl_source_wesnoth, false},
               {"imagenet", lcl_source_imagenet, true},
               {"webdataset", lcl_source_webdataset, true}};

void lcl_listing_free(struct lcl_listing *l)
{
    for (int64_t i = 0; i < l->n_files; i++) free(l->files[i].name);
    free(l->files);
    for (int32_t i = 0; i < l->n_archives; i++) free(l->archives[i]);
    free(l->archives);
    free(l->class_slot);
    free(l->classes);
    free(l->root);
    *l = (struct lcl_listing){0};
}

bool lcl_source_is_picture(const char *file_name)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp", ".gif"};
    const char *dot = strrchr(file_name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i]) == 0) return true;
    return false;
}

enum lcl_split lcl_source_split(const char *id, double test_fraction)
{
    enum { FINE = 1000000 };
    unsigned char digest[16];
    if (test_fraction <= 0) return LCL_SPLIT_TRAIN;
    lcl_md5_of(id, strlen(id), digest);
    double whole = round(1 / test_fraction);
    bool test;
    if (whole < FINE && fabs(whole * test_fraction - 1) < 1e-9)
        test = lcl_md5_mod(digest, (uint32_t)whole) == 0;
    else
        test = lcl_md5_mod(digest, FINE) < test_fraction * FINE;
    return test ? LCL_SPLIT_TEST : LCL_SPLIT_TRAIN;
}

lcl_status lcl_listing_add_class(struct lcl_listing *l, const char *id, const char *name,
                                 int32_t *index)
{
    if (strlen(id) >= LCL_CLASS_NAME_BYTES || strlen(name) >= LCL_CLASS_NAME_BYTES)
        return LCL_FAIL_HINT(LCL_RANGE, "rename the folder", "class name over %d bytes: %s",
                             LCL_CLASS_NAME_BYTES - 1, id);
    if (l->n_classes == l->cap_classes) {
        int32_t cap = l->cap_classes ? 2 * l->cap_classes : 64;
        void *grown = realloc(l->classes, (size_t)cap * sizeof *l->classes);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for %d classes", cap);
        l->classes = grown;
        l->cap_classes = cap;
    }
    struct lcl_source_class *c = &l->classes[l->n_classes];
    *c = (struct lcl_source_class){0};
    memcpy(c->id, id, strlen(id));
    memcpy(c->name, name, strlen(name));
    *index = l->n_classes++;
    return LCL_OK;
}

static bool grow_class_slots(struct lcl_listing *l)
{
    size_t size = l->class_slot ? 2 * (l->class_mask + 1) : 256;
    int32_t *slot = malloc(size * sizeof *slot);
    if (!slot) return false;
    memset(slot, -1, size * sizeof *slot);
    for (int32_t i = 0; i < l->n_classes; i++) {
        size_t k = lcl_hash_string(l->classes[i].id) & (size - 1);
        while (slot[k] >= 0) k = (k + 1) & (size - 1);
        slot[k] = i;
    }
    free(l->class_slot);
    l->class_slot = slot;
    l->class_mask = size - 1;
    return true;
}

lcl_status lcl_listing_class(struct lcl_listing *l, const char *id, const char *name,
                             int32_t *index)
{
    if ((!l->class_slot || 2 * (size_t)l->n_classes > l->class_mask) && !grow_class_slots(l))
        return LCL_FAIL(LCL_MEMORY, "no memory for the names of classes");
    size_t k = lcl_hash_string(id) & l->class_mask;
    for (; l->class_slot[k] >= 0; k = (k + 1) & l->class_mask)
        if (strcmp(l->classes[l->class_slot[k]].id, id) == 0) {
            *index = l->class_slot[k];
            return LCL_OK;
        }
    LCL_TRY(lcl_listing_add_class(l, id, name, index));
    l->class_slot[k] = *index;
    return LCL_OK;
}

lcl_status lcl_listing_add_member(struct lcl_listing *l, const char *name, int32_t class_index,
                                  const struct lcl_source_file *where)
{
    if (l->n_files == l->cap_files) {
        int64_t cap = l->cap_files ? 2 * l->cap_files : 1024;
        void *grown = realloc(l->files, (size_t)cap * sizeof *l->files);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for %lld files", (long long)cap);
        l->files = grown;
        l->cap_files = cap;
    }
    struct lcl_source_file *f = &l->files[l->n_files];
    *f = *where;
    f->name = lcl_strdupf("%s", name);
    f->class_index = class_index;
    if (!f->name) return LCL_FAIL(LCL_MEMORY, "no memory for a file name");
    l->n_files++;
    return LCL_OK;
}

lcl_status lcl_listing_add_file(struct lcl_listing *l, const char *name, int32_t class_index)
{
    struct lcl_source_file f = {.archive = -1};
    struct stat st;
    char *path = lcl_strdupf("%s/%s", l->root, name);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a file name");
    if (stat(path, &st) == 0) { /* a dangling link is a bad file, reported when it is read */
        f.size_bytes = st.st_size;
        f.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    }
    free(path);
    return lcl_listing_add_member(l, name, class_index, &f);
}

lcl_status lcl_listing_add_archive(struct lcl_listing *l, const char *path)
{
    if (l->n_archives == l->cap_archives) {
        int32_t cap = l->cap_archives ? 2 * l->cap_archives : 16;
        void *grown = realloc(l->archives, (size_t)cap * sizeof *l->archives);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for %d archives", cap);
        l->archives = grown;
        l->cap_archives = cap;
    }
    char *copy = lcl_strdupf("%s", path);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for a list of archives");
    l->archives[l->n_archives++] = copy;
    return LCL_OK;
}

static const struct lcl_source_class *sorted_classes;

static int class_order(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return strcmp(sorted_classes[i].id, sorted_classes[j].id);
}

static int file_order(const void *a, const void *b)
{
    const struct lcl_source_file *f = a, *g = b;
    if (f->class_index != g->class_index) return f->class_index < g->class_index ? -1 : 1;
    return strcmp(f->name, g->name);
}

static lcl_status sort_listing(struct lcl_listing *l)
{
    size_t n = (size_t)l->n_classes;
    int32_t *order = malloc(n * sizeof *order), *rank = malloc(n * sizeof *rank);
    struct lcl_source_class *sorted = malloc(n * sizeof *sorted);
    lcl_status status = LCL_OK;
    if (!order || !rank || !sorted) {
        free(sorted);
        status = LCL_FAIL(LCL_MEMORY, "no memory to sort %zu classes", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) order[i] = (int32_t)i;
    sorted_classes = l->classes;
    qsort(order, n, sizeof *order, class_order);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = l->classes[order[i]];
        rank[order[i]] = (int32_t)i;
    }
    free(l->classes);
    l->classes = sorted;
    for (int64_t i = 0; i < l->n_files; i++)
        l->files[i].class_index = rank[l->files[i].class_index];
    if (l->n_files > 0) qsort(l->files, (size_t)l->n_files, sizeof *l->files, file_order);
out:
    free(order);
    free(rank);
    return status;
}

/* Classes without a picture, named in one message. */
static lcl_status refuse_empty(const struct lcl_listing *l)
{
    char names[1024] = "";
    int32_t empty = 0;
    int64_t f = 0;
    for (int32_t c = 0; c < l->n_classes; c++) {
        bool any = false;
        for (; f < l->n_files && l->files[f].class_index == c; f++) any = true;
        if (any) continue;
        size_t used = strlen(names);
        if (used + strlen(l->classes[c].id) + 8 < sizeof names)
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", l->classes[c].id);
        else if (strcmp(names + used - 3, "...") != 0)
            snprintf(names + used, sizeof names - used, ", ...");
        empty++;
    }
    if (!empty) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "add pictures or remove the folder",
                         "%s: %d class%s without a picture: %s", l->root, empty,
                         empty == 1 ? "" : "es", names);
}

/* Of an archive that holds a name twice the later member would take the earlier one's place. */
static lcl_status refuse_twice(const struct lcl_listing *l)
{
    for (int64_t i = 1; i < l->n_files; i++) {
        const struct lcl_source_file *f = &l->files[i - 1], *g = &l->files[i];
        if (g->archive < 0 || f->class_index != g->class_index || strcmp(f->name, g->name) != 0)
            continue;
        return LCL_FAIL(LCL_FORMAT, "%s: %s is there twice, at bytes %lld and %lld",
                        l->archives[g->archive], g->name, (long long)f->offset,
                        (long long)g->offset);
    }
    return LCL_OK;
}

lcl_status lcl_source_list(const struct lcl_pack_options *o, struct lcl_listing *out)
{
    *out = (struct lcl_listing){0};
    size_t s = 0, n = sizeof sources / sizeof *sources;
    while (s < n && strcmp(o->format, sources[s].name) != 0) s++;
    if (s == n)
        return LCL_FAIL_HINT(LCL_CONFIG, "--format imagefolder, imagenet, webdataset or wesnoth",
                             "unknown picture format \"%s\"", o->format);
    if (!sources[s].archives && (o->class_names || o->labels))
        return LCL_FAIL(LCL_CONFIG, "--class-names and --labels are for archives, not for %s",
                        o->format);
    if (!sources[s].archives && !lcl_fs_is_dir(o->images))
        return LCL_FAIL(LCL_NOT_FOUND, "no folder %s", o->images);
    out->root = lcl_strdupf("%s", o->images);
    if (!out->root) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = sources[s].list(o, out);
    if (status == LCL_OK && out->n_classes == 0)
        status =
            LCL_FAIL_HINT(LCL_FORMAT, "one folder a class: DIR/cat/1.jpg, DIR/dog/1.jpg",
                          "%s holds no class%s", o->images, sources[s].archives ? "" : " folders");
    if (status == LCL_OK) status = sort_listing(out);
    if (status == LCL_OK) status = refuse_twice(out);
    if (status == LCL_OK) status = refuse_empty(out);
    if (status == LCL_OK)
        for (int32_t c = 0; c < out->n_classes; c++)
            if (!out->classes[c].split_given)
                out->classes[c].split = lcl_source_split(out->classes[c].id, o->test_fraction);
    if (status != LCL_OK) lcl_listing_free(out);
    return status;
}

/* ---- imagefolder ---- */

static const char *const split_folders[] = {"train", "test", "val"};

static int split_of_folder(const char *name)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(name, split_folders[i]) == 0) return i;
    return -1;
}

static lcl_status add_class_folder(struct lcl_listing *l, const char *below, const char *folder,
                                   int split)
{
    char id[600], name[LCL_CLASS_NAME_BYTES + 1];
    snprintf(id, sizeof id, "%s%s%s", below, below[0] ? "/" : "", folder);
    snprintf(name, sizeof name, "%s", folder);
    for (char *p = name; *p; p++)
        if (*p == '_' || *p == '-') *p = ' ';
    int32_t c = 0;
    LCL_TRY(lcl_listing_add_class(l, id, name, &c));
    if (split >= 0) {
        l->classes[c].split = split == 0 ? LCL_SPLIT_TRAIN : LCL_SPLIT_TEST;
        l->classes[c].split_given = true;
    }
    char **files = NULL, *path = lcl_strdupf("%s/%s", l->root, id);
    size_t n = 0;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_fs_list(path, &files, &n);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (files[i][0] == '.') continue;
        char *file = lcl_strdupf("%s/%s", id, files[i]);
        char *whole = lcl_strdupf("%s/%s", path, files[i]);
        if (!file || !whole)
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        else if (!lcl_source_is_picture(files[i]) || lcl_fs_is_dir(whole))
            l->n_other++;
        else
            status = lcl_listing_add_file(l, file, c);
        free(file);
        free(whole);
    }
    lcl_fs_list_free(files, n);
    free(path);
    return status;
}

/* Every folder below `below` is a class. */
static lcl_status add_class_folders(struct lcl_listing *l, const char *below, int split)
{
    char **names = NULL, *path = lcl_strdupf("%s%s%s", l->root, below[0] ? "/" : "", below);
    size_t n = 0;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_fs_list(path, &names, &n);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (names[i][0] == '.') continue;
        char *sub = lcl_strdupf("%s/%s", path, names[i]);
        if (!sub)
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        else if (lcl_fs_is_dir(sub))
            status = add_class_folder(l, below, names[i], split);
        else
            l->n_other++;
        free(sub);
    }
    lcl_fs_list_free(names, n);
    free(path);
    return status;
}

/* True where all folders of `images` are train, test or val. */
static lcl_status has_split_folders(const char *images, bool found[3], bool *only)
{
    char **names;
    size_t n;
    *only = false;
    LCL_TRY(lcl_fs_list(images, &names, &n));
    bool other = false;
    for (size_t i = 0; i < n; i++) {
        char *sub = lcl_strdupf("%s/%s", images, names[i]);
        if (sub && names[i][0] != '.' && lcl_fs_is_dir(sub)) {
            int s = split_of_folder(names[i]);
            if (s >= 0)
                found[s] = true;
            else
                other = true;
        }
        free(sub);
    }
    lcl_fs_list_free(names, n);
    *only = !other && (found[0] || found[1] || found[2]);
    return LCL_OK;
}

/* The same class name in train and in test means that the test classes are not new ones. */
static void warn_shared_names(const struct lcl_listing *l)
{
    int64_t shared = 0;
    for (int32_t i = 0; i < l->n_classes; i++)
        for (int32_t j = 0; j < i; j++)
            shared += l->classes[i].split != l->classes[j].split &&
                      strcmp(l->classes[i].name, l->classes[j].name) == 0;
    if (shared)
        lcl_log_warn("%lld class%s in the train and in the test folder by name: test classes are "
                     "meant to be ones that training never saw",
                     (long long)shared, shared == 1 ? " is" : "es are");
}

lcl_status lcl_source_imagefolder(const struct lcl_pack_options *o, struct lcl_listing *out)
{
    bool found[3] = {false}, split_layout;
    LCL_TRY(has_split_folders(o->images, found, &split_layout));
    if (!split_layout) return add_class_folders(out, "", -1);
    for (int s = 0; s < 3; s++)
        if (found[s]) LCL_TRY(add_class_folders(out, split_folders[s], s));
    warn_shared_names(out);
    return LCL_OK;
}
