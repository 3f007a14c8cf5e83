#include "checkpoint/misfits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/safetensors.h"

enum { LINE_BYTES = 400 };

void lcl_misfits_add(struct lcl_misfits *m, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    m->n++;
    if (m->used + strlen(line) + 3 >= sizeof m->text) return;
    m->used += (size_t)snprintf(m->text + m->used, sizeof m->text - m->used, "\n  %s", line);
}

bool lcl_misfits_shape(struct lcl_misfits *m, const char *name, int n_dims, const int64_t *shape,
                       const struct lcl_param *row)
{
    char has[128], wants[128];
    bool same = n_dims == row->n_dims;
    for (int d = 0; same && d < n_dims; d++) same = shape[d] == row->shape[d];
    if (!same)
        lcl_misfits_add(m, "misshapen: %.200s is %s, wanted %s", name,
                        lcl_st_shape_text(n_dims, shape, has, sizeof has),
                        lcl_st_shape_text(row->n_dims, row->shape, wants, sizeof wants));
    return !same;
}

lcl_status lcl_misfits_refuse(const struct lcl_misfits *m, const char *path, const char *hint)
{
    if (m->n == 0) return LCL_OK;
    return LCL_FAIL_HINT(LCL_SHAPE, hint, "%s does not fit the model; %d tensor%s:%s%s", path, m->n,
                         m->n == 1 ? "" : "s", m->text,
                         m->used + LINE_BYTES + 3 > sizeof m->text ? "\n  ..." : "");
}
