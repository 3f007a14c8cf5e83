#include "data/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512 };

/* A header block as it lies in the file. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "no padding");

/* What the headers before a member's own say of it. */
struct extra {
    bool has_name, has_size, sparse;
    int64_t size;
    char name[LCL_TAR_NAME_BYTES];
};

/* ---- reading ---- */

static lcl_status read_exactly(int fd, const char *label, void *to, size_t n, int64_t at)
{
    char *p = to;
    while (n) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return LCL_FAIL(LCL_IO, "cannot read %s: %s", label, strerror(errno));
        if (got == 0)
            return LCL_FAIL(LCL_IO, "%s became shorter while it was read: it ends at byte %" PRId64,
                            label, at);
        p += got;
        n -= (size_t)got;
        at += got;
    }
    return LCL_OK;
}

static lcl_status open_file(const char *path, int *fd, struct stat *st)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not waited for */
    if (*fd < 0)
        return LCL_FAIL(errno == ENOENT ? LCL_NOT_FOUND : LCL_IO, "cannot read %s: %s", path,
                        strerror(errno));
    if (fstat(*fd, st) == 0 && S_ISREG(st->st_mode)) return LCL_OK;
    close(*fd);
    *fd = -1;
    return LCL_FAIL(LCL_IO, "%s is no regular file", path);
}

lcl_status lcl_tar_read_at(const char *path, int64_t offset, int64_t size, char **data)
{
    struct stat st;
    int fd;
    LCL_TRY(open_file(path, &fd, &st));
    lcl_status status = LCL_OK;
    *data = malloc((size_t)size + 1);
    if (*data)
        status = read_exactly(fd, path, *data, (size_t)size, offset);
    else
        status = LCL_FAIL(LCL_MEMORY, "no memory for %" PRId64 " bytes of %s", size, path);
    close(fd);
    if (status == LCL_OK) {
        (*data)[size] = 0;
    } else {
        free(*data);
        *data = NULL;
    }
    return status;
}

lcl_status lcl_tar_read(const struct lcl_tar *t, const struct lcl_tar_member *m, size_t max_bytes,
                        char **data)
{
    *data = NULL;
    if (m->size_bytes > (int64_t)max_bytes)
        return LCL_FAIL(LCL_RANGE,
                        "%s: member %s at byte %" PRId64 ": %" PRId64 " bytes, at most %zu",
                        t->label, m->name, m->header, m->size_bytes, max_bytes);
    *data = malloc((size_t)m->size_bytes + 1);
    if (!*data) return LCL_FAIL(LCL_MEMORY, "no memory for a member of %s", t->label);
    lcl_status status = read_exactly(t->fd, t->label, *data, (size_t)m->size_bytes, m->offset);
    (*data)[m->size_bytes] = 0;
    if (status != LCL_OK) {
        free(*data);
        *data = NULL;
    }
    return status;
}

/* ---- opening ---- */

static lcl_status refuse_compressed(const struct lcl_tar *t)
{
    static const struct {
        const char *name, *hint, *bytes;
        size_t n;
    } forms[] = {{"gzip", "gunzip it first", "\x1f\x8b", 2},
                 {"bzip2", "bunzip2 it first", "BZh", 3},
                 {"xz", "unxz it first",
                  "\xfd"
                  "7zXZ",
                  5},
                 {"zstd", "unzstd it first", "\x28\xb5\x2f\xfd", 4}};
    char head[8] = "";
    size_t n = t->end - t->at < (int64_t)sizeof head ? (size_t)(t->end - t->at) : sizeof head;
    LCL_TRY(read_exactly(t->fd, t->label, head, n, t->at));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (n >= forms[i].n && memcmp(head, forms[i].bytes, forms[i].n) == 0)
            return LCL_FAIL_HINT(LCL_FORMAT, forms[i].hint,
                                 "%s is compressed by %s; pictures are found in plain tar archives "
                                 "only",
                                 t->label, forms[i].name);
    return LCL_OK;
}

lcl_status lcl_tar_open(const char *path, struct lcl_tar *t)
{
    struct stat st;
    *t = (struct lcl_tar){.fd = -1, .owns_fd = true};
    if (strlen(path) >= PATH_MAX) return LCL_FAIL(LCL_RANGE, "path over %d bytes", PATH_MAX - 1);
    snprintf(t->label, sizeof t->label, "%s", path);
    LCL_TRY(open_file(path, &t->fd, &st));
    t->end = st.st_size;
    t->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    lcl_status status = refuse_compressed(t);
    if (status != LCL_OK) lcl_tar_close(t);
    return status;
}

lcl_status lcl_tar_open_within(const struct lcl_tar *outer, const struct lcl_tar_member *m,
                               struct lcl_tar *t)
{
    *t = (struct lcl_tar){.fd = outer->fd,
                          .mtime_ns = outer->mtime_ns,
                          .at = m->offset,
                          .end = m->offset + m->size_bytes};
    snprintf(t->label, sizeof t->label, "%.*s: %.*s", PATH_MAX - 1, outer->label,
             LCL_TAR_NAME_BYTES - 8, m->name);
    return refuse_compressed(t);
}

void lcl_tar_close(struct lcl_tar *t)
{
    if (t->owns_fd && t->fd >= 0) close(t->fd);
    t->fd = -1;
}

/* ---- headers ---- */

static lcl_status fail(const struct lcl_tar *t, const char *name, int64_t at, const char *what)
{
    if (!name[0])
        return LCL_FAIL(LCL_FORMAT, "%s: header at byte %" PRId64 ": %s", t->label, at, what);
    return LCL_FAIL(LCL_FORMAT, "%s: member %s at byte %" PRId64 ": %s", t->label, name, at, what);
}

/* Octal digits, or a big-endian number behind a byte of 0x80; false for what is neither, negative,
 * or over 63 bits. */
static bool parse_number(const char *field, size_t n, int64_t *value)
{
    const unsigned char *p = (const unsigned char *)field;
    uint64_t v = 0;
    size_t i = 0;
    if (p[0] & 0x80) {
        if (p[0] != 0x80) return false;
        for (i = 1; i < n; i++) {
            if (v >> 55) return false;
            v = v << 8 | p[i];
        }
        *value = (int64_t)v;
        return true;
    }
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) v = v << 3 | (uint64_t)(p[i] - '0');
    *value = (int64_t)v;
    return i == n || p[i] == 0 || p[i] == ' ';
}

/* Sums of the bytes, the field itself taken as blanks; some old programs took them as signed. */
static bool checksum_holds(const struct header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    int64_t want, plain = 0, with_sign = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        bool own = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
        plain += own ? ' ' : p[i];
        with_sign += own ? ' ' : (signed char)p[i];
    }
    return parse_number(h->checksum, sizeof h->checksum, &want) &&
           (want == plain || want == with_sign);
}

static bool all_zero(const struct header *h)
{
    static const struct header zero;
    return memcmp(h, &zero, BLOCK) == 0;
}

static lcl_status read_header(struct lcl_tar *t, struct header *h, bool *last)
{
    *last = false;
    if (t->end - t->at < BLOCK)
        return LCL_FAIL_HINT(LCL_FORMAT,
                             "fetch it again; if it is whole, add the mark: head -c 1024 "
                             "/dev/zero >> FILE",
                             "%s ends at byte %" PRId64 " without the blocks of zeros that end a "
                             "tar archive: it was cut short",
                             t->label, t->end);
    LCL_TRY(read_exactly(t->fd, t->label, h, BLOCK, t->at));
    *last = all_zero(h);
    if (*last || checksum_holds(h)) return LCL_OK;
    return fail(t, "", t->at, "its checksum does not hold; it is damaged, or no tar archive");
}

/* The name in a header, with a ustar prefix before it; GNU's has other things in its place. */
static bool header_name(const struct header *h, char name[LCL_TAR_NAME_BYTES])
{
    int n = (int)strnlen(h->name, sizeof h->name);
    int before = (int)strnlen(h->prefix, sizeof h->prefix);
    if (memcmp(h->magic, "ustar", 6) != 0) before = 0;
    snprintf(name, LCL_TAR_NAME_BYTES, "%.*s%s%.*s", before, h->prefix, before ? "/" : "", n,
             h->name);
    return n > 0;
}

static bool set_name(struct extra *x, const char *name, size_t n)
{
    if (n == 0 || n >= sizeof x->name || memchr(name, 0, n)) return false;
    memcpy(x->name, name, n);
    x->name[n] = 0;
    x->has_name = true;
    return true;
}

/* A record of a pax header, "KEY=VALUE"; what it says of a name or a size that cannot be is told.
 */
static const char *take_record(struct extra *x, const char *key, size_t key_bytes,
                               const char *value, size_t n)
{
    if (key_bytes == 4 && memcmp(key, "path", 4) == 0)
        return set_name(x, value, n) ? NULL : "a name that is empty, over 1,023 bytes or holds NUL";
    if (key_bytes == 4 && memcmp(key, "size", 4) == 0) {
        x->size = 0;
        x->has_size = n > 0;
        for (size_t i = 0; i < n; i++)
            if (value[i] < '0' || value[i] > '9' || __builtin_mul_overflow(x->size, 10, &x->size) ||
                __builtin_add_overflow(x->size, value[i] - '0', &x->size))
                return "a size that is no number of 63 bits";
        return n ? NULL : "a size that is empty";
    }
    if (key_bytes > 10 && memcmp(key, "GNU.sparse", 10) == 0) x->sparse = true;
    return NULL;
}

/* Records "LENGTH KEY=VALUE\n" end to end. */
static const char *take_pax(struct extra *x, const char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        size_t length = 0, p = at;
        for (; p < n && text[p] >= '0' && text[p] <= '9' && length <= n; p++)
            length = 10 * length + (size_t)(text[p] - '0');
        if (p == at || p == n || text[p] != ' ' || length > n - at || length <= p + 1 - at ||
            text[at + length - 1] != '\n')
            return "its pax records are damaged";
        const char *key = text + p + 1, *end = text + at + length - 1;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals) return "its pax records are damaged";
        const char *wrong =
            take_record(x, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1));
        if (wrong) return wrong;
        at += length;
    }
    return NULL;
}

/* A header that speaks of the member behind it: a long name, or pax records. */
static lcl_status take_extra(struct lcl_tar *t, const struct header *h, const char *name,
                             int64_t at, int64_t size, struct extra *x)
{
    const struct lcl_tar_member m = {
        .name = name, .header = at, .offset = t->at, .size_bytes = size};
    struct extra all = {0}, *to = h->type == 'g' ? &all : x;
    const char *wrong = NULL;
    char *text;
    LCL_TRY(lcl_tar_read(t, &m, h->type == 'L' ? LCL_TAR_NAME_BYTES : LCL_TAR_PAX_BYTES, &text));
    if (h->type == 'L')
        wrong = set_name(to, text, strnlen(text, (size_t)size)) ? NULL : "a long name is empty";
    else
        wrong = take_pax(to, text, (size_t)size);
    if (!wrong && h->type == 'g' && (all.has_name || all.has_size || all.sparse))
        wrong = "a name or size for all members, which is not read";
    free(text);
    return wrong ? fail(t, name, at, wrong) : LCL_OK;
}

/* Names are texts and nothing is unpacked; what another program would be led astray by is refused
 * before it is in a pack. */
static const char *name_fault(const char *name)
{
    const char *part = name;
    if (name[0] == '/') return "its name begins at the root";
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) return "its name holds control characters";
    while (part) {
        if (part[0] == '.' && part[1] == '.' && (part[2] == '/' || part[2] == 0))
            return "its name leads out of the archive";
        part = strchr(part, '/');
        if (part) part++;
    }
    return NULL;
}

static const char *type_fault(char type)
{
    if (type == 'S') return "a sparse file, which is not read";
    if (type == 'M') return "a part of a file of several volumes, which is not read";
    return "a kind of member that is not known";
}

/* The member that a header is of, once what spoke of it before has been read. */
static lcl_status take_member(struct lcl_tar *t, const struct header *h, const struct extra *x,
                              int64_t size, struct lcl_tar_member *m)
{
    const char *wrong = NULL;
    char *name = t->name;
    if (x->has_name)
        memcpy(name, x->name, sizeof x->name);
    else if (!header_name(h, name))
        return fail(t, "", m->header, "no name");
    while (name[0] == '.' && name[1] == '/') memmove(name, name + 2, strlen(name + 2) + 1);
    m->regular = h->type == '0' || h->type == 0 || h->type == '7';
    if (m->regular && name[0] && name[strlen(name) - 1] == '/') m->regular = false; /* of V7 */
    m->other = !m->regular && strchr("12346", h->type) && h->type;
    if (x->sparse || (!m->regular && !strchr("0123456V", h->type))) {
        wrong = type_fault(x->sparse ? 'S' : h->type);
    } else if (m->regular) {
        m->size_bytes = size;
        if (!name[0]) wrong = "no name";
    } else if (h->type == '1' && size) {
        wrong = "a link with contents";
    }
    if (!wrong) wrong = name_fault(name);
    if (wrong) return fail(t, name, m->header, wrong);
    m->name = name;
    m->offset = t->at;
    return LCL_OK;
}

/* The size that counts, within the archive. */
static lcl_status take_size(const struct lcl_tar *t, const struct header *h, const struct extra *x,
                            const char *name, int64_t at, int64_t *size)
{
    char what[128];
    if (!parse_number(h->size, sizeof h->size, size))
        return fail(t, name, at, "a size that is negative, no number, or over 63 bits");
    if (x && x->has_size) *size = x->size;
    if (*size <= t->end - t->at) return LCL_OK;
    snprintf(what, sizeof what,
             "%" PRId64 " bytes from byte %" PRId64 " on, but the archive ends at byte %" PRId64,
             *size, t->at, t->end);
    return fail(t, name, at, what);
}

lcl_status lcl_tar_next(struct lcl_tar *t, struct lcl_tar_member *m)
{
    struct extra x = {0};
    struct header h;
    bool last;
    *m = (struct lcl_tar_member){.header = t->at};
    for (;;) {
        char name[LCL_TAR_NAME_BYTES];
        int64_t at = t->at, size;
        LCL_TRY(read_header(t, &h, &last));
        if (last && (x.has_name || x.has_size))
            return fail(t, x.name, at, "the archive ends where its own header should be");
        if (last) return LCL_OK;
        t->at += BLOCK;
        if (h.type && strchr("LKxgX", h.type)) {
            header_name(&h, name);
            LCL_TRY(take_size(t, &h, NULL, name, at, &size));
            if (h.type != 'K') LCL_TRY(take_extra(t, &h, name, at, size, &x));
        } else {
            header_name(&h, name);
            LCL_TRY(take_size(t, &h, &x, x.has_name ? x.name : name, at, &size));
            LCL_TRY(take_member(t, &h, &x, size, m));
            size = m->size_bytes; /* folders and links name sizes of nothing */
        }
        t->at += size;
        t->at += -size & (BLOCK - 1);
        if (t->at > t->end) t->at = t->end; /* the padding is cut off: the next header says so */
        if (m->name) return LCL_OK;
    }
}
