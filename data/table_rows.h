/* The rows of a train table as they stand in its file. Internal to data/. */
#ifndef LCL_DATA_TABLE_ROWS_H
#define LCL_DATA_TABLE_ROWS_H

#include "core/status.h"

/* Texts are offsets in `text`. */
struct table_neighbor {
    uint64_t id, name, path;
};

struct table_row {
    int64_t line; /* of the file */
    uint64_t id, name;
    size_t sample, neighbor; /* where its own begin in the lists of all rows */
    int32_t n_samples, n_neighbors;
};

struct table_rows {
    char path[512];
    char *text;
    struct table_row *row;
    uint64_t *sample;
    struct table_neighbor *neighbor;
    size_t n_text, n_rows, n_samples, n_neighbors;
    size_t cap_text, cap_rows, cap_samples, cap_neighbors;
};

/* Reads the whole file; the rows are checked each by itself. table_rows_free, on failure too. */
LCL_CHECKED lcl_status table_rows_read(const char *path, struct table_rows *t);
void table_rows_free(struct table_rows *t);

#endif
