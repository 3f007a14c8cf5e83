/* A table's pictures in tar archives: ImageNet as it is downloaded, WebDataset shards. */
#include "data/archived.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "data/table.h"
#include "tests/support/command.h"
#include "tests/support/tar_file.h"
#include "tests/support/tiny.h"

enum { CLASSES = 4, PICTURES = 6 };

static const char *LCL_PRINTF(1, 2) in(const char *form, ...)
{
    char name[600];
    va_list list;
    va_start(list, form);
    vsnprintf(name, sizeof name, form, list);
    va_end(list);
    return at(name);
}

/* A file that is made anew each time: its path outlives those of in(). */
static const char *scratch(void)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/scratch.png", temp_dir());
    return path;
}

/* "n01000000" */
static const char *synset(int c)
{
    static char id[CLASSES][16];
    snprintf(id[c], sizeof id[c], "n%08d", 1000000 + c);
    return id[c];
}

static void add_file(struct tar_file *t, const char *name, const char *path)
{
    char *bytes;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &bytes, &size));
    tar_add(t, name, bytes, size);
    free(bytes);
}

/* A picture that is told by its class and number. */
static void add_picture(struct tar_file *t, const char *name, int class, int number)
{
    tiny_write_picture(scratch(), class, number);
    add_file(t, name, scratch());
}

static void finish(struct tar_file *t, const char *path)
{
    tar_end(t);
    tar_write(t, path);
    tar_free(t);
}

/* ILSVRC2012_img_train.tar, a tar of a tar a class, in a folder of its own. */
static void make_train(const char *folder)
{
    struct tar_file outer = {0};
    char name[128];
    ASSERT_OK(lcl_fs_mkdirs(at(folder)));
    for (int c = 0; c < CLASSES; c++) {
        struct tar_file inner = {0};
        for (int i = 0; i < PICTURES; i++) {
            snprintf(name, sizeof name, "%s_%d.JPEG", synset(c), 10 * i + c);
            add_picture(&inner, name, c, i);
        }
        tar_end(&inner);
        snprintf(name, sizeof name, "%s.tar", synset(c));
        tar_add(&outer, name, inner.bytes, inner.size);
        tar_free(&inner);
    }
    finish(&outer, in("%s/ILSVRC2012_img_train.tar", folder));
}

static void make_val(const char *folder)
{
    struct tar_file t = {0};
    ASSERT_OK(lcl_fs_mkdirs(at(folder)));
    for (int c = 0; c < CLASSES; c++) {
        char name[128];
        snprintf(name, sizeof name, "ILSVRC2012_val_%08d.JPEG", c + 1);
        add_picture(&t, name, c, PICTURES);
    }
    finish(&t, in("%s/ILSVRC2012_img_val.tar", folder));
}

/* As the official table: PICTURES train pictures and a validation picture a class, and as neighbors
 * all other classes. */
static const char *official_table(const char *name)
{
    const char *path = in("%s", name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int c = 0; c < CLASSES; c++) {
        fprintf(f, "{\"class_id\": \"%d\", \"class_name\": \"thing %c\", \"samples\": [", c,
                'a' + c);
        for (int i = 0; i < PICTURES; i++)
            fprintf(f, "\"train/%s/%s_%d.JPEG\", ", synset(c), synset(c), 10 * i + c);
        fprintf(f, "\"val/ILSVRC2012_val_%08d.JPEG\"], \"neighbors\": [", c + 1);
        for (int k = 1; k < CLASSES; k++) {
            int o = (c + k) % CLASSES;
            fprintf(f, "%s[\"%d\", \"thing %c\", \"train/%s/%s_%d.JPEG\"]", k > 1 ? ", " : "", o,
                    'a' + o, synset(o), synset(o), 10 + o);
        }
        fprintf(f, "]}\n");
    }
    assert_int_equal(fclose(f), 0);
    return path;
}

struct world {
    struct lcl_pack pack;
    struct lcl_neighbors neighbors;
    struct lcl_table_flaws flaws;
};

static lcl_status open_as(struct world *w, const char *table, const char *images)
{
    return lcl_pack_open_table(&(struct lcl_table_options){table, images, true}, &w->pack,
                               &w->neighbors, &w->flaws);
}

static void close_world(struct world *w)
{
    lcl_pack_close(&w->pack);
    lcl_neighbors_free(&w->neighbors);
}

/* Picture i of the pack is that of tiny_write_picture. */
static void assert_picture(struct world *w, int64_t i, int class, int number)
{
    const struct lcl_decode_options o = {0};
    struct lcl_image got, wanted;
    tiny_write_picture(scratch(), class, number);
    ASSERT_OK(lcl_image_load(scratch(), &o, &wanted));
    ASSERT_OK(lcl_pack_read_image(&w->pack, i, &o, &got));
    assert_int_equal(got.width, wanted.width);
    assert_memory_equal(got.pixels, wanted.pixels, (size_t)(got.width * got.height * 3));
    lcl_image_free(&got);
    lcl_image_free(&wanted);
}

static void assert_all_pictures(struct world *w)
{
    assert_int_equal(w->pack.n_images, CLASSES * (PICTURES + 1));
    for (int i = 0; i < CLASSES * (PICTURES + 1); i++)
        assert_picture(w, i, i / (PICTURES + 1), i % (PICTURES + 1));
}

/* ---- ImageNet ---- */

static void reads_imagenet_as_downloaded(void **state)
{
    (void)state;
    struct world w;
    const char *table = official_table("official.jsonl");
    make_train("download");
    ASSERT_FAILS(open_as(&w, table, at("download")), LCL_NOT_FOUND,
                 "official.jsonl:1: there is no picture");
    assert_non_null(strstr(lcl_error_message(),
                           "val/ILSVRC2012_val_00000001.JPEG nor in archives (1) there; of 28 "
                           "pictures 4 are missing"));
    make_val("download");
    ASSERT_OK(open_as(&w, table, at("download")));
    assert_all_pictures(&w);
    assert_int_equal(w.neighbors.image[0], PICTURES + 1 + 1);
    uint64_t hash = w.pack.content_hash;
    close_world(&w);
    char both[1200];
    snprintf(both, sizeof both, "%s::%s", at("download/ILSVRC2012_img_train.tar"),
             at("download/ILSVRC2012_img_val.tar"));
    const char *const words[] = {both, at("download/ILSVRC2012_img_{train,val}.tar")};
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(open_as(&w, table, words[i]));
        assert_all_pictures(&w);
        assert_true(w.pack.content_hash == hash);
        close_world(&w);
    }
    ASSERT_FAILS(open_as(&w, table, at("download/ILSVRC2012_img_train.tar")), LCL_NOT_FOUND,
                 "of 28 pictures 4 are missing");
    ASSERT_FAILS(open_as(&w, table, at("nowhere/a-{0..3}.tar")), LCL_NOT_FOUND, "no folder");
}

/* Pictures of their own go before archives, which need not hold them. */
static void folders_go_before_archives(void **state)
{
    (void)state;
    struct world w;
    char path[600];
    const char *table = official_table("both.jsonl");
    make_train("mixed");
    ASSERT_OK(lcl_fs_mkdirs(at("mixed/val")));
    for (int c = 0; c < CLASSES; c++) {
        snprintf(path, sizeof path, "%s/ILSVRC2012_val_%08d.JPEG", at("mixed/val"), c + 1);
        tiny_write_picture(path, c, PICTURES);
    }
    snprintf(path, sizeof path, "%s", in("mixed/train/%s", synset(0)));
    ASSERT_OK(lcl_fs_mkdirs(path));
    tiny_write_picture(in("mixed/train/%s/%s_0.JPEG", synset(0), synset(0)), 7, 3);
    ASSERT_OK(open_as(&w, table, at("mixed")));
    assert_picture(&w, 0, 7, 3);
    assert_picture(&w, 1, 0, 1);
    assert_picture(&w, PICTURES, 0, PICTURES);
    close_world(&w);
}

/* Bytes of an archive replaced, unnoticed by its size and time. */
static void overwrite(const char *path, long offset, const char *text)
{
    struct stat before;
    assert_int_equal(stat(path, &before), 0);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static char *only_index(const char *table)
{
    char **names, *path;
    size_t n;
    char *folder = lcl_strdupf("%s.archives", table);
    ASSERT_OK(lcl_fs_list(folder, &names, &n));
    assert_int_equal(n, 1);
    path = lcl_strdupf("%s/%s", folder, names[0]);
    lcl_fs_list_free(names, n);
    free(folder);
    return path;
}

static long places_in(const char *index)
{
    struct lcl_h5 f;
    struct lcl_h5_set set;
    ASSERT_OK(lcl_h5_open(index, false, &f));
    ASSERT_OK(lcl_h5_set_open(&f, "/places", &set));
    const long offset = (long)set.file_offset;
    lcl_h5_set_close(&set);
    lcl_h5_discard(&f);
    assert_true(offset > 0);
    return offset;
}

/* Archives are looked through once; another time, or size, and a damaged index, look again. */
static void keeps_where_pictures_lie(void **state)
{
    (void)state;
    struct world w;
    const char *table = official_table("kept.jsonl"), *folder = at("kept");
    const char *train = at("kept/ILSVRC2012_img_train.tar");
    make_train("kept");
    make_val("kept");
    ASSERT_OK(open_as(&w, table, folder));
    close_world(&w);
    char *index = only_index(table);
    overwrite(train, 600, "no header");
    ASSERT_OK(open_as(&w, table, folder)); /* by what was kept */
    assert_picture(&w, 2, 0, 2);
    close_world(&w);
    lcl_log_set_level(LCL_LOG_QUIET);
    overwrite(index, places_in(index), "damage");
    ASSERT_FAILS(open_as(&w, table, folder), LCL_FORMAT,
                 "ILSVRC2012_img_train.tar: n01000000.tar: header at byte 512: its checksum");
    lcl_log_set_level(LCL_LOG_INFO);
    make_train("kept");
    assert_int_equal(remove(index), 0);
    free(index);
    ASSERT_OK(open_as(&w, table, folder));
    uint64_t hash = w.pack.content_hash;
    close_world(&w);
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, train, times, 0), 0);
    ASSERT_OK(open_as(&w, table, folder));
    assert_true(w.pack.content_hash != hash);
    close_world(&w);
}

static void names_what_is_damaged(void **state)
{
    (void)state;
    const struct lcl_decode_options o = {0};
    struct world w;
    struct lcl_image image;
    struct tar_file t = {0};
    tar_add_text(&t, "a/1.png", "no picture");
    tar_add_text(&t, "a/2.png", "");
    finish(&t, at("damaged.tar"));
    ASSERT_OK(lcl_fs_write_text(temp_dir(), "damaged.jsonl",
                                "{\"class_id\": \"1\", \"class_name\": \"a\", \"samples\": "
                                "[\"a/1.png\", \"a/2.png\"]}\n"));
    ASSERT_OK(open_as(&w, at("damaged.jsonl"), at("damaged.tar")));
    ASSERT_FAILS(lcl_pack_read_image(&w.pack, 0, &o, &image), LCL_FORMAT,
                 "damaged.tar: at byte 512: a/1.png");
    ASSERT_FAILS(lcl_pack_read_image(&w.pack, 1, &o, &image), LCL_FORMAT, "a/2.png");
    close_world(&w);
}

/* ---- WebDataset ---- */

/* By the keys of samples, whatever their pictures' endings; other files pass. */
static void reads_webdataset_shards(void **state)
{
    (void)state;
    struct world w;
    const char *table = official_table("shards.jsonl");
    ASSERT_OK(lcl_fs_mkdirs(at("shards")));
    for (int shard = 0; shard < 2; shard++) {
        struct tar_file t = {0};
        char name[128];
        for (int k = shard; k < CLASSES * (PICTURES + 1); k += 2) {
            int c = k / (PICTURES + 1), i = k % (PICTURES + 1);
            if (i < PICTURES)
                snprintf(name, sizeof name, "%s_%d.jpg", synset(c), 10 * i + c);
            else
                snprintf(name, sizeof name, "ILSVRC2012_val_%08d.jpg", c + 1);
            add_picture(&t, name, c, i);
            memcpy(name + strlen(name) - 3, "cls", 4);
            tar_add_text(&t, name, "3");
        }
        finish(&t, in("shards/imagenet1k-train-000%d.tar", shard));
    }
    const char *const words[] = {at("shards"), at("shards/imagenet1k-train-{0000..0001}.tar")};
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(open_as(&w, table, words[i]));
        assert_all_pictures(&w);
        close_world(&w);
    }
}

/* Archives' names tell samples of one number apart; where nothing does, that is an error. */
static void shards_tell_numbers_apart(void **state)
{
    (void)state;
    static const char row[] = "{\"class_id\": \"%d\", \"class_name\": \"c%d\", \"samples\": "
                              "[\"%s\", \"%s\"]}\n";
    static const struct {
        const char *one, *two, *what;
    } cases[] = {
        {"s-0/1.png", "s-1/1.png", NULL},
        {"x/s-0/1.png", "x/s-1/1.png", NULL},
        {"s-0/1.png", "1.png", ":2: picture 1.png is in "},
        {"s-0/1.png", "x/y/1.png", ":2: picture x/y/1.png is in "},
        {"s-0/1.png", "x/s-0/1.png", "pictures s-0/1.png and x/s-0/1.png would both be the one at"},
        {"deep/2.png", "top/deep/2.png", "would both be the one at byte"},
        {"2.png", "s-0/other/2.png", "there is no picture"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        char text[512];
        if (i == 0)
            for (int shard = 0; shard < 2; shard++) {
                struct tar_file t = {0};
                ASSERT_OK(lcl_fs_mkdirs(at("numbers")));
                add_picture(&t, "1.png", shard, 1);
                if (shard) add_picture(&t, "top/deep/2.png", 5, 2);
                finish(&t, in("numbers/s-%d.tar", shard));
            }
        snprintf(text, sizeof text, row, 1, 1, cases[i].one, cases[i].one);
        snprintf(text + strlen(text), sizeof text - strlen(text), row, 2, 2, cases[i].two,
                 cases[i].two);
        ASSERT_OK(lcl_fs_write_text(temp_dir(), "numbers.jsonl", text));
        if (cases[i].what) {
            lcl_status status = open_as(&w, at("numbers.jsonl"), at("numbers"));
            if (status == LCL_OK || !strstr(lcl_error_message(), cases[i].what))
                fail_msg("%s, %s: %s", cases[i].one, cases[i].two, lcl_error_message());
            continue;
        }
        ASSERT_OK(open_as(&w, at("numbers.jsonl"), at("numbers")));
        assert_picture(&w, 0, 0, 1);
        assert_picture(&w, 1, 1, 1);
        close_world(&w);
    }
}

/* ---- the program ---- */

static void trains_on_them(void **state)
{
    (void)state;
    const char *table = official_table("train.jsonl");
    make_train("for-train");
    make_val("for-train");
    const char *config = tiny_file("archived.yaml", tiny_yaml());
    static const char form[] = "%s %s --set data.pack= --set data.table=%s --set data.images=%s "
                               "--set data.hard_fraction=1 --set eval_steps=0 --set max_steps=2";
    char words[2048];
    snprintf(words, sizeof words, form, "train", config, table, at("for-train"));
    assert_int_equal(lcl("%s --set output_dir=%s", words, at("run")), 0);
    snprintf(words, sizeof words, form, "inspect", config, table, at("for-train"));
    assert_int_equal(lcl("%s --episodes 3 --sheet %s", words, at("sheet.html")), 0);
    snprintf(words, sizeof words, form, "train", config, table, at("for-train/*.tar"));
    assert_int_equal(lcl("%s --set output_dir=%s", words, at("run2")), 1);
    says("there is no folder");
}

/* Two classes of the test table, half of whose pictures are files. */
static void write_test_table(const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int c = 0; c < 2; c++) {
        fprintf(f, "{\"class_name\": \"thing %c\", \"context_samples\": [", 'a' + c);
        for (int i = 0; i < 2; i++)
            fprintf(f, "%s\"train/%s/%s_%d.JPEG\"", i ? ", " : "", synset(c), synset(c),
                    10 * i + c);
        fprintf(f, "], \"test_samples\": [\"train/%s/%s_%d.JPEG\"]}\n", synset(c), synset(c),
                20 + c);
    }
    assert_int_equal(fclose(f), 0);
}

/* The same answers as of the same pictures unpacked. */
static void evaluates_on_them(void **state)
{
    (void)state;
    static const char form[] = "eval imagenet-100 --table %s --images %s --model %s --shots 0,2,4 "
                               "--predictions %s --show %s";
    write_test_table(at("test.jsonl"));
    for (int c = 0; c < 2; c++) {
        ASSERT_OK(lcl_fs_mkdirs(in("unpacked/train/%s", synset(c))));
        for (int i = 0; i < 3; i++)
            tiny_write_picture(in("unpacked/train/%s/%s_%d.JPEG", synset(c), synset(c), 10 * i + c),
                               c, i);
    }
    SUCCEEDS(form, at("test.jsonl"), at("unpacked"), at("run"), at("files.jsonl"),
             at("files.shown"));
    SUCCEEDS(form, at("test.jsonl"), at("for-train"), at("run"), at("members.jsonl"),
             at("members.shown"));
    assert_true(same_files(at("files.jsonl"), at("members.jsonl")));
    assert_true(same_files(at("files.shown"), at("members.shown")));
    assert_int_equal(remove(in("unpacked/train/%s/%s_21.JPEG", synset(1), synset(1))), 0);
    FAILS("21.JPEG", form, at("test.jsonl"), at("unpacked"), at("run"), at("a.jsonl"),
          at("a.shown"));
    make_val("val-alone");
    FAILS("n01000000_0.JPEG, nor in archives (1) there", form, at("test.jsonl"), at("val-alone"),
          at("run"), at("b.jsonl"), at("b.shown"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_imagenet_as_downloaded),
        cmocka_unit_test(folders_go_before_archives),
        cmocka_unit_test(keeps_where_pictures_lie),
        cmocka_unit_test(names_what_is_damaged),
        cmocka_unit_test(reads_webdataset_shards),
        cmocka_unit_test(shards_tell_numbers_apart),
        cmocka_unit_test(trains_on_them),
        cmocka_unit_test(evaluates_on_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
