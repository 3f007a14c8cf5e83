/* lcl generate: labelled pictures, then questions about others; the model's words and the
 * likelihood of each label. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "core/fs.h"
#include "core/ops_check.h"
#include "tools/cli.h"
#include "tools/generate_case.h"
#include "train/answer.h"
#include "train/eval.h"

struct request {
    const char *model, *case_path;
    struct cli_list supports, queries, sets;
    bool json;
    double temperature, top_p;
    int64_t top_k, seed, max_new;
};

/* Answers to all queries. */
struct answers {
    char **text;
    double *logprob, *share; /* [queries, labels] */
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

static lcl_status read_sampling(const struct request *r, struct lcl_sampling *s)
{
    *s = (struct lcl_sampling){.temperature = (float)r->temperature,
                               .top_p = (float)r->top_p,
                               .top_k = r->top_k,
                               .seed = (uint64_t)r->seed};
    if (r->temperature == 0 && (r->top_k != 0 || r->top_p != 1 || r->seed != 0))
        return LCL_FAIL_HINT(LCL_CONFIG, "give --temperature 1, or less for safer answers",
                             "--top-k, --top-p and --seed are for tokens that are drawn, and "
                             "without --temperature the likeliest one is taken");
    return lcl_check_sampling(s->temperature, s->top_k, s->top_p);
}

static lcl_status answer(struct lcl_gallery *g, const struct lcl_config *c, struct lcl_support *s,
                         const struct request *r, const struct lcl_sampling *sampling,
                         struct answers *out)
{
    struct lcl_answerer a = {0};
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
    LCL_TRY_GOTO(lcl_answer(&a, e, sampling, out->text));
    for (int q = 0; q < r->queries.n; q++)
        memmove(out->text[q], out->text[q] + strspn(out->text[q], " \n"),
                strlen(out->text[q] + strspn(out->text[q], " \n")) + 1);
    LCL_TRY_GOTO(lcl_answer_likelihood(&a, e, out->logprob));
    for (int q = 0; q < r->queries.n; q++)
        lcl_answer_shares(out->logprob + q * s->n, s->n, out->share + q * s->n);
out:
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

static void print_text(const struct lcl_support *s, const struct request *r,
                       const struct answers *a)
{
    int width = 8;
    for (int i = 0; i < s->n; i++)
        if ((int)strlen(s->classes[i].label) > width) width = (int)strlen(s->classes[i].label);
    for (int q = 0; q < r->queries.n; q++) {
        printf("%s%s\n  answer: %s\n", q ? "\n" : "", r->queries.v[q], a->text[q]);
        for (int i = 0; i < s->n; i++)
            printf("  %-*s  %5.1f %%   log-likelihood %.3f\n", width, s->classes[i].label,
                   100 * a->share[q * s->n + i], a->logprob[q * s->n + i]);
    }
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
    json_t *root =
        json_pack("{s:s, s:o, s:o}", "model", r->model, "support", support, "queries", queries);
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
    struct lcl_sampling sampling;
    lcl_status status;
    LCL_TRY_GOTO(read_request(r, &support));
    LCL_TRY_GOTO(read_sampling(r, &sampling));
    LCL_TRY_GOTO(lcl_env_run_config(r->model, r->sets.v, r->sets.n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    LCL_TRY_GOTO(lcl_gallery_open(&gallery, &e));
    size_t scores = (size_t)r->queries.n * (size_t)support.n;
    a.text = calloc((size_t)r->queries.n, sizeof *a.text);
    a.logprob = calloc(scores, sizeof *a.logprob);
    a.share = calloc(scores, sizeof *a.share);
    if (!a.text || !a.logprob || !a.share) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for %d answers", r->queries.n);
        goto out;
    }
    LCL_TRY_GOTO(answer(&gallery, &c, &support, r, &sampling, &a));
    if (r->json)
        status = print_json(&support, r, &a);
    else
        print_text(&support, r, &a);
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
    struct request r = {.top_p = 1};
    const char *tower = NULL;
    const struct cli_option options[] = {
        {"--model", CLI_STR, &r.model, .value = "RUN", .required = true,
         .doc = "run folder, checkpoint, or HF LLaVA folder"},
        {"--support", CLI_LIST, &r.supports, .value = "LABEL=FILE[,FILE...]",
         .doc = "pictures of one class and what to call it; two labels or more"},
        {"--query", CLI_LIST, &r.queries, .value = "FILE", .doc = "picture to ask about"},
        {"--case", CLI_STR, &r.case_path, .value = "FILE",
         .doc = "instead of pictures: continue generate.input_ids with generate.pixel_values of a "
                "safetensors file and print the new token ids"},
        {"--max-new", CLI_INT, &r.max_new, .low = 0, .high = 1e6,
         .doc = "of --case: tokens at most; 0: as many as its generate.new_ids has, else 12"},
        {"--temperature", CLI_FLOAT, &r.temperature, .low = 0, .high = 1e6,
         .doc = "draw tokens by their likelihood, sharpened below 1, flattened above; 0: take the "
                "likeliest"},
        {"--top-k", CLI_INT, &r.top_k, .low = 0, .high = 1e9,
         .doc = "draw from the likeliest N tokens; 0: from all"},
        {"--top-p", CLI_FLOAT, &r.top_p, .low = 0, .high = 1,
         .doc = "draw from the fewest tokens that have this share together; 1: from all"},
        {"--seed", CLI_INT, &r.seed, .low = 0, .high = 9e15,
         .doc = "of the draws: the same seed gives the same answers"},
        {"--json", CLI_FLAG, &r.json, .doc = "print one JSON object"},
        CLI_TOWER_OPTION(&tower),
        CLI_SET_OPTION(&r.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--model RUN --support LABEL=FILE[,FILE...] --support LABEL=FILE --query FILE",
        .about = "Shows the model labelled pictures and asks what is in others: prints its answer "
                 "and how\nlikely it finds each label. Support pictures are shown in turns, one of "
                 "each label.",
        .options = options,
        .notes =
            "Example:\n  lcl generate --model build/demo/seed-1/link --support wug=a.png,b.png "
            "--support dax=c.png,d.png --query e.png"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    lcl_hf_use_tower(tower);
    bool pictures = r.supports.n > 0 && r.queries.n > 0;
    if (r.case_path && r.supports.n + r.queries.n + r.sets.n == 0 && r.temperature == 0)
        return generate_case(r.model, r.case_path, r.max_new, r.json);
    if (r.case_path || !pictures)
        return LCL_FAIL_HINT(LCL_CONFIG, "lcl generate --help shows both",
                             "--support and --query go together, or --case alone");
    return generate(&r);
}

const struct cli_verb verb_generate = {"generate", "ask about a picture, given labelled ones", 45,
                                       run};
