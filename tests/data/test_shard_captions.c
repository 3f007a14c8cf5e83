/* WebDataset shards of pictures with captions as packs of rows. */
#include "data/shard_captions.h"

#include "core/fs.h"
#include "data/pack_rows.h"
#include "tests/support/command.h"
#include "tests/support/tar_file.h"
#include "tests/support/tiny.h"

/* A path that outlives those of at(). */
static const char *scratch(void)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/scratch.png", temp_dir());
    return path;
}

static void add_picture(struct tar_file *t, const char *name, int kind)
{
    char *bytes;
    size_t size;
    tiny_write_picture(scratch(), kind, kind);
    ASSERT_OK(lcl_fs_read(scratch(), 1 << 20, &bytes, &size));
    tar_add(t, name, bytes, size);
    free(bytes);
}

static void finish(struct tar_file *t, const char *path)
{
    tar_end(t);
    tar_write(t, path);
    tar_free(t);
}

/* As img2dataset writes them: picture, .json, .txt; of the failed ones the .json alone. */
static void write_shards(void)
{
    struct tar_file t = {0};
    ASSERT_OK(lcl_fs_mkdirs(at("shards")));
    add_picture(&t, "000000.jpg", 0);
    tar_add_text(&t, "000000.json", "{\"caption\": \"of the json\", \"status\": \"success\"}");
    tar_add_text(&t, "000000.txt", " a square\n");
    tar_add_text(&t, "000001.json", "{\"caption\": \"gone\", \"status\": \"failed_to_download\"}");
    tar_add_text(&t, "000002.txt", "a h\303\244ring\nin two lines");
    add_picture(&t, "000002.png", 1);
    tar_add_text(&t, "__meta__.json", "{}");
    finish(&t, at("shards/00000.tar"));
    add_picture(&t, "deep/000000.jpg", 2);
    tar_add_text(&t, "deep/000000.json",
                 "{\"captions\": [\"one of it\", \"another\"], \"other\": \"by its key\"}");
    add_picture(&t, "deep/000001.jpg", 0); /* the bytes of the first */
    tar_add_text(&t, "deep/000001.json", "{\"TEXT\": \"a square again\", \"other\": \"square\"}");
    finish(&t, at("shards/00001.tar"));
}

/* Whether row i asks, with a picture first, and answers this. */
static void assert_row(const struct lcl_pack *p, int64_t i, const char *caption, const char *name)
{
    struct lcl_conversation c;
    json_t *owner;
    const char *got;
    ASSERT_OK(lcl_pack_conversation(p, i, 0, &c, &owner));
    assert_int_equal(c.n_messages, 2);
    assert_int_equal(c.n_images, 1);
    assert_string_equal(c.messages[1].text, caption);
    ASSERT_OK(lcl_pack_image_name(p, c.image[0], &got));
    assert_string_equal(got, name);
    lcl_pack_conversation_free(&c, owner);
}

static lcl_status pack(const char *images, const char *key, bool skip_bad)
{
    const struct lcl_pack_options o = {.format = "webdataset-captions",
                                       .images = images,
                                       .out = at("out.h5"),
                                       .caption_key = key,
                                       .skip_bad = skip_bad,
                                       .min_images = 8,
                                       .force = true};
    return lcl_pack_create(&o);
}

static void samples_become_rows(void **state)
{
    (void)state;
    struct lcl_pack p;
    const char *const words[] = {at("shards"), at("shards/{00000..00001}.tar")};
    write_shards();
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(pack(words[i], NULL, false));
        ASSERT_OK(lcl_pack_open(at("out.h5"), &p));
        ASSERT_OK(lcl_pack_verify(&p));
        assert_int_equal(p.n_rows, 5);
        assert_int_equal(p.n_images, 3); /* one of the same bytes is kept once */
        assert_row(&p, 0, "a square", "00000.tar/000000.jpg");
        assert_row(&p, 1, "a h\303\244ring\nin two lines", "00000.tar/000002.png");
        assert_row(&p, 2, "one of it", "00001.tar/deep/000000.jpg");
        assert_row(&p, 3, "another", "00001.tar/deep/000000.jpg");
        assert_row(&p, 4, "a square again", "00000.tar/000000.jpg");
        lcl_pack_close(&p);
    }
    ASSERT_OK(pack(at("shards/00001.tar"), "other", false));
    ASSERT_OK(lcl_pack_open(at("out.h5"), &p));
    assert_int_equal(p.n_rows, 2);
    assert_row(&p, 0, "by its key", "00001.tar/deep/000000.jpg");
    lcl_pack_close(&p);
}

/* Shown, mixed, trained on. */
static void rows_are_used(void **state)
{
    (void)state;
    SUCCEEDS("pack --format webdataset-captions --images %s --out %s", at("shards"),
             at("captions.h5"));
    says("packed 5 rows, 0 left out");
    says("left out: 2 files"); /* __meta__.json, and the sample of 000001.json alone */
    PRINTS("inspect %s --rows 5", at("captions.h5"));
    says("row 2, line 1 of its table; pictures: 00001.tar/deep/000000.jpg\n");
    says("ASSISTANT:[[ a square again</s>]]");
    const char *config = tiny_file("mix.yaml", tiny_yaml());
    char mix[1200];
    snprintf(mix, sizeof mix, "%s --set data.strategy=mix --set data.sources=%s --set eval_steps=0",
             config, at("captions.h5"));
    PRINTS("inspect %s --rows 4", mix);
    says("sample 0: an episode, 2-way\n");
    SUCCEEDS("train %s --set max_steps=2 --set output_dir=%s", mix, at("run"));
}

/* A shard of one good sample and then these two members. */
static const char *shard_with(const char *name, const char *text, const char *name2,
                              const char *text2)
{
    struct tar_file t = {0};
    add_picture(&t, "a.jpg", 3);
    tar_add_text(&t, "a.txt", "good");
    if (strstr(name, ".jpg"))
        add_picture(&t, name, 4);
    else
        tar_add_text(&t, name, text);
    if (strstr(name2, ".png"))
        add_picture(&t, name2, 5);
    else
        tar_add_text(&t, name2, text2);
    finish(&t, at("bad.tar"));
    return at("bad.tar");
}

static void samples_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *name2, *text2, *what;
    } cases[] = {
        {"b.jpg", "", "b.json", "{\"url\": \"x\"}", "a picture, but no caption beside it"},
        {"b.jpg", "", "c.txt", "x", "sample b at byte "},
        {"b.jpg", "", "b.txt", " \n", "its caption is empty"},
        {"b.jpg", "", "b.txt", "\377", "its caption is no UTF-8"},
        {"b.jpg", "", "b.json", "[]", "its .json is no JSON object"},
        {"b.jpg", "", "b.json", "{\"caption\": 3}", "\"caption\" of its .json is no text"},
        {"b.jpg", "", "b.json", "{\"captions\": []}", "is no text, nor a list of some"},
        {"b.jpg", "", "b.json", "{\"captions\": [\"x\", 1]}", "is no text, nor a list of some"},
        {"b.txt", "x", "b.png", "", NULL},
        {"b.jpg", "", "b.png", "", "it has two pictures"},
        {"b.jpg", "", "b.txt", "an <image>", "bad.tar:2: row 2: "},
        {"a.jpg", "", "a.json", "{}", "it has two pictures"}};
    struct lcl_pack p;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = shard_with(cases[i].name, cases[i].text, cases[i].name2, cases[i].text2);
        lcl_status status = pack(path, NULL, false);
        if (!cases[i].what) {
            ASSERT_OK(status);
            continue;
        }
        if (status != LCL_FORMAT || !strstr(lcl_error_message(), "bad.tar") ||
            !strstr(lcl_error_message(), cases[i].what))
            fail_msg("case %zu: %s", i, lcl_error_message());
        if (i + 1 == sizeof cases / sizeof *cases) continue; /* no sample is left of it */
        ASSERT_OK(pack(path, NULL, true));
        ASSERT_OK(lcl_pack_open(at("out.h5"), &p));
        assert_int_equal(p.n_rows, 1);
        assert_row(&p, 0, "good", "bad.tar/a.jpg");
        lcl_pack_close(&p);
    }
}

/* Bad pictures, names that are there twice, archives that are cut short. */
static void shards_that_are_damaged(void **state)
{
    (void)state;
    struct lcl_pack p;
    struct tar_file t = {0};
    add_picture(&t, "a.jpg", 0);
    tar_add_text(&t, "a.txt", "good");
    tar_add_text(&t, "b.jpg", "no picture");
    tar_add_text(&t, "b.txt", "bad");
    add_picture(&t, "a.jpg", 2);
    tar_add_text(&t, "a.txt", "twice");
    tar_end(&t);
    tar_write(&t, at("damaged.tar"));
    ASSERT_FAILS(pack(at("damaged.tar"), NULL, false), LCL_FORMAT,
                 "damaged.tar:3: row 3: \"image\": damaged.tar/a.jpg is there twice, at bytes 512");
    ASSERT_OK(pack(at("damaged.tar"), NULL, true));
    ASSERT_OK(lcl_pack_open(at("out.h5"), &p));
    assert_int_equal(p.n_rows, 1);
    assert_int_equal(p.n_images, 1);
    assert_row(&p, 0, "good", "damaged.tar/a.jpg");
    lcl_pack_close(&p);
    t.size -= 1024 + 512;
    tar_write(&t, at("damaged.tar"));
    tar_free(&t);
    ASSERT_FAILS(pack(at("damaged.tar"), NULL, true), LCL_FORMAT, "damaged.tar");
    ASSERT_OK(lcl_fs_mkdirs(at("empty")));
    FAILS("empty holds no tar shards", "pack --format webdataset-captions --images %s --out %s",
          at("empty"), at("x.h5"));
}

static void options_that_do_not_fit(void **state)
{
    (void)state;
    FAILS("--in names a table", "pack --format webdataset-captions --in t --images %s --out %s",
          at("shards"), at("x.h5"));
    FAILS("--caption-key is for webdataset-captions",
          "pack --format caption --caption-key k --in t --images %s --out %s", at("shards"),
          at("x.h5"));
    FAILS("are for formats of rows",
          "pack --format webdataset --caption-key k --images %s --out %s", at("shards"),
          at("x.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_become_rows),     cmocka_unit_test(rows_are_used),
        cmocka_unit_test(samples_that_are_wrong),  cmocka_unit_test(shards_that_are_damaged),
        cmocka_unit_test(options_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
