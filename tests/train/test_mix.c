/* Training on episodes and rows: which samples are which, and that a mix resumes bit for bit. */
#include <signal.h>
#include <sys/stat.h>

#include "core/log.h"
#include "tests/support/kills.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "tests/support/tiny_run.h"

/* Conversations about two pictures, packed as NAME: n rows. */
static const char *rows_pack(const char *name, int n)
{
    char table[8192];
    size_t used = 0;
    for (int i = 0; i < n; i++)
        used +=
            (size_t)snprintf(table + used, sizeof table - used,
                             "{\"image\": \"%s.png\", \"conversations\": [{\"from\": \"human\", "
                             "\"value\": \"<image>\\nWhat is in the image?\"}, {\"from\": "
                             "\"gpt\", \"value\": \"row %d\"}]}\n",
                             i % 2 ? "a" : "b", i);
    return tiny_rows_pack(name, table);
}

static void config(struct lcl_config *c, const char *overrides)
{
    char all[1024];
    snprintf(all, sizeof all, "data.sources=%s=3,%s %s", rows_pack("one.h5", 12),
             rows_pack("two.h5", 6), overrides);
    tiny_config(c, all);
}

/* Of 1,000 steps each, in any lanes. */
static void exactly_half_and_half(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e;
    struct tiny_lane l;
    config(&c, "data.strategy=mix data.shots=2 lanes=2 per_device_train_batch_size=3");
    tiny_env_open(&e, &c);
    tiny_lane_open(&l, &e, &c);
    for (int64_t step = 0; step < 1000; step++) {
        int episodes = 0, rows = 0;
        for (int64_t i = 0; i < 2; i++) {
            ASSERT_OK(lcl_lane_fill(&l.lane, &l.source, step, 1000, i));
            const struct lcl_branch *b = lcl_batch_builder_branches(l.lane.builder);
            for (int64_t r = 0; r < l.lane.batch->n_runs; r++) {
                episodes += b[r].episode >= 0;
                rows += b[r].episode < 0;
            }
            for (int64_t k = 0; k < l.lane.batch->n_images; k++)
                assert_in_range(l.lane.batch->image_I[k], 0, e.pack.n_images + 3);
        }
        assert_int_equal(episodes, 3);
        assert_int_equal(rows, 3);
    }
    tiny_lane_close(&l);
    lcl_env_close(&e);
}

/* Rows 10 and 11 are a token longer than the others, which stand in for them. */
static void long_rows_give_way(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e;
    struct tiny_lane l;
    int64_t longest = 0, shortest = 1000;
    char sets[500];
    snprintf(sets, sizeof sets,
             "data.sources=%s data.too_long=drop lanes=1 per_device_train_batch_size=1",
             rows_pack("one.h5", 12));
    tiny_config(&c, sets);
    tiny_env_open(&e, &c);
    for (int limited = 0; limited < 2; limited++) {
        tiny_lane_open(&l, &e, &c);
        for (int64_t step = 0; step < 24; step++) {
            ASSERT_OK(lcl_lane_fill(&l.lane, &l.source, step, 24, 0));
            if (limited) assert_int_equal(l.lane.batch->T, shortest);
            if (l.lane.batch->T > longest) longest = l.lane.batch->T;
            if (l.lane.batch->T < shortest) shortest = l.lane.batch->T;
        }
        assert_int_equal(longest, shortest + 1);
        assert_true(limited ? l.source.n_left_out >= 4 : l.source.n_left_out == 0);
        tiny_lane_close(&l);
        c.model_max_length = shortest;
    }
    lcl_env_close(&e);
}

struct counts {
    int64_t of[2], row[2][12];
};

static void draw(struct lcl_mixture *m, uint64_t from, uint64_t to, struct counts *n)
{
    memset(n, 0, sizeof *n);
    for (uint64_t k = from; k < to; k++) {
        int source;
        int64_t row;
        lcl_mixture_draw(m, k, &source, &row);
        assert_in_range(source, 0, 1);
        assert_in_range(row, 0, source ? 5 : 11);
        n->of[source]++;
        n->row[source][row]++;
    }
}

static void sources_have_their_shares(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_row_sources s;
    struct lcl_mixture m;
    struct counts n;
    config(&c, "");
    ASSERT_OK(lcl_row_sources_open(&s, &c, 100));
    assert_int_equal(s.source[1].first_picture, 102);
    ASSERT_OK(lcl_mixture_open(&m, &c, &s, 0));
    draw(&m, 0, 40000, &n); /* weights 3 and 1: 30000, deviation 87 */
    assert_true(llabs(n.of[0] - 30000) < 4 * 87);
    for (int k = 0; k < 12; k++) assert_true(n.row[0][k] - n.of[0] / 12 <= 1); /* passes */
    lcl_mixture_close(&m);
    c.data_mixing = LCL_MIXING_EVEN;
    ASSERT_OK(lcl_mixture_open(&m, &c, &s, 0));
    draw(&m, 0, 24, &n);
    for (int k = 0; k < 12; k++) assert_int_equal(n.row[0][k], 1);
    for (int k = 0; k < 6; k++) assert_int_equal(n.row[1][k], 2);
    lcl_mixture_close(&m);
    lcl_row_sources_close(&s);
}

/* Strategies named in data.sources: in the half of episodes, or, official, among all. */
static void strategies_have_their_shares(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_row_sources s;
    struct lcl_mixture m;
    int64_t row;
    int source, refs = 0, rows = 0;
    config(&c, "data.strategy=mix");
    snprintf(c.data_sources, sizeof c.data_sources, "ref=1,%s=5,2-way=3", rows_pack("one.h5", 12));
    ASSERT_OK(lcl_row_sources_open(&s, &c, 0));
    ASSERT_OK(lcl_mixture_open(&m, &c, &s, 0));
    for (uint64_t k = 0; k < 40000; k++) {
        int strategy = lcl_mixture_strategy(&m, k);
        lcl_mixture_draw(&m, k, &source, &row);
        assert_int_equal(source, k % 2 ? 1 : -1);
        if (k % 2)
            assert_int_equal(strategy, -1);
        else
            assert_true(strategy == LCL_REF || strategy == LCL_2WAY);
        refs += strategy == LCL_REF;
    }
    assert_true(abs(refs - 5000) < 4 * 61);
    lcl_mixture_close(&m);
    refs = 0;
    c.data_reading = LCL_READING_OFFICIAL;
    ASSERT_OK(lcl_mixture_open(&m, &c, &s, 0));
    for (uint64_t k = 0; k < 90000; k++) {
        lcl_mixture_draw(&m, k, &source, &row);
        refs += lcl_mixture_strategy(&m, k) == LCL_REF;
        rows += source == 1;
    }
    assert_true(abs(refs - 10000) < 4 * 94);
    assert_true(abs(rows - 50000) < 4 * 149);
    lcl_mixture_close(&m);
    lcl_row_sources_close(&s);
}

/* Training on both: the lanes of a step hold what the draws say. */
static void strategies_are_trained_on(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_env e;
    struct tiny_lane l;
    int refs = 0;
    config(&c, "data.strategy=mix data.shots=6 lanes=1 per_device_train_batch_size=2");
    snprintf(c.data_sources, sizeof c.data_sources, "ref=1,%s,2-way=1", rows_pack("one.h5", 12));
    tiny_env_open(&e, &c);
    tiny_lane_open(&l, &e, &c);
    for (int64_t step = 0; step < 100; step++) {
        char *said;
        ASSERT_OK(lcl_lane_fill(&l.lane, &l.source, step, 100, 0));
        bool ref = lcl_mixture_strategy(&l.source.mixture, (uint64_t)(2 * step)) == LCL_REF;
        ASSERT_OK(lcl_tokenizer_decode(e.tokenizer, l.lane.batch->target_S, l.lane.batch->S, false,
                                       &said));
        assert_int_equal(strchr(said, '_') != NULL, ref);
        refs += ref;
        free(said);
    }
    assert_in_range(refs, 25, 75);
    tiny_lane_close(&l);
    lcl_env_close(&e);
}

/* An epoch holds no row twice, and the source that ends it was seen whole. */
static void epochs_end_with_the_first_source(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_row_sources s;
    struct lcl_mixture m;
    config(&c, "data.mixing=exhaust");
    ASSERT_OK(lcl_row_sources_open(&s, &c, 0));
    ASSERT_OK(lcl_mixture_open(&m, &c, &s, 0));
    bool seen[2][12] = {{false}};
    int of[2] = {0}, epochs = 0;
    int64_t pass = 0;
    for (uint64_t k = 0; k < 2000; k++) {
        int source;
        int64_t row;
        lcl_mixture_draw(&m, k, &source, &row);
        if (m.pass[0] != pass) {
            assert_int_equal(of[source], source ? 6 : 12);
            memset(seen, 0, sizeof seen);
            of[0] = of[1] = 0;
            pass = m.pass[0];
            epochs++;
        }
        assert_int_equal(m.pass[1], pass);
        assert_false(seen[source][row]);
        seen[source][row] = true;
        of[source]++;
    }
    assert_true(epochs > 100);
    lcl_mixture_close(&m);
    lcl_row_sources_close(&s);
}

/* Whatever was asked for before: a resumed run draws what it would have. */
static void a_draw_is_a_function_of_its_number(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_row_sources s;
    struct lcl_mixture a, b;
    config(&c, "data.mixing=exhaust");
    ASSERT_OK(lcl_row_sources_open(&s, &c, 0));
    ASSERT_OK(lcl_mixture_open(&a, &c, &s, 3));
    ASSERT_OK(lcl_mixture_open(&b, &c, &s, 3));
    for (uint64_t k = 0; k < 300; k++) {
        int source[2];
        int64_t row[2];
        lcl_mixture_draw(&a, k, &source[0], &row[0]);
        lcl_mixture_draw(&b, 299 - k, &source[1], &row[1]);
        lcl_mixture_draw(&b, k, &source[1], &row[1]);
        assert_int_equal(source[0], source[1]);
        assert_int_equal(row[0], row[1]);
    }
    lcl_mixture_close(&a);
    lcl_mixture_close(&b);
    lcl_row_sources_close(&s);
}

/* With cached features and with the tower in the step. */
static void a_mix_goes_on(void **state)
{
    (void)state;
    static struct kills k;
    static const char *const ways[] = {"data.mixing: even\n",
                                       "cache_features: false\ndata.mixing: exhaust\n"};
    for (int i = 0; i < 2; i++) {
        char keys[1400], dir[300];
        snprintf(keys, sizeof keys, "data.sources: %s=3,%s\ndata.strategy: mix\n%s",
                 rows_pack("one.h5", 12), rows_pack("two.h5", 6), ways[i]);
        kills_set_up(&k, keys);
        snprintf(dir, sizeof dir, "%s/mix-%d", temp_dir(), i);
        assert_int_equal(kills_run(&k, dir, (long)(0.8 * (double)k.n_calls), SIGTERM, NULL), 0);
        assert_non_null(strstr(k.output, "stopped by signal 15"));
        assert_int_equal(kills_run(&k, dir, -1, 0, NULL), 0);
        kills_assert_same(&k, dir);
    }
}

static void what_is_refused(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_row_sources s;
    config(&c, "");
    snprintf(c.data_sources, sizeof c.data_sources, "%s=x", rows_pack("one.h5", 2));
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "wanted PATH=WEIGHT");
    snprintf(c.data_sources, sizeof c.data_sources, "%s=0", rows_pack("one.h5", 2));
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "above 0");
    snprintf(c.data_sources, sizeof c.data_sources, "%s", tiny_pack());
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "holds no rows");
    snprintf(c.data_sources, sizeof c.data_sources, "there/is/none.h5=1");
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_NOT_FOUND, "there/is/none.h5");
    c.data_strategy = LCL_MIX;
    snprintf(c.data_sources, sizeof c.data_sources, "episodes=1");
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "half of each batch");
    snprintf(c.data_sources, sizeof c.data_sources, "ref=1");
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "needs a pack of rows");
    snprintf(c.data_sources, sizeof c.data_sources, "mix=1");
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "cannot be a mix");
    c.data_reading = LCL_READING_OFFICIAL;
    snprintf(c.data_sources, sizeof c.data_sources, "%s", rows_pack("one.h5", 2));
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "no strategy of episodes is named");
    c.data_reading = LCL_READING_PAPER;
    for (int strategy = LCL_2WAY; strategy <= LCL_ANY_SHOT; strategy++) {
        c.data_strategy = strategy;
        snprintf(c.data_sources, sizeof c.data_sources, "%s,any-shot=1", rows_pack("one.h5", 2));
        ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "go by the word episodes");
    }
    snprintf(c.data_sources, sizeof c.data_sources, "episodes,ref=1");
    ASSERT_FAILS(lcl_row_sources_open(&s, &c, 0), LCL_CONFIG, "\"ref\": data.strategy: any-shot");
    c.data_strategy = LCL_MIX;
    c.data_sources[0] = '\0';
    ASSERT_FAILS(lcl_config_check(&c), LCL_CONFIG, "mix needs data.sources");
    snprintf(c.data_sources, sizeof c.data_sources, "a.h5");
    c.lanes = c.per_device_train_batch_size = c.gradient_accumulation_steps = 1;
    ASSERT_FAILS(lcl_config_check(&c), LCL_CONFIG, "mix halves a batch");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exactly_half_and_half),
                                       cmocka_unit_test(long_rows_give_way),
                                       cmocka_unit_test(sources_have_their_shares),
                                       cmocka_unit_test(strategies_have_their_shares),
                                       cmocka_unit_test(strategies_are_trained_on),
                                       cmocka_unit_test(epochs_end_with_the_first_source),
                                       cmocka_unit_test(a_draw_is_a_function_of_its_number),
                                       cmocka_unit_test(a_mix_goes_on),
                                       cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
