/* Questions with answers, of a pack of rows or of JSON lines, for suites of rows. */
#ifndef LCL_TOOLS_EVAL_ROWS_READ_H
#define LCL_TOOLS_EVAL_ROWS_READ_H

#include <jansson.h>

#include "data/pack.h"

struct eval_row {
    json_t *turns; /* [{"role":, "content":}...], the last a user's; "<image>" where pictures are */
    json_t *answers; /* texts, one or more */
    json_t *images;  /* names, as lines show them */
    int64_t *number; /* [images] in the pack; NULL: files */
};
struct eval_rows {
    const char *name;   /* of the file */
    const char *images; /* folder of files; "" : their paths are whole */
    struct lcl_pack pack;
    bool packed;
    int64_t n, cap;
    struct eval_row *v;
};

/* FILE.h5: a pack, whose rows' last answers are asked for. Else JSON lines, or a JSON list, of
 *   {"image": name, or "images": [names], "question": text, "answers": [texts] or "answer": text}
 * where "references" and "target" are other names of the answers. ask: text in which {question}
 * stands for a line's question, or NULL. join_pictures: rows of one picture become one, with all of
 * their answers (captions). At most `most` rows (0: all). Errors name file, line and key. */
LCL_CHECKED lcl_status eval_rows_read(const char *path, const char *images, const char *ask,
                                      bool join_pictures, int64_t most, struct eval_rows *rows);
/* The same of one line, which is added. */
LCL_CHECKED lcl_status eval_rows_add(struct eval_rows *rows, const json_t *line, const char *ask);
void eval_rows_free(struct eval_rows *rows);

#endif
