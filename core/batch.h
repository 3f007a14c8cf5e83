/* A packed batch: sequences of any length end to end, with offsets; what data/ hands to model/.
 *
 * One batch is one lane's work for one step. Images are listed once; their feature rows are spliced
 * into slots. Legend: T tokens, B runs, I images, S supervised rows. */
#ifndef LCL_CORE_BATCH_H
#define LCL_CORE_BATCH_H

#include "core/ops.h"

struct lcl_batch {
    int64_t T;
    int32_t *id_T;       /* token ids; image slots hold the image token's id */
    int32_t *position_T; /* rotary positions: a query branch goes on from its context's end */
    int64_t n_runs;
    struct lcl_attn_run *runs; /* own rows == q rows; see core/ops.h */

    int64_t n_images;
    int64_t *image_I; /* picture numbers in the pack (or -1 - i for others), distinct by view */
    int32_t *view_I;  /* augmented view of each (0: plain) */
    int64_t n_slots;  /* image-feature rows placed in the text: tokens an image times occurrences */
    int32_t *slot;    /* [n_slots] token index */
    int32_t *slot_row; /* [n_slots] row of the features: image index * tokens an image + k */

    int64_t S;
    int32_t *row_S;      /* token index whose NEXT token is predicted */
    int32_t *target_S;   /* that next token */
    float *weight_S;     /* weights of the loss terms */
    uint8_t *is_label_S; /* 1 where the target is a token of a label (accuracy counts these) */
};

#endif
