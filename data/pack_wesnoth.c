/* The unit sprites of The Battle for Wesnoth as classes: folder and file-name stem name the unit.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fs.h"
#include "data/pack_source.h"

enum { SPRITE_SIDE = 72, MIN_VISIBLE_PIXELS = 200, MAX_DEPTH = 24 };

static const char units[] = "core/images/units";

/* What units of a folder are called: words before or after; `unless` is part of a name that says it
 * already. */
static const struct {
    const char *folder, *before, *after, *unless;
} peoples[] = {{"drakes", "drake", "", "drake"},
               {"dunefolk", "dunefolk", "", "dune"},
               {"dwarves", "dwarvish", "", "dwar"},
               {"elves-wood", "elvish", "", "elv"},
               {"goblins", "goblin", "", "goblin"},
               {"human-loyalists", "loyalist", "", "loyalist"},
               {"human-magi", "", "mage", "mage"},
               {"human-outlaws", "outlaw", "", "outlaw"},
               {"human-peasants", "", "", "peasant"},
               {"merfolk", "merfolk", "", "mer"},
               {"monsters", "", "", "monster"},
               {"nagas", "naga", "", "naga"},
               {"ogres", "ogre", "", "ogre"},
               {"orcs", "orcish", "", "orc"},
               {"saurians", "saurian", "", "saurian"},
               {"trolls", "troll", "", "troll"},
               {"undead", "", "", "undead"},
               {"undead-necromancers", "", "", "undead"},
               {"undead-skeletal", "skeletal", "", "skelet"},
               {"woses", "", "", "wose"}};

/* 72 x 72 pixels, of which enough can be seen. */
static bool wanted_sprite(const struct lcl_image *image)
{
    if (image->width != SPRITE_SIDE || image->height != SPRITE_SIDE) return false;
    if (image->channels == 3) return true;
    int visible = 0;
    for (size_t i = 0; i < SPRITE_SIDE * SPRITE_SIDE; i++) visible += image->pixels[4 * i + 3] > 0;
    return visible >= MIN_VISIBLE_PIXELS;
}

/* File name up to the first '-' or '+', without trailing digits. */
static void stem_of(const char *file, char *stem, size_t size)
{
    const char *dot = strrchr(file, '.');
    size_t n = strcspn(file, "-+");
    if (dot && (size_t)(dot - file) < n) n = (size_t)(dot - file);
    while (n > 1 && isdigit((unsigned char)file[n - 1])) n--;
    snprintf(stem, size, "%.*s", (int)n, file);
}

/* Letters and single spaces of `text`, lower-case, up to `end`. */
static void words_of(const char *text, const char *end, char *out, size_t size)
{
    size_t n = 0;
    for (; text < end && n + 2 < size; text++) {
        if (isalpha((unsigned char)*text))
            out[n++] = (char)tolower((unsigned char)*text);
        else if (n && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    while (n && out[n - 1] == ' ') n--;
    out[n] = 0;
}

/* Cuts `common` to the whole words that `words` begins with too. */
static void keep_common_words(char *common, const char *words)
{
    size_t i = 0, whole = 0;
    for (;; i++) {
        bool end_a = common[i] == 0 || common[i] == ' ', end_b = words[i] == 0 || words[i] == ' ';
        if (end_a && end_b) whole = i;
        if (common[i] != words[i] || common[i] == 0) break;
    }
    common[whole] = 0;
}

/* "elvish high lord": the words that all files of the class begin with, after its people. */
static void name_class(const struct lcl_listing *l, int64_t first, int64_t end,
                       struct lcl_source_class *c)
{
    char common[LCL_CLASS_NAME_BYTES] = "", words[LCL_CLASS_NAME_BYTES], people[64] = "";
    const char *unless = NULL, *after = "";
    for (int64_t i = first; i < end; i++) {
        const char *file = lcl_fs_basename(l->files[i].name), *dot = strrchr(file, '.');
        const char *stop = strpbrk(file, "+");
        words_of(file, stop ? stop : dot ? dot : file + strlen(file), words, sizeof words);
        if (i == first)
            snprintf(common, sizeof common, "%s", words);
        else
            keep_common_words(common, words);
    }
    size_t used = strlen(common);
    if (used > 2 && common[used - 2] == ' ') common[used - 2] = 0; /* the letter of a frame */
    if (!common[0]) words_of(c->id, c->id + strlen(c->id), common, sizeof common);
    size_t top = strcspn(c->id, "/");
    words_of(c->id, c->id + (c->id[top] ? top : 0), people, sizeof people);
    for (size_t i = 0; i < sizeof peoples / sizeof *peoples; i++)
        if (strlen(peoples[i].folder) == top && strncmp(c->id, peoples[i].folder, top) == 0) {
            snprintf(people, sizeof people, "%s", peoples[i].before);
            after = peoples[i].after;
            unless = peoples[i].unless;
        }
    if (unless && strstr(common, unless)) {
        people[0] = 0;
        after = "";
    }
    int n = snprintf(c->name, sizeof c->name, "%s%s%s%s%s", people, people[0] ? " " : "", common,
                     after[0] ? " " : "", after);
    if (n >= (int)sizeof c->name || !c->name[0]) snprintf(c->name, sizeof c->name, "unit");
}

static bool name_taken(const struct lcl_listing *l, int32_t before, const char *name)
{
    for (int32_t j = 0; j < before; j++)
        if (strcmp(l->classes[j].name, name) == 0) return true;
    return false;
}

/* Names are unique: a second "ranger" takes the words of its folder, then letters. */
static void make_unique(struct lcl_listing *l, int32_t c)
{
    char *name = l->classes[c].name, longer[LCL_CLASS_NAME_BYTES];
    const char *id = l->classes[c].id;
    if (name_taken(l, c, name)) words_of(id, id + strlen(id), name, LCL_CLASS_NAME_BYTES);
    for (char a = 'a'; name_taken(l, c, name); a = a == 'z' ? 'a' : (char)(a + 1)) {
        snprintf(longer, sizeof longer, "%.*s %c", (int)sizeof longer - 4, name, a);
        memcpy(name, longer, sizeof longer);
    }
}

static int by_class_then_name(const void *a, const void *b)
{
    const struct lcl_source_file *f = a, *g = b;
    if (f->class_index != g->class_index) return f->class_index < g->class_index ? -1 : 1;
    return strcmp(f->name, g->name);
}

static lcl_status class_of(struct lcl_listing *l, const char *id, int32_t *index)
{
    for (int32_t c = l->n_classes - 1; c >= 0; c--)
        if (strcmp(l->classes[c].id, id) == 0) {
            *index = c;
            return LCL_OK;
        }
    return lcl_listing_add_class(l, id, "", index);
}

/* A folder itself, not a link to one: links could lead round in circles. */
static bool is_own_folder(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Adds the pictures of root/below and of the folders in it. */
static lcl_status walk(struct lcl_listing *l, const char *below, int depth)
{
    char **names = NULL, *path = lcl_strdupf("%s%s%s", l->root, below[0] ? "/" : "", below);
    size_t n = 0;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = lcl_fs_list(path, &names, &n);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char *file = lcl_strdupf("%s%s%s", below, below[0] ? "/" : "", names[i]);
        char *whole = lcl_strdupf("%s/%s", path, names[i]);
        char id[4096], stem[256];
        int32_t c = 0;
        if (!file || !whole) {
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        } else if (lcl_fs_is_dir(whole)) {
            if (depth < MAX_DEPTH && is_own_folder(whole)) status = walk(l, file, depth + 1);
        } else if (!lcl_source_is_picture(names[i])) {
            l->n_other++;
        } else {
            stem_of(names[i], stem, sizeof stem);
            snprintf(id, sizeof id, "%s%s%s", below, below[0] ? "/" : "", stem);
            status = class_of(l, id, &c);
            if (status == LCL_OK) status = lcl_listing_add_file(l, file, c);
        }
        free(file);
        free(whole);
    }
    lcl_fs_list_free(names, n);
    free(path);
    return status;
}

static bool is_units(const char *path)
{
    size_t n = strlen(path), m = sizeof units - 1;
    while (n && path[n - 1] == '/') n--;
    return n >= m && strncmp(path + n - m, units, m) == 0 && (n == m || path[n - m - 1] == '/');
}

/* Finds .../core/images/units at or below `path`; *found stays NULL where there is none. */
static lcl_status find_units(const char *path, int depth, char **found)
{
    if (is_units(path)) {
        *found = lcl_strdupf("%s", path);
        return *found ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    }
    char **names;
    size_t n;
    lcl_status status = LCL_OK;
    LCL_TRY(lcl_fs_list(path, &names, &n));
    for (size_t i = 0; i < n && !*found && status == LCL_OK; i++) {
        char *sub = lcl_strdupf("%s/%s", path, names[i]);
        if (!sub)
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        else if (names[i][0] != '.' && depth < MAX_DEPTH && is_own_folder(sub))
            status = find_units(sub, depth + 1, found);
        free(sub);
    }
    lcl_fs_list_free(names, n);
    return status;
}

lcl_status lcl_source_wesnoth(const struct lcl_pack_options *o, struct lcl_listing *out)
{
    free(out->root);
    out->root = NULL;
    LCL_TRY(find_units(o->images, 0, &out->root));
    if (!out->root)
        return LCL_FAIL_HINT(LCL_NOT_FOUND,
                             "point --images at the game's data, or at a folder above it",
                             "no folder data/%s in %s", units, o->images);
    LCL_TRY(walk(out, "", 0));
    qsort(out->files, (size_t)out->n_files, sizeof *out->files, by_class_then_name);
    int64_t first = 0;
    for (int32_t c = 0; c < out->n_classes; c++) {
        int64_t end = first;
        while (end < out->n_files && out->files[end].class_index == c) end++;
        name_class(out, first, end, &out->classes[c]);
        make_unique(out, c);
        first = end;
    }
    out->drop_duplicates = true;
    out->wanted = wanted_sprite;
    return LCL_OK;
}
