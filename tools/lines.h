/* Lines of JSON, from a file or standard input. */
#ifndef LCL_TOOLS_LINES_H
#define LCL_TOOLS_LINES_H

#include <jansson.h>

#include "core/status.h"

typedef lcl_status (*lines_fn)(void *ctx, json_t *line);
/* Calls fn for every line that is not blank; in: a file, or - for standard input. Errors of a line
 * begin with file and line; LCL_RANGE for one of over 16 MiB. */
LCL_CHECKED lcl_status lines_read(const char *in, lines_fn fn, void *ctx);

#endif
