/* Log lines on standard error, and the one progress line that they do not tear. */
#ifndef LCL_CORE_LOG_H
#define LCL_CORE_LOG_H

#include "core/status.h"

enum lcl_log_level { LCL_LOG_QUIET, LCL_LOG_WARN, LCL_LOG_INFO, LCL_LOG_DEBUG };

void lcl_log_set_level(enum lcl_log_level level);
enum lcl_log_level lcl_log_get_level(void);
void lcl_log_info(const char *fmt, ...) LCL_PRINTF(1, 2);
void lcl_log_warn(const char *fmt, ...) LCL_PRINTF(1, 2); /* prefixed "warning: " */
void lcl_log_debug(const char *fmt, ...) LCL_PRINTF(1, 2);

/* Progress: on a terminal the line is redrawn in place; elsewhere a line at most every 10 s and one
 * at the end. `done`/`total` in `unit`s give rate and ETA; `note` (may be NULL or "") is appended.
 * Not thread-safe. */
struct lcl_progress {
    const char *label, *unit;
    int64_t total;
    double start_s, last_s;
    int64_t done;
    int64_t base; /* done before this start (a resume): not part of the rate; set after begin */
    bool tty, drawn;
};
void lcl_progress_begin(struct lcl_progress *p, const char *label, const char *unit, int64_t total);
void lcl_progress_update(struct lcl_progress *p, int64_t done, const char *note);
void lcl_progress_end(struct lcl_progress *p, const char *note);

double lcl_time_s(void); /* monotonic seconds */
/* "3 m 20 s", "45 s", "2 h 05 m"; buf of at least 24 bytes; returns buf. */
const char *lcl_format_duration(double seconds, char *buf);
/* "1.5 GiB", "312 MiB"; buf of at least 24 bytes; returns buf. */
const char *lcl_format_bytes(double bytes, char *buf);

#endif
