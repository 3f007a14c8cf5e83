#include "core/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static lcl_status fail_errno(const char *what, const char *path)
{
    int error = errno;
    const char *hint = error == ENOENT   ? "check the spelling of the path"
                       : error == EACCES ? "check the permissions of the file and its folder"
                       : error == ENOSPC ? "free some disk space, or write elsewhere"
                                         : NULL;
    return LCL_FAIL_HINT(error == ENOENT ? LCL_NOT_FOUND : LCL_IO, hint, "cannot %s %s: %s", what,
                         path, strerror(error));
}

lcl_status lcl_fs_fail_write(const char *path)
{
    const char *hint = errno == ENOSPC || errno == EFBIG || errno == EDQUOT
                           ? "free some disk space, or write elsewhere"
                       : errno == EACCES ? "check the permissions of the folder"
                                         : NULL;
    return LCL_FAIL_HINT(LCL_IO, hint, "cannot write %s: %s", path, strerror(errno));
}

bool lcl_fs_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

bool lcl_fs_is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

lcl_status lcl_fs_mkdirs(const char *path)
{
    char *copy = lcl_strdupf("%s", path);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    lcl_status status = LCL_OK;
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && lcl_fs_is_dir(copy))) {
            if (errno == EEXIST) errno = ENOTDIR;
            status = fail_errno("make folder", copy);
        }
        *p = kept;
        if (kept == '\0' || status != LCL_OK) break;
    }
    free(copy);
    return status;
}

lcl_status lcl_fs_remove_tree(const char *path)
{
    struct stat s;
    if (lstat(path, &s) != 0) return errno == ENOENT ? LCL_OK : fail_errno("look at", path);
    if (S_ISDIR(s.st_mode)) {
        char **names;
        size_t n;
        LCL_TRY(lcl_fs_list(path, &names, &n));
        lcl_status status = LCL_OK;
        for (size_t i = 0; i < n && status == LCL_OK; i++) {
            char *child = lcl_strdupf("%s/%s", path, names[i]);
            status =
                child ? lcl_fs_remove_tree(child) : LCL_FAIL(LCL_MEMORY, "no memory for a path");
            free(child);
        }
        lcl_fs_list_free(names, n);
        if (status != LCL_OK) return status;
    }
    if (remove(path) != 0) return fail_errno("remove", path);
    return LCL_OK;
}

/* A regular file, opened; another kind (a pipe would make the program wait) is an error. */
static lcl_status open_file(const char *path, int *fd, struct stat *s)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return fail_errno("open", path);
    lcl_status status = LCL_OK;
    if (fstat(*fd, s) != 0)
        status = fail_errno("read", path);
    else if (!S_ISREG(s->st_mode))
        status = LCL_FAIL(LCL_IO, "cannot read %s: %s", path,
                          S_ISDIR(s->st_mode) ? strerror(EISDIR) : "it is a device or a pipe");
    if (status != LCL_OK) close(*fd);
    return status;
}

lcl_status lcl_fs_read(const char *path, size_t max_bytes, char **data, size_t *size)
{
    *data = NULL;
    int fd;
    struct stat s;
    LCL_TRY(open_file(path, &fd, &s));
    lcl_status status = LCL_OK;
    char *buffer = NULL;
    if ((uint64_t)s.st_size > max_bytes) {
        status = LCL_FAIL(LCL_RANGE, "%s holds %lld bytes, at most %zu are read", path,
                          (long long)s.st_size, max_bytes);
        goto out;
    }
    size_t total = (size_t)s.st_size, got = 0;
    buffer = malloc(total + 1);
    if (!buffer) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of %s", total, path);
        goto out;
    }
    while (got < total) {
        ssize_t n = read(fd, buffer + got, total - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status = fail_errno("read", path);
            goto out;
        }
        if (n == 0) break;
        got += (size_t)n;
    }
    buffer[got] = '\0';
    *data = buffer;
    *size = got;
    buffer = NULL;
out:
    free(buffer);
    close(fd);
    return status;
}

static lcl_status sync_folder_of(const char *path)
{
    char *folder = lcl_strdupf("%s", path);
    if (!folder) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lcl_status status = LCL_OK;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) status = fail_errno("sync folder of", path);
    if (fd >= 0) close(fd);
    free(folder);
    return status;
}

lcl_status lcl_fs_commit(const char *from, const char *to)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open", from);
    int failed = fsync(fd);
    close(fd);
    if (failed) return fail_errno("sync", from);
    if (rename(from, to) != 0) return fail_errno("rename to", to);
    return sync_folder_of(to);
}

static lcl_status write_all(int fd, const char *path, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno("write", path);
        p += n;
        size -= (size_t)n;
    }
    return LCL_OK;
}

lcl_status lcl_fs_write_atomic(const char *path, const void *data, size_t size)
{
    char *temporary = lcl_strdupf("%s.tmp.%ld", path, (long)getpid());
    if (!temporary) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    lcl_status status = fd < 0 ? fail_errno("write", path) : write_all(fd, path, data, size);
    if (fd >= 0 && close(fd) != 0 && status == LCL_OK) status = fail_errno("write", path);
    if (status == LCL_OK) status = lcl_fs_commit(temporary, path);
    if (status != LCL_OK && fd >= 0) unlink(temporary);
    free(temporary);
    return status;
}

lcl_status lcl_fs_write_text(const char *dir, const char *name, const char *text)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    lcl_status status = path && text ? lcl_fs_write_atomic(path, text, strlen(text))
                                     : LCL_FAIL(LCL_MEMORY, "no memory for %s/%s", dir, name);
    free(path);
    return status;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

lcl_status lcl_fs_list(const char *path, char ***names, size_t *count)
{
    *names = NULL;
    *count = 0;
    DIR *dir = opendir(path);
    if (!dir) return fail_errno("open folder", path);
    char **list = NULL;
    size_t n = 0, cap = 0;
    lcl_status status = LCL_OK;
    for (struct dirent *e; status == LCL_OK && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 64;
            char **grown = realloc(list, cap * sizeof *grown);
            if (!grown) {
                status = LCL_FAIL(LCL_MEMORY, "no memory to list %s", path);
                break;
            }
            list = grown;
        }
        list[n] = strdup(e->d_name);
        if (!list[n])
            status = LCL_FAIL(LCL_MEMORY, "no memory to list %s", path);
        else
            n++;
    }
    closedir(dir);
    if (status != LCL_OK) {
        lcl_fs_list_free(list, n);
        return status;
    }
    if (n > 0) qsort(list, n, sizeof *list, by_bytes);
    *names = list;
    *count = n;
    return LCL_OK;
}

void lcl_fs_list_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

char *lcl_strdupf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0) text = NULL;
    va_end(args);
    return text;
}

const char *lcl_fs_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

lcl_status lcl_fs_map(const char *path, struct lcl_map *map)
{
    *map = (struct lcl_map){0};
    int fd;
    struct stat s;
    lcl_status status = LCL_OK;
    LCL_TRY(open_file(path, &fd, &s));
    if (s.st_size > 0) {
        void *data = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = fail_errno("map", path);
        else
            *map = (struct lcl_map){data, (size_t)s.st_size};
    }
    close(fd);
    return status;
}

void lcl_fs_unmap(struct lcl_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct lcl_map){0};
}

void lcl_fs_map_done(const void *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data, end = begin + size;
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}
