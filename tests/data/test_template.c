/* Templates in files, and the string literals of Python that lcl import templates reads. */
#include "core/fs.h"
#include "data/episode.h"
#include "data/python_strings.h"
#include "tests/support/support.h"

#define TURNS                                                                                  \
    "\"format\": \"lcl-template-1\", \"system\": \"Look.\", \"first\": \" \", \"next\": \"\"," \
    "\"support\": \"USER: <image> what? ASSISTANT: a \\\"{label}\\\" [x]</s>\","               \
    "\"shot_answer\": \" a \\\"{label}\\\" [x]</s>\", \"answer\": \" a \\\"{label}\\\"</s>\","
#define ASKED "\"query\": \"USER: now {question} ASSISTANT:\", \"question\": \"<image> what?\""

static char path[400];

static const char *write_template(const char *json)
{
    snprintf(path, sizeof path, "%s/template.json", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, json, strlen(json)));
    return path;
}

static void check_text(const struct lcl_batch_builder *b, struct lcl_episode *e, uint32_t question,
                       const char *wanted)
{
    char *text;
    e->question = question;
    ASSERT_OK(lcl_episode_text(b, e, &text));
    assert_string_equal(text, wanted);
    free(text);
}

static void questions_are_drawn(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_tokenizer *t;
    struct lcl_batch_builder *b;
    struct lcl_shot shots[] = {{.image = -1}, {.way = 1, .image = -2}};
    struct lcl_shot query = {.way = 1, .image = -3};
    struct lcl_episode e = {
        .n_ways = 2, .n_shots = 2, .n_queries = 1, .shots = shots, .queries = &query};
    strcpy(e.label[0], "dax");
    strcpy(e.label[1], "wug");
    lcl_config_defaults(&c);
    snprintf(
        c.data_template, sizeof c.data_template, "%s",
        write_template("{" TURNS ASKED ", \"questions\": [\"is <image> old?\", \"<image>?\"]}"));
    ASSERT_OK(lcl_tokenizer_for_config(&c, &t));
    ASSERT_OK(lcl_batch_builder_for(&c, t, 3, &b));
#define SHOTS                                                                                 \
    "Look. USER: <image> what? ASSISTANT: a \"dax\" [x]</s>USER: <image> what? ASSISTANT: a " \
    "\"wug\" [x]</s>USER: now "
    check_text(b, &e, 0, SHOTS "<image> what? ASSISTANT: a \"wug\"</s>");
    check_text(b, &e, 1, SHOTS "is <image> old? ASSISTANT: a \"wug\"</s>");
    check_text(b, &e, 4, SHOTS "<image>? ASSISTANT: a \"wug\"</s>");
#undef SHOTS
    /* The ids are those of the text, one row of the query's answer supervised for each. */
    int64_t T[3];
    for (uint32_t q = 0; q < 3; q++) {
        e.question = q;
        lcl_batch_builder_reset(b);
        ASSERT_OK(lcl_batch_append_episode(b, &e, LCL_ENCODE_TRAIN, LCL_SUPERVISE_LAST, NULL, 0));
        const struct lcl_batch *m = lcl_batch_builder_get(b);
        T[q] = m->T;
        assert_int_equal(m->n_slots, 9);
        for (int64_t k = 0; k < 9; k++)
            assert_int_equal(m->id_T[m->slot[k]], lcl_tokenizer_image(t));
        char *said;
        ASSERT_OK(lcl_tokenizer_decode(t, m->target_S, m->S, false, &said));
        assert_string_equal(said, " a \"wug\"</s>");
        free(said);
    }
    assert_true(T[1] > T[2]);
    lcl_batch_builder_free(b);
    lcl_tokenizer_free(t);
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    struct lcl_template t;
    static const char *const cases[][2] = {
        {"{", "template.json:"},
        {"[]", "is no JSON object"},
        {"{\"format\": \"other\"}", "\"format\" is not"},
        {"{" TURNS "\"query\": \"{question}\"}", "\"question\" is missing"},
        {"{" TURNS "\"question\": \"<image>\", \"query\": \"none\"}", "must say {question} once"},
        {"{" TURNS "\"question\": \"what?\", \"query\": \"{question}\"}", "0 times <image>"},
        {"{" TURNS ASKED ", \"questions\": [\"<image>?\", \"what?\"]}", "question 2 is no text"},
        {"{" TURNS ASKED ", \"questions\": 7}", "\"questions\" is no list"},
        {"{" TURNS ASKED ", \"answer\": \"twice\"}", "template.json:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_FAILS(lcl_template_load(write_template(cases[i][0]), &t), LCL_FORMAT, cases[i][1]);
    ASSERT_FAILS(lcl_template_load("no/such.json", &t), LCL_NOT_FOUND, "no/such.json");
}

/* ---- Python ---- */

struct heard {
    char all[400];
};

static lcl_status hear(void *ctx, const char *text, int line)
{
    struct heard *h = ctx;
    size_t n = strlen(h->all);
    snprintf(h->all + n, sizeof h->all - n, "%d:%s|", line, text);
    return LCL_OK;
}

static void check_strings(const char *source, const char *wanted)
{
    struct heard h = {""};
    ASSERT_OK(lcl_python_strings(source, strlen(source), hear, &h));
    assert_string_equal(h.all, wanted);
}

static void python_literals(void **state)
{
    (void)state;
    check_strings("a = 'x' \"y\"\nb = ('one '\n   \"two\")  # 'no'\n", "1:xy|2:one two|");
    check_strings("f'{{a}} {b}' + r'\\n' 'z\\n\\x41\\'\\q'", "1:{a} {b}|1:\\nz\nA'\\q|");
    check_strings("'''a\n'b'\n''', \"open\nnext = ''", "1:a\n'b'\n|3:open|4:|");
    check_strings("don't = 1\nu'a' \\\n 'b'", "1:t = 1|2:ab|");
    check_strings("'\\", "1:\\|");
    check_strings("Bf'a'x'b'", "1:a|1:b|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_are_drawn),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(python_literals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
