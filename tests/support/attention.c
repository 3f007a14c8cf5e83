#include "tests/support/attention.h"

#include <math.h>

#include "tests/support/fd.h"

int64_t attn_row_width(const struct attn_problem *p) { return (p->H + 2 * p->G) * p->D + p->pad; }
double attn_scale(const struct attn_problem *p) { return 1.0 / sqrt((double)p->D); }

void attn_add_sequences(struct attn_problem *p, const int32_t *lengths, int n)
{
    for (int i = 0; i < n; i++) {
        int32_t b = (int32_t)p->T, e = b + lengths[i];
        p->runs[p->n_runs] = (struct lcl_attn_run){b, e, b, b, b, e, p->n_runs};
        p->n_runs++;
        p->T = e;
    }
}

void attn_add_episode(struct attn_problem *p, int32_t context, const int32_t *branches, int n)
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

void attn_add_cross(struct attn_problem *p, const int32_t *queries, const int32_t *keys, int n)
{
    int32_t q = 0, k = 0;
    p->cross = true;
    p->q_pad = 8;
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

void attn_fill(struct attn_problem *p, uint64_t sample)
{
    p->qkv = dbl_normal((size_t)(p->T * attn_row_width(p)), 1.0, sample);
    p->d_out = dbl_normal((size_t)(p->T * p->H * p->D), 1.0, sample + 1);
}

/* The key rows that query row i of a run sees, in order; their number. */
static int64_t visible(const struct attn_problem *p, const struct lcl_attn_run *r, int32_t i,
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
static void reference_row(const struct attn_problem *p, const int32_t *keys, int64_t n, int64_t row,
                          int64_t head, bool plain, double *w, double *out, double *lse)
{
    int64_t width = attn_row_width(p), kv = head / (p->H / p->G), D = p->D;
    const double *q = p->qkv + row * width + head * D, *k = p->qkv + (p->H + kv) * D,
                 *v = k + p->G * D;
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        w[j] = rounded(rounded(dot(q, k + keys[j] * width, D), plain) * attn_scale(p), plain);
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

static void reference_row_bwd(const struct attn_problem *p, const int32_t *keys, int64_t n,
                              int64_t row, int64_t head, bool plain, const double *w,
                              struct attn_result *y)
{
    int64_t width = attn_row_width(p), kv = head / (p->H / p->G), D = p->D;
    int64_t at_q = row * width + head * D, at_k = (p->H + kv) * D, at_v = at_k + p->G * D;
    const double *d_out = p->d_out + (row * p->H + head) * D;
    double delta = dot(d_out, y->out + (row * p->H + head) * D, D);
    for (int64_t j = 0; j < n; j++) {
        int64_t key = keys[j] * width;
        double d_p = rounded(dot(d_out, p->qkv + key + at_v, D), plain);
        double d_s = rounded(w[j] * (d_p - delta), plain) * attn_scale(p);
        for (int64_t d = 0; d < D; d++) {
            y->d_qkv[at_q + d] += d_s * p->qkv[key + at_k + d];
            y->d_qkv[key + at_k + d] += d_s * p->qkv[at_q + d];
            y->d_qkv[key + at_v + d] += w[j] * d_out[d];
        }
    }
}

struct attn_result attn_reference(const struct attn_problem *p, bool plain, bool backward)
{
    struct attn_result y = {dbl_new((size_t)(p->T * p->H * p->D)), dbl_new((size_t)(p->T * p->H)),
                            dbl_new((size_t)(p->T * attn_row_width(p)))};
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
    for (int64_t i = 0; plain && i < p->T * attn_row_width(p); i++)
        y.d_qkv[i] = dbl_bf16(y.d_qkv[i]);
    free(keys);
    free(w);
    return y;
}

double attn_loss(void *ctx)
{
    const struct attn_problem *p = ctx;
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

/* Copies the columns of q from qkv to a matrix of q alone, or back. */
static void copy_q(const struct attn_problem *p, char *qkv, char *q, size_t element, bool back)
{
    size_t bytes = (size_t)(p->H * p->D) * element, pad = (size_t)p->q_pad * element,
           width = (size_t)attn_row_width(p) * element;
    for (int64_t t = 0; t < p->T; t++, qkv += width, q += bytes + pad)
        memcpy(back ? qkv : q, back ? q : qkv, bytes);
}

struct attn_buffers attn_run(struct attn_problem *p, lcl_dtype dtype, bool backward)
{
    int64_t width = attn_row_width(p), out_width = p->H * p->D;
    size_t bytes = lcl_dtype_bytes(dtype), k = (size_t)(p->H * p->D) * bytes,
           v = k + (size_t)(p->G * p->D) * bytes;
    char *qkv = buf_of(p->qkv, (size_t)(p->T * width), dtype);
    char *d_out = buf_of(p->d_out, (size_t)(p->T * out_width), dtype);
    char *d_qkv = buf_new((size_t)(p->T * width), dtype);
    struct attn_buffers b = {.out = buf_new((size_t)(p->T * out_width), dtype),
                             .d_qkv = d_qkv,
                             .lse = buf_new((size_t)(p->T * p->H), LCL_F32)};
    b.args =
        (struct lcl_attention_args){p->n_runs, p->H,      p->G,    p->D,      width,
                                    width,     out_width, dtype,   p->causal, (float)attn_scale(p),
                                    p->runs,   qkv,       qkv + k, qkv + v,   b.out,
                                    b.lse,     d_out,     d_qkv,   d_qkv + k, d_qkv + v,
                                    0};
    char *q = NULL, *d_q = NULL;
    if (p->cross) {
        b.args.q_stride = out_width + p->q_pad;
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

void attn_check_threads(lcl_dtype dtype)
{
    (void)test_exec();
    struct attn_problem p = {.H = 6, .G = 2, .D = 40, .causal = true};
    attn_add_sequences(&p, (int32_t[]){300, 31}, 2);
    attn_add_episode(&p, 200, (int32_t[]){33, 70}, 2);
    attn_fill(&p, 12);
    const size_t bytes = lcl_dtype_bytes(dtype), rows = (size_t)p.T;
    restart_threads(1);
    struct attn_buffers one = attn_run(&p, dtype, true);
    for (int n = 2; n <= 3; n++) {
        restart_threads(n);
        struct attn_buffers more = attn_run(&p, dtype, true);
        assert_memory_equal(one.out, more.out, rows * (size_t)(p.H * p.D) * bytes);
        assert_memory_equal(one.d_qkv, more.d_qkv, rows * (size_t)attn_row_width(&p) * bytes);
    }
    buf_end();
}
