/* The official code's form of an episode: its turns cut by hand into the sentences that its slow
 * tokenizer sees, each encoded alone. */
#include "core/fs.h"
#include "data/official.h"
#include "tests/support/sp_file.h"
#include "tests/support/support.h"

enum { UNK, BOS, EOS, PATCH = 267, START, END };

#define TEXTS                                                                                   \
    "{\"format\": \"lcl-template-1\", \"system\": \"ab\", \"first\": \" \", \"next\": \"\", "   \
    "\"support\": \"USER: [e] a <image>? ASSISTANT: c \\\"{label}\\\" b. [/e]</s>\", "          \
    "\"shot_answer\": \" c \\\"{label}\\\" b. [/e]</s>\", \"query\": \"[F]:  USER: {question} " \
    "ASSISTANT:\", \"question\": \"bc <image>?\", \"answer\": \" c \\\"{label}\\\" b.</s>\"}"

static struct lcl_tokenizer *tokenizer;
static struct lcl_official *official;

static struct lcl_official *make(int64_t images)
{
    struct lcl_template t;
    struct lcl_official *o;
    ASSERT_OK(lcl_template_parse("texts", TEXTS, strlen(TEXTS), &t));
    ASSERT_OK(lcl_official_create(&t, tokenizer, images, &o));
    lcl_template_free(&t);
    return o;
}

static int set_up(void **state)
{
    (void)state;
    struct torch_bytes b = {0};
    char path[400];
    snprintf(path, sizeof path, "%s/tokenizer.model", temp_dir());
    sp_small(&b, SP_BPE, true);
    ASSERT_OK(lcl_fs_write_atomic(path, b.v, b.n));
    free(b.v);
    ASSERT_OK(lcl_tokenizer_load(path, &tokenizer));
    official = make(2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lcl_official_free(official);
    lcl_tokenizer_free(tokenizer);
    return 0;
}

/* Expected ids: texts are sentences, the others marks by name, up to NULL. */
static void expect(struct lcl_ids *to, const char *const *v)
{
    static const struct {
        const char *name;
        int32_t id;
    } marks[] = {{"<s>", BOS}, {"</s>", EOS}, {"<unk>", UNK}};
    for (; *v; v++) {
        bool mark = false;
        for (int i = 0; i < 3; i++)
            if (strcmp(*v, marks[i].name) == 0) {
                ASSERT_OK(lcl_ids_push(to, marks[i].id));
                mark = true;
            }
        if (strcmp(*v, "<image>") == 0) {
            for (int i = 0; i < 4; i++)
                ASSERT_OK(lcl_ids_push(to, (int32_t[]){START, PATCH, PATCH, END}[i]));
            mark = true;
        }
        if (!mark) ASSERT_OK(lcl_tokenizer_encode(tokenizer, *v, false, to));
    }
}

static void assert_ids(const struct lcl_ids *got, const struct lcl_ids *wanted)
{
    assert_int_equal(got->n, wanted->n);
    for (int64_t i = 0; i < got->n; i++) assert_int_equal(got->v[i], wanted->v[i]);
}

#define EXPECT(to, ...) expect(to, (const char *const[]){__VA_ARGS__, NULL})

static const char *const names[] = {"dax", "ab", "dax"};

#define SUPPORTS                                                                           \
    "<s>", "ab USER: [e] a", "<image>", "? ASSISTANT: c \"dax\" b. [/e]", "</s>", "<s>",   \
        " USER: [e] a", "<image>", "? ASSISTANT: c \"ab\" b. [/e]", "<s>", " USER: [e] a", \
        "<image>", "? ASSISTANT: c \"dax\" b. [/e]", "<s>"

static void turns_stand_alone(void **state)
{
    (void)state;
    struct lcl_ids ids = {0}, labels = {0}, wanted = {0}, answer = {0};
    struct lcl_official_episode e = {.labels = names, .n_shots = 3, .label = "ab"};
    ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
    EXPECT(&wanted, SUPPORTS, "[F]:  USER: bc", "<image>", "? ASSISTANT: c \"ab\" b.", "</s>");
    assert_ids(&ids, &wanted);
    /* supervised: the answer, from its first token on, and its end */
    EXPECT(&answer, "c \"ab\" b.", "</s>");
    assert_int_equal(labels.n, ids.n);
    for (int64_t i = 0; i < labels.n; i++) {
        int64_t k = i - (labels.n - answer.n);
        assert_int_equal(labels.v[i], k < 0 ? LCL_OFFICIAL_IGNORED : ids.v[i]);
        if (k >= 1) assert_int_equal(ids.v[i], answer.v[k]);
    }
    /* a question of its own: white space goes beside images, of any kind */
    ids.n = labels.n = wanted.n = 0;
    e.question = "<image>\xc2\xa0\x1f b a \xe3\x80\x80<image>";
    ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
    EXPECT(&wanted, SUPPORTS, "[F]:  USER:", "<image>", "b a", "<image>", "ASSISTANT: c \"ab\" b.",
           "</s>");
    assert_ids(&ids, &wanted);
    lcl_ids_free(&ids);
    lcl_ids_free(&labels);
    lcl_ids_free(&wanted);
    lcl_ids_free(&answer);
}

static void evaluations_end_at_the_answer(void **state)
{
    (void)state;
    struct lcl_ids ids = {0}, labels = {0}, wanted = {0};
    struct lcl_official_episode e = {.question = "<image> a"};
    ASSERT_OK(lcl_official_encode(official, &e, false, &ids, &labels));
    EXPECT(&wanted, "<s>", "[F]:  USER:", "<image>", "a ASSISTANT:");
    assert_ids(&ids, &wanted);
    assert_int_equal(labels.n, ids.n);
    for (int64_t i = 0; i < ids.n; i++) assert_int_equal(labels.v[i], LCL_OFFICIAL_IGNORED);
    ASSERT_FAILS(lcl_official_encode(official, &e, true, &ids, &labels), LCL_FORMAT,
                 "a training episode has no label");
    /* with a label: the whole turn without <s>, its end mark taken out */
    ids.n = labels.n = wanted.n = 0;
    e.label = "b [/e]c";
    ASSERT_OK(lcl_official_encode(official, &e, false, &ids, &labels));
    EXPECT(&wanted, "[F]:  USER:", "<image>", "a ASSISTANT: c \"bc\" b.", "</s>");
    assert_ids(&labels, &wanted);
    lcl_ids_free(&ids);
    lcl_ids_free(&labels);
    lcl_ids_free(&wanted);
}

/* Where the token counts of a turn do not add up, the official code supervises nothing. */
static void odd_labels_are_not_supervised(void **state)
{
    (void)state;
    static const char *const odd[] = {"a</s>b", "<unk>", "a ASSISTANT: b"};
    for (int i = 0; i < 3; i++) {
        struct lcl_ids ids = {0}, labels = {0};
        struct lcl_official_episode e = {.label = odd[i]};
        ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
        assert_int_equal(labels.n, ids.n);
        for (int64_t k = 0; k < ids.n; k++) assert_int_equal(labels.v[k], LCL_OFFICIAL_IGNORED);
        lcl_ids_free(&ids);
        lcl_ids_free(&labels);
    }
    struct lcl_ids ids = {0}, labels = {0};
    struct lcl_official_episode e = {.label = "a <image>"};
    ASSERT_FAILS(lcl_official_encode(official, &e, true, &ids, &labels), LCL_FORMAT,
                 "the label holds <image>");
    lcl_ids_free(&ids);
    lcl_ids_free(&labels);
}

static void a_turn_is_cut_at_2048(void **state)
{
    (void)state;
    struct lcl_ids ids = {0}, labels = {0};
    char question[4000] = "";
    for (int i = 0; i < 700; i++) strcat(question, "abc ");
    struct lcl_official_episode e = {.label = "a"};
    /* nothing but text beyond the limit: cut off */
    char *text = lcl_strdupf("<image> %s", question);
    e.question = text;
    ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
    assert_true(ids.n < 2048 && ids.v[ids.n - 1] == EOS);
    ids.n = labels.n = 0;
    free(text);
    text = lcl_strdupf("<image> %s%s%s", question, question, question);
    e.question = text;
    ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
    assert_int_equal(ids.n, 2048);
    assert_true(ids.v[2047] != EOS);
    /* the picture lies there: the last ids that are none of it go */
    ids.n = labels.n = 0;
    free(text);
    text = lcl_strdupf("%s%s%s<image>", question, question, question);
    e.question = text;
    ASSERT_OK(lcl_official_encode(official, &e, true, &ids, &labels));
    assert_int_equal(ids.n, 2048);
    for (int i = 0; i < 4; i++)
        assert_int_equal(ids.v[2044 + i], ((int32_t[]){START, PATCH, PATCH, END}[i]));
    ids.n = labels.n = 0;
    free(text);
    struct lcl_official *large = make(2047);
    e.question = NULL;
    ASSERT_FAILS(lcl_official_encode(large, &e, true, &ids, &labels), LCL_RANGE,
                 "2049 image tokens, over the 2048");
    lcl_official_free(large);
    lcl_ids_free(&ids);
    lcl_ids_free(&labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_stand_alone), cmocka_unit_test(evaluations_end_at_the_answer),
        cmocka_unit_test(odd_labels_are_not_supervised), cmocka_unit_test(a_turn_is_cut_at_2048)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
