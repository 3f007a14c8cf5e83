/* The zip archives that torch.save writes: entries are stored, never compressed. */
#ifndef LCL_CHECKPOINT_TORCH_ZIP_H
#define LCL_CHECKPOINT_TORCH_ZIP_H

#include "core/fs.h"

struct lcl_zip_entry {
    const char *name; /* in the map, no NUL after it */
    size_t name_size;
    const unsigned char *data; /* in the map */
    size_t size;
};
struct lcl_zip {
    struct lcl_zip_entry *entries; /* sorted by name */
    size_t n_entries;
};

/* Reads the list of entries; zip64 too. Every offset and size is checked against the map, which
 * must outlive the archive; names are there once, entries do not overlap. LCL_FORMAT for damaged
 * files, LCL_UNSUPPORTED for compressed or encrypted entries. */
LCL_CHECKED lcl_status lcl_zip_open(const char *path, const struct lcl_map *map,
                                    struct lcl_zip *zip);
void lcl_zip_close(struct lcl_zip *zip);
/* NULL when there is none. */
const struct lcl_zip_entry *lcl_zip_find(const struct lcl_zip *zip, const char *name,
                                         size_t name_size);

#endif
