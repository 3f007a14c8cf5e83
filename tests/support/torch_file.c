#include "tests/support/torch_file.h"

#include "tests/support/support.h"

void torch_put(struct torch_bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 256;
        b->v = realloc(b->v, b->cap);
        assert_non_null(b->v);
    }
    if (n) memcpy(b->v + b->n, data, n);
    b->n += n;
}

void torch_put_number(struct torch_bytes *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++, x >>= 8) torch_put(b, &(unsigned char){(unsigned char)x}, 1);
}

static void put_ops(struct torch_bytes *b, const char *ops) { torch_put(b, ops, strlen(ops)); }

static void put_text(struct torch_bytes *b, const char *text)
{
    put_ops(b, "X");
    torch_put_number(b, strlen(text), 4);
    put_ops(b, text);
}

static void put_int(struct torch_bytes *b, int64_t x)
{
    put_ops(b, "J");
    torch_put_number(b, (uint64_t)x, 4);
}

static void put_tensor(struct torch_bytes *b, const struct torch_item *t, int number)
{
    char key[16];
    uint64_t stride[4], run = 1; /* shapes may be hostile */
    snprintf(key, sizeof key, "%d", number);
    for (int d = t->n_dims - 1; d >= 0; d--) {
        stride[d] = run;
        run *= (uint64_t)t->shape[d];
    }
    put_text(b, t->name);
    put_ops(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(b, "storage");
    put_ops(b, "ctorch\n");
    put_ops(b, t->storage);
    put_ops(b, "\n");
    put_text(b, key);
    put_text(b, "cpu");
    put_int(b, t->storage_count);
    put_ops(b, "tQ");
    put_int(b, t->offset);
    put_ops(b, "(");
    for (int d = 0; d < t->n_dims; d++) put_int(b, t->shape[d]);
    put_ops(b, "t(");
    for (int d = 0; d < t->n_dims; d++) put_int(b, (int64_t)stride[d]);
    put_ops(b, "t\x89"
               "ccollections\nOrderedDict\n)RtR");
}

void torch_pickle(struct torch_bytes *b, const struct torch_item *items, int n)
{
    put_ops(b, "\x80\x02"
               "ccollections\nOrderedDict\n)Rq");
    torch_put_number(b, 0, 1);
    put_ops(b, "(");
    for (int i = 0; i < n; i++) put_tensor(b, &items[i], i);
    put_ops(b, "u}"); /* _metadata as a module's state dict has it */
    put_text(b, "_metadata");
    put_ops(b, "}sb.");
}

static void put_entry(struct torch_bytes *b, struct torch_bytes *directory, const char *name,
                      const void *data, size_t size, int zip64)
{
    size_t at = b->n;
    put_ops(b, "PK\3\4");
    torch_put_number(b, 0, 14);
    torch_put_number(b, size, 4);
    torch_put_number(b, size, 4);
    torch_put_number(b, strlen(name), 2);
    torch_put_number(b, 3, 2); /* padding, as torch aligns data */
    put_ops(b, name);
    torch_put(b, "FB", 3);
    torch_put(b, data, size);
    put_ops(directory, "PK\1\2");
    torch_put_number(directory, 0, 16);
    for (int i = 0; i < 2; i++) torch_put_number(directory, zip64 ? 0xffffffff : size, 4);
    torch_put_number(directory, strlen(name), 2);
    torch_put_number(directory, zip64 ? 28 : 0, 2);
    torch_put_number(directory, 0, 10);
    torch_put_number(directory, zip64 ? 0xffffffff : at, 4);
    put_ops(directory, name);
    if (!zip64) return;
    torch_put_number(directory, 1, 2);
    torch_put_number(directory, 24, 2);
    for (int i = 0; i < 2; i++) torch_put_number(directory, size, 8);
    torch_put_number(directory, at, 8);
}

static void put_end(struct torch_bytes *b, const struct torch_bytes *directory, uint64_t entries,
                    int zip64)
{
    size_t at = b->n;
    torch_put(b, directory->v, directory->n);
    if (zip64) {
        size_t end = b->n;
        put_ops(b, "PK\6\6");
        torch_put_number(b, 44, 8);
        torch_put_number(b, 0, 12);
        torch_put_number(b, entries, 8);
        torch_put_number(b, entries, 8);
        torch_put_number(b, directory->n, 8);
        torch_put_number(b, at, 8);
        put_ops(b, "PK\6\7");
        torch_put_number(b, 0, 4);
        torch_put_number(b, end, 8);
        torch_put_number(b, 1, 4);
    }
    put_ops(b, "PK\5\6");
    torch_put_number(b, 0, 4);
    for (int i = 0; i < 2; i++) torch_put_number(b, zip64 ? 0xffff : entries, 2);
    torch_put_number(b, zip64 ? 0xffffffff : directory->n, 4);
    torch_put_number(b, zip64 ? 0xffffffff : at, 4);
    torch_put_number(b, 0, 2);
}

void torch_zip(struct torch_bytes *b, const struct torch_bytes *pickle,
               const struct torch_item *items, int n, int zip64)
{
    struct torch_bytes directory = {0};
    put_entry(b, &directory, "archive/data.pkl", pickle->v, pickle->n, zip64);
    put_entry(b, &directory, "archive/byteorder", "little", 6, zip64);
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "archive/data/%d", i);
        put_entry(b, &directory, name, items[i].data,
                  (size_t)(items[i].storage_count * items[i].elem_bytes), zip64);
    }
    put_end(b, &directory, (uint64_t)n + 2, zip64);
    free(directory.v);
}

void torch_write(const char *path, const struct torch_item *items, int n)
{
    struct torch_bytes pickle = {0}, file = {0};
    torch_pickle(&pickle, items, n);
    torch_zip(&file, &pickle, items, n, 0);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.v, 1, file.n, f), file.n);
    assert_int_equal(fclose(f), 0);
    free(pickle.v);
    free(file.v);
}
