#include "train/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/pack_source.h"

static void free_class(struct lcl_support_class *c)
{
    for (int64_t k = 0; k < c->n; k++) free(c->paths[k]);
    free(c->paths);
    free(c->image);
}

void lcl_support_free(struct lcl_support *s)
{
    for (int i = 0; i < s->n; i++) free_class(&s->classes[i]);
    free(s->classes);
    *s = (struct lcl_support){0};
}

static lcl_status check_label(const char *label, const char *where)
{
    if (label[0] == '\0') return LCL_FAIL(LCL_CONFIG, "%s: the label is empty", where);
    if (strlen(label) >= LCL_LABEL_BYTES)
        return LCL_FAIL(LCL_CONFIG, "%s: the label has %zu bytes, at most %d", where, strlen(label),
                        LCL_LABEL_BYTES - 1);
    if (strchr(label, '"'))
        return LCL_FAIL_HINT(LCL_CONFIG, "answers put labels between double quotes; use ' instead",
                             "%s: the label holds a double quote", where);
    return LCL_OK;
}

int lcl_support_find(const struct lcl_support *s, const char *label)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->classes[i].label, label) == 0) return i;
    return -1;
}

static lcl_status add_class(struct lcl_support *s, const char *label, const char *where,
                            const char *hint)
{
    LCL_TRY(check_label(label, where));
    if (lcl_support_find(s, label) >= 0)
        return LCL_FAIL_HINT(LCL_CONFIG, hint, "%s: the label \"%s\" is there already", where,
                             label);
    if (s->n >= LCL_SUPPORT_MAX_CLASSES)
        return LCL_FAIL(LCL_RANGE, "%s: over %d classes", where, LCL_SUPPORT_MAX_CLASSES);
    struct lcl_support_class *v = realloc(s->classes, ((size_t)s->n + 1) * sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %d classes", s->n + 1);
    s->classes = v;
    v[s->n] = (struct lcl_support_class){0};
    snprintf(v[s->n++].label, sizeof v->label, "%s", label);
    return LCL_OK;
}

/* Takes `path`. */
static lcl_status add_to_class(struct lcl_support_class *c, char *path, int64_t number)
{
    char **paths = path ? realloc(c->paths, ((size_t)c->n + 1) * sizeof *paths) : NULL;
    if (paths) c->paths = paths;
    int64_t *image = paths ? realloc(c->image, ((size_t)c->n + 1) * sizeof *image) : NULL;
    if (image) c->image = image;
    if (!paths || !image || c->n >= LCL_SUPPORT_MAX_PICTURES) {
        free(path);
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld pictures of %s, at most %d",
                        (long long)c->n + 1, c->label, LCL_SUPPORT_MAX_PICTURES);
    }
    c->paths[c->n] = path;
    c->image[c->n++] = number;
    return LCL_OK;
}

/* To the class added last. Takes `path`. */
static lcl_status add_picture(struct lcl_support *s, char *path)
{
    return add_to_class(&s->classes[s->n - 1], path, -1);
}

lcl_status lcl_support_add(struct lcl_support *s, const char *label, const char *path,
                           int64_t image)
{
    int i = lcl_support_find(s, label);
    if (i < 0) {
        i = s->n;
        LCL_TRY(add_class(s, label, "the label", ""));
    }
    return add_to_class(&s->classes[i], lcl_strdupf("%s", path), image);
}

lcl_status lcl_support_name(struct lcl_support *s, const char *label)
{
    return add_class(s, label, "the label", "give each label once");
}

bool lcl_support_drop(struct lcl_support *s, const char *label)
{
    int i = lcl_support_find(s, label);
    if (i < 0) return false;
    free_class(&s->classes[i]);
    memmove(&s->classes[i], &s->classes[i + 1], (size_t)(s->n - i - 1) * sizeof *s->classes);
    s->n--;
    return true;
}

static lcl_status add_named_file(struct lcl_support *s, const char *name, size_t n)
{
    char *path = lcl_strdupf("%.*s", (int)n, name);
    const char *label = s->classes[s->n - 1].label;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = LCL_OK;
    if (n == 0)
        status =
            LCL_FAIL(LCL_CONFIG, "--support %s=...: a file name between commas is empty", label);
    else if (!lcl_fs_exists(path))
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                               "--support %s: there is no %s", label, path);
    else if (lcl_fs_is_dir(path))
        status = LCL_FAIL_HINT(LCL_CONFIG, "lcl classify takes folders; here list the files",
                               "--support %s: %s is a folder", label, path);
    if (status == LCL_OK) return add_picture(s, path);
    free(path);
    return status;
}

lcl_status lcl_support_parse(struct lcl_support *s, const char *text)
{
    char label[LCL_LABEL_BYTES + 1];
    const char *equals = strchr(text, '=');
    if (!equals || !equals[1])
        return LCL_FAIL_HINT(LCL_CONFIG, "as --support wolf=a.png,b.png",
                             "--support \"%s\" is not LABEL=FILE[,FILE...]", text);
    snprintf(label, sizeof label, "%.*s", (int)(equals - text), text);
    LCL_TRY(add_class(s, label, "--support", "list all pictures of a label in one --support"));
    const char *at = equals + 1;
    if (lcl_fs_exists(at)) return add_named_file(s, at, strlen(at));
    for (;;) {
        size_t n = strcspn(at, ",");
        LCL_TRY(add_named_file(s, at, n));
        if (at[n] == '\0') return LCL_OK;
        at += n + 1;
    }
}

lcl_status lcl_picture_files(const char *dir, char ***paths, size_t *n)
{
    char **names = NULL;
    size_t listed = 0;
    *paths = NULL;
    *n = 0;
    LCL_TRY(lcl_fs_list(dir, &names, &listed));
    char **v = calloc(listed + 1, sizeof *v);
    lcl_status status = v ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a list of files");
    for (size_t i = 0; i < listed && status == LCL_OK; i++) {
        if (names[i][0] == '.' || !lcl_source_is_picture(names[i])) continue;
        v[*n] = lcl_strdupf("%s/%s", dir, names[i]);
        if (v[*n])
            ++*n;
        else
            status = LCL_FAIL(LCL_MEMORY, "no memory for a list of files");
    }
    lcl_fs_list_free(names, listed);
    if (status == LCL_OK && *n == 0)
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "known are .png, .jpg, .jpeg, .webp and .gif",
                               "%s has no pictures", dir);
    if (status == LCL_OK)
        *paths = v;
    else if (v)
        lcl_fs_list_free(v, *n);
    return status;
}

static lcl_status scan_class(struct lcl_support *s, const char *dir, const char *name)
{
    char spelled[LCL_LABEL_BYTES + 1], label[LCL_LABEL_BYTES];
    snprintf(spelled, sizeof spelled, "%s", name);
    if (strlen(name) >= LCL_LABEL_BYTES) return check_label(spelled, dir);
    for (char *p = spelled; *p; p++)
        if (*p == '_' || *p == '-') *p = ' ';
    lcl_label_of_name(spelled, label);
    LCL_TRY(add_class(s, label, dir, "rename one of the folders"));
    char *folder = lcl_strdupf("%s/%s", dir, name), **files = NULL;
    size_t n = 0;
    if (!folder) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_picture_files(folder, &files, &n);
    free(folder);
    for (size_t i = 0; i < n; i++) {
        if (status == LCL_OK)
            status = add_picture(s, files[i]);
        else
            free(files[i]);
    }
    free(files);
    return status;
}

lcl_status lcl_support_scan(struct lcl_support *s, const char *dir)
{
    char **names;
    size_t n;
    if (!lcl_fs_is_dir(dir))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "give a folder with one sub-folder a class",
                             "there is no folder %s", dir);
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    lcl_status status = LCL_OK;
    int loose = 0;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char *sub = lcl_strdupf("%s/%s", dir, names[i]);
        if (!sub)
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        else if (names[i][0] != '.' && lcl_fs_is_dir(sub))
            status = scan_class(s, dir, names[i]);
        else
            loose += lcl_source_is_picture(names[i]);
        free(sub);
    }
    lcl_fs_list_free(names, n);
    LCL_TRY(status);
    if (s->n < 2)
        return LCL_FAIL_HINT(LCL_CONFIG, "put the pictures of each class in a folder of its own",
                             "%s has %d class folder%s and %d loose picture%s; wanted 2 or more",
                             dir, s->n, s->n == 1 ? "" : "s", loose, loose == 1 ? "" : "s");
    return LCL_OK;
}

lcl_status lcl_support_check(const struct lcl_support *s, int most)
{
    if (s->n >= 2 && s->n <= most) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG,
                         s->n < 2 ? "a query is answered by choosing between labels: give another "
                                    "--support LABEL=FILE"
                                  : "use fewer classes",
                         "the support set has %d label%s; wanted 2..%d", s->n, s->n == 1 ? "" : "s",
                         most);
}

lcl_status lcl_support_compact(struct lcl_support *s)
{
    for (int i = 0; i < s->n; i++) {
        struct lcl_support_class *c = &s->classes[i];
        int64_t kept = 0;
        for (int64_t k = 0; k < c->n; k++) {
            if (c->image[k] == -1) {
                free(c->paths[k]);
                continue;
            }
            c->paths[kept] = c->paths[k];
            c->image[kept++] = c->image[k];
        }
        c->n = kept;
        if (kept == 0)
            return LCL_FAIL(LCL_CONFIG, "the class %s has no readable picture", c->label);
    }
    return LCL_OK;
}

/* Draws the shots' order anew. */
static void shuffle(struct lcl_rng *rng, struct lcl_episode *e)
{
    for (uint32_t i = (uint32_t)e->n_shots; i > 1; i--) {
        uint32_t j = lcl_rng_below(rng, i);
        struct lcl_shot shot = e->shots[i - 1];
        e->shots[i - 1] = e->shots[j];
        e->shots[j] = shot;
    }
}

lcl_status lcl_support_episode(const struct lcl_support *s, const int *way, int n_ways,
                               int64_t per_class, struct lcl_rng *rng, const int64_t *query,
                               int64_t n_queries, struct lcl_episode *e)
{
    *e = (struct lcl_episode){.n_ways = n_ways, .n_queries = (int)n_queries};
    if (n_ways > LCL_MAX_WAYS)
        return LCL_FAIL(LCL_RANGE, "%d classes in one question, at most %d", n_ways, LCL_MAX_WAYS);
    int64_t n = 0;
    for (int w = 0; w < n_ways; w++) {
        const struct lcl_support_class *c = &s->classes[way[w]];
        n += c->n < per_class ? c->n : per_class;
        memcpy(e->label[w], c->label, sizeof e->label[w]);
    }
    e->shots = malloc(((size_t)n + 1) * sizeof *e->shots);
    e->queries = malloc(((size_t)n_queries + 1) * sizeof *e->queries);
    if (!e->shots || !e->queries) {
        lcl_episode_free(e);
        return LCL_FAIL(LCL_MEMORY, "no memory for a question of %lld pictures", (long long)n);
    }
    for (int64_t k = 0; k < per_class && e->n_shots < n; k++)
        for (int w = 0; w < n_ways; w++)
            if (k < s->classes[way[w]].n)
                e->shots[e->n_shots++] =
                    (struct lcl_shot){.way = w, .image = -1 - s->classes[way[w]].image[k]};
    if (rng) shuffle(rng, e);
    for (int64_t q = 0; q < n_queries; q++)
        e->queries[q] = (struct lcl_shot){.image = -1 - query[q]};
    return LCL_OK;
}
