/* A folder that a verb makes: written beside its place, checked there, then moved. */
#ifndef LCL_TOOLS_OUT_FOLDER_H
#define LCL_TOOLS_OUT_FOLDER_H

#include "core/status.h"

/* Where the folder is made: OUT.lcl-export; malloc'd. */
LCL_CHECKED lcl_status out_folder_stage(const char *out, char **stage);
/* Nothing is overwritten by chance: `out` is new or empty, or under `force` an HF folder or GGUF
 * export, but no run. LCL_EXISTS. */
LCL_CHECKED lcl_status out_folder_check(const char *out, bool force);
/* Moves the stage to `out`; weights there that the stage does not hold are removed. */
LCL_CHECKED lcl_status out_folder_publish(const char *stage, const char *out);
/* Removes what a failure left, and keeps its error. */
void out_folder_discard(const char *stage, lcl_status status);

#endif
