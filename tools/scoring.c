#include "tools/scoring.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "train/match.h"
#include "train/scores.h"

enum { MAX_BOXES = 256 };

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

/* A line that came to `sum` of n points. */
static lcl_status keep(struct scoring *s, double sum, int64_t n)
{
    if (s->n_lines == s->cap_lines) {
        int64_t cap = 2 * s->cap_lines + 256;
        struct scoring_line *v = realloc(s->lines, (size_t)cap * sizeof *v);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory for %lld scores", (long long)cap);
        s->lines = v;
        s->cap_lines = cap;
    }
    s->lines[s->n_lines++] = (struct scoring_line){sum, (double)n};
    s->n += n;
    s->sum += sum;
    return LCL_OK;
}

static lcl_status put_correct(struct scoring *s, bool right)
{
    LCL_TRY(keep(s, right, 1));
    if (!s->out) return LCL_OK;
    return written(fputs(right ? "{\"correct\": true}\n" : "{\"correct\": false}\n", s->out));
}

/* ---- metrics ---- */

static lcl_status official(struct scoring *s, json_t *line)
{
    const char *prediction, *target, *other;
    bool right;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    LCL_TRY(get_text(line, "other", &other));
    LCL_TRY(lcl_official_match(prediction, target, other, &right));
    return put_correct(s, right);
}

static lcl_status strict(struct scoring *s, json_t *line)
{
    const char *prediction, *target;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_text(line, "target", &target));
    return put_correct(s, lcl_strict_match(prediction, target));
}

/* What an answer comes to: of "The answer is rain." the rain. Without those words all of it. */
static char *answer_words(const char *text)
{
    static const char head[] = "the answer is ";
    const char *from = text;
    for (const char *at = text; *at; at++)
        if (strncasecmp(at, head, strlen(head)) == 0) from = at + strlen(head);
    size_t n = strlen(from);
    while (from > text && n > 0 && (from[n - 1] == '.' || isspace((unsigned char)from[n - 1]))) n--;
    return lcl_strdupf("%.*s", (int)n, from);
}

static lcl_status vqa(struct scoring *s, json_t *line)
{
    const char *prediction, **answers;
    double score;
    int64_t n;
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_texts(line, "answers", &answers, &n));
    char **words = calloc((size_t)n + 1, sizeof *words);
    lcl_status status = words && (words[n] = answer_words(prediction))
                            ? LCL_OK
                            : LCL_FAIL(LCL_MEMORY, "no memory for an answer");
    for (int64_t i = 0; i < n && status == LCL_OK; i++)
        if (!(words[i] = answer_words(answers[i])))
            status = LCL_FAIL(LCL_MEMORY, "no memory for an answer");
    if (status == LCL_OK) status = lcl_score_vqa(words[n], (const char *const *)words, n, &score);
    for (int64_t i = 0; words && i <= n; i++) free(words[i]);
    free(words);
    free(answers);
    LCL_TRY(status);
    LCL_TRY(keep(s, score, 1));
    return s->out ? written(fprintf(s->out, "{\"score\": %.4f}\n", score)) : LCL_OK;
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

static lcl_status pope(struct scoring *s, json_t *line)
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
static lcl_status box(struct scoring *s, json_t *line)
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
    LCL_TRY(keep(s, (double)right, n));
    if (!s->out) return LCL_OK;
    return written(
        fprintf(s->out, "{\"iou\": %.4f, \"correct\": %s}\n", mean, right == n ? "true" : "false"));
}

static lcl_status keep_caption(struct scoring *s, json_t *line)
{
    const char *prediction, **references;
    int64_t n;
    if (s->n_captions == s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 1024;
        struct scoring_caption *more = realloc(s->captions, (size_t)cap * sizeof *more);
        if (!more) return LCL_FAIL(LCL_MEMORY, "no memory for %lld captions", (long long)cap);
        s->captions = more;
        s->cap = cap;
    }
    LCL_TRY(get_text(line, "prediction", &prediction));
    LCL_TRY(get_texts(line, "references", &references, &n));
    struct scoring_caption *c = &s->captions[s->n_captions++];
    *c = (struct scoring_caption){strdup(prediction), calloc((size_t)n, sizeof *c->references), n};
    bool ok = c->prediction && c->references;
    for (int64_t i = 0; ok && i < n; i++) ok = (c->references[i] = strdup(references[i])) != NULL;
    free(references);
    return ok ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for a caption");
}

/* ---- ends ---- */

static lcl_status end_share(struct scoring *s)
{
    s->mean = s->n ? s->sum / (double)s->n : 0;
    snprintf(s->text, sizeof s->text, "%.10g of %lld correct (%.4f)", s->sum, (long long)s->n,
             s->mean);
    return LCL_OK;
}

static lcl_status end_pope(struct scoring *s)
{
    const double yes = (double)s->both_yes, n = s->n ? (double)s->n : 1;
    const double precision = s->said_yes ? yes / (double)s->said_yes : 0;
    const double recall = s->is_yes ? yes / (double)s->is_yes : 0;
    const double both = precision + recall;
    LCL_TRY(end_share(s));
    size_t at = strlen(s->text);
    snprintf(s->text + at, sizeof s->text - at,
             "\nprecision %.4f, recall %.4f, F1 %.4f, says yes %.4f", precision, recall,
             both > 0 ? 2 * precision * recall / both : 0, (double)s->said_yes / n);
    return LCL_OK;
}

static lcl_status end_cider(struct scoring *s)
{
    const size_t n = (size_t)s->n_captions;
    const char **said = calloc(n + 1, sizeof *said);
    const char *const **references = calloc(n + 1, sizeof *references);
    int64_t *counts = calloc(n + 1, sizeof *counts);
    double *scores = calloc(n + 1, sizeof *scores);
    lcl_status status = said && references && counts && scores
                            ? LCL_OK
                            : LCL_FAIL(LCL_MEMORY, "no memory to score captions");
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        said[i] = s->captions[i].prediction;
        references[i] = (const char *const *)s->captions[i].references;
        counts[i] = s->captions[i].n;
    }
    if (status == LCL_OK)
        status = lcl_score_cider(said, references, counts, s->n_captions, scores, &s->mean);
    for (size_t i = 0; i < n && status == LCL_OK; i++) {
        status = keep(s, scores[i], 1);
        if (status == LCL_OK && s->out)
            status = written(fprintf(s->out, "{\"score\": %.4f}\n", scores[i]));
    }
    snprintf(s->text, sizeof s->text, "CIDEr %.4f over %zu pictures", s->mean, n);
    free(said);
    free(references);
    free(counts);
    free(scores);
    return status;
}

void scoring_free(struct scoring *s)
{
    for (int64_t i = 0; s->captions && i < s->n_captions; i++) {
        struct scoring_caption *c = &s->captions[i];
        for (int64_t k = 0; c->references && k < c->n; k++) free(c->references[k]);
        free(c->references);
        free(c->prediction);
    }
    free(s->captions);
    free(s->lines);
    *s = (struct scoring){0};
}

const struct scoring_metric scoring_metrics[] = {
    {"official", official, end_share}, {"strict", strict, end_share},
    {"vqa", vqa, end_share},           {"pope", pope, end_pope},
    {"box", box, end_share},           {"cider", keep_caption, end_cider}};
