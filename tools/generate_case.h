/* lcl generate --case: the greedy continuation of a reference case. */
#ifndef LCL_TOOLS_GENERATE_CASE_H
#define LCL_TOOLS_GENERATE_CASE_H

#include "core/status.h"

/* Continues generate.input_ids with generate.pixel_values of the safetensors file by max_new tokens
 * at most (0: as many as generate.new_ids has, else 12) and prints the new ids, the end token
 * included: a JSON list a sequence, or one JSON object. */
LCL_CHECKED lcl_status generate_case(const char *model_dir, const char *case_path, int64_t max_new,
                                     bool json);

#endif
