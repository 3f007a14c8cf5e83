/* Sweeps: runs from one file, each with every seed, their evaluations, and figures of the
 * accuracies (docs/formats.md has the file).
 *
 * A unit is one run with one seed: its training, then its evaluations. Its folder is
 * OUTPUT_DIR/RUN/seed-N. What is done is found again by what it left there, so a sweep that was
 * stopped goes on. */
#ifndef LCL_TRAIN_SWEEP_H
#define LCL_TRAIN_SWEEP_H

#include "train/results.h"

enum {
    LCL_SWEEP_MAX_RUNS = 256,
    LCL_SWEEP_MAX_SEEDS = 64,
    LCL_SWEEP_MAX_SETS = 128,
    LCL_SWEEP_MAX_EVALS = 48,
    LCL_SWEEP_MAX_FIGURES = 32,
    LCL_SWEEP_MAX_LINES = 16, /* of a figure; the paper's too */
    LCL_SWEEP_NAME_BYTES = LCL_RESULTS_NAME_BYTES
};

#define LCL_SWEEP_SUMMARY "sweep.json" /* in the output folder */

struct lcl_sweep_sets {
    int n;
    char *v[LCL_SWEEP_MAX_SETS]; /* "key=value", {placeholders} not yet filled in */
};

void lcl_sweep_sets_free(struct lcl_sweep_sets *sets);

struct lcl_sweep_eval {
    char row[LCL_SWEEP_NAME_BYTES]; /* of results.json */
    struct lcl_sweep_sets sets;
};

struct lcl_sweep_run {
    char name[LCL_SWEEP_NAME_BYTES];
    char *config; /* to train; NULL: nothing is, `model` is evaluated */
    char *model;
    struct lcl_sweep_sets sets;
    int n_seeds;
    int64_t seeds[LCL_SWEEP_MAX_SEEDS];
    int n_evals;
    struct lcl_sweep_eval *evals;
    int line;
};

struct lcl_sweep_line {
    char name[LCL_SWEEP_NAME_BYTES];
    int run; /* -1: printed numbers */
    int n;   /* of printed numbers */
    int64_t x[LCL_RESULTS_MAX_CELLS];
    double y[LCL_RESULTS_MAX_CELLS];
};

struct lcl_sweep_figure {
    char *title, *axis, *note; /* note NULL: none */
    double chance;             /* what guessing gives; 0: not said */
    int64_t shots;             /* of every point; 0: the shots are the axis, of the row `row` */
    char row[LCL_SWEEP_NAME_BYTES];
    int n_points; /* where shots > 0: rows by place on the axis */
    int64_t x[LCL_SWEEP_MAX_EVALS];
    char point[LCL_SWEEP_MAX_EVALS][LCL_SWEEP_NAME_BYTES];
    int n_lines;
    struct lcl_sweep_line lines[LCL_SWEEP_MAX_LINES];
};

struct lcl_sweep {
    char *path, *output_dir;
    int n_seeds;
    int64_t seeds[LCL_SWEEP_MAX_SEEDS];
    struct lcl_sweep_sets sets; /* of all runs */
    int n_runs;
    struct lcl_sweep_run *runs;
    int n_figures;
    struct lcl_sweep_figure *figures;
};

/* Reads a file. LCL_CONFIG errors name file and line; configs are not read yet. lcl_sweep_free. */
LCL_CHECKED lcl_status lcl_sweep_load(const char *path, struct lcl_sweep **out);
void lcl_sweep_free(struct lcl_sweep *s);

struct lcl_sweep_unit {
    int run; /* index */
    int64_t seed;
    int level;   /* 0, or one more than the highest of the units that it begins with */
    char *dir;   /* OUTPUT_DIR/RUN/seed-N */
    char *model; /* what is evaluated: dir, or the run's model */
    struct lcl_sweep_sets sets;   /* of the training, filled in; output_dir and seed last */
    struct lcl_sweep_sets *evals; /* [n_evals of the run] of each evaluation, filled in */
};
/* All units: seed by seed, in the order of the runs; every config is read with its settings, so
 * that what a later unit would refuse is refused now. lcl_sweep_units_free. */
LCL_CHECKED lcl_status lcl_sweep_units(const struct lcl_sweep *s, struct lcl_sweep_unit **units,
                                       int *n);
void lcl_sweep_units_free(const struct lcl_sweep *s, struct lcl_sweep_unit *units, int n);

/* OUTPUT_DIR/sweep.json: every figure with means over the seeds that are there, and their 95 %
 * intervals (Student's t over seeds; of one seed, its own); which settings differ. lcl report shows
 * it. *n_missing: cells of figures that no seed has yet. */
LCL_CHECKED lcl_status lcl_sweep_summarise(const struct lcl_sweep *s,
                                           const struct lcl_sweep_unit *units, int n,
                                           int *n_missing);

#endif
