/* The parameter table: one row for each tensor of the model. It drives allocation, initialisation,
 * optimizer groups, freezing, checkpoints, import and export.
 *
 * Values and gradients lie in flat arrays over the same element offsets, in table order. A row
 * begins on a multiple of 256 elements, where a shard of it may begin too, unless it `follows` the
 * one before without a gap (so that the q, k, v weights of a layer are one [Cq + 2 Ckv, C] matrix
 * for the GEMM). Names are those of transformers 5 on disk.
 *
 * Rows in blocks (core/blocks.h) lie in arrays of their own, codes and scales, and nowhere in the
 * flat ones: they never train. */
#ifndef LCL_CORE_PARAM_H
#define LCL_CORE_PARAM_H

#include "core/arena.h"
#include "core/blocks.h"

enum { LCL_PARAM_MAX_DIMS = 4, LCL_PARAM_NAME_BYTES = 128, LCL_PARAM_ALIGN = 256 };

enum lcl_part { LCL_PART_VISION, LCL_PART_PROJECTOR, LCL_PART_TEXT, LCL_PART_HEAD, LCL_PART_COUNT };
enum lcl_init { LCL_INIT_ZEROS, LCL_INIT_ONES, LCL_INIT_NORMAL, LCL_INIT_UNIFORM };

struct lcl_param {
    char name[LCL_PARAM_NAME_BYTES];
    int n_dims;
    int64_t shape[LCL_PARAM_MAX_DIMS];
    size_t offset; /* elements, in every flat array; of rows in blocks: elements among these */
    size_t count;  /* elements */
    enum lcl_part part;
    int layer; /* of its part, by its name; -1: of none */
    enum lcl_init init;
    float init_std; /* of LCL_INIT_NORMAL; LCL_INIT_UNIFORM: within -init_std .. init_std */
    bool decay;     /* weight decay applies (matrices; not norms, not biases) */
    bool f32;       /* kept as f32 whatever the precision (norms, biases, added tables, adapters) */
    bool adapter;   /* of LoRA, behind the model's own rows: no part of the base */
    bool trainable;
    bool used;    /* false: outside the loss (layers after the selected one); never updated */
    bool follows; /* no gap after the row before */
    bool linear;  /* a matrix that linear layers alone read: it may be in blocks */
    bool still;   /* no stage of the run moves it: set before lcl_params_place() */
    /* of lcl_params_place(): */
    bool in_blocks;              /* `linear`, and its rows are whole blocks */
    size_t value_at;             /* elements in `value`, of rows that have f32 values */
    size_t grad_at;              /* elements in a gradient buffer, of rows that move */
    size_t state_at, scale_at;   /* bytes in m and v; elements in their scales */
    size_t own_first, own_count; /* elements whose moments this rank keeps: all, or its share */
};

/* There are moments of it. */
static inline bool lcl_param_has_moments(const struct lcl_param *p)
{
    return !p->in_blocks && !p->still;
}

/* The optimizer updates it: it trains, and the loss depends on it. */
static inline bool lcl_param_moves(const struct lcl_param *p) { return p->trainable && p->used; }

/* How AdamW's moments are kept; rows of under LCL_STATES_LEAST elements keep f32. */
enum lcl_states { LCL_STATES_F32, LCL_STATES_BF16, LCL_STATES_8BIT };
enum { LCL_STATES_LEAST = 4096 };

struct lcl_params {
    struct lcl_param *rows; /* owned */
    int n_rows, cap_rows;
    size_t n_elements; /* of a flat array, padding included */
    size_t n_coded;    /* elements in blocks, padding included */
    /* set before lcl_params_place(); as they are: f32 everywhere */
    enum lcl_states states;
    bool bf16;        /* ops read weights as bf16: of rows that are not `f32` the first of the two
                       * halves that values are split in (core/dtype.h) */
    bool no_master;   /* where bf16: there is no second half, the first is all */
    lcl_dtype blocks; /* of `linear` rows: q8_0 or q4_0; f32: as the others */
    int share_rank, share_ranks; /* moments are of this rank's share of each row; 0 ranks: of all */
    /* of lcl_params_place(), and the arrays of lcl_params_layout() */
    size_t n_values, n_scales, state_bytes;
    size_t n_grads;               /* elements of a gradient buffer */
    float *value;                 /* [n_values] f32 */
    float *grad;                  /* [n_grads], or NULL */
    unsigned char *m, *v;         /* [state_bytes] AdamW moments, or NULL: lcl_param_moment() */
    float *m_scale_B, *v_scale_B; /* [n_scales] of 8-bit ones */
    lcl_bf16 *value16;            /* [n_elements] that GEMMs read where bf16, or NULL */
    uint16_t *low16;              /* [n_elements] other halves of value16's numbers, or NULL */
    uint8_t *code;                /* of n_coded elements, or NULL */
    lcl_f16 *code_scale;          /* [n_coded / LCL_BLOCK] */
    uint64_t version; /* counts the changes of values; caches of packed weights are keyed by it */
};

/* What the row's values are: f32 (in one piece, or split), bf16, or blocks. */
static inline lcl_dtype lcl_param_dtype(const struct lcl_params *t, const struct lcl_param *p)
{
    return p->in_blocks ? t->blocks : t->bf16 && t->no_master && !p->f32 ? LCL_BF16 : LCL_F32;
}
/* Its f32 values lie in two halves, which lcl_param_get() joins. */
static inline bool lcl_param_is_split(const struct lcl_params *t, const struct lcl_param *p)
{
    return t->bf16 && !t->no_master && !p->f32 && !p->in_blocks;
}
/* The row's f32 values, or NULL where there are none in one piece; its bf16 values, and the other
 * halves of split ones; codes and scales of a row in blocks. */
static inline float *lcl_param_value(const struct lcl_params *t, const struct lcl_param *p)
{
    const bool whole = lcl_param_dtype(t, p) == LCL_F32 && !lcl_param_is_split(t, p);
    return whole ? t->value + p->value_at : NULL;
}
static inline uint16_t *lcl_param_low16(const struct lcl_params *t, const struct lcl_param *p)
{
    return lcl_param_is_split(t, p) ? t->low16 + p->offset : NULL;
}
static inline lcl_bf16 *lcl_param_value16(const struct lcl_params *t, const struct lcl_param *p)
{
    return t->value16 && !p->in_blocks ? t->value16 + p->offset : NULL;
}
static inline uint8_t *lcl_param_code(const struct lcl_params *t, const struct lcl_param *p)
{
    return p->in_blocks ? t->code + lcl_code_bytes(t->blocks, p->offset) : NULL;
}
static inline lcl_f16 *lcl_param_scale(const struct lcl_params *t, const struct lcl_param *p)
{
    return p->in_blocks ? t->code_scale + p->offset / LCL_BLOCK : NULL;
}
/* Elements [first, first + n) of a row as f32, and from f32, whatever they are kept in; whole
 * blocks where they are. After the last change: lcl_params_changed(). */
void lcl_param_get(const struct lcl_params *t, const struct lcl_param *p, size_t first, size_t n,
                   float *x);
void lcl_param_put(struct lcl_params *t, const struct lcl_param *p, size_t first, size_t n,
                   const float *x);

/* First or second moments of a row's own elements; nothing where it has none. */
struct lcl_moment {
    lcl_dtype dtype; /* f32, bf16, or u8 with scales */
    void *x;
    float *scale_B;
    int64_t count, B;
};
struct lcl_moment lcl_param_moment(const struct lcl_params *t, const struct lcl_param *p,
                                   bool second);
/* As f32, and from f32: bf16 to nearest. */
void lcl_moment_read(const struct lcl_moment *m, bool second, float *x);
void lcl_moment_write(const struct lcl_moment *m, bool second, const float *x);
bool lcl_moment_is_zero(const struct lcl_moment *m);

void lcl_params_init(struct lcl_params *t);
void lcl_params_free(struct lcl_params *t); /* rows only; arrays belong to their arenas */

/* What a module registers for one tensor. */
struct lcl_param_spec {
    enum lcl_part part;
    enum lcl_init init;
    float init_std;
    bool decay;
    bool follows; /* no gap after the row before */
    bool unused;
    bool f32;
    bool adapter;
};
/* Appends a row and returns its index in *index. LCL_EXISTS when the name is taken. */
LCL_CHECKED lcl_status lcl_params_add(struct lcl_params *t, const char *name, int n_dims,
                                      const int64_t *shape, struct lcl_param_spec spec, int *index);
/* NULL when there is none. */
struct lcl_param *lcl_params_find(struct lcl_params *t, const char *name);

/* Where each row's values, gradients and moments lie, by `states`, `bf16`, `no_master`, `blocks`
 * and `still`. */
void lcl_params_place(struct lcl_params *t);
/* Gradients of the rows that move alone; lcl_params_place() makes room for all. */
void lcl_params_place_grads(struct lcl_params *t);
/* Bytes of both moments of a row's own elements, and of its value in a file. */
size_t lcl_param_moment_bytes(const struct lcl_params *t, const struct lcl_param *p);
size_t lcl_param_value_bytes(const struct lcl_params *t, const struct lcl_param *p);
/* Bytes of all values as lcl_params_layout() lays them out. */
size_t lcl_params_values_bytes(const struct lcl_params *t);
/* Lays out the values (and grad, m + v where asked) in the arenas; run on measuring arenas it only
 * counts. Places first. */
void lcl_params_layout(struct lcl_params *t, struct lcl_arena *values, struct lcl_arena *grads,
                       struct lcl_arena *moments);
/* Draws every value from (seed, LCL_RNG_INIT, row name): independent of table order. */
void lcl_params_initialise(struct lcl_params *t, uint64_t seed);
/* Moments are 0 again. */
void lcl_params_forget_moments(struct lcl_params *t);
/* Marks rows of a part (un)trainable; those in blocks are not. */
void lcl_params_set_trainable(struct lcl_params *t, enum lcl_part part, bool trainable);
/* Where there are adapters: they alone of what is trainable, or all but them. */
void lcl_params_set_adapting(struct lcl_params *t, bool adapting);
/* Refreshes value16 of the rows that have f32 values in one piece, and bumps version. */
void lcl_params_changed(struct lcl_params *t);
/* Trainable and used elements. */
size_t lcl_params_trainable_count(const struct lcl_params *t);
const char *lcl_part_name(enum lcl_part part);
/* 64-bit content hash of the rows of one part, in table order: key of feature caches. */
uint64_t lcl_params_hash(const struct lcl_params *t, enum lcl_part part);

#endif
