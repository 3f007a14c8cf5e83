/* Checks of a sampler before it draws. Internal to data/. */
#ifndef LCL_DATA_SAMPLER_CHECK_H
#define LCL_DATA_SAMPLER_CHECK_H

#include "data/episode.h"

/* Sets ways, min_shots, max_shots, name_group and row_length of a sampler whose classes are listed,
 * and makes the checks that lcl_sampler_init names. */
LCL_CHECKED lcl_status lcl_sampler_check(struct lcl_sampler *s);

#endif
