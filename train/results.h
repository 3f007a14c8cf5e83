/* results.json: accuracies by row and shot count, and seconds by stage.
 *
 *   {"lcl": {"2": {"greedy": 0.91, "likelihood": 0.93, "ci95": [0.89, 0.92], "episodes": 1000,
 * ...}, "4": ...}, "lcl_made_up": {...}, "before": {...}, "shuffled_labels": {...}, "prototype":
 * {...}, "seconds": {"vision": 70.1}}
 *
 * ci95 is the 95 % interval of greedy, and of likelihood where there is no greedy. What was not
 * measured is left out. Nearest prototype chooses between the two classes, so its accuracy is its
 * likelihood. */
#ifndef LCL_TRAIN_RESULTS_H
#define LCL_TRAIN_RESULTS_H

#include "train/text.h"

enum {
    LCL_RESULTS_MAX_ROWS = 64,
    LCL_RESULTS_MAX_CELLS = 64,
    LCL_RESULTS_MAX_SECONDS = 32,
    LCL_RESULTS_NAME_BYTES = 64
};

/* Numbers of a cell: X(key). Shares in 0..1; NaN where not measured.
 *   greedy: first quoted string of the greedy answer equals the label; likelihood: the label is the
 * likelier one; official: the official code's substring rule; positive, negative: greedy on queries
 * of either class; unparsed: greedy answers without a quoted string; cider: CIDEr-D of captions;
 * episodes: support sets; seeds: of how many runs this is the mean (sweeps). */
#define LCL_RESULTS_FIELDS(X) \
    X(greedy)                 \
    X(likelihood)             \
    X(official)               \
    X(positive)               \
    X(negative)               \
    X(unparsed)               \
    X(cider)                  \
    X(episodes)               \
    X(seeds)
/* Intervals of a cell: [low, high], NaN where not measured. */
#define LCL_RESULTS_INTERVALS(X) \
    X(ci95)                      \
    X(likelihood_ci95)

struct lcl_result_cell {
    int64_t shots; /* support pictures in all */
#define X(name) double name;
    LCL_RESULTS_FIELDS(X)
#undef X
#define X(name) double name[2];
    LCL_RESULTS_INTERVALS(X)
#undef X
};

struct lcl_result_row {
    char name[LCL_RESULTS_NAME_BYTES];
    bool printed; /* of a paper, in figures of a sweep: not kept in files */
    int n;        /* cells in ascending order of shots */
    struct lcl_result_cell cells[LCL_RESULTS_MAX_CELLS];
};

struct lcl_results {
    const char *axis; /* what the cells' numbers are where they are no shots (figures of a sweep):
                         not kept in files; NULL: shots */
    double chance;    /* what guessing gives, as `axis`; 0: a half */
    int n_rows;
    struct lcl_result_row rows[LCL_RESULTS_MAX_ROWS];
    int n_seconds;
    struct {
        char name[LCL_RESULTS_NAME_BYTES];
        double seconds;
    } seconds[LCL_RESULTS_MAX_SECONDS];
};

/* The cell of (row, shots), made with every number NaN where it is missing. LCL_RANGE when there
 * are too many. */
LCL_CHECKED lcl_status lcl_results_cell(struct lcl_results *r, const char *row, int64_t shots,
                                        struct lcl_result_cell **out);
/* Sets the seconds of a stage (adds a new one at the end). */
LCL_CHECKED lcl_status lcl_results_seconds(struct lcl_results *r, const char *stage,
                                           double seconds);
/* Row or cell, or NULL. */
const struct lcl_result_row *lcl_results_find_row(const struct lcl_results *r, const char *name);
const struct lcl_result_cell *lcl_results_find(const struct lcl_results *r, const char *row,
                                               int64_t shots);
/* Accuracy of a cell that a chart shows, with its interval (NaN where unknown): by greedy answer or
 * by likelihood. */
enum lcl_result_measure { LCL_BY_GREEDY, LCL_BY_LIKELIHOOD };
double lcl_result_value(const struct lcl_result_cell *c, enum lcl_result_measure measure,
                        double interval[2]);

/* The JSON object; the same read, `path` named in messages. */
struct json_t;
void lcl_results_text(const struct lcl_results *r, struct lcl_text *t);
LCL_CHECKED lcl_status lcl_results_read(const struct json_t *root, const char *path,
                                        struct lcl_results *out);
LCL_CHECKED lcl_status lcl_results_save(const struct lcl_results *r, const char *path);
/* Unknown keys of a cell are left out; a wrong type, a share outside 0..1 or a bad shot count is
 * LCL_FORMAT. */
LCL_CHECKED lcl_status lcl_results_load(const char *path, struct lcl_results *out);

#endif
