/* lcl eval: accuracy by shots on held-out classes, as rows of results.json. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/cli.h"
#include "tools/eval_folders.h"
#include "tools/eval_rows.h"
#include "tools/eval_table.h"
#include "train/eval.h"
#include "train/ranks.h"
#include "train/report.h"
#include "train/results.h"

struct request {
    const char *model, *results, *row, *kinds, *predictions;
    int64_t views;
    bool greedy_off;
    struct cli_list seconds;
};

struct kind {
    const char *name;   /* as --rows takes it */
    const char *suffix; /* row of results.json: --row, or this where it is not the plain one */
    bool made_up, shuffled, prototype;
};
static const struct kind kinds[] = {{"lcl", NULL, false, false, false},
                                    {"made_up", "lcl_made_up", true, false, false},
                                    {"shuffled", "shuffled_labels", false, true, false},
                                    {"prototype", "prototype", false, false, true}};

/* Conversations may show pictures of rows, which are numbered after the pack's. */
static bool is_of(const struct lcl_pack *pack, const struct lcl_episode_view *v)
{
    bool all = v->query.image < pack->n_images;
    for (int i = 0; i < v->n_support; i++) all &= v->support[i].image < pack->n_images;
    return all;
}

/* table: where pictures of a table are, which a report could not open: those that it shows go
 * along.
 */
static lcl_status save_views(const char *path, const char *row, struct lcl_eval_outcome *o,
                             bool append, struct lcl_pack *table)
{
    FILE *f = fopen(path, append ? "a" : "w");
    if (!f) return LCL_FAIL(LCL_IO, "cannot write %s: %m", path);
    lcl_status status = LCL_OK;
    for (int64_t i = 0; i < o->n_views && status == LCL_OK; i++) {
        snprintf(o->views[i].row, sizeof o->views[i].row, "%s", row);
        if (table && i < LCL_REPORT_EPISODES && is_of(table, &o->views[i]))
            status = lcl_episode_view_fetch(&o->views[i], table);
        if (status != LCL_OK) break;
        status = lcl_episode_view_write(f, &o->views[i]);
    }
    if (fclose(f) != 0 && status == LCL_OK) status = LCL_FAIL(LCL_IO, "cannot write %s: %m", path);
    return status;
}

struct job {
    struct lcl_env *e;
    const struct lcl_config *c;
    struct lcl_features *features;
    struct lcl_results *results;
    const struct request *r;
    bool views_begun;
};

static lcl_status eval_cell(struct job *j, const struct kind *k, const char *row, int64_t shots)
{
    struct lcl_result_cell *cell;
    struct lcl_interval prototype;
    struct lcl_eval_outcome o;
    bool plain = !k->made_up && !k->shuffled && !k->prototype;
    struct lcl_eval_request q = {.shots = shots,
                                 .episodes = j->c->eval_episodes_full,
                                 .queries = j->c->eval_queries,
                                 .negative_made_up = k->made_up,
                                 .shuffled_labels = k->shuffled,
                                 .greedy = !j->r->greedy_off,
                                 .likelihood = true,
                                 .n_views = plain && j->r->predictions ? j->r->views : 0};
    LCL_TRY(lcl_results_cell(j->results, row, shots, &cell));
    cell->episodes = (double)q.episodes;
    if (k->prototype) {
        LCL_TRY(lcl_eval_prototype(j->e, j->c, j->features, &q, &prototype));
        cell->likelihood = prototype.mean;
        cell->ci95[0] = prototype.low;
        cell->ci95[1] = prototype.high;
        printf("  %-16s %3lld shots   nearest %.3f  [%.3f, %.3f]\n", row, (long long)shots,
               prototype.mean, prototype.low, prototype.high);
        return LCL_OK;
    }
    LCL_TRY(lcl_eval_run(j->e, j->c, j->features, &q, &o));
    const struct lcl_interval *shown = q.greedy ? &o.greedy : &o.likelihood;
    cell->greedy = q.greedy ? o.greedy.mean : NAN;
    cell->likelihood = o.likelihood.mean;
    cell->ci95[0] = shown->low;
    cell->ci95[1] = shown->high;
    cell->likelihood_ci95[0] = o.likelihood.low;
    cell->likelihood_ci95[1] = o.likelihood.high;
    if (q.greedy) {
        cell->official = o.official;
        cell->positive = o.positive;
        cell->negative = o.negative;
        cell->unparsed = o.unparsed;
    }
    printf("  %-16s %3lld shots   greedy %.3f [%.3f, %.3f]   likelihood %.3f [%.3f, %.3f]\n", row,
           (long long)shots, cell->greedy, o.greedy.low, o.greedy.high, o.likelihood.mean,
           o.likelihood.low, o.likelihood.high);
    fflush(stdout);
    lcl_status status = LCL_OK;
    if (q.n_views > 0 && lcl_comm_rank(j->e->comm) == 0) {
        status = save_views(j->r->predictions, row, &o, j->views_begun,
                            j->c->data_table[0] ? &j->e->pack : NULL);
        j->views_begun = true;
    }
    lcl_eval_outcome_free(&o);
    return status;
}

static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ',')) return true;
    return false;
}

static lcl_status eval_kinds(struct job *j)
{
    double begin = lcl_time_s();
    char took[24];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (!listed(j->r->kinds, kinds[k].name)) continue;
        const char *row = kinds[k].suffix ? kinds[k].suffix : j->r->row;
        for (int i = 0; i < j->c->eval_shots.n; i++)
            LCL_TRY(eval_cell(j, &kinds[k], row, j->c->eval_shots.v[i]));
    }
    lcl_log_info("evaluated in %s", lcl_format_duration(lcl_time_s() - begin, took));
    char stage[64];
    snprintf(stage, sizeof stage, "eval %s", j->r->row);
    LCL_TRY(lcl_results_seconds(j->results, stage, lcl_time_s() - begin));
    for (int i = 0; i < j->r->seconds.n; i++) {
        const char *value;
        LCL_TRY(cli_split_pair(j->r->seconds.v[i], "--seconds", stage, sizeof stage, &value));
        LCL_TRY(lcl_results_seconds(j->results, stage, atof(value)));
    }
    bool saves = j->r->results && lcl_comm_rank(j->e->comm) == 0;
    return saves ? lcl_results_save(j->results, j->r->results) : LCL_OK;
}

static lcl_status check_kinds(const char *list)
{
    char copy[256], *save = NULL;
    const char *names[4];
    for (int i = 0; i < 4; i++) names[i] = kinds[i].name;
    snprintf(copy, sizeof copy, "%s", list);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        bool known = false;
        for (int i = 0; i < 4; i++) known = known || strcmp(w, names[i]) == 0;
        const char *near = lcl_nearest_word(w, names, 4);
        if (!known)
            return LCL_FAIL_HINT(LCL_CONFIG, near ? near : "lcl, made_up, shuffled, prototype",
                                 "--rows has an unknown row \"%s\"", w);
    }
    return LCL_OK;
}

/* Any-shot conversations have no positive class. */
static lcl_status check_strategy(const struct lcl_config *c, const char *list)
{
    if (c->data_strategy != LCL_ANY_SHOT) return LCL_OK;
    if (!listed(list, "made_up") && !listed(list, "prototype")) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG, "data.made_up_fraction: 1 makes all labels up",
                         "data.strategy: any-shot has no rows but lcl and shuffled");
}

static lcl_status eval(const struct request *r, const struct cli_list *sets)
{
    struct lcl_env e = {0};
    struct lcl_config c;
    struct lcl_features features = {0};
    struct lcl_results *results = calloc(1, sizeof *results);
    char *dir = NULL;
    lcl_status status = results ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for results");
    if (status != LCL_OK) goto out;
    LCL_TRY_GOTO(check_kinds(r->kinds));
    if (r->results && lcl_fs_exists(r->results))
        LCL_TRY_GOTO(lcl_results_load(r->results, results));
    LCL_TRY_GOTO(lcl_env_run_config(r->model, sets->v, sets->n, &c));
    LCL_TRY_GOTO(check_strategy(&c, r->kinds));
    LCL_TRY_GOTO(lcl_env_start(&e, &c));
    LCL_TRY_GOTO(lcl_env_open_data(&e, &c));
    LCL_TRY_GOTO(lcl_env_load_model(&e, r->model, &c));
    if (c.data_strategy == LCL_ANY_SHOT && c.eval_task == LCL_TURN_ROWS)
        LCL_TRY_GOTO(lcl_env_open_sources(&e, &c));
    dir = lcl_strdupf("%s.features", lcl_config_source(&c));
    LCL_TRY_GOTO(lcl_features_open(&features, &e, &c, 1, c.cache_features ? dir : NULL));
    struct job j = {&e, &c, &features, results, r, false};
    LCL_TRY_GOTO(eval_kinds(&j));
out:
    lcl_features_close(&features);
    lcl_env_close(&e);
    free(results);
    free(dir);
    return status;
}

static const struct {
    const char *name;
    lcl_status (*run)(int argc, char **argv);
} suites[] = {{"isekai", eval_table}, {"imagenet-100", eval_table}, {"folders", eval_folders},
              {"open", eval_folders}, {"vqa", eval_rows},           {"pope", eval_rows},
              {"caption", eval_rows}, {"box", eval_rows},           {"icl", eval_folders}};

static lcl_status run(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof suites / sizeof *suites; i++)
        if (strcmp(argv[1], suites[i].name) == 0) return suites[i].run(argc, argv);
    struct request r = {.row = "lcl", .kinds = "lcl", .views = 100};
    struct cli_list sets = {0};
    const struct cli_option options[] = {
        {"--rows", CLI_STR, &r.kinds, .value = "LIST",
         .doc = "what is measured: lcl (positive made up, negative by its name), made_up (both "
                "made up), "
                "shuffled (support labels permuted), prototype (nearest mean feature)"},
        {"--row", CLI_STR, &r.row, .value = "NAME", .doc = "name of the lcl row in the results"},
        {"--results", CLI_STR, &r.results, .value = "FILE",
         .doc = "results.json to write, or to add rows to"},
        {"--predictions", CLI_STR, &r.predictions, .value = "FILE",
         .doc = "JSON lines of the first episodes, for lcl report"},
        {"--views", CLI_INT, &r.views, .low = 0, .high = 1e9,
         .doc = "episodes a shot count in --predictions"},
        {"--seconds", CLI_LIST, &r.seconds, .value = "STAGE=S",
         .doc = "also record how long a stage took, in the results"},
        {"--no-greedy", CLI_FLAG, &r.greedy_off, .doc = "likelihoods only"},
        CLI_SET_OPTION(&sets),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "RUN [options]\n       lcl eval SUITE --model MODEL ... (lcl eval SUITE --help): "
                 "isekai, imagenet-100,\n       folders, open, icl, vqa, pope, caption, box",
        .about = "Asks a trained model about classes it never saw: a support set of labelled "
                 "pictures, then a\n"
                 "query; accuracy by shots with 95 % intervals (bootstrap over classes).",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "RUN is a run folder, a checkpoint, or an HF LLaVA folder (then --set "
                 "data.pack=FILE).\n"
                 "The keys eval.* and data.* of the run's config hold unless --set changes them.\n"
                 "mpirun -np N lcl eval ... shares the work; the numbers are the same for every "
                 "N.\n"
                 "With data.strategy: any-shot, conversations of eval.task are asked their last."};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.model = args.v[0];
    return eval(&r, &sets);
}

const struct cli_verb verb_eval = {"eval", "accuracy by shots on held-out classes", 40, run};
