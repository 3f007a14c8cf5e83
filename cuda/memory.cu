/* Zeroing; elements between the host's memory and the device's, with a change of dtype. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

lcl_status lcl_cuda_zero_fwd(struct lcl_exec *ex, const struct lcl_zero_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    LCL_TRY(lcl_check_count("zero", a->bytes));
    if (!a->bytes) return LCL_OK;
    LCL_CUDA_TRY(cudaMemsetAsync(a->x, 0, (size_t)a->bytes, (cudaStream_t)d->stream));
    return lcl_cuda_op_end(d);
}

static lcl_status cast(struct lcl_exec *ex, int64_t count, lcl_dtype x_dtype, lcl_dtype y_dtype,
                       const void *x, void *y)
{
    struct lcl_cast_args a = {};
    a.count = count;
    a.x_dtype = x_dtype, a.y_dtype = y_dtype;
    a.x = x, a.y = y;
    return lcl_cuda_cast_fwd(ex, &a);
}

lcl_status lcl_cuda_upload_fwd(struct lcl_exec *ex, const struct lcl_upload_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    const size_t bytes = (size_t)a->count * sizeof(float);
    void *to = a->y;
    LCL_TRY(lcl_check_count("upload", a->count));
    if (!a->count) return LCL_OK;
    LCL_TRY(lcl_cuda_unrecorded(d, "upload"));
    if (a->y_dtype != LCL_F32) LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_ROWS, bytes, &to));
    LCL_TRY(lcl_cuda_send(d, to, a->x, bytes));
    return to == a->y ? lcl_cuda_op_end(d) : cast(ex, a->count, LCL_F32, a->y_dtype, to, a->y);
}

lcl_status lcl_cuda_download_fwd(struct lcl_exec *ex, const struct lcl_download_args *a)
{
    struct lcl_cuda_device *d = lcl_cuda_device_of(ex);
    const size_t bytes = (size_t)a->count * sizeof(float);
    const void *from = a->x;
    LCL_TRY(lcl_check_count("download", a->count));
    LCL_TRY(lcl_cuda_unrecorded(d, "download or a wait"));
    if (a->count && a->x_dtype != LCL_F32) {
        void *wide;
        LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_ROWS, bytes, &wide));
        LCL_TRY(cast(ex, a->count, a->x_dtype, LCL_F32, a->x, wide));
        from = wide;
    }
    if (a->count)
        LCL_CUDA_TRY(
            cudaMemcpyAsync(a->y, from, bytes, cudaMemcpyDeviceToHost, (cudaStream_t)d->stream));
    return lcl_cuda_sync(ex);
}
