#include "tools/eval_tally.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/rng.h"
#include "train/match.h"
#include "train/stats.h"

enum { MAX_NAMES = 1 << 20, MAX_SEEDS = 4096 };

void tally_free(struct tally *t)
{
    for (int32_t i = 0; i < t->names.n; i++) free(t->names.v[i]);
    free(t->names.v);
    free(t->names.hash);
    free(t->v);
    *t = (struct tally){0};
}

static lcl_status number_of(struct tally_names *t, const char *name, int32_t *number)
{
    uint64_t hash = lcl_hash_string(name);
    for (*number = 0; *number < t->n; ++*number)
        if (t->hash[*number] == hash && strcmp(t->v[*number], name) == 0) return LCL_OK;
    if (t->n == MAX_NAMES) return LCL_FAIL(LCL_RANGE, "over %d classes", MAX_NAMES);
    if (t->n == t->cap) {
        int32_t cap = 2 * t->cap + 64;
        char **v = realloc(t->v, (size_t)cap * sizeof *v);
        if (v) t->v = v;
        uint64_t *h = v ? realloc(t->hash, (size_t)cap * sizeof *h) : NULL;
        if (h) t->hash = h;
        if (!h) return LCL_FAIL(LCL_MEMORY, "no memory for names of classes");
        t->cap = cap;
    }
    t->v[t->n] = lcl_strdupf("%s", name);
    if (!t->v[t->n]) return LCL_FAIL(LCL_MEMORY, "no memory for names of classes");
    t->hash[t->n++] = hash;
    return LCL_OK;
}

/* ---- a line ---- */

static lcl_status wrong(const char *key, const char *wanted)
{
    return LCL_FAIL(LCL_FORMAT, "\"%s\": wanted %s", key, wanted);
}

static lcl_status find_cell(struct tally *t, const json_t *line, int32_t *cell)
{
    const char *row = json_string_value(json_object_get(line, "row"));
    const json_t *shots = json_object_get(line, "shots");
    if (!row || !*row || strlen(row) >= LCL_RESULTS_NAME_BYTES)
        return wrong("row", "a text of 1 to 63 bytes");
    if (!json_is_integer(shots) || json_integer_value(shots) < 0 ||
        json_integer_value(shots) > 1000000)
        return wrong("shots", "a number from 0 on");
    for (*cell = 0; *cell < t->n_cells; ++*cell)
        if (t->cell[*cell].shots == json_integer_value(shots) &&
            strcmp(t->cell[*cell].row, row) == 0)
            return LCL_OK;
    if (t->n_cells == LCL_RESULTS_MAX_CELLS)
        return LCL_FAIL(LCL_RANGE, "over %d pairs of a row and a shot count",
                        LCL_RESULTS_MAX_CELLS);
    snprintf(t->cell[t->n_cells].row, sizeof t->cell[0].row, "%s", row);
    t->cell[t->n_cells++].shots = json_integer_value(shots);
    return LCL_OK;
}

/* Labels of "labels" and then "candidates". */
struct labels {
    int n_labels, n;
    char v[LCL_MAX_WAYS][LCL_LABEL_BYTES];
    int32_t class_index[LCL_MAX_WAYS];
};

static lcl_status add_labels(const json_t *line, const char *key, struct labels *l)
{
    const json_t *list = json_object_get(line, key);
    size_t n = json_array_size(list);
    if (list && !json_is_array(list)) return wrong(key, "a list of texts");
    if (l->n + n > LCL_MAX_WAYS) return wrong(key, "at most 64 labels in all");
    for (size_t i = 0; i < n; i++) {
        const char *label = json_string_value(json_array_get(list, i));
        if (!label || !*label || strlen(label) >= LCL_LABEL_BYTES)
            return wrong(key, "texts of 1 to 127 bytes");
        strcpy(l->v[l->n++], label);
    }
    return LCL_OK;
}

static lcl_status read_labels(struct tally *t, const json_t *line, struct labels *l)
{
    const json_t *classes = json_object_get(line, "classes");
    l->n = 0;
    LCL_TRY(add_labels(line, "labels", l));
    l->n_labels = l->n;
    if (l->n_labels < 2) return wrong("labels", "2 or more");
    LCL_TRY(add_labels(line, "candidates", l));
    if (classes && json_array_size(classes) != (size_t)l->n_labels)
        return wrong("classes", "as many texts as labels");
    for (int i = 0; i < l->n; i++) {
        const char *name = classes && i < l->n_labels
                               ? json_string_value(json_array_get(classes, (size_t)i))
                               : l->v[i];
        if (!name) return wrong("classes", "texts");
        LCL_TRY(number_of(&t->names, name, &l->class_index[i]));
    }
    return LCL_OK;
}

static int find_label(const struct labels *l, const char *label)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->v[i], label) == 0) return i;
    return -1;
}

static lcl_status judge_words(const json_t *line, const struct labels *l, int target,
                              struct tally_answer *a)
{
    const json_t *prediction = json_object_get(line, "prediction");
    struct lcl_judgement judged;
    char said[LCL_LABEL_BYTES];
    if (!prediction || json_is_null(prediction)) return LCL_OK;
    if (!json_is_string(prediction)) return wrong("prediction", "a text");
    const char *text = json_string_value(prediction);
    LCL_TRY(lcl_judge(text, (const char(*)[LCL_LABEL_BYTES])l->v, l->n_labels, target, &judged));
    a->has_prediction = true;
    a->strict = judged.strict;
    a->official = judged.official;
    a->unparsed = judged.unparsed;
    int way = lcl_first_quoted(text, said) ? find_label(l, said) : -1;
    if (way >= 0) a->said = l->class_index[way];
    return LCL_OK;
}

static lcl_status judge_likelihoods(const json_t *line, const struct labels *l, int target,
                                    struct tally_answer *a)
{
    const json_t *logprob = json_object_get(line, "logprob");
    if (!logprob) return LCL_OK;
    if (!json_is_array(logprob) || json_array_size(logprob) != (size_t)l->n)
        return wrong("logprob", "a number for each label");
    double best = -INFINITY;
    int likeliest = -1;
    for (int i = 0; i < l->n; i++) {
        const json_t *v = json_array_get(logprob, (size_t)i);
        if (!json_is_number(v)) return wrong("logprob", "numbers");
        if (json_number_value(v) > best) likeliest = i;
        best = fmax(best, json_number_value(v));
    }
    /* The target is the likelier one of two only where it is more than equal. */
    bool ties = false;
    for (int i = 0; i < l->n; i++)
        ties |= i != target && json_number_value(json_array_get(logprob, (size_t)i)) == best;
    a->has_logprob = true;
    a->likelihood = likeliest == target && !ties;
    if (likeliest >= 0) a->likeliest = l->class_index[likeliest];
    return LCL_OK;
}

static lcl_status number_group(struct tally *t, const struct labels *l, struct tally_answer *a)
{
    char *both;
    if (!t->by_labels) {
        a->group = a->class_index;
        return LCL_OK;
    }
    both = lcl_strdupf("%s\t%s", l->v[0], l->v[1]);
    if (!both) return LCL_FAIL(LCL_MEMORY, "no memory for labels");
    lcl_status status = number_of(&t->names, both, &a->group);
    free(both);
    return status;
}

lcl_status tally_line(void *ctx, const json_t *line)
{
    struct tally *t = ctx;
    struct labels l;
    struct tally_answer a = {.said = -1, .likeliest = -1};
    const char *target = json_string_value(json_object_get(line, "target"));
    const char *name = json_string_value(json_object_get(line, "class"));
    const json_t *seed = json_object_get(line, "seed");
    LCL_TRY(find_cell(t, line, &a.cell));
    LCL_TRY(read_labels(t, line, &l));
    int way = target ? find_label(&l, target) : -1;
    if (way < 0 || way >= l.n_labels) return wrong("target", "one of the labels");
    if (!name) return wrong("class", "a text");
    if (!json_is_integer(seed) || json_integer_value(seed) < 0 ||
        json_integer_value(seed) > UINT32_MAX)
        return wrong("seed", "a number from 0 to 4294967295");
    a.seed = (int32_t)(uint32_t)json_integer_value(seed);
    a.first = way == 0;
    LCL_TRY(number_of(&t->names, name, &a.class_index));
    LCL_TRY(number_group(t, &l, &a));
    LCL_TRY(judge_words(line, &l, way, &a));
    LCL_TRY(judge_likelihoods(line, &l, way, &a));
    if (t->n == t->cap) {
        int64_t cap = 2 * t->cap + 256;
        struct tally_answer *v = realloc(t->v, (size_t)cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %lld answers", (long long)cap);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = a;
    return LCL_OK;
}

/* ---- numbers ---- */

/* The answers of a cell, by column. */
struct columns {
    int64_t n, n_said, n_likely;
    uint8_t *strict, *official, *likelihood, *unparsed, *first;
    int32_t *group;
};

static lcl_status gather(const struct tally *t, int cell, struct columns *c)
{
    size_t room = (size_t)t->n + 1;
    *c = (struct columns){.group = malloc(room * sizeof *c->group)};
    uint8_t *flags = malloc(5 * room);
    if (!flags || !c->group) {
        free(flags);
        free(c->group);
        return LCL_FAIL(LCL_MEMORY, "no memory for %lld answers", (long long)t->n);
    }
    c->strict = flags;
    c->official = flags + room;
    c->likelihood = flags + 2 * room;
    c->unparsed = flags + 3 * room;
    c->first = flags + 4 * room;
    for (int64_t i = 0; i < t->n; i++) {
        const struct tally_answer *a = &t->v[i];
        if (a->cell != cell) continue;
        c->strict[c->n] = a->strict;
        c->official[c->n] = a->official;
        c->likelihood[c->n] = a->likelihood;
        c->unparsed[c->n] = a->unparsed;
        c->first[c->n] = a->first;
        c->group[c->n++] = a->group;
        c->n_said += a->has_prediction;
        c->n_likely += a->has_logprob;
    }
    return LCL_OK;
}

static void free_columns(struct columns *c)
{
    free(c->strict);
    free(c->group);
}

static void print_interval(const char *name, const struct lcl_interval *i)
{
    printf("   %s %.3f [%.3f, %.3f]", name, i->mean, i->low, i->high);
}

/* Accuracy of each seed, where there are several. */
static int count_seeds(const struct tally *t, int cell, bool print)
{
    static int32_t seen[MAX_SEEDS];
    int n = 0;
    for (int64_t i = 0; i < t->n; i++) {
        int k = 0;
        while (k < n && seen[k] != t->v[i].seed) k++;
        if (t->v[i].cell == cell && k == n && n < MAX_SEEDS) seen[n++] = t->v[i].seed;
    }
    for (int k = 0; k < n && print && n > 1; k++) {
        int64_t right = 0, all = 0;
        for (int64_t i = 0; i < t->n; i++)
            if (t->v[i].cell == cell && t->v[i].seed == seen[k]) {
                right += t->v[i].has_prediction ? t->v[i].strict : t->v[i].likelihood;
                all++;
            }
        printf("%s seed %u %.3f", k ? "," : "             ", (unsigned)seen[k],
               (double)right / (double)all);
    }
    if (print && n > 1) printf("\n");
    return n;
}

static void put_words(const struct columns *c, const struct lcl_interval *strict,
                      const struct lcl_interval *official, struct lcl_result_cell *to)
{
    to->greedy = strict->mean;
    to->official = official->mean;
    to->unparsed = lcl_stats_share(c->unparsed, NULL, 0, c->n);
    to->ci95[0] = strict->low;
    to->ci95[1] = strict->high;
    to->positive = lcl_stats_share(c->strict, c->first, 1, c->n);
    to->negative = lcl_stats_share(c->strict, c->first, 0, c->n);
    print_interval("official", official);
    print_interval("strict", strict);
}

static lcl_status report_cell(const struct tally *t, int cell, const struct columns *c,
                              uint64_t seed, struct lcl_result_cell *to)
{
    struct lcl_interval strict, official, likelier;
    LCL_TRY(lcl_stats_bootstrap(c->strict, c->group, c->n, seed, &strict));
    LCL_TRY(lcl_stats_bootstrap(c->official, c->group, c->n, seed, &official));
    LCL_TRY(lcl_stats_bootstrap(c->likelihood, c->group, c->n, seed, &likelier));
    bool words = c->n_said == c->n, likely = c->n_likely == c->n;
    if (!words && !likely)
        return LCL_FAIL(LCL_FORMAT, "some answers of %s lack a prediction, some a logprob",
                        t->cell[cell].row);
    printf("  %3lld shots", (long long)t->cell[cell].shots);
    to->episodes = (double)c->n;
    to->greedy = to->official = to->unparsed = to->positive = to->negative = (double)NAN;
    to->likelihood = to->likelihood_ci95[0] = to->likelihood_ci95[1] = (double)NAN;
    if (words) put_words(c, &strict, &official, to);
    if (likely) {
        print_interval("likelihood", &likelier);
        to->likelihood = likelier.mean;
        to->likelihood_ci95[0] = likelier.low;
        to->likelihood_ci95[1] = likelier.high;
        if (!words) memcpy(to->ci95, to->likelihood_ci95, sizeof to->ci95);
    }
    printf("\n");
    if (words) {
        printf("              unparsed %.3f", to->unparsed);
        if (!isnan(to->positive)) printf(", positives %.3f", to->positive);
        if (!isnan(to->negative)) printf(", negatives %.3f", to->negative);
        printf("\n");
    }
    int seeds = count_seeds(t, cell, true);
    if (seeds > 1) to->seeds = seeds;
    return LCL_OK;
}

/* Cells by row in order of appearance, and in a row by shots. */
static int order_cells(const struct tally *t, int order[LCL_RESULTS_MAX_CELLS])
{
    int n = 0;
    bool done[LCL_RESULTS_MAX_CELLS] = {false};
    for (int i = 0; i < t->n_cells; i++) {
        if (done[i]) continue;
        int begin = n;
        for (int k = i; k < t->n_cells; k++) {
            if (strcmp(t->cell[k].row, t->cell[i].row) != 0) continue;
            done[k] = true;
            int at = n++;
            for (; at > begin && t->cell[order[at - 1]].shots > t->cell[k].shots; at--)
                order[at] = order[at - 1];
            order[at] = k;
        }
    }
    return n;
}

lcl_status tally_report(const struct tally *t, uint64_t seed, struct lcl_results *results)
{
    int order[LCL_RESULTS_MAX_CELLS];
    const char *row = "";
    order_cells(t, order);
    for (int i = 0; i < t->n_cells; i++) {
        const struct tally_cell *cell = &t->cell[order[i]];
        struct lcl_result_cell unkept, *to = &unkept;
        struct columns c;
        if (results) LCL_TRY(lcl_results_cell(results, cell->row, cell->shots, &to));
        LCL_TRY(gather(t, order[i], &c));
        if (strcmp(cell->row, row) != 0) printf("%s: %lld queries\n", cell->row, (long long)c.n);
        row = cell->row;
        lcl_status status = report_cell(t, order[i], &c, seed, to);
        free_columns(&c);
        LCL_TRY(status);
    }
    return LCL_OK;
}

/* ---- tables ---- */

/* As RFC 4180 quotes. */
static void csv_field(struct lcl_text *t, const char *s)
{
    lcl_text_puts(t, ",\"");
    for (; *s; s++) {
        if (*s == '"') lcl_text_puts(t, "\"");
        lcl_text_bytes(t, s, 1);
    }
    lcl_text_puts(t, "\"");
}

static lcl_status write_table(struct lcl_text *t, const char *path)
{
    lcl_status status = lcl_text_check(t);
    if (status == LCL_OK) status = lcl_fs_write_atomic(path, t->data, t->size);
    lcl_text_free(t);
    return status;
}

static void begin_line(struct lcl_text *to, const struct tally_cell *cell, const char *name)
{
    lcl_text_printf(to, "%s,%lld", cell->row, (long long)cell->shots);
    csv_field(to, name);
}

static void put_share(struct lcl_text *to, int64_t hits, int64_t n)
{
    if (n)
        lcl_text_printf(to, ",%.6f", (double)hits / (double)n);
    else
        lcl_text_puts(to, ",");
}

/* Counts of a class, or of a pair of class and answer. */
struct counts {
    int32_t class_index, answer;
    int64_t n, said, strict, official, likely, likelihood;
};

static int by_key(const void *a, const void *b)
{
    const struct counts *x = a, *y = b;
    if (x->class_index != y->class_index) return x->class_index < y->class_index ? -1 : 1;
    return (x->answer > y->answer) - (x->answer < y->answer);
}

/* Joins counts of one key; returns how many there are. */
static int64_t join(struct counts *c, int64_t n)
{
    int64_t m = 0;
    qsort(c, (size_t)n, sizeof *c, by_key);
    for (int64_t i = 0; i < n; i++) {
        if (m == 0 || by_key(&c[m - 1], &c[i]) != 0) {
            c[m++] = c[i];
            continue;
        }
        struct counts *to = &c[m - 1];
        to->n += c[i].n;
        to->said += c[i].said;
        to->strict += c[i].strict;
        to->official += c[i].official;
        to->likely += c[i].likely;
        to->likelihood += c[i].likelihood;
    }
    return m;
}

lcl_status tally_write_classes(const struct tally *t, const char *path)
{
    struct lcl_text to = {0};
    int order[LCL_RESULTS_MAX_CELLS];
    struct counts *c = malloc(((size_t)t->n + 1) * sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory for a table of classes");
    lcl_text_puts(&to, "row,shots,class,queries,strict,official,likelihood\n");
    order_cells(t, order);
    for (int k = 0; k < t->n_cells; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < t->n; i++) {
            const struct tally_answer *a = &t->v[i];
            if (a->cell == order[k])
                c[n++] = (struct counts){
                    a->class_index, 0, 1, a->has_prediction, a->strict, a->official, a->has_logprob,
                    a->likelihood};
        }
        n = join(c, n);
        for (int64_t i = 0; i < n; i++) {
            begin_line(&to, &t->cell[order[k]], t->names.v[c[i].class_index]);
            lcl_text_printf(&to, ",%lld", (long long)c[i].n);
            put_share(&to, c[i].strict, c[i].said);
            put_share(&to, c[i].official, c[i].said);
            put_share(&to, c[i].likelihood, c[i].likely);
            lcl_text_puts(&to, "\n");
        }
    }
    free(c);
    return write_table(&to, path);
}

lcl_status tally_write_confusion(const struct tally *t, const char *path)
{
    struct lcl_text to = {0};
    int order[LCL_RESULTS_MAX_CELLS];
    struct counts *c = malloc((2 * (size_t)t->n + 1) * sizeof *c);
    if (!c) return LCL_FAIL(LCL_MEMORY, "no memory for a table of answers");
    lcl_text_puts(&to, "row,shots,class,answer,said,likeliest\n");
    order_cells(t, order);
    for (int k = 0; k < t->n_cells; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < t->n; i++) {
            const struct tally_answer *a = &t->v[i];
            if (a->cell != order[k]) continue;
            if (a->has_prediction) c[n++] = (struct counts){a->class_index, a->said, .said = 1};
            if (a->has_logprob) c[n++] = (struct counts){a->class_index, a->likeliest, .likely = 1};
        }
        n = join(c, n);
        for (int64_t i = 0; i < n; i++) {
            begin_line(&to, &t->cell[order[k]], t->names.v[c[i].class_index]);
            csv_field(&to, c[i].answer < 0 ? "" : t->names.v[c[i].answer]);
            lcl_text_printf(&to, ",%lld,%lld\n", (long long)c[i].said, (long long)c[i].likely);
        }
    }
    free(c);
    return write_table(&to, path);
}
