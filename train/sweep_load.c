/* Sweep files: YAML, read whole as a tree of nodes, each with its line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/config.h"
#include "core/fs.h"
#include "train/sweep.h"

enum { MAX_FILE_BYTES = 1 << 20, MAX_DEPTH = 8, VALUE_BYTES = 1024, MAX_PLACE = 1000000000 };

struct reader {
    const char *path;
    yaml_document_t document;
    struct lcl_sweep *s;
};
typedef const yaml_node_t *node;

static int line_of(node n) { return (int)n->start_mark.line + 1; }
static node get(struct reader *r, int index) { return yaml_document_get_node(&r->document, index); }

static lcl_status wrong(struct reader *r, node n, const char *what, const char *wanted)
{
    return LCL_FAIL(LCL_CONFIG, "%s:%d: %s is not %s", r->path, line_of(n), what, wanted);
}

/* The text of a scalar that is not empty; `what` names it in messages. */
static lcl_status text_of(struct reader *r, node n, const char *what, const char **text)
{
    if (n->type != YAML_SCALAR_NODE) return wrong(r, n, what, "a text or number");
    *text = (const char *)n->data.scalar.value;
    if (strlen(*text) != n->data.scalar.length || n->data.scalar.length >= VALUE_BYTES)
        return LCL_FAIL(LCL_CONFIG, "%s:%d: %s is too long or holds a NUL character", r->path,
                        line_of(n), what);
    if (!**text) return LCL_FAIL(LCL_CONFIG, "%s:%d: %s has no value", r->path, line_of(n), what);
    return LCL_OK;
}

static lcl_status copy_text(struct reader *r, node n, const char *what, char **out)
{
    const char *text;
    if (*out) return LCL_FAIL(LCL_CONFIG, "%s:%d: %s is given twice", r->path, line_of(n), what);
    LCL_TRY(text_of(r, n, what, &text));
    *out = strdup(text);
    return *out ? LCL_OK : LCL_FAIL(LCL_MEMORY, "%s: no memory", r->path);
}

/* The name of a folder (plain), a row or a line; n: where it stands. */
static lcl_status copy_name(struct reader *r, node n, const char *what, const char *text,
                            bool plain, char out[LCL_SWEEP_NAME_BYTES])
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t length = strlen(text);
    if (length >= LCL_SWEEP_NAME_BYTES ||
        (plain && (strspn(text, letters) != length || *text == '.')))
        return LCL_FAIL(LCL_CONFIG, "%s:%d: %s \"%.80s\" is not 1 to %d %s", r->path, line_of(n),
                        what, text, LCL_SWEEP_NAME_BYTES - 1,
                        plain ? "letters, digits, '-', '_' or '.'" : "characters");
    memcpy(out, text, length + 1);
    return LCL_OK;
}

static lcl_status name_of(struct reader *r, node n, const char *what, bool plain,
                          char out[LCL_SWEEP_NAME_BYTES])
{
    const char *text;
    LCL_TRY(text_of(r, n, what, &text));
    return copy_name(r, n, what, text, plain, out);
}

/* n: where the text stands. */
static lcl_status parse_whole(struct reader *r, node n, const char *what, const char *text,
                              int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || v < 0 || v > high)
        return LCL_FAIL(LCL_CONFIG, "%s:%d: %s \"%.80s\" is not a whole number in 0..%lld", r->path,
                        line_of(n), what, text, (long long)high);
    *out = v;
    return LCL_OK;
}

static lcl_status whole_of(struct reader *r, node n, const char *what, int64_t high, int64_t *out)
{
    const char *text;
    LCL_TRY(text_of(r, n, what, &text));
    return parse_whole(r, n, what, text, high, out);
}

static lcl_status seeds_of(struct reader *r, node n, int *count, int64_t *seeds)
{
    *count = 0;
    if (n->type != YAML_SEQUENCE_NODE || n->data.sequence.items.start == n->data.sequence.items.top)
        return wrong(r, n, "seeds", "a list of whole numbers");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        if (*count == LCL_SWEEP_MAX_SEEDS)
            return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d seeds", r->path, line_of(n),
                            LCL_SWEEP_MAX_SEEDS);
        LCL_TRY(whole_of(r, get(r, *i), "a seed", UINT32_MAX, &seeds[*count]));
        for (int k = 0; k < *count; k++)
            if (seeds[k] == seeds[*count])
                return LCL_FAIL(LCL_CONFIG, "%s:%d: seed %lld stands twice", r->path, line_of(n),
                                (long long)seeds[k]);
        ++*count;
    }
    return LCL_OK;
}

/* ---- maps ---- */

typedef lcl_status (*on_pair)(struct reader *r, void *to, const char *key, node value);

static lcl_status each_pair(struct reader *r, node n, const char *what, on_pair f, void *to)
{
    if (n->type != YAML_MAPPING_NODE) return wrong(r, n, what, "a map of keys and values");
    yaml_node_pair_t *start = n->data.mapping.pairs.start, *top = n->data.mapping.pairs.top;
    for (yaml_node_pair_t *p = start; p < top; p++) {
        const char *key, *other;
        LCL_TRY(text_of(r, get(r, p->key), "a key", &key));
        for (yaml_node_pair_t *q = start; q < p; q++) {
            LCL_TRY(text_of(r, get(r, q->key), "a key", &other));
            if (strcmp(key, other) == 0)
                return LCL_FAIL(LCL_CONFIG, "%s:%d: %s is given twice (first in line %d)", r->path,
                                line_of(get(r, p->key)), key, line_of(get(r, q->key)));
        }
        LCL_TRY(f(r, to, key, get(r, p->value)));
    }
    return LCL_OK;
}

static lcl_status unknown(struct reader *r, node n, const char *what, const char *key,
                          const char *const *known, int n_known)
{
    const char *near = lcl_nearest_word(key, known, n_known);
    char hint[256] = "";
    for (int i = 0; i < n_known && !near; i++)
        snprintf(hint + strlen(hint), sizeof hint - strlen(hint), "%s%s", i ? ", " : "", known[i]);
    return LCL_FAIL_HINT(LCL_CONFIG, near ? near : hint, "%s:%d: %s has no key \"%.80s\"", r->path,
                         line_of(n), what, key);
}

/* ---- settings ---- */

struct prefix {
    struct lcl_sweep_sets *sets;
    const char *prefix;
    int depth;
};

static lcl_status add_set(struct reader *r, node n, struct lcl_sweep_sets *sets, const char *key,
                          const char *value)
{
    if (sets->n == LCL_SWEEP_MAX_SETS)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d settings", r->path, line_of(n),
                        LCL_SWEEP_MAX_SETS);
    if (!(sets->v[sets->n] = lcl_strdupf("%s=%s", key, value)))
        return LCL_FAIL(LCL_MEMORY, "%s: no memory", r->path);
    sets->n++;
    return LCL_OK;
}

static lcl_status add_list(struct reader *r, node n, struct lcl_sweep_sets *sets, const char *key)
{
    char text[VALUE_BYTES] = "";
    size_t at = 0;
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const char *item;
        LCL_TRY(text_of(r, get(r, *i), key, &item));
        int m = snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", item);
        if (m < 0 || (size_t)m >= sizeof text - at)
            return LCL_FAIL(LCL_RANGE, "%s:%d: the list of %s is too long", r->path, line_of(n),
                            key);
        at += (size_t)m;
    }
    return add_set(r, n, sets, key, text);
}

static lcl_status read_set(struct reader *r, void *to, const char *key, node value)
{
    struct prefix *p = to;
    char name[256];
    int n = snprintf(name, sizeof name, "%s%s%s", p->prefix, *p->prefix ? "." : "", key);
    if (n < 0 || n >= (int)sizeof name)
        return LCL_FAIL(LCL_CONFIG, "%s:%d: no key is called \"%.80s\"", r->path, line_of(value),
                        key);
    const char *text;
    switch (value->type) {
    case YAML_MAPPING_NODE:
        if (p->depth == MAX_DEPTH)
            return LCL_FAIL(LCL_CONFIG, "%s:%d: maps are nested more than %d deep", r->path,
                            line_of(value), MAX_DEPTH);
        return each_pair(r, value, name, read_set, &(struct prefix){p->sets, name, p->depth + 1});
    case YAML_SEQUENCE_NODE:
        return add_list(r, value, p->sets, name);
    default:
        LCL_TRY(text_of(r, value, name, &text));
        return add_set(r, value, p->sets, name, text);
    }
}

static lcl_status read_sets(struct reader *r, node n, struct lcl_sweep_sets *sets)
{
    return each_pair(r, n, "set", read_set, &(struct prefix){sets, "", 0});
}

/* ---- runs ---- */

static lcl_status read_eval(struct reader *r, void *to, const char *key, node value)
{
    struct lcl_sweep_run *run = to;
    if (run->n_evals == LCL_SWEEP_MAX_EVALS)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d evaluations of a run", r->path,
                        line_of(value), LCL_SWEEP_MAX_EVALS);
    struct lcl_sweep_eval *e = &run->evals[run->n_evals++];
    LCL_TRY(copy_name(r, value, "a row", key, false, e->row));
    return read_sets(r, value, &e->sets);
}

static lcl_status read_run_key(struct reader *r, void *to, const char *key, node value)
{
    static const char *const known[] = {"config", "model", "seeds", "set", "eval"};
    struct lcl_sweep_run *run = to;
    if (strcmp(key, "config") == 0) return copy_text(r, value, key, &run->config);
    if (strcmp(key, "model") == 0) return copy_text(r, value, key, &run->model);
    if (strcmp(key, "seeds") == 0) return seeds_of(r, value, &run->n_seeds, run->seeds);
    if (strcmp(key, "set") == 0) return read_sets(r, value, &run->sets);
    if (strcmp(key, "eval") == 0) return each_pair(r, value, key, read_eval, run);
    return unknown(r, value, "a run", key, known, 5);
}

static lcl_status read_run(struct reader *r, void *to, const char *key, node value)
{
    struct lcl_sweep *s = to;
    if (s->n_runs == LCL_SWEEP_MAX_RUNS)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d runs", r->path, line_of(value),
                        LCL_SWEEP_MAX_RUNS);
    struct lcl_sweep_run *run = &s->runs[s->n_runs++];
    run->line = line_of(value);
    run->evals = calloc(LCL_SWEEP_MAX_EVALS, sizeof *run->evals);
    if (!run->evals) return LCL_FAIL(LCL_MEMORY, "%s: no memory", r->path);
    if (strcmp(key, "seed") == 0 || strcmp(key, "output_dir") == 0)
        return LCL_FAIL(LCL_CONFIG, "%s:%d: {%s} means something else: name the run otherwise",
                        r->path, line_of(value), key);
    LCL_TRY(copy_name(r, value, "the name of a run", key, true, run->name));
    LCL_TRY(each_pair(r, value, run->name, read_run_key, run));
    if (!run->config == !run->model)
        return LCL_FAIL_HINT(LCL_CONFIG, "config: FILE trains, model: DIR is only evaluated",
                             "%s:%d: run %s needs one of config and model", r->path, run->line,
                             run->name);
    if (run->n_seeds == 0) {
        run->n_seeds = s->n_seeds;
        memcpy(run->seeds, s->seeds, sizeof s->seeds);
    }
    return LCL_OK;
}

/* ---- figures ---- */

static int find_run(const struct lcl_sweep *s, const char *name)
{
    for (int i = 0; i < s->n_runs; i++)
        if (strcmp(s->runs[i].name, name) == 0) return i;
    return -1;
}

static lcl_status new_line(struct reader *r, node n, struct lcl_sweep_figure *f,
                           struct lcl_sweep_line **line)
{
    if (f->n_lines == LCL_SWEEP_MAX_LINES)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d lines in a figure", r->path, line_of(n),
                        LCL_SWEEP_MAX_LINES);
    *line = &f->lines[f->n_lines++];
    (*line)->run = -1;
    return LCL_OK;
}

static lcl_status read_lines(struct reader *r, node n, struct lcl_sweep_figure *f)
{
    if (n->type != YAML_SEQUENCE_NODE) return wrong(r, n, "runs", "a list of names of runs");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        struct lcl_sweep_line *line = NULL;
        node item = get(r, *i);
        LCL_TRY(new_line(r, item, f, &line));
        LCL_TRY(name_of(r, item, "a run", true, line->name));
        line->run = find_run(r->s, line->name);
        if (line->run >= 0) continue;
        const char *names[LCL_SWEEP_MAX_RUNS];
        for (int k = 0; k < r->s->n_runs; k++) names[k] = r->s->runs[k].name;
        const char *near = lcl_nearest_word(line->name, names, r->s->n_runs);
        return LCL_FAIL_HINT(LCL_CONFIG,
                             near ? near : "a key of runs:", "%s:%d: no run is called %s", r->path,
                             line_of(item), line->name);
    }
    return LCL_OK;
}

/* A place on a figure's axis. */
static lcl_status place_of(struct reader *r, node n, const char *key, int64_t *x)
{
    return parse_whole(r, n, "a place on the axis", key, MAX_PLACE, x);
}

static lcl_status share_of(struct reader *r, node n, const char *what, double *share)
{
    const char *text;
    char *end;
    LCL_TRY(text_of(r, n, what, &text));
    *share = strtod(text, &end);
    if (*end || !(*share >= 0 && *share <= 1))
        return LCL_FAIL(LCL_CONFIG, "%s:%d: %s \"%.80s\" is not a number in 0..1", r->path,
                        line_of(n), what, text);
    return LCL_OK;
}

static lcl_status read_printed(struct reader *r, void *to, const char *key, node value)
{
    struct lcl_sweep_line *line = to;
    if (line->n == LCL_RESULTS_MAX_CELLS)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d numbers", r->path, line_of(value),
                        LCL_RESULTS_MAX_CELLS);
    LCL_TRY(place_of(r, value, key, &line->x[line->n]));
    return share_of(r, value, "an accuracy", &line->y[line->n++]);
}

static lcl_status read_paper(struct reader *r, void *to, const char *key, node value)
{
    struct lcl_sweep_line *line = NULL;
    LCL_TRY(new_line(r, value, to, &line));
    LCL_TRY(copy_name(r, value, "a line", key, false, line->name));
    return each_pair(r, value, "printed numbers", read_printed, line);
}

static lcl_status read_point(struct reader *r, void *to, const char *key, node value)
{
    struct lcl_sweep_figure *f = to;
    if (f->n_points == LCL_SWEEP_MAX_EVALS)
        return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d points", r->path, line_of(value),
                        LCL_SWEEP_MAX_EVALS);
    LCL_TRY(place_of(r, value, key, &f->x[f->n_points]));
    return name_of(r, value, "a row", false, f->point[f->n_points++]);
}

static lcl_status read_figure_key(struct reader *r, void *to, const char *key, node value)
{
    static const char *const known[] = {"title", "axis",   "note", "chance", "shots",
                                        "row",   "points", "runs", "paper"};
    struct lcl_sweep_figure *f = to;
    if (strcmp(key, "title") == 0) return copy_text(r, value, key, &f->title);
    if (strcmp(key, "axis") == 0) return copy_text(r, value, key, &f->axis);
    if (strcmp(key, "note") == 0) return copy_text(r, value, key, &f->note);
    if (strcmp(key, "chance") == 0) return share_of(r, value, "a chance", &f->chance);
    if (strcmp(key, "shots") == 0) return whole_of(r, value, key, MAX_PLACE, &f->shots);
    if (strcmp(key, "row") == 0) return name_of(r, value, key, false, f->row);
    if (strcmp(key, "points") == 0) return each_pair(r, value, key, read_point, f);
    if (strcmp(key, "runs") == 0) return read_lines(r, value, f);
    if (strcmp(key, "paper") == 0) return each_pair(r, value, key, read_paper, f);
    return unknown(r, value, "a figure", key, known, 9);
}

/* The row is one that a run of the figure evaluates. */
static lcl_status check_row(struct reader *r, node n, const struct lcl_sweep_figure *f,
                            const char *row)
{
    for (int i = 0; i < f->n_lines; i++) {
        const struct lcl_sweep_run *run = f->lines[i].run < 0 ? NULL : &r->s->runs[f->lines[i].run];
        for (int k = 0; run && k < run->n_evals; k++)
            if (strcmp(run->evals[k].row, row) == 0) return LCL_OK;
    }
    return LCL_FAIL_HINT(LCL_CONFIG, "a key of eval: of a run in runs:",
                         "%s:%d: no run of the figure \"%s\" has an evaluation \"%s\"", r->path,
                         line_of(n), f->title, row);
}

static lcl_status read_figures(struct reader *r, node n)
{
    struct lcl_sweep *s = r->s;
    if (n->type != YAML_SEQUENCE_NODE) return wrong(r, n, "figures", "a list of maps");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        node item = get(r, *i);
        if (s->n_figures == LCL_SWEEP_MAX_FIGURES)
            return LCL_FAIL(LCL_RANGE, "%s:%d: more than %d figures", r->path, line_of(item),
                            LCL_SWEEP_MAX_FIGURES);
        struct lcl_sweep_figure *f = &s->figures[s->n_figures++];
        LCL_TRY(each_pair(r, item, "a figure", read_figure_key, f));
        if (!f->title || f->n_lines == 0 || (f->shots > 0) != (f->n_points > 0) ||
            (f->n_points > 0 && !f->axis))
            return LCL_FAIL_HINT(LCL_CONFIG,
                                 "title and runs; with shots: N also axis and points: {X: ROW}",
                                 "%s:%d: a figure is not whole", r->path, line_of(item));
        if (!f->row[0]) snprintf(f->row, sizeof f->row, "lcl");
        if (f->n_points == 0) LCL_TRY(check_row(r, item, f, f->row));
        for (int k = 0; k < f->n_points; k++) LCL_TRY(check_row(r, item, f, f->point[k]));
    }
    return LCL_OK;
}

/* ---- the file ---- */

/* Keys in the order in which later ones need earlier ones, whatever their order in the file. */
static lcl_status read_top(struct reader *r, void *to, const char *key, node value)
{
    static const char *const known[] = {"output_dir", "seeds", "set", "runs", "figures"};
    struct lcl_sweep *s = r->s;
    int phase = *(int *)to;
    for (int i = 0; i < 5; i++) {
        if (strcmp(key, known[i]) != 0) continue;
        if (phase != i) return LCL_OK;
        switch (i) {
        case 0:
            return copy_text(r, value, key, &s->output_dir);
        case 1:
            return seeds_of(r, value, &s->n_seeds, s->seeds);
        case 2:
            return read_sets(r, value, &s->sets);
        case 3:
            return each_pair(r, value, key, read_run, s);
        default:
            return read_figures(r, value);
        }
    }
    return unknown(r, value, "a sweep", key, known, 5);
}

static lcl_status read_tree(struct reader *r)
{
    node root = yaml_document_get_root_node(&r->document);
    if (!root)
        return LCL_FAIL_HINT(LCL_CONFIG, "docs/formats.md has the form", "%s: nothing is in it",
                             r->path);
    for (int phase = 0; phase < 5; phase++) {
        LCL_TRY(each_pair(r, root, r->path, read_top, &phase));
        if (phase == 1 && r->s->n_seeds == 0) r->s->seeds[r->s->n_seeds++] = 1;
    }
    if (!r->s->output_dir || r->s->n_runs == 0)
        return LCL_FAIL_HINT(LCL_CONFIG, "docs/formats.md has the form",
                             "%s: a sweep has output_dir and runs", r->path);
    return LCL_OK;
}

static lcl_status parse(struct reader *r, const char *data, size_t size)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return LCL_FAIL(LCL_MEMORY, "%s: no memory", r->path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
    lcl_status status = LCL_OK;
    if (!yaml_parser_load(&parser, &r->document)) {
        int line = (int)parser.problem_mark.line + 1;
        status = LCL_FAIL_HINT(
            LCL_CONFIG, "lines are `key: value`; nested keys are indented by blanks",
            "%s:%d: not YAML: %s", r->path, line, parser.problem ? parser.problem : "malformed");
    } else {
        status = read_tree(r);
        yaml_document_delete(&r->document);
    }
    yaml_parser_delete(&parser);
    return status;
}

lcl_status lcl_sweep_load(const char *path, struct lcl_sweep **out)
{
    char *data = NULL;
    size_t size = 0;
    LCL_TRY(lcl_fs_read(path, MAX_FILE_BYTES, &data, &size));
    struct lcl_sweep *s = calloc(1, sizeof *s);
    lcl_status status = LCL_OK;
    if (!s || !(s->path = strdup(path)) ||
        !(s->runs = calloc(LCL_SWEEP_MAX_RUNS, sizeof *s->runs)) ||
        !(s->figures = calloc(LCL_SWEEP_MAX_FIGURES, sizeof *s->figures)))
        status = LCL_FAIL(LCL_MEMORY, "%s: no memory", path);
    else
        status = parse(&(struct reader){.path = path, .s = s}, data, size);
    free(data);
    if (status == LCL_OK)
        *out = s;
    else
        lcl_sweep_free(s);
    return status;
}

void lcl_sweep_sets_free(struct lcl_sweep_sets *sets)
{
    for (int i = 0; i < sets->n; i++) free(sets->v[i]);
}

void lcl_sweep_free(struct lcl_sweep *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_runs; i++) {
        struct lcl_sweep_run *run = &s->runs[i];
        for (int k = 0; k < run->n_evals; k++) lcl_sweep_sets_free(&run->evals[k].sets);
        free(run->evals);
        lcl_sweep_sets_free(&run->sets);
        free(run->config);
        free(run->model);
    }
    for (int i = 0; i < s->n_figures; i++) {
        free(s->figures[i].title);
        free(s->figures[i].axis);
        free(s->figures[i].note);
    }
    lcl_sweep_sets_free(&s->sets);
    free(s->runs);
    free(s->figures);
    free(s->path);
    free(s->output_dir);
    free(s);
}
