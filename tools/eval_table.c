/* lcl eval isekai, lcl eval imagenet-100: a model asked the questions of a table of picture files.
 * Pictures of a support set are read once for all of its queries and shot counts. */
#include "tools/eval_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "tools/eval_trials.h"
#include "train/answer.h"
#include "train/match.h"
#include "train/results.h"
#include "train/stats.h"
#include "train/text.h"

enum { QUERIES = 64, MAX_SHOTS = 32, STREAM = 4 };

struct request {
    const char *kind, *table, *groups, *images, *model, *shots, *predictions, *results;
    struct cli_list sets;
};

/* What was answered at a shot count: [n] of the trials. */
struct cell {
    int64_t shots;
    uint8_t *strict, *official, *likelier, *unparsed;
};

struct job {
    const struct request *r;
    const struct lcl_config *c;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct trials trials;
    struct cell cell[MAX_SHOTS];
    int n_cells;
    struct lcl_text lines; /* predictions */
};

static lcl_status parse_shots(struct job *j)
{
    const char *at = j->r->shots;
    for (char *end; *at; at = *end ? end + 1 : end) {
        long shots = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || shots < 0 || shots % 2 || shots > 1000 ||
            j->n_cells == MAX_SHOTS)
            return LCL_FAIL_HINT(
                LCL_CONFIG, "as 0,2,4: support pictures in all, half of each class",
                "--shots %s: wanted at most %d even numbers to 1000", j->r->shots, MAX_SHOTS);
        j->cell[j->n_cells++].shots = shots;
    }
    return j->n_cells ? LCL_OK : LCL_FAIL(LCL_CONFIG, "--shots is empty");
}

/* Leaves out shot counts that some question has too few pictures for. */
static lcl_status fit_shots(struct job *j)
{
    size_t fewest = SIZE_MAX;
    for (int64_t i = 0; i < j->trials.n; i++)
        for (int w = 0; w < 2; w++) {
            size_t n = json_array_size(j->trials.v[i].pictures[w]);
            fewest = n < fewest ? n : fewest;
        }
    int kept = 0;
    for (int k = 0; k < j->n_cells; k++)
        if ((size_t)j->cell[k].shots / 2 <= fewest) j->cell[kept++] = j->cell[k];
    if (kept < j->n_cells)
        lcl_log_warn("shot counts over %zu are left out: a class of the table has %zu pictures",
                     2 * fewest, fewest);
    j->n_cells = kept;
    if (kept == 0) return LCL_FAIL(LCL_RANGE, "no shot count of --shots can be asked");
    for (int k = 0; k < kept; k++) {
        uint8_t *room = calloc(4, (size_t)j->trials.n);
        if (!room) return LCL_FAIL(LCL_MEMORY, "no memory for answers");
        struct cell *c = &j->cell[k];
        c->strict = room;
        c->official = room + j->trials.n;
        c->likelier = c->official + j->trials.n;
        c->unparsed = c->likelier + j->trials.n;
    }
    return LCL_OK;
}

static lcl_status add_picture(struct job *j, const char *name, int64_t *number)
{
    char *path = lcl_strdupf("%s/%s", j->r->images, name);
    if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
    const char *paths[] = {path};
    lcl_status status = lcl_gallery_add(&j->gallery, paths, 1, number, NULL);
    free(path);
    return status;
}

static lcl_status add_support(struct job *j, const struct trial *t, struct lcl_support *s)
{
    int64_t most = 0;
    for (int k = 0; k < j->n_cells; k++)
        most = j->cell[k].shots / 2 > most ? j->cell[k].shots / 2 : most;
    s->classes = calloc(2, sizeof *s->classes);
    if (!s->classes) return LCL_FAIL(LCL_MEMORY, "no memory for a support set");
    s->n = 2;
    for (int w = 0; w < 2; w++) {
        struct lcl_support_class *c = &s->classes[w];
        memcpy(c->label, t->label[w], sizeof c->label);
        c->paths = calloc((size_t)most + 1, sizeof *c->paths);
        c->image = calloc((size_t)most + 1, sizeof *c->image);
        if (!c->paths || !c->image) return LCL_FAIL(LCL_MEMORY, "no memory for a support set");
        for (; c->n < most && (size_t)c->n < json_array_size(t->pictures[w]); c->n++)
            LCL_TRY(add_picture(j, json_string_value(json_array_get(t->pictures[w], (size_t)c->n)),
                                &c->image[c->n]));
    }
    return LCL_OK;
}

static void say(struct job *j, const struct trial *t, const struct cell *c, int64_t at,
                const char *text, const double *logprob)
{
    const char *const names[] = {"image", "positive", "negative", "target", "prediction"};
    const char *const texts[] = {t->query, t->label[0], t->label[1], t->label[t->target], text};
    lcl_text_printf(&j->lines, "{\"shots\": %lld", (long long)c->shots);
    for (int i = 0; i < 5; i++) {
        lcl_text_printf(&j->lines, ", \"%s\": ", names[i]);
        lcl_text_json_string(&j->lines, texts[i]);
    }
    lcl_text_printf(&j->lines,
                    ", \"strict\": %s, \"official\": %s, \"likelihood\": %s, \"logprob\": [%.6g, "
                    "%.6g]}\n",
                    c->strict[at] ? "true" : "false", c->official[at] ? "true" : "false",
                    c->likelier[at] ? "true" : "false", logprob[0], logprob[1]);
}

static lcl_status judge(struct job *j, struct cell *c, int64_t at, const char *text,
                        const double *logprob)
{
    const struct trial *t = &j->trials.v[at];
    struct lcl_judgement said;
    LCL_TRY(lcl_judge(text, t->label, 2, t->target, &said));
    c->official[at] = said.official;
    c->strict[at] = said.strict;
    c->unparsed[at] = said.unparsed;
    c->likelier[at] = logprob[t->target] > logprob[!t->target];
    return LCL_OK;
}

/* Trials [first, first + n) of one support set at one shot count; text and logprob: [n], [n, 2]. */
static lcl_status ask(struct job *j, const struct lcl_support *s, struct cell *c, int64_t first,
                      int64_t n, const int64_t *query, char **text, double *logprob)
{
    static const int way[] = {0, 1};
    struct lcl_episode e;
    struct lcl_answer_how how = {0};
    const struct trial *t = &j->trials.v[first];
    struct lcl_rng rng = lcl_rng_stream((uint64_t)j->c->eval_seed, LCL_RNG_EVAL, STREAM,
                                        (uint64_t)t->set * 1024 + (uint64_t)c->shots);
    LCL_TRY(lcl_support_episode(s, way, 2, c->shots / 2, &rng, query, n, &e));
    for (int64_t q = 0; q < n; q++) e.queries[q].way = t[q].target;
    lcl_status status = lcl_answer_likelihood(&j->answerer, &e, logprob);
    if (status == LCL_OK) status = lcl_answer(&j->answerer, &e, &how, text);
    for (int64_t q = 0; q < n && status == LCL_OK; q++)
        status = judge(j, c, first + q, text[q], logprob + 2 * q);
    lcl_episode_free(&e);
    return status;
}

static lcl_status ask_set(struct job *j, int64_t first, int64_t n)
{
    struct lcl_support s = {0};
    int64_t query[QUERIES];
    size_t room = (size_t)(n * j->n_cells);
    char **text = calloc(room, sizeof *text);
    double *logprob = calloc(2 * room, sizeof *logprob);
    lcl_status status;
    LCL_TRY_GOTO(text && logprob ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for answers"));
    lcl_gallery_cut(&j->gallery, 0);
    LCL_TRY_GOTO(add_support(j, &j->trials.v[first], &s));
    for (int64_t q = 0; q < n; q++)
        LCL_TRY_GOTO(add_picture(j, j->trials.v[first + q].query, &query[q]));
    for (int k = 0; k < j->n_cells; k++)
        LCL_TRY_GOTO(ask(j, &s, &j->cell[k], first, n, query, text + k * n, logprob + 2 * k * n));
    for (int64_t q = 0; q < n && j->r->predictions; q++)
        for (int k = 0; k < j->n_cells; k++)
            say(j, &j->trials.v[first + q], &j->cell[k], first + q, text[k * n + q],
                logprob + 2 * (k * n + q));
out:
    for (size_t i = 0; text && i < room; i++) free(text[i]);
    free(text);
    free(logprob);
    lcl_support_free(&s);
    return status;
}

static lcl_status ask_all(struct job *j)
{
    struct lcl_progress progress;
    lcl_status status = LCL_OK;
    lcl_progress_begin(&progress, "asking", "queries", j->trials.n);
    for (int64_t i = 0, n; i < j->trials.n && status == LCL_OK; i += n) {
        for (n = 1; n < QUERIES && i + n < j->trials.n; n++)
            if (j->trials.v[i + n].set != j->trials.v[i].set) break;
        status = ask_set(j, i, n);
        lcl_progress_update(&progress, i + n, NULL);
    }
    lcl_progress_end(&progress, NULL);
    return status;
}

static double share(const struct job *j, const uint8_t *right, int target)
{
    int64_t n = 0, sum = 0;
    for (int64_t i = 0; i < j->trials.n; i++) {
        if (target >= 0 && j->trials.v[i].target != target) continue;
        n++;
        sum += right[i];
    }
    return n ? (double)sum / (double)n : NAN;
}

static lcl_status interval(const struct job *j, const int32_t *group, const uint8_t *right,
                           struct lcl_interval *out)
{
    return lcl_stats_bootstrap(right, group, j->trials.n, (uint64_t)j->c->eval_seed, out);
}

static lcl_status report_cell(struct job *j, const struct cell *c, const int32_t *group,
                              struct lcl_results *results)
{
    struct lcl_result_cell *to;
    struct lcl_interval strict, official, likelier;
    LCL_TRY(interval(j, group, c->strict, &strict));
    LCL_TRY(interval(j, group, c->official, &official));
    LCL_TRY(interval(j, group, c->likelier, &likelier));
    LCL_TRY(lcl_results_cell(results, j->r->kind, c->shots, &to));
    to->greedy = strict.mean;
    to->official = official.mean;
    to->likelihood = likelier.mean;
    to->positive = share(j, c->strict, 0);
    to->negative = share(j, c->strict, 1);
    to->unparsed = share(j, c->unparsed, -1);
    to->episodes = (double)j->trials.n;
    to->ci95[0] = strict.low;
    to->ci95[1] = strict.high;
    to->likelihood_ci95[0] = likelier.low;
    to->likelihood_ci95[1] = likelier.high;
    printf(
        "  %3lld shots   official %.3f [%.3f, %.3f]   strict %.3f [%.3f, %.3f]   likelihood %.3f "
        "[%.3f, %.3f]\n              positives %.3f, negatives %.3f, unparsed %.3f\n",
        (long long)c->shots, official.mean, official.low, official.high, strict.mean, strict.low,
        strict.high, likelier.mean, likelier.low, likelier.high, to->positive, to->negative,
        to->unparsed);
    return LCL_OK;
}

static lcl_status report(struct job *j)
{
    struct lcl_results *results = calloc(1, sizeof *results);
    int32_t *group = malloc((size_t)j->trials.n * sizeof *group);
    lcl_status status;
    LCL_TRY_GOTO(results && group ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for results"));
    for (int64_t i = 0; i < j->trials.n; i++) group[i] = j->trials.v[i].group;
    if (j->r->results && lcl_fs_exists(j->r->results))
        LCL_TRY_GOTO(lcl_results_load(j->r->results, results));
    printf("%s: %lld queries\n", j->r->kind, (long long)j->trials.n);
    for (int k = 0; k < j->n_cells; k++) LCL_TRY_GOTO(report_cell(j, &j->cell[k], group, results));
    if (j->r->results) LCL_TRY_GOTO(lcl_results_save(results, j->r->results));
    if (j->r->predictions) {
        LCL_TRY_GOTO(lcl_text_check(&j->lines));
        LCL_TRY_GOTO(lcl_fs_write_atomic(j->r->predictions, j->lines.data, j->lines.size));
    }
out:
    free(results);
    free(group);
    return status;
}

static lcl_status make_table(const struct request *r)
{
    char *lines;
    LCL_TRY(trials_of_groups(r->groups, &lines));
    lcl_status status = lcl_fs_write_atomic(r->table, lines, strlen(lines));
    free(lines);
    return status;
}

static lcl_status evaluate(const struct request *r)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    struct job j = {.r = r, .c = &c};
    lcl_status status;
    LCL_TRY_GOTO(parse_shots(&j));
    if (r->groups) LCL_TRY_GOTO(make_table(r));
    LCL_TRY_GOTO(
        (strcmp(r->kind, "isekai") == 0 ? trials_isekai : trials_imagenet)(r->table, &j.trials));
    LCL_TRY_GOTO(fit_shots(&j));
    LCL_TRY_GOTO(lcl_env_run_config(r->model, r->sets.v, r->sets.n, &c));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    LCL_TRY_GOTO(lcl_gallery_open(&j.gallery, &e));
    LCL_TRY_GOTO(lcl_answerer_open(&j.answerer, &j.gallery, &c));
    LCL_TRY_GOTO(ask_all(&j));
    LCL_TRY_GOTO(report(&j));
out:
    for (int k = 0; k < j.n_cells; k++) free(j.cell[k].strict);
    lcl_text_free(&j.lines);
    lcl_answerer_close(&j.answerer);
    lcl_gallery_close(&j.gallery);
    trials_free(&j.trials);
    lcl_env_close(&e);
    return status;
}

lcl_status eval_table(int argc, char **argv)
{
    struct request r = {.shots = "0,2,4,6,8,10,12,14,16"};
    const struct cli_option options[] = {
        {"--table", CLI_STR, &r.table, .value = "FILE", .required = true,
         .doc = "the questions, JSON lines"},
        {"--images", CLI_STR, &r.images, .value = "DIR", .doc = "folder that its paths begin in"},
        {"--model", CLI_STR, &r.model, .value = "MODEL", .required = true,
         .doc = "run folder, checkpoint, or HF LLaVA folder"},
        {"--groups", CLI_STR, &r.groups, .value = "DIR",
         .doc = "first write FILE from a folder of groups (pos*, neg*, infer* pictures in each), "
                "which is --images too"},
        {"--shots", CLI_STR, &r.shots, .value = "LIST", .doc = "support pictures in all"},
        {"--predictions", CLI_STR, &r.predictions, .value = "FILE",
         .doc = "JSON lines of every answer, in the table's order"},
        {"--results", CLI_STR, &r.results, .value = "FILE",
         .doc = "results.json to write, or to add a row to"},
        CLI_SET_OPTION(&r.sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "isekai|imagenet-100 --table FILE --images DIR --model MODEL [options]",
        .about =
            "Asks a model the questions of ISEKAI (lines {image_name, positive_list, "
            "negative_list,\npositive_promt, negative_promt, label_name}) or of the official "
            "ImageNet-100 test table\n({class_name, context_samples, test_samples}; classes 2i "
            "and 2i + 1 against each other).\nAccuracy by shots: official rule, strict, by "
            "likelihood, with 95 % intervals.",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes =
            "Example:\n  lcl eval isekai --table ISEKAI-10.json --images ISEKAI-20 --model RUN"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.kind = args.v[0];
    if (!r.images) r.images = r.groups;
    if (!r.images) return LCL_FAIL(LCL_CONFIG, "--images is missing");
    if (r.groups && strcmp(r.kind, "isekai") != 0)
        return LCL_FAIL(LCL_CONFIG, "--groups makes ISEKAI tables");
    return evaluate(&r);
}
