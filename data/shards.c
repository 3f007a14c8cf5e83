#include "data/shards.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fs.h"

enum { MAX_SHARDS = 1 << 17, MAX_RANGE_DIGITS = 9 };

/* Every *.tar of a folder. */
static lcl_status add_folder(struct lcl_listing *l, const char *folder)
{
    char **names;
    size_t n;
    int32_t before = l->n_archives;
    LCL_TRY(lcl_fs_list(folder, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        const char *dot = strrchr(names[i], '.');
        if (!dot || strcasecmp(dot, ".tar") != 0) continue;
        char *path = lcl_strdupf("%s/%s", folder, names[i]);
        status =
            path ? lcl_listing_add_archive(l, path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    }
    lcl_fs_list_free(names, n);
    if (status == LCL_OK && l->n_archives == before)
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "--images 'DIR/shard-{0000..0009}.tar'",
                               "%s holds no tar shards", folder);
    return status;
}

static lcl_status expand(struct lcl_listing *l, const char *before, const char *pattern);

static lcl_status expand_range(struct lcl_listing *l, const char *head, const char *range,
                               const char *tail)
{
    const char *dots = strstr(range, "..");
    size_t width = (size_t)(dots - range), last_width = strlen(dots + 2);
    if (width == 0 || width > MAX_RANGE_DIGITS || last_width == 0 ||
        last_width > MAX_RANGE_DIGITS || strspn(range, "0123456789") != width ||
        strspn(dots + 2, "0123456789") != last_width)
        return LCL_FAIL_HINT(LCL_CONFIG, "as in shard-{0000..0009}.tar",
                             "{%s} is no range of numbers", range);
    long first = strtol(range, NULL, 10), last = strtol(dots + 2, NULL, 10);
    if (last < first) return LCL_FAIL(LCL_CONFIG, "{%s} is a range of none", range);
    for (long i = first; i <= last; i++) {
        char *grown = lcl_strdupf("%s%0*ld", head, (int)width, i);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        lcl_status status = expand(l, grown, tail);
        free(grown);
        LCL_TRY(status);
    }
    return LCL_OK;
}

static lcl_status expand_list(struct lcl_listing *l, const char *head, char *words,
                              const char *tail)
{
    for (char *word = words, *comma; word; word = comma ? comma + 1 : NULL) {
        comma = strchr(word, ',');
        if (comma) *comma = 0;
        char *grown = lcl_strdupf("%s%s", head, word);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        lcl_status status = expand(l, grown, tail);
        free(grown);
        LCL_TRY(status);
    }
    return LCL_OK;
}

/* Adds what `before` and the pattern behind it mean: {0000..0009} and {a,b} stand for several. */
static lcl_status expand(struct lcl_listing *l, const char *before, const char *pattern)
{
    const char *open = strchr(pattern, '{'), *close = open ? strchr(open, '}') : NULL;
    if (l->n_archives >= MAX_SHARDS) return LCL_FAIL(LCL_RANGE, "over %d shards", MAX_SHARDS);
    char *head = lcl_strdupf("%s%.*s", before, close ? (int)(open - pattern) : (int)strlen(pattern),
                             pattern);
    char *inside = close ? lcl_strdupf("%.*s", (int)(close - open - 1), open + 1) : NULL;
    lcl_status status;
    if (!head || (close && !inside))
        status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
    else if (!close)
        status = lcl_fs_is_dir(head) ? add_folder(l, head) : lcl_listing_add_archive(l, head);
    else if (strstr(inside, ".."))
        status = expand_range(l, head, inside, close + 1);
    else
        status = expand_list(l, head, inside, close + 1);
    free(head);
    free(inside);
    return status;
}

lcl_status lcl_shards_list(struct lcl_listing *l, const char *images)
{
    char *all = lcl_strdupf("%s", images);
    lcl_status status = all ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    for (char *one = all, *next; one && status == LCL_OK; one = next) {
        next = strstr(one, "::");
        if (next) *next = 0, next += 2;
        status = expand(l, "", one);
    }
    free(all);
    return status;
}

size_t lcl_shards_common(const struct lcl_listing *l)
{
    const char *first = l->archives[0];
    size_t cut = (size_t)(lcl_fs_basename(first) - first);
    for (int32_t i = 1; i < l->n_archives; i++) {
        while (cut && strncmp(first, l->archives[i], cut) != 0)
            for (cut--; cut && first[cut - 1] != '/';) cut--;
    }
    return cut;
}

size_t lcl_shards_key(const char *name)
{
    const char *file = lcl_fs_basename(name), *dot = strchr(file, '.');
    return dot && dot != file && strncmp(file, "__", 2) != 0 ? (size_t)(dot - name) : 0;
}

bool lcl_shards_exist(const char *images)
{
    struct lcl_listing l = {0};
    if (lcl_fs_exists(images)) return true;
    if (!strpbrk(images, "{:")) return false;
    bool there = lcl_shards_list(&l, images) == LCL_OK && lcl_fs_exists(l.archives[0]);
    lcl_listing_free(&l);
    return there;
}
