/* The figures of a sweep: a chart and a table each, beside printed numbers, and what the runs set.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/report_parts.h"
#include "train/sweep.h"

#define MAX_SUMMARY_BYTES ((size_t)16 << 20)

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool is_printed(const json_t *figure, const char *line)
{
    const json_t *list = json_object_get(figure, "printed");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && strcmp(name, line) == 0) return true;
    }
    return false;
}

lcl_status report_read_figure(const json_t *figure, struct lcl_results *r)
{
    LCL_TRY(lcl_results_read(json_object_get(figure, "results"), LCL_SWEEP_SUMMARY, r));
    r->axis = text_at(figure, "axis");
    if (!r->axis) r->axis = REPORT_SHOTS_AXIS;
    r->chance = json_number_value(json_object_get(figure, "chance"));
    if (!(r->chance >= 0 && r->chance <= 1))
        return LCL_FAIL(LCL_FORMAT, LCL_SWEEP_SUMMARY ": a chance of %g", r->chance);
    for (int i = 0; i < r->n_rows; i++) r->rows[i].printed = is_printed(figure, r->rows[i].name);
    return LCL_OK;
}

static double value_of(const struct lcl_result_cell *c, double interval[2])
{
    interval[0] = interval[1] = (double)NAN;
    if (!c) return (double)NAN;
    return lcl_result_value(c, report_measure_of(c), interval);
}

/* ---- the table of a figure ---- */

static double best_at(const struct lcl_results *r, int64_t x)
{
    double best = (double)NAN, interval[2];
    for (int i = 0; i < r->n_rows; i++)
        if (!r->rows[i].printed)
            best = fmax(best, value_of(lcl_results_find(r, r->rows[i].name, x), interval));
    return best;
}

static void put_value(struct lcl_text *t, const struct lcl_result_cell *c, bool best)
{
    double interval[2], v = value_of(c, interval);
    lcl_text_puts(t, "<td>");
    if (isnan(v)) {
        lcl_text_puts(t, "&#8211;</td>");
        return;
    }
    lcl_text_printf(t, best ? "<strong>%.1f</strong>" : "%.1f", 100 * v);
    if (!isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, " <span class=\"ci\">[%.1f, %.1f]</span>", 100 * interval[0],
                        100 * interval[1]);
    lcl_text_puts(t, "</td>");
}

static double seeds_of(const struct lcl_result_row *row)
{
    double seeds = (double)NAN;
    for (int k = 0; k < row->n; k++) seeds = fmax(seeds, row->cells[k].seeds);
    return seeds;
}

static void put_table(struct lcl_text *t, const struct lcl_results *r)
{
    double x[LCL_RESULTS_MAX_CELLS];
    int n = report_all_shots(r, x);
    lcl_text_puts(t, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Numbers\">"
                     "<table><thead><tr><th scope=\"col\">run</th><th scope=\"col\">seeds</th>");
    for (int k = 0; k < n; k++) lcl_text_printf(t, "<th scope=\"col\">%.0f</th>", x[k]);
    lcl_text_puts(t, "</tr></thead><tbody>\n");
    for (int i = 0; i < r->n_rows; i++) {
        const bool printed = r->rows[i].printed;
        const double seeds = seeds_of(&r->rows[i]);
        lcl_text_puts(t, "<tr><th scope=\"row\">");
        lcl_text_html(t, r->rows[i].name);
        if (printed)
            lcl_text_puts(t, "</th><td>printed</td>");
        else
            lcl_text_printf(t, "</th><td>%.0f</td>", isnan(seeds) ? 0 : seeds);
        for (int k = 0; k < n; k++) {
            const struct lcl_result_cell *c = lcl_results_find(r, r->rows[i].name, (int64_t)x[k]);
            double interval[2];
            put_value(t, c, !printed && value_of(c, interval) >= best_at(r, (int64_t)x[k]));
        }
        lcl_text_puts(t, "</tr>\n");
    }
    lcl_text_puts(t, "</tbody></table></div>\n");
}

/* ---- the section ---- */

static void put_figure(struct lcl_text *t, const json_t *figure, const struct lcl_results *r)
{
    const char *title = text_at(figure, "title"), *note = text_at(figure, "note");
    lcl_text_puts(t, "<div class=\"card\"><h3>");
    lcl_text_html(t, title ? title : "");
    lcl_text_puts(t, "</h3>\n");
    if (note) {
        lcl_text_puts(t, "<p class=\"sub\">");
        lcl_text_html(t, note);
        lcl_text_puts(t, "</p>\n");
    }
    lcl_text_puts(t, "<div class=\"pair\">\n");
    report_svg_accuracy(t, r, LCL_BY_GREEDY);
    report_svg_accuracy(t, r, LCL_BY_LIKELIHOOD);
    lcl_text_puts(t, "</div>\n");
    report_html_legend(t, r);
    put_table(t, r);
    lcl_text_puts(t, "</div>\n");
}

static void put_runs(struct lcl_text *t, const json_t *root)
{
    const json_t *runs = json_object_get(root, "runs");
    lcl_text_puts(t, "<details><summary>What the runs set</summary><div class=\"scroll\" "
                     "tabindex=\"0\" role=\"region\" aria-label=\"Runs\"><table><thead><tr>"
                     "<th scope=\"col\">run</th><th scope=\"col\">from</th><th scope=\"col\">seeds "
                     "done</th><th scope=\"col\">settings</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *sets = json_object_get(run, "set");
        const char *name = text_at(run, "name"), *config = text_at(run, "config"),
                   *model = text_at(run, "model");
        lcl_text_puts(t, "<tr><th scope=\"row\">");
        lcl_text_html(t, name ? name : "");
        lcl_text_puts(t, "</th><td>");
        lcl_text_html(t, config ? config : model ? model : "");
        lcl_text_printf(t, "</td><td>%lld of %lld</td><td>",
                        (long long)json_integer_value(json_object_get(run, "seeds_done")),
                        (long long)json_integer_value(json_object_get(run, "seeds")));
        for (size_t k = 0; k < json_array_size(sets); k++) {
            const char *set = json_string_value(json_array_get(sets, k));
            lcl_text_puts(t, k ? "<br>" : "");
            lcl_text_html(t, set ? set : "");
        }
        lcl_text_puts(t, "</td></tr>\n");
    }
    lcl_text_puts(t, "</tbody></table></div></details>\n");
}

lcl_status report_load_sweep(struct report *r)
{
    char *path = lcl_strdupf("%s/" LCL_SWEEP_SUMMARY, r->dir), *data = NULL;
    size_t size = 0;
    json_error_t error;
    lcl_status status = path ? LCL_OK : LCL_FAIL(LCL_MEMORY, "out of memory for a path");
    if (status == LCL_OK && lcl_fs_exists(path)) {
        status = lcl_fs_read(path, MAX_SUMMARY_BYTES, &data, &size);
        if (status == LCL_OK && !(r->sweep = json_loadb(data, size, 0, &error)))
            status = LCL_FAIL(LCL_FORMAT, "%s:%d: %s", path, error.line, error.text);
    }
    free(data);
    free(path);
    return status;
}

void report_free_sweep(struct report *r) { json_decref(r->sweep); }

void report_html_sweep(struct lcl_text *t, struct report *r)
{
    if (!r->sweep) return;
    const json_t *figures = json_object_get(r->sweep, "figures");
    struct lcl_results *results = malloc(sizeof *results);
    if (!results) {
        t->failed = true;
        return;
    }
    lcl_text_puts(t,
                  "<section id=\"sweep\"><h2>Figures</h2>\n<p class=\"sub\">Means over seeds "
                  "with 95 % intervals (Student&#8217;s t over seeds; of a single seed, its own "
                  "by bootstrap over classes). The best measured number of a column is bold; "
                  "printed numbers are the paper&#8217;s, on other data and another model.</p>\n");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);
        if (report_read_figure(figure, results) == LCL_OK)
            put_figure(t, figure, results);
        else
            report_note(r, "Left out, as it could not be read: %s", lcl_error_message());
    }
    put_runs(t, r->sweep);
    lcl_text_puts(t, "</section>\n");
    free(results);
}
