/* The datasets that a row of the parameter table has in state.h5, and the part of each that a rank
 * writes and reads: its elements by lcl_comm_cut(), which begin on whole blocks of any kind.
 * Internal to checkpoint/. */
#ifndef LCL_CHECKPOINT_CKPT_SETS_H
#define LCL_CHECKPOINT_CKPT_SETS_H

#include "core/comm.h"
#include "core/h5.h"
#include "core/param.h"

enum lcl_set_kind {
    LCL_SET_VALUE,
    LCL_SET_VALUE_SCALE, /* of rows in blocks */
    LCL_SET_M,
    LCL_SET_M_SCALE, /* of moments in 8 bits */
    LCL_SET_V,
    LCL_SET_V_SCALE,
    LCL_SET_KINDS
};
enum { LCL_SET_NAME_BYTES = LCL_PARAM_NAME_BYTES + 16 };

/* "/params/NAME", ... */
void lcl_set_name(enum lcl_set_kind kind, const struct lcl_param *p, char name[LCL_SET_NAME_BYTES]);
/* f32, bf16 as its bits, codes as bytes. */
lcl_h5_type lcl_set_type(lcl_dtype dtype);
/* Bytes of the first n elements of a row in such a set, whose elements are (or, of scales, belong
 * to) `dtype`. */
size_t lcl_set_bytes(enum lcl_set_kind kind, lcl_dtype dtype, size_t n);

struct lcl_set_range {
    size_t first, count;
};
/* Elements of the row that a rank owns. */
struct lcl_set_range lcl_set_own(const struct lcl_param *p, int rank, int size);

/* Of one row and kind, what this rank has to write. */
struct lcl_set_part {
    int row;
    enum lcl_set_kind kind;
    lcl_dtype dtype;
    const void *from; /* own bytes in memory; NULL: halves to be joined */
    size_t kept;      /* where its bytes are in a snapshot */
    int64_t offset;   /* of the whole set in the file */
    uint32_t crc;     /* of own bytes, then of all */
};
struct lcl_set_list {
    struct lcl_set_part *part;
    int n;
};

/* The same sets on all ranks; `from` is of this one. Moments that are zero on all ranks are left
 * out. */
LCL_CHECKED lcl_status lcl_sets_list(struct lcl_comm *comm, const struct lcl_params *t,
                                     bool with_moments, struct lcl_set_list *list);
void lcl_sets_free(struct lcl_set_list *list);
/* Own bytes of a part: [*at, *at + n) of its set. */
size_t lcl_set_own_bytes(const struct lcl_params *t, const struct lcl_set_part *s, int rank,
                         int size, size_t *at);
/* From the checksums of the ranks' parts (crc_RN [size * n]), those of whole sets. */
void lcl_sets_join(const struct lcl_params *t, struct lcl_set_list *list, const uint32_t *crc_RN,
                   int size);

#endif
