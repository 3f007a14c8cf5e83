/* lcl eval folders: class folders, N classes a question. open: words that name nothing, and an
 * answer that is generated with no candidates (Tsimpoukelli et al. 2021, section 4.2: open-ended
 * mini-ImageNet). icl: the same questions once with a support set of their classes (link-context
 * learning) and once of other classes, which show the task alone. */
#include "tools/eval_folders.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "tools/eval_ask.h"
#include "train/env.h"

enum { STREAM = 5, STREAM_TASK = 6, LABEL_TRIES = 1000 };
enum labels { NAMES, MADE_UP, WORDS };
enum kind { FOLDERS, OPEN, ICL };
static const char *const kinds[] = {"folders", "open", "icl"};

/* Words of two syllables or fewer that are no English words. */
static const char *const words[] = {
    "dax",  "blick", "wug",  "fep",  "toma", "zav",  "gip",  "moop", "kiv",  "lorp", "tuk",
    "nib",  "perb",  "sarn", "vosk", "jeld", "quib", "rufa", "hobi", "yent", "cray", "dorb",
    "fusk", "glim",  "jath", "kemp", "lisk", "mave", "nerf", "oplo", "pilk", "rast", "sebb",
    "tiff", "ulva",  "vank", "wost", "xeno", "yarl", "zunt", "brop", "chid", "drel", "ekto",
    "flum", "grot",  "hask", "imbo", "jurn", "klem", "lodo", "munk", "noff", "orpa", "plin",
    "rilt", "snav",  "trub", "ushi", "vrel", "wimb", "yolt", "zibb", "azul"};
_Static_assert(sizeof words / sizeof *words == LCL_MAX_WAYS, "a word for each way");

struct request {
    struct ask_options ask;
    enum kind kind;
    const char *support, *task;
    int64_t ways, episodes, queries;
    int labels;
};

struct folders {
    const struct request *r;
    const struct lcl_config *c;
    struct lcl_support classes, task; /* task: of --task */
    int64_t most;                     /* pictures of a class that are shown */
};

/* n numbers below `of`, the first of them `first` (-1: any), each once. */
static lcl_status draw_distinct(struct lcl_rng *rng, int64_t of, int64_t n, int64_t first,
                                int32_t *out)
{
    int32_t *all = malloc((size_t)of * sizeof *all);
    if (!all) return LCL_FAIL(LCL_MEMORY, "no memory for a draw of %lld", (long long)of);
    for (int64_t i = 0; i < of; i++) all[i] = (int32_t)i;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = i + lcl_rng_below(rng, (uint32_t)(of - i));
        if (i == 0 && first >= 0) k = first;
        out[i] = all[k];
        all[k] = all[i];
    }
    free(all);
    return LCL_OK;
}

static bool has_label(const struct lcl_support *s, const char *label)
{
    return lcl_support_find(s, label) >= 0;
}

/* Adds a class of the question under its label; the pictures that it shows. */
static lcl_status show_class(struct ask_set *set, const struct lcl_support_class *c,
                             const char *label, const int32_t *picture, int64_t n)
{
    LCL_TRY(lcl_support_name(&set->support, label));
    for (int64_t k = 0; k < n; k++)
        LCL_TRY(lcl_support_add(&set->support, label, c->paths[picture[k]], 0));
    return LCL_OK;
}

static lcl_status make_label(const struct folders *f, struct lcl_rng *rng,
                             const struct lcl_support_class *c, const struct ask_set *set,
                             int32_t word, char out[LCL_LABEL_BYTES])
{
    if (f->r->labels == WORDS) {
        snprintf(out, LCL_LABEL_BYTES, "%s", words[word]);
        return LCL_OK;
    }
    snprintf(out, LCL_LABEL_BYTES, "%s", c->label);
    for (int i = 0; f->r->labels == MADE_UP && i < LABEL_TRIES; i++) {
        lcl_draw_label(rng, (int)f->c->data_label_min_letters, (int)f->c->data_label_max_letters,
                       out);
        if (!has_label(&set->support, out)) return LCL_OK;
    }
    return f->r->labels == NAMES
               ? LCL_OK
               : LCL_FAIL_HINT(LCL_RANGE, "raise data.label_max_letters",
                               "no label is left that another class of the question lacks");
}

/* Query q asks for class q % ways; further ones of a class are further pictures of it, and begin
 * again where there are no more. */
static void add_query(const struct folders *f, struct ask_set *set, int64_t q,
                      const struct lcl_support_class *c, int way, const int32_t *picture)
{
    const int64_t left = c->n - f->most, k = q / f->r->ways % left;
    const char *path = c->paths[picture[f->most + k]];
    set->query[q] = (struct ask_query){path, c->label, way};
}

static lcl_status add_ways(const struct folders *f, struct lcl_rng *rng, const int32_t *index,
                           bool shows, struct ask_set *set)
{
    const struct request *r = f->r;
    char label[LCL_LABEL_BYTES];
    int32_t word[LCL_MAX_WAYS];
    LCL_TRY(draw_distinct(rng, LCL_MAX_WAYS, r->ways, -1, word));
    for (int w = 0; w < r->ways; w++) {
        const struct lcl_support_class *c = &f->classes.classes[index[w]];
        int32_t *picture = malloc((size_t)c->n * sizeof *picture);
        if (!picture) return LCL_FAIL(LCL_MEMORY, "no memory for a class's pictures");
        lcl_status status = draw_distinct(rng, c->n, c->n, -1, picture);
        if (status == LCL_OK) status = make_label(f, rng, c, set, word[w], label);
        if (status == LCL_OK) status = show_class(set, c, label, picture, shows ? f->most : 0);
        for (int64_t q = w; q < r->queries && status == LCL_OK; q += r->ways)
            add_query(f, set, q, c, w, picture);
        free(picture);
        LCL_TRY(status);
        set->class_names[w] = r->labels == NAMES ? NULL : c->label;
    }
    return LCL_OK;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Classes of --task, or those of the folder that the question has not. */
static lcl_status add_other_task(const struct folders *f, struct lcl_rng *rng, const int32_t *asked,
                                 struct ask_set *set)
{
    const struct request *r = f->r;
    const struct lcl_support *from = r->task ? &f->task : &f->classes;
    int32_t other[LCL_MAX_WAYS], sorted[LCL_MAX_WAYS];
    const int64_t left = from->n - (r->task ? 0 : r->ways);
    LCL_TRY(draw_distinct(rng, left, r->ways, -1, other));
    memcpy(sorted, asked, (size_t)r->ways * sizeof *sorted);
    qsort(sorted, (size_t)r->ways, sizeof *sorted, by_number);
    for (int w = 0; w < r->ways; w++) {
        int32_t index = other[w];
        for (int i = 0; i < r->ways && !r->task; i++) index += sorted[i] <= index;
        const struct lcl_support_class *c = &from->classes[index];
        int32_t *picture = malloc((size_t)c->n * sizeof *picture);
        if (!picture) return LCL_FAIL(LCL_MEMORY, "no memory for a class's pictures");
        lcl_status status = draw_distinct(rng, c->n, c->n, -1, picture);
        if (status == LCL_OK && has_label(&set->support, c->label))
            status = LCL_FAIL_HINT(LCL_CONFIG, "give a --task of other classes",
                                   "\"%s\" is a class of both --support and --task", c->label);
        if (status == LCL_OK) status = show_class(set, c, c->label, picture, f->most);
        free(picture);
        LCL_TRY(status);
    }
    return LCL_OK;
}

/* Units of icl come in twos: lcl, icl. */
static lcl_status make_set(void *ctx, int64_t unit, uint64_t seed, struct ask_set *set)
{
    const struct folders *f = ctx;
    const struct request *r = f->r;
    int32_t index[LCL_MAX_WAYS], order[LCL_MAX_WAYS], drawn[LCL_MAX_WAYS];
    const bool twice = r->kind == ICL, task = twice && unit % 2;
    const int64_t episode = twice ? unit / 2 : unit, n = f->classes.n;
    struct lcl_rng rng = lcl_rng_stream(seed, LCL_RNG_EVAL, STREAM, (uint64_t)episode);
    struct lcl_rng other = lcl_rng_stream(seed, LCL_RNG_EVAL, STREAM_TASK, (uint64_t)episode);
    LCL_TRY(draw_distinct(&rng, n, r->ways, episode % n, drawn));
    LCL_TRY(draw_distinct(&rng, r->ways, r->ways, -1, order));
    for (int w = 0; w < r->ways; w++) index[w] = drawn[order[w]];
    set->row = !twice ? r->ask.row : task ? "icl" : "lcl";
    set->number = episode;
    set->order = episode;
    set->n_labels = (int)r->ways;
    set->shown = r->ways;
    set->n = r->queries;
    set->query = calloc((size_t)r->queries, sizeof *set->query);
    if (!set->query) return LCL_FAIL(LCL_MEMORY, "no memory for questions");
    LCL_TRY(add_ways(f, &rng, index, !task, set));
    return task ? add_other_task(f, &other, index, set) : LCL_OK;
}

static int64_t fewest_pictures(const struct lcl_support *s)
{
    int64_t fewest = INT64_MAX;
    for (int i = 0; i < s->n; i++) fewest = s->classes[i].n < fewest ? s->classes[i].n : fewest;
    return fewest;
}

static lcl_status check(const struct request *r, const struct folders *f)
{
    const int64_t needed = r->kind == ICL && !r->task ? 2 * r->ways : r->ways;
    if (f->classes.n < needed)
        return LCL_FAIL_HINT(
            LCL_CONFIG, r->kind == ICL ? "give a --task folder, or lower --ways" : "lower --ways",
            "%s has %d classes; wanted %lld", r->support, f->classes.n, (long long)needed);
    if (r->task && f->task.n < r->ways)
        return LCL_FAIL_HINT(LCL_CONFIG, "lower --ways", "%s has %d classes; wanted %lld", r->task,
                             f->task.n, (long long)r->ways);
    if (r->kind == ICL && r->labels != NAMES)
        return LCL_FAIL(LCL_CONFIG, "icl asks for names of classes: --labels names");
    return LCL_OK;
}

static lcl_status add_settings(const struct request *r, json_t *settings)
{
    json_t *more =
        json_pack("{s:s, s:s*, s:I, s:I, s:I, s:i}", "support", r->support, "task", r->task, "ways",
                  (json_int_t)r->ways, "episodes", (json_int_t)r->episodes, "queries",
                  (json_int_t)r->queries, "labels", r->labels);
    int failed = !settings || !more || json_object_update(settings, more);
    json_decref(more);
    return failed ? LCL_FAIL(LCL_FORMAT, "a path or label of the evaluation is not UTF-8") : LCL_OK;
}

static lcl_status evaluate(const struct request *r)
{
    struct folders f = {.r = r};
    struct ask_suite suite = {.make = make_set, .ctx = &f};
    struct lcl_config c;
    lcl_status status;
    f.c = &c;
    LCL_TRY_GOTO(lcl_support_scan(&f.classes, r->support));
    if (r->task) LCL_TRY_GOTO(lcl_support_scan(&f.task, r->task));
    LCL_TRY_GOTO(check(r, &f));
    int64_t fewest = fewest_pictures(&f.classes) - 1; /* one is asked for */
    if (r->task && fewest_pictures(&f.task) < fewest) fewest = fewest_pictures(&f.task);
    LCL_TRY_GOTO(ask_shots(&suite, &r->ask, r->ways, fewest));
    for (int k = 0; k < suite.n_shots; k++)
        if (suite.shots[k] / r->ways > f.most) f.most = suite.shots[k] / r->ways;
    LCL_TRY_GOTO(lcl_env_run_config(r->ask.model, r->ask.sets.v, r->ask.sets.n, &c));
    suite.units = r->episodes * (r->kind == ICL ? 2 : 1);
    suite.settings = ask_settings(&r->ask);
    LCL_TRY_GOTO(add_settings(r, suite.settings));
    LCL_TRY_GOTO(ask_run(&r->ask, &suite, &c));
out:
    json_decref(suite.settings);
    lcl_support_free(&f.classes);
    lcl_support_free(&f.task);
    return status;
}

/* 0, 1, 2, 4 and 8 pictures of each class, up to 16 in all or the first that is more. */
static void default_shots(int64_t ways, char text[64])
{
    int n = snprintf(text, 64, "0");
    for (int64_t k = 1; k <= 8 && (k == 1 || k * ways <= 16); k *= 2)
        n += snprintf(text + n, (size_t)(64 - n), ",%lld", (long long)(k * ways));
}

lcl_status eval_folders(int argc, char **argv)
{
    char shots[64];
    struct request r = {.ways = 2, .episodes = 200, .queries = 4, .labels = -1};
    const struct cli_option options[] = {
        {"--support", CLI_STR, &r.support, .value = "DIR", .required = true,
         .doc = "folder of class folders with pictures"},
        {"--task", CLI_STR, &r.task, .value = "DIR",
         .doc = "icl: class folders of the other task (default: classes of --support that are not "
                "asked for)"},
        {"--ways", CLI_INT, &r.ways, .low = 2, .high = LCL_MAX_WAYS, .doc = "classes a question"},
        {"--episodes", CLI_INT, &r.episodes, .low = 1, .high = 1e8,
         .doc = "support sets, each class asked for equally often"},
        {"--queries", CLI_INT, &r.queries, .low = 1, .high = ASK_QUERIES,
         .doc = "queries a support set, its classes in turn"},
        {"--labels", CLI_CHOICE, &r.labels, .words = "names|made_up|words",
         .doc = "what classes are called: the folders' names; letters, drawn for each set; words "
                "that name nothing, as dax and wug (default: made_up; open: words; icl: names)"},
        ASK_SET_OPTIONS(&r.ask),
        ASK_OUTPUT_OPTIONS(&r.ask),
        CLI_END};
    const struct cli_spec spec = {
        .usage = "folders|open|icl --support DIR --model MODEL [options]",
        .about = "Asks a model about class folders, --ways classes a question. folders: accuracy "
                 "of answers and of\nlikelihoods. open: fast binding of words, no candidate shown "
                 "or compared. icl: each question with a\nsupport set of its classes (row lcl) and "
                 "with one of other classes, which shows the task alone\n(row icl).",
        .options = options,
        .min_args = 1,
        .max_args = 1,
        .notes = "Example:\n  lcl eval folders --support birds --ways 5 --model RUN --confusion "
                 "confusion.csv"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.ask.suite = args.v[0];
    while (strcmp(kinds[r.kind], r.ask.suite) != 0) r.kind++;
    default_shots(r.ways, shots);
    if (!r.ask.shots) r.ask.shots = shots;
    if (r.labels < 0) r.labels = r.kind == ICL ? NAMES : r.kind == OPEN ? WORDS : MADE_UP;
    if (r.kind == OPEN) r.ask.no_likelihood = true;
    if (!r.ask.row) r.ask.row = r.ask.suite;
    if (r.task && r.kind != ICL) return LCL_FAIL(LCL_CONFIG, "--task is for icl");
    return evaluate(&r);
}
