/* Kinds of `lcl import`; verb_import.c has their table. */
#ifndef LCL_TOOLS_IMPORT_H
#define LCL_TOOLS_IMPORT_H

#include "tools/cli.h"

LCL_CHECKED lcl_status import_delta(int argc, char **argv);
LCL_CHECKED lcl_status import_gguf(int argc, char **argv);
LCL_CHECKED lcl_status import_join(int argc, char **argv);
LCL_CHECKED lcl_status import_templates(int argc, char **argv);

#endif
