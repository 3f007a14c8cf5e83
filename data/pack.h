/* Packs: one HDF5 file with pictures, classes, splits, neighbor tables and provenance
 * (docs/formats.md).
 *
 * A pack of 100 GB is read without loading it: the index (offsets, classes) is in memory, pictures
 * are read by number. HDF5 is not thread-safe: every call comes from one thread; decoding may run
 * on many. */
#ifndef LCL_DATA_PACK_H
#define LCL_DATA_PACK_H

#include "core/config.h"
#include "data/image.h"

enum { LCL_PACK_FORMAT_VERSION = 1, LCL_CLASS_NAME_BYTES = 128 };

struct lcl_class {
    char name[LCL_CLASS_NAME_BYTES]; /* as people say it: "elvish fighter" */
    char id[LCL_CLASS_NAME_BYTES];   /* unique: "units/elves/fighter" */
    enum lcl_split split;
    int32_t n_images;
    const int32_t *images; /* picture numbers, ascending; owned by the pack */
};

struct lcl_pack {
    char path[512];
    int64_t n_images;
    int64_t n_rows;     /* 0: a pack of classes */
    bool rows_of_boxes; /* texts of rows hold boxes or points of the padded picture */
    int32_t n_classes;
    struct lcl_class *classes;
    int32_t *image_class;  /* [n_images] */
    uint64_t content_hash; /* of all picture bytes and classes: key of feature caches */
    void *impl;
};

LCL_CHECKED lcl_status lcl_pack_open(const char *path, struct lcl_pack *pack);
void lcl_pack_close(struct lcl_pack *pack);
/* Reads picture i's stored bytes (or its decoded pixels) and decodes it to RGB(A). */
LCL_CHECKED lcl_status lcl_pack_read_image(struct lcl_pack *pack, int64_t i,
                                           const struct lcl_decode_options *options,
                                           struct lcl_image *out);
/* Reads, decodes and preprocesses n pictures in parallel: out [n, 3, S, S]. */
LCL_CHECKED lcl_status lcl_pack_read_pixels(struct lcl_pack *pack, const int64_t *images, int64_t n,
                                            const struct lcl_preprocess *p, float *out_n3SS);
/* Name of the source file of picture i, as it was packed; the pack's own. */
LCL_CHECKED lcl_status lcl_pack_image_name(const struct lcl_pack *pack, int64_t i,
                                           const char **name);
/* The JSON text of row i (rows.h), malloc'd; any thread. */
LCL_CHECKED lcl_status lcl_pack_read_row(const struct lcl_pack *pack, int64_t i, char **text,
                                         size_t *size);
/* The class index with this id, or -1. */
int32_t lcl_pack_find_class(const struct lcl_pack *pack, const char *id);
/* The same picture several times: *first [n_images], malloc'd, is for each picture the lowest
 * number of one with the same stored bytes, which is its own where there is none before it. */
LCL_CHECKED lcl_status lcl_pack_find_copies(const struct lcl_pack *pack, int32_t **first);
/* Recomputes every checksum; names the first damaged dataset. */
LCL_CHECKED lcl_status lcl_pack_verify(struct lcl_pack *pack);

/* What `lcl pack` does. */
struct lcl_pack_options {
    const char *format; /* a source of pack_source.h, or a format of rows.h */
    const char *images; /* folder, or archives as the source says */
    const char *out;
    bool decoded; /* store pixels instead of file bytes */
    bool skip_bad, force;
    double test_fraction;  /* share of classes held out, by a hash of the class id */
    int min_images;        /* classes with fewer are left out, with a line that counts them */
    uint8_t background[3]; /* recorded: what transparent pictures stand on */
    /* of archives alone (docs/formats.md); NULL: what lies beside them */
    const char *class_names; /* file of names, or "none" */
    const char *labels;      /* of imagenet: whose each validation picture is */
    /* of rows alone */
    const char *table;       /* JSON lines, or one JSON list */
    const char *templates;   /* file of questions; NULL: our own */
    const char *image_name;  /* pattern of a picture's name by its number; NULL: the format's */
    const char *caption_key; /* of webdataset-captions: key of .json; NULL: .txt, or the usual */
};
LCL_CHECKED lcl_status lcl_pack_create(const struct lcl_pack_options *options);

#endif
