/* The pictures of a pack, for scripts. */
#ifndef LCL_TOOLS_INSPECT_PICTURES_H
#define LCL_TOOLS_INSPECT_PICTURES_H

#include "core/status.h"

/* A line a picture, in the pack's order: its name below the folder that was packed, its split
 * (train, test), its class's id, and what the class is called, with tabs between. json: an object
 * of image, split, class, name instead. */
LCL_CHECKED lcl_status inspect_pictures(const char *path, bool json);

#endif
