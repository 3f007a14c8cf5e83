/* Image tokens selected and pooled. Every kind is a grid of tokens cut in cells of one size, and
 * the mean of each cell.
 * Legend: I images, T tokens an image, C width, N = lcl_image_pool_tokens(). */
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

struct cells {
    unsigned T, N, first;          /* first: the token where the grid begins */
    unsigned line, across;         /* of the grid: tokens, cells */
    unsigned cell_rows, cell_line; /* of a cell: lines, tokens of each */
};

static struct cells cells_of(const struct lcl_image_pool_args *a)
{
    const unsigned selected = (unsigned)(a->T - a->first_token);
    unsigned side = 1;
    while (side * side < selected) side++;
    struct cells g = {};
    g.T = (unsigned)a->T, g.first = (unsigned)a->first_token;
    g.N = (unsigned)lcl_image_pool_tokens(a->kind, a->T, a->first_token);
    g.line = a->kind == LCL_POOL_2X2 ? side : selected;
    g.across = a->kind == LCL_POOL_2X2 ? 2 : g.N;
    g.cell_rows = a->kind == LCL_POOL_2X2 ? side / 2 : 1;
    g.cell_line = g.line / g.across;
    return g;
}

/* A block makes one output token. */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_BLOCK, ROW_BLOCKS)
    image_pool_fwd_kernel(cells g, const T *x_ITC, int64_t C, T *y_INC)
{
    const int64_t c = my_column<V>();
    const unsigned image = blockIdx.x / g.N, n = blockIdx.x % g.N;
    const unsigned corner = n / g.across * g.cell_rows * g.line + n % g.across * g.cell_line;
    if (c >= C) return;
    const T *x_cell = x_ITC + ((int64_t)image * g.T + g.first + corner) * C + c;
    float sum[V] = {};
    for (unsigned row = 0; row < g.cell_rows; row++)
#pragma unroll 8
        for (unsigned i = 0; i < g.cell_line; i++) {
            float x[V];
            load_elements<V>(x_cell + (row * g.line + i) * C, x);
            for (int j = 0; j < V; j++) sum[j] += x[j];
        }
    const float share = 1.0f / (float)(g.cell_rows * g.cell_line);
    for (int j = 0; j < V; j++) sum[j] *= share;
    store_elements<V>(y_INC + blockIdx.x * C + c, sum);
}

/* A block makes one input token's gradient. */
template <typename T, int V>
static __global__ void image_pool_bwd_kernel(cells g, const T *d_y_INC, int64_t C, T *d_x_ITC)
{
    const int64_t c = my_column<V>();
    const unsigned image = blockIdx.x / g.T, t = blockIdx.x % g.T;
    if (c >= C) return;
    float x[V] = {};
    if (t >= g.first) {
        const unsigned y = (t - g.first) / g.line, left = (t - g.first) % g.line;
        const unsigned n = y / g.cell_rows * g.across + left / g.cell_line;
        const float share = 1.0f / (float)(g.cell_rows * g.cell_line);
        load_elements<V>(d_y_INC + ((int64_t)image * g.N + n) * C + c, x);
        for (int j = 0; j < V; j++) x[j] *= share;
    }
    store_elements<V>(d_x_ITC + blockIdx.x * C + c, x);
}

template <typename T>
static lcl_status image_pool_fwd(struct lcl_cuda_device *d, const struct lcl_image_pool_args *a)
{
    const struct cells g = cells_of(a);
    return LAUNCH_ROWS(d, image_pool_fwd_kernel, T, wide<T>(), all_wide<T>(a->C, a->x_ITC, a->y),
                       a->I * g.N, a->C, g, (const T *)a->x_ITC, a->C, (T *)a->y);
}

template <typename T>
static lcl_status image_pool_bwd(struct lcl_cuda_device *d, const struct lcl_image_pool_args *a)
{
    return LAUNCH_ROWS(d, image_pool_bwd_kernel, T, wide<T>(),
                       all_wide<T>(a->C, a->d_y, a->d_x_ITC), a->I * a->T, a->C, cells_of(a),
                       (const T *)a->d_y, a->C, (T *)a->d_x_ITC);
}

lcl_status lcl_cuda_image_pool_fwd(struct lcl_exec *ex, const struct lcl_image_pool_args *a)
{
    LCL_TRY(lcl_check_image_pool(a));
    return BY_DTYPE(a->dtype, image_pool_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_image_pool_bwd(struct lcl_exec *ex, const struct lcl_image_pool_args *a)
{
    LCL_TRY(lcl_check_image_pool(a));
    if (!a->d_x_ITC) return LCL_OK;
    return BY_DTYPE(a->dtype, image_pool_bwd, lcl_cuda_device_of(ex), a);
}
