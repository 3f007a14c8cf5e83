/* Datasets of core/h5.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/h5_private.h"

static const char crc_attr[] = "crc32c";
enum { VERIFY_BLOCK_BYTES = 8 << 20, MAX_CHUNK_BYTES = 64 << 20 };

/* dims -> row_elems and count, refusing what does not fit 63 bits of bytes. */
static lcl_status count_elements(struct lcl_h5_set *s)
{
    uint64_t row = 1, bytes = lcl_h5_type_bytes(s->type);
    for (int i = 1; i < s->rank; i++)
        if (__builtin_mul_overflow(row, s->dims[i], &row)) goto too_large;
    s->row_elems = row;
    if (__builtin_mul_overflow(row, s->dims[0], &s->count) ||
        __builtin_mul_overflow(s->count, bytes, &bytes) || bytes > INT64_MAX)
        goto too_large;
    return LCL_OK;
too_large:
    return LCL_FAIL(LCL_FORMAT, "%s: dataset %s is larger than 2^63 bytes", s->file->path, s->name);
}

static lcl_status name_set(const struct lcl_h5 *f, const char *name, struct lcl_h5_set *set)
{
    *set = (struct lcl_h5_set){.file = f, .file_offset = -1};
    if (strlen(name) >= sizeof set->name)
        return LCL_FAIL(LCL_RANGE, "%s: dataset name of %zu bytes, at most %zu", f->path,
                        strlen(name), sizeof set->name - 1);
    memcpy(set->name, name, strlen(name) + 1);
    return LCL_OK;
}

static lcl_status create_set(struct lcl_h5 *f, const char *name, lcl_h5_type type, int rank,
                             const uint64_t *dims, uint64_t chunk_rows, bool early,
                             struct lcl_h5_set *set)
{
    LCL_TRY(name_set(f, name, set));
    if (rank < 1 || rank > LCL_H5_MAX_RANK)
        return LCL_FAIL(LCL_RANGE, "%s: dataset %s of rank %d, wanted 1 to %d", f->path, name, rank,
                        LCL_H5_MAX_RANK);
    hsize_t now[LCL_H5_MAX_RANK], most[LCL_H5_MAX_RANK], chunk[LCL_H5_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        set->dims[i] = now[i] = most[i] = dims[i];
        chunk[i] = dims[i] ? dims[i] : 1;
    }
    set->rank = rank;
    set->type = type;
    set->extendible = chunk_rows > 0;
    LCL_TRY(count_elements(set));
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), lcpl = H5Pcreate(H5P_LINK_CREATE);
    if (chunk_rows) {
        chunk[0] = chunk_rows;
        most[0] = H5S_UNLIMITED;
        H5Pset_chunk(dcpl, rank, chunk);
    }
    if (early) H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(dcpl, early ? H5D_FILL_TIME_NEVER : H5D_FILL_TIME_IFSET);
    H5Pset_create_intermediate_group(lcpl, 1);
    hid_t space = H5Screate_simple(rank, now, most);
    hid_t id =
        space < 0 ? -1
                  : H5Dcreate2(f->id, name, lcl_h5_disk_type(type), space, lcpl, dcpl, H5P_DEFAULT);
    lcl_status status =
        id < 0 ? lcl_h5_fail(LCL_IO, f->path, "cannot create dataset", name) : LCL_OK;
    if (space >= 0) H5Sclose(space);
    H5Pclose(lcpl);
    H5Pclose(dcpl);
    if (status == LCL_OK) set->id = id;
    return status;
}

lcl_status lcl_h5_set_create(struct lcl_h5 *f, const char *name, lcl_h5_type type, int rank,
                             const uint64_t *dims, uint64_t chunk_rows, struct lcl_h5_set *set)
{
    return create_set(f, name, type, rank, dims, chunk_rows, false, set);
}

lcl_status lcl_h5_set_reserve(struct lcl_h5 *f, const char *name, lcl_h5_type type, int rank,
                              const uint64_t *dims, int64_t *file_offset)
{
    struct lcl_h5_set set;
    LCL_TRY(create_set(f, name, type, rank, dims, 0, true, &set));
    haddr_t at = H5Dget_offset(set.id);
    lcl_status status =
        at == HADDR_UNDEF ? lcl_h5_fail(LCL_IO, f->path, "has no room for dataset", name) : LCL_OK;
    *file_offset = (int64_t)at;
    lcl_h5_set_close(&set);
    return status;
}

static bool known_type(hid_t type, lcl_h5_type *out)
{
    for (int t = 0; t < LCL_H5_TYPE_COUNT; t++)
        if (H5Tequal(type, lcl_h5_disk_type((lcl_h5_type)t)) > 0) {
            *out = (lcl_h5_type)t;
            return true;
        }
    return false;
}

/* HDF5 may hold a whole chunk in memory. */
static bool small_chunks(hid_t dcpl, size_t element_bytes)
{
    hsize_t chunk[H5S_MAX_RANK] = {0};
    uint64_t bytes = element_bytes;
    int rank = H5Pget_chunk(dcpl, H5S_MAX_RANK, chunk);
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)chunk[i], &bytes)) return false;
    return rank > 0 && bytes <= MAX_CHUNK_BYTES;
}

/* Layouts that reach into other files are refused, and so are filters: what a dataset holds lies in
 * this file as is. */
static bool plain_layout(hid_t dcpl, size_t element_bytes, bool *contiguous)
{
    H5D_layout_t layout = H5Pget_layout(dcpl);
    *contiguous = layout == H5D_CONTIGUOUS;
    if (layout == H5D_CHUNKED && !small_chunks(dcpl, element_bytes)) return false;
    return (layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED || layout == H5D_COMPACT) &&
           H5Pget_nfilters(dcpl) == 0 && H5Pget_external_count(dcpl) <= 0;
}

static lcl_status read_shape(struct lcl_h5_set *set)
{
    const struct lcl_h5 *f = set->file;
    hid_t type = H5Dget_type(set->id), space = H5Dget_space(set->id);
    hid_t dcpl = H5Dget_create_plist(set->id);
    hsize_t dims[H5S_MAX_RANK] = {0};
    bool contiguous = false, typed = known_type(type, &set->type);
    bool plain = plain_layout(dcpl, H5Tget_size(type), &contiguous);
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank >= 1 && rank <= LCL_H5_MAX_RANK) H5Sget_simple_extent_dims(space, dims, NULL);
    H5Tclose(type);
    H5Sclose(space);
    H5Pclose(dcpl);
    H5Eclear2(H5E_DEFAULT);
    if (!typed || !plain || rank < 1 || rank > LCL_H5_MAX_RANK)
        return LCL_FAIL(LCL_FORMAT, "%s: dataset %s has %s", f->path, set->name,
                        !typed   ? "an element type that is not used here"
                        : !plain ? "a filter, chunks above 64 MiB, or a layout outside this file"
                                 : "a rank outside 1 to 8");
    set->rank = rank;
    for (int i = 0; i < rank; i++) set->dims[i] = dims[i];
    set->extendible = !contiguous;
    LCL_TRY(count_elements(set));
    uint64_t bytes = set->count * lcl_h5_type_bytes(set->type);
    if (f->size_bytes > 0 && bytes > (uint64_t)f->size_bytes)
        return LCL_FAIL(LCL_FORMAT, "%s: dataset %s claims %llu bytes, the file has %lld", f->path,
                        set->name, (unsigned long long)bytes, (long long)f->size_bytes);
    if (contiguous) {
        haddr_t at = H5Dget_offset(set->id);
        H5Eclear2(H5E_DEFAULT);
        if (at != HADDR_UNDEF) set->file_offset = (int64_t)at;
    }
    return LCL_OK;
}

lcl_status lcl_h5_set_open(const struct lcl_h5 *f, const char *name, struct lcl_h5_set *set)
{
    LCL_TRY(name_set(f, name, set));
    if (!lcl_h5_exists(f, name)) return LCL_FAIL(LCL_FORMAT, "%s: no dataset %s", f->path, name);
    set->id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (set->id < 0) {
        set->id = 0;
        return lcl_h5_fail(LCL_FORMAT, f->path, "cannot open dataset", name);
    }
    lcl_status status = read_shape(set);
    if (status != LCL_OK) lcl_h5_set_close(set);
    return status;
}

void lcl_h5_set_close(struct lcl_h5_set *set)
{
    if (set->id > 0) H5Dclose(set->id);
    set->id = 0;
}

/* Runs one hyperslab transfer of rows [first, first + n). */
static lcl_status transfer(const struct lcl_h5_set *set, uint64_t first, uint64_t n,
                           const void *from, void *to)
{
    if (n == 0 || set->row_elems == 0) return LCL_OK;
    hsize_t start[LCL_H5_MAX_RANK] = {first}, size[LCL_H5_MAX_RANK];
    for (int i = 0; i < set->rank; i++) size[i] = set->dims[i];
    size[0] = n;
    hid_t file_space = H5Dget_space(set->id);
    hid_t mem_space = H5Screate_simple(set->rank, size, NULL);
    hid_t type = lcl_h5_disk_type(set->type);
    herr_t r = H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, size, NULL);
    if (r >= 0 && from) r = H5Dwrite(set->id, type, mem_space, file_space, H5P_DEFAULT, from);
    if (r >= 0 && to) r = H5Dread(set->id, type, mem_space, file_space, H5P_DEFAULT, to);
    lcl_status status = LCL_OK;
    if (r < 0)
        status = from ? lcl_h5_fail(LCL_IO, set->file->path, "cannot write dataset", set->name)
                      : lcl_h5_fail(LCL_FORMAT, set->file->path, "cannot read dataset", set->name);
    H5Sclose(mem_space);
    H5Sclose(file_space);
    return status;
}

lcl_status lcl_h5_set_write(struct lcl_h5_set *set, uint64_t first, uint64_t n, const void *rows)
{
    uint64_t end;
    if (__builtin_add_overflow(first, n, &end) || (end > set->dims[0] && !set->extendible))
        return LCL_FAIL(LCL_RANGE, "%s: rows %llu+%llu of dataset %s, which has %llu",
                        set->file->path, (unsigned long long)first, (unsigned long long)n,
                        set->name, (unsigned long long)set->dims[0]);
    if (end > set->dims[0]) {
        hsize_t grown[LCL_H5_MAX_RANK];
        for (int i = 0; i < set->rank; i++) grown[i] = set->dims[i];
        grown[0] = end;
        if (H5Dset_extent(set->id, grown) < 0)
            return lcl_h5_fail(LCL_IO, set->file->path, "cannot extend dataset", set->name);
        set->dims[0] = end;
        LCL_TRY(count_elements(set));
    }
    return transfer(set, first, n, rows, NULL);
}

lcl_status lcl_h5_set_read(const struct lcl_h5_set *set, uint64_t first, uint64_t n, void *rows)
{
    if (first > set->dims[0] || n > set->dims[0] - first)
        return LCL_FAIL(LCL_RANGE, "%s: rows %llu+%llu of dataset %s, which has %llu",
                        set->file->path, (unsigned long long)first, (unsigned long long)n,
                        set->name, (unsigned long long)set->dims[0]);
    return transfer(set, first, n, NULL, rows);
}

lcl_status lcl_h5_set_store_crc(struct lcl_h5_set *set, uint32_t crc)
{
    return lcl_h5_set_u64((struct lcl_h5 *)set->file, set->name, crc_attr, crc);
}

static lcl_status compare_crc(const struct lcl_h5_set *set, uint32_t actual)
{
    uint64_t stored;
    LCL_TRY(lcl_h5_get_u64(set->file, set->name, crc_attr, &stored));
    if (stored == actual) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CORRUPT, "the file is damaged; copy or make it again",
                         "%s: dataset %s: checksum %08x, stored %08llx", set->file->path, set->name,
                         (unsigned)actual, (unsigned long long)stored);
}

lcl_status lcl_h5_set_stream(const struct lcl_h5_set *set,
                             lcl_status (*take)(void *ctx, const void *x, size_t first, size_t n),
                             void *ctx)
{
    uint64_t row_bytes = set->row_elems * lcl_h5_type_bytes(set->type);
    uint64_t step = row_bytes ? VERIFY_BLOCK_BYTES / row_bytes : 1;
    if (step == 0) step = 1;
    if (step > set->dims[0]) step = set->dims[0];
    uint32_t crc = 0;
    lcl_status status = LCL_OK;
    unsigned char *block = malloc(step * row_bytes + 1);
    if (!block)
        return LCL_FAIL(LCL_MEMORY, "%llu bytes to read %s", (unsigned long long)(step * row_bytes),
                        set->name);
    for (uint64_t row = 0; row < set->dims[0]; row += step) {
        uint64_t n = set->dims[0] - row < step ? set->dims[0] - row : step;
        LCL_TRY_GOTO(lcl_h5_set_read(set, row, n, block));
        crc = lcl_crc32c(crc, block, (size_t)(n * row_bytes));
        LCL_TRY_GOTO(
            take(ctx, block, (size_t)(row * set->row_elems), (size_t)(n * set->row_elems)));
    }
    status = compare_crc(set, crc);
out:
    free(block);
    return status;
}

static lcl_status take_nothing(void *ctx, const void *x, size_t first, size_t n)
{
    (void)ctx, (void)x, (void)first, (void)n;
    return LCL_OK;
}

lcl_status lcl_h5_set_verify(const struct lcl_h5_set *set)
{
    return lcl_h5_set_stream(set, take_nothing, NULL);
}

lcl_status lcl_h5_write(struct lcl_h5 *f, const char *name, lcl_h5_type type, int rank,
                        const uint64_t *dims, const void *data)
{
    struct lcl_h5_set set;
    lcl_status status;
    LCL_TRY(lcl_h5_set_create(f, name, type, rank, dims, 0, &set));
    LCL_TRY_GOTO(lcl_h5_set_write(&set, 0, set.dims[0], data));
    LCL_TRY_GOTO(lcl_h5_set_store_crc(
        &set, lcl_crc32c(0, data, (size_t)(set.count * lcl_h5_type_bytes(type)))));
out:
    lcl_h5_set_close(&set);
    return status;
}

static lcl_status expect_type(const struct lcl_h5_set *set, lcl_h5_type type)
{
    if (set->type == type) return LCL_OK;
    return LCL_FAIL(LCL_FORMAT, "%s: dataset %s is %s, wanted %s", set->file->path, set->name,
                    lcl_h5_type_name(set->type), lcl_h5_type_name(type));
}

static lcl_status read_whole(const struct lcl_h5_set *set, void *data)
{
    LCL_TRY(lcl_h5_set_read(set, 0, set->dims[0], data));
    return compare_crc(set,
                       lcl_crc32c(0, data, (size_t)(set->count * lcl_h5_type_bytes(set->type))));
}

lcl_status lcl_h5_read(const struct lcl_h5 *f, const char *name, lcl_h5_type type, uint64_t count,
                       void *data)
{
    struct lcl_h5_set set;
    lcl_status status;
    LCL_TRY(lcl_h5_set_open(f, name, &set));
    LCL_TRY_GOTO(expect_type(&set, type));
    if (set.count != count) {
        status = LCL_FAIL(LCL_SHAPE, "%s: dataset %s has %llu elements, wanted %llu", f->path, name,
                          (unsigned long long)set.count, (unsigned long long)count);
        goto out;
    }
    status = read_whole(&set, data);
out:
    lcl_h5_set_close(&set);
    return status;
}

lcl_status lcl_h5_read_alloc(const struct lcl_h5 *f, const char *name, lcl_h5_type type,
                             uint64_t max_bytes, void **data, uint64_t *count)
{
    struct lcl_h5_set set;
    lcl_status status;
    unsigned char *p = NULL;
    *data = NULL;
    *count = 0;
    LCL_TRY(lcl_h5_set_open(f, name, &set));
    LCL_TRY_GOTO(expect_type(&set, type));
    uint64_t bytes = set.count * lcl_h5_type_bytes(type);
    if (bytes > max_bytes) {
        status = LCL_FAIL(LCL_RANGE, "%s: dataset %s of %llu bytes, at most %llu", f->path, name,
                          (unsigned long long)bytes, (unsigned long long)max_bytes);
        goto out;
    }
    p = malloc((size_t)bytes + 1);
    if (!p) {
        status = LCL_FAIL(LCL_MEMORY, "%llu bytes for %s", (unsigned long long)bytes, name);
        goto out;
    }
    LCL_TRY_GOTO(read_whole(&set, p));
    p[bytes] = 0;
    *data = p;
    *count = set.count;
    p = NULL;
out:
    free(p);
    lcl_h5_set_close(&set);
    return status;
}

lcl_status lcl_h5_verify(const struct lcl_h5 *f, const char *name)
{
    struct lcl_h5_set set;
    LCL_TRY(lcl_h5_set_open(f, name, &set));
    lcl_status status = lcl_h5_set_verify(&set);
    lcl_h5_set_close(&set);
    return status;
}

lcl_status lcl_h5_verify_all(const struct lcl_h5 *f)
{
    char **paths;
    size_t n;
    lcl_status status = LCL_OK;
    LCL_TRY(lcl_h5_list_datasets(f, &paths, &n));
    for (size_t i = 0; i < n && status == LCL_OK; i++) status = lcl_h5_verify(f, paths[i]);
    lcl_fs_list_free(paths, n);
    return status;
}
