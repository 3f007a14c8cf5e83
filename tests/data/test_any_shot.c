/* Any-shot conversations: what they are about and how long they are, by the laws of
 * docs/any-shot.md; what their turns share; evaluations. */
#include "core/log.h"
#include "data/any_shot.h"
#include "tests/data/fake_pack.h"
#include "tests/support/tiny.h"

enum { CLASSES = 30, TEST_CLASSES = 10, PICTURES = 40, DRAWS = 20000 };

static struct fake fake;

static struct lcl_any_shot open_fake(void)
{
    struct lcl_any_shot s;
    ASSERT_OK(lcl_any_shot_open(&s, &fake.config, &fake.pack, &fake.neighbors, NULL, 0,
                                LCL_SPLIT_TRAIN, 0));
    return s;
}

static int set_up(void **state)
{
    (void)state;
    fake_make(&fake, CLASSES, TEST_CLASSES, PICTURES);
    fake.config.data_strategy = LCL_ANY_SHOT;
    fake.config.data_ways = 4;
    fake.config.seed = 3;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_free(&fake);
    return 0;
}

static void set(const char *key, const char *value)
{
    ASSERT_OK(lcl_config_set(&fake.config, key, value, "test"));
}

static int position(const struct lcl_any_shot *s, int32_t of, int32_t c)
{
    const int32_t *row = s->neighbors->index + (ptrdiff_t)of * s->neighbors->width;
    for (int j = 0; j < s->neighbors->width; j++)
        if (row[j] == c) return j;
    return -1;
}

static void numbers_of_turns_tasks_and_formats_are_drawn_by_their_laws(void **state)
{
    (void)state;
    int64_t turns[7] = {0}, task[2] = {0}, format[3] = {0}, made_up[2] = {0}, way[4] = {0};
    const double even[7] = {1, 1, 1, 1, 1, 1, 1}, shares[2] = {3, 1}, quarter[2] = {3, 1};
    set("data.tasks", "classes=3,fine=1");
    set("data.turns", "9");
    set("data.min_turns", "3");
    set("data.formats", "plain,upper,suffix");
    set("data.made_up_fraction", "0.25");
    struct lcl_any_shot s = open_fake();
    for (uint64_t k = 0; k < DRAWS; k++) {
        struct lcl_any_turns t;
        ASSERT_OK(lcl_any_shot_draw(&s, 1, k, 0, &t));
        assert_in_range(t.n, 3, 9);
        turns[t.n - 3]++;
        task[t.turn[0].task == LCL_TURN_FINE]++;
        format[t.format == LCL_ANSWER_PLAIN ? 0 : t.format == LCL_ANSWER_UPPER ? 1 : 2]++;
        made_up[t.made_up]++;
        way[t.turn[t.n - 1].way]++;
        lcl_any_turns_free(&t);
    }
    assert_true(chi_square(turns, even, 7) < chi_square_limit(6));
    assert_true(chi_square(task, shares, 2) < chi_square_limit(1));
    assert_true(chi_square(format, even, 3) < chi_square_limit(2));
    assert_true(chi_square(made_up, quarter, 2) < chi_square_limit(1));
    assert_true(chi_square(way, even, 4) < chi_square_limit(3));
    lcl_any_shot_close(&s);
}

/* One label a class and one class a label, no picture twice, every answer learned, and the answers
 * say the labels in the conversation's format. */
static void turns_share_their_classes(void **state)
{
    (void)state;
    static const char *const own = "there is \"{answer}\".";
    set("data.made_up_fraction", "0.5");
    set("data.tasks", "classes,fine");
    set("data.fine_neighbors", "5");
    set("data.formats", "plain,prefix,reversed");
    set("data.task_file",
        tiny_file("tasks.json", "{\"format\": \"lcl-tasks-1\", \"classes\": {\"answer\": "
                                "\"there is \\\"{answer}\\\".\"}}"));
    struct lcl_any_shot s = open_fake();
    assert_string_equal(s.tasks.classes.answer, own);
    for (uint64_t k = 0; k < 2000; k++) {
        struct lcl_any_turns t;
        ASSERT_OK(lcl_any_shot_draw(&s, 0, k, 0, &t));
        const struct lcl_conversation *c = &t.conversation;
        assert_int_equal(c->n_messages, 2 * t.n);
        assert_int_equal(c->n_images, t.n);
        for (int i = 0; i < t.n; i++) {
            const struct lcl_turn *a = &t.turn[i];
            char *said = lcl_answer_formatted(t.format, t.word, a->label), whole[300];
            snprintf(whole, sizeof whole, a->task == LCL_TURN_FINE ? "%s" : "there is \"%s\".",
                     said);
            assert_string_equal(c->messages[2 * i + 1].text, whole);
            assert_string_equal(c->messages[2 * i].text, c->messages[0].text);
            assert_true(c->learned[2 * i + 1] && !c->learned[2 * i]);
            assert_int_equal(a->class_id, a->image / PICTURES);
            assert_in_range(a->class_id, 0, CLASSES - 1);
            if (!t.made_up) assert_true(atoi(a->label + 5) == a->class_id);
            for (int j = 0; j < i; j++) {
                const struct lcl_turn *b = &t.turn[j];
                assert_int_equal(a->task, b->task);
                assert_true(a->image != b->image);
                assert_int_equal(a->way == b->way, a->class_id == b->class_id);
                assert_int_equal(a->way == b->way, strcmp(a->label, b->label) == 0);
                if (a->task == LCL_TURN_FINE && a->way == 0 && b->way != 0)
                    assert_in_range(position(&s, a->class_id, b->class_id), 0, 4);
            }
            free(said);
        }
        lcl_any_turns_free(&t);
    }
    lcl_any_shot_close(&s);
}

static void incoherent_turns_share_less(void **state)
{
    (void)state;
    set("data.made_up_fraction", "1");
    set("data.tasks", "classes,fine");
    set("data.min_turns", "9");
    for (int none = 0; none < 2; none++) {
        int64_t same_task = 0, classes = 0;
        set("data.coherence", none ? "none" : "task");
        struct lcl_any_shot s = open_fake();
        for (uint64_t k = 0; k < 2000; k++) {
            struct lcl_any_turns t;
            ASSERT_OK(lcl_any_shot_draw(&s, 0, k, 0, &t));
            bool seen[CLASSES] = {false};
            assert_false(t.made_up);
            for (int i = 0; i < t.n; i++) {
                same_task += t.turn[i].task == t.turn[0].task;
                classes += !seen[t.turn[i].class_id];
                seen[t.turn[i].class_id] = true;
                assert_int_equal(atoi(t.turn[i].label + 5), t.turn[i].class_id);
            }
            lcl_any_turns_free(&t);
        }
        /* Of 30 classes, nine draws show 30 (1 - (29/30)^9) = 7.9 different ones. */
        assert_true(fabs((double)classes / 2000 - 7.89) < 0.1);
        if (!none) assert_int_equal(same_task, 2000 * 9);
        if (none) assert_true(fabs((double)same_task / 2000 - 5) < 0.2);
        lcl_any_shot_close(&s);
    }
}

static void replay_is_single_turns_by_own_names(void **state)
{
    (void)state;
    int64_t single[2] = {0};
    const double shares[2] = {3, 1};
    set("data.made_up_fraction", "1");
    set("data.min_turns", "2");
    set("data.zero_shot_fraction", "0.25");
    struct lcl_any_shot s = open_fake();
    for (uint64_t k = 0; k < 8000; k++) {
        struct lcl_any_turns t;
        ASSERT_OK(lcl_any_shot_draw(&s, 0, k, 0, &t));
        single[t.n == 1]++;
        assert_int_equal(t.made_up, t.n > 1);
        lcl_any_turns_free(&t);
    }
    assert_true(chi_square(single, shares, 2) < chi_square_limit(1));
    lcl_any_shot_close(&s);
}

/* With probability 1 a turn whose way was shown repeats a picture of it, view and all. */
static void turns_repeat_pictures_where_asked(void **state)
{
    (void)state;
    set("data.augment_views", "4");
    set("data.repeat_query_start", "1");
    struct lcl_any_shot s = open_fake();
    int repeats = 0;
    for (uint64_t k = 0; k < 500; k++)
        for (int end = 0; end < 2; end++) {
            struct lcl_any_turns t;
            ASSERT_OK(lcl_any_shot_draw(&s, 0, k, end, &t));
            for (int i = 0; i < t.n; i++)
                for (int j = 0; j < i; j++) {
                    bool same = t.conversation.image[i] == t.conversation.image[j];
                    if (end) assert_false(same);
                    if (end || t.turn[i].way != t.turn[j].way) continue;
                    assert_true(same);
                    assert_int_equal(t.conversation.view[i], t.conversation.view[j]);
                    repeats++;
                }
            lcl_any_turns_free(&t);
        }
    assert_true(repeats > 1000);
    lcl_any_shot_close(&s);
}

static void a_conversation_is_a_function_of_its_number(void **state)
{
    (void)state;
    set("data.tasks", "classes,fine");
    set("data.formats", "plain,prefix");
    set("data.made_up_fraction", "0.5");
    struct lcl_any_shot s = open_fake();
    const struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA, .system = ""};
    char *line[50], *again, *other;
    int differ = 0;
    struct lcl_any_turns t;
    for (uint64_t k = 0; k < 50; k++) {
        ASSERT_OK(lcl_any_shot_draw(&s, 2, k, 0, &t));
        ASSERT_OK(lcl_any_turns_json(&s, &t, &rules, &line[k]));
        lcl_any_turns_free(&t);
    }
    for (uint64_t k = 50; k-- > 0;) {
        ASSERT_OK(lcl_any_shot_draw(&s, 2, k, 0.5, &t));
        ASSERT_OK(lcl_any_turns_json(&s, &t, &rules, &again));
        lcl_any_turns_free(&t);
        ASSERT_OK(lcl_any_shot_draw(&s, 3, k, 0, &t));
        ASSERT_OK(lcl_any_turns_json(&s, &t, &rules, &other));
        lcl_any_turns_free(&t);
        assert_string_equal(line[k], again);
        differ += strcmp(line[k], other) != 0;
        free(line[k]);
        free(again);
        free(other);
    }
    assert_int_equal(differ, 50);
    lcl_any_shot_close(&s);
}

/* Held-out classes, each asked equally often; shots show each way as often as another, or once
 * more; the asked picture in none of them. */
static void evaluations_ask_fairly(void **state)
{
    (void)state;
    set("eval.task", "classes");
    set("eval.format", "prefix");
    set("data.made_up_fraction", "1");
    struct lcl_any_shot s;
    ASSERT_OK(lcl_any_shot_open(&s, &fake.config, &fake.pack, &fake.neighbors, NULL, 0,
                                LCL_SPLIT_TEST, 1U << LCL_TURN_CLASSES));
    int64_t way[4] = {0};
    const double even[4] = {1, 1, 1, 1};
    for (int shots = 0; shots <= 8; shots++)
        for (uint64_t k = 0; k < 500; k++) {
            struct lcl_any_turns t;
            int shown[4] = {0};
            ASSERT_OK(lcl_any_shot_draw_eval(&s, shots, k, &t));
            assert_int_equal(t.n, shots + 1);
            const struct lcl_turn *asked = &t.turn[shots];
            for (int i = 0; i < shots; i++) {
                shown[t.turn[i].way]++;
                assert_true(t.turn[i].image != asked->image);
                assert_in_range(t.turn[i].class_id, CLASSES, CLASSES + TEST_CLASSES - 1);
            }
            for (int w = 0; w < 4; w++) assert_in_range(shown[w], shots / 4, (shots + 3) / 4);
            assert_int_equal(t.n_candidates, 4);
            assert_string_equal(t.candidate[asked->way],
                                t.conversation.messages[2 * shots + 1].text);
            assert_int_equal(t.format, LCL_ANSWER_PREFIX);
            assert_int_equal(strncmp(t.candidate[0], t.word, strlen(t.word)), 0);
            way[asked->way]++;
            lcl_any_turns_free(&t);
        }
    assert_true(chi_square(way, even, 4) < chi_square_limit(3));
    lcl_any_shot_close(&s);
}

static void attributes_are_read_off_names(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_pack pack;
    struct lcl_any_shot s;
    tiny_config(&c, "data.strategy=any-shot data.tasks=attributes data.ways=2 data.turns=6");
    snprintf(c.data_task_file, sizeof c.data_task_file, "%s",
             tiny_file("attributes.json",
                       "{\"format\": \"lcl-tasks-1\", \"attributes\": {\"number\": {\"values\": "
                       "{\"*/0.png\": \"Early\", \"*/[1-2].png\": \"Early\", \"*/5.png\": "
                       "\"last\"}}}}"));
    ASSERT_OK(lcl_pack_open(tiny_pack(), &pack));
    ASSERT_OK(lcl_any_shot_open(&s, &c, &pack, NULL, NULL, 0, LCL_SPLIT_TRAIN, 0));
    int64_t value[2] = {0};
    const double even[2] = {1, 1};
    for (uint64_t k = 0; k < 500; k++) {
        struct lcl_any_turns t;
        ASSERT_OK(lcl_any_shot_draw(&s, 0, k, 0, &t));
        for (int i = 0; i < t.n; i++) {
            const char *name, *file;
            ASSERT_OK(lcl_pack_image_name(&pack, t.turn[i].image, &name));
            assert_non_null(strstr(name, "train/"));
            file = strrchr(name, '/') + 1;
            bool last = strcmp(t.turn[i].label, "last") == 0;
            assert_true(last ? *file == '5' : *file <= '2');
            if (!last) assert_string_equal(t.turn[i].label, "Early");
            value[last]++;
        }
        lcl_any_turns_free(&t);
    }
    assert_true(chi_square(value, even, 2) < chi_square_limit(1));
    lcl_any_shot_close(&s);
    snprintf(c.data_task_file, sizeof c.data_task_file, "%s",
             tiny_file("none.json",
                       "{\"format\": \"lcl-tasks-1\", \"attributes\": {\"number\": {\"values\": "
                       "{\"*.jpg\": \"a\", \"*.png\": \"b\"}}}}"));
    ASSERT_FAILS(lcl_any_shot_open(&s, &c, &pack, NULL, NULL, 0, LCL_SPLIT_TRAIN, 0), LCL_CONFIG,
                 "the attribute number has 1 values of two or more pictures in the train split");
    lcl_pack_close(&pack);
}

static void formats_say_the_same_otherwise(void **state)
{
    (void)state;
    static const char *const wanted[] = {"a b\xc3\xa9", "A B\xc3\xa9", "zu a b\xc3\xa9",
                                         "a b\xc3\xa9 zu",
                                         "\xc3\xa9"
                                         "b a"};
    for (int i = 0; i < LCL_ANSWER_FORMATS; i++) {
        char *said = lcl_answer_formatted((enum lcl_answer_format)i, "zu", "a b\xc3\xa9");
        assert_string_equal(said, wanted[i]);
        free(said);
    }
}

static void fails(const char *text, const char *message)
{
    struct lcl_any_tasks t;
    ASSERT_FAILS(lcl_any_tasks_parse("t.json", text, strlen(text), &t), LCL_FORMAT, message);
}

static void what_is_refused(void **state)
{
    (void)state;
    struct lcl_any_shot s;
    fails("[]", "t.json is no JSON object");
    fails("{\"format\": \"x\"}", "\"format\" is not");
    fails("{\"format\": \"lcl-tasks-1\", \"color\": {}}", "\"color\" is no key");
    fails("{\"format\": \"lcl-tasks-1\", \"classes\": {\"questions\": [\"who?\"]}}",
          "classes: \"questions\" holds one that does not say <image> once");
    fails("{\"format\": \"lcl-tasks-1\", \"fine\": {\"answer\": \"x\"}}",
          "fine: \"answer\" does not say {answer} once");
    fails("{\"format\": \"lcl-tasks-1\", \"attributes\": {\"a\": {\"values\": {\"*a*a*a*a*\": "
          "\"x\"}}}}",
          "a: \"*a*a*a*a*\" is no pattern");
    fails("{\"format\": \"lcl-tasks-1\", \"attributes\": {\"a\": {\"values\": {\"*\": \"\"}}}}",
          "has no value of 1 to 127 bytes");
#define REFUSED(text)                                                                       \
    ASSERT_FAILS(                                                                           \
        lcl_any_shot_open(&s, &fake.config, &fake.pack, NULL, NULL, 0, LCL_SPLIT_TRAIN, 0), \
        LCL_CONFIG, text)
    set("data.tasks", "classes=0");
    REFUSED("the weight above 0");
    set("data.tasks", "clases");
    REFUSED("\"clases\" is no task");
    set("data.tasks", "fine");
    REFUSED("task fine needs a neighbor table");
    set("data.tasks", "rows");
    REFUSED("task rows needs packs of rows in data.sources");
    set("data.tasks", "attributes");
    REFUSED("task attributes needs data.task_file");
    set("data.tasks", "classes");
    set("data.formats", "plain,loud");
    REFUSED("\"loud\" is no format");
    set("data.formats", "plain");
    set("data.ways", "31");
    REFUSED("the train split has 30 classes of two or more pictures; data.ways is 31");
    set("data.min_turns", "10");
    ASSERT_FAILS(lcl_config_check(&fake.config), LCL_CONFIG, "data.min_turns 10 is above");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    lcl_log_set_level(LCL_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        TEST(numbers_of_turns_tasks_and_formats_are_drawn_by_their_laws),
        TEST(turns_share_their_classes),
        TEST(incoherent_turns_share_less),
        TEST(replay_is_single_turns_by_own_names),
        TEST(turns_repeat_pictures_where_asked),
        TEST(a_conversation_is_a_function_of_its_number),
        TEST(evaluations_ask_fairly),
        TEST(attributes_are_read_off_names),
        cmocka_unit_test(formats_say_the_same_otherwise),
        TEST(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
