/* Answers judged by a metric, a JSON object at a time: lcl score, and suites of rows. */
#ifndef LCL_TOOLS_SCORING_H
#define LCL_TOOLS_SCORING_H

#include <jansson.h>
#include <stdio.h>

#include "core/status.h"

struct scoring_caption {
    char *prediction;
    char **references;
    int64_t n;
};
struct scoring_line {
    double sum, n; /* points of a line, of so many */
};

struct scoring {
    FILE *out; /* receives a JSON line for each; NULL: none */
    int64_t n; /* points that there are to be had */
    double sum;
    int64_t n_lines, cap_lines;
    struct scoring_line *lines;
    int64_t said_yes, is_yes, both_yes; /* pope */
    int64_t n_captions, cap;            /* of cider, which scores all at once */
    struct scoring_caption *captions;
    /* Set by the metric's end. */
    double mean;
    char text[256]; /* for people */
};
void scoring_free(struct scoring *s);

enum scoring_name {
    SCORING_OFFICIAL,
    SCORING_STRICT,
    SCORING_VQA,
    SCORING_POPE,
    SCORING_BOX,
    SCORING_CIDER,
    SCORING_METRICS
};
struct scoring_metric {
    const char *name;
    /* LCL_FORMAT names the key that is missing or wrong. */
    lcl_status (*line)(struct scoring *s, json_t *line);
    lcl_status (*end)(struct scoring *s);
};
extern const struct scoring_metric scoring_metrics[SCORING_METRICS];

#endif
