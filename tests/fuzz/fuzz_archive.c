/* Tar archives as sources of pictures, and the files that name their classes. */
#include "tests/fuzz/fuzz.h"

#include "data/class_names.h"
#include "data/pack_source.h"
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

static lcl_status read_once(const char *path, const struct fuzz_file *f)
{
    struct lcl_tar t;
    fuzz_write(path, f);
    lcl_status listed = list_sources(path);
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
    tar_add_text(&t, "a/2.json", "{\"label\": \"fox\"}");
    tar_end(&t);
    seeds[1] = (struct fuzz_file){t.bytes, t.size};
    return 2;
}

const struct fuzz_target fuzz_tar = {
    .name = "tar", .file = "a.tar", .seeds = tar_seeds, .read = read_tar, .words = tar_words};

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
