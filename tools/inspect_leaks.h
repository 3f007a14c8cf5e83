/* What of a pack may spoil an evaluation: pictures that stand in it twice, names of several
 * classes. */
#ifndef LCL_TOOLS_INSPECT_LEAKS_H
#define LCL_TOOLS_INSPECT_LEAKS_H

#include <jansson.h>

#include "data/pack.h"

/* Adds "same_pictures" (copies of a picture before them: across splits, across classes of a split,
 * within a class; some of them by name) and "shared_names" to out. */
LCL_CHECKED lcl_status inspect_leaks(struct lcl_pack *pack, json_t *out);

#endif
