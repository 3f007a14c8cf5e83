/* The official train table as a source of classes: JSON lines
 * {"class_id", "class_name", "samples": [path...], "neighbors": [[class_id, class_name, path]...]},
 * neighbors from most to least similar (docs/formats.md). */
#ifndef LCL_DATA_TABLE_H
#define LCL_DATA_TABLE_H

#include "data/neighbors.h"
#include "data/pack.h"

enum { LCL_TABLE_NAMES_BYTES = 256 };

struct lcl_table_options {
    const char *table;      /* the file */
    const char *images;     /* folder that its paths begin in, archives that hold its pictures
                               (archived.h), or a folder with some of both; "none": not read */
    bool neighbor_pictures; /* the pictures that rows show of their neighbors are pictures too */
};

/* What a table does not say outright. Counts of pictures are of samples. */
struct lcl_table_flaws {
    int64_t n_samples;
    int64_t n_validation; /* of ImageNet's validation set, by their paths */
    int64_t n_repeated;   /* paths that stand twice in a row: the second is left out */
    int64_t n_shared;     /* paths in the rows of two classes */
    int64_t n_outside;    /* pictures of neighbors that are no samples of theirs */
    int64_t n_unknown;    /* neighbors that have no row: left out, the next one moves up */
    int64_t n_renamed;    /* neighbors with another name than in their own row */
    int32_t n_names;      /* names that several classes have */
    char names[LCL_TABLE_NAMES_BYTES]; /* the first of them */
};

/* Opens a table as a pack of train classes in its order, and its neighbors (width 0 where no row
 * has any). Pictures are numbered row by row, those of neighbors after all samples; the content
 * hash covers names, and sizes and times of the pictures or of their archives. Where pictures lie
 * in archives is kept beside the table (TABLE.archives). A missing picture is LCL_NOT_FOUND.
 * lcl_pack_close and lcl_neighbors_free. LCL_FORMAT and LCL_RANGE name file, row and key. */
LCL_CHECKED lcl_status lcl_pack_open_table(const struct lcl_table_options *o, struct lcl_pack *pack,
                                           struct lcl_neighbors *neighbors,
                                           struct lcl_table_flaws *flaws);
/* Flaws in words, malloc'd; "" where there are none, NULL when memory ran out. */
char *lcl_table_flaws_text(const struct lcl_table_flaws *f);

#endif
