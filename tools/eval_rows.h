/* lcl eval vqa, pope, caption and box: answers to the questions of rows, scored. */
#ifndef LCL_TOOLS_EVAL_ROWS_H
#define LCL_TOOLS_EVAL_ROWS_H

#include "core/status.h"

/* argv[1] names the suite. */
LCL_CHECKED lcl_status eval_rows(int argc, char **argv);

#endif
