/* Jigsaws: laws by chi-square with p > 0.01 over fixed seeds, answers against the tiles themselves,
 * and what is cut, pixel for pixel. */
#include "data/jigsaw.h"

#include <jansson.h>

#include "data/policy.h"
#include "tests/data/fake_pack.h"
#include "tests/support/tiny.h"

enum { DRAWS = 20000 };

struct world {
    struct fake fake;
    struct lcl_sampler sampler;
};

static void open_world(struct world *w, enum lcl_reading reading)
{
    fake_make(&w->fake, 12, 4, 5);
    w->fake.config.data_strategy = LCL_JIGSAW;
    w->fake.config.data_reading = (int)reading;
    ASSERT_OK(lcl_sampler_init(&w->sampler, &w->fake.config, &w->fake.pack, NULL, LCL_SPLIT_TRAIN));
}

static void close_world(struct world *w)
{
    lcl_sampler_free(&w->sampler);
    fake_free(&w->fake);
}

static void assert_even(const char *what, const int64_t *count, int n)
{
    double share[128];
    for (int i = 0; i < n; i++) share[i] = 1;
    double x = chi_square(count, share, n), limit = chi_square_quantile(n - 1, 2.3263);
    if (!(x < limit)) fail_msg("%s: chi-square %g of %d cells, limit %g", what, x, n, limit);
}

/* The pieces are the tiles of one picture, each once; piece i says i. */
static void check_pieces(const struct lcl_episode *e, int grid)
{
    bool seen[LCL_JIGSAW_MOST_TILES] = {false};
    char number[16];
    for (int i = 0; i < e->n_shots; i++) {
        int tile = lcl_jigsaw_tile_of(e->shots[i].view);
        assert_true(lcl_jigsaw_is_view(e->shots[i].view));
        assert_int_equal(lcl_jigsaw_grid_of(e->shots[i].view), grid);
        assert_int_equal(e->shots[i].image, e->shots[0].image);
        assert_in_range(tile, 0, e->n_shots - 1);
        assert_false(seen[tile]);
        seen[tile] = true;
        snprintf(number, sizeof number, "%d", i + 1);
        assert_string_equal(e->said[i], number);
    }
}

/* The cells that an answer names, of so many columns; every one of them once. */
static void read_cells(const struct lcl_episode *e, const char *answer, const char *format,
                       int columns, int *cell)
{
    bool seen[LCL_JIGSAW_MOST_TILES] = {false};
    for (int i = 0; i < e->n_shots; i++) {
        int x, y, n = 0;
        answer += strspn(answer, ";, [");
        assert_int_equal(sscanf(answer, format, &x, &y, &n), 2);
        assert_true(n > 0);
        answer += n;
        cell[i] = y * columns + x;
        assert_in_range(x, 0, columns - 1);
        assert_in_range(cell[i], 0, e->n_shots - 1);
        assert_false(seen[cell[i]]);
        seen[cell[i]] = true;
    }
}

struct counts {
    int64_t tiles[17], wide[2], first[16], first_cell[16], positive[12], image[5], answer[24];
};

/* Which of the 24 orders of four cells. */
static int order_of_four(const int *cell)
{
    int k = 0;
    for (int i = 0; i < 4; i++) {
        int below = 0;
        for (int j = i + 1; j < 4; j++) below += cell[j] < cell[i];
        k = k * (4 - i) + below;
    }
    return k;
}

static void count(const struct lcl_episode *e, const int *cell, struct counts *c)
{
    int n = e->n_shots, grid = lcl_jigsaw_grid_of(e->shots[0].view);
    c->tiles[n]++;
    if (n == 6 || n == 12) c->wide[lcl_jigsaw_grid(grid).columns > lcl_jigsaw_grid(grid).rows]++;
    if (n == 16) c->first[lcl_jigsaw_tile_of(e->shots[0].view)]++;
    if (n == 16) c->first_cell[cell[0]]++;
    if (n == 4) c->answer[order_of_four(cell)]++;
    c->positive[e->class_id[0]]++;
    c->image[e->shots[0].image % 5]++;
}

static void check_counts(const struct counts *c)
{
    const int64_t tiles[] = {c->tiles[4], c->tiles[6], c->tiles[9], c->tiles[12], c->tiles[16]};
    assert_even("numbers of tiles", tiles, 5);
    assert_even("wide or high", c->wide, 2);
    assert_even("first tile of 16", c->first, 16);
    assert_even("first cell of 16", c->first_cell, 16);
    assert_even("orders of four cells", c->answer, 24);
    assert_even("classes", c->positive, 12);
    assert_even("pictures of a class", c->image, 5);
}

static void test_law_of_the_paper(void **state)
{
    (void)state;
    static struct counts c;
    struct world w;
    open_world(&w, LCL_READING_PAPER);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        int place[LCL_JIGSAW_MOST_TILES], cell[LCL_JIGSAW_MOST_TILES];
        ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, i, 0, &e));
        int grid = lcl_jigsaw_grid_of(e.shots[0].view);
        assert_int_equal(lcl_jigsaw_grid(grid).columns * lcl_jigsaw_grid(grid).rows, e.n_shots);
        check_pieces(&e, grid);
        assert_int_equal(e.queries[0].image, e.shots[0].image);
        assert_int_equal(lcl_jigsaw_tile_of(e.queries[0].view), -1);
        assert_false(lcl_episode_coincides(&e));
        read_cells(&e, e.said[e.n_shots], "%d,%d]%n", lcl_jigsaw_grid(grid).columns, cell);
        lcl_jigsaw_places(e.queries[0].view, place);
        for (int k = 0; k < e.n_shots; k++)
            assert_int_equal(cell[k], place[lcl_jigsaw_tile_of(e.shots[k].view)]);
        count(&e, cell, &c);
        lcl_episode_free(&e);
    }
    check_counts(&c);
    close_world(&w);
}

static void test_law_of_the_official_code(void **state)
{
    (void)state;
    static struct counts c;
    struct world w;
    open_world(&w, LCL_READING_OFFICIAL);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        int cell[LCL_JIGSAW_MOST_TILES];
        ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, i, 0, &e));
        int grid = lcl_jigsaw_grid_of(e.shots[0].view);
        const char *answer = e.said[e.n_shots];
        check_pieces(&e, grid);
        assert_int_equal(e.queries[0].view, e.shots[e.n_shots - 1].view);
        assert_true(lcl_episode_coincides(&e));
        assert_memory_equal(answer, "[[", 2);
        assert_string_equal(answer + strlen(answer) - 2, "]]");
        read_cells(&e, answer, "%d, %d]%n", lcl_jigsaw_grid(grid).columns, cell);
        count(&e, cell, &c);
        lcl_episode_free(&e);
    }
    check_counts(&c);
    close_world(&w);
}

/* Several queries are wholes of other orders; a class with one picture will do, and no other. */
static void test_queries_and_small_packs(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    struct lcl_episode e;
    fake_make(&f, 1, 0, 1);
    f.config.data_strategy = LCL_JIGSAW;
    f.config.data_queries = 3;
    ASSERT_OK(lcl_sampler_init(&s, &f.config, &f.pack, NULL, LCL_SPLIT_TRAIN));
    ASSERT_OK(lcl_sampler_draw(&s, 0, 1, 0, &e));
    assert_int_equal(e.n_queries, 3);
    assert_int_not_equal(e.queries[0].view, e.queries[1].view);
    assert_int_equal(lcl_jigsaw_tile_of(e.queries[2].view), -1);
    lcl_episode_free(&e);
    lcl_sampler_free(&s);
    fake_free(&f);
}

/* ---- what is printed, and what is learned ---- */

static int64_t pair(const json_t *list, size_t i, size_t k)
{
    return json_integer_value(json_array_get(json_array_get(list, i), k));
}

static void test_json_line(void **state)
{
    (void)state;
    struct world w;
    struct lcl_tokenizer *t;
    struct lcl_batch_builder *b;
    struct lcl_episode e;
    char *line, wanted[64];
    open_world(&w, LCL_READING_PAPER);
    ASSERT_OK(lcl_tokenizer_for_config(&w.fake.config, &t));
    ASSERT_OK(lcl_batch_builder_for(&w.fake.config, t, 2, &b));
    ASSERT_OK(lcl_sampler_draw(&w.sampler, 0, 2, 0, &e));
    ASSERT_OK(lcl_episode_json(b, &w.sampler, &e, &(struct lcl_episode_place){.with_tokens = true},
                               &line));
    json_t *row = json_loads(line, 0, NULL);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "strategy")), "jigsaw");
    const json_t *places = json_array_get(json_object_get(row, "places"), 0);
    assert_int_equal(json_array_size(places), e.n_shots);
    assert_int_equal(json_array_size(json_object_get(row, "tiles")), e.n_shots);
    snprintf(wanted, sizeof wanted, "[%d,%d];", (int)pair(places, 0, 0), (int)pair(places, 0, 1));
    assert_memory_equal(e.said[e.n_shots], wanted, strlen(wanted));
    const char *text = json_string_value(json_object_get(row, "text"));
    assert_non_null(strstr(text, "\"1\""));
    assert_non_null(strstr(text, e.said[e.n_shots]));
    json_decref(row);
    free(line);
    ASSERT_OK(lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0));
    const struct lcl_batch *m = lcl_batch_builder_get(b);
    assert_int_equal(m->n_images, e.n_shots + 1); /* distinct views of one picture */
    ASSERT_OK(lcl_tokenizer_decode(t, m->target_S, m->S, false, &line));
    assert_non_null(strstr(line, e.said[e.n_shots]));
    free(line);
    lcl_episode_free(&e);
    lcl_batch_builder_free(b);
    lcl_tokenizer_free(t);
    close_world(&w);
}

/* ---- cutting ---- */

static struct lcl_image numbered(int width, int height, int channels)
{
    struct lcl_image p = {width, height, channels, NULL};
    p.pixels = malloc((size_t)(width * height * channels));
    assert_non_null(p.pixels);
    for (int i = 0; i < width * height * channels; i++)
        p.pixels[i] = (uint8_t)(i / channels % 251 + i % channels);
    return p;
}

static void assert_tile_at(const struct lcl_image *of, int x, int y, const struct lcl_image *in,
                           int from_x, int from_y, int w, int h)
{
    for (int row = 0; row < h; row++)
        assert_memory_equal(of->pixels + ((y + row) * of->width + x) * of->channels,
                            in->pixels + ((from_y + row) * in->width + from_x) * in->channels,
                            (size_t)(w * in->channels));
}

static void test_cuts(void **state)
{
    (void)state;
    for (int grid = 0; grid < LCL_JIGSAW_GRIDS; grid++) {
        struct lcl_jigsaw_grid g = lcl_jigsaw_grid(grid);
        struct lcl_image in = numbered(14, 11, grid % 2 ? 3 : 4), out;
        int w = 14 / g.columns, h = 11 / g.rows, place[LCL_JIGSAW_MOST_TILES];
        for (int i = 0; i < g.columns * g.rows; i++) {
            ASSERT_OK(lcl_jigsaw_cut(&in, lcl_jigsaw_tile(grid, i), &out));
            assert_int_equal(out.width, w);
            assert_int_equal(out.height, h);
            assert_tile_at(&out, 0, 0, &in, i % g.columns * w, i / g.columns * h, w, h);
            lcl_image_free(&out);
        }
        int32_t whole = lcl_jigsaw_whole(grid, 12345);
        lcl_jigsaw_places(whole, place);
        ASSERT_OK(lcl_jigsaw_cut(&in, whole, &out));
        assert_int_equal(out.width, w * g.columns);
        assert_int_equal(out.height, h * g.rows);
        for (int i = 0; i < g.columns * g.rows; i++)
            assert_tile_at(&out, place[i] % g.columns * w, place[i] / g.columns * h, &in,
                           i % g.columns * w, i / g.columns * h, w, h);
        lcl_image_free(&out);
        lcl_image_free(&in);
    }
}

static void test_bad_cuts(void **state)
{
    (void)state;
    struct lcl_image in = numbered(9, 3, 3), out = {0};
    ASSERT_FAILS(lcl_jigsaw_cut(&in, lcl_jigsaw_tile(6, 0), &out), LCL_RANGE,
                 "9 x 3 pixels cannot be cut in 4 x 4 tiles");
    ASSERT_FAILS(lcl_jigsaw_cut(&in, 3, &out), LCL_RANGE, "no view of a tile");
    ASSERT_FAILS(lcl_jigsaw_cut(&in, lcl_jigsaw_tile(0, 4), &out), LCL_RANGE, "no view of a tile");
    ASSERT_FAILS(lcl_jigsaw_cut(&in, lcl_jigsaw_tile(LCL_JIGSAW_GRIDS, 0), &out), LCL_RANGE,
                 "no view of a tile");
    assert_null(out.pixels);
    lcl_image_free(&in);
}

/* Views of several pictures of a pack, each as decoded, cut and prepared alone. */
static void test_pixels_of_a_pack(void **state)
{
    (void)state;
    enum { N = 7, S = 16 };
    const int64_t image[N] = {4, 4, 4, 2, 2, 4, 0};
    int32_t view[N];
    static float out[N][3 * S * S], alone[3 * S * S];
    struct lcl_pack pack;
    struct lcl_preprocess p;
    lcl_preprocess_defaults(&p, S);
    ASSERT_OK(lcl_pack_open(tiny_pack(), &pack));
    for (int i = 0; i < N; i++)
        view[i] =
            i % 3 == 2 ? lcl_jigsaw_whole(i, 99) : lcl_jigsaw_tile(i % LCL_JIGSAW_GRIDS, i % 4);
    ASSERT_OK(lcl_jigsaw_read_pixels(&pack, image, view, N, &p, out[0]));
    for (int i = 0; i < N; i++) {
        struct lcl_decode_options o = {.composite_alpha = true, .apply_exif = true};
        struct lcl_image whole, cut;
        memcpy(o.background, p.background, 3);
        ASSERT_OK(lcl_pack_read_image(&pack, image[i], &o, &whole));
        ASSERT_OK(lcl_jigsaw_cut(&whole, view[i], &cut));
        ASSERT_OK(lcl_preprocess_image(&cut, &p, alone));
        assert_memory_equal(out[i], alone, sizeof alone);
        lcl_image_free(&cut);
        lcl_image_free(&whole);
    }
    lcl_pack_close(&pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_law_of_the_paper),
        cmocka_unit_test(test_law_of_the_official_code),
        cmocka_unit_test(test_queries_and_small_packs),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_bad_cuts),
        cmocka_unit_test(test_pixels_of_a_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
