/* The figures of a sweep as files for a document: a picture each, and their tables in Markdown. */
#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/report.h"
#include "train/report_parts.h"

enum { SLUG_BYTES = 72 };

/* "Strategies (Table 2)" -> "strategies-table-2"; cut after a whole word. */
static void slug_of(const char *title, char out[SLUG_BYTES])
{
    size_t n = 0, word = 0; /* up to the last whole word */
    for (; *title && n + 1 < SLUG_BYTES; title++) {
        const unsigned char c = (unsigned char)*title;
        if (isalnum(c) && c < 0x80)
            out[n++] = (char)tolower(c);
        else if (n > 0 && out[n - 1] != '-')
            out[word = n++] = '-';
    }
    if (*title && word > 0) n = word;
    while (n > 0 && out[n - 1] == '-') n--;
    out[n] = '\0';
    if (n == 0) snprintf(out, SLUG_BYTES, "figure");
}

/* Text within a line or a cell of Markdown. */
static void put_plain(struct lcl_text *t, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (strchr("|\\`*_<>[]", c)) lcl_text_puts(t, "\\");
        lcl_text_bytes(t, c < 0x20 ? " " : text, 1);
    }
}

/* The best measured number of a column; NaN where all are alike, or one alone. */
static double best_at(const struct lcl_results *r, enum lcl_result_measure measure, int64_t x)
{
    double best = (double)NAN, least = (double)NAN, interval[2];
    for (int i = 0; i < r->n_rows; i++) {
        const struct lcl_result_cell *c = lcl_results_find(r, r->rows[i].name, x);
        if (!c || r->rows[i].printed) continue;
        const double v = lcl_result_value(c, measure, interval);
        best = fmax(best, v); /* which ignore NaN */
        least = fmin(least, v);
    }
    return best > least ? best : (double)NAN;
}

static void put_cell(struct lcl_text *t, const struct lcl_results *r, int row,
                     enum lcl_result_measure measure, int64_t x)
{
    const struct lcl_result_cell *c = lcl_results_find(r, r->rows[row].name, x);
    double interval[2], v = c ? lcl_result_value(c, measure, interval) : (double)NAN;
    lcl_text_puts(t, " |");
    if (isnan(v)) return;
    const bool best = !r->rows[row].printed && v >= best_at(r, measure, x);
    lcl_text_printf(t, best ? " **%.3f**" : " %.3f", v);
    if (!isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, " [%.3f, %.3f]", interval[0], interval[1]);
}

static bool has_row(const struct lcl_results *r, int row, enum lcl_result_measure measure)
{
    double interval[2];
    for (int k = 0; k < r->rows[row].n; k++)
        if (!isnan(lcl_result_value(&r->rows[row].cells[k], measure, interval))) return true;
    return false;
}

static void put_table(struct lcl_text *t, const struct lcl_results *r,
                      enum lcl_result_measure measure, const char *title)
{
    double x[LCL_RESULTS_MAX_CELLS];
    const int n = report_all_shots(r, x);
    bool any = false;
    for (int i = 0; i < r->n_rows; i++) any = any || has_row(r, i, measure);
    if (!any) return;
    lcl_text_printf(t, "| %s; ", title);
    put_plain(t, r->axis);
    for (int k = 0; k < n; k++) lcl_text_printf(t, " | %.0f", x[k]);
    lcl_text_puts(t, " |\n|---");
    for (int k = 0; k < n; k++) lcl_text_puts(t, "|--:");
    lcl_text_puts(t, "|\n");
    for (int i = 0; i < r->n_rows; i++) {
        if (!has_row(r, i, measure)) continue;
        lcl_text_puts(t, "| ");
        put_plain(t, r->rows[i].name);
        for (int k = 0; k < n; k++) put_cell(t, r, i, measure, (int64_t)x[k]);
        lcl_text_puts(t, " |\n");
    }
    lcl_text_puts(t, "\n");
}

static lcl_status write_svg(const char *dir, const char *name, const struct lcl_results *r)
{
    char *path = lcl_strdupf("%s/%s.svg", dir, name);
    lcl_status status =
        path ? lcl_plot_accuracy_file(r, path) : LCL_FAIL(LCL_MEMORY, "out of memory for a path");
    free(path);
    return status;
}

static const char *title_of(const json_t *figures, size_t i)
{
    const char *title = json_string_value(json_object_get(json_array_get(figures, i), "title"));
    return title ? title : "";
}

/* Its slug, and its number too where an earlier figure has the same. */
static void name_of(const json_t *figures, size_t i, char name[SLUG_BYTES + 24])
{
    char slug[SLUG_BYTES], other[SLUG_BYTES];
    bool taken = false;
    slug_of(title_of(figures, i), slug);
    for (size_t k = 0; k < i && !taken; k++) {
        slug_of(title_of(figures, k), other);
        taken = strcmp(slug, other) == 0;
    }
    snprintf(name, SLUG_BYTES + 24, taken ? "%s-figure-%zu" : "%s", slug, i + 1);
}

static lcl_status put_figure(struct lcl_text *t, const json_t *figures, size_t index,
                             const char *dir, struct lcl_results *r)
{
    const json_t *figure = json_array_get(figures, index);
    const char *title = title_of(figures, index),
               *note = json_string_value(json_object_get(figure, "note"));
    char name[SLUG_BYTES + 24];
    LCL_TRY(report_read_figure(figure, r));
    name_of(figures, index, name);
    lcl_text_puts(t, "\n## ");
    put_plain(t, title);
    lcl_text_puts(t, "\n");
    if (note) put_plain(t, note);
    if (r->n_rows == 0) {
        lcl_text_puts(t, "\n\nNot measured yet.\n");
        return LCL_OK;
    }
    LCL_TRY(write_svg(dir, name, r));
    lcl_text_puts(t, "\n\n![");
    put_plain(t, title);
    lcl_text_printf(t, "](%s.svg)\n\n", name);
    put_table(t, r, LCL_BY_GREEDY, "greedy answer");
    put_table(t, r, LCL_BY_LIKELIHOOD, "by likelihood");
    return LCL_OK;
}

lcl_status lcl_report_figures(const char *dir, const char *out)
{
    struct report *r = calloc(1, sizeof *r);
    struct lcl_results *results = malloc(sizeof *results);
    struct lcl_text page = {0};
    char *path = lcl_strdupf("%s/figures.md", out);
    lcl_status status = LCL_OK;
    if (!r || !results || !path) {
        status = LCL_FAIL(LCL_MEMORY, "out of memory for the figures of %s", dir);
        goto out;
    }
    r->dir = dir;
    LCL_TRY_GOTO(report_load_sweep(r));
    const json_t *figures = json_object_get(r->sweep, "figures");
    if (json_array_size(figures) == 0) {
        status =
            LCL_FAIL_HINT(LCL_NOT_FOUND, "lcl sweep FILE writes it, of the figures of its file",
                          "%s has no sweep.json with figures", dir);
        goto out;
    }
    LCL_TRY_GOTO(lcl_fs_mkdirs(out));
    lcl_text_puts(&page, "# Figures\n\nMeans over seeds with 95 % intervals (Student's t over "
                         "seeds; of a single seed, its own by bootstrap over classes). The best "
                         "measured number of a column is bold.\n");
    for (size_t i = 0; i < json_array_size(figures); i++)
        LCL_TRY_GOTO(put_figure(&page, figures, i, out, results));
    LCL_TRY_GOTO(lcl_text_check(&page));
    LCL_TRY_GOTO(lcl_fs_write_atomic(path, page.data, page.size));
out:
    lcl_text_free(&page);
    if (r) report_free_sweep(r);
    free(path);
    free(results);
    free(r);
    return status;
}
