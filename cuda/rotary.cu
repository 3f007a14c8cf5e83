/* Rotary embeddings, rotate-half convention. One block a token: the sines and cosines of its angles
 * are made once, in shared memory, for all its heads.
 * Legend: T tokens, D head width, V pairs that a lane turns at once. */
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

template <typename T> struct rotary_rows {
    int64_t row_stride;
    int n_heads, half; /* D / 2 */
    T *x;
    const int32_t *position_T;
    const float *inv_freq;
    float scale, sign; /* -1 for the inverse, which is also the transpose */
};

/* As in cpu/simd.h: of an f32 angle of any size a position can have (|a| < 2^30), within 1e-7. The
 * reduction to a quadrant is in f64; there the polynomials suffice. */
LCL_DEVICE void sine_and_cosine(float a, float *sine, float *cosine)
{
    const double n = rint((double)a * 0.63661977236758134);
    const float r = (float)((double)a - n * 1.5707963267948966), q = r * r;
    float s = -1.95878897e-4f;
    s = s * q + 8.332748265e-3f;
    s = s * q - 1.666666466e-1f;
    s = s * q * r + r;
    float c = 2.446378672e-5f;
    c = c * q - 1.388758914e-3f;
    c = c * q + 4.166665064e-2f;
    c = c * q - 4.999999997e-1f;
    c = c * q + 1.0f;
    const int quadrant = (int)n;
    const float ss = quadrant & 1 ? c : s, cc = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -ss : ss;
    *cosine = (quadrant + 1) & 2 ? -cc : cc;
}

template <typename T, int V> static __global__ void rotary_kernel(rotary_rows<T> r)
{
    SHARED_BYTES(shared);
    float *cosines = (float *)shared, *sines = cosines + r.half;
    const int threads = (int)blockDim.x, first = (int)threadIdx.x, a_head = r.half / V;
    const float position = (float)r.position_T[blockIdx.x];
    for (int i = first; i < r.half; i += threads) {
        float s, c;
        sine_and_cosine(position * r.inv_freq[i], &s, &c);
        cosines[i] = c * r.scale;
        sines[i] = s * r.scale * r.sign;
    }
    sync_block();
    T *row = r.x + blockIdx.x * r.row_stride;
    for (int p = first; p < r.n_heads * a_head; p += threads) {
        const int h = p / a_head, i = p % a_head * V;
        T *low = row + h * 2 * r.half + i, *high = low + r.half;
        float a[V], b[V], c[V], s[V];
        load_elements<V>(low, a);
        load_elements<V>(high, b);
        load_elements<V>(cosines + i, c);
        load_elements<V>(sines + i, s);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float x0 = a[j], x1 = b[j];
            a[j] = x0 * c[j] - x1 * s[j];
            b[j] = x1 * c[j] + x0 * s[j];
        }
        store_elements<V>(low, a);
        store_elements<V>(high, b);
    }
}

template <typename T>
static lcl_status rotate(struct lcl_cuda_device *d, const struct lcl_rotary_args *a, float sign)
{
    enum { MAX_BLOCK = 256 };
    constexpr int V = MIXED; /* sines and cosines are f32 */
    const void *position_T, *inv_freq;
    LCL_TRY(lcl_cuda_upload(d, a->position_T, (size_t)a->T * sizeof(int32_t), &position_T));
    LCL_TRY(lcl_cuda_upload(d, a->inv_freq, (size_t)a->D / 2 * sizeof(float), &inv_freq));
    rotary_rows<T> r = {};
    r.row_stride = a->row_stride, r.n_heads = (int)a->n_heads, r.half = (int)a->D / 2;
    r.x = (T *)a->x, r.position_T = (const int32_t *)position_T;
    r.inv_freq = (const float *)inv_freq, r.scale = a->scale, r.sign = sign;
    const bool is_wide = all_wide<float>(r.half, a->x) && a->row_stride % V == 0;
    const unsigned warps = blocks_for(a->n_heads * r.half, WARP * (is_wide ? V : 1));
    const dim3 grid = dims((unsigned)a->T);
    const dim3 block = dims(warps * WARP < MAX_BLOCK ? warps * WARP : (unsigned)MAX_BLOCK);
    const size_t shared = (size_t)a->D * sizeof(float);
    if (is_wide) return LCL_LAUNCH(d, (rotary_kernel<T, V>), grid, block, shared, r);
    return LCL_LAUNCH(d, (rotary_kernel<T, 1>), grid, block, shared, r);
}

static lcl_status rotary(struct lcl_exec *ex, const struct lcl_rotary_args *a, float sign)
{
    LCL_TRY(lcl_check_rotary(a));
    if (a->n_heads > INT32_MAX / a->D)
        return LCL_FAIL(LCL_SHAPE, "rotary: %lld heads of width %lld are too many for this backend",
                        (long long)a->n_heads, (long long)a->D);
    if (!a->T || !a->n_heads) return LCL_OK;
    return BY_DTYPE(a->dtype, rotate, lcl_cuda_device_of(ex), a, sign);
}

lcl_status lcl_cuda_rotary_fwd(struct lcl_exec *ex, const struct lcl_rotary_args *a)
{
    return rotary(ex, a, 1.0f);
}

lcl_status lcl_cuda_rotary_bwd(struct lcl_exec *ex, const struct lcl_rotary_args *a)
{
    return rotary(ex, a, -1.0f);
}
