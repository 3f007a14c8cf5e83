/* oneDNN behind cpu/gemm_library.h, for the 2.x API (Debian 12, Ubuntu 22.04) and the 3.x API
 * (Debian 13, Ubuntu 24.04).
 *
 * Two ways in. dnnl_sgemm needs no set-up and is as fast as the matmul primitive on AVX2; with
 * AVX-512 the primitive (brgemm kernels, and the only way to bf16) is faster, but takes up to 0.6
 * ms to create, so each thread keeps the primitives that it used last. LCL_ONEDNN=sgemm or matmul
 * in the environment forces one for f32. */
#ifdef LCL_GEMM_ONEDNN
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/gemm.h"
#include "cpu/gemm_library.h"

enum {
    CACHE_SETS = 128,
    CACHE_WAYS = 4,
    SCRATCH_SLOT = LCL_GEMM_SCRATCH_FIRST + 2, /* the slots before it are cpu/gemm.c's */
    PADDED_SLOT,
    LEAST_STEP = 32, /* of lengths that vary by batch: matmul_cut */
    LEAST_HEADS = 8,
};

/* What a primitive depends on; compared as bytes, so it has no padding. */
struct key {
    int64_t M, N, K, lda, ldb, ldc;
    float alpha, beta;
    int32_t trans_a, trans_b, a_type, b_type, c_type, has_bias;
};

struct entry {
    struct key key;
    uint64_t last_use; /* 0: empty */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, bias, c, scratchpad;
    size_t scratchpad_bytes;
};

struct cache {
    dnnl_stream_t stream;
    uint64_t tick;
    struct entry entries[CACHE_SETS][CACHE_WAYS];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t cache_key;
static dnnl_engine_t engine;
static lcl_status engine_status;
static bool f32_by_matmul, bf16_native;
static void (*set_omp_threads)(int);

static lcl_status fail(const char *what, dnnl_status_t status)
{
    lcl_status code = status == dnnl_out_of_memory   ? LCL_MEMORY
                      : status == dnnl_unimplemented ? LCL_UNSUPPORTED
                                                     : LCL_INTERNAL;
    return LCL_FAIL(code, "oneDNN: %s failed with status %d", what, (int)status);
}

static void entry_clear(struct entry *e)
{
    dnnl_memory_t memories[] = {e->a, e->b, e->bias, e->c, e->scratchpad};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (e->primitive) dnnl_primitive_destroy(e->primitive);
    memset(e, 0, sizeof *e);
}

static void cache_free(void *p)
{
    struct cache *cache = p;
    for (int i = 0; i < CACHE_SETS; i++)
        for (int j = 0; j < CACHE_WAYS; j++) entry_clear(&cache->entries[i][j]);
    if (cache->stream) dnnl_stream_destroy(cache->stream);
    free(cache);
}

static void start(void)
{
    /* The OpenMP runtime that oneDNN was linked with, whichever it is; absent in sequential builds.
     */
    void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    memcpy(&set_omp_threads, &symbol, sizeof symbol);
    int failed = pthread_key_create(&cache_key, cache_free);
    dnnl_status_t status = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (failed) engine_status = LCL_INTERNAL;
    if (status != dnnl_success) engine_status = LCL_INTERNAL;
#if defined(LCL_CPU_ISA_v4)
    f32_by_matmul = true;
    bf16_native = __builtin_cpu_supports("avx512bf16");
#endif
    const char *forced = getenv("LCL_ONEDNN");
    if (forced && strcmp(forced, "sgemm") == 0) f32_by_matmul = false;
    if (forced && strcmp(forced, "matmul") == 0) f32_by_matmul = true;
}

/* Makes the library run on the calling thread alone. */
static void single_thread(void)
{
    static _Thread_local bool done;
    if (done) return;
    (void)pthread_once(&once, start);
    if (set_omp_threads) set_omp_threads(1);
    done = true;
}

static lcl_status thread_cache(struct cache **out)
{
    single_thread();
    if (engine_status != LCL_OK) return LCL_FAIL(engine_status, "oneDNN: no CPU engine");
    struct cache *cache = pthread_getspecific(cache_key);
    if (!cache) {
        cache = calloc(1, sizeof *cache);
        if (!cache) return LCL_FAIL(LCL_MEMORY, "no memory for the GEMM primitive cache");
        dnnl_status_t status =
            dnnl_stream_create(&cache->stream, engine, dnnl_stream_default_flags);
        if (status != dnnl_success || pthread_setspecific(cache_key, cache) != 0) {
            cache_free(cache);
            return fail("creating a stream", status);
        }
    }
    *out = cache;
    return LCL_OK;
}

static dnnl_data_type_t data_type(int32_t t) { return t == LCL_BF16 ? dnnl_bf16 : dnnl_f32; }

/* The few calls that differ between the APIs: descriptors are values in 2.x and handles in 3.x. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t desc_ref;
static desc_ref ref(const dnnl_memory_desc_t *d) { return *d; }
static void desc_free(dnnl_memory_desc_t *d)
{
    if (*d) dnnl_memory_desc_destroy(*d);
}
static dnnl_status_t desc_make(dnnl_memory_desc_t *d, int64_t rows, int64_t cols,
                               dnnl_data_type_t type, int64_t row_stride, int64_t col_stride)
{
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
    return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides);
}
static dnnl_status_t append_ops(dnnl_post_ops_t ops, float alpha, float beta)
{
    dnnl_status_t s = dnnl_success;
    if (alpha != 1.0f) s = dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0.0f);
    if (s == dnnl_success && beta != 0.0f)
        s = dnnl_post_ops_append_sum(ops, beta, 0, dnnl_data_type_undef);
    return s;
}
static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *a,
                                 const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *bias,
                                 const dnnl_memory_desc_t *c, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, bias ? *bias : NULL, *c, attr);
}
#else
typedef const dnnl_memory_desc_t *desc_ref;
static desc_ref ref(const dnnl_memory_desc_t *d) { return d; }
static void desc_free(dnnl_memory_desc_t *d) { (void)d; }
static dnnl_status_t desc_make(dnnl_memory_desc_t *d, int64_t rows, int64_t cols,
                               dnnl_data_type_t type, int64_t row_stride, int64_t col_stride)
{
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides);
}
static dnnl_status_t append_ops(dnnl_post_ops_t ops, float alpha, float beta)
{
    dnnl_status_t s = dnnl_success;
    if (alpha != 1.0f)
        s = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_linear, alpha, 0.0f);
    if (s == dnnl_success && beta != 0.0f) s = dnnl_post_ops_append_sum(ops, beta);
    return s;
}
static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *a,
                                 const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *bias,
                                 const dnnl_memory_desc_t *c, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t op;
    dnnl_status_t s = dnnl_matmul_desc_init(&op, a, b, bias, c);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &op, attr, engine, NULL) : s;
}
#endif

static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr, const struct key *k)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success) s = dnnl_post_ops_create(&ops);
    if (s == dnnl_success) s = append_ops(ops, k->alpha, k->beta);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return s;
}

static dnnl_status_t entry_build(struct entry *e, dnnl_memory_desc_t d[4],
                                 dnnl_primitive_attr_t *attr, dnnl_primitive_desc_t *pd)
{
    const struct key *k = &e->key;
    dnnl_status_t s = make_attr(attr, k);
#define STEP(expr) \
    if (s == dnnl_success) s = (expr)
    STEP(desc_make(&d[0], k->M, k->K, data_type(k->a_type), k->trans_a ? 1 : k->lda,
                   k->trans_a ? k->lda : 1));
    STEP(desc_make(&d[1], k->K, k->N, data_type(k->b_type), k->trans_b ? 1 : k->ldb,
                   k->trans_b ? k->ldb : 1));
    STEP(desc_make(&d[2], 1, k->N, dnnl_f32, k->N, 1));
    STEP(desc_make(&d[3], k->M, k->N, data_type(k->c_type), k->ldc, 1));
    STEP(matmul_desc(pd, &d[0], &d[1], k->has_bias ? &d[2] : NULL, &d[3], *attr));
    STEP(dnnl_primitive_create(&e->primitive, *pd));
    STEP(dnnl_memory_create(&e->a, ref(&d[0]), engine, DNNL_MEMORY_NONE));
    STEP(dnnl_memory_create(&e->b, ref(&d[1]), engine, DNNL_MEMORY_NONE));
    if (k->has_bias) STEP(dnnl_memory_create(&e->bias, ref(&d[2]), engine, DNNL_MEMORY_NONE));
    STEP(dnnl_memory_create(&e->c, ref(&d[3]), engine, DNNL_MEMORY_NONE));
    if (s != dnnl_success) return s;
    desc_ref pad = dnnl_primitive_desc_query_md(*pd, dnnl_query_scratchpad_md, 0);
    e->scratchpad_bytes = pad ? dnnl_memory_desc_get_size(pad) : 0;
    if (e->scratchpad_bytes)
        STEP(dnnl_memory_create(&e->scratchpad, pad, engine, DNNL_MEMORY_NONE));
#undef STEP
    return s;
}

static dnnl_status_t entry_make(struct entry *e, const struct key *key)
{
    dnnl_memory_desc_t descs[4];
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    memset(descs, 0, sizeof descs);
    entry_clear(e);
    e->key = *key;
    dnnl_status_t s = entry_build(e, descs, &attr, &pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < 4; i++) desc_free(&descs[i]);
    if (s != dnnl_success) entry_clear(e);
    return s;
}

static uint64_t key_hash(const struct key *key)
{
    uint64_t h = 1469598103934665603u;
    const uint32_t *words = (const uint32_t *)(const void *)key;
    for (size_t i = 0; i < sizeof *key / sizeof *words; i++) h = (h ^ words[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

/* The entry of this key: found, or made in place of the one of its set that was used longest ago.
 */
static lcl_status cache_find(struct cache *cache, const struct key *key, struct entry **out)
{
    struct entry *set = cache->entries[key_hash(key) % CACHE_SETS], *oldest = set;
    cache->tick++;
    for (int i = 0; i < CACHE_WAYS; i++) {
        if (set[i].last_use && memcmp(&set[i].key, key, sizeof *key) == 0) {
            set[i].last_use = cache->tick;
            *out = &set[i];
            return LCL_OK;
        }
        if (set[i].last_use < oldest->last_use) oldest = &set[i];
    }
    dnnl_status_t status = entry_make(oldest, key);
    if (status != dnnl_success) return fail("creating a matmul primitive", status);
    oldest->last_use = cache->tick;
    *out = oldest;
    return LCL_OK;
}

static void *handle(const void *p) /* the API takes inputs as non-const */
{
    void *out;
    memcpy(&out, &p, sizeof out);
    return out;
}

static lcl_status matmul(const struct lcl_gemm_call *call)
{
    struct cache *cache = NULL;
    struct entry *e = NULL;
    LCL_TRY(thread_cache(&cache));
    struct key key = {call->M,
                      call->N,
                      call->K,
                      call->lda,
                      call->ldb,
                      call->ldc,
                      call->alpha,
                      call->beta,
                      call->trans_a,
                      call->trans_b,
                      (int32_t)call->a_type,
                      (int32_t)call->b_type,
                      (int32_t)call->c_type,
                      call->bias != NULL};
    LCL_TRY(cache_find(cache, &key, &e));
    void *pad = NULL;
    if (e->scratchpad_bytes) {
        pad = lcl_thread_scratch(SCRATCH_SLOT, e->scratchpad_bytes);
        if (!pad)
            return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of GEMM scratch",
                            e->scratchpad_bytes);
    }
    dnnl_exec_arg_t args[5];
    int n = 0;
    dnnl_status_t s = dnnl_success;
#define ARG(id, mem, pointer)                              \
    if ((mem) && s == dnnl_success) {                      \
        s = dnnl_memory_set_data_handle((mem), (pointer)); \
        args[n].arg = (id);                                \
        args[n++].memory = (mem);                          \
    }
    ARG(DNNL_ARG_SRC, e->a, handle(call->a))
    ARG(DNNL_ARG_WEIGHTS, e->b, handle(call->b))
    ARG(DNNL_ARG_BIAS, e->bias, handle(call->bias))
    ARG(DNNL_ARG_DST, e->c, call->c)
    ARG(DNNL_ARG_SCRATCHPAD, e->scratchpad, pad)
#undef ARG
    if (s == dnnl_success) s = dnnl_primitive_execute(e->primitive, cache->stream, n, args);
    if (s == dnnl_success) s = dnnl_stream_wait(cache->stream);
    return s == dnnl_success ? LCL_OK : fail("running a matmul primitive", s);
}

static const void *const_at(const void *p, lcl_dtype t, int64_t elements)
{
    return (const char *)p + elements * (t == LCL_BF16 ? 2 : 4);
}

/* A primitive with a scale scales the bias too, and is plain loops for many layouts. And the
 * library keeps primitives by their shapes, lengths of 1 without strides: for these it may hand out
 * one made for another layout, which sums in another order, so that a result would depend on what
 * was multiplied before. */
static bool suits_matmul(const struct lcl_gemm_call *c)
{
    return c->alpha == 1.0f && c->M > 1 && c->N > 1 && c->K > 1;
}

static size_t width_of(lcl_dtype t) { return t == LCL_BF16 ? 2 : 4; }

static void *at(void *p, lcl_dtype t, int64_t elements)
{
    return (char *)p + elements * (int64_t)width_of(t);
}

/* n rows of `width` elements into a dense array of `padded` rows, zeros below. */
static void copy_rows(void *to, const void *from, lcl_dtype t, int64_t stride, int64_t width,
                      int64_t n, int64_t padded)
{
    const size_t one = width_of(t), row = (size_t)width * one;
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)to + (size_t)i * row, (const char *)from + (size_t)(i * stride) * one, row);
    memset((char *)to + (size_t)n * row, 0, (size_t)(padded - n) * row);
}

static int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/* Rows of another number: those of a and c with rows of zeros below them, in scratch. */
static lcl_status matmul_rows(const struct lcl_gemm_call *call, int64_t padded)
{
    struct lcl_gemm_call p = *call;
    const size_t a_bytes = (size_t)round_up(padded * call->K * (int64_t)width_of(call->a_type), 64);
    const size_t c_bytes = (size_t)(padded * call->N) * width_of(call->c_type);
    if (padded == call->M) return matmul(call);
    char *copy = lcl_thread_scratch(PADDED_SLOT, a_bytes + c_bytes);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of rows", a_bytes + c_bytes);
    p.M = padded;
    p.a = copy;
    p.lda = call->K;
    p.c = copy + a_bytes;
    p.ldc = call->N;
    copy_rows(copy, call->a, call->a_type, call->lda, call->K, call->M, padded);
    if (call->beta != 0) copy_rows(p.c, call->c, call->c_type, call->ldc, call->N, call->M, padded);
    LCL_TRY(matmul(&p));
    const size_t row = (size_t)call->N * width_of(call->c_type);
    for (int64_t i = 0; i < call->M; i++)
        memcpy(at(call->c, call->c_type, i * call->ldc), (char *)p.c + (size_t)i * row, row);
    return LCL_OK;
}

/* A depth of another number, of a and b that lie row by row of it: rows of zeros below both. */
static lcl_status matmul_depth(const struct lcl_gemm_call *call, int64_t padded)
{
    struct lcl_gemm_call p = *call;
    const size_t a_bytes = (size_t)round_up(padded * call->M * (int64_t)width_of(call->a_type), 64);
    const size_t b_bytes = (size_t)(padded * call->N) * width_of(call->b_type);
    if (padded == call->K) return matmul(call);
    char *copy = lcl_thread_scratch(PADDED_SLOT, a_bytes + b_bytes);
    if (!copy) return LCL_FAIL(LCL_MEMORY, "no memory for %zu bytes of rows", a_bytes + b_bytes);
    p.K = padded;
    p.a = copy;
    p.lda = call->M;
    p.b = copy + a_bytes;
    p.ldb = call->N;
    copy_rows(copy, call->a, call->a_type, call->lda, call->M, call->K, padded);
    copy_rows(copy + a_bytes, call->b, call->b_type, call->ldb, call->N, call->K, padded);
    return matmul(&p);
}

/* Lengths that vary from batch to batch are cut in a head of eight to an octave and a tail that is
 * padded to a quarter of their step: few distinct shapes, so that the cache holds them all. */
static int64_t step_of(int64_t n)
{
    int64_t step = LEAST_STEP;
    while (n >= 2 * LEAST_HEADS * step) step *= 2;
    return step;
}

/* Token counts are the rows, or the depth where a is transposed. */
static lcl_status matmul_cut(const struct lcl_gemm_call *call)
{
    struct lcl_gemm_call head = *call, tail = *call;
    const bool by_depth = call->trans_a && !call->trans_b && call->c_type == LCL_F32;
    const int64_t n = by_depth ? call->K : call->M, step = step_of(n), whole = n / step * step;
    const int64_t rest = n - whole, padded = round_up(rest, step / 4);
    if (call->trans_a && !by_depth) return matmul(call);
    if (rest == 0) return matmul(call);
    if (whole == 0) return by_depth ? matmul_depth(call, padded) : matmul_rows(call, padded);
    if (by_depth) {
        head.K = whole;
        tail.K = rest;
        tail.a = const_at(call->a, call->a_type, whole * call->lda);
        tail.b = const_at(call->b, call->b_type, whole * call->ldb);
        tail.beta = 1.0f;
        tail.bias = NULL;
    } else {
        head.M = whole;
        tail.M = rest;
        tail.a = const_at(call->a, call->a_type, whole * call->lda);
        tail.c = at(call->c, call->c_type, whole * call->ldc);
    }
    LCL_TRY(matmul(&head));
    /* c has changed: no other product may take over now */
    lcl_status status = by_depth ? matmul_depth(&tail, padded) : matmul_rows(&tail, padded);
    return status == LCL_UNSUPPORTED ? LCL_INTERNAL : status;
}

lcl_status LCL_CPU(gemm_library_f32)(const struct lcl_gemm_call *call)
{
    single_thread();
    if (f32_by_matmul && suits_matmul(call)) {
        struct lcl_gemm_call plain = *call;
        plain.bias = NULL;
        return matmul_cut(&plain);
    }
    dnnl_status_t s = dnnl_sgemm(call->trans_a ? 'T' : 'N', call->trans_b ? 'T' : 'N', call->M,
                                 call->N, call->K, call->alpha, call->a, call->lda, call->b,
                                 call->ldb, call->beta, call->c, call->ldc);
    return s == dnnl_success ? LCL_OK : fail("sgemm", s);
}

bool LCL_CPU(gemm_library_has_bf16)(void)
{
    single_thread();
    return bf16_native;
}

lcl_status LCL_CPU(gemm_library_native)(const struct lcl_gemm_call *call)
{
    single_thread();
    return suits_matmul(call) ? matmul_cut(call) : LCL_UNSUPPORTED;
}

const char *LCL_CPU(gemm_library)(void)
{
    static _Thread_local char
        name[64]; /* of the calling thread, so that nobody writes while another reads */
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}
#endif
