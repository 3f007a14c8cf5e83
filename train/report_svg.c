/* Charts as inline SVG. Colours come from classes s0.. (report_style.c), each with its own dash and
 * marker besides. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/report.h"
#include "train/report_parts.h"

enum { MAX_TICKS = 24, MAX_POINTS = 400, MAX_HOVER = 48, N_SERIES = 6 };

/* A plot area in SVG units and the data range it shows. */
struct frame {
    double x0, y0, width, height; /* upper left corner and size */
    double x_low, x_high, y_low, y_high;
    bool x_log, y_log, percent;
};

static double place(double v, double low, double high, bool log_scale)
{
    if (log_scale) return (log(v) - log(low)) / (log(high) - log(low));
    return (v - low) / (high - low);
}
static double at_x(const struct frame *f, double x)
{
    return f->x0 + f->width * place(x, f->x_low, f->x_high, f->x_log);
}
static double at_y(const struct frame *f, double y)
{
    double share = place(y, f->y_low, f->y_high, f->y_log);
    return f->y0 + f->height * (1 - fmin(fmax(share, 0), 1));
}

/* ---- ticks ---- */

static int linear_ticks(double low, double high, double out[MAX_TICKS])
{
    double raw = (high - low) / 4.5, power = pow(10, floor(log10(raw))), m = raw / power;
    double step = power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
    int n = 0;
    for (double v = ceil(low / step - 1e-9) * step; v <= high + step * 1e-9 && n < MAX_TICKS;
         v += step)
        out[n++] = fabs(v) < step * 1e-9 ? 0 : v;
    return n;
}

/* 1, 2, 5 a decade; powers of ten only over many decades. */
static int log_ticks(double low, double high, double out[MAX_TICKS])
{
    static const double parts[] = {1, 2, 5};
    int n = 0, stride = log10(high / low) > 2.5 ? 3 : 1;
    for (int e = (int)floor(log10(low)); e <= (int)ceil(log10(high)); e++)
        for (int k = 0; k < 3; k += stride) {
            double v = parts[k] * pow(10, e);
            if (v >= low * 0.999 && v <= high * 1.001 && n < MAX_TICKS) out[n++] = v;
        }
    return n;
}

static void tick_text(struct lcl_text *t, double v, bool percent)
{
    if (percent)
        lcl_text_printf(t, "%g %%", round(v * 1000) / 10);
    else if (fabs(v) >= 1e6)
        lcl_text_printf(t, "%gM", v / 1e6);
    else if (fabs(v) >= 1e4)
        lcl_text_printf(t, "%gk", v / 1e3);
    else
        lcl_text_printf(t, "%.4g", v);
}

static void draw_frame(struct lcl_text *t, const struct frame *f, const double *x_ticks, int n_x,
                       const char *x_title)
{
    double ticks[MAX_TICKS], last = -1e9, right = f->x0 + f->width, bottom = f->y0 + f->height;
    int n =
        f->y_log ? log_ticks(f->y_low, f->y_high, ticks) : linear_ticks(f->y_low, f->y_high, ticks);
    for (int i = 0; i < n; i++) {
        double y = at_y(f, ticks[i]);
        lcl_text_printf(t, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>", f->x0, y, right);
        lcl_text_printf(t, "<text class=\"tk\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
                        f->x0 - 8, y + 4);
        tick_text(t, ticks[i], f->percent);
        lcl_text_puts(t, "</text>");
    }
    lcl_text_printf(t, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>", f->x0, bottom, right);
    for (int i = 0; i < n_x; i++) {
        double x = at_x(f, x_ticks[i]);
        lcl_text_printf(t, "<path class=\"axis\" d=\"M%.1f %.1fv5\"/>", x, bottom);
        if (x - last < 34) continue;
        last = x;
        lcl_text_printf(t, "<text class=\"tk\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x,
                        bottom + 19);
        tick_text(t, x_ticks[i], false);
        lcl_text_puts(t, "</text>");
    }
    lcl_text_printf(t, "<text class=\"tk\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                    f->x0 + f->width / 2, bottom + 38);
    lcl_text_html(t, x_title);
    lcl_text_puts(t, "</text>\n");
}

/* ---- markers and rows ---- */

void report_svg_marker(struct lcl_text *t, int series, double x, double y)
{
    static const char *const shapes[N_SERIES] = {
        "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", /* disc */
        "m-4-4h8v8h-8z",                                /* square */
        "m0-5.4l5 9h-10z",                              /* triangle */
        "m0-5.6l5.6 5.6l-5.6 5.6l-5.6-5.6z",            /* diamond */
        "m-5-2h3v-3h4v3h3v4h-3v3h-4v-3h-3z",            /* cross */
        "m0 5.4l5-9h-10z"                               /* triangle upside down */
    };
    lcl_text_printf(t, "<path class=\"mk\" d=\"M%.1f %.1f%s\"", x, y, shapes[series % N_SERIES]);
}

static const char *const dashes[N_SERIES] = {"", "9 4", "2 4", "7 3 2 3", "12 3", "4 4"};

static void open_line(struct lcl_text *t, int series)
{
    lcl_text_puts(t, "<path class=\"ln\"");
    if (dashes[series % N_SERIES][0])
        lcl_text_printf(t, " stroke-dasharray=\"%s\"", dashes[series % N_SERIES]);
    lcl_text_puts(t, " d=\"");
}

static const struct {
    const char *name, *title;
} row_titles[] = {{"lcl", "after link-context training"},
                  {"lcl_made_up", "after, both labels made up"},
                  {"before", "before link-context training"},
                  {"shuffled_labels", "shuffled support labels"},
                  {"prototype", "nearest prototype on vision features"}};

enum { N_TITLES = sizeof row_titles / sizeof *row_titles };

static int known_row(const char *row)
{
    for (int i = 0; i < N_TITLES; i++)
        if (strcmp(row_titles[i].name, row) == 0) return i;
    return N_TITLES;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && name[n - m - 1] == ' ' && strcmp(name + n - m, end) == 0;
}

int report_row_series(const struct lcl_results *r, int row)
{
    int measured = 0, printed = 0, of = -1;
    if (!r->axis) return known_row(r->rows[row].name);
    for (int i = 0; i < r->n_rows; i++) {
        if (r->rows[i].printed) {
            printed += i < row;
            continue;
        }
        if (i == row || (r->rows[row].printed && ends_with(r->rows[row].name, r->rows[i].name)))
            of = measured;
        measured++;
    }
    return (of >= 0 ? of : measured + printed) % N_SERIES;
}

const char *report_row_title(const char *row)
{
    int i = known_row(row);
    return i < N_TITLES ? row_titles[i].title : row;
}

/* ---- accuracy by shots ---- */

static bool has_measure(const struct lcl_result_row *row, enum lcl_result_measure measure)
{
    double interval[2];
    for (int k = 0; k < row->n; k++)
        if (!isnan(lcl_result_value(&row->cells[k], measure, interval))) return true;
    return false;
}

static bool any_measure(const struct lcl_results *r, enum lcl_result_measure measure)
{
    for (int i = 0; i < r->n_rows; i++)
        if (has_measure(&r->rows[i], measure)) return true;
    return false;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int report_all_shots(const struct lcl_results *r, double out[LCL_RESULTS_MAX_CELLS])
{
    int n = 0;
    for (int i = 0; i < r->n_rows; i++)
        for (int k = 0; k < r->rows[i].n; k++) {
            double shots = (double)r->rows[i].cells[k].shots;
            bool seen = false;
            for (int j = 0; j < n; j++) seen = seen || out[j] == shots;
            if (!seen && n < LCL_RESULTS_MAX_CELLS) out[n++] = shots;
        }
    qsort(out, (size_t)n, sizeof *out, by_value);
    return n;
}

/* A row that lies far below chance throughout (a model that does not yet answer in words) would
 * squeeze the others: its best value is written below the chart instead. */
#define FAR_BELOW (REPORT_CHANCE - 0.2)

/* Highest value of a row, NaN without any. */
static double best_of(const struct lcl_result_row *row, enum lcl_result_measure measure)
{
    double best = (double)NAN, interval[2];
    for (int k = 0; k < row->n; k++)
        best = fmax(best, lcl_result_value(&row->cells[k], measure, interval));
    return best;
}

/* In figures of sweeps all are: what stays at none is a finding there. */
static bool is_drawn(const struct lcl_results *r, int row, enum lcl_result_measure measure)
{
    const struct lcl_result_row *of = &r->rows[row];
    return has_measure(of, measure) && (r->axis || best_of(of, measure) >= FAR_BELOW);
}

static double chance_of(const struct lcl_results *r)
{
    return r->chance > 0 ? r->chance : REPORT_CHANCE;
}

static struct frame accuracy_frame(const struct lcl_results *r, enum lcl_result_measure measure,
                                   double x0, double y0, const double *shots, int n_shots)
{
    double low = chance_of(r), interval[2];
    for (int i = 0; i < r->n_rows; i++) {
        if (!is_drawn(r, i, measure)) continue;
        for (int k = 0; k < r->rows[i].n; k++) {
            double v = lcl_result_value(&r->rows[i].cells[k], measure, interval);
            low = fmin(low, fmin(v, interval[0])); /* fmin ignores NaN */
        }
    }
    struct frame f = {.x0 = x0, .y0 = y0, .width = 366, .height = 236, .percent = true};
    f.y_low = floor((low - 0.02) * 10) / 10;
    if (f.y_low < 0.15) f.y_low = 0;
    f.y_high = 1;
    f.x_log = shots[0] >= 1 && (!r->axis || strcmp(r->axis, REPORT_SHOTS_AXIS) == 0);
    double first = shots[0], last = shots[n_shots - 1];
    double room =
        last > first ? 0.08 * (last - first) : 1; /* at either side, for the rows' shifts */
    f.x_low = f.x_log ? first / 1.25 : first - room;
    f.x_high = f.x_log ? last * 1.25 : last + room;
    return f;
}

static void note_rows_below(struct lcl_text *t, const struct lcl_results *r,
                            enum lcl_result_measure measure, double x, double y)
{
    for (int i = 0; i < r->n_rows; i++) {
        if (!has_measure(&r->rows[i], measure) || is_drawn(r, i, measure)) continue;
        lcl_text_printf(t, "<text class=\"tk\" x=\"%.1f\" y=\"%.1f\">", x, y);
        lcl_text_html(t, report_row_title(r->rows[i].name));
        lcl_text_printf(t, ": at most %.1f %%, below the axis</text>\n",
                        100 * best_of(&r->rows[i], measure));
        y += 18;
    }
}

static void draw_cell(struct lcl_text *t, const struct frame *f, int series, double x, double v,
                      const double interval[2], const struct lcl_result_cell *c, const char *title,
                      const char *axis)
{
    if (!isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, "<path class=\"wk\" d=\"M%.1f %.1fV%.1fm-3 0h6M%.1f %.1fh6\"/>", x,
                        at_y(f, interval[0]), at_y(f, interval[1]), x - 3, at_y(f, interval[0]));
    report_svg_marker(t, series, x, at_y(f, v));
    lcl_text_puts(t, "><title>");
    lcl_text_html(t, title);
    lcl_text_printf(t, axis ? ", at %lld: %.1f %%" : ", %lld shots: %.1f %%", (long long)c->shots,
                    100 * v);
    if (!isnan(interval[0]) && !isnan(interval[1]))
        lcl_text_printf(t, " (95 %% interval %.1f to %.1f)", 100 * interval[0], 100 * interval[1]);
    lcl_text_puts(t, "</title></path>");
}

static void draw_row(struct lcl_text *t, const struct frame *f, const struct lcl_results *r,
                     int index, enum lcl_result_measure measure, double shift)
{
    const struct lcl_result_row *row = &r->rows[index];
    int series = report_row_series(r, index);
    double interval[2];
    bool drawn = false;
    lcl_text_printf(t, row->printed ? "<g class=\"s%d pr\">" : "<g class=\"s%d\">", series);
    open_line(t, series);
    for (int k = 0; k < row->n; k++) {
        double v = lcl_result_value(&row->cells[k], measure, interval);
        if (isnan(v)) continue;
        lcl_text_printf(t, "%c%.1f %.1f", drawn ? 'L' : 'M',
                        at_x(f, (double)row->cells[k].shots) + shift, at_y(f, v));
        drawn = true;
    }
    lcl_text_puts(t, "\"/>");
    for (int k = 0; k < row->n; k++) {
        double v = lcl_result_value(&row->cells[k], measure, interval);
        if (!isnan(v))
            draw_cell(t, f, series, at_x(f, (double)row->cells[k].shots) + shift, v, interval,
                      &row->cells[k], report_row_title(row->name), r->axis);
    }
    lcl_text_puts(t, "</g>\n");
}

static const char *const measure_titles[] = {"Greedy answer", "By likelihood"};

/* Title, axes, chance line and rows; later rows lie below, so that the model's own is on top. */
static void draw_accuracy(struct lcl_text *t, const struct lcl_results *r,
                          enum lcl_result_measure measure, double x0, double y0)
{
    double shots[LCL_RESULTS_MAX_CELLS];
    int n_shots = report_all_shots(r, shots), shown = 0, k = 0;
    struct frame f = accuracy_frame(r, measure, x0, y0, shots, n_shots);
    lcl_text_printf(t, "<text class=\"ti\" x=\"%.1f\" y=\"%.1f\">%s</text>", x0, y0 - 16,
                    measure_titles[measure]);
    draw_frame(t, &f, shots, n_shots, r->axis ? r->axis : REPORT_SHOTS_AXIS);
    lcl_text_printf(t,
                    "<path class=\"chance\" d=\"M%.1f %.1fh%.1f\"><title>chance: %g %%</title>"
                    "</path>\n",
                    x0, at_y(&f, chance_of(r)), f.width, 100 * chance_of(r));
    for (int i = 0; i < r->n_rows; i++) shown += is_drawn(r, i, measure);
    double apart =
        10; /* sideways between rows of one shot count; less where shot counts lie close */
    for (int i = 1; i < n_shots; i++)
        apart = fmin(apart, 0.7 * (at_x(&f, shots[i]) - at_x(&f, shots[i - 1])) / (shown + 1));
    for (int i = r->n_rows - 1; i >= 0; i--)
        if (is_drawn(r, i, measure))
            draw_row(t, &f, r, i, measure, apart * ((shown - 1) / 2.0 - k++));
    note_rows_below(t, r, measure, x0, y0 + f.height + 62);
}

/* Rows that are noted below the axis of either panel, at most. */
static int count_below(const struct lcl_results *r)
{
    int most = 0;
    for (int m = 0; m < 2; m++) {
        int n = 0;
        for (int i = 0; i < r->n_rows; i++)
            n += has_measure(&r->rows[i], (enum lcl_result_measure)m) &&
                 !is_drawn(r, i, (enum lcl_result_measure)m);
        most = n > most ? n : most;
    }
    return most;
}

bool report_svg_accuracy(struct lcl_text *t, const struct lcl_results *r,
                         enum lcl_result_measure measure)
{
    if (!any_measure(r, measure)) return false;
    lcl_text_printf(t,
                    "<svg class=\"chart\" viewBox=\"0 0 440 %d\" role=\"img\" "
                    "aria-label=\"Accuracy by shots, %s; the table below has the numbers\">\n",
                    326 + 18 * count_below(r), measure_titles[measure]);
    draw_accuracy(t, r, measure, 58, 40);
    lcl_text_puts(t, "</svg>\n");
    return true;
}

/* A line with its marker, 34 wide, centred on y. */
static void draw_key(struct lcl_text *t, const struct lcl_results *r, int row, double x, double y)
{
    int series = report_row_series(r, row);
    lcl_text_printf(t, r->rows[row].printed ? "<g class=\"s%d pr\">" : "<g class=\"s%d\">", series);
    open_line(t, series);
    lcl_text_printf(t, "M%.1f %.1fh34\"/>", x, y);
    report_svg_marker(t, series, x + 17, y);
    lcl_text_puts(t, "/></g>");
}

void report_html_legend(struct lcl_text *t, const struct lcl_results *r)
{
    lcl_text_puts(t, "<ul class=\"legend\">");
    for (int i = 0; i < r->n_rows; i++) {
        lcl_text_puts(t,
                      "<li><svg class=\"chart key\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">");
        draw_key(t, r, i, 0, 7);
        lcl_text_puts(t, "</svg>");
        lcl_text_html(t, report_row_title(r->rows[i].name));
        lcl_text_puts(t, "</li>\n");
    }
    lcl_text_puts(t, "<li><svg class=\"chart key\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">"
                     "<path class=\"chance\" d=\"M0 7h34\"/></svg>chance</li></ul>\n");
}

lcl_status lcl_plot_accuracy(const struct lcl_results *results, struct lcl_text *svg)
{
    int panels = 0;
    bool has[2];
    for (int m = 0; m < 2; m++) panels += has[m] = any_measure(results, (enum lcl_result_measure)m);
    if (!panels) return LCL_FAIL(LCL_NOT_FOUND, "the results hold no accuracy to draw");
    int columns = panels, lines = (results->n_rows + columns) / columns; /* rows and chance */
    int width = 440 * panels, top = 346 + 18 * count_below(results), height = top + 24 * lines;
    lcl_text_printf(svg,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" "
                    "viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
                    "aria-label=\"Accuracy by shots on classes never trained on\">\n<style>%s"
                    "</style>\n<rect class=\"bg\" width=\"100%%\" height=\"100%%\"/>\n",
                    width, height, width, height, report_chart_css);
    for (int m = 0, x = 58; m < 2; m++) {
        if (!has[m]) continue;
        draw_accuracy(svg, results, (enum lcl_result_measure)m, x, 40);
        x += 440;
    }
    for (int i = 0; i <= results->n_rows; i++) {
        double x = 58 + 440 * (i / lines), y = top + 24 * (i % lines);
        bool chance = i == results->n_rows;
        if (chance)
            lcl_text_printf(svg, "<path class=\"chance\" d=\"M%.1f %.1fh34\"/>", x, y);
        else
            draw_key(svg, results, i, x, y);
        lcl_text_printf(svg, "<text x=\"%.1f\" y=\"%.1f\">", x + 44, y + 4.5);
        lcl_text_html(svg, chance ? "chance" : report_row_title(results->rows[i].name));
        lcl_text_puts(svg, "</text>\n");
    }
    lcl_text_puts(svg, "</svg>\n");
    return lcl_text_check(svg);
}

lcl_status lcl_plot_accuracy_file(const struct lcl_results *results, const char *path)
{
    struct lcl_text svg = {0};
    lcl_status status = lcl_plot_accuracy(results, &svg);
    if (status == LCL_OK) status = lcl_fs_write_atomic(path, svg.data, svg.size);
    lcl_text_free(&svg);
    return status;
}

/* ---- training curves ---- */

struct point {
    double x, raw, smooth; /* a bin of the curve: its last step, mean of its values, smoothed */
};

/* Centred triangular mean (it does not lag) over about 1/20 of the curve. */
static void smooth(struct point *p, size_t n)
{
    size_t radius = n / 40 + (n > 10);
    for (size_t i = 0; i < n; i++) {
        double sum = 0, weight = 0;
        for (size_t k = i > radius ? i - radius : 0; k < n && k <= i + radius; k++) {
            double w = (double)(radius + 1) - fabs((double)k - (double)i);
            sum += w * p[k].raw;
            weight += w;
        }
        p[i].smooth = sum / weight;
    }
}

static size_t bin(const struct report_curve *c, struct point out[MAX_POINTS])
{
    size_t finite = 0, bins = 0, in_bin = 0, done = 0;
    double of_bin = 0;
    for (size_t i = 0; i < c->n; i++) finite += isfinite(c->y[i]) != 0;
    size_t wanted = finite < MAX_POINTS ? finite : MAX_POINTS;
    for (size_t i = 0; i < c->n && bins < wanted; i++) {
        if (!isfinite(c->y[i])) continue;
        of_bin += c->y[i];
        in_bin++;
        done++;
        if (done * wanted < (bins + 1) * finite) continue;
        out[bins++] = (struct point){c->x[i], of_bin / (double)in_bin, 0};
        of_bin = 0;
        in_bin = 0;
    }
    smooth(out, bins);
    return bins;
}

static struct frame curve_frame(const struct report_curve *c, const struct point *p, size_t n)
{
    struct frame f = {.x0 = 58, .y0 = 36, .width = 366, .height = 168, .percent = c->percent};
    f.x_low = p[0].x;
    f.x_high = p[n - 1].x;
    f.y_low = f.y_high = p[0].raw;
    for (size_t i = 0; i < n; i++) {
        f.y_low = fmin(f.y_low, p[i].raw);
        f.y_high = fmax(f.y_high, p[i].raw);
    }
    for (size_t i = 0; i < c->n_marks; i++) {
        f.x_low = fmin(f.x_low, c->marks[i].x);
        f.x_high = fmax(f.x_high, c->marks[i].x);
    }
    if (f.x_high <= f.x_low) f.x_high = f.x_low + 1;
    if (f.x_low < f.x_high / 10) f.x_low = 0;
    if (c->percent) {
        f.y_low = 0;
        f.y_high = 1;
        return f;
    }
    f.y_log = f.y_low > 0 && f.y_high / f.y_low > 10;
    if (f.y_log) {
        f.y_low /= 1.15;
        f.y_high *= 1.15;
    } else {
        double pad = fmax(0.06 * (f.y_high - f.y_low), 0.01 * fabs(f.y_high) + 1e-6);
        f.y_low = f.y_low >= 0 ? fmax(f.y_low - pad, 0) : f.y_low - pad;
        f.y_high += pad;
    }
    return f;
}

static void draw_marks(struct lcl_text *t, const struct frame *f, const struct report_curve *c)
{
    for (int series = 0; series < N_SERIES; series++) {
        bool drawn = false;
        for (size_t i = 0; i < c->n_marks; i++) {
            if (c->marks[i].series != series) continue;
            if (!drawn) {
                lcl_text_printf(t, "<g class=\"s%d\">", series);
                open_line(t, series);
            }
            lcl_text_printf(t, "%c%.1f %.1f", drawn ? 'L' : 'M', at_x(f, c->marks[i].x),
                            at_y(f, c->marks[i].y));
            drawn = true;
        }
        if (!drawn) continue;
        lcl_text_puts(t, "\"/>");
        for (size_t i = 0; i < c->n_marks; i++) {
            if (c->marks[i].series != series) continue;
            report_svg_marker(t, series, at_x(f, c->marks[i].x), at_y(f, c->marks[i].y));
            lcl_text_puts(t, "><title>");
            lcl_text_html(t, c->marks[i].title);
            lcl_text_puts(t, "</title></path>");
        }
        lcl_text_puts(t, "</g>\n");
    }
}

/* Invisible columns that carry the values as tooltips. */
static void draw_hover(struct lcl_text *t, const struct frame *f, const struct report_curve *c,
                       const struct point *p, size_t n)
{
    size_t columns = n < MAX_HOVER ? n : MAX_HOVER;
    double left = f->x0;
    for (size_t k = 0; k < columns; k++) {
        size_t i = (k + 1) * n / columns - 1, next = i + 1 < n ? i + 1 : i;
        double right = (at_x(f, p[i].x) + at_x(f, p[next].x)) / 2, scale = c->percent ? 100 : 1;
        lcl_text_printf(t,
                        "<rect class=\"hv\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                        "<title>step %.0f: %s %.4g%s, smoothed %.4g%s</title></rect>",
                        left, f->y0, fmax(right - left, 0.1), f->height, p[i].x, c->title,
                        scale * p[i].raw, c->percent ? " %" : "", scale * p[i].smooth,
                        c->percent ? " %" : "");
        left = right;
    }
}

void report_svg_curve(struct lcl_text *t, const struct report_curve *c)
{
    struct point p[MAX_POINTS];
    double ticks[MAX_TICKS];
    size_t n = bin(c, p);
    if (!n) return;
    struct frame f = curve_frame(c, p, n);
    lcl_text_printf(t,
                    "<svg class=\"chart\" viewBox=\"0 0 440 254\" role=\"img\" aria-label=\"%s by "
                    "step: from %.3g to %.3g\">\n<text class=\"ti\" x=\"58\" y=\"20\">%s%s</text>",
                    c->title, p[0].smooth, p[n - 1].smooth, c->title,
                    f.y_log ? " (log scale)" : "");
    draw_frame(t, &f, ticks, linear_ticks(f.x_low, f.x_high, ticks), "step");
    for (int strong = 0; strong < 2; strong++) {
        lcl_text_printf(t, "<g class=\"s0\"><path class=\"%s\" d=\"", strong ? "ln" : "raw");
        for (size_t i = 0; i < n; i++)
            lcl_text_printf(t, "%c%.1f %.1f", i ? 'L' : 'M', at_x(&f, p[i].x),
                            at_y(&f, strong ? p[i].smooth : p[i].raw));
        lcl_text_puts(t, "\"/></g>\n");
    }
    draw_hover(t, &f, c, p, n);
    draw_marks(t, &f, c);
    lcl_text_puts(t, "</svg>\n");
}
