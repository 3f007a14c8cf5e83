/* Key/value cache rows. Legend: T tokens; their cache rows are all different. */
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

/* Blocks 0 .. T-1 store keys, the T after them values. */
template <typename T, int V>
static __global__ void kv_store_fwd_kernel(const T *k, const T *v, int64_t n_tokens, int64_t width,
                                           int64_t src_stride, const int32_t *row_T, T *k_cache,
                                           T *v_cache)
{
    const int64_t c = my_column<V>();
    const bool value = blockIdx.x >= n_tokens;
    const int64_t t = blockIdx.x - (value ? n_tokens : 0);
    if (c < width)
        copy_elements<V>((value ? v_cache : k_cache) + row_T[t] * width + c,
                         (value ? v : k) + t * src_stride + c);
}

template <typename T>
static lcl_status kv_store_fwd(struct lcl_cuda_device *d, const struct lcl_kv_store_args *a)
{
    const void *row_T;
    LCL_TRY(lcl_cuda_upload(d, a->row_T, (size_t)a->T * sizeof *a->row_T, &row_T));
    const bool wide_rows =
        all_wide<T>(a->width, a->k, a->v, a->k_cache, a->v_cache) && all_wide<T>(a->src_stride);
    return LAUNCH_ROWS(d, kv_store_fwd_kernel, T, wide<T>(), wide_rows, 2 * a->T, a->width,
                       (const T *)a->k, (const T *)a->v, a->T, a->width, a->src_stride,
                       (const int32_t *)row_T, (T *)a->k_cache, (T *)a->v_cache);
}

lcl_status lcl_cuda_kv_store_fwd(struct lcl_exec *ex, const struct lcl_kv_store_args *a)
{
    LCL_TRY(lcl_check_kv_store(a));
    return BY_DTYPE(a->dtype, kv_store_fwd, lcl_cuda_device_of(ex), a);
}
