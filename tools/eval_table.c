/* lcl eval isekai, lcl eval imagenet-100: a model asked the questions of a table of picture files.
 */
#include "tools/eval_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "tools/eval_ask.h"
#include "tools/eval_trials.h"
#include "train/env.h"

struct request {
    struct ask_options ask;
    const char *table, *groups, *images;
};

/* Trials [first, first + n) of one set. */
struct chunk {
    int64_t first, n;
};

struct table {
    const struct request *r;
    struct trials trials;
    struct chunk *chunks;
    int64_t most; /* pictures of a class that are shown */
};

static lcl_status cut_chunks(struct table *t, int64_t *n)
{
    *n = 0;
    t->chunks = malloc((size_t)t->trials.n * sizeof *t->chunks);
    if (!t->chunks) return LCL_FAIL(LCL_MEMORY, "no memory for a table");
    for (int64_t i = 0; i < t->trials.n; i++) {
        struct chunk *c = *n ? &t->chunks[*n - 1] : NULL;
        if (c && c->n < ASK_QUERIES && t->trials.v[c->first].set == t->trials.v[i].set)
            c->n++;
        else
            t->chunks[(*n)++] = (struct chunk){i, 1};
    }
    return LCL_OK;
}

static int64_t fewest_pictures(const struct trials *t)
{
    size_t fewest = SIZE_MAX;
    for (int64_t i = 0; i < t->n; i++)
        for (int w = 0; w < 2; w++) {
            size_t n = json_array_size(t->v[i].pictures[w]);
            fewest = n < fewest ? n : fewest;
        }
    return (int64_t)fewest;
}

static lcl_status add_class(const struct table *t, const struct trial *trial, int w,
                            struct lcl_support *s)
{
    LCL_TRY(lcl_support_name(s, trial->label[w]));
    for (size_t i = 0; i < (size_t)t->most && i < json_array_size(trial->pictures[w]); i++) {
        char *path = lcl_strdupf("%s/%s", t->r->images,
                                 json_string_value(json_array_get(trial->pictures[w], i)));
        if (!path) return LCL_FAIL(LCL_MEMORY, "no memory for a path");
        lcl_status status = lcl_support_add(s, trial->label[w], path, 0);
        free(path);
        LCL_TRY(status);
    }
    return LCL_OK;
}

static lcl_status make_set(void *ctx, int64_t unit, uint64_t seed, struct ask_set *set)
{
    const struct table *t = ctx;
    const struct chunk *c = &t->chunks[unit];
    const struct trial *first = &t->trials.v[c->first];
    (void)seed;
    set->row = t->r->ask.row;
    set->images = t->r->images;
    set->number = set->order = first->set;
    set->n_labels = 2;
    set->shown = 2;
    for (int w = 0; w < 2; w++) LCL_TRY(add_class(t, first, w, &set->support));
    set->query = calloc((size_t)c->n, sizeof *set->query);
    if (!set->query) return LCL_FAIL(LCL_MEMORY, "no memory for questions");
    set->n = c->n;
    for (int64_t q = 0; q < c->n; q++)
        set->query[q] =
            (struct ask_query){first[q].query, first[q].label[first[q].target], first[q].target};
    return LCL_OK;
}

static lcl_status make_table(const struct request *r)
{
    char *lines;
    LCL_TRY(trials_of_groups(r->groups, &lines));
    lcl_status status = lcl_fs_write_atomic(r->table, lines, strlen(lines));
    free(lines);
    return status;
}

/* Pictures that are no files of the folder are looked for in archives. */
static lcl_status find_archived(const struct table *t, struct lcl_archived_files *files)
{
    int64_t n = 0, most = 0;
    for (int64_t i = 0; i < t->trials.n; i++)
        most += 1 + (int64_t)json_array_size(t->trials.v[i].pictures[0]) +
                (int64_t)json_array_size(t->trials.v[i].pictures[1]);
    const char **paths = malloc((size_t)most * sizeof *paths + 1);
    char *cache = lcl_strdupf("%s.archives", t->r->table);
    for (int64_t i = 0; paths && i < t->trials.n; i++) {
        const struct trial *trial = &t->trials.v[i];
        paths[n++] = trial->query;
        if (i && trial->set == trial[-1].set) continue; /* the same lists */
        for (int w = 0; w < 2; w++)
            for (size_t k = 0; k < json_array_size(trial->pictures[w]); k++)
                paths[n++] = json_string_value(json_array_get(trial->pictures[w], k));
    }
    lcl_status status = paths && cache
                            ? lcl_archived_files_open(files, t->r->images, paths, n, cache)
                            : LCL_FAIL(LCL_MEMORY, "no memory for paths");
    free(paths);
    free(cache);
    return status;
}

static lcl_status evaluate(const struct request *r)
{
    struct table t = {.r = r};
    struct lcl_archived_files archived = {0};
    struct ask_suite suite = {.make = make_set, .ctx = &t, .archived = &archived};
    struct lcl_config c;
    bool isekai = strcmp(r->ask.suite, "isekai") == 0;
    lcl_status status;
    if (r->groups) LCL_TRY(make_table(r));
    LCL_TRY((isekai ? trials_isekai : trials_imagenet)(r->table, &t.trials));
    LCL_TRY_GOTO(ask_shots(&suite, &r->ask, 2, fewest_pictures(&t.trials)));
    for (int k = 0; k < suite.n_shots; k++)
        t.most = suite.shots[k] / 2 > t.most ? suite.shots[k] / 2 : t.most;
    LCL_TRY_GOTO(cut_chunks(&t, &suite.units));
    LCL_TRY_GOTO(lcl_env_run_config(r->ask.model, r->ask.sets.v, r->ask.sets.n, &c));
    suite.by_labels = isekai;
    suite.settings = ask_settings(&r->ask);
    if (!suite.settings || json_object_set_new(suite.settings, "table", json_string(r->table)) ||
        json_object_set_new(suite.settings, "images", json_string(r->images))) {
        status = LCL_FAIL(LCL_FORMAT, "a path or label of the evaluation is not UTF-8");
        goto out;
    }
    if (r->ask.join == 0) LCL_TRY_GOTO(find_archived(&t, &archived));
    LCL_TRY_GOTO(ask_run(&r->ask, &suite, &c));
out:
    lcl_archived_files_close(&archived);
    json_decref(suite.settings);
    free(t.chunks);
    trials_free(&t.trials);
    return status;
}

lcl_status eval_table(int argc, char **argv)
{
    struct request r = {.ask.shots = "0,2,4,6,8,10,12,14,16"};
    const struct cli_option options[] = {
        {"--table", CLI_STR, &r.table, .value = "FILE", .required = true,
         .doc = "the questions, JSON lines"},
        {"--images", CLI_STR, &r.images, .value = "DIR",
         .doc =
             "folder that its paths begin in, or what holds their tar archives (docs/formats.md)"},
        {"--groups", CLI_STR, &r.groups, .value = "DIR",
         .doc = "first write FILE from a folder of groups (pos*, neg*, infer* pictures in each), "
                "which is --images too"},
        ASK_SET_OPTIONS(&r.ask),
        ASK_OUTPUT_OPTIONS(&r.ask),
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
    r.ask.suite = args.v[0];
    if (!r.ask.row) r.ask.row = r.ask.suite;
    if (!r.images) r.images = r.groups;
    if (!r.images) return LCL_FAIL(LCL_CONFIG, "--images is missing");
    if (r.groups && strcmp(r.ask.suite, "isekai") != 0)
        return LCL_FAIL(LCL_CONFIG, "--groups makes ISEKAI tables");
    return evaluate(&r);
}
