/* JSON files that are one object. */
#ifndef LCL_CORE_JSON_H
#define LCL_CORE_JSON_H

#include <jansson.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The object of `size` bytes of text, its keys once each; `name` stands for the file in messages.
 * The caller lets go of *root (json_decref), which is NULL after an error: LCL_FORMAT. */
LCL_CHECKED lcl_status lcl_json_object(const char *name, const char *text, size_t size,
                                       json_t **root);

/* The same of a file of at most max_bytes; also lcl_fs_read's errors. */
LCL_CHECKED lcl_status lcl_json_load(const char *path, size_t max_bytes, json_t **root);

#ifdef __cplusplus
}
#endif

#endif
