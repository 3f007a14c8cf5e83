/* Chat templates: the exact strings of the public formats, as text and as Jinja. */
#include "data/chat.h"
#include "data/episode.h"
#include "tests/support/support.h"

static const struct lcl_message talk[] = {{LCL_ROLE_SYSTEM, "Be kind."},
                                          {LCL_ROLE_USER, " <image>\nWho? "},
                                          {LCL_ROLE_ASSISTANT, "A fox."},
                                          {LCL_ROLE_USER, "Where?"}};

static void check(enum lcl_chat chat, int first, int n, const char *wanted)
{
    char *text;
    ASSERT_OK(lcl_chat_text(chat, talk + first, n, &text));
    assert_string_equal(text, wanted);
    free(text);
}

static void texts(void **state)
{
    (void)state;
    check(LCL_CHAT_PLAIN, 0, 4, "Be kind.\n <image>\nWho? A fox.\nWhere?");
    check(LCL_CHAT_VICUNA, 0, 4,
          "Be kind. USER:  <image>\nWho?  ASSISTANT: A fox.</s>USER: Where? ASSISTANT:");
    check(LCL_CHAT_LLAMA_2, 0, 4,
          "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n<image>\nWho? [/INST] A fox. </s>"
          "<s>[INST] Where? [/INST]");
    check(LCL_CHAT_LLAMA_3, 0, 4,
          "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWho?<|eot_id|>"
          "<|start_header_id|>assistant<|end_header_id|>\n\nA fox.<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|>"
          "<|start_header_id|>assistant<|end_header_id|>\n\n");
    check(LCL_CHAT_CHATML, 0, 4,
          "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n <image>\nWho? <|im_end|>\n"
          "<|im_start|>assistant\nA fox.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n"
          "<|im_start|>assistant\n");
    check(LCL_CHAT_VICUNA, 3, 1, "USER: Where? ASSISTANT:");
    check(LCL_CHAT_LLAMA_2, 1, 3,
          "[INST] <image>\nWho? [/INST] A fox. </s><s>[INST] Where? [/INST]");
    assert_string_equal(lcl_chat_end(LCL_CHAT_CHATML), "<|im_end|>");
    assert_string_equal(lcl_chat_end(LCL_CHAT_LLAMA_3), "<|eot_id|>");
    assert_null(lcl_chat_end(LCL_CHAT_VICUNA));
}

static void turns_must_alternate(void **state)
{
    (void)state;
    char *text;
    const struct lcl_message late[] = {talk[1], talk[0]}, twice[] = {talk[1], talk[3]};
    ASSERT_FAILS(lcl_chat_text(LCL_CHAT_CHATML, talk, 3, &text), LCL_CONFIG, "must be a user's");
    ASSERT_FAILS(lcl_chat_text(LCL_CHAT_CHATML, talk, 0, &text), LCL_CONFIG, "must be a user's");
    ASSERT_FAILS(lcl_chat_text(LCL_CHAT_CHATML, late, 2, &text), LCL_CONFIG,
                 "message 2 of a conversation is out of turn");
    ASSERT_FAILS(lcl_chat_text(LCL_CHAT_CHATML, twice, 2, &text), LCL_CONFIG, "message 2");
}

static void the_tokenizer_tells(void **state)
{
    (void)state;
    struct lcl_config c;
    struct lcl_tokenizer *t;
    const char *const words[] = {"a fox"};
    lcl_config_defaults(&c);
    ASSERT_OK(lcl_tokenizer_train(words, 1, 300, &t));
    assert_int_equal(lcl_chat_for(&c, t), LCL_CHAT_VICUNA);
    ASSERT_OK(lcl_config_set(&c, "chat.template", "llama-2", "test"));
    assert_int_equal(lcl_chat_for(&c, t), LCL_CHAT_LLAMA_2);
    lcl_tokenizer_free(t);
}

static void jinja(void **state)
{
    (void)state;
    char *text;
    ASSERT_OK(lcl_chat_jinja(LCL_CHAT_CHATML, "<im'g>", &text));
    assert_string_equal(
        text,
        "{% macro words(content) %}{% if content is string %}{{ content }}{% else %}"
        "{% for part in content %}{{ '<im\\'g>' if part['type'] == 'image' else part['text'] }}"
        "{% endfor %}{% endif %}{% endmacro %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}"
        "{{ '<|im_start|>system\\n' + words(message['content']) + '<|im_end|>\\n' }}"
        "{% elif message['role'] == 'user' %}"
        "{{ '<|im_start|>user\\n' + words(message['content']) + '<|im_end|>\\n' }}{% else %}"
        "{{ '<|im_start|>assistant\\n' + words(message['content']) + '<|im_end|>\\n' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
        "{% endif %}");
    free(text);
    ASSERT_OK(lcl_chat_jinja(LCL_CHAT_LLAMA_2, "<image>", &text));
    assert_non_null(strstr(text, "{% endmacro %}{{ bos_token }}{% for"));
    assert_non_null(strstr(text, "{{ '' + bos_token + '[INST] ' }}"));
    assert_non_null(strstr(text, "{{ ' ' + (words(message['content']) | trim) + ' ' + eos_token + "
                                 "'' }}"));
    free(text);
}

/* A prompt's pictures stand where <image> was; marks are spelled as the tokenizer spells them. */
static void prompts_with_pictures(void **state)
{
    (void)state;
    struct lcl_tokenizer *t;
    struct lcl_batch_builder *b;
    const char *const words[] = {"a fox and"};
    const int64_t pictures[] = {-4, -1, -4};
    ASSERT_OK(lcl_tokenizer_train(words, 1, 300, &t));
    ASSERT_OK(lcl_batch_builder_create(t, LCL_LAYOUT_PLAIN, 3, &b));
    ASSERT_OK(lcl_batch_append_prompt(b, "<image>a<image> fox</s><image>", pictures, 3, 0));
    ASSERT_OK(lcl_batch_append_prompt(b, "fox", NULL, 0, 0));
    const struct lcl_batch *m = lcl_batch_builder_get(b);
    assert_int_equal(m->n_images, 2); /* a picture twice is kept once */
    assert_int_equal(m->image_I[0], -4);
    assert_int_equal(m->image_I[1], -1);
    assert_int_equal(m->n_slots, 9);
    int32_t image = lcl_tokenizer_image(t);
    for (int64_t i = 0; i < 9; i++) {
        assert_int_equal(m->id_T[m->slot[i]], image);
        assert_int_equal(m->slot_row[i], (i / 3 == 1 ? 3 : 0) + i % 3);
    }
    assert_int_equal(m->n_runs, 2);
    assert_int_equal(m->position_T[m->runs[1].q_begin], 0);
    assert_int_equal(m->runs[1].prefix_end, m->runs[1].prefix_begin);
    assert_int_equal(lcl_batch_builder_branches(b)[1].episode, 1);
    int64_t ends = 0;
    for (int64_t i = 0; i < m->T; i++) ends += m->id_T[i] == lcl_tokenizer_eos(t);
    assert_int_equal(ends, 1);
    int64_t T = m->T;
    ASSERT_FAILS(lcl_batch_append_prompt(b, "<image>", pictures, 2, 0), LCL_CONFIG,
                 "with 2 pictures has 1 times <image>");
    ASSERT_FAILS(lcl_batch_append_prompt(b, "a <image>", pictures, 1, 4), LCL_RANGE,
                 "over model_max_length 4");
    assert_int_equal(lcl_batch_builder_get(b)->T, T); /* as it was */
    lcl_batch_builder_free(b);
    lcl_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(turns_must_alternate),
        cmocka_unit_test(jinja),
        cmocka_unit_test(the_tokenizer_tells),
        cmocka_unit_test(prompts_with_pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
