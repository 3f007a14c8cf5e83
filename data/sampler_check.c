/* What a sampler asks of its config, its classes and their neighbor table. */
#include "data/sampler_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/policy.h"

struct named_class {
    char label[LCL_LABEL_BYTES];
    int32_t number;
};

static int by_label(const void *a, const void *b)
{
    const struct named_class *x = a, *y = b;
    int order = strcmp(x->label, y->label);
    return order ? order : x->number - y->number;
}

/* Classes of one name get one group; unless they are allowed, the first such pair is an error. */
static lcl_status group_names(struct lcl_sampler *s)
{
    struct named_class *v = calloc((size_t)s->n_classes + 1, sizeof *v);
    if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for the names of %d classes", s->n_classes);
    for (int32_t i = 0; i < s->n_classes; i++) {
        v[i].number = s->classes[i];
        lcl_label_of_name(s->pack->classes[s->classes[i]].name, v[i].label);
    }
    qsort(v, (size_t)s->n_classes, sizeof *v, by_label);
    lcl_status status = LCL_OK;
    for (int32_t i = 0; i < s->n_classes && status == LCL_OK; i++) {
        bool same = i > 0 && strcmp(v[i].label, v[i - 1].label) == 0;
        s->name_group[v[i].number] = same ? s->name_group[v[i - 1].number] : v[i].number;
        if (same && s->config->data_duplicate_names == 0)
            status = LCL_FAIL_HINT(LCL_CONFIG,
                                   "rename one of them, or set data.duplicate_names: allow (they "
                                   "are then never paired)",
                                   "the classes %s and %s have one name, \"%s\"",
                                   s->pack->classes[v[i - 1].number].id,
                                   s->pack->classes[v[i].number].id, v[i].label);
    }
    free(v);
    return status;
}

/* A notice that stands in the log already is not repeated: every evaluation opens a sampler. */
static bool is_new_notice(const char *text)
{
    static uint64_t told[32];
    static int n_told;
    uint64_t h = lcl_hash_string(text);
    for (int i = 0; i < n_told; i++)
        if (told[i] == h) return false;
    if (n_told < 32) told[n_told++] = h;
    return true;
}

/* Every class must hold the pictures of the largest episode; with cap_shots, one shot and the
 * queries. */
static lcl_status check_sizes(const struct lcl_sampler *s, int64_t shots, int64_t ways,
                              int64_t queries, const char *key)
{
    int64_t share = (shots + ways - 1) / ways;
    int64_t need = share + queries, least = s->cap_shots ? 1 + queries : need;
    char names[512] = "";
    size_t used = 0;
    int32_t n_small = 0, n_capped = 0, smallest = INT32_MAX;
    for (int32_t i = 0; i < s->n_classes; i++) {
        const struct lcl_class *c = &s->pack->classes[s->classes[i]];
        if (c->n_images < need && c->n_images >= least) n_capped++;
        if (c->n_images < smallest) smallest = c->n_images;
        if (c->n_images >= least) continue;
        if (n_small++ < 6 && used < sizeof names - 1) {
            int n = snprintf(names + used, sizeof names - used, "%s%s (%d)", used ? ", " : "",
                             c->id, (int)c->n_images);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    char what[96];
    if (queries == 1)
        snprintf(what, sizeof what, "%lld shots and a query", (long long)shots);
    else
        snprintf(what, sizeof what, "%lld shots and %lld queries", (long long)shots,
                 (long long)queries);
    if (n_small)
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "lower the shots or the queries, add pictures, or pack with a higher "
                             "--min-images so that small classes are left out",
                             "%s (%s) need %lld pictures of a class; %d %s fewer than %lld: %s%s",
                             what, key, (long long)need, (int)n_small,
                             n_small == 1 ? "class has" : "classes have", (long long)least, names,
                             n_small > 6 ? ", ..." : "");
    if (n_capped) {
        char text[256];
        snprintf(text, sizeof text,
                 "%s (%s) need %lld pictures of a class; %d of %d classes have fewer (the "
                 "smallest %d): episodes with those have fewer shots",
                 what, key, (long long)need, (int)n_capped, (int)s->n_classes, (int)smallest);
        if (is_new_notice(text)) lcl_log_warn("%s", text);
    }
    return LCL_OK;
}

/* Made-up labels of `ways` classes; of ref also those of `names` pictures of a class. */
static lcl_status check_labels(const struct lcl_config *c, int64_t ways, int64_t names)
{
    if (c->data_label_min_letters > c->data_label_max_letters)
        return LCL_FAIL(LCL_CONFIG,
                        "data.label_min_letters %lld is above data.label_max_letters %lld",
                        (long long)c->data_label_min_letters, (long long)c->data_label_max_letters);
    double possible = 0;
    for (int64_t n = c->data_label_min_letters; n <= c->data_label_max_letters; n++)
        possible += pow(26, (double)n);
    if (possible < 2.0 * (double)ways)
        return LCL_FAIL(LCL_CONFIG, "%.0f labels of %lld..%lld letters are too few for %lld ways",
                        possible, (long long)c->data_label_min_letters,
                        (long long)c->data_label_max_letters, (long long)ways);
    if (possible < 2.0 * (double)names)
        return LCL_FAIL_HINT(LCL_CONFIG, "raise data.label_max_letters, or lower data.shots",
                             "%.0f names of %lld..%lld letters are too few for %lld pictures of a "
                             "class",
                             possible, (long long)c->data_label_min_letters,
                             (long long)c->data_label_max_letters, (long long)names);
    return LCL_OK;
}

static bool draws_names(const struct lcl_config *c)
{
    return c->data_strategy == LCL_REF || c->data_strategy == LCL_REF_OR_WEIGHT;
}

static lcl_status check_shots(struct lcl_sampler *s)
{
    const struct lcl_config *c = s->config;
    s->ways = c->data_strategy == LCL_NWAY ? c->data_ways : 2;
    s->max_shots = lcl_config_most_shots(c);
    bool drawn = c->data_strategy == LCL_2WAY_RANDOM || c->data_strategy == LCL_2WAY_WEIGHT;
    bool official = c->data_reading == LCL_READING_OFFICIAL;
    s->shot_step = official ? s->ways : 1;
    s->min_shots = drawn && official ? s->ways : drawn ? c->data_min_shots : s->max_shots;
    if (s->ways < 2 || s->ways > LCL_MAX_WAYS)
        return LCL_FAIL(LCL_CONFIG, "data.ways is %lld; wanted 2..%d", (long long)s->ways,
                        LCL_MAX_WAYS);
    if (s->min_shots > s->max_shots)
        return LCL_FAIL(LCL_CONFIG, "data.min_shots %lld is above the shots, %lld",
                        (long long)s->min_shots, (long long)s->max_shots);
    if (draws_names(c) && s->max_shots / s->ways < LCL_REF_MIN_SHOTS)
        return LCL_FAIL_HINT(
            LCL_CONFIG, "raise data.shots",
            "data.strategy: %s shows %d or more pictures of each class; data.shots "
            "gives %lld in all",
            lcl_strategy_name((enum lcl_strategy)c->data_strategy), LCL_REF_MIN_SHOTS,
            (long long)s->max_shots);
    if (s->ways > 2 && s->max_shots < s->ways)
        return LCL_FAIL_HINT(LCL_CONFIG, "raise data.shots or lower data.ways",
                             "%lld ways need at least as many shots; data.shots gives %lld",
                             (long long)s->ways, (long long)s->max_shots);
    return LCL_OK;
}

/* The table's rows hold other classes of the same split, without a gap. */
static lcl_status check_neighbors(struct lcl_sampler *s)
{
    const struct lcl_neighbors *t = s->neighbors;
    bool training = s->split == LCL_SPLIT_TRAIN && s->config->data_hard_fraction > 0 &&
                    s->config->data_strategy != LCL_JIGSAW;
    bool testing = s->split == LCL_SPLIT_TEST && s->config->eval_negatives != LCL_NEG_RANDOM;
    if (!t && (training || testing))
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "make one with lcl neighbors, or set data.hard_fraction: 0 and "
                             "eval.negatives: random",
                             "hard negatives need a neighbor table, and there is none");
    if (!t) return LCL_OK;
    if (t->n_classes != s->pack->n_classes)
        return LCL_FAIL(LCL_CONFIG, "the neighbor table is of %d classes, the pack of %d",
                        (int)t->n_classes, (int)s->pack->n_classes);
    for (int32_t i = 0; i < s->n_classes; i++) {
        int32_t c = s->classes[i], n = 0;
        const int32_t *row = t->index + (int64_t)c * t->width;
        for (; n < t->width && row[n] != -1; n++)
            if (row[n] < 0 || row[n] >= t->n_classes || row[n] == c ||
                s->pack->classes[row[n]].split != s->split)
                return LCL_FAIL(
                    LCL_FORMAT,
                    "the neighbor table's row of %s names class %d at rank %d, which is no "
                    "other class of its split",
                    s->pack->classes[c].id, (int)row[n], (int)n + 1);
        s->row_length[c] = n;
        if (n == 0 && (training || testing))
            return LCL_FAIL(LCL_CONFIG, "the neighbor table has no neighbors of %s",
                            s->pack->classes[c].id);
    }
    return LCL_OK;
}

lcl_status lcl_sampler_check(struct lcl_sampler *s)
{
    const struct lcl_config *c = s->config;
    static const char *const names[] = {"train", "test"};
    LCL_TRY(check_shots(s));
    bool tiles = s->split == LCL_SPLIT_TRAIN && c->data_strategy == LCL_JIGSAW;
    int64_t least = tiles ? 1 : s->split == LCL_SPLIT_TRAIN ? s->ways : 2;
    if (s->n_classes < least)
        return LCL_FAIL_HINT(LCL_CONFIG, "pack more classes, or set another --test-fraction",
                             "the %s split has %d classes; episodes need %lld", names[s->split],
                             (int)s->n_classes, (long long)least);
    LCL_TRY(check_labels(c, s->ways, draws_names(c) ? s->max_shots / s->ways : 0));
    LCL_TRY(group_names(s));
    LCL_TRY(check_neighbors(s));
    if (s->split == LCL_SPLIT_TRAIN && c->data_reading == LCL_READING_PAPER && !tiles)
        LCL_TRY(check_sizes(s, s->max_shots, s->ways, c->data_queries, "data.shots"));
    if (s->split == (enum lcl_split)c->eval_split) {
        int64_t most = 0;
        for (int i = 0; i < c->eval_shots.n; i++)
            if (c->eval_shots.v[i] > most) most = c->eval_shots.v[i];
        LCL_TRY(check_sizes(s, most, 2, 1, "eval.shots"));
    }
    return LCL_OK;
}
