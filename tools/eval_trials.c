#include "tools/eval_trials.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/rng.h"
#include "tools/lines.h"
#include "train/support.h"
#include "train/text.h"

void trials_free(struct trials *t)
{
    json_decref(t->rows);
    free(t->v);
    *t = (struct trials){0};
}

static lcl_status get_text(const json_t *row, const char *key, const char **text)
{
    *text = json_string_value(json_object_get(row, key));
    return *text ? LCL_OK : LCL_FAIL(LCL_FORMAT, "\"%s\" must be a text", key);
}

static lcl_status get_paths(const json_t *row, const char *key, const json_t **list)
{
    *list = json_object_get(row, key);
    if (!json_is_array(*list)) return LCL_FAIL(LCL_FORMAT, "\"%s\" must be a list of paths", key);
    for (size_t i = 0; i < json_array_size(*list); i++)
        if (!json_is_string(json_array_get(*list, i)))
            return LCL_FAIL(LCL_FORMAT, "\"%s\"[%zu] must be a path", key, i);
    return LCL_OK;
}

static lcl_status push(struct trials *t, const struct trial *trial)
{
    if (t->n == t->cap) {
        int64_t cap = 2 * t->cap + 64;
        struct trial *v = realloc(t->v, (size_t)cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %lld questions", (long long)cap);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *trial;
    return LCL_OK;
}

/* A label as answers can hold it. */
static lcl_status set_label(struct trial *trial, int way, const char *key, const char *label)
{
    size_t n = strlen(label);
    if (n == 0 || n >= LCL_LABEL_BYTES || strchr(label, '"'))
        return LCL_FAIL(LCL_FORMAT, "\"%s\" must have 1 to %d bytes and no double quote", key,
                        LCL_LABEL_BYTES - 1);
    memcpy(trial->label[way], label, n + 1);
    return LCL_OK;
}

static void set_group(struct trial *trial)
{
    trial->group =
        (int32_t)(lcl_hash_string(trial->label[0]) * 31 + lcl_hash_string(trial->label[1]));
}

static lcl_status keep(struct trials *t, json_t *row)
{
    if (!t->rows) t->rows = json_array();
    return json_array_append(t->rows, row) == 0 ? LCL_OK
                                                : LCL_FAIL(LCL_MEMORY, "no memory for a table");
}

static lcl_status isekai_row(void *ctx, json_t *row)
{
    struct trials *t = ctx;
    struct trial trial = {0};
    const char *positive, *negative, *name;
    LCL_TRY(get_text(row, "image_name", &trial.query));
    LCL_TRY(get_paths(row, "positive_list", &trial.pictures[0]));
    LCL_TRY(get_paths(row, "negative_list", &trial.pictures[1]));
    LCL_TRY(get_text(row, "positive_promt", &positive));
    LCL_TRY(get_text(row, "negative_promt", &negative));
    LCL_TRY(get_text(row, "label_name", &name));
    LCL_TRY(set_label(&trial, 0, "positive_promt", positive));
    LCL_TRY(set_label(&trial, 1, "negative_promt", negative));
    if (strcasecmp(positive, negative) == 0)
        return LCL_FAIL(LCL_FORMAT, "\"positive_promt\" and \"negative_promt\" are both \"%s\"",
                        positive);
    trial.target = strcasecmp(name, positive) != 0;
    if (trial.target && strcasecmp(name, negative) != 0)
        return LCL_FAIL(LCL_FORMAT, "\"label_name\" must be \"%s\" or \"%s\", is \"%.80s\"",
                        positive, negative, name);
    const struct trial *last = t->n ? &t->v[t->n - 1] : NULL;
    bool same =
        last && strcmp(last->label[0], positive) == 0 && strcmp(last->label[1], negative) == 0;
    for (int w = 0; w < 2; w++) same = same && json_equal(last->pictures[w], trial.pictures[w]);
    trial.set = last ? last->set + !same : 0;
    set_group(&trial);
    LCL_TRY(keep(t, row));
    return push(t, &trial);
}

lcl_status trials_isekai(const char *table, struct trials *t)
{
    *t = (struct trials){0};
    lcl_status status = lines_read(table, isekai_row, t);
    if (status == LCL_OK && t->n == 0) status = LCL_FAIL(LCL_FORMAT, "%s has no rows", table);
    if (status != LCL_OK) trials_free(t);
    return status;
}

static lcl_status imagenet_row(void *ctx, json_t *row)
{
    struct trials *t = ctx;
    const json_t *list;
    const char *name;
    LCL_TRY(get_text(row, "class_name", &name));
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes >= LCL_LABEL_BYTES)
        return LCL_FAIL(LCL_FORMAT, "\"class_name\" must have 1 to %d bytes, has %zu",
                        LCL_LABEL_BYTES - 1, bytes);
    LCL_TRY(get_paths(row, "context_samples", &list));
    LCL_TRY(get_paths(row, "test_samples", &list));
    return keep(t, row);
}

/* The test samples of a row, `other` being the row that it is asked against. */
static lcl_status push_class(struct trials *t, size_t at, size_t other)
{
    const size_t pair[] = {at < other ? at : other, at < other ? other : at};
    struct trial trial = {.target = at > other, .set = (int)at, .group = (int32_t)at};
    for (int w = 0; w < 2; w++) {
        const json_t *row = json_array_get(t->rows, pair[w]);
        lcl_label_of_name(json_string_value(json_object_get(row, "class_name")), trial.label[w]);
        trial.pictures[w] = json_object_get(row, "context_samples");
    }
    if (strcmp(trial.label[0], trial.label[1]) == 0)
        return LCL_FAIL(LCL_FORMAT, "rows %zu and %zu, a pair, are both \"%s\"", pair[0] + 1,
                        pair[1] + 1, trial.label[0]);
    const json_t *tests = json_object_get(json_array_get(t->rows, at), "test_samples");
    for (size_t i = 0; i < json_array_size(tests); i++) {
        trial.query = json_string_value(json_array_get(tests, i));
        LCL_TRY(push(t, &trial));
    }
    return LCL_OK;
}

lcl_status trials_imagenet(const char *table, struct trials *t)
{
    lcl_status status;
    *t = (struct trials){0};
    LCL_TRY_GOTO(lines_read(table, imagenet_row, t));
    size_t n = json_array_size(t->rows);
    if (n == 0 || n % 2 == 1) {
        status = LCL_FAIL(LCL_FORMAT, "%s has %zu rows; wanted pairs of classes", table, n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = push_class(t, i, i ^ 1);
        if (status != LCL_OK) {
            status = lcl_fail_context(status, "%s", table);
            goto out;
        }
    }
    if (t->n == 0) status = LCL_FAIL(LCL_FORMAT, "%s has no \"test_samples\"", table);
out:
    if (status != LCL_OK) trials_free(t);
    return status;
}

/* ---- folders ---- */

static json_t *starting_with(char **paths, size_t n, const char *prefix, const char *group)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const char *name = lcl_fs_basename(paths[i]);
        if (strncasecmp(name, prefix, strlen(prefix)) == 0)
            json_array_append_new(list, json_sprintf("%s/%s", group, name));
    }
    return list;
}

/* The labels of a group, in `text` of 2 * LCL_LABEL_BYTES. */
static lcl_status group_labels(const char *dir, const char *group, char label[2][LCL_LABEL_BYTES])
{
    char *path = lcl_strdupf("%s/labels.txt", dir), *text = NULL;
    size_t size;
    lcl_status status = LCL_OK;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_label_of_name(group, label[0]);
    strcpy(label[1], "other");
    if (lcl_fs_exists(path)) {
        status = lcl_fs_read(path, 4096, &text, &size);
        char *save = NULL, *line = status == LCL_OK ? strtok_r(text, "\r\n", &save) : NULL;
        for (int i = 0; i < 2 && status == LCL_OK; i++, line = strtok_r(NULL, "\r\n", &save)) {
            if (!line || strlen(line) >= LCL_LABEL_BYTES) {
                status = LCL_FAIL(LCL_FORMAT, "%s: line %d must be a label", path, i + 1);
                break;
            }
            strcpy(label[i], line);
        }
    }
    free(text);
    free(path);
    return status;
}

static lcl_status add_group(const char *dir, const char *group, struct lcl_text *out)
{
    char label[2][LCL_LABEL_BYTES], **paths;
    size_t n;
    LCL_TRY(group_labels(dir, group, label));
    LCL_TRY(lcl_picture_files(dir, &paths, &n));
    json_t *positive = starting_with(paths, n, "pos", group);
    json_t *negative = starting_with(paths, n, "neg", group);
    json_t *infer = starting_with(paths, n, "infer", group);
    lcl_fs_list_free(paths, n);
    lcl_status status = LCL_OK;
    if (!json_array_size(positive) || !json_array_size(negative) || !json_array_size(infer))
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "name a group's pictures pos*, neg* and infer*",
                               "%s holds %zu pos, %zu neg and %zu infer pictures", dir,
                               json_array_size(positive), json_array_size(negative),
                               json_array_size(infer));
    for (size_t i = 0; i < json_array_size(infer) && status == LCL_OK; i++) {
        json_t *row =
            json_pack("{s:O, s:O, s:O, s:s, s:s, s:s}", "image_name", json_array_get(infer, i),
                      "positive_list", positive, "negative_list", negative, "positive_promt",
                      label[0], "negative_promt", label[1], "label_name", label[0]);
        char *line = row ? json_dumps(row, JSON_COMPACT) : NULL;
        if (line)
            lcl_text_printf(out, "%s\n", line);
        else
            status = LCL_FAIL(LCL_FORMAT, "%s: a name is not UTF-8", dir);
        free(line);
        json_decref(row);
    }
    json_decref(positive);
    json_decref(negative);
    json_decref(infer);
    return status;
}

lcl_status trials_of_groups(const char *dir, char **lines)
{
    struct lcl_text out = {0};
    char **names;
    size_t n;
    *lines = NULL;
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char *path = lcl_strdupf("%s/%s", dir, names[i]);
        status = !path                 ? LCL_FAIL(LCL_MEMORY, "no memory for a path")
                 : lcl_fs_is_dir(path) ? add_group(path, names[i], &out)
                                       : LCL_OK;
        free(path);
    }
    lcl_fs_list_free(names, n);
    if (status == LCL_OK) status = lcl_text_check(&out);
    if (status == LCL_OK && out.size == 0)
        status = LCL_FAIL(LCL_NOT_FOUND, "%s holds no folders of groups", dir);
    if (status == LCL_OK)
        *lines = out.data;
    else
        lcl_text_free(&out);
    return status;
}
