#include "tools/out_folder.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"

lcl_status out_folder_stage(const char *out, char **stage)
{
    int n = (int)strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    *stage = lcl_strdupf("%.*s.lcl-export", n, out);
    return *stage ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
}

static bool holds_gguf(const char *dir)
{
    char *path = lcl_strdupf("%s/model.gguf", dir);
    bool there = path && lcl_fs_exists(path);
    free(path);
    return there;
}

lcl_status out_folder_check(const char *out, bool force)
{
    char **names;
    size_t n;
    if (!lcl_fs_exists(out)) return LCL_OK;
    LCL_TRY(lcl_fs_list(out, &names, &n));
    lcl_fs_list_free(names, n);
    if (n == 0) return LCL_OK;
    if (!force)
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder, or give --force",
                             "%s holds files already", out);
    if (!lcl_hf_is_folder(out) && !holds_gguf(out))
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder",
                             "%s holds files, and no HF folder or GGUF export that could be "
                             "replaced",
                             out);
    if (lcl_checkpoint_is_folder(out))
        return LCL_FAIL_HINT(LCL_EXISTS, "name another folder",
                             "%s holds a run, which an export would be mixed with", out);
    return LCL_OK;
}

static bool is_weights(const char *name)
{
    size_t n = strlen(name);
    bool st = n > 12 && strcmp(name + n - 12, ".safetensors") == 0;
    return (st && strncmp(name, "model", 5) == 0) ||
           strcmp(name, "model.safetensors.index.json") == 0 || strcmp(name, "model.gguf") == 0 ||
           strcmp(name, "mmproj.gguf") == 0;
}

/* Removes weights of an earlier export that this one does not hold. */
static lcl_status remove_weights(const char *dir, char **kept, size_t n_kept)
{
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        bool keep = !is_weights(names[i]);
        for (size_t k = 0; k < n_kept; k++) keep |= strcmp(names[i], kept[k]) == 0;
        char *path = keep ? NULL : lcl_strdupf("%s/%s", dir, names[i]);
        if (path) status = lcl_fs_remove_tree(path);
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

lcl_status out_folder_publish(const char *stage, const char *out)
{
    if (!lcl_fs_exists(out)) return lcl_fs_commit(stage, out);
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(stage, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        char *from = lcl_strdupf("%s/%s", stage, names[i]);
        char *to = lcl_strdupf("%s/%s", out, names[i]);
        if (to && lcl_fs_is_dir(to)) status = lcl_fs_remove_tree(to);
        if (status == LCL_OK)
            status =
                from && to ? lcl_fs_commit(from, to) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(from);
        free(to);
    }
    if (status == LCL_OK) status = remove_weights(out, names, n);
    lcl_fs_list_free(names, n);
    return status == LCL_OK ? lcl_fs_remove_tree(stage) : status;
}

void out_folder_discard(const char *stage, lcl_status status)
{
    struct lcl_error error;
    lcl_error_save(&error, status);
    lcl_status ignored = lcl_fs_remove_tree(stage);
    ignored = lcl_error_restore(&error);
    (void)ignored;
}
