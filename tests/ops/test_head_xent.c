/* LM head and cross-entropy against a double reference. Legend: T tokens, C width, V vocabulary, S
 * supervised rows. */
#include <math.h>

#include "tests/support/fd.h"

struct head {
    int64_t C, V, S;
    double *hidden, *weight, scale, *term_weight, grad_scale;
    const int32_t *row, *target;
};

/* Logits of one supervised row; returns the log of the sum of their exponentials. */
static double logits_of(const struct head *h, int64_t s, double *z)
{
    double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < h->V; v++) {
        z[v] = 0;
        for (int64_t c = 0; c < h->C; c++)
            z[v] += h->hidden[h->row[s] * h->C + c] * h->weight[v * h->C + c];
        z[v] *= h->scale;
        most = fmax(most, z[v]);
    }
    for (int64_t v = 0; v < h->V; v++) sum += exp(z[v] - most);
    return most + log(sum);
}

static double loss_sum(const struct head *h)
{
    double sum = 0, *z = malloc((size_t)h->V * sizeof *z);
    for (int64_t s = 0; s < h->S; s++) {
        double lse = logits_of(h, s, z);
        sum += (h->term_weight ? h->term_weight[s] : 1) * (lse - z[h->target[s]]);
    }
    free(z);
    return sum;
}

static double loss(void *ctx)
{
    const struct head *h = ctx;
    return h->grad_scale * loss_sum(h);
}

struct outputs {
    double *logprob, *logits, loss;
};

static void reference(const struct head *h, struct outputs *o)
{
    o->logits = dbl_new((size_t)(h->S * h->V));
    o->logprob = dbl_new((size_t)h->S);
    for (int64_t s = 0; s < h->S; s++) {
        double *z = o->logits + s * h->V;
        double lse = logits_of(h, s, z);
        o->logprob[s] = z[h->target[s]] - lse;
    }
    o->loss = loss_sum(h);
}

/* The choice is checked against the logits that were handed out: the first of the greatest. */
static void check_outputs(const struct head *h, const struct lcl_head_xent_args *a, double tol)
{
    struct outputs o;
    reference(h, &o);
    check_close("logits", a->logits_SV, LCL_F32, o.logits, (size_t)(h->S * h->V), tol);
    check_close("logprob", a->logprob_S, LCL_F32, o.logprob, (size_t)h->S, tol);
    if (!(fabs(*a->loss_sum - o.loss) <= tol * fabs(o.loss) + 1e-12))
        fail_msg("loss is %.12g, wanted %.12g", *a->loss_sum, o.loss);
    for (int64_t s = 0; s < h->S; s++) {
        int32_t first = 0;
        for (int32_t v = 1; v < h->V; v++)
            if (a->logits_SV[s * h->V + v] > a->logits_SV[s * h->V + first]) first = v;
        assert_int_equal(a->argmax_S[s], first);
    }
}

/* In bf16 the gradient of the logits is rounded on the way. base: d_weight before. */
static void check_gradients(struct head *h, struct lcl_head_xent_args *a, const double *base)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(a->T * a->C), m = (size_t)(a->V * a->C);
    bool exact = a->dtype == LCL_F32 && a->weight_dtype == LCL_F32;
    double tol = exact ? 5e-6 : 1.0 / 256;
    fd_check("d_hidden", loss, h, h->hidden, n, a->d_hidden_TC, a->dtype, NULL, tol);
    fd_check("d_weight", loss, h, h->weight, m, a->d_weight_VC, LCL_F32, base, tol);
    double *before = buf_read(a->d_weight_VC, m, LCL_F32);
    a->d_hidden_TC = NULL; /* not wanted; weights' gradients add up */
    ASSERT_OK(ex->ops->head_xent_bwd(ex, a));
    fd_check("d_weight alone", loss, h, h->weight, m, a->d_weight_VC, LCL_F32, before, tol);
}

static void check_case(int64_t T, int64_t C, int64_t V, int64_t S, lcl_dtype t, lcl_dtype wt,
                       bool weighted)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(T * C), m = (size_t)(V * C), count = (size_t)S;
    int32_t *row = buf_i32((int32_t[512]){0}, count), *target = buf_i32((int32_t[512]){0}, count);
    for (int64_t s = 0; s < S; s++) {
        row[s] = (int32_t)(T - 1 - s * (T / S)); /* distinct, not in order */
        target[s] = (int32_t)(s * 11 % V);
    }
    struct head h = {.C = C,
                     .V = V,
                     .S = S,
                     .hidden = dbl_normal(n, 1, 1),
                     .weight = dbl_normal(m, 1 / sqrt((double)C), 2),
                     .scale = 1.5,
                     .grad_scale = 0.25,
                     .row = row,
                     .target = target};
    double *dw0 = dbl_normal(m, 0.1, 3), loss_value = -1;
    struct lcl_head_xent_args a = {.T = T,
                                   .C = C,
                                   .V = V,
                                   .S = S,
                                   .dtype = t,
                                   .weight_dtype = wt,
                                   .logit_scale = 1.5f,
                                   .hidden_TC = buf_of(h.hidden, n, t),
                                   .weight_VC = buf_of(h.weight, m, wt),
                                   .row_S = row,
                                   .target_S = target,
                                   .loss_sum = &loss_value,
                                   .logprob_S = buf_new(count, LCL_F32),
                                   .argmax_S = buf_i32((int32_t[512]){0}, count),
                                   .logits_SV = buf_new((size_t)(S * V), LCL_F32),
                                   .grad_scale = 0.25f,
                                   .d_hidden_TC = buf_new(n, t),
                                   .d_weight_VC = buf_of(dw0, m, LCL_F32)};
    if (weighted) {
        h.term_weight = dbl_normal(count, 1, 4);
        h.term_weight[0] = 0;
        a.weight_S = buf_of(h.term_weight, count, LCL_F32);
    }
    ASSERT_OK(ex->ops->head_xent_fwd(ex, &a));
    check_outputs(&h, &a, 3e-6);
    struct lcl_head_xent_args keep = a;
    keep.logits_SV = NULL;
    keep.kept_SV = buf_new((size_t)(S * V), LCL_F32);
    ASSERT_OK(ex->ops->head_xent_fwd(ex, &keep));
    assert_memory_equal(keep.kept_SV, a.logits_SV, (size_t)(S * V) * sizeof(float));
    check_outputs(&h, &a, 3e-6);
    keep.logits_SV = a.logits_SV;
    ASSERT_FAILS(ex->ops->head_xent_fwd(ex, &keep), LCL_SHAPE, "in one place");

    a.logits_SV = buf_new((size_t)(S * V), LCL_F32);
    a.logprob_S = buf_new(count, LCL_F32);
    loss_value = -1;
    ASSERT_OK(ex->ops->head_xent_bwd(ex, &a));
    check_outputs(&h, &a, 3e-6);
    check_gradients(&h, &a, dw0);
    buf_end();
}

static void test_forward_and_backward(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 1, 1},      {5, 31, 33, 1},    {40, 33, 257, 31},
                                       {33, 64, 1031, 3}, {12, 4, 2056, 11}, {300, 4, 7, 300}};
    for (int s = 0; s < 6; s++)
        for (int t = 0; t < 3; t++) {
            lcl_dtype dtype = t == 1 ? LCL_BF16 : LCL_F32, weight = t ? LCL_BF16 : LCL_F32;
            const int64_t *z = sizes[s];
            check_case(z[0], z[1], z[2], z[3], dtype, weight, s % 2);
        }
}

/* Gradients in bf16 are no worse than a plain computation that rounds logits' gradients and results
 * to bf16. */
static void test_bf16_gradients(void **state)
{
    (void)state;
    enum { C = 64, V = 300, S = 20 };
    struct lcl_exec *ex = test_exec();
    int32_t row[S], target[S];
    for (int32_t s = 0; s < S; s++) {
        row[s] = s;
        target[s] = s * 13;
    }
    struct head h = {.C = C,
                     .V = V,
                     .S = S,
                     .hidden = dbl_normal(S * C, 1, 1),
                     .weight = dbl_normal(V * C, 0.2, 2),
                     .scale = 1,
                     .row = row,
                     .target = target};
    struct lcl_head_xent_args a = {.T = S,
                                   .C = C,
                                   .V = V,
                                   .S = S,
                                   .dtype = LCL_BF16,
                                   .weight_dtype = LCL_BF16,
                                   .logit_scale = 1,
                                   .grad_scale = 1,
                                   .hidden_TC = buf_of(h.hidden, S * C, LCL_BF16),
                                   .weight_VC = buf_of(h.weight, V * C, LCL_BF16),
                                   .row_S = row,
                                   .target_S = target,
                                   .d_hidden_TC = buf_new(S * C, LCL_BF16)};
    ASSERT_OK(ex->ops->head_xent_bwd(ex, &a));
    double *z = dbl_new(V), *want = dbl_new(S * C), *plain = dbl_new(S * C);
    for (int64_t s = 0; s < S; s++) {
        double lse = logits_of(&h, s, z);
        for (int64_t v = 0; v < V; v++) {
            double g = exp(z[v] - lse) - (v == target[s]);
            for (int64_t c = 0; c < C; c++) {
                want[s * C + c] += g * h.weight[v * C + c];
                plain[s * C + c] += dbl_bf16(g) * h.weight[v * C + c];
            }
        }
    }
    check_bf16("d_hidden", a.d_hidden_TC, plain, want, S * C);
    buf_end();
}

/* A vocabulary so wide that the rows are worked in several chunks: the answer is that of one row at
 * a time. */
static void test_chunks(void **state)
{
    (void)state;
    enum { T = 20, C = 8, V = 600000, S = 15 }; /* 13 rows a chunk */
    struct lcl_exec *ex = test_exec();
    double *hidden = dbl_normal(T * C, 1, 1), *weight = dbl_normal((size_t)V * C, 1, 2), term[S];
    int32_t row[S], target[S];
    for (int32_t s = 0; s < S; s++) {
        row[s] = (s * 7 + 3) % 19; /* row 19 is not supervised */
        target[s] = s * (V - 1) / (S - 1);
        term[s] = s + 1;
    }
    float logprob[S], one;
    int32_t argmax[S], argmax_one;
    double sum, total = 0;
    struct lcl_head_xent_args a = {.T = T,
                                   .C = C,
                                   .V = V,
                                   .S = S,
                                   .logit_scale = 1,
                                   .hidden_TC = buf_of(hidden, T * C, LCL_F32),
                                   .weight_VC = buf_of(weight, (size_t)V * C, LCL_F32),
                                   .row_S = row,
                                   .target_S = target,
                                   .weight_S = buf_of(term, S, LCL_F32),
                                   .loss_sum = &sum,
                                   .logprob_S = logprob,
                                   .argmax_S = argmax,
                                   .grad_scale = 1,
                                   .d_hidden_TC = buf_new(T * C, LCL_F32)};
    ASSERT_OK(ex->ops->head_xent_bwd(ex, &a));
    double *d_hidden = buf_read(a.d_hidden_TC, T * C, LCL_F32);
    for (int s = 0; s < S; s += s == 0 ? 11 : 1) { /* both sides of the cut */
        struct lcl_head_xent_args b = a;
        b.S = 1;
        b.row_S = row + s;
        b.target_S = target + s;
        b.weight_S = a.weight_S + s;
        b.logprob_S = &one;
        b.argmax_S = &argmax_one;
        b.loss_sum = NULL;
        ASSERT_OK(ex->ops->head_xent_bwd(ex, &b));
        assert_float_equal(logprob[s], one, 2e-5f);
        assert_int_equal(argmax[s], argmax_one);
        check_close("d_hidden", (float *)a.d_hidden_TC + row[s] * C, LCL_F32, d_hidden + row[s] * C,
                    C, 2e-3); /* f32 sums of 600,000 terms */
    }
    for (int s = 0; s < S; s++) total -= term[s] * (double)logprob[s];
    assert_true(fabs(sum - total) < 1e-3);
    for (int c = 0; c < C; c++) assert_true(d_hidden[19 * C + c] == 0);
    buf_end();
}

/* Every token but a few is as likely: threads of a GPU meet them in another order than that of
 * their numbers. */
static void test_first_of_equals(void **state)
{
    (void)state;
    enum { C = 4, V = 3000, FIRST = 9 };
    struct lcl_exec *ex = test_exec();
    double hidden[C] = {1, 0, 0, 0}, weight[V * C] = {0};
    int32_t row = 0, argmax = -1;
    for (int v = 0; v < V; v++) weight[v * C] = v < FIRST ? 1 : 2;
    struct lcl_head_xent_args a = {.T = 1,
                                   .C = C,
                                   .V = V,
                                   .S = 1,
                                   .logit_scale = 1,
                                   .hidden_TC = buf_of(hidden, C, LCL_F32),
                                   .weight_VC = buf_of(weight, V * C, LCL_F32),
                                   .row_S = &row,
                                   .argmax_S = &argmax};
    ASSERT_OK(ex->ops->head_xent_fwd(ex, &a));
    assert_int_equal(argmax, FIRST);
    buf_end();
}

static void test_choices_without_targets(void **state)
{
    (void)state;
    enum { C = 2, V = 3 };
    struct lcl_exec *ex = test_exec();
    double hidden[2 * C] = {9, 9, 1, 2}, weight[V * C] = {0, 1, 2, 0, 0, 1};
    float logits[V];
    int32_t row = 1, argmax = -1, target = 3;
    double sum;
    struct lcl_head_xent_args a = {.T = 2,
                                   .C = C,
                                   .V = V,
                                   .S = 1,
                                   .logit_scale = 1,
                                   .hidden_TC = buf_of(hidden, 2 * C, LCL_F32),
                                   .weight_VC = buf_of(weight, V * C, LCL_F32),
                                   .row_S = &row,
                                   .argmax_S = &argmax,
                                   .logits_SV = logits};
    ASSERT_OK(ex->ops->head_xent_fwd(ex, &a));
    assert_int_equal(argmax, 0); /* all three are 2: the first counts */
    assert_true(logits[0] == 2 && logits[1] == 2 && logits[2] == 2);
    a.loss_sum = &sum;
    ASSERT_FAILS(ex->ops->head_xent_fwd(ex, &a), LCL_SHAPE, "needs targets");
    a.target_S = &target;
    ASSERT_FAILS(ex->ops->head_xent_fwd(ex, &a), LCL_RANGE, "target 0 is 3, outside 0..2");
    target = 0;
    row = 2;
    ASSERT_FAILS(ex->ops->head_xent_bwd(ex, &a), LCL_RANGE, "row 0 is 2, outside 0..1");
    a.S = 0;
    ASSERT_OK(ex->ops->head_xent_fwd(ex, &a));
    assert_true(sum == 0);
    buf_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_backward),
        cmocka_unit_test(test_bf16_gradients),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_first_of_equals),
        cmocka_unit_test(test_choices_without_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
