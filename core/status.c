#include "core/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local struct lcl_error current;

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *lcl_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080..U+009F */
        if (c1) *c++ = '?';
        if (c1 || *c == 0x7f || (*c < 0x20 && *c != '\n' && *c != '\t')) *c = '?';
    }
    return text;
}

lcl_status lcl_fail_at(const char *file, int line, lcl_status code, const char *hint,
                       const char *fmt, ...)
{
    char message[sizeof current.message]; /* arguments may point into the message being replaced */
    char hint_copy[sizeof current.hint];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    lcl_printable(message);
    snprintf(hint_copy, sizeof hint_copy, "%s", hint ? hint : "");
    current.code = code;
    memcpy(current.message, message, sizeof message);
    memcpy(current.hint, hint_copy, sizeof hint_copy);
    snprintf(current.where, sizeof current.where, "%.64s:%d", file_name(file), line);
    return code;
}

lcl_status lcl_fail_context(lcl_status code, const char *fmt, ...)
{
    char message[sizeof current.message];
    va_list args;
    va_start(args, fmt);
    int used = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (used >= 0 && (size_t)used + 3 < sizeof message)
        snprintf(message + used, sizeof message - (size_t)used, ": %.*s",
                 (int)(sizeof message - (size_t)used - 3), current.message);
    memcpy(current.message, lcl_printable(message), sizeof message);
    current.code = code;
    return code;
}

const char *lcl_error_message(void) { return current.message; }
const char *lcl_error_hint(void) { return current.hint; }
const char *lcl_error_where(void) { return current.where; }

const char *lcl_status_text(lcl_status code)
{
    switch (code) {
#define X(name, text) \
    case LCL_##name:  \
        return text;
        LCL_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

void lcl_error_save(struct lcl_error *out, lcl_status code)
{
    *out = current;
    out->code = code;
}

lcl_status lcl_error_restore(const struct lcl_error *in)
{
    current = *in;
    return in->code;
}
