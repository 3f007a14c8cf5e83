#include "train/output.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/ckpt.h"
#include "core/fs.h"

bool lcl_output_holds_run(const char *dir)
{
    struct stat s;
    char *metrics = lcl_strdupf("%s/metrics.jsonl", dir);
    bool lines = metrics && stat(metrics, &s) == 0 && s.st_size > 0;
    free(metrics);
    return lines || lcl_checkpoint_is_folder(dir);
}

/* Removes the entries of dir/below whose names begin with `begin`. */
static lcl_status remove_beginning(const char *dir, const char *below, const char *begin)
{
    char **names = NULL, *folder = lcl_strdupf("%s/%s", dir, below);
    size_t n = 0;
    lcl_status status = LCL_OK;
    if (!folder) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (lcl_fs_is_dir(folder)) status = lcl_fs_list(folder, &names, &n);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (strncmp(names[i], begin, strlen(begin)) != 0) continue;
        char *path = lcl_strdupf("%s/%s", folder, names[i]);
        status = path ? lcl_fs_remove_tree(path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    }
    lcl_fs_list_free(names, n);
    free(folder);
    return status;
}

lcl_status lcl_output_empty(const char *dir)
{
    static const char *const files[] = {"best", "last", "metrics.jsonl"};
    LCL_TRY(remove_beginning(dir, ".", "checkpoint-"));
    LCL_TRY(remove_beginning(dir, "runs", "events.out.tfevents."));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = lcl_strdupf("%s/%s", dir, files[i]);
        lcl_status status =
            path ? lcl_fs_remove_tree(path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
        LCL_TRY(status);
    }
    return LCL_OK;
}
