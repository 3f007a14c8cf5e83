/* The page: head with the headline numbers, accuracy, neighbors, time, config, notes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "core/log.h"
#include "train/report_parts.h"

/* ---- headline ---- */

struct headline {
    const struct lcl_result_row *lcl;
    const struct lcl_result_cell *few, *many; /* 2 and 16 shots, or the fewest and most there are */
};

static struct headline find_headline(const struct lcl_results *r)
{
    struct headline h = {.lcl = lcl_results_find_row(r, "lcl")};
    if (!h.lcl || !h.lcl->n) return (struct headline){0};
    h.few = lcl_results_find(r, "lcl", 2);
    h.many = lcl_results_find(r, "lcl", 16);
    if (!h.few) h.few = &h.lcl->cells[0];
    if (!h.many) h.many = &h.lcl->cells[h.lcl->n - 1];
    return h;
}

enum lcl_result_measure report_measure_of(const struct lcl_result_cell *c)
{
    return isnan(c->greedy) ? LCL_BY_LIKELIHOOD : LCL_BY_GREEDY;
}

static void put_share(struct lcl_text *t, double share)
{
    lcl_text_puts(t, "<strong>");
    report_percent(t, share);
    lcl_text_puts(t, "</strong>");
}

/* The likelihood of a control row at a shot count, NaN where it was not measured. */
static double control(const struct lcl_results *r, const char *row, int64_t shots)
{
    const struct lcl_result_cell *c = lcl_results_find(r, row, shots);
    return c ? c->likelihood : (double)NAN;
}

static void put_lead(struct lcl_text *t, const struct lcl_results *r, const struct headline *h)
{
    double interval[2];
    int64_t shots = h->many->shots;
    lcl_text_puts(
        t, "<p class=\"lead\">Shown a few labelled pictures of two classes that it was "
           "never trained on, the model names a new picture of one of them. It is right in ");
    put_share(t, lcl_result_value(h->few, report_measure_of(h->few), interval));
    lcl_text_printf(t, " of the episodes with %lld support pictures", (long long)h->few->shots);
    if (h->many != h->few) {
        lcl_text_puts(t, " and in ");
        put_share(t, lcl_result_value(h->many, report_measure_of(h->many), interval));
        lcl_text_printf(t, " with %lld", (long long)shots);
    }
    lcl_text_puts(t, ".");
    double before = control(r, "before", shots), shuffled = control(r, "shuffled_labels", shots);
    if (!isnan(before)) {
        lcl_text_puts(t, " Before link-context training it was right in ");
        put_share(t, before);
    }
    if (!isnan(shuffled)) {
        lcl_text_puts(t, isnan(before) ? " With shuffled support labels it is right in "
                                       : ", with shuffled support labels in ");
        put_share(t, shuffled);
    }
    if (!isnan(before) || !isnan(shuffled))
        lcl_text_printf(t, " (by likelihood, %lld pictures)", (long long)shots);
    lcl_text_puts(t, isnan(before) && isnan(shuffled) ? " Chance is 50 %.</p>\n"
                                                      : "; chance is 50 %.</p>\n");
}

/* A bar from 0 to 100 % with a tick at chance. */
static void put_gauge(struct lcl_text *t, double share)
{
    if (isnan(share)) return;
    lcl_text_printf(t,
                    "<svg class=\"gauge\" viewBox=\"0 0 100 14\" preserveAspectRatio=\"none\" "
                    "aria-hidden=\"true\"><rect class=\"t\" y=\"3\" width=\"100\" height=\"8\"/>"
                    "<rect class=\"v\" y=\"3\" width=\"%.1f\" height=\"8\"/>"
                    "<path class=\"c\" d=\"M50 0V14\"/></svg>",
                    100 * fmin(fmax(share, 0), 1));
}

static void put_tile(struct lcl_text *t, const char *title, bool own, double share,
                     const double interval[2], double episodes, const char *measure)
{
    lcl_text_printf(t, "<div class=\"card tile%s\"><dt>%s</dt><dd><div class=\"big\">",
                    own ? " own" : "", title);
    report_percent(t, share);
    lcl_text_puts(t, "</div><div class=\"ci\">");
    if (!isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, "95 %% CI %.1f&#8211;%.1f<br>", 100 * interval[0], 100 * interval[1]);
    lcl_text_puts(t, measure);
    if (!isnan(episodes)) {
        lcl_text_puts(t, "<br>");
        lcl_text_grouped(t, (int64_t)episodes);
        lcl_text_puts(t, " episodes");
    }
    lcl_text_puts(t, "</div>");
    put_gauge(t, share);
    lcl_text_puts(t, "</dd></div>\n");
}

static void put_cell_tile(struct lcl_text *t, const char *what, bool own,
                          const struct lcl_result_cell *c, enum lcl_result_measure measure)
{
    char title[160];
    double interval[2], share = lcl_result_value(c, measure, interval);
    snprintf(title, sizeof title, "%s, %lld&#160;shots", what, (long long)c->shots);
    put_tile(t, title, own, share, interval, c->episodes,
             measure == LCL_BY_GREEDY ? "greedy" : "by likelihood");
}

static void put_head(struct lcl_text *t, const struct report *r)
{
    struct headline h = find_headline(&r->results);
    lcl_text_puts(t, "<p class=\"eyebrow\">lcl report &#183; ");
    lcl_text_html(t, r->dir);
    lcl_text_puts(t, h.lcl ? "</p>\n<h1>Link-context learning on classes never trained on</h1>\n"
                     : r->sweep ? "</p>\n<h1>Experiment</h1>\n"
                                : "</p>\n<h1>Training report</h1>\n");
    if (!h.lcl && r->sweep) return;
    if (!h.lcl) {
        lcl_text_puts(t,
                      "<p class=\"lead\">No evaluation of the trained model is here yet; the page "
                      "shows what there is.</p>\n");
        return;
    }
    put_lead(t, &r->results, &h);
    lcl_text_puts(t, "<dl class=\"tiles\">\n");
    put_cell_tile(t, "Unseen classes", true, h.few, report_measure_of(h.few));
    if (h.many != h.few)
        put_cell_tile(t, "Unseen classes", true, h.many, report_measure_of(h.many));
    static const char *const rows[] = {"before", "shuffled_labels"};
    static const char *const titles[] = {"Before link-context training", "Shuffled support labels"};
    for (int i = 0; i < 2; i++) {
        const struct lcl_result_cell *c = lcl_results_find(&r->results, rows[i], h.many->shots);
        if (c) put_cell_tile(t, titles[i], false, c, LCL_BY_LIKELIHOOD);
    }
    static const double no_interval[2] = {(double)NAN, (double)NAN};
    put_tile(t, "Chance: one of two labels", false, REPORT_CHANCE, no_interval, (double)NAN,
             "the tick in each bar");
    lcl_text_puts(t, "</dl>\n");
}

/* ---- accuracy by shots ---- */

static void put_number_cell(struct lcl_text *t, double v, const double interval[2])
{
    lcl_text_puts(t, "<td>");
    report_percent(t, v);
    if (!isnan(v) && !isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, "<small>%.1f&#8211;%.1f</small>", 100 * interval[0], 100 * interval[1]);
    lcl_text_puts(t, "</td>");
}

static void put_table_row(struct lcl_text *t, const struct lcl_result_row *row)
{
    for (int k = 0; k < row->n; k++) {
        const struct lcl_result_cell *c = &row->cells[k];
        double interval[2], v = lcl_result_value(c, LCL_BY_GREEDY, interval);
        lcl_text_puts(t, "<tr><th scope=\"row\">");
        if (k == 0) lcl_text_html(t, report_row_title(row->name));
        lcl_text_printf(t, "</th><td>%lld</td>", (long long)c->shots);
        put_number_cell(t, v, interval);
        v = lcl_result_value(c, LCL_BY_LIKELIHOOD, interval);
        put_number_cell(t, v, interval);
        lcl_text_puts(t, "<td>");
        report_percent(t, c->unparsed);
        lcl_text_puts(t, "</td><td>");
        if (isnan(c->episodes))
            lcl_text_puts(t, "n/a");
        else
            lcl_text_grouped(t, (int64_t)c->episodes);
        lcl_text_puts(t, "</td></tr>\n");
    }
}

static void put_accuracy(struct lcl_text *t, const struct report *r)
{
    if (!r->results.n_rows) return;
    lcl_text_puts(t,
                  "<section id=\"accuracy\"><h2>Accuracy by shots</h2>\n<p class=\"sub\">Two "
                  "classes an episode, neither seen in training. Whiskers are 95 % intervals by "
                  "bootstrap over classes. The rows are set a little apart so that whiskers do not "
                  "cover each other.</p>\n<div class=\"card\"><div class=\"pair\">\n");
    report_svg_accuracy(t, &r->results, LCL_BY_GREEDY);
    report_svg_accuracy(t, &r->results, LCL_BY_LIKELIHOOD);
    lcl_text_puts(t, "</div>\n");
    report_html_legend(t, &r->results);
    lcl_text_puts(t, "<details><summary>Numbers</summary><div class=\"scroll\" tabindex=\"0\" "
                     "role=\"region\" aria-label=\"Accuracy table\"><table><thead><tr>"
                     "<th scope=\"col\">row</th><th scope=\"col\">shots</th>"
                     "<th scope=\"col\">greedy</th><th scope=\"col\">by likelihood</th>"
                     "<th scope=\"col\">no quoted answer</th><th scope=\"col\">episodes</th></tr>"
                     "</thead><tbody>\n");
    for (int i = 0; i < r->results.n_rows; i++) put_table_row(t, &r->results.rows[i]);
    lcl_text_puts(t, "</tbody></table></div></details></div></section>\n");
}

/* ---- neighbors, time, config, notes ---- */

static void put_sheet(struct lcl_text *t, const struct report *r)
{
    if (!r->sheet) return;
    lcl_text_puts(t,
                  "<section id=\"neighbors\"><h2>Hardest neighbors</h2>\n<p class=\"sub\">Each "
                  "class (framed) beside the classes whose pictures are most similar: the "
                  "negatives that it is told apart from. Numbers are cosine similarities of mean "
                  "features.</p>\n<div class=\"card sheet scroll\" tabindex=\"0\" role=\"region\" "
                  "aria-label=\"Neighbor sheet\"><img alt=\"Contact sheet: one picture of each "
                  "class beside one of each of its five most similar classes, with their names\" "
                  "src=\"data:image/png;base64,");
    lcl_text_base64(t, r->sheet, r->sheet_size);
    lcl_text_puts(t, "\"></div></section>\n");
}

/* Seconds of results.json, else of the stages of the runs. */
static int gather_times(const struct report *r, struct lcl_results *out)
{
    int failed = 0;
    if (r->results.n_seconds) {
        *out = r->results;
        return 0;
    }
    *out = (struct lcl_results){0};
    for (int i = 0; i < r->n_runs; i++)
        for (size_t k = 0; k < r->runs[i].metrics.n; k++) {
            const struct lcl_metrics_row *row = &r->runs[i].metrics.rows[k];
            if (strcmp(row->kind, "stage") != 0 || isnan(row->seconds)) continue;
            char name[LCL_RESULTS_NAME_BYTES];
            snprintf(name, sizeof name, "%.30s%s%.30s", r->runs[i].name,
                     r->runs[i].name[0] && row->stage[0] ? " / " : "", row->stage);
            failed += lcl_results_seconds(out, name[0] ? name : "run", row->seconds) != LCL_OK;
        }
    return failed;
}

static void put_time_table(struct lcl_text *t, struct lcl_results *times)
{
    char buf[32];
    double total = 0, longest = 1e-9;
    for (int i = 0; i < times->n_seconds; i++) {
        if (!(times->seconds[i].seconds >= 0)) times->seconds[i].seconds = 0;
        total += times->seconds[i].seconds;
        longest = fmax(longest, times->seconds[i].seconds);
    }
    lcl_text_puts(t, "<section id=\"time\"><h2>Time</h2>\n<div class=\"card\"><table><thead><tr>"
                     "<th scope=\"col\">stage</th><th scope=\"col\">time</th>"
                     "<td class=\"bar\"></td></tr></thead><tbody>\n");
    for (int i = 0; i < times->n_seconds; i++) {
        double seconds = times->seconds[i].seconds;
        lcl_text_puts(t, "<tr><th scope=\"row\">");
        lcl_text_html(t, times->seconds[i].name);
        lcl_text_printf(t,
                        "</th><td>%s</td><td class=\"bar\"><i style=\"width:%.1f%%\"></i></td>"
                        "</tr>\n",
                        lcl_format_duration(seconds, buf), 100 * seconds / longest);
    }
    lcl_text_printf(t,
                    "</tbody><tfoot><tr><th scope=\"row\">in all</th><td>%s</td>"
                    "<td class=\"bar\"></td></tr></tfoot></table></div></section>\n",
                    lcl_format_duration(total, buf));
}

/* On the heap: too large for a stack frame. */
static void put_times(struct lcl_text *t, struct report *r)
{
    struct lcl_results *times = calloc(1, sizeof *times);
    if (!times) {
        t->failed = true;
        return;
    }
    int left_out = gather_times(r, times);
    if (left_out) report_note(r, "The time of %d stages is left out.", left_out);
    if (times->n_seconds) put_time_table(t, times);
    free(times);
}

static void put_config(struct lcl_text *t, const char *name, const char *text)
{
    lcl_text_puts(t, "<details><summary>");
    lcl_text_html(t, name[0] ? name : "config.yaml");
    lcl_text_puts(t, "</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                     "aria-label=\"Config\"><pre>");
    lcl_text_html(t, text);
    lcl_text_puts(t, "</pre></div></details>\n");
}

static void put_configs(struct lcl_text *t, const struct report *r)
{
    bool any = r->config != NULL;
    for (int i = 0; i < r->n_runs; i++) any = any || r->runs[i].config;
    if (!any) return;
    lcl_text_puts(t, "<section id=\"config\"><h2>Config</h2>\n<div class=\"card\">\n");
    if (r->config) put_config(t, "", r->config);
    for (int i = 0; i < r->n_runs; i++)
        if (r->runs[i].config) put_config(t, r->runs[i].name, r->runs[i].config);
    lcl_text_puts(t, "</div></section>\n");
}

static void put_nav(struct lcl_text *t, const struct report *r)
{
    bool config = r->config != NULL;
    for (int i = 0; i < r->n_runs; i++) config = config || r->runs[i].config;
    lcl_text_puts(t, "<nav aria-label=\"Sections\">");
    if (r->results.n_rows) lcl_text_puts(t, "<a href=\"#accuracy\">Accuracy</a>");
    if (r->sweep) lcl_text_puts(t, "<a href=\"#sweep\">Figures</a>");
    if (r->n_views) lcl_text_puts(t, "<a href=\"#episodes\">Episodes</a>");
    if (r->n_runs) lcl_text_puts(t, "<a href=\"#training\">Training</a>");
    if (r->sheet) lcl_text_puts(t, "<a href=\"#neighbors\">Neighbors</a>");
    if (config) lcl_text_puts(t, "<a href=\"#config\">Config</a>");
    lcl_text_puts(t, "</nav>\n");
}

void report_html_page(struct lcl_text *t, struct report *r)
{
    lcl_text_puts(t, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                     "<title>Link-context learning: ");
    lcl_text_html(t, lcl_fs_basename(r->dir));
    lcl_text_puts(t, "</title>\n<style>\n");
    lcl_text_puts(t, report_page_css);
    lcl_text_puts(t, report_chart_css);
    lcl_text_puts(t, "</style></head>\n<body><main>\n");
    put_head(t, r);
    put_nav(t, r);
    put_accuracy(t, r);
    report_html_sweep(t, r);
    report_html_episodes(t, r);
    report_html_training(t, r);
    put_sheet(t, r);
    put_times(t, r);
    put_configs(t, r);
    if (r->notes.size) {
        lcl_text_puts(t, "<section id=\"notes\"><h2>Left out</h2>\n<ul class=\"sub\">\n");
        lcl_text_bytes(t, r->notes.data, r->notes.size);
        lcl_text_puts(t, "</ul></section>\n");
    }
    lcl_text_puts(t,
                  "<footer>Made by <code>lcl report</code>. Hover over curves and points for their "
                  "values.</footer>\n</main></body></html>\n");
}
