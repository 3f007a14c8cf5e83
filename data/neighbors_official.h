/* Neighbor tables from and to the official form (data/official_table.h). */
#ifndef LCL_DATA_NEIGHBORS_OFFICIAL_H
#define LCL_DATA_NEIGHBORS_OFFICIAL_H

#include "data/neighbors.h"

/* What an import passed over. */
struct lcl_official_report {
    int64_t rows;               /* of the file */
    int64_t unknown_rows;       /* whose class the pack lacks */
    int32_t missing;            /* classes of the pack without a row */
    char first_missing[128];    /* id of one of them */
    int64_t neighbors;          /* taken */
    int64_t unknown_neighbors;  /* whose class the pack lacks */
    int64_t other_split;        /* neighbors of the other split: leakage */
    int64_t repeated;           /* neighbors that are the class itself, or there before */
    int64_t shared_paths;       /* paths that several rows list, of the first 2^21 different ones */
    int64_t paths_not_compared; /* beyond these */
    int64_t val_paths;          /* sample paths below val/, of a table of train classes */
};
/* A row's class is the pack's class whose id is class_id, else the folder of the row's first
 * sample (a synset), else the one whose name is class_name. LCL_FORMAT naming file and line where a
 * name alone fits several classes, or two rows are one class; LCL_NOT_FOUND where no row fits. The
 * file knows no similarities: they are 0. */
LCL_CHECKED lcl_status lcl_neighbors_import(const struct lcl_pack *pack, const char *path,
                                            struct lcl_neighbors *out,
                                            struct lcl_official_report *report);
/* A row for each train class: its id, name, at most `samples` picture names (0: all) evenly spread,
 * and its neighbors, each with one picture drawn by a stream of the seed. */
LCL_CHECKED lcl_status lcl_neighbors_export(struct lcl_pack *pack, const struct lcl_neighbors *t,
                                            int64_t samples, uint64_t seed, const char *path);

#endif
