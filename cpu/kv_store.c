/* Key/value cache rows. */
#include <string.h>

#include "cpu/isa.h"

lcl_status LCL_CPU(kv_store_fwd)(struct lcl_exec *ex, const struct lcl_kv_store_args *a)
{
    (void)ex;
    size_t elem = lcl_dtype_bytes(a->dtype), bytes = (size_t)a->width * elem;
    size_t stride = (size_t)a->src_stride * elem;
    LCL_TRY(lcl_check_kv_store(a));
    for (int64_t t = 0; t < a->T; t++) {
        int32_t row = a->row_T[t];
        memcpy((char *)a->k_cache + (size_t)row * bytes, (const char *)a->k + (size_t)t * stride,
               bytes);
        memcpy((char *)a->v_cache + (size_t)row * bytes, (const char *)a->v + (size_t)t * stride,
               bytes);
    }
    return LCL_OK;
}
