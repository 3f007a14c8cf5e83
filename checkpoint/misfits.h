/* What of a file does not fit a model: a list for one message. */
#ifndef LCL_CHECKPOINT_MISFITS_H
#define LCL_CHECKPOINT_MISFITS_H

#include "core/param.h"

/* A line each, cut short when it grows long. */
struct lcl_misfits {
    int n;
    size_t used;
    char text[1500]; /* "\n  LINE\n  LINE" */
};
void lcl_misfits_add(struct lcl_misfits *m, const char *fmt, ...) LCL_PRINTF(2, 3);
/* True, with a line, where the tensor `name` has another shape than the row. */
bool lcl_misfits_shape(struct lcl_misfits *m, const char *name, int n_dims, const int64_t *shape,
                       const struct lcl_param *row);
/* LCL_SHAPE with the list; LCL_OK when it is empty. */
LCL_CHECKED lcl_status lcl_misfits_refuse(const struct lcl_misfits *m, const char *path,
                                          const char *hint);

#endif
