/* Conversations as samples: the same ids that a prompt of the same messages has, supervision of
 * answers alone, and the rules for long ones. */
#include "core/fs.h"
#include "data/conversation.h"
#include "tests/support/sp_file.h"
#include "tests/support/support.h"

enum { TOKENS = 3 }; /* a picture */

static const struct lcl_message talk[] = {
    {LCL_ROLE_SYSTEM, "a b"},      {LCL_ROLE_USER, "<image>\nab c <image>"},
    {LCL_ROLE_ASSISTANT, "abc"},   {LCL_ROLE_USER, "b?"},
    {LCL_ROLE_ASSISTANT, "c a b"},
};
static int64_t pictures[] = {7, 7};

struct setup {
    struct lcl_tokenizer *t[2];
    struct lcl_batch_builder *b[2];
};

static struct lcl_tokenizer *sentencepiece(void)
{
    struct torch_bytes m = {0};
    struct lcl_tokenizer *plain, *t;
    sp_small(&m, SP_BPE, true);
    char path[256];
    snprintf(path, sizeof path, "%s/tokenizer.model", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, m.v, m.n));
    ASSERT_OK(lcl_tokenizer_load(path, &plain));
    const struct lcl_special_token image = {"<image>", "image_token"};
    ASSERT_OK(lcl_tokenizer_with_tokens(plain, &image, 1, &t));
    lcl_tokenizer_free(plain);
    free(m.v);
    return t;
}

static int set_up(void **state)
{
    static struct setup s;
    const char *const words[] = {"a b c USER: ASSISTANT: abc"};
    ASSERT_OK(lcl_tokenizer_train(words, 1, 300, &s.t[0]));
    s.t[1] = sentencepiece();
    for (int i = 0; i < 2; i++)
        ASSERT_OK(lcl_batch_builder_create(s.t[i], LCL_LAYOUT_PLAIN, TOKENS, &s.b[i]));
    *state = &s;
    return 0;
}

static int tear_down(void **state)
{
    struct setup *s = *state;
    for (int i = 0; i < 2; i++) {
        lcl_batch_builder_free(s->b[i]);
        lcl_tokenizer_free(s->t[i]);
    }
    return 0;
}

static struct lcl_conversation conversation(int first, int n, bool *learned, int64_t n_images)
{
    return (struct lcl_conversation){.name = "a.h5: row 4",
                                     .n_messages = n,
                                     .messages = (struct lcl_message *)(uintptr_t)(talk + first),
                                     .learned = learned,
                                     .n_images = n_images,
                                     .image = pictures};
}

static const struct lcl_batch *append(struct lcl_batch_builder *b, const struct lcl_conversation *c,
                                      struct lcl_conversation_rules rules, enum lcl_appended wanted)
{
    enum lcl_appended what;
    lcl_batch_builder_reset(b);
    if (!rules.system) rules.system = "";
    ASSERT_OK(lcl_batch_append_conversation(b, c, &rules, &what));
    assert_int_equal(what, wanted);
    return lcl_batch_builder_get(b);
}

/* What is asked for when the model answers is what it has learned to answer: ids up to each answer
 * are those of the prompt. */
static void ids_are_the_prompts(void **state)
{
    struct setup *s = *state;
    bool learned[5] = {[4] = true};
    for (int i = 0; i < 2; i++)
        for (int chat = LCL_CHAT_PLAIN; chat <= LCL_CHAT_CHATML; chat++) {
            struct lcl_conversation c = conversation(0, 5, learned, 2);
            struct lcl_conversation_rules rules = {.chat = (enum lcl_chat)chat};
            const struct lcl_batch *m = append(s->b[i], &c, rules, LCL_APPENDED);
            int64_t T = m->T, first = m->row_S[0] + 1;
            int32_t ids[512];
            assert_in_range(T, 1, 512);
            memcpy(ids, m->id_T, (size_t)T * sizeof *ids);
            assert_int_equal(m->n_images, 1);
            assert_int_equal(m->n_slots, 2 * TOKENS);
            char *text;
            ASSERT_OK(lcl_chat_text(rules.chat, talk, 4, &text));
            lcl_batch_builder_reset(s->b[i]);
            ASSERT_OK(lcl_batch_append_prompt(s->b[i], text, pictures, 2, 0));
            assert_int_equal(m->T, first);
            assert_memory_equal(m->id_T, ids, (size_t)first * sizeof *ids);
            free(text);
        }
}

static void answers_alone_are_learned(void **state)
{
    struct setup *s = *state;
    bool learned[5] = {[2] = true, [4] = true};
    static const char *const wanted[] = {[LCL_CHAT_PLAIN] = "abc\nc a b</s>",
                                         [LCL_CHAT_VICUNA] = " abc</s> c a b</s>",
                                         [LCL_CHAT_LLAMA_2] = " abc </s> c a b </s>",
                                         [LCL_CHAT_LLAMA_3] = "abc<|eot_id|>c a b<|eot_id|>",
                                         [LCL_CHAT_CHATML] = "abc<|im_end|>c a b<|im_end|>"};
    for (int chat = LCL_CHAT_PLAIN; chat <= LCL_CHAT_CHATML; chat++) {
        struct lcl_conversation c = conversation(1, 4, learned + 1, 2);
        struct lcl_conversation_rules rules = {.chat = (enum lcl_chat)chat, .system = "c"};
        const struct lcl_batch *m = append(s->b[0], &c, rules, LCL_APPENDED);
        char *text;
        ASSERT_OK(lcl_tokenizer_decode(s->t[0], m->target_S, m->S, false, &text));
        assert_string_equal(text, wanted[chat]);
        free(text);
        for (int64_t k = 0; k < m->S; k++) {
            assert_int_equal(m->target_S[k], m->id_T[m->row_S[k] + 1]);
            assert_float_equal(m->weight_S[k], 1, 0);
        }
    }
    struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA, .system = "c"};
    struct lcl_conversation c = conversation(1, 4, learned + 1, 2);
    char *text;
    learned[2] = false;
    ASSERT_OK(lcl_conversation_text(&c, &rules, &text));
    assert_string_equal(text, "c USER: <image>\nab c <image> ASSISTANT: abc</s>"
                              "USER: b? ASSISTANT:[[ c a b</s>]]");
    free(text);
}

/* Label accuracy: of an answer that one before it gave, what no other answer has. */
static void labels_of_answers_that_recur(void **state)
{
    struct setup *s = *state;
    static const char *const answers[][4] = {{"a bcc a", "a b a", "a bcc a", "a bcc a"},
                                             {"a b a", "a b a", "a b a", "a b a"},
                                             {"cab", "a b", "b", "cab"}};
    static const char *const wanted[] = {"cccc", "", " cab"}; /* its tokens are " c", "a", "b" */
    for (int i = 0; i < 3; i++) {
        struct lcl_message m[8];
        bool learned[8] = {0}, recurs[8] = {[5] = i == 0, [7] = true};
        for (int k = 0; k < 8; k++) {
            m[k] = (struct lcl_message){k % 2 ? LCL_ROLE_ASSISTANT : LCL_ROLE_USER,
                                        k % 2 ? answers[i][k / 2] : "b?"};
            learned[k] = k % 2;
        }
        struct lcl_conversation c = {.name = "x",
                                     .n_messages = 8,
                                     .messages = m,
                                     .learned = learned,
                                     .recurs = recurs,
                                     .image = pictures};
        struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA};
        const struct lcl_batch *b = append(s->b[0], &c, rules, LCL_APPENDED);
        int32_t labels[64];
        int64_t n = 0;
        for (int64_t k = 0; k < b->S; k++)
            if (b->is_label_S[k]) labels[n++] = b->target_S[k];
        char *text;
        ASSERT_OK(lcl_tokenizer_decode(s->t[0], labels, n, false, &text));
        assert_string_equal(text, wanted[i]);
        free(text);
    }
}

/* Plain text: an assistant's message alone, all of it learned but the token that begins. */
static void text_alone(void **state)
{
    struct setup *s = *state;
    bool learned[] = {true};
    struct lcl_conversation c = conversation(4, 1, learned, 0);
    struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA, .system = "c"};
    for (int i = 0; i < 2; i++) {
        const struct lcl_batch *m = append(s->b[i], &c, rules, LCL_APPENDED);
        char *text;
        assert_int_equal(m->S, m->T - 1);
        ASSERT_OK(lcl_tokenizer_decode(s->t[i], m->id_T, m->T, true, &text));
        assert_string_equal(text, "c a b");
        free(text);
        assert_int_equal(m->id_T[m->T - 1], lcl_tokenizer_eos(s->t[i]));
    }
}

static void long_ones(void **state)
{
    struct setup *s = *state;
    bool learned[5] = {[2] = true, [4] = true};
    struct lcl_conversation c = conversation(1, 4, learned + 1, 2);
    struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA, .system = ""};
    enum lcl_appended what;
    const struct lcl_batch *m = append(s->b[0], &c, rules, LCL_APPENDED);
    int64_t T = m->T, answer = m->row_S[0] + 1, last_image = m->slot[2 * TOKENS - 1];
    rules.max_length = T;
    append(s->b[0], &c, rules, LCL_APPENDED);
    rules.max_length = T - 1;
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_RANGE,
                 "a.h5: row 4: a conversation of");
    rules.too_long = LCL_LONG_DROP;
    assert_int_equal(append(s->b[0], &c, rules, LCL_LEFT_OUT)->T, 0);
    rules.too_long = LCL_LONG_SHORTEN;
    for (rules.max_length = T - 1; rules.max_length > answer; rules.max_length--) {
        m = append(s->b[0], &c, rules, LCL_APPENDED_SHORTER);
        assert_int_equal(m->T, rules.max_length);
        assert_int_equal(m->n_slots, 2 * TOKENS);
        assert_int_equal(m->slot[2 * TOKENS - 1], last_image); /* a plain cut */
    }
    for (; rules.max_length >= 2 * TOKENS; rules.max_length--)
        append(s->b[0], &c, rules, LCL_LEFT_OUT); /* nothing is left that is learned */
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_RANGE,
                 "its 2 pictures alone are 6 tokens");
}

/* A picture behind the limit stays, and so many words before it go. */
static void pictures_are_never_cut(void **state)
{
    struct setup *s = *state;
    static struct lcl_message m[] = {{LCL_ROLE_USER, "a"},
                                     {LCL_ROLE_ASSISTANT, "b c b c"},
                                     {LCL_ROLE_USER, "<image>"},
                                     {LCL_ROLE_ASSISTANT, "c"}};
    bool learned[] = {false, true, false, true};
    struct lcl_conversation c = {
        .name = "x", .n_messages = 4, .messages = m, .learned = learned, .n_images = 1};
    c.image = pictures;
    struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA};
    int64_t T = append(s->b[0], &c, rules, LCL_APPENDED)->T;
    rules.too_long = LCL_LONG_SHORTEN;
    for (rules.max_length = T - 1; rules.max_length > 14; rules.max_length--) {
        const struct lcl_batch *b = append(s->b[0], &c, rules, LCL_APPENDED_SHORTER);
        assert_int_equal(b->T, rules.max_length);
        assert_int_equal(b->n_slots, TOKENS);
        for (int64_t k = 0; k < b->S; k++)
            assert_int_equal(b->target_S[k], b->id_T[b->row_S[k] + 1]);
    }
}

static void what_is_refused(void **state)
{
    struct setup *s = *state;
    bool learned[5] = {[2] = true, [4] = true}, none[5] = {false};
    struct lcl_conversation_rules rules = {.chat = LCL_CHAT_VICUNA, .system = ""};
    enum lcl_appended what;
    lcl_batch_builder_reset(s->b[0]);
    struct lcl_conversation c = conversation(0, 5, learned, 1);
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_CONFIG,
                 "a.h5: row 4: 1 pictures, and 2 times <image>");
    c = conversation(0, 4, learned, 2);
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_CONFIG,
                 "must be an assistant's");
    c = conversation(2, 2, learned + 2, 0);
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_CONFIG,
                 "message 1 of a conversation is out of turn");
    c = conversation(0, 5, none, 2);
    ASSERT_FAILS(lcl_batch_append_conversation(s->b[0], &c, &rules, &what), LCL_CONFIG,
                 "none of its answers is learned");
    assert_int_equal(lcl_batch_builder_get(s->b[0])->n_runs, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_the_prompts),
                                       cmocka_unit_test(answers_alone_are_learned),
                                       cmocka_unit_test(labels_of_answers_that_recur),
                                       cmocka_unit_test(text_alone),
                                       cmocka_unit_test(long_ones),
                                       cmocka_unit_test(pictures_are_never_cut),
                                       cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
