/* Matrix products by cuBLASLt. It is column-major: a row-major c_MN is its N x M matrix, and c = a
 * b its c' = b' a', so our b is its A, our a its B, and a bias over our columns one over its rows.
 *
 * cuBLASLt's dtypes are bf16 x bf16 to bf16 or f32, and f32 x f32 to f32; a bias has c's dtype.
 * Other products are brought to these: an operand is widened, and a bf16 c that is of f32 operands
 * or has a bias comes from f32 sums of a few rows at a time, so that it is rounded once.
 * Legend: M, N, K as in gemm.h. */
#include <cublasLt.h>
#include <stdlib.h>

#include "cuda/gemm.h"
#include "cuda/kernel.cuh"
#include "cuda/ops.cuh"

enum {
    PRODUCTS = 512,
    CANDIDATES = 4,
    WORKSPACE_BYTES = 32 << 20,
    PIECE_BYTES = 32 << 20, /* of f32 sums: they stay in an H100's second-level cache */
    ALIGN = 256,
    WIDEST = 16, /* bytes an access: the alignment that tells algorithms apart */
    BLOCK = 128
};

/* What an algorithm is chosen by; all of it is compared. alpha and beta have no say. */
struct shape {
    int64_t M, N, K, lda, ldc;
    int32_t form, in_dtype, c_dtype, has_bias;
    uint32_t align_a, align_b, align_c, align_bias;
};

struct product {
    struct shape shape;
    uint64_t used;
    bool adds_bias; /* in its epilogue */
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
};

struct library {
    cublasLtHandle_t handle;
    void *workspace;
    uint64_t uses;
    int n_products;
    struct product product[PRODUCTS];
};

/* --- errors --- */

#define LT_TRY(shape, expr)                                                                  \
    do {                                                                                     \
        cublasStatus_t lt_status_ = (expr);                                                  \
        if (lt_status_ != CUBLAS_STATUS_SUCCESS) return lt_failed(#expr, lt_status_, shape); \
    } while (0)

static lcl_status lt_failed(const char *call, cublasStatus_t status, const struct shape *s)
{
    static const char *const form[] = {"NT", "NN", "TN"};
    return LCL_FAIL(LCL_INTERNAL, "%.*s: %s (%s, M %lld, N %lld, K %lld, %s to %s%s)",
                    (int)strcspn(call, "("), call, cublasLtGetStatusName(status), form[s->form],
                    (long long)s->M, (long long)s->N, (long long)s->K,
                    lcl_dtype_name((lcl_dtype)s->in_dtype), lcl_dtype_name((lcl_dtype)s->c_dtype),
                    s->has_bias ? ", bias" : "");
}

/* --- kernels of our own --- */

/* c = sum (+ bias) (+ c); sum_MN, 0 where it is NULL, may be c. */
template <typename T, int V>
static __global__ void finish_kernel(const float *sum_MN, const float *bias_N, bool accumulate,
                                     int64_t N, T *c_MN)
{
    const int64_t n = ((int64_t)blockIdx.y * BLOCK + threadIdx.x) * V, at = blockIdx.x * N + n;
    if (n >= N) return;
    float c[V] = {}, more[V];
    if (sum_MN) load_elements<V>(sum_MN + at, c);
    if (bias_N) {
        load_elements<V>(bias_N + n, more);
        for (int i = 0; i < V; i++) c[i] += more[i];
    }
    if (accumulate) {
        load_elements<V>(c_MN + at, more);
        for (int i = 0; i < V; i++) c[i] += more[i];
    }
    store_elements<V>(c_MN + at, c);
}

static lcl_status widen(struct lcl_cuda_device *d, const void *x, int64_t n, float *y)
{
    struct lcl_exec ex = {NULL, d, false};
    const struct lcl_cast_args a = {n, LCL_BF16, LCL_F32, x, y};
    return lcl_cuda_cast_fwd(&ex, &a);
}

template <typename T>
static lcl_status finish(struct lcl_cuda_device *d, int64_t M, int64_t N, const float *sum_MN,
                         const float *bias_N, bool accumulate, void *c_MN)
{
    if (all_wide<float>(N, sum_MN, bias_N, c_MN))
        return LCL_LAUNCH(d, (finish_kernel<T, MIXED>),
                          dims((unsigned)M, blocks_for(N, BLOCK * MIXED)), dims(BLOCK), 0, sum_MN,
                          bias_N, accumulate, N, (T *)c_MN);
    return LCL_LAUNCH(d, (finish_kernel<T, 1>), dims((unsigned)M, blocks_for(N, BLOCK)),
                      dims(BLOCK), 0, sum_MN, bias_N, accumulate, N, (T *)c_MN);
}

/* --- choosing algorithms --- */

static uint32_t alignment_of(const void *p)
{
    uint32_t bytes = WIDEST;
    while ((uintptr_t)p % bytes) bytes /= 2;
    return bytes;
}

static struct shape shape_of(const struct lcl_cuda_gemm *g, int64_t lda)
{
    struct shape s = {};
    s.M = g->M, s.N = g->N, s.K = g->K, s.lda = lda, s.ldc = g->ldc ? g->ldc : g->N;
    s.form = g->form, s.in_dtype = g->a_dtype, s.c_dtype = g->c_dtype;
    s.has_bias = g->bias_N != NULL;
    s.align_a = alignment_of(g->a), s.align_b = alignment_of(g->b);
    s.align_c = alignment_of(g->c), s.align_bias = alignment_of(g->bias_N);
    return s;
}

static cudaDataType_t type_of(int32_t dtype) { return dtype == LCL_F32 ? CUDA_R_32F : CUDA_R_16BF; }

static lcl_status describe(const struct shape *s, struct product *p)
{
    const cublasOperation_t a_op = s->form == LCL_CUDA_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t b_op = s->form == LCL_CUDA_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cudaDataType_t in = type_of(s->in_dtype);
    LT_TRY(s, cublasLtMatmulDescInit(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT_TRY(s,
           cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_TRANSA, &b_op, sizeof b_op));
    LT_TRY(s,
           cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_TRANSB, &a_op, sizeof a_op));
    if (a_op == CUBLAS_OP_T)
        LT_TRY(s, cublasLtMatrixLayoutInit(&p->a, in, s->M, s->K, s->lda));
    else
        LT_TRY(s, cublasLtMatrixLayoutInit(&p->a, in, s->K, s->M, s->lda));
    if (b_op == CUBLAS_OP_T)
        LT_TRY(s, cublasLtMatrixLayoutInit(&p->b, in, s->K, s->N, s->K));
    else
        LT_TRY(s, cublasLtMatrixLayoutInit(&p->b, in, s->N, s->K, s->N));
    LT_TRY(s, cublasLtMatrixLayoutInit(&p->c, type_of(s->c_dtype), s->N, s->M, s->ldc));
    return LCL_OK;
}

static lcl_status set_preference(const struct shape *s, cublasLtMatmulPreferenceOpaque_t *wish)
{
    /* Parts of a split sum are added in f32: not in c, which may be bf16. */
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t workspace = WORKSPACE_BYTES;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } attribute[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &s->align_b, sizeof s->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &s->align_a, sizeof s->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &s->align_c, sizeof s->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &s->align_c, sizeof s->align_c},
    };
    LT_TRY(s, cublasLtMatmulPreferenceInit(wish));
    for (size_t i = 0; i < sizeof attribute / sizeof *attribute; i++)
        LT_TRY(s, cublasLtMatmulPreferenceSetAttribute(wish, attribute[i].name, attribute[i].value,
                                                       attribute[i].bytes));
    return LCL_OK;
}

/* The quickest algorithm by cuBLASLt's estimate; *found is false where it has none. */
static lcl_status choose(struct library *l, const struct shape *s, struct product *p, bool *found)
{
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    int n = 0;
    *found = false;
    LCL_TRY(set_preference(s, &wish));
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        l->handle, &p->op, &p->b, &p->a, &p->c, &p->c, &wish, CANDIDATES, result, &n);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return LCL_OK;
    if (status != CUBLAS_STATUS_SUCCESS)
        return lt_failed("cublasLtMatmulAlgoGetHeuristic", status, s);
    for (int i = 0; i < n && !*found; i++)
        if (result[i].state == CUBLAS_STATUS_SUCCESS &&
            result[i].workspaceSize <= WORKSPACE_BYTES) {
            p->algo = result[i].algo;
            *found = true;
        }
    return LCL_OK;
}

static lcl_status set_bias(const struct shape *s, struct product *p, const float *bias_N)
{
    LT_TRY(s, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias_N,
                                             sizeof bias_N));
    return LCL_OK;
}

static lcl_status set_epilogue(const struct shape *s, struct product *p, cublasLtEpilogue_t what)
{
    LT_TRY(s, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &what,
                                             sizeof what));
    return LCL_OK;
}

static lcl_status prepare(struct library *l, const struct shape *s, const float *bias_N,
                          struct product *p)
{
    const cudaDataType_t bias_type = CUDA_R_32F;
    bool found = false;
    memset(p, 0, sizeof *p); /* no product's shape, should this fail */
    LCL_TRY(describe(s, p));
    if (bias_N) {
        LCL_TRY(set_epilogue(s, p, CUBLASLT_EPILOGUE_BIAS));
        LT_TRY(s, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                                 &bias_type, sizeof bias_type));
        LCL_TRY(set_bias(s, p, bias_N)); /* its alignment matters */
        LCL_TRY(choose(l, s, p, &found));
        p->adds_bias = found;
    }
    if (!found) {
        LCL_TRY(set_epilogue(s, p, CUBLASLT_EPILOGUE_DEFAULT));
        LCL_TRY(choose(l, s, p, &found));
    }
    if (!found) return lt_failed("cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_SUPPORTED, s);
    p->shape = *s;
    return LCL_OK;
}

/* The product of this shape; a new one takes the place of the least recently used. */
static lcl_status find(struct library *l, const struct shape *s, const float *bias_N,
                       struct product **out)
{
    struct product *p = &l->product[0];
    for (int i = 0; i < l->n_products; i++) {
        struct product *q = &l->product[i];
        if (memcmp(&q->shape, s, sizeof *s) == 0) {
            q->used = ++l->uses;
            *out = q;
            return LCL_OK;
        }
        if (q->used < p->used) p = q;
    }
    if (l->n_products < PRODUCTS) p = &l->product[l->n_products++];
    LCL_TRY(prepare(l, s, bias_N, p));
    p->used = ++l->uses;
    *out = p;
    return LCL_OK;
}

/* --- running --- */

/* A product of dtypes that cuBLASLt takes; a's stored rows are lda apart. */
static lcl_status multiply(struct lcl_cuda_device *d, const struct lcl_cuda_gemm *g, int64_t lda)
{
    struct library *l = (struct library *)d->gemm;
    const struct shape s = shape_of(g, lda);
    const float beta = g->accumulate;
    struct product *p;
    LCL_TRY(find(l, &s, g->bias_N, &p));
    if (p->adds_bias) LCL_TRY(set_bias(&s, p, g->bias_N));
    LT_TRY(&s, cublasLtMatmul(l->handle, &p->op, &g->alpha, g->b, &p->b, g->a, &p->a, &beta, g->c,
                              &p->c, g->c, &p->c, &p->algo, l->workspace, WORKSPACE_BYTES,
                              (cudaStream_t)d->stream));
    if (d->synchronous) LCL_CUDA_TRY(cudaStreamSynchronize((cudaStream_t)d->stream));
    if (!g->bias_N || p->adds_bias) return LCL_OK;
    return finish<float>(d, g->M, g->N, (const float *)g->c, g->bias_N, false, g->c);
}

/* Rows whose f32 sums fit a piece: whole tiles of cuBLASLt's where there are as many. */
static int64_t piece_rows(const struct lcl_cuda_gemm *g)
{
    enum { TILE = 256 };
    int64_t rows = PIECE_BYTES / (int64_t)sizeof(float) / g->N;
    if (rows > TILE) rows = rows / TILE * TILE;
    if (rows < 1) rows = 1;
    return rows < g->M ? rows : g->M;
}

/* A bf16 c by way of f32 sums. */
static lcl_status multiply_pieces(struct lcl_cuda_device *d, const struct lcl_cuda_gemm *g,
                                  int64_t lda, float *sum, int64_t rows)
{
    const int64_t a_step = (g->form == LCL_CUDA_TN ? 1 : g->K) * lcl_dtype_bytes(g->a_dtype);
    const int64_t c_step = g->N * lcl_dtype_bytes(g->c_dtype);
    struct lcl_cuda_gemm piece = *g;
    piece.c = sum, piece.c_dtype = LCL_F32, piece.accumulate = false;
    for (int64_t m = 0; m < g->M; m += rows) {
        piece.M = g->M - m < rows ? g->M - m : rows;
        piece.a = (const unsigned char *)g->a + m * a_step;
        LCL_TRY(multiply(d, &piece, lda));
        LCL_TRY(finish<bf16>(d, piece.M, g->N, sum, NULL, g->accumulate,
                             (unsigned char *)g->c + m * c_step));
    }
    return LCL_OK;
}

lcl_status lcl_cuda_gemm_run(struct lcl_cuda_device *d, const struct lcl_cuda_gemm *g)
{
    if (!g->M || !g->N) return LCL_OK;
    if (!g->K) {
        if (g->accumulate && !g->bias_N) return LCL_OK;
        return BY_DTYPE(g->c_dtype, finish, d, g->M, g->N, NULL, g->bias_N, g->accumulate, g->c);
    }
    const bool widen_a = g->a_dtype == LCL_BF16 && g->b_dtype == LCL_F32;
    const bool widen_b = g->a_dtype == LCL_F32 && g->b_dtype == LCL_BF16;
    const bool all_bf16 = g->a_dtype == LCL_BF16 && g->b_dtype == LCL_BF16;
    const bool by_pieces = g->c_dtype == LCL_BF16 && (!all_bf16 || g->bias_N);
    const int64_t lda = g->lda ? g->lda : g->form == LCL_CUDA_TN ? g->M : g->K;
    const int64_t rows = by_pieces ? piece_rows(g) : 0;
    const int64_t widened = widen_a ? g->M * g->K : widen_b ? g->K * g->N : 0;
    const size_t sum_at = ((size_t)widened * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    const size_t bytes = sum_at + (size_t)(rows * g->N) * sizeof(float);
    void *scratch = NULL;
    if (bytes) LCL_TRY(lcl_cuda_scratch(d, LCL_CUDA_GEMM, bytes, &scratch));
    struct lcl_cuda_gemm ours = *g;
    if (widened) {
        LCL_TRY(widen(d, widen_a ? g->a : g->b, widened, (float *)scratch));
        (widen_a ? ours.a : ours.b) = scratch;
        ours.a_dtype = ours.b_dtype = LCL_F32;
    }
    if (!by_pieces) return multiply(d, &ours, lda);
    return multiply_pieces(d, &ours, lda, (float *)((unsigned char *)scratch + sum_at), rows);
}

lcl_status lcl_cuda_gemm_open(struct lcl_cuda_device *d)
{
    struct library *l = (struct library *)calloc(1, sizeof *l);
    if (!l) return LCL_FAIL(LCL_MEMORY, "no memory to open cuBLASLt");
    d->gemm = l;
    const cublasStatus_t status = cublasLtCreate(&l->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return LCL_FAIL(LCL_INTERNAL, "cublasLtCreate: %s", cublasLtGetStatusName(status));
    if (cudaMalloc(&l->workspace, WORKSPACE_BYTES) != cudaSuccess)
        return LCL_FAIL(LCL_MEMORY, "the GPU has no %d bytes left for cuBLASLt", WORKSPACE_BYTES);
    return LCL_OK;
}

void lcl_cuda_gemm_close(struct lcl_cuda_device *d)
{
    struct library *l = (struct library *)d->gemm;
    if (!l) return;
    cudaFree(l->workspace); /* waits for the products under way */
    if (l->handle) cublasLtDestroy(l->handle);
    free(l);
    d->gemm = NULL;
}
