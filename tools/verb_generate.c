/* lcl generate: labelled pictures, then questions about others; the model's words and the
 * likelihood of each label. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "tools/cli.h"
#include "tools/generate_case.h"
#include "tools/generate_prompt.h"
#include "train/answer.h"
#include "train/match.h"

struct request {
    struct prompt_request prompt; /* what all ways of asking share, and prompts */
    const char *case_path;
    struct cli_list supports, queries;
};

/* Answers to all queries. */
struct answers {
    char **text;
    double *logprob, *share; /* [queries, labels] */
};

struct printing {
    const struct request *request;
    const struct lcl_support *support;
    const struct answers *answers;
};

static lcl_status read_request(const struct request *r, struct lcl_support *s)
{
    for (int i = 0; i < r->supports.n; i++) LCL_TRY(lcl_support_parse(s, r->supports.v[i]));
    LCL_TRY(lcl_support_check(s, LCL_MAX_WAYS));
    for (int i = 0; i < r->queries.n; i++)
        if (!lcl_fs_exists(r->queries.v[i]))
            return LCL_FAIL_HINT(LCL_NOT_FOUND, "check the spelling of the path",
                                 "--query: there is no %s", r->queries.v[i]);
    return LCL_OK;
}

static void begin_answer(void *ctx, int64_t q)
{
    const struct printing *p = ctx;
    printf("%s%s\n  answer: ", q ? "\n" : "", p->request->queries.v[q]);
}

static void end_answer(void *ctx, int64_t q)
{
    const struct printing *p = ctx;
    const struct lcl_support *s = p->support;
    const struct answers *a = p->answers;
    int width = 8;
    for (int i = 0; i < s->n; i++)
        if ((int)strlen(s->classes[i].label) > width) width = (int)strlen(s->classes[i].label);
    printf("\n");
    for (int i = 0; i < s->n; i++)
        printf("  %-*s  %5.1f %%   log-likelihood %.3f\n", width, s->classes[i].label,
               100 * a->share[q * s->n + i], a->logprob[q * s->n + i]);
}

/* Likelihoods first: they are there when an answer has been printed as it came. */
static lcl_status answer(struct lcl_gallery *g, const struct lcl_config *c, struct lcl_support *s,
                         const struct request *r, struct lcl_answer_how *how, struct answers *out)
{
    struct lcl_answerer a = {0};
    struct printing printing = {r, s, out};
    struct speaker speaker = {.begin = begin_answer, .end = end_answer, .ctx = &printing};
    struct lcl_episode *e = calloc(1, sizeof *e);
    int64_t query[CLI_LIST_MAX];
    int way[LCL_MAX_WAYS];
    lcl_status status = e ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a question");
    if (status != LCL_OK) return status;
    for (int i = 0; i < s->n; i++) {
        struct lcl_support_class *k = &s->classes[i];
        way[i] = i;
        LCL_TRY_GOTO(lcl_gallery_add(g, (const char *const *)k->paths, k->n, k->image, NULL));
    }
    LCL_TRY_GOTO(lcl_gallery_add(g, r->queries.v, r->queries.n, query, NULL));
    LCL_TRY_GOTO(lcl_answerer_open(&a, g, c));
    LCL_TRY_GOTO(
        lcl_support_episode(s, way, s->n, LCL_SUPPORT_MAX_PICTURES, NULL, query, r->queries.n, e));
    LCL_TRY_GOTO(lcl_answer_likelihood(&a, e, out->logprob));
    for (int q = 0; q < r->queries.n; q++)
        lcl_answer_shares(out->logprob + q * s->n, s->n, out->share + q * s->n);
    LCL_TRY_GOTO(speaker_open(&speaker, r->queries.n));
    how->say = r->prompt.json ? NULL : speaker_say;
    how->say_ctx = &speaker;
    LCL_TRY_GOTO(lcl_answer(&a, e, how, out->text));
out:
    speaker_close(&speaker);
    lcl_answerer_close(&a);
    lcl_episode_free(e);
    free(e);
    return status;
}

static int likeliest(const double *share, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (share[i] > share[best]) best = i;
    return best;
}

static json_t *json_answer(const struct lcl_support *s, const char *image, const char *text,
                           const double *logprob, const double *share)
{
    char said[LCL_LABEL_BYTES];
    json_t *shares = json_object(), *logprobs = json_object();
    for (int i = 0; i < s->n; i++) {
        json_object_set_new(shares, s->classes[i].label, json_real(share[i]));
        json_object_set_new(logprobs, s->classes[i].label, json_real(logprob[i]));
    }
    bool quoted = lcl_first_quoted(text, said);
    text += strspn(text, " \n");
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o}", "image", image, "answer", text, "said",
                     quoted ? json_string(said) : json_null(), "likeliest",
                     s->classes[likeliest(share, s->n)].label, "likelihood", shares, "logprob",
                     logprobs);
}

static lcl_status print_json(const struct lcl_support *s, const struct request *r,
                             const struct answers *a)
{
    json_t *support = json_array(), *queries = json_array();
    for (int i = 0; i < s->n; i++) {
        json_t *images = json_array();
        for (int64_t k = 0; k < s->classes[i].n; k++)
            json_array_append_new(images, json_string(s->classes[i].paths[k]));
        json_array_append_new(
            support, json_pack("{s:s, s:o}", "label", s->classes[i].label, "images", images));
    }
    for (int q = 0; q < r->queries.n; q++)
        json_array_append_new(queries, json_answer(s, r->queries.v[q], a->text[q],
                                                   a->logprob + q * s->n, a->share + q * s->n));
    json_t *root = json_pack("{s:s, s:o, s:o}", "model", r->prompt.model, "support", support,
                             "queries", queries);
    int failed = root ? json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : -1;
    printf("\n");
    json_decref(root);
    return failed ? LCL_FAIL(LCL_FORMAT, "the answers cannot be written as JSON: a path or label "
                                         "is not UTF-8")
                  : LCL_OK;
}

static lcl_status generate(const struct request *r)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    struct lcl_support support = {0};
    struct lcl_gallery gallery = {0};
    struct answers a = {0};
    struct lcl_answer_how how;
    lcl_status status;
    LCL_TRY_GOTO(read_request(r, &support));
    LCL_TRY_GOTO(speak_how(&r->prompt.speak, &how));
    LCL_TRY_GOTO(lcl_env_run_config(r->prompt.model, r->prompt.sets.v, r->prompt.sets.n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->prompt.model, &c));
    LCL_TRY_GOTO(lcl_gallery_open(&gallery, &e));
    size_t scores = (size_t)r->queries.n * (size_t)support.n;
    a.text = calloc((size_t)r->queries.n, sizeof *a.text);
    a.logprob = calloc(scores, sizeof *a.logprob);
    a.share = calloc(scores, sizeof *a.share);
    if (!a.text || !a.logprob || !a.share) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %d answers", r->queries.n);
        goto out;
    }
    LCL_TRY_GOTO(answer(&gallery, &c, &support, r, &how, &a));
    if (r->prompt.json) status = print_json(&support, r, &a);
out:
    for (int q = 0; a.text && q < r->queries.n; q++) free(a.text[q]);
    free(a.text);
    free(a.logprob);
    free(a.share);
    lcl_gallery_close(&gallery);
    lcl_support_free(&support);
    lcl_env_close(&e);
    return status;
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {.prompt = {.speak = {.top_p = 1}}};
    const char *tower = NULL;
    const struct cli_option options[] = {
        {"--model", CLI_STR, &r.prompt.model, .value = "RUN", .required = true,
         .doc = "run folder, checkpoint, or HF LLaVA folder"},
        {"--support", CLI_LIST, &r.supports, .value = "LABEL=FILE[,FILE...]",
         .doc = "pictures of one class and what to call it; two labels or more"},
        {"--query", CLI_LIST, &r.queries, .value = "FILE", .doc = "picture to ask about"},
        {"--case", CLI_STR, &r.case_path, .value = "FILE",
         .doc = "instead of pictures: continue generate.input_ids with generate.pixel_values of a "
                "safetensors file and print the new token ids"},
        {"--prompt", CLI_LIST, &r.prompt.prompts, .value = "TEXT",
         .doc =
             "instead of labelled pictures: a question of one's own, in which each <image> stands "
             "for the next --image"},
        {"--image", CLI_LIST, &r.prompt.images, .value = "FILE",
         .doc = "picture of a prompt; those of one prompt without <image> stand before it"},
        SPEAK_OPTIONS(&r.prompt.speak,
                      "tokens of an answer at most; 0: eval.max_new_tokens, of a prompt "
                      "256, of --case as many as its generate.new_ids has, else 12"),
        {"--json", CLI_FLAG, &r.prompt.json, .doc = "print one JSON object"},
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&r.prompt.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model RUN --support LABEL=FILE[,FILE...] --support LABEL=FILE --query FILE\n"
                 "       lcl generate --model RUN --prompt \"... <image> ...\" --image FILE",
        .about = "Shows the model labelled pictures and asks what is in others: prints its answer "
                 "and how\nlikely it finds each label. Support pictures are shown in turns, one of "
                 "each label; many\nqueries share them. With --prompt it answers free questions, "
                 "worded as chat.template and\nchat.system say. Words are printed as they come.",
        .options = options,
        .notes =
            "Examples:\n  lcl generate --model build/demo/seed-1/link --support wug=a.png,b.png "
            "--support dax=c.png,d.png --query e.png\n  lcl generate --model llava-hf --prompt "
            "\"Is <image> older than <image>?\" --image a.jpg --image b.jpg"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    lcl_hf_use_tower(tower);
    bool pictures = r.supports.n > 0 && r.queries.n > 0;
    int asked = r.supports.n + r.queries.n, prompted = r.prompt.prompts.n + r.prompt.images.n;
    if (r.case_path && asked + prompted + r.prompt.sets.n + r.prompt.speak.stop.n == 0 &&
        r.prompt.speak.temperature == 0)
        return generate_case(r.prompt.model, r.case_path, r.prompt.speak.max_new, r.prompt.json);
    if (r.prompt.prompts.n > 0 && asked == 0 && !r.case_path) return generate_prompts(&r.prompt);
    if (r.case_path || prompted > 0 || !pictures)
        return LCL_FAIL_HINT(
            LCL_CONFIG, "lcl generate --help shows them",
            "--support and --query go together, or --prompt and --image, or --case "
            "alone");
    return generate(&r);
}

const struct cli_verb verb_generate = {"generate", "ask about a picture, given labelled ones", 45,
                                       run};
