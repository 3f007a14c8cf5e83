#include "tools/eval_ask.h"

#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "tools/eval_show.h"
#include "train/answer.h"
#include "train/match.h"
#include "train/ranks.h"

/* Cache rows that a support set may fill with its shot counts, each read once for all queries. */
enum { STREAM = 4, CONTEXT_ROWS = 16384 };

struct job {
    const struct ask_options *o;
    const struct ask_suite *suite;
    const struct lcl_config *c;
    struct lcl_env env;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct record record;
    struct tally tally;
    struct show show;  /* of the unit at work, in memory */
    struct show shown; /* the file, of the first rank */
    int n_seeds;
    int64_t seeds[ASK_MAX_SEEDS];
    struct lcl_support candidates; /* classes without pictures */
    /* The support set whose pictures begin the gallery; its support alone. */
    struct ask_set held;
    int64_t held_unit_seed, held_pictures;
};

lcl_status ask_parse_numbers(const char *text, const char *name, int64_t limit, int most,
                             int64_t *v, int *n)
{
    *n = 0;
    for (const char *at = text; *at;) {
        char *end;
        long long x = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || x < 0 || x > limit || *n == most)
            return LCL_FAIL_HINT(LCL_CONFIG, "as 0,2,4", "%s %s: wanted at most %d numbers to %lld",
                                 name, text, most, (long long)limit);
        for (int i = 0; i < *n; i++)
            if (v[i] == x) return LCL_FAIL(LCL_CONFIG, "%s %s: %lld is there twice", name, text, x);
        v[(*n)++] = x;
        at = *end ? end + 1 : end;
    }
    return *n ? LCL_OK : LCL_FAIL(LCL_CONFIG, "%s is empty", name);
}

lcl_status ask_shots(struct ask_suite *s, const struct ask_options *o, int64_t ways, int64_t fewest)
{
    int kept = 0, n;
    LCL_TRY(ask_parse_numbers(o->shots, "--shots", 100000, ASK_MAX_SHOTS, s->shots, &n));
    for (int i = 0; i < n; i++) {
        if (s->shots[i] % ways)
            return LCL_FAIL_HINT(LCL_CONFIG, "support pictures are counted in all",
                                 "--shots %s: %lld is no multiple of the %lld classes", o->shots,
                                 (long long)s->shots[i], (long long)ways);
        if (s->shots[i] / ways <= fewest) s->shots[kept++] = s->shots[i];
    }
    if (kept < n)
        lcl_log_warn("shot counts over %lld are left out: a class has %lld pictures for support",
                     (long long)(ways * fewest), (long long)fewest);
    s->n_shots = kept;
    return kept ? LCL_OK : LCL_FAIL(LCL_RANGE, "no shot count of --shots can be asked");
}

json_t *ask_settings(const struct ask_options *o)
{
    json_t *sets = json_array();
    for (int i = 0; i < o->sets.n; i++) {
        /* What a thread or a device computes is no other evaluation. */
        if (strncmp(o->sets.v[i], "threads=", 8) != 0 && strncmp(o->sets.v[i], "device=", 7) != 0)
            json_array_append_new(sets, json_string(o->sets.v[i]));
    }
    return json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s*, s:b, s:b, s:o}", "suite", o->suite,
                     "model", o->model, "shots", o->shots, "seeds", o->seeds, "row", o->row,
                     "candidates", o->candidates, "no_greedy", o->no_greedy, "no_likelihood",
                     o->no_likelihood, "set", sets);
}

/* ---- a set ---- */

static void free_set(struct ask_set *s)
{
    lcl_support_free(&s->support);
    free(s->query);
    *s = (struct ask_set){0};
}

static lcl_status add_pictures(struct job *j, const char *const *paths, int64_t n, int64_t *number)
{
    return lcl_gallery_add(&j->gallery, paths, n, number, NULL);
}

/* The pictures of the set's support begin the gallery; those of the set before are kept where it is
 * the same. */
static lcl_status hold_support(struct job *j, struct ask_set *set, int64_t seed)
{
    if (j->held.row && strcmp(j->held.row, set->row) == 0 && j->held.number == set->number &&
        j->held_unit_seed == seed) {
        for (int w = 0; w < set->support.n; w++)
            memcpy(set->support.classes[w].image, j->held.support.classes[w].image,
                   (size_t)set->support.classes[w].n * sizeof(int64_t));
        lcl_gallery_cut(&j->gallery, j->held_pictures);
        return LCL_OK;
    }
    lcl_gallery_cut(&j->gallery, 0);
    lcl_contexts_clear(&j->answerer.generator.contexts);
    for (int w = 0; w < set->support.n; w++) {
        struct lcl_support_class *c = &set->support.classes[w];
        LCL_TRY(add_pictures(j, (const char *const *)c->paths, c->n, c->image));
    }
    j->held_pictures = j->gallery.n;
    return LCL_OK;
}

static lcl_status add_queries(struct job *j, const struct ask_set *set, int64_t *number)
{
    char *path[ASK_QUERIES] = {0};
    lcl_status status = LCL_OK;
    for (int64_t q = 0; q < set->n && status == LCL_OK; q++) {
        path[q] = set->images ? lcl_strdupf("%s/%s", set->images, set->query[q].image)
                              : lcl_strdupf("%s", set->query[q].image);
        if (!path[q]) status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
    }
    if (status == LCL_OK) status = add_pictures(j, (const char *const *)path, set->n, number);
    for (int64_t q = 0; q < set->n; q++) free(path[q]);
    return status;
}

/* ---- lines ---- */

/* What a question is made of: its labels, the candidates, and classes that are only shown. */
struct ways {
    struct lcl_support all; /* its classes are borrowed */
    int n_compared;         /* labels and candidates */
};

static void put_list(struct lcl_text *t, const char *key, const char *const *texts, int n)
{
    lcl_text_printf(t, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i) lcl_text_puts(t, ", ");
        lcl_text_json_string(t, texts[i]);
    }
    lcl_text_puts(t, "]");
}

static void put_text(struct lcl_text *t, const char *key, const char *text)
{
    lcl_text_printf(t, ", \"%s\": ", key);
    lcl_text_json_string(t, text);
}

static void put_flag(struct lcl_text *t, const char *key, bool flag)
{
    lcl_text_printf(t, ", \"%s\": %s", key, flag ? "true" : "false");
}

/* logprob [ways]: of the labels, the candidates, and classes that are only shown. */
static lcl_status put_answer(const struct ask_set *set, const struct ways *ways, int64_t seed,
                             int64_t shots, int64_t q, const char *text, const double *logprob,
                             struct lcl_text *t)
{
    const struct ask_query *query = &set->query[q];
    char label[LCL_MAX_WAYS][LCL_LABEL_BYTES];
    const char *labels[LCL_MAX_WAYS];
    int n = set->n_labels, n_more = ways->n_compared - n;
    for (int i = 0; i < ways->n_compared; i++) {
        labels[i] = ways->all.classes[i].label;
        memcpy(label[i], labels[i], sizeof label[i]);
    }
    lcl_text_puts(t, "{\"row\": ");
    lcl_text_json_string(t, set->row);
    lcl_text_printf(t, ", \"seed\": %lld, \"set\": %lld, \"shots\": %lld", (long long)seed,
                    (long long)set->number, (long long)shots);
    put_text(t, "image", query->image);
    put_text(t, "class", query->class_name);
    put_list(t, "labels", labels, n);
    if (set->class_names[0]) put_list(t, "classes", set->class_names, n);
    if (n_more) put_list(t, "candidates", labels + n, n_more);
    put_text(t, "target", labels[query->target]);
    if (text) {
        struct lcl_judgement said;
        LCL_TRY(lcl_judge(text, (const char(*)[LCL_LABEL_BYTES])label, n, query->target, &said));
        put_text(t, "prediction", text);
        put_flag(t, "strict", said.strict);
        put_flag(t, "official", said.official);
    }
    if (logprob) {
        bool best = true;
        for (int i = 0; i < ways->n_compared; i++)
            best &= i == query->target || logprob[query->target] > logprob[i];
        put_flag(t, "likelihood", best);
        lcl_text_puts(t, ", \"logprob\": [");
        for (int i = 0; i < ways->n_compared; i++)
            lcl_text_printf(t, "%s%.9g", i ? ", " : "", logprob[i]);
        lcl_text_puts(t, "]");
    }
    lcl_text_puts(t, "}\n");
    return LCL_OK;
}

/* ---- asking ---- */

/* A candidate that is a label of the question is there once. */
static lcl_status all_ways(const struct job *j, const struct ask_set *set, struct ways *w)
{
    int n = set->support.n + j->candidates.n;
    if (n > LCL_MAX_WAYS)
        return LCL_FAIL_HINT(LCL_CONFIG, "give fewer --candidates or classes",
                             "%d labels and candidates in a question, at most %d", n, LCL_MAX_WAYS);
    struct lcl_support *all = &w->all;
    all->classes = malloc((size_t)n * sizeof *all->classes);
    if (!all->classes) return LCL_FAIL(LCL_MEMORY, "no memory for a question");
    for (int i = 0; i < set->n_labels; i++) all->classes[all->n++] = set->support.classes[i];
    for (int i = 0; i < j->candidates.n; i++)
        if (lcl_support_find(all, j->candidates.classes[i].label) < 0)
            all->classes[all->n++] = j->candidates.classes[i];
    w->n_compared = all->n;
    for (int i = set->n_labels; i < set->support.n; i++)
        all->classes[all->n++] = set->support.classes[i];
    return LCL_OK;
}

/* text and logprob: [n], [n, ways]; NULL where it is not asked. */
static lcl_status ask_shots_of(struct job *j, const struct ask_set *set,
                               const struct lcl_support *all, uint64_t seed, int64_t shots,
                               const int64_t *query, int64_t unit, char **text, double *logprob)
{
    int way[LCL_MAX_WAYS];
    struct lcl_answer_how how = {0};
    struct lcl_rng rng =
        lcl_rng_stream(seed, LCL_RNG_EVAL, STREAM, (uint64_t)set->order * 1024 + (uint64_t)shots);
    struct lcl_episode *e = calloc(1, sizeof *e);
    if (!e) return LCL_FAIL(LCL_MEMORY, "no memory for a question");
    for (int i = 0; i < all->n; i++) way[i] = i;
    lcl_status status =
        lcl_support_episode(all, way, all->n, shots / set->shown, &rng, query, set->n, e);
    for (int64_t q = 0; q < set->n && status == LCL_OK; q++)
        e->queries[q].way = set->query[q].target;
    if (status == LCL_OK && logprob) status = lcl_answer_likelihood(&j->answerer, e, logprob);
    if (status == LCL_OK && text) status = lcl_answer(&j->answerer, e, &how, text);
    for (int64_t q = 0; status == LCL_OK && q < set->n; q++)
        if (show_wants(&j->show, j->suite->units, unit, q))
            status = show_question(&j->show, set, e, unit * ASK_QUERIES + q, shots, q,
                                   text ? text[q] : NULL, logprob ? logprob + q * all->n : NULL);
    lcl_episode_free(e);
    free(e);
    return status;
}

static lcl_status ask_set(struct job *j, struct ask_set *set, int64_t seed, int64_t unit,
                          struct lcl_text *lines)
{
    const struct ask_suite *s = j->suite;
    struct ways ways = {0};
    int64_t query[ASK_QUERIES];
    size_t room = (size_t)(set->n * s->n_shots);
    char **text = calloc(room + 1, sizeof *text);
    double *logprob = calloc(room * LCL_MAX_WAYS + 1, sizeof *logprob);
    lcl_status status;
    LCL_TRY_GOTO(text && logprob ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for answers"));
    LCL_TRY_GOTO(hold_support(j, set, seed));
    LCL_TRY_GOTO(add_queries(j, set, query));
    LCL_TRY_GOTO(all_ways(j, set, &ways));
    for (int k = 0; k < s->n_shots; k++)
        LCL_TRY_GOTO(ask_shots_of(j, set, &ways.all, (uint64_t)seed, s->shots[k], query, unit,
                                  j->o->no_greedy ? NULL : text + k * set->n,
                                  j->o->no_likelihood ? NULL : logprob + k * set->n * ways.all.n));
    for (int64_t q = 0; q < set->n; q++)
        for (int k = 0; k < s->n_shots; k++)
            LCL_TRY_GOTO(put_answer(
                set, &ways, seed, s->shots[k], q, text[k * set->n + q],
                j->o->no_likelihood ? NULL : logprob + (k * set->n + q) * ways.all.n, lines));
out:
    for (size_t i = 0; text && i < room; i++) free(text[i]);
    free(text);
    free(logprob);
    free(ways.all.classes);
    return status;
}

/* What the unit shows goes to memory. */
static lcl_status ask_and_show(struct job *j, struct ask_set *set, int64_t seed, int64_t unit,
                               struct lcl_text *lines, struct lcl_text *aside)
{
    char *shown = NULL;
    size_t size = 0;
    if (!j->o->show) return ask_set(j, set, seed, unit, lines);
    j->show.f = open_memstream(&shown, &size);
    lcl_status status = j->show.f ? ask_set(j, set, seed, unit, lines)
                                  : LCL_FAIL(LCL_MEMORY, "no memory for questions to show");
    if (j->show.f && fclose(j->show.f) != 0 && status == LCL_OK)
        status = LCL_FAIL(LCL_MEMORY, "no memory for questions to show");
    j->show.f = NULL;
    if (status == LCL_OK) lcl_text_bytes(aside, shown, size);
    free(shown);
    return status;
}

static lcl_status ask_unit(void *ctx, int64_t unit, struct lcl_text *lines, struct lcl_text *aside)
{
    struct job *j = ctx;
    const int64_t seed = j->seeds[unit / j->suite->units];
    struct ask_set set = {0};
    lcl_status status = j->suite->make(j->suite->ctx, unit % j->suite->units, (uint64_t)seed, &set);
    if (status == LCL_OK) status = ask_and_show(j, &set, seed, unit, lines, aside);
    if (status == LCL_OK) {
        free_set(&j->held);
        j->held = set;
        j->held_unit_seed = seed;
    } else {
        free_set(&set);
        free_set(&j->held);
    }
    return status;
}

static lcl_status ask_all(struct job *j)
{
    LCL_TRY(record_open(&j->record, lcl_ranks(), j->o->anew));
    if (j->record.next < j->record.end) {
        LCL_TRY(lcl_env_start(&j->env, j->c));
        LCL_TRY(lcl_env_load_model(&j->env, j->o->model, j->c));
        LCL_TRY(lcl_gallery_open(&j->gallery, &j->env));
        j->gallery.archived = j->suite->archived;
        LCL_TRY(lcl_answerer_open(&j->answerer, &j->gallery, j->c));
        j->answerer.generator.contexts.most_rows = CONTEXT_ROWS;
    }
    if (j->record.next < j->record.end && lcl_comm_rank(lcl_ranks()) == 0)
        LCL_TRY(show_open(&j->shown, j->o->show, j->record.next > 0));
    j->show.gallery = &j->gallery;
    j->record.aside = j->shown.f;
    LCL_TRY(record_ask(&j->record, lcl_ranks(), ask_unit, j, "support sets", 1));
    lcl_log_debug("%lld tokens of support sets were read",
                  (long long)j->answerer.generator.contexts.tokens_read);
    LCL_TRY(show_close(&j->shown));
    return record_finish(&j->record);
}

static lcl_status report(struct job *j)
{
    const struct ask_options *o = j->o;
    struct lcl_results *results = calloc(1, sizeof *results);
    lcl_status status;
    LCL_TRY_GOTO(results ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for results"));
    if (o->results && lcl_fs_exists(o->results))
        LCL_TRY_GOTO(lcl_results_load(o->results, results));
    LCL_TRY_GOTO(tally_report(&j->tally, (uint64_t)j->c->eval_seed, results));
    if (o->results) LCL_TRY_GOTO(lcl_results_save(results, o->results));
    if (o->classes) LCL_TRY_GOTO(tally_write_classes(&j->tally, o->classes));
    if (o->confusion) LCL_TRY_GOTO(tally_write_confusion(&j->tally, o->confusion));
out:
    free(results);
    return status;
}

static lcl_status read_candidates(struct job *j)
{
    const char *at = j->o->candidates;
    while (at && *at) {
        size_t n = strcspn(at, ",");
        char label[LCL_LABEL_BYTES + 1];
        snprintf(label, sizeof label, "%.*s", (int)n, at);
        if (lcl_support_find(&j->candidates, label) >= 0)
            return LCL_FAIL(LCL_CONFIG, "--candidates: \"%s\" is there twice", label);
        LCL_TRY(lcl_support_name(&j->candidates, label));
        at += n + (at[n] == ',');
    }
    return LCL_OK;
}

static lcl_status begin(struct job *j)
{
    const struct ask_options *o = j->o;
    int64_t part, parts;
    if (o->no_greedy && o->no_likelihood)
        return LCL_FAIL(LCL_CONFIG, "--no-greedy and --no-likelihood leave nothing to ask");
    if (o->no_likelihood && o->candidates)
        return LCL_FAIL(LCL_CONFIG, "--candidates are compared by their likelihoods");
    LCL_TRY(record_parse_part(o->part, &part, &parts));
    LCL_TRY(read_candidates(j));
    j->seeds[0] = j->c->eval_seed;
    j->n_seeds = 1;
    if (o->seeds)
        LCL_TRY(ask_parse_numbers(o->seeds, "--seeds", UINT32_MAX, ASK_MAX_SEEDS, j->seeds,
                                  &j->n_seeds));
    j->tally.by_labels = j->suite->by_labels;
    j->record = (struct record){.path = o->predictions,
                                .settings = json_incref(j->suite->settings),
                                .units = j->suite->units * j->n_seeds,
                                .part = part,
                                .parts = parts,
                                .take = tally_line,
                                .ctx = &j->tally};
    return LCL_OK;
}

lcl_status ask_run(const struct ask_options *o, const struct ask_suite *suite,
                   const struct lcl_config *c)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) return LCL_FAIL(LCL_MEMORY, "no memory for an evaluation");
    j->o = o;
    j->suite = suite;
    j->c = c;
    lcl_status status = begin(j);
    const bool first = lcl_comm_rank(lcl_ranks()) == 0; /* it joins, and it has the answers */
    if (status == LCL_OK && o->join && first) status = record_join(&j->record, o->join);
    if (status == LCL_OK && !o->join) status = ask_all(j);
    if (status == LCL_OK && j->record.parts > 1 && !o->join)
        lcl_log_info("part %lld of %lld is asked: --join %lld makes the numbers",
                     (long long)j->record.part, (long long)j->record.parts,
                     (long long)j->record.parts);
    else if (status == LCL_OK && first)
        status = report(j);
    if (j->shown.f) fclose(j->shown.f);
    record_close(&j->record);
    tally_free(&j->tally);
    free_set(&j->held);
    lcl_support_free(&j->candidates);
    if (j->answerer.gallery) lcl_answerer_close(&j->answerer);
    if (j->gallery.env) lcl_gallery_close(&j->gallery);
    lcl_env_close(&j->env);
    free(j);
    return status;
}
