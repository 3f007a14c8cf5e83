/* Rows of a table read from a checkpoint whose datasets have been found: by plain reads, on any
 * number of ranks, every byte against its checksum. Internal to checkpoint/. */
#ifndef LCL_CHECKPOINT_CKPT_READ_H
#define LCL_CHECKPOINT_CKPT_READ_H

#include "checkpoint/ckpt.h"
#include "checkpoint/ckpt_sets.h"

/* A dataset of a row. */
struct lcl_set_place {
    int64_t offset; /* in the file; -1: there is none */
    lcl_dtype dtype;
    uint32_t crc;
};
struct lcl_row_places {
    struct lcl_set_place of[LCL_SET_KINDS];
};

struct lcl_rows_reading {
    const char *path; /* of state.h5 */
    struct lcl_params *t;
    const struct lcl_row_places *place; /* [n_rows], the same on all ranks */
    unsigned parts;                     /* rows of other parts stay as they are */
    bool with_moments;
    struct lcl_checkpoint_share share;
    int n_values, n_moments; /* out: rows that were kept in another type */
};

/* Rows that have no value in the file stay as they are; moments that it lacks become zero. With
 * ranks: LCL_OK, or the same error, on all. LCL_CORRUPT naming the dataset. */
LCL_CHECKED lcl_status lcl_rows_read(struct lcl_rows_reading *r);

#endif
