#include "checkpoint/torch_zip.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

/* Sizes and places of APPNOTE.TXT's records: the end of the archive, its zip64 twin and locator,
 * an entry of the directory, and the header before an entry's data. */
enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    DIRECTORY_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT_BYTES = 65535,
    MAX_ENTRIES = 1 << 20
};

struct archive {
    const char *path;
    const unsigned char *data;
    size_t size;
};

/* n bytes at `at` lie in the file. */
static bool holds(const struct archive *a, uint64_t at, uint64_t n)
{
    return at <= a->size && n <= a->size - at;
}

static lcl_status damaged(const struct archive *a, const char *what)
{
    return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short or damaged; copy it again",
                         "%s: %s of the zip archive", a->path, what);
}

static bool is_record(const struct archive *a, uint64_t at, size_t bytes, const char *mark)
{
    return holds(a, at, bytes) && memcmp(a->data + at, mark, 4) == 0;
}

struct directory {
    uint64_t at, size, entries;
};

static lcl_status find_directory(const struct archive *a, struct directory *d)
{
    if (a->size < END_BYTES) return damaged(a, "there is no end");
    size_t last = a->size - END_BYTES, at = last;
    size_t first = last > MAX_COMMENT_BYTES ? last - MAX_COMMENT_BYTES : 0;
    while (at > first && memcmp(a->data + at, "PK\5\6", 4) != 0) at--;
    if (!is_record(a, at, END_BYTES, "PK\5\6")) return damaged(a, "there is no end");
    const unsigned char *end = a->data + at;
    *d = (struct directory){lcl_little_endian(end + 16, 4), lcl_little_endian(end + 12, 4),
                            lcl_little_endian(end + 10, 2)};
    bool zip64 = at >= LOCATOR_BYTES && is_record(a, at - LOCATOR_BYTES, LOCATOR_BYTES, "PK\6\7");
    if (zip64) {
        uint64_t end64 = lcl_little_endian(a->data + at - LOCATOR_BYTES + 8, 8);
        if (!is_record(a, end64, END64_BYTES, "PK\6\6")) return damaged(a, "the zip64 end");
        end = a->data + end64;
        *d = (struct directory){lcl_little_endian(end + 48, 8), lcl_little_endian(end + 40, 8),
                                lcl_little_endian(end + 32, 8)};
    }
    if (!holds(a, d->at, d->size)) return damaged(a, "the directory's place");
    if (d->entries > d->size / DIRECTORY_BYTES || d->entries > MAX_ENTRIES)
        return damaged(a, "the number of entries");
    return LCL_OK;
}

/* An entry of the directory: sizes and place, the zip64 ones where they stand in its extra field.
 */
struct record {
    uint64_t packed, size, at;
    unsigned flags, method;
    size_t name_size, bytes;
};

static bool read_zip64(const unsigned char *extra, size_t n, struct record *r)
{
    uint64_t *fields[] = {&r->size, &r->packed, &r->at};
    bool wanted = false;
    for (int i = 0; i < 3; i++) wanted |= *fields[i] == 0xffffffff;
    for (size_t i = 0; wanted && n - i >= 4;) {
        size_t id = (size_t)lcl_little_endian(extra + i, 2),
               size = (size_t)lcl_little_endian(extra + i + 2, 2);
        i += 4;
        if (size > n - i) return false;
        for (int k = 0; id == 1 && k < 3; k++) {
            if (*fields[k] != 0xffffffff) continue;
            if (size < 8) return false;
            *fields[k] = lcl_little_endian(extra + i, 8);
            i += 8;
            size -= 8;
        }
        if (id == 1) return true;
        i += size;
    }
    return !wanted;
}

static lcl_status read_record(const struct archive *a, uint64_t at, uint64_t end, struct record *r)
{
    if (end - at < DIRECTORY_BYTES || memcmp(a->data + at, "PK\1\2", 4) != 0)
        return damaged(a, "an entry of the directory");
    const unsigned char *p = a->data + at;
    size_t extra = (size_t)lcl_little_endian(p + 30, 2),
           comment = (size_t)lcl_little_endian(p + 32, 2);
    *r = (struct record){.flags = (unsigned)lcl_little_endian(p + 8, 2),
                         .method = (unsigned)lcl_little_endian(p + 10, 2),
                         .packed = lcl_little_endian(p + 20, 4),
                         .size = lcl_little_endian(p + 24, 4),
                         .name_size = (size_t)lcl_little_endian(p + 28, 2),
                         .at = lcl_little_endian(p + 42, 4)};
    r->bytes = DIRECTORY_BYTES + r->name_size + extra + comment;
    if (r->bytes > end - at) return damaged(a, "an entry of the directory");
    if (!read_zip64(p + DIRECTORY_BYTES + r->name_size, extra, r))
        return damaged(a, "an entry's zip64 sizes");
    return LCL_OK;
}

static lcl_status read_entry(const struct archive *a, uint64_t at, const struct record *r,
                             struct lcl_zip_entry *e)
{
    *e = (struct lcl_zip_entry){.name = (const char *)a->data + at + DIRECTORY_BYTES,
                                .name_size = r->name_size};
    int n = r->name_size < 100 ? (int)r->name_size : 100;
    if (r->method != 0 || r->packed != r->size || r->flags & 1u)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "save it with torch.save, which compresses nothing",
                             "%s: the entry %.*s is compressed or encrypted", a->path, n, e->name);
    if (!is_record(a, r->at, LOCAL_BYTES, "PK\3\4")) return damaged(a, "the header of an entry");
    const unsigned char *p = a->data + r->at;
    uint64_t data =
        r->at + LOCAL_BYTES + lcl_little_endian(p + 26, 2) + lcl_little_endian(p + 28, 2);
    if (!holds(a, data, r->size))
        return LCL_FAIL_HINT(
            LCL_FORMAT, "the file was cut short or damaged; copy it again",
            "%s: the entry %.*s has %llu bytes from byte %llu on, the file has %zu", a->path, n,
            e->name, (unsigned long long)r->size, (unsigned long long)data, a->size);
    e->data = a->data + data;
    e->size = (size_t)r->size;
    return LCL_OK;
}

static int compare_names(const char *a, size_t n, const char *b, size_t m)
{
    int order = memcmp(a, b, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

static int by_name(const void *x, const void *y)
{
    const struct lcl_zip_entry *a = x, *b = y;
    return compare_names(a->name, a->name_size, b->name, b->name_size);
}

static int by_place(const void *x, const void *y)
{
    const struct lcl_zip_entry *a = x, *b = y;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return (a->size > b->size) - (a->size < b->size);
}

/* Each name once, and no byte in two entries. Leaves them sorted by name. */
static lcl_status check_entries(const struct archive *a, struct lcl_zip *zip)
{
    struct lcl_zip_entry *e = zip->entries;
    qsort(e, zip->n_entries, sizeof *e, by_place);
    for (size_t i = 1; i < zip->n_entries; i++)
        if (e[i].data < e[i - 1].data + e[i - 1].size) return damaged(a, "two entries overlap");
    qsort(e, zip->n_entries, sizeof *e, by_name);
    for (size_t i = 1; i < zip->n_entries; i++)
        if (by_name(&e[i - 1], &e[i]) == 0) return damaged(a, "two entries of one name");
    return LCL_OK;
}

lcl_status lcl_zip_open(const char *path, const struct lcl_map *map, struct lcl_zip *zip)
{
    const struct archive a = {path, map->data, map->size};
    struct directory d = {0};
    lcl_status status;
    *zip = (struct lcl_zip){0};
    LCL_TRY(find_directory(&a, &d));
    zip->entries = calloc((size_t)d.entries + 1, sizeof *zip->entries);
    if (!zip->entries) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    uint64_t at = d.at, end = d.at + d.size;
    for (; zip->n_entries < d.entries; zip->n_entries++) {
        struct record r;
        LCL_TRY_GOTO(read_record(&a, at, end, &r));
        LCL_TRY_GOTO(read_entry(&a, at, &r, &zip->entries[zip->n_entries]));
        at += r.bytes;
    }
    status = check_entries(&a, zip);
out:
    if (status != LCL_OK) lcl_zip_close(zip);
    return status;
}

void lcl_zip_close(struct lcl_zip *zip)
{
    free(zip->entries);
    *zip = (struct lcl_zip){0};
}

const struct lcl_zip_entry *lcl_zip_find(const struct lcl_zip *zip, const char *name,
                                         size_t name_size)
{
    const struct lcl_zip_entry key = {.name = name, .name_size = name_size};
    if (zip->n_entries == 0) return NULL;
    return bsearch(&key, zip->entries, zip->n_entries, sizeof key, by_name);
}
