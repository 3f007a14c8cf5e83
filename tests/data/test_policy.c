/* Reference names: laws by chi-square with p > 0.01 over fixed seeds, what answers say in both
 * readings, and what is supervised. */
#include "data/policy.h"

#include "core/fs.h"
#include "tests/data/fake_pack.h"

enum { DRAWS = 20000 };

struct world {
    struct fake fake;
    struct lcl_sampler sampler;
};

static void open_world(struct world *w, enum lcl_strategy strategy, enum lcl_reading reading)
{
    fake_make(&w->fake, 12, 4, 20);
    w->fake.config.data_strategy = (int)strategy;
    w->fake.config.data_reading = (int)reading;
    ASSERT_OK(lcl_sampler_init(&w->sampler, &w->fake.config, &w->fake.pack, &w->fake.neighbors,
                               LCL_SPLIT_TRAIN));
}

static void close_world(struct world *w)
{
    lcl_sampler_free(&w->sampler);
    fake_free(&w->fake);
}

static void draw(const struct world *w, uint64_t sample, struct lcl_episode *e)
{
    ASSERT_OK(lcl_sampler_draw(&w->sampler, 0, sample, 0, e));
}

static void assert_even(const char *what, const int64_t *count, int n)
{
    double share[64];
    for (int i = 0; i < n; i++) share[i] = 1;
    double x = chi_square(count, share, n), limit = chi_square_quantile(n - 1, 2.3263);
    if (!(x < limit)) fail_msg("%s: chi-square %g of %d cells, limit %g", what, x, n, limit);
}

static void test_words_of_strategies(void **state)
{
    (void)state;
    struct lcl_config c;
    lcl_config_defaults(&c);
    for (int i = 0; i <= LCL_ANY_SHOT; i++) {
        const char *word = lcl_strategy_name((enum lcl_strategy)i);
        ASSERT_OK(lcl_config_set(&c, "data.strategy", word, "test"));
        assert_int_equal(c.data_strategy, i);
        assert_int_equal(lcl_strategy_of(word), i);
    }
    assert_int_equal(lcl_strategy_of("episodes"), -1);
    c.data_strategy = LCL_2WAY;
    snprintf(c.data_sources, sizeof c.data_sources, "a.h5=1, ref_or_weight=0.3,jigsaw.h5");
    assert_true(lcl_policy_is_drawn(&c, LCL_POLICY_REF));
    assert_false(lcl_policy_is_drawn(&c, LCL_POLICY_JIGSAW));
    c.data_strategy = LCL_ANY_SHOT;
    c.data_sources[0] = '\0';
    for (int i = 0; i < LCL_POLICY_COUNT; i++)
        assert_false(lcl_policy_is_drawn(&c, (enum lcl_policy)i));
}

/* The two halves of a name, each of 1..10 letters. */
static const char *class_part(const char *name)
{
    const char *bar = strchr(name, '_');
    assert_non_null(bar);
    assert_in_range(bar - name, 1, 10);
    assert_in_range(strspn(name, "abcdefghijklmnopqrstuvwxyz"), bar - name, bar - name);
    assert_in_range(strspn(bar + 1, "abcdefghijklmnopqrstuvwxyz"), 1, 10);
    return bar + 1;
}

/* What the query is answered with by the rule of a reading. */
static void expected_answer(const struct lcl_episode *e, bool official, char *out)
{
    int n = 0;
    out += sprintf(out, "%s", official ? "[" : "");
    for (int i = 0; i < e->n_shots; i++) {
        bool same = e->shots[i].way == e->queries[0].way;
        if (same == official) continue;
        out += sprintf(out, official ? "%s'%s'" : "%s%s", n++ ? ", " : "", e->said[i]);
    }
    if (official) sprintf(out, "]._%s", class_part(e->said[0]));
    assert_int_equal(n, e->n_shots / 2);
}

static void check_names(const struct lcl_episode *e, bool official)
{
    char wanted[8192];
    for (int i = 0; i < e->n_shots; i++) {
        assert_string_equal(class_part(e->said[i]), e->label[e->shots[i].way]);
        for (int k = 0; k < i && !official; k++) assert_string_not_equal(e->said[i], e->said[k]);
    }
    if (official)
        assert_string_equal(e->label[0], e->label[1]);
    else
        assert_string_not_equal(e->label[0], e->label[1]);
    expected_answer(e, official, wanted);
    assert_string_equal(e->said[e->n_shots], wanted);
}

static void check_ref(enum lcl_reading reading, int most)
{
    bool official = reading == LCL_READING_OFFICIAL;
    struct world w;
    int64_t shots[16] = {0}, side[2] = {0}, first[2] = {0}, length[10] = {0}, coinciding = 0;
    open_world(&w, LCL_REF, reading);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode e;
        int positives = 0;
        draw(&w, i, &e);
        assert_int_equal(e.policy, LCL_POLICY_REF);
        assert_int_equal(e.n_ways, 2);
        assert_int_equal(e.n_shots % 2, 0);
        assert_in_range(e.n_shots / 2, 3, most);
        for (int k = 0; k < e.n_shots; k++) positives += e.shots[k].way == 0;
        assert_int_equal(positives, e.n_shots / 2);
        check_names(&e, official);
        shots[e.n_shots / 2 - 3]++;
        side[e.queries[0].way]++;
        first[e.shots[0].way]++;
        length[strchr(e.said[0], '_') - e.said[0] - 1]++;
        coinciding += lcl_episode_coincides(&e);
        lcl_episode_free(&e);
    }
    assert_even("shots of a class", shots, most - 2);
    assert_even("side of the query", side, 2);
    assert_even("first support picture", first, 2);
    assert_even("letters of a name", length, 10);
    assert_true(official ? coinciding > 0 : coinciding == 0);
    close_world(&w);
}

static void test_ref_of_the_paper(void **state)
{
    (void)state;
    check_ref(LCL_READING_PAPER, 8);
}

static void test_ref_of_the_official_code(void **state)
{
    (void)state;
    check_ref(LCL_READING_OFFICIAL, 16);
}

/* A fair coin; the half that is 2-way draws as 2-way does, and the other as ref does. */
static void test_ref_or_weight(void **state)
{
    (void)state;
    struct world both, link, ref;
    int64_t coin[2] = {0};
    open_world(&both, LCL_REF_OR_WEIGHT, LCL_READING_PAPER);
    open_world(&link, LCL_2WAY, LCL_READING_PAPER);
    open_world(&ref, LCL_REF, LCL_READING_PAPER);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct lcl_episode a, b;
        draw(&both, i, &a);
        draw(a.policy == LCL_POLICY_LINK ? &link : &ref, i, &b);
        coin[a.policy == LCL_POLICY_REF]++;
        assert_int_equal(a.policy, b.policy);
        assert_int_equal(a.n_shots, b.n_shots);
        assert_memory_equal(a.shots, b.shots, (size_t)a.n_shots * sizeof *a.shots);
        assert_string_equal(a.label[0], b.label[0]);
        assert_int_equal(!a.said, !b.said);
        if (a.said) assert_string_equal(a.said[a.n_shots], b.said[a.n_shots]);
        lcl_episode_free(&a);
        lcl_episode_free(&b);
    }
    assert_even("ref or 2-way", coin, 2);
    close_world(&both);
    close_world(&link);
    close_world(&ref);
}

/* ---- text ---- */

static struct lcl_batch_builder *make_builder(const struct lcl_config *c, struct lcl_tokenizer **t)
{
    struct lcl_batch_builder *b;
    ASSERT_OK(lcl_tokenizer_for_config(c, t));
    ASSERT_OK(lcl_batch_builder_for(c, *t, 3, &b));
    return b;
}

/* The tokens that are targets, as text. */
static char *supervised_text(const struct lcl_tokenizer *t, const struct lcl_batch *m)
{
    char *text;
    ASSERT_OK(lcl_tokenizer_decode(t, m->target_S, m->S, false, &text));
    return text;
}

static void assert_ends(const char *text, const char *end)
{
    assert_true(strlen(text) >= strlen(end));
    assert_string_equal(text + strlen(text) - strlen(end), end);
}

/* In each layout: every name in its turn, and the answer, which alone is supervised. */
static void test_text_of_names(void **state)
{
    (void)state;
    for (int layout = LCL_LAYOUT_PLAIN; layout <= LCL_LAYOUT_TERSE; layout++) {
        struct world w;
        struct lcl_tokenizer *t;
        struct lcl_episode e;
        char *text, *said, wanted[4096];
        open_world(&w, LCL_REF, LCL_READING_PAPER);
        w.fake.config.data_layout = layout;
        struct lcl_batch_builder *b = make_builder(&w.fake.config, &t);
        draw(&w, 5, &e);
        ASSERT_OK(lcl_episode_text(b, &e, &text));
        const char *at = text;
        for (int i = 0; i <= e.n_shots; i++) {
            snprintf(wanted, sizeof wanted, "\"%s\"", e.said[i]);
            at = strstr(at, wanted);
            assert_non_null(at);
        }
        snprintf(wanted, sizeof wanted, "\"%s\".</s>", e.said[e.n_shots]);
        assert_ends(text, wanted);
        ASSERT_OK(
            lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_REPEATS, NULL, 0));
        const struct lcl_batch *m = lcl_batch_builder_get(b);
        said = supervised_text(t, m);
        assert_ends(said, wanted);
        assert_null(strstr(said, "called"));
        assert_int_equal(m->n_images, e.n_shots + 1);
        free(said);
        lcl_batch_builder_reset(b);
        ASSERT_OK(lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_ALL, NULL, 0));
        said = supervised_text(t, lcl_batch_builder_get(b));
        for (int i = 0; i <= e.n_shots; i++) assert_non_null(strstr(said, e.said[i]));
        free(said);
        free(text);
        lcl_episode_free(&e);
        lcl_batch_builder_free(b);
        lcl_tokenizer_free(t);
        close_world(&w);
    }
}

/* Several queries are branches of one context, each with an answer of its own. */
static void test_several_queries(void **state)
{
    (void)state;
    struct world w;
    struct lcl_tokenizer *t;
    struct lcl_episode e;
    char *said;
    open_world(&w, LCL_REF, LCL_READING_PAPER);
    w.fake.config.data_queries = 3;
    struct lcl_batch_builder *b = make_builder(&w.fake.config, &t);
    draw(&w, 1, &e);
    ASSERT_OK(lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0));
    const struct lcl_batch *m = lcl_batch_builder_get(b);
    assert_int_equal(m->n_runs, 4);
    said = supervised_text(t, m);
    for (int q = 0; q < 3; q++) assert_non_null(strstr(said, e.said[e.n_shots + q]));
    free(said);
    const int32_t labels[64] = {0};
    lcl_batch_builder_reset(b);
    ASSERT_FAILS(lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, labels, 0),
                 LCL_UNSUPPORTED, "sample 1: its answers are no labels");
    ASSERT_FAILS(
        lcl_batch_append_episode(b, &e, LCL_ENCODE_CANDIDATES, LCL_SUPERVISE_LAST, NULL, 0),
        LCL_UNSUPPORTED, "sample 1");
    assert_int_equal(lcl_batch_builder_get(b)->T, 0);
    lcl_episode_free(&e);
    lcl_batch_builder_free(b);
    lcl_tokenizer_free(t);
    close_world(&w);
}

static void test_refused(void **state)
{
    (void)state;
    struct world w;
    struct lcl_sampler s;
    struct lcl_config *c = &w.fake.config;
    open_world(&w, LCL_REF_OR_WEIGHT, LCL_READING_PAPER);
    c->data_shots = 5;
    ASSERT_FAILS(lcl_sampler_init(&s, c, &w.fake.pack, &w.fake.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "ref_or_weight shows 3 or more pictures of each class");
    c->data_shots = 32;
    c->data_label_max_letters = 1;
    ASSERT_FAILS(lcl_sampler_init(&s, c, &w.fake.pack, &w.fake.neighbors, LCL_SPLIT_TRAIN),
                 LCL_CONFIG, "26 names of 1..1 letters are too few for 16 pictures");
    c->data_strategy = LCL_REF;
    c->data_false_rate = 0.5;
    ASSERT_FAILS(lcl_config_check(c), LCL_CONFIG, "data.false_rate");
    c->data_false_rate = 0;
    c->data_zero_shot_fraction = 0.5;
    ASSERT_FAILS(lcl_config_check(c), LCL_CONFIG, "data.zero_shot_fraction");
    close_world(&w);
}

static void write_text(const char *path, const char *head, const char *end)
{
    char *text = lcl_strdupf("%s%s", head, end);
    FILE *f = fopen(path, "w");
    assert_non_null(text);
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    free(text);
}

/* A template of one's own has words for names only where its file does. */
static void test_template_files(void **state)
{
    (void)state;
    static const char head[] =
        "{\"format\": \"lcl-template-1\", \"system\": \"Look.\", \"first\": \" \", \"next\": \"\", "
        "\"support\": \"<image> is {label}.</s>\", \"shot_answer\": \" is {label}.</s>\", "
        "\"question\": \"<image>?\", \"query\": \"{question} it\", \"answer\": \" is "
        "{label}.</s>\"";
    static const char ref[] =
        ", \"ref\": {\"support\": \"<image> named {label}</s>\", \"shot_answer\": \" named "
        "{label}</s>\", \"query\": \"which <image>\", \"answer\": \" all of {label}</s>\"}}";
    struct world w;
    struct lcl_tokenizer *t;
    struct lcl_batch_builder *b;
    struct lcl_episode e;
    char *text;
    open_world(&w, LCL_REF, LCL_READING_PAPER);
    struct lcl_config *c = &w.fake.config;
    snprintf(c->data_template, sizeof c->data_template, "%s/words.json", temp_dir());
    write_text(c->data_template, head, "}");
    ASSERT_OK(lcl_tokenizer_for_config(c, &t));
    ASSERT_FAILS(lcl_batch_builder_for(c, t, 3, &b), LCL_CONFIG, "\"ref\" is missing");
    write_text(c->data_template, head, ref);
    ASSERT_OK(lcl_batch_builder_for(c, t, 3, &b));
    draw(&w, 0, &e);
    ASSERT_OK(lcl_episode_text(b, &e, &text));
    assert_non_null(strstr(text, "which <image> all of "));
    assert_non_null(strstr(text, " named "));
    free(text);
    lcl_episode_free(&e);
    lcl_batch_builder_free(b);
    write_text(c->data_template, head, ", \"ref\": {\"support\": \"<image>\"}}");
    ASSERT_FAILS(lcl_batch_builder_for(c, t, 3, &b), LCL_FORMAT, "\"ref\": \"support\" has");
    lcl_tokenizer_free(t);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_of_strategies),
        cmocka_unit_test(test_ref_of_the_paper),
        cmocka_unit_test(test_ref_of_the_official_code),
        cmocka_unit_test(test_ref_or_weight),
        cmocka_unit_test(test_text_of_names),
        cmocka_unit_test(test_several_queries),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_template_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
