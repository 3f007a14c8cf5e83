/* Token embeddings, and image features spliced into their slots. Sums over tokens go in their
 * order: the host sorts the tokens by the row they add to, and one thread walks a row's tokens.
 * Legend: T tokens, C width, V vocabulary, R source rows, n slots (all different). */
#include <string.h>

#include "core/threads.h"
#include "cuda/ops.cuh"
#include "cuda/rows.cuh"

enum { SCRATCH_INDEX = 0 }; /* of the thread: sorted indices */

/* to[to_row[i]] = from[from_row[i]] for every block i; to_row NULL: to[i]. */
template <typename To, typename From, int V>
static __global__ void copy_rows_kernel(To *to, const int32_t *to_row, const From *from,
                                        const int32_t *from_row, int64_t C)
{
    const int64_t c = my_column<V>();
    const int64_t i = to_row ? to_row[blockIdx.x] : (int64_t)blockIdx.x;
    if (c < C) copy_elements<V>(to + i * C + c, from + from_row[blockIdx.x] * C + c);
}

template <typename To, typename From>
static lcl_status copy_rows(struct lcl_cuda_device *d, void *to_rows, const int32_t *to_row,
                            const void *from_rows, const int32_t *from_row, int64_t n, int64_t C)
{
    constexpr int V = sizeof(To) == sizeof(From) ? wide<To>() : (int)MIXED;
    To *to = (To *)to_rows;
    const From *from = (const From *)from_rows;
    const void *to_index, *from_index;
    LCL_TRY(lcl_cuda_upload(d, to_row, (size_t)n * sizeof *to_row, &to_index));
    LCL_TRY(lcl_cuda_upload(d, from_row, (size_t)n * sizeof *from_row, &from_index));
    if (C % V == 0 && all_wide<float>(0, to, from))
        return LCL_LAUNCH(d, (copy_rows_kernel<To, From, V>), row_grid(n, C, V), row_block(C, V), 0,
                          to, (const int32_t *)to_index, from, (const int32_t *)from_index, C);
    return LCL_LAUNCH(d, (copy_rows_kernel<To, From, 1>), row_grid(n, C, 1), row_block(C, 1), 0, to,
                      (const int32_t *)to_index, from, (const int32_t *)from_index, C);
}

/* Puts 0 .. n-1 in the order of their keys, equal keys as they stand: those with key k become
 * order[start[k] .. start[k + 1]). */
static void sort_by_key(const int32_t *key, int64_t n, int64_t limit, int32_t *start,
                        int32_t *order)
{
    memset(start, 0, (size_t)(limit + 1) * sizeof *start);
    for (int64_t i = 0; i < n; i++) start[key[i]]++;
    for (int64_t k = 0; k < limit; k++)
        start[k + 1] += start[k]; /* ends, which go down to begins */
    for (int64_t i = n - 1; i >= 0; i--) order[--start[key[i]]] = (int32_t)i;
}

/* --- embed --- */

/* A block adds the rows of one id: those of tokens order[begin[block] .. begin[block + 1]). */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_BLOCK, ROW_BLOCKS)
    embed_bwd_kernel(const T *d_out_TC, int64_t C, const int32_t *id_T, const int32_t *order,
                     const int32_t *begin, float *d_table_VC)
{
    const int64_t c = my_column<V>();
    const int32_t first = begin[blockIdx.x], end = begin[blockIdx.x + 1];
    if (c >= C) return;
    float sum[V] = {}, x[V];
#pragma unroll 8
    for (int32_t i = first; i < end; i++) {
        load_elements<V>(d_out_TC + order[i] * C + c, x);
        for (int j = 0; j < V; j++) sum[j] += x[j];
    }
    float *d_table = d_table_VC + id_T[order[first]] * C + c;
    load_elements<V>(d_table, x);
    for (int j = 0; j < V; j++) x[j] += sum[j];
    store_elements<V>(d_table, x);
}

template <typename T>
static lcl_status embed_fwd(struct lcl_cuda_device *d, const struct lcl_embed_args *a)
{
    return a->table_dtype == LCL_F32
               ? copy_rows<T, float>(d, a->out_TC, NULL, a->table_VC, a->id_T, a->T, a->C)
               : copy_rows<T, bf16>(d, a->out_TC, NULL, a->table_VC, a->id_T, a->T, a->C);
}

template <typename T>
static lcl_status embed_bwd(struct lcl_cuda_device *d, const struct lcl_embed_args *a)
{
    int32_t *order =
        (int32_t *)lcl_thread_scratch(SCRATCH_INDEX, (size_t)(a->T + a->V + 1) * sizeof *order);
    if (!order) return LCL_FAIL(LCL_MEMORY, "embed: no memory for %lld ids", (long long)a->V);
    int32_t *begin = order + a->T;
    sort_by_key(a->id_T, a->T, a->V, begin, order);
    int64_t n = 0; /* ids that occur: the others' empty ranges go */
    for (int64_t id = 0; id < a->V; id++)
        if (begin[id] < begin[id + 1]) begin[n++] = begin[id];
    begin[n] = (int32_t)a->T;
    const void *id_T, *index;
    LCL_TRY(lcl_cuda_upload(d, a->id_T, (size_t)a->T * sizeof *a->id_T, &id_T));
    LCL_TRY(lcl_cuda_upload(d, order, (size_t)(a->T + n + 1) * sizeof *order, &index));
    return LAUNCH_ROWS(d, embed_bwd_kernel, T, MIXED,
                       all_wide<float>(a->C, a->d_out_TC, a->d_table_VC), n, a->C,
                       (const T *)a->d_out_TC, a->C, (const int32_t *)id_T, (const int32_t *)index,
                       (const int32_t *)index + a->T, a->d_table_VC);
}

lcl_status lcl_cuda_embed_fwd(struct lcl_exec *ex, const struct lcl_embed_args *a)
{
    LCL_TRY(lcl_check_embed(a));
    return BY_DTYPE(a->dtype, embed_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_embed_bwd(struct lcl_exec *ex, const struct lcl_embed_args *a)
{
    LCL_TRY(lcl_check_embed(a));
    if (!a->d_table_VC || a->T == 0) return LCL_OK;
    LCL_TRY(lcl_cuda_unrecorded(lcl_cuda_device_of(ex), "embed backward"));
    return BY_DTYPE(a->dtype, embed_bwd, lcl_cuda_device_of(ex), a);
}

/* --- splice --- */

/* A block sums the slots of one source row and clears them. A slot has one source row, so the
 * thread that clears an element is the one that reads it. */
template <typename T, int V>
static __global__ void splice_bwd_kernel(T *d_dst_TC, int64_t C, const int32_t *start,
                                         const int32_t *slot, T *d_src_RC)
{
    const int64_t c = my_column<V>();
    const int32_t first = start[blockIdx.x], end = start[blockIdx.x + 1];
    if (c >= C) return;
    const float zeros[V] = {};
    float sum[V] = {};
    for (int32_t i = first; i < end; i++) {
        T *d_dst = d_dst_TC + slot[i] * C + c;
        float x[V];
        load_elements<V>(d_dst, x);
        for (int j = 0; j < V; j++) sum[j] += x[j];
        store_elements<V>(d_dst, zeros);
    }
    if (d_src_RC) store_elements<V>(d_src_RC + blockIdx.x * C + c, sum);
}

template <typename T>
static lcl_status splice_fwd(struct lcl_cuda_device *d, const struct lcl_splice_args *a)
{
    return copy_rows<T, T>(d, a->dst_TC, a->slot, a->src_RC, a->src_row, a->n, a->C);
}

template <typename T>
static lcl_status splice_bwd(struct lcl_cuda_device *d, const struct lcl_splice_args *a)
{
    const size_t bytes = (size_t)(a->R + 1 + a->n) * sizeof(int32_t);
    LCL_TRY(lcl_cuda_unrecorded(d, "splice backward"));
    int32_t *start = (int32_t *)lcl_thread_scratch(SCRATCH_INDEX, bytes);
    if (!start) return LCL_FAIL(LCL_MEMORY, "splice: no memory for %lld slots", (long long)a->n);
    int32_t *slot = start + a->R + 1;
    sort_by_key(a->src_row, a->n, a->R, start, slot);
    for (int64_t i = 0; i < a->n; i++) slot[i] = a->slot[slot[i]];
    const void *index;
    LCL_TRY(lcl_cuda_upload(d, start, bytes, &index));
    return LAUNCH_ROWS(d, splice_bwd_kernel, T, wide<T>(),
                       all_wide<T>(a->C, a->d_dst_TC, a->d_src_RC), a->R, a->C, (T *)a->d_dst_TC,
                       a->C, (const int32_t *)index, (const int32_t *)index + a->R + 1,
                       (T *)a->d_src_RC);
}

lcl_status lcl_cuda_splice_fwd(struct lcl_exec *ex, const struct lcl_splice_args *a)
{
    LCL_TRY(lcl_check_splice(a));
    return BY_DTYPE(a->dtype, splice_fwd, lcl_cuda_device_of(ex), a);
}

lcl_status lcl_cuda_splice_bwd(struct lcl_exec *ex, const struct lcl_splice_args *a)
{
    LCL_TRY(lcl_check_splice(a));
    return BY_DTYPE(a->dtype, splice_bwd, lcl_cuda_device_of(ex), a);
}
