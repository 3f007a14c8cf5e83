/* The training section: for each stage of each run its loss and label accuracy by step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "train/report_parts.h"

/* Distinct stage names in order of appearance. */
static int list_stages(const struct lcl_metrics_table *m, const char *names[REPORT_MAX_STAGES])
{
    int n = 0;
    for (size_t i = 0; i < m->n; i++) {
        bool seen = false;
        for (int k = n - 1; k >= 0 && !seen; k--) seen = strcmp(names[k], m->rows[i].stage) == 0;
        if (!seen && n < REPORT_MAX_STAGES) names[n++] = m->rows[i].stage;
    }
    return n;
}

/* What one stage shows; arrays of n train lines and n_marks evaluations. */
struct stage {
    size_t n, n_marks;
    double *step, *loss, *accuracy;
    struct report_mark *marks;
    double steps, seconds, tokens_per_s, samples_per_s, memory_bytes, mfu;
    double few, many; /* shot counts of the evaluations that are drawn */
};

static void free_stage(struct stage *s)
{
    free(s->step);
    free(s->loss);
    free(s->accuracy);
    free(s->marks);
}

static bool is_train(const struct lcl_metrics_row *row) { return strcmp(row->kind, "train") == 0; }
static bool is_eval(const struct lcl_metrics_row *row) { return strcmp(row->kind, "eval") == 0; }

static void mark_evaluation(const struct lcl_metrics_row *row, struct stage *s)
{
    if (isnan(row->shots) || (row->shots != s->few && row->shots != s->many)) return;
    bool greedy = !isnan(row->greedy);
    double v = greedy ? row->greedy : row->likelihood;
    if (isnan(v)) return;
    struct report_mark *mark = &s->marks[s->n_marks++];
    *mark = (struct report_mark){(double)row->step, v, row->shots == s->many ? 1 : 4, ""};
    snprintf(mark->title, sizeof mark->title, "step %lld: held-out classes, %.0f shots, %s %.1f %%",
             (long long)row->step, row->shots, greedy ? "greedy" : "likelihood", 100 * v);
}

/* Means of rates over the lines of the stage; NaN where no line has them. */
static void summarise(const struct lcl_metrics_table *m, const char *name, struct stage *s)
{
    double sum[3] = {0}, count[3] = {0};
    double first = (double)NAN, last = (double)NAN;
    s->steps = s->seconds = s->memory_bytes = (double)NAN;
    for (size_t i = 0; i < m->n; i++) {
        const struct lcl_metrics_row *row = &m->rows[i];
        if (strcmp(row->stage, name) != 0) continue;
        if (strcmp(row->kind, "stage") == 0) {
            s->steps = row->steps;
            s->seconds = row->seconds;
        }
        if (!is_train(row)) continue;
        const double rates[3] = {row->tokens_per_s, row->samples_per_s, row->mfu};
        for (int k = 0; k < 3; k++) {
            if (isnan(rates[k])) continue;
            sum[k] += rates[k];
            count[k]++;
        }
        s->memory_bytes = fmax(s->memory_bytes, row->memory_bytes);
        if (isnan(first)) first = (double)row->step;
        last = (double)row->step;
        if (isnan(s->seconds) || row->seconds > s->seconds) s->seconds = row->seconds;
    }
    if (isnan(s->steps)) s->steps = last - first;
    s->tokens_per_s = sum[0] / count[0];
    s->samples_per_s = sum[1] / count[1];
    s->mfu = sum[2] / count[2];
}

/* False when memory ran out. */
static bool gather(const struct lcl_metrics_table *m, const char *name, struct stage *s)
{
    *s = (struct stage){.few = (double)INFINITY, .many = -(double)INFINITY};
    s->step = calloc(m->n + 1, sizeof *s->step);
    s->loss = calloc(m->n + 1, sizeof *s->loss);
    s->accuracy = calloc(m->n + 1, sizeof *s->accuracy);
    s->marks = calloc(m->n + 1, sizeof *s->marks);
    if (!s->step || !s->loss || !s->accuracy || !s->marks) return false;
    for (size_t i = 0; i < m->n; i++) {
        const struct lcl_metrics_row *row = &m->rows[i];
        if (strcmp(row->stage, name) != 0) continue;
        if (is_eval(row) && !isnan(row->shots)) {
            s->few = fmin(s->few, row->shots);
            s->many = fmax(s->many, row->shots);
        }
        if (!is_train(row)) continue;
        s->step[s->n] = (double)row->step;
        s->loss[s->n] = row->loss;
        s->accuracy[s->n++] = row->label_accuracy;
    }
    for (size_t i = 0; i < m->n; i++)
        if (is_eval(&m->rows[i]) && strcmp(m->rows[i].stage, name) == 0)
            mark_evaluation(&m->rows[i], s);
    summarise(m, name, s);
    return true;
}

static void put_header(struct lcl_text *t, const struct report_run *run, const char *name,
                       const struct stage *s)
{
    char buf[32];
    lcl_text_puts(t, "<header><h3>");
    lcl_text_html(t, name[0] ? name : run->name[0] ? run->name : "run");
    lcl_text_puts(t, "</h3>");
    if (run->name[0] && name[0] && strcmp(run->name, name) != 0) {
        lcl_text_puts(t, "<span>");
        lcl_text_html(t, run->name);
        lcl_text_puts(t, "</span>");
    }
    if (s->steps >= 0 && s->steps < 1e15) {
        lcl_text_puts(t, "<span>");
        lcl_text_grouped(t, (int64_t)s->steps);
        lcl_text_puts(t, " steps</span>");
    }
    if (s->seconds >= 0)
        lcl_text_printf(t, "<span>%s</span>", lcl_format_duration(s->seconds, buf));
    if (s->tokens_per_s >= 0 && s->tokens_per_s < 1e15) {
        lcl_text_puts(t, "<span>");
        lcl_text_grouped(t, (int64_t)s->tokens_per_s);
        lcl_text_puts(t, " tokens/s</span>");
    } else if (s->samples_per_s >= 0 && s->samples_per_s < 1e15) {
        lcl_text_puts(t, "<span>");
        lcl_text_grouped(t, (int64_t)s->samples_per_s);
        lcl_text_puts(t, " samples/s</span>");
    }
    if (s->mfu > 0) lcl_text_printf(t, "<span>MFU %.0f %%</span>", 100 * s->mfu);
    if (s->memory_bytes > 0)
        lcl_text_printf(t, "<span>%s</span>", lcl_format_bytes(s->memory_bytes, buf));
    lcl_text_puts(t, "</header>\n");
}

static void put_mark_legend(struct lcl_text *t, const struct stage *s)
{
    if (!s->n_marks) return;
    lcl_text_puts(t, "<ul class=\"legend\">");
    for (int many = 0; many < 2; many++) {
        double shots = many ? s->many : s->few;
        if (many && s->many == s->few) break;
        int series = shots == s->many ? 1 : 4;
        lcl_text_printf(t,
                        "<li><svg class=\"chart key\" viewBox=\"0 0 34 14\" "
                        "aria-hidden=\"true\"><g class=\"s%d\">",
                        series);
        report_svg_marker(t, series, 17, 7);
        lcl_text_printf(t, "/></g></svg>held-out classes, %.0f shots</li>\n", shots);
    }
    lcl_text_puts(t, "</ul>\n");
}

static bool any_finite(const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) return true;
    return false;
}

static void put_stage(struct lcl_text *t, const struct report_run *run, const char *name,
                      const struct stage *s)
{
    lcl_text_puts(t, "<article class=\"card stage\">");
    put_header(t, run, name, s);
    lcl_text_puts(t, "<div class=\"pair\">\n");
    report_svg_curve(
        t, &(struct report_curve){.title = "Loss", .n = s->n, .x = s->step, .y = s->loss});
    if (any_finite(s->accuracy, s->n))
        report_svg_curve(t, &(struct report_curve){.title = "Label accuracy",
                                                   .percent = true,
                                                   .n = s->n,
                                                   .x = s->step,
                                                   .y = s->accuracy,
                                                   .n_marks = s->n_marks,
                                                   .marks = s->marks});
    lcl_text_puts(t, "</div>\n");
    if (any_finite(s->accuracy, s->n)) put_mark_legend(t, s);
    lcl_text_puts(t, "</article>\n");
}

void report_html_training(struct lcl_text *t, struct report *r)
{
    const char *names[REPORT_MAX_STAGES];
    if (!r->n_runs) {
        report_note(r, "No metrics.jsonl: training curves are left out.");
        return;
    }
    lcl_text_puts(t,
                  "<section id=\"training\"><h2>Training</h2>\n<p class=\"sub\">One card a stage, "
                  "in order. Faint: as logged; strong: smoothed. Label accuracy is the share "
                  "of supervised label tokens predicted right, on the training episodes.</p>\n");
    for (int i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];
        int n = list_stages(&run->metrics, names);
        for (int k = 0; k < n; k++) {
            struct stage s;
            if (!gather(&run->metrics, names[k], &s))
                t->failed = true;
            else if (any_finite(s.loss, s.n))
                put_stage(t, run, names[k], &s);
            else
                report_note(r, "Stage \"%s\" of \"%s\" has no logged loss.", names[k], run->name);
            free_stage(&s);
        }
        if (!n) report_note(r, "\"%s\" has no line in its metrics.jsonl.", run->name);
    }
    lcl_text_puts(t, "</section>\n");
}
