/* Where pictures come from: a source lists files and classes; it opens no picture.
 *
 * A new source is one function that fills a listing, and one line in pack_source.c's table. */
#ifndef LCL_DATA_PACK_SOURCE_H
#define LCL_DATA_PACK_SOURCE_H

#include "data/pack.h"

struct lcl_h5;
struct lcl_item; /* pack_journal.h */

struct lcl_source_class {
    char id[LCL_CLASS_NAME_BYTES], name[LCL_CLASS_NAME_BYTES];
    enum lcl_split split;
    bool split_given; /* by the folder; else a hash of the id decides */
};

struct lcl_source_file {
    char *name; /* below the root; malloc'd */
    int64_t size_bytes, mtime_ns;
    int32_t class_index;
    int32_t archive; /* number of the listing's archive that holds it, or -1: a file by itself */
    int64_t offset;  /* byte of that archive where it begins */
};

/* Sorted: classes by id, files by class, then by name. */
struct lcl_listing {
    char *root; /* folder that the names are below; malloc'd */
    struct lcl_source_class *classes;
    int32_t n_classes, cap_classes;
    int32_t *class_slot; /* of lcl_listing_class, by hash of the id: class number or -1 */
    size_t class_mask;
    struct lcl_source_file *files;
    int64_t n_files, cap_files;
    char **archives; /* paths; malloc'd */
    int32_t n_archives, cap_archives;
    int64_t n_other;      /* files that are no pictures by name, and folders too deep */
    bool drop_duplicates; /* of file bytes: the first is kept */
    /* NULL, or: should this decoded picture be in the pack at all? Called on many threads. */
    bool (*wanted)(const struct lcl_image *image);
    /* NULL, or: writes what else goes in the file, once its pictures, keep[i] of items, are there.
     * A pack then need not hold any. */
    lcl_status (*write_more)(void *more, struct lcl_h5 *f, const struct lcl_item *items,
                             const bool *keep);
    void *more;
};

/* LCL_CONFIG for an unknown format, LCL_NOT_FOUND, LCL_FORMAT for empty classes (named). */
LCL_CHECKED lcl_status lcl_source_list(const struct lcl_pack_options *o, struct lcl_listing *out);
void lcl_listing_free(struct lcl_listing *l);

/* For sources. */
LCL_CHECKED lcl_status lcl_listing_add_class(struct lcl_listing *l, const char *id,
                                             const char *name, int32_t *index);
/* The class with this id, added where there is none yet. */
LCL_CHECKED lcl_status lcl_listing_class(struct lcl_listing *l, const char *id, const char *name,
                                         int32_t *index);
LCL_CHECKED lcl_status lcl_listing_add_file(struct lcl_listing *l, const char *name,
                                            int32_t class_index);
/* A member of an archive of the listing, size_bytes at `offset`. */
LCL_CHECKED lcl_status lcl_listing_add_member(struct lcl_listing *l, const char *name,
                                              int32_t class_index,
                                              const struct lcl_source_file *where);
LCL_CHECKED lcl_status lcl_listing_add_archive(struct lcl_listing *l, const char *path);
bool lcl_source_is_picture(const char *file_name);
/* Held out by name: MD5 of the id as a number, modulo 1 / fraction where that is whole
 * (docs/formats.md). */
enum lcl_split lcl_source_split(const char *id, double test_fraction);

LCL_CHECKED lcl_status lcl_source_imagefolder(const struct lcl_pack_options *o,
                                              struct lcl_listing *out);
LCL_CHECKED lcl_status lcl_source_wesnoth(const struct lcl_pack_options *o,
                                          struct lcl_listing *out);
LCL_CHECKED lcl_status lcl_source_imagenet(const struct lcl_pack_options *o,
                                           struct lcl_listing *out);
LCL_CHECKED lcl_status lcl_source_webdataset(const struct lcl_pack_options *o,
                                             struct lcl_listing *out);

#endif
