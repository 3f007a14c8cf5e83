/* The texts of the official LCL layout, from a user's clone of its code. They are looked for in
 * string literals of Python files and in lists of JSON files, by the words that they are known to
 * hold. */
#include "tools/clone_texts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/python_strings.h"

enum { MAX_BYTES = 4 << 20, MAX_FILES = 20000, MAX_DEPTH = 12, TEXT_BYTES = 4096 };
enum {
    SYSTEM,
    BEGIN,
    END,
    FINAL,
    SHOT,
    ANSWER,
    QUESTION,
    REF_SHOT,
    REF_ANSWER,
    REF_QUESTION,
    TILE_SHOT,
    PLACES_QUESTION,
    PLACES_ANSWER,
    N_TEXTS
};

/* A text is wanted that has all these words, and the longest or the shortest such. */
static const struct wanted {
    const char *name, *words[4];
    bool longest, mark; /* mark: a [...] in a text, alone */
    bool may_lack;
} wanted[N_TEXTS] = {
    [SYSTEM] = {"system line", {"causal", "example"}, .longest = true},
    [BEGIN] = {"begin-example mark", {"begin", "example"}, .mark = true},
    [END] = {"end-example mark", {"end", "example"}, .mark = true},
    [FINAL] = {"final-question mark", {"final", "question"}, .mark = true},
    [SHOT] = {"question of a shot", {"what", "image", "<image>"}},
    [ANSWER] = {"answer", {"there is", "in the image"}},
    [QUESTION] = {"question of an evaluation",
                  {"previous", "what", "image", "<image>"},
                  .may_lack = true},
    [REF_SHOT] = {"question of a named picture",
                  {"tell me something", "<image>"},
                  .may_lack = true},
    [REF_ANSWER] = {"name of a picture", {"reference name", "image"}, .may_lack = true},
    [REF_QUESTION] = {"question for names", {"same category", "<image>"}, .may_lack = true},
    [TILE_SHOT] = {"question of a tile", {"a puzzle piece", "<image>"}, .may_lack = true},
    [PLACES_QUESTION] = {"question for places",
                         {"puzzle pieces", "coordinates", "<image>"},
                         .may_lack = true},
    [PLACES_ANSWER] = {"places", {"order is"}, .may_lack = true},
};

struct clone {
    char text[N_TEXTS][TEXT_BYTES], where[N_TEXTS][512];
    bool found[N_TEXTS];
    json_t *questions;
    char questions_at[512];
    int n_files;
    const char *file; /* at hand */
};

static bool has_words(const char *text, const struct wanted *w)
{
    for (int i = 0; i < 4 && w->words[i]; i++)
        if (!strcasestr(text, w->words[i])) return false;
    return true;
}

static void consider(struct clone *c, int kind, const char *text, int line)
{
    const struct wanted *w = &wanted[kind];
    size_t n = strlen(text), old = strlen(c->text[kind]);
    if (n >= TEXT_BYTES || !has_words(text, w)) return;
    if (c->found[kind] && (w->longest ? n <= old : n >= old)) return;
    c->found[kind] = true;
    memcpy(c->text[kind], text, n + 1);
    snprintf(c->where[kind], sizeof c->where[kind], "%s:%d", c->file, line);
}

/* Each [...] in a text. */
static void consider_marks(struct clone *c, const char *text, int line)
{
    enum { LONGEST = 64 };
    for (const char *open = strchr(text, '['); open; open = strchr(open + 1, '[')) {
        size_t n = strcspn(open, "]\n");
        char mark[LONGEST + 2];
        if (open[n] != ']' || n >= LONGEST) continue;
        memcpy(mark, open, n + 1);
        mark[n + 1] = '\0';
        for (int kind = 0; kind < N_TEXTS; kind++)
            if (wanted[kind].mark) consider(c, kind, mark, line);
    }
}

/* The answer with {label} for the name that a program fills in: {...}, or %s. */
static void consider_answer(struct clone *c, const char *text, int line)
{
    char answer[TEXT_BYTES];
    const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;
    const char *percent = strstr(text, "%s");
    if (!close) {
        open = percent;
        close = percent ? percent + 1 : NULL;
    }
    if (!close || strchr(close, '{') || strlen(text) + 8 >= sizeof answer) return;
    snprintf(answer, sizeof answer, "%.*s{label}%s", (int)(open - text), text, close + 1);
    consider(c, ANSWER, answer, line);
    consider(c, REF_ANSWER, answer, line);
}

static lcl_status take_literal(void *ctx, const char *text, int line)
{
    struct clone *c = ctx;
    consider_marks(c, text, line);
    if (!strpbrk(text, "\n<"))
        consider(c, SYSTEM, text, line); /* a demo's page has the words too */
    consider_answer(c, text, line);
    if (!strpbrk(text, "\n<{")) consider(c, PLACES_ANSWER, text, line);
    const char *image = strstr(text, "<image>");
    if (image && !strstr(image + 1, "<image>") && !strchr(text, '{')) {
        static const int asked[] = {SHOT,         QUESTION,  REF_SHOT,
                                    REF_QUESTION, TILE_SHOT, PLACES_QUESTION};
        for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) consider(c, asked[i], text, line);
    }
    return LCL_OK;
}

/* The longest list of texts with one <image> each; ICL.json goes before others. */
static void take_json(struct clone *c, const char *text, size_t size)
{
    json_t *root = json_loadb(text, size, 0, NULL);
    size_t n = json_is_array(root) ? json_array_size(root) : 0, good = 0;
    for (size_t i = 0; i < n; i++) {
        const char *q = json_string_value(json_array_get(root, i));
        const char *image = q ? strstr(q, "<image>") : NULL;
        good += image && !strstr(image + 1, "<image>");
    }
    bool named = strcmp(lcl_fs_basename(c->file), "ICL.json") == 0;
    bool before = c->questions && strcmp(lcl_fs_basename(c->questions_at), "ICL.json") == 0;
    bool better = !c->questions || (named && !before) ||
                  (named == before && n > json_array_size(c->questions));
    if (n > 0 && good == n && better) {
        json_decref(c->questions);
        c->questions = json_incref(root);
        snprintf(c->questions_at, sizeof c->questions_at, "%s", c->file);
    }
    json_decref(root);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static lcl_status scan_file(struct clone *c, const char *path)
{
    char *text = NULL;
    size_t size;
    bool python = ends_with(path, ".py");
    if (!python && !ends_with(path, ".json")) return LCL_OK;
    if (++c->n_files > MAX_FILES)
        return LCL_FAIL_HINT(LCL_RANGE, "name the clone itself", "over %d files", MAX_FILES);
    c->file = path;
    /* data of other kinds may be large */
    lcl_status status = lcl_fs_read(path, MAX_BYTES, &text, &size);
    if (status == LCL_RANGE) return LCL_OK;
    if (status == LCL_OK && python) status = lcl_python_strings(text, size, take_literal, c);
    if (status == LCL_OK && !python) take_json(c, text, size);
    free(text);
    return status;
}

/* Recursive: at most MAX_DEPTH deep. */
static lcl_status scan_folder(struct clone *c, const char *dir, int depth)
{
    char **names;
    size_t n;
    if (depth > MAX_DEPTH) return LCL_OK;
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (names[i][0] == '.') continue;
        char *path = lcl_strdupf("%s/%s", dir, names[i]);
        if (!path)
            status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        else
            status = lcl_fs_is_dir(path) ? scan_folder(c, path, depth + 1) : scan_file(c, path);
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

static lcl_status check_found(const struct clone *c, const char *dir)
{
    char missing[512] = "";
    size_t at = 0;
    for (int i = 0; i < N_TEXTS; i++)
        if (!c->found[i] && !wanted[i].may_lack)
            at += (size_t)snprintf(missing + at, sizeof missing - at, "%s%s", at ? ", " : "",
                                   wanted[i].name);
    if (!c->questions)
        at += (size_t)snprintf(missing + at, sizeof missing - at, "%slist of questions",
                               at ? ", " : "");
    if (at == 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_NOT_FOUND,
                         "--from wants a clone of isekai-portal/Link-Context-Learning; such a file "
                         "may be written by hand too (docs/formats.md)",
                         "%s: not found in its %d Python and JSON files: %s", dir, c->n_files,
                         missing);
}

/* The text without a mark and the blanks around it. */
static void without(char *text, const char *mark)
{
    char *at = strstr(text, mark);
    if (at) memmove(at, at + strlen(mark), strlen(at + strlen(mark)) + 1);
    size_t n = strlen(text), skip = strspn(text, " ");
    while (n > skip && text[n - 1] == ' ') n--;
    memmove(text, text + skip, n - skip);
    text[n - skip] = '\0';
}

/* The turns of a policy: what a shot asks and says ("": nothing), what is asked last, and answered.
 */
static json_t *policy_json(struct clone *c, int shot, const char *said, int question,
                           const char *answer)
{
    without(c->text[shot], c->text[BEGIN]);
    char *shot_answer = lcl_strdupf(" %s%s%s</s>", said, *said ? " " : "", c->text[END]);
    char *support = lcl_strdupf("USER: %s %s ASSISTANT:%s", c->text[BEGIN], c->text[shot],
                                shot_answer ? shot_answer : "");
    char *query = lcl_strdupf("%s:  USER: %s ASSISTANT:", c->text[FINAL], c->text[question]);
    json_t *out = shot_answer && support && query
                      ? json_pack("{s:s, s:s, s:s, s:s}", "support", support, "shot_answer",
                                  shot_answer, "query", query, "answer", answer)
                      : NULL;
    free(shot_answer);
    free(support);
    free(query);
    return out;
}

/* Those of reference names and jigsaws, where the clone has their texts. */
static lcl_status add_policies(struct clone *c, json_t *root)
{
    const bool *found = c->found;
    lcl_status status = LCL_OK;
    if (found[REF_SHOT] && found[REF_ANSWER] && found[REF_QUESTION]) {
        without(c->text[REF_ANSWER], c->text[END]);
        json_t *ref = policy_json(c, REF_SHOT, c->text[REF_ANSWER], REF_QUESTION, " {label}</s>");
        if (json_object_set_new(root, "ref", ref) != 0) status = LCL_MEMORY;
    }
    if (found[TILE_SHOT] && found[PLACES_QUESTION] && found[PLACES_ANSWER]) {
        char *answer = lcl_strdupf(" %s{label}.</s>", c->text[PLACES_ANSWER]);
        json_t *jigsaw = answer ? policy_json(c, TILE_SHOT, "", PLACES_QUESTION, answer) : NULL;
        if (json_object_set_new(root, "jigsaw", jigsaw) != 0) status = LCL_MEMORY;
        free(answer);
    }
    if (status == LCL_OK) return LCL_OK;
    return LCL_FAIL(LCL_FORMAT, "no memory for a template, or a text that is not UTF-8");
}

/* Turns as the official code puts them together, in Vicuna v1.1's roles. */
static lcl_status make_json(struct clone *c, char **json)
{
    without(c->text[SHOT], c->text[BEGIN]);
    without(c->text[ANSWER], c->text[END]);
    const char *question = c->text[c->found[QUESTION] ? QUESTION : SHOT];
    char *shot_answer = lcl_strdupf(" %s %s</s>", c->text[ANSWER], c->text[END]);
    char *support = lcl_strdupf("USER: %s %s ASSISTANT:%s", c->text[BEGIN], c->text[SHOT],
                                shot_answer ? shot_answer : "");
    char *query = lcl_strdupf("%s:  USER: {question} ASSISTANT:", c->text[FINAL]);
    char *answer = lcl_strdupf(" %s</s>", c->text[ANSWER]);
    lcl_status status = LCL_FAIL(LCL_MEMORY, "no memory for a template");
    json_t *root = NULL;
    if (!shot_answer || !support || !query || !answer) goto out;
    root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O}", "format",
                     "lcl-template-1", "system", c->text[SYSTEM], "first", " ", "next", "",
                     "support", support, "shot_answer", shot_answer, "query", query, "question",
                     question, "answer", answer, "questions", c->questions);
    if (root) LCL_TRY_GOTO(add_policies(c, root));
    *json = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    status = *json ? LCL_OK : LCL_FAIL(LCL_FORMAT, "a text that was found is not UTF-8");
out:
    json_decref(root);
    free(shot_answer);
    free(support);
    free(query);
    free(answer);
    return status;
}

lcl_status clone_template(const char *dir, bool print, char **json)
{
    struct clone *c = calloc(1, sizeof *c);
    lcl_status status;
    *json = NULL;
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory for templates");
    if (!lcl_fs_is_dir(dir)) {
        status = LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                               "there is no folder %s", dir);
        goto out;
    }
    LCL_TRY_GOTO(scan_folder(c, dir, 0));
    LCL_TRY_GOTO(check_found(c, dir));
    for (int i = 0; i < N_TEXTS && print; i++)
        if (c->found[i]) printf("%s, %s:\n  %s\n", wanted[i].name, c->where[i], c->text[i]);
    if (print) printf("%zu questions: %s\n", json_array_size(c->questions), c->questions_at);
    LCL_TRY_GOTO(make_json(c, json));
out:
    json_decref(c->questions);
    free(c);
    return status;
}
