/* base + delta: sums as the types round them, an extended vocabulary, a projector of the delta's
 * own, and what does not fit listed. */
#include "tests/support/support.h"

#include "checkpoint/delta.h"
#include "checkpoint/safetensors.h"

enum { V = 5, MORE = 7, C = 6, WIDE = 4 };

static float base_embed[V * C], base_norm[C], base_head[V * C], freq[2] = {1, 0.5f};
static float embed[MORE * C], norm[C], head[MORE * C], projector[C * WIDE], bias[C];

static struct lcl_st_item item(const char *name, int n_dims, int64_t rows, int64_t columns,
                               const float *data, lcl_dtype dtype)
{
    return (struct lcl_st_item){.name = name,
                                .dtype = dtype,
                                .source = LCL_F32,
                                .n_dims = n_dims,
                                .shape = {rows, columns},
                                .data = data};
}

static const char *write_folder(const char *name, const struct lcl_st_item *items, size_t n)
{
    static char paths[3][300];
    static int turn;
    char *path = paths[turn++ % 3];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir(), name);
    ASSERT_OK(lcl_fs_mkdirs(path));
    ASSERT_OK(lcl_st_write_folder(path, items, n, 0));
    return path;
}

static void fill_all(void)
{
    float *const lists[] = {base_embed, base_norm, base_head, embed, norm, head, projector, bias};
    const size_t sizes[] = {V * C, C, V * C, MORE * C, C, MORE * C, C * WIDE, C};
    for (int i = 0; i < 8; i++) fill_normal(lists[i], sizes[i], 1, (uint64_t)i + 1);
}

static const char *base_folder(void)
{
    const struct lcl_st_item items[] = {
        item("model.embed_tokens.weight", 2, V, C, base_embed, LCL_F16),
        item("model.norm.weight", 1, C, 0, base_norm, LCL_F16),
        item("lm_head.weight", 2, V, C, base_head, LCL_F16),
        item("model.layers.0.self_attn.rotary_emb.inv_freq", 1, 2, 0, freq, LCL_F32)};
    return write_folder("base", items, 4);
}

static float rounded(float x, lcl_dtype dtype)
{
    uint16_t half;
    if (dtype == LCL_F32) return x;
    ASSERT_OK(lcl_convert(&half, dtype, &x, LCL_F32, 1));
    ASSERT_OK(lcl_convert(&x, LCL_F32, &half, dtype, 1));
    return x;
}

/* b, in f16 in its file, has fewer elements than d. */
static void assert_sum(const struct lcl_safetensors *st, const char *name, const float *b,
                       size_t n_base, const float *d, size_t n, lcl_dtype dtype)
{
    const struct lcl_st_tensor *t = lcl_st_find(st, name);
    float x[MORE * C];
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->count, n);
    ASSERT_OK(lcl_st_read(t, 0, n, LCL_F32, x));
    for (size_t i = 0; i < n; i++) {
        float own = rounded(d[i], dtype), below = i < n_base ? rounded(b[i], LCL_F16) : 0;
        assert_true(x[i] == rounded(own + below, dtype));
    }
}

static void sums_by_type(void **state)
{
    (void)state;
    const lcl_dtype types[] = {LCL_F32, LCL_F16, LCL_BF16};
    fill_all();
    for (int k = 0; k < 3; k++) {
        const lcl_dtype type = types[k];
        const struct lcl_st_item items[] = {
            item("model.embed_tokens.weight", 2, MORE, C, embed, type),
            item("model.norm.weight", 1, C, 0, norm, type),
            item("lm_head.weight", 2, MORE, C, head, type),
            item("model.mm_projector.weight", 2, C, WIDE, projector, type),
            item("model.mm_projector.bias", 1, C, 0, bias, type)};
        const char *base = base_folder(), *delta = write_folder("delta", items, 5);
        char out[300];
        struct lcl_delta_counts n;
        struct lcl_safetensors st;
        snprintf(out, sizeof out, "%s/sum%d", temp_dir(), k);
        ASSERT_OK(lcl_fs_mkdirs(out));
        ASSERT_OK(lcl_delta_apply(base, delta, out, 100, &n));
        assert_int_equal(n.added, 3);
        assert_int_equal(n.extended, 2);
        assert_int_equal(n.own, 2);
        ASSERT_OK(lcl_st_open(out, &st));
        assert_int_equal(st.n_tensors, 5);
        assert_true(st.n_shards > 1);
        assert_sum(&st, "model.embed_tokens.weight", base_embed, V * C, embed, MORE * C, type);
        assert_sum(&st, "lm_head.weight", base_head, V * C, head, MORE * C, type);
        assert_sum(&st, "model.norm.weight", base_norm, C, norm, C, type);
        assert_sum(&st, "model.mm_projector.weight", NULL, 0, projector, C * WIDE, type);
        assert_sum(&st, "model.mm_projector.bias", NULL, 0, bias, C, type);
        lcl_st_close(&st);
    }
}

/* Pieces of 2,048 elements, and of the base's 1,024, end within a row. */
static void long_tensors(void **state)
{
    (void)state;
    enum { ROWS = 71, MORE_ROWS = 74, WIDTH = 61 };
    static float b[ROWS * WIDTH], d[MORE_ROWS * WIDTH], x[MORE_ROWS * WIDTH];
    fill_normal(b, ROWS * WIDTH, 1, 1);
    fill_normal(d, MORE_ROWS * WIDTH, 1, 2);
    const struct lcl_st_item low = item("lm_head.weight", 2, ROWS, WIDTH, b, LCL_F32);
    const struct lcl_st_item high = item("lm_head.weight", 2, MORE_ROWS, WIDTH, d, LCL_F32);
    const char *base = write_folder("low", &low, 1), *delta = write_folder("high", &high, 1);
    struct lcl_delta_counts n;
    struct lcl_safetensors st;
    char out[300];
    snprintf(out, sizeof out, "%s/long", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(out));
    ASSERT_OK(lcl_delta_apply(base, delta, out, 0, &n));
    ASSERT_OK(lcl_st_open(out, &st));
    ASSERT_OK(lcl_st_read(&st.tensors[0], 0, MORE_ROWS * WIDTH, LCL_F32, x));
    for (size_t i = 0; i < MORE_ROWS * WIDTH; i++)
        assert_true(x[i] == d[i] + (i < ROWS * WIDTH ? b[i] : 0));
    lcl_st_close(&st);
}

static void what_does_not_fit_is_listed(void **state)
{
    (void)state;
    struct lcl_delta_counts n;
    char out[300];
    fill_all();
    const char *base = base_folder();
    snprintf(out, sizeof out, "%s/never", temp_dir());
    struct lcl_st_item items[] = {
        item("model.embed_tokens.weight", 2, MORE, C - 1, embed, LCL_F32),
        item("model.norm.weight", 1, C, 0, norm, LCL_F32),
        item("model.layers.1.input_layernorm.weight", 1, C, 0, norm, LCL_F32),
        item("language_model.model.norm.weight", 1, C, 0, norm, LCL_F32)};
    const char *delta = write_folder("bad", items, 4);
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE,
                 "misshapen: model.embed_tokens.weight is [7, 5] in the delta, [5, 6] in the base");
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE,
                 "missing in the delta: lm_head.weight");
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE,
                 "missing in the base: model.layers.1.input_layernorm.weight");
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE, "twice in the delta: ");
    /* Fewer rows than the base's are no extended vocabulary. */
    items[0] = item("model.embed_tokens.weight", 2, V - 1, C, embed, LCL_F32);
    delta = write_folder("bad", items, 1);
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE, "is [4, 6] in the delta");
    /* More rows of a matrix that is no vocabulary neither. */
    const struct lcl_st_item few =
        item("model.layers.0.mlp.up_proj.weight", 2, 2, C, embed, LCL_F32);
    const struct lcl_st_item many =
        item("model.layers.0.mlp.up_proj.weight", 2, 3, C, embed, LCL_F32);
    base = write_folder("few", &few, 1);
    delta = write_folder("many", &many, 1);
    ASSERT_FAILS(lcl_delta_apply(base, delta, out, 0, &n), LCL_SHAPE, "misshapen: ");
    assert_false(lcl_fs_exists(out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_by_type),
        cmocka_unit_test(long_tensors),
        cmocka_unit_test(what_does_not_fit_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
