/* A line of lcl encode as an episode of the official layout. */
#ifndef LCL_TOOLS_ENCODE_LINE_H
#define LCL_TOOLS_ENCODE_LINE_H

#include <jansson.h>

#include "data/official.h"

/* The episode points into the line; *labels, malloc'd, holds those of its shots. LCL_FORMAT names
 * the key. */
LCL_CHECKED lcl_status encode_read(const json_t *line, struct lcl_official_episode *e,
                                   const char ***labels);

#endif
