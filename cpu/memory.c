/* Memory of the backend, which here is the host's. */
#include "cpu/rows.h"

enum { ZERO_GRAIN = 1 << 18 }; /* bytes */

static lcl_status zero_chunk(void *ctx, int64_t chunk)
{
    const struct rows *r = ctx;
    const struct lcl_zero_args *a = r->args;
    memset((char *)a->x + rows_begin(r, chunk), 0,
           (size_t)(rows_end(r, chunk) - rows_begin(r, chunk)));
    return LCL_OK;
}

lcl_status LCL_CPU(zero_fwd)(struct lcl_exec *ex, const struct lcl_zero_args *a)
{
    (void)ex;
    LCL_TRY(lcl_check_count("zero", a->bytes));
    struct rows r = {.args = a, .n = a->bytes, .grain = ZERO_GRAIN};
    return rows_run(zero_chunk, &r);
}

lcl_status LCL_CPU(upload_fwd)(struct lcl_exec *ex, const struct lcl_upload_args *a)
{
    return LCL_CPU(cast_fwd)(ex,
                             &(struct lcl_cast_args){a->count, LCL_F32, a->y_dtype, a->x, a->y});
}

lcl_status LCL_CPU(download_fwd)(struct lcl_exec *ex, const struct lcl_download_args *a)
{
    return LCL_CPU(cast_fwd)(ex,
                             &(struct lcl_cast_args){a->count, a->x_dtype, LCL_F32, a->x, a->y});
}
