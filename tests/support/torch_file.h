/* Files as torch.save writes them: a zip archive of stored entries around a pickle. */
#ifndef LCL_TESTS_TORCH_FILE_H
#define LCL_TESTS_TORCH_FILE_H

#include <stddef.h>
#include <stdint.h>

struct torch_bytes {
    unsigned char *v; /* malloc'd */
    size_t n, cap;
};
void torch_put(struct torch_bytes *b, const void *data, size_t n);
void torch_put_number(struct torch_bytes *b, uint64_t x, int bytes);

/* One tensor in a storage of its own, of which it takes the elements from `offset` on. */
struct torch_item {
    const char *name, *storage; /* "FloatStorage" */
    const void *data;           /* of the whole storage */
    int64_t storage_count, elem_bytes, offset;
    int n_dims;
    int64_t shape[4];
};
/* The pickle of an OrderedDict of the items, protocol 2. */
void torch_pickle(struct torch_bytes *b, const struct torch_item *items, int n);
/* The archive around a pickle: archive/data.pkl, archive/data/0, ... with zip64 sizes where asked.
 */
void torch_zip(struct torch_bytes *b, const struct torch_bytes *pickle,
               const struct torch_item *items, int n, int zip64);
/* Both, written to a file. */
void torch_write(const char *path, const struct torch_item *items, int n);

#endif
