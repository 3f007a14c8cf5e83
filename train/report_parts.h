/* Parts of the report that only train/report*.c share. */
#ifndef LCL_TRAIN_REPORT_PARTS_H
#define LCL_TRAIN_REPORT_PARTS_H

#include "train/episode_view.h"
#include "train/metrics.h"
#include "train/results.h"
#include "train/text.h"

enum { REPORT_MAX_RUNS = 32, REPORT_MAX_STAGES = 64 };
#define REPORT_SHOTS_AXIS "support pictures (shots)" /* drawn by powers of two, but with none */
#define REPORT_CHANCE \
    0.5 /* two labels in every evaluation episode; a figure of a sweep may differ */

struct report_run {
    char name[128]; /* folder; "" for the reported folder itself */
    struct lcl_metrics_table metrics;
    char *config;  /* config.yaml, malloc'd; NULL: none */
    double time_s; /* of its first line; infinite when unknown */
};

struct report {
    const char *dir;
    struct lcl_results results; /* n_rows 0: none */
    int n_runs;
    struct report_run runs[REPORT_MAX_RUNS];
    struct lcl_episode_view *views;
    size_t n_views, total_views;
    char views_file[64];
    uint8_t *sheet; /* neighbors.png; NULL: none */
    size_t sheet_size;
    struct json_t *sweep;  /* sweep.json; NULL: none */
    char *config;          /* DIR/config.yaml when DIR is no run itself */
    struct lcl_text notes; /* <li> items: what was left out and why */
};

/* One page is written; `report_note` says on it what is missing (plain text). */
void report_note(struct report *r, const char *fmt, ...) LCL_PRINTF(2, 3);
/* r: zeroed. */
LCL_CHECKED lcl_status report_load(struct report *r, const char *dir);
void report_free(struct report *r);

/* ---- style ---- */
extern const char report_page_css[], report_chart_css[];

/* ---- sections ---- */
void report_html_page(struct lcl_text *t, struct report *r);
void report_html_training(struct lcl_text *t, struct report *r);
void report_html_episodes(struct lcl_text *t, struct report *r);
/* Figures of lcl sweep, where DIR/sweep.json is; report_load calls the first. */
LCL_CHECKED lcl_status report_load_sweep(struct report *r);
void report_free_sweep(struct report *r);
void report_html_sweep(struct lcl_text *t, struct report *r);
/* The results of a figure of sweep.json, with its axis and chance and which rows are printed; they
 * hold while `figure` does. */
LCL_CHECKED lcl_status report_read_figure(const struct json_t *figure, struct lcl_results *r);
/* "91.2 %"; "n/a" for NaN. */
void report_percent(struct lcl_text *t, double share);

/* ---- charts ---- */
/* Distinct shot counts of all rows in ascending order; how many. */
int report_all_shots(const struct lcl_results *r, double out[LCL_RESULTS_MAX_CELLS]);
/* What a cell was measured by: greedy answers, or likelihood where there are none. */
enum lcl_result_measure report_measure_of(const struct lcl_result_cell *c);
/* What a row of results.json is called for people; the row's own name where it is not known. */
const char *report_row_title(const char *row);
/* Colour, dash and marker of a row, 0..: by its name, or in a figure of a sweep by its place among
 * those that were measured; a printed row has those of the run that its name ends with. */
int report_row_series(const struct lcl_results *r, int row);
/* One panel of accuracy by shots in its own <svg>; false, nothing written, when no row has that
 * measure. */
bool report_svg_accuracy(struct lcl_text *t, const struct lcl_results *r,
                         enum lcl_result_measure measure);
/* <ul> legend of all rows for the page. */
void report_html_legend(struct lcl_text *t, const struct lcl_results *r);

struct report_mark {
    double x, y;
    int series;
    char title[96];
};
struct report_curve {
    const char *title; /* "loss" */
    bool percent;      /* y in 0..1, shown as percent over the whole range */
    size_t n;
    const double *x, *y; /* [n], x ascending (steps); y may hold NaN */
    size_t n_marks;
    const struct report_mark
        *marks; /* measured apart (evaluations): joined by series in their order */
};
/* Faint raw values under a smoothed line, in its own <svg>. Log y where the loss spans more than
 * a decade. */
void report_svg_curve(struct lcl_text *t, const struct report_curve *c);
/* A marker of a series centred at x, y. */
void report_svg_marker(struct lcl_text *t, int series, double x, double y);

#endif
