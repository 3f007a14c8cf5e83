/* safetensors files: golden tensors, round trips, and headers made to harm. */
#include "tests/support/support.h"

#include "checkpoint/safetensors.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

static const char *file_in_temp(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

/* A file of this header and `data_bytes` zero bytes. length_delta makes the header's length lie. */
static const char *hostile(const char *header, size_t data_bytes, int64_t length_delta)
{
    const char *path = file_in_temp("hostile.safetensors");
    size_t n = strlen(header);
    unsigned char *bytes = calloc(1, 8 + n + data_bytes);
    uint64_t length = (uint64_t)((int64_t)n + length_delta);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, n);
    ASSERT_OK(lcl_fs_write_atomic(path, bytes, 8 + n + data_bytes));
    free(bytes);
    return path;
}

static void refused(const char *header, size_t data_bytes, lcl_status code, const char *text)
{
    struct lcl_safetensors st;
    ASSERT_FAILS(lcl_st_open(hostile(header, data_bytes, 0), &st), code, text);
    assert_non_null(strstr(lcl_error_message(), "hostile.safetensors"));
}

static void golden_file_is_read(void **state)
{
    (void)state;
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(shared_path("golden/llava-tiny/case.safetensors"), &st));
    const struct lcl_st_tensor *loss = lcl_st_find(&st, "loss");
    assert_non_null(loss);
    assert_int_equal(loss->count, 1);
    float value;
    ASSERT_OK(lcl_st_read(loss, 0, 1, LCL_F32, &value));
    assert_true(value > 1 && value < 20);
    const struct lcl_st_tensor *ids = lcl_st_find(&st, "input_ids");
    assert_non_null(ids);
    assert_int_equal(ids->dtype, LCL_I64);
    assert_int_equal(ids->n_dims, 2);
    int64_t first;
    ASSERT_OK(lcl_st_read(ids, 0, 1, LCL_I64, &first));
    assert_int_equal(first, 1); /* <s> */
    double norm;
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "train_full.loss"), 9, 1, LCL_F64, &norm));
    assert_null(lcl_st_find(&st, "no such tensor"));
    ASSERT_FAILS(lcl_st_read(ids, 0, 1, LCL_F32, &value), LCL_UNSUPPORTED, "input_ids");
    lcl_st_close(&st);
}

static void round_trip_keeps_bits(void **state)
{
    (void)state;
    float x[33], back[33];
    double wide[2] = {1.0 / 3, -2e300};
    int64_t ids[3] = {-1, 1, INT64_MAX};
    lcl_bf16 half[33];
    uint8_t byte = 200;
    fill_normal(x, 33, 1, 7);
    x[5] = INFINITY;
    const struct lcl_st_item items[] = {
        {"b \u00e9 \"quoted\"", LCL_F32, LCL_F32, 2, {11, 3}, x},
        {"half", LCL_BF16, LCL_F32, 1, {33}, x},
        {"byte", LCL_U8, LCL_U8, 0, {0}, &byte},
        {"ids", LCL_I64, LCL_I64, 1, {3}, ids},
        {"wide", LCL_F64, LCL_F64, 1, {2}, wide},
        {"none", LCL_F32, LCL_F32, 2, {0, 5}, x},
    };
    const char *const meta[] = {"format", "pt", "who", "test", NULL};
    const char *path = file_in_temp("round.safetensors");
    ASSERT_OK(lcl_st_write(path, items, 6, meta));
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(path, &st));
    assert_int_equal(st.n_tensors, 6);
    assert_string_equal(st.metadata, "{\"format\":\"pt\",\"who\":\"test\"}");
    const struct lcl_st_tensor *t = lcl_st_find(&st, items[0].name);
    assert_true(t && t->shape[0] == 11 && t->shape[1] == 3);
    ASSERT_OK(lcl_st_read(t, 0, 33, LCL_F32, back));
    assert_memory_equal(x, back, sizeof x);
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "half"), 0, 33, LCL_BF16, half));
    for (int i = 0; i < 33; i++) assert_int_equal(half[i], lcl_f32_to_bf16(x[i]));
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "half"), 32, 1, LCL_F32, back));
    assert_true(back[0] == lcl_bf16_to_f32(half[32]));
    int64_t ids_back[3];
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "ids"), 0, 3, LCL_I64, ids_back));
    assert_memory_equal(ids, ids_back, sizeof ids);
    assert_int_equal(lcl_st_find(&st, "none")->count, 0);
    assert_int_equal(*lcl_st_find(&st, "byte")->data, 200);
    for (size_t i = 0; i < st.n_tensors; i++) /* as memory maps of other readers need it */
        if (st.tensors[i].count > 0 && st.tensors[i].dtype < LCL_DTYPE_COUNT)
            assert_int_equal((uintptr_t)st.tensors[i].data % lcl_dtype_bytes(st.tensors[i].dtype),
                             0);
    lcl_st_close(&st);
}

static void unaligned_data_is_read(void **state)
{
    (void)state;
    struct lcl_safetensors st;
    float x[2] = {1, 1};
    ASSERT_OK(lcl_st_open(hostile("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]},"
                                  "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                                  9, 0),
                          &st));
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "a"), 0, 2, LCL_F32, x));
    assert_true(x[0] == 0 && x[1] == 0);
    double d[2] = {1, 1};
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "a"), 0, 2, LCL_F64, d));
    assert_true(d[0] == 0 && d[1] == 0);
    ASSERT_FAILS(lcl_st_read(lcl_st_find(&st, "a"), 1, 2, LCL_F32, x), LCL_RANGE, "1..3 of 2");
    lcl_st_close(&st);
}

static void lying_lengths_are_refused(void **state)
{
    (void)state;
    struct lcl_safetensors st;
    const char *path = file_in_temp("short.safetensors");
    ASSERT_OK(lcl_fs_write_atomic(path, "abc", 3));
    ASSERT_FAILS(lcl_st_open(path, &st), LCL_FORMAT, "3 bytes");
    ASSERT_OK(lcl_fs_write_atomic(path, "", 0));
    ASSERT_FAILS(lcl_st_open(path, &st), LCL_FORMAT, "0 bytes");
    ASSERT_OK(lcl_fs_write_atomic(path, "\377\377\377\377\377\377\377\377{}", 10));
    ASSERT_FAILS(lcl_st_open(path, &st), LCL_FORMAT, "18446744073709551615");
    ASSERT_FAILS(lcl_st_open(hostile("{}", 0, 1), &st), LCL_FORMAT, "claims 3 bytes");
    ASSERT_FAILS(lcl_st_open(hostile("{}", 0, -1), &st), LCL_FORMAT, "hostile");
    ASSERT_FAILS(lcl_st_open(file_in_temp("absent.safetensors"), &st), LCL_NOT_FOUND, "absent");
}

#define T(dtype, shape, offsets) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void bad_offsets_are_refused(void **state)
{
    (void)state;
    refused("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[4,12]") "}", 12,
            LCL_FORMAT, "inside another");
    refused("{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12,
            LCL_FORMAT, "after a gap");
    refused("{\"a\":" T("F32", "[2]", "[0,8]") "}", 7, LCL_FORMAT, "0..8 of 7 bytes");
    refused("{\"a\":" T("F32", "[2]", "[0,8]") "}", 9, LCL_FORMAT, "1 bytes follow");
    refused("{\"a\":" T("F32", "[1]", "[8,4]") "}", 8, LCL_FORMAT, "8..4");
    refused("{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, LCL_FORMAT, "-4..0");
    refused("{\"a\":" T("F32", "[1]", "[0,4.0]") "}", 4, LCL_FORMAT, "data_offsets");
    refused("{\"a\":" T("F32", "[1]", "[0,99999999999999999999]") "}", 4, LCL_FORMAT, "header");
    refused("{\"a\":" T("F32", "[1]", "[0,4,4]") "}", 4, LCL_FORMAT, "data_offsets");
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    refused("{\"a\":" T("F16", "[2]", "[0,8]") "}", 8, LCL_FORMAT, "type F16 has 8 bytes");
    refused("{\"a\":" T("F32", "[4294967296, 4294967296]", "[0,0]") "}", 0, LCL_FORMAT,
            "overflows");
    refused("{\"a\":" T("F32", "[4611686018427387904]", "[0,0]") "}", 0, LCL_FORMAT, "0 bytes");
    refused("{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, LCL_FORMAT, "dimension 0");
    refused("{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, LCL_UNSUPPORTED,
            "9 dimensions");
    refused("{\"a\":" T("Q7", "[1]", "[0,4]") "}", 4, LCL_UNSUPPORTED, "Q7");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, LCL_FORMAT, "dtype");
    refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, LCL_FORMAT, "shape");
}

static void bad_json_is_refused(void **state)
{
    (void)state;
    refused("{\"a\":1", 0, LCL_FORMAT, "header");
    refused("[]", 0, LCL_FORMAT, "no JSON object");
    refused("{\"a\":3}", 0, LCL_FORMAT, "dtype");
    refused("{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8,
            LCL_FORMAT, "duplicate");
    refused("{\"\377\376\":" T("F32", "[1]", "[0,4]") "}", 4, LCL_FORMAT, "unable to decode");
    refused("{\"__metadata__\":7}", 0, LCL_FORMAT, "__metadata__");
    char *deep = malloc(200002);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    refused(deep, 0, LCL_FORMAT, "depth");
    free(deep);
}

/* Every cut of a good file is refused, whatever byte it ends at. */
static void truncation_is_refused(void **state)
{
    (void)state;
    float x[3] = {1, 2, 3};
    const struct lcl_st_item item = {"x", LCL_F32, LCL_F32, 1, {3}, x};
    const char *path = file_in_temp("cut.safetensors");
    ASSERT_OK(lcl_st_write(path, &item, 1, NULL));
    char *data;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &data, &size));
    for (size_t n = 0; n < size; n++) {
        struct lcl_safetensors st;
        ASSERT_OK(lcl_fs_write_atomic(path, data, n));
        ASSERT_FAILS(lcl_st_open(path, &st), LCL_FORMAT, "cut.safetensors");
    }
    free(data);
}

static void shards_are_read_as_one(void **state)
{
    (void)state;
    char dir[300], path[400];
    snprintf(dir, sizeof dir, "%s/shards", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(dir));
    float x[64], back[16];
    fill_normal(x, 64, 1, 3);
    const struct lcl_st_item items[] = {{"a", LCL_F32, LCL_F32, 1, {16}, x},
                                        {"b", LCL_F32, LCL_F32, 1, {16}, x + 16},
                                        {"c", LCL_F32, LCL_F32, 1, {16}, x + 32},
                                        {"d", LCL_F32, LCL_F32, 1, {16}, x + 48}};
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_write_folder(dir, items, 4, 130)); /* two tensors a shard */
    ASSERT_OK(lcl_st_open(dir, &st));
    assert_int_equal(st.n_shards, 2);
    assert_int_equal(st.n_tensors, 4);
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(lcl_st_read(lcl_st_find(&st, items[i].name), 0, 16, LCL_F32, back));
        assert_memory_equal(back, x + 16 * i, sizeof back);
    }
    lcl_st_close(&st);
    /* A later save in one file takes the shards' place, and the other way round. */
    ASSERT_OK(lcl_st_write_folder(dir, items, 4, 0));
    char **names;
    size_t n;
    ASSERT_OK(lcl_fs_list(dir, &names, &n));
    assert_int_equal(n, 1);
    assert_string_equal(names[0], "model.safetensors");
    lcl_fs_list_free(names, n);
    ASSERT_OK(lcl_st_write_folder(dir, items, 4, 1)); /* smaller than any tensor: one each */
    ASSERT_OK(lcl_fs_list(dir, &names, &n));
    assert_int_equal(n, 5);
    lcl_fs_list_free(names, n);
    snprintf(path, sizeof path, "%s/model-00003-of-00004.safetensors", dir);
    assert_int_equal(remove(path), 0);
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_NOT_FOUND, "model-00003-of-00004");
}

static void bad_indices_are_refused(void **state)
{
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/indices", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(dir));
    struct lcl_safetensors st;
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_NOT_FOUND, "neither model.safetensors");
    ASSERT_OK(lcl_fs_write_text(dir, "pytorch_model.bin", "x"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, "pytorch_model.bin");
    static const char index[] = "model.safetensors.index.json";
    ASSERT_OK(lcl_fs_write_text(dir, index, "{\"weight_map\":{\"a\":\"../secret.safetensors\"}}"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, "\"a\"");
    ASSERT_OK(lcl_fs_write_text(dir, index, "{\"weight_map\":3}"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, "weight_map");
    ASSERT_OK(lcl_fs_write_text(dir, index, "{"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, index);
    float x = 1;
    char path[400];
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof path, "%s/s%d.safetensors", dir, i);
        ASSERT_OK(
            lcl_st_write(path, &(struct lcl_st_item){"a", LCL_F32, LCL_F32, 1, {1}, &x}, 1, NULL));
    }
    ASSERT_OK(lcl_fs_write_text(dir, index, "{\"weight_map\":{\"b\":\"s1.safetensors\"}}"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, "\"b\" is not in s1.safetensors");
    ASSERT_OK(lcl_fs_write_text(
        dir, index, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}"));
    ASSERT_FAILS(lcl_st_open(dir, &st), LCL_FORMAT, "both in");
}

static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    static float x[4096];
    const char *path = file_in_temp("full.safetensors");
    struct lcl_st_item item = {"x", LCL_F32, LCL_F32, 1, {3}, x};
    ASSERT_OK(lcl_st_write(path, &item, 1, NULL));
    item.shape[0] = 4096;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){1000, old.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    lcl_status s = lcl_st_write(path, &item, 1, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(s, LCL_IO);
    assert_non_null(strstr(lcl_error_message(), "full.safetensors"));
    struct lcl_safetensors st;
    ASSERT_OK(lcl_st_open(path, &st));
    assert_int_equal(lcl_st_find(&st, "x")->count, 3);
    lcl_st_close(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_file_is_read),          cmocka_unit_test(round_trip_keeps_bits),
        cmocka_unit_test(unaligned_data_is_read),       cmocka_unit_test(lying_lengths_are_refused),
        cmocka_unit_test(bad_offsets_are_refused),      cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(bad_json_is_refused),          cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(shards_are_read_as_one),       cmocka_unit_test(bad_indices_are_refused),
        cmocka_unit_test(full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
