#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

/* What stands around messages. */
struct format {
    const char *begin;     /* in Jinja alone: the token that begins a sequence */
    const char *system[2]; /* before and after */
    const char *user[2];
    const char *answer[2];
    const char *first, *next; /* before `user` where no system message, or an answer precedes */
    const char *generate;     /* where the answer begins */
    bool trim;                /* blanks around messages are dropped */
    const char *end;
    const char *close; /* after the last answer instead, where answers end with no token */
};

#define L3(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define ML(role) "<|im_start|>" role "\n"

static const struct format formats[] = {
    [LCL_CHAT_PLAIN] = {.system = {"", "\n"},
                        .user = {"", ""},
                        .answer = {"", "\n"},
                        .first = "",
                        .next = "",
                        .generate = "",
                        .close = "</s>"},
    [LCL_CHAT_VICUNA] = {.system = {"", " "},
                         .user = {"USER: ", " "},
                         .answer = {"ASSISTANT: ", "</s>"},
                         .first = "",
                         .next = "",
                         .generate = "ASSISTANT:"},
    [LCL_CHAT_LLAMA_2] = {.begin = "<s>",
                          .system = {"[INST] <<SYS>>\n", "\n<</SYS>>\n\n"},
                          .user = {"", " [/INST]"},
                          .answer = {" ", " </s>"},
                          .first = "[INST] ",
                          .next = "<s>[INST] ",
                          .generate = "",
                          .trim = true},
    [LCL_CHAT_LLAMA_3] = {.begin = "<s>",
                          .system = {L3("system"), "<|eot_id|>"},
                          .user = {L3("user"), "<|eot_id|>"},
                          .answer = {L3("assistant"), "<|eot_id|>"},
                          .first = "",
                          .next = "",
                          .generate = L3("assistant"),
                          .trim = true,
                          .end = "<|eot_id|>"},
    [LCL_CHAT_CHATML] = {.system = {ML("system"), "<|im_end|>\n"},
                         .user = {ML("user"), "<|im_end|>\n"},
                         .answer = {ML("assistant"), "<|im_end|>\n"},
                         .first = "",
                         .next = "",
                         .generate = ML("assistant"),
                         .end = "<|im_end|>"},
};

enum lcl_chat lcl_chat_for(const struct lcl_config *c, const struct lcl_tokenizer *t)
{
    enum lcl_chat chat = (enum lcl_chat)c->chat_template;
    if (chat != LCL_CHAT_AUTO) return chat;
    if (lcl_tokenizer_id(t, "<|im_start|>") >= 0) return LCL_CHAT_CHATML;
    return lcl_tokenizer_id(t, "<|start_header_id|>") >= 0 ? LCL_CHAT_LLAMA_3 : LCL_CHAT_VICUNA;
}

const char *lcl_chat_end(enum lcl_chat chat) { return formats[chat].end; }

/* Messages in turn, the last of them of the role. */
static lcl_status check_order(const struct lcl_message *m, int n, enum lcl_role last)
{
    int turns = 0;
    for (int i = 0; i < n; i++) {
        if (m[i].role == LCL_ROLE_SYSTEM && i == 0) continue;
        if (m[i].role != (turns++ % 2 ? LCL_ROLE_ASSISTANT : LCL_ROLE_USER))
            return LCL_FAIL(LCL_CONFIG,
                            "message %d of a conversation is out of turn: users and assistants "
                            "take turns, behind a system message at most",
                            i + 1);
    }
    if (turns > 0 && m[n - 1].role == last) return LCL_OK;
    return LCL_FAIL(LCL_CONFIG, "the last message of a conversation must be %s",
                    last == LCL_ROLE_USER ? "a user's" : "an assistant's");
}

/* Adds the message without the blanks around it where the format trims. */
static char *add_words(char *to, const struct format *f, const char *words)
{
    static const char blanks[] = " \t\r\n";
    size_t n = strlen(words), skip = f->trim ? strspn(words, blanks) : 0;
    while (f->trim && n > skip && strchr(blanks, words[n - 1])) n--;
    memcpy(to, words + skip, n - skip);
    return to + (n - skip);
}

enum { MOST_AROUND = 128 }; /* bytes around a message */

static char *room_for(const struct lcl_message *m, int n)
{
    size_t size = MOST_AROUND;
    for (int i = 0; i < n; i++) size += strlen(m[i].text) + MOST_AROUND;
    return malloc(size);
}

/* Message i behind those before it. */
static char *add_turn(char *to, const struct format *f, const struct lcl_message *m, int i)
{
    const char *const *around = m[i].role == LCL_ROLE_SYSTEM ? f->system
                                : m[i].role == LCL_ROLE_USER ? f->user
                                                             : f->answer;
    if (m[i].role == LCL_ROLE_USER && i == 0) to = stpcpy(to, f->first);
    if (i > 0 && m[i - 1].role == LCL_ROLE_ASSISTANT) to = stpcpy(to, f->next);
    to = add_words(stpcpy(to, around[0]), f, m[i].text);
    return stpcpy(to, around[1]);
}

lcl_status lcl_chat_text(enum lcl_chat chat, const struct lcl_message *m, int n, char **text)
{
    const struct format *f = &formats[chat];
    *text = NULL;
    LCL_TRY(check_order(m, n, LCL_ROLE_USER));
    char *to = *text = room_for(m, n);
    if (!to) return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    for (int i = 0; i < n; i++) to = add_turn(to, f, m, i);
    stpcpy(to, f->generate);
    return LCL_OK;
}

lcl_status lcl_chat_answers(enum lcl_chat chat, const struct lcl_message *m, int n, char **text,
                            size_t **cut, int *n_answers)
{
    bool alone = n == 1 && m[0].role == LCL_ROLE_ASSISTANT;
    const struct format *f = &formats[alone ? LCL_CHAT_PLAIN : chat];
    *text = NULL;
    *cut = NULL;
    *n_answers = 0;
    if (!alone) LCL_TRY(check_order(m, n, LCL_ROLE_ASSISTANT));
    char *to = *text = room_for(m, n);
    *cut = malloc((size_t)n * 2 * sizeof **cut);
    if (!to || !*cut) {
        free(*cut);
        free(*text);
        *text = NULL;
        *cut = NULL;
        return LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    }
    for (int i = 0; i < n; i++) {
        size_t begin = (size_t)(to - *text) + strlen(f->generate), after = strlen(f->answer[1]);
        to = add_turn(to, f, m, i);
        if (m[i].role != LCL_ROLE_ASSISTANT) continue;
        if (i == n - 1 && f->close) {
            to = stpcpy(to - after, f->close);
            after = strlen(f->close);
        }
        (*cut)[2 * *n_answers] = begin;
        (*cut)[2 * (*n_answers)++ + 1] =
            (size_t)(to - *text) - after + (f->end ? strlen(f->end) : after);
    }
    return LCL_OK;
}

/* ---- Jinja ---- */

/* Appends `{{ 'a' + words + 'b' }}`'s parts: a string in quotes, the tokenizer's own tokens by
 * name.
 */
static char *add_quoted(char *to, const char *s)
{
    to = stpcpy(to, "'");
    while (*s) {
        bool ends = strncmp(s, "</s>", 4) == 0, begins = strncmp(s, "<s>", 3) == 0;
        if (ends || begins) {
            to = stpcpy(to, ends ? "' + eos_token + '" : "' + bos_token + '");
            s += ends ? 4 : 3;
        } else if (*s == '\n') {
            to = stpcpy(to, "\\n");
            s++;
        } else {
            if (*s == '\'' || *s == '\\') *to++ = '\\';
            *to++ = *s++;
        }
    }
    return stpcpy(to, "'");
}

static char *add_message(char *to, const struct format *f, const char *const around[2])
{
    to = add_quoted(stpcpy(to, "{{ "), around[0]);
    to = stpcpy(to, f->trim ? " + (words(message['content']) | trim) + "
                            : " + words(message['content']) + ");
    return stpcpy(add_quoted(to, around[1]), " }}");
}

static char *add_loop(char *to, const struct format *f)
{
    to = stpcpy(to, "{% for message in messages %}{% if message['role'] == 'system' %}");
    to = add_message(to, f, f->system);
    to = stpcpy(to, "{% elif message['role'] == 'user' %}");
    if (*f->first || *f->next) {
        to = add_quoted(stpcpy(to, "{% if loop.first %}{{ "), f->first);
        to = stpcpy(to, " }}{% elif messages[loop.index0 - 1]['role'] == 'assistant' %}{{ ");
        to = stpcpy(add_quoted(to, f->next), " }}{% endif %}");
    }
    to = add_message(to, f, f->user);
    to = add_message(stpcpy(to, "{% else %}"), f, f->answer);
    return stpcpy(to, "{% endif %}{% endfor %}");
}

lcl_status lcl_chat_jinja(enum lcl_chat chat, const char *image, char **text)
{
    enum { MOST = 4096 }; /* bytes of the longest format, amply */
    const struct format *f = &formats[chat];
    char *to = *text = malloc(MOST + 2 * strlen(image));
    if (!to) return LCL_FAIL(LCL_MEMORY, "no memory for a chat template");
    to = stpcpy(to, "{% macro words(content) %}{% if content is string %}{{ content }}{% else %}"
                    "{% for part in content %}{{ ");
    to = add_quoted(to, image);
    to = stpcpy(to, " if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
                    "{% endmacro %}");
    if (f->begin) to = stpcpy(to, "{{ bos_token }}");
    to = add_loop(to, f);
    if (*f->generate) {
        to = add_quoted(stpcpy(to, "{% if add_generation_prompt %}{{ "), f->generate);
        to = stpcpy(to, " }}{% endif %}");
    }
    return LCL_OK;
}
