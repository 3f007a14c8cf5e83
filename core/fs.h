/* Files: whole reads, atomic writes, folders. Every message names the path and the system's reason.
 */
#ifndef LCL_CORE_FS_H
#define LCL_CORE_FS_H

#include "core/status.h"

bool lcl_fs_exists(const char *path);
bool lcl_fs_is_dir(const char *path);
LCL_CHECKED lcl_status lcl_fs_mkdirs(const char *path);
LCL_CHECKED lcl_status lcl_fs_remove_tree(const char *path);
/* Reads a whole file of at most max_bytes into malloc'd *data, with a NUL after it; the caller
 * frees. LCL_RANGE when larger. */
LCL_CHECKED lcl_status lcl_fs_read(const char *path, size_t max_bytes, char **data, size_t *size);
/* Writes beside `path` and renames into place after fsync of file and folder. */
LCL_CHECKED lcl_status lcl_fs_write_atomic(const char *path, const void *data, size_t size);
/* The same of a NUL-terminated text, to dir/name; NULL: LCL_MEMORY, for texts that could not be
 * made. */
LCL_CHECKED lcl_status lcl_fs_write_text(const char *dir, const char *name, const char *text);
/* fsyncs an existing file, renames it to `to`, fsyncs the folder. */
LCL_CHECKED lcl_status lcl_fs_commit(const char *from, const char *to);
/* LCL_IO by errno, for writers of their own: "cannot write PATH: reason" and its hint. */
LCL_CHECKED lcl_status lcl_fs_fail_write(const char *path);
/* Names in a folder but for . and .., sorted by bytes; *names and each entry are malloc'd:
 * lcl_fs_list_free. */
LCL_CHECKED lcl_status lcl_fs_list(const char *path, char ***names, size_t *count);
void lcl_fs_list_free(char **names, size_t count);
/* printf into a new string; NULL when memory ran out. The caller frees. */
char *lcl_strdupf(const char *fmt, ...) LCL_PRINTF(1, 2);
/* Last path part, as a pointer into `path`. */
const char *lcl_fs_basename(const char *path);
uint32_t lcl_crc32c(uint32_t crc, const void *data, size_t size); /* start with 0 */
/* Of two pieces end to end, by the checksum of each and the second one's length. */
uint32_t lcl_crc32c_combine(uint32_t first, uint32_t second, uint64_t second_bytes);

/* Read-only map of a file; the base of packs, safetensors and GGUF. */
struct lcl_map {
    const unsigned char *data;
    size_t size;
};
LCL_CHECKED lcl_status lcl_fs_map(const char *path, struct lcl_map *map);
void lcl_fs_unmap(struct lcl_map *map);
/* Bytes of a map that will hardly be read again: their whole pages no longer count as the
 * program's. */
void lcl_fs_map_done(const void *data, size_t size);

#endif
