/* Episodes as people and checkers see them: labels of names, the text, the JSON line. */
#include <jansson.h>

#include "tests/data/fake_pack.h"

static void assert_label(const char *name, const char *wanted)
{
    char label[LCL_LABEL_BYTES];
    lcl_label_of_name(name, label);
    assert_string_equal(label, wanted);
}

static void test_labels_of_names(void **state)
{
    (void)state;
    assert_label("Elvish Fighter", "elvish fighter");
    assert_label("\xc3\x89lan \xc3\x97 \xd0\x9f\xd1\x80\xd0\x98 \xce\x91",
                 "\xc3\xa9lan \xc3\x97 \xd0\xbf\xd1\x80\xd0\xb8 \xce\xb1");
    assert_label("the \"Great\"", "the 'great'");
    assert_label("\xe4\xbd\xa0 A", "\xe4\xbd\xa0 a");
    char name[300];
    memset(name, 'X', sizeof name);
    name[299] = 0;
    char label[LCL_LABEL_BYTES];
    lcl_label_of_name(name, label);
    assert_int_equal(strlen(label), LCL_LABEL_BYTES - 1);
}

struct drawn {
    struct fake fake;
    struct lcl_sampler sampler;
    struct lcl_tokenizer *tokenizer;
    struct lcl_batch_builder *builder;
};

static void set_up(struct drawn *d, int64_t queries)
{
    const char *const *texts;
    size_t n = lcl_template_texts(LCL_LAYOUT_PLAIN, &texts);
    fake_make(&d->fake, 12, 4, 14);
    d->fake.config.data_queries = queries;
    d->fake.config.data_hard_fraction = 0.5;
    ASSERT_OK(lcl_sampler_init(&d->sampler, &d->fake.config, &d->fake.pack, &d->fake.neighbors,
                               LCL_SPLIT_TRAIN));
    ASSERT_OK(lcl_tokenizer_train(texts, n, 512, &d->tokenizer));
    ASSERT_OK(lcl_batch_builder_create(d->tokenizer, LCL_LAYOUT_PLAIN, 2, &d->builder));
}

static void tear_down(struct drawn *d)
{
    lcl_batch_builder_free(d->builder);
    lcl_tokenizer_free(d->tokenizer);
    lcl_sampler_free(&d->sampler);
    fake_free(&d->fake);
}

static json_t *json_of(struct drawn *d, uint64_t sample, char **line)
{
    struct lcl_episode e;
    ASSERT_OK(lcl_sampler_draw(&d->sampler, 0, sample, 0, &e));
    ASSERT_OK(lcl_episode_json(d->builder, &d->sampler, &e,
                               &(struct lcl_episode_place){.with_tokens = true}, line));
    lcl_episode_free(&e);
    json_error_t error;
    json_t *row = json_loads(*line, 0, &error);
    assert_non_null(row);
    return row;
}

static int64_t at(const json_t *row, const char *key, size_t i)
{
    const json_t *v = json_array_get(json_object_get(row, key), i);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

/* Everything a checker needs is in the line, and agrees with itself. */
static void check_line(const struct drawn *d, const json_t *row)
{
    const json_t *labels = json_object_get(row, "labels"),
                 *classes = json_object_get(row, "classes");
    int64_t shots = json_integer_value(json_object_get(row, "shots"));
    assert_int_equal(shots, 16);
    assert_int_equal(json_array_size(json_object_get(row, "images")), 17);
    assert_int_equal(json_array_size(labels), 2);
    for (size_t i = 0; i < 17; i++) {
        const char *id = json_string_value(json_array_get(classes, (size_t)at(row, "ways", i)));
        assert_string_equal(d->fake.pack.classes[d->fake.pack.image_class[at(row, "images", i)]].id,
                            id);
    }
    assert_true(json_is_boolean(json_object_get(row, "query_is_positive")));
    bool positive = json_is_true(json_object_get(row, "query_is_positive"));
    assert_int_equal(positive, at(row, "ways", 16) == 0);
    const json_t *rank = json_object_get(row, "neighbor_rank");
    assert_true(json_is_null(rank) ||
                (json_integer_value(rank) >= 1 && json_integer_value(rank) <= 11));

    /* What is supervised reads as the answer of the query's side. */
    size_t n = json_array_size(json_object_get(row, "input_ids"));
    assert_int_equal(json_array_size(json_object_get(row, "supervised")), n);
    struct lcl_ids ids = {0};
    for (size_t i = 0; i < n; i++)
        if (at(row, "supervised", i))
            ASSERT_OK(lcl_ids_push(&ids, (int32_t)at(row, "input_ids", i)));
    char *answer, wanted[256];
    ASSERT_OK(lcl_tokenizer_decode(d->tokenizer, ids.v, ids.n, false, &answer));
    snprintf(wanted, sizeof wanted, " there is \"%s\" in the image.</s>",
             json_string_value(json_array_get(labels, positive ? 0 : 1)));
    assert_string_equal(answer, wanted);
    const char *text = json_string_value(json_object_get(row, "text"));
    size_t size = strlen(text), tail = strlen(wanted);
    assert_true(size > tail);
    assert_string_equal(text + size - tail, wanted);
    free(answer);
    lcl_ids_free(&ids);
}

static void test_json_line(void **state)
{
    (void)state;
    struct drawn d;
    set_up(&d, 1);
    int uniform = 0;
    for (uint64_t i = 0; i < 100; i++) {
        char *line, *again;
        json_t *row = json_of(&d, i, &line), *same = json_of(&d, i, &again);
        assert_string_equal(line, again);
        assert_null(strchr(line, '\n'));
        check_line(&d, row);
        uniform += json_is_null(json_object_get(row, "neighbor_rank"));
        json_decref(row);
        json_decref(same);
        free(line);
        free(again);
    }
    assert_in_range(uniform, 20, 80);
    tear_down(&d);
}

static void test_json_of_several_queries(void **state)
{
    (void)state;
    struct drawn d;
    set_up(&d, 3);
    char *line;
    json_t *row = json_of(&d, 0, &line);
    const json_t *sides = json_object_get(row, "query_is_positive");
    assert_int_equal(json_array_size(sides), 3);
    for (size_t q = 0; q < 3; q++)
        assert_int_equal(json_is_true(json_array_get(sides, q)), at(row, "ways", 16 + q) == 0);
    json_decref(row);
    free(line);
    tear_down(&d);
}

/* Too long an episode is an error that names the sample. */
static void test_json_of_a_long_episode(void **state)
{
    (void)state;
    struct drawn d;
    set_up(&d, 1);
    d.fake.config.model_max_length = 100;
    struct lcl_episode e;
    char *line;
    ASSERT_OK(lcl_sampler_draw(&d.sampler, 0, 9, 0, &e));
    ASSERT_FAILS(lcl_episode_json(d.builder, &d.sampler, &e,
                                  &(struct lcl_episode_place){.with_tokens = true}, &line),
                 LCL_RANGE, "sample 9");
    assert_null(line);
    lcl_episode_free(&e);
    tear_down(&d);
}

/* The first layouts end a shot with the same answer, and the plain one's words are few tokens. */
static void test_templates(void **state)
{
    (void)state;
    for (int layout = 0; layout < 2; layout++) {
        const struct lcl_template *t = lcl_template_get((enum lcl_layout)layout);
        assert_string_equal(t->answer, " there is \"{label}\" in the image.</s>");
        assert_non_null(strstr(t->support, t->answer));
        assert_non_null(strstr(t->query, "<image>"));
        assert_string_equal(t->query + strlen(t->query) - 10, "ASSISTANT:");
    }
    struct lcl_config config;
    struct lcl_tokenizer *t;
    struct lcl_ids ids = {0};
    lcl_config_defaults(&config);
    ASSERT_OK(lcl_tokenizer_for_config(&config, &t));
    const struct lcl_template *plain = lcl_template_get(LCL_LAYOUT_PLAIN);
    ASSERT_OK(lcl_tokenizer_encode(t, plain->query, false, &ids));
    assert_in_range(ids.n, 8, 12);
    lcl_ids_free(&ids);
    lcl_tokenizer_free(t);
    snprintf(config.init_from, sizeof config.init_from, "%s", temp_dir());
    ASSERT_FAILS(lcl_tokenizer_for_config(&config, &t), LCL_NOT_FOUND, "tokenizer.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_of_names),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_json_of_several_queries),
        cmocka_unit_test(test_json_of_a_long_episode),
        cmocka_unit_test(test_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
