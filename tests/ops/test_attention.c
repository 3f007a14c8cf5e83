/* Attention against a naive double reference, its gradients against finite differences of that
 * reference. */
#include <math.h>

#include "tests/support/attention.h"
#include "tests/support/fd.h"

/* Compares forward and backward with the double reference; padding columns must be as they were. */
static void check_against_reference(struct attn_problem *p)
{
    struct attn_buffers b = attn_run(p, LCL_F32, true);
    struct attn_result want = attn_reference(p, false, true);
    int64_t width = attn_row_width(p);
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
            struct attn_problem p = {.H = w % 2 ? 3 : 2,
                                     .G = w % 2 ? 1 : 2,
                                     .D = widths[w],
                                     .pad = w % 3 ? 5 : 0,
                                     .causal = causal};
            attn_add_sequences(&p, lengths, 5);
            attn_fill(&p, 10 * w);
            check_against_reference(&p);
        }
}

static void test_long_sequences_in_slices(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct attn_problem p = {.H = 3, .G = 1, .D = 20, .causal = causal};
        attn_add_sequences(&p, (int32_t[]){257}, 1);
        attn_fill(&p, 3);
        check_against_reference(&p);
    }
    struct attn_problem many = {
        .H = 33, .G = 1, .D = 8, .causal = true}; /* a row's heads cross blocks */
    attn_add_sequences(&many, (int32_t[]){70, 3}, 2);
    attn_fill(&many, 4);
    check_against_reference(&many);
}

static void test_shared_prefix(void **state)
{
    (void)state;
    struct attn_problem p = {.H = 6, .G = 2, .D = 32, .pad = 3, .causal = true};
    attn_add_episode(&p, 131, (int32_t[]){1, 33, 7, 70, 64}, 5);
    attn_add_sequences(&p, (int32_t[]){9}, 1);
    attn_add_episode(&p, 5, (int32_t[]){2, 2, 2}, 3);
    attn_fill(&p, 5);
    check_against_reference(&p);
}

/* Rows that no run names as its queries, or as its keys, must be as they were: they become the
 * reference's zeros. */
static void check_not_written(const struct attn_problem *p, struct attn_buffers *b)
{
    int64_t width = attn_row_width(p), of_q = p->H * p->D;
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
static void check_cross(struct attn_problem *p, lcl_dtype dtype)
{
    bool bf16 = dtype == LCL_BF16;
    for (int64_t i = 0; bf16 && i < p->T * attn_row_width(p); i++) p->qkv[i] = dbl_bf16(p->qkv[i]);
    struct attn_result want = attn_reference(p, false, true), plain = {0};
    if (bf16) plain = attn_reference(p, true, true);
    size_t out = (size_t)(p->T * p->H * p->D), qkv = (size_t)(p->T * attn_row_width(p));
    for (int wgmma = 0; wgmma < (bf16 ? 2 : 1); wgmma++) {
        if (bf16 && !test_backend_wgmma(wgmma)) continue;
        struct attn_buffers b = attn_run(p, dtype, true);
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
            struct attn_problem p = {
                .H = w % 2 ? 6 : 2, .G = 2, .D = widths[w], .pad = w % 2 ? 5 : 0};
            attn_add_cross(&p, queries, keys, 5);
            attn_fill(&p, 60 + 2 * w);
            check_cross(&p, dtype ? LCL_BF16 : LCL_F32);
        }
    for (int dtype = 0; dtype < 2; dtype++) {
        struct attn_problem p = {.H = 4, .G = 2, .D = 24};
        attn_add_cross(&p, ones, long_keys, 2);
        attn_fill(&p, 70);
        check_cross(&p, dtype ? LCL_BF16 : LCL_F32);
        struct attn_problem many = {.H = 3, .G = 1, .D = 16}; /* several tiles of queries */
        attn_add_cross(&many, (int32_t[]){257, 140}, (int32_t[]){33, 130}, 2);
        attn_fill(&many, 72);
        check_cross(&many, dtype ? LCL_BF16 : LCL_F32);
        struct attn_problem odd = {.H = 3, .G = 1, .D = 16}; /* rows of q alone at odd places */
        attn_add_cross(&odd, queries, keys, 5);
        odd.q_pad = 14;
        attn_fill(&odd, 74);
        check_cross(&odd, dtype ? LCL_BF16 : LCL_F32);
    }
}

static void test_cross_finite_differences(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct attn_problem p = {.H = 4, .G = 2, .D = 12};
        attn_add_cross(&p, (int32_t[]){5, 1, 33}, (int32_t[]){7, 33, 3}, 3);
        attn_fill(&p, 80);
        struct attn_buffers b = attn_run(&p, dtype ? LCL_BF16 : LCL_F32, true);
        check_not_written(&p, &b);
        fd_check("d_qkv", attn_loss, &p, p.qkv, (size_t)(p.T * attn_row_width(&p)), b.d_qkv,
                 b.args.dtype, NULL, dtype ? 2e-2 : 2e-5);
        buf_end();
    }
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++)
        for (int dtype = 0; dtype < 2; dtype++) {
            struct attn_problem p = {.H = 3, .G = causal ? 1 : 3, .D = 12, .causal = causal};
            attn_add_sequences(&p, (int32_t[]){1, 33}, 2);
            attn_add_episode(&p, 17, (int32_t[]){5, 1, 4}, 3);
            attn_fill(&p, 6);
            struct attn_buffers b = attn_run(&p, dtype ? LCL_BF16 : LCL_F32, true);
            fd_check("d_qkv", attn_loss, &p, p.qkv, (size_t)(p.T * attn_row_width(&p)), b.d_qkv,
                     b.args.dtype, NULL, dtype ? 2e-2 : 2e-5);
            buf_end();
        }
}

static void check_bf16_problem(struct attn_problem *p, uint64_t seed)
{
    attn_fill(p, seed);
    struct attn_buffers b = attn_run(p, LCL_BF16, true);
    struct attn_result want = attn_reference(p, false, true), plain = attn_reference(p, true, true);
    check_bf16("out", b.out, plain.out, want.out, (size_t)(p->T * p->H * p->D));
    check_bf16("d_qkv", b.d_qkv, plain.d_qkv, want.d_qkv, (size_t)(p->T * attn_row_width(p)));
    check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), 1e-5);
    buf_end();
}

static void test_bf16_as_good_as_plain(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct attn_problem p = {.H = 3, .G = 3, .D = 64, .causal = causal};
        attn_add_sequences(&p, (int32_t[]){100, 1, 31}, 3);
        attn_add_episode(&p, 70, (int32_t[]){33, 5}, 2);
        check_bf16_problem(&p, 7);
    }
    for (int w = 0; w < 4; w++) { /* all widths, and more rows than a tile has */
        struct attn_problem p = {
            .H = 1, .G = 1, .D = (int64_t[]){16, 32, 96, 128}[w], .causal = w % 2};
        attn_add_sequences(&p, (int32_t[]){137}, 1);
        check_bf16_problem(&p, 8);
    }
}

/* On every kernel there is for bf16. */
static void check_bf16_kernels(struct attn_problem *p, bool backward)
{
    struct attn_result want = attn_reference(p, false, backward),
                       plain = attn_reference(p, true, backward);
    for (int wgmma = 0; wgmma < 2; wgmma++) {
        if (!test_backend_wgmma(wgmma)) continue;
        struct attn_buffers b = attn_run(p, LCL_BF16, backward);
        if (wgmma) assert_true(test_backend_wgmma(false));
        check_bf16(wgmma ? "out, wgmma" : "out", b.out, plain.out, want.out,
                   (size_t)(p->T * p->H * p->D));
        check_close("lse", b.lse, LCL_F32, want.lse, (size_t)(p->T * p->H), 1e-5);
        lcl_bf16 *d = b.d_qkv;
        for (int64_t i = 0; backward && i < p->T * attn_row_width(p); i++)
            if (i % attn_row_width(p) >= attn_row_width(p) - p->pad) {
                assert_true(isnan(lcl_bf16_to_f32(d[i])));
                d[i] = 0;
            }
        if (backward)
            check_bf16(wgmma ? "d_qkv, wgmma" : "d_qkv", d, plain.d_qkv, want.d_qkv,
                       (size_t)(p->T * attn_row_width(p)));
    }
    buf_end();
}

static void test_bf16_widths(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 31, 33, 100, 129};
    static const int64_t widths[] = {8, 16, 24, 64, 72, 96, 104, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        struct attn_problem p = {
            .H = 2, .G = w % 2 + 1, .D = widths[w], .pad = w % 2 * 8, .causal = w % 3 != 0};
        attn_add_sequences(&p, lengths, 5);
        attn_fill(&p, 20 + 10 * w);
        /* as the op reads them */
        for (int64_t i = 0; i < p.T * attn_row_width(&p); i++) p.qkv[i] = dbl_bf16(p.qkv[i]);
        check_bf16_kernels(&p, true);
    }
}

/* Several steps of keys a tile; prefixes and branches whose ends are anywhere; a cache's tail. */
static void test_bf16_masks(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct attn_problem p = {.H = 2, .G = 1, .D = 32, .causal = causal};
        attn_add_episode(&p, 300, (int32_t[]){1, 33, 130}, 3);
        attn_add_sequences(&p, (int32_t[]){257}, 1);
        attn_fill(&p, 5);
        for (int64_t i = 0; i < p.T * attn_row_width(&p); i++) p.qkv[i] = dbl_bf16(p.qkv[i]);
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

/* Rows that a query does not see may hold anything: the second of three sequences, which sees
 * itself, and then is left out. */
static void check_others_not_touched(int32_t length)
{
    struct attn_problem p = {.H = 2, .G = 1, .D = 64, .causal = true};
    attn_add_sequences(&p, (int32_t[]){length, 30, 70}, 3);
    attn_fill(&p, 6);
    struct attn_buffers b = attn_run(&p, LCL_BF16, true);
    const int64_t width = attn_row_width(&p), row = p.H * p.D, next = length + 30;
    double *out = buf_read(b.out, (size_t)(p.T * row), LCL_BF16);
    double *d_qkv = buf_read(b.d_qkv, (size_t)(p.T * width), LCL_BF16);
    spoil(b.args.q, width, length, next);
    spoil(b.args.d_out, row, length, next);
    const struct lcl_attn_run seen[] = {p.runs[0], p.runs[2], p.runs[1]};
    b.args.runs = seen;
    for (int i = 0; i < 4; i++) {
        const bool wgmma = i / 2;
        b.args.n_runs = i % 2 ? 2 : 3;
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

static void test_prefix_equals_separate(void **state)
{
    (void)state;
    int32_t branch[] = {20, 41};
    struct attn_problem shared = {.H = 3, .G = 3, .D = 32, .causal = true};
    attn_add_episode(&shared, 75, branch, 2);
    attn_fill(&shared, 11);
    struct attn_buffers s = attn_run(&shared, LCL_F32, false);
    double *got = buf_read(s.out, (size_t)(shared.T * shared.H * shared.D), LCL_F32);
    for (int i = 0, begin = 75; i < 2; begin += branch[i++]) {
        struct attn_problem alone = {.H = 3, .G = 3, .D = 32, .causal = true};
        attn_add_sequences(&alone, (int32_t[]){75 + branch[i]}, 1);
        attn_fill(&alone, 11); /* the context's rows are the first of the same stream */
        int64_t width = attn_row_width(&alone);
        memcpy(alone.qkv + 75 * width, shared.qkv + begin * width,
               (size_t)(branch[i] * width) * sizeof(double));
        struct attn_buffers a = attn_run(&alone, LCL_F32, false);
        int64_t row = alone.H * alone.D;
        check_close("branch", (float *)a.out + 75 * row, LCL_F32, got + begin * row,
                    (size_t)(branch[i] * row), 3e-6);
    }
    buf_end();
}

static void test_same_bits_for_any_threads(void **state)
{
    (void)state;
    attn_check_threads(LCL_F32);
}

static void test_extreme_scores(void **state)
{
    (void)state;
    struct attn_problem p = {.H = 1, .G = 1, .D = 4, .causal = true};
    attn_add_sequences(&p, (int32_t[]){100}, 1);
    attn_fill(&p, 13);
    for (int64_t i = 0; i < p.T * attn_row_width(&p); i++) p.qkv[i] *= i % 12 < 8 ? 40 : 1;
    struct attn_buffers b = attn_run(&p, LCL_F32, true);
    struct attn_result want = attn_reference(&p, false, true);
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
        cmocka_unit_test(test_prefix_equals_separate),
        cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_refuses_bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
