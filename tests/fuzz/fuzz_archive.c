/* Tar archives as sources of pictures, and the files that name their classes. */
#include "tests/fuzz/fuzz.h"

#include "core/fs.h"
#include "data/archived.h"
#include "data/class_names.h"
#include "data/pack_source.h"
#include "data/shard_captions.h"
#include "data/tar.h"
#include "tests/support/tar_file.h"

enum { BLOCK = 512 };

static const char *const tar_words[] = {"ustar",
                                        "././@LongLink",
                                        ".tar",
                                        ".jpg",
                                        ".cls",
                                        ".json",
                                        ".txt",
                                        "../",
                                        "/",
                                        " path=",
                                        "12 size=3\n",
                                        "GNU.sparse.",
                                        "\x80\0\0\0\0",
                                        "\377",
                                        "L",
                                        "x",
                                        "1",
                                        "2",
                                        "5",
                                        "S",
                                        "00000000000",
                                        "n0144",
                                        NULL};

/* Every member of an archive, and of archives in it. */
static lcl_status walk(struct lcl_tar *t, int64_t size, int depth)
{
    struct lcl_tar_member m;
    lcl_status status;
    int64_t at = -1;
    while ((status = lcl_tar_next(t, &m)) == LCL_OK && m.name) {
        struct lcl_tar inner;
        assert_true(m.header > at && m.offset > m.header); /* it goes on, so it ends */
        at = m.header;
        assert_true(m.size_bytes >= 0 && m.offset + m.size_bytes <= size);
        assert_true(m.name[0] != '/' && strncmp(m.name, "../", 3) != 0);
        if (!m.regular || depth == 2) continue;
        char *bytes;
        if (lcl_tar_read(t, &m, BLOCK, &bytes) == LCL_OK) free(bytes);
        if (lcl_tar_open_within(t, &m, &inner) != LCL_OK) continue;
        if (walk(&inner, size, depth + 1) != LCL_OK) assert_true(lcl_error_message()[0]);
        lcl_tar_close(&inner);
    }
    return status;
}

static lcl_status list_sources(const char *path)
{
    static const char *const formats[] = {"imagenet", "webdataset"};
    lcl_status status = LCL_OK;
    bool taken = false;
    for (size_t i = 0; i < 2; i++) {
        struct lcl_listing l;
        const struct lcl_pack_options o = {
            .format = formats[i], .images = path, .class_names = "none"};
        status = lcl_source_list(&o, &l);
        taken |= status == LCL_OK;
        if (status == LCL_OK) lcl_listing_free(&l);
    }
    return taken ? LCL_OK : status;
}

/* A table's pictures among the members, and each that is found. */
static void find_pictures(const char *path)
{
    static const char *const paths[] = {"n01440764/n01440764_1.JPEG", "train/long.JPEG", "a/1.jpg",
                                        "2.png", "a/1.jpg"};
    enum { N = sizeof paths / sizeof *paths };
    const struct lcl_decode_options o = {0};
    struct lcl_archived a;
    struct lcl_image image;
    int64_t which;
    lcl_status status = lcl_archived_find(path, paths, NULL, N, NULL, &a, &which);
    if (status != LCL_OK) {
        assert_true(which >= -1 && which < N && lcl_error_message()[0]);
        return;
    }
    for (int i = 0; i < N; i++)
        if (a.place[i].archive >= 0 && lcl_archived_read(&a, i, paths[i], &o, &image) == LCL_OK)
            lcl_image_free(&image);
    lcl_archived_free(&a);
}

/* Every row of captions, those that are wrong left out. */
static void read_captions(const char *path)
{
    struct lcl_listing l = {0};
    struct lcl_shard_captions c;
    json_t *row;
    bool mended;
    ASSERT_OK(lcl_listing_add_archive(&l, path));
    ASSERT_OK(lcl_shard_captions_open(&c, &l, NULL));
    for (;;) {
        lcl_status status = lcl_shard_captions_next(&c, &row, &mended);
        if (status == LCL_OK && !row) break;
        if (status != LCL_OK && !mended) break;
        if (status != LCL_OK) continue;
        assert_true(c.member.archive == 0 && c.member.offset > 0 && c.sample > 0);
        assert_true(json_string_length(json_object_get(row, "caption")) > 0);
        json_decref(row);
    }
    lcl_shard_captions_close(&c);
    lcl_listing_free(&l);
}

static lcl_status read_once(const char *path, const struct fuzz_file *f)
{
    struct lcl_tar t;
    fuzz_write(path, f);
    lcl_status listed = list_sources(path);
    find_pictures(path);
    read_captions(path);
    LCL_TRY(lcl_tar_open(path, &t));
    lcl_status status = walk(&t, (int64_t)f->size, 0);
    lcl_tar_close(&t);
    assert_true(listed != LCL_OK || status == LCL_OK); /* a source reads every header too */
    return status;
}

/* As it is, and with checksums that hold, which lead further in. */
static lcl_status read_tar(const char *path, const struct fuzz_file *f)
{
    struct tar_file mended = {malloc(f->size + 1), f->size};
    assert_non_null(mended.bytes);
    if (f->size > 0) memcpy(mended.bytes, f->bytes, f->size);
    for (size_t at = 0; at + BLOCK <= f->size; at += BLOCK)
        if (mended.bytes[at]) tar_seal(&mended, at);
    const struct fuzz_file sealed = {mended.bytes, mended.size};
    lcl_status good = read_once(path, &sealed), as_is = read_once(path, f);
    free(mended.bytes);
    return as_is == LCL_OK ? good : as_is;
}

static size_t tar_seeds(struct fuzz_file *seeds)
{
    struct tar_file inner = {0}, t = {0};
    tar_add_text(&inner, "n01440764_1.JPEG", "a");
    tar_add_as(&inner, "././@LongLink", 'L', NULL, "long", 5);
    tar_add_text(&inner, "n01440764_2.JPEG", "b");
    tar_end(&inner);
    tar_add(&t, "n01440764.tar", inner.bytes, inner.size);
    tar_add_as(&t, "link", '2', NULL, "", 0);
    tar_end(&t);
    seeds[0] = (struct fuzz_file){t.bytes, t.size};
    tar_free(&inner);
    t = (struct tar_file){0};
    tar_add_text(&t, "a/1.jpg", "a");
    tar_add_text(&t, "a/1.cls", "3");
    tar_add_pax(&t, "path=a/2.png");
    tar_add_text(&t, "x", "b");
    tar_add_text(&t, "a/2.json", "{\"label\": \"fox\", \"captions\": [\"x\", \"y\"]}");
    tar_add_text(&t, "a/2.txt", "fox");
    tar_end(&t);
    seeds[1] = (struct fuzz_file){t.bytes, t.size};
    return 2;
}

const struct fuzz_target fuzz_tar = {
    .name = "tar", .file = "a.tar", .seeds = tar_seeds, .read = read_tar, .words = tar_words};

/* The index of what was found in archives, in the place where it is looked for. */
static const char *const table_paths[] = {"a/1.jpg", "a/2.png", "none.gif"};
static char index_path[200];

static size_t place_seeds(struct fuzz_file *seeds)
{
    struct tar_file t = {0};
    struct lcl_archived a;
    char **names;
    size_t n;
    int64_t which;
    tar_add_text(&t, "a/1.jpg", "a");
    tar_add_text(&t, "a/2.png", "b");
    tar_end(&t);
    tar_write(&t, fuzz_path("pictures.tar"));
    tar_free(&t);
    char *archive = lcl_strdupf("%s", fuzz_path("pictures.tar"));
    char *cache = lcl_strdupf("%s", fuzz_path("kept"));
    ASSERT_OK(lcl_fs_remove_tree(cache));
    ASSERT_OK(lcl_archived_find(archive, table_paths, NULL, 3, cache, &a, &which));
    lcl_archived_free(&a);
    ASSERT_OK(lcl_fs_list(cache, &names, &n));
    assert_int_equal(n, 1);
    snprintf(index_path, sizeof index_path, "%s/%s", cache, names[0]);
    lcl_fs_list_free(names, n);
    free(archive);
    free(cache);
    seeds[0] = fuzz_whole(index_path);
    return 1;
}

static bool is_file(const char *path, const struct fuzz_file *f)
{
    struct fuzz_file now = fuzz_whole(path);
    bool same = now.size == f->size && memcmp(now.bytes, f->bytes, f->size) == 0;
    free(now.bytes);
    return same;
}

/* One that says nothing of use is made again, which counts as refused here; what it says lies in
 * the archives' list. */
static lcl_status read_places(const char *path, const struct fuzz_file *f)
{
    const struct lcl_decode_options o = {0};
    struct lcl_archived a;
    struct lcl_image image;
    int64_t which;
    (void)path;
    fuzz_write(index_path, f);
    char *archive = lcl_strdupf("%s", fuzz_path("pictures.tar"));
    char *cache = lcl_strdupf("%s", fuzz_path("kept"));
    lcl_status status = lcl_archived_find(archive, table_paths, NULL, 3, cache, &a, &which);
    for (int i = 0; status == LCL_OK && i < 3; i++) {
        assert_true(a.place[i].archive >= -1 && a.place[i].archive < a.n_archives);
        if (a.place[i].archive >= 0)
            if (lcl_archived_read(&a, i, table_paths[i], &o, &image) == LCL_OK)
                lcl_image_free(&image);
    }
    if (status == LCL_OK) lcl_archived_free(&a);
    if (status == LCL_OK && !is_file(index_path, f))
        status = LCL_FAIL(LCL_FORMAT, "%s was made again", index_path);
    free(archive);
    free(cache);
    return status;
}

static const char *const place_words[] = {"\211HDF\r\n\032\n", "OHDR", "BTHD", "TREE",
                                          "\xff\xff\xff\xff",  "\x7f", NULL};
const struct fuzz_target fuzz_places = {.name = "places",
                                        .file = "places.h5",
                                        .seeds = place_seeds,
                                        .read = read_places,
                                        .words = place_words};

static lcl_status read_names(const char *path, const struct fuzz_file *f)
{
    struct lcl_class_names names;
    (void)f;
    LCL_TRY(lcl_class_names_load(path, &names));
    for (int32_t i = 0; i < names.n; i++) {
        const struct lcl_class_name *c = &names.list[i];
        assert_true(c->name[0] && strlen(c->name) < sizeof c->name);
        assert_true(!c->id[0] || lcl_class_names_find(&names, c->id) == c);
    }
    lcl_class_names_free(&names);
    return LCL_OK;
}

static size_t name_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text("n01440764 tench, Tinca tinca\nn02119789 kit fox\n");
    seeds[1] =
        fuzz_text("{\"0\": [\"n01440764\", \"tench\"], \"1\": [\"n02119789\", \"kit_fox\"]}");
    seeds[2] = fuzz_text("[\"a\", \"b\"]");
    return 3;
}

const struct fuzz_target fuzz_class_names = {.name = "class_names",
                                             .file = "names.txt",
                                             .seeds = name_seeds,
                                             .read = read_names,
                                             .words = fuzz_json_words};
