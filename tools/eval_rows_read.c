#include "tools/eval_rows_read.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/rng.h"
#include "data/pack_rows.h"
#include "data/row_table.h"

enum { MAX_PICTURES = 1024 };

static void free_row(struct eval_row *r)
{
    json_decref(r->turns);
    json_decref(r->answers);
    json_decref(r->images);
    free(r->number);
}

void eval_rows_free(struct eval_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++) free_row(&rows->v[i]);
    free(rows->v);
    if (rows->packed) lcl_pack_close(&rows->pack);
    *rows = (struct eval_rows){0};
}

/* Takes the row, also where it fails. */
static lcl_status push(struct eval_rows *rows, struct eval_row *r)
{
    if (rows->n == rows->cap) {
        int64_t cap = 2 * rows->cap + 64;
        struct eval_row *v = realloc(rows->v, (size_t)cap * sizeof *v);
        if (!v) {
            free_row(r);
            return LCL_FAIL(LCL_MEMORY, "no memory for %lld rows", (long long)cap);
        }
        rows->v = v;
        rows->cap = cap;
    }
    rows->v[rows->n++] = *r;
    return LCL_OK;
}

/* ---- JSON lines ---- */

static lcl_status wanted(const char *key, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "{\"image\":, \"question\":, \"answers\": [...]} on each line",
                         "\"%s\" must be %s", key, what);
}

/* The texts under the first key that is there: a text, or a list of `least` texts or more. */
static lcl_status get_texts(const json_t *line, const char *const *keys, int n_keys, size_t least,
                            json_t **out)
{
    const char *key = keys[0];
    json_t *v = NULL;
    for (int i = 0; i < n_keys && !v; i++)
        if ((v = json_object_get(line, keys[i]))) key = keys[i];
    *out = json_array();
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    if (json_is_string(v)) json_array_append(*out, v);
    for (size_t i = 0; i < json_array_size(v) && i <= MAX_PICTURES; i++)
        if (json_is_string(json_array_get(v, i))) json_array_append(*out, json_array_get(v, i));
    bool list = json_is_array(v) && json_array_size(v) == json_array_size(*out);
    if (json_array_size(*out) < least || (v && !json_is_string(v) && !list))
        return wanted(key, "a text, or a list of at most 1024 texts");
    return LCL_OK;
}

static int count_marks(const char *text)
{
    int n = 0;
    for (; (text = strstr(text, "<image>")); text += strlen("<image>")) n++;
    return n;
}

/* The question in the words of `ask`, its pictures before it where it says not where they stand. */
static lcl_status word_question(const char *question, const char *ask, size_t pictures, char **out)
{
    const char *mark = ask ? strstr(ask, "{question}") : NULL;
    char *words = mark ? lcl_strdupf("%.*s%s%s", (int)(mark - ask), ask, question,
                                     mark + strlen("{question}"))
                       : lcl_strdupf("%s", question);
    int marks = words ? count_marks(words) : 0;
    *out = NULL;
    if (words && marks == 0) {
        *out = malloc(pictures * strlen("<image>\n") + strlen(words) + 1);
        char *to = *out;
        for (size_t i = 0; to && i < pictures; i++) to = stpcpy(to, "<image>\n");
        if (to) strcpy(to, words);
    } else if (words && (size_t)marks == pictures) {
        *out = words;
        return LCL_OK;
    }
    free(words);
    if (marks && (size_t)marks != pictures)
        return LCL_FAIL(LCL_FORMAT, "\"question\" says <image> %d times, of %zu pictures", marks,
                        pictures);
    return *out ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a question");
}

lcl_status eval_rows_add(struct eval_rows *rows, const json_t *line, const char *ask)
{
    static const char *const image_keys[] = {"images", "image"};
    static const char *const answer_keys[] = {"answers", "answer", "references", "target"};
    struct eval_row r = {0};
    char *words = NULL;
    lcl_status status;
    const char *question = json_string_value(json_object_get(line, "question"));
    LCL_TRY_GOTO(get_texts(line, image_keys, 2, 0, &r.images));
    LCL_TRY_GOTO(get_texts(line, answer_keys, 4, 1, &r.answers));
    LCL_TRY_GOTO(question ? LCL_OK : wanted("question", "a text"));
    LCL_TRY_GOTO(word_question(question, ask, json_array_size(r.images), &words));
    r.turns = json_pack("[{s:s, s:s}]", "role", "user", "content", words);
    if (!r.turns) status = LCL_FAIL(LCL_MEMORY, "no memory for a row");
out:
    free(words);
    if (status == LCL_OK) return push(rows, &r);
    free_row(&r);
    return status;
}

static lcl_status read_table(struct eval_rows *rows, const char *ask, int64_t most)
{
    struct lcl_row_table t;
    json_t *line;
    LCL_TRY(lcl_row_table_open(rows->name, &t));
    lcl_status status = LCL_OK;
    while (status == LCL_OK && (most == 0 || rows->n < most)) {
        status = lcl_row_table_next(&t, &line, NULL);
        if (status != LCL_OK || !line) break;
        status = eval_rows_add(rows, line, ask);
        if (status != LCL_OK)
            status = lcl_fail_context(status, "%s, line %lld", rows->name, (long long)t.line);
        json_decref(line);
    }
    lcl_row_table_close(&t);
    return status;
}

/* ---- packs ---- */

static lcl_status copy_turns(const struct lcl_conversation *c, struct eval_row *r)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    const int last = c->n_messages - 1;
    for (int i = 0; i < last; i++)
        if (json_array_append_new(r->turns,
                                  json_pack("{s:s, s:s}", "role", roles[c->messages[i].role],
                                            "content", c->messages[i].text)) != 0)
            return LCL_FAIL(LCL_MEMORY, "no memory for a row");
    return json_array_append_new(r->answers, json_string(c->messages[last].text)) == 0
               ? LCL_OK
               : LCL_FAIL(LCL_MEMORY, "no memory for a row");
}

static lcl_status read_packed(struct eval_rows *rows, int64_t i)
{
    struct lcl_conversation c;
    json_t *owner;
    LCL_TRY(lcl_pack_conversation(&rows->pack, i, 0, &c, &owner));
    struct eval_row r = {json_array(), json_array(), json_array(),
                         malloc(((size_t)c.n_images + 1) * sizeof *r.number)};
    lcl_status status = r.turns && r.answers && r.images && r.number
                            ? LCL_OK
                            : LCL_FAIL(LCL_MEMORY, "no memory for a row");
    if (status == LCL_OK &&
        (c.n_messages < 2 || c.messages[c.n_messages - 2].role != LCL_ROLE_USER))
        status = LCL_FAIL(LCL_FORMAT, "%s: row %lld asks nothing", rows->name, (long long)i);
    if (status == LCL_OK) status = copy_turns(&c, &r);
    for (int64_t k = 0; k < c.n_images && status == LCL_OK; k++) {
        const char *name;
        r.number[k] = c.image[k];
        status = lcl_pack_image_name(&rows->pack, c.image[k], &name);
        if (status == LCL_OK) json_array_append_new(r.images, json_string(name));
    }
    lcl_pack_conversation_free(&c, owner);
    if (status == LCL_OK) return push(rows, &r);
    free_row(&r);
    return status;
}

static lcl_status read_pack(struct eval_rows *rows, int64_t most)
{
    LCL_TRY(lcl_pack_open(rows->name, &rows->pack));
    rows->packed = true;
    if (rows->pack.n_rows == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl pack --format llava, vqav2, ... makes such packs",
                             "%s holds no rows", rows->name);
    for (int64_t i = 0; i < rows->pack.n_rows && (most == 0 || i < most); i++)
        LCL_TRY(read_packed(rows, i));
    return LCL_OK;
}

/* ---- both ---- */

/* Rows of one picture become the first of them, with the answers of all. */
static lcl_status join_rows(struct eval_rows *rows)
{
    json_t *first = json_object();
    int64_t kept = 0;
    if (!first) return LCL_FAIL(LCL_MEMORY, "no memory for captions");
    for (int64_t i = 0; i < rows->n; i++) {
        struct eval_row *r = &rows->v[i];
        char *key = json_dumps(r->images, JSON_COMPACT);
        const json_t *at = key ? json_object_get(first, key) : NULL;
        if (at) {
            json_array_extend(rows->v[json_integer_value(at)].answers, r->answers);
            free_row(r);
        } else {
            if (key) json_object_set_new(first, key, json_integer(kept));
            rows->v[kept++] = *r;
        }
        free(key);
    }
    rows->n = kept;
    json_decref(first);
    return LCL_OK;
}

lcl_status eval_rows_read(const char *path, const char *images, const char *ask, bool join_pictures,
                          int64_t most, struct eval_rows *rows)
{
    size_t n = strlen(path);
    *rows = (struct eval_rows){.name = path, .images = images ? images : ""};
    bool pack = n > 3 && strcmp(path + n - 3, ".h5") == 0;
    lcl_status status = LCL_OK;
    if (ask && (pack || !strstr(ask, "{question}")))
        status = pack ? LCL_FAIL(LCL_CONFIG, "--ask words questions of JSON lines; a pack's are "
                                             "worded")
                      : LCL_FAIL(LCL_CONFIG, "--ask lacks {question}");
    if (status == LCL_OK) status = pack ? read_pack(rows, most) : read_table(rows, ask, most);
    if (status == LCL_OK && join_pictures) status = join_rows(rows);
    if (status == LCL_OK && rows->n == 0) status = LCL_FAIL(LCL_FORMAT, "%s has no rows", path);
    if (status != LCL_OK) eval_rows_free(rows);
    return status;
}
