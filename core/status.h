/* Status codes and the error message that goes with them.
 *
 * Whatever can fail returns lcl_status and is marked LCL_CHECKED, so that ignoring it does not
 * compile. The message and the hint belong to the calling thread and live until its next failure.
 */
#ifndef LCL_CORE_STATUS_H
#define LCL_CORE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LCL_STATUS_LIST(X)                   \
    X(OK, "ok")                              \
    X(IO, "input/output error")              \
    X(NOT_FOUND, "not found")                \
    X(EXISTS, "already exists")              \
    X(FORMAT, "malformed input")             \
    X(VERSION, "unsupported format version") \
    X(CORRUPT, "checksum mismatch")          \
    X(CONFIG, "bad configuration")           \
    X(RANGE, "value out of range")           \
    X(SHAPE, "shape mismatch")               \
    X(MEMORY, "out of memory")               \
    X(NUMERIC, "non-finite value")           \
    X(UNSUPPORTED, "unsupported")            \
    X(INTERRUPTED, "interrupted")            \
    X(INTERNAL, "internal error")

typedef enum lcl_status {
#define X(name, text) LCL_##name,
    LCL_STATUS_LIST(X)
#undef X
} lcl_status;

#define LCL_CHECKED __attribute__((warn_unused_result))
#define LCL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Control characters, which a name in a hostile file may hold to move a terminal's cursor or change
 * its title, become '?'; line ends and tabs stay. Returns text. */
char *lcl_printable(char *text);

/* Records a message (what, actual and wanted, file and line or key) for this thread; returns
 * `code`. `hint` says what to do about it; NULL for none. Messages are cut at 2 KiB. */
lcl_status lcl_fail_at(const char *file, int line, lcl_status code, const char *hint,
                       const char *fmt, ...) LCL_PRINTF(5, 6);
#define LCL_FAIL(code, ...) lcl_fail_at(__FILE__, __LINE__, (code), NULL, __VA_ARGS__)
#define LCL_FAIL_HINT(code, hint, ...) lcl_fail_at(__FILE__, __LINE__, (code), (hint), __VA_ARGS__)

/* Puts "<context>: " before this thread's message, keeps its hint and code; returns `code`. */
lcl_status lcl_fail_context(lcl_status code, const char *fmt, ...) LCL_PRINTF(2, 3);

const char *lcl_error_message(void); /* never NULL */
const char *lcl_error_hint(void);    /* "" when there is none */
const char *lcl_error_where(void);   /* "file.c:123" of the code that failed */
const char *lcl_status_text(lcl_status code);

/* Copies this thread's error out of and into another thread's: used by the thread pool. */
struct lcl_error {
    lcl_status code;
    char message[2048];
    char hint[512];
    char where[96];
};
void lcl_error_save(struct lcl_error *out, lcl_status code);
lcl_status lcl_error_restore(const struct lcl_error *in);

#define LCL_TRY(expr)                                          \
    do {                                                       \
        lcl_status lcl_try_status_ = (expr);                   \
        if (lcl_try_status_ != LCL_OK) return lcl_try_status_; \
    } while (0)

/* For functions with one `out:` label and a local `lcl_status status`. */
#define LCL_TRY_GOTO(expr)              \
    do {                                \
        status = (expr);                \
        if (status != LCL_OK) goto out; \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
