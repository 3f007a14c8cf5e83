/* Packs out of archives: ImageNet as it is downloaded, WebDataset shards. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/threads.h"
#include "data/pack.h"
#include "tests/support/command.h"
#include "tests/support/tar_file.h"

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A PNG whose pixels are all `value`. */
static void png(uint8_t value, uint8_t **bytes, size_t *size)
{
    uint8_t pixels[5 * 4 * 3];
    memset(pixels, value, sizeof pixels);
    const struct lcl_image image = {5, 4, 3, pixels};
    ASSERT_OK(lcl_image_encode_png(&image, bytes, size));
}

static void add_picture(struct tar_file *t, const char *name, uint8_t value)
{
    uint8_t *bytes;
    size_t size;
    png(value, &bytes, &size);
    tar_add(t, name, bytes, size);
    free(bytes);
}

static struct lcl_pack_options options(const char *format, const char *images)
{
    return (struct lcl_pack_options){.format = format,
                                     .images = images,
                                     .out = at("out.h5"),
                                     .test_fraction = 0.5,
                                     .min_images = 1,
                                     .force = true};
}

/* The picture's name, class and grey value. */
static void assert_picture(struct lcl_pack *pack, int64_t i, const char *name, const char *id,
                           const char *class_name, int value)
{
    const struct lcl_decode_options decode = {0};
    const struct lcl_class *c = &pack->classes[pack->image_class[i]];
    struct lcl_image image;
    const char *got;
    ASSERT_OK(lcl_pack_image_name(pack, i, &got));
    assert_string_equal(got, name);
    assert_string_equal(c->id, id);
    assert_string_equal(c->name, class_name);
    ASSERT_OK(lcl_pack_read_image(pack, i, &decode, &image));
    assert_int_equal(image.pixels[7], value);
    lcl_image_free(&image);
}

/* ---- ImageNet ---- */

/* Two classes of two pictures, the second as a pax member. */
static void make_imagenet(struct tar_file *t)
{
    static const char *const ids[] = {"n02119789", "n01440764"};
    for (int c = 0; c < 2; c++) {
        struct tar_file inner = {0};
        char name[64];
        for (int i = 2; i-- > 0;) {
            snprintf(name, sizeof name, "%s_%d.JPEG", ids[c], i);
            add_picture(&inner, name, (uint8_t)(10 * c + i));
        }
        tar_end(&inner);
        snprintf(name, sizeof name, "%s.tar", ids[c]);
        if (c) tar_add_pax(t, "mtime=1.5");
        tar_add(t, name, inner.bytes, inner.size);
        tar_free(&inner);
    }
}

static const char names_text[] =
    "n01440764 tench, Tinca tinca\nn02119789 kit fox, Vulpes macrotis\n";

static void test_imagenet(void **state)
{
    (void)state;
    struct tar_file t = {0};
    struct lcl_pack pack;
    struct lcl_pack_options o = options("imagenet", at("download"));
    mkdir(at("download"), 0777);
    make_imagenet(&t);
    tar_end(&t);
    tar_write(&t, at("download/ILSVRC2012_img_train.tar"));
    tar_free(&t);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_NOT_FOUND, "no file beside it says what its classes");
    write_text(at("download/synset_words.txt"), names_text);
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    ASSERT_OK(lcl_pack_verify(&pack));
    assert_int_equal(pack.n_images, 4);
    assert_picture(&pack, 0, "n01440764/n01440764_0.JPEG", "n01440764", "tench", 10);
    assert_picture(&pack, 1, "n01440764/n01440764_1.JPEG", "n01440764", "tench", 11);
    assert_picture(&pack, 3, "n02119789/n02119789_1.JPEG", "n02119789", "kit fox", 1);
    uint64_t hash = pack.content_hash;
    lcl_pack_close(&pack);
    o.images = at("download/ILSVRC2012_img_train.tar"); /* the file itself, names of the index */
    write_text(at("download/index.json"),
               "{\"0\": [\"n01440764\", \"tench\"], \"1\": [\"n02119789\", \"kit_fox\"]}");
    o.class_names = at("download/index.json");
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_true(pack.content_hash == hash);
    lcl_pack_close(&pack);
    o.class_names = "none";
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_picture(&pack, 0, "n01440764/n01440764_0.JPEG", "n01440764", "n01440764", 10);
    lcl_pack_close(&pack);
    write_text(at("other.txt"), "n01440764 tench\n");
    o.class_names = at("other.txt");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT,
                 "ILSVRC2012_img_train.tar: n02119789.tar: class n02119789 is not in the file");
}

static void test_validation(void **state)
{
    (void)state;
    static const char *const labels[] = {
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n02119789 1 2 3 4 n02119789 5 6 7 8\n"
        "ILSVRC2012_val_00000001,n01440764 0 0 9 9\n",
        "ILSVRC2012_val_00000001.JPEG 0\nILSVRC2012_val_00000002.JPEG 1\n", "n01440764\nn02119789"};
    struct tar_file t = {0};
    struct lcl_pack pack;
    struct lcl_pack_options o = options("imagenet", at("val.tar"));
    add_picture(&t, "ILSVRC2012_val_00000001.JPEG", 1);
    add_picture(&t, "./ILSVRC2012_val_00000002.JPEG", 2);
    tar_end(&t);
    tar_write(&t, at("val.tar"));
    tar_free(&t);
    write_text(at("words.txt"), names_text);
    o.class_names = at("words.txt");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_CONFIG, "is of no class, as validation pictures are");
    o.labels = at("labels.txt");
    for (size_t i = 0; i < 3; i++) {
        write_text(at("labels.txt"), labels[i]);
        ASSERT_OK(lcl_pack_create(&o));
        ASSERT_OK(lcl_pack_open(o.out, &pack));
        assert_int_equal(pack.n_images, 2);
        assert_picture(&pack, 0, "n01440764/ILSVRC2012_val_00000001.JPEG", "n01440764", "tench", 1);
        assert_picture(&pack, 1, "n02119789/ILSVRC2012_val_00000002.JPEG", "n02119789", "kit fox",
                       2);
        lcl_pack_close(&pack);
    }
    write_text(at("labels.txt"), "ILSVRC2012_val_00000001 0\n");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "00000002.JPEG at byte 1024 has no label in");
    write_text(at("labels.txt"), "ILSVRC2012_val_00000001 2\n");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "labels.txt:1: 2 is no class");
    write_text(at("labels.txt"), "ILSVRC2012_val 2\n");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "labels.txt:1: no label of a picture");
}

/* Train pictures in folders of one archive; a bad one; links; a name that is there twice. */
static void test_folders_and_bad(void **state)
{
    (void)state;
    struct tar_file t = {0};
    struct lcl_pack pack;
    struct lcl_pack_options o = options("imagenet", at("folders.tar"));
    o.class_names = "none";
    tar_add_as(&t, "train/n01440764", '5', NULL, "", 0);
    add_picture(&t, "train/n01440764/a.JPEG", 1);
    size_t bad = t.size + 512;
    tar_add_text(&t, "train/n01440764/b.JPEG", "no picture");
    tar_add_as(&t, "train/n01440764/c.JPEG", '2', NULL, "", 0);
    tar_end(&t);
    tar_write(&t, at("folders.tar"));
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "1 bad picture in");
    assert_non_null(strstr(lcl_error_message(), "n01440764/b.JPEG: not a picture"));
    assert_int_not_equal(lcl("pack --format imagenet --class-names none --min-images 1 --images %s "
                             "--out %s",
                             at("folders.tar"), at("x.h5")),
                         0);
    char where[64];
    snprintf(where, sizeof where, "(at byte %zu of ", bad);
    says(where);
    o.skip_bad = true;
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_images, 1);
    lcl_pack_close(&pack);
    t.size -= 1024;
    add_picture(&t, "elsewhere/n01440764/a.JPEG", 2);
    tar_end(&t);
    tar_write(&t, at("folders.tar"));
    tar_free(&t);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "n01440764/a.JPEG is there twice, at bytes ");
}

/* Stopped while it reads: the next run reads on from there; an archive that changed begins anew. */
static void test_going_on(void **state)
{
    (void)state;
    struct tar_file t = {0};
    struct lcl_pack_options o = options("imagenet", at("resume.tar"));
    char *partial;
    size_t size;
    struct lcl_pack pack;
    o.class_names = "none";
    make_imagenet(&t);
    tar_end(&t);
    tar_write(&t, at("resume.tar"));
    o.min_images = 100; /* reads everything, then fails: the journal stays */
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "100 pictures");
    ASSERT_OK(lcl_fs_read(at("out.h5.partial"), 1 << 24, &partial, &size));
    struct stat before;
    assert_int_equal(stat(at("resume.tar"), &before), 0);
    /* All zeros from the first picture's bytes on, unnoticed while size and time stay the same */
    struct tar_file junk = {.bytes = calloc(1, t.size), .size = t.size};
    memcpy(junk.bytes, t.bytes, t.size);
    size_t picture = 0;
    while (memcmp(junk.bytes + picture, "\211PNG", 4) != 0) picture += 512;
    memset(junk.bytes + picture, 0, 20);
    tar_write(&junk, at("resume.tar"));
    struct timespec times[2] = {before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, at("resume.tar"), times, 0), 0);
    o.min_images = 1;
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_images, 4);
    ASSERT_OK(lcl_pack_verify(&pack));
    lcl_pack_close(&pack);
    FILE *f = fopen(at("out.h5.partial"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(partial, 1, size, f), size);
    fclose(f);
    times[1].tv_sec -= 10;
    assert_int_equal(utimensat(AT_FDCWD, at("resume.tar"), times, 0), 0);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "not a picture");
    free(partial);
    tar_free(&t);
    tar_free(&junk);
}

/* ---- WebDataset ---- */

static void add_sample(struct tar_file *t, const char *key, uint8_t value, const char *ending,
                       const char *label)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", key, value % 2 ? "PNG" : "jpg");
    add_picture(t, name, value);
    snprintf(name, sizeof name, "%s.%s", key, ending);
    tar_add_text(t, name, label);
}

static void write_shard(struct tar_file *t, const char *name)
{
    tar_end(t);
    tar_write(t, at(name));
    tar_free(t);
}

static void test_shards(void **state)
{
    (void)state;
    struct tar_file t = {0};
    struct lcl_pack pack;
    mkdir(at("wds"), 0777);
    mkdir(at("wds/more"), 0777);
    tar_add_text(&t, "__meta__.json", "{}");
    add_sample(&t, "a/0001", 1, "cls", "1\n");
    add_sample(&t, "a/0002", 2, "cls", "0");
    tar_add_text(&t, "a/0002.json", "{\"label\": 7}"); /* .cls counts */
    tar_add_text(&t, "a/0002.seg.png", "not looked at");
    write_shard(&t, "wds/s-09.tar");
    add_sample(&t, "b.c/0001", 3, "cls", "1");
    tar_add_text(&t, "only.txt", "a text without a picture");
    write_shard(&t, "wds/s-10.tar");
    add_sample(&t, "0003", 4, "JSON", "{\"label\": 0, \"width\": 5}");
    write_shard(&t, "wds/more/s-10.tar");
    write_text(at("wds/class_names.txt"), "red fox\nSt. Bernard\n");
    char images[1200];
    snprintf(images, sizeof images, "%s/s-{09..10}.tar::%s/more/s-10.tar", at("wds"), at("wds"));
    struct lcl_pack_options o = options("webdataset", images);
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_images, 4);
    assert_picture(&pack, 0, "more/s-10.tar/0003.jpg", "0", "red fox", 4);
    assert_picture(&pack, 1, "s-09.tar/a/0002.jpg", "0", "red fox", 2);
    assert_picture(&pack, 2, "s-09.tar/a/0001.PNG", "1", "St. Bernard", 1);
    assert_picture(&pack, 3, "s-10.tar/b.c/0001.PNG", "1", "St. Bernard", 3);
    lcl_pack_close(&pack);
    snprintf(images, sizeof images, "%s", at("wds")); /* a folder of shards */
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_images, 3);
    lcl_pack_close(&pack);
    snprintf(images, sizeof images, "%s/{s-09,more/s-10}.tar", at("wds"));
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_images, 3);
    lcl_pack_close(&pack);
    remove(at("wds/class_names.txt"));
    ASSERT_FAILS(lcl_pack_create(&o), LCL_NOT_FOUND, "class 1 is a number, and no file says");
}

static void test_texts(void **state)
{
    (void)state;
    struct tar_file t = {0};
    struct lcl_pack pack;
    struct lcl_pack_options o = options("webdataset", at("texts.tar"));
    add_sample(&t, "1", 1, "txt", " kit fox \n");
    add_sample(&t, "2", 2, "json", "{\"class_name\": \"h\303\244ring\", \"caption\": \"x\"}");
    tar_add_text(&t, "2.txt", "a caption of it");
    add_sample(&t, "3", 3, "txt", "kit fox");
    write_shard(&t, "texts.tar");
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(lcl_pack_open(o.out, &pack));
    assert_int_equal(pack.n_classes, 2);
    assert_picture(&pack, 0, "texts.tar/2.jpg", "h\303\244ring", "h\303\244ring", 2);
    assert_picture(&pack, 2, "texts.tar/3.PNG", "kit fox", "kit fox", 3);
    lcl_pack_close(&pack);
}

static void test_bad_shards(void **state)
{
    (void)state;
    static const struct {
        const char *ending, *label, *says;
    } cases[] = {
        {"cls", "x", "shard.tar: member k.cls at byte 1024: is no number of a class"},
        {"cls", "-1", "is no number of a class"},
        {"cls", "9999999999", "is no number of a class"},
        {"cls", "2", "sample k at byte 0: class 2, but the file of names has 2, from 0 on"},
        {"txt", "", "k.txt at byte 1024: is no class name"},
        {"txt", "two\nlines", "is no class name"},
        {"txt", "\377\376", "is no class name"},
        {"json", "[1]", "k.json at byte 1024: is no JSON object"},
        {"json", "{\"label\": -1}", "its class is no number from 0 and no name"},
        {"json", "{\"caption\": \"x\"}", "sample k at byte 0: a picture, but no class beside it"},
        {"xyz", "1", "sample k at byte 0: a picture, but no class beside it"},
        {"png", "1", "sample k has two pictures, at bytes 0 and 1024"},
    };
    struct lcl_pack_options o = options("webdataset", at("shard.tar"));
    o.class_names = at("two.json");
    o.out = at("never.h5");
    write_text(at("two.json"), "[\"a\", \"b\"]");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tar_file t = {0};
        add_sample(&t, "k", 2, cases[i].ending, cases[i].label);
        write_shard(&t, "shard.tar");
        lcl_status status = lcl_pack_create(&o);
        if (status == LCL_OK || !strstr(lcl_error_message(), cases[i].says))
            fail_msg("case %zu: %s", i, status == LCL_OK ? "no error" : lcl_error_message());
    }
    static const char *const patterns[][2] = {{"s-{3..1}.tar", "{3..1} is a range of none"},
                                              {"s-{a..b}.tar", "{a..b} is no range of numbers"},
                                              {"s-{0..9999999}.tar", "over 131072 shards"},
                                              {"nowhere-{1..2}.tar", "cannot read nowhere-1.tar"}};
    for (size_t i = 0; i < 4; i++) {
        o.images = patterns[i][0];
        lcl_status status = lcl_pack_create(&o);
        if (status == LCL_OK || !strstr(lcl_error_message(), patterns[i][1]))
            fail_msg("%s: %s", o.images, status == LCL_OK ? "no error" : lcl_error_message());
    }
    assert_false(lcl_fs_exists(o.out));
    o.images = at("hollow");
    mkdir(o.images, 0777);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_NOT_FOUND, "hollow holds no tar shards");
    o.format = "imagefolder";
    ASSERT_FAILS(lcl_pack_create(&o), LCL_CONFIG, "are for archives, not for imagefolder");
}

static void test_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "names no class"},
        {"a\n\nb\n", ":2: no name"},
        {"n01440764 tench\nn01440764 fish\n", "n01440764 is named twice"},
        {"{\"0\": [\"n01440764\", \"a\"], \"2\": [\"n01440765\", \"b\"]}", "key 1: is missing"},
        {"{\"0\": 3}", "key 0: wanted a name, or [id, name]"},
        {"[\"a\"", "]' expected"},
        {"\377\n", ":1: a name that is not UTF-8"}};
    struct tar_file t = {0};
    struct lcl_pack_options o = options("imagenet", at("x.tar"));
    make_imagenet(&t);
    write_shard(&t, "x.tar");
    o.class_names = at("names");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(at("names"), cases[i][0]);
        lcl_status status = lcl_pack_create(&o);
        if (status == LCL_OK || !strstr(lcl_error_message(), cases[i][1]))
            fail_msg("case %zu: %s", i, status == LCL_OK ? "no error" : lcl_error_message());
    }
}

static int start(void **state)
{
    (void)state;
    return lcl_threads_start(2) == LCL_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    lcl_threads_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_imagenet),        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_folders_and_bad), cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bad_shards),      cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, start, stop);
}
