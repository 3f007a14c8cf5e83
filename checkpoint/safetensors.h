/* safetensors files, read through a map without copying, and written.
 *
 * Format: github.com/huggingface/safetensors: u64 header length, JSON header, data. Everything that
 * reading relies on is checked on opening: header length and JSON, duplicate names, shapes (no
 * overflow), element sizes, offsets that lie in the file and leave no gap and no overlap. */
#ifndef LCL_CHECKPOINT_SAFETENSORS_H
#define LCL_CHECKPOINT_SAFETENSORS_H

#include "core/dtype.h"
#include "core/fs.h"

enum { LCL_ST_MAX_DIMS = 8, LCL_ST_MAX_HEADER_BYTES = 32 << 20 };

struct lcl_st_tensor {
    char *name;
    char stored[8];  /* element type as the file says it: "F32", "I8", ... */
    lcl_dtype dtype; /* LCL_DTYPE_COUNT: one that the library can show but not read */
    int n_dims;
    int64_t shape[LCL_ST_MAX_DIMS];
    size_t count, bytes;
    const unsigned char *data; /* in the map; may be unaligned: lcl_st_read */
    int shard;
};

struct lcl_st_shard {
    char *path;
    struct lcl_map map;
};

struct lcl_safetensors {
    struct lcl_st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    struct lcl_st_shard *shards;
    int n_shards;
    char *metadata; /* of the first file, as a JSON object; NULL when it has none */
};

/* path: a .safetensors file, a file of torch.save (checkpoint/torch.h), an index.json of either, or
 * a folder that holds model.safetensors or pytorch_model.bin, or their index: the first in this
 * order. LCL_NOT_FOUND, LCL_FORMAT, LCL_UNSUPPORTED. */
LCL_CHECKED lcl_status lcl_st_open(const char *path, struct lcl_safetensors *st);
/* Opens `path` too and adds the tensors that are wanted by their names. */
LCL_CHECKED lcl_status lcl_st_join(struct lcl_safetensors *st, const char *path,
                                   bool (*wanted)(const char *name));
void lcl_st_close(struct lcl_safetensors *st);
/* NULL when there is none. */
const struct lcl_st_tensor *lcl_st_find(const struct lcl_safetensors *st, const char *name);
/* Copies elements [first, first + n) to dst, converted between floating types; integer types only
 * to themselves. */
LCL_CHECKED lcl_status lcl_st_read(const struct lcl_st_tensor *t, size_t first, size_t n,
                                   lcl_dtype dst_type, void *dst);
/* "[512, 64]"; buf of `size` bytes; returns buf. */
const char *lcl_st_shape_text(int n_dims, const int64_t *shape, char *buf, size_t size);

/* A tensor to be written; nothing is owned. */
struct lcl_st_item {
    const char *name;
    lcl_dtype dtype;  /* in the file */
    lcl_dtype source; /* of `data`; converted to dtype block by block; or LCL_DTYPE_COUNT */
    int n_dims;
    int64_t shape[LCL_ST_MAX_DIMS];
    const void *data;
};
/* What `data` points to where `source` is LCL_DTYPE_COUNT: a tensor that is read piece by piece.
 * Fills x with elements [first, first + n); first is a multiple of 2,048. */
struct lcl_st_reader {
    lcl_status (*read)(const void *from, size_t first, size_t n, float *x);
    const void *from;
};
/* One file, atomically. metadata: pairs key, value, ..., NULL; NULL for {"format": "pt"}. */
LCL_CHECKED lcl_status lcl_st_write(const char *path, const struct lcl_st_item *items, size_t n,
                                    const char *const *metadata);
#define LCL_ST_SHARD_BYTES \
    ((size_t)5000000000u) /* a file's size where none is asked for: transformers' */
/* dir/model.safetensors, or model-00001-of-0000N.safetensors and the index where one file would
 * hold more than max_shard_bytes (0: never). Weights of an earlier save are removed. */
LCL_CHECKED lcl_status lcl_st_write_folder(const char *dir, const struct lcl_st_item *items,
                                           size_t n, size_t max_shard_bytes);

#endif
