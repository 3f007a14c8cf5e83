/* LM head and cross-entropy on the supervised rows, in chunks of rows whose logits (and, in the
 * backward, bf16 gradients) fit a fixed scratch. One block a row of logits: one pass for its
 * maximum and sum of exponentials, a second one for the gradient.
 * Legend: T tokens, C width, V vocabulary, S supervised rows, n rows of a chunk. */
#include <float.h>

#include "cuda/gemm.h"
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

/* Each chunk reads and writes the gradient of all weights, so chunks are large; in the emulator
 * small ones, so that tests cross them. */
#if defined(__CUDACC__)
enum { LOGITS_BYTES = 256 << 20 };
#else
enum { LOGITS_BYTES = 64 << 10 };
#endif
enum { ALIGN = 256, ROW_BLOCK = 128, XENT_BLOCK = 512, LOSS_BLOCK = 256 };
#define NOWHERE 0xffffffffu

/* to_nC[i] = from_TC[row[i]], or to_TC[row[i]] = from_nC[i]. */
template <typename T, int W, bool SCATTER>
static __global__ void move_rows_kernel(const T *from, const int32_t *row_n, int64_t C, T *to)
{
    const int64_t at_T = row_n[blockIdx.x] * C, at_n = blockIdx.x * C;
    from += SCATTER ? at_n : at_T;
    to += SCATTER ? at_T : at_n;
    for (int64_t c = (int64_t)threadIdx.x * W; c < C; c += (int64_t)blockDim.x * W)
        if (W == 1)
            to[c] = from[c];
        else
            store16(to + c, load16(from + c));
}

/* Of some logits: the greatest, where it first stands, and the sum of exp(x - most). */
struct softmax {
    float most, sum;
    uint32_t at;
};

/* e^x, x <= 0 */
LCL_DEVICE float exp_f32(float x) { return fast_exp2(x * 1.44269504f); }

LCL_DEVICE softmax merge(softmax a, softmax b)
{
    softmax r;
    r.most = fmaxf(a.most, b.most);
    r.sum = a.sum * exp_f32(a.most - r.most) + b.sum * exp_f32(b.most - r.most);
    r.at = a.most > b.most || (a.most == b.most && a.at < b.at) ? a.at : b.at;
    return r;
}

/* Over the block, in every thread, by a fixed tree. slots: 32, shared. */
LCL_DEVICE softmax merge_block(softmax s, softmax *slots)
{
#pragma unroll
    for (int m = WARP / 2; m > 0; m /= 2) {
        softmax other = {shuffle_xor(s.most, m), shuffle_xor(s.sum, m), shuffle_xor(s.at, m)};
        s = merge(s, other);
    }
    if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = s;
    sync_block();
    s = slots[0];
    for (unsigned w = 1; w < blockDim.x / WARP; w++) s = merge(s, slots[w]);
    return s;
}

/* The calling thread's share of a row. */
template <int W> LCL_DEVICE softmax softmax_of(const float *row_V, int64_t V)
{
    softmax s = {-FLT_MAX, 0, NOWHERE};
    for (int64_t v = (int64_t)threadIdx.x * W; v < V; v += (int64_t)blockDim.x * W) {
        float x[W], most = s.most, sum = 0;
        load_elements<W>(row_V + v, x);
#pragma unroll
        for (int i = 0; i < W; i++)
            if (x[i] > most) {
                most = x[i];
                s.at = (uint32_t)(v + i);
            }
        if (most > s.most) s.sum *= exp_f32(s.most - most);
        s.most = most;
#pragma unroll
        for (int i = 0; i < W; i++) sum += exp_f32(x[i] - most);
        s.sum += sum;
    }
    return s;
}

/* A chunk of rows; each pointer but logits_nV may be NULL. The pointers per row are the chunk's. */
template <typename G> struct xent_rows {
    int64_t V;
    const float *logits_nV;
    const int32_t *target_n;
    const float *weight_n;
    double *loss_n;
    float *logprob_n;
    int32_t *argmax_n;
    double scale;
    G *gradient_nV; /* may be logits_nV */
};

template <typename G, int W> static __global__ void head_xent_kernel(xent_rows<G> r)
{
    SHARED_BYTES(shared);
    const int64_t i = blockIdx.x, V = r.V;
    const float *row_V = r.logits_nV + i * V;
    const int32_t target = r.target_n ? r.target_n[i] : -1;
    const float logit = r.target_n ? row_V[target] : 0; /* read before the row is overwritten */
    const softmax s = merge_block(softmax_of<W>(row_V, V), (softmax *)shared);
    const double weight = r.weight_n ? (double)r.weight_n[i] : 1.0;
    if (threadIdx.x == 0) {
        if (r.argmax_n) r.argmax_n[i] = s.at == NOWHERE ? 0 : (int32_t)s.at;
        if (r.target_n) {
            double logprob = (double)logit - (double)s.most - log((double)s.sum);
            if (r.logprob_n) r.logprob_n[i] = (float)logprob;
            if (r.loss_n) r.loss_n[i] = weight == 0.0 ? 0.0 : -weight * logprob;
        }
    }
    if (!r.gradient_nV) return;
    const float scale = (float)(weight * r.scale), share = (float)((double)scale / (double)s.sum);
    const float at_target = (float)((double)exp_f32(logit - s.most) / (double)s.sum - 1.0) * scale;
    for (int64_t v = (int64_t)threadIdx.x * W; v < V; v += (int64_t)blockDim.x * W) {
        float x[W];
        load_elements<W>(row_V + v, x);
#pragma unroll
        for (int j = 0; j < W; j++)
            x[j] = v + j == target ? at_target : exp_f32(x[j] - s.most) * share;
        store_elements<W>(r.gradient_nV + i * V + v, x);
    }
}

/* In the order of rows, by one thread; the others fetch. */
static __global__ void loss_sum_kernel(const double *loss_S, int64_t S, double *out)
{
    SHARED_BYTES(shared);
    double *fetched = (double *)shared, sum = 0;
    for (int64_t s = 0; s < S; s += LOSS_BLOCK) {
        const int n = S - s < LOSS_BLOCK ? (int)(S - s) : (int)LOSS_BLOCK;
        if ((int)threadIdx.x < n) fetched[threadIdx.x] = loss_S[s + threadIdx.x];
        sync_block();
        if (threadIdx.x == 0)
            for (int i = 0; i < n; i++) sum += fetched[i];
        sync_block();
    }
    if (threadIdx.x == 0) *out = sum;
}

/* What the chunks of one call share: memory of the device. */
struct xent {
    struct lcl_cuda_device *d;
    const struct lcl_head_xent_args *a;
    bool backward;
    lcl_dtype gradient_dtype;
    const int32_t *row_S, *target_S;
    const float *weight_S;
    double *loss_sum, *loss_S;
    float *logprob_S, *logits_SV, *logits_nV;
    int32_t *argmax_S;
    void *gradient_nV, *hidden_nC, *d_hidden_nC;
};

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static unsigned threads_for(int64_t n, int a_thread, unsigned most)
{
    const unsigned threads = (blocks_for(n, a_thread) + WARP - 1) / WARP * WARP;
    return threads < most ? threads : most;
}

template <typename T, bool SCATTER>
static lcl_status move_rows(const struct xent *k, const void *from, int64_t first, int64_t n,
                            void *to)
{
    const int64_t C = k->a->C;
    const dim3 grid = dims((unsigned)n);
    if (all_wide<T>(C, from, to))
        return LCL_LAUNCH(k->d, (move_rows_kernel<T, wide<T>(), SCATTER>), grid,
                          dims(threads_for(C, wide<T>(), ROW_BLOCK)), 0, (const T *)from,
                          k->row_S + first, C, (T *)to);
    return LCL_LAUNCH(k->d, (move_rows_kernel<T, 1, SCATTER>), grid,
                      dims(threads_for(C, 1, ROW_BLOCK)), 0, (const T *)from, k->row_S + first, C,
                      (T *)to);
}

template <typename T> static lcl_status gather(const struct xent *k, int64_t first, int64_t n)
{
    return move_rows<T, false>(k, k->a->hidden_TC, first, n, k->hidden_nC);
}
template <typename T> static lcl_status scatter(const struct xent *k, int64_t first, int64_t n)
{
    return move_rows<T, true>(k, k->d_hidden_nC, first, n, k->a->d_hidden_TC);
}

template <typename G> static lcl_status softmax_rows(const struct xent *k, int64_t first, int64_t n)
{
    const struct lcl_head_xent_args *a = k->a;
    xent_rows<G> r = {};
    r.V = a->V;
    r.logits_nV = k->logits_nV;
    if (k->target_S) r.target_n = k->target_S + first;
    if (k->weight_S) r.weight_n = k->weight_S + first;
    if (k->loss_S) r.loss_n = k->loss_S + first;
    if (k->logprob_S) r.logprob_n = k->logprob_S + first;
    if (k->argmax_S) r.argmax_n = k->argmax_S + first;
    r.scale = (double)a->grad_scale * (double)a->logit_scale;
    r.gradient_nV = (G *)k->gradient_nV;
    const size_t shared = WARP * sizeof(softmax);
    if (all_wide<float>(a->V, r.logits_nV, r.gradient_nV))
        return LCL_LAUNCH(k->d, (head_xent_kernel<G, MIXED>), dims((unsigned)n),
                          dims(threads_for(a->V, MIXED, XENT_BLOCK)), shared, r);
    return LCL_LAUNCH(k->d, (head_xent_kernel<G, 1>), dims((unsigned)n),
                      dims(threads_for(a->V, 1, XENT_BLOCK)), shared, r);
}

static lcl_status logits_of(const struct xent *k, int64_t n)
{
    const struct lcl_head_xent_args *a = k->a;
    struct lcl_cuda_gemm g = {};
    g.form = LCL_CUDA_NT;
    g.M = n, g.N = a->V, g.K = a->C;
    g.a = k->hidden_nC, g.a_dtype = a->dtype;
    g.b = a->weight_VC, g.b_dtype = a->weight_dtype;
    g.c = k->logits_nV, g.c_dtype = LCL_F32;
    g.alpha = a->logit_scale;
    return lcl_cuda_gemm_run(k->d, &g);
}

/* d_weight += G^T hidden, d_hidden = G weight, scattered. */
static lcl_status backward_chunk(const struct xent *k, int64_t first, int64_t n)
{
    const struct lcl_head_xent_args *a = k->a;
    struct lcl_cuda_gemm g = {};
    g.a = k->gradient_nV, g.a_dtype = k->gradient_dtype, g.alpha = 1;
    if (a->d_weight_VC) {
        g.form = LCL_CUDA_TN;
        g.M = a->V, g.N = a->C, g.K = n;
        g.b = k->hidden_nC, g.b_dtype = a->dtype;
        g.c = a->d_weight_VC, g.c_dtype = LCL_F32;
        g.accumulate = true;
        LCL_TRY(lcl_cuda_gemm_run(k->d, &g));
    }
    if (!a->d_hidden_TC) return LCL_OK;
    g.form = LCL_CUDA_NN;
    g.M = n, g.N = a->C, g.K = a->V;
    g.b = a->weight_VC, g.b_dtype = a->weight_dtype;
    g.c = k->d_hidden_nC, g.c_dtype = a->dtype;
    g.accumulate = false;
    LCL_TRY(lcl_cuda_gemm_run(k->d, &g));
    return BY_DTYPE(a->dtype, scatter, k, first, n);
}

static lcl_status run_chunk(struct xent *k, int64_t first, int64_t n)
{
    const struct lcl_head_xent_args *a = k->a;
    /* Kept logits are computed in place; a backward overwrites its own. */
    if (k->logits_SV && !k->backward) k->logits_nV = k->logits_SV + first * a->V;
    LCL_TRY(BY_DTYPE(a->dtype, gather, k, first, n));
    LCL_TRY(logits_of(k, n));
    if (k->logits_SV && k->backward)
        LCL_CUDA_TRY(cudaMemcpyAsync(k->logits_SV + first * a->V, k->logits_nV,
                                     (size_t)(n * a->V) * sizeof(float), cudaMemcpyDeviceToDevice,
                                     (cudaStream_t)k->d->stream));
    if (k->target_S || k->argmax_S) LCL_TRY(BY_DTYPE(k->gradient_dtype, softmax_rows, k, first, n));
    return k->backward ? backward_chunk(k, first, n) : LCL_OK;
}

static lcl_status results_of(struct xent *k)
{
    const struct lcl_head_xent_args *a = k->a;
    const size_t S = (size_t)a->S, logits_bytes = S * (size_t)a->V * sizeof(float);
    void *p;
    LCL_TRY(lcl_cuda_results_reserve(k->d, 4,
                                     sizeof(double) + S * (sizeof(float) + sizeof(int32_t)) +
                                         (a->logits_SV ? logits_bytes : 0)));
    LCL_TRY(lcl_cuda_result(k->d, a->loss_sum, sizeof(double), &p));
    k->loss_sum = (double *)p;
    LCL_TRY(lcl_cuda_result(k->d, a->logprob_S, S * sizeof(float), &p));
    k->logprob_S = (float *)p;
    LCL_TRY(lcl_cuda_result(k->d, a->argmax_S, S * sizeof(int32_t), &p));
    k->argmax_S = (int32_t *)p;
    LCL_TRY(lcl_cuda_result(k->d, a->logits_SV, logits_bytes, &p));
    k->logits_SV = a->kept_SV ? a->kept_SV : (float *)p;
    return LCL_OK;
}

/* Uploads, and scratch for chunks of n rows whose logits and gradients take logits_bytes. */
static lcl_status reserve(struct xent *k, int64_t n, size_t logits_bytes)
{
    const struct lcl_head_xent_args *a = k->a;
    const size_t S = (size_t)a->S, gradient_at = aligned((size_t)(n * a->V) * sizeof(float));
    const size_t hidden_bytes = aligned((size_t)(n * a->C) * lcl_dtype_bytes(a->dtype));
    const void *up;
    void *p;
    LCL_TRY(lcl_cuda_upload(k->d, a->row_S, S * sizeof(int32_t), &up));
    k->row_S = (const int32_t *)up;
    LCL_TRY(lcl_cuda_upload(k->d, a->target_S, S * sizeof(int32_t), &up));
    k->target_S = (const int32_t *)up;
    LCL_TRY(lcl_cuda_upload(k->d, a->weight_S, S * sizeof(float), &up));
    k->weight_S = (const float *)up;
    LCL_TRY(lcl_cuda_scratch(k->d, LCL_CUDA_LOGITS, logits_bytes, &p));
    k->logits_nV = (float *)p;
    if (k->backward)
        k->gradient_nV =
            k->gradient_dtype == LCL_BF16 ? (unsigned char *)p + gradient_at : (unsigned char *)p;
    LCL_TRY(lcl_cuda_scratch(k->d, LCL_CUDA_ROWS, 2 * hidden_bytes, &p));
    k->hidden_nC = p;
    k->d_hidden_nC = (unsigned char *)p + hidden_bytes;
    if (!a->loss_sum) return LCL_OK;
    LCL_TRY(lcl_cuda_scratch(k->d, LCL_CUDA_PARTIALS, S * sizeof(double), &p));
    k->loss_S = (double *)p;
    return LCL_OK;
}

static lcl_status run(struct lcl_cuda_device *d, const struct lcl_head_xent_args *a, bool backward)
{
    LCL_TRY(lcl_check_head_xent(a, backward));
    struct xent k = {};
    k.d = d, k.a = a, k.backward = backward;
    const bool narrow = a->dtype == LCL_BF16 && a->weight_dtype == LCL_BF16;
    k.gradient_dtype = backward && narrow ? LCL_BF16 : LCL_F32;
    if (backward && a->d_hidden_TC)
        LCL_CUDA_TRY(cudaMemsetAsync(a->d_hidden_TC, 0,
                                     (size_t)(a->T * a->C) * lcl_dtype_bytes(a->dtype),
                                     (cudaStream_t)d->stream));
    LCL_TRY(results_of(&k));
    if (!a->S) return lcl_cuda_op_end(d);
    const int64_t row_bytes = a->V * (k.gradient_dtype == LCL_BF16 ? 6 : 4);
    const int64_t fit = LOGITS_BYTES / row_bytes, n_max = fit < 1 ? 1 : fit < a->S ? fit : a->S;
    const size_t least = (size_t)(n_max * row_bytes) + ALIGN;
    LCL_TRY(reserve(&k, n_max, least > LOGITS_BYTES ? least : (size_t)LOGITS_BYTES));
    for (int64_t first = 0; first < a->S; first += n_max)
        LCL_TRY(run_chunk(&k, first, a->S - first < n_max ? a->S - first : n_max));
    if (k.loss_sum)
        LCL_TRY(LCL_LAUNCH(d, loss_sum_kernel, dims(1), dims(LOSS_BLOCK),
                           LOSS_BLOCK * sizeof(double), (const double *)k.loss_S, a->S,
                           k.loss_sum));
    return lcl_cuda_op_end(d);
}

lcl_status lcl_cuda_head_xent_fwd(struct lcl_exec *ex, const struct lcl_head_xent_args *a)
{
    return run(lcl_cuda_device_of(ex), a, false);
}

lcl_status lcl_cuda_head_xent_bwd(struct lcl_exec *ex, const struct lcl_head_xent_args *a)
{
    return run(lcl_cuda_device_of(ex), a, true);
}
