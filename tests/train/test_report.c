/* lcl report: a page stands on its own, escapes what files say, says what is missing, and survives
 * damaged input. */
#include "tests/support/support.h"

#include <math.h>

#include "core/fs.h"
#include "data/image.h"
#include "train/episode_view.h"
#include "train/metrics.h"
#include "train/report.h"

static struct lcl_results results; /* too large for a stack frame */

static char *fresh_dir(void)
{
    static int n;
    char *dir = lcl_strdupf("%s/demo%d", temp_dir(), n++);
    assert_non_null(dir);
    ASSERT_OK(lcl_fs_mkdirs(dir));
    return dir;
}

static void write_in(const char *dir, const char *name, const void *data, size_t size)
{
    char *path = lcl_strdupf("%s/%s", dir, name);
    ASSERT_OK(lcl_fs_write_atomic(path, data, size));
    free(path);
}
static void write_text(const char *dir, const char *name, const char *text)
{
    write_in(dir, name, text, strlen(text));
}

/* Writes the report of dir and returns the page. */
static char *report(const char *dir)
{
    char *path = lcl_strdupf("%s/report.html", dir), *page;
    size_t size;
    ASSERT_OK(lcl_report_write(dir, path));
    ASSERT_OK(lcl_fs_read(path, 64 << 20, &page, &size));
    free(path);
    return page;
}

static int count(const char *page, const char *what)
{
    int n = 0;
    for (const char *p = page; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}
static void assert_has(const char *page, const char *what)
{
    if (!strstr(page, what)) fail_msg("the page lacks \"%s\"", what);
}
static void assert_lacks(const char *page, const char *what)
{
    if (strstr(page, what)) fail_msg("the page has \"%s\"", what);
}

static void log_run(const char *dir, const char *name, const char *stage)
{
    char *run = lcl_strdupf("%s/%s", dir, name);
    struct lcl_metrics *m;
    ASSERT_OK(lcl_metrics_open(run, -1, false, &m));
    for (int step = 10; step <= 200; step += 10) {
        const struct lcl_metric train[] = {
            {"loss", 4.0 / step}, {"label_accuracy", step / 250.0}, {"tokens_per_s", 54321}};
        ASSERT_OK(lcl_metrics_log(m, "train", stage, step, train, 3));
    }
    const struct lcl_metric eval[] = {{"shots", 2}, {"greedy", 0.8125}};
    ASSERT_OK(lcl_metrics_log(m, "eval", stage, 200, eval, 2));
    const struct lcl_metric end[] = {{"steps", 200}, {"seconds", 75}};
    ASSERT_OK(lcl_metrics_log(m, "stage", stage, 200, end, 2));
    lcl_metrics_close(m);
    write_text(run, "config.yaml", "seed: 1 # <script>alert(1)</script>\n");
    free(run);
}

static void put(const char *row, int64_t shots, double greedy, double likelihood)
{
    struct lcl_result_cell *c;
    ASSERT_OK(lcl_results_cell(&results, row, shots, &c));
    c->greedy = greedy;
    c->likelihood = likelihood;
    c->ci95[0] = 0.4375;
    c->ci95[1] = 0.96875;
    c->episodes = 1000;
}

static void save_results(const char *dir)
{
    char *path = lcl_strdupf("%s/results.json", dir);
    memset(&results, 0, sizeof results);
    put("lcl", 2, 0.8125, 0.84375);
    put("lcl", 16, 0.9375, 0.953);
    put("before", 16, 0.002, 0.5078125);
    put("shuffled_labels", 16, 0.46875, 0.484375);
    put("prototype", 2, (double)NAN, 0.90625);
    ASSERT_OK(lcl_results_seconds(&results, "a & b", 70));
    ASSERT_OK(lcl_results_save(&results, path));
    free(path);
}

static void make_png(uint8_t **png, size_t *size)
{
    uint8_t pixels[4 * 4 * 3];
    memset(pixels, 90, sizeof pixels);
    const struct lcl_image image = {.width = 4, .height = 4, .channels = 3, .pixels = pixels};
    ASSERT_OK(lcl_image_encode_png(&image, png, size));
}

static void save_episodes(const char *dir, int n)
{
    char *path = lcl_strdupf("%s/episodes.jsonl", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    uint8_t *png;
    size_t size;
    make_png(&png, &size);
    for (int i = 0; i < n; i++) {
        struct lcl_view_picture support[2] = {{-1, "goblin", "xyzzy", png, size},
                                              {-1, "<i>elf</i>", "<i>elf</i>", png, size}};
        struct lcl_episode_view v = {.row = "lcl",
                                     .sample = i,
                                     .shots = 2,
                                     .n_support = 2,
                                     .support = support,
                                     .query = {-1, "goblin", "", png, size},
                                     .expected = "xyzzy",
                                     .other = "<i>elf</i>",
                                     .answer = (char *)"there is \"xyzzy\" <b>in</b> the image.",
                                     .said = "xyzzy",
                                     .correct = i % 2 == 0,
                                     .logprob = {-1, -2}};
        ASSERT_OK(lcl_episode_view_write(f, &v));
    }
    assert_int_equal(fclose(f), 0);
    free(png);
    free(path);
}

static char *full_demo(void)
{
    char *dir = fresh_dir();
    uint8_t *png;
    size_t size;
    log_run(dir, "vision", "vision");
    log_run(dir, "link", "2-way");
    save_results(dir);
    save_episodes(dir, 14);
    make_png(&png, &size);
    write_in(dir, "neighbors.png", png, size);
    free(png);
    return dir;
}

static void a_demo_has_every_section(void **state)
{
    (void)state;
    char *dir = full_demo(), *page = report(dir);
    assert_has(page, "<strong>81.2 %</strong> of the episodes with 2 support pictures");
    assert_has(page, "<strong>93.8 %</strong> with 16");
    assert_has(page, "<strong>50.8 %</strong>, with shuffled support labels in <strong>48.4 %");
    assert_has(page,
               "nearest prototype on vision features, 2 shots: 90.6 % (95 % interval 43.8 to");
    assert_has(page, "before link-context training: at most 0.2 %, below the axis");
    assert_has(page, "<h3>vision</h3>");
    assert_has(page, "<h3>2-way</h3>");
    assert_true(strstr(page, "<h3>vision</h3>") < strstr(page, "<h3>2-way</h3>"));
    assert_has(page, "200 steps");
    assert_has(page, "held-out classes, 2 shots");
    assert_int_equal(count(page, "<article class=\"card ep "), LCL_REPORT_EPISODES);
    assert_int_equal(count(page, "&#10003; right"), LCL_REPORT_EPISODES / 2);
    assert_int_equal(count(page, "&#10007; wrong"), LCL_REPORT_EPISODES / 2);
    assert_has(page, "12 of 14 in episodes.jsonl");
    assert_has(page, "there is &quot;<mark>xyzzy</mark>&quot;");
    assert_has(page, "xyzzy stands for goblin");
    assert_has(page, "id=\"neighbors\"");
    assert_has(page, "1 m 10 s");
    assert_lacks(page, "id=\"notes\""); /* nothing is missing */
    free(page);
    free(dir);
}

static void the_page_stands_on_its_own(void **state)
{
    (void)state;
    char *dir = full_demo(), *page = report(dir);
    assert_lacks(page, "http://");
    assert_lacks(page, "https://");
    assert_lacks(page, "<script");
    assert_lacks(page, "<link");
    assert_lacks(page, "url(");
    assert_int_equal(count(page, "src=\""), count(page, "src=\"data:image/png;base64,"));
    assert_int_equal(count(page, "<img"), count(page, "alt=\""));
    assert_lacks(page, "nan");
    free(page);
    free(dir);
}

static void text_from_files_is_escaped(void **state)
{
    (void)state;
    char *dir = full_demo(), *page = report(dir);
    assert_lacks(page, "<i>elf");
    assert_lacks(page, "<b>in</b>");
    assert_has(page, "&lt;i&gt;elf&lt;/i&gt;");
    assert_has(page, "&lt;script&gt;alert(1)&lt;/script&gt;");
    assert_has(page, "a &amp; b");
    free(page);
    free(dir);
}

static void missing_pieces_are_noted(void **state)
{
    (void)state;
    char *dir = fresh_dir();
    log_run(dir, ".", "2-way"); /* a single run folder */
    char *page = report(dir);
    assert_has(page, "<h3>2-way</h3>");
    assert_has(page, "No results.json");
    assert_has(page, "No neighbors.png");
    assert_has(page, "episodes are left out");
    assert_has(page, "1 m 15 s"); /* from the stage line */
    assert_has(page, "No evaluation of the trained model");
    free(page);
    free(dir);
}

static void damaged_pieces_are_noted(void **state)
{
    (void)state;
    char *dir = full_demo();
    write_text(dir, "results.json", "{\"lcl\": {\"2\": {\"greedy\": 3}}}");
    write_text(dir, "neighbors.png", "<svg onload=alert(1)>");
    write_text(dir, "episodes.jsonl", "{\"support\": 3}\n");
    write_text(dir, "vision/metrics.jsonl", "garbage\n");
    char *page = report(dir);
    assert_has(page, "&quot;greedy&quot; is not a number in 0..1");
    assert_has(page, "neighbors.png is no PNG picture");
    assert_has(page, "episodes.jsonl:1: &quot;support&quot; is not a list");
    assert_has(page, "vision/metrics.jsonl:1:");
    assert_has(page, "<h3>2-way</h3>");
    assert_lacks(page, "onload");
    free(page);
    free(dir);
}

static void episodes_are_read_back(void **state)
{
    (void)state;
    char *dir = fresh_dir(), *path = lcl_strdupf("%s/episodes.jsonl", dir);
    struct lcl_episode_view *v;
    size_t n, total;
    save_episodes(dir, 3);
    ASSERT_OK(lcl_episode_views_load(path, 2, &v, &n, &total));
    assert_int_equal(n, 2);
    assert_int_equal(total, 3);
    assert_int_equal(v[1].sample, 1);
    assert_string_equal(v[1].support[1].label, "<i>elf</i>");
    assert_string_equal(v[1].answer, "there is \"xyzzy\" <b>in</b> the image.");
    assert_false(v[1].correct);
    assert_true(v[1].logprob[1] == -2);
    uint8_t *png;
    size_t size;
    make_png(&png, &size);
    assert_int_equal(v[0].query.png_size, size);
    assert_memory_equal(v[0].query.png, png, size);
    free(png);
    lcl_episode_views_free(v, n);
    free(path);
    free(dir);
}

/* Every prefix and many single-byte changes of a good file: an error or a value, never a crash
 * (asan, ubsan). */
static void damaged_episode_lines_are_survived(void **state)
{
    (void)state;
    char *dir = fresh_dir(), *path = lcl_strdupf("%s/episodes.jsonl", dir), *good;
    struct lcl_episode_view *v;
    size_t n, total, size;
    save_episodes(dir, 1);
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &good, &size));
    int refused = 0;
    for (size_t i = 0; i < size - 1; i += 3) {
        char was = good[i];
        good[i] = (char)(was ^ (1 << i % 8));
        write_in(dir, "episodes.jsonl", good, size);
        good[i] = was;
        lcl_status status = lcl_episode_views_load(path, 5, &v, &n, &total);
        refused += status != LCL_OK;
        if (status == LCL_OK) lcl_episode_views_free(v, n);
    }
    assert_true(refused > 20);
    free(good);
    free(path);
    free(dir);
}

static void an_empty_folder_is_an_error(void **state)
{
    (void)state;
    char *dir = fresh_dir(), *path = lcl_strdupf("%s/report.html", dir);
    ASSERT_FAILS(lcl_report_write(dir, path), LCL_NOT_FOUND, "neither metrics.jsonl nor");
    assert_false(lcl_fs_exists(path));
    ASSERT_FAILS(lcl_report_write("/nowhere/at/all", path), LCL_NOT_FOUND, "/nowhere/at/all");
    free(path);
    free(dir);
}

static void the_plot_stands_alone(void **state)
{
    (void)state;
    struct lcl_text svg = {0};
    char *dir = fresh_dir();
    save_results(dir); /* fills `results` */
    ASSERT_OK(lcl_plot_accuracy(&results, &svg));
    assert_true(strncmp(svg.data, "<svg xmlns=", 11) == 0);
    assert_has(svg.data, "Greedy answer");
    assert_has(svg.data, "By likelihood");
    assert_has(svg.data, "after link-context training, 16 shots: 93.8 %");
    assert_lacks(svg.data, "nan");
    lcl_text_free(&svg);
    memset(&results, 0, sizeof results);
    ASSERT_FAILS(lcl_plot_accuracy(&results, &svg), LCL_NOT_FOUND, "no accuracy");
    lcl_text_free(&svg);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_demo_has_every_section),
                                       cmocka_unit_test(the_page_stands_on_its_own),
                                       cmocka_unit_test(text_from_files_is_escaped),
                                       cmocka_unit_test(missing_pieces_are_noted),
                                       cmocka_unit_test(damaged_pieces_are_noted),
                                       cmocka_unit_test(episodes_are_read_back),
                                       cmocka_unit_test(damaged_episode_lines_are_survived),
                                       cmocka_unit_test(an_empty_folder_is_an_error),
                                       cmocka_unit_test(the_plot_stands_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
