/* lcl chat: a person teaches classes by pictures and asks about others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fs.h"
#include "tools/cli.h"
#include "train/answer.h"

enum { LINE_BYTES = 1 << 16, MAX_WORDS = 1024 };

struct chat {
    struct lcl_env env;
    struct lcl_config config;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct lcl_support support;
    bool done;
};

static const char commands[] =
    "  /teach LABEL FILE...   show pictures of a class; again adds more of them\n"
    "  FILE...                ask what is in pictures\n"
    "  /classes               what was taught\n"
    "  /forget LABEL          drop a class\n"
    "  /quit                  or Ctrl-D\n"
    "Words with spaces go between quotes.\n";

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
    for (int i = 0; i < n; i++) {
        if (lcl_fs_is_dir(file[i]))
            return LCL_FAIL_HINT(LCL_CONFIG, "list the files: /teach LABEL FILE...",
                                 "%s is a folder", file[i]);
        if (!lcl_fs_exists(file[i]))
            return LCL_FAIL_HINT(LCL_NOT_FOUND, "/help lists the commands", "there is no file %s",
                                 file[i]);
    }
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
    int64_t pictures = 0;
    for (int i = 0; i < c->support.n; i++)
        if (strcmp(c->support.classes[i].label, word[0]) == 0) pictures = c->support.classes[i].n;
    printf("%s: %lld picture%s%s\n", word[0], (long long)pictures, pictures == 1 ? "" : "s",
           c->support.n == 1 ? "; teach another class, to tell it from" : "");
    return LCL_OK;
}

static void print_answer(const struct chat *c, const char *file, const char *text,
                         const double *share)
{
    printf("%s: %s\n ", file, text + strspn(text, " \n"));
    for (int i = 0; i < c->support.n; i++)
        printf(" %s %.1f %%%s", c->support.classes[i].label, 100 * share[i],
               i + 1 < c->support.n ? "," : "\n");
}

static lcl_status ask(struct chat *c, char **file, int n)
{
    struct lcl_episode e = {0};
    int64_t query[MAX_WORDS], before = c->gallery.n;
    int way[LCL_MAX_WAYS];
    char *text[MAX_WORDS] = {NULL};
    double share[LCL_MAX_WAYS], *logprob = NULL;
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
    LCL_TRY_GOTO(lcl_answer(&c->answerer, &e, &(struct lcl_sampling){0}, text));
    LCL_TRY_GOTO(lcl_answer_likelihood(&c->answerer, &e, logprob));
    for (int q = 0; q < n; q++) {
        lcl_answer_shares(logprob + q * c->support.n, c->support.n, share);
        print_answer(c, file[q], text[q], share);
    }
out:
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

static lcl_status obey(struct chat *c, char *line)
{
    static const char *const names[] = {"/teach", "/classes", "/forget", "/help", "/quit"};
    char *word[MAX_WORDS];
    char hint[64] = "/help lists the commands";
    int n;
    LCL_TRY(split(line, word, &n));
    if (n == 0) return LCL_OK;
    if (word[0][0] != '/' || lcl_fs_exists(word[0])) return ask(c, word, n);
    if (strcmp(word[0], "/teach") == 0) return teach(c, word + 1, n - 1);
    if (strcmp(word[0], "/forget") == 0) return forget(c, word + 1, n - 1);
    if (strcmp(word[0], "/classes") == 0) {
        list_classes(c);
    } else if (strcmp(word[0], "/help") == 0) {
        fputs(commands, stdout);
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
    if (person) printf("Teach classes by pictures, then ask about others.\n%s", commands);
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

static lcl_status chat(const char *model, const struct cli_list *sets)
{
    struct chat *c = calloc(1, sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory to begin");
    lcl_status status;
    LCL_TRY_GOTO(lcl_env_run_config(model, sets->v, sets->n, &c->config));
    LCL_TRY_GOTO(lcl_env_start(&c->env, &c->config));
    LCL_TRY_GOTO(lcl_env_load_model(&c->env, model, &c->config));
    LCL_TRY_GOTO(lcl_gallery_open(&c->gallery, &c->env));
    LCL_TRY_GOTO(lcl_answerer_open(&c->answerer, &c->gallery, &c->config));
    status = talk(c);
out:
    lcl_answerer_close(&c->answerer);
    lcl_gallery_close(&c->gallery);
    lcl_support_free(&c->support);
    lcl_env_close(&c->env);
    free(c);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    const char *model = NULL;
    struct cli_list sets = {0};
    const struct cli_option options[] = {{"--model", CLI_STR, &model, .value = "RUN",
                                          .required = true,
                                          .doc = "run folder, checkpoint, or HF LLaVA folder"},
                                         CLI_SET_OPTION(&sets),
                                         CLI_END};
    const struct cli_spec spec = {
        .usage = "--model RUN",
        .about = "Reads commands, a line each, and answers at once:\n"
                 "  /teach LABEL FILE...   show pictures of a class; again adds more of them\n"
                 "  FILE...                ask what is in pictures\n"
                 "  /classes, /forget LABEL, /help, /quit\n"
                 "A script may write the commands: the first wrong one ends it with exit code 1.",
        .options = options,
        .notes = "Example:\n  lcl chat --model build/demo/seed-1/link"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    return args.help ? LCL_OK : chat(model, &sets);
}

const struct cli_verb verb_chat = {"chat", "teach classes and ask about pictures, line by line", 47,
                                   run};
