/* Files of torch.save: tensors as they were saved, zip64, shared storages; nothing is run, and what
 * is damaged or unknown is an error that names it. */
#include "checkpoint/torch.h"

#include "core/fs.h"
#include "tests/support/support.h"
#include "tests/support/torch_file.h"

static const float weights[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint16_t halves[2] = {0x3c00, 0xc000}; /* 1, -2 */

static const struct torch_item items[] = {
    {"a.weight", "FloatStorage", weights, 12, 4, 0, 2, {3, 4}},
    {"a.bias", "FloatStorage", weights, 12, 4, 9, 1, {3}},
    {"scale", "FloatStorage", weights, 12, 4, 5, 0, {0}},
    {"half", "HalfStorage", halves, 2, 2, 0, 1, {2}},
    {"mask", "BoolStorage", weights, 4, 1, 0, 1, {4}},
};
enum { N = sizeof items / sizeof *items };

static const char *path(void)
{
    static char p[300];
    snprintf(p, sizeof p, "%s/pytorch_model.bin", temp_dir());
    return p;
}

static void write_bytes(const struct torch_bytes *b, size_t n)
{
    ASSERT_OK(lcl_fs_write_atomic(path(), b->v, n));
}

static void assert_tensors(const char *where)
{
    struct lcl_safetensors st;
    float x[12];
    ASSERT_OK(lcl_st_open(where, &st));
    assert_int_equal(st.n_tensors, N);
    const struct lcl_st_tensor *t = lcl_st_find(&st, "a.weight");
    assert_true(t->n_dims == 2 && t->shape[0] == 3 && t->shape[1] == 4 && t->dtype == LCL_F32);
    ASSERT_OK(lcl_st_read(t, 0, 12, LCL_F32, x));
    assert_memory_equal(x, weights, sizeof weights);
    t = lcl_st_find(&st, "a.bias");
    ASSERT_OK(lcl_st_read(t, 0, 3, LCL_F32, x));
    assert_memory_equal(x, weights + 9, 12);
    t = lcl_st_find(&st, "scale");
    assert_true(t->n_dims == 0 && t->count == 1);
    ASSERT_OK(lcl_st_read(t, 0, 1, LCL_F32, x));
    assert_true(x[0] == 5);
    ASSERT_OK(lcl_st_read(lcl_st_find(&st, "half"), 0, 2, LCL_F32, x));
    assert_true(x[0] == 1 && x[1] == -2);
    assert_string_equal(lcl_st_find(&st, "mask")->stored, "BOOL");
    lcl_st_close(&st);
}

static void tensors_are_read_in_place(void **state)
{
    (void)state;
    struct torch_bytes pickle = {0}, file = {0};
    torch_write(path(), items, N);
    assert_tensors(path());
    assert_tensors(temp_dir()); /* by its name in a folder */
    torch_pickle(&pickle, items, N);
    torch_zip(&file, &pickle, items, N, 1);
    write_bytes(&file, file.n);
    assert_tensors(path());
    free(pickle.v);
    free(file.v);
}

/* Opens an archive around a pickle given as text; "%" is a byte of zero. */
static lcl_status open_pickle(const char *ops)
{
    struct torch_bytes pickle = {0}, file = {0};
    struct lcl_safetensors st;
    for (; *ops; ops++) torch_put(&pickle, *ops == '%' ? "" : ops, 1);
    torch_zip(&file, &pickle, items, 1, 0);
    write_bytes(&file, file.n);
    free(pickle.v);
    free(file.v);
    lcl_status status = lcl_st_open(path(), &st);
    if (status == LCL_OK) lcl_st_close(&st);
    return status;
}

static void nothing_is_run(void **state)
{
    (void)state;
    ASSERT_FAILS(open_pickle("\x80\x02"
                             "cposix\nsystem\nX\x02%%%ls\x85R."),
                 LCL_UNSUPPORTED, "posix.system");
    ASSERT_FAILS(open_pickle("\x80\x04\x8c\x08"
                             "builtins\x8c\x04"
                             "eval\x93)R."),
                 LCL_UNSUPPORTED, "builtins.eval");
    ASSERT_FAILS(open_pickle("\x80\x02(iposix\nsystem\n."), LCL_UNSUPPORTED, "opcode 0x69");
    ASSERT_FAILS(open_pickle("\x80\x02}}\x81."), LCL_UNSUPPORTED, "opcode 0x81");
    ASSERT_FAILS(open_pickle("\x80\x02K\x05."), LCL_FORMAT, "no dict of tensors");
    ASSERT_FAILS(open_pickle("\x80\x02."), LCL_FORMAT, "stack is empty");
    ASSERT_FAILS(open_pickle("\x80\x02}"), LCL_FORMAT, "ends too early");
    ASSERT_FAILS(open_pickle("\x80\x02h\x07."), LCL_FORMAT, "never put");
    ASSERT_FAILS(open_pickle("\x80\x02}r%%%\x7f."), LCL_FORMAT, "out of order");
    ASSERT_FAILS(open_pickle("\x80\x02X\xff\xff\xff\x7f."), LCL_FORMAT, "ends too early");
    ASSERT_FAILS(open_pickle("\x80\x02}(K\x01u."), LCL_FORMAT, "without a dict or a key");
    ASSERT_FAILS(open_pickle("\x80\x02(."), LCL_FORMAT, "mark where a value");
    ASSERT_FAILS(open_pickle("\x80\x02}))Q."), LCL_FORMAT, "no storage");
    ASSERT_FAILS(open_pickle("\x80\x02K\x01)R."), LCL_FORMAT, "no function");
    ASSERT_FAILS(open_pickle("\x80\x02"
                             "ctorch._utils\n_rebuild_tensor_v2\n)R."),
                 LCL_FORMAT, "without storage");
    ASSERT_OK(open_pickle("\x80\x02}X\x01%%%aK\x01s.")); /* a dict without tensors */
}

static void assert_item(const struct torch_item *t, lcl_status code, const char *text)
{
    struct lcl_safetensors st;
    torch_write(path(), t, 1);
    ASSERT_FAILS(lcl_st_open(path(), &st), code, text);
}

static void tensors_must_fit_their_storage(void **state)
{
    (void)state;
    struct torch_item t = items[0];
    t.offset = 1;
    assert_item(&t, LCL_FORMAT, "does not fit its storage");
    t = items[0];
    t.shape[0] = t.shape[1] = INT32_MAX;
    t.n_dims = 4;
    t.shape[2] = t.shape[3] = INT32_MAX;
    assert_item(&t, LCL_FORMAT, "does not fit its storage");
    t = items[0];
    t.storage = "ComplexFloatStorage";
    assert_item(&t, LCL_UNSUPPORTED, "torch.ComplexFloatStorage");
    /* A storage that the archive holds too little of. */
    struct torch_bytes pickle = {0}, file = {0};
    struct lcl_safetensors st;
    torch_pickle(&pickle, items, 1);
    t = items[0];
    t.storage_count = 3;
    torch_zip(&file, &pickle, &t, 1, 0);
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_FORMAT, "needs 48 bytes");
    file.n = 0;
    torch_zip(&file, &pickle, items, 0, 0);
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_FORMAT, "not there");
    free(pickle.v);
    free(file.v);
}

static void damaged_archives(void **state)
{
    (void)state;
    struct torch_bytes pickle = {0}, file = {0};
    struct lcl_safetensors st;
    torch_pickle(&pickle, items, N);
    for (int zip64 = 0; zip64 < 2; zip64++) {
        file.n = 0;
        torch_zip(&file, &pickle, items, N, zip64);
        for (size_t n = 0; n < file.n; n++) { /* cut short anywhere */
            write_bytes(&file, n);
            lcl_status status = lcl_st_open(path(), &st);
            assert_true(status == LCL_FORMAT || status == LCL_IO);
        }
    }
    file.n = 0;
    torch_zip(&file, &pickle, items, N, 0);
    unsigned char *record = memmem(file.v, file.n, "PK\1\2", 4);
    record[10] = 8;
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_UNSUPPORTED, "compressed");
    record[10] = 0;
    record[45] = 0x7f; /* place of the first entry */
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_FORMAT, "header of an entry");
    record[45] = 0;
    unsigned char *later = memmem(record, file.n - (size_t)(record - file.v), "archive/data/1", 14);
    later[13] = '0';
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_FORMAT, "two entries of one name");
    later[13] = '1';
    memset(later - 4, 0, 4); /* its place: that of the first entry */
    write_bytes(&file, file.n);
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_FORMAT, "two entries overlap");
    static const unsigned char legacy[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, '.'};
    ASSERT_OK(lcl_fs_write_atomic(path(), legacy, sizeof legacy));
    ASSERT_FAILS(lcl_st_open(path(), &st), LCL_UNSUPPORTED, "before 1.6");
    free(pickle.v);
    free(file.v);
}

static void shards_of_an_index(void **state)
{
    (void)state;
    char dir[300], file[400];
    snprintf(dir, sizeof dir, "%s/shards", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(dir));
    snprintf(file, sizeof file, "%s/pytorch_model-00001-of-00002.bin", dir);
    torch_write(file, items, 2);
    snprintf(file, sizeof file, "%s/pytorch_model-00002-of-00002.bin", dir);
    torch_write(file, items + 2, N - 2);
    const char *index =
        "{\"weight_map\": {\"a.weight\": \"pytorch_model-00001-of-00002.bin\", \"a.bias\": "
        "\"pytorch_model-00001-of-00002.bin\", \"half\": \"pytorch_model-00002-of-00002.bin\"}}";
    snprintf(file, sizeof file, "%s/pytorch_model.bin.index.json", dir);
    ASSERT_OK(lcl_fs_write_atomic(file, index, strlen(index)));
    assert_tensors(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read_in_place), cmocka_unit_test(nothing_is_run),
        cmocka_unit_test(tensors_must_fit_their_storage), cmocka_unit_test(damaged_archives),
        cmocka_unit_test(shards_of_an_index)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
