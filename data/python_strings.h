/* String literals of Python source, for the texts that programs keep there. */
#ifndef LCL_DATA_PYTHON_STRINGS_H
#define LCL_DATA_PYTHON_STRINGS_H

#include "core/status.h"

/* Receives a literal's text (of its own for the call), adjacent ones joined as Python does, and the
 * line where it begins. */
typedef lcl_status (*lcl_python_string_fn)(void *ctx, const char *text, int line);
/* Calls fn for every literal of a source of any bytes. Escapes \n \t \r \\ \' \" \xNN and line ends
 * are read, others stay as they are; {{ and }} of f-strings become one brace. A literal that its
 * line does not close ends there. LCL_MEMORY, and what fn fails with. */
LCL_CHECKED lcl_status lcl_python_strings(const char *source, size_t size, lcl_python_string_fn fn,
                                          void *ctx);

#endif
