/* GGUF files (versions 2 and 3, little-endian), read through a map without copying, and written.
 *
 * Format: github.com/ggml-org/ggml, docs/gguf.md: header, metadata (typed values by key), tensor
 * infos, data. Everything that reading relies on is checked on opening: counts, keys and names
 * (length, no NUL, unique), value types, array lengths and nesting, shapes (no overflow), rows of
 * whole blocks, alignment, and that the tensors' bytes lie in the file and do not overlap. */
#ifndef LCL_CHECKPOINT_GGUF_H
#define LCL_CHECKPOINT_GGUF_H

#include "core/blocks.h"
#include "core/fs.h"

enum {
    LCL_GGUF_MAX_DIMS = 4,
    LCL_GGUF_MAX_KEYS = 1 << 16,
    LCL_GGUF_MAX_TENSORS = 1 << 16,
    LCL_GGUF_MAX_NAME_BYTES = 127, /* of a tensor */
    LCL_GGUF_MAX_KEY_BYTES = 1023,
    LCL_GGUF_MAX_DEPTH = 4, /* of arrays in arrays */
    LCL_GGUF_MAX_ALIGNMENT = 1 << 16,
    LCL_GGUF_ALIGNMENT = 32 /* what is written, and what is read where no key says */
};

/* The numbers are those of the format. */
enum lcl_gguf_kind {
    LCL_GGUF_U8,
    LCL_GGUF_I8,
    LCL_GGUF_U16,
    LCL_GGUF_I16,
    LCL_GGUF_U32,
    LCL_GGUF_I32,
    LCL_GGUF_F32,
    LCL_GGUF_BOOL,
    LCL_GGUF_STRING,
    LCL_GGUF_ARRAY,
    LCL_GGUF_U64,
    LCL_GGUF_I64,
    LCL_GGUF_F64,
    LCL_GGUF_KIND_COUNT
};

/* Element types that are read and written; the numbers are those of the format. */
enum lcl_gguf_type {
    LCL_GGUF_TYPE_F32 = 0,
    LCL_GGUF_TYPE_F16 = 1,
    LCL_GGUF_TYPE_Q4_0 = 2,
    LCL_GGUF_TYPE_Q4_1 = 3,
    LCL_GGUF_TYPE_Q8_0 = 8,
    LCL_GGUF_TYPE_BF16 = 30
};

/* A stored element type: `block` elements take `bytes`. */
struct lcl_gguf_type_info {
    uint32_t id;
    const char *name; /* "F32", "Q4_K" */
    uint32_t block, bytes;
};
/* NULL where the number is not known. */
const struct lcl_gguf_type_info *lcl_gguf_type_info(uint32_t id);

struct lcl_gguf_value {
    char *key;
    enum lcl_gguf_kind kind, element; /* element: of an array */
    size_t n;                         /* elements of an array, 1 otherwise */
    const unsigned char *data;        /* in the map, at any byte: of the first element */
};

struct lcl_gguf_tensor {
    char *name;
    const struct lcl_gguf_type_info *type;
    int n_dims;
    int64_t shape[LCL_GGUF_MAX_DIMS]; /* slowest dimension first, as everywhere else here; the file
                                         has them the other way round */
    size_t count, bytes;
    const unsigned char *data; /* in the map */
};

struct lcl_gguf {
    char *path;
    struct lcl_map map;
    uint32_t version;
    size_t alignment;
    struct lcl_gguf_value *values; /* sorted by key */
    size_t n_values;
    struct lcl_gguf_tensor *tensors; /* sorted by name */
    size_t n_tensors;
};

/* LCL_NOT_FOUND, LCL_FORMAT, LCL_VERSION (1, or a big-endian file), LCL_UNSUPPORTED (an element
 * type that is not known). */
LCL_CHECKED lcl_status lcl_gguf_open(const char *path, struct lcl_gguf *g);
void lcl_gguf_close(struct lcl_gguf *g);
bool lcl_gguf_is_file(const char *path); /* it begins with the format's magic */

/* ---- metadata ---- */

const char *lcl_gguf_kind_name(enum lcl_gguf_kind kind); /* "u32", "string" */
const struct lcl_gguf_value *lcl_gguf_find(const struct lcl_gguf *g, const char *key);
/* Element i of a value as a number; false for strings and arrays. */
bool lcl_gguf_number(const struct lcl_gguf_value *v, size_t i, double *x);
/* The value of a key that may be absent (then *x stays). LCL_FORMAT where it is no number within
 * [low, high]; whole: nor a whole one. */
LCL_CHECKED lcl_status lcl_gguf_get_int(const struct lcl_gguf *g, const char *key, int64_t low,
                                        int64_t high, int64_t *x);
LCL_CHECKED lcl_status lcl_gguf_get_real(const struct lcl_gguf *g, const char *key, double low,
                                         double high, double *x);
/* malloc'd, NUL-terminated; stays NULL where the key is absent. LCL_FORMAT for another kind or a
 * text with NUL bytes. */
LCL_CHECKED lcl_status lcl_gguf_get_text(const struct lcl_gguf *g, const char *key, char **text);
/* An array of strings: n pointers to NUL-terminated texts in one malloc'd block; NULL and 0 where
 * the key is absent. */
LCL_CHECKED lcl_status lcl_gguf_get_texts(const struct lcl_gguf *g, const char *key, char ***list,
                                          size_t *n);
/* An array of numbers, malloc'd; NULL and 0 where the key is absent. */
LCL_CHECKED lcl_status lcl_gguf_get_numbers(const struct lcl_gguf *g, const char *key,
                                            double **list, size_t *n);

/* ---- tensors ---- */

const struct lcl_gguf_tensor *lcl_gguf_tensor(const struct lcl_gguf *g, const char *name);
/* Rows are runs of the last dimension; a row is a whole number of blocks. */
static inline size_t lcl_gguf_row(const struct lcl_gguf_tensor *t)
{
    return (size_t)t->shape[t->n_dims - 1];
}
/* f32, f16, bf16, q8_0, q4_0, q4_1. */
bool lcl_gguf_readable(const struct lcl_gguf_tensor *t);
/* The type that holds a readable tensor without loss: f32, or f16 and bf16 themselves. */
lcl_dtype lcl_gguf_dtype(const struct lcl_gguf_tensor *t);
/* Of types whose blocks are those of core/blocks.h; else LCL_F32. */
lcl_dtype lcl_gguf_blocks(uint32_t type);
/* Rows [first, first + n) as f32. LCL_UNSUPPORTED names a type that is not readable. */
LCL_CHECKED lcl_status lcl_gguf_read_rows(const struct lcl_gguf_tensor *t, size_t first, size_t n,
                                          float *x);
/* What a tensor of this shape is written as where `wanted` is asked for: q8_0 needs rows of whole
 * blocks, and is f16 else, as in llama.cpp. */
enum lcl_gguf_type lcl_gguf_type_for(enum lcl_gguf_type wanted, int n_dims, const int64_t *shape);
/* n elements (whole blocks) from f32 to a type's bytes: f32, f16, bf16 or q8_0, which llama.cpp's
 * rule makes: a block's scale is its greatest magnitude / 127, rounded to f16. */
void lcl_gguf_encode(enum lcl_gguf_type type, const float *x, size_t n, unsigned char *out);
/* Where row `row` of a matrix of `heads` heads stands in llama.cpp's file: its rotary pairs lie
 * side by side there, (head, pair, half), and half a head apart here, (head, half, pair). */
size_t lcl_gguf_rotary_row(size_t row, size_t rows, size_t heads);

/* ---- writing ---- */

/* Metadata under construction. A failed append keeps its status for lcl_gguf_write. */
struct lcl_gguf_meta {
    unsigned char *bytes;
    size_t size, cap;
    uint64_t n_values;
    bool failed;
};
void lcl_gguf_meta_free(struct lcl_gguf_meta *m);
void lcl_gguf_put_u32(struct lcl_gguf_meta *m, const char *key, uint32_t x);
void lcl_gguf_put_f32(struct lcl_gguf_meta *m, const char *key, float x);
void lcl_gguf_put_bool(struct lcl_gguf_meta *m, const char *key, bool x);
void lcl_gguf_put_text(struct lcl_gguf_meta *m, const char *key, const char *text);
void lcl_gguf_put_texts(struct lcl_gguf_meta *m, const char *key, const char *const *list,
                        size_t n);
void lcl_gguf_put_f32s(struct lcl_gguf_meta *m, const char *key, const float *list, size_t n);
void lcl_gguf_put_i32s(struct lcl_gguf_meta *m, const char *key, const int32_t *list, size_t n);

/* A tensor to be written; nothing is owned. */
struct lcl_gguf_item {
    const char *name;
    enum lcl_gguf_type type;
    int n_dims;
    int64_t shape[LCL_GGUF_MAX_DIMS]; /* slowest first */
    lcl_dtype source;                 /* of `data`: f32, f16 or bf16 */
    const void *data;
    size_t rotary_heads; /* 0, or heads whose rows are put in llama.cpp's order */
};
/* Version 3, written beside its place and renamed. LCL_SHAPE where a row is no whole number of
 * blocks; LCL_EXISTS where two tensors have one name. */
LCL_CHECKED lcl_status lcl_gguf_write(const char *path, const struct lcl_gguf_meta *meta,
                                      const struct lcl_gguf_item *items, size_t n);

#endif
