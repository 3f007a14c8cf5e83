/* Tar archives: every way to write a name and a size, and archives that are damaged or hostile. */
#include "data/tar.h"

#include <sys/stat.h>

#include "core/fs.h"
#include "tests/support/tar_file.h"

static const char *file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/a.tar", temp_dir());
    return path;
}

/* Reads the archive to its end: the names and sizes of its members. */
static lcl_status list(char *said, size_t room)
{
    struct lcl_tar t;
    struct lcl_tar_member m;
    lcl_status status;
    said[0] = 0;
    LCL_TRY(lcl_tar_open(file(), &t));
    while ((status = lcl_tar_next(&t, &m)) == LCL_OK && m.name) {
        size_t n = strlen(said);
        snprintf(said + n, room - n, "%s%s:%lld%s", n ? " " : "", m.name, (long long)m.size_bytes,
                 m.regular ? ""
                 : m.other ? "!"
                           : "/");
        if (!m.regular) continue;
        char *data;
        ASSERT_OK(lcl_tar_read(&t, &m, 1 << 20, &data));
        assert_int_equal(strlen(data), m.size_bytes);
        free(data);
    }
    lcl_tar_close(&t);
    return status;
}

static lcl_status read_it(struct tar_file *t)
{
    static char said[4096];
    tar_write(t, file());
    tar_free(t);
    return list(said, sizeof said);
}

static void test_kinds(void **state)
{
    (void)state;
    struct tar_file t = {0};
    char said[4096], name[301];
    memset(name, 'y', 300);
    name[300] = 0;
    tar_add_text(&t, "./a/b.jpg", "hello");
    tar_add_text(&t, "empty", "");
    size_t at = t.size; /* a prefix of ustar */
    tar_add_text(&t, "c.png", "12345678");
    memcpy(t.bytes + at + 345, "deep/folder", 11);
    tar_seal(&t, at);
    tar_add_as(&t, "././@LongLink", 'L', NULL, name, 301);
    tar_add_text(&t, "yyy", "12");
    tar_add_as(&t, "././@LongLink", 'K', NULL, name, 301);
    tar_add_as(&t, "points", '2', NULL, "", 0);
    tar_add_as(&t, "folder", '5', NULL, "", 0);
    tar_add_pax(&t, "path=p\303\244x/long name.jpg");
    tar_add_pax(&t, "size=3");
    tar_add_as(&t, "short", '0', "00000000000", "123", 3);
    tar_add_as(&t, "base256", '0', "\200\0\0\0\0\0\0\0\0\0\0\4", "1234", 4);
    tar_add_as(&t, "old", 0, "         5 \0", "12345", 5);
    tar_end(&t);
    tar_add_text(&t, "behind the end", "x");
    tar_write(&t, file());
    tar_free(&t);
    ASSERT_OK(list(said, sizeof said));
    char want[1024];
    snprintf(want, sizeof want,
             "a/b.jpg:5 empty:0 deep/folder/c.png:8 %s:2 points:0! folder:0/ p\303\244x/long "
             "name.jpg:3 base256:4 old:5",
             name);
    assert_string_equal(said, want);
}

static void test_within(void **state)
{
    (void)state;
    struct tar_file inner = {0}, t = {0};
    struct lcl_tar outer, in;
    struct lcl_tar_member m;
    char *data;
    tar_add_text(&inner, "x.jpg", "contents");
    tar_end(&inner);
    tar_add_text(&t, "first", "1");
    tar_add(&t, "n1.tar", inner.bytes, inner.size);
    tar_add(&t, "n2.tar", inner.bytes, 700); /* cut within the contents' padding */
    tar_end(&t);
    tar_write(&t, file());
    ASSERT_OK(lcl_tar_open(file(), &outer));
    ASSERT_OK(lcl_tar_next(&outer, &m));
    ASSERT_OK(lcl_tar_next(&outer, &m));
    ASSERT_OK(lcl_tar_open_within(&outer, &m, &in));
    ASSERT_OK(lcl_tar_next(&in, &m));
    assert_string_equal(m.name, "x.jpg");
    ASSERT_OK(lcl_tar_read_at(file(), m.offset, m.size_bytes, &data));
    assert_string_equal(data, "contents");
    free(data);
    ASSERT_FAILS(lcl_tar_read(&in, &m, 7, &data), LCL_RANGE, "x.jpg");
    ASSERT_OK(lcl_tar_next(&in, &m));
    assert_null(m.name);
    lcl_tar_close(&in);
    ASSERT_OK(lcl_tar_next(&outer, &m));
    ASSERT_OK(lcl_tar_open_within(&outer, &m, &in));
    ASSERT_OK(lcl_tar_next(&in, &m));
    ASSERT_FAILS(lcl_tar_next(&in, &m), LCL_FORMAT, "a.tar: n2.tar ends at byte");
    assert_non_null(strstr(lcl_error_message(), "it was cut short"));
    ASSERT_OK(lcl_tar_next(&outer, &m));
    assert_null(m.name);
    lcl_tar_close(&outer);
    tar_free(&inner);
    tar_free(&t);
}

/* Cut at any byte: an error that says so, never members that are not there. */
static void test_cut(void **state)
{
    (void)state;
    struct tar_file t = {0}, cut;
    tar_add_text(&t, "a.jpg", "hello");
    tar_add_pax(&t, "path=b.jpg");
    tar_add_text(&t, "b", "world");
    size_t whole = t.size;
    tar_end(&t);
    for (size_t n = 1; n < t.size; n += 37) {
        cut = (struct tar_file){.bytes = t.bytes, .size = n};
        tar_write(&cut, file());
        char said[256];
        lcl_status status = list(said, sizeof said);
        if (n >= whole + 512) { /* one block of zeros is an end too */
            assert_int_equal(status, LCL_OK);
            continue;
        }
        assert_int_equal(status, LCL_FORMAT);
        if (!strstr(lcl_error_message(), "it was cut short") &&
            !strstr(lcl_error_message(), "but the archive ends at byte"))
            fail_msg("at %zu: %s", n, lcl_error_message());
    }
    tar_free(&t);
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        char type;
        const char *size_field, *says;
    } cases[] = {
        {"../up.jpg", '0', NULL, "member ../up.jpg at byte 0: its name leads out"},
        {"a/../../up.jpg", '0', NULL, "leads out of the archive"},
        {"a/..", '0', NULL, "leads out of the archive"},
        {"/etc/passwd", '0', NULL, "begins at the root"},
        {"a\033[2J.jpg", '0', NULL, "control characters"},
        {"", '0', NULL, "header at byte 0: no name"},
        {"s", 'S', NULL, "a sparse file, which is not read"},
        {"m", 'M', NULL, "several volumes"},
        {"z", 'Z', NULL, "a kind of member that is not known"},
        {"l", '1', NULL, "a link with contents"},
        {"n", '0', "\377\377\377\377\377\377\377\377\377\377\377\377", "a size that is negative"},
        {"n", '0', "-0000000001", "a size that is negative"},
        {"n", '0', "\200\0\0\0\200\0\0\0\0\0\0\0", "over 63 bits"},
        {"n", '0', "\200\0\0\0\177\377\377\377\377\377\377\377",
         "member n at byte 0: 9223372036854775807 bytes from byte 512 on, but the archive ends"},
        {"n", '0', "77777777777", "8589934591 bytes from byte 512 on, but the archive ends at "},
        {"n", '0', "12x45678901", "no number"},
        {"L", 'L', "00004000000", "at most 1024"},
        {"x", 'x', NULL, "its pax records are damaged"},
        {"g", 'g', NULL, "its pax records are damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tar_file t = {0};
        tar_add_as(&t, cases[i].name, cases[i].type, cases[i].size_field, "hello", 5);
        if (cases[i].type == 'L')
            for (int k = 0; k < 2100; k++) tar_add_text(&t, "fill", "x");
        tar_end(&t);
        lcl_status status = read_it(&t);
        if (status == LCL_OK || !strstr(lcl_error_message(), cases[i].says))
            fail_msg("case %zu: %s", i, status == LCL_OK ? "no error" : lcl_error_message());
        assert_non_null(strstr(lcl_error_message(), "a.tar"));
    }
}

static void test_hostile_pax(void **state)
{
    (void)state;
    static const struct {
        const char *record, *says;
    } cases[] = {{"size=99999999999999999999", "a size that is no number"},
                 {"size=-1", "a size that is no number"},
                 {"size=", "a size that is empty"},
                 {"size=100000", "100000 bytes from byte"},
                 {"path=", "a name that is empty"},
                 {"path=../x", "leads out of the archive"},
                 {"GNU.sparse.major=1", "a sparse file"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tar_file t = {0};
        tar_add_pax(&t, cases[i].record);
        tar_add_text(&t, "a.jpg", "hello");
        tar_end(&t);
        ASSERT_FAILS(read_it(&t), LCL_FORMAT, cases[i].says);
    }
    struct tar_file t = {0};
    tar_add_pax(&t, "path=x.jpg");
    tar_end(&t);
    ASSERT_FAILS(read_it(&t), LCL_FORMAT, "member x.jpg at byte 1024: the archive ends where");
    tar_add_pax(&t, "path=x.jpg");
    memcpy(t.bytes + 512, "9999", 4);
    tar_end(&t);
    ASSERT_FAILS(read_it(&t), LCL_FORMAT, "its pax records are damaged");
}

static void test_not_tar(void **state)
{
    (void)state;
    struct tar_file t = {0};
    char said[64];
    tar_add_text(&t, "a.jpg", "hello");
    tar_end(&t);
    t.bytes[3] ^= 1;
    ASSERT_FAILS(read_it(&t), LCL_FORMAT, "header at byte 0: its checksum does not hold");
    tar_add_text(&t, "a.jpg", "hello");
    memcpy(t.bytes, "\x1f\x8b\x08", 3);
    ASSERT_FAILS(read_it(&t), LCL_FORMAT, "is compressed by gzip");
    assert_string_equal(lcl_error_hint(), "gunzip it first");
    tar_add_text(&t, "a.jpg", "");
    t.size = 0;
    ASSERT_FAILS(read_it(&t), LCL_FORMAT, "ends at byte 0 without the blocks of zeros");
    remove(file());
    ASSERT_FAILS(list(said, sizeof said), LCL_NOT_FOUND, "a.tar");
    assert_int_equal(mkfifo(file(), 0666), 0);
    ASSERT_FAILS(list(said, sizeof said), LCL_IO, "is no regular file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),       cmocka_unit_test(test_within),
        cmocka_unit_test(test_cut),         cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_pax), cmocka_unit_test(test_not_tar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
