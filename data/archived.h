/* Pictures that a table names by paths, found in tar archives: ImageNet as it is downloaded,
 * WebDataset shards. Nothing is unpacked; of the archives only what the table names is in memory.
 *
 * A member is a table's picture where one name is the end of the other, folder by folder, endings
 * of pictures aside (x.JPEG is x.jpg). Of several, that with the most folders alike, where the
 * names of the archives that it lies in count as folders (docs/formats.md). */
#ifndef LCL_DATA_ARCHIVED_H
#define LCL_DATA_ARCHIVED_H

#include "data/image.h"

struct lcl_archived_place {
    int32_t archive; /* -1: it was not found */
    int32_t folders; /* alike, the file's name counted */
    int64_t offset, size_bytes;
};

struct lcl_archived {
    int64_t n;
    struct lcl_archived_place *place; /* [n] */
    int32_t n_archives;
    char **archives;   /* [n_archives] paths */
    int64_t *mtime_ns; /* [n_archives] */
};

/* Looks for n paths (wanted[i] false: not for that one; NULL: for all) in what `images` means
 * (shards.h), with progress. The same path may be there several times. cache: a folder that keeps
 * what was found, by paths, archives, their sizes and times, or NULL; one that cannot be written to
 * is a warning. LCL_FORMAT for a picture in two places, or one place for two paths, *which being
 * its number, and for what lcl_tar_next refuses; LCL_NOT_FOUND, LCL_IO for archives. */
LCL_CHECKED lcl_status lcl_archived_find(const char *images, const char *const *paths,
                                         const bool *wanted, int64_t n, const char *cache,
                                         struct lcl_archived *out, int64_t *which);
void lcl_archived_free(struct lcl_archived *a);
/* Decodes picture i, which was found; name: what errors call it besides archive and byte. Any
 * thread. */
LCL_CHECKED lcl_status lcl_archived_read(const struct lcl_archived *a, int64_t i, const char *name,
                                         const struct lcl_decode_options *options,
                                         struct lcl_image *out);

/* Files below a folder, of which those that are not there are looked for in archives. */
struct lcl_archived_files {
    struct lcl_archived found; /* n 0: every file is there, or there are no archives */
    char **path;               /* [found.n] with the folder before them, in order; owned */
};
/* n paths below `images`, in any order, some several times. The errors of lcl_archived_find, and
 * LCL_NOT_FOUND for a picture that is in no archive either. */
LCL_CHECKED lcl_status lcl_archived_files_open(struct lcl_archived_files *f, const char *images,
                                               const char *const *paths, int64_t n,
                                               const char *cache);
/* The number, for lcl_archived_read, of a path with the folder before it; -1: it is a file. */
int64_t lcl_archived_files_number(const struct lcl_archived_files *f, const char *path);
void lcl_archived_files_close(struct lcl_archived_files *f);

#endif
