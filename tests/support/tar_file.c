#include "tests/support/tar_file.h"

#include <stdio.h>

enum { BLOCK = 512, SIZE_AT = 124, SUM_AT = 148, TYPE_AT = 156 };

static uint8_t *grow(struct tar_file *t, size_t n)
{
    t->bytes = realloc(t->bytes, t->size + n);
    assert_non_null(t->bytes);
    memset(t->bytes + t->size, 0, n);
    t->size += n;
    return t->bytes + t->size - n;
}

void tar_seal(struct tar_file *t, size_t at)
{
    unsigned sum = 0;
    char text[16];
    memset(t->bytes + at + SUM_AT, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++) sum += t->bytes[at + i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(t->bytes + at + SUM_AT, text, 7);
}

void tar_add_as(struct tar_file *t, const char *name, char type, const char *size_field,
                const void *data, size_t size)
{
    size_t at = t->size;
    uint8_t *h = grow(t, BLOCK);
    char octal[13];
    snprintf(octal, sizeof octal, "%011zo", size);
    assert_true(strlen(name) < 100);
    memcpy(h, name, strlen(name));
    memcpy(h + 100, "0000644", 7);
    memcpy(h + SIZE_AT, size_field ? size_field : octal, 12);
    h[TYPE_AT] = (uint8_t)type;
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    tar_seal(t, at);
    if (size) memcpy(grow(t, (size + BLOCK - 1) / BLOCK * BLOCK), data, size);
}

void tar_add(struct tar_file *t, const char *name, const void *data, size_t size)
{
    tar_add_as(t, name, '0', NULL, data, size);
}

void tar_add_text(struct tar_file *t, const char *name, const char *text)
{
    tar_add(t, name, text, strlen(text));
}

void tar_add_pax(struct tar_file *t, const char *record)
{
    char text[2200];
    int n = (int)strlen(record) + 3, digits = 1;
    while (snprintf(NULL, 0, "%d", n + digits - 1) != digits) digits++;
    snprintf(text, sizeof text, "%d %s\n", n + digits - 1, record);
    tar_add_as(t, "PaxHeaders/x", 'x', NULL, text, strlen(text));
}

void tar_end(struct tar_file *t) { grow(t, 2 * BLOCK); }

void tar_write(const struct tar_file *t, const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(t->bytes, 1, t->size, f), t->size);
    assert_int_equal(fclose(f), 0);
}

void tar_free(struct tar_file *t)
{
    free(t->bytes);
    *t = (struct tar_file){0};
}
