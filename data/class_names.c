#include "data/class_names.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"

enum { MAX_FILE_BYTES = 4 << 20, MAX_CLASSES = 1 << 17, SYNSET_BYTES = 9 };

void lcl_class_names_free(struct lcl_class_names *n)
{
    free(n->list);
    free(n->by_id);
    *n = (struct lcl_class_names){0};
}

bool lcl_class_names_is_synset(const char *text, char end)
{
    if (text[0] != 'n') return false;
    for (int i = 1; i < SYNSET_BYTES; i++)
        if (!isdigit((unsigned char)text[i])) return false;
    return text[SYNSET_BYTES] == end;
}

/* Of several names the first; `why` is set where it cannot be one. */
static void take_name(struct lcl_class_name *c, const char *text, size_t n, const char **why)
{
    const char *comma = memchr(text, ',', n);
    if (comma) n = (size_t)(comma - text);
    while (n && isspace((unsigned char)text[n - 1])) n--;
    while (n && isspace((unsigned char)*text)) text++, n--;
    if (n == 0 || n >= sizeof c->name) {
        *why = n ? "a name over 127 bytes" : "no name";
        return;
    }
    memcpy(c->name, text, n);
    c->name[n] = 0;
    for (size_t i = 0; i < n; i++) {
        if (c->name[i] == '_') c->name[i] = ' ';
        if ((unsigned char)c->name[i] < 0x20) *why = "control characters in a name";
    }
    json_t *utf8 = json_stringn(c->name, n);
    if (!utf8) *why = "a name that is not UTF-8";
    json_decref(utf8);
}

static lcl_status reserve(struct lcl_class_names *out, size_t n)
{
    out->list = calloc(n + 1, sizeof *out->list);
    out->by_id = calloc(n + 1, sizeof *out->by_id);
    return out->list && out->by_id ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for names");
}

static lcl_status read_lines(const char *path, const char *text, struct lcl_class_names *out)
{
    size_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    if (lines > MAX_CLASSES)
        return LCL_FAIL(LCL_RANGE, "%s: %zu lines, at most %d", path, lines, MAX_CLASSES);
    LCL_TRY(reserve(out, lines));
    for (const char *p = text; *p;) {
        struct lcl_class_name *c = &out->list[out->n];
        const char *why = NULL, *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        const char *name = p;
        if (n > SYNSET_BYTES &&
            lcl_class_names_is_synset(p, p[SYNSET_BYTES] == '\t' ? '\t' : ' ')) {
            memcpy(c->id, p, SYNSET_BYTES);
            name += SYNSET_BYTES;
        }
        take_name(c, name, n - (size_t)(name - p), &why);
        if (why)
            return LCL_FAIL_HINT(LCL_FORMAT, "a class a line: n01440764 tench, Tinca tinca",
                                 "%s:%d: %s", path, out->n + 1, why);
        out->n++;
        p += n + (end != NULL);
    }
    return LCL_OK;
}

/* A name of JSON: a text, or [id, name]. */
static void take_json(struct lcl_class_name *c, json_t *j, const char **why)
{
    json_t *id = json_is_array(j) ? json_array_get(j, 0) : NULL;
    json_t *name = json_is_array(j) ? json_array_get(j, 1) : j;
    if (!json_is_string(name) || (id && !json_is_string(id)) ||
        (id && json_string_length(id) >= sizeof c->id)) {
        *why = "wanted a name, or [id, name]";
        return;
    }
    if (id) memcpy(c->id, json_string_value(id), json_string_length(id));
    take_name(c, json_string_value(name), json_string_length(name), why);
}

static lcl_status read_json(const char *path, const char *text, size_t size,
                            struct lcl_class_names *out)
{
    json_error_t error;
    lcl_status status = LCL_OK;
    json_t *all = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!all) return LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
    size_t n = json_is_array(all) ? json_array_size(all) : json_object_size(all);
    if (n > MAX_CLASSES)
        status = LCL_FAIL(LCL_RANGE, "%s: %zu classes, at most %d", path, n, MAX_CLASSES);
    if (status == LCL_OK) status = reserve(out, n);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char key[24];
        const char *why = NULL;
        snprintf(key, sizeof key, "%zu", i);
        json_t *j = json_is_array(all) ? json_array_get(all, i) : json_object_get(all, key);
        if (!j) why = "is missing: classes are numbered from 0 on";
        if (j) take_json(&out->list[i], j, &why);
        if (why) status = LCL_FAIL(LCL_FORMAT, "%s: key %s: %s", path, key, why);
        out->n++;
    }
    json_decref(all);
    return status;
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(const struct lcl_class_name *const *)a)->id,
                  (*(const struct lcl_class_name *const *)b)->id);
}

lcl_status lcl_class_names_load(const char *path, struct lcl_class_names *out)
{
    char *text;
    size_t size, at = 0;
    *out = (struct lcl_class_names){0};
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &text, &size));
    while (isspace((unsigned char)text[at])) at++;
    lcl_status status = LCL_OK;
    if (memchr(text, 0, size))
        status = LCL_FAIL(LCL_FORMAT, "%s is no text", path);
    else if (text[at] == '{' || text[at] == '[')
        status = read_json(path, text, size, out);
    else
        status = read_lines(path, text, out);
    free(text);
    if (status == LCL_OK && out->n == 0) status = LCL_FAIL(LCL_FORMAT, "%s names no class", path);
    for (int32_t i = 0; i < out->n; i++) out->by_id[i] = &out->list[i];
    if (status == LCL_OK) qsort(out->by_id, (size_t)out->n, sizeof(void *), by_id);
    for (int32_t i = 1; i < out->n && status == LCL_OK; i++)
        if (out->by_id[i]->id[0] && by_id(&out->by_id[i - 1], &out->by_id[i]) == 0)
            status = LCL_FAIL(LCL_FORMAT, "%s: %s is named twice", path, out->by_id[i]->id);
    if (status != LCL_OK) lcl_class_names_free(out);
    return status;
}

const struct lcl_class_name *lcl_class_names_find(const struct lcl_class_names *n, const char *id)
{
    struct lcl_class_name key = {0};
    const struct lcl_class_name *wanted = &key;
    if (strlen(id) >= sizeof key.id || n->n == 0) return NULL;
    memcpy(key.id, id, strlen(id));
    const struct lcl_class_name *const *hit =
        bsearch(&wanted, n->by_id, (size_t)n->n, sizeof(void *), by_id);
    return hit ? *hit : NULL;
}

lcl_status lcl_class_names_choose(const char *given, const char *folder,
                                  struct lcl_class_names *out, bool *found)
{
    static const char *const usual[] = {"LOC_synset_mapping.txt", "synset_words.txt",
                                        "imagenet_class_index.json", "class_names.txt"};
    *out = (struct lcl_class_names){0};
    *found = given != NULL;
    if (given) return strcmp(given, "none") == 0 ? LCL_OK : lcl_class_names_load(given, out);
    for (size_t i = 0; i < sizeof usual / sizeof *usual && !*found; i++) {
        char *path = lcl_strdupf("%s/%s", folder, usual[i]);
        if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        lcl_status status = LCL_OK;
        *found = lcl_fs_exists(path);
        if (*found) {
            lcl_log_info("names of classes: %s", path);
            status = lcl_class_names_load(path, out);
        }
        free(path);
        LCL_TRY(status);
    }
    return LCL_OK;
}
