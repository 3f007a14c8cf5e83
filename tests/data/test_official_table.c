#include "data/official_table.h"

#include "core/fs.h"
#include "tests/support/support.h"

static const char *write_table(const char *text)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/table.jsonl", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
    return path;
}

#define FOX                                                                                        \
    "{\"class_id\": \"1\", \"class_name\": \"kit fox\", \"samples\": [\"a/1.png\", \"a/2.png\"], " \
    "\"neighbors\": [[\"48\", \"weasel\", \"b/1.png\"], [\"2\", \"crane\", \"c d/1.png\"]]}"

static void test_rows(void **state)
{
    (void)state;
    struct lcl_official_table t;
    const struct lcl_official_row *row;
    ASSERT_OK(lcl_official_open(
        write_table(FOX "\r\n\n{\"class_id\": \"2\", \"class_name\": \"crane\", "
                        "\"context_samples\": [\"x\"], \"test_samples\": [\"y\", \"z\"]}"),
        &t));
    ASSERT_OK(lcl_official_next(&t, &row));
    assert_string_equal(row->id, "1");
    assert_string_equal(row->name, "kit fox");
    assert_int_equal(row->line, 1);
    assert_int_equal(row->samples.n, 2);
    assert_string_equal(row->samples.v[1], "a/2.png");
    assert_int_equal(row->n_neighbors, 2);
    assert_string_equal(row->neighbors[1].id, "2");
    assert_string_equal(row->neighbors[1].name, "crane");
    assert_string_equal(row->neighbors[1].sample, "c d/1.png");
    ASSERT_OK(lcl_official_next(&t, &row));
    assert_int_equal(row->line, 3);
    assert_int_equal(row->samples.n, 0);
    assert_int_equal(row->n_neighbors, 0);
    assert_int_equal(row->context_samples.n, 1);
    assert_string_equal(row->test_samples.v[1], "z");
    ASSERT_OK(lcl_official_next(&t, &row));
    assert_null(row);
    lcl_official_close(&t);
}

static void refuse(const char *text, lcl_status code, const char *message)
{
    struct lcl_official_table t;
    const struct lcl_official_row *row;
    ASSERT_OK(lcl_official_open(write_table(text), &t));
    ASSERT_OK(lcl_official_next(&t, &row)); /* the first is good */
    ASSERT_FAILS(lcl_official_next(&t, &row), code, message);
    assert_null(row);
    lcl_official_close(&t);
}

static void test_refusals(void **state)
{
    (void)state;
    struct lcl_official_table t;
#define ROW(rest) FOX "\n{\"class_id\": \"2\", \"class_name\": \"b\", " rest "}\n"
    refuse(FOX "\n{\"class_id\": \"2\"", LCL_FORMAT, "table.jsonl:2: ");
    refuse(FOX "\n[1]", LCL_FORMAT, "table.jsonl:2: no JSON object");
    refuse(FOX "\n{\"class_id\": 2}", LCL_FORMAT, "table.jsonl:2: \"class_id\" is missing");
    refuse(FOX "\n{\"class_id\": \"2\", \"class_name\": \"\"}", LCL_FORMAT, "\"class_name\"");
    refuse(ROW("\"samples\": []"), LCL_FORMAT, "\"samples\" is missing or empty");
    refuse(ROW("\"samples\": \"x\""), LCL_FORMAT, "\"samples\" is no list of paths");
    refuse(ROW("\"samples\": [\"x\", 3]"), LCL_FORMAT, "\"samples\" is missing, empty");
    refuse(ROW("\"samples\": [\"x\\ny\"]"), LCL_FORMAT, "control character");
    refuse(ROW("\"samples\": [\"x\"], \"neighbors\": [[\"1\", \"2\"]]"), LCL_FORMAT,
           "\"neighbors\" holds what is no list of three");
    refuse(ROW("\"samples\": [\"x\"], \"neighbors\": {}"), LCL_FORMAT, "\"neighbors\" is no list");
    ASSERT_FAILS(lcl_official_open("no/table.jsonl", &t), LCL_NOT_FOUND, "no/table.jsonl");
    ASSERT_FAILS(lcl_official_open(temp_dir(), &t), LCL_IO, "is no file");
}

/* The table that the paper's authors published: 900 classes, 36 pictures and neighbors each. */
static void test_published(void **state)
{
    (void)state;
    const char *path = shared_path("data/lcl/train900_pairs.jsonl");
    struct lcl_official_table t;
    const struct lcl_official_row *row;
    int n = 0;
    ASSERT_OK(lcl_official_open(path, &t));
    for (;; n++) {
        ASSERT_OK(lcl_official_next(&t, &row));
        if (!row) break;
        assert_int_equal(row->samples.n, 36);
        assert_int_equal(row->n_neighbors, 36);
    }
    assert_int_equal(n, 900);
    lcl_official_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_published)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
