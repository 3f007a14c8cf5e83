/* The report of a run: one HTML file that a browser opens from the disk, without network, scripts
 * or other files.
 *
 * Reads DIR/results.json, DIR/episodes.jsonl (else predictions.jsonl), DIR/neighbors.png,
 * DIR/config.yaml and the metrics.jsonl and config.yaml of DIR itself and of its folders (in the
 * order in which their runs began). What is missing is left out with a note on the page; what is
 * damaged also warns. Text from files is escaped. */
#ifndef LCL_TRAIN_REPORT_H
#define LCL_TRAIN_REPORT_H

#include "train/results.h"
#include "train/text.h"

enum { LCL_REPORT_EPISODES = 12 };

/* Writes the report of a run folder, or of a demo folder with runs in it. LCL_NOT_FOUND when there
 * is neither a result nor a metrics.jsonl. */
LCL_CHECKED lcl_status lcl_report_write(const char *dir, const char *html_path);

/* The figures of a sweep (DIR/sweep.json) for a document: in the folder `out`, made where it is
 * not there, a NAME.svg each, by its title, and figures.md with their notes and tables.
 * LCL_NOT_FOUND when there are none. */
LCL_CHECKED lcl_status lcl_report_figures(const char *dir, const char *out);

/* A standalone SVG of accuracy by shots with 95 % intervals: greedy answers and likelihood side by
 * side (one panel where only one was measured). LCL_NOT_FOUND when the results hold no accuracy. */
LCL_CHECKED lcl_status lcl_plot_accuracy(const struct lcl_results *results, struct lcl_text *svg);
LCL_CHECKED lcl_status lcl_plot_accuracy_file(const struct lcl_results *results, const char *path);

#endif
