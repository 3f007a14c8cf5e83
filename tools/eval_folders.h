/* lcl eval folders, open and icl: N-way questions about class folders. */
#ifndef LCL_TOOLS_EVAL_FOLDERS_H
#define LCL_TOOLS_EVAL_FOLDERS_H

#include "core/status.h"

/* argv[1] names the suite. */
LCL_CHECKED lcl_status eval_folders(int argc, char **argv);

#endif
