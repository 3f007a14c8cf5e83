/* lcl chat: free questions about pictures. */
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/chat.h"
#include "data/pack_source.h"
#include "tools/chat.h"

void chat_begin_anew(struct chat *c)
{
    struct conversation *t = &c->talk;
    for (int i = 0; i < t->n; i++) free((void *)(uintptr_t)t->turns[i].text);
    for (int i = 0; i < t->n_waiting; i++) free(t->waiting[i]);
    free(t->turns);
    free(t->images);
    *t = (struct conversation){0};
}

lcl_status chat_check_file(const char *path)
{
    if (lcl_fs_is_dir(path))
        return LCL_FAIL_HINT(LCL_CONFIG, "list the files: /teach LABEL FILE...", "%s is a folder",
                             path);
    if (!lcl_fs_exists(path))
        return LCL_FAIL_HINT(LCL_NOT_FOUND, "/help lists the commands", "there is no file %s",
                             path);
    return LCL_OK;
}

lcl_status chat_show(struct chat *c, const char *path)
{
    struct conversation *t = &c->talk;
    LCL_TRY(chat_check_file(path));
    if (t->n_waiting == CLI_LIST_MAX)
        return LCL_FAIL(LCL_RANGE, "over %d pictures in a question", CLI_LIST_MAX);
    t->waiting[t->n_waiting] = lcl_strdupf("%s", path);
    if (!t->waiting[t->n_waiting]) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    t->n_waiting++;
    return LCL_OK;
}

/* ---- a question with its pictures ---- */

struct question {
    struct lcl_text text;
    int n, n_used; /* n_used: waiting pictures that it took */
    char *files[CLI_LIST_MAX];
};

static void free_question(struct question *q)
{
    lcl_text_free(&q->text);
    for (int i = 0; i < q->n; i++) free(q->files[i]);
}

/* Takes `file`. */
static lcl_status add_picture(struct question *q, char *file)
{
    if (!file) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    if (q->n == CLI_LIST_MAX) {
        free(file);
        return LCL_FAIL(LCL_RANGE, "over %d pictures in a question", CLI_LIST_MAX);
    }
    q->files[q->n++] = file;
    lcl_text_puts(&q->text, "<image>");
    return LCL_OK;
}

/* A word as it stands: <image> for the next picture that waits. */
static lcl_status add_word(const struct conversation *t, struct question *q, const char *word,
                           size_t n)
{
    static const char mark[] = "<image>";
    const size_t size = strlen(mark);
    for (size_t i = 0; i < n;) {
        if (n - i < size || memcmp(word + i, mark, size) != 0) {
            lcl_text_bytes(&q->text, word + i++, 1);
            continue;
        }
        if (q->n_used == t->n_waiting)
            return LCL_FAIL_HINT(LCL_CONFIG,
                                 "/show FILE before the question, or the file's name in "
                                 "place of <image>",
                                 "there is no picture for <image>");
        LCL_TRY(add_picture(q, lcl_strdupf("%s", t->waiting[q->n_used++])));
        i += size;
    }
    return LCL_OK;
}

/* A word that is the name of a picture, but for the stops behind it. */
static lcl_status add_word_or_file(const struct conversation *t, struct question *q,
                                   const char *word, size_t n)
{
    size_t bare = n;
    while (bare > 0 && strchr(",.;:?!)", word[bare - 1])) bare--;
    char *file = lcl_strdupf("%.*s", (int)bare, word);
    if (!file) return LCL_FAIL(LCL_MEMORY, "no memory for a word");
    if (!lcl_source_is_picture(file)) {
        free(file);
        return add_word(t, q, word, n);
    }
    lcl_status status = chat_check_file(file);
    if (status != LCL_OK) {
        free(file);
        return status;
    }
    LCL_TRY(add_picture(q, file));
    lcl_text_bytes(&q->text, word + bare, n - bare);
    return LCL_OK;
}

static lcl_status read_question(const struct conversation *t, const char *line, struct question *q)
{
    int named = count_images(line);
    for (; q->n_used < t->n_waiting - named; q->n_used++) {
        LCL_TRY(add_picture(q, lcl_strdupf("%s", t->waiting[q->n_used])));
        lcl_text_puts(&q->text, "\n");
    }
    while (*line) {
        size_t blank = strspn(line, " \t"), n = strcspn(line + blank, " \t");
        lcl_text_bytes(&q->text, line, blank);
        LCL_TRY(add_word_or_file(t, q, line + blank, n));
        line += blank + n;
    }
    return lcl_text_check(&q->text);
}

/* ---- the whole conversation as a prompt ---- */

struct script {
    struct lcl_message *m;
    int n;
    int64_t *image, n_images;
    char *whole;
};

static void free_script(struct script *s)
{
    free(s->m);
    free(s->image);
    free(s->whole);
}

/* What was taught, one picture of each class in turn. said: [taught classes], filled. */
static void add_taught(const struct lcl_support *taught, char (*said)[LCL_LABEL_BYTES + 32],
                       struct script *s)
{
    int64_t most = 0;
    for (int i = 0; i < taught->n; i++) {
        const struct lcl_support_class *k = &taught->classes[i];
        snprintf(said[i], sizeof said[i], "there is \"%s\" in the image.", k->label);
        most = k->n > most ? k->n : most;
    }
    for (int64_t j = 0; j < most; j++)
        for (int i = 0; i < taught->n; i++) {
            if (j >= taught->classes[i].n) continue;
            s->image[s->n_images++] = taught->classes[i].image[j];
            s->m[s->n++] = (struct lcl_message){LCL_ROLE_USER, "<image>\nWhat is in this picture?"};
            s->m[s->n++] = (struct lcl_message){LCL_ROLE_ASSISTANT, said[i]};
        }
}

/* images: numbers of the question's pictures. */
static lcl_status write_script(struct chat *c, const struct question *q, const int64_t *images,
                               struct script *s)
{
    const struct conversation *t = &c->talk;
    int64_t pictures = 0;
    for (int i = 0; i < c->support.n; i++) pictures += c->support.classes[i].n;
    char(*said)[LCL_LABEL_BYTES + 32] = calloc((size_t)c->support.n + 1, sizeof *said);
    s->m = calloc((size_t)(2 * pictures + t->n + 2), sizeof *s->m);
    s->image = calloc((size_t)(pictures + t->n_images + q->n) + 1, sizeof *s->image);
    lcl_status status = LCL_FAIL(LCL_MEMORY, "no memory for a conversation");
    if (!said || !s->m || !s->image) goto out;
    if (c->config.chat_system[0])
        s->m[s->n++] = (struct lcl_message){LCL_ROLE_SYSTEM, c->config.chat_system};
    add_taught(&c->support, said, s);
    for (int i = 0; i < t->n; i++) s->m[s->n++] = t->turns[i];
    for (int i = 0; i < t->n_images; i++) s->image[s->n_images++] = t->images[i];
    for (int i = 0; i < q->n; i++) s->image[s->n_images++] = images[i];
    for (int64_t i = 0; i < s->n_images; i++) s->image[i] = -1 - s->image[i];
    s->m[s->n++] = (struct lcl_message){LCL_ROLE_USER, q->text.data};
    status = lcl_chat_text(lcl_chat_for(&c->config, c->env.tokenizer), s->m, s->n, &s->whole);
out:
    free(said);
    return status;
}

/* Keeps the question and its answer, which is taken. */
static lcl_status remember(struct conversation *t, struct question *q, const int64_t *images,
                           char *answer)
{
    struct lcl_message *turns = realloc(t->turns, ((size_t)t->n + 2) * sizeof *turns);
    if (turns) t->turns = turns;
    int64_t *all = realloc(t->images, (size_t)(t->n_images + q->n + 1) * sizeof *all);
    if (all) t->images = all;
    if (!turns || !all) {
        free(answer);
        return LCL_FAIL(LCL_MEMORY, "no memory for a conversation of %d turns", t->n + 2);
    }
    memmove(answer, answer + strspn(answer, " \n"), strlen(answer + strspn(answer, " \n")) + 1);
    turns[t->n++] = (struct lcl_message){LCL_ROLE_USER, q->text.data};
    turns[t->n++] = (struct lcl_message){LCL_ROLE_ASSISTANT, answer};
    q->text = (struct lcl_text){0};
    for (int i = 0; i < q->n; i++) all[t->n_images++] = images[i];
    for (int i = 0; i < t->n_waiting; i++) free(t->waiting[i]);
    t->n_waiting = 0;
    return LCL_OK;
}

static void end_line(void *ctx, int64_t answer)
{
    (void)ctx;
    (void)answer;
    printf("\n");
}

lcl_status chat_ask_freely(struct chat *c, const char *line)
{
    struct question q = {0};
    struct script s = {0};
    struct speaker speaker = {.end = end_line};
    struct lcl_answer_how how = c->how;
    int64_t images[CLI_LIST_MAX], before = c->gallery.n;
    char *answer = NULL;
    lcl_status status;
    LCL_TRY_GOTO(read_question(&c->talk, line, &q));
    LCL_TRY_GOTO(lcl_gallery_add(&c->gallery, (const char *const *)q.files, q.n, images, NULL));
    LCL_TRY_GOTO(write_script(c, &q, images, &s));
    LCL_TRY_GOTO(speaker_open(&speaker, 1));
    how.max_new = how.max_new > 0 ? how.max_new : LONGEST_FREE_ANSWER;
    how.end_token = lcl_chat_end(lcl_chat_for(&c->config, c->env.tokenizer));
    how.say = speaker_say;
    how.say_ctx = &speaker;
    const struct lcl_prompt prompt = {s.whole, s.image, s.n_images};
    LCL_TRY_GOTO(lcl_answer_prompts(&c->answerer, &prompt, 1, &how, &answer));
    LCL_TRY_GOTO(remember(&c->talk, &q, images, answer));
    c->how.sampling.first_sequence++;
    before = c->gallery.n; /* the conversation's pictures are kept */
out:
    lcl_gallery_cut(&c->gallery, before);
    speaker_close(&speaker);
    free_script(&s);
    free_question(&q);
    return status;
}
