#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"

static const char *stored_name(lcl_dtype t)
{
    static const char *const names[LCL_DTYPE_COUNT] = {
        [LCL_F32] = "F32", [LCL_BF16] = "BF16", [LCL_F16] = "F16", [LCL_F64] = "F64",
        [LCL_I64] = "I64", [LCL_I32] = "I32",   [LCL_U8] = "U8"};
    return names[t];
}

static size_t item_count(const struct lcl_st_item *item)
{
    size_t n = 1;
    for (int d = 0; d < item->n_dims; d++) n *= (size_t)item->shape[d];
    return n;
}

static size_t item_bytes(const struct lcl_st_item *item)
{
    return item_count(item) * lcl_dtype_bytes(item->dtype);
}

/* Wide elements first, so that every tensor lies aligned; then by name. */
static int by_width_and_name(const void *a, const void *b)
{
    const struct lcl_st_item *x = *(const struct lcl_st_item *const *)a;
    const struct lcl_st_item *y = *(const struct lcl_st_item *const *)b;
    size_t p = lcl_dtype_bytes(x->dtype), q = lcl_dtype_bytes(y->dtype);
    return p != q ? (p < q ? 1 : -1) : strcmp(x->name, y->name);
}

static json_t *describe(const struct lcl_st_item *item, size_t begin)
{
    json_t *shape = json_array();
    for (int d = 0; d < item->n_dims; d++)
        json_array_append_new(shape, json_integer((json_int_t)item->shape[d]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", stored_name(item->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + item_bytes(item)));
}

/* The header, padded with spaces so that the data begin on a multiple of 8. */
static lcl_status make_header(const char *path, const struct lcl_st_item *const *items, size_t n,
                              const char *const *metadata, char **text, size_t *size)
{
    static const char *const pt[] = {"format", "pt", NULL};
    json_t *header = json_object(), *meta = json_object();
    for (const char *const *m = metadata ? metadata : pt; m[0]; m += 2)
        json_object_set_new(meta, m[0], json_string(m[1]));
    json_object_set_new(header, "__metadata__", meta);
    size_t at = 0;
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (json_object_get(header, items[i]->name))
            status =
                LCL_FAIL(LCL_EXISTS, "%s: two tensors are called \"%s\"", path, items[i]->name);
        else if (json_object_set_new(header, items[i]->name, describe(items[i], at)) != 0)
            status = LCL_FAIL(LCL_FORMAT, "%s: the tensor name \"%s\" is no UTF-8 text", path,
                              items[i]->name);
        at += item_bytes(items[i]);
    }
    char *dump = status == LCL_OK ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (status != LCL_OK) return status;
    size_t length = dump ? strlen(dump) : 0;
    *size = (length + 7) / 8 * 8;
    *text = dump ? realloc(dump, *size + 1) : NULL;
    if (!*text) {
        free(dump);
        return LCL_FAIL(LCL_MEMORY, "no memory for the header of %s", path);
    }
    memset(*text + length, ' ', *size - length);
    return LCL_OK;
}

/* The same of a tensor that is read piece by piece. */
static lcl_status write_pieces(FILE *f, const char *path, const struct lcl_st_item *item)
{
    enum { STEP = 2048 };
    const struct lcl_st_reader *r = item->data;
    float piece[STEP];
    _Alignas(16) unsigned char block[STEP * 8];
    size_t n = item_count(item), to = lcl_dtype_bytes(item->dtype);
    for (size_t i = 0; i < n; i += STEP) {
        size_t k = n - i < STEP ? n - i : STEP;
        LCL_TRY(r->read(r->from, i, k, piece));
        LCL_TRY(lcl_convert(block, item->dtype, piece, LCL_F32, k));
        if (fwrite(block, to, k, f) != k) return lcl_fs_fail_write(path);
    }
    return LCL_OK;
}

static lcl_status write_data(FILE *f, const char *path, const struct lcl_st_item *item)
{
    _Alignas(16) unsigned char block[16384];
    if (item->source == LCL_DTYPE_COUNT) return write_pieces(f, path, item);
    size_t n = item_count(item), to = lcl_dtype_bytes(item->dtype);
    size_t from = lcl_dtype_bytes(item->source), step = sizeof block / to;
    const unsigned char *src = item->data;
    if (item->dtype == item->source)
        return n == 0 || fwrite(src, to, n, f) == n ? LCL_OK : lcl_fs_fail_write(path);
    for (size_t i = 0; i < n; i += step) {
        size_t k = n - i < step ? n - i : step;
        LCL_TRY(lcl_convert(block, item->dtype, src + i * from, item->source, k));
        if (fwrite(block, to, k, f) != k) return lcl_fs_fail_write(path);
    }
    return LCL_OK;
}

static lcl_status write_file(const char *path, const struct lcl_st_item *const *items, size_t n,
                             const char *const *metadata)
{
    char *header = NULL, *temporary = lcl_strdupf("%s.tmp.%ld", path, (long)getpid());
    FILE *f = NULL;
    size_t size = 0;
    lcl_status status = temporary ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(make_header(path, items, n, metadata, &header, &size));
    f = fopen(temporary, "wb");
    if (!f) {
        status = lcl_fs_fail_write(path);
        goto out;
    }
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)size >> 8 * i);
    if (fwrite(length, 1, 8, f) != 8 || fwrite(header, 1, size, f) != size)
        status = lcl_fs_fail_write(path);
    for (size_t i = 0; i < n && status == LCL_OK; i++) status = write_data(f, path, items[i]);
    if (fclose(f) != 0 && status == LCL_OK) status = lcl_fs_fail_write(path);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, path);
    if (status != LCL_OK) unlink(temporary);
out:
    free(header);
    free(temporary);
    return status;
}

/* Pointers to the items in the order in which they are written. */
static lcl_status order_items(const struct lcl_st_item *items, size_t n,
                              const struct lcl_st_item ***ordered)
{
    const struct lcl_st_item **list = malloc((n + 1) * sizeof *list);
    if (!list) return LCL_FAIL(LCL_MEMORY, "no memory for a list of %zu tensors", n);
    for (size_t i = 0; i < n; i++) list[i] = &items[i];
    if (n > 0) qsort(list, n, sizeof *list, by_width_and_name);
    *ordered = list;
    return LCL_OK;
}

lcl_status lcl_st_write(const char *path, const struct lcl_st_item *items, size_t n,
                        const char *const *metadata)
{
    const struct lcl_st_item **ordered;
    LCL_TRY(order_items(items, n, &ordered));
    lcl_status status = write_file(path, ordered, n, metadata);
    free(ordered);
    return status;
}

/* Where the shard that begins with item `begin` ends: as many items as fit, at least one. */
static size_t shard_end(const struct lcl_st_item *const *items, size_t n, size_t begin, size_t max)
{
    size_t bytes = 0, i = begin;
    for (; i < n; i++) {
        size_t more = item_bytes(items[i]);
        if (i > begin && (more > max || bytes > max - more)) break;
        bytes += more;
        if (bytes > max) return i + 1;
    }
    return i;
}

static lcl_status write_shards(const char *dir, const struct lcl_st_item *const *items, size_t n,
                               size_t max, int n_shards, json_t *weight_map)
{
    size_t begin = 0;
    for (int s = 1; s <= n_shards; s++) {
        size_t end = shard_end(items, n, begin, max);
        char file[64];
        snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", s, n_shards);
        for (size_t i = begin; i < end; i++)
            json_object_set_new(weight_map, items[i]->name, json_string(file));
        char *path = lcl_strdupf("%s/%s", dir, file);
        lcl_status status = path ? write_file(path, items + begin, end - begin, NULL)
                                 : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
        LCL_TRY(status);
        begin = end;
    }
    return LCL_OK;
}

static lcl_status write_index(const char *dir, json_t *weight_map, size_t total)
{
    json_t *index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total,
                              "weight_map", weight_map);
    char *text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    char *path = lcl_strdupf("%s/model.safetensors.index.json", dir);
    lcl_status status = text && path ? lcl_fs_write_atomic(path, text, strlen(text))
                                     : LCL_FAIL(LCL_MEMORY, "no memory for the index of %s", dir);
    free(path);
    free(text);
    json_decref(index);
    return status;
}

/* Removes weights of an earlier save that had another number of shards (1: a single file). */
static lcl_status remove_stale(const char *dir, int n_shards)
{
    char **names, tail[64];
    size_t n;
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    snprintf(tail, sizeof tail, "-of-%05d.safetensors", n_shards);
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        const char *name = names[i];
        bool single = strcmp(name, "model.safetensors") == 0;
        bool index = strcmp(name, "model.safetensors.index.json") == 0;
        bool shard = strncmp(name, "model-", 6) == 0 && strstr(name, "-of-") != NULL &&
                     strstr(name, ".safetensors") != NULL;
        bool stale =
            n_shards == 1 ? index || shard : single || (shard && strstr(name, tail) == NULL);
        if (!stale) continue;
        char *path = lcl_strdupf("%s/%s", dir, name);
        status = path ? lcl_fs_remove_tree(path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

lcl_status lcl_st_write_folder(const char *dir, const struct lcl_st_item *items, size_t n,
                               size_t max_shard_bytes)
{
    const struct lcl_st_item **ordered;
    LCL_TRY(order_items(items, n, &ordered));
    json_t *weight_map = json_object();
    size_t max = max_shard_bytes ? max_shard_bytes : SIZE_MAX, total = 0;
    int n_shards = 0;
    for (size_t i = 0; i < n; i++) total += item_bytes(&items[i]);
    for (size_t i = 0; i < n; i = shard_end(ordered, n, i, max)) n_shards++;
    lcl_status status;
    if (n_shards <= 1) {
        char *path = lcl_strdupf("%s/model.safetensors", dir);
        status = path ? write_file(path, ordered, n, NULL)
                      : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    } else {
        status = write_shards(dir, ordered, n, max, n_shards, weight_map);
        if (status == LCL_OK) status = write_index(dir, weight_map, total);
    }
    if (status == LCL_OK) status = remove_stale(dir, n_shards > 1 ? n_shards : 1);
    json_decref(weight_map);
    free(ordered);
    return status;
}
