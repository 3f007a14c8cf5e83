/* Embedding look-up and the splice of image features, both exact but for sums. Legend: T tokens, C
 * width. */
#include "tests/support/fd.h"

static const lcl_dtype dtypes[] = {LCL_F32, LCL_BF16};

struct gather {
    int64_t n, C;
    const int32_t *to, *from;
    double *src, *dy;
};

static double loss(void *ctx)
{
    const struct gather *g = ctx;
    double sum = 0;
    for (int64_t i = 0; i < g->n; i++)
        for (int64_t c = 0; c < g->C; c++)
            sum += g->dy[(g->to ? g->to[i] : i) * g->C + c] * g->src[g->from[i] * g->C + c];
    return sum;
}

static void check_embed(int64_t T, int64_t C, int64_t V, lcl_dtype t, lcl_dtype table_type)
{
    struct lcl_exec *ex = test_exec();
    size_t n = (size_t)(T * C), table = (size_t)(V * C);
    int32_t *id = buf_i32((int32_t[512]){0}, (size_t)T);
    for (int64_t i = 0; i < T; i++) id[i] = (int32_t)(i * i * 7 % V); /* many repeats */
    struct gather g = {
        .n = T, .C = C, .from = id, .src = dbl_normal(table, 1, 1), .dy = dbl_normal(n, 1, 2)};
    double *base = dbl_normal(table, 1, 3), *out = dbl_new(n);
    struct lcl_embed_args a = {.T = T,
                               .C = C,
                               .V = V,
                               .dtype = t,
                               .table_dtype = table_type,
                               .id_T = id,
                               .table_VC = buf_of(g.src, table, table_type),
                               .out_TC = buf_new(n, t),
                               .d_out_TC = buf_of(g.dy, n, t),
                               .d_table_VC = buf_of(base, table, LCL_F32)};
    ASSERT_OK(ex->ops->embed_fwd(ex, &a));
    for (int64_t i = 0; i < T; i++)
        for (int64_t c = 0; c < C; c++) out[i * C + c] = g.src[id[i] * C + c];
    check_close("out", a.out_TC, t, out, n, 0);
    ASSERT_OK(ex->ops->embed_bwd(ex, &a));
    fd_check("d_table", loss, &g, g.src, table, a.d_table_VC, LCL_F32, base, 2e-6);
    a.d_table_VC = NULL;
    ASSERT_OK(ex->ops->embed_bwd(ex, &a));
    buf_end();
}

static void test_embed(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < 2; k++) {
            check_embed(1, 1, 1, dtypes[t], dtypes[k]);
            check_embed(31, 33, 40, dtypes[t], dtypes[k]);
            check_embed(257, 257, 19, dtypes[t], dtypes[k]);
            check_embed(257, 2056, 19, dtypes[t], dtypes[k]);
        }
}

static void test_embed_ids(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float table[4] = {0}, out[4];
    int32_t id[2] = {1, 2};
    struct lcl_embed_args a = {
        .T = 2, .C = 2, .V = 2, .id_T = id, .table_VC = table, .out_TC = out};
    ASSERT_FAILS(ex->ops->embed_fwd(ex, &a), LCL_RANGE, "id of token 1 is 2, outside 0..1");
    id[1] = -1;
    ASSERT_FAILS(ex->ops->embed_bwd(ex, &a), LCL_RANGE, "is -1");
}

static void check_splice(int64_t n, int64_t T, int64_t R, int64_t C, lcl_dtype t)
{
    struct lcl_exec *ex = test_exec();
    size_t tokens = (size_t)(T * C), rows = (size_t)(R * C), bytes = lcl_dtype_bytes(t);
    int32_t *slot = buf_i32((int32_t[512]){0}, (size_t)n);
    int32_t *from = buf_i32((int32_t[512]){0}, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        slot[i] = (int32_t)(T - 1 - 2 * i);
        from[i] = (int32_t)(i * 5 % (R > 1 ? R - 1 : R)); /* the last row has no slot */
    }
    struct gather g = {n, C, slot, from, dbl_normal(rows, 1, 1), dbl_normal(tokens, 1, 2)};
    double *dst = dbl_normal(tokens, 1, 3), *want = dbl_new(tokens), *left = dbl_new(tokens);
    struct lcl_splice_args a = {.n = n,
                                .T = T,
                                .R = R,
                                .C = C,
                                .dtype = t,
                                .slot = slot,
                                .src_row = from,
                                .src_RC = buf_of(g.src, rows, t),
                                .dst_TC = buf_of(dst, tokens, t),
                                .d_dst_TC = buf_of(g.dy, tokens, t),
                                .d_src_RC = buf_new(rows, t)};
    ASSERT_OK(ex->ops->splice_fwd(ex, &a));
    memcpy(want, dst, tokens * sizeof *want);
    memcpy(left, g.dy, tokens * sizeof *left);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++) {
            want[slot[i] * C + c] = g.src[from[i] * C + c];
            left[slot[i] * C + c] = 0;
        }
    check_close("dst", a.dst_TC, t, want, tokens, 0);

    void *d_dst = buf_new(tokens, t);
    memcpy(d_dst, a.d_dst_TC, tokens * bytes);
    ASSERT_OK(ex->ops->splice_bwd(ex, &a));
    fd_check("d_src", loss, &g, g.src, rows, a.d_src_RC, t, NULL, 1e-6);
    check_close("d_dst", a.d_dst_TC, t, left, tokens, 0);
    a.d_dst_TC = d_dst;
    a.d_src_RC = NULL;
    ASSERT_OK(ex->ops->splice_bwd(ex, &a));
    check_close("d_dst alone", a.d_dst_TC, t, left, tokens, 0);
    buf_end();
}

static void test_splice(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_splice(1, 1, 1, 1, dtypes[t]);
        check_splice(0, 5, 3, 31, dtypes[t]);
        check_splice(16, 31, 7, 33, dtypes[t]);
        check_splice(129, 257, 33, 257, dtypes[t]);
        check_splice(129, 257, 33, 264, dtypes[t]);
    }
}

static void test_splice_indices(void **state)
{
    (void)state;
    struct lcl_exec *ex = test_exec();
    float x[2] = {0};
    int32_t slot = 2, row = 0;
    struct lcl_splice_args a = {.n = 1,
                                .T = 2,
                                .R = 1,
                                .C = 1,
                                .slot = &slot,
                                .src_row = &row,
                                .src_RC = x,
                                .dst_TC = x + 1,
                                .d_dst_TC = x};
    ASSERT_FAILS(ex->ops->splice_fwd(ex, &a), LCL_RANGE, "slot 0 is 2, outside 0..1");
    slot = 0;
    row = -1;
    ASSERT_FAILS(ex->ops->splice_bwd(ex, &a), LCL_RANGE, "source row of slot 0 is -1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_embed_ids),
        cmocka_unit_test(test_splice),
        cmocka_unit_test(test_splice_indices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
