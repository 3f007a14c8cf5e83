/* Tokens drawn from logits, against the rule applied to a sorted list: the same sums of whole
 * numbers, so the same tokens. */
#include <math.h>

#include "core/rng.h"
#include "core/sample.h"
#include "tests/support/fd.h"

struct rule {
    float temperature, top_p;
    int64_t top_k;
};

struct ranked {
    float logit;
    int32_t id;
};

static int by_rank(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (isnan(a->logit) != isnan(b->logit)) return isnan(a->logit) ? 1 : -1;
    if (a->logit != b->logit && !isnan(a->logit)) return a->logit > b->logit ? -1 : 1;
    return a->id - b->id;
}

/* stays[id] of one row; returns the first of the greatest, and the sum of what stays in *total. */
static int32_t reference_set(const float *logit_V, int64_t V, struct rule rule, bool *stays,
                             uint64_t *total)
{
    struct ranked *list = malloc((size_t)V * sizeof *list);
    assert_non_null(list);
    for (int64_t v = 0; v < V; v++) list[v] = (struct ranked){logit_V[v], (int32_t)v};
    qsort(list, (size_t)V, sizeof *list, by_rank);
    const float most = list[0].logit, scale = lcl_sample_scale(rule.temperature);
    int64_t n = rule.top_k > 0 && rule.top_k < V ? rule.top_k : V, kept = 0;
    uint64_t sum = 0, reached = 0;
    for (int64_t i = 0; i < n; i++) sum += lcl_sample_weight(list[i].logit, most, scale);
    const uint64_t need = lcl_sample_part(sum, lcl_sample_share(rule.top_p));
    for (; kept < n && (rule.top_p == 1 || reached < need); kept++)
        reached += lcl_sample_weight(list[kept].logit, most, scale);
    memset(stays, 0, (size_t)V * sizeof *stays);
    for (int64_t i = 0; i < kept; i++) stays[list[i].id] = true;
    const int32_t first = list[0].id;
    free(list);
    *total = reached;
    return first;
}

static int32_t reference(const float *logit_V, int64_t V, struct rule rule, uint64_t draw)
{
    uint64_t total, sum = 0;
    bool *stays = calloc((size_t)V, sizeof *stays);
    assert_non_null(stays);
    struct rule known = rule;
    if (rule.temperature == 0) known.temperature = 1, known.top_p = 1, known.top_k = 0;
    int32_t token = reference_set(logit_V, V, known, stays, &total), v = 0;
    if (rule.temperature > 0 && total > 0) {
        const float most = logit_V[token], scale = lcl_sample_scale(rule.temperature);
        for (;; v++) {
            if (stays[v]) sum += lcl_sample_weight(logit_V[v], most, scale);
            if (sum > lcl_sample_place(total, draw)) break;
        }
        token = v;
    }
    free(stays);
    return token;
}

static void run(const float *logits_SV, int64_t S, int64_t V, struct rule rule,
                const uint64_t *draw_S, int32_t *token_S)
{
    struct lcl_exec *ex = test_exec();
    struct lcl_sample_args a = {.S = S,
                                .V = V,
                                .temperature = rule.temperature,
                                .top_p = rule.top_p,
                                .top_k = rule.top_k,
                                .logits_SV = logits_SV,
                                .draw_S = draw_S,
                                .token_S = token_S};
    memset(token_S, 0xFF, (size_t)S * sizeof *token_S);
    ASSERT_OK(ex->ops->sample_fwd(ex, &a));
    ASSERT_OK(lcl_exec_sync(ex));
    buf_check();
}

static uint64_t random_draw(uint64_t sample)
{
    struct lcl_rng r = lcl_rng_stream(7, LCL_RNG_TEST, 0, sample);
    uint64_t high = lcl_rng_u32(&r);
    return high << 32 | lcl_rng_u32(&r);
}

static const struct rule rules[] = {
    {0, 0, 0},         {1, 1, 0},       {0.7f, 0.9f, 0}, {1.5f, 1, 5}, {1, 0.5f, 20},
    {0.05f, 0.99f, 3}, {3, 0.999f, 40}, {1, 1e-9f, 0},   {1, 1, 1},    {50, 0.3f, 1 << 20},
};
enum { RULES = sizeof rules / sizeof *rules };

/* Rows of noise, of noise in coarse steps (ties), and of one value. */
static void test_every_rule(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 31, 33, 257, 2500};
    enum { S = 6 };
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        const int64_t V = widths[w];
        double *x = dbl_normal((size_t)(S * V), 3, 60 + w);
        for (int64_t i = 0; i < S * V; i++)
            x[i] = i / V % 3 == 0 ? x[i] : i / V % 3 == 1 ? floor(x[i]) : -2;
        const float *logits = buf_of(x, (size_t)(S * V), LCL_F32);
        uint64_t draw[S];
        int32_t token[S];
        for (int s = 0; s < S; s++) draw[s] = random_draw((uint64_t)s);
        draw[0] = 0;
        draw[1] = draw[2] = UINT64_MAX;
        for (int r = 0; r < RULES; r++) {
            run(logits, S, V, rules[r], draw, token);
            for (int64_t s = 0; s < S; s++)
                assert_int_equal(token[s], reference(logits + s * V, V, rules[r], draw[s]));
        }
        buf_end();
    }
}

/* Draws at even steps reach every token that stays, and no other. */
static void test_sets(void **state)
{
    (void)state;
    enum { S = 256, V = 9 };
    static const double row[V] = {1, 2.5, 2.5, -1, 2.5, 0, 1, 2.5, -3};
    static const struct {
        struct rule rule;
        int stays[V];
    } cases[] = {
        {{1, 1, 2}, {0, 1, 1, 0, 0, 0, 0, 0, 0}},     /* of four equal ones the first two */
        {{1, 1, 5}, {1, 1, 1, 0, 1, 0, 0, 1, 0}},     /* and of the next two the first */
        {{1, 0.4f, 0}, {0, 1, 1, 0, 0, 0, 0, 0, 0}},  /* shares of 22 % each */
        {{1, 0.68f, 0}, {0, 1, 1, 0, 1, 0, 0, 1, 0}}, /* 66.7 % are not enough */
        {{1, 0.5f, 3}, {0, 1, 1, 0, 0, 0, 0, 0, 0}},  /* of three: shares of a third */
        {{1, 0.95f, 0}, {1, 1, 1, 0, 1, 0, 1, 1, 0}}, {{10, 1, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 1}},
    };
    float *logits = buf_new(S * V, LCL_F32);
    uint64_t draw[S];
    int32_t token[S];
    for (int i = 0; i < S * V; i++) logits[i] = (float)row[i % V];
    for (int s = 0; s < S; s++) draw[s] = (uint64_t)s << 56;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int seen[V] = {0};
        run(logits, S, V, cases[c].rule, draw, token);
        for (int s = 0; s < S; s++) {
            assert_in_range(token[s], 0, V - 1);
            seen[token[s]] = 1;
        }
        assert_memory_equal(seen, cases[c].stays, sizeof seen);
    }
    buf_end();
}

/* Shares of many draws against exp(logit / temperature), by chi-square: 30 degrees of freedom, of
 * which one in ten thousand exceeds 70.6. */
static void test_distribution(void **state)
{
    (void)state;
    enum { S = 2048, V = 31 };
    const double temperature = 1.7;
    double *row = dbl_normal(V, 1.5, 70), sum = 0, chi = 0;
    float *logits = buf_new(S * V, LCL_F32);
    static uint64_t draw[S];
    static int32_t token[S];
    int64_t seen[V] = {0};
    for (int i = 0; i < S * V; i++) logits[i] = (float)row[i % V];
    for (int s = 0; s < S; s++) draw[s] = random_draw((uint64_t)s);
    run(logits, S, V, (struct rule){(float)temperature, 1, 0}, draw, token);
    for (int s = 0; s < S; s++) seen[token[s]]++;
    for (int v = 0; v < V; v++) sum += exp(row[v] / temperature);
    for (int v = 0; v < V; v++) {
        const double want = S * exp(row[v] / temperature) / sum;
        chi += ((double)seen[v] - want) * ((double)seen[v] - want) / want;
    }
    print_message("chi-square %.1f\n", chi);
    assert_true(chi < 70.6);
    buf_end();
}

/* The whole numbers are the exponentials that they stand for, in the order of the logits. */
static void test_weights(void **state)
{
    (void)state;
    const float scale = lcl_sample_scale(0.8f);
    for (int i = 0; i < 20000; i++) {
        const float logit = 3.0f - (float)i * 1e-3f;
        const double below = (3.0 - (double)logit) / (double)0.8f, want = exp(-below);
        const double got = ldexp((double)lcl_sample_weight(logit, 3.0f, scale), -40);
        assert_true(fabs(got - want) <= 2.4e-7 * (1 + below / 2.77) * want + ldexp(1, -40));
    }
    assert_int_equal(lcl_sample_weight(-INFINITY, 0, scale), 0);
    assert_int_equal(lcl_sample_weight(NAN, 0, scale), 0);
    static const float rising[] = {-INFINITY, -3e38f, -1, -1e-40f, 0, 1e-40f, 1, 3e38f, INFINITY};
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        const uint32_t key = lcl_sample_key(rising[i]);
        assert_true(i == 0 || key > lcl_sample_key(rising[i - 1]));
        assert_true(lcl_sample_logit(key) == rising[i]);
    }
    assert_int_equal(lcl_sample_key(-0.0f), lcl_sample_key(0.0f));
    assert_int_equal(lcl_sample_key(NAN), 0);
}

/* NaN ranks last; without one weight that is a number the first of the greatest is taken. */
static void test_odd_logits(void **state)
{
    (void)state;
    enum { S = 5, V = 40 };
    const float odd[S] = {NAN, -INFINITY, INFINITY, NAN, 1e38f};
    float *logits = buf_new(S * V, LCL_F32);
    uint64_t draw[S];
    int32_t token[S];
    for (int s = 0; s < S; s++) draw[s] = random_draw((uint64_t)s + 90);
    for (int s = 0; s < S; s++)
        for (int v = 0; v < V; v++)
            logits[s * V + v] = s < 2 || v % 7 == 3 ? odd[s] : (float)(v % 5);
    for (int r = 0; r < RULES; r++) {
        run(logits, S, V, rules[r], draw, token);
        assert_int_equal(token[0], 0);
        assert_int_equal(token[1], 0);
        assert_int_equal(token[2], 3);
        assert_int_not_equal(token[3] % 7, 3);
        assert_int_equal(token[4] % 7, 3);
        for (int s = 0; s < S; s++)
            assert_int_equal(token[s], reference(logits + s * V, V, rules[r], draw[s]));
    }
    buf_end();
}

static void test_refusals(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x[4] = {0};
    uint64_t draw = 0;
    int32_t token = -1;
    const struct lcl_sample_args good = {1, 4, 1, 1, 0, x, &draw, &token};
    static const struct {
        struct rule rule;
        const char *words;
    } cases[] = {
        {{-1, 1, 0}, "temperature -1"},
        {{NAN, 1, 0}, "temperature nan"},
        {{INFINITY, 1, 0}, "temperature inf"},
        {{1, 1, -2}, "top_k -2"},
        {{1, 0, 0}, "top_p 0,"},
        {{1, 1.01f, 0}, "top_p 1.01"},
        {{1, NAN, 0}, "top_p nan"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lcl_sample_args bad = good;
        bad.temperature = cases[i].rule.temperature;
        bad.top_p = cases[i].rule.top_p;
        bad.top_k = cases[i].rule.top_k;
        ASSERT_FAILS(ex->ops->sample_fwd(ex, &bad), LCL_RANGE, cases[i].words);
    }
    struct lcl_sample_args bad = good;
    bad.V = 0;
    ASSERT_FAILS(ex->ops->sample_fwd(ex, &bad), LCL_SHAPE, "1 rows of 0 logits");
    bad = good;
    bad.draw_S = NULL;
    ASSERT_FAILS(ex->ops->sample_fwd(ex, &bad), LCL_SHAPE, "no draws");
    assert_int_equal(token, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule),   cmocka_unit_test(test_sets),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_odd_logits),   cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
