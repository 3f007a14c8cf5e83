/* Attention against a naive double reference, its gradients against finite differences of that
 * reference. Long: one reference for all sizes, masks and kernels. */
#include <math.h>

#include "core/threads.h"
#include "tests/support/fd.h"

enum { MAX_RUNS = 80, Q_PAD = 8 };

struct problem {
    int64_t T, H, G, D, pad; /* pad: unused elements at the end of each packed row */
    bool causal;
    bool cross; /* q and d_q are matrices of their own, [T, H * D + Q_PAD] */
    int n_runs;
    struct lcl_attn_run runs[MAX_RUNS];
    double *qkv, *d_out; /* [T, row], [T, H * D] */
};

struct result {
    double *out, *lse, *d_qkv;
};

static int64_t row_width(const struct problem *p) { return (p->H + 2 * p->G) * p->D + p->pad; }
static double scale_of(const struct problem *p) { return 1.0 / sqrt((double)p->D); }

/* Separate sequences of these lengths. */
static void add_sequences(struct problem *p, const int32_t *lengths, int n)
{
    for (int i = 0; i < n; i++) {
        int32_t b = (int32_t)p->T, e = b + lengths[i];
        p->runs[p->n_runs] = (struct lcl_attn_run){b, e, b, b, b, e, p->n_runs};
        p->n_runs++;
        p->T = e;
    }
}

/* A context and branches that see it and themselves. */
static void add_episode(struct problem *p, int32_t context, const int32_t *branches, int n)
{
    int32_t b = (int32_t)p->T, e = b + context, group = p->n_runs;
    p->runs[p->n_runs++] = (struct lcl_attn_run){b, e, b, b, b, e, group};
    for (int i = 0; i < n; i++) {
        int32_t begin = e;
        for (int j = 0; j < i; j++) begin += branches[j];
        p->runs[p->n_runs++] = (struct lcl_attn_run){begin, begin + branches[i], b,    b + context,
                                                     begin, begin + branches[i], group};
        p->T = begin + branches[i];
    }
}

/* Queries of these numbers that see keys of those: query rows one after another, their keys from
 * the last run to the first, so that rows of q and rows of k are others. */
static void add_cross(struct problem *p, const int32_t *queries, const int32_t *keys, int n)
{
    int32_t q = 0, k = 0;
    p->cross = true;
    for (int i = 0; i < n; i++) k += keys[i];
    for (int i = 0; i < n; i++) {
        q += queries[i];
        k -= keys[i];
        p->runs[p->n_runs] =
            (struct lcl_attn_run){q - queries[i], q, 0, 0, k, k + keys[i], p->n_runs};
        p->n_runs++;
        if (q > p->T) p->T = q;
        if (k + keys[i] > p->T) p->T = k + keys[i];
    }
}

static void fill(struct problem *p, uint64_t sample)
{
    p->qkv = dbl_normal((size_t)(p->T * row_width(p)), 1.0, sample);
    p->d_out = dbl_normal((size_t)(p->T * p->H * p->D), 1.0, sample + 1);
}

/* The key rows that query row i of a run sees, in order; their number. */
static int64_t visible(const struct problem *p, const struct lcl_attn_run *r, int32_t i,
                       int32_t *keys)
{
    int64_t n = 0;
    for (int32_t k = r->prefix_begin; k < r->prefix_end; k++) keys[n++] = k;
    for (int32_t j = 0; j < r->own_end - r->own_begin; j++)
        if (!p->causal || j <= i + (r->own_end - r->own_begin) - (r->q_end - r->q_begin))
            keys[n++] = r->own_begin + j;
    return n;
}

static double rounded(double x, bool bf16) { return bf16 ? dbl_bf16(x) : x; }

static double dot(const double *x, const double *y, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

/* One query row and head: probabilities in w, which are rounded to bf16 with scores and out where
 * `plain`. */
static void reference_row(const struct problem *p, const int32_t *keys, int64_t n, int64_t row,
                          int64_t head, bool plain, double *w, double *out, double *lse)
{
    int64_t width = row_width(p), kv = head / (p->H / p->G), D = p->D;
    const double *q = p->qkv + row * width + head * D, *k = p->qkv + (p->H + kv) * D,
                 *v = k + p->G * D;
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        w[j] = rounded(rounded(dot(q, k + keys[j] * width, D), plain) * scale_of(p), plain);
        most = w[j] > most ? w[j] : most;
    }
    for (int64_t j = 0; j < n; j++) sum += exp(w[j] - most);
    *lse = most + log(sum);
    for (int64_t j = 0; j < n; j++) w[j] = rounded(exp(w[j] - most) / sum, plain);
    for (int64_t d = 0; d < D; d++) {
        double o = 0;
        for (int64_t j = 0; j < n; j++) o += w[j] * v[keys[j] * width + d];
        out[d] = rounded(o, plain);
    }
}

static void reference_row_bwd(const struct problem *p, const int32_t *keys, int64_t n, int64_t row,
                              int64_t head, bool plain, const double *w, struct result *y)
{
    int64_t width = row_width(p), kv = head / (p->H / p->G), D = p->D;
    int64_t at_q = row * width + head * D, at_k = (p->H + kv) * D, at_v = at_k + p->G * D;
    const double *d_out = p->d_out + (row * p->H + head) * D;
    double delta = dot(d_out, y->out + (row * p->H + head) * D, D);
    for (int64_t j = 0; j < n; j++) {
        int64_t key = keys[j] * width;
        double d_p = rounded(dot(d_out, p->qkv + key + at_v, D), plain);
        double d_s = rounded(w[j] * (d_p - delta), plain) * scale_of(p);
        for (int64_t d = 0; d < D; d++) {
            y->d_qkv[at_q + d] += d_s * p->qkv[key + at_k + d];
            y->d_qkv[key + at_k + d] += d_s * p->qkv[at_q + d];
            y->d_qkv[key + at_v + d] += w[j] * d_out[d];
        }
    }
}

static struct result reference(const struct problem *p, bool plain, bool backward)
{
    struct result y = {dbl_new((size_t)(p->T * p->H * p->D)), dbl_new((size_t)(p->T * p->H)),
                       dbl_new((size_t)(p->T * row_width(p)))};
    int32_t *keys = malloc((size_t)p->T * sizeof *keys);
    double *w = malloc((size_t)p->T * sizeof *w);
    assert_true(keys && w);
    for (int r = 0; r < p->n_runs; r++)
        for (int32_t i = 0; i < p->runs[r].q_end - p->runs[r].q_begin; i++)
            for (int64_t h = 0; h < p->H; h++) {
                int64_t n = visible(p, &p->runs[r], i, keys), row = p->runs[r].q_begin + i;
                int64_t at = row * p->H + h;
                reference_row(p, keys, n, row, h, plain, w, y.out + at * p->D, y.lse + at);
                if (backward) reference_row_bwd(p, keys, n, row, h, plain, w, &y);
            }
    for (int64_t i = 0; plain && i < p->T * row_width(p); i++) y.d_qkv[i] = dbl_bf16(y.d_qkv[i]);
    free(keys);
    free(w);
    return y;
}

/* sum(d_out * out), of problems small enough to be done hundreds of times. */
static double loss(void *ctx)
{
    const struct problem *p = ctx;
    int32_t keys[128];
    double w[128], out[128], lse, sum = 0;
    for (int r = 0; r < p->n_runs; r++)
        for (int32_t i = 0; i < p->runs[r].q_end - p->runs[r].q_begin; i++)
            for (int64_t h = 0; h < p->H; h++) {
                int64_t n = visible(p, &p->runs[r], i, keys), row = p->runs[r].q_begin + i;
                int64_t at = row * p->H + h;
                reference_row(p, keys, n, row, h, false, w, out, &lse);
                sum += dot(out, p->d_out + at * p->D, p->D);
            }
    return sum;
}

struct run_buffers {
    struct lcl_attention_args args;
    void *out, *d_qkv;
    float *lse;
};

/* Copies the columns of q from qkv to a matrix of q alone, or back. */
static void copy_q(const struct problem *p, char *qkv, char *q, size_t element, bool back)
{
    size_t bytes = (size_t)(p->H * p->D) * element, pad = Q_PAD * element,
           width = (size_t)row_width(p) * element;
    for (int64_t t = 0; t < p->T; t++, qkv += width, q += bytes + pad)
        memcpy(back ? qkv : q, back ? q : qkv, bytes);
}

/* Runs the op on the problem's numbers rounded to dtype (which rounds the problem too). */
static struct run_buffers run_op(struct problem *p, lcl_dtype dtype, bool backward)
{
    int64_t width = row_width(p), out_width = p->H * p->D;
    size_t bytes = lcl_dtype_bytes(dtype), k = (size_t)(p->H * p->D) * bytes,
           v = k + (size_t)(p->G * p->D) * bytes;
    char *qkv = buf_of(p->qkv, (size_t)(p->T * width), dtype);
    char *d_out = buf_of(p->d_out, (size_t)(p->T * out_width), dtype);
    char *d_qkv = buf_new((size_t)(p->T * width), dtype);
    struct run_buffers b = {.out = buf_new((size_t)(p->T * out_width), dtype),
                            .d_qkv = d_qkv,
                            .lse = buf_new((size_t)(p->T * p->H), LCL_F32)};
    b.args = (struct lcl_attention_args){
        p->n_runs,          p->H,      p->G, p->D,    width,   width, out_width, dtype, p->causal,
        (float)scale_of(p), p->runs,   qkv,  qkv + k, qkv + v, b.out, b.lse,     d_out, d_qkv,
        d_qkv + k,          d_qkv + v, 0};
    char *q = NULL, *d_q = NULL;
    if (p->cross) {
        b.args.q_stride = out_width + Q_PAD;
        b.args.q = q = buf_new((size_t)(p->T * b.args.q_stride), dtype);
        b.args.d_q = d_q = buf_new((size_t)(p->T * b.args.q_stride), dtype);
        copy_q(p, qkv, q, bytes, false);
    }
    struct lcl_exec *ex = test_exec();
    ASSERT_OK(ex->ops->attention_fwd(ex, &b.args));
    if (backward) ASSERT_OK(ex->ops->attention_bwd(ex, &b.args));
    if (p->cross) copy_q(p, d_qkv, d_q, bytes, true);
    buf_check();
    return b;
}

/* Compares forward and backward with the double reference; padding columns must be as they were. */
static void check_against_reference(struct problem *p)
{
    struct run_buffers b = run_op(p, LCL_F32, true);
    struct result want = reference(p, false, true);
    int64_t width = row_width(p);
    check_close("out", b.out, LCL_F32, want.out, (size_t)(p->T * p->H * p->D), 3e-6);
    check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), 3e-6);
    float *d = b.d_qkv;
    for (int64_t i = 0; i < p->T * width; i++)
        if (i % width >= width - p->pad) {
            assert_true(isnan(d[i]));
            d[i] = 0;
        }
    check_close("d_qkv", d, LCL_F32, want.d_qkv, (size_t)(p->T * width), 6e-6);
    buf_end();
}

static void test_sizes_and_widths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 31, 33, 100, 65};
    static const int64_t widths[] = {4, 20, 32, 48, 64, 100, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int causal = 0; causal < 2; causal++) {
            struct problem p = {.H = w % 2 ? 3 : 2,
                                .G = w % 2 ? 1 : 2,
                                .D = widths[w],
                                .pad = w % 3 ? 5 : 0,
                                .causal = causal};
            add_sequences(&p, lengths, 5);
            fill(&p, 10 * w);
            check_against_reference(&p);
        }
}

static void test_long_sequences_in_slices(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct problem p = {.H = 3, .G = 1, .D = 20, .causal = causal};
        add_sequences(&p, (int32_t[]){257}, 1);
        fill(&p, 3);
        check_against_reference(&p);
    }
    struct problem many = {
        .H = 33, .G = 1, .D = 8, .causal = true}; /* a row's heads cross blocks */
    add_sequences(&many, (int32_t[]){70, 3}, 2);
    fill(&many, 4);
    check_against_reference(&many);
}

static void test_shared_prefix(void **state)
{
    (void)state;
    struct problem p = {.H = 6, .G = 2, .D = 32, .pad = 3, .causal = true};
    add_episode(&p, 131, (int32_t[]){1, 33, 7, 70, 64}, 5);
    add_sequences(&p, (int32_t[]){9}, 1);
    add_episode(&p, 5, (int32_t[]){2, 2, 2}, 3);
    fill(&p, 5);
    check_against_reference(&p);
}

/* Rows that no run names as its queries, or as its keys, must be as they were: they become the
 * reference's zeros. */
static void check_not_written(const struct problem *p, struct run_buffers *b)
{
    int64_t width = row_width(p), of_q = p->H * p->D;
    bool *named = calloc((size_t)(2 * p->T), sizeof *named), *keys = named + p->T;
    assert_non_null(named);
    for (int r = 0; r < p->n_runs; r++) {
        for (int32_t t = p->runs[r].q_begin; t < p->runs[r].q_end; t++) named[t] = true;
        for (int32_t t = p->runs[r].own_begin; t < p->runs[r].own_end; t++) keys[t] = true;
    }
    bool bf16 = b->args.dtype == LCL_BF16;
    lcl_bf16 *narrow = b->d_qkv;
    float *d = b->d_qkv;
    for (int64_t i = 0; i < p->T * width; i++) {
        int64_t t = i / width, column = i % width;
        if (column < of_q ? named[t] : keys[t] && column < width - p->pad) continue;
        assert_true(isnan(bf16 ? lcl_bf16_to_f32(narrow[i]) : d[i]));
        if (bf16)
            narrow[i] = 0;
        else
            d[i] = 0;
    }
    float *lse = b->lse;
    for (int64_t i = 0; i < p->T * p->H; i++) {
        if (named[i / p->H]) continue;
        assert_true(isnan(lse[i]));
        lse[i] = 0;
        for (int64_t c = i * p->D; c < (i + 1) * p->D; c++) {
            assert_true(
                isnan(bf16 ? lcl_bf16_to_f32(((lcl_bf16 *)b->out)[c]) : ((float *)b->out)[c]));
            if (bf16)
                ((lcl_bf16 *)b->out)[c] = 0;
            else
                ((float *)b->out)[c] = 0;
        }
    }
    free(named);
}

/* On every kernel there is for the type. */
static void check_cross(struct problem *p, lcl_dtype dtype)
{
    bool bf16 = dtype == LCL_BF16;
    for (int64_t i = 0; bf16 && i < p->T * row_width(p); i++) p->qkv[i] = dbl_bf16(p->qkv[i]);
    struct result want = reference(p, false, true), plain = {0};
    if (bf16) plain = reference(p, true, true);
    size_t out = (size_t)(p->T * p->H * p->D), qkv = (size_t)(p->T * row_width(p));
    for (int wgmma = 0; wgmma < (bf16 ? 2 : 1); wgmma++) {
        if (bf16 && !test_backend_wgmma(wgmma)) continue;
        struct run_buffers b = run_op(p, dtype, true);
        if (wgmma) assert_true(test_backend_wgmma(false));
        check_not_written(p, &b);
        check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), bf16 ? 1e-5 : 3e-6);
        if (bf16) {
            check_bf16(wgmma ? "out, wgmma" : "out", b.out, plain.out, want.out, out);
            check_bf16(wgmma ? "d_qkv, wgmma" : "d_qkv", b.d_qkv, plain.d_qkv, want.d_qkv, qkv);
        } else {
            check_close("out", b.out, LCL_F32, want.out, out, 3e-6);
            check_close("d_qkv", b.d_qkv, LCL_F32, want.d_qkv, qkv, 6e-6);
        }
    }
    buf_end();
}

/* Fewer queries than keys, and more; one query a run alone, which a GPU does as it decodes. */
static void test_cross(void **state)
{
    (void)state;
    static const int32_t queries[] = {1, 31, 33, 33, 1}, keys[] = {257, 5, 64, 1, 5};
    static const int32_t ones[] = {1, 1}, long_keys[] = {257, 33};
    static const int64_t widths[] = {4, 20, 64, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct problem p = {.H = w % 2 ? 6 : 2, .G = 2, .D = widths[w], .pad = w % 2 ? 5 : 0};
            add_cross(&p, queries, keys, 5);
            fill(&p, 60 + 2 * w);
            check_cross(&p, dtype ? LCL_BF16 : LCL_F32);
        }
    for (int dtype = 0; dtype < 2; dtype++) {
        struct problem p = {.H = 4, .G = 2, .D = 24};
        add_cross(&p, ones, long_keys, 2);
        fill(&p, 70);
        check_cross(&p, dtype ? LCL_BF16 : LCL_F32);
        struct problem many = {.H = 3, .G = 1, .D = 16}; /* several tiles of queries */
        add_cross(&many, (int32_t[]){257, 140}, (int32_t[]){33, 130}, 2);
        fill(&many, 72);
        check_cross(&many, dtype ? LCL_BF16 : LCL_F32);
    }
}

static void test_cross_finite_differences(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct problem p = {.H = 4, .G = 2, .D = 12};
        add_cross(&p, (int32_t[]){5, 1, 33}, (int32_t[]){7, 33, 3}, 3);
        fill(&p, 80);
        struct run_buffers b = run_op(&p, dtype ? LCL_BF16 : LCL_F32, true);
        check_not_written(&p, &b);
        fd_check("d_qkv", loss, &p, p.qkv, (size_t)(p.T * row_width(&p)), b.d_qkv, b.args.dtype,
                 NULL, dtype ? 2e-2 : 2e-5);
        buf_end();
    }
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct problem p = {.H = 3, .G = causal ? 1 : 3, .D = 12, .causal = causal};
            add_sequences(&p, (int32_t[]){1, 33}, 2);
            add_episode(&p, 17, (int32_t[]){5, 1, 4}, 3);
            fill(&p, 6);
            struct run_buffers b = run_op(&p, dtype ? LCL_BF16 : LCL_F32, true);
            fd_check("d_qkv", loss, &p, p.qkv, (size_t)(p.T * row_width(&p)), b.d_qkv, b.args.dtype,
                     NULL, dtype ? 2e-2 : 2e-5);
            buf_end();
        }
}

static void check_bf16_problem(struct problem *p, uint64_t seed)
{
    fill(p, seed);
    struct run_buffers b = run_op(p, LCL_BF16, true);
    struct result want = reference(p, false, true), plain = reference(p, true, true);
    check_bf16("out", b.out, plain.out, want.out, (size_t)(p->T * p->H * p->D));
    check_bf16("d_qkv", b.d_qkv, plain.d_qkv, want.d_qkv, (size_t)(p->T * row_width(p)));
    check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), 1e-5);
    buf_end();
}

static void test_bf16_as_good_as_plain(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct problem p = {.H = 3, .G = 3, .D = 64, .causal = causal};
        add_sequences(&p, (int32_t[]){100, 1, 31}, 3);
        add_episode(&p, 70, (int32_t[]){33, 5}, 2);
        check_bf16_problem(&p, 7);
    }
    for (int w = 0; w < 4; w++) { /* all widths, and more rows than a tile has */
        struct problem p = {.H = 1, .G = 1, .D = (int64_t[]){16, 32, 96, 128}[w], .causal = w % 2};
        add_sequences(&p, (int32_t[]){137}, 1);
        check_bf16_problem(&p, 8);
    }
}

/* On every kernel there is for bf16. */
static void check_bf16_kernels(struct problem *p, bool backward)
{
    struct result want = reference(p, false, backward), plain = reference(p, true, backward);
    for (int wgmma = 0; wgmma < 2; wgmma++) {
        if (!test_backend_wgmma(wgmma)) continue;
        struct run_buffers b = run_op(p, LCL_BF16, backward);
        if (wgmma) assert_true(test_backend_wgmma(false));
        check_bf16(wgmma ? "out, wgmma" : "out", b.out, plain.out, want.out,
                   (size_t)(p->T * p->H * p->D));
        check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), 1e-5);
        lcl_bf16 *d = b.d_qkv;
        for (int64_t i = 0; backward && i < p->T * row_width(p); i++)
            if (i % row_width(p) >= row_width(p) - p->pad) {
                assert_true(isnan(lcl_bf16_to_f32(d[i])));
                d[i] = 0;
            }
        if (backward)
            check_bf16(wgmma ? "d_qkv, wgmma" : "d_qkv", d, plain.d_qkv, want.d_qkv,
                       (size_t)(p->T * row_width(p)));
    }
    buf_end();
}

static void test_bf16_widths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 31, 33, 100, 129};
    static const int64_t widths[] = {8, 16, 24, 64, 72, 96, 104, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        struct problem p = {
            .H = 2, .G = w % 2 + 1, .D = widths[w], .pad = w % 2 * 8, .causal = w % 3 != 0};
        add_sequences(&p, lengths, 5);
        fill(&p, 20 + 10 * w);
        /* as the op reads them */
        for (int64_t i = 0; i < p.T * row_width(&p); i++) p.qkv[i] = dbl_bf16(p.qkv[i]);
        check_bf16_kernels(&p, true);
    }
}

/* Several steps of keys a tile; prefixes and branches whose ends are anywhere; a cache's tail. */
static void test_bf16_masks(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct problem p = {.H = 2, .G = 1, .D = 32, .causal = causal};
        add_episode(&p, 300, (int32_t[]){1, 33, 130}, 3);
        add_sequences(&p, (int32_t[]){257}, 1);
        fill(&p, 5);
        for (int64_t i = 0; i < p.T * row_width(&p); i++) p.qkv[i] = dbl_bf16(p.qkv[i]);
        check_bf16_kernels(&p, true);
    }
}

/* Rows [begin, end) of n elements become no numbers. */
static void spoil(const void *x, int64_t n, int64_t begin, int64_t end)
{
    lcl_bf16 *at = (lcl_bf16 *)(uintptr_t)x;
    for (int64_t i = begin * n; i < end * n; i++) at[i] = lcl_f32_to_bf16(NAN);
}

static void check_rows(const char *what, const void *got, const double *want, int64_t n,
                       int64_t begin, int64_t end)
{
    check_close(what, (const lcl_bf16 *)got + begin * n, LCL_BF16, want + begin * n,
                (size_t)((end - begin) * n), 1e-2);
}

/* Rows that no query sees may hold anything: the second of three sequences, which is left out. */
static void check_others_not_touched(int32_t length)
{
    struct problem p = {.H = 2, .G = 1, .D = 64, .causal = true};
    add_sequences(&p, (int32_t[]){length, 30, 70}, 3);
    fill(&p, 6);
    struct run_buffers b = run_op(&p, LCL_BF16, true);
    const int64_t width = row_width(&p), row = p.H * p.D, next = length + 30;
    double *out = buf_read(b.out, (size_t)(p.T * row), LCL_BF16);
    double *d_qkv = buf_read(b.d_qkv, (size_t)(p.T * width), LCL_BF16);
    spoil(b.args.q, width, length, next);
    spoil(b.args.d_out, row, length, next);
    const struct lcl_attn_run seen[] = {p.runs[0], p.runs[2]};
    b.args.runs = seen;
    b.args.n_runs = 2;
    for (int wgmma = 0; wgmma < 2; wgmma++) {
        if (!test_backend_wgmma(wgmma)) continue;
        ASSERT_OK(test_exec()->ops->attention_fwd(test_exec(), &b.args));
        ASSERT_OK(test_exec()->ops->attention_bwd(test_exec(), &b.args));
        if (wgmma) assert_true(test_backend_wgmma(false));
        check_rows("out", b.out, out, row, 0, length);
        check_rows("out", b.out, out, row, next, p.T);
        check_rows("d_qkv", b.d_qkv, d_qkv, width, 0, length);
        check_rows("d_qkv", b.d_qkv, d_qkv, width, next, p.T);
    }
    buf_end();
}

static void test_bf16_others_are_not_touched(void **state)
{
    (void)state;
    check_others_not_touched(140);
    check_others_not_touched(127); /* one row past the end, of a step of 128 and of one of 64 */
}

/* The last rows of a causal sequence, asked for one at a time over a cache, and as a prefill's
 * tail. */
static void test_decode_equals_full(void **state)
{
    (void)state;
    struct problem full = {.H = 6, .G = 2, .D = 48, .causal = true};
    add_sequences(&full, (int32_t[]){203}, 1);
    fill(&full, 8);
    struct run_buffers b = run_op(&full, LCL_F32, false);
    double *want = buf_read(b.out, (size_t)(full.T * full.H * full.D), LCL_F32);
    struct problem decode = full;
    decode.n_runs = 4;
    for (int32_t i = 0; i < 3; i++)
        decode.runs[i] = (struct lcl_attn_run){200 + i, 201 + i, 0, 0, 0, 201 + i, i};
    decode.runs[3] = (struct lcl_attn_run){100, 200, 0, 0, 0, 200, 3};
    struct run_buffers d = run_op(&decode, LCL_F32, false);
    int64_t from = 100 * full.H * full.D;
    check_close("decoded rows", (float *)d.out + from, LCL_F32, want + from,
                (size_t)(103 * full.H * full.D), 3e-6);
    buf_end();
}

/* One row a run, over a cache that is the problem's own rows: out and lse against the reference,
 * and no other row touched. */
static void check_decode(struct problem *p, lcl_dtype dtype)
{
    struct run_buffers b = run_op(p, dtype, false);
    struct result want = reference(p, false, false);
    const size_t width = (size_t)(p->H * p->D);
    bool *asked = calloc((size_t)p->T, sizeof *asked);
    assert_non_null(asked);
    struct result plain = {0};
    if (dtype == LCL_BF16) plain = reference(p, true, false);
    for (int i = 0; i < p->n_runs; i++) {
        const int64_t row = p->runs[i].q_begin, at = row * (int64_t)width;
        asked[row] = true;
        check_close("lse", b.lse + row * p->H, LCL_F32, want.lse + row * p->H, (size_t)p->H,
                    dtype == LCL_BF16 ? 1e-5 : 3e-6);
        if (dtype == LCL_BF16)
            check_bf16("out", (lcl_bf16 *)b.out + at, plain.out + at, want.out + at, width);
        else
            check_close("out", (float *)b.out + at, LCL_F32, want.out + at, width, 3e-6);
    }
    const double *out = buf_read(b.out, (size_t)p->T * width, dtype);
    for (size_t i = 0; i < (size_t)p->T * width; i++)
        assert_true(asked[i / width] || isnan(out[i]));
    free(asked);
    buf_end();
}

/* Decoding many branches of one context at once: one row each, over the context and a few own keys.
 */
static void test_decode_branches(void **state)
{
    (void)state;
    struct problem p = {.T = 100 + 70 * 3, .H = 3, .G = 1, .D = 32, .causal = true, .n_runs = 70};
    for (int32_t i = 0; i < 70; i++) {
        int32_t own = 100 + 3 * i;
        p.runs[i] =
            (struct lcl_attn_run){own + i % 3, own + i % 3 + 1, 0, 100, own, own + i % 3 + 1, 0};
    }
    fill(&p, 9);
    check_decode(&p, LCL_F32);
}

/* A sequence's last row over all of it: keys that end within a tile, and that fill several parts.
 */
static void test_decode_lengths_and_widths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 31, 33, 257, 600};
    static const int64_t widths[] = {4, 16, 20, 32, 48, 64, 100, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct problem p = {.G = 2, .D = widths[w], .pad = w % 3 ? 4 : 0, .causal = w % 2};
            p.H = p.G * (1 + (int64_t)w);
            add_sequences(&p, lengths, 5);
            for (int i = 0; i < p.n_runs; i++) p.runs[i].q_begin = p.runs[i].q_end - 1;
            fill(&p, 20 + w);
            check_decode(&p, dtype ? LCL_BF16 : LCL_F32);
        }
}

/* Contexts of several groups with their branches, two tokens long so far: tiles of rows that hold
 * more than one group, prefixes of several parts, and runs without one. */
static void test_decode_groups(void **state)
{
    (void)state;
    static const int64_t heads[] = {1, 3, 4, 8, 17};
    static const int32_t contexts[] = {300, 0, 31, 520};
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct problem p = {.H = 2 * heads[h], .G = 2, .D = 24, .causal = true};
            for (int32_t g = 0; g < 4; g++) {
                const int32_t from = (int32_t)p.T, to = from + contexts[g];
                p.T = to;
                for (int32_t i = 0; i < 2 + 3 * (g % 2); i++, p.T += 2)
                    p.runs[p.n_runs++] =
                        (struct lcl_attn_run){(int32_t)p.T + 1, (int32_t)p.T + 2, from, to,
                                              (int32_t)p.T,     (int32_t)p.T + 2, g};
            }
            fill(&p, 40 + h);
            check_decode(&p, dtype ? LCL_BF16 : LCL_F32);
        }
}

/* More keys than the most parts of their usual length hold. */
static void test_decode_long(void **state)
{
    (void)state;
    struct problem p = {.H = 2, .G = 1, .D = 4, .causal = true};
    add_sequences(&p, (int32_t[]){16500}, 1);
    p.runs[0].q_begin = p.runs[0].q_end - 1;
    fill(&p, 50);
    check_decode(&p, LCL_F32);
}

static void test_prefix_equals_separate(void **state)
{
    (void)state;
    int32_t branch[] = {20, 41};
    struct problem shared = {.H = 3, .G = 3, .D = 32, .causal = true};
    add_episode(&shared, 75, branch, 2);
    fill(&shared, 11);
    struct run_buffers s = run_op(&shared, LCL_F32, false);
    double *got = buf_read(s.out, (size_t)(shared.T * shared.H * shared.D), LCL_F32);
    for (int i = 0, begin = 75; i < 2; begin += branch[i++]) {
        struct problem alone = {.H = 3, .G = 3, .D = 32, .causal = true};
        add_sequences(&alone, (int32_t[]){75 + branch[i]}, 1);
        fill(&alone, 11); /* the context's rows are the first of the same stream */
        int64_t width = row_width(&alone);
        memcpy(alone.qkv + 75 * width, shared.qkv + begin * width,
               (size_t)(branch[i] * width) * sizeof(double));
        struct run_buffers a = run_op(&alone, LCL_F32, false);
        int64_t row = alone.H * alone.D;
        check_close("branch", (float *)a.out + 75 * row, LCL_F32, got + begin * row,
                    (size_t)(branch[i] * row), 3e-6);
    }
    buf_end();
}

static void test_same_bits_for_any_threads(void **state)
{
    (void)state;
    (void)test_exec();
    struct problem p = {.H = 6, .G = 2, .D = 40, .causal = true};
    add_sequences(&p, (int32_t[]){300, 31}, 2);
    add_episode(&p, 200, (int32_t[]){33, 70}, 2);
    fill(&p, 12);
    size_t out = (size_t)(p.T * p.H * p.D), qkv = (size_t)(p.T * row_width(&p));
    restart_threads(1);
    struct run_buffers one = run_op(&p, LCL_F32, true);
    restart_threads(2);
    struct run_buffers two = run_op(&p, LCL_F32, true);
    restart_threads(3);
    struct run_buffers three = run_op(&p, LCL_F32, true);
    assert_memory_equal(one.out, two.out, out * sizeof(float));
    assert_memory_equal(one.d_qkv, two.d_qkv, qkv * sizeof(float));
    assert_memory_equal(one.d_qkv, three.d_qkv, qkv * sizeof(float));
    buf_end();
}

static void test_extreme_scores(void **state)
{
    (void)state;
    struct problem p = {.H = 1, .G = 1, .D = 4, .causal = true};
    add_sequences(&p, (int32_t[]){100}, 1);
    fill(&p, 13);
    for (int64_t i = 0; i < p.T * row_width(&p); i++) p.qkv[i] *= i % 12 < 8 ? 40 : 1;
    struct run_buffers b = run_op(&p, LCL_F32, true);
    struct result want = reference(&p, false, true);
    check_close("out", b.out, LCL_F32, want.out, (size_t)(p.T * p.D), 1e-3);
    ((float *)(void *)(uintptr_t)b.args.q)[50 * 12] = NAN;
    ASSERT_OK(test_exec()->ops->attention_fwd(test_exec(), &b.args));
    assert_true(isnan(((float *)b.out)[50 * 4]));
    assert_false(isnan(((float *)b.out)[49 * 4]));
    struct lcl_attn_run rows[] = {{50, 51, 0, 0, 0, 51, 0}, {49, 50, 0, 0, 0, 50, 1}};
    b.args.runs = rows;
    b.args.n_runs = 2;
    ASSERT_OK(test_exec()->ops->attention_fwd(test_exec(), &b.args));
    assert_true(isnan(((float *)b.out)[50 * 4]));
    check_close("decoded", (float *)b.out + 49 * 4, LCL_F32, want.out + 49 * 4, 4, 1e-3);
    buf_end();
}

static void test_refuses_bad_shapes(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x[512] = {0};
    struct lcl_attn_run run = {0, 4, 0, 0, 0, 4, 0};
    struct lcl_attention_args good = {1, 2, 1, 8, 32, 32, 16, LCL_F32, true, 1.0f, &run,
                                      x, x, x, x, x,  x,  x,  x,       x,    0};
    struct lcl_attention_args bad = good;
    bad.D = 6;
    ASSERT_FAILS(ex->ops->attention_fwd(ex, &bad), LCL_SHAPE, "head width 6");
    bad = good;
    bad.G = 3;
    ASSERT_FAILS(ex->ops->attention_fwd(ex, &bad), LCL_SHAPE, "2 query heads over 3");
    bad = good;
    bad.q_stride = 8;
    ASSERT_FAILS(ex->ops->attention_fwd(ex, &bad), LCL_SHAPE, "strides 8");
    bad = good;
    bad.lse_TH = NULL;
    ASSERT_FAILS(ex->ops->attention_bwd(ex, &bad), LCL_SHAPE, "lse");
    run.own_end = 3;
    ASSERT_FAILS(ex->ops->attention_fwd(ex, &good), LCL_SHAPE, "sees no key");
    run.own_end = 5;
    ASSERT_FAILS(ex->ops->attention_bwd(ex, &good), LCL_SHAPE, "queries 0..4 but keys 0..5");
    bad = good; /* cross attention: not causal, without a prefix, with queries */
    bad.causal = false;
    run.prefix_end = 2;
    ASSERT_FAILS(ex->ops->attention_bwd(ex, &bad), LCL_SHAPE, "queries 0..4 but keys 0..5");
    run.prefix_end = 0;
    run.q_end = 0;
    ASSERT_FAILS(ex->ops->attention_bwd(ex, &bad), LCL_SHAPE, "queries 0..0 but keys 0..5");
    run.q_end = -1;
    ASSERT_FAILS(ex->ops->attention_fwd(ex, &good), LCL_SHAPE, "run 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_widths),
        cmocka_unit_test(test_long_sequences_in_slices),
        cmocka_unit_test(test_shared_prefix),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_cross),
        cmocka_unit_test(test_cross_finite_differences),
        cmocka_unit_test(test_bf16_as_good_as_plain),
        cmocka_unit_test(test_bf16_widths),
        cmocka_unit_test(test_bf16_masks),
        cmocka_unit_test(test_bf16_others_are_not_touched),
        cmocka_unit_test(test_decode_equals_full),
        cmocka_unit_test(test_decode_branches),
        cmocka_unit_test(test_decode_lengths_and_widths),
        cmocka_unit_test(test_decode_groups),
        cmocka_unit_test(test_decode_long),
        cmocka_unit_test(test_prefix_equals_separate),
        cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_refuses_bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
