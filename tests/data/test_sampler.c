/* Sampling laws, against chi-square at 1e-6; what must never happen, over thousands of draws. */
#include <math.h>

#include "tests/data/fake_pack.h"

enum { DRAWS = 20000 };

static void make_sampler(struct fake *f, struct lcl_sampler *s)
{
    ASSERT_OK(lcl_sampler_init(s, &f->config, &f->pack, &f->neighbors, LCL_SPLIT_TRAIN));
}

static void draw(const struct lcl_sampler *s, uint64_t sample, struct lcl_episode *e)
{
    ASSERT_OK(lcl_sampler_draw(s, 0, sample, 0, e));
}

static int64_t shots_of(const struct lcl_episode *e, int way)
{
    int64_t n = 0;
    for (int i = 0; i < e->n_shots; i++) n += e->shots[i].way == way;
    return n;
}

static void test_two_way_law(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 30, 5, 12);
    f.config.data_num_neighbors = 20;
    make_sampler(&f, &s);
    int64_t rank[20] = {0}, side[2] = {0}, positive[30] = {0}, first[2] = {0};
    double rank_share[20], class_share[30], even[2] = {1, 1};
    for (int j = 0; j < 20; j++) rank_share[j] = 20 - j; /* J + 1 - j for rank j counted from 1 */
    for (int c = 0; c < 30; c++) class_share[c] = 1;
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_int_equal(e.n_ways, 2);
        assert_int_equal(e.n_shots, 16);
        assert_int_equal(shots_of(&e, 0), 8);
        assert_in_range(e.neighbor_rank, 1, 20);
        assert_int_equal(e.class_id[1], (e.class_id[0] + e.neighbor_rank) % 30);
        rank[e.neighbor_rank - 1]++;
        side[e.queries[0].way]++;
        positive[e.class_id[0]]++;
        first[e.shots[0].way]++;
        lcl_episode_free(&e);
    }
    assert_true(chi_square(rank, rank_share, 20) < chi_square_limit(19));
    assert_true(chi_square(side, even, 2) < chi_square_limit(1));
    assert_true(chi_square(first, even, 2) < chi_square_limit(1));
    assert_true(chi_square(positive, class_share, 30) < chi_square_limit(29));
    lcl_sampler_free(&s);
    fake_free(&f);
}

/* Counts episodes by shots and checks the split in halves; the odd one must fall to both sides
 * evenly. */
static void shot_counts(struct fake *f, int64_t *count)
{
    struct lcl_sampler s;
    int64_t odd[2] = {0};
    const double even[2] = {1, 1};
    make_sampler(f, &s);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_in_range(e.n_shots, 2, 16);
        count[e.n_shots - 2]++;
        int64_t n = shots_of(&e, 0), m = e.n_shots - n;
        assert_true(llabs(n - m) <= 1);
        if (n != m) odd[n < m]++;
        lcl_episode_free(&e);
    }
    assert_true(odd[0] + odd[1] > 100);
    assert_true(chi_square(odd, even, 2) < chi_square_limit(1));
    lcl_sampler_free(&s);
}

static void test_shot_laws(void **state)
{
    (void)state;
    struct fake f;
    fake_make(&f, 10, 5, 12);
    int64_t uniform[15] = {0}, weighted[15] = {0};
    double share[15], power[15];
    for (int j = 0; j < 15; j++) {
        share[j] = 1;
        power[j] = exp(j - 14);
    }
    f.config.data_strategy = LCL_2WAY_RANDOM;
    shot_counts(&f, uniform);
    assert_true(chi_square(uniform, share, 15) < chi_square_limit(14));
    f.config.data_strategy = LCL_2WAY_WEIGHT;
    shot_counts(&f, weighted);
    /* Rare counts are pooled: 2..10 shots make up 0.25 %. */
    int64_t pooled[7] = {0};
    double pooled_share[7] = {0};
    for (int j = 0; j < 15; j++) {
        pooled[j < 9 ? 0 : j - 8] += weighted[j];
        pooled_share[j < 9 ? 0 : j - 8] += power[j];
    }
    assert_true(chi_square(pooled, pooled_share, 7) < chi_square_limit(6));
    fake_free(&f);
}

static void test_label_law(void **state)
{
    (void)state;
    int64_t length[10] = {0}, letter[26] = {0};
    double share[26];
    for (int i = 0; i < 26; i++) share[i] = 1;
    struct lcl_rng rng = lcl_rng_stream(3, LCL_RNG_TEST, 0, 0);
    for (int i = 0; i < DRAWS; i++) {
        char label[LCL_LABEL_BYTES];
        lcl_draw_label(&rng, 1, 10, label);
        size_t n = strlen(label);
        assert_in_range(n, 1, 10);
        length[n - 1]++;
        for (size_t k = 0; k < n; k++) {
            assert_in_range(label[k], 'a', 'z');
            letter[label[k] - 'a']++;
        }
    }
    assert_true(chi_square(length, share, 10) < chi_square_limit(9));
    assert_true(chi_square(letter, share, 26) < chi_square_limit(25));
}

/* In every episode: no picture twice, each of its class, and no query among the support. */
static void assert_sound(const struct fake *f, const struct lcl_episode *e, bool queries_distinct)
{
    for (int i = 0; i < e->n_shots + e->n_queries; i++) {
        const struct lcl_shot *a = i < e->n_shots ? &e->shots[i] : &e->queries[i - e->n_shots];
        assert_int_equal(f->pack.image_class[a->image], e->class_id[a->way]);
        for (int j = 0; j < i; j++) {
            const struct lcl_shot *b = j < e->n_shots ? &e->shots[j] : &e->queries[j - e->n_shots];
            if (j < e->n_shots || queries_distinct) assert_true(a->image != b->image);
        }
    }
    for (int w = 0; w < e->n_ways; w++)
        for (int v = 0; v < w; v++) {
            assert_true(e->class_id[w] != e->class_id[v]);
            assert_string_not_equal(e->label[w], e->label[v]);
        }
}

static void test_no_picture_twice(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 3, 11);
    f.config.data_queries = 3;
    f.config.data_augment_views = 4;
    make_sampler(&f, &s);
    int64_t view[4] = {0};
    const double even[4] = {1, 1, 1, 1};
    for (uint64_t i = 0; i < 3000; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_int_equal(e.n_queries, 3);
        assert_sound(&f, &e, true);
        for (int k = 0; k < e.n_shots; k++) view[e.shots[k].view]++;
        lcl_episode_free(&e);
    }
    assert_true(chi_square(view, even, 4) < chi_square_limit(3));
    lcl_sampler_free(&s);
    fake_free(&f);
}

/* Few of many pictures: another way of drawing, the same promise; every picture is drawn. */
static void test_large_classes(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 3, 0, 1500);
    make_sampler(&f, &s);
    int64_t half[2] = {0};
    const double even[2] = {1, 1};
    for (uint64_t i = 0; i < 2000; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_sound(&f, &e, true);
        for (int k = 0; k < e.n_shots; k++) half[e.shots[k].image % 1500 >= 750]++;
        lcl_episode_free(&e);
    }
    assert_true(chi_square(half, even, 2) < chi_square_limit(1));
    f.config.data_shots = 2800;
    lcl_sampler_free(&s);
    make_sampler(&f, &s);
    struct lcl_episode e;
    draw(&s, 0, &e);
    assert_int_equal(e.n_shots, 2800);
    assert_sound(&f, &e, true);
    lcl_episode_free(&e);
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_labels_of_an_episode(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 3, 12);
    f.config.data_made_up_fraction = 0.25;
    f.config.data_label_max_letters = 1; /* so that clashes would be frequent */
    make_sampler(&f, &s);
    int64_t all[2] = {0};
    const double share[2] = {0.75, 0.25};
    char before[LCL_LABEL_BYTES] = "";
    int same = 0;
    for (uint64_t i = 0; i < 8000; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_true(e.made_up[0]);
        assert_int_equal(strlen(e.label[0]), 1);
        all[e.made_up[1]]++;
        char own[32];
        snprintf(own, sizeof own, "name %d", (int)e.class_id[1]);
        if (e.made_up[1])
            assert_string_not_equal(e.label[0], e.label[1]);
        else
            assert_string_equal(e.label[1], own);
        same += strcmp(before, e.label[0]) == 0;
        snprintf(before, sizeof before, "%s", e.label[0]);
        lcl_episode_free(&e);
    }
    assert_true(chi_square(all, share, 2) < chi_square_limit(1));
    assert_in_range(same, 200, 420); /* 1 in 26: new in each episode */
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_n_way(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 20, 3, 12);
    f.config.data_strategy = LCL_NWAY;
    f.config.data_ways = 8;
    f.config.data_shots = 12;
    f.config.data_hard_fraction = 0.5;
    f.config.data_num_neighbors = 9;
    f.config.data_negative_label = LCL_LABEL_MADE_UP;
    make_sampler(&f, &s);
    int64_t way[8] = {0}, hard[2] = {0}, extra[8] = {0};
    double even[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (uint64_t i = 0; i < 8000; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        assert_int_equal(e.n_ways, 8);
        assert_int_equal(e.n_shots, 12);
        assert_sound(&f, &e, true);
        hard[e.neighbor_rank > 0]++;
        for (int w = 0; w < 8; w++) {
            assert_in_range(shots_of(&e, w), 1, 2);
            extra[w] += shots_of(&e, w) == 2;
            if (e.neighbor_rank && w)
                assert_in_range((e.class_id[w] - e.class_id[0] + 20) % 20, 1, 9);
        }
        way[e.queries[0].way]++;
        lcl_episode_free(&e);
    }
    assert_true(chi_square(way, even, 8) < chi_square_limit(7));
    assert_true(chi_square(extra, even, 8) < chi_square_limit(7));
    assert_true(chi_square(hard, even, 2) < chi_square_limit(1));
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_repeated_queries(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 3, 12);
    f.config.data_repeat_query_start = 0.8;
    f.config.data_repeat_query_end = 0;
    f.config.data_augment_views = 3;
    make_sampler(&f, &s);
    for (int half = 0; half <= 2; half++) {
        double progress = half / 2.0, p = 0.8 * (1 - progress);
        int64_t repeated[2] = {0}, side[2] = {0};
        const double share[2] = {1 - p, p}, even[2] = {1, 1};
        for (uint64_t i = 0; i < 5000; i++) {
            struct lcl_episode e;
            ASSERT_OK(lcl_sampler_draw(&s, 0, i, progress, &e));
            bool found = false;
            for (int k = 0; k < e.n_shots; k++)
                if (e.shots[k].image == e.queries[0].image) {
                    found = true;
                    assert_int_equal(e.shots[k].way, e.queries[0].way);
                    assert_int_equal(e.shots[k].view, e.queries[0].view);
                }
            repeated[found]++;
            side[e.queries[0].way]++;
            lcl_episode_free(&e);
        }
        if (p > 0)
            assert_true(chi_square(repeated, share, 2) < chi_square_limit(1));
        else
            assert_int_equal(repeated[1], 0);
        assert_true(chi_square(side, even, 2) < chi_square_limit(1));
    }
    lcl_sampler_free(&s);
    fake_free(&f);
}

static bool same_episode(const struct lcl_episode *a, const struct lcl_episode *b)
{
    bool same = a->n_shots == b->n_shots && a->n_ways == b->n_ways;
    for (int w = 0; same && w < a->n_ways; w++)
        same = a->class_id[w] == b->class_id[w] && strcmp(a->label[w], b->label[w]) == 0;
    for (int i = 0; same && i < a->n_shots; i++)
        same = a->shots[i].image == b->shots[i].image && a->shots[i].way == b->shots[i].way;
    return same && a->queries[0].image == b->queries[0].image;
}

static void test_a_draw_is_a_function_of_its_key(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 3, 12);
    make_sampler(&f, &s);
    struct lcl_episode a, b;
    draw(&s, 5, &a);
    draw(&s, 6, &b);
    assert_false(same_episode(&a, &b));
    lcl_episode_free(&b);
    ASSERT_OK(lcl_sampler_draw(&s, 1, 5, 0, &b));
    assert_false(same_episode(&a, &b));
    lcl_episode_free(&b);
    draw(&s, 5, &b);
    assert_true(same_episode(&a, &b));
    lcl_episode_free(&b);
    f.config.seed = 2;
    draw(&s, 5, &b);
    assert_false(same_episode(&a, &b));
    lcl_episode_free(&a);
    lcl_episode_free(&b);
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_evaluation(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 12, 7, 10);
    f.config.eval_queries =
        5; /* more than a class has beside 16 shots: they may repeat among themselves */
    ASSERT_OK(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TEST));
    int64_t positive[7] = {0}, side[2] = {0}, rank[5] = {0};
    const double even[5] = {1, 1, 1, 1, 1};
    for (uint64_t i = 0; i < 7 * 400; i++) {
        struct lcl_episode e, again;
        ASSERT_OK(lcl_sampler_draw_eval(&s, 16, i, i % 2, &e));
        assert_int_equal(e.n_shots, 16);
        assert_in_range(e.neighbor_rank, 1, 5); /* eval.hard_neighbors */
        rank[e.neighbor_rank - 1]++;
        assert_int_equal(e.class_id[1], 12 + (e.class_id[0] - 12 + e.neighbor_rank) % 7);
        assert_true(e.made_up[0]);
        assert_int_equal(e.made_up[1], i % 2);
        assert_sound(&f, &e, false);
        positive[e.class_id[0] - 12]++;
        for (int q = 0; q < 5; q++) side[e.queries[q].way]++;
        ASSERT_OK(lcl_sampler_draw_eval(&s, 16, i, !(i % 2), &again));
        for (int k = 0; k < 16; k++) assert_int_equal(e.shots[k].image, again.shots[k].image);
        lcl_episode_free(&e);
        lcl_episode_free(&again);
    }
    for (int c = 0; c < 7; c++) assert_int_equal(positive[c], 400);
    assert_true(chi_square(side, even, 2) < chi_square_limit(1));
    assert_true(chi_square(rank, even, 5) < chi_square_limit(4));
    f.config.eval_hard_neighbors = 1; /* always the most similar */
    for (uint64_t i = 0; i < 100; i++) {
        struct lcl_episode e;
        ASSERT_OK(lcl_sampler_draw_eval(&s, 16, i, false, &e));
        assert_int_equal(e.neighbor_rank, 1);
        lcl_episode_free(&e);
    }
    struct lcl_episode none;
    ASSERT_OK(lcl_sampler_draw_eval(&s, 0, 0, false, &none));
    assert_int_equal(none.n_shots, 0);
    lcl_episode_free(&none);
    ASSERT_FAILS(lcl_sampler_draw_eval(&s, 20, 0, false, &none), LCL_CONFIG, "has 10 pictures");
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_small_classes(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 6, 3, 12);
    f.pack.classes[2].n_images = 5;
    f.pack.classes[4].n_images = 8;
    ASSERT_FAILS(
        lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN), LCL_CONFIG,
        "16 shots and a query (data.shots) need 9 pictures of a class; 2 classes have fewer "
        "than 9: folder/2 (5), folder/4 (8)");
    assert_true(strlen(lcl_error_hint()) > 0);
    ASSERT_OK(lcl_sampler_init_capped(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN));
    int capped = 0;
    for (uint64_t i = 0; i < 500; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        bool two = e.class_id[0] == 2 || e.class_id[1] == 2;
        bool four = e.class_id[0] == 4 || e.class_id[1] == 4;
        assert_int_equal(e.n_shots, two ? 8 : four ? 14 : 16);
        assert_sound(&f, &e, true);
        capped += two || four;
        lcl_episode_free(&e);
    }
    assert_true(capped > 100);
    lcl_sampler_free(&s);
    f.pack.classes[2].n_images = 1;
    ASSERT_FAILS(lcl_sampler_init_capped(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "folder/2 (1)");
    fake_free(&f);
}

static void test_duplicate_names(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 6, 3, 12);
    snprintf(f.pack.classes[3].name, sizeof f.pack.classes[3].name, "NAME 2");
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "folder/2 and folder/3 have one name, \"name 2\"");
    f.config.data_duplicate_names = 1;
    make_sampler(&f, &s);
    int64_t twins = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        struct lcl_episode e;
        draw(&s, i, &e);
        bool two = e.class_id[0] == 2 || e.class_id[1] == 2;
        assert_false(two && (e.class_id[0] == 3 || e.class_id[1] == 3));
        twins += two;
        lcl_episode_free(&e);
    }
    assert_true(twins > 300);
    lcl_sampler_free(&s);
    fake_free(&f);
}

static void test_settings_that_cannot_work(void **state)
{
    (void)state;
    struct fake f;
    struct lcl_sampler s;
    fake_make(&f, 6, 1, 12);
    const struct lcl_config good = f.config;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, NULL, LCL_SPLIT_TRAIN), LCL_CONFIG,
                 "neighbor table");
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TEST), LCL_CONFIG,
                 "test split has 1 classes");
    f.config.data_strategy = LCL_NWAY;
    f.config.data_ways = 7;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "train split has 6 classes; episodes need 7");
    f.config.data_ways = 5;
    f.config.data_shots = 4;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "5 ways need at least as many shots");
    f.config = good;
    f.config.data_strategy = LCL_2WAY_RANDOM;
    f.config.data_min_shots = 17;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "data.min_shots 17");
    f.config = good;
    f.config.data_label_min_letters = 5;
    f.config.data_label_max_letters = 4;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "data.label_min_letters 5");
    f.config = good;
    f.neighbors.index[2] = 99;
    ASSERT_FAILS(lcl_sampler_init(&s, &f.config, &f.pack, &f.neighbors, LCL_SPLIT_TRAIN),
                 LCL_FORMAT, "row of folder/0 names class 99 at rank 3");
    fake_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_way_law),
        cmocka_unit_test(test_shot_laws),
        cmocka_unit_test(test_label_law),
        cmocka_unit_test(test_no_picture_twice),
        cmocka_unit_test(test_large_classes),
        cmocka_unit_test(test_labels_of_an_episode),
        cmocka_unit_test(test_n_way),
        cmocka_unit_test(test_repeated_queries),
        cmocka_unit_test(test_a_draw_is_a_function_of_its_key),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_small_classes),
        cmocka_unit_test(test_duplicate_names),
        cmocka_unit_test(test_settings_that_cannot_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
