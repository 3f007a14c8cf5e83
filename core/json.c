#include "core/json.h"

#include <stdlib.h>

#include "core/fs.h"

lcl_status lcl_json_object(const char *name, const char *text, size_t size, json_t **root)
{
    json_error_t error;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!*root) return LCL_FAIL(LCL_FORMAT, "%s:%d: %s", name, error.line, error.text);
    if (json_is_object(*root)) return LCL_OK;
    json_decref(*root);
    *root = NULL;
    return LCL_FAIL(LCL_FORMAT, "%s is no JSON object", name);
}

lcl_status lcl_json_load(const char *path, size_t max_bytes, json_t **root)
{
    char *text = NULL;
    size_t size;
    *root = NULL;
    LCL_TRY(lcl_fs_read(path, max_bytes, &text, &size));
    lcl_status status = lcl_json_object(path, text, size, root);
    free(text);
    return status;
}
