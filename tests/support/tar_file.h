/* Tar archives, made header by header, with the faults that a test asks for. */
#ifndef LCL_TESTS_TAR_FILE_H
#define LCL_TESTS_TAR_FILE_H

#include "tests/support/support.h"

struct tar_file {
    uint8_t *bytes; /* malloc'd; tar_free */
    size_t size;
};

/* A member with its ustar header. */
void tar_add(struct tar_file *t, const char *name, const void *data, size_t size);
void tar_add_text(struct tar_file *t, const char *name, const char *text);
/* The same with a type of its own ('L', 'x', '2', ...) and a size field as it is given; NULL: the
 * size in octal. Contents are padded to a block. */
void tar_add_as(struct tar_file *t, const char *name, char type, const char *size_field,
                const void *data, size_t size);
/* A header that pax records speak from, "KEY=VALUE". */
void tar_add_pax(struct tar_file *t, const char *record);
/* Makes the checksum of the header at a byte hold again. */
void tar_seal(struct tar_file *t, size_t at);
/* The two blocks of zeros. */
void tar_end(struct tar_file *t);
void tar_write(const struct tar_file *t, const char *path);
void tar_free(struct tar_file *t);

#endif
