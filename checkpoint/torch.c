#include "checkpoint/torch.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/torch_pickle.h"
#include "checkpoint/torch_zip.h"

/* The magic number that files of torch before 1.6 begin with, as a pickle of protocol 2. */
static const unsigned char legacy_mark[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9};

static bool begins(const struct lcl_map *map, const void *mark, size_t n)
{
    return map->size >= n && memcmp(map->data, mark, n) == 0;
}

bool lcl_torch_is_file(const struct lcl_map *map)
{
    return begins(map, "PK\3\4", 4) || begins(map, legacy_mark, sizeof legacy_mark);
}

struct file {
    const char *path;
    struct lcl_zip zip;
    const char *prefix; /* of all entries: "archive/" */
    size_t prefix_size;
};

static const struct lcl_zip_entry *find(const struct file *f, const char *name, size_t size)
{
    char *full = lcl_strdupf("%.*s%.*s", (int)f->prefix_size, f->prefix, (int)size, name);
    const struct lcl_zip_entry *e = full ? lcl_zip_find(&f->zip, full, strlen(full)) : NULL;
    free(full);
    return e;
}

/* The one NAME/data.pkl; its folder holds the other entries. */
static lcl_status find_pickle(struct file *f, const struct lcl_zip_entry **pickle)
{
    static const char end[] = "/data.pkl";
    size_t n = sizeof end - 1;
    *pickle = NULL;
    for (size_t i = 0; i < f->zip.n_entries; i++) {
        const struct lcl_zip_entry *e = &f->zip.entries[i];
        if (e->name_size <= n || memcmp(e->name + e->name_size - n, end, n) != 0) continue;
        if (*pickle) return LCL_FAIL(LCL_FORMAT, "%s has more than one data.pkl", f->path);
        *pickle = e;
        f->prefix = e->name;
        f->prefix_size = e->name_size - n + 1;
    }
    if (!*pickle)
        return LCL_FAIL_HINT(LCL_FORMAT, "save the state dict with torch.save",
                             "%s is a zip archive without data.pkl", f->path);
    const struct lcl_zip_entry *order = find(f, "byteorder", 9);
    if (order && (order->size < 6 || memcmp(order->data, "little", 6) != 0))
        return LCL_FAIL(LCL_UNSUPPORTED, "%s was saved on a big-endian machine", f->path);
    return LCL_OK;
}

/* Shape, stride and offset against the storage, and the storage against its entry. */
static lcl_status place(const struct file *f, const struct lcl_torch_tensor *t,
                        struct lcl_st_tensor *out)
{
    const struct lcl_torch_storage *s = &t->storage;
    int n = t->name_size < 200 ? (int)t->name_size : 200;
    size_t bytes = 0, end = 0, count = 1;
    int64_t run = 1;
    bool good = true, contiguous = true;
    for (int d = t->n_dims - 1; d >= 0; d--) {
        contiguous &= t->shape[d] == 1 || t->stride[d] == run;
        good &= !__builtin_mul_overflow(run, t->shape[d], &run);
    }
    count = (size_t)run;
    good = good && !__builtin_mul_overflow(count, s->elem_bytes, &bytes) &&
           !__builtin_add_overflow((size_t)t->offset, count, &end) && end <= (size_t)s->count &&
           !__builtin_mul_overflow((size_t)s->count, s->elem_bytes, &end);
    if (!good)
        return LCL_FAIL(LCL_FORMAT, "%s: tensor \"%.*s\" does not fit its storage of %lld elements",
                        f->path, n, t->name, (long long)s->count);
    if (!contiguous && count > 0)
        return LCL_FAIL_HINT(LCL_UNSUPPORTED, "save it with .contiguous()",
                             "%s: tensor \"%.*s\" is a view whose elements do not lie end to end",
                             f->path, n, t->name);
    char *name = lcl_strdupf("data/%.*s", (int)s->key_size, s->key);
    const struct lcl_zip_entry *e = name ? find(f, name, strlen(name)) : NULL;
    free(name);
    if (!e || e->size < end)
        return LCL_FAIL_HINT(LCL_FORMAT, "the file was cut short or damaged; copy it again",
                             "%s: tensor \"%.*s\" needs %zu bytes of data/%.*s, which %s %zu",
                             f->path, n, t->name, end, s->key_size < 40 ? (int)s->key_size : 40,
                             s->key, e ? "has" : "is not there:", e ? e->size : (size_t)0);
    out->dtype = s->dtype;
    strcpy(out->stored, s->stored);
    out->n_dims = t->n_dims;
    memcpy(out->shape, t->shape, sizeof t->shape);
    out->count = count;
    out->bytes = bytes;
    out->data = e->data + (size_t)t->offset * s->elem_bytes;
    out->name = lcl_strdupf("%.*s", (int)t->name_size, t->name);
    return out->name ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for the tensors of %s", f->path);
}

static lcl_status add_tensors(struct lcl_safetensors *st, int shard, struct file *f)
{
    const struct lcl_zip_entry *pickle;
    struct lcl_torch_tensor *tensors = NULL;
    size_t n = 0;
    lcl_status status;
    LCL_TRY(find_pickle(f, &pickle));
    LCL_TRY(lcl_torch_unpickle(f->path, pickle->data, pickle->size, &tensors, &n));
    struct lcl_st_tensor *grown = realloc(st->tensors, (st->n_tensors + n + 1) * sizeof *grown);
    if (!grown) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for the tensors of %s", f->path);
        goto out;
    }
    st->tensors = grown;
    status = LCL_OK;
    for (size_t i = 0; i < n; i++) {
        struct lcl_st_tensor *t = &st->tensors[st->n_tensors];
        *t = (struct lcl_st_tensor){.shard = shard};
        LCL_TRY_GOTO(place(f, &tensors[i], t));
        st->n_tensors++;
    }
out:
    free(tensors);
    return status;
}

_Static_assert((int)LCL_TORCH_MAX_DIMS == (int)LCL_ST_MAX_DIMS, "shapes are copied");

lcl_status lcl_torch_add(struct lcl_safetensors *st, int shard)
{
    const struct lcl_map *map = &st->shards[shard].map;
    struct file f = {.path = st->shards[shard].path};
    if (!begins(map, "PK\3\4", 4))
        return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                             "with torch 1.6 or newer: torch.save(torch.load(FILE), FILE)",
                             "%s is in the format of torch before 1.6", f.path);
    LCL_TRY(lcl_zip_open(f.path, map, &f.zip));
    lcl_status status = add_tensors(st, shard, &f);
    lcl_zip_close(&f.zip);
    return status;
}
