#include "train/tfevents.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/fs.h"

struct lcl_tfevents {
    int fd;
    char *path;
    struct lcl_text value, summary, event, record; /* reused from event to event */
};

/* ---- protocol buffers ---- */

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static void put_le(struct lcl_text *t, uint64_t v, int bytes)
{
    unsigned char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (unsigned char)(v >> (8 * i));
    lcl_text_bytes(t, b, (size_t)bytes);
}

static void put_varint(struct lcl_text *t, uint64_t v)
{
    for (; v > 0x7F; v >>= 7) put_le(t, (v & 0x7F) | 0x80, 1);
    put_le(t, v, 1);
}

static void put_key(struct lcl_text *t, int field, int wire)
{
    put_varint(t, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_bytes(struct lcl_text *t, int field, const void *bytes, size_t size)
{
    put_key(t, field, WIRE_BYTES);
    put_varint(t, size);
    lcl_text_bytes(t, bytes, size);
}

static void put_double(struct lcl_text *t, int field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(t, field, WIRE_FIXED64);
    put_le(t, bits, 8);
}

static void put_float(struct lcl_text *t, int field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(t, field, WIRE_FIXED32);
    put_le(t, bits, 4);
}

static void begin_event(struct lcl_text *event, double wall_time, int64_t step)
{
    lcl_text_clear(event);
    put_double(event, 1, wall_time);
    put_key(event, 2, WIRE_VARINT);
    put_varint(event, (uint64_t)step);
}

/* ---- records ---- */

static uint32_t masked_crc(const void *bytes, size_t size)
{
    uint32_t crc = lcl_crc32c(0, bytes, size);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static lcl_status write_event(struct lcl_tfevents *t)
{
    LCL_TRY(lcl_text_check(&t->event));
    struct lcl_text *r = &t->record;
    lcl_text_clear(r);
    put_le(r, t->event.size, 8);
    LCL_TRY(lcl_text_check(r));
    put_le(r, masked_crc(r->data, 8), 4);
    lcl_text_bytes(r, t->event.data, t->event.size);
    put_le(r, masked_crc(t->event.data, t->event.size), 4);
    LCL_TRY(lcl_text_check(r));
    for (size_t done = 0; done < r->size;) {
        ssize_t n = write(t->fd, r->data + done, r->size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return LCL_FAIL(LCL_IO, "cannot write %s: %s", t->path, strerror(errno));
        done += (size_t)n;
    }
    return LCL_OK;
}

static lcl_status open_new(const char *dir, struct lcl_tfevents *t)
{
    char host[128] = "localhost";
    if (gethostname(host, sizeof host) != 0) snprintf(host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    for (char *p = host; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p)) *p = '_';
    long long now = (long long)time(NULL);
    for (int i = 1; i < 1000; i++) {
        free(t->path);
        t->path = i == 1 ? lcl_strdupf("%s/events.out.tfevents.%010lld.%s", dir, now, host)
                         : lcl_strdupf("%s/events.out.tfevents.%010lld.%s.%d", dir, now, host, i);
        if (!t->path) return LCL_FAIL(LCL_MEMORY, "out of memory for the name of an event file");
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        if (t->fd >= 0) return LCL_OK;
        if (errno != EEXIST)
            return LCL_FAIL(LCL_IO, "cannot create %s: %s", t->path, strerror(errno));
    }
    return LCL_FAIL(LCL_EXISTS, "999 event files of this second in %s", dir);
}

lcl_status lcl_tfevents_open(const char *dir, int64_t first_step, struct lcl_tfevents **out)
{
    lcl_status status = LCL_OK;
    *out = NULL;
    LCL_TRY(lcl_fs_mkdirs(dir));
    struct lcl_tfevents *t = calloc(1, sizeof *t);
    if (!t) return LCL_FAIL(LCL_MEMORY, "out of memory for TensorBoard events");
    t->fd = -1;
    LCL_TRY_GOTO(open_new(dir, t));
    double now = (double)time(NULL);
    begin_event(&t->event, now, 0);
    put_bytes(&t->event, 3, "brain.Event:2", 13);
    LCL_TRY_GOTO(write_event(t));
    static const unsigned char session_start[] = {1 << 3 | WIRE_VARINT, 1};
    begin_event(&t->event, now, first_step);
    put_bytes(&t->event, 7, session_start, sizeof session_start);
    LCL_TRY_GOTO(write_event(t));
    *out = t;
    t = NULL;
out:
    lcl_tfevents_close(t);
    return status;
}

lcl_status lcl_tfevents_scalars(struct lcl_tfevents *t, double wall_time, int64_t step,
                                const struct lcl_tfscalar *scalars, size_t n)
{
    lcl_text_clear(&t->summary);
    for (size_t i = 0; i < n; i++) {
        lcl_text_clear(&t->value);
        put_bytes(&t->value, 1, scalars[i].tag, strlen(scalars[i].tag));
        put_float(&t->value, 2, (float)scalars[i].value);
        LCL_TRY(lcl_text_check(&t->value));
        put_bytes(&t->summary, 1, t->value.data, t->value.size);
    }
    LCL_TRY(lcl_text_check(&t->summary));
    begin_event(&t->event, wall_time, step);
    if (n) put_bytes(&t->event, 5, t->summary.data, t->summary.size);
    return write_event(t);
}

lcl_status lcl_tfevents_sync(struct lcl_tfevents *t)
{
    if (fsync(t->fd) == 0 || errno == EINVAL || errno == EROFS) return LCL_OK;
    return LCL_FAIL(LCL_IO, "cannot flush %s: %s", t->path, strerror(errno));
}

const char *lcl_tfevents_path(const struct lcl_tfevents *t) { return t->path; }

void lcl_tfevents_close(struct lcl_tfevents *t)
{
    if (!t) return;
    if (t->fd >= 0) close(t->fd);
    lcl_text_free(&t->value);
    lcl_text_free(&t->summary);
    lcl_text_free(&t->event);
    lcl_text_free(&t->record);
    free(t->path);
    free(t);
}
