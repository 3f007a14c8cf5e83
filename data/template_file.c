/* Templates of one's own in JSON: data.template. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/episode.h"

enum {
    MAX_FILE_BYTES = 4 << 20,
    MAX_TEXT_BYTES = 64 << 10,
    MAX_QUESTIONS = 4096,
    TEXT_PATH = 1024
};

void lcl_template_free(struct lcl_template *t)
{
    json_decref(t->owner);
    free(t->owned);
    *t = (struct lcl_template){0};
}

static int times(const char *text, const char *word)
{
    int n = 0;
    for (; (text = strstr(text, word)); text += strlen(word)) n++;
    return n;
}

/* A text with so many times <image> and {label}. */
static lcl_status get(const char *path, const json_t *root, const char *key, int images, int labels,
                      const char **out)
{
    *out = json_string_value(json_object_get(root, key));
    if (!*out) return LCL_FAIL(LCL_FORMAT, "%s: \"%s\" is missing, or no string", path, key);
    if (strlen(*out) > MAX_TEXT_BYTES)
        return LCL_FAIL(LCL_RANGE, "%s: \"%s\" is over %d bytes", path, key, MAX_TEXT_BYTES);
    if (times(*out, "<image>") != images || times(*out, "{label}") != labels)
        return LCL_FAIL(LCL_FORMAT,
                        "%s: \"%s\" has %d times <image> and %d times {label}; wanted %d and %d",
                        path, key, times(*out, "<image>"), times(*out, "{label}"), images, labels);
    return LCL_OK;
}

static lcl_status get_questions(const char *path, const json_t *root, struct lcl_template *t)
{
    const json_t *list = json_object_get(root, "questions");
    if (list && !json_is_array(list))
        return LCL_FAIL(LCL_FORMAT, "%s: \"questions\" is no list", path);
    t->n_questions = (int)json_array_size(list);
    if (json_array_size(list) > MAX_QUESTIONS)
        return LCL_FAIL(LCL_RANGE, "%s: over %d questions", path, MAX_QUESTIONS);
    for (int i = 0; i < t->n_questions; i++) {
        const char *q = json_string_value(json_array_get(list, (size_t)i));
        if (!q || strlen(q) > MAX_TEXT_BYTES || times(q, "<image>") != 1)
            return LCL_FAIL(LCL_FORMAT, "%s: question %d is no text with one <image>", path, i + 1);
    }
    return LCL_OK;
}

/* query: the turn with "{question}", which the questions, number 0 the fixed one, take the place
 * of.
 */
static lcl_status word_questions(const json_t *root, const char *turn, const char *fixed,
                                 struct lcl_template *t)
{
    const json_t *list = json_object_get(root, "questions");
    const char *mark = strstr(turn, "{question}");
    const char *end = mark + strlen("{question}");
    size_t n = (size_t)t->n_questions + 1, size = n * sizeof(char *);
    for (size_t i = 0; i < n; i++)
        size +=
            strlen(turn) + strlen(i ? json_string_value(json_array_get(list, i - 1)) : fixed) + 1;
    t->owned = malloc(size);
    if (!t->owned) return LCL_FAIL(LCL_MEMORY, "no memory for %zu questions", n);
    const char **query = t->owned;
    char *to = (char *)(query + n);
    for (size_t i = 0; i < n; i++) {
        query[i] = to;
        memcpy(to, turn, (size_t)(mark - turn));
        to = stpcpy(to + (mark - turn), i ? json_string_value(json_array_get(list, i - 1)) : fixed);
        to = stpcpy(to, end) + 1;
    }
    t->query = query[0];
    t->questions = query + 1;
    return LCL_OK;
}

static lcl_status check_ends(const char *path, const char *support, const char *shot_answer,
                             const char *answer)
{
    size_t n = strlen(support), end = strlen(shot_answer);
    if (n < end || strcmp(support + n - end, shot_answer) != 0)
        return LCL_FAIL(LCL_FORMAT, "%s: \"support\" does not end with \"shot_answer\"", path);
    n = strlen(answer);
    if (n < 4 || strcmp(answer + n - 4, "</s>") != 0)
        return LCL_FAIL(LCL_FORMAT, "%s: \"answer\" does not end with </s>", path);
    return LCL_OK;
}

/* The turns of a policy, an object of that name; none where the file has none. */
static lcl_status get_words(const char *path, const json_t *root, const char *name,
                            bool silent_shots, struct lcl_turns *w)
{
    const json_t *o = json_object_get(root, name);
    char where[TEXT_PATH];
    if (!o) return LCL_OK;
    snprintf(where, sizeof where, "%s: \"%s\"", path, name);
    const char *shot = json_string_value(json_object_get(o, "shot_answer"));
    int labels = silent_shots && shot && !strstr(shot, "{label}") ? 0 : 1;
    LCL_TRY(get(where, o, "support", 1, labels, &w->support));
    LCL_TRY(get(where, o, "query", 1, 0, &w->query));
    LCL_TRY(get(where, o, "shot_answer", 0, labels, &w->shot_answer));
    LCL_TRY(get(where, o, "answer", 0, 1, &w->answer));
    return check_ends(where, w->support, w->shot_answer, w->answer);
}

static lcl_status read_root(const char *path, const json_t *root, struct lcl_template *t)
{
    const char *turn, *fixed, *format = json_string_value(json_object_get(root, "format"));
    if (!format || strcmp(format, "lcl-template-1") != 0)
        return LCL_FAIL_HINT(LCL_FORMAT, "lcl import templates makes such files",
                             "%s: \"format\" is not \"lcl-template-1\"", path);
    LCL_TRY(get(path, root, "system", 0, 0, &t->system));
    LCL_TRY(get(path, root, "first", 0, 0, &t->first));
    LCL_TRY(get(path, root, "next", 0, 0, &t->next));
    LCL_TRY(get(path, root, "support", 1, 1, &t->support));
    LCL_TRY(get(path, root, "shot_answer", 0, 1, &t->shot_answer));
    LCL_TRY(get(path, root, "question", 1, 0, &fixed));
    LCL_TRY(get(path, root, "query", 0, 0, &turn));
    LCL_TRY(get(path, root, "answer", 0, 1, &t->answer));
    if (times(turn, "{question}") != 1)
        return LCL_FAIL(LCL_FORMAT, "%s: \"query\" must say {question} once", path);
    LCL_TRY(check_ends(path, t->support, t->shot_answer, t->answer));
    LCL_TRY(get_words(path, root, "ref", false, &t->ref));
    LCL_TRY(get_words(path, root, "jigsaw", true, &t->jigsaw));
    LCL_TRY(get_questions(path, root, t));
    t->turn = turn;
    t->question = fixed;
    return word_questions(root, turn, fixed, t);
}

/* Takes the object over. */
static lcl_status take_root(const char *name, json_t *root, struct lcl_template *t)
{
    t->owner = root;
    lcl_status status = read_root(name, root, t);
    if (status != LCL_OK) lcl_template_free(t);
    return status;
}

lcl_status lcl_template_parse(const char *name, const char *text, size_t size,
                              struct lcl_template *t)
{
    json_t *root;
    *t = (struct lcl_template){0};
    LCL_TRY(lcl_json_object(name, text, size, &root));
    return take_root(name, root, t);
}

lcl_status lcl_template_load(const char *path, struct lcl_template *t)
{
    json_t *root;
    *t = (struct lcl_template){0};
    LCL_TRY(lcl_json_load(path, MAX_FILE_BYTES, &root));
    return take_root(path, root, t);
}
