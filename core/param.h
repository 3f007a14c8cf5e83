/* The parameter table: one row for each tensor of the model. It drives allocation, initialisation,
 * optimizer groups, freezing, checkpoints, import and export.
 *
 * Values, gradients and optimizer states lie in flat arrays over the same element offsets, in table
 * order. A row begins on a multiple of 256 elements, where a shard of it may begin too, unless it
 * `follows` the one before without a gap (so that the q, k, v weights of a layer are one [Cq + 2
 * Ckv, C] matrix for the GEMM). Names are those of transformers 5 on disk. */
#ifndef LCL_CORE_PARAM_H
#define LCL_CORE_PARAM_H

#include "core/arena.h"
#include "core/dtype.h"

enum { LCL_PARAM_MAX_DIMS = 4, LCL_PARAM_NAME_BYTES = 128, LCL_PARAM_ALIGN = 256 };

enum lcl_part { LCL_PART_VISION, LCL_PART_PROJECTOR, LCL_PART_TEXT, LCL_PART_HEAD, LCL_PART_COUNT };
enum lcl_init { LCL_INIT_ZEROS, LCL_INIT_ONES, LCL_INIT_NORMAL };

struct lcl_param {
    char name[LCL_PARAM_NAME_BYTES];
    int n_dims;
    int64_t shape[LCL_PARAM_MAX_DIMS];
    size_t offset; /* elements, in every flat array */
    size_t count;  /* elements */
    enum lcl_part part;
    enum lcl_init init;
    float init_std; /* of LCL_INIT_NORMAL */
    bool decay;     /* weight decay applies (matrices; not norms, not biases) */
    bool trainable;
    bool used; /* false: outside the loss (layers after the selected one); never updated */
};

/* The optimizer updates it: it trains, and the loss depends on it. */
static inline bool lcl_param_moves(const struct lcl_param *p) { return p->trainable && p->used; }

struct lcl_params {
    struct lcl_param *rows; /* owned */
    int n_rows, cap_rows;
    size_t n_elements; /* of a flat array, padding included */
    float *value;      /* [n_elements] f32 master */
    float *grad;       /* [n_elements], or NULL */
    float *m, *v;      /* AdamW moments, or NULL */
    lcl_bf16 *value16; /* bf16 copy that GEMMs read when computing in bf16, or NULL */
    uint64_t version;  /* counts the changes of `value`; caches of packed weights are keyed by it */
};

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
};
/* Appends a row and returns its index in *index. LCL_EXISTS when the name is taken. */
LCL_CHECKED lcl_status lcl_params_add(struct lcl_params *t, const char *name, int n_dims,
                                      const int64_t *shape, struct lcl_param_spec spec, int *index);
/* NULL when there is none. */
struct lcl_param *lcl_params_find(struct lcl_params *t, const char *name);

/* Lays out value (and value16, grad, m + v where asked) in the arenas; run on measuring arenas it
 * only counts. */
void lcl_params_layout(struct lcl_params *t, struct lcl_arena *values, struct lcl_arena *grads,
                       struct lcl_arena *moments, bool with_bf16);
/* Draws every value from (seed, LCL_RNG_INIT, row name): independent of table order. */
void lcl_params_initialise(struct lcl_params *t, uint64_t seed);
/* Marks rows of a part (un)trainable. */
void lcl_params_set_trainable(struct lcl_params *t, enum lcl_part part, bool trainable);
/* Refreshes value16 from value (all rows) and bumps version. */
void lcl_params_changed(struct lcl_params *t);
/* Trainable and used elements. */
size_t lcl_params_trainable_count(const struct lcl_params *t);
const char *lcl_part_name(enum lcl_part part);
/* 64-bit content hash of the rows of one part, in table order: key of feature caches. */
uint64_t lcl_params_hash(const struct lcl_params *t, enum lcl_part part);

#endif
