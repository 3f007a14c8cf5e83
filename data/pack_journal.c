#include "data/pack_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/rng.h"
#include "data/md5.h"

/* On disk; little-endian, no padding. The journal never leaves its machine. */
struct header {
    char magic[8];
    unsigned char options[16]; /* MD5 of what decides the records */
};

struct record {
    uint64_t key; /* of the file: name, size, time */
    uint64_t payload_bytes;
    uint32_t state;
    int32_t width, height, channels;
    unsigned char md5[16];
    uint32_t payload_crc;
    uint32_t record_crc; /* of all above */
};
_Static_assert(sizeof(struct record) == 56, "no padding");

static const char magic[8] = "LCLPART1";
static const uint64_t MAX_PAYLOAD = (uint64_t)1 << 31;

static lcl_status fail_write(const char *path)
{
    int e = errno;
    const char *hint = NULL;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG) hint = "free some space or pack elsewhere";
    if (e == EACCES || e == EROFS || e == EPERM) hint = "choose a folder that you may write to";
    return LCL_FAIL_HINT(LCL_IO, hint, "cannot write %s: %s", path, strerror(e));
}

static uint64_t file_key(const struct lcl_source_file *f)
{
    char text[64];
    snprintf(text, sizeof text, "%lld %lld", (long long)f->size_bytes, (long long)f->mtime_ns);
    return lcl_hash_string(f->name) * 31 + lcl_hash_string(text);
}

/* What decides the records besides the files: format, folder, form of storage. */
static lcl_status options_digest(const struct lcl_pack_options *o, const struct lcl_listing *l,
                                 unsigned char digest[16])
{
    char *real = realpath(l->root, NULL);
    char *text = lcl_strdupf("%s\n%s\n%d\n", o->format, real ? real : l->root, o->decoded);
    free(real);
    if (!text) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_md5_of(text, strlen(text), digest);
    free(text);
    return LCL_OK;
}

static bool read_exactly(int fd, void *to, size_t n, int64_t at)
{
    unsigned char *p = to;
    while (n) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        p += got;
        n -= (size_t)got;
        at += got;
    }
    return true;
}

/* A short write goes on: on a full disk the next one says why. */
static bool write_exactly(int fd, const void *from, size_t n, int64_t at)
{
    const unsigned char *p = from;
    while (n) {
        ssize_t put = pwrite(fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        p += put;
        n -= (size_t)put;
        at += put;
    }
    return true;
}

/* True where the payload is whole. */
static bool payload_holds(const struct lcl_journal *j, const struct record *r, int64_t at)
{
    unsigned char *p = malloc((size_t)r->payload_bytes + 1);
    bool good = p && read_exactly(j->fd, p, (size_t)r->payload_bytes, at) &&
                lcl_crc32c(0, p, (size_t)r->payload_bytes) == r->payload_crc;
    free(p);
    return good;
}

/* Goes through the records that still hold, in the order of the listing. */
static int64_t recover(struct lcl_journal *j, const struct lcl_listing *l, struct lcl_item *items,
                       int64_t size)
{
    int64_t i = 0;
    for (; i < l->n_files; i++) {
        struct record r;
        int64_t at = j->end + (int64_t)sizeof r;
        if (!read_exactly(j->fd, &r, sizeof r, j->end) ||
            lcl_crc32c(0, &r, offsetof(struct record, record_crc)) != r.record_crc ||
            r.key != file_key(&l->files[i]) || r.payload_bytes > MAX_PAYLOAD ||
            (int64_t)r.payload_bytes > size - at || !payload_holds(j, &r, at))
            break;
        items[i] = (struct lcl_item){.state = (enum lcl_item_state)r.state,
                                     .width = r.width,
                                     .height = r.height,
                                     .channels = r.channels,
                                     .payload_crc = r.payload_crc,
                                     .payload_bytes = r.payload_bytes,
                                     .offset = at};
        memcpy(items[i].md5, r.md5, 16);
        j->end = at + (int64_t)r.payload_bytes;
    }
    return i;
}

lcl_status lcl_journal_open(const char *out, const struct lcl_pack_options *options,
                            const struct lcl_listing *l, struct lcl_item *items, int64_t *kept,
                            struct lcl_journal *j)
{
    struct header want, have;
    struct stat st;
    lcl_status status = LCL_OK;
    *kept = 0;
    *j = (struct lcl_journal){.fd = -1, .path = lcl_strdupf("%s.partial", out)};
    if (!j->path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    memcpy(want.magic, magic, sizeof magic);
    LCL_TRY_GOTO(options_digest(options, l, want.options));
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->fd < 0) {
        status = fail_write(j->path);
        goto out;
    }
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0) {
        status = LCL_FAIL(LCL_EXISTS, "another program is packing to %s", j->path);
        goto out;
    }
    j->end = sizeof want;
    if (fstat(j->fd, &st) == 0 && read_exactly(j->fd, &have, sizeof have, 0) &&
        memcmp(&have, &want, sizeof want) == 0) {
        *kept = recover(j, l, items, st.st_size);
    } else if (!write_exactly(j->fd, &want, sizeof want, 0)) {
        status = fail_write(j->path);
        goto out;
    }
    if (ftruncate(j->fd, (off_t)j->end) != 0) status = fail_write(j->path);
out:
    if (status != LCL_OK) lcl_journal_close(j, false);
    return status;
}

lcl_status lcl_journal_append(struct lcl_journal *j, const struct lcl_source_file *file,
                              struct lcl_item *item, const void *payload)
{
    if (item->payload_bytes > MAX_PAYLOAD)
        return LCL_FAIL(LCL_RANGE, "%s: %llu bytes, at most %llu", file->name,
                        (unsigned long long)item->payload_bytes, (unsigned long long)MAX_PAYLOAD);
    item->payload_crc = lcl_crc32c(0, payload, (size_t)item->payload_bytes);
    struct record r = {.key = file_key(file),
                       .payload_bytes = item->payload_bytes,
                       .state = item->state,
                       .width = item->width,
                       .height = item->height,
                       .channels = item->channels,
                       .payload_crc = item->payload_crc};
    memcpy(r.md5, item->md5, 16);
    r.record_crc = lcl_crc32c(0, &r, offsetof(struct record, record_crc));
    item->offset = j->end + (int64_t)sizeof r;
    if (!write_exactly(j->fd, &r, sizeof r, j->end) ||
        !write_exactly(j->fd, payload, (size_t)item->payload_bytes, item->offset))
        return fail_write(j->path);
    j->end = item->offset + (int64_t)item->payload_bytes;
    return LCL_OK;
}

lcl_status lcl_journal_read(const struct lcl_journal *j, const struct lcl_item *item, void *payload)
{
    errno = 0;
    if (read_exactly(j->fd, payload, (size_t)item->payload_bytes, item->offset)) return LCL_OK;
    return LCL_FAIL(LCL_IO, "cannot read %s: %s", j->path,
                    errno ? strerror(errno) : "it became shorter");
}

void lcl_journal_close(struct lcl_journal *j, bool remove)
{
    if (remove && j->path) unlink(j->path);
    if (j->fd >= 0) close(j->fd);
    free(j->path);
    *j = (struct lcl_journal){.fd = -1};
}
