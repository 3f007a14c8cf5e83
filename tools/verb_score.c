/* lcl score: answers judged, a JSON object a line. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/lines.h"
#include "train/match.h"
#include "train/scores.h"

enum { MAX_BOXES = 256 };

struct caption {
    char *prediction;
    char **references;
    int64_t n;
};

struct score {
    int64_t n;
    double sum;
    int64_t said_yes, is_yes, both_yes; /* pope */
    struct caption *captions;           /* [n] of cider, which scores all at once */
    int64_t cap;
};

static lcl_status get_text(const json_t *line, const char *key, const char **text)
{
    *text = json_string_value(json_object_get(line, key));
    if (*text) return LCL_OK;
    return LCL_FAIL_HINT(LCL_FORMAT, "lcl score --help has the form of a line",
                         "\"%s\" must be a text", key);
}

/* A list of texts, not empty: pointers into the line, malloc'd. */
static lcl_status get_texts(const json_t *line, const char *key, const char ***texts, int64_t *n)
{
    const json_t *list = json_object_get(line, key);
    *n = (int64_t)json_array_size(list);
    *texts = malloc(((size_t)*n + 1) * sizeof **texts);
    if (!*texts) return LCL_FAIL(LCL_MEMORY, "no memory for a line");
    bool ok = *n > 0;
    for (int64_t i = 0; ok && i < *n; i++)
        ok = ((*texts)[i] = json_string_value(json_array_get(list, (size_t)i))) != NULL;
    if (ok) return LCL_OK;
    free(*texts);
    *texts = NULL;
    return LCL_FAIL_HINT(LCL_FORMAT, "lcl score --help has the form of a line",
                         "\"%s\" must be a list of one or more texts", key);
}

static lcl_status written(int printed)
{
    return printed < 0 ? LCL_FAIL(LCL_IO, "cannot write to standard output") : LCL_OK;
}

static lcl_status put_correct(struct score *s, bool right)
{
    s->n++;
    s->sum += right;
    return written(puts(right ? "{\"correct\": true}" : "{\"correct\": false}"));
}

/* ---- metrics ---- */

static lcl_status official(struct score *s, json_t *line)
{
    const char *prediction, *target, *other;
    bool right;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    LCL_TRY(get_text(line, "other", &other));
    LCL_TRY(lcl_official_match(prediction, target, other, &right));
    return put_correct(s, right);
}

static lcl_status strict(struct score *s, json_t *line)
{
    const char *prediction, *target;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    return put_correct(s, lcl_strict_match(prediction, target));
}

static lcl_status vqa(struct score *s, json_t *line)
{
    const char *prediction, **answers;
    double score;
    int64_t n;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_texts(line, "answers", &answers, &n));
    lcl_status status = lcl_score_vqa(prediction, answers, n, &score);
    free(answers);
    LCL_TRY(status);
    s->n++;
    s->sum += score;
    return written(printf("{\"score\": %.4f}\n", score));
}

/* Whether a text's first yes or no is yes; -1: it has neither. */
static int yes_or_no(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (c > text && isalpha((unsigned char)c[-1])) continue;
        if (strncasecmp(c, "yes", 3) == 0 && !isalpha((unsigned char)c[3])) return 1;
        if (strncasecmp(c, "no", 2) == 0 && !isalpha((unsigned char)c[2])) return 0;
    }
    return -1;
}

static lcl_status pope(struct score *s, json_t *line)
{
    const char *prediction, *target;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    const int said = yes_or_no(prediction), is = yes_or_no(target);
    if (is < 0) return LCL_FAIL(LCL_FORMAT, "\"target\" says neither yes nor no");
    s->said_yes += said == 1;
    s->is_yes += is == 1;
    s->both_yes += said == 1 && is == 1;
    return put_correct(s, said == is);
}

/* Of each target box the predicted one of the same place in the list. */
static lcl_status box(struct score *s, json_t *line)
{
    static struct lcl_box said[MAX_BOXES], is[MAX_BOXES];
    const char *prediction, *target;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    const int64_t n = lcl_boxes_of(target, is, MAX_BOXES);
    const int64_t m = lcl_boxes_of(prediction, said, MAX_BOXES);
    if (n < 1 || n > MAX_BOXES)
        return LCL_FAIL_HINT(LCL_FORMAT, "as [0.1,0.2,0.5,0.6]",
                             "\"target\" holds %lld boxes, wanted 1 to %d", (long long)n,
                             MAX_BOXES);
    double mean = 0;
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++) {
        const double iou = i < m ? lcl_box_iou(&said[i], &is[i]) : 0;
        mean += iou / (double)n;
        right += iou > 0.5;
    }
    s->n += n;
    s->sum += (double)right;
    return written(
        printf("{\"iou\": %.4f, \"correct\": %s}\n", mean, right == n ? "true" : "false"));
}

static lcl_status keep_caption(struct score *s, json_t *line)
{
    const char *prediction, **references;
    int64_t n;
    if (s->n == s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 1024;
        struct caption *more = realloc(s->captions, (size_t)cap * sizeof *more);
        if (!more) return LCL_FAIL(LCL_MEMORY, "no memory for %lld captions", (long long)cap);
        s->captions = more;
        s->cap = cap;
    }
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_texts(line, "references", &references, &n));
    struct caption *c = &s->captions[s->n++];
    *c = (struct caption){strdup(prediction), calloc((size_t)n, sizeof *c->references), n};
    bool ok = c->prediction && c->references;
    for (int64_t i = 0; ok && i < n; i++) ok = (c->references[i] = strdup(references[i])) != NULL;
    free(references);
    return ok ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a caption");
}

/* ---- ends ---- */

static lcl_status end_share(struct score *s)
{
    fprintf(stderr, "%.10g of %lld correct (%.4f)\n", s->sum, (long long)s->n,
            s->n ? s->sum / (double)s->n : 0);
    return LCL_OK;
}

static lcl_status end_pope(struct score *s)
{
    const double yes = (double)s->both_yes, n = s->n ? (double)s->n : 1;
    const double precision = s->said_yes ? yes / (double)s->said_yes : 0;
    const double recall = s->is_yes ? yes / (double)s->is_yes : 0;
    const double both = precision + recall;
    LCL_TRY(end_share(s));
    fprintf(stderr, "precision %.4f, recall %.4f, F1 %.4f, says yes %.4f\n", precision, recall,
            both > 0 ? 2 * precision * recall / both : 0, (double)s->said_yes / n);
    return LCL_OK;
}

static lcl_status end_cider(struct score *s)
{
    const size_t n = (size_t)s->n;
    const char **said = calloc(n + 1, sizeof *said);
    const char *const **references = calloc(n + 1, sizeof *references);
    int64_t *counts = calloc(n + 1, sizeof *counts);
    double *scores = calloc(n + 1, sizeof *scores), mean = 0;
    lcl_status status = said && references && counts && scores
                            ? LCL_OK
                            : LCL_FAIL(LCL_MEMORY, "no memory to score captions");
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        said[i] = s->captions[i].prediction;
        references[i] = (const char *const *)s->captions[i].references;
        counts[i] = s->captions[i].n;
    }
    if (status == LCL_OK) status = lcl_score_cider(said, references, counts, s->n, scores, &mean);
    for (size_t i = 0; i < n && status == LCL_OK; i++)
        status = written(printf("{\"score\": %.4f}\n", scores[i]));
    if (status == LCL_OK) fprintf(stderr, "CIDEr %.4f over %lld pictures\n", mean, (long long)s->n);
    free(said);
    free(references);
    free(counts);
    free(scores);
    return status;
}

static void free_captions(struct score *s)
{
    for (int64_t i = 0; s->captions && i < s->n; i++) {
        struct caption *c = &s->captions[i];
        for (int64_t k = 0; c->references && k < c->n; k++) free(c->references[k]);
        free(c->references);
        free(c->prediction);
    }
    free(s->captions);
}

/* ---- the verb ---- */

static const struct metric {
    lcl_status (*line)(struct score *s, json_t *line);
    lcl_status (*end)(struct score *s);
} metrics[] = {{official, end_share}, {strict, end_share}, {vqa, end_share},
               {pope, end_pope},      {box, end_share},    {keep_caption, end_cider}};

struct request {
    struct score score;
    const struct metric *metric;
};

static lcl_status one_line(void *ctx, json_t *line)
{
    struct request *r = ctx;
    return r->metric->line(&r->score, line);
}

static lcl_status run(int argc, char **argv)
{
    struct request r = {0};
    int metric = 0;
    const char *in = "-";
    const struct cli_option options[] = {
        {"--metric", CLI_CHOICE, &metric, .words = "official|strict|vqa|pope|box|cider",
         .doc = "the rule by which an answer is right"},
        {"--in", CLI_STR, &in, .value = "FILE", .doc = "lines to read; -: standard input"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "[--metric NAME] [--in FILE]",
        .about = "Reads a JSON object a line, writes one for each, and the mean of all to standard "
                 "error.",
        .options = options,
        .notes =
            "official  {\"prediction\":, \"target\":, \"other\":}: the target in lower case "
            "without quotes and full\n          stops occurs in the prediction, and without it the "
            "other label does not\n"
            "strict    {\"prediction\":, \"target\":}: the first words between double quotes are "
            "the target\n"
            "vqa       {\"prediction\":, \"answers\": [people's answers]}: VQA accuracy\n"
            "pope      {\"prediction\":, \"target\": \"yes\" or \"no\"}: the first yes or no; F1 "
            "besides\n"
            "box       {\"prediction\":, \"target\": \"[x1,y1,x2,y2]\"}: boxes in order, right "
            "where they share more\n          than half of their union\n"
            "cider     {\"prediction\":, \"references\": [captions]}: CIDEr-D\n\n"
            "Example:\n  lcl score --metric official --in predictions.jsonl"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    r.metric = &metrics[metric];
    lcl_status status = lines_read(in, one_line, &r);
    if (status == LCL_OK) status = r.metric->end(&r.score);
    free_captions(&r.score);
    return status;
}

const struct cli_verb verb_score = {"score", "answers judged by a metric", 93, run};
