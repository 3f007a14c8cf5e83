/* The pickle that torch.save makes of a state dict, read by a machine that knows tensors, storages,
 * dictionaries and plain values. Nothing is ever called: any other global or opcode is an error
 * that names it. */
#ifndef LCL_CHECKPOINT_TORCH_PICKLE_H
#define LCL_CHECKPOINT_TORCH_PICKLE_H

#include "core/dtype.h"

enum { LCL_TORCH_MAX_DIMS = 8, LCL_TORCH_MAX_PICKLE_BYTES = 64 << 20 };

/* A storage: the archive's entry data/KEY. */
struct lcl_torch_storage {
    const char *key; /* in the pickle, as are all texts here */
    size_t key_size;
    const char *stored; /* element type: "F32", "I8", ... */
    lcl_dtype dtype;    /* LCL_DTYPE_COUNT: shown, not read */
    size_t elem_bytes;
    int64_t count;
};
struct lcl_torch_tensor {
    const char *name;
    size_t name_size;
    struct lcl_torch_storage storage;
    int64_t offset; /* elements */
    int n_dims;
    int64_t shape[LCL_TORCH_MAX_DIMS], stride[LCL_TORCH_MAX_DIMS];
};

/* The tensors of the state dict, or of the dict that it holds as "state_dict", "model" or "module";
 * *out malloc'd. Shapes and offsets are as the pickle says: the caller checks them. */
LCL_CHECKED lcl_status lcl_torch_unpickle(const char *path, const unsigned char *data, size_t size,
                                          struct lcl_torch_tensor **out, size_t *n);

#endif
