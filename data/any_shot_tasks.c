#include "data/any_shot_tasks.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/episode.h"

enum {
    MAX_FILE_BYTES = 4 << 20,
    MAX_ATTRIBUTES = 256,
    MAX_QUESTIONS = 1024,
    MAX_PATTERNS = 65536,
    MAX_PATTERN_BYTES = 200,
    MAX_STARS = 4, /* what a pattern costs to match grows with their number */
    MAX_TEXT_BYTES = 4096
};

const char *const lcl_turn_task_names[] = {"classes", "fine", "attributes", "rows"};
const char *const lcl_answer_format_names[] = {"plain", "upper", "prefix", "suffix", "reversed"};

static const char *own_questions[] = {"<image>\nWhat is in the image?",
                                      "<image>\nWhat does this picture show?",
                                      "<image>\nName what you see in this picture."};
static const struct lcl_any_text own_text = {sizeof own_questions / sizeof *own_questions,
                                             own_questions, "{answer}"};

static lcl_status wrong(const char *path, const char *where, const char *key, const char *wanted)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "docs/formats.md shows a task file", "%s: %s%s\"%s\" %s", path,
                         where, *where ? ": " : "", key, wanted);
}

static int times(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) n++;
    return n;
}

static lcl_status get_text(const char *path, const char *where, const json_t *in,
                           struct lcl_any_text *to)
{
    const json_t *list = json_object_get(in, "questions"), *answer = json_object_get(in, "answer");
    size_t n = json_array_size(list);
    *to = own_text;
    if (list && (n == 0 || n > MAX_QUESTIONS))
        return wrong(path, where, "questions", "is no list of 1 to 1024 texts");
    if (list) {
        to->question = calloc(n, sizeof *to->question);
        if (!to->question) return LCL_FAIL(LCL_MEMORY, "no memory for %zu questions", n);
        to->n_questions = (int)n;
    }
    for (size_t i = 0; i < n; i++) {
        const char *q = json_string_value(json_array_get(list, i));
        if (!q || strlen(q) > MAX_TEXT_BYTES || times(q, "<image>") != 1)
            return wrong(path, where, "questions", "holds one that does not say <image> once");
        to->question[i] = q;
    }
    if (!answer) return LCL_OK;
    to->answer = json_string_value(answer);
    if (!to->answer || strlen(to->answer) > MAX_TEXT_BYTES || times(to->answer, "{answer}") != 1 ||
        times(to->answer, "<image>"))
        return wrong(path, where, "answer", "does not say {answer} once, and no <image>");
    return LCL_OK;
}

static lcl_status get_values(const char *path, const json_t *in, struct lcl_any_attribute *a)
{
    json_t *values = json_object_get(in, "values"), *v;
    const char *pattern;
    size_t n = json_object_size(values);
    if (n < 1 || n > MAX_PATTERNS)
        return wrong(path, a->name, "values", "is no map of 1 to 65536 patterns to values");
    a->pattern = calloc(n, sizeof *a->pattern);
    a->value = calloc(n, sizeof *a->value);
    if (!a->pattern || !a->value) return LCL_FAIL(LCL_MEMORY, "no memory for %zu values", n);
    json_object_foreach(values, pattern, v)
    {
        const char *value = json_string_value(v);
        if (strlen(pattern) > MAX_PATTERN_BYTES || times(pattern, "*") > MAX_STARS)
            return wrong(path, a->name, pattern,
                         "is no pattern of up to 200 bytes with four * at most");
        if (!value || !*value || strlen(value) >= LCL_LABEL_BYTES || strstr(value, "<image>"))
            return wrong(path, a->name, pattern, "has no value of 1 to 127 bytes");
        a->pattern[a->n_patterns] = pattern;
        a->value[a->n_patterns++] = value;
    }
    return LCL_OK;
}

static lcl_status get_attributes(const char *path, json_t *root, struct lcl_any_tasks *t)
{
    json_t *list = json_object_get(root, "attributes"), *in;
    const char *name;
    size_t n = json_object_size(list);
    if (!list) return LCL_OK;
    if (!json_is_object(list) || n > MAX_ATTRIBUTES)
        return wrong(path, "", "attributes", "is no map of at most 256 attributes");
    t->attribute = calloc(n + 1, sizeof *t->attribute);
    if (!t->attribute) return LCL_FAIL(LCL_MEMORY, "no memory for %zu attributes", n);
    json_object_foreach(list, name, in)
    {
        struct lcl_any_attribute *a = &t->attribute[t->n_attributes++];
        a->name = name;
        if (!json_is_object(in)) return wrong(path, "attributes", name, "is no map");
        LCL_TRY(get_text(path, name, in, &a->text));
        LCL_TRY(get_values(path, in, a));
    }
    return LCL_OK;
}

static lcl_status read_root(const char *path, json_t *root, struct lcl_any_tasks *t)
{
    static const char *const keys[] = {"format", "classes", "fine", "attributes"};
    const char *format = json_string_value(json_object_get(root, "format")), *key;
    json_t *v;
    if (!format || strcmp(format, "lcl-tasks-1") != 0)
        return wrong(path, "", "format", "is not \"lcl-tasks-1\"");
    json_object_foreach(root, key, v)
    {
        bool known = false;
        for (int i = 0; i < 4; i++) known |= strcmp(key, keys[i]) == 0;
        if (!known) return wrong(path, "", key, "is no key of a task file");
    }
    LCL_TRY(get_text(path, "classes", json_object_get(root, "classes"), &t->classes));
    LCL_TRY(get_text(path, "fine", json_object_get(root, "fine"), &t->fine));
    return get_attributes(path, root, t);
}

/* Takes the object over. */
static lcl_status take_root(const char *name, json_t *root, struct lcl_any_tasks *t)
{
    t->owner = root;
    lcl_status status = read_root(name, root, t);
    if (status != LCL_OK) lcl_any_tasks_free(t);
    return status;
}

lcl_status lcl_any_tasks_parse(const char *name, const char *text, size_t size,
                               struct lcl_any_tasks *t)
{
    json_t *root;
    *t = (struct lcl_any_tasks){.classes = own_text, .fine = own_text};
    LCL_TRY(lcl_json_object(name, text, size, &root));
    return take_root(name, root, t);
}

lcl_status lcl_any_tasks_load(const char *path, struct lcl_any_tasks *t)
{
    json_t *root;
    *t = (struct lcl_any_tasks){.classes = own_text, .fine = own_text};
    if (!path[0]) return LCL_OK;
    LCL_TRY(lcl_json_load(path, MAX_FILE_BYTES, &root));
    return take_root(path, root, t);
}

static void free_text(struct lcl_any_text *t)
{
    if (t->question != own_questions) free(t->question);
}

void lcl_any_tasks_free(struct lcl_any_tasks *t)
{
    free_text(&t->classes);
    free_text(&t->fine);
    for (int i = 0; i < t->n_attributes; i++) {
        free_text(&t->attribute[i].text);
        free(t->attribute[i].pattern);
        free(t->attribute[i].value);
    }
    free(t->attribute);
    json_decref(t->owner);
    *t = (struct lcl_any_tasks){0};
}

/* ---- keys ---- */

static int find(const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0) return i;
    return -1;
}

lcl_status lcl_any_tasks_weights(const struct lcl_config *c, double weight[LCL_TURN_TASKS])
{
    char copy[LCL_CONFIG_STR_BYTES], *save = NULL;
    memcpy(copy, c->data_tasks, sizeof copy);
    memset(weight, 0, LCL_TURN_TASKS * sizeof *weight);
    int n = 0;
    for (char *e = strtok_r(copy, ", ", &save); e; e = strtok_r(NULL, ", ", &save), n++) {
        char *end, *equals = strchr(e, '=');
        double v = equals ? strtod(equals + 1, &end) : 1;
        if (equals && (end == equals + 1 || *end || !(v > 0) || !isfinite(v)))
            return LCL_FAIL_HINT(LCL_CONFIG, "for example classes=1, attributes=0.5",
                                 "data.tasks: \"%s\": wanted TASK=WEIGHT, the weight above 0", e);
        if (equals) *equals = '\0';
        int task = find(e, lcl_turn_task_names, LCL_TURN_TASKS);
        if (task < 0 || weight[task] > 0)
            return LCL_FAIL_HINT(LCL_CONFIG, "classes, fine, attributes, rows",
                                 "data.tasks: \"%s\" is %s", e,
                                 task < 0 ? "no task" : "named twice");
        weight[task] = v;
    }
    if (n == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "for example classes=1, attributes=0.5",
                             "data.tasks is empty");
    return LCL_OK;
}

lcl_status lcl_any_tasks_formats(const struct lcl_config *c, bool format[LCL_ANSWER_FORMATS])
{
    char copy[LCL_CONFIG_STR_BYTES], *save = NULL;
    memcpy(copy, c->data_formats, sizeof copy);
    memset(format, 0, LCL_ANSWER_FORMATS * sizeof *format);
    int n = 0;
    for (char *e = strtok_r(copy, ", ", &save); e; e = strtok_r(NULL, ", ", &save), n++) {
        int k = find(e, lcl_answer_format_names, LCL_ANSWER_FORMATS);
        if (k < 0)
            return LCL_FAIL_HINT(LCL_CONFIG, "plain, upper, prefix, suffix, reversed",
                                 "data.formats: \"%s\" is no format", e);
        format[k] = true;
    }
    if (n == 0) return LCL_FAIL_HINT(LCL_CONFIG, "plain", "data.formats is empty");
    return LCL_OK;
}

/* ---- formats ---- */

/* Characters of UTF-8 in reverse; to: room for as many bytes. */
static void reverse(const char *text, char *to)
{
    size_t end = strlen(text);
    while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && ((unsigned char)text[begin] & 0xC0) == 0x80) begin--;
        to = mempcpy(to, text + begin, end - begin);
        end = begin;
    }
    *to = '\0';
}

char *lcl_answer_formatted(enum lcl_answer_format format, const char *word, const char *text)
{
    char *out = malloc(strlen(text) + strlen(word) + 2);
    if (!out) return NULL;
    strcpy(out, text);
    if (format == LCL_ANSWER_UPPER)
        for (char *p = out; *p; p++) *p = (char)toupper((unsigned char)*p);
    if (format == LCL_ANSWER_PREFIX) stpcpy(stpcpy(stpcpy(out, word), " "), text);
    if (format == LCL_ANSWER_SUFFIX) stpcpy(stpcpy(stpcpy(out, text), " "), word);
    if (format == LCL_ANSWER_REVERSED) reverse(text, out);
    return out;
}
