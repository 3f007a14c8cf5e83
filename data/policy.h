/* Training policies besides the link of labels: reference names and jigsaws (docs/strategies.md).
 * Internal to data/, but for the words of data.strategy and what a config draws. */
#ifndef LCL_DATA_POLICY_H
#define LCL_DATA_POLICY_H

#include "data/episode.h"

/* The word of a strategy in data.strategy, and back; -1 for other words. */
const char *lcl_strategy_name(enum lcl_strategy strategy);
int lcl_strategy_of(const char *word);
/* True where a stage may draw episodes of this policy: by data.strategy, or by a word of
 * data.sources. */
bool lcl_policy_is_drawn(const struct lcl_config *c, enum lcl_policy policy);
/* The policy of an episode of data.strategy: of ref_or_weight by a fair coin, from a stream of its
 * own. */
enum lcl_policy lcl_policy_of_sample(const struct lcl_config *c, uint32_t epoch, uint64_t sample);

/* Of each class, the fewest pictures that ref shows. */
enum { LCL_REF_MIN_SHOTS = 3 };
/* ref: names the classes and the shots of an episode whose pictures are drawn, and writes what its
 * queries are answered with. Names are new in each episode; paper: each is unlike every other. */
LCL_CHECKED lcl_status lcl_policy_name_shots(const struct lcl_config *c, struct lcl_rng *rng,
                                             struct lcl_episode *e);
/* jigsaw: a picture of a train class, uniformly both, its grid, tiles in a drawn order, and for
 * each query a whole of another order. classes: [n_classes] numbers in the pack. */
LCL_CHECKED lcl_status lcl_policy_draw_tiles(const struct lcl_sampler *s, struct lcl_rng *rng,
                                             struct lcl_episode *e);
/* Fills a plan's episode of n_shots and n_queries, its ways named: what its answers say is as long
 * as it can be. Nothing for LCL_POLICY_LINK. */
LCL_CHECKED lcl_status lcl_policy_say_most(const struct lcl_config *c, enum lcl_policy policy,
                                           struct lcl_episode *e);

#endif
