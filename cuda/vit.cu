/* The vision tower's entry: pictures cut in patches, and the token matrix assembled.
 * Legend: I images, P patches, T = P + 1 tokens, C width, K = 3 * patch * patch, S side of the
 * picture. */
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

/* --- patchify --- */

/* Where a lane's columns come from; a block writes one patch. */
struct patch_line {
    int64_t from; /* element of the pictures */
    unsigned channel;
};

LCL_DEVICE patch_line my_line(unsigned k, unsigned S, unsigned patch)
{
    const unsigned side = S / patch, image = blockIdx.x / (side * side);
    const unsigned top = blockIdx.x / side % side * patch, left = blockIdx.x % side * patch;
    const unsigned line = k / patch, x = k % patch; /* lines of 3 channels */
    const int64_t plane = (int64_t)image * 3 + line / patch, y = top + line % patch;
    return {(plane * S + y) * S + left + x, line / patch};
}

template <typename T, int V>
static __global__ void patchify_fwd_kernel(const float *pixel_I3SS, unsigned S, unsigned patch,
                                           T *row_IPK)
{
    const int64_t k = my_column<V>(), K = (int64_t)3 * patch * patch;
    if (k >= K) return;
    const patch_line line = my_line((unsigned)k, S, patch);
    copy_elements<V>(row_IPK + blockIdx.x * K + k, pixel_I3SS + line.from);
}

struct normal {
    double mean[3], std[3];
};

/* The same of bytes, normalised. */
template <typename T, int V>
static __global__ void patchify_bytes_fwd_kernel(const uint8_t *byte_I3SS, normal n, unsigned S,
                                                 unsigned patch, T *row_IPK)
{
    const int64_t k = my_column<V>(), K = (int64_t)3 * patch * patch;
    if (k >= K) return;
    const patch_line line = my_line((unsigned)k, S, patch);
    const unsigned c = line.channel; /* an index would bring n into local memory */
    const double mean = c == 0 ? n.mean[0] : c == 1 ? n.mean[1] : n.mean[2];
    const double std = c == 0 ? n.std[0] : c == 1 ? n.std[1] : n.std[2];
    uint32_t bytes;
    if constexpr (V == 4)
        bytes = *(const uint32_t *)(byte_I3SS + line.from);
    else
        bytes = byte_I3SS[line.from];
    float x[V];
#pragma unroll
    for (int i = 0; i < V; i++, bytes >>= 8) x[i] = (float)(((bytes & 255) / 255.0 - mean) / std);
    store_elements<V>(row_IPK + blockIdx.x * K + k, x);
}

template <typename T>
static lcl_status patchify_fwd(struct lcl_cuda_device *d, const struct lcl_patchify_args *a)
{
    const int64_t side = a->size / a->patch, K = 3 * a->patch * a->patch;
    const int64_t count = a->I * 3 * a->size * a->size;
    const void *from = a->byte_I3SS ? (const void *)a->byte_I3SS : a->pixel_I3SS;
    const size_t bytes = (size_t)count * (a->byte_I3SS ? 1 : sizeof(float));
    normal n = {};
    void *sent;
    if (!a->I) return LCL_OK;
    LCL_TRY(lcl_cuda_unrecorded(d, "patchify"));
    LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_ROWS, bytes, &sent));
    LCL_TRY(lcl_cuda_send(d, sent, from, bytes));
    /* a lane's elements are of one line */
    const bool wide_rows = a->size % MIXED == 0 && all_wide<float>(a->patch, a->row_IPK);
    if (!a->byte_I3SS)
        return LAUNCH_ROWS(d, patchify_fwd_kernel, T, MIXED, wide_rows, a->I * side * side, K,
                           (const float *)sent, a->size, a->patch, (T *)a->row_IPK);
    for (int c = 0; c < 3; c++) n.mean[c] = a->mean[c], n.std[c] = a->std[c];
    return LAUNCH_ROWS(d, patchify_bytes_fwd_kernel, T, MIXED, wide_rows, a->I * side * side, K,
                       (const uint8_t *)sent, n, a->size, a->patch, (T *)a->row_IPK);
}

lcl_status lcl_cuda_patchify_fwd(struct lcl_exec *ex, const struct lcl_patchify_args *a)
{
    LCL_TRY(lcl_check_patchify(a));
    return BY_DTYPE(a->dtype, patchify_fwd, lcl_cuda_device_of(ex), a);
}

/* --- vit_assemble --- */

template <typename T, int V>
static __global__ void vit_assemble_fwd_kernel(const T *patch_IPC, const float *class_C,
                                               const float *position_TC, unsigned P, int64_t C,
                                               T *x_ITC)
{
    const int64_t c = my_column<V>();
    const unsigned image = blockIdx.x / (P + 1), t = blockIdx.x % (P + 1);
    if (c >= C) return;
    float x[V], position[V];
    if (t > 0)
        load_elements<V>(patch_IPC + ((int64_t)image * P + t - 1) * C + c, x);
    else
        load_elements<V>(class_C + c, x);
    load_elements<V>(position_TC + t * C + c, position);
    for (int i = 0; i < V; i++) x[i] += position[i];
    store_elements<V>(x_ITC + blockIdx.x * C + c, x);
}

template <int V> LCL_DEVICE void add_elements(float *to, const float x[V])
{
    float sum[V];
    load_elements<V>(to, sum);
    for (int i = 0; i < V; i++) sum[i] += x[i];
    store_elements<V>(to, sum);
}

/* A block owns a token position of every image, so the sums over images need no partials. */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_BLOCK, ROW_BLOCKS)
    vit_assemble_bwd_kernel(const T *__restrict__ d_x_ITC, int64_t I, int64_t P, int64_t C,
                            T *__restrict__ d_patch_IPC, float *d_class_C, float *d_position_TC)
{
    const int64_t c = my_column<V>(), t = blockIdx.x;
    if (c >= C) return;
    const bool to_patch = t > 0 && d_patch_IPC;
    const T *from = d_x_ITC + t * C + c;
    T *to = to_patch ? d_patch_IPC + (t - 1) * C + c : NULL;
    float sum[V] = {};
#pragma unroll 8
    for (int64_t image = 0; image < I; image++, from += (P + 1) * C) {
        float x[V];
        load_elements<V>(from, x);
        for (int i = 0; i < V; i++) sum[i] += x[i];
        if (to_patch) store_elements<V>(to, x), to += P * C;
    }
    if (d_position_TC) add_elements<V>(d_position_TC + t * C + c, sum);
    if (d_class_C && t == 0) add_elements<V>(d_class_C + c, sum);
}

template <typename T>
static lcl_status vit_assemble_fwd(struct lcl_cuda_device *d, const struct lcl_vit_assemble_args *a)
{
    const bool wide_rows =
        all_wide<float>(a->C, a->patch_IPC, a->class_C, a->position_TC, a->x_ITC);
    return LAUNCH_ROWS(d, vit_assemble_fwd_kernel, T, MIXED, wide_rows, a->I * (a->P + 1), a->C,
                       (const T *)a->patch_IPC, a->class_C, a->position_TC, a->P, a->C,
                       (T *)a->x_ITC);
}

template <typename T>
static lcl_status vit_assemble_bwd(struct lcl_cuda_device *d, const struct lcl_vit_assemble_args *a)
{
    const bool wide_rows =
        all_wide<float>(a->C, a->d_x_ITC, a->d_patch_IPC, a->d_class_C, a->d_position_TC);
    return LAUNCH_ROWS(d, vit_assemble_bwd_kernel, T, MIXED, wide_rows, a->P + 1, a->C,
                       (const T *)a->d_x_ITC, a->I, a->P, a->C, (T *)a->d_patch_IPC, a->d_class_C,
                       a->d_position_TC);
}

lcl_status lcl_cuda_vit_assemble_fwd(struct lcl_exec *ex, const struct lcl_vit_assemble_args *a)
{
    LCL_TRY(lcl_check_vit_assemble(a));
    return BY_DTYPE(a->dtype, vit_assemble_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_vit_assemble_bwd(struct lcl_exec *ex, const struct lcl_vit_assemble_args *a)
{
    LCL_TRY(lcl_check_vit_assemble(a));
    if (a->I == 0 || (!a->d_patch_IPC && !a->d_class_C && !a->d_position_TC)) return LCL_OK;
    return BY_DTYPE(a->dtype, vit_assemble_bwd, lcl_cuda_device_of(ex), a);
}
