/* Tar archives, header by header: ustar, GNU long names and pax (POSIX.1-2001, tar(5) of GNU tar).
 *
 * Contents are not read, only found: a member is a run of bytes of the file, so archives of any
 * size are listed in the memory of one header. Archives within an archive are opened the same way.
 * Not read, with an error that says so: compressed archives, sparse members, parts of several
 * volumes. Nothing is ever unpacked; a name is no more than a text, and one that leads out of the
 * archive is refused all the same. */
#ifndef LCL_DATA_TAR_H
#define LCL_DATA_TAR_H

#include <limits.h>

#include "core/status.h"

enum { LCL_TAR_NAME_BYTES = 1024, LCL_TAR_PAX_BYTES = 1 << 20 };

struct lcl_tar_member {
    const char *name;   /* without "./" before it; the archive's, until the next one */
    int64_t header;     /* byte of the file where its first header begins */
    int64_t offset;     /* and its contents */
    int64_t size_bytes; /* of its contents */
    bool regular;       /* else a folder, or what `other` says */
    bool other;         /* a link, device or pipe: has no contents here */
};

struct lcl_tar {
    /* What errors call it: the path of its file, and for an archive in another its member's name */
    char label[PATH_MAX + LCL_TAR_NAME_BYTES];
    int64_t mtime_ns; /* of the file */
    int64_t end;      /* byte of the file where the archive ends */
    /* The rest is the archive's own. */
    int fd;
    bool owns_fd;
    int64_t at;
    char name[LCL_TAR_NAME_BYTES];
};

/* LCL_NOT_FOUND, LCL_IO; LCL_FORMAT for what is no tar archive, or a compressed one. */
LCL_CHECKED lcl_status lcl_tar_open(const char *path, struct lcl_tar *t);
/* The archive that is a member of another, which stays open for as long. */
LCL_CHECKED lcl_status lcl_tar_open_within(const struct lcl_tar *outer,
                                           const struct lcl_tar_member *m, struct lcl_tar *t);
void lcl_tar_close(struct lcl_tar *t);
/* The next member; m->name is NULL behind the last. LCL_FORMAT names file, member and byte. */
LCL_CHECKED lcl_status lcl_tar_next(struct lcl_tar *t, struct lcl_tar_member *m);
/* The contents of a member of at most max_bytes, malloc'd, with a NUL behind them. */
LCL_CHECKED lcl_status lcl_tar_read(const struct lcl_tar *t, const struct lcl_tar_member *m,
                                    size_t max_bytes, char **data);
/* size bytes at `offset` of a file, malloc'd, with a NUL behind them: a member that was listed
 * before. Any thread. */
LCL_CHECKED lcl_status lcl_tar_read_at(const char *path, int64_t offset, int64_t size, char **data);

#endif
