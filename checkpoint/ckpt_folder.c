/* What is in a run's folder besides the writing of a checkpoint: putting it in place, links, what
 * is kept. */
#include "checkpoint/ckpt_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/ckpt_manifest.h"
#include "core/fs.h"

lcl_status lcl_folder_fail(const char *what, const char *path)
{
    return LCL_FAIL_HINT(LCL_IO,
                         errno == EACCES ? "choose an output_dir that you may write to" : NULL,
                         "cannot %s %s: %s", what, path, strerror(errno));
}

static lcl_status sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lcl_status status = LCL_OK;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) status = lcl_folder_fail("sync", path);
    if (fd >= 0) close(fd);
    return status;
}

/* Renames the written folder into place. One of the same step is exchanged for it in one call, so
 * that at no instant neither is there; it is then removed with the other temporary folders. */
lcl_status lcl_folder_put_in_place(const char *output_dir, const char *temporary, const char *final)
{
    LCL_TRY(sync_folder(temporary));
    if (!lcl_fs_exists(final)) return lcl_fs_commit(temporary, final);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        LCL_TRY(sync_folder(output_dir));
        return lcl_fs_remove_tree(temporary);
    }
    /* File systems without the exchange: aside, then in. */
    char *aside = lcl_strdupf("%s.old.tmp", final);
    if (!aside) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = LCL_OK;
    if (rename(final, aside) != 0) status = lcl_folder_fail("replace", final);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, final);
    if (status == LCL_OK) status = lcl_fs_remove_tree(aside);
    free(aside);
    return status;
}

/* Points output_dir/name at a checkpoint, in one rename. */
lcl_status lcl_folder_set_link(const char *output_dir, const char *name, const char *target)
{
    char *path = lcl_strdupf("%s/%s", output_dir, name);
    char *fresh = lcl_strdupf("%s/.%s.tmp", output_dir, name);
    lcl_status status = path && fresh ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK) {
        unlink(fresh);
        if (symlink(target, fresh) != 0 || rename(fresh, path) != 0)
            status = lcl_folder_fail("link", path);
    }
    free(path);
    free(fresh);
    return status;
}

/* What an interrupted save, or an interrupted removal, left. */
lcl_status lcl_folder_remove_temporaries(const char *output_dir)
{
    char **names;
    size_t n;
    LCL_TRY(lcl_fs_list(output_dir, &names, &n));
    lcl_status status = LCL_OK;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(names[i], "checkpoint-", 11) != 0 || strcmp(names[i] + len - 4, ".tmp") != 0)
            continue;
        char *path = lcl_strdupf("%s/%s", output_dir, names[i]);
        status = path ? lcl_fs_remove_tree(path) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
        free(path);
    }
    lcl_fs_list_free(names, n);
    return status;
}

/* Half a folder never looks like a damaged checkpoint. */
static lcl_status set_aside(const char *output_dir, const char *name)
{
    char *path = lcl_strdupf("%s/%s", output_dir, name);
    char *away = lcl_strdupf("%s/%s.tmp", output_dir, name);
    lcl_status status = path && away ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (status == LCL_OK && rename(path, away) != 0) status = lcl_folder_fail("remove", path);
    free(path);
    free(away);
    return status;
}

/* Keeps the `keep` newest and the best. Those whose manifest cannot be read are not counted. */
lcl_status lcl_folder_set_old_aside(const char *output_dir, int64_t keep)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    char best[64] = "", *link = lcl_strdupf("%s/best", output_dir);
    ssize_t len = link ? readlink(link, best, sizeof best - 1) : -1;
    best[len > 0 ? len : 0] = '\0';
    free(link);
    LCL_TRY(lcl_checkpoint_entries(output_dir, &entries, &n));
    lcl_status status = LCL_OK;
    int64_t kept = 0;
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        if (entries[i].serial == INT64_MAX) continue;
        if (kept++ < keep || strcmp(entries[i].name, best) == 0) continue;
        status = set_aside(output_dir, entries[i].name);
    }
    free(entries);
    return status;
}

lcl_status lcl_folder_next_serial(const char *output_dir, int64_t *serial)
{
    struct lcl_checkpoint_entry *entries;
    size_t n;
    *serial = 1;
    LCL_TRY(lcl_checkpoint_entries(output_dir, &entries, &n));
    for (size_t i = 0; i < n; i++)
        if (entries[i].serial != INT64_MAX && entries[i].serial >= *serial)
            *serial = entries[i].serial + 1;
    free(entries);
    return LCL_OK;
}
