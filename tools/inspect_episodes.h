/* `lcl inspect CONFIG --episodes N`: the first training episodes of a config. */
#ifndef LCL_TOOLS_INSPECT_EPISODES_H
#define LCL_TOOLS_INSPECT_EPISODES_H

#include "core/status.h"

struct lcl_config;

/* Prints the first n training episodes of epoch 0 to standard output: JSON lines, or text for
 * people. Opens the pack's index, the neighbor table and the tokenizer; no picture. */
LCL_CHECKED lcl_status inspect_episodes(const struct lcl_config *config, int64_t n, bool json);

#endif
