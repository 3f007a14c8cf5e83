/* lcl inspect --sheet: a page of rows and episodes, with boxes where they belong. */
#include <sys/stat.h>

#include "core/fs.h"
#include "data/image.h"
#include "tests/support/command.h"
#include "tests/support/tiny.h"
#include "train/text.h"

/* A picture of 60 x 40 whose columns 15..29 in rows 10..19 are white, else black. */
static void write_scene(const char *path)
{
    struct lcl_image im = {60, 40, 3, calloc(60 * 40, 3)};
    uint8_t *png;
    size_t size;
    assert_non_null(im.pixels);
    for (int y = 10; y < 20; y++) memset(im.pixels + 3 * (60 * y + 15), 255, 3 * 15);
    ASSERT_OK(lcl_image_encode_png(&im, &png, &size));
    ASSERT_OK(lcl_fs_write_atomic(path, png, size));
    free(png);
    lcl_image_free(&im);
}

static char *page_of(const char *path)
{
    char *html;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 24, &html, &size));
    return html;
}

static int count(const char *html, const char *what)
{
    int n = 0;
    for (; (html = strstr(html, what)); html += strlen(what)) n++;
    return n;
}

static void has(const char *html, const char *what)
{
    if (!strstr(html, what)) fail_msg("the page lacks %s", what);
}

/* The number-th picture of a page. */
static struct lcl_image picture_of(const char *html, int number)
{
    static const char before[] = "data:image/png;base64,";
    const struct lcl_decode_options plain = {0};
    struct lcl_image im;
    uint8_t *png;
    size_t size;
    for (int i = 0; i <= number; i++) {
        html = strstr(html, before);
        assert_non_null(html);
        html += sizeof before - 1;
    }
    ASSERT_OK(lcl_base64_decode(html, strcspn(html, "\""), &png, &size));
    ASSERT_OK(lcl_image_decode(png, size, "page", &plain, &im));
    free(png);
    return im;
}

static bool is(const struct lcl_image *im, int x, int y, int r, int g, int b)
{
    const uint8_t *p = im->pixels + 3 * (y * im->width + x);
    return p[0] == r && p[1] == g && p[2] == b;
}

static void boxes_of_rows(void **state)
{
    (void)state;
    mkdir(at("pictures"), 0777);
    write_scene(at("pictures/1.png"));
    tiny_file("t.jsonl",
              "{\"image_id\": 1, \"sentence\": \"<ph_st>a <white> one<ph_ed>, <ph_st>all<ph_ed>\", "
              "\"boxes\": [[15, 10, 30, 20], [0, 0, 60, 40]], \"boxes_seq\": [[0], [0, 1]]}\n");
    SUCCEEDS("pack --format flickr --image-name {id}.png --in %s --images %s --out %s",
             at("t.jsonl"), at("pictures"), at("f.h5"));
    SUCCEEDS("inspect %s --rows 1 --sheet %s --set vision.image_size=60", at("f.h5"),
             at("page.html"));
    says("page.html");
    char *html = page_of(at("page.html"));
    has(html, "a &lt;white&gt; one [<span style=\"color:rgb(198,40,40)\">0.250,0.333,0.500,0.500"
              "</span><b class=m style=\"background:rgb(198,40,40)\">1</b>], all [<span ");
    has(html, ";<span style=\"color:rgb(0,104,168)\">0.000,0.167,1.000,0.833</span>");
    has(html, "<b class=i>picture 1</b>");
    has(html, "ASSISTANT:<mark> a ");
    has(html, "&lt;/s&gt;</mark></p>");
    assert_int_equal(count(html, "<mark>"), 2); /* and the one in the legend */
    struct lcl_image im = picture_of(html, 0);
    assert_int_equal(im.width, 480); /* 60 pixels, each 8 wide: [0.25, 0.5] is 120..239 */
    assert_true(is(&im, 120, 220, 198, 40, 40) && is(&im, 237, 220, 198, 40, 40));
    assert_true(is(&im, 200, 160, 198, 40, 40) && is(&im, 200, 239, 198, 40, 40));
    assert_true(is(&im, 119, 220, 255, 255, 255) && is(&im, 240, 220, 255, 255, 255));
    assert_true(is(&im, 200, 200, 255, 255, 255)); /* the white that it frames */
    assert_true(is(&im, 0, 300, 0, 104, 168) && is(&im, 400, 80, 0, 104, 168));
    assert_true(is(&im, 300, 200, 0, 0, 0));
    assert_false(is(&im, 300, 40, 0, 0, 0)); /* the padding above */
    lcl_image_free(&im);
    free(html);
}

static void points_of_rows(void **state)
{
    (void)state;
    mkdir(at("dots"), 0777);
    write_scene(at("dots/1.png"));
    tiny_file("p.jsonl", "{\"file_path\": \"1.png\", \"question\": \"What is here?\", \"answer\": "
                         "\"[black] [2.5,1.0] [0.5]\", \"point\": [30, 20]}\n");
    SUCCEEDS("pack --format point --in %s --images %s --out %s", at("p.jsonl"), at("dots"),
             at("p.h5"));
    SUCCEEDS("inspect %s --rows 1 --sheet %s --set vision.image_size=60", at("p.h5"), at("p.html"));
    char *html = page_of(at("p.html"));
    has(html, "[<span style=\"color:rgb(198,40,40)\">0.500,0.500</span>");
    has(html, "[black] [2.5,1.0] [0.5]"); /* no places */
    assert_int_equal(count(html, "<b class=m "), 1);
    struct lcl_image im = picture_of(html, 0);
    assert_true(is(&im, 240, 240, 198, 40, 40) && is(&im, 232, 240, 198, 40, 40));
    assert_false(is(&im, 232, 250, 198, 40, 40));
    lcl_image_free(&im);
    free(html);
}

static void episodes(void **state)
{
    (void)state;
    char yaml[4096];
    snprintf(yaml, sizeof yaml, "%s\noutput_dir: %s\n", tiny_yaml(), at("run"));
    const char *file = tiny_file("episodes.yaml", yaml);
    static const char *const supervise[] = {"last", "repeats", "all"};
    static const int want[] = {1, 3, 5}; /* of 4 shots of two classes, and the query */
    for (int i = 0; i < 3; i++) {
        SUCCEEDS("inspect %s --episodes 2 --sheet %s --set data.shots=4 --set data.supervise=%s "
                 "--set data.queries=1",
                 file, at("e.html"), supervise[i]);
        char *html = page_of(at("e.html"));
        assert_int_equal(count(html, "<mark>"), 1 + 2 * want[i]);
        assert_int_equal(count(html, "<img "), 10);
        assert_int_equal(count(html, "<b class=i>picture 5</b>"), 2);
        has(html, "<h2>episode 0: 4 shots</h2>");
        free(html);
    }
}

/* Any-shot conversations, with pictures of the classes' pack and, of boxes_of_rows, of rows. */
static void conversations(void **state)
{
    (void)state;
    char yaml[4096];
    snprintf(yaml, sizeof yaml,
             "%s\noutput_dir: %s\ndata.strategy: any-shot\ndata.sources: \"episodes=1e6,%s=1\"\n"
             "data.turns: 5\ndata.min_turns: 5\n",
             tiny_yaml(), at("run"), at("f.h5"));
    const char *file = tiny_file("any-shot.yaml", yaml);
    SUCCEEDS("inspect %s --episodes 2 --sheet %s --set data.tasks=classes", file, at("a.html"));
    char *html = page_of(at("a.html"));
    assert_int_equal(count(html, "<mark>"), 1 + 2 * 5);
    assert_int_equal(count(html, "<img "), 10);
    has(html, "<h2>conversation 1: 5 turns</h2>");
    free(html);
    SUCCEEDS("inspect %s --episodes 20 --json --sheet %s --set data.tasks=classes,rows "
             "--set data.coherence=none",
             file, at("a.html"));
    int rows = count(output, "\"task\":\"rows\"");
    html = page_of(at("a.html"));
    assert_true(rows > 5);
    assert_int_equal(count(html, ": 1.png</figcaption>"), rows);
    assert_int_equal(count(html, "<img "), rows + count(output, "\"task\":\"classes\""));
    free(html);
    SUCCEEDS("inspect %s --episodes 1 --sheet %s --set data.tasks=rows --set "
             "vision.image_size=40 --set vision.patch_size=8",
             file, at("a.html"));
    html = page_of(at("a.html"));
    struct lcl_image im = picture_of(html, 0); /* cut to columns 10..49 */
    assert_true(is(&im, 10, 14, 255, 255, 255) && is(&im, 14, 14, 255, 255, 255));
    assert_true(is(&im, 30, 14, 0, 0, 0) && is(&im, 10, 30, 0, 0, 0));
    lcl_image_free(&im);
    free(html);
    SUCCEEDS("inspect %s --episodes 1 --set data.sources=%s", file, at("f.h5"));
    says("sample 0, step 0, lane 0: a row");
}

/* Samples of several kinds, each as its own. */
static void mixtures(void **state)
{
    (void)state;
    char yaml[4096];
    snprintf(yaml, sizeof yaml,
             "%s\noutput_dir: %s\ndata.strategy: mix\n"
             "data.sources: \"2-way=1,jigsaw=1,%s=1\"\ndata.mixing: even\n",
             tiny_yaml(), at("run"), at("f.h5"));
    const char *file = tiny_file("mix.yaml", yaml);
    SUCCEEDS("inspect %s --episodes 4 --sheet %s --set data.shots=4 --set data.queries=1", file,
             at("m.html"));
    says("sample 1, step 0, lane 0: a row");
    char *html = page_of(at("m.html"));
    has(html, "<h2>sample 0: 2-way, 4 shots</h2>");
    has(html, "<h2>sample 2: jigsaw, ");
    assert_int_equal(count(html, "f.h5, row 0</h2>"), 2);
    assert_int_equal(count(html, ": 1.png</figcaption>"), 2);
    assert_int_equal(count(html, "<b class=m "), 2 * 3); /* the boxes of its sentence */
    assert_int_equal(count(html, "<h2>"), 4);
    free(html);
    /* Without rows among the sources, or any source at all, episodes are called what they were. */
    SUCCEEDS("inspect %s --episodes 2 --sheet %s --set data.strategy=2-way --set data.sources=",
             file, at("m.html"));
    html = page_of(at("m.html"));
    has(html, "<h2>episode 1: 4 shots</h2>");
    free(html);
    FAILS("holds no rows", "inspect %s --episodes 2 --sheet %s --set data.sources=%s", file,
          at("m.html"), tiny_pack());
}

static void what_is_refused(void **state)
{
    (void)state;
    FAILS("--sheet shows --episodes N or --rows N", "inspect %s --sheet %s", tiny_pack(),
          at("x.html"));
    FAILS("wanted a name.html", "inspect %s --rows 1 --sheet %s", at("f.h5"), at("x.png"));
    FAILS("cannot write", "inspect %s --rows 1 --sheet %s", at("f.h5"), at("none/x.html"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_of_rows), cmocka_unit_test(points_of_rows),
        cmocka_unit_test(episodes),      cmocka_unit_test(conversations),
        cmocka_unit_test(mixtures),      cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
