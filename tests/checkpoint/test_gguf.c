/* GGUF files: what is written is read again, element types, and files made to harm. */
#include "tests/support/support.h"

#include <math.h>

#include "checkpoint/gguf.h"

static const char *const words[] = {"", "a", "\xe2\x96\x81the"};

static const char *file_in_temp(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static struct lcl_gguf_item item(const char *name, enum lcl_gguf_type type, int64_t rows,
                                 int64_t row, const float *data)
{
    return (struct lcl_gguf_item){
        .name = name, .type = type, .n_dims = 2, .shape = {rows, row}, .data = data};
}

static void write_good(const char *path, const float *data)
{
    const float scores[] = {0.5f, -1, 3e30f};
    const int32_t types[] = {1, -6};
    struct lcl_gguf_meta meta = {0};
    lcl_gguf_put_text(&meta, "general.architecture", "llama");
    lcl_gguf_put_u32(&meta, "llama.block_count", 7);
    lcl_gguf_put_f32(&meta, "llama.eps", 1e-5f);
    lcl_gguf_put_bool(&meta, "yes", true);
    lcl_gguf_put_texts(&meta, "words", words, 3);
    lcl_gguf_put_f32s(&meta, "scores", scores, 3);
    lcl_gguf_put_i32s(&meta, "types", types, 2);
    struct lcl_gguf_item items[] = {item("b", LCL_GGUF_TYPE_F32, 5, 3, data),
                                    item("a", LCL_GGUF_TYPE_F16, 3, 5, data)};
    items[1].n_dims = 1;
    items[1].shape[0] = 7;
    ASSERT_OK(lcl_gguf_write(path, &meta, items, 2));
    lcl_gguf_meta_free(&meta);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const char *path = file_in_temp("good.gguf");
    float data[5 * 3];
    fill_normal(data, 15, 1, 1);
    write_good(path, data);
    struct lcl_gguf g;
    char *text, **list;
    double *numbers, x = 0;
    int64_t whole = 3;
    size_t n;
    assert_true(lcl_gguf_is_file(path));
    ASSERT_OK(lcl_gguf_open(path, &g));
    assert_int_equal(g.version, 3);
    assert_int_equal(g.n_values, 8);
    ASSERT_OK(lcl_gguf_get_text(&g, "general.architecture", &text));
    assert_string_equal(text, "llama");
    free(text);
    ASSERT_OK(lcl_gguf_get_int(&g, "llama.block_count", 1, 9, &whole));
    assert_int_equal(whole, 7);
    ASSERT_OK(lcl_gguf_get_int(&g, "absent", 1, 9, &whole));
    assert_int_equal(whole, 7);
    ASSERT_OK(lcl_gguf_get_real(&g, "llama.eps", 0, 1, &x));
    assert_true((float)x == 1e-5f);
    ASSERT_OK(lcl_gguf_get_texts(&g, "words", &list, &n));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) assert_string_equal(list[i], words[i]);
    free(list);
    ASSERT_OK(lcl_gguf_get_numbers(&g, "scores", &numbers, &n));
    assert_true(n == 3 && numbers[2] == (double)3e30f);
    free(numbers);
    ASSERT_OK(lcl_gguf_get_numbers(&g, "types", &numbers, &n));
    assert_true(n == 2 && numbers[1] == -6);
    free(numbers);
    ASSERT_FAILS(lcl_gguf_get_text(&g, "scores", &text), LCL_FORMAT, "array of f32");
    ASSERT_FAILS(lcl_gguf_get_int(&g, "llama.block_count", 1, 6, &whole), LCL_FORMAT,
                 "llama.block_count is 7");
    ASSERT_FAILS(lcl_gguf_get_int(&g, "llama.eps", 0, 6, &whole), LCL_FORMAT, "no whole number");

    float back[15];
    const struct lcl_gguf_tensor *b = lcl_gguf_tensor(&g, "b"), *a = lcl_gguf_tensor(&g, "a");
    assert_true(a && b && a->n_dims == 1 && b->shape[0] == 5 && b->shape[1] == 3);
    ASSERT_OK(lcl_gguf_read_rows(b, 1, 4, back));
    assert_memory_equal(back, data + 3, 12 * sizeof *back);
    ASSERT_OK(lcl_gguf_read_rows(a, 0, 1, back));
    for (int i = 0; i < 7; i++) assert_true(back[i] == lcl_f16_to_f32(lcl_f32_to_f16(data[i])));
    ASSERT_FAILS(lcl_gguf_read_rows(b, 4, 2, back), LCL_RANGE, "rows 4..6 of 5");
    assert_null(lcl_gguf_tensor(&g, "c"));
    lcl_gguf_close(&g);
}

/* ---- element types ---- */

static struct lcl_gguf_tensor in_memory(uint32_t type, size_t rows, size_t row, const void *data)
{
    return (struct lcl_gguf_tensor){.name = (char *)(uintptr_t) "x",
                                    .type = lcl_gguf_type_info(type),
                                    .n_dims = 2,
                                    .shape = {(int64_t)rows, (int64_t)row},
                                    .count = rows * row,
                                    .data = data};
}

/* Blocks written out by hand: scale 0.5 (0x3800), least value -2 (0xc000), nibbles i and 15 - i. */
static void blocks_of_four_bits(void **state)
{
    (void)state;
    unsigned char q4_0[18] = {0x00, 0x38}, q4_1[20] = {0x00, 0x38, 0x00, 0xc0};
    float x[32], y[32];
    for (int i = 0; i < 16; i++) q4_0[2 + i] = q4_1[4 + i] = (unsigned char)(i | (15 - i) << 4);
    struct lcl_gguf_tensor a = in_memory(LCL_GGUF_TYPE_Q4_0, 1, 32, q4_0);
    struct lcl_gguf_tensor b = in_memory(LCL_GGUF_TYPE_Q4_1, 1, 32, q4_1);
    ASSERT_OK(lcl_gguf_read_rows(&a, 0, 1, x));
    ASSERT_OK(lcl_gguf_read_rows(&b, 0, 1, y));
    for (int i = 0; i < 16; i++) {
        assert_true(x[i] == 0.5f * (float)(i - 8) && x[i + 16] == 0.5f * (float)(7 - i));
        assert_true(y[i] == 0.5f * (float)i - 2 && y[i + 16] == 0.5f * (float)(15 - i) - 2);
    }
    struct lcl_gguf_tensor k = in_memory(12, 1, 256, q4_0);
    ASSERT_FAILS(lcl_gguf_read_rows(&k, 0, 1, x), LCL_UNSUPPORTED, "Q4_K");
}

/* Within half a step of what was given; a second pass changes nothing; zeros and steps of the scale
 * are exact. */
static void blocks_of_eight_bits(void **state)
{
    (void)state;
    enum { N = 32 * 33 };
    static float x[N], y[N], z[N];
    static unsigned char bytes[N / 32 * 34], again[N / 32 * 34];
    fill_normal(x, N, 1, 2);
    for (int i = 0; i < 32; i++) x[i] = 0;
    for (int i = 0; i < 32; i++) x[32 + i] = 0.25f * (float)(i == 31 ? 127 : i - 16);
    struct lcl_gguf_tensor t = in_memory(LCL_GGUF_TYPE_Q8_0, 33, 32, bytes);
    lcl_gguf_encode(LCL_GGUF_TYPE_Q8_0, x, N, bytes);
    ASSERT_OK(lcl_gguf_read_rows(&t, 0, 33, y));
    for (int b = 0; b < 33; b++) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[32 * b + i]));
        /* half a step, and what the scale loses as f16 (a part in 2,048) times 127 steps */
        for (int i = 0; i < 32; i++)
            assert_true(fabsf(x[32 * b + i] - y[32 * b + i]) <=
                        most / 127 * (b < 2 ? 0 : 0.5f + 127.0f / 2048));
    }
    lcl_gguf_encode(LCL_GGUF_TYPE_Q8_0, y, N, again);
    struct lcl_gguf_tensor u = in_memory(LCL_GGUF_TYPE_Q8_0, 33, 32, again);
    ASSERT_OK(lcl_gguf_read_rows(&u, 0, 33, z));
    for (int i = 0; i < N; i++) assert_true(fabsf(z[i] - y[i]) <= fabsf(y[i]) / 1024);
}

/* The file holds pairs side by side; reading row by row through lcl_gguf_rotary_row undoes it. */
static void rotary_rows(void **state)
{
    (void)state;
    enum { HEADS = 3, D = 6, ROW = 2 };
    float data[HEADS * D * ROW], x[ROW];
    for (int i = 0; i < HEADS * D * ROW; i++) data[i] = (float)i;
    struct lcl_gguf_item q = item("q", LCL_GGUF_TYPE_F32, HEADS * D, ROW, data);
    q.rotary_heads = HEADS;
    struct lcl_gguf_meta meta = {0};
    struct lcl_gguf g;
    ASSERT_OK(lcl_gguf_write(file_in_temp("rotary.gguf"), &meta, &q, 1));
    ASSERT_OK(lcl_gguf_open(file_in_temp("rotary.gguf"), &g));
    const struct lcl_gguf_tensor *t = lcl_gguf_tensor(&g, "q");
    static const int first_head[] = {0, 3, 1, 4, 2, 5};
    for (size_t r = 0; r < D; r++) {
        ASSERT_OK(lcl_gguf_read_rows(t, r, 1, x));
        assert_true(x[0] == (float)(first_head[r] * ROW));
    }
    for (size_t r = 0; r < HEADS * D; r++) {
        ASSERT_OK(lcl_gguf_read_rows(t, lcl_gguf_rotary_row(r, HEADS * D, HEADS), 1, x));
        assert_true(x[0] == (float)(r * ROW));
    }
    lcl_gguf_close(&g);
}

static void the_writer_refuses(void **state)
{
    (void)state;
    float data[66] = {0};
    struct lcl_gguf_meta meta = {0};
    struct lcl_gguf_item odd = item("odd", LCL_GGUF_TYPE_Q8_0, 2, 33, data);
    struct lcl_gguf_item same[] = {item("x", LCL_GGUF_TYPE_F32, 2, 2, data),
                                   item("x", LCL_GGUF_TYPE_F32, 2, 2, data)};
    const char *path = file_in_temp("refused.gguf");
    ASSERT_FAILS(lcl_gguf_write(path, &meta, &odd, 1), LCL_SHAPE, "no whole blocks of 32");
    ASSERT_FAILS(lcl_gguf_write(path, &meta, same, 2), LCL_EXISTS, "two tensors are called x");
    assert_false(lcl_fs_exists(path));
}

/* ---- hostile files ---- */

static unsigned char bytes[4096];
static size_t used;

static void raw(const void *p, size_t n)
{
    assert_true(used + n <= sizeof bytes);
    memcpy(bytes + used, p, n);
    used += n;
}
static void u32(uint32_t x) { raw(&x, 4); }
static void u64(uint64_t x) { raw(&x, 8); }
static void name(const char *s)
{
    u64(strlen(s));
    raw(s, strlen(s));
}
static void head(uint32_t version, uint64_t n_tensors, uint64_t n_values)
{
    used = 0;
    raw("GGUF", 4);
    u32(version);
    u64(n_tensors);
    u64(n_values);
}
/* One f32 tensor of two dimensions at `offset`. */
static void tensor(const char *s, uint64_t ne0, uint64_t ne1, uint32_t type, uint64_t offset)
{
    name(s);
    u32(2);
    u64(ne0);
    u64(ne1);
    u32(type);
    u64(offset);
}
static void data(size_t n)
{
    memset(bytes + used, 0, sizeof bytes - used);
    used = (used + 31) / 32 * 32 + n;
}
static void refused(lcl_status code, const char *text)
{
    struct lcl_gguf g;
    const char *path = file_in_temp("hostile.gguf");
    ASSERT_OK(lcl_fs_write_atomic(path, bytes, used));
    ASSERT_FAILS(lcl_gguf_open(path, &g), code, text);
    assert_non_null(strstr(lcl_error_message(), "hostile.gguf"));
}

static void headers_made_to_harm(void **state)
{
    (void)state;
    used = 0;
    raw("GGU", 3);
    refused(LCL_FORMAT, "the header at byte 0 needs 4 bytes, 3 are left");
    used = 0;
    raw("GGML", 4);
    refused(LCL_FORMAT, "no GGUF file");
    head(1, 0, 0);
    refused(LCL_VERSION, "version 1");
    head(0x03000000, 0, 0);
    refused(LCL_VERSION, "big-endian");
    head(3, UINT64_MAX, 0);
    refused(LCL_FORMAT, "claims 18446744073709551615 tensors");
    head(3, 0, 1u << 17);
    refused(LCL_FORMAT, "131072 keys");
    head(3, 0, 1);
    refused(LCL_FORMAT, "a key at byte 24 needs 8 bytes, 0 are left");
    head(3, 0, 1);
    u64(UINT64_MAX);
    refused(LCL_FORMAT, "18446744073709551615 bytes, wanted 1..1023");
    head(3, 0, 1);
    u64(3);
    raw("a\0b", 3);
    refused(LCL_FORMAT, "NUL byte");
}

static void values_made_to_harm(void **state)
{
    (void)state;
    head(3, 0, 1);
    name("k");
    u32(13);
    refused(LCL_FORMAT, "unknown value type 13");
    head(3, 0, 1);
    name("k");
    u32(LCL_GGUF_STRING);
    u64(UINT64_MAX - 7);
    refused(LCL_FORMAT, "needs 18446744073709551608 bytes");
    head(3, 0, 1);
    name("k");
    u32(LCL_GGUF_ARRAY);
    u32(LCL_GGUF_F64);
    u64((uint64_t)1 << 61); /* times 8 is 0 */
    refused(LCL_FORMAT, "k at byte");
    head(3, 0, 1);
    name("k");
    u32(LCL_GGUF_ARRAY);
    for (int i = 0; i < 20; i++) {
        u32(LCL_GGUF_ARRAY);
        u64(1);
    }
    refused(LCL_UNSUPPORTED, "nests arrays more than 4 deep");
    head(3, 0, 1);
    name("k");
    u32(LCL_GGUF_BOOL);
    raw("\x02", 1);
    refused(LCL_FORMAT, "neither true nor false");
    head(3, 0, 2);
    for (int i = 0; i < 2; i++) {
        name("k");
        u32(LCL_GGUF_U32);
        u32(1);
    }
    refused(LCL_FORMAT, "the key k is there twice");
    static const uint32_t alignments[] = {0, 24, 1u << 20};
    for (int i = 0; i < 3; i++) {
        head(3, 0, 1);
        name("general.alignment");
        u32(LCL_GGUF_U32);
        u32(alignments[i]);
        refused(LCL_FORMAT, "general.alignment is");
    }
}

static void tensors_made_to_harm(void **state)
{
    (void)state;
    head(3, 1, 0);
    name("t");
    u32(5);
    refused(LCL_FORMAT, "5 dimensions");
    head(3, 1, 0);
    tensor("t", 0, 2, 0, 0);
    refused(LCL_FORMAT, "a dimension of 0");
    head(3, 1, 0);
    tensor("t", (uint64_t)1 << 62, 4, 0, 0);
    refused(LCL_FORMAT, "overflows");
    head(3, 1, 0);
    tensor("t", (uint64_t)1 << 61, 2, 0, 0); /* elements fit, bytes do not */
    refused(LCL_FORMAT, "does not fit");
    head(3, 1, 0);
    tensor("t", 2, 2, 99, 0);
    refused(LCL_UNSUPPORTED, "unknown element type 99");
    head(3, 1, 0);
    tensor("t", 31, 2, LCL_GGUF_TYPE_Q8_0, 0);
    refused(LCL_FORMAT, "rows of 31 elements are no whole blocks of 32");
    head(3, 1, 0);
    tensor("t", 2, 2, 0, 16);
    data(64);
    refused(LCL_FORMAT, "no multiple of 32");
    head(3, 1, 0);
    tensor("t", 2, 2, 0, 0);
    data(15);
    refused(LCL_FORMAT, "does not fit into 15 bytes");
    head(3, 1, 0);
    tensor("t", 2, 2, 0, UINT64_MAX - 31);
    data(64);
    refused(LCL_FORMAT, "does not fit");
    head(3, 2, 0);
    tensor("t", 16, 1, 0, 0);
    tensor("u", 2, 2, 0, 32);
    data(64);
    refused(LCL_FORMAT, "\"t\" and \"u\" overlap");
    head(3, 2, 0);
    tensor("t", 2, 2, 0, 0);
    tensor("t", 2, 2, 0, 32);
    data(64);
    refused(LCL_FORMAT, "\"t\" is there twice");
}

/* Every prefix of a good file is refused or whole: no read past the end. */
static void files_cut_short(void **state)
{
    (void)state;
    struct lcl_gguf g;
    const char *path = file_in_temp("cut.gguf");
    head(2, 1, 1);
    name("k");
    u32(LCL_GGUF_ARRAY);
    u32(LCL_GGUF_STRING);
    u64(2);
    name("one");
    name("two");
    tensor("t", 2, 2, 0, 0);
    data(16);
    for (size_t n = 0; n <= used; n++) {
        ASSERT_OK(lcl_fs_write_atomic(path, bytes, n));
        lcl_status status = lcl_gguf_open(path, &g);
        assert_int_equal(status == LCL_OK, n == used);
        if (status == LCL_OK) lcl_gguf_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(blocks_of_four_bits),
        cmocka_unit_test(blocks_of_eight_bits),    cmocka_unit_test(rotary_rows),
        cmocka_unit_test(the_writer_refuses),      cmocka_unit_test(headers_made_to_harm),
        cmocka_unit_test(values_made_to_harm),     cmocka_unit_test(tensors_made_to_harm),
        cmocka_unit_test(files_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
