#include "tests/support/fd.h"

#include <math.h>

#include "core/rng.h"
#include "core/threads.h"

enum { GUARD_BYTES = 128, MAX_BUFFERS = 4096, SPREAD = 48, DIRECTIONS = 4, GUARD = 0xA5 };

static struct buffer {
    unsigned char *base;
    size_t bytes;
} buffers[MAX_BUFFERS];
static int n_buffers;

static void *allocate(size_t bytes)
{
    if (n_buffers == MAX_BUFFERS) fail_msg("more than %d buffers in one test", MAX_BUFFERS);
    unsigned char *base = test_backend_alloc(GUARD_BYTES, bytes);
    if (!base) fail_msg("no memory for a buffer of %zu bytes", bytes);
    memset(base, GUARD, 2 * GUARD_BYTES + bytes);
    buffers[n_buffers++] = (struct buffer){base, bytes};
    return base + GUARD_BYTES;
}

double *dbl_new(size_t n)
{
    double *x = allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = 0;
    return x;
}

double *dbl_normal(size_t n, double std, uint64_t sample)
{
    struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 1, sample);
    double *x = dbl_new(n);
    for (size_t i = 0; i < n; i++) x[i] = std * (double)lcl_rng_normal(&rng);
    return x;
}

double dbl_bf16(double x) { return (double)lcl_bf16_to_f32(lcl_f32_to_bf16((float)x)); }

static double load(const void *buf, size_t i, lcl_dtype dtype)
{
    switch (dtype) {
    case LCL_F32:
        return (double)((const float *)buf)[i];
    case LCL_BF16:
        return (double)lcl_bf16_to_f32(((const lcl_bf16 *)buf)[i]);
    case LCL_F64:
        return ((const double *)buf)[i];
    default:
        fail_msg("buffers hold f32, bf16 or f64, not %s", lcl_dtype_name(dtype));
    }
    return 0;
}

static void store(void *buf, size_t i, lcl_dtype dtype, double x)
{
    switch (dtype) {
    case LCL_F32:
        ((float *)buf)[i] = (float)x;
        return;
    case LCL_BF16:
        ((lcl_bf16 *)buf)[i] = lcl_f32_to_bf16((float)x);
        return;
    case LCL_F64:
        ((double *)buf)[i] = x;
        return;
    default:
        fail_msg("buffers hold f32, bf16 or f64, not %s", lcl_dtype_name(dtype));
    }
}

void *buf_new(size_t n, lcl_dtype dtype)
{
    void *buf = allocate(n * lcl_dtype_bytes(dtype));
    for (size_t i = 0; i < n; i++) store(buf, i, dtype, (double)NAN);
    return buf;
}

void *buf_of(double *x, size_t n, lcl_dtype dtype)
{
    void *buf = allocate(n * lcl_dtype_bytes(dtype));
    for (size_t i = 0; i < n; i++) {
        store(buf, i, dtype, x[i]);
        x[i] = load(buf, i, dtype);
    }
    return buf;
}

int32_t *buf_i32(const int32_t *x, size_t n)
{
    int32_t *buf = allocate(n * sizeof *buf);
    if (n) memcpy(buf, x, n * sizeof *buf);
    return buf;
}

double *buf_read(const void *buf, size_t n, lcl_dtype dtype)
{
    double *x = dbl_new(n);
    for (size_t i = 0; i < n; i++) x[i] = load(buf, i, dtype);
    return x;
}

void buf_check(void)
{
    for (int b = 0; b < n_buffers; b++) {
        const unsigned char *before = buffers[b].base,
                            *after = before + GUARD_BYTES + buffers[b].bytes;
        for (int i = 0; i < GUARD_BYTES; i++) {
            if (before[i] != GUARD)
                fail_msg("buffer %d (%zu bytes): byte %d before it changed", b, buffers[b].bytes,
                         GUARD_BYTES - i);
            if (after[i] != GUARD)
                fail_msg("buffer %d (%zu bytes): byte %d after it changed", b, buffers[b].bytes, i);
        }
    }
}

void buf_end(void)
{
    buf_check();
    while (n_buffers > 0) test_backend_free(buffers[--n_buffers].base, GUARD_BYTES);
}

static double greatest(const double *x, size_t n)
{
    double m = 1e-30;
    for (size_t i = 0; i < n; i++) m = fmax(m, fabs(x[i]));
    return m;
}

void check_close(const char *what, const void *got, lcl_dtype dtype, const double *want, size_t n,
                 double tol)
{
    double scale = greatest(want, n);
    for (size_t i = 0; i < n; i++) {
        double g = load(got, i, dtype), bound = tol * scale;
        if (dtype == LCL_BF16) bound += 2 * fabs(dbl_bf16(want[i]) - want[i]);
        if (!(fabs(g - want[i]) <= bound))
            fail_msg("%s[%zu of %zu] (%s) is %.9g, wanted %.9g within %.3g", what, i, n,
                     lcl_dtype_name(dtype), g, want[i], bound);
    }
}

void check_bf16(const char *what, const void *got, const double *plain, const double *want,
                size_t n)
{
    double max_got = 0, max_plain = 0, sum_got = 0, sum_plain = 0;
    for (size_t i = 0; i < n; i++) {
        double e = load(got, i, LCL_BF16) - want[i], p = dbl_bf16(plain[i]) - want[i];
        if (!isfinite(e)) fail_msg("%s[%zu of %zu] is not finite", what, i, n);
        max_got = fmax(max_got, fabs(e));
        max_plain = fmax(max_plain, fabs(p));
        sum_got += e * e;
        sum_plain += p * p;
    }
    double floor = 1e-6 * greatest(want, n);
    if (max_got > 2 * max_plain + floor || sqrt(sum_got) > 2 * sqrt(sum_plain) + floor)
        fail_msg("%s (bf16): error max %.3g, norm %.3g; plain bf16 has %.3g, %.3g", what, max_got,
                 sqrt(sum_got), max_plain, sqrt(sum_plain));
}

/* d loss(x + t u) / dt at t = 0; u NULL: along coordinate `at`. */
static double slope(fd_loss loss, void *ctx, double *x, size_t n, const double *u, size_t at,
                    const double *saved)
{
    static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    const double h = 1e-3;
    double sum = 0;
    for (int k = 0; k < 4; k++) {
        if (u)
            for (size_t i = 0; i < n; i++) x[i] = saved[i] + step[k] * h * u[i];
        else
            x[at] = saved[at] + step[k] * h;
        sum += weight[k] * loss(ctx);
    }
    if (u)
        memcpy(x, saved, n * sizeof *x);
    else
        x[at] = saved[at];
    return sum / (12 * h);
}

struct gradient {
    const char *what;
    const double *g;
    double scale, rounding, tol;
    double noise; /* of the differences themselves */
};

static void check_single(const struct gradient *c, fd_loss loss, void *ctx, double *x, size_t n,
                         const double *saved)
{
    size_t n_single = n < SPREAD ? n : SPREAD;
    for (size_t k = 0; k < n_single; k++) {
        size_t i = n_single > 1 ? k * (n - 1) / (n_single - 1) : 0;
        double want = slope(loss, ctx, x, n, NULL, i, saved);
        double bound = c->tol * fmax(c->scale, fabs(want)) + c->rounding * fabs(want) + c->noise;
        if (!(fabs(c->g[i] - want) <= bound))
            fail_msg("%s[%zu of %zu] is %.9g, finite differences say %.9g within %.3g", c->what, i,
                     n, c->g[i], want, bound);
    }
}

static void check_directions(const struct gradient *c, fd_loss loss, void *ctx, double *x, size_t n,
                             const double *saved, double *u)
{
    for (uint64_t d = 0; d < DIRECTIONS; d++) {
        struct lcl_rng rng = lcl_rng_stream(1, LCL_RNG_TEST, 2, d);
        double norm = 0, dot = 0, spread = 0;
        for (size_t i = 0; i < n; i++) {
            u[i] = (double)lcl_rng_normal(&rng);
            norm += u[i] * u[i];
        }
        for (size_t i = 0; i < n; i++) {
            u[i] /= sqrt(norm);
            dot += c->g[i] * u[i];
            spread += c->g[i] * u[i] * c->g[i] * u[i];
        }
        double want = slope(loss, ctx, x, n, u, 0, saved);
        double bound =
            4 * c->tol * c->scale + 4 * c->rounding * sqrt(spread) + c->tol * fabs(want) + c->noise;
        if (!(fabs(dot - want) <= bound))
            fail_msg("%s along direction %d is %.9g, finite differences say %.9g within %.3g",
                     c->what, (int)d, dot, want, bound);
    }
}

void fd_check(const char *what, fd_loss loss, void *ctx, double *x, size_t n, const void *got,
              lcl_dtype dtype, const double *base, double tol)
{
    int mark = n_buffers;
    double *saved = dbl_new(n), *g = buf_read(got, n, dtype), *u = dbl_new(n), scale = 1e-30;
    memcpy(saved, x, n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs(g[i]));
        if (base) g[i] -= base[i];
        if (!isfinite(g[i])) fail_msg("%s[%zu of %zu] is not finite", what, i, n);
    }
    struct gradient c = {
        what, g, scale, dtype == LCL_BF16 ? 1.0 / 256 : 0, tol, 1e-10 * fmax(1, fabs(loss(ctx)))};
    check_single(&c, loss, ctx, x, n, saved);
    check_directions(&c, loss, ctx, x, n, saved, u);
    while (n_buffers > mark) test_backend_free(buffers[--n_buffers].base, GUARD_BYTES);
}

void restart_threads(int n)
{
    lcl_threads_stop();
    ASSERT_OK(lcl_threads_start(n));
}
