#include "checkpoint/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/torch.h"
#include "core/bytes.h"

static const struct stored_type {
    const char *name;
    size_t bytes;
    lcl_dtype dtype; /* LCL_DTYPE_COUNT: shown, not read */
} stored_types[] = {
    {"F32", 4, LCL_F32},
    {"BF16", 2, LCL_BF16},
    {"F16", 2, LCL_F16},
    {"F64", 8, LCL_F64},
    {"I64", 8, LCL_I64},
    {"I32", 4, LCL_I32},
    {"U8", 1, LCL_U8},
    {"BOOL", 1, LCL_DTYPE_COUNT},
    {"I8", 1, LCL_DTYPE_COUNT},
    {"I16", 2, LCL_DTYPE_COUNT},
    {"U16", 2, LCL_DTYPE_COUNT},
    {"U32", 4, LCL_DTYPE_COUNT},
    {"U64", 8, LCL_DTYPE_COUNT},
    {"F8_E4M3", 1, LCL_DTYPE_COUNT},
    {"F8_E5M2", 1, LCL_DTYPE_COUNT},
};

const char *lcl_st_shape_text(int n_dims, const int64_t *shape, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (int d = 0; d < n_dims && used < size; d++)
        used +=
            (size_t)snprintf(buf + used, size - used, "%s%lld", d ? ", " : "", (long long)shape[d]);
    if (used < size) snprintf(buf + used, size - used, "]");
    return buf;
}

/* ---- one file's header ---- */

/* Where in a file the tensors' bytes lie. */
struct region {
    const char *path;
    const unsigned char *base;
    size_t size;
};

static lcl_status read_dtype(const struct region *r, const char *name, const json_t *value,
                             struct lcl_st_tensor *t, size_t *elem_bytes)
{
    const char *stored = json_string_value(json_object_get(value, "dtype"));
    if (!stored)
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" has no \"dtype\" string", r->path, name);
    for (size_t i = 0; i < sizeof stored_types / sizeof stored_types[0]; i++) {
        if (strcmp(stored, stored_types[i].name) != 0) continue;
        snprintf(t->stored, sizeof t->stored, "%s", stored);
        t->dtype = stored_types[i].dtype;
        *elem_bytes = stored_types[i].bytes;
        return LCL_OK;
    }
    return LCL_FAIL(LCL_UNSUPPORTED, "%s: tensor \"%.200s\" has the unknown element type \"%.40s\"",
                    r->path, name, stored);
}

static lcl_status read_shape(const struct region *r, const char *name, const json_t *value,
                             struct lcl_st_tensor *t)
{
    const json_t *shape = json_object_get(value, "shape");
    if (!json_is_array(shape))
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" has no \"shape\" array", r->path, name);
    if (json_array_size(shape) > LCL_ST_MAX_DIMS)
        return LCL_FAIL(LCL_UNSUPPORTED, "%s: tensor \"%.200s\" has %zu dimensions, at most %d",
                        r->path, name, json_array_size(shape), LCL_ST_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    t->count = 1;
    for (int d = 0; d < t->n_dims; d++) {
        const json_t *dim = json_array_get(shape, (size_t)d);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\": dimension %d is no whole number",
                            r->path, name, d);
        t->shape[d] = json_integer_value(dim);
        if (__builtin_mul_overflow(t->count, (size_t)t->shape[d], &t->count))
            return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\": its shape overflows", r->path,
                            name);
    }
    return LCL_OK;
}

static lcl_status read_tensor(const struct region *r, const char *name, const json_t *value,
                              struct lcl_st_tensor *t)
{
    size_t elem_bytes = 0;
    LCL_TRY(read_dtype(r, name, value, t, &elem_bytes));
    LCL_TRY(read_shape(r, name, value, t));
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" has no \"data_offsets\" pair", r->path,
                        name);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > r->size)
        return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short or damaged; copy it again",
                             "%s: tensor \"%.200s\" lies at bytes %lld..%lld of %zu bytes of data",
                             r->path, name, (long long)begin, (long long)end, r->size);
    size_t wanted;
    t->bytes = (size_t)(end - begin);
    if (__builtin_mul_overflow(t->count, elem_bytes, &wanted) || wanted != t->bytes) {
        char shape[200];
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" of shape %s and type %s has %zu bytes",
                        r->path, name, lcl_st_shape_text(t->n_dims, t->shape, shape, sizeof shape),
                        t->stored, t->bytes);
    }
    t->data = r->base + begin;
    t->name = strdup(name);
    return t->name ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for the header of %s", r->path);
}

static int by_place(const void *a, const void *b)
{
    const struct lcl_st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct lcl_st_tensor *)a)->name, ((const struct lcl_st_tensor *)b)->name);
}

/* Tensors must tile the data: neither gaps nor overlaps. Leaves them sorted by place. */
static lcl_status check_tiling(const struct region *r, struct lcl_st_tensor *tensors, size_t n)
{
    if (n > 0) qsort(tensors, n, sizeof *tensors, by_place);
    const unsigned char *at = r->base;
    for (size_t i = 0; i < n; i++) {
        const struct lcl_st_tensor *t = &tensors[i];
        if (t->data != at)
            return LCL_FAIL(LCL_FORMAT,
                            "%s: tensor \"%.200s\" begins at byte %td of the data, %s at %td",
                            r->path, t->name, t->data - r->base,
                            t->data < at ? "inside another that ends" : "after a gap that begins",
                            at - r->base);
        at += t->bytes;
    }
    if (at != r->base + r->size)
        return LCL_FAIL(LCL_FORMAT, "%s: %td bytes follow the last tensor", r->path,
                        r->base + r->size - at);
    return LCL_OK;
}

static lcl_status parse_header(const char *path, const struct lcl_map *map, json_t **header,
                               struct region *r)
{
    if (map->size < 8)
        return LCL_FAIL(LCL_FORMAT, "%s: %zu bytes are too few for a safetensors file", path,
                        map->size);
    uint64_t length = lcl_little_endian(map->data, 8);
    if (length > map->size - 8 || length > LCL_ST_MAX_HEADER_BYTES)
        return LCL_FAIL_HINT(LCL_FORMAT, "it is no safetensors file, or was cut short",
                             "%s: the header claims %llu bytes; the file has %zu after its length",
                             path, (unsigned long long)length, map->size - 8);
    json_error_t error;
    *header =
        json_loadb((const char *)map->data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!*header)
        return LCL_FAIL(LCL_FORMAT, "%s: header byte %d: %s", path, error.position, error.text);
    if (!json_is_object(*header))
        return LCL_FAIL(LCL_FORMAT, "%s: the header is no JSON object", path);
    *r = (struct region){path, map->data + 8 + length, map->size - 8 - (size_t)length};
    return LCL_OK;
}

static lcl_status keep_metadata(const char *path, const json_t *value, struct lcl_safetensors *st)
{
    if (!json_is_object(value))
        return LCL_FAIL(LCL_FORMAT, "%s: __metadata__ is no JSON object", path);
    if (st->metadata) return LCL_OK;
    st->metadata = json_dumps(value, JSON_COMPACT);
    return st->metadata ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for the header of %s", path);
}

/* Appends the tensors of one mapped file. */
static lcl_status add_tensors(struct lcl_safetensors *st, int shard)
{
    const char *path = st->shards[shard].path;
    struct region r = {0};
    json_t *header = NULL;
    lcl_status status = parse_header(path, &st->shards[shard].map, &header, &r);
    size_t before = st->n_tensors;
    if (status != LCL_OK) goto out;
    struct lcl_st_tensor *grown =
        realloc(st->tensors, (before + json_object_size(header) + 1) * sizeof *grown);
    if (!grown) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the header of %s", path);
        goto out;
    }
    st->tensors = grown;
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            LCL_TRY_GOTO(keep_metadata(path, value, st));
            continue;
        }
        struct lcl_st_tensor *t = &st->tensors[st->n_tensors];
        *t = (struct lcl_st_tensor){.shard = shard};
        LCL_TRY_GOTO(read_tensor(&r, name, value, t));
        st->n_tensors++;
    }
    status = check_tiling(&r, st->tensors + before, st->n_tensors - before);
out:
    json_decref(header);
    return status;
}

static lcl_status add_shard(struct lcl_safetensors *st, const char *path)
{
    struct lcl_st_shard *grown =
        realloc(st->shards, (size_t)(st->n_shards + 1) * sizeof *st->shards);
    if (!grown) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    st->shards = grown;
    struct lcl_st_shard *s = &st->shards[st->n_shards];
    *s = (struct lcl_st_shard){.path = strdup(path)};
    if (!s->path) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    st->n_shards++;
    LCL_TRY(lcl_fs_map(path, &s->map));
    if (lcl_torch_is_file(&s->map)) return lcl_torch_add(st, st->n_shards - 1);
    return add_tensors(st, st->n_shards - 1);
}

static lcl_status sort_tensors(struct lcl_safetensors *st)
{
    if (st->n_tensors > 0) qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->n_tensors; i++)
        if (by_name(&st->tensors[i - 1], &st->tensors[i]) == 0)
            return LCL_FAIL(LCL_FORMAT, "tensor \"%.200s\" is both in %s and in %s",
                            st->tensors[i].name, st->shards[st->tensors[i - 1].shard].path,
                            st->shards[st->tensors[i].shard].path);
    return LCL_OK;
}

/* ---- sharded folders ---- */

static bool is_plain_file_name(const char *s)
{
    return s && *s && *s != '.' && !strchr(s, '/') && strlen(s) < 256;
}

static lcl_status load_index(const char *path, json_t **index, const json_t **weight_map)
{
    char *text;
    size_t size;
    LCL_TRY(lcl_fs_read(path, LCL_ST_MAX_HEADER_BYTES, &text, &size));
    json_error_t error;
    *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!*index) return LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
    *weight_map = json_object_get(*index, "weight_map");
    if (!json_is_object(*weight_map))
        return LCL_FAIL(LCL_FORMAT, "%s has no \"weight_map\" object", path);
    return LCL_OK;
}

static int find_shard(const struct lcl_safetensors *st, const char *file)
{
    for (int i = 0; i < st->n_shards; i++)
        if (strcmp(lcl_fs_basename(st->shards[i].path), file) == 0) return i;
    return -1;
}

static lcl_status open_listed_shards(const char *path, const json_t *weight_map,
                                     struct lcl_safetensors *st)
{
    const char *name;
    json_t *value;
    int folder = (int)(lcl_fs_basename(path) - path);
    json_object_foreach((json_t *)(uintptr_t)weight_map, name, value)
    {
        const char *file = json_string_value(value);
        if (!is_plain_file_name(file))
            return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" is in no file beside the index",
                            path, name);
        if (find_shard(st, file) >= 0) continue;
        char *shard = lcl_strdupf("%.*s%s", folder, path, file);
        if (!shard) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
        lcl_status status = add_shard(st, shard);
        free(shard);
        if (status != LCL_OK) return lcl_fail_context(status, "shard listed in %s", path);
    }
    return LCL_OK;
}

static lcl_status open_index(const char *path, struct lcl_safetensors *st)
{
    json_t *index = NULL;
    const json_t *weight_map = NULL;
    lcl_status status;
    LCL_TRY_GOTO(load_index(path, &index, &weight_map));
    LCL_TRY_GOTO(open_listed_shards(path, weight_map, st));
    LCL_TRY_GOTO(sort_tensors(st));
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)weight_map, name, value)
    {
        const struct lcl_st_tensor *t = lcl_st_find(st, name);
        if (t && t->shard == find_shard(st, json_string_value(value))) continue;
        status = LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.200s\" is not in %s", path, name,
                          json_string_value(value));
        goto out;
    }
out:
    json_decref(index);
    return status;
}

/* ---- opening ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* The file of a folder that holds, or lists, its weights; malloc'd. */
static lcl_status weights_of_folder(const char *dir, char **path)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (int i = 0; i < 4; i++) {
        *path = lcl_strdupf("%s/%s", dir, names[i]);
        if (!*path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        if (lcl_fs_exists(*path)) return LCL_OK;
        free(*path);
    }
    *path = NULL;
    return LCL_FAIL(LCL_NOT_FOUND, "%s holds neither %s nor %s, nor either's index", dir, names[0],
                    names[2]);
}

lcl_status lcl_st_open(const char *path, struct lcl_safetensors *st)
{
    *st = (struct lcl_safetensors){0};
    char *inside = NULL;
    if (lcl_fs_is_dir(path)) {
        LCL_TRY(weights_of_folder(path, &inside));
        path = inside;
    }
    lcl_status status;
    if (ends_with(path, ".json")) {
        status = open_index(path, st);
    } else {
        status = add_shard(st, path);
        if (status == LCL_OK) status = sort_tensors(st);
    }
    free(inside);
    if (status != LCL_OK) lcl_st_close(st);
    return status;
}

lcl_status lcl_st_join(struct lcl_safetensors *st, const char *path,
                       bool (*wanted)(const char *name))
{
    struct lcl_safetensors more;
    LCL_TRY(lcl_st_open(path, &more));
    struct lcl_st_shard *shards =
        realloc(st->shards, (size_t)(st->n_shards + more.n_shards) * sizeof *shards);
    if (shards) st->shards = shards;
    struct lcl_st_tensor *tensors =
        realloc(st->tensors, (st->n_tensors + more.n_tensors + 1) * sizeof *tensors);
    if (tensors) st->tensors = tensors;
    if (!shards || !tensors) {
        lcl_st_close(&more);
        return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    }
    for (size_t i = 0; i < more.n_tensors; i++) {
        struct lcl_st_tensor *t = &more.tensors[i];
        if (!wanted(t->name)) continue;
        st->tensors[st->n_tensors] = *t;
        st->tensors[st->n_tensors++].shard += st->n_shards;
        t->name = NULL; /* moved */
    }
    memcpy(st->shards + st->n_shards, more.shards, (size_t)more.n_shards * sizeof *shards);
    st->n_shards += more.n_shards;
    more.n_shards = 0;
    lcl_st_close(&more);
    return sort_tensors(st);
}

void lcl_st_close(struct lcl_safetensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++) free(st->tensors[i].name);
    for (int i = 0; i < st->n_shards; i++) {
        lcl_fs_unmap(&st->shards[i].map);
        free(st->shards[i].path);
    }
    free(st->tensors);
    free(st->shards);
    free(st->metadata);
    *st = (struct lcl_safetensors){0};
}

const struct lcl_st_tensor *lcl_st_find(const struct lcl_safetensors *st, const char *name)
{
    struct lcl_st_tensor key = {.name = (char *)(uintptr_t)name};
    if (st->n_tensors == 0) return NULL;
    return bsearch(&key, st->tensors, st->n_tensors, sizeof key, by_name);
}

lcl_status lcl_st_read(const struct lcl_st_tensor *t, size_t first, size_t n, lcl_dtype dst_type,
                       void *dst)
{
    if (first > t->count || n > t->count - first)
        return LCL_FAIL(LCL_RANGE, "tensor \"%.200s\": elements %zu..%zu of %zu", t->name, first,
                        first + n, t->count);
    if (t->dtype == LCL_DTYPE_COUNT)
        return LCL_FAIL(LCL_UNSUPPORTED, "tensor \"%.200s\" is of type %s, which is not read",
                        t->name, t->stored);
    size_t from = lcl_dtype_bytes(t->dtype), to = lcl_dtype_bytes(dst_type);
    const unsigned char *src = t->data + first * from;
    if (t->dtype == dst_type) {
        if (n > 0) memcpy(dst, src, n * from);
        return LCL_OK;
    }
    /* A header may put data at any byte: copied to an aligned block before it is converted. */
    _Alignas(16) unsigned char block[8192];
    size_t step = sizeof block / from;
    for (size_t i = 0; i < n; i += step) {
        size_t k = n - i < step ? n - i : step;
        memcpy(block, src + i * from, k * from);
        lcl_status status =
            lcl_convert((unsigned char *)dst + i * to, dst_type, block, t->dtype, k);
        if (status != LCL_OK) return lcl_fail_context(status, "tensor \"%.200s\"", t->name);
    }
    return LCL_OK;
}
