/* metrics.jsonl, the record of a run that programs read, and the same scalars as TensorBoard
 * events.
 *
 * One JSON object a line, each written whole and at once. Every line has kind, stage, step and
 * time; the rest are numbers (null: not finite). `step` counts the optimizer steps of the run, over
 * all of its stages; `time` is UNIX seconds.
 *
 *   {"kind":"train","stage":"several-way","step":120,"time":...,"loss":1.23,
 *    "label_accuracy":0.51,"lr":0.003,"grad_norm":0.8,"tokens_per_s":54321,"samples_per_s":800,
 *    "memory_bytes":312000000,"eta_s":80,"save_s":0.02,"seconds":12.5}
 *       means over the steps since the last such line; label_accuracy: share of supervised label
 *       tokens that are the argmax (any-shot: of answers that an earlier turn gave, where they
 *       differ from the conversation's others); save_s: seconds that training stood still for
 *       checkpoints; seconds: since the start of the stage. Of several
 *       ranks also "compute_s":9.1,"wait_s":0.3,"slowest_s":9.4,"slowest_rank":3: seconds at work
 *       and of waiting for other ranks (medians of the ranks) in those steps, and the rank that
 *       worked longest; and sent_bytes_gradients, sent_bytes_values: what all ranks sent together,
 *       a step
 *   {"kind":"eval","stage":...,"step":...,"time":...,"shots":2,"greedy":0.81,"likelihood":0.84,
 *    "episodes":100}
 *       accuracies on held-out classes, one line a shot count
 *   {"kind":"stage","stage":...,"step":...,"time":...,"steps":850,"seconds":70.1}
 *       one line at the end of a stage; step: the last of it
 *   {"kind":"neighbors","stage":...,"step":...,"time":...,"new_share":0.3,"seconds":4.2}
 *       a table made by data.refresh_neighbors; step: the first that draws from it; new_share: of
 *       the five hardest neighbors of the train classes, those that were not among them
 *
 * TensorBoard gets KIND/NAME, and KIND/NAME_Nshot for lines with shots. */
#ifndef LCL_TRAIN_METRICS_H
#define LCL_TRAIN_METRICS_H

#include "core/status.h"

enum { LCL_METRICS_PER_LINE = 64, LCL_METRIC_NAME_BYTES = 64 };

struct lcl_metric {
    const char *name; /* a JSON key; not kind, stage, step or time */
    double value;
};

struct lcl_metrics;

/* Opens output_dir/metrics.jsonl and an event file in output_dir/runs. resume_step < 0: a new run,
 * an old file is emptied. Else lines past resume_step, and a last line cut short, are removed
 * (atomically), so that the lines go on as if the run had never stopped; log a step's lines before
 * saving its checkpoint. evaluation_due: of resume_step only the "train" line is kept, what follows
 * it comes anew. */
LCL_CHECKED lcl_status lcl_metrics_open(const char *output_dir, int64_t resume_step,
                                        bool evaluation_due, struct lcl_metrics **out);
/* One line and one event; n <= LCL_METRICS_PER_LINE. m NULL: nothing is logged (ranks but the
 * first), here and below. */
LCL_CHECKED lcl_status lcl_metrics_log(struct lcl_metrics *m, const char *kind, const char *stage,
                                       int64_t step, const struct lcl_metric *values, size_t n);
/* fsync of both files: before a checkpoint that relies on them. */
LCL_CHECKED lcl_status lcl_metrics_sync(struct lcl_metrics *m);
void lcl_metrics_close(struct lcl_metrics *m); /* NULL is fine */

/* ---- reading ---- */

/* The numbers that a report knows; others of a line are left out. */
#define LCL_METRIC_COLUMNS(X) \
    X(time)                   \
    X(loss)                   \
    X(label_accuracy)         \
    X(lr)                     \
    X(grad_norm)              \
    X(tokens_per_s)           \
    X(samples_per_s)          \
    X(mfu)                    \
    X(memory_bytes)           \
    X(seconds)                \
    X(shots)                  \
    X(greedy)                 \
    X(likelihood)             \
    X(episodes)               \
    X(new_share)              \
    X(compute_s)              \
    X(wait_s)                 \
    X(slowest_s)              \
    X(slowest_rank)           \
    X(steps)                  \
    X(sent_bytes_gradients)   \
    X(sent_bytes_values)

struct lcl_metrics_row {
    char kind[16], stage[64];
    int64_t step;
#define X(name) double name; /* NaN where the line lacks it */
    LCL_METRIC_COLUMNS(X)
#undef X
};

struct lcl_metrics_table {
    struct lcl_metrics_row *rows;
    size_t n;
};

/* Reads a metrics.jsonl of at most 1 GiB. A last line without its newline (a run that is still
 * going on) is left out; any other line that is no such object is LCL_FORMAT with file and line. */
LCL_CHECKED lcl_status lcl_metrics_load(const char *path, struct lcl_metrics_table *out);
void lcl_metrics_table_free(struct lcl_metrics_table *t);

#endif
