/* HDF5 in checked calls: what packs, neighbor tables, feature caches and checkpoints are written
 * with.
 *
 * HDF5's own error stack is silenced; its innermost reason goes into the lcl message, with file and
 * object. HDF5 is not thread-safe as built: all calls of a process come from one thread. Files use
 * the 1.10 format, whose metadata carry checksums of their own; each dataset written here carries
 * an attribute `crc32c` over its elements (little-endian, in row-major order), so that a flipped
 * byte anywhere is found. Such a file is not crash-safe while it is written: write it beside its
 * place, close it, then lcl_fs_commit. */
#ifndef LCL_CORE_H5_H
#define LCL_CORE_H5_H

#include "core/status.h"

enum { LCL_H5_MAX_RANK = 8 };

typedef enum lcl_h5_type {
    LCL_H5_F32,
    LCL_H5_F64,
    LCL_H5_I32,
    LCL_H5_I64,
    LCL_H5_U8,
    LCL_H5_U16, /* also the bits of bf16 and f16 */
    LCL_H5_U64,
    LCL_H5_TYPE_COUNT
} lcl_h5_type;

size_t lcl_h5_type_bytes(lcl_h5_type t);
const char *lcl_h5_type_name(lcl_h5_type t); /* "f32", ... */

struct lcl_h5 {
    int64_t id;         /* 0: closed */
    int64_t size_bytes; /* of the file when it was opened; 0 for a created one */
    char path[512];
};

/* Creates or truncates. LCL_IO with the system's reason. */
LCL_CHECKED lcl_status lcl_h5_create(const char *path, struct lcl_h5 *f);
/* LCL_NOT_FOUND where there is no file, LCL_FORMAT where it is no HDF5 file or is truncated. */
LCL_CHECKED lcl_status lcl_h5_open(const char *path, bool writable, struct lcl_h5 *f);
LCL_CHECKED lcl_status lcl_h5_flush(struct lcl_h5 *f);
/* Writes what is pending (a full disk shows here too) and closes. Does nothing on a closed file. */
LCL_CHECKED lcl_status lcl_h5_close(struct lcl_h5 *f);
/* Closes on an error path: whatever fails is left unsaid. */
void lcl_h5_discard(struct lcl_h5 *f);

/* Object names are paths: "/images/bytes". What only a soft or an external link leads to is not
 * there. */
bool lcl_h5_exists(const struct lcl_h5 *f, const char *object);
/* Makes a group and those above it; an existing one is fine. Datasets make the groups above them
 * themselves. */
LCL_CHECKED lcl_status lcl_h5_make_group(struct lcl_h5 *f, const char *group);
/* Names of the links in a group, sorted by bytes: lcl_fs_list_free. */
LCL_CHECKED lcl_status lcl_h5_list(const struct lcl_h5 *f, const char *group, char ***names,
                                   size_t *count);
/* All dataset paths of the file, sorted by bytes: lcl_fs_list_free. */
LCL_CHECKED lcl_status lcl_h5_list_datasets(const struct lcl_h5 *f, char ***paths, size_t *count);

/* Attributes of a group or dataset; setting replaces. Getting a missing one is LCL_FORMAT naming
 * it. */
bool lcl_h5_has_attr(const struct lcl_h5 *f, const char *object, const char *name);
LCL_CHECKED lcl_status lcl_h5_set_u64(struct lcl_h5 *f, const char *object, const char *name,
                                      uint64_t value);
LCL_CHECKED lcl_status lcl_h5_set_f64(struct lcl_h5 *f, const char *object, const char *name,
                                      double value);
LCL_CHECKED lcl_status lcl_h5_set_str(struct lcl_h5 *f, const char *object, const char *name,
                                      const char *value);
LCL_CHECKED lcl_status lcl_h5_get_u64(const struct lcl_h5 *f, const char *object, const char *name,
                                      uint64_t *value);
LCL_CHECKED lcl_status lcl_h5_get_f64(const struct lcl_h5 *f, const char *object, const char *name,
                                      double *value);
/* Copies at most size bytes with the NUL; a longer string is LCL_FORMAT. */
LCL_CHECKED lcl_status lcl_h5_get_str(const struct lcl_h5 *f, const char *object, const char *name,
                                      char *value, size_t size);

/* An open dataset. Rows are slices along the first dimension. */
struct lcl_h5_set {
    int64_t id; /* 0: closed */
    lcl_h5_type type;
    int rank;
    uint64_t dims[LCL_H5_MAX_RANK];
    uint64_t row_elems; /* elements of a row: product of dims[1..] */
    uint64_t count;     /* elements in all; checked not to overflow */
    bool extendible;
    int64_t file_offset; /* where a contiguous set's bytes lie in the file; -1: chunked, or not yet
                            written */
    const struct lcl_h5 *file;
    char name[256];
};

/* chunk_rows 0: contiguous, of fixed shape; above 0: chunked, and dims[0] may grow. */
LCL_CHECKED lcl_status lcl_h5_set_create(struct lcl_h5 *f, const char *name, lcl_h5_type type,
                                         int rank, const uint64_t *dims, uint64_t chunk_rows,
                                         struct lcl_h5_set *set);
/* Makes room for a contiguous set and tells where in the file it begins; what lies there is not
 * set. Once the file is closed, its bytes may be written there by pwrite(), by any process, without
 * HDF5; its checksum (lcl_crc32c over them in order) then becomes attribute `crc32c`. */
LCL_CHECKED lcl_status lcl_h5_set_reserve(struct lcl_h5 *f, const char *name, lcl_h5_type type,
                                          int rank, const uint64_t *dims, int64_t *file_offset);
/* LCL_FORMAT when absent, of a type that is not in the list above, or larger than the file could
 * hold. */
LCL_CHECKED lcl_status lcl_h5_set_open(const struct lcl_h5 *f, const char *name,
                                       struct lcl_h5_set *set);
void lcl_h5_set_close(struct lcl_h5_set *set);
/* Rows [first, first + n). Writing past the end extends an extendible set. */
LCL_CHECKED lcl_status lcl_h5_set_write(struct lcl_h5_set *set, uint64_t first, uint64_t n,
                                        const void *rows);
LCL_CHECKED lcl_status lcl_h5_set_read(const struct lcl_h5_set *set, uint64_t first, uint64_t n,
                                       void *rows);
/* Stores the checksum of a set written in pieces: lcl_crc32c over all elements in order. */
LCL_CHECKED lcl_status lcl_h5_set_store_crc(struct lcl_h5_set *set, uint32_t crc);
/* Recomputes it in blocks: LCL_CORRUPT naming file and dataset; LCL_FORMAT where it has none. */
LCL_CHECKED lcl_status lcl_h5_set_verify(const struct lcl_h5_set *set);

/* Hands all elements, n from `first` on at a time, to `take` in blocks of at most 8 MiB (or a row),
 * and then compares the checksum, as lcl_h5_set_verify does: what was taken counts only after that.
 */
LCL_CHECKED lcl_status lcl_h5_set_stream(const struct lcl_h5_set *set,
                                         lcl_status (*take)(void *ctx, const void *x, size_t first,
                                                            size_t n),
                                         void *ctx);

/* Whole datasets in one call. Writing stores the checksum; reading checks it. */
LCL_CHECKED lcl_status lcl_h5_write(struct lcl_h5 *f, const char *name, lcl_h5_type type, int rank,
                                    const uint64_t *dims, const void *data);
/* The dataset must have this type and `count` elements in all. */
LCL_CHECKED lcl_status lcl_h5_read(const struct lcl_h5 *f, const char *name, lcl_h5_type type,
                                   uint64_t count, void *data);
/* Reads a dataset of any length up to max_bytes into malloc'd *data (one more zero byte after it).
 */
LCL_CHECKED lcl_status lcl_h5_read_alloc(const struct lcl_h5 *f, const char *name, lcl_h5_type type,
                                         uint64_t max_bytes, void **data, uint64_t *count);
/* Verifies one dataset by name / every dataset of the file (the first damaged one is named). */
LCL_CHECKED lcl_status lcl_h5_verify(const struct lcl_h5 *f, const char *name);
LCL_CHECKED lcl_status lcl_h5_verify_all(const struct lcl_h5 *f);

#endif
