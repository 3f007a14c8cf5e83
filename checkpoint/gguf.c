#include "checkpoint/gguf.h"

#include <stdlib.h>

#include "core/bytes.h"

/* A file being read from front to back. */
struct cursor {
    const char *path;
    const unsigned char *base;
    size_t at, size;
};

/* *p: the next n bytes. */
static lcl_status take(struct cursor *c, uint64_t n, const char *what, const unsigned char **p)
{
    if (n > c->size - c->at)
        return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short or damaged; copy it again",
                             "%s: %s at byte %zu needs %llu bytes, %zu are left", c->path, what,
                             c->at, (unsigned long long)n, c->size - c->at);
    *p = c->base + c->at;
    c->at += (size_t)n;
    return LCL_OK;
}

static lcl_status take_u32(struct cursor *c, const char *what, uint32_t *x)
{
    const unsigned char *p = NULL;
    LCL_TRY(take(c, 4, what, &p));
    *x = (uint32_t)lcl_little_endian(p, 4);
    return LCL_OK;
}

static lcl_status take_u64(struct cursor *c, const char *what, uint64_t *x)
{
    const unsigned char *p = NULL;
    LCL_TRY(take(c, 8, what, &p));
    *x = lcl_little_endian(p, 8);
    return LCL_OK;
}

/* A key or tensor name, malloc'd. */
static lcl_status take_name(struct cursor *c, const char *what, size_t most, char **name)
{
    const unsigned char *p = NULL;
    uint64_t n;
    LCL_TRY(take_u64(c, what, &n));
    if (n == 0 || n > most)
        return LCL_FAIL(LCL_FORMAT, "%s: %s before byte %zu has %llu bytes, wanted 1..%zu", c->path,
                        what, c->at, (unsigned long long)n, most);
    LCL_TRY(take(c, n, what, &p));
    if (memchr(p, 0, (size_t)n))
        return LCL_FAIL(LCL_FORMAT, "%s: %s before byte %zu holds a NUL byte", c->path, what,
                        c->at);
    *name = strndup((const char *)p, (size_t)n);
    return *name ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to open %s", c->path);
}

/* ---- metadata ---- */

static size_t kind_bytes(enum lcl_gguf_kind kind)
{
    static const size_t bytes[LCL_GGUF_KIND_COUNT] = {
        [LCL_GGUF_U8] = 1,  [LCL_GGUF_I8] = 1,  [LCL_GGUF_U16] = 2, [LCL_GGUF_I16] = 2,
        [LCL_GGUF_U32] = 4, [LCL_GGUF_I32] = 4, [LCL_GGUF_F32] = 4, [LCL_GGUF_BOOL] = 1,
        [LCL_GGUF_U64] = 8, [LCL_GGUF_I64] = 8, [LCL_GGUF_F64] = 8};
    return bytes[kind];
}

static lcl_status take_kind(struct cursor *c, const char *key, enum lcl_gguf_kind *kind)
{
    uint32_t x;
    LCL_TRY(take_u32(c, "a value's type", &x));
    if (x >= LCL_GGUF_KIND_COUNT)
        return LCL_FAIL(LCL_FORMAT, "%s: %.200s has the unknown value type %u", c->path, key, x);
    *kind = (enum lcl_gguf_kind)x;
    return LCL_OK;
}

static lcl_status skip_array(struct cursor *c, const char *key, int depth,
                             enum lcl_gguf_kind *element, size_t *n, const unsigned char **data);

/* Passes over one value of a kind; nested arrays count their depth. */
static lcl_status skip_value(struct cursor *c, const char *key, enum lcl_gguf_kind kind, int depth)
{
    const unsigned char *p = NULL;
    uint64_t length;
    if (kind == LCL_GGUF_STRING) {
        LCL_TRY(take_u64(c, key, &length));
        return take(c, length, key, &p);
    }
    if (kind == LCL_GGUF_ARRAY) {
        enum lcl_gguf_kind element;
        size_t n;
        return skip_array(c, key, depth + 1, &element, &n, &p);
    }
    LCL_TRY(take(c, kind_bytes(kind), key, &p));
    if (kind == LCL_GGUF_BOOL && *p > 1)
        return LCL_FAIL(LCL_FORMAT, "%s: %.200s is %u, neither true nor false", c->path, key, *p);
    return LCL_OK;
}

static lcl_status skip_array(struct cursor *c, const char *key, int depth,
                             enum lcl_gguf_kind *element, size_t *n, const unsigned char **data)
{
    uint64_t count;
    if (depth > LCL_GGUF_MAX_DEPTH)
        return LCL_FAIL(LCL_UNSUPPORTED, "%s: %.200s nests arrays more than %d deep", c->path, key,
                        LCL_GGUF_MAX_DEPTH);
    LCL_TRY(take_kind(c, key, element));
    LCL_TRY(take_u64(c, key, &count));
    size_t width = kind_bytes(*element);
    *data = c->base + c->at;
    *n = (size_t)count;
    if (width > 0 && *element != LCL_GGUF_BOOL) {
        const unsigned char *p = NULL;
        uint64_t bytes;
        if (__builtin_mul_overflow(count, (uint64_t)width, &bytes)) bytes = UINT64_MAX;
        return take(c, bytes, key, &p);
    }
    /* The file ends before a false count does. */
    for (uint64_t i = 0; i < count; i++) LCL_TRY(skip_value(c, key, *element, depth));
    return LCL_OK;
}

static lcl_status read_value(struct cursor *c, struct lcl_gguf_value *v)
{
    LCL_TRY(take_name(c, "a key", LCL_GGUF_MAX_KEY_BYTES, &v->key));
    LCL_TRY(take_kind(c, v->key, &v->kind));
    v->n = 1;
    v->data = c->base + c->at;
    if (v->kind == LCL_GGUF_ARRAY) return skip_array(c, v->key, 1, &v->element, &v->n, &v->data);
    return skip_value(c, v->key, v->kind, 0);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct lcl_gguf_value *)a)->key, ((const struct lcl_gguf_value *)b)->key);
}

static lcl_status read_values(struct cursor *c, uint64_t n, struct lcl_gguf *g)
{
    g->values = calloc((size_t)n + 1, sizeof *g->values);
    if (!g->values) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", c->path);
    for (uint64_t i = 0; i < n; i++) LCL_TRY(read_value(c, &g->values[g->n_values++]));
    qsort(g->values, g->n_values, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (by_key(&g->values[i - 1], &g->values[i]) == 0)
            return LCL_FAIL(LCL_FORMAT, "%s: the key %.200s is there twice", c->path,
                            g->values[i].key);
    return LCL_OK;
}

/* ---- tensors ---- */

static lcl_status read_shape(struct cursor *c, struct lcl_gguf_tensor *t)
{
    uint32_t n_dims;
    LCL_TRY(take_u32(c, t->name, &n_dims));
    if (n_dims < 1 || n_dims > LCL_GGUF_MAX_DIMS)
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%s\" has %u dimensions, wanted 1..%d", c->path,
                        t->name, n_dims, LCL_GGUF_MAX_DIMS);
    t->n_dims = (int)n_dims;
    t->count = 1;
    for (int d = t->n_dims - 1; d >= 0; d--) {
        uint64_t x;
        LCL_TRY(take_u64(c, t->name, &x));
        if (x < 1 || x > INT64_MAX || __builtin_mul_overflow(t->count, (size_t)x, &t->count))
            return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%s\": a dimension of %llu%s", c->path,
                            t->name, (unsigned long long)x, x ? ": its shape overflows" : "");
        t->shape[d] = (int64_t)x;
    }
    return LCL_OK;
}

/* Keeps the offset in t->bytes until place_tensor. */
static lcl_status read_tensor(struct cursor *c, struct lcl_gguf_tensor *t)
{
    uint32_t type;
    uint64_t offset;
    LCL_TRY(take_name(c, "a tensor's name", LCL_GGUF_MAX_NAME_BYTES, &t->name));
    LCL_TRY(read_shape(c, t));
    LCL_TRY(take_u32(c, t->name, &type));
    t->type = lcl_gguf_type_info(type);
    if (!t->type)
        return LCL_FAIL(LCL_UNSUPPORTED, "%s: tensor \"%s\" has the unknown element type %u",
                        c->path, t->name, type);
    if (lcl_gguf_row(t) % t->type->block != 0)
        return LCL_FAIL(LCL_FORMAT,
                        "%s: tensor \"%s\": rows of %zu elements are no whole blocks of %u (%s)",
                        c->path, t->name, lcl_gguf_row(t), t->type->block, t->type->name);
    LCL_TRY(take_u64(c, t->name, &offset));
    t->bytes = (size_t)offset;
    return LCL_OK;
}

static lcl_status place_tensor(const struct lcl_gguf *g, const unsigned char *data, size_t size,
                               struct lcl_gguf_tensor *t)
{
    size_t offset = t->bytes;
    if (offset % g->alignment != 0)
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%s\" begins at byte %zu, no multiple of %zu",
                        g->path, t->name, offset, g->alignment);
    if (__builtin_mul_overflow(t->count / t->type->block, (size_t)t->type->bytes, &t->bytes) ||
        offset > size || t->bytes > size - offset)
        return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short or damaged; copy it again",
                             "%s: tensor \"%s\" (%zu elements, %s) at byte %zu does not fit into "
                             "%zu bytes of data",
                             g->path, t->name, t->count, t->type->name, offset, size);
    t->data = data + offset;
    return LCL_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct lcl_gguf_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct lcl_gguf_tensor *)a)->name,
                  ((const struct lcl_gguf_tensor *)b)->name);
}

/* Gaps are padding; overlaps are damage. Leaves the tensors sorted by name. */
static lcl_status check_places(struct lcl_gguf *g)
{
    struct lcl_gguf_tensor *t = g->tensors;
    qsort(t, g->n_tensors, sizeof *t, by_place);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (t[i].data < t[i - 1].data + t[i - 1].bytes)
            return LCL_FAIL(LCL_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", g->path,
                            t[i - 1].name, t[i].name);
    qsort(t, g->n_tensors, sizeof *t, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (by_name(&t[i - 1], &t[i]) == 0)
            return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%s\" is there twice", g->path, t[i].name);
    return LCL_OK;
}

static lcl_status read_tensors(struct cursor *c, uint64_t n, struct lcl_gguf *g)
{
    g->tensors = calloc((size_t)n + 1, sizeof *g->tensors);
    if (!g->tensors) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", c->path);
    for (uint64_t i = 0; i < n; i++) LCL_TRY(read_tensor(c, &g->tensors[g->n_tensors++]));
    size_t start = (c->at + g->alignment - 1) / g->alignment * g->alignment;
    if (start > c->size) start = c->size; /* a file without data may end here */
    for (size_t i = 0; i < g->n_tensors; i++)
        LCL_TRY(place_tensor(g, c->base + start, c->size - start, &g->tensors[i]));
    return check_places(g);
}

/* ---- opening ---- */

static lcl_status read_header(struct cursor *c, struct lcl_gguf *g, uint64_t *n_tensors,
                              uint64_t *n_values)
{
    const unsigned char *magic = NULL;
    LCL_TRY(take(c, 4, "the header", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return LCL_FAIL(LCL_FORMAT, "%s is no GGUF file: it does not begin with GGUF", c->path);
    LCL_TRY(take_u32(c, "the version", &g->version));
    if (g->version != 2 && g->version != 3)
        return LCL_FAIL_HINT(LCL_VERSION, "convert the model again with a newer llama.cpp",
                             "%s is GGUF version %u%s; 2 and 3 are read", c->path, g->version,
                             (g->version & 0xffff) == 0 ? " (or a big-endian file)" : "");
    LCL_TRY(take_u64(c, "the number of tensors", n_tensors));
    LCL_TRY(take_u64(c, "the number of keys", n_values));
    if (*n_tensors > LCL_GGUF_MAX_TENSORS || *n_values > LCL_GGUF_MAX_KEYS)
        return LCL_FAIL(LCL_FORMAT, "%s claims %llu tensors and %llu keys, at most %d and %d",
                        c->path, (unsigned long long)*n_tensors, (unsigned long long)*n_values,
                        LCL_GGUF_MAX_TENSORS, LCL_GGUF_MAX_KEYS);
    return LCL_OK;
}

static lcl_status read_all(struct lcl_gguf *g)
{
    struct cursor c = {g->path, g->map.data, 0, g->map.size};
    uint64_t n_tensors, n_values;
    int64_t alignment = LCL_GGUF_ALIGNMENT;
    LCL_TRY(read_header(&c, g, &n_tensors, &n_values));
    LCL_TRY(read_values(&c, n_values, g));
    LCL_TRY(lcl_gguf_get_int(g, "general.alignment", 8, LCL_GGUF_MAX_ALIGNMENT, &alignment));
    if (alignment & (alignment - 1))
        return LCL_FAIL(LCL_FORMAT, "%s: general.alignment is %lld, no power of two", g->path,
                        (long long)alignment);
    g->alignment = (size_t)alignment;
    return read_tensors(&c, n_tensors, g);
}

lcl_status lcl_gguf_open(const char *path, struct lcl_gguf *g)
{
    *g = (struct lcl_gguf){.path = strdup(path)};
    if (!g->path) return LCL_FAIL(LCL_MEMORY, "no memory to open %s", path);
    lcl_status status = lcl_fs_map(path, &g->map);
    if (status == LCL_OK) status = read_all(g);
    if (status != LCL_OK) lcl_gguf_close(g);
    return status;
}

void lcl_gguf_close(struct lcl_gguf *g)
{
    for (size_t i = 0; i < g->n_values; i++) free(g->values[i].key);
    for (size_t i = 0; i < g->n_tensors; i++) free(g->tensors[i].name);
    free(g->values);
    free(g->tensors);
    lcl_fs_unmap(&g->map);
    free(g->path);
    *g = (struct lcl_gguf){0};
}

bool lcl_gguf_is_file(const char *path)
{
    struct lcl_map map;
    if (lcl_fs_map(path, &map) != LCL_OK) return false;
    bool is = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    lcl_fs_unmap(&map);
    return is;
}

const struct lcl_gguf_tensor *lcl_gguf_tensor(const struct lcl_gguf *g, const char *name)
{
    struct lcl_gguf_tensor key = {.name = (char *)(uintptr_t)name};
    if (g->n_tensors == 0) return NULL;
    return bsearch(&key, g->tensors, g->n_tensors, sizeof key, by_name);
}

const struct lcl_gguf_value *lcl_gguf_find(const struct lcl_gguf *g, const char *key)
{
    struct lcl_gguf_value wanted = {.key = (char *)(uintptr_t)key};
    if (g->n_values == 0) return NULL;
    return bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key);
}
