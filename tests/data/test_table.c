/* Train tables as packs: numbering, neighbors, flaws, pictures by path, refusals. */
#include "data/table.h"

#include <sys/stat.h>
#include <utime.h>

#include "core/fs.h"
#include "tests/support/table.h"
#include "tests/support/tiny.h"

static const char *in_temp(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 512, "%s/%s", temp_dir(), name);
    return path;
}

static const char *file_of(const char *text)
{
    const char *path = in_temp("rows.jsonl");
    ASSERT_OK(lcl_fs_write_atomic(path, text, strlen(text)));
    return path;
}

struct world {
    struct lcl_pack pack;
    struct lcl_neighbors neighbors;
    struct lcl_table_flaws flaws;
};

static lcl_status open_as(struct world *w, const char *path, const char *images, bool shown)
{
    return lcl_pack_open_table(&(struct lcl_table_options){path, images, shown}, &w->pack,
                               &w->neighbors, &w->flaws);
}

static void close_world(struct world *w)
{
    lcl_pack_close(&w->pack);
    lcl_neighbors_free(&w->neighbors);
}

#define ROW(id, name, samples, neighbors)                                             \
    "{\"class_id\": \"" id "\", \"class_name\": \"" name "\", \"samples\": [" samples \
    "], \"neighbors\": [" neighbors "]}\n"

static const char small[] = ROW("7", "Crane", "\"a/1.png\", \"val/2.png\", \"a/1.png\"",
                                "[\"9\", \"fox\", \"c/1.png\"], [\"8\", \"crane\", \"b/9.png\"]")
    ROW("8", "crane", "\"b/1.png\", \"a/1.png\"",
        "[\"5\", \"gone\", \"x\"], [\"7\", \"Crane\", "
        "\"a/1.png\"]") ROW("9", "kit fox", "\"c/1.png\"", "");

static const char *name_of(const struct world *w, int64_t i)
{
    const char *name;
    ASSERT_OK(lcl_pack_image_name(&w->pack, i, &name));
    return name;
}

static void test_numbering(void **state)
{
    (void)state;
    struct world w;
    ASSERT_OK(open_as(&w, file_of(small), "none", true));
    assert_int_equal(w.pack.n_classes, 3);
    assert_int_equal(w.pack.n_images, 6); /* five samples, and b/9.png */
    const int32_t counts[] = {2, 2, 1}, firsts[] = {0, 2, 4};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(w.pack.classes[c].n_images, counts[c]);
        assert_int_equal(w.pack.classes[c].images[0], firsts[c]);
        assert_int_equal(w.pack.classes[c].split, LCL_SPLIT_TRAIN);
    }
    assert_string_equal(w.pack.classes[2].id, "9");
    assert_string_equal(w.pack.classes[2].name, "kit fox");
    assert_string_equal(name_of(&w, 3), "a/1.png");
    assert_string_equal(name_of(&w, 5), "b/9.png");
    assert_int_equal(w.pack.image_class[5], 1);
    const int32_t index[] = {2, 1, 0, -1, -1, -1}, image[] = {4, 5, 0, -1, -1, -1};
    assert_int_equal(w.neighbors.width, 2);
    assert_memory_equal(w.neighbors.index, index, sizeof index);
    assert_memory_equal(w.neighbors.image, image, sizeof image);
    close_world(&w);
    ASSERT_OK(open_as(&w, file_of(small), "none", false));
    assert_int_equal(w.pack.n_images, 5);
    assert_null(w.neighbors.image);
    struct lcl_image image_of;
    ASSERT_FAILS(lcl_pack_read_image(&w.pack, 0, &(struct lcl_decode_options){0}, &image_of),
                 LCL_CONFIG, "a/1.png cannot be read: data.images is none");
    close_world(&w);
}

static void test_flaws(void **state)
{
    (void)state;
    struct world w;
    ASSERT_OK(open_as(&w, file_of(small), "none", false));
    char *text = lcl_table_flaws_text(&w.flaws);
    assert_string_equal(text, "1 pictures are of ImageNet's validation set; 1 pictures stand twice "
                              "in a row and count once; 1 pictures stand in the rows of two "
                              "classes; 1 neighbors have no row and are left out; 1 neighbors have "
                              "another name than in their own row; 1 names are those of several "
                              "classes: crane");
    assert_int_equal(w.flaws.n_outside, 1);
    free(text);
    close_world(&w);
}

static void test_flaws_of_the_official_table(void **state)
{
    (void)state;
    struct world w;
    ASSERT_OK(open_as(&w, shared_path("data/lcl/train900_pairs.jsonl"), "none", true));
    assert_int_equal(w.flaws.n_samples, 32400);
    assert_int_equal(w.flaws.n_validation, 1155);
    assert_int_equal(w.flaws.n_names, 2);
    assert_string_equal(w.flaws.names, "crane, maillot");
    assert_int_equal(w.flaws.n_repeated + w.flaws.n_shared + w.flaws.n_unknown, 0);
    assert_int_equal(w.flaws.n_outside, 900 * 36 - 827);
    assert_int_equal(w.neighbors.width, 36);
    for (int i = 0; i < 900 * 36; i++)
        assert_int_equal(w.pack.image_class[w.neighbors.image[i]], w.neighbors.index[i]);
    close_world(&w);
}

static void test_pictures(void **state)
{
    (void)state;
    struct world w;
    const char *path = in_temp("pictures.jsonl"), *images = in_temp("images");
    write_table(path, (struct table_size){3, 4, 2});
    for (int c = 0; c < 3; c++) {
        char file[600];
        snprintf(file, sizeof file, "%s/c%d", images, c);
        ASSERT_OK(lcl_fs_mkdirs(file));
        for (int i = 0; i < 4; i++) {
            snprintf(file, sizeof file, "%s/c%d/%d.png", images, c, i);
            tiny_write_picture(file, c, i);
        }
    }
    ASSERT_OK(open_as(&w, path, images, false));
    uint64_t hash = w.pack.content_hash;
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, 8);
    const int64_t wanted[] = {11, 0, 5};
    float got[3][3 * 64], one[3 * 64];
    ASSERT_OK(lcl_pack_read_pixels(&w.pack, wanted, 3, &p, got[0]));
    for (int i = 0; i < 3; i++) {
        char file[600];
        struct lcl_image image;
        struct lcl_decode_options o = {.composite_alpha = true, .apply_exif = true};
        memcpy(o.background, p.background, 3);
        snprintf(file, sizeof file, "%s/%s", images, name_of(&w, wanted[i]));
        ASSERT_OK(lcl_image_load(file, &o, &image));
        ASSERT_OK(lcl_preprocess_image(&image, &p, one));
        assert_memory_equal(got[i], one, sizeof one);
        lcl_image_free(&image);
    }
    close_world(&w);
    /* Another file in a picture's place is another content. */
    char file[600];
    snprintf(file, sizeof file, "%s/c1/2.png", images);
    assert_int_equal(utime(file, &(struct utimbuf){1000, 1000}), 0);
    ASSERT_OK(open_as(&w, path, images, false));
    assert_true(w.pack.content_hash != hash);
    hash = w.pack.content_hash;
    close_world(&w);
    ASSERT_OK(open_as(&w, path, images, false));
    assert_true(w.pack.content_hash == hash);
    close_world(&w);
    assert_int_equal(remove(file), 0);
    ASSERT_FAILS(open_as(&w, path, images, false), LCL_NOT_FOUND, "pictures.jsonl:2: there is no");
    ASSERT_FAILS(open_as(&w, path, images, false), LCL_NOT_FOUND,
                 "c1/2.png; of 12 pictures 1 are missing");
    ASSERT_FAILS(open_as(&w, path, in_temp("nowhere"), false), LCL_NOT_FOUND, "no folder");
}

static void refused(const char *text, lcl_status code, const char *what)
{
    struct world w;
    ASSERT_FAILS(open_as(&w, file_of(text), "none", true), code, what);
    close_world(&w);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("", LCL_FORMAT, "has no rows");
    refused(ROW("1", "a", "\"x\"", "") ROW("2", "b", "\"../x\"", ""), LCL_FORMAT,
            "rows.jsonl:2: \"samples\" has the path \"../x\", which leads elsewhere");
    refused(ROW("1", "a", "\"/etc/passwd\"", ""), LCL_FORMAT, "leads elsewhere");
    refused(ROW("1", "a", "\"x\"", "[\"2\", \"b\", \"a/..\"]"), LCL_FORMAT,
            ":1: \"neighbors\" has the path \"a/..\"");
    refused(ROW("1", "a", "\"x\"", "") "\n" ROW("1", "b", "\"y\"", ""), LCL_FORMAT,
            "rows.jsonl:3: \"class_id\" 1 is that of line 1");
    refused(ROW("1", "a", "\"x\"", "[\"1\", \"a\", \"x\"]"), LCL_FORMAT, "names class 1 itself");
    refused(ROW("1", "a", "\"x\"", "[\"2\", \"b\", \"y\"], [\"2\", \"b\", \"y\"]")
                ROW("2", "b", "\"y\"", ""),
            LCL_FORMAT, ":1: \"neighbors\" names class 2 twice");
    refused("{\"class_id\": \"1\", \"class_name\": \"a\", \"test_samples\": [\"x\"]}", LCL_FORMAT,
            ":1: \"samples\" is missing or empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbering),
        cmocka_unit_test(test_flaws),
        cmocka_unit_test(test_flaws_of_the_official_table),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
