/* lcl chat: a person teaches classes by pictures and asks about others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "data/pack_source.h"
#include "tools/chat.h"

enum { LINE_BYTES = 1 << 16, MAX_WORDS = 1024 };

#define COMMANDS                                                                           \
    "  /teach LABEL FILE...   show pictures of a class; again adds more of them\n"         \
    "  FILE...                ask which class is in pictures\n"                            \
    "  /classes               what was taught\n"                                           \
    "  /forget LABEL          drop a class\n"                                              \
    "  any other words        a free question; a picture's name in it shows the picture\n" \
    "  /show FILE...          show pictures before the next free question\n"               \
    "  /new                   begin another conversation; classes stay\n"                  \
    "  /help, /quit           or Ctrl-D\n"                                                 \
    "Words of commands that hold spaces go between quotes.\n"

/* Takes the quotes and backslashes from the word at *from, in place; *from is set behind it. */
static lcl_status unquote(const char **from, char **to)
{
    char quote = 0;
    for (; **from && (quote || (**from != ' ' && **from != '\t')); ++*from) {
        if (quote ? **from == quote : **from == '\'' || **from == '"') {
            quote = quote ? 0 : **from;
            continue;
        }
        if (**from == '\\' && (*from)[1] && quote != '\'') ++*from;
        *(*to)++ = **from;
    }
    if (!quote) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "or write a backslash before it", "the quote %c is not closed",
                         quote);
}

/* Cuts a line in words, in place: at spaces, with '...', "..." and \ as in a shell. */
static lcl_status split(char *line, char **word, int *n)
{
    char *to = line;
    *n = 0;
    for (const char *from = line;;) {
        while (*from == ' ' || *from == '\t') from++;
        if (!*from) return LCL_OK;
        if (*n == MAX_WORDS) return LCL_FAIL(LCL_RANGE, "over %d words in a line", MAX_WORDS);
        word[(*n)++] = to;
        LCL_TRY(unquote(&from, &to));
        if (*from) from++;
        *to++ = 0;
    }
}

static lcl_status check_files(char **file, int n)
{
    for (int i = 0; i < n; i++) LCL_TRY(chat_check_file(file[i]));
    return LCL_OK;
}

static lcl_status teach(struct chat *c, char **word, int n)
{
    int64_t image[MAX_WORDS], before = c->gallery.n;
    if (n < 2)
        return LCL_FAIL_HINT(LCL_CONFIG, "as /teach wug a.png b.png",
                             "/teach wants a label and pictures");
    LCL_TRY(check_files(word + 1, n - 1));
    lcl_status status =
        lcl_gallery_add(&c->gallery, (const char *const *)word + 1, n - 1, image, NULL);
    for (int i = 0; i < n - 1 && status == LCL_OK; i++) {
        status = lcl_support_add(&c->support, word[0], word[i + 1], image[i]);
        if (status == LCL_OK) before = image[i] + 1;
    }
    lcl_gallery_cut(&c->gallery, before);
    LCL_TRY(status);
    int64_t pictures = c->support.classes[lcl_support_find(&c->support, word[0])].n;
    printf("%s: %lld picture%s%s\n", word[0], (long long)pictures, pictures == 1 ? "" : "s",
           c->support.n == 1 ? "; teach another class, to tell it from" : "");
    return LCL_OK;
}

struct printing {
    const struct chat *chat;
    char **file;
    const double *logprob; /* [queries, classes] */
};

static void begin_answer(void *ctx, int64_t q)
{
    const struct printing *p = ctx;
    printf("%s: ", p->file[q]);
}

static void end_answer(void *ctx, int64_t q)
{
    const struct printing *p = ctx;
    const struct lcl_support *s = &p->chat->support;
    double share[LCL_MAX_WAYS];
    lcl_answer_shares(p->logprob + q * s->n, s->n, share);
    printf("\n ");
    for (int i = 0; i < s->n; i++)
        printf(" %s %.1f %%%s", s->classes[i].label, 100 * share[i], i + 1 < s->n ? "," : "\n");
}

static lcl_status ask(struct chat *c, char **file, int n)
{
    struct lcl_episode e = {0};
    int64_t query[MAX_WORDS], before = c->gallery.n;
    int way[LCL_MAX_WAYS];
    char *text[MAX_WORDS] = {NULL};
    double *logprob = NULL;
    struct printing printing = {.chat = c, .file = file};
    struct speaker speaker = {.begin = begin_answer, .end = end_answer, .ctx = &printing};
    struct lcl_answer_how how = c->how;
    lcl_status status;
    LCL_TRY(check_files(file, n));
    if (c->support.n < 2)
        return LCL_FAIL_HINT(LCL_CONFIG, "as /teach wug a.png b.png",
                             "an answer chooses between classes: teach %s",
                             c->support.n ? "another one" : "two or more");
    LCL_TRY(lcl_support_check(&c->support, LCL_MAX_WAYS));
    for (int i = 0; i < c->support.n; i++) way[i] = i;
    LCL_TRY_GOTO(lcl_gallery_add(&c->gallery, (const char *const *)file, n, query, NULL));
    LCL_TRY_GOTO(lcl_support_episode(&c->support, way, c->support.n, LCL_SUPPORT_MAX_PICTURES, NULL,
                                     query, n, &e));
    logprob = calloc((size_t)n * (size_t)c->support.n, sizeof *logprob);
    if (!logprob) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %d answers", n);
        goto out;
    }
    LCL_TRY_GOTO(lcl_answer_likelihood(&c->answerer, &e, logprob));
    printing.logprob = logprob;
    LCL_TRY_GOTO(speaker_open(&speaker, n));
    how.say = speaker_say;
    how.say_ctx = &speaker;
    LCL_TRY_GOTO(lcl_answer(&c->answerer, &e, &how, text));
    c->how.sampling.first_sequence += (uint64_t)n;
out:
    speaker_close(&speaker);
    for (int q = 0; q < n; q++) free(text[q]);
    free(logprob);
    lcl_episode_free(&e);
    lcl_gallery_cut(&c->gallery, before); /* questions are not kept */
    return status;
}

static void list_classes(const struct chat *c)
{
    if (!c->support.n) printf("none yet: /teach LABEL FILE...\n");
    for (int i = 0; i < c->support.n; i++) {
        const struct lcl_support_class *k = &c->support.classes[i];
        printf("%s:", k->label);
        for (int64_t j = 0; j < k->n; j++) printf(" %s", k->paths[j]);
        printf("\n");
    }
}

static lcl_status forget(struct chat *c, char **word, int n)
{
    if (n != 1)
        return LCL_FAIL_HINT(LCL_CONFIG, "as /forget wug", "/forget wants one label, not %d", n);
    if (!lcl_support_drop(&c->support, word[0]))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "/classes lists them", "no class is called \"%s\"",
                             word[0]);
    return LCL_OK;
}

static lcl_status show(struct chat *c, char **word, int n)
{
    if (n == 0) return LCL_FAIL_HINT(LCL_CONFIG, "as /show a.png b.png", "/show wants pictures");
    for (int i = 0; i < n; i++) LCL_TRY(chat_show(c, word[i]));
    return LCL_OK;
}

static lcl_status obey_command(struct chat *c, char **word, int n)
{
    static const char *const names[] = {"/teach", "/classes", "/forget", "/show",
                                        "/new",   "/help",    "/quit"};
    char hint[64] = "/help lists the commands";
    if (strcmp(word[0], "/teach") == 0) return teach(c, word + 1, n - 1);
    if (strcmp(word[0], "/forget") == 0) return forget(c, word + 1, n - 1);
    if (strcmp(word[0], "/show") == 0) return show(c, word + 1, n - 1);
    if (strcmp(word[0], "/classes") == 0) {
        list_classes(c);
    } else if (strcmp(word[0], "/new") == 0) {
        chat_begin_anew(c);
    } else if (strcmp(word[0], "/help") == 0) {
        fputs(COMMANDS, stdout);
    } else if (strcmp(word[0], "/quit") == 0) {
        c->done = true;
    } else {
        const char *near =
            lcl_nearest_word(word[0], (const char **)names, sizeof names / sizeof names[0]);
        if (near) snprintf(hint, sizeof hint, "did you mean %s?", near);
        return LCL_FAIL_HINT(LCL_CONFIG, hint, "there is no command %s", word[0]);
    }
    return LCL_OK;
}

/* Files alone are asked for by class; a name that no file has is better told than asked about. */
static bool are_files(char **word, int n)
{
    for (int i = 0; i < n; i++)
        if (!lcl_fs_exists(word[i]) && !lcl_source_is_picture(word[i])) return false;
    return true;
}

static lcl_status obey(struct chat *c, char *line)
{
    char *word[MAX_WORDS], question[LINE_BYTES];
    int n;
    line += strspn(line, " \t");
    snprintf(question, sizeof question, "%s", line);
    lcl_status status = split(line, word, &n);
    if (status == LCL_OK && n == 0) return LCL_OK;
    bool command = question[0] == '/' && !(status == LCL_OK && lcl_fs_exists(word[0]));
    if (command && status == LCL_OK) return obey_command(c, word, n);
    if (command) return status;
    if (status == LCL_OK && are_files(word, n)) return ask(c, word, n);
    return chat_ask_freely(c, question);
}

static lcl_status at_line(int64_t number, lcl_status status)
{
    struct lcl_error e;
    if (status == LCL_OK) return LCL_OK;
    lcl_error_save(&e, status);
    return LCL_FAIL_HINT(status, e.hint, "line %lld: %s", (long long)number, e.message);
}

/* A person reads what was wrong and goes on; a script ends there. */
static lcl_status talk(struct chat *c)
{
    const bool person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    char line[LINE_BYTES];
    lcl_status status = LCL_OK;
    if (person) printf("Teach classes by pictures, then ask about others.\n" COMMANDS);
    for (int64_t number = 1; !c->done && status == LCL_OK; number++) {
        if (person) printf("> ");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin)) {
            if (person) printf("\n");
            break;
        }
        size_t bytes = strlen(line);
        if (bytes == sizeof line - 1 && line[bytes - 1] != '\n')
            return LCL_FAIL(LCL_RANGE, "line %lld is over %d bytes", (long long)number, LINE_BYTES);
        line[strcspn(line, "\r\n")] = 0;
        status = obey(c, line);
        if (!person) status = at_line(number, status);
        if (status == LCL_OK || !person) continue;
        printf("%s%s%s\n", lcl_error_message(), *lcl_error_hint() ? "; " : "", lcl_error_hint());
        status = LCL_OK;
    }
    if (status == LCL_OK && ferror(stdin))
        return LCL_FAIL(LCL_IO, "standard input cannot be read: %s", strerror(errno));
    return status;
}

static lcl_status chat(const char *model, const struct cli_list *sets,
                       const struct speak_options *speak)
{
    struct chat *c = calloc(1, sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory to begin");
    lcl_status status;
    LCL_TRY_GOTO(speak_how(speak, &c->how));
    LCL_TRY_GOTO(lcl_env_run_config(model, sets->v, sets->n, &c->config));
    LCL_TRY_GOTO(lcl_env_start(&c->env, &c->config));
    LCL_TRY_GOTO(lcl_env_load_model(&c->env, model, &c->config));
    LCL_TRY_GOTO(lcl_gallery_open(&c->gallery, &c->env));
    LCL_TRY_GOTO(lcl_answerer_open(&c->answerer, &c->gallery, &c->config));
    status = talk(c);
out:
    chat_begin_anew(c);
    lcl_answerer_close(&c->answerer);
    lcl_gallery_close(&c->gallery);
    lcl_support_free(&c->support);
    lcl_env_close(&c->env);
    free(c);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *model = NULL, *tower = NULL;
    struct cli_list sets = {0};
    struct speak_options speak = {.top_p = 1};
    const struct cli_option options[] = {
        {"--model", CLI_STR, &model, .value = "RUN", .required = true,
         .doc = "run folder, checkpoint, or HF LLaVA folder"},
        SPEAK_OPTIONS(&speak,
                      "tokens of an answer at most; 0: eval.max_new_tokens, of a free one 256"),
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model RUN",
        .about =
            "Reads commands, a line each, and answers at once, word by word:\n" COMMANDS
            "Free questions are worded as chat.template and chat.system say; what was taught "
            "stands before them.\nA script may write the commands: the first wrong one ends it "
            "with exit code 1.",
        .options = options,
        .notes = "Example:\n  lcl chat --model build/demo/seed-1/link"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    lcl_hf_use_tower(tower);
    return args.help ? LCL_OK : chat(model, &sets, &speak);
}

const struct cli_verb verb_chat = {"chat", "teach classes and ask about pictures, line by line", 47,
                                   run};
