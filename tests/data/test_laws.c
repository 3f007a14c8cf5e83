/* Laws of the strategies over 100,000 draws from a train table, by chi-square with p > 0.01: seeds
 * are fixed, so a verdict never changes. A generated table; the official one where it is. */
#include <math.h>

#include "data/table.h"
#include "tests/data/fake_pack.h"
#include "tests/support/table.h"

enum { DRAWS = 100000, CLASSES = 60, SAMPLES = 20, NEIGHBORS = 40, RANKS = 36 };

struct world {
    struct lcl_config config;
    struct lcl_pack pack;
    struct lcl_neighbors neighbors;
    struct lcl_sampler sampler;
};

static void open_file(struct world *w, const char *path, bool neighbor_pictures)
{
    struct lcl_table_flaws flaws;
    memset(w, 0, sizeof *w);
    lcl_config_defaults(&w->config);
    w->config.data_duplicate_names = 1;
    ASSERT_OK(lcl_pack_open_table(
        &(struct lcl_table_options){
            .table = path, .images = "none", .neighbor_pictures = neighbor_pictures},
        &w->pack, &w->neighbors, &flaws));
}

static const char *generated(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/table.jsonl", temp_dir());
    write_table(path, (struct table_size){CLASSES, SAMPLES, NEIGHBORS});
    return path;
}

static void start(struct world *w)
{
    lcl_sampler_free(&w->sampler);
    ASSERT_OK(lcl_sampler_init(&w->sampler, &w->config, &w->pack, &w->neighbors, LCL_SPLIT_TRAIN));
}

static void close_world(struct world *w)
{
    lcl_sampler_free(&w->sampler);
    lcl_neighbors_free(&w->neighbors);
    lcl_pack_close(&w->pack);
}

static void draw(const struct world *w, uint64_t sample, struct lcl_episode *e)
{
    ASSERT_OK(lcl_sampler_draw(&w->sampler, 0, sample, 0, e));
}

/* p > 0.01 against these shares. */
static void assert_law(const char *what, const int64_t *count, const double *share, int n)
{
    double x = chi_square(count, share, n), limit = chi_square_quantile(n - 1, 2.3263);
    if (!(x < limit)) fail_msg("%s: chi-square %g of %d cells, limit %g", what, x, n, limit);
}

static void assert_even(const char *what, const int64_t *count, int n)
{
    double share[1024];
    assert_true(n <= 1024);
    for (int i = 0; i < n; i++) share[i] = 1;
    assert_law(what, count, share, n);
}

/* ---- 2-way ---- */

struct counts {
    int64_t rank[RANKS], length[10], letter[26], side[2], first[2], positive[1024];
};

static void count_one(const struct world *w, const struct lcl_episode *e, struct counts *c)
{
    const int32_t *row = w->neighbors.index + (ptrdiff_t)e->class_id[0] * w->neighbors.width;
    size_t n = strlen(e->label[0]);
    assert_in_range(e->neighbor_rank, 1, RANKS);
    assert_int_equal(e->class_id[1], row[e->neighbor_rank - 1]);
    assert_in_range(n, 1, 10);
    assert_int_equal(e->n_shots, 16);
    c->rank[e->neighbor_rank - 1]++;
    c->length[n - 1]++;
    for (size_t i = 0; i < n; i++) c->letter[e->label[0][i] - 'a']++;
    c->side[e->queries[0].way]++;
    c->first[e->shots[0].way]++;
    c->positive[e->class_id[0]]++;
    int positives = 0;
    for (int i = 0; i < e->n_shots; i++) positives += e->shots[i].way == 0;
    assert_int_equal(positives, 8);
    assert_false(lcl_episode_coincides(e));
}

static void check_two_way(struct world *w)
{
    static struct counts c;
    double decay[RANKS];
    memset(&c, 0, sizeof c);
    for (int j = 0; j < RANKS; j++) decay[j] = RANKS - j;
    w->config.data_num_neighbors = RANKS;
    start(w);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        draw(w, i, &e);
        count_one(w, &e, &c);
        lcl_episode_free(&e);
    }
    assert_law("negatives by rank", c.rank, decay, RANKS);
    assert_even("lengths of labels", c.length, 10);
    assert_even("letters of labels", c.letter, 26);
    assert_even("side of the query", c.side, 2);
    assert_even("first support picture", c.first, 2);
    assert_even("positive classes", c.positive, w->pack.n_classes);
}

static void test_two_way(void **state)
{
    (void)state;
    static struct world w;
    open_file(&w, generated(), false);
    check_two_way(&w);
    close_world(&w);
}

static void test_two_way_of_the_official_table(void **state)
{
    (void)state;
    static struct world w;
    open_file(&w, shared_path("data/lcl/train900_pairs.jsonl"), false);
    assert_int_equal(w.pack.n_classes, 900);
    assert_int_equal(w.pack.n_images, 32400);
    check_two_way(&w);
    close_world(&w);
}

/* ---- shots ---- */

/* Counts of episodes by shots in all; the classes' shares differ by one at most. */
static void count_shots(struct world *w, int64_t *count, int most)
{
    memset(count, 0, (size_t)(most + 1) * sizeof *count);
    start(w);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        int64_t of[2] = {0};
        draw(w, i, &e);
        assert_in_range(e.n_shots, 1, most);
        count[e.n_shots]++;
        for (int k = 0; k < e.n_shots; k++) of[e.shots[k].way]++;
        assert_true(llabs(of[0] - of[1]) <= 1);
        lcl_episode_free(&e);
    }
}

static void test_shots_of_the_paper(void **state)
{
    (void)state;
    static struct world w;
    int64_t count[17], pooled[10] = {0};
    double share[10] = {0};
    open_file(&w, generated(), false);
    w.config.data_strategy = LCL_2WAY_RANDOM;
    count_shots(&w, count, 16);
    assert_int_equal(count[1], 0);
    assert_even("2-way-random", count + 2, 15);
    w.config.data_strategy = LCL_2WAY_WEIGHT;
    count_shots(&w, count, 16);
    for (int j = 2; j <= 16; j++) { /* 2..7 shots make up 0.012 %: one cell */
        int cell = j < 8 ? 0 : j - 7;
        pooled[cell] += count[j];
        share[cell] += exp(j - 16);
    }
    assert_law("2-way-weight", pooled, share, 10);
    close_world(&w);
}

static void test_shots_of_the_official_code(void **state)
{
    (void)state;
    static struct world w;
    int64_t count[17], of_class[8];
    double share[8];
    open_file(&w, generated(), true);
    w.config.data_reading = LCL_READING_OFFICIAL;
    w.config.data_shots = 8; /* of each class */
    count_shots(&w, count, 16);
    assert_int_equal(count[16], DRAWS);
    for (int strategy = LCL_2WAY_RANDOM; strategy <= LCL_2WAY_WEIGHT; strategy++) {
        w.config.data_strategy = strategy;
        count_shots(&w, count, 16);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(count[2 * i + 1], 0);
            of_class[i] = count[2 * i + 2];
            share[i] = exp((i + 1) / 2.0);
        }
        assert_law("official random shot", of_class, share, 8);
    }
    close_world(&w);
}

/* ---- pictures of the official code ---- */

static void test_pictures_of_the_official_code(void **state)
{
    (void)state;
    static struct world w;
    int64_t rank[RANKS] = {0}, met[2] = {0}, picture[SAMPLES] = {0};
    double decay[RANKS];
    /* One shot a class: the positive's query is its shot once in SAMPLES, the negative's never. */
    const double coincide[2] = {1 - 0.5 / SAMPLES, 0.5 / SAMPLES};
    for (int j = 0; j < RANKS; j++) decay[j] = RANKS - j;
    open_file(&w, generated(), true);
    w.config.data_reading = LCL_READING_OFFICIAL;
    w.config.data_shots = 1;
    start(&w);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        const char *path;
        char want[64];
        draw(&w, i, &e);
        assert_in_range(e.neighbor_rank, 1, RANKS); /* of 40 in the table */
        rank[e.neighbor_rank - 1]++;
        met[lcl_episode_coincides(&e)]++;
        const struct lcl_shot *negative = &e.shots[e.shots[0].way == 0];
        ASSERT_OK(lcl_pack_image_name(&w.pack, negative->image, &path));
        snprintf(want, sizeof want, "c%d/extra-%d.png", (int)e.class_id[1], (int)e.class_id[0]);
        assert_string_equal(path, want);
        picture[e.queries[0].image % SAMPLES]++;
        lcl_episode_free(&e);
    }
    assert_law("negatives by rank", rank, decay, RANKS);
    assert_law("query in the support set", met, coincide, 2);
    assert_even("pictures of queries", picture, SAMPLES);
    close_world(&w);
}

/* ---- labels ---- */

static void test_wrong_labels(void **state)
{
    (void)state;
    static struct world w;
    int64_t number[2] = {0}, at[16] = {0};
    const double share[2] = {0.25, 0.75};
    open_file(&w, generated(), false);
    w.config.data_shots = 15;
    w.config.data_false_rate = 0.25; /* 3.75 of 15 */
    start(&w);
    for (uint64_t i = 0; i < DRAWS / 10; i++) {
        struct lcl_episode e;
        int wrong = 0;
        draw(&w, i, &e);
        for (int k = 0; k < e.n_shots; k++) {
            bool is_wrong = lcl_episode_shown(&e, k) != e.shots[k].way;
            wrong += is_wrong;
            at[k] += is_wrong;
        }
        assert_in_range(wrong, 3, 4);
        number[wrong - 3]++;
        lcl_episode_free(&e);
    }
    assert_law("number of wrong labels", number, share, 2);
    assert_even("positions of wrong labels", at, 15);
    w.config.data_false_rate = 0;
    w.config.data_false_position = 5;
    for (uint64_t i = 0; i < 100; i++) {
        struct lcl_episode e;
        draw(&w, i, &e);
        for (int k = 0; k < e.n_shots; k++)
            assert_int_equal(lcl_episode_shown(&e, k) != e.shots[k].way, k == 4);
        lcl_episode_free(&e);
    }
    close_world(&w);
}

/* Evaluations have keys of their own; nothing but labels changes. */
static void test_wrong_labels_of_evaluations(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 7, 10);
    f.config.data_false_rate = 1;
    ASSERT_OK(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TEST));
    for (uint64_t i = 0; i < 200; i++) {
        struct lcl_episode right, wrong;
        f.config.eval_false_rate = 0;
        ASSERT_OK(lcl_sampler_draw_eval(&s, 16, i, false, &right));
        f.config.eval_false_rate = 0.5;
        ASSERT_OK(lcl_sampler_draw_eval(&s, 16, i, false, &wrong));
        int n = 0;
        for (int k = 0; k < 16; k++) {
            assert_int_equal(right.shots[k].image, wrong.shots[k].image);
            assert_int_equal(lcl_episode_shown(&right, k), right.shots[k].way);
            n += lcl_episode_shown(&wrong, k) != wrong.shots[k].way;
        }
        assert_int_equal(n, 8);
        assert_int_equal(right.queries[0].image, wrong.queries[0].image);
        lcl_episode_free(&right);
        lcl_episode_free(&wrong);
    }
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_kinds_of_labels(void **state)
{
    (void)state;
    static struct world w;
    int64_t digit[10] = {0}, zero[2] = {0};
    const double share[2] = {0.7, 0.3};
    open_file(&w, generated(), false);
    w.config.data_positive_label = w.config.data_negative_label = LCL_LABEL_NUMBER;
    w.config.data_zero_shot_fraction = 0.3;
    start(&w);
    for (uint64_t i = 0; i < DRAWS / 10; i++) {
        struct lcl_episode e;
        draw(&w, i, &e);
        zero[e.n_shots == 0]++;
        for (int k = 0; k < 2; k++) {
            char own[32];
            snprintf(own, sizeof own, "thing %d", (int)e.class_id[k]);
            assert_false(e.made_up[k]);
            if (e.n_shots == 0)
                assert_string_equal(e.label[k], own);
            else
                assert_int_equal(strlen(e.label[k]), 1);
        }
        if (e.n_shots > 0) digit[e.label[0][0] - '0']++;
        assert_string_not_equal(e.label[0], e.label[1]);
        lcl_episode_free(&e);
    }
    assert_law("zero-shot episodes", zero, share, 2);
    assert_even("numbers", digit, 10);
    w.config.data_zero_shot_fraction = 0;
    w.config.data_positive_label = w.config.data_negative_label = LCL_LABEL_SWAPPED;
    for (uint64_t i = 0; i < 100; i++) {
        struct lcl_episode e;
        char other[2][32];
        draw(&w, i, &e);
        for (int k = 0; k < 2; k++)
            snprintf(other[k], sizeof other[k], "thing %d", (int)e.class_id[1 - k]);
        assert_string_equal(e.label[0], other[0]);
        assert_string_equal(e.label[1], other[1]);
        lcl_episode_free(&e);
    }
    close_world(&w);
}

/* ---- ranks ---- */

/* Every sample of a step is one rank's, lanes are whole, and ranks own about as many. */
static void test_ranks(void **state)
{
    (void)state;
    struct lcl_config c;
    lcl_config_defaults(&c);
    c.lanes = 8;
    c.gradient_accumulation_steps = 3;
    c.per_device_train_batch_size = 5;
    assert_int_equal(lcl_step_samples(&c), 120);
    for (int64_t world = 1; world <= 8; world++) {
        int64_t of_rank[8] = {0};
        uint64_t next = 7 * 120; /* step 7 */
        for (int64_t lane = 0; lane < 24; lane++) {
            int64_t rank = lcl_lane_rank(&c, lane, world);
            assert_in_range(rank, 0, world - 1);
            assert_int_equal(rank, lcl_lane_rank(&c, lane % 8, world)); /* in every round */
            of_rank[rank]++;
            for (int64_t i = 0; i < 5; i++)
                assert_int_equal(lcl_sample_number(&c, 7, lane, i), next++);
        }
        for (int64_t r = 0; r < world; r++)
            assert_in_range(of_rank[r], 3 * (8 / world), 3 * ((8 + world - 1) / world));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_way),
        cmocka_unit_test(test_two_way_of_the_official_table),
        cmocka_unit_test(test_shots_of_the_paper),
        cmocka_unit_test(test_shots_of_the_official_code),
        cmocka_unit_test(test_pictures_of_the_official_code),
        cmocka_unit_test(test_wrong_labels),
        cmocka_unit_test(test_wrong_labels_of_evaluations),
        cmocka_unit_test(test_kinds_of_labels),
        cmocka_unit_test(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
