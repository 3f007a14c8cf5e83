/* Rows of data sets as normalised conversations: what `lcl pack --format llava, ...` writes.
 *
 * A new format is one function that turns a row into messages, and one line in row_formats.c. */
#ifndef LCL_DATA_ROWS_H
#define LCL_DATA_ROWS_H

#include <jansson.h>

#include "core/status.h"

struct lcl_row_format {
    const char *name;
    const char *doc;              /* its keys, for --help and messages */
    const char *const *templates; /* up to a NULL: questions of our own; NULL: rows bring theirs */
    const char *needs;            /* what each template must hold besides <image>; NULL: nothing */
    const char *image_name; /* pattern of a picture's name by its number; NULL: rows name it */
    bool boxes;             /* its texts hold boxes or points */
    bool shards;            /* its rows are samples of WebDataset shards, not of a table */
    lcl_status (*convert)(void *row); /* see row_write.h */
};
/* NULL where there is none of that name. */
const struct lcl_row_format *lcl_row_format_find(const char *name);
/* By number, up to NULL. */
const struct lcl_row_format *lcl_row_format_at(size_t i);

/* Questions of a user's own: a JSON list of texts. */
struct lcl_row_templates {
    json_t *list;
};
/* LCL_FORMAT names file, text and what is missing in it. */
LCL_CHECKED lcl_status lcl_row_templates_load(const char *path, const struct lcl_row_format *format,
                                              struct lcl_row_templates *t);

/* What converting rows of a table needs besides the rows. */
struct lcl_row_context {
    const struct lcl_row_format *format;
    const json_t *templates; /* list of texts; NULL: the format's */
    const char *image_name;  /* pattern: {id}, or {id:12} with zeros to 12 digits */
    const char *path;        /* of the table; row and line: for messages */
    int64_t row, line;
    /* Number and size of a picture by its name below the picture folder; size 0: not yet known. */
    lcl_status (*picture)(void *ctx, const char *name, int64_t *number, int *width, int *height);
    void *ctx;
};
/* *out: {"messages": [{"role":, "content":, "learn": false where an answer is not learned}...],
 * "images": [numbers], "boxes": [[x1, y1, x2, y2]...] in fractions of the first picture padded to a
 * square, "line": of the table}. LCL_FORMAT: file, line, row, key, what was wanted and what is
 * there. */
LCL_CHECKED lcl_status lcl_row_convert(const struct lcl_row_context *context, const json_t *row,
                                       json_t **out);

#endif
