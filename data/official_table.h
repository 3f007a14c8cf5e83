/* Rows of the official class tables, one JSON object a line (docs/formats.md): classes, paths of
 * their pictures, neighbors. */
#ifndef LCL_DATA_OFFICIAL_TABLE_H
#define LCL_DATA_OFFICIAL_TABLE_H

#include <stdio.h>

#include "core/status.h"

struct json_t;

enum {
    LCL_OFFICIAL_LINE_BYTES = 16 << 20,
    LCL_OFFICIAL_TEXT_BYTES = 4096, /* of a path; ids and names: LCL_CLASS_NAME_BYTES */
    LCL_OFFICIAL_NEIGHBORS = 4096
};

struct lcl_official_neighbor {
    const char *id, *name, *sample;
};
struct lcl_official_paths {
    const char **v;
    size_t n, cap;
};
/* The train file has samples and neighbors, the test file context_samples and test_samples. */
struct lcl_official_row {
    int64_t line; /* from 1 */
    const char *id, *name;
    struct lcl_official_paths samples, context_samples, test_samples;
    struct lcl_official_neighbor *neighbors;
    size_t n_neighbors, cap_neighbors;
};

/* One row in memory at a time. */
struct lcl_official_table {
    char path[512];
    FILE *file;
    char *text; /* the line */
    size_t cap;
    struct json_t *object;
    struct lcl_official_row row;
};
LCL_CHECKED lcl_status lcl_official_open(const char *path, struct lcl_official_table *t);
/* The next row, its texts owned by the table until the next call; NULL past the last. Empty lines
 * are passed over. LCL_FORMAT or LCL_RANGE naming file, line and key. */
LCL_CHECKED lcl_status lcl_official_next(struct lcl_official_table *t,
                                         const struct lcl_official_row **row);
void lcl_official_close(struct lcl_official_table *t);

#endif
