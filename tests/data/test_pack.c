#include "data/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fs.h"
#include "core/h5.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/threads.h"
#include "data/md5.h"
#include "tests/support/support.h"

/* ---- folders of pictures ---- */

static const char *in_temp(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir(), name);
    return path;
}

static void write_file(const char *path, const void *data, size_t size)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%.*s", (int)(lcl_fs_basename(path) - path - 1), path);
    ASSERT_OK(lcl_fs_mkdirs(folder));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* A PNG of noise; with alpha the first `visible` pixels show. */
static void write_png(const char *path, int width, int height, int visible, uint64_t seed)
{
    int c = visible < width * height ? 4 : 3;
    struct lcl_image image = {width, height, c, malloc((size_t)(width * height * c))};
    struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_TEST, 0, 0);
    for (int i = 0; i < width * height * c; i++) image.pixels[i] = (uint8_t)lcl_rng_u32(&rng);
    for (int i = 0; i < width * height && c == 4; i++)
        image.pixels[4 * i + 3] = i < visible ? 255 : 0;
    uint8_t *bytes;
    size_t size;
    ASSERT_OK(lcl_image_encode_png(&image, &bytes, &size));
    write_file(path, bytes, size);
    free(bytes);
    lcl_image_free(&image);
}

/* n_classes folders red_fox0, red_fox1, ... with n pictures each. */
static void make_folder(const char *root, int n_classes, int n)
{
    char path[700];
    for (int c = 0; c < n_classes; c++)
        for (int i = 0; i < n; i++) {
            snprintf(path, sizeof path, "%s/red_fox%d/%d.%s", root, c, i, i % 2 ? "PNG" : "jpg");
            write_png(path, 20 + i, 17 + c, i % 3 ? 1 << 20 : 50, (uint64_t)(100 * c + i));
        }
}

static struct lcl_pack_options folder_options(const char *images, const char *out)
{
    return (struct lcl_pack_options){.format = "imagefolder",
                                     .images = images,
                                     .out = out,
                                     .test_fraction = 0.5,
                                     .min_images = 2,
                                     .background = {1, 2, 3}};
}

static uint64_t hash_of_pack(const char *path)
{
    struct lcl_pack pack;
    ASSERT_OK(lcl_pack_open(path, &pack));
    ASSERT_OK(lcl_pack_verify(&pack));
    uint64_t hash = pack.content_hash;
    lcl_pack_close(&pack);
    return hash;
}

/* ---- what is in a pack ---- */

static void check_picture(struct lcl_pack *pack, int64_t i, const char *root)
{
    const struct lcl_decode_options decode = {.keep_alpha = true};
    const char *name;
    char path[600];
    struct lcl_image want, got;
    ASSERT_OK(lcl_pack_image_name(pack, i, &name));
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(strncmp(name, pack->classes[pack->image_class[i]].id, strcspn(name, "/")), 0);
    ASSERT_OK(lcl_image_load(path, &decode, &want));
    ASSERT_OK(lcl_pack_read_image(pack, i, &decode, &got));
    assert_int_equal(got.width, want.width);
    assert_int_equal(got.channels, want.channels);
    assert_memory_equal(got.pixels, want.pixels,
                        (size_t)(want.width * want.height * want.channels));
    lcl_image_free(&want);
    lcl_image_free(&got);
}

static void check_pixels(struct lcl_pack *pack)
{
    enum { S = 16, N = 5 };
    const int64_t numbers[N] = {3, 0, 11, 3, 7};
    static float got[N][3 * S * S], want[3 * S * S];
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, S);
    struct lcl_decode_options o = {.composite_alpha = true};
    memcpy(o.background, p.background, 3);
    ASSERT_OK(lcl_pack_read_pixels(pack, numbers, N, &p, got[0]));
    for (int k = 0; k < N; k++) {
        struct lcl_image image;
        ASSERT_OK(lcl_pack_read_image(pack, numbers[k], &o, &image));
        ASSERT_OK(lcl_preprocess_image(&image, &p, want));
        assert_memory_equal(got[k], want, sizeof want);
        lcl_image_free(&image);
    }
    const int64_t wrong = 12;
    ASSERT_FAILS(lcl_pack_read_pixels(pack, &wrong, 1, &p, got[0]), LCL_RANGE, "picture 12 of 12");
}

static void test_round_trip(void **state)
{
    (void)state;
    char root[512], out[512];
    snprintf(root, sizeof root, "%s", in_temp("round"));
    make_folder(root, 4, 3);
    write_file(in_temp("round/red_fox1/notes.txt"), "no picture", 10);
    for (int decoded = 0; decoded < 2; decoded++) {
        snprintf(out, sizeof out, "%s", in_temp(decoded ? "pixels.h5" : "files.h5"));
        struct lcl_pack_options o = folder_options(root, out);
        o.decoded = decoded;
        ASSERT_OK(lcl_pack_create(&o));
        assert_false(lcl_fs_exists(in_temp(decoded ? "pixels.h5.partial" : "files.h5.partial")));
        struct lcl_pack pack;
        ASSERT_OK(lcl_pack_open(out, &pack));
        assert_int_equal(pack.n_images, 12);
        assert_int_equal(pack.n_classes, 4);
        assert_string_equal(pack.classes[2].id, "red_fox2");
        assert_string_equal(pack.classes[2].name, "red fox2");
        assert_int_equal(pack.classes[2].n_images, 3);
        assert_int_equal(pack.classes[2].images[1], 7);
        assert_int_equal(lcl_pack_find_class(&pack, "red_fox3"), 3);
        assert_int_equal(lcl_pack_find_class(&pack, "red fox3"), -1);
        for (int64_t i = 0; i < 12; i++) check_picture(&pack, i, root);
        check_pixels(&pack);
        for (int c = 0; c < 4; c++) { /* held out: MD5 of the id is even */
            unsigned char digest[16];
            lcl_md5_of(pack.classes[c].id, strlen(pack.classes[c].id), digest);
            assert_int_equal(pack.classes[c].split == LCL_SPLIT_TEST, digest[15] % 2 == 0);
        }
        ASSERT_OK(lcl_pack_verify(&pack));
        lcl_pack_close(&pack);
    }
}

static void test_split_folders(void **state)
{
    (void)state;
    char root[512], out[512];
    snprintf(root, sizeof root, "%s", in_temp("splits"));
    snprintf(out, sizeof out, "%s", in_temp("splits.h5"));
    static const char *const files[] = {"train/tabby-cat/1.png", "train/tabby-cat/2.webp",
                                        "test/dog/1.gif", "test/dog/2.jpeg"};
    for (size_t i = 0; i < 4; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", root, files[i]);
        write_png(path, 9, 9, 1000, i);
    }
    struct lcl_pack_options o = folder_options(root, out);
    ASSERT_OK(lcl_pack_create(&o));
    struct lcl_pack pack;
    ASSERT_OK(lcl_pack_open(out, &pack));
    assert_int_equal(pack.n_classes, 2);
    assert_string_equal(pack.classes[0].id, "test/dog");
    assert_string_equal(pack.classes[0].name, "dog");
    assert_int_equal(pack.classes[0].split, LCL_SPLIT_TEST);
    assert_string_equal(pack.classes[1].name, "tabby cat");
    assert_int_equal(pack.classes[1].split, LCL_SPLIT_TRAIN);
    lcl_pack_close(&pack);
}

static void test_wesnoth(void **state)
{
    (void)state;
    char root[512], out[512], path[700];
    snprintf(root, sizeof root, "%s", in_temp("game"));
    snprintf(out, sizeof out, "%s", in_temp("game.h5"));
    static const struct {
        const char *file;
        int side, visible;
        uint64_t seed;
    } sprites[] = {{"elves-wood/high-lord-attack-1", 72, 900, 1},
                   {"elves-wood/high-lord+female-die2", 72, 900, 2},
                   {"elves-wood/high-lord", 72, 200, 3},
                   {"elves-wood/high-lord-again", 72, 900, 1}, /* a duplicate */
                   {"elves-wood/high-lord-faint", 72, 199, 4}, /* nearly empty */
                   {"elves-wood/high-lord-large", 80, 900, 5}, /* another size */
                   {"elves-wood/scout/scout1", 72, 900, 6},
                   {"elves-wood/scout/scout2", 72, 900, 7},
                   {"monsters/wolf-1", 72, 900, 8},
                   {"monsters/wolf-2", 72, 900, 9},
                   {"trolls/whelp", 72, 900, 10}}; /* one alone: too few */
    for (size_t i = 0; i < sizeof sprites / sizeof *sprites; i++) {
        snprintf(path, sizeof path, "%s/deep/data/core/images/units/%s.png", root, sprites[i].file);
        write_png(path, sprites[i].side, sprites[i].side, sprites[i].visible, sprites[i].seed);
    }
    struct lcl_pack_options o = folder_options(root, out);
    o.format = "wesnoth";
    ASSERT_OK(lcl_pack_create(&o));
    struct lcl_pack pack;
    ASSERT_OK(lcl_pack_open(out, &pack));
    assert_int_equal(pack.n_classes, 3);
    assert_string_equal(pack.classes[0].id, "elves-wood/high");
    assert_string_equal(pack.classes[0].name, "elvish high lord");
    assert_int_equal(pack.classes[0].n_images, 3);
    assert_string_equal(pack.classes[1].name, "elvish scout");
    assert_string_equal(pack.classes[2].name, "wolf");
    lcl_pack_close(&pack);
    o.images = in_temp("round");
    o.force = true;
    ASSERT_FAILS(lcl_pack_create(&o), LCL_NOT_FOUND, "no folder data/core/images/units in");
}

/* ---- bad input ---- */

static void test_bad_files(void **state)
{
    (void)state;
    char root[512], out[512], path[700];
    snprintf(root, sizeof root, "%s", in_temp("bad"));
    snprintf(out, sizeof out, "%s", in_temp("bad.h5"));
    make_folder(root, 2, 4);
    snprintf(path, sizeof path, "%s/red_fox0/broken.png", root);
    write_file(path, "\211PNG\r\n\032\n too short", 18);
    snprintf(path, sizeof path, "%s/red_fox1/gone.png", root);
    assert_int_equal(symlink("nowhere", path), 0);
    struct lcl_pack_options o = folder_options(root, out);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "2 bad pictures in");
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "red_fox0/broken.png: damaged or truncated PNG");
    assert_non_null(strstr(lcl_error_hint(), "--skip-bad"));
    assert_false(lcl_fs_exists(out));
    o.skip_bad = true;
    ASSERT_OK(lcl_pack_create(&o));
    struct lcl_pack pack;
    ASSERT_OK(lcl_pack_open(out, &pack));
    assert_int_equal(pack.n_images, 8);
    lcl_pack_close(&pack);
    struct lcl_h5 f; /* the table of bad files is kept */
    void *names, *reasons;
    uint64_t n;
    ASSERT_OK(lcl_h5_open(out, false, &f));
    ASSERT_OK(lcl_h5_read_alloc(&f, "/skipped/names", LCL_H5_U8, 1000, &names, &n));
    ASSERT_OK(lcl_h5_read_alloc(&f, "/skipped/reasons", LCL_H5_U8, 1000, &reasons, &n));
    assert_string_equal(names, "red_fox0/broken.png");
    assert_string_equal((char *)names + 20, "red_fox1/gone.png");
    assert_non_null(strstr(reasons, "PNG"));
    free(names);
    free(reasons);
    ASSERT_OK(lcl_h5_close(&f));
}

static void test_refusals(void **state)
{
    (void)state;
    char root[512], out[512], path[700];
    snprintf(root, sizeof root, "%s", in_temp("refused"));
    snprintf(out, sizeof out, "%s", in_temp("refused.h5"));
    make_folder(root, 2, 3);
    struct lcl_pack_options o = folder_options(root, out);
    o.min_images = 5;
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "none of 2 classes has 5 pictures");
    assert_non_null(strstr(lcl_error_hint(), "--min-images"));
    o.min_images = 2;
    write_file(out, "mine", 4);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_EXISTS, "refused.h5 exists");
    o.force = true;
    ASSERT_OK(lcl_pack_create(&o));
    assert_int_not_equal(hash_of_pack(out), 0);
    o.format = "tar";
    ASSERT_FAILS(lcl_pack_create(&o), LCL_CONFIG, "unknown picture format \"tar\"");
    o.format = "imagefolder";
    o.images = "no/such/folder";
    ASSERT_FAILS(lcl_pack_create(&o), LCL_NOT_FOUND, "no/such/folder");
    o.images = root;
    snprintf(path, sizeof path, "%s/red_fox0/0.jpg/x.h5", root); /* below a file */
    o.out = path;
    ASSERT_FAILS(lcl_pack_create(&o), LCL_IO, "0.jpg/x.h5.partial: Not a directory");
    o.out = "/proc/x.h5"; /* a folder in which nobody may make files */
    ASSERT_FAILS(lcl_pack_create(&o), LCL_IO, "cannot write /proc/x.h5.partial");
    o.out = out;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/hollow %d", root, i);
        ASSERT_OK(lcl_fs_mkdirs(path));
    }
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT,
                 "2 classes without a picture: hollow 0, hollow 1");
}

/* ---- full disks and stops ---- */

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* At whatever size writing fails, the message says so, nothing half-done is left in place, and the
 * next run completes. */
static void test_full_disk(void **state)
{
    (void)state;
    char root[512], out[512], whole[512];
    snprintf(root, sizeof root, "%s", in_temp("full"));
    snprintf(out, sizeof out, "%s", in_temp("full.h5"));
    snprintf(whole, sizeof whole, "%s", in_temp("whole.h5"));
    make_folder(root, 3, 5);
    struct lcl_pack_options o = folder_options(root, whole);
    ASSERT_OK(lcl_pack_create(&o));
    struct stat st;
    assert_int_equal(stat(whole, &st), 0);
    o.out = out;
    for (rlim_t limit = 10; limit < (rlim_t)st.st_size; limit += 1 + limit / 3) {
        limit_file_size(limit);
        lcl_status status = lcl_pack_create(&o);
        limit_file_size(RLIM_INFINITY);
        if (status != LCL_IO || !strstr(lcl_error_message(), "File too large"))
            fail_msg("at %llu: %d %s", (unsigned long long)limit, status, lcl_error_message());
        assert_non_null(strstr(lcl_error_hint(), "free some space"));
        assert_false(lcl_fs_exists(out));
    }
    ASSERT_OK(lcl_pack_create(&o));
    assert_int_equal(hash_of_pack(out), hash_of_pack(whole));
}

/* The journal cut or damaged anywhere: the next run reads again what is missing, and only that. */
static void test_resume(void **state)
{
    (void)state;
    char root[512], out[512], partial[600], first[700], *bytes;
    size_t size;
    snprintf(root, sizeof root, "%s", in_temp("resume"));
    snprintf(out, sizeof out, "%s", in_temp("resume.h5"));
    snprintf(partial, sizeof partial, "%s.partial", out);
    make_folder(root, 3, 4);
    struct lcl_pack_options o = folder_options(root, out);
    o.force = true;
    ASSERT_OK(lcl_pack_create(&o));
    uint64_t want = hash_of_pack(out);
    o.min_images = 100; /* reads everything, then fails: the journal stays */
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "100 pictures");
    ASSERT_OK(lcl_fs_read(partial, 1 << 24, &bytes, &size));
    o.min_images = 2;
    for (size_t cut = 0; cut < size; cut += size / 11) {
        write_file(partial, bytes, cut);
        ASSERT_OK(lcl_pack_create(&o));
        assert_int_equal(hash_of_pack(out), want);
        bytes[cut] ^= 1; /* and with a damaged byte there */
        write_file(partial, bytes, size);
        bytes[cut] ^= 1;
        ASSERT_OK(lcl_pack_create(&o));
        assert_int_equal(hash_of_pack(out), want);
    }
    /* A picture that was read is not read again: it is replaced unnoticed while size and time stay
     * the same... */
    snprintf(first, sizeof first, "%s/red_fox0/0.jpg", root);
    struct stat st;
    assert_int_equal(stat(first, &st), 0);
    char *junk = calloc(1, (size_t)st.st_size);
    write_file(first, junk, (size_t)st.st_size);
    free(junk);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, first, times, 0), 0);
    write_file(partial, bytes, size);
    ASSERT_OK(lcl_pack_create(&o));
    assert_int_equal(hash_of_pack(out), want);
    /* ... and noticed when its time differs, or when nothing was read before. */
    times[1].tv_sec -= 10;
    assert_int_equal(utimensat(AT_FDCWD, first, times, 0), 0);
    write_file(partial, bytes, size);
    ASSERT_FAILS(lcl_pack_create(&o), LCL_FORMAT, "red_fox0/0.jpg: not a picture");
    free(bytes);
}

/* ---- damaged packs ---- */

/* Everything that a reader can get out of a pack, as one checksum; the status of the first failure.
 */
static lcl_status read_everything(const char *path, uint32_t *sum)
{
    struct lcl_pack pack;
    lcl_status status;
    const struct lcl_decode_options o = {.keep_alpha = true};
    *sum = 0;
    LCL_TRY(lcl_pack_open(path, &pack));
    LCL_TRY_GOTO(lcl_pack_verify(&pack));
    for (int64_t i = 0; i < pack.n_images; i++) {
        struct lcl_image image;
        const char *name;
        LCL_TRY_GOTO(lcl_pack_image_name(&pack, i, &name));
        LCL_TRY_GOTO(lcl_pack_read_image(&pack, i, &o, &image));
        const struct lcl_class *c = &pack.classes[pack.image_class[i]];
        *sum = lcl_crc32c(*sum, image.pixels,
                          (size_t)image.width * (size_t)image.height * (size_t)image.channels);
        *sum = lcl_crc32c(*sum, name, strlen(name));
        *sum = lcl_crc32c(*sum, c->name, sizeof c->name);
        *sum = lcl_crc32c(*sum, c->id, sizeof c->id);
        *sum = lcl_crc32c(*sum, &c->split, sizeof c->split);
        lcl_image_free(&image);
    }
    *sum = lcl_crc32c(*sum, &pack.content_hash, sizeof pack.content_hash);
out:
    lcl_pack_close(&pack);
    return status;
}

static void test_flipped_bytes(void **state)
{
    (void)state;
    char root[512], out[512], hurt[512], *bytes;
    size_t size, found = 0;
    uint32_t want, got;
    snprintf(root, sizeof root, "%s", in_temp("flip"));
    snprintf(out, sizeof out, "%s", in_temp("flip.h5"));
    snprintf(hurt, sizeof hurt, "%s", in_temp("hurt.h5"));
    make_folder(root, 2, 2);
    struct lcl_pack_options o = folder_options(root, out);
    ASSERT_OK(lcl_pack_create(&o));
    ASSERT_OK(read_everything(out, &want));
    ASSERT_OK(lcl_fs_read(out, 1 << 24, &bytes, &size));
    for (size_t i = 0; i < size; i += 13) {
        bytes[i] ^= 0x10;
        write_file(hurt, bytes, size);
        bytes[i] ^= 0x10;
        if (read_everything(hurt, &got) != LCL_OK)
            found++;
        else if (got != want) /* only in bytes that hold nothing may it go unnoticed */
            fail_msg("a flipped byte at %zu of %zu went unnoticed", i, size);
    }
    assert_true(found > size / 13 / 2);
    free(bytes);
}

/* Flips a byte of a dataset where it lies in the file. */
static void flip_in(const char *path, const char *dataset, int64_t offset)
{
    struct lcl_h5 f;
    struct lcl_h5_set set;
    ASSERT_OK(lcl_h5_open(path, false, &f));
    ASSERT_OK(lcl_h5_set_open(&f, dataset, &set));
    int64_t at = set.file_offset + offset;
    lcl_h5_set_close(&set);
    ASSERT_OK(lcl_h5_close(&f));
    assert_true(set.file_offset > 0);
    int fd = open(path, O_RDWR);
    char b;
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 1;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

static void test_damage_messages(void **state)
{
    (void)state;
    char root[512], out[512], *bytes;
    size_t size;
    struct lcl_pack pack;
    struct lcl_h5 f;
    struct lcl_image image;
    const struct lcl_decode_options plain = {0};
    snprintf(root, sizeof root, "%s", in_temp("damage"));
    snprintf(out, sizeof out, "%s", in_temp("damage.h5"));
    make_folder(root, 2, 2);
    struct lcl_pack_options o = folder_options(root, out);
    ASSERT_OK(lcl_pack_create(&o));
    flip_in(out, "/images/bytes", 100); /* in picture 0 */
    ASSERT_OK(lcl_pack_open(out, &pack));
    ASSERT_FAILS(lcl_pack_verify(&pack), LCL_CORRUPT, "dataset /images/bytes: checksum");
    ASSERT_FAILS(lcl_pack_read_image(&pack, 0, &plain, &image), LCL_CORRUPT,
                 "picture 0 (red_fox0/0.jpg): checksum");
    ASSERT_OK(lcl_pack_read_image(&pack, 1, &plain, &image));
    lcl_image_free(&image);
    lcl_pack_close(&pack);
    flip_in(out, "/classes/names", 1);
    ASSERT_FAILS(lcl_pack_open(out, &pack), LCL_CORRUPT, "dataset /classes/names: checksum");
    flip_in(out, "/classes/names", 1);
    ASSERT_OK(lcl_h5_open(out, true, &f));
    ASSERT_OK(lcl_h5_set_u64(&f, "/format", "version", 7));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_FAILS(lcl_pack_open(out, &pack), LCL_VERSION,
                 "pack format version 7, this lcl reads version 1");
    ASSERT_OK(lcl_fs_read(out, 1 << 24, &bytes, &size));
    write_file(out, bytes, size / 2);
    ASSERT_FAILS(lcl_pack_open(out, &pack), LCL_FORMAT, "truncated file");
    write_file(out, bytes, 5);
    ASSERT_FAILS(lcl_pack_open(out, &pack), LCL_FORMAT, "is not an HDF5 file (5 bytes");
    free(bytes);
    ASSERT_FAILS(lcl_pack_open("no/such.h5", &pack), LCL_NOT_FOUND, "no/such.h5");
    ASSERT_OK(lcl_h5_create(out, &f));
    ASSERT_OK(lcl_h5_close(&f));
    ASSERT_FAILS(lcl_pack_open(out, &pack), LCL_FORMAT, "is not a pack");
}

static int set_up(void **state)
{
    (void)state;
    lcl_log_set_level(LCL_LOG_QUIET);
    return lcl_threads_start(0) == LCL_OK ? 0 : -1;
}

/* Whatever failed before, no file or dataset is left open. */
static int tear_down(void **state)
{
    (void)state;
    return H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0 ? 0 : -1;
}

/* HDF5 itself leaks when it refuses a damaged file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5\n"; }

/* ---- copies ---- */

static void test_copies(void **state)
{
    (void)state;
    /* seed 1 stands three times, seed 2 twice */
    static const struct {
        const char *file;
        uint64_t seed;
        int first;
    } made[] = {{"a/0.png", 1, 0}, {"a/1.png", 2, 1}, {"a/2.png", 1, 0}, {"b/0.png", 3, 3},
                {"b/1.png", 1, 0}, {"b/2.png", 2, 1}, {"b/3.png", 4, 6}};
    char root[512], out[512], path[700];
    for (int decoded = 0; decoded < 2; decoded++) {
        int32_t *first;
        struct lcl_pack pack;
        snprintf(root, sizeof root, "%s", in_temp("copies"));
        snprintf(out, sizeof out, "%s", in_temp("copies.h5"));
        for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
            snprintf(path, sizeof path, "%s/%s", root, made[i].file);
            write_png(path, 9, 7, 1 << 20, made[i].seed);
        }
        struct lcl_pack_options o = folder_options(root, out);
        o.decoded = decoded;
        o.force = true;
        ASSERT_OK(lcl_pack_create(&o));
        ASSERT_OK(lcl_pack_open(out, &pack));
        ASSERT_OK(lcl_pack_find_copies(&pack, &first));
        assert_int_equal(pack.n_images, 7);
        for (int i = 0; i < 7; i++) assert_int_equal(first[i], made[i].first);
        free(first);
        lcl_pack_close(&pack);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_split_folders),
        cmocka_unit_test(test_wesnoth),         cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_resume),          cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_damage_messages), cmocka_unit_test(test_copies)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
