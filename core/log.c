#include "core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum lcl_log_level log_level = LCL_LOG_INFO;
static struct lcl_progress *open_line; /* the progress line on the terminal, or NULL */

void lcl_log_set_level(enum lcl_log_level level) { log_level = level; }
enum lcl_log_level lcl_log_get_level(void) { return log_level; }

static void log_line(enum lcl_log_level level, const char *prefix, const char *fmt, va_list args)
{
    if (level > log_level) return;
    if (open_line && open_line->drawn) {
        fputs("\r\033[K", stderr);
        open_line->drawn = false;
    }
    fputs(prefix, stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

#define LOG_FUNCTION(name, level, prefix)   \
    void name(const char *fmt, ...)         \
    {                                       \
        va_list args;                       \
        va_start(args, fmt);                \
        log_line(level, prefix, fmt, args); \
        va_end(args);                       \
    }
LOG_FUNCTION(lcl_log_info, LCL_LOG_INFO, "")
LOG_FUNCTION(lcl_log_warn, LCL_LOG_WARN, "warning: ")
LOG_FUNCTION(lcl_log_debug, LCL_LOG_DEBUG, "debug: ")

double lcl_time_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *lcl_format_duration(double seconds, char *buf)
{
    if (!(seconds >= 0)) seconds = 0;
    if (seconds < 10)
        snprintf(buf, 24, "%.1f s", seconds);
    else if (seconds < 60)
        snprintf(buf, 24, "%.0f s", seconds);
    else if (seconds < 3600)
        snprintf(buf, 24, "%d m %02d s", (int)seconds / 60, (int)seconds % 60);
    else if (seconds < 360000)
        snprintf(buf, 24, "%d h %02d m", (int)seconds / 3600, (int)seconds / 60 % 60);
    else
        snprintf(buf, 24, "%.0f days", seconds < 1e12 ? seconds / 86400 : 1e7);
    return buf;
}

const char *lcl_format_bytes(double bytes, char *buf)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    while (bytes >= 1024 && u < 5) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, 24, bytes < 10 && u > 0 ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

void lcl_progress_begin(struct lcl_progress *p, const char *label, const char *unit, int64_t total)
{
    *p = (struct lcl_progress){.label = label, .unit = unit, .total = total};
    p->start_s = p->last_s = lcl_time_s();
    p->tty = isatty(STDERR_FILENO) && getenv("NO_PROGRESS") == NULL;
    open_line = p;
}

static void draw(struct lcl_progress *p, const char *note, bool last)
{
    char eta[24], rate_text[32];
    double elapsed = lcl_time_s() - p->start_s;
    double rate = elapsed > 0 ? (double)(p->done - p->base) / elapsed : 0;
    snprintf(rate_text, sizeof rate_text, rate >= 100 ? "%.0f" : "%.1f", rate);
    if (log_level < LCL_LOG_INFO) return;
    if (p->tty) fputs("\r\033[K", stderr);
    fprintf(stderr, "%s  ", p->label);
    if (p->total > 0)
        fprintf(stderr, "%3d%%  %lld/%lld", (int)(100 * p->done / p->total), (long long)p->done,
                (long long)p->total);
    else
        fprintf(stderr, "%lld", (long long)p->done);
    fprintf(stderr, " %s  %s/s", p->unit, rate_text);
    if (last)
        fprintf(stderr, "  took %s", lcl_format_duration(elapsed, eta));
    else if (p->total > p->done && rate > 0)
        fprintf(stderr, "  ETA %s", lcl_format_duration((double)(p->total - p->done) / rate, eta));
    if (note && *note) fprintf(stderr, "  %s", note);
    if (last || !p->tty) fputc('\n', stderr);
    p->drawn = p->tty && !last;
    fflush(stderr);
}

void lcl_progress_update(struct lcl_progress *p, int64_t done, const char *note)
{
    double now = lcl_time_s();
    p->done = done;
    if (now - p->last_s < (p->tty ? 0.1 : 10.0)) return;
    p->last_s = now;
    draw(p, note, false);
}

void lcl_progress_end(struct lcl_progress *p, const char *note)
{
    draw(p, note, true);
    if (open_line == p) open_line = NULL;
}
