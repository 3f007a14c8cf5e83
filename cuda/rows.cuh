/* Kernels over rows: blocks along x stand for rows, lanes and blocks along y for columns.
 * Legend: C columns, V of them a lane, T element type. */
#ifndef LCL_CUDA_ROWS_CUH
#define LCL_CUDA_ROWS_CUH

#include "cuda/kernel.cuh"

/* A kernel whose unrolled loop should have all its loads under way asks for so few blocks a
 * multiprocessor that registers suffice: __launch_bounds__(ROW_BLOCK, ROW_BLOCKS). */
enum { ROW_BLOCK = 256, ROW_BLOCKS = 4 };

/* Threads for a row of C columns. */
static inline dim3 row_block(int64_t C, int V)
{
    const int64_t threads = (C + V - 1) / V;
    return dims(threads < ROW_BLOCK ? blocks_for(threads, WARP) * WARP : (unsigned)ROW_BLOCK);
}

static inline dim3 row_grid(int64_t rows, int64_t C, int V)
{
    return dims((unsigned)rows, blocks_for(C, (int64_t)ROW_BLOCK * V));
}

/* kernel<T, V>(args...) over `rows` rows: V elements a lane where rows allow it (wide_rows), one
 * where not. V: wide<T>(), or MIXED. */
#define LAUNCH_ROWS(device, kernel, T, V, wide_rows, rows, C, ...)                              \
    ((wide_rows) ? LCL_LAUNCH(device, (kernel<T, V>), row_grid(rows, C, V), row_block(C, V), 0, \
                              __VA_ARGS__)                                                      \
                 : LCL_LAUNCH(device, (kernel<T, 1>), row_grid(rows, C, 1), row_block(C, 1), 0, \
                              __VA_ARGS__))

/* The first of this lane's V columns. */
template <int V> LCL_DEVICE int64_t my_column()
{
    return ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * V;
}

/* V elements as they are. */
template <int V, typename T> LCL_DEVICE void copy_elements(T *to, const T *from SITE)
{
    if constexpr (V == 1) {
        *to = *from;
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 16 / (int)sizeof(T))
            store16(to + i, load16(from + i AT_SITE) AT_SITE);
    }
}

/* V elements from one type to another. */
template <int V, typename To, typename From>
LCL_DEVICE void copy_elements(To *to, const From *from SITE)
{
    float x[V];
    load_elements<V>(from, x AT_SITE);
    store_elements<V>(to, x AT_SITE);
}

#endif
