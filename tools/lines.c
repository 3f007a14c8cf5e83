#include "tools/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES ((size_t)16 << 20)

static lcl_status read_line(const char *line, size_t size, lines_fn fn, void *ctx)
{
    json_error_t error;
    json_t *in = json_loadb(line, size, 0, &error);
    if (!in) return LCL_FAIL(LCL_FORMAT, "%s", error.text);
    lcl_status status = fn(ctx, in);
    json_decref(in);
    return status;
}

/* The next line without its end, of at most MOST_BYTES; size -1: there is none. */
static lcl_status next_line(FILE *f, char **line, size_t *cap, ssize_t *size)
{
    size_t n = 0;
    int c;
    while ((c = getc_unlocked(f)) != EOF && c != '\n') {
        if (n == MOST_BYTES) return LCL_FAIL(LCL_RANGE, "over %zu bytes", MOST_BYTES);
        if (n == *cap) {
            size_t more = 2 * n + 4096;
            char *grown = realloc(*line, more);
            if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory for a line of %zu bytes", more);
            *line = grown;
            *cap = more;
        }
        (*line)[n++] = (char)c;
    }
    *size = c == EOF && n == 0 ? -1 : (ssize_t)n;
    return LCL_OK;
}

static bool is_blank(const char *line, size_t n)
{
    while (n > 0 && strchr(" \t\r", line[n - 1]) && line[n - 1]) n--;
    return n == 0;
}

lcl_status lines_read(const char *in, lines_fn fn, void *ctx)
{
    bool standard = strcmp(in, "-") == 0;
    FILE *f = standard ? stdin : fopen(in, "rb");
    char *line = NULL;
    size_t cap = 0;
    ssize_t size = 0;
    lcl_status status = LCL_OK;
    if (!f) return LCL_FAIL(LCL_IO, "cannot open %s: %s", in, strerror(errno));
    for (int64_t n = 1; status == LCL_OK; n++) {
        status = next_line(f, &line, &cap, &size);
        if (status == LCL_OK && (size < 0 || is_blank(line, (size_t)size))) {
            if (size < 0) break;
            continue;
        }
        if (status == LCL_OK) status = read_line(line, (size_t)size, fn, ctx);
        if (status != LCL_OK)
            status = lcl_fail_context(status, "%s, line %lld", standard ? "standard input" : in,
                                      (long long)n);
    }
    if (status == LCL_OK && ferror(f)) status = LCL_FAIL(LCL_IO, "cannot read %s", in);
    free(line);
    if (!standard) fclose(f);
    return status;
}
