#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/gguf.h"

/* ---- bytes under construction ---- */

static void put(struct lcl_gguf_meta *m, const void *data, size_t n)
{
    if (m->failed || n == 0) return;
    if (n > m->cap - m->size) {
        size_t cap = (m->size + n) * 2;
        unsigned char *grown = realloc(m->bytes, cap);
        m->failed = !grown;
        if (!grown) return;
        m->bytes = grown;
        m->cap = cap;
    }
    memcpy(m->bytes + m->size, data, n);
    m->size += n;
}

static void put_u32(struct lcl_gguf_meta *m, uint32_t x) { put(m, &x, sizeof x); }
static void put_u64(struct lcl_gguf_meta *m, uint64_t x) { put(m, &x, sizeof x); }

static void put_string(struct lcl_gguf_meta *m, const char *s)
{
    put_u64(m, strlen(s));
    put(m, s, strlen(s));
}

static void put_key(struct lcl_gguf_meta *m, const char *key, enum lcl_gguf_kind kind)
{
    put_string(m, key);
    put_u32(m, (uint32_t)kind);
    m->n_values++;
}

static void put_array(struct lcl_gguf_meta *m, const char *key, enum lcl_gguf_kind kind, size_t n)
{
    put_key(m, key, LCL_GGUF_ARRAY);
    put_u32(m, (uint32_t)kind);
    put_u64(m, n);
}

void lcl_gguf_meta_free(struct lcl_gguf_meta *m)
{
    free(m->bytes);
    *m = (struct lcl_gguf_meta){0};
}

void lcl_gguf_put_u32(struct lcl_gguf_meta *m, const char *key, uint32_t x)
{
    put_key(m, key, LCL_GGUF_U32);
    put_u32(m, x);
}

void lcl_gguf_put_f32(struct lcl_gguf_meta *m, const char *key, float x)
{
    put_key(m, key, LCL_GGUF_F32);
    put(m, &x, sizeof x);
}

void lcl_gguf_put_bool(struct lcl_gguf_meta *m, const char *key, bool x)
{
    uint8_t byte = x;
    put_key(m, key, LCL_GGUF_BOOL);
    put(m, &byte, 1);
}

void lcl_gguf_put_text(struct lcl_gguf_meta *m, const char *key, const char *text)
{
    put_key(m, key, LCL_GGUF_STRING);
    put_string(m, text);
}

void lcl_gguf_put_texts(struct lcl_gguf_meta *m, const char *key, const char *const *list, size_t n)
{
    put_array(m, key, LCL_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) put_string(m, list[i]);
}

void lcl_gguf_put_f32s(struct lcl_gguf_meta *m, const char *key, const float *list, size_t n)
{
    put_array(m, key, LCL_GGUF_F32, n);
    put(m, list, n * sizeof *list);
}

void lcl_gguf_put_i32s(struct lcl_gguf_meta *m, const char *key, const int32_t *list, size_t n)
{
    put_array(m, key, LCL_GGUF_I32, n);
    put(m, list, n * sizeof *list);
}

/* ---- the file ---- */

static size_t item_rows(const struct lcl_gguf_item *item)
{
    size_t n = 1;
    for (int d = 0; d < item->n_dims - 1; d++) n *= (size_t)item->shape[d];
    return n;
}

static size_t row_bytes(const struct lcl_gguf_item *item)
{
    const struct lcl_gguf_type_info *t = lcl_gguf_type_info((uint32_t)item->type);
    return (size_t)item->shape[item->n_dims - 1] / t->block * t->bytes;
}

static size_t padding(size_t size)
{
    return (LCL_GGUF_ALIGNMENT - size % LCL_GGUF_ALIGNMENT) % LCL_GGUF_ALIGNMENT;
}

static lcl_status check_items(const char *path, const struct lcl_gguf_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct lcl_gguf_item *item = &items[i];
        int64_t row = item->shape[item->n_dims - 1];
        uint32_t block = lcl_gguf_type_info((uint32_t)item->type)->block;
        if (row % block != 0)
            return LCL_FAIL_HINT(LCL_SHAPE, "write f32, f16 or bf16",
                                 "%s: rows of %s have %lld elements, no whole blocks of %u", path,
                                 item->name, (long long)row, block);
        if (strlen(item->name) > LCL_GGUF_MAX_NAME_BYTES)
            return LCL_FAIL(LCL_RANGE, "%s: the tensor name %s is too long", path, item->name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(items[k].name, item->name) == 0)
                return LCL_FAIL(LCL_EXISTS, "%s: two tensors are called %s", path, item->name);
    }
    return LCL_OK;
}

/* Header, metadata and tensor infos, padded to where the data begin. */
static lcl_status make_head(const char *path, const struct lcl_gguf_meta *meta,
                            const struct lcl_gguf_item *items, size_t n, struct lcl_gguf_meta *head)
{
    static const unsigned char zeros[LCL_GGUF_ALIGNMENT];
    size_t offset = 0;
    put(head, "GGUF", 4);
    put_u32(head, 3);
    put_u64(head, n);
    put_u64(head, meta->n_values + 1);
    put_string(head, "general.alignment");
    put_u32(head, LCL_GGUF_U32);
    put_u32(head, LCL_GGUF_ALIGNMENT);
    put(head, meta->bytes, meta->size);
    for (size_t i = 0; i < n; i++) {
        put_string(head, items[i].name);
        put_u32(head, (uint32_t)items[i].n_dims);
        for (int d = items[i].n_dims - 1; d >= 0; d--) put_u64(head, (uint64_t)items[i].shape[d]);
        put_u32(head, (uint32_t)items[i].type);
        put_u64(head, offset);
        size_t bytes = item_rows(&items[i]) * row_bytes(&items[i]);
        offset += bytes + padding(bytes);
    }
    put(head, zeros, padding(head->size));
    return meta->failed || head->failed
               ? LCL_FAIL(LCL_MEMORY, "no memory for the header of %s", path)
               : LCL_OK;
}

/* Which row of the source is row r of the file: the inverse of lcl_gguf_rotary_row. */
static size_t source_row(const struct lcl_gguf_item *item, size_t rows, size_t r)
{
    if (item->rotary_heads == 0) return r;
    size_t D = rows / item->rotary_heads, d = r % D;
    return r - d + d % 2 * (D / 2) + d / 2;
}

static lcl_status write_rows(FILE *f, const char *path, const struct lcl_gguf_item *item, float *x,
                             unsigned char *encoded)
{
    static const unsigned char zeros[LCL_GGUF_ALIGNMENT];
    size_t rows = item_rows(item), row = (size_t)item->shape[item->n_dims - 1];
    size_t bytes = row_bytes(item), stride = row * lcl_dtype_bytes(item->source);
    for (size_t r = 0; r < rows; r++) {
        const unsigned char *from = item->data;
        from += source_row(item, rows, r) * stride;
        LCL_TRY(lcl_convert(x, LCL_F32, from, item->source, row));
        lcl_gguf_encode(item->type, x, row, encoded);
        if (fwrite(encoded, 1, bytes, f) != bytes) return lcl_fs_fail_write(path);
    }
    size_t pad = padding(rows * bytes);
    return fwrite(zeros, 1, pad, f) == pad ? LCL_OK : lcl_fs_fail_write(path);
}

static lcl_status write_item(FILE *f, const char *path, const struct lcl_gguf_item *item)
{
    size_t row = (size_t)item->shape[item->n_dims - 1];
    float *x = malloc(row * sizeof *x);
    unsigned char *encoded = malloc(row_bytes(item));
    lcl_status status = x && encoded ? write_rows(f, path, item, x, encoded)
                                     : LCL_FAIL(LCL_MEMORY, "no memory to write %s", item->name);
    free(x);
    free(encoded);
    return status;
}

lcl_status lcl_gguf_write(const char *path, const struct lcl_gguf_meta *meta,
                          const struct lcl_gguf_item *items, size_t n)
{
    struct lcl_gguf_meta head = {0};
    char *temporary = lcl_strdupf("%s.tmp.%ld", path, (long)getpid());
    lcl_status status;
    FILE *f = NULL;
    if (!temporary) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    LCL_TRY_GOTO(check_items(path, items, n));
    LCL_TRY_GOTO(make_head(path, meta, items, n, &head));
    f = fopen(temporary, "wb");
    if (!f) {
        status = lcl_fs_fail_write(path);
        goto out;
    }
    if (fwrite(head.bytes, 1, head.size, f) != head.size) status = lcl_fs_fail_write(path);
    for (size_t i = 0; i < n && status == LCL_OK; i++) status = write_item(f, path, &items[i]);
    if (fclose(f) != 0 && status == LCL_OK) status = lcl_fs_fail_write(path);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, path);
    if (status != LCL_OK) unlink(temporary);
out:
    lcl_gguf_meta_free(&head);
    free(temporary);
    return status;
}
