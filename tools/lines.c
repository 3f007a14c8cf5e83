#include "tools/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lcl_status read_line(const char *line, size_t size, lines_fn fn, void *ctx)
{
    json_error_t error;
    json_t *in = json_loadb(line, size, 0, &error);
    if (!in) return LCL_FAIL(LCL_FORMAT, "%s", error.text);
    lcl_status status = fn(ctx, in);
    json_decref(in);
    return status;
}

lcl_status lines_read(const char *in, lines_fn fn, void *ctx)
{
    bool standard = strcmp(in, "-") == 0;
    FILE *f = standard ? stdin : fopen(in, "rb");
    char *line = NULL;
    size_t cap = 0;
    ssize_t size;
    lcl_status status = LCL_OK;
    if (!f) return LCL_FAIL(LCL_IO, "cannot open %s: %s", in, strerror(errno));
    for (int64_t n = 1; status == LCL_OK && (size = getline(&line, &cap, f)) >= 0; n++) {
        if (strspn(line, " \t\r\n") == (size_t)size) continue;
        status = read_line(line, (size_t)size, fn, ctx);
        if (status != LCL_OK)
            status = lcl_fail_context(status, "%s, line %lld", standard ? "standard input" : in,
                                      (long long)n);
    }
    if (status == LCL_OK && ferror(f)) status = LCL_FAIL(LCL_IO, "cannot read %s", in);
    free(line);
    if (!standard) fclose(f);
    return status;
}
