/* A row while a format turns it into messages: what row_formats.c is written with. */
#ifndef LCL_DATA_ROW_WRITE_H
#define LCL_DATA_ROW_WRITE_H

#include "data/rows.h"

struct row {
    const struct lcl_row_context *context;
    const json_t *in;
    json_t *messages, *images, *boxes, *kept; /* kept: texts until the row is done */
    int width, height;                        /* of the first picture; 0: not yet known */
};

/* "file:line: row N: key: wanted X, got Y". */
LCL_CHECKED lcl_status row_wrong(const struct row *r, const char *key, const char *wanted,
                                 const json_t *got);
/* A text of in[key] that is not empty. */
LCL_CHECKED lcl_status row_text(const struct row *r, const json_t *in, const char *key,
                                const char **text);
/* A list of in[key] with `least` items or more. */
LCL_CHECKED lcl_status row_list(const struct row *r, const json_t *in, const char *key,
                                size_t least, const json_t **list);
/* The value under the first of two keys that is there, and which it is. */
const json_t *row_either(const json_t *in, const char *a, const char *b, const char **key);
/* printf that lives until the row is done; NULL when memory ran out. */
const char *row_format(struct row *r, const char *fmt, ...) LCL_PRINTF(2, 3);
/* A malloc'd text of n bytes, which it takes; the same. */
const char *row_keep(struct row *r, char *text, size_t n);
/* The picture of that name, a path below the picture folder. */
LCL_CHECKED lcl_status row_picture(struct row *r, const char *key, const char *name);
/* The picture that in[key] names, or numbers: by the pattern of the context. */
LCL_CHECKED lcl_status row_picture_of(struct row *r, const json_t *in, const char *key);
LCL_CHECKED lcl_status row_say(struct row *r, const char *role, const char *text, bool learned);
/* One of the templates, filled, as the user's turn, and the answer. */
struct row_fills {
    const char *question, *expr, *objs, *boxes, *points;
};
LCL_CHECKED lcl_status row_ask(struct row *r, const struct row_fills *fills, const char *answer);
/* Boxes [x1, y1, x2, y2] in pixels as "[x1,y1,x2,y2;...]" in fractions of the padded picture; of
 * the list's boxes those that `which` numbers (NULL: all). */
LCL_CHECKED lcl_status row_boxes(struct row *r, const char *key, const json_t *boxes,
                                 const json_t *which, const char **text);
/* One box; a point [x, y] or {"x":, "y":}. */
LCL_CHECKED lcl_status row_box(struct row *r, const char *key, const json_t *box,
                               const char **text);
LCL_CHECKED lcl_status row_point(struct row *r, const char *key, const json_t *point,
                                 const char **text);

#endif
