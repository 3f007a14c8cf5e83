/* Neighbor tables out of the official form and into it, on a pack of real files. */
#include "data/neighbors_official.h"

#include <jansson.h>

#include "core/fs.h"

#include "tests/support/support.h"
#include "tests/support/tiny.h"

struct opened {
    struct lcl_pack pack;
    struct lcl_neighbors table;
};

/* Neighbors of class c: c + 1, c + 2, ... around within its split, three at most. */
static void open_pack(struct opened *o)
{
    ASSERT_OK(lcl_pack_open(tiny_pack(), &o->pack));
    int32_t C = o->pack.n_classes;
    o->table = (struct lcl_neighbors){.n_classes = C,
                                      .width = 3,
                                      .index = malloc((size_t)C * 3 * 4),
                                      .similarity = calloc((size_t)C, 12)};
    for (int32_t c = 0; c < C; c++)
        for (int32_t k = 0, d = 1; k < 3; d++) {
            int32_t n = (c + d) % C;
            if (n != c && o->pack.classes[n].split != o->pack.classes[c].split) continue;
            o->table.index[c * 3 + k++] = n == c ? -1 : n;
        }
}

static void close_pack(struct opened *o)
{
    lcl_neighbors_free(&o->table);
    lcl_pack_close(&o->pack);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct opened o;
    struct lcl_neighbors got;
    struct lcl_official_report report;
    open_pack(&o);
    const char *path = tiny_file("table.jsonl", "");
    ASSERT_OK(lcl_neighbors_export(&o.pack, &o.table, 2, 1, path));
    ASSERT_OK(lcl_neighbors_import(&o.pack, path, &got, &report));
    assert_int_equal(report.rows, TINY_TRAIN_CLASSES);
    assert_int_equal(report.neighbors, TINY_TRAIN_CLASSES * 3);
    assert_int_equal(report.missing, TINY_TEST_CLASSES);
    assert_int_equal(report.unknown_rows + report.unknown_neighbors + report.other_split +
                         report.repeated + report.shared_paths + report.val_paths,
                     0);
    for (int32_t c = 0; c < o.pack.n_classes; c++)
        for (int k = 0; k < 3; k++)
            assert_int_equal(got.index[c * 3 + k], o.pack.classes[c].split == LCL_SPLIT_TRAIN
                                                       ? o.table.index[c * 3 + k]
                                                       : -1);
    json_t *row = json_load_file(path, JSON_DISABLE_EOF_CHECK, NULL);
    assert_int_equal(json_array_size(json_object_get(row, "samples")), 2);
    const json_t *first = json_array_get(json_object_get(row, "neighbors"), 0);
    int32_t c0 = lcl_pack_find_class(&o.pack, json_string_value(json_object_get(row, "class_id")));
    assert_in_range(c0, 0, o.pack.n_classes - 1);
    assert_string_equal(json_string_value(json_array_get(first, 0)),
                        o.pack.classes[o.table.index[c0 * 3]].id);
    assert_non_null(strstr(json_string_value(json_array_get(first, 2)),
                           lcl_fs_basename(o.pack.classes[o.table.index[c0 * 3]].id)));
    json_decref(row);
    lcl_neighbors_free(&got);
    close_pack(&o);
}

/* Rows as strangers write them: by folder, by name, of the other split, twice. */
static void test_matching(void **state)
{
    (void)state;
    struct opened o;
    struct lcl_neighbors got;
    struct lcl_official_report r;
    open_pack(&o);
    const struct lcl_class *k = o.pack.classes;
    int32_t test = 0, a = -1, b = -1;
    while (k[test].split != LCL_SPLIT_TEST) test++;
    for (int32_t c = 0; c < o.pack.n_classes; c++)
        if (k[c].split == LCL_SPLIT_TRAIN) *(a < 0 ? &a : b < 0 ? &b : &(int32_t){0}) = c;
    char text[4096];
    snprintf(text, sizeof text,
             "{\"class_id\": \"7\", \"class_name\": \"?\", \"samples\": [\"val/x.png\", "
             "\"train/%s/x.png\"], \"neighbors\": [[\"9\", \"?\", \"q\"], [\"8\", \"?\", \"q\"], "
             "[\"8\", \"?\", \"q\"], [\"7\", \"?\", \"q\"], [\"99\", \"nobody\", \"q\"]]}\n"
             "{\"class_id\": \"8\", \"class_name\": \"%s\", \"samples\": [\"val/x.png\"], "
             "\"neighbors\": []}\n"
             "{\"class_id\": \"9\", \"class_name\": \"%s\", \"samples\": [\"y/z\"]}\n"
             "{\"class_id\": \"10\", \"class_name\": \"nobody\", \"samples\": [\"y\"]}\n",
             lcl_fs_basename(k[a].id), k[b].name, k[test].name);
    const char *path = tiny_file("foreign.jsonl", text);
    ASSERT_OK(lcl_neighbors_import(&o.pack, path, &got, &r));
    assert_int_equal(got.width, 5);
    assert_int_equal(got.index[a * 5], b);
    assert_int_equal(got.index[a * 5 + 1], -1);
    assert_int_equal(r.other_split, 1);
    assert_int_equal(r.repeated, 2);
    assert_int_equal(r.unknown_neighbors, 1);
    assert_int_equal(r.unknown_rows, 1);
    assert_int_equal(r.shared_paths, 1);
    assert_int_equal(r.val_paths, 2);
    assert_int_equal(r.missing, o.pack.n_classes - 3);
    lcl_neighbors_free(&got);
    close_pack(&o);
}

static void refuse(const struct lcl_pack *pack, const char *text, lcl_status code,
                   const char *message)
{
    struct lcl_neighbors got;
    struct lcl_official_report r;
    ASSERT_FAILS(lcl_neighbors_import(pack, tiny_file("bad.jsonl", text), &got, &r), code, message);
    assert_null(got.index);
}

static void test_refusals(void **state)
{
    (void)state;
    struct opened o;
    char text[2048];
    open_pack(&o);
    struct lcl_class *k = o.pack.classes;
#define ROW "{\"class_id\": \"%s\", \"class_name\": \"%s\", \"samples\": [\"q\"]}\n"
    refuse(&o.pack, "{\"class_id\": \"x\", \"class_name\": \"y\", \"samples\": [\"q\"]}",
           LCL_NOT_FOUND, "none of its 1 classes is in");
    snprintf(text, sizeof text, ROW ROW, "1", k[0].name, "1", k[1].name);
    refuse(&o.pack, text, LCL_FORMAT, "bad.jsonl:2: class_id \"1\" is that of a row before");
    snprintf(text, sizeof text, ROW ROW, "1", k[0].name, k[0].id, "z");
    refuse(&o.pack, text, LCL_FORMAT, "which line 1 is already");
    snprintf(k[1].name, sizeof k[1].name, "%s", k[0].name);
    snprintf(text, sizeof text, ROW, "1", k[0].name);
    refuse(&o.pack, text, LCL_FORMAT, "bad.jsonl:1: several classes of ");
    refuse(&o.pack, "{\"class_id\": 3}", LCL_FORMAT, "bad.jsonl:1: \"class_id\"");
    close_pack(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_matching),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
