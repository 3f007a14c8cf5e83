#include "train/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

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
    static const char *const files[] = {"best", "last", "metrics.jsonl", "profile",
                                        LCL_OUTPUT_FINISHED};
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

lcl_status lcl_output_open(const char *dir, int *lock)
{
    LCL_TRY(lcl_fs_mkdirs(dir));
    char *path = lcl_strdupf("%s/.lock", dir);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    *lock = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    lcl_status status = LCL_OK;
    if (*lock < 0) {
        status = LCL_FAIL_HINT(LCL_IO, "choose an output_dir that you may write to",
                               "cannot write to %s: %s", dir, strerror(errno));
    } else if (flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        status = LCL_FAIL_HINT(LCL_EXISTS, "wait for it, stop it, or choose another output_dir",
                               "another process is training in %s", dir);
    } /* file systems without locks: go on without */
    if (status != LCL_OK && *lock >= 0) {
        close(*lock);
        *lock = -1;
    }
    free(path);
    return status;
}

lcl_status lcl_output_set_finished(const char *dir, bool finished)
{
    static const char text[] = "all stages are done\n";
    char *path = lcl_strdupf("%s/" LCL_OUTPUT_FINISHED, dir);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status =
        finished ? lcl_fs_write_atomic(path, text, sizeof text - 1) : lcl_fs_remove_tree(path);
    free(path);
    return status;
}
