#include "core/h5.h"

#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "core/fs.h"
#include "tests/support/support.h"

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", temp_dir(), name);
    return path;
}

static void test_whole_datasets(void **state)
{
    (void)state;
    const float f32[6] = {1, -2, 3.5f, 0, 5, 6};
    const int64_t i64[2] = {-1, INT64_MAX};
    const uint64_t shape[2] = {2, 3}, two = 2, none = 0;
    float got[6];
    void *all;
    uint64_t n;
    char **names;
    size_t count;
    struct lcl_h5 f;
    ASSERT_OK(lcl_h5_create(path_of("whole.h5"), &f));
    ASSERT_OK(lcl_h5_write(&f, "/a/b/f32", LCL_H5_F32, 2, shape, f32));
    ASSERT_OK(lcl_h5_write(&f, "/i64", LCL_H5_I64, 1, &two, i64));
    ASSERT_OK(lcl_h5_write(&f, "/none", LCL_H5_U8, 1, &none, ""));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_OK(lcl_h5_close(&f)); /* closed already */
    ASSERT_OK(lcl_h5_open(path_of("whole.h5"), false, &f));
    ASSERT_OK(lcl_h5_read(&f, "/a/b/f32", LCL_H5_F32, 6, got));
    assert_memory_equal(got, f32, sizeof f32);
    ASSERT_OK(lcl_h5_read_alloc(&f, "/i64", LCL_H5_I64, 100, &all, &n));
    assert_int_equal(n, 2);
    assert_memory_equal(all, i64, sizeof i64);
    free(all);
    ASSERT_OK(lcl_h5_read_alloc(&f, "/none", LCL_H5_U8, 100, &all, &n));
    assert_int_equal(n, 0);
    free(all);
    ASSERT_FAILS(lcl_h5_read(&f, "/a/b/f32", LCL_H5_F32, 5, got), LCL_SHAPE,
                 "/a/b/f32 has 6 elements, wanted 5");
    ASSERT_FAILS(lcl_h5_read(&f, "/a/b/f32", LCL_H5_I32, 6, got), LCL_FORMAT,
                 "/a/b/f32 is f32, wanted i32");
    ASSERT_FAILS(lcl_h5_read(&f, "/a/b/c", LCL_H5_F32, 6, got), LCL_FORMAT, "no dataset /a/b/c");
    ASSERT_FAILS(lcl_h5_read_alloc(&f, "/i64", LCL_H5_I64, 15, &all, &n), LCL_RANGE,
                 "/i64 of 16 bytes, at most 15");
    assert_true(lcl_h5_exists(&f, "/a/b"));
    assert_false(lcl_h5_exists(&f, "/a/x/y"));
    ASSERT_OK(lcl_h5_list_datasets(&f, &names, &count));
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "/a/b/f32");
    lcl_fs_list_free(names, count);
    ASSERT_OK(lcl_h5_list(&f, "/", &names, &count));
    assert_int_equal(count, 3);
    assert_string_equal(names[1], "i64");
    lcl_fs_list_free(names, count);
    ASSERT_OK(lcl_h5_verify_all(&f));
    ASSERT_OK(lcl_h5_close(&f));
}

static void test_attributes(void **state)
{
    (void)state;
    struct lcl_h5 f;
    uint64_t u;
    double d;
    char text[32];
    ASSERT_OK(lcl_h5_create(path_of("attributes.h5"), &f));
    ASSERT_OK(lcl_h5_make_group(&f, "/x/y"));
    ASSERT_OK(lcl_h5_make_group(&f, "/x/y"));
    ASSERT_OK(lcl_h5_set_u64(&f, "/x/y", "u", 5));
    ASSERT_OK(lcl_h5_set_u64(&f, "/x/y", "u", UINT64_MAX));
    ASSERT_OK(lcl_h5_set_f64(&f, "/x", "d", -0.125));
    ASSERT_OK(lcl_h5_set_str(&f, "/", "text", "Grüße"));
    ASSERT_OK(lcl_h5_set_str(&f, "/", "empty", ""));
    ASSERT_OK(lcl_h5_flush(&f));
    ASSERT_OK(lcl_h5_get_u64(&f, "/x/y", "u", &u));
    assert_true(u == UINT64_MAX);
    ASSERT_OK(lcl_h5_get_f64(&f, "/x", "d", &d));
    assert_true(d == -0.125);
    ASSERT_OK(lcl_h5_get_str(&f, "/", "text", text, sizeof text));
    assert_string_equal(text, "Grüße");
    ASSERT_OK(lcl_h5_get_str(&f, "/", "empty", text, sizeof text));
    assert_string_equal(text, "");
    assert_true(lcl_h5_has_attr(&f, "/x", "d"));
    assert_false(lcl_h5_has_attr(&f, "/x", "e"));
    ASSERT_FAILS(lcl_h5_get_u64(&f, "/x", "e", &u), LCL_FORMAT, "/x has no attribute e");
    ASSERT_FAILS(lcl_h5_get_u64(&f, "/", "text", &u), LCL_FORMAT, "another type");
    ASSERT_FAILS(lcl_h5_get_str(&f, "/", "text", text, 4), LCL_FORMAT, "of 8 bytes, at most 4");
    ASSERT_OK(lcl_h5_close(&f));
}

static void test_rows(void **state)
{
    (void)state;
    struct lcl_h5 f;
    struct lcl_h5_set set;
    const uint64_t dims[2] = {0, 3};
    int32_t rows[10][3], got[10][3];
    for (int i = 0; i < 30; i++) rows[i / 3][i % 3] = i;
    ASSERT_OK(lcl_h5_create(path_of("rows.h5"), &f));
    ASSERT_OK(lcl_h5_set_create(&f, "/rows", LCL_H5_I32, 2, dims, 4, &set));
    ASSERT_OK(lcl_h5_set_write(&set, 0, 4, rows[0])); /* grows in pieces */
    ASSERT_OK(lcl_h5_set_write(&set, 4, 6, rows[4]));
    ASSERT_OK(lcl_h5_set_store_crc(&set, lcl_crc32c(0, rows, sizeof rows)));
    lcl_h5_set_close(&set);
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_OK(lcl_h5_open(path_of("rows.h5"), true, &f));
    ASSERT_OK(lcl_h5_set_open(&f, "/rows", &set));
    assert_int_equal(set.dims[0], 10);
    ASSERT_OK(lcl_h5_set_read(&set, 3, 5, got[0]));
    assert_memory_equal(got, rows[3], 5 * sizeof rows[0]);
    ASSERT_FAILS(lcl_h5_set_read(&set, 8, 3, got), LCL_RANGE, "rows 8+3 of dataset /rows");
    ASSERT_OK(lcl_h5_set_verify(&set));
    ASSERT_OK(lcl_h5_set_write(&set, 2, 1, rows[9]));
    ASSERT_FAILS(lcl_h5_set_verify(&set), LCL_CORRUPT, "dataset /rows: checksum");
    lcl_h5_set_close(&set);
    const uint64_t fixed = 2;
    ASSERT_OK(lcl_h5_set_create(&f, "/fixed", LCL_H5_U8, 1, &fixed, 0, &set));
    ASSERT_FAILS(lcl_h5_set_write(&set, 1, 2, rows), LCL_RANGE, "rows 1+2 of dataset /fixed");
    lcl_h5_set_close(&set);
    ASSERT_OK(lcl_h5_close(&f));
}

static void test_failures(void **state)
{
    (void)state;
    struct lcl_h5 f;
    struct rlimit limit;
    const uint64_t n = 1 << 20;
    ASSERT_FAILS(lcl_h5_open("no/such.h5", false, &f), LCL_NOT_FOUND, "no/such.h5");
    ASSERT_FAILS(lcl_h5_open("tests", false, &f), LCL_FORMAT, "tests is not a file");
    ASSERT_FAILS(lcl_h5_create("Makefile/x.h5", &f), LCL_IO, "Makefile/x.h5: Not a directory");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char *data = calloc(1, n);
    ASSERT_OK(lcl_h5_create(path_of("full.h5"), &f));
    lcl_status status = lcl_h5_write(&f, "/large", LCL_H5_U8, 1, &n, data);
    if (status == LCL_OK) status = lcl_h5_close(&f);
    limit.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(status, LCL_IO);
    assert_non_null(strstr(lcl_error_message(), "File too large"));
    lcl_h5_discard(&f);
    free(data);
}

/* A file whose datasets and links lead out of it, or ask for more than there is; beside it the file
 * that they lead to. */
static void make_hostile(const char *path, const char *other)
{
    const int32_t secret[4] = {1, 2, 3, 4};
    const uint64_t four = 4;
    const hsize_t n = 4, wide = (hsize_t)1 << 28, unlimited = H5S_UNLIMITED;
    struct lcl_h5 f;
    ASSERT_OK(lcl_h5_create(other, &f));
    ASSERT_OK(lcl_h5_write(&f, "/secret", LCL_H5_I32, 1, &four, secret));
    ASSERT_OK(lcl_h5_set_u64(&f, "/", "number", 7));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_OK(lcl_h5_create(path, &f));
    ASSERT_OK(lcl_h5_write(&f, "/own", LCL_H5_I32, 1, &four, secret));
    assert_true(H5Lcreate_external(other, "/", f.id, "/elsewhere", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/elsewhere/secret", f.id, "/soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    hid_t space = H5Screate_simple(1, &n, NULL), grows = H5Screate_simple(1, &n, &unlimited);
    hid_t outside = H5Pcreate(H5P_DATASET_CREATE), mapped = H5Pcreate(H5P_DATASET_CREATE);
    hid_t packed = H5Pcreate(H5P_DATASET_CREATE), chunked = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_external(outside, other, 0, 16) >= 0);
    assert_true(H5Pset_virtual(mapped, space, other, "/secret", space) >= 0);
    assert_true(H5Pset_chunk(packed, 1, &n) >= 0 && H5Pset_shuffle(packed) >= 0);
    assert_true(H5Pset_chunk(chunked, 1, &wide) >= 0);
    H5Pset_fill_time(chunked, H5D_FILL_TIME_NEVER);
    const struct {
        const char *name;
        hid_t space, how;
    } sets[] = {{"/outside", space, outside},
                {"/mapped", space, mapped},
                {"/packed", space, packed},
                {"/chunked", grows, chunked}};
    for (int i = 0; i < 4; i++) {
        hid_t id = H5Dcreate2(f.id, sets[i].name, H5T_STD_I32LE, sets[i].space, H5P_DEFAULT,
                              sets[i].how, H5P_DEFAULT);
        assert_true(id >= 0);
        H5Dclose(id);
        H5Pclose(sets[i].how);
    }
    H5Sclose(space);
    H5Sclose(grows);
    ASSERT_OK(lcl_h5_close(&f));
}

static void test_nothing_leads_out_of_the_file(void **state)
{
    (void)state;
    struct lcl_h5 f;
    char path[512], other[512], **names;
    int32_t got[4];
    uint64_t number;
    size_t n;
    snprintf(path, sizeof path, "%s", path_of("hostile.h5"));
    snprintf(other, sizeof other, "%s", path_of("other.h5"));
    make_hostile(path, other);
    ASSERT_OK(lcl_h5_open(path, false, &f));
    ASSERT_OK(lcl_h5_read(&f, "/own", LCL_H5_I32, 4, got));
    static const char *const links[] = {"/elsewhere/secret", "/soft"};
    for (int i = 0; i < 2; i++) {
        assert_false(lcl_h5_exists(&f, links[i]));
        ASSERT_FAILS(lcl_h5_read(&f, links[i], LCL_H5_I32, 4, got), LCL_FORMAT, "no dataset");
    }
    ASSERT_FAILS(lcl_h5_get_u64(&f, "/elsewhere", "number", &number), LCL_FORMAT, "no object");
    ASSERT_FAILS(lcl_h5_list(&f, "/elsewhere", &names, &n), LCL_FORMAT, "no group");
    static const char *const sets[] = {"/outside", "/mapped", "/packed", "/chunked"};
    for (int i = 0; i < 4; i++)
        ASSERT_FAILS(lcl_h5_read(&f, sets[i], LCL_H5_I32, 4, got), LCL_FORMAT, "layout outside");
    ASSERT_FAILS(lcl_h5_verify_all(&f), LCL_FORMAT, "");
    ASSERT_OK(lcl_h5_close(&f));
}

/* A group so large that its links lie in a heap, and each byte of that heap wrong in turn. */
static void test_damaged_groups(void **state)
{
    (void)state;
    enum { LINKS = 24 };
    struct lcl_h5 f;
    char *bytes, **names, name[40];
    size_t size, n, refused = 0;
    const uint64_t one = 1;
    ASSERT_OK(lcl_h5_create(path_of("group.h5"), &f));
    for (int i = 0; i < LINKS; i++) {
        snprintf(name, sizeof name, "/params/a.name.that.is.long.%d", i);
        ASSERT_OK(lcl_h5_write(&f, name, LCL_H5_U8, 1, &one, "x"));
    }
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_OK(lcl_fs_read(path_of("group.h5"), 1 << 20, &bytes, &size));
    char *heap = memmem(bytes, size, "FHDB", 4);
    assert_non_null(heap);
    for (char *at = heap; at < heap + 300 && at < bytes + size; at++) {
        *at ^= 0x11;
        ASSERT_OK(lcl_fs_write_atomic(path_of("group.h5"), bytes, size));
        *at ^= 0x11;
        if (lcl_h5_open(path_of("group.h5"), false, &f) != LCL_OK) continue;
        if (lcl_h5_list(&f, "/params", &names, &n) == LCL_OK)
            lcl_fs_list_free(names, n);
        else
            refused++;
        lcl_h5_discard(&f);
    }
    assert_true(refused > 100);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_datasets),
                                       cmocka_unit_test(test_attributes),
                                       cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_failures),
                                       cmocka_unit_test(test_nothing_leads_out_of_the_file),
                                       cmocka_unit_test(test_damaged_groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
