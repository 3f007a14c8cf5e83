/* lcl eval isekai and lcl eval imagenet-100. */
#ifndef LCL_TOOLS_EVAL_TABLE_H
#define LCL_TOOLS_EVAL_TABLE_H

#include "core/status.h"

/* argv[1] names the table's kind. */
LCL_CHECKED lcl_status eval_table(int argc, char **argv);

#endif
