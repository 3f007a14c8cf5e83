#include "core/h5_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fs.h"

_Static_assert(sizeof(hid_t) == sizeof(int64_t), "identifiers are kept as int64_t");

/* ---- HDF5's reasons ---- */

struct reason {
    char text[400];
};

/* Keeps the innermost description; of a system error only the system's words. */
static herr_t keep_reason(unsigned n, const H5E_error2_t *e, void *ctx)
{
    struct reason *r = ctx;
    if (n != 0 || !e->desc) return 0;
    static const char mark[] = "error message = '";
    const char *from = strstr(e->desc, mark);
    const char *end = from ? strchr(from + sizeof mark - 1, '\'') : NULL;
    if (end)
        snprintf(r->text, sizeof r->text, "%.*s", (int)(end - from - (int)sizeof mark + 1),
                 from + sizeof mark - 1);
    else
        snprintf(r->text, sizeof r->text, "%s", e->desc);
    return 0;
}

static const char *hint_for(const char *reason)
{
    if (strstr(reason, "No space left") || strstr(reason, "File too large") ||
        strstr(reason, "quota"))
        return "free some space or write elsewhere";
    if (strstr(reason, "Permission denied")) return "choose a folder that you may write to";
    if (strstr(reason, "unable to lock file")) return "another program has the file open";
    if (strstr(reason, "truncated file")) return "the file was cut short; copy or make it again";
    if (strstr(reason, "checksum")) return "the file is damaged; copy or make it again";
    return NULL;
}

lcl_status lcl_h5_fail(lcl_status code, const char *path, const char *what, const char *object)
{
    struct reason r = {""};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_reason, &r);
    H5Eclear2(H5E_DEFAULT);
    if (strstr(r.text, "checksum")) code = LCL_CORRUPT;
    return lcl_fail_at(__FILE__, __LINE__, code, hint_for(r.text), "%s: %s%s%s%s%s", path, what,
                       object ? " " : "", object ? object : "", r.text[0] ? ": " : "", r.text);
}

/* ---- types ---- */

size_t lcl_h5_type_bytes(lcl_h5_type t)
{
    static const size_t bytes[LCL_H5_TYPE_COUNT] = {4, 8, 4, 8, 1, 2, 8};
    return bytes[t];
}

const char *lcl_h5_type_name(lcl_h5_type t)
{
    static const char *const names[LCL_H5_TYPE_COUNT] = {"f32", "f64", "i32", "i64",
                                                         "u8",  "u16", "u64"};
    return names[t];
}

/* Little-endian in the file; the library runs on little-endian machines only, so memory is the
 * same. */
hid_t lcl_h5_disk_type(lcl_h5_type t)
{
    switch (t) {
    case LCL_H5_F32:
        return H5T_IEEE_F32LE;
    case LCL_H5_F64:
        return H5T_IEEE_F64LE;
    case LCL_H5_I32:
        return H5T_STD_I32LE;
    case LCL_H5_I64:
        return H5T_STD_I64LE;
    case LCL_H5_U8:
        return H5T_STD_U8LE;
    case LCL_H5_U16:
        return H5T_STD_U16LE;
    default:
        return H5T_STD_U64LE;
    }
}

/* ---- files ---- */

/* Closing a file on a full disk leaves HDF5 a dangling entry that its own exit handler follows. So
 * the library is shut down from here, and not at all after such a failure. */
static bool close_failed;

static void shut_down(void)
{
    if (!close_failed) H5close();
}

static void take_exit_over(void)
{
    static bool done;
    if (done) return;
    done = true;
    H5dont_atexit(); /* before any other call */
    atexit(shut_down);
}

static lcl_status file_access(hid_t *fapl)
{
    take_exit_over();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    *fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (*fapl < 0 || H5Pset_libver_bounds(*fapl, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
        H5Pset_fclose_degree(*fapl, H5F_CLOSE_STRONG) < 0)
        return lcl_h5_fail(LCL_INTERNAL, "HDF5", "cannot set file access", NULL);
    return LCL_OK;
}

static lcl_status keep_path(struct lcl_h5 *f, const char *path)
{
    *f = (struct lcl_h5){0};
    if (strlen(path) >= sizeof f->path)
        return LCL_FAIL(LCL_RANGE, "path of %zu bytes, at most %zu: %s", strlen(path),
                        sizeof f->path - 1, path);
    memcpy(f->path, path, strlen(path) + 1);
    return LCL_OK;
}

lcl_status lcl_h5_create(const char *path, struct lcl_h5 *f)
{
    LCL_TRY(keep_path(f, path));
    /* Opened by hand first: the system's reason is clearer than HDF5's. */
    FILE *probe = fopen(path, "wb");
    if (!probe)
        return LCL_FAIL_HINT(LCL_IO, hint_for(strerror(errno)), "cannot create %s: %s", path,
                             strerror(errno));
    fclose(probe);
    hid_t fapl;
    LCL_TRY(file_access(&fapl));
    hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    lcl_status status = id < 0 ? lcl_h5_fail(LCL_IO, path, "cannot create", NULL) : LCL_OK;
    H5Pclose(fapl);
    if (status == LCL_OK) f->id = id;
    return status;
}

lcl_status lcl_h5_open(const char *path, bool writable, struct lcl_h5 *f)
{
    LCL_TRY(keep_path(f, path));
    struct stat st;
    if (stat(path, &st) != 0)
        return LCL_FAIL_HINT(errno == ENOENT || errno == ENOTDIR ? LCL_NOT_FOUND : LCL_IO,
                             "check the spelling of the path", "cannot open %s: %s", path,
                             strerror(errno));
    if (!S_ISREG(st.st_mode)) return LCL_FAIL(LCL_FORMAT, "%s is not a file", path);
    FILE *probe = fopen(path, writable ? "r+b" : "rb");
    if (!probe) return LCL_FAIL(LCL_IO, "cannot open %s: %s", path, strerror(errno));
    unsigned char magic[8] = {0};
    size_t got = fread(magic, 1, sizeof magic, probe);
    fclose(probe);
    if (got < sizeof magic || memcmp(magic, "\211HDF\r\n\032\n", 8) != 0)
        return LCL_FAIL(LCL_FORMAT, "%s is not an HDF5 file (%lld bytes, first bytes differ)", path,
                        (long long)st.st_size);
    hid_t fapl;
    LCL_TRY(file_access(&fapl));
    hid_t id = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, fapl);
    lcl_status status = id < 0 ? lcl_h5_fail(LCL_FORMAT, path, "cannot open", NULL) : LCL_OK;
    H5Pclose(fapl);
    if (status != LCL_OK) return status;
    f->id = id;
    f->size_bytes = st.st_size;
    return LCL_OK;
}

lcl_status lcl_h5_flush(struct lcl_h5 *f)
{
    if (H5Fflush(f->id, H5F_SCOPE_GLOBAL) < 0)
        return lcl_h5_fail(LCL_IO, f->path, "cannot write", NULL);
    return LCL_OK;
}

lcl_status lcl_h5_close(struct lcl_h5 *f)
{
    if (f->id <= 0) return LCL_OK;
    hid_t id = f->id;
    f->id = 0;
    if (H5Fclose(id) < 0) {
        close_failed = true;
        return lcl_h5_fail(LCL_IO, f->path, "cannot write", NULL);
    }
    return LCL_OK;
}

void lcl_h5_discard(struct lcl_h5 *f)
{
    if (f->id > 0) {
        if (H5Fclose(f->id) < 0) close_failed = true;
        H5Eclear2(H5E_DEFAULT);
    }
    f->id = 0;
}

/* ---- objects ---- */

bool lcl_h5_exists(const struct lcl_h5 *f, const char *object)
{
    /* H5Lexists needs every group above to exist: ask part by part. */
    char part[512];
    size_t n = strlen(object);
    if (n >= sizeof part) return false;
    if (n == 1 && object[0] == '/') return true;
    for (size_t i = 1; i <= n; i++) {
        if (object[i] != '/' && object[i] != 0) continue;
        memcpy(part, object, i);
        part[i] = 0;
        H5L_info_t link; /* soft and external ones lead elsewhere, perhaps into another file */
        if (H5Lexists(f->id, part, H5P_DEFAULT) <= 0 ||
            H5Lget_info(f->id, part, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD ||
            H5Oexists_by_name(f->id, part, H5P_DEFAULT) <= 0) {
            H5Eclear2(H5E_DEFAULT);
            return false;
        }
    }
    return true;
}

lcl_status lcl_h5_make_group(struct lcl_h5 *f, const char *group)
{
    if (lcl_h5_exists(f, group)) return LCL_OK;
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(lcpl, 1);
    hid_t id = H5Gcreate2(f->id, group, lcpl, H5P_DEFAULT, H5P_DEFAULT);
    lcl_status status = id < 0 ? lcl_h5_fail(LCL_IO, f->path, "cannot make group", group) : LCL_OK;
    H5Pclose(lcpl);
    if (id >= 0) H5Gclose(id);
    return status;
}

struct name_list {
    char **names;
    size_t count, cap;
    bool datasets; /* full paths of datasets only */
};

static herr_t add_name(struct name_list *l, const char *prefix, const char *name)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        char **grown = realloc(l->names, cap * sizeof *grown);
        if (!grown) return -1;
        l->names = grown;
        l->cap = cap;
    }
    char *copy = lcl_strdupf("%s%s", prefix, name);
    if (!copy) return -1;
    l->names[l->count++] = copy;
    return 0;
}

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx)
{
    (void)group;
    (void)info;
    return add_name(ctx, "", name);
}

/* By link, because H5Ovisit's signature differs between HDF5 1.10, 1.12 and 1.14. */
static herr_t on_any_link(hid_t root, const char *name, const H5L_info_t *info, void *ctx)
{
    if (info->type != H5L_TYPE_HARD) return 0;
    hid_t id = H5Oopen(root, name, H5P_DEFAULT);
    if (id < 0) return -1;
    bool dataset = H5Iget_type(id) == H5I_DATASET;
    H5Oclose(id);
    return dataset ? add_name(ctx, "/", name) : 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static lcl_status collect_names(const struct lcl_h5 *f, const char *group, bool datasets,
                                char ***names, size_t *count)
{
    struct name_list l = {.datasets = datasets};
    *names = NULL;
    *count = 0;
    hid_t id = lcl_h5_exists(f, group) ? H5Gopen2(f->id, group, H5P_DEFAULT) : -1;
    if (id < 0) return lcl_h5_fail(LCL_FORMAT, f->path, "no group", group);
    /* In the order of the file: for any other, HDF5 makes a table, which it frees before it is full
     * where the group is damaged. */
    herr_t r;
    if (datasets)
        r = H5Lvisit(id, H5_INDEX_NAME, H5_ITER_NATIVE, on_any_link, &l);
    else
        r = H5Literate(id, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, on_link, &l);
    lcl_status status = r < 0 ? lcl_h5_fail(LCL_FORMAT, f->path, "cannot list", group) : LCL_OK;
    H5Gclose(id);
    if (status != LCL_OK) {
        lcl_fs_list_free(l.names, l.count);
        return status;
    }
    if (l.count) qsort(l.names, l.count, sizeof *l.names, by_bytes);
    *names = l.names;
    *count = l.count;
    return LCL_OK;
}

lcl_status lcl_h5_list(const struct lcl_h5 *f, const char *group, char ***names, size_t *count)
{
    return collect_names(f, group, false, names, count);
}

lcl_status lcl_h5_list_datasets(const struct lcl_h5 *f, char ***paths, size_t *count)
{
    return collect_names(f, "/", true, paths, count);
}

/* ---- attributes ---- */

bool lcl_h5_has_attr(const struct lcl_h5 *f, const char *object, const char *name)
{
    bool has = lcl_h5_exists(f, object) && H5Aexists_by_name(f->id, object, name, H5P_DEFAULT) > 0;
    H5Eclear2(H5E_DEFAULT);
    return has;
}

static lcl_status set_attr(struct lcl_h5 *f, const char *object, const char *name, hid_t file_type,
                           hid_t mem_type, const void *value)
{
    lcl_status status = LCL_OK;
    hid_t obj = H5Oopen(f->id, object, H5P_DEFAULT);
    if (obj < 0) return lcl_h5_fail(LCL_FORMAT, f->path, "no object", object);
    hid_t space = H5Screate(H5S_SCALAR), attr = -1;
    if (H5Aexists(obj, name) > 0) H5Adelete(obj, name);
    attr = H5Acreate2(obj, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, mem_type, value) < 0)
        status = lcl_h5_fail(LCL_IO, f->path, "cannot write attribute", name);
    if (attr >= 0) H5Aclose(attr);
    H5Sclose(space);
    H5Oclose(obj);
    return status;
}

lcl_status lcl_h5_set_u64(struct lcl_h5 *f, const char *object, const char *name, uint64_t value)
{
    return set_attr(f, object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}

lcl_status lcl_h5_set_f64(struct lcl_h5 *f, const char *object, const char *name, double value)
{
    return set_attr(f, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

/* A fixed-length string type of `size` bytes with the NUL. */
static hid_t string_type(size_t size)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, size);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

lcl_status lcl_h5_set_str(struct lcl_h5 *f, const char *object, const char *name, const char *value)
{
    if (strlen(value) > 60000)
        return LCL_FAIL(LCL_RANGE, "%s: attribute %s of %zu bytes, at most 60000", f->path, name,
                        strlen(value));
    hid_t t = string_type(strlen(value) + 1);
    lcl_status status = set_attr(f, object, name, t, t, value);
    H5Tclose(t);
    return status;
}

static lcl_status open_attr(const struct lcl_h5 *f, const char *object, const char *name,
                            H5T_class_t class, hid_t *attr)
{
    *attr = -1;
    if (!lcl_h5_exists(f, object)) return LCL_FAIL(LCL_FORMAT, "%s: no object %s", f->path, object);
    *attr = H5Aopen_by_name(f->id, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (*attr < 0) {
        H5Eclear2(H5E_DEFAULT);
        return LCL_FAIL(LCL_FORMAT, "%s: %s has no attribute %s", f->path, object, name);
    }
    hid_t type = H5Aget_type(*attr), space = H5Aget_space(*attr);
    bool fits = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1 &&
                (class != H5T_STRING || H5Tis_variable_str(type) == 0);
    H5Tclose(type);
    H5Sclose(space);
    if (fits) return LCL_OK;
    H5Aclose(*attr);
    return LCL_FAIL(LCL_FORMAT, "%s: attribute %s of %s has another type or is no single value",
                    f->path, name, object);
}

static lcl_status get_number(const struct lcl_h5 *f, const char *object, const char *name,
                             H5T_class_t class, hid_t mem_type, void *value)
{
    hid_t attr;
    LCL_TRY(open_attr(f, object, name, class, &attr));
    herr_t r = H5Aread(attr, mem_type, value);
    lcl_status status =
        r < 0 ? lcl_h5_fail(LCL_FORMAT, f->path, "cannot read attribute", name) : LCL_OK;
    H5Aclose(attr);
    return status;
}

lcl_status lcl_h5_get_u64(const struct lcl_h5 *f, const char *object, const char *name,
                          uint64_t *value)
{
    return get_number(f, object, name, H5T_INTEGER, H5T_NATIVE_UINT64, value);
}

lcl_status lcl_h5_get_f64(const struct lcl_h5 *f, const char *object, const char *name,
                          double *value)
{
    return get_number(f, object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, value);
}

lcl_status lcl_h5_get_str(const struct lcl_h5 *f, const char *object, const char *name, char *value,
                          size_t size)
{
    hid_t attr;
    LCL_TRY(open_attr(f, object, name, H5T_STRING, &attr));
    hid_t type = H5Aget_type(attr);
    size_t stored = H5Tget_size(type);
    H5Tclose(type);
    lcl_status status = LCL_OK;
    if (stored > size) {
        status = LCL_FAIL(LCL_FORMAT, "%s: attribute %s of %zu bytes, at most %zu", f->path, name,
                          stored, size);
    } else {
        hid_t mem = string_type(size);
        if (H5Aread(attr, mem, value) < 0)
            status = lcl_h5_fail(LCL_FORMAT, f->path, "cannot read attribute", name);
        else
            value[size - 1] = 0;
        H5Tclose(mem);
    }
    H5Aclose(attr);
    return status;
}
