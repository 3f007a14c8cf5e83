/* What a sweep found: the figures of its file, with means over the seeds that are done. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/sweep.h"
#include "train/text.h"

/* 97.5 % points of Student's t with 1, 2, ... degrees of freedom (Abramowitz and Stegun, table
 * 26.10). */
static const double student[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                 2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                 2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                 2.060,  2.056, 2.052, 2.048, 2.045, 2.042};

struct sample {
    int n;
    double v[LCL_SWEEP_MAX_SEEDS], interval[2]; /* of the last one */
};

static void add(struct sample *s, double value, const double interval[2])
{
    if (isnan(value) || s->n == LCL_SWEEP_MAX_SEEDS) return;
    s->v[s->n++] = value;
    s->interval[0] = interval[0];
    s->interval[1] = interval[1];
}

/* Mean and 95 % interval within 0..1; NaN of none. */
static double mean_of(const struct sample *s, double interval[2])
{
    double sum = 0, squares = 0;
    interval[0] = s->interval[0];
    interval[1] = s->interval[1];
    if (s->n == 0) return (double)NAN;
    for (int i = 0; i < s->n; i++) sum += s->v[i];
    const double mean = sum / s->n;
    if (s->n == 1) return mean;
    for (int i = 0; i < s->n; i++) squares += (s->v[i] - mean) * (s->v[i] - mean);
    const int points = (int)(sizeof student / sizeof *student);
    const double t = s->n - 1 <= points ? student[s->n - 2] : 1.96;
    const double half = t * sqrt(squares / (s->n - 1) / s->n);
    interval[0] = fmax(mean - half, 0);
    interval[1] = fmin(mean + half, 1);
    return mean;
}

struct summary {
    const struct lcl_sweep *s;
    const struct lcl_sweep_unit *units;
    struct lcl_results **found; /* [n units], NULL: none yet */
    int n, missing;
};

/* The cell `to` from those of all seeds of a run. */
static lcl_status gather(struct summary *m, int run, const char *row, int64_t shots,
                         struct lcl_results *into, const char *line, int64_t x)
{
    struct sample greedy = {.interval = {(double)NAN, (double)NAN}}, likelihood = greedy;
    double interval[2], episodes = 0;
    for (int i = 0; i < m->n; i++) {
        const struct lcl_result_cell *c = m->units[i].run == run && m->found[i]
                                              ? lcl_results_find(m->found[i], row, shots)
                                              : NULL;
        if (!c) continue;
        double v = lcl_result_value(c, LCL_BY_GREEDY, interval);
        add(&greedy, v, interval);
        v = lcl_result_value(c, LCL_BY_LIKELIHOOD, interval);
        add(&likelihood, v, interval);
        if (!isnan(c->episodes)) episodes += c->episodes;
    }
    if (greedy.n == 0 && likelihood.n == 0) {
        m->missing++;
        return LCL_OK;
    }
    struct lcl_result_cell *to;
    LCL_TRY(lcl_results_cell(into, line, x, &to));
    to->likelihood = mean_of(&likelihood, to->likelihood_ci95);
    to->greedy = mean_of(&greedy, to->ci95);
    if (greedy.n == 0) memcpy(to->ci95, to->likelihood_ci95, sizeof to->ci95);
    to->episodes = episodes;
    to->seeds = greedy.n > likelihood.n ? greedy.n : likelihood.n;
    return LCL_OK;
}

/* Every shot count that any seed of a run has in a row. */
static lcl_status gather_shots(struct summary *m, const struct lcl_sweep_figure *f,
                               const struct lcl_sweep_line *line, struct lcl_results *into)
{
    for (int i = 0; i < m->n; i++) {
        const struct lcl_result_row *row = m->units[i].run == line->run && m->found[i]
                                               ? lcl_results_find_row(m->found[i], f->row)
                                               : NULL;
        for (int k = 0; row && k < row->n; k++)
            if (!lcl_results_find(into, line->name, row->cells[k].shots))
                LCL_TRY(gather(m, line->run, f->row, row->cells[k].shots, into, line->name,
                               row->cells[k].shots));
    }
    m->missing += !lcl_results_find_row(into, line->name);
    return LCL_OK;
}

static lcl_status gather_figure(struct summary *m, const struct lcl_sweep_figure *f,
                                struct lcl_results *into)
{
    for (int l = 0; l < f->n_lines; l++) {
        const struct lcl_sweep_line *line = &f->lines[l];
        struct lcl_result_cell *cell;
        if (line->run < 0) {
            for (int i = 0; i < line->n; i++) {
                LCL_TRY(lcl_results_cell(into, line->name, line->x[i], &cell));
                cell->greedy = line->y[i];
            }
        } else if (f->n_points == 0) {
            LCL_TRY(gather_shots(m, f, line, into));
        } else {
            for (int p = 0; p < f->n_points; p++)
                LCL_TRY(gather(m, line->run, f->point[p], f->shots, into, line->name, f->x[p]));
        }
    }
    return LCL_OK;
}

static void put_field(struct lcl_text *t, const char *key, const char *value)
{
    if (!value) return;
    lcl_text_printf(t, "\"%s\": ", key);
    lcl_text_json_string(t, value);
    lcl_text_puts(t, ", ");
}

static lcl_status put_figures(struct summary *m, struct lcl_text *t)
{
    struct lcl_results *of = malloc(sizeof *of);
    lcl_status status = of ? LCL_OK : LCL_FAIL(LCL_MEMORY, "%s: no memory", m->s->path);
    lcl_text_puts(t, " \"figures\": [\n");
    for (int i = 0; i < m->s->n_figures && status == LCL_OK; i++) {
        const struct lcl_sweep_figure *f = &m->s->figures[i];
        memset(of, 0, sizeof *of);
        status = gather_figure(m, f, of);
        lcl_text_puts(t, i ? ",\n  {" : "  {");
        put_field(t, "title", f->title);
        put_field(t, "axis", f->axis);
        put_field(t, "note", f->note);
        if (f->chance > 0) lcl_text_printf(t, "\"chance\": %.6g, ", f->chance);
        lcl_text_puts(t, "\"printed\": [");
        for (int l = 0, n = 0; l < f->n_lines; l++) {
            if (f->lines[l].run >= 0) continue;
            lcl_text_puts(t, n++ ? ", " : "");
            lcl_text_json_string(t, f->lines[l].name);
        }
        lcl_text_puts(t, "], \"results\": ");
        lcl_results_text(of, t);
        lcl_text_puts(t, "}");
    }
    lcl_text_puts(t, "\n ]");
    free(of);
    return status;
}

/* What each run sets, as its file says: that is where they differ. */
static void put_runs(const struct summary *m, struct lcl_text *t)
{
    lcl_text_puts(t, " \"runs\": [\n");
    for (int r = 0; r < m->s->n_runs; r++) {
        const struct lcl_sweep_run *run = &m->s->runs[r];
        int done = 0;
        for (int i = 0; i < m->n; i++) done += m->units[i].run == r && m->found[i];
        lcl_text_puts(t, r ? ",\n  {" : "  {");
        put_field(t, "name", run->name);
        put_field(t, run->config ? "config" : "model", run->config ? run->config : run->model);
        lcl_text_printf(t, "\"seeds\": %d, \"seeds_done\": %d, \"set\": [", run->n_seeds, done);
        for (int i = 0; i < run->sets.n; i++) {
            lcl_text_puts(t, i ? ", " : "");
            lcl_text_json_string(t, run->sets.v[i]);
        }
        lcl_text_puts(t, "]}");
    }
    lcl_text_puts(t, "\n ],\n");
}

static lcl_status load_results(struct summary *m)
{
    for (int i = 0; i < m->n; i++) {
        char *path = lcl_strdupf("%s/results.json", m->units[i].dir);
        lcl_status status = path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "%s: no memory", m->s->path);
        if (status == LCL_OK && lcl_fs_exists(path)) {
            m->found[i] = malloc(sizeof **m->found);
            status = m->found[i] ? lcl_results_load(path, m->found[i])
                                 : LCL_FAIL(LCL_MEMORY, "%s: no memory", m->s->path);
        }
        free(path);
        LCL_TRY(status);
    }
    return LCL_OK;
}

lcl_status lcl_sweep_summarise(const struct lcl_sweep *s, const struct lcl_sweep_unit *units, int n,
                               int *n_missing)
{
    struct lcl_text t = {0};
    struct summary m = {.s = s, .units = units, .n = n};
    lcl_status status = LCL_OK;
    m.found = calloc((size_t)n + 1, sizeof *m.found);
    if (!m.found) return LCL_FAIL(LCL_MEMORY, "%s: no memory", s->path);
    LCL_TRY_GOTO(load_results(&m));
    lcl_text_puts(&t, "{");
    put_field(&t, "sweep", s->path);
    lcl_text_puts(&t, "\n");
    put_runs(&m, &t);
    LCL_TRY_GOTO(put_figures(&m, &t));
    lcl_text_puts(&t, "\n}\n");
    LCL_TRY_GOTO(lcl_text_check(&t));
    LCL_TRY_GOTO(lcl_fs_mkdirs(s->output_dir));
    status = lcl_fs_write_text(s->output_dir, LCL_SWEEP_SUMMARY, t.data);
    *n_missing = m.missing;
out:
    for (int i = 0; i < n; i++) free(m.found[i]);
    free(m.found);
    lcl_text_free(&t);
    return status;
}
