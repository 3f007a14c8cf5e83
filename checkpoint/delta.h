/* Weight deltas: models published as what they add to the weights of a base, as Vicuna v0 and v1.1,
 * LLaVA v0 and Shikra were. */
#ifndef LCL_CHECKPOINT_DELTA_H
#define LCL_CHECKPOINT_DELTA_H

#include "core/status.h"

struct lcl_delta_counts {
    size_t added, extended, own; /* tensors: of both; of them with more rows; of the delta alone */
};
/* Writes the weights of base + delta to the folder `out`, each summed in f32 and rounded to the
 * delta's type. Rows that the delta has beyond the base's embedding and head (an extended
 * vocabulary) and tensors that are no decoder's (a projector) are the delta's as they are. Buffers
 * that models compute themselves are left out. LCL_SHAPE listing every tensor that is missing in
 * either, misshapen or not floating; then nothing was written. Base and delta stay mapped; a tensor
 * is summed piece by piece. max_shard_bytes 0: as transformers. */
LCL_CHECKED lcl_status lcl_delta_apply(const char *base, const char *delta, const char *out,
                                       size_t max_shard_bytes, struct lcl_delta_counts *counts);

#endif
