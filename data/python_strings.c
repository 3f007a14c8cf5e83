#include "data/python_strings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct lexer {
    const char *at, *end;
    int line, depth; /* depth: open brackets, in which line ends part nothing */
    char *text;      /* the literal so far: never longer than the source */
    size_t n;
    int begun; /* the line where it begins; 0: none */
    lcl_python_string_fn fn;
    void *ctx;
};

static char peek(const struct lexer *l, size_t k)
{
    return k < (size_t)(l->end - l->at) ? l->at[k] : '\0';
}

static lcl_status flush(struct lexer *l)
{
    int line = l->begun;
    if (!line) return LCL_OK;
    l->text[l->n] = '\0';
    l->n = 0;
    l->begun = 0;
    return l->fn(l->ctx, l->text, line);
}

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *hit = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
    return hit ? (int)(hit - digits) : -1;
}

/* What stands behind a backslash. */
static void read_escape(struct lexer *l)
{
    static const char from[] = "ntr\\'\"", to[] = "\n\t\r\\'\"";
    char c = peek(l, 1);
    const char *hit = c ? strchr(from, c) : NULL;
    if (c == '\n') {
        l->line++;
        l->at += 2;
    } else if (hit) {
        l->text[l->n++] = to[hit - from];
        l->at += 2;
    } else if (c == 'x' && hex(peek(l, 2)) >= 0 && hex(peek(l, 3)) >= 0) {
        char byte = (char)(hex(peek(l, 2)) * 16 + hex(peek(l, 3)));
        if (byte) l->text[l->n++] = byte;
        l->at += 4;
    } else {
        l->text[l->n++] = *l->at++;
    }
}

/* A literal whose first quote is at hand. */
static void read_literal(struct lexer *l, bool raw, bool format)
{
    char quote = *l->at;
    int width = peek(l, 1) == quote && peek(l, 2) == quote ? 3 : 1;
    if (!l->begun) l->begun = l->line;
    l->at += width;
    while (l->at < l->end) {
        char c = *l->at;
        bool closes = c == quote && (width == 1 || (peek(l, 1) == quote && peek(l, 2) == quote));
        if (closes || (c == '\n' && width == 1)) {
            l->at += closes ? width : 0;
            return;
        }
        if (c == '\\' && !raw) {
            read_escape(l);
            continue;
        }
        l->line += c == '\n';
        if (c) l->text[l->n++] = c;
        l->at += format && (c == '{' || c == '}') && peek(l, 1) == c ? 2 : 1;
    }
}

/* A name, or the letters before a literal. */
static lcl_status read_name(struct lexer *l)
{
    const char *name = l->at;
    bool prefix = true, raw = false, format = false;
    while (l->at < l->end && (isalnum((unsigned char)*l->at) || *l->at == '_')) {
        char c = (char)tolower((unsigned char)*l->at++);
        prefix &= strchr("rbuf", c) != NULL;
        raw |= c == 'r';
        format |= c == 'f';
    }
    if (prefix && l->at - name <= 2 && (peek(l, 0) == '"' || peek(l, 0) == '\'')) {
        read_literal(l, raw, format);
        return LCL_OK;
    }
    return flush(l);
}

static lcl_status step(struct lexer *l)
{
    char c = *l->at;
    if (c == '"' || c == '\'') {
        read_literal(l, false, false);
        return LCL_OK;
    }
    if (isalnum((unsigned char)c) || c == '_') return read_name(l);
    if (c == '#') {
        while (l->at < l->end && *l->at != '\n') l->at++;
        return LCL_OK;
    }
    l->at++;
    if (c == '\\' && peek(l, 0) == '\n') {
        l->line++;
        l->at++;
        return LCL_OK;
    }
    if (c == '\n') {
        l->line++;
        return l->depth > 0 ? LCL_OK : flush(l);
    }
    if (c == ' ' || c == '\t' || c == '\r') return LCL_OK;
    if (strchr("([{", c) && c) l->depth++;
    if (strchr(")]}", c) && c && l->depth > 0) l->depth--;
    return flush(l);
}

lcl_status lcl_python_strings(const char *source, size_t size, lcl_python_string_fn fn, void *ctx)
{
    struct lexer l = {.at = source,
                      .end = source + size,
                      .line = 1,
                      .text = malloc(size + 1),
                      .fn = fn,
                      .ctx = ctx};
    lcl_status status = l.text ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a source file");
    while (status == LCL_OK && l.at < l.end) status = step(&l);
    if (status == LCL_OK) status = flush(&l);
    free(l.text);
    return status;
}
