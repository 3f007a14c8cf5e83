/* balance: tokens. Which lane takes which of a step's samples, so that lanes, and any ranks that
 * own lanes in their order, have about equally many tokens: a function of the samples' tokens
 * alone. */
#ifndef LCL_TRAIN_DEAL_H
#define LCL_TRAIN_DEAL_H

#include "core/status.h"

/* tokens_N [lanes * rounds * each], of the step's samples by number. dealt_N of the same shape: the
 * samples of lane `index` (round * lanes + lane) are the `each` from index * each on, ascending.
 * Lanes are halved again and again, the longest samples first to the half that has less for its
 * size. LCL_MEMORY. */
LCL_CHECKED lcl_status lcl_deal(const int64_t *tokens_N, int64_t lanes, int64_t rounds,
                                int64_t each, int64_t *dealt_N);

#endif
