#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/ckpt_manifest.h"
#include "core/comm.h"
#include "core/fs.h"
#include "core/log.h"

static bool holds(const char *dir, const char *file)
{
    char *path = lcl_strdupf("%s/%s", dir, file);
    bool there = path && lcl_fs_exists(path);
    free(path);
    return there;
}

static bool is_checkpoint(const char *dir)
{
    return holds(dir, LCL_CHECKPOINT_STATE) || holds(dir, LCL_CHECKPOINT_MANIFEST);
}

bool lcl_checkpoint_is_folder(const char *path)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    if (is_checkpoint(path)) return true;
    if (lcl_checkpoint_entries(path, &entries, &n) != LCL_OK) return false;
    free(entries);
    return n > 0;
}

static lcl_status keep_path(char *path, size_t size, const char *dir, const char *name)
{
    int n = name ? snprintf(path, size, "%s/%s", dir, name) : snprintf(path, size, "%s", dir);
    if (n < 0 || (size_t)n >= size)
        return LCL_FAIL(LCL_RANGE, "a path of over %zu bytes: %s", size - 1, dir);
    return LCL_OK;
}

static lcl_status find_newest(const char *dir, const struct lcl_checkpoint_entry *entries, size_t n,
                              char *path, size_t size)
{
    size_t n_damaged = 0;
    for (size_t i = 0; i < n; i++) {
        LCL_TRY(keep_path(path, size, dir, entries[i].name));
        lcl_status status = lcl_manifest_verify(path);
        if (status == LCL_OK) {
            if (n_damaged > 0) lcl_log_warn("going on from %s", path);
            return LCL_OK;
        }
        if (status == LCL_VERSION || status == LCL_MEMORY) return status;
        n_damaged++;
        lcl_log_warn("%s is passed over: %s", path, lcl_error_message());
    }
    if (n_damaged > 0)
        return LCL_FAIL_HINT(LCL_CORRUPT, "restore one from a copy, or begin the run anew",
                             "none of the %zu checkpoints in %s is whole; the last one tried: %s",
                             n_damaged, dir, lcl_error_message());
    return LCL_FAIL_HINT(LCL_NOT_FOUND, "give a run's output_dir or one of its checkpoint folders",
                         "%s holds no checkpoint", dir);
}

lcl_status lcl_checkpoint_find(const char *output_dir_or_checkpoint, char *path, size_t size)
{
    const char *given = output_dir_or_checkpoint;
    if (!lcl_fs_exists(given))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                             "there is no checkpoint %s", given);
    if (is_checkpoint(given)) {
        LCL_TRY(keep_path(path, size, given, NULL));
        return lcl_manifest_verify(path);
    }
    struct lcl_checkpoint_entry *entries;
    size_t n;
    LCL_TRY(lcl_checkpoint_entries(given, &entries, &n));
    lcl_status status = find_newest(given, entries, n, path, size);
    free(entries);
    return status;
}

lcl_status lcl_checkpoint_find_shared(struct lcl_comm *comm, const char *output_dir_or_checkpoint,
                                      char *path, size_t size)
{
    lcl_status status = LCL_OK;
    memset(path, 0, size);
    if (lcl_comm_rank(comm) == 0)
        status = lcl_checkpoint_find(output_dir_or_checkpoint, path, size);
    LCL_TRY(lcl_comm_agree(comm, "the newest checkpoint", status));
    return lcl_comm_broadcast(comm, "the newest checkpoint", 0, path, size);
}
