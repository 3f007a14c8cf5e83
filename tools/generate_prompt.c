#include "tools/generate_prompt.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/chat.h"

int count_images(const char *text)
{
    int n = 0;
    while ((text = strstr(text, "<image>"))) {
        n++;
        text += strlen("<image>");
    }
    return n;
}

/* Puts n times <image> and a new line before a text. */
static lcl_status show_before(const char *text, int64_t n, char **out)
{
    static const char mark[] = "<image>\n";
    char *to = *out = malloc((size_t)n * strlen(mark) + strlen(text) + 1);
    if (!to) return LCL_FAIL(LCL_MEMORY, "no memory for a prompt of %lld pictures", (long long)n);
    for (int64_t i = 0; i < n; i++) to = stpcpy(to, mark);
    stpcpy(to, text);
    return LCL_OK;
}

/* Prompts as they are sent to the model. */
struct prompts {
    struct lcl_prompt v[CLI_LIST_MAX];
    char *whole[CLI_LIST_MAX], *answer[CLI_LIST_MAX];
    int64_t image[CLI_LIST_MAX];
};

/* Words of prompt i and the pictures that it takes from number `first` on. */
static lcl_status word_prompt(const struct prompt_request *r, int i, int64_t first,
                              const struct lcl_config *c, enum lcl_chat chat, struct prompts *p)
{
    const char *said = r->prompts.v[i];
    char *shown = NULL;
    struct lcl_prompt *v = &p->v[i];
    v->n_images = count_images(said);
    if (v->n_images == 0 && r->prompts.n == 1) {
        v->n_images = r->images.n;
        LCL_TRY(show_before(said, v->n_images, &shown));
    }
    struct lcl_message m[] = {{LCL_ROLE_SYSTEM, c->chat_system},
                              {LCL_ROLE_USER, shown ? shown : said}};
    bool system = c->chat_system[0] != '\0';
    lcl_status status = lcl_chat_text(chat, m + !system, 1 + system, &p->whole[i]);
    free(shown);
    v->text = p->whole[i];
    v->image = p->image + first;
    return status;
}

static lcl_status word_prompts(const struct prompt_request *r, const struct lcl_config *c,
                               enum lcl_chat chat, struct prompts *p)
{
    int64_t wanted = 0;
    for (int i = 0; i < r->prompts.n; i++) wanted += count_images(r->prompts.v[i]);
    bool before = wanted == 0 && r->prompts.n == 1;
    if (!before && wanted != r->images.n)
        return LCL_FAIL_HINT(LCL_CONFIG, "give an --image for each <image>, in their order",
                             "%d --image, but the prompts say <image> %lld times", r->images.n,
                             (long long)wanted);
    int64_t first = 0;
    for (int i = 0; i < r->prompts.n; i++) {
        LCL_TRY(word_prompt(r, i, first, c, chat, p));
        first += p->v[i].n_images;
    }
    return LCL_OK;
}

static void begin_answer(void *ctx, int64_t i)
{
    const struct prompt_request *r = ctx;
    if (r->prompts.n > 1) printf("%s%s\n  answer: ", i ? "\n" : "", r->prompts.v[i]);
}

static void end_answer(void *ctx, int64_t i)
{
    (void)ctx;
    (void)i;
    printf("\n");
}

static lcl_status print_json(const struct prompt_request *r, const struct prompts *p)
{
    json_t *answers = json_array();
    for (int i = 0, image = 0; i < r->prompts.n; i++) {
        json_t *images = json_array();
        for (int64_t k = 0; k < p->v[i].n_images; k++)
            json_array_append_new(images, json_string(r->images.v[image++]));
        json_array_append_new(answers, json_pack("{s:s, s:o, s:s}", "prompt", r->prompts.v[i],
                                                 "images", images, "answer",
                                                 p->answer[i] + strspn(p->answer[i], " \n")));
    }
    json_t *root = json_pack("{s:s, s:o}", "model", r->model, "answers", answers);
    int failed = root ? json_dumpf(root, stdout, JSON_INDENT(1)) : -1;
    printf("\n");
    json_decref(root);
    return failed ? LCL_FAIL(LCL_FORMAT,
                             "the answers cannot be written as JSON: a path or prompt is not UTF-8")
                  : LCL_OK;
}

static lcl_status answer(const struct prompt_request *r, struct lcl_gallery *g,
                         const struct lcl_config *c, struct lcl_answer_how *how, struct prompts *p)
{
    struct lcl_answerer a = {0};
    struct speaker speaker = {
        .begin = begin_answer, .end = end_answer, .ctx = (void *)(uintptr_t)r};
    enum lcl_chat chat = lcl_chat_for(c, g->env->tokenizer);
    lcl_status status;
    LCL_TRY_GOTO(word_prompts(r, c, chat, p));
    LCL_TRY_GOTO(lcl_gallery_add(g, r->images.v, r->images.n, p->image, NULL));
    for (int i = 0; i < r->images.n; i++) p->image[i] = -1 - p->image[i];
    LCL_TRY_GOTO(lcl_answerer_open(&a, g, c));
    LCL_TRY_GOTO(speaker_open(&speaker, r->prompts.n));
    how->end_token = lcl_chat_end(chat);
    how->say = r->json ? NULL : speaker_say;
    how->say_ctx = &speaker;
    LCL_TRY_GOTO(lcl_answer_prompts(&a, p->v, r->prompts.n, how, p->answer));
    if (r->json) status = print_json(r, p);
out:
    speaker_close(&speaker);
    lcl_answerer_close(&a);
    return status;
}

lcl_status generate_prompts(const struct prompt_request *r)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    struct lcl_gallery gallery = {0};
    struct lcl_answer_how how;
    struct prompts *p = calloc(1, sizeof *p);
    if (!p) return LCL_FAIL(LCL_MEMORY, "no memory for prompts");
    lcl_status status;
    LCL_TRY_GOTO(speak_how(&r->speak, &how));
    if (how.max_new == 0) how.max_new = LONGEST_FREE_ANSWER;
    for (int i = 0; i < r->images.n; i++)
        if (!lcl_fs_exists(r->images.v[i])) {
            status = LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                                   "--image: there is no %s", r->images.v[i]);
            goto out;
        }
    LCL_TRY_GOTO(lcl_env_run_config(r->model, r->sets.v, r->sets.n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    LCL_TRY_GOTO(lcl_gallery_open(&gallery, &e));
    status = answer(r, &gallery, &c, &how, p);
out:
    for (int i = 0; i < r->prompts.n; i++) {
        free(p->whole[i]);
        free(p->answer[i]);
    }
    free(p);
    lcl_gallery_close(&gallery);
    lcl_env_close(&e);
    return status;
}
