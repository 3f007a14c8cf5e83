#include "checkpoint/ckpt_manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/fs.h"

/* The manifest ends with its own checksum, over all bytes before this tail; every format version
 * keeps that, so that a damaged file and a file of another version are told apart. */
static const char tail_format[] = ",\n \"crc32c\": \"%08x\"\n}\n";
enum {
    TAIL_BYTES = sizeof tail_format - 1 - 4 + 8, /* "%08x" becomes 8 digits */
    MAX_MANIFEST_BYTES = 64 << 20
};

/* ---- writing ---- */

/* A dataset within the file. */
struct span {
    json_int_t offset, bytes;
    uint32_t crc;
};

static int by_offset(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Of the whole file, from its datasets' checksums and the bytes between them: what was written just
 * now is not read again. */
static uint32_t join_spans(const struct lcl_map *map, const struct span *span, size_t n)
{
    uint32_t crc = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t begin = (size_t)span[i].offset;
        crc = lcl_crc32c(crc, map->data + at, begin - at);
        crc = lcl_crc32c_combine(crc, span[i].crc, (uint64_t)span[i].bytes);
        at = begin + (size_t)span[i].bytes;
    }
    return lcl_crc32c(crc, map->data + at, map->size - at);
}

static lcl_status file_crc(const char *path, const json_t *sums, uint32_t *crc, size_t *bytes)
{
    struct span *span = calloc(json_object_size(sums) + 1, sizeof *span);
    struct lcl_map map = {0};
    const char *name;
    json_t *entry;
    size_t n = 0, at = 0;
    lcl_status status = LCL_OK;
    if (!span) return LCL_FAIL(LCL_MEMORY, "no memory for a list of datasets");
    json_object_foreach((json_t *)(uintptr_t)sums, name, entry)
    {
        struct span *s = &span[n];
        s->offset = json_integer_value(json_object_get(entry, "offset"));
        s->bytes = json_integer_value(json_object_get(entry, "bytes"));
        s->crc = (uint32_t)strtoul(json_string_value(json_object_get(entry, "crc32c")), NULL, 16);
        n += s->offset >= 0;
    }
    if (n > 0) qsort(span, n, sizeof *span, by_offset);
    LCL_TRY_GOTO(lcl_fs_map(path, &map));
    for (size_t i = 0; i < n; at = (size_t)(span[i].offset + span[i].bytes), i++)
        if ((size_t)span[i].offset < at || (size_t)(span[i].offset + span[i].bytes) > map.size) {
            status = LCL_FAIL(LCL_INTERNAL, "%s: its datasets do not lie in it one by one", path);
            goto out;
        }
    *crc = join_spans(&map, span, n);
    *bytes = map.size;
out:
    if (map.data) lcl_fs_unmap(&map);
    free(span);
    return status;
}

/* Text of the manifest with its tail; malloc'd. */
static lcl_status seal(json_t *root, char **sealed)
{
    char *body = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!body) return LCL_FAIL(LCL_MEMORY, "no memory for a manifest");
    size_t n = strlen(body) - 2; /* without the last "\n}" */
    body[n] = '\0';
    char tail[TAIL_BYTES + 1];
    snprintf(tail, sizeof tail, tail_format, lcl_crc32c(0, body, n));
    *sealed = lcl_strdupf("%s%s", body, tail);
    free(body);
    return *sealed ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a manifest");
}

/* Where a dataset's bytes lie in the file, and their checksum. */
static lcl_status describe_dataset(const struct lcl_h5 *f, const char *name, json_t *sums)
{
    struct lcl_h5_set set;
    uint64_t crc;
    char text[16];
    LCL_TRY(lcl_h5_get_u64(f, name, "crc32c", &crc));
    LCL_TRY(lcl_h5_set_open(f, name, &set));
    snprintf(text, sizeof text, "%08" PRIx64, crc & 0xffffffffu);
    json_object_set_new(sums, name,
                        json_pack("{s:I, s:I, s:s}", "offset", (json_int_t)set.file_offset, "bytes",
                                  (json_int_t)(set.count * lcl_h5_type_bytes(set.type)), "crc32c",
                                  text));
    lcl_h5_set_close(&set);
    return LCL_OK;
}

static lcl_status list_datasets(const char *state, json_t *sums)
{
    struct lcl_h5 f;
    char **names = NULL;
    size_t n = 0;
    LCL_TRY(lcl_h5_open(state, false, &f));
    lcl_status status;
    LCL_TRY_GOTO(lcl_h5_list_datasets(&f, &names, &n));
    for (size_t i = 0; i < n; i++) LCL_TRY_GOTO(describe_dataset(&f, names[i], sums));
out:
    lcl_fs_list_free(names, n);
    lcl_h5_discard(&f);
    return status;
}

lcl_status lcl_manifest_write(const char *dir, int64_t step, int64_t serial)
{
    char *state = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE, dir), *text = NULL;
    char *path = lcl_strdupf("%s/" LCL_CHECKPOINT_MANIFEST, dir), sum[16];
    json_t *sums = json_object();
    uint32_t crc = 0;
    size_t bytes = 0;
    lcl_status status = state && path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(list_datasets(state, sums));
    LCL_TRY_GOTO(file_crc(state, sums, &crc, &bytes));
    snprintf(sum, sizeof sum, "%08x", crc);
    LCL_TRY_GOTO(
        seal(json_pack("{s:s, s:i, s:I, s:I, s:{s:{s:I, s:s}}, s:O}", "magic", LCL_CHECKPOINT_MAGIC,
                       "version", LCL_CHECKPOINT_FORMAT_VERSION, "step", (json_int_t)step, "serial",
                       (json_int_t)serial, "files", LCL_CHECKPOINT_STATE, "bytes",
                       (json_int_t)bytes, "crc32c", sum, "datasets", sums),
             &text));
    status = lcl_fs_write_atomic(path, text, strlen(text));
out:
    json_decref(sums);
    free(text);
    free(state);
    free(path);
    return status;
}

/* ---- reading ---- */

static lcl_status damaged(const char *path, const char *what)
{
    return LCL_FAIL_HINT(LCL_CORRUPT, "go on from an earlier checkpoint of the run", "%s %s", path,
                         what);
}

/* Parses a manifest whose own checksum holds. */
static lcl_status read_manifest(const char *dir, json_t **root)
{
    *root = NULL;
    char *path = lcl_strdupf("%s/" LCL_CHECKPOINT_MANIFEST, dir), *text = NULL;
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    size_t size = 0;
    lcl_status status;
    LCL_TRY_GOTO(lcl_fs_read(path, MAX_MANIFEST_BYTES, &text, &size));
    char tail[TAIL_BYTES + 1] = "";
    if (size > TAIL_BYTES)
        snprintf(tail, sizeof tail, tail_format, lcl_crc32c(0, text, size - TAIL_BYTES));
    if (!*tail || memcmp(text + size - TAIL_BYTES, tail, TAIL_BYTES) != 0) {
        status = damaged(path, "is damaged: its checksum does not hold");
        goto out;
    }
    json_error_t error;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!*root) status = LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
out:
    free(text);
    free(path);
    return status;
}

static lcl_status fail_version(const char *path, int64_t version)
{
    return LCL_FAIL_HINT(LCL_VERSION,
                         version > LCL_CHECKPOINT_FORMAT_VERSION
                             ? "it was written by a newer lcl; use that one"
                             : "it was written by an older lcl; use that one to export it",
                         "%s has checkpoint format version %lld; this lcl reads version %d", path,
                         (long long)version, LCL_CHECKPOINT_FORMAT_VERSION);
}

static lcl_status check_version(const char *dir, const json_t *root)
{
    const char *magic = json_string_value(json_object_get(root, "magic"));
    const json_t *version = json_object_get(root, "version");
    if (!magic || strcmp(magic, LCL_CHECKPOINT_MAGIC) != 0 || !json_is_integer(version))
        return LCL_FAIL(LCL_FORMAT, "%s/" LCL_CHECKPOINT_MANIFEST " is no manifest of a checkpoint",
                        dir);
    if (json_integer_value(version) != LCL_CHECKPOINT_FORMAT_VERSION)
        return fail_version(dir, json_integer_value(version));
    return LCL_OK;
}

/* The first dataset whose checksum fails, by the manifest's offsets: HDF5 is not asked to read a
 * damaged file. NULL: the damage lies elsewhere. */
static const char *find_damage(const struct lcl_map *map, const json_t *datasets)
{
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)datasets, name, entry)
    {
        json_int_t at = json_integer_value(json_object_get(entry, "offset"));
        json_int_t n = json_integer_value(json_object_get(entry, "bytes"));
        const char *wanted = json_string_value(json_object_get(entry, "crc32c"));
        char sum[16];
        if (!wanted || at < 0 || n < 0 || (uint64_t)at > map->size ||
            (uint64_t)n > map->size - (uint64_t)at)
            continue;
        snprintf(sum, sizeof sum, "%08x", lcl_crc32c(0, map->data + at, (size_t)n));
        if (strcmp(sum, wanted) != 0) return name;
    }
    return NULL;
}

static lcl_status check_state(const char *state, const struct lcl_map *map, const json_t *root)
{
    const json_t *entry = json_object_get(json_object_get(root, "files"), LCL_CHECKPOINT_STATE);
    const char *wanted = json_string_value(json_object_get(entry, "crc32c"));
    json_int_t bytes = json_integer_value(json_object_get(entry, "bytes"));
    char sum[16], what[300];
    if (!wanted) return LCL_FAIL(LCL_FORMAT, "the manifest beside %s does not list it", state);
    if ((uint64_t)bytes != map->size) {
        snprintf(what, sizeof what, "is damaged: %zu bytes, the manifest says %lld", map->size,
                 (long long)bytes);
        return damaged(state, what);
    }
    snprintf(sum, sizeof sum, "%08x", lcl_crc32c(0, map->data, map->size));
    if (strcmp(sum, wanted) == 0) return LCL_OK;
    const char *name = find_damage(map, json_object_get(root, "datasets"));
    snprintf(what, sizeof what, "is damaged: CRC32C %s, the manifest says %.16s%s%.200s", sum,
             wanted, name ? "; dataset " : "", name ? name : "");
    return damaged(state, what);
}

static lcl_status verify_state(const char *dir, const json_t *root)
{
    char *state = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE, dir);
    if (!state) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    struct lcl_map map;
    lcl_status status = lcl_fs_map(state, &map);
    if (status == LCL_OK) {
        status = check_state(state, &map, root);
        lcl_fs_unmap(&map);
    }
    free(state);
    return status;
}

lcl_status lcl_manifest_verify(const char *dir)
{
    json_t *root;
    LCL_TRY(read_manifest(dir, &root));
    lcl_status status = check_version(dir, root);
    if (status == LCL_OK) status = verify_state(dir, root);
    json_decref(root);
    return status;
}

lcl_status lcl_checkpoint_open_state(const char *dir, struct lcl_h5 *f)
{
    char *path = lcl_strdupf("%s/" LCL_CHECKPOINT_STATE, dir), magic[64] = "";
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    uint64_t version = 0;
    lcl_status status = lcl_h5_open(path, false, f);
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(lcl_h5_get_str(f, "/format", "magic", magic, sizeof magic));
    if (strcmp(magic, LCL_CHECKPOINT_MAGIC) != 0) {
        status = LCL_FAIL(LCL_FORMAT, "%s is \"%s\", no checkpoint", path, magic);
        goto out;
    }
    LCL_TRY_GOTO(lcl_h5_get_u64(f, "/format", "version", &version));
    if (version != LCL_CHECKPOINT_FORMAT_VERSION) status = fail_version(path, (int64_t)version);
out:
    if (status != LCL_OK) lcl_h5_discard(f);
    free(path);
    return status;
}

/* ---- the checkpoints of a run ---- */

/* The step of "checkpoint-STEP", or -1. */
static int64_t step_of(const char *name)
{
    static const char prefix[] = "checkpoint-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 18 || digits[n] != '\0') return -1;
    return strtoll(digits, NULL, 10);
}

static int64_t serial_of(const char *dir)
{
    json_t *root;
    if (read_manifest(dir, &root) != LCL_OK) return INT64_MAX;
    const json_t *serial = json_object_get(root, "serial");
    int64_t value = json_is_integer(serial) ? json_integer_value(serial) : INT64_MAX;
    json_decref(root);
    return value;
}

static int newest_first(const void *a, const void *b)
{
    const struct lcl_checkpoint_entry *x = a, *y = b;
    if (x->serial != y->serial) return x->serial < y->serial ? 1 : -1;
    return (x->step < y->step) - (x->step > y->step);
}

lcl_status lcl_checkpoint_entries(const char *output_dir, struct lcl_checkpoint_entry **entries,
                                  size_t *n)
{
    *entries = NULL;
    *n = 0;
    if (!lcl_fs_is_dir(output_dir)) return LCL_OK;
    char **names;
    size_t n_names;
    LCL_TRY(lcl_fs_list(output_dir, &names, &n_names));
    struct lcl_checkpoint_entry *list = calloc(n_names + 1, sizeof *list);
    lcl_status status = list ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to list %s", output_dir);
    for (size_t i = 0; i < n_names && status == LCL_OK; i++) {
        int64_t step = step_of(names[i]);
        char *path = step >= 0 ? lcl_strdupf("%s/%s", output_dir, names[i]) : NULL;
        if (path && lcl_fs_is_dir(path)) {
            struct lcl_checkpoint_entry *e = &list[(*n)++];
            snprintf(e->name, sizeof e->name, "%.*s", (int)sizeof e->name - 1, names[i]);
            e->step = step;
            e->serial = serial_of(path);
        }
        free(path);
    }
    lcl_fs_list_free(names, n_names);
    if (status != LCL_OK) return status;
    if (*n > 0) qsort(list, *n, sizeof *list, newest_first);
    *entries = list;
    return LCL_OK;
}
