#include "data/row_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const size_t MAX_ROW_BYTES = (size_t)16 << 20;

lcl_status lcl_row_table_open(const char *path, struct lcl_row_table *t)
{
    struct stat st;
    *t = (struct lcl_row_table){.path = path, .lines = 1};
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return LCL_FAIL(LCL_IO, "%s is no regular file", path);
    t->f = fopen(path, "re");
    if (t->f) return LCL_OK;
    return LCL_FAIL(errno == ENOENT ? LCL_NOT_FOUND : LCL_IO, "cannot read %s: %s", path,
                    strerror(errno));
}

void lcl_row_table_close(struct lcl_row_table *t)
{
    if (t->f) fclose(t->f);
    free(t->text);
    t->f = NULL;
    t->text = NULL;
}

static lcl_status fail(const struct lcl_row_table *t, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "a JSON object a line, or one JSON list of objects",
                         "%s:%lld: row %lld: %s", t->path, (long long)t->line, (long long)t->row,
                         what);
}

static int next_byte(struct lcl_row_table *t)
{
    int c = getc_unlocked(t->f);
    t->lines += c == '\n';
    return c;
}

static int next_visible(struct lcl_row_table *t)
{
    int c = next_byte(t);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n') c = next_byte(t);
    return c;
}

static lcl_status keep(struct lcl_row_table *t, int c)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 4096;
        if (cap > MAX_ROW_BYTES) return fail(t, "over 16 MiB");
        char *grown = realloc(t->text, cap);
        if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for a row of %s", t->path);
        t->text = grown;
        t->cap = cap;
    }
    t->text[t->n++] = (char)c;
    return LCL_OK;
}

/* The rest of a line. */
static lcl_status read_line(struct lcl_row_table *t, int c)
{
    for (; c != EOF && c != '\n'; c = next_byte(t)) LCL_TRY(keep(t, c));
    return LCL_OK;
}

/* An object of a list, to the brace that closes it. */
static lcl_status read_object(struct lcl_row_table *t, int c)
{
    int depth = 0;
    bool quoted = false, escaped = false;
    for (; c != EOF; c = next_byte(t)) {
        LCL_TRY(keep(t, c));
        if (quoted) {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        quoted = c == '"';
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (depth == 0) return LCL_OK;
    }
    return fail(t, "the file ends within it");
}

/* The first byte of the next row, or EOF behind the last. */
static lcl_status find_row(struct lcl_row_table *t, int *c)
{
    *c = next_visible(t);
    if (!t->begun && *c == 0xEF) { /* a byte order mark */
        if (next_byte(t) != 0xBB || next_byte(t) != 0xBF) return fail(t, "is no JSON");
        *c = next_visible(t);
    }
    if (!t->begun && *c == '[') {
        t->list = true;
        *c = next_visible(t);
    } else if (t->begun && t->list && *c == ',') {
        *c = next_visible(t);
        if (*c == ']') return fail(t, "a list ends with a comma");
    } else if (t->begun && t->list && *c != ']') {
        return fail(t, *c == EOF ? "the list is not closed" : "a comma is missing behind it");
    }
    t->begun = true;
    if (t->list && *c == ']') {
        *c = next_visible(t);
        if (*c != EOF) return fail(t, "something follows the list");
    } else if (t->list && *c == EOF) {
        return fail(t, "the list is not closed");
    }
    t->ended = *c == EOF;
    if (t->ended && ferror(t->f))
        return LCL_FAIL(LCL_IO, "cannot read %s: %s", t->path, strerror(errno));
    return LCL_OK;
}

lcl_status lcl_row_table_next(struct lcl_row_table *t, json_t **row, bool *mended)
{
    int c = EOF;
    json_error_t error;
    *row = NULL;
    if (mended) *mended = false;
    t->n = 0;
    if (t->ended) return LCL_OK;
    LCL_TRY(find_row(t, &c));
    if (t->ended) return LCL_OK;
    t->row++;
    t->line = t->lines;
    if (t->list && c != '{') return fail(t, "is no JSON object");
    LCL_TRY(t->list ? read_object(t, c) : read_line(t, c));
    if (mended) *mended = true;
    *row = json_loadb(t->text, t->n, JSON_REJECT_DUPLICATES, &error);
    if (!*row) return fail(t, error.text);
    if (json_is_object(*row)) return LCL_OK;
    json_decref(*row);
    *row = NULL;
    return fail(t, "is no JSON object");
}
