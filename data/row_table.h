/* Tables of rows: a JSON object a line, or one JSON list of objects, read row by row in bounded
 * memory. */
#ifndef LCL_DATA_ROW_TABLE_H
#define LCL_DATA_ROW_TABLE_H

#include <jansson.h>
#include <stdio.h>

#include "core/status.h"

struct lcl_row_table {
    const char *path; /* the caller's */
    int64_t row;      /* of the row read last, from 1 */
    int64_t line;     /* where it begins, from 1 */
    /* The rest is the table's own. */
    FILE *f;
    bool list, begun, ended;
    int64_t lines;
    char *text;
    size_t n, cap;
};

/* LCL_NOT_FOUND, LCL_IO; only regular files. */
LCL_CHECKED lcl_status lcl_row_table_open(const char *path, struct lcl_row_table *t);
/* The next row, which the caller releases; NULL behind the last. LCL_FORMAT names file, line and
 * row; where `mended` is there it is set when the next row can be read all the same. */
LCL_CHECKED lcl_status lcl_row_table_next(struct lcl_row_table *t, json_t **row, bool *mended);
void lcl_row_table_close(struct lcl_row_table *t);

#endif
